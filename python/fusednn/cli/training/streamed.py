# SPDX-License-Identifier: Apache-2.0
"""Tables larger than memory: read piece by piece, their prepared rows kept in files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fusednn.cli.training.fitting import Parts
from fusednn.data import CSVFile, Preprocessor, Table

_PARTS = 3  # training, validation, test
_WITHOUT_TARGET = _PARTS


class StreamedTable:
    """A CSV file whose rows are drawn into three parts, again and again the same way.

    Parameters
    ----------
    source : CSVFile
    target : str
        The column to be predicted; rows without it belong to no part.
    validation, test : float
        Shares of the rows.
    seed : int
    """

    def __init__(
        self, source: CSVFile, target: str, validation: float, test: float, seed: int
    ) -> None:
        self._source = source
        self._target = target
        self._edges = np.array([1 - validation - test, 1 - test])
        self._seed = seed

    def _drawn(self) -> Iterator[tuple[Table, np.ndarray]]:
        """Yield pieces of the file, and of each row the number of its part."""
        generator = np.random.default_rng([self._seed, 13])
        for piece in self._source.pieces():
            part = np.searchsorted(self._edges, generator.random(len(piece)), side="right")
            part[piece.missing(self._target)] = _WITHOUT_TARGET
            yield piece, part

    def count(self) -> np.ndarray:
        """Return how many rows are for training, validation, test, and how many for nothing."""
        sizes = np.zeros(_PARTS + 1, np.int64)
        for _, part in self._drawn():
            sizes += np.bincount(part, minlength=_PARTS + 1)
        return sizes

    def prepare(self, preprocessor: Preprocessor, sizes: np.ndarray, folder: Path) -> Parts:
        """Return the parts; the inputs are files in a folder, the targets and a few rows are here.

        The preprocessor learns the target from all rows and the columns from those for training.
        """
        target = preprocessor.fit(self._source.pieces()).target
        assert target is not None
        preprocessor.fit((piece.take(part == 0) for piece, part in self._drawn()), target)
        width = len(preprocessor.feature_names)
        x = [
            np.memmap(folder / f"inputs-{part}", np.float32, "w+", shape=(int(size), width))
            for part, size in enumerate(sizes[:_PARTS])
        ]
        y: list[list[np.ndarray]] = [[] for _ in range(_PARTS)]
        shown: list[Table] = []
        filled = [0] * _PARTS
        for piece, part in self._drawn():
            tables = [piece.take(part == number) for number in range(_PARTS)]
            shown = shown or tables
            for number, rows in enumerate(tables):
                end = filled[number] + len(rows)
                x[number][filled[number] : end] = preprocessor.transform(rows)
                y[number].append(preprocessor.transform_target(rows))
                filled[number] = end
        targets = [np.concatenate(values) for values in y]
        return Parts(
            preprocessor, target, (shown[0], shown[1], shown[2]),
            (x[0], x[1], x[2]), (targets[0], targets[1], targets[2]),
        )  # fmt: skip
