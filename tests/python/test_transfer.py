# SPDX-License-Identifier: Apache-2.0
"""Layers and models that go from one model to another, with what they have learned."""

import gc

import numpy as np
import pytest

import fusednn
from fusednn import layers, optimizers


@pytest.fixture
def data(rng):
    x = rng.normal(size=(40, 6))
    return x, x @ rng.normal(size=(6, 3))


def make_base(seed=0):
    base = fusednn.Sequential(
        [
            layers.Dense(8, activation="relu", name="first"),
            layers.Dense(4, activation="tanh", name="second"),
            layers.Dense(3, name="head"),
        ],
        input_shape=(6,),
        seed=seed,
        name="base",
    )
    base.compile("adam", "mse")
    return base


def copies(model):
    return [w.copy() for w in model.get_weights()]


def changed(before, model):
    return [not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True)]


# ---- freezing ------------------------------------------------------------------------------------


def test_frozen_layers_stay(data):
    base = make_base()
    before = copies(base)
    base.get_layer("first").trainable = False
    base.fit(*data, verbose=0)
    assert changed(before, base) == [False, False, True, True, True, True]
    base.trainable = False
    before = copies(base)
    base.fit(*data, verbose=0)
    assert not any(changed(before, base))
    assert not base.trainable
    base.get_layer("head").trainable = True
    base.fit(*data, verbose=0)
    assert changed(before, base) == [False] * 4 + [True] * 2


def normalised(frozen, seed=0):
    model = fusednn.Sequential(
        [
            layers.Dense(5, "tanh", name="first"),
            layers.BatchNormalization(momentum=0.5, name="norm", trainable=not frozen),
            layers.Dense(3, name="head"),
        ],
        input_shape=(6,),
        seed=seed,
    )
    model.compile(optimizers.SGD(0.1), "mse", precision="float64", seed=0)
    rng = np.random.default_rng(2)
    model.get_layer("norm").set_weights([rng.uniform(0.5, 2, 5) for _ in range(4)])
    return model


def test_frozen_normalisation_is_at_inference(data):
    x, y = data
    model = normalised(frozen=True)
    before = copies(model)
    expected = ((model.predict(x) - y) ** 2).mean()
    history = model.fit(x, y, batch_size=40, shuffle=False, verbose=0)
    assert history.history["loss"][0] == pytest.approx(expected, rel=1e-12)
    assert changed(before, model) == [True, True, False, False, False, False, True, True]
    # One step of the layer below, by hand.
    k1, b1, gamma, beta, mean, variance, k2, b2 = before
    h = np.tanh(x @ k1 + b1)
    scale = gamma / np.sqrt(variance + 1e-3)
    error = 2 * (((h - mean) * scale + beta) @ k2 + b2 - y) / y.size
    dz = (error @ k2.T) * scale * (1 - h**2)
    np.testing.assert_allclose(model.get_weights()[0], k1 - 0.1 * x.T @ dz, rtol=0, atol=1e-12)
    model.get_layer("norm").trainable = True
    before = copies(model)
    model.fit(x, y, verbose=0)
    assert all(changed(before, model))


def test_gradients_through_frozen_normalisation(data):
    entry = layers.Input((6,))
    hidden = layers.Dense(4, "tanh")(entry)
    frozen = layers.BatchNormalization(trainable=False)(hidden)
    model = fusednn.Model(entry, layers.Dense(3)(layers.Add()([hidden, frozen])))
    model.compile("sgd", "mse", seed=0)
    assert max(model.check_gradients(*data).values()) < 1e-6
    other = normalised(frozen=True)
    assert max(other.check_gradients(*data).values()) < 1e-6


# ---- feature extraction, new heads ---------------------------------------------------------------


def test_feature_extraction(data):
    base = make_base()
    base.fit(*data, verbose=0)
    features = fusednn.Model(base.inputs, base.get_layer("second").output)
    first, second = base.get_layer("first"), base.get_layer("second")
    w, b = first.get_weights()
    hidden = np.maximum(data[0] @ w + b, 0)
    w, b = second.get_weights()
    np.testing.assert_allclose(features.predict(data[0]), np.tanh(hidden @ w + b), atol=1e-5)
    base.fit(*data, epochs=3, verbose=0)  # the extractor sees what base learns afterwards
    w, b = first.get_weights()
    hidden = np.maximum(data[0] @ w + b, 0)
    w, b = second.get_weights()
    np.testing.assert_allclose(features.predict(data[0]), np.tanh(hidden @ w + b), atol=1e-5)
    assert second.input.layer is first


@pytest.mark.parametrize("way", ["output", "call", "sequential", "layers"])
def test_a_new_head_on_a_frozen_base(data, way):
    x, y = data
    base = make_base()
    base.fit(x, y, epochs=2, verbose=0)
    body = fusednn.Model(base.inputs, base.get_layer("second").output, name="body")
    base.trainable = False
    head = layers.Dense(2)
    if way == "output":
        model = fusednn.Model(base.inputs, head(base.get_layer("second").output))
    elif way == "call":
        inputs = layers.Input((6,))
        model = fusednn.Model(inputs, head(body(inputs)))
    elif way == "sequential":
        model = fusednn.Sequential([body, head])
    else:
        model = fusednn.Sequential([*base.layers[:2], head], input_shape=(6,))
    model.compile("adam", "mse", seed=1)
    before, before_base = copies(model), copies(base)
    model.fit(x, y[:, :2], epochs=2, verbose=0)
    assert changed(before, model) == [False] * 4 + [True] * 2
    assert not any(changed(before_base, base))

    base.trainable = True  # fine-tuning: counts from the next compile on
    before = copies(model)
    model.fit(x, y[:, :2], verbose=0)
    assert changed(before, model) == [False] * 4 + [True] * 2
    model.compile(optimizers.Adam(1e-4), "mse")
    model.fit(x, y[:, :2], verbose=0)
    assert all(changed(before, model))
    assert changed(before_base, base) == [True] * 4 + [False] * 2
    for mine, theirs in zip(model.get_weights()[:4], base.get_weights()[:4], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_borrowed_training_is_the_same_as_own(data):
    """A model of borrowed layers learns exactly what it would learn with layers of its own."""
    base = make_base()
    model = fusednn.Sequential([base], seed=7)
    model.compile("adam", "mse")
    own = make_base()
    own.compile("adam", "mse", seed=7)
    own.set_weights(base.get_weights())
    for _ in range(2):
        model.fit(*data, epochs=2, verbose=0)
        own.fit(*data, epochs=2, verbose=0)
    assert model.train_on_batch(*data) == own.train_on_batch(*data)
    for other in (model, base):
        for a, b in zip(other.get_weights(), own.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_weights_can_be_written_through_either(data):
    base = make_base()
    model = fusednn.Sequential([base, layers.Dense(2)])
    zeros = [np.zeros_like(w) for w in model.get_weights()]
    model.set_weights(zeros)
    assert not np.any(base.predict(data[0]))
    model.weights[1][:] = 1.0
    np.testing.assert_array_equal(base.get_layer("first").get_weights()[1], 1.0)
    base.weights[1][:] = 2.0
    np.testing.assert_array_equal(model.get_weights()[1], 2.0)


def test_the_owner_lives_as_long_as_its_borrowers(data):
    base = make_base()
    base.fit(*data, verbose=0)
    want = base.predict(data[0])
    model = fusednn.Sequential([base])
    del base
    gc.collect()
    np.testing.assert_array_equal(model.predict(data[0]), want)


def test_an_interrupted_training_is_given_back(data):
    base = make_base()
    model = fusednn.Sequential([base])
    model.compile("adam", "mse")
    before = copies(base)

    def interrupt(batch, logs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(
            *data,
            verbose=0,
            callbacks=[fusednn.callbacks.LambdaCallback(on_train_batch_end=interrupt)],
        )
    assert all(changed(before, base))


# ---- adversaries ---------------------------------------------------------------------------------


def test_alternating_through_a_frozen_critic(data):
    """The training of a GAN: the critic learns alone, and is frozen where the maker learns."""
    x, _ = data
    maker = fusednn.Sequential([layers.Dense(6)], input_shape=(2,), seed=0, name="maker")
    critic = fusednn.Sequential(
        [layers.Dense(8, activation="tanh"), layers.Dense(1)],
        input_shape=(6,),
        seed=1,
        name="critic",
    )
    critic.compile("adam", "binary_crossentropy")
    critic.trainable = False
    both = fusednn.Sequential([maker, critic])
    both.compile("adam", "binary_crossentropy")
    critic.trainable = True

    before = copies(critic)
    both.train_on_batch(np.ones((4, 2)), np.ones(4))
    assert not any(changed(before, critic))
    before_maker = copies(maker)
    critic.train_on_batch(x, np.ones(40))
    assert all(changed(before, critic))
    assert not any(changed(before_maker, maker))
    both.train_on_batch(np.ones((4, 2)), np.ones(4))
    assert all(changed(before_maker, maker))
    np.testing.assert_array_equal(both.get_weights()[-1], critic.get_weights()[-1])
    assert [layer.name for layer in both.layers] == ["maker", "critic"]
    assert both.get_layer("critic") is critic


def test_names_that_meet():
    one = fusednn.Sequential([layers.Dense(3)], input_shape=(3,), name="one")
    two = fusednn.Sequential([layers.Dense(3)], input_shape=(3,), name="two")
    model = fusednn.Sequential([one, two, layers.Dense(1)])
    names = [p["node"] for p in model._parameters] or sorted(
        {key.partition("/")[0] for key in model._named_parameters()}
    )
    assert sorted(set(names)) == ["dense", "dense_1", "two_dense"]
    assert one.layers[0].name == two.layers[0].name == "dense"
    assert model.get_layer("two_dense") is two.layers[0]


def test_nested_models_are_saved_and_copied(data, tmp_path):
    base = make_base()
    model = fusednn.Sequential([base, layers.Dropout(0.1), layers.Dense(2)], seed=3)
    model.compile("adam", "mse")
    x, y = data
    model.fit(x, y[:, :2], verbose=0)
    model.save(tmp_path / "model")
    again = fusednn.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    for other in (model, again):
        other.fit(x, y[:, :2], verbose=0)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    before = copies(base)
    again.fit(x, y[:, :2], verbose=0)  # its layers are its own
    assert not any(changed(before, base))
    inputs = layers.Input((6,))
    graph = fusednn.Model(inputs, layers.Add()([base(inputs), layers.Dense(3)(inputs)]))
    graph.save(tmp_path / "graph")
    np.testing.assert_array_equal(fusednn.load(tmp_path / "graph").predict(x), graph.predict(x))


# ---- add and pop ---------------------------------------------------------------------------------


def test_pop_and_add_keep_weights(data):
    x, y = data
    model = make_base()
    model.fit(x, y, verbose=0)
    before = copies(model)
    head = model.pop()
    assert head.name == "head"
    with pytest.raises(ValueError, match="has no weights yet"):
        head.get_weights()
    model.add(layers.Dense(2, name="new"))
    after = model.get_weights()
    for a, b in zip(before[:4], after[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert after[4].shape == (4, 2)
    assert np.any(after[4])
    assert not np.any(after[5])
    rate = model.optimizer.learning_rate
    model.fit(x, y[:, :2], verbose=0)  # compiled as before, with a new optimizer state
    assert model.optimizer.learning_rate == rate
    assert model.optimizer.iterations == 2
    assert all(changed(after, model))


def test_refusals():
    base = make_base()
    with pytest.raises(ValueError, match=r"takes inputs of shapes \(6,\), got \(5,\)"):
        base(layers.Input((5,)))
    with pytest.raises(ValueError, match="cannot be a layer of itself"):
        base.add(base)
    with pytest.raises(ValueError, match="is used already"):
        fusednn.Sequential([base, base])
    with pytest.raises(ValueError, match="used at two places"):
        fusednn.Model(base.inputs, layers.Add()([base.output, base(base.input)]))
    with pytest.raises(ValueError, match="is not built"):
        fusednn.Sequential([fusednn.Sequential([layers.Dense(1)])])
    two = fusednn.Model(base.inputs, [base.layers[0].output, base.layers[1].output])
    with pytest.raises(ValueError, match="with one of each"):
        fusednn.Sequential([two])
    with pytest.raises(ValueError, match="was never called"):
        layers.Dense(3).output  # noqa: B018


# ---- weights by name -----------------------------------------------------------------------------


def test_load_weights_by_name(tmp_path):
    base = make_base()
    base.save_weights(tmp_path / "weights")
    other = fusednn.Sequential(
        [layers.Dense(8, name="first"), layers.Dense(4, name="second"), layers.Dense(9, name="x")],
        input_shape=(6,),
        seed=4,
    )
    before = copies(other)
    with pytest.raises(ValueError, match="nothing was changed"):
        other.load_weights(tmp_path / "weights")
    other.load_weights(tmp_path / "weights", by_name=True)
    for a, b in zip(other.get_weights()[:4], base.get_weights()[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert changed(before, other)[4:] == [False, False]

    wide = fusednn.Sequential(
        [layers.Dense(9, name="first"), layers.Dense(4, name="x"), layers.Dense(3, name="head")],
        input_shape=(6,),
        seed=4,
    )
    before = copies(wide)
    with pytest.raises(ValueError, match=r"'first/kernel' has shape \(6, 8\)"):
        wide.load_weights(tmp_path / "weights", by_name=True)
    assert not any(changed(before, wide))
    wide.load_weights(tmp_path / "weights", by_name=True, skip_mismatch=True)
    np.testing.assert_array_equal(wide.get_weights()[4], base.get_weights()[4])
    strange = fusednn.Sequential([layers.Dense(1, name="y")], input_shape=(6,))
    with pytest.raises(ValueError, match="none of its layers"):
        strange.load_weights(tmp_path / "weights", by_name=True)
    with pytest.raises(ValueError, match="needs by_name=True"):
        strange.load_weights(tmp_path / "weights", skip_mismatch=True)
