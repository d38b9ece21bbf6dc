# SPDX-License-Identifier: Apache-2.0
"""The optimizer of a fit: its options, its state, and its learning rate from epoch to epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fusednn import optimizers
from fusednn.errors import check_number

# What scikit-learn's own solvers take under the same name. Their formulas are those of Keras.
_OWN = {"sgd": ("momentum",), "adam": ("beta_1", "beta_2", "epsilon")}
_CONVENTION = "keras"
_TOO_SMALL = 1e-6  # learning rates at which "adaptive" gives up


def names() -> list[str]:
    """Return the solvers that work batch by batch."""
    return sorted({name.lower() for name in optimizers.__all__} & set(_classes()))


def _classes() -> dict[str, Any]:
    return {
        kind.__name__.lower(): kind
        for kind in vars(optimizers).values()
        if isinstance(kind, type) and issubclass(kind, optimizers.Optimizer)
        if kind is not optimizers.Optimizer
    }


def spec_of(estimator: Any) -> dict[str, Any]:
    """Return the engine's optimizer that an estimator's parameters describe."""
    solver = estimator.solver
    if isinstance(solver, optimizers.Optimizer):
        return solver.resolve("torch")
    options = {"learning_rate": float(estimator.learning_rate_init)}
    options.update((name, getattr(estimator, name)) for name in _OWN.get(solver, ()))
    options.update(estimator.optimizer_params or {})
    if solver == "sgd" and options["momentum"]:  # without which it would make no difference
        options.setdefault("nesterov", estimator.nesterovs_momentum)
    spec = _classes()[solver](**options).resolve(_CONVENTION if solver in _OWN else "torch")
    if solver == "sgd":  # scikit-learn's has velocities also where the momentum is 0
        spec["rule"], spec["hyper"]["momentum"] = "momentum", float(options["momentum"])
    return spec


class Optimizer:
    """Options and state of an optimizer, which can be kept with the estimator.

    While a network works with it, the state lies in the network; a copy goes into a pickle.

    Parameters
    ----------
    spec : dict
        The engine's.
    schedule : {"constant", "invscaling", "adaptive"}
    power_t : float
    rates : callable, optional
        The learning rate of each step, counted from 0, in place of `schedule`.

    Attributes
    ----------
    learning_rate : float
        Of the next step.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        schedule: str,
        power_t: float,
        rates: Callable[[int], float] | None,
    ) -> None:
        self.spec = dict(spec)
        self.learning_rate_init = self.learning_rate = float(spec["hyper"]["lr"])
        self.schedule = schedule
        self.power_t = power_t
        self.rates = rates
        self._network: Any = None
        self._kept: tuple[int, list[float], list[list[np.ndarray]]] | None = None

    # ---- learning rate -------------------------------------------------------------------------

    def iteration_ends(self, seen: int) -> None:
        """Change the learning rate after an epoch; `seen` samples so far."""
        if self.schedule == "invscaling":
            self.learning_rate = self.learning_rate_init / (seen + 1) ** self.power_t

    def gives_up(self, message: str, verbose: bool) -> bool:
        """Whether to stop now that there is no more progress, or to go on with smaller steps."""
        if self.schedule != "adaptive":
            end = "Stopping."
        elif self.learning_rate <= _TOO_SMALL:
            end = "Learning rate too small. Stopping."
        else:
            self.learning_rate /= 5.0
            if verbose:
                print(f"{message} Setting learning rate to {self.learning_rate:f}")
            return False
        if verbose:
            print(f"{message} {end}")
        return True

    def rates_of(self, steps: int) -> np.ndarray:
        """Return the learning rate of each of the next steps."""
        if self.rates is None:
            return np.full(steps, self.learning_rate)
        first = self.iterations
        numbers = range(first, first + steps)
        return np.array([check_number(f"schedule({i})", self.rates(i), 0) for i in numbers])

    # ---- state ---------------------------------------------------------------------------------

    @property
    def iterations(self) -> int:
        """How many steps have been taken."""
        if self._network is not None:
            return self._network.optimizer_steps
        return 0 if self._kept is None else self._kept[0]

    def _state(self) -> tuple[int, list[float], list[list[np.ndarray]]] | None:
        if self._network is None:
            return self._kept
        slots = [
            [array.copy() for array in slot["values"]] for slot in self._network.optimizer_states()
        ]
        return self._network.optimizer_steps, self._network.optimizer_memory, slots

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_network": None, "_kept": self._state()}

    def join(self, network: Any, criterion: Mapping[str, Any], penalties: Any) -> None:
        """Become the optimizer of a network, with the state there is.

        `penalties` has l1 and l2 of each parameter of the network.
        """
        kept = self._state()
        network.set_training([dict(criterion)], [], {**self.spec, "treatments": penalties})
        self._network = network
        network.training_steps = 0 if kept is None else kept[0]
        if kept is None:
            return
        network.optimizer_steps, network.optimizer_memory, slots = kept
        for slot, arrays in zip(network.optimizer_states(), slots, strict=True):
            for own, array in zip(slot["values"], arrays, strict=True):
                own[...] = array
