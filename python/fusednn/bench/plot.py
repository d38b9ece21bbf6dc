# SPDX-License-Identifier: Apache-2.0
"""The results as a picture. Importing this module needs matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fusednn.bench import ceilings

Document = dict[str, Any]


def roofline(axes: Axes, document: Document) -> None:
    """Draw what was reached against operations per byte, below what the machine allows."""
    m = document["machine"]
    peak = ceilings.peak(document["ceilings"], m["isa"], "float32", m["threads"]) / 1e9
    bandwidth = ceilings.bandwidth(document["ceilings"], m["threads"]) / 1e9
    intensity = np.logspace(-1, 4, 200)
    axes.plot(intensity, np.minimum(peak, bandwidth * intensity), color="black")
    axes.annotate(f"{peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s", (12, peak * 1.1), fontsize=8)
    records = [r for r in document["cases"] if r["ours"] and r["flops"] and r["bytes"]]
    for suite in dict.fromkeys(r["suite"] for r in records):
        chosen = [r for r in records if r["suite"] == suite]
        axes.scatter(
            [r["flops"] / r["bytes"] for r in chosen],
            [r["flops"] / r["ours"]["median"] * 1e-3 for r in chosen],
            label=suite,
            s=14,
            alpha=0.8,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("floating-point operations per byte of operands")
    axes.set_ylabel("GFLOP/s")
    axes.set_title("Roofline; what stays in cache may lie above the slope")
    axes.grid(alpha=0.3)
    if records:
        axes.legend()


def step_times(axes: Axes, document: Document) -> None:
    """Draw the time of a training step in each library, as multiples of ours."""
    records = [r for r in document["cases"] if r["suite"] == "step" and r["rivals"]]
    names = list(dict.fromkeys(name for record in records for name in record["rivals"]))
    width = 0.8 / max(1, len(names) + 1)
    places = np.arange(len(records))
    for i, name in enumerate(["fusednn", *names]):
        # What is too noisy has no ratio, and gets no bar.
        multiples = [{"fusednn": 1.0, **r["ratios"]}.get(name) or np.nan for r in records]
        axes.bar(places + i * width, multiples, width, label=name)
    floors = [(r["floor_us"] or np.nan) / r["ours"]["median"] for r in records]
    axes.plot(places, floors, "_", color="black", markersize=14, label="floor")
    axes.set_xticks(places + width, [r["name"] for r in records], rotation=20, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel("time of a training step / ours")
    axes.set_title("Forward, loss, backward, Adam")
    axes.grid(alpha=0.3, axis="y")
    axes.legend()


def draw(document: Document, path: Path) -> None:
    """Write the roofline and, where steps were measured, their times to a picture."""
    panels = [roofline]
    if any(r["suite"] == "step" and r["rivals"] for r in document["cases"]):
        panels.append(step_times)
    figure = Figure(figsize=(8 * len(panels), 5), layout="constrained")  # no display is needed
    for panel, axes in zip(panels, np.ravel(figure.subplots(1, len(panels))), strict=True):
        panel(axes, document)
    figure.savefig(path, dpi=120)
