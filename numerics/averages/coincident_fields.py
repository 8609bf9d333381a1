"""Singular covariances of fields, prepared for the averages: equal fields merged, opposite ones exact, others regular.

Rounding makes a singular covariance slightly indefinite, and two equal fields slightly different.  An error delta of a
covariance moves an average by sqrt(delta) there: 1e-16 becomes 1e-8 in P(x_0 > 0 > x_1).  Three steps avoid that:

* fields that are equal up to rounding in every cluster are merged (`distinct`);
* fields with x_k = -x_l up to rounding are made opposite to the last bit, so that the variance of one given the other
  is exactly 0 (`consistent`);
* for averages over three and four fields, the variances of any other singular covariance (more fields than weights
  span) are raised by a few roundings, which moves the averages by up to 1e-8.

All steps are compiled: they precede every evaluation of the averages.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.linalg import eigvalsh
from numpy.typing import NDArray

from quenched.numerics.compiled.double_double import residual
from quenched.numerics.compiled.machine_code import inner, njit

__all__ = ["JITTER", "TINY", "consistent", "distinct", "raised", "regularised", "relative_error", "repeated"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TINY = 1e-280  # stands in for a vanishing variance: fields of size 1e-140 leave every average where it was
JITTER = 2.0**-51  # relative; makes a covariance that is singular up to rounding positive definite
_SAME = 2.0**-48  # relative; fields whose difference has less variance than this are one, or opposite
_NOISE = 2.0**-50  # relative variance that makes two fields parallel up to rounding two fields of one law


@inner(error_model="numpy")
def _agree(mean, covariance, k, l, side):  # type: ignore[no-untyped-def]
    """Whether x_k = side x_l in one cluster, up to rounding."""
    size = max(covariance[k, k], covariance[l, l])
    between = covariance[k, k] + covariance[l, l] - 2.0 * side * covariance[k, l]
    if not abs(between) <= _SAME * size:
        return False
    scale = max(abs(mean[k]), abs(mean[l])) + math.sqrt(max(size, 0.0))
    return abs(mean[k] - side * mean[l]) <= _SAME * scale


@inner(error_model="numpy")
def _first(mean, covariance, k):  # type: ignore[no-untyped-def]
    """The first field that is field k in every cluster."""
    for l in range(k):
        same = True
        for a in range(mean.shape[0]):
            if not _agree(mean[a], covariance[a], k, l, 1.0):
                same = False
                break
        if same:
            return l
    return k


@njit(error_model="numpy", nogil=True)
def repeated(mean: Array, covariance: Array) -> bool:
    """Whether some field is another one in every cluster, up to rounding."""
    for k in range(mean.shape[1]):  # noqa: SIM110 (compiled)
        if _first(mean, covariance, k) < k:
            return True
    return False


@njit(error_model="numpy", nogil=True)
def distinct(mean: Array, covariance: Array) -> tuple[Index, Index]:
    """The fields that differ from those before them, and which of these each field is.

    mean (C, K), covariance (C, K, K): kept (K',) and place (K,), field k being the same as field kept[place[k]].

    >>> kept, place = distinct(np.zeros((1, 3)), np.array([[[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 1.0]]]))
    >>> kept.tolist(), place.tolist()
    ([0, 1], [0, 1, 0])
    """
    K = mean.shape[1]
    kept, place, count = np.empty(K, np.int64), np.empty(K, np.int64), 0
    for k in range(K):
        l = _first(mean, covariance, k)
        if l < k:
            place[k] = place[l]
        else:
            kept[count], place[k] = k, count
            count += 1
    return kept[:count], place


@inner(error_model="numpy")
def _lowest(covariance):  # type: ignore[no-untyped-def]
    """Lowest eigenvalue of the correlations of one cluster, 0 where they are not finite.

    A field without variance is independent of all others.
    """
    K = covariance.shape[0]
    correlation = np.empty((K, K))
    for k in range(K):
        for l in range(K):
            scale = math.sqrt(max(covariance[k, k], TINY)) * math.sqrt(max(covariance[l, l], TINY))
            correlation[k, l] = covariance[k, l] / scale if k != l or covariance[k, k] > TINY else 1.0
            if not np.isfinite(correlation[k, l]):
                return 0.0
    return eigvalsh(correlation)[0]


@njit(error_model="numpy")
def regularised(covariance: Array) -> Array:
    """Covariances (C, K, K) made positive definite: averages over three and four fields need the density of one law."""
    regular = covariance.copy()
    for a in range(regular.shape[0]):
        factor = 1.0 + max(JITTER, -2.0 * _lowest(covariance[a]))
        for k in range(regular.shape[1]):
            regular[a, k, k] = max(regular[a, k, k] * factor, TINY)
    return regular


@inner(error_model="numpy")
def _originals(mean, covariance):  # type: ignore[no-untyped-def]
    """For each field of one cluster, the first one that is the same or opposite, and the sign.

    Of pairs only: what the averages make of three fields that vanish together needs noise to tell them apart.
    """
    K = mean.shape[0]
    first, sign, count = np.arange(K), np.ones(K), np.ones(K, np.int64)
    for k in range(K):
        for l in range(K):
            if l == k:
                continue
            same = _agree(mean, covariance, k, l, 1.0)
            if same or _agree(mean, covariance, k, l, -1.0):
                count[k] += 1
                if l < first[k]:
                    first[k], sign[k] = l, 1.0 if same else -1.0
    original, side = first.copy(), sign.copy()
    for k in range(K):
        if count[k] > 2 or count[first[k]] > 2:
            original[k], side[k] = k, 1.0
    return original, side


@njit(error_model="numpy", nogil=True)
def consistent(mean: Array, covariance: Array) -> tuple[Array, Array, Array]:
    """Means (C, K); covariances (C, K, K) with variances above zero; and the same made positive definite.

    The first covariances are all that averages over one and two fields need.
    """
    means, given, regular = mean.copy(), covariance.copy(), np.empty_like(covariance)
    K = mean.shape[1]
    for a in range(mean.shape[0]):
        for k in range(K):
            given[a, k, k] = max(given[a, k, k], TINY)
        original, sign = _originals(mean[a], covariance[a])
        place, first, count = np.empty(K, np.int64), np.empty(K, np.int64), 0
        for k in range(K):
            if original[k] == k:
                first[count], place[k] = k, count
                count += 1
        for k in range(K):
            place[k] = place[original[k]]
        inner = np.empty((1, count, count))
        for k in range(count):
            for l in range(count):
                inner[0, k, l] = given[a, first[k], first[l]]
        positive = regularised(inner)
        for k in range(K):
            means[a, k] = sign[k] * mean[a, original[k]]
            for l in range(K):
                side = sign[k] * sign[l]
                given[a, k, l] = side * inner[0, place[k], place[l]]
                regular[a, k, l] = side * positive[0, place[k], place[l]]
    return means, given, regular


@njit(error_model="numpy")
def raised(m0: float, m1: float, c00: float, c01: float, c11: float) -> float:
    """Factor on the variances of two fields: above 1 if they are parallel up to rounding, but not exactly.

    Each is then a different function of the other, on a scale below that of rounding; independent noise of relative
    variance 2^-50 makes them fields of one law again, at a cost of 1e-8.
    """
    if c01 * c01 < (1.0 - 2e-15) * (c00 * c11):
        return 1.0
    a, b = (c01, 0.0), (c00, 0.0)
    if residual((c11, 0.0), a, a, b)[0] == 0.0 and residual((m1, 0.0), a, (m0, 0.0), b)[0] == 0.0:
        return 1.0
    return max(1.0, abs(c01) / math.sqrt(c00 * c11)) * (1.0 + _NOISE)


@njit(error_model="numpy", nogil=True)
def _lowest_of_all(mean, covariance, pairs):  # type: ignore[no-untyped-def]
    """Lowest eigenvalue of the correlations of fields that differ, or of `pairs` of them, over the clusters; 1 at most.

    That of a pair is 1 - |r|.
    """
    lowest = 1.0
    for a in range(mean.shape[0]):
        original, _ = _originals(mean[a], covariance[a])
        own = np.flatnonzero(original == np.arange(len(original)))
        inner = np.empty((len(own), len(own)))
        for k in range(len(own)):
            for l in range(len(own)):
                inner[k, l] = covariance[a, own[k], own[l]]
        if not pairs:
            lowest = min(lowest, _lowest(inner))
            continue
        for k in range(len(own)):
            for l in range(k):
                scale = math.sqrt(max(inner[k, k], TINY)) * math.sqrt(max(inner[l, l], TINY))
                lowest = min(lowest, 1.0 - abs(inner[k, l] / scale))
    return lowest


def relative_error(mean: Array, covariance: Array, limit: int = 4) -> float:
    """What a few roundings of the covariances change in averages over `limit` fields, relative to the factors' size.

    In proportion where a covariance is regular, their square root where it is singular, 4 sqrt(JITTER) = 8e-8 at most;
    repeated and opposite fields are exact.  Averages over two fields see no more than the correlations of pairs: many
    fields in a plane, of which no two are parallel, are regular to them.

    >>> relative_error(np.zeros((1, 2)), np.array([[[1.0, -1.0], [-1.0, 1.0]]])) < 1e-14
    True
    >>> plane = np.cos(np.arange(3) - np.arange(3)[:, None])[None]
    >>> relative_error(np.zeros((1, 3)), plane) > 1e-8, relative_error(np.zeros((1, 3)), plane, limit=2) < 1e-14
    (True, True)
    """
    kept, _ = distinct(mean, covariance)
    lowest = _lowest_of_all(
        np.ascontiguousarray(mean[:, kept]), np.ascontiguousarray(covariance[:, kept[:, None], kept]), limit <= 2
    )
    return 4.0 * JITTER / math.sqrt(max(lowest, JITTER))
