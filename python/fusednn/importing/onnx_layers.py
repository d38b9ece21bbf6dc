# SPDX-License-Identifier: Apache-2.0
"""What layer makes a tensor of an ONNX file."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from fusednn import layers
from fusednn.activations import Activation
from fusednn.exporting.onnx_forms import FORMS, RESCALING
from fusednn.importing.onnx_graphs import OnnxGraph, describe
from fusednn.layers.base import Layer


class Found(NamedTuple):
    """A layer, the tensors it is called on, and its arrays by name of the parameter."""

    layer: Layer
    inputs: list[str]
    weights: dict[str, np.ndarray]


class _Product(NamedTuple):
    """``x @ kernel + bias``"""

    x: str
    kernel: np.ndarray
    bias: np.ndarray | None


def layer_of(graph: OnnxGraph, tensor: str, name: str) -> Found:
    """Return the layer that makes a tensor, under a name of its own.

    Raises ValueError, naming the operator, where no layer does what it says.
    """
    node = graph.makers.get(tensor)
    if node is None:
        raise ValueError(f"nothing in it makes {tensor!r}")
    if (activated := graph.activation(tensor)) is not None:
        activation, x = activated
        # The name says that both are one layer.
        product = _product(graph, x) if x.startswith(f"{tensor}/") else None
        if product is not None:
            return _dense(product, activation, name)
        return Found(layers.Activation(activation, name=name), [x], {})
    if (product := _product(graph, tensor)) is not None:
        return _dense(product, None, name)
    match = graph.form(RESCALING, tensor)
    if match is not None and match.x is not None:
        scale, offset = match.values["scale"], match.values["offset"]
        return Found(layers.Rescaling(scale, offset, name=name), [match.x], {})
    if node.op_type not in _READERS:
        operators = {form.operator for forms in FORMS.values() for form in forms}
        known = sorted({"Gemm", "MatMul", *_READERS, *operators})
        raise ValueError(f"{describe(node)} is not what a layer does; known: {', '.join(known)}")
    return _READERS[node.op_type](graph, node, name)


def _product(graph: OnnxGraph, tensor: str) -> _Product | None:
    """Return what is multiplied, if a tensor is a product with a constant matrix."""
    node = graph.makers.get(tensor)
    if node is None:
        return None
    if node.op_type == "Gemm":
        plain = [graph.attribute(node, name) for name in ("alpha", "beta", "transA")] == [1, 1, 0]
        kernel = graph.constant(node, 1)
        if not plain:
            raise ValueError(f"{describe(node)} is not x @ kernel + bias")
        kernel = kernel.T if graph.attribute(node, "transB") else kernel
        bias = graph.constant(node, 2) if len(node.input) > 2 else None
        return _Product(node.input[0], kernel, _row(node, bias, kernel))
    if node.op_type == "MatMul":
        return _Product(node.input[0], graph.constant(node, 1), None)
    if node.op_type == "Add":
        for summand, bias in (node.input, node.input[::-1]):
            maker = graph.makers.get(summand)
            if maker is not None and maker.op_type == "MatMul" and bias in graph.constants:
                x, kernel = maker.input[0], graph.constant(maker, 1)
                return _Product(x, kernel, _row(node, graph.constants[bias], kernel))
    return None


def _row(node: Any, bias: np.ndarray | None, kernel: np.ndarray) -> np.ndarray | None:
    """Return the bias as one number per unit."""
    if bias is None:
        return None
    if bias.size not in (1, kernel.shape[-1]) or bias.size != max(bias.shape, default=1):
        raise ValueError(f"{describe(node)} adds an array of shape {bias.shape}, not a bias")
    return np.broadcast_to(bias.reshape(-1), kernel.shape[-1:])


def _dense(product: _Product, activation: Activation | None, name: str) -> Found:
    if product.kernel.ndim != 2:
        raise ValueError(
            f"the matrix that {product.x!r} is multiplied with has shape {product.kernel.shape}"
        )
    units = product.kernel.shape[1]
    weights = {"kernel": product.kernel}
    if product.bias is not None:
        weights["bias"] = product.bias
    layer = layers.Dense(units, activation, product.bias is not None, name=name)
    return Found(layer, [product.x], weights)


def _require_last_axis(graph: OnnxGraph, node: Any) -> None:
    axis = graph.attribute(node, "axis")
    if axis != -1:
        raise ValueError(f"{describe(node)} works along axis {axis}, not the last one")


def _merge(graph: OnnxGraph, node: Any, name: str) -> Found:
    if any(tensor in graph.constants for tensor in node.input):
        raise ValueError(f"{describe(node)} adds a constant, which no layer alone does")
    return Found(layers.Add(name=name), list(node.input), {})


def _concatenate(graph: OnnxGraph, node: Any, name: str) -> Found:
    _require_last_axis(graph, node)
    return Found(layers.Concatenate(name=name), list(node.input), {})


def _flatten(graph: OnnxGraph, node: Any, name: str) -> Found:
    if graph.attribute(node, "axis") not in (1, -1):
        raise ValueError(f"{describe(node)} flattens along another axis than the first")
    return Found(layers.Flatten(name=name), [node.input[0]], {})


def _layer_norm(graph: OnnxGraph, node: Any, name: str) -> Found:
    _require_last_axis(graph, node)
    weights = {"gamma": graph.constant(node, 1)}
    if len(node.input) > 2:
        weights["beta"] = graph.constant(node, 2)
    epsilon = graph.attribute(node, "epsilon")
    layer = layers.LayerNormalization(epsilon, center="beta" in weights, name=name)
    return Found(layer, [node.input[0]], weights)


def _batch_norm(graph: OnnxGraph, node: Any, name: str) -> Found:
    if len(graph.sample_shape(node.input[0])) != 1 or graph.attribute(node, "training_mode"):
        raise ValueError(f"{describe(node)} normalises another axis than the last, or trains")
    return _normalized(graph, node, node.input[0], name)


def _normalized(graph: OnnxGraph, node: Any, x: str, name: str) -> Found:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = {parameter: graph.constant(node, i + 1) for i, parameter in enumerate(names)}
    epsilon = graph.attribute(node, "epsilon")
    return Found(layers.BatchNormalization(epsilon=epsilon, name=name), [x], weights)


def _reshape(graph: OnnxGraph, node: Any, name: str) -> Found:
    """Return Flatten, or the batch normalisation that this is the end of."""
    before, after = graph.sample_shape(node.input[0]), graph.sample_shape(node.output[0])
    if after == (math.prod(before),):
        return Found(layers.Flatten(name=name), [node.input[0]], {})
    normal = graph.makers.get(node.input[0])
    if normal is not None and normal.op_type == "BatchNormalization":
        rows = graph.makers.get(normal.input[0])
        x = rows.input[0] if rows is not None and rows.op_type == "Reshape" else None
        if x is not None and graph.sample_shape(x) == after and before == after[-1:]:
            return _normalized(graph, normal, x, name)
    raise ValueError(f"{describe(node)} neither flattens samples nor restores them")


def _slice(graph: OnnxGraph, node: Any, name: str) -> Found:
    """Return a crop of the middle of images."""
    before, after = graph.sample_shape(node.input[0]), graph.sample_shape(node.output[0])
    begins = [(a - b) // 2 for a, b in zip(before[:2], after[:2], strict=True)]
    operands = [graph.constant(node, place).tolist() for place in range(1, len(node.input))]
    if operands != [begins, [b + n for b, n in zip(begins, after, strict=False)], [1, 2]]:
        raise ValueError(f"{describe(node)} does not show the middle of images")
    return Found(layers.RandomCrop(after[0], after[1], name=name), [node.input[0]], {})


def _same(graph: OnnxGraph, node: Any, name: str) -> Found:
    if len(node.input) > 2 and node.input[2] and graph.constant(node, 2).any():
        raise ValueError(f"{describe(node)} is in training mode")
    return Found(layers.Activation("linear", name=name), [node.input[0]], {})


_READERS: dict[str, Callable[[OnnxGraph, Any, str], Found]] = {
    "Add": _merge,
    "BatchNormalization": _batch_norm,
    "Concat": _concatenate,
    "Dropout": _same,
    "Flatten": _flatten,
    "Identity": _same,
    "LayerNormalization": _layer_norm,
    "Reshape": _reshape,
    "Slice": _slice,
    "Sum": _merge,
}
