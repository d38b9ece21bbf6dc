# SPDX-License-Identifier: Apache-2.0
"""What the compiled engine tallies for metrics, for models with parts in Python."""

from __future__ import annotations

from typing import Any

import numpy as np

RULES = ("levels", "classes", "moments")


def tally(
    spec: dict[str, Any], output: np.ndarray, target: np.ndarray, weight: np.ndarray | None
) -> np.ndarray:
    """Return the counts of a batch, laid out as in the engine's `Tally`."""
    rows, columns = output.shape
    each = np.ones(rows) if weight is None else weight.astype(np.float64)
    if spec["rule"] == "classes":
        return _classes(spec, output, target, each)
    dense = target.reshape(rows, -1)
    if spec["labels"]:
        dense = np.arange(columns) == dense
    if spec["rule"] == "moments":
        dense, error = dense.astype(np.float64), output.astype(np.float64) - dense
        parts = [np.ones_like(dense), dense, dense**2, error**2]
        return np.stack([each @ part for part in parts], axis=1).reshape(-1)
    return _levels(spec, output, dense > 0.5, each)


def _classes(
    spec: dict[str, Any], output: np.ndarray, target: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    if output.shape[1] == 1:
        true = target.reshape(-1) > 0.5
        found, classes = output[:, 0] > spec["thresholds"][0], 2
    else:
        true = target if spec["labels"] else target.argmax(axis=1)
        found, classes = output.argmax(axis=1), output.shape[1]
    places = true.astype(np.intp) * classes + found
    return np.bincount(places, weight, classes * classes)


def _levels(
    spec: dict[str, Any], output: np.ndarray, positive: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    n = len(spec["thresholds"])
    level = np.searchsorted(spec["thresholds"], output.astype(np.float64), side="left")
    if spec["top"]:
        rank = np.argsort(np.argsort(-output, axis=1, kind="stable"), axis=1)
        level = np.where(rank < spec["top"], level, 0)
    if spec["column"] >= 0:
        level, positive = level[:, [spec["column"]]], positive[:, [spec["column"]]]
    columns = level.shape[1]
    group = np.arange(columns) if spec["per_column"] else np.zeros(columns, np.intp)
    places = (group * 2 + positive) * (n + 1) + level
    groups = columns if spec["per_column"] else 1
    weights = np.broadcast_to(weight[:, None], places.shape)
    return np.bincount(places.reshape(-1), weights.reshape(-1), groups * 2 * (n + 1))
