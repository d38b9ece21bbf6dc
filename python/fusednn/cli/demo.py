# SPDX-License-Identifier: Apache-2.0
"""Train a network on real data, test it, and compare with scikit-learn and torch if installed.

The model and its learning curve are saved. The exit code is 0 when every network reached the
accuracy expected of it, 1 when one did not, and 2 when there is no data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import fusednn
from fusednn import datasets
from fusednn.cli import UsageError, rivals, tables
from fusednn.cli.contention import Contention
from fusednn.cli.reading import whole_number
from fusednn.datasets import Dataset
from fusednn.models import Sequential

SUMMARY = "train on real data and compare with scikit-learn and torch"
BUSY_SHARE = 0.05  # of the processors' time in the hands of others distorts what is measured
RIVAL_SECONDS = 40.0  # keeps the whole demo under two minutes on two processors


@dataclass(frozen=True)
class Task:
    """How a network is trained on one data set, and the test accuracy expected of it.

    With a share of the training samples held out for validation, the weights of the best epoch are
    kept; with none, those of the last.
    """

    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    learning_rate: float
    validation: float
    expected: float


TASKS = {
    "digits": Task(
        (256, 128), epochs=30, batch_size=32, learning_rate=3e-3, validation=0.0, expected=0.97
    ),
    "fashion-mnist": Task(
        (256, 128), epochs=10, batch_size=64, learning_rate=5e-4, validation=0.1, expected=0.88
    ),
}


def _work(task: Task, data: Dataset, arguments: argparse.Namespace) -> rivals.Work:
    return rivals.Work(
        hidden=task.hidden,
        classes=len(data.classes),
        epochs=arguments.epochs or task.epochs,
        batch_size=task.batch_size,
        learning_rate=task.learning_rate,
        seed=arguments.seed,
        most_seconds=RIVAL_SECONDS,
    )


def _parts(task: Task, data: Dataset) -> dict[str, np.ndarray]:
    """Training, validation and test samples, as every library gets them."""
    train, valid = np.arange(len(data.y_train)), np.arange(0)
    if task.validation:
        train, valid = datasets.stratified_split(data.y_train, task.validation, seed=0)
    return {
        "x_train": data.x_train[train],
        "y_train": data.y_train[train],
        "x_valid": data.x_train[valid],
        "y_valid": data.y_train[valid],
        "x_test": data.x_test,
        "y_test": data.y_test,
    }


def _network(work: rivals.Work) -> Sequential:
    dense = fusednn.layers.Dense
    model = Sequential(
        [*(dense(units, activation="relu") for units in work.hidden), dense(work.classes)]
    )
    model.compile(
        optimizer=fusednn.optimizers.Adam(work.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        seed=work.seed,
    )
    return model


@dataclass
class Trained:
    """A trained network and how its training went."""

    model: Sequential
    history: dict[str, list[float]]
    best_epoch: int
    seconds: float


def _train(work: rivals.Work, parts: dict[str, np.ndarray], quiet: bool) -> Trained:
    model = _network(work)
    best = fusednn.callbacks.EarlyStopping(
        monitor="val_accuracy", patience=work.epochs, restore_best_weights=True
    )
    validates = len(parts["y_valid"]) > 0
    start = time.perf_counter()
    history = model.fit(
        parts["x_train"],
        parts["y_train"],
        epochs=work.epochs,
        batch_size=work.batch_size,
        validation_data=(parts["x_valid"], parts["y_valid"]) if validates else None,
        callbacks=[best] if validates else None,
        verbose=0 if quiet else "auto",
    )
    seconds = time.perf_counter() - start
    best_epoch = best.best_epoch + 1 if validates else work.epochs
    return Trained(model, history.history, best_epoch, seconds)


def _race(work: rivals.Work, parts: dict[str, np.ndarray]) -> list[rivals.Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder:
        rivals.write_work(Path(folder), parts)
        for name in rivals.installed():
            try:
                results.append(rivals.race(name, work, Path(folder)))
            except rivals.RivalFailedError as error:
                print(f"no result from {error}")
    return results


def _save(trained: Trained, name: str, folder: Path) -> None:
    path = folder / "model.safetensors"
    trained.model.save(path)
    print(f"model           {path}")
    try:
        from fusednn.cli.curve import draw
    except ImportError:
        path = folder / "history.csv"
        path.write_text(tables.history_csv(trained.history))
        print(f"learning curve  {path}    (as a picture after: pip install matplotlib)")
    else:
        path = folder / "learning-curve.png"
        draw(trained.history, f"fusednn on {name}", path)
        print(f"learning curve  {path}")


def _demonstrate(entry: datasets.Entry, folder: Path, arguments: argparse.Namespace) -> bool:
    """Train on one data set and report; whether the accuracy is what it should be."""
    task, data = TASKS[entry.name], entry.load()
    work, parts = _work(task, data, arguments), _parts(task, data)
    widths = [data.x_train.shape[1], *work.hidden, work.classes]
    samples = {part: len(parts[f"y_{part}"]) for part in ("train", "valid", "test")}
    print(f"{entry.name}: {entry.title}")
    print(", ".join(f"{n} {part}" for part, n in samples.items() if n) + " samples")
    print(
        f"network {'-'.join(map(str, widths))}, relu; Adam, learning rate {work.learning_rate:g}, "
        f"batches of {work.batch_size}, {work.epochs} epochs\n"
    )

    contention = Contention()
    trained = _train(work, parts, arguments.quiet)
    scores = np.asarray(trained.model.predict(parts["x_test"], verbose=0))
    confusion = tables.confusion_matrix(parts["y_test"], scores.argmax(axis=1), work.classes)
    accuracy = float(np.trace(confusion) / confusion.sum())
    rate = samples["train"] * work.epochs / trained.seconds
    chosen = f", best of them by validation: {trained.best_epoch}" if samples["valid"] else ""
    print(f"\ntest accuracy   {accuracy:.4f}")
    print(f"training time   {trained.seconds:.2f} s for {work.epochs} epochs{chosen}")
    print(f"speed           {rate:,.0f} samples per second")
    _save(trained, entry.name, folder)
    if not arguments.quiet:
        print("\nConfusion matrix: a row is the true class, a column what the network said.")
        print(tables.confusion_table(confusion, data.classes))
    if not arguments.no_rivals:
        ours = rivals.Result(
            f"fusednn {fusednn.__version__}",
            trained.seconds,
            work.epochs,
            trained.best_epoch,
            accuracy,
        )
        others = _race(work, parts)
        _compare(ours, others, contention.share())
    print()
    return accuracy >= task.expected or arguments.epochs is not None


def _compare(ours: rivals.Result, others: list[rivals.Result], taken: float | None) -> None:
    if not others:
        print("\nInstall scikit-learn or torch to see the same work done by them.")
        return
    print("\nThe same data, network, optimizer and batches, with up to as many epochs as fit")
    print(f"into {RIVAL_SECONDS:.0f} s:")
    print(tables.comparison_table([ours, *others]))
    if taken is not None and taken > BUSY_SHARE:
        print(f"Other programs took {taken:.0%} of the processors: these times mean little.")


def _chosen(name: str) -> list[datasets.Entry]:
    """The data sets to train on; missing ones are named, and none left is an error."""
    wanted = [e for e in datasets.catalog() if e.name in TASKS and name in ("all", e.name)]
    there = [entry for entry in wanted if entry.locate()]
    missing = [
        f"{entry.name} is not installed; install it with: {entry.help}"
        for entry in wanted
        if entry not in there
    ]
    if not there:
        raise UsageError("there is no data to train on\n" + "\n".join(missing))
    for sentence in missing:
        print(f"{sentence}\n")
    return there


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``demo``."""
    parser.add_argument(
        "data",
        nargs="?",
        choices=[*TASKS, "all"],
        default="all",
        help="data set to train on (default: all that are installed)",
    )
    parser.add_argument("--epochs", type=whole_number(1), metavar="N", help="passes over the data")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("fusednn-demo"),
        metavar="DIR",
        help="where to save models and learning curves (default: %(default)s)",
    )
    parser.add_argument(
        "--no-rivals", action="store_true", help="do not compare with scikit-learn and torch"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), default=0, metavar="N", help="seed (default: %(default)s)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, no confusion matrix")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 when every network is as accurate as it should be, else 1."""
    entries = _chosen(arguments.data)
    code = 0
    for entry in entries:
        folder = arguments.output / entry.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--output {arguments.output} cannot be used: {error}") from None
        if not _demonstrate(entry, folder, arguments):
            print(f"{entry.name}: expected a test accuracy of {TASKS[entry.name].expected:.2f}\n")
            code = 1
    return code
