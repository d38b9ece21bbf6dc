# SPDX-License-Identifier: Apache-2.0
"""One optimizer step on arrays: 32 million parameters, and 50 tensors of 1000."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.bench import reference
from fusednn.bench.harness import Candidate, Case, Work

# Name -> number of tensors, elements of each.
SIZES = {"32M": (1, 1 << 25), "50 x 1000": (50, 1000)}
CHECKED_STEPS = 3
CHECKED_ELEMENTS = 1 << 12
# Of the way that the parameters went: a wrong constant shows in the first digits. RMSprop and its
# kin divide by small numbers, which float32 knows to five digits.
TOLERANCE = 1e-3

# Our name -> PyTorch's class, its arguments, and the implementations it has on a CPU.
TORCH: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "sgd": ("SGD", {}, ("loop", "foreach", "fused")),
    "momentum": ("SGD", {"momentum": 0.9}, ("loop", "foreach", "fused")),
    "adagrad": ("Adagrad", {}, ("loop", "foreach", "fused")),
    "rmsprop": ("RMSprop", {}, ("loop", "foreach")),
    "rmsprop_momentum": ("RMSprop", {"momentum": 0.9}, ("loop", "foreach")),
    "rmsprop_centered": ("RMSprop", {"centered": True}, ("loop", "foreach")),
    "rmsprop_centered_momentum": (
        "RMSprop",
        {"centered": True, "momentum": 0.9},
        ("loop", "foreach"),
    ),
    "adadelta": ("Adadelta", {}, ("loop", "foreach")),
    "adam": ("Adam", {}, ("loop", "foreach", "fused")),
    "amsgrad": ("Adam", {"amsgrad": True}, ("loop", "foreach", "fused")),
    "adamax": ("Adamax", {}, ("loop", "foreach")),
    "nadam": ("NAdam", {}, ("loop", "foreach")),
    "radam": ("RAdam", {}, ("loop", "foreach")),
}


def _tensors(count: int, n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(0)
    draw = generator.standard_normal
    return (
        [draw(n, dtype=np.float32) for _ in range(count)],
        [draw(n, dtype=np.float32) for _ in range(count)],
    )


def _sample(tensors: list[np.ndarray]) -> np.ndarray:
    stride = max(1, len(tensors[-1]) // CHECKED_ELEMENTS) | 1
    return tensors[-1][::stride].astype(np.float64)


def _torch(name: str, way: str, count: int, n: int) -> Candidate:
    import torch

    class_name, hyper, _ = TORCH[name]
    parameters, gradients = _tensors(count, n)
    held = [torch.nn.Parameter(torch.from_numpy(p)) for p in parameters]
    for parameter, gradient in zip(held, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient)
    chosen = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    if name in ("sgd", "momentum"):
        hyper = {**hyper, "lr": 1e-3}
    optimizer = getattr(torch.optim, class_name)(held, **hyper, **chosen[way])

    def answer() -> np.ndarray:
        for _ in range(CHECKED_STEPS):
            optimizer.step()
        return _sample([p.detach().numpy() for p in held])

    return Candidate(optimizer.step, answer)


def _work(name: str, count: int, n: int) -> Work:
    parameters, gradients = _tensors(count, n)
    start = _sample(parameters)
    right = reference.optimized(name, start, _sample(gradients), CHECKED_STEPS) - start
    state = ops.init_optimizer_state(name, parameters)
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1
        ops.optimizer_step(name, parameters, gradients, state, step=taken)

    def answer() -> np.ndarray:
        for _ in range(CHECKED_STEPS):
            step()
        return _sample(parameters)

    def check(reached: np.ndarray) -> str:
        error = float(np.linalg.norm(reached - start - right) / np.linalg.norm(right))
        return "" if error <= TOLERANCE else f"moved wrong by {error:.1e}, allowed {TOLERANCE:.0e}"

    def rival(way: str) -> Callable[[], Candidate]:
        return lambda: _torch(name, way, count, n)

    ways = TORCH[name][2] if name in TORCH else ()
    return Work(Candidate(step, answer), {f"torch-{way}": rival(way) for way in ways}, check)


def cases() -> Iterator[Case]:
    """Return every rule at both sizes."""
    for size, (count, n) in SIZES.items():
        for name, optimizer in reference.OPTIMIZERS.items():
            yield Case(
                "optimizer",
                f"{name.replace('_', ' ')}, {size}",
                0,
                float(optimizer.bytes) * count * n,
                functools.partial(_work, name, count, n),
                {"rule": name, "tensors": count, "elements": n},
            )
