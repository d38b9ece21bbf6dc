# SPDX-License-Identifier: Apache-2.0
"""Optimizers as `compile` takes them, through whole training steps, against the oracle."""

import pickle

import numpy as np
import pytest

import fusednn
import oracle
from fusednn import layers, optimizers

BETAS = {"betas": (0.8, 0.95)}
# Arguments here, the oracle's rule, and its arguments.
CASES = [
    (optimizers.SGD, {}, "sgd", {}),
    (optimizers.SGD, {"learning_rate": 0.05, "momentum": 0.9}, "sgd", {"momentum": 0.9}),
    (
        optimizers.SGD,
        {"momentum": 0.8, "dampening": 0.3},
        "sgd",
        {"momentum": 0.8, "dampening": 0.3},
    ),
    (
        optimizers.SGD,
        {"momentum": 0.9, "nesterov": True},
        "sgd",
        {"momentum": 0.9, "nesterov": True},
    ),
    (optimizers.Adagrad, {}, "adagrad", {}),
    (optimizers.RMSprop, {}, "rmsprop", {}),
    (optimizers.RMSprop, {"rho": 0.8}, "rmsprop", {"alpha": 0.8}),
    (
        optimizers.RMSprop,
        {"momentum": 0.7, "centered": True},
        "rmsprop",
        {"momentum": 0.7, "centered": True},
    ),
    (optimizers.RMSprop, {"momentum": 0.7}, "rmsprop", {"momentum": 0.7}),
    (optimizers.RMSprop, {"centered": True}, "rmsprop", {"centered": True}),
    (optimizers.Adadelta, {}, "adadelta", {}),
    (optimizers.Adam, {}, "adam", {}),
    (optimizers.Adam, {"beta_1": 0.8, "beta_2": 0.95}, "adam", BETAS),
    (optimizers.Adam, {"amsgrad": True}, "adam", {"amsgrad": True}),
    (optimizers.Adam, {"weight_decay": 0.1}, "adam", {"weight_decay": 0.1}),
    (optimizers.Adam, {"l1": 0.01}, "adam", {"l1": 0.01}),
    (optimizers.Adam, {"maximize": True}, "adam", {"maximize": True}),
    (optimizers.AdamW, {}, "adamw", {}),
    (optimizers.Adamax, {}, "adamax", {}),
    (optimizers.Nadam, {}, "nadam", {}),
    (optimizers.RAdam, {}, "radam", {}),
    (optimizers.Lion, {}, "lion", {}),
    (optimizers.Lion, {"weight_decay": 0.1}, "lion", {"weight_decay": 0.1}),
    (optimizers.Lamb, {}, "lamb", {}),
    (optimizers.Lamb, {"weight_decay": 0.1}, "lamb", {"weight_decay": 0.1}),
]


def network(seed=0):
    return fusednn.Sequential(
        [layers.Dense(4, activation="tanh"), layers.Dense(2)], input_shape=(3,), seed=seed
    )


def oracle_gradients(weights, x, y):
    w1, b1, w2, b2 = weights
    hidden = oracle.dense_forward(x, w1, b1, "tanh")
    out = oracle.dense_forward(hidden, w2, b2)
    _, dout = oracle.loss("mse", out, y)
    dhidden, dw2, db2 = oracle.dense_backward(hidden, w2, b2, dout)
    _, dw1, db1 = oracle.dense_backward(x, w1, b1, dhidden, "tanh")
    return [dw1, db1, dw2, db2]


def train_both(rng, optimizer, rule, arguments, convention, reference, decorate=None, steps=12):
    """Weights after some steps: of the model, and of the oracle."""
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
    model = network()
    weights = model.get_weights()
    model.compile(optimizer, "mse", precision="float64", convention=convention)
    model.set_weights(weights)
    weights = model.get_weights()
    rules = [oracle.OPTIMIZERS[rule](convention=reference, **arguments) for _ in weights]
    for _ in range(steps):
        model.train_on_batch(x, y)
        gradients = oracle_gradients(weights, x, y)
        if decorate is not None:
            gradients = decorate(weights, gradients)
        weights = [r.step(w, g) for r, w, g in zip(rules, weights, gradients, strict=True)]
    return model, weights


@pytest.mark.parametrize("convention", optimizers.CONVENTIONS)
@pytest.mark.parametrize(("kind", "given", "rule", "arguments"), CASES)
def test_steps_match_the_oracle(rng, convention, kind, given, rule, arguments):
    if convention not in oracle.OPTIMIZERS[rule].conventions:
        with pytest.raises(ValueError, match="not defined for convention"):
            network().compile(kind(**given), "mse", convention=convention)
        return
    if given.get("dampening") and convention != "torch":
        with pytest.raises(ValueError, match=r"dampening=0\.3 needs convention='torch'"):
            network().compile(kind(**given), "mse", convention=convention)
        return
    if "learning_rate" in given:
        arguments = {**arguments, "lr": given["learning_rate"]}
    reference = convention
    if convention == "textbook" and given.get("nesterov"):
        # The oracle's Nesterov wants the gradient ahead of its w; the model's w is that point.
        reference, arguments = "torch", {**arguments, "lr": 0.01}
    model, expected = train_both(rng, kind(**given), rule, arguments, convention, reference)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    assert model.optimizer.iterations == 12


@pytest.mark.parametrize(
    ("given", "decoration"),
    [
        ({"clipvalue": 0.01}, {"clip_value": 0.01}),
        ({"clipnorm": 0.1}, {"clip_norm": 0.1}),
        ({"global_clipnorm": 0.1}, {"clip_global_norm": 0.1}),
    ],
)
def test_clipping(rng, given, decoration):
    def decorate(weights, gradients):
        return oracle.decorate_gradients(weights, gradients, **decoration)

    model, expected = train_both(
        rng, optimizers.SGD(0.5, **given), "sgd", {"lr": 0.5}, "torch", "torch", decorate
    )
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_average_of_the_weights(rng):
    model = network()
    model.compile(
        optimizers.SGD(0.1, use_ema=True, ema_momentum=0.7), "mse", precision="float64", seed=1
    )
    average = model.get_weights()
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
    for _ in range(5):
        model.train_on_batch(x, y)
        pairs = zip(average, model.get_weights(), strict=True)
        average = [oracle.ema(a, w, 0.7) for a, w in pairs]
    for got, want in zip(model.get_weights(averaged=True), average, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_average_starts_at_weights_set_after_compile():
    model = network()
    model.compile(optimizers.SGD(use_ema=True), "mse")
    new = [np.full_like(w, 3) for w in model.get_weights()]
    model.set_weights(new)
    np.testing.assert_array_equal(model.get_weights(averaged=True)[0], new[0])


def test_average_needs_use_ema():
    model = network()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="use_ema=True"):
        model.get_weights(averaged=True)


def test_frozen_layer_does_not_learn(rng):
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
    model = network()
    model.layers[0].trainable = False
    model.compile(optimizers.Adam(weight_decay=0.1), "mse")
    before = model.get_weights()
    model.train_on_batch(x, y)
    after = model.get_weights()
    assert (before[0] == after[0]).all()
    assert (before[2] != after[2]).any()
    model.layers[0].trainable = True  # takes effect without another compile
    model.train_on_batch(x, y)
    assert (model.get_weights()[0] != after[0]).any()


def test_learning_rate_can_be_set_at_any_time(rng):
    optimizer = optimizers.SGD(0.25)
    assert optimizer.learning_rate == 0.25
    model = network()
    model.compile(optimizer, "mse")
    optimizer.learning_rate = 0
    before = model.get_weights()
    model.train_on_batch(rng.normal(size=(4, 3)), rng.normal(size=(4, 2)))
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    model.optimizer.learning_rate = 0.125
    assert optimizer.get_config()["learning_rate"] == 0.125
    with pytest.raises(ValueError, match="learning_rate must be a finite number"):
        optimizer.learning_rate = float("nan")


@pytest.mark.parametrize(
    ("convention", "expected"), [("torch", 1e-3), ("keras", 0.01), ("textbook", 0.01)]
)
def test_default_learning_rate_follows_the_convention(convention, expected):
    model = network()
    model.compile("sgd", "mse", convention=convention)
    assert model.optimizer.learning_rate == expected


def test_defaults_are_torchs():
    torch = pytest.importorskip("torch")
    p = [torch.nn.Parameter(torch.zeros(1))]
    for ours, theirs in [
        ("SGD", "SGD"),
        ("Adagrad", "Adagrad"),
        ("RMSprop", "RMSprop"),
        ("Adadelta", "Adadelta"),
        ("Adam", "Adam"),
        ("AdamW", "AdamW"),
        ("Adamax", "Adamax"),
        ("Nadam", "NAdam"),
        ("RAdam", "RAdam"),
    ]:
        wanted = getattr(torch.optim, theirs)(p).defaults
        spec = getattr(optimizers, ours)().resolve("torch")
        assert spec["weight_decay"] == wanted["weight_decay"]
        for name, value in spec["hyper"].items():
            expected = wanted["betas"][int(name[-1]) - 1] if name[:4] == "beta" else wanted[name]
            assert value == expected, (ours, name)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimizers.Adam(lr=1), r"Adam\(\) has no argument 'lr'; use learning_rate"),
        (lambda: optimizers.Adam(betas=(0, 1)), "use beta_1 and beta_2"),
        (lambda: optimizers.Adam(eps=1), "use epsilon"),
        (lambda: optimizers.RMSprop(alpha=0.9), "use rho"),
        (lambda: optimizers.SGD(weight_deca=0.1), "did you mean weight_decay"),
        (lambda: optimizers.SGD(learning_rate=lambda t: 1.0), "LearningRateScheduler"),
        (lambda: optimizers.SGD(learning_rate="fast"), "learning_rate must be a number"),
        (lambda: optimizers.SGD(nesterov=0.5), "nesterov must be True or False"),
        (lambda: optimizers.get(3), "optimizer must be a name"),
    ],
)
def test_wrong_arguments_are_type_errors(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimizers.Adam(beta_1=1.0), r"beta_1 must be a finite number in \[0, 1\)"),
        (lambda: optimizers.Adam(-1), "learning_rate"),
        (lambda: optimizers.Adam(epsilon=float("inf")), "epsilon"),
        (lambda: optimizers.SGD(clipnorm=0), r"clipnorm must be a finite number in \(0"),
        (lambda: optimizers.SGD(clipnorm=1, clipvalue=1), "only one of clipnorm and clipvalue"),
        (lambda: optimizers.SGD(nesterov=True), "needs a momentum"),
        (lambda: optimizers.SGD(momentum=0.9, nesterov=True, dampening=0.1), "no dampening"),
        (lambda: optimizers.get("adm"), "did you mean 'adam'"),
        (lambda: optimizers.Adam().resolve("kears"), "did you mean 'keras'"),
        (lambda: optimizers.Nadam(momentum_decay=0.1).resolve("keras"), "momentum_decay"),
    ],
)
def test_wrong_values_are_value_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_optimizer_trains_one_model():
    optimizer = optimizers.Adam()
    first, second = network(), network()
    first.compile(optimizer, "mse")
    first.compile(optimizer, "mae")  # again for the same model
    with pytest.raises(ValueError, match="trains another model already"):
        second.compile(optimizer, "mse")
    assert second.optimizer is None
    first.compile("sgd", "mse")
    second.compile(optimizer, "mse")  # free again


@pytest.mark.parametrize("kind", sorted({case[0] for case in CASES}, key=lambda k: k.__name__))
def test_config_round_trip(kind):
    given = kind(0.5, weight_decay=0.25, use_ema=True)
    for copy in (kind.from_config(given.get_config()), pickle.loads(pickle.dumps(given))):
        assert copy.get_config() == given.get_config()
    restored = optimizers.get(optimizers.serialize(given))
    assert type(restored) is kind
    assert restored.get_config() == given.get_config()
    assert type(optimizers.get(kind.__name__.lower())) is kind
