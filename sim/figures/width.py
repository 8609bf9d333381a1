"""Width: how often, how soon and how well networks of K neurons learn, from many random states.

With few neurons many initial states lead to a poor fixed point; wider networks succeed more often and sooner, and end
at about the same error.  Learning is followed by the equations for D -> infinity: the gradient flow (eta -> 0) for any
K, in closed form; online SGD up to K = 12, where its noise is exact.  D enters by the random initial states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, StrMethodFormatter

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.checks import finite_array, integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import GradientFlow, LearningRule
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.drift import CLOSED_FORM_NEURONS
from quenched.numerics.two_layer.errors import Errors, errors
from quenched.numerics.two_layer.fixed_points import binomial_error, path
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.error_curve import in_processes
from quenched.sim.figures import plot

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIGURES", "figure", "widths"]

Report = Callable[[float], None]
Array = npt.NDArray[np.float64]

_TIMES = 400  # at which the path is kept, spaced evenly in log(1 + t)


def widths(
    mixture: Mixture,
    activation: str,
    sgd: LearningRule,
    K: Sequence[int],
    seeds: Sequence[int],
    *,
    t: float,
    scales: Sequence[float] = (1.0,),
    D: int = 1000,
    margin: float = 0.02,
    processes: int = 1,
    progress: Report | None = None,
) -> xr.Dataset:
    """Success, time and final error of networks with K neurons, from `random_state(..., D, seed, weight_scale=scale)`.

    `scales`: of the initial weights, w_k ~ N(0, scale^2 1), and of the readout, v_k ~ N(0, scale^2/K).  A run succeeds
    if its classification error is within `margin` of the oracle's at time `t`; `time` is when it first was for good,
    between two of 400 recorded times: to 1 %.  For K > 12, `sgd` must be the `GradientFlow`.

    Returns a dataset over K, scale, initial (the seeds): final_error, final_error_estimate, final_pmse, time (NaN
    without success); over K, scale: success, the fraction of runs, success_error, its `binomial_error`,
    median_time of the runs that succeed; and `oracle`.

    ValueError: bad input by name and value.  Runs that blow up raise `IntegrationError`.
    """
    import xarray as xr

    names = [integer("seeds", seed) for seed in seeds]
    sizes = [integer("K", k, at_least=1) for k in K]
    spread = finite_array("scales", scales, (None,))
    if not names or not sizes:
        raise ValueError(f"seeds and K must be one or more integers, got {names} and {sizes}")
    if sgd.diffusion and max(sizes) > CLOSED_FORM_NEURONS:
        raise ValueError(
            f"K must be <= {CLOSED_FORM_NEURONS} for SGD, got {max(sizes)}: its noise is sampled beyond; take "
            "GradientFlow(), which is exact for every K"
        )
    target = float(oracle_error(mixture)) + number("margin", margin, positive=True)
    end, D = number("t", t, positive=True), integer("D", D, at_least=1)
    jobs = [
        (mixture, TwoLayer(k, activation), sgd, seed, end, scale, D, target)
        for k in sizes
        for scale in spread.tolist()
        for seed in names
    ]
    runs = np.array(in_processes(_run, jobs, processes, progress)).reshape(len(sizes), len(spread), len(names), 4)
    cells, dims = ("K", "scale"), ("K", "scale", "initial")
    times = runs[..., 3]
    succeeded = np.isfinite(times)
    success = succeeded.mean(axis=-1)
    median = np.full(success.shape, np.nan)
    for cell in np.argwhere(success > 0):
        median[tuple(cell)] = np.median(times[tuple(cell)][succeeded[tuple(cell)]])
    return xr.Dataset(
        {
            "final_error": (dims, runs[..., 0]),
            "final_error_estimate": (dims, runs[..., 1]),
            "final_pmse": (dims, runs[..., 2]),
            "time": (dims, times),
            "success": (cells, success),
            "success_error": (cells, binomial_error(success, len(names))),
            "median_time": (cells, median),
            "oracle": target - margin,
        },
        coords={"K": sizes, "scale": spread, "initial": names},
        attrs=provenance(
            mixture=mixture, activation=activation, sgd=sgd, rule=type(sgd).__name__, t=t, D=D, margin=margin
        ),
    )


def _run(
    mixture: Mixture,
    network: TwoLayer,
    sgd: LearningRule,
    seed: int,
    t: float,
    scale: float,
    D: int,
    target: float,
) -> tuple[float, float, float, float]:
    """Final classification error and its numerical error, final pmse, time of success or NaN."""
    start = random_state(mixture, network, D, seed, weight_scale=scale, readout_scale=scale)
    assert isinstance(start, OrderParameters)
    times = np.expm1(np.linspace(0, np.log1p(t), _TIMES))
    states = path(mixture, network, sgd, start, times)

    def measured(i: int) -> Errors:
        return errors(mixture, network, states[i], tolerance=1e-4)

    final = measured(-1)
    reached = np.nan
    if final.classification_error <= target:
        late, early = _TIMES - 1, 0  # the last time at which the error is too large is in between: bisection
        while late - early > 1:
            middle = (late + early) // 2
            if measured(middle).classification_error <= target:
                late = middle
            else:
                early = middle
        reached = times[late]
    return final.classification_error, final.error_estimate, final.pmse, float(reached)


@mpl.rc_context(plot.STYLE)
def figure(study: xr.Dataset) -> Figure:
    """Success, time of success and final error against K, one colour for each scale of the initial state."""
    canvas = Figure(figsize=(9.4, 3.1), layout="constrained")
    success, time, final = canvas.subplots(1, 3, sharex=True)
    scales = study.scale.values
    colours = [plot.BLUE, plot.ORANGE, plot.GREEN, plot.PINK, plot.YELLOW, plot.SKY]
    shift = 0.04 * (np.arange(len(scales)) - (len(scales) - 1) / 2)
    for scale, colour, offset in zip(scales, colours, shift, strict=False):
        cell = study.sel(scale=scale)
        K = cell.K.values * np.exp(offset)
        label = f"initial scale {scale:g}"
        success.errorbar(K, cell.success, cell.success_error, color=colour, label=label, marker="o", ms=3.4)
        every, some = cell.final_error.values, cell.success.values > 0
        if some.any():
            quartiles = np.stack([np.nanquantile(row, (0.25, 0.5, 0.75)) for row in cell.time.values[some]], axis=1)
            reach = np.abs(quartiles[[0, 2]] - quartiles[1])
            time.errorbar(K[some], quartiles[1], reach, color=colour, marker="o", ms=3.4)
            good = [np.median(e[np.isfinite(t)]) for e, t in zip(every[some], cell.time.values[some], strict=True)]
            final.plot(K[some], good, color=colour)
        final.plot(
            np.repeat(K, every.shape[1]), every.ravel(), ls="", marker="o", ms=2.4, color=colour, alpha=0.35, mew=0
        )
    final.axhline(float(study.oracle), **plot.LEVEL)
    final.text(float(study.K[-1]), 0.9 * float(study.oracle), "oracle", ha="right", va="top", color="0.25")
    success.set(xscale="log", ylabel="probability of success", ylim=(-0.03, 1.03))
    time.set(ylabel="time of success,  median and quartiles", ylim=(0, None))
    final.set(ylabel="final classification error", ylim=(0, None))
    success.legend()
    for axes in (success, time, final):
        axes.set_xlabel("neurons $K$")
        axes.xaxis.set_major_locator(FixedLocator(study.K.values.tolist()))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return canvas


def _width(folder: Path, processes: int, progress: Report) -> str:
    """Success, time and final error of relu networks on XOR against their width, under gradient flow."""
    mixture, rule, t = Mixture.xor(0.4), GradientFlow(weight_decay=1e-3), 200.0
    narrow = widths(
        mixture,
        "relu",
        rule,
        (2, 3, 4, 5, 6, 8, 12),
        range(20),
        t=t,
        scales=(0.3, 1.0),
        processes=processes,
        progress=lambda fraction: progress(fraction / 2),
    )
    wide = widths(
        mixture,
        "relu",
        rule,
        (24, 48, 100),
        range(2),
        t=t,
        scales=(0.3, 1.0),
        processes=processes,
        progress=lambda fraction: progress((1 + fraction) / 2),
    )
    import xarray as xr

    study = xr.concat([narrow, wide], "K", data_vars="minimal", join="outer", combine_attrs="drop_conflicts")
    study.to_netcdf(folder / "width.nc", engine="h5netcdf")
    plot.save(figure(study), folder / "width.png")
    cell = study.sel(scale=1.0)
    table = ", ".join(
        f"{float(p):.2f} ± {float(e):.2f} (K = {int(k)})"
        for k, p, e in zip(cell.K, cell.success, cell.success_error, strict=True)
    )
    return f"relu on XOR, sigma = {mixture.sigma}, gradient flow to t = {t:g}: probability of success {table}."


FIGURES: dict[str, Callable[[Path, int, Report], str]] = {"width": _width}
