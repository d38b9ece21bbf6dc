# SPDX-License-Identifier: Apache-2.0
"""What callbacks share that look at one quantity and ask whether it got better."""

from __future__ import annotations

import math
from typing import Any

from fusednn.callbacks.base import Callback, Logs
from fusednn.errors import check_number, unknown_choice

MODES = ("auto", "min", "max")
# Last words of the names of quantities that are better when greater; every other is a loss.
_GREATER = ("accuracy", "acc", "auc", "precision", "recall", "score", "r2", "f1")


class Monitor(Callback):
    """Base class of callbacks that follow a quantity of the logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0) -> None:
        if mode not in MODES:
            raise unknown_choice("mode", mode, MODES)
        self.monitor = monitor
        self.mode = mode
        self.min_delta = abs(check_number("min_delta", min_delta))
        self.best: float | None = None

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best = state["best"]

    def _greater_is_better(self) -> bool:
        return self.mode == "max" or (
            self.mode == "auto" and self.monitor.rsplit("_", 1)[-1].lower() in _GREATER
        )

    def _improves(self, value: float, on: float | None) -> bool:
        if on is None:
            return not math.isnan(value)
        gain = value - on if self._greater_is_better() else on - value
        return gain > self.min_delta

    def _look_up(self, logs: Logs | None) -> float:
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(logs or {})
            hint = ""
            if self.monitor.startswith("val_"):
                hint = "; it needs validation_split or validation_data"
            name = type(self).__name__
            raise ValueError(f"{name}: monitor={self.monitor!r} is not in {known}{hint}")
        return value
