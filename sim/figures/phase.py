"""Figure `phase`: error against the exponent a of the length D^a of the means; lazy methods jump at a = 1/4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.numerics.random_features import random_features_error
from quenched.sim.figures.comparison import ALPHA, features_name, kernel_name
from quenched.sim.figures.style import ERROR, POINT, marker, mean_and_error, shades, styled
from quenched.sim.kernel_ridge import simulate_kernel
from quenched.sim.processes import Work
from quenched.sim.random_features import simulate_features

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "sentence"]

TASKS = {"XOR": Mixture.xor, "three clusters": Mixture.three_clusters}
LEARNERS = [features_name(2.0), kernel_name("kernel"), "oracle"]
DIMENSIONS, EXPONENTS = [100, 500, 10**4, 10**6, 10**8, 10**12], np.linspace(0, 0.5, 61)
SIMULATED, SEEDS = 2, range(4)  # how many of the dimensions, and how often
EVERY = slice(6, None, 12)  # which exponents are simulated


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory for all dimensions, runs for the first."""
    import xarray as xr

    coords: dict[str, Any] = {"task": list(TASKS), "learner": LEARNERS, "D": DIMENSIONS, "exponent": EXPONENTS}
    jobs = list(product(TASKS, LEARNERS, DIMENSIONS))
    theory = np.reshape(work.part(0, 0.3).map(line, [(*job, EXPONENTS) for job in jobs]), [*map(len, coords.values())])
    sizes, some = DIMENSIONS[:SIMULATED], EXPONENTS[EVERY]
    shown = coords | {"learner": LEARNERS[:2], "D": sizes, "exponent": some, "seed": list(SEEDS)}
    points = [(TASKS[task](1.0, scaling=float(a)), size, SEEDS) for task, size, a in product(TASKS, sizes, some)]
    found = np.reshape(work.part(0.3, 1).map(lazy, points), (len(TASKS), len(sizes), len(some), 2, len(SEEDS)))
    runs = np.moveaxis(found, 3, 1)
    attrs = provenance(activation="relu", kernel="arccos1", gamma=2.0, alpha=ALPHA, sigma=1.0, seeds=list(SEEDS))
    return {
        name: described(xr.Dataset({"classification_error": (tuple(axes), values)}, axes, attrs))
        for name, values, axes in (("theory", theory, coords), ("simulation", runs, shown))
    }


def line(task: str, learner: str, D: int, exponents: np.ndarray) -> np.ndarray:
    """The error of a learner in dimension D against the exponent."""
    errors = np.empty(len(exponents))
    for i, a in enumerate(exponents):
        mixture = TASKS[task](1.0, scaling=float(a))
        if learner == "oracle":
            errors[i] = float(oracle_error(mixture.finite(D)))
        elif learner == LEARNERS[0]:
            errors[i] = random_features_error(mixture, "relu", 2.0, D=D).classification_error
        else:
            errors[i] = kernel_error(mixture, "arccos1", ALPHA, D=D).classification_error
    return errors


def lazy(mixture: Mixture, D: int, seeds: Sequence[int]) -> np.ndarray:
    """Errors (learner, seed) of given random features and of kernel regression in dimension D."""
    features = simulate_features(mixture, "relu", D, 2 * D, seeds, backend="numpy")
    kernel = simulate_kernel(mixture, "arccos1", D, round(ALPHA * D), seeds, backend="numpy")
    return np.stack([run.classification_error.values for run in (features, kernel)])


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error against the exponent, by dimension: rows are learners, columns are tasks; the oracle in every panel."""
    theory, runs = (data[name].classification_error for name in ("theory", "simulation"))
    tasks, (*learners, oracle) = list(theory.task.values), list(theory.learner.values)
    figure = Figure(figsize=(3.6 * len(tasks) + 0.3, 2.5 * len(learners) + 0.8), layout="constrained")
    grid = figure.subplots(len(learners), len(tasks), squeeze=False, sharex=True, sharey=True)
    sizes = theory.D.values
    colours, shapes = shades(len(sizes)), dict(zip(runs.D.values, "os^D", strict=False))
    for row, learner in zip(grid, learners, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            axes.axvline(0.25, color="0.75", lw=0.9)
            for colour, size in zip(colours, sizes, strict=True):
                axes.plot(theory.exponent, theory.sel(task=task, learner=learner, D=size), color=colour)
                if size in shapes:
                    mean, error = mean_and_error(runs.sel(task=task, learner=learner, D=size))
                    axes.errorbar(runs.exponent, mean, error, **POINT | {"color": colour, "marker": shapes[size]})
            for style, size in zip(("--", ":"), sizes[[0, 2]], strict=True):
                axes.plot(theory.exponent, theory.sel(task=task, learner=oracle, D=size), color="0.4", ls=style, lw=1)
            axes.set(title=f"{learner}, {task}", ylim=(-0.02, 0.56), xlim=(0, 0.5))
        row[0].set_ylabel(ERROR)
    for axes in grid[-1]:
        axes.set_xlabel("exponent  $a$  of the length  $D^a$  of the means")
    legend = [Line2D([], [], color=c, label=f"$D = {_power(size)}$") for c, size in zip(colours, sizes, strict=True)]
    legend += [
        Line2D([], [], color="0.4", ls=style, label=f"oracle, $D = {_power(size)}$")
        for style, size in zip(("--", ":"), sizes[[0, 2]], strict=True)
    ]
    legend += [marker("0.3", f"simulation, D = {size}", shape) for size, shape in shapes.items()]
    figure.legend(handles=legend, loc="outside lower center", ncols=5)
    return figure


def _power(size: int) -> str:
    """A dimension as LaTeX: powers of ten as such, from 10^3 on."""
    exponent = round(np.log10(size))
    return f"10^{{{exponent}}}" if size == 10**exponent and exponent > 2 else str(size)


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """The errors on both sides of the jump."""
    far = data["theory"].classification_error.sel(task="XOR", learner=LEARNERS[0], D=DIMENSIONS[-1])
    below, above = (float(far.interp(exponent=a)) for a in (0.2, 0.3))
    return (
        f"relu random features on XOR, sigma = 1, means of length D^a: at D = 10^12 the error is {below:.2f} at "
        f"a = 0.2 and {above:.1g} at a = 0.3; the oracle's vanishes for every a > 0."
    )
