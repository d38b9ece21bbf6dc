# SPDX-License-Identifier: Apache-2.0
"""Files that callbacks write, and trainings that go on from them."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import fusednn
from fusednn import callbacks, layers, optimizers
from fusednn.callbacks import BackupAndRestore, LambdaCallback, ModelCheckpoint


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


# ---- BackupAndRestore ----------------------------------------------------------------------------


class PowerCut(Exception):
    pass


def cut(epoch=None, batch=None):
    """Return a callback that ends everything at the end of an epoch or of a step."""

    def at_epoch(now, logs):
        if now == epoch and batch is None:
            raise PowerCut

    def at_batch(now, logs):
        if batch is not None and watch.epoch == epoch and now == batch:
            raise PowerCut

    class Cut(callbacks.Callback):
        epoch = 0

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_epoch_end(self, epoch, logs=None):
            at_epoch(epoch, logs)

        def on_train_batch_end(self, batch, logs=None):
            at_batch(batch, logs)

    watch = Cut()
    return watch


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(
    ("save_freq", "where"),
    [("epoch", (2, None)), (2, (1, 3)), (3, (2, 4)), (1, (0, 0)), (5, (1, 4))],
)
def test_goes_on_with_the_same_bits(data, tmp_path, save_freq, where, shuffle):
    x, y = data
    arguments = {"batch_size": 8, "epochs": 5, "verbose": 0, "shuffle": shuffle}
    arguments["sample_weight"] = np.linspace(0.5, 1.5, 50)
    whole = make()
    history = whole.fit(x, y, **arguments)

    first = make()
    with pytest.raises(PowerCut):
        first.fit(x, y, callbacks=[BackupAndRestore(tmp_path, save_freq), cut(*where)], **arguments)
    second = make(seed=first.seed)
    backup = BackupAndRestore(tmp_path, save_freq)
    assert backup.path.exists()
    rest = second.fit(x, y, callbacks=[backup], **arguments)
    assert_same(second, whole)
    for name, values in rest.history.items():
        np.testing.assert_allclose(values, history.history[name][-len(values) :], rtol=1e-12)
    assert rest.epoch[-1] == 4
    assert rest.epoch[0] <= where[0] + 1
    assert not backup.path.exists()


def test_the_learning_rate_comes_back(data, tmp_path):
    first = make()
    halve = callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    with pytest.raises(PowerCut):
        first.fit(*data, epochs=9, verbose=0, callbacks=[halve, BackupAndRestore(tmp_path), cut(3)])
    second = make()
    history = second.fit(
        *data, epochs=9, verbose=0, callbacks=[BackupAndRestore(tmp_path), halve]
    ).history
    # The last epoch that was written is the third: epoch 3 was cut after the backup.
    np.testing.assert_allclose(history["learning_rate"][0], 0.001 / 2**5, rtol=1e-6)


def test_backups_of_other_trainings_are_refused(data, tmp_path):
    with pytest.raises(PowerCut):
        make().fit(*data, verbose=0, callbacks=[BackupAndRestore(tmp_path), cut(0)])
    other = make(optimizer="sgd")
    before = other.get_weights()
    with pytest.raises(ValueError, match=r"another optimizer; remove it if the training is to"):
        other.fit(*data, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    wider = fusednn.Sequential([layers.Dense(9), layers.Dense(1)], input_shape=(3,), seed=0)
    wider.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"the model needs \(3, 9\)"):
        wider.fit(*data, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    BackupAndRestore(tmp_path).path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="safetensors"):
        other.fit(*data, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
    for mine, kept in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(mine, kept)
    with pytest.raises(ValueError, match="backup_dir is empty"):
        BackupAndRestore("")


def test_can_keep_the_file(data, tmp_path):
    keep = BackupAndRestore(tmp_path, delete_checkpoint=False)
    make().fit(*data, epochs=2, verbose=0, callbacks=[keep])
    assert keep.path.exists()
    assert make().fit(*data, epochs=2, verbose=0, callbacks=[keep]).epoch == []


KILLED = """
import os, signal, sys
import numpy as np
import fusednn
from fusednn import layers
from fusednn.callbacks import BackupAndRestore, LambdaCallback

def kill(batch, logs):
    global steps
    steps += 1
    if steps == 23:
        os.kill(os.getpid(), signal.SIGKILL)

steps = 0
x = np.random.default_rng(0).normal(size=(80, 3))
model = fusednn.Sequential([layers.Dense(8, activation="tanh"), layers.Dense(1)], seed=1)
model.compile("adam", "mse")
calls = [BackupAndRestore(sys.argv[1], 4)] if sys.argv[1] else []
if sys.argv[2] == "die":
    calls.append(LambdaCallback(on_train_batch_end=kill))
model.fit(x, x.sum(axis=1), 8, epochs=4, verbose=0, callbacks=calls)
print(b"".join(w.tobytes() for w in model.get_weights()).hex())
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_survives_kill(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True
        )

    whole = run("", "live")
    assert run(str(tmp_path), "die").returncode == -signal.SIGKILL
    rest = run(str(tmp_path), "live")
    assert rest.returncode == 0, rest.stderr
    assert rest.stdout == whole.stdout
    assert len(whole.stdout) > 100


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


def test_optimizers_with_memory_go_on(data, tmp_path):
    """Nadam keeps a product of momenta outside of its state tensors."""
    for name in ("Nadam", "SGD"):
        settings = {"momentum": 0.9} if name == "SGD" else {}
        optimizer = getattr(optimizers, name)
        whole = make(optimizer=optimizer(0.01, **settings))
        whole.fit(*data, epochs=4, verbose=0)
        first = make(optimizer=optimizer(0.01, **settings))
        with pytest.raises(PowerCut):
            first.fit(*data, epochs=4, verbose=0, callbacks=[BackupAndRestore(tmp_path), cut(1)])
        second = make(optimizer=optimizer(0.01, **settings))
        second.fit(*data, epochs=4, verbose=0, callbacks=[BackupAndRestore(tmp_path)])
        assert_same(second, whole)
