"""`quenched fixed-points`: where learning ends, how stable it is, and how it depends on a parameter."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from quenched.numerics.problem.checks import integer
from quenched.numerics.problem.learner import option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.cli import problems
from quenched.sim.cli.options import Files, command, part, refuse
from quenched.sim.cli.terminal import kept, print_table, progress

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["VERB"]


@dataclass(frozen=True)
class Run:
    """The noise of the inputs, the initial states, what to follow."""

    sigma: float | None = option(None, "Noise per component (default: 0.4).")
    teacher: str | None = option(None, "Labels by a teacher ACTIVATION:NEURONS, as erf:2, or erf:2:sign.")
    seeds: int = option(20, "Number of initial states.")
    follow: str | None = option(None, "Then follow the best solution in sigma, separation, lr, weight_decay, ...")
    values: str = option("0.4:1:50", "Its values: FIRST:LAST:NUMBER, or a comma-separated list.")
    plot: Path | None = option(None, "Figure of the followed solution.")
    processes: int = option(1, "Worker processes, for the initial states.")
    problem: Specification | None = part()

    def of(self, problem: Specification) -> Run:
        """The seeds of a specification are those of the initial states."""
        return replace(self, problem=problem)

    def names(self, given: Collection[str]) -> Sequence[int]:
        """The seeds of the initial states."""
        if self.problem is None or self.problem.seeds is None or "seeds" in given:
            return range(integer("seeds", self.seeds, at_least=1, at_most=10**6))
        return self.problem.seeds


def fixed_points(
    problem: Specification | None,
    named: problems.Named,
    network: TwoLayer,
    rule: LearningRule,
    run: Run,
    files: Files,
    given: Collection[str],
) -> None:
    """Find the fixed points that learning ends in, their basins and stability; follow one along a parameter.

    At --lr 0, the default, the rule is the limit of small rates, the gradient flow: --second-lr is then the ratio of
    the second rate to the first, and there is neither --batch nor --label-noise.  Weights decay at 0.01 unless
    --weight-decay says otherwise; network and rule are said on standard error.

    Columns of the solutions: kind (good, partial, unspecialised, by the gain over chance: in the classification error,
    with a teacher in the pmse), the share of initial states
    that end there and its error, classification error, pmse, the slowest rate (the largest real part of an eigenvalue
    of the Jacobian: stable if negative), zero modes beside symmetries, neurons without effect, the seed of the first
    initial state.  Columns of a followed solution: the parameter, the errors, the slowest rate, whether it is stable,
    and folds and pitchforks, where it turns back or splits.  With --resume the finished initial states are not computed
    again; a followed solution is begun anew.

    Example:  quenched fixed-points --K 4 --sigma 0.4 --seeds 20
    Example:  quenched fixed-points problem.toml --lr 0
    Example:  quenched fixed-points --lr 0.2 --seeds 4 --follow sigma --values 0.4:1:50 -o branch.csv --plot branch.png
    """
    from quenched.numerics.two_layer.fixed_points import fixed_points as fixed_points_of
    from quenched.numerics.two_layer.stationary import FixedPointError
    from quenched.sim.files import DATA, PICTURES, prepare, save
    from quenched.sim.processes import Work

    files.check(given)
    named.check(given)
    for name in ("values", "plot"):
        if name in given and run.follow is None:
            raise ValueError(f"--{name} is of a followed solution: add --follow PARAMETER")
    values = _followed(run)
    rule.require_plain("fixed points")
    if rule.eta == 0:
        refuse({*given, "lr"}, "lr", problems.NOISE, "at 0, the default, it has no effect")
    prepare("output", files.output, DATA, force=files.force)
    prepare("plot", [] if run.plot is None else [run.plot], PICTURES, force=files.force)
    mixture, seeds = named.build(run.sigma), run.names(given)
    if run.teacher is not None:
        mixture = problems.taught(mixture, run.teacher)
    if rule.eta == 0:
        rule = problems.gradient_flow(replace(rule, lr=1.0))
    with kept("fixed-points", next(iter(files.output), run.plot), files.resume) as journal:
        with progress("fixed points") as report:
            work = Work(run.processes, report, journal)
            found = fixed_points_of(mixture, network, rule, seeds, mapped=work.each)
        if not found.sizes["solution"]:
            raise FixedPointError(
                f"none of {len(seeds)} runs came to rest at a fixed point: add weight_decay, or lower lr "
                f"(now {rule.eta:g})",
                OrderParameters(np.zeros((mixture.clusters, network.K)), np.eye(network.K), np.zeros(network.K)),
                float("inf"),
            )
        sys.stderr.write(f"{network!r}, {rule!r}\n")  # defaults included: the decay is no 0
        _solutions(found)
        result = found
        if run.follow is not None:
            best = found.isel(solution=0)
            rows = best.M.values if mixture.teacher is None else np.concatenate([best.M.values, best.R.values])
            start = OrderParameters(rows, best.Q, best.v)
            with progress(run.follow) as report:
                result = Work(1, report, journal).once(_branch, mixture, network, rule, run.follow, values, start)
            _points(result, run.follow)
        for path in files.output:
            save(result, path)
        if run.plot is not None and run.follow is not None:
            _draw(result, mixture, str(run.follow), run.plot)


def _followed(run: Run) -> list[float]:
    """The values of the parameter that is followed, none without one; ValueError before anything is computed."""
    from quenched.numerics.problem.checks import choice
    from quenched.numerics.two_layer.continuation import PARAMETERS

    if run.follow is None:
        return []
    choice("follow", run.follow, PARAMETERS)
    values = problems.levels("values", run.values)
    steps = np.diff(values)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"values must increase or decrease throughout, got {run.values!r}")
    return values


def _branch(
    problem: Mixture,
    network: TwoLayer,
    rule: LearningRule,
    parameter: str,
    values: list[float],
    start: OrderParameters,
) -> xr.Dataset:
    from quenched.numerics.two_layer.continuation import curve

    return curve(problem, network, rule, parameter, values, start)


def _draw(result: xr.Dataset, mixture: Mixture, parameter: str, path: Path) -> None:
    """The branch, beside the oracle where it is followed in sigma."""
    from quenched.numerics.oracle import oracle_error
    from quenched.sim.drawing import plot
    from quenched.sim.files import save

    oracle = None
    if parameter == "sigma" and problems.has_oracle(mixture):
        points = np.unique(result.sigma)
        mixtures = (replace(mixture, sigma=float(s)) for s in points)
        oracle = points, np.array([float(oracle_error(each)) for each in mixtures])
    save(plot.branches({plot.title(result): result}, parameter, oracle), path)


def _solutions(found: xr.Dataset) -> None:
    header = ["kind", "share", "±", "error", "pmse", "slowest rate", "zero modes", "dead", "seed"]
    rows = []
    for j in range(found.sizes["solution"]):
        s = found.isel(solution=j)
        rows.append(
            [
                str(s.kind.item()),
                f"{float(s.basin):.3f}",
                f"{float(s.basin_error):.3f}",
                f"{float(s.classification_error):.8f}",
                f"{round(float(s.pmse), 8) + 0.0:.8f}",
                f"{float(s.leading):.3g}",
                str(int(s.zero_modes)),
                str(int(s.dead)),
                str(int(s.seed)),
            ]
        )
    print_table(header, rows)
    if float(found.unfinished):
        sys.stdout.write(f"no fixed point in {float(found.unfinished):.0%} of the runs\n")


def _points(branch: xr.Dataset, parameter: str) -> None:
    shown = np.unique(np.linspace(0, branch.sizes["point"] - 1, 12).astype(int))
    turning = np.flatnonzero(branch.fold.values | branch.pitchfork.values)
    rows = []
    for j in np.union1d(shown, turning):
        s = branch.isel(point=int(j))
        rows.append(
            [
                f"{float(s[parameter]):.6g}",
                f"{float(s.classification_error):.8f}",
                f"{round(float(s.pmse), 8) + 0.0:.8f}",
                f"{float(s.leading):.3g}",
                "yes" if bool(s.stable) else "no",
                "fold" if bool(s.fold) else "pitchfork" if bool(s.pitchfork) else "",
            ]
        )
    print_table([parameter, "error", "pmse", "slowest rate", "stable", ""], rows)


VERB = command(
    fixed_points,
    named=problems.Named(),
    network=TwoLayer(4, "relu"),
    rule=OnlineSGD(0.0, 0.01),
    run=Run(),
    files=Files(),
)
