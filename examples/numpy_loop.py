# SPDX-License-Identifier: Apache-2.0
"""A training loop in NumPy, without any framework; fusednn.optim takes the steps.

    pip install fusednn scikit-learn        # scikit-learn only brings the handwritten digits
    python numpy_loop.py [--epochs 20]

A network with two hidden layers, its gradients written out by hand, trained twice from the same
start: with Adam written in NumPy, and with ``fusednn.optim.Adam`` on the very same arrays. With
float64 weights the two agree to about twelve digits after the first epoch.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

import numpy as np

from fusednn.datasets import load_digits
from fusednn.optim import Adam

WIDTHS, BATCH, RATE = (64, 256, 128, 10), 64, 1e-3


class NumpyAdam:
    """Adam as one writes it down: a dozen passes over memory for each array."""

    def __init__(self, params, lr):
        self.params, self.lr, self.t = params, lr, 0
        self.m = [np.zeros_like(p) for p in params]
        self.v = [np.zeros_like(p) for p in params]

    def step(self, gradients):
        self.t += 1
        for p, g, m, v in zip(self.params, gradients, self.m, self.v, strict=True):
            m += 0.1 * (g - m)
            v += 0.001 * (g * g - v)
            m_hat, v_hat = m / (1 - 0.9**self.t), v / (1 - 0.999**self.t)
            p -= self.lr * m_hat / (np.sqrt(v_hat) + 1e-8)


def initial(dtype):
    rng = np.random.default_rng(0)
    params = []
    for n, m in itertools.pairwise(WIDTHS):
        params += [rng.normal(0, (2 / n) ** 0.5, (n, m)).astype(dtype), np.zeros(m, dtype)]
    return params


def forward(params, x):
    """All activations; the last are the logits."""
    found = [x]
    for w, b in zip(params[::2], params[1::2], strict=True):
        y = found[-1] @ w + b
        found.append(y if b.size == WIDTHS[-1] else np.maximum(y, 0))
    return found


def loss_and_gradients(params, x, labels):
    """Mean cross-entropy, and its gradients in the order of the parameters."""
    hidden = forward(params, x)
    logits = hidden[-1] - hidden[-1].max(1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    rows = np.arange(len(x))
    d = np.exp(logs)
    d[rows, labels] -= 1
    d /= len(x)
    gradients = []
    for w, below in zip(params[-2::-2], hidden[-2::-1], strict=True):
        gradients[:0] = [below.T @ d, d.sum(0)]
        d = (d @ w.T) * (below > 0)
    return -logs[rows, labels].mean(), gradients


def train(make_optimizer, data, epochs, dtype):
    """Return the loss after one epoch, test accuracy, median seconds of a step, of the whole."""
    x, labels = data.x_train.astype(dtype), data.y_train
    params = initial(dtype)
    optimizer = make_optimizer(params, lr=RATE)
    rng, steps, first = np.random.default_rng(1), [], None
    whole = time.perf_counter()
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(len(x)), len(x) // BATCH):
            loss, gradients = loss_and_gradients(params, x[rows], labels[rows])
            began = time.perf_counter()
            optimizer.step(gradients)
            steps.append(time.perf_counter() - began)
        first = loss if first is None else first
    whole = time.perf_counter() - whole
    accuracy = (forward(params, data.x_test)[-1].argmax(1) == data.y_test).mean()
    return first, accuracy, statistics.median(steps), whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    arguments = parser.parse_args()

    data, found = load_digits(), {}
    for name, optimizer in (("NumPy", NumpyAdam), ("fusednn", Adam)):
        train(optimizer, data, 1, arguments.dtype)  # unmeasured: both load what they need
        found[name] = train(optimizer, data, arguments.epochs, arguments.dtype)
        loss, accuracy, step, whole = found[name]
        print(
            f"{name:8} loss after one epoch {loss:.6f}  test accuracy {accuracy:.4f}  "
            f"step {step * 1e6:7.1f} us  training {whole:.2f} s"
        )
    theirs, ours = found["NumPy"], found["fusednn"]
    print(
        f"speed-up: optimizer step {theirs[2] / ours[2]:.1f} times as fast, "
        f"the whole training {theirs[3] / ours[3]:.2f} times"
    )


if __name__ == "__main__":
    main()
