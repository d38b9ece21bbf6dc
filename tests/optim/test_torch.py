# SPDX-License-Identifier: Apache-2.0
"""fusednn.optim against torch.optim's single-tensor implementations: every option, 100 steps."""

import sys

import numpy as np
import pytest

from fusednn import optim

torch = pytest.importorskip("torch")

STEPS = 100
SHAPES = [(17,), (), (3, 5), (0,), (1,), (4099,)]
DECAYS = [{}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True}]
DECOUPLED = [{"weight_decay": 0.1, "decoupled_weight_decay": True}]
BETAS = {"betas": (0.8, 0.95), "eps": 1e-4}
CASES = [
    (name, {**options, **riding})
    for name, sets, ridings in [
        (
            "SGD",
            [
                {"lr": 0.1},
                {"lr": 0.1, "momentum": 0.9},
                {"lr": 0.1, "momentum": 0.9, "dampening": 0.4},
                {"lr": 0.03, "momentum": 0.8, "nesterov": True},
            ],
            DECAYS,
        ),
        (
            "Adam",
            [{"lr": 0.01}, {"lr": 0.1, **BETAS}, {"lr": 0.1, "amsgrad": True, **BETAS}],
            DECAYS + DECOUPLED,
        ),
        ("Adam", [{"betas": (0.0, 0.5), "eps": 0.0}], [{}]),
        ("AdamW", [{}, {"lr": 0.1, "amsgrad": True}], DECAYS),
        ("Adamax", [{"lr": 0.01}, {"lr": 0.1, **BETAS}], DECAYS),
        ("NAdam", [{}, {"lr": 0.1, "momentum_decay": 0.5, **BETAS}], DECAYS + DECOUPLED),
        ("RAdam", [{"lr": 0.01}, {"lr": 0.1, **BETAS}], DECAYS + DECOUPLED),
        (
            "Adagrad",
            [{"lr": 0.1}, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}],
            DECAYS,
        ),
        ("Adadelta", [{}, {"lr": 0.5, "rho": 0.95, "eps": 1e-3}], DECAYS),
        (
            "RMSprop",
            [
                {},
                {"alpha": 0.9, "eps": 1e-3},
                {"momentum": 0.9},
                {"centered": True, "eps": 1e-3},
                {"centered": True, "momentum": 0.5, "eps": 1e-3},
            ],
            DECAYS,
        ),
    ]
    for options in sets
    for riding in ridings
]


def gradients_of(rng, dtype, step):
    """Of changing size, so that every maximum and root matters."""
    return [np.asarray(rng.standard_normal(shape) * (0.05 + step % 7)).astype(dtype)
            for shape in SHAPES]  # fmt: skip


def twins(name, options, dtype, rng):
    ours = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
    theirs = [torch.tensor(p) for p in ours]
    rival = getattr(torch.optim, name)(theirs, **options, foreach=False)
    return ours, getattr(optim, name)(ours, **options), theirs, rival


def rival_step(theirs, rival, gradients):
    for tensor, g in zip(theirs, gradients, strict=True):
        tensor.grad = None if g is None else torch.tensor(g)
    rival.step()


class Comparison:
    """Differences relative to the largest number that a tensor has held: one that crosses zero
    has no digits left to compare."""

    def __init__(self, ours, opt, theirs, rival):
        self.pairs = lambda: [
            pair
            for i, tensor in enumerate(theirs)
            for pair in [
                (f"parameter {i}", ours[i], tensor.numpy()),
                *(
                    (f"{name} {i}", opt.state[i][name], value.numpy())
                    for name, value in rival.state[tensor].items()
                    if value is not None
                ),
            ]
        ]
        self.scale = {}

    def look(self):
        for what, _, want in self.pairs():
            largest = np.abs(want).max(initial=1e-30)
            self.scale[what] = max(largest, self.scale.get(what, 0))

    def check(self, dtype):
        for what, got, want in self.pairs():
            assert got.dtype == want.dtype, what
            assert got.shape == want.shape, what
            close = (1e-6 if dtype == np.float32 else 1e-12) * self.scale[what]
            np.testing.assert_allclose(got, want, rtol=0, atol=close, err_msg=what)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_is_torchs(name, options, dtype, rng):
    ours, opt, theirs, rival = twins(name, options, dtype, rng)
    comparison = Comparison(ours, opt, theirs, rival)
    for step in range(STEPS):
        gradients = gradients_of(rng, dtype, step)
        if step % 10 == 3:
            gradients[step % 4] = None
        if step == 60:
            opt.param_groups[0]["lr"] = rival.param_groups[0]["lr"] = opt.defaults["lr"] / 3
        rival_step(theirs, rival, gradients)
        opt.step(gradients)
        comparison.look()
    comparison.check(dtype)


def test_defaults_are_torchs():
    p = [torch.zeros(1)]
    for name in ("SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "Adagrad", "Adadelta",
                 "RMSprop"):  # fmt: skip
        theirs = getattr(torch.optim, name)(p).defaults
        ours = getattr(optim, name)([np.zeros(1)]).defaults
        for key, value in ours.items():
            own = ("decoupled_weight_decay", "stochastic_rounding", "seed")
            if key not in own or key in theirs:
                assert theirs[key] == value, (name, key)
        unknown = set(theirs) - set(ours) - {"foreach", "fused", "capturable", "differentiable"}
        assert not unknown, name


@pytest.mark.parametrize(("name", "options"), [*CASES[::7], ("SGD", {"momentum": 0.9})])
def test_state_dict_both_ways(name, options, dtype, rng):
    """Half the way with one, then each goes on with the state of the other."""
    ours, opt, theirs, rival = twins(name, options, dtype, rng)
    for step in range(20):
        gradients = gradients_of(rng, dtype, step)
        rival_step(theirs, rival, gradients)
        opt.step(gradients)
    state = opt.state_dict()
    tensors = {
        i: {k: torch.tensor(v, dtype=torch.float32 if k in ("step", "mu_product") else None)
            for k, v in entry.items()}
        for i, entry in state["state"].items()
    }  # fmt: skip
    from_torch = rival.state_dict()
    fresh_ours = getattr(optim, name)(ours)
    fresh_ours.load_state_dict(from_torch)
    fresh_theirs = getattr(torch.optim, name)(theirs, foreach=False)
    groups = [{**from_torch["param_groups"][0], **state["param_groups"][0]}]
    fresh_theirs.load_state_dict({"state": tensors, "param_groups": groups})
    comparison = Comparison(ours, fresh_ours, theirs, fresh_theirs)
    for step in range(20):
        gradients = gradients_of(rng, dtype, step)
        rival_step(theirs, fresh_theirs, gradients)
        fresh_ours.step(gradients)
        comparison.look()
    for tensor in theirs:
        fresh_theirs.state[tensor].pop("mu_product", None)  # load_state_dict made it float64
        if name == "SGD":
            fresh_theirs.state[tensor].pop("step")  # which it does not count
    comparison.check(dtype)


@pytest.mark.parametrize("size", [1e25, 3e38, 1e-30, 1e-45])
@pytest.mark.parametrize(("name", "options"), CASES[::5])
def test_huge_and_tiny_gradients(name, options, size, rng):
    """Squares overflow and underflow as they do there."""
    dtype = np.dtype(np.float32)
    ours, opt, theirs, rival = twins(name, options, dtype, rng)
    for sign in (1, -1, 1):
        gradients = [np.full(shape, sign * size, dtype) for shape in SHAPES]
        rival_step(theirs, rival, gradients)
        with np.errstate(over="ignore"):
            opt.step(gradients)
    for p, tensor in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p, tensor.numpy(), rtol=2e-6, atol=1e-6)


def test_clipping_is_torchs(dtype, rng):
    ours, opt, theirs, rival = twins("Adam", {"lr": 0.1}, dtype, rng)
    opt.max_norm = 3.0
    comparison = Comparison(ours, opt, theirs, rival)
    for step in range(20):
        gradients = gradients_of(rng, dtype, step)
        for tensor, g in zip(theirs, gradients, strict=True):
            tensor.grad = torch.tensor(g)
        want = torch.nn.utils.clip_grad_norm_(theirs, 3.0)
        rival.step()
        np.testing.assert_allclose(opt.step(gradients), float(want), rtol=1e-6)
        comparison.look()
    comparison.check(dtype)


def test_torch_tensors_in_place(rng):
    p, g = torch.ones(5), torch.full((5,), 2.0)
    optim.SGD([p], lr=0.25).step([g])
    assert p.tolist() == [0.5] * 5
    transposed = torch.ones(3, 2).t()
    optim.SGD([transposed], lr=0.25).step([torch.arange(6.0).reshape(2, 3)])
    np.testing.assert_array_equal(transposed, 1 - 0.25 * np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match=r"parameters\[0\].*require gradient"):
        optim.SGD([torch.ones(3, requires_grad=True)])
    with pytest.raises(ValueError, match="without gaps or repetition"):
        optim.SGD([torch.ones(1).expand(3)])


def test_bfloat16_tensors_in_place(monkeypatch):
    narrow = torch.ones(3, dtype=torch.bfloat16)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ml_dtypes", None)
        with pytest.raises(TypeError, match="no bfloat16 of its own; pip install ml_dtypes"):
            optim.SGD([narrow], lr=0.25)
    pytest.importorskip("ml_dtypes")
    optim.SGD([narrow], lr=0.25).step([torch.ones(3, dtype=torch.bfloat16)])
    assert narrow.tolist() == [0.75] * 3
