# SPDX-License-Identifier: Apache-2.0
"""Logs for TensorBoard. Nothing has to be installed to write them."""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from fusednn.callbacks.base import Callback, Logs
from fusednn.callbacks.events import EventWriter, histogram, scalar
from fusednn.errors import check_flag, check_integer, helpful_keywords


class TensorBoard(Callback):
    """Writes event files that ``tensorboard --logdir log_dir`` shows.

    The names are Keras': in ``log_dir/train`` and ``log_dir/validation`` an ``epoch_<name>`` per
    epoch and quantity, ``epoch_learning_rate``, ``batch_<name>`` over the steps with `update_freq`,
    ``evaluation_<name>_vs_iterations`` for every evaluation, and ``<layer>/<parameter>/histogram``.

    Parameters
    ----------
    log_dir : path
        A folder per run; runs side by side in one folder can be compared.
    histogram_freq : int
        Epochs between two histograms of all weights; 0 for none.
    write_steps_per_second : bool
        Whether to write how fast it went.
    update_freq : "epoch", "batch" or int
        "epoch" costs nothing per step; a number writes loss and metrics every so many steps,
        "batch" after each.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fusednn
    >>> folder = tempfile.mkdtemp()
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> board = fusednn.callbacks.TensorBoard(folder)
    >>> _ = model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[board])
    >>> os.listdir(folder)
    ['train']
    """

    @helpful_keywords
    def __init__(
        self,
        log_dir: str | os.PathLike[str] = "logs",
        histogram_freq: int = 0,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
    ) -> None:
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = check_integer("histogram_freq", histogram_freq, 0)
        self.write_steps_per_second = check_flag("write_steps_per_second", write_steps_per_second)
        if isinstance(update_freq, str) and update_freq not in ("epoch", "batch"):
            raise ValueError(
                f"update_freq must be 'epoch', 'batch' or a number of steps, got {update_freq!r}"
            )
        if update_freq == "batch":
            self.update_freq: str | int = 1
        elif update_freq == "epoch":
            self.update_freq = "epoch"
        else:
            self.update_freq = check_integer("update_freq", update_freq, 1)
        self._writers: dict[str, EventWriter] = {}
        self._step = 0
        self._begun = (0.0, 0)

    def get_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def set_state(self, state: dict[str, Any]) -> None:
        self._step = state["step"]

    def wants_steps(self, phase: str) -> bool:
        return phase == "train" and self.update_freq != "epoch"

    def _writer(self, kind: str) -> EventWriter:
        if kind not in self._writers:
            self._writers[kind] = EventWriter(os.path.join(self.log_dir, kind))
        return self._writers[kind]

    def _iterations(self) -> int:
        optimizer = self.model.optimizer
        return 0 if optimizer is None else optimizer.iterations

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._close()
        self._step = self._iterations()

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._begun = (time.perf_counter(), self._iterations())

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if self._step % self.update_freq == 0:  # type: ignore[operator]
            self._writer("train").write(self._step, *_scalars("batch_{}", logs))
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        train: Logs = {}
        validation: Logs = {}
        for name, value in (logs or {}).items():
            if name.startswith("val_"):
                validation[name.removeprefix("val_")] = value
            else:
                train[name] = value
        optimizer = self.model.optimizer
        if optimizer is not None and optimizer.learning_rate is not None:
            train["learning_rate"] = optimizer.learning_rate
        if self.write_steps_per_second:
            seconds, steps = self._begun
            train["steps_per_second"] = (self._iterations() - steps) / max(
                time.perf_counter() - seconds, 1e-9
            )
        for kind, quantities in (("train", train), ("validation", validation)):
            if quantities:
                self._writer(kind).write(epoch, *_scalars("epoch_{}", quantities))
        if self.histogram_freq and epoch % self.histogram_freq == 0:
            weights = self.model._named_parameters().items()
            self._writer("train").write(
                epoch, *(histogram(f"{name}/histogram", value) for name, value in weights)
            )

    def on_test_end(self, logs: Logs | None = None) -> None:
        values = _scalars("evaluation_{}_vs_iterations", logs)
        if values:
            self._writer("validation").write(self._iterations(), *values)

    def on_train_end(self, logs: Logs | None = None) -> None:
        self._close()

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def __del__(self) -> None:  # after an interrupted training nobody says good-bye
        if hasattr(self, "_writers"):
            self._close()


def _scalars(tag: str, logs: Logs | None) -> list[bytes]:
    """Return summary values of what is a number; a confusion matrix, for one, is not."""
    return [scalar(tag.format(k), v) for k, v in (logs or {}).items() if np.ndim(v) == 0]
