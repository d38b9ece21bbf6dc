# SPDX-License-Identifier: Apache-2.0
"""Search over hyper-parameters, with many networks in training at once."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, ParameterGrid, ParameterSampler, check_cv

from fusednn import _core
from fusednn.errors import check_integer, unknown_choice
from fusednn.sklearn.classifier import MLPClassifier
from fusednn.sklearn.compat import warn_of_failures
from fusednn.sklearn.engine import Engine
from fusednn.sklearn.regressor import MLPRegressor
from fusednn.sklearn.threads import in_threads, one_thread_per_model
from fusednn.sklearn.trials import Fold, evaluate, fold_of

_SEARCHES = ("grid", "random", "halving")


class FusedSearchCV(GridSearchCV):
    """Grid, random and successive-halving search, one task per model over the threads.

    Parameters, attributes and methods are those of scikit-learn's `GridSearchCV`; so are the
    results, split by split. Models are trained in threads of this process: no process is started,
    nothing is copied to one, and each model runs native code on a thread of its own.

    Parameters
    ----------
    estimator : estimator
        `MLPClassifier`, `MLPRegressor`, or a pipeline or the like around them. Others work, too,
        as fast as their own code lets several threads run.
    param_grid : dict or list of dict
        Values to try; for "random" and "halving" also distributions with ``rvs``.
    search : {"grid", "random", "halving"}
        "halving" gives all candidates few epochs, the better ones more, and the last of them all.
    n_iter : int, optional
        Candidates that are drawn. "random" draws 10 by default, "halving" tries the whole grid.
    factor : int
        "halving" keeps one in so many candidates, and gives them that many times the epochs.
    resource : str
        The parameter that "halving" raises up to its present value, for instance
        ``"mlpclassifier__max_iter"`` in a pipeline.
    random_state : int, RandomState or None
        Of the candidates that are drawn.
    scoring, refit, cv, verbose, error_score, return_train_score
        As in `GridSearchCV`.
    n_jobs : int, optional
        Models at once, by default as many as there are threads.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fusednn.sklearn import FusedSearchCV, MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> grid = {"hidden_layer_sizes": [(8,), (16,)], "alpha": [1e-4, 1e-2]}
    >>> model = MLPClassifier(learning_rate_init=0.01, max_iter=200, tol=1e-2, random_state=0)
    >>> search = FusedSearchCV(model, grid, cv=3).fit(X, y)
    >>> len(search.cv_results_["params"])
    4
    """

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        search: str = "grid",
        n_iter: int | None = None,
        factor: int = 3,
        resource: str = "max_iter",
        random_state: Any = None,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        error_score: Any = np.nan,
        return_train_score: bool = False,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.search = search
        self.n_iter = n_iter
        self.factor = factor
        self.resource = resource
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, **params: Any) -> FusedSearchCV:
        """Try all candidates on all splits and fit the best one to all data.

        Parameters
        ----------
        X, y
            As for the estimator.
        **params
            For the fit of the estimator, for instance `sample_weight`.

        Returns
        -------
        self
        """
        if self.search not in _SEARCHES:
            raise unknown_choice("search", self.search, _SEARCHES)
        if self.n_iter is not None:
            check_integer("n_iter", self.n_iter, 1)
        check_integer("factor", self.factor, 2)
        with joblib.parallel_config("threading", n_jobs=self._jobs()), one_thread_per_model():
            if not params and self._is_plain(X, y):
                return self._fit_plain(X, y)
            return super().fit(X, y, **params)

    def _jobs(self) -> int:
        return _core.num_threads() if self.n_jobs is None else self.n_jobs

    # ---- the short way -------------------------------------------------------------------------

    def _is_plain(self, X: Any, y: Any) -> bool:
        """Whether the fits differ in parameters and rows only, and nobody watches them."""
        estimator = self.estimator
        return (
            type(estimator) in (MLPClassifier, MLPRegressor)
            and self.scoring is None
            and not self.verbose
            and not hasattr(self, "_skl_callbacks")
            and not hasattr(estimator, "_skl_callbacks")
            and clone(estimator)._both_plainly_good(X, y, reset=True)
            and (not is_classifier(estimator) or y.dtype.kind in "biu")
        )

    def _fit_plain(self, X: np.ndarray, y: np.ndarray) -> FusedSearchCV:
        """Do what GridSearchCV.fit does where all is plain."""
        self._validate_params()
        scorer, refit_metric = self._get_scorers()
        base = clone(self.estimator)
        splitter = check_cv(self.cv, y, classifier=is_classifier(base))
        folds = [fold_of(base, X, y, split) for split in splitter.split(X, y)]
        candidates: list[Mapping[str, Any]] = []
        noted: list[dict[str, Any]] = []
        notes: dict[str, list[Any]] = {}
        results: Mapping[str, Any] = {}
        engines: list[Engine] = []
        workers = joblib.effective_n_jobs(self._jobs())

        def trial(of: tuple[Mapping[str, Any], Fold]) -> dict[str, Any]:
            return evaluate(base, *of, self, engines)

        def evaluate_candidates(
            given: Sequence[Mapping[str, Any]], more_results: Mapping[str, Any] | None = None
        ) -> Mapping[str, Any]:
            nonlocal results
            found = in_threads(trial, list(itertools.product(given, folds)), workers)
            if not found:
                raise ValueError("No fits were performed: there are no candidates or no splits")
            warn_of_failures(found, self.error_score)
            candidates.extend(given)
            noted.extend(found)
            for name, values in (more_results or {}).items():
                notes.setdefault(name, []).extend(values)
            results = self._format_results(candidates, len(folds), noted, notes)
            return results

        self._run_search(evaluate_candidates)
        self.cv_results_, self.n_splits_ = results, len(folds)
        self.scorer_, self.multimetric_ = scorer, False
        self.best_index_ = self._select_best_index(self.refit, refit_metric, results)
        if not callable(self.refit):
            self.best_score_ = results[f"mean_test_{refit_metric}"][self.best_index_]
        self.best_params_ = results["params"][self.best_index_]
        if self.refit:
            best = clone(base).set_params(**clone(self.best_params_, safe=False))
            begin = time.perf_counter()
            self.best_estimator_ = best.fit(X, y)
            self.refit_time_ = time.perf_counter() - begin
        return self

    # ---- the candidates ------------------------------------------------------------------------

    def _run_search(self, evaluate_candidates: Callable[..., Any]) -> None:
        candidates = self._candidates()
        if self.search != "halving":
            evaluate_candidates(candidates)
            return
        known = self.estimator.get_params()
        if self.resource not in known:
            raise unknown_choice("resource", self.resource, known)
        if any(self.resource in each for each in candidates):
            raise ValueError(f"{self.resource} is the resource, so param_grid cannot have it")
        last = check_integer(self.resource, known[self.resource], 1)
        rounds = 0
        while self.factor ** (rounds + 1) <= len(candidates):
            rounds += 1
        for place in range(rounds + 1):
            amount = max(1, last // self.factor ** (rounds - place))
            asked = [{**each, self.resource: amount} for each in candidates]
            notes = {"iter": [place] * len(asked), "n_resources": [amount] * len(asked)}
            results = evaluate_candidates(asked, more_results=notes)
            keep = math.ceil(len(candidates) / self.factor)
            best = np.argsort(self._scores(results)[-len(asked) :], kind="stable")[::-1][:keep]
            candidates = [candidates[i] for i in best]

    def _candidates(self) -> list[Mapping[str, Any]]:
        drawn = self.n_iter
        if self.search == "random" and drawn is None:
            drawn = 10
        if drawn is None or self.search == "grid":
            return list(ParameterGrid(self.param_grid))
        return list(ParameterSampler(self.param_grid, drawn, random_state=self.random_state))

    def _scores(self, results: Mapping[str, Any]) -> np.ndarray:
        """Return what "halving" compares, with failures behind everything."""
        metric = self.refit if isinstance(self.refit, str) else "score"
        if f"mean_test_{metric}" not in results:
            raise ValueError(
                "search='halving' compares by one score: with several, refit must name it, "
                f"got refit={self.refit!r}"
            )
        return np.nan_to_num(np.asarray(results[f"mean_test_{metric}"]), nan=-np.inf)

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: Mapping[str, Any]) -> int:
        """Return the best candidate; after halving, the best of the last round."""
        if callable(refit) or "iter" not in results:
            return GridSearchCV._select_best_index(refit, refit_metric, results)
        scores = np.nan_to_num(np.asarray(results[f"mean_test_{refit_metric}"]), nan=-np.inf)
        rounds: Sequence[int] = results["iter"]
        return int(np.where(np.asarray(rounds) == max(rounds), scores, -np.inf).argmax())
