# SPDX-License-Identifier: Apache-2.0
"""Confusion matrix and ROC curve: the numbers and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fusednn import metrics
from fusednn.arrays import to_numbers
from fusednn.plotting.canvas import new_figure, tidy


def _classes(argument: str, given: Any) -> np.ndarray:
    """Return class numbers, of class numbers, one-hot rows, probabilities or logits."""
    array = to_numbers(argument, given)
    if array.ndim == 2 and array.shape[1] > 1:
        return array.argmax(axis=1)
    flat = array.reshape(len(array)) if array.ndim <= 2 else array
    if flat.ndim != 1:
        raise ValueError(f"{argument} must have one or two axes, got shape {array.shape}")
    if flat.dtype.kind == "f" and not (flat == np.floor(flat)).all():
        return (flat > 0.5).astype(np.int64)
    return flat.astype(np.int64)


def confusion_matrix(y_true: Any, y_pred: Any, classes: int | None = None) -> np.ndarray:
    """Return how often each class (row) was taken for each class (column).

    Parameters
    ----------
    y_true, y_pred : arrays
        Class numbers, or a column per class of which the greatest counts, or one column of
        probabilities of class 1.
    classes : int, optional
        How many there are; default as many as occur.

    Returns
    -------
    ndarray of int64, shape (classes, classes)

    Examples
    --------
    >>> from fusednn import plotting
    >>> plotting.confusion_matrix([0, 0, 1], [0, 1, 1]).tolist()
    [[1, 1], [0, 1]]
    """
    true, predicted = _classes("y_true", y_true), _classes("y_pred", y_pred)
    if true.shape != predicted.shape:
        raise ValueError(f"y_true has {len(true)} samples, y_pred {len(predicted)}")
    if not len(true):
        raise ValueError("y_true is empty")
    lowest, highest = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    size = int(highest) + 1 if classes is None else classes
    if lowest < 0 or highest >= size:
        raise ValueError(f"class numbers must lie in [0, {size}), got {lowest} to {highest}")
    return metrics.confusion_matrix(true, predicted, size)


def plot_confusion_matrix(
    y_true: Any, y_pred: Any, names: Sequence[str] | None = None, normalize: bool = False
) -> Any:
    """Draw the confusion matrix.

    Parameters
    ----------
    y_true, y_pred : arrays
        See `confusion_matrix`.
    names : list of str, optional
        Of the classes.
    normalize : bool
        Whether to give shares of each row instead of numbers.

    Examples
    --------
    >>> from fusednn import plotting
    >>> figure = plotting.plot_confusion_matrix([0, 0, 1], [0, 1, 1])  # doctest: +SKIP
    """
    counts = confusion_matrix(y_true, y_pred, None if names is None else len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(counts)
    figure = new_figure(1.8 + 0.45 * size, 1.5 + 0.45 * size)
    ax = figure.subplots()
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            text = f"{shares[row, column]:.2f}" if normalize else f"{counts[row, column]}"
            color = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    labels = [str(i) for i in range(size)] if names is None else list(names)
    ax.set_xticks(range(size), labels, rotation=45 if names is not None else 0, ha="right")
    ax.set_yticks(range(size), labels)
    if names is None:
        ax.set_xticks(range(size), labels, ha="center")
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return figure


class RocCurve(NamedTuple):
    """Rates at falling thresholds, and the area under the curve."""

    false_positive: np.ndarray
    true_positive: np.ndarray
    thresholds: np.ndarray
    area: float


def roc_curve(y_true: Any, scores: Any) -> RocCurve:
    """Return the receiver operating characteristic of scores for two classes.

    Parameters
    ----------
    y_true : array of 0 and 1, shape (samples,)
    scores : array, shape (samples,)
        The greater, the more likely class 1.

    Returns
    -------
    RocCurve
        One point per distinct score, after (0, 0) at the threshold infinity; area by trapezoids.

    Examples
    --------
    >>> from fusednn import plotting
    >>> plotting.roc_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).area
    0.75
    """
    true = to_numbers("y_true", y_true).reshape(-1)
    values = to_numbers("scores", scores).reshape(-1).astype(np.float64)
    if true.shape != values.shape:
        raise ValueError(f"y_true has {len(true)} samples, scores {len(values)}")
    if not np.isin(true, (0, 1)).all() or len(np.unique(true)) < 2:
        raise ValueError("y_true must hold both 0 and 1, and nothing else")
    if np.isnan(values).any():
        raise ValueError("scores has NaN")
    order = np.argsort(-values, kind="stable")
    true, values = true[order].astype(bool), values[order]
    last = np.flatnonzero(np.append(np.diff(values) != 0, True))  # of each run of equal scores
    hits = np.concatenate([[0], np.cumsum(true)[last]])
    alarms = np.concatenate([[0], np.cumsum(~true)[last]])
    right, wrong = hits / hits[-1], alarms / alarms[-1]
    area = float(((right[1:] + right[:-1]) / 2 * np.diff(wrong)).sum())
    return RocCurve(wrong, right, np.concatenate([[np.inf], values[last]]), area)


def plot_roc(y_true: Any, scores: Any, names: Sequence[str] | None = None) -> Any:
    """Draw the ROC curve of two classes, or one curve per class against all others.

    Parameters
    ----------
    y_true : array of class numbers
    scores : array, shape (samples,) or (samples, classes)
    names : list of str, optional
        Of the classes.

    Examples
    --------
    >>> from fusednn import plotting
    >>> figure = plotting.plot_roc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])  # doctest: +SKIP
    """
    table = to_numbers("scores", scores)
    table = table.reshape(len(table), -1)
    columns = table.shape[1]
    true = _classes("y_true", y_true)
    figure = new_figure(4.4, 4.0)
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], color="0.7", linestyle=":")
    for column in range(columns):
        curve = roc_curve(true if columns == 1 else true == column, table[:, column])
        label = f"area {curve.area:.3f}"
        if columns > 1:
            label = f"{names[column] if names is not None else column}: {label}"
        ax.plot(curve.false_positive, curve.true_positive, label=label)
    ax.set_xlabel("false positive rate")
    ax.set_ylabel("true positive rate")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    tidy(ax)
    return figure
