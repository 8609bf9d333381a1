"""Sign of a two-layer network along lines in the space of its fields, for piecewise linear activations (compiled).

Field k of line i is alpha_ik + beta_k u with u ~ N(0, 1).  The output sum_k v_k g(alpha_ik + beta_k u) is piecewise
linear in u, so that the probability of either sign is a finite sum of normal distribution functions.
"""

from __future__ import annotations

import numpy as np

from quenched.numerics.calculus.compile import njit
from quenched.numerics.calculus.orthant import Phi

__all__ = ["sign_probabilities"]

_REACH = 9.0  # |u| > 9 has probability 2e-19


@njit(error_model="numpy", inline="always")
def _sign(x):  # type: ignore[no-untyped-def]
    return (x > 0.0) - (x < 0.0)


@njit(error_model="numpy", nogil=True)
def sign_probabilities(alpha, beta, v, kinks, slopes, intercepts, out):  # type: ignore[no-untyped-def]
    """Write P(output < 0) and P(output = 0) of every line into out (n, 2), from alpha (n, K), beta (K,), v (K,).

    g has the sorted `kinks` (p,) and on its p + 1 pieces is slope x + intercept.
    """
    lines, K = alpha.shape
    p = kinks.size
    crossing, label = np.empty(K * p), np.empty(K * p, np.int64)  # label: k p + j, neuron k meets kink j
    for i in range(lines):
        crossings, at_zero, slope, alive = 0, 0.0, 0.0, 0  # alive: neurons on a piece that is not identically 0
        for k in range(K):
            a, b = alpha[i, k], beta[k]
            start = a - _REACH * b
            piece = 0
            while piece < p and kinks[piece] < start:
                piece += 1
            at_zero += v[k] * (slopes[piece] * a + intercepts[piece])
            slope += v[k] * slopes[piece] * b
            alive += slopes[piece] != 0.0 or intercepts[piece] != 0.0
            # The kinks ahead on the line, in order; insertion sort, as there are few.
            while piece < p if b > 0.0 else piece > 0 and b < 0.0:
                j = piece if b > 0.0 else piece - 1
                piece += 1 if b > 0.0 else -1
                u = (kinks[j] - a) / b
                if u >= _REACH:
                    break
                place = crossings
                while place > 0 and crossing[place - 1] > u:
                    crossing[place], label[place] = crossing[place - 1], label[place - 1]
                    place -= 1
                crossing[place], label[place] = u, k * p + j
                crossings += 1
        negative, zero, sign, left = 0.0, 0.0, 2, -_REACH
        for c in range(crossings + 1):
            right = crossing[c] if c < crossings else _REACH
            first, last = _sign(at_zero + slope * left), _sign(at_zero + slope * right)
            if at_zero != 0.0 or slope != 0.0:  # a zero at one end of the segment is not a tie
                first, last = first if first != 0 else last, last if last != 0 else first
            for end in range(2):
                new = first if end == 0 else last
                if new != sign:
                    below = Phi(left if end == 0 else -at_zero / slope)
                    negative += below * ((sign == -1) - (new == -1))
                    zero += below * ((sign == 0) - (new == 0))
                    sign = new
            if c < crossings:
                k, j = divmod(label[c], p)
                old, new = (j, j + 1) if beta[k] > 0.0 else (j + 1, j)
                at_zero += v[k] * ((slopes[new] - slopes[old]) * alpha[i, k] + intercepts[new] - intercepts[old])
                slope += v[k] * (slopes[new] - slopes[old]) * beta[k]
                alive += slopes[new] != 0.0 or intercepts[new] != 0.0
                alive -= slopes[old] != 0.0 or intercepts[old] != 0.0
                if alive == 0:  # all neurons off: exactly 0, not the rounding left over
                    at_zero, slope = 0.0, 0.0
                left = right
        negative += sign == -1
        zero += sign == 0
        out[i, 0], out[i, 1] = max(0.0, negative), max(0.0, zero)
