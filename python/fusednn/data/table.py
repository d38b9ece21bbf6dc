# SPDX-License-Identifier: Apache-2.0
"""Named columns of equal length: numbers as float64, everything else as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fusednn.errors import nearest


def unknown_column(name: str, known: Iterable[str], where: str = "the table") -> KeyError:
    """Return the error for a column that is not there, with the name that is nearest."""
    known = list(known)
    near = nearest(name, known)
    shown = known if len(known) <= 12 else [*known[:12], f"... ({len(known)} in all)"]
    hint = f"did you mean {near!r}? " if near else ""
    return ColumnNotFoundError(f"{where} has no column {name!r}; {hint}it has: {', '.join(shown)}")


class ColumnNotFoundError(KeyError):
    """A column is not in a table; the message names the nearest that is."""

    def __str__(self) -> str:
        return str(self.args[0])


class Table:
    """Columns by name.

    A column of numbers is a float64 array in which NaN stands for what is missing; any other is an
    array of strings with None for what is missing. Bools and dates become text.

    Parameters
    ----------
    columns : mapping from str to a sequence, or a pandas DataFrame
        All of one length, with one axis.

    Raises
    ------
    ValueError
        Columns of different lengths, with more than one axis, or two of one name.

    Examples
    --------
    >>> from fusednn.data import Table
    >>> table = Table({"age": [31, None, 45], "city": ["Rome", "Oslo", None]})
    >>> len(table), table.names, table.is_number("age")
    (3, ['age', 'city'], True)
    """

    def __init__(self, columns: Any) -> None:
        self._columns: dict[str, np.ndarray] = {}
        if isinstance(columns, Table):
            self._columns = dict(columns._columns)
            return
        if hasattr(columns, "columns") and hasattr(columns, "isna"):
            columns = _of_frame(columns)
        if not isinstance(columns, Mapping):
            raise TypeError(
                f"columns must be a mapping or a DataFrame, got {type(columns).__name__}"
            )
        for name, cells in columns.items():
            self._columns[str(name)] = as_column(str(name), cells)
        lengths = {name: len(cells) for name, cells in self._columns.items()}
        if len(set(lengths.values())) > 1:
            (a, n), (b, m) = min(lengths.items(), key=_second), max(lengths.items(), key=_second)
            raise ValueError(f"columns differ in length: {a!r} has {n} rows, {b!r} has {m}")

    @property
    def names(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self._columns)

    def __len__(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._columns:
            raise unknown_column(name, self._columns)
        return self._columns[name]

    def __repr__(self) -> str:
        return f"Table({len(self)} rows: {', '.join(self.names)})"

    def is_number(self, name: str) -> bool:
        """Return whether a column holds numbers rather than text."""
        return self[name].dtype.kind == "f"

    def missing(self, name: str) -> np.ndarray:
        """Return for each row whether the column has nothing there."""
        return is_missing(self[name])

    def take(self, rows: Any) -> Table:
        """Return some of the rows: numbers, a slice, or a bool for each."""
        return _of_columns({name: cells[rows] for name, cells in self._columns.items()})

    def drop(self, *names: str) -> Table:
        """Return the table without these columns."""
        for name in names:
            self[name]
        return _of_columns({n: cells for n, cells in self._columns.items() if n not in names})

    def with_column(self, name: str, cells: Any) -> Table:
        """Return the table with a column added or replaced."""
        return Table({**self._columns, name: cells})


def _of_columns(columns: dict[str, np.ndarray]) -> Table:
    """Return a table of columns that are checked already."""
    table = Table({})
    table._columns = columns
    return table


def _second(pair: tuple[str, int]) -> int:
    return pair[1]


def is_missing(cells: np.ndarray) -> np.ndarray:
    """Return where a column holds nothing."""
    if cells.dtype.kind == "f":
        return np.isnan(cells)
    return np.fromiter((cell is None for cell in cells), bool, len(cells))


def as_column(name: str, cells: Any) -> np.ndarray:
    """Return cells as float64 with NaN, or as strings with None."""
    array = cells if isinstance(cells, np.ndarray) else _array(list(cells))
    if array.ndim != 1:
        raise ValueError(f"column {name!r} must have one axis, got shape {array.shape}")
    if array.dtype.kind in "iuf":
        return array.astype(np.float64, copy=False)
    if array.dtype.kind == "O" and _all_numbers(array):
        return np.array([np.nan if _is_nothing(cell) else float(cell) for cell in array])
    texts = np.empty(len(array), dtype=object)
    texts[:] = [None if _is_nothing(cell) else str(cell) for cell in array.tolist()]
    return texts


def _all_numbers(array: np.ndarray) -> bool:
    there = [cell for cell in array if not _is_nothing(cell)]
    kinds = (int, float, np.integer, np.floating)
    return bool(there) and all(isinstance(c, kinds) and not isinstance(c, bool) for c in there)


def _array(cells: list[Any]) -> np.ndarray:
    array = np.empty(len(cells), dtype=object)
    array[:] = cells
    return array


def _is_nothing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, (float, np.floating)) and bool(np.isnan(cell)))


def _of_frame(frame: Any) -> dict[str, Any]:
    """Return the columns of a pandas DataFrame."""
    names = [str(name) for name in frame.columns]
    check_unique(names, "the DataFrame")
    columns = {}
    for place, name in enumerate(names):
        series = frame.iloc[:, place]
        if getattr(series.dtype, "kind", "O") in "iuf":
            columns[name] = series.to_numpy(dtype="float64", na_value=np.nan)
        else:
            nothing = series.isna().to_numpy()
            cells = _array(list(series))
            cells[nothing] = None
            columns[name] = as_column(name, cells)
    return columns


def check_unique(names: Iterable[str], where: str) -> None:
    """Raise ValueError where a name occurs twice."""
    seen: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name in seen:
            raise ValueError(
                f"{where} has two columns named {name!r} (columns {seen[name]} and {place}); "
                "rename one of them"
            )
        seen[name] = place
