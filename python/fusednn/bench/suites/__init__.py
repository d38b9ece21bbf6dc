# SPDX-License-Identifier: Apache-2.0
"""What is measured: one module for each suite, with ``cases()``, imported when it is wanted."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from fusednn.bench.harness import Case

SUITES = (
    "gemm",
    "activation",
    "loss",
    "optimizer",
    "step",
    "growth",
    "fit",
    "inference",
    "torch",
    "sklearn",
)


def _module(suite: str) -> ModuleType:
    return importlib.import_module(f"fusednn.bench.suites.{suite}")


def cases(suite: str) -> Iterator[Case]:
    """Return the cases of a suite; their arrays are made when they are measured."""
    found: Iterator[Case] = _module(suite).cases()
    return found


def notes(suite: str) -> list[str]:
    """Return what there is to know about a suite on this machine, such as missing data."""
    found: list[str] = getattr(_module(suite), "notes", list)()
    return found
