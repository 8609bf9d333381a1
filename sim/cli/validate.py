"""`quenched validate`: theory against simulation on a grid of problems, one verdict and a report."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from quenched.numerics.problem.learner import option
from quenched.numerics.problem.specification import Specification
from quenched.sim.cli.options import LOSS_NAMES, command, flag, part
from quenched.sim.cli.terminal import kept, progress
from quenched.sim.engines import ENGINES, find_engine

if TYPE_CHECKING:
    from quenched.sim.referee.grid import Grid

__all__ = ["VERB"]

_SEEDS = 40  # runs on vectors, whose spread is larger at their smaller D


@dataclass(frozen=True)
class Run:
    """The grid, the engine and the report."""

    full: bool = option(False, "All mixtures, activations and rules: hundreds of cells, a quarter of an hour.")
    quick: bool = option(False, "A few of each, in seconds (the default).")
    engine: str = option("overlaps", f"{', '.join(ENGINES)}: vectors is SGD itself, overlaps its chain at any D.")
    backend: str | None = option(
        None,
        "numpy (the processor, on which the chain is compiled), cupy (a card) or auto (a card where one answers). "
        "Default: numpy for overlaps, auto for vectors.  Where no engine is named it is that of vectors.",
    )
    D: tuple[int, ...] = option((), "Input dimension; repeat for more.")
    seeds: int | None = option(None, "Runs in each cell.")
    loss: str | None = option(None, f"A grid of this loss alone: {LOSS_NAMES}, or an expression in phi and y.")
    batch: int | None = option(None, "A grid of this batch alone.")
    significance: float = option(0.01, "Probability of a false alarm, over the whole grid.")
    processes: int = option(2, "Worker processes.")
    report: Path = option(Path("results/validation"), "Folder of the report.")
    force: bool = option(False, "Overwrite a report that exists.")
    resume: bool = option(False, "Go on from what an interrupted run has finished.")
    problem: Specification | None = part()

    def of(self, problem: Specification) -> Run:
        """Dimension, number of runs and engine of a specification."""
        dimension = () if problem.D is None else (problem.D,)
        runs = None if problem.seeds is None else len(problem.seeds)
        return replace(self, problem=problem, D=dimension, seeds=runs, engine=problem.engine or self.engine)


def validate(problem: Specification | None, run: Run, given: Collection[str]) -> None:
    """Judge theory against simulation on a grid of problems; exit 1 where they disagree.

    Every recorded order parameter and error is compared, with a verdict that holds for all of them together, controls
    that must fail, and the deviation at finite D followed until it vanishes: all in report.md of the folder of the
    report.  A disagreement is a line with mixture, network, learning rate, D and the p-value of the cell.

    With a specification this one problem is judged, at its times, from its initial state, with as many runs as it has
    seeds; its control are the equations with all learning rates, those of biases too, a quarter too large.

    Example:  quenched validate --quick
    Example:  quenched validate problem.toml --report results/mine
    Example:  quenched validate --full --report results/full
    Example:  quenched validate --loss logistic --batch 4
    Example:  quenched validate --backend cupy
    Example:  quenched validate --full --backend cupy --engine overlaps --processes 8
    """
    from quenched.sim.backend import get_backend
    from quenched.sim.files import prepare
    from quenched.sim.referee.judge import check, judge
    from quenched.sim.referee.report import FILES, summary, write
    from quenched.sim.referee.throughput import measure

    if problem is not None:
        for name in ("full", "quick", "loss", "batch"):
            if name in given:
                raise ValueError(f"{flag(name)} does not go together with a specification, which is the grid")
    if run.full and run.quick:
        raise ValueError("--quick does not go together with --full: each is a grid of its own")
    named = "engine" in given or (problem is not None and problem.engine is not None)
    engine = run.engine if named or run.backend is None else "vectors"
    large = find_engine(engine).any_dimension
    backend = ("numpy" if large else "auto") if run.backend is None else run.backend
    get_backend(backend)
    grid = _grid(run, large)
    check(grid, run.significance, run.processes)
    prepare("report", [run.report / name for name in FILES], force=run.force)
    remarks = []
    if not large:
        remarks.append(measure(backend).sentence())
        sys.stdout.write(remarks[0] + "\n")
    with kept("validate", run.report / "report.md", run.resume) as journal:
        with progress("validate") as done:
            verdict = judge(
                grid,
                engine=engine,
                backend=backend,
                significance=run.significance,
                processes=run.processes,
                progress=done,
                journal=journal,
            )
        path = write(verdict, run.report, remarks)
    sys.stdout.write(f"{'agree' if verdict.agrees else 'DISAGREE'}: {summary(verdict)}\n")
    for cell in [*verdict.denied, *verdict.missed]:
        sys.stdout.write(f"  {cell.mixture}, {cell.problem}, lr = {cell.lr:g}, D = {cell.D}: p = {cell.p:.2g}\n")
    sys.stdout.write(f"report: {path}\n")
    if not verdict.agrees:
        raise typer.Exit(1)


def _grid(run: Run, large: bool) -> Grid:
    """The grid that the options ask for."""
    from quenched.sim.referee.grid import VECTORS_D, Grid

    grid = Grid.full() if run.full else Grid()
    if not large:
        grid = replace(grid, D=(VECTORS_D,), seeds=_SEEDS)
    if run.problem is not None:
        times = () if run.problem.t is None else tuple(float(t) for t in run.problem.t if t > 0)
        grid = replace(grid, problem=run.problem, times=times or grid.times)
        if not all(case.chained for case in grid.cases()):
            grid = replace(grid, D=(VECTORS_D,), seeds=_SEEDS)
    elif run.loss is not None or run.batch is not None:
        grid = grid.of_rule("square" if run.loss is None else run.loss, 1 if run.batch is None else run.batch)
    if run.D:
        grid = replace(grid, D=tuple(run.D))
    return grid if run.seeds is None else replace(grid, seeds=run.seeds)


VERB = command(validate, changing=True, run=Run())
