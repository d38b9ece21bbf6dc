# SPDX-License-Identifier: Apache-2.0
"""Who may be served by addresses: plain dense CPU tensors that nobody watches on the way.

Whatever stands between an operation and memory (a transform of ``torch.func``, forward-mode
derivatives, a dispatch mode, autocast, tracing, a subclass of Tensor) must see operations of torch,
so such calls take torch's own.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from fusednn.device import is_ours

CPU = torch.device("cpu")
NAMES = {torch.float32: "float32", torch.float64: "float64"}
_PLAIN = frozenset([Tensor, Parameter])

_transforms = torch._C._are_functorch_transforms_active
_modes = torch._C._len_torch_dispatch_stack
_tracing = torch._C._get_tracing_state
_batched = torch._C._functorch.is_legacy_batchedtensor  # of is_grads_batched=True
_autocast = torch.is_autocast_enabled


def nobody_watches() -> bool:
    """Return whether an operation that torch does not see would be missed by nobody."""
    return not (
        _autocast("cpu")
        or _transforms()
        or _modes()
        or forward_ad._current_level >= 0
        or _tracing() is not None
    )


def takes_addresses(gradient: Tensor, *, on_device: bool = False) -> bool:
    """Return whether a backward pass may answer this upstream gradient by addresses."""
    return nobody_watches() and is_plain(gradient, on_device=on_device) and not _batched(gradient)


def _is_on_device(tensor: Tensor) -> bool:
    """Whether our kernels can take it; under autocast torch would have it in another dtype."""
    device = tensor.device
    return is_ours(device.type, device.index) and not _autocast(device.type)


def is_plain(tensor: Tensor, *, on_device: bool = False) -> bool:
    """Return whether a tensor is nothing but dense numbers in memory of the host.

    With `on_device` they may lie in that of the CUDA device as well.
    """
    return (
        type(tensor) in _PLAIN
        and (tensor.is_cpu or (on_device and _is_on_device(tensor)))
        and tensor.layout is torch.strided
        and tensor.dtype in NAMES
        and not tensor.is_neg()
    )


def traces_fused(tensors: list[Tensor]) -> bool:
    """Return whether ``torch.compile`` records our operator for these tensors, or torch's own."""
    dtype = tensors[0].dtype
    return (
        dtype in NAMES
        and not torch.is_autocast_enabled("cpu")
        and all(t.device.type == "cpu" and t.dtype == dtype and 0 not in t.shape for t in tensors)
    )
