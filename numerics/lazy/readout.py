"""Errors of a linear readout whose output is Gaussian given the cluster: random features and kernels.

With the mean m_a and the variance q_a of the output on a fresh input of cluster a,

    pmse = sum_a P_a [(y_a - m_a)^2 + q_a]/2,   classification error = sum_a P_a Phi(-y_a m_a/sqrt(q_a)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from quenched.numerics.problem.learner import LearnerError
from quenched.numerics.problem.mixture import Mixture

__all__ = ["ReadoutErrors"]

Array = npt.NDArray[np.float64]

_ROUNDING = 8 * float(np.finfo(np.float64).eps)  # of a sum over clusters of probabilities and squares


@dataclass(frozen=True, repr=False)
class ReadoutErrors(LearnerError):
    """Errors of a linear readout whose output is Gaussian given the cluster.

    `mean`, `variance` (C,): m_a and q_a; `pmse`, `classification_error` and the numerical errors of both, `pmse_error`
    and `classification_error_error`: estimates, from the error of the outputs and from the last refinement of grids;
    `rate`: where the limit is 0 as D -> infinity, lim of 1/(2 D pmse), so that pmse -> 1/(2 (1 + D rate)), and 0 where
    the pmse stays finite; None elsewhere.  `method`: the formula; `problem`: what was asked.
    """

    pmse: float
    pmse_error: float
    classification_error: float
    classification_error_error: float
    mean: Array
    variance: Array
    method: str
    rate: float | None = None
    problem: dict[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def gaussian(
        cls, mixture: Mixture, mean: Array, variance: Array, error: float, method: str, rate: float | None = None
    ) -> ReadoutErrors:
        """The errors of outputs N(mean_a, variance_a) on the labels of a mixture.

        `error`: of the means and standard deviations, in units of the labels.  A mean below it counts as 0, where the
        sign of the output is a coin's.
        """
        margin, spread = mixture.labels * mean, np.sqrt(variance)
        margin = np.where(np.abs(margin) <= error, 0, margin)
        z = np.divide(margin, spread, out=np.zeros_like(margin), where=spread > 0)
        wrong = np.where(spread > 0, ndtr(-z), np.heaviside(-margin, 0.5))
        # d Phi(-m/s) = density (dm/s + |z| ds/s), and s^2 (m^2) changes by 2 s ds
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        shift = error * (1 / np.where(spread > 0, spread, np.inf) + np.abs(z))
        gap = mixture.labels - mean
        return cls(
            pmse=float(mixture.weights @ (gap**2 + variance) / 2),
            pmse_error=error * float(mixture.weights @ (np.abs(gap) + spread)) + _ROUNDING,
            classification_error=float(mixture.weights @ wrong),
            classification_error_error=float(mixture.weights @ (density * shift)) + _ROUNDING,
            mean=mean,
            variance=variance,
            method=method,
            rate=rate,
        )
