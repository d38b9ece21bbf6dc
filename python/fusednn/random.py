# SPDX-License-Identifier: Apache-2.0
"""Seeds. A model draws its initial values, its shuffles and its dropout masks from one number."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from fusednn.errors import check_integer

_LIMIT = 2**64

_root: int | None = None
_count: Iterator[int] = itertools.count()


def set_seed(seed: int | None) -> None:
    """Make all models that get no seed of their own reproducible, in the order of their making.

    Parameters
    ----------
    seed : int or None
        At least 0. None goes back to seeds drawn from the operating system.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.set_seed(0)
    >>> a = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,)).get_weights()
    >>> fusednn.set_seed(0)
    >>> b = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(2,)).get_weights()
    >>> bool((a[0] == b[0]).all())
    True
    >>> fusednn.set_seed(None)
    """
    global _root, _count
    _root = None if seed is None else check_seed(seed)
    _count = itertools.count()


def check_seed(seed: object) -> int:
    """Return the seed as an int that the engine can hold."""
    number = check_integer("seed", seed, 0)
    if number >= _LIMIT:
        raise ValueError(f"seed must be less than 2**64, got {number}")
    return number


def next_seed() -> int:
    """Return the seed of the next model that has none of its own."""
    sequence = (
        np.random.SeedSequence()
        if _root is None
        else np.random.SeedSequence(_root, spawn_key=(next(_count),))
    )
    return int(sequence.generate_state(1, np.uint64)[0])


def stream(seed: int, place: int) -> np.random.Generator:
    """Return the generator of the layer at a place of the model with this seed."""
    return np.random.Generator(np.random.Philox(key=np.array([seed, place], dtype=np.uint64)))
