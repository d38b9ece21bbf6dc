# SPDX-License-Identifier: Apache-2.0
"""L-BFGS: gradients against differences, results beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning

from fusednn.sklearn import MLPClassifier, MLPRegressor
from fusednn.sklearn.base import _samples
from fusednn.sklearn.engine import Penalty


def problem(loss, columns):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(23, 4))
    y = np.abs(rng.normal(size=(23, columns)))
    model = MLPRegressor(loss, (5, 3), "tanh", max_iter=1, random_state=0)
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y.squeeze())
    engine = model._engine
    weight = rng.random(23)
    return engine, _samples(X, y, weight, engine.settings.objective, engine)


@pytest.mark.parametrize("loss", ["squared_error", "poisson", "huber", "log_cosh"])
@pytest.mark.parametrize("columns", [1, 3])
def test_the_gradient_is_that_of_the_value(loss, columns, monkeypatch):
    monkeypatch.setattr("fusednn.sklearn.engine._GRADIENT_ROWS", 10)
    engine, samples = problem(loss, columns)
    penalty = Penalty(0.3, 0.01)
    at = engine.pack()
    _, gradient = engine.value_and_gradient(at, samples, penalty)
    step = 1e-6
    for i in range(len(at)):
        there = np.zeros_like(at)
        there[i] = step
        ahead, _ = engine.value_and_gradient(at + there, samples, penalty)
        behind, _ = engine.value_and_gradient(at - there, samples, penalty)
        assert gradient[i] == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-8)


# An older scikit-learn on a newer SciPy.
@pytest.mark.filterwarnings("ignore:scipy.optimize. The .disp.:DeprecationWarning")
def test_the_optimum_is_scikit_learns():
    X, y = load_diabetes(return_X_y=True)
    params = {"solver": "lbfgs", "max_iter": 25, "random_state": 0, "alpha": 0.1}
    models = [neural_network.MLPRegressor(**params), MLPRegressor(**params)]
    texts = []
    for model in models:
        with pytest.warns(ConvergenceWarning, match="failed to converge") as noted:
            model.fit(10 * X, y / 100)
        texts.append([str(w.message) for w in noted if w.category is ConvergenceWarning])
    theirs, ours = models
    assert texts[0] == texts[1]
    assert ours.n_iter_ == theirs.n_iter_ == 25
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-4)
    np.testing.assert_allclose(ours.predict(10 * X), theirs.predict(10 * X), atol=0.05)


def test_float32_in_float32_out_and_no_loss_on_the_way():
    X, y = load_iris(return_X_y=True)
    params = {"solver": "lbfgs", "random_state": 1, "alpha": 1.0, "max_iter": 500}
    wide = MLPClassifier(**params).fit(X, y)
    narrow = MLPClassifier(**params).fit(X.astype(np.float32), y)
    assert narrow.coefs_[0].dtype == np.float32
    assert narrow.loss_ == pytest.approx(wide.loss_, rel=1e-3)


NEEDS_BATCHES = [
    {"dropout": 0.1},
    {"batch_norm": True},
    {"clipnorm": 1.0},
    {"optimizer_params": {"beta_1": 0.5}},
    {"schedule": float},
]


@pytest.mark.parametrize("params", NEEDS_BATCHES, ids=str)
def test_what_needs_batches_is_refused(params):
    with pytest.raises(ValueError, match=r"needs a solver that works batch by batch"):
        MLPClassifier(solver="lbfgs", **params).fit([[0.0], [1.0]], [0, 1])


def test_validation_data_need_batches_too():
    data = [[0.0], [1.0]], [0, 1]
    with pytest.raises(ValueError, match=r"validation_data.* batch by batch"):
        MLPClassifier(solver="lbfgs").fit(*data, validation_data=data)
