# SPDX-License-Identifier: Apache-2.0
"""Operations on arrays that are on a device already: the same numbers, nothing copied to the host.

Without a device they run on the emulated one, whose memory stops a host that touches it.
"""

from __future__ import annotations

import numpy as np
import pytest

import fusednn.device
import fusednn.optim
from fusednn import _core, ops

if fusednn.device.cuda_problem():
    pytest.skip(fusednn.device.cuda_problem(), allow_module_level=True)

on_device = _core.DeviceArray


class Shown:
    """An array of a library without DLPack: it shows an address, and perhaps a stream."""

    def __init__(self, array, **changes):
        self._array = on_device(array) if isinstance(array, np.ndarray) else array
        self.__cuda_array_interface__ = {**self._array.__cuda_array_interface__, **changes}

    def to_numpy(self):
        return self._array.to_numpy()


class Exchanged:
    """An array of a library that knows DLPack and nothing else; it notes its stream."""

    def __init__(self, array):
        self._array = on_device(array)
        self.streams = []

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __dlpack__(self, *, stream=None):
        self.streams.append(stream)
        return self._array.__dlpack__()

    def to_numpy(self):
        return self._array.to_numpy()


KINDS = (on_device, Shown, Exchanged)


def draw(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def test_there_and_back(rng):
    for array in (draw(rng, 3, 4), np.arange(5), np.zeros((0, 2)), np.float64(3)):
        there = on_device(array)
        assert there.shape == np.shape(array)
        np.testing.assert_array_equal(there.to_numpy(), array)


@pytest.mark.parametrize("kind", KINDS)
def test_elementwise(kind, rng):
    x = draw(rng, 5, 7)
    y = ops.activation_forward(kind(x), "gelu")
    assert isinstance(y, on_device)
    np.testing.assert_allclose(
        y.to_numpy(), ops.activation_forward(x, "gelu"), rtol=2e-6, atol=1e-6
    )
    out = kind(np.zeros_like(x))
    assert ops.softmax(kind(x), out=out) is out
    np.testing.assert_allclose(out.to_numpy(), ops.softmax(x), rtol=2e-6, atol=1e-6)
    np.testing.assert_array_equal(
        ops.dropout(kind(x), 0.3, seed=5, step=2).to_numpy(), ops.dropout(x, 0.3, seed=5, step=2)
    )


@pytest.mark.parametrize("activation", ["linear", "gelu", "relu", "softmax"])
@pytest.mark.parametrize("kind", KINDS)
def test_dense(kind, activation, rng):
    x, w, b, dy = draw(rng, 6, 9), draw(rng, 9, 4), draw(rng, 4), draw(rng, 6, 4)
    y, context = ops.dense_forward(kind(x), kind(w), kind(b), activation, return_context=True)
    right, right_context = ops.dense_forward(x, w, b, activation, return_context=True)
    np.testing.assert_allclose(y.to_numpy(), right, rtol=1e-5, atol=1e-5)
    found, expected = ops.dense_backward(kind(dy), context), ops.dense_backward(dy, right_context)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.to_numpy(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignored", [None, 2])
def test_loss_by_label(ignored, reduction, rng):
    x, labels = draw(rng, 8, 5), rng.integers(0, 5, 8).astype(np.int32)
    weights = np.abs(draw(rng, 5))
    options = {"reduction": reduction, "ignore_index": ignored}
    name = "softmax_cross_entropy"
    value, gradient = ops.loss(
        name, on_device(x), on_device(labels), class_weight=on_device(weights), **options
    )
    right, right_gradient = ops.loss(name, x, labels, class_weight=weights, **options)
    value = value.to_numpy() if reduction == "none" else value
    np.testing.assert_allclose(value, right, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient.to_numpy(), right_gradient, rtol=1e-5, atol=1e-6)


def test_normalisation(rng):
    x, dy = draw(rng, 12, 6), draw(rng, 12, 6)
    gamma, beta = draw(rng, 6), draw(rng, 6)
    mean, variance = np.zeros(6, np.float32), np.ones(6, np.float32)
    there = [on_device(a) for a in (mean, variance)]
    y, context = ops.batch_norm_forward(on_device(x), on_device(gamma), on_device(beta), *there)
    right, right_context = ops.batch_norm_forward(x, gamma, beta, mean, variance)
    np.testing.assert_allclose(y.to_numpy(), right, rtol=1e-5, atol=1e-5)
    for array, expected in zip(there, (mean, variance), strict=True):
        np.testing.assert_allclose(array.to_numpy(), expected, rtol=1e-5, atol=1e-6)
    found = ops.batch_norm_backward(on_device(dy), context)
    for one, other in zip(found, ops.batch_norm_backward(dy, right_context), strict=True):
        np.testing.assert_allclose(one.to_numpy(), other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["adam", "lamb"])
def test_optimizer_step(rule, rng):
    p, g = [draw(rng, 4, 5), draw(rng, 7)], [draw(rng, 4, 5), draw(rng, 7)]
    there, gradients = [on_device(a) for a in p], [on_device(a) for a in g]
    state = ops.init_optimizer_state(rule, there)
    right_state = ops.init_optimizer_state(rule, p)
    for step in (1, 2):
        options = {"step": step, "lr": 0.01, "global_clip_norm": 1.0}
        ops.optimizer_step(rule, there, gradients, state, **options)
        ops.optimizer_step(rule, p, g, right_state, **options)
    for one, other in zip(there, p, strict=True):
        np.testing.assert_allclose(one.to_numpy(), other, rtol=1e-5, atol=1e-6)


# ---- by address, as fusednn.torch has it --------------------------------------------------------

COMMON_STREAM = 1


def address(array):
    """Where an array lies, on the host or on a device."""
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.__cuda_array_interface__["data"][0]


def stepped(rule, dtype, place, parameters, gradients, **options):
    """Three steps of an updater over arrays that `place` made, and the norms it returned."""
    device = {} if place is np.array else {"device": "cuda"}
    queue = {} if place is np.array else {"queue": COMMON_STREAM}
    updater = _core.Updater(rule, dtype=dtype, **device)
    p, g = ([place(a) for a in arrays] for arrays in (parameters, gradients))
    states = [[place(np.zeros_like(a)) for a in parameters] for _ in updater.states]
    numbers = [[np.array(start, np.float32) for _ in p] for start in updater.initial_scalars]
    updater.set_tensors(
        [address(a) for a in p],
        [a.size for a in parameters],
        [[address(a) for a in row] for row in states],
        [[address(a) for a in row] for row in numbers],
        [0 for _ in p],
    )
    updater.set_groups([{}])
    norms = []
    for missing in (None, 1, None):  # a tensor without a gradient is left alone
        addresses = [0 if i == missing else address(a) for i, a in enumerate(g)]
        norms.append(updater.step(addresses, lr=[0.01], **options, **queue))
    norms.append(updater.square_norm([address(a) for a in g], **queue))
    found = [*p, *(a for row in states for a in row)]
    return [a if isinstance(a, np.ndarray) else a.to_numpy() for a in found], numbers, norms


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", ["sgd", "adam", "radam", "lamb"])
@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "clear_gradient": True}])
def test_updater(options, rule, dtype, rng):
    sizes = [(3, 4), (1000,), (1,), (0,), (33,)]
    parameters, gradients = ([rng.standard_normal(s).astype(dtype) for s in sizes] for _ in "pg")
    found = stepped(rule, dtype, on_device, parameters, gradients, **options)
    right = stepped(rule, dtype, np.array, parameters, gradients, **options)
    for one, other in zip(found, right, strict=True):
        for a, b in zip(one, other, strict=True):
            if b is not None:
                np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("activations", [("relu", "linear"), ("gelu", "tanh")])
def test_chain(activations, rng):
    def run(place, **device):
        queue = {} if place is np.array else {"queue": COMMON_STREAM}
        generator = np.random.default_rng(3)
        layers = [(9, 17, 9, activations[0], {}), (17, 5, 17, activations[1], {})]
        made = _core.Chain("float32", 12, 9, layers, **device)
        x, w1, b1, w2, b2, dy = (
            place(generator.standard_normal(shape).astype(np.float32))
            for shape in ((12, 9), (17, 9), (17,), (5, 17), (5,), (12, 5))
        )
        kept, y = (
            place(np.zeros(max(made.kept, 1), np.float32)),
            place(np.zeros((12, 5), np.float32)),
        )
        parameters = [address(a) for a in (w1, b1, w2, b2)]
        made.forward([address(x), address(kept), address(y), *parameters], **queue)
        gradients = [
            place(np.zeros(shape, np.float32)) for shape in ((12, 9), (17, 9), (17,), (5, 17), (5,))
        ]
        made.backward(
            [address(x), address(kept), address(y), address(dy), *parameters],
            [address(a) for a in gradients],
            **queue,
        )
        return [a if isinstance(a, np.ndarray) else a.to_numpy() for a in (y, *gradients)]

    for one, other in zip(run(on_device, device="cuda"), run(np.array), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_the_stream_of_an_array_is_asked_for(rng):
    x = Exchanged(draw(rng, 3, 3))
    ops.softmax(x)
    assert x.streams == [1]


def test_what_cannot_be_used_is_refused(rng):
    x, w = draw(rng, 4, 6), draw(rng, 6, 3)
    there = on_device(x)
    address = there.__cuda_array_interface__["data"][0]
    with pytest.raises(ValueError, match="w: lies in the memory of the host, expected that of a d"):
        ops.dense_forward(on_device(x), w)
    with pytest.raises(ValueError, match="w: lies in the memory of a device, expected that of the"):
        ops.dense_forward(x, on_device(w))
    with pytest.raises(ValueError, match="would have to be copied"):
        ops.softmax(Shown(x, shape=(6, 4), strides=(4, 24)))
    with pytest.raises(ValueError, match="out: is read-only"):
        ops.softmax(on_device(x), out=Shown(there, data=(address, True)))
    with pytest.raises(ValueError, match="x: lies on another device"):
        ops.softmax(Shown(x, data=(4096, False)))
    with pytest.raises(TypeError, match="targets: has elements int64, expected contiguous int32"):
        ops.loss("softmax_cross_entropy", on_device(x), on_device(np.zeros(4, np.int64)))


# ---- fusednn.optim -------------------------------------------------------------------------------


def optimized(place, name, dtype, **options):
    """An optimizer after three steps, and its parameters."""
    generator = np.random.default_rng(0)
    shapes = [(4, 5), (100,), (), (0,)]
    p, g = ([place(generator.standard_normal(s).astype(dtype)) for s in shapes] for _ in "pg")
    optimizer = getattr(fusednn.optim, name)(p, lr=0.01, **options)
    norms = [optimizer.step([None, *g[1:]] if i == 1 else g) for i in range(3)]
    return optimizer, p, norms


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "dtype", "options"),
    [
        ("SGD", np.float32, {"momentum": 0.9}),
        ("Adam", np.float64, {"max_norm": 0.5}),
        ("AdamW", np.float16, {"master_weights": True, "ema": 0.9}),
        ("LAMB", np.float32, {}),
        ("RAdam", np.float32, {"ema": 0.5}),
    ],
)
def test_optimizers_of_arrays(name, dtype, options, kind):
    optimizer, there, norms = optimized(kind, name, dtype, **options)
    right, here, right_norms = optimized(np.array, name, dtype, **options)
    tolerance = (
        {"rtol": 1e-2, "atol": 1e-3} if dtype == np.float16 else {"rtol": 1e-5, "atol": 1e-6}
    )
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one.to_numpy(), other, **tolerance)
    if "max_norm" in options:
        np.testing.assert_allclose(norms, right_norms, rtol=1e-6)
    # What was saved of either goes on as the other.
    saved, expected = optimizer.state_dict(), right.state_dict()
    for i, entry in saved["state"].items():
        for key, value in entry.items():
            np.testing.assert_allclose(value, expected["state"][i][key], **tolerance)
    optimizer.load_state_dict(expected)
    right.load_state_dict(saved)
    assert optimizer.step([kind(np.ones(a.shape, dtype)) for a in here]) is None or norms[0]


@pytest.mark.parametrize("name", ["SGD", "AdamW", "NAdam", "Lion"])
def test_rounding_at_random_is_the_same_on_both_devices(name):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    options = {"stochastic_rounding": True, "seed": 9}
    optimizer, there, _ = optimized(on_device, name, bfloat16, **options)
    right, here, _ = optimized(np.array, name, bfloat16, **options)
    for one, other in zip(there, here, strict=True):
        assert one.to_numpy().tobytes() == other.tobytes()
    for i, entry in enumerate(right.state_dict()["state"].values()):
        for key, value in entry.items():
            found = optimizer.state_dict()["state"][i][key]
            assert np.asarray(found).tobytes() == np.asarray(value).tobytes()


def test_parameters_and_gradients_lie_together(rng):
    with pytest.raises(
        ValueError, match=r"parameters\[1\]: does not lie in the memory of a device"
    ):
        fusednn.optim.SGD([on_device(draw(rng, 3)), draw(rng, 3)], lr=0.1)
    optimizer = fusednn.optim.SGD([on_device(draw(rng, 3))], lr=0.1)
    with pytest.raises(ValueError, match=r"gradients\[0\]: does not lie in the memory of a device"):
        optimizer.step([draw(rng, 3)])
