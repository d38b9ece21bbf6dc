# SPDX-License-Identifier: Apache-2.0
"""CUDA tensors of PyTorch: optimizers, layers and single operations, on PyTorch's current stream.

Nothing here runs without a GPU that PyTorch and fusednn both see; ``bench/device.sh`` runs it.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("PyTorch sees no CUDA device", allow_module_level=True)

import fusednn.device  # noqa: E402
from fusednn import ops  # noqa: E402
from fusednn.torch import nn, optim  # noqa: E402

if fusednn.device.cuda_problem():
    pytest.skip(fusednn.device.cuda_problem(), allow_module_level=True)

OPTIMIZERS = {
    "SGD": {"lr": 0.05, "momentum": 0.9},
    "Adagrad": {},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adadelta": {},
    "Adam": {"amsgrad": True},
    "AdamW": {"weight_decay": 0.1},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "Lion": {"lr": 1e-3},
    "LAMB": {},
}
SHAPES = [(64, 33), (1000,), (), (7, 1, 5)]


def trained(name, device, dtype, steps=4, **options):
    """Parameters after some steps with the same gradients on either device, and the optimizer."""
    generator = torch.Generator().manual_seed(0)
    held = [
        torch.nn.Parameter(torch.randn(s, generator=generator).to(device, dtype)) for s in SHAPES
    ]
    optimizer = getattr(optim, name)(held, **OPTIMIZERS[name], **options)
    for _ in range(steps):
        for p in held:
            p.grad = torch.randn(p.shape, generator=generator).to(device, dtype)
        optimizer.step()
    return held, optimizer


@pytest.mark.parametrize("options", [{}, {"max_norm": 0.5, "ema": 0.9}], ids=["plain", "extras"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_ours_and_agrees_with_the_cpu(name, dtype, options):
    there, optimizer = trained(name, "cuda", dtype, **options)
    assert not optimizer._plan.others
    here, right = trained(name, "cpu", dtype, **options)
    # What is rounded to 16 bits may be rounded the other way now and then.
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}.get(dtype, 2e-2)
    for one, other in zip(there, here, strict=True):
        assert one.is_cuda
        torch.testing.assert_close(one.cpu(), other, rtol=tolerance, atol=tolerance)
    if options:
        assert optimizer.gradient_norm == pytest.approx(right.gradient_norm, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_masters(dtype):
    there, optimizer = trained("AdamW", "cuda", dtype, master_weights=True)
    here, right = trained("AdamW", "cpu", dtype, master_weights=True)
    for one, other in zip(there, here, strict=True):
        master, expected = optimizer.state[one]["master"], right.state[other]["master"]
        assert master.is_cuda
        torch.testing.assert_close(master.cpu(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "NAdam", "Lion"])
def test_rounding_at_random_has_the_bits_of_the_cpu(name):
    """The noise is the same, and so is all that is rounded: there is no exp or log in it."""
    options = {"stochastic_rounding": True, "seed": 9, "clear_gradients": True}
    there, optimizer = trained(name, "cuda", torch.bfloat16, **options)
    here, _ = trained(name, "cpu", torch.bfloat16, **options)
    assert not optimizer._plan.others
    for one, other in zip(there, here, strict=True):
        assert not one.grad.any()
        same = one.detach().cpu().view(torch.int16) == other.detach().view(torch.int16)
        # A constant of a step may differ in the last place of a float64, and a float32 with it.
        assert same.double().mean() > 0.999


def test_noise_goes_on_in_a_graph():
    """Each replay is another step, whose number is read where it lies."""
    p = torch.nn.Parameter(torch.ones(4096, device="cuda", dtype=torch.bfloat16))
    optimizer = optim.AdamW([p], lr=1e-4, weight_decay=0, capturable=True, stochastic_rounding=True)
    p.grad = torch.ones_like(p)
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    before = optimizer.state[p]["step"].item()
    for _ in range(50):
        graph.replay()
    assert optimizer.state[p]["step"].item() == before + 50
    moved = 1 - p.detach().double().mean().item()
    assert 0.004 < moved < 0.0065  # 51 steps of 1e-4, each less than a third of a unit


def test_the_same_bits_twice():
    first, second = trained("Adam", "cuda", torch.float32), trained("Adam", "cuda", torch.float32)
    for one, other in zip(first[0], second[0], strict=True):
        assert torch.equal(one, other)


def test_parameters_on_both_devices():
    held = [torch.nn.Parameter(torch.ones(5, device=device)) for device in ("cpu", "cuda")]
    for p in held:
        p.grad = torch.ones_like(p)
    optim.SGD(held, lr=0.25).step()
    assert [p.tolist() for p in held] == [[0.75] * 5] * 2


def test_a_step_waits_for_the_gradients_of_its_stream():
    p = torch.nn.Parameter(torch.zeros(1 << 20, device="cuda"))
    optimizer = optim.SGD([p], lr=1.0)
    beside = torch.cuda.Stream()
    with torch.cuda.stream(beside):
        for _ in range(20):
            p.grad = torch.full_like(p, 3.0).sqrt().square()  # not there yet when step() returns
            optimizer.step()
            p.grad = None
    torch.cuda.current_stream().wait_stream(beside)
    torch.testing.assert_close(p.detach(), torch.full_like(p, -60.0))


def test_scaled_gradients_and_infinities():
    p = torch.nn.Parameter(torch.ones(100, device="cuda"))
    optimizer = optim.Adam([p], lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=4.0)
    scaler.scale(p.sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    moved = p.detach().clone()
    assert (moved < 1).all()
    p.grad = torch.full_like(p, torch.inf)
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(p.detach(), moved)


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "NAdam", "LAMB"])
def test_a_captured_step_is_ours(name):
    """Gradients, learning rate and overflow change between replays, as they do in training."""
    counted = {} if name == "SGD" else {"capturable": True}
    lr, held, optimizers = torch.tensor(0.1, device="cuda"), [], []
    for own in (optim, torch.optim if name != "LAMB" else optim):
        held.append(torch.nn.Parameter(torch.linspace(1, 2, 64, device="cuda")))
        optimizers.append(getattr(own, name)([held[-1]], lr=0.1, foreach=False, **counted))
        optimizers[-1].param_groups[0]["lr"] = lr
        held[-1].grad = torch.ones_like(held[-1])
    graph, found_inf = torch.cuda.CUDAGraph(), torch.zeros((), device="cuda")
    for optimizer in optimizers:
        optimizer.step()
    optimizers[0].found_inf = found_inf
    with torch.cuda.graph(graph):
        optimizers[0].step()
    assert not optimizers[0]._plan.others
    for step in range(6):
        lr.fill_(0.1 / (1 + step))
        for p in held:
            p.grad.copy_(torch.linspace(-1, step, 64))
        found_inf.fill_(float(step == 2))
        graph.replay()
        if step != 2:
            optimizers[1].step()
    torch.testing.assert_close(held[0], held[1], rtol=1e-5, atol=1e-6)


def test_a_capturable_step_waits_for_nothing():
    p = torch.nn.Parameter(torch.ones(100, device="cuda"))
    optimizer = optim.Adam([p], lr=0.1, capturable=True, max_norm=1.0)
    p.grad = torch.ones_like(p)
    optimizer.step()
    scaler = torch.amp.GradScaler("cuda", init_scale=4.0)
    scaler.scale(p.sum()).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        scaler.step(optimizer)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert optimizer.state[p]["step"].is_cuda
    assert optimizer.gradient_norm.is_cuda


@pytest.mark.parametrize("widths", [[20, 33, 5], [64, 64, 64, 1]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_layers(dtype, widths):
    generator = torch.Generator().manual_seed(0)
    here = nn.FusedMLP(widths).to(dtype)
    there = nn.FusedMLP(widths).to("cuda", dtype)
    there.load_state_dict(here.state_dict())
    x = torch.randn(50, widths[0], generator=generator, dtype=dtype)
    inputs = [x.clone().requires_grad_(), x.cuda().requires_grad_()]
    outputs = [net(x) for net, x in zip((here, there), inputs, strict=True)]
    assert "Chain" in type(outputs[1].grad_fn).__name__  # ours, not a composition of torch's
    for y in outputs:
        y.square().sum().backward()
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    pairs = [outputs, [t.grad for t in inputs]]
    pairs += [[p.grad, q.grad] for p, q in zip(here.parameters(), there.parameters(), strict=True)]
    for one, other in pairs:
        torch.testing.assert_close(one, other.cpu(), rtol=tolerance, atol=tolerance)


def test_a_network_learns():
    torch.manual_seed(0)
    net = nn.FusedMLP([2, 32, 1]).cuda()
    optimizer = optim.Adam(net.parameters(), lr=1e-2)
    x = torch.rand(256, 2, device="cuda") * 2 - 1
    y = x.prod(1, keepdim=True)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (net(x) - y).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.01


def test_single_operations():
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(s).astype(np.float32) for s in ((33, 20), (20, 7)))
    y = ops.dense_forward(torch.from_numpy(x).cuda(), torch.from_numpy(w).cuda(), activation="gelu")
    assert isinstance(y, torch.Tensor)
    assert y.is_cuda
    np.testing.assert_allclose(y.cpu(), ops.dense_forward(x, w, activation="gelu"), atol=1e-5)
    labels = generator.integers(0, 7, 33).astype(np.int32)
    value, gradient = ops.loss("softmax_cross_entropy", y, torch.from_numpy(labels).cuda())
    right = torch.nn.functional.cross_entropy(y.cpu(), torch.from_numpy(labels).long())
    assert value == pytest.approx(right.item(), rel=1e-5)
    assert gradient.is_cuda


def test_cupy_arrays():
    cupy = pytest.importorskip("cupy")
    with cupy.cuda.Stream(non_blocking=True):
        x = cupy.linspace(-2, 2, 1000, dtype="float32")
        y = ops.activation_forward(x, "tanh")
        assert isinstance(y, cupy.ndarray)
        cupy.testing.assert_allclose(y, cupy.tanh(x), rtol=1e-5, atol=1e-6)
