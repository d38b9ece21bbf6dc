# SPDX-License-Identifier: Apache-2.0
"""Training batch by batch: epochs, when to stop, and who is told."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from fusednn import _core
from fusednn.callbacks import CallbackList
from fusednn.sklearn.compat import Observers
from fusednn.sklearn.engine import Engine, Penalty, Plateau, Samples
from fusednn.sklearn.optimizer import Optimizer

# Epochs that are trained in one call: at first as many as read so many weights, which takes a few
# milliseconds, then more while a call takes less than so many seconds; in any case their orders
# have no more than so many numbers.
_FIRST_WEIGHTS = 2e8
_LONG = 0.025
_ORDERS = 1 << 20


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
            stacklevel=6,
        )
    return int(min(max(estimator.batch_size, 1), n))


class Orders:
    """The order of the rows in one epoch after another.

    Parameters
    ----------
    rows : int
    random_state : RandomState or None
        What shuffles them; None leaves them as they lie. The numbers are those scikit-learn draws,
        so the same seed gives the same batches.
    goes_on : bool
        Whether more may be drawn from `random_state` after the orders that are kept, by this object
        or by somebody else. To remember what it was before a draw takes as long as some orders.
    """

    def __init__(
        self, rows: int, random_state: np.random.RandomState | None, goes_on: bool = True
    ) -> None:
        self._random_state = random_state
        self._goes_on = goes_on
        self._order = np.arange(rows, dtype=np.int64)

    def draw(self, n: int) -> np.ndarray | None:
        """Return the order of each of the next n epochs."""
        if self._random_state is None:
            return None
        if self._goes_on:
            self._before = n, self._order, self._random_state.get_state(legacy=False)
        generator = self._random_state._bit_generator
        with generator.lock:
            drawn = _core.shuffled_orders(generator.capsule, self._order, n)
        if n > 0:
            self._order = drawn[-1]
        return drawn

    def keep(self, n: int) -> None:
        """Be as if only the first n orders of the last draw had been drawn, where that matters."""
        if self._random_state is None or not self._goes_on or n == self._before[0]:
            return
        _, self._order, state = self._before
        self._random_state.set_state(state)
        self.draw(n)


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
        progress = hooks.bar(0, epochs, rows)  # `verbose` has scikit-learn's meaning
        hooks.begin(self.view, params)  # type: ignore[arg-type]
        self.engine.use(self.optimizer, Penalty(float(estimator.alpha), float(estimator.l1)))
        estimator.n_iter_ = 0
        logs: dict[str, float] = {}
        # With a seed the generator is this fit's own, and only "adaptive" goes on after a plateau.
        own = isinstance(estimator.random_state, Integral)
        goes_on = not own or self.optimizer.schedule == "adaptive"
        orders = Orders(rows, random_state if estimator.shuffle else None, goes_on)
        ahead = not hooks.callbacks and self._alone()
        losses = (self._ahead if ahead else self._one_by_one)(orders, epochs, batch_size)
        try:
            for epoch in range(epochs):
                hooks.epoch_begin(epoch)
                progress.begin(epoch)
                self.observers.epoch_begin()
                logs = self._note(next(losses))
                hooks.epoch_end(epoch, logs)
                progress.end(logs)
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
                        stacklevel=6,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=6)
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

    def _one_by_one(self, orders: Orders, epochs: int, batch_size: int) -> Iterator[float]:
        """Yield the loss of one epoch after another."""
        for _ in range(epochs):
            drawn = orders.draw(1)
            order = None if drawn is None else drawn[0]
            yield self.engine.epoch(self.train, order, batch_size) / self.train.rows

    def _ahead(self, orders: Orders, epochs: int, batch_size: int) -> Iterator[float]:
        """Yield the same losses, of epochs that were trained several in a call.

        The call ends where the estimator does, so no epoch too many is trained.
        """
        estimator = self.estimator
        weights = sum(kernel.size for kernel in self.engine.kernels)
        done, n = 0, max(int(_FIRST_WEIGHTS / (weights * self.train.rows)), 1)
        while done < epochs:
            n = min(n, epochs - done, max(_ORDERS // self.train.rows, 1))
            plateau = Plateau(
                estimator.tol,
                estimator.n_iter_no_change,
                estimator.best_loss_,
                estimator._no_improvement_count,
            )
            begin = time.perf_counter()
            interruption = None
            try:
                self.engine.epochs(self.train, orders.draw(n), n, batch_size, plateau)
            except KeyboardInterrupt as interrupt:
                interruption = interrupt
            long = time.perf_counter() - begin > _LONG
            orders.keep(len(plateau.losses))
            yield from plateau.losses
            if interruption is not None:
                raise interruption
            done += len(plateau.losses)
            n = n if long else 2 * n

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
