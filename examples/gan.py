# SPDX-License-Identifier: Apache-2.0
"""A generative adversarial network of dense layers that draws clothes of the kind it is asked for.

A critic learns to tell images of Fashion-MNIST from those of a generator; the generator learns,
through the frozen critic, to be taken for real. Both are told the kind of clothing. Each is a model
of its own with its own optimizer; a third model, the chain of both, borrows their layers.

A dense layer that draws pixels draws them one by one, and that looks grainy. So the generator's
last layer is fixed: it paints with the principal components of the images, which are smooth. The
critic's first layer looks at the same components.

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
KINDS = 10
COMPONENTS = 120
BATCH = 128

leaky = activations.leaky_relu(negative_slope=0.2)


def components_of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean image, principal components of about equal weight, and their inverse.

    A component is divided by the root of its deviation: what is seen everywhere still counts for
    more, but details are not lost.
    """
    mean = images.mean(axis=0)
    variances, vectors = np.linalg.eigh(np.cov(images[:20000].T))
    scale = variances[-COMPONENTS:] ** 0.25
    vectors = vectors[:, -COMPONENTS:]
    return mean, (vectors * scale).T, vectors / scale


def make_generator(pixels: int) -> fusednn.Model:
    noise, kind = layers.Input((NOISE,)), layers.Input((KINDS,))
    x = layers.Concatenate()([noise, kind])
    for _ in range(2):
        x = layers.Dense(512, activation=leaky)(x)
        x = layers.BatchNormalization(momentum=0.8)(x)
    x = layers.Dense(COMPONENTS)(x)
    image = layers.Dense(pixels, trainable=False, name="painter")(x)
    return fusednn.Model([noise, kind], image, name="generator", seed=1)


def make_critic(pixels: int) -> fusednn.Model:
    image, kind = layers.Input((pixels,)), layers.Input((KINDS,))
    seen = layers.Dense(COMPONENTS, trainable=False, name="eye")(image)
    x = layers.Concatenate()([seen, kind])
    for units in (512, 256):
        x = layers.Dropout(0.3)(layers.Dense(units, activation=leaky)(x))
    return fusednn.Model([image, kind], layers.Dense(1)(x), name="critic", seed=2)


def set_learning(critic: fusednn.Model, learns: bool) -> None:
    """Freeze or thaw everything but the layer that is never trained."""
    for layer in critic.layers:
        layer.trainable = learns and layer.name != "eye"


def train(
    images: np.ndarray, kinds: np.ndarray, steps: int
) -> tuple[fusednn.Model, list[float], list[float]]:
    """Alternate between both; return the generator and the losses of both."""
    rng = np.random.default_rng(0)
    generator, critic = make_generator(images.shape[1]), make_critic(images.shape[1])
    mean, paints, looks = components_of(images)
    generator.get_layer("painter").set_weights([paints, mean])
    critic.get_layer("eye").set_weights([looks, -mean @ looks])

    loss = fusednn.losses.BinaryCrossentropy()
    critic.compile(optimizers.Adam(4e-4, beta_1=0.5), loss)  # a good critic is a good teacher
    set_learning(critic, False)  # in the chain, which looks at it now
    noise, kind = layers.Input((NOISE,)), layers.Input((KINDS,))
    chain = fusednn.Model([noise, kind], critic([generator([noise, kind]), kind]))
    averaging = optimizers.Adam(2e-4, beta_1=0.5, use_ema=True, ema_momentum=0.999)
    chain.compile(averaging, loss, seed=3)
    set_learning(critic, True)  # alone it goes on learning

    real, fake = np.full(BATCH, 0.9, np.float32), np.zeros(BATCH, np.float32)  # smoothed labels
    taken_for_real = np.ones(BATCH, np.float32)
    critic_losses, chain_losses = [], []
    for step in range(steps):
        some = rng.integers(0, len(images), BATCH)
        drawn = generator.predict([draw_noise(rng, BATCH), kinds[some]])
        losses = [
            critic.train_on_batch([images[some], kinds[some]], real),
            critic.train_on_batch([drawn, kinds[some]], fake),
        ]
        critic_losses.append(float(np.mean(losses)))
        chain_loss = chain.train_on_batch([draw_noise(rng, BATCH), kinds[some]], taken_for_real)
        chain_losses.append(float(chain_loss))
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


def draw_noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal((count, NOISE), dtype=np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few steps, for a quick check")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--output", default="gan.png")
    arguments = parser.parse_args()
    data = fusednn.datasets.load_fashion_mnist()
    kinds = np.eye(KINDS, dtype=np.float32)
    steps = 30 if arguments.short else arguments.steps
    generator, *_ = train(data.x_train, kinds[data.y_train], steps)
    columns = kinds[np.arange(8 * KINDS) % KINDS]  # one of each
    images = generator.predict([draw_noise(np.random.default_rng(7), len(columns)), columns])
    save_mosaic(arguments.output, np.clip(images, 0, 1), columns=KINDS)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
