# SPDX-License-Identifier: Apache-2.0
"""What has to be known of a column before it can be prepared, gathered in pieces of any size."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fusednn.data.table import is_missing

SAMPLE = 100_000  # values kept for the median: exact up to so many rows
MOST_CATEGORIES = 100_000  # distinct texts that are counted
MOST_VALUES = 1000  # distinct numbers that are remembered


class NumberStatistics:
    """Count, mean and deviation of all values (Chan et al., 1983), median of a sample."""

    def __init__(self, seed: int) -> None:
        self.rows = 0
        self.count = 0
        self.mean = 0.0
        self.low, self.high = np.inf, -np.inf
        self._squares = 0.0  # summed deviations from the mean, squared
        self._sample = np.empty(0)
        self.distinct = np.empty(0)  # in ascending order, as long as there are few
        self._generator = np.random.default_rng(seed)

    @property
    def missing(self) -> int:
        """How many rows had nothing there."""
        return self.rows - self.count

    @property
    def deviation(self) -> float:
        """The standard deviation, of all values as the whole population."""
        return float(np.sqrt(self._squares / self.count)) if self.count else 0.0

    @property
    def median(self) -> float:
        """The value in the middle of the sample."""
        return float(np.median(self._sample)) if self.count else 0.0

    def add(self, name: str, cells: np.ndarray) -> None:
        """Take a piece of the column; ValueError for infinite and for absurdly large values."""
        values = cells[~np.isnan(cells)]
        huge = np.abs(values) > 1e150  # their squares would overflow
        if huge.any():
            raise ValueError(
                f"column {name!r} holds {values[huge][0]:g}; numbers must lie within ±1e150"
            )
        self.rows += len(cells)
        if not len(values):
            return
        if len(self.distinct) <= MOST_VALUES:
            self.distinct = np.union1d(self.distinct, values)
        mean = float(values.mean())
        apart = mean - self.mean
        total = self.count + len(values)
        self._squares += float(np.square(values - mean).sum())
        self._squares += apart * apart * self.count * len(values) / total
        self.mean += apart * len(values) / total
        self.low, self.high = min(self.low, values.min()), max(self.high, values.max())
        self._keep(values, total)
        self.count = total

    def _keep(self, values: np.ndarray, total: int) -> None:
        """Let every value so far be in the sample with the same probability."""
        if total <= SAMPLE:
            self._sample = np.concatenate([self._sample, values])
            return
        fresh = min(self._generator.binomial(SAMPLE, len(values) / total), len(values))
        old = self._generator.permutation(self._sample)[: SAMPLE - fresh]
        self._sample = np.concatenate([old, self._generator.permutation(values)[:fresh]])


class TextStatistics:
    """How often each text occurs."""

    def __init__(self) -> None:
        self.rows = 0
        self.counts: Counter[str] = Counter()
        self.too_many = False

    @property
    def missing(self) -> int:
        """How many rows had nothing there."""
        return self.rows - self.count

    count = 0

    def add(self, name: str, cells: np.ndarray) -> None:
        """Take a piece of the column."""
        there = cells[~is_missing(cells)]
        self.rows += len(cells)
        self.count += len(there)
        if not self.too_many:
            self.counts.update(there.tolist())
            self.too_many = len(self.counts) > MOST_CATEGORIES
