"""Figure `comparison`: where lazy methods fail: all learners in all signal-to-noise regimes, error against noise.

Theory is the equivalent at the dimension D of the simulations, so that lines and points can be held against each other;
the limits D -> infinity are beside it.  The network starts from one state, the same for the equations and the runs.
Its equations hold where a step moves the fields little, with means of length 1 and D^(1/4); with longer ones at a fixed
learning rate they do not (figure `regimes`), and only its runs are shown.
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
from quenched.sim.drawing.captions import apart, listed, of_rule, of_seeds, sizes
from quenched.sim.drawing.style import (
    ERROR,
    LEVEL,
    PAGE,
    Cue,
    chance,
    cues,
    key,
    letters,
    log_ticks,
    marker,
    mean_and_error,
    power_of_ten,
    styled,
)
from quenched.sim.kernel_ridge import Measuring, simulate_kernel
from quenched.sim.processes import Work
from quenched.sim.random_features import simulate_features
from quenched.sim.training import simulate

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "features_name", "kernel_name", "sentence"]

D, SEEDS = 200, range(10)  # of the simulations
NETWORKS = {"XOR": TwoLayer(4, "relu"), "three clusters": TwoLayer(8, "relu")}
SGD, TIME, SCALE, START = OnlineSGD(lr=0.1), 400.0, 4.0, 6  # START: seed of the initial state, from which they learn
NAME = "two-layer relu network"
GAMMAS, ALPHA = (0.5, 2.0), 2.0  # P/D of features, n/D of kernels
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
FOLLOWED = ("1", "D^{1/4}")  # lengths at which the equations of the network hold
LINES = np.geomspace(0.2, 4.0, 17)  # sigma
POINTS = LINES[2:15:4]  # those of the runs
LEAST = 1e-5  # error at the bottom of logarithmic axes


def features_name(gamma: float) -> str:
    """Of random features, in legends."""
    return rf"random features, $\gamma$ = {gamma:g}"


def kernel_name(name: str) -> str:
    """Of a kernel, in legends."""
    return rf"{name} of relu, $\alpha$ = {ALPHA:g}"


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory at D, its limit, the equations of the network, the runs."""
    import xarray as xr

    names = ["oracle", NAME, *map(features_name, GAMMAS), *map(kernel_name, KERNELS)]
    data = {"theory": _empty(names, sigma=LINES), "limit": _empty(names, sigma=LINES)}
    data |= {"simulation": _empty(names, sigma=POINTS, seed=SEEDS)}
    places = [(panel, float(sigma)) for panel in PANELS for sigma in LINES]
    jobs = [(replace(PANELS[p], sigma=s), D, NETWORKS[p[0]] if p[1] in FOLLOWED else None) for p, s in places]
    for ((task, length), sigma), found in zip(places, work.part(0, 0.4).map(theories, jobs), strict=True):
        for learner, values in found.items():
            for name, value in zip(("theory", "limit"), values, strict=True):
                data[name].loc[{"task": task, "length": length, "sigma": sigma, "learner": learner}] = value
    places = [(panel, float(sigma)) for panel in PANELS for sigma in POINTS]
    runs = [(replace(PANELS[p], sigma=s), D, SEEDS, NETWORKS[p[0]]) for p, s in places]
    for ((task, length), sigma), errors in zip(places, work.part(0.4, 1).map(simulated, runs), strict=True):
        for learner, row in errors.items():
            data["simulation"].loc[{"task": task, "length": length, "sigma": sigma, "learner": learner}] = row
    attrs = provenance(
        D=D, networks=NETWORKS, sgd=SGD, t=TIME, readout_scale=SCALE, start=START, alpha=ALPHA, kernels=KERNELS,
        panels={f"{task}, {length}": mixture.to_dict() for (task, length), mixture in PANELS.items()},
    )  # fmt: skip
    return {name: described(xr.Dataset({"classification_error": values}, attrs=attrs)) for name, values in data.items()}


def _empty(learners: Sequence[str], **axes: Any) -> xr.DataArray:
    """An array of NaN over tasks, lengths, learners and more axes."""
    import xarray as xr

    tasks, lengths = (list(dict.fromkeys(key[i] for key in PANELS)) for i in (0, 1))
    coords = {"task": tasks, "length": lengths, "learner": list(learners)} | {n: np.array(v) for n, v in axes.items()}
    return xr.DataArray(np.full([len(v) for v in coords.values()], np.nan), coords=coords, dims=tuple(coords))


def theories(mixture: Mixture, D: int, network: TwoLayer | None) -> dict[str, tuple[float, float]]:
    """Error of each learner at D and for D -> infinity.

    The oracle is at D alone, as is the network, if there is one, whose equations have the means of that D.
    """
    problem = mixture.finite(D)
    found = {"oracle": (float(oracle_error(problem)), np.nan)}
    for gamma in GAMMAS:
        at, limit = (random_features_error(mixture, "relu", gamma, D=size) for size in (D, None))
        found[features_name(gamma)] = at.classification_error, limit.classification_error
    for name, kernel in KERNELS.items():
        at, limit = (kernel_error(mixture, kernel, ALPHA, D=size) for size in (D, None))
        found[kernel_name(name)] = at.classification_error, limit.classification_error
    if network is not None:
        state = random_state(problem, network, D, START, readout_scale=SCALE)
        end = integrate(problem, network, SGD, state, [TIME], rtol=1e-5, method="BDF")
        found[NAME] = float(end.classification_error[0]), np.nan
    return found


def simulated(mixture: Mixture, D: int, seeds: Sequence[int], network: TwoLayer) -> dict[str, np.ndarray]:
    """Errors (seed) of every learner; of the network by the exact chain from one state."""
    errors: dict[str, np.ndarray] = {}
    for gamma in GAMMAS:
        run = simulate_features(mixture, "relu", D, round(gamma * D), seeds, backend="numpy")
        errors[features_name(gamma)] = run.classification_error.values
    for name, kernel in KERNELS.items():
        run = simulate_kernel(mixture, kernel, D, round(ALPHA * D), seeds, backend="numpy")
        errors[kernel_name(name)] = run.classification_error.values
    state = random_state(mixture.finite(D), network, D, START, readout_scale=SCALE)
    end = simulate(mixture, network, SGD, D, [TIME], seeds, engine="overlaps", state=state)
    errors[NAME] = end.classification_error[:, 0].values
    return errors


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error against noise, linear and logarithmic, two rows a task, a column a length of the means, by learner."""
    found = {name: each.classification_error for name, each in data.items()}
    tasks, learners = (list(found["theory"][name].values) for name in ("task", "learner"))
    lengths = [length for task, length in PANELS if task == tasks[0]]
    figure = Figure(figsize=(PAGE, 7.4), layout="constrained")
    grid = figure.subplots(2 * len(tasks), len(lengths), squeeze=False, sharex=True, sharey="row")
    look = dict(zip(learners[1:], cues(len(learners) - 1), strict=True))
    shown, empty = [], []
    for rows, task in zip(grid.reshape(len(tasks), 2, -1), tasks, strict=True):
        for (linear, logarithmic), length in zip(rows.T, lengths, strict=True):
            if (task, length) not in PANELS:
                empty += [linear, logarithmic]
                continue
            panel = {name: values.sel(task=task, length=length) for name, values in found.items()}
            chance(linear)
            for axes, floor in (linear, None), (logarithmic, LEAST):
                _panel(axes, panel, look, floor)
                axes.set(xscale="log", xlabel=r"noise $\sigma$")
                axes.tick_params(labelbottom=True)
                log_ticks(axes.xaxis)
            linear.set_title(f"{task}, $|\\mathrm{{mean}}| = {length}$", loc="right")
            linear.set_ylim(-0.02, 0.54)
            logarithmic.set(yscale="log", ylim=(LEAST, 0.8))
            shown += [linear, logarithmic]
    for axes in grid[:, 0]:
        axes.set_ylabel(ERROR)
    letters(axes for axes in grid.flat if axes in shown)
    handles = _legend(look)
    for axes in empty:
        axes.set_axis_off()
    if empty:
        empty[0].legend(handles=handles, loc="upper left", borderaxespad=0, fontsize=7.5)
    else:
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _legend(look: Mapping[str, Cue]) -> list[Line2D]:
    handles = [Line2D([], [], label="oracle", **LEVEL), *(key(cue, name) for name, cue in look.items())]
    handles += [
        Line2D([], [], color="0.3", label=f"lines: theory, D = {D}"),
        Line2D([], [], color="0.3", lw=0.6, alpha=0.7, label=r"thin: its limit $D \to \infty$"),
        marker(label=f"points: runs, D = {D}"),
        Line2D([], [], color="0.3", label=f"mean error below ${power_of_ten(LEAST)}$", **_ARROW),
    ]
    return handles


_ARROW: dict[str, Any] = {"ls": "", "marker": r"$\downarrow$", "ms": 5}


def _panel(axes: Axes, found: Mapping[str, xr.DataArray], look: Mapping[str, Cue], floor: float | None) -> None:
    """Lines at D, thin limits, points with error bars; errors below `floor` on a logarithmic axis are arrows.

    Arrows of several learners stand side by side.
    """
    for i, (learner, cue) in enumerate(look.items()):
        theory, limit, runs = (found[name].sel(learner=learner) for name in ("theory", "limit", "simulation"))
        known = theory.notnull()
        axes.plot(theory.sigma[known], theory[known], **cue.line)
        if floor is None:
            axes.plot(theory.sigma, limit, **cue.line | {"lw": 0.6, "alpha": 0.7})
        mean, error = mean_and_error(runs)
        seen = mean > (floor or -1.0)
        axes.errorbar(runs.sigma[seen], mean[seen], None if error is None else error[seen], **cue.point)
        if floor is not None:
            gone = runs.sigma[~seen & runs.notnull().all("seed")] * 1.09 ** (i - (len(look) - 1) / 2)
            axes.plot(gone, np.full(len(gone), 1.6 * floor), color=cue.colour, **_ARROW)
    axes.plot(found["theory"].sigma, found["theory"].sel(learner="oracle"), **LEVEL)


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    widths = listed(f"{network.K} ({task})" for task, network in NETWORKS.items())
    tests = Measuring().test_samples
    return (
        "Classification error against the noise σ for means of the length above each panel (two lengths: one "
        "coordinate of each), on linear and, below, on logarithmic axes.  Random features: relu, P = γ D, γ = "
        f"{listed(GAMMAS)}, the best readout for infinitely many samples.  Kernels: regression without ridge on n = "
        f"{ALPHA:g} D samples, arc-cosine kernel and neural tangent kernel (NTK) of relu.  Network: two-layer relu, K "
        f"= {widths}, {of_rule(SGD)}, t = {TIME:g}, that is n = {TIME:g} D samples, from one random state of seed "
        f"{START}, from which it learns, w_k ~ N(0, 1), v_k ~ N(0, {SCALE**2:g}/K).  Learners thus see different "
        f"numbers of samples; each is compared with its own theory.  Lines are theory at D = {D}, thin lines its limit "
        f"D → ∞; of the network the equations, with the means of D = {D}, where they hold (lengths "
        f"{listed(map(_plain, FOLLOWED))}).  Points are simulations at D = {D}, mean ± standard error of "
        f"{of_seeds(SEEDS)}, {tests} test samples a run for kernels; bars smaller than a symbol are not seen; arrows: "
        f"mean errors below {sizes([LEAST])}.  Grey: the oracle, which knows the means."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """What there is to see, and how far theory and simulation are apart."""
    theory, runs = (data[name].classification_error for name in ("theory", "simulation"))
    worst = apart(theory, runs, "sigma", "nearest").max(("task", "length", "sigma"))
    lazy = [str(name) for name in worst.learner.values if name not in ("oracle", NAME)]
    sigma = min(runs.sigma.values.tolist(), key=lambda value: abs(np.log(value)))
    parts = []
    for task, length in PANELS:
        at = theory.sel(task=task, length=length), runs.sel(task=task, length=length).mean("seed")
        best, found = (each.sel(sigma=sigma, method="nearest") for each in at)
        ends = [float(found.sel(learner=lazy).min()), float(found.sel(learner=lazy).max())]
        parts.append(
            f"{task}, length {_plain(length)}: oracle {float(best.sel(learner='oracle')):.3f}, network "
            f"{float(found.sel(learner=NAME)):.3f}, lazy methods {ends[0]:.3f} to {ends[1]:.3f}"
        )
    return (
        f"relu, D = {D}, mean errors of runs at sigma = {sigma:.2g}: {'; '.join(parts)}; theory and simulation differ "
        f"by at most {float(worst.sel(learner=lazy).max()):.3f} for lazy methods and "
        f"{float(worst.sel(learner=NAME)):.3f} for the network."
    )


def _plain(length: str) -> str:
    """A length as text."""
    return length.replace(r"\ \mathrm{and}\ ", " and ").replace("{", "(").replace("}", ")")
