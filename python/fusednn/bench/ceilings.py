# SPDX-License-Identifier: Apache-2.0
"""What the machine can do at most, measured in the run that compares with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fusednn import _core
from fusednn.bench.harness import is_quiet
from fusednn.cli.contention import Contention

DTYPES = ("float32", "float64")
STREAMS = ("read", "copy", "triad")
GIGA = 1e9


def team_sizes(threads: int) -> list[int]:
    """Return 1, 2, 4, ... and so many threads."""
    return [2**i for i in range(threads.bit_length()) if 2**i < threads] + [threads]


def measure(threads: int, seconds: float = 0.1) -> dict[str, Any]:
    """Return ``fma[isa][dtype][threads]`` in GFLOP/s and ``memory[kind][threads]`` in GB/s.

    Parameters
    ----------
    threads : int
        Measured with `team_sizes` of up to this many.
    seconds : float
        Time for each single number.
    """
    watch = Contention()
    chosen = _core.isa()
    fma: dict[str, Any] = {}
    try:
        for isa in [entry["name"] for entry in _core.isas() if entry["supported"]]:
            _core.set_isa(isa)
            fma[isa] = {
                dtype: {
                    str(team): _core.measure_ceiling("fma", dtype, team, seconds) / GIGA
                    for team in team_sizes(threads)
                }
                for dtype in DTYPES
            }
    finally:
        _core.set_isa(chosen)
    memory = {
        kind: {
            str(team): _core.measure_ceiling(kind, "float32", team, seconds) / GIGA
            for team in team_sizes(threads)
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


def gain(ceilings: dict[str, Any], isa: str, threads: int) -> float:
    """Return the share of `threads` times one thread's peak that so many threads reach together."""
    return peak(ceilings, isa, "float32", threads) / (threads * peak(ceilings, isa, "float32", 1))


class Cost(NamedTuple):
    """What a case needs at least, and what it works with."""

    flops: float
    bytes: float
    dtype: str
    threads: int
    isa: str


def floor(cost: Cost, document: dict[str, Any]) -> float | None:
    """Return the seconds that a case takes at least, None where neither ceiling says anything.

    Nothing is said for a dtype whose peak is not measured, nor by ceilings that were measured while
    others kept the processors busy. Bytes count where they do not fit into the largest cache: what
    stays there need not come from memory, and no loop of ours measures every cache.
    """
    ceilings = document["ceilings"]
    known = ceilings["fma"][cost.isa]
    if cost.dtype not in known or not is_quiet(ceilings["taken_by_others"]):
        return None
    seconds = cost.flops / peak(ceilings, cost.isa, cost.dtype, cost.threads)
    if cost.bytes > (document["machine"]["cache_bytes"] or 0):
        seconds = max(seconds, cost.bytes / bandwidth(ceilings, cost.threads))
    elif not cost.flops:
        return None
    return seconds


def highest(values: Sequence[Any]) -> Any:
    """Return the largest number at each place of nested mappings; None counts as unknown."""
    if isinstance(values[0], dict):
        keys = dict.fromkeys(key for value in values for key in value)
        return {key: highest([value[key] for value in values if key in value]) for key in keys}
    return max((value for value in values if value is not None), default=None)
