"""Linear classifiers by empirical risk minimisation on n = alpha D samples of a Gaussian mixture.

    min_(w, b)  sum_i l(w.x_i/sqrt(D) + b, y_i) + (ridge/2)|w|^2

The saddle point (derived in symbolic/learners/erm.py) is solved in log V, log s, v/s and b/sqrt(1 + q), s = sqrt(q),
where v are the coordinates of w along the means, m_a = mean_a.v: by Newton's method from the square loss with the same
ridge, or along the ridge where that fails.  The averages over a cluster are closed for the square and the hinge loss,
and an adaptive integral over the proximal operator otherwise (`quenched.numerics.saddle.proximal`).  The square loss
needs no iteration: V solves a quadratic (a scalar equation where there is a spectrum), v and b a linear system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.checks import Result, expression_text, flag, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.whitening import whitened
from quenched.numerics.saddle.continuation import followed
from quenched.numerics.saddle.proximal import CHANNEL_ERROR, proximal_averages
from quenched.numerics.saddle.solve import Saddle, SaddlePointError, amplification, jacobian, solve
from quenched.symbolic.language.grammar import LOSS
from quenched.theory import erm

__all__ = ["LEARNERS", "ErmError", "ErmOptions", "erm_curve", "erm_error", "optimal_ridge", "separability_threshold"]

Array = npt.NDArray[np.float64]

theory: Any = erm  # ufunc expressions: they take arrays where their signature says float

_ADVICE = "take a larger ridge, or alpha further from the separability threshold"
_ERROR = {"square": 2e-15, "hinge": 2e-12}  # of the averages, relative; the closed hinge cancels up to V^2 eps
_CANCELS = 0.02  # V/sqrt(1 + q) below which the closed averages of the hinge loss, differences over V^2, are not used
_WIDEST = 1e6  # the largest intercept, in units of 1 + sqrt(q)
_FLAT = 1e-9  # slope of the loss below which the intercept counts as free
_EASY = 1.0  # a ridge from which continuation starts
_RIDGES = (-6.0, 4.0)  # decimal exponents between which the best ridge is sought


@dataclass(frozen=True, eq=False, repr=False)
class ErmError(Result):
    """A linear classifier at its saddle point.

    `classification_error` on new inputs and its numerical error; `training_error` and `training_loss` per sample;
    `energy`: the minimum of the objective per dimension, E/D.  `means` (C,): m_a, the mean of w.x in each cluster;
    `variance`: q; `susceptibility`: V; `intercept`: b; `direction` (p,): w along the coordinates of the means.
    `residual` of the saddle point; `method`; `problem`: what was asked.
    """

    classification_error: float
    classification_error_error: float
    training_error: float
    training_loss: float
    energy: float
    means: Array
    variance: float
    susceptibility: float
    intercept: float
    direction: Array
    residual: float
    method: str
    problem: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def provenance(self) -> dict[str, str]:
        """The problem and the versions of the packages, as attributes that a netCDF file can hold."""
        return provenance(**self.problem)


@dataclass(frozen=True)
class _Equations:
    """The saddle-point equations of a mixture and a loss; x = (log V, log s, v/s, b/sqrt(1 + s^2)), s = sqrt(q)."""

    mixture: Mixture
    loss: str
    alpha: float
    ridge: float
    intercept: bool
    balanced: bool = False  # whether the intercept is solved for in each iteration, not iterated with the rest

    @property
    def nodes(self) -> tuple[Array, Array, Array]:
        """rho (U,), shares (U,) and G (U, p, p)."""
        return self.mixture.eigenvalues[0], self.mixture.shares, self.mixture.alignment

    def unpacked(self, x: Array) -> tuple[float, float, Array, float]:
        """V, s, v (p,) and b."""
        s = float(np.exp(x[1]))
        return float(np.exp(x[0])), s, s * x[2:-1], math.sqrt(1 + s**2) * float(x[-1])

    def channel(self, V: float, s: float, means: Array) -> tuple[Array, ...]:
        """E[f], E[f^2], E[f'] and E[M] in each cluster."""
        y = self.mixture.labels
        if self.loss == "square":
            found = theory.square(V, y, means, s**2)
        elif self.loss == "hinge" and _CANCELS * math.sqrt(1 + s**2) < V:
            move, *others = theory.hinge(V, y * means, s)
            found = [y * move, *others]
        else:
            return proximal_averages(self.loss, y, V, means, s)
        return tuple(np.broadcast_to(part, y.shape) for part in found)

    def conjugates(self, move: Array, squared: Array, slope: Array) -> tuple[Array, float, float]:
        """mh (C,), qh and Vh."""
        mh, qh, Vh = theory.conjugates(self.alpha, self.mixture.weights, move, squared, slope)
        return np.asarray(mh), float(np.sum(qh)), float(np.sum(Vh))

    def spread(self, mh: Array) -> tuple[Array, Array]:
        """G_u h (U, p) and h.G_u h (U,), h = means^T mh."""
        h = self.mixture.means.T @ mh
        drive = self.nodes[2] @ h
        return drive, drive @ h

    def overlaps(self, mh: Array, qh: float, Vh: float) -> tuple[float, float, Array]:
        """V, q and v (p,)."""
        rho, share, _ = self.nodes
        drive, length = self.spread(mh)
        V, q, v = theory.overlaps(
            self.ridge, rho[:, None], share[:, None], Vh, qh, drive, length[:, None]
        )  # fmt: skip
        return float(np.sum(V)), float(np.sum(q)), np.sum(v, axis=0)

    def __call__(self, x: Array) -> Array:
        """One iteration; the intercept by a Newton step on sum_a mh_a = 0, or by its root."""
        with np.errstate(all="ignore"):  # the caller tests what comes out for being finite
            V, s, v, b = self.unpacked(x)
            if self.balanced and self.intercept and np.isfinite([V, s, *v]).all():
                b = self.balance(V, s, v)
            move, squared, slope, _ = self.channel(V, s, self.mixture.means @ v + b)
            mh, qh, Vh = self.conjugates(move, squared, slope)
            new_V, new_q, new_v = self.overlaps(mh, qh, Vh)
            # where no sample is at a kink or on a curve of the loss, Vh = 0 and any b will do
            step = float(mh.sum()) / (Vh + _FLAT * self.alpha) if self.intercept else -b
            return np.array([np.log(new_V), np.log(new_q) / 2, *(new_v / s), (b + step) / math.sqrt(1 + s**2)])

    def balance(self, V: float, s: float, v: Array) -> float:
        """The intercept at which sum_a mh_a = 0: it falls with b, so that a bracket grows until it holds the root."""
        from scipy.optimize import brentq

        def excess(b: float) -> float:
            return float(self.mixture.weights @ self.channel(V, s, self.mixture.means @ v + b)[0])

        width = 1 + s
        while excess(-width) < 0 or excess(width) > 0:
            width *= 2
            if width > _WIDEST * (1 + s):
                raise SaddlePointError(f"no intercept balances the labels at V = {V:.3g}, sqrt(q) = {s:.3g}; {_ADVICE}")
        return float(brentq(excess, -width, width, xtol=1e-15 * s, rtol=4 * np.finfo(float).eps))

    def square_saddle(self) -> Array:
        """x of the square loss: V, then linear equations for v and b, then q."""
        mixture, y, P = self.mixture, self.mixture.labels, self.mixture.weights
        rho, share, G = self.nodes
        V = float(theory.square_susceptibility(self.alpha, self.ridge, float(np.sqrt(rho @ share))))
        if len(rho) > 1:
            start = np.array([np.log(V)])
            V = float(np.exp(solve(self._susceptibility, start, what="V of the square loss", advice=_ADVICE).point[0]))
        Vh = self.alpha / (1 + V)
        A, p = np.hstack([mixture.means, np.ones((mixture.clusters, 1))]), mixture.dimensions
        K = np.zeros((p + 1, p + 1))
        K[:p, :p] = np.einsum("u,upq->pq", 1 / (self.ridge + rho * Vh), G)
        # v = K A^T mh with mh = Vh P (y - A (v, b)), and sum mh = 0
        matrix = np.eye(p + 1) + Vh * K @ A.T @ (P[:, None] * A)
        right = Vh * K @ A.T @ (P * y)
        matrix[p], right[p] = (P @ A, P @ y) if self.intercept else (np.eye(p + 1)[p], 0.0)
        *v, b = np.linalg.solve(matrix, right)
        means = mixture.means @ np.array(v) + b
        mh = Vh * P * (y - means)
        fixed, slope = (self.overlaps(mh, qh, Vh)[1] for qh in (0.0, 1.0))
        at_zero = self.conjugates(*self.channel_of_square(V, means))[1]  # qh without the part of q in it
        slope -= fixed
        q = (fixed + slope * at_zero) / (1 - slope * self.alpha / (1 + V) ** 2)
        s = np.sqrt(q)
        return np.array([np.log(V), np.log(s), *(np.array(v) / s), b / math.sqrt(1 + q)])

    def channel_of_square(self, V: float, means: Array) -> tuple[Array, Array, Array]:
        """E[f], E[f^2] and E[f'] of the square loss at q = 0."""
        move, squared, slope, _ = theory.square(V, self.mixture.labels, means, 0.0)
        return np.asarray(move), np.asarray(squared), np.broadcast_to(slope, means.shape)

    def _susceptibility(self, x: Array) -> Array:
        """The equation for log V of the square loss."""
        Vh = self.alpha / (1 + float(np.exp(x[0])))
        return np.log([self.overlaps(np.zeros(self.mixture.clusters), 0.0, Vh)[0]])


# --- one point


def _start(equations: _Equations) -> Array:
    """The square loss at the same ridge, or at 1e-3 if that is smaller."""
    return replace(equations, loss="square", ridge=max(equations.ridge, 1e-3)).square_saddle()


def _solved(equations: _Equations, start: Array | None) -> tuple[Saddle, str]:
    """The saddle point and the way to it."""
    if equations.loss == "square":
        x = equations.square_saddle()
        change = equations(x) - x
        residual = float(np.abs(change).max())
        amplified = amplification(jacobian(equations, x, x + change))
        return Saddle(x, residual, amplified, len(x) + 2), "square loss: linear equations"
    kind = "closed averages" if equations.loss == "hinge" else "adaptive averages"
    what = f"the saddle point at alpha = {equations.alpha:g}, ridge = {equations.ridge:g}"
    first = _start(equations) if start is None else start
    try:
        return solve(equations, first, what=what, advice=_ADVICE), f"{equations.loss}: Newton, {kind}"
    except SaddlePointError:  # slower and safer: the intercept apart, and from an easy ridge
        safe = replace(equations, balanced=True)
        ridges = _path_to(equations.ridge)
        begin = _start(replace(equations, ridge=ridges[0]))
        saddles = followed(
            lambda ridge: replace(safe, ridge=ridge), ridges, begin, what="the saddle point", advice=_ADVICE
        )
        last = saddles[-1] if equations.ridge > 0 else solve(safe, saddles[-1].point, what=what, advice=_ADVICE)
        return last, f"{equations.loss}: continuation in the ridge, {kind}"


def _path_to(ridge: float) -> list[float]:
    """Ridges from `_EASY` to `ridge` (1e-8 for 0), half a decade apart."""
    end = max(ridge, 1e-8)
    count = 2 + int(abs(2 * math.log10(end / _EASY)))
    return [*np.geomspace(_EASY, end, count)[:-1].tolist(), end]


def _measured(equations: _Equations, saddle: Saddle, method: str) -> ErmError:
    """Errors, losses and the energy at a saddle point."""
    mixture, y, P = equations.mixture, equations.mixture.labels, equations.mixture.weights
    V, s, v, b = equations.unpacked(saddle.point)
    fields = mixture.means @ v + b
    move, squared, slope, envelope = equations.channel(V, s, fields)
    mh, qh, Vh = equations.conjugates(move, squared, slope)
    _, length = equations.spread(mh)
    rho, share, _ = equations.nodes
    at_zero = np.broadcast_to(loss_functions(equations.loss)[1](np.zeros(len(y)), y), y.shape)
    nodes = theory.node_energy(equations.ridge, rho, share, Vh, qh, length)
    clusters = theory.cluster_energy(equations.alpha, P, mh * (fields - b), envelope)
    wrong = theory.classification_error(y, fields, s)
    missed = theory.training_error(V, y, fields, s, at_zero)
    inexact = saddle.amplification * (saddle.residual + _ERROR.get(equations.loss, CHANNEL_ERROR))
    shift = inexact * (math.sqrt(1 + s**2) / s + np.abs(mixture.means).sum(axis=1))  # of (m + b)/s
    density = np.exp(-((fields / s) ** 2) / 2) / math.sqrt(2 * math.pi)
    return ErmError(
        classification_error=float(P @ wrong),
        classification_error_error=float(P @ (density * shift)) + 1e-15,
        training_error=float(P @ missed),
        training_loss=float(P @ np.asarray(theory.training_loss(V, envelope, squared))),
        energy=float(np.sum(nodes) + np.sum(clusters) + theory.pair_energy(V, s**2, Vh, qh)),
        means=fields - b,
        variance=s**2,
        susceptibility=V,
        intercept=b,
        direction=v,
        residual=saddle.residual,
        method=method,
        problem={
            "mixture": mixture,
            "loss": equations.loss,
            "alpha": equations.alpha,
            "ridge": equations.ridge,
            "intercept": equations.intercept,
        },
    )


def erm_error(
    mixture: Mixture, loss: str = "logistic", alpha: float = 2.0, ridge: float = 1.0, *, intercept: bool = True
) -> ErmError:
    """Errors of the minimiser of sum_i l(w.x_i/sqrt(D) + b, y_i) + (ridge/2)|w|^2 at n = alpha D, D -> infinity.

    `mixture`: labels by cluster, means of order 1 (scaling 0), one sigma; isotropic, or with a spectrum that all
    clusters share.  `loss`: square, logistic, hinge, or a convex expression in phi and y.  The residual of the saddle
    point is at most 1e-10.

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
        equations = _checked(mixture, loss, alpha, ridge, intercept)
        saddle, method = _solved(equations, start)
        start = saddle.point
        found.append(_measured(equations, saddle, method))
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
    _check_mixture(mixture)
    (part,) = whitened(mixture)
    means, y, P = part.mixture.means / part.mixture.isotropic_sigma, mixture.labels, mixture.weights
    p = mixture.dimensions

    def average(x: Array) -> float:
        margin = y * (means @ x[:p] + (x[p] if intercept else 0.0))
        return float(P @ theory.shortfall(np.sqrt(1 + x[:p] @ x[:p]), margin))

    from scipy.optimize import minimize

    start = np.append(means.T @ (P * y), 0.0)
    best = minimize(average, start, method="BFGS", options={"gtol": 1e-9})  # convex: any minimum is the least
    slopes = [(average(best.x + 1e-4 * e) - average(best.x - 1e-4 * e)) / 2e-4 for e in np.eye(p + 1)]
    if max(map(abs, slopes)) > 1e-6:
        raise SaddlePointError(
            f"the separability threshold was not found: slope {max(map(abs, slopes)):.3g} at the end"
        )
    return 1 / float(best.fun)


def _check_mixture(mixture: Mixture) -> None:
    record("mixture", mixture, Mixture)
    if mixture.teacher is not None:
        raise ValueError("mixture must have labels by cluster, got a teacher")
    if (mixture.exponents != 0).any():
        raise ValueError(
            f"mixture must have means of order 1 (scaling 0), got scaling={mixture.scaling!r}: for one D take "
            "mixture.finite(D)"
        )
    if (mixture.eigenvalues != mixture.eigenvalues[0]).any():
        raise ValueError(
            "mixture must have one covariance for all clusters, got sigmas or eigenvalues that differ: "
            f"{mixture.sigmas.tolist()}"
        )
    if len(np.unique(mixture.labels)) == 1:
        raise ValueError(f"mixture must have both labels, got only {mixture.labels[0]:g}")


def _checked(mixture: Mixture, loss: str, alpha: float, ridge: float, intercept: bool) -> _Equations:
    _check_mixture(mixture)
    loss = expression_text(loss, LOSS)
    alpha, ridge = number("alpha", alpha, positive=True), number("ridge", ridge)
    flag("intercept", intercept)
    rising = _check_convex(loss)
    if ridge == 0:
        if (mixture.eigenvalues == 0).any():
            raise ValueError("ridge must be > 0 where the spectrum has directions without variance, got 0")
        if rising and alpha <= 1:
            raise ValueError(f"ridge must be > 0 at alpha <= 1, where every sample can be fitted, got 0 at {alpha:g}")
        if not rising and alpha <= (threshold := separability_threshold(mixture, intercept=intercept)):
            raise ValueError(
                f"ridge must be > 0 below the separability threshold alpha* = {threshold:.6g}, where {loss!r} has no "
                f"minimiser, got 0 at alpha = {alpha:g}"
            )
    return _Equations(mixture, loss, alpha, ridge, bool(intercept))


def _check_convex(loss: str) -> bool:
    """Whether the loss rises again at large margins; ValueError if its slope falls anywhere."""
    _, slope, _ = loss_functions(loss)
    phi = np.sinh(np.linspace(-12, 12, 2001))  # +-8e4, dense around 0
    rising = True
    for y in (1.0, -1.0):
        with np.errstate(all="ignore"):
            slopes = np.broadcast_to(slope(phi, y), phi.shape).astype(float)
        finite = np.isfinite(slopes)
        drop = np.diff(slopes[finite])
        size = np.maximum(np.abs(slopes[finite][1:]), np.abs(slopes[finite][:-1]))
        if (drop < -1e-12 * size - 1e-300).any():
            at = phi[finite][int(np.argmin(drop))]
            raise ValueError(
                f"loss must be convex in phi, got {loss!r}, whose slope falls at phi = {at:.3g}, y = {y:g}"
            )
        rising = rising and bool(y * slopes[finite][-1 if y > 0 else 0] > 1e-12)
    return rising


# --- as a learner


@dataclass(frozen=True)
class ErmOptions(Options):
    """The arguments of `erm_error`."""

    loss: str = option("logistic", "Loss of a linear classifier: square, logistic, hinge, or an expression of phi, y.")
    alpha: float = option(2.0, "Samples per dimension, n/D.")
    ridge: float = option(1.0, "Ridge of the readout.")
    without_intercept: bool = option(False, "Leave the intercept of a linear classifier out.")

    @property
    def caption(self) -> str:
        """Loss and number of samples."""
        return f"{self.loss}, n = {self.alpha:g} D"


def _learned(mixture: Mixture, options: ErmOptions) -> Solution:
    """`erm_error` as a solution."""
    intercept = not options.without_intercept
    found = erm_error(mixture, options.loss, options.alpha, options.ridge, intercept=intercept)
    return Solution(found.classification_error, found.classification_error_error, found.method, found.provenance)


LEARNERS = (Learner("erm", _learned, ErmOptions(), "A linear classifier that minimises a convex loss and a ridge."),)
