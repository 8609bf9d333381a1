"""What the verbs of the command line share: tables, progress, interrupts, what is kept.

Results are tables on standard output, progress goes to standard error.

Ctrl-C and SIGTERM end a command within two seconds.  Python runs a signal handler between two bytecodes only, so that a
long call of compiled code delays it.  Therefore a thread also waits for the signal, which the system delivers to it at
once, and ends the process if the command has not ended by itself.  Python drops an exception that is raised in a
callback of compiled code, where it is raised again; and an exception that compiled code returns becomes a SystemError,
of which it is the cause (`interruption`).
Worker processes end with the process (`local_processes`).  What is kept is said in each of these cases (`keeping`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from quenched.sim.journal import Journal

__all__ = [
    "INTERRUPTED",
    "Interrupted",
    "interruptible",
    "interruption",
    "keeping",
    "kept",
    "print_table",
    "progress",
]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = tuple(128 + number for number in _SIGNALS)
"""Exit statuses that a shell gives to these signals."""
_MINUTE = 60.0  # seconds
_GRACE = 1.2  # seconds that a command has to end by itself
_AGAIN = 0.05  # seconds after which a dropped exception is raised again, by when its caller has returned

_sentences: list[Callable[[], str | None]] = []  # on what is kept, of the commands that are running
_ENDS = (KeyboardInterrupt, RuntimeError, OSError)
_NOTHING = "nothing was finished that could be kept"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; `status` is the exit status that a shell gives to the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, Ctrl-C and SIGTERM raise `Interrupted`; if that has not led out of here in time, the process ends.

    Signals are those of the main thread: elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    inbox, outbox = socket.socketpair()
    outbox.setblocking(False)
    over, raised = threading.Event(), threading.Event()

    def raising(number: int, frame: FrameType | None) -> None:
        if not raised.is_set():  # one is enough: what follows is cleaning up
            raised.set()
            raise Interrupted(number)

    def dropped(event: sys.UnraisableHookArgs) -> None:
        if not isinstance(event.exc_value, Interrupted):
            return hook(event)
        raised.clear()
        return threading.Timer(_AGAIN, signal.raise_signal, (event.exc_value.status - 128,)).start()

    def watch() -> None:
        with inbox:
            while received := inbox.recv(1):
                if received[0] in _SIGNALS and not over.wait(_GRACE):
                    kept = [sentence() or _NOTHING for sentence in list(_sentences)]
                    sys.stderr.write("; ".join(["quenched: interrupted in a long calculation", *kept]) + "\n")
                    sys.stderr.flush()
                    os._exit(128 + received[0])

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    before = {number: signal.signal(number, raising) for number in _SIGNALS}
    descriptor = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, name="interrupts", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        sys.unraisablehook = hook
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        outbox.close()
        watcher.join()


def interruption(error: BaseException) -> KeyboardInterrupt | None:
    """Ctrl-C or SIGTERM, where it is what has led to this exception; else None."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return cause


@contextmanager
def keeping(sentence: Callable[[], str | None], ends: tuple[type[BaseException], ...] = _ENDS) -> Iterator[None]:
    """Inside, what ends the command, one of `ends`, is told with `sentence()`, on what is kept; None: nothing is."""
    _sentences.append(sentence)
    try:
        yield
    except BaseException as end:
        stop = interruption(end)
        note = sentence() or (None if stop is None else _NOTHING)
        if note is not None and isinstance(stop or end, ends):
            (stop or end).add_note(note)
        if stop is not None:
            raise stop from None
        raise
    finally:
        _sentences.remove(sentence)


# --- tables, progress
# -------------------------------------------------------------------------------------------------------------------


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """To standard output, a row a line, columns aligned and two spaces apart, whatever the width of a terminal is.

    >>> print_table(["t", "error"], [["0", "0.5"], ["120", "0.08"]])
    t    error
    0    0.5
    120  0.08
    """
    lines = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")


@contextmanager
def progress(task: str) -> Iterator[Callable[[float], None]]:
    """Yields the function that takes the fraction done.

    On a terminal standard error shows a bar; where it is a file or a pipe, it gets a line a minute.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        with _minutely(task) as report:
            yield report
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        identity = bar.add_task(task, total=1.0)
        yield lambda fraction: bar.update(identity, completed=fraction)


@contextmanager
def _minutely(task: str) -> Iterator[Callable[[float], None]]:
    """A thread writes where the task is, every minute, for as long as it lasts."""
    start, done, over = time.monotonic(), [0.0], threading.Event()

    def write() -> None:
        while not over.wait(_MINUTE):
            minutes = (time.monotonic() - start) / _MINUTE
            sys.stderr.write(f"quenched: {task} {done[0]:.0%} after {minutes:.0f} min\n")
            sys.stderr.flush()

    def report(fraction: float) -> None:
        done[0] = fraction

    thread = threading.Thread(target=write, name="progress", daemon=True)
    thread.start()
    try:
        yield report
    finally:
        over.set()


@contextmanager
def kept(verb: str, target: Path | None, resume: bool) -> Iterator[Journal]:
    """The journal of a command, in TARGET.unfinished beside its first file, or in the cache where it writes none.

    It is removed when all is done.  What else ends the command gets a note on what is kept.
    """
    from quenched.numerics.compiled.cache import cache_folder
    from quenched.sim.journal import Journal

    beside = None if target is None else target.with_name(f"{target.name}.unfinished")
    journal = Journal(beside or cache_folder() / "unfinished" / verb, resume)
    with keeping(journal.sentence):
        try:
            yield journal
        except BaseException:
            journal.leave()
            raise
    journal.close(whole=beside is not None)
