# SPDX-License-Identifier: Apache-2.0
"""What a network is to predict: one of several classes, or a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn.data.columns import as_numbers, as_texts, is_finite
from fusednn.data.csv_files import cell_text
from fusednn.data.statistics import MOST_VALUES, NumberStatistics, TextStatistics
from fusednn.errors import unknown_choice

TASKS = ("auto", "binary", "multiclass", "regression")
MOST_NUMBERED_CLASSES = 20  # whole numbers are taken for classes up to so many different ones


@dataclass(frozen=True)
class Classes:
    """Classes by their labels, in ascending order; the network gives a probability for each.

    With two, its one output is the probability of the second.
    """

    name: str
    labels: tuple[str, ...]

    @property
    def task(self) -> str:
        return "binary" if len(self.labels) == 2 else "multiclass"

    @property
    def outputs(self) -> int:
        """Outputs of the network."""
        return 1 if len(self.labels) == 2 else len(self.labels)

    def transform(self, cells: np.ndarray) -> np.ndarray:
        """Return class numbers; -1 for labels that are not known."""
        places = {label: place for place, label in enumerate(self.labels)}
        return np.array([places.get(text, -1) for text in as_texts(cells)], dtype=np.int64)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return a column of probabilities for each class from what the network gives."""
        if len(self.labels) > 2:
            return outputs
        return np.column_stack([1 - outputs[:, 0], outputs[:, 0]])

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return labels: numbers, if they all are."""
        labels: Any = np.array(self.labels, dtype=object)
        if all(_whole(label) for label in self.labels):
            labels = np.array([float(label) for label in self.labels])
        return labels[self.probabilities(outputs).argmax(axis=1)]

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "labels": list(self.labels)}


@dataclass(frozen=True)
class Quantity:
    """A number; the network gives ``(y - mean) / deviation``."""

    name: str
    mean: float
    deviation: float
    task = "regression"
    outputs = 1

    def transform(self, cells: np.ndarray) -> np.ndarray:
        """Return what the network should give, shape (rows,)."""
        return (as_numbers(self.name, cells) - self.mean) / self.deviation

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return numbers as they are in the table."""
        return outputs[:, 0].astype(np.float64) * self.deviation + self.mean

    def get_config(self) -> dict[str, Any]:
        return {"name": self.name, "mean": self.mean, "deviation": self.deviation}


Target = Classes | Quantity


def _whole(label: str) -> bool:
    return label.lstrip("-").isdecimal()


def choose(name: str, cells: NumberStatistics | TextStatistics, task: str) -> Target:
    """Return the target that a column is for a task; "auto" decides by what is in it.

    Text is classes. Whole numbers are classes if there are at most 20 different ones that occur
    ten times each on average, or just two; other numbers are a quantity.
    """
    if task not in TASKS:
        raise unknown_choice("task", task, TASKS)
    if cells.count == 0:
        raise ValueError(f"target {name!r} has no values")
    is_number = isinstance(cells, NumberStatistics)
    if task == "auto":
        task = "classes"
        if isinstance(cells, NumberStatistics):
            values = cells.distinct
            whole = bool((values == np.floor(values)).all())
            few = len(values) == 2 or len(values) <= min(MOST_NUMBERED_CLASSES, cells.count / 10)
            task = "classes" if whole and few else "regression"
    if task == "regression":
        if not isinstance(cells, NumberStatistics):
            example = next(iter(cells.counts))
            raise ValueError(
                f"target {name!r} holds text such as {example!r}; task 'regression' needs numbers"
            )
        if cells.low == cells.high:
            raise ValueError(f"target {name!r} is {cells.mean:g} in every row: nothing to learn")
        return Quantity(name, cells.mean, cells.deviation)
    labels = _labels(name, cells)
    if len(labels) < 2:
        raise ValueError(f"target {name!r} has one class only, {labels[0]!r}: nothing to learn")
    if task == "binary" and len(labels) > 2:
        raise ValueError(
            f"target {name!r} has {len(labels)} classes ({', '.join(labels[:5])} ...); task "
            "'binary' needs 2"
        )
    if len(labels) > max(2, cells.count // 2):
        hint = "; is it a number? then task 'regression'" if is_number else ""
        raise ValueError(
            f"target {name!r} has {len(labels)} different values in {cells.count} rows, too many "
            f"to be classes{hint}"
        )
    return Classes(name, labels)


def _labels(name: str, cells: NumberStatistics | TextStatistics) -> tuple[str, ...]:
    if isinstance(cells, NumberStatistics):
        if len(cells.distinct) > MOST_VALUES:
            raise ValueError(
                f"target {name!r} has more than {MOST_VALUES} different numbers; task 'regression'?"
            )
        return tuple(cell_text(value) for value in cells.distinct.tolist())
    if cells.too_many:
        raise ValueError(f"target {name!r} has more than {len(cells.counts)} different texts")
    return tuple(sorted(cells.counts))


def from_config(config: Any) -> Target:
    """Return the target that `get_config` described; ValueError where it is none."""
    if isinstance(config, Mapping) and isinstance(config.get("name"), str):
        labels = config.get("labels")
        if set(config) == {"name", "labels"} and isinstance(labels, (list, tuple)):
            texts = all(isinstance(label, str) for label in labels)
            if texts and len(set(labels)) == len(labels) >= 2:
                return Classes(config["name"], tuple(labels))
        if set(config) == {"name", "mean", "deviation"}:
            mean, deviation = config["mean"], config["deviation"]
            numbers = all(type(n) in (int, float) and is_finite(n) for n in (mean, deviation))
            if numbers and deviation > 0:
                return Quantity(config["name"], mean, deviation)
    raise ValueError("the target must have a name, and labels or a mean and a deviation")
