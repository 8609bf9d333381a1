"""Two figures on where lazy methods fail: all learners in all signal-to-noise regimes, and the transition at D^(1/4).

Theory is the equivalent at the dimension D of the simulations, so that lines and points can be held against each other;
the limits D -> infinity are beside it.  Figures of `quenched reproduce`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.random_features import random_features_error
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.error_curve import in_processes
from quenched.sim.figures import plot
from quenched.sim.kernel_ridge import simulate_kernel
from quenched.sim.random_features import simulate_features
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["FIGURES"]

Report = Callable[[float], None]

D = 500  # of the simulations of `comparison`
NETWORK, SGD, TIME, SCALE = TwoLayer(8, "relu"), OnlineSGD(lr=0.1), 400.0, 4.0
STARTS = 8  # initial states of the network, of which the best counts
NAME = f"two-layer, K = {NETWORK.K} relu, best of {STARTS} starts"
GAMMAS, SIMULATED, ALPHA = (0.5, 2.0, 8.0), (0.5, 2.0), 2.0  # P/D in theory, P/D simulated, n/D of kernels
KERNELS = {"kernel": "arccos1", "NTK": "ntk:relu"}
PANELS: dict[tuple[str, str], Mixture] = {
    ("XOR", "1"): Mixture.xor(1.0),
    ("XOR", "D^{1/4}"): Mixture.xor(1.0, scaling=0.25),
    ("XOR", r"D^{1/2}\ \mathrm{and}\ 1"): Mixture.parity(1.0, (1.0, 1.0), (0.5, 0.0)),
    ("XOR", "D^{1/2}"): Mixture.xor(1.0, scaling=0.5),
    ("three clusters", "1"): Mixture.three_clusters(1.0),
    ("three clusters", "D^{1/4}"): Mixture.three_clusters(1.0, scaling=0.25),
    ("three clusters", "D^{1/2}"): Mixture.three_clusters(1.0, scaling=0.5),
}
LINES, POINTS = np.geomspace(0.2, 4.0, 25), np.geomspace(0.3, 2.4, 4)  # sigma

DIMENSIONS, EXPONENTS = [100, 500, 10**4, 10**6, 10**8, 10**12], np.linspace(0, 0.5, 61)  # of `phase`; two simulated


def _features(gamma: float) -> str:
    return rf"random features, $\gamma$ = {gamma:g}"


def _kernel(name: str) -> str:
    return rf"{name} of relu, $\alpha$ = {ALPHA:g}"


def _comparison(folder: Path, processes: int, progress: Report) -> str:
    """Error against noise of oracle, network, random features and kernels, where means have length 1 .. sqrt(D)."""
    learners = ["oracle", NAME, *map(_features, GAMMAS), *map(_kernel, KERNELS)]
    theory, limit = (_empty(learners, sigma=LINES) for _ in range(2))
    runs, network = _empty(learners, sigma=POINTS, seed=range(2)), _empty([NAME], sigma=POINTS)
    for (task, length), mixture in PANELS.items():
        at = {"task": task, "length": length}
        for sigma in LINES:
            noisy = replace(mixture, sigma=float(sigma))
            theory.loc[at | {"learner": "oracle", "sigma": sigma}] = float(oracle_error(noisy.finite(D)))
            at_dimension: tuple[dict[str, Any], ...] = {"D": D}, {}
            for values, options in zip((theory, limit), at_dimension, strict=True):
                for gamma in GAMMAS:
                    found = random_features_error(noisy, "relu", gamma, **options)
                    values.loc[at | {"learner": _features(gamma), "sigma": sigma}] = found.classification_error
                for name, kernel in KERNELS.items():
                    found = kernel_error(noisy, kernel, ALPHA, **options)
                    values.loc[at | {"learner": _kernel(name), "sigma": sigma}] = found.classification_error
    jobs = [
        (replace(mixture, sigma=float(sigma)), runs.seed.values.tolist(), length == "1")
        for (_, length), mixture in PANELS.items()
        for sigma in POINTS
    ]
    found_runs = in_processes(_simulated, jobs, processes, progress)
    places = [(task, length, sigma) for task, length in PANELS for sigma in POINTS]
    for (task, length, sigma), (errors, line) in zip(places, found_runs, strict=True):
        at = {"task": task, "length": length, "sigma": sigma}
        for learner, values in errors.items():
            runs.loc[at | {"learner": learner}] = values
        network.loc[at | {"learner": NAME}] = line
    import xarray as xr

    attrs = provenance(
        D=D, network=NETWORK, sgd=SGD, t=TIME, readout_scale=SCALE, starts=STARTS, alpha=ALPHA, kernels=KERNELS,
        panels={f"{task}, {length}": mixture.to_dict() for (task, length), mixture in PANELS.items()},
    )  # fmt: skip
    data = {"theory": theory, "limit": limit, "simulation": runs, "equations": network}
    for name, values in data.items():
        dataset = xr.Dataset({"classification_error": values}, attrs=attrs)
        dataset.to_netcdf(folder / f"comparison_{name}.nc", engine="h5netcdf")
    plot.save(plot.learners(theory, limit, runs, network, D), folder / "comparison.png")
    crossover = {"task": "XOR", "length": "D^{1/4}", "learner": _features(2.0)}
    some = theory.sel(crossover).interp(sigma=POINTS), runs.sel(crossover).mean("seed")
    worst = float(np.abs(some[0].values - some[1].values).max())
    return (
        f"relu, D = {D}: with means of length 1 lazy methods tend to chance as D grows, and the network comes near the "
        f"oracle; at D^(1/4) they cross over (random features on XOR, theory and simulation within {worst:.3f} of each "
        "other), at sqrt(D) all succeed."
    )


def _empty(learners: Sequence[str], **axes: Any) -> xr.DataArray:
    """An array of NaN over tasks, lengths, learners and more axes."""
    import xarray as xr

    tasks, lengths = (list(dict.fromkeys(key[i] for key in PANELS)) for i in (0, 1))
    coords = {"task": tasks, "length": lengths, "learner": list(learners)} | {n: np.array(v) for n, v in axes.items()}
    return xr.DataArray(np.full([len(v) for v in coords.values()], np.nan), coords=coords, dims=tuple(coords))


def _simulated(mixture: Mixture, seeds: Sequence[int], with_equations: bool) -> tuple[dict[str, Any], float]:
    """Errors (seed) of every learner that is simulated; the network's by its equations from its best initial state."""
    errors: dict[str, Any] = {}
    for gamma in SIMULATED:
        run = simulate_features(mixture, "relu", D, round(gamma * D), seeds, backend="numpy")
        errors[_features(gamma)] = run.classification_error.values
    for name, kernel in KERNELS.items():
        run = simulate_kernel(mixture, kernel, D, round(ALPHA * D), seeds, backend="numpy")
        errors[_kernel(name)] = run.classification_error.values
    problem, starts = mixture.finite(D), range(STARTS)
    states = [random_state(problem, NETWORK, D, seed, readout_scale=SCALE) for seed in starts]
    end = simulate(mixture, NETWORK, SGD, D, [TIME], starts, engine="overlaps", state=states).classification_error[:, 0]
    best = int(np.argmin(end.values))
    errors[NAME] = float(end[best])
    if not with_equations:
        return errors, np.nan
    line = integrate(problem, NETWORK, SGD, states[best], [TIME], rtol=1e-6)
    return errors, float(line.classification_error[0])


def _phase(folder: Path, processes: int, progress: Report) -> str:
    """Error against the exponent a of the length D^a of the means: random features and a kernel jump at a = 1/4."""
    import xarray as xr

    tasks = {"XOR": Mixture.xor, "three clusters": Mixture.three_clusters}
    learners = [_features(2.0), _kernel("kernel"), "oracle"]
    coords: dict[str, Any] = {"task": list(tasks), "learner": learners, "D": DIMENSIONS, "exponent": EXPONENTS}
    theory = xr.DataArray(np.full([len(v) for v in coords.values()], np.nan), coords=coords, dims=tuple(coords))
    for i, (task, learner, size, a) in enumerate(
        (t, l, n, a) for t in tasks for l in learners for n in DIMENSIONS for a in EXPONENTS
    ):
        mixture = tasks[task](1.0, scaling=a)
        if learner == "oracle":
            error = float(oracle_error(mixture.finite(size)))
        elif learner == learners[0]:
            error = random_features_error(mixture, "relu", 2.0, D=size).classification_error
        else:
            error = kernel_error(mixture, "arccos1", ALPHA, D=size).classification_error
        theory.loc[{"task": task, "learner": learner, "D": size, "exponent": a}] = error
        progress(0.3 * (i + 1) / theory.size)
    some, sizes, seeds = EXPONENTS[6::12], DIMENSIONS[:2], range(4)
    shown = coords | {"learner": learners[:2], "D": sizes, "exponent": some, "seed": list(seeds)}
    runs = xr.DataArray(np.full([len(v) for v in shown.values()], np.nan), coords=shown, dims=tuple(shown))
    jobs = [(tasks[task](1.0, scaling=float(a)), size, seeds) for task in tasks for size in sizes for a in some]
    found = in_processes(_lazy, jobs, processes, lambda done: progress(0.3 + 0.7 * done))
    for (task, size, a), values in zip(((t, n, a) for t in tasks for n in sizes for a in some), found, strict=True):
        for learner, errors in zip(learners[:2], values, strict=True):
            runs.loc[{"task": task, "learner": learner, "D": size, "exponent": a}] = errors
    attrs = provenance(activation="relu", kernel="arccos1", gamma=2.0, alpha=ALPHA, sigma=1.0, seeds=list(seeds))
    for name, array in (("theory", theory), ("simulation", runs)):
        dataset = xr.Dataset({"classification_error": array}, attrs=attrs)
        dataset.to_netcdf(folder / f"phase_{name}.nc", engine="h5netcdf")
    plot.save(plot.phase(theory, runs), folder / "phase.png")
    far = theory.sel(task="XOR", learner=learners[0], D=DIMENSIONS[-1])
    below, above = (float(far.interp(exponent=a)) for a in (0.2, 0.3))
    return (
        f"relu random features on XOR, sigma = 1, means of length D^a: at D = 10^12 the error is {below:.2f} at "
        f"a = 0.2 and {above:.1g} at a = 0.3; the oracle's vanishes for every a > 0."
    )


def _lazy(mixture: Mixture, size: int, seeds: Sequence[int]) -> tuple[Any, Any]:
    """Errors (seed) of given random features and of kernel regression in dimension `size`."""
    features = simulate_features(mixture, "relu", size, 2 * size, seeds, backend="numpy")
    kernel = simulate_kernel(mixture, "arccos1", size, round(ALPHA * size), seeds, backend="numpy")
    return features.classification_error.values, kernel.classification_error.values


FIGURES: dict[str, Callable[[Path, int, Report], str]] = {"comparison": _comparison, "phase": _phase}
