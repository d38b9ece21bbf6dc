# SPDX-License-Identifier: Apache-2.0
"""One bar for all epochs of an estimator's fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from fusednn.callbacks import Callback, Logs
from fusednn.progress import Progress


class _Epochs(Progress):
    """A bar that counts epochs in place of rows."""

    def show(self, done: int, logs: Mapping[str, float]) -> None:
        self._head = f"Epoch {done}/{self._epochs}"
        if self.due():
            self.update(done, logs)


class ProgressBar(Callback):
    """Shows how far a fit has come, the time that is left, and what the last epoch has brought.

    A bar on a terminal; elsewhere a single line at the end. `verbose` keeps scikit-learn's meaning,
    so the bar is a callback.

    Parameters
    ----------
    stream : text stream, optional
        Where to; default the standard output.

    Examples
    --------
    >>> import io
    >>> from fusednn.sklearn import MLPRegressor, ProgressBar
    >>> log = io.StringIO()
    >>> model = MLPRegressor(random_state=0, max_iter=3, tol=1.0, callbacks=[ProgressBar(log)])
    >>> _ = model.partial_fit([[0.0], [1.0]], [0.0, 1.0])
    >>> log.getvalue().startswith("Epoch 1/1 ")
    True
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Draw an empty bar."""
        epochs = self.params["epochs"]
        self._bar = _Epochs("auto", epochs, epochs, self.stream)
        self._bar.begin(0)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Draw the bar, where it was not drawn just before."""
        self._bar.show(epoch + 1, logs or {})

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Leave the last epoch's line."""
        self._bar.end(logs or {})
        del self._bar  # its stream need not survive a copy
