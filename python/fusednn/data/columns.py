# SPDX-License-Identifier: Apache-2.0
"""How one column of a table becomes inputs of a network.

Each kind is a frozen record of plain values, so that it can be written as JSON and read back
without executing anything.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np

from fusednn.data.csv_files import cell_text
from fusednn.data.table import is_missing


@dataclass(frozen=True)
class Column(abc.ABC):
    """A column and what is made of it; `missing` says whether a column says where it was empty."""

    kind: ClassVar[str]
    name: str

    @property
    @abc.abstractmethod
    def outputs(self) -> list[str]:
        """The names of the inputs that it becomes."""

    @abc.abstractmethod
    def transform(self, cells: np.ndarray) -> np.ndarray:
        """Return the inputs, shape (rows, len(outputs)), in float64."""

    @abc.abstractmethod
    def describe(self) -> str:
        """Return in a few words what is done."""

    def get_config(self) -> dict[str, Any]:
        """Return plain values from which `from_config` makes it again."""
        return {"kind": self.kind, **asdict(self)}


def as_numbers(name: str, cells: np.ndarray) -> np.ndarray:
    """Return a column as numbers, also where a file held a text among them."""
    if cells.dtype.kind == "f":
        numbers = cells
    else:
        numbers = np.empty(len(cells))
        for place, cell in enumerate(cells):
            try:
                numbers[place] = np.nan if cell is None else float(cell)
            except ValueError:
                raise ValueError(
                    f"column {name!r} holds {cell!r} in row {place + 1}; it was a column of "
                    "numbers when the network was trained"
                ) from None
    if np.isinf(numbers).any():
        row = int(np.argmax(np.isinf(numbers)))
        raise ValueError(f"column {name!r} holds {numbers[row]} in row {row + 1}")
    return numbers


def as_texts(cells: np.ndarray) -> np.ndarray:
    """Return a column as texts, also where all of a file's happened to be numbers."""
    if cells.dtype.kind != "f":
        return cells
    texts = np.empty(len(cells), dtype=object)
    texts[:] = [cell_text(cell) or None for cell in cells.tolist()]
    return texts


def _flagged(inputs: np.ndarray, missing: np.ndarray, flagged: bool) -> np.ndarray:
    return np.column_stack([inputs, missing]) if flagged else inputs


@dataclass(frozen=True)
class Number(Column):
    """``(x - center) / scale``, cut to ±limit; empty cells become `fill` before."""

    kind: ClassVar[str] = "number"
    center: float
    scale: float
    fill: float
    flag_missing: bool
    limit: float

    @property
    def outputs(self) -> list[str]:
        return [self.name, f"{self.name} is missing"] if self.flag_missing else [self.name]

    def transform(self, cells: np.ndarray) -> np.ndarray:
        numbers = as_numbers(self.name, cells)
        missing = np.isnan(numbers)
        with np.errstate(over="ignore"):
            z = (np.where(missing, self.fill, numbers) - self.center) / self.scale
        z = np.clip(z, -self.limit, self.limit)
        return _flagged(z[:, None], missing, self.flag_missing)

    def describe(self) -> str:
        what = f"minus {self.center:.4g}, divided by {self.scale:.4g}"
        return what + (f"; missing: {self.fill:.4g} and a flag" if self.flag_missing else "")


@dataclass(frozen=True)
class OneHot(Column):
    """One input per category, 1 where it is this one.

    With `other` a further one for those that are rare or were never seen; else these are all 0.
    Empty cells become the most frequent category, `fill`.
    """

    kind: ClassVar[str] = "one-hot"
    categories: tuple[str, ...]
    fill: str
    flag_missing: bool
    other: bool

    @property
    def outputs(self) -> list[str]:
        names = [f"{self.name}={category}" for category in self.categories]
        names += [f"{self.name} is another"] if self.other else []
        return names + ([f"{self.name} is missing"] if self.flag_missing else [])

    def transform(self, cells: np.ndarray) -> np.ndarray:
        texts = as_texts(cells)
        missing = is_missing(texts)
        width = len(self.categories) + self.other
        places = {category: place for place, category in enumerate(self.categories)}
        unseen = len(self.categories)
        hot = [places.get(self.fill if text is None else text, unseen) for text in texts]
        table = np.vstack([np.eye(width), np.zeros((1, width))])
        return _flagged(table[np.array(hot, dtype=np.intp)], missing, self.flag_missing)

    def describe(self) -> str:
        what = f"one-hot, {len(self.categories)} categories" + (" and others" * self.other)
        return what + (f"; missing: {self.fill!r} and a flag" if self.flag_missing else "")


@dataclass(frozen=True)
class Ordinal(Column):
    """The place of a category in a given order, from -1 for the first to 1 for the last.

    Empty cells and categories that are not in the order become `fill`, the median.
    """

    kind: ClassVar[str] = "ordinal"
    order: tuple[str, ...]
    fill: str
    flag_missing: bool

    @property
    def outputs(self) -> list[str]:
        return [self.name, f"{self.name} is missing"] if self.flag_missing else [self.name]

    def transform(self, cells: np.ndarray) -> np.ndarray:
        texts = as_texts(cells)
        values = np.linspace(-1, 1, len(self.order)) if len(self.order) > 1 else np.zeros(1)
        places = dict(zip(self.order, values.tolist(), strict=True))
        known = np.array([text in places for text in texts], dtype=bool)
        ranks = np.array([places.get(text, places[self.fill]) for text in texts], dtype=float)
        return _flagged(ranks[:, None], ~known, self.flag_missing)

    def describe(self) -> str:
        return f"ordinal, {self.order[0]!r} to {self.order[-1]!r}"


@dataclass(frozen=True)
class LeftOut(Column):
    """A column that the network does not see, and why."""

    kind: ClassVar[str] = "left out"
    reason: str

    @property
    def outputs(self) -> list[str]:
        return []

    def transform(self, cells: np.ndarray) -> np.ndarray:
        return np.empty((len(cells), 0))

    def describe(self) -> str:
        return f"left out: {self.reason}"


def is_finite(value: int | float) -> bool:
    """Return whether a number can be a float that is neither NaN nor infinite."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False


KINDS: dict[str, type[Column]] = {c.kind: c for c in (Number, OneHot, Ordinal, LeftOut)}
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,), "center": (int, float), "scale": (int, float), "limit": (int, float),
    "flag_missing": (bool,), "other": (bool,), "reason": (str,),
}  # fmt: skip


def from_config(config: Any) -> Column:
    """Return the column that `get_config` described; ValueError where it is none."""
    named = config.get("kind") if isinstance(config, Mapping) else None
    if not isinstance(named, str) or named not in KINDS:
        raise ValueError(f"a column must have one of the kinds {', '.join(KINDS)}")
    kind = KINDS[named]
    wanted = {field.name for field in fields(kind)}
    values = {key: value for key, value in config.items() if key != "kind"}
    if set(values) != wanted:
        raise ValueError(f"a {kind.kind} column needs {', '.join(sorted(wanted))}")
    for key in ("categories", "order"):
        if key in values:
            values[key] = _texts(kind.kind, key, values[key])
    for key, value in values.items():
        types = _FIELDS.get(key)
        if key == "fill":
            types = (int, float) if kind is Number else (str,)
        if types and (not isinstance(value, types) or isinstance(value, bool) != (bool in types)):
            raise ValueError(f"{key}={value!r} is none of a {kind.kind} column")
        if isinstance(value, (int, float)) and not is_finite(value):
            raise ValueError(f"{key} of a {kind.kind} column must be finite, got {value!r}")
    if values.get("scale", 1) <= 0 or values.get("limit", 1) <= 0:
        raise ValueError(f"scale and limit of column {values['name']!r} must be positive")
    if kind is Ordinal and values["fill"] not in values["order"]:
        raise ValueError(f"fill={values['fill']!r} is not in the order of {values['name']!r}")
    return kind(**values)


def _texts(kind: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{key} of a {kind} column must be a list of texts")
    if not all(isinstance(text, str) for text in value) or len(set(value)) < len(value):
        raise ValueError(f"{key} of a {kind} column must be different texts")
    return tuple(value)
