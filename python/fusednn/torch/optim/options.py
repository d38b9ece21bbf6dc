# SPDX-License-Identifier: Apache-2.0
"""Options of a parameter group: ours are checked here, PyTorch's by PyTorch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from fusednn.errors import check_integer

Group: TypeAlias = dict[str, Any]
Number: TypeAlias = float | torch.Tensor

# What a group has beside PyTorch's own options.
EXTRAS: Mapping[str, Any] = {
    "master_weights": False,
    "max_norm": None,
    "ema": None,
    "clear_gradients": False,
    "stochastic_rounding": False,
    "seed": 0,
}

NARROW = (torch.bfloat16, torch.float16)


def check_group(group: Mapping[str, Any]) -> None:
    """Refuse what no step could do."""
    if group.get("differentiable"):
        raise RuntimeError(
            "differentiable=True: a fused step writes to the parameters through pointers, which "
            "autograd cannot record; use the optimizer of torch.optim"
        )
    for name, value in EXTRAS.items():
        if isinstance(value, bool) and not isinstance(group.get(name, value), bool):
            raise TypeError(f"{name}={group[name]!r} must be True or False")
    check_integer("seed", group.get("seed", 0), 0)
    if group.get("stochastic_rounding") and group.get("master_weights"):
        raise ValueError(
            "stochastic_rounding=True and master_weights=True: a float32 copy loses nothing that "
            "rounding at random could keep; choose one of them"
        )
    norm = group.get("max_norm")
    if norm is not None and not _is_number(norm, 0, math.inf):
        raise ValueError(f"max_norm={norm!r} must be None or a number that is not negative")
    decay = group.get("ema")
    if decay is not None and not (_is_number(decay, 0, 1) and 0 < decay < 1):
        raise ValueError(f"ema={decay!r} must be None or a number between 0 and 1")


def check_rounding(group: Mapping[str, Any]) -> None:
    """Refuse stochastic rounding of what does not lie in memory as bfloat16."""
    for i, p in enumerate(group["params"] if group["stochastic_rounding"] else ()):
        if p.dtype != torch.bfloat16:
            raise ValueError(
                "stochastic_rounding=True is for bfloat16 parameters, number "
                f"{i} of the group is {p.dtype}; give it a group with stochastic_rounding=False"
            )


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def plain(value: Any) -> Any:
    """An option as numbers: PyTorch allows tensors of one element."""
    if isinstance(value, torch.Tensor):
        return value.item()
    if isinstance(value, (tuple, list)):
        return tuple(map(plain, value))
    return value


def has_tensor(values: Sequence[Any]) -> bool:
    """Whether an option may change without becoming another object."""
    return any(
        isinstance(value, torch.Tensor) or (isinstance(value, (tuple, list)) and has_tensor(value))
        for value in values
    )


@dataclass(frozen=True)
class Kind:
    """What tensors must have in common to be stepped over together."""

    rule: str
    dtype: torch.dtype
    ema: bool
    masters: bool
    device: str = "cpu"
    stochastic: bool = False  # rounded at random
    clears: bool = False  # gradients, in the same pass
    live: bool = False  # the numbers beside the tensors lie on the device: see is_live()

    @property
    def wide(self) -> torch.dtype:
        """The dtype of averages and masters."""
        return torch.float32 if self.dtype in NARROW else self.dtype

    @property
    def native_dtype(self) -> str:
        """Complex numbers are pairs of real ones."""
        return str(self.dtype.to_real()).removeprefix("torch.")


def is_live(group: Group, p: torch.Tensor, counted: bool) -> bool:
    """Whether the count of steps is on the parameter's device, and no step waits for it.

    PyTorch keeps it there for `capturable` and `fused`; where it keeps none, ours is there.
    """
    asked = group.get("capturable") or group.get("fused") or not counted
    return p.device.type != "cpu" and bool(asked)


def kind_of(rule: str, group: Group, p: torch.Tensor, counted: bool) -> Kind:
    """The kind of a parameter in this group; `counted` is whether PyTorch counts its steps."""
    masters = bool(group["master_weights"]) and p.dtype in NARROW
    ema = group["ema"] is not None
    return Kind(
        rule,
        p.dtype,
        ema,
        masters,
        p.device.type,
        group["stochastic_rounding"],
        group["clear_gradients"],
        is_live(group, p, counted),
    )
