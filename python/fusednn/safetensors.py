# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the safetensors format: named arrays, nothing executable.

A file is the length of the header (8 bytes, little-endian), the header (JSON: for every name its
dtype, shape and place; under ``__metadata__`` strings), and the arrays one after the other,
little-endian, in C order, without holes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}

Tensors = dict[str, np.ndarray]


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[bytes]:
    """Return the pieces of the file in order."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    pieces: list[bytes] = []
    offset = 0
    for name, array in tensors.items():
        little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        header[name] = {
            "dtype": _NAMES[little.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + little.nbytes],
        }
        pieces.append(little.tobytes())
        offset += little.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the arrays are aligned
    return [len(text).to_bytes(8, "little"), text, *pieces]


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a name occurs twice in its header")
    return result


def _header(data: bytes) -> tuple[dict[str, Any], int]:
    if len(data) < 8:
        raise ValueError(f"it has {len(data)} bytes, too few for a safetensors file")
    length = int.from_bytes(data[:8], "little")
    if length > len(data) - 8:
        raise ValueError(
            f"its header should have {length} bytes, but only {len(data) - 8} follow; it is "
            "truncated or no safetensors file"
        )
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=_no_duplicates)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"its header is not JSON ({error}); no safetensors file") from None
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object; no safetensors file")
    return header, 8 + length


def _sizes(value: object) -> list[int] | None:
    """Return value if it is a list of sizes."""
    if isinstance(value, list) and all(type(n) is int and n >= 0 for n in value):
        return value
    return None


def decode(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return arrays (read-only, over `data`) and metadata; ValueError says what is wrong."""
    header, start = _header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its __metadata__ does not map strings to strings")
    size = len(data) - start
    tensors: Tensors = {}
    places: list[tuple[int, int]] = []
    for name, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in _DTYPES:
            raise ValueError(f"array {name!r} has no known dtype")
        shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2:
            raise ValueError(f"array {name!r} has no valid shape and place")
        dtype = np.dtype(_DTYPES[kind])
        begin, end = offsets
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"array {name!r} of shape {tuple(shape)} does not fill its place")
        if end > size:
            raise ValueError(f"it is truncated: array {name!r} ends at byte {end} of {size}")
        places.append((begin, end))
        count = math.prod(shape)
        tensors[name] = np.frombuffer(data, dtype, count, start + begin).reshape(shape)
    reached = 0
    for begin, end in sorted(places):
        if begin != reached:
            raise ValueError(f"its arrays overlap or leave a hole at byte {min(begin, reached)}")
        reached = end
    if reached != size:
        raise ValueError(f"it has {size} bytes of arrays, its header speaks of {reached}")
    return tensors, metadata


def read(path: str | os.PathLike[str]) -> tuple[Tensors, dict[str, str]]:
    """Return arrays and metadata of a file; ValueError names the file where it is corrupt."""
    with open(os.fspath(path), "rb") as file:  # a number would be somebody's open file
        data = file.read()
    try:
        return decode(data)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write a file under another name in the same folder, then rename it.

    Whoever looks at `path`, whenever the process or the machine dies, sees the old file or the
    new one.
    """
    final = os.path.abspath(os.fspath(path))
    folder = os.path.dirname(final)
    if os.path.isdir(final):
        raise IsADirectoryError(f"{final} is a folder")
    temporary = f"{final}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            for piece in encode(tensors, metadata):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    if os.name == "posix":  # the new name must reach the disk as well
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
