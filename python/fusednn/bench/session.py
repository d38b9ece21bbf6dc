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
from fusednn.bench import ceilings, harness, rivals, schema, suites

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


def environment(given: Mapping[str, str], threads: int) -> dict[str, str]:
    """Return the environment in which every library runs its best kernels on so many threads."""
    cleaned = machine.without_kernel_variables(given)
    cleaned.update(dict.fromkeys(machine.THREAD_VARIABLES, str(threads)))
    cleaned["JAX_PLATFORMS"] = "cpu"
    return cleaned


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
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "quick": plan.quick,
        "most_spread": harness.MOST_SPREAD,
        "most_taken": harness.MOST_TAKEN,
        "machine": about,
        "ceilings": ceilings.measure(about["threads"], seconds=0.01 if plan.quick else 0.3),
        "cases": [],
    }


def chosen(plan: Plan) -> list[harness.Case]:
    """Return the cases of a plan."""
    return [case for suite in plan.suites for case in suites.cases(suite) if plan.only in case.name]


def run(
    plan: Plan,
    document: Document,
    cases: Sequence[harness.Case],
    tell: Callable[[dict[str, Any]], object],
) -> None:
    """Measure cases into the document; `tell` gets each record as soon as it is there."""
    wanted = rivals.chooser(plan.libraries)
    for case in cases:
        record = harness.measure(case, wanted, ceilings.floor(case, document), plan.effort)
        document["cases"].append(record)
        tell(record)
        gc.collect()  # what torch and jax compiled, and the arrays in it
    document["machine"]["load_end"] = _load()


def save(document: Document, path: Path) -> None:
    """Write a document, whole or not at all."""
    found = schema.problems(document)
    if found:
        raise RuntimeError(f"the document does not fit its schema: {'; '.join(found[:3])}")
    half = path.with_name(path.name + ".part")
    half.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    half.replace(path)
