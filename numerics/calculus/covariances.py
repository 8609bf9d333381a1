"""Covariances of local fields made positive, compiled: rounding has left the singular ones slightly indefinite."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.linalg import eigvalsh
from numpy.typing import NDArray

from quenched.numerics.calculus.double_double import residual

__all__ = ["JITTER", "TINY", "positive", "raised", "regularised"]

Array = NDArray[np.float64]

TINY = 1e-280  # stands in for a vanishing variance: fields of size 1e-140 leave every average where it was
JITTER = 2.0**-51  # relative; makes a covariance that is singular up to rounding positive definite
_NOISE = 2.0**-50  # relative variance that makes two fields parallel up to rounding two fields of one law


@njit(error_model="numpy")
def positive(covariance: Array) -> Array:
    """Covariances (C, K, K) with variances above zero, which is all that averages over one and two fields need."""
    given = covariance.copy()
    for a in range(given.shape[0]):
        for k in range(given.shape[1]):
            given[a, k, k] = max(given[a, k, k], TINY)
    return given


@njit(error_model="numpy")
def regularised(covariance: Array) -> Array:
    """Covariances (C, K, K) made positive definite.

    Averages over three and four fields need it: their densities and conditional probabilities must be those of one law.
    For one and two fields any covariance will do (an error of JITTER costs the square root of it).
    """
    clusters, K, _ = covariance.shape
    regular = covariance.copy()
    correlation = np.empty((K, K))
    for a in range(clusters):
        finite = True
        for k in range(K):
            for l in range(K):
                scale = np.sqrt(max(covariance[a, k, k], TINY)) * np.sqrt(max(covariance[a, l, l], TINY))
                correlation[k, l] = covariance[a, k, l] / scale
                finite = finite and np.isfinite(correlation[k, l])
        lowest = eigvalsh(correlation)[0] if finite else 0.0
        for k in range(K):
            regular[a, k, k] = max(regular[a, k, k] * (1 + max(JITTER, -2 * lowest)), TINY)
    return regular


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
    return float(max(1.0, abs(c01) / np.sqrt(c00 * c11)) * (1.0 + _NOISE))
