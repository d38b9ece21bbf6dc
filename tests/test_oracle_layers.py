# SPDX-License-Identifier: Apache-2.0
"""The oracle's layers and random numbers against differences, torch and published vectors."""

import numpy as np
import pytest

import oracle
from differences import numeric_gradient
from rivals import torch_in_double


@pytest.fixture
def torch():
    with torch_in_double() as module:
        yield module


@pytest.mark.parametrize("activation", ["linear", "gelu", "relu", "softmax", "log_softmax"])
def test_dense_backward(activation, rng):
    x, w, b = rng.standard_normal((6, 4)), rng.standard_normal((4, 3)), rng.standard_normal(3)
    dy = rng.standard_normal((6, 3))

    def total(x, w, b):
        return (oracle.dense_forward(x, w, b, activation) * dy).sum()

    dx, dw, db = oracle.dense_backward(x, w, b, dy, activation)
    np.testing.assert_allclose(dx, numeric_gradient(lambda v: total(v, w, b), x), atol=1e-8)
    np.testing.assert_allclose(dw, numeric_gradient(lambda v: total(x, v, b), w), atol=1e-8)
    np.testing.assert_allclose(db, numeric_gradient(lambda v: total(x, w, v), b), atol=1e-8)
    bare = oracle.dense_forward(x, w, None, activation)
    np.testing.assert_array_equal(bare, oracle.dense_forward(x, w, 0 * b, activation))


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_matches_torch(training, rng, torch):
    x, dy = rng.standard_normal((2, 7, 3)) * 2 + 5
    gamma, beta, mean = rng.standard_normal((3, 3))
    variance = rng.uniform(0.5, 2, 3)
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    running = torch.tensor(mean), torch.tensor(variance)
    y = torch.nn.functional.batch_norm(
        tensors[0], *running, tensors[1], tensors[2], training, momentum=0.2, eps=1e-3
    )
    y.backward(torch.tensor(dy))
    ours = oracle.batch_norm_forward(
        x, gamma, beta, mean, variance, training=training, momentum=0.2, eps=1e-3
    )
    for a, b in zip(ours, (y.detach(), *running), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    fixed = None if training else (mean, variance)
    grads = oracle.batch_norm_backward(x, gamma, dy, eps=1e-3, running=fixed)
    for a, b in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(a, b.grad, rtol=1e-11, atol=1e-12)


def test_layer_norm_matches_torch(rng, torch):
    x, dy = rng.standard_normal((2, 2, 3, 5)) * 2 + 5
    gamma, beta = rng.standard_normal((2, 5))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    y = torch.nn.functional.layer_norm(tensors[0], (5,), tensors[1], tensors[2], eps=1e-3)
    y.backward(torch.tensor(dy))
    ours = oracle.layer_norm_forward(x, gamma, beta, eps=1e-3)
    np.testing.assert_allclose(ours, y.detach(), rtol=1e-12, atol=1e-13)
    grads = oracle.layer_norm_backward(x, gamma, dy, eps=1e-3)
    for a, b in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(a, b.grad, rtol=1e-11, atol=1e-12)


def test_norm_gradients_are_the_slopes(rng):
    x, dy = rng.standard_normal((2, 5, 4))
    gamma, beta = rng.standard_normal((2, 4))

    def batch(v):
        y = oracle.batch_norm_forward(v, gamma, beta, np.zeros(4), np.ones(4), training=True)[0]
        return (y * dy).sum()

    def layer(v):
        return (oracle.layer_norm_forward(v, gamma, beta) * dy).sum()

    got = oracle.batch_norm_backward(x, gamma, dy)[0]
    np.testing.assert_allclose(got, numeric_gradient(batch, x), rtol=1e-7, atol=1e-8)
    got = oracle.layer_norm_backward(x, gamma, dy)[0]
    np.testing.assert_allclose(got, numeric_gradient(layer, x), rtol=1e-7, atol=1e-8)


def test_dropout():
    x, mask = np.array([1.0, 2.0, np.nan]), np.array([True, False, False])
    assert oracle.dropout(x, mask, 0.2).tolist() == [1.25, 0, 0]
    assert oracle.dropout(x, mask, 1.0).tolist() == [0, 0, 0]


def test_philox_known_answers():
    """The three vectors that Random123 distributes for philox4x32 with ten rounds."""
    ones = 0xFFFFFFFF
    counter = [[0] * 4, [ones] * 4, [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]]
    key = [[0] * 2, [ones] * 2, [0xA4093822, 0x299F31D0]]
    want = [
        [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8],
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ]
    assert oracle.philox4x32_10(counter, key).tolist() == want
    assert oracle.philox4x32_10(counter[2], key[2]).tolist() == want[2]
    assert oracle.philox4x32_10(counter[2], key[2]).dtype == np.uint32
