# SPDX-License-Identifier: Apache-2.0
"""How the time of a training step grows with width, depth, batch and threads.

Along each axis everything else stays as it is. The rival is eager torch with its fused Adam.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import fusednn
from fusednn.bench import ceilings
from fusednn.bench.harness import Case
from fusednn.bench.networks import Network
from fusednn.bench.suites import step

RIVALS = ("torch-fused",)
INPUTS, OUTPUTS = 64, 10

WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)  # of three hidden layers, batch 128
DEPTHS = (1, 2, 4, 8, 16, 32)  # hidden layers of 128, batch 128
BATCHES = (1, 4, 16, 64, 256, 1024, 4096)  # for 64-256-256-10
TEAM = Network((INPUTS, 512, 512, OUTPUTS), 256)  # for every number of threads


def _curves() -> Iterator[tuple[str, int, Network]]:
    for width in WIDTHS:
        yield "width", width, Network((INPUTS, width, width, width, OUTPUTS), 128)
    for depth in DEPTHS:
        yield "depth", depth, Network((INPUTS, *[128] * depth, OUTPUTS), 128)
    for batch in BATCHES:
        yield "batch", batch, Network((INPUTS, 256, 256, OUTPUTS), batch)
    for threads in ceilings.team_sizes(fusednn.get_num_threads()):
        yield "threads", threads, TEAM


def cases() -> Iterator[Case]:
    """Return the points of all curves."""
    for axis, value, network in _curves():
        yield Case(
            "growth",
            f"{axis} {value}",
            network.step_flops,
            network.step_bytes,
            functools.partial(step.work, network, "epoch", RIVALS),
            {"axis": axis, "value": value, "widths": list(network.widths), "batch": network.batch},
            threads=value if axis == "threads" else 0,
        )
