# SPDX-License-Identifier: Apache-2.0
"""CSV as tables: whole, or piece by piece where a file is larger than memory."""

from __future__ import annotations

import contextlib
import csv
import gzip
import itertools
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fusednn.data.table import Table, check_unique, unknown_column
from fusednn.errors import check_integer

DELIMITERS = (",", ";", "\t", "|")
MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none", "#n/a"})  # in lower case
PIECE_ROWS = 1 << 16


class CSVFile:
    """A file with one line of names and one line per row, comma-separated or similar.

    What is in the file is looked at only when it is asked for. Cells are stripped of surrounding
    space; empty ones and ``?``, ``NA``, ``N/A``, ``NaN``, ``null``, ``None`` are missing. A column
    is one of numbers if every cell that is not missing is a number.

    Parameters
    ----------
    path : path
        Plain or gzipped; UTF-8 with or without a byte order mark, or UTF-16 with one.
    delimiter : str, optional
        Default: the one of ``, ; | tab`` that occurs most in the first line.
    encoding : str, optional
        Where it is another one, such as "latin-1".
    text : sequence of str
        Columns that are text even if they look like numbers, such as postal codes.

    Raises
    ------
    ValueError
        From all methods, naming file and line: an empty file, rows of another length than the
        first line, two columns of one name, other encodings.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fusednn.data import CSVFile
    >>> file = pathlib.Path(tempfile.mkdtemp(), "ages.csv")
    >>> _ = file.write_text("age,city\\n31,Rome\\n?,Oslo\\n")
    >>> [len(piece) for piece in CSVFile(file).pieces(rows=1)]
    [1, 1]
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        delimiter: str | None = None,
        encoding: str | None = None,
        text: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self._delimiter = delimiter
        self._encoding = encoding
        self._text = frozenset(text)
        self._numbers: frozenset[str] | None = None
        self._names: list[str] | None = None
        self._line = 1

    @property
    def names(self) -> list[str]:
        """The names in the first line; columns without one are called by their number."""
        if self._names is None:
            with self._opened() as file:
                self._names = self._head(file)[0]
        return list(self._names)

    def read(self) -> Table:
        """Return the whole file as a table."""
        cells: dict[str, list[str]] = {name: [] for name in self.names}
        for block in self._blocks(PIECE_ROWS):
            for column, more in zip(cells.values(), zip(*block, strict=True), strict=True):
                column.extend(more)
        if not next(iter(cells.values())):
            raise self._headed_only()
        for name in self._text:
            if name not in cells:
                raise unknown_column(name, cells, str(self.path))
        return Table({name: self._column(name, column) for name, column in cells.items()})

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[Table]:
        """Yield the file as tables of so many rows; the last may have fewer.

        Columns have one kind, number or text, in all pieces: the file is read through once more
        before the first one.
        """
        check_integer("rows", rows, 1)
        numbers = self.numbers
        for block in self._blocks(rows):
            columns = zip(self.names, zip(*block, strict=True), strict=True)
            yield Table(
                {
                    name: as_numbers(cells) if name in numbers else as_texts(cells)
                    for name, cells in columns
                }
            )

    @property
    def numbers(self) -> frozenset[str]:
        """The names of the columns that are numbers throughout the file."""
        if self._numbers is None:
            possible = [name for name in self.names if name not in self._text]
            empty = True
            for block in self._blocks(PIECE_ROWS):
                empty = False
                cells = dict(zip(self.names, zip(*block, strict=True), strict=True))
                possible = [name for name in possible if _try_numbers(cells[name]) is not None]
            if empty:
                raise self._headed_only()
            self._numbers = frozenset(possible)
        return self._numbers

    # ---- inside --------------------------------------------------------------------------------

    def _column(self, name: str, cells: Sequence[str]) -> np.ndarray:
        values = None if name in self._text else _try_numbers(cells)
        return as_texts(cells) if values is None else values

    def _headed_only(self) -> ValueError:
        return ValueError(f"{self.path} has a line of names but no rows")

    def _open(self) -> TextIO:
        with open(self.path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        start: Any = gzip.open if zipped else open
        with start(self.path, "rb") as file:
            mark = file.read(2)
        encoding = self._encoding or ("utf-16" if mark in (b"\xff\xfe", b"\xfe\xff") else "utf-8")
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
            encoding = "utf-8-sig"
        opened: TextIO = start(self.path, "rt", encoding=encoding, newline="")
        return opened

    @contextlib.contextmanager
    def _opened(self) -> Iterator[TextIO]:
        """Open the file; what goes wrong while it is read becomes a ValueError with a line."""
        self._line = 1
        try:
            with self._open() as file:
                yield file
        except UnicodeError as error:
            encoding = getattr(error, "encoding", self._encoding)
            raise ValueError(
                f"{self.path}, line {self._line} or after: not {encoding} ({error}); give its "
                "encoding, such as 'latin-1'"
            ) from None
        except (csv.Error, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{self.path}, line {self._line} or after: {error}") from None

    def _head(self, file: TextIO) -> tuple[list[str], str]:
        """Return names and delimiter from the first line that is not blank."""
        line = next((line for line in file if line.strip()), "")
        if not line:
            raise ValueError(f"{self.path} is empty")
        delimiter = self._delimiter or max(DELIMITERS, key=line.count)
        # A quoted name may go on in the next line.
        reader = csv.reader(itertools.chain([line], file), delimiter=delimiter)
        names = [name.strip() for name in next(reader)]
        names = [name or f"column {place}" for place, name in enumerate(names, start=1)]
        if all(_number(name) is not None for name in names):
            raise ValueError(
                f"{self.path} begins with a line of numbers ({', '.join(names[:4])} ...); its "
                "first line must name the columns"
            )
        check_unique(names, str(self.path))
        return names, delimiter

    def _blocks(self, rows: int) -> Iterator[list[list[str]]]:
        """Yield lists of rows, each as long as there are names."""
        with self._opened() as file:
            names, delimiter = self._head(file)
            reader = csv.reader(file, delimiter=delimiter)
            block: list[list[str]] = []
            for row in reader:
                self._line = reader.line_num + 1
                if len(row) != len(names):
                    if not any(cell.strip() for cell in row):
                        continue  # a blank line
                    raise ValueError(
                        f"{self.path}, line {self._line}: {len(row)} cells, but the first line "
                        f"names {len(names)} columns"
                    )
                block.append(row)
                if len(block) == rows:
                    yield block
                    block = []
            if block:
                yield block


def _is_missing(cell: str) -> bool:
    return len(cell) <= 4 and cell.lower() in MISSING


def _number(cell: str) -> float | None:
    """Return the number that a stripped cell holds, NaN where it is missing, or None."""
    if _is_missing(cell):
        return np.nan
    if "_" in cell:  # Python takes 1_000, tables do not mean it
        return None
    try:
        return float(cell)
    except ValueError:
        return None


def _try_numbers(cells: Sequence[str]) -> np.ndarray | None:
    """Return a column of numbers, or None if one of the cells is none."""
    if not any("_" in cell for cell in cells):
        try:
            return np.array([float(cell) for cell in cells])
        except ValueError:
            pass  # something is missing, or no number
    values = np.empty(len(cells))
    for place, cell in enumerate(cells):
        value = _number(cell.strip())
        if value is None:
            return None
        values[place] = value
    return values


def as_numbers(cells: Sequence[str]) -> np.ndarray:
    """Return cells that are known to be numbers or missing."""
    values = _try_numbers(cells)
    if values is None:
        raise ValueError("the file was changed while it was read: a number became text")
    return values


def as_texts(cells: Sequence[str]) -> np.ndarray:
    """Return stripped cells, None where they are missing."""
    texts = np.empty(len(cells), dtype=object)
    texts[:] = [None if _is_missing(cell) else cell for cell in map(str.strip, cells)]
    return texts


def read_csv(
    path: str | os.PathLike[str],
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    text: Sequence[str] = (),
) -> Table:
    """Return a CSV file as a table; see `CSVFile` for what it may hold.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from fusednn import data
    >>> file = pathlib.Path(tempfile.mkdtemp(), "ages.csv")
    >>> _ = file.write_text("age;city\\n31;Rome\\n?;Oslo\\n")
    >>> data.read_csv(file)["age"]
    array([31., nan])
    """
    return CSVFile(path, delimiter=delimiter, encoding=encoding, text=text).read()


def cell_text(value: Any) -> str:
    """Return a value as it is written to a file; whole numbers without a point."""
    if value is None or value != value:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def write_csv(table: Table, file: str | os.PathLike[str] | TextIO) -> None:
    """Write a table as CSV in UTF-8, so that `read_csv` gives the same numbers back.

    Examples
    --------
    >>> import sys
    >>> from fusednn import data
    >>> data.write_csv(data.Table({"age": [31, None], "city": ["Rome", "Oslo"]}), sys.stdout)
    age,city
    31,Rome
    ,Oslo
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "w", encoding="utf-8", newline="") as opened:
            write_csv(table, opened)
        return
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(table.names)
    columns = [table[name].tolist() for name in table.names]
    writer.writerows([cell_text(value) for value in row] for row in zip(*columns, strict=True))
