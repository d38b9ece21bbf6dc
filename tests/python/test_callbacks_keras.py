# SPDX-License-Identifier: Apache-2.0
"""Callbacks beside Keras' own: the same hooks in the same order with the same logs and files."""

import numpy as np
import pytest
from tests.rivals import import_keras

import fusednn

keras = import_keras()

ROWS, COLUMNS = 22, 3


@pytest.fixture
def data(rng):
    x = rng.normal(size=(ROWS, COLUMNS)).astype(np.float32)
    return x, (x.sum(axis=1, keepdims=True) + rng.normal(size=(ROWS, 1))).astype(np.float32)


def twins(learning_rate=0.01):
    """Return the same model, made by fusednn and by Keras, with the same weights."""
    ours = fusednn.Sequential(
        [fusednn.layers.Dense(4, activation="tanh"), fusednn.layers.Dense(1)],
        input_shape=(COLUMNS,),
        seed=0,
    )
    ours.compile(fusednn.optimizers.SGD(learning_rate), "mse", metrics=["mae"], convention="keras")
    theirs = keras.Sequential(
        [
            keras.layers.Input((COLUMNS,)),
            keras.layers.Dense(4, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )
    theirs.compile(keras.optimizers.SGD(learning_rate), "mse", metrics=["mae"])
    theirs.set_weights(ours.get_weights())
    return ours, theirs


def recorder(base, log):
    """Return a callback of the given base class that writes every hook into a list."""

    def hook(name):
        def call(self, *arguments, **keywords):
            values = [*arguments, *keywords.values()]
            numbers = [value for value in values if isinstance(value, int)]
            logs = next((value for value in values if isinstance(value, dict)), None) or {}
            log.append((name, numbers, dict(logs)))

        return call

    names = [name for name in dir(base) if name.startswith("on_") and "_batch_" in name]
    names += [
        f"on_{phase}_{end}" for phase in ("train", "test", "predict") for end in ("begin", "end")
    ]
    names += ["on_epoch_begin", "on_epoch_end"]
    return type("Recorder", (base,), {name: hook(name) for name in names})()


def assert_same_logs(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_hooks_order_and_logs(data):
    x, y = data
    logs, pairs = ([], []), zip(twins(), (fusednn, keras), strict=True)
    for log, (model, house) in zip(logs, pairs, strict=True):
        watch = recorder(house.callbacks.Callback, log)
        model.fit(x, y, 5, 2, 0, [watch], 0.25, shuffle=False)
        model.evaluate(x, y, batch_size=8, verbose=0, callbacks=[watch])
        model.predict(x, batch_size=8, verbose=0, callbacks=[watch])
    ours, theirs = logs
    assert [entry[:2] for entry in ours] == [entry[:2] for entry in theirs]
    for (name, _, mine), (_, _, keras_logs) in zip(ours, theirs, strict=True):
        if name in ("on_train_batch_begin", "on_test_batch_begin"):
            continue
        assert_same_logs(mine, keras_logs)


@pytest.mark.parametrize(
    "arguments",
    [
        {"factor": 0.5, "patience": 1, "min_delta": 0.3},
        {"factor": 0.5, "patience": 0, "min_delta": 0.3},
        {"factor": 0.1, "patience": 2, "min_delta": 10.0, "cooldown": 2},
        {"factor": 0.1, "patience": 1, "min_delta": 10.0, "min_lr": 2e-3},
        {"factor": 0.5, "patience": 1, "mode": "max"},
    ],
)
def test_reduce_on_plateau(data, arguments):
    histories = [
        model.fit(
            *data, 5, 12, 0, [house.callbacks.ReduceLROnPlateau("loss", **arguments)], shuffle=False
        ).history
        for model, house in zip(twins(0.05), (fusednn, keras), strict=True)
    ]
    assert len(set(histories[0]["learning_rate"])) > 1
    assert_same_logs(*histories)


@pytest.mark.parametrize(
    "arguments",
    [
        {"patience": 2, "min_delta": 0.05},
        {"patience": 2, "mode": "max"},
        {"patience": 3, "baseline": 0.01},
        {"patience": 1, "mode": "max", "start_from_epoch": 4, "restore_best_weights": True},
    ],
)
def test_early_stopping(data, arguments):
    weights = []
    histories = []
    for model, house in zip(twins(0.05), (fusednn, keras), strict=True):
        stop = house.callbacks.EarlyStopping("loss", **arguments)
        histories.append(model.fit(*data, 5, 20, 0, [stop], shuffle=False).history)
        weights.append(model.get_weights())
    assert_same_logs(*histories)
    for mine, other in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-5)


def test_learning_rate_scheduler_and_lambda(data):
    seen, histories = ([], []), []
    for log, model, house in zip(seen, twins(), (fusednn, keras), strict=True):
        calls = house.callbacks
        schedule = calls.LearningRateScheduler(lambda epoch, rate: float(rate * 0.5))
        report = calls.LambdaCallback(
            on_epoch_end=lambda epoch, logs, log=log: log.append(dict(logs))
        )
        histories.append(model.fit(*data, 5, 3, 0, [schedule, report], shuffle=False).history)
    assert_same_logs(*histories)
    for mine, other in zip(*seen, strict=True):
        assert_same_logs(mine, other)


@pytest.mark.parametrize("split", [0.0, 0.25])
def test_csv_files_are_the_same(data, split, tmp_path):
    tables = []
    for model, house in zip(twins(), (fusednn, keras), strict=True):
        for append in (False, True):
            path = tmp_path / f"{house.__name__}.csv"
            log = house.callbacks.CSVLogger(str(path), separator=";", append=append)
            model.fit(*data, 5, 2, 0, [log], split, shuffle=False)
        tables.append([line.split(";") for line in path.read_text().splitlines()])
    ours, theirs = tables
    assert len(ours) == len(theirs) == 5
    assert ours[0] == theirs[0]
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        for cell, value in zip(mine, other, strict=True):
            if value == "NA":
                assert cell == "NA"
            else:
                np.testing.assert_allclose(float(cell), float(value), rtol=1e-4)


def test_checkpoints_have_the_same_names(data, tmp_path):
    names = []
    for model, house, end in zip(
        twins(0.4), (fusednn, keras), ("safetensors", "keras"), strict=True
    ):
        folder = tmp_path / house.__name__
        kinds = {
            "every": {},
            "best": {"monitor": "loss", "save_best_only": True},
            "most": {"monitor": "loss", "save_best_only": True, "mode": "max"},
            "least": {"monitor": "loss", "save_best_only": True, "initial_value_threshold": 0.9},
            "steps": {"save_freq": 3},
        }
        files = [
            house.callbacks.ModelCheckpoint(
                str(
                    folder
                    / f"{kind}-{{epoch:02d}}{'-{batch}' * (kind == 'steps')}-{{loss:.2f}}.{end}"
                ),
                **arguments,
            )
            for kind, arguments in kinds.items()
        ]
        model.fit(*data, 5, 4, 0, files, shuffle=False)
        names.append(sorted(path.stem for path in folder.iterdir()))
    assert names[0] == names[1]
    assert sum(name.startswith("steps") for name in names[0]) == 6
    assert 0 < sum(name.startswith("best") for name in names[0]) <= 4
