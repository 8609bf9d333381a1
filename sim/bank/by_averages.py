"""Independent routes to Gaussian averages: quadrature of what defines them, with no algebra.

A covariance c_ij = a_i a_j (i != j) is that of fields x_i = m_i + a_i u + s_i z_i, s_i^2 = c_ii - a_i^2, with u and z_i
independent unit normals.  The average of a product f_1(x_1) .. f_n(x_n) is then a nest of one-dimensional integrals,

    E[f_1 .. f_n] = integral phi(u) prod_i E_z[f_i(m_i + a_i u + s_i z)] du

Each rule is taken twice, the second one finer; the difference is the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from quenched.numerics.compiled.precision import context
from quenched.sim.bank.quadratures import (
    ENTIRE,
    FACTORS,
    ORDER,
    Number,
    Parameters,
    normal_mean,
    trapezoidal_mean,
    worse,
)

__all__ = ["largest_of_independent", "one_factor"]

DIGITS = 36


def _fractions(values: Sequence[Any]) -> list[Fraction]:
    return [Fraction(value) for value in values]


def one_factor(parameters: Parameters) -> tuple[Number, Number]:
    """E of a product of functions of one field each; `factors`, `mean`, `covariance` (upper triangle), `loadings` a.

    ValueError: the covariance is not a_i a_j off its diagonal.
    """
    factors, mean = parameters["factors"], _fractions(parameters["mean"])
    a, upper = _fractions(parameters["loadings"]), _fractions(parameters["covariance"])
    n = len(mean)
    rest = []
    for i in range(n):
        row = [upper.pop(0) for _ in range(i, n)]
        if row[1:] != [a[i] * a[j] for j in range(i + 1, n)]:
            raise ValueError(f"loadings must give the covariance of field {i}, got {parameters['loadings']}")
        rest.append(row[0] - a[i] ** 2)
    ctx = context(DIGITS)

    def number(value: Fraction) -> Any:
        return ctx.mpf(value.numerator) / value.denominator

    m, load, scale = ([number(v) for v in mean], [number(v) for v in a], [ctx.sqrt(number(v)) for v in rest])

    def inner(i: int, u: Any, finer: bool) -> Any:
        name, centre = factors[i], m[i] + load[i] * u
        if name in ENTIRE and scale[i]:
            growth = ENTIRE[name] * scale[i] ** 2
            return trapezoidal_mean(ctx, lambda z: FACTORS[name](ctx, centre + scale[i] * z), growth, finer)
        order = ORDER + 4 if finer else ORDER
        return normal_mean(ctx, lambda x: FACTORS[name](ctx, x), centre, scale[i], order)

    def rule(finer: bool) -> Any:
        if not any(a):
            return ctx.fprod(inner(i, ctx.zero, finer) for i in range(n))
        growth = sum((load[i] / scale[i]) ** 2 / 2 for i in range(n))
        return trapezoidal_mean(ctx, lambda u: ctx.fprod(inner(i, u, finer) for i in range(n)), growth, finer)

    fine = rule(finer=True)
    return fine, worse(fine, rule(finer=False))


def largest_of_independent(parameters: Parameters) -> tuple[Number, Number]:
    """E max of n independent unit normals, integral of n x phi(x) Phi(x)^(n - 1) dx."""
    n, ctx = parameters["number"], context(DIGITS)

    def rule(order: int) -> Any:
        return normal_mean(ctx, lambda x: n * x * ctx.ncdf(x) ** (n - 1), ctx.zero, ctx.one, order)

    fine = rule(ORDER + 6)
    return fine, worse(fine, rule(ORDER))
