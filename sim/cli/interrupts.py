"""Ctrl-C and SIGTERM end a command within two seconds.

Python runs a signal handler between two bytecodes only, so that a long call of compiled code delays it.  Therefore a
thread also waits for the signal, which the system delivers to it at once, and ends the process if the command has not
ended by itself.  Python drops an exception that is raised in a callback of compiled code, where it is raised again; and
an exception that compiled code returns becomes a SystemError, of which it is the cause (`interruption`).
Worker processes end with the process (`local_processes`).  What is kept is said in each of these cases (`keeping`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["INTERRUPTED", "Interrupted", "interruptible", "interruption", "keeping"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
INTERRUPTED = tuple(128 + number for number in _SIGNALS)
"""Exit statuses that a shell gives to these signals."""
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
