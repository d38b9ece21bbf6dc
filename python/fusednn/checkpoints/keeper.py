# SPDX-License-Identifier: Apache-2.0
"""Writes checkpoints while `fit` trains, and lets it begin where the newest one was written."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fusednn import _core, saving
from fusednn.callbacks import BackupAndRestore, Callback, CallbackList, Logs
from fusednn.callbacks.monitor import Monitor
from fusednn.checkpoints.folder import Folder
from fusednn.checkpoints.identity import differences, identity_of, refusal
from fusednn.checkpoints.settings import Checkpoints
from fusednn.checkpoints.values import pack, unpack
from fusednn.position import Position
from fusednn.safetensors import Tensors

if TYPE_CHECKING:
    from fusednn.models import Model


def keeper_for(resume: object, hooks: CallbackList) -> Keeper | None:
    """Return what keeps the checkpoints of a call of `fit`, where somebody wants them."""
    fronts = [c for c in hooks.callbacks if isinstance(c, BackupAndRestore)]
    if len(fronts) + (resume is not None) > 1:
        raise ValueError("give resume or one BackupAndRestore, not several of them")
    if fronts:
        return Keeper(fronts[0].checkpoints, hooks, fronts[0].delete_checkpoint)
    if resume is None:
        return None
    if not isinstance(resume, Checkpoints):
        if not isinstance(resume, (str, os.PathLike)):
            raise TypeError(f"resume must be a folder or fusednn.Checkpoints, got {resume!r}")
        resume = Checkpoints(resume)
    return Keeper(resume, hooks)


class Keeper(Callback):
    """The last of the callbacks of a call of `fit`: the others' state is then up to date.

    Parameters
    ----------
    settings : Checkpoints
    hooks : CallbackList
    clears : bool
        Whether the checkpoints are removed when the training is over.
    """

    def __init__(self, settings: Checkpoints, hooks: CallbackList, clears: bool = False) -> None:
        self._settings = settings
        self._hooks = hooks
        self._clears = clears
        self._folder = Folder(settings.folder)
        # The checkpoint to go on from, until the first epoch has begun.
        self._found: tuple[int, Tensors, dict[str, str]] | None = None
        self._data: Mapping[str, Any] = {}
        self._identity: Any = None
        self._best = Monitor(settings.keep_best or "", settings.mode)
        self._best_number: int | None = None
        self._epoch = 0
        self._steps = 0  # since the last checkpoint
        self._written = time.monotonic()

    def wants_steps(self, phase: str) -> bool:
        often = self._settings.every_steps or self._settings.every_seconds
        return phase == "train" and often is not None

    # ---- going on --------------------------------------------------------------------------------

    def find(self, model: Model, data: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
        """Look for a checkpoint; ValueError, with nothing changed, where it is of another training.

        Parameters
        ----------
        model : Model
        data : dict
            By name what has an ``identity()``, or None; what has ``get_state`` keeps a place.
        arguments : dict
            The others of `fit` that decide its result.
        """
        self._data = data
        self._identity = identity_of(model, data, arguments)
        try:
            self._folder.lock()
        except OSError as error:
            self._failed(error)
        try:
            self._found = self._folder.newest()
            if self._found is not None:
                self._check_found(model)
        except BaseException:
            self.close()
            raise

    def _check_found(self, model: Model) -> None:
        assert self._found is not None
        number, _, metadata = self._found
        was = self._describe_found(metadata)["identity"]
        now = dict(self._identity)
        if model._seed_drawn:  # nobody asked for another one
            now["seed"] = was["seed"]
        if now["learning_rate"]["after"] != was["learning_rate"]["after"]:
            now["learning_rate"] = was["learning_rate"]  # callbacks may have changed it since
        if found := differences(was, now):
            raise refusal(self._folder.file(number), found)
        self._identity = was

    def _describe_found(self, metadata: Mapping[str, str]) -> dict[str, Any]:
        return saving.json_of(metadata, "checkpoint")

    def close(self) -> None:
        """Let others train into the folder."""
        self._folder.unlock()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        if self._found is None:
            self._save(Position(self._identity["initial_epoch"]))
            return
        self._restore()
        here, there = _here(self.model), self._describe_found(self._found[2])["where"]
        if here != there:
            warnings.warn(
                f"resume: the checkpoint was written on {there}, this is {here}: the training "
                "goes on, but not with the same bits",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch
        position = self.model._position
        if self._found is not None and position is not None and position.steps:
            # What the callbacks do at the beginning of an epoch that is under way, such as to halve
            # the learning rate, they had done before.
            self._restore()
        self._found = None

    def _restore(self) -> None:
        assert self._found is not None
        try:
            self._put_back(*self._found)
        except saving.NONSENSE as error:
            raise ValueError(f"resume: {self._folder.file(self._found[0])}: {error}") from None

    def _put_back(self, number: int, tensors: Tensors, metadata: Mapping[str, str]) -> None:
        model = self.model
        about = self._describe_found(metadata)
        training = saving.json_of(metadata, "training")
        state = unpack(about["state"], tensors)
        position = Position.of(state["position"])
        self._restore_callbacks(state["callbacks"])
        for name, source_state in state["data"].items():
            self._data[name].set_state(source_state)
        model._reseed(about["identity"]["seed"])
        saving.put_weights(model, tensors)
        saving.restore(model, tensors, training)
        rate = training["optimizer"]["config"]["learning_rate"]
        if isinstance(rate, float):  # not a schedule
            model._engine.set_hyper("lr", rate)
        model._epochs = about["epochs"]
        model._position = position
        model.stop_training = about["stopped"]
        self._best.best, self._best_number = about["best"]
        if self._best_number == number:  # it may have ended in between
            self._folder.copy(number, self._settings.best)

    def _restore_callbacks(self, states: list[Any]) -> None:
        takers = [c for c in self._hooks.callbacks if c.get_state()]
        names = [type(c).__name__ for c in takers]
        if names != [name for name, _ in states]:
            raise ValueError(
                f"the callbacks with a state were {', '.join(n for n, _ in states)}, now they are "
                f"{', '.join(names)}"
            )
        for callback, (_, state) in zip(takers, states, strict=True):
            callback.set_state(state)

    # ---- writing ---------------------------------------------------------------------------------

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self.model.stop_training:
            return  # the end of the epoch comes next
        seconds = self._settings.every_seconds
        if self._steps == self._settings.every_steps or (
            seconds is not None and time.monotonic() - self._written >= seconds
        ):
            position = self.model._position
            assert position is not None  # there are steps
            self._save(replace(position, epoch=self._epoch))

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        improves = False
        if self._settings.keep_best is not None:
            value = self._best._look_up(logs)
            improves = self._best._improves(value, self._best.best)
            if improves:
                self._best.best = value
        last = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if improves or last or (epoch + 1) % self._settings.every_epochs == 0:
            self._save(Position(epoch + 1), best=improves)

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._clears:
            self._folder.clear()

    def _save(self, position: Position, *, best: bool = False) -> None:
        model = self.model
        number = model._engine.training_steps
        if best:
            self._best_number = number
        tensors, metadata = self._describe(position)
        self._steps = 0
        self._written = time.monotonic()
        try:
            self._folder.write(number, tensors, metadata)
            if best:
                self._folder.copy(number, self._settings.best)
            self._folder.rotate(self._settings.keep)
        except OSError as error:
            self._failed(error)

    def _describe(self, position: Position) -> tuple[Tensors, dict[str, str]]:
        model = self.model
        tensors, metadata = saving.describe(model)
        arrays: Tensors = {}
        states = [(c, c.get_state()) for c in self._hooks.callbacks]
        state = pack(
            {
                "position": position.get_state(),
                "callbacks": [[type(c).__name__, state] for c, state in states if state],
                "data": {
                    name: source.get_state()
                    for name, source in self._data.items()
                    if hasattr(source, "get_state")
                },
            },
            arrays,
        )
        about = {
            "identity": self._identity,
            "where": _here(model),
            "epochs": model._epochs,
            "stopped": model.stop_training,
            "best": [self._best.best, self._best_number],
            "state": state,
        }
        return {**tensors, **arrays}, {**metadata, "checkpoint": json.dumps(about)}

    def _failed(self, error: OSError) -> None:
        message = f"no checkpoint can be written to {self._folder.path}: {error}"
        if self._settings.on_error == "continue":
            warnings.warn(f"{message}; training goes on without", RuntimeWarning, stacklevel=2)
            return
        raise OSError(
            error.errno, f"{message}; those that are there stay; on_error='continue' trains on"
        ) from error


def _here(model: Model) -> str:
    """Return what else decides the bits."""
    return f"{model.device}, {_core.isa()}"
