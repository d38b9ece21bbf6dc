# SPDX-License-Identifier: Apache-2.0
"""Where checkpoints are written, when, and how many are kept."""

from __future__ import annotations

import os
from pathlib import Path

from fusednn.callbacks.monitor import MODES
from fusednn.errors import check_integer, check_number, helpful_keywords, unknown_choice

_ON_ERROR = ("stop", "continue")


class Checkpoints:
    """Where `fit` writes checkpoints, when, and how many it keeps.

    ``fit(..., resume=Checkpoints(folder))``, or ``fit(..., resume=folder)`` for the defaults, goes
    on from the newest checkpoint in the folder that can be read, and begins anew where there is
    none. The training ends with the same bits as if it had not been interrupted.

    Parameters
    ----------
    folder : path
        One for each training; made where it is missing.
    every_epochs : int
        Epochs between two checkpoints.
    every_steps : int, optional
        Steps between two checkpoints, for long epochs.
    every_seconds : float, optional
        Likewise, after the first step that ends later than this.
    keep : int
        How many checkpoints stay, the latest ones. With 2 or more, one that the disk has damaged
        can be done without.
    keep_best : str, optional
        A key of the logs, such as "val_loss". The checkpoint after the best epoch is also kept, as
        ``best.safetensors``.
    mode : {"auto", "min", "max"}
        Whether smaller or greater is better; "auto" takes greater for accuracies and scores.
    on_error : {"stop", "continue"}
        What to do when a checkpoint cannot be written, as on a full disk: raise OSError, or warn
        and train on. Those that are there stay in either case.

    See Also
    --------
    fusednn.callbacks.ModelCheckpoint : models alone, with names of your own.

    Examples
    --------
    >>> import tempfile, numpy as np, fusednn
    >>> def train(folder, epochs):
    ...     model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0, input_shape=(2,))
    ...     model.compile("adam", "mse")
    ...     often = fusednn.Checkpoints(folder, every_steps=100, keep_best="loss")
    ...     x = np.arange(8.0).reshape(4, 2)
    ...     return model.fit(x, x[:, 0], epochs=epochs, verbose=0, resume=often)
    >>> folder = tempfile.mkdtemp()
    >>> train(folder, 2).epoch
    [0, 1]
    >>> train(folder, 4).epoch  # two epochs were there already
    [0, 1, 2, 3]
    >>> fusednn.load(fusednn.Checkpoints(folder).best).output_shape
    (None, 1)
    """

    @helpful_keywords
    def __init__(
        self,
        folder: str | os.PathLike[str],
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_seconds: float | None = None,
        keep: int = 3,
        keep_best: str | None = None,
        mode: str = "auto",
        on_error: str = "stop",
    ) -> None:
        if not os.fspath(folder):
            raise ValueError("folder is empty; give one of its own to every training")
        self.folder = Path(folder)
        self.every_epochs = check_integer("every_epochs", every_epochs, 1)
        if every_steps is not None:
            every_steps = check_integer("every_steps", every_steps, 1)
        self.every_steps = every_steps
        if every_seconds is not None:
            every_seconds = check_number("every_seconds", every_seconds, 0, open_low=True)
        self.every_seconds = every_seconds
        self.keep = check_integer("keep", keep, 1)
        if keep_best is not None and not isinstance(keep_best, str):
            raise TypeError(f"keep_best must be a key of the logs, got {keep_best!r}")
        self.keep_best = keep_best
        if mode not in MODES:
            raise unknown_choice("mode", mode, MODES)
        self.mode = mode
        if on_error not in _ON_ERROR:
            raise unknown_choice("on_error", on_error, _ON_ERROR)
        self.on_error = on_error

    @property
    def best(self) -> Path:
        """Where the checkpoint after the best epoch is, with `keep_best`."""
        return self.folder / "best.safetensors"
