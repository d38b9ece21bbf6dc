# SPDX-License-Identifier: Apache-2.0
"""Callbacks that end the training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fusednn.callbacks.base import Callback, Logs
from fusednn.callbacks.monitor import Monitor
from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords


class EarlyStopping(Monitor):
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
        Whether smaller or greater is better; "auto" takes greater for accuracies and scores.
    baseline : float, optional
        As long as the quantity has not beaten it, improvements do not start the count of
        `patience` anew; but training ends only after an epoch without improvement.
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
        super().__init__(monitor, mode, min_delta)
        self.patience = check_integer("patience", patience, 0)
        self.verbose = check_integer("verbose", verbose, 0)
        self.baseline = None if baseline is None else check_number("baseline", baseline)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_integer("start_from_epoch", start_from_epoch, 0)
        self._reset()

    def _reset(self) -> None:
        self.wait = 0
        self.stopped_epoch = 0
        self.best_epoch = 0
        self.best = None
        self._best_weights: list[np.ndarray] | None = None

    def get_state(self) -> dict[str, Any]:
        return {
            **super().get_state(),
            "wait": self.wait,
            "best_epoch": self.best_epoch,
            "stopped_epoch": self.stopped_epoch,
            "best_weights": self._best_weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.wait = state["wait"]
        self.best_epoch = state["best_epoch"]
        self.stopped_epoch = state["stopped_epoch"]
        self._best_weights = state["best_weights"]

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._reset()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._look_up(logs)
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
        elif self.wait >= self.patience and epoch > 0:
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


class TerminateOnNaN(Callback):
    """Ends training after the step in which the loss became NaN or infinite.

    It asks for every step. `callbacks.NaNLocator` looks once per epoch and says where it began.

    Parameters
    ----------
    raise_error : bool
        Whether to raise FloatingPointError instead, so that no ``on_train_end`` is called.
        (Keras: RuntimeError.)

    Examples
    --------
    >>> import fusednn
    >>> guard = fusednn.callbacks.TerminateOnNaN()
    """

    @helpful_keywords
    def __init__(self, raise_error: bool = False) -> None:
        self.raise_error = check_flag("raise_error", raise_error)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            return
        if self.raise_error:
            raise FloatingPointError(f"the loss is {loss} after batch {batch}")
        print(f"Batch {batch}: the loss is {loss}, training ends")
        self.model.stop_training = True
