# SPDX-License-Identifier: Apache-2.0
"""Activations in memory and in cache, and normalisation forward and backward.

Arithmetic is not counted: the floor is the memory's, and is not stated for what stays in cache.
"fusednn-copy" and "fusednn-triad" are loops that only move as many arrays of the same size.
PyTorch's activations write into arrays that are there already, as ours do; so nobody pays for fresh
memory. Our normalisations do so as well, with `out`, as in our networks; PyTorch's do what
``functional`` and autograd do in a program. "fusednn-fresh" is ours with new arrays, as those are.
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

SIZES = {"cache": 1 << 14, "memory": 1 << 24}
NORMALISED = [(256, 512), (1024, 1024), (8192, 1024)]
SAMPLED = 1 << 14  # elements that the gate looks at, spread over the array
TOLERANCE = 2e-6
NORM_TOLERANCE = 1e-4  # sums over many rows in float32
ALMOST = 0.9  # as fast as a loop that does nothing else
NORM_LEAD = 3.0  # of batch normalisation

# PyTorch's operations that write into arrays, where it has them: of aten, x and out; and of aten,
# dy, x, y and out.
FORWARD: dict[str, Callable[..., Any]] = {
    "relu": lambda aten, x, out: aten.relu.out(x, out=out),
    "leaky_relu": lambda aten, x, out: aten.leaky_relu.out(x, 0.01, out=out),
    "elu": lambda aten, x, out: aten.elu.out(x, out=out),
    "gelu": lambda aten, x, out: aten.gelu.out(x, out=out),
    "gelu_tanh": lambda aten, x, out: aten.gelu.out(x, approximate="tanh", out=out),
    "silu": lambda aten, x, out: aten.silu.out(x, out=out),
    "sigmoid": lambda aten, x, out: aten.sigmoid.out(x, out=out),
    "hard_sigmoid": lambda aten, x, out: aten.hardsigmoid.out(x, out=out),
    "tanh": lambda aten, x, out: aten.tanh.out(x, out=out),
    "softplus": lambda aten, x, out: aten.softplus.out(x, out=out),
    "mish": lambda aten, x, out: aten.mish.out(x, out=out),
    "relu6": lambda aten, x, out: aten.hardtanh.out(x, 0, 6, out=out),
    "hard_swish": lambda aten, x, out: aten.hardswish.out(x, out=out),
    "exponential": lambda aten, x, out: aten.exp.out(x, out=out),
    "log_sigmoid": lambda aten, x, out: aten.log_sigmoid.out(x, out=out),
}
BACKWARD: dict[str, Callable[..., Any]] = {
    "relu": lambda aten, dy, x, y, out: aten.threshold_backward.grad_input(
        dy, x, 0, grad_input=out
    ),
    "leaky_relu": lambda aten, dy, x, y, out: aten.leaky_relu_backward.grad_input(
        dy, x, 0.01, False, grad_input=out
    ),
    "elu": lambda aten, dy, x, y, out: aten.elu_backward.grad_input(
        dy, 1, 1, 1, False, x, grad_input=out
    ),
    "gelu": lambda aten, dy, x, y, out: aten.gelu_backward.grad_input(dy, x, grad_input=out),
    "gelu_tanh": lambda aten, dy, x, y, out: aten.gelu_backward.grad_input(
        dy, x, approximate="tanh", grad_input=out
    ),
    "silu": lambda aten, dy, x, y, out: aten.silu_backward.grad_input(dy, x, grad_input=out),
    "sigmoid": lambda aten, dy, x, y, out: aten.sigmoid_backward.grad_input(dy, y, grad_input=out),
    "hard_sigmoid": lambda aten, dy, x, y, out: aten.hardsigmoid_backward.grad_input(
        dy, x, grad_input=out
    ),
    "tanh": lambda aten, dy, x, y, out: aten.tanh_backward.grad_input(dy, y, grad_input=out),
    "softplus": lambda aten, dy, x, y, out: aten.softplus_backward.grad_input(
        dy, x, 1, 20, grad_input=out
    ),
    "relu6": lambda aten, dy, x, y, out: aten.hardtanh_backward.grad_input(
        dy, x, 0, 6, grad_input=out
    ),
}
# Names in jax.nn that differ from ours, and in jax.numpy.
JAX = {"softsign": "soft_sign"}
JAX_NUMPY = {"tanh": "tanh", "exponential": "exp"}
NUMPY: dict[str, Callable[..., Any]] = {
    "relu": functools.partial(np.maximum, 0),
    "tanh": np.tanh,
    "exponential": np.exp,
}


def _random(*shape: int, seed: int) -> np.ndarray:
    return aligned(3 * np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


def _sample(array: np.ndarray) -> np.ndarray:
    # An odd stride visits every lane of every vector length.
    return array[:: max(1, array.size // SAMPLED) | 1]


def _torch(operation: Callable[..., Any], *arrays: np.ndarray) -> Candidate:
    import torch

    given = [torch.from_numpy(array) for array in arrays]
    out = torch.empty_like(given[0])
    run = functools.partial(operation, torch.ops.aten, *given, out)
    return Candidate(run, lambda: _sample(run().numpy()))


def _forward(name: str, n: int) -> Work:
    x, y = _random(n, seed=0), aligned(np.zeros(n, np.float32))

    def ours() -> np.ndarray:
        result: np.ndarray = ops.activation_forward(x, name, out=y)
        return result

    def jax() -> Candidate:
        import jax

        if name in JAX_NUMPY:
            function = getattr(jax.numpy, JAX_NUMPY[name])
        elif name.startswith("gelu"):
            function = functools.partial(jax.nn.gelu, approximate=name == "gelu_tanh")
        else:
            function = getattr(jax.nn, JAX.get(name, name))
        made = jax_call(function, x)
        return Candidate(made.call, lambda: _sample(made.answer()))

    rivals: dict[str, Callable[[], Candidate]] = {
        "jax": jax,
        "fusednn-copy": functools.partial(loops.candidate, "copy", n),
    }
    if name in FORWARD:
        rivals["torch"] = lambda: _torch(FORWARD[name], x)
    if name in NUMPY:
        run = functools.partial(NUMPY[name], x, out=y)
        rivals["numpy"] = lambda: Candidate(run, lambda: _sample(run()).copy())
    check = close_to(reference.ACTIVATIONS[name][0](_sample(x).astype(np.float64)), TOLERANCE)
    return Work(Candidate(ours, lambda: _sample(ours()).copy()), rivals, check)


def _backward(name: str, n: int) -> Work:
    x, dy, dx = _random(n, seed=0), _random(n, seed=1), aligned(np.zeros(n, np.float32))

    y = aligned(ops.activation_forward(x, name))

    def ours() -> np.ndarray:
        result: np.ndarray = ops.activation_backward(dy, x, name, y=y, out=dx)
        return result

    def torch() -> Candidate:
        return _torch(BACKWARD[name], dy, x, y)

    rivals: dict[str, Callable[[], Candidate]] = {
        "fusednn-triad": functools.partial(loops.candidate, "triad", n)
    }
    if name in BACKWARD:
        rivals["torch"] = torch
    derivative = reference.ACTIVATIONS[name][1](_sample(x).astype(np.float64))
    check = close_to(_sample(dy) * derivative, TOLERANCE)
    return Work(Candidate(ours, lambda: _sample(ours()).copy()), rivals, check)


def _normalisation(kind: str, shape: tuple[int, int]) -> Work:
    x, dy = _random(*shape, seed=0), _random(*shape, seed=1)
    gamma, beta = np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)
    mean, variance = np.zeros_like(beta), np.ones_like(beta)

    def both(y: Any, dx: Any) -> tuple[Any, ...]:
        if kind == "batch":
            y, context = ops.batch_norm_forward(x, gamma, beta, mean, variance, out=y)
            return y, *ops.batch_norm_backward(dy, context, out=dx)
        y, layer_context = ops.layer_norm_forward(x, gamma, beta, out=y)
        return y, *ops.layer_norm_backward(dy, layer_context, out=dx)

    ours = functools.partial(both, np.empty_like(x), np.empty_like(x))
    fresh = functools.partial(both, None, None)

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
    rivals = {"torch": torch, "fusednn-fresh": lambda: Candidate(fresh, fresh)}
    return Work(Candidate(ours, ours), rivals, close_to(expected, NORM_TOLERANCE))


def _elementwise(place: str, n: int) -> Iterator[Case]:
    for way, arrays, loop, make in (
        ("forward", 2, "copy", _forward),
        ("backward", 3, "triad", _backward),
    ):
        for name in reference.ACTIVATIONS:
            if name == "linear":  # a copy
                continue
            yield Case(
                "activation",
                f"{name.replace('_', ' ')} {way}, {place}",
                0,
                4.0 * arrays * n,
                functools.partial(make, name, n),
                {"activation": name, "pass": way, "elements": n},
                goals=(goals.ratio(ALMOST, f"fusednn-{loop}"),) if place == "memory" else (),
            )


def cases() -> Iterator[Case]:
    """Return activations and their derivatives in cache and in memory, then the normalisations."""
    for place, n in SIZES.items():
        yield from _elementwise(place, n)
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
                goals=(goals.ratio(NORM_LEAD, "torch"),) if kind == "batch" else (),
            )
