"""The oracle: error of the Bayes rule on a mixture whose means, weights and sigma are known.

    error = sum_a P_a P(yhat != y_a | a),   yhat(x) = sign D(x),   D(x) = sum_a y_a P_a N(x; mean_a, sigma^2)

(derived in symbolic/learners/oracle.py).  It depends on the mixture only through the affine span of the means.  The
route:

1. `reduced`: distinct means as signed weights, in the coordinates of their span and in units of sigma;
2. `_closed_form`: two or three clusters, XOR and parity, in any position, by the formulas of `quenched.theory.oracle`;
3. `_on_line`: in one dimension D is a sum of exponentials: all its real zeros, and Phi between them;
4. `_on_plane`: in two dimensions the same on every line across the plane, and an adaptive integral over the lines.

All of it is array code on the functions of `exponential_sums.Numbers`, those of float64 or of an mpmath
context.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.precision import context
from quenched.numerics.oracle_sampling import Gaussians, sampled_error, separate_covariances
from quenched.numerics.oracle_sites import Sites, at_least, reduced, turned
from quenched.numerics.probability.exponential_sums import Numbers, sign_changes
from quenched.numerics.probability.quadrature import adaptive, tanh_sinh
from quenched.numerics.problem.checks import Result, digit_count, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.whitening import Part, whitened
from quenched.theory import oracle

__all__ = ["LEARNERS", "OracleError", "OracleOptions", "oracle_error"]

Array = npt.NDArray[Any]

_EPS = float(np.finfo(np.float64).eps)
_MANY = 40_000  # means times changes of label squared: a line takes as many exponentials
_SAMPLED = 1e-6  # relative standard error asked of what is sampled


@dataclass(frozen=True, repr=False)
class OracleError(Result):
    """The error of the Bayes rule, an estimate of its absolute numerical error, and how it was found.

    `value` is a float, or an mpmath number with the digits that were asked for.
    """

    value: Any
    error: float
    method: str

    def __float__(self) -> float:
        return float(self.value)


def _closed_form(sites: Sites, numbers: Numbers) -> tuple[Any, str] | None:
    """The error by a formula, and its name; None if the arrangement has none.  Equality is up to float64 rounding."""
    one = numbers.number(1.0)
    (plus, p), (minus, m) = sites.of(1), sites.of(-1)
    if not (len(p) and len(m)):
        return 0 * one, "one label"
    small = 64 * _EPS * np.abs(sites.means - sites.means[0]).max()

    def length(vector: Array) -> Any:
        return numbers.sqrt((vector * vector).sum())

    def equal(weights: Array) -> bool:
        return bool(np.ptp(weights) <= 64 * _EPS * weights.max())

    if len(p) == len(m) == 1:
        value = numbers.formula(oracle.two_clusters)(length(plus[0] - minus[0]) / 2, one, p[0], m[0])
        return value, "two clusters"
    if {len(p), len(m)} == {1, 2}:
        (centre, w), (outer, u) = ((plus, p), (minus, m)) if len(p) == 1 else ((minus, m), (plus, p))
        if equal(u) and np.abs(outer.sum(axis=0) - 2 * centre[0]).max() <= small:
            value = numbers.formula(oracle.three_clusters)(length(outer[0] - outer[1]) / 2, one, w[0], u.sum())
            return value, "three clusters"
    if len(p) == len(m) == 2 and equal(np.concatenate([p, m])):
        diagonals = [length(pair[0] - pair[1]) for pair in (plus, minus)]
        centred = np.abs(plus.sum(axis=0) - minus.sum(axis=0)).max() <= small
        if centred and abs(diagonals[0] - diagonals[1]) <= small:
            sides = [length(plus[0] - corner) for corner in minus]
            total = p.sum() + m.sum()
            if abs(sides[0] - sides[1]) <= small:
                return total * numbers.formula(oracle.xor)(diagonals[0] / 2, one), "XOR"
            return total * numbers.formula(oracle.parity)(sides[0] / 2, sides[1] / 2, one), "parity"
    return None


class _Cut(NamedTuple):
    """Lines y = const across the plane: D changes sign at `zeros` (Y, V), one (or none) between two `extrema` (Y, V+1).

    `values` (Y, V+1) is log(D+/D-) at the extrema, D+ and D- being the positive and negative terms of D.  The first and
    last extremum are the ends of the line; a zero that does not exist is put at the upper of its extrema.
    """

    extrema: Array
    values: Array
    zeros: Array


def _terms(sites: Sites, lines: Array, numbers: Numbers) -> tuple[Array, Array, Array]:
    """Outer coordinates of the means, rates a_j (n,) and logs b_j (Y, n) of D = sum_j y_j exp(a_j x + b_j) on lines."""
    inner, outer = sites.means[:, 0], sites.means[:, 1] if sites.dimensions == 2 else 0 * sites.means[:, 0]
    one = numbers.number(1.0)
    rates, logs = numbers.formula(oracle.discriminant)(np.abs(sites.weights), inner, outer, lines[:, None], one)
    return outer, rates, logs


def _cut(sites: Sites, lines: Array, reach: Any, numbers: Numbers) -> _Cut:
    """Where D changes sign along lines y = const, nearer than `reach` to some mean in x.

    With a_j ascending, D = sum_j y_j exp(a_j x + b_j) has at most V zeros, V the number of changes in y_1, y_2, ..
    Divided by exp(c x) with c between two a_j of opposite sign, its derivative has the same terms with one change
    less, and its zeros separate those of D: after V - 1 such steps one zero is left, and back from there each function
    gives the brackets for the one before.  In mpmath numbers only the last step, to the zeros of D itself, is repeated:
    the extrema are but brackets.
    """
    _, rates, logs = _terms(sites, lines, numbers)
    if numbers.ctx is not None:
        rough = _cut(sites.rough(), lines.astype(float), float(reach), Numbers())
        extrema = numbers.array(rough.extrema)
        accuracy = numbers.number(10.0) ** (-numbers.ctx.dps / 3.5)  # the error is stationary in the zeros
        zeros, values = sign_changes(
            extrema, rates, logs, sites.labels > 0, numbers.array(rough.zeros), accuracy, numbers
        )
        return _Cut(extrema, values, zeros)
    order = np.argsort(rates)
    rates, logs, labels = rates[order], logs[:, order], sites.labels[order]
    changes = np.flatnonzero(labels[1:] != labels[:-1])
    factors = rates - (rates[changes] + rates[changes + 1])[:, None] / 2
    edges = np.stack([np.full_like(lines, rates[0] - reach), np.full_like(lines, rates[-1] + reach)], axis=1)
    for level in reversed(range(len(changes))):
        positive = labels * np.sign(factors[:level]).prod(axis=0) > 0
        derivative = logs + np.log(np.abs(factors[:level])).sum(axis=0)
        zeros, values = sign_changes(edges, rates, derivative, positive, None, 1e-5 if level else 1e-8, numbers)
        extrema, edges = edges, np.concatenate([edges[:, :1], zeros, edges[:, -1:]], axis=1)
    return _Cut(extrema, values, zeros)


def _line_error(sites: Sites, lines: Array, reach: Any, numbers: Numbers) -> Array:
    """Weight on the wrong side of D per unit of y, on lines y = const."""
    cut = _cut(sites, lines, reach, numbers)
    outer, inner, _ = _terms(sites, lines, numbers)
    end = numbers.array(np.full((len(lines), 1), np.inf))
    edges = np.concatenate([-end, cut.zeros, end], axis=1)
    lower, upper = edges[:, :-1, None], edges[:, 1:, None]
    wrong = ((cut.values > 0)[:, :, None] != (sites.weights > 0)) & (lower < upper)
    lower, upper, weight, mean, other, y = (
        np.broadcast_to(a, wrong.shape)[wrong]
        for a in (lower, upper, np.abs(sites.weights), inner, outer, lines[:, None, None])
    )
    mirrored = lower > mean  # the side on which a difference of Phi loses no digits
    lower, upper = np.where(mirrored, -upper, lower), np.where(mirrored, -lower, upper)
    one = numbers.number(1.0)
    error = np.zeros(wrong.shape, dtype=edges.dtype)
    error[wrong] = numbers.formula(oracle.slice_mass)(
        weight, np.where(mirrored, -mean, mean), other, y, lower, upper, one
    )
    return np.asarray(error.sum(axis=(1, 2)))


def _strips(sites: Sites, reach: float) -> list[tuple[float, float]]:
    """The intervals of y that are within `reach` of means of both labels: elsewhere there is no error to speak of."""
    outer = sites.means[:, 1].astype(float)
    ends = np.unique(np.concatenate([outer - reach, outer + reach]))
    near = np.abs((ends[1:, None] + ends[:-1, None]) / 2 - outer) < reach
    both = (near & (sites.weights > 0)).any(axis=1) & (near & (sites.weights < 0)).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], both, [0]])))
    return list(zip(ends[edges[::2]], ends[edges[1::2]], strict=True))


def _kinks(sites: Sites, strips: list[tuple[float, float]], reach: float) -> Array:
    """The y at which the error per line is not analytic, or nearly so: zeros of D appear (in pairs) or cross (saddles).

    There an extremum of D along the line is zero.  The extrema are followed on lines sigma/8 apart; Newton's method in
    the plane then solves G = G_x = 0, or G_y = G_x = 0 where one comes close without a change of sign, G = log(D+/D-).
    """
    lines = np.concatenate([np.linspace(a, b, math.ceil(8 * (b - a)) + 1) for a, b in strips])
    cut = _cut(sites, lines, reach, Numbers())
    x, G = cut.extrema[:, 1:-1], cut.values[:, 1:-1]
    crossing = G[1:] * G[:-1] < 0
    size = np.abs(G)
    near = (size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:]) & (G[:-2] * G[2:] > 0) & (size[1:-1] < 1)
    i, k = np.nonzero(crossing)
    r, c = np.nonzero(near)
    share = G[i, k] / (G[i, k] - G[i + 1, k])
    middle = lines[i] + share * (lines[i + 1] - lines[i])
    start = np.concatenate([lines[i], lines[i + 1], middle, lines[r + 1]])
    saddle = np.arange(len(start)) >= 3 * len(i)
    x = np.concatenate([x[i, k], x[i + 1, k], x[i, k] + share * (x[i + 1, k] - x[i, k]), x[r + 1, c]])
    y, step, G = _newton(sites, x, start, saddle)
    found = (step < 1e-5) & (np.abs(y - start) < 0.25) & (np.abs(G) < 0.05)
    kinks = np.unique(y[found])
    return kinks[np.diff(kinks, prepend=-np.inf) > 1e-9]


def _newton(sites: Sites, x: Array, y: Array, saddle: Array) -> tuple[Array, Array, Array]:
    """Newton's method from (x, y) on (G, G_x) = 0, on (G_y, G_x) = 0 for a `saddle`: y, the last step, G.

    G is a difference of log-sum-exps; its derivatives are differences of moments of the means, each site weighted by
    its share in the density of its label.
    """
    step = G = np.full_like(y, np.inf)
    for _ in range(30):
        outer, rates, logs = _terms(sites, y, Numbers())
        exponents = logs + rates * x[:, None]
        G, Gx, Gy, Gxx, Gxy, Gyy = np.zeros((6, len(y)))
        for label in (1, -1):
            chosen = sites.labels == label
            a, o, part = rates[chosen], outer[chosen], exponents[:, chosen]
            top = part.max(axis=1)
            weight = np.exp(part - top[:, None])
            total = weight.sum(axis=1)
            weight /= total[:, None]
            a_mean, o_mean = weight @ a, weight @ o
            G += label * (top + np.log(total))
            Gx += label * a_mean
            Gy += label * o_mean
            Gxx += label * (weight @ (a * a) - a_mean * a_mean)
            Gxy += label * (weight @ (a * o) - a_mean * o_mean)
            Gyy += label * (weight @ (o * o) - o_mean * o_mean)
        first, first_x, first_y = np.where(saddle, (Gy, Gxy, Gyy), (G, Gx, Gy))
        determinant = first_x * Gxy - first_y * Gxx
        regular = np.abs(determinant) > 1e-100
        dx, dy = np.where(regular, (first_y * Gx - first * Gxy, first * Gxx - first_x * Gx), 0) / np.where(
            regular, determinant, 1
        )
        step = np.where(regular, np.maximum(np.abs(dx), np.abs(dy)), np.inf)
        shortened = np.minimum(1, 0.25 / np.maximum(step, 0.25))
        x, y = x + dx * shortened, y + dy * shortened
        if not (regular & (step > 1e-13)).any():
            break
    return y, step, G


def _reach(sites: Sites, tolerance: Any, numbers: Numbers) -> tuple[Any, Any]:
    """The distance beyond which the tails of all sites weigh less than `tolerance` of the error, and that weight."""
    log_weight = numbers.log(at_least(sites, numbers) * tolerance) - 10
    return numbers.sqrt(-2 * log_weight), numbers.exp(log_weight)  # P(|z| > h) <= exp(-h^2/2)


def _on_line(sites: Sites, numbers: Numbers) -> tuple[Any, str]:
    """One dimension: the error per line of the plane, for the one line that holds all means."""
    reach, _ = _reach(sites, _EPS if numbers.ctx is None else numbers.ctx.eps, numbers)
    on_line = numbers.array([0.0])
    error = _line_error(sites, on_line, reach, numbers)[0] * numbers.sqrt(2 * numbers.pi)
    return error, f"exact, {len(sites.weights)} sites on a line"


def _on_plane(sites: Sites, tolerance: float, numbers: Numbers) -> tuple[Any, Any, str]:
    """Two dimensions: value, absolute error, method; `tolerance` is relative."""
    sites = turned(sites, numbers)
    rough = sites.rough()
    reach, tails = _reach(sites, tolerance, numbers)
    strips = _strips(rough, float(reach))
    kinks = _kinks(rough, strips, float(reach))
    ends = [np.concatenate([[a], kinks[(a + 1e-9 < kinks) & (kinks < b - 1e-9)], [b]]) for a, b in strips]
    lower, upper = (np.concatenate([e[part] for e in ends]) for part in (slice(None, -1), slice(1, None)))
    if numbers.ctx is not None:
        ctx = numbers.ctx
        pieces = [np.linspace(a, b, math.ceil((b - a) / 6) + 1) for a, b in zip(lower, upper, strict=True)]
        panels = [(ctx.mpf(a), ctx.mpf(b)) for piece in pieces for a, b in itertools.pairwise(piece)]
        accuracy = at_least(sites, numbers) * tolerance
        result = tanh_sinh(lambda y: _line_error(sites, y, reach, numbers), panels, accuracy, ctx)
    else:
        # s in (i, i+1) is piece i, entered and left with zero speed, which smooths the kinks at its ends
        def integrand(s: Array) -> Array:
            i = np.minimum(s.astype(int), len(lower) - 1)
            t, length = s - i, (upper - lower)[i]
            y = lower[i] + length * t * t * (3 - 2 * t)
            return _line_error(sites, y, reach, numbers) * 6 * length * t * (1 - t)

        parts = [np.linspace(i, i + 1, math.ceil(w / 3) + 1) for i, w in enumerate(upper - lower)]
        result = adaptive(integrand, np.concatenate([np.stack([p[:-1], p[1:]], axis=1) for p in parts]), tolerance)
    error = result.error + 2 * tails
    return result.value, error, f"adaptive over {result.evaluations} lines, {len(kinks)} kinks"


def _many_changes(sites: Sites) -> bool:
    """Whether D has so many zeros along a line that finding them all on thousands of lines takes seconds."""
    labels = sites.labels[np.argsort(turned(sites, Numbers()).means[:, 0])] if sites.weights.dtype != object else None
    return labels is not None and len(labels) * int((labels[1:] != labels[:-1]).sum()) ** 2 > _MANY


def _sampled(sites: Sites) -> tuple[float, float]:
    """The error and its standard error; the weights need not add up to 1."""
    total = float(np.abs(sites.weights).sum())
    roots = np.broadcast_to(np.eye(sites.dimensions), (len(sites.weights), *(sites.dimensions,) * 2))
    value, error = sampled_error(Gaussians(sites.means, roots, sites.labels, np.abs(sites.weights) / total), _SAMPLED)
    return total * value, total * error


def _solve(mixture: Mixture, tolerance: Any, digits: int | None, numbers: Numbers) -> OracleError:
    """Steps 1 to 4 of the module's docstring."""
    sites, contested = reduced(mixture, numbers.number(mixture.isotropic_sigma), numbers)
    error: Any = 0
    if (closed := _closed_form(sites, numbers)) is not None:
        value, method = closed[0], f"closed form: {closed[1]}"
    elif numbers.ctx is None and at_least(sites, numbers) < 1e-290:
        value, error, method = 0.0, 1e-290 * len(sites.weights) ** 2, "below 1e-290: ask for digits"
    elif sites.dimensions == 1:
        value, method = _on_line(sites, numbers)
    elif sites.dimensions > 2 or _many_changes(sites):
        if digits is not None:
            raise ValueError(
                f"mixture must have means on a plane, and few changes of label across it, for digits={digits}, got "
                f"{len(sites.weights)} means in {sites.dimensions} dimensions; leave digits out for an error bar"
            )
        value, error = _sampled(sites)
        method = f"randomised quasi-Monte Carlo in {sites.dimensions} dimensions"
    else:
        value, error, method = _on_plane(sites, tolerance, numbers)
    value = value + contested
    if digits is not None:
        return OracleError(context(digits).mpf(value), float(value * 10 * tolerance), method)
    value = float(value)
    rounding = 4 * math.ulp(value) * (1 + 2 * abs(math.log(max(value, 1e-300))))  # Phi(-z) feels z^2 eps
    return OracleError(value, max(float(error), rounding), method)


def _together(parts: list[Part], tolerance: Any, digits: int | None, numbers: Numbers) -> OracleError:
    """The errors of clusters told apart, added up; the rounding of eigenvalues moves them as much as it may."""
    found = [_solve(part.mixture, tolerance, digits, numbers) for part in parts]
    error = 0.0
    for part, one in zip(parts, found, strict=True):
        error += part.share * one.error
        if part.smoother is not None:
            error += part.share * abs(float(_solve(part.smoother, tolerance, digits, numbers).value - one.value))
    if len(parts) == 1 and parts[0].share == 1.0:
        return replace(found[0], error=error)
    value = sum(numbers.number(part.share) * one.value for part, one in zip(parts, found, strict=True))
    return OracleError(value if digits else float(value), error, "; ".join(dict.fromkeys(one.method for one in found)))


def oracle_error(mixture: Mixture, *, tolerance: float = 1e-10, digits: int | None = None) -> OracleError:
    """Error of the Bayes rule of a mixture whose means, weights and sigma are known.

    A spectrum that all clusters share is whitened: their means are those of an isotropic mixture at the Mahalanobis
    distances, with the Gram matrix means (sum_u G_u/rho_u) means^T.  Directions without variance tell clusters apart
    whose means differ there, and do not count otherwise.  Means that point anywhere in a law of eigenvalues feel its
    exact E[1/rho].

    Closed forms and one-dimensional mixtures are exact to rounding.  A two-dimensional mixture is integrated to the
    relative `tolerance`; RuntimeError where that is not reached.  With `digits`, all is done in mpmath and `value` is a
    number of that many certain digits; the numbers of the mixture are then taken at their exact binary values, but for
    the weights, which are normalised, and for means that coincide or are symmetric up to float64 rounding.

    Means that span more dimensions, labels that change very often across the plane, and clusters with covariances of
    their own (a spectrum of single directions, as `Mixture.from_data` estimates it) are sampled; `error` is then a
    standard error.

    ValueError where the means depend on D, the clusters differ in sigma or in a law of eigenvalues, or a teacher makes
    the labels (the best error is then 0).

    >>> oracle = oracle_error(Mixture.xor(sigma=0.5))
    >>> print(f"{oracle.value:.15f}, {oracle.method}")
    0.144927686780961, closed form: XOR
    >>> print(oracle_error(Mixture.ring(3, sigma=0.5), digits=20).value)
    0.29456037591473488938
    """
    record("mixture", mixture, Mixture)
    if (mixture.exponents != 0).any():
        raise ValueError(
            f"mixture must not depend on D, got scaling={mixture.scaling!r}: the distances, and with them the error, "
            "change with D; for one D take Mixture(mixture.at(D), mixture.labels, mixture.weights, mixture.sigma)"
        )
    if mixture.teacher is None and (mixture.eigenvalues != mixture.eigenvalues[0]).any():
        if digits is not None:
            raise ValueError(f"mixture must have one covariance for all clusters for digits={digits}")
        clusters = separate_covariances(mixture)
        value, error = sampled_error(clusters, _SAMPLED)
        return OracleError(value, error, f"randomised quasi-Monte Carlo in {clusters.means.shape[1]} dimensions")
    parts = whitened(mixture)
    span = max(float(np.abs(m.means - m.means[0]).max() / m.sigmas[0]) for _, m, _ in parts)
    if digits is None:
        tolerance = number("tolerance", tolerance, positive=True)
        if not 1e-13 <= tolerance < 1:
            raise ValueError(f"tolerance must be in [1e-13, 1), got {tolerance}; below, ask for digits")
        numbers = Numbers()
    else:
        digits = digit_count("digits", digits)
        # a relative error in z is z^2 times larger in Phi(-z)
        numbers = Numbers(context(digits + 12 + math.ceil(2 * math.log10(1 + span))))
        tolerance = numbers.number(10.0) ** -(digits + 2)
    if span > 1e100:
        raise ValueError(f"mixture must have a sigma above 1e-100 of the distances between means, got 1/{span:.3g}")
    with np.errstate(under="ignore"):
        return _together(parts, tolerance, digits, numbers)


# --- as a learner


@dataclass(frozen=True)
class OracleOptions(Options):
    """How precisely: float64, or this many digits."""

    digits: int | None = option(None, "Digits of the oracle's error (default: float64).")


def _learned(mixture: Mixture, options: OracleOptions) -> Solution:
    """`oracle_error` as a solution; with digits, parts hold them as text."""
    import xarray as xr

    found = oracle_error(mixture, digits=options.digits)
    parts = {} if options.digits is None else {"digits": xr.DataArray(str(found.value))}
    record = provenance(mixture=mixture, options=options)
    return Solution(float(found.value), float(found.error), found.method, record, parts)


LEARNERS = (Learner("oracle", _learned, OracleOptions(), "The Bayes rule with known means: the lowest error."),)
