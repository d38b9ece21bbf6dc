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


def chain(x: Tensor, parameters: Parameters, rules: tuple[Rule, ...]) -> Tensor:
    """Return the last layer's activation for x of shape (..., in).

    `parameters` are the weight, as (out, in), and the bias or None of each layer.
    """
    if torch.compiler.is_compiling():
        return _traced(x, parameters, rules)
    if x.dim() == 2 and gate.nobody_watches() and gate.is_plain(x, on_device=True):
        plan = plan_of(x, parameters, rules)
        if plan is None and not x.is_contiguous():
            x = x.contiguous()
            plan = plan_of(x, parameters, rules)
        if plan is not None:
            if torch.is_grad_enabled() and _any_requires_grad(x, parameters):
                return _Chain.apply(plan, rules, x, *parameters)
            return plan.forward(x, parameters)[0]
    elif x.dim() > 2:
        y = chain(x.flatten(0, -2), parameters, rules)
        return y.unflatten(0, x.shape[:-1])
    elif x.dim() == 1:
        return chain(x.unsqueeze(0), parameters, rules).squeeze(0)
    return composite(x, parameters, rules)


def composite(x: Tensor, parameters: Parameters, rules: tuple[Rule, ...]) -> Tensor:
    """Return the same in torch's own operations."""
    for i, rule in enumerate(rules):
        weight = parameters[2 * i]
        assert weight is not None
        x = activate(F.linear(x, weight, parameters[2 * i + 1]), rule)
    return x


def composite_gradients(
    inputs: Sequence[Tensor | None], rules: tuple[Rule, ...], wanted: Sequence[bool], dy: Tensor
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
        y = composite(x, parameters, rules)
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
            return None, None, *composite_gradients([x, *parameters], ctx.rules, wanted, dy)
        if not dy.is_contiguous():
            dy = dy.contiguous()
        return None, None, *ctx.plan.backward((x, kept, y, dy), parameters, wanted)


def _traced(x: Tensor, parameters: Parameters, rules: tuple[Rule, ...]) -> Tensor:
    given = [p for p in parameters if p is not None]
    if not gate.traces_fused([x, *given]):
        return composite(x, parameters, rules)
    text = to_text(rules, [p is not None for p in parameters[1::2]])
    matrix = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
    y = torch.ops.fusednn.chain(matrix, given, text)[0]
    return y if x.dim() == 2 else y.reshape(*x.shape[:-1], y.shape[-1])
