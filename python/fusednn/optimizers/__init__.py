# SPDX-License-Identifier: Apache-2.0
"""Optimizers under Keras' names.

``compile(convention=...)`` says whose definition counts, and whose default an argument left at
None has: ``"torch"`` (PyTorch, the default), ``"keras"`` or ``"textbook"`` (the papers).

In the formulas g is the gradient, w the parameter, t the step (1, 2, ...). Before the rule sees a
gradient it is limited to ``[-clipvalue, clipvalue]``, scaled down to the norm ``clipnorm`` (each
parameter by itself) or ``global_clipnorm`` (all together, PyTorch's ``clip_grad_norm_``), negated
under ``maximize``, and increased by ``l1 * sign(w)``. Weight decay is *coupled*,
``g += weight_decay * w``, or *decoupled*, ``w -= learning_rate * weight_decay * w`` before the
step. PyTorch couples it except in AdamW, Keras always decouples it; Lion decouples it everywhere.
``decoupled_weight_decay`` overrides that. `History` reports the loss without these penalties.

With ``use_ema=True`` a moving average of the weights is kept,
``average = ema_momentum * average + (1 - ema_momentum) * w``; ``Model.get_weights(averaged=True)``
returns it. (Keras overwrites the weights with it at the end of ``fit``; here they stay.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusednn.errors import unknown_choice
from fusednn.optimizers.adam import Adam as Adam
from fusednn.optimizers.adam import Adamax as Adamax
from fusednn.optimizers.adam import AdamW as AdamW
from fusednn.optimizers.adam import Lamb as Lamb
from fusednn.optimizers.adam import Lion as Lion
from fusednn.optimizers.adam import Nadam as Nadam
from fusednn.optimizers.adam import RAdam as RAdam
from fusednn.optimizers.base import CONVENTIONS as CONVENTIONS
from fusednn.optimizers.base import Optimizer as Optimizer
from fusednn.optimizers.classic import SGD as SGD
from fusednn.optimizers.classic import Adadelta as Adadelta
from fusednn.optimizers.classic import Adagrad as Adagrad
from fusednn.optimizers.classic import RMSprop as RMSprop

__all__ = [
    "CONVENTIONS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lamb",
    "Lion",
    "Nadam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "get",
    "serialize",
]

_CLASSES: dict[str, type[Optimizer]] = {
    c.__name__: c
    for c in (SGD, Adagrad, RMSprop, Adadelta, Adam, AdamW, Adamax, Nadam, RAdam, Lion, Lamb)
}
_NAMES = {name.lower(): kind for name, kind in _CLASSES.items()}


def serialize(optimizer: Optimizer) -> dict[str, Any]:
    """Return class name and arguments as plain values."""
    return {"class_name": type(optimizer).__name__, "config": optimizer.get_config()}


def get(identifier: str | Mapping | Optimizer) -> Optimizer:
    """Return the optimizer that a name, a dict of ``serialize`` or an instance stands for.

    Examples
    --------
    >>> from fusednn import optimizers
    >>> type(optimizers.get("nadam")).__name__
    'Nadam'
    """
    if isinstance(identifier, Optimizer):
        return identifier
    if isinstance(identifier, type) and issubclass(identifier, Optimizer):
        return identifier()  # type: ignore[call-arg]
    if isinstance(identifier, str):
        kind = _NAMES.get(identifier.lower())
        if kind is None:
            raise unknown_choice("optimizer", identifier, _NAMES)
        return kind()  # type: ignore[call-arg]
    if isinstance(identifier, Mapping) and identifier.get("class_name") in _CLASSES:
        return _CLASSES[identifier["class_name"]].from_config(identifier.get("config", {}))
    raise TypeError(f"optimizer must be a name or one of fusednn.optimizers, got {identifier!r}")
