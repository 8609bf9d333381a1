"""Figure `comparison`: where lazy methods fail: all learners in all signal-to-noise regimes, error against noise.

Theory is the equivalent at the dimension D of the simulations, so that lines and points can be held against each other;
the limits D -> infinity are beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.variables import described
from quenched.numerics.random_features import random_features_error
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.drawing.style import ERROR, LEVEL, Cue, chance, cues, log_ticks, marker, mean_and_error, styled
from quenched.sim.kernel_ridge import simulate_kernel
from quenched.sim.processes import Work
from quenched.sim.random_features import simulate_features
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compute", "draw", "features_name", "kernel_name", "sentence"]

D = 500  # of the simulations
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
LINES, POINTS = np.geomspace(0.2, 4.0, 17), np.geomspace(0.3, 2.4, 4)  # sigma


def features_name(gamma: float) -> str:
    """Of random features, in legends."""
    return rf"random features, $\gamma$ = {gamma:g}"


def kernel_name(name: str) -> str:
    """Of a kernel, in legends."""
    return rf"{name} of relu, $\alpha$ = {ALPHA:g}"


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory at D, its limit, the runs, and the equations of the network where means have length 1."""
    import xarray as xr

    names = ["oracle", NAME, *map(features_name, GAMMAS), *map(kernel_name, KERNELS)]
    data = {"theory": _empty(names, sigma=LINES), "limit": _empty(names, sigma=LINES)}
    data |= {"simulation": _empty(names, sigma=POINTS, seed=range(2)), "equations": _empty([NAME], sigma=POINTS)}
    places = [(panel, float(sigma)) for panel in PANELS for sigma in LINES]
    lines = work.part(0, 0.2).map(theories, [(replace(PANELS[p], sigma=s), D) for p, s in places])
    for ((task, length), sigma), found in zip(places, lines, strict=True):
        for learner, values in found.items():
            for name, value in zip(("theory", "limit"), values, strict=True):
                data[name].loc[{"task": task, "length": length, "sigma": sigma, "learner": learner}] = value
    places = [(panel, float(sigma)) for panel in PANELS for sigma in POINTS]
    jobs = [(replace(PANELS[p], sigma=s), D, data["simulation"].seed.values.tolist(), p[1] == "1") for p, s in places]
    for ((task, length), sigma), (errors, line) in zip(places, work.part(0.2, 1).map(simulated, jobs), strict=True):
        at = {"task": task, "length": length, "sigma": sigma}
        for learner, values in errors.items():
            data["simulation"].loc[at | {"learner": learner}] = values
        data["equations"].loc[at | {"learner": NAME}] = line
    attrs = provenance(
        D=D, network=NETWORK, sgd=SGD, t=TIME, readout_scale=SCALE, starts=STARTS, alpha=ALPHA, kernels=KERNELS,
        panels={f"{task}, {length}": mixture.to_dict() for (task, length), mixture in PANELS.items()},
    )  # fmt: skip
    return {name: described(xr.Dataset({"classification_error": values}, attrs=attrs)) for name, values in data.items()}


def _empty(learners: Sequence[str], **axes: Any) -> xr.DataArray:
    """An array of NaN over tasks, lengths, learners and more axes."""
    import xarray as xr

    tasks, lengths = (list(dict.fromkeys(key[i] for key in PANELS)) for i in (0, 1))
    coords = {"task": tasks, "length": lengths, "learner": list(learners)} | {n: np.array(v) for n, v in axes.items()}
    return xr.DataArray(np.full([len(v) for v in coords.values()], np.nan), coords=coords, dims=tuple(coords))


def theories(mixture: Mixture, D: int) -> dict[str, tuple[float, float]]:
    """Error of each learner at D and for D -> infinity (of the oracle: at D alone)."""
    found = {"oracle": (float(oracle_error(mixture.finite(D))), np.nan)}
    for gamma in GAMMAS:
        at, limit = (random_features_error(mixture, "relu", gamma, D=size) for size in (D, None))
        found[features_name(gamma)] = at.classification_error, limit.classification_error
    for name, kernel in KERNELS.items():
        at, limit = (kernel_error(mixture, kernel, ALPHA, D=size) for size in (D, None))
        found[kernel_name(name)] = at.classification_error, limit.classification_error
    return found


def simulated(mixture: Mixture, D: int, seeds: Sequence[int], with_equations: bool) -> tuple[dict[str, Any], float]:
    """Errors (seed) of every learner that is simulated; the network's by its equations from its best initial state."""
    errors: dict[str, Any] = {}
    for gamma in SIMULATED:
        run = simulate_features(mixture, "relu", D, round(gamma * D), seeds, backend="numpy")
        errors[features_name(gamma)] = run.classification_error.values
    for name, kernel in KERNELS.items():
        run = simulate_kernel(mixture, kernel, D, round(ALPHA * D), seeds, backend="numpy")
        errors[kernel_name(name)] = run.classification_error.values
    problem, starts = mixture.finite(D), range(STARTS)
    states = [random_state(problem, NETWORK, D, seed, readout_scale=SCALE) for seed in starts]
    end = simulate(mixture, NETWORK, SGD, D, [TIME], starts, engine="overlaps", state=states).classification_error[:, 0]
    best = int(np.argmin(end.values))
    errors[NAME] = float(end[best])
    if not with_equations:
        return errors, np.nan
    line = integrate(problem, NETWORK, SGD, states[best], [TIME], rtol=1e-6)
    return errors, float(line.classification_error[0])


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error against noise, a row for each task, a column for each length of the means, by learner."""
    found = {name: each.classification_error for name, each in data.items()}
    theory = found["theory"]
    tasks, lengths, learners = (list(theory[name].values) for name in ("task", "length", "learner"))
    figure = Figure(figsize=(2.35 * len(lengths) + 0.3, 2.2 * len(tasks) + 1.0), layout="constrained")
    grid = figure.subplots(len(tasks), len(lengths), squeeze=False, sharex=True, sharey=True)
    cue = dict(zip(learners[1:], cues(len(learners) - 1), strict=True))
    for row, task in zip(grid, tasks, strict=True):
        for axes, length in zip(row, lengths, strict=True):
            panel = {name: values.sel(task=task, length=length) for name, values in found.items()}
            if bool(panel["theory"].isnull().all()):
                axes.set_axis_off()
                continue
            _panel(axes, panel, cue)
            axes.set_title(f"{task}, $|\\mathrm{{mean}}| = {length}$")
            axes.set_xlabel(r"noise $\sigma$")
            axes.tick_params(labelbottom=True)
        row[0].set_ylabel(ERROR)
    size = f"{D}"
    legend: list[Line2D] = [Line2D([], [], label="oracle", **LEVEL)]
    legend += [Line2D([], [], color=c.colour, marker=c.marker, ms=3.4, mfc="white", label=n) for n, c in cue.items()]
    legend += [
        Line2D([], [], color="0.3", label=f"theory at D = {size}"),
        Line2D([], [], color="0.3", ls=":", label=r"theory, $D \to \infty$"),
        marker(label=f"simulation, D = {size}"),
    ]
    figure.legend(handles=legend, loc="outside lower center", ncols=4)
    return figure


def _panel(axes: Axes, found: Mapping[str, xr.DataArray], cue: Mapping[str, Cue]) -> None:
    """Lines at D, dotted limits, points with error bars; what is not simulated has small markers on its line."""
    chance(axes)
    for learner, style in cue.items():
        theory, limit, runs = (found[name].sel(learner=learner) for name in ("theory", "limit", "simulation"))
        simulated = bool(runs.notnull().any())
        sparse: dict[str, Any] = {} if simulated else {"marker": style.marker, "ms": 2.6, "markevery": 6}
        axes.plot(theory.sigma, theory, color=style.colour, **sparse)
        axes.plot(theory.sigma, limit, color=style.colour, ls=":", lw=0.9)
        if simulated:
            mean, error = mean_and_error(runs)
            axes.errorbar(runs.sigma, mean, error, **style.point)
        if learner in found["equations"].learner:
            axes.plot(found["equations"].sigma, found["equations"].sel(learner=learner), color=style.colour)
    axes.plot(found["theory"].sigma, found["theory"].sel(learner="oracle"), **LEVEL)
    axes.set(xscale="log", ylim=(-0.02, 0.56))
    log_ticks(axes.xaxis)


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """What there is to see, and how far theory and simulation are apart."""
    crossover = {"task": "XOR", "length": "D^{1/4}", "learner": features_name(2.0)}
    theory, runs = (data[name].classification_error.sel(crossover) for name in ("theory", "simulation"))
    worst = float(np.abs(theory.interp(sigma=POINTS).values - runs.mean("seed").values).max())
    return (
        f"relu, D = {D}: with means of length 1 lazy methods tend to chance as D grows, and the network comes near the "
        f"oracle; at D^(1/4) they cross over (random features on XOR, theory and simulation within {worst:.3f} of each "
        "other), at sqrt(D) all succeed."
    )
