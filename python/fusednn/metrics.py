# SPDX-License-Identifier: Apache-2.0
"""Metrics: accuracy, the root mean squared error, and every loss by its name.

A metric is a mean over samples, weighted by the sample weights where there are any. (Keras weights
only `weighted_metrics`.) It is computed by the engine in the pass that computes the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from fusednn import losses
from fusednn.errors import check_number, helpful_keywords, unknown_choice
from fusednn.graph import Head
from fusednn.losses import Loss


class Metric:
    """Base class of all metrics.

    Attributes
    ----------
    name : str
        Its key in `History`.
    """

    name: str

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {}

    def serialize(self) -> dict[str, Any]:
        """Return what ``get`` makes the same metric of."""
        config = self.get_config()
        return {"class_name": type(self).__name__, "config": config, "name": self.name}

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        """Return what the engine is told: rule, node, parameters, labels, threshold.

        ValueError where the metric does not fit the output or the loss.
        """
        raise NotImplementedError

    def finish(self, mean: float) -> float:
        """Return the metric, given the mean over samples of what the engine computed."""
        return mean

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


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
            "parameters": {},
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


class RootMeanSquaredError(LossMetric):
    """Square root of the mean squared error over all samples."""

    def __init__(self) -> None:
        super().__init__("mean_squared_error", "root_mean_squared_error")

    def get_config(self) -> dict[str, Any]:
        return {}

    def finish(self, mean: float) -> float:
        return math.sqrt(mean) if mean >= 0 else mean


_CLASSES: dict[str, type[Metric]] = {
    c.__name__: c
    for c in (
        Accuracy,
        BinaryAccuracy,
        CategoricalAccuracy,
        SparseCategoricalAccuracy,
        LossMetric,
        RootMeanSquaredError,
    )
}
_NAMES: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "binary_accuracy": BinaryAccuracy,
    "categorical_accuracy": CategoricalAccuracy,
    "sparse_categorical_accuracy": SparseCategoricalAccuracy,
    "root_mean_squared_error": RootMeanSquaredError,
    "rmse": RootMeanSquaredError,
}


def names() -> list[str]:
    """Return the names that ``compile(metrics=...)`` knows."""
    return [*_NAMES, *losses.names()]


def get(identifier: str | Mapping | Metric | Loss) -> Metric:
    """Return the metric that a name, a dict of ``serialize()`` or an instance stands for.

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.get("mae").name
    'mae'
    """
    if isinstance(identifier, Metric):
        return identifier
    if isinstance(identifier, Loss):
        return LossMetric(identifier)
    if isinstance(identifier, type) and issubclass(identifier, Metric):
        return identifier()
    if isinstance(identifier, str):
        kind = _NAMES.get(identifier.lower()) or _CLASSES.get(identifier)
        if kind is not None and kind is not LossMetric:
            metric = kind()
            if identifier.lower() in _NAMES and identifier.lower() != metric.name:
                metric.name = identifier.lower()
            return metric
        if losses.find(identifier) is not None:
            return LossMetric(identifier)
        raise unknown_choice("metric", identifier, names())
    if isinstance(identifier, Mapping) and identifier.get("class_name") in _CLASSES:
        metric = _CLASSES[identifier["class_name"]](**identifier.get("config", {}))
        metric.name = identifier.get("name", metric.name)
        return metric
    raise TypeError(f"a metric must be a name or one of fusednn.metrics, got {identifier!r}")
