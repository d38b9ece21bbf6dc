# SPDX-License-Identifier: Apache-2.0
"""From scikit-learn's perceptrons to ours and back, fitted or not."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn import neural_network

from fusednn.importing.sklearn_models import ACTIVATIONS
from fusednn.sklearn.classifier import MLPClassifier
from fusednn.sklearn.optimizer import Optimizer, spec_of
from fusednn.sklearn.regressor import MLPRegressor

_PAIRS = (
    (neural_network.MLPClassifier, MLPClassifier),
    (neural_network.MLPRegressor, MLPRegressor),
)
_FITTED = ("_label_binarizer", "_no_improvement_count")
# Our names of activations that scikit-learn's hidden layers have under another.
_THEIR_ACTIVATIONS = {ours: theirs for theirs, ours in ACTIVATIONS.items() if theirs != "exp"}
# What scikit-learn's optimizers call the engine's states.
_STATES = {"adam": ("ms", "vs"), "sgd": ("velocities",)}


def from_sklearn(estimator: Any) -> Any:
    """Return our twin of one of scikit-learn's perceptrons.

    Weights, the state of the optimizer and all fitted attributes come along, so `partial_fit` goes
    on where the other stopped.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor

    Returns
    -------
    MLPClassifier or MLPRegressor

    Examples
    --------
    >>> from sklearn import neural_network
    >>> from fusednn.sklearn import from_sklearn
    >>> from_sklearn(neural_network.MLPClassifier((5,), alpha=0.1)).alpha
    0.1
    """
    kind = _partner(estimator, 0)
    ours = kind(**estimator.get_params(deep=False))
    _copy_fitted(estimator, ours)
    theirs = getattr(estimator, "_optimizer", None)
    if theirs is None or not hasattr(ours, "coefs_"):
        return ours
    ours._optimizer = state = Optimizer(spec_of(ours), ours.learning_rate, ours.power_t, None)
    if ours.solver == "sgd":
        state.learning_rate = float(theirs.learning_rate)
    else:
        state.schedule = "constant"
    n = len(ours.coefs_)
    slots = [_interleaved(getattr(theirs, name), n) for name in _STATES[ours.solver]]
    state._kept = (int(getattr(theirs, "t", 1)), [], slots)
    return ours


def to_sklearn(estimator: Any) -> Any:
    """Return scikit-learn's twin of one of our perceptrons.

    What only concerns training and is unknown there (dropout, class weights, callbacks, threads)
    is left behind. Raises ValueError where predictions would not be the same, or where the solver
    is one that scikit-learn does not have.

    Examples
    --------
    >>> from fusednn.sklearn import MLPRegressor, to_sklearn
    >>> type(to_sklearn(MLPRegressor("poisson"))).__module__.split(".")[0]
    'sklearn'
    """
    kind = _partner(estimator, 1)
    given = estimator.get_params(deep=False)
    if isinstance(name := given["activation"], str):
        given["activation"] = _THEIR_ACTIVATIONS.get(name, name)
    known = kind().get_params(deep=False)
    _check_known(estimator, given, known)
    theirs = kind(**{name: given[name] for name in known})
    _copy_fitted(estimator, theirs)
    if not hasattr(theirs, "coefs_"):
        return theirs
    theirs.coefs_ = [np.array(coef) for coef in estimator.coefs_]
    theirs.intercepts_ = [np.array(intercept) for intercept in estimator.intercepts_]
    theirs._best_coefs = [coef.copy() for coef in theirs.coefs_]
    theirs._best_intercepts = [intercept.copy() for intercept in theirs.intercepts_]
    state = getattr(estimator, "_optimizer", None)
    if state is not None and (kept := state._state()) is not None:
        theirs._optimizer = _their_optimizer(theirs, state, kept)
    return theirs


def _partner(estimator: Any, side: int) -> Any:
    for pair in _PAIRS:
        if type(estimator) is pair[side]:
            return pair[1 - side]
    house = ("sklearn.neural_network", "fusednn.sklearn")[side]
    names = " or ".join(f"{house}.{pair[side].__name__}" for pair in _PAIRS)
    given = type(estimator)
    raise TypeError(f"estimator must be a {names}, got {given.__module__}.{given.__name__}")


def _copy_fitted(source: Any, target: Any) -> None:
    for name, value in vars(source).items():
        if name in _FITTED or (name.endswith("_") and not name.startswith("_")):
            # The weights are changed in place while training goes on.
            setattr(target, name, copy.deepcopy(value))


def _check_known(estimator: Any, given: dict[str, Any], known: dict[str, Any]) -> None:
    refused = {"batch_norm": False, "optimizer_params": None, "schedule": None}
    for name, plain in refused.items():
        if given[name] != plain:
            raise ValueError(f"scikit-learn has no {name}={given[name]!r}")
    choices = {
        "activation": ("identity", "logistic", "tanh", "relu"),
        "solver": ("lbfgs", "sgd", "adam"),
        "loss": ("auto", "log_loss", "squared_error", "poisson"),
    }
    for name, values in choices.items():
        plain = isinstance(given[name], str) and given[name] in values
        if not plain or (name == "loss" and given[name] == "poisson" and "loss" not in known):
            raise ValueError(f"scikit-learn has no {name}={given[name]!r}")


def _interleaved(arrays: Any, n: int) -> list[np.ndarray]:
    """Return kernel, bias, kernel, bias ... from all kernels and then all biases."""
    return [np.array(arrays[i + n * k]) for i in range(n) for k in range(2)]


def _their_optimizer(theirs: Any, state: Optimizer, kept: tuple) -> Any:
    from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

    parameters = theirs.coefs_ + theirs.intercepts_
    if theirs.solver == "adam":
        optimizer = AdamOptimizer(
            parameters,
            theirs.learning_rate_init,
            theirs.beta_1,
            theirs.beta_2,
            theirs.epsilon,
        )
        optimizer.t = kept[0]
    else:
        optimizer = SGDOptimizer(
            parameters,
            theirs.learning_rate_init,
            theirs.learning_rate,
            theirs.momentum,
            theirs.nesterovs_momentum,
            theirs.power_t,
        )
        optimizer.learning_rate = state.learning_rate
    for name, slot in zip(_STATES[theirs.solver], kept[2], strict=True):
        setattr(optimizer, name, slot[0::2] + slot[1::2])
    return optimizer
