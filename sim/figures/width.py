"""Figure `width`: how often, how soon and how well networks of K neurons learn, from many random states.

With few neurons many initial states lead to a poor fixed point; wider networks succeed more often and sooner, and end
at about the same error.  Learning is followed by the equations for D -> infinity: the gradient flow (eta -> 0) for any
K, in closed form; online SGD up to K = 12, where its noise is exact.  D enters by the random initial states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from quenched.numerics.problem.state import without_spectrum
from quenched.numerics.problem.variables import described
from quenched.numerics.two_layer.attractor import path
from quenched.numerics.two_layer.drift import CLOSED_FORM_NEURONS
from quenched.numerics.two_layer.errors import Errors, errors
from quenched.numerics.two_layer.fixed_points import binomial_error
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.drawing.captions import listed, of_rule, of_seeds
from quenched.sim.drawing.style import LEVEL, PAGE, cues, key, letters, log_ticks, styled
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Runs", "caption", "compute", "draw", "sentence", "widths"]

Array = npt.NDArray[np.float64]

_TIMES = 400  # at which the path is kept, spaced evenly in log(1 + t)


@dataclass(frozen=True)
class Runs:
    """How networks of each width are run, from `random_state(..., D, seed, weight_scale=scale)` for each of `seeds`.

    `scales`: of the initial weights, w_k ~ N(0, scale^2 1), and of the readout, v_k ~ N(0, scale^2/K).  A run succeeds
    if its classification error is within `margin` of the oracle's at time `t`.
    """

    K: Sequence[int]
    seeds: Sequence[int]
    t: float
    scales: Sequence[float] = (1.0,)
    D: int = 1000
    margin: float = 0.02

    def __post_init__(self) -> None:
        checked: dict[str, Any] = {
            "seeds": [integer("seeds", seed) for seed in self.seeds],
            "K": [integer("K", k, at_least=1) for k in self.K],
            "scales": finite_array("scales", self.scales, (None,)).tolist(),
            "t": number("t", self.t, positive=True),
            "D": integer("D", self.D, at_least=1),
            "margin": number("margin", self.margin, positive=True),
        }
        if not checked["seeds"] or not checked["K"]:
            raise ValueError(f"seeds and K must be one or more integers, got {checked['seeds']} and {checked['K']}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)


def widths(mixture: Mixture, activation: str, sgd: LearningRule, runs: Runs, work: Work | None = None) -> xr.Dataset:
    """Success, time and final error of networks with K neurons; `time` is when the error becomes small.

    It is found by bisection between the end, where the error is small, and the start: of several times at which it
    becomes small, one.  It is one of 400 times, at steps of 1 to 2 % of 1 + t up to t = 1000.

    For K > 12, `sgd` must be the `GradientFlow`.

    Returns a dataset over K, scale, initial (the seeds): final_error, final_error_error, final_pmse, learning_time (NaN
    without success); over K, scale: success, the fraction of runs, success_error, its `binomial_error`,
    median_time of the runs that succeed; and `oracle`.

    ValueError: bad input by name and value.  Runs that blow up raise `IntegrationError`.
    """
    import xarray as xr

    names, sizes, spread = runs.seeds, runs.K, runs.scales
    if not isinstance(sgd, GradientFlow) and max(sizes) > CLOSED_FORM_NEURONS:
        raise ValueError(
            f"K must be <= {CLOSED_FORM_NEURONS} for SGD, got {max(sizes)}: its noise is sampled beyond; take "
            "GradientFlow(), which is exact for every K"
        )
    target = float(oracle_error(mixture)) + runs.margin
    jobs = [
        (mixture, TwoLayer(k, activation), sgd, seed, runs.t, scale, runs.D, target)
        for k in sizes
        for scale in spread
        for seed in names
    ]
    found = np.array((work or Work()).map(_run, jobs)).reshape(len(sizes), len(spread), len(names), 4)
    cells, dims = ("K", "scale"), ("K", "scale", "initial")
    times = found[..., 3]
    succeeded = np.isfinite(times)
    success = succeeded.mean(axis=-1)
    median = np.full(success.shape, np.nan)
    for cell in np.argwhere(success > 0):
        median[tuple(cell)] = np.median(times[tuple(cell)][succeeded[tuple(cell)]])
    return described(
        xr.Dataset(
            {
                "final_error": (dims, found[..., 0]),
                "final_error_error": (dims, found[..., 1]),
                "final_pmse": (dims, found[..., 2]),
                "learning_time": (dims, times),
                "success": (cells, success),
                "success_error": (cells, binomial_error(success, len(names))),
                "median_time": (cells, median),
                "oracle": target - runs.margin,
            },
            coords={"K": sizes, "scale": spread, "initial": names},
            attrs=provenance(
                mixture=mixture,
                activation=activation,
                sgd=sgd,
                rule=type(sgd).__name__,
                t=runs.t,
                D=runs.D,
                margin=runs.margin,
            ),
        )
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
    start = without_spectrum(random_state(mixture, network, D, seed, weight_scale=scale, readout_scale=scale))
    times = np.expm1(np.linspace(0, np.log1p(t), _TIMES))
    states = path(mixture, network, sgd, start, times)

    def measured(i: int) -> Errors:
        return errors(mixture, network, states[i], tolerance=1e-4)

    final = measured(-1)
    reached = np.nan
    if final.classification_error <= target:
        late, early = _TIMES - 1, 0  # the error becomes small somewhere in between: bisection
        while late - early > 1:
            middle = (late + early) // 2
            if measured(middle).classification_error <= target:
                late = middle
            else:
                early = middle
        reached = times[late]
    return final.classification_error, final.classification_error_error, final.pmse, float(reached)


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Success, time of success and final error against K, a colour and a marker for each scale of the initial state.

    Every run is a small marker; nothing is joined by lines, for there are no networks between K and K + 1.
    """
    study = data[""]
    canvas = Figure(figsize=(PAGE, 2.5), layout="constrained")
    success, time, final = canvas.subplots(1, 3, sharex=True)
    letters((success, time, final))
    scales = study.scale.values
    shift = 0.07 * (np.arange(len(scales)) - (len(scales) - 1) / 2)
    look = dict(zip(scales.tolist(), cues(len(scales)), strict=True))
    for (scale, cue), offset in zip(look.items(), shift, strict=True):
        cell = study.sel(scale=scale)
        K = cell.K.values * np.exp(offset)
        share, error = cell.success.values, cell.success_error.values
        reach = np.minimum(error, [share, 1 - share])  # a probability lies between 0 and 1
        success.errorbar(K, share, reach, **cue.point)
        for axes, values in ((time, cell.learning_time.values), (final, cell.final_error.values)):
            cloud = {"color": cue.colour, "marker": cue.marker, "ls": "", "ms": 1.8, "alpha": 0.35, "mew": 0}
            axes.plot(np.repeat(K, values.shape[1]), values.ravel(), **cloud)
        some = cell.success.values > 0
        if some.any():
            quartiles = np.nanquantile(cell.learning_time.values[some], (0.25, 0.5, 0.75), axis=1)
            time.errorbar(K[some], quartiles[1], np.abs(quartiles[[0, 2]] - quartiles[1]), **cue.point)
            learned = np.where(np.isfinite(cell.learning_time.values), cell.final_error.values, np.nan)[some]
            final.plot(K[some], np.nanmedian(learned, axis=1), **cue.dot)
    final.axhline(float(study.oracle), **LEVEL)
    final.text(float(study.K[-1]), 0.85 * float(study.oracle), "oracle", ha="right", va="top", color="0.3")
    success.set(xscale="log", ylabel="probability of success", ylim=(-0.05, 1.05))
    time.set(ylabel="time of success $t$", yscale="log")
    log_ticks(time.yaxis)
    final.set(ylabel="final classification error", ylim=(0, None))
    success.legend(handles=[key(cue, f"initial scale {scale:g}", line=False) for scale, cue in look.items()])
    for axes in (success, time, final):
        axes.set_xlabel("neurons $K$")
        axes.xaxis.set_major_locator(FixedLocator(study.K.values.tolist()))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    return canvas


MIXTURE, RULE, T = Mixture.xor(0.4), GradientFlow(weight_decay=1e-3), 200.0
NARROW = Runs((2, 3, 4, 5, 6, 8, 12), range(20), T, (0.3, 1.0))
BROAD = Runs((24, 48, 100), range(2), T, (0.3, 1.0))


def compute(work: Work) -> dict[str, xr.Dataset]:
    """relu networks on XOR under gradient flow, narrow ones from many states and wide ones from two."""
    import xarray as xr

    studies = [
        widths(MIXTURE, "relu", RULE, runs, work.part(i / 2, (i + 1) / 2)) for i, runs in enumerate((NARROW, BROAD))
    ]
    return {"": xr.concat(studies, "K", data_vars="minimal", join="outer", combine_attrs="drop_conflicts")}


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    oracle = float(data[""].oracle)
    return (
        f"Two-layer relu networks of K neurons on XOR, means of length 1, σ = {MIXTURE.sigma:g}, {of_rule(RULE)}.  All "
        f"is theory: the equations for D → ∞, followed to t = {T:g} (in units of 1/η times D steps) from random states "
        f"in dimension {NARROW.D}, w_k ~ N(0, s^2), v_k ~ N(0, s^2/K), of scale s = {listed(NARROW.scales)}; for each "
        f"s and K up to {max(NARROW.K)}: {of_seeds(NARROW.seeds)}, for K = {listed(BROAD.K)}: {of_seeds(BROAD.seeds)}. "
        f" (a) Fraction that succeed, with an error within {NARROW.margin:g} of the oracle's, {oracle:.4f}, at the "
        "end, ± its binomial error.  (b) When the error falls below that, found by bisection in time: every run that "
        "succeeds, median and quartiles.  (c) Final error: every run, and the median of those that succeed; grey band: "
        "oracle."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """How often networks of each width succeed."""
    cell = data[""].sel(scale=1.0)
    table = ", ".join(
        f"{float(p):.2f} ± {float(e):.2f} (K = {int(k)})"
        for k, p, e in zip(cell.K, cell.success, cell.success_error, strict=True)
    )
    return f"relu on XOR, sigma = {MIXTURE.sigma}, gradient flow to t = {T:g}: probability of success {table}."
