# SPDX-License-Identifier: Apache-2.0
"""The loops that only move memory, which the benchmark compares kernels with."""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import _core
from fusednn.bench import loops


@pytest.mark.parametrize("loop", list(loops.LOOPS))
def test_loops_move_what_they_say(loop):
    made = loops.candidate(loop, 4096)
    assert made.check(made.answer()) == ""
    assert "does not give" in made.check(np.zeros(4096, np.float32))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_loop_reaches_every_element(threads):
    x, y, z = (
        loops.aligned(np.random.default_rng(i).standard_normal(1040).astype(np.float32))
        for i in range(3)
    )
    _core.run_stream(x, y, z, threads)
    np.testing.assert_array_equal(z, x + y / 2)
    _core.run_stream(x, z, None, threads)
    np.testing.assert_array_equal(z, x)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (
            (loops.aligned(np.zeros(32, np.float32))[1:17], 16),
            "x must be of whole lines of 64 bytes",
        ),
        ((loops.aligned(np.zeros(8, np.float32)), 8), "x must be of whole lines of 64 bytes"),
        ((loops.aligned(np.zeros(32, np.float32)), 16), "y"),
    ],
)
def test_a_loop_refuses_what_it_cannot_move(arrays, match):
    x, n = arrays
    with pytest.raises(ValueError, match=match):
        _core.run_stream(x, loops.aligned(np.zeros(n, np.float32)), None, 1)
