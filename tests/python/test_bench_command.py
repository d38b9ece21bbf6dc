# SPDX-License-Identifier: Apache-2.0
"""``python -m fusednn bench``: its environment, exit codes, document, picture, README table."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from fusednn import machine
from fusednn.bench import report, schema, session
from fusednn.cli import bench, main

# ---- the clean environment ---------------------------------------------------------------------


def test_environment():
    given = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_L2_SIZE": "512", "HOME": "/", "NPROC": "9"}
    clean = session.environment(given, 3)
    assert not set(machine.KERNEL_VARIABLES) & set(clean)
    assert clean["HOME"] == "/"
    assert {clean[name] for name in machine.THREAD_VARIABLES} == {"3"}
    assert session.environment(clean, 3) == clean  # so the command starts itself anew only once


def test_the_command_starts_itself_anew_in_a_clean_environment(monkeypatch, capsys):
    seen = {}

    def run(command, env, check):
        seen.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(bench.subprocess, "run", run)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    given = ["--suite", "step", "--only", "8-32", "--rivals", "none", "--quick", "--threads", "1"]
    assert main(["bench", *given]) == 3
    assert "cleared OPENBLAS_CORETYPE=Haswell" in capsys.readouterr().out
    assert "OPENBLAS_CORETYPE" not in seen["env"]
    assert seen["env"]["OMP_NUM_THREADS"] == "1"
    assert set(given) <= set(seen["command"])
    assert seen["command"][1:4] == ["-m", "fusednn", "bench"]


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "result.json"
    command = [sys.executable, "-m", "fusednn", "bench", "--suite", "gemm", "--only"]
    command += ["forward 64x64x64", "--rivals", "none", "--quick", "--json", str(path)]
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, path


def test_quick_run(quick_run):
    done, path = quick_run
    assert done.returncode in (bench.RIGHT, bench.NOISY), done.stdout + done.stderr
    assert "cleared OPENBLAS_CORETYPE=Haswell" in done.stdout
    assert "1/2 gemm: forward 64x64x64" in done.stdout
    assert "2 cases in" in done.stdout
    document = json.loads(path.read_text())
    assert schema.problems(document) == []
    names = [record["name"] for record in document["cases"]]
    assert names == ["forward 64x64x64", "forward 64x64x64, 1 thread"]
    assert document["cases"][1]["threads"] == 1
    for record in document["cases"]:
        assert record["checked"]
        assert record["rivals"] == {}
        assert record["isa"] == document["machine"]["isa"]
    conclusive = all(record["conclusive"] for record in document["cases"])
    assert (done.returncode == bench.RIGHT) == conclusive


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("date"), "date is missing"),
        (lambda d: d.update(extra=1), "extra is unknown"),
        (lambda d: d["machine"].update(threads="2"), "machine.threads is str, expected int"),
        (lambda d: d["machine"].update(threads=True), "machine.threads is bool"),
        (lambda d: d["cases"][0].update(flops=None), "cases[0].flops is NoneType"),
        (lambda d: d["cases"][0]["ours"].pop("iqr"), "cases[0].ours.iqr is missing"),
        (lambda d: d["cases"][0].update(complaint="off"), "exclude each other"),
        (lambda d: d["cases"][0].update(checked=False, complaint="off"), "has been checked"),
        (
            lambda d: d["cases"][0]["ratios"].update(torch=2.0),
            "every rival has its place in ratios",
        ),
        (lambda d: d["cases"][0].update(goals=[{"kind": "floor"}]), "goals[0].limit is missing"),
        (lambda d: d["cases"][0].update(steady=False, conclusive=True), "is not steady"),
        (lambda d: d.update(schema=0), "schema is 0"),
    ],
)
def test_the_schema_sees_what_is_wrong(quick_run, change, says):
    document = json.loads(quick_run[1].read_text())
    change(document)
    assert any(says in problem for problem in schema.problems(document))


def test_exit_codes(capsys):
    fma = {"best": {"float32": {"1": 100.0, "2": 190.0}}}

    def document(**record):
        base = {"checked": True, "conclusive": True, "taken_by_others": 0.0}
        return {
            "ceilings": {"taken_by_others": 0.0, "fma": fma},
            "machine": {"isa": "best", "threads": 2},
            "cases": [{**base, **record}],
            "quick": False,
        }

    assert bench._conclude(document()) == bench.RIGHT == 0
    assert bench._conclude(document(conclusive=False)) == bench.NOISY
    assert bench._conclude(document(checked=False, conclusive=False)) == bench.WRONG
    assert not capsys.readouterr().out
    bench._conclude(document(taken_by_others=0.4))
    assert "Others took up to 40 %" in capsys.readouterr().out
    fma["best"]["float32"]["2"] = 100.0
    assert bench._conclude(document()) == bench.RIGHT
    assert "2 threads compute 1.0 times as much as one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--suite", "gem"], "gem"),
        (["--rivals", "tensorflow"], "'tensorflow' is unknown; choose from numpy, torch"),
        (["--threads", "0"], "0 is less than 1"),
        (["--json", "/nowhere/at/all/x.json"], "there is no folder /nowhere/at/all"),
    ],
)
def test_usage_errors(capsys, arguments, says):
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_plot_without_matplotlib_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        main(["bench", "--plot", "x.png"])
    assert "--plot needs matplotlib: pip install matplotlib" in capsys.readouterr().err


def measured(document, suite, **changes):
    """A record as a conclusive measurement would leave it."""
    times = {"median": 2.0, "iqr": 0.1, "best": 1.9, "n": 30}
    record = {**document["cases"][0], "suite": suite, "name": suite, "floor_us": 1.0}
    record.update(ours=times, steady=True, conclusive=False, percent_of_floor=50.0)
    record["rivals"] = {"torch-fused": {**times, "median": 150.0}, "jax": times}
    record["ratios"] = {"torch-fused": 75.0, "jax": None}
    record["ranges"] = {"torch-fused": [74.0, 76.0], "jax": None}
    return {**record, **changes}


def test_plots(quick_run, tmp_path):
    pytest.importorskip("matplotlib")
    from fusednn.bench import plot

    document = json.loads(quick_run[1].read_text())
    assert plot.draw({**document, "cases": []}, tmp_path / "none.png") == []
    document["cases"] = [
        measured(document, "step"),
        measured(document, "optimizer", bytes=1e9, flops=0.0),
        *(measured(document, "growth", params={"axis": "width", "value": v}) for v in (16, 32)),
    ]
    written = plot.draw(document, tmp_path / "plot.png")
    assert [path.name for path in written] == [
        "plot-steps.png",
        "plot-growth.png",
        "plot-roofline.png",
    ]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size < 200_000
    assert b"<svg" in plot.draw(document, tmp_path / "plot.svg")[0].read_bytes()


def test_import_of_fusednn_loads_no_benchmark():
    code = "import fusednn, sys; print([n for n in sys.modules if 'fusednn.bench' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- the README --------------------------------------------------------------------------------


def test_readme_shows_no_number_from_noise(quick_run):
    document = json.loads(quick_run[1].read_text())
    record = {**document["cases"][0], "suite": "step", "name": "small", "percent_of_floor": 41.2}
    record["ours"] = {"median": 2.0, "iqr": 0.1, "best": 1.9, "n": 30}
    record["steady"] = True
    record["rivals"] = {"torch-eager": {**record["ours"], "median": 150.0}, "jax": record["ours"]}
    record["ratios"] = {"torch-eager": 75.0, "jax": None}
    record["ranges"] = {"torch-eager": [74.0, 76.0], "jax": None}
    document["cases"] = [record]
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    made = report.with_numbers(page, document)
    assert "| small | **2 µs** | 41 % | 150 µs, 75.00 x | noisy |" in made
    assert "old" not in made
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert report.with_numbers(made, document) == made
    record.update(steady=False, range_us=None)
    assert "| small | **noisy** |" in report.with_numbers(page, document)
    record.update(range_us=[1.9, 3.0])
    record["ranges"]["jax"] = [1.2, 2.5]
    made = report.with_numbers(page, document)
    assert "| small | **1.9 µs - 3 µs** | 41 % | 150 µs, 75.00 x | 1.20-2.50 x |" in made


def test_readme_shows_the_pictures_that_exist(tmp_path):
    result, page = tmp_path / "results" / "x.json", tmp_path / "README.md"
    assert report.pictures(result, page) == {}
    report.picture(result, "steps").parent.mkdir()
    report.picture(result, "steps").write_bytes(b"")
    assert report.pictures(result, page) == {report.PICTURES["steps"]: "results/x-steps.png"}


def test_readme_needs_its_marks(quick_run):
    document = json.loads(quick_run[1].read_text())
    with pytest.raises(ValueError, match="once each"):
        report.with_numbers("no marks", document)
