# SPDX-License-Identifier: Apache-2.0
"""Metrics against scikit-learn and, where it is installed, Keras."""

import math

import numpy as np
import pytest
from tests.rivals import import_keras

import fusednn
from fusednn import layers, metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")

SAMPLES = 1500  # several batches of `evaluate`, and a tally in more than one chunk


def scores(rng, columns, samples=SAMPLES):
    """Return probabilities with ties at a few places, rows summing to 1 for several columns."""
    logits = rng.standard_normal((samples, columns)) * 2
    if columns == 1:
        return 1 / (1 + np.exp(-logits))
    e = np.exp(logits)
    return e / e.sum(1, keepdims=True)


def passing(columns, activation, loss, wanted, **options):
    """Return a model whose output is `activation` of its input."""
    model = fusednn.Sequential(
        [layers.Dense(columns, use_bias=False), layers.Activation(activation)],
        input_shape=(columns,),
    )
    model.compile("adam", loss, metrics=wanted, precision="float64", seed=0, **options)
    model.set_weights([np.eye(columns)])
    return model


def through_sigmoid(p, y, wanted, weight=None):
    model = passing(p.shape[1], "sigmoid", "binary_crossentropy", wanted)
    x = np.log(p) - np.log1p(-p)
    return model.evaluate(x, y, sample_weight=weight, return_dict=True)


def through_softmax(p, y, wanted, weight=None, sparse=False):
    loss = "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"
    model = passing(p.shape[1], "softmax", loss, wanted)
    return model.evaluate(np.log(p), y, sample_weight=weight, return_dict=True)


def keras_metrics():
    keras = import_keras()
    return keras.metrics


# ---- one column ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_precision_and_recall(rng, weighted):
    p = scores(rng, 1)
    y = (rng.random((SAMPLES, 1)) < p).astype(float)
    weight = rng.random(SAMPLES) if weighted else None
    result = through_sigmoid(
        p, y, [metrics.Precision(0.3), metrics.Recall(0.3), "true_positives"], weight
    )
    above = p[:, 0] > 0.3
    assert math.isclose(
        result["precision"],
        sklearn_metrics.precision_score(y[:, 0], above, sample_weight=weight),
        rel_tol=1e-12,
    )
    assert math.isclose(
        result["recall"],
        sklearn_metrics.recall_score(y[:, 0], above, sample_weight=weight),
        rel_tol=1e-12,
    )
    hits = (p[:, 0] > 0.5) & (y[:, 0] > 0)
    expected = hits.sum() if weight is None else weight[hits].sum()
    assert math.isclose(result["true_positives"], expected, rel_tol=1e-12)


def test_several_thresholds_in_the_order_given(rng):
    p = scores(rng, 1)
    y = (rng.random((SAMPLES, 1)) < p).astype(float)
    result = through_sigmoid(p, y, [metrics.Recall([0.9, 0.1, 0.5])])["recall"]
    expected = [sklearn_metrics.recall_score(y[:, 0], p[:, 0] > t) for t in (0.9, 0.1, 0.5)]
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_auc_approaches_the_exact_area(rng):
    p = scores(rng, 1)
    y = (rng.random((SAMPLES, 1)) < p).astype(float)
    result = through_sigmoid(p, y, [metrics.AUC(4000), metrics.AUC(4000, "PR", name="pr")])
    exact = sklearn_metrics.roc_auc_score(y[:, 0], p[:, 0])
    average = sklearn_metrics.average_precision_score(y[:, 0], p[:, 0])
    assert abs(result["auc"] - exact) < 1e-4
    assert abs(result["pr"] - average) < 2e-3  # another interpolation


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AUC", {}),
        ("AUC", {"curve": "PR"}),
        ("AUC", {"summation_method": "minoring", "num_thresholds": 30}),
        ("AUC", {"curve": "PR", "summation_method": "majoring", "num_thresholds": 17}),
        ("AUC", {"thresholds": [0.8, 0.2, 0.4]}),
        ("Precision", {"thresholds": [0.2, 0.7]}),
        ("FalsePositives", {}),
        ("FalseNegatives", {"thresholds": 0.25}),
        ("TrueNegatives", {}),
        ("SensitivityAtSpecificity", {"specificity": 0.6}),
        ("SpecificityAtSensitivity", {"sensitivity": 0.8}),
        ("PrecisionAtRecall", {"recall": 0.7}),
        ("RecallAtPrecision", {"precision": 0.8}),
        ("BinaryAccuracy", {"threshold": 0.4}),
        ("F1Score", {"threshold": 0.4}),
    ],
)
def test_keras_on_one_column(rng, name, options, weighted):
    theirs = getattr(keras_metrics(), name)(**options)
    p = scores(rng, 1).astype(np.float32).astype(np.float64)
    y = (rng.random((SAMPLES, 1)) < p).astype(float)
    weight = rng.random(SAMPLES) if weighted else None
    theirs.update_state(y, p, sample_weight=weight)
    ours = getattr(metrics, name)(**options)
    result = through_sigmoid(p, y, [ours], weight)[ours.name]
    np.testing.assert_allclose(result, np.asarray(theirs.result()), rtol=3e-5)


# ---- several columns -----------------------------------------------------------------------------


@pytest.mark.parametrize("average", [None, "micro", "macro", "weighted"])
@pytest.mark.parametrize("sparse", [False, True])
def test_f1_of_the_greatest_column(rng, average, sparse):
    p = scores(rng, 5)
    labels = np.array([rng.choice(5, p=row) for row in p])
    weight = rng.random(SAMPLES)
    y = labels if sparse else np.eye(5)[labels]
    result = through_softmax(p, y, [metrics.F1Score(average)], weight, sparse)["f1_score"]
    expected = sklearn_metrics.f1_score(labels, p.argmax(1), average=average, sample_weight=weight)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_f1_works_on_logits(rng):
    p = scores(rng, 4)
    labels = np.array([rng.choice(4, p=row) for row in p])
    model = passing(4, "linear", "sparse_categorical_crossentropy", ["f1_score"])
    result = model.evaluate(np.log(p), labels)[1]
    expected = sklearn_metrics.f1_score(labels, p.argmax(1), average=None)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Precision", {}),
        ("Precision", {"class_id": 2, "thresholds": 0.3}),
        ("Recall", {"top_k": 2}),
        ("Precision", {"top_k": 3, "class_id": 1}),
        ("Precision", {"top_k": 2, "thresholds": [0.3, 0.2]}),
        ("AUC", {}),
        ("AUC", {"multi_label": True}),
        ("AUC", {"multi_label": True, "curve": "PR"}),
        ("FBetaScore", {"beta": 2.0, "average": "macro"}),
        ("FBetaScore", {"beta": 0.5, "threshold": 0.3}),
        ("TopKCategoricalAccuracy", {"k": 2}),
        ("CategoricalAccuracy", {}),
    ],
)
def test_keras_on_several_columns(rng, name, options, weighted):
    theirs = getattr(keras_metrics(), name)(**options)
    p = scores(rng, 4).astype(np.float32).astype(np.float64)
    p /= p.sum(1, keepdims=True)
    y = np.eye(4)[[rng.choice(4, p=row) for row in p]]
    weight = rng.random(SAMPLES) if weighted and "multi_label" not in options else None
    theirs.update_state(y, p, sample_weight=weight)
    ours = getattr(metrics, name)(**options)
    result = through_softmax(p, y, [ours], weight)[ours.name]
    np.testing.assert_allclose(result, np.asarray(theirs.result()), rtol=3e-5)


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_top_k(rng, k):
    p = scores(rng, 9)
    labels = np.array([rng.choice(9, p=row) for row in p])
    result = through_softmax(
        p, labels, [metrics.SparseTopKCategoricalAccuracy(k, name="top")], sparse=True
    )["top"]
    expected = sklearn_metrics.top_k_accuracy_score(labels, p, k=k, labels=np.arange(9))
    assert math.isclose(result, expected, rel_tol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_confusion_matrix(rng, sparse):
    p = scores(rng, 6)
    labels = np.array([rng.choice(6, p=row) for row in p])
    weight = rng.random(SAMPLES)
    y = labels if sparse else np.eye(6)[labels]
    result = through_softmax(p, y, ["confusion_matrix"], weight, sparse)["confusion_matrix"]
    expected = sklearn_metrics.confusion_matrix(labels, p.argmax(1), sample_weight=weight)
    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_confusion_matrix_of_one_column(rng):
    p = scores(rng, 1)
    y = (rng.random((SAMPLES, 1)) < p).astype(float)
    result = through_sigmoid(p, y, ["confusion_matrix"])["confusion_matrix"]
    np.testing.assert_array_equal(result, sklearn_metrics.confusion_matrix(y[:, 0], p[:, 0] > 0.5))


@pytest.mark.parametrize("normalize", [None, "true", "pred", "all"])
def test_the_function_confusion_matrix(rng, normalize):
    true, found = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    result = metrics.confusion_matrix(true, np.eye(4)[found], normalize=normalize)
    expected = sklearn_metrics.confusion_matrix(true, found, normalize=normalize)
    np.testing.assert_allclose(result, expected)


# ---- regression ----------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("average", "theirs"),
    [
        ("uniform_average", "uniform_average"),
        ("variance_weighted_average", "variance_weighted"),
        (None, "raw_values"),
    ],
)
def test_r2(rng, average, theirs, weighted):
    x = rng.standard_normal((SAMPLES, 3))
    y = x * [1.0, 0.5, -2.0] + rng.standard_normal((SAMPLES, 3)) + 5.0
    weight = rng.random(SAMPLES) if weighted else None
    model = passing(3, "linear", "mse", [metrics.R2Score(average)])
    result = model.evaluate(x, y, sample_weight=weight)[1]
    expected = sklearn_metrics.r2_score(y, x, sample_weight=weight, multioutput=theirs)
    np.testing.assert_allclose(result, expected, rtol=1e-11)


def test_errors_by_their_classes(rng):
    x, y = rng.standard_normal((2, 50, 1))
    wanted = [metrics.MeanSquaredError(), metrics.MeanAbsoluteError(), "rmse"]
    result = passing(1, "linear", "mse", wanted).evaluate(x, y, return_dict=True)
    error = x - y
    assert math.isclose(result["mean_squared_error"], (error**2).mean(), rel_tol=1e-12)
    assert math.isclose(result["mean_absolute_error"], np.abs(error).mean(), rel_tol=1e-12)


# ---- while training ------------------------------------------------------------------------------


def test_counts_begin_anew_each_epoch_and_do_not_depend_on_threads(rng):
    x = rng.standard_normal((700, 6))
    y = rng.integers(0, 3, 700)
    found = []
    for threads in (1, 2):
        fusednn.set_num_threads(threads)
        model = fusednn.Sequential([layers.Dense(16, activation="relu"), layers.Dense(3)])
        wanted = ["confusion_matrix", "f1_score", "accuracy"]
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=wanted, seed=3)
        weight = np.random.default_rng(1).random(700)
        history = model.fit(x, y, 64, 3, verbose=0, sample_weight=weight, validation_split=0.2)
        found.append(history.history)
    fusednn.set_num_threads(2)
    for matrix, accuracy in zip(found[0]["confusion_matrix"], found[0]["accuracy"], strict=True):
        assert math.isclose(matrix.sum(), weight[:560].sum(), rel_tol=1e-7)
        assert math.isclose(matrix.trace() / matrix.sum(), accuracy, rel_tol=1e-6)
    assert found[0]["val_confusion_matrix"][0].sum() < 140
    for name in found[0]:
        for one, two in zip(found[0][name], found[1][name], strict=True):
            np.testing.assert_array_equal(one, two)


def test_the_progress_line_shows_arrays(rng, capsys):
    model = passing(4, "softmax", "sparse_categorical_crossentropy", ["f1_score"])
    model.fit(rng.standard_normal((20, 4)), rng.integers(0, 4, 20), verbose=2)
    assert "f1_score: [" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::fusednn.interpreter.engine.SlowPathWarning")
def test_a_model_with_parts_in_python_counts_alike(rng):
    class Same(layers.CustomLayer):
        def forward(self, x, training):
            return x

        def backward(self, gradient):
            return gradient

    p = scores(rng, 4)
    labels = np.array([rng.choice(4, p=row) for row in p])
    wanted = [
        "confusion_matrix", "f1_score", metrics.AUC(multi_label=True),
        metrics.Precision(top_k=2, class_id=1), metrics.SparseTopKCategoricalAccuracy(2),
    ]  # fmt: skip
    results = []
    for extra in ([], [Same()]):
        model = fusednn.Sequential(
            [*extra, layers.Dense(4, use_bias=False, activation="softmax")], input_shape=(4,)
        )
        model.compile("adam", "sparse_categorical_crossentropy", metrics=wanted, seed=0)
        model.set_weights([np.eye(4)])
        results.append(model.evaluate(np.log(p), labels, return_dict=True))
    for name, value in results[0].items():
        np.testing.assert_allclose(results[1][name], value, rtol=1e-6)


# ---- what does not fit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "loss", "metric", "message"),
    [
        (3, "sparse_categorical_crossentropy", metrics.AUC(), "activation='softmax'"),
        (3, "mse", metrics.Precision(class_id=3), "class_id=3 does not fit"),
        (3, "mse", metrics.Recall(top_k=4), "top_k=4 does not fit"),
        (3, "sparse_categorical_crossentropy", "r2_score", "compares with values"),
    ],
)
def test_metrics_that_do_not_fit(columns, loss, metric, message):
    with pytest.raises(ValueError, match=message):
        passing(columns, "linear", loss, [metric])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: metrics.AUC(curve="ROK"), "ROC"),
        (lambda: metrics.Precision(1.5), "thresholds"),
        (lambda: metrics.F1Score("mean"), "micro"),
        (lambda: metrics.R2Score("sum"), "uniform_average"),
        (lambda: metrics.confusion_matrix([0, 1], [0]), "2 samples"),
        (lambda: metrics.confusion_matrix([0, 3], [0, 1], num_classes=2), "num_classes=2"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", metrics.__all__)
def test_every_metric_survives_serialize(name):
    kind = getattr(metrics, name)
    if not isinstance(kind, type) or kind is metrics.Metric:
        return
    options = {
        "LossMetric": ("mse",),
        "SensitivityAtSpecificity": (0.5,), "SpecificityAtSensitivity": (0.5,),
        "PrecisionAtRecall": (0.5,), "RecallAtPrecision": (0.5,),
    }.get(name, ())  # fmt: skip
    metric = kind(*options)
    metric.name = "mine"
    again = metrics.get(metric.serialize())
    assert (type(again), again.name) == (kind, "mine")
    assert again.get_config() == metric.get_config()
