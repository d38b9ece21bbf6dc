# SPDX-License-Identifier: Apache-2.0
"""Trainings that go on where they were, whatever ended them.

A checkpoint is a model file (`fusednn.load` reads it) that also holds where the training stands.
docs/checkpoints.md says what is in it and what is guaranteed.
"""

from __future__ import annotations

from fusednn.checkpoints.settings import Checkpoints as Checkpoints

__all__ = ["Checkpoints"]
