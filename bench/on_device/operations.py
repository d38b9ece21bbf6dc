# SPDX-License-Identifier: Apache-2.0
"""Softmax cross-entropy and batch norm, forward and backward, on tensors of PyTorch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from fusednn import ops
from fusednn.bench import goals, harness
from fusednn.bench.harness import Candidate, Case, Work
from on_device.place import Place

# Rows, columns: one that a launch decides about, and one that memory does.
LOSSES = ((4096, 1000), (65536, 1000))
NORMS = ((4096, 1024), (65536, 1024))
GRAPH_CALLS = 20  # in a captured graph


def _cross_entropy(place: Place, shape: tuple[int, int]) -> tuple[Callable[[], Any], ...]:
    generator = np.random.default_rng(0)
    x = place.put(generator.standard_normal(shape, dtype=np.float32))
    labels = place.put(generator.integers(0, shape[1], shape[0]).astype(np.int32))
    gradient, wide = torch.empty_like(x), labels.long()
    leaf = x.clone().requires_grad_()

    def ours() -> torch.Tensor:
        # The values of the rows: a sum would be a number of the host, which waits.
        ops.loss("softmax_cross_entropy", x, labels, reduction="none", out=gradient)
        return gradient

    def theirs() -> torch.Tensor:
        loss = torch.nn.functional.cross_entropy(leaf, wide, reduction="sum")
        (found,) = torch.autograd.grad(loss, leaf)
        return found

    return ours, theirs


def _batch_norm(place: Place, shape: tuple[int, int]) -> tuple[Callable[[], Any], ...]:
    generator = np.random.default_rng(0)
    x, dy = (place.put(generator.standard_normal(shape, dtype=np.float32)) for _ in "xd")
    gamma, beta = torch.ones_like(x[0]), torch.zeros_like(x[0])
    running, variance = torch.zeros_like(x[0]), torch.ones_like(x[0])
    leaves = [t.clone().requires_grad_() for t in (x, gamma, beta)]

    def ours() -> torch.Tensor:
        _, context = ops.batch_norm_forward(x, gamma, beta, running, variance)
        return ops.batch_norm_backward(dy, context)[0]

    def theirs() -> torch.Tensor:
        y = torch.nn.functional.batch_norm(leaves[0], running, variance, *leaves[1:], training=True)
        return torch.autograd.grad(y, leaves, dy)[0]

    return ours, theirs


JOBS = {"softmax cross-entropy": _cross_entropy, "batch norm": _batch_norm}


def captured(place: Place, call: Callable[[], Any]) -> Callable[[], Any]:
    """Return what replays some calls at once: their time on the device, without the host's."""
    if not place.real:
        return call
    beside = torch.cuda.Stream()
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        call()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(GRAPH_CALLS):
            kept = call()
    graph.kept = kept  # type: ignore[attr-defined]
    return graph.replay


def _work(place: Place, name: str, shape: tuple[int, int], in_graph: bool) -> Work:
    ours, theirs = JOBS[name](place, shape)

    def candidate(call: Callable[[], Any]) -> Candidate:
        def answer() -> np.ndarray:
            return place.back(call())

        if not in_graph:
            return Candidate(call, answer, finish=place.wait)
        jobs = GRAPH_CALLS if place.real else 1
        return Candidate(captured(place, call), answer, jobs, finish=place.wait)

    rival = "torch-graph" if in_graph else "torch-eager"
    return Work(
        candidate(ours),
        {rival: lambda: candidate(theirs)},
        harness.close_to(lambda: place.back(theirs()), 1e-5),
    )


def cases(place: Place) -> Iterator[Case]:
    """Return each as a call, and without the host as a graph of calls."""
    for name, shapes, passes in (
        ("softmax cross-entropy", LOSSES, 2),
        ("batch norm", NORMS, 8),
    ):
        for shape in shapes:
            small = shape == shapes[0]
            actual = shape if place.real else (64, 32)
            for in_graph in (False, True) if small else (True,):
                yield Case(
                    "operation",
                    f"{name} {shape[0]}x{shape[1]}{', in a graph' if in_graph else ''}",
                    0,
                    4.0 * passes * actual[0] * actual[1],
                    functools.partial(_work, place, name, actual, in_graph),
                    {"operation": name, "rows": shape[0], "columns": shape[1]},
                    isa="device",
                    goals=(goals.ratio(2.0), goals.stream(0.8, "copy")),
                )
