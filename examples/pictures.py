# SPDX-License-Identifier: Apache-2.0
"""Grids of small grey images, for the other examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure


def save_rows(path: str, rows: Mapping[str, np.ndarray], side: int = 28) -> None:
    """Draw rows of images, each with its title at the left."""
    columns = max(len(images) for images in rows.values())
    figure = Figure(figsize=(1.5 + 0.75 * columns, 0.8 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (title, images) in zip(axes, rows.items(), strict=True):
        for ax in line:
            ax.axis("off")
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.reshape(side, side), cmap="gray_r", vmin=0, vmax=1)
        line[0].text(
            -0.15, 0.5, title, transform=line[0].transAxes, ha="right", va="center", fontsize=9
        )
    figure.savefig(path, dpi=110)


def save_mosaic(path: str, images: np.ndarray, columns: int, side: int = 28) -> None:
    """Draw images edge to edge, row by row."""
    rows = len(images) // columns
    tiles = images[: rows * columns].reshape(rows, columns, side, side)
    whole = tiles.transpose(0, 2, 1, 3).reshape(rows * side, columns * side)
    figure = Figure(figsize=(0.55 * columns, 0.55 * rows))
    ax = figure.add_axes((0, 0, 1, 1))
    ax.imshow(whole, cmap="gray_r", vmin=0, vmax=1)
    ax.axis("off")
    figure.savefig(path, dpi=110)
