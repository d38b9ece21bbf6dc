# SPDX-License-Identifier: Apache-2.0
"""The demo's network in scikit-learn and PyTorch: same data, same work, timed the same way.

Each library runs in a process of its own (``python -m fusednn.cli.rivals NAME FOLDER``), so that it
chooses its own kernels and threads and nobody waits for another's idle thread pool.
"""

from __future__ import annotations

import copy
import importlib.util
import itertools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fusednn.machine import without_kernel_variables

TIME_LIMIT_SECONDS = 600
Data = dict[str, np.ndarray]
PARTS = ("x_train", "y_train", "x_valid", "y_valid", "x_test", "y_test")


@dataclass(frozen=True)
class Work:
    """What every library does: this network, trained with Adam on batches of this size.

    A rival that has used up `most_seconds` ends after the epoch it is in, and its result says how
    many epochs it did.
    """

    hidden: tuple[int, ...]
    classes: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    most_seconds: float


@dataclass(frozen=True)
class Result:
    """What a library needed and reached; seconds cover all epochs, each with its validation."""

    library: str
    seconds: float
    epochs: int
    best_epoch: int
    accuracy: float


class RivalFailedError(RuntimeError):
    """A rival's process did not deliver a result; the message holds its last words."""


class Rival(Protocol):
    """The network in another library, ready to be trained."""

    library: str

    def train_epoch(self) -> None:
        """Pass once over the training samples."""

    def accuracy(self, part: str) -> float:
        """Return the accuracy on the samples of a part, "valid" or "test"."""

    def get_weights(self) -> Any:
        """Return a copy of the weights."""

    def set_weights(self, weights: Any) -> None:
        """Take weights that `get_weights` returned."""


class SklearnRival:
    """scikit-learn's MLPClassifier, epoch by epoch; the state of Adam lives on between them."""

    def __init__(self, work: Work, data: Data) -> None:
        import sklearn
        from sklearn.neural_network import MLPClassifier

        self.library = f"scikit-learn {sklearn.__version__}"
        self.data = data
        self.classes = range(work.classes)
        self.model = MLPClassifier(
            work.hidden,
            solver="adam",
            alpha=0,
            batch_size=work.batch_size,
            learning_rate_init=work.learning_rate,
            random_state=work.seed,
        )

    def train_epoch(self) -> None:
        self.model.partial_fit(self.data["x_train"], self.data["y_train"], classes=self.classes)

    def accuracy(self, part: str) -> float:
        return float(self.model.score(self.data[f"x_{part}"], self.data[f"y_{part}"]))

    def get_weights(self) -> Any:
        return copy.deepcopy((self.model.coefs_, self.model.intercepts_))

    def set_weights(self, weights: Any) -> None:
        self.model.coefs_, self.model.intercepts_ = weights


class TorchRival:
    """PyTorch with its fused Adam, data in memory as tensors, and our initial distribution."""

    def __init__(self, work: Work, data: Data) -> None:
        import torch

        torch.manual_seed(work.seed)
        self.torch = torch
        self.library = f"torch {torch.__version__}"
        self.data = {name: torch.from_numpy(array) for name, array in data.items()}
        self.batch_size = work.batch_size
        widths = [self.data["x_train"].shape[1], *work.hidden, work.classes]
        layers: list[Any] = []
        for inputs, outputs in itertools.pairwise(widths):
            dense = torch.nn.Linear(inputs, outputs)
            torch.nn.init.xavier_uniform_(dense.weight)
            torch.nn.init.zeros_(dense.bias)
            layers += [dense, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*layers[:-1])
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=work.learning_rate, fused=True
        )

    def train_epoch(self) -> None:
        x, y = self.data["x_train"], self.data["y_train"]
        loss = self.torch.nn.functional.cross_entropy
        for batch in self.torch.randperm(len(x)).split(self.batch_size):
            self.optimizer.zero_grad()
            loss(self.model(x[batch]), y[batch]).backward()
            self.optimizer.step()

    def accuracy(self, part: str) -> float:
        with self.torch.inference_mode():
            said = self.model(self.data[f"x_{part}"]).argmax(dim=1)
        return (said == self.data[f"y_{part}"]).double().mean().item()

    def get_weights(self) -> Any:
        return copy.deepcopy(self.model.state_dict())

    def set_weights(self, weights: Any) -> None:
        self.model.load_state_dict(weights)


# Package that must be installed -> its network.
RIVALS: dict[str, Callable[[Work, Data], Rival]] = {"sklearn": SklearnRival, "torch": TorchRival}


def train(rival: Rival, work: Work, validates: bool) -> Result:
    """Train as our demo does: with validation, the weights of the best epoch are kept."""
    best, best_epoch, weights = -1.0, 0, None
    start = time.perf_counter()
    for epoch in range(1, work.epochs + 1):
        rival.train_epoch()
        if validates and (accuracy := rival.accuracy("valid")) > best:
            best, best_epoch, weights = accuracy, epoch, rival.get_weights()
        seconds = time.perf_counter() - start
        if seconds > work.most_seconds:
            break
    if validates:
        rival.set_weights(weights)
    return Result(rival.library, seconds, epoch, best_epoch or epoch, rival.accuracy("test"))


def installed() -> list[str]:
    """Return the names of the rivals that are installed here."""
    return [name for name in RIVALS if importlib.util.find_spec(name)]


def write_work(folder: Path, data: Data) -> None:
    """Store the data where the rivals' processes find it."""
    for name in PARTS:
        np.save(folder / f"{name}.npy", data[name])


def race(name: str, work: Work, folder: Path) -> Result:
    """Let one rival do the work in a process of its own.

    Raises
    ------
    RivalFailedError
        If it fails, or needs more than ten minutes.
    """
    command = [sys.executable, "-m", "fusednn.cli.rivals", name, str(folder)]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asdict(work)),
            env=without_kernel_variables(os.environ),
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise RivalFailedError(f"{name} needed more than {TIME_LIMIT_SECONDS} s") from None
    if done.returncode != 0:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RivalFailedError(f"{name} failed: {words[-1]}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def main(name: str, folder: str) -> None:
    """Do the work described on standard input, and print the result as JSON."""
    warnings.simplefilter("ignore")  # such as "not converged": the number of epochs is given
    work = Work(**json.load(sys.stdin))
    data = {part: np.load(Path(folder, f"{part}.npy")) for part in PARTS}
    result = train(RIVALS[name](work, data), work, validates=len(data["y_valid"]) > 0)
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main(*sys.argv[1:])
