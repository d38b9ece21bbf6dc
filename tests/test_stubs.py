# SPDX-License-Identifier: Apache-2.0
"""The stub in the repository is that of the compiled module; `make stubs` writes it anew."""

import difflib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fusednn

pytest.importorskip("pybind11_stubgen")

COMMITTED = Path(__file__).parents[1] / "python" / "fusednn" / "_core.pyi"


def lines(path):
    """The stub without the version, which changes with every release."""
    return [line for line in path.read_text().splitlines() if not line.startswith("__version__")]


def test_the_stub_is_that_of_the_module(tmp_path):
    # The module under test is the one that this process found.
    path = os.pathsep.join([str(Path(fusednn.__file__).parents[1]), *sys.path])
    subprocess.run(
        [sys.executable, "-m", "pybind11_stubgen", "fusednn._core", "--output-dir", str(tmp_path)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    made = lines(tmp_path / "fusednn" / "_core.pyi")
    changes = list(
        difflib.unified_diff(lines(COMMITTED), made, "committed", "compiled", lineterm="")
    )
    assert not changes, "run `make stubs`:\n" + "\n".join(changes)


def test_the_package_says_that_it_is_typed():
    assert (Path(fusednn.__file__).parent / "py.typed").exists()
