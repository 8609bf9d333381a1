"""Means and covariances as the averages take them: repeated fields merged, opposite ones exact, the rest made positive.

Rounding leaves a singular covariance slightly indefinite, and two fields that are one field slightly different.  The
averages are continuous there only as the square root of that: 1e-16 in a covariance is 1e-8 in P(x_0 > 0 > x_1).  So

* fields that are the same up to rounding in every cluster are merged, as coinciding indices are (`distinct`);
* x_k = -x_l up to rounding are made opposite to the last bit: what is left of one after regression on the other is then
  exactly 0, and averages keep their digits (`consistent`);
* of what is singular otherwise (more fields than weights span) the variances are raised by a few roundings, for the
  averages over three and four fields, whose densities must be those of one law; this costs up to 1e-8.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["JITTER", "TINY", "consistent", "distinct", "regularised", "relative_error"]

Array = NDArray[np.float64]
Index = NDArray[np.int64]

TINY = 1e-280  # stands in for a vanishing variance: fields of size 1e-140 leave every average where it was
JITTER = 2.0**-51  # relative; makes a covariance that is singular up to rounding positive definite
_SAME = 2.0**-48  # relative; fields whose difference has less variance than this are one, or opposite


def _agree(mean: Array, covariance: Array, side: float) -> NDArray[np.bool_]:
    """[a, k, l]: whether x_k = side x_l in cluster a, up to rounding."""
    variance = np.einsum("akk->ak", covariance)
    size = np.maximum(variance[:, :, None], variance[:, None])
    between = variance[:, :, None] + variance[:, None] - 2 * side * covariance
    scale = np.abs(mean)[:, :, None] + np.sqrt(np.maximum(size, 0))
    close: NDArray[np.bool_] = (np.abs(between) <= _SAME * size) & (
        np.abs(mean[:, :, None] - side * mean[:, None]) <= _SAME * scale
    )
    return close


def distinct(mean: Array, covariance: Array) -> tuple[Index, Index]:
    """The fields that differ from those before them, and which of these each field is.

    mean (C, K), covariance (C, K, K): kept (K',) and place (K,), field k being the same as field kept[place[k]].

    >>> kept, place = distinct(np.zeros((1, 3)), np.array([[[1.0, 0.0, 1.0], [0.0, 2.0, 0.0], [1.0, 0.0, 1.0]]]))
    >>> kept.tolist(), place.tolist()
    ([0, 1], [0, 1, 0])
    """
    same = _agree(mean, covariance, 1.0).all(axis=0) | np.eye(mean.shape[1], dtype=bool)
    first = same.argmax(axis=1)
    first = first[first]
    kept, place = np.unique(first, return_inverse=True)
    return kept, place


def regularised(covariance: Array) -> Array:
    """Covariances made positive definite: averages over three and four fields need the densities of one law."""
    regular = np.array(covariance, dtype=np.float64)
    diagonal = np.einsum("akk->ak", regular)
    diagonal[...] = np.maximum(diagonal * (1 + np.maximum(JITTER, -2 * _lowest(covariance)[:, None])), TINY)
    return regular


def _lowest(covariance: Array) -> Array:
    """Lowest eigenvalue of the correlations in each cluster; a field without variance is independent of all."""
    variance = np.einsum("akk->ak", covariance)
    scale = np.sqrt(np.maximum(variance, TINY))
    correlation = covariance / (scale[:, :, None] * scale[:, None, :])
    np.einsum("akk->ak", correlation)[variance <= TINY] = 1
    lowest: Array = np.linalg.eigvalsh(correlation)[:, 0]
    return lowest


def _originals(mean: Array, covariance: Array) -> tuple[Index, Array]:
    """For each field of one cluster, the first one that is the same or opposite, and the sign.

    Of pairs only: what the averages make of three fields that vanish together needs noise to tell them apart.
    """
    own = np.arange(mean.shape[-1])
    same, opposite = (_agree(mean[None], covariance[None], side)[0] for side in (1.0, -1.0))
    either = same | opposite | np.eye(len(own), dtype=bool)
    original = np.minimum(either.argmax(axis=1), own)
    alone = (either.sum(axis=1) > 2) | (either[original].sum(axis=1) > 2)
    original = np.where(alone, own, original)
    return original, np.where((original < own) & ~same[own, original], -1.0, 1.0)


def consistent(mean: Array, covariance: Array) -> tuple[Array, Array, Array]:
    """Means (C, K); covariances (C, K, K) with variances above zero; and the same made positive definite.

    The first covariances are all that averages over one and two fields need.
    """
    means, given = np.array(mean, dtype=np.float64), np.array(covariance, dtype=np.float64)
    diagonal = np.einsum("akk->ak", given)
    diagonal[...] = np.maximum(diagonal, TINY)
    regular = np.empty_like(given)
    for a in range(len(means)):
        original, sign = _originals(means[a], covariance[a])
        first, place = np.unique(original, return_inverse=True)
        signs = np.multiply.outer(sign, sign)
        inner = given[a][np.ix_(first, first)]
        means[a] = sign * means[a][original]
        given[a], regular[a] = (signs * part[np.ix_(place, place)] for part in (inner, regularised(inner[None])[0]))
    return means, given, regular


def relative_error(mean: Array, covariance: Array) -> float:
    """What a few roundings of the covariances change in averages over them, relative to the size of the factors.

    In proportion where a covariance is regular, their square root where it is singular, 4 sqrt(JITTER) = 8e-8 at most;
    repeated and opposite fields are exact.

    >>> relative_error(np.zeros((1, 2)), np.array([[[1.0, -1.0], [-1.0, 1.0]]])) < 1e-14
    True
    """
    kept, _ = distinct(mean, covariance)
    mean, covariance = mean[:, kept], covariance[:, kept[:, None], kept]
    lowest = 1.0
    for a in range(len(mean)):
        first = np.unique(_originals(mean[a], covariance[a])[0])
        lowest = min(lowest, float(_lowest(covariance[a : a + 1, first[:, None], first])[0]))
    return 4.0 * JITTER / float(np.sqrt(max(lowest, JITTER)))
