# SPDX-License-Identifier: Apache-2.0
"""compile, fit, evaluate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fusednn import _core, arrays
from fusednn.arrays import Data
from fusednn.callbacks import Callback, CallbackList, History
from fusednn.compiling import Objective
from fusednn.device import check_device
from fusednn.errors import check_flag, check_integer, check_number, helpful_keywords
from fusednn.losses import Loss
from fusednn.network import check_precision
from fusednn.optimizers import Optimizer
from fusednn.position import Position
from fusednn.prediction import FORWARD_BATCH, Predictive
from fusednn.progress import Progress, check_verbose
from fusednn.random import check_seed

Results = float | list[float] | dict[str, float]


class Trainable(Predictive):
    """A network that can be trained."""

    def __init__(self, name: str | None, seed: int | None) -> None:
        super().__init__(name, seed)
        self._objective: Objective | None = None
        self._epochs = 0  # begun since compile; with the seed they decide the shuffle
        self._position: Position | None = None  # where the present or next `fit` stands
        self.history: History | None = None
        self.stop_training = False

    # ---- compile -------------------------------------------------------------------------------

    @helpful_keywords
    def compile(
        self,
        optimizer: str | Mapping | Optimizer = "adam",
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Sequence[float] | Mapping[str, float] | None = None,
        device: str = "auto",
        precision: str = "float32",
        seed: int | None = None,
        convention: str = "torch",
    ) -> None:
        """Say how the model is to be trained. Weights stay, optimizer state starts anew.

        Parameters
        ----------
        optimizer : str or fusednn.optimizers.Optimizer
            Default "adam". (Keras: "rmsprop".)
        loss : str, fusednn.losses.Loss, or a list or dict of them
            One for all outputs, or one each.
        metrics : list, optional
            Names or `fusednn.metrics` of a single output; for several outputs a list of lists
            or a dict by output name.
        loss_weights : list or dict of float, optional
            Factors of the losses of several outputs in the sum that is minimised.
        device : {"auto", "cpu", "cuda"}
            A device that is not there is an error, never replaced by another.
        precision : {"float32", "float64", "bfloat16"}
            Of weights and computation. Data are converted to it. With "bfloat16" all of them are
            float32, and only the products of Dense layers round their operands to bfloat16, about
            twice as fast at large sizes on processors with AVX512-BF16. (Keras: the policy
            "mixed_bfloat16".) Training, evaluation and prediction round alike.
        seed : int, optional
            Decides shuffles and dropout masks and, if nobody has seen the weights yet, their
            initial values. Same seed, same instruction set: the same bits.
        convention : {"torch", "keras", "textbook"}
            Whose optimizer definitions and defaults count; see `fusednn.optimizers`.

        Raises
        ------
        ValueError, TypeError
            With nothing changed.

        Examples
        --------
        >>> import fusednn
        >>> model = fusednn.Sequential([fusednn.layers.Dense(10)], input_shape=(64,))
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], seed=0)
        """
        objective = Objective.parse(optimizer, loss, metrics, loss_weights, convention)
        precision = check_precision(precision)
        device = check_device(device)
        seed = None if seed is None else check_seed(seed)
        objective.optimizer.check_free(self)  # type: ignore[arg-type]
        if objective.in_python() != self._python_loss():
            self._carry()
            self._objective = objective  # an engine of the other kind is made
        if self._graph is not None:
            engine = self._engine_for(precision, device, seed)
            self._instruct(engine, objective)
            self._take_engine(engine, precision, device, seed)
        else:
            self._take_engine(None, precision, device, seed)
        self._objective = objective
        self.optimizer = objective.optimizer
        self.optimizer.bind(self)  # type: ignore[arg-type]
        self._epochs = 0

    def _instruct(self, engine: Any, objective: Objective) -> None:
        """Tell an engine its losses, metrics and optimizer."""
        losses, metrics = objective.fit_to(self._require_graph().heads())
        spec = objective.optimizer.resolve(objective.convention)
        engine.set_training(losses, metrics, {**spec, "treatments": self._treatments(engine)})
        engine.training_steps = 0

    def _python_loss(self) -> str:
        return "" if self._objective is None else self._objective.in_python()

    def _introduce(self, engine: Any) -> None:
        if self._objective is not None:
            self._instruct(engine, self._objective)

    def _require_objective(self, what: str) -> Objective:
        if self._objective is None:
            raise ValueError(f"{what}() needs compile() first, to know the loss")
        return self._objective

    # ---- data ----------------------------------------------------------------------------------

    def _build_for(self, x: object) -> Callable[[], None]:
        """Learn the shape of the input from data, where it is unknown; return how to forget it."""
        return lambda: None

    def _prepare(self, x: object, y: object, sample_weight: object) -> Data:
        objective = self._require_objective("fit")
        graph = self._require_graph()
        heads = graph.heads()
        if heads != objective.heads:
            objective.fit_to(heads)
        inputs = arrays.prepare_inputs(graph, x, self.dtype)
        rows = len(inputs[0])
        targets = arrays.prepare_targets(objective.heads, objective.losses, y, rows, self.dtype)
        weight = arrays.prepare_weight(sample_weight, rows, self.dtype)
        return Data(inputs, targets, weight, rows)

    def _weigh_classes(self, data: Data, class_weight: Any) -> Data:
        objective = self._require_objective("fit")
        factor = arrays.class_weights(
            class_weight, objective.heads, objective.losses, data, self.dtype
        )
        return data.weighted(factor)

    # ---- fit -----------------------------------------------------------------------------------

    @helpful_keywords
    def fit(
        self,
        x: object,
        y: object,
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
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array, or a list or dict of arrays
            Samples along the first axis; one array per input. Integers, bools and other floats
            are converted once to the model's precision; values are not scaled. NaN and infinities
            are refused.
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

        Returns
        -------
        History
            With "loss", the metrics, and the same with "val_" in front. The loss of an epoch is
            the mean over its steps, taken before each update.

        Raises
        ------
        ValueError, TypeError
            Data that do not fit, with nothing changed.
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
        batch_size = 32 if batch_size is None else check_integer("batch_size", batch_size, 1)
        if validation_batch_size is not None:
            check_integer("validation_batch_size", validation_batch_size, 1)
        epochs = check_integer("epochs", epochs, 0)
        first = check_integer("initial_epoch", initial_epoch, 0)
        split = check_number("validation_split", validation_split, 0, 1, open_high=True)
        shuffle = check_flag("shuffle", shuffle)
        check_verbose(verbose)
        hooks = CallbackList(callbacks)
        forget = self._build_for(x)
        try:
            data = self._prepare(x, y, sample_weight)
            data, validation = self._validation(data, split, validation_data)
            data = self._weigh_classes(data, class_weight)
            self._use_engine()
        except BaseException:
            forget()
            raise

        self._restart_average()
        history = History()
        hooks.callbacks.append(history)
        self.history = history
        self.stop_training = False
        progress = hooks.bar(verbose, epochs, data.rows)
        steps = math.ceil(data.rows / batch_size)
        self._position = None
        hooks.begin(self, {"epochs": epochs, "steps": steps, "verbose": verbose})  # type: ignore[arg-type]
        first = self._first_epoch(first)
        logs: dict[str, float] = {}
        try:
            for epoch in range(first, epochs):
                hooks.epoch_begin(epoch)
                progress.begin(epoch)
                logs = self._run_epoch(data, batch_size, shuffle, progress, hooks)
                if validation is not None:
                    size = validation_batch_size
                    if size is None and hooks.steppers("test"):
                        size = batch_size
                    scores = self._score(validation, size, hooks)
                    logs.update({f"val_{name}": value for name, value in scores.items()})
                hooks.epoch_end(epoch, logs)
                progress.end(logs)
                if self.stop_training:
                    break
        finally:
            progress.close()
        hooks.end(logs)
        return history

    def _validation(
        self, data: Data, split: float, given: Sequence[object] | None
    ) -> tuple[Data, Data | None]:
        """Return the data to train on, and those to validate on."""
        if given is not None:
            if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
                raise ValueError(
                    "validation_data must be (x, y) or (x, y, sample_weight), "
                    f"got {type(given).__name__}"
                )
            x, y, *weight = given
            try:
                return data, self._prepare(x, y, weight[0] if weight else None)
            except (TypeError, ValueError) as error:
                raise type(error)(f"validation_data: {error}") from None
        if split == 0:
            return data, None
        end = math.floor(data.rows * (1 - split))
        if end in (0, data.rows):
            raise ValueError(
                f"validation_split={split:g} of {data.rows} samples leaves {end} to train on and "
                f"{data.rows - end} to validate on"
            )
        return data.part(0, end), data.part(end, data.rows)

    def _first_epoch(self, wanted: int) -> int:
        """Return where to begin: where it was left, if a callback found a training to go on with."""
        return wanted if self._position is None else self._position.epoch

    def _run_epoch(
        self,
        data: Data,
        batch_size: int,
        shuffle: bool,
        progress: Progress | None,
        hooks: CallbackList | None = None,
    ) -> dict[str, float]:
        """Train on all samples once, in one call of the engine, or on what is left of them."""
        objective = self._require_objective("fit")
        order = _core.shuffled(data.rows, self.seed, self._epochs) if shuffle else None
        self._epochs += 1
        begun, self._position = self._position or Position(0), None
        rest, rest_order = begun.rest(data, order)
        watch = None
        if hooks is not None and hooks.steppers("train"):
            logs_of = self._step_logs(data, order, begun)
            watch = hooks.watcher("train", math.ceil(data.rows / batch_size), logs_of, begun.steps)
        bar = progress if progress is not None and progress.redraws else None

        def look(report: dict[str, Any]) -> bool:
            if bar is not None and (watch is None or bar.due()):
                whole = begun.plus(report)
                bar.update(whole["rows"], objective.logs(whole, data.mean_weight))
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
            )
        finally:
            self._rest()
        self._position = None
        return objective.logs(begun.plus(report), data.mean_weight)

    def _step_logs(
        self, data: Data, order: np.ndarray | None, begun: Position | None
    ) -> Callable[[dict[str, Any]], dict[str, float]]:
        """Return what makes logs of a report after a step.

        Given where the epoch was begun, it remembers where training stands.
        """
        objective = self._require_objective("fit")
        weights = data.mean_weights(order)

        def logs_of(report: dict[str, Any]) -> dict[str, float]:
            if begun is not None:
                report = begun.plus(report)
                self._position = Position.of(report)
            return objective.logs(report, 1.0 if weights is None else weights[report["rows"] - 1])

        return logs_of

    def _score(self, data: Data, batch_size: int | None, hooks: CallbackList) -> dict[str, float]:
        hooks.call("on_test_begin")
        watcher = None
        size = min(batch_size or FORWARD_BATCH, data.rows)
        if hooks.steppers("test"):
            size = min(batch_size or 32, data.rows)
            logs_of = self._step_logs(data, None, None)
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
        y: object,
        batch_size: int | None = None,
        verbose: int | str = 0,
        sample_weight: object = None,
        return_dict: bool = False,
        callbacks: Callback | Iterable[Callback] | None = None,
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
        data = self._prepare(x, y, sample_weight)
        self._use_engine()
        hooks.introduce(self, {"epochs": 1, "steps": None, "verbose": verbose})  # type: ignore[arg-type]
        logs = self._score(data, batch_size, hooks)
        if verbose in (1, 2):
            print("  ".join(f"{name}: {value:.4g}" for name, value in logs.items()))
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
