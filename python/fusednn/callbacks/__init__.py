# SPDX-License-Identifier: Apache-2.0
"""What `fit` calls between epochs and, where a callback asks for it, between steps.

Names, arguments, hooks, their order and their logs are Keras'.

>>> import fusednn
>>> from fusednn import callbacks
>>> stop = callbacks.EarlyStopping(patience=3, restore_best_weights=True)
>>> slower = callbacks.ReduceLROnPlateau(patience=2, factor=0.5)
"""

from __future__ import annotations

from fusednn.callbacks.base import Callback as Callback
from fusednn.callbacks.base import Logs as Logs
from fusednn.callbacks.calling import CallbackList as CallbackList
from fusednn.callbacks.checkpoints import BackupAndRestore as BackupAndRestore
from fusednn.callbacks.checkpoints import ModelCheckpoint as ModelCheckpoint
from fusednn.callbacks.csv_logger import CSVLogger as CSVLogger
from fusednn.callbacks.display import Progress as Progress
from fusednn.callbacks.history import History as History
from fusednn.callbacks.inspection import LayerStatistics as LayerStatistics
from fusednn.callbacks.inspection import NaNLocator as NaNLocator
from fusednn.callbacks.lambdas import LambdaCallback as LambdaCallback
from fusednn.callbacks.rates import LearningRateScheduler as LearningRateScheduler
from fusednn.callbacks.rates import ReduceLROnPlateau as ReduceLROnPlateau
from fusednn.callbacks.stopping import EarlyStopping as EarlyStopping
from fusednn.callbacks.stopping import TerminateOnNaN as TerminateOnNaN
from fusednn.callbacks.tensorboard import TensorBoard as TensorBoard

__all__ = [
    "BackupAndRestore",
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "History",
    "LambdaCallback",
    "LayerStatistics",
    "LearningRateScheduler",
    "ModelCheckpoint",
    "NaNLocator",
    "Progress",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
