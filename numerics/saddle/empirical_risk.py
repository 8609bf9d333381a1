"""The saddle point of a linear readout that minimises a convex loss and a ridge: what learners on n = alpha D share.

The loss and the labels are one half of the potential (symbolic/learners/erm.py): conjugates h, qh, Vh from the order
parameters, with h = sum_a mh_a mean_a where clusters have their labels (`quenched.numerics.saddle.labels`).  The
weights are the other half, V, q and v from the conjugates, where m_a = mean_a.v: `Weights`, of inputs with a spectrum,
of random features, of a kernel.

Solved in log V, log s, v/s and b/sqrt(1 + q), s = sqrt(q), by Newton's method from the square loss with the same ridge,
or along the ridge where that fails.  The square loss needs no iteration but for V: v and b solve a linear system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import kinks
from quenched.numerics.problem.learner import LearnerError
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.saddle.continuation import followed
from quenched.numerics.saddle.labels import Labels, Output
from quenched.numerics.saddle.proximal import Channel
from quenched.numerics.saddle.solve import RESIDUAL, Saddle, SaddlePointError, amplification, jacobian, solve
from quenched.theory import erm
from quenched.theory import erm_teachers as generated

__all__ = ["Equations", "ErmError", "Weights", "minimiser"]

Array = npt.NDArray[np.float64]

theory: Any = erm  # ufunc expressions: they take arrays where their signature says float
erm_teachers: Any = generated

_ADVICE = "take a larger ridge, or alpha further from the separability threshold"
_WIDEST = 1e6  # the largest intercept, in units of 1 + sqrt(q)
_SAME = 1e-15  # of a step of the intercept, in units of sqrt(q) + |b|: the last
_FLAT = 1e-9  # slope of the loss below which the intercept counts as free
_SMOOTH, _KINKED, _APART = 60, 20, 30  # Newton steps before a safer way is taken
_EASY = 1.0  # a ridge from which continuation starts
_ROUNDING = 4e-16  # relative, of a squared error
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

    def gain(self, Vh: float, p: int) -> Array:
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

    `classification_error` on new inputs and its numerical error; `pmse`, E[(w - y)^2]/2 of the output w there, without
    the label noise of training, and its numerical error; `training_error` and `training_loss` per sample;
    `energy`: the minimum of the objective per dimension, E/D.  `means` (C,): m_a, the mean of w.x in each cluster;
    `variance`: q; `susceptibility`: V; `intercept`: b; `direction` (p,): w, or what it does through the features, along
    the coordinates of the means.
    `residual` of the saddle point; `gradient`: the largest derivative of E/D by an order parameter or a conjugate, in
    their own units; `method`; `problem`: what was asked.
    """

    classification_error: float
    classification_error_error: float
    pmse: float
    pmse_error: float
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
    labels: Labels
    loss: str
    alpha: float
    weights: Weights
    intercept: bool
    balanced: bool = False  # whether the intercept is solved for in each iteration, not iterated with the rest

    def unpacked(self, x: Array) -> tuple[float, float, Array, float]:
        """V, s, v (p,) and b."""
        s = float(np.exp(x[1]))
        return float(np.exp(x[0])), s, s * x[2:-1], math.sqrt(1 + s**2) * float(x[-1])

    def output(self, s: float, v: Array, b: float) -> Output:
        """The law of the output."""
        return Output(self.mixture.means @ v + b, s, v)

    def channel(self, V: float, output: Output) -> Channel:
        """The averages of the move in each cluster."""
        return self.labels.channel(self.loss, V, output)

    def conjugates(self, found: Channel) -> tuple[Array, Array, float, float]:
        """mh (C,), the terms (C, p) of the clusters in h, qh and Vh."""
        P = self.mixture.weights
        mh, qh, Vh = theory.conjugates(self.alpha, P, found.move, found.squared, found.slope)
        response = np.broadcast_to(found.response, P.shape)
        terms = erm_teachers.drive(
            self.alpha, P[:, None], found.move[:, None], self.mixture.means, response[:, None], found.along
        )
        return np.asarray(mh), np.asarray(terms), float(np.sum(qh)), float(np.sum(Vh))

    def __call__(self, x: Array) -> Array:
        """One iteration; the intercept by a Newton step on sum_a mh_a = 0, or by its root."""
        with np.errstate(all="ignore"):  # the caller tests what comes out for being finite
            V, s, v, b = self.unpacked(x)
            if self.balanced and self.intercept and np.isfinite([V, s, *v]).all():
                b = self.balance(V, s, v, b if np.isfinite(b) else 0.0)
            mh, terms, qh, Vh = self.conjugates(self.channel(V, self.output(s, v, b)))
            new_V, new_q, new_v = self.weights.overlaps(terms.sum(axis=0), qh, Vh)
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
            found = self.channel(V, self.output(s, v, b))
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
        mixture, y, P = self.mixture, self.labels.moments, self.mixture.weights
        V = self._square_susceptibility()
        nothing = np.zeros(mixture.dimensions)
        Vh = self.of_square(V, 0.0, nothing, 0.0)[2]
        A, p = np.hstack([mixture.means, np.ones((mixture.clusters, 1))]), mixture.dimensions
        K = np.zeros((p + 1, p + 1))
        K[:p, :p] = self.weights.gain(Vh, p)
        # v = K h with h = Vh [A^T P (E y - A (v, b)) + sum_a P_a sigma E_a[y g]], and sum mh = 0
        matrix = np.eye(p + 1) + Vh * K @ A.T @ (P[:, None] * A)
        right = Vh * K @ (A.T @ (P * y.mean) + np.append((P * mixture.sigmas) @ y.slope, 0.0))
        matrix[p], right[p] = (P @ A, P @ y.mean) if self.intercept else (np.eye(p + 1)[p], 0.0)
        *v, b = np.linalg.solve(matrix, right)
        h, at_zero, _ = self.of_square(V, 0.0, np.array(v), b)  # at_zero: qh without the part of q in it
        of_q = self.of_square(V, 1.0, nothing, 0.0)[1] - self.of_square(V, 0.0, nothing, 0.0)[1]  # that part, for q = 1
        fixed, slope = (self.weights.overlaps(h, qh, Vh)[1] for qh in (0.0, 1.0))
        slope -= fixed
        q = (fixed + slope * at_zero) / (1 - slope * of_q)
        s = np.sqrt(q)
        return np.array([np.log(V), np.log(s), *(np.array(v) / s), b / math.sqrt(1 + q)])

    def of_square(self, V: float, s: float, v: Array, b: float) -> tuple[Array, float, float]:
        """h (p,), qh and Vh of the square loss, for outputs of this spread, these weights and this intercept."""
        found = self.labels.channel("square", V, self.output(s, v, b))
        _, terms, qh, Vh = self.conjugates(found)
        return terms.sum(axis=0), qh, Vh

    def _square_susceptibility(self) -> float:
        """V of the square loss."""
        noise, ridge = self.weights.noise_per_sample, self.weights.ridge
        if noise is not None:
            return float(theory.square_susceptibility(self.alpha, ridge, noise))
        start = np.log([self.weights.overlaps(np.zeros(self.mixture.dimensions), 0.0, self.alpha)[0]])
        return float(np.exp(solve(self._susceptibility, start, what="V of the square loss", advice=_ADVICE).point[0]))

    def _susceptibility(self, x: Array) -> Array:
        """The equation for log V of the square loss."""
        Vh = self.of_square(float(np.exp(x[0])), 0.0, np.zeros(self.mixture.dimensions), 0.0)[2]
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
        if residual > RESIDUAL:
            raise SaddlePointError(
                f"the linear equations of the square loss leave a residual {residual:.3g}; {_ADVICE}"
            )
        amplified = amplification(jacobian(equations, x, x + change))
        return Saddle(x, residual, amplified, len(x) + 2), "square loss: linear equations"
    closed = equations.loss == "hinge" and equations.mixture.teacher is None
    kind = "closed averages" if closed else "adaptive averages"
    what = f"the saddle point at alpha = {equations.alpha:g}, ridge = {ridge:g}"
    first = equations.start if start is None else start
    safe = replace(equations, balanced=True)
    # from the fastest to the safest; a kink on which an intercept comes to rest needs the second
    kinked = any(len(kinks(equations.loss, y)) for y in (1.0, -1.0))
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
    mixture, P = equations.mixture, equations.mixture.weights
    V, s, v, b = equations.unpacked(saddle.point)
    output = equations.output(s, v, b)
    fields, channel = output.means, equations.channel(V, output)
    mh, terms, qh, Vh = equations.conjugates(channel)
    h = terms.sum(axis=0)
    clusters = theory.cluster_energy(equations.alpha, P, terms @ v, channel.envelope)
    measured = equations.labels.errors(equations.loss, V, output)
    inexact = saddle.amplification * (saddle.residual + channel.error)
    # of (m + b)/s, where b = x_b sqrt(1 + s^2) moves with log s too
    shift = inexact * ((math.sqrt(1 + s**2) + abs(b) / (1 + s**2)) / s + np.abs(mixture.means).sum(axis=1))
    shift = shift + inexact * np.abs(np.broadcast_to(channel.along, mixture.means.shape)).sum(
        axis=1
    )  # a teacher's fields turn with v
    density = np.exp(-((fields / s) ** 2) / 2) / math.sqrt(2 * math.pi)
    # by h, Vh, qh and b; by the order parameters it vanishes where the conjugates are computed from them
    new_V, new_q, new_v = equations.weights.overlaps(h, qh, Vh)
    balance = mh.sum() if equations.intercept else 0.0
    gradient = [*(v - new_v), (new_q - s**2) / 2, (V - new_V) / 2, balance]
    found = ErmError(
        classification_error=float(P @ measured.wrong),
        classification_error_error=float(P @ (density * shift)) + measured.error + 1e-15,
        pmse=float(P @ measured.squares) / 2,
        pmse_error=float(P @ (s * shift * np.sqrt(measured.squares) + measured.squares * _ROUNDING)),
        training_error=float(P @ measured.missed),
        training_loss=float(P @ np.asarray(theory.training_loss(V, channel.envelope, channel.squared))),
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
