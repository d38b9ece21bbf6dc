# SPDX-License-Identifier: Apache-2.0
"""Predict the rows of a file with a model that ``train`` wrote.

The columns are found by their names and prepared as they were in training; others are not looked
at. If the file has the target as well, scores go to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fusednn import data
from fusednn.cli import CommandError
from fusednn.cli.reading import add_reading, model_path, read_table

SUMMARY = "predict the rows of a file with a model that train wrote"
EXAMPLES = """\
examples:
  python -m fusednn predict adult-model new.csv > predictions.csv
  python -m fusednn predict adult-model/model.safetensors new.csv --out answers.csv --probabilities
  python -m fusednn predict houses-model new.parquet --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``predict``."""
    parser.add_argument("model", type=Path, help="file, or folder that train wrote")
    parser.add_argument("data", type=Path, help="CSV, Parquet or NPZ file")
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV (default: standard output)")
    parser.add_argument(
        "--probabilities", action="store_true", help="a column for each class as well"
    )
    parser.add_argument("--keep", nargs="+", default=[], metavar="COLUMN", help="copy columns")
    add_reading(parser)
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--quiet", action="store_true", help="no scores")
    parser.add_argument("--json", action="store_true", help="print predictions as JSON")


def load(path: Path, device: str = "auto") -> data.TableModel:
    """Return a model that ``train`` wrote."""
    try:
        return data.TableModel.load(model_path(path), device)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None


def _columns(model: data.TableModel, outputs: np.ndarray, probabilities: bool) -> dict[str, Any]:
    target = model.target
    columns: dict[str, Any] = {target.name: target.predictions(outputs)}
    if probabilities and isinstance(target, data.Classes):
        shares = target.probabilities(outputs).astype(np.float64).round(7)
        for place, label in enumerate(target.labels):
            columns[f"probability of {label}"] = shares[:, place]
    return columns


def _scores(model: data.TableModel, table: data.Table, outputs: np.ndarray) -> dict[str, float]:
    """Return the scores on those rows that have a known target."""
    from fusednn.cli.training.scores import score

    name = model.target.name
    known = ~table.missing(name)
    if isinstance(model.target, data.Classes):
        known &= model.target.transform(table[name]) >= 0
    if not known.any():
        return {}
    y = model.preprocessor.transform_target(table.take(known))
    return score(model.target, y, outputs[known])


def run(arguments: argparse.Namespace) -> int:
    """Write a prediction for every row; 0."""
    from fusednn.cli.training.outcome import finite
    from fusednn.cli.training.report import shown
    from fusednn.cli.training.scores import TITLES

    model = load(arguments.model, arguments.device)
    table = read_table(arguments)
    try:
        outputs = model.outputs(table)
        scores = _scores(model, table, outputs) if model.target.name in table else {}
    except ValueError as error:
        raise CommandError(f"{arguments.data}: {error}") from None
    kept = {name: table[name] for name in arguments.keep if name != model.target.name}
    columns = data.Table({**kept, **_columns(model, outputs, arguments.probabilities)})
    if scores and not arguments.quiet:
        shares = ", ".join(f"{TITLES[name]} {shown(value)}" for name, value in scores.items())
        print(f"{model.target.name} is in the file: {shares}", file=sys.stderr)
    if arguments.json:
        lists = {name: columns[name].tolist() for name in columns.names}
        text = json.dumps({"predictions": lists, "scores": finite(scores)})
        _deliver(text + "\n", arguments.out)
    else:
        try:
            data.write_csv(columns, arguments.out or sys.stdout)
        except OSError as error:
            raise CommandError(f"--out {arguments.out}: {error}") from None
    return 0


def _deliver(text: str, path: Path | None) -> None:
    if path is None:
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"--out {path}: {error}") from None
