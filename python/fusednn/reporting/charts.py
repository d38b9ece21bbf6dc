# SPDX-License-Identifier: Apache-2.0
"""The charts of a report; each function returns an SVG element as text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from fusednn.reporting.canvas import (
    BLUE,
    GRAY,
    ORANGE,
    Axes,
    heading,
    label,
    number,
    picture,
)

COLORS = (BLUE, ORANGE, "#059669", "#7c3aed", "#dc2626", "#0891b2", "#65a30d", "#be185d")
MOST_DOTS = 1500


def _ranges(values: np.ndarray, share: float = 0.05) -> tuple[float, float]:
    """Return the limits of an axis with some air around the values."""
    there = values[np.isfinite(values)]
    if not len(there):
        return 0.0, 1.0
    air = (there.max() - there.min()) * share
    return float(there.min() - air), float(there.max() + air)


def learning_curves(
    curves: Mapping[str, Sequence[float]], best_epoch: int, title: str = "Learning curves"
) -> str:
    """Draw losses over the epochs, with a line at the epoch that was kept.

    Examples
    --------
    >>> from fusednn.reporting import charts
    >>> charts.learning_curves({"training": [2.0, 1.0]}, best_epoch=2).startswith("<svg")
    True
    """
    every = np.concatenate([np.asarray(values, dtype=float) for values in curves.values()])
    # The first epochs may be so bad that nothing else could be told apart.
    later = np.concatenate([np.asarray(v, dtype=float)[len(v) // 20 :] for v in curves.values()])
    low, _ = _ranges(every)
    epochs = max(len(values) for values in curves.values())
    axes = Axes((1, epochs), (low, _ranges(later)[1]), title, "epoch", "loss", whole_x=True)
    axes.line([best_epoch, best_epoch], list(axes.y), GRAY, f"kept: {best_epoch}", dashed=True)
    for color, (name, values) in zip(COLORS, curves.items(), strict=False):
        axes.line(list(range(1, len(values) + 1)), list(values), color, name)
    return axes.svg()


def curve(
    xs: np.ndarray, ys: np.ndarray, title: str, x_label: str, y_label: str, name: str = "",
    diagonal: bool = False,
) -> str:  # fmt: skip
    """Draw a line between 0 and 1 on both axes, such as a ROC curve."""
    axes = Axes((0.0, 1.0), (0.0, 1.0), title, x_label, y_label)
    if diagonal:
        axes.line([0.0, 1.0], [0.0, 1.0], GRAY, dashed=True)
    places = np.unique(np.linspace(0, len(xs) - 1, 400).astype(int))
    axes.line(xs[places].tolist(), ys[places].tolist(), BLUE)
    axes.note(0.95, 0.05, name, "end")
    return axes.svg()


def scatter(truth: np.ndarray, said: np.ndarray, title: str, seed: int = 0) -> str:
    """Draw predictions over true values; at most 1500 points, drawn at random."""
    if len(truth) > MOST_DOTS:
        chosen = np.random.default_rng(seed).permutation(len(truth))[:MOST_DOTS]
        truth, said = truth[chosen], said[chosen]
    low, high = _ranges(np.concatenate([truth, said]))
    axes = Axes((low, high), (low, high), title, "true value", "predicted")
    axes.line([low, high], [low, high], GRAY, dashed=True)
    axes.dots(truth.tolist(), said.tolist(), BLUE)
    return axes.svg()


def histogram(values: np.ndarray, title: str, x_label: str, bins: int = 41) -> str:
    """Draw how often values occur; the outermost half percent on each side is added to the ends."""
    low, high = np.quantile(values, [0.005, 0.995])
    if not high > low:
        low, high = float(low) - 1, float(high) + 1
    counts, edges = np.histogram(np.clip(values, low, high), bins, (low, high))
    axes = Axes(
        (float(low), float(high)), (0.0, float(counts.max()) * 1.05), title, x_label, "rows"
    )
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        axes.box((left, right), (0.0, float(count)), BLUE)
    axes.line([0.0, 0.0], list(axes.y), ORANGE, dashed=True)
    return axes.svg()


def bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], title: str) -> str:
    """Draw a horizontal bar for each name, with its deviation as a whisker."""
    wide, row, top, left = 760, 19, 30, 190
    height = top + row * len(names) + 14
    greatest = max([abs(v) + e for v, e in zip(values, errors, strict=True)] or [0]) or 1.0
    room = wide - left - 62
    parts = [heading(title, wide)]
    for place, (name, value, error) in enumerate(zip(names, values, errors, strict=True)):
        y = top + row * place
        length = room * max(value, 0) / greatest
        short = name if len(name) <= 28 else name[:27] + "…"
        parts.append(label(left - 8, y + 13, short, "end"))
        parts.append(
            f'<rect x="{left}" y="{y + 3}" width="{max(length, 1):.1f}" height="{row - 6}" '
            f'fill="{BLUE}"><title>{html.escape(name)}</title></rect>'
        )
        reach = room * error / greatest
        parts.append(
            f'<path d="M{left + max(length - reach, 0):.1f} {y + row / 2}h{2 * reach:.1f}" '
            f'stroke="#1e3a8a" stroke-width="1.4"/>'
        )
        parts.append(label(left + length + reach + 6, y + 13, number(round(value, 5)), "start"))
    return picture(wide, height, title, parts)


def matrix(counts: np.ndarray, names: Sequence[str], title: str = "Confusion matrix") -> str:
    """Draw how often each true class (row) was taken for each class (column)."""
    size = len(names)
    cell = max(20, min(92, 330 // size))
    left, top = 128, 62
    wide, height = max(left + cell * size + 20, 300), top + cell * size + 26
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    parts = [heading(title, wide), label(left + cell * size / 2, 34, "predicted")]
    for place, name in enumerate(names):
        short = name if len(name) <= 15 else name[:14] + "…"
        middle = top + cell * (place + 0.5)
        parts.append(label(left - 8, middle + 4, short, "end"))
        across = left + cell * (place + 0.5)
        fits = short if len(short) * 7 <= cell else short[: max(cell // 7, 1)]
        parts.append(label(across, top - 8, fits))
        for other in range(size):
            share, count = shares[place, other], int(counts[place, other])
            x, y = left + cell * other, top + cell * place
            color = "#ffffff" if share > 0.55 else "#111827"
            parts.append(
                f'<rect x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" fill="{BLUE}" '
                f'fill-opacity="{0.04 + 0.96 * share:.3f}"/>'
            )
            if cell >= 26 or count == 0:
                shown = f"{count:,}" if count else "·"
                parts.append(
                    f'<text x="{x + cell / 2:.1f}" y="{middle + 4:.1f}" text-anchor="middle" '
                    f'fill="{color}">{shown}</text>'
                )
            if cell >= 60 and count:
                parts.append(
                    f'<text class="small" x="{x + cell / 2:.1f}" y="{middle + 20:.1f}" '
                    f'text-anchor="middle" fill="{color}">{share:.0%}</text>'
                )
    middle = top + cell * size / 2
    parts.append(
        f'<text transform="translate(12 {middle:.1f}) rotate(-90)" text-anchor="middle">true</text>'
    )
    return picture(wide, height, title, parts)
