# SPDX-License-Identifier: Apache-2.0
"""The doctor's self-test: small computations whose right results NumPy finds in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

import fusednn

SAMPLES, FEATURES, HIDDEN, CLASSES = 67, 37, 29, 5  # odd, so that every kernel has a remainder
LEARNING_RATE = 0.5


class SelfTest(NamedTuple):
    """A computation: its largest error, and the error up to which it counts as right."""

    name: str
    tolerance: float
    error: Callable[[], float]


def _problem() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((SAMPLES, FEATURES), dtype=np.float32)
    return x, generator.integers(0, CLASSES, SAMPLES)


def _product_error() -> float:
    x, _ = _problem()
    generator = np.random.default_rng(1)
    w = generator.standard_normal((FEATURES, HIDDEN), dtype=np.float32)
    b = generator.standard_normal(HIDDEN, dtype=np.float32)
    ours = fusednn.ops.dense_forward(x, w, b, activation="relu")
    right = np.maximum(x.astype(np.float64) @ w + b, 0)
    return float(np.abs(ours - right).max())


def _trained_weights() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights of a small network before and after one step of gradient descent."""
    x, labels = _problem()
    model = fusednn.Sequential(
        [fusednn.layers.Dense(HIDDEN, activation="tanh"), fusednn.layers.Dense(CLASSES)],
        input_shape=(FEATURES,),
    )
    model.compile(
        optimizer=fusednn.optimizers.SGD(LEARNING_RATE),
        loss="sparse_categorical_crossentropy",
        seed=0,
    )
    before = model.get_weights()
    model.train_on_batch(x, labels)
    return before, model.get_weights()


def _step_error() -> float:
    x, labels = _problem()
    before, after = _trained_weights()
    w1, b1, w2, b2 = (weights.astype(np.float64) for weights in before)
    hidden = np.tanh(x @ w1 + b1)
    scores = hidden @ w2 + b2
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    to_scores = powers / powers.sum(axis=1, keepdims=True)
    to_scores[np.arange(SAMPLES), labels] -= 1
    to_scores /= SAMPLES
    to_hidden = to_scores @ w2.T * (1 - hidden**2)
    gradients = (x.T @ to_hidden, to_hidden.sum(0), hidden.T @ to_scores, to_scores.sum(0))
    right = [old - LEARNING_RATE * g for old, g in zip(before, gradients, strict=True)]
    return max(float(np.abs(a - b).max()) for a, b in zip(after, right, strict=True))


def _threads_difference() -> float:
    usual = fusednn.get_num_threads()
    results = []
    try:
        for threads in (1, 4):
            fusednn.set_num_threads(threads)
            results.append(_trained_weights()[1])
    finally:
        fusednn.set_num_threads(usual)
    return max(float(np.abs(a - b).max()) for a, b in zip(*results, strict=True))


SELF_TESTS = (
    SelfTest("product, bias and relu", 2e-5, _product_error),
    SelfTest("training step", 1e-6, _step_error),
    SelfTest("1 and 4 threads, the same bits", 0.0, _threads_difference),
)
