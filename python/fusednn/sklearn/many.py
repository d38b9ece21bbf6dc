# SPDX-License-Identifier: Apache-2.0
"""Many small networks trained at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sklearn.utils import _safe_indexing

from fusednn import _core
from fusednn.errors import check_integer
from fusednn.sklearn.threads import in_threads, one_thread_per_model


def fit_many(
    estimators: Iterable[Any],
    X: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    rows: Sequence[Any] | None = None,
    n_jobs: int | None = None,
) -> list[Any]:
    """Fit several estimators, one thread to each, over the same data in the same memory.

    Results are the same bits as those of one fit after the other.

    Parameters
    ----------
    estimators : iterable of estimators
        With the parameters they are to have: seeds, sizes, rates.
    X, y, sample_weight
        As for `fit`.
    rows : list of arrays of int, optional
        The rows that each estimator sees, in place of all: folds, bootstrap samples.
    n_jobs : int, optional
        How many at once, by default as many as there are threads.

    Returns
    -------
    list of estimators
        The same objects, fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fusednn.sklearn import MLPClassifier, fit_many
    >>> X, y = load_iris(return_X_y=True)
    >>> members = [MLPClassifier((8,), max_iter=30, tol=1, random_state=i) for i in range(4)]
    >>> len(fit_many(members, X, y))
    4
    """
    members = list(estimators)
    if rows is not None and len(rows) != len(members):
        raise ValueError(f"rows must have one entry per estimator, {len(members)}, got {len(rows)}")
    workers = _core.num_threads() if n_jobs is None else check_integer("n_jobs", n_jobs, 1)

    def fit(place: int) -> Any:
        some = None if rows is None else rows[place]
        data = [_chosen(array, some) for array in (X, y, sample_weight)]
        given = {} if sample_weight is None else {"sample_weight": data[2]}
        return members[place].fit(data[0], data[1], **given)

    with one_thread_per_model():
        return in_threads(fit, range(len(members)), workers)


def _chosen(array: Any, rows: Any) -> Any:
    return array if rows is None or array is None else _safe_indexing(array, rows)
