# SPDX-License-Identifier: Apache-2.0
"""Inside a PyTorch program compiled steps run on PyTorch's own threads.

PyTorch's operations use an OpenMP runtime, whose threads spin for milliseconds after each of them.
Threads of our own would have to share the processors with those: measured, a training step that
alternates between the two takes twice as long.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from fusednn import _core

_FUNCTIONS = (
    "GOMP_parallel",
    "omp_get_max_threads",
    "omp_get_num_threads",
    "omp_get_thread_num",
    "omp_in_parallel",
)


def borrow() -> bool:
    """Run teams on the runtime that PyTorch is linked with; return whether it has been found."""
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            # Looked up through this library, a name is found in what it is linked with.
            library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / name))
            functions = [getattr(library, function) for function in _FUNCTIONS]
            _core.borrow_threads([ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions])
        except (OSError, AttributeError):
            continue
        return True
    return False
