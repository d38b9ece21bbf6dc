# SPDX-License-Identifier: Apache-2.0
"""Learning rates that change with the step, under Keras' names.

A schedule is given to an optimizer as its ``learning_rate``. It is evaluated for all steps of an
epoch at once, before the epoch begins, and each step reads its own value: a schedule costs a native
epoch nothing. Steps count from 0 at ``compile`` and go on from one ``fit`` to the next.

`OneCycle` is PyTorch's `OneCycleLR`, which Keras does not have; `Warmup` puts a rise in front of
any schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fusednn.errors import (
    check_flag,
    check_integer,
    check_number,
    helpful_keywords,
    unknown_choice,
)


class LearningRateSchedule:
    """Base class. A subclass keeps its constructor's arguments as attributes of the same names.

    To write one, define ``values``; see `ExponentialDecay`.
    """

    _arguments: tuple[str, ...] = ()

    def values(self, steps: np.ndarray) -> np.ndarray:
        """Return the learning rates of the given steps, float64, of the same shape.

        Defined by each schedule.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define values()")

    def __call__(self, step: int) -> float:
        """Return the learning rate of one step.

        Examples
        --------
        >>> from fusednn import schedules
        >>> schedules.ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)(10)
        0.05
        """
        return float(self.values(np.array([check_integer("step", step, 0)], np.float64))[0])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {name: getattr(self, name) for name in self._arguments}

    def serialize(self) -> dict[str, Any]:
        """Return what ``get`` makes the same schedule of."""
        return {"class_name": type(self).__name__, "config": self.get_config()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def _rate(name: str, value: object) -> float:
    return check_number(name, value, 0)


class Constant(LearningRateSchedule):
    """Always the same."""

    _arguments = ("learning_rate",)

    @helpful_keywords
    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = _rate("learning_rate", learning_rate)

    def values(self, steps: np.ndarray) -> np.ndarray:
        return np.full(steps.shape, self.learning_rate)


class ExponentialDecay(LearningRateSchedule):
    """``initial_learning_rate * decay_rate ** (step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        In which the rate is multiplied by `decay_rate` once.
    decay_rate : float
    staircase : bool
        Whether the exponent is rounded down, so that the rate falls in steps.

    Examples
    --------
    >>> import fusednn
    >>> rate = fusednn.schedules.ExponentialDecay(0.1, decay_steps=1000, decay_rate=0.96)
    >>> optimizer = fusednn.optimizers.SGD(rate)
    """

    _arguments = ("initial_learning_rate", "decay_steps", "decay_rate", "staircase")

    @helpful_keywords
    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_integer("decay_steps", decay_steps, 1)
        self.decay_rate = check_number("decay_rate", decay_rate, 0)
        self.staircase = check_flag("staircase", staircase)

    def values(self, steps: np.ndarray) -> np.ndarray:
        passed = steps / self.decay_steps
        passed = np.floor(passed) if self.staircase else passed
        return self.initial_learning_rate * self.decay_rate**passed


class InverseTimeDecay(ExponentialDecay):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Parameters as in `ExponentialDecay`.
    """

    def values(self, steps: np.ndarray) -> np.ndarray:
        passed = steps / self.decay_steps
        passed = np.floor(passed) if self.staircase else passed
        return self.initial_learning_rate / (1 + self.decay_rate * passed)


class PiecewiseConstantDecay(LearningRateSchedule):
    """``values[i]`` up to and including step ``boundaries[i]``, and the last one after all of them.

    Parameters
    ----------
    boundaries : list of int
        Rising.
    values : list of float
        One more than there are boundaries.

    Examples
    --------
    >>> from fusednn import schedules
    >>> rate = schedules.PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])
    >>> [rate(step) for step in (100, 101, 500)]
    [0.1, 0.01, 0.001]
    """

    _arguments = ("boundaries", "rates")

    @helpful_keywords
    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        self.boundaries = [check_integer("boundaries: each", b, 0) for b in boundaries]
        self.rates = [_rate("values: each", v) for v in values]
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"boundaries must rise, got {self.boundaries}")
        if len(self.rates) != len(self.boundaries) + 1:
            raise ValueError(
                f"values must have one entry more than boundaries, got {len(self.rates)} for "
                f"{len(self.boundaries)} boundaries"
            )

    def values(self, steps: np.ndarray) -> np.ndarray:
        return np.array(self.rates)[np.searchsorted(self.boundaries, steps, side="left")]

    def get_config(self) -> dict[str, Any]:
        return {"boundaries": list(self.boundaries), "values": list(self.rates)}


class StepDecay(LearningRateSchedule):
    """``initial_learning_rate * factor ** floor(step / every)``. (PyTorch: StepLR, in steps.)"""

    _arguments = ("initial_learning_rate", "every", "factor")

    @helpful_keywords
    def __init__(self, initial_learning_rate: float, every: int, factor: float = 0.1) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.every = check_integer("every", every, 1)
        self.factor = check_number("factor", factor, 0)

    def values(self, steps: np.ndarray) -> np.ndarray:
        return self.initial_learning_rate * self.factor ** np.floor(steps / self.every)


class PolynomialDecay(LearningRateSchedule):
    """From the initial to the end rate along ``(1 - step / decay_steps) ** power``.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int
        After so many the end is reached and kept, or with `cycle` begun anew at the next multiple.
    end_learning_rate : float
    power : float
        1 is a straight line.
    cycle : bool
    """

    _arguments = ("initial_learning_rate", "decay_steps", "end_learning_rate", "power", "cycle")

    @helpful_keywords
    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_integer("decay_steps", decay_steps, 1)
        self.end_learning_rate = _rate("end_learning_rate", end_learning_rate)
        self.power = check_number("power", power, 0)
        self.cycle = check_flag("cycle", cycle)

    def values(self, steps: np.ndarray) -> np.ndarray:
        if self.cycle:
            length = self.decay_steps * np.maximum(1, np.ceil(steps / self.decay_steps))
        else:
            length = np.full(steps.shape, float(self.decay_steps))
            steps = np.minimum(steps, self.decay_steps)
        fall = self.initial_learning_rate - self.end_learning_rate
        return fall * (1 - steps / length) ** self.power + self.end_learning_rate


def _half_cosine(passed: np.ndarray) -> np.ndarray:
    """Return a fall from 1 at 0 to 0 at 1."""
    return 0.5 * (1 + np.cos(math.pi * passed))


class CosineDecay(LearningRateSchedule):
    """Half a period of a cosine, after a straight warm-up where one is wanted.

    Parameters
    ----------
    initial_learning_rate : float
        The rate at the start; of the warm-up, if there is one.
    decay_steps : int
        Length of the fall.
    alpha : float
        What is left at the end, as a share of the highest rate.
    warmup_target : float, optional
        The rate that the warm-up rises to; None: no warm-up.
    warmup_steps : int
        Its length, before the fall.

    Examples
    --------
    >>> from fusednn import schedules
    >>> rate = schedules.CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)
    >>> [round(rate(step), 3) for step in (0, 5, 10, 60, 110)]
    [0.0, 0.05, 0.1, 0.05, 0.0]
    """

    _arguments = (
        "initial_learning_rate",
        "decay_steps",
        "alpha",
        "warmup_target",
        "warmup_steps",
    )

    @helpful_keywords
    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.decay_steps = check_integer("decay_steps", decay_steps, 1)
        self.alpha = check_number("alpha", alpha, 0)
        self.warmup_target = (
            None if warmup_target is None else _rate("warmup_target", warmup_target)
        )
        self.warmup_steps = check_integer("warmup_steps", warmup_steps, 0)

    def values(self, steps: np.ndarray) -> np.ndarray:
        low, high = self.initial_learning_rate, self.warmup_target
        rise = self.warmup_steps if high is not None else 0
        top = low if high is None else high
        passed = np.clip((steps - rise) / self.decay_steps, 0, 1)
        fall = top * ((1 - self.alpha) * _half_cosine(passed) + self.alpha)
        return np.where(steps < rise, low + (top - low) * steps / max(rise, 1), fall)


class CosineDecayRestarts(LearningRateSchedule):
    """Half periods of a cosine one after the other, each longer and lower than the last.

    Parameters
    ----------
    initial_learning_rate : float
    first_decay_steps : int
        Length of the first.
    t_mul : float
        Factor of the length from one to the next, at least 1.
    m_mul : float
        Factor of the height.
    alpha : float
        Lowest rate, as a share of the initial one.
    """

    _arguments = ("initial_learning_rate", "first_decay_steps", "t_mul", "m_mul", "alpha")

    @helpful_keywords
    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        self.initial_learning_rate = _rate("initial_learning_rate", initial_learning_rate)
        self.first_decay_steps = check_integer("first_decay_steps", first_decay_steps, 1)
        self.t_mul = check_number("t_mul", t_mul, 1)
        self.m_mul = check_number("m_mul", m_mul, 0)
        self.alpha = check_number("alpha", alpha, 0)

    def values(self, steps: np.ndarray) -> np.ndarray:
        passed = steps / self.first_decay_steps
        if self.t_mul == 1:
            cycle = np.floor(passed)
            passed = passed - cycle
        else:
            cycle = np.floor(np.log1p(passed * (self.t_mul - 1)) / math.log(self.t_mul))
            begun = (self.t_mul**cycle - 1) / (self.t_mul - 1)
            passed = (passed - begun) / self.t_mul**cycle
        height = self.m_mul**cycle * _half_cosine(passed)
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


class OneCycle(LearningRateSchedule):
    """Up to the highest rate and down below the first one, once. (PyTorch: OneCycleLR.)

    Parameters
    ----------
    max_learning_rate : float
    total_steps : int
        Of the whole training; afterwards the last rate is kept. (PyTorch raises an error.)
    rise : float
        Share of the steps that go up.
    start_factor : float
        The first rate is the highest divided by this.
    end_factor : float
        The last rate is the first divided by this.

    References
    ----------
    Smith and Topin, "Super-Convergence", arXiv:1708.07120.
    """

    _arguments = ("max_learning_rate", "total_steps", "rise", "start_factor", "end_factor")

    @helpful_keywords
    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        rise: float = 0.3,
        start_factor: float = 25.0,
        end_factor: float = 1e4,
    ) -> None:
        self.max_learning_rate = _rate("max_learning_rate", max_learning_rate)
        self.total_steps = check_integer("total_steps", total_steps, 2)
        self.rise = check_number("rise", rise, 0, 1)
        self.start_factor = check_number("start_factor", start_factor, 0, open_low=True)
        self.end_factor = check_number("end_factor", end_factor, 0, open_low=True)

    def values(self, steps: np.ndarray) -> np.ndarray:
        high = self.max_learning_rate
        first = high / self.start_factor
        last = first / self.end_factor
        top = self.rise * self.total_steps - 1
        end = self.total_steps - 1
        up = np.clip(steps / top, 0, 1) if top > 0 else np.ones(steps.shape)
        down = np.clip((steps - top) / (end - top), 0, 1)
        rising = high + (first - high) * _half_cosine(up)
        falling = last + (high - last) * _half_cosine(down)
        return np.where(steps <= top, rising, falling)


class Warmup(LearningRateSchedule):
    """A straight rise from 0 in front of a schedule or of a constant rate.

    Parameters
    ----------
    schedule : schedule or float
        What follows, with its own steps from 0.
    steps : int
        Length of the rise; step ``steps`` is the first of `schedule`.

    Examples
    --------
    >>> from fusednn import schedules
    >>> rate = schedules.Warmup(0.1, steps=4)
    >>> [rate(step) for step in (0, 2, 4, 9)]
    [0.0, 0.05, 0.1, 0.1]
    """

    @helpful_keywords
    def __init__(self, schedule: LearningRateSchedule | Mapping | float, steps: int) -> None:
        self.schedule = get(schedule)
        self.steps = check_integer("steps", steps, 1)

    def values(self, steps: np.ndarray) -> np.ndarray:
        after = self.schedule.values(np.maximum(steps - self.steps, 0))
        return np.where(steps < self.steps, self.schedule(0) * steps / self.steps, after)

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule.serialize(), "steps": self.steps}


_CLASSES = {
    each.__name__: each
    for each in (
        Constant,
        ExponentialDecay,
        InverseTimeDecay,
        PiecewiseConstantDecay,
        StepDecay,
        PolynomialDecay,
        CosineDecay,
        CosineDecayRestarts,
        OneCycle,
        Warmup,
    )
}


def get(schedule: object) -> LearningRateSchedule:
    """Return a schedule from a number, from a configuration, or as it is.

    Examples
    --------
    >>> from fusednn import schedules
    >>> schedules.get(0.1)
    Constant(learning_rate=0.1)
    """
    if isinstance(schedule, LearningRateSchedule):
        return schedule
    if isinstance(schedule, Mapping):
        name = schedule.get("class_name")
        if name not in _CLASSES:
            raise unknown_choice("schedule", name, _CLASSES)
        return _CLASSES[name](**schedule.get("config", {}))
    return Constant(_rate("learning_rate", schedule))
