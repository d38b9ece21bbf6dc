# SPDX-License-Identifier: Apache-2.0
"""Callbacks that change the learning rate between epochs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from fusednn.callbacks.base import Callback, Logs
from fusednn.callbacks.monitor import Monitor
from fusednn.errors import check_integer, check_number, helpful_keywords
from fusednn.optimizers import Optimizer


def _optimizer_of(callback: Callback) -> Optimizer:
    optimizer = callback.model.optimizer
    assert optimizer is not None  # fit saw to it
    return optimizer


def _rate_of(optimizer: Optimizer) -> float:
    rate = optimizer.learning_rate
    assert rate is not None
    return rate


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch; the history gets a `learning_rate`.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` or ``schedule(epoch)`` returns the learning rate of the
        epoch.
    verbose : int
        1 prints a line per epoch.

    Examples
    --------
    >>> import fusednn
    >>> halve = fusednn.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    """

    @helpful_keywords
    def __init__(self, schedule: Callable[..., float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be callable, got {schedule!r}")
        self.schedule = schedule
        self.verbose = check_integer("verbose", verbose, 0)
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = _optimizer_of(self)
        arguments = (epoch, _rate_of(optimizer)) if self._takes_rate else (epoch,)
        rate = self.schedule(*arguments)
        optimizer.learning_rate = check_number(f"schedule({epoch}, learning_rate)", rate, 0)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = _rate_of(_optimizer_of(self))


def _takes_two(function: Callable[..., float]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin that does not say
        return True
    return True


class ReduceLROnPlateau(Monitor):
    """Multiplies the learning rate by a factor when a quantity has stopped improving.

    The history gets a `learning_rate`: the one that the epoch was trained with.

    Parameters
    ----------
    monitor : str
        A key of the history.
    factor : float
        In (0, 1).
    patience : int
        Epochs without improvement after which the learning rate is reduced.
    verbose : int
        1 prints a line when it is reduced.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" takes greater for accuracies and scores.
    min_delta : float
        An improvement by less than this is none.
    cooldown : int
        Epochs after a reduction that are not counted.
    min_lr : float
        The learning rate is not reduced below this.

    Examples
    --------
    >>> import fusednn
    >>> reduce = fusednn.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2)
    """

    @helpful_keywords
    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: int = 0,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.factor = check_number("factor", factor, 0, 1, open_low=True, open_high=True)
        self.patience = check_integer("patience", patience, 0)
        self.verbose = check_integer("verbose", verbose, 0)
        self.cooldown = check_integer("cooldown", cooldown, 0)
        self.min_lr = check_number("min_lr", min_lr, 0)
        self._reset()

    def _reset(self) -> None:
        self.best = None
        self.wait = 0
        self.cooldown_counter = 0

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(), "wait": self.wait, "cooldown_counter": self.cooldown_counter
        }  # fmt: skip

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.wait = state["wait"]
        self.cooldown_counter = state["cooldown_counter"]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = _optimizer_of(self)
        rate = _rate_of(optimizer)
        if logs is not None:
            logs["learning_rate"] = rate
        value = self._look_up(logs)
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(value, self.best):
            self.best = value
            self.wait = 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience and rate > self.min_lr:
                self._reduce(optimizer, epoch, rate)

    def _reduce(self, optimizer: Optimizer, epoch: int, rate: float) -> None:
        optimizer.learning_rate = max(rate * self.factor, self.min_lr)
        self.cooldown_counter = self.cooldown
        self.wait = 0
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate reduced to {_rate_of(optimizer):g}")
