# SPDX-License-Identifier: Apache-2.0
"""Code in Markdown pages: finding it, and running it as a reader would, from top to bottom."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import rivals
from fusednn import datasets
from fusednn.device import cuda_problem


class Block(NamedTuple):
    """Code between fences, the line it begins at, and what a comment above it says it needs."""

    source: str
    line: int
    needs: str


_FENCE = (
    r"(?:^ *<!-- needs: (?P<needs>[^>]+) -->\n)?"
    r"^(?P<indent> *)```{language}\n(?P<source>.*?)^(?P=indent)```$"
)


def blocks(page: Path, language: str) -> list[Block]:
    """Return the blocks of code of a page in a language."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(_FENCE.replace("{language}", language), text, re.MULTILINE | re.DOTALL)
    return [
        Block(
            textwrap.dedent(m["source"]), text.count("\n", 0, m.start("source")), m["needs"] or ""
        )
        for m in found
    ]


def run(page: Path) -> dict[str, Any]:
    """Run the Python of a page in one namespace and return that.

    Where a block needs what this machine has not, the test is skipped; the blocks above have run.
    """
    names: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        place = f"{page.name}, line {block.line + 1}"
        if block.needs == "cuda" and cuda_problem():
            pytest.skip(f"{place} needs a CUDA device")
        if block.needs == "keras":
            rivals.import_keras()
        # Empty lines in front make a traceback point into the page.
        code = compile("\n" * block.line + block.source, page, "exec")
        try:
            exec(code, names)
        except ImportError as error:
            if (error.name or "").split(".")[0] == "fusednn":
                raise
            pytest.skip(f"{place}: {error}")
        except datasets.DatasetNotFoundError as error:
            pytest.skip(f"{place}: {error}")
    return names
