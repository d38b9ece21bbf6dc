# SPDX-License-Identifier: Apache-2.0
"""The projects train in every library, and the page says what was measured, with these settings."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from fusednn import datasets
from test_examples import EXAMPLES, run

PAGE = Path(__file__).parents[1] / "docs" / "examples.md"
RESULTS = EXAMPLES / "projects.json"


@pytest.fixture
def projects(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("projects")


@pytest.mark.parametrize(
    ("name", "library"),
    [(name, library) for name in ("california", "adult", "mnist", "fashion")
     for library in ("fusednn", "torch")] + [("california", "keras")],
)  # fmt: skip
def test_a_short_training(projects, name, library, tmp_path):
    if not projects.is_installed(library):
        pytest.skip(f"{library} is not installed")
    try:
        projects.PROJECTS[name].load(0)
    except datasets.DatasetNotFoundError as error:
        pytest.skip(str(error))
    kept = tmp_path / "results.json"
    printed = run("projects", name, "--short", "--libraries", library, "--json", str(kept))
    assert re.search(r"seed 0: .* -?\d\.\d{4} in \d+\.\d\d s", printed)
    (outcome,) = json.loads(kept.read_text())["projects"][name]["runs"][library]
    assert outcome["score"] > -1


def test_the_page_has_what_was_measured(projects):
    found = json.loads(RESULTS.read_text())
    made = projects.markdown(found)
    command = "python examples/projects.py --table examples/projects.json"
    assert made in PAGE.read_text("utf-8"), f"put there what `{command}` prints"
    assert found["machine"]["cpu"] in PAGE.read_text("utf-8")


def test_what_was_measured_is_what_is_asked_for(projects):
    found = json.loads(RESULTS.read_text())["projects"]
    assert set(found) == set(projects.PROJECTS)
    for name, project in projects.PROJECTS.items():
        assert found[name]["settings"] == projects.settings(name), "the settings have changed since"
        runs = found[name]["runs"]
        assert set(runs) == set(projects.NAMES)
        assert [run["seed"] for run in runs["fusednn"]] == [0, 1, 2]
        assert min(run["score"] for run in runs["fusednn"]) >= project.goal
