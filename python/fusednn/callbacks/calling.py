# SPDX-License-Identifier: Apache-2.0
"""Calls the hooks of several callbacks, and decides whether the engine has to look up at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fusednn.callbacks.base import Callback, Logs
from fusednn.callbacks.display import Progress
from fusednn.progress import Progress as Bar

if TYPE_CHECKING:
    from fusednn.models import Model

Watcher = Callable[[dict[str, Any]], bool]


class CallbackList:
    """The callbacks of one call of `fit`, `evaluate` or `predict`.

    Parameters
    ----------
    callbacks : Callback, list of them, or None
    """

    def __init__(self, callbacks: Callback | Iterable[Callback] | None) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        for callback in given:
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks must be instances of fusednn.callbacks.Callback, got {callback!r}"
                )
        self.callbacks: list[Callback] = given

    def introduce(self, model: Model, params: dict[str, Any]) -> None:
        """Tell all callbacks what they will look at."""
        for callback in self.callbacks:
            callback.set_model(model)
            callback.set_params(params)

    def call(self, hook: str, *place: int, logs: Logs | None = None) -> None:
        """Call a hook of every callback, in order, with epoch or step where it has one."""
        logs = {} if logs is None else logs
        for callback in self.callbacks:
            getattr(callback, hook)(*place, logs)

    # ---- the hooks of `fit` ----------------------------------------------------------------------

    def begin(self, model: Model, params: dict[str, Any]) -> None:
        self.introduce(model, params)
        self.call("on_train_begin")

    def epoch_begin(self, epoch: int) -> None:
        self.call("on_epoch_begin", epoch)

    def epoch_end(self, epoch: int, logs: Logs) -> None:
        self.call("on_epoch_end", epoch, logs=logs)

    def end(self, logs: Logs) -> None:
        self.call("on_train_end", logs=logs)

    # ---- what they ask for -----------------------------------------------------------------------

    def bar(self, verbose: int | str, epochs: int, rows: int) -> Bar:
        """Return what shows the training: as a `Progress` among the callbacks says, or `fit`."""
        for callback in self.callbacks:
            if isinstance(callback, Progress):
                return Bar(callback.verbose, epochs, rows, callback.stream)
        return Bar(verbose, epochs, rows)

    def steppers(self, phase: str) -> list[Callback]:
        """Return the callbacks that want to see every step of a phase."""
        return [callback for callback in self.callbacks if callback.wants_steps(phase)]

    def watcher(
        self, phase: str, steps: int, logs_of: Callable[[dict[str, Any]], Logs], first: int = 0
    ) -> Watcher | None:
        """Return what the engine calls between steps, or None when no callback asks for it.

        The hook before step `first` is called at once. Reports are on the whole epoch so far.

        Parameters
        ----------
        phase : {"train", "test"}
        steps : int
            In the whole epoch.
        logs_of : callable
            Makes logs of the engine's report.
        first : int
            The step that the engine begins with.
        """
        steppers = self.steppers(phase)
        if not steppers:
            return None
        done = first

        def begin() -> None:
            for callback in steppers:
                getattr(callback, f"on_{phase}_batch_begin")(done, {})

        def watch(report: dict[str, Any]) -> bool:
            nonlocal done
            if report["steps"] == done:  # long steps look up in between
                return True
            done += 1
            logs = logs_of(report)
            for callback in steppers:
                getattr(callback, f"on_{phase}_batch_end")(done - 1, logs)
            if phase == "train" and steppers[0].model.stop_training:
                return False
            if done < steps:
                begin()
            return True

        if done < steps:
            begin()
        return watch
