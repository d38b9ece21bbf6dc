# SPDX-License-Identifier: Apache-2.0
"""Reading and writing the safetensors format: named arrays, nothing executable.

A file is the length of the header (8 bytes, little-endian), the header (JSON: for every name its
dtype, shape and place; under ``__metadata__`` strings), and the arrays one after the other,
little-endian, in C order, without holes.

What is written here has ``__metadata__["checksum"]``: "sha256:" and the SHA-256, in hexadecimal, of
the whole file with zeros in the place of these 64 digits. Files without one are read as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
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
_ITEM = {"BF16": 2, **{name: np.dtype(code).itemsize for name, code in _DTYPES.items()}}

_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_ZEROS = "0" * 64

Tensors = dict[str, np.ndarray]


def holds(dtype: np.dtype) -> bool:
    """Return whether arrays of a type can be written."""
    return dtype.newbyteorder("<") in _NAMES


def encode(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[bytes]:
    """Return the pieces of the file in order; a checksum is added to the metadata."""
    header: dict[str, Any] = {"__metadata__": {**metadata, "checksum": f"sha256:{_ZEROS}"}}
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
    begin = [len(text).to_bytes(8, "little"), text]
    digest = hashlib.sha256()
    for piece in (*begin, *pieces):
        digest.update(piece)
    # A name of an array cannot hold this: its quotation marks would be escaped.
    blank = f'"checksum":"sha256:{_ZEROS}"'.encode()
    text = text.replace(blank, blank.replace(_ZEROS.encode(), digest.hexdigest().encode()))
    return [begin[0], text, *pieces]


def _verify(data: bytes, start: int, checksum: str) -> None:
    """Raise ValueError unless the checksum is that of the file, whose arrays begin at `start`."""
    digits = checksum.partition(":")[2]
    place = data.find(digits.encode(), 8, start) if _CHECKSUM.fullmatch(checksum) else -1
    if place < 0:
        raise ValueError(f"its checksum {checksum!r} is not one")
    view = memoryview(data)
    digest = hashlib.sha256(view[:place])
    digest.update(_ZEROS.encode())
    digest.update(view[place + 64 :])
    if digest.hexdigest() != digits:
        raise ValueError(
            "its checksum is not that of its bytes: it is damaged, or another program changed it"
        )


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


def _array(data: bytes, kind: str, first: int, count: int) -> np.ndarray:
    if kind == "BF16":  # the upper half of a float32
        return (np.frombuffer(data, "<u2", count, first).astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _DTYPES[kind], count, first)


def decode(data: bytes) -> tuple[Tensors, dict[str, str]]:
    """Return arrays (read-only, over `data`) and metadata; ValueError says what is wrong.

    bfloat16 becomes float32, which has all its values.
    """
    header, start = _header(data)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ValueError("its __metadata__ does not map strings to strings")
    if "checksum" in metadata:
        _verify(data, start, metadata["checksum"])
    size = len(data) - start
    tensors: Tensors = {}
    places: list[tuple[int, int]] = []
    for name, entry in header.items():
        kind = entry.get("dtype") if isinstance(entry, dict) else None
        if not isinstance(kind, str) or kind not in _ITEM:
            raise ValueError(f"array {name!r} has no known dtype, but {kind!r}")
        shape, offsets = _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
        if shape is None or offsets is None or len(offsets) != 2:
            raise ValueError(f"array {name!r} has no valid shape and place")
        begin, end = offsets
        if end - begin != math.prod(shape) * _ITEM[kind]:
            raise ValueError(f"array {name!r} of shape {tuple(shape)} does not fill its place")
        if end > size:
            raise ValueError(f"it is truncated: array {name!r} ends at byte {end} of {size}")
        places.append((begin, end))
        tensors[name] = _array(data, kind, start + begin, math.prod(shape)).reshape(shape)
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
    """Write a file of arrays and metadata; see `replace_file`."""
    replace_file(path, encode(tensors, metadata))


def replace_file(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> None:
    """Write a file under another name in the same folder, then rename it.

    Whoever looks at `path`, whenever the process or the machine dies, sees the old file or the
    new one.
    """
    final = os.path.abspath(os.fspath(path))
    if os.path.isdir(final):
        raise IsADirectoryError(f"{final} is a folder")
    temporary = f"{final}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, final)
    except BaseException as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None:
            error.filename = final  # a full disk does not say of itself where it was met
        raise
    sync_folder(os.path.dirname(final))


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Let the names of new files reach the disk as well."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
