# SPDX-License-Identifier: Apache-2.0
"""The results as pictures. Importing this module needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from fusednn.bench import ceilings
from fusednn.bench.goals import is_own
from fusednn.bench.loops import LOOPS
from fusednn.bench.report import picture

Document = dict[str, Any]
Record = dict[str, Any]

OURS, FLOOR = "#c1272d", "black"
OTHERS = ("#1f6f8b", "#6ba292", "#e0a458", "#7d6b91", "#8a8a8a")


def _steady(document: Document, *suites: str) -> list[Record]:
    return [r for r in document["cases"] if r["suite"] in suites and r["steady"]]


# ---- the roofline ------------------------------------------------------------------------------


def _products(axes: Axes, document: Document) -> None:
    """Draw what was reached against operations per byte, below what the machine allows."""
    m = document["machine"]
    bandwidth = ceilings.bandwidth(document["ceilings"], m["threads"]) / 1e9
    intensity = np.logspace(-1, 3, 200)
    for threads in sorted({1, m["threads"]}, reverse=True):
        peak = ceilings.peak(document["ceilings"], m["isa"], "float32", threads) / 1e9
        label = f"{peak:.0f} GFLOP/s with {threads} thread{'s' if threads > 1 else ''}"
        axes.plot(intensity, np.minimum(peak, bandwidth * intensity), color=FLOOR, lw=1)
        above = threads == m["threads"]
        place = (intensity[-1], peak * (1.08 if above else 0.92))
        axes.annotate(label, place, fontsize=8, ha="right", va="bottom" if above else "top")
    axes.annotate(f"{bandwidth:.0f} GB/s", (0.13, bandwidth * 0.2), fontsize=8, rotation=32)
    for color, suite in zip(
        (OURS, *OTHERS), ("gemm", "step", "inference", "growth", "fit"), strict=False
    ):
        # The roof is that of float32 and of the instruction set in use.
        records = [
            r
            for r in _steady(document, suite)
            if r["flops"] and r["isa"] == m["isa"] and r["dtype"] == "float32"
        ]
        for one, marker in ((False, "o"), (True, "v")):
            chosen = [r for r in records if (r["threads"] == 1) is one]
            if not chosen:
                continue
            axes.scatter(
                [r["flops"] / r["bytes"] for r in chosen],
                [r["flops"] / r["ours"]["median"] * 1e-3 for r in chosen],
                label=f"{suite}, 1 thread" if one else suite,
                color=color,
                marker=marker,
                s=14,
                alpha=0.75,
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte of operands")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("Products and steps; what stays in cache may lie above the slope", fontsize=10)
    axes.grid(alpha=0.3)
    if axes.collections:
        axes.legend(fontsize=8, loc="lower right")


def _streams(axes: Axes, document: Document) -> None:
    """Draw the bytes a second of everything that is larger than the caches."""
    m = document["machine"]
    records = [
        r
        for r in _steady(document, "optimizer", "activation", "loss")
        if r["bytes"] > (m["cache_bytes"] or 0) and r["threads"] == m["threads"]
    ]
    names = [r["name"] for r in records]
    rates = [r["bytes"] / r["ours"]["median"] * 1e-3 for r in records]
    kinds = list(dict.fromkeys(r["suite"] for r in records))
    colors = [(OURS, *OTHERS)[kinds.index(r["suite"])] for r in records]
    axes.scatter(rates, range(len(records)), color=colors, s=14)
    # What a loop over as many arrays moved in the same rounds, where one took part.
    loops = [
        (rate / r["ratios"][name], place)
        for place, (rate, r) in enumerate(zip(rates, records, strict=True))
        for name in (f"fusednn-{loop}" for loop in LOOPS)
        if r["ratios"].get(name) is not None
    ]
    if loops:
        axes.scatter(*zip(*loops, strict=True), color=FLOOR, marker="|", s=40, label="only moving")
        axes.legend(fontsize=8, loc="lower right")
    axes.set_yticks(range(len(records)), names, fontsize=5)
    axes.set_ylim(len(records) - 0.5, -0.5)
    for row, (kind, by_threads) in enumerate(document["ceilings"]["memory"].items()):
        rate = by_threads[str(m["threads"])]
        axes.axvline(rate, color=FLOOR, lw=1)
        # In rows of their own, for two streams may be equally fast.
        place = (rate, 1.0 + 0.02 * row)
        top = axes.get_xaxis_transform()
        axes.annotate(kind, place, xycoords=top, fontsize=7, ha="center", va="bottom")
    axes.set_xlim(left=0)
    axes.set_xlabel("GB/s, of the fewest bytes possible")
    axes.set_title("Optimizers, activations, losses in memory", fontsize=10, pad=28)
    axes.grid(alpha=0.3, axis="x")


def roofline(document: Document) -> Figure | None:
    """Return products and steps under their roof, and beside them what moves memory."""
    panels: list[Callable[[Axes, Document], None]] = []
    if any(r["flops"] for r in _steady(document, "gemm", "step", "inference", "growth", "fit")):
        panels.append(_products)
    if _steady(document, "optimizer", "activation", "loss"):
        panels.append(_streams)
    if not panels:
        return None
    figure = Figure(figsize=(6.5 * len(panels), 6), layout="constrained")
    for panel, axes in zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True):
        panel(axes, document)
    return figure


# ---- training steps ----------------------------------------------------------------------------


def steps(document: Document) -> Figure | None:
    """Return the times of a training step as multiples of ours, with the floor."""
    records = [r for r in _steady(document, "step") if r["rivals"]]
    if not records:
        return None
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(dict.fromkeys(n for record in records for n in record["rivals"] if not is_own(n)))
    width = 0.8 / (len(names) + 1)
    places = np.arange(len(records))
    for i, name in enumerate(["fusednn", *names]):
        # What is too noisy has no ratio, and gets no bar.
        multiples = [{"fusednn": 1.0, **r["ratios"]}.get(name) or np.nan for r in records]
        bars = axes.bar(places + i * width, multiples, width, label=name, color=_color(i))
        if i:
            texts = ["" if np.isnan(m) else f"{m:.3g}" for m in multiples]
            axes.bar_label(bars, texts, fontsize=6)
    for place, record in zip(places, records, strict=True):
        floor = (record["floor_us"] or np.nan) / record["ours"]["median"]
        label = "floor" if place == 0 else ""  # matplotlib leaves an empty name out of the legend
        axes.hlines(floor, place - width / 2, place + width / 2, color=FLOOR, label=label)
    labels = [f"{r['name']}\n{_microseconds(r['ours']['median'])}" for r in records]
    axes.set_xticks(places + 0.4 - width / 2, labels, fontsize=7)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("time / ours")
    axes.set_title("One training step: forward, loss, backward, Adam", fontsize=10)
    axes.grid(alpha=0.3, axis="y")
    axes.legend(fontsize=8, ncols=3)
    return figure


def _color(i: int) -> str:
    return OURS if i == 0 else OTHERS[(i - 1) % len(OTHERS)]


def _microseconds(value: float) -> str:
    return f"{value:.3g} µs" if value < 1e3 else f"{value / 1e3:.3g} ms"


# ---- growth ------------------------------------------------------------------------------------

AXES = {
    "width": "width of three hidden layers, batch 128",
    "depth": "hidden layers of 128, batch 128",
    "batch": "batch, 64-256-256-10",
    "threads": "threads, 64-512-512-10, batch 256",
}


def _curve(axes: Axes, records: list[Record], axis: str) -> None:
    values = [r["params"]["value"] for r in records]
    axes.plot(values, [r["ours"]["median"] for r in records], color=OURS, marker="o", label="ours")
    floors = [r["floor_us"] or np.nan for r in records]
    axes.plot(values, floors, color=FLOOR, linestyle="--", label="floor")
    names = list(dict.fromkeys(n for r in records for n in r["rivals"] if not is_own(n)))
    for i, name in enumerate(names, start=1):
        times = [
            r["rivals"][name]["median"] if r["ratios"].get(name) is not None else np.nan
            for r in records
        ]
        axes.plot(values, times, color=_color(i), marker="s", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    if axis == "threads":
        axes.set_ylim(bottom=0)
    else:
        axes.set_yscale("log")
    axes.set_xticks(values, [str(value) for value in values])
    axes.minorticks_off()
    axes.set_xlabel(AXES[axis], fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)


def growth(document: Document) -> Figure | None:
    """Return the time of a step along each axis, with the floor and the rival."""
    records = _steady(document, "growth")
    if not records:
        return None
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    figure.suptitle("Microseconds of a training step", fontsize=10)
    panels = np.ravel(figure.subplots(2, 2))
    for axes, axis in zip(panels, AXES, strict=True):
        chosen = [r for r in records if r["params"]["axis"] == axis]
        if chosen:
            _curve(axes, chosen, axis)
        else:
            axes.set_axis_off()
    panels[0].legend(fontsize=8)
    return figure


# ---- files -------------------------------------------------------------------------------------

FIGURES: dict[str, Callable[[Document], Figure | None]] = {
    "steps": steps,
    "growth": growth,
    "roofline": roofline,
}


def draw(document: Document, path: Path) -> list[Path]:
    """Write the pictures that the document has numbers for, and return their files.

    ``x.png`` gives ``x-steps.png`` and so on; the suffix decides the format.
    """
    written = []
    for kind, make in FIGURES.items():
        figure = make(document)
        if figure is not None:
            file = picture(path, kind, path.suffix or ".png")
            figure.savefig(file, dpi=100, metadata={"Date": None} if file.suffix == ".svg" else {})
            written.append(file)
    return written
