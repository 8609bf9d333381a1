"""Independent routes to oracle errors: integrals of what the wrong labels hold.

The Bayes rule takes the label whose posterior is larger, so that its error is the integral of the smaller one.  Each
route here uses one symmetry of an arrangement to make that integral one-dimensional, at any number of digits:

`line`        means on a line: the smaller density, between the points where the two are equal, found by bisection
`sectors`     2m means on a circle, labels alternating: by reflection the borders are half way between neighbours
`graph`       labels on either side of a border x_1 = f(x_2)
`two_signs`   the product of two independent signs
`two_sigmas`  two means at +-r in three dimensions, each cluster with its own sigma
`whitened`    two means under a Marchenko-Pastur spectrum: E[1/rho] by its density
"""

from __future__ import annotations

import itertools
from typing import Any

from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import legendre
from quenched.sim.bank.quadratures import Number, Parameters, twice, worse

__all__ = ["graph", "line", "sectors", "two_sigmas", "two_signs", "whitened"]

_DIGITS = 34
_REACH = 11  # standard deviations that integrals reach
_LEFT_OUT = 1e-27  # a bound on the probability beyond them: 2 Phi(-11) = 4e-28
_ORDERS = (20, 26)  # of Gauss-Legendre on a panel, of a rule and of the finer one


def _integral(ctx: Any, f: Any, cuts: list[Any], order: int) -> Any:
    """Of f between the ends, panels of at most half a unit."""
    ends = [cuts[0]]
    for cut in cuts[1:]:
        start, count = ends[-1], int(2 * (cut - ends[-1])) + 1
        ends += [start + (cut - start) * i / count for i in range(1, count + 1)]
    nodes, weights = legendre(ends, order, ctx)
    return sum(weight * f(node) for node, weight in zip(nodes, weights, strict=True))


def _twice(rule: Any) -> tuple[Number, Number]:
    value, error = twice(rule, *_ORDERS)
    return value, error + _LEFT_OUT


def line(parameters: Parameters) -> tuple[Number, Number]:
    """Means on a line: `means`, `labels`, `weights`, `sigma`."""
    ctx = context(_DIGITS)
    means, labels = [ctx.mpf(m) for m in parameters["means"]], parameters["labels"]
    weights, sigma = [ctx.mpf(w) for w in parameters["weights"]], ctx.mpf(parameters["sigma"])

    def density(x: Any, label: int) -> Any:
        parts = zip(means, labels, weights, strict=True)
        return sum(w * ctx.npdf(x, m, sigma) for m, y, w in parts if y == label)

    def gap(x: Any) -> Any:
        return density(x, 1) - density(x, -1)

    low, high = min(means) - _REACH * sigma, max(means) + _REACH * sigma
    grid = [low + (high - low) * i / 4000 for i in range(4001)]
    cuts = [low]
    for left, right in itertools.pairwise(grid):
        if gap(left) * gap(right) < 0:
            cuts.append(ctx.findroot(gap, (left, right), solver="anderson"))
    cuts.append(high)
    return _twice(lambda order: _integral(ctx, lambda x: min(density(x, 1), density(x, -1)), cuts, order))


def sectors(parameters: Parameters) -> tuple[Number, Number]:
    """2m means at distance `separation`, angles pi j/m, alternating labels: `m`, `sigma`.

    The mass of a Gaussian at distance d (in units of sigma) at angle theta from its mean, integrated over the radius:
    exp(-d^2/2) (1 + t Phi(t)/phi(t))/(2 pi), t = d cos theta.
    """
    ctx = context(_DIGITS)
    m, d = parameters["m"], ctx.mpf(parameters.get("separation", 1)) / ctx.mpf(parameters["sigma"])

    def angular(theta: Any) -> Any:
        t = d * ctx.cos(theta)
        return ctx.exp(-d * d / 2) * (1 + t * ctx.ncdf(t) / ctx.npdf(t)) / (2 * ctx.pi)

    def rule(order: int) -> Any:
        wide = ctx.pi / m
        return sum(
            _integral(ctx, angular, [(j - ctx.mpf(1) / 2) * wide, (j + ctx.mpf(1) / 2) * wide], order)
            for j in range(1, 2 * m, 2)
        )

    return _twice(rule)


def graph(parameters: Parameters) -> tuple[Number, Number]:
    """Means of label +1 at x_1 = r, of -1 at x_1 = -r: `r`, `heights` (x_2), `labels`, `weights`, `sigma`.

    The log ratio of the posteriors is 2 r x_1/sigma^2 + g(x_2): the border is one x_1 for each x_2.
    """
    ctx = context(_DIGITS)
    r, sigma = ctx.mpf(parameters["r"]), ctx.mpf(parameters["sigma"])
    heights, labels = [ctx.mpf(h) for h in parameters["heights"]], parameters["labels"]
    weights = [ctx.mpf(w) for w in parameters["weights"]]

    def across(x: Any, label: int) -> Any:
        parts = zip(heights, labels, weights, strict=True)
        return sum(w * ctx.npdf(x, h, sigma) for h, y, w in parts if y == label)

    def wrong(x: Any) -> Any:
        plus, minus = across(x, 1), across(x, -1)
        border = sigma * sigma / (2 * r) * ctx.log(minus / plus)
        return plus * ctx.ncdf((border - r) / sigma) + minus * ctx.ncdf(-(border + r) / sigma)

    cuts = [min(heights) - _REACH * sigma, max(heights) + _REACH * sigma]
    return _twice(lambda order: _integral(ctx, wrong, cuts, order))


def two_signs(parameters: Parameters) -> tuple[Number, Number]:
    """Means +-l_1 e_1 +- l_2 e_2, the label the product of the signs: one of two independent signs is wrong."""
    ctx = context(_DIGITS)
    first, second = (
        ctx.erfc(ctx.mpf(length) / ctx.mpf(parameters["sigma"]) / ctx.sqrt(2)) / 2 for length in parameters["lengths"]
    )
    value = first * (1 - second) + second * (1 - first)
    return value, worse(value, value)


def two_sigmas(parameters: Parameters) -> tuple[Number, Number]:
    """Two equal clusters at +-1 on the first axis of R^3 with `sigmas`: (label +1 at +1).

    Across, u = x_2^2 + x_3^2 is exponential of mean 2 sigma_a^2; the log ratio is linear in u, so that for each x_1 one
    label is taken on u < c(x_1).
    """
    ctx = context(_DIGITS)
    s = [ctx.mpf(value) for value in parameters["sigmas"]]
    if not s[0] < s[1]:
        raise ValueError(f"sigmas must rise, got {parameters['sigmas']}")
    slope = (1 / s[0] ** 2 - 1 / s[1] ** 2) / 2

    def border(x: Any) -> Any:
        """u below which label +1, of the smaller sigma, is likelier."""
        exponent = -((x - 1) ** 2) / (2 * s[0] ** 2) + (x + 1) ** 2 / (2 * s[1] ** 2)
        return (exponent - 3 * ctx.log(s[0] / s[1])) / slope

    def wrong(x: Any) -> Any:
        c = max(border(x), ctx.zero)
        plus, minus = (ctx.npdf(x, mean, sigma) for mean, sigma in zip((1, -1), s, strict=True))
        return (plus * ctx.exp(-c / (2 * s[0] ** 2)) + minus * -ctx.expm1(-c / (2 * s[1] ** 2))) / 2

    low, high = -1 - _REACH * s[1], 1 + _REACH * s[1]
    grid = [low + (high - low) * i / 400 for i in range(401)]
    cuts = [low]
    for left, right in itertools.pairwise(grid):
        if border(left) * border(right) < 0:
            cuts.append(ctx.findroot(border, (left, right), solver="anderson"))
    return _twice(lambda order: _integral(ctx, wrong, [*cuts, high], order))


def _inverse_moment(ctx: Any, ratio: Any, count: int) -> Any:
    """E[1/rho] of the Marchenko-Pastur law of ratio c < 1 and mean 1, from its density.

    rho = 1 + c + 2 sqrt(c) cos(theta) makes the density (2/pi) sin(theta)^2/rho d theta: periodic, and the midpoint
    rule converges geometrically.
    """
    c, total = ctx.mpf(ratio), ctx.zero
    for i in range(count):
        theta = ctx.pi * (i + ctx.mpf(1) / 2) / count
        total += ctx.sin(theta) ** 2 / (1 + c + 2 * ctx.sqrt(c) * ctx.cos(theta)) ** 2
    return 2 * total / count


def whitened(parameters: Parameters) -> tuple[Number, Number]:
    """Two equal clusters at +-1, a Marchenko-Pastur spectrum of `ratio`: Phi(-sqrt(E[1/rho])/sigma)."""
    ctx = context(_DIGITS)
    sigma = ctx.mpf(parameters["sigma"])
    return twice(lambda count: ctx.ncdf(-ctx.sqrt(_inverse_moment(ctx, parameters["ratio"], count)) / sigma), 400, 480)
