"""Worker processes of this machine: one thread each, gone when their parent is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection

__all__ = ["local_processes"]


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
