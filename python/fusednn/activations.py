# SPDX-License-Identifier: Apache-2.0
"""Activations by name, with their parameters.

Every elementwise activation of the compiled library is an attribute of this module, and so are
``softmax`` and ``log_softmax`` (over the last axis). They are names for layers, not functions of
arrays: ``fusednn.ops.activation_forward`` computes them.

>>> from fusednn import activations, layers
>>> activations.relu
Activation('relu')
>>> dense = layers.Dense(8, activation=activations.leaky_relu(negative_slope=0.3))

Definitions follow PyTorch where libraries differ: ``leaky_relu`` has a slope of 0.01 (Keras: 0.2
in the function, 0.3 in the layer), ``gelu`` is exact (``gelu_tanh`` is the approximation).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from fusednn import catalog
from fusednn.errors import check_number, unexpected_keyword, unknown_choice

_ROWWISE = ("softmax", "log_softmax")
_ALIASES = {"swish": "silu", "hard_silu": "hard_swish", "identity": "linear"}


def names() -> list[str]:
    """Return the names of all activations.

    Examples
    --------
    >>> from fusednn import activations
    >>> "relu" in activations.names()
    True
    """
    return [*catalog.activations(), *_ROWWISE]


class Activation:
    """The name of an activation with its parameters. Calling it changes parameters.

    Parameters
    ----------
    name : str
        One of ``names()``.
    **parameters : float
        Parameters of the rule; those left out keep the default.

    Examples
    --------
    >>> from fusednn.activations import Activation
    >>> Activation("elu", alpha=0.5)
    Activation('elu', alpha=0.5)
    """

    __slots__ = ("name", "parameters")
    name: str
    parameters: Mapping[str, float]

    def __init__(self, name: str, **parameters: float) -> None:
        resolved = _ALIASES.get(name, name) if isinstance(name, str) else name
        if resolved not in names():
            raise unknown_choice("activation", name, names())
        known = catalog.activations().get(resolved, {})
        for key, value in parameters.items():
            if key not in known:
                raise unexpected_keyword(f"activations.{resolved}", key, known)
            parameters[key] = check_number(
                f"{key} of {resolved}", value, known[key].low, known[key].high
            )
        self.name = resolved
        self.parameters = MappingProxyType(dict(parameters))

    def __call__(self, **parameters: float) -> Activation:
        """Return the same activation with other parameters."""
        return Activation(self.name, **{**self.parameters, **parameters})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Activation):
            return NotImplemented
        return (self.name, dict(self.parameters)) == (other.name, dict(other.parameters))

    def __hash__(self) -> int:
        return hash((self.name, tuple(sorted(self.parameters.items()))))

    def __repr__(self) -> str:
        arguments = [repr(self.name), *(f"{k}={v:g}" for k, v in self.parameters.items())]
        return f"Activation({', '.join(arguments)})"

    def __reduce__(self) -> tuple:
        return _restore, (self.name, dict(self.parameters))

    @property
    def rowwise(self) -> bool:
        """Whether a value depends on the whole last axis (softmax), not on one element."""
        return self.name in _ROWWISE

    def serialize(self) -> str | dict:
        """Return what ``get`` makes the same activation of: a name, or a dict with parameters."""
        return {"name": self.name, **self.parameters} if self.parameters else self.name


def _restore(name: str, parameters: dict[str, float]) -> Activation:
    return Activation(name, **parameters)


def get(identifier: str | Mapping | Activation | None) -> Activation:
    """Return the activation that a name, a dict or an `Activation` stands for; None is linear.

    Examples
    --------
    >>> from fusednn import activations
    >>> activations.get("swish")
    Activation('silu')
    >>> activations.get({"name": "elu", "alpha": 2})
    Activation('elu', alpha=2)
    """
    if identifier is None:
        return Activation("linear")
    if isinstance(identifier, Activation):
        return identifier
    if isinstance(identifier, str):
        return Activation(identifier)
    if isinstance(identifier, Mapping) and isinstance(identifier.get("name"), str):
        return Activation(**identifier)
    raise TypeError(
        "activation must be a name, a dict with 'name', or one of fusednn.activations, "
        f"got {identifier!r}"
    )


def __getattr__(name: str) -> Activation:
    if not name.startswith("_") and name in names():
        return Activation(name)
    raise AttributeError(f"module 'fusednn.activations' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *names()])
