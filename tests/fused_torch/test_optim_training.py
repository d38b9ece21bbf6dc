# SPDX-License-Identifier: Apache-2.0
"""What surrounds an optimizer in PyTorch: schedulers, scaler, hooks, closures, compiler."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("torch")

import torch
from torch.optim import lr_scheduler
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from fusednn.torch import optim
from twins import (
    NAMES,
    OWN,
    assert_same,
    batch,
    give_gradients,
    loss_of,
    network,
    odd_tensors,
    pair,
    torch_twin,
    train,
)

SCHEDULERS = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.9),
    "step": lambda o: lr_scheduler.StepLR(o, 3),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [2, 5]),
    "constant": lambda o: lr_scheduler.ConstantLR(o, 0.5, 4),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 5),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, 8, 2),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 1e-2, 3, cycle_momentum=False),
    "cyclic momentum": lambda o: lr_scheduler.CyclicLR(
        o, 1e-3, 1e-2, 3, cycle_momentum="momentum" in o.defaults
    ),
    "one_cycle": lambda o: lr_scheduler.OneCycleLR(o, 1e-2, total_steps=20),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.5, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "swa": lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=4),
}


def test_all_schedulers_of_pytorch_are_there():
    known = {type(make(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)))
             for make in SCHEDULERS.values()}  # fmt: skip
    names = {each.__name__ for each in known}
    assert set(lr_scheduler.__all__) - {"LRScheduler"} <= names


@pytest.mark.parametrize("name", [n for n in (*NAMES, *OWN) if n not in ("SGD", "Adam")])
def test_a_schedule_with_every_optimizer(name):
    run_schedule(name, "cosine", 0.01)


@pytest.mark.parametrize("tensor_lr", [False, True], ids=["float", "tensor"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_schedulers(name, scheduler, tensor_lr):
    lr = torch.tensor(0.01, dtype=torch.float64) if tensor_lr else 0.01
    run_schedule(name, scheduler, lr, **({"momentum": 0.9} if name == "SGD" else {}))


def run_schedule(name, scheduler, lr, **options):
    a, ours, b, theirs = pair(name, torch.float64, lr=lr, **options)
    for model, optimizer in ((a, ours), (b, theirs)):
        schedule = SCHEDULERS[scheduler](optimizer)
        for step in range(12):
            train(model, optimizer, 1, first=step)
            if scheduler == "plateau":
                schedule.step(1.0)
            else:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "The epoch parameter", UserWarning)
                    schedule.step()
    assert float(ours.param_groups[0]["lr"]) == float(theirs.param_groups[0]["lr"])
    assert_same(a.parameters(), b.parameters(), 1e-11)


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_tensor_changed_in_place_is_read_again(name):
    a, ours, b, theirs = pair(name, torch.float64, lr=torch.tensor(0.01, dtype=torch.float64))
    for optimizer, model in ((ours, a), (theirs, b)):
        if name == "Adam":
            betas = (torch.tensor(0.5).double(), torch.tensor(0.9).double())
            optimizer.param_groups[0]["betas"] = betas
        train(model, optimizer, 2)
        optimizer.param_groups[0]["lr"].fill_(0.1)
        if name == "Adam":
            betas[0].fill_(0.75)
        train(model, optimizer, 2, first=2)
    assert_same(a.parameters(), b.parameters(), 1e-11)


# ---- GradScaler ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unscale", [False, True], ids=["inside", "unscale_ first"])
@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_gradients_with_an_infinity_change_nothing(name, unscale):
    models = []
    for fused in (True, False):
        model = network(torch.float64)
        if fused:
            optimizer = getattr(optim, name)(model.parameters())
        else:
            optimizer = torch_twin(name, model.parameters())
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        for step in range(8):
            optimizer.zero_grad()
            scaler.scale(loss_of(model, step)).backward()
            if step == 4:
                model[0].weight.grad[1, 2] = torch.inf
                before = [p.detach().clone() for p in model.parameters()]
                steps = [s["step"].item() for s in optimizer.state.values() if "step" in s]
            if unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            if step == 4:
                pairs = zip(before, model.parameters(), strict=True)
                assert all(torch.equal(p, q) for p, q in pairs)
                after = [s["step"].item() for s in optimizer.state.values() if "step" in s]
                assert steps == after
        assert scaler.get_scale() == 2.0**11  # doubled, halved, doubled
        assert not hasattr(optimizer, "grad_scale")
        models.append(model)
    assert_same(models[0].parameters(), models[1].parameters(), 1e-11)


def test_scaled_gradients_are_limited_after_unscaling():
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)
    ours, theirs = optim.SGD(a, lr=0.1, max_norm=0.5), torch.optim.SGD(b, lr=0.1)
    give_gradients(0, a, b)
    norm = torch.nn.utils.clip_grad_norm_(b, 0.5)
    theirs.step()
    for p in a:
        p.grad.mul_(64)
    ours.grad_scale, ours.found_inf = torch.tensor(64.0), torch.tensor(0.0)
    ours.step()
    assert_same(a, b)
    assert ours.gradient_norm == pytest.approx(norm.item(), rel=1e-12)


# ---- calls ---------------------------------------------------------------------------------------


def test_closures_run_with_gradients_enabled():
    a, ours, b, theirs = pair("Adam", torch.float64)
    losses = []
    for model, optimizer in ((a, ours), (b, theirs)):

        def closure(model=model, optimizer=optimizer):
            assert torch.is_grad_enabled()
            optimizer.zero_grad()
            loss = loss_of(model, 0)
            loss.backward()
            return loss

        with torch.no_grad():
            losses.append([optimizer.step(closure).item() for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    assert_same(a.parameters(), b.parameters())
    assert ours.step() is None


def test_hooks_of_the_instance_and_of_all():
    model = network()
    optimizer = optim.Adam(model.parameters())
    calls = []
    handles = [
        optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre")),
        optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("post")),
        register_optimizer_step_pre_hook(lambda o, args, kwargs: calls.append("all pre")),
        register_optimizer_step_post_hook(lambda o, args, kwargs: calls.append("all post")),
    ]
    try:
        train(model, optimizer, 1)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == ["all pre", "pre", "post", "all post"]
    train(model, optimizer, 1)
    assert len(calls) == 4
    assert "step" not in vars(optimizer)
    assert type(optimizer).step.hooked


def test_hooks_may_change_the_arguments():
    model = network()
    optimizer = optim.Adam(model.parameters())
    handle = optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 5.0), {}))
    assert optimizer.step() == 5.0
    handle.remove()
    optimizer.register_step_pre_hook(lambda o, args, kwargs: "nonsense")
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_hooks_around_state_dicts():
    model = network()
    optimizer = optim.Adam(model.parameters(), ema=0.5)
    train(model, optimizer, 1)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("save"))
    optimizer.register_load_state_dict_pre_hook(lambda o, s: calls.append("load"))
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["save", "load", "loaded"]
    assert all(type(s["ema"]) is torch.Tensor for s in optimizer.state.values())


def test_the_profiler_sees_what_the_optimizer_does():
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 1)
    with torch.autograd.profiler.profile() as profile:
        train(model, optimizer, 1)
    seen = {event.name for event in profile.function_events}
    assert {"Optimizer.step#Adam.step", "Optimizer.zero_grad#Adam.zero_grad"} <= seen


def test_steps_in_backward():
    model = network()
    optimizers = {p: optim.SGD([p], lr=0.1) for p in model.parameters()}
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
    before = [p.detach().clone() for p in model.parameters()]
    loss_of(model, 0).backward()
    for p, old in zip(model.parameters(), before, strict=True):
        assert torch.allclose(p, old - 0.1 * p.grad)


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad(set_to_none):
    model = network()
    optimizer = optim.SGD(model.parameters(), foreach=True)
    train(model, optimizer, 1)
    optimizer.zero_grad(set_to_none=set_to_none)
    for p in model.parameters():
        assert p.grad is None if set_to_none else not p.grad.any()


def test_parameters_without_gradients_are_left_alone():
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)
    ours, theirs = optim.Adam(a, lr=0.01), torch_twin("Adam", b, lr=0.01)
    for step in range(12):
        give_gradients(step, a, b)
        for i in range(len(a)):
            if (i + step) % 3 == 0 or step < i:
                a[i].grad = b[i].grad = None
        ours.step()
        theirs.step()
    assert_same(a, b)
    steps = [s["step"].item() for s in ours.state.values()]
    assert steps == [s["step"].item() for s in theirs.state.values()]
    assert len(set(steps)) > 1


def test_a_steady_step_looks_at_nothing_anew():
    model = network()
    optimizer = optim.Adam(model.parameters())
    train(model, optimizer, 2)
    plan = optimizer._plan
    train(model, optimizer, 5)
    optimizer.zero_grad(set_to_none=False)
    train(model, optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.param_groups[0]["betas"] = (0.5, 0.5)
    optimizer.step()
    assert optimizer._plan is plan


def test_version_counters_tell_autograd():
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = optim.SGD([p], lr=0.1)
    p.grad = torch.ones(3)
    loss = (p * p).sum()
    version = p._version
    optimizer.step()
    assert p._version == version + 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_version_counters_tell_a_compiled_model():
    model, optimizer, _, _ = pair("Adam")
    compiled = torch.compile(model, backend="aot_eager")
    loss = compiled(batch(0)[0]).sum()
    train(model, optimizer, 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    torch._dynamo.reset()


@pytest.mark.parametrize("what", ["model", "step"])
def test_torch_compile(what):
    a, ours, b, theirs = pair("Adam", torch.float64)
    compiled = torch.compile(a, backend="aot_eager") if what == "model" else a

    def one_step(x, y):
        ours.zero_grad()
        torch.nn.functional.mse_loss(compiled(x), y).backward()
        ours.step()

    run = torch.compile(one_step, backend="aot_eager") if what == "step" else one_step
    for step in range(4):
        run(*batch(step, torch.float64))
    train(b, theirs, 4)
    assert_same(a.parameters(), b.parameters(), 1e-11)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", [*NAMES, *OWN])
@pytest.mark.parametrize("kind", ["equal", "fading"])
def test_averaged_models_and_their_schedule(kind, name):
    swa = torch.optim.swa_utils
    options = {"multi_avg_fn": swa.get_ema_multi_avg_fn(0.9)} if kind == "fading" else {}
    results = []
    a, ours, b, theirs = pair(name, torch.float64)
    for model, optimizer in ((a, ours), (b, theirs)):
        average = swa.AveragedModel(model, **options)
        schedule = swa.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)
        for step in range(6):
            train(model, optimizer, 1, first=step)
            average.update_parameters(model)
            schedule.step()
        results.append(average)
    assert_same(results[0].parameters(), results[1].parameters(), 1e-11)


# ---- our own keywords ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, *OWN])
def test_max_norm_is_clip_grad_norm(name):
    a, b = odd_tensors(torch.float64), odd_tensors(torch.float64)
    ours = getattr(optim, name)(
        [{"params": a[:3]}, {"params": a[3:], "lr": 0.1}], lr=0.01, max_norm=0.7
    )
    theirs = torch_twin(name, [{"params": b[:3]}, {"params": b[3:], "lr": 0.1}], lr=0.01)
    for step in range(5):
        give_gradients(step, a, b)
        norm = torch.nn.utils.clip_grad_norm_(b, 0.7)
        ours.step()
        theirs.step()
        assert ours.gradient_norm == pytest.approx(norm.item(), rel=1e-12)
    assert_same(a, b)


def test_max_norm_over_several_dtypes():
    def tensors():
        return [*odd_tensors(torch.float64), *odd_tensors(torch.float32, seed=1)]

    a, b = tensors(), tensors()
    ours, theirs = optim.SGD(a, lr=0.1, max_norm=0.5), torch.optim.SGD(b, lr=0.1)
    for step in range(3):
        give_gradients(step, a, b)
        norm = torch.nn.utils.clip_grad_norm_(b, 0.5, foreach=False)
        ours.step()
        theirs.step()
        assert ours.gradient_norm == pytest.approx(norm.item(), rel=1e-6)
    assert_same(a, b, 1e-6)


def test_max_norm_must_be_one_number():
    p, q = odd_tensors()[3:5]
    optimizer = optim.SGD([{"params": [p]}, {"params": [q], "max_norm": 2.0}], max_norm=1.0)
    give_gradients(0, [p, q])
    with pytest.raises(ValueError, match="the same in all groups"):
        optimizer.step()


@pytest.mark.parametrize("name", ["SGD", "Adam", "Lion"])
def test_moving_averages(name):
    model = network(torch.float64)
    optimizer = getattr(optim, name)(model.parameters(), lr=0.01, ema=0.9)
    expected = [p.detach().clone() for p in model.parameters()]
    for step in range(5):
        train(model, optimizer, 1, first=step)
        for average, p in zip(expected, model.parameters(), strict=True):
            average.mul_(0.9).add_(p.detach(), alpha=0.1)
    own = [p.detach().clone() for p in model.parameters()]
    with optimizer.averaged_parameters():
        assert_same(model.parameters(), expected)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), own, strict=True))
    other = network(torch.float64, seed=9)
    optimizer.copy_ema_to(other.parameters())
    assert_same(other.parameters(), expected)
    with pytest.raises(ValueError, match="parameters: got 1, expected 4"):
        optimizer.copy_ema_to([torch.zeros(3)])


def test_moving_averages_survive_files():
    model = network()
    optimizer = optim.Adam(model.parameters(), ema=0.9)
    train(model, optimizer, 3)
    saved = optimizer.state_dict()
    other = optim.Adam(network().parameters(), ema=0.9)
    other.load_state_dict(saved)
    for mine, given in zip(other.state.values(), saved["state"].values(), strict=True):
        assert torch.equal(mine["ema"], given["ema"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_norm": -1.0}, ValueError, "max_norm=-1.0 must be"),
        ({"max_norm": "a"}, ValueError, "max_norm='a' must be"),
        ({"ema": 1.0}, ValueError, "ema=1.0 must be"),
        ({"ema": 0}, ValueError, "ema=0 must be"),
        ({"master_weights": 1}, TypeError, "master_weights=1 must be"),
        ({"differentiable": True}, RuntimeError, "differentiable=True: .* autograd"),
        ({"lr": -1.0}, ValueError, "Invalid learning rate"),
        ({"betas": (1.0, 0.9)}, ValueError, "Invalid beta parameter at index 0"),
    ],
)
@pytest.mark.parametrize("name", ["Adam", "Adamax", "LAMB", "Lion"])
def test_refused_options(name, options, error, message):
    with pytest.raises(error, match=message):
        getattr(optim, name)(odd_tensors(), **options)


@pytest.mark.parametrize("name", ["Adam", "LAMB", "Lion"])
def test_options_of_a_group_are_refused_as_well(name):
    p, q = odd_tensors()[3:5]
    optimizer = getattr(optim, name)([p])
    with pytest.raises(RuntimeError, match="differentiable=True"):
        optimizer.add_param_group({"params": [q], "differentiable": True})
    assert len(optimizer.param_groups) == 1
