# SPDX-License-Identifier: Apache-2.0
"""Noise layers: what is drawn against NumPy's and SciPy's functions of the same random words."""

import numpy as np
import pytest
from tests import oracle

import fusednn
from fusednn import _core, layers

special = pytest.importorskip("scipy.special")

ALPHA = -1.6732632423543772 * 1.0507009873554805


def words(n, seed, step, stream):
    """Return the random word of each element, as core/philox.h says who gets which."""
    place = np.arange(n)
    position = 16 * (place // 64) + place % 16
    counter = np.zeros((n, 4), np.uint64)
    counter[:, 0], counter[:, 2], counter[:, 3] = position, step, stream
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint64)
    return oracle.philox4x32_10(counter, key)[place, place // 16 % 4]


def normals(n, *at):
    u = ((words(n, *at) >> 9).astype(np.float64) + 0.5) / 2**22 - 1
    return np.sqrt(2) * special.erfinv(u)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 63, 1003, 70001])
def test_gaussian(rng, dtype, n):
    x = rng.standard_normal(n).astype(dtype)
    normal = normals(n, 2**40 + 7, 5, 3)
    for noise, expected in (("factor", x * (1 + 0.3 * normal)), ("term", x + 0.3 * normal)):
        y = _core.dropout(x, 0.0, 2**40 + 7, 5, 3, None, noise, 0.3)
        np.testing.assert_allclose(y, expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_alpha(rng, dtype):
    n, rate = 5003, 0.2
    x = rng.standard_normal(n).astype(dtype)
    keep = words(n, 9, 1, 2) < (1 - rate) * 2**32
    a = ((1 - rate) * (1 + rate * ALPHA**2)) ** -0.5
    forward = _core.dropout(x, rate, 9, 1, 2, None, "alpha")
    backward = _core.dropout(x, rate, 9, 1, 2, None, "alpha_gradient")
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    expected = a * np.where(keep, x, ALPHA) - a * ALPHA * rate
    np.testing.assert_allclose(forward, expected, rtol=0, atol=4 * tolerance)
    np.testing.assert_allclose(backward, a * np.where(keep, x, 0), rtol=0, atol=4 * tolerance)


def test_moments(rng):
    n = 1 << 20
    x = np.zeros(n, np.float32)
    y = _core.dropout(x, 0.0, 1, 1, 1, None, "term", 1.0).astype(np.float64)
    # Standard deviations of the first four moments' estimates, five times each.
    assert abs(y.mean()) < 5 / n**0.5
    assert abs(y.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((y**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((y**4).mean() - 3) < 5 * (96 / n) ** 0.5
    x = rng.standard_normal(n).astype(np.float32)
    z = _core.dropout(x, 0.3, 1, 1, 1, None, "alpha").astype(np.float64)
    assert abs(z.mean()) < 0.01
    assert abs(z.var() - 1) < 0.02


NOISES = [
    layers.GaussianNoise(0.2),
    layers.GaussianDropout(0.3),
    layers.AlphaDropout(0.25),
]


@pytest.mark.parametrize("layer", NOISES, ids=lambda layer: type(layer).__name__)
def test_only_while_training_with_the_right_gradient(rng, layer):
    layer = layers.deserialize(layers.serialize(layer))
    x = rng.standard_normal((40, 6))
    y = rng.standard_normal((40, 2))
    model = fusednn.Sequential([layers.Dense(6), layer, layers.Dense(2)], input_shape=(6,))
    model.compile(fusednn.optimizers.SGD(1e-6), "mse", precision="float64", seed=4)
    (w, b, v, c) = model.get_weights()
    np.testing.assert_allclose(model.predict(x), (x @ w + b) @ v + c, rtol=1e-12)

    def loss_at(kernel):
        """The same noise: the step decides about it."""
        again = fusednn.Sequential(
            [layers.Dense(6), layers.deserialize(layers.serialize(layer)), layers.Dense(2)],
            input_shape=(6,),
        )
        again.compile(fusednn.optimizers.SGD(1e-6), "mse", precision="float64", seed=4)
        again.set_weights([kernel, b, v, c])
        return again.train_on_batch(x, y), again.get_weights()[0]

    start, moved = loss_at(w)
    direction = rng.standard_normal(w.shape)
    h = 1e-5
    slope = (loss_at(w + h * direction)[0] - loss_at(w - h * direction)[0]) / (2 * h)
    gradient = (w - moved) / 1e-6
    assert abs(slope - (gradient * direction).sum()) < 1e-6 * max(abs(slope), 1)
    assert abs(start - model.evaluate(x, y)) > 1e-4  # there was noise


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.GaussianNoise(-1), "stddev"),
        (lambda: layers.GaussianDropout(1.0), "rate"),
        (lambda: layers.AlphaDropout(-0.1), "rate"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
