"""Ctrl-C and SIGTERM end a command within two seconds.

Python runs a signal handler between two bytecodes only, so that a long call of compiled code delays it.  Therefore a
thread also waits for the signal, which the system delivers to it at once, and ends the process if the command has not
ended by itself.  Python drops an exception that is raised in a callback of compiled code; it is raised again.
Worker processes end with the process (`local_processes`).
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
_GRACE = 1.2  # seconds that a command has to end by itself
_AGAIN = 0.05  # seconds after which a dropped exception is raised again, by when its caller has returned


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
                    sys.stderr.write("quenched: interrupted in a long calculation; add --resume to go on\n")
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
