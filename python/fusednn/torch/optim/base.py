# SPDX-License-Identifier: Apache-2.0
"""What all fused optimizers share: the step, and state beside PyTorch's own."""

from __future__ import annotations

import abc
import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch.optim.optimizer import (
    ParamsT,
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
)

from fusednn.torch.optim.bucket import Scaling
from fusednn.torch.optim.fallback import clear_gradients
from fusednn.torch.optim.options import (
    EXTRAS,
    Group,
    Number,
    check_group,
    check_rounding,
    is_live,
)
from fusednn.torch.optim.plan import Plan

# State that PyTorch would round to the dtype of the parameter when it is loaded.
KEPT = ("master", "ema", "mu_product")


class _Kept:
    """Carries a tensor past the casts of Optimizer.load_state_dict, which leaves it alone."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def _wrap_kept(_: torch.optim.Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
    state = {
        key: {
            name: _Kept(value) if name in KEPT and isinstance(value, torch.Tensor) else value
            for name, value in entries.items()
        }
        if isinstance(entries, dict)
        else entries
        for key, entries in state_dict["state"].items()
    }
    return {**state_dict, "state": state}


def _with_hooks(function: Callable[..., Any]) -> Callable[..., Any]:
    """Surround a step with what Optimizer.profile_hook_step surrounds it with.

    The base class would do it, but asks the profiler in each step even if none is running, which
    takes as long as a step over a few thousand parameters.
    """

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        if torch.autograd._profiler_enabled():
            name = f"Optimizer.step#{type(args[0]).__name__}.step"
            with torch.autograd.profiler.record_function(name):
                return hooked(*args, **kwargs)
        return hooked(*args, **kwargs)

    def hooked(*args: Any, **kwargs: Any) -> Any:
        self = args[0]
        for pre_hook in (
            *_global_optimizer_pre_hooks.values(),
            *self._optimizer_step_pre_hooks.values(),
        ):
            result = pre_hook(self, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(
                        f"{function} must return None or a tuple of (new_args, new_kwargs), "
                        f"but got {result}."
                    )
                args, kwargs = result
        out = function(*args, **kwargs)
        self._optimizer_step_code()
        for post_hook in (
            *self._optimizer_step_post_hooks.values(),
            *_global_optimizer_post_hooks.values(),
        ):
            post_hook(self, args, kwargs)
        return out

    # torch.compile must not trace what reads pointers.
    untraced: Any = torch.compiler.disable(step)
    untraced.hooked = True  # the base class has nothing left to do
    return untraced


class FusedOptimizer(torch.optim.Optimizer, abc.ABC):
    """An optimizer whose step is one native call over all parameters.

    A subclass derives from this and from its namesake in PyTorch, whose constructor, state and
    formula it takes over; what that one does in ``step`` is done here for all parameters at once.
    Parameters that no kernel can take (on another device, of a subclass of Tensor, with sparse
    gradients ...) are updated by the code of the namesake, or refused where there is none.

    Attributes
    ----------
    gradient_norm : float or Tensor, optional
        With `max_norm`, the norm of all gradients in the last step, before it was limited: a tensor
        of float64 where the step left it on the device (`capturable`, `fused`).
    """

    # The optimizer of PyTorch whose constructor and state this one has, and whose code updates what
    # no kernel can take. None where PyTorch has no such optimizer.
    _reference: ClassVar[type[torch.optim.Optimizer] | None]
    # Whether the state of a parameter has a "step".
    _counts_steps: ClassVar[bool] = True

    # GradScaler then leaves scaling and the check for infinities to step().
    _step_supports_amp_scaling = True
    _plan: Plan | None = None
    gradient_norm: Number | None = None

    @staticmethod
    @abc.abstractmethod
    def _rule(group: Mapping[str, Any], /) -> str:
        """Name of the compiled rule that a group's options ask for: a choice of `optim.rules`."""

    def _construct(self, params: ParamsT, options: Group, _: Group) -> None:
        extras = {name: options.pop(name) for name in EXTRAS}
        assert self._reference is not None
        construct: Any = self._reference.__init__
        construct(self, params, **options)
        self._add_extras(**extras)

    def _add_extras(self, **extras: Any) -> None:
        """Make our keywords options of all groups. Constructors end with this."""
        check_group(extras)
        self.defaults.update(extras)
        for group in self.param_groups:
            for name, value in extras.items():
                group.setdefault(name, value)
            check_rounding(group)

    def add_param_group(self, param_group: Group) -> None:
        """Add a group of parameters, as in PyTorch."""
        if isinstance(param_group, dict):
            check_group({**self.defaults, **param_group})
        super().add_param_group(param_group)
        try:
            check_rounding({**EXTRAS, **self.param_groups[-1]})
        except ValueError:
            self.param_groups.pop()
            raise

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this optimizer or of its namesake in PyTorch."""
        # As the last of the hooks, because earlier ones may replace the dictionary.
        handle = self.register_load_state_dict_pre_hook(_wrap_kept)
        try:
            super().load_state_dict(state_dict)
        finally:
            handle.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        for entries in state.get("state", {}).values():
            if isinstance(entries, dict):
                for name, value in entries.items():
                    if isinstance(value, _Kept):
                        entries[name] = value.tensor
        super().__setstate__(state)
        self._plan = None
        for group in self.param_groups:
            for name, value in EXTRAS.items():
                group.setdefault(name, self.defaults.get(name, value))

    @_with_hooks
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters from their gradients.

        Parameters
        ----------
        closure : callable, optional
            Evaluates the model again and returns the loss.

        Returns
        -------
        loss
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # GradScaler attaches these for the time of the call.
        found_inf, grad_scale = map(self.__dict__.get, ("found_inf", "grad_scale"))
        scaling = Scaling(found_inf, grad_scale)
        if not (found_inf is grad_scale is None or self._stays_on_device()):
            known = scaling.on_host()
            if known is None:
                clear_gradients(self.param_groups)
                return loss
            scaling = known

        plan = self._plan
        gradients = None if plan is None else plan.gradients(self)
        if plan is None or gradients is None:
            self._plan = None
            plan, gradients = Plan.make(self)
            self._plan = plan
        known = scaling if plan.live else scaling.on_host()
        if known is None:
            clear_gradients(self.param_groups)
        else:
            self.gradient_norm = plan.run(self, gradients, known)
        return loss

    def _stays_on_device(self) -> bool:
        """Whether the step needs no number on the host."""
        if self._plan is not None:
            return self._plan.live
        return all(
            is_live(group, p, self._counts_steps)
            for group in self.param_groups
            for p in group["params"]
        )

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients of all parameters, as in PyTorch.

        Parameters
        ----------
        set_to_none : bool
            Whether to drop them; False fills them with zeros.
        """
        # As around a step, the base class asks the profiler even if none is running. Between two
        # steps the code for that has left the caches: fetching it anew took 0.1 ms of 6.
        seen = torch.compiler.is_compiling() or torch.autograd._profiler_enabled()
        if seen or not set_to_none:
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def _begin_state(self, group: Group, params: list[torch.Tensor]) -> None:
        """Make the state of parameters that have none yet, as the reference does."""
        assert self._reference is not None
        init: Any = self._reference._init_group
        lists = len(inspect.signature(init).parameters) - 2
        init(self, {**group, "params": params}, *([] for _ in range(lists)))

    # ---- averages of the parameters --------------------------------------------------------------

    def _averages(self) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        for group in self.param_groups:
            for p in group["params"]:
                if "ema" in self.state.get(p, ()):
                    yield p, self.state[p]["ema"]

    @contextlib.contextmanager
    def averaged_parameters(self) -> Iterator[None]:
        """Let the parameters be their averages in a ``with`` block, to evaluate the model.

        Examples
        --------
        >>> import torch
        >>> from fusednn.torch.optim import SGD
        >>> p = torch.nn.Parameter(torch.tensor([1.0]))
        >>> optimizer = SGD([p], lr=1.0, ema=0.5)
        >>> p.grad = torch.tensor([1.0])
        >>> optimizer.step()
        >>> with optimizer.averaged_parameters():
        ...     p.item()
        0.5
        >>> p.item()
        0.0
        """
        kept = [(p, p.detach().clone()) for p, _ in self._averages()]
        try:
            with torch.no_grad():
                for p, average in self._averages():
                    p.copy_(average)
            yield
        finally:
            with torch.no_grad():
                for p, own in kept:
                    p.copy_(own)

    @torch.no_grad()
    def copy_ema_to(self, parameters: Iterable[torch.Tensor]) -> None:
        """Copy the averages into the parameters of another model, in the order of the groups.

        Parameters without an average (they never had a gradient) are copied as they are.
        """
        own = [p for group in self.param_groups for p in group["params"]]
        others = list(parameters)
        if len(own) != len(others):
            raise ValueError(
                f"parameters: got {len(others)}, expected {len(own)}, as many as are optimized"
            )
        for p, other in zip(own, others, strict=True):
            other.copy_(self.state.get(p, {}).get("ema", p))
