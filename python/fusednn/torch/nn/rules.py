# SPDX-License-Identifier: Apache-2.0
"""Activations here: as plain tuples, in torch's own operations, and as modules of torch.

A rule is a tuple of a name and the values of its parameters, ``("elu", 1.0)``: hashable, and a
constant for ``torch.compile``. What a rule computes stands in the compiled library; the formulas
below are torch's, for what the compiled path does not take and for second derivatives.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusednn import _core, activations, catalog
from fusednn.activations import Activation

Rule: TypeAlias = tuple[Any, ...]  # (name, *values of its parameters)

LINEAR: Rule = ("linear",)

FORMULAS: dict[str, Callable[..., Tensor]] = {
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    # F.hardsigmoid has no second derivative, and its first is rounded to float32.
    "hard_sigmoid": lambda x: F.relu6(x + 3) / 6,
    "hard_swish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "linear": lambda x: x,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu": F.relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanh": torch.tanh,
}

# Modules of torch -> the activation that computes the same, or None where a setting is not ours.
_MODULES: dict[type, Callable[[Any], Activation | None]] = {
    nn.ELU: lambda m: Activation("elu", alpha=m.alpha) if m.alpha >= 0 else None,
    nn.GELU: lambda m: Activation("gelu" if m.approximate == "none" else "gelu_tanh"),
    nn.Hardsigmoid: lambda m: Activation("hard_sigmoid"),
    nn.Hardswish: lambda m: Activation("hard_swish"),
    nn.LeakyReLU: lambda m: (
        Activation("leaky_relu", negative_slope=m.negative_slope) if m.negative_slope >= 0 else None
    ),
    nn.LogSigmoid: lambda m: Activation("log_sigmoid"),
    nn.Mish: lambda m: Activation("mish"),
    nn.ReLU: lambda m: Activation("relu"),
    nn.ReLU6: lambda m: Activation("relu6"),
    nn.SELU: lambda m: Activation("selu"),
    nn.SiLU: lambda m: Activation("silu"),
    nn.Sigmoid: lambda m: Activation("sigmoid"),
    nn.Softplus: lambda m: Activation("softplus") if (m.beta, m.threshold) == (1, 20) else None,
    nn.Softsign: lambda m: Activation("softsign"),
    nn.Tanh: lambda m: Activation("tanh"),
}


def is_activation_module(module: object) -> bool:
    """Return whether a module is one of torch's activations that has a fused twin."""
    return type(module) in _MODULES


def activation_of(given: str | Mapping | Activation | nn.Module | None) -> Activation:
    """Return the activation that a name, one of ``fusednn.activations`` or a module stands for."""
    if isinstance(given, nn.Module):
        found = _MODULES.get(type(given), lambda m: None)(given)
        if found is None:
            raise ValueError(
                f"activation={given!r} has no fused twin; known: {', '.join(FORMULAS)}"
            )
        return found
    activation = activations.get(given)
    if activation.name not in FORMULAS:
        raise ValueError(
            f"activation={activation.name!r} is not elementwise; known: {', '.join(FORMULAS)}"
        )
    return activation


def fused_twin(module: nn.Module) -> Activation | None:
    """Return what computes the same as one of torch's activation modules, or None."""
    return _MODULES[type(module)](module)


def rule_of(activation: Activation) -> Rule:
    """Return an activation as a tuple, with all of its parameters."""
    known = catalog.activations()[activation.name]
    values = (activation.parameters.get(k, known[k].default) for k in known)
    return (activation.name, *map(float, values))


def activate(x: Tensor, rule: Rule) -> Tensor:
    """Return the activation of x in torch's own operations."""
    return FORMULAS[rule[0]](x, *rule[1:])


@functools.lru_cache(maxsize=1)
def _saving_input() -> frozenset[str]:
    return frozenset(name for name, about in _core.activations().items() if about["saves_input"])


def saves_input(rule: Rule) -> bool:
    """Return whether the backward pass reads the activation's input, not its output."""
    return rule[0] in _saving_input()


def parameters_of(rule: Rule) -> dict[str, float]:
    """Return the parameters of a rule by name."""
    return dict(zip(catalog.activations()[rule[0]], rule[1:], strict=True))


# ---- as text, which is what an operator of torch can take --------------------------------------


def to_text(rules: tuple[Rule, ...], with_bias: list[bool]) -> str:
    """Return the layers of a chain as text: ``+elu:1.0|linear``, with + where there is a bias."""
    layers = [":".join([rule[0], *map(repr, rule[1:])]) for rule in rules]
    return "|".join("+" * bias + layer for bias, layer in zip(with_bias, layers, strict=True))


@functools.lru_cache(maxsize=256)
def from_text(text: str) -> tuple[tuple[Rule, ...], tuple[bool, ...]]:
    """Return the rules of a text of `to_text`, and which layers have a bias."""
    layers = text.split("|")
    parts = [layer.lstrip("+").split(":") for layer in layers]
    rules = tuple((name, *map(float, values)) for name, *values in parts)
    return rules, tuple(layer.startswith("+") for layer in layers)
