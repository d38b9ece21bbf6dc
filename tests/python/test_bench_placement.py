# SPDX-License-Identifier: Apache-2.0
"""Rounds that met a bad placement of the processors are played again."""

from __future__ import annotations

import pytest

from fusednn import _core
from fusednn.bench import harness
from fusednn.bench.harness import Candidate, Effort
from fusednn.bench.placement import Placement


def placement_of(states, threads=2):
    """A placement that feels these handovers (ns) and shares of the peak, one after the other."""
    handovers, shares = iter([s[0] for s in states]), iter([s[1] for s in states])
    return Placement(threads, lambda _: next(handovers), lambda _: next(shares))


GOOD, SIBLINGS, APART = (130, 1.0), (52, 0.5), (580, 1.0)


def test_siblings_and_distant_processors_are_bad():
    placement = placement_of([GOOD, SIBLINGS, APART, GOOD, (200, 0.9)])
    assert [placement.is_good() for _ in range(5)] == [True, False, False, True, True]


def test_the_handover_of_siblings_sets_no_mark():
    placement = placement_of([GOOD, SIBLINGS, GOOD])
    assert [placement.is_good() for _ in range(3)] == [True, False, True]


def test_one_thread_is_always_well_placed():
    assert placement_of([], threads=1).is_good()


def test_settling_waits_and_gives_up():
    assert placement_of([GOOD, APART, APART, GOOD]).settle(10.0)
    placement = placement_of([GOOD] + [APART] * 99)
    assert placement.is_good()
    assert not placement.settle(0.05)


def test_a_disturbed_round_is_played_again_for_everybody():
    # Before and after each round: the second one ends in another placement.
    placement = placement_of([GOOD, GOOD, GOOD, APART, GOOD, GOOD, GOOD, GOOD])
    calls = {"A": 0, "B": 0}

    def call(name):
        calls[name] += 1

    candidates = {name: Candidate(lambda name=name: call(name), lambda: None) for name in calls}
    effort = Effort(rounds=3, seconds=9.0, fewest=3, turn=1e-9, warm=0.0)
    times = harness.take_turns(candidates, effort, placement=placement)
    assert {name: len(rounds) for name, rounds in times.items()} == {"A": 3, "B": 3}
    assert calls["A"] == calls["B"]


def test_patience_ends():
    placement = placement_of([GOOD] + [APART] * 999)
    assert placement.is_good()
    effort = Effort(rounds=2, seconds=9.0, fewest=2, turn=1e-9, warm=0.0, patience=0.05)
    times = harness.take_turns(
        {"A": Candidate(lambda: None, lambda: None)}, effort, placement=placement
    )
    assert len(times["A"]) == 2


def test_a_handover_takes_time():
    assert 1e-9 < _core.measure_handover(2) < 1e-2
    with pytest.raises(ValueError, match="threads=1 must be in"):
        _core.measure_handover(1)
