"""Symmetries of a problem: which maps of the inputs leave a mixture alone, and when two states are one network.

A mixture is symmetric under an orthogonal map O of the space of its means that permutes the clusters, mean_pi(a) =
O mean_a, with equal weights and noise, and keeps all labels, or reverses all of them (then v -> -v).  A state (A, Q, v)
becomes (O A, Q, ±v), an equivalent solution of the equations.  So does a permutation of the neurons, w_k -> -w_k for an
even activation, and (w_k, v_k) -> -(w_k, v_k) for an odd one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import OrderParameters

__all__ = ["Symmetry", "equivalent", "homogeneity", "orbits", "parity", "stabiliser", "symmetries"]

Array = npt.NDArray[np.float64]

_EQUAL = 1e-9  # relative, of means, weights and noise levels that count as equal
_MERGED = 1e-6  # fields closer than this fraction of their scale are one
_PROBES = np.array([0.13, 0.41, 0.77, 1.19, 1.83, 2.71, 4.3])  # where properties of g are looked at, on both sides


@dataclass(frozen=True, eq=False)
class Symmetry:
    """O (p, p), the cluster pi(a) that each becomes (C,), and the sign of the labels."""

    rotation: Array
    clusters: npt.NDArray[np.intp]
    sign: int


def symmetries(mixture: Mixture) -> Iterator[Symmetry]:
    """All symmetries of a mixture, the identity among them.

    >>> sum(1 for _ in symmetries(Mixture.xor(0.5))), sum(1 for _ in symmetries(Mixture.three_clusters(0.5)))
    (8, 2)
    """
    T, labels = mixture.T, mixture.labels
    kinds = np.stack([mixture.weights, mixture.sigmas, np.diag(T)], axis=1)
    scale = _EQUAL * max(1.0, float(np.abs(T).max()))
    inverse = np.linalg.pinv(mixture.means)
    rest = np.eye(mixture.dimensions) - inverse @ mixture.means

    def extend(chosen: list[int], sign: int) -> Iterator[list[int]]:
        a = len(chosen)
        if a == mixture.clusters:
            yield chosen
            return
        for b in range(mixture.clusters):
            if (
                b not in chosen
                and labels[b] == sign * labels[a]
                and np.abs(kinds[b] - kinds[a]).max() <= scale
                and np.abs(T[b, chosen] - T[a, :a]).max(initial=0.0) <= scale
            ):
                yield from extend([*chosen, b], sign)

    for sign in (1, -1):
        for chosen in extend([], sign):
            clusters = np.array(chosen, dtype=np.intp)
            # mean_pi(a) = O mean_a on the span of the means, nothing moves outside of it
            yield Symmetry((inverse @ mixture.means[clusters]).T + rest, clusters, sign)


@lru_cache(maxsize=64)
def parity(activation: str) -> int:
    """1 if g is even, -1 if it is odd, else 0.

    >>> parity("abs"), parity("erf"), parity("relu")
    (1, -1, 0)
    """
    g, _ = activation_functions(activation)
    right, left = np.asarray(g(_PROBES)), np.asarray(g(-_PROBES))
    bound = 1e-12 * np.abs(right).max()
    return next((sign for sign in (1, -1) if np.abs(left - sign * right).max() <= bound), 0)


@lru_cache(maxsize=64)
def homogeneity(activation: str) -> float | None:
    """The degree m of g(c x) = c^m g(x), c > 0, else None; by Euler's x g'(x) = m g(x).

    >>> homogeneity("relu"), homogeneity("quadratic"), homogeneity("erf")
    (1.0, 2.0, None)
    """
    g, dg = activation_functions(activation)
    x = np.concatenate([-_PROBES, _PROBES])
    values, slopes = np.asarray(g(x)), x * np.asarray(dg(x))
    m = float(values @ slopes / (values @ values))
    return round(m, 10) if np.abs(slopes - m * values).max() <= 1e-10 * np.abs(slopes).max() else None


@dataclass(frozen=True, eq=False)
class _Portrait:
    """The neurons that make a network's function, in one normal form."""

    A: Array
    Q: Array
    v: Array

    @classmethod
    def of(cls, mixture: Mixture, network: TwoLayer, state: OrderParameters) -> _Portrait:
        """Unit weights where g is homogeneous, neurons with the same field merged, those without effect dropped."""
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
        from scipy.optimize import linear_sum_assignment

        if len(self.v) != len(other.v):
            return False
        if not len(self.v):
            return True
        A, v = symmetry.rotation @ self.A, symmetry.sign * self.v

        def gap(s: int) -> Array:
            """Between neuron k, its weight times s, and neuron l."""
            readout = v * (flip if s < 0 else 1)
            distance = np.abs(s * A[:, :, None] - other.A[:, None, :]).max(axis=0, initial=0.0)
            return np.asarray(np.maximum(distance, np.abs(readout[:, None] - other.v)))

        gaps = np.stack([gap(1), gap(-1)] if flip else [gap(1)])
        k, l = linear_sum_assignment(gaps.min(axis=0))
        signs = np.where(gaps.argmin(axis=0)[k, l] == 0, 1, -1)
        overlaps = np.outer(signs, signs) * self.Q[np.ix_(k, k)]
        scale = max(1.0, float(np.abs(self.Q).max()), float(np.abs(v).max()))
        worst = max(gaps.min(axis=0)[k, l].max(), np.abs(overlaps - other.Q[np.ix_(l, l)]).max())
        return bool(worst <= tolerance * scale)


def equivalent(
    mixture: Mixture, network: TwoLayer, one: OrderParameters, other: OrderParameters, *, tolerance: float = 1e-4
) -> bool:
    """Whether two states are the same function of the inputs, up to a symmetry of the mixture.

    Neurons may be permuted, those with equal fields are added up, and a homogeneous activation is invariant under
    w_k -> c w_k, v_k -> v_k/c^m.

    >>> mixture, network = Mixture.xor(0.5), TwoLayer(2, "relu")
    >>> one = OrderParameters(mixture.means @ [[1.0, -1.0], [0.0, 0.0]], [[1.0, -1.0], [-1.0, 1.0]], [1.0, 2.0])
    >>> other = OrderParameters(mixture.means @ [[0.0, 0.0], [4.0, -1.0]], [[16.0, -4.0], [-4.0, 1.0]], [-0.25, -2.0])
    >>> equivalent(mixture, network, one, other), equivalent(mixture, TwoLayer(2, "erf"), one, other)
    (True, False)
    """
    first, second = (_Portrait.of(mixture, network, state) for state in (one, other))
    flip = parity(network.activation)
    return any(first.matches(second, symmetry, flip, tolerance) for symmetry in symmetries(mixture))


def stabiliser(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, *, tolerance: float = 1e-9
) -> list[Symmetry]:
    """The symmetries of the mixture that leave a network as it is, the identity among them."""
    portrait, flip = _Portrait.of(mixture, network, state), parity(network.activation)
    return [s for s in symmetries(mixture) if portrait.matches(portrait, s, flip, tolerance)]


def orbits(
    mixture: Mixture, network: TwoLayer, state: OrderParameters, *, tolerance: float = 1e-9
) -> list[npt.NDArray[np.intp]]:
    """Clusters that the symmetries of the state itself exchange: the network errs equally often on each of an orbit."""
    group = np.arange(mixture.clusters)
    for symmetry in stabiliser(mixture, network, state, tolerance=tolerance):
        for a, b in enumerate(symmetry.clusters):
            group[group == group[b]] = group[a]
    return [np.flatnonzero(group == name) for name in np.unique(group)]
