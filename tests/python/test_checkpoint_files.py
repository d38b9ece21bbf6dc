# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as files: which ones stay, disks that are full, trainings that are others."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

import fusednn
from fusednn import Checkpoints, optimizers, safetensors
from fusednn.callbacks import LambdaCallback
from interruptions import Cut, PowerCut, assert_same, make


@pytest.fixture
def data(rng):
    x = rng.normal(size=(50, 3))
    return x, x.sum(axis=1)


# ---- other trainings are refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": lambda x: x + 1e-6}, "x and y: values is"),
        ({"x": lambda x: x[:40]}, "x and y: samples is 40, it was 50"),
        ({"sample_weight": np.ones(50)}, "x and y: weighted is true, it was false"),
        ({"batch_size": 9}, "batch_size is 9, it was 8"),
        ({"shuffle": False}, "shuffle is false, it was true"),
        ({"initial_epoch": 1}, "initial_epoch is 1, it was 0"),
        ({"validation_split": 0.2}, "x and y: samples is 40, it was 50"),
        ({"validation_data": (np.ones((2, 3)), np.ones(2))}, "validation_data is"),
        ({"make": {"seed": 6}}, "seed is 6, it was 5"),
        ({"make": {"units": 9}}, r"model: layers\[1\]: config: units is 9, it was 8"),
        ({"make": {"optimizer": "sgd"}}, "optimizer: class_name is .*, it was"),
        ({"make": {"optimizer": optimizers.Adam(0.01)}}, "learning_rate: value is 0.01, it was"),
        (
            {"make": {"optimizer": optimizers.Adam(beta_1=0.8)}},
            "optimizer: config: beta_1 is 0.8, it was",
        ),
        ({"make": {"precision": "float64"}}, 'precision is "float64", it was "float32"'),
        ({"make": {"convention": "keras"}}, 'convention is "keras", it was "torch"'),
    ],
)
def test_other_trainings_are_refused(data, tmp_path, change, message):
    def train(x=None, make_=None, **arguments):
        model = make(**(make_ or {}))
        before = model.get_weights()
        samples = data[0] if x is None else x(data[0])
        given = {"batch_size": 8, "epochs": 4, "verbose": 0, "resume": tmp_path, **arguments}
        try:
            model.fit(samples, data[1][: len(samples)], **given)
        except ValueError:
            for mine, kept in zip(model.get_weights(), before, strict=True):
                np.testing.assert_array_equal(mine, kept)
            raise

    with pytest.raises(PowerCut):
        train(callbacks=[Cut(epoch=1)])
    change = {"make_" if key == "make" else key: value for key, value in change.items()}
    with pytest.raises(ValueError, match=f"is of another training: {message}"):
        train(**change)
    train()  # it is still there


def generated(data):
    while True:
        yield data


def test_other_batches_are_refused(data, tmp_path):
    with pytest.raises(PowerCut):
        make().fit(generated(data), steps_per_epoch=4, epochs=4, verbose=0, resume=tmp_path,
                   callbacks=[Cut(epoch=2)])  # fmt: skip
    other = (data[0], data[1] + 1)
    for source in (generated(other), iter([data] * 3)):
        with pytest.raises(ValueError, match=r"does not give what|not those that were trained on"):
            make().fit(source, steps_per_epoch=4, epochs=4, verbose=0, resume=tmp_path)


# ---- files and folders ---------------------------------------------------------------------------


def test_rotation_and_the_best(data, tmp_path):
    kept = {}
    keep = LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.update({logs["mae"]: model.get_weights()})
    )
    settings = Checkpoints(tmp_path, keep=2, keep_best="mae")
    model = make(optimizer=optimizers.SGD(0.3))
    model.fit(*data, 25, epochs=7, verbose=0, resume=settings, callbacks=[keep])
    names = sorted(name for name in os.listdir(tmp_path) if name != "lock")
    assert names == [
        "best.safetensors", "checkpoint-0000000012.safetensors", "checkpoint-0000000014.safetensors"
    ]  # fmt: skip
    best = fusednn.load(settings.best)
    for mine, theirs in zip(best.get_weights(), kept[min(kept)], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert_same(fusednn.load(tmp_path / names[-1]), model)
    with pytest.raises(ValueError, match="monitor='nothing' is not in loss, mae"):
        make().fit(*data, verbose=0, resume=Checkpoints(tmp_path / "b", keep_best="nothing"))


def test_the_best_is_the_best_of_all_runs(data, tmp_path):
    """Also where a run dies between a checkpoint and its second name."""
    settings = Checkpoints(tmp_path, keep_best="score", keep=1)
    better = LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(score=min(epoch, 4)))
    calls = {"verbose": 0, "resume": settings}
    with pytest.raises(PowerCut):
        make().fit(*data, 25, epochs=7, callbacks=[better, Cut(epoch=3)], **calls)
    settings.best.unlink()
    make().fit(*data, 25, epochs=3, callbacks=[better], **calls)
    best = settings.best.read_bytes()
    assert best == (tmp_path / "checkpoint-0000000006.safetensors").read_bytes()
    make().fit(*data, 25, epochs=7, callbacks=[better], **calls)
    assert fusednn.load(settings.best).optimizer.iterations == 10


def test_seconds_and_epochs_between_checkpoints(data, tmp_path):
    seen = []
    look = LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(len(os.listdir(tmp_path))))
    make().fit(*data, 50, epochs=6, verbose=0, callbacks=[look],
               resume=Checkpoints(tmp_path, every_epochs=2, keep=9))  # fmt: skip
    assert seen == [2, 2, 3, 3, 4, 4]  # with the file that is locked
    folder = tmp_path / "seconds"
    make().fit(*data, 10, epochs=1, verbose=0,
               resume=Checkpoints(folder, every_seconds=1e-9, keep=9))  # fmt: skip
    assert len(os.listdir(folder)) == 7


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:99] + b"?" + b[100:], lambda b: b""]
)
def test_the_newest_that_can_be_read_counts(data, tmp_path, damage):
    def train(*more):
        model = make()
        model.fit(
            *data, 8, epochs=6, verbose=0, resume=Checkpoints(tmp_path, keep=2), callbacks=more
        )
        return model

    with pytest.raises(PowerCut):
        train(Cut(epoch=3))
    newest = max(tmp_path.glob("*.safetensors"))
    newest.write_bytes(damage(newest.read_bytes()))
    with pytest.warns(UserWarning, match=f"{newest.name}.*; training goes on from checkpoint-"):
        model = train()
    whole = make()
    whole.fit(*data, 8, epochs=6, verbose=0)
    assert_same(model, whole)
    for path in tmp_path.glob("*.safetensors"):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read .*remove them"):
        train()


def fails(monkeypatch, code=errno.ENOSPC):
    """Let no file reach the disk any more."""

    def full(*args):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk(data, tmp_path, monkeypatch):
    def train(on_error, *more):
        model = make()
        model.fit(*data, 8, epochs=5, verbose=0, callbacks=more,
                  resume=Checkpoints(tmp_path, on_error=on_error))  # fmt: skip
        return model

    fill = LambdaCallback(on_epoch_begin=lambda epoch, logs: epoch == 2 and fails(monkeypatch))
    with pytest.raises(
        OSError, match=r"No space left on device.*checkpoint-0000000021.*those that are there stay"
    ) as e:
        train("stop", fill)
    assert e.value.errno == errno.ENOSPC
    names = sorted(os.listdir(tmp_path))
    assert names == [*(f"checkpoint-{n:010d}.safetensors" for n in (0, 7, 14)), "lock"]
    before = {name: (tmp_path / name).read_bytes() for name in names}
    with pytest.warns(RuntimeWarning, match=r"No space left on device.*; training goes on without"):
        model = train("continue")
    assert {name: (tmp_path / name).read_bytes() for name in names} == before
    monkeypatch.undo()
    whole = make()
    whole.fit(*data, 8, epochs=5, verbose=0)
    assert_same(model, whole)
    assert_same(train("stop"), whole)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
def test_a_file_that_must_not_grow(data, tmp_path):
    """The kernel refuses in the middle of a file, as it does on a full disk."""
    import resource
    import signal

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(PowerCut):
            make().fit(*data, epochs=3, verbose=0, resume=tmp_path, callbacks=[Cut(epoch=1)])
        names = sorted(os.listdir(tmp_path))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
        with pytest.raises(OSError, match="File too large"):
            make().fit(*data, epochs=3, verbose=0, resume=tmp_path)
        assert sorted(os.listdir(tmp_path)) == names
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    make().fit(*data, epochs=3, verbose=0, resume=tmp_path)


def test_a_folder_that_cannot_be_made(data, tmp_path):
    (tmp_path / "file").write_text("")
    model = make()
    with pytest.raises(OSError, match=r"no checkpoint can be written to .*run"):
        model.fit(*data, verbose=0, resume=tmp_path / "file" / "run")
    assert model.optimizer.iterations == 0
    with pytest.warns(RuntimeWarning, match="training goes on without"):
        make().fit(
            *data, verbose=0, resume=Checkpoints(tmp_path / "file" / "run", on_error="continue")
        )


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_one_process_at_a_time(data, tmp_path):
    hold = f"""
import fcntl
file = open({str(tmp_path / "lock")!r}, "w")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
input()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(RuntimeError, match=f"another process trains into {tmp_path}"):
        make().fit(*data, verbose=0, resume=tmp_path)
    other.kill()  # a process that dies holds nothing
    other.communicate()
    make().fit(*data, verbose=0, resume=tmp_path)


def test_wrong_arguments(data):
    with pytest.raises(
        TypeError, match=r"resume must be a folder or fusednn.Checkpoints, got True"
    ):
        make().fit(*data, resume=True)
    with pytest.raises(ValueError, match="folder is empty"):
        Checkpoints("")
    with pytest.raises(ValueError, match="on_error='stopp' is unknown; did you mean 'stop'"):
        Checkpoints("x", on_error="stopp")
    with pytest.raises(ValueError, match="keep must be at least 1"):
        Checkpoints("x", keep=0)
    with pytest.raises(ValueError, match="mode='least' is unknown"):
        Checkpoints("x", mode="least")
    with pytest.raises(TypeError, match="keep_best must be a key"):
        Checkpoints("x", keep_best=3)
    with pytest.raises(TypeError, match=r"Checkpoints\(\) has no argument 'every_step'; did you"):
        Checkpoints("x", every_step=3)


def test_files_of_a_later_version(data, tmp_path):
    make().fit(*data, verbose=0, resume=Checkpoints(tmp_path, keep=1))
    path = next(tmp_path.glob("checkpoint-*"))
    tensors, metadata = safetensors.read(path)
    safetensors.write(path, tensors, {**metadata, "format_version": "3"})
    with pytest.raises(ValueError, match=r"checkpoint-.*: its format_version is '3', .* up to 2"):
        make().fit(*data, epochs=2, verbose=0, resume=tmp_path)
