# SPDX-License-Identifier: Apache-2.0
"""What all optimizers share: arguments, conventions, and the way to the engine."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypedDict

import numpy as np

from fusednn import catalog, schedules
from fusednn.errors import (
    check_flag,
    check_integer,
    check_number,
    unexpected_keyword,
    unknown_choice,
)

if TYPE_CHECKING:
    from fusednn.models import Model

CONVENTIONS = ("torch", "keras", "textbook")


class Common(TypedDict, total=False):
    """What every optimizer takes beside its own hyper-parameters."""

    weight_decay: float | None
    decoupled_weight_decay: bool | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    l1: float
    maximize: bool
    gradient_accumulation_steps: int | None


_COMMON: dict[str, Any] = {
    "weight_decay": None,
    "decoupled_weight_decay": None,
    "clipnorm": None,
    "clipvalue": None,
    "global_clipnorm": None,
    "use_ema": False,
    "ema_momentum": 0.99,
    "l1": 0.0,
    "maximize": False,
    "gradient_accumulation_steps": None,
}
# Upper ends that do not belong to the domain; everything else is any number from 0 on.
_BELOW_ONE = ("beta_1", "beta_2", "rho", "ema_momentum")


class Optimizer:
    """Base class of all optimizers. It holds the configuration; the engine holds the state.

    Attributes
    ----------
    learning_rate : float
        May be set at any time; the next step uses it. With a schedule it is the rate of the latest
        step, and cannot be set.
    schedule : fusednn.schedules.LearningRateSchedule or None
        What ``learning_rate`` was given, if it was a schedule.
    """

    # The engine's names of hyper-parameters where they are not those used here.
    _engine_names: ClassVar[Mapping[str, str]] = {
        "learning_rate": "lr",
        "beta_1": "beta1",
        "beta_2": "beta2",
        "epsilon": "eps",
    }
    # Defaults that a convention changes; all others are the engine's, which are PyTorch's.
    _defaults: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    _weight_decay: ClassVar[Mapping[str, float]] = {}
    _always_decoupled: ClassVar[bool] = False
    _conventions: ClassVar[tuple[str, ...]] = CONVENTIONS
    _flags: ClassVar[tuple[str, ...]] = ()

    def __init__(self, hyper: Mapping[str, Any], common: Mapping[str, Any]) -> None:
        for name in common:
            if name not in _COMMON:
                raise unexpected_keyword(type(self).__name__, name, [*hyper, *_COMMON])
        self.schedule = _schedule_of(hyper["learning_rate"])
        if self.schedule is not None:
            hyper = {**hyper, "learning_rate": self.schedule(0)}
        self._hyper = {k: v if v is None else self._check(k, v) for k, v in hyper.items()}
        self._common = {**_COMMON, **common}
        for name, value in self._common.items():
            if value is not None:
                self._common[name] = self._check(name, value)
        clips = [k for k in ("clipnorm", "clipvalue", "global_clipnorm") if self._common[k]]
        if len(clips) > 1:
            raise ValueError(f"give only one of {' and '.join(clips)}")
        self._model: weakref.ref[Model] | None = None

    def _check(self, name: str, value: Any) -> Any:
        if name in self._flags or isinstance(_COMMON.get(name), bool):
            return check_flag(name, value)
        if name == "decoupled_weight_decay":
            return check_flag(name, value)
        if name == "gradient_accumulation_steps":
            return check_integer(name, value, 1)
        if name in ("clipnorm", "clipvalue", "global_clipnorm"):
            return check_number(name, value, 0, open_low=True)
        if name in _BELOW_ONE:
            return check_number(name, value, 0, 1, open_high=True)
        return check_number(name, value, 0)

    # ---- configuration -------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments; None is the convention's default.

        Examples
        --------
        >>> from fusednn import optimizers
        >>> optimizers.SGD(0.1).get_config()["learning_rate"]
        0.1
        """
        rate = self._bound_rate() if self.schedule is None else self.schedule.serialize()
        hyper = dict(self._hyper) if rate is None else {**self._hyper, "learning_rate": rate}
        return {**hyper, **self._common}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Optimizer:
        """Make an optimizer of what ``get_config`` returned."""
        return cls(**config)

    def __repr__(self) -> str:
        config = self.get_config().items()
        given = {k: v for k, v in config if v not in (None, False) and v != _COMMON.get(k)}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def _rule(self) -> str:
        """Return the engine's name of the rule that the arguments select."""
        return type(self).__name__.lower()

    def _engine_name(self, name: str) -> str:
        return self._engine_names.get(name, name)

    def resolve(self, convention: str) -> dict[str, Any]:
        """Return what the engine is told: rule, hyper-parameters, and what rides along."""
        if convention not in CONVENTIONS:
            raise unknown_choice("convention", convention, CONVENTIONS)
        if convention not in self._conventions:
            raise ValueError(
                f"{type(self).__name__} is not defined for convention={convention!r}; "
                f"it is for {' and '.join(self._conventions)}"
            )
        rule = self._rule()
        known = catalog.optimizers()[rule]
        changed = self._defaults.get(convention, {})
        hyper: dict[str, float] = {}
        for name, given in self._hyper.items():
            field = self._engine_name(name)
            if field in known:
                value = changed.get(name, known[field].default) if given is None else given
                hyper[field] = float(value)
        decay = self._common["weight_decay"]
        if decay is None:
            decay = self._weight_decay.get(convention, 0.0)
        decoupled = self._common["decoupled_weight_decay"]
        if decoupled is None:
            decoupled = self._always_decoupled or convention == "keras"
        spec = self._finish(
            {
                "rule": rule,
                "convention": convention,
                "hyper": hyper,
                "weight_decay": decay,
                "decoupled": decoupled,
                "l1": self._common["l1"],
                "maximize": self._common["maximize"],
                "clip_value": self._common["clipvalue"] or 0.0,
                "clip_norm": self._common["clipnorm"] or 0.0,
                "global_clip_norm": self._common["global_clipnorm"] or 0.0,
                "ema_decay": self._common["ema_momentum"] if self._common["use_ema"] else 0.0,
            }
        )
        if self._steps_per_update() > 1:
            spec["accumulation_steps"] = self._steps_per_update()
        return spec

    def _finish(self, spec: dict[str, Any]) -> dict[str, Any]:
        return spec

    def _steps_per_update(self) -> int:
        return self._common["gradient_accumulation_steps"] or 1

    # ---- at work -------------------------------------------------------------------------------

    def check_free(self, model: Model) -> None:
        """Raise ValueError when the optimizer trains another model."""
        owner = self._model() if self._model is not None else None
        if owner is not None and owner is not model and owner.optimizer is self:
            raise ValueError(
                f"this {type(self).__name__} trains another model already; make a new one, for "
                "instance with from_config(optimizer.get_config())"
            )

    def bind(self, model: Model) -> None:
        """Belong to a model; from now on `learning_rate` is the one in use."""
        self._model = weakref.ref(model)

    def _engine(self) -> Any:
        model = self._model() if self._model is not None else None
        return model._engine_of(self) if model is not None else None

    def _bound_rate(self) -> float | None:
        engine = self._engine()
        return None if engine is None else engine.hyper("lr")

    @property
    def learning_rate(self) -> float | None:
        rate = self._bound_rate()
        return self._hyper["learning_rate"] if rate is None else rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        if self.schedule is not None:
            raise TypeError(
                f"learning_rate follows {self.schedule!r} and cannot be set; compile the model "
                "with an optimizer that has a number instead"
            )
        value = check_number("learning_rate", value, 0)
        if (engine := self._engine()) is not None:
            engine.set_hyper("lr", value)
        self._hyper["learning_rate"] = value

    def schedules_of(self, steps: int) -> dict[str, np.ndarray]:
        """Return the hyper-parameters that change within the next steps, a value for each."""
        if self.schedule is None:
            return {}
        each = self._steps_per_update()
        done = self._engine().collected if each > 1 else 0
        updates = (done + np.arange(steps)) // each
        rates = self.schedule.values((self.iterations + updates).astype(np.float64))
        rates = np.ascontiguousarray(rates, np.float64)
        if rates.shape != (steps,) or not (rates >= 0).all():
            raise ValueError(
                f"{self.schedule!r} must give one learning rate of at least 0 for each of {steps} "
                f"steps, got {rates!r}"
            )
        return {"lr": rates}

    @property
    def iterations(self) -> int:
        """Updates made so far."""
        engine = self._engine()
        return 0 if engine is None else engine.optimizer_steps

    def __getstate__(self) -> dict[str, Any]:
        return {"config": self.get_config()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        type(self).__init__(self, **state["config"])


def _schedule_of(learning_rate: object) -> schedules.LearningRateSchedule | None:
    if isinstance(learning_rate, (schedules.LearningRateSchedule, Mapping)):
        return schedules.get(learning_rate)
    if callable(learning_rate):
        raise TypeError(
            "learning_rate must be a number or one of fusednn.schedules; to compute it once an "
            "epoch use callbacks.LearningRateScheduler"
        )
    return None
