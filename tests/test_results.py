# SPDX-License-Identifier: Apache-2.0
"""What is committed under bench/results is whole, and the README says what stands there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fusednn.bench import report, schema

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "bench" / "results"  # not part of the source archive
RESULTS = sorted(FOLDER.glob("*.json"))
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_results_fit_the_schema(path):
    document = json.loads(path.read_text())
    assert schema.problems(document) == []
    assert document["cases"]
    assert not document["quick"], "a quick run shows that it works, not how fast"
    assert all(record["checked"] for record in document["cases"])


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_the_page_of_a_result_has_its_numbers(path):
    page = path.with_suffix(".md")
    made = report.page(json.loads(path.read_text()), report.pictures(path, page))
    assert page.read_text() == made, f"run `python bench/publish.py {path}`"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="there are no results here")
@pytest.mark.skipif(report.BEGIN not in README, reason="the README has no table of results yet")
def test_the_readme_has_the_numbers_of_a_result():
    made = [
        report.with_numbers(
            README, json.loads(path.read_text()), report.pictures(path, ROOT / "README.md")
        )
        for path in RESULTS
    ]
    assert README in made, "run `python bench/publish.py bench/results/<file>.json`"
