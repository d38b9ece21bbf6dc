# SPDX-License-Identifier: Apache-2.0
"""Walks a graph node by node on NumPy arrays, where Python has to see or compute what is inside.

The compiled engine fuses nodes and shows only parameters and outputs. Here every node is a call of
`_core`, so the result is the same up to rounding, and slower.
"""

from __future__ import annotations

from fusednn.interpreter.engine import PythonEngine as PythonEngine
from fusednn.interpreter.walk import Tape as Tape
from fusednn.interpreter.walk import Walker as Walker

__all__ = ["PythonEngine", "Tape", "Walker"]
