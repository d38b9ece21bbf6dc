# SPDX-License-Identifier: Apache-2.0
"""What `fit` shows: a bar on a terminal, one line per epoch in a file, or nothing."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

import numpy as np

_WIDTH = 24
_MOST_SHOWN = 9  # numbers of an array


def check_verbose(verbose: object) -> int | str:
    """Return verbose if it is one of "auto", 0, 1, 2."""
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
    return int(verbose) if isinstance(verbose, bool) else verbose


def format_logs(logs: Mapping[str, Any]) -> str:
    """Return one line with all quantities."""
    return "  ".join(f"{name}: {_shown(value)}" for name, value in logs.items())


def _shown(value: Any) -> str:
    if np.ndim(value) == 0:
        return f"{value:.4g}"
    if np.size(value) > _MOST_SHOWN:
        return f"({' x '.join(map(str, np.shape(value)))})"
    return "[" + " ".join(_shown(part) for part in value) + "]"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


class Progress:
    """Shows the epochs of one training.

    A bar is redrawn only on a terminal: into a file or a pipe goes one finished line per epoch,
    also where a bar was asked for.

    Parameters
    ----------
    verbose : {"auto", 0, 1, 2}
        0 nothing; 1 and "auto" a bar where it can be redrawn; 2 one line per epoch.
    epochs : int
        Number of the last epoch.
    rows : int
        Samples per epoch.
    stream : text stream, optional
        Default: the standard output of the moment.
    """

    interval = 0.05  # seconds between two drawings

    def __init__(
        self, verbose: object, epochs: int, rows: int, stream: TextIO | None = None
    ) -> None:
        level = check_verbose(verbose)
        self._stream = stream if stream is not None else sys.stdout
        self._epochs = epochs
        self._rows = rows
        self._shows = level != 0
        self.redraws = level in ("auto", 1) and self._is_terminal()
        self._head = ""
        self._started = 0.0
        self._length = 0
        self._drawn = 0.0

    def _is_terminal(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):  # replaced or closed
            return False

    def _write(self, text: str, end: str = "\n") -> None:
        try:
            self._stream.write(text + end)
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe or stream is no reason to stop training
            self._shows = self.redraws = False

    def begin(self, epoch: int) -> None:
        """Start an epoch; epochs count from 0."""
        if not self._shows:
            return
        self._started = time.perf_counter()
        width = len(str(self._epochs))
        self._head = f"Epoch {epoch + 1:{width}d}/{self._epochs}"

    def due(self) -> bool:
        """Return whether the bar was drawn long enough ago, and if so begin to count anew."""
        now = time.perf_counter()
        if now - self._drawn < self.interval:
            return False
        self._drawn = now
        return True

    def update(self, rows: int, logs: Mapping[str, float]) -> None:
        """Draw the bar with `rows` samples done."""
        if not self.redraws:
            return
        seconds = time.perf_counter() - self._started
        full = _WIDTH * rows // max(self._rows, 1)
        filled, empty = "━" * full, "╌" * (_WIDTH - full)
        try:
            (filled + empty).encode(getattr(self._stream, "encoding", None) or "ascii")
        except UnicodeError:
            filled, empty = "=" * full, "." * (_WIDTH - full)
        left = seconds / rows * (self._rows - rows) if rows else 0.0
        line = f"{self._head} {filled}{empty} {_duration(left)} left  {format_logs(logs)}"
        self._redraw(line)

    def _redraw(self, line: str, end: str = "") -> None:
        if not end:  # a bar that breaks into two lines could not be redrawn
            line = line[: shutil.get_terminal_size().columns - 1]
        # Spaces erase what a longer line left behind; not every terminal knows the escape code.
        padding = " " * max(0, self._length - len(line))
        self._length = len(line)
        self._write(f"\r{line}{padding}", end)

    def end(self, logs: Mapping[str, float]) -> None:
        """Finish the epoch with its line."""
        if not self._shows:
            return
        seconds = time.perf_counter() - self._started
        line = f"{self._head}  {_duration(seconds)}  {format_logs(logs)}"
        if self.redraws:
            self._redraw(line, "\n")
            self._length = 0
        else:
            self._write(line)

    def close(self) -> None:
        """Leave an unfinished bar on a line of its own."""
        if self.redraws and self._length:
            self._write("")
            self._length = 0
