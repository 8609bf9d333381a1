"""Sign of a two-layer network along a line in the space of its fields, for piecewise linear activations (compiled).

Field k of line i is alpha_ik + beta_k u with u ~ N(0, 1); the output sum_k v_k g(alpha_ik + beta_k u) is piecewise linear
in u, so that the probability of either sign is a finite sum of normal distribution functions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from quenched.numerics.kernels import Phi

__all__ = ["sign_probabilities"]

_REACH = 9.0  # |u| > 9 has probability 2e-19


@njit(cache=True, error_model="numpy")
def _sign(x):  # type: ignore[no-untyped-def]
    return (x > 0.0) - (x < 0.0)


@njit(cache=True, error_model="numpy")
def sign_probabilities(alpha, beta, v, kinks, slopes, intercepts, out):  # type: ignore[no-untyped-def]
    """Write P(output < 0) and P(output = 0) of every line into out (n, 2), from alpha (n, K), beta (K,), v (K,).

    g has the sorted `kinks` (p,) and on its p + 1 pieces is slope x + intercept.
    """
    lines, K = alpha.shape
    crossing, label = np.empty(K * kinks.size), np.empty(K * kinks.size, np.int64)  # label: k kinks.size + j
    piece = np.empty(K, np.int64)
    for i in range(lines):
        crossings = 0
        for k in range(K):
            piece[k] = np.searchsorted(kinks, alpha[i, k] - _REACH * beta[k])
            if beta[k] != 0.0:
                for j in range(kinks.size):
                    u = (kinks[j] - alpha[i, k]) / beta[k]
                    if -_REACH < u < _REACH:  # insertion sort: there are few
                        place = crossings
                        while place > 0 and crossing[place - 1] > u:
                            crossing[place], label[place] = crossing[place - 1], label[place - 1]
                            place -= 1
                        crossing[place], label[place] = u, k * kinks.size + j
                        crossings += 1
        negative, zero, sign = 0.0, 0.0, 2
        left = -_REACH
        for c in range(crossings + 1):
            right = crossing[c] if c < crossings else _REACH
            # Summed anew on each segment: an output that is exactly 0 (all neurons off) must come out as 0.
            at_zero, slope = 0.0, 0.0
            for k in range(K):
                at_zero += v[k] * (slopes[piece[k]] * alpha[i, k] + intercepts[piece[k]])
                slope += v[k] * slopes[piece[k]] * beta[k]
            first, last = _sign(at_zero + slope * left), _sign(at_zero + slope * right)
            if at_zero != 0.0 or slope != 0.0:  # a zero at one end of the segment is not a tie
                first, last = first if first != 0 else last, last if last != 0 else first
            for side in range(2):
                new = first if side == 0 else last
                if new != sign:
                    p = Phi(left if side == 0 else -at_zero / slope)
                    if sign == -1:
                        negative += p
                    elif sign == 0:
                        zero += p
                    if new == -1:
                        negative -= p
                    elif new == 0:
                        zero -= p
                    sign = new
            if c < crossings:
                k, j = divmod(label[c], kinks.size)
                piece[k] = j + 1 if beta[k] > 0.0 else j
                left = right
        if sign == -1:
            negative += 1.0
        elif sign == 0:
            zero += 1.0
        out[i, 0], out[i, 1] = max(0.0, negative), max(0.0, zero)
