# SPDX-License-Identifier: Apache-2.0
"""A generative adversarial network of dense layers that draws clothes.

A critic learns to tell images of Fashion-MNIST from those of a generator; the generator learns,
through the frozen critic, to be taken for real. Both are models of their own with an optimizer
each; the chain of both borrows their layers.

    python examples/gan.py [--short] [--output gan.png]

Needs matplotlib and Fashion-MNIST: apt-get install dataset-fashion-mnist
"""

from __future__ import annotations

import argparse

import numpy as np
from pictures import save_mosaic

import fusednn
from fusednn import activations, layers, optimizers

NOISE = 64
BATCH = 128


def make_generator(pixels: int) -> fusednn.Sequential:
    return fusednn.Sequential(
        [
            layers.Dense(256, activation="relu"),
            layers.BatchNormalization(momentum=0.8),
            layers.Dense(512, activation="relu"),
            layers.BatchNormalization(momentum=0.8),
            layers.Dense(pixels, activation="sigmoid"),
        ],
        input_shape=(NOISE,),
        name="generator",
        seed=1,
    )


def make_critic(pixels: int) -> fusednn.Sequential:
    leaky = activations.leaky_relu(negative_slope=0.2)
    return fusednn.Sequential(
        [
            layers.Dense(1024, activation=leaky),
            layers.Dropout(0.3),
            layers.Dense(256, activation=leaky),
            layers.Dropout(0.3),
            layers.Dense(1),
        ],
        input_shape=(pixels,),
        name="critic",
        seed=2,
    )


def train(images: np.ndarray, steps: int) -> tuple[fusednn.Model, list[float], list[float]]:
    """Alternate between both; return the generator and the losses of both."""
    rng = np.random.default_rng(0)
    generator, critic = make_generator(images.shape[1]), make_critic(images.shape[1])
    loss = fusednn.losses.BinaryCrossentropy()
    critic.compile(optimizers.Adam(6e-4, beta_1=0.5), loss)  # a good critic is a good teacher
    critic.trainable = False  # in the chain, which looks at it now
    chain = fusednn.Sequential([generator, critic])
    averaging = optimizers.Adam(2e-4, beta_1=0.5, use_ema=True, ema_momentum=0.998)
    chain.compile(averaging, loss, seed=3)
    critic.trainable = True  # alone it goes on learning

    real, fake = np.full(BATCH, 0.9, np.float32), np.zeros(BATCH, np.float32)  # smoothed labels
    taken_for_real = np.ones(BATCH, np.float32)
    critic_losses, chain_losses = [], []
    for step in range(steps):
        noise = rng.standard_normal((BATCH, NOISE), dtype=np.float32)
        drawn = generator.predict(noise)
        photos = images[rng.integers(0, len(images), BATCH)]
        losses = [critic.train_on_batch(photos, real), critic.train_on_batch(drawn, fake)]
        critic_losses.append(float(np.mean(losses)))
        noise = rng.standard_normal((BATCH, NOISE), dtype=np.float32)
        chain_losses.append(float(chain.train_on_batch(noise, taken_for_real)))
        if (step + 1) % 2000 == 0:
            print(
                f"step {step + 1}: critic {np.mean(critic_losses[-500:]):.3f}, "
                f"generator {np.mean(chain_losses[-500:]):.3f}",
                flush=True,
            )
    # Drawn from the average over the last steps.
    averages = chain.get_weights(averaged=True)
    generator.set_weights(averages[: len(generator.weights)])
    return generator, critic_losses, chain_losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few steps, for a quick check")
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--output", default="gan.png")
    arguments = parser.parse_args()
    images = fusednn.datasets.load_fashion_mnist().x_train
    generator, *_ = train(images, 30 if arguments.short else arguments.steps)
    noise = np.random.default_rng(7).standard_normal((96, NOISE), dtype=np.float32)
    save_mosaic(arguments.output, generator.predict(noise), columns=16)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
