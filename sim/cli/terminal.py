"""What the verbs of the command line share: tables on standard output, progress on standard error, what is kept."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from quenched.sim.cli.interrupts import keeping
from quenched.sim.journal import Journal

__all__ = ["kept", "print_table", "progress"]

_MINUTE = 60.0


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

    beside = None if target is None else target.with_name(f"{target.name}.unfinished")
    journal = Journal(beside or cache_folder() / "unfinished" / verb, resume)
    with keeping(journal.sentence):
        try:
            yield journal
        except BaseException:
            journal.leave()
            raise
    journal.close(whole=beside is not None)
