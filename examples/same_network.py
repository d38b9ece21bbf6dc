# SPDX-License-Identifier: Apache-2.0
"""One network, trained by fusednn, by Keras and by PyTorch.

A project writes its layers once, with the names that fusednn shares with Keras:

    def network(layers):
        return [layers.Dense(64, "relu"), layers.Dropout(0.1), layers.Dense(1)]

`layers` is `fusednn.layers`, `keras.layers`, or `TorchLayers` below. Everything else is the same
too: initial weights from the same distribution, AdamW, the learning rate that falls along half a
cosine, batches and epochs. Each library gets the loop it is used with: `fit`, and in PyTorch a loop
over batches drawn from one tensor, without a DataLoader, with the fused AdamW.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fusednn


@dataclass(frozen=True)
class Data:
    """What is trained on, and what is tested on."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Training:
    """A network and how it is trained."""

    network: Callable[[Any], list]
    loss: str  # "mse", "binary_crossentropy" or "sparse_categorical_crossentropy", of logits
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float

    def steps(self, data: Data) -> int:
        """Return how often the weights are changed."""
        return self.epochs * -(-len(data.x_train) // self.batch_size)


Outcome = tuple[float, np.ndarray]  # seconds from the making of the network on; test outputs


def in_fusednn(training: Training, data: Data, seed: int) -> Outcome:
    """Train, and return the time and what the network says of the test rows."""
    start = time.perf_counter()
    model = fusednn.Sequential(training.network(fusednn.layers), seed=seed)
    rate = fusednn.schedules.CosineDecay(training.learning_rate, training.steps(data))
    optimizer = fusednn.optimizers.AdamW(rate, weight_decay=training.weight_decay)
    model.compile(optimizer, training.loss, seed=seed)
    model.fit(
        data.x_train, data.y_train,
        batch_size=training.batch_size, epochs=training.epochs, verbose=0,
    )  # fmt: skip
    return time.perf_counter() - start, model.predict(data.x_test)


def in_keras(training: Training, data: Data, seed: int) -> Outcome:
    """The same in Keras; its backend is JAX unless KERAS_BACKEND says otherwise."""
    os.environ.setdefault("KERAS_BACKEND", "jax" if is_installed("jax") else "torch")
    import keras

    losses = {
        "mse": keras.losses.MeanSquaredError,
        "binary_crossentropy": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
        "sparse_categorical_crossentropy": lambda: keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ),
    }
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(training.network(keras.layers))
    decay = keras.optimizers.schedules.CosineDecay
    rate = decay(training.learning_rate, training.steps(data))
    optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, epsilon=1e-8)
    model.compile(optimizer, losses[training.loss]())
    model.fit(
        data.x_train, data.y_train,
        batch_size=training.batch_size, epochs=training.epochs, verbose=0,
    )  # fmt: skip
    return time.perf_counter() - start, model.predict(data.x_test, verbose=0)


def in_torch(training: Training, data: Data, seed: int) -> Outcome:
    """The same in PyTorch."""
    import torch

    losses = {
        "mse": torch.nn.MSELoss,
        "binary_crossentropy": torch.nn.BCEWithLogitsLoss,
        "sparse_categorical_crossentropy": torch.nn.CrossEntropyLoss,
    }
    start = time.perf_counter()
    torch.manual_seed(seed)
    is_class = training.loss == "sparse_categorical_crossentropy"
    x, y = torch.tensor(data.x_train), torch.tensor(data.y_train)
    y = y if is_class else y.to(x.dtype)[:, None]
    model = torch.nn.Sequential(*training.network(TorchLayers))
    model(x[:1])  # layers learn the sizes of their inputs
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.xavier_uniform_(module.weight)
            torch.nn.init.zeros_(module.bias)
    loss_of = losses[training.loss]()
    optimizer = torch.optim.AdamW(
        model.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps(data))
    for _ in range(training.epochs):
        for places in torch.randperm(len(x)).split(training.batch_size):
            optimizer.zero_grad()
            loss_of(model(x[places]), y[places]).backward()
            optimizer.step()
            schedule.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        return seconds, model.eval()(torch.tensor(data.x_test)).numpy()


class TorchLayers:
    """Modules of PyTorch under the names, and with the arguments, of layers of Keras."""

    @staticmethod
    def Dense(units: int, activation: str | None = None) -> Any:
        """Return a Linear and what follows it."""
        from torch import nn

        linear = nn.LazyLinear(units)
        return nn.Sequential(linear, nn.ReLU()) if activation == "relu" else linear

    @staticmethod
    def Dropout(rate: float) -> Any:
        """Return a Dropout."""
        from torch import nn

        return nn.Dropout(rate)

    @staticmethod
    def Flatten() -> Any:
        """Return a Flatten."""
        from torch import nn

        return nn.Flatten()

    @staticmethod
    def RandomFlip(mode: str) -> Any:
        """Return a module that shows half of the images as in a mirror while training."""
        import torch

        assert mode == "horizontal"

        class Flip(torch.nn.Module):
            def forward(self, images: torch.Tensor) -> torch.Tensor:
                if not self.training:
                    return images
                mirrored = torch.rand(len(images), 1, 1, 1) < 0.5
                return torch.where(mirrored, images.flip(2), images)

        return Flip()


@functools.cache
def warm_up(library: str) -> None:
    """Let a library load what it loads when it first trains."""
    x = np.zeros((2, 1), np.float32)
    tiny = Training(lambda layers: [layers.Dense(1)], "mse", 1, 2, 1e-3, 0.01)
    LIBRARIES[library](tiny, Data(x, x[:, 0], x, x[:, 0]), seed=0)


def is_installed(package: str) -> bool:
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


LIBRARIES: dict[str, Callable[[Training, Data, int], Outcome]] = {
    "fusednn": in_fusednn,
    "keras": in_keras,
    "torch": in_torch,
}
