# SPDX-License-Identifier: Apache-2.0
"""Pictures of trainings and of results. Needs matplotlib, which is imported when one is drawn.

Every function returns a matplotlib Figure and shows nothing by itself: ``figure.savefig(path)``.
"""

from __future__ import annotations

from fusednn.plotting.classification import confusion_matrix as confusion_matrix
from fusednn.plotting.classification import plot_confusion_matrix as plot_confusion_matrix
from fusednn.plotting.classification import plot_roc as plot_roc
from fusednn.plotting.classification import roc_curve as roc_curve
from fusednn.plotting.history import plot_history as plot_history
from fusednn.plotting.statistics import plot_statistics as plot_statistics

__all__ = [
    "confusion_matrix",
    "plot_confusion_matrix",
    "plot_history",
    "plot_roc",
    "plot_statistics",
    "roc_curve",
]
