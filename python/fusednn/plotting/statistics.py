# SPDX-License-Identifier: Apache-2.0
"""What goes on inside of the layers while a model is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusednn.plotting.canvas import new_figure, tidy

if TYPE_CHECKING:
    from fusednn.callbacks import LayerStatistics

_PANELS = (
    ("gradient", "gradient norm", True),
    ("update", "gradient norm / weight norm", True),
    ("deviation", "deviation of outputs", True),
    ("zeros", "share of outputs that are 0", False),
)


def plot_statistics(statistics: LayerStatistics) -> Any:
    """Draw gradient norms and outputs of every layer over the epochs.

    Lines that fall apart by powers of ten from the last layer to the first are vanishing gradients,
    lines that rise without end exploding ones.
    """
    records = statistics.records
    if not records:
        raise ValueError("there is nothing to draw: no epoch was finished")
    from matplotlib import colormaps

    epochs = [record["epoch"] + 1 for record in records]
    figure = new_figure(9.0, 6.0)
    axes = figure.subplots(2, 2).reshape(-1)
    names = list(records[0]["layers"])
    colors = colormaps["viridis"]
    for ax, (key, title, logarithmic) in zip(axes, _PANELS, strict=True):
        for place, name in enumerate(names):
            values = [record["layers"][name].get(key) for record in records]
            if values[0] is None:
                continue
            color = colors(place / max(len(names) - 1, 1) * 0.9)
            marker = "o" if len(epochs) == 1 else ""
            ax.plot(epochs, values, label=name, color=color, marker=marker)
        if logarithmic:
            ax.set_yscale("log")
        ax.set_title(title)
        ax.set_xlabel("epoch")
        tidy(ax)
    axes[0].legend(frameon=False, fontsize=8)
    return figure
