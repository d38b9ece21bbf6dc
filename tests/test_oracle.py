# SPDX-License-Identifier: Apache-2.0
"""The oracle against central differences, torch, Keras, mpmath and published numbers."""

import numpy as np
import pytest

import oracle
from differences import numeric_gradient, slope
from rivals import keras_in_double, torch_in_double

KINKS = {
    "relu": [0],
    "leaky_relu": [0],
    "elu": [0],
    "selu": [0],
    "hard_sigmoid": [-3, 3],
    "relu6": [0, 6],
    "hard_swish": [-3, 3],
}
ACTIVATION_PARAMETERS = [("leaky_relu", {"negative_slope": 0.3}), ("elu", {"alpha": 1.7})]
ACTIVATION_CASES = [(name, {}) for name in oracle.ACTIVATIONS] + ACTIVATION_PARAMETERS


@pytest.fixture
def torch():
    with torch_in_double() as module:
        yield module


@pytest.fixture
def keras():
    with keras_in_double() as module:
        yield module


# --- activations ----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "params"), ACTIVATION_CASES)
def test_activation_derivative_is_the_slope(name, params):
    kinks = np.array(KINKS.get(name, [0.0]))
    x = np.concatenate([np.linspace(-9.03, 9.01, 401), kinks + 1e-4, kinks - 1e-4])
    x = x[np.abs(x[:, None] - kinks).min(axis=1) > 5e-5]
    rule = oracle.ACTIVATIONS[name]
    expected = slope(lambda v: rule.forward(v, **params), x)
    tolerance = 1e-9 * np.maximum(1, np.abs(expected))
    assert np.all(np.abs(rule.derivative(x, **params) - expected) <= tolerance)


@pytest.mark.parametrize(("name", "params"), ACTIVATION_CASES)
def test_activation_matches_torch_kinks_included(name, params, torch):
    functional = torch.nn.functional
    theirs = {
        "linear": lambda x: x * 1,
        "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "hard_sigmoid": functional.hardsigmoid,
        "hard_swish": functional.hardswish,
        # torch switches to the identity beyond the threshold; far out that is exact.
        "softplus": lambda x: functional.softplus(x, threshold=40.0),
        "exponential": torch.exp,
    }
    # PyTorch writes some names in one word.
    function = theirs.get(name) or getattr(functional, name, None)
    function = function or getattr(functional, name.replace("_", ""))
    kinks = np.array(KINKS.get(name, [0.0]), dtype=np.float64)
    x = np.concatenate([np.linspace(-20, 20, 997), kinks])
    tensor = torch.tensor(x, requires_grad=True)
    y = function(tensor, **params)
    y.sum().backward()
    rule = oracle.ACTIVATIONS[name]
    np.testing.assert_allclose(rule.forward(x, **params), y.detach(), rtol=1e-13, atol=1e-14)
    # torch keeps the slope of its hard sigmoid in float32.
    rtol = 5e-8 if name == "hard_sigmoid" else 1e-13
    np.testing.assert_allclose(rule.derivative(x, **params), tensor.grad, rtol=rtol, atol=1e-14)


@pytest.mark.parametrize("name", oracle.ACTIVATIONS)
def test_activation_limits_and_nan(name):
    rule = oracle.ACTIVATIONS[name]
    far = {"exponential": 800.0}.get(name, 1e30)
    limit = rule.forward(np.array([-far, far]))
    at_infinity = rule.forward(np.array([-np.inf, np.inf]))
    finite = np.abs(limit) < 1e20
    np.testing.assert_allclose(at_infinity[finite], limit[finite], rtol=1e-15, atol=0)
    assert np.all(np.isinf(at_infinity[~finite]))
    steep = rule.derivative(np.array([-np.inf, np.inf]))
    np.testing.assert_allclose(steep, rule.derivative(np.array([-far, far])), rtol=0, atol=1e-50)
    assert np.isnan(rule.forward(np.nan))
    assert np.isnan(rule.derivative(np.nan))


def test_smooth_activations_are_right_to_the_last_place():
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    mp = mpmath.mpf
    sigmoid = lambda x: 1 / (1 + mpmath.exp(-x))  # noqa: E731
    exact = {
        "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
        "gelu_tanh": lambda x: (
            x / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (x + mp("0.044715") * x**3)))
        ),
        "silu": lambda x: x * sigmoid(x),
        "sigmoid": sigmoid,
        "tanh": mpmath.tanh,
        "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
        "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
        "elu": lambda x: mpmath.expm1(x) if x < 0 else x,
    }
    points = np.concatenate([-np.geomspace(1e-9, 36, 60), np.geomspace(1e-9, 36, 60)])
    for name, function in exact.items():
        x = points[points > -8] if name == "gelu_tanh" else points
        want = np.array([float(function(mp(float(v)))) for v in x])
        np.testing.assert_array_max_ulp(oracle.ACTIVATIONS[name].forward(x), want, maxulp=1)
        slopes = [float(mpmath.diff(function, mp(float(v)), h=mp("1e-20"))) for v in x]
        got = oracle.ACTIVATIONS[name].derivative(x)
        np.testing.assert_allclose(got, slopes, rtol=1e-15, atol=2e-16, err_msg=name)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("axis", [-1, 0])
def test_softmax_and_its_backward_product(name, axis, rng, torch):
    forward, backward = getattr(oracle, name), getattr(oracle, name + "_backward")
    x, dy = rng.standard_normal((2, 4, 5)) * 6
    tensor = torch.tensor(x, requires_grad=True)
    y = getattr(torch, name)(tensor, axis)
    y.backward(torch.tensor(dy))
    np.testing.assert_allclose(forward(x, axis), y.detach(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(forward(x + 1e4, axis), forward(x, axis), rtol=1e-9)
    got = backward(forward(x, axis), dy, axis)
    np.testing.assert_allclose(got, tensor.grad, rtol=1e-12, atol=1e-14)
    expected = numeric_gradient(lambda v: (forward(v, axis) * dy).sum(), x)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8)


# --- losses ---------------------------------------------------------------------------------

ROWS, COLUMNS = 6, 5


def pointwise_data(name, rng):
    # Differences on this grid stay clear of every kink: 0, +-delta and the margin 1.
    x = np.floor(rng.standard_normal((ROWS, COLUMNS)) * 20) / 10 + 0.05
    t = np.floor(rng.standard_normal((ROWS, COLUMNS)) * 10) / 10
    if name in ("hinge", "squared_hinge"):
        t = np.where(t < 0, -1.0, 1.0)
    elif name.startswith("poisson"):
        x = np.abs(x) + 0.1 if name == "poisson" else x
        t = np.floor(np.abs(t) * 3)
    elif name.startswith("binary"):
        x = rng.uniform(0.02, 0.98, x.shape) if name == "binary_cross_entropy" else x
        t = rng.integers(0, 2, x.shape).astype(float)
        t[0] = rng.uniform(size=COLUMNS)
    elif name == "kl_divergence":
        x, t = rng.dirichlet(np.ones(COLUMNS), (2, ROWS)) + 0.05
        t[0, 0] = 0
    return x, t


POINTWISE_CASES = [(name, {}) for name in oracle.POINTWISE_LOSSES] + [
    ("huber", {"delta": 0.3}),
    ("quantile", {"quantile": 0.9}),
    ("poisson", {"epsilon": 1e-3}),
    ("binary_cross_entropy", {"pos_weight": 2.5, "label_smoothing": 0.1}),
    ("binary_cross_entropy_logits", {"pos_weight": 2.5, "label_smoothing": 0.1}),
]
ROWWISE_CASES = [(name, {}) for name in oracle.ROWWISE_LOSSES] + [
    ("softmax_cross_entropy", {"class_weight": np.arange(1.0, 6), "label_smoothing": 0.2}),
    ("categorical_cross_entropy", {"class_weight": np.arange(1.0, 6), "label_smoothing": 0.2}),
]


def rowwise_data(name, rng):
    x = rng.standard_normal((ROWS, COLUMNS)) * 2
    t = rng.dirichlet(np.ones(COLUMNS), ROWS)
    if name == "categorical_cross_entropy":
        x = rng.uniform(0.02, 1, x.shape)
    elif name == "kl_divergence_logits":
        t[0, 0] = 0
    elif name == "cosine":
        t = rng.standard_normal(x.shape)
    return x, t


@pytest.mark.parametrize(("name", "params"), POINTWISE_CASES)
def test_pointwise_gradient_is_the_slope(name, params, rng):
    rule = oracle.POINTWISE_LOSSES[name]
    x, t = pointwise_data(name, rng)
    expected = slope(lambda v: rule.value(v, t, **params), x)
    np.testing.assert_allclose(rule.gradient(x, t, **params), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "params"), ROWWISE_CASES)
def test_rowwise_gradient_is_the_slope(name, params, rng):
    rule = oracle.ROWWISE_LOSSES[name]
    x, t = rowwise_data(name, rng)
    assert rule.value(x, t, **params).shape == (ROWS,)
    expected = numeric_gradient(lambda v: rule.value(v, t, **params).sum(), x)
    np.testing.assert_allclose(rule.gradient(x, t, **params), expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("name", "params"), POINTWISE_CASES + ROWWISE_CASES)
def test_loss_gradient_is_the_slope_of_the_reduced_value(name, params, reduction, rng):
    data = pointwise_data if name in oracle.POINTWISE_LOSSES else rowwise_data
    x, t = data(name, rng)
    options = {"reduction": reduction, "sample_weight": rng.uniform(0, 2, ROWS), **params}
    value, gradient = oracle.loss(name, x, t, **options)
    assert np.shape(value) == ((ROWS,) if reduction == "none" else ())
    expected = numeric_gradient(lambda v: np.sum(oracle.loss(name, v, t, **options)[0]), x)
    np.testing.assert_allclose(gradient, expected, rtol=1e-8, atol=1e-8)


def test_gradients_at_kinks():
    def gradient(name, x, t, **params):
        return oracle.POINTWISE_LOSSES[name].gradient(x, t, **params).tolist()

    assert gradient("mae", [2.0], [2.0]) == [0]
    assert gradient("quantile", [2.0], [2.0], quantile=0.9) == [0]
    assert gradient("hinge", [1.0, -1.0], [1.0, -1.0]) == [0, 0]
    assert gradient("huber", [1.0, -1.0, 3.0], [0.0, 0.0, 0.0]) == [1, -1, 1]
    assert gradient("binary_cross_entropy", [0.0, 1.0], [1.0, 0.0]) == [0, 0]
    assert gradient("kl_divergence", [0.0], [0.5]) == [0]
    value, slope_ = oracle.loss("cosine", np.zeros((1, 3)), np.ones((1, 3)))
    assert value == 1
    assert not slope_.any()


def test_log_cosh_keeps_its_digits():
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    d = np.concatenate([np.geomspace(1e-9, 700, 80), [0.999999, 1.0]])
    want = [float(mpmath.log(mpmath.cosh(mpmath.mpf(float(v))))) for v in d]
    got = oracle.POINTWISE_LOSSES["log_cosh"].value(d, 0 * d)
    np.testing.assert_array_max_ulp(got, np.array(want), maxulp=1)


def check_against_torch(torch, name, x, t, function, target=None, scale=1.0, **options):
    """Compare value and gradient; `scale` is what torch's number has to be multiplied by."""
    tensor = torch.tensor(x, requires_grad=True)
    expected = function(tensor, torch.tensor(t if target is None else target)) * scale
    expected.sum().backward()
    value, gradient = oracle.loss(name, x, t, **options)
    np.testing.assert_allclose(value, expected.detach(), rtol=1e-12)
    np.testing.assert_allclose(gradient, tensor.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_pointwise_losses_match_torch(reduction, rng, torch):
    functional = torch.nn.functional
    # A sample is the mean of its outputs, so a torch sum over elements is COLUMNS times ours.
    scale = 1 / COLUMNS if reduction == "sum" else 1.0

    def check(name, function, target=None, scale=scale, **options):
        x, t = pointwise_data(name, rng)
        target = None if target is None else target(t)
        options["reduction"] = reduction
        check_against_torch(torch, name, x, t, function, target, scale, **options)

    check("mse", lambda x, t: functional.mse_loss(x, t, reduction=reduction))
    check("mae", lambda x, t: functional.l1_loss(x, t, reduction=reduction))
    check("huber", lambda x, t: functional.huber_loss(x, t, reduction, delta=0.7), delta=0.7)
    check(
        "poisson",
        lambda x, t: functional.poisson_nll_loss(
            x, t, log_input=False, eps=1e-7, reduction=reduction
        ),
    )
    check("poisson_log", lambda x, t: functional.poisson_nll_loss(x, t, reduction=reduction))
    check(
        "binary_cross_entropy",
        lambda x, t: functional.binary_cross_entropy(x, t, reduction=reduction),
    )
    weight = torch.tensor(2.5)
    check(
        "binary_cross_entropy_logits",
        lambda x, t: functional.binary_cross_entropy_with_logits(
            x, t, reduction=reduction, pos_weight=weight
        ),
        target=lambda t: t * 0.9 + 0.05,
        pos_weight=2.5,
        label_smoothing=0.1,
    )
    check(
        "kl_divergence",
        lambda x, t: functional.kl_div(
            x.log(), t, reduction="batchmean" if reduction == "mean" else "sum"
        ),
        scale=1.0,
    )


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
def test_softmax_cross_entropy_matches_torch(
    reduction, labels, weighted, label_smoothing, rng, torch
):
    x, t = rowwise_data("softmax_cross_entropy", rng)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    theirs = dict(options)
    if labels:
        t = rng.integers(0, COLUMNS, ROWS)
        t[2] = -100
        options["ignore_index"] = -100
    if weighted:
        options["class_weight"] = rng.uniform(0.5, 2, COLUMNS)
        theirs["weight"] = torch.tensor(options["class_weight"])
    check_against_torch(
        torch,
        "softmax_cross_entropy",
        x,
        t,
        lambda a, b: torch.nn.functional.cross_entropy(a, b, **theirs),
        **options,
    )


def test_all_rows_ignored_is_what_torch_says(rng, torch):
    x, t = rng.standard_normal((3, 4)), np.full(3, -100)
    value, gradient = oracle.loss("softmax_cross_entropy", x, t, ignore_index=-100)
    assert np.isnan(value)
    assert not gradient.any()
    assert torch.isnan(torch.nn.functional.cross_entropy(torch.tensor(x), torch.tensor(t)))


def test_other_rowwise_losses_match_torch(rng, torch):
    functional = torch.nn.functional
    x, t = rowwise_data("kl_divergence_logits", rng)
    check_against_torch(
        torch,
        "kl_divergence_logits",
        x,
        t,
        lambda a, b: functional.kl_div(a.log_softmax(-1), b, reduction="batchmean"),
    )
    x, t = rowwise_data("cosine", rng)
    check_against_torch(
        torch, "cosine", x, t, lambda a, b: (1 - functional.cosine_similarity(a, b)).mean()
    )
    x, t = rowwise_data("categorical_cross_entropy", rng)
    check_against_torch(
        torch,
        "categorical_cross_entropy",
        x,
        t,
        lambda a, b: -(b * (a / a.sum(-1, keepdim=True)).log()).sum(-1).mean(),
    )


def test_sample_weight_does_not_change_the_divisor(rng):
    x, t = rowwise_data("softmax_cross_entropy", rng)
    weight = rng.uniform(0, 2, ROWS)
    rows, _ = oracle.loss("softmax_cross_entropy", x, t, reduction="none")
    mean, _ = oracle.loss("softmax_cross_entropy", x, t, sample_weight=weight)
    np.testing.assert_allclose(mean, (rows * weight).sum() / ROWS, rtol=1e-15)


def test_losses_match_keras(rng, keras):
    def check(name, theirs, **params):
        data = pointwise_data if name in oracle.POINTWISE_LOSSES else rowwise_data
        x, t = data(name, rng)
        if name == "kl_divergence":
            # Keras clips targets as well, which the oracle does not.
            x, t = x / x.sum(1, keepdims=True), np.maximum(t, 1e-3)
        value, _ = oracle.loss(name, x, t, **params)
        # Keras averages float64 arrays in float32.
        np.testing.assert_allclose(value, float(theirs(t, x)), rtol=1e-6)

    losses = keras.losses
    check("mse", losses.MeanSquaredError())
    check("mae", losses.MeanAbsoluteError())
    check("huber", losses.Huber(delta=0.7), delta=0.7)
    check("log_cosh", losses.LogCosh())
    check("poisson", losses.Poisson())
    check("hinge", losses.Hinge())
    check("squared_hinge", losses.SquaredHinge())
    check(
        "binary_cross_entropy", losses.BinaryCrossentropy(label_smoothing=0.1), label_smoothing=0.1
    )
    check(
        "binary_cross_entropy_logits",
        losses.BinaryCrossentropy(from_logits=True, label_smoothing=0.1),
        label_smoothing=0.1,
    )
    check("kl_divergence", losses.KLDivergence())
    check("softmax_cross_entropy", losses.CategoricalCrossentropy(from_logits=True))
    check(
        "categorical_cross_entropy",
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        label_smoothing=0.1,
    )


def test_worked_examples():
    def mean(name, x, t, **params):
        return oracle.loss(name, np.array(x), np.array(t), **params)[0]

    assert mean("mse", [2.5, 5.2], [3.0, 5.0]) == pytest.approx(0.145, abs=1e-12)
    bce = mean("binary_cross_entropy", [0.9, 0.2], [1.0, 0.0])
    assert bce == pytest.approx(0.16425, abs=5e-6)
    for target in ([1], [[0.0, 1.0, 0.0]]):
        cce = mean("categorical_cross_entropy", [[0.1, 0.7, 0.2]], target)
        assert cce == pytest.approx(0.3567, abs=5e-5)
    assert mean("huber", [2.0], [0.0], delta=1.0) == 1.5
    kl = mean("kl_divergence", [[0.4, 0.4, 0.2]], [[0.5, 0.3, 0.2]])
    assert kl == pytest.approx(0.02527, abs=5e-6)


def test_unknown_names_are_refused():
    with pytest.raises(TypeError, match="slope"):
        oracle.ACTIVATIONS["relu"].forward(1.0, slope=1)
    with pytest.raises(TypeError, match="class_weight"):
        oracle.loss("mse", np.ones(2), np.ones(2), class_weight=[1, 2])
    with pytest.raises(ValueError, match="labels"):
        oracle.loss("softmax_cross_entropy", np.ones((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="ignore_index"):
        oracle.loss("mse", np.ones(2), np.ones(2), ignore_index=0)


def test_the_oracle_does_not_import_what_it_judges():
    from pathlib import Path

    for source in Path(oracle.__file__).parent.glob("*.py"):
        lines = source.read_text(encoding="utf-8").splitlines()
        assert not any(
            line.lstrip().startswith(("import fusednn", "from fusednn")) for line in lines
        )
