# SPDX-License-Identifier: Apache-2.0
"""Where PyTorch works, and what that place can do at most."""

from __future__ import annotations

import functools
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusednn.device
from fusednn import machine
from fusednn.bench import harness, schema, session

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

    @staticmethod
    def back(found: Any) -> np.ndarray:
        """Return a result as NumPy has it; in a rehearsal ours are arrays already."""
        return found.cpu().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


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
