"""Regression in doubled precision, compiled: numbers as unevaluated sums (value, rounding error), about 32 digits.

The variance that a field keeps after regression on others may be as small as the rounding errors of the covariances it
is computed from; in doubled precision it is right to several digits whenever it exceeds them.  Error-free sums and
products: T. J. Dekker, Numer. Math. 18 (1971) 224.
"""

from __future__ import annotations

from quenched.numerics.compiled.machine_code import njit

__all__ = ["minus", "over", "plus", "remainder", "residual", "times"]

_SPLIT = 134217729.0  # 2^27 + 1 cuts a double into two halves of 26 bits
_FLOOR = 2.0**-90  # relative; a variance below it is rounding noise even here

Pair = tuple[float, float]


@njit(error_model="numpy", inline="always")
def _sum(a, b):  # type: ignore[no-untyped-def]
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


@njit(error_model="numpy", inline="always")
def _product(a, b):  # type: ignore[no-untyped-def]
    total = a * b
    t = _SPLIT * a
    a_high = t - (t - a)
    t = _SPLIT * b
    b_high = t - (t - b)
    a_low, b_low = a - a_high, b - b_high
    return total, ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(error_model="numpy")
def plus(a: Pair, b: Pair) -> Pair:
    """a + b."""
    total, error = _sum(a[0], b[0])
    return _sum(total, error + (a[1] + b[1]))


@njit(error_model="numpy")
def minus(a: Pair, b: Pair) -> Pair:
    """a - b."""
    return plus(a, (-b[0], -b[1]))


@njit(error_model="numpy")
def times(a: Pair, b: Pair) -> Pair:
    """a b."""
    total, error = _product(a[0], b[0])
    return _sum(total, error + (a[0] * b[1] + a[1] * b[0]))


@njit(error_model="numpy")
def over(a: Pair, b: Pair) -> Pair:
    """a/b."""
    return residual((0.0, 0.0), a, (-1.0, 0.0), b)


@njit(error_model="numpy")
def residual(a: Pair, b: Pair, c: Pair, d: Pair) -> Pair:
    """a - b c/d."""
    # p = b c
    p, p_error = _product(b[0], c[0])
    p_error += b[0] * c[1] + b[1] * c[0]
    # q = p / d: quotient, then the quotient of what it leaves
    q = p / d[0]
    t, t_error = _product(q, d[0])
    q_error = (((p - t) - t_error) + p_error - q * d[1]) / d[0]
    # a - q
    r, r_error = _sum(a[0], -q)
    r_error += a[1] - q_error
    return _sum(r, r_error)


@njit(error_model="numpy")
def remainder(a: Pair, b: Pair, d: Pair) -> Pair:
    """a - b^2/d, at least a 2^-90."""
    left = residual(a, b, b, d)
    floor = _FLOOR * a[0]
    return left if left[0] > floor else (floor, 0.0)
