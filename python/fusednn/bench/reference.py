# SPDX-License-Identifier: Apache-2.0
"""What the gate compares with: NumPy in float64, written for clarity.

The tests have an oracle of their own, with every convention and every option; the wheel has not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


def _double(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64)


# ---- activations and losses --------------------------------------------------------------------


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * x))


# Name -> value and derivative at x.
ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (_sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x)),
    "silu": (
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
    ),
    "gelu": (
        lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
        lambda x: (
            0.5 * (1 + _erf(x / math.sqrt(2))) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        ),
    ),
    "elu": (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
    ),
    "softplus": (lambda x: np.logaddexp(0, x), _sigmoid),
}


def cross_entropy(x: Array, labels: Array) -> tuple[float, Array]:
    """Return the mean of -log softmax(x)[label] over the rows, and its gradient."""
    x = _double(x)
    x = x - x.max(axis=1, keepdims=True)
    total = np.log(np.exp(x).sum(axis=1, keepdims=True))
    rows = np.arange(len(x))
    gradient = np.exp(x - total)
    gradient[rows, labels] -= 1
    return float((total[:, 0] - x[rows, labels]).mean()), gradient / len(x)


def mse(x: Array, target: Array) -> tuple[float, Array]:
    """Return the mean of (x - target)**2, and its gradient."""
    difference = _double(x) - target
    return float((difference**2).mean()), 2 * difference / difference.size


def binary_cross_entropy(x: Array, target: Array) -> tuple[float, Array]:
    """Return the mean binary cross-entropy of logits, and its gradient."""
    x, target = _double(x), _double(target)
    return float((np.logaddexp(0, x) - target * x).mean()), (_sigmoid(x) - target) / x.size


def huber(x: Array, target: Array) -> tuple[float, Array]:
    """Return the mean of the Huber loss with delta = 1, and its gradient."""
    difference = _double(x) - target
    size = np.abs(difference)
    value = np.where(size <= 1, 0.5 * difference**2, size - 0.5)
    return float(value.mean()), np.clip(difference, -1, 1) / difference.size


def normalised(
    x: Array, dy: Array, axis: int, epsilon: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """Return y = (x - mean) / sqrt(variance + epsilon) along an axis, and (dx, dgamma, dbeta)."""
    x, dy = _double(x), _double(dy)
    deviation = np.sqrt(x.var(axis=axis, keepdims=True) + epsilon)
    y = (x - x.mean(axis=axis, keepdims=True)) / deviation
    inner = dy - dy.mean(axis=axis, keepdims=True) - y * (dy * y).mean(axis=axis, keepdims=True)
    return y, inner / deviation, (dy * y).sum(axis=0), dy.sum(axis=0)


# ---- optimizers --------------------------------------------------------------------------------

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


def _adam(g: Array, state: State, t: int) -> Array:
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


@dataclass(frozen=True)
class Optimizer:
    """A rule, and the number of state arrays that one step reads and writes."""

    rule: Rule
    states: int

    @property
    def bytes(self) -> int:
        """Per parameter in float32: read p and g, write p; read and write the state."""
        return 4 * (3 + 2 * self.states)


OPTIMIZERS = {
    "sgd": Optimizer(_sgd, 0),
    "momentum": Optimizer(_momentum, 1),
    "adagrad": Optimizer(_adagrad, 1),
    "rmsprop": Optimizer(_rmsprop, 1),
    "rmsprop_momentum": Optimizer(_rmsprop_momentum, 2),
    "rmsprop_centered": Optimizer(_rmsprop_centered, 2),
    "rmsprop_centered_momentum": Optimizer(_rmsprop_centered_momentum, 3),
    "adadelta": Optimizer(_adadelta, 2),
    "adam": Optimizer(_adam, 2),
    "amsgrad": Optimizer(_amsgrad, 3),
    "adamax": Optimizer(_adamax, 2),
    "nadam": Optimizer(_nadam, 2),
    "radam": Optimizer(_radam, 2),
    "lion": Optimizer(_lion, 1),
}


def optimized(name: str, p: Array, g: Array, steps: int) -> Array:
    """Return a parameter after some steps with the same gradient."""
    optimizer = OPTIMIZERS[name]
    p, g = _double(p), _double(g)
    state = [np.zeros_like(p) for _ in range(optimizer.states)]
    for t in range(1, steps + 1):
        p = p - optimizer.rule(g, state, t)
    return p


# ---- a training step ---------------------------------------------------------------------------


def network_forward(weights: Sequence[Array], x: Array) -> list[Array]:
    """Return x and the values of all layers; relu between them, none after the last."""
    values = [_double(x)]
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for place, (w, b) in enumerate(layers):
        z = values[-1] @ _double(w) + b
        values.append(z if place == len(layers) - 1 else np.maximum(z, 0))
    return values


def network_trained(
    weights: Sequence[Array], x: Array, y: Array, steps: int
) -> tuple[list[Array], float]:
    """Return the weights after some steps of Adam on one batch, and the loss before the last.

    The loss is `cross_entropy` if y holds class numbers, else `mse`.
    """
    weights = [_double(w) for w in weights]
    states = [[np.zeros_like(w), np.zeros_like(w)] for w in weights]
    value = math.nan
    for t in range(1, steps + 1):
        values = network_forward(weights, x)
        value, upstream = (cross_entropy if y.dtype.kind == "i" else mse)(values[-1], y)
        gradients: list[Array] = []
        for place in range(len(weights) - 2, -1, -2):
            below = values[place // 2]
            gradients[:0] = [below.T @ upstream, upstream.sum(axis=0)]
            upstream = (upstream @ weights[place].T) * (below > 0)
        moves = [_adam(g, s, t) for g, s in zip(gradients, states, strict=True)]
        weights = [w - move for w, move in zip(weights, moves, strict=True)]
    return weights, value


def initial_weights(widths: Sequence[int], seed: int) -> list[Array]:
    """Return [w, b, w, b, ...] in float32, every w of shape (inputs, units)."""
    generator = np.random.default_rng(seed)
    weights: list[Array] = []
    for inputs, units in itertools.pairwise(widths):
        limit = math.sqrt(6 / (inputs + units))
        weights.append(generator.uniform(-limit, limit, (inputs, units)).astype(np.float32))
        weights.append(np.zeros(units, np.float32))
    return weights
