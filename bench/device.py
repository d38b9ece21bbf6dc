# SPDX-License-Identifier: Apache-2.0
"""Measure the CUDA backend beside PyTorch on the same device; ``bench/device.sh`` runs it.

The harness is that of ``python -m fusednn bench``: answers are checked first, candidates take
turns, and every turn ends with a wait for the device. The document has the same form, with the
device in the place of the processor: ``isa`` is its compute capability, there is one thread, and
the ceilings are those of its memory and its matrix units, measured first, through PyTorch. Cases
are written to the file as they are measured, the most wanted first, until the time is over.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusednn.device
from fusednn import machine
from fusednn.bench import ceilings, goals, harness, reference, report, rivals, schema, session
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network
from fusednn.bench.suites import optimizer as optimizers
from fusednn.bench.suites import step as steps
from fusednn.bench.suites.torch import DECAYING

# The six networks of the suite "step"; the lead that ours is meant to have over PyTorch's best.
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
# Name -> tensors, elements of each.
SIZES = {"100M in 200 tensors": (200, 500_000), "2000 x 1000": (2000, 1000)}
RULES = ("adamw", "adam", "sgd", "momentum", "rmsprop", "adadelta", "adamax", "nadam")
EFFORT = harness.Effort(rounds=9, seconds=1.5, fewest=5, turn=0.01, warm=0.01, patience=0.0)
COMPILE_SECONDS = 40.0
GIGA = 1e9


@dataclass(frozen=True)
class Place:
    """Where PyTorch works: the device, or for a rehearsal the processor."""

    name: str

    @property
    def real(self) -> bool:
        return self.name == "cuda"

    def wait(self) -> None:
        if self.real:
            torch.cuda.synchronize()

    def put(self, array: np.ndarray) -> torch.Tensor:
        """Return a copy; steps change it, and the arrays serve again."""
        return torch.tensor(array, device=self.name)


# ---- the device ----------------------------------------------------------------------------------


def _best(place: Place, work: Callable[[], object], tries: int = 5, calls: int = 4) -> float:
    """Return the seconds of one call, in the best of some tries."""
    times = []
    for _ in range(tries + 1):
        place.wait()
        start = time.perf_counter()
        for _ in range(calls):
            work()
        place.wait()
        times.append((time.perf_counter() - start) / calls)
    return min(times[1:])


def _memory(place: Place, elements: int) -> dict[str, float]:
    """Return GB/s of reading, copying, and reading two arrays while a third is written."""
    a, b, c = (torch.rand(elements, device=place.name) for _ in range(3))
    size = 4 * elements
    return {
        "read": size / _best(place, lambda: torch.sum(a)) / GIGA,
        "copy": 2 * size / _best(place, lambda: b.copy_(a)) / GIGA,
        "triad": 3 * size / _best(place, lambda: torch.add(a, b, out=c)) / GIGA,
    }


def _products(place: Place, n: int) -> dict[str, float]:
    """Return GFLOP/s of large products on random numbers, in each precision."""
    found = {}
    allowed = torch.backends.cuda.matmul.allow_tf32
    kinds = {
        "float32": (torch.float32, False),
        "tf32": (torch.float32, True),
        "bfloat16": (torch.bfloat16, False),
        "float16": (torch.float16, False),
        "float64": (torch.float64, False),
    }
    for name, (dtype, tf32) in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device=place.name).to(dtype) for _ in range(2))
        seconds = _best(place, functools.partial(torch.matmul, a, b), tries=3, calls=2)
        found[name] = 2.0 * n**3 / seconds / GIGA
    torch.backends.cuda.matmul.allow_tf32 = allowed
    return found


def _about(place: Place) -> dict[str, Any]:
    device = fusednn.device.cuda_device()
    assert device is not None
    major, minor = device["capability"]
    cache = torch.cuda.get_device_properties(0).L2_cache_size if place.real else 0
    versions = machine.versions(session.PACKAGES)
    driver, runtime = (".".join(map(str, device[name])) for name in ("driver", "runtime"))
    library = fusednn.device.cublaslt()[0] or "no cuBLASLt"
    return {
        "cpu": f"{device['name']}{' (emulated)' if device['emulated'] else ''}",
        "isa": f"sm_{10 * major + minor}",
        "threads": 1,
        "processors": os.cpu_count() or 1,
        "cache_bytes": cache,
        "os": platform.platform(),
        "compiler": f"CUDA {runtime}, driver for {driver}, {Path(library).name}",
        "python": platform.python_version(),
        "versions": {"fusednn": fusednn.__version__, **versions},
        "rivals": {
            "torch": {"version": torch.__version__, "kernels": f"CUDA {torch.version.cuda}"}
        },
        "load_start": os.getloadavg()[0],
        "load_end": None,
    }


def begin(place: Place) -> session.Document:
    """Return a document without cases: the device and its ceilings."""
    about = _about(place)
    rates = _products(place, 8192 if place.real else 256)
    streams = _memory(place, 1 << (28 if place.real else 20))
    return {
        "schema": schema.VERSION,
        "date": session._now(),
        "quick": not place.real,
        "most_spread": harness.MOST_SPREAD,
        "most_taken": harness.MOST_TAKEN,
        "machine": about,
        "ceilings": {
            "fma": {about["isa"]: {name: {"1": rate} for name, rate in rates.items()}},
            "memory": {name: {"1": rate} for name, rate in streams.items()},
            "taken_by_others": None,
        },
        "cases": [],
    }


# ---- whole steps ---------------------------------------------------------------------------------


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


def _step_cases(place: Place, dtypes: tuple[str, ...]) -> Iterator[Case]:
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


# ---- optimizers ----------------------------------------------------------------------------------


_tensors = functools.lru_cache(maxsize=1)(optimizers.tensors)  # seconds, for the largest


def _held(place: Place, count: int, n: int, dtype: torch.dtype) -> list[torch.Tensor]:
    parameters, gradients = _tensors(count, n)
    held = [torch.nn.Parameter(place.put(p).to(dtype)) for p in parameters]
    for parameter, gradient in zip(held, gradients, strict=True):
        parameter.grad = place.put(gradient).to(dtype)
    return held


def _sampled(held: list[torch.Tensor]) -> np.ndarray:
    return optimizers._sample([held[-1].detach().float().cpu().numpy()])


def _optimizer_work(place: Place, rule: str, size: tuple[int, int], dtype: str) -> Work:
    import fusednn.torch.optim as ours

    class_name, hyper, ways = optimizers.TORCH[rule]
    if rule in ("sgd", "momentum"):
        hyper = {**hyper, "lr": 1e-3}
    kind = getattr(torch, dtype)
    formula, decay = DECAYING.get(rule, (rule, 0.0))

    def made(module: Any, **chosen: Any) -> Candidate:
        held = _held(place, *size, kind)
        optimizer = getattr(module, class_name)(held, **hyper, **chosen)

        def answer() -> np.ndarray:
            for _ in range(optimizers.CHECKED_STEPS):
                optimizer.step()
            if module is ours and (optimizer._plan is None or optimizer._plan.others):
                raise RuntimeError("PyTorch's code updated the parameters, not a kernel of ours")
            return _sampled(held)

        return Candidate(optimizer.step, answer, finish=place.wait)

    @functools.cache
    def check_of() -> Callable[[np.ndarray], str]:
        if dtype == "float32":
            return optimizers.moved(formula, *size, decay)
        # Rounded so coarsely, a step is hardly seen: it is PyTorch's result that counts.
        right = made(torch.optim, foreach=True).answer()
        return harness.close_to(right, 2.0**-7)

    chosen = {"foreach": {"foreach": True}, "fused": {"fused": True}}
    return Work(
        made(ours),
        {
            f"torch-{way}": functools.partial(made, torch.optim, **chosen[way])
            for way in ways
            if way in chosen
        },
        lambda answer: check_of()(answer),
    )


def _optimizer_cases(place: Place, rules: tuple[str, ...]) -> Iterator[Case]:
    for rule, (title, (count, n)), dtype in itertools.product(
        rules, SIZES.items(), ("float32", "bfloat16")
    ):
        several = count > 1000
        if several and dtype != "float32":
            continue
        size = (count, n) if place.real else (5, 1000)
        formula, _ = DECAYING.get(rule, (rule, 0.0))
        width = 1.0 if dtype == "float32" else 0.5
        moved = float(reference.OPTIMIZERS[formula].bytes) * width * size[0] * size[1]
        known = rule in ("adamw", "adam", "sgd", "momentum")
        lead = goals.ratio(3.0 if several or not known else (1.0 if width == 1 else 1.5))
        yield Case(
            "optimizer",
            f"{rule}, {title}" + ("" if dtype == "float32" else f", {dtype}"),
            0,
            moved,
            functools.partial(_optimizer_work, place, rule, size, dtype),
            {"rule": rule, "tensors": size[0], "elements": size[1]},
            dtype=dtype,
            isa="device",
            goals=(lead,) if several else (lead, goals.stream(0.9, "copy")),
        )


# ---- the run -------------------------------------------------------------------------------------


def _cases(place: Place) -> Iterator[Case]:
    """Return all cases, the most wanted first."""
    yield from _step_cases(place, ("float32",))
    yield from _optimizer_cases(place, RULES[:1])
    yield from _step_cases(place, ("bfloat16",))
    yield from _optimizer_cases(place, RULES[1:])


def _measured(place: Place, document: session.Document, case: Case) -> dict[str, Any]:
    isa = document["machine"]["isa"]
    cost = ceilings.Cost(case.flops, case.bytes, case.dtype, 1, isa)
    effort = EFFORT if place.real else harness.QUICK
    record = harness.measure(case, lambda _: True, ceilings.floor(cost, document), effort)
    record.update(threads=1, isa=isa, date=session._now())
    record["goals"] = goals.judged(case.goals, record, document["ceilings"])
    return record


def main() -> int:
    """Measure until the time is over; 0 when every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=240.0, help="begin no case after these")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name contains this")
    arguments = parser.parse_args()
    start = time.monotonic()
    device = fusednn.device.check_device("cuda")
    about = fusednn.device.cuda_device()
    place = Place("cpu" if about and about["emulated"] else "cuda")
    fusednn.device.automatic = lambda: device
    document = begin(place)
    memory = ", ".join(f"{k} {v['1']:.0f}" for k, v in document["ceilings"]["memory"].items())
    rates = document["ceilings"]["fma"][document["machine"]["isa"]]
    print(f"{document['machine']['cpu']}, {document['machine']['compiler']}")
    products = ", ".join(f"{name} {rate['1'] / 1e3:.1f}" for name, rate in rates.items())
    print(f"GB/s: {memory}; TFLOP/s: {products}")
    left_out, failed = [], False
    for case in _cases(place):
        if arguments.only not in f"{case.suite}: {case.name}":
            continue
        if time.monotonic() - start > arguments.seconds:
            left_out.append(f"{case.suite}: {case.name}")
            continue
        try:
            record = _measured(place, document, case)
        except Exception as error:  # the others are still worth measuring
            print(f"{case.suite}: {case.name}: FAILED: {type(error).__name__}: {error}", flush=True)
            failed = True
            continue
        document["cases"].append(record)
        failed = failed or not record["checked"]
        print(report.verdict(record), flush=True)
        session.save(document, arguments.json)
        if place.real:
            torch.cuda.empty_cache()
    document["machine"]["load_end"] = os.getloadavg()[0]
    session.save(document, arguments.json)
    for name in left_out:
        print(f"not measured, for lack of time: {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
