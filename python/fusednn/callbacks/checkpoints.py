# SPDX-License-Identifier: Apache-2.0
"""Callbacks that write models to files while they are trained."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fusednn.callbacks.base import Callback, Logs
from fusednn.callbacks.monitor import Monitor
from fusednn.checkpoints.settings import Checkpoints
from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords

if TYPE_CHECKING:
    from fusednn.models import Model


def _check_frequency(save_freq: object) -> str | int:
    if save_freq == "epoch":
        return "epoch"
    if isinstance(save_freq, str):
        raise ValueError(f"save_freq must be 'epoch' or a number of steps, got {save_freq!r}")
    return check_integer("save_freq", save_freq, 1)


class ModelCheckpoint(Monitor):
    """Saves the model, or its weights, after epochs or every so many steps.

    A file is written beside its final place and renamed: it is there whole or not at all.

    Parameters
    ----------
    filepath : path
        May name ``{epoch}`` (from 1), ``{batch}`` (from 1, with a number as `save_freq`) and any
        key of the logs, such as ``"{epoch:02d}-{val_loss:.2f}.safetensors"``. Folders that are
        missing are made. The format is safetensors, whatever the name ends in.
    monitor : str
        A key of the logs, for `save_best_only`.
    verbose : int
        1 prints a line when a file is written.
    save_best_only : bool
        Whether to save only when `monitor` is better than it ever was.
    save_weights_only : bool
        Whether to save the weights alone (`Model.save_weights`) instead of the whole model.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" takes greater for accuracies and scores.
    save_freq : "epoch" or int
        After each epoch, or every so many steps. The logs of a step are those of its epoch so far.
    initial_value_threshold : float, optional
        What has to be beaten for the first file.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fusednn
    >>> path = os.path.join(tempfile.mkdtemp(), "best-{epoch}.safetensors")
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> best = fusednn.callbacks.ModelCheckpoint(path, "loss", save_best_only=True)
    >>> _ = model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[best])
    >>> sorted(os.listdir(os.path.dirname(path)))
    ['best-1.safetensors', 'best-2.safetensors']
    """

    @helpful_keywords
    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        save_weights_only: bool = False,
        mode: str = "auto",
        save_freq: str | int = "epoch",
        initial_value_threshold: float | None = None,
    ) -> None:
        super().__init__(monitor, mode)
        self.filepath = os.fspath(filepath)
        self.verbose = check_integer("verbose", verbose, 0)
        self.save_best_only = check_flag("save_best_only", save_best_only)
        self.save_weights_only = check_flag("save_weights_only", save_weights_only)
        self.save_freq = _check_frequency(save_freq)
        if initial_value_threshold is not None:
            self.best = check_number("initial_value_threshold", initial_value_threshold)
        self._epoch = 0
        self._steps = 0  # since the last file

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "steps": self._steps}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._steps = state["steps"]

    def wants_steps(self, phase: str) -> bool:
        return phase == "train" and self.save_freq != "epoch"

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._steps += 1
        if self._steps == self.save_freq:
            self._steps = 0
            self._save(self._epoch, {"batch": batch + 1, **(logs or {})})

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_freq == "epoch":
            self._save(epoch, logs or {})

    def _save(self, epoch: int, logs: Logs) -> None:
        path = self._path(epoch, logs)
        if self.save_best_only:
            value = self._look_up(logs)
            if not self._improves(value, self.best):
                return
            self.best = value
        if folder := os.path.dirname(path):
            os.makedirs(folder, exist_ok=True)
        if self.save_weights_only:
            self.model.save_weights(path)
        else:
            self.model.save(path)
        if self.verbose:
            best = f", {self.monitor} {self.best:.5g}" if self.save_best_only else ""
            print(f"Epoch {epoch + 1}: saved {path}{best}")

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(**{"epoch": epoch + 1, **logs})
        except (KeyError, IndexError, ValueError) as error:
            known = ", ".join(["epoch", *logs])
            raise ValueError(
                f"filepath={self.filepath!r} cannot be filled in: {error}; known: {known}"
            ) from None


class BackupAndRestore(Callback):
    """Lets a training that was killed go on where it was, with the same bits.

    What Keras calls so: ``fit(..., resume=fusednn.Checkpoints(backup_dir))`` does the same and can
    be told more. The checkpoints are removed when the training is over.

    Parameters
    ----------
    backup_dir : path
        A folder of its own; made where it is missing.
    save_freq : "epoch" or int
        After each epoch, or every so many steps as well.
    delete_checkpoint : bool
        Whether to remove the checkpoints after the training.

    Attributes
    ----------
    checkpoints : fusednn.Checkpoints

    Examples
    --------
    >>> import tempfile, numpy as np, fusednn
    >>> from fusednn.callbacks import BackupAndRestore, LambdaCallback
    >>> def train(folder, callbacks):
    ...     model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0, input_shape=(2,))
    ...     model.compile("adam", "mse")
    ...     backup = BackupAndRestore(folder)
    ...     x = np.arange(8.0).reshape(4, 2)
    ...     return model.fit(x, x[:, 0], epochs=4, verbose=0, callbacks=[backup, *callbacks])
    >>> def power_cut(epoch, logs):
    ...     if epoch == 2:
    ...         raise KeyboardInterrupt
    >>> folder = tempfile.mkdtemp()
    >>> try:
    ...     train(folder, [LambdaCallback(on_epoch_begin=power_cut)])
    ... except KeyboardInterrupt:
    ...     train(folder, []).epoch
    [0, 1, 2, 3]
    """

    @helpful_keywords
    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
    ) -> None:
        if not os.fspath(backup_dir):
            raise ValueError("backup_dir is empty; give a folder of its own")
        frequency = _check_frequency(save_freq)
        self.checkpoints = Checkpoints(
            backup_dir, every_steps=None if isinstance(frequency, str) else frequency
        )
        self.delete_checkpoint = check_flag("delete_checkpoint", delete_checkpoint)

    def set_model(self, model: Model) -> None:
        if not hasattr(model, "fit"):
            raise TypeError("BackupAndRestore is for Model.fit, which looks for it")
        super().set_model(model)
