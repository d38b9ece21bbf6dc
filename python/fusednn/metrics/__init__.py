# SPDX-License-Identifier: Apache-2.0
"""Metrics under Keras' names: accuracy, precision, recall, F scores, AUC, R², and every loss.

A metric is weighted by the sample weights where there are any. (Keras weights only
`weighted_metrics`.) It is computed by the engine, in the pass that computes the loss.
"""

from __future__ import annotations

from collections.abc import Mapping

from fusednn import losses
from fusednn.errors import unknown_choice
from fusednn.losses import Loss
from fusednn.metrics.base import Metric as Metric
from fusednn.metrics.levels import AUC as AUC
from fusednn.metrics.levels import F1Score as F1Score
from fusednn.metrics.levels import FalseNegatives as FalseNegatives
from fusednn.metrics.levels import FalsePositives as FalsePositives
from fusednn.metrics.levels import FBetaScore as FBetaScore
from fusednn.metrics.levels import Precision as Precision
from fusednn.metrics.levels import Recall as Recall
from fusednn.metrics.levels import TrueNegatives as TrueNegatives
from fusednn.metrics.levels import TruePositives as TruePositives
from fusednn.metrics.means import Accuracy as Accuracy
from fusednn.metrics.means import BinaryAccuracy as BinaryAccuracy
from fusednn.metrics.means import CategoricalAccuracy as CategoricalAccuracy
from fusednn.metrics.means import LossMetric as LossMetric
from fusednn.metrics.means import MeanAbsoluteError as MeanAbsoluteError
from fusednn.metrics.means import MeanSquaredError as MeanSquaredError
from fusednn.metrics.means import RootMeanSquaredError as RootMeanSquaredError
from fusednn.metrics.means import SparseCategoricalAccuracy as SparseCategoricalAccuracy
from fusednn.metrics.means import SparseTopKCategoricalAccuracy as SparseTopKCategoricalAccuracy
from fusednn.metrics.means import TopKCategoricalAccuracy as TopKCategoricalAccuracy
from fusednn.metrics.points import AtPoint as AtPoint
from fusednn.metrics.points import PrecisionAtRecall as PrecisionAtRecall
from fusednn.metrics.points import RecallAtPrecision as RecallAtPrecision
from fusednn.metrics.points import SensitivityAtSpecificity as SensitivityAtSpecificity
from fusednn.metrics.points import SpecificityAtSensitivity as SpecificityAtSensitivity
from fusednn.metrics.tallies import ConfusionMatrix as ConfusionMatrix
from fusednn.metrics.tallies import R2Score as R2Score
from fusednn.metrics.tallies import confusion_matrix as confusion_matrix

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "CategoricalAccuracy",
    "ConfusionMatrix",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "LossMetric",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "confusion_matrix",
    "get",
    "names",
]

_CLASSES: dict[str, type[Metric]] = {
    c.__name__: c
    for c in (
        AUC,
        Accuracy,
        BinaryAccuracy,
        CategoricalAccuracy,
        ConfusionMatrix,
        F1Score,
        FBetaScore,
        FalseNegatives,
        FalsePositives,
        LossMetric,
        MeanAbsoluteError,
        MeanSquaredError,
        Precision,
        PrecisionAtRecall,
        R2Score,
        Recall,
        RecallAtPrecision,
        RootMeanSquaredError,
        SensitivityAtSpecificity,
        SparseCategoricalAccuracy,
        SparseTopKCategoricalAccuracy,
        SpecificityAtSensitivity,
        TopKCategoricalAccuracy,
        TrueNegatives,
        TruePositives,
    )
}
# By the name that History shows, and by Keras' other ones. Those of losses are known beside them.
_NAMES: dict[str, type[Metric]] = {
    **{
        kind.name: kind
        for kind in _CLASSES.values()
        if hasattr(kind, "name") and not issubclass(kind, AtPoint)
    },
    "acc": Accuracy,
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
