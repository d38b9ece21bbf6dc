# SPDX-License-Identifier: Apache-2.0
"""One thread per model, where several models are trained at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from joblib.parallel import get_active_backend

_leaders: list[int] = []  # threads that have handed models out to others
_lock = threading.Lock()


@contextlib.contextmanager
def one_thread_per_model() -> Iterator[None]:
    """Let models that are trained in other threads than the present one use a single one each.

    A task per model keeps all processors busy without a word between them, which a team of threads
    per model does not.
    """
    me = threading.get_ident()
    with _lock:
        _leaders.append(me)
    try:
        yield
    finally:
        with _lock:
            _leaders.remove(me)


def thread_limit() -> int:
    """Return the most threads that a model trained in this thread may use, 0 for no limit.

    The processes of joblib and dask limit themselves, by a variable that is obeyed when the library
    is loaded; threads of joblib's cannot.
    """
    if _leaders and threading.get_ident() not in _leaders:
        return 1
    helps = threading.current_thread() is not threading.main_thread()
    return 1 if helps and get_active_backend()[0].nesting_level else 0
