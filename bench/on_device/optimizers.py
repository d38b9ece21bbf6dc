# SPDX-License-Identifier: Apache-2.0
"""Optimizer steps on parameters that lie on the device, beside PyTorch's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from fusednn.bench import goals, harness, reference
from fusednn.bench.harness import Candidate, Case, Work
from fusednn.bench.suites import optimizer as optimizers
from fusednn.bench.suites.torch import DECAYING
from on_device.place import Place

# Name -> tensors, elements of each.
SIZES = {"100M in 200 tensors": (200, 500_000), "2000 x 1000": (2000, 1000)}
# Keywords of ours for what no other does in one pass.
STOCHASTIC = {"stochastic_rounding": True, "seed": 1}
EVERYTHING = {"max_norm": 1.0, "ema": 0.999, "clear_gradients": True}
RULES = ("adamw", "adam", "sgd", "momentum", "rmsprop", "adadelta", "adamax", "nadam")


_tensors = functools.lru_cache(maxsize=1)(optimizers.tensors)  # seconds, for the largest


def _held(place: Place, count: int, n: int, dtype: torch.dtype) -> list[torch.Tensor]:
    parameters, gradients = _tensors(count, n)
    held = [torch.nn.Parameter(place.put(p).to(dtype)) for p in parameters]
    for parameter, gradient in zip(held, gradients, strict=True):
        parameter.grad = place.put(gradient).to(dtype)
    return held


def _sampled(held: list[torch.Tensor]) -> np.ndarray:
    return optimizers._sample([held[-1].detach().float().cpu().numpy()])


def _work(place: Place, rule: str, size: tuple[int, int], dtype: str, **own: Any) -> Work:
    import fusednn.torch.optim as ours

    class_name, hyper, ways = optimizers.TORCH[rule]
    if rule in ("sgd", "momentum"):
        hyper = {**hyper, "lr": 1e-3}
    kind = getattr(torch, dtype)
    formula, decay = DECAYING.get(rule, (rule, 0.0))

    def made(module: Any, **chosen: Any) -> Candidate:
        held = _held(place, *size, kind)
        optimizer = getattr(module, class_name)(held, **hyper, **chosen)

        def answer() -> np.ndarray:
            for _ in range(optimizers.CHECKED_STEPS):
                optimizer.step()
            if module is ours and (optimizer._plan is None or optimizer._plan.others):
                raise RuntimeError("PyTorch's code updated the parameters, not a kernel of ours")
            return _sampled(held)

        return Candidate(optimizer.step, answer, finish=place.wait)

    @functools.cache
    def check_of() -> Callable[[np.ndarray], str]:
        if dtype == "float32":
            return optimizers.moved(formula, *size, decay)
        # Rounded so coarsely, a step is hardly seen: it is PyTorch's result that counts.
        right = made(torch.optim, foreach=True).answer()
        return harness.close_to(right, 2.0**-6 if own else 2.0**-7)

    chosen = {"foreach": {"foreach": True}, "fused": {"fused": True}}
    return Work(
        made(ours, **own),
        {
            f"torch-{way}": functools.partial(made, torch.optim, **chosen[way])
            for way in ways
            if way in chosen
        },
        lambda answer: check_of()(answer),
    )


def cases(place: Place, rules: tuple[str, ...]) -> Iterator[Case]:
    for rule, (title, (count, n)), dtype in itertools.product(
        rules, SIZES.items(), ("float32", "bfloat16")
    ):
        several = count > 1000
        if several and dtype != "float32":
            continue
        size = (count, n) if place.real else (5, 1000)
        formula, _ = DECAYING.get(rule, (rule, 0.0))
        width = 1.0 if dtype == "float32" else 0.5
        moved = float(reference.OPTIMIZERS[formula].bytes) * width * size[0] * size[1]
        known = rule in ("adamw", "adam", "sgd", "momentum")
        lead = goals.ratio(3.0 if several or not known else (1.0 if width == 1 else 1.5))
        yield Case(
            "optimizer",
            f"{rule}, {title}" + ("" if dtype == "float32" else f", {dtype}"),
            0,
            moved,
            functools.partial(_work, place, rule, size, dtype),
            {"rule": rule, "tensors": size[0], "elements": size[1]},
            dtype=dtype,
            isa="device",
            goals=(lead,) if several else (lead, goals.stream(0.9, "copy")),
        )


def _apart(place: Place, size: tuple[int, int]) -> Candidate:
    """What `EVERYTHING` does in one pass, in PyTorch's calls."""
    held = _held(place, *size, torch.float32)
    gradients = [p.grad for p in held]
    averages = [p.detach().clone() for p in held]
    optimizer = torch.optim.AdamW(held, fused=True)

    @torch.no_grad()
    def step() -> None:
        torch.nn.utils.clip_grad_norm_(held, EVERYTHING["max_norm"], foreach=True)
        optimizer.step()
        torch._foreach_lerp_(averages, held, 1 - EVERYTHING["ema"])
        torch._foreach_zero_(gradients)

    def answer() -> np.ndarray:
        step()
        return optimizers._sample([averages[-1].cpu().numpy()])

    return Candidate(step, answer, finish=place.wait)


def _everything(place: Place, size: tuple[int, int]) -> Work:
    import fusednn.torch.optim as ours

    held = _held(place, *size, torch.float32)
    optimizer = ours.AdamW(held, **EVERYTHING)

    def answer() -> np.ndarray:
        optimizer.step()
        return optimizers._sample([optimizer.state[held[-1]]["ema"].cpu().numpy()])

    rival = functools.partial(_apart, place, size)
    return Work(
        Candidate(optimizer.step, answer, finish=place.wait),
        {"torch-separate": rival},
        harness.close_to(lambda: rival().answer(), 1e-5),
    )


def cases_of_one_pass(place: Place) -> Iterator[Case]:
    """Return what only we do in one pass: rounding at random, and everything that rides along."""
    title, whole = "100M in 200 tensors", SIZES["100M in 200 tensors"]
    size = whole if place.real else (5, 1000)
    elements = size[0] * size[1]
    params = {"rule": "adamw", "tensors": size[0], "elements": size[1]}
    yield Case(
        "optimizer",
        f"adamw, {title}, bfloat16, stochastic",
        0,
        14.0 * elements,
        functools.partial(_work, place, "adamw", size, "bfloat16", **STOCHASTIC),
        {**params, **STOCHASTIC},
        dtype="bfloat16",
        isa="device",
        goals=(goals.ratio(1.5), goals.stream(0.9, "copy")),
    )
    yield Case(
        "optimizer",
        f"adamw, {title}, clipped, averaged, cleared",
        0,
        44.0 * elements,  # the norm reads the gradients once more
        functools.partial(_everything, place, size),
        {**params, **EVERYTHING},
        isa="device",
        goals=(goals.ratio(2.5), goals.stream(0.9, "copy")),
    )
