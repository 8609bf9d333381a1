"""Sign of a two-layer network along lines in the space of its fields, for smooth activations (compiled, certified).

Field k of line i is alpha_ik + beta_k u with u ~ N(0, 1), and phi(u) = sum_k v_k g(alpha_ik + beta_k u).  The line is
cut into cells.  A cell is settled where interval arithmetic (`quenched.numerics.compiled.intervals`)

- excludes 0 from the values of phi, by their enclosure or by the mean value form phi(middle) + [slopes] (u - middle);
- excludes both signs from the values: phi is 0 all over it, a tie;
- excludes one sign from the slopes: phi is monotonic, with one change of sign at most, which is bracketed;

and halved otherwise, until it holds less than `smallest` probability or nothing but rounding.  What stays unsettled is
counted: it is a bound on the error.  Multiple zeros and close pairs need no care: the cells around them shrink until
they do not matter.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from quenched.numerics.averages.activations import averages, compiled_activation
from quenched.numerics.compiled.cache import module
from quenched.numerics.compiled.intervals import OPERATIONS, enclosure_text
from quenched.numerics.compiled.machine_code import inner, njit
from quenched.numerics.probability.orthant import Phi

__all__ = ["compiled_enclosure", "sign_probabilities"]

_REACH = 38.5  # P(|u| > 38.5) < 1e-323
_DEPTH = 200  # halvings: 38.5/2^200 is below the spacing of float64 numbers around any u > 1e-43
_CONVERGED = 1e-8  # step at which Newton's method ends where zeros are not bracketed; the next would be its square
_ROUNDING = 1e-13  # of phi, relative to sum_k |v_k g_k|, where it is not enclosed

_TEXT = '''"""Enclosures of an activation, written by quenched.numerics.signs.smooth_signs."""

from quenched.numerics.compiled.machine_code import callback
from quenched.numerics.compiled.intervals import (
    {operations},
)


@callback("UniTuple(float64, 4)(float64, float64)", error_model="numpy")
{definition}
'''


@lru_cache(maxsize=64)
def compiled_enclosure(activation: str) -> tuple[Any, Any, Any]:
    """g, g' and the jet of g over (low, high) as numba `cfunc`s; `intervals.NoEnclosure` if g has none."""
    definition = enclosure_text(averages(activation).g, "enclosure")
    text = _TEXT.format(operations=",\n    ".join(OPERATIONS), definition=definition)
    return *compiled_activation(activation), module(text, "enclosure").enclosure


@njit(error_model="numpy", inline="always")
def _mass(a, b):  # type: ignore[no-untyped-def]
    """P(a < u < b), to a relative accuracy in both tails, around 0, and on short intervals."""
    if b - a < 1e-6:
        middle = 0.5 * (a + b)
        return (b - a) * math.exp(-0.5 * middle * middle) / math.sqrt(2.0 * math.pi)
    if a < 0.0 < b and b - a < 2.0:
        return 0.5 * (math.erf(b * math.sqrt(0.5)) - math.erf(a * math.sqrt(0.5)))
    return Phi(-a) - Phi(-b) if a > 0.0 else Phi(b) - Phi(a)


@inner(error_model="numpy")
def _enclose(line, a, b, enclosure):  # type: ignore[no-untyped-def]
    """Enclosures of phi and of its slopes for a <= u <= b."""
    alpha, beta, v = line[0], line[1], line[2]
    low, high, slope_low, slope_high = 0.0, 0.0, 0.0, 0.0
    for k in range(v.size):
        first, last = (alpha[k] + beta[k] * a, alpha[k] + beta[k] * b)
        slack = 2.0**-52 * (abs(alpha[k]) + abs(beta[k]) * max(abs(a), abs(b)))
        g = enclosure(min(first, last) - slack, max(first, last) + slack)
        c = v[k]
        d = c * beta[k]
        low += c * (g[0] if c > 0.0 else g[1])
        high += c * (g[1] if c > 0.0 else g[0])
        if d > 0.0:
            slope_low += d * g[2]
            slope_high += d * g[3]
        elif d < 0.0:
            slope_low += d * g[3]
            slope_high += d * g[2]
    # sums of K terms: their rounding is below K eps of the largest partial sum, bounded by the terms of either sign
    slack = 2.0**-52 * v.size
    low, high = low - slack * abs(low), high + slack * abs(high)
    if math.isnan(low) or math.isnan(high):
        low, high = -math.inf, math.inf
    if math.isnan(slope_low) or math.isnan(slope_high):
        slope_low, slope_high = -math.inf, math.inf
    return low, high, slope_low - slack * abs(slope_low), slope_high + slack * abs(slope_high)


@njit(error_model="numpy")
def _output(line, u, g, dg):  # type: ignore[no-untyped-def]
    """phi(u), its slope, and a bound on the rounding of phi that sums make."""
    alpha, beta, v = line[0], line[1], line[2]
    value, slope, size = 0.0, 0.0, 0.0
    for k in range(v.size):
        x = alpha[k] + beta[k] * u
        part = v[k] * g(x)
        value += part
        size += abs(part)
        slope += v[k] * beta[k] * dg(x)
    return value, slope, _ROUNDING * size


@inner(error_model="numpy")
def _signed(line, u, g, dg, enclosure, certain):  # type: ignore[no-untyped-def]
    """The sign of phi(u), 0 if it is not known."""
    if certain:
        low, high, _, _ = _enclose(line, u, u, enclosure)
        return 1 if low > 0.0 else -1 if high < 0.0 else 0
    value, _, rounding = _output(line, u, g, dg)
    return 1 if value > rounding else -1 if value < -rounding else 0


@njit(error_model="numpy")
def _flat(line, u, g, dg):  # type: ignore[no-untyped-def]
    """Whether phi is 0 and stays so, as that of squared relu neurons that are off: a tie."""
    value, slope, _ = _output(line, u, g, dg)
    return value == 0.0 and slope == 0.0


@inner(error_model="numpy")
def _crossing(line, a, b, rising, smallest, g, dg, enclosure, certain):  # type: ignore[no-untyped-def]
    """(left, right) around the change of sign of a monotonic phi on (a, b): phi has its signs outside of it.

    left = right at the end where there is none, (a, b) where phi is flat at a zero.  Newton's method, or halving where
    it leaves the bracket.
    """
    if not certain and (_flat(line, a, g, dg) or _flat(line, b, g, dg)):
        return a, b
    low, high, before = a, b, -1 if rising else 1
    u = min(max(0.0, a), b)
    if u in (a, b):
        u = 0.5 * (a + b)
    accuracy, tested = 1e-15 if certain else _CONVERGED, False
    for _ in range(200):
        value, slope, _ = _output(line, u, g, dg)
        if value == 0.0 and slope == 0.0:
            return a, b
        side = -1 if value < 0.0 else 1
        if side == before:
            low = u
        else:
            high = u
        step = -value / slope if slope != 0.0 else math.inf
        following = u + step
        if abs(step) <= accuracy * max(1.0, abs(u)):
            u = min(max(following, low), high)
            break
        if not low < following < high:
            if not tested:  # it may be that there is no change of sign at all
                tested = True
                end = b if following >= high else a
                if _signed(line, end, g, dg, enclosure, certain) == (before if end == b else -before):
                    return end, end
            following = 0.5 * (low + high)
        u = following
        if high - low <= 1e-15 * abs(u):
            break
    if not certain:
        beside = 8.0 * accuracy * max(1.0, abs(u))  # Newton's method ends short of where a power of u - u0 sets in
        return (a, b) if _flat(line, u - beside, g, dg) or _flat(line, u + beside, g, dg) else (u, u)
    width = 2.0**-51 * abs(u) + 1e-300
    left, right, left_known, right_known = u, u, False, False
    for _ in range(400):
        left, right = left if left_known else max(a, u - width), right if right_known else min(b, u + width)
        left_known = left_known or left == a or _signed(line, left, g, dg, enclosure, True) == before
        right_known = right_known or right == b or _signed(line, right, g, dg, enclosure, True) == -before
        if (left_known and right_known) or _mass(left, right) > 8.0 * smallest:
            break
        width *= 4.0
    return left, right


@inner(error_model="numpy")
def _verdict(line, a, b, g, dg, enclosure, certain):  # type: ignore[no-untyped-def]
    """(1, sign) of a cell of one sign, 0 for a tie; (2, direction) where phi is monotonic; (0, 0) if neither is seen.

    (3, 0): never, as all of the cell is below the rounding of phi.
    """
    low, high, slope_low, slope_high = _enclose(line, a, b, enclosure)
    if low > 0.0 or high < 0.0 or low == 0.0 == high:
        return 1, int(low > 0.0) - int(high < 0.0)
    if slope_low >= 0.0 or slope_high <= 0.0:
        return 2, 1 if slope_low >= 0.0 else -1
    middle, half = 0.5 * (a + b), 0.5 * (b - a)
    drop = half * max(-slope_low, slope_high)
    if certain:
        low, high, _, _ = _enclose(line, middle, middle, enclosure)
    else:
        value, _, rounding = _output(line, middle, g, dg)
        low, high = value - rounding, value + rounding
    if low > drop or high < -drop:
        return 1, 1 if low > drop else -1
    return 0 if drop > high - low else 3, 0


@njit(error_model="numpy", nogil=True)
def sign_probabilities(alpha, beta, v, g, dg, enclosure, reach, smallest, certain, most):  # type: ignore[no-untyped-def]
    """P(phi < 0), P(phi = 0), what is unsettled of them, and the pattern of signs (C, n, 4).

    alpha (C, n, K), beta (C, K), v (C, K); `g`, `dg`, `enclosure`: `compiled_enclosure`.  Cells are those of
    |u| < `reach`; after `most` of them what is open stays unsettled.  If not `certain`, single values of phi count at
    their rounded values, and a zero is where Newton's method ends.  The pattern is three times the changes of sign,
    plus the first sign.
    """
    ends, line, out = np.empty(_DEPTH + 4), np.empty((3, v.shape[1])), np.empty((alpha.shape[0], alpha.shape[1], 4))
    for i in range(alpha.shape[0] * alpha.shape[1]):
        c, row = divmod(i, alpha.shape[1])
        line[0], line[1], line[2] = alpha[c, row], beta[c], v[c]
        negative, zero, open_, changes, last, begin = 0.0, 0.0, 2.0 * Phi(-reach), 0, 2, 0
        a, top, cells = -reach, 0, 0
        ends[0] = reach
        while top >= 0:
            b = ends[top]
            cells += 1
            kind, sign = _verdict(line, a, b, g, dg, enclosure, certain)
            if kind == 0 and cells < most and top < _DEPTH and _mass(a, b) > smallest:
                middle = 0.0 if a < 0.0 < b and a + b == 0.0 else 0.5 * (a + b)
                if a < middle < b:
                    top += 1
                    ends[top] = middle
                    continue
            if kind == 2:
                left, right = _crossing(line, a, b, sign > 0, smallest, g, dg, enclosure, certain)
                middle = 0.5 * (a + b)
                if right > left and _mass(left, right) > smallest and cells < most and top < _DEPTH and a < middle < b:
                    # a flat zero, or one too close to rounding: its surroundings are cells of their own
                    if a < left and right < b and left - a + b - right > 0.5 * (b - a):
                        top += 2
                        ends[top], ends[top - 1] = left, right
                    else:
                        top += 1
                        ends[top] = middle
                    continue
                negative += _mass(a, left) if sign > 0 else _mass(right, b)
                if right > left:
                    half = 0.5 * _mass(left, right)
                    negative += half
                    open_ += half
                first, second = (
                    (-sign, sign) if left > a and right < b else (sign, sign) if left == a else (-sign, -sign)
                )
                begin = first if last == 2 else begin
                changes += (first != last and last != 2) + (first != second)
                last = second
            elif kind == 1:
                mass = _mass(a, b)
                negative += mass if sign < 0 else 0.0
                zero += mass if sign == 0 else 0.0
                begin = sign if last == 2 else begin
                changes += sign != last and last != 2
                last = sign
            else:
                half = 0.5 * _mass(a, b)
                negative += half
                open_ += half
            a = b
            top -= 1
        out[c, row, 0], out[c, row, 1], out[c, row, 3] = negative, zero, 3 * changes + begin
        # the masses in it are rounded, too; a sum of n positive terms is known to n eps
        out[c, row, 2] = (1.0 + 1e-6) * open_ + 2.0**-52 * cells * negative
    return out
