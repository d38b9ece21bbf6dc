# SPDX-License-Identifier: Apache-2.0
"""Weights and models of other libraries.

>>> import numpy as np, fusednn
>>> from sklearn.neural_network import MLPClassifier  # doctest: +SKIP
>>> theirs = MLPClassifier((8,)).fit(x, y)  # doctest: +SKIP
>>> ours = fusednn.importing.from_sklearn(theirs)  # doctest: +SKIP

Keras' weights also come in through ``Model.load_weights``.
"""

from __future__ import annotations

from fusednn.importing.keras_files import from_keras as from_keras
from fusednn.importing.onnx_files import from_onnx as from_onnx
from fusednn.importing.sklearn_models import from_sklearn as from_sklearn
from fusednn.importing.torch_states import load_state_dict as load_state_dict

__all__ = ["from_keras", "from_onnx", "from_sklearn", "load_state_dict"]
