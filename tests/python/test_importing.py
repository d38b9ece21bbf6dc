# SPDX-License-Identifier: Apache-2.0
"""Weights and models of Keras, PyTorch and scikit-learn compute the same here."""

import warnings

import numpy as np
import pytest
from tests.rivals import import_keras

import fusednn
from fusednn import importing, layers


@pytest.fixture
def x(rng):
    return rng.normal(size=(9, 5)).astype(np.float32)


# ---- Keras ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("h5py")
    return import_keras()


def keras_chain(keras, x):
    k = keras.layers
    model = keras.Sequential(
        [
            k.Input((5,)),
            k.Dense(7, activation="relu"),
            k.BatchNormalization(),
            k.Dropout(0.2),
            k.Dense(6, activation="leaky_relu", use_bias=False, name="middle"),
            k.LayerNormalization(),
            k.Dense(4, activation="gelu"),
            k.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "mse")
    model.fit(x, np.ones((9, 3)), epochs=3, verbose=0)
    return model


def close(ours, theirs, x):
    np.testing.assert_allclose(
        ours.predict(x), np.asarray(theirs.predict(x, verbose=0)), rtol=1e-5, atol=1e-6
    )


def test_keras_sequential(keras, x, tmp_path):
    theirs = keras_chain(keras, x)
    theirs.save(tmp_path / "m.keras")
    theirs.save_weights(tmp_path / "m.weights.h5")
    ours = importing.from_keras(tmp_path / "m.keras")
    close(ours, theirs, x)
    assert ours.get_layer("middle").units == 6
    for weights in ("m.keras", "m.weights.h5"):
        other = fusednn.Sequential.from_config(ours.get_config())
        other.load_weights(tmp_path / weights)
        close(other, theirs, x)
    ours.compile("adam", "mse")
    ours.fit(x, np.ones((9, 3)), verbose=0)


def test_keras_functional(keras, x, tmp_path):
    k = keras.layers
    inputs = k.Input((5,), name="left"), k.Input((5,), name="right")
    hidden = k.Dense(5, activation="tanh")(inputs[0])
    joined = k.Concatenate()([k.Add()([hidden, inputs[1]]), k.Dense(2)(inputs[1])])
    bent = k.LeakyReLU()(k.ELU(0.5)(joined))
    outputs = k.Dense(2)(bent), k.ReLU()(k.Dense(1)(hidden))
    theirs = keras.Model(list(inputs), list(outputs))
    theirs.save(tmp_path / "m.keras")
    ours = importing.from_keras(tmp_path / "m.keras")
    for mine, other in zip(ours.predict([x, -x]), theirs.predict([x, -x], verbose=0), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-6)


def test_keras_by_name(keras, x, tmp_path):
    theirs = keras_chain(keras, x)
    theirs.save_weights(tmp_path / "m.weights.h5")
    ours = fusednn.Sequential(
        [layers.Dense(7), layers.Dense(6, use_bias=False, name="middle")], input_shape=(5,), seed=0
    )
    with pytest.raises(ValueError, match="nothing was changed"):
        ours.load_weights(tmp_path / "m.weights.h5")
    ours.load_weights(tmp_path / "m.weights.h5", by_name=True)
    np.testing.assert_array_equal(
        ours.get_weights()[2], theirs.get_layer("middle").get_weights()[0]
    )


def test_what_keras_has_and_fusednn_not(keras, tmp_path):
    k = keras.layers
    model = keras.Sequential([k.Input((5, 1)), k.LSTM(3)])
    model.save(tmp_path / "lstm.keras")
    with pytest.raises(ValueError, match=r"lstm.keras: its layer 'lstm.*' is a LSTM"):
        importing.from_keras(tmp_path / "lstm.keras")
    model = keras.Sequential([k.Input((5,)), k.Dense(3, kernel_regularizer="l2")])
    model.save(tmp_path / "l2.keras")
    with pytest.warns(UserWarning, match="left out kernel_regularizer"):
        importing.from_keras(tmp_path / "l2.keras")
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04nonsense")
    with pytest.raises(ValueError, match="keras: "):
        importing.from_keras(tmp_path / "bad.keras")


# ---- PyTorch -------------------------------------------------------------------------------------


def test_torch(x):
    torch = pytest.importorskip("torch", exc_type=ImportError)
    torch.manual_seed(0)
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Linear(5, 7),
        nn.ReLU(),
        nn.BatchNorm1d(7),
        nn.Linear(7, 4, bias=False),
        nn.LayerNorm(4),
        nn.Linear(4, 2),
    )
    for _ in range(3):
        theirs(torch.from_numpy(x))  # moves the running statistics
    theirs.eval()
    ours = fusednn.Sequential(
        [
            layers.Dense(7, activation="relu"),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
            layers.Dense(4, use_bias=False),
            layers.LayerNormalization(epsilon=1e-5),
            layers.Dense(2),
        ],
        input_shape=(5,),
        seed=0,
    )
    want = theirs(torch.from_numpy(x)).detach().numpy()
    importing.load_state_dict(ours, theirs.state_dict())
    np.testing.assert_allclose(ours.predict(x), want, rtol=1e-5, atol=1e-6)

    linear = fusednn.Sequential([layers.Dense(2, name="out")], input_shape=(4,), seed=0)
    importing.load_state_dict(linear, theirs.state_dict(), names={"out": "5"})
    np.testing.assert_array_equal(linear.get_weights()[1], theirs[5].bias.detach().numpy())
    with pytest.raises(ValueError, match="say which are which with names="):
        importing.load_state_dict(linear, theirs.state_dict())
    with pytest.raises(ValueError, match=r"0.weight is \(5, 7\) for layer 'out'"):
        importing.load_state_dict(linear, theirs.state_dict(), names={"out": "0"})
    with pytest.raises(ValueError, match="needs bias, weight of module '3'"):
        importing.load_state_dict(linear, theirs.state_dict(), names={"out": "3"})
    with pytest.raises(ValueError, match="is not a layer"):
        importing.load_state_dict(linear, theirs.state_dict(), names={"out": "9"})
    with pytest.raises(TypeError, match="must be an array of numbers"):
        importing.load_state_dict(linear, {"a.weight": "x"})


# ---- scikit-learn --------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("classes", [0, 2, 3])
def test_sklearn(x, activation, classes):
    neural = pytest.importorskip("sklearn.neural_network", exc_type=ImportError)
    kind = neural.MLPClassifier if classes else neural.MLPRegressor
    theirs = kind(hidden_layer_sizes=(6, 5), activation=activation, max_iter=20, random_state=0)
    y = np.arange(9) % classes if classes else x @ np.ones((5, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(x, y)
    want = theirs.predict_proba(x) if classes else theirs.predict(x)
    want = want[:, 1:] if classes == 2 else want
    np.testing.assert_allclose(
        importing.from_sklearn(theirs).predict(x), want, rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match="is not fitted"):
        importing.from_sklearn(kind())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_our_estimator(x, batch_norm):
    pytest.importorskip("sklearn")
    from fusednn.sklearn import MLPClassifier

    rules = ["gelu", fusednn.activations.elu(alpha=0.5)]
    ours = MLPClassifier((6, 5), rules, batch_norm=batch_norm, dropout=0.2, random_state=0)
    ours.partial_fit(x, np.arange(9) % 3, classes=[0, 1, 2], epochs=20)
    network = importing.from_sklearn(ours)
    np.testing.assert_allclose(network.predict(x), ours.predict_proba(x), rtol=1e-4, atol=1e-5)
