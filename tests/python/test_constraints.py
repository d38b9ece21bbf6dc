# SPDX-License-Identifier: Apache-2.0
"""Constraints and gradient accumulation against NumPy and, where it is installed, Keras."""

import math

import numpy as np
import pytest
from tests.rivals import import_keras

import fusednn
from fusednn import constraints, layers

BOUNDS = {
    "non_neg": lambda w: np.where(w < 0, 0, w),
    "max_norm": lambda w: _scaled(w, 0, 2, 1),
    "unit_norm": lambda w: _scaled(w, 1, 1, 1),
    "min_max_norm": lambda w: _scaled(w, 0, 1, 1),
}


def _scaled(w, low, high, rate):
    norm = np.sqrt((w**2).sum(0, keepdims=True))
    wanted = rate * np.clip(norm, low, high) + (1 - rate) * norm
    return w * wanted / (norm + 1e-7)


def bounded(kernel, bias, precision, **options):
    model = fusednn.Sequential(
        [layers.Dense(33, kernel_constraint=kernel, bias_constraint=bias), layers.Dense(2)],
        input_shape=(70,),
    )
    model.compile(fusednn.optimizers.SGD(0.5), "mse", precision=precision, seed=1, **options)
    return model


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("name", BOUNDS)
def test_after_one_step(rng, name, precision, tolerance):
    x, y = rng.standard_normal((64, 70)), rng.standard_normal((64, 2))
    free, held = bounded(None, None, precision), bounded(name, name, precision)
    start = [rng.standard_normal(w.shape) for w in free.get_weights()]
    for model in (free, held):
        model.set_weights(start)
        model.train_on_batch(x, y)
    after, found = free.get_weights(), held.get_weights()
    for place in (0, 1):
        expected = BOUNDS[name](after[place].astype(np.float64))
        np.testing.assert_allclose(found[place], expected, rtol=0, atol=8 * tolerance)
    np.testing.assert_array_equal(found[2], after[2])


def test_partial_rate(rng):
    constraint = constraints.MinMaxNorm(0.5, 0.9, rate=0.3)
    x, y = rng.standard_normal((8, 70)), rng.standard_normal((8, 2))
    free, held = bounded(None, None, "float64"), bounded(constraint, None, "float64")
    held.set_weights(free.get_weights())
    for model in (free, held):
        model.train_on_batch(x, y)
    expected = _scaled(free.get_weights()[0], 0.5, 0.9, 0.3)
    np.testing.assert_allclose(held.get_weights()[0], expected, rtol=1e-13)


def test_frozen_weights_are_left_alone(rng):
    model = bounded("unit_norm", None, "float32")
    model.layers[0].trainable = False
    before = model.get_weights()[0].copy()
    model.train_on_batch(rng.standard_normal((8, 70)), rng.standard_normal((8, 2)))
    np.testing.assert_array_equal(model.get_weights()[0], before)


@pytest.mark.parametrize("name", BOUNDS)
def test_config(name):
    layer = layers.Dense(2, kernel_constraint=name)
    again = layers.deserialize(layers.serialize(layer))
    assert again.kernel_constraint.serialize() == constraints.get(name).serialize()


def test_wrong_constraints():
    with pytest.raises(ValueError, match="max_norm"):
        layers.Dense(2, kernel_constraint="maxnorm2")
    with pytest.raises(TypeError, match="constraint must be"):
        layers.Dense(2, kernel_constraint=3)
    with pytest.raises(ValueError, match="min_value"):
        constraints.MinMaxNorm(2.0, 1.0)


# ---- gradient accumulation -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"global_clipnorm": 0.1}, {"weight_decay": 0.1}])
def test_four_small_steps_are_one_large(rng, options):
    x, y = rng.standard_normal((64, 5)), rng.standard_normal((64, 2))
    results = []
    for batch, each in ((64, None), (16, 4)):
        model = fusednn.Sequential([layers.Dense(8, "tanh"), layers.Dense(2)], input_shape=(5,))
        optimizer = fusednn.optimizers.Adam(0.01, gradient_accumulation_steps=each, **options)
        model.compile(optimizer, "mse", precision="float64", seed=2)
        model.fit(x, y, batch, 5, verbose=0, shuffle=False)
        assert optimizer.iterations == 5
        results.append(model.get_weights())
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_accumulation_goes_on_in_the_next_epoch(rng):
    x, y = rng.standard_normal((48, 5)), rng.standard_normal((48, 2))
    model = fusednn.Sequential([layers.Dense(2)], input_shape=(5,))
    schedule = fusednn.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
    model.compile(
        fusednn.optimizers.SGD(schedule, gradient_accumulation_steps=2), "mse",
        precision="float64", seed=2,
    )  # fmt: skip
    start = model.get_weights()
    model.fit(x, y, 16, 1, verbose=0, shuffle=False)
    after = model.get_weights()  # one update at the rate 0.1; the third batch waits
    assert model.optimizer.iterations == 1
    (kernel, bias) = start
    error = 2 * (x[:32] @ kernel + bias - y[:32]) / 64
    np.testing.assert_allclose(after[0], kernel - 0.1 * x[:32].T @ error, rtol=0, atol=1e-13)
    model.fit(x, y, 16, 1, verbose=0, shuffle=False)
    assert model.optimizer.iterations == 3
    np.testing.assert_array_equal(model.get_weights()[0], after[0])  # at the rate 0


def test_wrong_accumulation():
    with pytest.raises(ValueError, match="gradient_accumulation_steps"):
        fusednn.optimizers.SGD(gradient_accumulation_steps=0)


# ---- Keras itself -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*BOUNDS, None])
def test_keras(rng, name):
    keras = import_keras()
    x = rng.standard_normal((96, 7)).astype(np.float32)
    y = rng.standard_normal((96, 1)).astype(np.float32)
    each = 3 if name is None else None
    theirs = keras.Sequential(
        [keras.Input((7,)), keras.layers.Dense(6, "tanh", kernel_constraint=name),
         keras.layers.Dense(1)]
    )  # fmt: skip
    theirs.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=each), "mse")
    ours = fusednn.Sequential(
        [layers.Dense(6, "tanh", kernel_constraint=name), layers.Dense(1)], input_shape=(7,)
    )
    ours.compile(
        fusednn.optimizers.Adam(0.01, gradient_accumulation_steps=each), "mse", convention="keras"
    )
    ours.set_weights(theirs.get_weights())
    theirs.fit(x, y, 16, 3, shuffle=False, verbose=0)
    ours.fit(x, y, 16, 3, shuffle=False, verbose=0)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    assert math.isfinite(float(one.sum()))
