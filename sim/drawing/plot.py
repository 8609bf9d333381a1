"""Drawings of what the solvers and simulations return: `plot` of any result, and one function for each kind.

plot(integrate(...))    plot(integrate(...), simulate(...))    plot(error_curve(...))    plot(curve(...))
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.problem.checks import records
from quenched.numerics.problem.schedules import rate, rate_text
from quenched.sim.drawing.style import (
    BLUE,
    COLUMN,
    ERROR,
    LEVEL,
    PAGE,
    PMSE,
    TIME,
    Cue,
    caption,
    chance,
    cues,
    key,
    letters,
    log_ticks,
    marker,
    observable,
    points,
    styled,
)

__all__ = ["branch_marks", "branches", "comparison", "curve", "draw_branch", "dynamics", "plot", "title"]

_BLACK = Cue("0.0", "o", "-")
_PARAMETERS = (
    *("sigma", "separation", "lr", "weight_decay", "second_lr", "second_weight_decay", "label_noise"),
    *("bias_lr", "intercept_lr"),
)


def plot(*results: xr.Dataset) -> Figure:
    """The figure of one result, or of theory and simulation of one problem, chosen by what the datasets hold.

    Along time, of `integrate` and `simulate`: the learning curve, lines and points.  Over learner and sigma, of
    `error_curve`: errors against noise.  Along point, of `curve`: the branch, its folds and pitchforks.

    ValueError: nothing that can be drawn, or results that do not belong into one figure.

    >>> from quenched.numerics import GradientFlow, Mixture, TwoLayer, integrate, random_state
    >>> mixture, network = Mixture.two_clusters(1.0), TwoLayer(1, "erf")
    >>> run = integrate(mixture, network, GradientFlow(), random_state(mixture, network, 100, 0), [0.0, 1.0])
    >>> type(plot(run)).__name__
    'Figure'
    """
    records("results", results, xr.Dataset)
    theory = [each for each in results if "time" in each.dims and "seed" not in each.dims]
    runs = [each for each in results if {"time", "seed"} <= set(each.dims)]
    if results and len(theory) + len(runs) == len(results):
        if not theory or any("M" not in each for each in theory):
            names = [f"simulation {i + 1}" for i in range(len(runs))] if len(runs) > 1 else ["simulation"]
            return comparison(dict(zip(names, runs, strict=True)) | {f"theory {i}": t for i, t in enumerate(theory)})
        titles = [title(each, i) for i, each in enumerate(theory)]
        found = {titles[i]: runs[i] for i in range(min(len(runs), len(theory)))}
        if len(runs) > len(theory):
            raise ValueError(f"simulations must be at most as many as solutions, got {len(runs)} for {len(theory)}")
        return dynamics(dict(zip(titles, theory, strict=True)), found)
    if len(results) == 1 and {"learner", "sigma"} <= set(results[0].dims):
        return curve(results[0])
    if results and all("point" in each.dims for each in results):
        shared = [name for name in _PARAMETERS if all(name in each.coords for each in results)]
        if shared:
            return branches({title(each, i): each for i, each in enumerate(results)}, shared[0])
    raise ValueError(
        "results must be datasets along time (and seed), over learner and sigma, or along point, got "
        f"{[dict(each.sizes) for each in results]}"
    )


def title(result: xr.Dataset, number: int = 0) -> str:
    """Network and learning rate, as far as the attributes tell them."""
    network, rule = (json.loads(result.attrs.get(name, "{}")) for name in ("network", "sgd"))
    parts = [f"K = {network['K']}, {network['activation']}"] if network else []
    rules = [each for each, _ in rule] if isinstance(rule, list) else [rule] if rule else []
    rates = dict.fromkeys(rate_text(rate("lr", each["lr"])) for each in rules)
    parts += [f"η = {', then '.join(rates)}"] if rates else []
    text = ", ".join(parts) or "result"
    return text if not number else f"{text} ({number + 1})"


@styled
def dynamics(
    theory: Mapping[str, xr.Dataset],
    simulation: Mapping[str, xr.Dataset] | None = None,
    oracle: float | None = None,
    clusters: Sequence[int] | None = None,
) -> Figure:
    """Learning against time, one column a title: pmse, classification error, overlaps M_ak, squared norms Q_kk.

    `theory`: solutions of the ODE by title (dims time, cluster, neuron, neuron_); `simulation`: runs at the same
    parameters by the same title (one more dim, seed); where there are several tasks, an error has a line for each, by
    colour; `oracle`: an error level to draw; `clusters`: whose overlaps to
    show, all if None (in a symmetric mixture half of them mirror the others).
    """
    figure = Figure(figsize=(min(COLUMN * max(len(theory), 1.3) + 0.2, 2.2 * PAGE), 6.6), layout="constrained")
    grid = figure.subplots(4, len(theory), squeeze=False, sharex="col", sharey="row")
    letters(grid.flat)
    shown = list(range(next(iter(theory.values())).sizes["cluster"]) if clusters is None else clusters)
    cue = dict(zip(shown, cues(len(shown)), strict=True))
    for column, (title, run) in zip(grid.T, theory.items(), strict=True):
        pair = run, (simulation or {}).get(title)
        column[0].set_title(title)
        for axes, name in zip(column[:2], ("pmse", "classification_error"), strict=True):
            for look, place in _tasks(run):
                observable(axes, pair[0], pair[1], name, look, **place)
        for k in range(run.sizes["neuron"]):
            for a in shown:
                observable(column[2], *pair, "M", cue[a], cluster=a, neuron=k)
            observable(column[3], *pair, "Q", _BLACK, neuron=k, neuron_=k)
        if oracle is not None:
            column[1].axhline(oracle, **LEVEL)
        for axes in column[[0, 1, 3]]:
            axes.set_ylim(bottom=0)
        column[3].set_xlabel(TIME)
    for axes, label in zip(
        grid[:, 0], [PMSE, ERROR, "overlaps $M_{ak}$, all $k$", "norms $Q_{kk}$, all $k$"], strict=True
    ):
        axes.set_ylabel(label)
    legend = [Line2D([], [], color="0.0", label="theory")]
    if simulation:
        legend.append(marker("0.0", caption(next(iter(simulation.values())))))
    if oracle is not None:
        legend.append(Line2D([], [], label="oracle", **LEVEL))
    legend += [key(cue[a], f"$M_{{ak}}$ of cluster $a = {a + 1}$") for a in shown]
    most = max(theory.values(), key=lambda run: run.sizes.get("task", 0))
    legend += [key(look, f"errors on task {place['task']}", point=False) for look, place in _tasks(most) if place]
    figure.legend(handles=legend, loc="outside lower center", ncols=2 if len(theory) == 1 else 3)
    return figure


def _tasks(run: xr.Dataset) -> list[tuple[Cue, dict[str, int]]]:
    """The look and the place of the errors of each task; of a problem that has one task, black, without a place."""
    number = run.sizes.get("task", 0)
    return [(look, {"task": i}) for i, look in enumerate(cues(number))] if number else [(_BLACK, {})]


@styled
def curve(theory: xr.Dataset, simulation: xr.Dataset | None = None) -> Figure:
    """Classification error against the noise sigma, one line a learner; the oracle a grey band.

    `theory`: `classification_error` (learner, sigma), and `final_error` (sigma, initial) where a learner was started
    from several states, of which the best is the line and the others small ticks; `simulation`: `classification_error`
    (sigma, seed) of the two-layer network at the end of its runs.
    """
    figure = Figure(figsize=(1.25 * COLUMN, 3.2), layout="constrained")
    axes = figure.subplots()
    chance(axes)
    axes.annotate("chance", (0, 0.5), (3, 2), xycoords=("axes fraction", "data"), textcoords="offset points",
                  va="bottom", color="0.5", size="small")  # fmt: skip
    look = dict(zip([n for n in theory.learner.values if n != "oracle"], cues(theory.sizes["learner"]), strict=False))
    for learner in theory.learner.values:
        values = theory.classification_error.sel(learner=learner)
        added = str(values.caption.item()) if "caption" in theory.coords else ""
        style = {**look[learner].line, "zorder": 2.5} if learner in look else LEVEL
        axes.plot(theory.sigma, values, label=f"{learner}, {added}" if added else str(learner), **style)
    if "final_error" in theory:
        for j in range(theory.sizes["initial"]):
            axes.plot(theory.sigma, theory.final_error[:, j], color="0.6", ls="", marker="_", ms=5, mew=0.8,
                      label=None if j else f"each of {theory.sizes['initial']} starts")  # fmt: skip
    if simulation is not None:
        colour = look["two-layer"].colour if "two-layer" in look else BLUE
        cue = Cue(colour, "o", "-")
        points(axes, simulation.sigma, simulation.classification_error, cue, caption(simulation))
    axes.set(xlabel=r"noise $\sigma$", ylabel=ERROR, ylim=(0, 0.54))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def comparison(
    runs: Mapping[str, xr.Dataset], levels: Mapping[str, float | tuple[float, float]] | None = None
) -> Figure:
    """pmse and classification error against time, side by side, for several runs by name.

    A run without the dimension seed is a line, one with it points; one of several tasks is a run for each.  `levels`:
    errors to draw as horizontal lines, (value, error) with its error as a band.  Both axes are logarithmic.
    """
    figure = Figure(figsize=(PAGE, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    letters((left, right))
    single: dict[str, xr.Dataset] = {}
    for name, run in runs.items():
        parts = {f"{name}, task {i}": run.isel(task=i) for i in range(run.sizes.get("task", 0))}
        single |= parts or {name: run}
    for cue, (name, run) in zip(cues(len(single)), single.items(), strict=True):
        for axes, values, label in (left, run.pmse, name), (right, run.classification_error, None):
            if "seed" in run.dims:
                points(axes, run.time, values, cue, label)
            else:
                axes.plot(run.time, values, label=label, **cue.line)
    for name, given in (levels or {}).items():
        level, uncertainty = given if isinstance(given, tuple) else (given, 0.0)
        right.axhline(level, **LEVEL)
        right.axhspan(level - uncertainty, level + uncertainty, color="0.25", alpha=0.25, lw=0)
        right.annotate(name, (0, level), (7, 3), xycoords=("axes fraction", "data"), textcoords="offset points",
                       ha="left", va="bottom", color="0.25", size="small")  # fmt: skip
    for axes, label in (left, PMSE), (right, ERROR):
        axes.set(xlabel=TIME, ylabel=label, yscale="log")
        log_ticks(axes.yaxis)
    figure.legend(loc="outside lower center", ncols=2)
    return figure


@styled
def branches(
    curves: Mapping[str, xr.Dataset], parameter: str, oracle: tuple[np.ndarray, np.ndarray] | None = None
) -> Figure:
    """Classification error and pmse of solution curves: faint where unstable, stars at pitchforks, triangles at
    folds.
    """
    canvas = Figure(figsize=(PAGE, 2.9), layout="constrained")
    panels = canvas.subplots(1, 2, sharex=True)
    letters(panels)
    look = dict(zip(curves, cues(len(curves)), strict=True))
    for title, branch in curves.items():
        for axes, name in zip(panels, ("classification_error", "pmse"), strict=True):
            draw_branch(axes, branch, parameter, name, look[title])
    if oracle is not None:
        panels[0].plot(*oracle, **LEVEL)
    for axes, label in zip(panels, (ERROR, PMSE), strict=True):
        axes.set(xlabel=r"noise $\sigma$" if parameter == "sigma" else parameter.replace("_", " "), ylabel=label)
    handles = [key(cue, title, point=False) for title, cue in look.items()]
    if oracle is not None:
        handles.append(Line2D([], [], label="oracle", **LEVEL))
    panels[0].legend(handles=[*handles, *branch_marks(curves.values())])
    return canvas


_TURNS: dict[str, Any] = {
    "pitchfork": {"marker": "*", "ms": 7, "mfc": "white", "mew": 0.7},
    "fold": {"marker": ">", "ms": 5, "mfc": "white", "mew": 0.7},
}


def draw_branch(axes: Axes, branch: xr.Dataset, parameter: str, name: str, cue: Cue) -> None:
    """A solution curve, full where stable and faint where not, with marks at its pitchforks and folds."""
    x, y, stable = branch[parameter].values, branch[name].values, branch.stable.values.astype(bool)
    # a segment between a stable and an unstable point is unstable
    faint = ~stable | np.append(~stable[1:], False) | np.append(False, ~stable[:-1])
    axes.plot(x, np.where(stable, y, np.nan), **cue.line)
    axes.plot(x, np.where(faint, y, np.nan), **cue.line | {"lw": 0.6, "alpha": 0.6})
    for turn, style in _TURNS.items():
        at = branch[turn].values.astype(bool)
        axes.plot(x[at], y[at], ls="", color=cue.colour, zorder=4, **style)


def branch_marks(branches: Iterable[xr.Dataset]) -> list[Line2D]:
    """For a legend: the marks that the branches have."""
    found = list(branches)
    marks = [
        Line2D([], [], ls="", color="0.3", label=turn, **style)
        for turn, style in _TURNS.items()
        if any(bool(branch[turn].any()) for branch in found)
    ]
    unstable = any(not bool(branch.stable.all()) for branch in found)
    return marks + ([Line2D([], [], color="0.3", lw=0.6, alpha=0.6, label="thin: unstable")] if unstable else [])
