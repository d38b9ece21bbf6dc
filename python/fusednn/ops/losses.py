# SPDX-License-Identifier: Apache-2.0
"""Value and gradient of a loss."""

from __future__ import annotations

from typing import Any

from fusednn import _core

Array = Any  # see the docstring of fusednn.ops


def loss(
    name: str,
    predictions: Array,
    targets: Array,
    *,
    reduction: str = "mean",
    sample_weight: Array | None = None,
    class_weight: Array | None = None,
    ignore_index: int | None = None,
    gradient: bool = True,
    out: Array | None = None,
    **hyper: float,
) -> tuple[Any, Array | None]:
    """Return the value of a loss and its gradient at the predictions, in one pass.

    The loss of a row is the mean over its outputs (for "kl_divergence" the sum), times its sample
    weight. "sum" adds the rows up, and "mean" divides that by the number of rows that are not
    ignored or, with class weights and integer targets, by the sum of the class weights of these
    rows, as PyTorch does. Sample weights do not change the divisor, as in Keras. When the divisor
    is zero the value is NaN and the gradient zero.

    Parameters
    ----------
    name : str
        See ``fusednn.losses``: "mse", "huber", "softmax_cross_entropy", ...
    predictions : array of shape (rows, outputs)
        Or (rows,), and for pointwise losses any shape that begins with the rows.
    targets : array like predictions
        For rowwise losses also integers of shape (rows,), the class of each row.
    reduction : {"mean", "sum", "none"}
        "none" returns the values of the rows, with the gradient of their sum.
    sample_weight : array of shape (rows,), optional
    class_weight : array of shape (outputs,), optional
        Only for cross-entropies over classes.
    ignore_index : int, optional
        Rows with this label count for nothing.
    gradient : bool
        False: the value alone.
    out : array like predictions, optional
        Where the gradient goes; may be the predictions themselves.
    **hyper : float
        Hyper-parameters of the loss, such as ``delta`` of "huber" or ``label_smoothing``.

    Returns
    -------
    value : float, or array of shape (rows,) without reduction
    gradient : array like predictions, or None

    Examples
    --------
    >>> from fusednn import ops
    >>> value, gradient = ops.loss("mse", [2.5, 5.25], [3.0, 5.0])
    >>> value, gradient.tolist()
    (0.15625, [-0.5, 0.25])
    >>> value, gradient = ops.loss("softmax_cross_entropy", [[0.0, 0.0]], [1])
    >>> gradient.tolist()
    [[0.5, -0.5]]
    """
    return _core.loss(
        name,
        hyper,
        predictions,
        targets,
        reduction,
        sample_weight,
        class_weight,
        ignore_index,
        gradient,
        out,
    )
