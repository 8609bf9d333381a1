"""Independent routes to Gaussian averages: quadrature of what defines them, with no algebra.

A covariance c_ij = a_i a_j (i != j) is that of fields x_i = m_i + a_i u + s_i z_i, s_i^2 = c_ii - a_i^2, with u and z_i
independent unit normals.  The average of a product f_1(x_1) .. f_n(x_n) is then a nest of one-dimensional integrals,

    E[f_1 .. f_n] = integral phi(u) prod_i E_z[f_i(m_i + a_i u + s_i z)] du

The inner ones are Gauss-Legendre rules that end at the kink.  Where an integrand has no kink and decays as a Gaussian, as
the outer one does, the trapezoidal rule converges faster than any power of its step h: with |F(iy)| < exp(A y^2) for
integrand F the error is of order exp(-pi^2/(A h^2)) (Trefethen and Weideman 2014).  Each rule is taken twice, the second
one finer; the difference is the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import legendre

__all__ = ["FACTORS", "Number", "Parameters", "Route", "largest_of_independent", "normal_mean", "one_factor", "worse"]

Number = Any
"""A float or an mpmath number."""
Parameters = dict[str, Any]
"""What a record of the bank says of a problem."""
Route = Callable[[Parameters], tuple[Number, Number]]
"""From parameters to a value and its error."""

DIGITS = 36
_REACH = 12  # a unit normal is beyond it with a probability of 2e-33
_ORDER = 28  # of Gauss-Legendre on a panel of length 6 and less
_FINER = 0.87  # the step of the finer trapezoidal rule, in units of the other's
_DECAY = 78  # the trapezoidal rule is to be right to exp(-78) = 1e-34

FACTORS: dict[str, Callable[[Any, Any], Any]] = {
    "1": lambda ctx, x: ctx.one,
    "x": lambda ctx, x: x,
    "x^2": lambda ctx, x: x * x,
    "step": lambda ctx, x: ctx.one if x > 0 else ctx.zero,
    "sign": lambda ctx, x: ctx.sign(x),
    "relu": lambda ctx, x: x if x > 0 else ctx.zero,
    "leaky relu": lambda ctx, x: x if x > 0 else x / 100,
    "abs": lambda ctx, x: abs(x),
    "erf": lambda ctx, x: ctx.erf(x),
    "bell": lambda ctx, x: ctx.exp(-x * x / 2),
    "sin": lambda ctx, x: ctx.sin(x),
    "He3": lambda ctx, x: x**3 - 3 * x,
    "gelu": lambda ctx, x: x * (1 + ctx.erf(x / ctx.sqrt(2))) / 2,
    "softplus": lambda ctx, x: ctx.log1p(ctx.exp(-abs(x))) + (x if x > 0 else 0),
    "tanh": lambda ctx, x: ctx.tanh(x),
}
"""The factors f of a product, by the names that records use; kinks are at 0."""
ENTIRE = {"1": 0.0, "x": 0.0, "x^2": 0.0, "bell": 0.5, "He3": 0.0, "sin": 0.0, "erf": 1.0, "gelu": 0.5}
"""Factors that are analytic everywhere, and a number c such that they grow as exp(c y^2) at most along x = iy."""


def _panels(ctx: Any, centre: Any, scale: Any) -> list[Any]:
    """Ends of panels of a unit normal z: equal ones on both sides of the kink of f(centre + scale z)."""
    kink = -centre / scale if scale else ctx.zero
    if abs(kink) >= _REACH:
        kink = ctx.zero
    sides = [[kink + (end - kink) * ctx.mpf(i) / 4 for i in range(5)] for end in (-_REACH, _REACH)]
    return [*reversed(sides[0]), *sides[1][1:]]


def normal_mean(ctx: Any, f: Callable[[Any], Any], centre: Any, scale: Any, order: int = _ORDER) -> Any:
    """E[f(centre + scale z)], z a unit normal, f with a kink at 0 at most."""
    if not scale:
        return f(centre)
    cuts = _panels(ctx, centre, scale)
    nodes, weights = legendre([-1, 1], order, ctx)
    total = ctx.zero
    for left, right in zip(cuts[:-1], cuts[1:], strict=True):
        half, middle = (right - left) / 2, (left + right) / 2
        part = ctx.zero
        for node, weight in zip(nodes, weights, strict=True):
            z = middle + half * node
            part += weight * ctx.exp(-z * z / 2) * f(centre + scale * z)
        total += half * part
    return total / ctx.sqrt(2 * ctx.pi)


def trapezoidal_mean(ctx: Any, f: Callable[[Any], Any], growth: Any, finer: bool) -> Any:
    """E[f(z)], z a unit normal, f analytic with |f(iy)| < exp(growth y^2)."""
    step = ctx.pi / ctx.sqrt(_DECAY * (growth + ctx.mpf(1) / 2)) * (_FINER if finer else 1)
    count = int(_REACH / step) + 1
    total = sum(ctx.exp(-((i * step) ** 2) / 2) * f(i * step) for i in range(-count, count + 1))
    return total * step / ctx.sqrt(2 * ctx.pi)


def worse(value: Any, other: Any) -> Any:
    """The distance of two approximations, at least the rounding of 30 digits: an error."""
    return max(abs(value - other), abs(value) * type(value)(10) ** -33)


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
        order = _ORDER + 4 if finer else _ORDER
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

    fine = rule(_ORDER + 6)
    return fine, worse(fine, rule(_ORDER))
