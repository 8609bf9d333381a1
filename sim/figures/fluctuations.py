"""Figure `fluctuations`: variances of the order parameters times D, which converge, and the time that a plateau takes.

Top: relu, K = 2, on XOR, all runs from one state, beside the covariance that the equations of fluctuations give.
Bottom, the plateau: |x|, K = 2, with a fixed readout, where M = 0 is a fixed point and only the fluctuations of finite
D lead away from it: the learning time grows as log D.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.exit_times import exit_time
from quenched.numerics.two_layer.flow import random_state
from quenched.numerics.two_layer.fluctuations import fluctuations
from quenched.sim.drawing.captions import listed, of_network, of_rule, sizes
from quenched.sim.drawing.style import (
    LEVEL,
    PAGE,
    TIME,
    cues,
    key,
    letters,
    marker,
    ordered,
    power_of_ten,
    styled,
)
from quenched.sim.fluctuations import learning_times, log_law, moments, plateau
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

MIXTURE, NETWORK, SGD = Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(lr=0.5)
SIZES = {10: 16_000, 30: 8000, 100: 4000, 1000: 2000, 10_000: 1000}  # runs by D
FLAT = Mixture.xor(0.5), TwoLayer(2, "abs"), OnlineSGD(lr=0.5, second_lr=0.0)  # the plateau
READOUT, START_D = [1.0, -1.0], 1000  # of the plateau; of the state
START, LEVEL_LEARNED, LATEST = 1, 0.5, 200.0  # seed of the state; the overlap that counts as learned; by when
POINTS = 256  # of the law of the learning time
COUNTS = {100: 1000, 1000: 600, 10_000: 200, 100_000: 40}
SHOWN = {"M[0,0]": "$M_{11}$", "Q[0,0]": "$Q_{11}$", "Q[0,1]": "$Q_{12}$", "v[0]": "$v_1$"}


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Moments for each D of the first problem, learning times for each D of the second."""
    import xarray as xr

    state, times = random_state(MIXTURE, NETWORK, START_D, START), np.linspace(0.5, 10, 20)
    jobs = [(MIXTURE, NETWORK, SGD, D, times, range(runs), state) for D, runs in SIZES.items()]
    found = dict(zip(SIZES, work.part(0, 0.5).map(moments, jobs), strict=True))
    theory = work.once(fluctuations, MIXTURE, NETWORK, SGD, state, np.linspace(0, 10, 41))
    flat = plateau(*FLAT, READOUT)
    slow = work.part(0.5, 1).map(_learned, [(D, runs, flat) for D, runs in sorted(COUNTS.items(), reverse=True)])
    time = np.full((len(COUNTS), max(COUNTS.values())), np.nan)
    for row, values in zip(time, reversed(slow), strict=True):
        row[: len(values)] = values
    noise, even, frozen = FLAT
    problem = provenance(mixture=noise, network=even, sgd=frozen, initial_state=flat)
    learning = xr.Dataset({"learning_time": (("D", "run"), time)}, coords={"D": list(COUNTS)}, attrs=problem)
    law = work.once(_law, flat)
    return {f"D{D}": each for D, each in found.items()} | {
        "theory": theory,
        "plateau": described(learning),
        "law": described(law),
    }


def _learned(D: int, runs: int, flat: OrderParameters) -> np.ndarray:
    return learning_times(*FLAT, D, range(runs), flat, level=LEVEL_LEARNED, t=LATEST)


def _law(flat: OrderParameters) -> xr.Dataset:
    """The law of the learning time in theory, at points of it, and how it moves with ln D."""
    import xarray as xr

    law = exit_time(*FLAT, flat, START_D, threshold=LEVEL_LEARNED, samples=POINTS)
    found = {"mean": law.mean, "mean_error": law.mean_error, "log_slope": law.log_slope}
    return xr.Dataset({"learning_time": ("point", law.times)}, attrs=law.attrs | provenance(**found))


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Variances against t and against D; the time a plateau takes, its mean and its law."""
    figure = Figure(figsize=(PAGE, 5.2), layout="constrained")
    (path, limit), (mean_time, law) = figure.subplots(2, 2)
    letters((path, limit, mean_time, law))
    _variances(path, limit, {D: data[f"D{D}"] for D in SIZES}, data["theory"])
    _plateau(mean_time, law, data["plateau"].learning_time, data["law"])
    return figure


def _plateau(mean_time: Axes, law: Axes, times: xr.DataArray, theory: xr.Dataset) -> None:
    """The mean learning time against D, and its law with the part that grows with D taken off."""
    slope, expected, uncertain = (json.loads(theory.attrs[name]) for name in ("log_slope", "mean", "mean_error"))
    offset = expected - slope * np.log(START_D)
    mean, error = times.mean("run"), times.std("run", ddof=1) / np.sqrt(times.notnull().sum("run"))
    line = slope * np.log(mean.D) + offset
    mean_time.plot(mean.D, line, color="0.0", label=r"theory, $\ln D/(2\lambda) + \mathrm{const}$")
    mean_time.fill_between(mean.D, line - uncertain, line + uncertain, color="0.0", alpha=0.15, lw=0)
    look = dict(zip(mean.D.values.tolist(), ordered(mean.sizes["D"]), strict=True))
    for D, cue in look.items():
        mean_time.errorbar(D, mean.sel(D=D), error.sel(D=D), **cue.point)
        law.step(*_shares(times.sel(D=D).dropna("run").values, slope * np.log(D)), color=cue.colour, ls=cue.dashes)
    law.step(*_shares(theory.learning_time.values, slope * np.log(START_D)), **LEVEL)
    mean_time.set(xscale="log", xlabel="dimension $D$", ylabel="learning time $t$")
    mean_time.legend(loc="upper left")
    law.set(xlabel=r"learning time $t - \ln D/(2\lambda)$", ylabel="fraction of runs", ylim=(0, 1))
    handles = [key(cue, f"$D = {power_of_ten(D)}$", point=False) for D, cue in look.items()]
    law.legend(handles=[*handles, Line2D([], [], label="theory", **LEVEL)], loc="lower right")


def _shares(times: np.ndarray, growth: float) -> tuple[np.ndarray, np.ndarray]:
    """Times without what grows with D, and the fraction of them by then."""
    return np.sort(times) - growth, np.arange(1, len(times) + 1) / len(times)


def _variances(path: Axes, limit: Axes, found: Mapping[int, xr.Dataset], theory: xr.Dataset) -> None:
    """D Var of the components against t, and at the end against D; the theory is the limit D -> infinity."""
    dimensions = sorted(found)
    shapes = dict(zip(dimensions, "os^Dv", strict=False))
    for i, (cue, (component, symbol)) in enumerate(zip(cues(len(SHOWN)), SHOWN.items(), strict=True)):
        at = {"component": component, "component_": component}
        line = theory.sel(at)
        path.plot(line.time, line.covariance, **cue.line)
        for D, shape in shapes.items():
            some = found[D].sel(at).isel(time=slice(1, None, 3))
            path.errorbar(some.time, some.covariance, some.covariance_error, **cue.point | {"marker": shape})
        end = [found[D].sel(at).isel(time=-1) for D in dimensions]
        last = float(line.covariance.sel(time=float(end[0].time)))
        values, errors = (np.array([float(e[name]) for e in end]) / last for name in ("covariance", "covariance_error"))
        limit.errorbar(np.array(dimensions) * 1.12**i, values, errors, label=symbol, **cue.point)
        path.annotate(symbol, (1, float(line.covariance[-1])), (3, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", color=cue.colour, annotation_clip=False)  # fmt: skip
    keys = [path.plot([], [], color="0.0", label="theory")[0]]
    keys += [marker("0.0", f"$D = {power_of_ten(D)}$", shape) for D, shape in shapes.items()]
    path.legend(handles=keys, loc="upper left")
    path.set(xlabel=TIME, ylabel=r"$D\,\mathrm{Var}$", ylim=(0, None), xlim=(0, 1.03 * float(theory.time[-1])))
    limit.axhline(1, **LEVEL)
    limit.set(xscale="log", xlabel="dimension $D$", ylabel=r"$D\,\mathrm{Var}$, relative to theory")
    limit.set_title(f"$t = {float(theory.time[-1]):g}$")
    limit.legend(loc="best", ncols=2)


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    runs = listed(f"{runs} (D = {D})" for D, runs in SIZES.items())
    counts = listed(f"{runs} (D = {D})" for D, runs in COUNTS.items())
    flat, network, rule = FLAT
    left = sum(COUNTS.values()) - int(data["plateau"].learning_time.notnull().sum())
    late = f"{left} that have not learned by t = {LATEST:g} are left out" if left else f"all learn by t = {LATEST:g}"
    return (
        "Fluctuations at finite D.  (a) Variance over runs, times D, of the order parameters of a "
        f"{of_network(NETWORK)}, on XOR, σ = {MIXTURE.sigma:g}, {of_rule(SGD)}, all from one state, of seed {START} in "
        f"dimension {START_D}, against time in units of D steps; (b) the same at the end relative to theory.  Lines "
        "and grey band are theory, the covariance to order 1/D; points are simulations, the exact finite-D chain at D "
        f"= {sizes(SIZES)}, ± standard error, of {runs} runs, shifted sideways in (b).  (c) Mean learning time from "
        f"the plateau M = 0, v = {listed(READOUT)}, of a {of_network(network)}, on XOR, σ = {flat.sigma:g}, "
        f"{of_rule(rule)}: when every neuron has an overlap |M_ak| >= {LEVEL_LEARNED:g}; points: the chain, mean ± "
        f"standard error of {counts} runs ({late}); line: ln D/(2 λ) + const, rate λ and constant of theory, which "
        f"follows the equations from {POINTS} points of the law of the fluctuations; band: its standard error.  "
        "(d) Distribution of the learning time over the same runs, shifted by ln D/(2 λ): as D grows one law, which "
        "theory (grey) gives.  Seeds are 0, 1, 2, .. in each."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The slope of the learning time against ln D, measured and expected."""
    times, law = data["plateau"].learning_time, data["law"]
    slope, error = log_law(times)
    growth, mean, uncertain = (json.loads(law.attrs[name]) for name in ("log_slope", "mean", "mean_error"))
    off = times.mean("run") - mean - growth * np.log(times.D / START_D)
    spread = times.var("run", ddof=1) / times.notnull().sum("run")
    worst = float((np.abs(off) / np.sqrt(spread + uncertain**2)).max())
    found = [(data[f"D{D}"].isel(time=-1), data["theory"]) for D in SIZES]
    z = []
    for run, theory in found[-2:]:  # at smaller D the corrections of order 1/D are seen
        for name in SHOWN:
            at = {"component": name, "component_": name}
            one, exact = run.sel(at), theory.sel(at).sel(time=float(run.time))
            spread = np.hypot(float(one.covariance_error), float(exact.covariance_error))
            z.append((float(one.covariance) - float(exact.covariance)) / spread)
    return (
        f"D Var against theory: at the largest two D the largest of {len(z)} deviations at the end is "
        f"{np.abs(z).max():.1f} standard errors; on the plateau of |x| networks the learning time grows by {slope:.3f} "
        f"± {error:.3f} per unit of ln D, {growth:.3f} in theory, and its means are within {worst:.1f} standard errors "
        "of theory."
    )
