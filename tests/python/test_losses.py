# SPDX-License-Identifier: Apache-2.0
"""Losses and metrics as `compile` takes them: which rule they become, and their values."""

import numpy as np
import pytest

import fusednn
import oracle
from fusednn import layers, losses, metrics


def model_of(activation=None, columns=4):
    model = fusednn.Sequential(
        [layers.Dense(columns, activation=activation)], input_shape=(3,), seed=2
    )
    return model


def resolved(loss, activation=None, columns=4):
    (head,) = model_of(activation, columns)._require_graph().heads()
    found = losses.get(loss).resolve(head)
    return found.rule, found.node


@pytest.mark.parametrize(
    ("loss", "activation", "rule", "node"),
    [
        ("categorical_crossentropy", None, "softmax_cross_entropy", "dense"),
        ("categorical_crossentropy", "softmax", "softmax_cross_entropy", "dense"),
        ("categorical_crossentropy", "log_softmax", "softmax_cross_entropy", "dense"),
        ("categorical_crossentropy", "sigmoid", "categorical_cross_entropy", "dense/activation"),
        ("sparse_categorical_crossentropy", None, "softmax_cross_entropy", "dense"),
        ("sparse_categorical_crossentropy", "softmax", "softmax_cross_entropy", "dense"),
        ("bce", None, "binary_cross_entropy_logits", "dense"),
        ("bce", "sigmoid", "binary_cross_entropy_logits", "dense"),
        ("bce", "softmax", "binary_cross_entropy", "dense/activation"),
        ("bce", "hard_sigmoid", "binary_cross_entropy", "dense/activation"),
        ("kl_divergence", "softmax", "kl_divergence_logits", "dense"),
        ("kl_divergence", None, "kl_divergence_logits", "dense"),
        ("kl_divergence", "relu", "kl_divergence", "dense/activation"),
        ("poisson", "exponential", "poisson_log", "dense"),
        ("poisson", "softplus", "poisson", "dense/activation"),
        ("mse", "softmax", "mse", "dense/activation"),
        (losses.BinaryCrossentropy(from_logits=False), None, "binary_cross_entropy", "dense"),
        (
            losses.BinaryCrossentropy(from_logits=True),
            "sigmoid",
            "binary_cross_entropy_logits",
            "dense/activation",
        ),
    ],
)
def test_what_a_loss_looks_at(loss, activation, rule, node):
    assert resolved(loss, activation) == (rule, node)


def test_activation_behind_other_layers_is_seen():
    """Values that passed through dropout or a merge are still probabilities."""
    inputs = layers.Input((3,))
    a = layers.Dense(2, activation="softmax")(inputs)
    b = layers.Dense(2, activation="softmax")(inputs)
    for last in (layers.Dropout(0.1)(a), layers.Concatenate()([a, b])):
        (head,) = fusednn.graph.Graph([inputs], [last]).heads()
        assert losses.get("bce").resolve(head).rule == "binary_cross_entropy"
    plain = layers.Dropout(0.1)(layers.Dense(2)(inputs))
    (head,) = fusednn.graph.Graph([inputs], [plain]).heads()
    assert losses.get("bce").resolve(head).rule == "binary_cross_entropy_logits"


def targets(rng, kind, rows, columns):
    if kind == "labels":
        return rng.integers(0, columns, rows)
    if kind == "rows":
        return rng.dirichlet(np.ones(columns), rows)
    if kind == "unit":
        return rng.uniform(size=(rows, columns))
    if kind == "signs":
        return rng.choice([-1.0, 1.0], size=(rows, columns))
    if kind == "counts":
        return rng.poisson(2.0, size=(rows, columns))
    return rng.normal(size=(rows, columns))


VALUES = [
    ("mse", None, "mse", {}, "any"),
    ("mae", "tanh", "mae", {}, "any"),
    (losses.Huber(0.3), None, "huber", {"delta": 0.3}, "any"),
    ("log_cosh", None, "log_cosh", {}, "any"),
    (losses.Quantile(0.8), None, "quantile", {"quantile": 0.8}, "any"),
    ("poisson", "softplus", "poisson", {}, "counts"),
    ("poisson", "exponential", "poisson", {"epsilon": 0.0}, "counts"),
    ("hinge", None, "hinge", {}, "signs"),
    ("squared_hinge", "tanh", "squared_hinge", {}, "signs"),
    ("bce", "sigmoid", "binary_cross_entropy", {}, "unit"),
    (
        losses.BinaryCrossentropy(label_smoothing=0.1, pos_weight=2.0),
        "sigmoid",
        "binary_cross_entropy",
        {"label_smoothing": 0.1, "pos_weight": 2.0},
        "unit",
    ),
    ("bce", "softmax", "binary_cross_entropy", {}, "unit"),
    ("categorical_crossentropy", "softmax", "categorical_cross_entropy", {}, "rows"),
    ("categorical_crossentropy", "sigmoid", "categorical_cross_entropy", {}, "rows"),
    ("sparse_categorical_crossentropy", "softmax", "categorical_cross_entropy", {}, "labels"),
    (
        losses.SparseCategoricalCrossentropy(label_smoothing=0.2),
        None,
        "softmax_cross_entropy",
        {"label_smoothing": 0.2},
        "labels",
    ),
    ("kl_divergence", "softmax", "kl_divergence", {}, "rows"),
    ("cosine_similarity", None, "cosine", {}, "any"),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "activation", "rule", "parameters", "kind"), VALUES)
def test_value_and_step_match_the_oracle(rng, loss, activation, rule, parameters, kind, weighted):
    """`evaluate` against the oracle at the outputs of `predict`, and the step against a slope."""
    x, y = rng.normal(size=(10, 3)), targets(rng, kind, 10, 4)
    weight = rng.uniform(size=10) if weighted else None
    model = model_of(activation)
    model.compile(fusednn.optimizers.SGD(1.0), loss, precision="float64")
    out = model.predict(x)
    want, _ = oracle.loss(rule, out, y, sample_weight=weight, **parameters)
    got = model.evaluate(x, y, batch_size=3, sample_weight=weight)
    assert got == pytest.approx(want, rel=1e-9)

    before = model.get_weights()
    assert model.train_on_batch(x, y, sample_weight=weight) == pytest.approx(want, rel=1e-9)
    step = before[1] - model.get_weights()[1]
    for i in range(4):
        values = []
        for sign in (1, -1):
            moved = [w.copy() for w in before]
            moved[1][i] += sign * 1e-6
            model.set_weights(moved)
            values.append(model.evaluate(x, y, sample_weight=weight))
        assert step[i] == pytest.approx((values[0] - values[1]) / 2e-6, rel=2e-5, abs=1e-8)


# ---- metrics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("name", ["accuracy", "acc", "sparse_categorical_accuracy"])
def test_accuracy_of_labels(rng, activation, name):
    x, y = rng.normal(size=(50, 3)), rng.integers(0, 4, 50)
    weight = rng.uniform(size=50)
    model = model_of(activation)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=[name])
    right = model.predict(x).argmax(axis=1) == y
    logs = model.evaluate(x, y, batch_size=7, return_dict=True)
    assert logs[name] == pytest.approx(right.mean())
    logs = model.evaluate(x, y, batch_size=7, sample_weight=weight, return_dict=True)
    assert logs[name] == pytest.approx((right * weight).sum() / weight.sum())


def test_accuracy_of_one_hot_rows(rng):
    x, y = rng.normal(size=(50, 3)), np.eye(4)[rng.integers(0, 4, 50)]
    model = model_of()
    model.compile("sgd", "categorical_crossentropy", metrics=["categorical_accuracy"])
    right = model.predict(x).argmax(axis=1) == y.argmax(axis=1)
    assert model.evaluate(x, y)[1] == pytest.approx(right.mean())


@pytest.mark.parametrize(
    ("loss", "activation", "threshold"),
    [("bce", "sigmoid", 0.5), ("bce", None, 0), ("hinge", None, 0), ("mse", None, 0.5)],
)
def test_accuracy_of_one_column(rng, loss, activation, threshold):
    x = rng.normal(size=(50, 3))
    y = rng.integers(0, 2, 50) * (2 if loss == "hinge" else 1) - (loss == "hinge")
    model = model_of(activation, 1)
    model.compile("sgd", loss, metrics=["accuracy"], precision="float64")
    right = (model.predict(x)[:, 0] > threshold) == (y > 0)
    assert model.evaluate(x, y)[1] == pytest.approx(right.mean())


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_threshold_of_binary_accuracy(rng, activation):
    x, y = rng.normal(size=(50, 3)), rng.integers(0, 2, 50)
    model = model_of(activation, 1)
    model.compile("sgd", "bce", metrics=[metrics.BinaryAccuracy(0.3)], precision="float64")
    p = model.predict(x)[:, 0]
    p = p if activation else 1 / (1 + np.exp(-p))
    assert model.evaluate(x, y)[1] == pytest.approx(((p > 0.3) == y).mean())


def test_losses_as_metrics(rng):
    x, y = rng.normal(size=(50, 3)), rng.normal(size=(50, 4))
    model = model_of()
    model.compile(
        "sgd", "mse", metrics=["mae", "rmse", losses.Huber(2.0), "LogCosh"], precision="float64"
    )
    logs = model.evaluate(x, y, batch_size=8, return_dict=True)
    error = model.predict(x) - y
    assert list(logs) == ["loss", "mae", "rmse", "huber", "LogCosh"] == model.metrics_names
    assert logs["mae"] == pytest.approx(np.abs(error).mean())
    assert logs["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert logs["LogCosh"] == pytest.approx(np.log(np.cosh(error)).mean())


# ---- names and errors --------------------------------------------------------------------------


@pytest.mark.parametrize("name", losses.names())
def test_loss_round_trip(name):
    loss = losses.get(name)
    copy = losses.get(loss.serialize())
    assert (type(copy), copy.get_config()) == (type(loss), loss.get_config())
    assert type(losses.get(type(loss).__name__)) is type(loss)
    assert losses.get(type(loss)).name == loss.name


@pytest.mark.parametrize("name", metrics.names())
def test_metric_round_trip(name):
    metric = metrics.get(name)
    assert metric.name == name
    copy = metrics.get(metric.serialize())
    assert (type(copy), copy.name) == (type(metric), name)
    assert copy.get_config() == metric.get_config()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.get("categorical_cross_entropy"), "did you mean 'categorical_cross"),
        (lambda: losses.get("mean_square_error"), "did you mean 'mean_squared_error'"),
        (lambda: losses.Huber(0), "delta must be"),
        (lambda: losses.Quantile(1), r"quantile must be a finite number in \(0, 1\)"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=2), "label_smoothing"),
        (lambda: metrics.get("auk"), "metric='auk' is unknown; .*known: acc, accuracy"),
        (lambda: resolved("sparse_categorical_crossentropy", None, 1), "at least two classes"),
    ],
)
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: losses.get(3),
        lambda: losses.get(lambda t, p: 0),
        lambda: metrics.get(3),
        lambda: losses.Huber(beta=1),
        lambda: losses.BinaryCrossentropy(from_logits="yes"),
    ],
)
def test_wrong_types(call):
    with pytest.raises(TypeError):
        call()


@pytest.mark.parametrize(
    ("loss", "metric", "message"),
    [
        ("mse", "sparse_categorical_accuracy", "use 'categorical_accuracy' or 'accuracy'"),
        ("sparse_categorical_crossentropy", "categorical_accuracy", "use 'sparse_categorical"),
        ("sparse_categorical_crossentropy", "mse", "compares with values"),
        ("mse", "sparse_categorical_crossentropy", "compares with class numbers"),
        ("mse", "binary_accuracy", "needs an output of one column"),
        ("mse", ["mae", "mae"], "two quantities would be named 'mae'"),
    ],
)
def test_metrics_that_do_not_fit(loss, metric, message):
    model = model_of()
    model.compile("sgd", "mse")
    before = model._objective
    with pytest.raises(ValueError, match=message):
        model.compile("sgd", loss, metrics=metric if isinstance(metric, list) else [metric])
    assert model._objective is before
    with pytest.raises(ValueError, match="needs an output of several columns"):
        model_of(columns=1).compile("sgd", "mse", metrics=["categorical_accuracy"])


def test_classes_need_one_axis():
    model = fusednn.Sequential([layers.Dense(3)], input_shape=(5, 2))
    with pytest.raises(ValueError, match=r"output 'dense' has shape \(5, 3\)"):
        model.compile("sgd", "categorical_crossentropy")
    with pytest.raises(ValueError, match="one axis"):
        model.compile("sgd", "mse", metrics=["accuracy"])
