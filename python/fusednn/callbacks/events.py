# SPDX-License-Identifier: Apache-2.0
"""TensorBoard's event files: records with checksums around protocol buffers, written by hand.

A file is a sequence of records: length (8 bytes, little-endian), masked CRC-32C of the length, the
payload, masked CRC-32C of the payload. A payload is an Event: wall_time = 1 (double), step = 2
(varint), file_version = 3 (string) or summary = 5. A Summary repeats value = 1: tag = 1 (string),
and simple_value = 2 (float) or histo = 5 (min, max, num, sum, sum_squares = 1 to 5 (double),
bucket_limit = 6 and bucket = 7 (packed doubles)).
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time

import numpy as np

_counter = itertools.count()


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """Return the CRC-32C of bytes as TensorFlow's records store it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _varint(number: int) -> bytes:
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    pieces.append(number)
    return bytes(pieces)


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _bytes(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _doubles(field: int, values: np.ndarray) -> bytes:
    return _bytes(field, np.asarray(values, "<f8").tobytes())


def scalar(tag: str, value: float) -> bytes:
    """Return a summary value that is a number."""
    return _bytes(1, _bytes(1, tag.encode()) + b"\x15" + struct.pack("<f", value))


def histogram(tag: str, values: np.ndarray, bins: int = 30) -> bytes:
    """Return a summary value that is a histogram of the finite values of an array."""
    flat = values[np.isfinite(values)].astype(np.float64)
    if not flat.size:
        flat = np.zeros(1)
    counts, edges = np.histogram(flat, bins)
    body = (
        _double(1, flat.min())
        + _double(2, flat.max())
        + _double(3, flat.size)
        + _double(4, flat.sum())
        + _double(5, (flat * flat).sum())
        # A bucket is given by its upper end; the empty first one says where the second begins.
        + _doubles(6, edges)
        + _doubles(7, np.concatenate([[0], counts]))
    )
    return _bytes(1, _bytes(1, tag.encode()) + _bytes(5, body))


class EventWriter:
    """Appends events to a file of its own in a folder, which is made."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        os.makedirs(folder, exist_ok=True)
        stamp = f"{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_counter)}"
        self.path = os.path.join(folder, f"events.out.tfevents.{stamp}.v2")
        self._file = open(self.path, "xb")  # noqa: SIM115
        self._write(_bytes(3, b"brain.Event:2"))

    def write(self, step: int, *values: bytes) -> None:
        """Write what `scalar` and `histogram` return, at a step."""
        self._write(b"\x10" + _varint(step) + _bytes(5, b"".join(values)))

    def _write(self, body: bytes) -> None:
        event = _double(1, time.time()) + body
        length = struct.pack("<Q", len(event))
        for piece in (length, event):
            self._file.write(piece + struct.pack("<I", masked_crc(piece)))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
