# SPDX-License-Identifier: Apache-2.0
"""What classifier and regressor share: parameters, the course of a fit, predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted

from fusednn import _core, initializers
from fusednn import optimizers as optimizer_module
from fusednn.activations import Activation
from fusednn.device import check_device
from fusednn.sklearn import lbfgs, optimizer
from fusednn.sklearn.architecture import Architecture, Weights, activation_of, forward
from fusednn.sklearn.compat import (
    CallbackSupport,
    Observers,
    Tagged,
    check_sample_weight,
    validate_data,
    with_callbacks,
)
from fusednn.sklearn.engine import Engine, Samples, Settings
from fusednn.sklearn.objectives import Objective
from fusednn.sklearn.optimizer import Optimizer
from fusednn.sklearn.parameters import CheckedParameters
from fusednn.sklearn.random_state import random_numbers
from fusednn.sklearn.stochastic import StochasticFit, Validation
from fusednn.sklearn.threads import thread_limit

# X, y as a matrix of one column per output, and the weights of the rows: checked.
Data = tuple[Any, np.ndarray, np.ndarray | None]
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
# What L-BFGS can make nothing of.
_BATCHWISE = ("dropout", "batch_norm", "clipnorm", "optimizer_params", "schedule", "callbacks")


@dataclass(frozen=True)
class Request:
    """What a call of fit or partial_fit is to do.

    Attributes
    ----------
    first : bool
        Whether to begin with new weights.
    incremental : bool
        Whether it is partial_fit, which goes on with the optimizer's state.
    validation_data : tuple or None
    epochs : int
        At most.
    """

    first: bool
    incremental: bool
    validation_data: Any
    epochs: int


class BaseMLP(CheckedParameters, CallbackSupport, Tagged):
    """A multi-layer perceptron behind scikit-learn's interface."""

    _classifies: ClassVar[bool]

    # ---- what the two kinds differ in ----------------------------------------------------------

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        """Return X and y checked, y as a matrix of one column per output."""
        raise NotImplementedError(f"{type(self).__name__} must define _validate_input()")

    def _validate_others(self, X: Any, y: Any) -> tuple[Any, Any]:
        """Return validation data checked, y as a matrix of one column per output."""
        raise NotImplementedError(f"{type(self).__name__} must define _validate_others()")

    def _objective(self, y: np.ndarray) -> Objective:
        """Return what is minimised for such targets; ValueError where it is not for them."""
        raise NotImplementedError(f"{type(self).__name__} must define _objective()")

    def _score_outputs(
        self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> float:
        """Return accuracy or R² of the last layer's values, before its activation."""
        raise NotImplementedError(f"{type(self).__name__} must define _score_outputs()")

    # ---- parameters ----------------------------------------------------------------------------

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if not all(isinstance(size, Integral) for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be whole numbers, got {sizes}.")
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _rules(self, hidden: int) -> tuple[Activation, ...]:
        given = self.activation
        if not isinstance(given, (list, tuple)):
            return (activation_of(given),) * hidden
        if len(given) != hidden:
            raise ValueError(
                f"activation must be one for all hidden layers or a list of {hidden}, got "
                f"{len(given)} entries"
            )
        rules = tuple(activation_of(each) for each in given)
        if any(rule.rowwise for rule in rules):
            raise ValueError(f"activation={given!r}: softmax is not for hidden layers")
        return rules

    def _dropout_rates(self, hidden: int) -> tuple[float, ...]:
        given = self.dropout
        rates = list(given) if isinstance(given, (list, tuple)) else [given] * hidden
        if len(rates) != hidden or not all(
            isinstance(rate, Real) and 0 <= float(rate) < 1 for rate in rates
        ):
            raise ValueError(
                f"dropout must be a rate in [0, 1) or a list of {hidden}, got {given!r}"
            )
        return tuple(float(rate) for rate in rates)

    def _check_combinations(self) -> None:
        self._hidden_sizes()
        if self.solver == "lbfgs":
            for name in _BATCHWISE:
                if value := getattr(self, name):
                    raise ValueError(
                        f"{name}={value!r} needs a solver that works batch by batch, "
                        "got solver='lbfgs'"
                    )
        elif isinstance(self.solver, optimizer_module.Optimizer) and self.optimizer_params:
            raise ValueError("optimizer_params is for a solver given by name")

    def _new_optimizer(self) -> Optimizer:
        spec = optimizer.spec_of(self)
        if self.clipnorm is not None:
            spec["global_clip_norm"] = float(self.clipnorm)
        plain = self.solver == "adam"  # whose learning rate stays, as in scikit-learn
        learning_rate = "constant" if plain else self.learning_rate
        return Optimizer(spec, learning_rate, self.power_t, self.schedule)

    # ---- fit -----------------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, validation_data: Any = None) -> Any:
        """Fit the model.

        Parameters
        ----------
        X : array or sparse matrix of shape (samples, features)
            float32 and float64 stay as they are, all else becomes float64.
        y : array of shape (samples,) or (samples, outputs)
            Classes or values.
        sample_weight : array of shape (samples,), optional
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight). Scored after each epoch; with ``early_stopping=True``
            it takes the place of a part of the training data.

        Returns
        -------
        self
        """
        self._validate_params()
        self._check_combinations()
        return self._fit(X, y, sample_weight, self._request(validation_data))

    def _request(self, validation_data: Any = None) -> Request:
        """Return what `fit` does."""
        if validation_data is not None and self.solver == "lbfgs":
            raise ValueError(
                "validation_data needs a solver that works batch by batch, got solver='lbfgs'"
            )
        first = not hasattr(self, "coefs_") or not self.warm_start
        return Request(first, False, validation_data, self.max_iter)

    def _fit_examined(self, X: Any, y: np.ndarray, attributes: Mapping[str, Any]) -> Any:
        """Fit to what an estimator like this one has examined, with the attributes it then had."""
        self._validate_params()
        self._check_combinations()
        self.__dict__.update(attributes)
        return self._train((X, y, None), self._request(), {})

    def _fit(self, X: Any, y: Any, sample_weight: Any, request: Request) -> Any:
        given = {"X": X, "y": y, "metadata": None}
        X, y = self._validate_input(X, y, request.incremental, reset=request.first)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
            given["metadata"] = {"sample_weight": sample_weight}
        if self.early_stopping and request.incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        return self._train((X, y, sample_weight), request, given)

    def _train(self, data: Data, request: Request, given: dict[str, Any]) -> Any:
        """Fit to data that have been checked; `given` is what scikit-learn's callbacks are told."""
        X, y, sample_weight = data
        sample_weight = self._weigh(y, sample_weight)
        if not request.first and y.shape[1] != len(self.intercepts_[-1]):
            raise ValueError(
                f"y has {y.shape[1]} outputs, the network that is to go on has "
                f"{len(self.intercepts_[-1])}"
            )
        self.n_outputs_ = y.shape[1]
        objective = self._objective(y)
        self._random_state = random_numbers(self.random_state)
        dtype = self._numbers(X, request.first)
        if request.first:
            self._initialize([X.shape[1], *self._hidden_sizes(), y.shape[1]], objective, dtype)

        engine = self._prepare_engine(objective, dtype)
        if self.solver == "lbfgs":
            lbfgs.fit(self, engine, _samples(X, y, sample_weight, objective, engine))
        else:
            self._fit_stochastic((X, y, sample_weight), engine, request, given)
        self._keep(engine, dtype)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Return the weights that count: those given, and more where the kind has more."""
        return sample_weight

    def _numbers(self, X: Any, first: bool) -> np.dtype:
        """Return the dtype of the weights: of the data at first, then that of the weights."""
        if self.precision != "auto":
            return np.dtype("float64" if self.precision == "float64" else "float32")
        kept = X.dtype if first else np.asarray(self.coefs_[0]).dtype
        return np.dtype(kept if kept in _DTYPES else X.dtype)

    def _initialize(self, sizes: list[int], objective: Objective, dtype: np.dtype) -> None:
        """Set all fitted attributes to what they are before the first epoch."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        self.out_activation_ = objective.out_activation
        rules = self._rules(len(sizes) - 2)
        self.coefs_, self.intercepts_, self.batch_norms_ = [], [], []
        for place, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
            rule = rules[min(place, len(rules) - 1)] if rules else activation_of("identity")
            coef, intercept = self._initial(fan_in, fan_out, rule)
            self.coefs_.append(coef.astype(dtype, copy=False))
            self.intercepts_.append(intercept.astype(dtype, copy=False))
            if self.batch_norm and place < len(sizes) - 2:
                values = (1, 0, 0, 1)  # gamma, beta, moving mean, moving variance
                self.batch_norms_.append([np.full(fan_out, value, dtype) for value in values])
        if self.solver == "lbfgs":
            return
        # Of the dropout masks. Without dropout nothing is drawn that scikit-learn does not draw.
        drops = any(self._dropout_rates(len(rules)))
        self._seed = int(self._random_state.randint(2**31 - 1)) if drops else 0
        self.loss_curve_: list[float] = []
        self.history_: dict[str, list[float]] = {}
        self._no_improvement_count = 0
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_: list[float] | None = [] if self.early_stopping else None
        self.best_validation_score_ = -np.inf if self.early_stopping else None
        self.validation_loss_curve_: list[float] | None = None

    def _initial(
        self, fan_in: int, fan_out: int, rule: Activation
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first kernel and bias of a layer."""
        random = self._random_state
        if self.initializer != "auto":
            rng = np.random.default_rng(random.randint(2**31 - 1))
            return initializers.get(self.initializer)((fan_in, fan_out), rng), np.zeros(fan_out)
        # Glorot's law as scikit-learn has it, with the same numbers for the same seed.
        factor = 2.0 if rule.name == "sigmoid" else 6.0
        bound = np.sqrt(factor / (fan_in + fan_out))
        coef = random.uniform(-bound, bound, (fan_in, fan_out))
        return coef, random.uniform(-bound, bound, fan_out)

    def _prepare_engine(self, objective: Objective, dtype: np.dtype) -> Engine:
        """Return a network with the present weights: the one of the last call, if it fits."""
        sizes = (len(self.coefs_[0]), *(len(intercept) for intercept in self.intercepts_))
        hidden = len(sizes) - 2
        architecture = Architecture(
            sizes, self._rules(hidden), self._dropout_rates(hidden), bool(self._norms())
        )
        # L-BFGS compares values that differ little; in float32 it would soon see only rounding.
        numbers = "float64" if self.solver == "lbfgs" else dtype.name
        precision = "bfloat16" if self.precision == "bfloat16" else numbers
        self.device_ = check_device(self.device)
        settings = Settings(
            architecture,
            objective,
            numbers,
            precision,
            self.device_,
            self.n_threads or thread_limit(),
            getattr(self, "_seed", 0),
        )
        engine = getattr(self, "_engine", None)
        if engine is None or engine.settings != settings:
            engine = self._engine = Engine(settings)
        engine.load(Weights(self.coefs_, self.intercepts_, self._norms()))
        return engine

    def _norms(self) -> list[list[np.ndarray]]:
        return getattr(self, "batch_norms_", [])

    def _keep(self, engine: Engine, dtype: np.dtype) -> None:
        """Show the network's memory as the fitted weights."""
        weights = engine.weights
        self.coefs_ = [array.astype(dtype, copy=False) for array in weights.coefs]
        self.intercepts_ = [array.astype(dtype, copy=False) for array in weights.intercepts]
        self.batch_norms_ = [list(norm) for norm in weights.norms]

    def _fit_stochastic(
        self, data: Data, engine: Engine, request: Request, given: dict[str, Any]
    ) -> None:
        if not request.incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
        # Whoever set the fitted attributes by hand may not know these.
        for name, start in (("history_", {}), ("validation_loss_curve_", None)):
            if not hasattr(self, name):
                setattr(self, name, start)
        objective = engine.settings.objective
        observers = Observers(self, request.epochs, given)
        others = None
        if request.validation_data is not None:
            others = self._check_validation(request.validation_data)
        elif self.early_stopping:
            data, others = self._split(*data)
        train = _samples(*data, objective, engine)
        validation = None
        if others is not None:
            samples = _samples(*others, objective, engine)
            y_others, weight = others[1], samples.weight
            validation = Validation(
                samples, lambda outputs: self._score_outputs(outputs, y_others, weight)
            )
        fit = StochasticFit(self, engine, self._optimizer, train, validation, observers)
        fit.run(request.epochs, self._random_state, limited=not request.incremental)

    def _split(self, X: Any, y: np.ndarray, sample_weight: np.ndarray | None) -> tuple[Data, Data]:
        """Return what is trained on, and the part that early stopping is decided by."""
        arrays = [X, y] if sample_weight is None else [X, y, sample_weight]
        parts = train_test_split(
            *arrays,
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=y if self._classifies and y.shape[1] == 1 else None,
        )
        if sample_weight is None:
            parts += [None, None]
        if parts[1].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return (parts[0], parts[2], parts[4]), (parts[1], parts[3], parts[5])

    def _check_validation(self, given: Any) -> Data:
        if not isinstance(given, (tuple, list)) or len(given) not in (2, 3):
            raise ValueError(
                "validation_data must be (X, y) or (X, y, sample_weight), got "
                f"{type(given).__name__}"
            )
        X, y = self._validate_others(given[0], given[1])
        weight = check_sample_weight(given[2], X) if len(given) == 3 else None
        return X, y, weight

    def _snapshot(self) -> dict[str, Any]:
        """Return what an estimator needs to predict as this one would now."""
        engine = self._engine.weights
        kept = {
            "coefs_": [array.copy() for array in engine.coefs],
            "intercepts_": [array.copy() for array in engine.intercepts],
            "batch_norms_": [[array.copy() for array in norm] for norm in engine.norms],
        }
        names = ("out_activation_", "n_outputs_", "n_layers_", "classes_", "_label_binarizer")
        kept.update({name: getattr(self, name) for name in names if hasattr(self, name)})
        return kept

    def _note_epochs(self, logs: Mapping[str, float], losses: list[float]) -> None:
        """Keep what epochs have brought, beside scikit-learn's own attributes.

        `logs` are those of the last one; the others differ from it in their losses alone.
        """
        for name, value in logs.items():
            others = losses[:-1] if name == "loss" else [value] * (len(losses) - 1)
            self.history_.setdefault(name, []).extend([*others, value])
        if "val_loss" in logs:
            if self.validation_loss_curve_ is None:
                self.validation_loss_curve_ = []
            self.validation_loss_curve_.append(logs["val_loss"])
            scores = getattr(self, "validation_scores_", None) or []
            self.validation_scores_ = [*scores, logs["val_score"]]

    def _check_solver(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
            )
        return True

    # ---- afterwards ----------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # A copy: without it Python gives away the dictionary that the estimator lives in.
        state = dict(super().__getstate__())
        state.pop("_engine", None)  # is made again from the weights
        return state

    def _outputs(self, X: Any, ranked: bool = False) -> np.ndarray:
        """Return the outputs for data that have not been checked.

        `ranked` says that only the largest of a row counts, for which softmax makes no difference.
        """
        if not hasattr(self, "coefs_"):
            check_is_fitted(self)
        if not self._plainly_good(X):
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        coefs = [np.asarray(coef) for coef in self.coefs_]
        dtype = coefs[0].dtype
        intercepts = [np.asarray(intercept, dtype) for intercept in self.intercepts_]
        weights = Weights(coefs, intercepts, self._norms())
        precision = "bfloat16" if self.precision == "bfloat16" else None
        out_rule = self.out_activation_
        if ranked and out_rule == "softmax":
            out_rule = "identity"
        rules = [*self._rules(len(coefs) - 1), activation_of(out_rule)]
        return forward(X, weights, rules, precision, thread_limit())

    def _plainly_good(self, X: Any, reset: bool = False) -> bool:
        """Whether X is an array that the whole examination would find nothing wrong with.

        It takes longer than a prediction for a few rows; so what is most common is seen at once.
        """
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype in _DTYPES
            and X.size > 0
            and (reset or X.shape[1] == self.n_features_in_)
            and not hasattr(self, "feature_names_in_")
            and math.isfinite(_core.sum(X.T if X.flags.f_contiguous else X, thread_limit()))
        )

    def _both_plainly_good(self, X: Any, y: Any, reset: bool) -> bool:
        """Whether the same is true of X, and y is as plain: a number for each row."""
        return (
            self._plainly_good(X, reset)
            and type(y) is np.ndarray
            and y.shape == X.shape[:1]
            and (y.dtype.kind in "biu" or (y.dtype.kind == "f" and math.isfinite(y.sum())))
        )

    def _examine(self, X: Any, y: Any, reset: bool, **more: Any) -> tuple[Any, Any]:
        """Return data for training as scikit-learn's examination leaves them.

        It takes as long as some epochs of a small network; so here, too, what is most common is
        seen at once.
        """
        if self._both_plainly_good(X, y, reset):
            if reset:
                self.n_features_in_ = X.shape[1]
            return X, y
        return validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=(np.float64, np.float32),
            reset=reset,
            **more,
        )


def _samples(
    X: Any, y: np.ndarray, weight: np.ndarray | None, objective: Objective, engine: Engine
) -> Samples:
    """Return data as the engine takes them: C-contiguous, in its precision."""
    dtype = np.dtype(engine.settings.dtype)
    if isinstance(X, np.ndarray):
        X = np.ascontiguousarray(X, dtype=dtype)
    else:
        X = X.tocsr().astype(dtype, copy=False)
    targets = objective.targets(y, dtype)
    if weight is not None:
        weight = np.ascontiguousarray(weight, dtype=dtype)
    return Samples(X, targets, weight, objective.constant(targets))
