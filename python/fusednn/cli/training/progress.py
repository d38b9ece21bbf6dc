# SPDX-License-Identifier: Apache-2.0
"""Callbacks of ``train``: one line that tells how it goes, and an end where it goes wrong."""

from __future__ import annotations

import math
import sys
import time

from fusednn.callbacks import Callback
from fusednn.callbacks.base import Logs

SECONDS = 2.0  # between lines where they cannot be overwritten


class EndOnNaN(Callback):
    """Ends training after an epoch whose loss is not finite; it has no use for single steps."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            self.model.stop_training = True


class EpochLine(Callback):
    """Shows epoch, losses and the best epoch so far, on standard error.

    On a terminal the line is overwritten; elsewhere a new one is written every two seconds.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._redraws = sys.stderr.isatty()
        self._best, self._best_epoch = float("inf"), 0
        self._shown = time.monotonic()
        self._line = ""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        if logs["val_loss"] < self._best:
            self._best, self._best_epoch = logs["val_loss"], epoch + 1
        self._line = (
            f"{self._title}epoch {epoch + 1}: loss {logs['loss']:.4f}, validation "
            f"{logs['val_loss']:.4f}, best {self._best:.4f} in epoch {self._best_epoch}"
        )
        now = time.monotonic()
        if self._redraws and now - self._shown > 0.05:
            self._show(f"\r{self._line}\x1b[K")
        elif not self._redraws and now - self._shown > SECONDS:
            self._show(f"{self._line}\n")
            self._line = ""

    def close(self) -> None:
        """Leave the last line standing."""
        if self._line:
            self._show(f"\r{self._line}\x1b[K\n" if self._redraws else f"{self._line}\n")

    def _show(self, text: str) -> None:
        self._shown = time.monotonic()
        sys.stderr.write(text)
        sys.stderr.flush()
