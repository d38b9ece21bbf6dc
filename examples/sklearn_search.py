# SPDX-License-Identifier: Apache-2.0
"""A search over 24 networks, as a grid and by successive halving.

python examples/sklearn_search.py
"""

from __future__ import annotations

import time
import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fusednn.sklearn import FusedSearchCV, MLPClassifier

GRID = {
    "mlpclassifier__hidden_layer_sizes": [(32,), (64,), (64, 32)],
    "mlpclassifier__learning_rate_init": [1e-4, 1e-3, 1e-2, 1e-1],
    "mlpclassifier__alpha": [1e-4, 1e-1],
}


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=27, random_state=0))
    for kind in ("grid", "halving"):
        start = time.perf_counter()
        search = FusedSearchCV(
            pipeline, GRID, search=kind, resource="mlpclassifier__max_iter", cv=3
        ).fit(X, y)
        seconds = time.perf_counter() - start
        print(f"{kind:8s} {seconds:5.2f} s  accuracy {search.best_score_:.4f}")
        for name, value in search.best_params_.items():
            print(f"    {name.split('__')[1]} = {value}")


if __name__ == "__main__":
    main()
