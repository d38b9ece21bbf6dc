# SPDX-License-Identifier: Apache-2.0
"""The six networks of the suite "step" as whole training steps on the device."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import fusednn
from fusednn.bench import goals, reference, rivals
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network
from fusednn.bench.suites import step as steps
from on_device.place import Place

# The lead that ours is meant to have over PyTorch's best.
NETWORKS = {
    Network((8, 32, 32, 1), 32): 2.0,
    Network((32, 128, 128, 10), 64): 2.0,
    Network((784, 128, 10), 128): 2.0,
    Network((784, 512, 512, 10), 256): 1.0,
    Network((1024,) * 5, 1024): 1.0,
    Network((4096,) * 3, 1024): 1.0,
}
WAYS = ("torch-eager", "torch-fused", "torch-graph", "torch-compile")
WARM_UP = 3  # steps before a graph is captured, on a stream beside, as PyTorch asks for
COMPILE_SECONDS = 40.0


class _TorchStep:
    """Training steps of a network in PyTorch, with everything on the device."""

    def __init__(self, place: Place, way: str, weights: list[np.ndarray], job: _Job) -> None:
        self.place, self.weights, self.rounded = place, weights, job.dtype == "bfloat16"
        self.network = rivals.torch_network(weights).to(place.name)
        self.data = [(place.put(x), place.put(y)) for x, y in job.batches]
        functional = torch.nn.functional
        labels = self.data[0][1].dtype == torch.int64
        self.criterion = functional.cross_entropy if labels else functional.mse_loss
        options: dict[str, Any] = {} if way == "torch-eager" else {"fused": True}
        if way == "torch-graph":
            options["capturable"] = True
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=rivals.LEARNING_RATE, **options
        )
        self.objective = self._objective
        if way == "torch-compile":
            self.objective = torch.compile(self._objective, mode="reduce-overhead")
        self.turn = itertools.cycle(self.data)
        self.compiled = way == "torch-compile"
        self.step = self._captured() if way == "torch-graph" else self._eager

    def _objective(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.place.name, torch.bfloat16, enabled=self.rounded):
            scores = self.network(x)
        return self.criterion(scores.float(), y)

    def _eager(self, batch: Any = None) -> None:
        x, y = batch or next(self.turn)
        self.optimizer.zero_grad()
        self.objective(x, y).backward()
        self.optimizer.step()

    def _captured(self) -> Callable[..., None]:
        x, y = (t.clone() for t in self.data[0])
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                self._eager((x, y))
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad()
        with torch.cuda.graph(graph):
            self.objective(x, y).backward()
            self.optimizer.step()
        self._start_again()

        def step(batch: Any = None) -> None:
            new_x, new_y = batch or next(self.turn)
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()

        return step

    @torch.no_grad()
    def _start_again(self) -> None:
        for p, w in zip(self.network.parameters(), self.weights, strict=True):
            p.copy_(self.place.put(w.T.copy() if w.ndim == 2 else w))
            for value in self.optimizer.state[p].values():
                value.zero_()

    def answer(self) -> list[np.ndarray]:
        limit = rivals.limited(COMPILE_SECONDS) if self.compiled else contextlib.nullcontext()
        with limit:
            for _ in range(steps.CHECKED_STEPS):
                self.step(self.data[0])
        return rivals._torch_weights(self.network.cpu() if not self.place.real else self._on_host())

    def _on_host(self) -> Any:
        copy = rivals.torch_network(self.weights)
        copy.load_state_dict({k: v.cpu() for k, v in self.network.state_dict().items()})
        return copy

    def candidate(self) -> Candidate:
        return Candidate(self.step, self.answer, finish=self.place.wait)


@dataclass(frozen=True)
class _Job:
    network: Network
    dtype: str
    batches: list[tuple[np.ndarray, np.ndarray]]


def _moved(start: list[np.ndarray], right: list[np.ndarray], tolerance: float) -> Any:
    """Return a check: all weights together went the right way."""

    def check(reached: list[np.ndarray]) -> str:
        way = np.concatenate([(b - a).ravel() for a, b in zip(start, right, strict=True)])
        off = np.concatenate([(b - a).ravel() for a, b in zip(right, reached, strict=True)])
        error = float(np.linalg.norm(off) / np.linalg.norm(way))
        return "" if error <= tolerance else f"weights moved wrong by {error:.1e}"

    return check


def _step_work(place: Place, network: Network, dtype: str, names: tuple[str, ...]) -> Work:
    weights = reference.initial_weights(network.widths, seed=0)
    count = steps._steps_of_an_epoch(network) if place.real else 2
    ours = steps._Ours(network, weights, count)
    if dtype != "float32":
        model, loss = ours.model, "sparse_categorical_crossentropy"
        assert network.widths[-1] > 1
        model.compile(fusednn.optimizers.Adam(rivals.LEARNING_RATE), loss, precision=dtype)
        model.set_weights(list(weights))
    size = network.batch
    batches = [
        (ours.x[i : i + size], ours.y[i : i + size]) for i in range(0, min(count, 16) * size, size)
    ]
    job = _Job(network, dtype, batches)
    # In bfloat16 Adam's first steps follow the signs of gradients, small ones of which are noise.
    tolerance = 5e-2 if dtype == "float32" else 0.5

    @functools.cache
    def right() -> list[np.ndarray]:
        # By PyTorch in float64 on the processor, where the largest takes a second.
        wide = rivals.torch_network(weights).double()
        adam = torch.optim.Adam(wide.parameters(), lr=rivals.LEARNING_RATE)
        x, y = (torch.from_numpy(array) for array in batches[0])
        labels = y.dtype == torch.int64
        loss = torch.nn.functional.cross_entropy if labels else torch.nn.functional.mse_loss
        for _ in range(steps.CHECKED_STEPS):
            adam.zero_grad()
            loss(wide(x.double()), y if labels else y.double()).backward()
            adam.step()
        return rivals._torch_weights(wide)

    return Work(
        Candidate(ours.epoch, ours.answer, ours.count, finish=place.wait),
        {name: lambda way=name: _TorchStep(place, way, weights, job).candidate() for name in names},
        lambda reached: _moved(weights, right(), tolerance)(reached),
    )


def cases(place: Place, dtypes: tuple[str, ...]) -> Iterator[Case]:
    for dtype, (network, lead) in itertools.product(dtypes, NETWORKS.items()):
        small = lead > 1
        if not place.real and not small:
            continue
        if dtype != "float32" and small:
            continue
        ways = WAYS if small or dtype != "float32" else WAYS[:3]
        if not place.real:
            ways = WAYS[:2]
        yield Case(
            "step",
            network.name + ("" if dtype == "float32" else f", {dtype}"),
            network.step_flops,
            network.step_bytes,
            functools.partial(_step_work, place, network, dtype, ways),
            {"widths": list(network.widths), "batch": network.batch, "way": "epoch"},
            dtype=dtype,
            isa="device",
            goals=(goals.ratio(lead, "torch-compile", "torch-graph"), goals.ratio(10.0, WAYS[0]))
            if small
            else (goals.ratio(lead),),
        )
