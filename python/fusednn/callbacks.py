# SPDX-License-Identifier: Apache-2.0
"""What `fit` calls between epochs.

An epoch runs in one call of the compiled engine, so there are hooks for the beginning and end of
training and of epochs, and none for batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.errors import (
    check_flag,
    check_integer,
    check_number,
    helpful_keywords,
    unknown_choice,
)

if TYPE_CHECKING:
    from fusednn.models import Model

Logs = dict[str, float]


class Callback:
    """Base class of callbacks; override the hooks you need.

    Attributes
    ----------
    model : Model
        The model being trained. ``model.stop_training = True`` ends the training after the epoch.
    params : dict
        epochs, steps (per epoch), verbose.

    Examples
    --------
    >>> import fusednn
    >>> class Shout(fusednn.callbacks.Callback):
    ...     def on_epoch_end(self, epoch, logs=None):
    ...         print(f"EPOCH {epoch}!")
    """

    model: Model
    params: dict[str, Any]

    def set_model(self, model: Model) -> None:
        """Called by `fit` before anything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called by `fit` before training begins."""
        self.params = params

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, after the last epoch; not when training was interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before each epoch. Epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after each epoch and its validation; entries added to `logs` are recorded."""


_BATCH_HOOKS = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")


class CallbackList:
    """Calls a hook of several callbacks, one after the other."""

    def __init__(self, callbacks: Callback | Iterable[Callback] | None) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks must be instances of fusednn.callbacks.Callback, got {callback!r}"
                )
            for hook in _BATCH_HOOKS:
                if hasattr(callback, hook):
                    raise TypeError(
                        f"{type(callback).__name__} defines {hook}(), which is never called: an "
                        "epoch runs in one native call; use on_epoch_end()"
                    )
        self.callbacks: list[Callback] = given

    def begin(self, model: Model, params: dict[str, Any]) -> None:
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)
        for callback in self.callbacks:
            callback.on_train_begin()

    def epoch_begin(self, epoch: int) -> None:
        for callback in self.callbacks:
            callback.on_epoch_begin(epoch)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(epoch, logs)

    def end(self, logs: Logs) -> None:
        for callback in self.callbacks:
            callback.on_train_end(logs)


class History(Callback):
    """What `fit` returns.

    Attributes
    ----------
    history : dict of str to list of float
        One list per quantity ("loss", "val_loss", metrics), with one number per epoch.
    epoch : list of int
        The epochs that were finished, also where training was interrupted.
    params : dict
        epochs, steps (per epoch), verbose.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = {}

    def set_model(self, model: Model) -> None:
        """A history keeps no model alive."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history) or 'nothing'}>"


_MODES = ("auto", "min", "max")


class EarlyStopping(Callback):
    """Ends training when a quantity has stopped improving.

    Parameters
    ----------
    monitor : str
        A key of the history.
    min_delta : float
        An improvement by less than this is none.
    patience : int
        Epochs without improvement after which training ends.
    verbose : int
        1 prints a line when training is ended or weights are restored.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" takes greater for accuracies.
    baseline : float, optional
        Value that has to be beaten for an epoch to count as an improvement.
    restore_best_weights : bool
        Whether the model gets the weights of its best epoch at the end, also when training was
        not ended early.
    start_from_epoch : int
        Epochs before this one are not looked at.

    Attributes
    ----------
    best, best_epoch, stopped_epoch
        Best value and its epoch; the epoch after which training was ended, 0 if it was not.

    Examples
    --------
    >>> import fusednn
    >>> stop = fusednn.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    """

    @helpful_keywords
    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        verbose: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
    ) -> None:
        if mode not in _MODES:
            raise unknown_choice("mode", mode, _MODES)
        self.monitor = monitor
        self.min_delta = abs(check_number("min_delta", min_delta))
        self.patience = check_integer("patience", patience, 0)
        self.verbose = check_integer("verbose", verbose, 0)
        self.mode = mode
        self.baseline = None if baseline is None else check_number("baseline", baseline)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_integer("start_from_epoch", start_from_epoch, 0)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best: float | None = None
        self._best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def _greater_is_better(self) -> bool:
        return self.mode == "max" or (
            self.mode == "auto" and self.monitor.rsplit("_", 1)[-1] in ("accuracy", "acc")
        )

    def _improves(self, value: float, on: float | None) -> bool:
        if on is None:
            return not math.isnan(value)
        gain = value - on if self._greater_is_better() else on - value
        return gain > self.min_delta

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(logs or {})
            hint = ""
            if self.monitor.startswith("val_"):
                hint = "; it needs validation_split or validation_data"
            raise ValueError(f"EarlyStopping: monitor={self.monitor!r} is not in {known}{hint}")
        if epoch < self.start_from_epoch:
            return
        self.wait += 1
        if self._improves(value, self.best):
            self.best = value
            self.best_epoch = epoch
            if self.restore_best_weights:
                self._best_weights = self.model.get_weights()
            if self.baseline is None or self._improves(value, self.baseline):
                self.wait = 0
        if self.wait > 0 and self.wait >= self.patience:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0 and self.verbose:
            print(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self._best_weights is not None:
            if self.verbose:
                print(f"Restoring the weights of epoch {self.best_epoch + 1}, the best")
            self.model.set_weights(self._best_weights)
            self._best_weights = None


class LearningRateScheduler(Callback):
    """Sets the learning rate before each epoch; the history gets a `learning_rate`.

    Parameters
    ----------
    schedule : callable
        ``schedule(epoch, learning_rate)`` returns the learning rate of the epoch.
    verbose : int
        1 prints a line per epoch.

    Examples
    --------
    >>> import fusednn
    >>> halve = fusednn.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    """

    @helpful_keywords
    def __init__(self, schedule: Callable[[int, float], float], verbose: int = 0) -> None:
        if not callable(schedule):
            raise TypeError(f"schedule must be callable, got {schedule!r}")
        self.schedule = schedule
        self.verbose = check_integer("verbose", verbose, 0)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        assert optimizer is not None
        assert optimizer.learning_rate is not None  # fit saw to it
        rate = self.schedule(epoch, optimizer.learning_rate)
        optimizer.learning_rate = check_number(f"schedule({epoch}, learning_rate)", rate, 0)
        if self.verbose:
            print(f"Epoch {epoch + 1}: learning rate {rate:g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        optimizer = self.model.optimizer
        if logs is not None and optimizer is not None and optimizer.learning_rate is not None:
            logs["learning_rate"] = optimizer.learning_rate


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Called with (epoch, logs).
    on_train_begin, on_train_end : callable, optional
        Called with (logs).

    Examples
    --------
    >>> import fusednn
    >>> report = fusednn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(logs))
    """

    @helpful_keywords
    def __init__(
        self,
        on_epoch_begin: Callable[[int, Logs | None], object] | None = None,
        on_epoch_end: Callable[[int, Logs | None], object] | None = None,
        on_train_begin: Callable[[Logs | None], object] | None = None,
        on_train_end: Callable[[Logs | None], object] | None = None,
    ) -> None:
        self._hooks: dict[str, Callable[..., object]] = {}
        for name, function in (
            ("on_epoch_begin", on_epoch_begin),
            ("on_epoch_end", on_epoch_end),
            ("on_train_begin", on_train_begin),
            ("on_train_end", on_train_end),
        ):
            if function is not None:
                if not callable(function):
                    raise TypeError(f"{name} must be callable, got {function!r}")
                self._hooks[name] = function

    def _call(self, name: str, *arguments: object) -> None:
        if name in self._hooks:
            self._hooks[name](*arguments)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._call("on_epoch_begin", epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._call("on_epoch_end", epoch, logs)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._call("on_train_begin", logs)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._call("on_train_end", logs)
