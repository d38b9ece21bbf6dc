# SPDX-License-Identifier: Apache-2.0
"""The logs of every epoch as lines of a file."""

from __future__ import annotations

import csv
import os
from typing import Any, Literal, TextIO

from fusednn.callbacks.base import Callback, Logs
from fusednn.errors import check_flag, helpful_keywords


class CSVLogger(Callback):
    """Writes one line per epoch: its number, then the logs in alphabetical order of their names.

    The columns are those of the first epoch; where it had no validation there are empty ``val_``
    columns beside the others, filled with "NA", as in Keras.

    Parameters
    ----------
    filename : path
    separator : str
    append : bool
        Whether to continue a file that is there instead of replacing it.

    Examples
    --------
    >>> import os, tempfile, numpy as np, fusednn
    >>> path = os.path.join(tempfile.mkdtemp(), "log.csv")
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> logger = fusednn.callbacks.CSVLogger(path)
    >>> _ = model.fit(np.ones((4, 2)), np.ones(4), epochs=2, verbose=0, callbacks=[logger])
    >>> open(path).readline().strip()
    'epoch,loss,val_loss'
    """

    @helpful_keywords
    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ) -> None:
        self.filename = os.fspath(filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character, got {separator!r}")
        self.separator = separator
        self.append = check_flag("append", append)
        self._file: TextIO | None = None
        self._columns: list[str] = []

    def get_state(self) -> dict[str, Any]:
        length = self._file.tell() if self._columns and self._file is not None else None
        return {"columns": self._columns, "length": length}

    def set_state(self, state: dict[str, Any]) -> None:
        self._close()
        self._columns = state["columns"]
        if state["length"] is not None:  # the lines of epochs that are trained again are not there
            self._open("r+")
            assert self._file is not None
            self._file.seek(min(state["length"], os.path.getsize(self.filename)))
            self._file.truncate()

    def _open(self, mode: Literal["a", "w", "r+"]) -> None:
        self._file = open(self.filename, mode, newline="")  # noqa: SIM115

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._close()
        self._columns = []
        self._open("a")  # known to be possible, and emptied when there is something to write
        self._close()

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self._file is None:
            self._open("a" if self.append else "w")
        assert self._file is not None
        logs = logs or {}
        begins = not self._columns
        if begins:
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]
            self._columns = names
        writer = csv.writer(self._file, delimiter=self.separator)
        if begins and self._file.tell() == 0:
            writer.writerow(["epoch", *self._columns])
        writer.writerow([epoch, *(logs.get(name, "NA") for name in self._columns)])
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is None and not self.append:
            self._open("w")
        self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:  # after an interrupted training nobody says good-bye
        if getattr(self, "_file", None) is not None:
            self._close()
