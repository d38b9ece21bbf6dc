# SPDX-License-Identifier: Apache-2.0
"""What a data set is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fusednn.data.table import Table


class DatasetNotFoundError(FileNotFoundError):
    """A data set is not on this machine; the message says how to install it."""


@dataclass(frozen=True)
class Dataset:
    """Samples for training and for testing, with the names of their classes.

    Attributes
    ----------
    name : str
        The name the data set is known by, such as ``"digits"``.
    x_train, x_test : ndarray of float32, shape (samples, features)
        Features between 0 and 1. CIFAR has shape (samples, 32, 32, 3).
    y_train, y_test : ndarray of int64, shape (samples,)
        Labels from 0 to ``len(classes) - 1``.
    classes : tuple of str
        What the labels mean.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: tuple[str, ...]

    def to_table(self) -> Table:
        """Return all samples as one table: "x0", "x1" ... and "label", training samples first."""
        x = np.concatenate([self.x_train, self.x_test])
        x = x.reshape(len(x), -1).astype(np.float64).round(6)
        y = np.concatenate([self.y_train, self.y_test])
        labels = np.array(self.classes, dtype=object)[y]
        return Table({**{f"x{i}": x[:, i] for i in range(x.shape[1])}, "label": labels})


@dataclass(frozen=True)
class TableDataset:
    """A table as it was published, and what is usually predicted from it.

    Attributes
    ----------
    name : str
    table : fusednn.data.Table
    target : str
        A column of it.
    task : {"binary", "multiclass", "regression"}
    """

    name: str
    table: Table
    target: str
    task: str

    def to_table(self) -> Table:
        """Return the table."""
        return self.table


class Entry(NamedTuple):
    """A data set the package can read: how to load it, where it is, how to get it."""

    name: str
    title: str
    load: Callable[[], Any]  # a Dataset or a TableDataset
    locate: Callable[[], str | None]
    help: str
    target: str
