# SPDX-License-Identifier: Apache-2.0
"""The idx format of MNIST and its relatives."""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

# The third byte of an idx file; numbers are stored with the most significant byte first.
IDX_DTYPES: dict[int, np.dtype] = {
    0x08: np.dtype("u1"),
    0x09: np.dtype("i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
MAX_RANK = 32  # the most that every supported NumPy can shape
READ_BYTES = 1 << 20
# A few kilobytes of gzip can hold gigabytes of zeros. Images shrink by less than ten times.
MOST_INFLATION = 200
ALWAYS_INFLATED = 1 << 26


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a file in the idx format of MNIST and its relatives, plain or gzipped.

    Parameters
    ----------
    path : str or path
        The file; compression is recognised by content, not by name.

    Returns
    -------
    ndarray
        The numbers in the shape the file states, in this machine's byte order.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not in the idx format, is damaged, or holds fewer or more bytes than its
        header announces. Memory use is bounded by what the file really holds, and a gzipped file
        that holds more than 200 times its own size (beyond 64 MB) is refused.

    Examples
    --------
    >>> import pathlib, tempfile, fusednn
    >>> file = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = file.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]))
    >>> fusednn.datasets.read_idx(file)
    array([7, 8, 9], dtype=uint8)
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if zipped else open(path, "rb") as file:
            dtype, shape = _read_idx_header(path, file)
            most = _most_bytes(path) if zipped else sys.maxsize
            return _read_idx_body(path, file, dtype, shape, most)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file: {error}") from None


def _read_idx_header(
    path: Path, file: BinaryIO | gzip.GzipFile
) -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    known = len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in IDX_DTYPES
    if not known or not 1 <= magic[3] <= MAX_RANK:
        kinds = ", ".join(f"{code:02x}" for code in IDX_DTYPES)
        raise ValueError(
            f"{path} is not an idx file: it starts with {magic.hex(' ') or 'nothing'}, expected "
            f"00 00, a type among {kinds}, and 1 to {MAX_RANK} dimensions"
        )
    rank = magic[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise ValueError(f"{path} ends within its header of {rank} dimensions")
    return IDX_DTYPES[magic[2]], struct.unpack(f">{rank}I", sizes)


def _most_bytes(path: Path) -> int:
    """Return how much a gzipped file may hold before it is a bomb."""
    return max(ALWAYS_INFLATED, MOST_INFLATION * path.stat().st_size)


def _read_idx_body(
    path: Path, file: BinaryIO | gzip.GzipFile, dtype: np.dtype, shape: tuple[int, ...], most: int
) -> np.ndarray:
    expected = math.prod(shape) * dtype.itemsize
    # Piece by piece: a damaged header may announce far more than there is memory for.
    body = bytearray()
    while len(body) <= expected and (piece := file.read(READ_BYTES)):
        body += piece
        if len(body) > most:
            raise ValueError(
                f"{path} holds more than {most} bytes unpacked: no real data shrink like that; "
                "unpack it first if you trust it"
            )
    if len(body) != expected:
        held = f"more than {expected}" if len(body) > expected else f"only {len(body)}"
        raise ValueError(
            f"{path} announces shape {shape} of {dtype.name}, {expected} bytes, but holds {held}"
        )
    return np.frombuffer(body, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
