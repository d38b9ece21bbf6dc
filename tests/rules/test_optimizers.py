# SPDX-License-Identifier: Apache-2.0
"""Every optimizer against the oracle and torch.optim, and all that rides along with a step."""

import numpy as np
import pytest

import oracle
from fusednn import _core, ops
from rivals import torch_in_double

# Name of the rule here -> name in the oracle, and what is fixed there.
ORACLE = {
    "momentum": ("sgd", {"momentum": 0.9}),
    "rmsprop_momentum": ("rmsprop", {"momentum": 0.9}),
    "rmsprop_centered": ("rmsprop", {"centered": True}),
    "rmsprop_centered_momentum": ("rmsprop", {"centered": True, "momentum": 0.9}),
    "amsgrad": ("adam", {"amsgrad": True}),
}
TORCH = {
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "rmsprop": "RMSprop",
    "adadelta": "Adadelta",
    "adam": "Adam",
    "adamax": "Adamax",
    "nadam": "NAdam",
    "radam": "RAdam",
}
ADAM_LIKE = ("adam", "amsgrad", "adamax", "nadam", "radam", "lamb")
HYPER = {
    "sgd": [{"lr": 0.1}, {"lr": 0.03}],
    "momentum": [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.5},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    ],
    "adagrad": [
        {"lr": 0.1},
        {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 1e-3},
    ],
    "rmsprop": [{}, {"lr": 0.05, "alpha": 0.9, "eps": 1e-3}],
    "rmsprop_momentum": [{}, {"lr": 0.05, "alpha": 0.8, "momentum": 0.5, "eps": 1e-4}],
    "rmsprop_centered": [{"eps": 1e-3}, {"lr": 0.05, "alpha": 0.9, "eps": 1e-2}],
    "rmsprop_centered_momentum": [{"eps": 1e-3}, {"alpha": 0.8, "momentum": 0.5, "eps": 1e-2}],
    "adadelta": [{}, {"lr": 0.5, "rho": 0.95, "eps": 1e-3}],
    "lion": [{"lr": 0.01}, {"lr": 0.01, "beta1": 0.5, "beta2": 0.8}],
    **{
        name: [{"lr": 0.01}, {"lr": 0.1, "beta1": 0.8, "beta2": 0.9, "eps": 1e-3}]
        for name in ADAM_LIKE
    },
}
HYPER["momentum"].append({"lr": 0.1, "momentum": 0.9, "dampening": 0.4})
HYPER["nadam"].append({"lr": 0.1, "momentum_decay": 0.5})
CASES = [(name, hyper) for name, sets in HYPER.items() for hyper in sets]
SHAPES = [(17,), (), (3, 5), (0,), (4099,)]
STEPS = 50


def torch_names(hyper):
    """Two betas become a pair, a number becomes a flag."""
    hyper = dict(hyper)
    if "beta1" in hyper:
        hyper["betas"] = (hyper.pop("beta1"), hyper.pop("beta2"))
    if "nesterov" in hyper:
        hyper["nesterov"] = bool(hyper["nesterov"])
    return hyper


def reference(name, convention, hyper):
    """The oracle's optimizer with exactly the hyper-parameters that the rule has."""
    about = _core.optimizers()[name]["parameters"]
    known = {key: default for key, (default, _, _) in about.items()}
    theirs, fixed = ORACLE.get(name, (name, {}))
    hyper = {**fixed, **torch_names({**known, **hyper})}
    if convention == "textbook" and theirs == "sgd":
        hyper.pop("dampening", None)
    if convention == "keras":
        hyper.pop("momentum_decay", None)
    return oracle.OPTIMIZERS[theirs](convention=convention, **hyper)


def problem(rng, dtype, steps=STEPS):
    """Parameters, and gradients of changing size so that every maximum and root matters."""
    parameters = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
    scales = rng.uniform(0.05, 3, steps)
    gradients = [
        [np.asarray(scale * rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
        for scale in scales
    ]
    return parameters, gradients


def tolerance_after(dtype):
    close = 1e-5 if dtype == np.float32 else 1e-10
    return {"rtol": close, "atol": close}


def assert_same_path(name, hyper, convention, dtype, rng, prepare=None, steps=STEPS, **riding):
    """Both walk side by side; the oracle's optimizer is first told what rides along."""
    parameters, gradients = problem(rng, dtype, steps)
    if riding.get("l1"):  # whose sign would turn with the last digit of a parameter near zero
        parameters = [np.asarray(p + np.copysign(dtype.type(5), p)) for p in parameters]
    state = ops.init_optimizer_state(name, parameters, convention=convention, **hyper)
    wide = [p.astype(np.float64) for p in parameters]
    rivals = [reference(name, convention, hyper) for _ in parameters]
    ahead = convention == "textbook" and hyper.get("nesterov")
    lr = rivals[0].hyper.lr
    for step, now in enumerate(gradients, 1):
        # A changing rate tells a rate inside a buffer from one outside it. (Where p is the point
        # ahead, by the rate of that step, it would jump.)
        if step == 21 and not ahead:
            lr *= 0.7
        ops.optimizer_step(
            name,
            parameters,
            now,
            state,
            step=step,
            convention=convention,
            **{**hyper, "lr": lr},
            **riding,
        )
        now = [g.astype(np.float64) for g in now]
        if prepare is not None:
            now = prepare(rivals, now)
        for i, rival in enumerate(rivals):
            rival.hyper.lr = lr
            wide[i] = rival.step(wide[i], now[i])
    for p, w, rival in zip(parameters, wide, rivals, strict=True):
        want = rival.lookahead(w) if ahead else w
        np.testing.assert_allclose(p, want, **tolerance_after(dtype))
    for slot in _core.optimizers()[name]["states"]:
        for ours, rival in zip(state[slot], rivals, strict=True):
            np.testing.assert_allclose(ours, rival.state[slot], **tolerance_after(dtype))


def exists(name, hyper, convention):
    """Whether the convention has this: Keras has no RAdam, and dampening is torch's alone."""
    if name == "radam" and convention == "keras":
        return False
    return "dampening" not in hyper or convention == "torch"


@pytest.mark.parametrize(
    ("name", "hyper", "convention"),
    [(*case, convention) for case in CASES for convention in oracle.CONVENTIONS
     if exists(*case, convention)],
)  # fmt: skip
def test_is_the_oracles(name, hyper, convention, dtype, isa, rng):
    assert_same_path(name, hyper, convention, dtype, rng)


# The oracle's Lion only knows decoupled decay, as the paper does.
@pytest.mark.parametrize(
    ("name", "rides"),
    [(name, rides) for name in ("sgd", "momentum", "adam", "lion", "lamb")
     for rides in ("weight_decay", "decoupled", "l1", "maximize", "all")
     if (name, rides) != ("lion", "weight_decay")],
)  # fmt: skip
def test_decay_and_maximize(name, rides, dtype, isa, rng):
    riding = {
        "weight_decay": {"weight_decay": 0.1},
        "decoupled": {"weight_decay": 0.1, "decoupled": True},
        "l1": {"l1": 0.05},
        "maximize": {"maximize": True},
        "all": {"weight_decay": 0.1, "decoupled": True, "l1": 0.05, "maximize": True},
    }[rides]

    def prepare(rivals, gradients):
        for rival in rivals:
            rival.hyper.weight_decay = riding.get("weight_decay", 0)
            rival.hyper.decoupled_weight_decay = riding.get("decoupled", False)
            rival.hyper.l1 = riding.get("l1", 0)
            rival.hyper.maximize = riding.get("maximize", False)
        return gradients

    assert_same_path(name, {"lr": 0.01}, "torch", dtype, rng, prepare, **riding)


@pytest.mark.parametrize("limit", ["clip_value", "clip_norm", "global_clip_norm"])
@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_clipping(name, limit, dtype, isa, rng):
    theirs = {"global_clip_norm": "clip_global_norm"}.get(limit, limit)

    def prepare(rivals, gradients):
        zeros = [np.zeros_like(g) for g in gradients]
        return oracle.decorate_gradients(zeros, gradients, **{theirs: 0.7})

    assert_same_path(name, {"lr": 0.05}, "torch", dtype, rng, prepare, **{limit: 0.7})


def test_moving_average_and_cleared_gradient(dtype, isa, rng):
    parameters, gradients = problem(rng, dtype, steps=20)
    state = ops.init_optimizer_state("sgd", parameters, ema=0.9)
    averages = [p.astype(np.float64) for p in parameters]
    for step, now in enumerate(gradients, 1):
        ops.optimizer_step(
            "sgd", parameters, now, state, step=step, lr=0.1, ema=0.9, clear_gradient=True
        )
        assert not any(g.any() for g in now)
        averages = [oracle.ema(a, p, 0.9) for a, p in zip(averages, parameters, strict=True)]
    for ours, want in zip(state["ema"], averages, strict=True):
        np.testing.assert_allclose(ours, want, **tolerance_after(dtype))


TORCH_CASES = [
    (name, hyper, {}) for name, hyper in CASES if ORACLE.get(name, (name,))[0] in TORCH
] + [
    ("momentum", {"lr": 0.1, "nesterov": True}, {"weight_decay": 0.1, "maximize": True}),
    ("adagrad", {"lr": 0.1}, {"weight_decay": 0.1, "maximize": True}),
    ("rmsprop_momentum", {"alpha": 0.9}, {"weight_decay": 0.01}),
    ("adadelta", {}, {"weight_decay": 0.1}),
    ("adam", {"lr": 0.01}, {"weight_decay": 0.1}),
    ("adam", {"lr": 0.01}, {"weight_decay": 0.1, "decoupled": True}),
    ("amsgrad", {"lr": 0.1, "beta1": 0.9, "beta2": 0.6}, {"maximize": True}),
    ("adamax", {"lr": 0.1}, {"weight_decay": 0.1}),
    ("nadam", {"lr": 0.1}, {"weight_decay": 0.1, "decoupled": True}),
    ("radam", {"lr": 0.1}, {"weight_decay": 0.1, "decoupled": True}),
]


@pytest.mark.parametrize(("name", "hyper", "riding"), TORCH_CASES)
def test_is_torchs(name, hyper, riding, dtype, rng):
    theirs, fixed = ORACLE.get(name, (name, {}))
    options = {**fixed, **torch_names(hyper), **riding}
    if options.pop("decoupled", False):
        options["decoupled_weight_decay"] = True
    with torch_in_double() as torch:
        ours, gradients = problem(rng, dtype)
        tensors = [torch.tensor(p) for p in ours]
        rival = getattr(torch.optim, TORCH[theirs])(tensors, **options)
        state = ops.init_optimizer_state(name, ours, **hyper)
        lr = rival.param_groups[0]["lr"]
        for step, now in enumerate(gradients, 1):
            lr *= 0.7 if step == 21 else 1
            rival.param_groups[0]["lr"] = lr
            for tensor, g in zip(tensors, now, strict=True):
                tensor.grad = torch.tensor(g)
            rival.step()
            ops.optimizer_step(name, ours, now, state, step=step, **{**hyper, "lr": lr}, **riding)
        for p, tensor in zip(ours, tensors, strict=True):
            np.testing.assert_allclose(p, tensor.numpy(), **tolerance_after(dtype))
        for slot in _core.optimizers()[name]["states"]:
            for mine, tensor in zip(state[slot], tensors, strict=True):
                want = rival.state[tensor][slot].numpy()
                np.testing.assert_allclose(mine, want, **tolerance_after(dtype))


def test_defaults_are_torchs():
    torch = pytest.importorskip("torch")
    for name, about in _core.optimizers().items():
        theirs = TORCH.get(ORACLE.get(name, (name,))[0])
        if theirs is None:
            continue
        defaults = dict(getattr(torch.optim, theirs)([torch.zeros(1)]).defaults)
        if "betas" in defaults:
            defaults["beta1"], defaults["beta2"] = defaults["betas"]
        for key, (default, _, _) in about["parameters"].items():
            if key != "momentum":  # a rule of its own here
                assert default == defaults[key], (name, key)


# ---- edges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(HYPER))
def test_no_gradient_no_nan(name, dtype, isa):
    p = np.array([1.0, -2.0, 0.0], dtype)
    for convention in oracle.CONVENTIONS:
        state = ops.init_optimizer_state(name, [p], convention=convention)
        for step in (1, 2, 3):
            ops.optimizer_step(
                name, [p], [np.zeros_like(p)], state, step=step, convention=convention
            )
        np.testing.assert_array_equal(p, [1, -2, 0])


@pytest.mark.parametrize("name", sorted(HYPER))
def test_nan_shows_where_it_is(name, dtype, isa):
    p, g = np.ones(9, dtype), np.full(9, 0.5, dtype)
    g[3] = np.nan
    ops.optimizer_step(name, [p], [g], ops.init_optimizer_state(name, [p]), step=1)
    bad = np.isnan(p)
    assert bad[3]
    # LAMB looks at the norm of the whole tensor.
    assert bad.all() if name == "lamb" else bad.sum() == 1


@pytest.mark.parametrize("limit", ["clip_norm", "global_clip_norm"])
def test_an_infinite_norm_is_not_hidden(limit, dtype, isa):
    p, g = np.ones(3, dtype), np.array([1, np.inf, 1], dtype)
    ops.optimizer_step("sgd", [p], [g], {"memory": np.zeros(0)}, step=1, **{limit: 1.0})
    assert np.isnan(p).all()


@pytest.mark.parametrize("name", ["adam", "lamb", "rmsprop_centered_momentum"])
def test_same_bits_for_any_number_of_threads(name, dtype, isa, rng):
    before = _core.num_threads()
    start = [rng.standard_normal(n).astype(dtype) for n in (300_001, 70_000, 3)]
    gradients = [rng.standard_normal(p.size).astype(dtype) for p in start]
    results = []
    for n in (1, 2, 4):
        _core.set_num_threads(n)
        try:
            p = [a.copy() for a in start]
            state = ops.init_optimizer_state(name, p)
            for step in (1, 2):
                ops.optimizer_step(name, p, gradients, state, step=step, global_clip_norm=1.0)
        finally:
            _core.set_num_threads(before)
        results.append(b"".join(a.tobytes() for a in p))
    assert results[0] == results[1] == results[2]
