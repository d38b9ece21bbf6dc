# SPDX-License-Identifier: Apache-2.0
"""SGD, Adagrad, Adadelta and RMSprop, with the constructors of torch.optim."""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from fusednn.optim import rules
from fusednn.optim.rules import declared
from fusednn.torch.optim.base import FusedOptimizer
from fusednn.torch.optim.options import Number


class SGD(FusedOptimizer, torch.optim.SGD):
    """``torch.optim.SGD``, fused.

    ``p -= lr g``; with `momentum` ``b = momentum b + (1 - dampening) g``, at first ``b = g``, and
    ``p -= lr b``; with `nesterov` ``p -= lr (g + momentum b)``. `weight_decay` is added to g.

    Parameters
    ----------
    params, lr, momentum, dampening, weight_decay, nesterov, maximize
        As in ``torch.optim.SGD``. float32, float64, bfloat16, float16 and complex parameters of
        any shape.
    foreach, fused, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import SGD
    >>> p = torch.nn.Parameter(torch.tensor([1.0]))
    >>> optimizer = SGD([p], lr=0.5, momentum=0.9)
    >>> p.grad = torch.tensor([1.0])
    >>> optimizer.step()
    >>> p.item()
    0.5
    """

    _reference = torch.optim.SGD
    _rule = staticmethod(rules.sgd)
    _counts_steps = False

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: Number = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class Adagrad(FusedOptimizer, torch.optim.Adagrad):
    """``torch.optim.Adagrad``, fused.

    ``s += g^2``, ``p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``, s from
    `initial_accumulator_value`. Duchi, Hazan and Singer, 2011.

    Parameters
    ----------
    params, lr, lr_decay, weight_decay, initial_accumulator_value, eps, maximize
        As in ``torch.optim.Adagrad``.
    foreach, fused, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import Adagrad
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = Adagrad(model.parameters())
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.Adagrad
    _rule = staticmethod(rules.always("adagrad"))

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class Adadelta(FusedOptimizer, torch.optim.Adadelta):
    """``torch.optim.Adadelta``, fused.

    ``v = rho v + (1 - rho) g^2``, ``d = sqrt(a + eps) / sqrt(v + eps) g``,
    ``a = rho a + (1 - rho) d^2``, ``p -= lr d``. Zeiler, 2012.

    Parameters
    ----------
    params, lr, rho, eps, weight_decay, maximize
        As in ``torch.optim.Adadelta``.
    foreach, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import Adadelta
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = Adadelta(model.parameters())
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.Adadelta
    _rule = staticmethod(rules.always("adadelta"))

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...


class RMSprop(FusedOptimizer, torch.optim.RMSprop):
    """``torch.optim.RMSprop``, fused.

    ``v = alpha v + (1 - alpha) g^2``, ``d = g / (sqrt(v) + eps)``, ``p -= lr d``; `centered`
    takes ``v - a^2`` under the root, with ``a = alpha a + (1 - alpha) g`` (0 where rounding made
    it negative, where PyTorch gives NaN); with `momentum` ``b = momentum b + d``, ``p -= lr b``.
    Tieleman and Hinton, 2012; Graves, 2013.

    Parameters
    ----------
    params, lr, alpha, eps, weight_decay, momentum, centered, maximize
        As in ``torch.optim.RMSprop``.
    foreach, capturable, differentiable
        See the module.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See the module.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch.optim import RMSprop
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = RMSprop(model.parameters(), lr=1e-3)
    >>> model(torch.ones(1, 2)).sum().backward()
    >>> optimizer.step()
    """

    _reference = torch.optim.RMSprop
    _rule = staticmethod(rules.rmsprop)

    @declared
    def __init__(
        self,
        params: ParamsT,
        lr: Number = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        *,
        master_weights: bool = False,
        max_norm: float | None = None,
        ema: float | None = None,
        clear_gradients: bool = False,
        stochastic_rounding: bool = False,
        seed: int = 0,
    ) -> None: ...
