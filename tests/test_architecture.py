# SPDX-License-Identifier: Apache-2.0
"""The rules of the house that no compiler checks: who sees whom, and what is written only once."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fusednn
import oracle
from fusednn import _core

ROOT = Path(__file__).parents[1]
CSRC = ROOT / "csrc"
CPP_SUFFIXES = {".h", ".cpp", ".cu", ".cuh"}
CPP_SOURCES = sorted(path for path in CSRC.rglob("*") if path.suffix in CPP_SUFFIXES)
PYTHON_SOURCES = sorted(
    path for folder in ("python", "tests", "bench") for path in (ROOT / folder).rglob("*.py")
)
KERNELS = sorted((CSRC / "cpu" / "kernels").glob("*.cpp"))

# Folder -> folders whose headers it may include, besides its own.
MAY_INCLUDE = {
    "core": set(),
    "rules": {"core"},
    "engine": {"core", "engine/layers"},
    "engine/layers": {"core", "engine"},
    "cpu": {"core", "cpu/kernels"},
    "cpu/kernels": {"core", "rules"},
    "cuda": {"core", "cuda/kernels"},
    "cuda/kernels": {"core", "rules"},
    "bindings": {"core", "engine"},
}
# The seams: a folder or a single file, and what it alone may include.
SEAMS = {
    ("cpu", "engine/backend.h"),
    ("cpu/kernels", "engine/backend.h"),
    # What a backend learns of a list while it runs, kept by whoever runs it.
    ("cpu/pace.h", "engine/pace.h"),
    ("cuda", "engine/backend.h"),
    # What lies behind the arguments of an operation: part of the contract, but for the host alone.
    ("cuda", "engine/pointers.h"),
    ("cuda/kernels", "engine/backend.h"),
    ("cuda/kernels", "cuda/launch.cuh"),
    # A module of its own: the rest of the bindings knows a CUDA device by the contract alone.
    ("bindings/cuda_module.cpp", "cuda/backend.h"),
    ("bindings/cuda_module.cpp", "cuda/cublaslt.h"),
    ("bindings/cuda_module.cpp", "cuda/fusion.h"),
    ("engine/registry.cpp", "cpu/backend.h"),
    # Which instruction sets and how many threads: properties of one device, not of the engine.
    ("bindings/bind_info.cpp", "cpu/backend.h"),
    ("bindings/bind_info.cpp", "cpu/host_threads.h"),
    ("bindings/bind_bench.cpp", "cpu/ceiling.h"),
    # What the processor can do at most: again a property of one device.
    ("bindings/bind_bench.cpp", "cpu/ceiling.h"),
    # The catalog turns names into numbers, so it sees the lists of rules; it computes nothing.
    ("engine/catalog.cpp", "rules/activations.h"),
    ("engine/catalog.cpp", "rules/elementary.h"),
    ("engine/catalog.cpp", "rules/losses.h"),
    ("engine/catalog.cpp", "rules/optimizers.h"),
    # How many numbers a metric counts.
    ("engine/criteria.cpp", "rules/tally.h"),
}
# What a file compiled per instruction set may take from the system: nothing that emits symbols.
KERNEL_SYSTEM_HEADERS = {"arm_neon.h", "immintrin.h", "stddef.h", "stdint.h"}


def relative(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def includes(path: Path) -> tuple[list[str], list[str]]:
    """The headers a file includes: ours, the system's."""
    text = path.read_text()
    return (
        re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE),
        re.findall(r"^\s*#\s*include\s+<([^>]+)>", text, re.MULTILINE),
    )


def closure(path: Path) -> set[Path]:
    """A file and every header of ours it sees, directly or not."""
    seen, todo = set(), [path]
    while todo:
        current = todo.pop()
        if current not in seen:
            seen.add(current)
            todo += [CSRC / name for name in includes(current)[0] if (CSRC / name).exists()]
    return seen


@pytest.mark.parametrize("path", CPP_SOURCES, ids=relative)
def test_include_direction(path):
    folder = path.parent.relative_to(CSRC).as_posix()
    for name in includes(path)[0]:
        target = Path(name).parent.as_posix()
        allowed = (
            target == folder
            or target in MAY_INCLUDE[folder]
            or (folder, name) in SEAMS
            or (relative(path), name) in SEAMS
        )
        assert allowed, f"{relative(path)} may not include {name}"


@pytest.mark.parametrize("path", KERNELS, ids=relative)
def test_kernels_see_no_standard_library(path):
    for header in closure(path):
        foreign = set(includes(header)[1]) - KERNEL_SYSTEM_HEADERS
        assert not foreign, f"{relative(path)} sees {sorted(foreign)} through {relative(header)}"


def test_only_kernels_see_intrinsics():
    for path in CPP_SOURCES:
        if not relative(path).startswith("cpu/"):
            seen = set(includes(path)[1]) & {"immintrin.h", "arm_neon.h", "x86intrin.h"}
            assert not seen, f"{relative(path)} includes {sorted(seen)}"


def test_kernels_are_started_in_one_place():
    # launch() checks for errors, and is what the emulator can take the place of.
    for path in CPP_SOURCES:
        assert "<<<" not in path.read_text(), relative(path)


def test_files_fit_in_a_readers_head():
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in CPP_SOURCES + PYTHON_SOURCES
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert not long


def test_every_source_names_its_licence():
    bare = [
        path.relative_to(ROOT).as_posix()
        for path in CPP_SOURCES + PYTHON_SOURCES
        if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(path.read_text().split("\n")[:2])
    ]
    assert not bare


# ---- one formula, one place ------------------------------------------------------------------


RULE_NAME = re.compile(r'\bname\[\]\s*=\s*"([^"]+)"')
RULE_FILES = {
    "activations": ["activations.h"],
    "losses": ["losses.h"],
    "optimizers": ["optimizers.h", "adam.h"],
    "elementary": ["elementary.h"],
}


def rule_names(family: str) -> list[str]:
    return [
        name
        for file in RULE_FILES[family]
        for name in RULE_NAME.findall((CSRC / "rules" / file).read_text())
    ]


@pytest.mark.parametrize("family", RULE_FILES)
def test_every_rule_is_written_once(family):
    declared = Counter(rule_names(family))
    assert declared, "no rule found: has the way they state their name changed?"
    assert not {name: count for name, count in declared.items() if count > 1}


def test_rules_are_written_nowhere_else():
    known = {f"rules/{file}" for files in RULE_FILES.values() for file in files}
    found = {relative(path) for path in CPP_SOURCES if RULE_NAME.search(path.read_text())}
    assert found == known


# Words the engine uses in a sense of its own: "linear" is how it says that a layer has no
# activation, "momentum" is also a number of batch normalisation.
HOMONYMS = {"linear", "momentum"}


def test_no_backend_or_engine_knows_a_rule_by_name():
    # A name in a string there would be a special case, and the rule would live in two places.
    families = ("activations", "losses", "optimizers")
    names = {name for family in families for name in rule_names(family)} - HOMONYMS
    for path in CPP_SOURCES:
        if relative(path).startswith(("core/", "engine/", "cpu/", "cuda/")):
            known = names & set(re.findall(r'"([^"\n]*)"', path.read_text()))
            assert not known, f"{relative(path)} mentions {sorted(known)}"


# The options of an optimizer select among rules; the oracle is one function with those options.
SELECTED_BY_OPTIONS = {
    "amsgrad": "adam",
    "momentum": "sgd",
    "rmsprop_centered": "rmsprop",
    "rmsprop_centered_momentum": "rmsprop",
    "rmsprop_momentum": "rmsprop",
}
# And one oracle needs no rule: AdamW is Adam with a weight decay that rides along in every rule.
WITHOUT_A_RULE = {"adamw"}


def test_every_rule_has_an_oracle():
    losses = [*oracle.POINTWISE_LOSSES, *oracle.ROWWISE_LOSSES]
    optimizers = {SELECTED_BY_OPTIONS.get(name, name) for name in rule_names("optimizers")}
    assert sorted(rule_names("activations")) == sorted(oracle.ACTIVATIONS)
    assert sorted(rule_names("losses")) == sorted(losses)
    assert optimizers == set(oracle.OPTIMIZERS) - WITHOUT_A_RULE


@pytest.mark.parametrize("subject", ["activations", "losses", "optimizers"])
def test_python_sees_exactly_the_rules_that_are_written(subject):
    assert sorted(getattr(_core, subject)()) == sorted(rule_names(subject))


def test_one_version():
    project = (ROOT / "pyproject.toml").read_text()
    stated = re.search(r'^version = "(.+)"$', project, re.MULTILINE)[1]
    assert fusednn.__version__ == _core.__version__ == stated


# ---- symbols ---------------------------------------------------------------------------------

BUILD = ROOT / os.environ.get("FUSEDNN_BUILD_DIR", "build/release")
BUILT_KERNELS = sorted((BUILD / "csrc" / "cpu" / "CMakeFiles").glob("fnn_kernels_*.dir"))


def leaked_symbols(objects: list[Path], isa: str) -> list[str]:
    """What a linker could hand to code compiled for another processor.

    A mangled name that contains the namespace of the instruction set belongs to it alone. A static
    initialiser is local, but would run on every processor that loads the library.
    """
    namespace = f"{len(isa)}{isa}"
    listing = subprocess.run(
        ["nm", "--defined-only", *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    leaks = []
    for line in listing.splitlines():
        fields = line.split()
        if len(fields) != 3:
            continue
        kind, name = fields[1:]
        shared = kind.isupper() or kind in "uvw"
        if (shared and namespace not in name) or name.startswith("_GLOBAL__sub_I"):
            leaks.append(f"{kind} {name}")
    return sorted(set(leaks))


@pytest.mark.skipif(not BUILT_KERNELS, reason="no build of the kernels beside these tests")
@pytest.mark.skipif(not shutil.which("nm"), reason="nm is not installed")
def test_built_kernels_leak_no_symbol():
    for folder in BUILT_KERNELS:
        isa = folder.stem.removeprefix("fnn_kernels_")
        assert leaked_symbols(list(folder.rglob("*.o")), isa) == [], isa


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for x86-64")
@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm")
def test_unoptimised_kernels_leak_no_symbol(tmp_path):
    # Without optimisation nothing is inlined, so every function that could ever leak is a symbol.
    isa = "x86_64_v3"

    def compile_kernel(source: Path) -> Path:
        target = tmp_path / f"{source.stem}.o"
        command = ["g++", "-std=c++17", "-O0", "-fPIC", "-march=x86-64-v3", "-fno-exceptions", "-w"]
        command += [f"-DFNN_ISA={isa}", f"-DFNN_ISA_{isa.upper()}=1", f"-I{CSRC}"]
        subprocess.run([*command, "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_kernel, KERNELS))
    assert leaked_symbols(objects, isa) == []
