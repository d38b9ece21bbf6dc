# SPDX-License-Identifier: Apache-2.0
"""Figures that belong to nobody's screen."""

from __future__ import annotations

from typing import Any


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure; ImportError says how to get matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'fusednn[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def tidy(ax: Any) -> None:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
