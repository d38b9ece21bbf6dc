# SPDX-License-Identifier: Apache-2.0
"""Losses with their gradient, in one pass over the predictions.

"fusednn-copy" and "fusednn-triad" are loops that only move as many arrays of the same size.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.bench import goals, loops, reference
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.loops import aligned
from fusednn.bench.rivals import jax_call

TOLERANCE = 1e-5
CROSS_ENTROPY = [(256, 10), (1024, 10), (128, 1000), (4096, 1000), (1024, 32000)]
ROWWISE = [(256, 10), (4096, 1000)]
POINTWISE = [(256, 64), (4096, 4096)]
LARGE = 1e8  # bytes: more than stays in a cache
ALMOST = 0.9  # as fast as a loop that does nothing else

# Our name -> PyTorch's function, and arguments that make it the same loss.
TORCH: dict[str, tuple[str, dict[str, Any]]] = {
    "mse": ("mse_loss", {}),
    "mae": ("l1_loss", {}),
    "huber": ("huber_loss", {}),
    "poisson": ("poisson_nll_loss", {"log_input": False, "eps": 1e-7}),
    "poisson_log": ("poisson_nll_loss", {}),
    "binary_cross_entropy": ("binary_cross_entropy", {}),
    "binary_cross_entropy_logits": ("binary_cross_entropy_with_logits", {}),
    "softmax_cross_entropy": ("cross_entropy", {}),
}


def _torch(name: str, x: np.ndarray, target: np.ndarray) -> Candidate:
    import torch

    function, options = TORCH[name]
    criterion = functools.partial(getattr(torch.nn.functional, function), **options)
    given, wanted = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)

    def run() -> tuple[Any, Any]:
        value = criterion(given, wanted)
        (gradient,) = torch.autograd.grad(value, given)
        return value, gradient

    return Candidate(run, lambda: [part.detach().numpy() for part in run()])


def _jax_cross_entropy(x: np.ndarray, labels: np.ndarray) -> Candidate:
    import jax
    import jax.numpy as jnp

    def value(scores: Any, chosen: Any) -> Any:
        right = jnp.take_along_axis(scores, chosen[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(scores, axis=1) - right).mean()

    return jax_call(jax.value_and_grad(value), x, labels)


def _drawn(kind: str, shape: tuple[int, int], rowwise: bool, seed: int) -> np.ndarray:
    """Return random predictions or targets of a kind; see `reference.Loss`."""
    generator = np.random.default_rng(seed)
    if kind == "labels":
        return generator.integers(0, shape[1], shape[0])
    if kind == "any":
        return generator.standard_normal(shape, dtype=np.float32)
    if kind == "signs":
        return generator.choice(np.array([-1, 1], np.float32), shape)
    drawn = 0.01 + 0.98 * generator.random(shape, dtype=np.float32)
    if rowwise and kind == "probabilities":
        drawn /= drawn.sum(axis=1, keepdims=True)
    return drawn


def _loop(name: str) -> str:
    """Return the loop that moves what a loss does: predictions, targets, gradient; no labels."""
    return "copy" if reference.LOSSES[name].targets == "labels" else "triad"


def _work(name: str, shape: tuple[int, int]) -> Work:
    right = reference.LOSSES[name]
    x = aligned(_drawn(right.predictions, shape, right.rowwise, seed=0))
    target = aligned(_drawn(right.targets, shape, right.rowwise, seed=1))
    out = aligned(np.zeros_like(x))

    def ours() -> tuple[Any, Any]:
        return ops.loss(name, x, target, out=out)

    rivals: dict[str, Callable[[], Candidate]] = {}
    if name in TORCH:
        rivals["torch"] = lambda: _torch(name, x, target)
    if _moved(name, shape) > LARGE:
        rivals[f"fusednn-{_loop(name)}"] = functools.partial(loops.candidate, _loop(name), x.size)
    if name == "softmax_cross_entropy":
        rivals["jax"] = lambda: _jax_cross_entropy(x, target)
    own = Candidate(ours, lambda: [np.array(part) for part in ours()])
    return Work(own, rivals, close_to(lambda: right(x, target), TOLERANCE))


def _shapes(name: str) -> list[tuple[int, int]]:
    if name == "softmax_cross_entropy":
        return CROSS_ENTROPY
    return ROWWISE if reference.LOSSES[name].rowwise else POINTWISE


def _moved(name: str, shape: tuple[int, int]) -> float:
    return 4.0 * loops.LOOPS[_loop(name)] * shape[0] * shape[1]


def _goals(name: str, large: bool) -> tuple[goals.Goal, ...]:
    """Return what the issue of the project asks for: bandwidth, and a lead over torch."""
    wanted = [goals.ratio(2.5, "torch")] if name == "softmax_cross_entropy" else []
    if large:
        wanted.append(goals.ratio(ALMOST, f"fusednn-{_loop(name)}"))
    return tuple(wanted)


def cases() -> Iterator[Case]:
    """Return every loss, small and larger than the caches."""
    for name in reference.LOSSES:
        for shape in _shapes(name):
            moved = _moved(name, shape)
            yield Case(
                "loss",
                f"{name.replace('_', ' ')} {shape[0]}x{shape[1]}",
                0,
                moved,
                functools.partial(_work, name, shape),
                {"loss": name, "rows": shape[0], "outputs": shape[1]},
                goals=_goals(name, moved > LARGE),
            )
