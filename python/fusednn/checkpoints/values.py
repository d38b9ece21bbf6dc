# SPDX-License-Identifier: Apache-2.0
"""State of callbacks and data as plain values beside arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fusednn import safetensors
from fusednn.safetensors import Tensors

_PREFIX = "checkpoint/"  # of the names of the arrays


def pack(value: Any, arrays: Tensors) -> Any:
    """Return a value as JSON can hold it; its arrays are added to `arrays`.

    It may be made of None, bool, int, float, str, NumPy scalars and arrays of numbers, lists,
    tuples (which become lists) and dicts with strings as keys; TypeError for anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return value.item()
    if isinstance(value, np.ndarray) and safetensors.holds(value.dtype):
        name = f"{_PREFIX}{len(arrays)}"
        arrays[name] = value
        return {"array": name}
    if isinstance(value, (list, tuple)):
        return [pack(item, arrays) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("a dict whose keys are not all strings cannot be written to a file")
        return {"dict": {key: pack(item, arrays) for key, item in value.items()}}
    kind = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"{kind} cannot be written to a file")


def unpack(value: Any, arrays: Tensors) -> Any:
    """Return what `pack` was given, with fresh arrays."""
    if isinstance(value, list):
        return [unpack(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return np.array(arrays[value["array"]])
        return {key: unpack(item, arrays) for key, item in value["dict"].items()}
    return value
