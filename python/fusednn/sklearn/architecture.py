# SPDX-License-Identifier: Apache-2.0
"""The shape of a perceptron, and its values for data without a network of the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from fusednn import _core, activations
from fusednn.activations import Activation
from fusednn.importing.sklearn_models import ACTIVATIONS

NORM_MOMENTUM = 0.1
NORM_EPSILON = 1e-5

# Elements of a sparse matrix that are written out at a time.
_DENSE_ELEMENTS = 1 << 23
# Share of elements that are not 0 up to which SciPy's product is faster than one over all of them.
_SPARSE = 0.01


def activation_of(name: str | Activation) -> Activation:
    """Return what a name of scikit-learn's or ours stands for."""
    if isinstance(name, str):
        name = ACTIVATIONS.get(name, name)
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


def dense_rows(features: int) -> int:
    """Return how many rows of a sparse matrix are written out at a time."""
    return max(_DENSE_ELEMENTS // max(features, 1), 1)


def dense_blocks(X: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    """Yield the rows of a matrix, sparse or not, as arrays of a dtype.

    A matrix that is an array of this dtype comes in one piece and is not copied.
    """
    if isinstance(X, np.ndarray):
        yield np.ascontiguousarray(X, dtype=dtype)
        return
    X = X.tocsr()
    n = dense_rows(X.shape[1])
    for begin in range(0, max(X.shape[0], 1), n):
        yield np.ascontiguousarray(X[begin : begin + n].toarray(), dtype=dtype)


def forward(
    X: Any,
    weights: Weights,
    rules: Sequence[Activation],
    precision: str | None = None,
    threads: int = 0,
) -> np.ndarray:
    """Return the values of the last layer for data, in one native call for an array.

    It reads arrays and keeps nothing: any number of threads may use a fitted estimator at once, and
    whoever writes to its weights finds the change in the next prediction.

    Parameters
    ----------
    X : array or sparse matrix of shape (samples, features)
    weights : Weights
        With norms for the first layers, for all, or for none.
    rules : list of Activation
        One per layer.
    precision : str, optional
        "bfloat16" rounds the operands of the products.
    threads : int
        The most that work on it, 0 for as many as are worth it.
    """
    dtype = weights.coefs[0].dtype
    described = zip(weights.coefs, weights.intercepts, rules, strict=True)
    layers = [
        (coef, intercept, rule.name, dict(rule.parameters), norm)
        for (coef, intercept, rule), norm in zip_longest(described, weights.norms)
    ]
    sparse = not isinstance(X, np.ndarray) and X.nnz < _SPARSE * X.shape[0] * X.shape[1]
    if sparse and precision is None:
        first = layers.pop(0)
        X = _after_product(X.astype(dtype, copy=False) @ first[0], first)
        if not layers:
            return X
    parts = [
        _core.dense_layers(block, layers, NORM_EPSILON, precision, threads)
        for block in dense_blocks(X, dtype)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _after_product(values: np.ndarray, layer: tuple[Any, ...]) -> np.ndarray:
    """Return the values of a layer as `dense_layers` takes it, in the place of its product's."""
    _, intercept, activation, parameters, norm = layer
    values += intercept
    if norm is not None:
        gamma, beta, mean, variance = norm
        _core.batch_norm_forward(
            values, gamma, beta, mean, variance, False, epsilon=NORM_EPSILON, out=values
        )
    if activation == "softmax":
        return _core.softmax(values, values)
    return _core.activation_forward(activation, parameters, values, values)
