# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend's own logic: recordings, data in parts, the product library, reasons why not.

It runs on a device or, in a build with the emulator, on none.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fusednn
from fusednn import _core
from fusednn import device as devices

pytestmark = pytest.mark.skipif(bool(devices.cuda_problem()), reason=devices.cuda_problem())
if not devices.cuda_problem():
    from fusednn import _cuda

    EMULATED = _cuda.device()["emulated"]
    emulated = pytest.mark.skipif(not EMULATED, reason="needs the emulator")
else:
    emulated = pytest.mark.skip(reason="needs the emulator")

NODES = [
    {"type": "input", "name": "x", "inputs": [], "config": {"shape": [4]}},
    {"type": "dense", "name": "a", "inputs": [0], "config": {"units": 8}},
    {"type": "activation", "name": "b", "inputs": [1], "config": {"rule": "relu"}},
    {"type": "dense", "name": "c", "inputs": [2], "config": {"units": 3}},
]


def network(on="cuda", rule="adam"):
    made = _core.Network(NODES, "float32", on, 0)
    rng = np.random.default_rng(0)
    for p in made.parameters():
        p["value"][...] = rng.standard_normal(p["shape"]) * 0.3
    criterion = {"rule": "softmax_cross_entropy", "node": "c", "labels": True}
    made.set_training([criterion], [], {"rule": rule, "hyper": {"lr": 0.1}})
    return made


def data(rows):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((rows, 4)).astype(np.float32)
    return [x], [(x.argmax(axis=1) % 3).astype(np.int32)]


def values(made):
    return [p["value"].copy() for p in made.parameters()]


def test_a_step_is_recorded_once_and_replayed():
    made = network()
    x, y = data(64)
    graphs, replays = (_cuda.recordings()[name] for name in ("graphs", "replays"))

    def found():
        now = _cuda.recordings()
        return now["graphs"] - graphs, now["replays"] - replays

    made.train(x, y, None, 16)  # the first step as it is, the others one by one
    assert found() == (1, 3)
    made.train(x, y, None, 16)  # at the same addresses again, all four in a row
    assert found() == (2, 4)
    made.train(x, y, None, 16)
    assert found() == (2, 5)
    del made
    assert found()[0] == 0


def test_replays_see_what_changes_between_steps():
    ours, theirs = network("cuda"), network("cpu")
    x, y = data(50)
    order = np.random.default_rng(3).permutation(50)
    for made in (ours, theirs):
        for lr in (0.1, 0.01):
            made.set_hyper("lr", lr)
            made.train(x, y, None, 16, order)
        larger = data(70)
        made.train(*larger, None, 16)
    for a, b in zip(values(ours), values(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_arrays_of_weights_reach_the_device_and_come_back():
    made = network()
    x, y = data(16)
    made.parameters()[3]["value"][...] = 5
    first = made.predict(x, [3])[0]
    made.parameters()[3]["value"][...] += 1
    np.testing.assert_allclose(made.predict(x, [3])[0], first + 1, rtol=1e-6)

    seen = []

    def watcher(report):
        seen.append(made.parameters()[3]["value"].copy())
        made.parameters()[3]["value"][...] = 0  # between two steps
        return True

    made.train(x, y, None, 8, watcher=watcher, interval=0)
    assert len(seen) == 2
    assert np.abs(seen[1]).max() < 0.2  # one step away from the zeros
    assert not values(made)[3].any()


def test_gradients_and_state_are_seen():
    ours, theirs = network("cuda"), network("cpu")
    x, y = data(32)
    for made in (ours, theirs):
        made.compute_gradients(x, y)
    for a, b in zip(ours.gradients(), theirs.gradients(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    for made in (ours, theirs):
        made.train(x, y, None, 16)
    for a, b in zip(ours.optimizer_states(), theirs.optimizer_states(), strict=True):
        for u, v in zip(a["values"], b["values"], strict=True):
            np.testing.assert_allclose(u, v, rtol=2e-5, atol=1e-8)


def test_the_same_bits_twice():
    results = []
    for _ in range(2):
        made = network()
        made.train(*data(60), None, 16)
        results.append(values(made))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_foreign_capsule_is_refused():
    import datetime

    with pytest.raises(ValueError, match="holds no backend"):
        _core.register_backend(datetime.datetime_CAPI)


# ---- products of float16 -------------------------------------------------------------------------


def test_float16_rounds_forward_and_bfloat16_backward(device, rng):
    x, dy = (rng.standard_normal((33, n)).astype(np.float32) for n in (70, 20))
    w = rng.standard_normal((70, 20)).astype(np.float32)
    _core.set_array_device("cuda")
    y, saved = _core.dense_forward(x, w, None, "linear", {}, True, None, "float16")
    found = _core.dense_backward(dy, x, w, saved, "linear", {}, precision="float16")
    right = _core.dense_backward(dy, x, w, saved, "linear", {}, precision="bfloat16")
    _core.set_array_device(device)
    halves = [a.astype(np.float16).astype(np.float64) for a in (x, w)]
    np.testing.assert_allclose(y, halves[0] @ halves[1], rtol=1e-5, atol=1e-5)
    assert np.abs(y - x.astype(np.float64) @ w).max() > 1e-4  # an effect far above the tolerance
    for a, b in zip(found, right, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float16_beyond_its_range_is_infinite(device):
    x, w = np.full((1, 9), 7e4, np.float32), np.ones((9, 3), np.float32)
    _core.set_array_device("cuda")
    y, _ = _core.dense_forward(x, w, None, "linear", {}, False, None, "float16")
    _core.set_array_device(device)
    assert np.isposinf(y).all()


def test_the_processor_refuses_float16(device):
    x, w = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    _core.set_array_device("cpu")
    with pytest.raises(ValueError, match="precision='float16' needs a CUDA device"):
        _core.dense_forward(x, w, None, "linear", {}, False, None, "float16")
    _core.set_array_device(device)


def test_a_network_of_float16_learns_as_in_float32():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 8)).astype(np.float32)
    y = (x @ rng.standard_normal((8, 3))).argmax(axis=1)
    losses = {}
    for precision in ("float32", "float16"):
        layers = [fusednn.layers.Dense(24, activation="relu"), fusednn.layers.Dense(3)]
        model = fusednn.Sequential(layers, input_shape=(8,))
        options = {"device": "cuda", "precision": precision, "seed": 0}
        model.compile("adam", "sparse_categorical_crossentropy", **options)
        losses[precision] = model.fit(x, y, epochs=30, batch_size=50, verbose=0).history["loss"]
        assert model.predict(x).dtype == np.float32
    assert losses["float32"][-1] < 0.6 * losses["float32"][0]
    np.testing.assert_allclose(losses["float16"], losses["float32"], rtol=0.01)
    assert losses["float16"] != losses["float32"]


# ---- the product library -------------------------------------------------------------------------


@pytest.fixture
def cublaslt():
    paths = [_cuda.__file__] if EMULATED else devices._cublaslt_paths()
    try:
        _cuda.load_cublaslt(paths)
    except RuntimeError as error:
        pytest.skip(str(error))
    _cuda.set_product_way("epilogue")  # small products as well
    yield
    _cuda.set_product_way("own" if EMULATED else "auto")


@pytest.mark.usefixtures("cublaslt")
@pytest.mark.parametrize("way", ["epilogue", "bare"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["linear", "relu", "gelu", "softmax"])
def test_products_by_the_library(dtype, activation, way, device):
    _cuda.set_product_way(way)
    rng = np.random.default_rng(0)
    # A shape of its own for each case: the library has not seen it yet.
    place = 2 * ["linear", "relu", "gelu", "softmax"].index(activation) + (way == "bare")
    rows, inputs, units = 64 + place, 136, 130
    x, dy = (rng.standard_normal((rows, n)).astype(dtype) for n in (inputs, units))
    w = (rng.standard_normal((inputs, units)) / 12).astype(dtype)
    b = rng.standard_normal(units).astype(dtype)
    results = {}
    plans = _cuda.cublaslt_plans()
    for on in ("cuda", "cpu"):
        _core.set_array_device(on)
        y, saved = _core.dense_forward(x, w, b, activation, {}, True)
        results[on] = [y, *_core.dense_backward(dy, x, w, saved, activation, {})]
    _core.set_array_device(device)
    assert _cuda.cublaslt_plans() == plans + 3  # forward and two gradients
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    for ours, theirs in zip(results["cuda"], results["cpu"], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.usefixtures("cublaslt")
@pytest.mark.parametrize("way", ["epilogue", "bare"])
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(64, 136, 130), (9, 33, 7)])
def test_rounded_products_by_the_library(shape, precision, way, device):
    """The same numbers are multiplied as by our own kernels: only sums are in another order."""
    rng = np.random.default_rng(0)
    rows, inputs, units = shape
    rows += 2 * (precision == "float16") + (way == "bare")
    x = rng.standard_normal((rows, inputs)).astype(np.float32)
    dy = rng.standard_normal((rows, units)).astype(np.float32)
    w = (rng.standard_normal((inputs, units)) / 12).astype(np.float32)
    b = rng.standard_normal(units).astype(np.float32)
    results = {}
    _core.set_array_device("cuda")
    plans = _cuda.cublaslt_plans()
    for each in (way, "own"):
        _cuda.set_product_way(each)
        y, saved = _core.dense_forward(x, w, b, "tanh", {}, True, precision=precision)
        back = _core.dense_backward(dy, x, w, saved, "tanh", {}, precision="bfloat16")
        results[each] = [y, *back]
        assert _cuda.cublaslt_plans() == plans + 3
    _core.set_array_device(device)
    for ours, theirs in zip(*results.values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-4)


def test_the_shape_decides_who_multiplies():
    _cuda.product_class(1, 0, 5)
    assert _cuda.product_class(4096, 4096, 1024) == "large"
    assert _cuda.product_class(1 << 20, 512, 512) == "large"
    assert _cuda.product_class(256, 512, 512) == "medium"
    assert _cuda.product_class(8, 4096, 4096) == "small"  # few rows: bound by memory
    assert _cuda.product_class(128, 784, 128) == "small"
    with pytest.raises(ValueError, match="way='best' is unknown; known: auto, own, bare, epilogue"):
        _cuda.set_product_way("best")


@pytest.mark.usefixtures("cublaslt")
def test_tf32_is_another_plan(device):
    x, w = (np.random.default_rng(0).standard_normal((112, 112)).astype(np.float32) for _ in "xw")
    _core.set_array_device("cuda")
    exact, _ = _core.dense_forward(x, w, None, "linear", {})
    plans = _cuda.cublaslt_plans()
    _cuda.allow_tf32(True)
    try:
        rounded, _ = _core.dense_forward(x, w, None, "linear", {})
    finally:
        _cuda.allow_tf32(False)
        _core.set_array_device(device)
    assert _cuda.cublaslt_plans() == plans + 1
    assert np.linalg.norm(rounded - exact) <= 2e-3 * np.linalg.norm(exact)


@pytest.mark.usefixtures("cublaslt")
def test_nan_is_not_lost_in_the_library(device):
    x = np.ones((64, 136), np.float32)
    x[3] = np.nan
    w = np.ones((136, 130), np.float32)
    _core.set_array_device("cuda")
    y, _ = _core.dense_forward(x, w, None, "relu", {})
    _core.set_array_device(device)
    assert np.isnan(y[3]).all()
    assert np.isfinite(np.delete(y, 3, axis=0)).all()


@pytest.mark.usefixtures("cublaslt")
def test_training_with_the_library(device):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 136)).astype(np.float32)
    t = rng.standard_normal((96, 130)).astype(np.float32)
    results = []
    for on in ("cuda", "cpu"):
        model = fusednn.Sequential(
            [fusednn.layers.Dense(140, activation="relu"), fusednn.layers.Dense(130)],
            input_shape=(136,),
        )
        if on == "cuda":
            devices.check_device("cuda")
        model.compile("adam", "mse", device=on, seed=5)
        model.fit(x, t, epochs=2, batch_size=64, verbose=0)
        results.append(model.get_weights())
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)


def test_without_the_library_there_is_one_sentence():
    if _cuda.cublaslt_version():
        pytest.skip("it is loaded")
    with pytest.raises(
        RuntimeError, match=r"fusednn's own kernels; pip install 'fusednn\[cuda13\]'"
    ):
        _cuda.load_cublaslt(["/nowhere/libcublasLt.so.13"])


# ---- in a process of its own ---------------------------------------------------------------------


def run(program, **environment):
    """Run a program whose last line is JSON, and return that."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@emulated
@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("no_driver", "no NVIDIA driver was found"),
        ("old_driver", "knows CUDA 11.4, and this build of fusednn needs 13.0"),
        ("no_device", "shows no device (CUDA_VISIBLE_DEVICES='7')"),
        ("old_device", "has compute capability 7.0, and fusednn needs 8.0"),
    ],
)
def test_the_exact_reason_why_not(failure, reason):
    program = """
import json, fusednn, fusednn.device as d
model = fusednn.Sequential([fusednn.layers.Dense(2)], input_shape=(3,))
try:
    model.compile("sgd", "mse", device="cuda")
except ValueError as error:
    said = str(error)
model.compile("sgd", "mse", device="auto")
print(json.dumps([said, model.device, d.cuda_device()]))
"""
    said, chosen, found = run(program, FUSEDNN_EMULATOR_FAIL=failure, CUDA_VISIBLE_DEVICES="7")
    assert reason in said
    assert said.startswith("device='cuda' cannot be used: ")
    assert (chosen, found) == ("cpu", None)


TRAIN = """
import json
import numpy as np, fusednn
rows, on, batch = {rows}, {on!r}, {batch}
rng = np.random.default_rng(0)
x = rng.standard_normal((rows, 500)).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int32)
model = fusednn.Sequential(
    [fusednn.layers.Dense(4, activation="tanh"), fusednn.layers.Dense(2)], input_shape=(500,)
)
model.compile("adam", "sparse_categorical_crossentropy", device=on, seed=1)
history = model.fit(x, y, epochs=2, batch_size=batch, verbose=0).history
weights = np.concatenate([w.ravel() for w in model.get_weights()])
print(json.dumps([history["loss"], weights.tolist()]))
"""


@emulated
@pytest.mark.parametrize("batch", [300, 17])
def test_data_larger_than_the_device_comes_in_parts(batch):
    # 6 MB of features, of which a device of 4 MB holds two parts of a quarter. The smaller batches
    # run many in a row, and the last one of the epoch is no whole one.
    here = run(TRAIN.format(rows=3000, on="cpu", batch=batch))
    small = run(TRAIN.format(rows=3000, on="cuda", batch=batch), FUSEDNN_EMULATOR_MEGABYTES="4")
    large = run(TRAIN.format(rows=3000, on="cuda", batch=batch))
    assert small == large
    np.testing.assert_allclose(small[0], here[0], rtol=1e-4)
    np.testing.assert_allclose(small[1], here[1], rtol=1e-2, atol=1e-3)


@emulated
def test_the_order_of_threads_does_not_matter():
    orders = ("forward", "reverse", "shuffled")
    results = [
        run(TRAIN.format(rows=400, on="cuda", batch=300), FUSEDNN_EMULATOR_ORDER=order)
        for order in orders
    ]
    assert results[0] == results[1] == results[2]
