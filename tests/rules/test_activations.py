# SPDX-License-Identifier: Apache-2.0
"""Every activation against the oracle: values, derivatives, edges, tails."""

import numpy as np
import pytest

import oracle
from fusednn import _core, ops

NAMES = sorted(_core.activations())
CASES = [(name, {}) for name in NAMES] + [
    ("leaky_relu", {"negative_slope": 0.3}),
    ("leaky_relu", {"negative_slope": 0.0}),
    ("elu", {"alpha": 1.7}),
]
# x times a distribution function that is computed next to 1/2: exact to the size of x, not of y.
ABSOLUTE = ("gelu", "gelu_tanh")
SIZES = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 1003]

pytestmark = pytest.mark.usefixtures("isa")


def samples(rng, dtype):
    """Numbers of every size that matters, kinks and far ends among them."""
    tiny = np.finfo(dtype).tiny
    edges = [0.0, -0.0, 1, -1, 3, -3, 6, -6, tiny, -tiny, tiny / 8, 1e-20, 88, -88, 1e30, -1e30]
    small = rng.uniform(-1, 1, 997) * 10.0 ** rng.uniform(-10, 1, 997)
    parts = [edges, rng.standard_normal(2003) * 4, small, rng.uniform(-120, 120, 499)]
    return np.concatenate(parts).astype(dtype)


def assert_close(got, want, *, relative, ulps=4):
    """Within so many roundings of the value, or of 1 where the value is small."""
    assert got.dtype in (np.float32, np.float64)
    with np.errstate(all="ignore"):
        want = want.astype(got.dtype).astype(np.float64)  # the limits of the type count
        scale = np.abs(want) if relative else np.maximum(1, np.abs(want))
        # x times a number next to the smallest one may as well be zero.
        error = np.abs(got - want) - 128 * np.finfo(got.dtype).tiny
        error = np.maximum(error, 0) / scale / np.finfo(got.dtype).eps
    same = (got == want) | (np.isnan(got) & np.isnan(want))
    worst = np.where(same, 0, error)
    assert worst.max(initial=0) <= ulps, f"{worst.max()} roundings at {np.nanargmax(worst)}"


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_values(name, hyper, dtype, rng):
    x = samples(rng, dtype)
    want = oracle.ACTIVATIONS[name].forward(x, **hyper)
    got = ops.activation_forward(x, name, **hyper)
    assert got.dtype == dtype
    assert_close(got, want, relative=name not in ABSOLUTE)


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_derivatives(name, hyper, dtype, rng):
    x = samples(rng, dtype)
    dy = rng.standard_normal(x.size).astype(dtype)
    slope = oracle.ACTIVATIONS[name].derivative(x, **hyper)
    ones = ops.activation_backward(np.ones_like(x), x, name, **hyper)
    assert_close(ones, slope, relative=False)
    dx = ops.activation_backward(dy, x, name, **hyper)
    # Adding the slopes' own roundings: exactly dy times the derivative that the kernel finds.
    np.testing.assert_array_equal(dx, dy * ones)


@pytest.mark.parametrize(("name", "hyper"), CASES)
def test_an_output_at_hand_gives_the_same_slopes(name, hyper, dtype, rng):
    x, dy = rng.standard_normal((2, 1003)).astype(dtype)
    y = ops.activation_forward(x, name, **hyper)
    dx = ops.activation_backward(dy, x, name, **hyper)
    np.testing.assert_array_equal(ops.activation_backward(dy, x, name, y=y, **hyper), dx)
    assert ops.activation_backward(dy, x, name, y=y, out=y, **hyper) is y
    np.testing.assert_array_equal(y, dx)


@pytest.mark.parametrize("name", ["tanh", "gelu"])  # one looks at y, the other does not
def test_an_output_must_be_like_the_input(name):
    x = np.zeros(4)
    with pytest.raises(ValueError, match="y"):
        ops.activation_backward(x, x, name, y=np.zeros(3))
    with pytest.raises(TypeError, match="y"):
        ops.activation_backward(x, x, name, y=np.zeros(4, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_infinities_and_nan(name, dtype):
    x = np.array([np.inf, -np.inf, np.nan], dtype)
    rule = oracle.ACTIVATIONS[name]
    np.testing.assert_allclose(ops.activation_forward(x, name), rule.forward(x), rtol=1e-6)
    got = ops.activation_backward(np.ones_like(x), x, name)
    # Far out a derivative taken from the output is within a rounding of its limit.
    np.testing.assert_allclose(got, rule.derivative(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "relu", "softsign", "linear", "gelu", "silu"])
def test_zeros_keep_their_sign_where_the_function_does(name, dtype):
    y = ops.activation_forward(np.array([0.0, -0.0], dtype), name)
    assert (y == 0).all()
    if name in ("tanh", "softsign", "linear"):
        np.testing.assert_array_equal(np.signbit(y), [False, True])


@pytest.mark.parametrize("name", NAMES)
def test_an_element_does_not_depend_on_its_place(name, dtype, rng):
    x = (rng.standard_normal(max(SIZES)) * 3).astype(dtype)
    whole = ops.activation_forward(x, name)
    slope = ops.activation_backward(x, x, name)
    for n in SIZES:
        np.testing.assert_array_equal(ops.activation_forward(x[:n], name), whole[:n])
        np.testing.assert_array_equal(ops.activation_forward(x[n:], name), whole[n:])
        np.testing.assert_array_equal(ops.activation_backward(x[:n], x[:n], name), slope[:n])


@pytest.mark.parametrize("name", NAMES)
def test_in_place(name, dtype, rng):
    x = rng.standard_normal(1003).astype(dtype)
    dy = rng.standard_normal(1003).astype(dtype)
    y, dx = ops.activation_forward(x, name), ops.activation_backward(dy, x, name)
    kept = x.copy()
    assert ops.activation_forward(x, name, out=x) is x
    np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(ops.activation_backward(dy.copy(), kept, name, out=kept), dx)
    kept = y = rng.standard_normal(1003).astype(dtype)
    dx = ops.activation_backward(dy, kept, name)
    np.testing.assert_array_equal(ops.activation_backward(dy, kept, name, out=dy), dx)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (4, 3), (3, 17), (2, 3, 65), (11,)])
def test_softmax(shape, dtype, rng, tolerance):
    x = (rng.standard_normal(shape) * 5).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    y, log_y = ops.softmax(x), ops.log_softmax(x)
    np.testing.assert_allclose(y, oracle.softmax(x), **tolerance(dtype))
    np.testing.assert_allclose(log_y, oracle.log_softmax(x), **tolerance(dtype))
    got = ops.softmax_backward(dy, y)
    np.testing.assert_allclose(got, oracle.softmax_backward(y, dy), **tolerance(dtype))
    got = ops.log_softmax_backward(dy, log_y)
    want = oracle.log_softmax_backward(log_y, dy)
    np.testing.assert_allclose(got, want, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=2e-6)
    np.testing.assert_array_equal(ops.softmax(x, out=x), y)


def test_softmax_at_the_edges(dtype):
    x = np.array([[1e4, -1e4, 0], [-np.inf, 0, 0], [np.nan, 0, 0]], dtype)
    want = [[1, 0, 0], [0, 0.5, 0.5], [np.nan] * 3]
    np.testing.assert_array_equal(ops.softmax(x), np.array(want, dtype))
    assert np.isneginf(ops.log_softmax(x)[1, 0])


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'gelu'"):
        ops.activation_forward([1.0], "gelo")


@pytest.mark.parametrize("hyper", [{"alpha": 1.0}, {"negative_slope": -1.0}])
def test_wrong_hyper_parameters(hyper):
    with pytest.raises(ValueError, match="leaky_relu"):
        ops.activation_forward([1.0], "leaky_relu", **hyper)


def test_hyper_parameters_are_numbers():
    with pytest.raises(TypeError, match="negative_slope must be a number"):
        ops.activation_forward([1.0], "leaky_relu", negative_slope="steep")
