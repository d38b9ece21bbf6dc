# SPDX-License-Identifier: Apache-2.0
"""From connected layers to the list of nodes that the engine compiles."""

from __future__ import annotations

from typing import Any, NamedTuple

from fusednn.layers.base import Layer, Shape, SymbolicTensor
from fusednn.layers.core import InputLayer

# Nodes that pass values on without changing what they mean.
_TRANSPARENT = ("flatten", "dropout", "add", "concatenate")


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


class Graph:
    """Layers in topological order, named, with the engine's nodes they stand for.

    Attributes
    ----------
    layers : list of Layer
    inputs, outputs : list of SymbolicTensor
    nodes : list of dict
        type, name, inputs (places of earlier nodes) and config, as the engine takes them.
    """

    def __init__(self, inputs: list[SymbolicTensor], outputs: list[SymbolicTensor]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.tensors = _sorted_tensors(inputs, outputs)
        self.layers = [tensor.layer for tensor in self.tensors]
        _assign_names(self.layers)
        self.nodes: list[dict[str, Any]] = []
        self._last: dict[int, int] = {}  # id of a tensor -> place of the node that holds it
        for tensor in self.tensors:
            self._lower(tensor)

    def _lower(self, tensor: SymbolicTensor) -> None:
        places = [self._last[id(t)] for t in tensor.inputs]
        for suffix, kind, config in tensor.layer.nodes():
            name = f"{tensor.layer.name}/{suffix}" if suffix else tensor.layer.name
            self.nodes.append({"type": kind, "name": name, "inputs": places, "config": config})
            places = [len(self.nodes) - 1]
        self._last[id(tensor)] = places[0]

    def input_layers_of(self, layer: Layer) -> list[Layer]:
        """Return the layers that a layer was called on."""
        tensor = next(t for t in self.tensors if t.layer is layer)
        return [t.layer for t in tensor.inputs]

    def shape_of(self, layer: Layer) -> Shape:
        """Return the shape of one output sample of a layer."""
        return next(t.sample_shape for t in self.tensors if t.layer is layer)

    @property
    def input_names(self) -> list[str]:
        return [t.layer.name for t in self.inputs]

    @property
    def output_names(self) -> list[str]:
        return [t.layer.name for t in self.outputs]

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
            heads.append(Head(tensor.layer.name, tensor.sample_shape, node["name"], kind, before))
        return heads

    def _kind(self, place: int) -> str:
        node = self.nodes[place]
        if node["type"] == "softmax":
            return "log_softmax" if node["config"]["log"] else "softmax"
        if node["type"] == "activation":
            rule = node["config"]["activation"]
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


def _assign_names(layers: list[Layer]) -> None:
    """Give every layer without a name the name of its class, numbered from the second on."""
    taken: set[str] = set()
    for layer in layers:
        if (given := layer._given_name) is not None:
            if given in taken:
                raise ValueError(f"two layers are named {given!r}; names must be unique")
            taken.add(given)
    for layer in layers:
        if layer._given_name is None:
            layer._assigned_name = None
            stem = layer.name.removesuffix("_layer")
            name, number = stem, 0
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            layer._assigned_name = name
            taken.add(name)
