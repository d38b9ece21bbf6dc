# SPDX-License-Identifier: Apache-2.0
"""Lion and LAMB, which PyTorch does not have, in the manner of torch.optim."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.optim.optimizer import ParamsT

from fusednn.optim import rules
from fusednn.optim.rules import declared, states_of
from fusednn.torch.optim.base import FusedOptimizer
from fusednn.torch.optim.options import EXTRAS, Group, Number, is_live

# Flags that groups of old files may lack.
_FLAGS: Group = {
    "maximize": False,
    "foreach": None,
    "capturable": False,
    "differentiable": False,
    "fused": None,
}


class _Additional(FusedOptimizer):
    """What torch.optim's optimizers do around their formula, for those it does not have."""

    _reference: ClassVar = None

    def _construct(self, params: ParamsT, options: Group, _: Group) -> None:
        extras = {name: options.pop(name) for name in EXTRAS}
        _check(options)
        torch.optim.Optimizer.__init__(self, params, options)
        self._add_extras(**extras)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in _FLAGS.items():
                group.setdefault(name, value)

    def _begin_state(self, group: Group, params: list[torch.Tensor]) -> None:
        for p in params:
            state = self.state[p]
            if p.grad is None or any(name in state for name in states_of(self._rule(group))):
                continue
            if self._counts_steps or group["stochastic_rounding"]:
                where = p.device if is_live(group, p, self._counts_steps) else "cpu"
                state["step"] = torch.zeros((), dtype=torch.float32, device=where)
            for name in states_of(self._rule(group)):
                state[name] = torch.zeros_like(p, memory_format=torch.preserve_format)


def _check(options: Group) -> None:
    """Refuse options in the words of torch.optim."""
    lr = options["lr"]
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")
    for i, beta in enumerate(options["betas"]):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
    if not options.get("eps", 0.0) >= 0.0:
        raise ValueError(f"Invalid epsilon value: {options['eps']}")
    if not options["weight_decay"] >= 0.0:
        raise ValueError(f"Invalid weight_decay value: {options['weight_decay']}")


class Lion(_Additional):
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
    foreach, fused, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
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

    _rule = staticmethod(rules.always("lion"))
    _counts_steps = False

    @declared
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
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class LAMB(_Additional):
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
    foreach, fused, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
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

    _rule = staticmethod(rules.always("lamb"))

    @declared
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
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...
