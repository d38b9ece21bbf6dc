# SPDX-License-Identifier: Apache-2.0
"""State moves between PyTorch's optimizers and ours, in both directions and in mid-training."""

from __future__ import annotations

import copy
import io
import pickle

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
    network,
    odd_tensors,
    pair,
    torch_twin,
    train,
)

OPTIONS = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "Adam": {"amsgrad": True, "weight_decay": 0.01},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Adagrad": {"lr_decay": 0.01, "initial_accumulator_value": 0.1},
}


def stored(state_dict):
    """As from a file."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_ours_continues_what_pytorch_began(name):
    options = OPTIONS.get(name, {})
    a, ours, b, theirs = pair(name, torch.float64, **options)
    train(b, theirs, 50)
    a.load_state_dict(b.state_dict())
    ours.load_state_dict(stored(theirs.state_dict()))
    train(a, ours, 50, first=50)
    train(b, theirs, 50, first=50)
    assert_same(a.parameters(), b.parameters(), 1e-11)
    assert_same_state(ours, theirs, 1e-9)


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_pytorch_continues_what_ours_began(name):
    options = OPTIONS.get(name, {})
    a, ours, b, theirs = pair(name, torch.float64, **options)
    train(a, ours, 50)
    b.load_state_dict(a.state_dict())
    theirs.load_state_dict(stored(ours.state_dict()))
    assert {"master_weights", "max_norm", "ema"} < theirs.param_groups[0].keys()
    train(a, ours, 50, first=50)
    train(b, theirs, 50, first=50)
    assert_same(a.parameters(), b.parameters(), 1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_state_has_pytorchs_keys_and_places(name):
    a, ours, b, theirs = pair(name, **OPTIONS.get(name, {}))
    train(a, ours, 1)
    train(b, theirs, 1)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert list(ours.state[p]) == list(theirs.state[q])
        for key, value in theirs.state[q].items():
            mine = ours.state[p][key]
            assert (mine.dtype, mine.device, mine.shape) == (value.dtype, value.device, value.shape)
            assert mine.stride() == value.stride()


def test_sgd_without_momentum_keeps_nothing():
    a, ours, _, _ = pair("SGD")
    train(a, ours, 2)
    assert len(ours.state) == 0


@pytest.mark.parametrize("name", NAMES)
def test_files_without_our_options_leave_them_as_they_were(name):
    a, b = network(), network()
    theirs = torch_twin(name, b.parameters())
    train(b, theirs, 2)
    ours = getattr(optim, name)(a.parameters(), max_norm=0.5, ema=0.9)
    ours.load_state_dict(stored(theirs.state_dict()))
    assert ours.param_groups[0]["max_norm"] == 0.5
    assert ours.param_groups[0]["ema"] == 0.9
    train(a, ours, 2)


@pytest.mark.parametrize("name", NAMES)
def test_old_files_with_missing_keys_and_plain_numbers(name):
    a, ours, b, theirs = pair(name, torch.float64)
    train(b, theirs, 3)
    a.load_state_dict(b.state_dict())
    old = stored(theirs.state_dict())
    for entries in old["state"].values():
        for key in ("step", "mu_product"):
            if key in entries:
                entries[key] = entries[key].item()
    for group in old["param_groups"]:
        for key in ("maximize", "foreach", "capturable", "differentiable", "fused", "nesterov"):
            group.pop(key, None)
    ours.load_state_dict(old)
    train(a, ours, 3, first=3)
    train(b, theirs, 3, first=3)
    assert_same(a.parameters(), b.parameters(), 1e-11)


@pytest.mark.parametrize("name", [*NAMES, *OWN])
@pytest.mark.parametrize("copy_of", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_and_pickles_go_on_alike(name, copy_of):
    model = network()
    optimizer = getattr(optim, name)(model.parameters(), max_norm=1.0, ema=0.9)
    train(model, optimizer, 3)
    other_model, other = copy_of((model, optimizer))
    assert other_model is not model
    assert type(other) is type(optimizer)
    train(model, optimizer, 3, first=3)
    train(other_model, other, 3, first=3)
    for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
        assert torch.equal(p, q)
    assert repr(other) == repr(optimizer)


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_groups_can_be_added(name):
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)
    ours, theirs = getattr(optim, name)(a[:4], lr=0.01), torch_twin(name, b[:4], lr=0.01)
    for step in range(6):
        if step == 3:
            ours.add_param_group({"params": a[4:], "lr": 0.1})
            theirs.add_param_group({"params": b[4:], "lr": 0.1})
        give_gradients(step, a[:4], b[:4]) if step < 3 else give_gradients(step, a, b)
        ours.step()
        theirs.step()
    assert_same(a, b)
    assert_same_state(ours, theirs)


def test_names_of_parameters():
    model = network()
    optimizer = optim.Adam(model.named_parameters())
    train(model, optimizer, 2)
    names = [name for name, _ in model.named_parameters()]
    assert optimizer.param_groups[0]["param_names"] == names
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == names
    with pytest.raises(ValueError, match="with/without names"):
        optimizer.add_param_group({"params": odd_tensors()})


@pytest.mark.parametrize("name", ["Adam", "SGD"])
def test_a_replaced_state_is_noticed(name):
    options = {"momentum": 0.9} if name == "SGD" else {}
    key = "momentum_buffer" if name == "SGD" else "exp_avg"
    a, ours, b, theirs = pair(name, torch.float64, **options)
    train(a, ours, 2)
    train(b, theirs, 2)

    def replace_tensor(optimizer, p):
        optimizer.state[p][key] = optimizer.state[p][key] * 2

    def replace_memory(optimizer, p):
        optimizer.state[p][key].data = optimizer.state[p][key].data * 3

    def replace_entries(optimizer, p):
        optimizer.state[p] = copy.deepcopy(optimizer.state[p])
        optimizer.state[p][key].add_(1)

    def forget(optimizer, p):
        del optimizer.state[p]

    for i, change in enumerate((replace_tensor, replace_memory, replace_entries, forget)):
        for model, optimizer in ((a, ours), (b, theirs)):
            change(optimizer, next(iter(model.parameters())))
            train(model, optimizer, 1, first=2 + i)
    assert_same(a.parameters(), b.parameters(), 1e-11)


def test_replaced_parameters_are_noticed():
    a, ours, b, theirs = pair("Adam", torch.float64)
    for step in range(4):
        for model, optimizer in ((a, ours), (b, theirs)):
            for p in model.parameters():
                p.data = p.data * 1.5
            if step == 2:
                model[0].weight.data = model[0].weight.data.t().contiguous().t()
            train(model, optimizer, 1, first=step)
    assert_same(a.parameters(), b.parameters(), 1e-11)


def test_an_option_that_needs_state_it_has_not():
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 1)
    optimizer.param_groups[0]["amsgrad"] = True
    with pytest.raises(KeyError, match="max_exp_avg_sq"):
        train(model, optimizer, 1)


def test_state_of_another_dtype_device_and_layout_is_put_right():
    p = torch.nn.Parameter(torch.randn(4, 5).t())
    q = torch.nn.Parameter(p.detach().clone())
    ours, theirs = optim.Adam([p]), torch.optim.Adam([q], foreach=False)
    state = {"step": torch.tensor(3.0, dtype=torch.float64)}
    state |= {key: torch.rand(5, 4) for key in ("exp_avg", "exp_avg_sq")}
    for optimizer in (ours, theirs):
        saved = optimizer.state_dict()
        optimizer.load_state_dict({**saved, "state": {0: copy.deepcopy(state)}})
    give_gradients(0, [p], [q])
    ours.step()
    theirs.step()
    assert_same([p], [q])
    assert ours.state[p]["step"].dtype == torch.float32
    assert ours.state[p]["exp_avg"].stride() == p.stride()


def test_adagrads_sums_can_be_shared():
    model = network()
    optimizer = optim.Adagrad(model.parameters())
    train(model, optimizer, 1)
    optimizer.share_memory()
    train(model, optimizer, 1)
    assert all(s["sum"].is_shared() and s["step"] == 2 for s in optimizer.state.values())
