# SPDX-License-Identifier: Apache-2.0
"""Forward and backward pass of every kind of node.

A kind is a class with two static functions. ``forward(node, inputs)`` returns the output and what
backward needs; ``backward(node, gradient, kept)`` returns the gradients of the inputs and fills
those of the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fusednn import _core
from fusednn.layers.base import Shape

Arrays = dict[str, np.ndarray]


@dataclass
class Node:
    """A node at work: what the graph says of it, its parameters, and the settings of the pass."""

    place: int
    name: str
    kind: str
    inputs: list[int]
    config: dict[str, Any]
    values: Arrays = field(default_factory=dict)
    gradients: Arrays = field(default_factory=dict)
    precision: str = "float32"
    seed: int = 0
    step: int = 0
    training: bool = False
    frozen: bool = False


class Kind:
    """Base class; a node without parameters that keeps the shape of its input."""

    statistics: ClassVar[tuple[str, ...]] = ()  # parameters that do not learn

    @staticmethod
    def parameters(config: dict[str, Any], inputs: list[Shape]) -> dict[str, Shape]:
        return {}

    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        raise NotImplementedError("each type of node must define forward()")

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        raise NotImplementedError("each type of node must define backward()")


def _rows(array: np.ndarray) -> np.ndarray:
    return array.reshape(-1, array.shape[-1])


class Dense(Kind):
    @staticmethod
    def parameters(config: dict[str, Any], inputs: list[Shape]) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"kernel": (inputs[0][-1], config["units"])}
        return {**shapes, "bias": (config["units"],)} if config["use_bias"] else shapes

    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        (x,) = inputs
        kernel, bias = node.values["kernel"], node.values.get("bias")
        y, saved = _core.dense_forward(
            _rows(x), kernel, bias, "linear", {}, True, precision=node.precision
        )
        return y.reshape(*x.shape[:-1], kernel.shape[1]), (x, saved)

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        x, saved = kept
        dx, dw, db = _core.dense_backward(
            _rows(gradient), _rows(x), node.values["kernel"], saved, "linear", {},
            precision=node.precision,
        )  # fmt: skip
        node.gradients["kernel"][...] = dw
        if "bias" in node.gradients:
            node.gradients["bias"][...] = db
        return [dx.reshape(x.shape)]


class Activation(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        rule, hyper = node.config["activation"], node.config["parameters"]
        return _core.activation_forward(rule, hyper, inputs[0]), inputs[0]

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        rule, hyper = node.config["activation"], node.config["parameters"]
        return [_core.activation_backward(rule, hyper, gradient, kept)]


class Softmax(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        y = _core.softmax(inputs[0], log=node.config["log"])
        return y, y

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [_core.softmax_backward(gradient, kept, log=node.config["log"])]


class Flatten(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        (x,) = inputs
        return x.reshape(len(x), -1), x.shape

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [gradient.reshape(kept)]


class Dropout(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        if not node.training:
            return inputs[0], False
        return Dropout._mask(node, inputs[0]), True

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [Dropout._mask(node, gradient) if kept else gradient]

    @staticmethod
    def _mask(node: Node, x: np.ndarray) -> np.ndarray:
        return _core.dropout(x, node.config["rate"], node.seed, node.step, node.place)


class _Noise(Kind):
    """Noise by the name it has in the engine."""

    names: ClassVar[tuple[str, str]]  # forward and backward

    @classmethod
    def forward(cls, node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        if not node.training:
            return inputs[0], False
        return cls.change(node, inputs[0], cls.names[0]), True

    @classmethod
    def backward(cls, node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [cls.change(node, gradient, cls.names[1]) if kept else gradient]

    @classmethod
    def change(cls, node: Node, x: np.ndarray, noise: str) -> np.ndarray:
        rate = node.config["rate"]
        return _core.dropout(
            x, rate, node.seed, node.step, node.place, None, noise, math.sqrt(rate / (1 - rate))
        )


class AlphaDropout(_Noise):
    names = ("alpha", "alpha_gradient")


class GaussianDropout(_Noise):
    names = ("factor", "factor")


class GaussianNoise(_Noise):
    names = ("term", "mask")

    @classmethod
    def change(cls, node: Node, x: np.ndarray, noise: str) -> np.ndarray:
        if noise == "mask":  # its gradient is that of the identity
            return x
        stddev = node.config["stddev"]
        return _core.dropout(x, 0.0, node.seed, node.step, node.place, None, noise, stddev)


class Resample(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        (x,) = inputs
        if not node.training and "height" not in node.config:
            return x, None
        return _core.resample(x, node.config, node.seed, node.step, node.place, node.training), None

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        raise ValueError(f"layer {node.name!r} has no gradient: put it behind the input")


class Rescaling(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        (x,) = inputs
        return x * x.dtype.type(node.config["scale"]) + x.dtype.type(node.config["offset"]), None

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [gradient * gradient.dtype.type(node.config["scale"])]


class Add(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        total = inputs[0] + inputs[1]
        for x in inputs[2:]:
            total += x
        return total, len(inputs)

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        return [gradient] * kept


class Concatenate(Kind):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        return np.concatenate(inputs, axis=-1), [x.shape[-1] for x in inputs]

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        pieces = np.split(gradient, np.cumsum(kept)[:-1], axis=-1)
        return [np.ascontiguousarray(piece) for piece in pieces]


class _Normalization(Kind):
    @staticmethod
    def parameters(config: dict[str, Any], inputs: list[Shape]) -> dict[str, Shape]:
        shape = inputs[0][-1:]
        shapes = {"gamma": shape} if config["scale"] else {}
        return {**shapes, "beta": shape} if config["center"] else shapes

    @staticmethod
    def _pair(node: Node, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gamma = node.values.get("gamma")
        beta = node.values.get("beta")
        columns = x.shape[-1]
        return (
            np.ones(columns, x.dtype) if gamma is None else gamma,
            np.zeros(columns, x.dtype) if beta is None else beta,
        )

    @staticmethod
    def _store(node: Node, dgamma: np.ndarray, dbeta: np.ndarray) -> None:
        for name, value in (("gamma", dgamma), ("beta", dbeta)):
            if name in node.gradients:
                node.gradients[name][...] = value


class BatchNorm(_Normalization):
    statistics = ("moving_mean", "moving_variance")

    @staticmethod
    def parameters(config: dict[str, Any], inputs: list[Shape]) -> dict[str, Shape]:
        shape = inputs[0][-1:]
        own = _Normalization.parameters(config, inputs)
        return {**own, "moving_mean": shape, "moving_variance": shape}

    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        x = _rows(inputs[0])
        gamma, beta = _Normalization._pair(node, x)
        mean, variance = node.values["moving_mean"], node.values["moving_variance"]
        moves = node.training and not node.frozen
        y, *kept = _core.batch_norm_forward(
            x, gamma, beta, mean, variance, training=moves,
            momentum=node.config["momentum"], epsilon=node.config["epsilon"],
            unbiased=node.config["unbiased"],
        )  # fmt: skip
        if not moves:
            kept = [None, None]
        return y.reshape(inputs[0].shape), (inputs[0], gamma, *kept)

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        x, gamma, mean, inverse = kept
        dy, rows = _rows(gradient), _rows(x)
        if mean is None:  # constants, at inference
            moving = node.values["moving_mean"]
            inverse = 1 / np.sqrt(node.values["moving_variance"] + node.config["epsilon"])
            inverse = inverse.astype(x.dtype)
            dx, dgamma, dbeta = (
                dy * (gamma * inverse),
                (dy * (rows - moving) * inverse).sum(axis=0),
                dy.sum(axis=0),
            )
        else:
            dx, dgamma, dbeta = _core.batch_norm_backward(dy, rows, gamma, mean, inverse)
        _Normalization._store(node, dgamma, dbeta)
        return [dx.reshape(x.shape)]


class LayerNorm(_Normalization):
    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        x = _rows(inputs[0])
        gamma, beta = _Normalization._pair(node, x)
        y, mean, inverse = _core.layer_norm_forward(x, gamma, beta, epsilon=node.config["epsilon"])
        return y.reshape(inputs[0].shape), (inputs[0], gamma, mean, inverse)

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        x, gamma, mean, inverse = kept
        dx, dgamma, dbeta = _core.layer_norm_backward(
            _rows(gradient), _rows(x), gamma, mean, inverse
        )
        _Normalization._store(node, dgamma, dbeta)
        return [dx.reshape(x.shape)]


class Custom(Kind):
    """A layer whose passes are Python functions; see `fusednn.layers.CustomLayer`."""

    @staticmethod
    def parameters(config: dict[str, Any], inputs: list[Shape]) -> dict[str, Shape]:
        return config["layer"].parameter_shapes(inputs)

    @staticmethod
    def forward(node: Node, inputs: list[np.ndarray]) -> tuple[np.ndarray, Any]:
        layer = node.config["layer"]
        layer.values, layer.gradients = node.values, node.gradients
        layer.added_loss = 0.0
        y = np.asarray(layer.forward(*inputs, training=node.training), inputs[0].dtype)
        wanted = (len(inputs[0]), *layer.output_shape([x.shape[1:] for x in inputs]))
        if y.shape != wanted:
            raise ValueError(f"forward() of {layer.name!r} returned {y.shape}, expected {wanted}")
        return np.ascontiguousarray(y), [x.shape for x in inputs]

    @staticmethod
    def backward(node: Node, gradient: np.ndarray, kept: Any) -> list[np.ndarray]:
        layer = node.config["layer"]
        given = layer.backward(gradient)
        pieces = list(given) if isinstance(given, (list, tuple)) else [given]
        found = [np.ascontiguousarray(piece, gradient.dtype) for piece in pieces]
        if [piece.shape for piece in found] != kept:
            shapes = [piece.shape for piece in found]
            raise ValueError(f"backward() of {layer.name!r} returned {shapes}, expected {kept}")
        return found


KINDS: dict[str, type[Kind]] = {
    "dense": Dense,
    "activation": Activation,
    "softmax": Softmax,
    "flatten": Flatten,
    "dropout": Dropout,
    "alpha_dropout": AlphaDropout,
    "gaussian_dropout": GaussianDropout,
    "gaussian_noise": GaussianNoise,
    "resample": Resample,
    "rescaling": Rescaling,
    "add": Add,
    "concatenate": Concatenate,
    "batch_normalization": BatchNorm,
    "layer_normalization": LayerNorm,
    "python": Custom,
}
