# SPDX-License-Identifier: Apache-2.0
"""Layers, forward and backward, and the random numbers behind dropout.

Kernels are stored (inputs, outputs) and the features are the last axis. A backward function
takes what the forward took, and the gradient at its output.
"""

import numpy as np

from .activations import (
    ACTIVATIONS,
    log_softmax,
    log_softmax_backward,
    softmax,
    softmax_backward,
)


def _double(*arrays):
    return tuple(np.asarray(a, dtype=np.float64) for a in arrays)


def dense_forward(x, w, b=None, activation="linear", **params):
    """f(x @ w + b)."""
    x, w = _double(x, w)
    z = x @ w if b is None else x @ w + np.asarray(b, dtype=np.float64)
    if activation == "softmax":
        return softmax(z)
    if activation == "log_softmax":
        return log_softmax(z)
    return ACTIVATIONS[activation].forward(z, **params)


def dense_backward(x, w, b, dy, activation="linear", **params):
    """Gradients (dx, dw, db) of sum(dy * dense_forward(x, w, b)); db also where b is None."""
    x, w, dy = _double(x, w, dy)
    z = dense_forward(x, w, b)
    if activation == "softmax":
        dz = softmax_backward(softmax(z), dy)
    elif activation == "log_softmax":
        dz = log_softmax_backward(log_softmax(z), dy)
    else:
        dz = dy * ACTIVATIONS[activation].derivative(z, **params)
    outer = tuple(range(dz.ndim - 1))
    return dz @ w.T, np.tensordot(x, dz, axes=(outer, outer)), dz.sum(axis=outer)


def _normalise(x, axes, eps):
    """Centred and scaled to unit biased variance over `axes`, and the scale."""
    mean = x.mean(axis=axes, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(variance + eps)
    return (x - mean) * inverse, inverse


def _normalise_backward(normal, inverse, dnormal, axes):
    """Take out of the gradient what moves only the mean or the variance."""
    mean = dnormal.mean(axis=axes, keepdims=True)
    along = (dnormal * normal).mean(axis=axes, keepdims=True)
    return inverse * (dnormal - mean - normal * along)


def batch_norm_forward(
    x, gamma, beta, running_mean, running_var, *, training, momentum=0.1, eps=1e-5
):
    """Return (y, running mean, running variance).

    Training normalises with the biased variance of the batch and moves the running statistics by
    running = (1 - momentum) * running + momentum * batch, with the unbiased variance as torch
    (a batch of one has none, and keeps the biased one). Inference uses the running statistics.
    """
    x, gamma, beta, running_mean, running_var = _double(x, gamma, beta, running_mean, running_var)
    if not training:
        y = (x - running_mean) / np.sqrt(running_var + eps) * gamma + beta
        return y, running_mean, running_var
    axes = tuple(range(x.ndim - 1))
    normal, _ = _normalise(x, axes, eps)
    count = x.size // x.shape[-1]
    variance = x.var(axis=axes) * (count / max(count - 1, 1))
    return (
        normal * gamma + beta,
        (1 - momentum) * running_mean + momentum * x.mean(axis=axes),
        (1 - momentum) * running_var + momentum * variance,
    )


def batch_norm_backward(x, gamma, dy, *, eps=1e-5, running=None):
    """Gradients (dx, dgamma, dbeta); `running` = (mean, variance) selects inference mode."""
    x, gamma, dy = _double(x, gamma, dy)
    axes = tuple(range(x.ndim - 1))
    if running is None:
        normal, inverse = _normalise(x, axes, eps)
        dx = _normalise_backward(normal, inverse, dy * gamma, axes)
    else:
        mean, variance = _double(*running)
        inverse = 1 / np.sqrt(variance + eps)
        normal = (x - mean) * inverse
        dx = dy * gamma * inverse
    return dx, (dy * normal).sum(axis=axes), dy.sum(axis=axes)


def layer_norm_forward(x, gamma, beta, *, eps=1e-5):
    """Normalise each row (the last axis) with its biased variance."""
    x, gamma, beta = _double(x, gamma, beta)
    return _normalise(x, -1, eps)[0] * gamma + beta


def layer_norm_backward(x, gamma, dy, *, eps=1e-5):
    """Gradients (dx, dgamma, dbeta)."""
    x, gamma, dy = _double(x, gamma, dy)
    normal, inverse = _normalise(x, -1, eps)
    outer = tuple(range(x.ndim - 1))
    dx = _normalise_backward(normal, inverse, dy * gamma, -1)
    return dx, (dy * normal).sum(axis=outer), dy.sum(axis=outer)


def dropout(x, mask, rate):
    """Keep x / (1 - rate) where mask is true. The backward pass is the same map of dy."""
    x = np.asarray(x, dtype=np.float64)
    if rate == 1:
        return np.zeros_like(x)
    return np.where(mask, x / (1 - rate), 0.0)


def philox4x32_10(counter, key):
    """Random123's Philox4x32-10: counters (..., 4) and keys (..., 2) to (..., 4) uint32."""
    low = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    c0, c1, c2, c3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint64), -1, 0)
    for _ in range(10):
        first = np.uint64(0xD2511F53) * c0
        second = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (second >> half) ^ c1 ^ k0,
            second & low,
            (first >> half) ^ c3 ^ k1,
            first & low,
        )
        k0 = (k0 + np.uint64(0x9E3779B9)) & low
        k1 = (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack(np.broadcast_arrays(c0, c1, c2, c3), axis=-1).astype(np.uint32)
