# SPDX-License-Identifier: Apache-2.0
"""The benchmark judges right: statistics, turns, gate, refusals, form. No time is asserted here."""

from __future__ import annotations

import copy
import itertools
import json
import math

import numpy as np
import pytest

from fusednn import _core
from fusednn.bench import ceilings, harness, networks, reference, report, rivals
from fusednn.bench import suites as suites_module
from fusednn.bench.harness import Candidate, Case, Effort, Summary, Work
from fusednn.bench.suites import optimizer, step

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
