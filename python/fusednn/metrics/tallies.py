# SPDX-License-Identifier: Apache-2.0
"""The confusion matrix, and the coefficient of determination."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusednn.arrays import to_numbers
from fusednn.errors import check_integer, helpful_keywords, unknown_choice
from fusednn.graph import Head
from fusednn.losses import Loss
from fusednn.metrics.base import Metric
from fusednn.metrics.means import BinaryAccuracy, CategoricalAccuracy, SparseCategoricalAccuracy


class ConfusionMatrix(Metric):
    """How often each class (rows) was taken for which (columns), weighted by the samples.

    A single column is two classes. In `History` and from `evaluate` it is an array of shape
    (classes, classes).

    Parameters
    ----------
    name : str, optional

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> model = fusednn.Sequential(
    ...     [fusednn.layers.Dense(1, activation="sigmoid")], input_shape=(1,))
    >>> model.compile("adam", "binary_crossentropy", metrics=["confusion_matrix"])
    >>> model.set_weights([np.ones((1, 1)), np.zeros(1)])
    >>> model.evaluate(np.array([-1.0, 1.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))[1]
    array([[1., 1.],
           [0., 2.]])
    """

    name = "confusion_matrix"

    @helpful_keywords
    def __init__(self, name: str | None = None) -> None:
        self.name = name or type(self).name

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        kind = SparseCategoricalAccuracy if loss.labels else CategoricalAccuracy
        accuracy = BinaryAccuracy() if head.shape[-1] == 1 else kind()
        accuracy.name = self.name
        found = accuracy.resolve(head, loss)
        return {
            "rule": "classes",
            "node": found["node"],
            "labels": found["labels"],
            "thresholds": [found["threshold"]],
        }

    def result(self, total: Any, weight: float) -> np.ndarray:
        counts = np.asarray(total)
        classes = round(counts.size**0.5)
        return counts.reshape(classes, classes)


class R2Score(Metric):
    """``1 - sum (t - x)² / sum (t - mean t)²``: 1 is perfect, 0 as good as the mean.

    Parameters
    ----------
    class_aggregation : {"uniform_average", "variance_weighted_average", None}
        How the scores of several columns become one; None gives an array.
    num_regressors : int
        Not 0: the adjusted score for so many features.
    name : str, optional

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.get("r2_score").class_aggregation
    'uniform_average'
    """

    name = "r2_score"

    @helpful_keywords
    def __init__(
        self,
        class_aggregation: str | None = "uniform_average",
        num_regressors: int = 0,
        name: str | None = None,
    ) -> None:
        known = ("uniform_average", "variance_weighted_average", None)
        if class_aggregation not in known:
            raise unknown_choice("class_aggregation", class_aggregation, [str(k) for k in known])
        self.class_aggregation = class_aggregation
        self.num_regressors = check_integer("num_regressors", num_regressors, 0)
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        return {
            "class_aggregation": self.class_aggregation,
            "num_regressors": self.num_regressors,
        }

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        if loss.labels:
            raise ValueError(
                f"metric {self.name!r} compares with values, which the targets of loss "
                f"{loss.name!r} are not"
            )
        return {"rule": "moments", "node": head.node, "labels": False}

    def result(self, total: Any, weight: float) -> Any:
        count, first, second, residual = np.asarray(total).reshape(-1, 4).T
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = second - first * first / count
            scores = 1 - residual / spread
        scores = np.where(np.isinf(scores), 0.0, scores)
        if self.class_aggregation == "uniform_average":
            scores = scores.mean()
        elif self.class_aggregation == "variance_weighted_average":
            scores = (scores * spread).sum() / spread.sum()
        if self.num_regressors:
            free = count[0] - self.num_regressors - 1
            scores = 1 - (1 - scores) * (count[0] - 1) / free if free > 0 else scores
        return scores if self.class_aggregation is None else float(scores)


@helpful_keywords
def confusion_matrix(
    y_true: object,
    y_pred: object,
    num_classes: int | None = None,
    sample_weight: object = None,
    normalize: str | None = None,
) -> np.ndarray:
    """Return how often each class (rows) was taken for which (columns).

    Parameters
    ----------
    y_true, y_pred : array
        Class numbers of shape (samples,), or one row of probabilities or one-hot values per
        sample, of which the greatest counts. A single column of `y_pred` that is not integers is
        compared with 0.5.
    num_classes : int, optional
        Default: what `y_true` and `y_pred` show.
    sample_weight : array, optional
    normalize : {None, "true", "pred", "all"}
        Whether rows, columns or the whole matrix sum to 1.

    Returns
    -------
    ndarray of shape (num_classes, num_classes)
        Integers, or float64 with weights or normalisation.

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.confusion_matrix([0, 1, 1], [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    array([[1, 0],
           [1, 1]])
    """
    if normalize not in (None, "true", "pred", "all"):
        raise unknown_choice("normalize", normalize, ("None", "true", "pred", "all"))
    (true, seen), (found, wide) = _classes("y_true", y_true), _classes("y_pred", y_pred)
    if true.shape != found.shape:
        raise ValueError(f"y_true has {true.size} samples, but y_pred has {found.size}")
    least = max(seen, wide, *(int(c.max()) + 1 for c in (true, found) if c.size), 1)
    classes = least if num_classes is None else check_integer("num_classes", num_classes, 1)
    if classes < least:
        raise ValueError(f"num_classes={classes}, but the arrays show {least} classes")
    weight = None
    if sample_weight is not None:
        weight = to_numbers("sample_weight", sample_weight).astype(np.float64)
        if weight.shape != true.shape:
            raise ValueError(f"sample_weight must have shape {true.shape}, got {weight.shape}")
    counts = np.bincount(true * classes + found, weight, classes * classes)
    counts = counts.reshape(classes, classes)
    if normalize is None:
        return counts
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    whole = counts.sum(axis=axis, keepdims=True, dtype=np.float64)
    return np.divide(counts, whole, out=np.zeros(counts.shape), where=whole != 0)


def _classes(argument: str, given: object) -> tuple[np.ndarray, int]:
    """Return class numbers, and how many classes the columns stand for."""
    array = to_numbers(argument, given)
    if array.ndim == 2 and array.shape[1] > 1:
        return array.argmax(axis=1), array.shape[1]
    array = array.reshape(-1)
    if array.dtype.kind == "f" and (array != np.floor(array)).any():
        return (array > 0.5).astype(np.intp), 2
    if array.size and array.min() < 0:
        raise ValueError(f"{argument} must hold class numbers from 0, got {array.min()}")
    return array.astype(np.intp), 0
