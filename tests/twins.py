# SPDX-License-Identifier: Apache-2.0
"""Optimizers of fusednn.torch beside those of torch.optim, on the same parameters and gradients."""

from __future__ import annotations

import copy

import pytest

pytest.importorskip("torch")

import torch

from fusednn.torch import optim

NAMES = ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta", "RMSprop")
OWN = ("Lion", "LAMB")

# How far a parameter may be from PyTorch's after a hundred steps, relative to the greatest number
# its tensor has held on the way.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}

SHAPES = ((), (1,), (0, 3), (7,), (5, 3), (2, 3, 4), (1031,), (17, 1, 19))


class Composite(torch.optim.Optimizer):
    """The formula of an optimizer that PyTorch does not have, in its operators."""

    states = ("exp_avg",)
    counts = False

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    if self.counts:
                        state["step"] = torch.tensor(0.0)
                    state.update({name: torch.zeros_like(p) for name in self.states})
                gradient = -p.grad if group["maximize"] else p.grad
                parts = [p, gradient, *(state[name] for name in self.states)]
                if p.is_complex():
                    parts = list(map(torch.view_as_real, parts))
                if self.counts:
                    state["step"] += 1
                self.update(group, state, *parts)


class LionTwin(Composite):
    def update(self, group, state, p, gradient, average):
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        p.mul_(1 - lr * group["weight_decay"])
        p.add_(average.lerp(gradient, 1 - beta1).sign_(), alpha=-lr)
        average.lerp_(gradient, 1 - beta2)


class LAMBTwin(Composite):
    states = ("exp_avg", "exp_avg_sq")
    counts = True

    def update(self, group, state, p, gradient, average, square):
        lr, (beta1, beta2), t = float(group["lr"]), group["betas"], state["step"].item()
        average.lerp_(gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        direction = (average / (1 - beta1**t)).div_(root).add_(p, alpha=group["weight_decay"])
        norm_p, norm_u = torch.linalg.vector_norm(p), torch.linalg.vector_norm(direction)
        ratio = norm_p / norm_u if norm_p > 0 and norm_u > 0 else 1.0
        p.sub_(direction * (ratio * lr))


def torch_twin(name, parameters, **options):
    """The optimizer of torch.optim as a plain loop; for ours alone, their formula in operators."""
    if name in OWN:
        fused = getattr(optim, name)(parameters, **options)
        twin = {"Lion": LionTwin, "LAMB": LAMBTwin}[name]
        return twin(fused.param_groups, fused.defaults)
    if name in ("SGD", "Adam", "AdamW", "Adagrad"):
        options.setdefault("fused", False)
    return getattr(torch.optim, name)(parameters, **{"foreach": False, **options})


def odd_tensors(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [torch.nn.Parameter(tensor.to(dtype)) for tensor in tensors]


def network(dtype=torch.float32, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return torch.nn.Sequential(
            torch.nn.Linear(6, 13), torch.nn.Tanh(), torch.nn.Linear(13, 3)
        ).to(dtype)


def batch(step, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(11, 6, generator=generator, dtype=torch.float64).to(dtype)
    return x, x[:, :3].sin()


def loss_of(model, step):
    x, y = batch(step, next(model.parameters()).dtype)
    return torch.nn.functional.mse_loss(model(x), y)


def give_gradients(step, *lists):
    """The same random gradients to several lists of parameters."""
    generator = torch.Generator().manual_seed(step)
    for twins in zip(*lists, strict=True):
        values = torch.randn(twins[0].shape, generator=generator, dtype=torch.float64)
        for p in twins:
            p.grad = values.to(p.dtype, copy=True)


def train(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        optimizer.step()


def peaks(tensors, before=None):
    """The greatest number in each tensor, now and before: what its errors are relative to."""
    now = [tensor.detach().abs().max().item() if tensor.numel() else 0.0 for tensor in tensors]
    return now if before is None else list(map(max, now, before))


def assert_same(ours, theirs, rtol=None, scales=None):
    theirs = list(theirs)
    for p, q, scale in zip(ours, theirs, scales or peaks(theirs), strict=True):
        if q.numel() == 0:
            continue
        bound = TOLERANCE[q.dtype] if rtol is None else rtol
        error = (p.detach() - q.detach()).abs().max().item()
        assert error <= bound * scale, f"{error / scale:.2e} of {scale:.2e}, shape {tuple(q.shape)}"


def assert_same_state(ours, theirs, rtol=None):
    """Same keys, dtypes and values, parameter by parameter."""
    a, b = ours.state_dict()["state"], theirs.state_dict()["state"]
    assert a.keys() == b.keys()
    for key, entries in b.items():
        assert a[key].keys() == entries.keys()
        for name, value in entries.items():
            assert a[key][name].dtype == value.dtype
            assert a[key][name].shape == value.shape
            assert_same([a[key][name]], [value], rtol or 10 * TOLERANCE[value.dtype])


def pair(name, dtype=torch.float32, **options):
    """A network trained by ours and its twin trained by PyTorch's."""
    a, b = network(dtype), network(dtype)
    ours = getattr(optim, name)(a.parameters(), **copy.deepcopy(options))
    return a, ours, b, torch_twin(name, b.parameters(), **copy.deepcopy(options))
