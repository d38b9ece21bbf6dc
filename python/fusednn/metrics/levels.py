# SPDX-License-Identifier: Apache-2.0
"""Metrics of probabilities against thresholds: precision, recall, F scores, areas under curves.

The engine counts, while it trains or evaluates, how many positive and negative targets lie between
two neighbouring thresholds; everything here is made of those counts at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords, unknown_choice
from fusednn.graph import Head
from fusednn.losses import BinaryCrossentropy, CategoricalCrossentropy, Loss
from fusednn.metrics.base import Metric

_EPSILON = 1e-7  # Keras'; its outermost thresholds lie so far outside of [0, 1]


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return part / whole, and 0 where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole != 0)


def _logit(p: float) -> float:
    if p <= 0 or p >= 1:
        return math.inf if p >= 1 else -math.inf
    return math.log(p) - math.log1p(-p)


class Rates:
    """What lies above and below each threshold: arrays (..., thresholds) of float64."""

    def __init__(self, counts: np.ndarray, thresholds: int) -> None:
        levels = counts.reshape(-1, 2, thresholds + 1)
        above = levels[..., ::-1].cumsum(-1)[..., ::-1][..., 1:]
        below = levels.sum(-1, keepdims=True) - above
        self.false_positives, self.true_positives = above[:, 0], above[:, 1]
        self.true_negatives, self.false_negatives = below[:, 0], below[:, 1]

    @property
    def precision(self) -> np.ndarray:
        return share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        return share(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> np.ndarray:
        return share(self.true_negatives, self.true_negatives + self.false_positives)

    def summed(self) -> Rates:
        """Return the same with all columns taken together."""
        whole = object.__new__(Rates)
        for name, value in vars(self).items():
            setattr(whole, name, value.sum(0, keepdims=True))
        return whole


class Thresholded(Metric):
    """Base class of metrics that count how many values exceed which thresholds.

    Thresholds are probabilities. Where the loss is computed on logits they are compared with
    those. (Keras compares whatever the output holds.) A target is positive above 0.5; class
    numbers stand for one-hot rows.
    """

    _per_column: ClassVar[bool] = False
    thresholds: list[float]
    _top = 0
    _column = -1

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        if len(head.shape) != 1:
            raise ValueError(
                f"metric {self.name!r} needs an output of one axis, but output {head.name!r} has "
                f"shape {head.shape}"
            )
        columns = head.shape[-1]
        if self._column >= columns or self._top > columns:
            wanted = f"class_id={self._column}" if self._column >= columns else f"top_k={self._top}"
            raise ValueError(
                f"metric {self.name!r}: {wanted} does not fit output {head.name!r} with {columns} "
                "columns"
            )
        found = loss.resolve(head)
        ascending = sorted(self.thresholds)
        node = head.node
        binary = isinstance(loss, BinaryCrossentropy)
        if binary and found.rule.endswith("_logits"):
            node, ascending = found.node, [_logit(p) for p in ascending]
        elif isinstance(loss, CategoricalCrossentropy) and head.kind == "log_softmax":
            ascending = [math.log(p) if p > 0 else -math.inf for p in ascending]
        elif isinstance(loss, CategoricalCrossentropy) and found.node == head.node:
            if found.rule.startswith("softmax") and any(map(math.isfinite, ascending)):
                raise ValueError(
                    f"metric {self.name!r} compares probabilities, but output {head.name!r} holds "
                    "logits; give its layer activation='softmax'"
                )
        elif found.node != head.node and not any(map(math.isfinite, ascending)):
            node = found.node  # only the order counts, and it is the same before a softmax
        return {
            "rule": "levels",
            "node": node,
            "labels": loss.labels,
            "thresholds": ascending,
            "top": self._top,
            "column": self._column,
            "per_column": self._per_column,
        }

    def result(self, total: Any, weight: float) -> Any:
        return self._of(Rates(np.asarray(total), len(self.thresholds)))

    def _of(self, rates: Rates) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define _of()")

    def _in_order(self, values: np.ndarray) -> Any:
        """Return a value for each threshold as given: a number if there is only one."""
        if len(self.thresholds) == 1:
            return float(values[0])
        places = np.empty(len(values), np.intp)
        places[np.argsort(self.thresholds, kind="stable")] = np.arange(len(values))
        return values[places]


def _thresholds(given: object, default: float) -> list[float]:
    if given is None:
        return [default]
    values = list(given) if isinstance(given, (list, tuple, np.ndarray)) else [given]
    if not values:
        raise ValueError("thresholds is empty")
    return [check_number("thresholds", value, 0, 1) for value in values]


class _Counted(Thresholded):
    """Something for each of a few thresholds."""

    @helpful_keywords
    def __init__(
        self,
        thresholds: float | Sequence[float] | None = None,
        top_k: int | None = None,
        class_id: int | None = None,
        name: str | None = None,
    ) -> None:
        self.given = thresholds
        self.top_k = None if top_k is None else check_integer("top_k", top_k, 1)
        self.class_id = None if class_id is None else check_integer("class_id", class_id, 0)
        self.thresholds = _thresholds(thresholds, 0.5 if top_k is None else -math.inf)
        self._top = self.top_k or 0
        self._column = -1 if self.class_id is None else self.class_id
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        given = self.given.tolist() if isinstance(self.given, np.ndarray) else self.given
        return {"thresholds": given, "top_k": self.top_k, "class_id": self.class_id}


class Precision(_Counted):
    """Share of positives among what exceeds the threshold: ``tp / (tp + fp)``, or 0.

    Parameters
    ----------
    thresholds : float or list of float, optional
        Probabilities, 0.5 by default. Several of them give an array.
    top_k : int, optional
        Only the `top_k` greatest columns of a row count as predicted; without thresholds all of
        them do.
    class_id : int, optional
        Only this column counts. All columns are taken together otherwise.
    name : str, optional

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> model = fusednn.Sequential(
    ...     [fusednn.layers.Dense(1, activation="sigmoid")], input_shape=(1,))
    >>> model.compile("adam", "binary_crossentropy", metrics=[fusednn.metrics.Precision()])
    >>> model.set_weights([np.ones((1, 1)), np.zeros(1)])
    >>> model.evaluate(np.array([-1.0, 1.0, 2.0, 3.0]), np.array([0, 0, 1, 1]))[1]
    0.6666666666666666
    """

    name = "precision"

    def _of(self, rates: Rates) -> Any:
        return self._in_order(rates.precision[0])


class Recall(_Counted):
    """Share of the positives that exceed the threshold: ``tp / (tp + fn)``, or 0.

    Parameters
    ----------
    thresholds, top_k, class_id, name
        As in `Precision`.
    """

    name = "recall"

    def _of(self, rates: Rates) -> Any:
        return self._in_order(rates.recall[0])


class _One(_Counted):
    """One of the four counts."""

    @helpful_keywords
    def __init__(
        self, thresholds: float | Sequence[float] | None = None, name: str | None = None
    ) -> None:
        super().__init__(thresholds, name=name)

    def get_config(self) -> dict[str, Any]:
        return {"thresholds": super().get_config()["thresholds"]}

    def _of(self, rates: Rates) -> Any:
        return self._in_order(getattr(rates, type(self).name)[0])


class TruePositives(_One):
    """Weight of the positive targets above the threshold."""

    name = "true_positives"


class TrueNegatives(_One):
    """Weight of the negative targets not above the threshold."""

    name = "true_negatives"


class FalsePositives(_One):
    """Weight of the negative targets above the threshold."""

    name = "false_positives"


class FalseNegatives(_One):
    """Weight of the positive targets not above the threshold."""

    name = "false_negatives"


class FBetaScore(Thresholded):
    """``(1 + b²) p r / (b² p + r)`` of precision p and recall r, for each class.

    Parameters
    ----------
    average : {None, "micro", "macro", "weighted"}
        None: an array with the score of each class. "micro": of all classes counted together.
        "macro": their mean. "weighted": their mean weighted by the number of positives.
    beta : float
        Greater than 0.
    threshold : float, optional
        None: the greatest column of a row is the predicted class.
    name : str, optional

    Examples
    --------
    >>> from fusednn import metrics
    >>> metrics.FBetaScore(average="macro", beta=2.0).beta
    2.0
    """

    name = "fbeta_score"
    _per_column = True

    @helpful_keywords
    def __init__(
        self,
        average: str | None = None,
        beta: float = 1.0,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        if average not in (None, "micro", "macro", "weighted"):
            raise unknown_choice("average", average, ("None", "micro", "macro", "weighted"))
        self.average = average
        self.beta = check_number("beta", beta, 0, open_low=True)
        self.threshold = None if threshold is None else check_number("threshold", threshold, 0, 1)
        self.thresholds = [-math.inf if threshold is None else self.threshold]  # type: ignore[list-item]
        self._top = 1 if threshold is None else 0
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        return {"average": self.average, "beta": self.beta, "threshold": self.threshold}

    def _of(self, rates: Rates) -> Any:
        if self.average == "micro":
            rates = rates.summed()
        precision, recall = rates.precision[:, 0], rates.recall[:, 0]
        squared = self.beta**2
        scores = share((1 + squared) * precision * recall, squared * precision + recall)
        if self.average is None:
            return scores
        if self.average == "weighted":
            positives = (rates.true_positives + rates.false_negatives)[:, 0]
            return float((scores * share(positives, positives.sum())).sum())
        return float(scores.mean())


class F1Score(FBetaScore):
    """`FBetaScore` with ``beta=1``: the harmonic mean of precision and recall.

    Parameters
    ----------
    average, threshold, name
        As in `FBetaScore`.
    """

    name = "f1_score"

    @helpful_keywords
    def __init__(
        self,
        average: str | None = None,
        threshold: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(average, 1.0, threshold, name)

    def get_config(self) -> dict[str, Any]:
        return {"average": self.average, "threshold": self.threshold}


def spread(count: int) -> list[float]:
    """Return thresholds between 0 and 1, ends excluded, as Keras spreads them."""
    return [(i + 1) / (count - 1) for i in range(count - 2)]


class AUC(Thresholded):
    """Area under the ROC or the precision-recall curve, from sums over thresholds.

    Parameters
    ----------
    num_thresholds : int
        Spread evenly over [0, 1]; more of them approach the exact area.
    curve : {"ROC", "PR"}
    summation_method : {"interpolation", "minoring", "majoring"}
        Trapezoids (for "PR" the interpolation of Davis and Goadrich, 2006), or sums from below
        or above.
    name : str, optional
    thresholds : list of float, optional
        Instead of `num_thresholds`, the ends excluded.
    multi_label : bool
        Whether the area is computed for each column and then averaged. Otherwise all columns are
        taken together.

    Examples
    --------
    >>> from fusednn import metrics
    >>> len(metrics.AUC().thresholds)
    200
    """

    name = "auc"

    @helpful_keywords
    def __init__(
        self,
        num_thresholds: int = 200,
        curve: str = "ROC",
        summation_method: str = "interpolation",
        name: str | None = None,
        thresholds: Sequence[float] | None = None,
        multi_label: bool = False,
    ) -> None:
        if curve not in ("ROC", "PR"):
            raise unknown_choice("curve", curve, ("ROC", "PR"))
        methods = ("interpolation", "minoring", "majoring")
        if summation_method not in methods:
            raise unknown_choice("summation_method", summation_method, methods)
        self.num_thresholds = check_integer("num_thresholds", num_thresholds, 2)
        self.curve = curve
        self.summation_method = summation_method
        self.multi_label = check_flag("multi_label", multi_label)
        self.given = None if thresholds is None else sorted(_thresholds(thresholds, 0.5))
        between = spread(self.num_thresholds) if self.given is None else self.given
        self.thresholds = [-_EPSILON, *between, 1 + _EPSILON]
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        return {
            "num_thresholds": self.num_thresholds,
            "curve": self.curve,
            "summation_method": self.summation_method,
            "thresholds": self.given,
            "multi_label": self.multi_label,
        }

    def resolve(self, head: Head, loss: Loss) -> dict[str, Any]:
        return {**super().resolve(head, loss), "per_column": self.multi_label}

    def _of(self, rates: Rates) -> float:
        if self.curve == "PR" and self.summation_method == "interpolation":
            return float(_interpolated_area(rates).mean())
        x = rates.recall if self.curve == "PR" else 1 - rates.specificity
        if self.curve == "ROC":
            negatives = rates.false_positives + rates.true_negatives
            x = share(rates.false_positives, negatives)
        y = rates.precision if self.curve == "PR" else rates.recall
        left, right = y[:, :-1], y[:, 1:]
        heights = {
            "interpolation": (left + right) / 2,
            "minoring": np.minimum(left, right),
            "majoring": np.maximum(left, right),
        }[self.summation_method]
        return float(((x[:, :-1] - x[:, 1:]) * heights).sum(-1).mean())


def _interpolated_area(rates: Rates) -> np.ndarray:
    """Return the area under the precision-recall curve.

    Between two thresholds true positives are linear in positives; precision is then integrated.
    """
    found, predicted = rates.true_positives, rates.true_positives + rates.false_positives
    step, width = found[:, :-1] - found[:, 1:], predicted[:, :-1] - predicted[:, 1:]
    slope = share(step, np.maximum(width, 0))
    intercept = found[:, 1:] - slope * predicted[:, 1:]
    both = (predicted[:, :-1] > 0) & (predicted[:, 1:] > 0)
    ratio = np.where(both, share(predicted[:, :-1], predicted[:, 1:]), 1.0)
    positives = (found + rates.false_negatives)[:, 1:]
    return share(slope * (step + intercept * np.log(ratio)), positives).sum(-1)
