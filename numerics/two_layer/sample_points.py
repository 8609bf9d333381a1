"""Points at which what one sample adds is averaged: of the unit normals z that the local fields are made of.

The fields are m + z root, and label noise is one more normal.  Several rules stand side by side; what they give
differently is the error.

* Linear networks under a loss of degree 2: products of Gauss-Hermite rules, which are exact.
* One field: Gauss-Legendre on panels that end at the kinks of the activation, and where the output is at a kink of the
  loss.  Two: the same, nested, z_1 inside z_0, where either has kinks; with kinks of the loss if both activations are
  piecewise linear.  Two rules, of which the coarser has fewer nodes and ends sooner: what lies beyond shows as well.
* Two smooth fields: products of two Gauss-Hermite rules.
* Else: scrambled Sobol points.  Averages are of products that grow with the fourth power of z, to which normal points
  give too little of the tails, all alike: points are spread wider, and weigh less.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import product
from typing import Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_value, piecewise_linear
from quenched.numerics.averages.losses import kinks, loss
from quenched.numerics.probability.quadrature import REPLICATES, legendre, scrambled_normals
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.step.field_quadrature import kink_places, triangles
from quenched.numerics.two_layer.local_fields import Fields

__all__ = ["SamplePoints", "sample_points"]

Array = npt.NDArray[np.float64]

_EXACT = (3, 4)  # Gauss-Hermite nodes a field, for polynomials of degree 4 in the fields: exact to degree 5
_SMOOTH = (40, 30)  # nodes a field of two smooth ones, the better first
_MOST_EXACT = 6  # fields, 4^6 nodes
_PANELS = {
    1: ((12.0, 20), (10.0, 14)),
    2: ((9.0, 12), (7.5, 9)),
}  # of so many fields: reach and nodes, the better first
_WIDTH = 3.0  # of a panel, at most; in units of one field, where its activation is bent, ..
_FINEST = 20.0  # .. of which so many standard deviations count
_STEEP = 0.7  # a kink along a line, z_1 in terms of z_0, that is steeper than 1/0.7 is a step of the outer integral, ..
_LAYER = np.array([-8.0, -5.0, -2.5, 0.0, 2.5, 5.0, 8.0])  # .. with panels that end at so many of its widths
_SCAN, _HALVINGS = 401, 50  # points between which an output passes a kink of the loss; bisections
_POINTS = 11  # 2^_POINTS points of each scrambled Sobol sequence
_GROWTH = 2.0  # z is sqrt(1 + _GROWTH/d) times as wide as it should be, as |z|^_GROWTH times the density is
_STUDENT = math.sqrt((REPLICATES - 1) / (REPLICATES - 3))  # standard deviation of a mean over its standard error


class SamplePoints(Protocol):
    """`count` rules, by number, the best first; `root` of a covariance as they need it."""

    count: int

    def root(self, Q: Array) -> Array:
        """R (N, N) with R^T R = Q."""

    def __call__(self, which: int, mean: Array, root: Array, v: Array, y: float) -> tuple[Array, Array]:
        """Points z (n, fields), label noise last, and weights (n,), for fields mean + z root at the label y."""

    def merged(self, each: Array) -> tuple[Array, Array]:
        """The value and its error from those by each rule (R, ..): linear functions of the averages."""


def sample_points(fields: Fields, rule: OnlineSGD, seed: int) -> SamplePoints:
    """The best points for these activations, this loss and label noise."""
    dimension = len(fields.activations) + (rule.label_noise > 0)
    if _polynomial(fields, rule) and dimension <= _MOST_EXACT:
        return _Products(_EXACT, dimension)
    marks = [kink_places(name) for name in fields.activations]
    kinked = any(len(kinks(rule.loss, y)) for y in (1.0, -1.0))
    if dimension > 2:
        return _Spread(dimension, seed)
    if dimension == 2 and not kinked and not any(map(len, marks)):
        return _Products(_SMOOTH, dimension)
    taught = len(fields.activations) > fields.learning and not loss(rule.loss).invariant
    straight = dimension == 1 or all(piecewise_linear(name) is not None for name in fields.activations)
    if kinked and (rule.label_noise > 0 or taught or not straight):
        return _Spread(dimension, seed)
    return _Split(fields, rule, marks)


def _polynomial(fields: Fields, rule: OnlineSGD) -> bool:
    """Whether network and teacher are linear, under a loss of degree 2."""
    lines = [piecewise_linear(name) for name in set(fields.activations)]
    return loss(rule.loss).coefficients is not None and all(line is not None and not len(line[0]) for line in lines)


def _symmetric_root(Q: Array) -> Array:
    values, vectors = np.linalg.eigh((Q + Q.T) / 2)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


class _Products:
    """Two products of Gauss-Hermite rules."""

    def __init__(self, nodes: tuple[int, int], dimension: int) -> None:
        self.rules, self.count = [_hermite(n, dimension) for n in nodes], len(nodes)

    def root(self, Q: Array) -> Array:
        """As of `SamplePoints`."""
        return _symmetric_root(Q)

    def __call__(self, which: int, mean: Array, root: Array, v: Array, y: float) -> tuple[Array, Array]:
        """As of `SamplePoints`."""
        return self.rules[which]

    def merged(self, each: Array) -> tuple[Array, Array]:
        """The better, and the difference."""
        return _apart(each)


class _Spread:
    """Eight scrambled Sobol sequences, and the first halves of all of them together."""

    def __init__(self, dimension: int, seed: int) -> None:
        n, half = 2**_POINTS, 2 ** (_POINTS - 1)
        points = [scrambled_normals(dimension, seed, r, 0, n) for r in range(REPLICATES)]
        self.rules = [_widened(z) for z in (*points, np.concatenate([z[:half] for z in points]))]
        self.count = len(self.rules)

    def root(self, Q: Array) -> Array:
        """As of `SamplePoints`."""
        return _symmetric_root(Q)

    def __call__(self, which: int, mean: Array, root: Array, v: Array, y: float) -> tuple[Array, Array]:
        """As of `SamplePoints`."""
        return self.rules[which]

    def merged(self, each: Array) -> tuple[Array, Array]:
        """The mean, and its standard error; or half of what doubling the points has changed, if that is more."""
        value = each[:-1].mean(axis=0)
        error = _STUDENT * each[:-1].std(axis=0, ddof=1) / math.sqrt(len(each) - 1)
        return value, np.maximum(error, np.abs(value - each[-1]) / 2)


class _Split:
    """Panels that end at kinks, for one or two normals."""

    count = 2

    def __init__(self, fields: Fields, rule: OnlineSGD, marks: list[Array]) -> None:
        self.fields, self.loss, self.marks = fields, rule.loss, marks
        self.rules = _PANELS[len(marks) + (rule.label_noise > 0)]
        self.straight = all(piecewise_linear(name) is not None for name in fields.activations)
        self.noisy = rule.label_noise > 0

    def root(self, Q: Array) -> Array:
        """The triangular one: the first field is made of z_0 alone."""
        return np.ascontiguousarray(triangles(Q[None])[0].T)

    def merged(self, each: Array) -> tuple[Array, Array]:
        """The finer, and the difference."""
        return _apart(each)

    def __call__(self, which: int, mean: Array, root: Array, v: Array, y: float) -> tuple[Array, Array]:
        """As of `SamplePoints`."""
        reach, order = self.rules[which]
        levels = kinks(self.loss, y)[:, 0] / self.fields.s
        if len(mean) == 1:
            places = np.concatenate([self.marks[0], self._passing(0, levels, v, (mean[0], root[0, 0] * reach))])
            width = _WIDTH if self.straight else _WIDTH / min(max(1.0, root[0, 0]), _FINEST)
            z, weights = _nodes(_over(places - mean[0], root[0, 0])[None], reach, order, width)
            if not self.noisy:
                return z.T, weights[0]
            noise, more = _nodes(np.empty((1, 0)), reach, order)
            pairs = np.stack(np.meshgrid(z[0], noise[0], indexing="ij"), axis=-1).reshape(-1, 2)
            return pairs, np.outer(weights[0], more[0]).ravel()
        value = activation_value(self.fields.activations[1])(self.marks[1]) if len(levels) else np.empty(0)
        there = (levels[:, None] - v[1] * value).ravel()  # of the first neuron, where the second one is at a kink
        ends = np.concatenate([self.marks[0], self._pieces(0, there, v).ravel()]) - mean[0]
        ends = np.concatenate([_over(ends, root[0, 0]), self._layers(levels, mean, root, v)])
        (outer,), (weights,) = _nodes(ends[None], reach, order)
        centre = mean[1] + root[0, 1] * outer
        said = v[0] * activation_value(self.fields.activations[0])(mean[0] + root[0, 0] * outer)
        places = self._pieces(1, levels - said[:, None], v).reshape(len(outer), -1)
        places = np.concatenate([np.tile(self.marks[1], (len(outer), 1)), places], axis=1)
        inner, more = _nodes(_over(places - centre[:, None], root[1, 1]), reach, order)
        points = np.stack([np.broadcast_to(outer[:, None], inner.shape), inner], axis=-1)
        return points.reshape(-1, 2), (weights[:, None] * more).ravel()

    def _layers(self, levels: Array, mean: Array, root: Array, v: Array) -> Array:
        """Ends in z_0 about each steep line, a z_0 + b z_1 = c, along which there is a kink."""
        lines = [(root[0, 1], root[1, 1], mark - mean[1]) for mark in self.marks[1]]
        if len(levels):
            pieces = [piecewise_linear(name) for name in self.fields.activations]
            (_, slopes, at), (_, others, there) = (piece for piece in pieces if piece is not None)
            for (m, i), (n, j), level in product(zip(slopes, at, strict=True), zip(others, there, strict=True), levels):
                a, b = v[0] * m * root[0, 0] + v[1] * n * root[0, 1], v[1] * n * root[1, 1]
                lines.append((a, b, level - v[0] * (m * mean[0] + i) - v[1] * (n * mean[1] + j)))
        steep = [c / a + _LAYER * b / a for a, b, c in lines if abs(b) < _STEEP * abs(a)]
        return np.concatenate([np.empty(0), *steep])

    def _passing(self, n: int, levels: Array, v: Array, span: tuple[float, float]) -> Array:
        """Fields within `span`, centre and half a width, at which v_n g_n passes one of the levels (L,)."""
        if piecewise_linear(self.fields.activations[n]) is not None:
            return self._pieces(n, levels, v).ravel()
        g = activation_value(self.fields.activations[n])
        grid = np.union1d(span[0] + span[1] * np.linspace(-1, 1, _SCAN), self.marks[n])
        above = v[n] * g(grid) > levels[:, None]
        which, at = np.nonzero(above[:, 1:] != above[:, :-1])
        low, high, up = grid[at], grid[at + 1], above[which, at + 1]
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            later = (v[n] * g(middle) > levels[which]) != up
            low, high = np.where(later, middle, low), np.where(later, high, middle)
        return np.asarray((low + high) / 2)

    def _pieces(self, n: int, levels: Array, v: Array) -> Array:
        """The same (.., pieces) of a piecewise linear g_n at levels of any shape; infinite where a piece has none."""
        lines = piecewise_linear(self.fields.activations[n])
        if lines is None or not levels.size:
            return np.empty((*levels.shape, 0))
        marks, slopes, intercepts = lines
        low, high = np.append(-np.inf, marks), np.append(marks, np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = (levels[..., None] / v[n] - intercepts) / slopes
        return np.where((low <= found) & (found <= high), found, np.inf)


def _apart(each: Array) -> tuple[Array, Array]:
    """The first of two sets of matrices (2, .., n, n); the largest difference of each, as entries may agree by luck."""
    gaps = np.abs(each[0] - each[1]).max(axis=(-2, -1), keepdims=True)
    return each[0], np.broadcast_to(gaps, each[0].shape)


def _over(distance: Array, width: float) -> Array:
    """Distances in units of a width; infinite if there is none."""
    return distance / width if width > 0 else np.full_like(distance, np.inf)


def _nodes(cuts: Array, reach: float, order: int, width: float = _WIDTH) -> tuple[Array, Array]:
    """Nodes and weights (n, ..) of unit normals on panels no wider than `width` that end at the cuts (n, any)."""
    grid = np.linspace(-reach, reach, 2 * math.ceil(reach / width) + 1)
    edges = np.concatenate([np.tile(grid, (len(cuts), 1)), np.clip(cuts, -reach, reach)], axis=1)
    edges.sort(axis=1)
    on, weights = _unit(order)
    widths = np.diff(edges, axis=1)[..., None]
    z = (edges[:, :-1, None] + widths * on).reshape(len(cuts), -1)
    return z, (widths * weights).reshape(len(cuts), -1) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


@lru_cache(maxsize=16)
def _unit(order: int) -> tuple[Array, Array]:
    """Gauss-Legendre on [0, 1]."""
    return legendre([0.0, 1.0], order)


@lru_cache(maxsize=16)
def _hermite(nodes: int, dimension: int) -> tuple[Array, Array]:
    """The product of Gauss-Hermite rules: points (n, dimension) and weights (n,)."""
    z, w = np.polynomial.hermite_e.hermegauss(nodes)
    points = np.array(list(product(z, repeat=dimension)))
    return points, np.array(list(product(w / w.sum(), repeat=dimension))).prod(axis=1)


def _widened(z: Array) -> tuple[Array, Array]:
    """Normal points (n, d) spread wider, with the ratio of both densities over n."""
    n, d = z.shape
    square = 1 + _GROWTH / d
    return math.sqrt(square) * z, square ** (d / 2) * np.exp(-(square - 1) / 2 * (z * z).sum(axis=1)) / n
