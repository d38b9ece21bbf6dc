# SPDX-License-Identifier: Apache-2.0
"""Stochastic rounding of bfloat16 tensors, and gradients that are cleared by the step."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import fusednn.optim
from fusednn.torch import optim, swap_optimizer
from fusednn.torch.optim import additional, base, options, plan
from twins import NAMES, OWN

ml_dtypes = pytest.importorskip("ml_dtypes")

SHAPES = [(40, 30), (7,), (), (3001,)]
STOCHASTIC = {"stochastic_rounding": True, "seed": 42}


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=generator).to(torch.bfloat16) for s in SHAPES]


def trained(name, steps, **more):
    """An optimizer and its parameters after some steps."""
    held = [torch.nn.Parameter(p) for p in drawn()]
    optimizer = getattr(optim, name)(held, lr=0.01, **more)
    walk(optimizer, held, range(steps))
    return optimizer, held


def walk(optimizer, held, steps):
    for step in steps:
        for p, g in zip(held, drawn(step + 1), strict=True):
            p.grad = g
        optimizer.step()


def bits(tensors):
    return [t.detach().view(torch.int16).tolist() for t in tensors]


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_the_same_bits_as_on_arrays(name):
    """The noise follows from seed, step and places, whoever calls."""
    _, held = trained(name, 3, **STOCHASTIC)
    arrays = [p.float().numpy().astype(ml_dtypes.bfloat16) for p in drawn()]
    optimizer = getattr(fusednn.optim, name)(arrays, lr=0.01, **STOCHASTIC)
    for step in range(3):
        gradients = [g.float().numpy().astype(ml_dtypes.bfloat16) for g in drawn(step + 1)]
        optimizer.step(gradients)
    for p, array in zip(held, arrays, strict=True):
        np.testing.assert_array_equal(p.detach().view(torch.int16).numpy(), array.view(np.int16))


@pytest.mark.parametrize("name", NAMES)
def test_only_neighbours_of_torchs_own_step(name):
    """One step of torch.optim in float32, from the same numbers."""
    optimizer, held = trained(name, 1, **STOCHASTIC)
    wide = [torch.nn.Parameter(p.float()) for p in drawn()]
    theirs = getattr(torch.optim, name)(wide, lr=0.01)
    for p, g in zip(wide, drawn(1), strict=True):
        p.grad = g.float()
    theirs.step()
    moved = 0
    for p, w in zip(held, wide, strict=True):
        exact = w.detach().double()
        found = p.detach().double()
        # Torch's float32 may differ from ours in the last place, next to a number of bfloat16.
        low = (w.detach().view(torch.int32) & -65536).view(torch.float32).double()
        high = ((w.detach().view(torch.int32) & -65536) + 65536).view(torch.float32).double()
        near = 1e-6 * exact.abs()
        within = (found - exact).abs() <= (high - low).abs() + near
        side = ((found - low).abs() <= near) | ((found - high).abs() <= near)
        assert (within & side).all()
        moved += int((found != exact.to(torch.bfloat16).double()).sum())
    assert moved > 100  # where rounding to nearest would have gone the other way
    assert optimizer.param_groups[0]["stochastic_rounding"] is True


@pytest.mark.parametrize(
    ("name", "options"),
    [("SGD", {}), ("SGD", {"momentum": 0.9, "dampening": 0.5}), ("AdamW", {}), ("Lion", {})],
)
def test_a_saved_state_goes_on_with_the_same_bits(name, options):
    optimizer, held = trained(name, 2, **STOCHASTIC, **options)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    copies = [torch.nn.Parameter(p.detach().clone()) for p in held]
    walk(optimizer, held, range(2, 4))
    file.seek(0)
    resumed = getattr(optim, name)(copies, lr=0.5)
    resumed.load_state_dict(torch.load(file))
    walk(resumed, copies, range(2, 4))
    assert bits(held) == bits(copies)
    # Built anew in mid-training, as after a change of the groups.
    _, whole = trained(name, 4, **STOCHASTIC, **options)
    assert bits(whole) == bits(held)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "LAMB"])
def test_counts_on_the_device_give_the_same_bits(name, monkeypatch):
    """There the number of the step is read where it lies: see test_optim_live."""
    _, right = trained(name, 3, **STOCHASTIC)
    for module in (options, plan, base, additional):
        monkeypatch.setattr(module, "is_live", lambda group, p, counted: True)
    _, live = trained(name, 3, **STOCHASTIC)
    assert bits(live) == bits(right)


def test_a_parameter_keeps_its_noise_beside_others():
    """By its place among all parameters, also where a group of another dtype stands before it."""
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(500, generator=generator).to(torch.bfloat16)
    results = []
    for seed, first in [(1, torch.float32), (1, torch.bfloat16), (2, torch.float32)]:
        other = torch.nn.Parameter(torch.zeros(9, dtype=first))
        p = torch.nn.Parameter(start.clone())
        stochastic = first == torch.bfloat16
        optimizer = optim.SGD(
            [{"params": [other], "stochastic_rounding": stochastic}, {"params": [p]}],
            lr=1e-3, stochastic_rounding=True, seed=seed,
        )  # fmt: skip
        p.grad, other.grad = torch.ones_like(p), torch.ones_like(other)
        optimizer.step()
        results.append(bits([p]))
    assert results[0] == results[1] != results[2]


def test_what_makes_no_sense_is_refused():
    wide = torch.nn.Parameter(torch.zeros(3))
    narrow = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    half = torch.nn.Parameter(torch.zeros(3, dtype=torch.float16))
    for p in (wide, half):
        with pytest.raises(ValueError, match=r"for bfloat16 parameters, number 1 of the group is"):
            optim.Adam([narrow, p], stochastic_rounding=True)
    with pytest.raises(ValueError, match="a float32 copy loses nothing"):
        optim.Adam([narrow], stochastic_rounding=True, master_weights=True)
    with pytest.raises(TypeError, match="stochastic_rounding='yes' must be True or False"):
        optim.Adam([narrow], stochastic_rounding="yes")
    with pytest.raises(TypeError, match="clear_gradients=1 must be True or False"):
        optim.Adam([narrow], clear_gradients=1)
    with pytest.raises(TypeError, match="seed must be an integer"):
        optim.Adam([narrow], seed=None)
    optimizer = optim.Adam([narrow], stochastic_rounding=True)
    with pytest.raises(ValueError, match="for bfloat16 parameters"):
        optimizer.add_param_group({"params": [wide]})
    assert len(optimizer.param_groups) == 1
    theirs = torch.optim.Adam([wide])
    with pytest.raises(ValueError, match="for bfloat16 parameters"):
        swap_optimizer(theirs, stochastic_rounding=True)
    assert type(theirs) is torch.optim.Adam


def test_what_is_left_to_pytorch_is_refused():
    p = torch.nn.Parameter(torch.zeros(8, dtype=torch.bfloat16)[::2])
    optimizer = optim.Adam([p], stochastic_rounding=True)
    p.grad = torch.ones_like(p)
    with (
        pytest.warns(UserWarning, match="has gaps in memory"),
        pytest.raises(RuntimeError, match="rounds to nearest"),
    ):
        optimizer.step()


def test_a_running_optimizer_is_swapped():
    held = [torch.nn.Parameter(p) for p in drawn()]
    theirs = torch.optim.SGD(held, lr=1e-4, momentum=0.9)
    walk(theirs, held, range(2))
    ours = swap_optimizer(theirs, stochastic_rounding=True, seed=5)
    before = bits(held)
    walk(ours, held, range(2, 4))
    assert bits(held) != before
    assert float(ours.state[held[0]]["step"]) == 3  # the steps before are one that is known of


# ---- gradients cleared in the same pass ----------------------------------------------------------


def pair(dtype=torch.float32, **more):
    """Twice the same optimizer, of which the first clears gradients."""
    made = []
    for clears in (True, False):
        held = [torch.nn.Parameter(p.to(dtype)) for p in drawn()]
        optimizer = optim.Adam(held, lr=0.01, clear_gradients=clears, **more)
        made.append((optimizer, held))
    return made


@pytest.mark.parametrize("more", [{}, {"max_norm": 1.0, "ema": 0.9}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_cleared_by_the_step(dtype, more):
    (ours, cleared), (right, kept) = pair(dtype, **more)
    for step in range(3):
        for p, q, g in zip(cleared, kept, drawn(step + 1), strict=True):
            if p.grad is None:
                p.grad = torch.zeros_like(p)
            p.grad.add_(g.to(dtype))  # as a backward pass does that finds gradients
            q.grad = g.to(dtype)
        versions = [p.grad._version for p in cleared]
        ours.step()
        right.step()
        for p, q, version in zip(cleared, kept, versions, strict=True):
            assert torch.equal(p, q)
            assert not p.grad.any()
            assert q.grad.any()
            assert p.grad._version > version


def test_copies_and_what_is_left_to_pytorch_are_cleared_as_well():
    p = torch.nn.Parameter(torch.ones(3, 4))
    gaps = torch.nn.Parameter(torch.ones(8)[::2])
    optimizer = optim.SGD([p, gaps], lr=1.0, clear_gradients=True)
    p.grad = torch.full((4, 3), 2.0).t()
    gaps.grad = torch.ones(4)
    with pytest.warns(UserWarning, match="has gaps in memory"):
        optimizer.step()
    assert torch.equal(p, torch.full((3, 4), -1.0))
    assert torch.equal(gaps, torch.zeros(4))
    assert not p.grad.any()
    assert not gaps.grad.any()


def test_a_step_that_is_left_out_clears_them_too(monkeypatch):
    """Else an infinity would stay in what later gradients are added to."""
    for live in (False, True):
        if live:
            for module in (options, plan, base, additional):
                monkeypatch.setattr(module, "is_live", lambda group, p, counted: True)
        (ours, held), _ = pair()
        before = copy.deepcopy([p.detach() for p in held])
        for p in held:
            p.grad = torch.full_like(p, float("inf"))
        ours.found_inf, ours.grad_scale = torch.ones(()), torch.full((), 8.0)
        ours.step()
        assert all(torch.equal(p, b) for p, b in zip(held, before, strict=True))
        assert not any(p.grad.any() for p in held)


def test_gradients_that_share_memory_cannot_be_cleared():
    shared = torch.ones(5)
    held = [torch.nn.Parameter(torch.ones(5)) for _ in range(2)]
    optimizer = optim.SGD(held, lr=1.0, clear_gradients=True)
    for p in held:
        p.grad = shared
    with pytest.raises(ValueError, match="two of them share memory"):
        optimizer.step()
    assert all(torch.equal(p, torch.ones(5)) for p in held)
