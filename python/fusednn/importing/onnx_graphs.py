# SPDX-License-Identifier: Apache-2.0
"""The graph of an ONNX file, asked by the names of its tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fusednn.activations import Activation
from fusednn.exporting.onnx_forms import FORMS, Form, Parameter, X

# Softmax and others meant something else before.
LOWEST_OPSET = 13
_DOMAINS = ("", "ai.onnx")
_COMMUTATIVE = ("Add", "Mul")


def describe(node: Any) -> str:
    """Return how an error calls a node."""
    return f"operator {node.op_type} that makes {node.output[0]!r}"


def refuse_other_files(tensor: Any) -> None:
    """Raise ValueError for an array that lies in another file."""
    if tensor.data_location == tensor.EXTERNAL:
        raise ValueError(f"its array {tensor.name!r} lies in another file, which is not read")


class Match(NamedTuple):
    """What the input and the parameters of a form turned out to be, as far as known."""

    x: str | None
    values: dict[str, float]

    def with_value(self, wanted: Any, given: Any) -> Match | None:
        """Return what is known after a number or a parameter of the form met one of the file."""
        if isinstance(wanted, Parameter):
            value = float(given)
            known = self.values.setdefault(wanted.name, value)
            return self if known == value else None
        if isinstance(wanted, str):
            return self if wanted == given else None
        return self if math.isclose(wanted, given, rel_tol=1e-6) else None


class OnnxGraph:
    """Nodes by what they make, constants and shapes by name.

    Parameters
    ----------
    onnx : module
    file : onnx.ModelProto
        Checked already.

    Attributes
    ----------
    makers : dict of str to NodeProto
        The node that makes a tensor.
    order : dict of str to int
        Its place.
    constants : dict of str to array
    shapes : dict of str to list
        With None where a size is not a number.
    inputs, outputs : list of ValueInfoProto
    """

    def __init__(self, onnx: Any, file: Any) -> None:
        self._onnx = onnx
        opsets = {entry.domain: entry.version for entry in file.opset_import}
        self._opset = max(opsets.get(domain, 0) for domain in _DOMAINS)
        highest = onnx.defs.onnx_opset_version()
        if not LOWEST_OPSET <= self._opset <= highest:
            raise ValueError(f"its opset is {self._opset}, not {LOWEST_OPSET} to {highest}")
        graph = onnx.shape_inference.infer_shapes(file, strict_mode=True).graph
        self.name = graph.name
        self.constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.makers: dict[str, Any] = {}
        self.order: dict[str, int] = {}
        for place, node in enumerate(graph.node):
            if node.domain not in _DOMAINS:
                raise ValueError(f"{describe(node)} is of the domain {node.domain!r}")
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                refuse_other_files(node.attribute[0].t)
                self.constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
                continue
            if node.op_type == "Identity" and node.input[0] in self.constants:
                self.constants[node.output[0]] = self.constants[node.input[0]]
                continue
            for name in filter(None, node.output):  # some leave optional ones out
                self.makers[name] = node
                self.order[name] = place
        self.inputs = [x for x in graph.input if x.name not in self.constants]
        self.outputs = list(graph.output)
        self.shapes = {
            info.name: [d.dim_value or None for d in info.type.tensor_type.shape.dim]
            for info in (*graph.input, *graph.value_info, *graph.output)
        }

    def sample_shape(self, tensor: str) -> tuple[int, ...]:
        """Return the shape of one sample."""
        _, *sizes = self.shapes.get(tensor) or [None]
        if not sizes or not all(sizes):
            raise ValueError(f"the shape of {tensor!r} is not known but for the batch axis")
        return tuple(sizes)  # type: ignore[arg-type]

    def attribute(self, node: Any, name: str) -> Any:
        """Return an attribute of a node, or the operator's default; the last axis is -1."""
        given = next((a for a in node.attribute if a.name == name), None)
        if given is None:
            schema = self._onnx.defs.get_schema(node.op_type, self._opset)
            given = schema.attributes[name].default_value
        value = self._onnx.helper.get_attribute_value(given)
        if name == "axis" and value == len(self.shapes.get(node.output[0], ())) - 1:
            return -1
        return value.decode() if isinstance(value, bytes) else value

    def constant(self, node: Any, place: int) -> np.ndarray:
        """Return the array that an operand of a node is."""
        name = node.input[place] if place < len(node.input) else ""
        if name not in self.constants:
            raise ValueError(f"operand {place} of {describe(node)} is not a constant")
        return self.constants[name]

    # ---- activations ---------------------------------------------------------------------------

    def activation(self, tensor: str) -> tuple[Activation, str] | None:
        """Return the activation that a tensor is, and what it is applied to."""
        for name, forms in FORMS.items():
            for form in forms:
                match = self.form(form, tensor)
                if match is not None and match.x is not None:
                    return Activation(name, **match.values), match.x
        return None

    def form(self, form: Form, tensor: str) -> Match | None:
        """Return how a tensor is what a form says, if it is."""
        return next((m for m in self._matches(form, tensor, Match(None, {})) if m.x), None)

    def _matches(self, form: Form, tensor: str, known: Match) -> Iterator[Match]:
        """Yield every way in which a tensor is what a form says, given what is known."""
        node = self.makers.get(tensor)
        if node is None or node.op_type != form.operator or len(node.input) != len(form.inputs):
            return
        found: Match | None = Match(known.x, dict(known.values))
        for name, wanted in form.attributes.items():
            found = found and found.with_value(wanted, self.attribute(node, name))
        if found is None:
            return
        operands = list(node.input)
        yield from self._operands(form.inputs, operands, found)
        if form.operator in _COMMUTATIVE:
            yield from self._operands(form.inputs, operands[::-1], found)

    def _operands(self, wanted: tuple[Any, ...], given: list[str], known: Match) -> Iterator[Match]:
        if not wanted:
            yield known
            return
        operand, tensor = wanted[0], given[0]
        if operand is X:
            fits = tensor not in self.constants and known.x in (None, tensor)
            firsts = iter([Match(tensor, known.values)] if fits else [])
        elif isinstance(operand, Form):
            firsts = self._matches(operand, tensor, known)
        else:
            firsts = self._numbers(operand, tensor, known)
        for first in firsts:
            yield from self._operands(wanted[1:], given[1:], first)

    def _numbers(self, wanted: Any, tensor: str, known: Match) -> Iterator[Match]:
        value = self.constants.get(tensor)
        if value is not None and value.size == 1:
            found = Match(known.x, dict(known.values)).with_value(wanted, value.item())
            if found is not None:
                yield found
