"""The error of the Bayes rule on parallel lines, on each of which the discriminant is a sum of exponentials.

On the line at the outer coordinates o the density of cluster j is exp(b_j + a_j s) times a factor all clusters share:

    coordinate   s one coordinate of the means, sigma the same for all:  a_j = m_j,  b_j = log P_j - |o - o_j|^2/2 - ..
    radius       s = r^2, the squared distance from the span of the means, with D - p directions:
                 a_j = -1/(2 sigma_j^2),  b_j = log P_j - D log sigma_j - |o - o_j|^2/(2 sigma_j^2)

(`discriminant` and `radial_discriminant` of symbolic/learners/oracle.py).  All sign changes in s are found by
recursion, and the weight on the wrong side is a sum of differences of Phi or of chi-square laws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.oracle_sites import Sites, at_least
from quenched.numerics.probability.exponential_sums import Numbers, sign_changes
from quenched.numerics.probability.quadratic_forms import chi_square_interval
from quenched.theory import oracle

__all__ = ["Lines", "coordinate_lines", "cut", "expansion", "line_error", "radius_lines", "reach"]

_STATIONARY = 24  # digits that zeros in float64 are enough for

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Lines:
    """Clusters along lines: signed `weights` (n,), `rates` (n,), outer `means` (n, q), `sigmas` (n,).

    `freedom`: directions of the radius, None for lines along a coordinate.  `least`: a lower bound of the error.
    """

    weights: Array
    rates: Array
    means: Array
    sigmas: Array
    freedom: int | None
    least: Any
    numbers: Numbers

    @property
    def labels(self) -> Array:
        """+1 or -1 of each, (n,)."""
        return np.where(self.weights > 0, 1, -1)

    def rough(self) -> Lines:
        """In float64."""
        arrays = {name: getattr(self, name).astype(float) for name in ("weights", "rates", "means", "sigmas")}
        return replace(self, **arrays, least=float(self.least), numbers=Numbers())

    def logs(self, outer: Array) -> Array:
        """b_j on the lines at `outer` (Y, q), shape (Y, n)."""
        numbers, one = self.numbers, self.numbers.number(1.0)
        weights = np.abs(self.weights)
        if self.freedom is not None:
            gaps = ((outer[:, None] - self.means) ** 2).sum(axis=2)
            D = numbers.number(self.freedom + self.means.shape[1])
            return np.asarray(numbers.formula(oracle.radial_discriminant)(weights, gaps, self.sigmas, D)[1])
        form = numbers.formula(oracle.discriminant)
        first = self.means[:, 0] if self.means.shape[1] else 0 * self.rates
        _, logs = form(weights, self.rates, first, outer[:, :1] if outer.shape[1] else numbers.array([[0.0]]), one)
        for k in range(1, self.means.shape[1]):
            logs = logs + form(one, 0 * one, self.means[:, k], outer[:, k : k + 1], one)[1]
        return np.asarray(logs)

    def densities(self, outer: Array) -> Array:
        """Weight of each cluster per unit of the outer coordinates, (Y, n)."""
        numbers = self.numbers
        gaps = ((outer[:, None] - self.means) ** 2).sum(axis=2)
        scale = (numbers.sqrt(numbers.number(2.0) * numbers.pi) * self.sigmas) ** self.means.shape[1]
        return np.asarray(np.abs(self.weights) * numbers.exp(-gaps / (2 * self.sigmas**2)) / scale)


def coordinate_lines(sites: Sites, numbers: Numbers) -> Lines:
    """Lines along the first coordinate of sites, whose sigma is 1."""
    means = sites.means
    return Lines(sites.weights, means[:, 0], means[:, 1:], 0 * means[:, 0] + 1, None, at_least(sites, numbers), numbers)


def radius_lines(sites: Sites, sigmas: Array, freedom: int, least: Any, numbers: Numbers) -> Lines:
    """Lines of the squared distance from the span of the sites, each with its sigma; means and sigmas in one unit."""
    one = numbers.number(1.0)
    D = numbers.number(freedom + sites.dimensions)
    rates, _ = numbers.formula(oracle.radial_discriminant)(one, 0 * sigmas, sigmas, D)
    return Lines(sites.weights, rates, sites.means, sigmas, freedom, least, numbers)


class _Cut(NamedTuple):
    """Lines: D changes sign at `zeros` (Y, V), one (or none) between two `extrema` (Y, V+1).

    `values` (Y, V+1) is log(D+/D-) at the extrema, D+ and D- being the positive and negative terms of D.  The first and
    last extremum are the ends of the line; a zero that does not exist is put at the upper of its extrema.
    """

    extrema: Array
    values: Array
    zeros: Array


def _ends(lines: Lines, far: float) -> tuple[float, float]:
    """Where the lines may end: `far` beyond the outermost means; from 0 to where no cluster has weight."""
    if lines.freedom is None:
        return lines.rates.min() - far, lines.rates.max() + far
    # |z| of nu directions exceeds sqrt(nu) + far with P <= exp(-far^2/2)
    return 0.0, float(lines.sigmas.max() * (np.sqrt(lines.freedom) + far)) ** 2


def cut(lines: Lines, outer: Array, far: Any) -> _Cut:
    """Where D changes sign on the lines at `outer` (Y, q), nearer than `far` to some mean in s.

    With a_j ascending, D = sum_j y_j exp(a_j s + b_j) has at most V zeros, V the number of changes in y_1, y_2, ..
    Divided by exp(c s) with c between two a_j of opposite sign, its derivative has the same terms with one change
    less, and its zeros separate those of D: after V - 1 such steps one zero is left, and back from there each function
    gives the brackets for the one before.  In mpmath numbers only the last step, to the zeros of D itself, is repeated:
    the extrema are but brackets.  The error on a line is stationary in the zeros: those of float64, at 1e-15, do for
    24 digits.
    """
    numbers = lines.numbers
    if numbers.ctx is not None:
        rough = cut(lines.rough(), outer.astype(float), float(far))
        if numbers.ctx.dps <= _STATIONARY:
            return _Cut(rough.extrema, rough.values, numbers.array(rough.zeros))
        extrema = numbers.array(rough.extrema)
        accuracy = numbers.number(10.0) ** (-numbers.ctx.dps / 3.5)  # the error is stationary in the zeros
        guess = numbers.array(rough.zeros)
        logs = lines.logs(outer)
        zeros, values = sign_changes(extrema, lines.rates, logs, lines.labels > 0, guess, accuracy, numbers)
        return _Cut(extrema, values, zeros)
    logs = lines.logs(outer)
    start, stop = _ends(lines, far)
    edges = np.stack([np.full(len(outer), start), np.full(len(outer), stop)], axis=1)
    order = np.argsort(lines.rates, kind="stable")
    rates, first = np.unique(lines.rates[order], return_index=True)
    if len(rates) == len(order):
        extrema = _extrema(edges, rates, logs[:, order], lines.labels[order])
    else:  # clusters of one sigma are one term, whose sign differs from line to line
        signed = lines.labels * np.exp(logs - logs.max(axis=1, keepdims=True))
        terms = np.add.reduceat(signed[:, order], first, axis=1)
        patterns, which = np.unique(terms > 0, axis=0, return_inverse=True)
        sizes = np.log(np.maximum(np.abs(terms), 1e-300))
        parts = []
        for i, pattern in enumerate(patterns):
            rows = which.ravel() == i
            parts.append((rows, _extrema(edges[rows], rates, sizes[rows], np.where(pattern, 1, -1))))
        width = max(part.shape[1] for _, part in parts)
        extrema = np.full((len(outer), width), stop)
        for rows, part in parts:
            extrema[rows, : part.shape[1]] = part
    zeros, values = sign_changes(extrema, lines.rates, logs, lines.labels > 0, None, 1e-8, numbers)
    return _Cut(extrema, values, zeros)


def _extrema(edges: Array, rates: Array, logs: Array, labels: Array) -> Array:
    """The edges (Y, 2), and between them points (Y, V - 1) that separate the zeros of sum_j y_j exp(a_j s + b_j)."""
    changes = np.flatnonzero(labels[1:] != labels[:-1])
    factors = rates - (rates[changes] + rates[changes + 1])[:, None] / 2
    ends = edges
    for level in reversed(range(1, len(changes))):
        positive = labels * np.sign(factors[:level]).prod(axis=0) > 0
        derivative = logs + np.log(np.abs(factors[:level])).sum(axis=0)
        zeros, _ = sign_changes(edges, rates, derivative, positive, None, 1e-5, Numbers())
        edges = np.concatenate([ends[:, :1], zeros, ends[:, 1:]], axis=1)
    return edges


def line_error(lines: Lines, outer: Array, far: Any) -> Array:
    """Weight on the wrong side of D per unit of the outer coordinates, on the lines at `outer` (Y, q), shape (Y,)."""
    numbers = lines.numbers
    found = cut(lines, outer, far)
    end = numbers.array(np.full((len(outer), 1), np.inf))
    first = -end if lines.freedom is None else 0 * found.zeros[:, :1]
    edges = np.concatenate([first, found.zeros, end], axis=1)
    lower, upper = edges[:, :-1, None], edges[:, 1:, None]
    wrong = ((found.values > 0)[:, :, None] != (lines.weights > 0)) & (lower < upper)
    density = lines.densities(outer)[:, None]
    lower, upper, density, rate, sigma = (
        np.broadcast_to(a, wrong.shape)[wrong] for a in (lower, upper, density, lines.rates, lines.sigmas)
    )
    error = np.zeros(wrong.shape, dtype=edges.dtype)
    if lines.freedom is None:
        mirrored = lower > rate  # the side on which a difference of Phi loses no digits
        lower, upper = np.where(mirrored, -upper, lower), np.where(mirrored, -lower, upper)
        one = numbers.number(1.0)
        peak = numbers.sqrt(2 * numbers.pi * one)  # of the formula's own outer coordinate, taken at its mean
        mass = numbers.formula(oracle.slice_mass)(
            peak, np.where(mirrored, -rate, rate), 0 * one, 0 * one, lower, upper, one
        )
    else:
        mass = chi_square_interval(lower / sigma**2, upper / sigma**2, lines.freedom, numbers.ctx)
    error[wrong] = density * mass
    return np.asarray(error.sum(axis=(1, 2)))


def expansion(lines: Lines, points: Array) -> tuple[Array, Array, Array]:
    """G = log(D+/D-) at points (m, 1 + q), of s and the outer coordinates: value (m,), gradient, Hessian.

    G is a difference of log-sum-exps; its derivatives are differences of moments of the slopes of the exponents, each
    cluster weighted by its share in the density of its label.
    """
    m, d = points.shape
    outer, inverse = points[:, 1:], 1 / lines.sigmas**2
    exponents = lines.logs(outer) + lines.rates * points[:, :1]
    slopes = np.empty((m, len(lines.rates), d))
    slopes[:, :, 0] = lines.rates
    slopes[:, :, 1:] = (lines.means - outer[:, None]) * inverse[:, None]
    G, gradient, hessian = np.zeros(m), np.zeros((m, d)), np.zeros((m, d, d))
    for label in (1, -1):
        chosen = lines.labels == label
        part, slope = exponents[:, chosen], slopes[:, chosen]
        top = part.max(axis=1)
        share = np.exp(part - top[:, None])
        total = share.sum(axis=1)
        share /= total[:, None]
        mean = np.einsum("mn,mnd->md", share, slope)
        G += label * (top + np.log(total))
        gradient += label * mean
        hessian += label * (np.einsum("mn,mnd,mne->mde", share, slope, slope) - mean[:, :, None] * mean[:, None])
        curvature = label * (share @ inverse[chosen])
        for k in range(1, d):
            hessian[:, k, k] -= curvature
    return G, gradient, hessian


def reach(lines: Lines, tolerance: Any) -> tuple[Any, Any]:
    """The distance beyond which the tails of all sites weigh less than `tolerance` of the error, and that weight."""
    log_weight = lines.numbers.log(lines.least * tolerance) - 10
    return lines.numbers.sqrt(-2 * log_weight), lines.numbers.exp(log_weight)  # P(|z| > h) <= exp(-h^2/2)
