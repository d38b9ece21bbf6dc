# SPDX-License-Identifier: Apache-2.0
"""Whole trainings on digits and on Fashion-MNIST: the suite "fit", on the device.

Where a data set is not on the machine, numbers of its shape take its place, with classes that a
linear map decides about.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fusednn import datasets
from fusednn.bench import goals
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network
from fusednn.bench.suites import fit
from fusednn.bench.suites.fit import Training
from on_device.place import Place
from on_device.steps import WARM_UP

# Data -> rows to train on, columns, the lead over PyTorch's best.
SHAPES = {"digits": (1437, 64), "fashion-mnist": (60_000, 784)}
LEAD = 2.0


def _stand_in(name: str) -> Any:
    rows, columns = SHAPES[name]
    generator = np.random.default_rng(0)
    x = generator.standard_normal((rows + rows // 5, columns), dtype=np.float32)
    y = (x @ generator.standard_normal((columns, 10), dtype=np.float32)).argmax(axis=1)
    return SimpleNamespace(
        x_train=x[:rows], y_train=y[:rows], x_test=x[rows:], y_test=y[rows:], classes=range(10)
    )


def _data(training: Training) -> tuple[Training, Any]:
    for entry in datasets.catalog():
        if entry.name == training.data and entry.locate():
            return training, entry.load()
    return dataclasses.replace(training, accuracy=0.5), _stand_in(training.data)


class _TorchFit:
    """PyTorch with everything on the device, step by step or as a graph that is replayed."""

    def __init__(self, place: Place, training: Training, data: Any, in_graph: bool) -> None:
        self.place, self.training, self.in_graph = place, training, in_graph
        self.x, self.test = place.put(data.x_train), place.put(data.x_test)
        self.y = place.put(data.y_train.astype(np.int64))
        self.test_y, self.classes = data.y_test, len(data.classes)

    def fit(self) -> torch.nn.Module:
        torch.manual_seed(0)
        widths = [self.x.shape[1], *self.training.hidden, self.classes]
        layers: list[torch.nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [torch.nn.Linear(inputs, outputs, device=self.place.name), torch.nn.ReLU()]
        net = torch.nn.Sequential(*layers[:-1])
        optimizer = torch.optim.Adam(
            net.parameters(), lr=fit.LEARNING_RATE, fused=True, capturable=self.in_graph
        )

        def step(x: torch.Tensor, y: torch.Tensor) -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            optimizer.step()

        run = self._captured(step, optimizer) if self.in_graph else step
        size = self.training.batch
        for _ in range(self.training.epochs):
            order = torch.randperm(len(self.x), device=self.place.name)
            # A graph has one shape: the rows that are left over wait for another epoch.
            for rows in order.split(size)[: len(order) // size if self.in_graph else None]:
                run(self.x[rows], self.y[rows])
        self.place.wait()
        return net

    def _captured(self, step: Callable[..., None], optimizer: Any) -> Callable[..., None]:
        x, y = self.x[: self.training.batch].clone(), self.y[: self.training.batch].clone()
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                step(x, y)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad()
        with torch.cuda.graph(graph):
            step(x, y)

        def replayed(new_x: torch.Tensor, new_y: torch.Tensor) -> None:
            x.copy_(new_x)
            y.copy_(new_y)
            graph.replay()

        return replayed

    def answer(self) -> float:
        net = self.fit()
        with torch.inference_mode():
            said = net(self.test).argmax(dim=1).cpu().numpy()
        return float((said == self.test_y).mean())

    def candidate(self) -> Candidate:
        return Candidate(self.fit, self.answer, finish=self.place.wait)


def _work(place: Place, training: Training) -> Work:
    training, data = _data(training)

    def check(accuracy: float) -> str:
        return "" if accuracy >= training.accuracy else f"test accuracy {accuracy:.3f}"

    ways = {"torch-fused": False, "torch-graph": True} if place.real else {"torch-fused": False}
    return Work(
        fit._ours(training, data),
        {
            name: lambda graph=graph: _TorchFit(place, training, data, graph).candidate()
            for name, graph in ways.items()
        },
        check,
        quality=float,
    )


def cases(place: Place) -> Iterator[Case]:
    """Return the trainings of the suite "fit"; of a rehearsal only a short one."""
    for training in fit.TRAININGS if place.real else fit.TRAININGS[:1]:
        if not place.real:
            training = dataclasses.replace(training, epochs=1, accuracy=0.1)
        rows, columns = SHAPES[training.data]
        network = Network((columns, *training.hidden, 10), training.batch)
        yield Case(
            "fit",
            f"{training.data} {network.name}, epochs {training.epochs}",
            network.step_flops / network.batch * training.epochs * rows,
            network.step_bytes * training.epochs * -(-rows // network.batch),
            functools.partial(_work, place, training),
            {
                "data": training.data,
                "hidden": list(training.hidden),
                "batch": training.batch,
                "epochs": training.epochs,
            },
            isa="device",
            goals=(goals.ratio(LEAD),),
        )
