# SPDX-License-Identifier: Apache-2.0
"""Generators, iterables and files larger than memory give the same bits as arrays."""

import subprocess
import sys

import numpy as np
import pytest

import fusednn
from fusednn import layers

SAMPLES = 203  # the last batch is shorter


def fresh(loss="sparse_categorical_crossentropy", metrics=("accuracy", "confusion_matrix")):
    model = fusednn.Sequential([layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(3)])
    model.compile("adam", loss, metrics=list(metrics), seed=5)
    return model


def data(rng, dtype=np.float32):
    return rng.integers(0, 255, (SAMPLES, 10)).astype(dtype), rng.integers(0, 3, SAMPLES)


def batches(x, y, weight=None, size=16):
    for first in range(0, len(x), size):
        cut = slice(first, first + size)
        yield (x[cut], y[cut]) if weight is None else (x[cut], y[cut], weight[cut])


class Again:
    """Can be gone through any number of times."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return batches(*self.arrays)


class Indexable:
    """Only len and []."""

    def __init__(self, *arrays):
        self.all = list(batches(*arrays))
        self.ends = 0

    def on_epoch_end(self):
        self.ends += 1

    def __len__(self):
        return len(self.all)

    def __getitem__(self, place):
        return self.all[place]


def same(one, other, exact_logs=True):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(one.history.history) == list(other.history.history)
    for name, values in one.history.history.items():
        np.testing.assert_allclose(values, other.history.history[name], rtol=1e-9)


@pytest.mark.parametrize("kind", [Again, Indexable])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_iterable(rng, kind, weighted):
    x, y = data(rng)
    weight = rng.random(SAMPLES).astype(np.float32) if weighted else None
    whole, parts = fresh(), fresh()
    whole.fit(x, y, 16, 3, shuffle=False, verbose=0, sample_weight=weight, validation_data=(x, y))
    parts.fit(kind(x, y, weight), epochs=3, verbose=0, validation_data=Again(x, y))
    same(whole, parts)
    np.testing.assert_allclose(whole.evaluate(x, y)[0], parts.evaluate(Again(x, y))[0], rtol=1e-6)


def test_a_sequence_hears_of_the_end_of_an_epoch(rng):
    source = Indexable(*data(rng))
    fresh().fit(source, epochs=3, verbose=0)
    assert source.ends == 3


def test_a_generator_with_steps(rng):
    x, y = data(rng)

    def endless():
        while True:
            yield from batches(x, y)

    whole, parts = fresh(), fresh()
    whole.fit(x, y, 16, 3, shuffle=False, verbose=0)
    parts.fit(endless(), epochs=3, steps_per_epoch=13, verbose=0)
    same(whole, parts)


def test_a_generator_that_ends(rng):
    with pytest.raises(ValueError, match="gives no batches"):
        fresh().fit(batches(*data(rng)), epochs=2, verbose=0)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float32])
def test_memmap(rng, tmp_path, monkeypatch, shuffle, dtype):
    monkeypatch.setattr(fusednn.streaming, "_BLOCK", 600)  # three batches and a bit
    x, y = data(rng, dtype)
    file = np.memmap(tmp_path / "x", dtype, "w+", shape=x.shape)
    file[:] = x
    whole, parts = fresh(), fresh()
    for model, samples in ((whole, x), (parts, file)):
        model.fit(samples, y, 16, 3, shuffle=shuffle, verbose=0, validation_split=0.2)
    same(whole, parts)


def test_steps_per_epoch_go_through_all_samples(rng):
    x, y = data(rng)
    whole, parts = fresh(), fresh()
    whole.fit(x, y, 16, 2, verbose=0)  # 26 steps, as 13 and 13
    parts.fit(x, y, 16, 13, steps_per_epoch=2, verbose=0)
    for a, b in zip(whole.get_weights(), parts.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(parts.history.history["loss"]) == 13


def test_validation_freq_and_steps(rng):
    x, y = data(rng)
    model = fresh()
    model.fit(x, y, 16, 5, verbose=0, validation_data=(x, y), validation_freq=2)
    assert len(model.history.history["val_loss"]) == 2
    model.fit(
        x, y, 16, 5, verbose=0, validation_data=Again(x, y), validation_freq=[1, 5],
        validation_steps=3,
    )  # fmt: skip
    assert len(model.history.history["val_loss"]) == 2
    assert model.history.history["val_confusion_matrix"][0].sum() == 48


def test_callbacks_see_every_batch(rng):
    x, y = data(rng)
    seen = []
    call = fusednn.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((batch, logs["loss"]))
    )
    fresh().fit(Again(x, y), verbose=0, callbacks=[call])
    assert [batch for batch, _ in seen] == list(range(13))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 4}, "batch_size must not be given"),
        ({"sample_weight": np.ones(3)}, "sample_weight must not be given"),
        ({"validation_split": 0.5}, "needs arrays"),
        ({"class_weight": "balanced"}, "balanced"),
        ({"steps_per_epoch": 0}, "steps_per_epoch"),
        ({"validation_freq": 0}, "validation_freq"),
    ],
)
def test_what_batches_do_not_go_with(rng, arguments, message):
    with pytest.raises(ValueError, match=message):
        fresh().fit(Again(*data(rng)), verbose=0, **arguments)


def test_what_is_no_batch():
    with pytest.raises(ValueError, match="must give batches"):
        fresh().fit(iter([np.zeros((3, 4))]), verbose=0)
    with pytest.raises(TypeError, match="y is missing"):
        fresh().fit(np.zeros((3, 4)), verbose=0)


LARGE = """
import resource, sys, numpy as np, fusednn
kind, path = sys.argv[1:]
rows, columns = 1 << 19, 1024
x = np.memmap(path, kind, "w+", shape=(rows, columns))
y = np.zeros(rows, np.int32)
model = fusednn.Sequential([fusednn.layers.Dense(4)], input_shape=(columns,))
model.compile("sgd", "sparse_categorical_crossentropy", seed=0)
model.fit(x[:4096], y[:4096], 1024, verbose=0)
def private():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("RssAnon")).split()[1])
before = private()
limit = (before << 10) + (512 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit + (1 << 30), resource.RLIM_INFINITY))
peak = 0
class Look(fusednn.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        global peak
        peak = max(peak, private())
model.fit(x, y, 8192, steps_per_epoch=16, verbose=0, callbacks=[Look()], shuffle=False)
if kind == "float32":
    model.fit(x, y, 8192, verbose=0, callbacks=[Look()], shuffle=False)
print((peak - before) >> 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sparse files and /proc")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_a_file_larger_than_the_memory_it_may_take(tmp_path, kind):
    """Two or four GB, with room for a quarter of a GB and no more."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, kind, str(tmp_path / "x")],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 256


# ---- prediction -------------------------------------------------------------------------------


def ready(rng):
    x, y = data(rng)
    model = fresh()
    model.fit(x, y, verbose=0)
    return model, x, y


@pytest.mark.parametrize("kind", ["x", "x, y", "generator", "sequence"])
def test_prediction_from_batches(rng, kind):
    model, x, y = ready(rng)
    source = {
        "x": [a for a, _ in batches(x, y)],
        "x, y": Again(x, y),
        "generator": batches(x, y),
        "sequence": Indexable(x, y),
    }[kind]
    if kind == "x":
        source = iter(source)
    np.testing.assert_array_equal(model.predict(source), model.predict(x))


def test_prediction_in_steps(rng):
    model, x, y = ready(rng)
    whole = model.predict(x)
    np.testing.assert_array_equal(model.predict(batches(x, y), steps=3), whole[:48])
    np.testing.assert_array_equal(model.predict(x, batch_size=10, steps=2), whole[:20])
    np.testing.assert_array_equal(model.predict(x, steps=1000), whole)
    with pytest.raises(ValueError, match="batch_size"):
        model.predict(batches(x, y), batch_size=3)
    with pytest.raises(ValueError, match="no batches"):
        model.predict(iter([]))


def test_callbacks_see_predicted_batches(rng):
    model, x, y = ready(rng)
    seen = []

    class Look(fusednn.callbacks.Callback):
        def on_predict_batch_end(self, batch, logs=None):
            seen.append((batch, logs["outputs"].copy()))

    whole = model.predict(batches(x, y), callbacks=[Look()])
    assert [batch for batch, _ in seen] == list(range(13))
    np.testing.assert_array_equal(np.concatenate([outputs for _, outputs in seen]), whole)


@pytest.mark.parametrize("dtype", [np.float64, np.uint8, np.int16])
def test_prediction_from_a_file(rng, tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("fusednn.streaming._BLOCK", 300)
    model, x, _ = ready(rng)
    np.save(tmp_path / "x.npy", x.astype(dtype))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(model.predict(mapped), model.predict(x))
    np.testing.assert_array_equal(model.predict(mapped, batch_size=7), model.predict(x))
