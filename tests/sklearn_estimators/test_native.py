# SPDX-License-Identifier: Apache-2.0
"""What the estimators do in one native call, and the short way of a search."""

from __future__ import annotations

import itertools
import pickle
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from scipy import sparse
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold

from fusednn import _core, activations
from fusednn.sklearn import FusedSearchCV, MLPClassifier, MLPRegressor, architecture
from fusednn.sklearn.random_state import random_numbers

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X / 16
DIABETES = load_diabetes(return_X_y=True)


# ---- layers ------------------------------------------------------------------------------------


def oracle(x, layers, epsilon):
    x = x.astype(np.float64)
    for kernel, bias, activation, parameters, norm in layers:
        x = x @ kernel.astype(np.float64) + bias
        if norm is not None:
            gamma, beta, mean, variance = (each.astype(np.float64) for each in norm)
            x = gamma * (x - mean) / np.sqrt(variance + epsilon) + beta
        if activation == "softmax":
            x = np.exp(x - x.max(axis=1, keepdims=True))
            x /= x.sum(axis=1, keepdims=True)
        elif activation == "leaky_relu":
            x = np.where(x > 0, x, parameters["negative_slope"] * x)
        elif activation == "tanh":
            x = np.tanh(x)
    return x


def make_layers(sizes, dtype, norms, seed=0):
    rng = np.random.default_rng(seed)
    rules = [("tanh", {}), ("leaky_relu", {"negative_slope": 0.25}), ("softmax", {})]
    layers = []
    for place, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        kernel = rng.normal(0, fan_in**-0.5, (fan_in, fan_out)).astype(dtype)
        norm = None
        if place in norms:
            norm = [rng.uniform(0.5, 2, fan_out).astype(dtype) for _ in range(4)]
        layers.append((kernel, rng.normal(size=fan_out).astype(dtype), *rules[place], norm))
    return layers


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("norms", [(), (0,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("rows", [0, 1, 511, 512, 1300])
def test_layers(rows, norms, dtype, tolerance):
    layers = make_layers((17, 23, 9, 5), dtype, norms)
    x = np.random.default_rng(1).normal(size=(rows, 17)).astype(dtype)
    found = _core.dense_layers(x, layers, 1e-3)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, oracle(x, layers, 1e-3), rtol=tolerance, atol=tolerance)
    one = _core.dense_layers(x, layers, 1e-3, max_threads=1)
    np.testing.assert_array_equal(found, one)


def test_layers_of_any_memory():
    layers = make_layers((6, 8, 3), np.float64, (0,))
    x = np.random.default_rng(1).normal(size=(40, 12))
    odd = [(np.asfortranarray(k), np.repeat(b, 2)[::2], *rest) for k, b, *rest in layers]
    right = oracle(x[:, ::2], layers, 1e-5)
    np.testing.assert_allclose(_core.dense_layers(x[:, ::2], odd), right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("container", [sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
@pytest.mark.parametrize("norms", [(), (0,), (0, 1)], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_sparse_rows_are_not_written_out(depth, norms, dtype, tolerance, container, monkeypatch):
    layers = make_layers((2000, 23, 9, 5)[: depth + 1], dtype, norms)
    if depth == 1:
        layers = [(*layers[0][:2], "softmax", {}, layers[0][4])]
    x = sparse.random(50, 2000, 0.005, dtype=np.float64, random_state=0)
    right = oracle(x.toarray(), layers, architecture.NORM_EPSILON)
    monkeypatch.setattr(architecture, "_DENSE_ELEMENTS", None)  # with which nothing is written out
    coefs, intercepts, names, parameters, given = zip(*layers, strict=True)
    weights = architecture.Weights(coefs, intercepts, [norm for norm in given if norm])
    rules = [activations.get(n)(**p) for n, p in zip(names, parameters, strict=True)]
    found = architecture.forward(container(x), weights, rules)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: [], "at least one"),
        (lambda layers: [layers[1]], r"w: has shape \(8, 3\), expected \(6, units\)"),
        (lambda layers: [layers[0], layers[0]], r"w: has shape \(6, 8\), expected \(8, units\)"),
        (lambda layers: [layers[0][:4]], "tuples of five"),
        (lambda layers: [(*layers[0][:4], [np.ones(8)] * 3)], "norm: expected four arrays"),
        (lambda layers: [(*layers[0][:4], [np.ones(7)] * 4)], "norm: has shape"),
        (lambda layers: [(layers[0][0], np.ones(7), *layers[0][2:])], "b: has shape"),
    ],
)
def test_layers_that_do_not_fit(change, message):
    layers = make_layers((6, 8, 3), np.float64, ())
    with pytest.raises(ValueError, match=message):
        _core.dense_layers(np.ones((2, 6)), change(layers))


# ---- random numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 256, 1150])
@pytest.mark.parametrize("kind", [np.random.MT19937, np.random.PCG64])
def test_orders_are_those_of_numpy(rows, kind, shared):
    ours, theirs = (np.random.RandomState(kind(rows)) for _ in range(2))
    orders = _core.Orders(rows, ours._bit_generator, shared)
    order = np.arange(rows)
    for _ in range(3):
        places = np.arange(rows)
        theirs.shuffle(places)
        order = order[places]
        np.testing.assert_array_equal(orders.draw(), order)
    assert ours.randint(1 << 30) == theirs.randint(1 << 30)


def test_orders_wait_for_whoever_draws():
    generator = np.random.MT19937(0)
    orders = _core.Orders(5, generator)
    with generator.lock:
        drawing = threading.Thread(target=orders.draw)
        drawing.start()
        drawing.join(0.1)
        assert drawing.is_alive()
    drawing.join()


def test_orders_that_do_not_fit():
    with pytest.raises(ValueError, match="rows=-1"):
        _core.Orders(-1, np.random.MT19937(0))
    with pytest.raises(AttributeError, match="capsule"):
        _core.Orders(3, np.random.RandomState(0))
    nodes = [{"type": "input", "name": "x", "config": {"shape": [2]}, "inputs": []}]
    network = _core.Network(
        [*nodes, {"type": "dense", "name": "y", "config": {"units": 1}, "inputs": [0]}]
    )
    network.set_training([{"rule": "mse", "node": "y"}], [], {"rule": "sgd"})
    data = [np.zeros((4, 2), np.float32)], [np.zeros((4, 1), np.float32)]
    orders = _core.Orders(5, np.random.MT19937(0))
    with pytest.raises(ValueError, match="orders: are of 5 rows, expected 4"):
        network.train_epochs(*data, 4, 1, _core.Plateau(0.0, 1.0, 1.0, 0), [], orders)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_random_numbers_are_those_of_numpy(seed):
    ours, theirs = random_numbers(seed), np.random.RandomState(seed)
    copy = pickle.loads(pickle.dumps(ours))
    expected = [theirs.uniform(size=700), theirs.normal(size=3), theirs.randint(9, size=5)]
    for made in (ours, copy):
        for values, draw in zip(expected, ("uniform", "normal", "randint"), strict=True):
            given = {"size": values.shape} | ({"low": 9} if draw == "randint" else {})
            np.testing.assert_array_equal(getattr(made, draw)(**given), values)


# ---- a search ----------------------------------------------------------------------------------


def same_results(fused, plain):
    assert set(fused.cv_results_) == set(plain.cv_results_)
    for key, values in plain.cv_results_.items():
        if "time" not in key and key != "params":
            np.testing.assert_array_equal(fused.cv_results_[key], values)
    assert fused.best_params_ == plain.best_params_
    assert fused.n_splits_ == plain.n_splits_
    assert fused.multimetric_ is plain.multimetric_


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize(
    ("model", "data", "grid"),
    [
        (MLPClassifier(random_state=0), (X, Y), {"class_weight": [None, "balanced"]}),
        (MLPClassifier(random_state=0), (X, Y == 3), {"activation": [["tanh"], "relu"]}),
        (MLPRegressor(random_state=0), DIABETES, {"loss": ["poisson", "huber"], "solver": ["sgd"]}),
        (MLPClassifier(early_stopping=True, random_state=0), (X, Y), {"alpha": [1e-3, 0.1]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_short_way_finds_the_same(model, data, grid, n_jobs):
    options = {"cv": KFold(3, shuffle=True, random_state=0), "return_train_score": True}
    model.set_params(max_iter=4, learning_rate_init=1e-5)
    search = FusedSearchCV(model, grid, n_jobs=n_jobs, **options)
    assert search._is_plain(*data)
    plain = GridSearchCV(model, grid, **options).fit(*data)
    same_results(search.fit(*data), plain)
    np.testing.assert_array_equal(search.predict(data[0]), plain.predict(data[0]))
    assert search.score(*data) == plain.score(*data)
    assert search.best_score_ == plain.best_score_
    assert search.refit_time_ > 0


def test_fits_that_fail_in_a_search():
    model = MLPClassifier(max_iter=2, random_state=0)
    grid = {"hidden_layer_sizes": [(5,), (-5,)], "dropout": [0.0, [0.5, 0.5]]}
    searches = [kind(model, grid, cv=2, error_score=0.0) for kind in (FusedSearchCV, GridSearchCV)]
    for search in searches:
        with pytest.warns(FitFailedWarning, match="6 fits failed out of a total of 8"):
            search.fit(X, Y)
    same_results(*searches)
    with pytest.raises(ValueError, match="must be > 0"):
        FusedSearchCV(model, {"hidden_layer_sizes": [(-5,)]}, cv=2, error_score="raise").fit(X, Y)
    with pytest.raises(ValueError, match="All the 2 fits failed"):
        FusedSearchCV(model, {"alpha": [-1.0]}, cv=2).fit(X, Y)
    with pytest.raises(ValueError, match="Invalid parameter 'alhpa'"):
        FusedSearchCV(model, {"alhpa": [1.0]}, cv=2).fit(X, Y)
    with pytest.raises(ValueError, match="No fits were performed"):
        FusedSearchCV(model, [], cv=2).fit(X, Y)


def test_settings_of_scikit_learn_hold_in_the_threads():
    grid = {"tol": [-1.0]}  # which is refused, unless parameters are not to be looked at
    search = FusedSearchCV(MLPClassifier(max_iter=2), grid, cv=2, n_jobs=2)
    with sklearn.config_context(skip_parameter_validation=True):
        assert search.fit(X, Y).best_score_ > 0


def test_a_value_that_changes_is_not_shared_by_the_fits():
    random_state = np.random.RandomState(0)
    model = MLPClassifier((4,), max_iter=2, random_state=random_state)
    before = random_state.get_state()[1].copy()
    grid = {"alpha": [0.1, 0.1]}
    search = FusedSearchCV(model, grid, cv=2, refit=False).fit(X, Y)
    np.testing.assert_array_equal(random_state.get_state()[1], before)
    scores = search.cv_results_["split0_test_score"]
    assert scores[0] == scores[1]


def test_halving_the_short_way():
    model = MLPClassifier((8,), max_iter=9, random_state=0)
    grid = {"learning_rate_init": [1e-5, 1e-4, 1e-2]}
    search = FusedSearchCV(model, grid, search="halving", cv=2).fit(X, Y)
    assert list(search.cv_results_["n_resources"]) == [3] * 3 + [9]
    assert search.best_params_["learning_rate_init"] == 1e-2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_bad_number_is_found_wherever_it_is(dtype):
    x = np.full((1437, 64), np.finfo(np.float32).max, dtype)
    for given in (x, x.T, x[::2, 1:]):
        assert np.isclose(_core.sum(given), given.sum(dtype=np.float64), rtol=1e-12)
    for bad, place in itertools.product((np.nan, np.inf, -np.inf), (0, x.size // 2, -1)):
        spoilt = x.copy()
        spoilt.flat[place] = bad
        assert not np.isfinite(_core.sum(spoilt))


LABELS = [
    *itertools.product([[0, 1, 2], [1, 2], [4]], [np.uint8, np.int64, np.uint64, float, str]),
    *itertools.product([[10**9, 5, 6]], [np.int64, np.uint64, float, str]),
    *itertools.product([[-3, 0, 7]], [np.int64, float, str]),
]


@pytest.mark.parametrize(("names", "dtype"), LABELS)
def test_labels_of_any_kind_are_found_again(names, dtype):
    labels = np.resize(np.array(names).astype(dtype), 60)
    model = MLPClassifier((4,), max_iter=1)
    _, y = model._validate_input(X[:60], labels, False, reset=True)
    classes, places = np.unique(labels, return_inverse=True)
    np.testing.assert_array_equal(model.classes_, classes)
    assert classes.dtype.kind == "U" or model.classes_.dtype == classes.dtype
    if len(classes) > 2:
        np.testing.assert_array_equal(y, np.eye(len(classes), dtype=bool)[places])
    else:
        np.testing.assert_array_equal(y[:, 0], places == 1)
