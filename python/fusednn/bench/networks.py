# SPDX-License-Identifier: Apache-2.0
"""Dense networks: their models in fusednn, their cost, their data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import fusednn
from fusednn.bench.rivals import LEARNING_RATE


@dataclass(frozen=True)
class Network:
    """Widths from the input to the output, with relu between, and the rows of a batch.

    With one output it is trained on the mean squared error, otherwise on softmax cross-entropy.
    """

    widths: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        """What the tables call it."""
        first, *rest = self.widths
        several = len(rest) > 1 and all(width == first for width in rest)
        shape = f"{first} x{len(rest)}" if several else "-".join(map(str, self.widths))
        return f"{shape}, batch {self.batch}"

    @property
    def products(self) -> list[int]:
        """Multiply-adds of one row in each layer."""
        return [inputs * units for inputs, units in itertools.pairwise(self.widths)]

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(self.products) + sum(self.widths[1:])

    @property
    def inference_flops(self) -> float:
        """Of the matrix products of a forward pass."""
        return 2.0 * self.batch * sum(self.products)

    @property
    def step_flops(self) -> float:
        """Of all products of a step: forward, dW, and dX of every layer but the first."""
        return 2.0 * self.batch * (3 * sum(self.products) - self.products[0])

    @property
    def step_bytes(self) -> float:
        """What Adam moves at least: 28 bytes for each parameter."""
        return 28.0 * self.parameters

    def batches(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return random inputs and targets for so many steps."""
        generator = np.random.default_rng(1)
        rows = count * self.batch
        x = generator.standard_normal((rows, self.widths[0]), dtype=np.float32)
        if self.widths[-1] == 1:
            return x, generator.standard_normal((rows, 1), dtype=np.float32)
        return x, generator.integers(0, self.widths[-1], rows)

    def model(self, weights: Sequence[np.ndarray]) -> fusednn.Sequential:
        """Return our model, compiled, with these weights."""
        dense = fusednn.layers.Dense
        layers = [dense(units, activation="relu") for units in self.widths[1:-1]]
        model = fusednn.Sequential(
            [*layers, dense(self.widths[-1])], input_shape=(self.widths[0],), seed=0
        )
        loss = "mse" if self.widths[-1] == 1 else "sparse_categorical_crossentropy"
        model.compile(fusednn.optimizers.Adam(LEARNING_RATE), loss)
        model.set_weights(list(weights))
        return model
