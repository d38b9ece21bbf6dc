# SPDX-License-Identifier: Apache-2.0
"""The best of one rate where another reaches a value."""

from __future__ import annotations

from typing import Any, ClassVar

from fusednn.errors import check_integer, check_number, helpful_keywords
from fusednn.metrics.levels import Rates, Thresholded, spread


class AtPoint(Thresholded):
    """Base class: the best of one rate among the thresholds where another reaches a value."""

    _wanted: ClassVar[str]
    _bounded: ClassVar[str]
    _argument: ClassVar[str]

    def __init__(self, value: float, num_thresholds: int, name: str | None) -> None:
        self.value = check_number(self._argument, value, 0, 1)
        self.num_thresholds = check_integer("num_thresholds", num_thresholds, 1)
        self.thresholds = [0.5]
        if self.num_thresholds > 1:
            self.thresholds = [0.0, *spread(self.num_thresholds), 1.0]
        self.name = name or type(self).name

    def get_config(self) -> dict[str, Any]:
        return {self._argument: self.value, "num_thresholds": self.num_thresholds}

    def _of(self, rates: Rates) -> float:
        reached = getattr(rates, self._bounded)[0] >= self.value
        return float(getattr(rates, self._wanted)[0].max(where=reached, initial=0.0))


class SensitivityAtSpecificity(AtPoint):
    """Best recall among 200 thresholds with at least this specificity ``tn / (tn + fp)``."""

    name = "sensitivity_at_specificity"
    _wanted, _bounded, _argument = "recall", "specificity", "specificity"

    @helpful_keywords
    def __init__(
        self, specificity: float, num_thresholds: int = 200, name: str | None = None
    ) -> None:
        super().__init__(specificity, num_thresholds, name)


class SpecificityAtSensitivity(AtPoint):
    """Best specificity among 200 thresholds with at least this recall."""

    name = "specificity_at_sensitivity"
    _wanted, _bounded, _argument = "specificity", "recall", "sensitivity"

    @helpful_keywords
    def __init__(
        self, sensitivity: float, num_thresholds: int = 200, name: str | None = None
    ) -> None:
        super().__init__(sensitivity, num_thresholds, name)


class PrecisionAtRecall(AtPoint):
    """Best precision among 200 thresholds with at least this recall."""

    name = "precision_at_recall"
    _wanted, _bounded, _argument = "precision", "recall", "recall"

    @helpful_keywords
    def __init__(self, recall: float, num_thresholds: int = 200, name: str | None = None) -> None:
        super().__init__(recall, num_thresholds, name)


class RecallAtPrecision(AtPoint):
    """Best recall among 200 thresholds with at least this precision."""

    name = "recall_at_precision"
    _wanted, _bounded, _argument = "recall", "precision", "precision"

    @helpful_keywords
    def __init__(
        self, precision: float, num_thresholds: int = 200, name: str | None = None
    ) -> None:
        super().__init__(precision, num_thresholds, name)
