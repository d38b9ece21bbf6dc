# SPDX-License-Identifier: Apache-2.0
"""Who should multiply: every way of ``csrc/cuda/product_choice.h``, for every class of shapes.

Times are those of the device alone: some calls in a captured graph, between two events. A line of
the result says which way was the fastest and which the table takes; where they differ by more than
the noise, the table is to be corrected.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import fusednn.device
from fusednn import _core
from on_device.operations import GRAPH_CALLS, captured
from on_device.place import Place

# Rows, inputs, units.
SHAPES = (
    (64, 64, 64),
    (256, 256, 256),
    (1024, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (8, 4096, 4096),
    (16384, 64, 64),
    (65536, 784, 10),
    (128, 784, 128),
)
WAYS = ("own", "bare", "epilogue")
# Name -> precision of the call, whether TF32 is allowed.
KINDS = {"float32": (None, False), "tf32": (None, True), "bfloat16": ("bfloat16", False)}
TRIES = 5
NOISE = 0.05


def _seconds(place: Place, call: Callable[[], Any]) -> float:
    """Return the seconds of one call on the device, the best of some tries."""
    replay, calls = captured(place, call), GRAPH_CALLS if place.real else 1
    times = []
    for _ in range(TRIES if place.real else 1):
        if place.real:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            begin = time.perf_counter()
            replay()
            times.append(time.perf_counter() - begin)
    return min(times) / calls


def _jobs(
    place: Place, shape: tuple[int, int, int], precision: str | None
) -> dict[str, Callable[[], Any]]:
    rows, inputs, units = shape
    generator = np.random.default_rng(0)
    draw = generator.standard_normal
    x, w, b, dy = (
        place.put(draw(s, dtype=np.float32))
        for s in ((rows, inputs), (inputs, units), (units,), (rows, units))
    )
    y = torch.empty_like(dy)

    def forward(activation: str) -> Callable[[], Any]:
        return lambda: _core.dense_forward(
            x, w, b, activation, {}, False, out=y, precision=precision
        )

    def backward() -> Any:
        return _core.dense_backward(dy, x, w, dy, "linear", {}, precision=precision)

    return {"forward": forward("linear"), "forward, gelu": forward("gelu"), "backward": backward}


def _measured(place: Place, shape: tuple[int, int, int], kind: str) -> list[dict[str, Any]]:
    backend, _ = fusednn.device._load()
    precision, tf32 = KINDS[kind]
    backend.allow_tf32(tf32)
    rows, inputs, units = shape
    lines = []
    for job, call in _jobs(place, shape, precision).items():
        times = {}
        for way in ("auto", *WAYS):
            backend.set_product_way(way)
            times[way] = _seconds(place, call) * 1e6
        best = min(WAYS, key=lambda way: times[way])
        lines.append(
            {
                "class": backend.product_class(rows, inputs, units),
                "rows": rows,
                "inputs": inputs,
                "units": units,
                "kind": kind,
                "job": job,
                "us": times,
                "best": best,
                "right": times["auto"] <= (1 + NOISE) * times[best],
            }
        )
    return lines


def measure(place: Place, seconds: float) -> list[dict[str, Any]]:
    """Return a line for each shape, precision and job, as many as there is time for."""
    backend, _ = fusednn.device._load()
    if not place.real:
        backend.load_cublaslt([backend.__file__])  # the emulator's stand-in
    begin, lines = time.monotonic(), []
    shapes = SHAPES if place.real else ((9, 16, 8),)
    try:
        for shape in shapes:
            for kind in KINDS:
                if time.monotonic() - begin < seconds:
                    lines += _measured(place, shape, kind)
    finally:
        backend.set_product_way("auto")
        backend.allow_tf32(False)
    return lines


def report(lines: list[dict[str, Any]]) -> str:
    """Return a table of the times, with a mark where the choice was wrong."""
    rows = []
    for line in lines:
        times = "  ".join(f"{way} {line['us'][way]:9.1f}" for way in WAYS)
        shape = f"{line['rows']}x{line['inputs']}x{line['units']}"
        verdict = "" if line["right"] else f"  WRONG: {line['best']} is faster"
        rows.append(
            f"{line['class']:7} {shape:16} {line['kind']:9} {line['job']:14} {times}{verdict}"
        )
    return "\n".join(rows)
