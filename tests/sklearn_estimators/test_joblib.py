# SPDX-License-Identifier: Apache-2.0
"""Under joblib's backends: same results, and no more threads than processors."""

from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusednn.sklearn import FusedSearchCV, MLPClassifier

X, Y = load_digits(return_X_y=True)
GRID = {"mlpclassifier__hidden_layer_sizes": [(8,), (16,)], "mlpclassifier__alpha": [1e-4, 1.0]}
TASKS = 4

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def estimator():
    columns = make_column_transformer((StandardScaler(), slice(0, 32)), remainder="passthrough")
    return make_pipeline(columns, MLPClassifier(max_iter=4, random_state=0))


def threads_here(_):
    """Return how many threads a model that is trained here would use."""
    import fusednn
    from fusednn.sklearn.threads import thread_limit

    return thread_limit() or fusednn.get_num_threads()


@pytest.fixture(scope="module")
def expected():
    return GridSearchCV(estimator(), GRID, cv=3, n_jobs=1).fit(X, Y).cv_results_["mean_test_score"]


def assert_good_workplace(expected):
    """Search inside of the backend that is active, and ask its workers for their threads."""
    for kind, options in ((GridSearchCV, {"n_jobs": 2}), (FusedSearchCV, {})):
        search = kind(estimator(), GRID, cv=3, **options).fit(X, Y)
        np.testing.assert_array_equal(search.cv_results_["mean_test_score"], expected)
    asked = joblib.Parallel(n_jobs=2)(joblib.delayed(threads_here)(i) for i in range(TASKS))
    assert max(asked) <= max((os.cpu_count() or 1) // 2, 1)


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_backend(backend, expected):
    with joblib.parallel_config(backend, n_jobs=2):
        assert_good_workplace(expected)


def test_dask(expected):
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
    ):
        assert_good_workplace(expected)


def test_a_thread_of_the_callers_own_may_use_all_threads():
    from concurrent.futures import ThreadPoolExecutor

    import fusednn

    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(threads_here, range(2))) == [fusednn.get_num_threads()] * 2
