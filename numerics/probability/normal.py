"""Multivariate normal probabilities at two precisions: float64 arrays, or mpmath numbers of any precision.

    Phi_n(h_1..h_n; r_12, r_13, ..) = P(z_1 < h_1, .., z_n < h_n),   z ~ N(0, R), R_ii = 1, R_ij = r_ij

Without `ctx`, arguments are float64 arrays that broadcast; the work is done by `quenched.numerics.probability.orthant`,
where the absolute accuracy is stated.  With `ctx`, an mpmath context (`mpmath.mp.clone()`, never the global one), they
are numbers and the result is good to the digits of that context.  Limits may be infinite, correlation matrices
singular. NaN gives NaN.

Plackett (1954): d Phi_n/d r_ij = phi2(h_i, h_j; r_ij) Phi_{n-2}(the others, given z_i = h_i and z_j = h_j).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from quenched.numerics.probability.quadrature import tanh_sinh
from quenched.theory import normal

__all__ = ["Phi", "normal_probability"]


def Phi(h: Any, *, ctx: Any = None) -> Any:
    """P(z < h).

    >>> float(Phi(0.0))
    0.5
    """
    return normal.Phi(h) if ctx is None else ctx.ncdf(h)


def normal_probability(limits: Sequence[Any], correlations: Sequence[Any], *, ctx: Any = None) -> Any:
    """Phi_n, n = 2, 3, 4: P(z_1 < h_1, .., z_n < h_n), limits h_1 .. h_n and correlations r_12, r_13, .., r_23, ..

    float64: within 1e-15 for n = 2, 1e-12 for n = 3 and 1e-11 for n = 4; where the correlation matrix is nearly
    singular within 1e-9 for n = 3 and 1e-8 for n = 4.

    At zero limits Phi_2 is 1/4 + arcsin(r)/(2 pi); equally correlated fields, r = 1/2, have 1/(n + 1), the chance that
    the first of n + 1 is the largest:

    >>> [round(float(normal_probability([0.0] * n, [0.5] * (n * (n - 1) // 2))), 14) for n in (2, 3, 4)]
    [0.33333333333333, 0.25, 0.2]
    """
    if ctx is None:
        return _compiled(f"Phi{len(limits)}", limits, correlations)
    return _precise(ctx, limits, correlations)


def _compiled(name: str, limits: Sequence[Any], correlations: Sequence[Any]) -> Any:
    """The scalar kernel at each entry of the arguments, which broadcast; numba is imported on first use."""
    from quenched.numerics.probability import orthant

    rows = np.stack(np.broadcast_arrays(*(np.asarray(x, dtype=np.float64) for x in (*limits, *correlations))), axis=-1)
    flat = rows.reshape(-1, rows.shape[-1])
    out = np.empty(len(flat))
    getattr(orthant, f"fill_{name}")(flat[:, : len(limits)], flat[:, len(limits) :], out)
    return out.reshape(rows.shape[:-1])[()]


# ------------------------------------------------------------------------------------------------------- mpmath


def _precise(ctx: Any, h: Sequence[Any], r: Sequence[Any]) -> Any:
    """Phi_n: the limits h, and the correlations r in the order 12, 13, .., 23, ..

    Algebra has twice the bits that are asked for, since in a nearly singular matrix small variances are left over from
    cancellations; integrals stop at `bits`, those asked for and a few to guard them.
    """
    n = len(h)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    if any(ctx.isnan(x) for x in (*h, *r)):
        return ctx.nan
    if too_large := [x for x in r if abs(x) > 1 + 16 * ctx.eps]:
        raise ValueError(f"a correlation must lie in [-1, 1], got {too_large[0]}")
    bits = ctx.prec + 10
    with ctx.workprec(2 * bits):
        R = ctx.eye(n)
        for (i, j), value in zip(pairs, r, strict=True):
            R[i, j] = R[j, i] = max(-ctx.one, min(ctx.one, ctx.mpf(value)))
        value = _probability(ctx, [ctx.mpf(x) for x in h], R, bits)
    return +value


def _probability(ctx: Any, h: list[Any], R: Any, bits: int) -> Any:
    """Phi_n(h; R) to `bits` bits: trivial and degenerate fields first, then the formula for the others."""
    n = len(h)
    if any(x == -ctx.inf for x in h):
        return ctx.zero
    if (keep := [i for i in range(n) if h[i] != ctx.inf]) != list(range(n)):
        return _probability(ctx, [h[i] for i in keep], _minor(ctx, R, keep), bits)
    if n < 2:
        return ctx.ncdf(h[0]) if n else ctx.one
    for j in range(n):
        for i in range(j):
            others = [k for k in range(n) if k != j]
            if R[i, j] == 1:  # the same field twice: the lower limit counts
                lowest = [min(h[i], h[j]) if k == i else h[k] for k in others]
                return _probability(ctx, lowest, _minor(ctx, R, others), bits)
            if R[i, j] == -1:  # -h_j < z_i < h_i
                if h[i] <= -h[j]:
                    return ctx.zero
                below = [-h[j] if k == i else h[k] for k in others]
                minor = _minor(ctx, R, others)
                above = [h[k] for k in others]
                return _probability(ctx, above, minor, bits) - _probability(ctx, below, minor, bits)
    return _two(ctx, h[0], h[1], R[0, 1], bits) if n == 2 else _switched_on(ctx, h, R, bits)


def _two(ctx: Any, h: Any, k: Any, r: Any, bits: int) -> Any:
    """Phi2 for |r| < 1: Plackett's integral in t = tan(asin(r)/2) for moderate r, else Owen's T functions.

    Owen (1956): Phi2 = [Phi(h) + Phi(k)]/2 - T(h, (k - r h)/(h c)) - T(k, (h - r k)/(k c)) - (1/2 if h k < 0),
    c = sqrt(1 - r^2).
    """
    if abs(r) <= 0.9:

        def rate(t: Any) -> Any:
            plus, minus = 1 + t * t, 1 - t * t
            return ctx.exp((4 * h * k * t - (h * h + k * k) * plus) * plus / (2 * minus * minus)) / plus

        end = r / (1 + ctx.sqrt(1 - r * r))
        return ctx.ncdf(h) * ctx.ncdf(k) + _gauss(ctx, rate, end, bits) / ctx.pi
    if r < 0:
        return ctx.ncdf(h) - _two(ctx, h, -k, -r, bits)
    c = ctx.sqrt((1 - r) * (1 + r))
    if h == 0 and k == 0:
        return ctx.mpf(0.25) + ctx.atan2(r, c) / (2 * ctx.pi)
    value = (
        (ctx.ncdf(h) + ctx.ncdf(k)) / 2 - _owen(ctx, h, (k - r * h) / c, bits) - _owen(ctx, k, (h - r * k) / c, bits)
    )
    return value if (h < 0) == (k < 0) else value - ctx.mpf(0.5)


def _owen(ctx: Any, h: Any, b: Any, bits: int) -> Any:
    """Owen's T(h, b/h) = (1/2 pi) int_0^{b/h} exp(-h^2 (1 + x^2)/2)/(1 + x^2) dx, reflected to |b/h| <= 1."""
    near, far = sorted([abs(h), abs(b)])

    def integrand(x: Any) -> Any:
        return ctx.exp(-far * far * (1 + x * x) / 2) / (1 + x * x)

    value = _gauss(ctx, integrand, near / far, bits) / (2 * ctx.pi)
    if abs(b) > abs(h):
        p, q = ctx.ncdf(-near), ctx.ncdf(-far)
        value = (p + q) / 2 - p * q - value
    return value if (h < 0) == (b < 0) else -value


def _switched_on(ctx: Any, h: list[Any], R: Any, bits: int) -> Any:
    """Phi_n for n = 3, 4: from two independent blocks, their cross correlations times s = 1 - u^3, u from 1 to 0.

    The blocks keep the strongest correlations (fewer and weaker ones are switched on).  A cross correlation or a
    conditional variance that ends near its bound makes a feature at a small u: the integral is split there.
    """
    n = len(h)
    splits = [
        ([0, 1], [2, 3][: n - 2]),
        ([0, 2], [1, 3][: n - 2]),
        ([0, 3] if n == 4 else [1, 2], [1, 2] if n == 4 else [0]),
    ]
    first, second = min(splits, key=lambda s: max(abs(R[i, j]) for i in s[0] for j in s[1]))
    cross = [(i, j) for i in first for j in second]
    start = _probability(ctx, [h[i] for i in first], _minor(ctx, R, first), bits)
    start *= _probability(ctx, [h[i] for i in second], _minor(ctx, R, second), bits)

    def rate(u: Any) -> Any:
        lost = u**3
        S = R.copy()
        for i, j in cross:
            S[i, j] = S[j, i] = R[i, j] * (1 - lost)
        return 3 * u * u * ctx.fsum(R[i, j] * _density_given(ctx, h, S, i, j, bits) for i, j in cross if R[i, j])

    depths = [1 - abs(R[i, j]) for i, j in cross]
    depths += [_conditional(ctx, R, i, j, k, k) for i, j in cross for k in range(n) if k not in (i, j)]
    scales = {ctx.nstr(ctx.cbrt(d), 1) for d in depths if ctx.eps**0.75 < d < 0.01}
    points = sorted([ctx.zero, *(ctx.mpf(x) for x in scales), ctx.one])
    rates = np.frompyfunc(rate, 1, 1)
    return start + tanh_sinh(rates, list(pairwise(points)), ctx.ldexp(1, -bits), ctx).value


def _density_given(ctx: Any, h: list[Any], S: Any, i: int, j: int, bits: int) -> Any:
    """phi2(h_i, h_j; S_ij) Phi_{n-2}(the others, given z_i = h_i and z_j = h_j)."""
    p = S[i, j]
    open_p = (1 - p) * (1 + p)
    density = ctx.exp(-(h[i] ** 2 + h[j] ** 2 - 2 * p * h[i] * h[j]) / (2 * open_p)) / (2 * ctx.pi * ctx.sqrt(open_p))
    others = [k for k in range(len(h)) if k not in (i, j)]
    limits, scales = [], []
    for k in others:
        mean = ((S[k, i] - p * S[k, j]) * h[i] + (S[k, j] - p * S[k, i]) * h[j]) / open_p
        scales.append(ctx.sqrt(max(ctx.zero, _conditional(ctx, S, i, j, k, k))))
        gap = h[k] - mean
        limits.append(gap / scales[-1] if scales[-1] else ctx.sign(gap) * ctx.inf if gap else gap)
    conditional = ctx.eye(len(others))
    if len(others) == 2 and scales[0] and scales[1]:
        rho = _conditional(ctx, S, i, j, *others) / (scales[0] * scales[1])
        conditional[0, 1] = conditional[1, 0] = max(-ctx.one, min(ctx.one, rho))
    return density * _probability(ctx, limits, conditional, bits)


def _conditional(ctx: Any, S: Any, i: int, j: int, k: int, l: int) -> Any:
    """Cov(z_k, z_l | z_i, z_j)."""
    p = S[i, j]
    cross = S[k, i] * S[l, i] + S[k, j] * S[l, j] - p * (S[k, i] * S[l, j] + S[k, j] * S[l, i])
    return S[k, l] - cross / ((1 - p) * (1 + p))


def _minor(ctx: Any, R: Any, keep: Sequence[int]) -> Any:
    minor = ctx.matrix(len(keep))
    for a, i in enumerate(keep):
        for b, j in enumerate(keep):
            minor[a, b] = R[i, j]
    return minor


def _gauss(ctx: Any, f: Callable[[Any], Any], end: Any, bits: int) -> Any:
    """Integral from 0 to `end` of a smooth function, to `bits` bits."""
    with ctx.workprec(bits + 10):
        value, error = ctx.quad(f, [ctx.zero, end], method="gauss-legendre", error=True, maxdegree=10)
    if error > ctx.ldexp(1, -bits):
        raise ValueError(f"a normal probability did not converge to {bits} bits (error estimate {ctx.nstr(error, 2)})")
    return value
