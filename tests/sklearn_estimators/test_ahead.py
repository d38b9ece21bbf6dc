# SPDX-License-Identifier: Apache-2.0
"""Epochs that are trained several in a call are those that are trained one by one."""

import signal
import threading
import warnings

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import make_classification  # noqa: E402

from fusednn.callbacks import Callback  # noqa: E402
from fusednn.sklearn import MLPClassifier, MLPRegressor  # noqa: E402
from fusednn.sklearn.engine import Engine  # noqa: E402

X, Y = make_classification(
    150, 12, n_informative=6, n_classes=3, random_state=0, shuffle=True
)  # 150 rows: not a multiple of the batch


class Onlooker(Callback):
    """Wants to be told of every epoch, which is why there is a call for each."""


def fitted(options, *, onlooker, regress=False):
    kind = MLPRegressor if regress else MLPClassifier
    random_state = np.random.RandomState(3)
    model = kind(
        hidden_layer_sizes=(8,),
        batch_size=32,
        random_state=random_state,
        callbacks=[Onlooker()] if onlooker else None,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, Y)
    return model, random_state.randint(1 << 30)


@pytest.mark.parametrize("regress", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"max_iter": 50},
        {"max_iter": 1},
        {"max_iter": 300, "tol": 1e-2, "learning_rate_init": 0.01},
        {"max_iter": 300, "tol": 1e-2, "n_iter_no_change": 1, "learning_rate_init": 0.01},
        {"max_iter": 40, "tol": 0.0, "n_iter_no_change": np.inf},
        {"max_iter": 90, "tol": 0.05, "n_iter_no_change": 2, "shuffle": False},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2},
        {"solver": "sgd", "learning_rate": "invscaling", "max_iter": 20},
        {"l1": 1e-3, "alpha": 1e-2, "max_iter": 20},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_the_same_fit(options, regress):
    """Weights, losses, stop, optimizer and the numbers drawn are equal to the last bit."""
    (ahead, next_ahead), (one_by_one, next_one) = (
        fitted(options, onlooker=onlooker, regress=regress) for onlooker in (False, True)
    )
    assert ahead.n_iter_ == one_by_one.n_iter_
    assert ahead.t_ == one_by_one.t_
    assert ahead.loss_curve_ == one_by_one.loss_curve_
    assert ahead.best_loss_ == one_by_one.best_loss_
    assert ahead.history_ == one_by_one.history_
    pairs = zip(ahead.coefs_, one_by_one.coefs_, strict=True)
    for a, b in [*pairs, *zip(ahead.intercepts_, one_by_one.intercepts_, strict=True)]:
        np.testing.assert_array_equal(a, b)
    assert next_ahead == next_one


def test_a_fit_goes_on_where_it_stopped():
    """The random numbers of a stopped fit are those that it used, so warm starts agree, too."""
    options = {"max_iter": 200, "tol": 1e-2, "learning_rate_init": 0.01, "warm_start": True}
    models = [fitted(options, onlooker=onlooker)[0] for onlooker in (False, True)]
    for model in models:
        model.set_params(max_iter=5, tol=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, Y)
    for a, b in zip(*(model.coefs_ for model in models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_several_epochs_are_one_call(monkeypatch):
    calls = []
    native = Engine.epochs

    def counting(self, samples, orders, n, *args):
        calls.append(n)
        return native(self, samples, orders, n, *args)

    monkeypatch.setattr(Engine, "epochs", counting)
    model, _ = fitted({"max_iter": 50, "tol": 0}, onlooker=False)
    assert sum(calls) == model.n_iter_ == 50
    assert len(calls) < 6


@pytest.mark.parametrize("onlooker", [False, True])
def test_weights_that_are_not_finite_are_an_error(onlooker):
    options = {"solver": "sgd", "learning_rate_init": 1e6, "max_iter": 30}
    with pytest.raises(ValueError, match="non-finite"):
        fitted(options, onlooker=onlooker, regress=True)


def test_an_interrupted_fit_counts_its_epochs():
    """Ctrl-C within a call: what was trained is known, and the estimator predicts."""
    model = MLPClassifier((8,), batch_size=8, max_iter=10**6, tol=0, n_iter_no_change=10**9)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, Y)
    timer.join()
    assert len(model.loss_curve_) == model.n_iter_ > 0
    assert model.t_ == model.n_iter_ * len(X)
    steps_per_epoch = -(-len(X) // 8)
    done = model._optimizer.iterations
    assert model.n_iter_ * steps_per_epoch <= done < (model.n_iter_ + 1) * steps_per_epoch
    model.predict(X[:3])
