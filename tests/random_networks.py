# SPDX-License-Identifier: Apache-2.0
"""Random graphs of all layers and activations, with weights and statistics as after a training."""

from __future__ import annotations

import numpy as np

import fusednn
from fusednn import activations, catalog, layers

# Parameters that are not the defaults.
_PARAMETERS = {"alpha": 0.7, "negative_slope": 0.2}


def every_activation() -> list[activations.Activation]:
    """All activations, and once more those that have parameters, with other values of them."""
    plain = [activations.get(name) for name in activations.names()]
    bent = [
        activations.Activation(rule, **{name: _PARAMETERS[name] for name in parameters})
        for rule, parameters in catalog.activations().items()
        if parameters
    ]
    return plain + bent


class _Builder:
    def __init__(self, rng: np.random.Generator, first: activations.Activation) -> None:
        self.rng = rng
        self.activations = [first]  # to be used before others are drawn
        self.tensors: list = []
        self.unread: list = []

    def pick(self, ranks=(1, 2)):
        """Return an earlier tensor, mostly one that nobody reads yet."""
        fresh = [t for t in self.unread if len(t.sample_shape) in ranks]
        pool = fresh if fresh and self.rng.random() < 0.7 else self.tensors
        pool = [t for t in pool if len(t.sample_shape) in ranks]
        return pool[self.rng.integers(len(pool))]

    def activation(self) -> activations.Activation:
        every = every_activation()
        return self.activations.pop() if self.activations else every[self.rng.integers(len(every))]

    def join(self, layer, inputs):
        output = layer(inputs)
        self.unread = [t for t in self.unread if all(t is not x for x in inputs)] + [output]
        self.tensors.append(output)

    # ---- one method per kind; `_DRAWN` lists them ---------------------------------------

    def dense(self):
        x = self.pick()
        units = int(self.rng.integers(1, 13))
        use_bias = bool(self.rng.random() < 0.8)
        self.join(layers.Dense(units, self.activation(), use_bias), [x])

    def image(self):
        """A crop or another transform, which looks at images, so right behind an input."""
        images = [
            t for t in self.tensors if isinstance(t.layer, layers.InputLayer) and len(t.shape) == 3
        ]
        if not images:
            return
        x = images[self.rng.integers(len(images))]
        crop = [int(self.rng.integers(1, size + 1)) for size in x.sample_shape]
        kinds = [
            layers.RandomFlip("horizontal"),
            layers.RandomCrop(*crop),
            layers.RandomRotation(0.1),
            layers.RandomTranslation(0.1, 0.1),
            layers.RandomZoom(0.1),
        ]
        self.join(kinds[self.rng.integers(len(kinds))], [x])

    def passing(self):
        scale, offset = self.rng.normal(size=2)
        rescaling = layers.Rescaling(float(scale), float(offset))
        self.join(rescaling, [self.pick()])
        self.join(layers.ActivityRegularization(l2=0.1), [self.pick()])

    def activation_layer(self):
        self.join(layers.Activation(self.activation()), [self.pick()])

    def softmax(self):
        self.join(layers.Softmax(), [self.pick()])

    def flatten(self):
        self.join(layers.Flatten(), [self.pick()])

    def noise(self):
        rate = float(self.rng.uniform(0.1, 0.5))
        kinds = [
            layers.AlphaDropout,
            layers.Dropout,
            layers.GaussianDropout,
            layers.GaussianNoise,
        ]
        self.join(kinds[self.rng.integers(len(kinds))](rate), [self.pick()])

    def normalization(self):
        center, scale = (bool(flag) for flag in self.rng.random(2) < 0.7)
        x = self.pick()
        # A difference of two or three nearly equal numbers has few digits, whoever computes it.
        wide = x.sample_shape[-1] > 3 and self.rng.random() < 0.5
        kind = layers.LayerNormalization if wide else layers.BatchNormalization
        epsilon = float(self.rng.choice([1e-3, 1e-2]))
        self.join(kind(epsilon=epsilon, center=center, scale=scale), [x])

    def add(self):
        x = self.pick()
        same = [t for t in self.tensors if t.sample_shape == x.sample_shape]
        chosen = self.rng.integers(len(same), size=self.rng.integers(1, 3))
        self.join(layers.Add(), [x, *(same[i] for i in chosen)])

    def concatenate(self):
        x = self.pick()
        fits = [t for t in self.tensors if t.sample_shape[:-1] == x.sample_shape[:-1]]
        chosen = self.rng.integers(len(fits), size=self.rng.integers(1, 3))
        self.join(layers.Concatenate(), [x, *(fits[i] for i in chosen)])


_DRAWN = (
    "dense", "dense", "dense", "activation_layer", "softmax", "flatten", "noise", "normalization",
    "normalization", "add", "concatenate", "image", "passing",
)  # fmt: skip


def random_network(seed: int, precision: str = "float32") -> fusednn.Model:
    """Return a network with one to three inputs and outputs of one or two axes.

    Networks 0, 1, 2, ... use the activations one after the other, and others by chance.
    """
    rng = np.random.default_rng(seed)
    every = every_activation()
    builder = _Builder(rng, every[seed % len(every)])
    inputs = []
    for _ in range(rng.integers(1, 4)):
        shape = tuple(int(n) for n in rng.integers(2, 7, size=rng.integers(1, 3)))
        inputs.append(layers.Input(shape))
    builder.tensors += inputs
    builder.unread += inputs
    builder.dense()
    for _ in range(rng.integers(3, 14)):
        getattr(builder, _DRAWN[rng.integers(len(_DRAWN))])()
    for x in [x for x in builder.unread if any(x is one for one in inputs)]:
        builder.join(layers.Dense(2), [x])  # no input may be left over
    model = fusednn.Model(inputs, builder.unread, name=f"random_{seed}", seed=seed)
    model.compile("sgd", "mse", precision=precision)
    for name, view in model._named_parameters().items():
        if name.endswith("variance"):
            view[...] = rng.uniform(0.5, 2, size=view.shape)
        elif not name.endswith("kernel"):
            view[...] = rng.normal(size=view.shape)
    return model


def random_inputs(model: fusednn.Model, rows: int, seed: int) -> list[np.ndarray]:
    """Return samples for all inputs of a model."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, *t.sample_shape)).astype(model.dtype) for t in model.inputs]


def outputs_of(model: fusednn.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Return what `predict` gives, as a list also where there is one output."""
    found = model.predict(inputs if len(inputs) > 1 else inputs[0])
    return found if isinstance(found, list) else [found]


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference, relative to the largest number of the output."""
    scale = np.abs(expected).max(initial=0.0)
    difference = np.abs(found.astype(np.float64) - expected).max(initial=0.0)
    return float(difference / scale) if scale else float(difference)
