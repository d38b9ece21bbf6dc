# SPDX-License-Identifier: Apache-2.0
"""Puts fused layers into a model of torch, in place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from torch import nn

from fusednn.torch.nn import gate
from fusednn.torch.nn.layers import FusedLinear, FusedSequential, GivenActivation
from fusednn.torch.nn.rules import fused_twin, is_activation_module


@dataclass
class SwapReport:
    """What `swap_modules` replaced, and what it left and why, by names of modules."""

    replaced: dict[str, str] = field(default_factory=dict)  # name -> what is there now
    left: dict[str, str] = field(default_factory=dict)  # name -> why it stays

    def __str__(self) -> str:
        lines = [f"replaced {len(self.replaced)}, left {len(self.left)}"]
        lines += [f"  + {name or '(the model)'}: {what}" for name, what in self.replaced.items()]
        lines += [f"  - {name or '(the model)'}: {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def swap_modules(net: nn.Module) -> SwapReport:
    """Replace ``nn.Linear`` and the activation behind it by fused layers, wherever that is safe.

    In every ``nn.Sequential`` of the model a linear layer becomes a `FusedLinear`, the activation
    behind it an ``nn.Identity``, and the sequence a `FusedSequential`, which runs neighbouring
    layers as one node of autograd. Parameters stay the same objects, so that optimizers go on with
    them, and the keys of the ``state_dict`` stay the same.

    Parameters
    ----------
    net : nn.Module
        Changed in place. Swap before ``torch.compile``, not after.

    Returns
    -------
    SwapReport
        ``replaced`` and ``left``, by names of modules; ``print`` shows both.

    Notes
    -----
    Left as they are: layers with hooks or parametrizations, layers that are part of the model in
    two places, subclasses, dtypes other than float32 and float64, devices other than the CPU, and
    linear layers outside of any ``nn.Sequential``: what follows them is not visible.

    Examples
    --------
    >>> from torch import nn
    >>> from fusednn.torch.nn import swap_modules
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    >>> print(swap_modules(net))
    replaced 3, left 0
      + 0: Linear and ReLU as FusedLinear
      + 2: Linear as FusedLinear
      + (the model): Sequential as FusedSequential
    """
    report = SwapReport()
    places = Counter(
        id(module)
        for parent in net.modules()
        for module in parent._modules.values()
        if module is not None
    )
    named = list(net.named_modules())
    for name, module in named:
        if isinstance(module, nn.Sequential):
            _swap_in_sequence(module, name, places, report)
    for name, module in named:
        seen = name in report.replaced or name in report.left
        if isinstance(module, nn.Linear) and not isinstance(module, FusedLinear) and not seen:
            report.left[name] = "not in an nn.Sequential, so what follows it is not visible"
    return report


def _swap_in_sequence(
    sequence: nn.Sequential, name: str, places: Counter[int], report: SwapReport
) -> None:
    prefix = f"{name}." if name else ""
    if type(sequence).forward not in (nn.Sequential.forward, FusedSequential.forward):
        for key, module in sequence._modules.items():
            if isinstance(module, nn.Linear):
                report.left[prefix + key] = "its sequence has a forward of its own"
        return
    swapped = False
    keys = list(sequence._modules)
    for key, behind in zip(keys, [*keys[1:], None], strict=True):
        linear = sequence._modules[key]
        if not isinstance(linear, nn.Linear) or isinstance(linear, FusedLinear):
            continue
        reason = _why_not(linear, places)
        if reason is not None:
            report.left[prefix + key] = reason
            continue
        activation = sequence._modules[behind] if behind is not None else None
        what = "Linear as FusedLinear"
        taken: GivenActivation = None
        if activation is not None and is_activation_module(activation):
            reason = _why_not_activation(activation)
            if reason is None:
                taken = activation
                what = f"Linear and {type(activation).__name__} as FusedLinear"
            else:
                report.left[f"{prefix}{behind}"] = reason
        sequence._modules[key] = _fused(linear, taken)
        if taken is not None and activation is not None and behind is not None:
            sequence._modules[behind] = nn.Identity().train(activation.training)
        report.replaced[prefix + key] = what
        swapped = True
    if swapped and type(sequence) is nn.Sequential:
        sequence.__class__ = FusedSequential  # hooks, name and place stay as they are
        report.replaced[name] = "Sequential as FusedSequential"


def _fused(linear: nn.Linear, activation: GivenActivation) -> FusedLinear:
    fused = FusedLinear(
        linear.in_features, linear.out_features, linear.bias is not None, activation, device="meta"
    )
    fused.weight = linear.weight
    fused.bias = linear.bias
    return fused.train(linear.training)


def _is_called_plainly(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
        module._state_dict_hooks,
        module._state_dict_pre_hooks,
        module._load_state_dict_pre_hooks,
        module._load_state_dict_post_hooks,
    )
    return not any(hooks) and "forward" not in vars(module)


def _why_not(linear: nn.Linear, places: Counter[int]) -> str | None:
    """Why a linear layer stays, or None."""
    if type(linear) is not nn.Linear:
        return f"a {type(linear).__name__}, not a plain nn.Linear"
    if not _is_called_plainly(linear):
        return "has hooks, or a forward of its own"
    if linear._modules or set(linear._buffers) or set(linear._parameters) != {"weight", "bias"}:
        return "holds more than a weight and a bias"
    if places[id(linear)] > 1:
        return "is part of the model in more than one place"
    weight = linear.weight
    if not gate.is_plain(weight):
        kind = "" if type(weight) is nn.Parameter else f" as {type(weight).__name__}"
        return f"{weight.dtype} on {weight.device}{kind}: only float32 and float64 on the CPU"
    return None


def _why_not_activation(module: nn.Module) -> str | None:
    """Why an activation stays behind its layer, or None."""
    if not _is_called_plainly(module):
        return "has hooks, or a forward of its own"
    if fused_twin(module) is None:
        return f"{module} has no fused twin"
    return None
