# SPDX-License-Identifier: Apache-2.0
"""Elementary functions, in units in the last place, against mpmath."""

import numpy as np
import pytest

from fusednn import _core, ops

mpmath = pytest.importorskip("mpmath")

# What csrc/cpu/kernels/simd_math.h states, with the rounding of the reference on top.
LARGEST_ERROR = {
    "exp": {"float32": 1.1, "float64": 1.1},
    "expm1": {"float32": 1.4, "float64": 1.6},
    "log": {"float32": 1.0, "float64": 1.0},
    "log1p": {"float32": 1.7, "float64": 1.4},
    "tanh": {"float32": 1.6, "float64": 1.6},
    "erf": {"float32": 1.35, "float64": 1.6},
    "sqrt": {"float32": 0.5, "float64": 0.5},
}
# Where the values are neither overflown nor all the same.
INTERESTING = {
    "exp": ((-104, 88.72), (-746, 709.78)),
    "expm1": ((-20, 88.72), (-40, 709.78)),
    "log": ((0, 50), (0, 50)),
    "log1p": ((-1, 50), (-1, 50)),
    "tanh": ((-10, 10), (-20, 20)),
    "erf": ((-4.5, 4.5), (-6.5, 6.5)),
    "sqrt": ((0, 50), (0, 50)),
}
EDGES = {  # arguments and values; lists, because 0.0 and -0.0 are one key
    "exp": ([0.0, -np.inf, np.inf, 1000, -1000], [1, 0, np.inf, np.inf, 0]),
    "expm1": ([0.0, -0.0, -np.inf, np.inf, 1000], [0.0, -0.0, -1, np.inf, np.inf]),
    "log": ([0.0, -0.0, 1, np.inf, -1], [-np.inf, -np.inf, 0.0, np.inf, np.nan]),
    "log1p": ([0.0, -0.0, -1, np.inf, -2], [0.0, -0.0, -np.inf, np.inf, np.nan]),
    "tanh": ([0.0, -0.0, np.inf, -np.inf, 1000], [0.0, -0.0, 1, -1, 1]),
    "erf": ([0.0, -0.0, np.inf, -np.inf, 100], [0.0, -0.0, 1, -1, 1]),
    "sqrt": ([0.0, -0.0, 4, np.inf, -1], [0.0, -0.0, 2, np.inf, np.nan]),
}
N = 1500


def samples(name, dtype, rng):
    """Arguments evenly over the interesting part, and over all orders of magnitude."""
    low, high = INTERESTING[name][dtype == np.float64]
    info = np.finfo(dtype)
    exponents = rng.uniform(np.log10(info.smallest_subnormal), np.log10(info.max), N)
    anywhere = 10.0**exponents * (rng.choice([-1, 1], N) if low < -1 else 1)
    x = np.concatenate([rng.uniform(low, high, N), anywhere]).astype(dtype)
    # Arguments where the function neither overflows nor is below what the type can hold.
    return x[(x > low) & (x < high)] if name in ("exp", "expm1") else x


def in_high_precision(name, x):
    """The exact values, rounded to 40 digits."""
    with mpmath.workdps(40):
        return [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x]


def errors_in_ulps(got, want):
    """How far apart, in spacings of the dtype at the exact value."""
    info = np.finfo(got.dtype)
    ulps = []
    for g, w in zip(got, want, strict=True):
        with mpmath.workdps(40):
            nearest = np.abs(got.dtype.type(w))
            spacing = max(float(np.spacing(nearest)), float(info.smallest_subnormal))
            ulps.append(float(abs(mpmath.mpf(float(g)) - w) / spacing))
    return np.array(ulps)


def test_all_are_tested():
    assert sorted(LARGEST_ERROR) == sorted(_core.elementary_functions())


@pytest.fixture(scope="module")
def exact():
    """Arguments and exact values, found once for all instruction sets."""
    known = {}

    def find(name, dtype):
        if (name, dtype) not in known:
            rng = np.random.default_rng(len(name))
            x = samples(name, dtype, rng)
            known[name, dtype] = x, in_high_precision(name, x)
        return known[name, dtype]

    return find


@pytest.mark.parametrize("name", sorted(LARGEST_ERROR))
def test_error(name, dtype, isa, exact, device):
    x, want = exact(name, dtype)
    with np.errstate(all="ignore"):
        ulps = errors_in_ulps(ops.elementary(name, x), want)
    worst = int(ulps.argmax())
    bound = LARGEST_ERROR[name][dtype.name]
    if device != "cpu":
        bound = max(bound, 2.0)  # CUDA's own functions, as their documentation states it
    assert ulps[worst] <= bound, f"{ulps[worst]:.3f} ULP at {x[worst]!r}"


@pytest.mark.parametrize("name", sorted(EDGES))
def test_edges(name, dtype, isa):
    x, want = (np.array([*values, np.nan], dtype) for values in EDGES[name])
    got = ops.elementary(name, x)
    np.testing.assert_array_equal(got, want)
    zeros = want == 0
    np.testing.assert_array_equal(np.signbit(got[zeros]), np.signbit(want[zeros]))


@pytest.mark.parametrize("name", ["expm1", "log1p", "tanh", "erf"])
def test_subnormals(name, dtype, isa):
    # f(x) = x f'(0) there; erf'(0) = 2 / sqrt(pi).
    x = np.finfo(dtype).smallest_subnormal * np.array([1, 3, 1000, -1, -77], dtype)
    slope = 2 / np.sqrt(np.pi) if name == "erf" else 1
    got = ops.elementary(name, x)
    step = np.finfo(dtype).smallest_subnormal
    np.testing.assert_allclose(got, x.astype(np.longdouble) * slope, rtol=0, atol=float(step))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 9, 15, 17, 31, 33, 65])
def test_tails(n, dtype, isa, rng):
    x = rng.uniform(0.1, 3, 65).astype(dtype)
    for name in LARGEST_ERROR:
        whole = ops.elementary(name, x)
        np.testing.assert_array_equal(ops.elementary(name, x[:n]), whole[:n])
        np.testing.assert_array_equal(ops.elementary(name, x[65 - n :]), whole[65 - n :])
