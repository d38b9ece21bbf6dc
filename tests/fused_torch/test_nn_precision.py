# SPDX-License-Identifier: Apache-2.0
"""Layers whose products round their operands to bfloat16, against torch's operations in float64.

On a device too, where there is one that PyTorch and fusednn both see.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import fusednn.device  # noqa: E402
from fusednn.torch.nn import FusedLinear, FusedMLP, FusedSequential  # noqa: E402

ON_DEVICE = torch.cuda.is_available() and not fusednn.device.cuda_problem()
PLACES = ["cpu", *(["cuda"] if ON_DEVICE else [])]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def rounded(t):
    return t + (t.to(torch.bfloat16).to(t.dtype) - t).detach()


def formula(net, x):
    """The network in float64, operands rounded; gradients go through as they are."""
    for layer in net:
        x = rounded(x) @ rounded(layer.weight.double()).T + layer.bias.double()
        x = torch.tanh(x) if layer.activation.name == "tanh" else x
    return x


SIZES = [7, 40, 40, 40, 3]


def net_of(place):
    return FusedMLP(SIZES, activation="tanh", precision="bfloat16", device=place)


def off(found, right):
    found, right = found.detach().double(), right.detach().double()
    return float((found - right).norm() / right.norm())


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("place", PLACES)
def test_values_and_gradients(place, rows):
    net = net_of(place)
    x = torch.randn(rows, 7, device=place, requires_grad=True)
    y = net(x)
    assert "_Chain" in type(y.grad_fn).__name__
    right = formula(net, x.double())
    assert off(y, right) < 2e-3
    other = FusedMLP(SIZES, activation="tanh", device=place)
    other.load_state_dict(net.state_dict())
    assert off(y, other(x)) > 2e-4
    dy = torch.randn_like(y)
    inputs = [x, *net.parameters()]
    found = torch.autograd.grad(net(x), inputs, dy)
    wanted = torch.autograd.grad(formula(net, x.double()), inputs, dy.double())
    for a, b in zip(found, wanted, strict=True):
        assert off(a, b) < 2e-2
    with torch.no_grad():
        torch.testing.assert_close(net(x), y, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("place", PLACES)
def test_second_derivatives(place):
    net = net_of(place)
    x = torch.randn(20, 7, device=place, requires_grad=True)
    (slope,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    slope.pow(2).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert float(next(net.parameters()).grad.abs().sum()) > 0


@pytest.mark.parametrize("place", PLACES)
def test_a_hook_sees_hidden_values(place):
    net = net_of(place)
    x = torch.randn(20, 7, device=place)
    plain = net(x)
    seen = []
    net[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    torch.testing.assert_close(net(x), plain, rtol=2e-3, atol=2e-3)
    assert seen[0].shape == (20, 40)
    assert float(seen[0].detach().abs().sum()) > 0


def test_neighbours_of_another_precision_are_rows_of_their_own():
    net = FusedSequential(
        FusedLinear(5, 6, activation="relu", precision="bfloat16"),
        FusedLinear(6, 6, activation="relu", precision="bfloat16"),
        FusedLinear(6, 2),
    )
    x = torch.randn(9, 5)
    last = FusedSequential(net[2])
    torch.testing.assert_close(net(x), last(FusedSequential(net[0], net[1])(x)))


def test_precisions_that_there_are_not():
    with pytest.raises(ValueError, match="precision='half': expected 'float32' or 'bfloat16'"):
        FusedLinear(2, 3, precision="half")
    with pytest.raises(ValueError, match="precision='bfloat16': expected 'float64'"):
        FusedMLP([2, 3], dtype=torch.float64, precision="bfloat16")
    assert "precision='bfloat16'" in repr(FusedLinear(2, 3, precision="bfloat16"))
    assert FusedLinear(2, 3, precision="float32")._precision == ""
