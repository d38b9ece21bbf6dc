# SPDX-License-Identifier: Apache-2.0
"""What `fusednn.optim` and `fusednn.torch.optim` share: constructors, and the way to a rule.

Both have the same optimizers with the same options, so what the options mean is said here, once.
Which hyper-parameters and states a rule has, the compiled catalog knows.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fusednn import _core
from fusednn.errors import unexpected_keyword

Construct = TypeVar("Construct", bound=Callable[..., None])
# From the options of a group to the name of the compiled rule.
Choice = Callable[[Mapping[str, Any]], str]


def always(rule: str) -> Choice:
    """Return the choice that no option changes."""
    return lambda group: rule


def sgd(group: Mapping[str, Any]) -> str:
    """Gradient descent, with a buffer where there is momentum."""
    return "momentum" if group["momentum"] else "sgd"


def adam(group: Mapping[str, Any]) -> str:
    """Adam, or AMSGrad."""
    return "amsgrad" if group["amsgrad"] else "adam"


def rmsprop(group: Mapping[str, Any]) -> str:
    """RMSprop with what was switched on."""
    centered = "_centered" if group["centered"] else ""
    return f"rmsprop{centered}{'_momentum' if group['momentum'] else ''}"


# Decoupled without being asked: Lion is defined so.
_DECOUPLED = frozenset(["lion"])
# Hyper-parameters that are not handed over by name: the rate comes with each step, and the decay is
# an option of every rule, LAMB's included, which has it in its formula.
_APART = frozenset(["lr", "weight_decay"])


@functools.cache
def _catalog() -> dict[str, Any]:
    return _core.optimizers()


def states_of(rule: str) -> list[str]:
    """Return the names of the arrays that a rule keeps for each parameter."""
    return _catalog()[rule]["states"]


def compiled_options(rule: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a group's options, which are plain numbers, as the compiled step takes them."""
    hyper = {}
    for name in _catalog()[rule]["parameters"].keys() - _APART:
        value = group["betas"][name == "beta2"] if name in ("beta1", "beta2") else group[name]
        hyper[name] = float(value)
    return {
        "hyper": hyper,
        "weight_decay": float(group["weight_decay"]),
        "decoupled": rule in _DECOUPLED or bool(group.get("decoupled_weight_decay")),
        "maximize": bool(group["maximize"]),
        "seed": int(group.get("seed", 0)),
    }


def declared(constructor: Construct) -> Construct:
    """Give a constructor that only declares its arguments the body that all of them have.

    ``self._construct(params, options, common)`` gets the options by name, defaults filled in, and
    what was given beside them, where the constructor ends with ``**common``.
    """
    signature = inspect.signature(constructor)
    kinds = {name: p.kind for name, p in list(signature.parameters.items())[1:]}
    names = [name for name, kind in kinds.items() if kind is not inspect.Parameter.VAR_KEYWORD]
    takes_more = len(names) < len(kinds)

    @functools.wraps(constructor)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in () if takes_more else kwargs:
            if name not in names:
                raise unexpected_keyword(type(self).__name__, name, names)
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        options = {name: given.arguments[name] for name in names}
        self._construct(options.pop("params"), options, given.arguments.get("common", {}))

    return construct  # type: ignore[return-value]
