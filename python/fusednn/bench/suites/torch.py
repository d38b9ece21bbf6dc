# SPDX-License-Identifier: Apache-2.0
"""Our optimizers and layers inside somebody else's torch program.

Steps of ``fusednn.torch.optim`` beside ``torch.optim``'s own implementations, and whole training
steps: eager with torch's fused Adam is the rival of the same program with one thing changed.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

from fusednn.bench import goals, reference, rivals
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.networks import Network
from fusednn.bench.suites import optimizer as arrays
from fusednn.bench.suites import step

# Name -> number of tensors, elements of each.
SIZES = {"32M": (1, 1 << 25), "50 x 1000": (50, 1000), "2000 x 100": (2000, 100)}
# Rules, in the names of ``fusednn.ops``, and the lead over torch on one large tensor: where torch
# has a fused kernel memory is the limit of both, and that kernel is what counts.
RULES = {
    "sgd": 1.0,
    "momentum": 1.0,
    "adam": 1.0,
    "adamw": 1.0,
    "amsgrad": 1.0,
    "adagrad": 1.0,
    "rmsprop": 4.0,
    "adadelta": 4.0,
    "adamax": 4.0,
    "nadam": 4.0,
    "radam": 4.0,
}
# Rules that are others with something beside them: the rule, and what a weight loses in each step.
DECAYING = {"adamw": ("adam", 1e-3 * 1e-2)}
SMALL_LEAD = 3.0
# Steps of torch's loop on one large tensor, which fetches memory from the system anew for each of
# its operations, differ so much that a turn has to be several of them.
STEPS_OF_LARGE = 4
PROGRAM = Network((784, 512, 512, 10), 256)
SWAPPED_LEAD, FUSED_LEAD = 1.0, 2.0


def _has(name: str) -> bool:
    """Return whether ``fusednn.torch.<name>`` can be imported here."""
    try:
        return importlib.util.find_spec(f"fusednn.torch.{name}") is not None
    except ImportError:  # no fusednn.torch, or no torch
        return False


def notes() -> list[str]:
    """Return what is missing here."""
    if importlib.util.find_spec("torch") is None:
        return ["suite torch is left out: torch is not installed"]
    return [
        f"{what} left out: this fusednn has no fusednn.torch.{name}"
        for name, what in (("optim", "optimizers of suite torch are"), ("nn", "FusedMLP is"))
        if not _has(name)
    ]


def _ours(rule: str, held: list[Any]) -> Any:
    """Return our optimizer of torch's name, with torch's arguments."""
    class_name, hyper, _ = arrays.TORCH[rule]
    if rule in ("sgd", "momentum"):
        hyper = {**hyper, "lr": 1e-3}
    return getattr(importlib.import_module("fusednn.torch.optim"), class_name)(held, **hyper)


def _several(candidate: Candidate, count: int) -> Candidate:
    """Return the same where a call is so many steps."""
    if count == 1:
        return candidate

    def call() -> None:
        for _ in range(count):
            candidate.call()

    return dataclasses.replace(candidate, call=call, jobs=count)


def _step(rule: str, count: int, n: int) -> Work:
    steps = STEPS_OF_LARGE if count == 1 else 1

    def own() -> Candidate:
        _, held = arrays.torch_step(rule, "loop", count, n)
        return _several(arrays.torch_candidate(_ours(rule, held), held), steps)

    def rival(way: str) -> Callable[[], Candidate]:
        return lambda: _several(
            arrays.torch_candidate(*arrays.torch_step(rule, way, count, n)), steps
        )

    others = {f"torch-{way}": rival(way) for way in arrays.TORCH[rule][2]}
    plain, decay = DECAYING.get(rule, (rule, 0.0))
    return Work(own(), others, arrays.moved(plain, count, n, decay))


def _fused_network(weights: rivals.Arrays) -> Any:
    """Return the network as one node of torch's graph, with these weights."""
    torch = importlib.import_module("torch")
    layer = importlib.import_module("fusednn.torch.nn").FusedMLP
    network = layer([weights[0].shape[0], *(b.size for b in weights[1::2])], activation="relu")
    with torch.no_grad():
        for parameter, array in zip(network.parameters(), weights, strict=True):
            parameter.copy_(torch.from_numpy(array.T.copy() if array.ndim == 2 else array))
    return network


def _program(way: str) -> Work:
    weights = reference.initial_weights(PROGRAM.widths, seed=0)
    x, y = PROGRAM.batches(8)
    size = PROGRAM.batch
    batches = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    right, _ = reference.network_trained(weights, *batches[0], step.CHECKED_STEPS)

    def adam(parameters: Any) -> Any:
        module = importlib.import_module("fusednn.torch.optim")
        return module.Adam(parameters, lr=rivals.LEARNING_RATE)

    theirs = rivals.TORCH_PROGRAMS["fused"]
    if way == "FusedMLP":
        program = rivals.TorchProgram(_fused_network, adam)
    else:
        # Both train the same tensors: where a network lies in memory makes as much of a difference
        # as its optimizer does.
        network = rivals.torch_network(weights)
        start = copy.deepcopy(network.state_dict())

        def renewed(_: rivals.Arrays) -> Any:
            network.load_state_dict(start)
            return network

        program = rivals.TorchProgram(renewed, adam)
        theirs = dataclasses.replace(theirs, network=renewed)
    own = rivals.torch_steps(weights, batches, step.CHECKED_STEPS, program)

    def torch() -> Candidate:
        return rivals.torch_steps(weights, batches, step.CHECKED_STEPS, theirs)

    return Work(own, {"torch-fused": torch}, step.moved_as(weights, right))


def _goal(rule: str, count: int) -> goals.Goal:
    if count > 1:
        return goals.ratio(SMALL_LEAD)
    fused = ["torch-fused"] if "fused" in arrays.TORCH[rule][2] else []
    return goals.ratio(RULES[rule], *fused)


def _optimizers() -> Iterator[Case]:
    for size, (count, n) in SIZES.items():
        for rule in RULES:
            plain, _ = DECAYING.get(rule, (rule, 0.0))
            yield Case(
                "torch",
                f"{rule}, {size}",
                0,
                float(reference.OPTIMIZERS[plain].bytes) * count * n,
                functools.partial(_step, rule, count, n),
                {"rule": rule, "tensors": count, "elements": n},
                goals=(_goal(rule, count),),
            )


def cases() -> Iterator[Case]:
    """Return optimizer steps, and training steps with one thing changed."""
    if not _has("optim"):
        return
    yield from _optimizers()
    leads = {"our optimizer": SWAPPED_LEAD}
    if _has("nn"):
        leads["FusedMLP"] = FUSED_LEAD
    for way, lead in leads.items():
        yield Case(
            "torch",
            f"step {PROGRAM.name}, {way}",
            PROGRAM.step_flops,
            PROGRAM.step_bytes,
            functools.partial(_program, way),
            {"widths": list(PROGRAM.widths), "batch": PROGRAM.batch, "way": way},
            goals=(goals.ratio(lead, "torch-fused"),),
        )
