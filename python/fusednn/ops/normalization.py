# SPDX-License-Identifier: Apache-2.0
"""Batch and layer normalisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fusednn import _core

Array = Any  # see the docstring of fusednn.ops


@dataclass(frozen=True)
class NormContext:
    """What the backward pass of a normalisation needs of the forward pass."""

    x: Array
    gamma: Array | None
    mean: Array = field(repr=False)
    inverse_deviation: Array = field(repr=False)
    per_row: bool


def batch_norm_forward(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    running_mean: Array | None = None,
    running_variance: Array | None = None,
    *,
    training: bool = True,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, NormContext | None]:
    """Return ``y = gamma * (x - mean) / sqrt(variance + epsilon) + beta``, per column.

    Training takes mean and (biased) variance of the batch, and moves the running ones in place:
    ``running += momentum * (batch - running)``, with the unbiased variance, as PyTorch does.
    Inference takes the running ones.

    Parameters
    ----------
    x : array of shape (rows, columns) or (..., columns), not empty
    gamma, beta : arrays of shape (columns,), optional
        1 and 0 where missing.
    running_mean, running_variance : arrays of shape (columns,), optional
        Needed for inference; writable for training.
    training : bool
    momentum : float in [0, 1]
        Share of the new value. Keras' momentum is one minus this.
    epsilon : float > 0
    out : array like x, optional
        Where y goes; may be x itself in inference, and must not touch it in training.

    Returns
    -------
    y : array like x
    context : NormContext
        For `batch_norm_backward`; None in inference. It holds x, which must stay as it is.

    Examples
    --------
    >>> from fusednn import ops
    >>> y, context = ops.batch_norm_forward([[1.0], [3.0]], epsilon=1e-12)
    >>> y.round(6).tolist()
    [[-1.0], [1.0]]
    """
    y, mean, inverse_deviation = _core.batch_norm_forward(
        x, gamma, beta, running_mean, running_variance, training, momentum, epsilon, out
    )
    return y, NormContext(x, gamma, mean, inverse_deviation, False) if training else None


def layer_norm_forward(
    x: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    *,
    epsilon: float = 1e-5,
    out: Array | None = None,
) -> tuple[Array, NormContext]:
    """Return ``y = gamma * (x - mean) / sqrt(variance + epsilon) + beta``, per row.

    Parameters
    ----------
    x : array of shape (rows, columns) or (..., columns), not empty
    gamma, beta : arrays of shape (columns,), optional
        1 and 0 where missing.
    epsilon : float > 0
    out : array like x, optional
        Where y goes; must not touch x.

    Returns
    -------
    y : array like x
    context : NormContext
        For `layer_norm_backward`. It holds x, which must stay as it is.

    Examples
    --------
    >>> from fusednn import ops
    >>> y, context = ops.layer_norm_forward([[1.0, 3.0]], epsilon=1e-12)
    >>> y.round(6).tolist()
    [[-1.0, 1.0]]
    """
    y, mean, inverse_deviation = _core.layer_norm_forward(x, gamma, beta, epsilon, out)
    return y, NormContext(x, gamma, mean, inverse_deviation, True)


def _norm_backward(
    run: Any, dy: Array, context: NormContext | None, per_row: bool, out: Array | None
) -> tuple[Array, Array, Array]:
    if not isinstance(context, NormContext) or context.per_row != per_row:
        kind = "layer" if per_row else "batch"
        raise TypeError(
            f"context must be what {kind}_norm_forward returned in training, got "
            f"{type(context).__name__}"
        )
    dx, dgamma, dbeta = run(
        dy, context.x, context.gamma, context.mean, context.inverse_deviation, out
    )
    return dx, dgamma, dbeta


def batch_norm_backward(
    dy: Array, context: NormContext | None, *, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of ``sum(dy * y)`` for ``y, context = batch_norm_forward(...)``.

    Parameters
    ----------
    dy : array of shape (..., columns)
    context : NormContext
        Of a forward pass in training.
    out : array like dy, optional
        Where dx goes; may be dy itself.

    Returns
    -------
    dx : array like dy
    dgamma, dbeta : arrays of shape (columns,)

    Examples
    --------
    >>> from fusednn import ops
    >>> y, context = ops.batch_norm_forward([[1.0], [3.0]])
    >>> ops.batch_norm_backward([[1.0], [1.0]], context)[2]
    array([2.])
    """
    return _norm_backward(_core.batch_norm_backward, dy, context, False, out)


def layer_norm_backward(
    dy: Array, context: NormContext, *, out: Array | None = None
) -> tuple[Array, Array, Array]:
    """Return (dx, dgamma, dbeta) of ``sum(dy * y)`` for ``y, context = layer_norm_forward(...)``.

    Parameters, returns: as for `batch_norm_backward`.

    Examples
    --------
    >>> from fusednn import ops
    >>> y, context = ops.layer_norm_forward([[1.0, 3.0]])
    >>> ops.layer_norm_backward([[1.0, 0.0]], context)[2]
    array([1., 0.])
    """
    return _norm_backward(_core.layer_norm_backward, dy, context, True, out)
