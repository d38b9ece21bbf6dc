# SPDX-License-Identifier: Apache-2.0
"""Which rows are for training, validation and testing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from fusednn.errors import check_integer, check_number


class Split(NamedTuple):
    """Row numbers of each part, in ascending order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split sample numbers in two so that each class keeps its share in both parts.

    Parameters
    ----------
    labels : ndarray of int, shape (samples,)
        The class of each sample.
    fraction : float
        Share of each class that goes to the second part, strictly between 0 and 1.
    seed : int
        The same seed gives the same split.

    Returns
    -------
    first, second : ndarray of int64
        Sample numbers, each in ascending order.

    Raises
    ------
    ValueError
        If the fraction does not lie between 0 and 1, or labels are not one row of integers.

    Examples
    --------
    >>> import numpy as np, fusednn
    >>> labels = np.array([0, 0, 0, 1, 1, 1])
    >>> first, second = fusednn.datasets.stratified_split(labels, 1 / 3, seed=0)
    >>> len(first), len(second)
    (4, 2)
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be one row of integers, got shape {labels.shape} of {labels.dtype}"
        )
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction!r}")
    generator = np.random.default_rng(seed)
    second = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        second[members[: round(fraction * len(members))]] = True
    return np.flatnonzero(~second), np.flatnonzero(second)


def split(
    rows: int,
    *,
    validation: float = 0.1,
    test: float = 0.2,
    stratify: Any = None,
    seed: int = 0,
) -> Split:
    """Draw which rows are for training, validation and testing.

    Parameters
    ----------
    rows : int
    validation, test : float
        Shares of all rows, in [0, 1); together below 1.
    stratify : array of shape (rows,), optional
        Classes, text or numbers: each keeps its share in every part.
    seed : int
        The same seed gives the same parts.

    Returns
    -------
    Split

    Examples
    --------
    >>> from fusednn import data
    >>> parts = data.split(100, validation=0.1, test=0.2, seed=1)
    >>> [len(part) for part in parts]
    [70, 10, 20]
    """
    check_integer("rows", rows, 1)
    check_integer("seed", seed, 0)
    check_number("validation", validation, 0, 1, open_high=True)
    check_number("test", test, 0, 1, open_high=True)
    if validation + test >= 1:
        raise ValueError(f"validation={validation:g} and test={test:g} leave nothing to train on")
    labels = np.zeros(rows, dtype=np.int64)
    if stratify is not None:
        if np.shape(stratify) != (rows,):
            raise ValueError(f"stratify must have shape ({rows},), got {np.shape(stratify)}")
        labels = np.unique(np.asarray(stratify).astype(str), return_inverse=True)[1]
    train, held = np.arange(rows), np.arange(0)
    if test:
        train, held = stratified_split(labels, test, seed)
    valid = np.arange(0)
    if validation:
        kept, valid = stratified_split(labels[train], validation / (1 - test), seed + 1)
        train, valid = train[kept], train[valid]
    return Split(train, valid, held)
