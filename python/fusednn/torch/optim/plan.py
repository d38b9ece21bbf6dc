# SPDX-License-Identifier: Apache-2.0
"""What an optimizer knows about its parameters between two steps."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from fusednn import _core
from fusednn.optim.rules import compiled_options, states_of
from fusednn.torch.optim.bucket import Bucket, Scaling
from fusednn.torch.optim.fallback import Others
from fusednn.torch.optim.options import (
    Group,
    Kind,
    Number,
    check_group,
    check_rounding,
    has_tensor,
    is_live,
    kind_of,
    plain,
)
from fusednn.torch.optim.reading import need_own_memory, sharing, why_not

if TYPE_CHECKING:
    from fusednn.torch.optim.base import FusedOptimizer

_PARAMS = operator.itemgetter("params")

# The rate is read with each step; the other two choose among PyTorch's own implementations.
_UNREAD = ("lr", "foreach", "fused")

Gradients = list[_core.Gradients]  # per bucket


class Plan:
    """Buckets of parameters that are stepped over together, and those left to PyTorch.

    It holds as long as groups, parameters, state and the rule of each group are what they were.
    Hyper-parameters may change: the native side is then told.
    """

    def __init__(self, optimizer: FusedOptimizer) -> None:
        self._names = [name for name in optimizer.defaults if name not in _UNREAD]
        self._read = operator.itemgetter(*self._names)
        self._values = [self._read(group) for group in optimizer.param_groups]
        self._views = list(map(self._view, self._values))
        self._changing = any(map(has_tensor, self._values))
        self._kinds = [_marks(optimizer, view) for view in self._views]
        self.params = list(chain.from_iterable(map(_PARAMS, optimizer.param_groups)))
        self.idle: list[torch.Tensor] = []
        self.buckets: list[Bucket] = []
        self.others = Others(optimizer)
        self.max_norm = _one_max_norm(self._views)
        self._sharers: set[int] = set()

    def _view(self, values: tuple[Any, ...]) -> Group:
        """A group's options as plain numbers."""
        view = dict(zip(self._names, map(plain, values), strict=True))
        check_group(view)
        return view

    # ---- making ----------------------------------------------------------------------------------

    @classmethod
    def make(cls, optimizer: FusedOptimizer) -> tuple[Plan, Gradients]:
        """Look at everything, create missing state, and return the first gradients as well."""
        plan = cls(optimizer)
        members = list(plan._sort(optimizer))
        plan._fill(optimizer, members)
        plan._sharers = plan._find_sharers()
        if plan._sharers:  # these one after the other, as PyTorch does it
            for place, p in members:
                if id(p) in plan._sharers:
                    plan.others.add(place, p, "a parameter shares its memory with another tensor")
            plan._fill(optimizer, [m for m in members if id(m[1]) not in plan._sharers])
        plan._set_options(optimizer)
        plan.others.warn(optimizer)
        gradients = plan._gradients_of_buckets()
        if gradients is None:
            raise RuntimeError("the parameters changed while the step was looking at them")
        return plan, gradients

    def _sort(self, optimizer: FusedOptimizer) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield parameters for the buckets, (place of the group, parameter)."""
        for place, group in enumerate(optimizer.param_groups):
            view = self._views[place]
            capturable = view.get("capturable", False)
            stateless = not _needs_state(optimizer, view)
            for p in group["params"]:
                gradient = p.grad
                if gradient is not None:
                    need_own_memory(p)
                refused = capturable and not is_live(group, p, optimizer._counts_steps)
                reason = "capturable=True" if refused else why_not(p, gradient)
                # One that had gradients before may have them again.
                known = bool(optimizer.state.get(p)) or (stateless and p.requires_grad)
                if gradient is None and (reason is not None or not known):
                    self.idle.append(p)
                elif reason is not None:
                    self.others.add(place, p, reason)
                else:
                    yield place, p

    def _fill(self, optimizer: FusedOptimizer, members: list[tuple[int, torch.Tensor]]) -> None:
        """Make buckets of these parameters, and their state where it is missing."""
        buckets: dict[Kind, Bucket] = {}
        numbers = {id(p): i for i, p in enumerate(self.params)}
        for place, group in enumerate(optimizer.param_groups):
            params = [p for at, p in members if at == place]
            if not params:
                continue
            view = self._views[place]
            rule = optimizer._rule(view)
            check_rounding(group)
            optimizer._begin_state(group, params)
            for p in params:
                kind = kind_of(rule, group, p, optimizer._counts_steps)
                if kind not in buckets:
                    buckets[kind] = Bucket(kind, optimizer._counts_steps)
                entries = optimizer.state[p] if _needs_state(optimizer, view) else None
                buckets[kind].add(p, place, entries, numbers[id(p)])
        self.buckets = list(buckets.values())
        for bucket in self.buckets:
            bucket.finish()
        self._entries = list(optimizer.state.values())

    def _find_sharers(self) -> set[int]:
        """Which parameters (their ids) lie, or have state, in memory that another one has too."""
        owners: list[torch.Tensor] = []
        pieces: list[tuple[int, int, int]] = []
        for bucket in self.buckets:
            pieces += bucket.pieces(len(owners))
            owners += bucket.params
        return {id(owners[i]) for i in sharing(pieces)}

    def _set_options(self, optimizer: FusedOptimizer) -> None:
        options = []
        for view in self._views:
            compiled = compiled_options(optimizer._rule(view), view)
            options.append({**compiled, "ema_decay": view["ema"] or 0.0})
        for bucket in self.buckets:
            bucket.set_options(options)

    # ---- a step ----------------------------------------------------------------------------------

    def gradients(self, optimizer: FusedOptimizer) -> Gradients | None:
        """All gradients by address, or None if the plan does not hold any more."""
        groups = optimizer.param_groups
        if not _core.same_objects(list(map(_PARAMS, groups)), self.params):
            return None
        values = list(map(self._read, groups))
        if (self._changing or values != self._values) and not self._follow(optimizer, values):
            return None
        if (
            not _core.same_objects([optimizer.state], self._entries)
            or any(p.grad is not None for p in self.idle)
            or (self.others and self._others_changed())
        ):
            return None
        return self._gradients_of_buckets()

    def _gradients_of_buckets(self) -> Gradients | None:
        lists = []
        for bucket in self.buckets:
            found = bucket.gradients()
            if found is None:
                return None
            lists.append(found)
        return lists

    def _follow(self, optimizer: FusedOptimizer, values: list[tuple[Any, ...]]) -> bool:
        """Take over changed options, if they mean the same rules as before."""
        views = list(map(self._view, values))
        if [_marks(optimizer, view) for view in views] != self._kinds:
            return False
        self._values = values
        self._changing = any(map(has_tensor, values))
        if views != self._views:
            self._views = views
            self.max_norm = _one_max_norm(views)
            self._set_options(optimizer)
        return True

    def _others_changed(self) -> bool:
        """Whether a kernel could take one of the others by now."""
        if any(view.get("capturable", False) for view in self._views):
            return False
        return any(
            p.grad is not None and why_not(p, p.grad) is None and id(p) not in self._sharers
            for p in chain.from_iterable(self.others.params)
        )

    @property
    def live(self) -> bool:
        """Whether a step needs no number from a device."""
        return not self.others and all(bucket.kind.live for bucket in self.buckets)

    def run(
        self, optimizer: FusedOptimizer, gradients: Gradients, scaling: Scaling
    ) -> Number | None:
        """Update all parameters; return the norm of the gradients if it is limited."""
        lr: list[Number] = [group["lr"] for group in optimizer.param_groups]
        max_norm = self.max_norm
        norm: Number | None = None
        if max_norm is not None and (len(self.buckets) != 1 or self.others):
            if any(bucket.kind.live for bucket in self.buckets):
                raise RuntimeError(
                    "max_norm: with capturable=True or fused=True on a device all parameters must "
                    "be of one dtype, because their norm stays there"
                )
            square = self.others.square_norm(scaling.factor)
            for bucket, own in zip(self.buckets, gradients, strict=True):
                square += bucket.square_norm(own, scaling.factor)
            norm = total = square**0.5
            factor = scaling.factor * _core.clip_coefficient(total, max_norm)
            scaling = dataclasses.replace(scaling, factor=factor)
            max_norm = None
        # First what may still refuse.
        if self.others:
            self.others.step(optimizer, scaling.factor)
        for bucket, own in zip(self.buckets, gradients, strict=True):
            taken = bucket.step(own, lr, scaling, max_norm)
            norm = norm if taken is None else taken
        return norm


def _marks(optimizer: FusedOptimizer, view: Group) -> tuple[Any, ...]:
    """What of a group's options decides into which bucket its parameters go."""
    return (
        optimizer._rule(view),
        view["ema"] is not None,
        view["master_weights"],
        view["stochastic_rounding"],
        view["clear_gradients"],
        view.get("capturable", False),
    )


def _needs_state(optimizer: FusedOptimizer, view: Group) -> bool:
    """Whether PyTorch, or an option of ours, keeps something for each parameter."""
    beside = view["ema"] is not None or view["master_weights"] or view["stochastic_rounding"]
    return beside or optimizer._counts_steps or bool(states_of(optimizer._rule(view)))


def _one_max_norm(views: list[Group]) -> float | None:
    norms = {view["max_norm"] for view in views}
    if len(norms) > 1:
        raise ValueError(
            f"max_norm limits the norm of all gradients together and must be the same in all "
            f"groups, got {sorted(norms, key=str)}"
        )
    norm: float | None = norms.pop()
    return norm
