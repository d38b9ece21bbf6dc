# SPDX-License-Identifier: Apache-2.0
"""compile, fit, evaluate, predict: what they compute."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import fusednn
from fusednn import layers, optimizers
from fusednn.callbacks import LambdaCallback


@pytest.fixture
def data(rng):
    x = rng.normal(size=(100, 5))
    return x, (x @ rng.normal(size=(5, 3))).argmax(axis=1)


def classifier(seed=0, **compile_):
    model = fusednn.Sequential(
        [
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ],
        input_shape=(5,),
    )
    arguments = {"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **compile_}
    model.compile(seed=seed, **arguments)
    return model


def linear(optimizer="sgd", loss="mse", **compile_):
    model = fusednn.Sequential([layers.Dense(1)], input_shape=(2,), seed=0)
    model.compile(optimizer, loss, precision="float64", **compile_)
    return model


def assert_same(a, b):
    for one, other in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# ---- learning ----------------------------------------------------------------------------------


def test_fit_learns_and_reports(data):
    x, y = data
    model = classifier(optimizer=optimizers.Adam(0.01), metrics=["accuracy"])
    history = model.fit(x, y, batch_size=10, epochs=40, validation_split=0.2, verbose=0)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history.epoch == list(range(40))
    assert history.params == {"epochs": 40, "steps": 8, "verbose": 0}
    assert model.history is history
    assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
    assert model.evaluate(x, y, return_dict=True)["accuracy"] > 0.9
    p = model.predict(x)
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)


def test_steps_of_an_epoch_are_steps_on_batches(rng):
    """fit without shuffling is train_on_batch on one batch after the other, tail included."""
    x, y = rng.normal(size=(23, 2)), rng.normal(size=(23, 1))
    one, other = linear("adam"), linear("adam")
    history = one.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    for epoch in range(2):
        total = 0
        for first in range(0, 23, 5):
            part = slice(first, first + 5)
            total += other.train_on_batch(x[part], y[part]) * len(x[part])
        assert history.history["loss"][epoch] == pytest.approx(total / 23, rel=1e-12)
    assert_same(one, other)
    assert one.optimizer.iterations == 10


def test_the_validation_split_takes_the_last_samples(rng):
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    split, given = linear("sgd"), linear("sgd")
    a = split.fit(x, y, epochs=3, validation_split=0.25, verbose=0)
    b = given.fit(x[:30], y[:30], epochs=3, validation_data=(x[30:], y[30:]), verbose=0)
    assert a.history == b.history
    assert_same(split, given)
    assert a.history["val_loss"][-1] == pytest.approx(split.evaluate(x[30:], y[30:]), rel=1e-12)


def test_same_seed_same_bits(data, threads):
    x, y = data
    histories, models = [], []
    for count in (1, 2, 1):
        with threads(count):
            model = classifier(seed=5)
            histories.append(model.fit(x, y, batch_size=8, epochs=5, verbose=0).history)
            models.append(model)
    assert histories[0] == histories[1] == histories[2]
    assert_same(models[0], models[1])
    other = classifier(seed=6)
    other.fit(x, y, batch_size=8, epochs=5, verbose=0)
    assert (other.get_weights()[0] != models[0].get_weights()[0]).any()


def test_two_fits_are_one_long_fit(data):
    x, y = data
    long, short = classifier(), classifier()
    long.fit(x, y, epochs=6, verbose=0)
    short.fit(x, y, epochs=2, verbose=0)
    history = short.fit(x, y, epochs=6, initial_epoch=2, verbose=0)
    assert history.epoch == [2, 3, 4, 5]
    assert_same(long, short)


def test_compile_starts_training_anew(data):
    x, y = data
    model = classifier(seed=3)
    start = model.get_weights()
    model.fit(x, y, epochs=2, verbose=0)
    first = model.get_weights()
    model.set_weights(start)
    model.compile("adam", "sparse_categorical_crossentropy", seed=3)
    assert model.optimizer.iterations == 0
    model.fit(x, y, epochs=2, verbose=0)
    for a, b in zip(first, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_shuffle_visits_every_sample_in_a_new_order():
    """With a rate of 0 the loss sees every sample; with one sample per step orders differ."""
    x = np.arange(20.0).reshape(10, 2)
    y = np.arange(10.0)
    frozen = linear(optimizers.SGD(0.0))
    frozen.set_weights([np.zeros((2, 1)), [0.0]])
    history = frozen.fit(x, y, batch_size=3, epochs=3, verbose=0)
    assert history.history["loss"] == pytest.approx([np.mean(y**2)] * 3)
    results = []
    for shuffle in (True, True, False):
        model = linear(optimizers.SGD(1e-3))
        model.fit(x, y, batch_size=1, verbose=0, shuffle=shuffle)
        results.append(model.get_weights()[0])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


# ---- weights of samples and classes --------------------------------------------------------------


def test_sample_weights_multiply_the_loss(rng):
    x, y = rng.normal(size=(12, 2)), rng.normal(size=12)
    weight = rng.uniform(size=12)
    model = linear(metrics=["mae"])
    out = model.predict(x)[:, 0]
    loss, mae = model.evaluate(x, y, sample_weight=weight)
    assert loss == pytest.approx((weight * (out - y) ** 2).sum() / 12)  # rows, as Keras
    assert mae == pytest.approx((weight * np.abs(out - y)).sum() / weight.sum())
    kept = weight > 0.5
    one, other = linear(optimizers.SGD(0.1)), linear(optimizers.SGD(0.1 * kept.mean()))
    one.train_on_batch(x, y, sample_weight=kept)
    other.train_on_batch(x[kept], y[kept])
    np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], rtol=1e-12)


def test_class_weights_are_sample_weights(data):
    x, y = data
    table = {0: 0.5, 2: 3.0}
    weight = np.array([0.5, 1.0, 3.0])[y]
    one, other = classifier(), classifier()
    one.fit(x, y, epochs=2, class_weight=table, validation_split=0.2, verbose=0)
    other.fit(x[:80], y[:80], epochs=2, sample_weight=weight[:80], verbose=0)
    assert_same(one, other)
    # Validation is not weighted by class.
    logs = one.history.history
    assert logs["val_loss"][-1] == pytest.approx(one.evaluate(x[80:], y[80:]), rel=1e-5)


def test_balanced_class_weights(rng):
    x = rng.normal(size=(30, 2))
    y = np.array([0] * 24 + [1] * 6)
    one, other = linear("sgd", "bce"), linear("sgd", "bce")
    one.train_on_batch(x, y, class_weight="balanced")
    other.train_on_batch(x, y, class_weight={0: 30 / 48, 1: 30 / 12})
    assert_same(one, other)


# ---- forms of data -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64])
def test_data_are_converted_to_the_precision(rng, dtype):
    x, y = rng.integers(0, 5, (20, 2)), rng.integers(0, 5, 20)
    one, other = linear(), linear()
    one.fit(x.astype(dtype), y.astype(dtype), verbose=0)
    other.fit(x.astype(np.float64), y.astype(np.float64), verbose=0)
    assert_same(one, other)


def test_any_layout_and_read_only_data(rng):
    x, y = rng.normal(size=(20, 4)), rng.normal(size=20)
    models = [linear() for _ in range(4)]
    models[0].fit(np.ascontiguousarray(x[:, ::2]), y, verbose=0)
    models[1].fit(x[:, ::2], y[:, None], verbose=0)
    models[2].fit(np.asfortranarray(x[:, ::2]), list(y), verbose=0)
    x.flags.writeable = y.flags.writeable = False
    models[3].fit([x[:, ::2]], y, verbose=0)
    for model in models[1:]:
        assert_same(models[0], model)


def test_a_column_may_come_without_its_axis(rng):
    x, y = rng.normal(size=20), rng.normal(size=20)
    model = fusednn.Sequential([layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(x, y, verbose=0)
    assert model.predict(x).shape == (20, 1)


@pytest.mark.parametrize("form", ["column", "float", "bool"])
def test_forms_of_labels(data, form):
    x, y = data
    y = (y > 0).astype(int)
    one, other = classifier(), classifier()
    one.fit(x, y, verbose=0)
    other.fit(x, {"column": y[:, None], "float": y.astype(float), "bool": y > 0}[form], verbose=0)
    assert_same(one, other)


def test_predict_passes_nan_on_and_takes_no_rows(rng):
    model = linear()
    x = rng.normal(size=(5, 2))
    x[2, 0] = np.nan
    assert np.isnan(model.predict(x)[:, 0]).tolist() == [False, False, True, False, False]
    assert model.predict(np.empty((0, 2))).shape == (0, 1)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_the_batch_size_of_prediction_does_not_matter(data, batch_size):
    x, y = data
    model = classifier()
    np.testing.assert_array_equal(model.predict(x, batch_size=batch_size), model.predict(x))
    assert model.evaluate(x, y, batch_size) == pytest.approx(model.evaluate(x, y), rel=1e-6)


def test_several_inputs_and_outputs(rng):
    a, b = layers.Input((2,), name="a"), layers.Input((3,), name="b")
    joined = layers.Concatenate()([a, b])
    number = layers.Dense(1, name="number")(joined)
    kind = layers.Dense(4, name="kind")(joined)
    model = fusednn.Model([a, b], [number, kind], seed=0)
    model.compile(
        "sgd",
        {"kind": "sparse_categorical_crossentropy", "number": "mse"},
        metrics={"kind": ["accuracy"]},
        loss_weights=[0.5, 2.0],
    )
    x = [rng.normal(size=(20, 2)), rng.normal(size=(20, 3))]
    y = {"kind": rng.integers(0, 4, 20), "number": rng.normal(size=20)}
    names = ["loss", "number_loss", "kind_loss", "kind_accuracy"]
    assert model.metrics_names == names
    history = model.fit(x, y, epochs=2, validation_split=0.5, verbose=0).history
    assert list(history) == names + [f"val_{name}" for name in names]
    logs = model.evaluate({"b": x[1], "a": x[0]}, [y["number"], y["kind"]], return_dict=True)
    assert logs["loss"] == pytest.approx(0.5 * logs["number_loss"] + 2 * logs["kind_loss"])
    assert [p.shape for p in model.predict(x)] == [(20, 1), (20, 4)]
    for wrong, error in [
        (x[0], TypeError),
        (x[:1], ValueError),
        ({"a": x[0]}, ValueError),
        ({"a": x[0], "b": x[1], "c": x[1]}, ValueError),
        ([x[0], x[1][:5]], ValueError),
    ]:
        with pytest.raises(error, match="x"):
            model.predict(wrong)
    with pytest.raises(ValueError, match="class_weight needs a model with a single output"):
        model.fit(x, y, class_weight={0: 1}, verbose=0)


def test_batches():
    x, y = np.ones((6, 5)), np.array([0, 1, 2, 0, 1, 2])
    model = classifier(metrics=["accuracy"])
    assert isinstance(model.train_on_batch(x, y), list)
    assert set(model.test_on_batch(x, y, return_dict=True)) == {"loss", "accuracy"}
    assert model.predict_on_batch(x).shape == (6, 3)


# ---- interruption --------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_the_epochs_done(rng):
    x, y = rng.normal(size=(200_000, 5)), rng.integers(0, 3, 200_000)
    model = classifier()

    def send():
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    def start_timer(epoch, logs):
        if epoch == 1:
            threading.Thread(target=send).start()

    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x,
            y,
            batch_size=1,
            epochs=1000,
            verbose=0,
            validation_data=(x[:10], y[:10]),
            callbacks=[LambdaCallback(on_epoch_begin=start_timer)],
        )
    assert model.history.epoch == [0]
    steps = model.optimizer.iterations
    assert 200_000 < steps < 400_000  # it did not wait for the end of an epoch
    assert all(np.isfinite(w).all() for w in model.get_weights())
    model.train_on_batch(x[:10], y[:10])
    assert model.optimizer.iterations == steps + 1


def test_an_error_in_a_callback_leaves_a_usable_model(data):
    x, y = data

    def fail(epoch, logs):
        raise RuntimeError("my mistake")

    model = classifier()
    with pytest.raises(RuntimeError, match="my mistake"):
        model.fit(x, y, verbose=0, callbacks=[LambdaCallback(on_epoch_end=fail)])
    model.fit(x, y, verbose=0)


def test_torch_learns_the_same(rng):
    """A whole training, step by step, against PyTorch."""
    torch = pytest.importorskip("torch")
    x, y = rng.normal(size=(40, 5)), rng.integers(0, 3, 40)
    model = fusednn.Sequential(
        [
            layers.Dense(8, activation="gelu"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
            layers.Dense(3, activation="softmax"),
        ],
        input_shape=(5,),
        seed=0,
    )
    model.compile(optimizers.AdamW(0.01), "sparse_categorical_crossentropy", precision="float64")
    net = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.GELU(), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)
    ).double()
    ours = model.get_weights()
    with torch.no_grad():
        for theirs, place in [(net[0], 0), (net[3], 6)]:
            theirs.weight.copy_(torch.from_numpy(ours[place].T.copy()))
            theirs.bias.copy_(torch.from_numpy(ours[place + 1].copy()))
    step = torch.optim.AdamW(net.parameters(), lr=0.01)
    history = model.fit(x, y, batch_size=16, epochs=5, shuffle=False, verbose=0)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    for epoch in range(5):
        total = 0.0
        for first in range(0, 40, 16):
            part = slice(first, first + 16)
            loss = torch.nn.functional.cross_entropy(net(tx[part]), ty[part])
            step.zero_grad()
            loss.backward()
            step.step()
            total += loss.item() * len(ty[part])
        assert history.history["loss"][epoch] == pytest.approx(total / 40, rel=1e-9)
    net.eval()
    want = torch.softmax(net(tx), dim=1).detach().numpy()
    np.testing.assert_allclose(model.predict(x), want, rtol=1e-8, atol=1e-10)
