"""The verb `quenched cache`: where derived and compiled code is kept, and how to be rid of it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from quenched.sim.cli.options import command

__all__ = ["VERB"]


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove what is in it; it is made anew when needed.")] = False,
) -> None:
    """Say where derived formulas and compiled code are kept, and how much; --clear removes them.

    It is the user's cache directory, or $QUENCHED_CACHE.  Its files are executed: a folder that belongs to another
    user, or that others may write to, is not used, and each run then derives and compiles anew.  Damaged files are
    replaced.

    Example:  quenched cache
    Example:  quenched cache --clear
    """
    from quenched.numerics.compiled import cache as kept

    folder = kept.cache_folder()
    if clear:
        number, size = kept.clear()
        sys.stdout.write(f"{folder}: {number} files removed, {size / 1e6:.1f} MB\n")
        return
    reason = kept.fault(folder)
    files = [] if reason else kept.contents()
    size = sum(path.lstat().st_size for path in files)
    sys.stdout.write(
        f"{folder}: {len(files)} files, {size / 1e6:.1f} MB\n" if reason is None else f"{folder}: {reason}\n"
    )


VERB = command(cache)
