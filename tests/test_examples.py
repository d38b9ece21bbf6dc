# SPDX-License-Identifier: Apache-2.0
"""The examples run, train and say how much faster they are; code in the docs runs as well."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(name, *arguments):
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def housing(tmp_path):
    """A file with the columns of California housing, small and made up."""
    rng = np.random.default_rng(0)
    names = [f"feature{i}" for i in range(8)]
    x = rng.standard_normal((1000, len(names)))
    table = np.column_stack([x, x[:, 0] - 0.5 * x[:, 6]])
    path = tmp_path / "california_housing.csv"
    header = ",".join([*names, "MedHouseVal"])
    np.savetxt(path, table, delimiter=",", header=header, comments="")
    return path


@pytest.mark.parametrize("name", ["numpy_loop", "torch_one_line"])
def test_the_same_training_with_our_optimizer(name):
    pytest.importorskip("sklearn")
    if name.startswith("torch"):
        pytest.importorskip("torch")
    printed = run(name, "--epochs", "2")
    losses = re.findall(r"loss after one epoch ([\d.]+)", printed)
    accuracies = re.findall(r"test accuracy ([\d.]+)", printed)
    assert len(losses) == len(accuracies) == 2
    assert float(losses[0]) == pytest.approx(float(losses[1]), rel=1e-3)
    assert min(map(float, accuracies)) > 0.7
    assert re.search(r"speed-up: optimizer step [\d.]+ times as fast, the whole", printed)


def test_numpy_agrees_to_the_last_printed_digit_in_float64():
    pytest.importorskip("sklearn")
    printed = run("numpy_loop", "--epochs", "1", "--dtype", "float64")
    assert len(set(re.findall(r"loss after one epoch ([\d.]+)", printed))) == 1


def test_swapped_modules(housing):
    pytest.importorskip("torch")
    printed = run("torch_swap_modules", "--data", str(housing), "--epochs", "2")
    row = r"^(torch|swap_modules|and our Adam) +[\d.]+ +([\d.]+)x +([\d.]+)$"
    rows = re.findall(row, printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["torch", "swap_modules", "and our Adam"]
    errors = [float(row[2]) for row in rows]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-2)
    assert "FusedLinear" in printed


def test_what_is_said_without_the_data():
    pytest.importorskip("torch")
    command = [sys.executable, str(EXAMPLES / "torch_swap_modules.py"), "--data", "nowhere.csv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "nowhere.csv" in done.stderr


@pytest.mark.parametrize("page", ["optim.md", "torch.md", "torch-nn.md"])
def test_code_and_links_of_the_docs(page):
    if page.startswith("torch"):
        pytest.importorskip("torch")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+\.md)", text):
        assert (ROOT / "docs" / link).exists()
    sources = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert sources
    names = {}
    for source in sources:  # a page reads from top to bottom
        exec(compile(source, page, "exec"), names)
