"""Means over a unit normal, at any number of digits, and the factors of products that records name.

Gauss-Legendre rules end at a kink.  Where an integrand has none and decays as a Gaussian, the trapezoidal rule
converges faster than any power of its step h: with |f(iy)| < exp(c y^2) the error is of order exp(-pi^2/((c + 1/2)
h^2)) (Trefethen and Weideman 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

from quenched.numerics.probability.quadrature import legendre

__all__ = [
    "ENTIRE", "FACTORS", "ORDER", "Number", "Parameters", "Route", "normal_mean", "trapezoidal_mean", "twice", "worse",
]  # fmt: skip

Number = Any
"""A float or an mpmath number."""
Parameters = dict[str, Any]
"""What a record of the bank says of a problem."""
Route = Callable[[Parameters], tuple[Number, Number]]
"""From parameters to a value and its error."""
_Rule = TypeVar("_Rule")

_REACH = 12  # a unit normal is beyond it with a probability of 2e-33
ORDER = 28  # of Gauss-Legendre on a panel of length 6 and less
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
    "gelu square": lambda ctx, x: (x * (1 + ctx.erf(x / ctx.sqrt(2))) / 2) ** 2,
    "softplus": lambda ctx, x: ctx.log1p(ctx.exp(-abs(x))) + (x if x > 0 else 0),
    "tanh": lambda ctx, x: ctx.tanh(x),
}
"""The factors f of a product, by the names that records use; kinks are at 0."""
ENTIRE = {
    "1": 0.0,
    "x": 0.0,
    "x^2": 0.0,
    "bell": 0.5,
    "He3": 0.0,
    "sin": 0.0,
    "erf": 1.0,
    "gelu": 0.5,
    "gelu square": 1.0,
}
"""Factors that are analytic everywhere, and a number c such that they grow as exp(c y^2) at most along x = iy."""


def _panels(ctx: Any, centre: Any, scale: Any, reach: int) -> list[Any]:
    """Ends of panels of a unit normal z: equal ones on both sides of the kink of f(centre + scale z)."""
    kink = -centre / scale if scale else ctx.zero
    if abs(kink) >= reach:
        kink = ctx.zero
    sides = [[kink + (end - kink) * ctx.mpf(i) / 4 for i in range(5)] for end in (-reach, reach)]
    return [*reversed(sides[0]), *sides[1][1:]]


def normal_mean(
    ctx: Any, f: Callable[[Any], Any], centre: Any, scale: Any, order: int = ORDER, reach: int = _REACH
) -> Any:
    """E[f(centre + scale z)], z a unit normal within `reach`, f with a kink at 0 at most."""
    if not scale:
        return f(centre)
    cuts = _panels(ctx, centre, scale, reach)
    nodes, weights = legendre([-1, 1], order, ctx)
    total = ctx.zero
    for left, right in pairwise(cuts):
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
    """The distance of two approximations, at least the rounding of sums of a hundred terms: an error."""
    return max(abs(value - other), 100 * value.context.eps * abs(value))


def twice(rule: Callable[[_Rule], Number], coarse: _Rule, fine: _Rule) -> tuple[Number, Number]:
    """The value of the finer of two rules, and the distance of the other: an error."""
    value = rule(fine)
    return value, worse(value, rule(coarse))
