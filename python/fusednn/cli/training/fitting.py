# SPDX-License-Identifier: Apache-2.0
"""Training one network, or the best of several, on a table that was split and prepared."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

import fusednn
from fusednn.callbacks import Callback, EarlyStopping, ReduceLROnPlateau
from fusednn.cli.training.progress import EndOnNaN, EpochLine
from fusednn.cli.training.settings import Settings, random_settings
from fusednn.data import Classes, Preprocessor, Split, Table
from fusednn.data.targets import Target
from fusednn.models import Sequential


@dataclass(frozen=True)
class Parts:
    """A table split in three, and what the preprocessor makes of each part."""

    preprocessor: Preprocessor
    target: Target
    tables: tuple[Table, Table, Table]
    x: tuple[np.ndarray, np.ndarray, np.ndarray]
    y: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def make(cls, table: Table, places: Split, preprocessor: Preprocessor, target: Target) -> Parts:
        """Split a table, and let the preprocessor learn from the training rows alone.

        The target is that of the whole table, so that a rare class may be in any part.
        """
        train, valid, test = (table.take(rows) for rows in places)
        preprocessor.fit(train, target)
        x, y = preprocessor.transform, preprocessor.transform_target
        return cls(
            preprocessor,
            target,
            (train, valid, test),
            (x(train), x(valid), x(test)),
            (y(train), y(valid), y(test)),
        )


@dataclass
class Trial:
    """A training: its settings, its course, its best validation loss."""

    settings: Settings
    model: Sequential
    history: dict[str, list[float]]
    best_epoch: int
    best: float
    seconds: float
    interrupted: bool = False


@dataclass
class Search:
    """All trainings; the best is the one that is kept."""

    trials: list[Trial] = field(default_factory=list)
    interrupted: bool = False

    @property
    def best(self) -> Trial:
        return min(self.trials, key=lambda trial: trial.best)


def build(settings: Settings, parts: Parts, device: str, seed: int) -> Sequential:
    """Return a compiled network."""
    layers = fusednn.layers
    target = parts.target
    stack: list[fusednn.layers.Layer] = []
    for units in settings.hidden:
        stack.append(layers.Dense(units, activation=settings.activation))
        if settings.dropout:
            stack.append(layers.Dropout(settings.dropout))
    heads = {"binary": "sigmoid", "multiclass": "softmax", "regression": None}
    stack.append(layers.Dense(target.outputs, activation=heads[target.task]))
    model = Sequential(stack, input_shape=(parts.x[0].shape[1],), seed=seed)
    losses = {
        "binary": "binary_crossentropy",
        "multiclass": "sparse_categorical_crossentropy",
        "regression": "mse",
    }
    model.compile(
        fusednn.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay),
        losses[target.task],
        device=device,
        seed=seed,
    )
    return model


def train(settings: Settings, parts: Parts, *, device: str, seed: int, title: str | None) -> Trial:
    """Train one network; after Ctrl-C it has the weights of the best epoch so far.

    Parameters
    ----------
    title : str, optional
        In front of the line that shows the progress; None shows nothing.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C before the first epoch was finished.
    FloatingPointError
        The loss is not finite from the first epoch on.
    """
    model = build(settings, parts, device, seed)
    stop = EarlyStopping(patience=settings.patience, restore_best_weights=True)
    slower = ReduceLROnPlateau(patience=max(settings.patience // 3, 2), factor=0.3)
    line = None if title is None else EpochLine(title)
    callbacks: list[Callback] = [stop, slower, EndOnNaN(), *([line] if line else [])]
    balanced = settings.balanced and isinstance(parts.target, Classes)
    interrupted = False
    start = time.perf_counter()
    try:
        model.fit(
            parts.x[0],
            parts.y[0],
            batch_size=settings.batch_size,
            epochs=settings.epochs,
            validation_data=(parts.x[1], parts.y[1]),
            class_weight="balanced" if balanced else None,
            callbacks=callbacks,
            verbose=0,
        )
    except KeyboardInterrupt:
        if stop.best is None:
            raise
        stop.on_train_end()  # gives the model its best weights
        interrupted = True
    finally:
        if line:
            line.close()
    seconds = time.perf_counter() - start
    if stop.best is None:
        raise FloatingPointError("the loss is not finite")
    assert model.history is not None  # fit made it
    history = {name: [float(v) for v in values] for name, values in model.history.history.items()}
    return Trial(
        settings, model, history, stop.best_epoch + 1, float(stop.best), seconds, interrupted
    )


def search(
    settings: Settings, parts: Parts, trials: int, *, device: str, seed: int, show: bool,
    say: Callable[[str], None],
) -> Search:  # fmt: skip
    """Train with the settings given and with others drawn around them; the best loss wins."""
    generator = np.random.default_rng([seed, 7])
    found = Search()
    for number in range(1, trials + 1):
        drawn = settings if number == 1 else random_settings(settings, generator)
        title = "" if trials == 1 else f"trial {number} of {trials}, "
        if trials > 1:
            say(f"trial {number}: {drawn.describe()}")
        try:
            trial = train(drawn, parts, device=device, seed=seed, title=title if show else None)
        except FloatingPointError as error:
            say(f"trial {number}: {error}")
            continue
        except KeyboardInterrupt:
            if not found.trials:
                raise
            found.interrupted = True
            break
        found.trials.append(trial)
        if trial.interrupted:
            found.interrupted = True
            break
    if not found.trials:
        raise FloatingPointError("the loss is not finite; try a smaller --learning-rate")
    return found
