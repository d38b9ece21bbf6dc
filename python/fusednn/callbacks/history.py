# SPDX-License-Identifier: Apache-2.0
"""What `fit` returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusednn.callbacks.base import Callback, Logs

if TYPE_CHECKING:
    from fusednn.models import Model


class History(Callback):
    """What `fit` returns.

    Attributes
    ----------
    history : dict of str to list of float
        One list per quantity ("loss", "val_loss", metrics), with one number per epoch.
    epoch : list of int
        The epochs that were finished, also where training was interrupted.
    params : dict
        epochs, steps (per epoch), verbose.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.params = {}

    def set_model(self, model: Model) -> None:
        """A history keeps no model alive."""

    def get_state(self) -> dict[str, Any]:
        return {"history": self.history, "epoch": self.epoch}

    def set_state(self, state: dict[str, Any]) -> None:
        self.history, self.epoch = state["history"], state["epoch"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def plot(self, names: list[str] | None = None, ax: Any = None) -> Any:
        """Draw the quantities over the epochs, each beside its "val_" twin. Needs matplotlib.

        Parameters
        ----------
        names : list of str, optional
            Which, without "val_"; default all.
        ax : matplotlib Axes, optional
            Where to draw one quantity; default a new figure with one plot for each.

        Returns
        -------
        matplotlib Figure

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], seed=0)
        >>> model.compile("sgd", "mse")
        >>> history = model.fit(np.ones((9, 2)), np.ones(9), epochs=3, verbose=0)
        >>> figure = history.plot()  # doctest: +SKIP
        >>> figure.savefig("history.png")  # doctest: +SKIP
        """
        from fusednn.plotting.history import plot_history

        return plot_history(self, names, ax)

    def __repr__(self) -> str:
        return f"<History of {len(self.epoch)} epochs: {', '.join(self.history) or 'nothing'}>"
