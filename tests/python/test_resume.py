# SPDX-License-Identifier: Apache-2.0
"""Trainings that were interrupted and go on: every bit is as if nothing had happened."""

import os

import numpy as np
import pytest

import fusednn
from fusednn import Checkpoints, callbacks, layers, optimizers
from fusednn.callbacks import BackupAndRestore
from interruptions import Cut, PowerCut, assert_goes_on, assert_same, make


@pytest.fixture
def data(rng):
    x = rng.normal(size=(50, 3))
    return x, x.sum(axis=1)


# ---- the same bits -------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("every", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("steps", [1, 6, 10, 14, 29])
def test_goes_on_with_the_same_bits(data, tmp_path, every, steps, shuffle):
    def train(resume, callbacks):
        model = make()
        history = model.fit(
            *data, 8, epochs=5, verbose=0, shuffle=shuffle, resume=resume, callbacks=callbacks,
            sample_weight=np.linspace(0.5, 1.5, 50), validation_split=0.1,
        )  # fmt: skip
        return model, history

    assert_goes_on(train, Cut(steps), tmp_path, every_steps=every)


OPTIMIZERS = [
    lambda: optimizers.Nadam(0.01, use_ema=True),
    lambda: optimizers.SGD(0.01, momentum=0.9, gradient_accumulation_steps=3),
    lambda: optimizers.Adam(0.01, gradient_accumulation_steps=4, use_ema=True, clipnorm=1.0),
    lambda: optimizers.AdamW(fusednn.schedules.CosineDecay(0.01, 25), l1=0.01),
    lambda: optimizers.Adadelta(),
    lambda: optimizers.Lamb(fusednn.schedules.ExponentialDecay(0.01, 5, 0.5)),
]


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("place", range(len(OPTIMIZERS)))
def test_all_of_the_optimizer_comes_back(data, tmp_path, place, precision):
    """Also what is collected of an update, and beyond the end of an epoch."""

    def train(resume, callbacks):
        model = make(optimizer=OPTIMIZERS[place](), precision=precision)
        return model, model.fit(*data, 8, epochs=4, verbose=0, resume=resume, callbacks=callbacks)

    model, whole = assert_goes_on(train, Cut(17), tmp_path, every_steps=5)
    if model.optimizer.get_config()["use_ema"]:
        pairs = zip(*(m.get_weights(averaged=True) for m in (model, whole)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)


def test_counts_of_metrics_go_on(rng, tmp_path):
    x, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)

    def train(resume, callbacks):
        model = fusednn.Sequential([layers.Dense(1)], input_shape=(3,), seed=1)
        model.compile("adam", "binary_crossentropy", metrics=["auc", "precision", "accuracy"])
        history = model.fit(x, y, 7, epochs=3, verbose=0, resume=resume, callbacks=callbacks)
        return model, history

    assert_goes_on(train, Cut(13), tmp_path, every_steps=2)


class Noisy:
    """Gives other batches in every pass."""

    def __init__(self, data):
        self.rng = np.random.default_rng(3)
        self.data = data

    def __iter__(self):
        x, y = self.data
        for _ in range(6):
            rows = self.rng.integers(0, len(x), 9)
            yield x[rows], y[rows]


def generated(data):
    source = Noisy(data)
    while True:
        yield from source


class Sequence:
    def __init__(self, data):
        self.data, self.passes = data, 0

    def __len__(self):
        return 5

    def __getitem__(self, place):
        if place >= 5:
            raise IndexError
        x, y = self.data
        return x[place::5] + self.passes, y[place::5]

    def on_epoch_end(self):
        self.passes += 1


class KeepsPlace(Noisy):
    """Like torchdata's StatefulDataLoader."""

    drawn = 0
    at = 0

    def __iter__(self):
        x, y = self.data
        while self.at < 6:
            rows = self.rng.integers(0, len(x), 9)
            self.at += 1
            self.drawn += 1
            yield x[rows], y[rows]
        self.at = 0

    def state_dict(self):
        return {"at": self.at, "rng": self.rng.bit_generator.state}

    def load_state_dict(self, state):
        self.at, self.rng.bit_generator.state = state["at"], state["rng"]


@pytest.mark.parametrize("every", [None, 1, 4])
@pytest.mark.parametrize(
    ("source", "steps"),
    [(Noisy, None), (Noisy, 4), (generated, 4), (Sequence, None), (Sequence, 3),
     (KeepsPlace, None), (KeepsPlace, 4)],
)  # fmt: skip
def test_data_that_come_in_batches(data, tmp_path, source, steps, every):
    def train(resume, callbacks):
        model = make()
        history = model.fit(
            source(data), epochs=5, verbose=0, steps_per_epoch=steps, resume=resume,
            callbacks=callbacks, validation_data=source(data), validation_steps=2,
        )  # fmt: skip
        return model, history

    assert_goes_on(train, Cut(13), tmp_path, every_steps=every)


def test_a_source_that_keeps_its_place_is_not_drawn_again(data, tmp_path):
    source = KeepsPlace(data)
    with pytest.raises(PowerCut):
        make().fit(source, epochs=5, verbose=0, callbacks=[Cut(epoch=3)], resume=tmp_path)
    source = KeepsPlace(data)
    make().fit(source, epochs=5, verbose=0, resume=tmp_path)
    assert source.drawn <= 2 * 6 + 1  # two epochs, and the look at the first batch


@pytest.mark.parametrize("every", [None, 1, 4])
@pytest.mark.parametrize("steps", [None, 4, 9])
def test_files_larger_than_memory(data, tmp_path, steps, every):
    x = np.memmap(tmp_path / "x", np.float64, "w+", shape=(50, 3))  # becomes float32
    x[:] = data[0]

    def train(resume, callbacks):
        model = make()
        history = model.fit(
            x, data[1], 8, epochs=5, verbose=0, steps_per_epoch=steps, resume=resume,
            callbacks=callbacks, validation_split=0.2,
        )  # fmt: skip
        return model, history

    assert_goes_on(train, Cut(13), tmp_path / "run", every_steps=every)


def test_a_seed_that_nobody_chose_is_taken_over(data, tmp_path):
    arguments = {"batch_size": 8, "epochs": 4, "verbose": 0}
    with pytest.raises(PowerCut):
        make(seed=None).fit(*data, **arguments, resume=tmp_path, callbacks=[Cut(epoch=1)])
    model = make(seed=None)
    model.fit(*data, **arguments, resume=tmp_path)
    whole = make(seed=model.seed)
    whole.fit(*data, **arguments)
    assert_same(model, whole)


def test_the_same_model_goes_on(data, tmp_path):
    model = make()
    with pytest.raises(PowerCut):
        model.fit(*data, 8, epochs=4, verbose=0, resume=tmp_path, callbacks=[Cut(epoch=2)])
    history = model.fit(*data, 8, epochs=6, verbose=0, resume=tmp_path)
    whole = make()
    assert whole.fit(*data, 8, epochs=6, verbose=0).history == history.history
    assert_same(model, whole)


def test_a_training_that_is_over_stays_as_it_is(data, tmp_path):
    model = make()
    model.fit(*data, 8, epochs=3, verbose=0, resume=tmp_path)
    again = make()
    assert again.fit(*data, 8, epochs=3, verbose=0, resume=tmp_path).epoch == [0, 1, 2]
    assert_same(model, again)


# ---- callbacks -----------------------------------------------------------------------------------


def every_callback(folder):
    return [
        callbacks.EarlyStopping("loss", patience=2, min_delta=0.01, restore_best_weights=True),
        callbacks.ReduceLROnPlateau("val_loss", patience=1, cooldown=1, factor=0.5),
        callbacks.ModelCheckpoint(folder / "best", "mae", save_best_only=True),
        callbacks.ModelCheckpoint(folder / "{epoch}-{batch}", save_freq=4),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.LayerStatistics(np.ones((2, 3)), np.ones(2)),
        callbacks.NaNLocator(),
    ]


@pytest.mark.parametrize("every", [None, 3])
@pytest.mark.parametrize("cut", [5, 13, 20, 29])
def test_callbacks_remember(data, tmp_path, cut, every):
    def train(name, resume, more):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        model, given = make(optimizer="rmsprop"), every_callback(folder)
        model.fit(
            *data, 8, epochs=30, verbose=0, validation_split=0.2, resume=resume,
            callbacks=[*given, *more],
        )  # fmt: skip
        return model, given

    whole, theirs = train("whole", None, [])
    with pytest.raises(PowerCut):
        train("cut", Checkpoints(tmp_path / "run", every_steps=every), [Cut(cut)])
    model, ours = train("cut", Checkpoints(tmp_path / "run", every_steps=every), [])
    assert_same(model, whole)
    assert model.history.history == whole.history.history
    assert theirs[0].stopped_epoch > 0  # so that ending early is part of it
    for mine, other in zip(ours, theirs, strict=True):
        assert repr(mine.get_state()) == repr(other.get_state())
    files = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "cut").iterdir()} == files


@pytest.mark.parametrize("every", [None, 2])
def test_what_is_done_when_an_epoch_begins_is_done_once(data, tmp_path, every):
    def train(resume, callbacks):
        model = make()
        halve = fusednn.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
        return model, model.fit(
            *data, 8, epochs=5, verbose=0, resume=resume, callbacks=[halve, *callbacks]
        )

    assert_goes_on(train, Cut(17), tmp_path, every_steps=every)


def test_callbacks_of_ones_own(data, tmp_path):
    class Counts(callbacks.Callback):
        seen = 0

        def on_epoch_end(self, epoch, logs=None):
            self.seen += 1

        def get_state(self):
            return {"seen": self.seen, "nested": [np.float32(1), {"a": np.ones(2)}, None]}

        def set_state(self, state):
            self.seen = state["seen"]
            np.testing.assert_array_equal(state["nested"][1]["a"], np.ones(2))

    with pytest.raises(PowerCut):
        make().fit(*data, epochs=5, verbose=0, resume=tmp_path, callbacks=[Counts(), Cut(epoch=2)])
    counts = Counts()
    make().fit(*data, epochs=5, verbose=0, resume=tmp_path, callbacks=[counts])
    assert counts.seen == 5
    with pytest.raises(ValueError, match="state were Counts, History, now they are History"):
        make().fit(*data, epochs=5, verbose=0, resume=tmp_path)

    class Cannot(callbacks.Callback):
        def get_state(self):
            return {"function": print}

    with pytest.raises(TypeError, match="builtin_function_or_method cannot be written"):
        make().fit(*data, verbose=0, resume=tmp_path / "new", callbacks=[Cannot()])


def test_a_training_that_was_ended_early_stays_ended(data, tmp_path):
    def stop():
        return callbacks.EarlyStopping("loss", min_delta=10, restore_best_weights=True)

    model = make()
    model.fit(*data, epochs=9, verbose=0, resume=tmp_path, callbacks=[stop()])
    again = make()
    history = again.fit(*data, epochs=9, verbose=0, resume=tmp_path, callbacks=[stop()])
    assert history.epoch == [0, 1]
    assert_same(model, again)


# ---- BackupAndRestore ----------------------------------------------------------------------------


@pytest.mark.parametrize("save_freq", ["epoch", 3])
def test_backup_and_restore(data, tmp_path, save_freq):
    def train(*more):
        model = make()
        backup = BackupAndRestore(tmp_path, save_freq)
        return model, model.fit(*data, 8, epochs=5, verbose=0, callbacks=[backup, *more])

    whole = make()
    whole.fit(*data, 8, epochs=5, verbose=0)
    with pytest.raises(PowerCut):
        train(Cut(17))
    assert os.listdir(tmp_path)
    model, history = train()
    assert_same(model, whole)
    assert history.epoch == [0, 1, 2, 3, 4]
    assert os.listdir(tmp_path) == []
    keep = BackupAndRestore(tmp_path, delete_checkpoint=False)
    make().fit(*data, epochs=2, verbose=0, callbacks=[keep])
    assert os.listdir(tmp_path)
    sklearn = pytest.importorskip("sklearn") and fusednn.sklearn
    with pytest.raises(TypeError, match=r"BackupAndRestore is for Model.fit"):
        sklearn.MLPRegressor(callbacks=[keep]).fit(*data)
    with pytest.raises(ValueError, match="backup_dir is empty"):
        BackupAndRestore("")
    with pytest.raises(ValueError, match="give resume or one BackupAndRestore"):
        make().fit(*data, verbose=0, callbacks=[keep], resume=tmp_path)


# ---- what the engine is told ---------------------------------------------------------------------


def test_the_engine_refuses_what_does_not_fit(data):
    model = make(optimizer=optimizers.SGD(gradient_accumulation_steps=3))
    x, y = (a.astype(np.float32).reshape(50, -1) for a in data)
    report = model._engine.train([x], [y], batch_size=10)
    again = model._engine.evaluate([x], [y], begun=report)
    assert (again["rows"], again["steps"]) == (100, 7)
    assert again["losses"][0] > report["losses"][0]
    with pytest.raises(ValueError, match="begun: is the report of a network with other losses"):
        model._engine.train([x], [y], begun={**report, "losses": [1.0, 2.0]})
    with pytest.raises(ValueError, match=r"collected=3 is not in \[0, 3\), the steps of an update"):
        model._engine.collected = 3
    model.compile("sgd", "mse")
    assert not any(array.any() for array in model._engine.collected_gradients())
    assert make()._engine.collected_gradients() is None
