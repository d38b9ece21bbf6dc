# SPDX-License-Identifier: Apache-2.0
"""Every activation and its derivative, with the default parameters."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def softplus(x: Array) -> Array:
    """Return log(1 + exp(x)) without overflow."""
    return np.logaddexp(0, x)


def _normal(x: Array) -> Array:
    return 0.5 * (1 + _erf(x / math.sqrt(2)))


def _gelu_slope(x: Array) -> Array:
    return _normal(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _cubic(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(_cubic(x)))


def _gelu_tanh_slope(x: Array) -> Array:
    t = np.tanh(_cubic(x))
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner


def _silu_slope(x: Array) -> Array:
    return sigmoid(x) * (1 + x * sigmoid(-x))


def _mish(x: Array) -> Array:
    return x * np.tanh(softplus(x))


def _mish_slope(x: Array) -> Array:
    t = np.tanh(softplus(x))
    return t + x * (1 - t * t) * sigmoid(x)


def _exp_below(x: Array) -> Array:
    return np.exp(np.minimum(x, 0))


def _step(x: Array) -> Array:
    return (x > 0) * 1.0


def _within(x: Array, low: float, high: float) -> Array:
    return ((x > low) & (x < high)) * 1.0


# Name -> value and derivative at x.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "linear": (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), _step),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.01 * x), lambda x: np.where(x > 0, 1, 0.01)),
    "elu": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, _exp_below(x)),
    ),
    "selu": (
        lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (_exp_below(x) - 1)),
        lambda x: SELU_SCALE * np.where(x > 0, 1, SELU_ALPHA * _exp_below(x)),
    ),
    "gelu": (lambda x: x * _normal(x), _gelu_slope),
    "gelu_tanh": (_gelu_tanh, _gelu_tanh_slope),
    "silu": (lambda x: x * sigmoid(x), _silu_slope),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * sigmoid(-x)),
    "hard_sigmoid": (lambda x: np.clip(x + 3, 0, 6) / 6, lambda x: _within(x, -3, 3) / 6),
    "tanh": (np.tanh, lambda x: 1 / np.cosh(x) ** 2),
    "softplus": (softplus, sigmoid),
    "softsign": (lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2),
    "mish": (_mish, _mish_slope),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: _within(x, 0, 6)),
    "hard_swish": (
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    ),
    "exponential": (np.exp, np.exp),
    "log_sigmoid": (lambda x: -softplus(-x), lambda x: sigmoid(-x)),
}
