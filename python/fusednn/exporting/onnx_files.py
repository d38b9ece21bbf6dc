# SPDX-License-Identifier: Apache-2.0
"""Models as ONNX files: opset 17, IR version 8, as onnxruntime and many others read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import fusednn
from fusednn import catalog
from fusednn.exporting.onnx_forms import RESCALING, Form, Parameter, X, form_for
from fusednn.exporting.program import Program, Step, make_program, middle
from fusednn.layers.base import Shape

if TYPE_CHECKING:
    from fusednn.models import Model

OPSET = 17
IR_VERSION = 8
# protobuf writes no message of more than 2 GiB.
_MOST_BYTES = 2**31 - 2**20


def require_onnx(purpose: str) -> Any:
    """Return the package onnx, or say how to get it."""
    try:
        import onnx
    except ImportError:
        raise ImportError(f"{purpose} needs the package onnx: pip install fusednn[onnx]") from None
    return onnx


class _Writer:
    """Collects the nodes and the constants of a graph."""

    def __init__(self, onnx: Any, program: Program) -> None:
        self._onnx = onnx
        self.dtype = program.dtype
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def constant(self, name: str, value: np.ndarray) -> str:
        """Return the name of an array that belongs to the file."""
        if name not in self.constants:
            array = np.ascontiguousarray(value)
            self.constants[name] = self._onnx.numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a scalar; every value is written once."""
        return self.constant(f"constant/{value!r}", np.array(value, self.dtype))

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add an operator and return what it makes, after which it is called as well."""
        made = self._onnx.helper.make_node(operator, inputs, [output], name=output, **attributes)
        self.nodes.append(made)
        return output

    def form(self, form: Form, x: str, output: str, values: dict[str, float]) -> str:
        """Add an expression over `x`, the operators inside called after what they are part of."""
        attributes = {
            key: values[value.name] if isinstance(value, Parameter) else value
            for key, value in form.attributes.items()
        }
        inputs = []
        for operand in form.inputs:
            if operand is X:
                inputs.append(x)
            elif isinstance(operand, Form):
                name = f"{output}/{operand.operator.lower()}"
                inputs.append(self.form(operand, x, name, values))
            else:
                given = values[operand.name] if isinstance(operand, Parameter) else operand
                inputs.append(self.number(given))
        return self.node(form.operator, inputs, output, **attributes)


def _sizes(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


def _dense(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    kernel = writer.constant(f"{step.name}/kernel", step.weights["kernel"])
    operands = [inputs[0], kernel]
    if "bias" in step.weights:
        bias = writer.constant(f"{step.name}/bias", step.weights["bias"])
        if len(step.shape) == 1:
            return writer.node("Gemm", [*operands, bias], output)
        product = writer.node("MatMul", operands, f"{output}/product")
        return writer.node("Add", [product, bias], output)
    return writer.node("MatMul", operands, output)


def _activation(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    rule = step.config["activation"]
    values = {name: p.default for name, p in catalog.activations()[rule].items()}
    values |= step.config["parameters"]
    return writer.form(form_for(rule, writer.dtype), inputs[0], output, values)


def _softmax(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    rule = "log_softmax" if step.config["log"] else "softmax"
    return writer.form(form_for(rule, writer.dtype), inputs[0], output, {})


def _normalization_weights(writer: _Writer, step: Step) -> list[str]:
    """Return gamma and beta: 1 and 0 where the layer has none."""
    columns = step.shape[-1]
    neutral = {"gamma": np.ones, "beta": np.zeros}
    return [
        writer.constant(f"{step.name}/{name}", step.weights.get(name, make(columns, writer.dtype)))
        for name, make in neutral.items()
    ]


def _batch_norm(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    statistics = [
        writer.constant(f"{step.name}/{name}", step.weights[name])
        for name in ("moving_mean", "moving_variance")
    ]
    constants = [*_normalization_weights(writer, step), *statistics]
    epsilon = step.config["epsilon"]
    if len(step.shape) == 1:
        return writer.node("BatchNormalization", [*inputs, *constants], output, epsilon=epsilon)
    # The operator's features lie along the second axis; as rows, ours do too.
    shape_in = writer.constant(f"{step.name}/rows/shape", _sizes(-1, step.shape[-1]))
    shape_out = writer.constant(f"{step.name}/shape", _sizes(-1, *step.shape))
    rows = writer.node("Reshape", [inputs[0], shape_in], f"{output}/rows")
    normal = writer.node(
        "BatchNormalization", [rows, *constants], f"{output}/normalized", epsilon=epsilon
    )
    return writer.node("Reshape", [normal, shape_out], output)


def _layer_norm(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    constants = _normalization_weights(writer, step)
    epsilon = step.config["epsilon"]
    return writer.node(
        "LayerNormalization", [*inputs, *constants], output, axis=-1, epsilon=epsilon
    )


def _flatten(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    return writer.node("Flatten", inputs, output, axis=1)


def _rescaling(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    return writer.form(RESCALING, inputs[0], output, step.config)


def _crop(writer: _Writer, step: Step, inputs: list[str], before: Shape, output: str) -> str:
    begins, ends = zip(*middle(step, before), strict=True)
    operands = [
        writer.constant(f"{step.name}/{name}", _sizes(*values))
        for name, values in (("begins", begins), ("ends", ends), ("axes", (1, 2)))
    ]
    return writer.node("Slice", [*inputs, *operands], output)


def _add(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    return writer.node("Add" if len(inputs) == 2 else "Sum", inputs, output)


def _concatenate(writer: _Writer, step: Step, inputs: list[str], output: str) -> str:
    return writer.node("Concat", inputs, output, axis=-1)


_STEPS: dict[str, Callable[..., str]] = {
    "activation": _activation,
    "add": _add,
    "batch_normalization": _batch_norm,
    "concatenate": _concatenate,
    "dense": _dense,
    "flatten": _flatten,
    "rescaling": _rescaling,
    "layer_normalization": _layer_norm,
    "softmax": _softmax,
}


def encode(model: Model) -> bytes:
    """Return the ONNX file of a model; see ``Model.export``."""
    onnx = require_onnx("export to ONNX")
    program = make_program(model, {"input", "resample", *_STEPS}, "an ONNX file")
    total = sum(value.nbytes for step in program.steps for value in step.weights.values())
    if total > _MOST_BYTES:
        raise ValueError(f"the weights have {total} bytes; an ONNX file holds at most {2**31}")
    writer = _Writer(onnx, program)
    kind = onnx.helper.np_dtype_to_tensor_dtype(program.dtype)

    def described(name: str, step: Step) -> Any:
        return onnx.helper.make_tensor_value_info(name, kind, ["batch", *step.shape])

    last = {step.layer: place for place, step in enumerate(program.steps)}
    names: list[str] = []
    for place, step in enumerate(program.steps):
        # What a layer makes has its name; what lies between its steps has one under it.
        name = step.layer if last[step.layer] == place else f"{step.layer}/{step.kind}"
        names.append(name)
        inputs = [names[i] for i in step.inputs]
        if step.kind == "resample":
            _crop(writer, step, inputs, program.steps[step.inputs[0]].shape, name)
        elif step.kind != "input":
            _STEPS[step.kind](writer, step, inputs, name)
    outputs = []
    for name, place in program.outputs:
        step = program.steps[place]
        if names[place] != name or step.kind == "input":
            taken = name in names
            name = writer.node("Identity", [names[place]], f"{name}/output" if taken else name)
        outputs.append(described(name, step))
    graph = onnx.helper.make_graph(
        writer.nodes,
        program.name,
        [described(names[place], program.steps[place]) for place in program.inputs],
        outputs,
        list(writer.constants.values()),
    )
    made = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="fusednn",
        producer_version=fusednn.__version__,
    )
    onnx.checker.check_model(made, full_check=True)
    return made.SerializeToString()
