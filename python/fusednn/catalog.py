# SPDX-License-Identifier: Apache-2.0
"""What the compiled rules say about themselves, in the form the rest of the package reads.

Names, defaults and domains of activations, losses and optimizers are written once, in the rules.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

from fusednn import _core


class Parameter(NamedTuple):
    """A hyper-parameter of a rule: its default and the closed interval it may lie in."""

    default: float
    low: float
    high: float


Rules = Mapping[str, Mapping[str, Parameter]]


def _read(rules: Mapping[str, Mapping]) -> Rules:
    return {
        rule: {name: Parameter(*values) for name, values in about["parameters"].items()}
        for rule, about in rules.items()
    }


@functools.lru_cache(maxsize=1)
def activations() -> Rules:
    """Return the parameters of every elementwise activation, by name."""
    return _read(_core.activations())


@functools.lru_cache(maxsize=1)
def losses() -> Rules:
    """Return the parameters of every loss, by name."""
    return _read(_core.losses())


@functools.lru_cache(maxsize=1)
def optimizers() -> Rules:
    """Return the hyper-parameters of every optimizer, by name."""
    return _read(_core.optimizers())
