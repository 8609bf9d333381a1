"""Symmetries of a problem: which maps of the inputs leave a mixture alone, and when two states are one network.

A mixture is symmetric under an orthogonal map O of the space of its means that permutes the clusters, mean_pi(a) =
O mean_a, with equal weights and noise, and keeps all labels, or reverses all of them (then v -> -v).  Where a teacher
makes the labels, O permutes its neurons too, w*_tau(m) = O w*_m, with equal readouts up to the sign of the labels, or
takes w*_m to -w*_tau(m) if its activation is even or odd.  A state (A, Q, v) becomes (O A, Q, ±v), an equivalent
solution of the equations.  So does a permutation of the neurons, w_k -> -w_k for an even activation, and
(w_k, v_k) -> -(w_k, v_k) for an odd one.

A teacher of m equal neurons has m! symmetries: they are found one after the other, by images of one reference vector
after the other, and only as far as they suit the states that are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_value, piecewise_linear
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import OrderParameters

__all__ = ["Symmetry", "equivalent", "homogeneity", "orbits", "parity", "stabiliser", "symmetries"]

Array = npt.NDArray[np.float64]

_EQUAL = 1e-9  # relative, of means, weights and noise levels that count as equal
_MERGED = 1e-6  # fields closer than this fraction of their scale are one
_MOST = 1000  # symmetries of a state: more are not counted
_PROBES = np.array([0.13, 0.41, 0.77, 1.19, 1.83, 2.71, 4.3])  # where properties of g are looked at, on both sides


@dataclass(frozen=True, eq=False)
class Symmetry:
    """O (p, p), the cluster pi(a) that each becomes (C,), and the sign of the labels."""

    rotation: Array
    clusters: npt.NDArray[np.intp]
    sign: int


class _References:
    """What a symmetry permutes: the means, then the teacher's weights, of unit length where that is a convention."""

    def __init__(self, mixture: Mixture) -> None:
        teacher, C = mixture.taught, mixture.clusters
        weights, self.v, self.flip = teacher.weights, np.broadcast_to(teacher.v, (C, teacher.neurons)), 0
        if teacher.neurons:
            self.flip, degree = parity(teacher.activation), homogeneity(teacher.activation)
            lengths = np.linalg.norm(weights, axis=1)
            # noise of the fields fixes the scale that its weights count in
            if degree is not None and (lengths > 0).all() and not teacher.field_noise:
                weights, self.v = weights / lengths[:, None], self.v * lengths**degree
        self.clusters, self.labels = C, mixture.labels
        self.vectors = np.concatenate([mixture.means, weights])
        self.gram = self.vectors @ self.vectors.T
        self.kinds = np.stack([mixture.weights, mixture.sigmas], axis=1)
        self.scale = _EQUAL * max(1.0, float(np.abs(self.gram).max()), float(np.abs(self.v).max(initial=0.0)))
        self.inverse = np.linalg.pinv(self.vectors)
        self.rest = np.eye(mixture.dimensions) - self.inverse @ self.vectors

    def images(self, chosen: list[tuple[int, int]], sign: int) -> Iterator[tuple[int, int]]:
        """What the next vector may become, (number, sign of the vector), after the images `chosen` of those before."""
        n, C = len(chosen), self.clusters
        before, turned = [b for b, _ in chosen], np.array([s for _, s in chosen])
        for b in range(*((0, C) if n < C else (C, len(self.vectors)))):
            if b in before or abs(self.gram[b, b] - self.gram[n, n]) > self.scale:
                continue
            for turn in (1, -1) if n >= C and self.flip else (1,):
                if np.abs(turn * turned * self.gram[b, before] - self.gram[n, :n]).max(initial=0.0) > self.scale:
                    continue
                if n < C:
                    kept = self.labels[b] == sign * self.labels[n]
                    gap = np.abs(self.kinds[b] - self.kinds[n]).max()
                else:
                    kept, factor = True, sign * (self.flip if turn < 0 else 1)
                    gap = np.abs(self.v[before[:C], b - C] - factor * self.v[:, n - C]).max()
                if kept and gap <= self.scale:
                    yield b, turn

    def symmetry(self, chosen: list[tuple[int, int]], sign: int) -> Symmetry:
        """The map that takes the vectors to their images; nothing moves outside of their span."""
        numbers, turns = np.array(chosen, dtype=np.intp).T
        moved = turns[:, None] * self.vectors[numbers]
        return Symmetry((self.inverse @ moved).T + self.rest, numbers[: self.clusters], sign)


def symmetries(mixture: Mixture, fits: Callable[[Array, Array, int], bool] | None = None) -> Iterator[Symmetry]:
    """All symmetries of a mixture, the identity among them.

    `fits(vectors, images, sign)`: whether it is worth going on where the first reference vectors (n, p) become images.

    >>> sum(1 for _ in symmetries(Mixture.xor(0.5))), sum(1 for _ in symmetries(Mixture.three_clusters(0.5)))
    (8, 2)
    """
    references = _References(mixture)
    lengths = np.linalg.norm(references.vectors, axis=1)
    units = references.vectors / np.where(lengths > 0, lengths, 1)[:, None]

    def extend(chosen: list[tuple[int, int]], sign: int) -> Iterator[list[tuple[int, int]]]:
        if fits is not None and chosen:
            numbers, turns = np.array(chosen, dtype=np.intp).T
            if not fits(units[: len(chosen)], turns[:, None] * units[numbers], sign):
                return
        if len(chosen) == len(references.vectors):
            yield chosen
            return
        for image in references.images(chosen, sign):
            yield from extend([*chosen, image], sign)

    for sign in (1, -1):
        for chosen in extend([], sign):
            yield references.symmetry(chosen, sign)


@lru_cache(maxsize=64)
def parity(activation: str) -> int:
    """1 if g is even, -1 if it is odd, else 0.

    >>> parity("abs"), parity("erf"), parity("relu")
    (1, -1, 0)
    """
    if (pieces := piecewise_linear(activation)) is not None:
        kinks, slopes, intercepts = pieces
        for sign in (1, -1):  # g(-x) = sign g(x): the pieces from right to left are those from left to right
            turned = (kinks, -kinks[::-1]), (slopes, -sign * slopes[::-1]), (intercepts, sign * intercepts[::-1])
            if all(np.allclose(one, other, rtol=1e-12, atol=1e-12) for one, other in turned):
                return sign
        return 0
    g = activation_value(activation)
    right, left = np.asarray(g(_PROBES)), np.asarray(g(-_PROBES))
    bound = 1e-12 * np.abs(right).max()
    return next((sign for sign in (1, -1) if np.abs(left - sign * right).max() <= bound), 0)


@lru_cache(maxsize=64)
def homogeneity(activation: str) -> float | None:
    """The degree m of g(c x) = c^m g(x), c > 0, else None.

    >>> homogeneity("relu"), homogeneity("quadratic"), homogeneity("erf"), homogeneity("sign(x)")
    (1.0, 2.0, None, 0.0)
    """
    if (pieces := piecewise_linear(activation)) is not None:
        kinks, slopes, intercepts = pieces
        if kinks.any() or (slopes.any() and intercepts.any()) or not (slopes.any() or intercepts.any()):
            return None
        return 1.0 if slopes.any() else 0.0
    g, x = activation_value(activation), np.concatenate([-_PROBES, _PROBES])
    values, doubled, tripled = (np.asarray(g(c * x)) for c in (1, 2, 3))
    if (growth := float(values @ doubled / (values @ values))) <= 0:
        return None
    m = round(float(np.log2(growth)), 10)
    off = max(np.abs(grown - c**m * values).max() / np.abs(grown).max() for c, grown in ((2, doubled), (3, tripled)))
    return m if off <= 1e-9 else None


@dataclass(frozen=True, eq=False)
class _Portrait:
    """The neurons that make a network's function, in one normal form."""

    A: Array
    Q: Array
    v: Array

    @classmethod
    def of(cls, mixture: Mixture, network: TwoLayer, state: OrderParameters) -> _Portrait:
        """Unit weights where g is homogeneous, neurons with the same field merged, those without effect dropped."""
        if state.b is not None:
            raise ValueError(f"state must be without b and c, got b={state.b.tolist()}, c={state.c}")
        A, Q, v = state.projections(mixture), state.Q, state.v
        degree, sign = homogeneity(network.activation), parity(network.activation)
        if degree is not None:
            lengths = np.sqrt(np.maximum(np.diag(Q), 0))
            v = v * lengths**degree
            unit = np.where(lengths > 0, lengths, 1)
            A, Q = A / unit, Q / np.outer(unit, unit)
        kept: list[int] = []
        total = np.zeros(len(v))
        scale = _MERGED * float(np.sqrt(np.abs(Q).max()))
        for k in range(len(v)):
            for j in kept:
                near, far = (Q[j, j] + Q[k, k] - 2 * s * Q[j, k] for s in (1, -1))
                if near <= scale**2 and np.abs(A[:, j] - A[:, k]).max(initial=0.0) <= scale:
                    total[j] += v[k]
                    break
                if sign and far <= scale**2 and np.abs(A[:, j] + A[:, k]).max(initial=0.0) <= scale:
                    total[j] += sign * v[k]
                    break
            else:
                kept.append(k)
                total[k] = v[k]
        kept = [k for k in kept if abs(total[k]) > _MERGED * max(1e-300, float(np.abs(total).max()))]
        return cls(A[:, kept], Q[np.ix_(kept, kept)], total[kept])

    def matches(self, other: _Portrait, symmetry: Symmetry, flip: int, tolerance: float) -> bool:
        """Whether `other` is this network after the symmetry; `flip`: the parity of the activation."""
        if len(self.v) != len(other.v):
            return False
        if not len(self.v):
            return True
        k, l, signs, gap = self._paired(other, symmetry.rotation @ self.A, other.A, symmetry.sign, flip)
        overlaps = np.outer(signs, signs) * self.Q[np.ix_(k, k)]
        worst = max(gap, np.abs(overlaps - other.Q[np.ix_(l, l)]).max())
        return bool(worst <= tolerance * self._scale())

    def may_match(
        self, other: _Portrait, flip: int, tolerance: float, vectors: Array, images: Array, sign: int
    ) -> bool:
        """Whether it can be `other` after a symmetry that takes unit vectors (n, p) to images (n, p)."""
        if len(self.v) != len(other.v) or not len(self.v):
            return len(self.v) == len(other.v)
        *_, gap = self._paired(other, vectors @ self.A, images @ other.A, sign, flip)
        return bool(gap <= tolerance * self._scale())

    def _scale(self) -> float:
        return max(1.0, float(np.abs(self.Q).max()), float(np.abs(self.v).max()))

    def _paired(
        self, other: _Portrait, A: Array, B: Array, sign: int, flip: int
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.int64], float]:
        """Neurons k and l of both, paired by their projections A and B and readouts, signs, and the largest gap."""
        from scipy.optimize import linear_sum_assignment

        def gap(s: int) -> Array:
            """Between neuron k, its weight times s, and neuron l."""
            readout = sign * self.v * (flip if s < 0 else 1)
            distance = np.abs(s * A[:, :, None] - B[:, None, :]).max(axis=0, initial=0.0)
            return np.asarray(np.maximum(distance, np.abs(readout[:, None] - other.v)))

        gaps = np.stack([gap(1), gap(-1)] if flip else [gap(1)])
        k, l = linear_sum_assignment(gaps.min(axis=0))
        signs = np.where(gaps.argmin(axis=0)[k, l] == 0, 1, -1)
        return k, l, signs, float(gaps.min(axis=0)[k, l].max())


def equivalent(
    mixture: Mixture, network: TwoLayer, one: OrderParameters, other: OrderParameters, *, tolerance: float = 1e-4
) -> bool:
    """Whether two states are the same function of the inputs, up to a symmetry of the mixture.

    Neurons may be permuted, those with equal fields are added up, and a homogeneous activation is invariant under
    w_k -> c w_k, v_k -> v_k/c^m.  ValueError: a state has thresholds and an intercept, which are not compared.

    >>> mixture, network = Mixture.xor(0.5), TwoLayer(2, "relu")
    >>> one = OrderParameters(mixture.means @ [[1.0, -1.0], [0.0, 0.0]], [[1.0, -1.0], [-1.0, 1.0]], [1.0, 2.0])
    >>> other = OrderParameters(mixture.means @ [[0.0, 0.0], [4.0, -1.0]], [[16.0, -4.0], [-4.0, 1.0]], [-0.25, -2.0])
    >>> equivalent(mixture, network, one, other), equivalent(mixture, TwoLayer(2, "erf"), one, other)
    (True, False)
    """
    first, second = (_Portrait.of(mixture, network, state) for state in (one, other))
    flip = parity(network.activation)
    fits = partial(first.may_match, second, flip, tolerance)
    return any(first.matches(second, symmetry, flip, tolerance) for symmetry in symmetries(mixture, fits))


def stabiliser(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, *, tolerance: float = 1e-9
) -> list[Symmetry]:
    """The symmetries of the mixture that leave a network as it is, the identity among them; 1000 of them at most."""
    portrait, flip = _Portrait.of(mixture, network, state), parity(network.activation)
    fits = partial(portrait.may_match, portrait, flip, tolerance)
    found = (s for s in symmetries(mixture, fits) if portrait.matches(portrait, s, flip, tolerance))
    return list(islice(found, _MOST))


def orbits(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, *, tolerance: float = 1e-9
) -> list[npt.NDArray[np.intp]]:
    """Clusters that the symmetries of the state itself exchange: the network errs equally often on each of an orbit."""
    group = np.arange(mixture.clusters)
    for symmetry in stabiliser(mixture, network, state, tolerance=tolerance):
        for a, b in enumerate(symmetry.clusters):
            group[group == group[b]] = group[a]
    return [np.flatnonzero(group == name) for name in np.unique(group)]
