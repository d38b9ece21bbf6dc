# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark: a clean environment, the machine, the ceilings, the cases."""

from __future__ import annotations

import datetime
import gc
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fusednn
from fusednn import _core, machine
from fusednn.bench import ceilings, goals, harness, rivals, schema, suites, teams
from fusednn.bench.placement import Placement

Document = dict[str, Any]

PACKAGES = ("numpy", "torch", "jax", "scikit-learn", "scipy")


@dataclass(frozen=True)
class Plan:
    """What is to be measured: suites, of these the cases named like `only`, and libraries."""

    suites: Sequence[str]
    libraries: Sequence[str]
    only: str = ""
    quick: bool = False

    @property
    def effort(self) -> harness.Effort:
        """How much time is spent on each case."""
        return harness.QUICK if self.quick else harness.Effort()

    @property
    def seconds_per_ceiling(self) -> float:
        """How long each limit of the machine is looked for."""
        return 0.01 if self.quick else 0.3


def environment(given: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment in which every library runs its best kernels on so many threads."""
    cleaned = machine.without_kernel_variables(given)
    cleaned.update(dict.fromkeys(machine.THREAD_VARIABLES, str(threads)))
    cleaned["JAX_PLATFORMS"] = "cpu"
    return cleaned


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _load() -> float | None:
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _machine(plan: Plan) -> dict[str, Any]:
    return {
        "cpu": machine.processor_name(),
        "isa": _core.isa(),
        "threads": fusednn.get_num_threads(),
        "processors": os.cpu_count() or 1,
        "cache_bytes": machine.last_level_cache(),
        "os": platform.platform(),
        "compiler": _core.build_info()["compiler"],
        "python": platform.python_version(),
        "versions": {"fusednn": fusednn.__version__, **machine.versions(PACKAGES)},
        "rivals": rivals.describe(plan.libraries),
        "load_start": _load(),
        "load_end": None,
    }


def begin(plan: Plan) -> Document:
    """Return a document without cases: the machine, and its ceilings."""
    about = _machine(plan)
    return {
        "schema": schema.VERSION,
        "date": _now(),
        "quick": plan.quick,
        "most_spread": harness.MOST_SPREAD,
        "most_taken": harness.MOST_TAKEN,
        "machine": about,
        "ceilings": ceilings.measure(about["threads"], plan.seconds_per_ceiling),
        "cases": [],
    }


def chosen(plan: Plan) -> list[harness.Case]:
    """Return the cases of a plan that the machine has enough processors for."""
    most = fusednn.get_num_threads()
    found = [case for suite in plan.suites for case in suites.cases(suite)]
    supported = {entry["name"] for entry in _core.isas() if entry["supported"]} | {""}
    return [
        case
        for case in found
        if plan.only in case.name and case.threads <= most and case.isa in supported
    ]


def _takes_part(plan: Plan, case: harness.Case, threads: int) -> Callable[[str], bool]:
    """Return what says whether a rival can do a case, and is wanted."""

    def decide(rival: str) -> bool:
        library = rivals.library_of(rival)
        if goals.is_own(rival):
            return True
        other_isa = case.isa not in ("", _core.isa())
        other_team = case.threads not in (0, threads) and not teams.follows(library)
        return library in plan.libraries and not other_isa and not other_team

    return decide


def measured(
    plan: Plan, document: Document, case: harness.Case, placement: Placement | None = None
) -> dict[str, Any]:
    """Return the record of a case."""
    about = document["machine"]
    threads, isa = case.threads or about["threads"], case.isa or about["isa"]
    wanted = _takes_part(plan, case, about["threads"])
    floor = ceilings.floor(
        ceilings.Cost(case.flops, case.bytes, case.dtype, threads, isa), document
    )
    with teams.at_work(threads, isa):
        watch = placement if threads > 1 else None
        record = harness.measure(case, wanted, floor, plan.effort, watch)
    record.update(threads=threads, isa=isa, date=_now())
    record["goals"] = goals.judged(case.goals, record, document["ceilings"])
    return record


def finish(plan: Plan, document: Document) -> None:
    """Measure the ceilings once more, and judge by the higher ones.

    A machine that was slow at the beginning would make everything after it look too good.
    """
    about = document["machine"]
    again = ceilings.measure(about["threads"], plan.seconds_per_ceiling)
    document["ceilings"] = ceilings.highest([document["ceilings"], again])
    for record in document["cases"]:
        cost = ceilings.Cost(*(record[name] for name in ceilings.Cost._fields))
        harness.set_floor(record, ceilings.floor(cost, document))
        wanted = [goals.Goal(g["kind"], g["limit"], tuple(g["of"])) for g in record["goals"]]
        record["goals"] = goals.judged(wanted, record, document["ceilings"])
    about["load_end"] = _load()


def run(
    plan: Plan,
    document: Document,
    cases: Sequence[harness.Case],
    tell: Callable[[dict[str, Any]], object],
) -> None:
    """Measure cases into the document; `tell` gets each record as soon as it is there."""
    team = document["machine"]["threads"]
    placement = Placement(team) if team > 1 and not plan.quick else None
    for case in cases:
        record = measured(plan, document, case, placement)
        document["cases"].append(record)
        tell(record)
        gc.collect()  # what torch and jax compiled, and the arrays in it
    finish(plan, document)


def save(document: Document, path: Path) -> None:
    """Write a document, whole or not at all."""
    found = schema.problems(document)
    if found:
        raise RuntimeError(f"the document does not fit its schema: {'; '.join(found[:3])}")
    half = path.with_name(path.name + ".part")
    half.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    half.replace(path)
