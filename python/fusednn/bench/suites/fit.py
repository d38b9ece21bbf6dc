# SPDX-License-Identifier: Apache-2.0
"""Whole trainings on real data: digits beside scikit-learn, an epoch of Fashion-MNIST beside torch.

The gate is the accuracy on test data that no library has seen.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

import fusednn
from fusednn import datasets
from fusednn.bench import goals
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network
from fusednn.cli import rivals as library
from fusednn.datasets import Dataset


@dataclass(frozen=True)
class Training:
    """A network, how it is trained, the test accuracy without which it is wrong, and its goal."""

    data: str
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    accuracy: float
    goal: goals.Goal
    rivals: tuple[str, ...] = ("sklearn", "torch")


TRAININGS = [
    Training("digits", (64,), 64, 20, 0.93, goals.ratio(10.0, "sklearn")),
    Training("digits", (128, 128), 64, 20, 0.95, goals.ratio(10.0, "sklearn")),
    Training("digits", (512, 512), 256, 20, 0.95, goals.ratio(2.5, "sklearn")),
    Training("fashion-mnist", (256, 128), 128, 1, 0.78, goals.ratio(3.0, "torch")),
]
LEARNING_RATE = 1e-3


def _model(training: Training, classes: int) -> fusednn.Sequential:
    dense = fusednn.layers.Dense
    model = fusednn.Sequential(
        [*(dense(units, activation="relu") for units in training.hidden), dense(classes)]
    )
    model.compile(fusednn.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy", seed=0)
    return model


def _ours(training: Training, data: Dataset) -> Candidate:
    def fit() -> fusednn.Sequential:
        model = _model(training, len(data.classes))
        model.fit(
            data.x_train,
            data.y_train,
            batch_size=training.batch,
            epochs=training.epochs,
            verbose=0,
        )
        return model

    def answer() -> float:
        scores = np.asarray(fit().predict(data.x_test, verbose=0))
        return float((scores.argmax(axis=1) == data.y_test).mean())

    return Candidate(fit, answer)


def _rival(name: str, training: Training, data: Dataset) -> Candidate:
    """The network of ``fusednn demo`` in another library, trained anew in every call."""
    parts = {
        "x_train": np.ascontiguousarray(data.x_train),
        "y_train": data.y_train.astype(np.int64),
        "x_test": np.ascontiguousarray(data.x_test),
        "y_test": data.y_test.astype(np.int64),
    }
    work = library.Work(
        hidden=training.hidden,
        classes=len(data.classes),
        epochs=training.epochs,
        batch_size=training.batch,
        learning_rate=LEARNING_RATE,
        seed=0,
        most_seconds=float("inf"),
    )

    def sklearn() -> library.Rival:
        rival = library.SklearnRival(work, parts)
        rival.model.set_params(max_iter=training.epochs, n_iter_no_change=training.epochs + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "not converged": the number of epochs is given
            rival.model.fit(parts["x_train"], parts["y_train"])
        return rival

    def torch() -> library.Rival:
        rival = library.TorchRival(work, parts)
        for _ in range(training.epochs):
            rival.train_epoch()
        return rival

    fit = {"sklearn": sklearn, "torch": torch}[name]
    return Candidate(fit, lambda: fit().accuracy("test"))


def _work(training: Training) -> Work:
    (entry,) = (entry for entry in datasets.catalog() if entry.name == training.data)
    data = entry.load()

    def check(accuracy: float) -> str:
        if accuracy >= training.accuracy:
            return ""
        return f"test accuracy {accuracy:.3f}, expected at least {training.accuracy}"

    def rival(name: str) -> Callable[[], Candidate]:
        return lambda: _rival(name, training, data)

    others = {name: rival(name) for name in training.rivals}
    return Work(_ours(training, data), others, check, quality=float)


def notes() -> list[str]:
    """Return how to get the data that are not on this machine, and are left out for that."""
    wanted = {training.data for training in TRAININGS}
    missing = [e for e in datasets.catalog() if e.name in wanted and not e.locate()]
    return [f"{e.name} is left out, for it is not installed: {e.help}" for e in missing]


def cases() -> Iterator[Case]:
    """Return the trainings whose data are on this machine."""
    there = {entry.name: entry for entry in datasets.catalog() if entry.locate()}
    for training in TRAININGS:
        if training.data not in there:
            continue
        data = there[training.data].load()
        rows, inputs = len(data.x_train), data.x_train.shape[1]
        network = Network((inputs, *training.hidden, len(data.classes)), training.batch)
        samples = training.epochs * rows
        yield Case(
            "fit",
            f"{training.data} {network.name}, epochs {training.epochs}",
            network.step_flops / network.batch * samples,
            network.step_bytes * training.epochs * -(-rows // network.batch),
            functools.partial(_work, training),
            {
                "data": training.data,
                "hidden": list(training.hidden),
                "batch": training.batch,
                "epochs": training.epochs,
            },
            goals=(training.goal,),
        )
