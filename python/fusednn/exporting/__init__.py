# SPDX-License-Identifier: Apache-2.0
"""Models as files for other programs: ONNX, C, safetensors. ``Model.export`` is the door."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fusednn.errors import unknown_choice
from fusednn.exporting import c_files, onnx_files, safetensors_files
from fusednn.safetensors import replace_file

if TYPE_CHECKING:
    from fusednn.models import Model

__all__ = ["export"]

Path = str | os.PathLike[str]

_FORMATS = {".onnx": "onnx", ".c": "c", ".safetensors": "safetensors"}


def _format_of(path: str, format: str | None) -> str:
    if format is None:
        ending = os.path.splitext(path)[1].lower()
        if ending not in _FORMATS:
            raise ValueError(
                f"filepath={path!r} ends with none of {', '.join(_FORMATS)}; say format= what it "
                "is to be"
            )
        return _FORMATS[ending]
    if format not in _FORMATS.values():
        raise unknown_choice("format", format, _FORMATS.values())
    return format


def export(
    model: Model, path: Path, format: str | None, name: str | None, layout: str | None
) -> None:
    """Write a model for another program; see ``Model.export``."""
    place = os.fspath(path)
    format = _format_of(place, format)
    if name is not None and format != "c":
        raise ValueError(f"name={name!r} is for C files, not for {format}")
    if layout is not None and format != "safetensors":
        raise ValueError(f"layout={layout!r} is for safetensors files, not for {format}")
    if format == "onnx":
        pieces = [onnx_files.encode(model)]
    elif format == "c":
        stem = os.path.splitext(os.path.basename(place))[0]
        pieces = [c_files.encode(model, c_files.name_for(stem) if name is None else name).encode()]
    else:
        pieces = safetensors_files.encode(model, layout or "keras")
    replace_file(path, pieces)
