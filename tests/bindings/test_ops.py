# SPDX-License-Identifier: Apache-2.0
"""Dense, normalisation and dropout on arrays, against the oracle; contexts, signatures, threads."""

import doctest
import importlib
import inspect

import numpy as np
import pytest

import oracle
from fusednn import _core, ops

SHAPES = [(1, 1, 1), (5, 3, 1), (1, 7, 9), (13, 17, 11), (33, 65, 34), (130, 70, 97)]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


def close(dtype, terms=1):
    """Tolerances for numbers of size 1 that are sums of so many terms."""
    eps = np.finfo(dtype).eps
    return {"rtol": 32 * eps, "atol": 16 * eps * terms**0.5}


def normal(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


# ---- dense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", [*sorted(_core.activations()), "softmax", "log_softmax"])
def test_dense(shape, activation, dtype, rng):
    rows, n, units = shape
    x, w, b = (normal(rng, dtype, *s) for s in [(rows, n), (n, units), (units,)])
    w /= np.sqrt(n).astype(dtype)
    dy = normal(rng, dtype, rows, units)
    y, context = ops.dense_forward(x, w, b, activation, return_context=True)
    np.testing.assert_array_equal(ops.dense_forward(x, w, b, activation), y)
    want = oracle.dense_forward(x, w, b, activation)
    np.testing.assert_allclose(y, want, **close(dtype, n))
    growth = max(1, np.abs(want).max())  # of the exponential, whose derivative grows with it
    for got, want in zip(
        ops.dense_backward(dy, context),
        oracle.dense_backward(x, w, b, dy, activation),
        strict=True,
    ):
        scale = growth if activation == "exponential" else 1
        tolerance = close(dtype, 4 * max(rows, n, units))
        np.testing.assert_allclose(got / scale, want / scale, **tolerance)


@pytest.mark.parametrize("lead", [(), (4,), (2, 3), (2, 1, 5)])
def test_dense_over_any_leading_axes(lead, dtype, rng):
    x, w, b = normal(rng, dtype, *lead, 6), normal(rng, dtype, 6, 3), normal(rng, dtype, 3)
    y, context = ops.dense_forward(x, w, b, "tanh", return_context=True)
    np.testing.assert_allclose(y, np.tanh(x @ w + b), **close(dtype, 6))
    dx, dw, db = ops.dense_backward(np.ones_like(y), context)
    want = oracle.dense_backward(x, w, b, np.ones_like(y), "tanh")
    for got, right in zip((dx, dw, db), want, strict=True):
        np.testing.assert_allclose(got, right, **close(dtype, 20))


def test_dense_without_bias_and_with_hyper_parameters(dtype, rng):
    x, w, dy = normal(rng, dtype, 5, 4), normal(rng, dtype, 4, 3), normal(rng, dtype, 5, 3)
    y, context = ops.dense_forward(
        x, w, activation="leaky_relu", negative_slope=0.25, return_context=True
    )
    z = x @ w
    np.testing.assert_allclose(y, np.where(z > 0, z, z / 4), **close(dtype, 4))
    dx, dw, db = ops.dense_backward(dy, context)
    assert db is None
    dz = np.where(z > 0, dy, dy / 4)
    np.testing.assert_allclose(dx, dz @ w.T, **close(dtype, 4))
    np.testing.assert_allclose(dw, x.T @ dz, **close(dtype, 8))


@pytest.mark.parametrize("shape", [(0, 3, 2), (3, 2, 0), (0, 2, 0)])
def test_dense_of_nothing(shape, dtype):
    rows, n, units = shape
    b = np.arange(1, units + 1, dtype=dtype)
    x, w = np.ones((rows, n), dtype), np.ones((n, units), dtype)
    y, context = ops.dense_forward(x, w, b, return_context=True)
    np.testing.assert_array_equal(y, x @ w + b)
    dx, dw, db = ops.dense_backward(np.ones_like(y), context)
    np.testing.assert_array_equal(dx, np.ones_like(y) @ w.T)
    np.testing.assert_array_equal(dw, x.T @ np.ones_like(y))
    np.testing.assert_array_equal(db, np.full(units, rows))


def test_dense_reads_and_writes_rows_apart(dtype, rng):
    ground = normal(rng, dtype, 40, 50)
    x, w = ground[:13, 3:20], ground[20:37, 5:16]
    out = np.full((13, 30), 7, dtype)
    y = ops.dense_forward(x, w, out=out[:, 4:15])
    np.testing.assert_array_equal(y, ops.dense_forward(x.copy(), w.copy()))
    assert (np.delete(out, slice(4, 15), axis=1) == 7).all()


def test_dense_is_the_same_for_any_number_of_threads(dtype, rng):
    x, w, b = normal(rng, dtype, 300, 200), normal(rng, dtype, 200, 150), normal(rng, dtype, 150)
    before, results = _core.num_threads(), []
    for n in (1, 2, 4):
        _core.set_num_threads(n)
        try:
            y, context = ops.dense_forward(x, w, b, "gelu", return_context=True)
            results.append((y, *ops.dense_backward(y, context)))
        finally:
            _core.set_num_threads(before)
    for other in results[1:]:
        for a, b_ in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b_)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.ones((2, 3)), np.ones((4, 2))), r"w: has shape \(4, 2\), expected \(3, units\)"),
        ((np.ones((2, 3)), np.ones(3)), r"w: has shape \(3,\)"),
        ((np.ones((2, 3)), np.ones((3, 2)), np.ones(3)), r"b: has shape \(3,\), expected \(2,\)"),
        ((1.0, np.ones((3, 2))), "x: is a single number"),
        ((np.ones((2, 0)), np.ones((0, 2))), "x: .* at least one feature"),
        ((np.ones((2, 3)), np.ones((3, 2)), None, "reluu"), "did you mean 'relu'"),
    ],
)
def test_wrong_shapes_and_names(arguments, match):
    with pytest.raises(ValueError, match=match):
        ops.dense_forward(*arguments)


def test_contexts_are_not_confused():
    y, context = ops.layer_norm_forward(np.ones((2, 3)))
    with pytest.raises(TypeError, match="context"):
        ops.dense_backward(y, context)
    with pytest.raises(TypeError, match="batch_norm_forward"):
        ops.batch_norm_backward(y, context)
    with pytest.raises(TypeError, match="in training"):
        ops.batch_norm_backward(y, None)
    with pytest.raises(ValueError, match=r"dy: has shape \(2, 4\), expected \(2, 3\)"):
        ops.layer_norm_backward(np.ones((2, 4)), context)


# ---- normalisation -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 1), (5, 3), (33, 17), (7, 65), (2, 3, 4)])
@pytest.mark.parametrize("affine", [True, False])
def test_normalisations(shape, affine, dtype, rng):
    x, dy = normal(rng, dtype, *shape) * 3 + 1, normal(rng, dtype, *shape)
    columns = shape[-1]
    gamma = normal(rng, dtype, columns) if affine else None
    beta = normal(rng, dtype, columns) if affine else None
    ones, zeros = np.ones(columns), np.zeros(columns)
    wide_gamma, wide_beta = (gamma, beta) if affine else (ones, zeros)
    mean, variance = normal(rng, dtype, columns), rng.uniform(0.5, 2, columns).astype(dtype)
    tolerance = close(dtype, 16 * x.size / columns)

    moved = mean.copy(), variance.copy()
    y, context = ops.batch_norm_forward(x, gamma, beta, *moved, momentum=0.3)
    want = oracle.batch_norm_forward(
        x, wide_gamma, wide_beta, mean, variance, training=True, momentum=0.3
    )
    for got, right in zip((y, *moved), want, strict=True):
        np.testing.assert_allclose(got, right, **tolerance)
    want = oracle.batch_norm_backward(x, wide_gamma, dy)
    for got, right in zip(ops.batch_norm_backward(dy, context), want, strict=True):
        np.testing.assert_allclose(got, right, **tolerance)
    np.testing.assert_array_equal(ops.batch_norm_forward(x, gamma, beta)[0], y)

    mean.flags.writeable = False
    y, context = ops.batch_norm_forward(x, gamma, beta, mean, variance, training=False)
    want = oracle.batch_norm_forward(x, wide_gamma, wide_beta, mean, variance, training=False)
    np.testing.assert_allclose(y, want[0], **tolerance)
    assert context is None

    y, context = ops.layer_norm_forward(x, gamma, beta)
    tolerance = close(dtype, 64 * columns)
    np.testing.assert_allclose(y, oracle.layer_norm_forward(x, wide_gamma, wide_beta), **tolerance)
    want = oracle.layer_norm_backward(x, wide_gamma, dy)
    for got, right in zip(ops.layer_norm_backward(dy, context), want, strict=True):
        # With a column or two the variance may nearly vanish.
        scale = np.abs(right).max() + 1
        np.testing.assert_allclose(got / scale, right / scale, **tolerance)


@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_normalisations_write_where_they_are_told(kind, dtype, rng):
    forward = getattr(ops, f"{kind}_norm_forward")
    backward = getattr(ops, f"{kind}_norm_backward")
    x, dy, gamma = (normal(rng, dtype, *s) for s in [(9, 33), (9, 33), (33,)])
    y, context = forward(x, gamma)
    dx, dgamma, _ = backward(dy, context)
    out = np.full((9, 40), 7, dtype)
    got, context = forward(x, gamma, out=out[:, 2:35])
    np.testing.assert_array_equal(got, y)
    assert np.shares_memory(got, out)
    assert (out[:, :2] == 7).all()
    assert (out[:, 35:] == 7).all()
    got, got_dgamma, _ = backward(dy, context, out=dy)
    assert got is dy
    np.testing.assert_array_equal(dy, dx)
    np.testing.assert_array_equal(got_dgamma, dgamma)

    with pytest.raises(ValueError, match="out: shares memory with x"):
        forward(x, gamma, out=x)
    with pytest.raises(ValueError, match="out"):
        forward(x, gamma, out=np.empty((9, 32), dtype))
    with pytest.raises(ValueError, match="out"):
        backward(dx, context, out=np.empty((8, 33), dtype))
    # What the call reads elsewhere counts as it was, wherever the result goes.
    shared = np.concatenate([gamma, np.zeros(8 * 33, dtype)]).reshape(9, 33)
    np.testing.assert_array_equal(forward(x, shared[0], out=shared)[0], y)


def test_running_statistics_stay_when_a_call_fails():
    mean, variance = np.zeros(3), np.ones(3)
    for arguments, options in [
        ((np.ones((2, 3)), np.ones(2), None, mean, variance), {}),
        ((np.ones((2, 3)), None, None, mean, np.ones(4)), {}),
        ((np.ones((2, 3)), None, None, mean, variance), {"momentum": 2}),
        ((np.ones((2, 3)), None, None, mean, variance), {"epsilon": 0}),
        ((np.ones((0, 3)), None, None, mean, variance), {}),
        ((np.ones((2, 3)), None, None, mean, mean), {}),
        ((np.ones((2, 3)), None, None, mean, None), {"training": False}),
    ]:
        with pytest.raises(ValueError):
            ops.batch_norm_forward(*arguments, **options)
    assert (mean == 0).all()
    assert (variance == 1).all()


# ---- dropout -------------------------------------------------------------------------------------


def philox_mask(n, rate, seed, step, stream):
    """Element e takes word (e / 16) % 4 of counter 16 (e / 64) + e % 16."""
    e = np.arange(n)
    position = 16 * (e // 64) + e % 16
    counter = np.stack(
        [position & 0xFFFFFFFF, position >> 32, np.full(n, step), np.full(n, stream)], 1
    )
    words = oracle.philox4x32_10(counter, np.array([seed & 0xFFFFFFFF, seed >> 32]))
    return words[e, (e // 16) % 4] < (1 - rate) * 2**32


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 63, 64, 65, 1003])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9])
def test_dropout_is_a_function_of_its_arguments(n, rate, dtype, rng):
    x = normal(rng, dtype, n)
    seed, step, stream = 0x123456789ABCDEF0, 5, 3
    y = ops.dropout(x, rate, seed, step=step, stream=stream)
    mask = philox_mask(n, rate, seed, step, stream)
    np.testing.assert_allclose(y, oracle.dropout(x, mask, rate), **close(dtype))
    np.testing.assert_array_equal(ops.dropout(x.copy(), rate, seed, step=step, stream=stream), y)
    if n > 1000 and rate == 0.5:
        assert not np.array_equal(ops.dropout(x, rate, seed, step=step, stream=4), y)
        assert not np.array_equal(ops.dropout(x, rate, seed, step=6, stream=stream), y)
        assert not np.array_equal(ops.dropout(x, rate, seed + 1, step=step, stream=stream), y)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, np.nan])
def test_wrong_rates(rate):
    with pytest.raises(ValueError, match="rate="):
        ops.dropout(np.ones(3), rate, 0)


# ---- the module ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({getattr(ops, name).__module__ for name in ops.__all__}))
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("name", ops.__all__)
def test_every_function_documents_what_it_takes(name):
    thing = getattr(ops, name)
    assert thing.__doc__
    if inspect.isfunction(thing):
        assert "Examples\n" in thing.__doc__
        if "Parameters, returns:" not in thing.__doc__:
            for parameter in inspect.signature(thing).parameters:
                assert parameter in thing.__doc__, f"{name}: {parameter}"
