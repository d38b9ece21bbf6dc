# SPDX-License-Identifier: Apache-2.0
"""Show what is in a model file: layers, and for a model of a table its columns and scores."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import fusednn
from fusednn import data
from fusednn.cli import CommandError
from fusednn.cli.reading import model_path

SUMMARY = "show what is in a model file"
EXAMPLES = """\
examples:
  python -m fusednn inspect adult-model
  python -m fusednn inspect model.safetensors --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``inspect``."""
    parser.add_argument("model", type=Path, help="file, or folder that train wrote")
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _examine(path: Path) -> tuple[fusednn.Model, dict[str, Any]]:
    table = data.TableModel.load(path) if data.TableModel.is_in(path) else None
    model = table.model if table else fusednn.load(path)
    found: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "parameters": model.count_params(),
        "precision": model.precision,
        "input_shape": model.input_shape,
        "output_shape": model.output_shape,
        "layers": [
            {"name": layer.name, "kind": type(layer).__name__, "parameters": layer.count_params()}
            for layer in model.layers
        ],
    }
    if table is not None:
        found["about"] = table.about
        found["preprocessor"] = table.preprocessor.get_config()
    return model, found


def run(arguments: argparse.Namespace) -> int:
    """Print what there is; 0."""
    path = model_path(arguments.model)
    try:
        model, found = _examine(path)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{path}, {found['bytes']:,} bytes, {found['precision']}")
    model.summary()
    if "preprocessor" in found:
        preprocessor = data.Preprocessor.from_config(found["preprocessor"])
        target = preprocessor.target
        assert target is not None
        print(f"\npredicts {target.name} ({target.task})")
        rows = [[column.name, column.describe()] for column in preprocessor.columns]
        print("\n".join(_left(rows)))
        for key, value in found["about"].items():
            print(f"{key}: {json.dumps(value)}")
    return 0


def _left(rows: list[list[str]]) -> list[str]:
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]
