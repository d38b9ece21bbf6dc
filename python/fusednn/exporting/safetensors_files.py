# SPDX-License-Identifier: Apache-2.0
"""Weights as safetensors files with the names and the orientation that another program expects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fusednn import safetensors
from fusednn.errors import unknown_choice
from fusednn.importing.torch_states import TORCH_NAMES

if TYPE_CHECKING:
    from fusednn.models import Model

LAYOUTS = ("keras", "torch")


def encode(model: Model, layout: str) -> list[bytes]:
    """Return the pieces of the file; see ``Model.export``."""
    if layout not in LAYOUTS:
        raise unknown_choice("layout", layout, LAYOUTS)
    model._use_engine()
    tensors: dict[str, np.ndarray] = {}
    for key, value in model._named_parameters().items():
        if layout == "torch":
            layer, _, name = key.partition("/")
            key = f"{layer}.{TORCH_NAMES[name]}"
            value = value.T if name == "kernel" else value
        tensors[key] = value
    return safetensors.encode(tensors, {"layout": layout})
