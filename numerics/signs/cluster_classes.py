"""Clusters in which the sign of the output has the same law, or the mirrored one: each law is integrated once.

The fields of an odd network at mean -M have the law of the negated fields at M, and so has the output; that of an even
network has one law at both.  Clusters of the same law and opposite labels share what is wrong: with w the probability
of the wrong sign at the label of the heavier side, half of a tie counted,

    P+ w + P- (1 - w) = min(P+, P-) + |P+ - P-| w     for P+ >= P-, alike for P- > P+,

so that what two labels have in common is certain.  XOR is the case where all of it is: an odd network has error 1/2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.two_layer.symmetry import parity

__all__ = ["Classes"]

Array = NDArray[np.float64]

_SAME = 1e-15  # relative difference up to which laws are one


@dataclass(frozen=True)
class Classes:
    """Classes c of clusters: the error is `certain` + sum_c surplus_c P_c(wrong), ties are sum_c weights_c P_c(tie).

    `clusters` (C',) represent them, with the label (C',) of the heavier side; surplus = |P+ - P-|, weights = P+ + P-.
    """

    clusters: NDArray[np.intp]
    labels: Array
    weights: Array
    surplus: Array
    certain: float

    @classmethod
    def of(cls, mixture: Mixture, activation: str, mean: Array, covariance: Array) -> Classes:
        """The classes of fields lambda | a ~ N(mean[a], covariance[a]), mean (C, n), covariance (C, n, n).

        >>> mean, one = np.array([[1.0], [-1.0], [0.0], [0.0]]), np.ones((4, 1, 1))
        >>> found = Classes.of(Mixture.xor(1.0), "erf", mean, one)
        >>> found.clusters.tolist(), found.surplus.tolist(), found.certain
        ([0, 2], [0.0, 0.0], 0.5)
        """
        flip = parity(activation)
        near = _SAME * np.abs(mean).max(initial=0.0)
        spread = _SAME * np.abs(covariance).max(initial=0.0)
        chosen: list[int] = []
        balance: list[float] = []  # P+ - P- of each class
        total: list[float] = []
        for a, (y, P) in enumerate(zip(mixture.labels, mixture.weights, strict=True)):
            own = flip < 0 and np.abs(mean[a]).max(initial=0.0) <= near  # its own mirror image: both signs as often
            share = 0.0 if own else float(y * P)
            for c, b in enumerate(chosen):
                if np.abs(covariance[a] - covariance[b]).max(initial=0.0) > spread:
                    continue
                same = np.abs(mean[a] - mean[b]).max(initial=0.0) <= near
                if same or (flip and np.abs(mean[a] + mean[b]).max(initial=0.0) <= near):
                    balance[c] += share * (1 if same else flip)
                    total[c] += float(P)
                    break
            else:
                chosen.append(a)
                balance.append(share)
                total.append(float(P))
        signed, weights = np.array(balance), np.array(total)
        surplus = np.abs(signed)
        certain = float((weights - surplus).sum() / 2)
        return cls(np.array(chosen, dtype=np.intp), np.where(signed < 0, -1.0, 1.0), weights, surplus, certain)
