# SPDX-License-Identifier: Apache-2.0
"""A step of ``fusednn.optim`` on arrays: 32 million parameters, and 50 tensors of 1000.

Ours is ``optimizer.step(gradients)``, as a program calls it that has its own arrays; torch's is
``optimizer.step()``. "torch-adam-bytes" is how fast PyTorch's fused Adam moves memory: its time in
the same round, for as many bytes as the rule at hand has to move.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import optim
from fusednn.bench import goals, reference
from fusednn.bench.harness import Candidate, Case, Work

# Name -> number of tensors, elements of each.
SIZES = {"32M": (1, 1 << 25), "50 x 1000": (50, 1000)}
CHECKED_STEPS = 3
CHECKED_ELEMENTS = 1 << 12
# Of the way that the parameters went: a wrong constant shows in the first digits. RMSprop and its
# kin divide by small numbers, which float32 knows to five digits.
TOLERANCE = 1e-3

# Rule -> the class in ``torch.optim`` and ``fusednn.optim``, its arguments, and the implementations
# that PyTorch has of it on a CPU.
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
    "adamw": ("AdamW", {}, ("loop", "foreach", "fused")),  # by default with decay
    "amsgrad": ("Adam", {"amsgrad": True}, ("loop", "foreach", "fused")),
    "adamax": ("Adamax", {}, ("loop", "foreach")),
    "nadam": ("NAdam", {}, ("loop", "foreach")),
    "radam": ("RAdam", {}, ("loop", "foreach")),
}
OURS_ALONE = {"lion": "Lion", "lamb": "LAMB"}

SMALL_MICROSECONDS = 12.0
BYTES = "torch-adam-bytes"


def notes() -> list[str]:
    """Return what is timed."""
    return ["suite optimizer: ours is step() of fusednn.optim, called from Python, on NumPy arrays"]


def tensors(count: int, n: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    generator = np.random.default_rng(0)
    draw = generator.standard_normal
    return (
        [draw(n, dtype=np.float32) for _ in range(count)],
        [draw(n, dtype=np.float32) for _ in range(count)],
    )


def _sample(tensors: list[np.ndarray]) -> np.ndarray:
    stride = max(1, len(tensors[-1]) // CHECKED_ELEMENTS) | 1
    return tensors[-1][::stride].astype(np.float64)


def torch_step(name: str, way: str, count: int, n: int) -> tuple[Any, list[Any]]:
    """Return PyTorch's optimizer in one of its implementations, and its parameters."""
    import torch

    class_name, hyper, _ = TORCH[name]
    parameters, gradients = tensors(count, n)
    held = [torch.nn.Parameter(torch.from_numpy(p)) for p in parameters]
    for parameter, gradient in zip(held, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient)
    chosen = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    if name in ("sgd", "momentum"):
        hyper = {**hyper, "lr": 1e-3}
    return getattr(torch.optim, class_name)(held, **hyper, **chosen[way]), held


def torch_candidate(optimizer: Any, held: list[Any]) -> Candidate:
    """Return the job of a torch optimizer, whichever it is, on parameters with gradients."""

    def answer() -> np.ndarray:
        for _ in range(CHECKED_STEPS):
            optimizer.step()
        return _sample([p.detach().numpy() for p in held])

    return Candidate(optimizer.step, answer)


def _bytes_of_adam(name: str, count: int, n: int) -> Candidate:
    """PyTorch's fused Adam, as many of whose bytes count as one job as the rule moves."""
    adam = torch_candidate(*torch_step("adam", "fused", count, n))
    share = reference.OPTIMIZERS["adam"].bytes / reference.OPTIMIZERS[name].bytes
    return Candidate(adam.call, adam.answer, jobs=share, check=moved("adam", count, n))


@functools.lru_cache(maxsize=2)
def moved(name: str, count: int, n: int, decay: float = 0.0) -> Callable[[np.ndarray], str]:
    """Return a check: the sample went the right way."""
    parameters, gradients = tensors(count, n)
    start = _sample(parameters)
    if reference.OPTIMIZERS[name].layerwise:  # all of it counts
        whole = reference.optimized(name, parameters[-1], gradients[-1], CHECKED_STEPS)
        right = _sample([whole]) - start
    else:
        right = reference.optimized(name, start, _sample(gradients), CHECKED_STEPS, decay) - start

    def check(reached: np.ndarray) -> str:
        error = float(np.linalg.norm(reached - start - right) / np.linalg.norm(right))
        return "" if error <= TOLERANCE else f"moved wrong by {error:.1e}, allowed {TOLERANCE:.0e}"

    return check


def _work(name: str, count: int, n: int) -> Work:
    parameters, gradients = tensors(count, n)
    class_name, hyper, ways = TORCH.get(name) or (OURS_ALONE[name], {}, ())
    optimizer = getattr(optim, class_name)(parameters, **hyper)
    step = functools.partial(optimizer.step, gradients)

    def answer() -> np.ndarray:
        for _ in range(CHECKED_STEPS):
            step()
        return _sample(parameters)

    def rival(way: str) -> Callable[[], Candidate]:
        return lambda: torch_candidate(*torch_step(name, way, count, n))

    rivals = {f"torch-{way}": rival(way) for way in ways}
    if count == 1:
        rivals[BYTES] = lambda: _bytes_of_adam(name, count, n)
    return Work(Candidate(step, answer), rivals, moved(name, count, n))


def cases() -> Iterator[Case]:
    """Return every rule at both sizes: in memory, and as a network of small layers has them."""
    for size, (count, n) in SIZES.items():
        for name, optimizer in reference.OPTIMIZERS.items():
            goal = goals.ratio(0.95, BYTES) if count == 1 else goals.time(SMALL_MICROSECONDS)
            yield Case(
                "optimizer",
                f"{name.replace('_', ' ')}, {size}",
                0,
                float(optimizer.bytes) * count * n,
                functools.partial(_work, name, count, n),
                {"rule": name, "tensors": count, "elements": n},
                goals=(goal,),
            )
