# SPDX-License-Identifier: Apache-2.0
"""Measure fusednn on this machine beside the limits of the machine and other libraries.

Every answer is checked before it is timed; ours and the rivals' are timed in turns. Variables that
tie a library to slower kernels are cleared first. Exit codes: 0, every case was right and
conclusive; 1, an answer of ours was wrong; 2, the call cannot be carried out; 3, something was too
noisy to conclude; 130, interrupted, with what was measured so far in the file. Goals do not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fusednn
from fusednn.bench import ceilings, harness, report, rivals, session, suites
from fusednn.cli import UsageError
from fusednn.cli.reading import whole_number

SUMMARY = "measure speed beside the limits of the machine and other libraries"
RIGHT, WRONG, NOISY = 0, 1, 3
LEAST_GAIN = 0.75  # of the threads' number; less is worth a word


def _suites(text: str) -> list[str]:
    names = list(suites.SUITES) if text == "all" else text.split(",")
    for name in names:
        if name not in suites.SUITES:
            raise argparse.ArgumentTypeError(
                f"{name!r} is unknown; choose from {', '.join(suites.SUITES)}, or all"
            )
    return names


def _libraries(text: str) -> list[str] | None:
    """The libraries of a list; None means all that are installed."""
    if text == "all":
        return None
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in rivals.LIBRARIES:
            raise argparse.ArgumentTypeError(
                f"{name!r} is unknown; choose from {', '.join(rivals.LIBRARIES)}, or all, or none"
            )
    return names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``bench``."""
    parser.add_argument(
        "--suite",
        type=_suites,
        default="all",
        metavar="LIST",
        help=f"some of {', '.join(suites.SUITES)} (default: all)",
    )
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="only cases whose name contains this"
    )
    parser.add_argument(
        "--rivals",
        type=_libraries,
        default="all",
        metavar="LIST",
        help=f"some of {', '.join(rivals.LIBRARIES)}, or none (default: all that are installed)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to a file")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="draw them; x.png gives x-steps.png, x-growth.png, x-roofline.png; needs matplotlib",
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: to see that it works")
    parser.add_argument(
        "--threads",
        type=whole_number(1),
        metavar="N",
        help="threads for every library (default: what fusednn uses)",
    )


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what could not be carried out, before minutes are spent on measuring."""
    for option in ("json", "plot"):
        path = getattr(arguments, option)
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"--{option} {path}: there is no folder {path.absolute().parent}")
    if arguments.plot is not None and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install matplotlib")
    missing = [n for n in arguments.rivals or () if importlib.util.find_spec(n) is None]
    if missing:
        raise UsageError(f"--rivals: {', '.join(missing)} cannot be imported here")


def _again(arguments: argparse.Namespace, environment: dict[str, str]) -> int:
    """Run the same command in a process with another environment."""
    command = [sys.executable, "-m", "fusednn", "bench"]
    command += ["--suite", ",".join(arguments.suite)]
    command += ["--only", arguments.only] if arguments.only else []
    if arguments.rivals is not None:
        command += ["--rivals", ",".join(arguments.rivals) or "none"]
    for option in ("json", "plot", "threads"):
        value = getattr(arguments, option)
        command += [f"--{option}", str(value)] if value is not None else []
    command += ["--quick"] if arguments.quick else []
    return subprocess.run(command, env=environment, check=False).returncode


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark; 0 when all is right and conclusive, 1 when wrong, 3 when noisy."""
    _check(arguments)
    threads = arguments.threads or fusednn.get_num_threads()
    clean = session.environment(os.environ, threads)
    if clean != dict(os.environ):
        for name in sorted(set(os.environ) - set(clean)):
            print(f"cleared {name}={os.environ[name]}, which chooses kernels for a library")
        sys.stdout.flush()
        return _again(arguments, clean)
    return _measure(arguments)


def _measure(arguments: argparse.Namespace) -> int:
    plan = session.Plan(
        suites=arguments.suite,
        libraries=rivals.installed() if arguments.rivals is None else arguments.rivals,
        only=arguments.only,
        quick=arguments.quick,
    )
    cases = session.chosen(plan)
    for suite in plan.suites:
        for note in suites.notes(suite):
            print(note)
    if not cases:
        raise UsageError(f"no case that can run here has {arguments.only!r} in its name")
    document = session.begin(plan)
    print(f"{report.machine(document)}\n", flush=True)

    def tell(record: dict[str, Any]) -> None:
        place = f"{len(document['cases']):>{len(str(len(cases)))}}/{len(cases)}"
        print(f"{place} {report.verdict(record)}", flush=True)

    begin = time.monotonic()
    try:
        session.run(plan, document, cases, tell)
    finally:
        # What was measured before an interruption is kept.
        if document["cases"] and arguments.json is not None:
            session.save(document, arguments.json)
            print(f"numbers         {arguments.json}")
    print(f"\n{report.tables(document)}\n\n{report.goals(document)}")
    print(f"{len(cases)} cases in {(time.monotonic() - begin) / 60:.1f} minutes")
    if arguments.plot is not None:
        from fusednn.bench import plot

        for path in plot.draw(document, arguments.plot):
            print(f"picture         {path}")
    return _conclude(document)


def _conclude(document: dict[str, Any]) -> int:
    measured = [document["ceilings"], *document["cases"]]
    taken = max((each["taken_by_others"] or 0.0) for each in measured)
    if not harness.is_quiet(taken):
        print(f"Others took up to {100 * taken:.0f} % of the processors: measure again in peace.")
    about = document["machine"]
    gain = ceilings.gain(document["ceilings"], about["isa"], about["threads"])
    if gain < LEAST_GAIN:
        times = f"{gain * about['threads']:.1f} times"
        print(
            f"{about['threads']} threads compute {times} as much as one: they share a processor, "
            "or did not all run. Floors are those of what there was."
        )
    if document["quick"]:
        print("A quick run shows that it works; its numbers mean nothing.")
    if not all(record["checked"] for record in document["cases"]):
        return WRONG
    return RIGHT if all(record["conclusive"] for record in document["cases"]) else NOISY
