# SPDX-License-Identifier: Apache-2.0
"""Merge results, commit-ready: one JSON, a page with all of it, pictures, and the README's table.

    python bench/publish.py step.json fit.json          # into bench/results/<version>-<cpu>.json
    python bench/publish.py bench/results/0.1.0-x.json  # table and pictures of what is there

Suites may be measured one by one, on the same machine and with the same versions; what is measured
again replaces what was there. `--into FILE` names another result, `--fresh` forgets what it had. It
needs fusednn, and matplotlib for the pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from fusednn.bench import merging, report, schema, session

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "bench" / "results"


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    found = schema.problems(document)
    if found:
        raise ValueError(f"{path}: {'; '.join(found[:5])}")
    if document["quick"]:
        raise ValueError(f"{path}: a quick run shows that it works, not how fast")
    return document


def _place(document: dict[str, Any]) -> Path:
    about = document["machine"]
    words = re.findall(r"[a-z0-9]+", about["cpu"].lower().replace("(r)", "").replace("(tm)", ""))
    return RESULTS / f"{about['versions']['fusednn']}-{'-'.join(words[:4])}.json"


def _draw(document: dict[str, Any], path: Path) -> None:
    try:
        from fusednn.bench import plot
    except ImportError:
        print("no pictures: pip install matplotlib", file=sys.stderr)
        return
    for picture in plot.draw(document, path.with_suffix(".png")):
        print(picture)


def main(arguments: list[str] | None = None) -> int:
    """Publish results; 1 if they do not fit the schema, or each other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, metavar="FILE")
    parser.add_argument("--fresh", action="store_true", help="forget what FILE had before")
    options = parser.parse_args(arguments)
    try:
        documents = [_read(path) for path in options.results]
        path = options.into or _place(documents[0])
        known = {given.resolve() for given in options.results}
        if path.exists() and not options.fresh and path.resolve() not in known:
            documents.append(_read(path))
        document = merging.merged(documents)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    session.save(document, path)
    print(path)
    _draw(document, path)
    everything = path.with_suffix(".md")
    beside = report.pictures(path.resolve(), everything.resolve())
    everything.write_text(report.page(document, beside), "utf-8")
    print(everything)
    shown = report.pictures(path.resolve(), README.resolve())
    README.write_text(report.with_numbers(README.read_text("utf-8"), document, shown), "utf-8")
    print(README)
    return 0


if __name__ == "__main__":
    sys.exit(main())
