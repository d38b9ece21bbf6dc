# SPDX-License-Identifier: Apache-2.0
"""The operators ``fusednn::chain`` and ``fusednn::cross_entropy``, for compilation and export.

Each has a fake kernel, which says what comes out without computing it, and a formula for its
gradients. In eager mode nothing goes this way, because an operator written in Python costs more
than a small network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusednn.torch.nn import chain, cross_entropy
from fusednn.torch.nn.plan import Plan, plan_of
from fusednn.torch.nn.rules import from_text, saves_input


def _layers(parameters: list[Tensor], text: str) -> tuple[list[Tensor | None], tuple]:
    """Parameters with None where there is no bias, and the rules of the layers."""
    rules, with_bias = from_text(text)
    given = iter(parameters)
    listed: list[Tensor | None] = []
    for bias in with_bias:
        listed.append(next(given))
        listed.append(next(given) if bias else None)
    return listed, rules


def _prepared(
    x: Tensor, parameters: list[Tensor], layers: str
) -> tuple[Plan, Tensor, list[Tensor | None]]:
    """How to run the layers, with x and the parameters as the kernels want them."""
    listed, rules = _layers(parameters, layers)
    listed = [None if t is None else t.contiguous() for t in listed]
    x = x.contiguous()
    plan = plan_of(x, listed, rules)
    if plan is None:
        shapes = [None if p is None else tuple(p.shape) for p in listed]
        raise ValueError(
            f"fusednn::chain: x of shape {tuple(x.shape)} and dtype {x.dtype} does not fit "
            f"parameters of shapes {shapes}; expected matrices of one dtype, float32 or float64"
        )
    return plan, x, listed


@torch.library.custom_op(
    "fusednn::chain",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor x, Tensor[] parameters, str layers) -> (Tensor, Tensor)",
)
def chain_operator(x: Tensor, parameters: list[Tensor], layers: str) -> tuple[Tensor, Tensor]:
    """Return the output, and what the backward pass reads besides."""
    plan, x, listed = _prepared(x, parameters, layers)
    return plan.forward(x, listed)


@chain_operator.register_fake
def _(x: Tensor, parameters: list[Tensor], layers: str) -> tuple[Tensor, Tensor]:
    listed, rules = _layers(parameters, layers)
    rows, kept = x.shape[0], 0
    widths = [weight.shape[0] for weight in listed[::2] if weight is not None]
    for i, (width, rule) in enumerate(zip(widths, rules, strict=True)):
        blocks = (i + 1 < len(widths)) + saves_input(rule)
        kept += blocks * rows * width  # as engine/chain.cpp lays them out
    return x.new_empty((rows, widths[-1])), x.new_empty((kept,))


@torch.library.custom_op(
    "fusednn::chain_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor dy, Tensor x, Tensor kept, Tensor y, Tensor[] parameters, str layers, "
    "bool[] wanted) -> Tensor[]",
)
def chain_backward_operator(
    dy: Tensor,
    x: Tensor,
    kept: Tensor,
    y: Tensor,
    parameters: list[Tensor],
    layers: str,
    wanted: list[bool],
) -> list[Tensor]:
    """Return the wanted gradients of x and the parameters, in this order."""
    plan, x, listed = _prepared(x, parameters, layers)
    places = [0, *(i + 1 for i, p in enumerate(listed) if p is not None)]
    wants = [False] * (1 + len(listed))
    for place, want in zip(places, wanted, strict=True):
        wants[place] = want
    saved = (x, kept, y, dy.contiguous())
    gradients = plan.backward(saved, listed, wants)
    return [g for g in gradients if g is not None]


@chain_backward_operator.register_fake
def _(_: Tensor, x: Tensor, *others: Any) -> list[Tensor]:
    _, _, parameters, _, wanted = others
    inputs = zip([x, *parameters], wanted, strict=True)
    return [t.new_empty(t.shape) for t, want in inputs if want]


def _save_chain(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    x, parameters, layers = inputs
    y, kept = output
    ctx.layers = layers
    ctx.save_for_backward(x, kept, y, *parameters)


def _chain_gradients(ctx: Any, dy: Tensor, _: Tensor) -> tuple:
    x, kept, y, *parameters = ctx.saved_tensors
    wanted = [ctx.needs_input_grad[0], *ctx.needs_input_grad[1]]
    if torch.is_grad_enabled():
        listed, rules = _layers(parameters, ctx.layers)
        wants = iter(wanted)
        wide = [t is not None and next(wants) for t in (x, *listed)]
        all_found = chain.composite_gradients([x, *listed], rules, wide, dy)
        pairs = zip(all_found, (x, *listed), strict=True)
        gradients = [g for g, t in pairs if t is not None]
    else:
        found = iter(
            torch.ops.fusednn.chain_backward(dy, x, kept, y, parameters, ctx.layers, wanted)
        )
        gradients = [next(found) if want else None for want in wanted]
    return gradients[0], gradients[1:], None


chain_operator.register_autograd(_chain_gradients, setup_context=_save_chain)


@torch.library.custom_op(
    "fusednn::cross_entropy",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor logits, Tensor target, Tensor? weight, str reduction, int ignore_index, "
    "float label_smoothing) -> (Tensor, Tensor)",
)
def cross_entropy_operator(
    logits: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient."""
    options = cross_entropy.Options(reduction, ignore_index, label_smoothing)
    logits, weight = logits.contiguous(), None if weight is None else weight.contiguous()
    if not cross_entropy.fits(logits, target, weight, options):
        shapes = [None if t is None else tuple(t.shape) for t in (logits, target, weight)]
        raise ValueError(
            f"fusednn::cross_entropy: logits, target and weight of shapes {shapes} do not fit, or "
            f"their dtypes do not, or {options} is not valid"
        )
    loss, gradient = cross_entropy.evaluate(logits, target, weight, options, True)
    assert gradient is not None
    return loss, gradient


@cross_entropy_operator.register_fake
def _(logits: Tensor, _: Tensor, __: Any, reduction: str, *options: Any) -> tuple[Tensor, Tensor]:
    shape = (logits.shape[0],) if reduction == "none" else ()
    return logits.new_empty(shape), logits.new_empty(logits.shape)


def _save_cross_entropy(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    logits, target, weight, *options = inputs
    ctx.options = cross_entropy.Options(*options)
    ctx.save_for_backward(logits, target, weight, output[1])


def _cross_entropy_gradients(ctx: Any, dloss: Tensor, _: Tensor) -> tuple:
    logits, target, weight, gradient = ctx.saved_tensors
    if torch.is_grad_enabled():
        found = cross_entropy.composite_gradient(logits, target, weight, ctx.options, dloss)
    else:
        found = gradient * (dloss.unsqueeze(-1) if dloss.dim() else dloss)
    return found, None, None, None, None, None


cross_entropy_operator.register_autograd(
    _cross_entropy_gradients, setup_context=_save_cross_entropy
)
