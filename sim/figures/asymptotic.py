"""Where learning ends, as a verb and a figure: `quenched fixed-points`, and asymptotic errors against the noise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import GradientFlow, LearningRule, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.cli import problems
from quenched.sim.cli.terminal import print_table, progress

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "branches", "find"]


def find(
    mixture: Annotated[str, typer.Option(help=f"{', '.join(problems.MIXTURES)}, or ring:M for 2M clusters.")] = "xor",
    sigma: Annotated[float, typer.Option(help="Noise per component.")] = 0.4,
    separation: Annotated[float, typer.Option(help="Length of the mean vectors.")] = 1.0,
    K: Annotated[int, typer.Option("--K", help="Number of neurons.")] = 4,
    activation: Annotated[str, typer.Option(help="erf, relu, linear, ..., or an expression in x.")] = "relu",
    lr: Annotated[float, typer.Option("--lr", help="Learning rate; 0: its limit, the gradient flow.")] = 0.0,
    second_lr: Annotated[
        float | None, typer.Option(help="Learning rate of the second layer, or its ratio to the first if lr is 0.")
    ] = None,
    weight_decay: Annotated[float, typer.Option(help="Weight decay kappa.")] = 0.01,
    seeds: Annotated[int, typer.Option(help="Number of initial states.")] = 20,
    follow: Annotated[
        str | None, typer.Option(help="Then follow the best solution in sigma, separation, lr, weight_decay, ...")
    ] = None,
    values: Annotated[str, typer.Option(help="Its values: FIRST:LAST:NUMBER, or a comma-separated list.")] = "0.4:1:50",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="NetCDF or .csv file to write.")] = None,
    figure: Annotated[Path | None, typer.Option("--plot", help="Figure of the followed solution.")] = None,
) -> None:
    """Find the fixed points that learning ends in, their basins and stability; follow one along a parameter.

    Example:  quenched fixed-points --K 4 --sigma 0.4 --seeds 20
    Example:  quenched fixed-points --lr 0.2 --seeds 4 --follow sigma --values 0.4:1:50 -o branch.csv --plot branch.png
    """
    from quenched.numerics.oracle import oracle_error
    from quenched.numerics.two_layer.continuation import curve
    from quenched.numerics.two_layer.fixed_points import FixedPointError, fixed_points
    from quenched.sim.figures import plot

    if figure is not None and follow is None:
        raise ValueError(f"follow must name a parameter for a plot, got --plot {figure} alone")
    if output is not None and output.suffix not in (".nc", ".csv"):
        raise ValueError(f"output must end in .nc or .csv, got {str(output)!r}")
    problem, network = problems.mixture(mixture, sigma, separation), TwoLayer(K, activation)
    rule: LearningRule = OnlineSGD(lr, weight_decay, second_lr)
    if lr == 0:
        rule = GradientFlow(weight_decay=weight_decay, second_lr=second_lr)
    with progress("fixed points") as report:
        found = fixed_points(problem, network, rule, range(seeds), progress=report)
    if not found.sizes["solution"]:
        raise FixedPointError(
            f"none of {seeds} runs came to rest at a fixed point: add weight_decay, or lower lr (now {lr:g})",
            OrderParameters(np.zeros((problem.clusters, K)), np.zeros((K, K)), np.zeros(K)),
            float("inf"),
        )
    table = Table("kind", "share", "±", "error", "pmse", "slowest rate", "zero modes", "dead", "seed", box=None)
    for j in range(found.sizes["solution"]):
        s = found.isel(solution=j)
        table.add_row(
            str(s.kind.item()),
            f"{float(s.basin):.3f}",
            f"{float(s.basin_error):.3f}",
            f"{float(s.classification_error):.8f}",
            f"{float(s.pmse):.8f}",
            f"{float(s.leading):.3g}",
            str(int(s.zero_modes)),
            str(int(s.dead)),
            str(int(s.seed)),
        )
    print_table(table)
    if float(found.unfinished):
        print_table(Table(f"no fixed point in {float(found.unfinished):.0%} of the runs", box=None))
    result = found
    if follow is not None:
        best = found.isel(solution=0)
        with progress(follow) as report:
            result = curve(
                problem,
                network,
                rule,
                follow,
                problems.levels("values", values),
                OrderParameters(best.M, best.Q, best.v),
                progress=report,
            )
        if figure is not None:
            oracle = None
            if follow == "sigma":
                points = np.unique(result.sigma)
                levels = [float(oracle_error(problems.mixture(mixture, float(s), separation))) for s in points]
                oracle = points, np.array(levels)
            plot.save(branches({_title(network, rule): result}, follow, oracle), figure)
        print_table(_rows(result, follow))
    if output is not None and output.suffix == ".nc":
        result.to_netcdf(output, engine="h5netcdf")
    elif output is not None:
        names = [n for n in result.data_vars if result[n].dims in (("point",), ("solution",))]
        names = [follow, *names] if follow is not None else names
        with output.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *zip(*(result[n].values for n in names), strict=True)])


def _title(network: TwoLayer, rule: LearningRule) -> str:
    noise = f"η = {rule.lr:g}" if rule.diffusion else "gradient flow"
    return f"{network.activation}, K = {network.K}, {noise}, κ = {rule.weight_decay:g}"


def _rows(branch: xr.Dataset, parameter: str) -> Table:
    table = Table(parameter, "error", "pmse", "slowest rate", "stable", "", box=None)
    shown = np.unique(np.linspace(0, branch.sizes["point"] - 1, 12).astype(int))
    turning = np.flatnonzero(branch.fold.values | branch.pitchfork.values)
    for j in np.union1d(shown, turning):
        s = branch.isel(point=int(j))
        mark = "fold" if bool(s.fold) else "pitchfork" if bool(s.pitchfork) else ""
        table.add_row(
            f"{float(s[parameter]):.6g}",
            f"{float(s.classification_error):.8f}",
            f"{float(s.pmse):.8f}",
            f"{float(s.leading):.3g}",
            "yes" if bool(s.stable) else "no",
            mark,
        )
    return table


def branches(
    curves: dict[str, xr.Dataset], parameter: str, oracle: tuple[np.ndarray, np.ndarray] | None = None
) -> Figure:
    """Classification error and pmse of solution curves: dashed where unstable, dots at folds, rings at pitchforks."""
    import matplotlib as mpl

    from quenched.sim.figures import plot

    with mpl.rc_context(plot.STYLE):
        return _branches(curves, parameter, oracle)


def _branches(curves: dict[str, xr.Dataset], parameter: str, oracle: tuple[np.ndarray, np.ndarray] | None) -> Figure:
    from matplotlib.figure import Figure

    from quenched.sim.figures import plot

    canvas = Figure(figsize=(7.4, 3.3), layout="constrained")
    panels = canvas.subplots(1, 2, sharex=True)
    colours = (plot.BLUE, plot.ORANGE, plot.GREEN, plot.PINK, plot.YELLOW, plot.SKY)
    for (title, branch), colour in zip(curves.items(), colours, strict=False):
        x = branch[parameter].values
        for axes, name in zip(panels, ("classification_error", "pmse"), strict=True):
            y, stable = branch[name].values, branch.stable.values.astype(bool)
            for part, style in ((stable, "-"), (~stable, "--")):
                # a segment belongs to both kinds of its ends
                shown = part | np.append(part[1:], False) | np.append(False, part[:-1]) if style == "--" else part
                axes.plot(x, np.where(shown, y, np.nan), ls=style, color=colour, label=title if style == "-" else None)
            for turn, face in (("fold", colour), ("pitchfork", "white")):
                at = branch[turn].values.astype(bool)
                axes.plot(x[at], y[at], ls="", marker="o", ms=4, mfc=face, color=colour)
    if oracle is not None:
        panels[0].plot(*oracle, label="oracle", **plot.LEVEL)
    for axes, label in zip(panels, (plot.ERROR, plot.PMSE), strict=True):
        axes.set(xlabel=r"noise $\sigma$" if parameter == "sigma" else parameter.replace("_", " "), ylabel=label)
    panels[0].legend()
    return canvas


def _asymptotic(folder: Path, processes: int, report: Callable[[float], None]) -> str:
    """The error at the end of learning against noise: four relu on XOR, gradient flow and SGD, beside the oracle."""
    from quenched.numerics.oracle import oracle_error
    from quenched.numerics.two_layer.continuation import curve
    from quenched.numerics.two_layer.fixed_points import fixed_points
    from quenched.sim.figures import plot

    mixture, network = Mixture.xor(0.3), TwoLayer(4, "relu")
    rules: list[LearningRule] = [GradientFlow(weight_decay=1e-3), OnlineSGD(0.1, 0.01), OnlineSGD(0.5, 0.01)]
    sigmas, curves = np.linspace(0.3, 1.0, 71), {}
    for i, rule in enumerate(rules):
        found = fixed_points(mixture, network, rule, range(4)).isel(solution=0)
        start = OrderParameters(found.M, found.Q, found.v)
        branch = curve(mixture, network, rule, "sigma", sigmas, start)
        branch.to_netcdf(folder / f"asymptotic_{i}.nc", engine="h5netcdf")
        curves[_title(network, rule)] = branch
        report((i + 1) / len(rules))
    oracle = np.array([float(oracle_error(Mixture.xor(s))) for s in sigmas])
    plot.save(branches(curves, "sigma", (sigmas, oracle)), folder / "asymptotic.png")
    ends = "; ".join(f"{title}: {float(branch.classification_error[-1]):.6f}" for title, branch in curves.items())
    worst = max(float(branch.error_estimate.max()) for branch in curves.values())
    return f"at sigma = 1, {ends}; oracle {oracle[-1]:.6f}; numerical errors below {worst:.0e}."


FIGURES: dict[str, Callable[[Path, int, Callable[[float], None]], str]] = {"asymptotic": _asymptotic}
