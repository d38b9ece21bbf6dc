# SPDX-License-Identifier: Apache-2.0
"""A variational autoencoder of dense layers: a map of all clothes in two dimensions.

The layer in the middle is written in Python: it draws a code near the encoder's mean (the
reparametrisation trick) and adds the Kullback-Leibler divergence from the normal distribution to
the loss.

    python examples/vae.py [--short] [--output vae.png]

Needs matplotlib and Fashion-MNIST: apt-get install dataset-fashion-mnist
"""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np
from pictures import save_mosaic

import fusednn
from fusednn import layers, optimizers

CODES = 2


class Sampling(layers.CustomLayer):
    """Draws ``mean + exp(log_variance / 2) * noise`` of the two halves of its input."""

    def __init__(self, weight: float, seed: int = 0) -> None:
        super().__init__()
        self.weight = weight  # of the divergence in the loss
        self.rng = np.random.default_rng(seed)

    def output_shape(self, inputs):
        return (inputs[0][0] // 2,)

    def forward(self, x, training):
        mean, log_variance = np.split(x, 2, axis=1)
        if not training:
            return mean
        noise = self.rng.standard_normal(mean.shape, dtype=x.dtype)
        deviation = np.exp(log_variance / 2)
        self.kept = mean, deviation, noise
        divergence = (mean**2 + deviation**2 - 1 - log_variance).sum(axis=1) / 2
        self.added_loss = self.weight * float(divergence.mean())
        return mean + deviation * noise

    def backward(self, gradient):
        mean, deviation, noise = self.kept
        scale = self.weight / len(mean)
        return np.concatenate(
            [
                gradient + scale * mean,
                gradient * noise * deviation / 2 + scale * (deviation**2 - 1) / 2,
            ],
            axis=1,
        )


def train(images: np.ndarray, epochs: int) -> tuple[fusednn.Model, fusednn.Model]:
    """Return encoder and decoder."""
    pixels = images.shape[1]
    encoder = fusednn.Sequential(
        [
            layers.Dense(512, activation="relu"),
            layers.Dense(128, activation="relu"),
            layers.Dense(2 * CODES),
        ],
        input_shape=(pixels,),
        name="encoder",
        seed=1,
    )
    decoder = fusednn.Sequential(
        [
            layers.Dense(128, activation="relu"),
            layers.Dense(512, activation="relu"),
            layers.Dense(pixels, activation="sigmoid"),
        ],
        input_shape=(CODES,),
        name="decoder",
        seed=2,
    )
    # The loss is a mean over pixels, so the divergence is divided by their number as well.
    model = fusednn.Sequential([encoder, Sampling(1 / pixels), decoder], name="vae")
    model.compile(optimizers.Adam(1e-3), "binary_crossentropy", seed=3)
    model.fit(images, images, batch_size=128, epochs=epochs, verbose=2)
    return encoder, decoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few steps, for a quick check")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", default="vae.png")
    arguments = parser.parse_args()
    images = fusednn.datasets.load_fashion_mnist().x_train
    if arguments.short:
        images = images[:1000]
    _, decoder = train(images, 1 if arguments.short else arguments.epochs)
    # A grid of equal shares of the normal distribution, along both axes.
    marks = np.array([NormalDist().inv_cdf((i + 0.5) / 16) for i in range(16)], np.float32)
    codes = np.stack(np.meshgrid(marks, marks[::-1]), axis=-1).reshape(-1, CODES)
    save_mosaic(arguments.output, decoder.predict(codes), columns=16)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
