# SPDX-License-Identifier: Apache-2.0
"""What is measured: one module for each suite, with ``cases()``, imported when it is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from fusednn.bench.harness import Case

SUITES = ("gemm", "activation", "loss", "optimizer", "step", "fit", "inference")


def cases(suite: str) -> Iterator[Case]:
    """Return the cases of a suite."""
    found: Iterator[Case] = importlib.import_module(f"fusednn.bench.suites.{suite}").cases()
    return found
