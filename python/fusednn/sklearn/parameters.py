# SPDX-License-Identifier: Apache-2.0
"""Which parameters an estimator takes, and how they are checked for every fit."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn import get_config
from sklearn.base import BaseEstimator, clone
from sklearn.utils._param_validation import make_constraint

from fusednn import activations, initializers, optimizers
from fusednn.activations import Activation
from fusednn.callbacks import Callback
from fusednn.sklearn import optimizer
from fusednn.sklearn.compat import Interval, Options, StrOptions

_SIMPLE = (bool, int, float, str, type(None))
_ACTIVATIONS = {"identity", "logistic"} | {
    name for name in activations.names() if not Activation(name).rowwise
}


class CheckedParameters(BaseEstimator):
    """The parameters that all estimators have, and their checks."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(_ACTIVATIONS), Activation, list, tuple],
        "solver": [
            StrOptions({"lbfgs", *optimizer.names()}),
            optimizers.Optimizer,
        ],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [
            Interval(Integral, 1, None, closed="left"),
            Options(Real, {np.inf}),
        ],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "batch_norm": ["boolean"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "clipnorm": [Interval(Real, 0, None, closed="neither"), None],
        "optimizer_params": [dict, None],
        "initializer": [str, initializers.Initializer],
        "schedule": [callable, None],
        "callbacks": [Callback, list, tuple, None],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "float64", "bfloat16"})],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    }

    @classmethod
    @functools.cache
    def _get_param_names(cls) -> list[str]:
        # scikit-learn reads the constructor's signature anew each time it clones an estimator.
        return super()._get_param_names()

    def _like(self, parameters: Mapping[str, Any]) -> Any:
        """Return a clone with other values of some parameters.

        `clone` copies every value to be safe, numbers and strings, too, and `set_params` looks each
        name up again; a search has better things to do.
        """
        if not parameters.keys() <= set(self._get_param_names()):
            return clone(self).set_params(**clone(parameters, safe=False))  # has words for it
        given = {**self.get_params(deep=False), **parameters}
        for name, value in given.items():
            if type(value) not in _SIMPLE:
                given[name] = clone(value, safe=False)
        return type(self)(**given)

    @classmethod
    @functools.cache
    def _constraints(cls) -> dict[str, list[Any]]:
        allowed = cls._parameter_constraints
        return {name: [make_constraint(kind) for kind in allowed[name]] for name in allowed}

    @classmethod
    def _allows(cls, name: str, value: Any) -> bool:
        return any(kind.is_satisfied_by(value) for kind in cls._constraints()[name])

    @classmethod
    @functools.lru_cache(4096, typed=True)  # 1 and True are different entries
    def _allows_simple(cls, name: str, value: Any) -> bool:
        return cls._allows(name, value)

    def _validate_params(self) -> None:
        """Check the parameters as scikit-learn does, which has the words for those that are wrong.

        A search does it for every fit, so what is right is recognised without its preparations.
        """
        if get_config()["skip_parameter_validation"]:
            return
        known = self._constraints()
        for name, value in self.get_params(deep=False).items():
            if name not in known:  # a subclass may have a constructor of its own
                continue
            simple = type(value) in _SIMPLE
            if not (self._allows_simple if simple else self._allows)(name, value):
                super()._validate_params()
