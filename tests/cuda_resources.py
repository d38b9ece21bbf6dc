# SPDX-License-Identifier: Apache-2.0
"""Compare what the CUDA kernels use with a committed budget.

    python tests/cuda_resources.py build.log            # fails where a kernel uses more
    python tests/cuda_resources.py build.log --write    # the budget becomes what is used

The log is the output of a build with -DFUSEDNN_CUDA_REPORT=ON. A kernel stands for all its
instantiations; of each number the largest counts.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

BUDGET = Path(__file__).with_suffix(".json")
ENTRY = re.compile(r"Compiling entry function '(\w+)' for '(sm_\d+)a?'")
FILE = re.compile(r"_GLOBAL__N__[0-9a-f]+_\d+_(\w+?)_cu_")
STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores")
USED = re.compile(r"Used (\d+) registers")
Usage = dict[str, dict[str, dict[str, int]]]  # architecture, kernel, number


def demangled(names: list[str]) -> list[str]:
    """Return file and name of each kernel, without template arguments and parameters."""
    if not names:
        return []
    run = subprocess.run(["c++filt", "-p"], input="\n".join(names), capture_output=True, text=True)
    if run.returncode != 0:
        raise SystemExit("c++filt: " + run.stderr)
    result = []
    for mangled, line in zip(names, run.stdout.splitlines(), strict=True):
        name, depth = "", 0
        for character in line.replace("(anonymous namespace)::", ""):
            depth += (character == "<") - (character == ">")
            name += character if depth == 0 and character != ">" else ""
        kernel = name.split("(")[0].split()[-1].split("::")[-1]
        file = FILE.search(mangled)
        result.append(f"{file[1]}.cu {kernel}" if file else kernel)
    return result


def read(log: str) -> Usage:
    """Return the largest numbers of each kernel in a build's output."""
    found: list[tuple[str, str, dict[str, int]]] = []
    for line in log.splitlines():
        if entry := ENTRY.search(line):
            found.append((entry[1], entry[2], {"registers": 0, "stack": 0, "spilled": 0}))
        elif found and (stack := STACK.search(line)):
            found[-1][2].update(stack=int(stack[1]), spilled=int(stack[2]))
        elif found and (used := USED.search(line)):
            found[-1][2]["registers"] = int(used[1])
    usage: Usage = {}
    for name, (_, architecture, numbers) in zip(
        demangled([entry[0] for entry in found]), found, strict=True
    ):
        kernel = usage.setdefault(architecture, {}).setdefault(name, dict.fromkeys(numbers, 0))
        for key, value in numbers.items():
            kernel[key] = max(kernel[key], value)
    return usage


def compare(usage: Usage, budget: Usage) -> list[str]:
    """Return a line for each number above its budget and each kernel that has none."""
    complaints = []
    for architecture, kernels in usage.items():
        for name, numbers in kernels.items():
            allowed = budget.get(architecture, {}).get(name)
            if allowed is None:
                complaints.append(f"{architecture} {name}: has no budget")
                continue
            for key, value in numbers.items():
                if value > allowed[key]:
                    complaints.append(
                        f"{architecture} {name}: {value} {key}, at most {allowed[key]}"
                    )
    missing = sorted(set(budget) - set(usage))
    return complaints + [f"{architecture}: not in the log" for architecture in missing]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true", help="take what is used as the budget")
    arguments = parser.parse_args()
    usage = read("".join(log.read_text() for log in arguments.log))
    if not usage:
        print("no kernel was compiled anew: there is nothing to compare")
        return 0
    if arguments.write:
        BUDGET.write_text(json.dumps(usage, indent=1, sort_keys=True) + "\n")
        return 0
    complaints = compare(usage, json.loads(BUDGET.read_text()))
    print("\n".join(complaints) or f"{sum(map(len, usage.values()))} kernels within budget")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
