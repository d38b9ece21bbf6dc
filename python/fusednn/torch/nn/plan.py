# SPDX-License-Identifier: Apache-2.0
"""What a chain of layers needs to know of its tensors, read once per shapes, strides and dtype."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusednn import _core
from fusednn.device import queue_of
from fusednn.torch.nn import gate
from fusednn.torch.nn.rules import Rule, parameters_of

Parameters = Sequence["Tensor | None"]  # weight and bias of each layer; a bias may be None

_CONTIGUOUS = torch.contiguous_format
_MOST_PLANS = 512  # of shapes seen; a caller with ever new ones must not fill memory
_plans: dict[tuple, Plan | None] = {}


class Plan:
    """The compiled chain for one set of shapes, and calls that turn tensors into addresses."""

    __slots__ = ("chain", "keeps_y", "kept", "precision", "remakes", "y_shape")

    def __init__(
        self, chain: _core.Chain, precision: str, x: Tensor, parameters: Parameters
    ) -> None:
        self.chain = chain
        self.precision = precision
        self.kept = chain.kept
        self.remakes = chain.remakes
        self.keeps_y = chain.reads_y
        last = parameters[-2]
        assert last is not None
        self.y_shape = (x.shape[0], last.shape[0])

    def forward(
        self, x: Tensor, parameters: Parameters, *, keeps: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output, and what the backward pass reads besides, if it is to be kept."""
        y = x.new_empty(self.y_shape)
        kept = x.new_empty(self.kept)
        addresses = [x.data_ptr(), kept.data_ptr(), y.data_ptr()]
        addresses += [0 if p is None else p.data_ptr() for p in parameters]
        self.chain.forward(addresses, keeps=keeps, **_queue(x))
        return y, None if self.remakes or not keeps else kept

    def backward(
        self, saved: Sequence[Tensor | None], parameters: Parameters, wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradients of x and the parameters. `saved`: x, kept, y, and dy at last."""
        x, kept = saved[:2]
        assert x is not None
        if self.remakes:
            kept = x.new_empty(self.kept)
        addresses = [0 if t is None else t.data_ptr() for t in (x, kept, *saved[2:])]
        addresses += [0 if p is None else p.data_ptr() for p in parameters]
        # Where a tensor has gaps its gradient has none, so the shortest way does not serve all.
        gradients = [
            None if not wants or t is None else torch.empty_like(t, memory_format=_CONTIGUOUS)
            for t, wants in zip((x, *parameters), wanted, strict=True)
        ]
        if self.y_shape[0] == 0:
            return [None if g is None else g.zero_() for g in gradients]
        places = [0 if g is None else g.data_ptr() for g in gradients]
        self.chain.backward(addresses, places, **_queue(x))
        return gradients


def _queue(x: Tensor) -> dict[str, int]:
    """Return where a call runs: on torch's current stream, if x is on a device."""
    return {} if x.is_cpu else {"queue": queue_of(x)}


def plan_of(
    x: Tensor, parameters: Parameters, rules: tuple[Rule, ...], precision: str = ""
) -> Plan | None:
    """Return how to run a chain on a matrix x, or None where that is left to torch."""
    dtype, device = x.dtype, x.device
    key: list = [rules, precision, dtype, device, x.shape, x.stride(), _core.num_threads()]
    for p in parameters:
        if p is None:
            key.append(None)
        elif p.dtype is dtype and p.device == device and gate.is_plain(p, on_device=True):
            key.append(p.shape)
            key.append(p.stride())
        else:
            return None
    known = tuple(key)
    try:
        return _plans[known]
    except KeyError:
        pass
    if len(_plans) >= _MOST_PLANS:
        _plans.clear()
    plan = _plans[known] = _new_plan(x, parameters, rules, precision)
    return plan


def _new_plan(
    x: Tensor, parameters: Parameters, rules: tuple[Rule, ...], precision: str
) -> Plan | None:
    name = gate.NAMES[x.dtype]
    if not _rows_are_dense(x) or (precision and name != "float32"):
        return None
    width = x.shape[1]
    layers = []
    for weight, bias, rule in zip(parameters[::2], parameters[1::2], rules, strict=True):
        if weight is None or not _rows_are_dense(weight) or weight.shape[1] != width:
            return None
        width = weight.shape[0]
        if bias is not None and (bias.shape != (width,) or not bias.is_contiguous()):
            return None
        stride = _row_stride(weight)
        if stride < weight.shape[1]:  # expanded: rows share their memory
            return None
        layers.append((weight.shape[1], width, stride, rule[0], parameters_of(rule)))
    stride = _row_stride(x)
    made = _core.Chain(name, x.shape[0], stride, layers, x.device.type, precision)
    return Plan(made, precision, x, parameters)


def _rows_are_dense(matrix: Tensor) -> bool:
    if matrix.dim() != 2 or matrix.shape[1] == 0:
        return False
    return matrix.shape[1] == 1 or matrix.stride(1) == 1


def _row_stride(matrix: Tensor) -> int:
    return matrix.stride(0) if matrix.shape[0] > 1 else matrix.shape[1]
