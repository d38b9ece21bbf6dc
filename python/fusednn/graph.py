# SPDX-License-Identifier: Apache-2.0
"""From connected layers to the list of nodes that the engine compiles."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from fusednn.errors import unknown_choice
from fusednn.layers.base import Layer, Shape, SymbolicTensor
from fusednn.layers.core import InputLayer
from fusednn.regularizers import L1L2

# Nodes that pass values on without changing what they mean.
NOISE = ("dropout", "alpha_dropout", "gaussian_dropout", "gaussian_noise")
_TRANSPARENT = ("flatten", "resample", "rescaling", "add", "concatenate", *NOISE)


class Head(NamedTuple):
    """What a loss or a metric must know of an output.

    Attributes
    ----------
    name : str
        Of the output layer.
    shape : tuple of int
    node : str
        The engine's node that holds the output.
    kind : str
        "linear" when the values are as a layer without activation makes them; "softmax",
        "log_softmax", "sigmoid", "exponential"; "other" for every other activation.
    before : str
        The node that goes into that activation.
    """

    name: str
    shape: Shape
    node: str
    kind: str
    before: str


class Activity(NamedTuple):
    """What a regulariser of outputs looks at: a node and the number of its columns."""

    node: str
    size: int
    regularizer: L1L2


class Graph:
    """Layers in topological order, named, with the engine's nodes they stand for.

    Attributes
    ----------
    layers : list of Layer
    inputs, outputs : list of SymbolicTensor
    nodes : list of dict
        type, name, inputs (places of earlier nodes) and config, as the engine takes them.

    Parameters
    ----------
    inputs, outputs : list of SymbolicTensor
    model : object, optional
        The model it is made for. Layers that belong to another one are borrowed: they keep the name
        they have there, and get another in this graph if it is taken.
    """

    def __init__(
        self,
        inputs: list[SymbolicTensor],
        outputs: list[SymbolicTensor],
        model: object = None,
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.tensors = _sorted_tensors(inputs, outputs)
        self.layers = [tensor.layer for tensor in self.tensors]
        _check_once(self.layers)
        self.borrowed = [x for x in self.layers if x.owner is not None and x.owner is not model]
        self._names = _assign_names(self.layers, self.borrowed)
        self.nodes: list[dict[str, Any]] = []
        self.node_shapes: list[Shape] = []  # of one sample of each node's output
        self._last: dict[int, int] = {}  # id of a tensor -> place of the node that holds it
        for tensor in self.tensors:
            self._lower(tensor)

    def _lower(self, tensor: SymbolicTensor) -> None:
        places = [self._last[id(t)] for t in tensor.inputs]
        for suffix, kind, config in tensor.layer.nodes():
            own = self.name_of(tensor.layer)
            name = f"{own}/{suffix}" if suffix else own
            self.nodes.append({"type": kind, "name": name, "inputs": places, "config": config})
            self.node_shapes.append(tensor.sample_shape)
            places = [len(self.nodes) - 1]
        self._last[id(tensor)] = places[0]

    def written_in_python(self) -> str:
        """Return the name of a layer that is, or nothing."""
        for tensor in self.tensors:
            if any(kind == "python" for _, kind, _ in tensor.layer.nodes()):
                return f"layer {self.name_of(tensor.layer)!r}"
        return ""

    def name_of(self, layer: Layer) -> str:
        """Return the name of a layer in this graph."""
        return self._names[id(layer)]

    def named(self, name: str) -> Layer:
        """Return the layer that has a name in this graph."""
        for layer in self.layers:
            if self.name_of(layer) == name:
                return layer
        raise unknown_choice("layer name", name, self._names.values())

    def tensor_of(self, layer: Layer) -> SymbolicTensor:
        """Return the output of a layer."""
        return next(t for t in self.tensors if t.layer is layer)

    def input_layers_of(self, layer: Layer) -> list[Layer]:
        """Return the layers that a layer was called on."""
        return [t.layer for t in self.tensor_of(layer).inputs]

    def shape_of(self, layer: Layer) -> Shape:
        """Return the shape of one output sample of a layer."""
        return self.tensor_of(layer).sample_shape

    @property
    def input_names(self) -> list[str]:
        return [self.name_of(t.layer) for t in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [self.name_of(t.layer) for t in self.outputs]

    @property
    def output_places(self) -> list[int]:
        return [self._last[id(t)] for t in self.outputs]

    def heads(self) -> list[Head]:
        """Return what losses must know of the outputs."""
        heads = []
        for tensor in self.outputs:
            place = self._last[id(tensor)]
            kind = self._kind(place)
            node = self.nodes[place]
            passes = kind in ("linear", "other") or not node["inputs"]
            before = node["name"] if passes else self.nodes[node["inputs"][0]]["name"]
            own = self.name_of(tensor.layer)
            heads.append(Head(own, tensor.sample_shape, node["name"], kind, before))
        return heads

    def activities(self) -> list[Activity]:
        """Return the outputs of layers that are regularised."""
        found = []
        for tensor in self.tensors:
            if (regularizer := tensor.layer.activity()) is not None:
                node = self.nodes[self._last[id(tensor)]]["name"]
                found.append(Activity(node, math.prod(tensor.sample_shape), regularizer))
        return found

    def _kind(self, place: int) -> str:
        node = self.nodes[place]
        if node["type"] == "softmax":
            return "log_softmax" if node["config"]["log"] else "softmax"
        if node["type"] == "activation":
            rule = node["config"]["activation"]
            if rule == "linear" and self._kind(node["inputs"][0]) != "linear":
                return "other"
            return rule if rule in ("linear", "sigmoid", "exponential") else "other"
        if node["type"] in _TRANSPARENT:
            linear = all(self._kind(i) == "linear" for i in node["inputs"])
            return "linear" if linear else "other"
        return "linear"


def _sorted_tensors(
    inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]
) -> list[SymbolicTensor]:
    """Return all tensors on the way from inputs to outputs, each after those it is made of."""
    for tensor in inputs:
        if not isinstance(tensor.layer, InputLayer):
            raise ValueError(
                f"inputs must come from Input(), got the output of layer {tensor.layer.name!r}"
            )
    if len({id(t) for t in inputs}) < len(inputs):
        raise ValueError("an input is given twice")
    if len({id(t) for t in outputs}) < len(outputs):
        raise ValueError("an output is given twice")
    done: dict[int, SymbolicTensor] = {id(t): t for t in inputs}
    stack = list(reversed(outputs))
    while stack:
        tensor = stack[-1]
        waiting = [t for t in tensor.inputs if id(t) not in done]
        if id(tensor) in done or not waiting:
            stack.pop()
            if id(tensor) not in done and not tensor.inputs:
                raise ValueError(
                    f"the outputs depend on input {tensor.layer.name!r} of shape "
                    f"{tensor.sample_shape}, which is not among the model's inputs"
                )
            done.setdefault(id(tensor), tensor)
        else:
            stack.extend(reversed(waiting))
    used = {id(t) for tensor in done.values() for t in tensor.inputs} | {id(t) for t in outputs}
    for tensor in inputs:
        if id(tensor) not in used:
            raise ValueError(f"no output depends on input {tensor.layer.name!r}")
    return list(done.values())


def _check_once(layers: list[Layer]) -> None:
    seen: set[int] = set()
    for layer in layers:
        if id(layer) in seen:
            raise ValueError(
                f"layer {layer.name!r} is used at two places of one model, and parameters are not "
                "shared between places; make another layer"
            )
        seen.add(id(layer))


def numbered(stem: str, taken: set[str]) -> str:
    """Return a name that is not taken: the stem, or the stem with a number."""
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _assign_names(layers: list[Layer], borrowed: list[Layer]) -> dict[int, str]:
    """Return the name of every layer by its id, and tell those that are not borrowed.

    A layer without a name gets that of its class, numbered from the second on; so does a borrowed
    one whose name is taken, with the name of its model in front.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    strange = {id(layer) for layer in borrowed}
    own = [layer for layer in layers if id(layer) not in strange]
    for layer in own:
        if (given := layer._given_name) is not None:
            if given in taken:
                raise ValueError(f"two layers are named {given!r}; names must be unique")
            taken.add(given)
            names[id(layer)] = given
    for layer in borrowed:
        name = layer.name
        if name in taken and (owner := layer.owner) is not None:
            name = numbered(f"{owner.name}_{name}", taken)
        taken.add(name)
        names[id(layer)] = name
    for layer in own:
        if layer._given_name is None:
            layer._assigned_name = None
            name = numbered(layer.name.removesuffix("_layer"), taken)
            layer._assigned_name = name
            taken.add(name)
            names[id(layer)] = name
    return names
