# SPDX-License-Identifier: Apache-2.0
"""Layers and losses written in Python, gradients to look at, and the interpreter behind them."""

import warnings

import numpy as np
import pytest

import fusednn
from fusednn import interpreter, layers, losses
from fusednn.interpreter.engine import SlowPathWarning

pytestmark = pytest.mark.filterwarnings("ignore::fusednn.interpreter.engine.SlowPathWarning")


@pytest.fixture
def data(rng):
    return rng.normal(size=(20, 4)), rng.normal(size=(20, 3))


class Identity(layers.CustomLayer):
    def forward(self, x, training):
        return x

    def backward(self, gradient):
        return gradient


class Scale(layers.CustomLayer):
    def build(self, shapes):
        return {"factor": (shapes[0], "ones")}

    def forward(self, x, training):
        self.x = x
        return x * self.values["factor"]

    def backward(self, gradient):
        self.gradients["factor"][...] = (gradient * self.x).sum(axis=0)
        return gradient * self.values["factor"]


class Product(layers.CustomLayer):
    def forward(self, a, b, training):
        self.kept = a, b
        return a * b

    def backward(self, gradient):
        a, b = self.kept
        return gradient * b, gradient * a


def everything(custom, loss="mse", metrics=("mae",), precision="float32"):
    """A graph with one layer of every kind; `custom` adds one that changes nothing."""
    x = layers.Input((2, 2))
    flat = layers.Flatten()(x)
    a = layers.BatchNormalization()(layers.Dense(5, activation="tanh")(flat))
    b = layers.LayerNormalization()(layers.Dense(5, use_bias=False)(flat))
    joined = layers.Concatenate()([layers.Add()([a, b]), flat])
    hidden = layers.Dropout(0.3)(layers.Dense(6, activation="gelu")(joined))
    if custom:
        hidden = Identity(name="same")(hidden)
    outputs = layers.Dense(3, activation="softmax", name="out")(hidden)
    model = fusednn.Model(x, outputs, seed=3)
    model.compile("adam", loss, metrics=list(metrics), precision=precision)
    return model


LOSSES = [
    ("mse", ["mae"]),
    ("categorical_crossentropy", ["accuracy"]),
    ("sparse_categorical_crossentropy", ["accuracy"]),
    ("kl_divergence", ["cosine_similarity"]),
]


@pytest.mark.parametrize(("loss", "metrics"), LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_same_as_the_compiled_engine(data, rng, loss, metrics, weighted):
    x = data[0].reshape(20, 2, 2)
    y = rng.integers(0, 3, 20)
    if not loss.startswith("sparse"):
        y = np.eye(3)[y]
    fast, slow = (everything(custom, loss, metrics, "float64") for custom in (False, True))
    assert isinstance(slow._use_engine(), interpreter.PythonEngine)
    assert not isinstance(fast._use_engine(), interpreter.PythonEngine)
    slow.set_weights(fast.get_weights())
    np.testing.assert_allclose(slow.predict(x), fast.predict(x), rtol=1e-9)
    settings = {"batch_size": 8, "epochs": 1, "verbose": 0, "validation_data": (x, y)}
    if weighted:
        settings["sample_weight"] = rng.uniform(0.5, 2, 20)
    # The masks of dropout depend on the place of its node, which is the same in both.
    one, other = (model.fit(x, y, **settings).history for model in (fast, slow))
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-6, err_msg=name)
    for a, b in zip(fast.get_weights(), slow.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_the_slow_path_says_so_once(monkeypatch):
    monkeypatch.setattr("fusednn.interpreter.engine._said", False)
    with pytest.warns(SlowPathWarning, match="layer 'identity' is written in Python"):
        fusednn.Sequential([Identity()], input_shape=(2,)).predict(np.ones((1, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fusednn.Sequential([Identity()], input_shape=(2,)).predict(np.ones((1, 2)))


def test_parameters_learn_and_freeze(data):
    x, y = data
    scale = Scale()
    model = fusednn.Sequential([layers.Dense(3), scale], seed=0)
    model.compile("adam", "mse")
    history = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert not np.array_equal(scale.get_weights()[0], np.ones(3))
    scale.trainable = False
    before = scale.get_weights()[0]
    model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(scale.get_weights()[0], before)
    model.check_gradients(x, y)


def test_several_inputs(data):
    x, y = data
    entry = layers.Input((4,))
    model = fusednn.Model(entry, Product()([layers.Dense(3)(entry), layers.Dense(3)(entry)]))
    model.compile("sgd", "mse", seed=0)
    assert max(model.check_gradients(x, y).values()) < 1e-6
    model.fit(x, y, verbose=0)


def test_checkpoints_and_files(data, tmp_path):
    @layers.register
    class Registered(Scale):
        pass

    x, y = data
    model = fusednn.Sequential([layers.Dense(3), Registered()], seed=0)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model")
    again = fusednn.load(tmp_path / "model")
    for other in (model, again):
        other.fit(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict(x), again.predict(x))
    unknown = fusednn.Sequential([Scale()], input_shape=(4,))
    unknown.save(tmp_path / "unknown")
    with pytest.raises(ValueError, match="'Scale' is unknown"):
        fusednn.load(tmp_path / "unknown")
    with pytest.raises(TypeError, match="takes a subclass of Layer"):
        layers.register(3)
    with pytest.raises(ValueError, match="Dense is the name of a layer of fusednn"):
        layers.register(type("Dense", (Identity,), {}))


def test_mistakes_are_found(data):
    x, y = data

    class Wrong(Identity):
        def backward(self, gradient):
            return 2 * gradient

    class Shape(Identity):
        def backward(self, gradient):
            return gradient[:, :1]

    class Grows(Identity):
        def forward(self, x, training):
            return np.concatenate([x, x])

    model = fusednn.Sequential([layers.Dense(3), Wrong()], seed=0)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="dense/kernel by 0"):
        model.check_gradients(x, y)
    for kind, message in ((Shape, r"backward\(\) of 'shape' returned"), (Grows, "forward")):
        model = fusednn.Sequential([layers.Dense(3), kind()], seed=0)
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, verbose=0)
    with pytest.raises(NotImplementedError, match="must define forward"):
        fusednn.Sequential([layers.CustomLayer()], input_shape=(2,)).predict(np.ones((1, 2)))


# ---- losses --------------------------------------------------------------------------------------


def square(target, output):
    return ((output - target) ** 2).mean(axis=1)


def slope(target, output):
    return 2 * (output - target) / output.shape[1]


def test_custom_loss_is_the_loss_it_writes_out(data):
    x, y = data
    models = []
    for loss in ("mse", losses.CustomLoss(square, slope, "mine")):
        model = fusednn.Sequential([layers.Dense(5, activation="relu"), layers.Dense(3)], seed=0)
        model.compile("adam", loss, precision="float64")
        model.fit(x, y, epochs=3, batch_size=6, verbose=0)
        models.append(model)
    for a, b in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    np.testing.assert_allclose(*(model.evaluate(x, y) for model in models), rtol=1e-9)
    assert models[1].check_gradients(x, y)


def test_back_and_forth_between_engines(data, tmp_path):
    x, y = data
    model = fusednn.Sequential([layers.Dense(3)], input_shape=(4,), seed=0)
    model.compile("adam", "mse")
    model.fit(x, y, verbose=0)
    before = model.get_weights()
    mine = losses.CustomLoss(square, slope)
    model.compile("adam", mine)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(model._use_engine(), interpreter.PythonEngine)
    model.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="cannot be saved"):
        model.save(tmp_path / "model")
    model.save(tmp_path / "model", include_optimizer=False)
    model.compile("adam", "mse")
    assert not isinstance(model._use_engine(), interpreter.PythonEngine)


def test_mistakes_of_losses(data):
    x, y = data
    with pytest.raises(TypeError, match="gradient must be callable"):
        losses.CustomLoss(square, 3)
    model = fusednn.Sequential([layers.Dense(3)], seed=0)
    model.compile("sgd", losses.CustomLoss(lambda t, o: (o - t).sum(), slope))
    with pytest.raises(ValueError, match=r"returned shape \(\) for 20 samples"):
        model.fit(x, y, verbose=0)
    model.compile("sgd", losses.CustomLoss(square, lambda t, o: 1.0))
    with pytest.raises(ValueError, match=r"has shape \(\), expected that of the output, \(20, 3\)"):
        model.fit(x, y, verbose=0)


# ---- gradients of inputs -------------------------------------------------------------------------


def test_backward_is_the_derivative(data):
    x = data[0].reshape(20, 2, 2)
    model = everything(False, precision="float64")
    model.fit(x, data[1], verbose=0)
    dy = data[1]
    got = model.backward(dy, x=x)
    assert got.shape == x.shape
    width = 1e-6
    for place in [(0, 0, 0), (3, 1, 0), (19, 1, 1)]:
        sides = []
        for shift in (width, -width):
            moved = x.copy()
            moved[place] += shift
            sides.append((model.predict(moved) * dy).sum())
        np.testing.assert_allclose(
            got[place], (sides[0] - sides[1]) / (2 * width), rtol=1e-5, atol=1e-8
        )
    np.testing.assert_allclose(model.backward(2 * dy), 2 * got)


def test_backward_leaves_statistics_alone(data):
    model = everything(False)
    before = model.get_weights()
    model.backward(data[1], x=data[0].reshape(20, 2, 2), training=True)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"dy has shape \(20, 2\), but the output has \(20, 3\)"):
        model.backward(data[1][:, :2])
    with pytest.raises(ValueError, match="needs x"):
        everything(False).backward(data[1])


@pytest.mark.parametrize("loss", ["mse", "categorical_crossentropy", "huber"])
def test_check_gradients_of_compiled_models(data, rng, loss):
    x = data[0].reshape(20, 2, 2)
    y = np.eye(3)[rng.integers(0, 3, 20)]
    model = everything(False, loss)
    errors = model.check_gradients(x, y, sample_weight=rng.uniform(1, 2, 20))
    assert "out/kernel" in errors
    assert max(errors.values()) < 1e-5
