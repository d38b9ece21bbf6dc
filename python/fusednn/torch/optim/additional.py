# SPDX-License-Identifier: Apache-2.0
"""Lion and LAMB, which PyTorch does not have, in the manner of torch.optim.

The classes with an underscore write the formula with PyTorch's operators. They update what no
kernel can take, and hold the constructor and the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from fusednn.torch.optim.base import FusedOptimizer
from fusednn.torch.optim.options import Group, Number


def _checked(
    lr: Number, betas: tuple[float, float], weight_decay: float, capturable: bool
) -> dict[str, Any]:
    """Options that both have, refused in the words of torch.optim."""
    if capturable:
        raise RuntimeError("capturable=True: this step reads its count and lr on the host")
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")
    for i, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    if not weight_decay >= 0.0:
        raise ValueError(f"Invalid weight_decay value: {weight_decay}")
    return {"lr": lr, "betas": betas, "weight_decay": weight_decay, "capturable": capturable}


class _Composite(torch.optim.Optimizer):
    """An optimizer written with PyTorch's operators."""

    _states: tuple[str, ...] = ()
    _counts: bool

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in (("maximize", False), ("foreach", None), ("fused", None)):
                group.setdefault(name, value)
            group.setdefault("capturable", False)
            group.setdefault("differentiable", False)

    def _init_group(self, group: Group, params: list[torch.Tensor]) -> None:
        name = type(self).__name__.strip("_")
        for p in group["params"]:
            if p.grad is None:
                continue
            if p.grad.is_sparse:
                raise RuntimeError(f"{name} does not support sparse gradients")
            state = self.state[p]
            if not any(key in state for key in self._states):
                if self._counts:
                    state["step"] = torch.tensor(0.0)
                for key in self._states:
                    state[key] = torch.zeros_like(p, memory_format=torch.preserve_format)
            params.append(p)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients."""
        for group in self.param_groups:
            params: list[torch.Tensor] = []
            _Composite._init_group(self, group, params)
            for p in params:
                gradient = -p.grad if group["maximize"] else p.grad
                tensors = [self.state[p][key] for key in self._states]
                parts = [p, gradient, *tensors]
                if p.is_complex():
                    parts = list(map(torch.view_as_real, parts))
                if self._counts:
                    self.state[p]["step"] += 1
                self._update(group, self.state[p], *parts)

    @staticmethod
    def _update(group: Group, state: dict[str, Any], *tensors: torch.Tensor) -> None:
        raise NotImplementedError


class _Lion(_Composite):
    _states = ("exp_avg",)
    _counts = False

    @staticmethod
    def _update(group: Group, state: dict[str, Any], *tensors: torch.Tensor) -> None:
        p, gradient, average = tensors
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(average.lerp(gradient, 1 - beta1).sign_(), alpha=-lr)
        average.lerp_(gradient, 1 - beta2)


class _LAMB(_Composite):
    _states = ("exp_avg", "exp_avg_sq")
    _counts = True

    @staticmethod
    def _update(group: Group, state: dict[str, Any], *tensors: torch.Tensor) -> None:
        p, gradient, average, square = tensors
        lr, (beta1, beta2), t = float(group["lr"]), group["betas"], state["step"].item()
        average.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        direction = (average / (1 - beta1**t)).div_(root).add_(p, alpha=group["weight_decay"])
        norm_p, norm_u = torch.linalg.vector_norm(p), torch.linalg.vector_norm(direction)
        ratio = torch.where((norm_p == 0) | (norm_u == 0), torch.ones_like(norm_p), norm_p / norm_u)
        p.sub_(direction * (ratio * lr))


class Lion(FusedOptimizer, _Lion):
    """Steps of the size lr in the direction of a sign.

    ``p -= lr sign(b1 m + (1 - b1) g)``, then ``m = b2 m + (1 - b2) g``; before it
    ``p -= lr weight_decay p``. Chen et al., 2023. The state is that of the authors' code,
    ``exp_avg`` alone.

    Parameters
    ----------
    params : iterable
        Tensors, groups or pairs of name and tensor, as in torch.optim.
    lr : float or Tensor
        About a tenth of what `AdamW` takes.
    betas : tuple of two floats
    weight_decay : float
        Decoupled; about ten times that of `AdamW`.
    maximize : bool
    foreach, fused, capturable, differentiable, master_weights, max_norm, ema
        See the module.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import Lion
    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = Lion([p], lr=0.25)
    >>> p.grad = torch.tensor([5.0])
    >>> optimizer.step()
    >>> p.item()
    0.75
    """

    _reference = _Lion
    _reads = ("betas", "capturable")
    _counts_steps = False

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        flags = {
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, {**_checked(lr, betas, weight_decay, capturable), **flags})
        self._add_extras(master_weights=master_weights, max_norm=max_norm, ema=ema)

    @staticmethod
    def _native(group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        return {"rule": "lion", "hyper": {"beta1": beta1, "beta2": beta2}, "decoupled": True}


class LAMB(FusedOptimizer, _LAMB):
    """Adam's direction, with a step in proportion to each parameter's norm.

    ``u = m^ / (sqrt(v^) + eps) + weight_decay p``, ``p -= lr |p| / |u| u`` with m^ and v^ of
    `Adam`, norms over each parameter, and a ratio of 1 where one of them is 0.
    You et al., 2020.

    Parameters
    ----------
    params : iterable
        Tensors, groups or pairs of name and tensor, as in torch.optim.
    lr : float or Tensor
    betas : tuple of two floats
    eps : float
    weight_decay : float
        Part of u, as in the paper.
    maximize : bool
    foreach, fused, capturable, differentiable, master_weights, max_norm, ema
        See the module.

    Raises
    ------
    ValueError
        If an option is out of its range.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import LAMB
    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = LAMB([p], lr=0.25)
    >>> p.grad = torch.tensor([5.0])
    >>> optimizer.step()
    >>> p.item()
    0.75
    """

    _reference = _LAMB
    _reads = ("betas", "eps", "capturable")

    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
    ) -> None:
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        flags = {
            "eps": eps,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, {**_checked(lr, betas, weight_decay, capturable), **flags})
        self._add_extras(master_weights=master_weights, max_norm=max_norm, ema=ema)

    @staticmethod
    def _native(group: Group) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        decay = float(group["weight_decay"])
        hyper = {"beta1": beta1, "beta2": beta2, "eps": group["eps"], "weight_decay": decay}
        return {"rule": "lamb", "hyper": hyper, "weight_decay": 0.0}
