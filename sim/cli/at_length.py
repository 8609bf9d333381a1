"""The verbs of the command line that simulate at length: `quenched sweep` and `quenched validate`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from quenched.sim.cli.terminal import print_table, progress

__all__ = ["sweep", "validate"]


def validate(
    full: Annotated[
        bool, typer.Option("--full/--quick", help="240 cells in minutes, or 16 of them in seconds.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="overlaps: the exact chain at large D; vectors: SGD itself.")
    ] = "overlaps",
    backend: Annotated[
        str | None, typer.Option(help="numpy, cupy or auto, for vectors: implies --engine vectors.")
    ] = None,
    D: Annotated[list[int] | None, typer.Option("--D", help="Input dimension; repeat for more.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs in each cell.")] = None,
    significance: Annotated[float, typer.Option(help="Probability of a false alarm, over the whole grid.")] = 0.01,
    processes: Annotated[int, typer.Option(help="Worker processes.")] = 2,
    report: Annotated[Path, typer.Option(help="Folder of the report.")] = Path("results/validation"),
) -> None:
    """Judge theory against simulation on a grid of problems; exit 1 where they disagree.

    Every recorded order parameter and error is compared, with a verdict that holds for all of them together, controls
    that must fail, and the deviation at finite D followed until it vanishes: all in report.md of the FOLDER.

    Example:  quenched validate --quick
    Example:  quenched validate --full --report results/full
    Example:  quenched validate --backend cupy
    """
    from quenched.sim.referee.judge import Grid, judge, summary, write
    from quenched.sim.referee.throughput import measure

    remarks = []
    if backend is not None:
        engine = "vectors"
    if engine == "vectors":
        speed = measure(backend or "auto")
        remarks.append(speed.sentence())
        sys.stdout.write(speed.sentence() + "\n")
    grid = Grid.full() if full else Grid()
    if engine == "vectors":
        grid = replace(grid, D=(1000,), seeds=40)
    if D:
        grid = replace(grid, D=tuple(D))
    if seeds is not None:
        grid = replace(grid, seeds=seeds)
    with progress("validate") as done:
        verdict = judge(
            grid,
            engine=engine,
            backend=backend or "auto",
            significance=significance,
            processes=processes,
            progress=done,
        )
    path = write(verdict, report, remarks)
    sys.stdout.write(f"{'agree' if verdict.agrees else 'DISAGREE'}: {summary(verdict)}\n")
    for cell in [*verdict.denied, *verdict.missed]:
        sys.stdout.write(f"  {cell.mixture}, {cell.network}, lr = {cell.lr:g}, D = {cell.D}: p = {cell.p:.2g}\n")
    sys.stdout.write(f"report: {path}\n")
    if not verdict.agrees:
        raise typer.Exit(1)


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

    Every cell is in the store as soon as it is finished: however a run ends, --resume computes what is left.

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
    from quenched.sim.sweep_files import read_spec
    from quenched.sim.sweeps import sweep as compute

    grid, place = read_spec(spec), store or spec.with_suffix(".zarr")
    try:
        with progress("sweep") as report:
            results = compute(grid, place, processes=processes, scheduler=scheduler, resume=resume, progress=report)
    except KeyboardInterrupt:
        sys.stderr.write(f"quenched: interrupted; what is finished is in {place}: add --resume to go on\n")
        raise typer.Exit(130) from None
    table = Table("mixture", "network", "rule", "D", "seeds", "overflowed", "pmse", "classification error", box=None)
    end = results.isel(time=-1)
    for index in np.ndindex(end.status.shape[:-1]):
        names = [str(end[dim].values[i]) for dim, i in zip(end.status.dims, index, strict=False)]
        ended = end.status.values[index]
        means = [
            f"{end[name].values[index][ended == DONE].mean():.6f}" if (ended == DONE).any() else ""
            for name in ("pmse", "classification_error")
        ]
        table.add_row(*names, str(len(ended)), str(int((ended == OVERFLOW).sum())), *means)
    print_table(table)
