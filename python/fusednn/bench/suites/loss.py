# SPDX-License-Identifier: Apache-2.0
"""Losses with their gradient, in one pass over the predictions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.bench import reference
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.rivals import jax_call

TOLERANCE = 1e-5
ROWWISE = [(256, 10), (1024, 10), (128, 1000), (4096, 1000), (1024, 32000)]
POINTWISE = [(256, 64), (4096, 4096)]

# Our name -> reference, PyTorch's name, and whether the targets are probabilities.
Reference = Callable[[np.ndarray, np.ndarray], tuple[float, np.ndarray]]
LOSSES: dict[str, tuple[Reference, str, bool]] = {
    "mse": (reference.mse, "mse_loss", False),
    "huber": (reference.huber, "huber_loss", False),
    "binary_cross_entropy_logits": (
        reference.binary_cross_entropy,
        "binary_cross_entropy_with_logits",
        True,
    ),
}


def _torch(function: str, x: np.ndarray, target: np.ndarray) -> Candidate:
    import torch

    criterion = getattr(torch.nn.functional, function)
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


def _work(name: str, shape: tuple[int, int], target: np.ndarray, right: Reference) -> Work:
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    out = np.empty_like(x)

    def ours() -> tuple[Any, Any]:
        return ops.loss(name, x, target, out=out)

    rivals: dict[str, Callable[[], Candidate]] = {}
    if name == "softmax_cross_entropy":
        rivals["torch"] = lambda: _torch("cross_entropy", x, target)
        rivals["jax"] = lambda: _jax_cross_entropy(x, target)
    else:
        rivals["torch"] = lambda: _torch(LOSSES[name][1], x, target)
    own = Candidate(ours, lambda: [np.array(part) for part in ours()])
    return Work(own, rivals, close_to(lambda: right(x, target), TOLERANCE))


def _rowwise(shape: tuple[int, int]) -> Work:
    labels = np.random.default_rng(1).integers(0, shape[1], shape[0])
    return _work("softmax_cross_entropy", shape, labels, reference.cross_entropy)


def _pointwise(name: str, shape: tuple[int, int]) -> Work:
    generator = np.random.default_rng(1)
    right, _, probabilities = LOSSES[name]
    draw = generator.random if probabilities else generator.standard_normal
    return _work(name, shape, draw(shape, dtype=np.float32), right)


def cases() -> Iterator[Case]:
    """Return softmax cross-entropy with labels, and losses of single values."""
    for shape in ROWWISE:
        # Read the scores, write the gradient.
        yield Case(
            "loss",
            f"softmax cross-entropy {shape[0]}x{shape[1]}",
            0,
            8.0 * shape[0] * shape[1],
            functools.partial(_rowwise, shape),
            {"loss": "softmax_cross_entropy", "rows": shape[0], "outputs": shape[1]},
        )
    for name in LOSSES:
        for shape in POINTWISE:
            # Read predictions and targets, write the gradient.
            yield Case(
                "loss",
                f"{name.replace('_', ' ')} {shape[0]}x{shape[1]}",
                0,
                12.0 * shape[0] * shape[1],
                functools.partial(_pointwise, name, shape),
                {"loss": name, "rows": shape[0], "outputs": shape[1]},
            )
