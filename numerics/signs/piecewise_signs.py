"""Sign of a two-layer network along lines in the space of its fields, for piecewise linear activations (compiled).

Field k of line i is alpha_ik + beta_k u with u ~ N(0, 1).  The output sum_k v_k g(alpha_ik + beta_k u) is piecewise
linear in u, so that the probability of either sign is a finite sum of normal distribution functions.
"""

from __future__ import annotations

import numpy as np

from quenched.numerics.compiled.machine_code import inner, njit
from quenched.numerics.probability.orthant import Phi

__all__ = ["sign_probabilities"]

_REACH = 38.5  # P(|u| > 38.5) < 1e-323
_ROUNDING = 4e-16  # of the output, relative to the sizes of its terms


@njit(error_model="numpy", inline="always")
def _sign(x):  # type: ignore[no-untyped-def]
    return int(x > 0.0) - int(x < 0.0)


@njit(error_model="numpy", inline="always")
def _mass(a, b):  # type: ignore[no-untyped-def]
    """P(a < u < b), to a relative accuracy in both tails."""
    return Phi(-a) - Phi(-b) if a > 0.0 else Phi(b) - Phi(a)


@inner(error_model="numpy")
def _crossings(alpha, beta, kinks, crossing, label):  # type: ignore[no-untyped-def]
    """The u at which neurons meet kinks, in order, and k p + j for neuron k at kink j; how many there are."""
    count, p = 0, kinks.size
    for k in range(beta.size):
        a, b = alpha[k], beta[k]
        for j in range(p):
            u = (kinks[j] - a) / b if b != 0.0 else _REACH
            if not -_REACH < u < _REACH:
                continue
            place = count  # insertion sort, as there are few
            while place > 0 and crossing[place - 1] > u:
                crossing[place], label[place] = crossing[place - 1], label[place - 1]
                place -= 1
            crossing[place], label[place] = u, k * p + j
            count += 1
    return count


@njit(error_model="numpy")
def _start(alpha, beta, v, kinks, slopes, intercepts):  # type: ignore[no-untyped-def]
    """Output at u = 0 and slope continued from the piece at -_REACH, neurons that are not identically 0 there, size."""
    at_zero, slope, alive, size = 0.0, 0.0, 0, 0.0
    for k in range(beta.size):
        a, b = alpha[k], beta[k]
        start = a - _REACH * b
        piece = 0
        while piece < kinks.size and kinks[piece] < start:
            piece += 1
        at_zero += v[k] * (slopes[piece] * a + intercepts[piece])
        slope += v[k] * slopes[piece] * b
        alive += slopes[piece] != 0.0 or intercepts[piece] != 0.0
        size += abs(v[k]) * (abs(a) + abs(b))
    return at_zero, slope, alive, size


@njit(error_model="numpy", nogil=True)
def sign_probabilities(alpha, beta, v, kinks, slopes, intercepts, out):  # type: ignore[no-untyped-def]
    """Write P(output < 0), P(output = 0), what rounding may change of them, and the pattern of signs into out.

    alpha (C, n, K), beta (C, K), v (C, K), out (C, n, 4); g has the sorted `kinks` (p,) and on its p + 1 pieces is
    slope x + intercept.  The pattern is three times the changes of sign, plus the first sign.
    """
    p, n, K = kinks.size, alpha.shape[1], v.shape[1]
    crossing, label = np.empty(K * p), np.empty(K * p, np.int64)
    steepest = np.abs(slopes).max()
    for i in range(alpha.shape[0] * n):
        a, row = divmod(i, n)
        crossings = _crossings(alpha[a, row], beta[a], kinks, crossing, label)
        at_zero, slope, alive, size = _start(alpha[a, row], beta[a], v[a], kinks, slopes, intercepts)
        negative, zero, open_, changes, sign, begin, left, since = 0.0, 0.0, 0.0, 0, 2, 0, -_REACH, -_REACH
        for c in range(crossings + 1):
            right = crossing[c] if c < crossings else _REACH
            start, end = at_zero + slope * left, at_zero + slope * right
            first, second = _sign(start), _sign(end)
            if at_zero != 0.0 or slope != 0.0:  # a zero at one end of the segment is not a tie
                first, second = first if first != 0 else second, second if second != 0 else first
            for half in range(2):
                new = first if half == 0 else second
                if new == sign:
                    continue
                at = left if half == 0 else min(max(-at_zero / slope, left), right)
                negative += _mass(since, at) if sign == -1 else 0.0
                zero += _mass(since, at) if sign == 0 else 0.0
                begin, changes = (new, 0) if sign == 2 else (begin, changes + 1)
                sign, since = new, at
            if alive > 0 and max(abs(start), abs(end)) <= _ROUNDING * steepest * size:
                open_ += _mass(left, right)
            if c < crossings:
                k, j = divmod(label[c], p)
                old, new = (j, j + 1) if beta[a, k] > 0.0 else (j + 1, j)
                at_zero += v[a, k] * (
                    (slopes[new] - slopes[old]) * alpha[a, row, k] + intercepts[new] - intercepts[old]
                )
                slope += v[a, k] * (slopes[new] - slopes[old]) * beta[a, k]
                alive += slopes[new] != 0.0 or intercepts[new] != 0.0
                alive -= slopes[old] != 0.0 or intercepts[old] != 0.0
                if alive == 0:  # all neurons off: exactly 0, not the rounding left over
                    at_zero, slope = 0.0, 0.0
                left = right
        negative += _mass(since, _REACH) if sign == -1 else 0.0
        zero += _mass(since, _REACH) if sign == 0 else 0.0
        out[a, row, 0], out[a, row, 1], out[a, row, 2], out[a, row, 3] = negative, zero, open_, 3 * changes + begin
