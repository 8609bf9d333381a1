"""What runs where on this machine: worker processes of one thread, gone when their parent is; one thread for BLAS."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

__all__ = ["local_processes", "one_blas_thread"]


@contextmanager
def local_processes(n: int) -> Iterator[Executor]:
    """Processes that start afresh (forking one that has threads can deadlock), and end when this one ends or hangs up.

    Each has one thread for compiled loops and for BLAS, and holds the end of a pipe that closes with this process,
    however that dies.
    """
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n, context, _begin, (theirs,))
    try:
        yield pool
    finally:  # on the way out of an interrupt, cells half done are not waited for
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


def _begin(line: Connection) -> None:
    """Set up a worker: one thread, ignore SIGINT (the parent handles it), exit when the pipe to the parent closes."""
    from threadpoolctl import threadpool_limits

    os.environ["NUMBA_NUM_THREADS"] = "1"
    threadpool_limits(1)  # for good; NumPy is loaded already, and would not look at variables of the environment
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            line.recv()
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


_blas = ExitStack()
_users = 0
_lock = threading.Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """One thread for matrix products in this process, while anyone is inside.

    Simulations multiply many small matrices, for which more threads cost more than they gain, on busy cores many times
    more; and sums are cut up in the same way everywhere.  Threads may be inside at the same time: the first sets the
    limit, the last lifts it.
    """
    from threadpoolctl import threadpool_limits

    global _users
    with _lock:
        if _users == 0:
            _blas.enter_context(threadpool_limits(1))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _blas.close()
