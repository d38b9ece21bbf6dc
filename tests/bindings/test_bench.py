# SPDX-License-Identifier: Apache-2.0
"""What the benchmark measures in native code: limits of the machine, products of a layer."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusednn import _core


@pytest.mark.parametrize("kind", ["fma", "read", "copy", "triad"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 3])
def test_ceilings_are_positive_and_finite(isa, kind, dtype, count):
    rate = _core.measure_ceiling(kind, dtype, count, 1e-6)
    assert math.isfinite(rate)
    assert rate > 1e6  # an abacus is slower, everything else is faster


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("fmma", "float32", 1), "kind='fmma' is unknown"),
        (("fma", "float16", 1), "float16"),
        (("fma", "float32", 0), "threads=0"),
        (("fma", "float32", 1, 0.0), "seconds=0"),
        (("fma", "float32", 1, math.nan), "seconds=nan"),
    ],
)
def test_ceilings_refuse_nonsense(arguments, says):
    with pytest.raises(ValueError, match=says):
        _core.measure_ceiling(*arguments)


@pytest.mark.parametrize("kind", ["forward", "dx", "dw"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products(kind, dtype, rng):
    x, w, y = (rng.standard_normal(shape).astype(dtype) for shape in ((7, 5), (5, 3), (7, 3)))
    expected = {"forward": x @ w, "dx": y @ w.T, "dw": x.T @ y}[kind]
    _core.run_product(kind, x, w, y, 2)
    result = {"forward": y, "dx": x, "dw": w}[kind]
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)


def test_products_refuse_what_does_not_fit():
    x, w, y = np.zeros((7, 5)), np.zeros((5, 3)), np.zeros((7, 3))
    with pytest.raises(ValueError, match="kind='dy' is unknown"):
        _core.run_product("dy", x, w, y)
    with pytest.raises(ValueError, match="w"):
        _core.run_product("forward", x, np.zeros((4, 3)), y)
    with pytest.raises(ValueError, match="y"):
        _core.run_product("forward", x, w, np.zeros((7, 4)))
