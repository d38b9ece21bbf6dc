# SPDX-License-Identifier: Apache-2.0
"""How much of the processors others took while something was measured."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Columns of /proc/stat in which a processor works: user, nice, system, irq, softirq, steal.
WORKING = (1, 2, 3, 6, 7, 8)


def _working_seconds(stat: str, processors: set[int]) -> float:
    """Seconds that these processors have worked since the machine started, for whomever."""
    names = {f"cpu{number}" for number in processors}
    rows = (line.split() for line in stat.splitlines())
    ticks = sum(int(row[i]) for row in rows if row and row[0] in names for i in WORKING)
    return ticks / float(os.sysconf("SC_CLK_TCK"))


def _own_seconds() -> float:
    """Seconds that this process and its finished children have worked."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class Contention:
    """Watches from its making on what others do on the processors we may use.

    It reads Linux' /proc/stat; elsewhere it knows nothing.
    """

    def __init__(self) -> None:
        self._wall, self._working, self._own = self._now()

    def _now(self) -> tuple[float, float | None, float]:
        try:
            stat = Path("/proc/stat").read_text()
        except OSError:
            return time.monotonic(), None, 0.0
        working = _working_seconds(stat, os.sched_getaffinity(0))
        return time.monotonic(), working, _own_seconds()

    def share(self) -> float | None:
        """Return the share of our processors' time, 0 to 1, that others took; None: unknown."""
        wall, working, own = self._now()
        if working is None or self._working is None or wall <= self._wall:
            return None
        others = (working - self._working) - (own - self._own)
        return max(0.0, others / ((wall - self._wall) * len(os.sched_getaffinity(0))))
