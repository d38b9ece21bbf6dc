# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation on data that come piece by piece."""

from __future__ import annotations

import sys
from typing import Any

from fusednn import streaming
from fusednn.arrays import Data
from fusednn.callbacks import CallbackList
from fusednn.compiled import Compiled
from fusednn.position import Position
from fusednn.prediction import FORWARD_BATCH
from fusednn.progress import Progress
from fusednn.streaming import Batches, Rows

Stream = Batches | Rows
Report = dict[str, Any]  # of the engine, on what was seen of an epoch so far


class Streamed(Compiled):
    """A network that takes its data piece by piece where they are not there as a whole."""

    def _stream(
        self,
        argument: str,
        arrays: tuple[Any, Any, Any],
        *,
        batch_size: int | None,
        steps: int | None = None,
        shuffle: bool = False,
        class_weight: Any = None,
    ) -> Stream | None:
        """Return how to go through data that cannot be taken as they are, or None."""
        x, y, sample_weight = arrays

        def prepare(x: Any, y: Any, weight: Any) -> Data:
            return self._weigh_classes(self._prepare(x, y, weight), class_weight)

        stream: Stream
        if y is None and streaming.is_stream(x):
            if sample_weight is not None or batch_size is not None:
                wrong = "batch_size" if sample_weight is None else "sample_weight"
                raise ValueError(f"{wrong} must not be given where {argument} gives batches")
            stream = Batches(argument, x, prepare, steps)
        elif y is None:
            raise TypeError(f"y is missing; without it {argument} must be an iterable of batches")
        elif steps is not None or streaming.is_too_large(x, self.dtype):
            order = streaming.Shuffles(self) if shuffle else None
            stream = Rows(arrays, prepare, batch_size or 32, steps, order)
        else:
            return None
        if class_weight == "balanced":
            raise ValueError("class_weight='balanced' needs all data at once; give the weights")
        return stream

    def _validation_stream(self, given: Any, steps: int | None) -> Stream | None:
        """Return how to go through validation data that cannot be taken as they are, or None."""
        if given is None:
            return None
        if isinstance(given, (tuple, list)) and len(given) in (2, 3):
            arrays = (*given, None)[:3]
        else:
            arrays = (given, None, None)
            if not streaming.is_stream(given):
                return None  # `_validation` says what is wrong
        batch_size = FORWARD_BATCH if arrays[1] is not None and steps is None else None
        return self._stream("validation_data", arrays, batch_size=batch_size, steps=steps)

    def _train_on(
        self, stream: Stream, progress: Progress | None, hooks: CallbackList, mixup: float
    ) -> dict[str, float]:
        """Train for one epoch."""
        objective = self._require_objective("fit")

        def train(data: Data, batch_size: int, begun: Report | None) -> Report:
            self._runs = True
            try:
                return self._engine.train(
                    data.inputs,
                    data.targets,
                    data.weight,
                    min(batch_size, data.rows),
                    schedules=objective.optimizer.schedules_of(-(-data.rows // batch_size)),
                    begun=begun,
                    mixup=mixup,
                )
            finally:
                self._rest()

        bar = progress if progress is not None and progress.redraws and stream.rows else None
        return self._go_through(stream, "train", train, hooks, bar)

    def _score_on(self, stream: Stream, hooks: CallbackList) -> dict[str, float]:
        """Evaluate on one epoch."""

        def evaluate(data: Data, batch_size: int, begun: Report | None) -> Report:
            size = min(batch_size, data.rows)
            return self._engine.evaluate(data.inputs, data.targets, data.weight, size, begun=begun)

        hooks.call("on_test_begin")
        logs = self._go_through(stream, "test", evaluate, hooks, None)
        hooks.call("on_test_end", logs=logs)
        return logs

    def _go_through(
        self, stream: Stream, phase: str, run: Any, hooks: CallbackList, bar: Progress | None
    ) -> dict[str, float]:
        """Run piece by piece; return the logs of the whole."""
        objective = self._require_objective("fit")
        begun = Position(0)
        if phase == "train":
            begun, self._position = self._position or begun, None
        whole, weight = begun.report, begun.weight

        def logs_of(report: Report) -> dict[str, float]:
            return objective.logs(report, weight / max(report["rows"], 1))

        stepwise = bool(hooks.steppers(phase))
        steps = sys.maxsize if stream.steps is None else stream.steps
        watch = hooks.watcher(phase, steps, logs_of, begun.steps)
        for data, batch_size in stream.epoch(stepwise, begun.steps):
            whole = run(data, batch_size, whole)
            weight += data.mean_weight * data.rows
            if phase == "train":
                self._position = Position(0, whole, weight)
            if watch is not None and not watch(whole):
                break
            if bar is not None and bar.due():
                bar.update(whole["rows"], logs_of(whole))
        if phase == "train":
            self._position = None
        if whole is None:
            raise ValueError("an epoch without a batch; give steps_per_epoch fewer than there are")
        return logs_of(whole)
