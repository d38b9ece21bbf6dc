# SPDX-License-Identifier: Apache-2.0
"""Seeing inside: statistics of layers, where a NaN began, confusion matrices, ROC, pictures."""

import numpy as np
import pytest

import fusednn
from fusednn import callbacks, layers, optimizers, plotting


@pytest.fixture
def data(rng):
    return rng.normal(size=(30, 4)), rng.normal(size=(30, 2))


def deep(activation, depth=6):
    model = fusednn.Sequential(
        [*(layers.Dense(16, activation=activation) for _ in range(depth)), layers.Dense(2)], seed=0
    )
    model.compile(optimizers.SGD(0.01), "mse", precision="float64")
    return model


def test_gradient_norms_are_those_of_differences(data):
    x, y = data
    model = fusednn.Sequential([layers.Dense(3, activation="tanh"), layers.Dense(2)], seed=0)
    model.compile(optimizers.SGD(0.0), "mse", precision="float64")
    look = callbacks.LayerStatistics(x, y)
    model.fit(x, y, verbose=0, callbacks=[look])
    w1, b1, w2, b2 = model.get_weights()
    hidden = np.tanh(x @ w1 + b1)
    out = hidden @ w2 + b2
    d_out = 2 * (out - y) / y.size
    d_hidden = d_out @ w2.T * (1 - hidden**2)
    record = look.records[0]["layers"]
    norm = np.sqrt(((hidden.T @ d_out) ** 2).sum() + (d_out.sum(0) ** 2).sum())
    np.testing.assert_allclose(record["dense_1"]["gradient"], norm, rtol=1e-9)
    norm = np.sqrt(((x.T @ d_hidden) ** 2).sum() + (d_hidden.sum(0) ** 2).sum())
    np.testing.assert_allclose(record["dense"]["gradient"], norm, rtol=1e-9)
    np.testing.assert_allclose(record["dense"]["deviation"], hidden.std(), rtol=1e-9)
    np.testing.assert_allclose(record["dense"]["mean"], hidden.mean(), rtol=1e-6)


def test_vanishing_gradients_are_visible(data):
    ratios = {}
    for activation in ("sigmoid", "relu"):
        look = callbacks.LayerStatistics(*data, frequency=2)
        deep(activation).fit(*data, epochs=3, verbose=0, callbacks=[look])
        assert [record["epoch"] for record in look.records] == [0, 2]
        norms = [entry["gradient"] for entry in look.records[0]["layers"].values()]
        ratios[activation] = norms[0] / norms[-1]
    assert ratios["sigmoid"] < 1e-3 < ratios["relu"]


def test_looking_changes_nothing(data):
    weights = []
    for look in ([], [callbacks.LayerStatistics(*data)]):
        model = fusednn.Sequential(
            [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.5), layers.Dense(2)],
            seed=1,
        )
        model.compile("adam", "mse")
        model.fit(*data, epochs=3, verbose=0, callbacks=look)
        weights.append(model.get_weights())
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_dead_units(data):
    model = fusednn.Sequential(
        [
            layers.Dense(5, activation="relu", name="dead", bias_initializer="zeros"),
            layers.Dense(2),
        ],
        input_shape=(4,),
        seed=0,
    )
    model.compile(optimizers.SGD(0.0), "mse")
    model.get_layer("dead").set_weights([np.zeros((4, 5)), -np.ones(5)])
    look = callbacks.LayerStatistics(*data)
    model.fit(*data, verbose=0, callbacks=[look])
    assert look.records[0]["layers"]["dead"]["zeros"] == 1


# ---- NaN -----------------------------------------------------------------------------------------


def test_nan_in_a_layer_is_named(data, capsys):
    model = deep("relu", 2)
    model.fit(*data, epochs=1, verbose=0)
    victim = model.get_layer("dense_1")

    def break_it(batch, logs):
        if batch == 3:
            victim.weights[0][0, :2] = np.nan

    breaker = callbacks.LambdaCallback(on_train_batch_end=break_it)
    locator = callbacks.NaNLocator()
    history = model.fit(*data, batch_size=4, epochs=5, verbose=0, callbacks=[breaker, locator])
    assert history.epoch == [0]
    found = locator.found
    assert (found["epoch"], found["step"], found["layer"], found["values"]) == (0, 3, "dense_1", 2)
    assert "step 3: layer 'dense_1': 2 of 256 values of its kernel" in capsys.readouterr().out


def test_overflow_of_outputs_is_named(data):
    x, y = data
    model = fusednn.Sequential(
        [layers.Dense(4, name="ok"), layers.Dense(2, activation="exponential", name="steep")],
        input_shape=(4,),
        seed=0,
    )
    model.compile(optimizers.SGD(0.0), "mse")
    ok, steep = model.layers
    ok.set_weights([np.ones((4, 4)), np.zeros(4)])
    steep.set_weights([np.full((4, 2), 1e4), np.zeros(2)])
    x = np.abs(x)
    locator = callbacks.NaNLocator(x)
    model.fit(x, y, verbose=0, callbacks=[locator])
    assert locator.found["layer"] == "steep"
    assert "outputs are not finite" in locator.found["what"]
    with pytest.raises(FloatingPointError, match="the loss is not finite, all parameters are"):
        model.fit(x, y, verbose=0, callbacks=[callbacks.NaNLocator(raise_error=True)])


def test_nothing_to_find(data):
    locator = callbacks.NaNLocator()
    deep("relu", 1).fit(*data, epochs=2, verbose=0, callbacks=[locator])
    assert locator.found is None


# ---- confusion matrix and ROC --------------------------------------------------------------------


def test_confusion_matrix(rng):
    metrics = pytest.importorskip("sklearn.metrics", exc_type=ImportError)
    true, scores = rng.integers(0, 4, 200), rng.normal(size=(200, 4))
    want = metrics.confusion_matrix(true, scores.argmax(1))
    np.testing.assert_array_equal(plotting.confusion_matrix(true, scores), want)
    np.testing.assert_array_equal(plotting.confusion_matrix(np.eye(4)[true], scores), want)
    two = rng.uniform(size=(9, 1))
    np.testing.assert_array_equal(
        plotting.confusion_matrix(true[:9] % 2, two),
        metrics.confusion_matrix(true[:9] % 2, two[:, 0] > 0.5),
    )
    assert plotting.confusion_matrix([0], [0], classes=3).shape == (3, 3)
    for bad, message in (
        (([0, 1], [0]), "has 2 samples"),
        (([0, -1], [0, 0]), r"must lie in \[0, 1\)"),
        (([], []), "is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            plotting.confusion_matrix(*bad)


@pytest.mark.parametrize("distinct", [True, False])
def test_roc(rng, distinct):
    metrics = pytest.importorskip("sklearn.metrics", exc_type=ImportError)
    true, scores = rng.integers(0, 2, 300), rng.normal(size=300)
    scores += true
    if not distinct:
        scores = np.round(scores)
    curve = plotting.roc_curve(true, scores)
    wrong, right, thresholds = metrics.roc_curve(true, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive, wrong)
    np.testing.assert_allclose(curve.true_positive, right)
    np.testing.assert_allclose(curve.thresholds, thresholds)
    np.testing.assert_allclose(curve.area, metrics.roc_auc_score(true, scores))
    for bad in (([0, 0], [1, 2]), ([0, 2], [1, 2]), ([0, 1], [1, np.nan]), ([0, 1], [1])):
        with pytest.raises(ValueError):
            plotting.roc_curve(*bad)


# ---- pictures ------------------------------------------------------------------------------------


def test_pictures(data, rng, tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    look = callbacks.LayerStatistics(*data)
    model = deep("tanh", 2)
    history = model.fit(*data, epochs=3, verbose=0, validation_split=0.2, callbacks=[look])
    true, scores = rng.integers(0, 3, 60), rng.normal(size=(60, 3))
    figures = {
        "history": history.plot(),
        "statistics": look.plot(),
        "matrix": plotting.plot_confusion_matrix(true, scores, names=["a", "b", "c"]),
        "shares": plotting.plot_confusion_matrix(true, scores, normalize=True),
        "roc": plotting.plot_roc(true, scores),
        "roc2": plotting.plot_roc(true % 2, scores[:, 0]),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 4000
    (ax,) = history.plot(["loss"]).axes
    assert [line.get_label() for line in ax.lines] == ["training", "validation"]
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), history.history["loss"])
    assert history.plot(["loss"], ax=ax) is ax.figure
    with pytest.raises(ValueError, match="did you mean 'loss'"):
        history.plot(["los"])
    with pytest.raises(ValueError, match="history is empty"):
        callbacks.History().plot()
    with pytest.raises(ValueError, match="nothing to draw"):
        callbacks.LayerStatistics(*data).plot()


def test_summary_says_what_a_step_costs(capsys):
    model = fusednn.Sequential([layers.Dense(8), layers.Dense(2)], input_shape=(4,))
    model.summary()
    model.compile("adam", "mse")
    model.summary()
    plain, compiled = capsys.readouterr().out.split("Model:")[1:]
    assert "FLOPs per sample: 96 forward, 288 in training" in plain
    assert "Memory: 232 B weights, at most 56 B of outputs per sample" in plain
    assert "232 B weights, 232 B gradients, 464 B optimizer, at most" in compiled
