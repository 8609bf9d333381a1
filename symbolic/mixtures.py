"""The mixtures whose errors have closed forms, as lists of clusters: what the derivations of all learners start from.

Coordinates of the means are symbols; their unit, 1 or a power of D, is the learner's business.  Noise is isotropic and
its size not part of a cluster.  Numerical mixtures are `quenched.numerics.problem.mixture`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import sympy

__all__ = ["Cluster", "axes", "parity", "three_clusters", "two_clusters", "xor"]

HALF, QUARTER = sympy.Rational(1, 2), sympy.Rational(1, 4)
ZERO = sympy.Integer(0)


@dataclass(frozen=True)
class Cluster:
    """One Gaussian of a mixture: coordinates of its mean, its weight, its label ±1."""

    mean: tuple[sympy.Expr, ...]
    weight: sympy.Expr
    label: int


def axes(clusters: Sequence[Cluster]) -> int:
    """The number of coordinates of the means.

    >>> axes(xor(sympy.Symbol("m")))
    2
    """
    return len(clusters[0].mean)


def two_clusters(length: sympy.Expr, plus: sympy.Expr = HALF, minus: sympy.Expr = HALF) -> list[Cluster]:
    """Means ±length e1 with the labels ±1, of weights `plus` and `minus`."""
    return [Cluster((length,), plus, 1), Cluster((-length,), minus, -1)]


def three_clusters(length: sympy.Expr, centre: sympy.Expr = HALF, outer: sympy.Expr = HALF) -> list[Cluster]:
    """Label -1 at ±length e1, with half of the weight `outer` each, and +1 at the origin, with the weight `centre`."""
    sides = [Cluster((sign * length,), outer / 2, -1) for sign in (1, -1)]
    return [*sides, Cluster((ZERO,), centre, 1)]


def xor(length: sympy.Expr) -> list[Cluster]:
    """Label -1 at ±length e1, +1 at ±length e2, in equal weights.

    >>> [cluster.label for cluster in xor(sympy.Symbol("m"))]
    [-1, -1, 1, 1]
    """
    first = [Cluster((sign * length, ZERO), QUARTER, -1) for sign in (1, -1)]
    return [*first, *(Cluster((ZERO, sign * length), QUARTER, 1) for sign in (1, -1))]


def parity(first: sympy.Expr, second: sympy.Expr) -> list[Cluster]:
    """Means ±first e1 ± second e2 in equal weights, the label the product of the two signs."""
    return [Cluster((s * first, t * second), QUARTER, s * t) for s, t in product((1, -1), repeat=2)]
