# SPDX-License-Identifier: Apache-2.0
"""Model and Sequential."""

from __future__ import annotations

from fusednn.functional import Model as Model
from fusednn.sequential import Sequential as Sequential

__all__ = ["Model", "Sequential"]
