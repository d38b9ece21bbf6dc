# SPDX-License-Identifier: Apache-2.0
"""The learning curve as a picture. Importing this module needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw(history: Mapping[str, Sequence[float]], title: str, path: Path) -> None:
    """Write loss and accuracy over the epochs, for training and validation, to a PNG file."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")  # no pyplot, so no display is needed
    figure.suptitle(title)
    quantities = [name for name in history if not name.startswith("val_")]
    row = figure.subplots(1, len(quantities), squeeze=False)[0]
    for axes, name in zip(row, quantities, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if key in history:
                epochs = range(1, len(history[key]) + 1)
                axes.plot(epochs, history[key], marker=".", label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)
