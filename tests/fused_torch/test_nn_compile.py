# SPDX-License-Identifier: Apache-2.0
"""Fused layers as operators: torch.compile, torch.export, and torch's own checks of an operator."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn import functional as F

from fusednn.torch.nn import FusedLinear, FusedMLP, FusedSequential, fused_cross_entropy

# Compilers of the backend warn of their own affairs.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch._dynamo.reset()


def parameters(*sizes, bias=True, dtype=torch.float64):
    tensors = []
    for fan_in, out in pairwise(sizes):
        tensors.append(torch.randn(out, fan_in, dtype=dtype, requires_grad=True))
        if bias:
            tensors.append(torch.randn(out, dtype=dtype, requires_grad=True))
    return tensors


# ---- the operators -----------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 6])
@pytest.mark.parametrize("text", ["+tanh|+linear", "+gelu|+elu:0.5", "silu|linear"])
def test_the_chain_is_a_good_operator(text, rows):
    x = torch.randn(rows, 5, dtype=torch.float64, requires_grad=True)
    tensors = parameters(5, 7, 3, bias=text.startswith("+"))
    torch.library.opcheck(torch.ops.fusednn.chain.default, (x, tensors, text))
    frozen = [t.detach() for t in tensors]
    torch.library.opcheck(torch.ops.fusednn.chain.default, (x, frozen, text))
    torch.library.opcheck(torch.ops.fusednn.chain.default, (x.detach(), tensors, text))


def test_the_chain_backward_is_a_good_operator():
    x = torch.randn(6, 5)
    tensors = [t.detach() for t in parameters(5, 7, 3, dtype=torch.float32)]
    text = "+mish|+sigmoid"
    y, kept = torch.ops.fusednn.chain(x, tensors, text)
    for wanted in ([True] * 5, [False, True, False, False, True], [True] + [False] * 4):
        torch.library.opcheck(
            torch.ops.fusednn.chain_backward.default,
            (torch.randn(6, 3), x, kept, y, tensors, text, wanted),
        )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_the_cross_entropy_is_a_good_operator(reduction):
    logits = torch.randn(6, 5, requires_grad=True)
    labels = torch.tensor([0, 1, -100, 4, 2, 2])
    for weight in (None, torch.rand(5)):
        torch.library.opcheck(
            torch.ops.fusednn.cross_entropy.default,
            (logits, labels, weight, reduction, -100, 0.1),
        )


def test_operators_have_second_derivatives():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    tensors = parameters(3, 4, 2)

    def chain(x, *tensors):
        return torch.ops.fusednn.chain(x, list(tensors), "+tanh|+linear")[0]

    assert torch.autograd.gradcheck(chain, (x, *tensors))
    assert torch.autograd.gradgradcheck(chain, (x, *tensors))

    def loss(x):
        return torch.ops.fusednn.cross_entropy(x, labels, None, "mean", -100, 0.1)[0]

    labels = torch.tensor([0, 1, 2, 2])
    assert torch.autograd.gradcheck(loss, (x,))
    assert torch.autograd.gradgradcheck(loss, (x,))


def test_operators_refuse_what_does_not_fit():
    x, (weight, bias) = torch.randn(4, 3), parameters(3, 2, dtype=torch.float32)
    for wrong in ([weight.t(), bias], [weight, bias[:1]], [weight.double(), bias]):
        with pytest.raises(ValueError, match="does not fit"):
            torch.ops.fusednn.chain(x, wrong, "+linear")
    with pytest.raises(ValueError, match="do not fit"):
        torch.ops.fusednn.cross_entropy(x, torch.tensor([0]), None, "mean", -100, 0.0)


# ---- whole programs ----------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = FusedSequential(
            FusedLinear(12, 16, activation="gelu"),
            nn.Identity(),
            FusedLinear(16, 16, activation={"name": "elu", "alpha": 0.5}),
            nn.LayerNorm(16),
            FusedLinear(16, 5, bias=False),
        )

    def forward(self, x, labels):
        return fused_cross_entropy(self.body(x.flatten(1)), labels, label_smoothing=0.1)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", "inductor"])
def test_a_whole_model_compiles_without_a_break(backend):
    net = Net()
    x, labels = torch.randn(8, 3, 4, requires_grad=True), torch.randint(5, (8,))
    expected = net(x, labels)
    wanted = torch.autograd.grad(expected, [x, *net.parameters()])
    try:
        compiled = torch.compile(net, backend=backend, fullgraph=True)
        loss = compiled(x, labels)
    except Exception as error:
        if backend == "inductor" and "compiler" in str(error).lower():
            pytest.skip("no C++ compiler for inductor")
        raise
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, [x, *net.parameters()]), wanted)


def test_the_graph_holds_our_operators():
    seen = []

    def backend(graph, inputs):
        seen.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    net = Net()
    torch.compile(net, backend=backend, fullgraph=True)(
        torch.randn(8, 3, 4), torch.randint(5, (8,))
    )
    assert seen.count(torch.ops.fusednn.chain) == 2
    assert seen.count(torch.ops.fusednn.cross_entropy) == 1


def test_other_batch_sizes_do_not_compile_forever():
    net = FusedMLP([6, 8, 3], "relu")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True, dynamic=True)
    counter = torch._dynamo.testing.CompileCounter()
    counted = torch.compile(net, backend=counter, fullgraph=True, dynamic=True)
    for rows in (4, 7, 9, 33):
        x = torch.randn(rows, 6, requires_grad=True)
        torch.testing.assert_close(compiled(x), net(x))
        got = torch.autograd.grad(compiled(x).sum(), list(net.parameters()))
        torch.testing.assert_close(got, torch.autograd.grad(net(x).sum(), list(net.parameters())))
        counted(x)
    assert counter.frame_count <= 2


def test_compiled_leaves_to_torch_what_is_not_fused():
    net = FusedMLP([6, 8, 3], "gelu", dtype=torch.bfloat16)
    x = torch.randn(4, 6, dtype=torch.bfloat16)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))
    net = FusedMLP([6, 8, 3], "gelu")
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert compiled(x.float()).dtype == torch.bfloat16


def test_soft_targets_compile():
    compiled = torch.compile(fused_cross_entropy, backend="aot_eager", fullgraph=True)
    x, target = torch.randn(4, 6), torch.rand(4, 6)
    torch.testing.assert_close(compiled(x, target), F.cross_entropy(x, target))


def test_export():
    net = FusedMLP([6, 8, 3], "gelu").eval()
    x = torch.randn(4, 6)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), net(x))


def test_tracing():
    net = FusedMLP([6, 8, 3], "gelu").eval()
    x = torch.randn(4, 6)
    traced = torch.jit.trace(net, (x,))
    torch.testing.assert_close(traced(torch.ones(5, 6)), net(torch.ones(5, 6)))
