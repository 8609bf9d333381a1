"""Figure `possible`: what n = alpha D samples can teach at all, what learners make of them, and where XOR is learnable.

At finite D AMP stays below 1/2 on XOR by O(1/D) even where nothing can be learned as D -> infinity: an overlap of order
D^(-1/2) with a mean is of use whatever its sign.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from quenched.numerics.bayes import bayes_error, critical_alpha
from quenched.numerics.erm import erm_error, optimal_ridge
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.variables import described
from quenched.numerics.random_features_erm import random_features_erm_error
from quenched.numerics.two_layer.flow import integrate, random_state
from quenched.sim.amp import simulate_amp
from quenched.sim.drawing.captions import listed, of_network, of_rule, of_seeds
from quenched.sim.drawing.style import (
    ERROR,
    LEVEL,
    PAGE,
    Cue,
    chance,
    cues,
    letters,
    log_ticks,
    marker,
    points,
    styled,
)
from quenched.sim.processes import Work

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence"]

TASKS = {"two clusters": Mixture.two_clusters(1.0), "XOR": Mixture.xor(0.6)}
TIMES = np.geomspace(0.1, 1000.0, 241)  # alpha of the network, whose time it is
ALPHAS, FEW = TIMES[::4], TIMES[::12]  # alpha of other learners, and of those that are solved for many ridges
POINTS = np.geomspace(0.13, 8.3, 9)  # of AMP
D, SEEDS, ITERATIONS, OVERLAP, TESTS = 1000, range(8), 60, 0.05, 20_000
STARTS = {"two clusters": "random", "XOR": "spectral"}
SMALL = 1e-3  # ridge of the logistic loss, beside its best
NETWORK, SGD = TwoLayer(4, "relu"), OnlineSGD(lr=0.1)
STATES = range(6)  # seeds of initial states of the network, of which the best at the end counts
SIGMAS, PHASE = np.geomspace(0.3, 1.2, 25), np.geomspace(0.02, 20.0, 49)  # of the phase diagram: sigma and alpha
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.45)  # its contours of the error

FEATURES = 0.5  # P/D of random features

BAYES, BEST, RIDGE, RANDOM, SGD_NAME = (
    "Bayes-optimal",
    "logistic, best ridge",
    f"logistic, ridge {SMALL:g}",
    f"relu features, P/D = {FEATURES:g}",
    "two-layer network",
)


def _features(mixture: Mixture, alpha: float) -> float:
    """Of random features with the logistic loss and the small ridge."""
    found = random_features_erm_error(mixture, "relu", "logistic", alpha, FEATURES, SMALL)
    return found.classification_error


# A learner of this table is a curve of both panels: its error on a mixture at alpha, and where it is computed.
CURVES: dict[str, tuple[Callable[[Mixture, float], float], Sequence[float]]] = {
    BAYES: (lambda mixture, alpha: bayes_error(mixture, alpha).classification_error, ALPHAS.tolist()),
    BEST: (lambda mixture, alpha: optimal_ridge(mixture, "logistic", alpha).classification_error, FEW.tolist()),
    RIDGE: (lambda mixture, alpha: erm_error(mixture, "logistic", alpha, SMALL).classification_error, ALPHAS.tolist()),
    RANDOM: (_features, ALPHAS.tolist()),
}


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Curves of the theory, the network, runs of AMP, and the phase diagram."""
    import xarray as xr

    jobs = [(task, name, alpha) for task, (name, (_, alphas)) in product(TASKS, CURVES.items()) for alpha in alphas]
    curves = xr.DataArray(
        np.full((len(TASKS), len(CURVES) + 1, len(TIMES)), np.nan),
        {"task": list(TASKS), "learner": [*CURVES, SGD_NAME], "alpha": TIMES},
        ("task", "learner", "alpha"),
    )
    for (task, name, alpha), value in zip(jobs, work.part(0, 0.4).map(curve, jobs), strict=True):
        curves.loc[{"task": task, "learner": name, "alpha": alpha}] = value
    networks = work.part(0.4, 0.5).map(network, [(task, seed) for task, seed in product(TASKS, STATES)])
    best = {}
    for i, task in enumerate(TASKS):
        errors = networks[i * len(STATES) : (i + 1) * len(STATES)]
        chosen = int(np.argmin([each[-1] for each in errors]))
        best[task] = STATES[chosen]
        curves.loc[{"task": task, "learner": SGD_NAME}] = errors[chosen]
    runs = work.part(0.5, 0.9).map(passing, list(product(TASKS, POINTS.tolist())))
    reached = np.reshape(runs, (len(TASKS), len(POINTS), len(SEEDS)))
    phase = work.part(0.9, 1.0).map(row, [(float(sigma),) for sigma in SIGMAS])
    shown = {"oracle": ("task", [float(oracle_error(mixture)) for mixture in TASKS.values()])}
    attrs = provenance(
        tasks={task: mixture.to_dict() for task, mixture in TASKS.items()},
        simulation={"D": D, "iterations": ITERATIONS, "overlap": OVERLAP, "start": STARTS},
        network=NETWORK, sgd=SGD, initial=best, starts=len(STATES), ridge=SMALL, seeds=list(SEEDS),
    )  # fmt: skip
    points = {"task": list(TASKS), "alpha": POINTS, "seed": list(SEEDS)}
    grid = {"sigma": SIGMAS, "alpha": PHASE}
    return {
        "theory": described(xr.Dataset({"classification_error": curves, **shown}, attrs=attrs)),
        "amp": described(xr.Dataset({"classification_error": (tuple(points), reached)}, points, attrs)),
        "phase": described(
            xr.Dataset(
                {
                    "classification_error": (tuple(grid), np.array(phase)),
                    "critical_alpha": ("sigma", [critical_alpha(Mixture.xor(float(s))) for s in SIGMAS]),
                },
                grid,
                attrs,
            )
        ),
    }


def curve(task: str, learner: str, alpha: float) -> float:
    """The error of a learner of CURVES."""
    return CURVES[learner][0](TASKS[task], alpha)


def network(task: str, seed: int) -> np.ndarray:
    """Errors of the network along its equations, at t = alpha."""
    mixture = TASKS[task]
    state = random_state(mixture, NETWORK, D, seed)
    return np.asarray(integrate(mixture, NETWORK, SGD, state, TIMES, rtol=1e-6).classification_error.values)


def passing(task: str, alpha: float) -> np.ndarray:
    """Errors of AMP at its end, by seed."""
    run = simulate_amp(TASKS[task], alpha, D, list(SEEDS), ITERATIONS, STARTS[task], OVERLAP, "numpy", TESTS)
    return np.asarray(run.classification_error[:, -1].values)


def row(sigma: float) -> np.ndarray:
    """Bayes-optimal errors of XOR against alpha."""
    return np.array([bayes_error(Mixture.xor(sigma), float(alpha)).classification_error for alpha in PHASE])


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """Error against alpha for each task, and the phase diagram of XOR."""
    theory, runs = data["theory"], data["amp"].classification_error
    tasks, learners = list(theory.task.values), list(theory.learner.values)
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    *panels, last = figure.subplots(1, len(tasks) + 1)
    letters((*panels, last))
    look = dict(zip(learners, cues(len(learners)), strict=True))
    simulation = json.loads(theory.attrs["simulation"])
    for axes, task in zip(panels, tasks, strict=True):
        chance(axes)
        axes.axhline(float(theory.oracle.sel(task=task)), **LEVEL)
        for learner in learners:
            line = theory.classification_error.sel(task=task, learner=learner).dropna("alpha")
            axes.plot(line.alpha, line, **look[learner].line, lw=2.0 if learner == BAYES else 1.1)
        points(axes, runs.alpha, runs.sel(task=task), Cue("0.1", "o", "-"))
        axes.set(title=f"{task}, $\\sigma = {_sigma(theory, task):g}$", xscale="log", xlabel=r"$\alpha = n/D$")
        axes.set(ylim=(0.1, 0.55), xlim=(float(theory.alpha.min()), float(theory.alpha.max())))
        log_ticks(axes.xaxis, (1,))
    if "XOR" in tasks:
        threshold = critical_alpha(Mixture.xor(_sigma(theory, "XOR")))
        axes = panels[tasks.index("XOR")]
        axes.axvline(threshold, color="0.45", lw=1, ls=":")
        axes.text(threshold * 1.1, 0.12, r"$\alpha_c = 2\sigma^4$")
        axes.text(8, 0.512, "linear, random features", fontsize=7, ha="center")
    panels[0].set_ylabel(ERROR)
    _phase(last, data["phase"])
    rule, net = OnlineSGD.from_dict(json.loads(theory.attrs["sgd"])), json.loads(theory.attrs["network"])
    told = {SGD_NAME: f"network online, $t = \\alpha$: K = {net['K']} {net['activation']}, {rule.words['lr']}"}
    told[SGD_NAME] += f", best of {json.loads(theory.attrs['starts'])} starts"
    handles = [
        Line2D([], [], **look[name].line, lw=2.0 if name == BAYES else 1.1, label=told.get(name, name))
        for name in learners
    ]
    count = runs.sizes["seed"]
    label = f"AMP, D = {simulation['D']}, {simulation['iterations']} iterations, mean ± s.e. of {count} runs"
    handles.append(marker("0.1", label))
    handles.append(Line2D([], [], **LEVEL, label="oracle, which knows the means"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _sigma(theory: xr.Dataset, task: str) -> float:
    """The noise of a task."""
    return float(json.loads(theory.attrs["tasks"])[task]["sigma"])


def _phase(axes: Axes, found: xr.Dataset) -> None:
    """Contours of the Bayes-optimal error of XOR over alpha and sigma; nothing is learned in the hatched region."""
    error = found.classification_error
    lines = axes.contour(error.alpha, error.sigma, error, LEVELS, colors="0.2", linewidths=1)
    critical = found.critical_alpha
    axes.plot(critical, found.sigma, color="black", lw=2)
    low = float(error.alpha.min())
    axes.fill_betweenx(found.sigma, low, critical, where=critical > low, facecolor="0.9", hatch="//", edgecolor="0.7")
    axes.set(xscale="log", xlabel=r"$\alpha = n/D$", ylabel=r"$\sigma$", title="XOR, Bayes-optimal")
    axes.set(xlim=(low, float(error.alpha.max())), ylim=(float(found.sigma.min()), float(found.sigma.max())))
    # last, as lines are cut where labels stand on these axes
    axes.clabel(lines, fmt=lambda level: f"{level:g}", fontsize=7, inline_spacing=2)
    text: dict[str, Any] = {
        "ha": "center",
        "va": "center",
        "fontsize": 7,
        "bbox": {"fc": "white", "ec": "none", "pad": 1.0},
    }
    axes.text(0.24, 0.8, "nothing can be\nlearned: " + r"$\alpha < 2\sigma^4$", transform=axes.transAxes, **text)
    log_ticks(axes.xaxis, (1,))


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    chosen = json.loads(data["theory"].attrs["initial"])
    states = listed(f"{seed} ({task})" for task, seed in chosen.items())
    noise = listed(f"{task} (σ = {mixture.isotropic_sigma:g})" for task, mixture in TASKS.items())
    return (
        f"What n = α D labelled samples can teach: error against α on {noise}, means of length 1 and unknown (a, b), "
        "and the Bayes-optimal error of XOR over α and σ with its contours, hatched where no learner beats chance (c). "
        " Lines are theory for D → ∞: the Bayes-optimal learner and linear classifiers with the logistic loss at the "
        f"best ridge and at the ridge {SMALL:g}, relu random features with P = {FEATURES:g} D at that ridge (replica "
        f"theory); {of_network(NETWORK)}, {of_rule(SGD)}, on each sample once, t = α, the best at the end of "
        f"{len(STATES)} random states, of seed {states}, made in dimension {D}, w_k ~ N(0, 1), v_k ~ N(0, 1/K).  "
        f"Points are simulations: approximate message passing on samples at D = {D}, {ITERATIONS} iterations from a "
        f"{listed(f'{start} start ({task})' for task, start in STARTS.items())} (random: overlap {OVERLAP:g}), mean ± "
        f"standard error of {of_seeds(SEEDS)}, {TESTS} test samples each, which left of the threshold stays below 1/2 "
        "by O(1/D).  Grey band: the oracle, which knows the means."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """Where XOR becomes learnable, and by how much the network is later than what is possible."""
    theory = data["theory"]
    xor = theory.classification_error.sel(task="XOR")
    half = (0.5 + float(theory.oracle.sel(task="XOR"))) / 2
    reached = {}
    for name in (BAYES, SGD_NAME, BEST):
        line = xor.sel(learner=name).dropna("alpha")
        below = line.alpha.values[line.values < half]
        reached[name] = f"at alpha = {below[0]:.2g}" if below.size else f"not by alpha = {float(line.alpha.max()):g}"
    sigma = _sigma(theory, "XOR")
    threshold = critical_alpha(Mixture.xor(sigma))
    return (
        f"XOR at sigma = {sigma:g}: below alpha = {threshold:.3f} nothing can be learned; half of what the means would "
        f"give is learned {reached[BAYES]} at best, {reached[SGD_NAME]} by the network online, and {reached[BEST]} by "
        "a linear classifier."
    )
