# SPDX-License-Identifier: Apache-2.0
"""The shape of a perceptron, and its values for data without a network of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn import _core, activations
from fusednn.activations import Activation

# scikit-learn's names that are not the engine's.
_ENGINE_NAMES = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}

NORM_MOMENTUM = 0.1
NORM_EPSILON = 1e-5

# Rows that go through all layers before the next ones: their values stay in cache.
_BLOCK = 1024
# Rows of a sparse matrix that are written out at a time.
_DENSE_ROWS = 4096


def activation_of(name: str | Activation) -> Activation:
    """Return what a name of scikit-learn's or ours stands for."""
    if isinstance(name, str):
        name = _ENGINE_NAMES.get(name, name)
    return activations.get(name)


@dataclass(frozen=True)
class Architecture:
    """What the engine must know of the layers.

    Attributes
    ----------
    sizes : tuple of int
        Features, units of the hidden layers, outputs.
    activations : tuple of Activation
        One per hidden layer.
    dropout : tuple of float
        Rate behind each hidden layer.
    batch_norm : bool
        Whether hidden layers are normalised before their activation.
    """

    sizes: tuple[int, ...]
    activations: tuple[Activation, ...]
    dropout: tuple[float, ...]
    batch_norm: bool = False

    @property
    def output_node(self) -> str:
        return f"dense_{len(self.sizes) - 1}"

    def nodes(self) -> list[dict[str, Any]]:
        """Return the nodes of the engine's network, up to the last layer without activation."""
        nodes: list[dict[str, Any]] = []

        def add(kind: str, name: str, **config: Any) -> None:
            inputs = [len(nodes) - 1] if nodes else []
            nodes.append({"type": kind, "name": name, "inputs": inputs, "config": config})

        add("input", "input", shape=[self.sizes[0]])
        for place, units in enumerate(self.sizes[1:], 1):
            add("dense", f"dense_{place}", units=units)
            if place == len(self.sizes) - 1:
                break
            if self.batch_norm:
                options = {"momentum": NORM_MOMENTUM, "epsilon": NORM_EPSILON}
                add("batch_normalization", f"norm_{place}", **options)
            rule = self.activations[place - 1]
            config = {"activation": rule.name, "parameters": dict(rule.parameters)}
            add("activation", f"activation_{place}", **config)
            if self.dropout[place - 1] > 0:
                add("dropout", f"dropout_{place}", rate=self.dropout[place - 1])
        return nodes


@dataclass(frozen=True)
class Weights:
    """All that a fitted perceptron has learned.

    `norms` has gamma, beta, moving mean and moving variance of each hidden layer, or is empty.
    """

    coefs: Sequence[np.ndarray]
    intercepts: Sequence[np.ndarray]
    norms: Sequence[Sequence[np.ndarray]] = ()


def dense_blocks(X: Any, dtype: np.dtype) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the rows of a matrix, sparse or not, as arrays of a dtype with the first row's number.

    A matrix that is an array of this dtype comes in one piece and is not copied.
    """
    if isinstance(X, np.ndarray):
        yield 0, np.ascontiguousarray(X, dtype=dtype)
        return
    X = X.tocsr()
    for begin in range(0, max(X.shape[0], 1), _DENSE_ROWS):
        yield begin, np.ascontiguousarray(X[begin : begin + _DENSE_ROWS].toarray(), dtype=dtype)


def forward(
    X: Any,
    weights: Weights,
    rules: Sequence[Activation],
    out_rule: str,
    precision: str | None = None,
) -> np.ndarray:
    """Return the outputs for data.

    It reads arrays and keeps nothing, so any number of threads may use a fitted estimator at once.

    Parameters
    ----------
    X : array or sparse matrix of shape (samples, features)
    weights : Weights
    rules : list of Activation
        Of the hidden layers.
    out_rule : str
        scikit-learn's name of the activation of the last layer.
    precision : str, optional
        "bfloat16" rounds the operands of the products.
    """
    dtype = weights.coefs[0].dtype
    chain = [(rule.name, dict(rule.parameters)) for rule in rules]
    chain.append((_ENGINE_NAMES.get(out_rule, out_rule), {}))
    result = np.empty((X.shape[0], weights.coefs[-1].shape[1]), dtype)
    for first, block in dense_blocks(X, dtype):
        for begin in range(0, len(block), _BLOCK):
            rows = block[begin : begin + _BLOCK]
            place = first + begin
            _forward_block(rows, weights, chain, result[place : place + len(rows)], precision)
    return result


def _forward_block(
    x: np.ndarray,
    weights: Weights,
    chain: Sequence[tuple[str, dict[str, float]]],
    out: np.ndarray,
    precision: str | None,
) -> None:
    last = len(chain) - 1
    for place, (name, parameters) in enumerate(chain):
        coef, intercept = weights.coefs[place], weights.intercepts[place]
        if place == last:
            _core.dense_forward(x, coef, intercept, name, parameters, out=out, precision=precision)
        elif weights.norms:
            x = _core.dense_forward(x, coef, intercept, "linear", {}, precision=precision)[0]
            x = finish_hidden(x, Activation(name, **parameters), weights.norms[place])
        else:
            x = _core.dense_forward(x, coef, intercept, name, parameters, precision=precision)[0]


def finish_hidden(x: np.ndarray, rule: Activation, norm: Sequence[np.ndarray] | None) -> np.ndarray:
    """Return what a hidden layer makes of its products: normalised if it is, and activated."""
    if norm is not None:
        gamma, beta, mean, variance = norm
        x = _core.batch_norm_forward(
            x, gamma, beta, mean, variance, False, NORM_MOMENTUM, NORM_EPSILON
        )[0]
    return _core.activation_forward(rule.name, dict(rule.parameters), x, x)
