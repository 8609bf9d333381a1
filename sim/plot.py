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
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

__all__ = ["comparison", "curve", "dynamics", "fluctuations", "save"]

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
        network = json.loads(theory.attrs["network"])
        return f"two-layer, K = {network['K']} {network['activation']}, best of {theory.sizes['initial']} starts"
    return learner


def _colours(n: int) -> list[str]:
    """Distinct colours: the six above, or as many steps from dark to light."""
    if n <= len(COLOURS):
        return list(COLOURS[:n])
    return [to_hex(colour) for colour in mpl.colormaps["viridis"](np.linspace(0, 0.95, n))]


def _marker() -> dict[str, Any]:
    return {key: value for key, value in POINT.items() if key != "elinewidth"}
