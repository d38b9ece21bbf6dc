# SPDX-License-Identifier: Apache-2.0
"""Products with their bias and activation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusednn import _core

Array = Any  # see the docstring of fusednn.ops


@dataclass(frozen=True)
class DenseContext:
    """What `dense_backward` needs of a forward pass. It refers to the arrays, it copies none."""

    x: Array
    w: Array
    saved: Array = field(repr=False)
    has_bias: bool
    activation: str
    hyper: Mapping[str, float]
    precision: str | None = None


def dense_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    activation: str = "linear",
    *,
    out: Array | None = None,
    return_context: bool = False,
    precision: str | None = None,
    **hyper: float,
) -> Any:
    """Return ``y = f(x @ w + b)``, bias and activation applied as the product is stored.

    Parameters
    ----------
    x : array of shape (..., inputs), with at least one input
    w : array of shape (inputs, units)
    b : array of shape (units,), optional
    activation : str
        An elementwise activation, "softmax" or "log_softmax".
    out : array of shape (..., units), optional
        Where y goes.
    return_context : bool
        Return also what `dense_backward` needs. The arrays must not change until then.
    precision : {"float32", "float64", "bfloat16", "float16"}, optional
        That of the product; by default that of the arrays. With "bfloat16" x and w are float32, are
        rounded to bfloat16 (to nearest even; subnormal numbers to zero) as they are multiplied, and
        summed in float32. So are the operands of `dense_backward`, but not those of db. "float16",
        on a CUDA device alone, is another rounding of x and w here, and bfloat16 in
        `dense_backward`.
    **hyper : float
        Hyper-parameters of the activation.

    Returns
    -------
    y : array of shape (..., units)
    context : DenseContext
        Only with `return_context`.

    Examples
    --------
    >>> from fusednn import ops
    >>> ops.dense_forward([[1.0, 2.0]], [[1.0], [-1.0]], [0.5], "relu")
    array([[0.]])
    """
    y, saved = _core.dense_forward(x, w, b, activation, hyper, return_context, out, precision)
    if not return_context:
        return y
    return y, DenseContext(x, w, saved, b is not None, activation, hyper, precision)


def dense_backward(dy: Array, context: DenseContext) -> tuple[Array, Array, Array | None]:
    """Return the gradients of ``sum(dy * y)`` for ``y, context = dense_forward(...)``.

    With ``dz = dy * f'(x @ w + b)``: ``dx = dz @ w.T``, ``dw = x.T @ dz``, ``db = sum(dz)`` over
    all axes but the last.

    Parameters
    ----------
    dy : array of shape (..., units)
    context : DenseContext

    Returns
    -------
    dx : array like x
    dw : array like w
    db : array of shape (units,)
        None if there was no bias.

    Examples
    --------
    >>> from fusednn import ops
    >>> y, context = ops.dense_forward([[1.0, 2.0]], [[3.0], [4.0]], return_context=True)
    >>> dx, dw, db = ops.dense_backward([[1.0]], context)
    >>> dx.tolist(), dw.tolist(), db
    ([[3.0, 4.0]], [[1.0], [2.0]], None)
    """
    if not isinstance(context, DenseContext):
        raise TypeError(
            "context must be what dense_forward(..., return_context=True) returned, got "
            f"{type(context).__name__}"
        )
    c = context
    dx, dw, db = _core.dense_backward(
        dy, c.x, c.w, c.saved, c.activation, dict(c.hyper), c.precision
    )
    return dx, dw, db if c.has_bias else None
