# SPDX-License-Identifier: Apache-2.0
"""Small networks that one block of a CUDA device runs: the same bits as by ordinary launches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fusednn

try:
    from fusednn import _cuda
except ImportError:
    pytest.skip("no CUDA backend", allow_module_level=True)
if _cuda.problem():
    pytest.skip(_cuda.problem(), allow_module_level=True)


@pytest.fixture(autouse=True)
def allowed_again():
    yield
    _cuda.allow_resident(True)


def trained(resident, width=24, precision="float32", rows=150, batch_size=32, **fit):
    _cuda.allow_resident(resident)
    before = _cuda.recordings()["residents"]
    model = fusednn.Sequential(
        [
            fusednn.layers.Dense(width, activation="gelu"),
            fusednn.layers.Dropout(0.2),
            fusednn.layers.Dense(3),
        ],
        input_shape=(7,),
        seed=4,
    )
    model.compile(
        fusednn.optimizers.AdamW(fusednn.schedules.CosineDecay(1e-2, 40)),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        device="cuda",
        precision=precision,
    )
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 7)).astype(np.float32)
    y = (x[:, :3].argmax(axis=1)).astype(np.int32)
    history = model.fit(
        x, y, epochs=4, batch_size=batch_size, validation_data=(x, y), verbose=0, **fit
    )
    lists = _cuda.recordings()["residents"] - before
    return model.get_weights(), history.history, lists


def test_a_fit_gives_the_same_bits():
    launched, resident = trained(False), trained(True)
    assert launched[2] == 0
    assert resident[2] >= 2  # whole batches and the tail of training
    for a, b in zip(launched[0], resident[0], strict=True):
        np.testing.assert_array_equal(a, b)
    assert launched[1] == resident[1]
    assert resident[1]["accuracy"][-1] > 0.6


def test_a_callback_sees_each_step():
    seen = []

    class Look(fusednn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(self.model.get_weights()[0].copy())

    with_callback = trained(True, callbacks=[Look()])
    without = trained(True)
    assert len(seen) == 4 * 5
    assert all((a != b).any() for a, b in itertools.pairwise(seen))
    for a, b in zip(with_callback[0], without[0], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "how", [{"width": 600}, {"precision": "float64"}, {"precision": "bfloat16"}]
)
def test_what_a_block_cannot_do_well_is_launched(how):
    assert trained(True, **how)[2] == 0


def test_lists_are_forgotten_with_their_model():
    before = _cuda.recordings()["residents"]
    trained(True)
    assert _cuda.recordings()["residents"] == before
