# SPDX-License-Identifier: Apache-2.0
"""Which tensors a kernel may touch, and how they are laid out so that it can."""

from __future__ import annotations

import torch

from fusednn.device import is_ours

PLAIN = (torch.Tensor, torch.nn.Parameter)

DTYPES = (
    torch.float32,
    torch.float64,
    torch.bfloat16,
    torch.float16,
    torch.complex64,
    torch.complex128,
)


def why_not(p: torch.Tensor, gradient: torch.Tensor | None) -> str | None:
    """Return what keeps a kernel from updating a parameter, or None if nothing does."""
    reason = _why_not(p) or (_why_not_dense(p) if gradient is None else None)
    if reason is not None:
        return f"a parameter {reason}"
    if gradient is None:
        return None
    reason = _why_not(gradient)
    if reason is None and gradient.dtype != p.dtype:
        reason = f"is of dtype {gradient.dtype} where the parameter is of {p.dtype}"
    if reason is None and gradient.shape != p.shape:
        reason = f"has shape {tuple(gradient.shape)}, the parameter {tuple(p.shape)}"
    if reason is not None:
        return f"a gradient {reason}"
    reason = _why_not_dense(p)
    return None if reason is None else f"a parameter {reason}"


def _why_not(tensor: torch.Tensor) -> str | None:
    if type(tensor) not in PLAIN:
        return f"is a {type(tensor).__name__}"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return "belongs to a function transform"
    if tensor.layout != torch.strided:
        return f"is of layout {tensor.layout}"
    if tensor.device.type != "cpu" and not is_ours(tensor.device.type, tensor.device.index):
        return f"lies on the device {tensor.device.type!r}"
    if tensor.dtype not in DTYPES:
        return f"is of dtype {tensor.dtype}"
    return None


def _why_not_dense(p: torch.Tensor) -> str | None:
    if p.is_inference():
        return "was made in inference mode"
    if p.is_neg() or p.is_conj():
        return "is a conjugate or negative that PyTorch has not computed yet"
    if not is_dense(p):
        return "has gaps in memory"
    return None


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether it fills one piece of memory, each element once, in whatever order of axes."""
    if tensor.is_contiguous():
        return True
    expected = 1
    axes = zip(tensor.stride(), tensor.shape, strict=True)
    for stride, size in sorted(axis for axis in axes if axis[1] > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def need_own_memory(p: torch.Tensor) -> None:
    """Refuse expanded parameters before anything has changed, in the words of PyTorch."""
    if type(p) in PLAIN and p.layout == torch.strided and torch._debug_has_internal_overlap(p) == 1:
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )


def laid_out_like(
    p: torch.Tensor, tensor: torch.Tensor, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Return a tensor with the values of `tensor` and the layout of `p`, itself where it can."""
    dtype = dtype or tensor.dtype
    if tensor.shape != p.shape:
        raise RuntimeError(
            f"state of shape {tuple(tensor.shape)} belongs to a parameter of shape {tuple(p.shape)}"
        )
    if (
        type(tensor) is torch.Tensor
        and tensor.dtype == dtype
        and tensor.device == p.device
        and tensor.stride() == p.stride()
        and not (tensor.is_neg() or tensor.is_conj() or tensor._is_zerotensor())
    ):
        return tensor
    return copied_like(p, tensor, dtype)


def copied_like(p: torch.Tensor, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a copy of `tensor` with the layout of `p`."""
    copy = torch.empty_strided(p.shape, p.stride(), dtype=dtype, device=p.device)
    return copy.copy_(tensor.detach())


def sharing(pieces: list[tuple[int, int, int]]) -> set[int]:
    """Return the owners of pieces of memory, (begin, end, owner), that overlap with others."""
    owners: set[int] = set()
    reach, holder = 0, -1
    for begin, end, owner in sorted(piece for piece in pieces if piece[0] < piece[1]):
        if begin < reach:
            owners |= {owner, holder}
        if end > reach:
            reach, holder = end, owner
    return owners
