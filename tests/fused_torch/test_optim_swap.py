# SPDX-License-Identifier: Apache-2.0
"""A running optimizer of PyTorch becomes a fused one; 16-bit parameters; what importing needs."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim, swap_optimizer
from twins import (
    NAMES,
    assert_same,
    give_gradients,
    loss_of,
    network,
    odd_tensors,
    torch_twin,
    train,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_swapped_optimizer_goes_on(name):
    a, b = network(torch.float64), network(torch.float64)
    first, theirs = torch_twin(name, a.parameters()), torch_twin(name, b.parameters())
    calls = []
    first.register_step_post_hook(lambda *_: calls.append(1))
    train(a, first, 10)
    ours = swap_optimizer(first, ema=0.9)
    assert ours is first
    assert type(ours) is getattr(optim, name)
    assert swap_optimizer(ours) is ours
    train(a, ours, 10, first=10)
    train(b, theirs, 20)
    assert len(calls) == 20
    assert ours._plan is not None
    assert_same(a.parameters(), b.parameters(), 1e-11)
    assert all("ema" in entries for entries in ours.state.values())


def test_schedulers_and_scalers_hold_the_swapped_one():
    a, b = network(torch.float64), network(torch.float64)
    results = []
    for model, swap in ((a, True), (b, False)):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, foreach=False)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        if swap:
            swap_optimizer(optimizer)
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            scaler.step(optimizer)
            scaler.update()
            schedule.step()
        assert optimizer.param_groups[0]["lr"] == 0.1 / 16
        results.append(optimizer)
    assert results[0]._plan is not None
    assert_same(a.parameters(), b.parameters(), 1e-11)


def test_schedulers_still_warn_when_they_come_first():
    optimizer = torch.optim.Adam(network().parameters())
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    swap_optimizer(optimizer)
    with pytest.warns(UserWarning, match="before `optimizer.step"):
        schedule.step()


def test_optimizers_without_a_twin_are_refused_by_name():
    class Mine(torch.optim.Adam):
        pass

    for cls in (torch.optim.LBFGS, torch.optim.Rprop, torch.optim.ASGD, Mine):
        with pytest.raises(TypeError, match=f"{cls.__name__} has no fused twin"):
            swap_optimizer(cls(network().parameters()))


def test_what_a_swap_refuses():
    optimizer = torch.optim.Adam(network().parameters(), differentiable=True)
    with pytest.raises(RuntimeError, match="differentiable=True"):
        swap_optimizer(optimizer)
    optimizer = torch.optim.Adam(network().parameters())
    optimizer.step = lambda closure=None: None
    with pytest.raises(RuntimeError, match="step was replaced on the instance"):
        swap_optimizer(optimizer)
    assert type(optimizer) is torch.optim.Adam


# ---- 16 bits -------------------------------------------------------------------------------------

NARROW = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_narrow_parameters_are_computed_in_float32_and_rounded(name, dtype):
    eps = {"eps": 1e-3} if name not in ("SGD",) else {}
    a = [p for p in odd_tensors(dtype) if p.numel()]
    b = [torch.nn.Parameter(p.detach().float()) for p in a]
    ours = getattr(optim, name)(a, lr=0.01, **eps)
    theirs = torch_twin(name, b, lr=0.01, **eps)
    for step in range(10):
        give_gradients(step, a)
        for p, q in zip(a, b, strict=True):
            q.grad = p.grad.float()
            q.data = p.detach().float()
        for entries, wide in zip(ours.state.values(), theirs.state.values(), strict=True):
            for key, value in entries.items():
                wide[key].copy_(value)
        ours.step()
        theirs.step()
        for p, q in zip(a, b, strict=True):
            assert torch.equal(p, q.to(dtype)) or torch.allclose(
                p.float(), q, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).tiny
            )


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_master_weights_move_where_narrow_ones_cannot(dtype):
    p = torch.nn.Parameter(torch.full((40,), 100.0, dtype=dtype))
    optimizer = optim.SGD([p], lr=1e-3, master_weights=True)
    for _ in range(1000):
        p.grad = torch.ones_like(p)
        optimizer.step()
    master = optimizer.state[p]["master"]
    assert master.dtype == torch.float32
    assert torch.allclose(master, torch.tensor(99.0), atol=1e-3)
    assert torch.equal(p, master.to(dtype))

    saved = optimizer.state_dict()
    other = optim.SGD([torch.nn.Parameter(p.detach().clone())], master_weights=True)
    other.load_state_dict(saved)
    (entries,) = other.state.values()
    assert torch.equal(entries["master"], master)

    with torch.no_grad():
        p.fill_(5.0)  # from outside: the master follows
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert torch.equal(p, torch.full_like(p, 5.0))


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_averages_of_narrow_parameters_are_float32(dtype):
    p = torch.nn.Parameter(torch.ones(40, dtype=dtype))
    optimizer = optim.SGD([p], lr=1e-2, ema=0.999)
    expected = torch.ones(40)
    for step in range(50):
        give_gradients(step, [p])
        optimizer.step()
        expected.lerp_(p.detach().float(), 1 - 0.999)
    average = optimizer.state[p]["ema"]
    assert average.dtype == torch.float32
    # They take the parameter before it is rounded, so they know a little more than `expected`.
    assert_same([average], [expected], torch.finfo(dtype).eps / 100)
    before = p.detach().clone()
    with optimizer.averaged_parameters():
        assert torch.equal(p, average.to(dtype))
    assert torch.equal(p, before)


# ---- importing -----------------------------------------------------------------------------------


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )


def test_without_pytorch_the_error_says_what_to_do():
    result = run("import sys; sys.modules['torch'] = None; import fusednn.torch")
    assert "fusednn.torch needs PyTorch" in result.stderr
    assert "pip install 'fusednn[torch]'" in result.stderr


def test_too_old_a_pytorch_is_named():
    code = (
        "import sys, types; t = types.ModuleType('torch'); t.Tensor = object; t.__version__ = '1.9'"
        "; sys.modules['torch'] = t; import fusednn.torch"
    )
    assert "needs PyTorch 2.10 or newer, found 1.9" in run(code).stderr


def test_names_of_the_package():
    import fusednn.torch

    assert {"optim", "swap_optimizer"} <= set(dir(fusednn.torch))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fusednn.torch.nonsense  # noqa: B018
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fusednn.torch.optim is optim


def test_import_fusednn_alone_gives_torch_when_asked():
    code = "import fusednn, sys; assert 'torch' not in sys.modules; fusednn.torch.optim.SGD"
    result = run(code)
    assert result.returncode == 0, result.stderr
