# SPDX-License-Identifier: Apache-2.0
"""Several models trained at once, with a thread for each."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sklearn
from joblib.parallel import get_active_backend

_leaders: list[int] = []  # threads that have handed models out to others
_lock = threading.Lock()
_own = threading.local()


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


def watcher() -> Callable[[Any], None] | None:
    """Return what training in this thread must ask now and then, after it has been asked once.

    It raises KeyboardInterrupt when the thread that waits for this one was interrupted: Ctrl-C
    reaches the main thread alone.
    """
    watch = getattr(_own, "watcher", None)
    if watch is not None:
        watch(None)
    return watch


def in_threads(function: Callable[[Any], Any], items: Sequence[Any], workers: int) -> list[Any]:
    """Return what a function makes of each item, in so many threads at once.

    Each thread takes one item after another: to hand every one over, and to be told of it, takes
    time in which no model is trained. What the function raises is raised, and no more items begun.
    """
    settings = sklearn.get_config()
    todo, taking = enumerate(items), threading.Lock()
    made: list[Any] = [None] * len(items)

    def take() -> tuple[int, Any] | None:
        with taking:  # which an iterator needs where threads really run at once
            return next(todo, None)

    interrupted = threading.Event()

    def watch(_: Any) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt

    def work() -> None:
        _own.watcher = watch
        # A new thread knows nothing of the caller's settings of scikit-learn.
        with sklearn.config_context(**settings):
            while taken := take():
                place, item = taken
                made[place] = function(item)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        working = [pool.submit(work) for _ in range(workers)]
        try:
            concurrent.futures.wait(working, return_when=concurrent.futures.FIRST_EXCEPTION)
        except KeyboardInterrupt:
            interrupted.set()
            raise
        finally:
            with taking:
                deque(todo, maxlen=0)  # so that the others stop, too
    for each in working:
        each.result()
    return made
