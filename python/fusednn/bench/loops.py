# SPDX-License-Identifier: Apache-2.0
"""Loops that only move memory, run in turns with what they are compared with.

How fast memory is changes from minute to minute on a machine that is shared. What a kernel loses is
therefore told from a loop over arrays of the same size in the same rounds, not from the ceilings.
"""

from __future__ import annotations

import functools

import numpy as np

from fusednn import _core
from fusednn.bench.harness import Candidate

LINE = 64  # bytes
LOOPS = {"copy": 2, "triad": 3}  # y = x and z = x + y / 2, and how many arrays they take


def aligned(values: np.ndarray) -> np.ndarray:
    """Return a copy that begins with a line of memory, as torch's arrays do and NumPy's may not."""
    room = np.empty(values.nbytes + LINE, np.uint8)
    begin = -room.ctypes.data % LINE
    own = room[begin : begin + values.nbytes].view(values.dtype).reshape(values.shape)
    own[...] = values
    return own


def candidate(loop: str, n: int) -> Candidate:
    """Return one of `LOOPS` over n float32, which must fill whole lines, with all our threads."""
    arrays = [aligned(np.ones(n, np.float32)) for _ in range(LOOPS[loop])]
    z = arrays[2] if loop == "triad" else None
    run = functools.partial(_core.run_stream, arrays[0], arrays[1], z, _core.num_threads())

    def right(answer: np.ndarray) -> str:
        wanted = {"copy": 1.0, "triad": 1.5}[loop]
        return "" if (answer == wanted).all() else f"{loop} does not give {wanted}"

    def answer() -> np.ndarray:
        run()
        return arrays[-1]

    return Candidate(run, answer, check=right)
