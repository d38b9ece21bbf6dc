# SPDX-License-Identifier: Apache-2.0
"""Trainings that are interrupted, and a model with everything that has to come back."""

import numpy as np
import pytest

import fusednn
from fusednn import Checkpoints, callbacks, layers


def make(seed=5, optimizer="adam", units=8, **compile_):
    model = fusednn.Sequential(
        [
            layers.Dense(units, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(1),
        ],
        input_shape=(3,),
        seed=seed,
    )
    model.compile(optimizer, "mse", metrics=["mae"], **compile_)
    return model


def assert_same(one, other):
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


class PowerCut(Exception):
    pass


class Cut(callbacks.Callback):
    """Ends everything after so many steps, or at the end of an epoch."""

    def __init__(self, steps=None, epoch=None):
        self.left, self.epoch = steps, epoch

    def wants_steps(self, phase):
        return phase == "train" and self.left is not None

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise PowerCut

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            raise PowerCut


def assert_goes_on(train, cut, folder, **settings):
    """Compare an interrupted training with one that is not; both without and with checkpoints."""
    whole, history = train(resume=None, callbacks=[])
    with pytest.raises(PowerCut):
        train(resume=Checkpoints(folder, **settings), callbacks=[cut])
    model, rest = train(resume=Checkpoints(folder, **settings), callbacks=[])
    assert_same(model, whole)
    assert rest.history == history.history
    assert rest.epoch == history.epoch
    assert model.optimizer.get_config() == whole.optimizer.get_config()
    return model, whole
