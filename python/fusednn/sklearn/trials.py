# SPDX-License-Identifier: Apache-2.0
"""The fits of a search over the folds of one data set: what they share is done once.

scikit-learn clones, splits, examines and scores anew for each fit, one thread at a time, which
takes as long as training a small network does.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from fusednn.sklearn.base import BaseMLP
from fusednn.sklearn.engine import Engine


@dataclass(frozen=True)
class Part:
    """Rows of a data set, as they were given."""

    X: np.ndarray
    y: np.ndarray

    def score(self, estimator: BaseMLP) -> float:
        """Return what the estimator scores on them."""
        return float(estimator.score(self.X, self.y))


@dataclass(frozen=True)
class Fold:
    """A split, and what an examination of its training rows has found.

    Attributes
    ----------
    train, test : Part
    targets : array
        Of the training rows: a matrix of one column per output.
    attributes : dict
        Of an estimator that has examined the training rows.
    """

    train: Part
    test: Part
    targets: np.ndarray
    attributes: Mapping[str, Any]


def fold_of(estimator: BaseMLP, X: np.ndarray, y: np.ndarray, split: Any) -> Fold:
    """Return the fold of a split of data in which an examination finds nothing to convert."""
    train, test = (Part(X[rows], y[rows]) for rows in split)
    examiner = clone(estimator)
    own = set(vars(examiner))
    _, targets = examiner._validate_input(train.X, train.y, False, reset=True)
    found = {name: value for name, value in vars(examiner).items() if name not in own}
    return Fold(train, test, targets, found)


def evaluate(
    estimator: BaseMLP,
    parameters: Mapping[str, Any],
    fold: Fold,
    search: Any,
    engines: list[Engine],
) -> dict[str, Any]:
    """Fit a clone of an estimator and return what scikit-learn's search notes of a fit.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    parameters : dict
        That the clone is to have.
    fold : Fold
    search : FusedSearchCV
        Has `error_score` and `return_train_score`.
    engines : list of Engine
        Of fits that are over. The network of the last is taken for the next, if it fits.
    """
    model = estimator._like(parameters)
    with contextlib.suppress(IndexError):  # another thread may have taken the last
        model._engine = engines.pop()
    parts = {"test_scores": fold.test}
    if search.return_train_score:
        parts["train_scores"] = fold.train
    noted: dict[str, Any] = {"fit_error": None, "n_test_samples": len(fold.test.X)}
    begin = time.perf_counter()
    try:
        model._fit_examined(fold.train.X, fold.targets, fold.attributes)
    except Exception:
        if search.error_score == "raise":
            raise
        noted["fit_error"] = traceback.format_exc()
    end = time.perf_counter()
    failed = noted["fit_error"] is not None
    for name, part in parts.items():
        noted[name] = search.error_score if failed else part.score(model)
    noted["fit_time"] = end - begin
    noted["score_time"] = 0.0 if failed else time.perf_counter() - end
    if not failed:
        engines.append(model._engine)
    return noted
