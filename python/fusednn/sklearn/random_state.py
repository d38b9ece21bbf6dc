# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's random numbers, without what making a generator costs besides."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from sklearn.utils import check_random_state


class _Unused(ISeedSequence):
    """What a new generator begins with, before the seed that counts is set.

    Without it the generator asks the system for randomness and mixes that well, which takes as long
    as an epoch of a small network.
    """

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return [1] * n_words


_UNUSED: Any = _Unused()


def random_numbers(random_state: Any) -> np.random.RandomState:
    """Return what `sklearn.utils.check_random_state` returns, sooner where it is given an int."""
    if type(random_state) is not int:
        return check_random_state(random_state)
    made = np.random.RandomState(np.random.MT19937(_UNUSED))
    made.seed(random_state)
    return made
