# SPDX-License-Identifier: Apache-2.0
"""Step by step the same as scikit-learn's perceptrons, wherever both know the arguments."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_digits, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning

import fusednn.sklearn

DIGITS = load_digits(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
SEVERAL = make_multilabel_classification(300, random_state=0)
PAIRS = [
    (getattr(neural_network, name), getattr(fusednn.sklearn, name))
    for name in ("MLPClassifier", "MLPRegressor")
]
SCALARS = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "_no_improvement_count")


def fit_both(pair, X, y, *weight, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [kind(**{"random_state": 3, **params}).fit(X, y, *weight) for kind in pair]


def weights(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same(theirs, ours, rtol=1e-9):
    for a, b in zip(weights(theirs), weights(ours), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b, a, rtol=rtol, atol=rtol)
    for name in SCALARS:
        assert getattr(theirs, name) == getattr(ours, name), name
    for name in ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_"):
        a, b = getattr(theirs, name), getattr(ours, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_allclose(b, a, rtol=rtol, err_msg=name)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=rtol)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)
def test_the_constructor_begins_with_theirs(pair):
    theirs, ours = (list(inspect.signature(kind).parameters.values()) for kind in pair)
    if theirs[0].name != "loss" and ours[0].name == "loss":  # before scikit-learn 1.7
        ours = ours[1:]
    shared = [p.replace(annotation=inspect.Parameter.empty) for p in ours[: len(theirs)]]
    assert shared == theirs
    assert all(p.kind is p.KEYWORD_ONLY for p in ours[len(theirs) :])


@pytest.mark.parametrize(
    "params",
    [
        {"max_iter": 12},
        {"max_iter": 12, "early_stopping": True},
        {"max_iter": 6, "alpha": 3.0, "hidden_layer_sizes": (30, 20), "activation": "tanh"},
        {"max_iter": 5, "hidden_layer_sizes": (), "beta_1": 0.8, "beta_2": 0.99, "epsilon": 1e-3},
        {"max_iter": 6, "activation": "logistic", "batch_size": 77, "shuffle": False},
        {"max_iter": 6, "activation": "identity", "tol": 0.5, "n_iter_no_change": 1},
        {"solver": "sgd", "max_iter": 8, "learning_rate": "invscaling", "power_t": 0.25},
        {"solver": "sgd", "max_iter": 30, "learning_rate": "adaptive", "tol": 0.05, "alpha": 0.5},
        {"solver": "sgd", "max_iter": 8, "momentum": 0.5, "nesterovs_momentum": False},
        {"solver": "sgd", "max_iter": 8, "momentum": 0.0},
    ],
    ids=str,
)
def test_digits(params):
    assert_same(*fit_both(PAIRS[0], DIGITS[0] / 16, DIGITS[1], **params))


@pytest.mark.parametrize(
    ("X", "y", "params"),
    [
        (DIGITS[0] / 16, DIGITS[1] > 4, {"early_stopping": True}),
        (*SEVERAL, {"early_stopping": True}),
    ],
    ids=["two classes", "several labels"],
)
def test_other_kinds_of_classes(X, y, params):
    theirs, ours = fit_both(PAIRS[0], X, y, max_iter=10, **params)
    assert_same(theirs, ours)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    np.testing.assert_allclose(ours.predict_log_proba(X), theirs.predict_log_proba(X), atol=1e-9)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_regression(loss, columns, early_stopping):
    if "loss" not in inspect.signature(PAIRS[1][0]).parameters:
        pytest.skip("scikit-learn's regressor has one loss before 1.7")
    X, y = DIABETES
    y = y / 100 if columns == 1 else np.c_[y / 100, y[::-1] / 50]
    params = {"loss": loss, "early_stopping": early_stopping, "alpha": 0.5, "max_iter": 12}
    theirs, ours = fit_both(PAIRS[1], X, y, **params)
    assert_same(theirs, ours)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)


def takes_weights():
    return "sample_weight" in inspect.signature(PAIRS[0][0].fit).parameters


@pytest.mark.skipif(not takes_weights(), reason="scikit-learn has no weights before 1.7")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_sample_weight(early_stopping):
    X, y = DIGITS[0] / 16, DIGITS[1]
    weight = np.random.default_rng(0).random(len(X))
    params = {"max_iter": 8, "alpha": 10.0, "early_stopping": early_stopping, "batch_size": 100}
    assert_same(*fit_both(PAIRS[0], X, y, weight, **params))
    weight = weight[: len(DIABETES[0])]
    assert_same(*fit_both(PAIRS[1], DIABETES[0], DIABETES[1] / 100, weight, **params))


def test_float32():
    X, y = (DIGITS[0] / 16).astype(np.float32), DIGITS[1]
    theirs, ours = fit_both(PAIRS[0], X, y, max_iter=5)
    assert_same(theirs, ours, rtol=2e-4)
    assert ours.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix])
def test_sparse_rows_in_several_portions(container, monkeypatch):
    monkeypatch.setattr("fusednn.sklearn.architecture._DENSE_ELEMENTS", 64 * 300)
    X, y = DIGITS[0] / 16, DIGITS[1]
    for shuffle in (True, False):
        params = {"max_iter": 4, "shuffle": shuffle, "batch_size": 100}
        theirs, _ = fit_both(PAIRS[0], X, y, **params)
        ours = fit_both(PAIRS[0][1:], container(X), y, **params)[0]
        assert_same(theirs, ours)
        np.testing.assert_array_equal(ours.predict(container(X)), theirs.predict(X))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_warm_start(pair, solver):
    X, y = DIGITS[0] / 16, DIGITS[1]
    classes = {"classes": np.arange(10)} if pair is PAIRS[0] else {}
    theirs, ours = (kind(solver=solver, random_state=0) for kind in pair)
    for part in range(4):
        rows = slice(400 * part, 400 * (part + 1))
        for model in (theirs, ours):
            model.partial_fit(X[rows], y[rows], **(classes if part == 0 else {}))
    assert_same(theirs, ours)
    for model in (theirs, ours):
        model.set_params(warm_start=True, max_iter=2)
        with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
            model.fit(X, y)
    assert_same(theirs, ours)


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")], ids=str)
@pytest.mark.parametrize("how", ["partial_fit", "warm_start"])
def test_going_on_with_other_data_keeps_the_dtype(dtypes, how):
    X, y = DIABETES
    found = []
    for kind in PAIRS[1]:
        model = kind(max_iter=2, random_state=0, warm_start=True)
        for dtype in dtypes:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                (model.fit if how == "warm_start" else model.partial_fit)(X.astype(dtype), y)
        found.append(model)
    assert {array.dtype.name for array in weights(found[1])} == {dtypes[0]}
    assert_same(*found, rtol=1e-4)


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[1].__name__)
def test_a_subclass_may_have_a_constructor_of_its_own(pair):
    found = []
    for kind in pair:

        class Small(kind):
            def __init__(self, size=10, random_state=0):
                more = {"max_iter": 5, "random_state": random_state}
                super().__init__(hidden_layer_sizes=(size,), **more)
                self.size = size

        with pytest.warns(ConvergenceWarning):
            found.append(Small(4).fit(DIGITS[0] / 16, DIGITS[1]))
    assert_same(*found)


@pytest.mark.parametrize("verbose", [True])
def test_the_same_lines_are_printed(verbose, capsys):
    texts = []
    for kind in PAIRS[0]:
        fit_both([kind], *DIGITS, max_iter=40, tol=0.1, verbose=verbose, n_iter_no_change=2)
        fit_both([kind], *DIGITS, max_iter=3, early_stopping=True, verbose=verbose)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert "Stopping." in texts[1]
