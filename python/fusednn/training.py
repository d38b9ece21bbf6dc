# SPDX-License-Identifier: Apache-2.0
"""fit, evaluate, and steps one by one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fusednn import _core
from fusednn.arrays import Data
from fusednn.callbacks import Callback, CallbackList, History
from fusednn.checkpoints import Checkpoints
from fusednn.checkpoints.keeper import keeper_for
from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords
from fusednn.losses import Loss
from fusednn.position import Position
from fusednn.prediction import FORWARD_BATCH
from fusednn.progress import Progress, check_verbose, format_logs
from fusednn.rate_search import Searching
from fusednn.streaming import Rows

Results = float | list[float] | dict[str, float]


class Trainable(Searching):
    """A network that can be trained."""

    def __init__(self, name: str | None, seed: int | None) -> None:
        super().__init__(name, seed)
        self.history: History | None = None
        self.stop_training = False

    # ---- fit -----------------------------------------------------------------------------------

    @helpful_keywords
    def fit(
        self,
        x: object,
        y: object = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Callback | Iterable[Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Sequence[object] | None = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | str | None = None,
        sample_weight: object = None,
        initial_epoch: int = 0,
        validation_batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_freq: int | Iterable[int] = 1,
        resume: str | os.PathLike[str] | Checkpoints | None = None,
        mixup: float = 0.0,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array, or a list or dict of arrays
            Samples along the first axis; one array per input. Integers, bools and other floats
            are converted once to the model's precision; values are not scaled. NaN and infinities
            are refused. A `numpy.memmap` is read where it is, and converted a few batches at a
            time. Or an iterable of batches (x, y) or (x, y, sample_weight), such as a generator
            or a data loader, and no `y`.
        y : array, or a list or dict of arrays
            Targets, one array per output.
        batch_size : int, optional
            Samples per step, 32 by default. The last step of an epoch takes what is left.
        epochs : int
            Number of the last epoch.
        verbose : {"auto", 0, 1, 2}
            0 nothing; 1 and "auto" a bar on a terminal, otherwise one line per epoch; 2 one line
            per epoch.
        callbacks : list of fusednn.callbacks.Callback, optional
        validation_split : float
            Share of the samples, taken from the end before shuffling, on which the model is
            evaluated after each epoch instead of being trained.
        validation_data : tuple, optional
            (x, y) or (x, y, sample_weight) for the same purpose; `validation_split` is then
            ignored.
        shuffle : bool
            Whether each epoch visits the samples in another order. The order is a function of
            the seed and the number of epochs since `compile`.
        class_weight : dict or "balanced", optional
            Weight of each class in the loss, 1 where it is missing; "balanced" gives all classes
            the same weight in sum.
        sample_weight : array, optional
            Weight of each sample, at least 0.
        initial_epoch : int
            Number of the first epoch, where a training is continued.
        validation_batch_size : int, optional
            Has no influence on the result.
        steps_per_epoch : int, optional
            Steps of an epoch, where it is not one pass over the data. The next epoch goes on from
            there, and data that end begin anew; a generator cannot.
        validation_steps : int, optional
            Likewise for `validation_data`, which may be an iterable of batches as well.
        validation_freq : int or list of int
            Evaluate after every so many epochs, or after those with these numbers, from 1.
        resume : path or fusednn.Checkpoints, optional
            A folder for checkpoints. Where it has one of this training, that is continued with the
            same bits, whatever had ended it; one of another training is refused. Compile the same
            model, call `fit` with the same arguments; only `epochs` may differ.
        mixup : float
            Not 0: each step trains on mixtures ``s * a + (1 - s) * b`` of samples and of their
            targets, each sample with another one of the batch, where s has the symmetric beta
            distribution of this parameter, drawn anew for each (Zhang et al., 2018; 0.2 is usual).
            Needs targets that are values, such as one-hot rows. A mixture has the weight of a.

        Returns
        -------
        History
            With "loss", the metrics, and the same with "val_" in front. The loss of an epoch is
            the mean over its steps, taken before each update.

        Raises
        ------
        ValueError, TypeError
            Data that do not fit, with nothing changed.
        OSError
            A checkpoint that cannot be written.
        KeyboardInterrupt
            Ctrl-C ends the training between two steps. The model keeps what it has learned, and
            ``model.history`` the epochs that were finished.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> x = np.linspace(-1, 1, 64)
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)])
        >>> model.compile(fusednn.optimizers.SGD(0.1), "mse", seed=0)
        >>> history = model.fit(x, 2 * x + 1, batch_size=8, epochs=20, verbose=0)
        >>> len(history.history["loss"])
        20
        """
        self._require_objective("fit")
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        for name, steps in (
            ("steps_per_epoch", steps_per_epoch),
            ("validation_steps", validation_steps),
        ):
            if steps is not None:
                check_integer(name, steps, 1)
        if isinstance(validation_freq, Iterable):
            validation_freq = list(validation_freq)
        validates = _frequency(validation_freq)
        if validation_batch_size is not None:
            check_integer("validation_batch_size", validation_batch_size, 1)
        epochs = check_integer("epochs", epochs, 0)
        first = check_integer("initial_epoch", initial_epoch, 0)
        split = check_number("validation_split", validation_split, 0, 1, open_high=True)
        shuffle = check_flag("shuffle", shuffle)
        mixup = self._check_mixup(mixup)
        check_verbose(verbose)
        hooks = CallbackList(callbacks)
        keeper = keeper_for(resume, hooks)
        stream = self._stream(
            "x", (x, y, sample_weight), batch_size=batch_size, steps=steps_per_epoch,
            shuffle=shuffle, class_weight=class_weight,
        )  # fmt: skip
        batch_size = batch_size or 32
        forget = self._build_for(x if stream is None else stream.peek())
        validation: Data | None = None
        try:
            held_out = self._validation_stream(validation_data, validation_steps)
            data: Data | None = None
            if stream is None:
                data = self._prepare(x, y, sample_weight)
                given = None if held_out is not None else validation_data
                share = 0.0 if held_out is not None else split
                data, validation = self._validation(data, share, given)
                data = self._weigh_classes(data, class_weight)
            elif validation_data is not None:
                if held_out is None:
                    _, validation = self._validation(None, 0, validation_data)
            elif split > 0:
                if not isinstance(stream, Rows):
                    raise ValueError("validation_split needs arrays, but x gives batches")
                stream, held_out = stream.split(split)
            self._use_engine()
            if keeper is not None:
                sources = {"x and y": stream or data, "validation_data": held_out or validation}
                arguments = {
                    "batch_size": batch_size, "shuffle": shuffle, "initial_epoch": first,
                    "validation_freq": validation_freq, "mixup": mixup,
                }  # fmt: skip
                keeper.find(self, sources, arguments)  # type: ignore[arg-type]
        except BaseException:
            forget()
            raise

        self._restart_average()
        history = History()
        hooks.callbacks.append(history)
        if keeper is not None:
            hooks.callbacks.append(keeper)
        self.history = history
        self.stop_training = False
        rows = stream.rows if data is None else data.rows  # type: ignore[union-attr]
        progress = hooks.bar(verbose, epochs, rows)
        steps = math.ceil(rows / batch_size) if stream is None else stream.steps
        self._position = None
        logs: dict[str, float] = {}
        held = [array for each in (data, validation) if each for array in each.arrays]
        try:
            self._engine.hold(held)
            hooks.begin(self, {"epochs": epochs, "steps": steps, "verbose": verbose})  # type: ignore[arg-type]
            for epoch in range(self._first_epoch(first, epochs), epochs):
                hooks.epoch_begin(epoch)
                progress.begin(epoch)
                if stream is None:
                    assert data is not None
                    logs = self._run_epoch(data, batch_size, shuffle, progress, hooks, mixup)
                else:
                    logs = self._train_on(stream, progress, hooks, mixup)
                if held_out is not None and validates(epoch + 1):
                    scores = self._score_on(held_out, hooks)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
                elif validation is not None and validates(epoch + 1):
                    size = validation_batch_size
                    if size is None and hooks.steppers("test"):
                        size = batch_size
                    scores = self._score(validation, size, hooks)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
                hooks.epoch_end(epoch, logs)
                progress.end(logs)
                if self.stop_training:
                    break
            hooks.end(logs)
        finally:
            self._engine.hold([])
            progress.close()
            if keeper is not None:
                keeper.close()
        return history

    def _first_epoch(self, first: int, epochs: int) -> int:
        """Return the epoch to begin with: that of a training that goes on, if it was not ended."""
        if self._position is None:
            return first
        return epochs if self.stop_training else self._position.epoch

    def _run_epoch(
        self,
        data: Data,
        batch_size: int,
        shuffle: bool,
        progress: Progress | None,
        hooks: CallbackList | None = None,
        mixup: float = 0.0,
    ) -> dict[str, float]:
        """Train on all samples once, in one call of the engine, or on what is left of them."""
        objective = self._require_objective("fit")
        begun, self._position = self._position or Position(0), None
        if begun.rows:
            self._epochs -= 1  # it has begun already
        order = _core.shuffled(data.rows, self.seed, self._epochs) if shuffle else None
        self._epochs += 1
        if begun.report is not None and begun.rows == data.rows:
            return objective.logs(begun.report, data.mean_weight)
        rest, rest_order = begun.rest(data, order)
        watch = None
        if hooks is not None and hooks.steppers("train"):
            logs_of = self._step_logs(data, order, "train")
            watch = hooks.watcher("train", math.ceil(data.rows / batch_size), logs_of, begun.steps)
        bar = progress if progress is not None and progress.redraws else None

        def look(report: dict[str, Any]) -> bool:
            if bar is not None and (watch is None or bar.due()):
                bar.update(report["rows"], objective.logs(report, data.mean_weight))
            return watch is None or watch(report)

        self._runs = True
        try:
            report = self._engine.train(
                rest.inputs,
                rest.targets,
                rest.weight,
                min(batch_size, data.rows),
                order=rest_order,
                watcher=look if watch is not None or bar is not None else None,
                interval=Progress.interval if watch is None else 0.0,
                schedules=objective.optimizer.schedules_of(math.ceil(rest.rows / batch_size)),
                begun=begun.report,
                mixup=mixup,
            )
        finally:
            self._rest()
        self._position = None
        return objective.logs(report, data.mean_weight)

    def _step_logs(
        self, data: Data, order: np.ndarray | None, phase: str
    ) -> Callable[[dict[str, Any]], dict[str, float]]:
        """Return what makes logs of a report after a step; it remembers where training stands."""
        objective = self._require_objective("fit")
        weights = data.mean_weights(order)

        def logs_of(report: dict[str, Any]) -> dict[str, float]:
            if phase == "train":
                self._position = Position(0, report)
            return objective.logs(report, 1.0 if weights is None else weights[report["rows"] - 1])

        return logs_of

    def _score(self, data: Data, batch_size: int | None, hooks: CallbackList) -> dict[str, float]:
        hooks.call("on_test_begin")
        watcher = None
        size = min(batch_size or FORWARD_BATCH, data.rows)
        if hooks.steppers("test"):
            size = min(batch_size or 32, data.rows)
            logs_of = self._step_logs(data, None, "test")
            watcher = hooks.watcher("test", math.ceil(data.rows / size), logs_of)
        report = self._engine.evaluate(
            data.inputs, data.targets, data.weight, size, watcher=watcher, interval=0.0
        )
        logs = self._require_objective("evaluate").logs(report, data.mean_weight)
        hooks.call("on_test_end", logs=logs)
        return logs

    # ---- evaluate ------------------------------------------------------------------------------

    @helpful_keywords
    def evaluate(
        self,
        x: object,
        y: object = None,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: object = None,
        return_dict: bool = False,
        callbacks: Callback | Iterable[Callback] | None = None,
        steps: int | None = None,
    ) -> Results:
        """Return loss and metrics on data, with dropout off and the running batch statistics.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`.
        batch_size : int, optional
            Has no influence on the result.
        verbose : {0, 1, 2, "auto"}
            1 and 2 print a line. (Keras prints one by default.)
        return_dict : bool
            Whether to return a dict by name.
        callbacks : list of fusednn.callbacks.Callback, optional
            Their ``on_test_*`` hooks are called; batches are then of `batch_size`, default 32.
        steps : int, optional
            Batches to look at, where those are not all.

        Returns
        -------
        float, list of float, or dict
            The loss; with metrics a list that begins with it.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)], input_shape=(1,))
        >>> model.compile("adam", "mse", metrics=["mae"])
        >>> sorted(model.evaluate(np.ones(4), np.ones(4), return_dict=True))
        ['loss', 'mae']
        """
        self._require_objective("evaluate")
        if batch_size is not None:
            check_integer("batch_size", batch_size, 1)
        return_dict = check_flag("return_dict", return_dict)
        check_verbose(verbose)
        hooks = CallbackList(callbacks)
        if steps is not None:
            check_integer("steps", steps, 1)
        stream = self._stream("x", (x, y, sample_weight), batch_size=batch_size, steps=steps)
        data = None if stream is not None else self._prepare(x, y, sample_weight)
        self._use_engine()
        hooks.introduce(self, {"epochs": 1, "steps": None, "verbose": verbose})  # type: ignore[arg-type]
        if data is not None:
            logs = self._score(data, batch_size, hooks)
        else:
            assert stream is not None
            logs = self._score_on(stream, hooks)
        if verbose in (1, 2):
            print(format_logs(logs))
        return _results(logs, return_dict)

    # ---- single batches ------------------------------------------------------------------------

    @helpful_keywords
    def train_on_batch(
        self,
        x: object,
        y: object,
        sample_weight: object = None,
        class_weight: Mapping[int, float] | str | None = None,
        return_dict: bool = False,
    ) -> Results:
        """Take one step with all the data given and return loss and metrics before it.

        Examples
        --------
        >>> import numpy as np, fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> loss = model.train_on_batch(np.ones((4, 2)), np.ones(4))
        """
        objective = self._require_objective("train_on_batch")
        return_dict = check_flag("return_dict", return_dict)
        forget = self._build_for(x)
        try:
            data = self._weigh_classes(self._prepare(x, y, sample_weight), class_weight)
            engine = self._use_engine()
        except BaseException:
            forget()
            raise
        self._restart_average()
        self._runs = True
        try:
            report = engine.train(
                data.inputs,
                data.targets,
                data.weight,
                data.rows,
                schedules=objective.optimizer.schedules_of(1),
            )
        finally:
            self._rest()
        logs = objective.logs(report, data.mean_weight)
        return _results(logs, return_dict)

    @helpful_keywords
    def test_on_batch(
        self, x: object, y: object, sample_weight: object = None, return_dict: bool = False
    ) -> Results:
        """Return loss and metrics on one batch; `evaluate` in one piece."""
        return self.evaluate(x, y, sample_weight=sample_weight, return_dict=return_dict)

    @property
    def metrics_names(self) -> list[str]:
        """The names of what `evaluate` returns."""
        objective = self._require_objective("metrics_names")
        objective.fit_to(self._require_graph().heads())
        return objective.metric_names()

    @property
    def loss(self) -> Loss | list[Loss] | dict[str, Loss] | None:
        """What `compile` was given."""
        return None if self._objective is None else self._objective.loss


def _results(logs: dict[str, float], return_dict: bool) -> Results:
    if return_dict:
        return logs
    values = list(logs.values())
    return values[0] if len(values) == 1 else values


def _frequency(given: int | Iterable[int]) -> Callable[[int], bool]:
    """Return what says whether to validate after an epoch, counted from 1."""
    if isinstance(given, Iterable):
        chosen = {check_integer("validation_freq", epoch, 1) for epoch in given}
        return lambda epoch: epoch in chosen
    every = check_integer("validation_freq", given, 1)
    return lambda epoch: epoch % every == 0
