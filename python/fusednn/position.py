# SPDX-License-Identifier: Apache-2.0
"""Where a training stands, in a form that can be written to a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    rows, steps : int
        Of this epoch, done already.
    losses, metrics : list
        Sums over those rows, as in the engine's reports; of a metric that is counted, a list.
    penalty : float
        Likewise.
    """

    epoch: int
    rows: int = 0
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    metrics: list[float | list[float]] = field(default_factory=list)
    penalty: float = 0.0

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Position:
        """Make it of the engine's report on an epoch that is under way."""
        return cls(
            0,
            report["rows"],
            report["steps"],
            report["losses"],
            [np.asarray(total).tolist() for total in report["metrics"]],
            report["penalty"],
        )

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> Position:
        """Make it of plain values; KeyError, TypeError or ValueError where they are not right."""
        return cls(
            check_integer("epoch", given["epoch"], 0),
            check_integer("rows", given["rows"], 0),
            check_integer("steps", given["steps"], 0),
            [float(value) for value in given["losses"]],
            [np.asarray(value, np.float64).tolist() for value in given["metrics"]],
            float(given["penalty"]),
        )

    def plus(self, report: dict[str, Any]) -> dict[str, Any]:
        """Return the report on the rest of the epoch as one on the whole."""
        if not self.rows:
            return report
        return {
            **report,
            "rows": self.rows + report["rows"],
            "steps": self.steps + report["steps"],
            "losses": [a + b for a, b in zip(self.losses, report["losses"], strict=True)],
            "metrics": [
                np.add(a, b)[()] for a, b in zip(self.metrics, report["metrics"], strict=True)
            ],
            "penalty": self.penalty + report["penalty"],
        }

    def rest(self, data: Data, order: np.ndarray | None) -> tuple[Data, np.ndarray | None]:
        """Return data and order of what is left of the epoch."""
        if not self.rows:
            return data, order
        if self.rows >= data.rows:
            raise ValueError(
                f"the training to go on with had seen {self.rows} samples of an epoch, "
                f"but x has {data.rows}"
            )
        if order is None:
            return data.part(self.rows, data.rows), None
        left = order[self.rows :]
        return data.take(left), None
