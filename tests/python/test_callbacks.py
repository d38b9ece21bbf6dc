# SPDX-License-Identifier: Apache-2.0
"""Callbacks, history, and what `fit` shows."""

import io
import re

import numpy as np
import pytest

import fusednn
from fusednn import callbacks, layers, optimizers
from fusednn.callbacks import Callback, EarlyStopping, LambdaCallback, LearningRateScheduler
from fusednn.progress import Progress


@pytest.fixture
def model():
    made = fusednn.Sequential([layers.Dense(1)], input_shape=(2,), seed=0)
    made.compile(optimizers.SGD(0.01), "mse", metrics=["mae"])
    return made


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 2)), rng.normal(size=20)


class Recorder(Callback):
    def __init__(self):
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append(("train begin", self.params["epochs"]))

    def on_train_end(self, logs=None):
        self.seen.append(("train end", sorted(logs)))

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(("epoch begin", epoch))

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(("epoch end", epoch, sorted(logs)))


def test_order_of_the_hooks(model, data):
    recorder = Recorder()
    model.fit(*data, epochs=2, callbacks=recorder, verbose=0)
    assert recorder.model is model
    assert recorder.seen == [
        ("train begin", 2),
        ("epoch begin", 0),
        ("epoch end", 0, ["loss", "mae"]),
        ("epoch begin", 1),
        ("epoch end", 1, ["loss", "mae"]),
        ("train end", ["loss", "mae"]),
    ]


def test_entries_added_to_the_logs_are_recorded(model, data):
    def add(epoch, logs):
        logs["mine"] = 2.0 * epoch

    history = model.fit(*data, epochs=3, verbose=0, callbacks=[LambdaCallback(on_epoch_end=add)])
    assert history.history["mine"] == [0, 2, 4]


def test_stop_training(model, data):
    def stop(epoch, logs):
        model.stop_training = epoch == 1

    stopper = LambdaCallback(on_epoch_end=stop)
    assert model.fit(*data, epochs=9, verbose=0, callbacks=[stopper]).epoch == [0, 1]
    assert len(model.fit(*data, epochs=3, verbose=0).epoch) == 3  # forgotten in the next fit


def test_step_hooks_see_every_step(model, data):
    seen = []
    watch = LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(("begin", batch)),
        on_train_batch_end=lambda batch, logs: seen.append(("end", batch, logs)),
    )
    history = model.fit(*data, batch_size=8, verbose=0, callbacks=[watch])
    assert [entry[:2] for entry in seen] == [
        (what, batch) for batch in range(3) for what in ("begin", "end")
    ]
    assert {name: [value] for name, value in seen[-1][2].items()} == history.history


def test_step_hooks_change_nothing(data):
    """The weights are the same bits, whether or not somebody looks on."""

    def train(callbacks_):
        made = fusednn.Sequential(
            [layers.Dense(8, activation="relu"), layers.Dropout(0.5), layers.Dense(1)], seed=3
        )
        made.compile("adam", "mse")
        history = made.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=callbacks_)
        return made.get_weights(), history.history

    weights, history = train(None)
    watched, watched_history = train([LambdaCallback(on_train_batch_end=lambda batch, logs: None)])
    for one, other in zip(weights, watched, strict=True):
        np.testing.assert_array_equal(one, other)
    assert history == watched_history


def test_only_those_who_ask_are_called_after_steps():
    class Old(Callback):
        def on_batch_end(self, batch, logs=None):
            pass

    assert not Callback().wants_steps("train")
    assert Old().wants_steps("train")
    assert not Old().wants_steps("test")
    assert LambdaCallback(on_test_batch_end=print).wants_steps("test")
    for idle in (
        EarlyStopping(),
        callbacks.ModelCheckpoint("x"),
        callbacks.BackupAndRestore("x"),
        callbacks.TensorBoard(),
        LambdaCallback(on_epoch_end=print),
    ):
        assert not any(idle.wants_steps(phase) for phase in ("train", "test", "predict"))
    assert callbacks.ModelCheckpoint("x", save_freq=3).wants_steps("train")


def test_stop_training_within_an_epoch(model, data):
    seen = []

    def stop(batch, logs):
        seen.append(batch)
        model.stop_training = batch == 1

    stopper = LambdaCallback(on_train_batch_end=stop)
    assert model.fit(*data, batch_size=4, epochs=9, verbose=0, callbacks=[stopper]).epoch == [0]
    assert seen == [0, 1]
    assert model.optimizer.iterations == 2


def test_logs_of_steps_weigh_samples(model, data):
    """A metric is divided by the weight of the samples seen so far."""
    x, y = data
    weight = np.arange(1.0, 21)
    seen = []
    watch = LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["mae"]))
    model.compile(optimizers.SGD(0.0), "mse", metrics=["mae"])
    model.fit(x, y, 5, verbose=0, shuffle=False, sample_weight=weight, callbacks=[watch])
    error = np.abs(model.predict(x)[:, 0] - y)
    for step, value in enumerate(seen, 1):
        rows = slice(0, 5 * step)
        np.testing.assert_allclose(value, np.average(error[rows], weights=weight[rows]), rtol=1e-5)


def test_hooks_of_evaluate_and_predict(model, data):
    seen = []
    watch = LambdaCallback(
        on_test_begin=lambda logs: seen.append("begin"),
        on_test_batch_end=lambda batch, logs: seen.append((batch, sorted(logs))),
        on_test_end=lambda logs: seen.append(sorted(logs)),
        on_predict_batch_end=lambda batch, logs: seen.append((batch, logs["outputs"].shape)),
        on_predict_end=lambda logs: seen.append("end"),
    )
    names = ["loss", "mae"]
    assert model.evaluate(*data, batch_size=15, callbacks=watch) == model.evaluate(*data)
    assert seen == ["begin", (0, names), (1, names), names]
    seen.clear()
    got = model.predict(data[0], batch_size=8, callbacks=[watch])
    np.testing.assert_array_equal(got, model.predict(data[0]))
    assert seen == [(0, (8, 1)), (1, (8, 1)), (2, (4, 1)), "end"]
    seen.clear()
    assert model.predict(data[0], callbacks=[Callback()]).shape == (20, 1)
    assert model.predict(data[0][:0], callbacks=[watch]).shape == (0, 1)


def test_callbacks_must_be_callbacks(model, data):
    with pytest.raises(TypeError, match="must be instances of fusednn"):
        model.fit(*data, callbacks=[3])


def test_lambda_callback_checks_its_functions():
    with pytest.raises(TypeError, match="on_epoch_end must be callable"):
        LambdaCallback(on_epoch_end=3)
    with pytest.raises(TypeError, match="did you mean on_test_batch_end"):
        LambdaCallback(on_test_batch_ends=print)


def test_terminate_on_nan(model, data, capsys):
    x, y = data
    model.compile(optimizers.SGD(1e30), "mse")
    guard = callbacks.TerminateOnNaN()
    assert model.fit(x, y, 4, epochs=9, verbose=0, callbacks=[guard]).epoch == [0]
    assert "the loss is" in capsys.readouterr().out
    model.set_weights([np.zeros((2, 1)), np.zeros(1)])
    with pytest.raises(FloatingPointError, match="after batch"):
        model.fit(x, y, 4, verbose=0, callbacks=[callbacks.TerminateOnNaN(raise_error=True)])


# ---- learning rate -------------------------------------------------------------------------------


def test_learning_rate_scheduler(model, data, capsys):
    halve = LearningRateScheduler(lambda epoch, rate: rate / 2, verbose=1)
    history = model.fit(*data, epochs=3, verbose=0, callbacks=[halve])
    assert history.history["learning_rate"] == [0.005, 0.0025, 0.00125]
    assert model.optimizer.learning_rate == 0.00125
    assert "Epoch 2: learning rate 0.0025" in capsys.readouterr().out
    zero = LearningRateScheduler(lambda epoch, rate: 0.0)
    before = model.get_weights()[0]
    model.fit(*data, verbose=0, callbacks=[zero])
    np.testing.assert_array_equal(model.get_weights()[0], before)
    wrong = LearningRateScheduler(lambda epoch, rate: -1.0)
    with pytest.raises(ValueError, match=r"schedule\(0, learning_rate\) must be"):
        model.fit(*data, verbose=0, callbacks=[wrong])
    with pytest.raises(TypeError, match="schedule must be callable"):
        LearningRateScheduler(0.1)
    alone = LearningRateScheduler(lambda epoch: 0.1 / (1 + epoch))
    history = model.fit(*data, epochs=2, verbose=0, callbacks=[alone])
    assert history.history["learning_rate"] == [0.1, 0.05]


# ---- early stopping ------------------------------------------------------------------------------


def stop_on(model, data, values, **arguments):
    """Train on made-up values of "val_x"; return the callback and the epochs that ran."""
    stopping = EarlyStopping(**{"monitor": "val_x", **arguments})

    def report(epoch, logs):
        logs["val_x"] = values[epoch]
        if epoch == 0:
            kept.clear()
        kept.append(model.get_weights())

    kept = []
    history = model.fit(
        *data,
        epochs=len(values),
        verbose=0,
        callbacks=[LambdaCallback(on_epoch_end=report), stopping],
    )
    return stopping, history.epoch, kept


@pytest.mark.parametrize(
    ("arguments", "values", "last", "best"),
    [
        ({"patience": 2}, [5, 4, 3, 3, 3, 3], 4, 2),
        ({"patience": 0}, [5, 4, 4, 3], 2, 1),
        ({"patience": 1}, [5, 4, 6, 3], 2, 1),
        ({"patience": 2}, [5, 4, 6, 3, 6, 2], 5, 5),
        ({"patience": 1, "min_delta": 0.5}, [5, 4.8, 4.6, 4.4], 1, 0),
        ({"patience": 1, "mode": "max"}, [1, 2, 1, 3], 2, 1),
        ({"patience": 1, "start_from_epoch": 2}, [1, 9, 5, 4, 6, 7], 4, 3),
        ({"patience": 2, "baseline": 2.0}, [5, 4, 3, 4, 1], 3, 2),
        ({"patience": 3, "baseline": 2.0}, [5, 4, 1, 1, 1, 1, 0], 5, 2),
        ({"patience": 1}, [float("nan"), 4, float("nan"), 3], 2, 1),
    ],
)
def test_early_stopping(model, data, arguments, values, last, best):
    stopping, epochs, _ = stop_on(model, data, values, **arguments)
    assert epochs[-1] == last
    assert stopping.best_epoch == best


@pytest.mark.parametrize("values", [[5, 4, 6, 6, 6], [5, 4, 6]])
def test_best_weights_come_back_whether_or_not_it_stopped(model, data, values, capsys):
    stopping, epochs, kept = stop_on(
        model, data, values, patience=2, restore_best_weights=True, verbose=1
    )
    assert epochs[-1] == min(3, len(values) - 1)
    for got, want in zip(model.get_weights(), kept[1], strict=True):
        np.testing.assert_array_equal(got, want)
    out = capsys.readouterr().out
    assert ("Epoch 4: early stopping" in out) == (len(values) == 5)
    assert "Restoring the weights of epoch 2" in out
    assert stopping.stopped_epoch == (3 if len(values) == 5 else 0)


def test_early_stopping_is_reusable(model, data):
    stopping = EarlyStopping("loss", patience=1, mode="max")  # loss falls: stops after epoch 1
    for _ in range(2):
        assert model.fit(*data, epochs=9, verbose=0, callbacks=[stopping]).epoch == [0, 1]


@pytest.mark.parametrize(
    ("monitor", "greater"),
    [
        ("val_auc", True),
        ("f1_score", True),
        ("val_loss", False),
        ("val_accuracy", True),
        ("out_binary_accuracy", True),
        ("mae", False),
    ],
)
def test_direction(monitor, greater):
    assert EarlyStopping(monitor)._greater_is_better() is greater


def test_errors_of_early_stopping(model, data):
    with pytest.raises(ValueError, match="'val_loss' is not in loss, mae; it needs validation"):
        model.fit(*data, verbose=0, callbacks=[EarlyStopping()])
    with pytest.raises(ValueError, match="did you mean 'max'"):
        EarlyStopping(mode="maxi")
    with pytest.raises(TypeError, match="use patience"):
        EarlyStopping(n_iter_no_change=3)
    with pytest.raises(ValueError, match="patience must be at least 0"):
        EarlyStopping(patience=-1)


# ---- progress ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_file_gets_one_line_per_epoch(model, data, capsys):
    model.fit(*data, epochs=2, validation_split=0.5)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"Epoch 2/2  .*s  loss: \S+  mae: \S+  val_loss: \S+  val_mae: \S+", lines[1]
    )
    model.fit(*data, epochs=2, verbose=1)  # a bar cannot be redrawn here
    assert len(capsys.readouterr().out.splitlines()) == 2
    model.fit(*data, epochs=2, verbose=0)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_a_bar(rng, monkeypatch):
    import sys

    x, y = rng.normal(size=(30_000, 2)), rng.normal(size=30_000)
    made = fusednn.Sequential([layers.Dense(64), layers.Dense(1)], input_shape=(2,), seed=0)
    made.compile("sgd", "mse")
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(Progress, "interval", 0.0)
    made.fit(x, y, batch_size=1)
    drawn = screen.getvalue().split("\r")
    assert any("━" in line and "left  loss:" in line for line in drawn)
    assert drawn[-1].endswith("\n")
    assert "Epoch 1/1" in drawn[-1]
    assert drawn[-1].count("\n") == 1


def test_bars_without_unicode_and_of_any_length(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    screen = Terminal()
    screen.encoding = "ascii"
    progress = Progress(1, 3, 100, screen)
    progress.begin(0)
    progress.update(50, {f"a_long_name_{i}": 0.123456 for i in range(9)})
    (line,) = screen.getvalue().split("\r")[1:]
    assert "============............" in line
    assert len(line) < 60
    progress.close()
    assert screen.getvalue().endswith("\n")


def test_a_closed_stream_does_not_stop_training(model, data, monkeypatch):
    import sys

    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert len(model.fit(*data, epochs=2, verbose=2).epoch) == 2


def test_evaluate_prints_when_asked(model, data, capsys):
    model.evaluate(*data)
    assert capsys.readouterr().out == ""
    model.evaluate(*data, verbose=1)
    assert re.fullmatch(r"loss: \S+  mae: \S+\n", capsys.readouterr().out)


def test_history_says_what_it_has(model, data):
    assert repr(model.fit(*data, epochs=2, verbose=0)) == "<History of 2 epochs: loss, mae>"
    assert repr(callbacks.History()) == "<History of 0 epochs: nothing>"


# ---- the model in the middle of an epoch ---------------------------------------------------------


def test_prediction_and_evaluation_between_steps(data):
    x, y = data
    probe = x[:5] * 0.5

    class Look(Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, batch, logs=None):
            kernel, bias = self.model.get_weights()
            np.testing.assert_allclose(
                self.model.predict(probe), probe @ kernel + bias, rtol=0, atol=1e-6
            )
            loss, mae = self.model.evaluate(probe, y[:5])
            error = (probe @ kernel + bias)[:, 0] - y[:5]
            assert loss == pytest.approx((error**2).mean(), rel=1e-5)
            assert mae == pytest.approx(abs(error).mean(), rel=1e-5)
            self.seen.append(logs["loss"])
            with pytest.raises(RuntimeError, match="already running"):
                self.model.train_on_batch(x, y)

    weights, histories = [], []
    for extra in ([], [Look()]):
        model = fusednn.Sequential([layers.Dense(1)], input_shape=(2,), seed=0)
        model.compile(optimizers.SGD(0.01), "mse", metrics=["mae"], seed=3)
        history = model.fit(x, y, batch_size=6, epochs=3, verbose=0, callbacks=extra)
        weights.append(model.get_weights())
        histories.append(history.history["loss"])
    assert len(extra[0].seen) == 12
    assert histories[0] == histories[1]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
