# SPDX-License-Identifier: Apache-2.0
"""The form of the JSON document; ``bench/README.md`` says what its fields mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

VERSION = 3
NUMBER = (int, float)
NOTHING = type(None)

Form = dict[str, Any]

GOAL: Form = {
    "kind": str,
    "limit": NUMBER,
    "of": list,
    "value": (*NUMBER, NOTHING),
    "met": (bool, NOTHING),
}
TIMES: Form = {"median": NUMBER, "iqr": NUMBER, "best": NUMBER, "n": int}
CASE: Form = {
    "suite": str,
    "name": str,
    "params": dict,
    "dtype": str,
    "threads": int,
    "isa": str,
    "date": str,
    "flops": NUMBER,
    "bytes": NUMBER,
    "floor_us": (*NUMBER, NOTHING),
    "checked": bool,
    "complaint": str,
    "ours": (dict, NOTHING),
    "rivals": dict,
    "refused": dict,
    "ratios": dict,
    "range_us": (list, NOTHING),
    "ranges": dict,
    "quality": dict,
    "goals": list,
    "percent_of_floor": (*NUMBER, NOTHING),
    "taken_by_others": (*NUMBER, NOTHING),
    "steady": bool,
    "conclusive": bool,
}
MACHINE: Form = {
    "cpu": str,
    "isa": str,
    "threads": int,
    "processors": int,
    "cache_bytes": (int, NOTHING),
    "os": str,
    "compiler": str,
    "python": str,
    "versions": dict,
    "rivals": dict,
    "load_start": (*NUMBER, NOTHING),
    "load_end": (*NUMBER, NOTHING),
}
DOCUMENT: Form = {
    "schema": int,
    "date": str,
    "quick": bool,
    "most_spread": NUMBER,
    "most_taken": NUMBER,
    "machine": MACHINE,
    "ceilings": {"fma": dict, "memory": dict, "taken_by_others": (*NUMBER, NOTHING)},
    "cases": list,
}


def _differences(value: Any, form: Any, place: str) -> Iterator[str]:
    if not isinstance(form, dict):
        kinds = form if isinstance(form, tuple) else (form,)
        # A bool is an int to isinstance, but not to a reader.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join(kind.__name__ for kind in kinds)
            yield f"{place} is {type(value).__name__}, expected {names}"
        return
    if not isinstance(value, dict):
        yield f"{place} is {type(value).__name__}, expected an object"
        return
    for name in sorted(set(form) | set(value)):
        where = f"{place}.{name}" if place else name
        if name not in value:
            yield f"{where} is missing"
        elif name not in form:
            yield f"{where} is unknown"
        else:
            yield from _differences(value[name], form[name], where)


def _case_problems(case: Any, place: str) -> Iterator[str]:
    found = list(_differences(case, CASE, place))
    yield from found
    if found:
        return
    for name, times in [("ours", case["ours"]), *case["rivals"].items()]:
        if times is not None:
            yield from _differences(times, TIMES, f"{place}.{name}")
    for number, goal in enumerate(case["goals"]):
        yield from _differences(goal, GOAL, f"{place}.goals[{number}]")
    if case["checked"] != (not case["complaint"]):
        yield f"{place}: a complaint and checked exclude each other"
    if case["checked"] != (case["ours"] is not None):
        yield f"{place}: what is timed has been checked, and the other way round"
    for name in ("ratios", "ranges"):
        if set(case[name]) != set(case["rivals"]):
            yield f"{place}: every rival has its place in {name}, which may be null"
    if case["conclusive"] and not case["steady"]:
        yield f"{place}: conclusive, but our own time is not steady"
    if case["conclusive"] and None in case["ratios"].values():
        yield f"{place}: conclusive, but without every ratio"


def problems(document: Any) -> list[str]:
    """Return in what a document differs from the form; nothing where it fits."""
    found = list(_differences(document, DOCUMENT, ""))
    if found:
        return found
    if document["schema"] != VERSION:
        return [f"schema is {document['schema']}, expected {VERSION}"]
    for place, case in enumerate(document["cases"]):
        found += _case_problems(case, f"cases[{place}]")
    return found
