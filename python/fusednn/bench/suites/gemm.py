# SPDX-License-Identifier: Apache-2.0
"""Matrix products: the three of a dense layer by themselves, and whole layers.

"forward", "dx" and "dw" are timed inside native code, many runs in one call; a rival's call from
Python is part of its time. "layer" goes through ``fusednn.ops.dense_forward``, call against call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import _core, ops
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.rivals import jax_call

# Rows, inputs, units of a dense layer.
Shape = tuple[int, int, int]
SHAPES: list[Shape] = [
    (32, 64, 64),
    (64, 64, 64),
    (32, 128, 128),
    (128, 128, 128),
    (256, 512, 512),
    (512, 784, 512),
    (1024, 1024, 1024),
    (4096, 1024, 1024),
    (2048, 2048, 2048),
]
SKINNY: list[Shape] = [
    (rows, inputs, units)
    for rows in (1, 4, 16, 32, 64)
    for inputs, units in ((32, 32), (128, 128), (512, 512), (1024, 1024), (128, 1024), (1024, 128))
]
ODD: list[Shape] = [(67, 131, 97), (509, 787, 521), (1021, 1019, 1031)]  # multiples of nothing
LAYERS: list[Shape] = [(1, 128, 128), (32, 128, 128), (128, 128, 128), (512, 512, 512)]
TOLERANCE = 1e-5
SECONDS_IN_NATIVE = 2e-4  # long beside the call that brings us there


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _flops(shape: Shape) -> float:
    rows, inputs, units = shape
    return 2.0 * rows * inputs * units


def _bytes(shape: Shape) -> float:
    rows, inputs, units = shape
    return 4.0 * (rows * inputs + inputs * units + rows * units)


# Product -> place of its result among (x, w, y), and the two factors as views of the arrays.
PRODUCTS: dict[str, tuple[int, Callable[[Any, Any, Any], tuple[Any, Any]]]] = {
    "forward": (2, lambda x, w, y: (x, w)),
    "dx": (0, lambda x, w, y: (y, w.T)),
    "dw": (1, lambda x, w, y: (x.T, y)),
}


def _product(kind: str, shape: Shape) -> Work:
    rows, inputs, units = shape
    arrays = [_random(rows, inputs), _random(inputs, units, seed=1), _random(rows, units, seed=2)]
    place, factors_of = PRODUCTS[kind]
    left, right = factors_of(*arrays)
    expected = left.astype(np.float64) @ right.astype(np.float64)

    def ours() -> Candidate:
        x, w, y = own = [array.copy() for array in arrays]
        repeats = max(1, round(SECONDS_IN_NATIVE / (_flops(shape) / 2e11)))

        def answer() -> np.ndarray:
            _core.run_product(kind, x, w, y)
            return own[place].copy()

        return Candidate(lambda: _core.run_product(kind, x, w, y, repeats), answer, repeats)

    def numpy() -> Candidate:
        out = np.empty_like(arrays[place])
        return Candidate(lambda: np.matmul(left, right, out=out), lambda: left @ right)

    def torch() -> Candidate:
        import torch

        a, b = factors_of(*map(torch.from_numpy, arrays))
        out = torch.empty(arrays[place].shape)
        return Candidate(lambda: torch.mm(a, b, out=out), lambda: (a @ b).numpy())

    def jax() -> Candidate:
        def multiply(*given: Any) -> Any:
            a, b = factors_of(*given)
            return a @ b

        return jax_call(multiply, *arrays)

    rivals = {"numpy": numpy, "torch": torch, "jax": jax}
    return Work(ours(), rivals, close_to(expected, TOLERANCE))


def _layer(activation: str, shape: Shape) -> Work:
    rows, inputs, units = shape
    x, w, b = _random(rows, inputs), _random(inputs, units, seed=1), _random(units, seed=2)
    y = np.empty((rows, units), np.float32)
    right = x.astype(np.float64) @ w + b
    expected = np.maximum(right, 0) if activation == "relu" else right

    def ours() -> np.ndarray:
        result: np.ndarray = ops.dense_forward(x, w, b, activation, out=y)
        return result

    def numpy() -> Candidate:
        def run() -> np.ndarray:
            z = np.matmul(x, w, out=y)
            z += b
            return np.maximum(z, 0, out=z) if activation == "relu" else z

        return Candidate(run, lambda: run().copy())

    def torch() -> Candidate:
        import torch

        tx, tw, tb = map(torch.from_numpy, (x, w, b))
        out = torch.empty(rows, units)

        def run() -> Any:
            z = torch.addmm(tb, tx, tw, out=out)
            return z.relu_() if activation == "relu" else z

        return Candidate(run, lambda: run().numpy())

    def jax() -> Candidate:
        import jax

        def layer(x: Any, w: Any, b: Any) -> Any:
            z = x @ w + b
            return jax.nn.relu(z) if activation == "relu" else z

        return jax_call(layer, x, w, b)

    check = close_to(expected, TOLERANCE)
    own = Candidate(ours, lambda: ours().copy())
    return Work(own, {"numpy": numpy, "torch": torch, "jax": jax}, check)


def cases() -> Iterator[Case]:
    """Return the products of every shape, and the layers."""
    wanted = [(kind, shape) for shape in SHAPES + ODD for kind in PRODUCTS]
    wanted += [("forward", shape) for shape in SKINNY if shape not in SHAPES]
    for kind, shape in wanted:
        yield _case(kind, shape, functools.partial(_product, kind, shape))
    for shape in LAYERS:
        for activation in ("linear", "relu"):
            yield _case(
                f"layer {activation}",
                shape,
                functools.partial(_layer, activation, shape),
            )


def _case(kind: str, shape: Shape, setup: Callable[[], Work]) -> Case:
    rows, inputs, units = shape
    params = {"kind": kind, "rows": rows, "inputs": inputs, "units": units}
    name = f"{kind} {rows}x{inputs}x{units}"
    return Case("gemm", name, _flops(shape), _bytes(shape), setup, params)
