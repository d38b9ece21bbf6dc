# SPDX-License-Identifier: Apache-2.0
"""Parameters treated apart: rates, decay, regularisation, and values that follow a schedule."""

import numpy as np
import pytest

from fusednn import _core, catalog

ROWS, COLUMNS, RATE = 7, 5, 0.1


def linear(treatments=None, **optimizer):
    """Return a linear regression in float64 and its parameters."""
    nodes = [
        {"type": "input", "name": "x", "inputs": [], "config": {"shape": [COLUMNS]}},
        {"type": "dense", "name": "y", "inputs": [0], "config": {"units": 2}},
    ]
    network = _core.Network(nodes, "float64", "cpu", 0)
    rng = np.random.default_rng(3)
    for p in network.parameters():
        p["value"][...] = rng.standard_normal(p["shape"])
    spec = {"rule": "sgd", "hyper": {"lr": RATE}, **optimizer}
    network.set_training(
        [{"rule": "mse", "node": "y"}], [], {**spec, "treatments": treatments or []}
    )
    return network, [p["value"] for p in network.parameters()]


def data(rows=ROWS):
    rng = np.random.default_rng(4)
    return [rng.standard_normal((rows, COLUMNS))], [rng.standard_normal((rows, 2))]


def descend(w, b, x, y, l1=0.0, l2=0.0, rates=(RATE, RATE), decay=0.0):
    """Take one step of gradient descent; return the new weights and the penalty before it."""
    error = x @ w + b - y
    gw = 2 * x.T @ error / error.size + l2 * w + l1 * np.sign(w) + decay * w
    gb = 2 * error.sum(axis=0) / error.size + decay * b
    penalty = l1 * abs(w).sum() + l2 / 2 * (w**2).sum()
    return w - rates[0] * gw, b - rates[1] * gb, penalty


def test_regularisation_joins_loss_and_gradient():
    kernel = {"l1": 0.03, "l2": 0.2}
    network, (w, b) = linear([kernel, {}])
    (x,), (y,) = data()
    expected_w, expected_b, total = w.copy(), b.copy(), 0.0
    for part in (slice(0, 3), slice(3, 6), slice(6, 7)):
        expected_w, expected_b, penalty = descend(
            expected_w, expected_b, x[part], y[part], **kernel
        )
        total += penalty * len(x[part])
    report = network.train([x], [y], batch_size=3)
    np.testing.assert_allclose(w, expected_w, rtol=1e-13)
    np.testing.assert_allclose(b, expected_b, rtol=1e-13)
    assert report["penalty"] == pytest.approx(total, rel=1e-13)
    before = w.copy()
    report = network.evaluate([x], [y], batch_size=3)
    expected = ROWS * (0.03 * abs(before).sum() + 0.1 * (before**2).sum())
    assert report["penalty"] == pytest.approx(expected, rel=1e-13)
    np.testing.assert_array_equal(w, before)


def test_penalty_of_many_elements_has_the_same_bits_for_any_number_of_threads():
    nodes = [
        {"type": "input", "name": "x", "inputs": [], "config": {"shape": [300]}},
        {"type": "dense", "name": "y", "inputs": [0], "config": {"units": 101}},
    ]
    reports = []
    for threads in (1, 2, 3):
        network = _core.Network(nodes, "float32", "cpu", 0)
        network.parameters()[0]["value"][...] = np.random.default_rng(0).standard_normal((300, 101))
        treatments = [{"l1": 0.5, "l2": 0.25}, {"l2": 1.0}]
        network.set_training(
            [{"rule": "mse", "node": "y"}],
            [],
            {"rule": "sgd", "hyper": {"lr": 0.0}, "treatments": treatments},
        )
        x = np.ones((4, 300), np.float32)
        y = np.ones((4, 101), np.float32)
        reports.append(network.train([x], [y], batch_size=4, max_threads=threads)["penalty"])
    w = network.parameters()[0]["value"].astype(np.float64)
    assert reports[0] == reports[1] == reports[2]
    assert reports[0] == pytest.approx(4 * (0.5 * abs(w).sum() + 0.125 * (w**2).sum()), rel=1e-12)


def test_rates_and_decay_per_parameter():
    treatments = [{"rate": 0.5, "decays": True}, {"rate": 3.0, "decays": False}]
    network, (w, b) = linear(treatments, weight_decay=0.4)
    (x,), (y,) = data()
    expected_w, _, _ = descend(w, b, x, y, rates=(0.5 * RATE, 0), decay=0.4)
    _, expected_b, _ = descend(w, b, x, y, rates=(0, 3 * RATE))
    network.train([x], [y], batch_size=ROWS)
    np.testing.assert_allclose(w, expected_w, rtol=1e-13)
    np.testing.assert_allclose(b, expected_b, rtol=1e-13)


@pytest.mark.parametrize("rule", sorted(catalog.optimizers()))
def test_treating_all_alike_changes_nothing(rule):
    """Groups of the same settings give the bits of one group."""
    results = []
    for treatments in ([], [{"rate": 1.0}, {"rate": 1.0}], [{"l2": 0.0}, {"l2": 1e-300}]):
        network, weights = linear(treatments, rule=rule)
        x, y = data()
        for _ in range(4):
            network.train(x, y, batch_size=3)
        results.append(np.concatenate([w.ravel() for w in weights]))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_allclose(results[0], results[2], rtol=1e-14)


def test_schedules_give_each_step_its_values():
    network, (w, b) = linear([{"l2": 0.2}, {}])
    (x,), (y,) = data()
    rates, scales = np.array([0.1, 0.0, 0.3]), np.array([1.0, 5.0, 0.0])
    expected_w, expected_b = w.copy(), b.copy()
    for step, part in enumerate((slice(0, 3), slice(3, 6), slice(6, 7))):
        expected_w, expected_b, _ = descend(
            expected_w, expected_b, x[part], y[part], l2=0.2 * scales[step], rates=[rates[step]] * 2
        )
    network.train([x], [y], batch_size=3, schedules={"lr": rates, "penalty_scale": scales})
    np.testing.assert_allclose(w, expected_w, rtol=1e-13)
    np.testing.assert_allclose(b, expected_b, rtol=1e-13)
    assert network.hyper("lr") == 0.3
    assert network.hyper("penalty_scale") == 0.0


@pytest.mark.parametrize(
    ("schedules", "message"),
    [
        ({"lr": np.ones(2)}, "expected"),
        ({"lr": np.ones(3, np.float32)}, "float64"),
        ({"speed": np.ones(3)}, "no hyper-parameter 'speed'"),
        ({"lr": np.array([0.1, np.nan, 0.1])}, "finite"),
        ({"weight_decay": np.array([0.1, 0.1, -1])}, "negative"),
    ],
)
def test_bad_schedules_change_nothing(schedules, message):
    network, weights = linear()
    x, y = data()
    before = [w.copy() for w in weights]
    with pytest.raises((ValueError, TypeError), match=message):
        network.train(x, y, batch_size=3, schedules=schedules)
    for w, kept in zip(weights, before, strict=True):
        np.testing.assert_array_equal(w, kept)
    assert network.hyper("lr") == RATE
    assert network.optimizer_steps == 0


@pytest.mark.parametrize(
    ("treatments", "message"),
    [
        ([{}], "one for each of the 2 parameters"),
        ([{"rate": -1.0}, {}], "rate=-1"),
        ([{"l1": float("nan")}, {}], "l1"),
        ([{"speed": 1.0}, {}], "'speed' is unknown"),
        ([3, {}], "dict"),
    ],
)
def test_bad_treatments(treatments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        linear(treatments)
