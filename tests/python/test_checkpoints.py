# SPDX-License-Identifier: Apache-2.0
"""Files that callbacks write: models, and logs."""

import os

import numpy as np
import pytest

import fusednn
from fusednn import callbacks, layers
from fusednn.callbacks import LambdaCallback, ModelCheckpoint


@pytest.fixture
def data(rng):
    x = rng.normal(size=(50, 3))
    return x, x.sum(axis=1)


def make(seed=5, optimizer="adam"):
    model = fusednn.Sequential(
        [
            layers.Dense(8, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(1),
        ],
        input_shape=(3,),
        seed=seed,
    )
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def assert_same(one, other):
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


# ---- ModelCheckpoint -----------------------------------------------------------------------------


def test_whole_models_and_weights(data, tmp_path, capsys):
    model = make()
    whole = ModelCheckpoint(tmp_path / "new" / "model", verbose=1)
    weights = ModelCheckpoint(tmp_path / "weights", save_weights_only=True)
    model.fit(*data, epochs=2, verbose=0, callbacks=[whole, weights])
    assert_same(fusednn.load(tmp_path / "new" / "model"), model)
    with pytest.raises(ValueError, match="it holds weights alone"):
        fusednn.load(tmp_path / "weights")
    other = make(seed=1)
    other.load_weights(tmp_path / "weights")
    assert_same(other, model)
    assert f"Epoch 2: saved {tmp_path}" in capsys.readouterr().out


def test_checkpoints_within_an_epoch_hold_that_moment(data, tmp_path):
    model = make()
    kept = []
    keep = LambdaCallback(on_train_batch_end=lambda batch, logs: kept.append(model.get_weights()))
    files = ModelCheckpoint(tmp_path / "{epoch}-{batch}", save_freq=3)
    model.fit(*data, 10, epochs=2, verbose=0, callbacks=[keep, files])
    assert sorted(os.listdir(tmp_path)) == ["1-3", "2-1", "2-4"]
    for got, want in zip(fusednn.load(tmp_path / "2-1").get_weights(), kept[5], strict=True):
        np.testing.assert_array_equal(got, want)


def test_errors_of_model_checkpoint(data, tmp_path):
    with pytest.raises(ValueError, match="save_freq must be 'epoch' or a number"):
        ModelCheckpoint("x", save_freq="step")
    with pytest.raises(ValueError, match="at least 1"):
        ModelCheckpoint("x", save_freq=0)
    with pytest.raises(ValueError, match=r"cannot be filled in: 'val_loss'; known: epoch, loss"):
        make().fit(*data, verbose=0, callbacks=[ModelCheckpoint(tmp_path / "{val_loss}")])
    best = ModelCheckpoint(tmp_path / "x", save_best_only=True)
    with pytest.raises(ValueError, match="ModelCheckpoint: monitor='val_loss' is not in"):
        make().fit(*data, verbose=0, callbacks=[best])


# ---- CSVLogger and Progress ----------------------------------------------------------------------


def test_csv_logger(data, tmp_path):
    path = tmp_path / "log.csv"
    logger = callbacks.CSVLogger(path)
    make().fit(*data, epochs=2, verbose=0, validation_split=0.2, callbacks=[logger])
    lines = path.read_text().splitlines()
    assert lines[0] == "epoch,loss,mae,val_loss,val_mae"
    assert lines[2].startswith("1,")
    with pytest.raises(ValueError, match="separator must be one character"):
        callbacks.CSVLogger(path, separator="--")
    add = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(late=1.0) if epoch else None)
    make().fit(*data, epochs=2, verbose=0, callbacks=[add, callbacks.CSVLogger(path)])
    assert "late" not in path.read_text()


def test_progress_as_a_callback(data, capsys, tmp_path):
    with open(tmp_path / "log", "w") as file:
        show = callbacks.Progress(2, file)
        make().fit(*data, epochs=2, callbacks=[show])
    assert capsys.readouterr().out == ""
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="verbose must be"):
        callbacks.Progress(3)
