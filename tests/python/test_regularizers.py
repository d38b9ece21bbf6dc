# SPDX-License-Identifier: Apache-2.0
"""Regularisers, learning-rate multipliers and schedules, against Keras, PyTorch and NumPy."""

import math

import numpy as np
import pytest
from tests.rivals import import_keras

import fusednn
from fusednn import optimizers, regularizers, schedules

RULES = {
    "l1": regularizers.L1(0.02),
    "l2": regularizers.L2(0.03),
    "both": regularizers.L1L2(0.01, 0.02),
    "none": None,
}


def data(rows=60):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(rows, 6)).astype(np.float32)
    return x, (x[:, :2] @ rng.normal(size=(2, 3))).astype(np.float32)


def model_of(optimizer, kernel=None, bias=None, multiplier=1.0):
    model = fusednn.Sequential(
        [
            fusednn.layers.Dense(
                5, "tanh", kernel_regularizer=kernel, bias_regularizer=bias, name="hidden"
            ),
            fusednn.layers.Dense(3, name="out"),
        ],
        input_shape=(6,),
        seed=1,
    )
    model.get_layer("hidden").learning_rate_multiplier = multiplier
    model.compile(optimizer, "mse", convention="keras")
    return model


@pytest.mark.parametrize("kernel", sorted(RULES))
@pytest.mark.parametrize("bias", ["l2", "none"])
def test_keras_gives_the_same_weights_and_losses(kernel, bias):
    keras = import_keras()
    x, y = data()
    model = model_of("adam", RULES[kernel], RULES[bias])
    convert = {"L1": keras.regularizers.L1, "L2": keras.regularizers.L2}
    convert["L1L2"] = keras.regularizers.L1L2

    def theirs(rule):
        return None if rule is None else convert[type(rule).__name__](**rule.get_config())

    twin = keras.Sequential(
        [
            keras.layers.Input((6,)),
            keras.layers.Dense(
                5,
                "tanh",
                kernel_regularizer=theirs(RULES[kernel]),
                bias_regularizer=theirs(RULES[bias]),
            ),
            keras.layers.Dense(3),
        ]
    )
    twin.set_weights(model.get_weights())
    twin.compile(keras.optimizers.Adam(), "mse")
    ours = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    other = twin.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0)
    np.testing.assert_allclose(ours.history["loss"], other.history["loss"], rtol=2e-5)
    for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.evaluate(x, y), twin.evaluate(x, y, verbose=0), rtol=2e-5)


def test_a_frozen_layer_is_not_regularised():
    x, y = data()
    model = model_of("sgd", regularizers.L2(1.0))
    whole = model.evaluate(x, y)
    model.get_layer("hidden").trainable = False
    kernel = model.get_layer("hidden").get_weights()[0].astype(np.float64)
    assert whole - model.evaluate(x, y) == pytest.approx((kernel**2).sum(), rel=1e-5)


def test_multipliers_scale_the_rate_of_a_layer():
    x, y = data()
    plain, scaled = model_of(optimizers.SGD(0.1)), model_of(optimizers.SGD(0.1), multiplier=0.25)
    before = plain.get_weights()
    for model in (plain, scaled):
        model.train_on_batch(x, y)
    for i, start in enumerate(before):
        move, half = plain.get_weights()[i] - start, scaled.get_weights()[i] - start
        np.testing.assert_allclose(half, move * (0.25 if i < 2 else 1), rtol=1e-4, atol=1e-7)


def test_config_keeps_them(tmp_path):
    model = model_of("adam", regularizers.L1L2(0.1, 0.2), "l1", multiplier=0.5)
    model.save(tmp_path / "model.safetensors")
    layer = fusednn.load(tmp_path / "model.safetensors").get_layer("hidden")
    assert layer.kernel_regularizer.get_config() == {"l1": 0.1, "l2": 0.2}
    assert layer.bias_regularizer.get_config() == {"l1": 0.01}
    assert layer.learning_rate_multiplier == 0.5


@pytest.mark.parametrize("wrong", ["l3", 3, {"class_name": "L3"}])
def test_unknown_regularisers(wrong):
    with pytest.raises((ValueError, TypeError), match="regularizer"):
        fusednn.layers.Dense(3, kernel_regularizer=wrong)
    with pytest.raises(ValueError, match="l2 must be"):
        regularizers.L2(-1)


# ---- schedules -----------------------------------------------------------------------------------

KERAS = {
    "ExponentialDecay": [(0.1, 10, 0.5), (0.1, 10, 0.5, True)],
    "InverseTimeDecay": [(0.1, 10, 0.5), (0.1, 7, 2.0, True)],
    "PiecewiseConstantDecay": [([5, 20], [0.1, 0.01, 0.5])],
    "PolynomialDecay": [(0.1, 30), (0.1, 30, 0.01, 2.0), (0.1, 10, 0.01, 0.5, True)],
    "CosineDecay": [(0.1, 40), (0.1, 30, 0.2)],
    "CosineDecayRestarts": [(0.1, 8), (0.1, 8, 1.0), (0.1, 5, 1.5, 0.7, 0.1)],
}


@pytest.mark.parametrize(("name", "arguments"), [(n, a) for n in KERAS for a in KERAS[n]])
def test_keras_schedules(name, arguments):
    keras = import_keras()
    ours = getattr(schedules, name)(*arguments)
    theirs = getattr(keras.optimizers.schedules, name)(*arguments)
    steps = np.arange(50)
    expected = [float(keras.ops.convert_to_numpy(theirs(int(step)))) for step in steps]
    np.testing.assert_allclose(ours.values(steps.astype(float)), expected, rtol=2e-5, atol=1e-7)
    assert [ours(int(s)) for s in steps] == list(ours.values(steps.astype(float)))
    assert schedules.get(ours.serialize()).get_config() == ours.get_config()


def test_cosine_with_warm_up():
    rate = schedules.CosineDecay(0.05, 30, 0.1, warmup_target=0.3, warmup_steps=10)
    keras = import_keras()
    theirs = keras.optimizers.schedules.CosineDecay(
        0.05, 30, 0.1, warmup_target=0.3, warmup_steps=10
    )
    expected = [float(keras.ops.convert_to_numpy(theirs(step))) for step in range(50)]
    np.testing.assert_allclose(rate.values(np.arange(50.0)), expected, rtol=2e-5)


@pytest.mark.parametrize("rise", [0.3, 0.5, 0.05])
def test_one_cycle_is_torchs(rise):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.4, total_steps=40, pct_start=rise, cycle_momentum=False
    )
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(expected) < 40:
            theirs.step()
    ours = schedules.OneCycle(0.4, 40, rise)
    np.testing.assert_allclose(ours.values(np.arange(40.0)), expected, rtol=1e-12)
    assert ours(1000) == pytest.approx(expected[-1])


@pytest.mark.parametrize("name", ["StepDecay", "Warmup", "OneCycle", "Constant"])
def test_other_schedules_survive_their_config(name):
    made = {
        "StepDecay": schedules.StepDecay(0.1, 3, 0.5),
        "Warmup": schedules.Warmup(schedules.StepDecay(0.1, 3), 4),
        "OneCycle": schedules.OneCycle(0.1, 10),
        "Constant": schedules.Constant(0.1),
    }[name]
    again = schedules.get(made.serialize())
    assert [again(i) for i in range(12)] == [made(i) for i in range(12)]
    if name == "StepDecay":
        assert made(2) == 0.1
        assert made(3) == 0.05


def test_a_schedule_reaches_every_step(tmp_path):
    x, y = data(50)
    schedule = schedules.ExponentialDecay(0.1, 3, 0.5)
    model = model_of(optimizers.SGD(schedule))
    by_hand = model_of(optimizers.SGD(1.0))
    step = 0
    for _ in range(2):
        for begin in range(0, 50, 16):
            by_hand.optimizer.learning_rate = schedule(step)
            by_hand.train_on_batch(x[begin : begin + 16], y[begin : begin + 16])
            step += 1
    model.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
    model.save(tmp_path / "half.safetensors")
    resumed = fusednn.load(tmp_path / "half.safetensors")
    for each in (model, resumed):
        each.fit(x, y, batch_size=16, epochs=1, shuffle=False, verbose=0)
        for a, b in zip(each.get_weights(), by_hand.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        assert each.optimizer.learning_rate == pytest.approx(schedule(step - 1))
        with pytest.raises(TypeError, match="follows ExponentialDecay"):
            each.optimizer.learning_rate = 0.1


def test_bad_schedules():
    class Strange(schedules.LearningRateSchedule):
        def values(self, steps):
            return np.full(steps.shape, math.nan)

    with pytest.raises(ValueError, match="learning_rate"):
        optimizers.SGD(Strange())
    with pytest.raises(TypeError, match="LearningRateScheduler"):
        optimizers.SGD(lambda step: 0.1)
    with pytest.raises(ValueError, match="boundaries must rise"):
        schedules.PiecewiseConstantDecay([3, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="one entry more"):
        schedules.PiecewiseConstantDecay([3], [1, 2, 3])
