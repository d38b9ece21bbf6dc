# SPDX-License-Identifier: Apache-2.0
"""Optimizer rules with PyTorch's defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

# A rule takes the gradient, its state (arrays of zeros at first) and the number of the step. It
# changes the state and returns by how much the parameter decreases. Hyper-parameters are PyTorch's
# defaults.
State = list[Array]
Rule = Callable[[Array, State, int], Array]


def _sgd(g: Array, state: State, t: int) -> Array:
    return 1e-3 * g


def _momentum(g: Array, state: State, t: int) -> Array:
    state[0] = 0.9 * state[0] + g
    return 1e-3 * state[0]


def _adagrad(g: Array, state: State, t: int) -> Array:
    state[0] = state[0] + g * g
    return 1e-2 * g / (np.sqrt(state[0]) + 1e-10)


def _rmsprop(g: Array, state: State, t: int) -> Array:
    state[0] = 0.99 * state[0] + 0.01 * g * g
    return 1e-2 * g / (np.sqrt(state[0]) + 1e-8)


def _rmsprop_momentum(g: Array, state: State, t: int) -> Array:
    state[0] = 0.99 * state[0] + 0.01 * g * g
    state[1] = 0.9 * state[1] + g / (np.sqrt(state[0]) + 1e-8)
    return 1e-2 * state[1]


def _rmsprop_centered(g: Array, state: State, t: int) -> Array:
    state[0] = 0.99 * state[0] + 0.01 * g * g
    state[1] = 0.99 * state[1] + 0.01 * g
    return 1e-2 * g / (np.sqrt(state[0] - state[1] ** 2) + 1e-8)


def _rmsprop_centered_momentum(g: Array, state: State, t: int) -> Array:
    state[2] = 0.9 * state[2] + _rmsprop_centered(g, state, t)
    return state[2]


def _adadelta(g: Array, state: State, t: int) -> Array:
    state[0] = 0.9 * state[0] + 0.1 * g * g
    move = np.sqrt((state[1] + 1e-6) / (state[0] + 1e-6)) * g
    state[1] = 0.9 * state[1] + 0.1 * move * move
    return move


def _moments(g: Array, state: State) -> tuple[Array, Array]:
    state[0] = 0.9 * state[0] + 0.1 * g
    state[1] = 0.999 * state[1] + 0.001 * g * g
    return state[0], state[1]


def adam(g: Array, state: State, t: int) -> Array:
    m, v = _moments(g, state)
    return 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def _amsgrad(g: Array, state: State, t: int) -> Array:
    m, v = _moments(g, state)
    state[2] = np.maximum(state[2], v)
    return 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(state[2] / (1 - 0.999**t)) + 1e-8)


def _adamax(g: Array, state: State, t: int) -> Array:
    state[0] = 0.9 * state[0] + 0.1 * g
    state[1] = np.maximum(0.999 * state[1], np.abs(g) + 1e-8)
    return 2e-3 / (1 - 0.9**t) * state[0] / state[1]


def _schedule(t: int) -> float:
    return 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))


def _nadam(g: Array, state: State, t: int) -> Array:
    m, v = _moments(g, state)
    product = math.prod(_schedule(i) for i in range(1, t + 1))
    now, then = _schedule(t), _schedule(t + 1)
    ahead = (1 - now) * g / (1 - product) + then * m / (1 - product * then)
    return 2e-3 * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def _radam(g: Array, state: State, t: int) -> Array:
    # The variance is tractable only from step 6 on; the gate takes fewer.
    m, _ = _moments(g, state)
    return 1e-3 * m / (1 - 0.9**t)


def _lion(g: Array, state: State, t: int) -> Array:
    direction = np.sign(0.9 * state[0] + 0.1 * g)
    state[0] = 0.99 * state[0] + 0.01 * g
    return 1e-4 * direction


def _lamb(g: Array, state: State, t: int) -> Array:
    m, v = _moments(g, state)
    return (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6)


@dataclass(frozen=True)
class Optimizer:
    """A rule, and the number of state arrays that one step reads and writes.

    A `layerwise` rule gives a direction, which is scaled to the length of the whole tensor.
    """

    rule: Rule
    states: int
    layerwise: bool = False

    @property
    def bytes(self) -> int:
        """Per parameter in float32: read p and g, write p; read and write the state.

        The length of a direction must be known before the first step along it: what it is made of,
        p and the state, is read twice.
        """
        return 4 * (3 + 2 * self.states + (self.layerwise and 1 + self.states))


OPTIMIZERS = {
    "sgd": Optimizer(_sgd, 0),
    "momentum": Optimizer(_momentum, 1),
    "adagrad": Optimizer(_adagrad, 1),
    "rmsprop": Optimizer(_rmsprop, 1),
    "rmsprop_momentum": Optimizer(_rmsprop_momentum, 2),
    "rmsprop_centered": Optimizer(_rmsprop_centered, 2),
    "rmsprop_centered_momentum": Optimizer(_rmsprop_centered_momentum, 3),
    "adadelta": Optimizer(_adadelta, 2),
    "adam": Optimizer(adam, 2),
    "amsgrad": Optimizer(_amsgrad, 3),
    "adamax": Optimizer(_adamax, 2),
    "nadam": Optimizer(_nadam, 2),
    "radam": Optimizer(_radam, 2),
    "lion": Optimizer(_lion, 1),
    "lamb": Optimizer(_lamb, 2, layerwise=True),
}


def optimized(name: str, p: Array, g: Array, steps: int, decay: float = 0.0) -> Array:
    """Return a parameter after some steps with the same gradient.

    `decay` is the share of itself that it loses with each step, decoupled from the rule.
    """
    optimizer = OPTIMIZERS[name]
    p, g = np.asarray(p, np.float64), np.asarray(g, np.float64)
    state = [np.zeros_like(p) for _ in range(optimizer.states)]
    for t in range(1, steps + 1):
        move = optimizer.rule(g, state, t)
        if optimizer.layerwise:
            move *= 1e-3 * np.linalg.norm(p) / np.linalg.norm(move)
        p = (1 - decay) * p - move
    return p
