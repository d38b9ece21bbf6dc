# SPDX-License-Identifier: Apache-2.0
"""Layers under Keras' names.

>>> import fusednn
>>> from fusednn import layers
>>> inputs = layers.Input((8,))
>>> hidden = layers.Dense(8, activation="relu")(inputs)
>>> outputs = layers.Dense(1)(layers.Add()([inputs, hidden]))
>>> model = fusednn.Model(inputs, outputs)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn.errors import unknown_choice
from fusednn.layers.augmentation import RandomCrop as RandomCrop
from fusednn.layers.augmentation import RandomFlip as RandomFlip
from fusednn.layers.augmentation import RandomRotation as RandomRotation
from fusednn.layers.augmentation import RandomTranslation as RandomTranslation
from fusednn.layers.augmentation import RandomZoom as RandomZoom
from fusednn.layers.augmentation import Rescaling as Rescaling
from fusednn.layers.base import Layer as Layer
from fusednn.layers.base import SymbolicTensor as SymbolicTensor
from fusednn.layers.core import Activation as Activation
from fusednn.layers.core import ActivityRegularization as ActivityRegularization
from fusednn.layers.core import Dense as Dense
from fusednn.layers.core import Dropout as Dropout
from fusednn.layers.core import Flatten as Flatten
from fusednn.layers.core import Input as Input
from fusednn.layers.core import InputLayer as InputLayer
from fusednn.layers.core import Softmax as Softmax
from fusednn.layers.custom import CustomLayer as CustomLayer
from fusednn.layers.merging import Add as Add
from fusednn.layers.merging import Concatenate as Concatenate
from fusednn.layers.noise import AlphaDropout as AlphaDropout
from fusednn.layers.noise import GaussianDropout as GaussianDropout
from fusednn.layers.noise import GaussianNoise as GaussianNoise
from fusednn.layers.normalization import BatchNormalization as BatchNormalization
from fusednn.layers.normalization import LayerNormalization as LayerNormalization
from fusednn.layers.rectifiers import ELU as ELU
from fusednn.layers.rectifiers import LeakyReLU as LeakyReLU
from fusednn.layers.rectifiers import ReLU as ReLU

__all__ = [
    "ELU",
    "Activation",
    "ActivityRegularization",
    "Add",
    "AlphaDropout",
    "BatchNormalization",
    "Concatenate",
    "CustomLayer",
    "Dense",
    "Dropout",
    "Flatten",
    "GaussianDropout",
    "GaussianNoise",
    "Input",
    "InputLayer",
    "Layer",
    "LayerNormalization",
    "LeakyReLU",
    "RandomCrop",
    "RandomFlip",
    "RandomRotation",
    "RandomTranslation",
    "RandomZoom",
    "ReLU",
    "Rescaling",
    "Softmax",
    "SymbolicTensor",
    "deserialize",
    "register",
    "serialize",
]

# What a model file may name. Nothing else is ever made from a file.
_CLASSES: dict[str, type[Layer]] = {
    c.__name__: c
    for c in (
        Activation,
        ActivityRegularization,
        Add,
        AlphaDropout,
        BatchNormalization,
        Concatenate,
        Dense,
        Dropout,
        ELU,
        Flatten,
        GaussianDropout,
        GaussianNoise,
        InputLayer,
        LayerNormalization,
        LeakyReLU,
        RandomCrop,
        RandomFlip,
        RandomRotation,
        RandomTranslation,
        RandomZoom,
        ReLU,
        Rescaling,
        Softmax,
    )
}


_BUILT_IN = frozenset(_CLASSES)


def register(kind: type[Layer]) -> type[Layer]:
    """Let model files name a class of your own: a decorator.

    Files never bring code along: the program that reads one must have registered the class.

    Examples
    --------
    >>> from fusednn import layers
    >>> @layers.register
    ... class Halve(layers.CustomLayer):
    ...     def forward(self, x, training):
    ...         return x / 2
    ...     def backward(self, gradient):
    ...         return gradient / 2
    >>> type(layers.deserialize(layers.serialize(Halve()))).__name__
    'Halve'
    """
    if not (isinstance(kind, type) and issubclass(kind, Layer)):
        raise TypeError(f"register() takes a subclass of Layer, got {kind!r}")
    if kind.__name__ in _BUILT_IN:
        raise ValueError(f"{kind.__name__} is the name of a layer of fusednn")
    _CLASSES[kind.__name__] = kind
    return kind


def serialize(layer: Layer) -> dict[str, Any]:
    """Return class name and arguments of a layer as plain values.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.serialize(layers.Dropout(0.5, name="drop"))["class_name"]
    'Dropout'
    """
    return {"class_name": type(layer).__name__, "config": layer.get_config()}


def deserialize(config: Mapping[str, Any]) -> Layer:
    """Make the layer that ``serialize`` described.

    Examples
    --------
    >>> from fusednn import layers
    >>> layers.deserialize({"class_name": "Dense", "config": {"units": 3}}).units
    3
    """
    kind = config.get("class_name") if isinstance(config, Mapping) else None
    if kind not in _CLASSES or not isinstance(config.get("config"), Mapping):
        raise unknown_choice("class_name", kind, _CLASSES)
    return _CLASSES[kind].from_config(config["config"])
