# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/ keep their word: their Python runs, their commands, files and names exist.

`make docs` checks the links, and that every page is in the table of contents.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

import documents
import fusednn
from fusednn import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


def name_of(page):
    return page.relative_to(DOCS).as_posix()


def load(name):
    """A module of the site's own code, which needs no more than the test."""
    path = DOCS / "site" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Trainings are short here on purpose, and scikit-learn's way of saying so is a warning.
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer:UserWarning")
@pytest.mark.parametrize("page", [p for p in PAGES if documents.blocks(p, "python")], ids=name_of)
def test_python_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    documents.run(page)


def test_all_python_is_seen():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    assert text.count("```py") == sum(len(documents.blocks(p, "python")) for p in PAGES) > 0


def test_commands_exist():
    text = "".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"python -m fusednn ([a-z]\w*)", text))
    assert named
    assert named <= set(cli.COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pictures_and_links_are_there(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s#]+)", text)
    outside = {"bench", "csrc"}  # not part of every archive
    missing = [
        link
        for link in links
        if "://" not in link
        and not (page.parent / link).exists()
        and (page.parent / link).resolve().relative_to(ROOT).parts[0] not in outside
    ]
    assert not missing


def test_pictures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    drawn = {path.name for path in load("pictures").draw(tmp_path)}
    assert drawn == {path.name for path in (DOCS / "guide" / "images").iterdir()}


def test_every_public_module_is_in_the_reference():
    source = (DOCS / "site" / "reference.py").read_text("utf-8")
    listed = set(re.findall(r'"(fusednn[\w.]*)"', source))
    # What is not part of the package's namespace is its own business.
    public = {f"fusednn.{name}" for name in {*fusednn.__all__, *fusednn._LATER}
              if importlib.util.find_spec(f"fusednn.{name}") is not None}  # fmt: skip
    assert public - {"fusednn.interpreter", "fusednn.models"} <= listed
    for name in listed:
        module, _, member = name.rpartition(".")
        found = importlib.util.find_spec(name) is not None
        assert found or hasattr(importlib.import_module(module), member)
