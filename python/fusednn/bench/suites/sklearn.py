# SPDX-License-Identifier: Apache-2.0
"""``fusednn.sklearn`` beside scikit-learn: the same program with another import.

The gate is scikit-learn itself: the losses of all epochs are its losses, and the score on rows that
nobody was trained on is its score. Both follow the same batches from the same initial weights.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusednn import data as tables
from fusednn import datasets
from fusednn.bench import goals, harness
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network

BATCH = 200  # scikit-learn's own choice
# Relative, of the losses: rounding grows from step to step.
TOLERANCE = {"float32": 1e-2, "float64": 1e-6}
# Of a score, where everything is the same except for rounding; and of the best of many.
SCORES_DIFFER, BEST_DIFFER = 0.01, 0.01


@dataclass(frozen=True)
class Training:
    """Data, hidden layers, epochs of a fit, and how many times sooner it is to be done."""

    data: str
    hidden: tuple[int, ...]
    epochs: int
    lead: float


TRAININGS = [
    Training("digits", (64,), 20, 10.0),
    Training("digits", (128, 128), 20, 10.0),
    Training("digits", (512, 512), 5, 2.5),
    Training("adult", (100,), 1, 5.0),
]
PREDICTED_ROWS = (1, 100, 1437)
PREDICT_LEAD = 3.0
SEARCH_LEAD = 15.0
# 48 networks, each trained on five splits.
GRID: dict[str, list[Any]] = {
    "hidden_layer_sizes": [(32,), (64,), (64, 32)],
    "alpha": [1e-5, 1e-4, 1e-2, 1.0],
    "learning_rate_init": [1e-3, 2e-3, 5e-3, 1e-2],
}
FOLDS, SEARCH_EPOCHS = 5, 20


@dataclass(frozen=True)
class Rows:
    """What is trained on, and what is scored."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.y_train.max()) + 1


@functools.cache
def _rows(name: str) -> Rows:
    found: Any = datasets.load(name)
    if isinstance(found, datasets.Dataset):
        return Rows(found.x_train, found.y_train, found.x_test, found.y_test)
    labels = found.table[found.target]
    part = tables.split(len(labels), validation=0, test=0.2, stratify=labels, seed=0)
    train, test = found.table.take(part.train), found.table.take(part.test)
    made = tables.Preprocessor(found.target).fit(train)
    targets = [made.transform_target(table) for table in (train, test)]
    y_train, y_test = (y.reshape(-1).astype(np.int64) for y in targets)
    return Rows(made.transform(train), y_train, made.transform(test), y_test)


def _kinds() -> tuple[Any, Any]:
    """Return our class and scikit-learn's."""
    from sklearn.neural_network import MLPClassifier

    from fusednn import sklearn

    return sklearn.MLPClassifier, MLPClassifier


def _quietly(function: Callable[[], Any]) -> Callable[[], Any]:
    """Return the function without the warning that the number of epochs is given."""

    def call() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function()

    return call


# ---- fit ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """The loss of each epoch, and the score on rows that were not trained on."""

    losses: list[float]
    score: float


def _fit(training: Training, dtype: str) -> Work:
    rows = _rows(training.data)
    x, x_test = rows.x_train.astype(dtype), rows.x_test.astype(dtype)

    def candidate(kind: Any) -> Candidate:
        model = kind(training.hidden, batch_size=BATCH, max_iter=training.epochs, random_state=0)
        fit = _quietly(lambda: model.fit(x, rows.y_train))

        def answer() -> Fitted:
            return Fitted(list(fit().loss_curve_), model.score(x_test, rows.y_test))

        return Candidate(fit, functools.cache(answer))

    ours, theirs = (candidate(kind) for kind in _kinds())

    def check(fitted: Fitted) -> str:
        right = theirs.answer()
        if not math.isclose(fitted.score, right.score, rel_tol=0, abs_tol=SCORES_DIFFER):
            return f"score {fitted.score:.4f}, scikit-learn's is {right.score:.4f}"
        return harness.close_to([right.losses], TOLERANCE[dtype])([fitted.losses])

    return Work(ours, {"sklearn": lambda: theirs}, check, quality=lambda fitted: fitted.score)


# ---- predict -----------------------------------------------------------------------------------


def _predict(hidden: tuple[int, ...], dtype: str, count: int) -> Work:
    rows = _rows("digits")
    x = rows.x_train.astype(dtype)
    kinds = [kind(hidden, max_iter=2, random_state=0) for kind in _kinds()]
    ours, theirs = (_quietly(functools.partial(model.fit, x, rows.y_train))() for model in kinds)
    some = x[:count]

    def candidate(model: Any) -> Candidate:
        # The gate looks at what the class is chosen by.
        return Candidate(lambda: model.predict(some), lambda: model.predict_proba(some))

    right = theirs.predict_proba(some)
    others = {"sklearn": lambda: candidate(theirs)}
    return Work(candidate(ours), others, harness.close_to(right, TOLERANCE[dtype]))


# ---- search ------------------------------------------------------------------------------------


def _search() -> Work:
    from sklearn.model_selection import GridSearchCV

    from fusednn.sklearn import FusedSearchCV

    rows = _rows("digits")
    ours, theirs = (
        kind(batch_size=BATCH, max_iter=SEARCH_EPOCHS, random_state=0) for kind in _kinds()
    )

    def candidate(search: Any) -> Candidate:
        fit = _quietly(lambda: search.fit(rows.x_train, rows.y_train))
        return Candidate(fit, functools.cache(lambda: float(fit().best_score_)))

    fused = candidate(FusedSearchCV(ours, GRID, cv=FOLDS))
    plain = candidate(GridSearchCV(theirs, GRID, cv=FOLDS, n_jobs=-1))

    def check(best: float) -> str:
        if abs(best - plain.answer()) <= BEST_DIFFER:
            return ""
        return f"best score {best:.4f}, scikit-learn's is {plain.answer():.4f}"

    return Work(fused, {"sklearn": lambda: plain}, check, quality=float)


# ---- cases -------------------------------------------------------------------------------------


def _missing() -> list[datasets.base.Entry]:
    wanted = {training.data for training in TRAININGS}
    return [e for e in datasets.catalog() if e.name in wanted and not e.locate()]


def notes() -> list[str]:
    """Return what is missing here."""
    if importlib.util.find_spec("sklearn") is None:
        return ["suite sklearn is left out: scikit-learn is not installed"]
    return [f"{e.name} is left out, for it is not installed: {e.help}" for e in _missing()]


def _trainings(dtype: str) -> Iterator[Case]:
    for training in TRAININGS:
        if training.data in {entry.name for entry in _missing()}:
            continue
        rows = _rows(training.data)
        outputs = rows.classes if rows.classes > 2 else 1
        network = Network((rows.x_train.shape[1], *training.hidden, outputs), BATCH)
        samples = training.epochs * len(rows.x_train)
        params = {"data": training.data, "hidden": list(training.hidden), "batch": BATCH}
        yield Case(
            "sklearn",
            f"fit {training.data} {network.name}, {dtype}",
            network.step_flops / BATCH * samples,
            network.step_bytes * training.epochs * -(-len(rows.x_train) // BATCH),
            functools.partial(_fit, training, dtype),
            {**params, "epochs": training.epochs},
            dtype,
            goals=(goals.ratio(training.lead, "sklearn"),),
        )


def _predictions(dtype: str) -> Iterator[Case]:
    for hidden in [training.hidden for training in TRAININGS if training.data == "digits"]:
        for count in PREDICTED_ROWS:
            network = Network((64, *hidden, 10), count)
            size = np.dtype(dtype).itemsize
            yield Case(
                "sklearn",
                f"predict {network.name}, {dtype}",
                network.inference_flops,
                float(size * (network.parameters + count * (64 + 10))),
                functools.partial(_predict, hidden, dtype, count),
                {"data": "digits", "hidden": list(hidden), "rows": count},
                dtype,
                goals=(goals.ratio(PREDICT_LEAD, "sklearn"),),
            )


def cases() -> Iterator[Case]:
    """Return fits, predictions and a search, where scikit-learn is installed."""
    if importlib.util.find_spec("sklearn") is None:
        return
    for dtype in TOLERANCE:
        yield from _trainings(dtype)
        yield from _predictions(dtype)
    rows = _rows("digits")
    trained = len(rows.x_train) * (FOLDS - 1) * SEARCH_EPOCHS  # over all folds of a candidate
    candidates = len(GRID["alpha"]) * len(GRID["learning_rate_init"])
    networks = [Network((64, *hidden, 10), BATCH) for hidden in GRID["hidden_layer_sizes"]]
    yield Case(
        "sklearn",
        f"search digits, {candidates * len(networks)} x {FOLDS} fits",
        sum(network.step_flops for network in networks) / BATCH * trained * candidates,
        sum(network.step_bytes for network in networks) * trained / BATCH * candidates,
        _search,
        {"data": "digits", "configurations": 48, "folds": FOLDS, "epochs": SEARCH_EPOCHS},
        goals=(goals.ratio(SEARCH_LEAD, "sklearn"),),
    )
