"""Bayes-optimal learning of a Gaussian mixture from n = alpha D samples: of its means only the Gram matrix is known.

The means are mean_a = sum_k A_ak v_k, where A (C, p) are `mixture.means` and the v_k are drawn from N(0, 1/D) per
component, or from the sphere; the labels of the samples are known, their clusters are not.  The overlaps
Q_kl = vhat_k.v_l of the posterior mean are a fixed point of state evolution (derived in symbolic/learners/bayes.py),

    Q = Lam (1 + Lam)^-1,   Lam = (alpha/sigma^2) sum_y P_y E[<A><A>^T]

Iteration from Q = 0+ leads to what message passing reaches, from Q = 1 to the solution of the largest overlaps; where
these differ, the one of the least free energy is the Bayes-optimal one.  The error on new inputs is that of the oracle
for the mixture whose Gram matrix is A Q A^T.

The averages over the fields of a label, which span two dimensions at most, are those of `bayes_averages`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.bayes_averages import Label
from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.checks import integer, number, record
from quenched.numerics.problem.learner import Learner, LearnerError, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.saddle.continuation import bisected
from quenched.numerics.saddle.solve import Saddle, limit
from quenched.theory import bayes

__all__ = [
    "LEARNERS",
    "BayesError",
    "BayesOptions",
    "Branch",
    "Transition",
    "bayes_curve",
    "bayes_error",
    "critical_alpha",
    "first_order_transition",
]

Array = npt.NDArray[np.float64]

theory: Any = bayes  # ufunc expressions: they take arrays where their signature says float

_WEAK = 1e-3  # overlap at the start from pure noise
_QUADRATURE = 3e-13  # error of one iteration, relative to Q: averages over a label 7e-14, rounding of their sums 2e-13
_APART = 1e-4  # difference of overlaps from which on two branches are two
_SPINODAL = 1e-4  # relative accuracy of transitions: at a distance d of a spinodal iteration takes 1/sqrt(d) steps
_SAME = 1e-7  # overlaps closer than this are one branch
_ADVICE = "alpha is within rounding of a transition: move it by 1e-6 of itself"


class Branch(NamedTuple):
    """A fixed point of state evolution: where iteration began, overlaps Q (p, p), free energy, residual.

    `amplification`: by how much an error of one iteration is larger in Q (`quenched.numerics.saddle.solve.Saddle`); it
    grows like one over the distance from a continuous transition, like one over its root from a spinodal.
    """

    start: str
    overlaps: Array
    free_energy: float
    residual: float
    amplification: float = 1.0

    @property
    def overlaps_error(self) -> float:
        """Of Q, as the largest singular value of what it may be off by: p times the largest entry."""
        largest = self.residual + _QUADRATURE * float(np.abs(self.overlaps).max())
        return len(self.overlaps) * self.amplification * largest


class Transition(NamedTuple):
    """A first-order transition in alpha.

    Beyond `informed` a second solution exists; beyond `equilibrium` its free energy is the least, and learning is
    possible; beyond `uninformed` iteration from pure noise, and with it message passing, reaches it.  The hard phase
    lies between the last two.
    """

    informed: float
    equilibrium: float
    uninformed: float


@dataclass(frozen=True, eq=False, repr=False)
class BayesError(LearnerError):
    """What n = alpha D samples can teach.

    `classification_error` of the Bayes-optimal learner and its numerical error; `overlaps` (p, p): Q; `free_energy` per
    dimension, relative to pure noise; `branches`: all fixed points found, by rising free energy, the first being the
    Bayes-optimal one; `reached_classification_error` and its numerical error: on the branch that is reached from Q = 0,
    larger in a hard phase; `residual` of state evolution; `method`; `problem`: what was asked.
    """

    classification_error: float
    classification_error_error: float
    overlaps: Array
    free_energy: float
    branches: tuple[Branch, ...]
    reached_classification_error: float
    reached_classification_error_error: float
    residual: float
    method: str
    problem: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Evolution:
    """State evolution of a mixture at alpha, as a map of the upper triangle of Q."""

    labels: tuple[Label, ...]
    sigma: float
    alpha: float

    @property
    def p(self) -> int:
        """Number of unknown vectors."""
        return self.labels[0].means.shape[1]

    def packed(self, Q: Array) -> Array:
        """The upper triangle."""
        return np.asarray(Q[np.triu_indices(self.p)])

    def unpacked(self, x: Array) -> Array:
        """The symmetric matrix."""
        Q = np.zeros((self.p, self.p))
        Q[np.triu_indices(self.p)] = x
        return Q + np.triu(Q, 1).T

    def averages(self, Q: Array, *, free: bool = True) -> tuple[Array, float]:
        """Lam and, if `free`, alpha sum_y P_y Psi_y; a Q not positive by rounding is taken at its positive part."""
        values, vectors = np.linalg.eigh(Q)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        lam, channel = np.zeros_like(Q), 0.0
        for label in self.labels:
            second, psi = label.averages(root, self.sigma, free=free)
            lam += np.asarray(theory.conjugate(self.alpha, self.sigma, label.weight, second))
            channel += self.alpha * label.weight * psi
        return lam, channel

    def __call__(self, x: Array) -> Array:
        """One iteration."""
        lam, _ = self.averages(self.unpacked(x), free=False)
        values, vectors = np.linalg.eigh(lam)
        if np.abs(lam - np.diag(lam.diagonal())).max() == 0:  # keeps equal entries equal
            return self.packed(np.diag(theory.overlap(lam.diagonal())))
        return self.packed(vectors * theory.overlap(values) @ vectors.T)

    def free_energy(self, x: Array) -> float:
        """-phi at a fixed point."""
        Q = self.unpacked(x)
        lam, channel = self.averages(Q)
        values = np.linalg.eigvalsh(lam)
        pairs = theory.pair(lam, Q)
        return -float(np.sum(theory.prior(values)) + np.sum(pairs) + channel)

    @property
    def critical(self) -> float:
        """The alpha beyond which Q = 0 is unstable; 0 where a label's means do not average to 0."""
        if not all(label.centred for label in self.labels):
            return 0.0
        growth = sum(label.weight * np.kron(label.covariance, label.covariance) for label in self.labels)
        largest = float(np.linalg.eigvalsh(growth).max())
        return float(theory.critical_alpha(self.sigma, largest)) if largest > 0 else math.inf

    def from_noise(self, start: Array | None = None) -> Branch:
        """The branch that iteration from Q = 0+ leads to: Q = 0 itself up to the critical alpha.

        `start`: this branch at a smaller alpha.  Q grows with alpha, and iteration from below does not pass it by.
        """
        if self.alpha <= self.critical:
            zero = np.zeros((self.p, self.p))
            return Branch("pure noise", zero, 0.0, float(np.abs(self(self.packed(zero))).max()))
        weak = _WEAK * np.eye(self.p)
        return self.solved("pure noise", weak if start is None or np.abs(start).max() < _WEAK else start)

    def from_knowledge(self, start: Array | None = None) -> Branch:
        """The branch that iteration from Q = 1 leads to; `start`: this branch at a larger alpha."""
        return self.solved("full knowledge", np.eye(self.p) if start is None else start)

    def solved(self, start: str, Q: Array) -> Branch:
        """The branch that iteration from Q leads to."""
        what = f"state evolution at alpha = {self.alpha:g} from {start}"
        found: Saddle = limit(self, self.packed(Q), what=what, advice=_ADVICE)
        x = found.point
        if self.alpha <= self.critical and np.abs(x).max() < _SAME:
            x = np.zeros_like(x)
        residual = float(np.abs(self(x) - x).max())
        return Branch(start, self.unpacked(x), self.free_energy(x), residual, found.amplification)

    def branches(self, noise: Branch | None = None, knowledge: Branch | None = None) -> tuple[Branch, ...]:
        """All that iteration finds from pure noise, from full knowledge, and from knowing one direction alone.

        More knowledge of the means never leads to less: all fixed points above the start from pure noise lie between
        the ends from there and from full knowledge, and where these agree there is no other.  `noise` and `knowledge`:
        these ends where they are known.
        """
        found = [noise or self.from_noise()]
        candidates = [knowledge or self.from_knowledge()]
        if self._new(candidates[0], found) and self.p > 1:
            _, axes = np.linalg.eigh(sum(label.weight * label.covariance for label in self.labels))
            for i, axis in enumerate(axes.T):
                one = np.outer(axis, axis) * (1 - _WEAK) + _WEAK * np.eye(self.p)
                candidates.append(self.solved(f"direction {i + 1}", one))
        for branch in candidates:
            if self._new(branch, found):
                found.append(branch)
        return tuple(sorted(found, key=lambda branch: branch.free_energy))

    @staticmethod
    def _new(branch: Branch, found: Sequence[Branch]) -> bool:
        return all(np.abs(branch.overlaps - other.overlaps).max() > _SAME for other in found)


# --- one point


def bayes_error(mixture: Mixture, alpha: float) -> BayesError:
    """The least classification error that any learner has after n = alpha D samples, D -> infinity.

    `mixture`: labels by cluster, means of order 1 (scaling 0), one sigma; its means matter by their Gram matrix only.
    The clusters of one label may differ in two directions at most.

    ValueError: alpha <= 0, mixtures outside of this or too large for quadrature.  `SaddlePointError`: state evolution
    did not end.

    >>> found = bayes_error(Mixture.two_clusters(1.0), alpha=2.0)
    >>> print(f"{found.overlaps[0, 0]:.6f} {found.classification_error:.6f}")     # 2/3, Phi(-sqrt(2/3))
    0.666667 0.207108
    >>> bayes_error(Mixture.xor(1.0), alpha=1.9).classification_error              # nothing below alpha = 2
    0.5
    """
    evolution = evolution_of(mixture, alpha)
    return _measured(mixture, evolution, evolution.branches())


def bayes_curve(mixture: Mixture, alphas: Sequence[float]) -> list[BayesError]:
    """`bayes_error` at each alpha, in their order.

    The branch from pure noise is followed from small alpha to large, that from full knowledge from large to small: each
    solution starts iteration at the next.
    """
    evolutions = [evolution_of(mixture, alpha) for alpha in alphas]
    order = sorted(range(len(evolutions)), key=lambda i: evolutions[i].alpha)
    noise, knowledge = {}, {}
    last: Branch | None = None
    for i in order:
        last = noise[i] = evolutions[i].from_noise(None if last is None else last.overlaps)
    last = None
    for i in reversed(order):
        last = knowledge[i] = evolutions[i].from_knowledge(None if last is None else last.overlaps)
    return [_measured(mixture, each, each.branches(noise[i], knowledge[i])) for i, each in enumerate(evolutions)]


def critical_alpha(mixture: Mixture) -> float:
    """The alpha beyond which state evolution leaves Q = 0; 0 where something is learned at once.

    >>> critical_alpha(Mixture.xor(0.5))        # 2 sigma^4
    0.125
    """
    return evolution_of(mixture, 1.0).critical


def first_order_transition(mixture: Mixture, low: float, high: float, points: int = 40) -> Transition | None:
    """The first-order transition of the mixture in (low, high): both spinodals and the equilibrium, to 1e-4 of alpha.

    It is looked for at `points` values of alpha in a geometric row; None if no two solutions coexist at any of them.
    """
    low, high = number("low", low, positive=True), number("high", high, positive=True)
    points = integer("points", points, at_least=3)
    if high <= low:
        raise ValueError(f"high must be > low, got {high} and {low}")
    evolution = evolution_of(mixture, low)

    def pair(alpha: float) -> tuple[Branch, Branch]:
        at = replace(evolution, alpha=alpha)
        return at.from_noise(), at.from_knowledge()

    def coexist(alpha: float) -> bool:
        weak, strong = pair(alpha)
        return bool(np.abs(weak.overlaps - strong.overlaps).max() > _APART)

    row = np.geomspace(low, high, points).tolist()
    several = [coexist(alpha) for alpha in row]
    if not any(several):
        return None
    first, last = several.index(True), len(several) - 1 - several[::-1].index(True)
    if first == 0 or last == len(row) - 1:
        raise ValueError(
            f"low and high must enclose the transition, got two solutions at {row[first if first == 0 else last]:g}"
        )
    rtol = _SPINODAL
    informed = bisected(coexist, row[first - 1], row[first], rtol=rtol)
    uninformed = bisected(lambda alpha: not coexist(alpha), row[last], row[last + 1], rtol=rtol)

    def learned(alpha: float) -> bool:
        weak, strong = pair(alpha)
        return strong.free_energy < weak.free_energy

    return Transition(
        informed, bisected(learned, informed * (1 + 2 * rtol), uninformed * (1 - 2 * rtol), rtol=rtol), uninformed
    )


def evolution_of(mixture: Mixture, alpha: float) -> Evolution:
    record("mixture", mixture, Mixture)
    alpha = number("alpha", alpha, positive=True)
    mixture.check_labelled()
    if mixture.spectrum is not None:
        raise ValueError("mixture must be isotropic here, got a spectrum: leave it out, or use erm_error")
    labels = []
    for y in np.unique(mixture.labels):
        chosen = mixture.labels == y
        weight = float(mixture.weights[chosen].sum())
        label = Label(weight, mixture.weights[chosen] / weight, mixture.means[chosen])
        rank = np.linalg.matrix_rank(label.means - label.means[0], tol=1e-12 * max(1.0, np.abs(label.means).max()))
        if rank > 2:
            raise ValueError(
                f"mixture must have means that differ in two directions at most within a label, got {rank} for the "
                f"label {y:g}: leave clusters out, or use erm_error for a linear classifier"
            )
        labels.append(label)
    return Evolution(tuple(labels), mixture.isotropic_sigma, alpha)


def _felt(mixture: Mixture, Q: Array, error: float) -> float:
    """By how much an error of Q, as its largest singular value, moves the oracle's error.

    At most by sum_a P_a |d mean_a|/(sigma sqrt(2 pi)): it is the least error of all rules, and a cluster that moves by
    d exchanges |d|/(sigma sqrt(2 pi)) of its weight at most.  A direction of overlap q moves by
    d sqrt(q) = dq/(2 sqrt(q)); one of which nothing is known does not.
    """
    q = np.linalg.eigvalsh(Q)
    q = q[q > error]
    moved = error / (2 * math.sqrt(q.min())) if len(q) else 0.0
    lengths = np.linalg.norm(mixture.means, axis=1)
    return float(mixture.weights @ lengths) * moved / (mixture.isotropic_sigma * math.sqrt(2 * math.pi))


def error_at(mixture: Mixture, Q: Array) -> tuple[float, float]:
    """The oracle's error, and its numerical error, at the Gram matrix A Q A^T."""
    values, vectors = np.linalg.eigh(Q)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    if np.abs(Q - np.diag(Q.diagonal())).max() == 0:
        root = np.diag(np.sqrt(Q.diagonal()))
    found = oracle_error(replace(mixture, means=mixture.means @ root))
    return float(found.value), float(found.error)


def _error_on(mixture: Mixture, branch: Branch) -> tuple[float, float]:
    """The classification error on a branch, and its numerical error: the oracle's, and what Q is off by."""
    value, error = error_at(mixture, branch.overlaps)
    return value, error + _felt(mixture, branch.overlaps, branch.overlaps_error)


def _measured(mixture: Mixture, evolution: Evolution, branches: tuple[Branch, ...]) -> BayesError:
    best = branches[0]
    (reached,) = (branch for branch in branches if branch.start == "pure noise")
    value, error = _error_on(mixture, best)
    there = (value, error) if reached is best else _error_on(mixture, reached)
    directions = max(np.linalg.matrix_rank(label.means - label.means[0]) for label in evolution.labels)
    return BayesError(
        classification_error=value,
        classification_error_error=error,
        overlaps=best.overlaps,
        free_energy=best.free_energy,
        branches=branches,
        reached_classification_error=there[0],
        reached_classification_error_error=there[1],
        residual=best.residual,
        method=f"state evolution, {directions}-dimensional quadrature, {len(branches)} branch(es)",
        problem={"mixture": mixture, "alpha": evolution.alpha},
    )


# --- as a learner


@dataclass(frozen=True)
class BayesOptions(Options):
    """The arguments of `bayes_error`."""

    alpha: float = option(2.0, "Samples per dimension, n/D.")

    @property
    def caption(self) -> str:
        """Number of samples."""
        return f"n = {self.alpha:g} D"


def _learned(mixture: Mixture, options: BayesOptions) -> Solution:
    """`bayes_error` as a solution."""
    found = bayes_error(mixture, options.alpha)
    return found.solution()


LEARNERS = (
    Learner("bayes", _learned, BayesOptions(), "The Bayes-optimal learner: nothing beats it on n = alpha D samples."),
)
