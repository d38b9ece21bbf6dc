# SPDX-License-Identifier: Apache-2.0
"""What is minimised: losses in scikit-learn's words and scale, translated for the engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusednn.graph import Head
from fusednn.losses import Loss

REGRESSION_LOSSES = (
    "squared_error",
    "poisson",
    "absolute_error",
    "huber",
    "log_cosh",
    "quantile",
)
CLASSIFICATION_LOSSES = ("auto", "log_loss", "hinge", "squared_hinge")


@dataclass(frozen=True)
class Objective:
    """A loss of the output layer.

    scikit-learn reports a mean over the outputs for one loss and a sum for another, and follows the
    gradient of the sum in any case; the engine takes the mean over the outputs of a row. Two
    factors make up for that.

    Attributes
    ----------
    rule : str
        The engine's.
    parameters : mapping
        Of the rule.
    out_activation : str
        scikit-learn's name of what turns the last layer's values into predictions.
    labels : bool
        Whether targets are class numbers.
    signs : bool
        Whether targets are -1 and 1.
    followed : float
        Factor of the rule's value in what the steps minimise.
    reported : float
        Factor of the rule's value in `loss_`.
    """

    rule: str
    out_activation: str
    labels: bool = False
    signs: bool = False
    followed: float = 1.0
    reported: float = 1.0
    parameters: Mapping[str, float] = field(default_factory=dict)

    def targets(self, y: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return targets as the engine takes them, from a matrix of one column per output."""
        if self.labels:
            return np.ascontiguousarray(y.argmax(axis=1), dtype=np.int32)
        values = np.ascontiguousarray(y, dtype=dtype)
        return values * 2 - 1 if self.signs else values

    def constant(self, targets: np.ndarray) -> np.ndarray | None:
        """Return what the rule leaves out of the loss of each row, or None."""
        if self.rule != "poisson_log":
            return None
        logs = np.log(targets, out=np.zeros_like(targets), where=targets > 0)
        return (targets * logs - targets).sum(axis=1)

    def criterion(self, node: str) -> dict[str, Any]:
        """Return the loss as the engine's network takes it."""
        return {
            "rule": self.rule,
            "node": node,
            "parameters": dict(self.parameters),
            "target": 0,
            "labels": self.labels,
            "weight": self.followed,
        }


def for_classes(loss: str, n_outputs: int, exclusive: bool) -> Objective:
    """Return the objective of a classifier.

    `exclusive` says that exactly one of the outputs is right; otherwise each is a question of its
    own, answered with yes or no.
    """
    if loss in ("auto", "log_loss"):
        if exclusive:
            return Objective("softmax_cross_entropy", "softmax", labels=True)
        rule = "binary_cross_entropy_logits"
        return Objective(rule, "logistic", followed=n_outputs, reported=n_outputs)
    return Objective(loss, "identity", signs=True, followed=n_outputs, reported=n_outputs)


def for_values(loss: str | Loss, n_outputs: int) -> Objective:
    """Return the objective of a regressor."""
    if isinstance(loss, Loss):
        head = Head("output", (n_outputs,), "output", "linear", "output")
        rule, _, parameters = loss.resolve(head)
        if loss.labels or loss.signs or rule == "poisson":
            raise ValueError(
                f"loss={loss!r} is not for MLPRegressor; it takes other objects of fusednn.losses, "
                f"or {', '.join(REGRESSION_LOSSES)} by name"
            )
        return Objective(rule, "identity", followed=n_outputs, parameters=parameters)
    if loss == "squared_error":  # half of it
        return Objective("mse", "identity", followed=n_outputs / 2, reported=0.5)
    if loss == "poisson":
        return Objective("poisson_log", "exp", followed=n_outputs, reported=n_outputs)
    rule = "mae" if loss == "absolute_error" else loss
    return Objective(rule, "identity", followed=n_outputs)
