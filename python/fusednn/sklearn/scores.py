# SPDX-License-Identifier: Apache-2.0
"""Accuracy and R² of arrays that are known to be good, once per epoch."""

from __future__ import annotations

import numpy as np


def accuracy(right: np.ndarray, weight: np.ndarray | None) -> float:
    """Return the share of rows that are right; a matrix is right in a row where all columns are."""
    rows = right.all(axis=1) if right.ndim == 2 else right
    return float(np.average(rows, weights=weight))


def r2(targets: np.ndarray, values: np.ndarray, weight: np.ndarray | None) -> float:
    """Return 1 - (squared error) / (squared deviation from the mean), averaged over the outputs.

    As in scikit-learn, a column that does not vary scores 1 where it is met exactly, else 0.
    """
    weights = np.ones(len(targets)) if weight is None else weight
    targets = targets.astype(np.float64, copy=False)
    error = weights @ (targets - values) ** 2
    mean = (weights @ targets) / weights.sum()
    spread = weights @ (targets - mean) ** 2
    varies = spread > 0
    scores = np.where(error > 0, 0.0, 1.0)
    scores[varies] = 1 - error[varies] / spread[varies]
    return float(scores.mean())
