# SPDX-License-Identifier: Apache-2.0
"""Bounds that hold for weights after each update, under Keras' names and with Keras' results.

The norms are those of the columns of a kernel, which are the weights that come together in one unit
(Keras: ``axis=0``), and of a bias as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn.errors import check_number, helpful_keywords, unknown_choice


class Constraint:
    """Base class of all constraints."""

    _arguments: tuple[str, ...] = ()

    def bound(self) -> dict[str, Any]:
        """Return what the engine is told: bound, low, high, rate."""
        raise NotImplementedError(f"{type(self).__name__} must define bound()")

    def get_config(self) -> dict[str, float]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def serialize(self) -> dict[str, Any]:
        """Return what ``get`` makes the same constraint of."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


class NonNeg(Constraint):
    """What is below 0 becomes 0.

    Examples
    --------
    >>> import fusednn
    >>> fusednn.layers.Dense(4, kernel_constraint="non_neg").kernel_constraint
    NonNeg()
    """

    def bound(self) -> dict[str, Any]:
        return {"bound": "not_negative"}


class MinMaxNorm(Constraint):
    """Columns are scaled to the norm ``rate * clip(n, min_value, max_value) + (1 - rate) * n``.

    Parameters
    ----------
    min_value, max_value : float
        At least 0.
    rate : float
        How far one update goes, in [0, 1].
    """

    _arguments: tuple[str, ...] = ("min_value", "max_value", "rate")

    @helpful_keywords
    def __init__(self, min_value: float = 0.0, max_value: float = 1.0, rate: float = 1.0) -> None:
        self.min_value = check_number("min_value", min_value, 0)
        self.max_value = check_number("max_value", max_value, 0)
        self.rate = check_number("rate", rate, 0, 1)
        if self.max_value < self.min_value:
            raise ValueError(
                f"max_value={max_value:g} must not be less than min_value={min_value:g}"
            )

    def bound(self) -> dict[str, Any]:
        return {
            "bound": "norm", "low": self.min_value, "high": self.max_value, "rate": self.rate
        }  # fmt: skip


class MaxNorm(MinMaxNorm):
    """Columns with a norm above `max_value` are scaled down to it.

    Examples
    --------
    >>> from fusednn import constraints
    >>> constraints.get("max_norm")
    MaxNorm(max_value=2.0)
    """

    _arguments = ("max_value",)

    @helpful_keywords
    def __init__(self, max_value: float = 2.0) -> None:
        super().__init__(0.0, max_value)


class UnitNorm(MinMaxNorm):
    """Columns are scaled to norm 1."""

    _arguments = ()

    def __init__(self) -> None:
        super().__init__(1.0, 1.0)


_CLASSES: dict[str, type[Constraint]] = {
    c.__name__: c for c in (NonNeg, MinMaxNorm, MaxNorm, UnitNorm)
}
_NAMES: dict[str, type[Constraint]] = {
    "non_neg": NonNeg,
    "min_max_norm": MinMaxNorm,
    "max_norm": MaxNorm,
    "unit_norm": UnitNorm,
}


def serialize(constraint: Constraint | None) -> dict[str, Any] | None:
    """Return what ``get`` makes the same constraint of."""
    return None if constraint is None else constraint.serialize()


def get(constraint: object) -> Constraint | None:
    """Return a constraint by name, from a configuration, or as it is; None stays None.

    Examples
    --------
    >>> from fusednn import constraints
    >>> constraints.get("unit_norm")
    UnitNorm()
    """
    if constraint is None or isinstance(constraint, Constraint):
        return constraint
    if isinstance(constraint, Mapping):
        name = constraint.get("class_name")
        if name not in _CLASSES:
            raise unknown_choice("constraint", name, _CLASSES)
        return _CLASSES[name](**constraint.get("config", {}))
    if isinstance(constraint, str):
        kind = _NAMES.get(constraint.lower()) or _CLASSES.get(constraint)
        if kind is None:
            raise unknown_choice("constraint", constraint, _NAMES)
        return kind()
    raise TypeError(
        "constraint must be a name, one of fusednn.constraints or None, got "
        f"{type(constraint).__name__}"
    )
