# SPDX-License-Identifier: Apache-2.0
"""The regressor."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from scipy import sparse
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if

from fusednn.errors import check_integer
from fusednn.losses import Loss
from fusednn.sklearn import scores
from fusednn.sklearn.base import BaseMLP, Request
from fusednn.sklearn.compat import StrOptions, with_callbacks
from fusednn.sklearn.objectives import REGRESSION_LOSSES, Objective, for_values


class MLPRegressor(RegressorMixin, BaseMLP):
    """scikit-learn's regressor of the same name, trained by fused native code.

    With the same arguments it follows scikit-learn step by step: same initial weights, same
    batches, same formulas, same rules for stopping. Arguments after `max_fun` are new, and so are
    most losses. `loss` comes first, as in scikit-learn since 1.7.

    Parameters
    ----------
    loss : str or fusednn.losses.Loss
        "squared_error" and "poisson" as in scikit-learn (half of the squared error, half of the
        deviance of an exponential output); "absolute_error", "huber", "log_cosh", "quantile", or an
        object with parameters, as ``fusednn.losses.Quantile(0.9)``.
    hidden_layer_sizes : sequence of int, or int
        Units of the hidden layers.
    activation : str, fusednn.activations.Activation, or list
        "identity", "logistic", "tanh", "relu", or any of ``fusednn.activations.names()``; a list
        has one per hidden layer.
    solver : str or fusednn.optimizers.Optimizer
        "lbfgs", "sgd", "adam" as in scikit-learn; or "adamw", "rmsprop", "nadam", "radam",
        "adagrad", "adadelta", "adamax", "lion", "lamb" with PyTorch's formulas and defaults.
    alpha : float
        L2 penalty of the kernels, divided by the number of samples of a batch.
    batch_size : int or "auto"
        "auto" is ``min(200, n_samples)``.
    learning_rate : {"constant", "invscaling", "adaptive"}
        What becomes of `learning_rate_init`; not for "adam" and "lbfgs".
    learning_rate_init, power_t, max_iter, shuffle, tol : as in scikit-learn
    random_state : int, RandomState or None
        Decides initial weights, the split for early stopping, and the order of samples: the same
        numbers as in scikit-learn.
    verbose, warm_start, momentum, nesterovs_momentum : as in scikit-learn
    early_stopping, validation_fraction, n_iter_no_change : as in scikit-learn
        Part of the data decides when to stop; or all of `validation_data`, given to `fit`.
    beta_1, beta_2, epsilon, max_fun : as in scikit-learn
    dropout : float or list of float
        Share of the units of each hidden layer that are left out of a step.
    batch_norm : bool
        Whether hidden layers are normalised over the batch, before their activation. Sample
        weights weigh losses, not these statistics.
    l1 : float
        L1 penalty of the kernels, scaled as `alpha`.
    clipnorm : float, optional
        Most that the norm of all gradients together may be.
    optimizer_params : dict, optional
        More arguments of the optimizer named by `solver`.
    initializer : str or fusednn.initializers.Initializer
        Of the kernels, with biases 0; "auto" is scikit-learn's law for both.
    schedule : callable, optional
        ``schedule(step)`` is the learning rate of each step, counted from 0.
    callbacks : list of fusednn.callbacks.Callback, optional
        Their `logs` have "loss", "learning_rate" and, with validation data, "val_loss" and
        "val_score".
    device : {"auto", "cpu", "cuda"}
    precision : {"auto", "float32", "float64", "bfloat16"}
        "auto" follows X. "bfloat16" is float32 with rounded operands in products.
    n_threads : int, optional
        Most threads that training uses; default ``fusednn.get_num_threads()``.

    Attributes
    ----------
    coefs_, intercepts_ : list of array
        Kernels of shape (in, out), and biases.
    loss_, best_loss_, loss_curve_, n_iter_, t_, n_layers_, n_outputs_, out_activation_
        As in scikit-learn.
    validation_scores_, best_validation_score_
        As in scikit-learn; the scores also where validation data are given without early stopping.
    validation_loss_curve_ : list of float or None
        Loss on the validation data, without penalty.
    history_ : dict of str to list of float
        All that is known of each epoch.
    n_features_in_, feature_names_in_
        Of X.
    device_ : str
        The device that "auto" stands for.

    Examples
    --------
    >>> from fusednn.sklearn import MLPRegressor
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor("huber", (32,), solver="nadam", learning_rate_init=0.01, tol=1e-3)
    >>> model.fit(10 * X, y / 100).score(10 * X, y / 100) > 0.4
    True
    """

    _classifies = False
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION_LOSSES)), Loss],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        batch_norm: bool = False,
        l1: float = 0.0,
        clipnorm: float | None = None,
        optimizer_params: Any = None,
        initializer: Any = "auto",
        schedule: Any = None,
        callbacks: Any = None,
        device: str = "auto",
        precision: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.batch_norm = batch_norm
        self.l1 = l1
        self.clipnorm = clipnorm
        self.optimizer_params = optimizer_params
        self.initializer = initializer
        self.schedule = schedule
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.n_threads = n_threads

    # ---- data ----------------------------------------------------------------------------------

    def _check_combinations(self) -> None:
        super()._check_combinations()
        if isinstance(self.solver, str) and self.precision == "bfloat16" and self.solver == "lbfgs":
            raise ValueError("precision='bfloat16' is too coarse for solver='lbfgs'")

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        if sparse.issparse(y):
            raise TypeError("y must be an array, got a sparse matrix; use y.toarray()")
        X, y = self._examine(X, y, reset, y_numeric=True)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y.reshape(len(y), -1)

    def _validate_others(self, X: Any, y: Any) -> tuple[Any, Any]:
        X, y = self._validate_input(X, y, True, reset=False)
        self._check_range(y)
        if y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"validation_data: y has {y.shape[1]} columns, expected {self.n_outputs_}"
            )
        return X, y

    def _objective(self, y: np.ndarray) -> Objective:
        self._check_range(y)
        return for_values(self.loss, y.shape[1])

    def _check_range(self, y: np.ndarray) -> None:
        if self.loss == "poisson" and len(y) and y.min() < 0:
            raise ValueError(f"loss='poisson' needs y of at least 0, got {y.min():g}")

    def _score_outputs(
        self, outputs: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> float:
        return scores.r2(y, np.exp(outputs) if self.loss == "poisson" else outputs, weight)

    # ---- partial_fit and predictions -----------------------------------------------------------

    @available_if(lambda self: self._check_solver())
    @with_callbacks
    def partial_fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, epochs: int = 1
    ) -> MLPRegressor:
        """Update the model with one epoch, or several, over the given data.

        Parameters
        ----------
        X, y, sample_weight : as in `fit`
        epochs : int
            How often to go through the data.

        Returns
        -------
        self

        Examples
        --------
        >>> from fusednn.sklearn import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), random_state=0)
        >>> len(model.partial_fit([[0.0], [1.0]], [1.0, 2.0], epochs=3).loss_curve_)
        3
        """
        self._validate_params()
        self._check_combinations()
        first = not hasattr(self, "coefs_")
        epochs = check_integer("epochs", epochs, 1)
        return self._fit(X, y, sample_weight, Request(first, True, None, epochs))

    def predict(self, X: Any) -> np.ndarray:
        """Return the value of each row, or one per output.

        Examples
        --------
        >>> from fusednn.sklearn import MLPRegressor
        >>> model = MLPRegressor(hidden_layer_sizes=(4,), solver="lbfgs", random_state=0)
        >>> model.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]).predict([[1.0]]).shape
        (1,)
        """
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
