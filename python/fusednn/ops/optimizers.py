# SPDX-License-Identifier: Apache-2.0
"""Optimizer steps on lists of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusednn import _core

Array = Any  # see the docstring of fusednn.ops


def init_optimizer_state(
    name: str,
    parameters: Sequence[Array],
    *,
    convention: str = "torch",
    ema: float = 0.0,
    **hyper: float,
) -> dict[str, Any]:
    """Return the state of an optimizer before its first step.

    Parameters
    ----------
    name : str
        See ``fusednn.optimizers``: "sgd", "momentum", "adam", ...
    parameters : list of arrays
    convention : {"torch", "keras", "textbook"}
    ema : float in [0, 1)
        As for `optimizer_step`: above 0 the state has moving averages of the parameters.
    **hyper : float
        Hyper-parameters of the rule that the first state depends on.

    Returns
    -------
    state : dict
        Per state tensor of the rule, under PyTorch's name for it, a list of arrays like the
        parameters; "ema" likewise; "memory", the numbers the rule keeps beside them.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import ops
    >>> sorted(ops.init_optimizer_state("adam", [np.zeros(3)]))
    ['exp_avg', 'exp_avg_sq', 'memory']
    """
    options = {"rule": name, "convention": convention, "hyper": hyper, "ema_decay": ema}
    return _core.init_optimizer_state(options, list(parameters))


def optimizer_step(
    name: str,
    parameters: Sequence[Array],
    gradients: Sequence[Array],
    state: dict[str, Any],
    *,
    step: int,
    convention: str = "torch",
    weight_decay: float = 0.0,
    decoupled: bool = False,
    l1: float = 0.0,
    maximize: bool = False,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    global_clip_norm: float | None = None,
    ema: float = 0.0,
    clear_gradient: bool = False,
    **hyper: float,
) -> None:
    """Take one optimizer step on a list of arrays, in place and in one pass over memory.

    In this order: the gradients are negated under `maximize`, scaled down to a norm, limited to
    ``[-clip_value, clip_value]``, increased by ``weight_decay * p`` (or, decoupled, the parameters
    shrink by ``lr * weight_decay * p``) and by ``l1 * sign(p)``; then the rule updates parameters
    and state, the averages move, and the gradients are cleared.

    Parameters
    ----------
    name : str
        See ``fusednn.optimizers`` for the update rules and their sources.
    parameters, gradients : lists of arrays
        Parameters must be writable and C-contiguous; so must gradients with `clear_gradient`. No
        two arrays may share memory.
    state : dict
        Of `init_optimizer_state`, and changed by every step.
    step : int
        The number of this step, from 1.
    convention : {"torch", "keras", "textbook"}
        Whose definition counts where they differ.
    weight_decay : float
    decoupled : bool
    l1 : float
    maximize : bool
    clip_value : float, optional
    clip_norm : float, optional
        The largest norm of each gradient.
    global_clip_norm : float, optional
        The largest norm of all gradients together, ``min(1, max / (norm + 1e-6))`` as PyTorch.
    ema : float in [0, 1)
        Above 0 ``state["ema"]`` moves: ``average = ema * average + (1 - ema) * p``.
    clear_gradient : bool
        Set the gradients to zero in the same pass.
    **hyper : float
        Hyper-parameters of the rule under PyTorch's names, betas as ``beta1`` and ``beta2``.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import ops
    >>> p, g = np.array([1.0, 2.0]), np.array([0.5, -0.5])
    >>> state = ops.init_optimizer_state("sgd", [p])
    >>> ops.optimizer_step("sgd", [p], [g], state, step=1, lr=2.0)
    >>> p
    array([0., 3.])
    """
    if not isinstance(state, dict):
        raise TypeError(
            f"state must be what init_optimizer_state returned, got {type(state).__name__}"
        )
    options = {
        "rule": name,
        "convention": convention,
        "hyper": hyper,
        "weight_decay": weight_decay,
        "decoupled": decoupled,
        "l1": l1,
        "maximize": maximize,
        "clip_value": clip_value,
        "clip_norm": clip_norm,
        "global_clip_norm": global_clip_norm,
        "ema_decay": ema,
    }
    _core.optimizer_step(options, list(parameters), list(gradients), state, step, clear_gradient)
