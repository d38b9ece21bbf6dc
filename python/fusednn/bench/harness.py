# SPDX-License-Identifier: Apache-2.0
"""Right first, then fast: the gate, the turns, the statistics.

A round gives every candidate one turn: ours, then each rival. A disturbance of the machine that
lasts longer than a round hits all of them alike, and the ratios, which are taken within a round,
hold. A turn begins with calls that are not timed, for about as long as threads of the candidate
before go on spinning: nobody pays for those, for their caches, or for waking its own threads. A
pause would do the opposite: processors that idle fall asleep, and every library is slow at first.

A round that met a worse placement of the processors than the best one is played again.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusednn.bench.goals import Goal
from fusednn.bench.placement import Placement
from fusednn.cli.contention import Contention

# An interquartile range above this share of the median is noise: no conclusion is drawn from it.
MOST_SPREAD = 0.15
# Nor is any drawn while others take more than this share of the processors' time. It can look very
# steady: a library whose threads wait for each other is slowed down a thousandfold.
MOST_TAKEN = 0.05


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Candidate:
    """One way to do a job.

    Attributes
    ----------
    call : callable
        Does the job `jobs` times.
    answer : callable
        Returns what the job computes, for the gate; called once, before anything is timed.
    jobs : float
        Not whole where another amount of work is counted as one of ours, such as by its bytes.
    finish : callable
        Waits for what `call` only began; for libraries that work behind the caller's back.
    check : callable, optional
        What is wrong with its answer, where that is another than the one of the case.
    """

    call: Callable[[], object]
    answer: Callable[[], Any]
    jobs: float = 1
    finish: Callable[[], object] = _nothing
    check: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Work:
    """A case with its arrays in memory.

    Attributes
    ----------
    ours : Candidate
    rivals : mapping of str to callable
        Name of a rival -> what makes its candidate; called only for those that are wanted.
    check : callable
        Takes an answer and returns what is wrong with it, "" if nothing is.
    quality : callable, optional
        Takes an answer and returns how good it is, such as a test accuracy.
    """

    ours: Candidate
    rivals: Mapping[str, Callable[[], Candidate]]
    check: Callable[[Any], str]
    quality: Callable[[Any], float] | None = None


@dataclass(frozen=True)
class Case:
    """What is measured, what it costs at least, and what it is meant to reach.

    Attributes
    ----------
    suite, name : str
    flops, bytes : float
        Operations of matrix products, and bytes between memory and processor.
    setup : callable
        Makes the arrays.
    params : mapping
        What a program needs to tell the cases apart.
    dtype : str
    threads : int
        0 for as many as the run has.
    isa : str
        Of ours; "" for the one in use. Where another is asked for, no other library takes part.
    goals : tuple of Goal
    """

    suite: str
    name: str
    flops: float
    bytes: float
    setup: Callable[[], Work]
    params: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    threads: int = 0
    isa: str = ""
    goals: tuple[Goal, ...] = ()


@dataclass(frozen=True)
class Effort:
    """How much time is spent on a case.

    It ends after `rounds` rounds, or after `seconds` if there were at least `fewest` rounds. A turn
    lasts about `turn` seconds, or one call, after about `warm` seconds that are not timed. So many
    seconds in all, `patience`, may go into rounds that are played again and into waiting for them.
    """

    rounds: int = 15
    seconds: float = 4.0
    fewest: int = 7
    turn: float = 0.015
    warm: float = 0.025
    patience: float = 3.0


QUICK = Effort(rounds=5, seconds=1.0, fewest=3, turn=0.001, warm=0.0, patience=0.0)


# ---- statistics --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """Median and quartiles of some measurements."""

    median: float
    low: float
    high: float
    best: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high), float(min(values)), len(values))

    @property
    def iqr(self) -> float:
        """The interquartile range."""
        return self.high - self.low

    @property
    def spread(self) -> float:
        """The interquartile range as a share of the median."""
        return self.iqr / self.median

    @property
    def conclusive(self) -> bool:
        """Whether the measurements lie close enough together to say something."""
        return self.spread <= MOST_SPREAD

    def as_times(self) -> dict[str, float | int]:
        """Return seconds as microseconds, as the document has them."""
        return {
            "median": self.median * 1e6,
            "iqr": self.iqr * 1e6,
            "best": self.best * 1e6,
            "n": self.n,
        }


def per_round(ours: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return how many times our time a rival needs, round by round."""
    return [b / a for a, b in zip(ours, other, strict=True)]


def likely_range(values: Sequence[float]) -> list[float]:
    """Return between which two measurements the true median lies, with 95 % probability.

    Each measurement is below the true median as likely as above it, whatever the distribution; so
    how many are below is binomial, and the k-th from either end bounds the median. Fewer than six
    measurements cannot be that sure; theirs are the least and the largest.
    """
    ordered, n = sorted(values), len(values)
    k, tail = 0, 0.5**n
    while tail <= 0.025:
        k += 1
        tail += math.comb(n, k) * 0.5**n
    k = max(k, 1)
    return [ordered[k - 1], ordered[n - k]]


# ---- the gate ----------------------------------------------------------------------------------


def close_to(right: Any, tolerance: float) -> Callable[[Any], str]:
    """Return a check: the largest error, relative to the largest right value, is at most this.

    `right` and the answers are arrays, or sequences of arrays, or mean by being callable that they
    are computed when they are first needed.
    """
    known: list[list[np.ndarray]] = []

    def check(answer: Any) -> str:
        if not known:
            known.append(_arrays(right() if callable(right) else right))
        given = _arrays(answer)
        if [a.shape for a in given] != [a.shape for a in known[0]]:
            return f"shapes {[a.shape for a in given]}, expected {[a.shape for a in known[0]]}"
        for array, expected in zip(given, known[0], strict=True):
            scale = float(np.abs(expected).max()) or 1.0
            error = float(np.abs(array - expected).max()) / scale
            if not error <= tolerance:  # also when it is NaN
                return f"relative error {error:.1e}, allowed {tolerance:.0e}"
        return ""

    return check


def _arrays(values: Any) -> list[np.ndarray]:
    several = isinstance(values, (list, tuple))
    return [np.asarray(value, dtype=np.float64) for value in (values if several else [values])]


# ---- turns -------------------------------------------------------------------------------------

LONG = 0.1  # seconds: beside such a call, a cold start does not matter


class _Player:
    """A candidate, how often it is called in a turn, and the times of its turns."""

    def __init__(self, candidate: Candidate, effort: Effort, clock: Callable[[], float]) -> None:
        self.candidate, self.effort, self.clock = candidate, effort, clock
        self.times: list[float] = []
        once = self._timed(1)
        if once < LONG:
            once = self._timed(1)  # for the very first call is never typical
        if once < effort.turn:
            more = max(2, math.ceil(effort.turn / max(once, 1e-7) / 8))
            once = self._timed(more) / more
        once = max(once, 1e-9)
        self.calls = max(1, math.ceil(effort.turn / once))
        self.warming = 0 if once > LONG else max(1, math.ceil(effort.warm / once))

    def _timed(self, calls: int) -> float:
        call = self.candidate.call
        start = self.clock()
        for _ in range(calls):
            call()
        self.candidate.finish()
        return self.clock() - start

    def turn(self) -> None:
        if self.warming:
            self._timed(self.warming)
        self.times.append(self._timed(self.calls) / (self.calls * self.candidate.jobs))


def take_turns(
    candidates: Mapping[str, Candidate],
    effort: Effort,
    clock: Callable[[], float] = time.perf_counter,
    placement: Placement | None = None,
) -> dict[str, list[float]]:
    """Return the seconds a job took in each round, for every candidate, in turns A B C A B C."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        players = {name: _Player(one, effort, clock) for name, one in candidates.items()}
        begin, lost, done = clock(), 0.0, 0
        while done < effort.rounds:
            start = clock()
            if done >= effort.fewest and start - begin - lost > effort.seconds:
                break
            watched = placement if lost < effort.patience else None
            if watched is not None:
                watched.settle(effort.patience - lost)
                settled = clock()
                lost += settled - start
                start = settled
            for player in players.values():
                player.turn()
            if watched is not None and not watched.is_good():
                for player in players.values():
                    player.times.pop()
                lost += clock() - start
            else:
                done += 1
    finally:
        if collecting:
            gc.enable()
    return {name: player.times for name, player in players.items()}


# ---- a case from beginning to end --------------------------------------------------------------


def _admit(work: Work, name: str) -> tuple[Candidate | None, str, Any]:
    """Return a rival's candidate, or why it does not take part; and its answer."""
    try:
        candidate = work.rivals[name]()
        answer = candidate.answer()
        complaint = (candidate.check or work.check)(answer)
    except Exception as error:  # whatever a rival raises, the others still count
        words = str(error).strip().splitlines() or [""]
        return None, f"{type(error).__name__}: {words[0]}", None
    return (None, f"wrong answer: {complaint}", None) if complaint else (candidate, "", answer)


def is_quiet(taken: float | None) -> bool:
    """Return whether others leave us the processors, as far as anybody knows."""
    return taken is None or taken <= MOST_TAKEN


def set_floor(record: dict[str, Any], floor: float | None) -> None:
    """Note the seconds that a case takes at least, and the share of them that was reached."""
    record["floor_us"] = None if floor is None else floor * 1e6
    known = floor is not None and record["steady"]
    record["percent_of_floor"] = (
        100 * record["floor_us"] / record["ours"]["median"] if known else None
    )


def measure(
    case: Case,
    wanted: Callable[[str], bool],
    floor: float | None,
    effort: Effort,
    placement: Placement | None = None,
) -> dict[str, Any]:
    """Return the record of one case, as ``bench/README.md`` describes it.

    Parameters
    ----------
    case : Case
    wanted : callable
        Whether a rival of this name is to take part.
    floor : float or None
        The seconds that the job takes at least on this machine; None if nobody knows.
    effort : Effort
    placement : Placement, optional
        Of the processors; with it, rounds that were disturbed by their moving are played again.
    """
    work = case.setup()
    record: dict[str, Any] = {
        "suite": case.suite,
        "name": case.name,
        "params": dict(case.params),
        "dtype": case.dtype,
        "flops": float(case.flops),
        "bytes": float(case.bytes),
        "floor_us": None,
        "checked": True,
        "complaint": "",
        "ours": None,
        "rivals": {},
        "refused": {},
        "ratios": {},
        "range_us": None,
        "ranges": {},
        "quality": {},
        "goals": [],
        "percent_of_floor": None,
        "taken_by_others": None,
        "steady": False,
        "conclusive": False,
    }
    answer = work.ours.answer()
    complaint = work.check(answer)
    if complaint:  # a wrong answer is not timed, and neither is anything beside it
        record.update(checked=False, complaint=complaint)
        set_floor(record, floor)
        return record
    candidates, answers = {"fusednn": work.ours}, {"fusednn": answer}
    for name in filter(wanted, work.rivals):
        candidate, reason, answer = _admit(work, name)
        if candidate is None:
            record["refused"][name] = reason
        else:
            candidates[name], answers[name] = candidate, answer
    if work.quality is not None:
        record["quality"] = {name: work.quality(answer) for name, answer in answers.items()}
    answers.clear()
    watch = Contention()
    times = take_turns(candidates, effort, placement=placement)
    taken = watch.share()
    quiet = is_quiet(taken)

    mine = times.pop("fusednn")
    ours = Summary.of(mine)
    rounds = {name: per_round(mine, theirs) for name, theirs in times.items()}
    ratios = {name: Summary.of(values) for name, values in rounds.items()}
    record["ours"] = ours.as_times()
    record["rivals"] = {name: Summary.of(theirs).as_times() for name, theirs in times.items()}
    record["ratios"] = {n: r.median if quiet and r.conclusive else None for n, r in ratios.items()}
    record["range_us"] = likely_range([1e6 * seconds for seconds in mine]) if quiet else None
    record["ranges"] = {n: likely_range(v) if quiet else None for n, v in rounds.items()}
    record["taken_by_others"] = taken
    record["steady"] = quiet and ours.conclusive
    set_floor(record, floor)
    record["conclusive"] = record["steady"] and all(r.conclusive for r in ratios.values())
    return record
