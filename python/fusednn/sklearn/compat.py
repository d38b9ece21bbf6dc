# SPDX-License-Identifier: Apache-2.0
"""What differs between the releases of scikit-learn from 1.5 on, and what is private there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sklearn
from sklearn.base import BaseEstimator, is_classifier
from sklearn.model_selection._validation import _warn_or_raise_about_fit_failures
from sklearn.utils._param_validation import Interval as Interval
from sklearn.utils._param_validation import Options as Options
from sklearn.utils._param_validation import StrOptions as StrOptions
from sklearn.utils.multiclass import _check_partial_fit_first_call
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight

VERSION = tuple(int(part) for part in sklearn.__version__.split(".")[:2])

if VERSION >= (1, 6):
    from sklearn.utils.validation import validate_data as validate_data

    class Tagged(BaseEstimator):
        """States what the estimators take, in the words of the release."""

        def __sklearn_tags__(self) -> Any:
            tags = super().__sklearn_tags__()
            tags.input_tags.sparse = True
            return tags

else:

    def validate_data(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        return estimator._validate_data(*args, **kwargs)

    class Tagged(BaseEstimator):  # type: ignore[no-redef]
        """States what the estimators take, in the words of the release."""

        def _more_tags(self) -> dict[str, Any]:
            return {"multilabel": is_classifier(self)}


def warn_of_failures(noted: list[dict[str, Any]], error_score: Any) -> None:
    """Warn of fits of a search that failed; ValueError where all of them did."""
    _warn_or_raise_about_fit_failures(noted, error_score)


def iterations_of(result: Any, max_iter: int) -> int:
    """Return how many iterations L-BFGS took; warns where they were too few."""
    return int(_check_optimize_result("lbfgs", result, max_iter))


def check_sample_weight(sample_weight: Any, X: Any) -> Any:
    """Return one weight per row of X."""
    return _check_sample_weight(sample_weight, X)


def first_partial_fit(estimator: Any, classes: Any) -> bool:
    """Whether partial_fit is called for the first time; sets `classes_` then."""
    return _check_partial_fit_first_call(estimator, classes)


# Where the caller of `fit` is in the eyes of what trains, as a `stacklevel` of warnings.
CALLER = 7 if VERSION >= (1, 9) else 6

if VERSION >= (1, 9):
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks as with_callbacks

else:

    class CallbackSupport:  # type: ignore[no-redef]
        """Before 1.9 there are no callbacks of scikit-learn's."""

    def with_callbacks(method: Any) -> Any:
        return method


class Observers:
    """scikit-learn's callbacks during one fit: a task for the fit, and one for each epoch.

    Without callbacks, and before 1.9, nothing is done.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    epochs : int
        At most.
    data : dict
        X, y and metadata, as the hooks are given them.
    """

    def __init__(self, estimator: Any, epochs: int, data: dict[str, Any]) -> None:
        self._given = {"estimator": estimator, **data}
        self._context = None
        if VERSION >= (1, 9) and hasattr(estimator, "_skl_callbacks"):
            self._context = estimator._init_callback_context(max_subtasks=epochs)
            self._context.call_on_fit_task_begin(**self._given)

    @property
    def present(self) -> bool:
        """Whether there are any."""
        return self._context is not None

    def epoch_begin(self) -> None:
        if self._context is not None:
            self._epoch = self._context.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(**self._given)

    def epoch_end(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Whether somebody wants to stop; `attributes` makes an estimator of the present state."""
        if self._context is None:
            return False
        return self._epoch.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)

    def end(self, attributes: Callable[[], dict[str, Any]]) -> None:
        if self._context is not None:
            self._context.call_on_fit_task_end(**self._given, reconstruction_attributes=attributes)
