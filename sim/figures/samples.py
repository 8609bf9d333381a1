"""Figure `samples`: error against n/D of learners on a fixed training set, theory and training sets.

Linear classifiers and random features on two clusters, with the double descent where they just fit the samples; kernels
on XOR, which n of order D samples teach nothing and n of order D^2 teach what the oracle knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.special import ndtr

from quenched.numerics.bayes import bayes_error
from quenched.numerics.erm import erm_error
from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import described
from quenched.numerics.random_features_erm import random_features_erm_error
from quenched.sim.drawing.captions import apart, listed, of_seeds
from quenched.sim.drawing.style import (
    ERROR,
    LEVEL,
    PAGE,
    chance,
    cues,
    key,
    letters,
    log_ticks,
    marker,
    points,
    styled,
)
from quenched.sim.kernel_ridge import Measuring, simulate_kernel
from quenched.sim.processes import Work
from quenched.sim.random_features import simulate_features

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["caption", "compute", "draw", "sentence", "trained"]

TWO, XOR = Mixture.two_clusters(1.0), Mixture.xor(0.4)
D, SEEDS = 300, range(10)
ALPHAS, POINTS = np.geomspace(0.2, 20.0, 81), np.array([0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0, 8.0])
LINEAR = {  # (loss, ridge)
    "square, ridge 0.001": ("square", 1e-3),
    "square, ridge 1": ("square", 1.0),
    "logistic, ridge 0.001": ("logistic", 1e-3),
    "logistic, ridge 1": ("logistic", 1.0),
}
GAMMAS, RIDGE = (0.5, 2.0), 1e-4  # of random features
KERNELS = {"quadratic": "polynomial:2", "exponential": "exponential"}
QUADRATIC_D, QUADRATIC_RIDGE = 50, 0.01  # of kernels with n of order D^2
QUADRATIC, QUADRATIC_POINTS = np.geomspace(0.05, 20.0, 61), np.array([0.1, 0.25, 0.5, 1.0, 2.0])  # n/(D^2/2)
BAYES = "Bayes-optimal"


def compute(work: Work) -> dict[str, xr.Dataset]:
    """Theory and training sets of linear classifiers, random features and kernels."""
    linear, features, kernels = [BAYES, *LINEAR], [_features_name(gamma) for gamma in GAMMAS], list(KERNELS)
    theory = work.part(0, 0.4)
    lines = {
        "linear": theory.map(linear_theory, list(product(linear, ALPHAS.tolist()))),
        "features": theory.map(features_theory, list(product(GAMMAS, ALPHAS.tolist()))),
        "kernels": theory.map(kernel_theory, list(product(KERNELS.values(), QUADRATIC.tolist()))),
    }
    runs = {
        "linear": work.part(0.4, 0.6).map(trained, list(product(LINEAR.values(), POINTS.tolist()))),
        "features": work.part(0.6, 0.8).map(features_runs, list(product(GAMMAS, POINTS.tolist()))),
        "kernels": work.part(0.8, 1).map(kernel_runs, list(product(KERNELS.values(), QUADRATIC_POINTS.tolist()))),
    }
    names = {"linear": (linear, linear[1:]), "features": (features, features), "kernels": (kernels, kernels)}
    data = {}
    for part, (all_of_them, run) in names.items():
        finer, coarser = (QUADRATIC, QUADRATIC_POINTS) if part == "kernels" else (ALPHAS, POINTS)
        data[f"{part}_theory"] = _dataset(lines[part], {"learner": all_of_them, "alpha": finer})
        data[f"{part}_simulation"] = _dataset(runs[part], {"learner": run, "alpha": coarser, "seed": list(SEEDS)})
    return data


def _dataset(values: Sequence[object], coords: Mapping[str, Sequence[object] | np.ndarray]) -> xr.Dataset:
    import xarray as xr

    errors = np.reshape(np.asarray(values, dtype=np.float64), [len(each) for each in coords.values()])
    attrs = provenance(two_clusters=TWO, xor=XOR, D=D, features_ridge=RIDGE, kernel_D=QUADRATIC_D,
                       kernel_ridge=QUADRATIC_RIDGE, kernels=KERNELS, losses=LINEAR)  # fmt: skip
    return described(xr.Dataset({"classification_error": (tuple(coords), errors)}, dict(coords), attrs))


def _features_name(gamma: float) -> str:
    return f"P = {gamma:g} D"


def linear_theory(learner: str, alpha: float) -> float:
    """Of a linear classifier, or of the best learner."""
    if learner == BAYES:
        return bayes_error(TWO, alpha).classification_error
    loss, ridge = LINEAR[learner]
    return erm_error(TWO, loss, alpha, ridge).classification_error


def features_theory(gamma: float, alpha: float) -> float:
    """Of random features with the square loss."""
    return random_features_erm_error(TWO, "relu", "square", alpha, gamma, RIDGE).classification_error


def kernel_theory(kernel: str, alpha: float) -> float:
    """Of a kernel on n = alpha D^2/2 samples of XOR, at finite D."""
    found = kernel_error(XOR, kernel, alpha, QUADRATIC_RIDGE, samples="quadratic", D=QUADRATIC_D)
    return found.classification_error


def trained(problem: tuple[str, float], alpha: float) -> np.ndarray:
    """Errors (seed) of linear classifiers fitted by scikit-learn; exact given the classifier."""
    from sklearn.linear_model import LogisticRegression, Ridge

    loss, ridge = problem
    errors = []
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        n = round(alpha * D)
        cluster = random.choice(TWO.clusters, n, p=TWO.weights)
        X = TWO.isotropic_sigma * random.standard_normal((n, D))
        X[:, : TWO.dimensions] += TWO.means[cluster]
        y = TWO.labels[cluster]
        fit: Ridge | LogisticRegression
        if loss == "square":  # |y - X w|^2 + ridge |w|^2, twice the theory's
            fit = Ridge(alpha=ridge).fit(X / np.sqrt(D), y)
        else:  # C sum l + |w|^2/2
            fit = LogisticRegression(C=1 / ridge, tol=1e-8, max_iter=10_000).fit(X / np.sqrt(D), y)
        w, b = np.ravel(fit.coef_) / np.sqrt(D), float(np.ravel(fit.intercept_)[0])
        margins = TWO.labels * (TWO.means @ w[: TWO.dimensions] + b) / (TWO.isotropic_sigma * np.linalg.norm(w))
        errors.append(float(TWO.weights @ ndtr(-margins)))
    return np.array(errors)


def features_runs(gamma: float, alpha: float) -> np.ndarray:
    """Errors (seed) of ridge regression on real random features, |w|^2 in the units of the theory."""
    n, P = round(alpha * D), round(gamma * D)
    ridge = RIDGE * P / n  # the theory has w.z/sqrt(P) and a sum, the simulation w.z and a mean
    found = simulate_features(TWO, "relu", D, P, SEEDS, ridge, readout="samples", samples=n, intercept=True,
                              backend="numpy")  # fmt: skip
    return found.classification_error.values


def kernel_runs(kernel: str, alpha: float) -> np.ndarray:
    """Errors (seed) of kernel regression on real samples."""
    n = round(alpha * QUADRATIC_D**2 / 2)
    return simulate_kernel(
        XOR, kernel, QUADRATIC_D, n, SEEDS, QUADRATIC_RIDGE, backend="numpy"
    ).classification_error.values


@styled
def draw(data: Mapping[str, xr.Dataset]) -> Figure:
    """A panel for linear classifiers, one for random features, one for kernels."""
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    panels = dict(zip(("linear", "features", "kernels"), figure.subplots(1, 3), strict=True))
    letters(panels.values())
    for part, axes in panels.items():
        theory, runs = (data[f"{part}_{kind}"].classification_error for kind in ("theory", "simulation"))
        chance(axes)
        names = [str(name) for name in theory.learner.values if name != BAYES]
        look = dict(zip(names, cues(len(names)), strict=True))
        for name, cue in look.items():
            axes.plot(theory.alpha, theory.sel(learner=name), **cue.line)
            points(axes, runs.alpha, runs.sel(learner=name), cue)
        handles = [key(cue, name) for name, cue in look.items()]
        if BAYES in theory.learner:
            axes.plot(theory.alpha, theory.sel(learner=BAYES), color="0.0", lw=2)
            handles = [Line2D([], [], color="0.0", lw=2, label=BAYES), *handles]
        axes.axhline(float(oracle_error(XOR if part == "kernels" else TWO)), **LEVEL)
        axes.set(xscale="log", xlim=(float(theory.alpha[0]), float(theory.alpha[-1])))
        log_ticks(axes.xaxis, (1,))
        axes.set_xlabel(r"$n/(D^2/2)$" if part == "kernels" else r"$\alpha = n/D$")
        axes.legend(handles=handles, loc="upper right", fontsize=6.5, frameon=True, edgecolor="none", framealpha=1)
    panels["linear"].set(ylabel=ERROR, title="linear, two clusters", ylim=(0.12, 0.62))
    panels["features"].set(title="relu features, two clusters", ylim=(0.12, 0.62))
    panels["kernels"].set(title="kernels, XOR", ylim=(0, 0.62))
    figure.legend(
        handles=[
            Line2D([], [], color="0.3", label="lines: theory"),
            marker(label=f"points: {len(SEEDS)} training sets, mean ± s.e."),
            Line2D([], [], label="oracle", **LEVEL),
        ],
        loc="outside lower center",
        ncols=3,
    )
    return figure


def caption(data: Mapping[str, xr.Dataset]) -> str:
    """Panels, parameters, runs."""
    return (
        "Classification error of learners on a fixed training set of n samples.  (a) Linear classifiers with "
        f"intercept on two clusters of means ±e1, σ = {TWO.isotropic_sigma:g}, of loss and ridge as named, beside the "
        f"Bayes-optimal learner; (b) ridge regression (square loss, ridge {RIDGE:g}, intercept) on P relu random "
        f"features, the same mixture; (c) kernel ridge regression (ridge {QUADRATIC_RIDGE:g}), {listed(KERNELS)} "
        f"kernel, on XOR with means of length 1, σ = {XOR.isotropic_sigma:g}, with n of order D^2.  Lines are theory: "
        f"replica-symmetric for D → ∞ (a, b), the deterministic equivalent at D = {QUADRATIC_D} (c).  Points are "
        f"simulations: minimisers on training sets at D = {D} (a, b) and {QUADRATIC_D} (c), mean ± standard error of "
        f"{of_seeds(SEEDS)}, errors exact given the classifier (a, b) or on {Measuring().test_samples} test samples "
        "(c).  Grey band: the oracle, which knows the means; thin line: chance."
    )


def sentence(data: Mapping[str, xr.Dataset]) -> str:
    """How far theory and training sets are apart, and where the peaks are."""
    parts = []
    for part in ("linear", "features", "kernels"):
        theory, runs = (data[f"{part}_{kind}"].classification_error for kind in ("theory", "simulation"))
        off = apart(theory.sel(learner=runs.learner), runs, "alpha")
        z = off * np.sqrt(runs.sizes["seed"]) / runs.std("seed", ddof=1)
        parts.append(f"{part} {float(off.max()):.4f} (rms {float(np.sqrt((z**2).mean())):.1f} standard errors)")
    features = data["features_theory"].classification_error
    inner = features.sel(alpha=features.alpha[features.alpha > min(GAMMAS) / 2])  # beyond the first descent
    peaks = listed(
        f"{float(inner.alpha[int(line.values.argmax())]):.2f} D (P = {gamma:g} D)"
        for gamma, line in zip(GAMMAS, inner, strict=True)
    )
    kernels = data["kernels_theory"].classification_error
    first, last = (float(kernels.isel(alpha=i).min()) for i in (0, -1))
    fewest, most = (float(kernels.alpha[i]) * QUADRATIC_D**2 / 2 for i in (0, -1))
    return (
        f"largest distance of lines and points: {', '.join(parts)}; on random features the error peaks near n = "
        f"{peaks}; of XOR the better kernel has the error {first:.3f} after n = {fewest / QUADRATIC_D:.2g} D samples "
        f"and {last:.3f} after {most / QUADRATIC_D**2:.2g} D^2."
    )
