# SPDX-License-Identifier: Apache-2.0
"""Event files, read back by a parser of this file's own and, where it is installed, TensorBoard."""

import os
import struct

import numpy as np
import pytest

import fusednn
from fusednn import layers
from fusednn.callbacks import TensorBoard
from fusednn.callbacks.events import EventWriter, histogram, masked_crc, scalar

# ---- an independent reader -----------------------------------------------------------------------


def crc32c(data):
    """CRC-32C bit by bit: the remainder of a division by the reversed polynomial."""
    remainder = 0xFFFFFFFF
    for bit in (byte >> i & 1 for byte in data for i in range(8)):
        divide = (remainder ^ bit) & 1
        remainder = remainder >> 1 ^ (0x82F63B78 if divide else 0)
    return remainder ^ 0xFFFFFFFF


def fields(data):
    """Yield number and value of every field of a protocol buffer."""

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    place = 0
    while place < len(data):
        key = varint()
        number, kind = key >> 3, key & 7
        if kind == 0:
            value = varint()
        else:
            size = {1: 8, 5: 4}.get(kind) or varint()
            value = data[place : place + size]
            place += size
        yield number, value


def read(folder):
    """Return {tag: [(step, value)]} of all files in a folder; a histogram is a dict."""
    found = {}
    for name in sorted(os.listdir(folder)):
        assert name.startswith("events.out.tfevents.")
        with open(os.path.join(folder, name), "rb") as file:
            data = file.read()
        versions = 0
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            for piece, crc in (
                (data[:8], data[8:12]),
                (data[12 : 12 + size], data[12 + size :][:4]),
            ):
                plain = crc32c(piece)
                masked = ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF
                assert struct.unpack("<I", crc)[0] == masked
            event = dict(fields(data[12 : 12 + size]))
            data = data[16 + size :]
            versions += event.get(3) == b"brain.Event:2"
            for _, value in fields(event.get(5, b"")):
                parts = dict(fields(value))
                if 2 in parts:
                    (content,) = struct.unpack("<f", parts[2])
                else:
                    content = dict(fields(parts[5]))
                found.setdefault(parts[1].decode(), []).append((event.get(2, 0), content))
        assert versions == 1
    return found


def test_checksum():
    assert crc32c(b"123456789") == 0xE3069283  # the standard's check value
    for data in (b"", b"123456789", bytes(range(256))):
        plain = crc32c(data)
        assert masked_crc(data) == ((plain >> 15 | plain << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- the callback --------------------------------------------------------------------------------


@pytest.fixture
def trained(rng, tmp_path):
    x = rng.normal(size=(40, 3))
    model = fusednn.Sequential(
        [layers.Dense(4, name="hidden"), layers.Dense(1, name="out")], seed=0, input_shape=(3,)
    )
    model.compile(fusednn.optimizers.SGD(0.01), "mse", metrics=["mae"])
    board = TensorBoard(tmp_path, histogram_freq=2, update_freq=2, write_steps_per_second=True)
    history = model.fit(
        x, x.sum(axis=1), 10, epochs=3, verbose=0, validation_split=0.25, callbacks=[board]
    )
    return model, history.history, tmp_path


def test_what_is_written(trained):
    model, history, folder = trained
    train, validation = read(folder / "train"), read(folder / "validation")
    for name in ("loss", "mae"):
        for found, key in ((train, name), (validation, f"val_{name}")):
            steps, values = zip(*found[f"epoch_{name}"], strict=True)
            assert steps == (0, 1, 2)
            np.testing.assert_allclose(values, history[key], rtol=1e-6)
    assert [step for step, _ in train["batch_loss"]] == [0, 2, 4, 6, 8]
    assert [step for step, _ in validation["evaluation_loss_vs_iterations"]] == [3, 6, 9]
    np.testing.assert_allclose([v for _, v in train["epoch_learning_rate"]], 0.01, rtol=1e-6)
    assert all(value > 0 for _, value in train["epoch_steps_per_second"])
    steps = [step for step, _ in train["hidden/kernel/histogram"]]
    assert steps == [0, 2]
    last = train["hidden/kernel/histogram"][-1][1]
    kernel = model.get_weights()[0].astype(np.float64)
    numbers = [struct.unpack("<d", last[field])[0] for field in range(1, 6)]
    want = [kernel.min(), kernel.max(), 12, kernel.sum(), (kernel**2).sum()]
    np.testing.assert_allclose(numbers, want)
    assert len(last[6]) == len(last[7])
    assert np.frombuffer(last[7]).sum() == 12


def test_tensorboard_reads_it(trained):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", exc_type=ImportError
    )
    _, history, folder = trained
    seen = accumulators.EventAccumulator(str(folder / "train"))
    seen.Reload()
    tags = seen.Tags()
    assert {"epoch_loss", "epoch_mae", "batch_loss", "epoch_learning_rate"} <= set(tags["scalars"])
    assert "out/bias/histogram" in tags["histograms"]
    values = [event.value for event in seen.Scalars("epoch_loss")]
    np.testing.assert_allclose(values, history["loss"], rtol=1e-6)
    assert seen.Histograms("hidden/kernel/histogram")[0].histogram_value.num == 12


def test_odd_values(tmp_path):
    writer = EventWriter(tmp_path)
    odd = np.array([np.nan, np.inf])
    writer.write(2**40, scalar("größe", float("nan")), histogram("none", odd))
    writer.close()
    found = read(tmp_path)
    assert found["größe"][0][0] == 2**40
    assert np.isnan(found["größe"][0][1])
    assert struct.unpack("<d", found["none"][0][1][3])[0] == 1


def test_arguments():
    with pytest.raises(ValueError, match="update_freq must be 'epoch', 'batch'"):
        TensorBoard(update_freq="step")
    with pytest.raises(ValueError, match="at least 0"):
        TensorBoard(histogram_freq=-1)
    assert TensorBoard(update_freq="batch").update_freq == 1
