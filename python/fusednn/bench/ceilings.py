# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at most, measured in the run that compares with it."""

from __future__ import annotations

from typing import Any

from fusednn import _core
from fusednn.bench.harness import Case, is_quiet
from fusednn.cli.contention import Contention

DTYPES = ("float32", "float64")
STREAMS = ("read", "copy", "triad")
GIGA = 1e9


def measure(threads: int, seconds: float = 0.1) -> dict[str, Any]:
    """Return ``fma[isa][dtype][threads]`` in GFLOP/s and ``memory[kind][threads]`` in GB/s.

    Parameters
    ----------
    threads : int
        Measured with one thread and with this many.
    seconds : float
        Time for each single number.
    """
    watch = Contention()
    teams = sorted({1, threads})
    chosen = _core.isa()
    fma: dict[str, Any] = {}
    try:
        for isa in [entry["name"] for entry in _core.isas() if entry["supported"]]:
            _core.set_isa(isa)
            fma[isa] = {
                dtype: {
                    str(team): _core.measure_ceiling("fma", dtype, team, seconds) / GIGA
                    for team in teams
                }
                for dtype in DTYPES
            }
    finally:
        _core.set_isa(chosen)
    memory = {
        kind: {
            str(team): _core.measure_ceiling(kind, "float32", team, seconds) / GIGA
            for team in teams
        }
        for kind in STREAMS
    }
    return {"fma": fma, "memory": memory, "taken_by_others": watch.share()}


def peak(ceilings: dict[str, Any], isa: str, dtype: str, threads: int) -> float:
    """Return the operations a second that nobody exceeds with this many threads."""
    by_threads = ceilings["fma"][isa][dtype]
    return GIGA * float(by_threads[str(threads)])


def bandwidth(ceilings: dict[str, Any], threads: int) -> float:
    """Return the bytes a second between memory and processor: the best of read, copy and triad."""
    return GIGA * max(float(by_threads[str(threads)]) for by_threads in ceilings["memory"].values())


def floor(case: Case, document: dict[str, Any]) -> float | None:
    """Return the seconds that a case takes at least, None where neither ceiling says anything.

    Ceilings that were measured while others kept the processors busy say nothing either.
    Bytes count where they do not fit into the largest cache: what stays there need not come from
    memory, and no loop of ours measures every cache.
    """
    machine, ceilings = document["machine"], document["ceilings"]
    threads = machine["threads"]
    if not is_quiet(ceilings["taken_by_others"]):
        return None
    seconds = case.flops / peak(ceilings, machine["isa"], case.dtype, threads)
    if case.bytes > (machine["cache_bytes"] or 0):
        seconds = max(seconds, case.bytes / bandwidth(ceilings, threads))
    elif not case.flops:
        return None
    return seconds
