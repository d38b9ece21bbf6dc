# SPDX-License-Identifier: Apache-2.0
"""compile, and what it says about data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusednn import arrays
from fusednn.arrays import Data
from fusednn.compiling import Objective, join_metrics
from fusednn.device import check_device
from fusednn.errors import check_number, helpful_keywords
from fusednn.network import check_precision
from fusednn.optimizers import Optimizer
from fusednn.position import Position
from fusednn.prediction import Predictive
from fusednn.random import check_seed

Results = float | list[float] | dict[str, float]


class Compiled(Predictive):
    """A network that knows its loss, metrics and optimizer."""

    def __init__(self, name: str | None, seed: int | None) -> None:
        super().__init__(name, seed)
        self._objective: Objective | None = None
        self._epochs = 0  # begun since compile; with the seed they decide the shuffle
        self._position: Position | None = None  # where the present or next `fit` stands

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
        weighted_metrics: Any = None,
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
        weighted_metrics : list, optional
            Further metrics, in the same form as `metrics`. Both are weighted by sample and class
            weights. (Keras weights only these.)
        loss_weights : list or dict of float, optional
            Factors of the losses of several outputs in the sum that is minimised.
        device : {"auto", "cpu", "cuda"}
            A device that is not there is an error, never replaced by another.
        precision : {"float32", "float64", "bfloat16", "float16"}
            Of weights and computation. Data are converted to it. With "bfloat16" all of them are
            float32, and only the products of Dense layers round their operands to bfloat16, about
            twice as fast at large sizes on processors with AVX512-BF16. (Keras: the policy
            "mixed_bfloat16".) Training, evaluation and prediction round alike. With "float16", on a
            CUDA device alone, the forward pass rounds to float16, which ends at 65504, and the
            backward pass to bfloat16, so that no gradient is lost and none has to be scaled.
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
        metrics = join_metrics(metrics, weighted_metrics)
        objective = Objective.parse(optimizer, loss, metrics, loss_weights, convention)
        device = check_device(device)
        precision = check_precision(precision, device)
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
        graph = self._require_graph()
        losses, metrics = objective.fit_to(graph.heads())
        losses += objective.regularize(graph.activities())
        spec = objective.optimizer.resolve(objective.convention)
        spec = {**spec, "treatments": self._treatments(engine)}
        if bounds := self._bounds(engine):
            spec["constraints"] = bounds
        engine.set_training(losses, metrics, spec)
        engine.training_steps = 0

    def _check_mixup(self, mixup: float) -> float:
        objective = self._require_objective("fit")
        if check_number("mixup", mixup, 0) == 0:
            return 0.0
        if objective.in_python() or (self._graph is not None and self._graph.written_in_python()):
            raise ValueError(
                "mixup needs the compiled engine, but a part of this model is written in Python"
            )
        if any(loss.labels for loss in objective.all_losses()):
            raise ValueError(
                "mixup needs targets that are values, not class numbers; use "
                "'categorical_crossentropy' with one-hot rows"
            )
        return float(mixup)

    def _reseed(self, seed: int) -> None:
        """Draw shuffles and masks from another seed; the weights are left to the caller."""
        if seed != self.seed:
            engine = self._make_engine(self._precision, self._device, seed)
            self._instruct(engine, self._require_objective("fit"))
            self._take_engine(engine, self._precision, self._device, seed)

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

    def _validation(
        self, data: Any, split: float, given: Sequence[object] | None
    ) -> tuple[Any, Data | None]:
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
