# SPDX-License-Identifier: Apache-2.0
"""Narrow networks in bfloat16 on tensors of PyTorch: inference, and a forward and a backward pass.

Ours run as one launch each way, and beside that layer by layer (``ours-apart``, which makes the
hidden values again as well), so that the constants of the model in ``csrc/cuda/fusion.cpp`` can be
corrected where it chose wrongly.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from fusednn.bench import goals, harness
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.torch.nn import FusedMLP
from on_device.place import Place

WIDTHS = (64, 128)
HIDDEN, OUTPUTS = 4, 10
ROWS = (2**14, 2**17, 2**20)
# Of the largest number: what bfloat16 does through five layers, and on the way back. PyTorch's
# error is as large.
INFERENCE_TOLERANCE, TRAINING_TOLERANCE = 2e-2, 0.2


def _sizes(width: int) -> list[int]:
    return [width] * (HIDDEN + 1) + [OUTPUTS]


def _layer_by_layer(call: Callable[[], Any]) -> Any:
    """Return what a call gives whose lists of commands are not fused."""
    from fusednn import _cuda

    _cuda.set_fusing("never")
    try:
        return call()
    finally:
        _cuda.set_fusing("where_faster")


class _Job:
    """The same network and data for every candidate."""

    def __init__(self, place: Place, width: int, rows: int, trains: bool) -> None:
        self.place, self.trains, self.sizes = place, trains, _sizes(width)
        generator = np.random.default_rng(0)
        self.x = place.put(generator.standard_normal((rows, width), dtype=np.float32))
        self.dy = place.put(generator.standard_normal((rows, OUTPUTS), dtype=np.float32))
        torch.manual_seed(0)
        self.state = FusedMLP(self.sizes).state_dict()

    def network(self, precision: str) -> FusedMLP:
        net = FusedMLP(self.sizes, device=self.place.name, precision=precision)
        net.load_state_dict(self.state)
        return net

    def candidate(self, forward: Callable[[torch.Tensor], torch.Tensor], net: Any) -> Candidate:
        leaves = list(net.parameters())

        def call() -> list[torch.Tensor]:
            if self.trains:
                y = forward(self.x)
                return list(torch.autograd.grad(y, leaves, self.dy.to(y.dtype)))
            with torch.no_grad():
                return [forward(self.x)]

        return Candidate(call, lambda: self.answer(call), finish=self.place.wait)

    def answer(self, call: Callable[[], list[torch.Tensor]]) -> np.ndarray:
        """Return all results in one array, each as a share of its size."""
        found = [t.detach().double().flatten() for t in call()]
        return np.concatenate([self.place.back(t / t.norm()) for t in found])

    def ours(self) -> Candidate:
        net = self.network("bfloat16")
        return self.candidate(net, net)

    def ours_apart(self) -> Candidate:
        whole = self.ours()
        return Candidate(
            lambda: _layer_by_layer(whole.call),
            lambda: _layer_by_layer(whole.answer),
            finish=self.place.wait,
        )

    def torchs(self, compiled: bool) -> Candidate:
        layers: list[torch.nn.Module] = []
        for inputs, outputs in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1]).to(self.place.name)
        net.load_state_dict(dict(zip(net.state_dict(), self.state.values(), strict=True)))

        def forward(x: torch.Tensor) -> torch.Tensor:
            with torch.autocast(self.place.name, torch.bfloat16):
                return net(x)

        return self.candidate(torch.compile(forward) if compiled else forward, net)

    def right(self) -> np.ndarray:
        """Return what float32 gives."""
        net = self.network("float32")
        return self.candidate(net, net).answer()


def _work(place: Place, width: int, rows: int, trains: bool) -> Work:
    job = _Job(place, width, rows, trains)
    others = {"torch-eager": functools.partial(job.torchs, False)}
    if place.real:
        others["ours-apart"] = job.ours_apart
        others["torch-compile"] = functools.partial(job.torchs, True)
    tolerance = TRAINING_TOLERANCE if trains else INFERENCE_TOLERANCE
    return Work(job.ours(), others, harness.close_to(job.right, tolerance))


def cases(place: Place) -> Iterator[Case]:
    """Return inference and training, the largest batches first."""
    for rows in reversed(ROWS):
        for width in WIDTHS:
            for trains in (False, True):
                actual = rows if place.real else 64
                products = HIDDEN * width * width + width * OUTPUTS
                times = 3 * products - width * width if trains else products
                numbers = 2 * width + 3 * OUTPUTS if trains else width + OUTPUTS
                kind = "training" if trains else "inference"
                yield Case(
                    "narrow",
                    f"{kind}, {HIDDEN} x {width}, batch {rows}",
                    2.0 * actual * times,
                    4.0 * actual * numbers,
                    functools.partial(_work, place, width, actual, trains),
                    {"width": width, "rows": rows, "kind": kind},
                    dtype="bfloat16",
                    isa="device",
                    goals=(goals.ratio(8.0, "torch-eager"), goals.ratio(4.0, "torch-compile")),
                )
