# SPDX-License-Identifier: Apache-2.0
"""From tables to what a network takes, the same way in training and in use."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusednn.data import columns, targets
from fusednn.data.columns import Column, LeftOut, Number, OneHot, Ordinal
from fusednn.data.statistics import NumberStatistics, TextStatistics
from fusednn.data.table import Table, unknown_column
from fusednn.data.targets import Target
from fusednn.errors import check_integer, helpful_keywords, unknown_choice

_VERSION = 1
_KINDS = ("number", "category", "drop")
_LIMIT = 5.0  # deviations from the mean
Statistics = NumberStatistics | TextStatistics


class Preprocessor:
    """Learns from training rows how columns become inputs, and does it with any rows.

    Numbers are standardised, ``(x - mean) / deviation``, and cut to ±5. Text is one-hot;
    categories beyond the `max_categories` most frequent are "another", as are those first met in
    prediction. Missing numbers become the median, missing categories the most frequent one, and a
    further input says where that happened, if it happened in training. Columns without information
    (constant, all missing, a different text in nearly every row) are left out.

    Parameters
    ----------
    target : str, optional
        The column to predict; without one there are only inputs.
    task : {"auto", "binary", "multiclass", "regression"}
        What the target is. "auto": text and a few whole numbers are classes, others a quantity.
    kinds : dict, optional
        From column to "number", "category", "drop", or a list of texts in ascending order.
    max_categories : int
        Of a column.
    seed : int
        For the sample that medians are taken of, in columns of more than 100,000 numbers.

    Attributes
    ----------
    columns : list of Column
        What is done with each, after `fit`.
    feature_names : list of str
        The inputs of the network.
    target : Classes, Quantity or None

    Examples
    --------
    >>> from fusednn.data import Preprocessor, Table
    >>> table = Table({"size": [1.0, None, 3.0], "color": ["red", "blue", "red"],
    ...                "price": [1.5, 2.5, 7.5]})
    >>> preprocessor = Preprocessor("price").fit(table)
    >>> preprocessor.feature_names
    ['size', 'size is missing', 'color=blue', 'color=red']
    >>> preprocessor.transform(table).shape
    (3, 4)
    """

    @helpful_keywords
    def __init__(
        self,
        target: str | None = None,
        task: str = "auto",
        kinds: Mapping[str, str | Sequence[str]] | None = None,
        max_categories: int = 50,
        seed: int = 0,
    ) -> None:
        if task not in targets.TASKS:
            raise unknown_choice("task", task, targets.TASKS)
        self._target_name = target
        self._task = task
        self._kinds = dict(kinds or {})
        for name, kind in self._kinds.items():
            if isinstance(kind, str) and kind not in _KINDS:
                raise unknown_choice(f"kinds[{name!r}]", kind, _KINDS)
        self._max_categories = check_integer("max_categories", max_categories, 1)
        self._seed = check_integer("seed", seed, 0)
        self._columns: list[Column] | None = None
        self._target: Target | None = None

    # ---- learning ------------------------------------------------------------------------------

    def fit(self, data: Any, target: Target | None = None) -> Preprocessor:
        """Learn from rows for training.

        Parameters
        ----------
        data : Table, mapping, DataFrame, or an iterable of these
            An iterable gives pieces of one table, each with the same columns.
        target : Classes or Quantity, optional
            What is predicted, where it is known already, of more rows than these.

        Raises
        ------
        KeyError
            A column that is named but not there.
        ValueError
            A target with nothing to learn; numbers that are infinite or beyond ±1e150.
        """
        pieces = [data] if isinstance(data, (Table, Mapping)) or hasattr(data, "isna") else data
        found: dict[str, Statistics] = {}
        for piece in pieces:
            self._gather(Table(piece), found)
        if not found:
            raise ValueError("the table is empty: it has no columns")
        if not any(statistics.rows for statistics in found.values()):
            raise ValueError("the table has no rows")
        if self._target_name is not None:
            answers = found.pop(self._target_name)
            target = target or targets.choose(self._target_name, answers, self._task)
        chosen = [self._choose(name, statistics) for name, statistics in found.items()]
        if not any(column.outputs for column in chosen):
            reasons = "; ".join(f"{c.name}: {c.describe()}" for c in chosen)
            raise ValueError(f"no column can be an input ({reasons or 'there are none'})")
        self._columns, self._target = chosen, target
        return self

    def _gather(self, table: Table, found: dict[str, Statistics]) -> None:
        named = [*self._kinds, *([] if self._target_name is None else [self._target_name])]
        for name in named:
            if name not in table:
                raise unknown_column(name, table.names)
        if found and list(found) != table.names:
            raise ValueError("the pieces differ in their columns")
        there: Any = slice(None)
        if self._target_name is not None:  # rows without a target teach nothing
            there = ~table.missing(self._target_name)
        for name in table.names:
            cells = table[name][there]
            kind = self._kinds.get(name, "number" if table.is_number(name) else "category")
            if name not in found:
                number = kind == "number"
                found[name] = NumberStatistics(self._seed) if number else TextStatistics()
            if isinstance(found[name], NumberStatistics):
                found[name].add(name, columns.as_numbers(name, cells))
            else:
                found[name].add(name, columns.as_texts(cells))

    def _choose(self, name: str, statistics: Statistics) -> Column:
        kind = self._kinds.get(name)
        if kind == "drop":
            return LeftOut(name, "as asked for")
        if statistics.count == 0:
            return LeftOut(name, "all cells are missing")
        if isinstance(statistics, NumberStatistics):
            return self._number(name, statistics)
        counts = statistics.counts
        flag = statistics.missing > 0
        if kind is not None and not isinstance(kind, str):
            return self._ordinal(name, tuple(map(str, kind)), statistics)
        if len(counts) == 1 and not flag:
            return LeftOut(name, f"{next(iter(counts))!r} in every row")
        if len(counts) > max(self._max_categories, statistics.count // 2) and kind is None:
            return LeftOut(name, "a different text in nearly every row")
        common = [text for text, _ in counts.most_common(self._max_categories)]
        fill = common[0]
        other = len(common) < len(counts)
        return OneHot(name, tuple(sorted(common)), fill, flag, other)

    def _number(self, name: str, statistics: NumberStatistics) -> Column:
        flag = statistics.missing > 0
        median = statistics.median
        deviation = statistics.deviation
        span = max(abs(statistics.low), abs(statistics.high))
        if statistics.low == statistics.high or deviation <= span * 1e-15:
            if not flag:
                return LeftOut(name, f"{statistics.mean:g} in every row")
            return Number(name, median, max(span, 1.0), median, True, _LIMIT)
        return Number(name, statistics.mean, deviation, median, flag, _LIMIT)

    def _ordinal(self, name: str, order: tuple[str, ...], statistics: TextStatistics) -> Column:
        strange = [text for text in statistics.counts if text not in order]
        if strange:
            raise ValueError(
                f"column {name!r} holds {strange[0]!r}, which is not in the order given for it: "
                f"{', '.join(order)}"
            )
        below, fill = 0, order[0]
        for text in order:
            below += statistics.counts[text]
            if 2 * below >= statistics.count:
                fill = text
                break
        return Ordinal(name, order, fill, statistics.missing > 0)

    # ---- use -----------------------------------------------------------------------------------

    @property
    def columns(self) -> list[Column]:
        """What is done with each column."""
        if self._columns is None:
            raise ValueError("the preprocessor has not learned from a table: call fit() first")
        return self._columns

    @property
    def target(self) -> Target | None:
        """What is predicted."""
        return self._target

    @property
    def feature_names(self) -> list[str]:
        """The names of the network's inputs."""
        return [name for column in self.columns for name in column.outputs]

    def transform(self, table: Any) -> np.ndarray:
        """Return the inputs for rows of a table.

        Parameters
        ----------
        table : Table, mapping or DataFrame
            With all columns that are used; others are not looked at.

        Returns
        -------
        ndarray of float32, shape (rows, len(feature_names))

        Raises
        ------
        KeyError
            A column is not there; the message names the nearest.
        ValueError
            A text, or an infinite number, in a column of numbers.
        """
        table = Table(table)
        used = [column for column in self.columns if column.outputs]
        parts = [column.transform(table[column.name]) for column in used]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def transform_target(self, table: Any) -> np.ndarray:
        """Return class numbers, or standardised numbers, for rows that have a target.

        Raises
        ------
        ValueError
            A row whose target is missing, or a class that was not met in training.
        """
        if self._target is None:
            raise ValueError("this preprocessor has no target")
        table = Table(table)
        name = self._target.name
        missing = table.missing(name)
        if missing.any():
            raise ValueError(f"target {name!r} is missing in row {int(missing.argmax()) + 1}")
        y = self._target.transform(table[name])
        if isinstance(self._target, targets.Classes) and (y < 0).any():
            row = int((y < 0).argmax())
            text = columns.as_texts(table[name][row : row + 1])[0]
            raise ValueError(
                f"target {name!r} is {text!r} in row {row + 1}; the classes are "
                f"{', '.join(self._target.labels[:12])}"
            )
        return y

    # ---- as plain values -----------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return all that was learned as plain values."""
        return {
            "version": _VERSION,
            "columns": [column.get_config() for column in self.columns],
            "target": None if self._target is None else self._target.get_config(),
        }

    @classmethod
    def from_config(cls, config: Any) -> Preprocessor:
        """Return a preprocessor that does what `get_config` described.

        Raises
        ------
        ValueError
            Values that describe none.
        """
        if not isinstance(config, Mapping) or not isinstance(config.get("columns"), list):
            raise ValueError("a preprocessor needs a list of columns")
        if config.get("version") != _VERSION:
            raise ValueError(
                f"the preprocessor is of version {config.get('version')!r}, this release of "
                f"fusednn reads {_VERSION}"
            )
        target = config.get("target")
        made = cls()
        made._columns = [columns.from_config(column) for column in config["columns"]]
        made._target = None if target is None else targets.from_config(target)
        return made

    def to_json(self) -> str:
        """Return `get_config` as JSON."""
        return json.dumps(self.get_config())

    @classmethod
    def from_json(cls, text: str) -> Preprocessor:
        """Return the preprocessor that `to_json` described; ValueError where it is none."""
        try:
            config = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"the preprocessor is not JSON: {error}") from None
        return cls.from_config(config)
