# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: nothing is lost, and the training ends with the same bits."""

import os
import signal
import subprocess
import sys
import time

import pytest

from fusednn import safetensors, saving

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kill -9")

# Arguments: epochs, folder or nothing, seconds that a step is drawn out by, number of the system
# call on files before which the process kills itself (0: never).
TRAINING = """
import os, signal, sys, time
import numpy as np
import fusednn
from fusednn import callbacks, layers

epochs, folder, pause, fatal = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
rng = np.random.default_rng(0)
x = rng.normal(size=(120, 3))
model = fusednn.Sequential(
    [layers.Dense(8, activation="tanh"), layers.BatchNormalization(), layers.Dropout(0.2),
     layers.Dense(1)],
    input_shape=(3,), seed=1,
)
adam = fusednn.optimizers.Adam(0.01, use_ema=True, gradient_accumulation_steps=2)
model.compile(adam, "mse", metrics=["mae"])
calls = [
    callbacks.ReduceLROnPlateau("val_loss", patience=1, factor=0.7),
    callbacks.EarlyStopping("val_loss", patience=90, restore_best_weights=True),
]
if pause:
    wait = lambda batch, logs: time.sleep(pause)
    calls.append(callbacks.LambdaCallback(on_train_batch_end=wait))
calls_made = 0

def deadly(function):
    def call(*arguments, **named):
        global calls_made
        calls_made += 1
        if calls_made == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

if fatal:
    for name in ("fsync", "replace", "link", "unlink"):
        setattr(os, name, deadly(getattr(os, name)))
resume = None
if folder:
    resume = fusednn.Checkpoints(folder, every_steps=4, keep=2, keep_best="val_loss")
    print("ready", flush=True)
model.fit(
    x, x.sum(axis=1), 8, epochs=epochs, verbose=0, validation_split=0.1, callbacks=calls,
    resume=resume,
)
weights = model.get_weights() + model.get_weights(averaged=True)
print(b"".join(w.tobytes() for w in weights).hex(), repr(model.history.history), sep="\\n")
"""


def start(epochs, folder="", pause=0.0, fatal=0):
    command = [sys.executable, "-c", TRAINING, str(epochs), str(folder), str(pause), str(fatal)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result_of(process):
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""  # no warning: no checkpoint was unreadable
    return out.removeprefix("ready\n")


LONG, SHORT = 60, 6  # epochs


@pytest.fixture(scope="module")
def undisturbed():
    return {epochs: result_of(start(epochs)) for epochs in (LONG, SHORT)}


def assert_readable(folder):
    """Every checkpoint under its final name can be read; what was being written has another."""
    for path in folder.glob("*.safetensors"):
        tensors, metadata = safetensors.read(path)
        saving.check_format(metadata)
        assert tensors


def kill_at_random(folder, rng, kills):
    """Let a training be killed so many times, then end it; return what it prints."""
    for _ in range(kills):
        process = start(LONG, folder, pause=0.002)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert errors == ""
        assert_readable(folder)
    return result_of(start(LONG, folder))


def test_at_random_moments(tmp_path, rng, undisturbed):
    assert kill_at_random(tmp_path, rng, 20) == undisturbed[LONG]


@pytest.mark.slow
def test_at_random_moments_for_long(tmp_path, rng, undisturbed):
    for round_ in range(10):
        assert kill_at_random(tmp_path / str(round_), rng, 25) == undisturbed[LONG]


@pytest.mark.parametrize("fatal", range(1, 15))
def test_in_the_middle_of_writing(tmp_path, fatal, undisturbed):
    """Before each system call of two checkpoints: of the file, its folder, its second name."""
    process = start(SHORT, tmp_path, fatal=fatal + 40)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert_readable(tmp_path)
    assert result_of(start(SHORT, tmp_path)) == undisturbed[SHORT]
    assert not list(tmp_path.glob("*.tmp"))
