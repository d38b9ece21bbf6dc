# SPDX-License-Identifier: Apache-2.0
"""The learning-rate search, and weighted_metrics."""

import numpy as np
import pytest

import fusednn
from fusednn import layers


def quadratic(optimizer="sgd", **options):
    """Least squares with one curvature: SGD explodes above 2 / curvature."""
    model = fusednn.Sequential([layers.Dense(1, use_bias=False)], input_shape=(8,))
    model.compile(optimizer, "mse", precision="float64", seed=1, **options)
    return model


@pytest.fixture
def data(rng):
    x = np.tile(np.linalg.qr(rng.standard_normal((8, 8)))[0] * 8**0.5, (32, 1))
    return x, x @ rng.standard_normal((8, 1))  # the curvature is 2 in every direction


def test_finds_where_it_falls_and_where_it_explodes(data):
    search = quadratic().find_learning_rate(*data, low=1e-4, high=1e3, batch_size=256, steps=140)
    assert 1e-2 < search.suggestion < 1
    assert 1 < search.rates[-1] < 100  # it explodes above 1, and is noticed soon
    assert search.losses.min() < 1e-3 * search.losses[0]
    assert search.rates.shape == search.losses.shape == search.smoothed.shape


def test_losses_are_those_of_single_steps(data):
    x, y = data
    search = quadratic().find_learning_rate(x, y, 1e-3, 1e-1, steps=10, batch_size=256)
    model = quadratic(fusednn.optimizers.SGD(1.0))
    for rate, loss in zip(np.geomspace(1e-3, 1e-1, 10), search.losses, strict=True):
        model.optimizer.learning_rate = rate
        assert abs(model.train_on_batch(x, y) / loss - 1) < 1e-9


@pytest.mark.parametrize("name", ["sgd", "adam", "nadam"])
def test_everything_is_put_back(data, name):
    x, y = data
    with_search, without = quadratic(name), quadratic(name)
    for model in (with_search, without):
        model.fit(x, y, 64, 2, verbose=0)
    with_search.find_learning_rate(x, y)
    for model in (with_search, without):
        model.fit(x, y, 64, 2, verbose=0)
    np.testing.assert_array_equal(with_search.get_weights()[0], without.get_weights()[0])
    assert with_search.optimizer.learning_rate == without.optimizer.learning_rate


def test_plot(data):
    pytest.importorskip("matplotlib")
    figure = quadratic().find_learning_rate(*data).plot()
    (ax,) = figure.axes
    assert ax.get_xlabel() == "learning rate"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"low": 1.0, "high": 0.5}, "high=0.5"),
        ({"steps": 3}, "steps"),
        ({"low": 1e300, "high": 1e301}, "explodes at once"),
    ],
)
def test_wrong_arguments(data, arguments, message):
    with pytest.raises(ValueError, match=message):
        quadratic().find_learning_rate(*data, **arguments)


def test_weighted_metrics(rng):
    x, y = rng.standard_normal((20, 8)), rng.standard_normal((20, 1))
    model = quadratic(metrics=["mae"], weighted_metrics=["mse"])
    weight = rng.random(20)
    result = model.evaluate(x, y, sample_weight=weight, return_dict=True)
    error = model.predict(x) - y
    assert list(result) == ["loss", "mae", "mse"]
    expected = (weight * error[:, 0] ** 2).sum() / weight.sum()
    assert abs(result["mse"] / expected - 1) < 1e-12
