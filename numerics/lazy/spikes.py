"""What finitely many features add to the output of kernel regression, by Woodbury's identity.

    (1/weights + S) beta = Y,   o = Y - beta/weights

S is the kernel between the features of all clusters, weights = n P_a r_a how well the samples hold them, Y the labels
on the constants and 0 elsewhere; o are the coefficients of the output (symbolic/learners/kernel_ridge.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import null_space

__all__ = ["ROUNDING", "Outputs", "coefficients", "spiked"]

Array = npt.NDArray[np.float64]

ROUNDING = 1e-12
"""Relative.  A difference of two numbers below this fraction of them is rounding error and counts as 0."""

_EPS = float(np.finfo(np.float64).eps)


class Outputs(NamedTuple):
    """Mean (C,), variance along the features (C,), E2 (C,) of the outputs, their relative error, and o (C, k - 1)."""

    mean: Array
    along: Array
    residual: Array
    error: float
    slopes: Array


def coefficients(S: Array, weights: Array, Y: Array, divergent: Sequence[Array] = ()) -> tuple[Array, float]:
    """o = Y - beta/weights (G, k), (1/weights + S) beta = Y, and its relative error: S (G, k, G, k), weights (G,).

    `divergent`: vectors (G,) on the first feature along which S is infinite.
    """
    G, k = Y.shape
    root = np.repeat(np.sqrt(weights), k)
    if len(divergent):
        blocked = np.zeros((len(divergent), G, k))
        blocked[:, :, 0] = divergent
        # in the variables beta/root, in which 1/weights is the identity
        N = null_space(blocked.reshape(len(divergent), -1) * root, rcond=ROUNDING)
    else:
        N = np.eye(G * k)
    if not N.shape[1]:
        return Y, _EPS
    matrix = np.eye(G * k) + root[:, None] * S.reshape(G * k, G * k) * root
    reduced = N.T @ (matrix + matrix.T) @ N / 2
    values = np.linalg.eigvalsh(reduced)
    if values[0] <= 0:
        raise RuntimeError(f"the features' matrix has the eigenvalue {values[0]:.1e}: raise ridge")
    beta = N @ np.linalg.solve(reduced, N.T @ (root * Y.ravel()))
    return Y - (beta / root).reshape(G, k), 8 * _EPS * float(values[-1] / values[0])


def spiked(S: Array, weights: Array, labels: Array, divergent: Sequence[Array] = ()) -> Outputs:
    """Outputs of C clusters with the features 1, .. of zero mean: n P_a r_a = weights (C,), in the units of S.

    `labels` (C,), or (C, k) where they depend on the features: Y.
    """
    Y = np.zeros(S.shape[:2])
    if labels.ndim == 1:
        Y[:, 0] = labels
    else:
        Y[:] = labels
    o, error = coefficients(S, weights, Y, divergent)
    along = (o[:, 1:] ** 2).sum(axis=1)
    return Outputs(o[:, 0], along, ((Y - o) ** 2).sum(axis=1), error, o[:, 1:])
