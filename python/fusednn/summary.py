# SPDX-License-Identifier: Apache-2.0
"""The table that ``Model.summary`` prints."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fusednn import _core
from fusednn.layers.core import InputLayer

if TYPE_CHECKING:
    from fusednn.models import Model


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"


def _rows(model: Model) -> list[list[str]]:
    if not model.built:
        return [[f"{x.name} ({type(x).__name__})", "?", "?", ""] for x in model.layers]
    graph = model._require_graph()
    rows = []
    for layer in graph.layers:
        shape = (None, *graph.shape_of(layer))
        before = ", ".join(other.name for other in graph.input_layers_of(layer))
        count = f"{layer.count_params():,}"
        rows.append([f"{layer.name} ({type(layer).__name__})", str(shape), count, before])
    chained = all(
        graph.input_layers_of(layer) == [previous]
        for previous, layer in zip(graph.layers, graph.layers[1:], strict=False)
    )
    if chained:  # a chain needs no column that says so, and no line for its input
        rows = [
            [*row[:3], ""]
            for row, layer in zip(rows, graph.layers, strict=True)
            if not isinstance(layer, InputLayer)
        ]
    return rows


def _costs(model: Model, total: int, size: int) -> list[str]:
    """Return what a step needs, as lines."""
    graph = model._require_graph()
    forward = values = 0
    for node, shape in zip(graph.nodes, graph.node_shapes, strict=True):
        values += math.prod(shape)
        if node["type"] == "dense":
            before = graph.node_shapes[node["inputs"][0]]
            forward += 2 * math.prod(before) * shape[-1]
    held = f"{_bytes(total * size)} weights"
    if model._objective is not None:
        states = len(model._engine.optimizer_states())
        held += f", {_bytes(total * size)} gradients, {_bytes(total * size * states)} optimizer"
    # Backward is two products for each one forward.
    return [
        f"FLOPs per sample: {_count(forward)} forward, {_count(3 * forward)} in training",
        f"Memory: {held}, at most {_bytes(values * size)} of outputs per sample",
    ]


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G"):
        if number < 1000 or unit == "G":
            break
        number /= 1000
    return f"{number:.3g}{' ' * bool(unit)}{unit}"


def render(model: Model) -> str:
    """Return the summary as text."""
    rows = _rows(model)
    table = [["Layer (type)", "Output shape", "Param #", "Connected to"], *rows]
    if not any(row[3] for row in rows):
        table = [row[:3] for row in table]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        cells[2] = row[2].rjust(widths[2])
        lines.append("  ".join(cells).rstrip())
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    lines = [f"Model: {model.name}", rule, lines[0], rule, *lines[1:], rule]
    if not model.built:
        return "\n".join([*lines, "Not built yet: the shape of the input is unknown"])
    size = model.dtype.itemsize
    total = model.count_params()
    learning = sum(
        p["value"].size
        for p in model._parameters
        if p["trainable"] and model._require_graph().named(p["node"]).trainable
    )
    for label, count in (
        ("Total params", total),
        ("Trainable params", learning),
        ("Non-trainable params", total - learning),
    ):
        lines.append(f"{label}: {count:,} ({_bytes(count * size)})")
    lines += _costs(model, total, size)
    if model.precision == "bfloat16":
        how = "with AVX512-BF16" if _core.uses_bf16() else "emulated in float32"
        lines.append(f"Precision: bfloat16 products, {how}; the rest float32")
    elif model.precision == "float16":
        lines.append("Precision: float16 products, bfloat16 in the backward pass; the rest float32")
    return "\n".join(lines)
