# SPDX-License-Identifier: Apache-2.0
"""The benchmark judges right: statistics, turns, gate, refusals, form. No time is asserted here."""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from fusednn import _core, machine
from fusednn.bench import ceilings, harness, networks, reference, report, rivals, schema, session
from fusednn.bench import suites as suites_module
from fusednn.bench.harness import Candidate, Case, Effort, Summary, Work
from fusednn.bench.suites import optimizer, step
from fusednn.cli import bench, main

QUIET = Effort(rounds=8, seconds=math.inf, fewest=1, turn=1e-9, settle=0.0)


class Clock:
    """Time that passes only while a job is done."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def quiet(monkeypatch):
    """A machine that nobody else uses."""
    monkeypatch.setattr(harness.Contention, "share", lambda _: 0.0)


def made_case(ours, others=None, check=lambda answer: "", **costs):
    return Case(
        "gemm",
        "made up",
        flops=costs.get("flops", 0.0),
        bytes=costs.get("bytes", 0.0),
        setup=lambda: Work(ours, others or {}, check),
    )


def everyone(_):
    return True


# ---- statistics --------------------------------------------------------------------------------


def test_summary():
    summary = Summary.of([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (summary.median, summary.low, summary.high) == (3.0, 2.0, 4.0)
    assert (summary.best, summary.n, summary.iqr) == (1.0, 5, 2.0)
    assert summary.spread == pytest.approx(2 / 3)
    assert summary.as_times() == {"median": 3e6, "iqr": 2e6, "best": 1e6, "n": 5}


def test_ratios_are_taken_within_a_round():
    # The machine becomes ten times slower half way: the medians' ratio would be nonsense.
    ours = [1.0] * 5 + [10.0] * 6
    other = [2.0] * 6 + [20.0] * 5
    ratio = harness.per_round(ours, other)
    assert ratio.median == 2.0
    assert ratio.conclusive
    assert not Summary.of(ours).conclusive


def test_one_slow_round_changes_nothing():
    assert Summary.of([1.0] * 29 + [1000.0]).median == 1.0
    assert Summary.of([1.0] * 29 + [1000.0]).conclusive


def test_the_limit_of_noise():
    assert Summary(1.0, 1.0, 1.0 + harness.MOST_SPREAD, 1.0, 30).conclusive
    assert not Summary(1.0, 1.0, 1.001 + harness.MOST_SPREAD, 1.0, 30).conclusive


# ---- turns -------------------------------------------------------------------------------------


def test_candidates_take_turns():
    log = []
    candidates = {
        name: Candidate(lambda name=name: log.append(name), lambda: None) for name in "ABC"
    }
    effort = Effort(rounds=4, seconds=math.inf, fewest=1, turn=0.0, settle=0.0)
    clock = itertools.count().__next__  # every call lasts one second
    times = harness.take_turns(candidates, effort, clock, lambda _: None)
    turns = [name for name, _ in itertools.groupby(log)]
    assert turns == list("ABC") * 5  # once to get acquainted, then four rounds
    assert {name: len(values) for name, values in times.items()} == {"A": 4, "B": 4, "C": 4}


@pytest.mark.parametrize("jobs", [1, 10])
def test_time_of_a_job(jobs):
    clock = Clock()

    def call():
        clock.now += 0.001 * jobs

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=0.1, settle=0.0)
    times = harness.take_turns({"A": Candidate(call, lambda: None, jobs)}, effort, clock)
    assert times["A"] == pytest.approx([0.001] * 3)


def test_work_begun_is_waited_for():
    clock = Clock()
    begun = 0

    def call():
        nonlocal begun
        begun += 1

    def finish():
        nonlocal begun
        clock.now += 0.5 * begun
        begun = 0

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=2.0, settle=0.0)
    candidate = Candidate(call, lambda: None, finish=finish)
    assert harness.take_turns({"A": candidate}, effort, clock)["A"] == pytest.approx([0.5] * 3)


def test_a_budget_ends_the_rounds_but_not_below_the_fewest():
    clock = Clock()

    def call():
        clock.now += 1.0

    candidate = {"A": Candidate(call, lambda: None)}
    short = Effort(rounds=100, seconds=0.5, fewest=3, turn=0.001, settle=0.0)
    assert len(harness.take_turns(candidate, short, clock)["A"]) == 3
    longer = Effort(rounds=100, seconds=9.5, fewest=3, turn=0.001, settle=0.0)
    assert len(harness.take_turns(candidate, longer, clock)["A"]) == 10


def test_pauses_only_between_several():
    pauses = []
    idle = Candidate(lambda: None, lambda: None)
    effort = Effort(rounds=2, seconds=math.inf, fewest=1, turn=1e-9, settle=0.25)
    harness.take_turns({"A": idle}, effort, sleep=pauses.append)
    assert not pauses
    harness.take_turns({"A": idle, "B": idle}, effort, sleep=pauses.append)
    assert pauses == [0.25] * 4


# ---- the gate ----------------------------------------------------------------------------------


def test_close_to():
    check = harness.close_to([np.array([1.0, 100.0])], 1e-3)
    assert check([np.array([1.05, 100.0], np.float32)]) == ""
    assert "relative error 2.0e-03, allowed 1e-03" in check([np.array([1.2, 100.0])])
    assert "relative error nan" in check([np.array([1.0, np.nan])])
    assert "shapes" in check([np.array([1.0])])


def test_what_is_right_is_computed_once():
    calls = []
    check = harness.close_to(lambda: calls.append(1) or np.ones(3), 1e-6)
    assert not calls
    assert check(np.ones(3)) == check(np.ones(3)) == ""
    assert len(calls) == 1


def test_a_wrong_answer_of_ours_is_not_timed():
    def never():
        raise AssertionError("timed")

    wrong = Candidate(never, lambda: np.array([1.0, 3.0]))
    others = {"numpy": lambda: Candidate(never, never)}
    case = made_case(wrong, others, harness.close_to(np.array([1.0, 2.0]), 1e-6))
    record = harness.measure(case, everyone, 1.0, QUIET)
    assert not record["checked"]
    assert not record["conclusive"]
    assert record["ours"] is None
    assert record["rivals"] == record["ratios"] == {}
    assert "relative error" in record["complaint"]
    assert "WRONG ANSWER" in report.verdict(record)


def test_a_wrong_or_failing_rival_is_refused(quiet):
    def failing():
        raise RuntimeError("no such kernel\nand more")

    def never():
        raise AssertionError("timed")

    right = Candidate(lambda: None, lambda: np.ones(2))
    others = {
        "numpy": lambda: Candidate(never, lambda: np.zeros(2)),
        "torch-fused": failing,
        "jax": lambda: right,
    }
    check = harness.close_to(np.ones(2), 1e-6)
    record = harness.measure(made_case(right, others, check), everyone, None, QUIET)
    assert record["refused"]["numpy"].startswith("wrong answer: relative error 1.0e+00")
    assert record["refused"]["torch-fused"] == "RuntimeError: no such kernel"
    assert list(record["rivals"]) == list(record["ratios"]) == ["jax"]


def test_only_the_wanted_rivals_are_built(quiet):
    def never():
        raise AssertionError("built")

    right = Candidate(lambda: None, lambda: 1.0)
    others = {"torch-fused": never, "numpy": lambda: right}
    wanted = rivals.chooser(["numpy"])
    record = harness.measure(made_case(right, others), wanted, None, QUIET)
    assert list(record["rivals"]) == ["numpy"]
    assert record["refused"] == {}


# ---- refusals ----------------------------------------------------------------------------------


def record_of(monkeypatch, times, taken=0.0, floor=1e-6):
    """The record of a case in which the candidates need these times."""
    monkeypatch.setattr(harness, "take_turns", lambda *_: copy.deepcopy(times))
    monkeypatch.setattr(harness.Contention, "share", lambda _: taken)
    idle = Candidate(lambda: None, lambda: 1.0)
    others = {name: lambda: idle for name in times if name != "fusednn"}
    return harness.measure(made_case(idle, others, flops=1.0), everyone, floor, QUIET)


STEADY, NOISY = [2e-6] * 9, [1e-6, 2e-6, 3e-6] * 3


def test_a_steady_case_is_conclusive(monkeypatch):
    times = {"fusednn": STEADY, "torch": [6e-6] * 9}
    record = record_of(monkeypatch, times)
    assert record["conclusive"]
    assert record["ratios"]["torch"] == pytest.approx(3.0)
    assert record["percent_of_floor"] == pytest.approx(50.0)
    assert record["ours"]["median"] == pytest.approx(2.0)  # microseconds


def test_noise_of_a_rival_spoils_its_ratio_only(monkeypatch):
    times = {"fusednn": STEADY, "torch": NOISY, "jax": [4e-6] * 9}
    record = record_of(monkeypatch, times)
    assert record["ratios"]["torch"] is None
    assert record["ratios"]["jax"] == pytest.approx(2.0)
    assert not record["conclusive"]
    assert report.NOISY in report.verdict(record)
    assert "torch noisy" in report.verdict(record)


def test_our_own_noise_leaves_no_percentage(monkeypatch):
    record = record_of(monkeypatch, {"fusednn": NOISY})
    assert record["percent_of_floor"] is None
    assert not record["conclusive"]


def test_nothing_is_concluded_while_others_use_the_processors(monkeypatch):
    times = {"fusednn": STEADY, "torch": [6e-3] * 9}
    record = record_of(monkeypatch, times, taken=harness.MOST_TAKEN + 0.01)
    assert record["ratios"] == {"torch": None}
    assert record["percent_of_floor"] is None
    assert not record["conclusive"]
    assert record_of(monkeypatch, times, taken=None)["conclusive"]  # nobody knows


# ---- ceilings ----------------------------------------------------------------------------------


def test_ceilings_of_this_machine():
    found = ceilings.measure(1, seconds=1e-3)
    supported = {entry["name"] for entry in _core.isas() if entry["supported"]}
    assert set(found["fma"]) == supported
    assert set(found["memory"]) == {"read", "copy", "triad"}
    for isa in supported:
        assert ceilings.peak(found, isa, "float32", 1) > 0
    assert ceilings.bandwidth(found, 1) > 0


def test_measuring_ceilings_keeps_the_instruction_set():
    before = _core.isa()
    ceilings.measure(1, seconds=1e-3)
    assert _core.isa() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fmma", "float32", 1), "kind='fmma' is unknown"),
        (("fma", "float16", 1), "float16"),
        (("fma", "float32", 0), "threads=0"),
        (("fma", "float32", 1, 0.0), "seconds=0"),
        (("fma", "float32", 1, math.nan), "seconds=nan"),
    ],
)
def test_ceilings_refuse_nonsense(arguments, says):
    with pytest.raises(ValueError, match=says):
        _core.measure_ceiling(*arguments)


FOUND = {
    "fma": {"best": {"float32": {"1": 100.0, "2": 200.0}, "float64": {"1": 50.0, "2": 100.0}}},
    "memory": {"read": {"1": 8.0, "2": 10.0}, "copy": {"1": 7.0, "2": 9.0}},
    "taken_by_others": 0.0,
}
MACHINE = {"isa": "best", "threads": 2, "cache_bytes": 1000}


@pytest.mark.parametrize(
    ("flops", "moved", "expected"),
    [
        (2e9, 100, 0.01),  # 200 GFLOP/s; what fits into the cache costs nothing
        (2e9, 1e10, 1.0),  # 10 GB/s
        (0, 1e10, 1.0),
        (0, 100, None),  # in the cache, and no arithmetic is counted
    ],
)
def test_floor(flops, moved, expected):
    case = made_case(Candidate(lambda: None, lambda: None), flops=flops, bytes=moved)
    document = {"machine": MACHINE, "ceilings": FOUND}
    assert ceilings.floor(case, document) == (expected and pytest.approx(expected))


def test_no_floor_from_a_busy_machine():
    case = made_case(Candidate(lambda: None, lambda: None), flops=1.0)
    busy = {**FOUND, "taken_by_others": 0.5}
    assert ceilings.floor(case, {"machine": MACHINE, "ceilings": busy}) is None


# ---- products in native code -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["forward", "dx", "dw"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(kind, dtype, rng):
    x, w, y = (rng.standard_normal(shape).astype(dtype) for shape in ((7, 5), (5, 3), (7, 3)))
    expected = {"forward": x @ w, "dx": y @ w.T, "dw": x.T @ y}[kind]
    _core.run_product(kind, x, w, y, 2)
    result = {"forward": y, "dx": x, "dw": w}[kind]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_products_refuse_what_does_not_fit():
    x, w, y = np.zeros((7, 5)), np.zeros((5, 3)), np.zeros((7, 3))
    with pytest.raises(ValueError, match="kind='dy' is unknown"):
        _core.run_product("dy", x, w, y)
    with pytest.raises(ValueError, match="w"):
        _core.run_product("forward", x, np.zeros((4, 3)), y)
    with pytest.raises(ValueError, match="y"):
        _core.run_product("forward", x, w, np.zeros((7, 4)))


# ---- cases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", suites_module.SUITES)
def test_every_case_states_its_costs(suite):
    cases = list(suites_module.cases(suite))
    assert cases or suites_module.notes(suite)
    assert len({case.name for case in cases}) == len(cases)
    for case in cases:
        assert case.suite == suite
        assert case.bytes > 0
        json.dumps(dict(case.params))


def small_cases():
    """One case of every kind that is quickly set up."""
    names = {
        "gemm": ("dx 32x64x64", "dw 32x64x64", "forward 1x32x32", "layer relu 1x128x128"),
        "activation": ("relu forward, cache", "gelu backward, cache"),
        "loss": ("softmax cross-entropy 256x10", "huber 256x64"),
        "step": ("8-32-32-1, batch 32", "8-32-32-1, batch 32, on batch"),
        "inference": ("784-512-512-10, batch 1",),
    }
    found = []
    for suite, wanted in names.items():
        found += [case for case in suites_module.cases(suite) if case.name in wanted]
    found += [c for c in suites_module.cases("optimizer") if c.name.endswith("50 x 1000")]
    return found


@pytest.mark.parametrize("case", small_cases(), ids=lambda case: case.name)
def test_our_answers_pass_the_gate(case):
    work = case.setup()
    assert work.check(work.ours.answer()) == ""
    work.ours.call()


@pytest.mark.parametrize("case", small_cases(), ids=lambda case: case.name)
def test_rivals_answers_pass_the_gate(case):
    work = case.setup()
    wanted = rivals.chooser([name for name in rivals.installed() if name != "jax"])
    for name in filter(wanted, work.rivals):
        if "compile" not in name:  # takes a minute
            assert work.check(work.rivals[name]().answer()) == "", name


@pytest.mark.parametrize("name", reference.OPTIMIZERS)
def test_the_gate_sees_an_optimizer_that_is_one_percent_off(name):
    (case,) = (
        c
        for c in suites_module.cases("optimizer")
        if c.params["rule"] == name and c.params["tensors"] == 50
    )
    work = case.setup()
    start = optimizer._sample(optimizer._tensors(50, 1000)[0])
    reached = work.ours.answer()
    assert work.check(reached) == ""
    assert "moved wrong by 1.0e-02" in work.check(start + 1.01 * (reached - start))


def test_the_gate_sees_a_step_with_a_wrong_rate():
    network = networks.Network((8, 32, 32, 1), 32)
    weights = reference.initial_weights(network.widths, seed=0)
    x, y = network.batches(1)
    right, _ = reference.network_trained(weights, x, y, 2)
    check = step.moved_as(weights, right)
    assert check(right) == ""
    off = [w + 1.05 * (r - w) for w, r in zip(weights, right, strict=True)]
    assert "weights moved wrong by 5.0e-02" in check(off)


def test_costs_of_a_network():
    network = networks.Network((4096, 4096, 4096), 1024)
    assert network.name == "4096 x2, batch 1024"
    assert network.step_flops == 5 * 2 * 1024 * 4096**2  # no gradient for the input
    assert networks.Network((8, 32, 32, 1), 32).name == "8-32-32-1, batch 32"
    assert network.parameters == 2 * (4096**2 + 4096)


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
    command += ["layer relu 1x128x128", "--rivals", "none", "--quick", "--json", str(path)]
    environment = {**os.environ, "OPENBLAS_CORETYPE": "Haswell"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, path


def test_quick_run(quick_run):
    done, path = quick_run
    assert done.returncode in (bench.RIGHT, bench.NOISY), done.stdout + done.stderr
    assert "cleared OPENBLAS_CORETYPE=Haswell" in done.stdout
    assert "layer relu 1x128x128" in done.stdout
    document = json.loads(path.read_text())
    assert schema.problems(document) == []
    (record,) = document["cases"]
    assert record["checked"]
    assert record["rivals"] == {}
    assert (done.returncode == bench.RIGHT) == record["conclusive"]


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
        (lambda d: d["cases"][0]["ratios"].update(torch=2.0), "every rival has a ratio"),
        (lambda d: d.update(schema=0), "schema is 0"),
    ],
)
def test_the_schema_sees_what_is_wrong(quick_run, change, says):
    document = json.loads(quick_run[1].read_text())
    change(document)
    assert any(says in problem for problem in schema.problems(document))


def test_exit_codes(capsys):
    def document(**record):
        base = {"checked": True, "conclusive": True, "taken_by_others": 0.0}
        return {"ceilings": FOUND, "cases": [{**base, **record}], "quick": False}

    assert bench._conclude(document()) == bench.RIGHT == 0
    assert bench._conclude(document(conclusive=False)) == bench.NOISY
    assert bench._conclude(document(checked=False, conclusive=False)) == bench.WRONG
    assert not capsys.readouterr().out
    bench._conclude(document(taken_by_others=0.4))
    assert "Others took up to 40 %" in capsys.readouterr().out


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


def test_plot(quick_run, tmp_path):
    pytest.importorskip("matplotlib")
    from fusednn.bench import plot

    document = json.loads(quick_run[1].read_text())
    record = {**document["cases"][0], "suite": "step", "floor_us": 1.0}
    record["rivals"] = {"torch-eager": record["ours"], "jax": record["ours"]}
    record["ratios"] = {"torch-eager": 2.0, "jax": None}
    document["cases"].append(record)
    plot.draw(document, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_import_of_fusednn_loads_no_benchmark():
    code = "import fusednn, sys; print([n for n in sys.modules if 'fusednn.bench' in n])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ---- the README --------------------------------------------------------------------------------


def test_readme_shows_no_number_from_noise(quick_run):
    document = json.loads(quick_run[1].read_text())
    record = {**document["cases"][0], "suite": "step", "name": "small", "percent_of_floor": 41.2}
    record["ours"] = {"median": 2.0, "iqr": 0.1, "best": 1.9, "n": 30}
    record["rivals"] = {"torch-eager": {**record["ours"], "median": 150.0}, "jax": record["ours"]}
    record["ratios"] = {"torch-eager": 75.0, "jax": None}
    document["cases"] = [record]
    page = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    made = report.with_numbers(page, document)
    assert "| small | **2 µs** | 41 % | 150 µs, 75.00 x | noisy |" in made
    assert "old" not in made
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert report.with_numbers(made, document) == made


def test_readme_needs_its_marks(quick_run):
    document = json.loads(quick_run[1].read_text())
    with pytest.raises(ValueError, match="once each"):
        report.with_numbers("no marks", document)
