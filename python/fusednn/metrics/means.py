# SPDX-License-Identifier: Apache-2.0
"""Metrics that are means over samples: accuracy, and every loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from fusednn import losses
from fusednn.errors import check_integer, check_number, helpful_keywords
from fusednn.graph import Head
from fusednn.losses import Loss
from fusednn.metrics.base import Metric


class Accuracy(Metric):
    """Share of samples that are classified rightly.

    With several columns the greatest one must be the target's class; with one column the output
    must lie on the target's side of the threshold (0.5 for probabilities, 0 for logits). This is
    what Keras makes of ``"accuracy"``.

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.get("accuracy").name
    'accuracy'
    """

    name = "accuracy"
    _columns: ClassVar[str] = "any"
    _labels: ClassVar[bool | None] = None

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        columns = head.shape[-1]
        if len(head.shape) != 1 or (columns == 1, self._columns) in {
            (True, "many"),
            (False, "one"),
        }:
            wanted = {"any": "one axis", "one": "one column", "many": "several columns"}
            raise ValueError(
                f"metric {self.name!r} needs an output of {wanted[self._columns]}, but output "
                f"{head.name!r} has shape {head.shape}"
            )
        if self._labels is not None and self._labels != loss.labels:
            other = "categorical_accuracy" if self._labels else "sparse_categorical_accuracy"
            raise ValueError(
                f"metric {self.name!r} does not fit the targets of loss {loss.name!r}; "
                f"use {other!r} or 'accuracy'"
            )
        # The loss may look at what goes into the last activation. The class is decided there as
        # well, and the activation need not be computed.
        node = loss.resolve(head).node
        return {
            "rule": "accuracy",
            "node": node,
            "labels": loss.labels,
            "threshold": self._threshold(head, loss, node),
        }

    def _threshold(self, head: Head, loss: Loss, node: str) -> float:
        logits = node != head.node or loss.resolve(head).rule.endswith("_logits")
        return 0.0 if logits or loss.signs else 0.5


class BinaryAccuracy(Accuracy):
    """`Accuracy` of a single column.

    Parameters
    ----------
    threshold : float
        Of the probability, in (0, 1).
    """

    name = "binary_accuracy"
    _columns = "one"
    _labels = False

    @helpful_keywords
    def __init__(self, threshold: float = 0.5) -> None:
        self.threshold = check_number("threshold", threshold, 0, 1, open_low=True, open_high=True)

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold}

    def _threshold(self, head: Head, loss: Loss, node: str) -> float:
        if super()._threshold(head, loss, node) == 0.0:
            return math.log(self.threshold / (1 - self.threshold))
        return self.threshold


class CategoricalAccuracy(Accuracy):
    """`Accuracy` of several columns, with one-hot targets."""

    name = "categorical_accuracy"
    _columns = "many"
    _labels = False


class SparseCategoricalAccuracy(Accuracy):
    """`Accuracy` of several columns, with class numbers as targets."""

    name = "sparse_categorical_accuracy"
    _columns = "many"
    _labels = True


class TopKCategoricalAccuracy(CategoricalAccuracy):
    """Share of samples whose class has fewer than `k` columns greater than its own.

    Parameters
    ----------
    k : int
    name : str, optional

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.TopKCategoricalAccuracy(3).k
    3
    """

    name = "top_k_categorical_accuracy"

    @helpful_keywords
    def __init__(self, k: int = 5, name: str | None = None) -> None:
        self.k = check_integer("k", k, 1)
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        return {"k": self.k}

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        return {**super().resolve(head, loss), "top": self.k}


class SparseTopKCategoricalAccuracy(TopKCategoricalAccuracy):
    """`TopKCategoricalAccuracy` with class numbers as targets."""

    name = "sparse_top_k_categorical_accuracy"
    _labels = True


class LossMetric(Metric):
    """A loss reported as a metric. ``get("mse")`` and the like make it.

    Parameters
    ----------
    loss : str or Loss
    name : str, optional
        Default: what was given as `loss`, or its name.
    """

    def __init__(self, loss: str | Mapping | Loss, name: str | None = None) -> None:
        self.loss = losses.get(loss)
        self.name = name or (loss if isinstance(loss, str) else self.loss.name)

    def get_config(self) -> dict[str, Any]:
        return {"loss": self.loss.serialize(), "name": self.name}

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        if self.loss.labels != loss.labels:
            wanted = "class numbers" if self.loss.labels else "values"
            raise ValueError(
                f"metric {self.name!r} compares with {wanted}, which the targets of loss "
                f"{loss.name!r} are not"
            )
        found = self.loss.resolve(head)
        return {
            "rule": found.rule,
            "node": found.node,
            "parameters": found.parameters,
            "labels": self.loss.labels,
            "threshold": 0.5,
        }


class MeanSquaredError(LossMetric):
    """Mean of ``(x - t)^2``."""

    def __init__(self, name: str = "mean_squared_error") -> None:
        super().__init__("mean_squared_error", name)

    def get_config(self) -> dict[str, Any]:
        return {}


class MeanAbsoluteError(LossMetric):
    """Mean of ``|x - t|``."""

    def __init__(self, name: str = "mean_absolute_error") -> None:
        super().__init__("mean_absolute_error", name)

    def get_config(self) -> dict[str, Any]:
        return {}


class RootMeanSquaredError(LossMetric):
    """Square root of the mean squared error over all samples."""

    def __init__(self, name: str = "root_mean_squared_error") -> None:
        super().__init__("mean_squared_error", name)

    def get_config(self) -> dict[str, Any]:
        return {}

    def finish(self, mean: float) -> float:
        return math.sqrt(mean) if mean >= 0 else mean
