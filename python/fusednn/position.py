# SPDX-License-Identifier: Apache-2.0
"""Where a training stands, in a form that can be written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn.arrays import Data
from fusednn.errors import check_integer


@dataclass
class Position:
    """The epoch that comes next, or the part of it that is done.

    Attributes
    ----------
    epoch : int
        From 0.
    report : dict, optional
        The engine's on the part that is done: rows, steps, and sums over the rows.
    weight : float
        Sum of the sample weights of those rows, where data come piece by piece.
    """

    epoch: int
    report: dict[str, Any] | None = None
    weight: float = 0.0

    @property
    def rows(self) -> int:
        """Samples of this epoch that are done."""
        return 0 if self.report is None else self.report["rows"]

    @property
    def steps(self) -> int:
        """Steps of this epoch that are done."""
        return 0 if self.report is None else self.report["steps"]

    def get_state(self) -> dict[str, Any]:
        """Return all of it as plain values and arrays."""
        return {"epoch": self.epoch, "report": self.report, "weight": self.weight}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Position:
        """Make it of a state; KeyError, TypeError or ValueError where that is not right."""
        report = state["report"]
        if report is not None:
            report = {
                "rows": check_integer("rows", report["rows"], 0),
                "steps": check_integer("steps", report["steps"], 0),
                "losses": [float(value) for value in report["losses"]],
                "metrics": [_sum_or_counts(value) for value in report["metrics"]],
                "penalty": float(report["penalty"]),
            }
        return cls(check_integer("epoch", state["epoch"], 0), report, float(state["weight"]))

    def rest(self, data: Data, order: np.ndarray | None) -> tuple[Data, np.ndarray | None]:
        """Return data and order of what is left of the epoch."""
        if not self.rows:
            return data, order
        if order is None:
            return data.part(self.rows, data.rows), None
        return data.take(order[self.rows :]), None


def _sum_or_counts(value: Any) -> float | np.ndarray:
    return np.array(value, np.float64) if np.ndim(value) else float(value)
