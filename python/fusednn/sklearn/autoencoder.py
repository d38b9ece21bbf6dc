# SPDX-License-Identifier: Apache-2.0
"""Features that a network finds by itself."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from fusednn.sklearn.architecture import Weights, activation_of, forward
from fusednn.sklearn.compat import Interval, Tagged, check_sample_weight, validate_data
from fusednn.sklearn.regressor import MLPRegressor
from fusednn.sklearn.threads import thread_limit


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Tagged):
    """Compresses samples into few numbers from which a decoder can restore them.

    A network learns to return its input through a narrow middle layer; `transform` gives the
    values of that layer.

    Parameters
    ----------
    n_components : int
        Units of the middle layer.
    hidden_layer_sizes : sequence of int
        Hidden layers of the encoder; the decoder has the same in reverse.
    activation : str or fusednn.activations.Activation
        Of the hidden layers. The middle layer has `code_activation`.
    code_activation : str or fusednn.activations.Activation
    loss : str or fusednn.losses.Loss
        What restoring badly costs; see `MLPRegressor`.
    solver, alpha, batch_size, learning_rate_init, max_iter, shuffle, random_state, tol, verbose,
    early_stopping, validation_fraction, n_iter_no_change, batch_norm, l1, schedule,
    callbacks, device, precision, n_threads
        As in `MLPRegressor`.

    Attributes
    ----------
    network_ : MLPRegressor
        Encoder and decoder together, with `loss_curve_` and all else.
    n_iter_ : int
        Epochs of training.
    n_features_in_, feature_names_in_
        Of X.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fusednn.sklearn import AutoencoderTransformer
    >>> X = load_digits().data / 16
    >>> encoder = AutoencoderTransformer(8, (32,), max_iter=20, tol=1, random_state=0)
    >>> encoder.fit_transform(X).shape
    (1797, 8)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(
        self,
        n_components: int = 2,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        code_activation: Any = "identity",
        loss: Any = "squared_error",
        solver: Any = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: float = 10,
        batch_norm: bool = False,
        l1: float = 0.0,
        schedule: Any = None,
        callbacks: Any = None,
        device: str = "auto",
        precision: str = "auto",
        n_threads: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.code_activation = code_activation
        self.loss = loss
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.batch_norm = batch_norm
        self.l1 = l1
        self.schedule = schedule
        self.callbacks = callbacks
        self.device = device
        self.precision = precision
        self.n_threads = n_threads

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> AutoencoderTransformer:
        """Learn to restore the rows of X.

        Parameters
        ----------
        X : array or sparse matrix of shape (samples, features)
        y : ignored
        sample_weight : array of shape (samples,), optional

        Returns
        -------
        self
        """
        self._validate_params()
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32))
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        own = ("n_components", "code_activation", "hidden_layer_sizes", "activation")
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in own}
        self.network_ = MLPRegressor(
            hidden_layer_sizes=[*sizes, self.n_components, *reversed(sizes)],
            activation=[
                *[self.activation] * len(sizes),
                self.code_activation,
                *[self.activation] * len(sizes),
            ],
            **params,
        )
        self.network_.fit(X, X if isinstance(X, np.ndarray) else X.toarray(), sample_weight)
        self.n_iter_ = self.network_.n_iter_
        self._n_features_out = self.n_components
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Return the code of each row.

        Returns
        -------
        array of shape (samples, n_components)
        """
        check_is_fitted(self)
        X = validate_data(
            self,
            X,
            accept_sparse=["csr", "csc"],
            dtype=(np.float64, np.float32),
            reset=False,
        )
        return self._part(X, 0, self._depth())

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Return the rows that codes stand for.

        Parameters
        ----------
        X : array of shape (samples, n_components)

        Returns
        -------
        array of shape (samples, features)
        """
        check_is_fitted(self)
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] != self.n_components:
            raise ValueError(f"X must have {self.n_components} columns, got shape {X.shape}")
        return self._part(X, self._depth(), len(self.network_.coefs_))

    def _depth(self) -> int:
        """How many layers the encoder has."""
        return len(self.network_.coefs_) // 2

    def _part(self, X: Any, first: int, end: int) -> np.ndarray:
        network = self.network_
        # The code is a hidden layer of the whole, with a norm where the others have one.
        rules = [
            *network._rules(len(network.coefs_) - 1),
            activation_of(network.out_activation_),
        ]
        weights = Weights(
            network.coefs_[first:end],
            network.intercepts_[first:end],
            network.batch_norms_[first:end],
        )
        return forward(X, weights, rules[first:end], threads=thread_limit())
