# SPDX-License-Identifier: Apache-2.0
"""The oracle's optimizers against torch.optim, Keras and steps taken by hand."""

import numpy as np
import pytest

import oracle
from rivals import keras_in_double, torch_in_double


@pytest.fixture
def torch():
    with torch_in_double() as module:
        yield module


@pytest.fixture
def keras():
    with keras_in_double() as module:
        yield module


TORCH_CASES = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    ("sgd", "SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
    ("adagrad", "Adagrad", {}),
    ("adagrad", "Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    ("adagrad", "Adagrad", {"lr": 0.1, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop", "RMSprop", {"momentum": 0.9, "alpha": 0.9, "weight_decay": 0.01}),
    ("rmsprop", "RMSprop", {"centered": True, "eps": 1e-3, "maximize": True}),
    ("rmsprop", "RMSprop", {"centered": True, "momentum": 0.5, "alpha": 0.8, "eps": 1e-4}),
    ("adadelta", "Adadelta", {}),
    ("adadelta", "Adadelta", {"lr": 0.5, "rho": 0.95, "eps": 1e-3, "weight_decay": 0.1}),
    ("adam", "Adam", {}),
    ("adam", "Adam", {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("adam", "Adam", {"lr": 0.01, "betas": (0.9, 0.6), "amsgrad": True, "maximize": True}),
    ("adam", "Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("adamw", "AdamW", {}),
    ("adamw", "AdamW", {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True}),
    ("adamax", "Adamax", {}),
    ("adamax", "Adamax", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1}),
    ("nadam", "NAdam", {}),
    ("nadam", "NAdam", {"lr": 0.1, "momentum_decay": 0.5, "weight_decay": 0.1}),
    ("nadam", "NAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("radam", "RAdam", {}),
    ("radam", "RAdam", {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.1}),
    ("radam", "RAdam", {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True}),
]


def gradients(rng, steps=50, size=17):
    """Parameters, and gradients of changing size so that every maximum and root matters."""
    return rng.standard_normal(size), rng.standard_normal((steps, size)) * rng.uniform(
        0.01, 3, (steps, 1)
    )


@pytest.mark.parametrize(("name", "theirs", "hyper"), TORCH_CASES)
def test_optimizer_matches_torch(name, theirs, hyper, rng, torch):
    p, grads = gradients(rng)
    tensor = torch.tensor(p)
    rival = getattr(torch.optim, theirs)([tensor], **hyper)
    ours = oracle.OPTIMIZERS[name](**hyper)
    for t, g in enumerate(grads):
        # A changing rate tells a rate inside a buffer from one outside it.
        ours.hyper.lr *= 1 - 0.3 * (t == 20)
        rival.param_groups[0]["lr"] *= 1 - 0.3 * (t == 20)
        tensor.grad = torch.tensor(g)
        rival.step()
        p = ours.step(p, g)
        np.testing.assert_allclose(p, tensor, rtol=1e-12, atol=1e-12)
    for slot, value in rival.state[tensor].items():
        if slot != "step" and value is not None:
            np.testing.assert_allclose(ours.state[slot], value, rtol=1e-12, atol=1e-14)


def test_defaults_are_torchs(torch):
    for name, theirs in {(name, theirs) for name, theirs, _ in TORCH_CASES}:
        rival = getattr(torch.optim, theirs)([torch.zeros(1)])
        ours = vars(oracle.OPTIMIZERS[name]().hyper)
        for key, value in rival.defaults.items():
            if key in ours:
                assert ours[key] == value, (name, key)


KERAS_CASES = [
    ("sgd", "SGD", {}),
    ("sgd", "SGD", {"momentum": 0.9, "weight_decay": 0.1}),
    ("sgd", "SGD", {"momentum": 0.9, "nesterov": True}),
    ("adagrad", "Adagrad", {}),
    ("adagrad", "Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("rmsprop", "RMSprop", {}),
    ("rmsprop", "RMSprop", {"momentum": 0.9, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    ("rmsprop", "RMSprop", {"centered": True, "eps": 1e-3}),
    ("adadelta", "Adadelta", {}),
    ("adadelta", "Adadelta", {"lr": 0.5, "rho": 0.9, "eps": 1e-3}),
    ("adam", "Adam", {}),
    ("adam", "Adam", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-2, "weight_decay": 0.1}),
    ("adam", "Adam", {"lr": 0.1, "betas": (0.9, 0.6), "eps": 1e-3, "amsgrad": True}),
    ("adamw", "AdamW", {}),
    ("adamax", "Adamax", {}),
    ("adamax", "Adamax", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2}),
    ("nadam", "Nadam", {}),
    ("nadam", "Nadam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1}),
    ("lion", "Lion", {}),
    ("lion", "Lion", {"lr": 0.01, "betas": (0.5, 0.8), "weight_decay": 0.3}),
    ("lamb", "Lamb", {}),
    ("lamb", "Lamb", {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.3}),
]


def keras_names(name, hyper):
    translated = {"lr": "learning_rate", "eps": "epsilon"}
    if name == "rmsprop":
        translated["alpha"] = "rho"
    out = {translated.get(key, key): value for key, value in hyper.items()}
    if "betas" in out:
        out["beta_1"], out["beta_2"] = out.pop("betas")
    return out


@pytest.mark.parametrize(("name", "theirs", "hyper"), KERAS_CASES)
def test_optimizer_matches_keras(name, theirs, hyper, rng, keras):
    p, grads = gradients(rng)
    variable = keras.Variable(p, dtype="float64")
    rival = getattr(keras.optimizers, theirs)(**keras_names(name, hyper))
    ours = oracle.OPTIMIZERS[name](convention="keras", **hyper)
    for t, g in enumerate(grads):
        if t == 20:
            ours.hyper.lr *= 0.7
            rival.learning_rate = ours.hyper.lr
        rival.apply([keras.ops.convert_to_tensor(g, dtype="float64")], [variable])
        p = ours.step(p, g)
        np.testing.assert_allclose(p, np.asarray(variable), rtol=1e-12, atol=1e-12)


def run(optimizer, p, grads):
    for g in grads:
        p = optimizer.step(p, g)
    return p


def test_textbook_momentum_is_an_average(rng):
    p, grads = gradients(rng)
    v, want = np.zeros_like(p), p
    for g in grads:
        v = 0.9 * v + 0.1 * g
        want = want - 0.5 * v
    got = run(oracle.OPTIMIZERS["sgd"](lr=0.5, momentum=0.9, convention="textbook"), p, grads)
    np.testing.assert_allclose(got, want, rtol=1e-14)


def test_textbook_nesterov_looks_ahead_along_torchs_path(rng):
    """The gradient at p - lr b v, stepped from p, is torch's form seen from the point ahead."""
    curvature = rng.uniform(0.1, 2, 9)
    hyper = {"lr": 0.1, "momentum": 0.9, "nesterov": True}
    book = oracle.OPTIMIZERS["sgd"](convention="textbook", **hyper)
    torch_form = oracle.OPTIMIZERS["sgd"](**hyper)
    p = ahead = rng.standard_normal(9)
    for _ in range(30):
        p = book.step(p, curvature * book.lookahead(p))
        ahead = torch_form.step(ahead, curvature * ahead)
        np.testing.assert_allclose(book.lookahead(p), ahead, rtol=1e-12, atol=1e-14)


def test_textbook_first_steps():
    p, g = np.array([1.0, 2.0]), np.array([0.5, 0.0])

    def first(name, **hyper):
        rule = oracle.OPTIMIZERS[name](lr=0.1, convention="textbook", **hyper)
        return (p - rule.step(p, g)) / 0.1

    np.testing.assert_allclose(first("adagrad", eps=0.01), [0.5 / np.sqrt(0.26), 0])
    np.testing.assert_allclose(
        first("rmsprop", alpha=0.9, eps=0.01), [0.5 / np.sqrt(0.035), 0], rtol=1e-13
    )
    np.testing.assert_allclose(first("adam", eps=0.1), [0.5 / 0.6, 0], rtol=1e-13)
    np.testing.assert_allclose(first("adamax"), [1, 0], rtol=1e-13)
    np.testing.assert_allclose(first("nadam", eps=0.0)[0], 1.9, rtol=1e-13)


def test_lion_and_lamb_by_hand():
    p, g = np.array([3.0, -4.0]), np.array([1.0, -2.0])
    lion = oracle.OPTIMIZERS["lion"](lr=0.1, weight_decay=0.5)
    np.testing.assert_allclose(lion.step(p, g), p * 0.95 - 0.1 * np.sign(g))
    np.testing.assert_allclose(lion.state["exp_avg"], 0.01 * g)
    # The momentum now outweighs a small gradient of the other sign.
    lion.state["exp_avg"] = np.array([1.0, -1.0])
    np.testing.assert_allclose(lion.step(p, -g), p * 0.95 - 0.1 * np.array([1, -1]))
    lamb = oracle.OPTIMIZERS["lamb"](lr=0.1, eps=0.0, weight_decay=0.1)
    u = np.sign(g) + 0.1 * p
    np.testing.assert_allclose(lamb.step(p, g), p - 0.1 * 5 / np.linalg.norm(u) * u)
    zero = oracle.OPTIMIZERS["lamb"](lr=0.1, eps=0.0).step(np.zeros(2), g)
    np.testing.assert_allclose(zero, -0.1 * np.sign(g))


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match="beta"):
        oracle.OPTIMIZERS["adam"](beta=0.9)
    with pytest.raises(ValueError, match="conventions"):
        oracle.OPTIMIZERS["radam"](convention="keras")


def test_decorations(rng, torch):
    p = [rng.standard_normal(5), rng.standard_normal((3, 4))]
    g = [rng.standard_normal(5) * 3, rng.standard_normal((3, 4)) * 3]

    def clipped(clip):
        tensors = [torch.zeros(a.shape, requires_grad=True) for a in p]
        for tensor, a in zip(tensors, g, strict=True):
            tensor.grad = torch.tensor(a)
        clip(tensors)
        return [tensor.grad.numpy() for tensor in tensors]

    def same(ours, theirs):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-15)

    utils = torch.nn.utils
    for limit in (0.5, 1000.0):
        same(
            oracle.decorate_gradients(p, g, clip_global_norm=limit),
            clipped(lambda ts, limit=limit: utils.clip_grad_norm_(ts, limit)),
        )
        same(
            oracle.decorate_gradients(p, g, clip_norm=limit),
            clipped(lambda ts, limit=limit: [utils.clip_grad_norm_([t], limit) for t in ts]),
        )
        same(
            oracle.decorate_gradients(p, g, clip_value=limit),
            clipped(lambda ts, limit=limit: utils.clip_grad_value_(ts, limit)),
        )
    same(
        oracle.decorate_gradients(p, g, grad_scale=0.25, maximize=True, weight_decay=0.1, l1=0.2),
        [-0.25 * b + 0.1 * a + 0.2 * np.sign(a) for a, b in zip(p, g, strict=True)],
    )
    keras_clip = oracle.decorate_gradients(p, g, clip_global_norm=0.5, convention="keras")
    assert np.sqrt(sum((a * a).sum() for a in keras_clip)) == pytest.approx(0.5, rel=1e-14)
    np.testing.assert_allclose(oracle.decoupled_weight_decay(p[0], 0.1, 0.2), p[0] * 0.98)
    np.testing.assert_allclose(oracle.ema(p[0], g[0], 0.9), 0.9 * p[0] + 0.1 * g[0])
    l1 = oracle.OPTIMIZERS["sgd"](lr=0.1, l1=0.5, weight_decay=0.2).step(p[0], g[0])
    seen = oracle.decorate_gradients(p[:1], g[:1], l1=0.5, weight_decay=0.2)[0]
    np.testing.assert_allclose(l1, p[0] - 0.1 * seen)
