# SPDX-License-Identifier: Apache-2.0
"""Every loss against the oracle: values, gradients, weights, reductions, labels, edges."""

import numpy as np
import pytest

import oracle
from fusednn import _core, ops

POINTWISE = sorted(name for name, about in _core.losses().items() if not about["rowwise"])
ROWWISE = sorted(name for name, about in _core.losses().items() if about["rowwise"])
WEIGHED = ("softmax_cross_entropy", "categorical_cross_entropy")
CASES = [(name, {}) for name in POINTWISE + ROWWISE] + [
    ("huber", {"delta": 0.3}),
    ("quantile", {"quantile": 0.9}),
    ("poisson", {"epsilon": 1e-3}),
    ("binary_cross_entropy", {"pos_weight": 3.0, "label_smoothing": 0.2}),
    ("binary_cross_entropy_logits", {"pos_weight": 3.0, "label_smoothing": 0.2}),
    ("softmax_cross_entropy", {"label_smoothing": 0.1}),
    ("categorical_cross_entropy", {"label_smoothing": 0.1}),
]
SHAPES = [(1, 1), (5, 1), (1, 7), (13, 7), (33, 16), (33, 17), (4, 65), (67, 3)]

pytestmark = pytest.mark.usefixtures("isa")


def data(name, shape, dtype, rng):
    """Predictions and targets from the domain of a loss."""
    x = rng.standard_normal(shape) * 2
    t = rng.standard_normal(shape)
    if name == "poisson":
        x, t = rng.uniform(0.1, 5, shape), rng.integers(0, 6, shape)
    elif name == "poisson_log":
        t = rng.integers(0, 6, shape)
    elif "hinge" in name:
        t = rng.choice([-1, 1], shape)
    elif name.startswith("binary"):
        t = rng.uniform(0, 1, shape)
        x = x if name.endswith("logits") else rng.uniform(0.02, 0.98, shape)
    elif name.startswith("kl") or name in WEIGHED:
        t = rng.dirichlet(np.ones(shape[1]), shape[0])
        if name in ("kl_divergence", "categorical_cross_entropy"):
            x = rng.dirichlet(np.ones(shape[1]), shape[0]) + 0.01
    return x.astype(dtype), t.astype(dtype)


def close(dtype, size=1):
    """Tolerances for sums of `size` terms, at the size of the terms."""
    eps = np.finfo(dtype).eps
    return {"rtol": 16 * eps, "atol": 16 * eps * size}


def assert_like_oracle(name, x, t, *, reduction="mean", **arguments):
    value, gradient = ops.loss(name, x, t, reduction=reduction, **arguments)
    wide = {
        key: np.float64(given) if isinstance(given, np.ndarray) else given
        for key, given in arguments.items()
    }
    t = t if t.dtype.kind in "iu" else t.astype(np.float64)
    want_value, want_gradient = oracle.loss(
        name, x.astype(np.float64), t, reduction=reduction, **wide
    )
    np.testing.assert_allclose(value, want_value, **close(x.dtype, x.shape[-1]))
    np.testing.assert_allclose(gradient, want_gradient, **close(x.dtype, 4))
    assert gradient.dtype == x.dtype
    assert gradient.shape == x.shape


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_value_and_gradient(name, hyper, shape, dtype, rng):
    x, t = data(name, shape, dtype, rng)
    weight = rng.uniform(0, 2, shape[0]).astype(dtype)
    weight[0] = 0
    assert_like_oracle(name, x, t, **hyper)
    for reduction in ("none", "sum", "mean"):
        assert_like_oracle(name, x, t, reduction=reduction, sample_weight=weight, **hyper)


@pytest.mark.parametrize("shape", [(1, 3), (13, 7), (33, 17), (4, 65), (5, 1)])
@pytest.mark.parametrize("name", ROWWISE)
def test_class_numbers(name, shape, dtype, rng):
    x, _ = data(name, shape, dtype, rng)
    t = rng.integers(0, shape[1], shape[0])
    for labels in (t, t.astype(np.int32), t.astype(np.uint8), t.astype(np.int16)[::1]):
        assert_like_oracle(name, x, labels)
    one_hot = np.eye(shape[1], dtype=dtype)[t]
    for a, b in zip(ops.loss(name, x, t), ops.loss(name, x, one_hot), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", WEIGHED)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_class_weights_and_ignored_rows(name, reduction, dtype, rng):
    x, t = data(name, (33, 7), dtype, rng)
    labels = rng.integers(0, 7, 33)
    ignoring = np.where(rng.uniform(size=33) < 0.3, -100, labels)
    weights = rng.uniform(0.1, 3, 7).astype(dtype)
    sample_weight = rng.uniform(0, 2, 33).astype(dtype)
    common = {"reduction": reduction, "class_weight": weights, "label_smoothing": 0.2}
    assert_like_oracle(name, x, t, **common)
    assert_like_oracle(name, x, labels, **common)
    assert_like_oracle(name, x, ignoring, ignore_index=-100, reduction=reduction)
    assert_like_oracle(name, x, ignoring, ignore_index=-100, sample_weight=sample_weight, **common)


def test_all_rows_ignored(dtype):
    x = np.ones((3, 2), dtype)
    value, gradient = ops.loss("softmax_cross_entropy", x, np.array([9, 9, 9]), ignore_index=9)
    assert np.isnan(value)
    assert (gradient == 0).all()
    value, _ = ops.loss(
        "softmax_cross_entropy", x, np.array([9] * 3), ignore_index=9, reduction="sum"
    )
    assert value == 0


@pytest.mark.parametrize("name", [*POINTWISE, *ROWWISE])
def test_no_rows(name, dtype):
    empty = np.zeros((0, 3), dtype)
    value, gradient = ops.loss(name, empty, empty)
    assert np.isnan(value)
    assert gradient.shape == (0, 3)
    assert ops.loss(name, empty, empty, reduction="sum")[0] == 0


def test_logits_far_out(dtype):
    far = np.array([[500, -500.0]], dtype)
    yes = np.array([[1, 0.0]], dtype)
    for name, t, want in [
        ("binary_cross_entropy_logits", yes, 0),
        ("binary_cross_entropy_logits", 1 - yes, 500),
        ("softmax_cross_entropy", yes, 0),
        ("softmax_cross_entropy", 1 - yes, 1000),
    ]:
        value, gradient = ops.loss(name, far, t)
        assert value == pytest.approx(want, abs=1e-30)
        assert np.isfinite(gradient).all()


def test_masked_logits_cost_nothing(dtype):
    x = np.array([[0, -np.inf, 0]], dtype)
    value, gradient = ops.loss("softmax_cross_entropy", x, [0])
    assert value == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_allclose(gradient, [[-0.5, 0, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("name", [*POINTWISE, *ROWWISE])
def test_nan_shows(name, dtype, rng):
    x, t = data(name, (4, 5), dtype, rng)
    x[1, 2] = np.nan
    values, gradient = ops.loss(name, x, t, reduction="none")
    np.testing.assert_array_equal(np.isnan(values), [False, True, False, False])
    assert np.isnan(gradient[1, 2])
    assert np.isfinite(gradient[[0, 2, 3]]).all()


@pytest.mark.parametrize("name", [*POINTWISE, *ROWWISE])
def test_gradient_in_place_of_predictions(name, dtype, rng):
    x, t = data(name, (13, 7), dtype, rng)
    value, gradient = ops.loss(name, x, t)
    assert ops.loss(name, x.copy(), t, gradient=False) == (value, None)
    got_value, got = ops.loss(name, x, t, out=x)
    assert got is x
    assert got_value == value
    np.testing.assert_array_equal(got, gradient)


@pytest.mark.parametrize("name", POINTWISE)
def test_any_shape_that_begins_with_rows(name, dtype, rng):
    x, t = data(name, (4, 30), dtype, rng)
    value, gradient = ops.loss(name, x, t)
    deep = ops.loss(name, x.reshape(4, 2, 3, 5), t.reshape(4, 2, 3, 5))
    assert deep[0] == value
    np.testing.assert_array_equal(deep[1].reshape(4, 30), gradient)
    column = ops.loss(name, x[:, :1], t[:, 0])
    line = ops.loss(name, x[:, 0], t[:, :1])
    assert column[0] == line[0]
    np.testing.assert_array_equal(column[1][:, 0], line[1])


# ---- worked examples; two of them are often printed with wrong results -------------------------


def test_worked_examples():
    assert ops.loss("mse", [2.5, 5.2], [3.0, 5.0])[0] == pytest.approx(0.145)
    assert ops.loss("binary_cross_entropy", [0.9, 0.2], [1.0, 0.0])[0] == pytest.approx(
        0.16425, abs=5e-6
    )
    p = [[0.1, 0.7, 0.2]]
    assert ops.loss("categorical_cross_entropy", p, [1])[0] == pytest.approx(0.3567, abs=5e-5)
    assert ops.loss("huber", [2.0], [0.0], delta=1.0)[0] == pytest.approx(1.5)
    value, _ = ops.loss("kl_divergence", [[0.4, 0.4, 0.2]], [[0.5, 0.3, 0.2]])
    assert value == pytest.approx(0.02527, abs=5e-6)


# ---- against torch, whose conventions these are -------------------------------------------------


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_cross_entropy_is_torchs(reduction, rng):
    torch = pytest.importorskip("torch")
    x, t = rng.standard_normal((33, 7)), rng.integers(0, 7, 33)
    t[::4] = -100
    w = rng.uniform(0.1, 2, 7)
    logits = torch.tensor(x, requires_grad=True)
    theirs = torch.nn.functional.cross_entropy(
        logits, torch.tensor(t), torch.tensor(w), reduction=reduction, label_smoothing=0.1
    )
    theirs.sum().backward()
    value, gradient = ops.loss(
        "softmax_cross_entropy",
        x,
        t,
        reduction=reduction,
        class_weight=w,
        ignore_index=-100,
        label_smoothing=0.1,
    )
    np.testing.assert_allclose(value, theirs.detach(), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(gradient, logits.grad, rtol=1e-12, atol=1e-14)
