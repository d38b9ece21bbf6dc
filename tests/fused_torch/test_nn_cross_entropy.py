# SPDX-License-Identifier: Apache-2.0
"""fused_cross_entropy against torch.nn.functional.cross_entropy: values, gradients and errors."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from fusednn.torch.nn import fused_cross_entropy

DTYPES = [torch.float32, torch.float64]
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.float64: {"rtol": 1e-12, "atol": 1e-13},
}
REDUCTIONS = ["mean", "sum", "none"]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def is_fused(loss):
    return "_CrossEntropy" in type(loss.grad_fn).__name__


def same(x, target, weight=None, *, fused=True, **options):
    x = x.detach().requires_grad_()
    loss = fused_cross_entropy(x, target, weight, **options)
    expected = F.cross_entropy(x, target, weight, **options)
    assert is_fused(loss) == fused
    torch.testing.assert_close(loss, expected, **TOLERANCE[x.dtype], equal_nan=True)
    with torch.no_grad():
        value = fused_cross_entropy(x, target, weight, **options)
    assert torch.equal(value.nan_to_num(7), loss.detach().nan_to_num(7))
    upstream = torch.randn_like(loss)
    (got,) = torch.autograd.grad(loss, x, upstream)
    (want,) = torch.autograd.grad(expected, x, upstream)
    torch.testing.assert_close(got, want, **TOLERANCE[x.dtype], equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_option(reduction, weighted, smoothing, dtype):
    x = torch.randn(37, 11, dtype=dtype) * 5
    weight = torch.rand(11, dtype=dtype) if weighted else None
    options = {"reduction": reduction, "label_smoothing": smoothing}
    labels = torch.randint(11, (37,))
    same(x, labels, weight, **options)
    labels[::3] = -100
    same(x, labels, weight, **options)
    same(x, labels.clamp(0), weight, ignore_index=4, **options)
    same(x, torch.rand(37, 11, dtype=dtype), weight, **options)
    same(x, torch.rand(37, 11, dtype=dtype).softmax(1), weight, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("rows", [0, 1, 2, 1003])
@pytest.mark.parametrize("classes", [1, 2, 10, 1000])
def test_shapes(classes, rows, reduction):
    same(torch.randn(rows, classes), torch.randint(classes, (rows,)), reduction=reduction)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 3, 2), (2, 4, 0), (4,)])
def test_other_ranks(shape, reduction):
    places = shape[:1] + shape[2:] if len(shape) > 1 else ()
    classes = shape[1] if len(shape) > 1 else shape[0]
    x = torch.randn(shape, requires_grad=True)
    for target in (torch.randint(classes, places), torch.rand(shape)):
        loss = fused_cross_entropy(x, target, reduction=reduction, label_smoothing=0.1)
        expected = F.cross_entropy(x, target, reduction=reduction, label_smoothing=0.1)
        torch.testing.assert_close(loss, expected, equal_nan=True)
        upstream = torch.randn_like(loss)
        got, want = (torch.autograd.grad(each, x, upstream)[0] for each in (loss, expected))
        torch.testing.assert_close(got, want)


def test_memory_with_gaps():
    labels = torch.randint(6, (8, 2))[:, 1]
    same(torch.randn(8, 12)[:, 3:9], labels)
    same(torch.randn(6, 8).t(), labels)
    same(torch.randn(1, 6).expand(8, 6), labels)
    same(torch.randn(8, 6), torch.rand(6, 8).t())
    weight = torch.rand(12)[::2]
    same(torch.randn(8, 6), labels, weight, fused=False)


def test_extreme_logits():
    x = torch.tensor([[1e4, -1e4, 0], [-1e30, 1e30, 3], [50, 50, 50], [float("nan"), 0, 1]])
    same(x, torch.tensor([1, 0, 2, 1]), reduction="none")
    masked = torch.tensor([[float("-inf"), 0.0, 1.0]])
    same(masked, torch.tensor([1]))


def test_every_label_ignored():
    x = torch.randn(3, 4, requires_grad=True)
    loss = fused_cross_entropy(x, torch.full((3,), -100))
    assert loss.isnan()
    assert (torch.autograd.grad(loss, x)[0] == 0).all()


def test_backward_twice_and_scaled():
    x = torch.randn(5, 4, requires_grad=True)
    labels = torch.randint(4, (5,))
    (expected,) = torch.autograd.grad(F.cross_entropy(x, labels), x)
    loss = fused_cross_entropy(x, labels)
    first = torch.autograd.grad(loss, x, retain_graph=True)[0]
    first.mul_(3)  # belongs to the caller
    second = torch.autograd.grad(loss, x, torch.tensor(2.0), retain_graph=True)[0]
    third = torch.autograd.grad(loss, x)[0]
    torch.testing.assert_close(first, 3 * expected)
    torch.testing.assert_close(second, 2 * expected)
    torch.testing.assert_close(third, expected)


def test_the_logits_may_change_after_the_loss():
    x = torch.randn(5, 4, requires_grad=True)
    y = x * 1
    labels = torch.randint(4, (5,))
    (expected,) = torch.autograd.grad(F.cross_entropy(x, labels), x)
    loss = fused_cross_entropy(y, labels)
    with torch.no_grad():
        y.zero_()  # torch keeps the logarithms of probabilities, not the logits
    torch.testing.assert_close(torch.autograd.grad(loss, x)[0], expected)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck(reduction):
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(4, dtype=torch.float64)
    labels = torch.tensor([0, 3, -100, 1, 1])

    def function(x):
        return fused_cross_entropy(x, labels, weight, reduction=reduction, label_smoothing=0.2)

    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))


def test_what_torch_has_to_see():
    x, labels = torch.randn(6, 5, 4, dtype=torch.float64), torch.randint(4, (6, 5))
    got = torch.vmap(fused_cross_entropy)(x, labels)
    torch.testing.assert_close(got, torch.vmap(F.cross_entropy)(x, labels))
    got = torch.func.hessian(lambda x: fused_cross_entropy(x, labels[0]))(x[0])
    want = torch.func.hessian(lambda x: F.cross_entropy(x, labels[0]))(x[0])
    torch.testing.assert_close(got, want)
    soft = torch.rand(5, 4, dtype=torch.float64, requires_grad=True)
    got = torch.autograd.grad(fused_cross_entropy(x[0], soft), soft)
    torch.testing.assert_close(got, torch.autograd.grad(F.cross_entropy(x[0], soft), soft))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(
            fused_cross_entropy(x[0].bfloat16(), labels[0]),
            F.cross_entropy(x[0].bfloat16(), labels[0]),
        )
    half = x[0].to(torch.bfloat16)
    assert torch.equal(fused_cross_entropy(half, labels[0]), F.cross_entropy(half, labels[0]))


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((torch.randn(3, 4), torch.tensor([0, 4, 1])), {}),
        ((torch.randn(3, 4), torch.tensor([0, -1, 1])), {}),
        ((torch.randn(3, 4), torch.tensor([0, 1])), {}),
        ((torch.randn(3, 4), torch.tensor([0, 1, 2]), torch.rand(3)), {}),
        ((torch.randn(3, 4), torch.rand(3, 4)), {"ignore_index": 1}),
        ((torch.randn(3, 4), torch.tensor([0, 1, 2])), {"reduction": "average"}),
        ((torch.randn(3, 4), torch.tensor([0, 1, 2])), {"label_smoothing": 1.5}),
        ((torch.randn(3, 4), torch.rand(3, 3)), {}),
    ],
)
def test_errors_are_those_of_torch(arguments, options):
    with pytest.raises(Exception) as expected:
        F.cross_entropy(*arguments, **options)
    with pytest.raises(type(expected.value)) as got:
        fused_cross_entropy(*arguments, **options)
    assert str(got.value) == str(expected.value)
