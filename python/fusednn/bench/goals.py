# SPDX-License-Identifier: Apache-2.0
"""What a case is meant to reach, and whether it did.

A goal is a number that a rival, or the machine, sets in the same run, so that it means the same on
any machine. Where the numbers that it needs are missing, or their range has the limit in it, it is
neither met nor missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

KINDS = ("floor", "ratio", "stream", "time")


@dataclass(frozen=True)
class Goal:
    """One number to reach.

    Attributes
    ----------
    kind : {"floor", "ratio", "stream", "time"}
        Share of the floor, at least; how many times our time the fastest of some rivals needs, at
        least; share of the bytes per second of a measured stream, at least; microseconds, at most.
    limit : float
    of : tuple of str
        The rivals, or the stream. A ratio without names is to the fastest of all other libraries.
    """

    kind: str
    limit: float
    of: tuple[str, ...] = ()


def floor(least: float) -> Goal:
    """Return the goal to reach this share of the floor."""
    return Goal("floor", least)


def ratio(least: float, *rivals: str) -> Goal:
    """Return the goal that the fastest of these rivals needs at least so many times our time."""
    return Goal("ratio", least, rivals)


def stream(least: float, kind: str) -> Goal:
    """Return the goal to move this share of the bytes per second of copy, triad or read."""
    return Goal("stream", least, (kind,))


def time(most: float) -> Goal:
    """Return the goal to need at most so many microseconds."""
    return Goal("time", most)


def is_own(rival: str) -> bool:
    """Return whether a rival is another way of ours, such as a product without its epilogue."""
    return rival.split("-")[0] == "fusednn"


# What was reached: likely at least, likely at most, and the number itself where the rounds agree.
Reached = tuple[float, float, float | None]


def _time(record: Mapping[str, Any]) -> Reached | None:
    if record["range_us"] is None:
        return None
    low, high = record["range_us"]
    return low, high, record["ours"]["median"] if record["steady"] else None


def _share(least_us: float | None, record: Mapping[str, Any]) -> Reached | None:
    """Return how much of our time some other time is."""
    time = _time(record)
    if least_us is None or time is None:
        return None
    low, high, median = time
    return least_us / high, least_us / low, median and least_us / median


def _ratio(goal: Goal, record: Mapping[str, Any]) -> Reached | None:
    names = [n for n in record["ratios"] if (n in goal.of if goal.of else not is_own(n))]
    ranges = [record["ranges"][name] for name in names]
    if not ranges or None in ranges:
        return None
    values = [record["ratios"][name] for name in names]
    value = None if None in values else float(min(values))
    return min(low for low, _ in ranges), min(high for _, high in ranges), value


def _reached(goal: Goal, record: Mapping[str, Any], ceilings: Mapping[str, Any]) -> Reached | None:
    if goal.kind == "floor":
        return _share(record["floor_us"], record)
    if goal.kind == "ratio":
        return _ratio(goal, record)
    if goal.kind == "stream":
        rate = 1e9 * ceilings["memory"][goal.of[0]][str(record["threads"])]
        return _share(1e6 * record["bytes"] / rate, record)
    return _time(record)


def _judged_by(reached: Reached | None, limit: float) -> float | None:
    """Return the number that decides; None if there is none.

    Rounds that differ too much for one number may still all lie on one side of the limit: then
    the end of their range that is nearest to it decides.
    """
    if reached is None:
        return None
    low, high, value = reached
    if value is not None:
        return value
    return low if low >= limit else high if high <= limit else None


def judged(
    goals: Iterable[Goal], record: Mapping[str, Any], ceilings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return each goal as the document has it: with what was reached, and whether that is enough.

    ``value`` and ``met`` are None where nothing can be said.
    """
    found = []
    for goal in goals:
        value = _judged_by(_reached(goal, record, ceilings), goal.limit)
        met = None
        if value is not None:
            met = value <= goal.limit if goal.kind == "time" else value >= goal.limit
        found.append({**asdict(goal), "of": list(goal.of), "value": value, "met": met})
    return found


def in_words(goal: Mapping[str, Any]) -> str:
    """Return a judged goal in few words, such as ``at least 94 % of the floor: 91 %``."""
    value, limit, names = goal["value"], goal["limit"], ", ".join(goal["of"])
    if goal["kind"] == "ratio":
        best = f"the best of {names}" if len(goal["of"]) > 1 else names or "the best rival"
        text, reached = f"at least {limit:.3g} x {best}", value and f"{value:.2f} x"
    elif goal["kind"] == "time":
        text, reached = f"at most {limit:.3g} µs", value and f"{value:.3g} µs"
    else:
        of = "the floor" if goal["kind"] == "floor" else f"the bandwidth of {names}"
        text, reached = f"at least {100 * limit:.0f} % of {of}", value and f"{100 * value:.0f} %"
    return f"{text}: {reached or 'unknown'}"
