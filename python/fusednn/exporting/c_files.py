# SPDX-License-Identifier: Apache-2.0
"""Models as one C99 file that needs nothing but the mathematics of the standard library."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

import fusednn
from fusednn import catalog
from fusednn.exporting import c_functions as c
from fusednn.exporting.c_memory import Layout, lay_out
from fusednn.exporting.program import Program, Step, make_program, middle
from fusednn.graph import numbered

if TYPE_CHECKING:
    from fusednn.models import Model

_SAMPLES = 3  # in the self-test
_TOLERANCES = {"float": "1e-5", "double": "1e-12"}
_KINDS = {
    "activation", "add", "batch_normalization", "concatenate", "dense", "flatten", "input",
    "layer_normalization", "resample", "rescaling", "softmax",
}  # fmt: skip


def name_for(stem: str) -> str:
    """Return what the functions of a file are called after where nothing is said."""
    name = _identifier(stem).strip("_")
    return name if name[:1].isalpha() else f"model_{name}".rstrip("_")


def encode(model: Model, name: str) -> str:
    """Return the C file of a model; see ``Model.export``."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is None:
        raise ValueError(
            f"name={name!r} must be letters of ASCII, digits and '_', beginning with a letter"
        )
    program = make_program(model, _KINDS, "a C file")
    return _Writer(program, name).write(_examples(model, program))


def _examples(model: Model, program: Program) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return inputs of a few samples and what the model makes of them."""
    rng = np.random.default_rng(0)
    shapes = [(_SAMPLES, *program.steps[place].shape) for place in program.inputs]
    drawn = [rng.normal(size=shape).astype(program.dtype) for shape in shapes]
    for factor in (1, 0.1, 0.01, 0):  # an exponential may overflow
        inputs = [values * program.dtype.type(factor) for values in drawn]
        found = model.predict(inputs if len(inputs) > 1 else inputs[0])
        outputs = found if isinstance(found, list) else [found]
        if all(np.isfinite(values).all() for values in outputs):
            return inputs, outputs
    raise ValueError(f"model {model.name!r} makes infinities or NaN even of zeros")


def _numbers(values: np.ndarray) -> str:
    """Return values as constants of their own type, which name them exactly."""
    single = values.dtype == np.float32
    texts = [f"{value:.9g}" if single else f"{value:.17g}" for value in values.ravel().tolist()]
    texts = [text if re.search(r"[.e]", text) else f"{text}.0" for text in texts]
    suffix = "f" if single else ""
    rows = [texts[i : i + 8] for i in range(0, len(texts), 8)]
    return ",\n  ".join(", ".join(f"{text}{suffix}" for text in row) for row in rows)


class _Writer:
    """Writes the file of a program."""

    def __init__(self, program: Program, name: str) -> None:
        self._program = _without_flatten(program)
        self._name = name
        self._real = "float" if program.dtype == np.float32 else "double"
        self._layout: Layout = lay_out(self._program)
        self._functions: dict[str, str] = {}
        self._tables: dict[str, str] = {}
        self._calls: list[str] = []
        self._inputs = self._arguments("x", [program.steps[p].layer for p in program.inputs])
        self._outputs = self._arguments("y", [output for output, _ in program.outputs])

    def _arguments(self, letter: str, layers: list[str]) -> list[str]:
        if len(layers) == 1:
            return [letter]
        names: list[str] = []
        for layer in layers:
            names.append(numbered(f"{letter}_{_identifier(layer)}", set(names)))
        return names

    def write(self, examples: tuple[list[np.ndarray], list[np.ndarray]]) -> str:
        for place, step in enumerate(self._program.steps):
            if step.kind != "input":
                self._step(place, step)
        for number, (_, place) in enumerate(self._program.outputs):
            source, target = self._values(place), self._outputs[number]
            if source != target:
                size = self._program.steps[place].size
                self._calls.append(f"memcpy({target}, {source}, {size} * sizeof({self._real}));")
        body = "\n".join(f"  {call}" for call in self._calls)
        memory = ""
        if self._layout.size:
            memory = f"static {self._real} {self._name}_memory[{self._layout.size}];\n\n"
        parts = [
            self._head(),
            *(f"{table}\n" for table in self._tables.values()),
            memory,
            *(f"{function}\n" for function in self._functions.values()),
            f"{self._signature()} {{\n{body}\n}}\n",
            self._self_test(*examples),
        ]
        return "".join(parts)

    def _signature(self) -> str:
        arguments = [f"const {self._real} *{x}" for x in self._inputs]
        arguments += [f"{self._real} *{y}" for y in self._outputs]
        return f"void {self._name}_predict({', '.join(arguments)})"

    def _head(self) -> str:
        def listed(names: list[str], places: list[int]) -> str:
            sizes = [self._program.steps[place].size for place in places]
            return ", ".join(f"{n} {size}" for n, size in zip(names, sizes, strict=True))

        inputs = listed(self._inputs, self._program.inputs)
        outputs = listed(self._outputs, [place for _, place in self._program.outputs])
        memory = self._layout.size * self._program.dtype.itemsize
        weights = sum(v.nbytes for step in self._program.steps for v in step.weights.values())
        macro = f"{self._name.upper()}_SELF_TEST"
        return f"""\
/* Model "{_comment(self._program.name)}", written by fusednn {fusednn.__version__}. C99, needs the
   library of mathematics alone (-lm).

   {self._name}_predict computes one sample. Numbers of values: {inputs}; {outputs}.
   The arrays must not overlap. Weights: {weights} bytes, constant.
   Working memory: {memory} bytes, static, so one call at a time.

   Test of this file: cc -std=c99 -D{macro} {self._name}.c -lm && ./a.out */
#include <math.h>
#include <stddef.h>
#include <string.h>

{self._signature()};

"""

    # ---- steps ---------------------------------------------------------------------------------

    def _values(self, place: int) -> str:
        """Return the array that holds the values of a step, as an expression."""
        array, number = self._layout.places[place]
        if array == "input":
            return self._inputs[number]
        if array == "output":
            return self._outputs[number]
        return f"{self._name}_memory + {number}" if number else f"{self._name}_memory"

    def _table(self, step: Step, parameter: str, values: np.ndarray) -> str:
        name = f"{self._name}_{_identifier(step.layer)}_{parameter}"
        name = numbered(name, set(self._tables))
        self._tables[name] = (
            f"static const {self._real} {name}[{values.size}] = {{\n  {_numbers(values)}}};\n"
        )
        return name

    def _optional_table(self, step: Step, parameter: str) -> str:
        if parameter not in step.weights:
            return "NULL"
        return self._table(step, parameter, step.weights[parameter])

    def _call(self, function: str, text: str, *arguments: object) -> None:
        self._functions.setdefault(function, c.spell(text, self._real, self._name))
        given = ", ".join(map(str, arguments))
        self._calls.append(f"{self._name}_{function}({given});")

    def _step(self, place: int, step: Step) -> None:
        xs = [self._values(i) for i in step.inputs]
        y = self._values(place)
        columns = step.shape[-1]
        rows = step.size // columns
        if step.kind == "dense":
            kernel = step.weights["kernel"]
            table = self._table(step, "kernel", np.ascontiguousarray(kernel.T))
            bias = self._optional_table(step, "bias")
            self._call("dense", c.DENSE, *xs, table, bias, y, rows, *kernel.shape)
        elif step.kind == "activation":
            self._activation(step, xs[0], y)
        elif step.kind == "softmax":
            log = step.config["log"]
            function, text = ("log_softmax", c.LOG_SOFTMAX) if log else ("softmax", c.SOFTMAX)
            self._call(function, text, *xs, y, rows, columns)
        elif step.kind == "batch_normalization":
            scale = self._table(step, "scale", _scale(step, self._program.dtype))
            mean = self._table(step, "mean", step.weights["moving_mean"])
            beta = self._optional_table(step, "beta")
            self._call("batch_norm", c.BATCH_NORM, *xs, mean, scale, beta, y, rows, columns)
        elif step.kind == "layer_normalization":
            gamma, beta = (self._optional_table(step, name) for name in ("gamma", "beta"))
            epsilon = self._number(step.config["epsilon"])
            self._call("layer_norm", c.LAYER_NORM, *xs, gamma, beta, epsilon, y, rows, columns)
        elif step.kind == "rescaling":
            scale, offset = (self._number(step.config[name]) for name in ("scale", "offset"))
            self._call("rescale", c.RESCALE, *xs, scale, offset, y, step.size)
        elif step.kind == "resample":
            self._crop(step, xs[0], y)
        elif step.kind == "add":
            self._add(step, xs, y)
        else:
            self._join(step, xs, y)

    def _number(self, value: float) -> str:
        return _numbers(np.array([value], self._program.dtype))

    def _activation(self, step: Step, x: str, y: str) -> None:
        rule = step.config["activation"]
        parameters = catalog.activations()[rule]
        if rule not in self._functions:
            formal = "".join(f", {self._real} {parameter}" for parameter in parameters)
            body = c.spell(c.ACTIVATIONS[rule], self._real, self._name).replace("\n", "\n  ")
            self._functions[rule] = (
                f"static {self._real} {self._name}_{rule}({self._real} x{formal}) {{\n"
                f"  {body}\n}}\n"
            )
        given = {name: p.default for name, p in parameters.items()} | step.config["parameters"]
        actual = "".join(f", {self._number(given[name])}" for name in parameters)
        source, target = (f"({a})" if " " in a else a for a in (x, y))
        self._calls.append(
            f"for (size_t i = 0; i < {step.size}; ++i) "
            f"{target}[i] = {self._name}_{rule}({source}[i]{actual});"
        )

    def _crop(self, step: Step, x: str, y: str) -> None:
        before = self._program.steps[step.inputs[0]].shape
        (top, _), (left, _) = middle(step, before)
        height, width, *channels = step.shape
        values = math.prod(channels)  # of a pixel
        row = before[1] * values
        first = f"{x} + {top * row + left * values}"
        self._call("crop", c.CROP, first, y, height, width * values, row)

    def _join(self, step: Step, xs: list[str], y: str) -> None:
        rows, offset = step.size // step.shape[-1], 0
        for i, x in zip(step.inputs, xs, strict=True):
            width = self._program.steps[i].size // rows
            target = f"{y} + {offset}" if offset else y
            self._call("join", c.JOIN, x, target, rows, width, step.shape[-1])
            offset += width

    def _add(self, step: Step, xs: list[str], y: str) -> None:
        """Add inputs one by one, beginning with one that lies where the sum goes."""
        first, *others = sorted(xs, key=lambda x: x != y)
        for other in others:
            self._call("add", c.ADD, first, other, y, step.size)
            first = y

    # ---- self-test -----------------------------------------------------------------------------

    def _self_test(self, inputs: list[np.ndarray], outputs: list[np.ndarray]) -> str:
        tables, calls, arguments = [], [], []
        for name, values in zip(self._inputs, inputs, strict=True):
            size = values[0].size
            tables.append(self._test_table(name, values))
            arguments.append(f"{self._name}_test_{name} + sample * {size}")
        checks = []
        for name, values in zip(self._outputs, outputs, strict=True):
            size = values[0].size
            tables.append(self._test_table(name, values))
            calls.append(f"{self._real} {name}[{size}];")
            arguments.append(name)
            expected = f"{self._name}_test_{name} + sample * {size}"
            checks += [
                f"const double error_{name} = {self._name}_compare({name}, {expected}, {size});",
                f"if (!(error_{name} <= worst)) worst = error_{name};",
            ]
        calls.append(f"{self._name}_predict({', '.join(arguments)});")
        return c.spell(
            c.SELF_TEST,
            self._real,
            self._name,
            macro=self._name.upper(),
            tables="\n".join(tables),
            samples=str(_SAMPLES),
            tolerance=_TOLERANCES[self._real],
            calls="\n".join(f"    {line}" for line in calls + checks),
        )

    def _test_table(self, name: str, values: np.ndarray) -> str:
        return (
            f"static const {self._real} {self._name}_test_{name}[{values.size}] = {{\n"
            f"  {_numbers(values)}}};\n"
        )


def _scale(step: Step, dtype: np.dtype) -> np.ndarray:
    """Return gamma / sqrt(variance + epsilon), computed in float64."""
    variance = step.weights["moving_variance"].astype(np.float64)
    gamma = step.weights.get("gamma", np.ones_like(variance))
    return (gamma / np.sqrt(variance + step.config["epsilon"])).astype(dtype)


def _without_flatten(program: Program) -> Program:
    """Return a program without flatten, which moves no values in memory."""
    steps: list[Step] = []
    moved: list[int] = []
    for step in program.steps:
        inputs = tuple(moved[i] for i in step.inputs)
        if step.kind == "flatten":
            moved.append(inputs[0])
            continue
        moved.append(len(steps))
        steps.append(
            Step(step.name, step.layer, step.kind, inputs, step.config, step.weights, step.shape)
        )
    outputs = [(name, moved[place]) for name, place in program.outputs]
    return Program(program.name, program.dtype, steps, outputs)


def _identifier(name: str) -> str:
    """Return a name with everything replaced that C does not allow inside of one."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def _comment(text: str) -> str:
    """Return a text that does not end the comment it stands in."""
    return text.replace("*/", "* /").replace("/*", "/ *")
