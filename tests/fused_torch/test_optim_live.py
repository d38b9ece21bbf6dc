# SPDX-License-Identifier: Apache-2.0
"""Steps whose count, learning rate, loss scale and found_inf stay on the device, without a device.

PyTorch has CUDA tensors only where there is a GPU, so tensors of the processor pass for live ones.
"""

from __future__ import annotations

import contextlib
import copy
import math

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim
from fusednn.torch.optim import additional, base, bucket, options, plan
from twins import NAMES, OWN, assert_same, give_gradients, odd_tensors, torch_twin

STEPS = 20
SCALE = 8.0
OPTIONS = {
    "SGD": {"momentum": 0.9, "dampening": 0.1},
    "Adam": {"amsgrad": True},
    "RMSprop": {"momentum": 0.5, "centered": True},
}


@pytest.fixture(autouse=True)
def live(monkeypatch):
    for module in (options, plan, base, additional):
        monkeypatch.setattr(module, "is_live", lambda group, p, counted: True)


@contextlib.contextmanager
def no_waiting():
    """Nothing may become a number of the host: on a device it would have to be waited for."""

    def refuse(_):
        raise AssertionError("a step waits for the device")

    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "__float__", "__int__", "__bool__"):
            patch.setattr(torch.Tensor, name, refuse)
        yield


def rate(step):
    return 0.01 * (1 + 0.5 * math.cos(step))


def overflows(step):
    return step in (3, 11)


def trained(name, dtype=torch.float32, wide_rate=False, steps=STEPS, **more):
    """Ours after some steps, and PyTorch's that got the same numbers from the host."""
    ours, theirs = odd_tensors(dtype), odd_tensors(dtype)
    lr = torch.tensor(rate(0), dtype=torch.float64 if wide_rate else torch.float32)
    own = getattr(optim, name)(ours, lr=0.1, **OPTIONS.get(name, {}), **more)
    twin = torch_twin(name, theirs, lr=0.1, **OPTIONS.get(name, {}))
    own.param_groups[0]["lr"] = lr
    own.found_inf, own.grad_scale = torch.zeros(()), torch.full((), SCALE)
    for step in range(steps):
        give_gradients(step, theirs)
        for p, q in zip(ours, theirs, strict=True):
            p.grad = q.grad * SCALE
        lr.fill_(rate(step))
        own.found_inf.fill_(float(overflows(step)))
        with no_waiting():
            own.step()
        if not overflows(step):
            twin.param_groups[0]["lr"] = lr.item()
            twin.step()
    return own, twin, ours, theirs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_a_schedule_with_overflows(name, dtype):
    own, twin, ours, theirs = trained(name, dtype, wide_rate=dtype == torch.float64)
    assert own._plan.live
    assert_same(ours, theirs, rtol=None if dtype == torch.float32 else 1e-9)
    for p, q in zip(ours, theirs, strict=True):
        assert set(own.state[p]) == set(twin.state[q])
        if "step" in twin.state[q]:
            assert own.state[p]["step"].item() == STEPS - 2 == twin.state[q]["step"].item()


@pytest.mark.parametrize("name", ["SGD", "NAdam"])
def test_in_a_graph_an_updater_of_its_own_takes_the_step(name, monkeypatch):
    _, _, ours, _ = trained(name)
    monkeypatch.setattr(bucket, "_capturing", lambda: True)
    made = []

    def counting(held, make=bucket.Bucket._new_updater):
        made.append(make(held))
        return made[-1]

    monkeypatch.setattr(bucket.Bucket, "_new_updater", counting)
    _, _, captured, expected = trained(name)
    assert len(made) == 1 + STEPS
    assert_same(captured, expected)
    for p, q in zip(ours, captured, strict=True):
        assert torch.equal(p, q)


def test_the_norm_stays_there():
    own, _, ours, _ = trained("Adam", max_norm=1.0, steps=3)
    give_gradients(7, ours)
    own.grad_scale.fill_(2.0)
    with no_waiting():
        own.step()
    squares = sum((p.grad.double() ** 2).sum() for p in ours)
    assert own.gradient_norm.dtype == torch.float64
    assert own.gradient_norm.item() == pytest.approx(math.sqrt(squares) / 2, rel=1e-6)


def test_a_norm_over_several_dtypes_is_refused():
    held = [torch.nn.Parameter(torch.ones(3, dtype=d)) for d in (torch.float32, torch.float64)]
    optimizer = optim.Adam(held, max_norm=1.0)
    give_gradients(0, held)
    with pytest.raises(RuntimeError, match=r"max_norm: .* one dtype"):
        optimizer.step()
    assert all(torch.equal(p, torch.ones_like(p)) for p in held)


def test_what_is_left_to_pytorch_still_sees_the_scaler():
    """A sparse gradient needs the numbers on the host, and so does the rest of that step."""
    dense, sparse = (torch.nn.Parameter(torch.ones(4)) for _ in range(2))
    optimizer = optim.SGD([dense, sparse], lr=0.5)
    optimizer.found_inf, optimizer.grad_scale = torch.ones(()), torch.full((), 4.0)
    for moved in (False, True):
        dense.grad, sparse.grad = torch.full((4,), 4.0), torch.full((4,), 4.0).to_sparse()
        with pytest.warns(UserWarning, match="sparse") if not moved else contextlib.nullcontext():
            optimizer.step()
        assert dense.tolist() == sparse.tolist() == [0.5 if moved else 1.0] * 4
        optimizer.found_inf.zero_()


def test_state_moves_both_ways():
    own, twin, ours, theirs = trained("AdamW", steps=6)
    again = odd_tensors()
    back = torch.optim.AdamW(again, lr=0.1)
    back.load_state_dict(copy.deepcopy(own.state_dict()))
    for p, q in zip(ours, again, strict=True):
        assert back.state[q]["step"].item() == own.state[p]["step"].item()
    own.load_state_dict(copy.deepcopy(twin.state_dict()))
    own.param_groups[0]["lr"] = torch.tensor(0.1)
    for p, q in zip(ours, theirs, strict=True):
        p.data.copy_(q)
    own.found_inf = own.grad_scale = None
    give_gradients(9, ours, theirs)
    twin.param_groups[0]["lr"] = 0.1
    own.step()
    twin.step()
    assert_same(ours, theirs)
