# SPDX-License-Identifier: Apache-2.0
"""How many threads ours and the rivals work with, and which instruction set ours uses."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

import fusednn
from fusednn import _core


def follows(library: str) -> bool:
    """Return whether a library's threads can be changed once it has been imported.

    NumPy and scikit-learn follow through threadpoolctl. jax starts its threads once and for all.
    """
    if library in ("numpy", "sklearn"):
        return importlib.util.find_spec("threadpoolctl") is not None
    return library in ("fusednn", "torch")


@contextlib.contextmanager
def at_work(threads: int, isa: str) -> Iterator[None]:
    """Let every library that is loaded, and follows, work with so many threads."""
    before, chosen = fusednn.get_num_threads(), _core.isa()
    if (threads, isa) == (before, chosen):
        yield
        return
    torch: Any = sys.modules.get("torch")
    with contextlib.ExitStack() as stack:
        stack.callback(fusednn.set_num_threads, before)
        stack.callback(_core.set_isa, chosen)
        fusednn.set_num_threads(threads)
        _core.set_isa(isa)
        if torch is not None:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if importlib.util.find_spec("threadpoolctl") is not None:
            import threadpoolctl

            stack.enter_context(threadpoolctl.threadpool_limits(threads, user_api="blas"))
        yield
