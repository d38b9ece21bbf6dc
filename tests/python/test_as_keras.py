# SPDX-License-Identifier: Apache-2.0
"""Keras itself as oracle: the same weights after five epochs, for everything that both have."""

import numpy as np
import pytest
from tests.rivals import keras_in_double

import fusednn
from fusednn import constraints, layers, losses, optimizers, regularizers, schedules

ROWS, COLUMNS, BATCH, EPOCHS = 36, 5, 16, 5
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def keras():
    with keras_in_double() as module:
        yield module


class Setup:
    """One model, made twice. Arguments that name a class come as (name, its arguments)."""

    def __init__(self, **chosen):
        self.optimizer = ("SGD", {"learning_rate": 0.05})
        self.loss = ("MeanSquaredError", {})
        self.hidden = {}  # arguments of a Dense layer, each a (name, arguments) of its module
        self.between = []  # layers
        self.last = (3, None)  # units, activation
        self.rate = None
        self.target = "values"
        self.__dict__.update(chosen)

    def make(self, here):
        """Return the layers and the arguments of compile, of fusednn or Keras."""
        of = {"regularizer": here.regularizers, "constraint": here.constraints}
        hidden = {
            name: getattr(of[name.rsplit("_", 1)[1]], kind)(**arguments)
            for name, (kind, arguments) in self.hidden.items()
        }
        chain = [here.layers.Dense(6, activation="tanh", name="hidden", **hidden)]
        chain += [getattr(here.layers, kind)(**arguments) for kind, arguments in self.between]
        units, activation = self.last
        chain.append(here.layers.Dense(units, activation=activation))
        kind, arguments = self.optimizer
        if self.rate is not None:
            schedule, given = self.rate
            home = getattr(here.optimizers, "schedules", schedules)
            arguments = {**arguments, "learning_rate": getattr(home, schedule)(**given)}
        kind_of_loss, given = self.loss
        loss = getattr(here.losses, kind_of_loss)(**given)
        return chain, getattr(here.optimizers, kind)(**arguments), loss

    def data(self):
        rng = np.random.default_rng(4)
        x = rng.standard_normal((ROWS, COLUMNS))
        units = self.last[0]
        raw = x[:, :units] + 0.3 * rng.standard_normal((ROWS, units))
        if self.target == "signs":
            return x, np.sign(raw)
        if self.target == "bits":
            return x, (raw > 0).astype(float)
        if self.target == "counts":
            return x, rng.poisson(2.0, (ROWS, units)).astype(float)
        if self.target == "shares":
            return x, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)
        if self.target == "classes":
            return x, raw.argmax(axis=1)
        if self.target == "one-hot":
            return x, np.eye(units)[raw.argmax(axis=1)]
        return x, raw


def compare(keras, setup):
    chain, optimizer, loss = setup.make(fusednn)
    for layer in chain:
        if isinstance(layer, layers.BatchNormalization):
            layer.unbiased = False
    ours = fusednn.Sequential(chain, input_shape=(COLUMNS,), seed=3)
    rng = np.random.default_rng(1)  # no bias at 0, where |w| has any slope
    for layer in ours.layers:
        if layer.name.startswith("dense") or layer.name == "hidden":
            layer.weights[1][...] = rng.uniform(0.1, 0.3, layer.weights[1].shape)
    ours.compile(optimizer, loss, precision="float64", convention="keras", seed=3)
    chain, optimizer, loss = setup.make(keras)
    theirs = keras.Sequential([keras.Input((COLUMNS,)), *chain])
    theirs.compile(optimizer, loss)
    theirs.set_weights(ours.get_weights())
    x, y = setup.data()
    start = ours.get_weights()
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    a, b = ours.fit(x, y, **arguments), theirs.fit(x, y, **arguments)
    assert any(
        abs(v - w).max() > 100 * TOLERANCE for v, w in zip(start, ours.get_weights(), strict=True)
    )
    for v, w in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(v, w, rtol=0, atol=TOLERANCE)
    # Ours is 1 - cos, theirs -cos.
    offset = 1.0 if setup.loss[0] == "CosineSimilarity" else 0.0
    theirs_seen = [*b.history["loss"], theirs.evaluate(x, y, verbose=0)]
    np.testing.assert_allclose(
        [*a.history["loss"], ours.evaluate(x, y)],
        np.array(theirs_seen) + offset,
        rtol=0,
        atol=TOLERANCE,
    )


# ---- optimizers ----------------------------------------------------------------------------------

OPTIMIZERS = [
    ("SGD", {"learning_rate": 0.05}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"learning_rate": 0.05, "weight_decay": 0.1}),
    ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.5, "centered": True}),
    ("Adagrad", {"learning_rate": 0.02}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adam", {}),
    ("Adam", {"amsgrad": True, "learning_rate": 0.01}),
    ("AdamW", {"weight_decay": 0.05}),
    ("Adamax", {"learning_rate": 0.01}),
    ("Nadam", {}),
    ("Lion", {"learning_rate": 0.002}),
    ("Lamb", {"learning_rate": 0.01}),
    ("Adam", {"learning_rate": 0.01, "clipnorm": 0.05}),
    ("Adam", {"learning_rate": 0.01, "global_clipnorm": 0.1}),
    ("SGD", {"learning_rate": 0.5, "clipvalue": 0.02}),
]
NOT_IN_KERAS = {"RAdam", "Quantile", "CustomLoss"}


def names_in(module, base):
    return {
        name
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, base) and kind is not base
        if not name.startswith("_")
    }


@pytest.mark.parametrize(("kind", "arguments"), OPTIMIZERS)
def test_optimizers(keras, kind, arguments):
    compare(keras, Setup(optimizer=(kind, arguments)))


# ---- losses --------------------------------------------------------------------------------------

LOSSES = [
    ("MeanSquaredError", {}, "values", None),
    ("MeanAbsoluteError", {}, "values", None),
    ("Huber", {"delta": 0.5}, "values", None),
    ("LogCosh", {}, "values", None),
    ("Poisson", {}, "counts", "softplus"),
    ("Hinge", {}, "signs", None),
    ("SquaredHinge", {}, "signs", "tanh"),
    ("CosineSimilarity", {}, "values", None),
    ("KLDivergence", {}, "shares", "softmax"),
    ("BinaryCrossentropy", {}, "bits", "sigmoid"),
    ("BinaryCrossentropy", {"from_logits": True, "label_smoothing": 0.1}, "bits", None),
    ("CategoricalCrossentropy", {}, "one-hot", "softmax"),
    ("CategoricalCrossentropy", {"from_logits": True}, "one-hot", None),
    ("CategoricalCrossentropy", {"label_smoothing": 0.2}, "one-hot", "softmax"),
    ("SparseCategoricalCrossentropy", {}, "classes", "softmax"),
    ("SparseCategoricalCrossentropy", {"from_logits": True}, "classes", None),
]


@pytest.mark.parametrize(("kind", "arguments", "target", "activation"), LOSSES)
def test_losses(keras, kind, arguments, target, activation):
    compare(keras, Setup(loss=(kind, arguments), target=target, last=(3, activation)))


# ---- regularisation ------------------------------------------------------------------------------

REGULARIZERS = [("L1", {"l1": 0.02}), ("L2", {"l2": 0.03}), ("L1L2", {"l1": 0.01, "l2": 0.02})]
CLIPS = [{}, {"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.02}]


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("rule", REGULARIZERS)
def test_regularizers_and_clipping(keras, rule, clip):
    hidden = {"kernel_regularizer": rule, "bias_regularizer": rule}
    compare(keras, Setup(optimizer=("Adam", {"learning_rate": 0.01, **clip}), hidden=hidden))


@pytest.mark.parametrize("rule", REGULARIZERS)
def test_activity(keras, rule):
    compare(keras, Setup(hidden={"activity_regularizer": rule}))


def test_activity_as_a_layer(keras):
    between = [("Dense", {"units": 4}), ("ActivityRegularization", {"l1": 0.05, "l2": 0.1})]
    compare(keras, Setup(between=between))


@pytest.mark.parametrize(
    "rule",
    [
        ("NonNeg", {}),
        ("MaxNorm", {"max_value": 0.7}),
        ("UnitNorm", {}),
        ("MinMaxNorm", {"min_value": 0.5, "max_value": 0.9, "rate": 0.5}),
    ],
)
def test_constraints(keras, rule):
    compare(keras, Setup(hidden={"kernel_constraint": rule}))


# ---- schedules and normalisation -----------------------------------------------------------------

SCHEDULES = [
    ("ExponentialDecay", {"decay_steps": 4, "decay_rate": 0.8}),
    ("InverseTimeDecay", {"decay_steps": 4, "decay_rate": 0.5, "staircase": True}),
    ("PolynomialDecay", {"decay_steps": 10, "end_learning_rate": 0.01, "power": 2.0}),
    ("CosineDecay", {"decay_steps": 12, "alpha": 0.1}),
    ("CosineDecay", {"decay_steps": 12, "warmup_target": 0.2, "warmup_steps": 5}),
    ("CosineDecayRestarts", {"first_decay_steps": 4}),
]


@pytest.mark.parametrize(("schedule", "arguments"), SCHEDULES)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_schedules(keras, kind, schedule, arguments):
    rate = (schedule, {"initial_learning_rate": 0.05, **arguments})
    compare(keras, Setup(optimizer=(kind, {}), rate=rate))


def test_steps_of_the_rate(keras):
    rate = ("PiecewiseConstantDecay", {"boundaries": [3, 9], "values": [0.1, 0.02, 0.05]})
    compare(keras, Setup(rate=rate))


@pytest.mark.parametrize(
    "layer",
    [
        ("BatchNormalization", {"momentum": 0.8}),
        ("BatchNormalization", {"center": False, "scale": False}),
        ("LayerNormalization", {}),
        ("LayerNormalization", {"epsilon": 0.1}),
    ],
)
def test_normalization(keras, layer):
    compare(keras, Setup(between=[layer], optimizer=("Adam", {"learning_rate": 0.01})))


def test_frozen_normalization(keras):
    between = [("BatchNormalization", {"momentum": 0.8, "trainable": False})]
    compare(keras, Setup(between=between))


# ---- nothing is left out -------------------------------------------------------------------------


def test_everything_is_compared():
    seen = {kind for kind, _ in OPTIMIZERS} | {kind for kind, *_ in LOSSES} | NOT_IN_KERAS
    assert names_in(optimizers, optimizers.Optimizer) <= seen
    assert names_in(losses, losses.Loss) <= seen
    assert names_in(regularizers, object) >= {kind for kind, _ in REGULARIZERS}
    assert names_in(constraints, constraints.Constraint) == {
        "NonNeg", "MaxNorm", "UnitNorm", "MinMaxNorm",
    }  # fmt: skip
    own = {"Constant", "StepDecay", "OneCycle", "Warmup", "PiecewiseConstantDecay"}
    assert names_in(schedules, schedules.LearningRateSchedule) - own == {
        kind for kind, _ in SCHEDULES
    }
