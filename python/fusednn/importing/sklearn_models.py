# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's MLPs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fusednn import layers
from fusednn.errors import unknown_choice

if TYPE_CHECKING:
    from fusednn.models import Sequential

_ACTIVATIONS = {
    "identity": "linear",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "relu": "relu",
    "softmax": "softmax",
    "exp": "exponential",
}


def _activation(name: str) -> str:
    if name not in _ACTIVATIONS:
        raise unknown_choice("activation", name, _ACTIVATIONS)
    return _ACTIVATIONS[name]


def from_sklearn(estimator: Any, seed: int | None = None) -> Sequential:
    """Return a Sequential that computes what a fitted MLPClassifier or MLPRegressor computes.

    Its outputs are those of ``predict_proba`` (with two classes only the second's column) or
    ``predict``.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
        Fitted; anything with its `coefs_`, `intercepts_`, `activation` and `out_activation_`.
    seed : int, optional
        Of the new model, for training it further.

    Examples
    --------
    >>> from sklearn.neural_network import MLPRegressor  # doctest: +SKIP
    >>> theirs = MLPRegressor((8,)).fit(x, y)  # doctest: +SKIP
    >>> model = fusednn.importing.from_sklearn(theirs)  # doctest: +SKIP
    """
    from fusednn.models import Sequential

    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"{type(estimator).__name__} is not fitted: it has no coefs_")
    names = [estimator.activation] * (len(estimator.coefs_) - 1) + [estimator.out_activation_]
    chain = [
        layers.Dense(kernel.shape[1], activation=_activation(name))
        for kernel, name in zip(estimator.coefs_, names, strict=True)
    ]
    model = Sequential(chain, input_shape=(estimator.coefs_[0].shape[0],), seed=seed)
    weights = []
    for kernel, bias in zip(estimator.coefs_, estimator.intercepts_, strict=True):
        weights += [kernel, bias]
    model.set_weights(weights)
    return model
