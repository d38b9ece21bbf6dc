# SPDX-License-Identifier: Apache-2.0
"""Models whose dense products round their operands to bfloat16."""

from __future__ import annotations

import numpy as np
import pytest

import fusednn
from fusednn import _core, layers, ops


def make(precision, features=20, classes=3, seed=0):
    model = fusednn.Sequential(
        [layers.Dense(24, activation="gelu"), layers.Dense(classes)], input_shape=(features,)
    )
    model.compile(
        fusednn.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        precision=precision,
        seed=seed,
    )
    return model


@pytest.fixture
def data(rng):
    x = rng.standard_normal((70, 20), dtype=np.float32)
    return x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0)


def test_prediction_and_evaluation_round_as_the_operations_do(data):
    x, y = data
    model = make("bfloat16")
    w, b, v, c = (a.copy() for a in model.get_weights())
    hidden = ops.dense_forward(x, w, b, "gelu", precision="bfloat16")
    expected = ops.dense_forward(hidden, v, c, precision="bfloat16")
    np.testing.assert_array_equal(model.predict(x), expected)
    exact = make("float32")
    exact.set_weights([w, b, v, c])
    assert not np.array_equal(exact.predict(x), expected)

    z = expected.astype(np.float64)
    losses = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y]
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(
        losses.mean(), rel=1e-6
    )


def test_weights_are_float32_and_keep_small_steps(data):
    """The reason for master weights: steps of 1e-5 would vanish in bfloat16."""
    x, y = data
    model = make("bfloat16")
    assert model.precision == "bfloat16"
    assert model.dtype == np.float32
    before = [w.copy() for w in model.get_weights()]
    model.optimizer.learning_rate = 1e-5
    model.fit(x, y, batch_size=len(x), epochs=1, verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert new.dtype == np.float32
        assert np.all(np.abs(new - old) < 2e-5)
        assert np.any(new != old)


def test_gradients_are_those_of_rounded_products(data):
    """Every product of the backward pass once, in the engine as in the operations."""
    x, y = data
    model = make("bfloat16")
    w, b, v, c = (a.copy() for a in model.get_weights())
    hidden, first = ops.dense_forward(x, w, b, "gelu", return_context=True, precision="bfloat16")
    z, second = ops.dense_forward(hidden, v, c, return_context=True, precision="bfloat16")
    p = np.exp(z - z.max(1, keepdims=True)).astype(np.float64)
    dz = p / p.sum(1, keepdims=True) - np.eye(3)[y]
    dhidden, dv, dc = ops.dense_backward((dz / len(x)).astype(np.float32), second)
    _, dw, db = ops.dense_backward(dhidden, first)

    model.compile(
        fusednn.optimizers.SGD(1.0), "sparse_categorical_crossentropy", precision="bfloat16"
    )
    model.fit(x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0)
    # A step of 1 is the gradient, but for the roundings that a last bit of dz tips over.
    for before, gradient, after in zip(
        (w, b, v, c), (dw, db, dv, dc), model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(before - after, gradient, rtol=0, atol=2e-4)


def test_precision_is_saved_and_training_goes_on_with_the_same_bits(tmp_path, data):
    x, y = data
    whole = make("bfloat16")
    whole.fit(x, y, batch_size=16, epochs=2, verbose=0)
    whole.save(tmp_path / "model.safetensors")
    resumed = fusednn.load(tmp_path / "model.safetensors")
    assert resumed.precision == "bfloat16"
    np.testing.assert_array_equal(resumed.predict(x), whole.predict(x))
    for model in (whole, resumed):
        model.fit(x, y, batch_size=16, epochs=1, verbose=0)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_trains_as_well_as_float32():
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    x, y = digits.data[order].astype(np.float32) / 16, digits.target[order]

    def accuracy(precision, seed):
        model = fusednn.Sequential(
            [layers.Dense(128, activation="relu"), layers.Dense(10)], input_shape=(64,)
        )
        model.compile(
            "adam",
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
            precision=precision,
            seed=seed,
        )
        model.fit(x[:1400], y[:1400], batch_size=64, epochs=20, verbose=0)
        return model.evaluate(x[1400:], y[1400:], verbose=0, return_dict=True)["accuracy"]

    exact, rounded = (
        [accuracy(precision, seed) for seed in range(3)] for precision in ("float32", "bfloat16")
    )
    assert min(rounded) > 0.93
    assert abs(np.mean(rounded) - np.mean(exact)) < 0.01


def test_summary_says_how_products_run():
    model = make("bfloat16")
    text = model.summary() or fusednn.summary.render(model)
    assert "bfloat16 products, " + ("with" if _core.uses_bf16() else "emulated") in text
    assert "Precision" not in fusednn.summary.render(make("float32"))


def test_a_name_of_keras_is_answered():
    with pytest.raises(ValueError, match="bfloat16"):
        make("mixed_bfloat16")
