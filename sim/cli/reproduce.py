"""`quenched reproduce`: the figures of the repository and their data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from quenched.numerics.problem.checks import integer
from quenched.sim import figures as registry
from quenched.sim.cli.options import command
from quenched.sim.cli.terminal import kept, progress

__all__ = ["VERB"]


def reproduce(
    figures: Annotated[
        list[str] | None,
        typer.Argument(help=f"Which of {', '.join(registry.figures())}, or 'all' (default: the first four)."),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where figures and data go.")] = Path("results"),
    processes: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Overwrite figures that exist.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from what an interrupted run has finished.")] = False,
) -> None:
    """Compute the figures and their data, each as PDF, PNG and NetCDF, with a sentence on what there is to see.

    FOLDER/figures.md shows all of them with their captions, which the pictures and the data hold too.  The first four
    take five minutes together, all of them an hour.  With --resume a figure that is there is left as it is.

    Example:  quenched reproduce dynamics headline
    """
    known = registry.figures()
    everything = "all" in (figures or [])
    chosen = known if everything else figures or list(registry.MAIN)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"figure must be one of {', '.join(known)}, got {unknown[0]!r}")
    integer("processes", processes, at_least=1)
    if force and resume:
        raise ValueError("--force does not go together with --resume: that keeps what is there")
    names = list(dict.fromkeys(chosen))
    if not force and not resume:
        from quenched.sim.files import prepare

        prepare("folder", [path for name in names for path in registry.pictures(folder, name)])
    for name in names:
        if resume and (picture := registry.picture(folder, name)).exists():
            sys.stdout.write(f"{name}  is there: {picture}\n")
            continue
        if everything and (needed := registry.missing(name)):
            sys.stdout.write(f"{name}  is left out: it needs {needed}\n")
            continue
        with kept("reproduce", folder / name, resume) as journal, progress(name) as report:
            sentence = registry.make(name, folder, processes, report, journal=journal)
        sys.stdout.write(f"{name}  {sentence}\n")
        sys.stdout.flush()


VERB = command(reproduce)
