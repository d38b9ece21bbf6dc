# SPDX-License-Identifier: Apache-2.0
"""Training batch by batch: epochs, when to stop, and who is told."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fusednn import _core
from fusednn.callbacks import BackupAndRestore, CallbackList, LayerStatistics, ModelCheckpoint
from fusednn.sklearn.compat import CALLER, Observers
from fusednn.sklearn.engine import Engine, Penalty, Samples
from fusednn.sklearn.optimizer import Optimizer

_FOR_MODELS = (BackupAndRestore, LayerStatistics, ModelCheckpoint)


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

    def _named_parameters(self) -> dict[str, np.ndarray]:
        return self.estimator._engine.named_parameters()

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
            stacklevel=CALLER + 1,
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
        lowest = -estimator.best_validation_score_ if self.early_stopping else estimator.best_loss_
        self.plateau = _core.Plateau(
            estimator.tol, estimator.n_iter_no_change, lowest, estimator._no_improvement_count
        )

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
        for callback in hooks.callbacks:
            if isinstance(callback, _FOR_MODELS):
                raise TypeError(
                    f"callbacks: {type(callback).__name__} is for Model.fit; an estimator is saved "
                    "with pickle, and early_stopping=True gives it its best weights"
                )
        verbose = estimator.verbose
        steps = math.ceil(rows / batch_size)
        params = {"epochs": epochs, "steps": steps, "verbose": int(verbose)}
        progress = hooks.bar(0, epochs, rows)  # `verbose` has scikit-learn's meaning
        hooks.begin(self.view, params)  # type: ignore[arg-type]
        self.engine.use(self.optimizer, Penalty(float(estimator.alpha), float(estimator.l1)))
        estimator.n_iter_ = 0
        logs: dict[str, float] = {}
        orders = None
        if estimator.shuffle:
            # With a seed the generator is this fit's own.
            shared = not isinstance(estimator.random_state, Integral)
            orders = _core.Orders(rows, random_state._bit_generator, shared)
        ahead = not hooks.callbacks and self._alone()
        train = self._train_ahead if ahead else self._train_one
        try:
            while estimator.n_iter_ < epochs:
                hooks.epoch_begin(estimator.n_iter_)
                progress.begin(estimator.n_iter_)
                self.observers.epoch_begin()
                losses: list[float] = []
                stops = False
                try:
                    train(orders, epochs - estimator.n_iter_, batch_size, losses)
                finally:
                    if losses:
                        logs = self._note(losses)
                        hooks.epoch_end(estimator.n_iter_ - 1, logs)
                        progress.end(logs)
                        estimator._note_epochs(logs, losses)
                        stops = self._stops()
                stops |= self.observers.epoch_end(estimator._snapshot)
                if stops or self.view.stop_training:
                    break
                if limited and estimator.n_iter_ == epochs:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the "
                        "optimization hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=CALLER,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=CALLER)
        hooks.end(logs)
        if self.best is not None:
            self.view.set_weights(self.best)
        self.observers.end(estimator._snapshot)

    def _alone(self) -> bool:
        """Whether nothing but the loss of an epoch bears on the next one."""
        return (
            self.validation is None
            and not self.observers.present
            and not self.estimator.verbose
            and self.train.weight is None
            and isinstance(self.train.X, np.ndarray)
            and self.optimizer.schedule != "invscaling"
            and self.optimizer.rates is None
        )

    def _train_one(
        self, orders: _core.Orders | None, epochs: int, batch_size: int, losses: list[float]
    ) -> None:
        """Train for one epoch, whose loss is appended."""
        order = None if orders is None else orders.draw()
        losses.append(self.engine.epoch(self.train, order, batch_size) / self.train.rows)
        if not self.early_stopping:
            self.plateau.note(losses[-1])

    def _train_ahead(
        self, orders: _core.Orders | None, epochs: int, batch_size: int, losses: list[float]
    ) -> None:
        """Train for so many epochs, or until the loss no longer falls, in one call."""
        self.engine.epochs(self.train, orders, epochs, batch_size, self.plateau, losses)

    def _note(self, losses: list[float]) -> dict[str, float]:
        """Write down what epochs have brought, and return what is told of the last."""
        estimator = self.estimator
        estimator.n_iter_ += len(losses)
        estimator.t_ += self.train.rows * len(losses)
        estimator.loss_ = losses[-1]
        estimator.loss_curve_ += losses
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        logs = {"loss": estimator.loss_}
        if self.validation is not None:
            logs["val_loss"] = self.engine.loss(self.validation.samples)
            outputs = self.engine.outputs(self.validation.samples.X)
            finite = bool(np.isfinite(outputs).all())
            logs["val_score"] = self.validation.score(outputs) if finite else math.nan
        logs["learning_rate"] = self.optimizer.learning_rate
        return logs

    def _stops(self) -> bool:
        """Whether the loss, or the score on other data, has not improved for long enough."""
        estimator, plateau = self.estimator, self.plateau
        if self.early_stopping:
            score = estimator.validation_scores_[-1]
            if estimator.verbose:
                print(f"Validation score: {score:f}")
            if score > estimator.best_validation_score_:
                estimator.best_validation_score_ = score
                self.best = self.view.get_weights()
            plateau.note(-score)
        else:
            estimator.best_loss_ = plateau.best
        estimator._no_improvement_count = plateau.stalls

        self.optimizer.iteration_ends(estimator.t_)
        if not plateau.reached:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} for "
            f"{estimator.n_iter_no_change:.0f} consecutive epochs."
        )
        if self.optimizer.gives_up(message, bool(estimator.verbose)):
            return True
        estimator._no_improvement_count = plateau.stalls = 0
        return False
