"""The oracle: error of the Bayes rule on a mixture whose means, weights and sigma are known.

    error = sum_a P_a P(yhat != y_a | a),   yhat(x) = sign D(x),   D(x) = sum_a y_a P_a N(x; mean_a, sigma^2)

(derived in symbolic/learners/oracle.py).  It depends on the mixture only through the affine span of the means.  The
route:

1. `reduced`: distinct means as signed weights, in the coordinates of their span and in units of sigma;
2. `_closed_form`: two or three clusters, XOR and parity, in any position, by the formulas of `quenched.theory.oracle`;
3. `integrated`: along a line D is a sum of exponentials: all its real zeros, and Phi between them; in two and three
   dimensions the same on every line across the plane or space, and adaptive integrals over the lines.

All of it is array code on the functions of `exponential_sums.Numbers`, those of float64 or of an mpmath
context.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.precision import context
from quenched.numerics.oracle_lines import coordinate_lines, radius_lines
from quenched.numerics.oracle_quadrature import integrated, sampled_lines
from quenched.numerics.oracle_sampling import Gaussians, sampled_error, separate_covariances, single_directions
from quenched.numerics.oracle_sites import Sites, at_least, overlap_bounds, reduced, separated, turned
from quenched.numerics.probability.exponential_sums import Numbers
from quenched.numerics.problem.checks import Result, digit_count, integer, number, record
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.whitening import Part, whitened
from quenched.theory import oracle

__all__ = ["LEARNERS", "OracleError", "OracleOptions", "oracle_error"]

Array = npt.NDArray[Any]

_EPS = float(np.finfo(np.float64).eps)
_MANY = 40_000  # means times changes of label squared: a line takes as many exponentials
_MANY_IN_SPACE = 400  # the same where there are a hundred thousand lines
_LEAST = 1e-290  # errors below are not told from 0 in float64
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


def _many_changes(sites: Sites) -> bool:
    """Whether D has so many zeros along a line that finding them all on thousands of lines takes seconds."""
    labels = sites.labels[np.argsort(turned(sites, Numbers()).means[:, 0])]
    limit = _MANY if sites.dimensions == 2 else _MANY_IN_SPACE
    return len(labels) * int((labels[1:] != labels[:-1]).sum()) ** 2 > limit


def _sampled(sites: Sites) -> tuple[float, float]:
    """The error and its standard error; the weights need not add up to 1."""
    total = float(np.abs(sites.weights).sum())
    roots = np.broadcast_to(np.eye(sites.dimensions), (len(sites.weights), *(sites.dimensions,) * 2))
    value, error = sampled_error(Gaussians(sites.means, roots, sites.labels, np.abs(sites.weights) / total), _SAMPLED)
    return total * value, total * error


def _solve(mixture: Mixture, tolerance: Any, digits: int | None, numbers: Numbers) -> OracleError:
    """Steps 1 to 3 of the module's docstring."""
    sites, contested = reduced(mixture, numbers.number(mixture.isotropic_sigma), numbers)
    error: Any = 0
    if (closed := _closed_form(sites, numbers)) is not None:
        value, method = closed[0], f"closed form: {closed[1]}"
    elif numbers.ctx is None and at_least(sites, numbers) < _LEAST:
        value, error, method = 0.0, _LEAST * len(sites.weights) ** 2, "below 1e-290: ask for digits"
    elif sites.dimensions > 3 or (sites.dimensions > 1 and _many_changes(sites.rough())):
        if digits is not None:
            raise ValueError(
                f"mixture must have means in three dimensions, and few changes of label across them, for "
                f"digits={digits}, got {len(sites.weights)} means in {sites.dimensions} dimensions; leave digits out "
                "for an error bar"
            )
        value, error = _sampled(sites)
        method = f"randomised quasi-Monte Carlo in {sites.dimensions} dimensions"
    else:
        value, error, method = integrated(coordinate_lines(turned(sites, numbers), numbers), tolerance)
    return _stated(value + contested, error, method, tolerance, digits)


def _stated(value: Any, error: Any, method: str, tolerance: Any, digits: int | None) -> OracleError:
    """As a record: the error is at least that of rounding."""
    if digits is not None:
        return OracleError(context(digits).mpf(value), float(value * 10 * tolerance), method)
    value = float(value)
    rounding = 4 * math.ulp(value) * (1 + 2 * abs(math.log(max(value, 1e-300))))  # Phi(-z) feels z^2 eps
    return OracleError(value, max(float(error), rounding), method)


def _by_radius(mixture: Mixture, D: int, tolerance: Any, digits: int | None, numbers: Numbers) -> OracleError:
    """Isotropic clusters, each with its sigma, in D dimensions: lines along the squared distance from the means."""
    sites, sigmas, contested = separated(mixture, numbers)
    if sites.dimensions > D:
        raise ValueError(f"D must be at least the {sites.dimensions} dimensions that the means span, got {D}")
    if not ((sites.weights > 0).any() and (sites.weights < 0).any()):
        return _stated(contested, 0, "one label", tolerance, digits)
    log_least, log_most = overlap_bounds(sites, sigmas, D)
    freedom, p = D - sites.dimensions, sites.dimensions
    if numbers.ctx is None and log_least < math.log(_LEAST):
        return _stated(contested, math.exp(log_most), "overlap bounds: ask for digits", tolerance, digits)
    if freedom and p <= 2:
        least = numbers.exp(numbers.number(log_least))
        value, error, method = integrated(radius_lines(sites, sigmas, freedom, least, numbers), tolerance)
        return _stated(value + contested, error, f"{method}, radius of {freedom} directions", tolerance, digits)
    if digits is not None:
        raise ValueError(f"mixture must have means on a plane, and D above 2, for digits={digits}, got {p}, D={D}")
    if freedom:
        value, error = sampled_lines(radius_lines(sites, sigmas, freedom, math.exp(log_least), numbers), _SAMPLED)
    else:
        total = float(np.abs(sites.weights).sum())
        roots = sigmas[:, None, None] * np.eye(p)
        value, error = sampled_error(
            Gaussians(sites.means, roots, sites.labels, np.abs(sites.weights) / total), _SAMPLED
        )
        value, error = total * value, total * error
    return _stated(value + contested, error, f"randomised quasi-Monte Carlo in {p} dimensions", tolerance, digits)


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


def _numbers(span: float, tolerance: float, digits: int | None) -> tuple[Numbers, Any]:
    """float64 and the tolerance, or mpmath numbers with guard digits; `span`: the distances of the means over sigma."""
    if span > 1e100:
        raise ValueError(f"mixture must have a sigma above 1e-100 of the distances between means, got 1/{span:.3g}")
    if digits is None:
        tolerance = number("tolerance", tolerance, positive=True)
        if not 1e-13 <= tolerance < 1:
            raise ValueError(f"tolerance must be in [1e-13, 1), got {tolerance}; below, ask for digits")
        return Numbers(), tolerance
    digits = digit_count("digits", digits)
    # a relative error in z is z^2 times larger in Phi(-z)
    numbers = Numbers(context(digits + 12 + math.ceil(2 * math.log10(1 + span))))
    return numbers, numbers.number(10.0) ** -(digits + 2)


def _at_dimension(mixture: Mixture, D: int | None) -> Mixture:
    """The mixture as it is at D, where that is given; ValueError where it must be."""
    if D is not None:
        if mixture.spectrum is not None:
            raise ValueError(f"D must be left out for a mixture with a spectrum, whose directions are its own, got {D}")
        return mixture.finite(D)
    if (mixture.exponents != 0).any():
        raise ValueError(
            f"mixture must not depend on D, got scaling={mixture.scaling!r}: the distances, and with them the error, "
            "change with D; give D"
        )
    return mixture


def oracle_error(
    mixture: Mixture, *, D: int | None = None, tolerance: float = 1e-10, digits: int | None = None
) -> OracleError:
    """Error of the Bayes rule of a mixture whose means, weights and sigma are known.

    `D`: the dimension of x, which matters where the means scale with it or clusters differ in sigma; None:
    D -> infinity.

    *Clusters with their own sigma.*  |x|^2 has the relative spread sqrt(2/D) about D sigma_a^2: it tells clusters of
    different sigma apart as D -> infinity, and what is left is the error within the groups of equal sigma.  At finite D
    the discriminant is quadratic, and depends on the coordinates in the span of the means, which has p dimensions, and
    on the squared distance u from it, sigma_a^2 chi^2_(D - p): in u it is a sum of exponentials, for p = 1 and 2 the
    rest is quadrature.  Covariances that differ in a law of eigenvalues tell clusters apart likewise.

    *One spectrum* that all clusters share is whitened: their means are those of an isotropic mixture at the Mahalanobis
    distances, with the Gram matrix means (sum_u G_u/rho_u) means^T.  Directions without variance tell clusters apart
    whose means differ there, and do not count otherwise.  Means that point anywhere in a law of eigenvalues feel its
    exact E[1/rho].

    *Precision.*  Closed forms and one-dimensional mixtures are exact to rounding.  Means that span two or three
    dimensions are integrated to the relative `tolerance` (three: a second or so); RuntimeError where that is not met.
    With `digits`, all is done in mpmath and `value` is a number of that many certain digits (three dimensions: a
    minute or two for 20 where a direction separates the labels' means, many minutes otherwise); the numbers of the
    mixture are then taken at their exact binary values, but for the weights, which are normalised, and for means that
    coincide or are symmetric up to float64 rounding.

    Means that span more dimensions, labels that change very often across the means, and clusters with covariances of
    their own in single directions (as `Mixture.from_data` estimates them) are sampled; `error` is then a standard
    error.

    ValueError where the means depend on D and it is not given, D does not hold the span of the means or there is a
    spectrum besides, or a teacher makes the labels (the best error is then 0), or clusters have classes.

    >>> oracle = oracle_error(Mixture.xor(sigma=0.5))
    >>> print(f"{oracle.value:.15f}, {oracle.method}")
    0.144927686780961, closed form: XOR
    >>> print(oracle_error(Mixture.ring(3, sigma=0.5), digits=20).value)
    0.29456037591473488938
    >>> apart = Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 1.5])
    >>> [round(oracle_error(apart, D=D).value, 6) for D in (2, 20)], oracle_error(apart).value
    ([0.191498, 0.067517], 0.0)
    """
    record("mixture", mixture, Mixture).check_signs()
    if D is not None:
        D = integer("D", D, at_least=1)
    mixture = _at_dimension(mixture, D)
    own = mixture.teacher is None and (mixture.eigenvalues != mixture.eigenvalues[0]).any()
    if own and single_directions(mixture):
        if digits is not None:
            raise ValueError(f"mixture must have one covariance for all clusters for digits={digits}")
        clusters = separate_covariances(mixture)
        value, error = sampled_error(clusters, _SAMPLED)
        return OracleError(value, error, f"randomised quasi-Monte Carlo in {clusters.means.shape[1]} dimensions")
    if own and D is not None:
        span = float(np.abs(mixture.means - mixture.means[0]).max() / mixture.sigmas.min())
        numbers, accuracy = _numbers(span, tolerance, digits)
        with np.errstate(under="ignore"):
            return _by_radius(mixture, D, accuracy, digits, numbers)
    parts = whitened(mixture)
    span = max(float(np.abs(m.means - m.means[0]).max() / m.sigmas[0]) for _, m, _ in parts)
    numbers, accuracy = _numbers(span, tolerance, digits)
    with np.errstate(under="ignore"):
        return _together(parts, accuracy, digits, numbers)


# --- as a learner


@dataclass(frozen=True)
class OracleOptions(Options):
    """At which dimension, and how precisely."""

    D: int | None = option(None, "Dimension of the inputs, where it matters (default: D -> infinity).")
    digits: int | None = option(None, "Digits of the oracle's error (default: float64).")


def _learned(mixture: Mixture, options: OracleOptions) -> Solution:
    """`oracle_error` as a solution; with digits, parts hold them as text."""
    import xarray as xr

    found = oracle_error(mixture, D=options.D, digits=options.digits)
    parts = {} if options.digits is None else {"digits": xr.DataArray(str(found.value))}
    record = provenance(mixture=mixture, options=options)
    return Solution(float(found.value), float(found.error), found.method, record, parts)


LEARNERS = (Learner("oracle", _learned, OracleOptions(), "The Bayes rule with known means: the lowest error."),)
