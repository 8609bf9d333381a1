"""Ctrl-C and SIGTERM end a command within two seconds.

A handler written in Python runs between two bytecodes only: a long call of compiled code delays it, and code that
swallows exceptions can lose it.  So a thread waits for the signal as well, which it is told by the system at once, and
ends the process when the command has not ended by itself.  Worker processes end with the process (`local_processes`).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupted", "interruptible"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE = 1.5  # seconds that a command has to end by itself


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
    over = threading.Event()

    def raising(number: int, frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)  # one is enough: what follows is cleaning up
        raise Interrupted(number)

    def watch() -> None:
        while received := inbox.recv(1):
            if received[0] in _SIGNALS and not over.wait(_GRACE):
                sys.stderr.write("quenched: interrupted in a long calculation; add --resume to go on\n")
                sys.stderr.flush()
                os._exit(128 + received[0])

    before = {number: signal.signal(number, raising) for number in _SIGNALS}
    descriptor = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, name="interrupts", daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            signal.signal(number, handler)
        outbox.close()
