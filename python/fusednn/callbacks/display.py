# SPDX-License-Identifier: Apache-2.0
"""How `fit` shows itself, as a callback."""

from __future__ import annotations

from typing import TextIO

from fusednn.callbacks.base import Callback
from fusednn.progress import check_verbose


class Progress(Callback):
    """Says how `fit` shows its progress; takes the place of its `verbose`.

    Parameters
    ----------
    verbose : {"auto", 1, 2, 0}
        1 and "auto" a bar on a terminal, otherwise one line per epoch; 2 one line per epoch;
        0 nothing.
    stream : text stream, optional
        Where to; default the standard output.

    Examples
    --------
    >>> import io, numpy as np, fusednn
    >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0)
    >>> model.compile("sgd", "mse")
    >>> log = io.StringIO()
    >>> show = fusednn.callbacks.Progress(stream=log)
    >>> _ = model.fit(np.ones((4, 2)), np.ones(4), epochs=3, verbose=0, callbacks=[show])
    >>> len(log.getvalue().splitlines())
    3
    """

    def __init__(self, verbose: int | str = "auto", stream: TextIO | None = None) -> None:
        self.verbose = check_verbose(verbose)
        self.stream = stream
