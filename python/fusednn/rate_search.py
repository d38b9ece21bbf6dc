# SPDX-License-Identifier: Apache-2.0
"""The search for a learning rate: a short training while the rate grows, and its plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.errors import check_integer, check_number, helpful_keywords
from fusednn.streamed import Streamed

_SMOOTHING = 0.9  # share of the past in the running mean of the loss
_TOO_HIGH = 4.0  # times the least loss: the search ends there


@dataclass(frozen=True)
class RateSearch:
    """What `find_learning_rate` found.

    Attributes
    ----------
    rates, losses : ndarray of shape (steps,)
        The rate of each step, and the loss before its update.
    """

    rates: np.ndarray
    losses: np.ndarray

    @property
    def smoothed(self) -> np.ndarray:
        """The running mean of the losses."""
        mean, found = 0.0, []
        for step, loss in enumerate(self.losses, 1):
            mean = _SMOOTHING * mean + (1 - _SMOOTHING) * loss
            found.append(mean / (1 - _SMOOTHING**step))
        return np.array(found)

    @property
    def suggestion(self) -> float:
        """The rate at which the smoothed loss falls fastest, per factor of the rate.

        It is looked for up to the least loss, and over so many steps that batches do not matter.
        """
        smoothed = self.smoothed
        end = max(int(np.argmin(smoothed)), 1)
        reach = max(end // 8, 1)
        falls = smoothed[: end + 1 - reach] - smoothed[reach : end + 1]
        falls[: len(falls) // 4] = -math.inf  # the running mean is of few steps yet
        return float(self.rates[int(np.argmax(falls)) + reach // 2])

    def plot(self, ax: Any = None) -> Any:
        """Return a matplotlib Figure of the loss over the rate, with the suggestion marked."""
        from fusednn.plotting.canvas import new_figure, tidy

        figure = ax.figure if ax is not None else new_figure(5.0, 3.2)
        ax = ax if ax is not None else figure.subplots()
        ax.plot(self.rates, self.losses, color="0.8", linewidth=1)
        ax.plot(self.rates, self.smoothed, linewidth=1.6)
        ax.axvline(self.suggestion, color="0.3", linestyle=":", linewidth=1)
        ax.set_xscale("log")
        low, high = self.smoothed.min(), self.smoothed[0]
        ax.set_ylim(low - 0.1 * (high - low), high + 0.6 * (high - low))
        ax.set_xlabel("learning rate")
        ax.set_ylabel("loss")
        ax.set_title(f"suggested: {self.suggestion:.1e}")
        tidy(ax)
        return figure


class Searching(Streamed):
    """A network that can try out learning rates."""

    @helpful_keywords
    def find_learning_rate(
        self,
        x: object,
        y: object,
        low: float = 1e-6,
        high: float = 10.0,
        steps: int = 200,
        batch_size: int = 32,
        sample_weight: object = None,
    ) -> RateSearch:
        """Train for a few steps while the learning rate grows, then put everything back.

        The loss falls while the rate is good and explodes where it is too high, which ends the
        search. (Smith, "Cyclical learning rates", 2017.) Weights, optimizer and shuffles are
        afterwards as before.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`; they are gone through as often as needed.
        low, high : float
            The first rate and the last, with equal factors between them.
        steps : int
            At least 10.
        batch_size : int

        Returns
        -------
        RateSearch
            With `rates`, `losses`, `suggestion` and ``plot()``.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> x = np.linspace(-1, 1, 64)
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)])
        >>> model.compile("sgd", "mse", seed=0)
        >>> search = model.find_learning_rate(x, 2 * x + 1, batch_size=8)
        >>> 1e-3 < search.suggestion < 1
        True
        """
        objective = self._require_objective("find_learning_rate")
        low = check_number("low", low, 0, open_low=True)
        high = check_number("high", high, 0, open_low=True)
        if high <= low:
            raise ValueError(f"high={high:g} must be greater than low={low:g}")
        steps = check_integer("steps", steps, 10)
        batch_size = check_integer("batch_size", batch_size, 1)
        if objective.optimizer.get_config()["gradient_accumulation_steps"]:
            raise ValueError("find_learning_rate() needs an update at every step")
        forget = self._build_for(x)
        try:
            data = self._prepare(x, y, sample_weight)
            engine = self._use_engine()
        except BaseException:
            forget()
            raise

        passes = math.ceil(steps * batch_size / data.rows)
        orders = [_core.shuffled(data.rows, self.seed, k) for k in range(passes)]
        batches = data.take(np.concatenate(orders)[: steps * batch_size])
        rates = np.geomspace(low, high, steps)
        losses: list[float] = []
        before = 0.0

        def look(report: dict[str, Any]) -> bool:
            nonlocal before
            if report["steps"] == len(losses):  # long steps look up in between
                return True
            total = objective.logs(report, batches.mean_weight)["loss"] * report["rows"]
            losses.append((total - before) / batch_size)
            before = total
            return math.isfinite(losses[-1]) and losses[-1] < _TOO_HIGH * max(losses[0], 1e-12)

        put_back = _remember(engine)
        self._runs = True
        try:
            engine.train(
                batches.inputs, batches.targets, batches.weight, batch_size,
                watcher=look, interval=0.0, schedules={"lr": rates},
            )  # fmt: skip
        finally:
            self._rest()
            put_back()
        while losses and not math.isfinite(losses[-1]):
            losses.pop()
        if len(losses) < 2:
            raise ValueError(f"the loss explodes at once; begin below low={low:g}")
        return RateSearch(rates[: len(losses)], np.array(losses))


def _remember(engine: Any) -> Any:
    """Return what puts parameters and optimizer back to where they are now."""

    def arrays() -> list[np.ndarray]:
        values: list[np.ndarray] = [p["value"] for p in engine.parameters()]
        slots: Sequence[Any] = [slot["values"] for slot in engine.optimizer_states()]
        for slot in (*slots, engine.ema() or []):
            values += slot
        return values

    copies = [np.array(value) for value in arrays()]
    counts = engine.training_steps, engine.optimizer_steps, list(engine.optimizer_memory)
    rate = engine.hyper("lr")

    def put_back() -> None:
        for value, copy in zip(arrays(), copies, strict=True):
            value[...] = copy
        engine.training_steps, engine.optimizer_steps, engine.optimizer_memory = counts
        engine.set_hyper("lr", rate)

    return put_back
