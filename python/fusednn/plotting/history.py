# SPDX-License-Identifier: Apache-2.0
"""The course of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fusednn.errors import unknown_choice
from fusednn.plotting.canvas import new_figure, tidy

if TYPE_CHECKING:
    from fusednn.callbacks import History


def plot_history(history: History, names: list[str] | None = None, ax: Any = None) -> Any:
    """Draw quantities over the epochs; see ``History.plot``."""
    known = [
        name
        for name, values in history.history.items()
        if not name.startswith("val_") and np.ndim(values[0]) == 0
    ]
    for name in names or []:
        if name not in known:
            raise unknown_choice("names", name, known)
    chosen = names or known
    if not chosen:
        raise ValueError("the history is empty: no epoch was finished")
    if ax is not None:
        if len(chosen) > 1:
            raise ValueError(f"ax holds one quantity, give names=[...] of {', '.join(known)}")
        figure, axes = ax.figure, [ax]
    else:
        figure = new_figure(4.2 * len(chosen), 3.2)
        axes = list(figure.subplots(1, len(chosen), squeeze=False)[0])
    epochs = [epoch + 1 for epoch in history.epoch]
    for place, name in zip(axes, chosen, strict=True):
        marker = "o" if len(epochs) == 1 else ""
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            values = history.history.get(key)
            if values is not None:  # a quantity that came later has fewer values
                place.plot(epochs[-len(values) :], values, marker=marker, label=label)
        place.set_xlabel("epoch")
        place.set_title(name.replace("_", " "))
        if f"val_{name}" in history.history:
            place.legend(frameon=False)
        tidy(place)
    return figure
