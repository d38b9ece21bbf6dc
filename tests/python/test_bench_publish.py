# SPDX-License-Identifier: Apache-2.0
"""``bench/publish.py``: results measured one by one become one JSON and the README's table."""

from __future__ import annotations

import copy
import importlib.util
import json
from pathlib import Path

import pytest

from fusednn.bench import merging, report, schema, session

SCRIPT = Path(__file__).parents[2] / "bench" / "publish.py"

CEILINGS = {
    "fma": {"best": {"float32": {"1": 100.0, "2": 200.0}}},
    "memory": {"read": {"1": 8.0, "2": 10.0}, "copy": {"1": 7.0, "2": 9.0}},
    "taken_by_others": 0.0,
}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """The script, with a README and a folder of results of its own."""
    spec = importlib.util.spec_from_file_location("publish", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "README", tmp_path / "README.md")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    module.RESULTS.mkdir()
    module.README.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    return module


@pytest.fixture(scope="module")
def measured():
    """A document with a step that ours makes in 2 µs and torch in 150."""
    plan = session.Plan(["step"], [], quick=True)
    document = session.begin(plan)
    times = {"median": 2.0, "iqr": 0.1, "best": 1.9, "n": 15}
    record = {
        **{"suite": "step", "name": "small", "params": {}, "dtype": "float32", "threads": 1},
        **{"isa": document["machine"]["isa"], "date": document["date"], "flops": 1.0},
        **{"bytes": 1.0, "floor_us": 1.0, "checked": True, "complaint": "", "ours": times},
        **{"rivals": {"torch-fused": {**times, "median": 150.0}}, "refused": {}, "quality": {}},
        **{"ratios": {"torch-fused": 75.0}, "ranges": {"torch-fused": [74.0, 76.0]}},
        **{"range_us": [1.9, 2.1], "percent_of_floor": 50.0, "taken_by_others": 0.0},
        "goals": [{"kind": "ratio", "limit": 14.0, "of": [], "value": 75.0, "met": True}],
        **{"steady": True, "conclusive": True},
    }
    document.update(cases=[record], quick=False)
    document["machine"]["cpu"] = "Some(R) Processor 9000 @ 3 GHz"
    assert schema.problems(document) == []
    return document


def written(folder, name, document):
    path = folder / name
    path.write_text(json.dumps(document))
    return str(path)


def test_suites_measured_one_by_one(publish, measured, tmp_path):
    other = copy.deepcopy(measured)
    other["cases"][0].update(suite="fit", name="digits")
    files = [written(tmp_path, "a.json", measured), written(tmp_path, "b.json", other)]
    assert publish.main(files) == 0
    (result,) = publish.RESULTS.glob("*.json")
    assert result.name.endswith("-some-processor-9000-3.json")
    document = json.loads(result.read_text())
    assert schema.problems(document) == []
    assert [case["name"] for case in document["cases"]] == ["small", "digits"]
    made = publish.README.read_text()
    assert "| small | **2 µs** | 50 % | 150 µs, 75.00 x |" in made
    assert "| digits |" in made
    assert "Of 2 goals that the cases state, 2 are met" in made
    assert "old" not in made

    # What is measured again replaces what was there, and nothing else.
    again = copy.deepcopy(measured)
    again["date"] = "9999-01-01T00:00:00+00:00"
    again["cases"][0]["ours"]["median"] = 3.0
    assert publish.main([written(tmp_path, "c.json", again)]) == 0
    made = publish.README.read_text()
    assert "| small | **3 µs** |" in made
    assert "| digits |" in made
    assert publish.main([written(tmp_path, "c.json", again), "--fresh"]) == 0
    assert "| digits |" not in publish.README.read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.update(quick=True), "a quick run shows that it works, not how fast"),
        (lambda d: d.pop("date"), "date is missing"),
        (lambda d: d["machine"].update(threads=99), "in one and"),
    ],
)
def test_what_cannot_be_published(publish, measured, tmp_path, capsys, change, says):
    other = copy.deepcopy(measured)
    change(other)
    files = [written(tmp_path, "a.json", measured), written(tmp_path, "b.json", other)]
    assert publish.main(files) == 1
    assert says in capsys.readouterr().err
    assert "old" in publish.README.read_text()
    assert not list(publish.RESULTS.iterdir())


# ---- several documents -------------------------------------------------------------------------


def document(date, *cases, **machine):
    about = {"cpu": "fast", "isa": "best", "threads": 2, "processors": 2, "compiler": "new"}
    about.update(versions={"fusednn": "1"}, rivals={}, **machine)
    return {
        "date": date,
        "quick": False,
        "machine": about,
        "ceilings": copy.deepcopy(CEILINGS),
        "cases": [{"suite": suite, "name": name, "date": date} for suite, name in cases],
    }


def test_merging():
    old = document("1", ("step", "a"), ("gemm", "b"))
    old["ceilings"]["memory"]["copy"]["2"] = 9.5
    new = document("2", ("step", "a"), ("fit", "c"))
    new["machine"]["rivals"] = {"torch": {"version": "2"}}
    made = merging.merged([new, old])
    assert made["date"] == "2"
    assert [(case["name"], case["date"]) for case in made["cases"]] == [
        ("b", "1"),
        ("a", "2"),
        ("c", "2"),
    ]
    assert made["ceilings"]["memory"]["copy"] == {"1": 7.0, "2": 9.5}
    assert made["machine"]["rivals"] == {"torch": {"version": "2"}}
    assert old["ceilings"]["memory"]["read"] == CEILINGS["memory"]["read"]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"cpu": "slow"}, "cpu is 'fast' in one and 'slow' in another"),
        ({"threads": 1}, "threads is 2 in one and 1 in another"),
        ({"versions": {"fusednn": "2"}}, "fusednn is 1 in one and 2 in another"),
    ],
)
def test_only_what_is_alike_is_merged(other, says):
    new = document("2")
    new["machine"].update(other)
    with pytest.raises(ValueError, match=says):
        merging.merged([document("1"), new])
    with pytest.raises(ValueError, match="no documents"):
        merging.merged([])
