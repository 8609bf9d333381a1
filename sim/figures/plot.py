"""Figures: functions of xarray datasets that return a matplotlib `Figure`.  Theory is lines, simulation is points.

Object-oriented matplotlib only: no pyplot, no display, no settings left behind.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from quenched.numerics.records import TwoLayer

__all__ = ["comparison", "curve", "dynamics", "fluctuations", "learners", "phase", "referee", "save"]

# Okabe and Ito's colours: distinct under the common forms of colour blindness.
COLOURS = BLUE, ORANGE, GREEN, PINK, YELLOW, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "errorbar.capsize": 2,
    "font.size": 9,
    "grid.color": "0.93",
    "legend.fontsize": "small",
    "legend.frameon": False,
    "lines.linewidth": 1.4,
}
POINT: dict[str, Any] = {"ls": "", "marker": "o", "ms": 3.4, "mfc": "white", "mew": 0.9, "elinewidth": 0.9, "zorder": 3}
LEVEL: dict[str, Any] = {"color": "0.25", "ls": (0, (4, 3)), "lw": 1.2}  # how a bound is drawn
TIME = "time  t = n/D"
ERROR = "classification error"
PMSE = r"pmse  $\frac{1}{2}\langle\Delta^2\rangle$"


@mpl.rc_context(STYLE)
def dynamics(
    theory: Mapping[str, xr.Dataset],
    simulation: Mapping[str, xr.Dataset] | None = None,
    oracle: float | None = None,
    clusters: Sequence[int] | None = None,
) -> Figure:
    """Learning against time, one column a title: pmse, classification error, overlaps M_ak, squared norms Q_kk.

    `theory`: solutions of the ODE by title (dims time, cluster, neuron, neuron_); `simulation`: runs at the same
    parameters by the same title (one more dim, seed); `oracle`: an error level to draw; `clusters`: whose overlaps to
    show, all if None (in a symmetric mixture half of them mirror the others).
    """
    figure = Figure(figsize=(max(3.4 * len(theory) + 0.4, 4.6), 7.6), layout="constrained")
    grid = figure.subplots(4, len(theory), squeeze=False, sharex="col", sharey="row")
    shown = range(next(iter(theory.values())).sizes["cluster"]) if clusters is None else clusters
    for column, (title, run) in zip(grid.T, theory.items(), strict=True):
        pair = run, (simulation or {}).get(title)
        column[0].set_title(title)
        _line(column[0], *pair, "pmse", "0.0")
        _line(column[1], *pair, "classification_error", "0.0")
        for k in range(run.sizes["neuron"]):
            for colour, a in zip(_colours(len(shown)), shown, strict=True):
                _line(column[2], *pair, "M", colour, cluster=a, neuron=k)
            _line(column[3], *pair, "Q", "0.0", neuron=k, neuron_=k)
        if oracle is not None:
            column[1].axhline(oracle, **LEVEL)
        for axes in column[[0, 1, 3]]:
            axes.set_ylim(bottom=0)
        column[3].set_xlabel(TIME)
    for axes, label in zip(grid[:, 0], [PMSE, ERROR, "overlaps  $M_{ak}$", "squared norms  $Q_{kk}$"], strict=True):
        axes.set_ylabel(label)
    legend = [Line2D([], [], color="0.0", label="theory")]
    if simulation:
        legend.append(Line2D([], [], color="0.0", label=_caption(next(iter(simulation.values()))), **_marker()))
    if oracle is not None:
        legend.append(Line2D([], [], label="oracle", **LEVEL))
    legend += [
        Line2D([], [], color=colour, label=f"$M_{{ak}}$, cluster {a + 1}")
        for colour, a in zip(_colours(len(shown)), shown, strict=True)
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=2 if len(theory) == 1 else 3)
    return figure


@mpl.rc_context(STYLE)
def curve(theory: xr.Dataset, simulation: xr.Dataset | None = None) -> Figure:
    """Classification error against the noise sigma, one line a learner; the oracle dashed.

    `theory`: `classification_error` (learner, sigma), and `final_error` (sigma, initial) where a learner was started
    from several states, of which the best is the line and the others small ticks; `simulation`: `classification_error`
    (sigma, seed) of the two-layer network at the end of its runs.
    """
    figure = Figure(figsize=(5.6, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.axhline(0.5, color="0.75", lw=0.9)
    axes.annotate("chance", (0, 0.5), (3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  va="bottom", color="0.5", size="small")  # fmt: skip
    colours = iter(COLOURS)
    for learner in theory.learner.values:
        style = LEVEL if learner == "oracle" else {"color": next(colours), "zorder": 2.5}
        axes.plot(theory.sigma, theory.classification_error.sel(learner=learner), label=_name(learner, theory), **style)
    if "final_error" in theory:
        for j in range(theory.sizes["initial"]):
            axes.plot(theory.sigma, theory.final_error[:, j], color="0.6", ls="", marker="_", ms=5, mew=0.8,
                      label=None if j else "each start")  # fmt: skip
    if simulation is not None:
        mean, error = _mean(simulation.classification_error)
        axes.errorbar(simulation.sigma, mean, error, color=BLUE, label=_caption(simulation), **POINT)
    axes.set(xlabel=r"noise $\sigma$", ylabel=ERROR, ylim=(0, 0.54))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@mpl.rc_context(STYLE)
def comparison(runs: Mapping[str, xr.Dataset], levels: Mapping[str, float] | None = None) -> Figure:
    """pmse and classification error against time, side by side, for several runs by name.

    A run without the dimension seed is a line, one with it points; `levels`: errors to draw as horizontal lines.
    The error is on a logarithmic axis.
    """
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, marker, (name, run) in zip(_colours(len(runs)), cycle("os^D"), runs.items(), strict=False):
        for axes, observable, label in (left, run.pmse, name), (right, run.classification_error, None):
            if "seed" in run.dims:
                mean, error = _mean(observable)
                axes.errorbar(run.time, mean, error, color=colour, label=label, **{**POINT, "marker": marker})
            else:
                axes.plot(run.time, observable, color=colour, label=label)
    for name, level in (levels or {}).items():
        right.axhline(level, **LEVEL)
        right.annotate(name, (1, level), (-2, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                       ha="right", va="bottom", color="0.25", size="small")  # fmt: skip
    left.set(xlabel=TIME, ylabel=PMSE, ylim=(0, None))
    right.set(xlabel=TIME, ylabel=ERROR, yscale="log")
    right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="outside lower center", ncols=1)
    return figure


@mpl.rc_context(STYLE)
def fluctuations(
    moments: Mapping[int, xr.Dataset], names: Mapping[str, str], learning: xr.Dataset, rate: float
) -> Figure:
    """Fluctuations at finite D: variances against t and against D; the time a plateau takes, its mean and its law.

    `moments`: what `quenched.sim.fluctuations.moments` found, by D; `names`: which components, with their symbols;
    `learning`: `time` (D, run), NaN where a D has fewer runs; `rate`: lambda, the growth rate on the plateau.
    """
    figure = Figure(figsize=(7.4, 6.2), layout="constrained")
    (path, limit), (plateau, law) = figure.subplots(2, 2)
    sizes, last = sorted(moments), moments[max(moments)]
    markers = dict(zip(sizes[:-1], cycle("os^D"), strict=False))
    for i, (colour, (component, symbol)) in enumerate(zip(_colours(len(names)), names.items(), strict=True)):
        at = {"component": component, "component_": component}
        path.plot(last.time, last.covariance.sel(at), color=colour)
        for D, marker in markers.items():
            found = moments[D].sel(at).isel(time=slice(1, None, 2))
            style = {**POINT, "marker": marker, "color": colour}
            path.errorbar(found.time, found.covariance, found.covariance_error, **style)
        end = [moments[D].sel(at).isel(time=-1) for D in sizes]
        values, errors = (np.array([float(e[key]) for e in end]) for key in ("covariance", "covariance_error"))
        limit.errorbar(
            np.array(sizes) * 1.1**i, values / values[-1], errors / values[-1], color=colour, label=symbol, **POINT
        )
    keys = [Line2D([], [], color="0.0", label=f"$D = {sizes[-1]}$")]
    keys += [Line2D([], [], color="0.0", label=f"{D}", **_marker() | {"marker": m}) for D, m in markers.items()]
    path.legend(handles=keys, loc="upper left")
    path.set(xlabel=TIME, ylabel=r"$D\,\mathrm{Var}$", ylim=(0, None))
    limit.axhline(1, **LEVEL)
    limit.set(xscale="log", xlabel="dimension  D", ylabel=rf"$D\,\mathrm{{Var}}$, relative to $D={sizes[-1]}$")
    limit.set_title(f"t = {float(last.time[-1]):g}")
    limit.legend(loc="upper right", ncols=2)
    number = learning.time.notnull().sum("run")
    mean, error = learning.time.mean("run"), learning.time.std("run", ddof=1) / np.sqrt(number)
    offset = float(((mean - np.log(mean.D) / (2 * rate)) / error**2).sum() / (1 / error**2).sum())
    plateau.plot(mean.D, np.log(mean.D) / (2 * rate) + offset, color="0.0", label=r"$\ln D/(2\lambda)$ + const")
    plateau.errorbar(mean.D, mean, error, color=BLUE, label="chain, mean ± s.e.", **POINT)
    plateau.set(xscale="log", xlabel="dimension  D", ylabel="learning time")
    plateau.legend(loc="upper left")
    for colour, D in zip(_colours(learning.sizes["D"]), learning.D.values, strict=True):
        shifted = np.sort(learning.time.sel(D=D).dropna("run").values) - np.log(D) / (2 * rate)
        law.step(shifted, np.arange(1, len(shifted) + 1) / len(shifted), where="post", color=colour, label=f"$D={D}$")
    law.set(xlabel=r"learning time $-\ \ln D/(2\lambda)$", ylabel="fraction of runs", ylim=(0, 1))
    law.legend(loc="lower right")
    return figure


@mpl.rc_context(STYLE)
def panels(cases: Mapping[str, Mapping[str, tuple[xr.Dataset, xr.Dataset]]], columns: int) -> Figure:
    """Classification error against time, on a logarithmic axis, one panel a title.

    `cases`: by title, and within it by name, a solution of the ODE (a line) and runs (points; one more dim, seed).
    """
    rows = -(-len(cases) // columns)
    figure = Figure(figsize=(2.4 * columns + 0.4, 2.1 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    names = list(dict.fromkeys(name for lines in cases.values() for name in lines))
    colour = dict(zip(names, _colours(len(names)), strict=True))
    for axes, (title, lines) in zip(grid, cases.items(), strict=False):
        axes.axhline(0.5, color="0.75", lw=0.9)
        for name, (theory, runs) in lines.items():
            _line(axes, theory, runs, "classification_error", colour[name])
        axes.set(xscale="log", title=title)
    for axes in grid[len(cases) :]:
        axes.set_axis_off()
    for i, axes in enumerate(grid[: len(cases)]):
        if i % columns == 0:
            axes.set_ylabel(ERROR)
        if i + columns >= len(cases):
            axes.set_xlabel(TIME)
            axes.tick_params(labelbottom=True)
    runs = next(iter(cases[next(iter(cases))].values()))[1]
    legend = [Line2D([], [], color=colour[name], label=name) for name in names]
    legend += [
        Line2D([], [], color="0.3", label="lines: order-parameter equations"),
        Line2D([], [], color="0.3", label=f"points: simulation, mean ± s.e. of {runs.sizes['seed']} runs", **_marker()),
    ]
    if len(cases) < len(grid):
        grid[-1].legend(handles=legend, loc="center", fontsize="small")
    else:
        figure.legend(handles=legend, loc="outside lower center", ncols=len(legend))
    return figure


@mpl.rc_context(STYLE)
def layers(cases: Mapping[str, tuple[xr.Dataset, xr.Dataset]], lazy: xr.Dataset, oracle: float) -> Figure:
    """Left: error against time by what is trained.  Middle and right: final error, movement of Q, by output scale.

    `lazy`: classification_error and movement (scale, seed).
    """
    figure = Figure(figsize=(8.6, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for colour, (name, (theory, runs)) in zip(COLOURS, cases.items(), strict=False):
        _line(left, theory, runs, "classification_error", colour)
        left.plot([], [], color=colour, label=name)
    left.axhline(oracle, label="oracle", **LEVEL)
    left.set(xlabel=TIME, ylabel=ERROR, ylim=(0, 0.54), title="what is trained")
    left.legend(loc="center right")
    for axes, name, label in (
        (middle, "classification_error", ERROR),
        (right, "movement", r"mean $|Q_{kl}(t) - Q_{kl}(0)|$"),
    ):
        mean, error = _mean(lazy[name])
        axes.errorbar(lazy.scale, mean, error, color=BLUE, **{**POINT, "ls": "-"})
        axes.set(xlabel="output scale  s", ylabel=label, xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    middle.axhline(oracle, **LEVEL)
    middle.axhline(0.5, color="0.75", lw=0.9)
    middle.set(ylim=(0, 0.54), title="from feature learning to lazy")
    right.set(yscale="log", title="how far the overlaps move")
    return figure


@mpl.rc_context(STYLE)
def referee(z: Any, seeds: int, p: Sequence[float], significance: float, bias: xr.Dataset) -> Figure:
    """Histogram of all z-scores, p-values of the cells in order, and the bias against D.

    `z` (n,): each from as many `seeds`; `bias`: bias, error and spread (D,), with coefficient and exponent.
    """
    from scipy.stats import t

    figure = Figure(figsize=(10.2, 3.4), layout="constrained")
    scores, ordered, law = figure.subplots(1, 3)
    x = np.linspace(-5, 5, 201)
    shown = np.clip(z, x[0], x[-1])
    scores.hist(shown, bins=np.linspace(-5, 5, 41).tolist(), density=True, color=SKY, label=f"{len(z)} numbers")
    scores.plot(x, t.pdf(x, seeds - 1), color="0.0", label=f"Student's t, {seeds - 1} degrees")
    scores.set(xlabel="z", ylabel="density", xlim=(-5, 5), ylim=(0, None))
    figure.align_labels()
    scores.set_ylim(0, 1.45 * scores.get_ylim()[1])
    scores.legend(loc="upper right")
    rank = np.arange(1, len(p) + 1)
    ordered.plot(rank, np.sort(p), ls="", marker="o", ms=3, color=BLUE, label="p of a cell")
    ordered.plot(rank, significance / (len(p) - rank + 1), color=ORANGE, label=f"denied below (Holm, {significance:g})")
    ordered.set(xlabel="cells, in order", ylabel="p", yscale="log")
    ordered.legend(loc="center")
    ordered.xaxis.set_major_locator(MaxNLocator(integer=True))
    D = bias.D.values.astype(float)
    fit = rf"$D^{{{bias.attrs['exponent']:.3f} \pm {bias.attrs['exponent_error']:.3f}}}$"
    law.plot(D, np.abs(bias.attrs["coefficient"]) * D ** bias.attrs["exponent"], color="0.0", label=fit)
    seen = np.abs(bias.bias.values) > 2 * bias.error.values
    style = {"color": BLUE, "label": "bias of the mean"} | POINT
    law.errorbar(D[seen], np.abs(bias.bias.values)[seen], bias.error.values[seen], **style)
    law.plot(D[~seen], 2 * bias.error.values[~seen], color=BLUE, ls="", marker="v", ms=4, label="less than, 2 s.e.")
    law.plot(D, bias.spread, color=ORANGE, ls=":", marker="s", ms=3, label="fluctuation of a run")
    law.set(xscale="log", yscale="log", xlabel="dimension  D", ylabel="deviation from the equations")
    law.legend(loc="lower left")
    return figure


@mpl.rc_context(STYLE)
def learners(theory: xr.DataArray, limit: xr.DataArray, runs: xr.DataArray, network: xr.DataArray, D: int) -> Figure:
    """Error against noise, a row for each task, a column for each length of the means, by learner.

    `theory`: at the dimension D of the runs, lines; `limit`: D -> infinity, dotted (both task, length, learner, sigma);
    `runs`: points (one more dim, seed); `network`: solutions of the network's equations at some sigma.
    """
    tasks, lengths, learners = (list(theory[name].values) for name in ("task", "length", "learner"))
    figure = Figure(figsize=(2.35 * len(lengths) + 0.3, 2.2 * len(tasks) + 1.0), layout="constrained")
    grid = figure.subplots(len(tasks), len(lengths), squeeze=False, sharex=True, sharey=True)
    colours = dict(zip(learners, ("0.25", "0.0", SKY, BLUE, "#003B5C", ORANGE, GREEN), strict=True))
    for row, task in zip(grid, tasks, strict=True):
        for axes, length in zip(row, lengths, strict=True):
            panel = {"task": task, "length": length}
            if bool(theory.sel(panel).isnull().all()):
                axes.set_axis_off()
                continue
            axes.axhline(0.5, color="0.85", lw=0.9)
            for learner in learners:
                at = panel | {"learner": learner}
                colour = colours[learner]
                if learner == "oracle":
                    axes.plot(theory.sigma, theory.sel(at), **LEVEL)
                    continue
                axes.plot(theory.sigma, theory.sel(at), color=colour)
                axes.plot(theory.sigma, limit.sel(at), color=colour, ls=":", lw=0.9)
                mean, error = _mean(runs.sel(at))
                marker = {"marker": "s"} if learner in network.learner else {}
                axes.errorbar(runs.sigma, mean, error, color=colour, **{**POINT, **marker})
                if learner in network.learner:
                    axes.plot(network.sigma, network.sel(at), color=colour)
            axes.set(xscale="log", ylim=(-0.02, 0.56))
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_title(f"{task}, $|\\mathrm{{mean}}| = {length}$")
            axes.set_xlabel(r"noise $\sigma$")
            axes.tick_params(labelbottom=True)
        row[0].set_ylabel(ERROR)
    legend: list[Line2D] = [Line2D([], [], label="oracle", **LEVEL)]
    legend += [Line2D([], [], color=colours[name], label=name) for name in learners[1:]]
    legend += [
        Line2D([], [], color="0.3", label=f"theory at D = {D}"),
        Line2D([], [], color="0.3", ls=":", label=r"theory, $D \to \infty$"),
        Line2D([], [], color="0.3", label=f"simulation, D = {D}", **_marker()),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=4)
    return figure


@mpl.rc_context(STYLE)
def phase(theory: xr.DataArray, runs: xr.DataArray) -> Figure:
    """Error against the exponent of the length of the means, by dimension: rows are learners, columns are tasks.

    `theory` (task, learner, D, exponent), the last learner being the oracle, which is drawn in every panel;
    `runs` (task, learner, D, exponent, seed).
    """
    tasks, (*learners, oracle) = list(theory.task.values), list(theory.learner.values)
    figure = Figure(figsize=(3.6 * len(tasks) + 0.3, 2.5 * len(learners) + 0.8), layout="constrained")
    grid = figure.subplots(len(learners), len(tasks), squeeze=False, sharex=True, sharey=True)
    colours = [to_hex(c) for c in mpl.colormaps["viridis"](np.linspace(0.9, 0, theory.sizes["D"]))]
    for row, learner in zip(grid, learners, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            axes.axvline(0.25, color="0.75", lw=0.9)
            for colour, size in zip(colours, theory.D.values, strict=True):
                axes.plot(theory.exponent, theory.sel(task=task, learner=learner, D=size), color=colour)
                if size in runs.D:
                    mean, error = _mean(runs.sel(task=task, learner=learner, D=size))
                    axes.errorbar(runs.exponent, mean, error, color=colour, **POINT)
            for style, size in zip(("--", ":"), theory.D.values[[0, 2]], strict=True):
                axes.plot(theory.exponent, theory.sel(task=task, learner=oracle, D=size), color="0.4", ls=style, lw=1)
            axes.set(title=f"{learner}, {task}", ylim=(-0.02, 0.56), xlim=(0, 0.5))
        row[0].set_ylabel(ERROR)
    for axes in grid[-1]:
        axes.set_xlabel("exponent  $a$  of the length  $D^a$  of the means")
    legend = [
        Line2D([], [], color=colour, label=f"$D = {_power(size)}$")
        for colour, size in zip(colours, theory.D.values, strict=True)
    ]
    legend += [
        Line2D([], [], color="0.4", ls=style, label=f"oracle, $D = {_power(size)}$")
        for style, size in zip(("--", ":"), theory.D.values[[0, 2]], strict=True)
    ]
    legend.append(Line2D([], [], color="0.3", label="simulation", **_marker()))
    figure.legend(handles=legend, loc="outside lower center", ncols=5)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure; the suffix says the format (png at 200 dots per inch).  ValueError if there is none such."""
    formats = figure.canvas.get_supported_filetypes()
    if Path(path).suffix.lstrip(".") not in formats:
        raise ValueError(f"plot must end in one of {', '.join(sorted(formats))}, got {str(path)!r}")
    figure.savefig(path, dpi=200)


def _line(axes: Axes, run: xr.Dataset, sample: xr.Dataset | None, name: str, colour: str, **indices: int) -> None:
    """One component of an observable against time: a line for the theory, points for the runs."""
    axes.plot(run.time, run[name].isel(indices), color=colour)
    if sample is not None:
        mean, error = _mean(sample[name].isel(indices))
        axes.errorbar(sample.time, mean, error, color=colour, **POINT)


def _mean(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Mean over the seeds and its standard error (one seed has none)."""
    n = values.sizes["seed"]
    return values.mean("seed"), values.std("seed", ddof=1) / np.sqrt(n) if n > 1 else None


def _caption(simulation: xr.Dataset) -> str:
    n = simulation.sizes["seed"]
    runs = f"simulation, D = {json.loads(simulation.attrs['simulation'])['D']}"
    return runs + (f", mean ± s.e. of {n} runs" if n > 1 else ", one run")


def _name(learner: str, theory: xr.Dataset) -> str:
    if learner == "two-layer" and "final_error" in theory:
        network = TwoLayer(**json.loads(theory.attrs["network"]))
        return f"two-layer, K = {network.K} {network.activation}, best of {theory.sizes['initial']} starts"
    return learner


def _power(size: int) -> str:
    """A dimension as LaTeX: powers of ten as such, from 10^3 on."""
    exponent = round(np.log10(size))
    return f"10^{{{exponent}}}" if size == 10**exponent and exponent > 2 else str(size)


def _colours(n: int) -> list[str]:
    """Distinct colours: the six above, or as many steps from dark to light."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0, 0.95, n))]


def _marker() -> dict[str, Any]:
    return {key: value for key, value in POINT.items() if key != "elinewidth"}
