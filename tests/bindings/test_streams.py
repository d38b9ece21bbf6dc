# SPDX-License-Identifier: Apache-2.0
"""Results that are longer than the caches go around them: with the same bits as those that do not.

What is computed in place was read, so it is in the cache and stays there: the other way to the same
result. Arrays begin at an odd element, where no vector is aligned.
"""

from __future__ import annotations

import numpy as np
import pytest

from fusednn import ops

BYTES = 40 << 20  # of argument and result together
pytestmark = pytest.mark.kernels


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def drawn(seed, dtype, *shape, narrow=0):
    """Random numbers that begin one element after an aligned place; with a gap behind each row."""
    *rows, columns = shape
    lead = int(np.prod(rows, dtype=int))
    wide = np.empty(lead * (columns + narrow) + 1, dtype)[1:].reshape(lead, columns + narrow)
    wide[...] = np.random.default_rng(seed).standard_normal(wide.shape, np.float32)
    return wide[:, :columns].reshape(shape) if not narrow else wide[:, :columns]


def rows_of(columns, dtype):
    return BYTES // (2 * np.dtype(dtype).itemsize * columns) + 3


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_activations(name, dtype):
    n = rows_of(1, dtype)
    x, dy = drawn(0, dtype, n), drawn(1, dtype, n)
    y = ops.activation_forward(x, name, out=np.empty_like(x))
    dx = ops.activation_backward(dy, x, name, out=np.empty_like(x))
    assert ops.activation_backward(dy, x, name, out=dy) is dy
    np.testing.assert_array_equal(dx, dy)
    np.testing.assert_array_equal(y, ops.activation_forward(x, name, out=x))


def test_dropout(dtype):
    x = drawn(0, dtype, rows_of(1, dtype))
    y = ops.dropout(x, 0.3, seed=5, out=np.empty_like(x))
    np.testing.assert_array_equal(y, ops.dropout(x, 0.3, seed=5, out=x))


@pytest.mark.parametrize("columns", [37, 40001])
@pytest.mark.parametrize("kind", [ops.softmax, ops.log_softmax])
def test_softmax(kind, columns, dtype):
    x = drawn(0, dtype, rows_of(columns, dtype), columns, narrow=3)
    y = kind(x, out=np.empty_like(x))
    back = ops.softmax_backward if kind is ops.softmax else ops.log_softmax_backward
    dy = drawn(1, dtype, *x.shape, narrow=1)
    dx = back(dy, y, out=np.empty_like(x))
    np.testing.assert_array_equal(dx, back(dy, y, out=dy))
    np.testing.assert_array_equal(y, kind(x, out=x))


def aligned_like(array):
    """An array whose rows all begin where vectors of any size do, which some losses need."""
    columns = array.shape[-1]
    whole = -(-columns * array.itemsize // 64) * 64 // array.itemsize
    memory = np.empty(len(array) * whole * array.itemsize + 64, np.uint8)
    memory = memory[-memory.ctypes.data % 64 :][: len(array) * whole * array.itemsize]
    return memory.view(array.dtype).reshape(len(array), whole)[:, :columns]


@pytest.mark.parametrize("columns", [37, 40001])
@pytest.mark.parametrize("name", ["mse", "softmax_cross_entropy", "kl_divergence_logits"])
def test_losses(name, columns, dtype):
    x = drawn(0, dtype, rows_of(columns, dtype), columns)
    target = np.abs(drawn(1, dtype, *x.shape))
    if name == "softmax_cross_entropy":
        target = np.random.default_rng(2).integers(0, columns, len(x))
    value, gradient = ops.loss(name, x, target, out=np.empty_like(x))
    same, aligned = ops.loss(name, x, target, out=aligned_like(x))
    again, in_place = ops.loss(name, x, target, out=x)
    assert value == same == again
    np.testing.assert_array_equal(gradient, in_place)
    np.testing.assert_array_equal(aligned, in_place)


@pytest.mark.parametrize("columns", [37, 1000])
def test_normalisations(columns, dtype):
    x = drawn(0, dtype, rows_of(columns, dtype), columns, narrow=1)
    gamma, beta = drawn(1, dtype, columns), drawn(2, dtype, columns)
    mean, variance = drawn(3, dtype, columns), np.ones(columns, dtype)
    for forward, backward in (
        (ops.batch_norm_forward, ops.batch_norm_backward),
        (ops.layer_norm_forward, ops.layer_norm_backward),
    ):
        dy = drawn(4, dtype, *x.shape)
        y, context = forward(x, gamma, beta, out=np.empty_like(x))
        dx, *sums = backward(dy, context, out=np.empty_like(x))
        in_place, *same = backward(dy, context, out=dy)
        assert in_place is dy
        np.testing.assert_array_equal(dx, dy)
        for one, other in zip(sums, same, strict=True):
            np.testing.assert_array_equal(one, other)
    few = ops.layer_norm_forward(x[:100], gamma, beta)[0]
    np.testing.assert_array_equal(y[:100], few)
    statistics = (gamma, beta, mean, variance)
    y, _ = ops.batch_norm_forward(x, *statistics, training=False, out=np.empty_like(x))
    y_in_place, _ = ops.batch_norm_forward(x, *statistics, training=False, out=x)
    np.testing.assert_array_equal(y, y_in_place)
