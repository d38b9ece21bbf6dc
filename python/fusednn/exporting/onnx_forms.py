# SPDX-License-Identifier: Apache-2.0
"""Activations in the operators of ONNX: written by the exporter, recognised by the reader.

A form is an expression of operators over the input `X`, numbers, and parameters of the activation.
The first form of an activation is an operator of its own where opset 17 has one. Those that
onnxruntime computes in float32 alone stand in `SINGLE`; for float64 the first form without them is
written. The reader knows all forms, those of other exporters included.

>>> from fusednn.exporting.onnx_forms import FORMS
>>> [form.operator for form in FORMS["elu"]]
['Elu', 'Add']
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Parameter:
    """A parameter of the activation, by its name."""

    name: str


class _Input:
    """What the activation is applied to."""


X = _Input()


@dataclass(frozen=True, eq=False)
class Form:
    """An operator, what it is applied to, and its attributes (numbers or parameters)."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def _form(operator: str, *inputs: Any, **attributes: Any) -> Form:
    return Form(operator, inputs, attributes)


def _one_plus(x: Any) -> Form:
    return _form("Add", x, 1.0)


def _elu(alpha: Any) -> Form:
    below = _form("Sub", _form("Exp", _form("Min", X, 0.0)), 1.0)
    return _form("Add", _form("Relu", X), _form("Mul", below, alpha))


def _selu() -> Form:
    return _form("Mul", _elu(1.6732632423543772), 1.0507009873554805)


def _gelu(erf: Form) -> Form:
    return _form("Mul", _form("Mul", X, _one_plus(erf)), 0.5)


def _erf_in(*types: Any) -> Form:
    """Return erf(x / sqrt 2), in float32 where types say so: onnxruntime has no other."""
    scaled = _form("Div", X, math.sqrt(2.0))
    if not types:
        return _form("Erf", scaled)
    single, double = types
    return _form("Cast", _form("Erf", _form("Cast", scaled, to=single)), to=double)


def _gelu_tanh() -> Form:
    cubic = _form("Mul", _form("Pow", X, 3.0), 0.044715)
    bent = _form("Tanh", _form("Mul", _form("Add", X, cubic), math.sqrt(2.0 / math.pi)))
    return _form("Mul", _form("Mul", X, 0.5), _one_plus(bent))


def _softplus(x: Any) -> Form:
    """Return log(1 + exp(x)) in a way that cannot overflow."""
    small = _form("Exp", _form("Neg", _form("Abs", x)))
    return _form("Add", _form("Relu", x), _form("Log", _one_plus(small)))


def _hard_sigmoid() -> Form:
    return _form("Div", _form("Clip", _form("Add", X, 3.0), 0.0, 6.0), 6.0)


# What the layer Rescaling does.
RESCALING = _form("Add", _form("Mul", X, Parameter("scale")), Parameter("offset"))

_FLOAT, _DOUBLE = 1, 11  # how ONNX numbers the types
_SIXTH = {"alpha": 1.0 / 6.0, "beta": 0.5}
_MINUS_X = _form("Neg", X)

FORMS: dict[str, list[Form]] = {
    "relu": [_form("Relu", X)],
    "leaky_relu": [
        _form("LeakyRelu", X, alpha=Parameter("negative_slope")),
        _form("PRelu", X, Parameter("negative_slope")),
    ],
    "elu": [_form("Elu", X, alpha=Parameter("alpha")), _elu(Parameter("alpha"))],
    "selu": [_form("Selu", X, alpha=1.6732632423543772, gamma=1.0507009873554805), _selu()],
    "gelu": [_gelu(_erf_in()), _gelu(_erf_in(_FLOAT, _DOUBLE)), _form("Gelu", X)],
    "gelu_tanh": [_gelu_tanh(), _form("Gelu", X, approximate="tanh")],
    # Not x times Sigmoid, whose tail some runtimes cut off: x makes it visible.
    "silu": [
        _form("Div", X, _one_plus(_form("Exp", _MINUS_X))),
        _form("Mul", X, _form("Sigmoid", X)),
    ],
    "sigmoid": [_form("Sigmoid", X)],
    "hard_sigmoid": [_form("HardSigmoid", X, **_SIXTH), _hard_sigmoid()],
    "tanh": [_form("Tanh", X)],
    "softplus": [_form("Softplus", X), _softplus(X)],
    "softsign": [_form("Softsign", X), _form("Div", X, _one_plus(_form("Abs", X)))],
    "mish": [
        _form("Mul", X, _form("Tanh", _form("Softplus", X))),
        _form("Mul", X, _form("Tanh", _softplus(X))),
        _form("Mish", X),
    ],
    "relu6": [_form("Clip", X, 0.0, 6.0)],
    "hard_swish": [_form("HardSwish", X), _form("Mul", X, _hard_sigmoid())],
    "exponential": [_form("Exp", X)],
    "log_sigmoid": [
        _form("Neg", _form("Softplus", _MINUS_X)),
        _form("Neg", _softplus(_MINUS_X)),
        _form("Log", _form("Sigmoid", X)),
    ],
    "softmax": [_form("Softmax", X, axis=-1)],
    "log_softmax": [_form("LogSoftmax", X, axis=-1)],
}  # fmt: skip

# LeakyRelu has a float64 kernel, but its slope is a float32 attribute.
SINGLE = frozenset({"Elu", "HardSigmoid", "HardSwish", "LeakyRelu", "Selu", "Softplus", "Softsign"})


def _operators(form: Form) -> Iterator[str]:
    yield form.operator
    for operand in form.inputs:
        if isinstance(operand, Form):
            yield from _operators(operand)


def form_for(activation: str, dtype: np.dtype) -> Form:
    """Return the form that is written for a model of this dtype."""
    forms = FORMS[activation]
    if dtype == np.float32:
        return forms[0]
    return next(f for f in forms if _runs_in_double(f))


def _runs_in_double(form: Form) -> bool:
    """Whether onnxruntime has all operators of a form in float64."""
    used = set(_operators(form))
    return not used & SINGLE and ("Erf" not in used or "Cast" in used)
