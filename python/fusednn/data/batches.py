# SPDX-License-Identifier: Apache-2.0
"""Batches from tables that are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fusednn.data.preprocessor import Preprocessor
from fusednn.data.table import Table
from fusednn.errors import check_integer, check_number, helpful_keywords


class TableBatches:
    """Batches (x, y) for ``Model.fit``, from a file that is read piece by piece in every epoch.

    Within a piece the rows are shuffled, another way in each epoch. Which rows are held out is
    drawn from the seed alone, so that two objects with the same source and seed, one with
    ``part="train"`` and one with ``part="validation"``, share the rows without overlap.

    Parameters
    ----------
    source : CSVFile, or anything with ``pieces(rows)`` that yields tables
    preprocessor : Preprocessor
        That has learned from the same columns. Rows without a target are passed over.
    batch_size : int
    part : {"all", "train", "validation"}
    validation : float
        Share of the rows that are held out.
    shuffle : bool
    seed : int
    piece_rows : int
        Rows in memory at a time.

    Examples
    --------
    >>> import pathlib, tempfile, fusednn
    >>> from fusednn.data import CSVFile, Preprocessor, TableBatches
    >>> path = pathlib.Path(tempfile.mkdtemp(), "line.csv")
    >>> _ = path.write_text("x,y\\n" + "\\n".join(f"{i},{2 * i + 1}" for i in range(100)))
    >>> file = CSVFile(path)
    >>> preprocessor = Preprocessor("y", task="regression").fit(file.pieces())
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)])
    >>> model.compile("adam", "mse")
    >>> history = model.fit(TableBatches(file, preprocessor, batch_size=10), epochs=2, verbose=0)
    """

    @helpful_keywords
    def __init__(
        self,
        source: Any,
        preprocessor: Preprocessor,
        batch_size: int = 256,
        part: str = "all",
        validation: float = 0.1,
        shuffle: bool = True,
        seed: int = 0,
        piece_rows: int = 1 << 16,
    ) -> None:
        if part not in ("all", "train", "validation"):
            raise ValueError(f"part must be 'all', 'train' or 'validation', got {part!r}")
        if preprocessor.target is None:
            raise ValueError("the preprocessor has no target to train on")
        self._source = source
        self._preprocessor = preprocessor
        self._target = preprocessor.target.name
        self._batch = check_integer("batch_size", batch_size, 1)
        self._part = part
        self._share = check_number("validation", validation, 0, 1, open_high=True)
        self._shuffle = shuffle
        self._seed = check_integer("seed", seed, 0)
        self._rows = check_integer("piece_rows", piece_rows, 1)
        self._epoch = 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng([self._seed, 1, self._epoch])
        self._epoch += 1
        left: tuple[np.ndarray, np.ndarray] | None = None
        for x, y in self._pieces():
            places = order.permutation(len(x)) if self._shuffle else slice(None)
            x, y = x[places], y[places]
            if left is not None:
                x, y = np.concatenate([left[0], x]), np.concatenate([left[1], y])
            end = len(x) - len(x) % self._batch
            for at in range(0, end, self._batch):
                yield x[at : at + self._batch], y[at : at + self._batch]
            left = x[end:], y[end:]
        if left is not None and len(left[0]):
            yield left

    def _pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        drawn = np.random.default_rng([self._seed, 0])
        for piece in self._source.pieces(self._rows):
            chosen = self._chosen(piece, drawn)
            if chosen.any():
                rows = piece.take(chosen)
                yield self._preprocessor.transform(rows), self._preprocessor.transform_target(rows)

    def _chosen(self, piece: Table, drawn: np.random.Generator) -> np.ndarray:
        held_out = drawn.random(len(piece)) < self._share
        there = ~piece.missing(self._target)
        if self._part == "all":
            return there
        return there & (held_out if self._part == "validation" else ~held_out)
