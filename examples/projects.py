# SPDX-License-Identifier: Apache-2.0
"""Four real data sets: house prices, incomes, digits, clothes; and the same networks elsewhere.

    python examples/projects.py                      # all four, fusednn and what else is installed
    python examples/projects.py adult --seeds 0 1 2 --json results.json
    python examples/projects.py --table results.json [--picture times.png]

Each line that is printed is one training: the score on rows that it never saw, and how long it
took. Keras and PyTorch train the same network (same_network.py) if they are installed. `--json`
adds the trainings to a file, which `--table` turns into the table of docs/examples.md.

How to get the data: python -m fusednn data
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from same_network import LIBRARIES, Data, Training, is_installed, warm_up

from fusednn import data, datasets, machine, plotting

NAMES = {"fusednn": "fusednn", "keras": "Keras", "torch": "PyTorch"}


@dataclass(frozen=True)
class Project:
    """A data set, a network for it, and the score that is asked for."""

    title: str
    load: Callable[[int], Data]  # of a seed
    training: Training
    metric: str
    score: Callable[[np.ndarray, np.ndarray], float]  # of true values and outputs
    goal: float


# ---- data and scores -----------------------------------------------------------------------------


def table(dataset: datasets.TableDataset, seed: int) -> Data:
    """Return a table, a fifth of it for testing, its columns prepared by the training rows."""
    parts = data.split(len(dataset.table), validation=0, test=0.2, seed=seed)
    train, test = dataset.table.take(parts.train), dataset.table.take(parts.test)
    preparation = data.Preprocessor(target=dataset.target).fit(train)
    return Data(
        preparation.transform(train), preparation.transform_target(train),
        preparation.transform(test), preparation.transform_target(test),
    )  # fmt: skip


def images(dataset: datasets.Dataset, mean: float = 0.0, deviation: float = 1.0) -> Data:
    """Return grey images of 28 x 28, in the parts they come in, with pixels standardised."""
    train, test = (
        ((x - np.float32(mean)) / np.float32(deviation)).reshape(-1, 28, 28, 1)
        for x in (dataset.x_train, dataset.x_test)
    )
    return Data(train, dataset.y_train, test, dataset.y_test)


def r_squared(y: np.ndarray, outputs: np.ndarray) -> float:
    """Return the share of the variance that is explained."""
    return float(1 - np.square(outputs.ravel() - y).mean() / y.var())


def area_under_curve(y: np.ndarray, outputs: np.ndarray) -> float:
    """Return how often a row of class 1 gets a greater output than one of class 0."""
    return float(plotting.roc_curve(y, outputs.ravel()).area)


def accuracy(y: np.ndarray, outputs: np.ndarray) -> float:
    """Return the share of rows whose greatest output is that of their class."""
    return float((outputs.argmax(axis=1) == y).mean())


# ---- networks ------------------------------------------------------------------------------------


def for_houses(layers: Any) -> list:
    """Return layers for eight numbers of a district."""
    return [layers.Dense(128, "relu"), layers.Dense(64, "relu"), layers.Dense(1)]


def for_people(layers: Any) -> list:
    """Return layers for the columns of a census, most of them categories."""
    return [
        layers.Dense(128, "relu"), layers.Dropout(0.2),
        layers.Dense(128, "relu"), layers.Dropout(0.2),
        layers.Dense(1),
    ]  # fmt: skip


def for_digits(layers: Any) -> list:
    """Return layers for few images: each time, a fifth of the pixels is missing."""
    return [
        layers.Flatten(), layers.Dropout(0.2),
        layers.Dense(512, "relu"), layers.Dropout(0.3),
        layers.Dense(256, "relu"), layers.Dropout(0.3),
        layers.Dense(10),
    ]  # fmt: skip


def for_clothes(layers: Any) -> list:
    """Return layers for many images: clothes may hang either way."""
    return [
        layers.RandomFlip("horizontal"), layers.Flatten(),
        layers.Dense(512, "relu"), layers.Dropout(0.3),
        layers.Dense(512, "relu"), layers.Dropout(0.3),
        layers.Dense(10),
    ]  # fmt: skip


PROJECTS = {
    "california": Project(
        "California housing",
        lambda seed: table(datasets.load_california_housing(), seed),
        Training(for_houses, "mse", epochs=60, batch_size=128, learning_rate=3e-3,
                 weight_decay=0.05),
        "R²", r_squared, goal=0.80,
    ),
    "adult": Project(
        "Adult",
        lambda seed: table(datasets.load_adult(), seed),
        Training(for_people, "binary_crossentropy", epochs=10, batch_size=128, learning_rate=1e-3,
                 weight_decay=0.1),
        "AUC", area_under_curve, goal=0.907,
    ),
    "mnist": Project(
        "MNIST-5k",
        lambda seed: images(datasets.load_mnist_5k()),
        Training(for_digits, "sparse_categorical_crossentropy", epochs=60, batch_size=64,
                 learning_rate=1e-3, weight_decay=0.05),
        "accuracy", accuracy, goal=0.95,
    ),
    "fashion": Project(
        "Fashion-MNIST",
        lambda seed: images(datasets.load_fashion_mnist(), mean=0.286, deviation=0.353),
        Training(for_clothes, "sparse_categorical_crossentropy", epochs=40, batch_size=128,
                 learning_rate=1e-3, weight_decay=0.05),
        "accuracy", accuracy, goal=0.90,
    ),
}  # fmt: skip


# ---- what is printed and kept --------------------------------------------------------------------


def run(name: str, library: str, seed: int, short: bool = False) -> dict[str, float]:
    """Train once, print and return score and time."""
    project = PROJECTS[name]
    chosen, training = project.load(seed), project.training
    if short:
        chosen = Data(chosen.x_train[:512], chosen.y_train[:512], chosen.x_test, chosen.y_test)
        training = replace(training, epochs=1)
    warm_up(library)
    seconds, outputs = LIBRARIES[library](training, chosen, seed)
    score = project.score(chosen.y_test, outputs)
    print(
        f"{project.title}, {NAMES[library]}, seed {seed}: "
        f"{project.metric} {score:.4f} in {seconds:.2f} s",
        flush=True,
    )
    return {"seed": seed, "score": score, "seconds": seconds}


class _Spelled:
    """Layers that are nothing but their names and arguments."""

    def __getattr__(self, name: str) -> Callable[..., str]:
        return lambda *arguments: f"{name}({', '.join(map(str, arguments))})"


def settings(name: str) -> dict[str, Any]:
    """Return what makes two trainings comparable."""
    training = PROJECTS[name].training
    return {**vars(training), "network": ", ".join(training.network(_Spelled()))}


def keep(path: Path, name: str, library: str, outcome: dict[str, float]) -> None:
    """Add a training to a file, instead of an earlier one with the same seed."""
    versions = machine.versions(["fusednn", "keras", "jax", "torch"])
    about = {"cpu": machine.processor_name(), "processors": len(os.sched_getaffinity(0))}
    found = json.loads(path.read_text("utf-8")) if path.exists() else {"projects": {}}
    found["machine"] = {**about, "versions": versions}
    project = found["projects"].setdefault(name, {"runs": {}})
    project["settings"] = settings(name)
    runs = project["runs"].setdefault(library, [])
    runs[:] = sorted([r for r in runs if r["seed"] != outcome["seed"]] + [outcome],
                     key=lambda r: r["seed"])  # fmt: skip
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _spread(values: list[float], digits: int) -> str:
    return f"{np.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown(found: dict[str, Any]) -> str:
    """Return what a file has as a table: the median of the seeds, the least and the most."""
    lines = [
        "| | | seeds | score | seconds | times as long |",
        "|---|---|---|---|---|---|",
    ]
    for name, project in PROJECTS.items():
        runs = found["projects"][name]["runs"]
        ours = np.median([run["seconds"] for run in runs["fusednn"]])
        title = f"**{project.title}**, {project.metric}"
        for library in (library for library in NAMES if library in runs):
            scores = [run["score"] for run in runs[library]]
            seconds = [run["seconds"] for run in runs[library]]
            lines.append(
                f"| {title} | {NAMES[library]} | {len(scores)} | {_spread(scores, 3)} | "
                f"{_spread(seconds, 2)} | {np.median(seconds) / ours:.1f} |"
            )
            title = ""
    return "\n".join(lines)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw how long each library took, with least and most as whiskers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4), layout="constrained")
    for ax, (name, project) in zip(figure.subplots(1, 4), PROJECTS.items(), strict=True):
        runs = found["projects"][name]["runs"]
        for place, library in enumerate(reversed([n for n in NAMES if n in runs])):
            seconds = [run["seconds"] for run in runs[library]]
            middle = np.median(seconds)
            whiskers = [[middle - min(seconds)], [max(seconds) - middle]]
            colour = "#3f51b5" if library == "fusednn" else "#bdbdbd"
            ax.barh(NAMES[library], middle, xerr=whiskers, color=colour, ecolor="#5f6368")
            ax.text(max(seconds), place, f" {middle:.3g}", va="center", fontsize=8)
        ax.set_title(project.title, fontsize=10)
        ax.set_xlabel("seconds", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.margins(x=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train what is asked for, or show what was kept."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"of {', '.join(PROJECTS)}")
    parser.add_argument("--libraries", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--short", action="store_true", help="512 rows, one epoch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="add the trainings to it")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print what it has")
    parser.add_argument("--picture", type=Path, metavar="PNG", help="with --table")
    arguments = parser.parse_args()
    if unknown := set(arguments.projects) - set(PROJECTS):
        parser.error(f"there is no project {', '.join(unknown)}; known: {', '.join(PROJECTS)}")
    if arguments.table:
        found = json.loads(arguments.table.read_text("utf-8"))
        print(markdown(found))
        if arguments.picture:
            draw(found, arguments.picture)
        return
    installed = [library for library in arguments.libraries if is_installed(library)]
    for name in arguments.projects or PROJECTS:
        for seed in arguments.seeds:
            for library in installed:
                outcome = run(name, library, seed, arguments.short)
                if arguments.json:
                    keep(arguments.json, name, library, outcome)


if __name__ == "__main__":
    main()
