# SPDX-License-Identifier: Apache-2.0
"""Normalisation, and whole training steps of a dense network with Adam."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fusednn.bench.reference.losses import cross_entropy, mse
from fusednn.bench.reference.optimizers import adam

Array = np.ndarray


def _double(x: Array) -> Array:
    return np.asarray(x, dtype=np.float64)


def normalised(
    x: Array, dy: Array, axis: int, epsilon: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """Return y = (x - mean) / sqrt(variance + epsilon) along an axis, and (dx, dgamma, dbeta)."""
    x, dy = _double(x), _double(dy)
    deviation = np.sqrt(x.var(axis=axis, keepdims=True) + epsilon)
    y = (x - x.mean(axis=axis, keepdims=True)) / deviation
    inner = dy - dy.mean(axis=axis, keepdims=True) - y * (dy * y).mean(axis=axis, keepdims=True)
    return y, inner / deviation, (dy * y).sum(axis=0), dy.sum(axis=0)


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
        moves = [adam(g, s, t) for g, s in zip(gradients, states, strict=True)]
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
