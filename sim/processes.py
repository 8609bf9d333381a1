"""Jobs on worker processes: one core each, finished ones kept in a journal, and no process left when work stops.

Workers start afresh: forking a process that has threads (numba, BLAS) can deadlock.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, TypeVar

from quenched.numerics.problem.checks import integer
from quenched.sim.journal import Journal

__all__ = ["Work", "local_processes", "one_blas_thread"]

T = TypeVar("T")
_THREADS = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Work:
    """How jobs are done: on so many `processes`, with `progress` called with the fraction done, kept in `journal`.

    A script that asks for more than one process must start its work under ``if __name__ == "__main__"``.

    With `beside`, jobs of a card run on so many threads of this process instead: cards take turns between processes,
    but run the kernels of threads side by side.  Each thread calls it first (`Backend.beside`).
    """

    processes: int = 1
    progress: Callable[[float], None] | None = None
    journal: Journal | None = None
    beside: Callable[[], None] | None = None

    def map(self, function: Callable[..., T], jobs: Sequence[tuple[Any, ...]]) -> list[T]:
        """[function(*job) for job in jobs]; the first failure ends it.  What the journal has is not computed again."""
        results: dict[int, T] = {}
        keys = [None if self.journal is None else self.journal.key(function, job) for job in jobs]
        for i, key in enumerate(keys):
            if self.journal is not None and key is not None and (found := self.journal.read(key)):
                results[i] = found[0]
        todo = [i for i in range(len(jobs)) if i not in results]
        if results:
            self.report(len(results) / len(jobs))

        def done(i: int, value: T) -> None:
            results[i] = value
            key = keys[i]
            if self.journal is not None and key is not None:
                self.journal.write(key, value)
            self.report(len(results) / len(jobs))

        if integer("processes", self.processes, at_least=1) == 1:
            for i in todo:
                with one_blas_thread():  # as in a worker: sums are cut up in the same way
                    value = function(*jobs[i])
                done(i, value)
        elif todo:
            number = min(self.processes, len(todo))
            with local_processes(number) if self.beside is None else _threads(number, self.beside) as pool:
                futures = {pool.submit(_one_core, function, jobs[i]): i for i in todo}
                for future in as_completed(futures):
                    done(futures[future], future.result())
        return [results[i] for i in range(len(jobs))]

    def once(self, function: Callable[..., T], *arguments: Any) -> T:
        """function(*arguments), here, kept in the journal."""
        return replace(self, processes=1).map(function, [arguments])[0]

    def each(self, function: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
        """As `map(function, items)`."""
        return self.map(function, [(item,) for item in items])

    def report(self, fraction: float) -> None:
        """Say how much is done."""
        if self.progress is not None:
            self.progress(fraction)

    def part(self, first: float, last: float) -> Work:
        """The work that is done between two fractions of this."""
        return replace(self, progress=lambda fraction: self.report(first + (last - first) * fraction))


@contextmanager
def local_processes(n: int) -> Iterator[Executor]:
    """`n` processes that each use one core, and that end when this one ends, however it does.

    When the block is left by an exception (a failed job, Ctrl-C) jobs that are running are ended too.
    """
    context = _Spawn()
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(n, context, _begin, (theirs,))
    try:
        yield pool
    except BaseException:
        for worker in context.workers:
            if worker.pid is not None:
                worker.terminate()
        raise
    finally:
        ours.close()
        pool.shutdown(cancel_futures=True)
        theirs.close()


@contextmanager
def _threads(n: int, begin: Callable[[], None]) -> Iterator[Executor]:
    """`n` threads; jobs that have not begun are given up when the block is left by an exception."""
    pool = ThreadPoolExecutor(n, initializer=begin)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker(SpawnProcess):
    """A process that Ctrl-C does not reach, from its first moment on: the parent decides."""

    def start(self) -> None:
        """The mask of blocked signals is inherited; a signal that comes meanwhile reaches the parent afterwards."""
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            return super().start()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Spawn(SpawnContext):
    """A context that knows the processes it made."""

    def __init__(self) -> None:
        super().__init__()
        self.workers: list[_Worker] = []

    def Process(self, *args: Any, **options: Any) -> _Worker:  # type: ignore[override]
        """A new process of this context."""
        worker = _Worker(*args, **options)
        self.workers.append(worker)
        return worker


def _begin(line: Connection) -> None:
    """Set up a worker: one thread, no reaction to Ctrl-C, exit when the pipe to the parent closes."""
    from threadpoolctl import threadpool_limits

    os.environ.update(dict.fromkeys(_THREADS, "1"))  # for libraries that are not loaded yet
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            line.recv()
        except (EOFError, OSError):
            os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _one_core(function: Callable[..., T], job: tuple[Any, ...]) -> T:
    """function(*job), with libraries that came with the function held to one thread too."""
    with one_blas_thread():
        return function(*job)


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
