# SPDX-License-Identifier: Apache-2.0
"""From what the caller has to what the engine takes: checked, contiguous, in the model's precision.

Everything is checked before anything is changed. Integers, bools and floats of another precision
are converted once, but for inputs of bytes (uint8), which stay what they are; what cannot be a
number is refused.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusednn.errors import check_number
from fusednn.graph import Graph, Head
from fusednn.layers.base import Shape
from fusednn.losses import CategoricalCrossentropy, Loss

_FEW = 1 << 18  # elements: a temporary array of so many stays in cache


@dataclass(frozen=True)
class Data:
    """Arrays of one data set, all with the same number of rows."""

    inputs: list[np.ndarray]
    targets: list[np.ndarray]
    weight: np.ndarray | None
    rows: int

    @property
    def mean_weight(self) -> float:
        """Sum of the weights over the number of rows."""
        return 1.0 if self.weight is None else float(self.weight.sum(dtype=np.float64)) / self.rows

    @property
    def arrays(self) -> list[np.ndarray]:
        """All of them."""
        return [*self.inputs, *self.targets, *([] if self.weight is None else [self.weight])]

    def checksum(self, begin: int = 0) -> int:
        """Return a CRC-32 of all values, going on from that of other data."""
        found = begin
        for array in self.arrays:
            found = zlib.crc32(np.ascontiguousarray(array).data, found)
        return found

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from others."""
        return {
            "samples": self.rows,
            "shapes": [list(a.shape[1:]) for a in (*self.inputs, *self.targets)],
            "weighted": self.weight is not None,
            "values": self.checksum(),
        }

    def part(self, first: int, end: int) -> Data:
        """Return rows first to end - 1, as views."""
        cut = slice(first, end)
        return Data(
            [a[cut] for a in self.inputs],
            [a[cut] for a in self.targets],
            None if self.weight is None else self.weight[cut],
            end - first,
        )

    def take(self, places: np.ndarray) -> Data:
        """Return copies of some rows."""
        return Data(
            [a[places] for a in self.inputs],
            [a[places] for a in self.targets],
            None if self.weight is None else self.weight[places],
            len(places),
        )

    def mean_weights(self, order: np.ndarray | None) -> np.ndarray | None:
        """Return the mean weight of the first n rows at place n - 1; None without weights."""
        if self.weight is None:
            return None
        weight = self.weight if order is None else self.weight[order]
        return weight.cumsum(dtype=np.float64) / np.arange(1, self.rows + 1)

    def weighted(self, factor: np.ndarray | None) -> Data:
        """Return the same data with the weights multiplied."""
        if factor is None:
            return self
        return replace(self, weight=factor if self.weight is None else self.weight * factor)


def to_numbers(argument: str, value: object) -> np.ndarray:
    """Return value as an array of bools, integers or floats; TypeError for anything else."""
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return value
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{argument} is a sparse matrix, expected an array; use .toarray()")
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(f"{argument} has masked values; fill them or leave those rows out")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{argument} is not an array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        given = "None" if value is None else f"dtype {array.dtype}"
        raise TypeError(f"{argument} must be an array of numbers, got {given}")
    return array


def to_precision(argument: str, value: object, dtype: np.dtype, *, finite: bool) -> np.ndarray:
    """Return value as a contiguous array of the model's precision; refuse NaN if `finite`."""
    given = to_numbers(argument, value)
    as_it_lies = given.dtype == dtype and given.size <= _FEW and given.flags.c_contiguous
    if as_it_lies and (not finite or np.isfinite(given).all()):
        # As below, at a fraction of the cost, which is much of that of a small batch.
        return given
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.ascontiguousarray(given, dtype=dtype)
        # One pass without a temporary: the sum is finite only if every element is.
        suspicious = finite and not np.isfinite(array.sum())
    if suspicious and not (good := np.isfinite(array)).all():
        first = tuple(int(i) for i in np.argwhere(~good)[0])
        message = (
            f"{argument} has {int((~good).sum())} values that are not finite in {dtype}, the "
            f"first is {np.asarray(given)[first]} at {list(first)}"
        )
        raise ValueError(message)
    return array.reshape(given.shape)


def _only(value: object) -> object:
    """Return the array of a list that holds nothing but one array; anything else as it is."""
    if isinstance(value, (list, tuple)) and len(value) == 1 and isinstance(value[0], np.ndarray):
        return value[0]
    return value


def single_input(x: object) -> np.ndarray:
    """Return the samples for a model with one input that is not known yet."""
    if isinstance(x, Mapping):
        raise TypeError("x is a dict, but the model's inputs have no names yet; give input_shape")
    array = to_numbers("x", _only(x))
    _check_rows("x", array, None)
    return array


def _by_name(argument: str, value: object, names: Sequence[str]) -> list[Any]:
    """Return one entry per name from a dict, a list or, for a single name, the thing itself."""
    if isinstance(value, Mapping):
        if missing := [n for n in names if n not in value]:
            raise ValueError(f"{argument} has no entry {missing[0]!r}; it needs {', '.join(names)}")
        if extra := [n for n in value if n not in names]:
            raise ValueError(f"{argument} has an entry {extra[0]!r}; it needs {', '.join(names)}")
        return [value[n] for n in names]
    if len(names) == 1:
        return [_only(value)]
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"{argument} must be a list of {len(names)} arrays or a dict with the names "
            f"{', '.join(names)}, got {type(value).__name__}"
        )
    if len(value) != len(names):
        raise ValueError(
            f"{argument} must have {len(names)} arrays ({', '.join(names)}), got {len(value)}"
        )
    return list(value)


def _label(argument: str, name: str, count: int) -> str:
    return argument if count == 1 else f"{argument}[{name!r}]"


def _check_rows(argument: str, array: np.ndarray, rows: int | None, *, empty: bool = False) -> None:
    if array.ndim == 0:
        raise ValueError(f"{argument} must have one row per sample, got a single number")
    if len(array) == 0 and not empty:
        raise ValueError(f"{argument} is empty: it has no samples")
    if rows is not None and len(array) != rows:
        raise ValueError(f"{argument} has {len(array)} samples, but x has {rows}")


def _fit_shape(argument: str, array: np.ndarray, shape: Shape, of: str) -> np.ndarray:
    """Return the array with rows of exactly `shape`; a column may come without its axis."""
    if array.ndim == 1 and shape == (1,):
        array = array[:, None]
    if array.shape[1:] != shape:
        hint = ""
        if array.shape == shape:
            hint = "; the axis of samples is missing"
        raise ValueError(
            f"{argument} has shape {array.shape}, but {of} needs (samples, "
            f"{', '.join(map(str, shape))}){hint}"
        )
    return array


def prepare_inputs(
    graph: Graph, x: object, dtype: np.dtype, *, finite: bool = True, empty: bool = False
) -> list[np.ndarray]:
    """Return one array per input of the graph."""
    arrays: list[np.ndarray] = []
    values = _by_name("x", x, graph.input_names)
    for name, tensor, value in zip(graph.input_names, graph.inputs, values, strict=True):
        argument = _label("x", name, len(values))
        array = to_numbers(argument, value)
        _check_rows(argument, array, len(arrays[0]) if arrays else None, empty=empty)
        array = _fit_shape(argument, array, tensor.sample_shape, f"input {name!r}")
        if array.dtype == np.uint8:  # converted batch by batch
            arrays.append(np.ascontiguousarray(array))
        else:
            arrays.append(to_precision(argument, array, dtype, finite=finite))
    return arrays


def prepare_targets(
    heads: Sequence[Head], losses: Sequence[Loss], y: object, rows: int, dtype: np.dtype
) -> list[np.ndarray]:
    """Return one array per output: int32 class numbers, or values of the model's precision."""
    targets = []
    values = _by_name("y", y, [head.name for head in heads])
    for head, loss, value in zip(heads, losses, values, strict=True):
        argument = _label("y", head.name, len(values))
        array = to_numbers(argument, value)
        _check_rows(argument, array, rows)
        if loss.labels:
            targets.append(_labels(argument, array, head, loss))
        else:
            targets.append(_values(argument, array, head, loss, dtype))
    return targets


def _labels(argument: str, array: np.ndarray, head: Head, loss: Loss) -> np.ndarray:
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        hint = ""
        if array.shape[1:] == head.shape:
            hint = "; for one-hot rows use 'categorical_crossentropy'"
        raise ValueError(
            f"{argument} has shape {array.shape}, but loss {loss.name!r} needs one class number "
            f"per sample{hint}"
        )
    classes = head.shape[-1]
    if array.dtype.kind == "b":
        array = array.astype(np.int32)
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() < classes:
        return np.ascontiguousarray(array, dtype=np.int32)
    bad = ~((array >= 0) & (array < classes) & (array == np.floor(array)))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{argument} must hold class numbers from 0 to {classes - 1}, because output "
            f"{head.name!r} has {classes} columns; got {array[first]} in row {first}"
        )
    return np.ascontiguousarray(array, dtype=np.int32)


def _values(
    argument: str, array: np.ndarray, head: Head, loss: Loss, dtype: np.dtype
) -> np.ndarray:
    if array.shape[1:] in ((), (1,)) and len(head.shape) == 1 and head.shape[0] > 1:
        hint = ""
        if loss.name == "categorical_crossentropy":
            hint = "; for class numbers use 'sparse_categorical_crossentropy'"
        raise ValueError(
            f"{argument} has shape {array.shape}, but loss {loss.name!r} at output {head.name!r} "
            f"needs (samples, {head.shape[0]}){hint}"
        )
    array = _fit_shape(argument, array, head.shape, f"output {head.name!r}")
    array = to_precision(argument, array, dtype, finite=True)
    if loss.target is not None:
        low, high = loss.target
        bad = (array != low) & (array != high) if loss.signs else (array < low) | (array > high)
        if bad.any():
            first = tuple(int(i) for i in np.argwhere(bad)[0])
            domain = f"be {low:g} or {high:g}" if loss.signs else f"lie in [{low:g}, {high:g}]"
            raise ValueError(
                f"{argument}: targets of loss {loss.name!r} must {domain}, got "
                f"{array[first]:g} in row {first[0]}"
            )
    return array


def prepare_weight(sample_weight: object, rows: int, dtype: np.dtype) -> np.ndarray | None:
    """Return one weight per row, or None."""
    if sample_weight is None:
        return None
    nested = isinstance(sample_weight, (list, tuple)) and any(np.ndim(w) for w in sample_weight)
    if nested or isinstance(sample_weight, Mapping):
        raise TypeError("sample_weight must be one array with a weight per sample, for all outputs")
    array = to_numbers("sample_weight", sample_weight)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.shape != (rows,):
        raise ValueError(f"sample_weight must have shape ({rows},), got {array.shape}")
    array = to_precision("sample_weight", array, dtype, finite=True)
    if (array < 0).any():
        first = int(np.argmax(array < 0))
        raise ValueError(f"sample_weight must not be negative, got {array[first]:g} in row {first}")
    return array


def class_weights(
    class_weight: Mapping[int, float] | str | None,
    heads: Sequence[Head],
    losses: Sequence[Loss],
    data: Data,
    dtype: np.dtype,
) -> np.ndarray | None:
    """Return the weight that each row has for its class, or None."""
    if class_weight is None:
        return None
    if len(heads) != 1:
        raise ValueError("class_weight needs a model with a single output; use sample_weight")
    target = data.targets[0]
    columns = heads[0].shape[-1]
    if losses[0].labels:
        numbers, classes = target, columns
    elif columns == 1 and losses[0].target in ((0.0, 1.0), (-1.0, 1.0)):
        numbers, classes = (target.reshape(-1) > 0.5).astype(np.int32), 2
    elif isinstance(losses[0], CategoricalCrossentropy):
        numbers, classes = target.argmax(axis=1), columns
    else:
        raise ValueError(f"class_weight needs targets that are classes, not {losses[0].name!r}")
    table = np.ones(classes)
    if class_weight == "balanced":
        counts = np.bincount(numbers, minlength=classes)
        table = data.rows / (np.count_nonzero(counts) * np.maximum(counts, 1))
    elif isinstance(class_weight, Mapping):
        for key, value in class_weight.items():
            if isinstance(key, bool) or not isinstance(key, (int, np.integer)):
                raise TypeError(f"class_weight: keys must be class numbers, got {key!r}")
            if not 0 <= key < classes:
                raise ValueError(
                    f"class_weight: {key} is not a class number from 0 to {classes - 1}"
                )
            table[key] = check_number(f"class_weight[{key}]", value, 0)
    else:
        raise TypeError(
            "class_weight must be a dict from class number to weight, or 'balanced', "
            f"got {class_weight!r}"
        )
    return table[numbers].astype(dtype)
