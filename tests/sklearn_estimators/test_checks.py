# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's own checks of estimators. No failure is expected, so none is listed."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusednn.sklearn import FusedSearchCV, MLPClassifier, MLPRegressor, compat


class Falling:
    """A schedule whose text is the same in every process: it is part of the names of tests."""

    def __call__(self, step):
        return 0.01 / (1 + 0.01 * step)

    def __repr__(self):
        return "Falling()"


# The checks set the seed of the search, not that of the estimator in it.
QUICK = {"learning_rate_init": 0.02, "max_iter": 60, "random_state": 0}
GRID = {"alpha": [1e-4, 1e-2]}
SEARCHES = [
    FusedSearchCV(MLPClassifier((32,), **QUICK), GRID, cv=2),
    FusedSearchCV(MLPRegressor(**QUICK), GRID, search="halving", factor=2, cv=2),
]
if compat.VERSION < (1, 6):  # expects failures of every GridSearchCV
    SEARCHES = []


@parametrize_with_checks(
    [
        MLPClassifier(max_iter=100),
        MLPClassifier(solver="lbfgs", max_iter=20),
        MLPClassifier(max_iter=60, solver="nadam", activation=["gelu"], l1=1e-4, clipnorm=1.0),
        MLPRegressor(max_iter=100),
        MLPRegressor(solver="lbfgs"),
        MLPRegressor("huber", max_iter=60, solver="radam", schedule=Falling()),
        *SEARCHES,
    ]
)
def test_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Of a search that is given what nobody can be fitted to.
        warnings.simplefilter("ignore", FitFailedWarning)
        warnings.filterwarnings("ignore", "Scoring failed|One or more of|invalid value encountered")
        check(estimator)
