# SPDX-License-Identifier: Apache-2.0
"""Activations in memory and in cache, and normalisation forward and backward.

Arithmetic is not counted: the floor is the memory's, and is not stated for what stays in cache.
PyTorch writes into arrays that are there already, as we do; so nobody pays for fresh memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fusednn import ops
from fusednn.bench import reference
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.rivals import jax_call

SIZES = {"cache": 1 << 14, "memory": 1 << 24}
BACKWARD = ("relu", "gelu", "silu")
NORMALISED = [(1024, 1024), (8192, 1024)]
SAMPLED = 1 << 14  # elements that the gate looks at, spread over the array
TOLERANCE = 2e-6
NORM_TOLERANCE = 1e-4  # sums over many rows in float32


def _random(*shape: int, seed: int) -> np.ndarray:
    return 3 * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _sample(array: np.ndarray) -> np.ndarray:
    # An odd stride visits every lane of every vector length.
    return array[:: max(1, array.size // SAMPLED) | 1]


def _forward(name: str, n: int) -> Work:
    x, y = _random(n, seed=0), np.empty(n, np.float32)

    def ours() -> np.ndarray:
        result: np.ndarray = ops.activation_forward(x, name, out=y)
        return result

    def numpy() -> Candidate:
        functions: dict[str, Any] = {
            "relu": lambda: np.maximum(x, 0, out=y),
            "tanh": lambda: np.tanh(x, out=y),
        }
        run = functions[name]
        return Candidate(run, lambda: _sample(run()).copy())

    def torch() -> Candidate:
        import torch

        operation = getattr(torch.ops.aten, name)
        given, out = torch.from_numpy(x), torch.empty(n)

        def run() -> Any:
            return operation.out(given, out=out)

        return Candidate(run, lambda: _sample(run().numpy()))

    def jax() -> Candidate:
        import jax

        function = jax.numpy.tanh if name == "tanh" else getattr(jax.nn, name)
        exact = {"approximate": False} if name == "gelu" else {}
        made = jax_call(lambda given: function(given, **exact), x)
        return Candidate(made.call, lambda: _sample(made.answer()))

    rivals = {"torch": torch, "jax": jax}
    if name in ("relu", "tanh"):
        rivals["numpy"] = numpy
    check = close_to(reference.ACTIVATIONS[name][0](_sample(x).astype(np.float64)), TOLERANCE)
    return Work(Candidate(ours, lambda: _sample(ours()).copy()), rivals, check)


def _backward(name: str, n: int) -> Work:
    x, dy, dx = _random(n, seed=0), _random(n, seed=1), np.empty(n, np.float32)

    def ours() -> np.ndarray:
        result: np.ndarray = ops.activation_backward(dy, x, name, out=dx)
        return result

    def torch() -> Candidate:
        import torch

        aten = torch.ops.aten
        tx, tdy, out = torch.from_numpy(x), torch.from_numpy(dy), torch.empty(n)
        functions: dict[str, Any] = {
            "relu": lambda: aten.threshold_backward.grad_input(tdy, tx, 0, grad_input=out),
            "gelu": lambda: aten.gelu_backward.grad_input(tdy, tx, grad_input=out),
            "silu": lambda: aten.silu_backward.grad_input(tdy, tx, grad_input=out),
        }
        run = functions[name]
        return Candidate(run, lambda: _sample(run().numpy()))

    derivative = reference.ACTIVATIONS[name][1](_sample(x).astype(np.float64))
    check = close_to(_sample(dy) * derivative, TOLERANCE)
    return Work(Candidate(ours, lambda: _sample(ours()).copy()), {"torch": torch}, check)


def _normalisation(kind: str, shape: tuple[int, int]) -> Work:
    x, dy = _random(*shape, seed=0), _random(*shape, seed=1)
    gamma, beta = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
    mean, variance = np.zeros_like(beta), np.ones_like(beta)

    def ours() -> tuple[Any, ...]:
        if kind == "batch":
            y, context = ops.batch_norm_forward(x, gamma, beta, mean, variance)
            return y, *ops.batch_norm_backward(dy, context)
        y, layer_context = ops.layer_norm_forward(x, gamma, beta)
        return y, *ops.layer_norm_backward(dy, layer_context)

    def torch() -> Candidate:
        import torch

        given, upstream = torch.from_numpy(x).requires_grad_(), torch.from_numpy(dy)
        wanted = [given, *(torch.from_numpy(a.copy()).requires_grad_() for a in (gamma, beta))]
        running = [torch.from_numpy(a.copy()) for a in (mean, variance)]
        functional = torch.nn.functional

        def run() -> list[Any]:
            if kind == "batch":
                y = functional.batch_norm(wanted[0], *running, *wanted[1:], training=True)
            else:
                y = functional.layer_norm(wanted[0], (shape[1],), *wanted[1:])
            return [y, *torch.autograd.grad(y, wanted, upstream)]

        return Candidate(run, lambda: [a.detach().numpy() for a in run()])

    expected = reference.normalised(x, dy, axis=0 if kind == "batch" else 1)
    return Work(Candidate(ours, ours), {"torch": torch}, close_to(expected, NORM_TOLERANCE))


def cases() -> Iterator[Case]:
    """Return activations and their derivatives in cache and in memory, then the normalisations."""
    for place, n in SIZES.items():
        for name in reference.ACTIVATIONS:
            yield Case(
                "activation",
                f"{name} forward, {place}",
                0,
                8.0 * n,
                functools.partial(_forward, name, n),
                {"activation": name, "pass": "forward", "elements": n},
            )
        for name in BACKWARD:
            yield Case(
                "activation",
                f"{name} backward, {place}",
                0,
                12.0 * n,
                functools.partial(_backward, name, n),
                {"activation": name, "pass": "backward", "elements": n},
            )
    for shape in NORMALISED:
        for kind in ("batch", "layer"):
            # Read x, write y; read x and dy, write dx.
            yield Case(
                "activation",
                f"{kind} norm {shape[0]}x{shape[1]}",
                0,
                20.0 * shape[0] * shape[1],
                functools.partial(_normalisation, kind, shape),
                {"normalisation": kind, "rows": shape[0], "columns": shape[1]},
            )
