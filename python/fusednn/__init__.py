# SPDX-License-Identifier: Apache-2.0
"""Trains dense neural networks as fast as the machine allows.

>>> import numpy as np
>>> import fusednn
>>> x = np.random.default_rng(0).normal(size=(256, 8))
>>> y = (x.sum(axis=1) > 0).astype(int)
>>> model = fusednn.Sequential([
...     fusednn.layers.Dense(16, activation="relu"),
...     fusednn.layers.Dense(2),
... ])
>>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"], seed=0)
>>> history = model.fit(x, y, epochs=20, verbose=0)
>>> history.history["accuracy"][-1] > 0.8
True

`import fusednn` loads NumPy and the compiled module, nothing else; what needs other packages is
imported where it is used.
"""

from __future__ import annotations

from typing import Any

from fusednn import activations as activations
from fusednn import callbacks as callbacks
from fusednn import constraints as constraints
from fusednn import initializers as initializers
from fusednn import layers as layers
from fusednn import losses as losses
from fusednn import metrics as metrics
from fusednn import models as models
from fusednn import optimizers as optimizers
from fusednn import regularizers as regularizers
from fusednn import schedules as schedules
from fusednn.checkpoints import Checkpoints as Checkpoints
from fusednn.layers import Input as Input
from fusednn.models import Model as Model
from fusednn.models import Sequential as Sequential
from fusednn.random import set_seed as set_seed
from fusednn.saving import load as load

from . import _core as _core

__version__: str = _core.__version__

__all__ = [
    "Checkpoints",
    "Input",
    "Model",
    "Sequential",
    "__version__",
    "activations",
    "callbacks",
    "constraints",
    "get_num_threads",
    "initializers",
    "layers",
    "load",
    "losses",
    "metrics",
    "models",
    "ops",
    "optim",
    "optimizers",
    "regularizers",
    "schedules",
    "set_num_threads",
    "set_seed",
]

# Imported when somebody asks for them.
_LATER = (
    "ops", "optim", "data", "datasets", "importing", "interpreter", "plotting", "sklearn", "torch",
)  # fmt: skip


def set_num_threads(n: int) -> None:
    """Limit the threads that training, prediction and `ops` may use.

    The default respects the processor affinity, container limits and OMP_NUM_THREADS. Results
    are the same bits for any number.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import fusednn
    >>> before = fusednn.get_num_threads()
    >>> fusednn.set_num_threads(1)
    >>> fusednn.get_num_threads()
    1
    >>> fusednn.set_num_threads(before)
    """
    from fusednn.errors import check_integer

    _core.set_num_threads(check_integer("n", n, 1))


def get_num_threads() -> int:
    """Return how many threads are used at most."""
    return _core.num_threads()


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        return importlib.import_module(f"fusednn.{name}")
    raise AttributeError(f"module 'fusednn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
