# SPDX-License-Identifier: Apache-2.0
"""Three autoencoders of dense layers on Fashion-MNIST: undercomplete, denoising and sparse.

    python examples/autoencoders.py [--short] [--output autoencoders.png]

Needs matplotlib and Fashion-MNIST: apt-get install dataset-fashion-mnist
"""

from __future__ import annotations

import argparse

import numpy as np
from pictures import save_rows

import fusednn
from fusednn import layers, optimizers, regularizers


def make(codes: list[layers.Layer], pixels: int) -> fusednn.Sequential:
    """Return an autoencoder with these layers in its middle."""
    model = fusednn.Sequential(
        [
            layers.Dense(256, activation="relu"),
            *codes,
            layers.Dense(256, activation="relu"),
            layers.Dense(pixels, activation="sigmoid"),
        ],
        input_shape=(pixels,),
        seed=0,
    )
    model.compile(optimizers.Adam(1e-3), "binary_crossentropy", metrics=["mse"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="few steps, for a quick check")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--output", default="autoencoders.png")
    arguments = parser.parse_args()
    data = fusednn.datasets.load_fashion_mnist()
    x, test = data.x_train, data.x_test
    if arguments.short:
        x, test = x[:1000], test[:200]
    settings = {"batch_size": 128, "epochs": 1 if arguments.short else arguments.epochs}
    settings["verbose"] = 0
    pixels = x.shape[1]
    rng = np.random.default_rng(0)

    def noisy(images: np.ndarray) -> np.ndarray:
        noise = rng.standard_normal(images.shape, dtype=np.float32)
        return np.clip(images + 0.4 * noise, 0, 1)

    narrow = make([layers.Dense(16, name="code")], pixels)
    narrow.fit(x, x, **settings)
    print(f"16 numbers per image: mean squared error {narrow.evaluate(test, test)[1]:.4f}")

    denoiser = make([layers.Dense(64, activation="relu")], pixels)
    for _ in range(settings["epochs"]):  # other noise every time
        denoiser.fit(noisy(x), x, batch_size=128, verbose=0)
    dirty = noisy(test)
    before, after = ((dirty - test) ** 2).mean(), denoiser.evaluate(dirty, test)[1]
    print(f"noise: mean squared error {before:.4f}, after denoising {after:.4f}")

    few = regularizers.L1(2e-4)  # of the codes: most become 0
    code = layers.Dense(128, activation="relu", activity_regularizer=few, name="code")
    sparse = make([code], pixels)
    sparse.fit(x, x, **settings)
    codes = fusednn.Model(sparse.inputs, code.output).predict(test)
    active = (codes > 0.01 * codes.max()).sum(axis=1).mean()
    error = sparse.evaluate(test, test)[1]
    print(f"sparse: {active:.1f} of 128 codes are at work, mean squared error {error:.4f}")

    chosen = [int(np.flatnonzero(data.y_test[: len(test)] == label)[0]) for label in range(10)]
    rows = {
        "image": test[chosen],
        "from 16 numbers": narrow.predict(test[chosen]),
        "with noise": dirty[chosen],
        "denoised": denoiser.predict(dirty[chosen]),
        f"from {active:.0f} of 128 codes": sparse.predict(test[chosen]),
    }
    save_rows(arguments.output, rows)
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
