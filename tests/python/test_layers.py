# SPDX-License-Identifier: Apache-2.0
"""Layers: shapes, values against the oracle, names, errors."""

import math

import numpy as np
import pytest

import fusednn
import oracle
from fusednn import activations, initializers, layers


def predict(layer, x, shape=None):
    model = fusednn.Sequential([layer], input_shape=shape or x.shape[1:])
    model.compile("sgd", "mse", precision="float64")
    return model, model.predict(x)


# ---- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", activations.names())
@pytest.mark.parametrize("rank", [1, 2])
def test_dense(rng, activation, rank):
    x = rng.normal(size=(7, 5, 3) if rank == 2 else (7, 3))
    layer = layers.Dense(4, activation=activation, bias_initializer="random_normal")
    model, y = predict(layer, x)
    assert y.shape == (*x.shape[:-1], 4)
    w, b = model.get_weights()
    np.testing.assert_allclose(y, oracle.dense_forward(x, w, b, activation), rtol=1e-12, atol=1e-14)


def test_dense_without_bias(rng):
    x = rng.normal(size=(3, 2))
    model, y = predict(layers.Dense(4, use_bias=False), x)
    (w,) = model.get_weights()
    np.testing.assert_allclose(y, x @ w, rtol=1e-13)


@pytest.mark.parametrize("activation", ["relu", "softmax", "log_softmax"])
def test_activation_layer(rng, activation):
    x = rng.normal(size=(6, 5))
    _, y = predict(layers.Activation(activation), x)
    want = oracle.dense_forward(x, np.eye(5), None, activation)
    np.testing.assert_allclose(y, want, rtol=1e-13, atol=1e-15)


def test_parameters_of_an_activation_reach_the_engine(rng):
    x = rng.normal(size=(6, 5))
    _, y = predict(layers.Activation(activations.leaky_relu(negative_slope=0.3)), x)
    np.testing.assert_allclose(y, np.where(x > 0, x, 0.3 * x), rtol=1e-15)


@pytest.mark.parametrize(
    ("layer", "right"),
    [
        (layers.ReLU(), lambda x: np.maximum(x, 0)),
        (layers.LeakyReLU(), lambda x: np.where(x > 0, x, 0.3 * x)),
        (layers.LeakyReLU(0.1), lambda x: np.where(x > 0, x, 0.1 * x)),
        (layers.ELU(2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    ],
)
def test_activations_with_layers_of_their_own(layer, right, rng):
    x = rng.normal(size=(6, 5))
    copy = layers.deserialize(layers.serialize(layer))
    assert type(copy) is type(layer)
    for each in (layer, copy):
        _, y = predict(each, x)
        np.testing.assert_allclose(y, right(x), rtol=1e-14)


def test_softmax_flatten_add_concatenate(rng):
    x = rng.normal(size=(4, 2, 3))
    inputs = layers.Input((2, 3))
    flat = layers.Flatten()(inputs)
    soft = layers.Softmax()(flat)
    joined = layers.Concatenate()([flat, soft, flat])
    total = layers.Add()([joined, joined])
    model = fusednn.Model(inputs, [joined, total])
    model.compile("sgd", "mse", precision="float64")
    got = model.predict(x)
    flat = x.reshape(4, 6)
    want = np.concatenate([flat, oracle.softmax(flat), flat], axis=1)
    np.testing.assert_allclose(got[0], want, rtol=1e-14)
    np.testing.assert_allclose(got[1], 2 * want, rtol=1e-14)


def test_layer_normalization(rng):
    x = rng.normal(size=(5, 4, 3))
    model, y = predict(layers.LayerNormalization(gamma_initializer="random_normal"), x)
    gamma, beta = model.get_weights()
    want = oracle.layer_norm_forward(x, gamma, beta, eps=1e-3)
    np.testing.assert_allclose(y, want, rtol=1e-11, atol=1e-13)


def test_batch_normalization_keeps_momentum_of_the_old_value(rng):
    x = rng.normal(2, 3, size=(50, 3))
    layer = layers.BatchNormalization(momentum=0.9)
    model, _ = predict(layer, x)
    model.train_on_batch(x, x)
    mean, variance = layer.get_weights()[2:]
    np.testing.assert_allclose(mean, 0.1 * x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * x.var(axis=0, ddof=1), rtol=1e-12)


@pytest.mark.parametrize("kind", [layers.BatchNormalization, layers.LayerNormalization])
def test_normalization_without_scale_or_center(rng, kind):
    x = rng.normal(size=(5, 3))
    count = 2 if kind is layers.BatchNormalization else 0
    for center in (True, False):
        for scale in (True, False):
            model, _ = predict(kind(center=center, scale=scale), x)
            assert len(model.get_weights()) == count + center + scale


def test_dropout_acts_only_in_training(rng):
    x = np.ones((200, 50))
    model, y = predict(layers.Dropout(0.25), x)
    np.testing.assert_array_equal(y, x)
    # Target 0: the loss is the mean square of what dropout left, 1 / 0.75 in expectation.
    loss = model.train_on_batch(x, np.zeros_like(x))
    assert loss == pytest.approx(1 / 0.75, abs=0.03)
    assert loss != model.train_on_batch(x, np.zeros_like(x))  # another mask in every step


# ---- initial values ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "bound", "deviation"),
    [
        ("glorot_uniform", math.sqrt(6 / 500), math.sqrt(2 / 500)),
        ("glorot_normal", None, math.sqrt(2 / 500)),
        ("he_uniform", math.sqrt(6 / 300), math.sqrt(2 / 300)),
        ("he_normal", None, math.sqrt(2 / 300)),
        ("lecun_uniform", math.sqrt(3 / 300), math.sqrt(1 / 300)),
        ("lecun_normal", None, math.sqrt(1 / 300)),
        ("random_uniform", 0.05, 0.1 / math.sqrt(12)),
        ("random_normal", None, 0.05),
        ("truncated_normal", 0.1, 0.05 * 0.87962566),
    ],
)
def test_distribution_of_initial_values(name, bound, deviation):
    values = initializers.get(name)((300, 200), np.random.default_rng(0))
    assert values.std() == pytest.approx(deviation, rel=0.01)
    assert abs(values.mean()) < 5 * deviation / math.sqrt(values.size)
    if bound is not None:
        assert 0.99 * bound < np.abs(values).max() <= bound


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_orthogonal(shape):
    q = initializers.Orthogonal(gain=2)(shape, np.random.default_rng(0)) / 2
    gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)
    with pytest.raises(ValueError, match="at least two axes"):
        initializers.Orthogonal()((3,), np.random.default_rng(0))


def test_constants_and_own_seed():
    rng = np.random.default_rng(0)
    assert (initializers.get("zeros")((2,), rng) == 0).all()
    assert (initializers.get("ones")((2,), rng) == 1).all()
    assert (initializers.Constant(1.5)((2,), rng) == 1.5).all()
    fixed = initializers.HeNormal(seed=3)
    np.testing.assert_array_equal(fixed((4, 4), rng), fixed((4, 4), rng))


@pytest.mark.parametrize("name", sorted(initializers._NAMES))
def test_initializer_round_trip(name):
    one = initializers.get(name)
    other = initializers.get(one.serialize())
    assert (type(one), one.get_config()) == (type(other), other.get_config())


def test_a_layer_has_a_stream_of_its_own():
    """Initial values do not depend on the sizes of other layers, nor on the precision."""

    def first_kernel(units, precision="float32"):
        model = fusednn.Sequential(
            [layers.Dense(4), layers.Dense(units), layers.Dense(3)], input_shape=(2,), seed=5
        )
        model.compile("sgd", "mse", precision=precision)
        return model.layers[0].get_weights()[0]

    np.testing.assert_array_equal(first_kernel(3), first_kernel(7))
    np.testing.assert_array_equal(first_kernel(3), first_kernel(3, "float64").astype(np.float32))


# ---- weights, names, config --------------------------------------------------------------------


def test_weights_are_views_and_copies():
    layer = layers.Dense(2)
    model = fusednn.Sequential([layer], input_shape=(3,))
    layer.weights[0][...] = 1
    layer.weights[1][...] = 2
    np.testing.assert_array_equal(model.predict(np.ones((1, 3))), [[5, 5]])
    layer.get_weights()[0][...] = 7
    assert (layer.weights[0] == 1).all()
    layer.set_weights([np.zeros((3, 2)), [1, 2]])
    np.testing.assert_array_equal(model.predict(np.ones((1, 3))), [[1, 2]])
    assert layer.count_params() == 8


def test_wrong_weights_change_nothing():
    layer = layers.Dense(2)
    model = fusednn.Sequential([layer], input_shape=(3,))
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"weights\[1\] of 'dense' must have shape \(2,\)"):
        layer.set_weights([np.zeros((3, 2)), np.zeros(3)])
    with pytest.raises(ValueError, match="has 2 parameters, got 1"):
        layer.set_weights([np.zeros((3, 2))])
    with pytest.raises(TypeError, match="weights must be a list of arrays, got NoneType"):
        layer.set_weights(None)
    with pytest.raises(TypeError, match="array of numbers"):
        layer.set_weights([np.zeros((3, 2)), ["a", "b"]])
    for got, want in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_weights_before_there_are_any():
    with pytest.raises(ValueError, match="no weights yet"):
        _ = layers.Dense(2).weights


def test_names_are_unique_and_of_the_model():
    for _ in range(2):  # names do not depend on what was made before
        model = fusednn.Sequential(
            [layers.Dense(2), layers.Dense(2, name="dense_1"), layers.Dense(2)], input_shape=(1,)
        )
        assert [layer.name for layer in model.layers] == ["dense", "dense_1", "dense_2"]
    with pytest.raises(ValueError, match="two layers are named 'same'"):
        fusednn.Sequential(
            [layers.Dense(2, name="same"), layers.Dense(2, name="same")], input_shape=(1,)
        )


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3, activation="elu", use_bias=False, kernel_initializer="he_normal", name="d"),
        layers.Dense(3, activation=activations.elu(alpha=0.5)),
        layers.Activation("softmax"),
        layers.Softmax(),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.BatchNormalization(momentum=0.5, center=False),
        layers.LayerNormalization(epsilon=1e-6, trainable=False),
        layers.Add(),
        layers.Concatenate(name="join"),
    ],
)
def test_config_round_trip(layer):
    copy = layers.deserialize(layers.serialize(layer))
    assert type(copy) is type(layer)
    assert copy.get_config() == layer.get_config()
    assert repr(copy) == repr(layer)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Dense(0), "units must be at least 1, got 0"),
        (lambda: layers.Dense(2, activation="rellu"), "did you mean 'relu'"),
        (lambda: layers.Dense(2, activation="logistic"), "activation='logistic' is unknown"),
        (lambda: layers.Dense(2, kernel_initializer="he_norm"), "did you mean 'he_normal'"),
        (lambda: layers.Dense(2, name="a/b"), "without '/'"),
        (lambda: layers.Dropout(1), r"rate must be a finite number in \[0, 1\)"),
        (lambda: layers.BatchNormalization(epsilon=0), "epsilon"),
        (lambda: layers.Input(()), "shape must give every size"),
        (lambda: layers.Input((None, 3)), "without the batch axis"),
        (lambda: layers.Input((0,)), "each size must be at least 1"),
        (lambda: layers.Add()([layers.Input((2,)), layers.Input((3,))]), r"\(2,\), \(3,\)"),
        (lambda: layers.Add()(layers.Input((2,))), "at least two inputs, got 1"),
        (lambda: layers.Dense(2)([layers.Input((2,))] * 2), "'dense' takes one input, got 2"),
        (
            lambda: layers.Concatenate()([layers.Input((2, 3)), layers.Input((3, 3))]),
            "all other axes must agree",
        ),
        (lambda: layers.deserialize({"class_name": "os.system", "config": {}}), "is unknown"),
        (lambda: activations.elu(alpha=-1), "alpha of elu"),
    ],
)
def test_wrong_values(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.Dense(2, bias=False), "use use_bias"),
        (lambda: layers.Dense(out_features=2), "use units"),
        (lambda: layers.Dropout(p=0.5), "use rate"),
        (lambda: layers.BatchNormalization(eps=1e-5), "use epsilon"),
        (lambda: layers.Dense(2.5), "units must be an integer"),
        (lambda: layers.Dense(True), "units must be an integer"),
        (lambda: layers.Dense(2)(np.ones((3, 2))), "is called on outputs of other layers"),
        (lambda: np.asarray(layers.Input((2,))), "is symbolic"),
        (lambda: layers.Input("3"), "tuple of integers"),
        (lambda: activations.relu(slope=1), "has no argument 'slope'"),
    ],
)
def test_wrong_types(call, message):
    with pytest.raises(TypeError, match=message):
        call()


def test_parameters_are_not_shared_within_a_model():
    layer = layers.Dense(2)
    inputs = layers.Input((2,))
    hidden = layer(inputs)
    with pytest.raises(ValueError, match="'dense' is used already"):
        layer(hidden)
    with pytest.raises(ValueError, match="used already"):
        fusednn.Sequential([layer])
    model = fusednn.Model(inputs, hidden)
    with pytest.raises(ValueError, match="used at two places of one model"):
        fusednn.Model(inputs, layer(hidden))
    del model
    fusednn.Model(inputs, hidden)  # free again, its model is gone
