# SPDX-License-Identifier: Apache-2.0
"""Where the system has put our processors, as far as it can be felt from inside.

A virtual machine does not own its processors: its host moves them about. For seconds at a time two
of them may be the two halves of one core, which together compute no more than one does, or lie in
parts of the chip that share no cache, so that a line of memory takes several times as long from one
to the other. Nothing of that shows in the times that the system reports. A round of turns that met
such a placement is played again, for every candidate alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fusednn import _core

# Of the best that was seen: more time for a handover, or less computing, is another placement.
MOST_HANDOVER = 2.0
LEAST_COMPUTING = 0.75


class Placement:
    """Watches how well a team of threads works together, beside the best it has seen.

    Parameters
    ----------
    threads : int
        Of the team; with one there is nothing to watch.
    handover, computing : callable
        Seconds of a handover between so many threads, and operations a second of all of them.
    """

    def __init__(
        self,
        threads: int,
        handover: Callable[[int], float] = _core.measure_handover,
        computing: Callable[[int], float] | None = None,
    ) -> None:
        self.threads = threads
        self._handover = handover
        self._computing = computing or (
            lambda team: _core.measure_ceiling("fma", "float32", team, 0.002)
        )
        self._shortest = float("inf")
        self._most = 0.0

    def is_good(self) -> bool:
        """Return whether the team works together as well as it ever did, in about 10 ms."""
        if self.threads < 2:
            return True
        handover, computing = self._handover(self.threads), self._computing(self.threads)
        # Two halves of a core hand over fastest of all, so only a team that computes sets the mark.
        self._most = max(self._most, computing)
        computes = computing >= LEAST_COMPUTING * self._most
        if computes:
            self._shortest = min(self._shortest, handover)
        return computes and handover <= MOST_HANDOVER * self._shortest

    def settle(self, seconds: float) -> bool:
        """Wait until the placement is good, so many seconds at most; return whether it is."""
        end = time.perf_counter() + seconds
        while not self.is_good():
            if time.perf_counter() > end:
                return False
            time.sleep(0.02)
        return True
