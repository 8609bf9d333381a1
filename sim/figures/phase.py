"""Figure `phase`: error against the exponent a of the length D^a of the means, and its collapse at a = 1/4.

As D grows lazy methods jump there from chance to no error.  Against the length divided by D^(1/4) all dimensions fall
on one curve, the limit D -> infinity, which has a closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.numerics.random_features import random_features_error
from quenched.sim.drawing.captions import apart, of_seeds, sizes
from quenched.sim.drawing.style import (
    ERROR,
    LEVEL,
    PAGE,
    Cue,
    chance,
    key,
    letters,
    log_ticks,
    ordered,
    points,
    power_of_ten,
    styled,
)
from quenched.sim.figures.comparison import ALPHA, KERNELS, features_name, kernel_name
from quenched.sim.kernel_ridge import Measuring, simulate_kernel
from quenched.sim.processes import Work
from quenched.sim.random_features import simulate_features

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

TASKS = {"XOR": Mixture.xor, "three clusters": Mixture.three_clusters}
GAMMA, KERNEL, SIGMA = 2.0, KERNELS["kernel"], 1.0
LEARNERS = [features_name(GAMMA), kernel_name("kernel"), "oracle"]
# the equivalent of kernels at finite D is good to D = 10^11: beyond, rounding exceeds what is left of its corrections
DIMENSIONS = [100, 500, 10**4, 10**6, 10**8, 10**10]
# finer towards 1/4, where the lines of large D are steep
EXPONENTS = 0.25 + 0.25 * np.sinh(np.linspace(-3, 3, 61)) / np.sinh(3)
SIMULATED, SEEDS = DIMENSIONS[:2], range(10)
POINTS = np.linspace(0.05, 0.45, 9)  # exponents that are simulated
LENGTHS = np.geomspace(0.3, 3.0, 41)  # of the limit: |mean|/D^(1/4)


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory for all dimensions and its limit, runs for the first two dimensions."""
    import xarray as xr

    coords: dict[str, Any] = {"task": list(TASKS), "learner": LEARNERS, "D": DIMENSIONS, "exponent": EXPONENTS}
    jobs = list(product(TASKS, LEARNERS, DIMENSIONS))
    theory = np.reshape(work.part(0, 0.3).map(line, [(*job, EXPONENTS) for job in jobs]), [*map(len, coords.values())])
    ends = {name: values for name, values in coords.items() if name == "task"} | {"learner": LEARNERS[:2]}
    limits = work.part(0.3, 0.35).map(limit, [(*job, LENGTHS) for job in product(TASKS, LEARNERS[:2])])
    shown = ends | {"D": SIMULATED, "exponent": POINTS, "seed": list(SEEDS)}
    points = [(TASKS[t](SIGMA, scaling=float(a)), size, SEEDS) for t, size, a in product(TASKS, SIMULATED, POINTS)]
    found = np.reshape(work.part(0.35, 1).map(lazy, points), (len(TASKS), len(SIMULATED), len(POINTS), 2, len(SEEDS)))
    axes = ends | {"length": LENGTHS}
    attrs = provenance(activation="relu", kernel=KERNEL, gamma=GAMMA, alpha=ALPHA, sigma=SIGMA, seeds=list(SEEDS))
    parts = {
        "theory": (theory, coords),
        "limit": (np.reshape(limits, [*map(len, axes.values())]), axes),
        "simulation": (np.moveaxis(found, 3, 1), shown),
    }
    return {
        name: described(xr.Dataset({"classification_error": (tuple(axes), values)}, axes, attrs))
        for name, (values, axes) in parts.items()
    }


def line(task: str, learner: str, D: int, exponents: np.ndarray) -> np.ndarray:
    """The error of a learner in dimension D against the exponent."""
    mixtures = [TASKS[task](SIGMA, scaling=float(a)) for a in exponents]
    if learner == "oracle":
        return np.array([float(oracle_error(mixture.finite(D))) for mixture in mixtures])
    return np.array([_lazy_theory(mixture, learner, D) for mixture in mixtures])


def limit(task: str, learner: str, lengths: np.ndarray) -> np.ndarray:
    """The error as D -> infinity against the length of the means in units of D^(1/4)."""
    mixtures = [TASKS[task](SIGMA, separation=float(length), scaling=0.25) for length in lengths]
    return np.array([_lazy_theory(mixture, learner, None) for mixture in mixtures])


def _lazy_theory(mixture: Mixture, learner: str, D: int | None) -> float:
    if learner == LEARNERS[0]:
        return random_features_error(mixture, "relu", GAMMA, D=D).classification_error
    return kernel_error(mixture, KERNEL, ALPHA, D=D).classification_error


def lazy(mixture: Mixture, D: int, seeds: Sequence[int]) -> np.ndarray:
    """Errors (learner, seed) of given random features and of kernel regression in dimension D."""
    features = simulate_features(mixture, "relu", D, round(GAMMA * D), seeds, backend="numpy")
    kernel = simulate_kernel(mixture, KERNEL, D, round(ALPHA * D), seeds, backend="numpy")
    return np.stack([run.classification_error.values for run in (features, kernel)])


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """A column for each learner and task; error against the exponent, and against the length in units of D^(1/4)."""
    found = {name: each.classification_error for name, each in data.items()}
    tasks, (*learners, oracle) = list(found["theory"].task.values), list(found["theory"].learner.values)
    figure = Figure(figsize=(PAGE, 4.3), layout="constrained")
    grid = figure.subplots(2, len(learners) * len(tasks), squeeze=False, sharex="row", sharey=True)
    letters(grid.flat)
    sizes = found["theory"].D.values
    look = dict(zip(sizes.tolist(), ordered(len(sizes)), strict=True))
    known = dict(zip((sizes[0], sizes[2]), ((0, (4, 2)), (0, (1, 1.5))), strict=True))  # dimensions of oracles
    for (top, bottom), (learner, task) in zip(grid.T, product(learners, tasks), strict=True):
        panel = {name: values.sel(task=task) for name, values in found.items()}
        for size, dashes in known.items():
            best = panel["theory"].sel(learner=oracle, D=size)
            top.plot(best.exponent, best, color="0.6", ls=dashes, lw=1)
        curves = {name: values.sel(learner=learner) for name, values in panel.items()}
        bottom.plot(curves["limit"].length, curves["limit"], **LEVEL | {"lw": 3.5})
        _panel(top, curves, look, lambda exponent, size: exponent)
        _panel(bottom, curves, look, lambda exponent, size: size ** (exponent - 0.25))
        top.axvline(0.25, color="0.8", lw=0.8, zorder=1)
        top.set_title(f"{learner}\n{task}")
        top.set(xlim=(0, 0.5), ylim=(-0.02, 0.54), xlabel="exponent $a$, $|\\mathrm{mean}| = D^a$")
        bottom.set(xscale="log", xlim=LENGTHS[[0, -1]], xlabel=r"$|\mathrm{mean}|/D^{1/4}$")
        log_ticks(bottom.xaxis, (1, 3))
    for row in grid:
        row[0].set_ylabel(ERROR)
    legend = [key(c, f"$D = {power_of_ten(n)}$", point=n in SIMULATED) for n, c in look.items()]
    legend += [Line2D([], [], label=r"$D \to \infty$", **LEVEL | {"lw": 3.5})]
    legend += [
        Line2D([], [], color="0.6", ls=dashes, lw=1, label=f"oracle, $D = {power_of_ten(size)}$")
        for size, dashes in known.items()
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=5)
    return figure


def _panel(
    axes: Axes, found: Mapping[str, xr.DataArray], look: Mapping[int, Cue], place: Callable[[Any, int], Any]
) -> None:
    """Lines and points of all dimensions at `place`(exponent, D)."""
    chance(axes)
    for size, cue in look.items():
        theory, runs = found["theory"].sel(D=size), found["simulation"]
        axes.plot(place(theory.exponent.values, size), theory, **cue.line)
        if size in runs.D:
            points(axes, place(runs.exponent.values, size), runs.sel(D=size), cue)


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    return (
        f"Classification error of lazy learners on XOR and three clusters, σ = {SIGMA:g}, with means of length D^a.  "
        f"Columns: P = {GAMMA:g} D relu random features with the best readout for infinitely many samples (a, b, e, "
        f"f); kernel ridge regression without ridge on n = {ALPHA:g} D samples, arc-cosine kernel of relu (c, d, g, "
        "h).  Top: against the exponent a; bottom: the same against the length divided by D^(1/4).  Lines are theory, "
        f"the deterministic equivalent at D = {sizes(DIMENSIONS)}; the grey band its limit D → ∞ at a = 1/4 in closed "
        f"form; thin grey lines the oracle, which knows the means.  Points are simulations at D = {sizes(SIMULATED)} "
        f"with real features and kernel matrices, mean ± standard error of {of_seeds(SEEDS)}, on "
        f"{Measuring().test_samples} test samples a run for kernels."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors on both sides of the jump."""
    far = data["theory"].classification_error.sel(task="XOR", learner=LEARNERS[0], D=DIMENSIONS[-1])
    below, above = (float(far.interp(exponent=a)) for a in (0.2, 0.3))
    return (
        f"relu random features on XOR, sigma = {SIGMA:g}, means of length D^a: at D = {sizes(DIMENSIONS[-1:])} the "
        f"error is {below:.2f} at a = 0.2 and {above:.1g} at a = 0.3; the oracle's vanishes for every a > 0.  "
        f"{_collapse(data)}"
    )


def _collapse(data: Mapping[str, xr.Dataset]) -> str:
    """How far the points are from the lines, and the lines of each D from the limit."""
    theory, limits, runs = (data[name].classification_error for name in ("theory", "limit", "simulation"))
    off = apart(theory.sel(learner=runs.learner, D=runs.D), runs, "exponent").max(("task", "learner", "exponent"))
    from_limit = []
    for D in (DIMENSIONS[0], DIMENSIONS[-1]):
        lengths = D ** (theory.exponent.values - 0.25)
        inside = (lengths >= limits.length.values[0]) & (lengths <= limits.length.values[-1])
        lines = theory.sel(D=D, learner=limits.learner).values[..., inside]
        from_limit.append(float(np.abs(lines - limits.interp(length=lengths[inside], method="cubic").values).max()))
    off_runs = " and ".join(f"{float(value):.3f} (D = {D})" for value, D in zip(off.values, runs.D.values, strict=True))
    return (
        f"Against |mean|/D^(1/4) the lines are within {from_limit[0]:.2f} of the limit at D = {DIMENSIONS[0]} and "
        f"within {from_limit[1]:.0e} at D = {sizes(DIMENSIONS[-1:])}; points and lines at the same D differ by at most "
        f"{off_runs}."
    )
