# SPDX-License-Identifier: Apache-2.0
"""How good predictions are: numbers for each task, and what they have to beat."""

from __future__ import annotations

import importlib.util
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusednn import metrics
from fusednn.cli.training.fitting import Parts
from fusednn.data.targets import Classes, Target
from fusednn.plotting import roc_curve

HEADLINES = {"binary": "auc", "multiclass": "accuracy", "regression": "r2"}
TITLES = {
    "auc": "AUC", "accuracy": "accuracy", "log_loss": "log loss", "f1": "F1", "r2": "R²",
    "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "precision": "precision",
    "recall": "recall", "rmse": "RMSE", "mae": "MAE",
}  # fmt: skip
RIVAL_VALUES = 4_000_000  # training rows times inputs up to which scikit-learn is quick enough
Scores = dict[str, float]


@dataclass(frozen=True)
class Competitor:
    """Somebody who solved the same task."""

    name: str
    scores: Scores
    seconds: float | None = None


def score(target: Target, y: np.ndarray, outputs: np.ndarray) -> Scores:
    """Return the metrics of a task.

    Parameters
    ----------
    y : ndarray
        What the preprocessor made of the target: class numbers or standardised numbers.
    outputs : ndarray, shape (rows, target.outputs)
        What the network gave.
    """
    if isinstance(target, Classes):
        return _class_scores(target, y, target.probabilities(outputs.astype(np.float64)))
    truth = y * target.deviation + target.mean
    apart = truth - target.predictions(outputs)
    squared = float(np.square(apart).mean())
    spread = float(truth.var())
    return {
        "r2": 1 - squared / spread if spread else float("nan"),
        "rmse": squared**0.5,
        "mae": float(np.abs(apart).mean()),
    }


def _class_scores(target: Classes, y: np.ndarray, probabilities: np.ndarray) -> Scores:
    said = probabilities.argmax(axis=1)
    counts = metrics.confusion_matrix(y, said, len(target.labels)).astype(np.float64)
    right = counts.diagonal()
    with np.errstate(invalid="ignore"):
        recall, precision = right / counts.sum(axis=1), right / counts.sum(axis=0)
        f1 = 2 * right / (counts.sum(axis=1) + counts.sum(axis=0))
    chosen = np.clip(probabilities[np.arange(len(y)), y], 1e-15, 1)
    scores = {
        "accuracy": float(right.sum() / len(y)),
        "log_loss": float(-np.log(chosen).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
    }
    if len(target.labels) > 2:
        return {**scores, "macro_f1": float(np.nanmean(f1))}
    area = roc_curve(y, probabilities[:, 1]).area if 0 < y.sum() < len(y) else float("nan")
    positive = {"precision": precision[1], "recall": recall[1], "f1": f1[1]}
    return {"auc": area, **scores, **{k: float(np.nan_to_num(v)) for k, v in positive.items()}}


def baseline(parts: Parts) -> Competitor:
    """Return what is reached without looking at any input."""
    target, y = parts.target, parts.y
    if isinstance(target, Classes):
        shares = np.bincount(y[0], minlength=len(target.labels)) / len(y[0])
        outputs = np.tile(shares if target.outputs > 1 else shares[1:], (len(y[2]), 1))
        name = f"always {target.labels[int(shares.argmax())]!r}"
    else:
        outputs, name = np.zeros((len(y[2]), 1)), "always the mean"
    return Competitor(name, score(target, y[2], outputs))


def rival(
    parts: Parts, wanted: bool | None, seed: int, say: Callable[[str], None]
) -> Competitor | None:
    """Return what scikit-learn's MLP reaches with its defaults and early stopping.

    Parameters
    ----------
    wanted : bool, optional
        None: if it is installed and the table is small enough for it to be quick.
    """
    if wanted is False or importlib.util.find_spec("sklearn") is None:
        return None
    if wanted is None and parts.x[0].size > RIVAL_VALUES:
        return None
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    say("comparing with scikit-learn's MLP (Ctrl-C or --no-compare leaves that out)")
    # It holds out validation rows itself, so it gets ours as well.
    x, y = np.concatenate(parts.x[:2]), np.concatenate(parts.y[:2])
    is_classes = isinstance(parts.target, Classes)
    kind = MLPClassifier if is_classes else MLPRegressor
    model = kind(early_stopping=len(x) >= 100, random_state=seed)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as "not converged": it gets what its defaults allow
        try:
            model.fit(x, y)
        except ValueError:  # a class too small for its own way of holding out
            model = kind(random_state=seed).fit(x, y)
    seconds = time.perf_counter() - start
    if is_classes:
        outputs = model.predict_proba(parts.x[2])
        outputs = outputs[:, 1:] if parts.target.outputs == 1 else outputs
        if outputs.shape[1] != parts.target.outputs:
            return None  # a class without a training row
    else:
        outputs = model.predict(parts.x[2])[:, None]
    return Competitor("scikit-learn MLP", score(parts.target, parts.y[2], outputs), seconds)


@dataclass(frozen=True)
class Importance:
    """How much the headline falls when a column is shuffled among the test rows."""

    column: str
    drop: float
    deviation: float


def importances(
    parts: Parts, model: object, seed: int, repeats: int = 3, rows: int = 5000
) -> list[Importance]:
    """Return the permutation importance of every column that is used, the greatest first."""
    target = parts.target
    headline = HEADLINES[target.task]
    x, y = parts.x[2][:rows].copy(), parts.y[2][:rows]

    def reached(inputs: np.ndarray) -> float:
        return score(target, y, np.asarray(model.predict(inputs, verbose=0)))[headline]  # type: ignore[attr-defined]

    whole = reached(x)
    generator = np.random.default_rng([seed, 11])
    found, at = [], 0
    for column in parts.preprocessor.columns:
        width = len(column.outputs)
        if width == 0:
            continue
        place = slice(at, at + width)
        at += width
        kept, drops = x[:, place].copy(), []
        for _ in range(repeats):
            x[:, place] = kept[generator.permutation(len(x))]
            drops.append(whole - reached(x))
        x[:, place] = kept
        found.append(Importance(column.name, float(np.mean(drops)), float(np.std(drops))))
    return sorted(found, key=lambda importance: -importance.drop)
