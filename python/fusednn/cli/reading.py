# SPDX-License-Identifier: Apache-2.0
"""What the commands share that read tables and models."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fusednn import data
from fusednn.cli import CommandError, UsageError

MODEL_FILE = "model.safetensors"


def whole_number(low: int) -> Callable[[str], int]:
    """Return what reads an argument that is a whole number of at least `low`."""

    def integer(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is less than {low}")
        return value

    return integer


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how a CSV file is written."""
    group = parser.add_argument_group("reading CSV")
    group.add_argument("--delimiter", metavar="C", help="default: the most frequent of , ; | tab")
    group.add_argument("--encoding", metavar="NAME", help="such as latin-1 (default: UTF-8)")


def read_table(arguments: argparse.Namespace) -> data.Table:
    """Return the table of the argument ``data``; wrong paths are errors of usage."""
    path: Path = arguments.data
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    given = {"delimiter": arguments.delimiter, "encoding": arguments.encoding}
    options = {name: value for name, value in given.items() if value is not None}
    try:
        if path.name.lower().endswith((".parquet", ".pq", ".npz")):
            options = {}
        return data.read(path, **options)
    except LookupError as error:  # the codec's name
        raise UsageError(f"--encoding: {error}") from None
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise CommandError(str(error)) from None


def model_path(given: Path) -> Path:
    """Return the file of a model: itself, or the one in a folder that ``train`` wrote."""
    path = given / MODEL_FILE if given.is_dir() else given
    if not path.is_file():
        raise UsageError(f"there is no model {path}")
    return path
