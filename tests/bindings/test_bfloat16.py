# SPDX-License-Identifier: Apache-2.0
"""Dense products with operands rounded to bfloat16, against NumPy's in float64."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from fusednn import _core, ops

SUPPORTED = [entry["name"] for entry in _core.isas() if entry["supported"]]
EPS = np.finfo(np.float32).eps
# Around the sizes of tiles, pairs, vectors, chunks of k and blocks of rows; one of everything.
SHAPES = [
    (1, 1, 1),
    (1, 512, 130),
    (2, 3, 1),
    (5, 1, 7),
    (13, 31, 33),
    (14, 32, 32),
    (15, 33, 31),
    (29, 130, 65),
    (64, 128, 128),
    (130, 257, 1),
    (150, 300, 70),
    (300, 65, 40),
    (16, 2051, 17),
    (33, 7, 2051),
]


def rounded(x):
    """To bfloat16 and back, in arithmetic: to the nearest of its grid, or the even one of two."""
    x = np.asarray(x, np.float32).astype(np.float64)
    _, exponent = np.frexp(x)
    unit = np.ldexp(1.0, exponent - 8)  # between bfloat16 numbers of this size
    with np.errstate(invalid="ignore"):
        y = np.rint(x / unit) * unit  # rint takes halves to even
    y = np.where(np.abs(y) >= 2.0**128, np.copysign(np.inf, x), y)
    y = np.where(np.abs(x) < 2.0**-126, np.copysign(0.0, x), y)
    return np.where(np.isfinite(x), y, x)


@contextlib.contextmanager
def computing(isa: str = "", instructions: bool = True, threads: int = 0):
    """Another instruction set, without AVX512-BF16, on so many threads."""
    before, count = _core.isa(), _core.num_threads()
    try:
        _core.set_isa(isa or before)
        _core.allow_bf16(instructions)
        _core.set_num_threads(threads or count)
        yield
    finally:
        _core.set_isa(before)
        _core.allow_bf16(True)
        _core.set_num_threads(count)


@pytest.fixture(params=[*SUPPORTED, "emulated"])
def way(request):
    """Every way to the same bits: each instruction set, and the best without AVX512-BF16."""
    emulated = request.param == "emulated"
    with computing("" if emulated else request.param, instructions=not emulated):
        yield


def arrays(rng, rows, inputs, units):
    x = rng.standard_normal((rows, inputs), dtype=np.float32)
    w = rng.standard_normal((inputs, units), dtype=np.float32)
    b = rng.standard_normal(units, dtype=np.float32)
    return x, w, b, rng.standard_normal((rows, units), dtype=np.float32)


def products(x, w, b, dy, activation="linear"):
    y, context = ops.dense_forward(x, w, b, activation, return_context=True, precision="bfloat16")
    return (y, *ops.dense_backward(dy, context))


def assert_product(found, a, b, more=0.0):
    """`found` is a product of the rounded a and b, summed in float32, plus `more`."""
    a, b = rounded(a), rounded(b)
    # Twice sqrt(k) roundings of sums of the mean size: far below the 2^-9 of one operand.
    size = np.sqrt((a * a) @ (b * b)) + np.abs(more) + 1e-30
    worst = np.max(np.abs(found - (a @ b + more)) / size, initial=0.0)
    assert worst < EPS * (2 + np.sqrt(a.shape[1]))


def test_rounding_of_the_oracle_is_torchs(rng):
    torch = pytest.importorskip("torch")
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    halves = (bits & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    x = np.concatenate([bits, halves]).view(np.float32)
    x = x[~np.isnan(x) & ~(np.abs(x) < 2.0**-126)]
    np.testing.assert_array_equal(rounded(x), torch.tensor(x).bfloat16().double().numpy())


@pytest.mark.parametrize("shape", SHAPES)
def test_products(shape, way, rng):
    x, w, b, dy = arrays(rng, *shape)
    y, dx, dw, db = products(x, w, b, dy)
    assert y.dtype == dx.dtype == dw.dtype == db.dtype == np.float32
    assert_product(y, x, w, b)
    assert_product(dx, dy, w.T)
    assert_product(dw, x.T, dy)
    # The bias gradient is a sum of what arrived, not of what was rounded for the products.
    exact = dy.astype(np.float64).sum(0)
    assert np.all(np.abs(db - exact) <= 2 * EPS * np.abs(dy).sum(0, dtype=np.float64))


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_activations_see_float32(activation, way, rng):
    x, w, b, dy = arrays(rng, 37, 50, 23)
    y, dx, dw, _ = products(x, w, b, dy, activation)
    z = (rounded(x) @ rounded(w) + b).astype(np.float32)
    np.testing.assert_allclose(y, ops.activation_forward(z, activation), rtol=1e-5, atol=1e-5)
    dz = ops.activation_backward(dy, z, activation)
    np.testing.assert_allclose(dx, rounded(dz) @ rounded(w).T, rtol=0, atol=0.1)
    np.testing.assert_allclose(dw, rounded(x).T @ rounded(dz), rtol=0, atol=0.1)


def test_operands_are_rounded(way):
    """What float32 would add up to something else: 1 + 2^-9 is 1, and 1 + 3 * 2^-9 is 1 + 2^-7."""
    tie, up = np.float32(1 + 2**-8), np.float32(1 + 3 * 2**-8)
    x = np.array([[tie, up, 1 + 2**-9]], np.float32)
    assert ops.dense_forward(x, np.eye(3, dtype=np.float32), precision="bfloat16").tolist() == [
        [1.0, 1 + 2**-6, 1.0]
    ]


def test_special_values(way):
    values = np.array(
        [np.inf, -np.inf, np.nan, 3.4e38, -3.4e38, 3.38e38, 1e-39, -1e-39, -0.0, 1e-37], np.float32
    )
    one = np.ones((1, 1), np.float32)
    expected = np.array(
        [np.inf, -np.inf, np.nan, np.inf, -np.inf, rounded(3.38e38), 0, 0, 0, rounded(1e-37)],
        np.float32,
    )
    for n in (1, len(values)):  # as the left and as the right operand
        w = np.repeat(one, n, axis=1)
        y = ops.dense_forward(values[:, None], w, precision="bfloat16")
        np.testing.assert_array_equal(y[:, 0], expected)
    y = ops.dense_forward(one, values[None, :], precision="bfloat16")
    np.testing.assert_array_equal(y[0], expected)


def test_strides_and_leading_axes(way, rng):
    x, w, b, _ = arrays(rng, 30, 20, 24)
    whole = ops.dense_forward(x[::2].copy(), w[:, ::2].copy(), b[::2].copy(), precision="bfloat16")
    parts = ops.dense_forward(x[::2], w[:, ::2], b[::2], precision="bfloat16")
    np.testing.assert_array_equal(parts, whole)
    deep = ops.dense_forward(x.reshape(5, 6, 20), w, b, precision="bfloat16")
    np.testing.assert_array_equal(
        deep.reshape(30, 24), ops.dense_forward(x, w, b, precision="bfloat16")
    )


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_nothing_to_sum(rows, way):
    dy = np.ones((rows, 4), np.float32)
    x, w = np.ones((rows, 3), np.float32), np.ones((3, 4), np.float32)
    y, dx, dw, db = products(x, w, None, dy)
    assert y.shape == (rows, 4)
    assert dx.shape == (rows, 3)
    assert db is None
    np.testing.assert_array_equal(dw, np.full((3, 4), rows, np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_way_has_the_same_bits(shape, rng):
    given = arrays(rng, *shape)
    first = products(*given, "relu")
    for isa in SUPPORTED:
        for instructions in (True, False):
            for threads in (1, 3):
                with computing(isa, instructions, threads):
                    for one, other in zip(first, products(*given, "relu"), strict=True):
                        if one is first[3]:  # the order of its sum is the instruction set's own
                            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
                        else:
                            np.testing.assert_array_equal(one, other, strict=True)


def test_a_row_does_not_depend_on_the_batch(way, rng):
    x, w, b, dy = arrays(rng, 200, 150, 90)
    y, dx, _, _ = products(x, w, b, dy)
    for rows in (1, 2, 4, 9, 14, 17, 100):
        part_y, part_dx, _, _ = products(x[:rows], w, b, dy[:rows])
        np.testing.assert_array_equal(part_y, y[:rows])
        np.testing.assert_array_equal(part_dx, dx[:rows])


def test_refusals(rng):
    x, w, _, _ = arrays(rng, 3, 4, 5)
    double = x.astype(np.float64), w.astype(np.float64)
    with pytest.raises(
        TypeError, match="precision='bfloat16' needs arrays of float32, got float64"
    ):
        ops.dense_forward(*double, precision="bfloat16")
    with pytest.raises(TypeError, match="precision='float64' needs arrays of float64, got float32"):
        ops.dense_forward(x, w, precision="float64")
    with pytest.raises(ValueError, match="precision='half' is unknown; choose float32"):
        ops.dense_forward(x, w, precision="half")
    np.testing.assert_array_equal(
        ops.dense_forward(x, w, precision="float32"), ops.dense_forward(x, w)
    )


def test_says_what_it_uses():
    with computing(instructions=False):
        assert not _core.uses_bf16()
    with computing(SUPPORTED[0]):
        assert not _core.uses_bf16()
