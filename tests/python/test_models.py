# SPDX-License-Identifier: Apache-2.0
"""Sequential and Model: building, the graph, summary, weights."""

import copy
import gc
import pickle
import subprocess
import sys
import weakref

import numpy as np
import pytest

import fusednn
import oracle
from fusednn import layers


def residual():
    """Two inputs, two outputs, a fan-out."""
    a, b = layers.Input((4,), name="a"), layers.Input((2,), name="b")
    hidden = layers.Dense(4, activation="tanh", name="hidden")(a)
    total = layers.Add(name="total")([a, hidden])
    joined = layers.Concatenate(name="joined")([total, b])
    first = layers.Dense(3, name="first")(joined)
    second = layers.Dense(1, activation="sigmoid", name="second")(total)
    return fusednn.Model([a, b], [first, second], seed=1)


def test_functional_model_computes_its_graph(rng):
    model = residual()
    model.compile("sgd", ["mse", "bce"], precision="float64")
    a, b = rng.normal(size=(6, 4)), rng.normal(size=(6, 2))
    w = dict(zip(["hw", "hb", "fw", "fb", "sw", "sb"], model.get_weights(), strict=True))
    total = a + oracle.dense_forward(a, w["hw"], w["hb"], "tanh")
    first = oracle.dense_forward(np.concatenate([total, b], axis=1), w["fw"], w["fb"])
    second = oracle.dense_forward(total, w["sw"], w["sb"], "sigmoid")
    for x in ([a, b], {"b": b, "a": a}):
        got = model.predict(x)
        np.testing.assert_allclose(got[0], first, rtol=1e-12)
        np.testing.assert_allclose(got[1], second, rtol=1e-12)
    assert model.input_shape == [(None, 4), (None, 2)]
    assert model.output_shape == [(None, 3), (None, 1)]


def test_shapes_agree_with_the_engine():
    model = residual()
    engine = model._need_engine()
    shapes = {node["name"]: node["shape"] for node in engine.nodes()}
    graph = model._require_graph()
    for layer in graph.layers:
        assert shapes[layer.name] == graph.shape_of(layer)


def test_gradient_through_fan_out(rng):
    """One SGD step against central differences of the loss."""
    model = residual()
    x = {"a": rng.normal(size=(8, 4)), "b": rng.normal(size=(8, 2))}
    y = [rng.normal(size=(8, 3)), rng.uniform(size=(8, 1))]
    model.compile(
        fusednn.optimizers.SGD(1.0), ["mse", "bce"], loss_weights=[0.7, 2], precision="float64"
    )
    before = model.get_weights()

    def loss_at(weights):
        model.set_weights(weights)
        return model.evaluate(x, y)[0]

    model.train_on_batch(x, y)
    steps = [b - a for a, b in zip(model.get_weights(), before, strict=True)]
    for i, weight in enumerate(before):
        for place in np.ndindex(weight.shape):
            moved = [w.copy() for w in before]
            moved[i][place] += 1e-6
            up = loss_at(moved)
            moved[i][place] -= 2e-6
            slope = (up - loss_at(moved)) / 2e-6
            assert steps[i][place] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_same_seed_same_weights_and_set_seed():
    def weights(**how):
        model = fusednn.Sequential([layers.Dense(3)], input_shape=(2,), **how)
        return model.get_weights()[0]

    np.testing.assert_array_equal(weights(seed=3), weights(seed=3))
    assert (weights(seed=3) != weights(seed=4)).any()
    assert (weights() != weights()).any()
    fusednn.set_seed(7)
    first = [weights(), weights()]
    fusednn.set_seed(7)
    np.testing.assert_array_equal(first, [weights(), weights()])
    assert (first[0] != first[1]).any()
    fusednn.set_seed(None)
    compiled = fusednn.Sequential([layers.Dense(3)], input_shape=(2,))
    compiled.summary(print_fn=lambda text: None)
    compiled.compile("sgd", "mse", seed=3)  # nobody has seen the weights yet
    np.testing.assert_array_equal(compiled.get_weights()[0], weights(seed=3))
    compiled.compile("sgd", "mse", seed=4)  # now somebody has
    np.testing.assert_array_equal(compiled.get_weights()[0], weights(seed=3))


def test_precision_can_change_and_weights_stay():
    model = fusednn.Sequential([layers.Dense(3)], input_shape=(2,))
    before = model.get_weights()[0]
    model.compile("sgd", "mse", precision="float64")
    assert model.get_weights()[0].dtype == np.float64
    np.testing.assert_array_equal(model.get_weights()[0], before)
    model.compile("sgd", "mse", precision=np.float32)
    assert model.predict(np.ones((1, 2))).dtype == np.float32


# ---- Sequential --------------------------------------------------------------------------------


def test_three_ways_to_say_the_input_shape(rng):
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    chains = [
        fusednn.Sequential([layers.Dense(2)], input_shape=(3,), seed=0),
        fusednn.Sequential([layers.Input((3,)), layers.Dense(2)], seed=0),
        fusednn.Sequential([layers.Dense(2)], seed=0),
    ]
    assert [model.built for model in chains] == [True, True, False]
    for model in chains:
        model.compile("adam", "mse")
        model.fit(x, y, epochs=2, verbose=0)
        assert model.input_shape == (None, 3)
    for model in chains[1:]:
        np.testing.assert_array_equal(model.get_weights()[0], chains[0].get_weights()[0])


def test_add_and_pop():
    model = fusednn.Sequential(name="grown")
    model.add(layers.Input((4,)))
    model.add(layers.Dense(3))
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)
    removed = model.pop()
    assert (removed.units, model.output_shape) == (2, (None, 3))
    with pytest.raises(ValueError, match="two layers are named 'dense'"):
        model.add(layers.Dense(1, name="dense")) or model.add(layers.Dense(1, name="dense"))
    assert len(model.layers) == 2
    with pytest.raises(ValueError, match="no layer to remove"):
        fusednn.Sequential().pop()


def test_build_and_the_weights_that_learn():
    model = fusednn.Sequential([layers.Dense(3, name="first"), layers.BatchNormalization()])
    with pytest.raises(ValueError, match=r"input_shape must be \(None, ...\), got \(2,\)"):
        model.build((2,))
    assert not model.built
    model.build((None, 2))
    model.build((None, 2))
    with pytest.raises(ValueError, match="built for"):
        model.build((None, 3))
    assert [w.shape for w in model.trainable_weights] == [(2, 3), (3,), (3,), (3,)]
    assert [w.shape for w in model.non_trainable_weights] == [(3,), (3,)]
    model.get_layer("first").trainable = False
    assert [w.shape for w in model.trainable_weights] == [(3,), (3,)]
    assert len(model.non_trainable_weights) == 4


def test_a_failed_fit_leaves_an_unbuilt_model_unbuilt(rng):
    model = fusednn.Sequential([layers.Dense(2)])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="y has shape"):
        model.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 4)), verbose=0)
    assert not model.built
    model.fit(rng.normal(size=(8, 5)), rng.normal(size=(8, 2)), verbose=0)
    assert model.input_shape == (None, 5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fusednn.Sequential([3]), TypeError, "takes layers, got 3"),
        (lambda: fusednn.Sequential([layers.Dense]), TypeError, "takes layers"),
        (
            lambda: fusednn.Sequential([layers.Input((1,)), layers.Input((1,))]),
            ValueError,
            "must be the first layer",
        ),
        (
            lambda: fusednn.Sequential([layers.Input((1,))], input_shape=(1,)),
            ValueError,
            "not both",
        ),
        (lambda: fusednn.Sequential([], inputshape=(1,)), TypeError, "did you mean input_shape"),
        (lambda: fusednn.Sequential([], seed=-1), ValueError, "seed must be at least 0"),
        (lambda: fusednn.Sequential([], seed=2**64), ValueError, "less than"),
        (lambda: fusednn.Sequential([layers.Dense(1)]).predict([[1]]), ValueError, "not built"),
        (lambda: fusednn.Sequential([layers.Dense(1)]).get_weights(), ValueError, "not built"),
        (
            lambda: fusednn.Sequential([layers.Add()], input_shape=(1,)),
            ValueError,
            "at least two inputs",
        ),
        (lambda: fusednn.Model(layers.Input((1,)), 3), TypeError, "outputs must be"),
        (lambda: fusednn.Model([], layers.Input((1,))), ValueError, "inputs is empty"),
    ],
)
def test_errors_of_construction(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_errors_of_the_graph():
    a, b = layers.Input((1,), name="a"), layers.Input((1,), name="b")
    hidden = layers.Dense(2)(a)
    joined = layers.Concatenate()([hidden, b])
    with pytest.raises(ValueError, match="depend on input 'b'"):
        fusednn.Model(a, joined)
    with pytest.raises(ValueError, match="no output depends on input 'b'"):
        fusednn.Model([a, b], hidden)
    with pytest.raises(ValueError, match=r"inputs must come from Input\(\)"):
        fusednn.Model(hidden, joined)
    with pytest.raises(ValueError, match="given twice"):
        fusednn.Model([a, a], hidden)
    with pytest.raises(ValueError, match="output is given twice"):
        fusednn.Model(a, [hidden, hidden])


# ---- looking at it -----------------------------------------------------------------------------


def test_summary_counts():
    model = fusednn.Sequential(
        [layers.Dense(8), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(2)],
        input_shape=(4,),
    )
    model.layers[0].trainable = False
    texts = []
    model.summary(print_fn=texts.append)
    (text,) = texts
    assert "batch_normalization (BatchNormalization)  (None, 8)          32" in text
    assert "Total params: 90 (360 B)" in text
    assert "Trainable params: 34 (136 B)" in text  # gamma, beta and the last layer
    assert "Non-trainable params: 56 (224 B)" in text
    assert model.count_params() == 90


def test_summary_of_a_graph_says_what_is_connected(capsys):
    residual().summary()
    text = capsys.readouterr().out
    assert "a, hidden" in text
    assert "Connected to" in text
    fusednn.Sequential([layers.Dense(1)]).summary()
    assert "Not built yet" in capsys.readouterr().out


def test_get_layer():
    model = residual()
    assert model.get_layer("hidden").units == 4
    assert model.get_layer(index=0).name == model.layers[0].name
    with pytest.raises(ValueError, match="did you mean 'hidden'"):
        model.get_layer("hiden")
    with pytest.raises(ValueError, match="out of range"):
        model.get_layer(index=99)
    with pytest.raises(ValueError, match="either name or index"):
        model.get_layer()


def test_trainable_of_a_model():
    model = residual()
    model.trainable = False
    assert not any(layer.trainable for layer in model.layers)
    assert not model.trainable


# ---- life and death ----------------------------------------------------------------------------


def test_config_round_trip():
    for model in (residual(), fusednn.Sequential([layers.Dense(2)], input_shape=(3,), name="s")):
        other = type(model).from_config(model.get_config())
        assert other.get_config() == model.get_config()
        assert other.count_params() == model.count_params()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_pickle_and_deepcopy_go_on_with_the_same_bits(rng, duplicate):
    x = [rng.normal(size=(16, 4)), rng.normal(size=(16, 2))]
    y = [rng.normal(size=(16, 3)), rng.uniform(size=(16, 1))]
    model = residual()
    model.compile("nadam", ["mse", "bce"])
    model.fit(x, y, batch_size=4, epochs=2, verbose=0)
    other = duplicate(model)
    for one in (model, other):
        one.fit(x, y, batch_size=4, epochs=2, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    unbuilt = fusednn.Sequential([layers.Dense(1)], seed=4)
    unbuilt.compile("sgd", "mse")
    assert duplicate(unbuilt).seed == 4


def test_a_model_dies_when_nobody_needs_it(rng):
    model = fusednn.Sequential([layers.Dense(2)], seed=0)
    model.compile("adam", "mse")
    model.fit(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), verbose=0)
    gone = weakref.ref(model)
    kernel = model.weights[0]
    gc.collect()
    gc.disable()
    try:
        del model
        assert gone() is None  # without the help of the collector: no cycles
    finally:
        gc.enable()
    kernel += 1  # the memory lives as long as the array


def test_import_is_light():
    code = (
        "import sys, numpy; before = set(sys.modules); import fusednn\n"
        "heavy = {'sklearn', 'torch', 'matplotlib', 'scipy', 'pandas', 'hypothesis'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "assert 'fusednn.ops' not in sys.modules\n"
        "assert fusednn.ops is sys.modules['fusednn.ops']\n"
        "print(fusednn.__version__)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_everything_exported_exists():
    for module in (fusednn, layers, fusednn.optimizers):
        for name in module.__all__:
            assert getattr(module, name) is not None
            assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'Sequental'"):
        _ = fusednn.Sequental
