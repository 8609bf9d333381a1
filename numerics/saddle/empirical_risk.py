"""The saddle point of a linear readout that minimises a convex loss and a ridge: what learners on n = alpha D share.

The loss and the clusters are one half of the potential (symbolic/learners/erm.py): conjugates mh_a, qh, Vh from the
order parameters.  The weights are the other half, V, q and v from the conjugates, where m_a = mean_a.v: `Weights`, of
inputs with a spectrum, of random features, of a kernel.

Solved in log V, log s, v/s and b/sqrt(1 + q), s = sqrt(q), by Newton's method from the square loss with the same ridge,
or along the ridge where that fails.  The averages over a cluster are closed for the square and the hinge loss, and an
adaptive integral over the proximal operator otherwise (`quenched.numerics.saddle.proximal`).  The square loss needs no
iteration but for V: v and b solve a linear system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import kinks, loss_functions
from quenched.numerics.problem.learner import LearnerError
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.saddle.continuation import followed
from quenched.numerics.saddle.proximal import Channel, proximal_averages
from quenched.numerics.saddle.solve import Saddle, SaddlePointError, amplification, jacobian, solve
from quenched.theory import erm

__all__ = ["Equations", "ErmError", "Weights", "minimiser"]

Array = npt.NDArray[np.float64]

theory: Any = erm  # ufunc expressions: they take arrays where their signature says float

_ADVICE = "take a larger ridge, or alpha further from the separability threshold"
_SQUARE_ERROR, _HINGE_ERROR = 2e-15, 2e-12  # of closed averages, relative; those of the hinge cancel up to V^2 eps
_CANCELS = 0.02  # V/sqrt(1 + q) below which the closed averages of the hinge loss, differences over V^2, are not used
_WIDEST = 1e6  # the largest intercept, in units of 1 + sqrt(q)
_SAME = 1e-15  # of a step of the intercept, in units of sqrt(q) + |b|: the last
_FLAT = 1e-9  # slope of the loss below which the intercept counts as free
_SMOOTH, _KINKED, _APART = 60, 20, 30  # Newton steps before a safer way is taken
_EASY = 1.0  # a ridge from which continuation starts
_LEAST = 1e-3  # the least ridge of the square loss that other losses start from


class Weights(Protocol):
    """What weights do under given conjugates: overlaps, their term of the energy, the same at another ridge."""

    @property
    def ridge(self) -> float:
        """The factor of |w|^2/2."""
        ...

    @property
    def noise_per_sample(self) -> float | None:
        """Noise sigma of isotropic inputs, for which V of the square loss is closed; None: it is solved for."""
        ...

    def at_ridge(self, ridge: float) -> Weights:
        """The same with another ridge."""
        ...

    def gain(self, Vh: float) -> Array:
        """K (p, p): v = K h at h = sum_a mh_a mean_a."""
        ...

    def overlaps(self, h: Array, qh: float, Vh: float) -> tuple[float, float, Array]:
        """V, q and v (p,)."""
        ...

    def energy(self, h: Array, qh: float, Vh: float) -> float:
        """The term of the weights in E/D."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class ErmError(LearnerError):
    """A linear classifier at its saddle point.

    `classification_error` on new inputs and its numerical error; `training_error` and `training_loss` per sample;
    `energy`: the minimum of the objective per dimension, E/D.  `means` (C,): m_a, the mean of w.x in each cluster;
    `variance`: q; `susceptibility`: V; `intercept`: b; `direction` (p,): w, or what it does through the features, along
    the coordinates of the means.
    `residual` of the saddle point; `gradient`: the largest derivative of E/D by an order parameter or a conjugate, in
    their own units; `method`; `problem`: what was asked.
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
    gradient: float
    method: str
    problem: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Equations:
    """The saddle-point equations of a mixture, a loss and weights; x = (log V, log s, v/s, b/sqrt(1 + s^2))."""

    mixture: Mixture
    loss: str
    alpha: float
    weights: Weights
    intercept: bool
    balanced: bool = False  # whether the intercept is solved for in each iteration, not iterated with the rest

    def unpacked(self, x: Array) -> tuple[float, float, Array, float]:
        """V, s, v (p,) and b."""
        s = float(np.exp(x[1]))
        return float(np.exp(x[0])), s, s * x[2:-1], math.sqrt(1 + s**2) * float(x[-1])

    def channel(self, V: float, s: float, means: Array) -> Channel:
        """The averages of the move in each cluster."""
        y = self.mixture.labels
        if self.loss == "square":
            found, error = theory.square(V, y, means, s**2), _SQUARE_ERROR
        elif self.loss == "hinge" and _CANCELS * math.sqrt(1 + s**2) < V:
            of_margin, *others = theory.hinge(V, y * means, s)
            found, error = [y * of_margin, *others], _HINGE_ERROR
        else:
            return proximal_averages(self.loss, y, V, means, s)
        move, squared, slope, envelope = (np.broadcast_to(part, y.shape) for part in found)
        return Channel(move, squared, slope, envelope, error)

    def conjugates(self, move: Array, squared: Array, slope: Array) -> tuple[Array, float, float]:
        """mh (C,), qh and Vh."""
        mh, qh, Vh = theory.conjugates(self.alpha, self.mixture.weights, move, squared, slope)
        return np.asarray(mh), float(np.sum(qh)), float(np.sum(Vh))

    def __call__(self, x: Array) -> Array:
        """One iteration; the intercept by a Newton step on sum_a mh_a = 0, or by its root."""
        with np.errstate(all="ignore"):  # the caller tests what comes out for being finite
            V, s, v, b = self.unpacked(x)
            if self.balanced and self.intercept and np.isfinite([V, s, *v]).all():
                b = self.balance(V, s, v, b if np.isfinite(b) else 0.0)
            found = self.channel(V, s, self.mixture.means @ v + b)
            mh, qh, Vh = self.conjugates(found.move, found.squared, found.slope)
            new_V, new_q, new_v = self.weights.overlaps(self.mixture.means.T @ mh, qh, Vh)
            # where no sample is at a kink or on a curve of the loss, Vh = 0 and any b will do
            step = float(mh.sum()) / (Vh + _FLAT * self.alpha) if self.intercept else -b
            return np.array([np.log(new_V), np.log(new_q) / 2, *(new_v / s), (b + step) / math.sqrt(1 + s**2)])

    def balance(self, V: float, s: float, v: Array, b: float) -> float:
        """The intercept at which sum_a mh_a = 0, from b: Newton's steps, in the bracket that they find.

        The sum falls with b.  A step is not taken where it leaves the bracket, nor on a plateau: it halves the bracket
        or, where one side is open, goes twice as far.
        """
        low, high, stride = -np.inf, np.inf, 1 + s
        for _ in range(200):
            found = self.channel(V, s, self.mixture.means @ v + b)
            excess, fall = float(self.mixture.weights @ found.move), -float(self.mixture.weights @ found.slope)
            if excess == 0:
                return b
            low, high = (b, high) if excess > 0 else (low, b)
            new = b + excess / fall if fall > 0 else np.inf
            if np.isfinite(high - low):
                new = new if low < new < high else (low + high) / 2
            elif abs(new - b) > stride:
                new, stride = b + math.copysign(stride, excess), 2 * stride
            if abs(new - b) <= _SAME * (s + abs(b)) or stride > _WIDEST * (1 + s):
                break
            b = new
        if stride > _WIDEST * (1 + s):
            raise SaddlePointError(f"no intercept balances the labels at V = {V:.3g}, sqrt(q) = {s:.3g}; {_ADVICE}")
        return new

    def square_saddle(self) -> Array:
        """x of the square loss: V, then linear equations for v and b, then q."""
        mixture, y, P = self.mixture, self.mixture.labels, self.mixture.weights
        V = self._square_susceptibility()
        Vh = self.of_square(V, y)[2]
        A, p = np.hstack([mixture.means, np.ones((mixture.clusters, 1))]), mixture.dimensions
        K = np.zeros((p + 1, p + 1))
        K[:p, :p] = self.weights.gain(Vh)
        # v = K A^T mh with mh = Vh P (y - A (v, b)), and sum mh = 0
        matrix = np.eye(p + 1) + Vh * K @ A.T @ (P[:, None] * A)
        right = Vh * K @ A.T @ (P * y)
        matrix[p], right[p] = (P @ A, P @ y) if self.intercept else (np.eye(p + 1)[p], 0.0)
        *v, b = np.linalg.solve(matrix, right)
        mh, at_zero, _ = self.of_square(V, mixture.means @ np.array(v) + b)  # at_zero: qh without the part of q in it
        of_q = self.of_square(V, y, 1.0)[1]  # that part, for q = 1: outputs have no other error here
        fixed, slope = (self.weights.overlaps(mixture.means.T @ mh, qh, Vh)[1] for qh in (0.0, 1.0))
        slope -= fixed
        q = (fixed + slope * at_zero) / (1 - slope * of_q)
        s = np.sqrt(q)
        return np.array([np.log(V), np.log(s), *(np.array(v) / s), b / math.sqrt(1 + q)])

    def of_square(self, V: float, means: Array, variance: float = 0.0) -> tuple[Array, float, float]:
        """mh (C,), qh and Vh of the square loss, for outputs of these means (C,) and this variance."""
        move, squared, slope, _ = theory.square(V, self.mixture.labels, means, variance)
        return self.conjugates(np.asarray(move), np.asarray(squared), np.broadcast_to(slope, means.shape))

    def _square_susceptibility(self) -> float:
        """V of the square loss."""
        noise, ridge = self.weights.noise_per_sample, self.weights.ridge
        if noise is not None:
            return float(theory.square_susceptibility(self.alpha, ridge, noise))
        start = np.log([self.weights.overlaps(np.zeros(self.mixture.dimensions), 0.0, self.alpha)[0]])
        return float(np.exp(solve(self._susceptibility, start, what="V of the square loss", advice=_ADVICE).point[0]))

    def _susceptibility(self, x: Array) -> Array:
        """The equation for log V of the square loss."""
        Vh = self.of_square(float(np.exp(x[0])), self.mixture.labels)[2]
        return np.log([self.weights.overlaps(np.zeros(self.mixture.dimensions), 0.0, Vh)[0]])

    @property
    def start(self) -> Array:
        """The square loss at the same ridge, or at 1e-3 if that is smaller."""
        weights = self.weights.at_ridge(max(self.weights.ridge, _LEAST))
        return replace(self, loss="square", weights=weights).square_saddle()


# --- one point


def _solved(equations: Equations, start: Array | None) -> tuple[Saddle, str]:
    """The saddle point and the way to it."""
    ridge = equations.weights.ridge
    if equations.loss == "square":
        x = equations.square_saddle()
        change = equations(x) - x
        residual = float(np.abs(change).max())
        amplified = amplification(jacobian(equations, x, x + change))
        return Saddle(x, residual, amplified, len(x) + 2), "square loss: linear equations"
    kind = "closed averages" if equations.loss == "hinge" else "adaptive averages"
    what = f"the saddle point at alpha = {equations.alpha:g}, ridge = {ridge:g}"
    first = equations.start if start is None else start
    safe = replace(equations, balanced=True)
    # from the fastest to the safest; a kink on which an intercept comes to rest needs the second
    kinked = any(len(kinks(equations.loss, y)) for y in equations.mixture.labels.tolist())
    first_steps = _KINKED if kinked else _SMOOTH
    for tried, how, steps in ((equations, "Newton", first_steps), (safe, "Newton, the intercept apart", _APART)):
        try:
            return solve(tried, first, steps=steps, what=what, advice=_ADVICE), f"{equations.loss}: {how}, {kind}"
        except SaddlePointError:
            first = equations.start

    def at(each: float) -> Equations:
        return replace(safe, weights=safe.weights.at_ridge(each))

    ridges = _path_to(ridge)
    saddles = followed(at, ridges, at(ridges[0]).start, what="the saddle point at ridge", advice=_ADVICE)
    last = saddles[-1] if ridge > 0 else solve(safe, saddles[-1].point, what=what, advice=_ADVICE)
    return last, f"{equations.loss}: continuation in the ridge, {kind}"


def _path_to(ridge: float) -> list[float]:
    """Ridges from `_EASY` to `ridge` (1e-8 for 0), half a decade apart."""
    end = max(ridge, 1e-8)
    count = 2 + int(abs(2 * math.log10(end / _EASY)))
    return [*np.geomspace(_EASY, end, count)[:-1].tolist(), end]


def minimiser(equations: Equations, start: Array | None, problem: dict[str, Any]) -> tuple[ErmError, Array]:
    """Errors, losses and the energy at the saddle point, and where to start for one nearby.

    `start`: that of another one; None: the square loss.  `problem`: what was asked.
    """
    saddle, method = _solved(equations, start)
    mixture, y, P = equations.mixture, equations.mixture.labels, equations.mixture.weights
    V, s, v, b = equations.unpacked(saddle.point)
    fields = mixture.means @ v + b
    move, squared, slope, envelope, error = equations.channel(V, s, fields)
    mh, qh, Vh = equations.conjugates(move, squared, slope)
    h = mixture.means.T @ mh
    at_zero = np.broadcast_to(loss_functions(equations.loss)[1](np.zeros(len(y)), y), y.shape)
    clusters = theory.cluster_energy(equations.alpha, P, mh * (fields - b), envelope)
    wrong = theory.classification_error(y, fields, s)
    missed = theory.training_error(V, y, fields, s, at_zero)
    inexact = saddle.amplification * (saddle.residual + error)
    # of (m + b)/s, where b = x_b sqrt(1 + s^2) moves with log s too
    shift = inexact * ((math.sqrt(1 + s**2) + abs(b) / (1 + s**2)) / s + np.abs(mixture.means).sum(axis=1))
    density = np.exp(-((fields / s) ** 2) / 2) / math.sqrt(2 * math.pi)
    # by mh, Vh, qh and b; by the order parameters it vanishes where the conjugates are computed from them
    new_V, new_q, new_v = equations.weights.overlaps(h, qh, Vh)
    balance = mh.sum() if equations.intercept else 0.0
    gradient = [*(mixture.means @ (v - new_v)), (new_q - s**2) / 2, (V - new_V) / 2, balance]
    found = ErmError(
        classification_error=float(P @ wrong),
        classification_error_error=float(P @ (density * shift)) + 1e-15,
        training_error=float(P @ missed),
        training_loss=float(P @ np.asarray(theory.training_loss(V, envelope, squared))),
        energy=equations.weights.energy(h, qh, Vh) + float(np.sum(clusters) + theory.pair_energy(V, s**2, Vh, qh)),
        means=fields - b,
        variance=s**2,
        susceptibility=V,
        intercept=b,
        direction=v,
        residual=saddle.residual,
        gradient=float(np.abs(gradient).max()),
        method=method,
        problem=problem,
    )
    return found, saddle.point
