# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's own checks of estimators. No failure is expected, so none is listed."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.estimator_checks import parametrize_with_checks

from fusednn.sklearn import MLPClassifier, MLPRegressor


class Falling:
    """A schedule whose text is the same in every process: it is part of the names of tests."""

    def __call__(self, step):
        return 0.01 / (1 + 0.01 * step)

    def __repr__(self):
        return "Falling()"


@parametrize_with_checks(
    [
        MLPClassifier(max_iter=100),
        MLPClassifier(solver="lbfgs", max_iter=20),
        MLPClassifier(max_iter=60, solver="nadam", activation=["gelu"], l1=1e-4, clipnorm=1.0),
        MLPRegressor(max_iter=100),
        MLPRegressor(solver="lbfgs"),
        MLPRegressor("huber", max_iter=60, solver="radam", schedule=Falling()),
    ]
)
def test_check(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)
