# SPDX-License-Identifier: Apache-2.0
"""Parameters that no kernel can take: PyTorch's own code updates them."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

import torch

from fusednn.torch.optim.options import NARROW
from fusednn.torch.optim.reading import PLAIN

if TYPE_CHECKING:
    from fusednn.torch.optim.base import FusedOptimizer


class Others:
    """The parameters of an optimizer, per group, that no kernel can take."""

    def __init__(self, optimizer: FusedOptimizer) -> None:
        self._name = type(optimizer).__name__
        self._has_reference = optimizer._reference is not None
        self.params: list[list[torch.Tensor]] = [[] for _ in optimizer.param_groups]
        self.reasons: list[str] = []

    def __bool__(self) -> bool:
        return any(self.params)

    def add(self, place: int, p: torch.Tensor, reason: str) -> None:
        """Take a parameter in, or refuse it where PyTorch has no code for it."""
        if not self._has_reference:
            raise RuntimeError(
                f"{self._name}: {reason}, and PyTorch has no {self._name} that could update it; "
                "parameters and gradients must be dense tensors of one dtype on the CPU, each in "
                "memory of its own"
            )
        self.params[place].append(p)
        self.reasons.append(reason)

    def warn(self, optimizer: FusedOptimizer) -> None:
        """Say once per optimizer that part of it is not fused."""
        if self.reasons and not optimizer.__dict__.get("_warned"):
            optimizer._warned = True
            count = len(self.reasons)
            warnings.warn(
                f"{type(optimizer).__name__}: {self.reasons[0]}; "
                f"{count} parameter{'s are' if count > 1 else ' is'} updated by PyTorch's own "
                "code, which is slower but computes the same",
                stacklevel=5,
            )

    def with_gradient(self) -> list[torch.Tensor]:
        return [p for params in self.params for p in params if p.grad is not None]

    def square_norm(self, scale: float) -> float:
        """The sum of squares of the gradients, where this process can know it."""
        total = 0.0
        for p in self.with_gradient():
            if type(p.grad) not in PLAIN or p.grad.layout != torch.strided:
                raise RuntimeError(
                    f"max_norm: the norm of a gradient of type {type(p.grad).__name__} and layout "
                    f"{p.grad.layout} is not taken here; use torch.nn.utils.clip_grad_norm_"
                )
            total += (torch.linalg.vector_norm(p.grad).item() * scale) ** 2
        return total

    @torch.no_grad()
    def step(self, optimizer: FusedOptimizer, scale: float) -> None:
        """Do what the reference does; gradients are scaled in place, as by GradScaler."""
        with_gradient = self.with_gradient()
        if not with_gradient:
            return
        groups = []
        for group, params in zip(optimizer.param_groups, self.params, strict=True):
            if group["master_weights"] and any(p.dtype in NARROW for p in params):
                raise RuntimeError(
                    f"master_weights: {self.reasons[0]}, and PyTorch's code knows no masters"
                )
            if group["stochastic_rounding"] and params:
                raise RuntimeError(
                    f"stochastic_rounding: {self.reasons[0]}, and PyTorch's code rounds to nearest"
                )
            groups.append({**group, "params": params})
            for p in params:
                if group["ema"] is not None and p.grad is not None:
                    wide = torch.float32 if p.dtype in NARROW else p.dtype
                    entries = optimizer.state[p]
                    if "ema" not in entries:
                        optimizer._begin_state(group, [p])
                        entries["ema"] = p.detach().clone().to(wide)
        if scale != 1.0:
            for p in with_gradient:
                p.grad.mul_(scale)
        run_reference(optimizer, groups)
        for group in groups:
            for p in group["params"]:
                if group["ema"] is not None and p.grad is not None:
                    average = optimizer.state[p]["ema"]
                    average.lerp_(p.detach().to(average.dtype), 1 - group["ema"])
        clear_gradients(groups)


def clear_gradients(groups: list[dict[str, Any]]) -> None:
    """Do for groups that ask for it what a kernel does in its pass."""
    for group in groups:
        for p in group["params"] if group["clear_gradients"] else ():
            if p.grad is not None:
                p.grad.detach().zero_()


def run_reference(optimizer: FusedOptimizer, groups: list[dict[str, Any]]) -> None:
    """Run the reference's step over these groups and the state of `optimizer`.

    The step is unwrapped, because hooks and the profiler have seen this step already.
    """
    reference = optimizer._reference
    assert reference is not None  # else nothing is left to it
    twin = object.__new__(reference)
    twin.__dict__.update(defaults=optimizer.defaults, state=optimizer.state, param_groups=groups)
    inspect.unwrap(reference.step)(twin)
