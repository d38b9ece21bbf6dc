# SPDX-License-Identifier: Apache-2.0
"""Linear layers with their activations, one after the other, as one node of autograd.

A call goes one of three ways, which compute the same:

- plain tensors of the CPU or the CUDA device: one compiled call forward, one backward (`_Chain`);
- under ``torch.compile`` and ``torch.export``: the operator ``fusednn::chain`` (`operators`);
- everything else: torch's own operations (`composite`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fusednn.torch.nn import gate
from fusednn.torch.nn.plan import Parameters, Plan, plan_of
from fusednn.torch.nn.rules import Rule, activate, to_text


def chain(
    x: Tensor, parameters: Parameters, rules: tuple[Rule, ...], precision: str = ""
) -> Tensor:
    """Return the last layer's activation for x of shape (..., in).

    `parameters` are the weight, as (out, in), and the bias or None of each layer. `precision` is
    "bfloat16" where the operands of products are rounded to it, else empty.
    """
    if torch.compiler.is_compiling():
        return _traced(x, parameters, rules, precision)
    if x.dim() == 2 and gate.nobody_watches() and gate.is_plain(x, on_device=True):
        plan = plan_of(x, parameters, rules, precision)
        if plan is None and not x.is_contiguous():
            x = x.contiguous()
            plan = plan_of(x, parameters, rules, precision)
        if plan is not None:
            if torch.is_grad_enabled() and _any_requires_grad(x, parameters):
                return _Chain.apply(plan, rules, x, *parameters)
            return plan.forward(x, parameters, keeps=False)[0]
    elif x.dim() > 2:
        y = chain(x.flatten(0, -2), parameters, rules, precision)
        return y.unflatten(0, x.shape[:-1])
    elif x.dim() == 1:
        return chain(x.unsqueeze(0), parameters, rules, precision).squeeze(0)
    return composite(x, parameters, rules, precision)


def composite(
    x: Tensor, parameters: Parameters, rules: tuple[Rule, ...], precision: str = ""
) -> Tensor:
    """Return the same in torch's own operations."""
    for i, rule in enumerate(rules):
        weight = parameters[2 * i]
        assert weight is not None
        if precision:
            x, weight = (t.to(getattr(torch, precision)).to(t.dtype) for t in (x, weight))
        x = activate(F.linear(x, weight, parameters[2 * i + 1]), rule)
    return x


def composite_gradients(
    inputs: Sequence[Tensor | None],
    rules: tuple[Rule, ...],
    wanted: Sequence[bool],
    dy: Tensor,
    precision: str = "",
) -> list[Tensor | None]:
    """Return the gradients of x and the parameters by torch, in a graph if grad mode asks for it.

    Each input takes part under a name of its own: one that is there twice has two gradients.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [
            t if t is None or not w else t.view_as(t) if graph else t.detach().requires_grad_()
            for t, w in zip(inputs, wanted, strict=True)
        ]
        x, *parameters = own
        assert x is not None
        y = composite(x, parameters, rules, precision)
    leaves = [t for t, w in zip(own, wanted, strict=True) if w and t is not None]
    found = iter(torch.autograd.grad(y, leaves, dy, create_graph=graph))
    return [next(found) if w else None for w in wanted]


def _any_requires_grad(x: Tensor, parameters: Parameters) -> bool:
    return x.requires_grad or any(p is not None and p.requires_grad for p in parameters)


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, rules: tuple[Rule, ...], x: Tensor, *parameters: Tensor | None
    ) -> Tensor:
        y, kept = plan.forward(x, parameters)
        ctx.plan = plan
        ctx.rules = rules
        ctx.save_for_backward(x, kept, y if plan.keeps_y else None, *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple:
        x, kept, y, *parameters = ctx.saved_tensors
        wanted = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or not gate.takes_addresses(dy, on_device=True):
            inputs = [x, *parameters]
            precision = ctx.plan.precision
            return None, None, *composite_gradients(inputs, ctx.rules, wanted, dy, precision)
        if not dy.is_contiguous():
            dy = dy.contiguous()
        return None, None, *ctx.plan.backward((x, kept, y, dy), parameters, wanted)


def _traced(x: Tensor, parameters: Parameters, rules: tuple[Rule, ...], precision: str) -> Tensor:
    given = [p for p in parameters if p is not None]
    if precision or not gate.traces_fused([x, *given]):
        return composite(x, parameters, rules, precision)
    text = to_text(rules, [p is not None for p in parameters[1::2]])
    matrix = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    y = torch.ops.fusednn.chain(matrix, given, text)[0]
    return y if x.dim() == 2 else y.reshape(*x.shape[:-1], y.shape[-1])
