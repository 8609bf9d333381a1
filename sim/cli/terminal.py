"""What the verbs of the command line share: a table on standard output, a progress bar on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["print_table", "progress"]


def print_table(table: Table) -> None:
    """To standard output; a pipe has no width, so that there every row stays on a line."""
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)


@contextmanager
def progress(task: str) -> Iterator[Callable[[float], None]]:
    """A bar on standard error where that is a terminal; yields the function that takes the fraction done."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        identity = bar.add_task(task, total=1.0)
        yield lambda fraction: bar.update(identity, completed=fraction)
