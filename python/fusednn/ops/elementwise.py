# SPDX-License-Identifier: Apache-2.0
"""Elementary functions, activations, softmax and dropout."""

from __future__ import annotations

from typing import Any

from fusednn import _core

Array = Any  # see the docstring of fusednn.ops


def elementary(name: str, x: Array, *, out: Array | None = None) -> Array:
    """Return ``y[i] = f(x[i])`` for an elementary function f.

    Parameters
    ----------
    name : {"exp", "log", "log1p", "expm1", "tanh", "erf", "sqrt"}
    x : array of any shape
    out : array like x, optional
        Where y goes; may be x itself.

    Returns
    -------
    y : array like x

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.elementary("sqrt", [1.0, 4.0, 9.0])
    array([1., 2., 3.])
    """
    return _core.elementary(name, x, out)


def activation_forward(x: Array, name: str, *, out: Array | None = None, **hyper: float) -> Array:
    """Return ``y[i] = f(x[i])`` for an activation f.

    Parameters
    ----------
    x : array of any shape
    name : str
        See ``fusednn.activations``: "relu", "leaky_relu", "gelu", "tanh", ...
    out : array like x, optional
        Where y goes; may be x itself.
    **hyper : float
        Hyper-parameters of the activation, such as ``negative_slope`` of "leaky_relu".

    Returns
    -------
    y : array like x

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.activation_forward([-2.0, 3.0], "leaky_relu", negative_slope=0.5)
    array([-1.,  3.])
    """
    return _core.activation_forward(name, hyper, x, out)


def activation_backward(
    dy: Array,
    x: Array,
    name: str,
    *,
    y: Array | None = None,
    out: Array | None = None,
    **hyper: float,
) -> Array:
    """Return ``dx[i] = dy[i] * f'(x[i])`` for an activation f.

    Parameters
    ----------
    dy : array like x
        Gradient at the output of the activation.
    x : array of any shape
        Input of the activation.
    name : str
    y : array like x, optional
        Output of the activation, where it is at hand. Activations whose derivative follows from
        it, such as tanh with ``1 - y**2``, then need not compute it again; others ignore it.
    out : array like x, optional
        Where dx goes; may be dy, x or y.
    **hyper : float
        As for `activation_forward`.

    Returns
    -------
    dx : array like x

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.activation_backward([1.0, 1.0], [-2.0, 3.0], "relu")
    array([0., 1.])
    """
    return _core.activation_backward(name, hyper, dy, x, out, y)


def dropout(
    x: Array, rate: float, seed: int, *, step: int = 0, stream: int = 0, out: Array | None = None
) -> Array:
    """Return ``y[i] = x[i] / (1 - rate)`` where the mask keeps element i, else 0.

    The mask is a function of seed, step, stream and i alone, the same on every device and for any
    number of threads. So the backward pass is the same call with the gradient in place of x.

    Parameters
    ----------
    x : array of any shape
    rate : float in [0, 1)
        Probability of becoming zero.
    seed, step : int in [0, 2**64)
    stream : int in [0, 2**32)
        Sets the masks of several layers apart.
    out : array like x, optional
        Where y goes; may be x itself.

    Returns
    -------
    y : array like x

    Examples
    --------
    >>> from fusednn import ops
    >>> sorted(set(ops.dropout([1.0] * 100, 0.5, seed=7).tolist()))
    [0.0, 2.0]
    """
    return _core.dropout(x, rate, seed, step, stream, out)


def softmax(x: Array, *, out: Array | None = None) -> Array:
    """Return ``y = exp(x) / sum(exp(x))`` along the last axis.

    Parameters
    ----------
    x : array of shape (..., classes)
    out : array like x, optional
        Where y goes; may be x itself.

    Returns
    -------
    y : array like x

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.softmax([[0.0, 0.0], [1000.0, 0.0]])
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return _core.softmax(x, out)


def log_softmax(x: Array, *, out: Array | None = None) -> Array:
    """Return ``y = x - log(sum(exp(x)))`` along the last axis.

    Parameters, returns: as for `softmax`.

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    return _core.softmax(x, out, log=True)


def softmax_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Return ``dx = y * (dy - sum(y * dy))`` along the last axis.

    Parameters
    ----------
    dy : array of shape (..., classes)
        Gradient at the output.
    y : array like dy
        The output of `softmax`.
    out : array like dy, optional
        Where dx goes; may be dy itself.

    Returns
    -------
    dx : array like dy

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.softmax_backward([1.0, 0.0], [0.5, 0.5])
    array([ 0.25, -0.25])
    """
    return _core.softmax_backward(dy, y, out)


def log_softmax_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    """Return ``dx = dy - exp(y) * sum(dy)`` along the last axis.

    Parameters, returns: as for `softmax_backward`, with y the output of `log_softmax`.

    Examples
    --------
    >>> import numpy as np
    >>> from fusednn import ops
    >>> ops.log_softmax_backward([1.0, 0.0], np.log([0.5, 0.5]))
    array([ 0.5, -0.5])
    """
    return _core.softmax_backward(dy, y, out, log=True)
