# SPDX-License-Identifier: Apache-2.0
"""Data that are not there as a whole: batches from a generator, and arrays too large to convert.

What `fit` and `evaluate` take piece by piece gives the same bits as the same samples in one array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.arrays import Data

Prepare = Callable[[Any, Any, Any], Data]  # of x, y and sample_weight as the caller gives them

_BLOCK = 1 << 22  # elements of all inputs that are converted at a time


def is_stream(x: object) -> bool:
    """Return whether x gives batches, as generators and data loaders do, and is no array."""
    if isinstance(x, (np.ndarray, list, tuple, str, Mapping)) or hasattr(x, "__array__"):
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def is_too_large(x: object, dtype: np.dtype) -> bool:
    """Return whether x is in a file and would become an array of its own by conversion."""
    values = list(x.values()) if isinstance(x, Mapping) else x
    if isinstance(values, (list, tuple)):
        return any(is_too_large(value, dtype) for value in values)
    if not isinstance(values, np.memmap):
        return False
    return values.dtype != dtype or not values.flags.c_contiguous


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Apply a function to the array, or to all arrays of a list or dict."""
    if isinstance(value, Mapping):
        return {key: change(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], np.ndarray):
        return [change(item) for item in value]
    return None if value is None else change(value)


class Batches:
    """Batches from outside.

    Parameters
    ----------
    argument : str
        What the caller calls them.
    source : iterable, or a sequence with ``len`` and ``[]``
        Of ``(x, y)`` or ``(x, y, sample_weight)``.
    prepare : callable
    steps : int, optional
        Batches per epoch. An iterable that can begin anew does so when it ends; without `steps` an
        epoch is one pass.
    """

    rows = 0  # nobody knows

    def __init__(self, argument: str, source: Any, prepare: Prepare, steps: int | None) -> None:
        self._argument = argument
        self._source = source
        self._prepare = prepare
        self._given = steps
        self._iterator: Iterator[Any] | None = None
        self._first: list[Any] = []
        length = len(source) if hasattr(source, "__len__") else None
        self.steps = length if steps is None else steps

    def peek(self) -> Any:
        """Return x of the first batch, which stays the first."""
        if not self._first:
            self._first = [self._next()]
        return self._unpack(self._first[0])[0]

    def _begin(self) -> Iterator[Any]:
        if hasattr(self._source, "__iter__"):
            return iter(self._source)
        return (self._source[i] for i in range(len(self._source)))

    def _next(self) -> Any:
        """Return the next batch, beginning anew where there was a beginning; None at the end."""
        if self._first:
            return self._first.pop()
        for _ in range(2):
            fresh = self._iterator is None
            if self._iterator is None:
                self._iterator = self._begin()
            batch = next(self._iterator, None)
            if batch is not None:
                return batch
            self._end()
            if fresh or self._given is None or hasattr(self._source, "__next__"):
                break
        if fresh:
            raise ValueError(f"{self._argument} gives no batches (any more)")
        return None

    def _end(self) -> None:
        self._iterator = None
        if hasattr(self._source, "on_epoch_end"):
            self._source.on_epoch_end()

    def _unpack(self, batch: Any) -> tuple[Any, Any, Any]:
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            raise ValueError(
                f"{self._argument} must give batches (x, y) or (x, y, sample_weight), "
                f"got {type(batch).__name__}"
            )
        x, y, *weight = batch
        return x, y, weight[0] if weight else None

    def epoch(self, stepwise: bool) -> Iterator[tuple[Data, int]]:
        """Yield the data of each call of the engine, and its batch size."""
        step = 0
        while self._given is None or step < self._given:
            batch = self._next()
            if batch is None:
                break
            data = self._prepare(*self._unpack(batch))
            yield data, data.rows
            step += 1


class Rows:
    """Samples of arrays, converted a few batches at a time.

    Parameters
    ----------
    x, y, sample_weight : array, or a list or dict of arrays
    prepare : callable
    batch_size : int
    steps : int, optional
        Of an epoch; the next one goes on from there. Without it an epoch is one pass.
    order : callable, optional
        Gives the order of a pass over so many samples; None as they lie.
    """

    def __init__(
        self, arrays: tuple[Any, Any, Any], prepare: Prepare, batch_size: int,
        steps: int | None = None, order: Callable[[int], np.ndarray | None] | None = None,
    ) -> None:  # fmt: skip
        self._arrays = arrays
        self._prepare = prepare
        self._batch = batch_size
        self._given = steps
        self._order = order
        first = arrays[0]
        if isinstance(first, Mapping):
            first = next(iter(first.values()))
        elif isinstance(first, (list, tuple)) and isinstance(first[0], np.ndarray):
            first = first[0]
        self._all = len(first)
        if self._all == 0:
            raise ValueError("x is empty: it has no samples")
        self._per_row = max(int(np.size(first[0])), 1)
        self.steps = math.ceil(self._all / batch_size) if steps is None else steps
        self.rows = min(self._all, self.steps * batch_size)
        self._at = self._all
        self._places: np.ndarray | None = None

    def peek(self) -> Any:
        """Return x of the first samples."""
        return self._taken(slice(0, 1))[0]

    def _taken(self, places: Any) -> tuple[Any, Any, Any]:
        x, y, weight = (_each(a, lambda v: np.asarray(v)[places]) for a in self._arrays)
        return x, y, weight

    def split(self, share: float) -> tuple[Rows, Rows]:
        """Return the first samples, and the share of them that comes last."""
        end = math.floor(self._all * (1 - share))
        if end in (0, self._all):
            raise ValueError(
                f"validation_split={share:g} of {self._all} samples leaves {end} to train on and "
                f"{self._all - end} to validate on"
            )
        first, last = self._taken(slice(0, end)), self._taken(slice(end, self._all))
        return (
            Rows(first, self._prepare, self._batch, self._given, self._order),
            Rows(last, self._prepare, self._batch),
        )

    def epoch(self, stepwise: bool) -> Iterator[tuple[Data, int]]:
        """Yield the data of each call of the engine, and its batch size."""
        block = 1 if stepwise else max(_BLOCK // (self._per_row * self._batch), 1)
        left = self.steps
        while left:
            if self._at >= self._all:
                self._at = 0
                self._places = None if self._order is None else self._order(self._all)
            steps = min(left, block, math.ceil((self._all - self._at) / self._batch))
            end = min(self._at + steps * self._batch, self._all)
            places: Any = slice(self._at, end)
            if self._places is not None:
                places = self._places[places]
            self._at = end
            left -= steps
            yield self._prepare(*self._taken(places)), self._batch


def shuffles(model: Any) -> Callable[[int], np.ndarray]:
    """Return what gives the order of a model's next pass over its data, as `fit` takes it."""

    def order(rows: int) -> np.ndarray:
        found = _core.shuffled(rows, model.seed, model._epochs)
        model._epochs += 1
        return found

    return order
