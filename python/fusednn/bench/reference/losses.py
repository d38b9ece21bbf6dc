# SPDX-License-Identifier: Apache-2.0
"""Every loss: its mean over the rows and its gradient, with the default parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusednn.bench.reference.activations import sigmoid, softplus

Array = np.ndarray
Value = Callable[[Array, Array], tuple[Array, Array]]  # each element's, or row's, and the slopes


@dataclass(frozen=True)
class Loss:
    """A loss, and what it is made for.

    Attributes
    ----------
    terms : callable
        Takes predictions and targets; returns the values, one for each element (or for each row,
        where `rowwise`), and their derivatives.
    predictions, targets : str
        What the arrays hold: "any", "positive", "probabilities" (of their own, or for `rowwise`
        losses summing up to 1), "signs" or "labels".
    rowwise : bool
    summed : bool
        Whether the elements of a row are summed up rather than averaged.
    """

    terms: Value
    predictions: str = "any"
    targets: str = "any"
    rowwise: bool = False
    summed: bool = False

    def __call__(self, x: Array, target: Array) -> tuple[float, Array]:
        x = np.asarray(x, dtype=np.float64)
        if target.dtype.kind != "i":
            target = np.asarray(target, dtype=np.float64)
        value, slopes = self.terms(x, target)
        count = len(x) if self.rowwise or self.summed else x.size
        return float(value.sum()) / count, slopes / count


def _huber(x: Array, t: Array) -> tuple[Array, Array]:
    size = np.abs(x - t)
    return np.where(size <= 1, 0.5 * size**2, size - 0.5), np.clip(x - t, -1, 1)


def _log_cosh(x: Array, t: Array) -> tuple[Array, Array]:
    size = np.abs(x - t)
    return size + np.log1p(np.exp(-2 * size)) - np.log(2), np.tanh(x - t)


def _hinge(x: Array, t: Array) -> tuple[Array, Array]:
    return np.maximum(0, 1 - t * x), np.where(t * x < 1, -t, 0)


def _squared_hinge(x: Array, t: Array) -> tuple[Array, Array]:
    left = np.maximum(0, 1 - t * x)
    return left**2, -2 * t * left


def _binary(x: Array, t: Array) -> tuple[Array, Array]:
    return -(t * np.log(x) + (1 - t) * np.log1p(-x)), (1 - t) / (1 - x) - t / x


def _log_softmax(x: Array) -> Array:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def _cross_entropy(x: Array, labels: Array) -> tuple[Array, Array]:
    logs, rows = _log_softmax(x), np.arange(len(x))
    slopes = np.exp(logs)
    slopes[rows, labels] -= 1
    return -logs[rows, labels], slopes


def _cross_entropy_of_probabilities(x: Array, labels: Array) -> tuple[Array, Array]:
    total, rows = x.sum(axis=1), np.arange(len(x))
    slopes = np.repeat(1 / total[:, None], x.shape[1], axis=1)
    slopes[rows, labels] -= 1 / x[rows, labels]
    return np.log(total) - np.log(x[rows, labels]), slopes


def _divergence_of_logits(x: Array, t: Array) -> tuple[Array, Array]:
    logs = _log_softmax(x)
    slopes = np.exp(logs) * t.sum(axis=1, keepdims=True) - t
    return (t * (np.log(t) - logs)).sum(axis=1), slopes


def _cosine(x: Array, t: Array) -> tuple[Array, Array]:
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    u, v = x / norm, t / np.linalg.norm(t, axis=1, keepdims=True)
    along = (u * v).sum(axis=1, keepdims=True)
    return 1 - along[:, 0], (along * u - v) / norm


cross_entropy = Loss(_cross_entropy, targets="labels", rowwise=True)
mse = Loss(lambda x, t: ((x - t) ** 2, 2 * (x - t)))

LOSSES: dict[str, Loss] = {
    "mse": mse,
    "mae": Loss(lambda x, t: (np.abs(x - t), np.sign(x - t))),
    "huber": Loss(_huber),
    "log_cosh": Loss(_log_cosh),
    "quantile": Loss(lambda x, t: (0.5 * np.abs(x - t), 0.5 * np.sign(x - t))),
    "poisson": Loss(
        lambda x, t: (x - t * np.log(x + 1e-7), 1 - t / (x + 1e-7)), "positive", "positive"
    ),
    "poisson_log": Loss(lambda x, t: (np.exp(x) - t * x, np.exp(x) - t), targets="positive"),
    "hinge": Loss(_hinge, targets="signs"),
    "squared_hinge": Loss(_squared_hinge, targets="signs"),
    "binary_cross_entropy": Loss(_binary, "probabilities", "probabilities"),
    "binary_cross_entropy_logits": Loss(
        lambda x, t: (softplus(x) - t * x, sigmoid(x) - t), targets="probabilities"
    ),
    "kl_divergence": Loss(
        lambda x, t: (t * np.log(t / x), -t / x), "probabilities", "probabilities", summed=True
    ),
    "softmax_cross_entropy": cross_entropy,
    "categorical_cross_entropy": Loss(
        _cross_entropy_of_probabilities, "probabilities", "labels", rowwise=True
    ),
    "kl_divergence_logits": Loss(_divergence_of_logits, targets="probabilities", rowwise=True),
    "cosine": Loss(_cosine, rowwise=True),
}
