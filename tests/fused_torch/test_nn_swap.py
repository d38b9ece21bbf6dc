# SPDX-License-Identifier: Apache-2.0
"""swap_modules changes how a model runs, and nothing that can be seen of it."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from fusednn.torch.nn import FusedLinear, FusedSequential, rules, swap_modules

ACTIVATIONS = [
    nn.ELU(0.7),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.Hardsigmoid(),
    nn.Hardswish(),
    nn.LeakyReLU(0.2),
    nn.LogSigmoid(),
    nn.Mish(),
    nn.ReLU(inplace=True),
    nn.ReLU6(),
    nn.SELU(),
    nn.SiLU(),
    nn.Sigmoid(),
    nn.Softplus(),
    nn.Softsign(),
    nn.Tanh(),
]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def run(net, x):
    net.zero_grad()
    y = net(x)
    y.square().sum().backward()
    return [y, *(p.grad for p in net.parameters())]


def swaps(net, x):
    """Swap and compare with what the model was before."""
    before = copy.deepcopy(net)
    keys, parameters = list(net.state_dict()), list(net.parameters())
    report = swap_modules(net)
    assert list(net.state_dict()) == keys
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(run(net, x), run(before, x), **tolerance)
    return report


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation(activation):
    net = nn.Sequential(nn.Linear(6, 9), activation, nn.Linear(9, 4), copy.deepcopy(activation))
    report = swaps(net, 3 * torch.randn(11, 6))
    assert report.left == {}
    assert [type(m).__name__ for m in net] == ["FusedLinear", "Identity"] * 2
    assert type(net) is FusedSequential


def test_every_module_is_among_the_tests():
    assert {type(m) for m in ACTIVATIONS} == set(rules._MODULES)


def test_the_report():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0), nn.Linear(8, 1), nn.PReLU())
    report = swaps(net, torch.randn(5, 4))
    assert str(report) == (
        "replaced 3, left 0\n"
        "  + 0: Linear and ReLU as FusedLinear\n"
        "  + 3: Linear as FusedLinear\n"
        "  + (the model): Sequential as FusedSequential"
    )


def test_a_model_with_sequences_inside():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(
                nn.Flatten(),
                nn.Sequential(nn.Linear(12, 8), nn.Tanh()),
                nn.Linear(8, 8),
                nn.LayerNorm(8),
                nn.Linear(8, 6, bias=False),
                nn.GELU(),
            )
            self.head = nn.Linear(6, 2)

        def forward(self, x):
            return self.head(self.body(x))

    net = Net()
    report = swaps(net, torch.randn(5, 3, 4))
    assert set(report.replaced) == {"body", "body.1", "body.1.0", "body.2", "body.4"}
    assert set(report.left) == {"head"}
    assert "nn.Sequential" in report.left["head"]


def test_an_optimizer_goes_on():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    twin = copy.deepcopy(net)
    x, t = torch.randn(32, 4), torch.randn(32, 1)
    optimizers = [torch.optim.Adam(n.parameters(), lr=0.01) for n in (net, twin)]
    for step in range(20):
        if step == 10:
            swap_modules(net)
        for model, optimizer in zip((net, twin), optimizers, strict=True):
            optimizer.zero_grad()
            (model(x) - t).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(net.state_dict(), twin.state_dict(), rtol=1e-4, atol=1e-5)
    fresh = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    fresh.load_state_dict(net.state_dict())
    torch.testing.assert_close(fresh(x), net(x))


def test_swapping_twice_changes_nothing_more():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    swap_modules(net)
    modules = list(net.modules())
    report = swap_modules(net)
    assert report.replaced == report.left == {}
    assert all(a is b for a, b in zip(net.modules(), modules, strict=True))


def test_modes_and_frozen_parameters_stay():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)).eval()
    net[0].weight.requires_grad_(False)
    swap_modules(net)
    assert not any(m.training for m in net.modules())
    net(torch.randn(3, 4)).sum().backward()
    assert net[0].weight.grad is None
    assert net[0].bias.grad is not None


# ---- what stays --------------------------------------------------------------------------------


def test_hooks_stay():
    seen = []
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[0].register_forward_hook(lambda *_: seen.append("linear"))
    net[3].register_forward_hook(lambda *_: seen.append("relu"))
    report = swap_modules(net)
    assert set(report.left) == {"0", "3"}
    assert "hooks" in report.left["0"]
    net(torch.randn(2, 4))
    assert seen == ["linear", "relu"]
    assert isinstance(net[2], FusedLinear)


def test_hooks_of_the_sequence_stay():
    seen = []
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    net.register_forward_hook(lambda *_: seen.append(1))
    swaps(net, torch.randn(2, 4))
    assert seen


def test_a_layer_in_two_places_stays():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.Tanh())
    report = swaps(net, torch.randn(3, 4))
    assert net[0] is net[2] is shared
    assert "more than one place" in report.left["0"]
    relu = nn.ReLU()
    net = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)
    assert swaps(net, torch.randn(3, 4)).left == {}


def test_tied_weights_stay_tied():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    before = copy.deepcopy(net)
    swap_modules(net)
    assert net[2].weight is net[0].weight
    x = torch.randn(3, 4)
    torch.testing.assert_close(run(net, x), run(before, x))


def test_other_kinds_of_layers_stay():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    class Reversed(nn.Sequential):
        def forward(self, x):
            for module in reversed(self):
                x = module(x)
            return x

    parametrized = nn.Linear(4, 4)
    nn.utils.parametrizations.weight_norm(parametrized)
    net = nn.Sequential(
        Own(4, 4),
        nn.ReLU(),
        parametrized,
        Reversed(nn.ReLU(), nn.Linear(4, 4)),
        nn.Linear(4, 4).double(),
        nn.Linear(4, 4, dtype=torch.bfloat16),
        nn.Linear(4, 4, device="meta"),
        nn.Linear(4, 4),
        nn.Softplus(beta=2),
        nn.LazyLinear(4),
    )
    report = swap_modules(net)
    assert set(report.left) == {"0", "2", "3.1", "5", "6", "8", "9"}
    assert set(report.replaced) == {"", "4", "7"}
    assert "bfloat16" in report.left["5"]
    assert "meta" in report.left["6"]
    assert "Softplus(beta=2" in report.left["8"]


def test_a_subclass_of_a_sequence_keeps_its_class():
    class Block(nn.Sequential):
        pass

    net = Block(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    report = swaps(net, torch.randn(3, 4))
    assert type(net) is Block
    assert set(report.replaced) == {"0", "2"}


def test_a_single_layer_cannot_be_replaced_in_place():
    assert set(swap_modules(nn.Linear(3, 3)).left) == {""}


def test_a_swapped_model_compiles():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    swap_modules(net)
    x = torch.randn(3, 4)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(net, backend="aot_eager", fullgraph=True)(x), net(x))
