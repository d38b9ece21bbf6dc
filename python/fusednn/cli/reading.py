# SPDX-License-Identifier: Apache-2.0
"""What the commands share that read tables and models."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
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


def _is_csv(path: Path) -> bool:
    return not path.name.lower().endswith((".parquet", ".pq", ".npz"))


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while a file is read into errors of a command."""
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    try:
        yield
    except LookupError as error:
        if isinstance(error, KeyError):  # no such column
            raise
        raise UsageError(f"--encoding: {error}") from None
    except (ValueError, TypeError, ImportError, OSError) as error:
        raise CommandError(str(error)) from None


def read_table(arguments: argparse.Namespace) -> data.Table:
    """Return the table of the argument ``data``; wrong paths are errors of usage."""
    path: Path = arguments.data
    given = {"delimiter": arguments.delimiter, "encoding": arguments.encoding}
    options = {name: value for name, value in given.items() if value is not None}
    with reading(path):
        return data.read(path, **(options if _is_csv(path) else {}))


def csv_file(arguments: argparse.Namespace) -> data.CSVFile:
    """Return the argument ``data`` as a file that is read piece by piece."""
    if not _is_csv(arguments.data):
        raise UsageError(f"--stream reads CSV files, got {arguments.data.name}")
    return data.CSVFile(arguments.data, delimiter=arguments.delimiter, encoding=arguments.encoding)


def model_path(given: Path) -> Path:
    """Return the file of a model: itself, or the one in a folder that ``train`` wrote."""
    path = given / MODEL_FILE if given.is_dir() else given
    if not path.is_file():
        raise UsageError(f"there is no model {path}")
    return path
