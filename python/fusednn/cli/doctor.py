# SPDX-License-Identifier: Apache-2.0
"""Show what fusednn finds on this machine, and the one line that mends each problem.

The exit code is 0 when fusednn works here and 1 when it does not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import fusednn
from fusednn import _core, datasets, device
from fusednn.cli.selftest import SELF_TESTS
from fusednn.machine import processor_name, versions

SUMMARY = "show what was found on this machine and how to mend what is wrong"
OPTIONAL_PACKAGES = (
    "scikit-learn", "torch", "matplotlib", "scipy", "pandas", "pyarrow", "jax", "keras",
)  # fmt: skip
VARIABLES = ("FUSEDNN_ISA", "FUSEDNN_NUM_THREADS", "OMP_NUM_THREADS", datasets.FOLDER_VARIABLE)


class Finding(NamedTuple):
    """Something to tell the user, and the one line that changes it."""

    what: str
    fix: str


class Findings(NamedTuple):
    """What keeps fusednn from working, and what only keeps it from working best."""

    problems: list[Finding]
    advice: list[Finding]


def _installation(findings: Findings) -> dict[str, Any]:
    if fusednn.__version__ != _core.__version__:
        findings.problems.append(
            Finding(
                f"the Python part is version {fusednn.__version__}, the compiled part "
                f"{_core.__version__}: two installations are mixed",
                "pip uninstall -y fusednn && pip install .    (in the source folder)",
            )
        )
    return {
        "version": fusednn.__version__,
        "folder": str(Path(fusednn.__file__).parent),
        "compiler": _core.build_info()["compiler"],
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def _processor(findings: Findings) -> dict[str, Any]:
    isas = {entry["name"]: entry["supported"] for entry in _core.isas()}
    best = next((name for name in reversed(isas) if isas[name]), None)
    chosen = None
    try:
        chosen = _core.isa()
    except RuntimeError as error:
        if best:
            findings.problems.append(Finding(str(error), "unset FUSEDNN_ISA"))
        else:
            findings.problems.append(Finding(str(error), "pip install .    (in the source folder)"))
    if chosen and chosen != best:
        findings.advice.append(
            Finding(f"FUSEDNN_ISA holds fusednn to {chosen}; {best} is faster", "unset FUSEDNN_ISA")
        )
    return {
        "name": processor_name(),
        "compiled": list(isas),
        "supported": [name for name in isas if isas[name]],
        "chosen": chosen,
        "bfloat16": None if chosen is None else _bfloat16(),
    }


def _bfloat16() -> str:
    return "AVX512-BF16" if _core.uses_bf16() else "emulated, no faster than float32"


def _threads(findings: Findings) -> dict[str, Any]:
    available = _core.available_processors()
    used = None
    try:
        used = fusednn.get_num_threads()
    except ValueError as error:
        findings.problems.append(Finding(str(error), "unset FUSEDNN_NUM_THREADS"))
    if used and used != available:
        by = next((v for v in VARIABLES[1:3] if os.environ.get(v)), None)
        effect = "they wait for each other" if used > available else "some stay idle"
        if by:
            findings.advice.append(
                Finding(
                    f"{by} sets {used} threads for {available} processors: {effect}", f"unset {by}"
                )
            )
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return {
        "processors": os.cpu_count(),
        "affinity": affinity,
        "available": available,
        "used": used,
    }


def _cuda() -> dict[str, Any]:
    """The device and the libraries, or the exact reason why there is none."""
    reason = device.cuda_problem()
    library, without = ("", "") if reason else device.cublaslt()
    return {
        "there": not reason,
        "reason": reason,
        "device": device.cuda_device(),
        "cublaslt": library or without,
    }


def _datasets() -> dict[str, dict[str, str | None]]:
    return {
        entry.name: {"title": entry.title, "folder": entry.locate(), "install": entry.help}
        for entry in datasets.catalog()
    }


def _self_test(findings: Findings) -> list[dict[str, Any]]:
    results = []
    for test in SELF_TESTS:
        error, failure = None, None
        try:
            error = test.error()
            if not error <= test.tolerance:
                failure = f"error {error:.1e} exceeds {test.tolerance:.1e}"
        except Exception as exception:  # whatever is broken, the rest of the report is still wanted
            failure = f"{type(exception).__name__}: {exception}"
        results.append(
            {
                "name": test.name,
                "passed": failure is None,
                "error": error,
                "tolerance": test.tolerance,
            }
        )
        if failure:
            findings.problems.append(
                Finding(f"self-test {test.name!r} failed: {failure}", _mend_kernels())
            )
    return results


def _mend_kernels() -> str:
    slower = [entry["name"] for entry in _core.isas() if entry["supported"]][:-1]
    if slower and not os.environ.get("FUSEDNN_ISA"):
        return f"export FUSEDNN_ISA={slower[-1]}    (and report the failure with `doctor --json`)"
    return "pip install --force-reinstall .    (in the source folder)"


def examine() -> dict[str, Any]:
    """Return all that the doctor finds, as plain values that JSON can hold."""
    findings = Findings([], [])
    report: dict[str, Any] = {
        "fusednn": _installation(findings),
        "processor": _processor(findings),
        "threads": _threads(findings),
        "environment": {name: os.environ.get(name) for name in VARIABLES},
        "cuda": _cuda(),
        "packages": versions(OPTIONAL_PACKAGES),
        "datasets": _datasets(),
        "self_test": _self_test(findings),
    }
    report["healthy"] = not findings.problems
    report["problems"] = [finding._asdict() for finding in findings.problems]
    report["advice"] = [finding._asdict() for finding in findings.advice]
    return report


# ---- the report for people ---------------------------------------------------------------------

Rows = list[tuple[str, str]]


def _installation_rows(report: dict[str, Any]) -> Rows:
    us = report["fusednn"]
    return [
        ("fusednn", f"{us['version']}, {us['compiler']}, in {us['folder']}"),
        ("Python", f"{us['python']}, {sys.executable}"),
        ("NumPy", us["numpy"]),
        ("platform", us["platform"]),
    ]


def _processor_rows(report: dict[str, Any]) -> Rows:
    cpu, threads, variables = report["processor"], report["threads"], report["environment"]
    sets = (n if n in cpu["supported"] else f"{n} (not on this processor)" for n in cpu["compiled"])
    counts = [f"{threads['processors']} in the machine"]
    if threads["affinity"] is not None:
        counts.append(f"{threads['affinity']} in this process's affinity mask")
    counts.append(f"{threads['available']} after the cgroup's quota")
    return [
        ("processor", cpu["name"]),
        ("instruction sets", ", ".join(sets)),
        ("chosen", cpu["chosen"] or "none"),
        ("bfloat16", cpu["bfloat16"] or "none"),
        ("processors", ", ".join(counts)),
        ("threads", str(threads["used"] or "none")),
        *((name, value) for name, value in variables.items() if value is not None),
    ]


def _device_rows(report: dict[str, Any]) -> Rows:
    rows: Rows = [("cpu", "always there")]
    cuda = report["cuda"]
    if not cuda["there"]:
        return [*rows, ("cuda", cuda["reason"])]
    found = cuda["device"]
    capability, driver, runtime = (
        ".".join(map(str, found[key])) for key in ("capability", "driver", "runtime")
    )
    gigabytes = found["memory_bytes"] / 1e9
    return [
        *rows,
        ("cuda", f"{found['name']}, compute capability {capability}, {gigabytes:.0f} GB"),
        ("cuda driver", f"knows CUDA {driver}, this build uses {runtime}"),
        ("cuBLASLt", cuda["cublaslt"]),
    ]


def _package_rows(report: dict[str, Any]) -> Rows:
    found = [(name, version) for name, version in report["packages"].items() if version]
    missing = [name for name, version in report["packages"].items() if not version]
    rows = [(name, version) for name, version in found]
    return [*rows, ("not installed", ", ".join(missing))] if missing else rows


def _dataset_rows(report: dict[str, Any]) -> Rows:
    return [
        (name, entry["folder"] or f"not found; install it with: {entry['install']}")
        for name, entry in report["datasets"].items()
    ]


def _self_test_rows(report: dict[str, Any]) -> Rows:
    rows = []
    for test in report["self_test"]:
        verdict = "passed" if test["passed"] else "FAILED"
        measured = "no result" if test["error"] is None else f"error {test['error']:.1e}"
        rows.append((test["name"], f"{verdict}, {measured}, allowed {test['tolerance']:.0e}"))
    return rows


SECTIONS: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "Installation": _installation_rows,
    "Processor": _processor_rows,
    "Devices": _device_rows,
    "Optional packages": _package_rows,
    "Data sets": _dataset_rows,
    "Self-test, against NumPy in float64": _self_test_rows,
}


def render(report: dict[str, Any]) -> str:
    """Return the report as text."""
    sections = {title: rows(report) for title, rows in SECTIONS.items()}
    width = max(len(label) for rows in sections.values() for label, _ in rows)
    lines = []
    for title, rows in sections.items():
        lines += [title, *(f"  {label:<{width}}  {value}" for label, value in rows), ""]
    for kind in ("problems", "advice"):
        for finding in report[kind]:
            mark = "Problem" if kind == "problems" else "Advice"
            lines += [f"{mark}: {finding['what']}", f"    fix: {finding['fix']}"]
    lines.append("fusednn works here." if report["healthy"] else "fusednn does not work here.")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``doctor``."""
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 when fusednn works here, else 1."""
    report = examine()
    print(json.dumps(report, indent=2) if arguments.json else render(report))
    return 0 if report["healthy"] else 1
