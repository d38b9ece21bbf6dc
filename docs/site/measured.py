# SPDX-License-Identifier: Apache-2.0
"""Measured numbers on pages, read from bench/results when the site is built. None is typed.

A page says where they go: ``<!-- numbers: shortly -->`` or ``<!-- numbers: all -->``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

from fusednn.bench import report

RESULTS = Path(__file__).parents[2] / "bench" / "results"
FOLDER = "results"  # of the site

# The rivals of the front page's headline.
_HEADLINE = {"torch-eager": "PyTorch", "torch-compile": "torch.compile", "jax": "JAX"}


def _documents() -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(RESULTS.glob("*.json")):
        yield path, json.loads(path.read_text(encoding="utf-8"))


def _pictures(path: Path) -> dict[str, str]:
    found = {text: report.picture(path, kind) for kind, text in report.PICTURES.items()}
    return {text: f"{FOLDER}/{p.name}" for text, p in found.items() if p.exists()}


def _headline(document: dict[str, Any]) -> str:
    """Return how much longer others take for a training step: least and most of what is steady."""
    lines = ["| a training step takes | times as long as fusednn | cases |", "|---|---|---|"]
    for rival, name in _HEADLINE.items():
        ratios = [
            record["ratios"][rival]
            for record in document["cases"]
            if record["suite"] == "step" and record["steady"] and record["ratios"].get(rival)
        ]
        if ratios:
            lines.append(f"| {name} | **{min(ratios):.1f} to {max(ratios):.1f}** | {len(ratios)} |")
    return "\n".join(lines)


def shortly(path: Path, document: dict[str, Any]) -> str:
    """Return what the front page shows of a result."""
    pictures = dict(list(_pictures(path).items())[:1])
    return f"{_headline(document)}\n\n{report.readme(document, pictures)}"


def everything(path: Path, document: dict[str, Any]) -> str:
    """Return all suites of a result, and the result itself."""
    text = report.readme(document, _pictures(path), report.HEADINGS)
    return f"## {document['machine']['cpu']}\n\n{text}\n\n[All of it as JSON]({FOLDER}/{path.name})"


_MARKS = {"<!-- numbers: shortly -->": shortly, "<!-- numbers: all -->": everything}


def on_files(files: Any, config: Any, **_: Any) -> Any:
    """Take results and their pictures into the site."""
    for path in sorted(RESULTS.glob("*.*")):
        if path.suffix in (".json", ".png"):
            name = f"{FOLDER}/{path.name}"
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the numbers where a page wants them."""
    for mark, shown in _MARKS.items():
        if mark in markdown:
            numbers = "\n\n".join(shown(*result) for result in _documents())
            markdown = markdown.replace(mark, numbers or "Nothing has been measured yet.")
    return markdown
