"""Figure `fluctuations`: variances of the order parameters times D, which converge, and the time that a plateau takes.

Top: relu, K = 2, on XOR, all runs from one state.  Bottom, the plateau: |x|, K = 2, with a fixed readout, where M = 0
is a fixed point and only the fluctuations of finite D lead away from it: the learning time grows as log D.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.drawing.style import BLUE, LEVEL, POINT, TIME, cues, marker, shades, styled
from quenched.sim.fluctuations import growth_rate, learning_times, log_law, moments, plateau
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "sentence"]

MIXTURE, NETWORK, SGD = Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(lr=0.5)
SIZES = {10: 16_000, 30: 8000, 100: 4000, 1000: 2000, 10_000: 1000}  # runs by D
FLAT = Mixture.xor(0.5), TwoLayer(2, "abs"), OnlineSGD(lr=0.5, second_lr=0.0)  # the plateau
COUNTS = {100: 1000, 1000: 600, 10_000: 200, 100_000: 40}
SHOWN = {"M[0,0]": "$M_{11}$", "Q[0,0]": "$Q_{11}$", "Q[0,1]": "$Q_{12}$", "v[0]": "$v_1$"}


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Moments for each D of the first problem, learning times for each D of the second."""
    import xarray as xr

    state, times = random_state(MIXTURE, NETWORK, 1000, 1), np.linspace(0.5, 10, 20)
    jobs = [(MIXTURE, NETWORK, SGD, D, times, range(runs), state) for D, runs in SIZES.items()]
    found = dict(zip(SIZES, work.part(0, 0.5).map(moments, jobs), strict=True))
    flat = plateau(*FLAT, [1.0, -1.0])
    slow = work.part(0.5, 1).map(_learned, [(D, runs, flat) for D, runs in sorted(COUNTS.items(), reverse=True)])
    time = np.full((len(COUNTS), max(COUNTS.values())), np.nan)
    for row, values in zip(time, reversed(slow), strict=True):
        row[: len(values)] = values
    noise, even, frozen = FLAT
    learning = xr.Dataset(
        {"learning_time": (("D", "run"), time)},
        coords={"D": list(COUNTS)},
        attrs=provenance(
            mixture=noise, network=even, sgd=frozen, initial_state=flat, growth_rate=growth_rate(*FLAT, flat)
        ),
    )
    return {f"D{D}": each for D, each in found.items()} | {"plateau": described(learning)}


def _learned(D: int, runs: int, flat: OrderParameters) -> np.ndarray:
    return learning_times(*FLAT, D, range(runs), flat, level=0.5, t=200.0)


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Variances against t and against D; the time a plateau takes, its mean and its law."""
    figure = Figure(figsize=(7.4, 6.2), layout="constrained")
    (path, limit), (plateau_, law) = figure.subplots(2, 2)
    _variances(path, limit, {D: data[f"D{D}"] for D in SIZES})
    learning = data["plateau"]
    rate = json.loads(learning.attrs["growth_rate"])
    number = learning.learning_time.notnull().sum("run")
    mean = learning.learning_time.mean("run")
    error = learning.learning_time.std("run", ddof=1) / np.sqrt(number)
    offset = float(((mean - np.log(mean.D) / (2 * rate)) / error**2).sum() / (1 / error**2).sum())
    plateau_.plot(mean.D, np.log(mean.D) / (2 * rate) + offset, color="0.0", label=r"$\ln D/(2\lambda)$ + const")
    plateau_.errorbar(mean.D, mean, error, color=BLUE, label="chain, mean ± s.e.", **POINT)
    plateau_.set(xscale="log", xlabel="dimension  D", ylabel="learning time")
    plateau_.legend(loc="upper left")
    for cue, colour, D in zip(cues(len(mean)), shades(len(mean)), mean.D.values, strict=True):
        shifted = np.sort(learning.learning_time.sel(D=D).dropna("run").values) - np.log(D) / (2 * rate)
        share = np.arange(1, len(shifted) + 1) / len(shifted)
        law.step(shifted, share, where="post", color=colour, ls=cue.dashes, label=f"$D={D}$")
    law.set(xlabel=r"learning time $-\ \ln D/(2\lambda)$", ylabel="fraction of runs", ylim=(0, 1))
    law.legend(loc="lower right")
    return figure


def _variances(path: Axes, limit: Axes, found: Mapping[int, xr.Dataset]) -> None:
    """D Var of the components against t, and at the end against D."""
    sizes, last = sorted(found), found[max(found)]
    shapes = dict(zip(sizes[:-1], "os^Dv", strict=False))
    for i, (cue, (component, symbol)) in enumerate(zip(cues(len(SHOWN)), SHOWN.items(), strict=True)):
        at = {"component": component, "component_": component}
        path.plot(last.time, last.covariance.sel(at), **cue.line)
        for D, shape in shapes.items():
            some = found[D].sel(at).isel(time=slice(1, None, 2))
            path.errorbar(some.time, some.covariance, some.covariance_error, **cue.point | {"marker": shape})
        end = [found[D].sel(at).isel(time=-1) for D in sizes]
        values, errors = (np.array([float(e[key]) for e in end]) for key in ("covariance", "covariance_error"))
        x = np.array(sizes) * 1.1**i
        limit.errorbar(x, values / values[-1], errors / values[-1], label=symbol, **cue.point)
    keys = [path.plot([], [], color="0.0", label=f"$D = {sizes[-1]}$")[0]]
    keys += [marker("0.0", str(D), shape) for D, shape in shapes.items()]
    path.legend(handles=keys, loc="upper left")
    path.set(xlabel=TIME, ylabel=r"$D\,\mathrm{Var}$", ylim=(0, None))
    limit.axhline(1, **LEVEL)
    limit.set(xscale="log", xlabel="dimension  D", ylabel=rf"$D\,\mathrm{{Var}}$, relative to $D={sizes[-1]}$")
    limit.set_title(f"t = {float(last.time[-1]):g}")
    limit.legend(loc="upper right", ncols=2)


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The slope of the learning time against ln D, measured and expected."""
    learning = data["plateau"]
    slope, error = log_law(learning.learning_time)
    return (
        f"D Var of relu networks converges; on the plateau of |x| networks the learning time grows by {slope:.3f} ± "
        f"{error:.3f} per unit of ln D, {1 / (2 * json.loads(learning.attrs['growth_rate'])):.3f} by the growth rate "
        "of the equations."
    )
