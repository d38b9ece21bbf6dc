# SPDX-License-Identifier: Apache-2.0
"""Whole training steps: forward pass, loss, backward pass, Adam.

"epoch" is how fusednn trains: many steps in one native call, here without the shuffle. A rival
takes one call of Python for each step, for it has no other way. "on batch" is ours with a call for
each step as well (``train_on_batch``, which also checks its data and reports the loss).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fusednn.bench import goals, reference, rivals
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network

# Network -> microseconds of a step at most on the machine the goals were set on, and the lead over
# the best of the other libraries.
NETWORKS = {
    Network((8, 32, 32, 1), 32): (2.0, 14.0),
    Network((32, 128, 128, 10), 64): (25.0, 4.3),
    Network((784, 128, 10), 128): (135.0, 2.3),
    Network((784, 512, 512, 10), 256): (1850.0, 1.3),
    Network((1024,) * 5, 1024): (51000.0, 1.4),
    Network((4096,) * 3, 1024): (370000.0, 1.45),
}
# The operations per second of that machine, which make shares of the floor of its microseconds.
PEAK = 510e9
RIVALS = ("torch-eager", "torch-fused", "torch-compile", "jax")
CHECKED_STEPS = 2
# Of the way that the weights went. Adam divides by the size of the gradient, so rounding decides
# where a gradient is nearly zero; that is one weight in many.
TOLERANCE = 2e-2
EPOCH_FLOPS = 2e9  # steps of one native call come to about this much work, but
EPOCH_STEPS = (2, 2048)  # at least and at most so many
DATA_BYTES = 1 << 25


def _steps_of_an_epoch(network: Network) -> int:
    fewest, most = EPOCH_STEPS
    fits = DATA_BYTES // (4 * network.batch * network.widths[0])
    return int(min(max(EPOCH_FLOPS // network.step_flops, fewest), most, max(fits, fewest)))


class _Ours:
    """Our model with data for an epoch."""

    def __init__(self, network: Network, weights: list[np.ndarray], count: int) -> None:
        self.batch, self.count = network.batch, count
        self.x, self.y = network.batches(count)
        self.model = network.model(weights)
        self.data = self.model._prepare(self.x, self.y, None)

    def epoch(self) -> None:
        """What ``fit`` calls for each epoch, once the data have been checked."""
        self.model._run_epoch(self.data, self.batch, False, None)

    def step(self) -> None:
        """One step on the first batch."""
        self.model.train_on_batch(self.x[: self.batch], self.y[: self.batch])

    def answer(self) -> list[np.ndarray]:
        first = self.model._prepare(self.x[: self.batch], self.y[: self.batch], None)
        for _ in range(CHECKED_STEPS):
            self.model._run_epoch(first, self.batch, False, None)
        return self.model.get_weights()

    def candidate(self, way: str) -> Candidate:
        if way == "epoch":
            return Candidate(self.epoch, self.answer, self.count)
        return Candidate(self.step, self.answer)


def moved_as(start: list[np.ndarray], right: list[np.ndarray]) -> Callable[[Any], str]:
    """Return a check: the weights went the right way from where they started."""

    def check(weights: Any) -> str:
        for before, expected, reached in zip(start, right, weights, strict=True):
            way = expected - before
            error = float(np.linalg.norm(reached - before - way) / np.linalg.norm(way))
            if not error <= TOLERANCE:
                return f"weights moved wrong by {error:.1e}, allowed {TOLERANCE:.0e}"
        return ""

    return check


def work(network: Network, way: str, names: Sequence[str] = RIVALS) -> Work:
    """Return the job with ours in one way, "epoch" or "on batch", and these rivals."""
    weights = reference.initial_weights(network.widths, seed=0)
    count = _steps_of_an_epoch(network)
    ours = _Ours(network, weights, count)
    batches = [
        (ours.x[i : i + network.batch], ours.y[i : i + network.batch])
        for i in range(0, min(count, 64) * network.batch, network.batch)
    ]

    @functools.cache
    def right() -> list[np.ndarray]:
        return reference.network_trained(weights, *batches[0], CHECKED_STEPS)[0]

    def rival(name: str) -> Candidate:
        if name == "jax":
            return rivals.jax_steps(weights, batches, CHECKED_STEPS)
        program = rivals.TORCH_PROGRAMS[name.removeprefix("torch-")]
        return rivals.torch_steps(weights, batches, CHECKED_STEPS, program)

    return Work(
        ours.candidate(way),
        {name: functools.partial(rival, name) for name in names},
        lambda reached: moved_as(weights, right())(reached),
    )


def _goals(network: Network) -> tuple[goals.Goal, ...]:
    microseconds, lead = NETWORKS[network]
    share = network.step_flops / PEAK / (microseconds * 1e-6)
    return goals.floor(round(share, 3)), goals.ratio(lead)


def cases() -> Iterator[Case]:
    """Return the six networks, each in both ways; the rivals run beside the first."""
    for network in NETWORKS:
        for way in ("epoch", "on batch"):
            epoch = way == "epoch"
            yield Case(
                "step",
                network.name if epoch else f"{network.name}, {way}",
                network.step_flops,
                network.step_bytes,
                functools.partial(work, network, way, RIVALS if epoch else ()),
                {"widths": list(network.widths), "batch": network.batch, "way": way},
                goals=_goals(network) if epoch else (),
            )
