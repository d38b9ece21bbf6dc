# SPDX-License-Identifier: Apache-2.0
"""Parameters of one kind, and the native updater that steps over all of them at once."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any

import torch

from fusednn import _core
from fusednn.device import queue_of
from fusednn.torch.optim.options import Kind, Number
from fusednn.torch.optim.reading import copied_like, laid_out_like, why_not

Entries = dict[str, Any]

_GRAD = operator.attrgetter("grad")
_VERSION = operator.attrgetter("_version")


@dataclass(frozen=True)
class Scaling:
    """What a GradScaler gave to a step, as it gave it, and a factor known on the host."""

    found_inf: torch.Tensor | None = None
    grad_scale: torch.Tensor | None = None
    factor: float = 1.0

    def on_host(self) -> Scaling | None:
        """The same with the factor alone; None where gradients are not finite."""
        if self.found_inf is not None and self.found_inf.item() != 0:
            return None
        scale = 1.0 if self.grad_scale is None else self.grad_scale.item()
        return Scaling(factor=self.factor / scale)


class Bucket:
    """One native updater and everything it points to.

    What a step needs of the tensors is read here once. From then on each step only makes sure that
    nothing has changed: addresses and layouts natively, the objects by identity.
    """

    def __init__(self, kind: Kind, counted: bool) -> None:
        self.kind = kind
        self._counted = counted
        # Where PyTorch keeps no count of steps it is kept here; noise that depends on it asks for
        # one that is saved.
        self._own_count = not counted and not kind.stochastic
        self.updater = self._new_updater()
        self.params: list[torch.Tensor] = []
        self.places: list[int] = []
        self._numbers: list[int] = []
        self._entries: list[Entries] = []
        # Per state of the rule, and of what is beside it, one tensor for each parameter.
        self._states: dict[str, list[torch.Tensor]] = {name: [] for name in self._state_names()}
        self._counts: list[float] = []
        self._copies: list[torch.Tensor | None] = []

    def _new_updater(self) -> _core.Updater:
        kind = self.kind
        device = {} if kind.device == "cpu" else {"device": kind.device}
        return _core.Updater(
            kind.rule,
            dtype=kind.native_dtype,
            ema=kind.ema,
            masters=kind.masters,
            live=kind.live,
            stochastic=kind.stochastic,
            **device,
        )

    def _state_names(self) -> list[str]:
        names = [*self.updater.states]
        names += self.updater.scalars[1:] if self._own_count else self.updater.scalars
        names += ["ema"] if self.kind.ema else []
        return names + (["master"] if self.kind.masters else [])

    # ---- building --------------------------------------------------------------------------------

    def add(self, p: torch.Tensor, place: int, entries: Entries | None, number: int) -> None:
        """Add a parameter of the group at `place`, with its state in PyTorch's form.

        `number` is that of the parameter among all of the optimizer.
        """
        self.params.append(p)
        self.places.append(place)
        self._numbers.append(number)
        self._counts.append(1.0 if entries else 0.0)
        if entries is not None:
            self._entries.append(entries)
        for name, tensors in self._states.items():
            assert entries is not None
            tensors.append(self._state(p, name, entries))

    def _state(self, p: torch.Tensor, name: str, entries: Entries) -> torch.Tensor:
        given = entries.get(name)
        if name == "step" and not self._counted and given is None:
            given = self._counts[-1]
        if name in self.updater.scalars:
            made = _scalar(name, given, p.device if self.kind.live else torch.device("cpu"))
        elif name in ("ema", "master"):
            wide = self.kind.wide
            made = copied_like(p, p, wide) if given is None else laid_out_like(p, given, wide)
        elif given is not None:
            made = laid_out_like(p, given, p.dtype)
        elif name == "momentum_buffer" and not self._counted:
            # PyTorch makes it of the first gradient: so does the rule, in its first step.
            made = torch.zeros_like(p, memory_format=torch.preserve_format)
            self._counts[-1] = 0.0
        else:
            raise KeyError(
                f"{name!r}: missing in the state of a parameter of shape {tuple(p.shape)}; an "
                "option that needs it was switched on after the first step"
            )
        if made is not given:
            entries[name] = made
        return made

    def finish(self) -> None:
        """Hand all addresses to the native side, and remember how everything looked."""
        n = len(self.params)
        where = self.params[0].device if self.kind.live else "cpu"
        count = torch.tensor(self._counts, dtype=torch.float32, device=where)
        if self._own_count:
            self._count = count  # the native side points to it
        self._tensors = [*self.params, *chain.from_iterable(self._states.values())]
        self._like = _core.TensorList(torch.Tensor, self.params)
        self._look = _core.TensorList(torch.Tensor, self._tensors)
        self._values = list(chain.from_iterable(map(dict.values, self._entries)))
        self._versions = list(map(_VERSION, self.params))
        # PyTorch computes conjugates late, and so the imaginary part of one, which as a view into
        # complex numbers cannot look like a dense parameter, unless it is a single number.
        lazy = [self.kind.dtype.is_complex or p.numel() == 1 for p in self.params]
        self._maybe_lazy = lazy if any(lazy) else []

        lists = [self._look.addresses[i * n : i * n + n] for i in range(1 + len(self._states))]
        of = dict(zip(self._states, lists[1:], strict=True))
        if self._own_count:
            of["step"] = [count.data_ptr() + 4 * i for i in range(n)]
        self.groups = sorted(set(self.places))
        # A complex number is two real ones, for every formula and for the norm.
        parts = 2 if self.kind.dtype.is_complex else 1
        sizes = [p.numel() * parts for p in self.params]
        states = [of[name] for name in self.updater.states]
        scalars = [of[name] for name in self.updater.scalars]
        groups = [self.groups.index(place) for place in self.places]
        self._hand_over = functools.partial(
            _core.Updater.set_tensors,
            parameters=lists[0],
            sizes=sizes,
            states=states,
            scalars=scalars,
            groups=groups,
            ema=of.get("ema"),
            masters=of.get("master"),
            numbers=self._numbers,
        )
        self._hand_over(self.updater)

    def pieces(self, owner: int) -> list[tuple[int, int, int]]:
        """The memory that a step writes, as (begin, end, owner), owners counted from `owner`."""
        n = len(self.params)
        return [
            (t.data_ptr(), t.data_ptr() + t.numel() * t.element_size(), owner + i % n)
            for i, t in enumerate(self._tensors)
        ]

    def set_options(self, options: Sequence[dict[str, Any]]) -> None:
        """Set the options of all groups of the optimizer."""
        self._options = [options[place] for place in self.groups]
        self.updater.set_groups(self._options)

    # ---- a step ----------------------------------------------------------------------------------

    def gradients(self) -> _core.Gradients | None:
        """The gradients by address, or None if anything has changed."""
        if not _core.same_objects(self._entries, self._values):
            return None
        if not self._look.unchanged(self._tensors):
            return None
        gradients = list(map(_GRAD, self.params))
        found = self._like.gradients_like(gradients)
        if found is None:
            return self._copied(gradients)
        if self._maybe_lazy and any(map(_is_lazy, compress(gradients, self._maybe_lazy))):
            return self._copied(gradients)
        return found

    def _copied(self, gradients: list[torch.Tensor | None]) -> _core.Gradients | None:
        """The same, with copies of those that are not laid out like their parameters."""
        self._copies = []
        for p, gradient in zip(self.params, gradients, strict=True):
            if gradient is not None and why_not(p, gradient) is not None:
                return None
            copy = None if gradient is None else laid_out_like(p, gradient.detach())
            self._copies.append(copy)
        return self._like.gradients_like(self._copies)

    def square_norm(self, gradients: _core.Gradients, scale: float) -> float:
        return self.updater.square_norm(gradients, gradient_scale=scale, **self._queue())

    def step(
        self,
        gradients: _core.Gradients,
        lr: Sequence[Number],
        scaling: Scaling,
        max_norm: float | None,
    ) -> Number | None:
        """Update everything that has a gradient; return the norm if it is limited.

        That of a live bucket, which alone takes tensors in `scaling`, is a tensor.
        """
        if self.kind.masters:
            self._follow_parameters()
        rates = [lr[place] for place in self.groups]
        if self.kind.live:
            norm = self._live_step(gradients, rates, scaling, max_norm)
        else:
            norm = self.updater.step(
                gradients,
                lr=list(map(float, rates)),
                gradient_scale=scaling.factor,
                max_norm=max_norm,
                clear_gradient=self.kind.clears,
                **self._queue(),
            )
        stepped = (
            self.params if gradients.complete else [p for p in self.params if p.grad is not None]
        )
        torch.autograd.graph.increment_version(stepped)
        if self.kind.clears:
            self._cleared(stepped)
        if self.kind.masters:
            self._versions = list(map(_VERSION, self.params))
        self._copies = []
        return norm

    def _cleared(self, stepped: list[torch.Tensor]) -> None:
        """Finish what the pass has begun: of copies it cleared only the copy."""
        torch.autograd.graph.increment_version([p.grad for p in stepped])
        for p, copy in zip(self.params, self._copies, strict=False):
            if copy is not None and copy.data_ptr() != p.grad.data_ptr():
                p.grad.detach().zero_()

    def _live_step(
        self,
        gradients: _core.Gradients,
        lr: list[Number],
        scaling: Scaling,
        max_norm: float | None,
    ) -> torch.Tensor | None:
        """The same without waiting for the device, so that a graph may capture it."""
        device = self.params[0].device
        # What a step puts into memory of its own is a graph's there, and so is the updater.
        updater = self.updater
        if _capturing():
            updater = self._new_updater()
            self._hand_over(updater)
            updater.set_groups(self._options)
        rates = [_rate_at(rate, device) for rate in lr]
        found_inf, grad_scale = scaling.found_inf, scaling.grad_scale
        norm = None if max_norm is None else torch.empty((), dtype=torch.float64, device=device)
        updater.step(
            gradients,
            lr=[0.0 if isinstance(rate, torch.Tensor) else rate for rate in rates],
            gradient_scale=scaling.factor,
            max_norm=max_norm,
            clear_gradient=self.kind.clears,
            live={
                "lr": [
                    (rate.data_ptr(), rate.dtype == torch.float64)
                    if isinstance(rate, torch.Tensor)
                    else (0, False)
                    for rate in rates
                ],
                "found_inf": 0 if found_inf is None else found_inf.data_ptr(),
                "loss_scale": 0 if grad_scale is None else grad_scale.data_ptr(),
                "norm": 0 if norm is None else norm.data_ptr(),
            },
            **self._queue(),
        )
        return norm

    def _queue(self) -> dict[str, Any]:
        """Where a step runs: on PyTorch's current stream, if the parameters are on a device."""
        return {} if self.kind.device == "cpu" else {"queue": queue_of(self.params[0])}

    @torch.no_grad()
    def _follow_parameters(self) -> None:
        """Take over parameters that somebody else has written since the last step."""
        versions = list(map(_VERSION, self.params))
        if versions == self._versions:
            return
        for p, master in zip(self.params, self._states["master"], strict=True):
            # Where the parameter is still the rounded master, the master knows more.
            changed = p != master.to(p.dtype)
            master.copy_(torch.where(changed, p.to(master.dtype), master))


def _is_lazy(gradient: torch.Tensor | None) -> bool:
    return gradient is not None and (gradient.is_neg() or gradient.is_conj())


def _capturing() -> bool:
    """Whether what is put on PyTorch's current stream becomes part of a graph."""
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def _rate_at(rate: Number, device: torch.device) -> Number:
    """A learning rate as the native side takes it: a float, or a tensor on the device."""
    if not isinstance(rate, torch.Tensor) or rate.device != device:
        return float(rate)
    return rate if rate.dtype in (torch.float32, torch.float64) else rate.float()


def _scalar(name: str, given: Any, device: torch.device) -> torch.Tensor:
    """A number of the state as the native side reads it: float32, alone, on this device."""
    if given is None:
        raise KeyError(f"{name!r}: missing in the state of a parameter")
    if (
        type(given) is torch.Tensor
        and given.dtype == torch.float32
        and given.device == device
        and given.numel() == 1
    ):
        return given
    return torch.tensor(float(given), dtype=torch.float32, device=device)
