# SPDX-License-Identifier: Apache-2.0
"""Softmax cross-entropy with torch's semantics, value and gradient in one pass over the logits."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from fusednn import _core
from fusednn.torch.nn import gate

_MOST_CLASSES = 1 << 24  # labels are compared as float32
_REDUCTIONS = ("none", "mean", "sum")


class Options(NamedTuple):
    """What `fused_cross_entropy` takes beside tensors."""

    reduction: str
    ignore_index: int
    label_smoothing: float


def fused_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""Return ``torch.nn.functional.cross_entropy``, with the gradient computed in the same pass.

    .. math::
        l_n = -\sum_c w_c \, t_{nc} \log \mathrm{softmax}(x_n)_c

    where t is the target distribution: the class as one-hot, or probabilities, mixed with the
    uniform distribution by `label_smoothing`. "mean" divides by the sum of the weights of the
    labels that are not ignored, or by the number of rows where the target is probabilities.

    Parameters
    ----------
    input : Tensor, shape (C,), (N, C) or (N, C, d1, ...)
        Logits.
    target : Tensor
        Classes, int64 of shape (), (N,) or (N, d1, ...), or probabilities shaped as the input.
    weight : Tensor, shape (C,), optional
        A factor for each class.
    ignore_index : int
        Rows with this class count for nothing.
    reduction : {"mean", "sum", "none"}
    label_smoothing : float, in [0, 1]

    Returns
    -------
    Tensor
        One number, or one per row with ``reduction="none"``.

    Notes
    -----
    float32 and float64 tensors in host memory are served by one compiled call; everything else,
    and second derivatives, by torch itself. The same arguments raise the same errors.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.nn import fused_cross_entropy
    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 0.0]], requires_grad=True)
    >>> fused_cross_entropy(logits, torch.tensor([0, 1]))
    tensor(0.4100, grad_fn=<_CrossEntropyBackward>)
    """
    options = Options(reduction, ignore_index, label_smoothing)
    if torch.compiler.is_compiling():
        return _traced(input, target, weight, options)
    if input.dim() == 2 and gate.nobody_watches() and fits(input, target, weight, options):
        if not (input.stride(1) == 1 or input.shape[1] == 1):
            input = input.contiguous()
        if torch.is_grad_enabled() and input.requires_grad:
            return _CrossEntropy.apply(input, target, weight, options)
        return evaluate(input, target, weight, options, False)[0]
    if _is_long(input, target):
        return _of_rows(input, target, weight, options)
    return composite(input, target, weight, options)


def composite(input: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    """Return the same by torch."""
    return F.cross_entropy(
        input,
        target,
        weight,
        ignore_index=options.ignore_index,
        reduction=options.reduction,
        label_smoothing=options.label_smoothing,
    )


def composite_gradient(
    input: Tensor, target: Tensor, weight: Tensor | None, options: Options, dloss: Tensor
) -> Tensor:
    """Return the gradient of the logits by torch, in a graph where grad mode asks for it."""
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        x = input.view_as(input) if graph else input.detach().requires_grad_()
        loss = composite(x, target, weight, options)
    return torch.autograd.grad(loss, x, dloss, create_graph=graph)[0]


def evaluate(
    logits: Tensor, target: Tensor, weight: Tensor | None, options: Options, with_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the loss, and its gradient where it is wanted, of tensors for which `fits` holds."""
    rows, classes = logits.shape
    dtype = logits.dtype
    target = target.contiguous()
    shape = (rows,) if options.reduction == "none" else ()
    loss = torch.empty(shape, dtype=dtype, device=gate.CPU)
    gradient = torch.empty((rows, classes), dtype=dtype, device=gate.CPU) if with_gradient else None
    labels, probabilities = target.data_ptr(), 0
    if target.dim() == 2:
        labels, probabilities = 0, labels
    _core.cross_entropy(
        gate.NAMES[dtype],
        (rows, classes, logits.stride(0), classes),
        [
            logits.data_ptr(),
            labels,
            probabilities,
            0 if weight is None else weight.data_ptr(),
            loss.data_ptr(),
            0 if gradient is None else gradient.data_ptr(),
        ],
        options.reduction,
        options.ignore_index,
        options.label_smoothing,
    )
    return loss, gradient


class _CrossEntropy(torch.autograd.Function):
    """Hands the gradient over at the first backward, and computes it anew at a second one."""

    @staticmethod
    def forward(
        ctx: Any, input: Tensor, target: Tensor, weight: Tensor | None, options: Options
    ) -> Tensor:
        loss, ctx.gradient = evaluate(input, target, weight, options, True)
        ctx.options = options
        ctx.save_for_backward(input, target, weight)
        return loss

    @staticmethod
    def backward(ctx: Any, dloss: Tensor) -> tuple:
        if torch.is_grad_enabled() or not gate.takes_addresses(dloss):
            input, target, weight = ctx.saved_tensors
            found = composite_gradient(input, target, weight, ctx.options, dloss)
            return found, None, None, None
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            input, target, weight = ctx.saved_tensors
            gradient = evaluate(input, target, weight, ctx.options, True)[1]
        if dloss.dim() == 1:
            gradient.mul_(dloss.unsqueeze(-1))
        elif dloss.item() != 1:
            gradient.mul_(dloss)
        return gradient, None, None, None


def fits(input: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> bool:
    """Whether the compiled path takes these, with logits of shape (N, C)."""
    if not (gate.is_plain(input) and type(target) is Tensor and target.is_cpu):
        return False
    classes = input.shape[1]
    if not 1 <= classes < _MOST_CLASSES or target.layout is not torch.strided:
        return False
    if target.dtype is torch.int64:
        if target.shape != input.shape[:1]:
            return False
    elif (
        target.dtype is not input.dtype
        or target.shape != input.shape
        or target.requires_grad
        or options.ignore_index >= 0
    ):
        return False
    if weight is not None and not (
        gate.is_plain(weight)
        and weight.dtype is input.dtype
        and weight.shape == (classes,)
        and weight.is_contiguous()
        and not weight.requires_grad
    ):
        return False
    return options.reduction in _REDUCTIONS and 0 <= options.label_smoothing <= 1


def _is_long(input: Tensor, target: Tensor) -> bool:
    """Whether classes lie along axis 1 of more than two, and the target fits."""
    if input.dim() < 3 or not isinstance(target, Tensor):
        return False
    return target.shape in (input.shape, input.shape[:1] + input.shape[2:])


def _of_rows(input: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    """The loss of (N, C, d1, ...) through that of (N d1 ..., C)."""
    rows = input.movedim(1, -1)
    targets = (
        target.movedim(1, -1).flatten(0, -2) if target.dim() == input.dim() else target.flatten()
    )
    loss = fused_cross_entropy(rows.flatten(0, -2), targets, weight, **options._asdict())
    return loss.reshape(rows.shape[:-1]) if options.reduction == "none" else loss


def _traced(input: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    given = [input] if weight is None else [input, weight]
    labels = target.dtype == torch.int64 and target.dim() == 1
    if (
        input.dim() != 2
        or not labels
        or target.device.type != "cpu"
        or (weight is not None and weight.requires_grad)
        or not gate.traces_fused(given)
    ):
        return composite(input, target, weight, options)
    return torch.ops.fusednn.cross_entropy(input, target, weight, *options)[0]
