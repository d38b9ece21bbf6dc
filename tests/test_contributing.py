# SPDX-License-Identifier: Apache-2.0
"""CONTRIBUTING keeps its word: the diff it shows is in the sources, and does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import oracle
from fusednn import ops

ROOT = Path(__file__).parents[1]
DIFF = re.search(r"```diff\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.DOTALL)[1]


def additions():
    """Added lines of the diff by file."""
    files = {}
    for line in DIFF.splitlines():
        if line.startswith("+++ b/"):
            added = files.setdefault(line[len("+++ b/") :], [])
        elif line.startswith("+"):
            added.append(line[1:])
    return files


def test_the_diff_is_in_the_sources():
    files = additions()
    assert set(files) == {"csrc/rules/activations.h", "tests/oracle/activations.py"}
    for name, added in files.items():
        lines = (ROOT / name).read_text("utf-8").splitlines()
        assert [line for line in added if line not in lines] == []


def test_the_diff_is_one_struct_one_entry_and_one_line():
    files = additions()
    assert sum(line.startswith("struct ") for line in files["csrc/rules/activations.h"]) == 1
    assert len(files["tests/oracle/activations.py"]) == 1


def test_what_it_added_works():
    x = np.linspace(-30, 30, 61)
    np.testing.assert_allclose(
        ops.activation_forward(x, "log_sigmoid"),
        oracle.ACTIVATIONS["log_sigmoid"].forward(x),
        rtol=1e-14,
    )
