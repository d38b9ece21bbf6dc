# SPDX-License-Identifier: Apache-2.0
"""Tensors are stepped over as in PyTorch, refused in its words, or left to its code."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim
from twins import NAMES, OWN, assert_same, give_gradients, odd_tensors, torch_twin


def run(name, a, b, steps=5, **options):
    ours, theirs = getattr(optim, name)(a, lr=0.01, **options), torch_twin(name, b, lr=0.01)
    for step in range(steps):
        give_gradients(step, a, b)
        ours.step()
        theirs.step()
    assert_same(a, b, 1e-11)
    return ours


def leaf(tensor):
    return torch.nn.Parameter(tensor)


LAYOUTS = {
    "transposed": lambda: torch.arange(12.0).double().reshape(3, 4).t(),
    "channels_last": lambda: torch.ones(2, 3, 4, 5).double().to(memory_format=torch.channels_last),
    "permuted": lambda: torch.arange(24.0).double().reshape(2, 3, 4).permute(2, 0, 1),
    "a part": lambda: torch.arange(20.0).double()[3:9],
    "one row": lambda: torch.arange(20.0).double().reshape(4, 5)[1:2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_dense_layouts_with_gradients_of_another(name, layout):
    a, b = [leaf(LAYOUTS[layout]())], [leaf(LAYOUTS[layout]())]
    optimizer = run(name, a, b)  # the gradients are contiguous
    assert a[0].stride() == b[0].stride()
    assert not optimizer._plan.others
    for entries in optimizer.state.values():
        for key, value in entries.items():
            assert key in ("step", "mu_product") or value.stride() == a[0].stride()


@pytest.mark.parametrize(
    "odd",
    [
        lambda g: g.t().contiguous().t(),
        lambda g: torch.stack([g, g], dim=-1)[..., 0],
        lambda g: g.flip(0).flip(0),
        lambda g: torch.ones((), dtype=g.dtype).expand(g.shape),
        lambda g: torch.complex(g, g).conj().imag,
        lambda g: torch._efficientzerotensor(g.shape, dtype=g.dtype),
    ],
    ids=["transposed", "strided", "flipped", "expanded", "negative", "zero"],
)
def test_gradients_of_any_layout(odd):
    a, b = [leaf(torch.ones(3, 4).double())], [leaf(torch.ones(3, 4).double())]
    ours, theirs = optim.Adam(a), torch_twin("Adam", b)
    for step in range(4):
        give_gradients(step, a, b)
        if step % 2:
            for p in (*a, *b):
                p.grad = odd(p.grad)
        ours.step()
        theirs.step()
    assert_same(a, b)


def test_a_number_whose_gradient_is_a_negative_not_computed_yet():
    p, q = leaf(torch.tensor(1.0)), leaf(torch.tensor(1.0))
    p.grad = torch.tensor(2 + 3j).conj().imag
    q.grad = torch.tensor(-3.0)
    assert p.grad.is_neg()
    optim.SGD([p], lr=0.1).step()
    torch.optim.SGD([q], lr=0.1).step()
    assert_same([p], [q])


@pytest.mark.parametrize("name", NAMES)
def test_parameters_with_gaps_are_left_to_pytorch_with_one_warning(name):
    a = [leaf(torch.arange(24.0).double()[::2]), leaf(torch.ones(5).double())]
    b = [leaf(torch.arange(24.0).double()[::2]), leaf(torch.ones(5).double())]
    with pytest.warns(UserWarning, match="gaps in memory; 1 parameter is updated by") as caught:
        optimizer = run(name, a, b)
    assert len(caught) == 1
    assert len(optimizer._plan.buckets) == 1


def test_what_is_left_to_pytorch_has_the_same_norm_scale_and_average():
    def tensors():
        return [leaf(torch.arange(8.0).double()[::2]), leaf(torch.ones(5).double())]

    a, b = tensors(), tensors()
    ours, theirs = optim.Adam(a, max_norm=0.5, ema=0.9), torch_twin("Adam", b)
    expected = [p.detach().clone() for p in b]
    with pytest.warns(UserWarning, match="gaps in memory"):  # noqa: PT031
        for step in range(4):
            give_gradients(step, a, b)
            norm = torch.nn.utils.clip_grad_norm_(b, 0.5)
            for p in a:
                p.grad.mul_(8)
            ours.grad_scale = torch.tensor(8.0)
            ours.step()
            theirs.step()
            assert ours.gradient_norm == pytest.approx(norm.item(), rel=1e-12)
            for average, p in zip(expected, b, strict=True):
                average.mul_(0.9).add_(p.detach(), alpha=0.1)
    assert_same(a, b)
    assert_same([ours.state[p]["ema"] for p in a], expected)


def test_parameters_that_share_memory_go_one_after_the_other():
    def tensors():
        memory = torch.arange(10.0).double()
        return [leaf(memory[:6]), leaf(memory[4:]), leaf(torch.ones(3).double())]

    with pytest.warns(UserWarning, match="shares its memory"):
        optimizer = run("SGD", tensors(), tensors())
    assert len(optimizer._plan.others.reasons) == 2


def test_a_gradient_may_serve_two_parameters():
    a, b = [[leaf(torch.ones(4).double()), leaf(torch.zeros(4).double())] for _ in "ab"]
    for p in (*a, *b):
        p.grad = torch.arange(4.0).double()
    a[1].grad = a[0].grad
    optim.Adam(a).step()
    torch_twin("Adam", b).step()
    assert_same(a, b)


def test_a_tied_parameter_is_stepped_over_once():
    layer = torch.nn.Linear(3, 3)
    model = torch.nn.Sequential(layer, layer)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = layer.weight.detach().clone()
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    assert torch.allclose(layer.weight, before - 0.1 * layer.weight.grad)


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_expanded_parameters(name):
    p = torch.ones(1, 3).expand(4, 3).requires_grad_()
    optimizer = getattr(optim, name)([p])
    p.grad = torch.ones(4, 3)
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers"):
        optimizer.step()


def sparse(p):
    rows, values = [[0, 2]], [[1.0, 2.0], [3.0, 4.0]]
    p.grad = torch.sparse_coo_tensor(rows, values, (4, 2), check_invariants=True)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("SGD", "Adagrad")])
def test_sparse_gradients_are_refused_where_pytorch_does(name):
    p, q = leaf(torch.ones(4, 2)), leaf(torch.ones(3))
    optimizer = getattr(optim, name)([p, q])
    sparse(p)
    q.grad = torch.ones(3)
    with (
        pytest.warns(UserWarning, match="is of layout torch.sparse_coo"),
        pytest.raises(RuntimeError, match="does not support sparse gradients"),
    ):
        optimizer.step()
    assert torch.equal(q, torch.ones(3))


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # within PyTorch's Adagrad
@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_sparse_gradients_are_taken_where_pytorch_does(name):
    p, q = leaf(torch.ones(4, 2)), leaf(torch.ones(4, 2))
    ours, theirs = getattr(optim, name)([p], lr=0.1), torch_twin(name, [q], lr=0.1)
    with pytest.warns(UserWarning, match=r"sparse_coo; 1 parameter is updated by PyTorch's own"):  # noqa: PT031
        for step in range(4):
            if step < 2:
                sparse(p), sparse(q)
            else:
                give_gradients(step, [p], [q])
            ours.step()
            theirs.step()
    assert_same([p], [q])
    assert not ours._plan.others


REFUSED = {
    "gaps in memory": lambda: (leaf(torch.ones(6)[::2]), torch.ones(3)),
    "layout torch.sparse_coo": lambda: (leaf(torch.ones(3)), torch.ones(3).to_sparse()),
    "the device 'meta'": lambda: (leaf(torch.ones(3, device="meta")), torch.ones(3, device="meta")),
    "is a Marked": lambda: (torch.ones(3).as_subclass(Marked).requires_grad_(), torch.ones(3)),
}


@pytest.mark.parametrize("reason", REFUSED)
@pytest.mark.parametrize("name", OWN)
def test_what_pytorch_has_no_code_for_is_refused(name, reason):
    (p, gradient), q = REFUSED[reason](), leaf(torch.ones(3))
    optimizer = getattr(optim, name)([q, p])
    p.grad, q.grad = gradient, torch.ones(3)
    with pytest.raises(RuntimeError, match=f"{name}: .*{reason}, and PyTorch has no {name}"):
        optimizer.step()
    assert torch.equal(q, torch.ones(3))
    assert not optimizer.state


@pytest.mark.parametrize("name", OWN)
def test_shared_memory_is_refused_as_well(name):
    memory = torch.ones(10)
    optimizer = getattr(optim, name)([leaf(memory[:6]), leaf(memory[4:])])
    give_gradients(0, optimizer.param_groups[0]["params"])
    with pytest.raises(RuntimeError, match=f"shares its memory .* and PyTorch has no {name}"):
        optimizer.step()
    assert torch.equal(memory, torch.ones(10))


@pytest.mark.parametrize("name", ["Adam", "RMSprop", "Adadelta"])
def test_capturable_does_on_the_host_what_pytorch_does(name):
    p = leaf(torch.ones(3))
    optimizer = getattr(optim, name)([p], capturable=True)
    p.grad = torch.ones(3)
    with (
        pytest.warns(UserWarning, match="capturable=True"),
        pytest.raises(AssertionError, match="If capturable=True, params and state_steps must be"),
    ):
        optimizer.step()


def test_other_devices_are_left_to_pytorch():
    p = leaf(torch.ones(3, device="meta"))
    optimizer = optim.Adam([p])
    p.grad = torch.ones(3, device="meta")
    with pytest.warns(UserWarning, match="lies on the device 'meta'"):
        optimizer.step()
    assert optimizer.state[p]["exp_avg"].device.type == "meta"


class Marked(torch.Tensor):
    pass


def test_subclasses_are_left_to_pytorch():
    a = [torch.ones(3).double().as_subclass(Marked).requires_grad_()]
    b = [leaf(torch.ones(3).double())]
    with pytest.warns(UserWarning, match="a parameter is a Marked"):
        run("Adam", a, b)


def test_gradients_of_another_dtype_are_left_to_pytorch():
    p, q = leaf(torch.ones(3)), leaf(torch.ones(3))
    for each in (p, q):
        each.grad_dtype = torch.float64
        each.grad = torch.full((3,), 0.5, dtype=torch.float64)
    with pytest.warns(UserWarning, match="is of dtype torch.float64 where the parameter"):
        optim.SGD([p], lr=0.1).step()
    torch.optim.SGD([q], lr=0.1).step()
    assert_same([p], [q])


def test_inference_tensors_fail_as_in_pytorch():
    with torch.inference_mode():
        p = torch.ones(3)
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = torch.ones(3)
    with (
        pytest.warns(UserWarning, match="made in inference mode"),
        pytest.raises(RuntimeError, match="Inplace update to inference tensor outside"),
    ):
        optimizer.step()


def test_what_torch_refuses_of_parameters():
    with pytest.raises(TypeError, match="an iterable of Tensors or dicts"):
        optim.Adam(torch.ones(3))
    with pytest.raises(ValueError, match="empty parameter list"):
        optim.Adam([])
    with pytest.raises(TypeError, match="can only optimize Tensors"):
        optim.Adam([1.0])
    with pytest.raises(ValueError, match="can't optimize a non-leaf Tensor"):
        optim.Adam([torch.ones(3, requires_grad=True) * 2])
    with pytest.raises(TypeError, match="ordered collections"):
        optim.Adam([{"params": {leaf(torch.ones(3))}}])
    p = leaf(torch.ones(3))
    with pytest.raises(ValueError, match="appear in more than one"):
        optim.Adam([{"params": [p]}, {"params": [p]}])


def test_one_thread_and_several_give_the_same_bits(threads):
    results = []
    for count in (1, 2):
        with threads(count):
            a = [leaf(torch.linspace(-1, 1, 300_001)), *odd_tensors()]
            optimizer = optim.Adam(a, max_norm=1.0)
            for step in range(3):
                give_gradients(step, a)
                optimizer.step()
        results.append(a)
    assert all(torch.equal(p, q) for p, q in zip(*results, strict=True))
