# SPDX-License-Identifier: Apache-2.0
"""Derivatives by central differences."""

import numpy as np


def slope(f, x, h=2e-5):
    """Elementwise derivative by a fourth-order central difference."""
    return (8 * (f(x + h) - f(x - h)) - (f(x + 2 * h) - f(x - 2 * h))) / (12 * h)


def numeric_gradient(f, x, h=2e-5):
    """Gradient of a scalar function by central differences, one element at a time."""
    x = np.array(x, dtype=np.float64)
    out = np.empty_like(x)
    for i in np.ndindex(x.shape):

        def along(value, i=i):
            moved = x.copy()
            moved[i] = value
            return f(moved)

        out[i] = slope(along, x[i], h)
    return out
