# SPDX-License-Identifier: Apache-2.0
"""Train a network on a table and say how good it is on rows that it never saw.

Columns of numbers are standardised, text is one-hot, missing cells are filled and flagged. A tenth
of the rows decides when to stop, a fifth is kept for the test. The folder --out gets
model.safetensors (network and preparation), report.html and metrics.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusednn import data
from fusednn.cli import INTERRUPTED, CommandError, UsageError
from fusednn.cli.reading import add_reading, csv_file, read_table, reading, whole_number
from fusednn.data.targets import TASKS

SUMMARY = "train a network on a CSV or Parquet file, with a report"
EXAMPLES = """\
examples:
  python -m fusednn train houses.csv --target price
  python -m fusednn train adult.csv --target income --search 20 --out adult-model
  python -m fusednn train wine.csv --target quality --task regression --drop id --epochs 100
  python -m fusednn train poll.csv --target vote --ordinal "opinion=bad<fair<good" --balanced

Ctrl-C ends the training and keeps the best network so far (exit code 130). Other exit codes:
0 success, 1 the data or the training failed, 2 wrong arguments.
"""
LEAST_ROWS = 10
RARE = 0.2  # a class with a smaller share of the rows is worth a word


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(word) for word in text.replace("-", ",").split(",") if word)
    except ValueError:
        widths = (0,)
    if any(width < 1 for width in widths):
        raise argparse.ArgumentTypeError(f"{text!r} must be widths such as 128,64")
    return widths


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} does not lie in (0, 0.5]")
    return value


def _dropout(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie in [0, 1)")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``train``."""
    parser.add_argument("data", type=Path, help="CSV (also .tsv, .gz), Parquet or NPZ file")
    parser.add_argument("--target", required=True, metavar="COLUMN", help="what to predict")
    parser.add_argument(
        "--task", choices=TASKS, default="auto",
        help="auto: text and a few whole numbers are classes, other numbers a quantity",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: DATA-model")
    parser.add_argument(
        "--search", type=whole_number(1), default=1, metavar="N",
        help="train N networks with settings drawn at random; keep the best by validation",
    )  # fmt: skip
    add_reading(parser)
    parser.add_argument(
        "--stream", action="store_true",
        help="a CSV file larger than memory: read it in pieces, several times; --out gets the "
        "prepared rows while the training runs",
    )  # fmt: skip
    table = parser.add_argument_group("the table")
    table.add_argument("--drop", nargs="+", default=[], metavar="COLUMN", help="leave columns out")
    table.add_argument(
        "--category", nargs="+", default=[], metavar="COLUMN",
        help="numbers that stand for categories, such as codes",
    )  # fmt: skip
    table.add_argument(
        "--ordinal", nargs="+", default=[], metavar="COLUMN=A<B<C",
        help="categories that have an order",
    )  # fmt: skip
    table.add_argument("--test-share", type=_share, default=0.2, metavar="S")
    table.add_argument("--validation-share", type=_share, default=0.1, metavar="S")
    network = parser.add_argument_group("the network (default: by the number of rows)")
    network.add_argument("--hidden", type=_widths, metavar="128,64")
    network.add_argument("--activation", metavar="NAME")
    network.add_argument("--dropout", type=_dropout, metavar="P")
    network.add_argument("--learning-rate", type=_positive, metavar="R")
    network.add_argument("--weight-decay", type=_positive, metavar="D")
    network.add_argument("--batch-size", type=whole_number(1), metavar="N")
    network.add_argument("--epochs", type=whole_number(1), metavar="N", help="at most")
    network.add_argument("--patience", type=whole_number(1), metavar="N")
    network.add_argument(
        "--balanced", action="store_true", help="give all classes the same weight in sum"
    )
    network.add_argument("--seed", type=whole_number(0), default=0, metavar="N")
    network.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    compare = parser.add_mutually_exclusive_group()
    compare.add_argument(
        "--compare", action="store_true", default=None,
        help="compare with scikit-learn's MLP however long that takes (default: small tables)",
    )  # fmt: skip
    compare.add_argument("--no-compare", dest="compare", action="store_false", default=None)
    parser.add_argument("--quiet", action="store_true", help="no progress, no remarks")
    parser.add_argument("--json", action="store_true", help="print metrics.json, nothing else")


def _kinds(arguments: argparse.Namespace, table: data.Table) -> dict[str, Any]:
    """Return what the user says about columns."""
    kinds: dict[str, Any] = dict.fromkeys(arguments.drop, "drop")
    kinds |= dict.fromkeys(arguments.category, "category")
    for text in arguments.ordinal:
        name, _, order = text.partition("=")
        levels = [level.strip() for level in order.split("<")]
        if len(levels) < 2 or not all(levels) or len(set(levels)) < len(levels):
            raise UsageError(f"--ordinal {text!r} must look like COLUMN=LOW<MIDDLE<HIGH")
        kinds[name] = levels
    for name in [arguments.target, *kinds]:
        table[name]  # ColumnNotFoundError says which is nearest
    if arguments.target in kinds:
        raise UsageError(f"--target {arguments.target} cannot be an input as well")
    return kinds


def _settings(arguments: argparse.Namespace, parts: Any) -> Any:
    from fusednn import activations
    from fusednn.cli.training.settings import default_settings

    names = ("hidden", "activation", "dropout", "learning_rate", "weight_decay", "batch_size",
             "epochs", "patience")  # fmt: skip
    given = {n: getattr(arguments, n) for n in names if getattr(arguments, n) is not None}
    if arguments.activation is not None:
        try:
            activations.get(arguments.activation)
        except ValueError as error:
            raise UsageError(f"--activation: {error}") from None
    rows, inputs = parts.x[0].shape
    base = default_settings(rows, inputs, parts.target.task == "regression")
    return replace(base, **given, balanced=arguments.balanced)


def _split(table: data.Table, target: data.Classes | data.Quantity, arguments: Any) -> data.Split:
    stratify = table[target.name] if isinstance(target, data.Classes) else None
    parts = data.split(
        len(table),
        validation=arguments.validation_share,
        test=arguments.test_share,
        stratify=stratify,
        seed=arguments.seed,
    )
    if min(map(len, parts)) == 0:
        sizes = ", ".join(str(len(part)) for part in parts)
        raise CommandError(f"{len(table)} rows are too few to be split (into {sizes})")
    return parts


def _notes(parts: Any, removed: int) -> list[str]:
    """Return what a colleague should know of the data."""
    notes = []
    target = parts.target
    if removed:
        notes.append(f"{removed:,} rows without a value of {target.name!r} were passed over.")
    left = [c for c in parts.preprocessor.columns if not c.outputs]
    notes += [f"Column {c.name!r} was {c.describe()}." for c in left]
    if isinstance(target, data.Classes):
        counts = np.bincount(np.concatenate(parts.y), minlength=len(target.labels))
        share = counts.min() / counts.sum()
        if share < RARE and share < 0.5 / len(target.labels):
            rare = target.labels[int(counts.argmin())]
            notes.append(
                f"The classes are unbalanced: {rare!r} has {share:.1%} of the rows. Accuracy alone "
                "says little; --balanced gives all classes the same weight."
            )
        elif counts.max() / counts.sum() > 0.7:
            notes.append(
                f"{counts.max() / counts.sum():.1%} of the rows are "
                f"{target.labels[int(counts.argmax())]!r}; compare the accuracy with that."
            )
    return notes


def run(arguments: argparse.Namespace) -> int:
    """Train, test, compare, write; 0, or 130 after Ctrl-C."""
    start = time.perf_counter()

    def say(text: str) -> None:
        if not arguments.quiet and not arguments.json:
            print(text, file=sys.stderr)

    folder = arguments.out or Path(f"{arguments.data.name.split('.')[0]}-model")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file")
    if arguments.stream:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="rows-", dir=folder) as rows:
            parts, notes = _streamed(arguments, Path(rows))
            return _finish(arguments, parts, notes, folder, say, start)
    parts, notes = _read(arguments)
    return _finish(arguments, parts, notes, folder, say, start)


def _finish(
    arguments: argparse.Namespace, parts: Any, notes: list[str], folder: Path, say: Any,
    start: float,
) -> int:  # fmt: skip
    outcome = _train(arguments, parts, notes, say, start)
    _write(outcome, folder)
    _print(outcome, folder, arguments, say)
    return INTERRUPTED if outcome.search.interrupted else 0


def _check_rows(arguments: argparse.Namespace, rows: int) -> None:
    if rows < LEAST_ROWS:
        raise CommandError(
            f"{arguments.data} has {rows} rows with a {arguments.target!r}; at least "
            f"{LEAST_ROWS} are needed"
        )


def _preprocessor(arguments: argparse.Namespace, table: data.Table) -> data.Preprocessor:
    kinds = _kinds(arguments, table)
    return data.Preprocessor(arguments.target, arguments.task, kinds, seed=arguments.seed)


def _read(arguments: argparse.Namespace) -> tuple[Any, list[str]]:
    """Return the parts of a table in memory, and what is to be said of it."""
    from fusednn.cli.training.fitting import Parts

    table = read_table(arguments)
    preprocessor = _preprocessor(arguments, table)
    missing = table.missing(arguments.target)
    table = table.take(~missing)
    _check_rows(arguments, len(table))
    try:
        target = preprocessor.fit(table).target
        assert target is not None
        parts = Parts.make(table, _split(table, target, arguments), preprocessor, target)
    except ValueError as error:
        raise CommandError(f"{arguments.data}: {error}") from None
    return parts, _notes(parts, int(missing.sum()))


def _streamed(arguments: argparse.Namespace, folder: Path) -> tuple[Any, list[str]]:
    """Return the parts of a table whose prepared rows lie in a folder."""
    from fusednn.cli.training.streamed import StreamedTable

    source = csv_file(arguments)
    with reading(arguments.data):
        first = next(source.pieces())
    preprocessor = _preprocessor(arguments, first)
    table = StreamedTable(
        source, arguments.target, arguments.validation_share, arguments.test_share, arguments.seed
    )
    with reading(arguments.data):
        *sizes, removed = table.count().tolist()
        _check_rows(arguments, sum(sizes))
        if min(sizes) == 0:
            raise CommandError(f"{sum(sizes)} rows are too few to be streamed")
        parts = table.prepare(preprocessor, np.array(sizes), folder)
    about = f"The table of columns shows the first {len(first):,} rows; the file was streamed."
    return parts, [*_notes(parts, removed), about]


def _train(
    arguments: argparse.Namespace, parts: Any, notes: list[str], say: Any, start: float
) -> Any:
    from fusednn.cli.training import scores
    from fusednn.cli.training.fitting import search
    from fusednn.cli.training.outcome import Outcome

    target = parts.target
    rows = sum(len(y) for y in parts.y)
    settings = _settings(arguments, parts)
    sizes = " + ".join(f"{len(y):,}" for y in parts.y)
    say(
        f"{arguments.data}: {rows:,} rows ({sizes} for training, validation, test), "
        f"{len(parts.preprocessor.columns)} columns, {parts.x[0].shape[1]} inputs"
    )
    say(f"{target.task}: {_described(target)}")
    for note in notes:
        say(f"note: {note}")
    if arguments.search == 1:
        say(settings.describe())
    try:
        found = search(
            settings, parts, arguments.search, device=arguments.device, seed=arguments.seed,
            show=not arguments.quiet and not arguments.json, say=say,
        )  # fmt: skip
    except (FloatingPointError, MemoryError) as error:
        raise CommandError(str(error) or "out of memory") from None
    except ValueError as error:  # such as a device that is not there
        raise UsageError(str(error)) from None
    model = found.best.model
    outputs = np.asarray(model.predict(parts.x[2], verbose=0))
    competitors, importances = [scores.baseline(parts)], []
    try:
        if not found.interrupted:
            importances = scores.importances(parts, model, arguments.seed)
            other = scores.rival(parts, arguments.compare, arguments.seed, say)
            competitors += [other] if other else []
    except KeyboardInterrupt:  # the network is there; who waits no longer shall have it
        found.interrupted = True
    if found.interrupted:
        notes.append("The command was interrupted; this is the best network it had found.")
        say("interrupted: the best network so far is kept")
    return Outcome(
        source=arguments.data.name, parts=parts, search=found,
        scores=scores.score(target, parts.y[2], outputs), outputs=outputs,
        competitors=competitors, importances=importances, notes=notes, seed=arguments.seed,
        rows=rows, seconds=time.perf_counter() - start,
    )  # fmt: skip


def _described(target: data.Classes | data.Quantity) -> str:
    if isinstance(target, data.Quantity):
        return f"{target.name}, mean {target.mean:.4g}, deviation {target.deviation:.4g}"
    few: Sequence[str] = target.labels[:8]
    more = f" and {len(target.labels) - 8} more" if len(target.labels) > 8 else ""
    return f"{target.name} is {', '.join(few)}{more}"


def _write(outcome: Any, folder: Path) -> None:
    from fusednn.cli.training import report

    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = data.TableModel(
            outcome.search.best.model, outcome.parts.preprocessor, outcome.about()
        )
        kept.save(folder / "model.safetensors")
        text = json.dumps(outcome.to_dict(), indent=2)
        (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
        report.page(outcome).write(folder / "report.html")
    except OSError as error:
        raise CommandError(f"--out {folder}: {error}") from None


def _print(outcome: Any, folder: Path, arguments: argparse.Namespace, say: Any) -> None:
    from fusednn.cli.training import report

    if arguments.json:
        print(json.dumps(outcome.to_dict(), indent=2))
        return
    print(report.terminal(outcome))
    print(f"written: {folder}/model.safetensors, report.html, metrics.json")
    say(f"predict with: python -m fusednn predict {folder} NEW.csv")
