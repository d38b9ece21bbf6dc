# SPDX-License-Identifier: Apache-2.0
"""Turn an optimizer of torch.optim, while it runs, into its fused twin."""

from __future__ import annotations

import functools
import weakref
from typing import Any

import torch

from fusednn.torch.optim.adam import Adam, Adamax, AdamW, NAdam, RAdam
from fusednn.torch.optim.base import FusedOptimizer
from fusednn.torch.optim.classic import SGD, Adadelta, Adagrad, RMSprop
from fusednn.torch.optim.options import check_group, check_rounding

TWINS: dict[type[torch.optim.Optimizer], type[FusedOptimizer]] = {
    twin._reference: twin
    for twin in (SGD, Adam, AdamW, Adamax, NAdam, RAdam, Adagrad, Adadelta, RMSprop)
}


def swap_optimizer(
    optimizer: torch.optim.Optimizer,
    *,
    master_weights: bool = False,
    max_norm: float | None = None,
    ema: float | None = None,
    clear_gradients: bool = False,
    stochastic_rounding: bool = False,
    seed: int = 0,
) -> FusedOptimizer:
    """Make an optimizer of torch.optim a fused one, in the middle of training.

    It stays the same object, of another class: parameters, groups, state and hooks are what they
    were, and learning rate schedulers, a ``GradScaler`` or a trainer that hold it hold the fused
    one from now on. Its next step continues where the last one ended.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        One of exactly these classes of torch.optim: SGD, Adam, AdamW, Adamax, NAdam, RAdam,
        Adagrad, Adadelta, RMSprop. A fused one is returned as it is.
    master_weights, max_norm, ema, clear_gradients, stochastic_rounding, seed
        See `fusednn.torch.optim`.

    Returns
    -------
    optimizer
        The same object.

    Raises
    ------
    TypeError
        If there is no fused twin.
    RuntimeError
        If it is differentiable, or its ``step`` was replaced by something other than a scheduler
        of PyTorch.

    Examples
    --------
    >>> import torch
    >>> from fusednn.torch import swap_optimizer
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.RMSprop(model.parameters())
    >>> swap_optimizer(optimizer) is optimizer
    True
    >>> type(optimizer).__module__
    'fusednn.torch.optim.classic'
    """
    if isinstance(optimizer, FusedOptimizer):
        return optimizer
    twin = TWINS.get(type(optimizer))
    if twin is None:
        known = ", ".join(each.__name__ for each in TWINS)
        raise TypeError(
            f"optimizer: {type(optimizer).__module__}.{type(optimizer).__qualname__} has no fused "
            f"twin; torch.optim's own {known} have one"
        )
    extras = {
        "master_weights": master_weights,
        "max_norm": max_norm,
        "ema": ema,
        "clear_gradients": clear_gradients,
        "stochastic_rounding": stochastic_rounding,
        "seed": seed,
    }
    for group in optimizer.param_groups:
        check_group({**extras, **group})
        check_rounding({**extras, **group})
    own_step: Any = optimizer.__dict__.get("step")
    if own_step is not None and not hasattr(own_step, "_wrapped_by_lr_sched"):
        raise RuntimeError(
            "optimizer: its step was replaced on the instance, by "
            f"{getattr(own_step, '__qualname__', own_step)!r}, which would bypass the fused one"
        )

    optimizer.__class__ = twin
    assert isinstance(optimizer, FusedOptimizer)
    optimizer.__dict__.pop("_step_supports_amp_scaling", None)  # that of the class counts
    optimizer._patch_step_function()
    optimizer._add_extras(**extras)
    if own_step is not None:
        optimizer.step = _noticed_by_schedulers(optimizer)  # type: ignore[method-assign]
    return optimizer


def _noticed_by_schedulers(optimizer: FusedOptimizer) -> Any:
    """The step as schedulers want it, who warn when they are called before it.

    They patched the step of the former class into the instance; this is the same for the new one.
    """
    here = weakref.ref(optimizer)

    @functools.wraps(type(optimizer).step)
    def step(*args: Any, **kwargs: Any) -> Any:
        optimizer = here()
        assert optimizer is not None
        optimizer._opt_called = True
        return type(optimizer).step(optimizer, *args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    return step
