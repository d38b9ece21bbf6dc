# SPDX-License-Identifier: Apache-2.0
"""PyTorch's own list of optimizers and inputs, run on both sides for a hundred steps."""

from __future__ import annotations

import copy
import functools
import inspect
import warnings

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim
from twins import (
    NAMES,
    OWN,
    assert_same,
    assert_same_state,
    give_gradients,
    loss_of,
    network,
    odd_tensors,
    peaks,
    torch_twin,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_optimizers import optim_db

DTYPES = (torch.float32, torch.float64)


def inputs():
    for info in optim_db:
        name = info.optim_cls.__name__
        if name in NAMES:
            for each in info.optim_inputs_func("cpu"):
                yield pytest.param(name, each.kwargs, id=f"{name}-{each.desc}")
    for name in OWN:
        for kwargs in ({}, {"lr": 0.01}, {"weight_decay": 0.1}, {"betas": (0.8, 0.9)}):
            for maximize in (False, True):
                yield pytest.param(name, {**kwargs, "maximize": maximize})


def test_all_of_them_are_there():
    known = {info.optim_cls.__name__ for info in optim_db}
    assert set(NAMES) <= known
    assert set(NAMES) | set(OWN) | {"FusedOptimizer", "swap_optimizer"} == set(optim.__all__)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "kwargs"), list(inputs()))
def test_equals_pytorch_on_a_network(name, kwargs, dtype):
    a, b = network(dtype), network(dtype)
    ours = getattr(optim, name)(a.parameters(), **copy.deepcopy(kwargs))
    theirs = torch_twin(name, b.parameters(), **copy.deepcopy(kwargs))
    scales = peaks(b.parameters())
    for step in range(100):
        theirs.zero_grad()
        loss_of(b, step).backward()
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            p.grad = q.grad.clone()  # else float32 would tell how chaotic training is
        ours.step()
        theirs.step()
        scales = peaks(b.parameters(), scales)
    assert_same(a.parameters(), b.parameters(), scales=scales)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "kwargs"), list(inputs()))
def test_equals_pytorch_on_odd_tensors(name, kwargs, dtype):
    a, b = odd_tensors(dtype), odd_tensors(dtype)
    ours = getattr(optim, name)(a, **copy.deepcopy(kwargs))
    theirs = torch_twin(name, b, **copy.deepcopy(kwargs))
    scales = peaks(b)
    for step in range(100):
        give_gradients(step, a, b)
        ours.step()
        theirs.step()
        scales = peaks(b, scales)
    assert_same(a, b, scales=scales)
    assert_same_state(ours, theirs)


@pytest.mark.parametrize(("name", "kwargs"), list(inputs()))
def test_state_changes_houses_at_step_50(name, kwargs):
    """One that PyTorch began and we finish, one the other way round, and PyTorch's throughout."""

    def begin(fused):
        tensors = odd_tensors(torch.float64)
        make = getattr(optim, name) if fused else functools.partial(torch_twin, name)
        return tensors, make(tensors, **copy.deepcopy(kwargs))

    def steps(tensors, optimizer, numbers):
        scales = peaks(tensors)
        for step in numbers:
            give_gradients(step, tensors)
            optimizer.step()
            scales = peaks(tensors, scales)
        return scales

    expected, throughout = begin(fused=False)
    scales = steps(expected, throughout, range(100))
    for fused_first in (True, False):
        first, before = begin(fused_first)
        steps(first, before, range(50))
        second, after = begin(not fused_first)
        with torch.no_grad():
            for p, q in zip(second, first, strict=True):
                p.copy_(q)
        after.load_state_dict(before.state_dict())
        steps(second, after, range(50, 100))
        assert_same(second, expected, scales=scales)
        if not fused_first:  # what PyTorch loads it casts, NAdam's mu_product included
            assert_same_state(after, throughout)


@pytest.mark.parametrize("name", NAMES)
def test_training_ends_where_pytorch_ends(name):
    a, b = network(torch.float64), network(torch.float64)
    ours, theirs = getattr(optim, name)(a.parameters()), torch_twin(name, b.parameters())
    for step in range(100):
        for model, optimizer in ((a, ours), (b, theirs)):
            optimizer.zero_grad()
            loss_of(model, step).backward()
            optimizer.step()
    assert_same(a.parameters(), b.parameters(), 1e-10)


EXTRAS = {
    "master_weights": False,
    "max_norm": None,
    "ema": None,
    "clear_gradients": False,
    "stochastic_rounding": False,
    "seed": 0,
}


@pytest.mark.parametrize("name", NAMES)
def test_constructor_is_pytorchs_with_our_keywords_more(name):
    theirs = inspect.signature(getattr(torch.optim, name)).parameters
    ours = inspect.signature(getattr(optim, name)).parameters
    assert list(ours) == [*theirs, *EXTRAS]
    for key, parameter in theirs.items():
        assert (ours[key].default, ours[key].kind) == (parameter.default, parameter.kind)
    for key, default in EXTRAS.items():
        assert ours[key].default == default
        assert ours[key].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_names_from_other_houses_are_answered_with_the_right_one(name):
    with pytest.raises(TypeError, match=rf"{name}\(\) has no argument 'learning_rate'; use lr"):
        getattr(optim, name)(odd_tensors(), learning_rate=0.1)
    with pytest.raises(TypeError, match="missing a required argument: 'params'"):
        getattr(optim, name)(lr=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_subclass_of_its_namesake(name):
    optimizer = getattr(optim, name)(network().parameters())
    assert isinstance(optimizer, getattr(torch.optim, name))
    assert isinstance(optimizer, torch.optim.Optimizer)
    theirs = getattr(torch.optim, name)(network().parameters())
    assert optimizer.defaults == {**theirs.defaults, **EXTRAS}


def flags():
    for name in NAMES:
        known = inspect.signature(getattr(torch.optim, name)).parameters
        for flag in ({"foreach": True}, {"foreach": False}, {"fused": True}):
            if known.keys() >= flag.keys():
                yield name, flag


@pytest.mark.parametrize(("name", "flag"), list(flags()))
def test_flags_of_implementation_change_nothing(name, flag):
    a, b = odd_tensors(), odd_tensors()
    plain, flagged = getattr(optim, name)(a), getattr(optim, name)(b, **flag)
    for step in range(3):
        give_gradients(step, a, b)
        plain.step()
        flagged.step()
    assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_groups_have_their_own_options(name):
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)

    def groups(params):
        decay = 0.5 if name == "AdamW" else 0.25
        return [{"params": params[:3], "lr": 0.5}, {"params": params[3:], "weight_decay": decay}]

    ours, theirs = getattr(optim, name)(groups(a), lr=0.01), torch_twin(name, groups(b), lr=0.01)
    scales = peaks(b)
    for step in range(10):
        give_gradients(step, a, b)
        ours.step()
        theirs.step()
    assert_same(a, b, scales=peaks(b, scales))


def test_rules_of_one_optimizer_may_differ_by_group():
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)

    def groups(params):
        return [
            {"params": params[:2], "momentum": 0.9, "nesterov": True},
            {"params": params[2:5]},
            {"params": params[5:], "momentum": 0.5, "dampening": 0.1},
        ]

    ours, theirs = optim.SGD(groups(a), lr=0.1), torch_twin("SGD", groups(b), lr=0.1)
    for step in range(5):
        give_gradients(step, a, b)
        ours.step()
        theirs.step()
    assert_same(a, b)
    assert_same_state(ours, theirs)
    assert len(ours._plan.buckets) == 2


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_complex_parameters(name, dtype):
    def tensors():
        generator = torch.Generator().manual_seed(5)
        shapes = ((3,), (4, 5), ())
        return [
            torch.nn.Parameter(torch.randn(s, generator=generator, dtype=dtype)) for s in shapes
        ]

    a, b = tensors(), tensors()
    ours, theirs = getattr(optim, name)(a, lr=0.01), torch_twin(name, b, lr=0.01)
    for step in range(20):
        generator = torch.Generator().manual_seed(step)
        for p, q in zip(a, b, strict=True):
            p.grad = torch.randn(p.shape, generator=generator, dtype=dtype)
            q.grad = p.grad.conj().resolve_conj()
            p.grad = p.grad.conj()  # computed late: its memory holds something else
        ours.step()
        theirs.step()
    assert_same(a, b, 1e-5 if dtype == torch.complex64 else 1e-12)
