"""Linear classifiers by empirical risk minimisation on n = alpha D samples of a Gaussian mixture.

    min_(w, b)  sum_i l(w.x_i/sqrt(D) + b, y_i) + (ridge/2)|w|^2

The saddle point (derived in symbolic/learners/erm.py) is solved by `quenched.numerics.saddle.empirical_risk`; here are
the weights on inputs of one spectrum, the mixtures and ridges for which a minimiser exists, and the best ridge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import check_minimised, convex_loss
from quenched.numerics.lazy.taught import check_taught
from quenched.numerics.problem.checks import expression_text, flag, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.whitening import whitened
from quenched.numerics.saddle.empirical_risk import Equations, ErmError, minimiser
from quenched.numerics.saddle.labels import labels_of
from quenched.numerics.saddle.solve import SaddlePointError
from quenched.symbolic.language.grammar import LOSS
from quenched.theory import erm

__all__ = [
    "LEARNERS",
    "ErmError",
    "ErmOptions",
    "SpectrumWeights",
    "check_mixture",
    "check_separable",
    "erm_curve",
    "erm_error",
    "optimal_ridge",
    "separability_threshold",
]

Array = npt.NDArray[np.float64]

theory: Any = erm  # ufunc expressions: they take arrays where their signature says float

_RIDGES = (-6.0, 4.0)  # decimal exponents between which the best ridge is sought


@dataclass(frozen=True)
class SpectrumWeights:
    """Weights on inputs of variance rho_u in shares s_u of the directions, one law for all clusters."""

    mixture: Mixture
    ridge: float

    @property
    def _nodes(self) -> tuple[Array, Array, Array]:
        """rho (U,), shares (U,) and G (U, p, p)."""
        return self.mixture.eigenvalues[0], self.mixture.shares, self.mixture.alignment

    @property
    def noise_per_sample(self) -> float | None:
        """sigma, where there is one."""
        rho, _, _ = self._nodes
        return float(np.sqrt(rho[0])) if len(rho) == 1 else None

    def at_ridge(self, ridge: float) -> SpectrumWeights:
        """The same with another ridge."""
        return replace(self, ridge=ridge)

    def gain(self, Vh: float, p: int) -> Array:
        """K (p, p): v = K h."""
        rho, _, G = self._nodes
        found: Array = np.einsum("u,upq->pq", 1 / (self.ridge + rho * Vh), G)
        return found[:p, :p]

    def overlaps(self, h: Array, qh: float, Vh: float) -> tuple[float, float, Array]:
        """V, q and v (p,)."""
        rho, share, G = self._nodes
        drive = G @ h
        V, q, v = theory.overlaps(self.ridge, rho[:, None], share[:, None], Vh, qh, drive, (drive @ h)[:, None])
        return float(np.sum(V)), float(np.sum(q)), np.sum(v, axis=0)

    def energy(self, h: Array, qh: float, Vh: float) -> float:
        """The term of the weights in E/D."""
        rho, share, G = self._nodes
        return float(np.sum(theory.node_energy(self.ridge, rho, share, Vh, qh, G @ h @ h)))


def erm_error(
    mixture: Mixture, loss: str = "logistic", alpha: float = 2.0, ridge: float = 1.0, *, intercept: bool = True
) -> ErmError:
    """Errors of the minimiser of sum_i l(w.x_i/sqrt(D) + b, y_i) + (ridge/2)|w|^2 at n = alpha D, D -> infinity.

    `mixture`: labels by cluster, means of order 1 (scaling 0), one sigma; isotropic, or with a spectrum that all
    clusters share; or isotropic with a teacher, as in `random_features_erm_error`.  `loss`: square, logistic, hinge, or
    a convex expression in phi and y.  The residual of the saddle point is at most 1e-10.

    ValueError: alpha <= 0, a loss that is not convex, a ridge of 0 where no minimiser exists (below the separability
    threshold, which the message tells), mixtures outside of this.  `SaddlePointError`: no solution was found.

    >>> found = erm_error(Mixture.two_clusters(1.0), "square", alpha=2.0, ridge=1e6)
    >>> print(f"{found.classification_error:.5f}")     # the Bayes error Phi(-sqrt(alpha/(alpha + 1)))
    0.20711
    """
    (found,) = erm_curve(mixture, loss, [alpha], ridge, intercept=intercept)
    return found


def erm_curve(
    mixture: Mixture, loss: str, alphas: Sequence[float], ridge: float = 1.0, *, intercept: bool = True
) -> list[ErmError]:
    """`erm_error` at each alpha, in their order, each from the solution before it."""
    found: list[ErmError] = []
    start: Array | None = None
    for alpha in alphas:
        equations, problem = _checked(mixture, loss, alpha, ridge, intercept)
        each, start = minimiser(equations, start, problem)
        found.append(each)
    return found


def optimal_ridge(mixture: Mixture, loss: str, alpha: float, *, intercept: bool = True) -> ErmError:
    """The ridge of the least classification error, between 1e-6 and 1e4: `problem["ridge"]` of what is returned.

    At an end of that range the error still falls beyond: two clusters of equal weight are learned best as ridge ->
    infinity, where the error is the Bayes error.
    """
    from scipy.optimize import minimize_scalar

    def error(exponent: float) -> float:
        return erm_error(mixture, loss, alpha, 10.0**exponent, intercept=intercept).classification_error

    grid = np.linspace(*_RIDGES, 11)
    values = [error(each) for each in grid]
    i = int(np.argmin(values))
    bounds = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    best = minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    exponent = float(best.x) if best.fun < values[i] else float(grid[i])
    return erm_error(mixture, loss, alpha, 10.0**exponent, intercept=intercept)


# --- where minimisers exist


def separability_threshold(mixture: Mixture, *, intercept: bool = True) -> float:
    """alpha*, below which n = alpha D samples can be separated by a hyperplane as D -> infinity.

        1/alpha* = min_(v, b) sum_a P_a E[max(0, sqrt(1 + |v|^2) xi - y_a (mean_a.v + b))^2],  means in units of sigma

    >>> print(f"{separability_threshold(Mixture.two_clusters(1.0)):.5f}")
    3.70003
    """
    check_mixture(mixture)
    if mixture.teacher is not None:
        raise ValueError(f"mixture must have labels by cluster for a separability threshold, got {mixture.teacher!r}")
    if (mixture.eigenvalues == 0).any():
        raise ValueError(
            "mixture must have variance in all directions, got a spectrum with eigenvalue 0, whose directions separate "
            "its clusters"
        )
    (part,) = whitened(mixture)
    means, y, P = part.mixture.means / part.mixture.isotropic_sigma, mixture.labels, mixture.weights
    p = mixture.dimensions

    def logarithm(x: Array) -> float:
        margin = y * (means @ x[:p] + (x[p] if intercept else 0.0))
        return float(np.log(P @ theory.shortfall(np.sqrt(1 + x[:p] @ x[:p]), margin)))

    from scipy.optimize import minimize

    start = np.append(means.T @ (P * y), 0.0)
    # The average is convex: a point where the slope of its logarithm vanishes is its minimum.  The logarithm, as the
    # threshold may be 1e10, and a slope of it is relative.
    best = minimize(logarithm, start, method="BFGS", jac="3-point", options={"gtol": 1e-9})
    slopes = [(logarithm(best.x + 1e-4 * e) - logarithm(best.x - 1e-4 * e)) / 2e-4 for e in np.eye(p + 1)]
    if max(map(abs, slopes)) > 1e-6:  # a slope s leaves s^2/2 of the value, relative to the curvature
        raise SaddlePointError(
            f"the separability threshold was not found: slope {max(map(abs, slopes)):.3g} at the end"
        )
    return float(np.exp(-best.fun))


def check_mixture(mixture: Mixture) -> None:
    """ValueError unless it has means of order 1, one covariance, and both labels by cluster or a teacher.

    Inputs of a teacher are isotropic.
    """
    if record("mixture", mixture, Mixture).teacher is None:
        mixture.check_labelled()
    else:
        check_taught(mixture, elsewhere=False)
    if (mixture.eigenvalues != mixture.eigenvalues[0]).any():
        raise ValueError(
            "mixture must have one covariance for all clusters, got sigmas or eigenvalues that differ: "
            f"{mixture.sigmas.tolist()}"
        )
    if mixture.teacher is None and len(np.unique(mixture.labels)) == 1:
        raise ValueError(f"mixture must have both labels, got only {mixture.labels[0]:g}")


def check_separable(mixture: Mixture, loss: str, rising: bool) -> None:
    """ValueError: no ridge, a loss without a minimiser on separable data, and labels by a teacher.

    Up to which alpha these are separable is not known here.
    """
    if mixture.teacher is not None and not rising:
        raise ValueError(f"ridge must be > 0 for loss={loss!r} where a teacher makes the labels, got 0")


def _checked(
    mixture: Mixture, loss: str, alpha: float, ridge: float, intercept: bool
) -> tuple[Equations, dict[str, Any]]:
    """The equations, and what was asked."""
    check_mixture(mixture)
    loss = expression_text(loss, LOSS)
    alpha, ridge = number("alpha", alpha, positive=True), number("ridge", ridge)
    flag("intercept", intercept)
    rising = convex_loss(loss)
    check_minimised(loss, ridge, intercept)
    if ridge == 0:
        if (mixture.eigenvalues == 0).any():
            raise ValueError("ridge must be > 0 where the spectrum has directions without variance, got 0")
        if rising and alpha <= 1:
            raise ValueError(f"ridge must be > 0 at alpha <= 1, where every sample can be fitted, got 0 at {alpha:g}")
        check_separable(mixture, loss, rising)
        if not rising and alpha <= (threshold := separability_threshold(mixture, intercept=intercept)):
            raise ValueError(
                f"ridge must be > 0 below the separability threshold alpha* = {threshold:.6g}, where {loss!r} has no "
                f"minimiser, got 0 at alpha = {alpha:g}"
            )
    asked = {"loss": loss, "alpha": alpha, "ridge": ridge, "intercept": bool(intercept)}
    weights = SpectrumWeights(mixture, ridge)
    equations = Equations(mixture, labels_of(mixture, loss), loss, alpha, weights, bool(intercept))
    return equations, {"mixture": mixture, **asked}


# --- as a learner


@dataclass(frozen=True)
class ErmOptions(Options):
    """The arguments of `erm_error`."""

    loss: str = option("logistic", "A convex loss: a name, such as logistic or hinge, or an expression of phi and y.")
    alpha: float = option(2.0, "Samples per dimension, n/D.")
    ridge: float = option(1.0, "Ridge of the readout.")
    without_intercept: bool = option(False, "Leave the intercept out.")

    @property
    def caption(self) -> str:
        """Loss and number of samples."""
        return f"{self.loss}, n = {self.alpha:g} D"


def _learned(mixture: Mixture, options: ErmOptions) -> Solution:
    """`erm_error` as a solution."""
    intercept = not options.without_intercept
    found = erm_error(mixture, options.loss, options.alpha, options.ridge, intercept=intercept)
    return found.solution()


LEARNERS = (Learner("erm", _learned, ErmOptions(), "A linear classifier that minimises a convex loss and a ridge."),)
