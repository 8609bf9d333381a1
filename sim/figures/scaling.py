"""Figure `scaling`: power laws of linear students on random features, their phases, fitted exponents and SGD.

The inputs have eigenvalues j^(-2a), the target coefficients j^(-b); P features learn by one-pass SGD.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quenched.numerics.course.linear import linear_mean
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.numerics.scaling.equivalent import power_law_risk
from quenched.numerics.scaling.exponents import Exponent, compute_frontier, fit_exponent, scaling_exponents
from quenched.numerics.scaling.power_law import PowerLaw, power_law_problem
from quenched.sim.drawing.captions import listed, of_seeds, sizes
from quenched.sim.drawing.style import PAGE, cues, key, letters, marker, mean_and_error, ordered, power_of_ten, styled
from quenched.sim.processes import Work
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

RATIO, RATE = 4, 0.1  # D/P; lr over the largest stable one
PATH = PowerLaw(1.25, 0.75, inputs=RATIO * 100, features=100, rate=RATE)  # of the first panel
SIZES, STEPS = (100, 1000, 10**4, 10**5), np.geomspace(1e1, 1e10, 91)
MEASURED, SEEDS = np.array([10, 30, 100, 300, 1000, 3000, 10**4, 30_000]), range(20)  # steps; one draw of features each
POINTS = {"Ia": (1.0, 0.25), "II": (1.25, 0.75), "III": (0.75, 1.5), "IVa": (0.4, 0.8)}  # (a, b) of the second panel
COMPUTE, FIRST = np.geomspace(1e6, 1e24, 37), 1e16  # of the frontier; fits begin at
_EDGES = 0.25, 1 - 0.5**0.5  # of phase IVb
PHASE_A, PHASE_B = np.linspace(0.01, 1.5, 150), np.linspace(0.005, 1.995, 200)
NAMED = {"Ia": (1.0, 0.2), "Ib": (0.37, 0.36), "Ic": (0.125, 1.2), "II": (1.2, 0.85), "III": (0.8, 1.5),
         "IVa": (0.4, 1.2), "IVb": (0.27, 1.2)}  # fmt: skip


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Risks along SGD at each size, frontiers of each phase, runs at the smallest size, exponents over the plane."""
    import xarray as xr

    laws = [replace(PATH, features=P, inputs=RATIO * P) for P in SIZES]
    paths = work.part(0, 0.1).map(power_law_risk, [(law, STEPS) for law in laws])
    runs = work.part(0.1, 0.5).map(measured, [(seed,) for seed in SEEDS])
    fronts = work.part(0.5, 1).map(frontier, [(a, b) for a, b in POINTS.values()])
    found = {f"P{P}": each for P, each in zip(SIZES, paths, strict=True)}
    found |= dict(zip(POINTS, fronts, strict=True))
    found["runs"] = xr.concat(runs, xr.Variable("seed", list(SEEDS)), combine_attrs="drop_conflicts")
    return found


def measured(seed: int) -> xr.Dataset:
    """E[(phi - y)^2] of one run on features of its own, and the mean over runs on these features."""
    import xarray as xr

    problem = power_law_problem(PATH, seed)
    P, noise = PATH.parameters, problem.rule.label_noise**2
    times = MEASURED / P
    run = simulate(problem.mixture, problem.network, problem.rule, P, times, [seed], state=problem.state)
    mean = linear_mean(*problem, times, D=P)
    values = {"risk": 2 * run.pmse.isel(seed=0).values + noise, "theory": 2 * mean.pmse.values + noise}
    dataset = xr.Dataset(
        {name: ("step", value) for name, value in values.items()}, {"step": MEASURED}, provenance(law=PATH, seed=seed)
    )
    return described(dataset)


def frontier(a: float, b: float) -> xr.Dataset:
    """The least risk against compute at a point of the plane."""
    size = scaling_exponents(a, b).optimal_size
    ends = np.log10(COMPUTE[[0, -1]]) * size
    features = np.unique(np.geomspace(10 ** max(0.7, ends[0] - 1.5), 10 ** (ends[1] + 2.0), 48).astype(int))
    law = PowerLaw(a, b, inputs=RATIO * 100, features=100, rate=RATE)
    return compute_frontier(law, features.tolist(), COMPUTE)


def _fit(front: xr.Dataset) -> Exponent:
    """The exponent of the risk in compute, where the optimum is inside."""
    inside = front.interior.values
    return fit_exponent(front.budget.values[inside], front.risk.values[inside], window=(FIRST, float(COMPUTE[-1])))


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Risk against steps; least risk against compute; the phases."""
    figure = Figure(figsize=(PAGE, 2.7), layout="constrained")
    path, front, plane = figure.subplots(1, 3)
    letters((path, front, plane))
    _paths(path, data)
    for cue, name in zip(cues(len(POINTS)), POINTS, strict=True):
        found = data[name].sel(budget=data[name].interior)
        fit = _fit(data[name])
        front.plot(found.budget, found.risk, label=f"{name}: ${fit.value:.3f}$", **cue.dot | {"ms": 2.4})
        window = np.array(fit.window)
        front.plot(window, fit.prefactor * window**fit.value, **cue.line)
    front.set(xscale="log", yscale="log", xlabel="compute $f = P n$", ylabel="least risk over $P$")
    front.legend(loc="lower left")
    _plane(plane)
    return figure


def _paths(axes: Axes, data: Mapping[str, xr.Dataset]) -> None:
    """Risk against steps for each size, and runs at the smallest."""
    looks = ordered(len(SIZES))
    for P, cue in zip(SIZES, looks, strict=True):
        axes.plot(data[f"P{P}"].step, data[f"P{P}"].risk, **cue.line)
    mean, error = mean_and_error(data["runs"].risk)
    axes.errorbar(mean.step, mean, error, **looks[0].point)
    axes.set(xscale="log", yscale="log", xlabel="steps $n$", ylabel=r"risk $\langle(\phi - y)^2\rangle$")
    handles = [key(cue, f"$P = {power_of_ten(P)}$", point=False) for P, cue in zip(SIZES, looks, strict=True)]
    handles.append(marker(looks[0].colour, f"SGD, $P = {SIZES[0]}$", looks[0].marker))
    axes.legend(handles=handles, loc="lower left")


def _plane(axes: Axes) -> None:
    """Contours of the exponent of compute, phases by name, between the lines on which they meet."""
    grid = np.array([[_compute_exponent(a, b) for a in PHASE_A] for b in PHASE_B])
    lines = axes.contour(PHASE_A, PHASE_B, -grid, levels=np.arange(0.1, 1.0, 0.1), colors="0.6", linewidths=0.6)
    edge: dict[str, Any] = {"color": "0.0", "lw": 1.0}
    axes.plot([0, 0.5], [0.5, 0], **edge)
    axes.plot([0.5, PHASE_A[-1]], [0.5, PHASE_A[-1]], **edge)
    axes.plot([0.5, 0.5], [0, 2], **edge)
    axes.plot([0, PHASE_A[-1]], [0.5, 0.5], **edge)
    for a in _EDGES:
        axes.plot([a, a], [0.5, 2], **edge)
    for name, (a, b) in NAMED.items():
        upright: dict[str, Any] = {"rotation": 90} if name in ("Ic", "IVa", "IVb") else {}
        axes.text(a, b, name, ha="center", va="center", bbox={"fc": "white", "ec": "none", "pad": 0.6}, **upright)
    axes.set(xlabel="capacity exponent $a$", ylabel="source exponent $b$", xlim=(0, PHASE_A[-1]), ylim=(0, 2))
    rows = (np.abs(PHASE_B - b).argmin() for b in (0.22, 1.8))  # a label where a line crosses one, off the boundaries
    places = [(a, PHASE_B[row]) for row in rows for a in _crossed(-grid[row], lines.levels)]
    axes.clabel(lines, fmt="%.1f", fontsize=6, manual=places)


def _crossed(values: npt.NDArray[np.float64], levels: Iterable[float]) -> list[float]:
    """Where values along `PHASE_A` rise through one of the levels, 0.06 or more from a vertical boundary or the end."""
    above = values[:, None] >= np.array(list(levels))
    places = PHASE_A[1:][(above[1:] & ~above[:-1] & np.isfinite(values[:-1, None])).any(axis=1)]
    return [float(a) for a in places if min(abs(a - edge) for edge in (*_EDGES, 0.5, PHASE_A[-1])) > 0.06]


def _compute_exponent(a: float, b: float) -> float:
    """NaN where the labels have no variance."""
    try:
        return scaling_exponents(a, b).compute
    except ValueError:
        return float("nan")


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    points = listed(f"{name} at a = {a:g}, b = {b:g}" for name, (a, b) in POINTS.items())
    return (
        "Power laws of a linear student on P random features of D inputs of variance j^(-2a), target coefficients "
        f"j^(-b), no label noise, one-pass SGD from 0, batch 1, D/P = {RATIO}, learning rate {RATE:g} of the largest "
        f"stable one.  (a) Mean square error against steps n at a = {PATH.a:g}, b = {PATH.b:g}: lines are theory, the "
        f"deterministic equivalent of the features in the limit of small steps, at P = {sizes(SIZES)}; points are SGD "
        f"on real vectors at P = {SIZES[0]}, mean ± standard error of {of_seeds(SEEDS)}, each on features of its own.  "
        f"(b) Its least value over P (theory, points) against compute f = P n, for {points}; lines are straight-line "
        f"fits from f = 10^{np.log10(FIRST):.0f} on, with the slopes in the legend.  (c) Phases by which terms of the "
        "risk meet at the best P, and contours of the exponent q of the least risk, f^-q (theory)."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """Fitted exponents beside those of the phases, and runs beside their exact mean."""
    words = []
    for name, (a, b) in POINTS.items():
        fit = _fit(data[name])
        words.append(f"{name} {fit.value:.4f} ± {fit.error:.4f} ({scaling_exponents(a, b).compute:.4f})")
    runs = data["runs"]
    ratio = np.log(runs.risk / runs.theory)
    z = float(np.abs(ratio.mean("seed") / (ratio.std("seed", ddof=1) / np.sqrt(len(SEEDS)))).max())
    return (
        f"fitted exponents of the least risk in compute, in brackets those of the phase: {listed(words)}; runs are "
        f"within {z:.1f} standard errors of the exact mean on their features."
    )
