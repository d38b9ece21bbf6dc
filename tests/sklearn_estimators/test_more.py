# SPDX-License-Identifier: Apache-2.0
"""What scikit-learn's perceptrons do not have."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy import sparse
from sklearn import config_context, neural_network
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer

import fusednn
from fusednn.sklearn import MLPClassifier, MLPRegressor, ProgressBar, compat
from fusednn.sklearn.classifier import _binarizer

X, Y = load_digits(return_X_y=True)
X = X / 16

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**params):
    return MLPClassifier(**{"max_iter": 15, "random_state": 0, **params})


@pytest.mark.parametrize(
    ("params", "least"),
    [
        ({"dropout": 0.2}, 0.9),
        ({"dropout": [0.1, 0.0], "hidden_layer_sizes": (64, 32)}, 0.9),
        ({"batch_norm": True}, 0.95),
        ({"activation": ["gelu", "tanh"], "hidden_layer_sizes": (64, 32)}, 0.9),
        ({"activation": fusednn.activations.elu(alpha=0.5)}, 0.9),
        ({"solver": "adamw", "optimizer_params": {"weight_decay": 0.01}}, 0.9),
        ({"solver": "rmsprop"}, 0.9),
        ({"solver": fusednn.optimizers.Lion(1e-3)}, 0.9),
        ({"loss": "hinge"}, 0.85),
        ({"loss": "squared_hinge"}, 0.85),
        ({"l1": 1e-3}, 0.9),
        ({"clipnorm": 0.5}, 0.9),
        ({"initializer": "he_normal"}, 0.9),
        ({"precision": "bfloat16"}, 0.9),
        ({"precision": "float32"}, 0.9),
        ({"n_threads": 1}, 0.9),
    ],
    ids=str,
)
def test_it_learns_and_survives_a_pickle(params, least):
    model = classifier(**params).fit(X, Y)
    assert model.score(X, Y) > least
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy.predict(X), model.predict(X))
    for _ in range(2):
        copy.partial_fit(X, Y)
        model.partial_fit(X, Y)
    for a, b in zip(copy.coefs_, model.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)


def test_regression_losses_find_their_statistic():
    rng = np.random.default_rng(0)
    y = rng.exponential(size=4000)
    x = np.zeros((4000, 1))
    wanted = {
        "absolute_error": np.median(y),
        "quantile": np.median(y),
        fusednn.losses.Quantile(0.9): np.quantile(y, 0.9),
        "squared_error": y.mean(),
        "poisson": y.mean(),
    }
    for loss, value in wanted.items():
        model = MLPRegressor(loss, (), max_iter=200, learning_rate_init=0.02, alpha=0, tol=0)
        found = model.set_params(random_state=0).fit(x, y).predict(x[:1])[0]
        assert found == pytest.approx(value, rel=0.08), loss


def test_l1_makes_weights_vanish():
    plain = classifier(max_iter=60).fit(X, Y)
    sparse = classifier(max_iter=60, l1=0.3).fit(X, Y)
    small = [np.mean(np.abs(model.coefs_[0]) < 1e-2) for model in (plain, sparse)]
    assert small[1] > small[0] + 0.2


def test_class_weight_is_sample_weight():
    factor = np.where(Y == 3, 5.0, 1.0)
    a = classifier(class_weight={3: 5.0}).fit(X, Y)
    b = classifier().fit(X, Y, factor)
    np.testing.assert_allclose(a.coefs_[0], b.coefs_[0], rtol=1e-12)
    c = classifier(class_weight="balanced").fit(X[:600], Y[:600])
    counts = np.bincount(Y[:600])
    d = classifier().fit(X[:600], Y[:600], (600 / (10 * counts))[Y[:600]])
    np.testing.assert_allclose(c.coefs_[0], d.coefs_[0], rtol=1e-12)


def test_hinge_has_no_probabilities():
    model = classifier(loss="hinge").fit(X, Y)
    assert not hasattr(model, "predict_proba")
    assert not hasattr(model, "predict_log_proba")


def test_validation_data():
    train, other = slice(0, 1500), slice(1500, None)
    model = classifier().fit(X[train], Y[train], validation_data=(X[other], Y[other]))
    assert len(model.validation_loss_curve_) == model.n_iter_ == len(model.history_["val_score"])
    assert model.validation_scores_[-1] == model.score(X[other], Y[other])
    probability = model.predict_proba(X[other])[np.arange(297), Y[other]]
    assert model.validation_loss_curve_[-1] == pytest.approx(-np.log(probability).mean())
    unheard = classifier().fit(X[train], Y[train])
    np.testing.assert_array_equal(model.coefs_[0], unheard.coefs_[0])

    stopped = classifier(early_stopping=True, max_iter=200, n_iter_no_change=3)
    stopped.fit(X[train], Y[train], validation_data=(X[other], Y[other]))
    assert stopped.n_iter_ < 200
    assert stopped.best_validation_score_ == stopped.score(X[other], Y[other])
    with pytest.raises(ValueError, match="validation_data: y has classes"):
        classifier().fit(X[Y < 9], Y[Y < 9], validation_data=(X, Y))


def test_the_validation_score_of_a_regressor():
    data, y = load_diabetes(return_X_y=True)
    model = MLPRegressor(max_iter=5, random_state=0)
    model.fit(data[:300], y[:300], validation_data=(data[300:], y[300:]))
    assert model.validation_scores_[-1] == pytest.approx(model.score(data[300:], y[300:]))


def test_a_schedule_sets_the_rate_of_each_step():
    seen = []

    def schedule(step):
        seen.append(step)
        return 0.01 / (1 + step)

    model = classifier(max_iter=2, schedule=schedule).fit(X, Y)
    assert seen == list(range(18))
    assert model.history_["learning_rate"] == pytest.approx([0.01 / 9, 0.01 / 18])


def test_callbacks_are_told_and_obeyed():
    stop = fusednn.callbacks.EarlyStopping(
        "loss", min_delta=0.1, patience=1, restore_best_weights=True
    )
    lines = []
    tell = fusednn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: lines.append(logs))
    model = classifier(max_iter=200, callbacks=[stop, tell]).fit(X, Y)
    assert model.n_iter_ == len(lines) < 200
    assert {"loss", "learning_rate"} <= set(lines[0])


def test_tensorboard(tmp_path):
    board = fusednn.callbacks.TensorBoard(tmp_path, 1, write_steps_per_second=True)
    classifier(max_iter=2, callbacks=[board]).fit(X, Y)
    (path,) = (tmp_path / "train").iterdir()
    written = path.read_bytes()
    for name in ("epoch_loss", "epoch_steps_per_second", "dense_1/kernel/histogram"):
        assert name.encode() in written


CALLBACKS_OF_MODELS = [
    fusednn.callbacks.ModelCheckpoint("model.safetensors"),
    fusednn.callbacks.BackupAndRestore("folder"),
    fusednn.callbacks.LayerStatistics(X, Y),
]


@pytest.mark.parametrize("callback", CALLBACKS_OF_MODELS, ids=lambda each: type(each).__name__)
def test_callbacks_of_models_are_refused(callback):
    with pytest.raises(TypeError, match=rf"{type(callback).__name__} is for Model.fit"):
        classifier(callbacks=[callback]).fit(X, Y)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_progress_bar(terminal, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    model = classifier(max_iter=5, callbacks=[ProgressBar(stream)]).fit(X, Y)
    last = stream.getvalue().splitlines()[-1]
    assert "Epoch 5/5" in last
    assert "loss" in last
    assert ("Epoch 1/5" in stream.getvalue()) == terminal
    clone(model).set_params(callbacks=[ProgressBar(stream)]).fit(X, Y)


def test_progress_writes_a_line_per_epoch(capsys):
    stream = io.StringIO()
    show = fusednn.callbacks.Progress(stream=stream)
    classifier(max_iter=3, callbacks=[show]).fit(X, Y)
    lines = stream.getvalue().splitlines()
    assert [line[:9] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert all("loss: " in line for line in lines)
    classifier(max_iter=3, callbacks=[fusednn.callbacks.Progress(0, stream)]).fit(X, Y)
    assert len(stream.getvalue().splitlines()) == 3
    assert capsys.readouterr().out == ""


def test_callbacks_are_not_for_lbfgs():
    with pytest.raises(ValueError, match=r"callbacks=.* needs a solver that works batch by batch"):
        classifier(solver="lbfgs", callbacks=[ProgressBar()]).fit(X, Y)


def test_quick_ways_are_those_of_scikit_learn():
    for y in (Y, Y % 2, Y.astype(np.int8), Y - 3, Y[:9], np.zeros(30, int)):
        quick, slow = _binarizer(y), LabelBinarizer().fit(y)
        assert vars(quick).keys() == vars(slow).keys()
        assert quick.y_type_ == slow.y_type_
        np.testing.assert_array_equal(quick.transform(Y[:9]), slow.transform(Y[:9]))
    model = classifier(max_iter=3).fit(X, Y)
    right = accuracy_score(Y, model.predict(X))
    weight = np.linspace(0, 1, len(Y))
    for y in (Y, list(Y), Y.astype(float)):
        assert model.score(X, y) == right
    weighed = accuracy_score(Y, model.predict(X), sample_weight=weight)
    assert model.score(X, Y, weight) == weighed
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.score(X, Y[:-1])
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


def test_epochs_of_partial_fit():
    model = classifier().partial_fit(X, Y, classes=range(10), epochs=4)
    other = classifier().fit(X, Y)
    assert len(model.loss_curve_) == 4
    # One call draws its shuffles one after the other, as fit does.
    assert model.loss_curve_ == pytest.approx(other.loss_curve_[:4])


def test_epochs_are_a_number_of_them():
    for epochs, error in ((0, ValueError), (2.5, TypeError)):
        for model, more in ((classifier(), {"classes": range(10)}), (MLPRegressor(), {})):
            with pytest.raises(error, match="epochs must be"):
                model.partial_fit(X, Y, epochs=epochs, **more)


def test_targets_that_a_regressor_does_not_take():
    with pytest.raises(TypeError, match="y must be an array, got a sparse matrix"):
        MLPRegressor().fit(X, sparse.csr_matrix(X[:, :2]))
    with pytest.raises(
        ValueError, match=r"Poisson\(\) is not for MLPRegressor.* poisson, .* by name"
    ):
        MLPRegressor(fusednn.losses.Poisson()).fit(X, Y)


def test_threads_make_no_difference():
    models = [classifier(n_threads=n, max_iter=4).fit(X, Y) for n in (1, 2, 3)]
    for model in models[1:]:
        np.testing.assert_array_equal(model.coefs_[0], models[0].coefs_[0])


def test_an_interrupted_fit_keeps_what_it_has():
    def interrupt(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    tell = fusednn.callbacks.LambdaCallback(on_epoch_end=interrupt)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model = classifier(callbacks=[tell]).fit(X, Y)
    assert model.n_iter_ == 3
    assert model.score(X, Y) > 0.3


def test_weights_may_be_replaced_by_hand():
    model = classifier(max_iter=2).fit(X, Y)
    before = model.predict_proba(X)
    model.coefs_[0][:] = 0
    assert not np.allclose(model.predict_proba(X), before)
    model.coefs_ = [np.zeros((64, 100)), np.zeros((100, 10), order="F")]
    model.intercepts_ = [np.zeros(100), np.arange(10.0)]
    assert set(model.predict(X)) == {9}
    model.partial_fit(X, Y)
    assert model.score(X, Y) > 0


def test_many_threads_may_predict_at_once():
    from concurrent.futures import ThreadPoolExecutor

    model = classifier(max_iter=2).fit(X, Y)
    expected = model.predict_proba(X)
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: model.predict_proba(X), range(64)):
            np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"alpha": -1}, "'alpha' parameter"),
        ({"activation": "rellu"}, "'activation' parameter"),
        ({"activation": ["relu", "relu"]}, "a list of 1, got 2"),
        ({"activation": ["softmax"]}, "softmax is not for hidden layers"),
        ({"dropout": [0.5, 0.5]}, "dropout must be a rate"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"solver": "newton"}, "'solver' parameter"),
        ({"device": "tpu"}, "tpu"),
        ({"dropout": ["a"]}, "dropout must be a rate"),
        ({"hidden_layer_sizes": (3, -1)}, "hidden_layer_sizes must be > 0"),
        ({"hidden_layer_sizes": [3.7]}, "hidden_layer_sizes must be whole numbers"),
        ({"schedule": np.negative}, r"schedule\(1\) must be a finite number in"),
    ],
    ids=str,
)
def test_wrong_parameters(params, message):
    with pytest.raises(ValueError, match=message):
        classifier(**params).fit(X, Y)


@pytest.mark.skipif(compat.VERSION < (1, 7), reason="scikit-learn's takes weights from 1.7 on")
def test_weights_of_samples_may_be_negative_but_not_their_sum():
    weight = np.ones(len(X))
    weight[0] = -0.5
    ours, theirs = (
        kind((5,), max_iter=3, random_state=0).fit(X, Y, sample_weight=weight)
        for kind in (MLPClassifier, neural_network.MLPClassifier)
    )
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-10)
    with pytest.raises(ValueError, match="sample_weight has a negative sum, -"):
        MLPClassifier((5,), max_iter=3).fit(X, Y, sample_weight=-weight)


def test_who_goes_on_keeps_the_number_of_outputs():
    model = MLPRegressor(max_iter=1).partial_fit(X, Y)
    with pytest.raises(ValueError, match="y has 2 outputs, the network that is to go on has 1"):
        model.partial_fit(X, np.c_[Y, Y])
    assert model.n_outputs_ == 1


def test_warnings_name_the_line_of_the_caller():
    with pytest.warns(UserWarning, match="clipped|Maximum iterations") as noted:
        classifier(max_iter=1, batch_size=10**6).fit(X, Y)
    assert [warning.filename for warning in noted] == [__file__] * 2


def test_who_does_not_want_parameters_checked_need_not():
    with config_context(skip_parameter_validation=True):
        classifier(max_iter=1, tol="unused")._validate_params()


@pytest.mark.skipif(compat.VERSION < (1, 9), reason="scikit-learn's callbacks came with 1.9")
def test_scikit_learns_callbacks():
    class Watch:
        def __init__(self):
            self.seen, self.scores = [], []

        def setup(self, estimator, context):
            self.seen.append("setup")

        def teardown(self, estimator, context):
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.seen.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            self.scores.append(fitted_estimator.score(X, y))
            self.seen.append(f"end {context.task_name}")
            return len(self.scores) == 3

    watch = Watch()
    model = classifier().set_callbacks(watch).fit(X, Y)
    epochs = ["begin epoch", "end epoch"] * 3
    assert watch.seen == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert model.n_iter_ == 3
    assert watch.scores[-1] == model.score(X, Y)


def test_no_warning_where_training_has_converged():
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        classifier(max_iter=200, tol=0.1).fit(X, Y)
