# SPDX-License-Identifier: Apache-2.0
"""scikit-learn's MLPs, and ours of the same names."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from fusednn import layers

if TYPE_CHECKING:
    from fusednn.models import Sequential

# scikit-learn's names that are not ours.
ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid", "exp": "exponential"}


def from_sklearn(estimator: Any, seed: int | None = None) -> Sequential:
    """Return a Sequential that computes what a fitted MLPClassifier or MLPRegressor computes.

    Its outputs are those of ``predict_proba`` (with two classes only the second's column) or
    ``predict``.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor, of sklearn.neural_network or fusednn.sklearn
        Fitted; anything with its `coefs_`, `intercepts_`, `activation` and `out_activation_`.
        Batch norm comes along, dropout does not: only training knows it.
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
    hidden = len(estimator.coefs_) - 1
    given = estimator.activation
    rules = list(given) if isinstance(given, (list, tuple)) else [given] * hidden
    rules.append(estimator.out_activation_)
    chain: list[layers.Layer] = []
    weights: list[Any] = []
    described = zip(estimator.coefs_, estimator.intercepts_, rules, strict=True)
    norms = getattr(estimator, "batch_norms_", ())
    for (kernel, bias, rule), norm in zip_longest(described, norms):
        if isinstance(rule, str):
            rule = ACTIVATIONS.get(rule, rule)
        if norm is None:
            chain.append(layers.Dense(len(bias), activation=rule))
        else:
            # Only ours have it, and they need scikit-learn, which nothing else does here.
            from fusednn.sklearn.architecture import NORM_EPSILON

            between = layers.BatchNormalization(epsilon=NORM_EPSILON)
            chain += [layers.Dense(len(bias)), between, layers.Activation(rule)]
        weights += [kernel, bias, *(norm or ())]
    model = Sequential(chain, input_shape=(len(estimator.coefs_[0]),), seed=seed)
    model.set_weights(weights)
    return model
