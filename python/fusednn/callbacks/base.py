# SPDX-License-Identifier: Apache-2.0
"""The hooks a callback can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusednn.models import Model

Logs = dict[str, Any]  # numbers by name; in on_predict_batch_end also "outputs"

_STEP_HOOKS = {
    "train": ("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end"),
    "test": ("on_test_batch_begin", "on_test_batch_end"),
    "predict": ("on_predict_batch_begin", "on_predict_batch_end"),
}


class Callback:
    """Base class of callbacks; override the hooks you need.

    An epoch runs in one call of the compiled engine. Only for callbacks that override a batch hook
    (``on_train_batch_*``, ``on_test_batch_*``, ``on_predict_batch_*``) does it come back after
    every step; all others cost nothing per step. Within a batch hook weights and learning rate may
    be read and changed, and `predict` and `evaluate` of the same model may be called; to train it
    has to wait for the end of the epoch.

    Attributes
    ----------
    model : Model
        The model being trained. ``model.stop_training = True`` ends the training: after the
        epoch, or, set in a batch hook, after the step.
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
        """Called before anything else."""
        self.model = model

    def set_params(self, params: dict[str, Any]) -> None:
        """Called before the first hook."""
        self.params = params

    def wants_steps(self, phase: str) -> bool:
        """Return whether batch hooks are to be called in a phase: "train", "test" or "predict".

        They are, where a subclass overrides one; a subclass that needs them only now and then can
        say so here.
        """
        for hook in _STEP_HOOKS[phase]:
            if getattr(getattr(self, hook), "__func__", None) is not getattr(Callback, hook):
                return True
        return False

    def get_state(self) -> dict[str, Any]:
        """Return what it remembers from step to step, to be written to a checkpoint.

        Numbers, strings, None, arrays, and lists and dicts of them. A callback that remembers
        something says so from the first hook on; {} means nothing.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take what `get_state` returned in a training that goes on, after ``on_train_begin``."""

    # ---- training ------------------------------------------------------------------------------

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called once, before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called once, after the last epoch; not when training was interrupted."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before each epoch. Epochs count from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after each epoch and its validation; entries added to `logs` are recorded."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of on_train_batch_begin."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of on_train_batch_end."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each step of training. Steps count from 0 in every epoch."""
        self.on_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each step, with loss and metrics of the epoch so far."""
        self.on_batch_end(batch, logs)

    # ---- evaluation, also the one that validates an epoch ----------------------------------------

    def on_test_begin(self, logs: Logs | None = None) -> None:
        """Called before an evaluation."""

    def on_test_end(self, logs: Logs | None = None) -> None:
        """Called after an evaluation, with its results."""

    def on_test_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each batch of an evaluation."""

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each batch, with the results so far."""

    # ---- prediction ------------------------------------------------------------------------------

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        """Called before a prediction."""

    def on_predict_end(self, logs: Logs | None = None) -> None:
        """Called after a prediction."""

    def on_predict_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before each batch of a prediction."""

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after each batch, with ``logs["outputs"]``."""
