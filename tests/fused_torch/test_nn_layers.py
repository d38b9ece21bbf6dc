# SPDX-License-Identifier: Apache-2.0
"""Fused layers against torch's own operations: values, gradients, and every edge on purpose."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import fusednn
from fusednn import activations, catalog
from fusednn.torch.nn import FusedLinear, FusedMLP, FusedSequential, rules

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {
    torch.float32: {"rtol": 2e-5, "atol": 2e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
}
NAMES = sorted(rules.FORMULAS)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def is_fused(y):
    return "_Chain" in type(y.grad_fn).__name__


def plain_twin(net):
    """The same network of torch's modules, over the same parameters."""
    layers = []
    for layer in net:
        linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        linear.weight, linear.bias = layer.weight, layer.bias
        layers.append(linear)
        layers.append(Formula(layer._rule))
    return nn.Sequential(*layers)


class Formula(nn.Module):
    def __init__(self, rule):
        super().__init__()
        self.rule = rule

    def forward(self, x):
        return rules.activate(x, self.rule)


def gradients(net, x, dy):
    given = [t for t in (x, *net.parameters()) if t.requires_grad]
    return torch.autograd.grad(net(x), given, dy)


def same(net, x, *, fused=True):
    """Value and gradients of a network equal those of its twin of torch's modules."""
    twin = plain_twin(net)
    y, expected = net(x), twin(x)
    assert is_fused(y) == fused
    torch.testing.assert_close(y, expected, **TOLERANCE[x.dtype])
    dy = torch.randn_like(y)
    for got, want in zip(gradients(net, x, dy), gradients(twin, x, dy), strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE[x.dtype])


# ---- values and gradients ----------------------------------------------------------------------


def test_every_activation_has_a_formula_of_torch():
    assert set(rules.FORMULAS) == set(catalog.activations())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_activation(name, dtype):
    for output in (None, name):
        net = FusedMLP([7, 33, 18, 5], name, output, dtype=dtype)
        same(net, torch.randn(19, 7, dtype=dtype, requires_grad=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "value"), [("leaky_relu", 0.3), ("elu", 0.4)])
def test_parameters_of_activations(name, value, dtype):
    parameter = next(iter(catalog.activations()[name]))
    for given in (
        {"name": name, parameter: value},
        getattr(activations, name)(**{parameter: value}),
        {"leaky_relu": nn.LeakyReLU(0.3), "elu": nn.ELU(0.4)}[name],
    ):
        layer = FusedLinear(5, 6, activation=given, dtype=dtype)
        x = torch.randn(9, 5, dtype=dtype)
        expected = getattr(F, name)(F.linear(x, layer.weight, layer.bias), value)
        torch.testing.assert_close(layer(x), expected, **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1, 2), (40, 100, 70, 3), (5, 4, 3, 2, 1)])
@pytest.mark.parametrize("rows", [1, 2, 65, 700])
def test_shapes(sizes, rows, bias, dtype):
    net = FusedMLP(sizes, "tanh", bias=bias, dtype=dtype)
    same(net, torch.randn(rows, sizes[0], dtype=dtype, requires_grad=True))


@pytest.mark.parametrize("shape", [(6,), (2, 3, 6), (2, 1, 4, 6), (3, 0, 6), (0, 6)])
@pytest.mark.parametrize("net", [FusedLinear(6, 4, activation="gelu"), FusedMLP([6, 5, 4])])
def test_leading_dimensions(shape, net):
    x = torch.randn(shape, requires_grad=True)
    y = net(x)
    assert y.shape == (*shape[:-1], 4)
    twin = plain_twin(net if isinstance(net, nn.Sequential) else [net])
    torch.testing.assert_close(y, twin(x))
    dy = torch.randn_like(y)
    for got, want in zip(gradients(net, x, dy), gradients(twin, x, dy), strict=True):
        torch.testing.assert_close(got, want, **TOLERANCE[torch.float32])


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(8, 12)[:, 2:8],
        lambda: torch.randn(6, 8).t(),
        lambda: torch.randn(8, 12)[:, ::2],
        lambda: torch.randn(16, 6)[::2],
        lambda: torch.randn(1, 6).expand(8, 6),
        lambda: torch.randn(8, 1).expand(8, 6),
        lambda: torch._neg_view(torch.randn(8, 6)),
        lambda: torch.randn(8, 6, dtype=torch.complex64).conj().imag,
    ],
)
def test_inputs_with_gaps(make):
    net = FusedMLP([6, 9, 3])
    x = make()
    torch.testing.assert_close(net(x), plain_twin(net)(x))
    leaf = make().detach().requires_grad_()
    dy = torch.randn(8, 3)
    for got, want in zip(
        gradients(net, leaf, dy), gradients(plain_twin(net), leaf, dy), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_upstream_gradients_with_gaps():
    net = FusedMLP([6, 9, 3], output_activation="tanh")
    x = torch.randn(8, 6, requires_grad=True)
    for reduce in (torch.sum, lambda y: y.t()[1].sum(), lambda y: (y[:, ::2] * 2).sum()):
        got = torch.autograd.grad(reduce(net(x)), [x, *net.parameters()])
        want = torch.autograd.grad(reduce(plain_twin(net)(x)), [x, *net.parameters()])
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameters_with_gaps(dtype):
    net = FusedMLP([6, 9, 9, 3], dtype=dtype)
    with torch.no_grad():
        net[0].weight.data = torch.randn(9, 11, dtype=dtype)[:, :6]
        net[1].weight.data = torch.randn(9, 9, dtype=dtype).t()
        net[2].bias.data = torch.randn(6, dtype=dtype)[::2]
    x = torch.randn(8, 6, dtype=dtype, requires_grad=True)
    same(net, x, fused=False)
    same(net[:1], x)
    square = FusedLinear(9, 9, dtype=dtype)
    y = square(torch.ones(2, 9, dtype=dtype))
    square.weight.data = square.weight.data.t()  # the same address, other strides
    assert not torch.equal(y, square(torch.ones(2, 9, dtype=dtype)))


def test_only_wanted_gradients_are_computed():
    net = FusedMLP([5, 6, 7, 3], "gelu")
    tensors = [torch.randn(9, 5), *net.parameters()]
    for wanted in range(1, 1 << len(tensors)):
        for i, tensor in enumerate(tensors):
            tensor.requires_grad_(bool(wanted >> i & 1))
        same(net, tensors[0])


def test_an_empty_batch_has_gradients_of_zero():
    net = FusedMLP([5, 6, 3])
    net(torch.empty(0, 5)).sum().backward()
    assert all((p.grad == 0).all() for p in net.parameters())


# ---- what autograd asks for --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    # Away from kinks, where a difference is no derivative.
    net = FusedMLP([3, 4, 2], name, name, dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)

    def function(x, *parameters):
        return torch.func.functional_call(net, dict(zip(names, parameters, strict=True)), (x,))

    names = [name for name, _ in net.named_parameters()]
    inputs = (x, *(p.detach().requires_grad_() for p in net.parameters()))
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_forward_twice_before_backward():
    net = FusedMLP([5, 16, 3], "silu")
    first, second = torch.randn(7, 5), torch.randn(4, 5)
    loss = net(first).square().sum() + net(second).square().sum()
    twin = plain_twin(net)
    expected = twin(first).square().sum() + twin(second).square().sum()
    torch.testing.assert_close(
        torch.autograd.grad(loss, list(net.parameters())),
        torch.autograd.grad(expected, list(net.parameters())),
        **TOLERANCE[torch.float32],
    )


def test_backward_twice():
    net = FusedMLP([5, 16, 3])
    loss = net(torch.randn(7, 5)).square().sum()
    first = torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
    for g, again in zip(first, torch.autograd.grad(loss, list(net.parameters())), strict=True):
        assert torch.equal(g, again)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_a_second_derivative():
    net = FusedMLP([5, 16, 1], "tanh", dtype=torch.float64)
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)

    def penalty(model):
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return torch.autograd.grad(
            slope.square().sum(), list(model.parameters()), allow_unused=True
        )

    for got, want in zip(penalty(net), penalty(plain_twin(net)), strict=True):
        torch.testing.assert_close(got, want) if want is not None else None


def test_a_change_before_backward_is_noticed():
    net = FusedMLP([5, 16, 3])
    loss = net(torch.randn(7, 5)).sum()
    with torch.no_grad():
        net[1].weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    x = torch.randn(7, 5)
    y = FusedLinear(5, 3)(x)
    y.mul_(2)  # nn.Linear does not keep its output either
    y.sum().backward()


def test_modes_without_gradients():
    net = FusedMLP([5, 16, 3], "mish")
    x = torch.randn(7, 5)
    expected = plain_twin(net)(x)
    with torch.no_grad():
        y = net(x)
        assert not y.requires_grad
        torch.testing.assert_close(y, expected)
    with torch.inference_mode():
        y = net(x)
        assert y.is_inference()
        torch.testing.assert_close(y, expected)
    assert is_fused(net(x))


def test_checkpointing_and_saved_tensor_hooks():
    net = FusedMLP([5, 16, 3], "gelu")
    x = torch.randn(7, 5, requires_grad=True)
    expected = torch.autograd.grad(net(x).square().sum(), [x, *net.parameters()])
    y = checkpoint(net, x, use_reentrant=False)
    torch.testing.assert_close(
        torch.autograd.grad(y.square().sum(), [x, *net.parameters()]), expected
    )
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
        y = net(x.detach().requires_grad_())
    y.square().sum().backward()
    for p, want in zip(net.parameters(), expected[1:], strict=True):
        torch.testing.assert_close(p.grad, want)


def test_one_tensor_in_two_places():
    weight = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    net = FusedMLP([4, 4, 4], "tanh", dtype=torch.float64)
    net[0].weight = net[1].weight = nn.Parameter(weight.detach())
    same(net, torch.randn(4, 4, dtype=torch.float64, requires_grad=True))
    net[1].weight.grad = None
    x = net[0].weight
    got = torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]
    want = torch.autograd.grad(plain_twin(net)(x).sum(), x)[0]
    torch.testing.assert_close(got, want)


# ---- what torch itself has to see --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes_are_left_to_torch(dtype):
    net = FusedMLP([5, 16, 3], dtype=dtype)
    x = torch.randn(7, 5, dtype=dtype)
    assert not is_fused(net(x))
    assert torch.equal(net(x), plain_twin(net)(x))


def test_wrong_inputs_raise_what_torch_raises():
    net, linear = FusedMLP([5, 3]), nn.Linear(5, 3)
    for x in (torch.randn(7, 4), torch.randn(7, 5, dtype=torch.float64), torch.ones(7, 5).long()):
        with pytest.raises(RuntimeError) as expected:
            linear(x)
        with pytest.raises(RuntimeError) as got:
            net(x)
        assert str(got.value) == str(expected.value)


def test_autocast():
    net = FusedMLP([5, 16, 3])
    x = torch.randn(7, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
        assert y.dtype == torch.bfloat16
        assert torch.equal(y, plain_twin(net)(x))


def test_transforms():
    net = FusedMLP([5, 16, 3], "tanh", dtype=torch.float64)
    twin = plain_twin(net)
    x = torch.randn(7, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(torch.vmap(net)(x), twin(x))
    row = x[0, 0]
    torch.testing.assert_close(torch.func.jacrev(net)(row), torch.func.jacfwd(twin)(row))
    torch.testing.assert_close(torch.func.hessian(net)(row), torch.func.hessian(twin)(row))
    torch.testing.assert_close(
        torch.autograd.functional.jacobian(net, row, vectorize=True),
        torch.autograd.functional.jacobian(twin, row),
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        got = torch.autograd.forward_ad.unpack_dual(net(dual)).tangent
        want = torch.autograd.forward_ad.unpack_dual(twin(dual)).tangent
    torch.testing.assert_close(got, want)


def test_subclasses_and_modes():
    class Loud(torch.Tensor):
        seen: ClassVar[list] = []

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            cls.seen.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    net = FusedMLP([5, 16, 3])
    assert type(net(torch.randn(7, 5).as_subclass(Loud))) is Loud
    assert F.linear in Loud.seen

    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        net(torch.randn(7, 5))
    assert counter.get_total_flops() == 2 * 7 * (5 * 16 + 16 * 3)


def test_other_devices_are_left_to_torch():
    net = FusedMLP([5, 16, 3], device="meta")
    assert net(torch.empty(7, 5, device="meta")).shape == (7, 3)
    with torch.device("meta"):
        assert FusedMLP([5, 3])(torch.ones(2, 5, device="meta")).device.type == "meta"
        on_cpu = FusedMLP([5, 3], device="cpu")
        assert on_cpu(torch.ones(2, 5, device="cpu")).device.type == "cpu"


# ---- modules -----------------------------------------------------------------------------------


def test_a_layer_is_a_drop_in():
    torch.manual_seed(3)
    fused = FusedLinear(5, 4, activation="relu")
    torch.manual_seed(3)
    linear = nn.Linear(5, 4)
    assert isinstance(fused, nn.Linear)
    assert list(fused.state_dict()) == list(linear.state_dict())
    for ours, theirs in zip(fused.parameters(), linear.parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.is_contiguous()
    linear.load_state_dict(fused.state_dict())
    fused.load_state_dict(nn.Linear(5, 4).state_dict())
    assert repr(fused) == (
        "FusedLinear(in_features=5, out_features=4, bias=True, activation='relu')"
    )
    assert FusedLinear(5, 4, bias=False).bias is None


def test_copies_and_pickles():
    net = FusedMLP([5, 8, 3], {"name": "elu", "alpha": 0.5})
    x = torch.randn(4, 5)
    y = net(x)
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert torch.equal(again(x), y)
        assert type(again) is FusedMLP
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_a_sequence_of_a_slice():
    net = FusedMLP([5, 8, 7, 3])
    x = torch.randn(4, 5)
    assert type(net[:2]) is FusedSequential
    torch.testing.assert_close(net[2:](net[:2](x)), net(x))
    assert net[-1].out_features == 3


def test_hooks_run():
    net = FusedMLP([5, 8, 3])
    seen = []
    handle = net[0].register_forward_hook(lambda m, args, out: seen.append(out.shape))
    x = torch.randn(4, 5)
    y = net(x)
    assert seen == [(4, 8)]
    handle.remove()
    torch.testing.assert_close(net(x), y)
    assert len(seen) == 1
    handle = nn.modules.module.register_module_forward_hook(lambda *_: seen.append("any"))
    net(x)
    handle.remove()
    assert seen.count("any") == 3


def test_pruning_and_parametrizations_count():
    from torch.nn.utils import parametrize, prune

    net = FusedMLP([5, 8, 3])
    x = torch.randn(4, 5)
    prune.l1_unstructured(net[0], "weight", amount=0.5)
    expected = F.linear(F.relu(F.linear(x, net[0].weight, net[0].bias)), *net[1].parameters())
    torch.testing.assert_close(net(x), expected)

    class Half(nn.Module):
        def forward(self, weight):
            return weight / 2

    net = FusedMLP([5, 8, 3])
    y = net[0](x)
    parametrize.register_parametrization(net[0], "weight", Half())
    assert not torch.allclose(net[0](x), y)
    torch.testing.assert_close(net(x), net[1](net[0](x)))


def test_threads_change_no_bit():
    net = FusedMLP([784, 512, 10], "gelu")
    x = torch.randn(256, 784, requires_grad=True)
    dy = torch.randn(256, 10)
    before = fusednn.get_num_threads() if hasattr(fusednn, "get_num_threads") else None
    results = []
    try:
        for threads in (1, 2, 3):
            fusednn._core.set_num_threads(threads)
            results.append([net(x), *gradients(net, x, dy)])
    finally:
        fusednn._core.set_num_threads(before or 2)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_refusals():
    with pytest.raises(ValueError, match="sizes="):
        FusedMLP([5])
    with pytest.raises(ValueError, match="activation='rleu'"):
        FusedLinear(3, 4, activation="rleu")
    with pytest.raises(ValueError, match="not elementwise"):
        FusedLinear(3, 4, activation="softmax")
    with pytest.raises(ValueError, match="no fused twin"):
        FusedLinear(3, 4, activation=nn.PReLU())
