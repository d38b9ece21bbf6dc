# SPDX-License-Identifier: Apache-2.0
"""Files as tables, by what their names end in."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from fusednn.data.csv_files import read_csv
from fusednn.data.table import Table, check_unique

_CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz")
_PARQUET = (".parquet", ".pq", ".parquet.brotli")


def read(path: str | os.PathLike[str], **csv_options: Any) -> Table:
    """Return a CSV, Parquet or NPZ file as a table.

    Parameters
    ----------
    path : path
        Ending in ``.csv``, ``.tsv``, ``.txt`` (or one of these and ``.gz``), ``.parquet`` or
        ``.npz``.
    **csv_options
        See `read_csv`.

    Raises
    ------
    ValueError
        Another ending, or a file that is not what it ends in.
    OSError
        A file that cannot be read.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> from fusednn import data
    >>> path = os.path.join(tempfile.mkdtemp(), "points.npz")
    >>> np.savez(path, x=np.zeros((3, 2)), y=np.arange(3))
    >>> data.read(path).names
    ['x_0', 'x_1', 'y']
    """
    name = os.fspath(path).lower()
    if name.endswith(_CSV):
        return read_csv(path, **csv_options)
    if name.endswith(_PARQUET):
        return read_parquet(path)
    if name.endswith(".npz"):
        return read_npz(path)
    known = ", ".join((".csv", ".tsv", ".txt", ".parquet", ".npz"))
    raise ValueError(f"{path}: the kind of file is unknown; known endings: {known}")


def read_parquet(source: str | os.PathLike[str] | bytes) -> Table:
    """Return a Parquet file, or its bytes, as a table. Needs pyarrow.

    Raises
    ------
    ImportError
        Without pyarrow; the message says how to install it.
    ValueError
        What is no Parquet file, or is damaged.

    Examples
    --------
    >>> from fusednn import data
    >>> table = data.read_parquet("rides.parquet")    # doctest: +SKIP
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ImportError(
            "Parquet files are read by pyarrow: pip install 'fusednn[data]' (or pyarrow)"
        ) from None
    where = "the Parquet data" if isinstance(source, bytes) else os.fspath(source)
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        found = parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{where}: {error}") from None
    check_unique(found.column_names, where)
    return Table({name: _arrow_column(found.column(name), pyarrow) for name in found.column_names})


def _arrow_column(column: Any, pyarrow: Any) -> Any:
    kind = column.type
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
        return column.cast(pyarrow.float64(), safe=False).to_numpy()
    return column.to_pylist()


def read_npz(path: str | os.PathLike[str]) -> Table:
    """Return the arrays of an NPZ file as columns; nothing in it is executed.

    An array with two axes becomes one column for each of its columns: ``x`` gives ``x_0``,
    ``x_1`` and so on.

    Raises
    ------
    ValueError
        What is no NPZ file, arrays of objects, of more than two axes or of different lengths.

    Examples
    --------
    >>> import os, tempfile, numpy as np
    >>> from fusednn import data
    >>> path = os.path.join(tempfile.mkdtemp(), "points.npz")
    >>> np.savez(path, height=np.ones(3))
    >>> len(data.read_npz(path))
    3
    """
    columns: dict[str, np.ndarray] = {}
    try:
        # Opened here, because NumPy leaves files open that are no archives.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array without a name; use .npz")
            for name in arrays.files:
                array = arrays[name]
                if array.ndim == 2:
                    columns |= {f"{name}_{i}": array[:, i] for i in range(array.shape[1])}
                else:
                    columns[name] = array
        if not columns:
            raise ValueError("it holds no arrays")
        return Table(columns)
    except (ValueError, MemoryError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
