# SPDX-License-Identifier: Apache-2.0
"""What `compile` and `fit` refuse: the message says why, and nothing has changed."""

import numpy as np
import pytest

import fusednn
from fusednn import layers


def classifier(**compile_):
    model = fusednn.Sequential(
        [
            layers.Dense(4, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ],
        input_shape=(5,),
        seed=0,
    )
    model.compile(**{"optimizer": "adam", "loss": "sparse_categorical_crossentropy", **compile_})
    return model


X, Y = np.ones((6, 5)), np.array([0, 1, 2, 0, 1, 2])


def nan_at(array, place):
    array = array.astype(float)
    array[place] = np.nan
    return array


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": np.ones((6, 4))}, r"x has shape \(6, 4\), but input 'input' needs \(samples, 5\)"),
        ({"x": np.ones(5)}, "the axis of samples is missing"),
        ({"x": np.float64(3)}, "x must have one row per sample"),
        ({"x": X[:0], "y": Y[:0]}, "x is empty"),
        ({"y": Y[:5]}, "y has 5 samples, but x has 6"),
        ({"x": nan_at(X, (2, 3))}, r"x has 1 values that are not finite .* nan at \[2, 3\]"),
        ({"x": X * 1e300}, "not finite in float32"),
        ({"y": nan_at(Y, 4)}, "class numbers from 0 to 2, .* got nan in row 4"),
        ({"y": Y + 1}, "got 3 in row 2"),
        ({"y": Y - 1}, "got -1 in row 0"),
        ({"y": Y + 0.5}, "got 0.5 in row 0"),
        ({"y": np.eye(3)[Y]}, "for one-hot rows use 'categorical_crossentropy'"),
        ({"sample_weight": np.ones(5)}, r"sample_weight must have shape \(6,\), got \(5,\)"),
        ({"sample_weight": -np.ones(6)}, "must not be negative"),
        ({"sample_weight": np.full(6, np.inf)}, "sample_weight has 6 values that are not finite"),
        ({"class_weight": {3: 1.0}}, "3 is not a class number from 0 to 2"),
        ({"class_weight": {1: -1.0}}, r"class_weight\[1\] must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epochs": -1}, "epochs must be at least 0"),
        ({"validation_split": 1.0}, "validation_split"),
        ({"validation_split": 0.9}, "of 6 samples leaves 0 to train on and 6 to validate on"),
        ({"validation_data": (X, Y + 1)}, "validation_data: y must hold class numbers"),
        ({"validation_data": (X,)}, r"must be \(x, y\)"),
        ({"verbose": 3}, "verbose must be"),
    ],
)
def test_wrong_values_are_refused(arguments, message):
    model = classifier()
    before = model.get_weights()
    with pytest.raises(ValueError, match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert model.history is None
    assert model.optimizer.iterations == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X.astype(object)}, "x must be an array of numbers, got dtype object"),
        ({"x": X.astype(str)}, "x must be an array of numbers"),
        ({"x": X + 1j}, "complex128"),
        ({"x": None}, "x must be an array of numbers, got None"),
        ({"y": ["a"] * 6}, "y must be an array of numbers"),
        ({"sample_weight": {"out": Y}}, "one array with a weight per sample"),
        ({"class_weight": [1, 2, 3]}, "class_weight must be a dict"),
        ({"class_weight": {"a": 1}}, "keys must be class numbers"),
        ({"callbacks": [print]}, "callbacks must be instances"),
        ({"epochs": 2.0}, "epochs must be an integer"),
        ({"shuffle": "batch"}, "shuffle must be True or False"),
        ({"n_epochs": 2}, "use epochs"),
        ({"max_iter": 2}, "use epochs"),
        ({"eval_set": 2}, "use validation_data"),
    ],
)
def test_wrong_types_are_refused(arguments, message):
    model = classifier()
    with pytest.raises(TypeError, match=message):
        model.fit(**{"x": X, "y": Y, "verbose": 0, **arguments})
    assert model.optimizer.iterations == 0


def test_ragged_and_masked_and_sparse():
    model = classifier()
    with pytest.raises(ValueError, match="x is not an array of numbers"):
        model.predict([[1, 2, 3, 4, 5], [1, 2]])
    with pytest.raises(ValueError, match="masked values"):
        model.predict(np.ma.masked_greater(X, 0))
    scipy_sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match=r"use \.toarray\(\)"):
        model.predict(scipy_sparse.csr_matrix(X))


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("categorical_crossentropy", Y, "use 'sparse_categorical_crossentropy'"),
        ("categorical_crossentropy", 2 * np.eye(3)[Y], r"must lie in \[0, 1\], got 2 in row 0"),
        ("bce", -np.eye(3)[Y], r"must lie in \[0, 1\], got -1 in row 0"),
        ("poisson", -np.ones((6, 3)), r"must lie in \[0, inf\]"),
        ("hinge", np.eye(3)[Y], "must be -1 or 1, got 0 in row 0"),
        ("mse", np.ones((6, 2)), r"output 'dense_1' needs \(samples, 3\)"),
        ("mse", np.ones(6), r"needs \(samples, 3\)"),
        ("mse", nan_at(np.ones((6, 3)), (1, 1)), r"nan at \[1, 1\]"),
    ],
)
def test_targets_that_do_not_fit_the_loss(loss, y, message):
    model = classifier(loss=loss)
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(X, y)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"loss": None}, ValueError, "loss is missing"),
        ({"loss": "crossentropy"}, ValueError, "did you mean"),
        ({"optimizer": "adamm"}, ValueError, "did you mean 'adam'"),
        ({"device": "gpu:7"}, ValueError, "unknown"),
        ({"device": 0}, TypeError, "device must be a string"),
        ({"precision": "float16", "device": "cpu"}, ValueError, "precision='float16' needs a CUDA"),
        ({"precision": "tf32"}, ValueError, "precision='tf32' cannot be had: fusednn.device.allow"),
        ({"precision": "float8"}, ValueError, "precision='float8' is unknown"),
        ({"precision": "single"}, ValueError, "precision"),
        ({"seed": 1.5}, TypeError, "seed must be an integer"),
        ({"convention": "pytorch"}, ValueError, "did you mean 'torch'"),
        ({"dtype": "float32"}, TypeError, "use precision"),
        ({"lr": 0.1}, TypeError, "has no argument 'lr'"),
        ({"loss_weights": [1, 2]}, ValueError, "one entry per output"),
        ({"loss_weights": ["a"]}, TypeError, "loss_weights must be a number"),
        ({"loss": ["mse", "mse"]}, ValueError, r"one entry per output \(dense_1\), got 2"),
        ({"loss": {"out": "mse"}}, ValueError, "output='out' is unknown"),
        ({"metrics": ["accuracy", "acuracy"]}, ValueError, "did you mean 'accuracy'"),
    ],
)
def test_a_failed_compile_changes_nothing(arguments, error, message):
    model = classifier()
    objective, optimizer, engine = model._objective, model.optimizer, model._engine
    with pytest.raises(error, match=message):
        model.compile(**{"optimizer": "sgd", "loss": "mse", **arguments})
    assert (model._objective, model.optimizer, model._engine) == (objective, optimizer, engine)
    model.fit(X, Y, verbose=0)


def test_nothing_works_before_compile():
    model = fusednn.Sequential([layers.Dense(1)], input_shape=(5,))
    for call in (model.fit, model.evaluate, model.train_on_batch, model.test_on_batch):
        with pytest.raises(ValueError, match=r"needs compile\(\) first"):
            call(X, Y)
    assert model.predict(X).shape == (6, 1)  # needs no loss


# ---- random calls ------------------------------------------------------------------------------

ODD = [
    None,
    True,
    -1,
    0,
    2**70,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "x",
    b"x",
    [],
    {},
    (),
    [[1, 2], [3]],
    {"dense": 1},
    object(),
    print,
    X,
    X[:0],
    X[:, :3],
    X.T,
    X[None],
    X.astype(object),
    X.astype("U1"),
    X.astype(complex),
    np.full((6, 5), np.nan),
    np.zeros((6, 0)),
    np.array(3.0),
    Y,
    Y + 1,
    Y[:3],
    np.eye(3)[Y],
]
CALLS = {
    "fit": "x y batch_size epochs validation_split validation_data shuffle class_weight "
    "sample_weight initial_epoch callbacks nonsense",
    "evaluate": "x y batch_size sample_weight return_dict",
    "predict": "x batch_size",
    "train_on_batch": "x y sample_weight class_weight",
    "set_weights": "weights",
    "compile": "optimizer loss metrics loss_weights device precision seed convention",
    "get_layer": "name index",
    "load_weights": "filepath",
    "save_weights": "nonsense",
}


def test_random_calls_are_refused_or_harmless():
    """Whatever is put for an argument: a ValueError or TypeError, or a model that still works."""
    hypothesis = pytest.importorskip("hypothesis")
    from hypothesis import strategies as st

    model = classifier()

    @st.composite
    def call(draw):
        name = draw(st.sampled_from(sorted(CALLS)))
        given = draw(
            st.dictionaries(st.sampled_from(CALLS[name].split()), st.sampled_from(range(len(ODD))))
        )
        return name, given

    @hypothesis.settings(max_examples=2000)
    @hypothesis.given(call())
    def run(drawn):
        name, places = drawn
        given = {key: ODD[place] for key, place in places.items()}
        if given.get("epochs") is ODD[4]:
            del given["epochs"]  # would be refused by nobody, and take its time
        if name in ("fit", "evaluate", "train_on_batch"):
            given = {"x": X, "y": Y, **given}
        if name == "fit":
            given["verbose"] = 0
        if name == "compile":
            given = {"loss": "sparse_categorical_crossentropy", **given}
        before = model.get_weights()
        try:
            getattr(model, name)(**given)
        except (ValueError, TypeError, FileNotFoundError, IsADirectoryError):
            after = model.get_weights()
            assert all((a == b).all() for a, b in zip(before, after, strict=True)), drawn
        assert model.predict(X).shape == (6, 3)

    run()
