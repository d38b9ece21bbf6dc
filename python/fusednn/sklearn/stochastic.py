# SPDX-License-Identifier: Apache-2.0
"""Training batch by batch: epochs, when to stop, and who is told."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fusednn.callbacks import CallbackList
from fusednn.sklearn.compat import Observers
from fusednn.sklearn.engine import Engine, Penalty, Samples
from fusednn.sklearn.optimizer import Optimizer


@dataclass
class Validation:
    """Samples that are not trained on, and their score for given outputs."""

    samples: Samples
    score: Callable[[np.ndarray], float]


class TrainingView:
    """What callbacks see as their `model`: weights, learning rate, and the switch to stop.

    Attributes
    ----------
    stop_training : bool
    estimator : MLPClassifier or MLPRegressor
    """

    def __init__(self, estimator: Any, optimizer: Optimizer) -> None:
        self.estimator = estimator
        self.optimizer = optimizer
        self.stop_training = False

    def get_weights(self) -> list[np.ndarray]:
        """Return copies of all weights."""
        return [array.copy() for array in self._arrays()]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        """Replace all weights."""
        for own, given in zip(self._arrays(), weights, strict=True):
            own[...] = given

    def _arrays(self) -> list[np.ndarray]:
        weights = self.estimator._engine.weights
        return [*weights.coefs, *weights.intercepts, *(a for norm in weights.norms for a in norm)]


def batch_size_of(estimator: Any, n: int) -> int:
    """Return how many of n rows go into a step."""
    if estimator.batch_size == "auto":
        return min(200, n)
    if estimator.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
            stacklevel=5,
        )
    return int(min(max(estimator.batch_size, 1), n))


class StochasticFit:
    """The epochs of one call of fit or partial_fit.

    The estimator's fitted attributes are those of scikit-learn, kept up to date epoch by epoch, so
    that they are right whenever the user interrupts.
    """

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        optimizer: Optimizer,
        train: Samples,
        validation: Validation | None,
        observers: Observers,
    ) -> None:
        self.estimator = estimator
        self.engine = engine
        self.optimizer = optimizer
        self.train = train
        self.validation = validation
        self.observers = observers
        self.early_stopping = bool(estimator.early_stopping)
        self.view = TrainingView(estimator, optimizer)
        # Of the best epoch so far; where no score is ever better, of the beginning.
        self.best = self.view.get_weights() if self.early_stopping else None

    def run(self, epochs: int, random_state: np.random.RandomState, limited: bool) -> None:
        """Train for at most so many epochs; `limited` warns where they were too few."""
        estimator, rows = self.estimator, self.train.rows
        batch_size = batch_size_of(estimator, rows)
        hooks = CallbackList(estimator.callbacks)
        if steppers := hooks.steppers("train"):
            raise ValueError(
                "callbacks: an epoch is one native call here, so no callback can see its batches; "
                f"got {type(steppers[0]).__name__}, which wants to"
            )
        verbose = estimator.verbose
        steps = math.ceil(rows / batch_size)
        params = {"epochs": epochs, "steps": steps, "verbose": int(verbose)}
        hooks.begin(self.view, params)  # type: ignore[arg-type]
        self.engine.use(self.optimizer, Penalty(float(estimator.alpha), float(estimator.l1)))
        order = np.arange(rows)
        estimator.n_iter_ = 0
        logs: dict[str, float] = {}
        try:
            for epoch in range(epochs):
                hooks.epoch_begin(epoch)
                self.observers.epoch_begin()
                if estimator.shuffle:
                    # The numbers scikit-learn draws, so the same seed gives the same batches.
                    places = np.arange(rows)
                    random_state.shuffle(places)
                    order = order[places]
                total = self.engine.epoch(
                    self.train, order if estimator.shuffle else None, batch_size
                )
                logs = self._note(total / rows)
                hooks.epoch_end(epoch, logs)
                estimator._note_epoch(logs)
                stops = self._stops()
                stops |= self.observers.epoch_end(estimator._snapshot)
                if stops or self.view.stop_training:
                    break
                if limited and estimator.n_iter_ == epochs:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the "
                        "optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=5,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        hooks.end(logs)
        if self.best is not None:
            self.view.set_weights(self.best)
        self.observers.end(estimator._snapshot)

    def _note(self, loss: float) -> dict[str, float]:
        """Write down what an epoch has brought."""
        estimator = self.estimator
        estimator.n_iter_ += 1
        estimator.t_ += self.train.rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        logs = {"loss": loss}
        if self.validation is not None:
            logs["val_loss"] = self.engine.loss(self.validation.samples)
            outputs = self.engine.outputs(self.validation.samples.X)
            finite = bool(np.isfinite(outputs).all())
            logs["val_score"] = self.validation.score(outputs) if finite else math.nan
        logs["learning_rate"] = self.optimizer.learning_rate
        return logs

    def _stops(self) -> bool:
        """Whether the loss, or the score on other data, has not improved for long enough."""
        estimator, tol = self.estimator, self.estimator.tol
        if self.early_stopping:
            score = estimator.validation_scores_[-1]
            if estimator.verbose:
                print(f"Validation score: {score:f}")
            stalls = score < estimator.best_validation_score_ + tol
            if score > estimator.best_validation_score_:
                estimator.best_validation_score_ = score
                self.best = self.view.get_weights()
        else:
            stalls = estimator.loss_ > estimator.best_loss_ - tol
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if stalls else 0

        self.optimizer.iteration_ends(estimator.t_)
        if estimator._no_improvement_count <= estimator.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={tol:f} for "
            f"{estimator.n_iter_no_change:.0f} consecutive epochs."
        )
        if self.optimizer.gives_up(message, bool(estimator.verbose)):
            return True
        estimator._no_improvement_count = 0
        return False
