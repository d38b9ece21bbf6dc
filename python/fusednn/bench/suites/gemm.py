# SPDX-License-Identifier: Apache-2.0
"""Matrix products: the three of a dense layer by themselves, and whole layers.

"forward", "dx" and "dw" are timed inside native code, many runs in one call; a rival's call from
Python is part of its time. "layer" goes through ``fusednn.ops.dense_forward``, call against call.
"fusednn-bare" is ours without bias and activation, "fusednn-even" ours on a shape near by that is a
multiple of everything, operation for operation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fusednn import _core, ops
from fusednn.bench import goals
from fusednn.bench.harness import Candidate, Case, Work, close_to
from fusednn.bench.loops import aligned
from fusednn.bench.rivals import jax_call

# Rows, inputs, units of a dense layer.
Shape = tuple[int, int, int]
CUBES: list[Shape] = [(n, n, n) for n in (64, 128, 256, 512)]
LARGE: list[Shape] = [(1024, 1024, 1024), (4096, 1024, 1024)]
# A sample: every number of rows, with small, square, wide and tall weights.
SKINNY: list[Shape] = [
    (1, 128, 128),
    (1, 1024, 1024),
    (4, 1024, 1024),
    (16, 32, 32),
    (16, 512, 512),
    (16, 1024, 1024),
    (32, 128, 1024),
    (64, 1024, 128),
]
# Multiples of nothing -> the even shape that each is compared with.
ODD: dict[Shape, Shape] = {
    (67, 131, 97): (64, 128, 96),
    (1021, 1019, 1031): (1024, 1024, 1024),
}
EPILOGUE: Shape = (512, 512, 512)
LAYERS: list[Shape] = [(1, 512, 512), (64, 128, 128), EPILOGUE]
AVX2 = "x86-64-v3"

# Shares of the floor with one thread and with more, and leads.
LARGE_ALONE, LARGE_TEAM, SMALL_ALONE = 0.94, 0.92, 0.80
SKINNY_LEAD, ODD_KEEPS, EPILOGUE_KEEPS = 1.3, 0.85, 1 / 1.05
TOLERANCE = 1e-5
ROUNDING = 4e-3  # of a result in bfloat16
SECONDS_IN_NATIVE = 2e-4  # long beside the call that brings us there


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return aligned(np.random.default_rng(seed).standard_normal(shape, dtype=np.float32))


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


def _ours(kind: str, shape: Shape, arrays: list[np.ndarray], bfloat16: bool = False) -> Candidate:
    x, w, y = own = [aligned(array) for array in arrays]
    repeats = max(1, round(SECONDS_IN_NATIVE / (_flops(shape) / 2e11)))

    def answer() -> np.ndarray:
        _core.run_product(kind, x, w, y, 1, bfloat16)
        return own[PRODUCTS[kind][0]].copy()

    return Candidate(lambda: _core.run_product(kind, x, w, y, repeats, bfloat16), answer, repeats)


def _even(kind: str, shape: Shape) -> Candidate:
    """Ours on the even shape, whose operations count as so many of the odd one."""
    near = ODD[shape]
    own = _ours(kind, near, _arrays(near))
    return Candidate(own.call, own.answer, own.jobs * _flops(near) / _flops(shape), check=_nothing)


def _nothing(_: Any) -> str:
    return ""  # the same code is checked on the odd shape


def _arrays(shape: Shape) -> list[np.ndarray]:
    rows, inputs, units = shape
    return [_random(rows, inputs), _random(inputs, units, seed=1), _random(rows, units, seed=2)]


def _product(kind: str, shape: Shape) -> Work:
    arrays = _arrays(shape)
    place, factors_of = PRODUCTS[kind]
    left, right = factors_of(*arrays)
    expected = left.astype(np.float64) @ right.astype(np.float64)

    def numpy() -> Candidate:
        out = aligned(arrays[place])
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

    def onednn() -> Candidate:
        import torch

        x, w, _ = map(torch.from_numpy, arrays)
        layer = torch.ops.mkldnn._linear_pointwise
        packed = torch.ops.mkldnn._reorder_linear_weight(w.t().contiguous(), len(x))
        run = functools.partial(layer, x, packed, None, "none", [], "")
        return Candidate(run, lambda: run().numpy())

    rivals: dict[str, Callable[[], Candidate]] = {"numpy": numpy, "torch": torch}
    if shape not in SKINNY:  # whose goal names the others, and there are many
        rivals["jax"] = jax
    if kind == "forward":
        rivals["torch-onednn"] = onednn
    if shape in ODD:
        rivals["fusednn-even"] = lambda: _even(kind, shape)
    own = _ours(kind, shape, arrays)
    return Work(own, rivals, close_to(expected, TOLERANCE))


def _layer(shape: Shape) -> Work:
    rows, inputs, units = shape
    x, w, b = _random(rows, inputs), _random(inputs, units, seed=1), _random(units, seed=2)
    y = _random(rows, units)
    right = x.astype(np.float64) @ w + b

    def ours() -> np.ndarray:
        result: np.ndarray = ops.dense_forward(x, w, b, "relu", out=y)
        return result

    def numpy() -> Candidate:
        def run() -> np.ndarray:
            z = np.matmul(x, w, out=y)
            z += b
            return np.maximum(z, 0, out=z)

        return Candidate(run, lambda: run().copy())

    def torch() -> Candidate:
        import torch

        tx, tw, tb = map(torch.from_numpy, (x, w, b))
        out = torch.empty(rows, units)

        def run() -> Any:
            return torch.addmm(tb, tx, tw, out=out).relu_()

        return Candidate(run, lambda: run().numpy())

    def jax() -> Candidate:
        import jax

        def layer(x: Any, w: Any, b: Any) -> Any:
            return jax.nn.relu(x @ w + b)

        return jax_call(layer, x, w, b)

    def bare() -> Candidate:
        run = functools.partial(ops.dense_forward, x, w, out=aligned(y))
        return Candidate(run, lambda: run().copy(), check=close_to(lambda: right - b, TOLERANCE))

    check = close_to(lambda: np.maximum(right, 0), TOLERANCE)
    rivals = {"numpy": numpy, "torch": torch, "jax": jax}
    if shape == EPILOGUE:
        rivals["fusednn-bare"] = bare
    return Work(Candidate(ours, lambda: ours().copy()), rivals, check)


def _rounded(array: np.ndarray) -> np.ndarray:
    """Return float32 values that are exactly bfloat16: the nearest, the even one of two."""
    bits = array.view(np.uint32)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return nearest.view(np.float32)


def _bfloat16(kind: str, shape: Shape) -> Work:
    arrays = [aligned(_rounded(array)) for array in _arrays(shape)]
    place, factors_of = PRODUCTS[kind]
    left, right = factors_of(*arrays)
    expected = left.astype(np.float64) @ right.astype(np.float64)
    check = close_to(expected, TOLERANCE)

    def torch() -> Candidate:
        import torch

        a, b = (factor.bfloat16() for factor in factors_of(*map(torch.from_numpy, arrays)))
        out = torch.empty(arrays[place].shape, dtype=torch.bfloat16)
        # Its result is rounded as well.
        rough = close_to(expected, ROUNDING)
        return Candidate(
            lambda: torch.mm(a, b, out=out), lambda: (a @ b).float().numpy(), check=rough
        )

    rivals = {"torch-bfloat16": torch, "fusednn-float32": lambda: _ours(kind, shape, arrays)}
    return Work(_ours(kind, shape, arrays, bfloat16=True), rivals, check)


def _case(kind: str, shape: Shape, setup: Callable[[], Work], **more: Any) -> Case:
    rows, inputs, units = shape
    params = {"kind": kind, "rows": rows, "inputs": inputs, "units": units}
    name = f"{kind} {rows}x{inputs}x{units}"
    if more.get("dtype"):
        name += f", {more['dtype']}"
    if more.get("isa"):
        name += ", AVX2"
    if more.get("threads"):
        name += ", 1 thread"
    return Case("gemm", name, _flops(shape), _bytes(shape), setup, params, **more)


def _products(shape: Shape, *wanted: goals.Goal, **more: Any) -> Iterator[Case]:
    for kind in PRODUCTS:
        setup = functools.partial(_product, kind, shape)
        yield _case(kind, shape, setup, goals=wanted, **more)


def cases() -> Iterator[Case]:
    """Return the products of every shape, and the layers."""
    blas = goals.ratio(1.0, "numpy")
    for shape in LARGE:
        yield from _products(shape, goals.floor(LARGE_TEAM), blas)
        yield from _products(shape, goals.floor(LARGE_ALONE), blas, threads=1)
    yield from _products(LARGE[0], goals.floor(LARGE_ALONE), threads=1, isa=AVX2)
    # Two goals: a lead over our own float32, and no less than oneDNN, whose result is narrower.
    both = (goals.ratio(1.8, "fusednn-float32"), goals.ratio(0.95, "torch-bfloat16"))
    for kind in PRODUCTS:
        for threads in (0, 1):
            setup = functools.partial(_bfloat16, kind, LARGE[0])
            yield _case(kind, LARGE[0], setup, goals=both, dtype="bfloat16", threads=threads)
    for shape in CUBES:
        yield from _products(shape)
        small = shape[0] <= 128
        yield from _products(shape, *([goals.floor(SMALL_ALONE)] if small else []), threads=1)
    for shape in ODD:
        yield from _products(shape, goals.ratio(ODD_KEEPS, "fusednn-even"))
    for shape in SKINNY:
        lead = goals.ratio(SKINNY_LEAD, "numpy", "torch", "torch-onednn")
        yield from _products(shape, lead)
    for shape in LAYERS:
        keeps = shape == EPILOGUE
        yield _case(
            "layer relu",
            shape,
            functools.partial(_layer, shape),
            goals=(goals.ratio(EPILOGUE_KEEPS, "fusednn-bare"),) if keeps else (),
        )
