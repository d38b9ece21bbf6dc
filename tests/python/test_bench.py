# SPDX-License-Identifier: Apache-2.0
"""The benchmark judges right: statistics, turns, gate, refusals, form. No time is asserted here."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import numpy as np
import pytest

import fusednn
from fusednn import _core
from fusednn.bench import (
    ceilings,
    goals,
    harness,
    report,
    rivals,
    session,
    teams,
)
from fusednn.bench.harness import Candidate, Case, Effort, Summary, Work

QUIET = Effort(rounds=8, seconds=math.inf, fewest=1, turn=1e-9, warm=0.0)


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
    ratio = Summary.of(harness.per_round(ours, other))
    assert ratio.median == 2.0
    assert ratio.conclusive
    assert not Summary.of(ours).conclusive


def test_one_slow_round_changes_nothing():
    assert Summary.of([1.0] * 29 + [1000.0]).median == 1.0
    assert Summary.of([1.0] * 29 + [1000.0]).conclusive


def test_the_limit_of_noise():
    assert Summary(1.0, 1.0, 1.0 + harness.MOST_SPREAD, 1.0, 30).conclusive
    assert not Summary(1.0, 1.0, 1.001 + harness.MOST_SPREAD, 1.0, 30).conclusive


@pytest.mark.parametrize(
    ("n", "rank"),  # of the least of the two, by tables of the sign test
    [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (30, 10)],
)
def test_the_likely_range_of_a_median(n, rank):
    values = list(range(1, n + 1))
    assert harness.likely_range(values[::-1]) == [rank, n + 1 - rank]


def test_the_likely_range_holds_the_true_median():
    rng = np.random.default_rng(5)
    held = 0
    for values in rng.lognormal(size=(4000, 15)):  # its median is 1
        low, high = harness.likely_range(values)
        held += low <= 1 <= high
    assert 0.955 < held / 4000 < 0.975  # 96.5 % by the binomial distribution


# ---- turns -------------------------------------------------------------------------------------


def test_candidates_take_turns():
    log = []
    candidates = {
        name: Candidate(lambda name=name: log.append(name), lambda: None) for name in "ABC"
    }
    effort = Effort(rounds=4, seconds=math.inf, fewest=1, turn=0.0, warm=0.0)
    clock = itertools.count().__next__  # every call lasts one second
    times = harness.take_turns(candidates, effort, clock)
    turns = [name for name, _ in itertools.groupby(log)]
    assert turns == list("ABC") * 5  # once to get acquainted, then four rounds
    assert {name: len(values) for name, values in times.items()} == {"A": 4, "B": 4, "C": 4}


@pytest.mark.parametrize("jobs", [1, 10])
def test_time_of_a_job(jobs):
    clock = Clock()

    def call():
        clock.now += 0.001 * jobs

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=0.1, warm=0.0)
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

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=2.0, warm=0.0)
    candidate = Candidate(call, lambda: None, finish=finish)
    assert harness.take_turns({"A": candidate}, effort, clock)["A"] == pytest.approx([0.5] * 3)


def test_a_budget_ends_the_rounds_but_not_below_the_fewest():
    clock = Clock()

    def call():
        clock.now += 1.0

    candidate = {"A": Candidate(call, lambda: None)}
    short = Effort(rounds=100, seconds=0.5, fewest=3, turn=0.001, warm=0.0)
    assert len(harness.take_turns(candidate, short, clock)["A"]) == 3
    longer = Effort(rounds=100, seconds=9.5, fewest=3, turn=0.001, warm=0.0)
    assert len(harness.take_turns(candidate, longer, clock)["A"]) == 10


def test_a_turn_begins_with_calls_that_are_not_timed():
    clock, calls = Clock(), []

    def call():
        # The first calls of a turn are slow, as after another library's work.
        calls.append(clock.now)
        clock.now += 0.001

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=0.004, warm=0.01)
    times = harness.take_turns({"A": Candidate(call, lambda: None)}, effort, clock)
    assert times["A"] == pytest.approx([0.001] * 3)
    assert len(calls) == 4 + 3 * (10 + 4)  # two to begin with, two more to see how long they take


def test_a_long_call_needs_no_warming():
    clock, calls = Clock(), []

    def call():
        calls.append(clock.now)
        clock.now += 2 * harness.LONG

    effort = Effort(rounds=3, seconds=math.inf, fewest=1, turn=0.004, warm=0.01)
    harness.take_turns({"A": Candidate(call, lambda: None)}, effort, clock)
    assert len(calls) == 1 + 3


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
    monkeypatch.setattr(harness, "take_turns", lambda *_, **__: copy.deepcopy(times))
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
    assert record["ranges"]["torch"] == pytest.approx([0.5, 1.5])
    assert "torch 0.50-1.50 x" in report.verdict(record)


def test_our_own_noise_leaves_no_percentage(monkeypatch):
    record = record_of(monkeypatch, {"fusednn": NOISY})
    assert record["percent_of_floor"] is None
    assert not record["conclusive"]


def test_nothing_is_concluded_while_others_use_the_processors(monkeypatch):
    times = {"fusednn": STEADY, "torch": [6e-3] * 9}
    record = record_of(monkeypatch, times, taken=harness.MOST_TAKEN + 0.01)
    assert record["ratios"] == record["ranges"] == {"torch": None}
    assert record["range_us"] is None
    assert record["percent_of_floor"] is None
    assert "torch noisy" in report.verdict(record)
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
    cost = ceilings.Cost(flops, moved, "float32", 2, "best")
    document = {"machine": MACHINE, "ceilings": FOUND}
    assert ceilings.floor(cost, document) == (expected and pytest.approx(expected))


def test_no_floor_from_a_busy_machine_or_an_unknown_dtype():
    cost = ceilings.Cost(1.0, 1.0, "float32", 2, "best")
    busy = {**FOUND, "taken_by_others": 0.5}
    assert ceilings.floor(cost, {"machine": MACHINE, "ceilings": busy}) is None
    odd = cost._replace(dtype="bfloat16")
    assert ceilings.floor(odd, {"machine": MACHINE, "ceilings": FOUND}) is None


def test_ceilings_count_as_high_as_they_were_ever_seen(monkeypatch):
    better = {"fma": {"best": {"float32": {"2": 400.0}}}, "memory": {}, "taken_by_others": 0.0}
    monkeypatch.setattr(ceilings, "measure", lambda *_: better)
    (goal,) = goals.judged([goals.floor(0.9)], reached(percent_of_floor=100.0), FOUND)
    assert goal["met"]
    record = reached(flops=2e9, bytes=1.0, dtype="float32", isa="best", goals=[goal])
    record["ours"] = {"median": 1e4}
    document = {"machine": {**MACHINE}, "ceilings": FOUND, "cases": [record]}
    session.finish(session.Plan([], []), document)
    assert record["floor_us"] == pytest.approx(5e3)  # 400 GFLOP/s
    assert record["percent_of_floor"] == pytest.approx(50.0)
    assert record["goals"][0]["met"] is False
    assert document["ceilings"]["memory"] == FOUND["memory"]


@pytest.mark.parametrize(
    ("threads", "sizes"), [(1, [1]), (2, [1, 2]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_sizes_of_teams(threads, sizes):
    assert ceilings.team_sizes(threads) == sizes


# ---- goals -------------------------------------------------------------------------------------


def reached(**changes):
    """A record with what goals are judged by."""
    record = {"bytes": 8e3, "threads": 2, "steady": True, "floor_us": 0.91}
    record.update(ours={"median": 1.0}, range_us=[0.8, 1.25])
    record["ratios"] = {"torch": 3.0, "numpy": 1.4, "fusednn-bare": 0.96}
    record["ranges"] = {"torch": [2.0, 4.0], "numpy": [1.2, 1.6], "fusednn-bare": [0.9, 1.0]}
    return {**record, **changes}


@pytest.mark.parametrize(
    ("goal", "changes", "value", "met"),
    [
        (goals.floor(0.9), {}, 0.91, True),
        (goals.floor(0.92), {}, 0.91, False),
        (goals.floor(0.9), {"floor_us": None}, None, None),
        (goals.floor(0.9), {"steady": False}, None, None),  # between 0.728 and 1.1375
        (goals.floor(0.7), {"steady": False}, 0.728, True),
        (goals.floor(1.2), {"steady": False}, 1.1375, False),
        (goals.ratio(1.4), {}, 1.4, True),  # the best of other libraries, not of ours
        (goals.ratio(1.5), {}, 1.4, False),
        (goals.ratio(2.0, "torch"), {}, 3.0, True),
        (goals.ratio(2.0, "torch", "numpy"), {}, 1.4, False),
        (goals.ratio(2.0, "jax"), {}, None, None),  # did not take part
        (goals.ratio(1.4), {"ratios": {"torch": 3.0, "numpy": None}}, None, None),
        (goals.ratio(1.1), {"ratios": {"torch": 3.0, "numpy": None}}, 1.2, True),
        (goals.ratio(1.7), {"ratios": {"torch": 3.0, "numpy": None}}, 1.6, False),
        (goals.ratio(1.0), {"ranges": {"torch": [2.0, 4.0], "numpy": None}}, None, None),
        (goals.ratio(1.0), {"ratios": {}}, None, None),
        (goals.ratio(0.95, "fusednn-bare"), {}, 0.96, True),
        (goals.stream(0.9, "copy"), {}, 8 / 9, False),  # 8 of 9 GB/s
        (goals.stream(0.8, "read"), {}, 0.8, True),
        (goals.stream(0.8, "read"), {"steady": False}, None, None),
        (goals.stream(0.8, "read"), {"range_us": None}, None, None),
        (goals.time(1.0), {}, 1.0, True),
        (goals.time(0.9), {}, 1.0, False),
        (goals.time(0.9), {"steady": False}, None, None),
        (goals.time(1.3), {"steady": False}, 1.25, True),
        (goals.time(0.7), {"steady": False}, 0.8, False),
        (goals.time(0.9), {"ours": None, "range_us": None}, None, None),
    ],
)
def test_goals(goal, changes, value, met):
    (judged,) = goals.judged([goal], reached(**changes), FOUND)
    assert judged["value"] == (value and pytest.approx(value))
    assert judged["met"] is met
    assert ("unknown" in goals.in_words(judged)) == (met is None)


def test_goals_in_words():
    found = goals.judged(
        [goals.floor(0.94), goals.ratio(1.3), goals.ratio(2, "torch", "numpy"), goals.time(0.5)],
        reached(),
        FOUND,
    )
    assert list(map(goals.in_words, found)) == [
        "at least 94 % of the floor: 91 %",
        "at least 1.3 x the best rival: 1.40 x",
        "at least 2 x the best of torch, numpy: 1.40 x",
        "at most 0.5 µs: 1 µs",
    ]


def test_the_report_counts_goals():
    judged = goals.judged([goals.floor(0.5), goals.floor(0.95), goals.time(1)], reached(), FOUND)
    judged += goals.judged([goals.ratio(1.0, "jax")], reached(), FOUND)
    record = {"suite": "gemm", "name": "a product", "goals": judged}
    said = report.goals({"cases": [record, {**record, "goals": []}]})
    assert said.splitlines()[0] == "goals: 2 met, 1 missed, 1 unknown"
    assert "missed  gemm: a product: at least 95 % of the floor: 91 %" in said
    assert report.goals({"cases": []}) == ""


# ---- teams -------------------------------------------------------------------------------------


def test_a_case_may_have_its_own_threads_and_instruction_set():
    threads, isa = fusednn.get_num_threads(), _core.isa()
    oldest = next(entry["name"] for entry in _core.isas() if entry["supported"])
    with teams.at_work(1, oldest):
        assert (fusednn.get_num_threads(), _core.isa()) == (1, oldest)
    assert (fusednn.get_num_threads(), _core.isa()) == (threads, isa)
    with pytest.raises(RuntimeError), teams.at_work(1, oldest):
        raise RuntimeError("within")
    assert (fusednn.get_num_threads(), _core.isa()) == (threads, isa)


def test_torch_works_with_as_many_threads():
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    with teams.at_work(1, _core.isa()):
        assert torch.get_num_threads() == (before if fusednn.get_num_threads() == before else 1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("rival", "changes", "part"),
    [
        ("torch-fused", {}, True),
        ("jax", {}, True),
        ("numpy", {}, False),  # not asked for
        ("fusednn-bare", {}, True),
        ("torch", {"threads": 1}, True),
        ("jax", {"threads": 1}, False),  # cannot change
        ("jax", {"threads": 2}, True),
        ("torch", {"isa": "another"}, False),
        ("fusednn-bare", {"isa": "another", "threads": 1}, True),
    ],
)
def test_who_takes_part(rival, changes, part):
    plan = session.Plan(["gemm"], ["torch", "jax"])
    case = dataclasses.replace(made_case(Candidate(lambda: None, lambda: None)), **changes)
    assert session._takes_part(plan, case, 2)(rival) is part
