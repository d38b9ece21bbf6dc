# SPDX-License-Identifier: Apache-2.0
"""Rows of dense layers that the CUDA backend runs as one launch: the same as one by one.

It runs on a device or, in a build with the emulator, on none.
"""

from __future__ import annotations

import contextlib
import itertools

import numpy as np
import pytest

import fusednn
from fusednn import _core, layers
from fusednn import device as devices

pytestmark = pytest.mark.skipif(bool(devices.cuda_problem()), reason=devices.cuda_problem())
if not devices.cuda_problem():
    from fusednn import _cuda


COMMON_STREAM = 1  # on which arrays are made and read


@contextlib.contextmanager
def fusing(when):
    """Let lists that are prepared here be fused; yield what counts their launches."""
    before = _cuda.fused_launches()
    _cuda.set_fusing(when)
    try:
        yield lambda: _cuda.fused_launches() - before
    finally:
        _cuda.set_fusing("where_faster")


def made(hidden, activation="relu", precision="bfloat16", between=(), optimizer="sgd"):
    model = fusednn.Sequential(
        [
            *(
                layer
                for width in hidden
                for layer in (
                    layers.Dense(width, activation=activation),
                    *(make() for make in between),
                )
            ),
            layers.Dense(3),
        ],
        input_shape=(11,),
        seed=3,
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", device="cuda", precision=precision)
    return model


def data(rows=80):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 11)).astype(np.float32)
    return x, (x @ rng.standard_normal((11, 3))).argmax(axis=1).astype(np.int32)


def trained(when, *arguments, **options):
    """Weights after two epochs, predictions, and how many launches there were."""
    with fusing(when) as launches:
        model = made(*arguments, **options)
        x, y = data()
        model.fit(x, y, batch_size=32, epochs=2, verbose=0)
        return [*model.get_weights(), model.predict(x, verbose=0)], launches()


def assert_close(found, right, tolerance):
    for a, b in zip(found, right, strict=True):
        assert np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("hidden", [(16, 16), (40, 64, 24)])
def test_training(hidden, activation, precision):
    right, none = trained("never", hidden, activation, precision)
    found, launches = trained("always", hidden, activation, precision)
    assert none == 0
    assert launches > 0
    assert_close(found, right, 2e-3)
    again, _ = trained("always", hidden, activation, precision)
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


@pytest.mark.parametrize(
    "between",
    [[lambda: layers.Dropout(0.3)], [layers.BatchNormalization]],
    ids=["dropout", "norm"],
)
def test_what_stands_between_layers_stays_there(between):
    options = {"between": between, "optimizer": "adam"}
    right, _ = trained("never", (24, 24), **options)
    found, _ = trained("always", (24, 24), **options)
    assert_close(found, right, 2e-2)


def test_a_layer_that_does_not_learn():
    results = []
    for when in ("never", "always"):
        with fusing(when):
            model = made((24, 24, 24))
            model.layers[1].trainable = False
            model.compile(
                "sgd", "sparse_categorical_crossentropy", device="cuda", precision="bfloat16"
            )
            before = [w.copy() for w in model.get_weights()]
            model.fit(*data(), batch_size=32, epochs=1, verbose=0)
            results.append(model.get_weights())
    assert_close(results[1], results[0], 2e-3)
    np.testing.assert_array_equal(results[1][2], before[2])
    assert np.any(results[1][0] != before[0])


def test_hidden_values_that_are_wanted():
    x, _ = data()
    values = []
    for when in ("never", "always"):
        with fusing(when) as launches:
            inner = start = layers.Input((11,))
            inner = layers.Dense(16, activation="relu")(inner)
            wanted = layers.Dense(20, activation="tanh")(inner)
            last = layers.Dense(2)(layers.Dense(12, activation="relu")(wanted))
            model = fusednn.Model(start, [wanted, last], seed=0)
            model.compile("sgd", "mse", device="cuda", precision="bfloat16")
            values.append(model.predict(x, verbose=0))
            assert (launches() > 0) is (when == "always")
    assert values[1][0].shape == (80, 20)
    assert_close(values[1], values[0], 1e-3)


def test_wide_ends_are_left_to_others():
    with fusing("always") as launches:
        model = fusednn.Sequential(
            [
                layers.Dense(32, activation="relu"),
                layers.Dense(32, activation="relu"),
                layers.Dense(300),
            ],
            input_shape=(500,),
            seed=0,
        )
        model.compile("sgd", "mse", device="cuda", precision="bfloat16")
        x = np.random.default_rng(0).standard_normal((20, 500)).astype(np.float32)
        model.fit(x, x[:, :300], batch_size=10, epochs=1, verbose=0)
        assert launches() == 0  # one layer of the middle is no row
    assert np.isfinite(model.evaluate(x, x[:, :300], verbose=0))


def zeros(*shape):
    return _core.DeviceArray.empty(shape, np.dtype(np.float32))


def address(array):
    return array.__cuda_array_interface__["data"][0]


@pytest.mark.parametrize("keeps", [True, False])
def test_chain(keeps):
    """What `fusednn.torch.nn` calls: forward and backward are lists of their own."""
    rng = np.random.default_rng(0)
    widths = (9, 24, 40, 5)
    rules = ("gelu", "relu", "tanh")
    pairs = list(itertools.pairwise(widths))
    described = [(a, b, a, rule, {}) for (a, b), rule in zip(pairs, rules, strict=True)]
    arrays = [rng.standard_normal((50, 9))]
    for a, b in pairs:
        arrays += [rng.standard_normal((b, a)) / np.sqrt(a), rng.standard_normal(b)]
    dy = rng.standard_normal((50, 5))
    shapes = [array.shape for array in arrays]
    results = {}
    for when in ("never", "always"):
        with fusing(when) as launches:
            chain = _core.Chain("float32", 50, 9, described, "cuda", "bfloat16")
            there = [_core.DeviceArray(a.astype(np.float32)) for a in (*arrays, dy)]
            x, *parameters, last = map(address, there)
            kept, y = zeros(chain.kept), zeros(50, 5)
            gradients = [zeros(*shape) for shape in shapes]
            chain.forward(
                [x, address(kept), address(y), *parameters], queue=COMMON_STREAM, keeps=keeps
            )
            if keeps:
                chain.backward(
                    [x, address(kept), address(y), last, *parameters],
                    [address(g) for g in gradients],
                    queue=COMMON_STREAM,
                )
            results[when] = [a.to_numpy() for a in (y, *gradients)]
            assert launches() == (0 if when == "never" else 1 + keeps)
    found, right = results["always"], results["never"]
    assert_close(found[: None if keeps else 1], right[: None if keeps else 1], 4e-3)
