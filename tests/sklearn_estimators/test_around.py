# SPDX-License-Identifier: Apache-2.0
"""Conversion, the autoencoder, many models at once, and the searches."""

from __future__ import annotations

import functools
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn import neural_network
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import BaggingClassifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusednn.sklearn import (
    AutoencoderTransformer,
    FusedSearchCV,
    MLPClassifier,
    MLPRegressor,
    fit_many,
    from_sklearn,
    to_sklearn,
)
from fusednn.sklearn.threads import in_threads

X, Y = load_digits(return_X_y=True)
X = X / 16

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks(
    [
        AutoencoderTransformer(max_iter=5),
        AutoencoderTransformer(1, (), max_iter=5, code_activation="tanh"),
    ]
)
def test_check_of_the_autoencoder(estimator, check):
    check(estimator)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_training_goes_on_in_the_other_house(solver):
    theirs = neural_network.MLPClassifier(solver=solver, random_state=0, max_iter=5).fit(X, Y)
    ours = from_sklearn(theirs)
    back = to_sklearn(ours)
    assert type(back) is type(theirs)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12)
    copy = pickle.loads(pickle.dumps(ours))
    for _ in range(3):
        for model in (theirs, ours, back, copy):
            model.partial_fit(X, Y)
    for model in (ours, back, copy):
        assert model.loss_curve_ == pytest.approx(theirs.loss_curve_)
        for a, b in zip(model.coefs_, theirs.coefs_, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
    forth = to_sklearn(ours.partial_fit(X, Y))
    forth.partial_fit(X, Y)
    ours.partial_fit(X, Y)
    np.testing.assert_allclose(forth.coefs_[1], ours.coefs_[1], atol=1e-12)


def test_conversion_of_a_regressor_and_of_one_not_fitted():
    data, y = load_diabetes(return_X_y=True)
    theirs = neural_network.MLPRegressor(hidden_layer_sizes=(7, 5), max_iter=9)
    ours = from_sklearn(theirs)
    assert ours.get_params()["hidden_layer_sizes"] == (7, 5)
    assert not hasattr(ours, "coefs_")
    theirs.fit(data, y)
    np.testing.assert_allclose(from_sklearn(theirs).predict(data), theirs.predict(data), rtol=1e-12)


@pytest.mark.parametrize(
    "params",
    [{"activation": "gelu"}, {"solver": "nadam"}, {"batch_norm": True}, {"loss": "hinge"}],
    ids=str,
)
def test_what_scikit_learn_does_not_have_cannot_go_there(params):
    (name,) = params
    with pytest.raises(ValueError, match=f"scikit-learn has no {name}"):
        to_sklearn(MLPClassifier(**params))


@pytest.mark.parametrize(("ours", "theirs"), [("sigmoid", "logistic"), ("linear", "identity")])
def test_activations_with_two_names(ours, theirs):
    model = MLPClassifier((9,), ours, max_iter=2, random_state=0).fit(X, Y)
    there = to_sklearn(model)
    assert there.activation == theirs
    np.testing.assert_allclose(there.predict_proba(X), model.predict_proba(X), rtol=1e-12)


def test_conversion_refuses_strangers():
    with pytest.raises(TypeError, match=r"sklearn\.neural_network\.MLPC.*got sklearn.*Scaler"):
        from_sklearn(StandardScaler())
    with pytest.raises(TypeError, match=r"got fusednn\.sklearn\.classifier\.MLPClassifier"):
        from_sklearn(MLPClassifier())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_autoencoder(batch_norm):
    encoder = AutoencoderTransformer(
        10, (48,), max_iter=60, random_state=0, batch_norm=batch_norm, learning_rate_init=0.01
    )
    codes = encoder.fit_transform(X)
    assert codes.shape == (len(X), 10)
    restored = encoder.inverse_transform(codes)
    np.testing.assert_allclose(restored, encoder.network_.predict(X), rtol=1e-10, atol=1e-12)
    assert np.mean((restored - X) ** 2) < 0.35 * X.var(axis=0).mean()
    np.testing.assert_array_equal(encoder.transform(sparse.csr_matrix(X)), codes)
    assert list(encoder.get_feature_names_out()[:1]) == ["autoencodertransformer0"]


def test_many_at_once_are_the_same_as_one_by_one():
    def members():
        return [MLPClassifier((16,), max_iter=5, random_state=i) for i in range(5)]

    together = fit_many(members(), X, Y)
    for one, other in zip(members(), together, strict=True):
        np.testing.assert_array_equal(one.fit(X, Y).coefs_[0], other.coefs_[0])
    rows = [np.arange(i, len(X), 2) for i in range(5)]
    weight = np.linspace(0, 1, len(X))
    parts = fit_many(members(), X, Y, sample_weight=weight, rows=rows, n_jobs=3)
    alone = members()[4].fit(X[rows[4]], Y[rows[4]], weight[rows[4]])
    np.testing.assert_array_equal(parts[4].coefs_[1], alone.coefs_[1])
    with pytest.raises(ValueError, match="one entry per estimator"):
        fit_many(members(), X, Y, rows=rows[:2])


def test_no_more_is_begun_where_one_fails():
    begun = []

    def work(item):
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        time.sleep(0.001)
        return -item

    with pytest.raises(ValueError, match="three"):
        in_threads(work, range(1000), 2)
    assert len(begun) < 1000
    assert in_threads(work, range(4, 50), 3) == [-item for item in range(4, 50)]


LONG = {"max_iter": 10**6, "tol": 0.0, "n_iter_no_change": 10**6, "hidden_layer_sizes": (64, 64)}
ENDLESS = [
    LONG,
    {**LONG, "validation_fraction": 0.5, "early_stopping": True},  # epoch by epoch
    {**LONG, "solver": "lbfgs", "max_fun": 10**9},
]


@pytest.mark.parametrize("options", ENDLESS, ids=["ahead", "epochs", "lbfgs"])
@pytest.mark.parametrize("search", [True, False])
@pytest.mark.filterwarnings("ignore:Training interrupted by user")
def test_an_interrupt_ends_the_models_in_other_threads(search, options):
    endless = [MLPRegressor(**options, alpha=alpha) for alpha in (0.1, 0.2)]
    if search:
        run = FusedSearchCV(endless[0], {"alpha": [0.1, 0.2]}, cv=2).fit
    else:
        run = functools.partial(fit_many, endless)
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(X, Y)
    assert time.perf_counter() - begin < 10


GRID = {"hidden_layer_sizes": [(8,), (16,)], "alpha": [1e-4, 1e-1]}


def model(**params):
    return MLPClassifier(**{"max_iter": 6, "random_state": 0, **params})


def test_the_search_finds_what_scikit_learns_search_finds():
    fused = FusedSearchCV(model(), GRID, cv=3, return_train_score=True).fit(X, Y)
    plain = GridSearchCV(model(), GRID, cv=3, return_train_score=True).fit(X, Y)
    assert set(fused.cv_results_) == set(plain.cv_results_)
    for key, values in plain.cv_results_.items():
        if "time" not in key and key != "params":
            assert list(values) == list(fused.cv_results_[key])
    assert fused.best_params_ == plain.best_params_
    np.testing.assert_array_equal(fused.predict(X), plain.predict(X))


def test_random_search_draws_what_scikit_learns_draws():
    options = {"n_iter": 3, "random_state": 5, "cv": 3}
    fused = FusedSearchCV(model(), GRID, search="random", **options).fit(X, Y)
    plain = RandomizedSearchCV(model(), GRID, **options).fit(X, Y)
    assert fused.cv_results_["params"] == plain.cv_results_["params"]


def test_halving_gives_more_epochs_to_fewer():
    pipeline = make_pipeline(StandardScaler(), model(max_iter=27))
    grid = {"mlpclassifier__learning_rate_init": [1e-5, 1e-4, 1e-3, 1e-2] * 3}
    search = FusedSearchCV(
        pipeline, grid, search="halving", resource="mlpclassifier__max_iter", cv=3
    ).fit(X, Y)
    assert list(search.cv_results_["n_resources"]) == [3] * 12 + [9] * 4 + [27] * 2
    assert search.best_params_["mlpclassifier__learning_rate_init"] == 1e-2
    assert search.best_estimator_.named_steps["mlpclassifier"].n_iter_ == 27


def test_a_search_that_is_none():
    with pytest.raises(ValueError, match="did you mean 'halving'"):
        FusedSearchCV(model(), GRID, search="halfing").fit(X, Y)


@pytest.mark.parametrize(
    ("grid", "options", "message"),
    [
        (GRID, {"resource": "max_itre"}, "did you mean 'max_iter'"),
        ([], {}, "No fits were performed"),
        ({**GRID, "max_iter": [3, 9]}, {}, "max_iter is the resource"),
        (GRID, {"scoring": ["accuracy", "f1_macro"], "refit": False}, "got refit=False"),
    ],
    ids=["resource", "empty", "grid", "scores"],
)
def test_halving_says_what_is_wrong(grid, options, message):
    with pytest.raises(ValueError, match=message):
        FusedSearchCV(model(max_iter=9), grid, search="halving", cv=2, **options).fit(X, Y)


def test_halving_of_a_power_of_its_factor():
    quick = MLPClassifier((1,), max_iter=243, tol=1e9, n_iter_no_change=1, random_state=0)
    grid = {"alpha": np.logspace(-6, 0, 243)}  # math.log(243, 3) is less than 5
    search = FusedSearchCV(quick, grid, search="halving", cv=2, refit=False).fit(X[:40], Y[:40])
    assert np.bincount(search.cv_results_["iter"]).tolist() == [243, 81, 27, 9, 3, 1]


def test_inside_other_estimators():
    columns = make_column_transformer((StandardScaler(), slice(0, 32)), remainder="passthrough")
    whole = make_pipeline(columns, model(max_iter=20))
    assert whole.fit(X, Y).score(X, Y) > 0.8
    for backend in ("loky", "threading"):
        import joblib

        with joblib.parallel_config(backend, n_jobs=2):
            bag = BaggingClassifier(model(), n_estimators=2, random_state=0).fit(X, Y)
            assert bag.score(X, Y) > 0.5
    several = GridSearchCV(MLPRegressor(max_iter=3), {"alpha": [0.1, 1.0]}, cv=2, n_jobs=2)
    assert len(several.fit(X, X[:, :2]).cv_results_["params"]) == 2
