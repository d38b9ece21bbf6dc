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
_LOOKED_AT = 1000  # samples by which data are known again that are too large to be read as a whole


def is_stream(x: object) -> bool:
    """Return whether x gives batches, as generators and data loaders do, and is no array."""
    if isinstance(x, (np.ndarray, list, tuple, str, Mapping)):
        return False
    if hasattr(x, "__array__") or hasattr(x, "toarray"):  # the latter are sparse matrices
        return False
    return hasattr(x, "__iter__") or (hasattr(x, "__getitem__") and hasattr(x, "__len__"))


def is_empty(x: object) -> bool:
    """Return whether x is an array, or a list, of nothing."""
    return isinstance(x, (np.ndarray, list, tuple)) and len(x) == 0


def is_too_large(x: object, dtype: np.dtype) -> bool:
    """Return whether x is in a file and would become an array of its own by conversion.

    Bytes (uint8) are taken as they are.
    """
    values = list(x.values()) if isinstance(x, Mapping) else x
    if isinstance(values, (list, tuple)):
        return any(is_too_large(value, dtype) for value in values)
    if not isinstance(values, np.memmap):
        return False
    return values.dtype not in (dtype, np.uint8) or not values.flags.c_contiguous


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
        self._place: Any = None  # of the source, before it gave the first one
        self._asked = 0  # calls of _next, also those that met the end of a pass
        self._seen: int | None = None  # checksum of all batches so far, if somebody wants it
        length = len(source) if hasattr(source, "__len__") else None
        self.steps = length if steps is None else steps

    def peek(self) -> Any:
        """Return x of the first batch, which stays the first."""
        if not self._first:
            self._place = self._place_of_source()
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

    def _prepared(self) -> Data | None:
        """Return the next batch as the engine takes it."""
        self._asked += 1
        batch = self._next()
        if batch is None:
            return None
        data = self._prepare(*self._unpack(batch))
        if self._seen is not None:
            self._seen = data.checksum(self._seen)
        return data

    def epoch(self, stepwise: bool, step: int = 0) -> Iterator[tuple[Data, int]]:
        """Yield the data of each call of the engine from a step on, and its batch size."""
        while self._given is None or step < self._given:
            data = self._prepared()
            if data is None:
                break
            yield data, data.rows
            step += 1

    # ---- for trainings that go on ----------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from others, as far as it is known before they come."""
        self._seen = 0
        return {"steps": self.steps}

    def get_state(self) -> dict[str, Any]:
        """Return where this is, as plain values and what the source itself returns."""
        state: dict[str, Any] = {"asked": self._asked, "seen": self._seen}
        if self._keeps_place():
            state["source"] = self._place if self._first else self._place_of_source()
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go where another was that had the same source.

        A source that has ``state_dict`` and ``load_state_dict`` does it by itself. From any other
        all batches are drawn once more, and have to be the same.
        """
        if self._keeps_place():
            self._source.load_state_dict(state["source"])
            self._iterator, self._first = self._begin(), []
            self._asked, self._seen = state["asked"], state["seen"]
            return
        try:
            while self._asked < state["asked"]:
                self._prepared()
        except ValueError as error:
            raise ValueError(f"{self._argument} does not give what it gave: {error}") from None
        if self._seen != state["seen"]:
            raise ValueError(
                f"the first {self._asked} batches of {self._argument} are not those that were "
                "trained on; it must give the same ones in every run, or have state_dict() and "
                "load_state_dict()"
            )

    def _place_of_source(self) -> Any:
        return self._source.state_dict() if self._keeps_place() else None

    def _keeps_place(self) -> bool:
        return hasattr(self._source, "state_dict") and hasattr(self._source, "load_state_dict")


class InputBatches(Batches):
    """Batches of x alone; of (x, y) and (x, y, sample_weight) the rest is left out."""

    def _unpack(self, batch: Any) -> tuple[Any, Any, Any]:
        return (batch[0] if isinstance(batch, tuple) else batch), None, None


class Rows:
    """Samples of arrays, converted a few batches at a time.

    Parameters
    ----------
    x, y, sample_weight : array, or a list or dict of arrays
    prepare : callable
    batch_size : int
    steps : int, optional
        Of an epoch; the next one goes on from there. Without it an epoch is one pass.
    order : Shuffles, optional
        Gives the order of a pass over so many samples; None as they lie.
    """

    def __init__(
        self, arrays: tuple[Any, Any, Any], prepare: Prepare, batch_size: int,
        steps: int | None = None, order: Shuffles | None = None,
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

    def epoch(self, stepwise: bool, step: int = 0) -> Iterator[tuple[Data, int]]:
        """Yield the data of each call of the engine from a step on, and its batch size."""
        block = 1 if stepwise else max(_BLOCK // (self._per_row * self._batch), 1)
        left = self.steps - step
        while left:
            if self._at >= self._all:
                self._at = 0
                self._places = None if self._order is None else self._order.next(self._all)
            steps = min(left, block, math.ceil((self._all - self._at) / self._batch))
            end = min(self._at + steps * self._batch, self._all)
            places: Any = slice(self._at, end)
            if self._places is not None:
                places = self._places[places]
            self._at = end
            left -= steps
            yield self._prepare(*self._taken(places)), self._batch

    # ---- for trainings that go on ----------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from others; only some of them are looked at."""
        spread = np.unique(np.linspace(0, self._all - 1, _LOOKED_AT).astype(np.intp))
        looked_at = self._prepare(*self._taken(spread))
        return {"samples": self._all, "steps": self.steps, **looked_at.identity()}

    def get_state(self) -> dict[str, Any]:
        """Return where this is, as plain values."""
        return {"at": self._at, "pass": None if self._order is None else self._order.latest}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go where another was that had the same arrays."""
        self._at = state["at"]
        if self._order is not None and self._at < self._all:
            self._places = self._order.again(self._all, state["pass"])


class Shuffles:
    """The orders in which a model passes over its data, as `fit` takes them."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.latest = 0  # pass

    def next(self, rows: int) -> np.ndarray:
        """Return the order of the next pass."""
        order = self.again(rows, self._model._epochs)
        self._model._epochs += 1
        return order

    def again(self, rows: int, number: int) -> np.ndarray:
        """Return the order of a pass that was begun before."""
        self.latest = number
        return _core.shuffled(rows, self._model.seed, number)
