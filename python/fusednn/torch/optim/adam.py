# SPDX-License-Identifier: Apache-2.0
"""Adam and its relatives, with the constructors of torch.optim."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from fusednn.optim import rules
from fusednn.optim.rules import declared
from fusednn.torch.optim.base import FusedOptimizer
from fusednn.torch.optim.options import Number


class Adam(FusedOptimizer, torch.optim.Adam):
    """``torch.optim.Adam``, fused.

    ``m = b1 m + (1 - b1) g``, ``v = b2 v + (1 - b2) g^2``,
    ``p -= lr m^ / (sqrt(v^) + eps)`` with ``m^ = m / (1 - b1^t)``, ``v^ = v / (1 - b2^t)``;
    `amsgrad` uses the greatest v so far. Kingma and Ba, 2015; Reddi et al., 2018.
    `weight_decay` is added to g, or shrinks p by ``lr * weight_decay`` if decoupled.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, amsgrad, maximize, decoupled_weight_decay
        As in ``torch.optim.Adam``. float32, float64, bfloat16, float16 and complex parameters of
        any shape.
    foreach, fused, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import Adam
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = Adam(model.parameters(), lr=1e-2)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.Adam
    _rule = staticmethod(rules.adam)

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class AdamW(Adam, torch.optim.AdamW):
    """``torch.optim.AdamW``, fused: `Adam` with decoupled weight decay of 0.01 unless given.

    Loshchilov and Hutter, 2019.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, amsgrad, maximize
        As in ``torch.optim.AdamW``.
    foreach, fused, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import AdamW
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = AdamW(model.parameters(), lr=1e-2, max_norm=1.0)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.AdamW

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[Number, Number] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
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


class Adamax(FusedOptimizer, torch.optim.Adamax):
    """``torch.optim.Adamax``, fused.

    m as in `Adam`; ``u = max(b2 u, |g| + eps)``, ``p -= lr / (1 - b1^t) m / u``.
    Kingma and Ba, 2015.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, maximize
        As in ``torch.optim.Adamax``.
    foreach, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import Adamax
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = Adamax(model.parameters())
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.Adamax
    _rule = staticmethod(rules.always("adamax"))

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class NAdam(FusedOptimizer, torch.optim.NAdam):
    """``torch.optim.NAdam``, fused.

    m, v and v^ as in `Adam`; ``mu_t = b1 (1 - 0.96^(t * momentum_decay) / 2)``,
    ``M_t = mu_1 ... mu_t``; ``p -= lr (mu_(t+1) m / (1 - M_(t+1)) + (1 - mu_t) g / (1 - M_t)) /
    (sqrt(v^) + eps)``. Dozat, 2016.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay, maximize
        As in ``torch.optim.NAdam``.
    foreach, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import NAdam
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = NAdam(model.parameters(), ema=0.99)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.NAdam
    _rule = staticmethod(rules.always("nadam"))

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class RAdam(FusedOptimizer, torch.optim.RAdam):
    """``torch.optim.RAdam``, fused.

    m, v and m^ as in `Adam`; while ``rho_t = rho - 2 t b2^t / (1 - b2^t) <= 5``, with
    ``rho = 2 / (1 - b2) - 1``, ``p -= lr m^``; from then on
    ``p -= lr r_t m^ sqrt(1 - b2^t) / (sqrt(v) + eps)``. Liu et al., 2020.

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize
        As in ``torch.optim.RAdam``.
    foreach, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import RAdam
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = RAdam(model.parameters())
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.RAdam
    _rule = staticmethod(rules.always("radam"))

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...
