# SPDX-License-Identifier: Apache-2.0
"""What a training gave, as text for the terminal and as a page for a colleague."""

from __future__ import annotations

import time

import numpy as np

import fusednn
from fusednn import metrics
from fusednn.cli.tables import aligned
from fusednn.cli.training.outcome import Outcome
from fusednn.cli.training.scores import TITLES, Competitor
from fusednn.data import Classes, Quantity
from fusednn.machine import processor_name
from fusednn.plotting import roc_curve
from fusednn.reporting import Page, charts

MOST_BARS, MOST_CURVES, MOST_CLASSES = 20, 8, 30


def shown(value: float | None) -> str:
    """Return a score as it is read."""
    if value is None or value != value:
        return "-"
    return f"{round(value, 4) + 0.0:.4f}" if abs(value) < 10 else f"{value:.4g}"


def _everybody(outcome: Outcome) -> list[Competitor]:
    """Return us first, then the others."""
    ours = Competitor("fusednn", outcome.scores, outcome.search.best.seconds)
    return [ours, *outcome.competitors]


def _score_rows(outcome: Outcome) -> tuple[list[str], list[list[str]]]:
    names = list(outcome.scores)
    head = ["test rows", *(TITLES[name] for name in names), "training"]
    rows = []
    for one in _everybody(outcome):
        seconds = "" if one.seconds is None else f"{one.seconds:.2f} s"
        rows.append([one.name, *(shown(one.scores[name]) for name in names), seconds])
    return head, rows


def terminal(outcome: Outcome) -> str:
    """Return the scores as lines of text."""
    head, rows = _score_rows(outcome)
    lines = [aligned([head, *rows])]
    if outcome.importances:
        first = [i.column for i in outcome.importances if i.drop > 0][:5]
        lines.append(f"matters most: {', '.join(first) or 'no column by itself'}")
    return "\n".join(lines)


def page(outcome: Outcome) -> Page:
    """Return the report."""
    target, best = outcome.parts.target, outcome.search.best
    sizes = outcome.sizes
    what = f"{outcome.rows:,} rows of {outcome.source}"
    if isinstance(target, Classes):
        task = f"a classifier for {len(target.labels)} classes"
    else:
        task = "a regression"
    made = Page(f"Predicting {target.name}", f"{task}, learned from {what}")
    rival = outcome.competitors[-1] if len(outcome.competitors) > 1 else None
    headline = outcome.headline
    cards = [
        (shown(outcome.scores[headline]), f"{TITLES[headline]} on {sizes['test']:,} test rows")
    ]
    for other in outcome.competitors[: 2 if rival else 1]:
        cards.append((shown(other.scores[headline]), f"{TITLES[headline]}: {other.name}"))
    second = {"auc": "accuracy", "accuracy": "log_loss", "r2": "mae"}[headline]
    cards.append((shown(outcome.scores[second]), TITLES[second]))
    cards.append((f"{best.seconds:.1f} s", f"of training, {len(best.history['loss'])} epochs"))
    made.cards(cards)
    if outcome.notes:
        made.section("Worth knowing", Page.items(outcome.notes), kind="note")
    head, rows = _score_rows(outcome)
    numbers = range(1, len(head))
    made.section(
        "Scores on rows that training never saw",
        Page.table(rows, head, strong=0, numbers=numbers),
    )
    made.section("How it learned, and where it errs", Page.charts(*_pictures(outcome)))
    if outcome.importances:
        made.section("What it looks at", _importance(outcome))
    made.section("The data", _columns(outcome))
    if len(outcome.search.trials) > 1:
        made.section("Search: the validation loss decides", _trials(outcome))
    made.section("Settings", _settings(outcome))
    made.section("Use it", _use())
    made.footer(
        f"fusednn {fusednn.__version__}, {time.strftime('%Y-%m-%d %H:%M')}, {processor_name()}, "
        f"{outcome.seconds:.1f} s in all"
    )
    return made


def _pictures(outcome: Outcome) -> list[str]:
    best, target = outcome.search.best, outcome.parts.target
    y, outputs = outcome.parts.y[2], outcome.outputs
    curves = {"training": best.history["loss"], "validation": best.history["val_loss"]}
    pictures = [charts.learning_curves(curves, best.best_epoch)]
    if isinstance(target, Quantity):
        truth = y * target.deviation + target.mean
        said = target.predictions(outputs)
        pictures.append(charts.scatter(truth, said, "Predicted and true values"))
        apart = f"predicted minus true {target.name}"
        pictures.append(charts.histogram(said - truth, "Residuals", apart))
        return pictures
    probabilities = target.probabilities(outputs)
    if target.outputs == 1 and 0 < y.sum() < len(y):
        roc = roc_curve(y, probabilities[:, 1])
        pictures.append(
            charts.curve(
                roc.false_positive, roc.true_positive, f"ROC curve for {target.labels[1]!r}",
                "false positive rate", "true positive rate", f"area {roc.area:.4f}", diagonal=True,
            )
        )  # fmt: skip
    if len(target.labels) <= MOST_CLASSES:
        counts = metrics.confusion_matrix(y, probabilities.argmax(axis=1), len(target.labels))
        pictures.append(charts.matrix(counts, target.labels))
    sure = probabilities.max(axis=1)
    pictures.append(_reliability(sure, probabilities.argmax(axis=1) == y))
    return pictures


def _reliability(sure: np.ndarray, right: np.ndarray) -> str:
    """Draw how often the network is right over how sure it says it is."""
    places = np.minimum((sure * 20).astype(int), 19)
    used = np.unique(places)
    means = np.array([sure[places == p].mean() for p in used])
    rates = np.array([right[places == p].mean() for p in used])
    title = "How sure it is, and how often right"
    return charts.curve(means, rates, title, "stated probability", "share right", diagonal=True)


def _importance(outcome: Outcome) -> str:
    first = outcome.importances[:MOST_BARS]
    title = f"Fall of {TITLES[outcome.headline]} when a column is shuffled"
    picture = charts.bars(
        [i.column for i in first], [i.drop for i in first], [i.deviation for i in first], title
    )
    left = len(outcome.importances) - len(first)
    text = (
        "<p>Each column of the test rows is shuffled in turn, three times; the bar is how much the "
        "score falls, the whisker its deviation. Columns that say the same share their importance."
    )
    more = f" {left} columns more are in metrics.json." if left else ""
    return f"{text}{more}</p>{Page.charts(picture)}"


def _columns(outcome: Outcome) -> str:
    table = outcome.parts.tables[0]
    rows = []
    for column in outcome.parts.preprocessor.columns:
        cells, missing = table[column.name], table.missing(column.name)
        there = cells[~missing]
        if not len(there):
            summary = ""
        elif cells.dtype.kind == "f":
            summary = f"{_amount(there.min())} to {_amount(there.max())}, "
            summary += f"median {_amount(np.median(there))}"
        else:
            values, counts = np.unique(there.astype(str), return_counts=True)
            common = values[counts.argsort()[::-1][:3]]
            summary = f"{len(values)} different: {', '.join(common)}" + " …" * (len(values) > 3)
        share = float(missing.mean())
        empty = f"{share:.1%}" if share else "none"
        rows.append([column.name, empty, summary, column.describe()])
    sizes = ", ".join(f"{count:,} {name}" for name, count in outcome.sizes.items())
    head = ["column", "missing", "training rows hold", "becomes"]
    return f"<p>Rows: {sizes}.</p>" + Page.table(rows, head)


def _amount(value: float) -> str:
    """Return a number of a table as it is read."""
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _trials(outcome: Outcome) -> str:
    order = sorted(outcome.search.trials, key=lambda trial: trial.best)
    rows = [[f"{t.best:.4f}", f"{t.seconds:.1f} s", t.settings.describe()] for t in order]
    return Page.table(rows, ["loss", "time", "settings"], strong=0, numbers=(0, 1))


def _settings(outcome: Outcome) -> str:
    best = outcome.search.best
    inputs = len(outcome.parts.preprocessor.feature_names)
    rows = [
        ("network", f"{_counted(inputs, 'input')}, "
                    f"{_counted(outcome.parts.target.outputs, 'output')}, "
                    f"{_counted(best.model.count_params(), 'parameter')}"),
        ("training", best.settings.describe()),
        ("early stopping", f"patience {best.settings.patience}; kept epoch {best.best_epoch} of "
                           f"{len(best.history['loss'])}"),
        ("class weights", "balanced" if best.settings.balanced else "none"),
        ("seed", str(outcome.seed)),
        ("device", best.model.device),
    ]  # fmt: skip
    return Page.table(rows)


def _use() -> str:
    return Page.code(
        "python -m fusednn predict model.safetensors new.csv --out predictions.csv\n\n"
        "import fusednn\n"
        'model = fusednn.data.TableModel.load("model.safetensors")\n'
        'model.predict(fusednn.data.read("new.csv"))'
    )
