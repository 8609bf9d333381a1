"""`quenched sweep`: simulations over a grid, kept cell by cell in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from quenched.sim.cli.options import command
from quenched.sim.cli.terminal import keeping, print_table, progress

__all__ = ["NEEDS_ARGUMENTS", "VERB"]

NEEDS_ARGUMENTS = True


def sweep(
    spec: Annotated[Path, typer.Argument(help="TOML file: D, seeds, t and the tables mixture, network, rule.")],
    store: Annotated[
        Path | None, typer.Option(help="Zarr store of the results (default: that of SPEC, ending in .zarr).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Complete a store that exists.")] = False,
    processes: Annotated[int | None, typer.Option(help="Worker processes (default: one per core).")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers to use, as tcp://host:8786.")
    ] = None,
) -> None:
    """Simulate over a grid of mixtures, networks, learning rules, dimensions and seeds.

    Every cell is in the store as soon as it is finished: however a run ends, --resume computes what is left.  A line of
    the table is one problem at one D: how many seeds, how many of them overflowed, and the means of pmse and
    classification error at the last time over the others.

    Example of a specification (lists span the grid):

        D = [100, 10000]
        seeds = { first = 0, number = 8 }
        t = { first = 0, last = 20, number = 5 }
        mixture = [{ kind = "xor", sigma = [0.3, 0.5] }]
        network = [{ K = [2, 4], activation = "relu" }]
        rule = [{ lr = [0.1, 0.5] }]

    Example:  quenched sweep grid.toml --processes 2
    """
    from quenched.sim.results import DONE, OVERFLOW
    from quenched.sim.specifications import read_spec
    from quenched.sim.sweeps import sweep as compute

    if scheduler is not None and processes is not None:
        raise ValueError("--processes does not go together with --scheduler: the workers are those of the scheduler")
    grid, place = read_spec(spec), store or spec.with_suffix(".zarr")
    with keeping(lambda: _kept(place), (KeyboardInterrupt,)), progress("sweep") as report:
        results = compute(grid, place, processes=processes, scheduler=scheduler, resume=resume, progress=report)
    rows = []
    end = results.isel(time=-1)
    for index in np.ndindex(end.status.shape[:-1]):
        names = [str(end[dim].values[i]) for dim, i in zip(end.status.dims, index, strict=False)]
        ended = end.status.values[index]
        means = [
            f"{end[name].values[index][ended == DONE].mean():.6f}" if (ended == DONE).any() else ""
            for name in ("pmse", "classification_error")
        ]
        rows.append([*names, str(len(ended)), str(int((ended == OVERFLOW).sum())), *means])
    print_table(["mixture", "network", "rule", "D", "seeds", "overflowed", "pmse", "classification error"], rows)


def _kept(store: Path) -> str | None:
    return f"what is finished is in {store}: add --resume to go on" if store.exists() else None


VERB = command(sweep)
