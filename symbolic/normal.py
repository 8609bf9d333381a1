"""Normal probabilities as sympy functions: Phi_1 .. Phi_4, with the derivatives that Plackett's identity gives.

Phi_n(h_1..h_n; r_12, r_13, ..) = P(z_1 < h_1, .., z_n < h_n) for jointly normal z of zero mean, unit variance and
correlations r_ij (pairs in lexicographic order).  Every average of the package ends on these and on elementary
functions.  Their derivatives are

    d Phi_n / d h_i  = phi(h_i) Phi_{n-1}(the others, given z_i = h_i)
    d Phi_n / d r_ij = phi_2(h_i, h_j; r_ij) Phi_{n-2}(the others, given z_i = h_i and z_j = h_j)      (Plackett 1954)

and `evalf` integrates the first of them at any precision.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import mpmath
import sympy

from quenched.symbolic.notation import Derived, Real, Step

__all__ = ["FORMULAS", "Phi", "Phi2", "Phi3", "Phi4", "Residual", "density", "normal_probability"]


def density(x: sympy.Expr, variance: sympy.Expr = sympy.Integer(1)) -> sympy.Expr:
    """Normal density of the given variance at distance x from the mean.

    >>> density(sympy.Integer(0), 1 / (2 * sympy.pi))
    1
    """
    return sympy.exp(-(x**2) / (2 * variance)) / sympy.sqrt(2 * sympy.pi * variance)


class Residual(sympy.Function):
    """a - b c / d: what is left of a mean or a covariance after regression on an observed field.

    Given x_0 = 0, the mean of x_1 is Residual(m_1, c_01, m_0, c_00) and the covariance of x_1 and x_2 is
    Residual(c_12, c_01, c_02, c_00).
    """

    nargs = 4

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Derivative with respect to one argument."""
        _, b, c, d = self.args
        return (sympy.Integer(1), -c / d, -b / d, b * c / d**2)[argindex - 1]

    def doit(self, **hints: Any) -> sympy.Expr:
        """The explicit quotient."""
        a, b, c, d = (argument.doit(**hints) for argument in self.args)
        return a - b * c / d

    def _eval_evalf(self, prec: int) -> sympy.Expr:
        return self.doit()._eval_evalf(prec)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        a, b, c, d = (printer._print(argument) for argument in self.args)
        body = rf"{a} - \frac{{{b} \, {c}}}{{{d}}}"
        return body if exp is None else rf"\left({body}\right)^{{{exp}}}"


Correlation = dict[tuple[int, int], sympy.Expr]


def _condition(
    h: tuple[sympy.Expr, ...], r: Correlation, fixed: tuple[int, ...]
) -> tuple[list[sympy.Expr], list[sympy.Expr]]:
    """Limits and correlations of the other normals given z_i = h_i for i in `fixed`, standardised."""
    others = [i for i in range(len(h)) if i not in fixed]

    def corr(i: int, j: int) -> sympy.Expr:
        return sympy.Integer(1) if i == j else r[min(i, j), max(i, j)]

    gram = sympy.Matrix([[corr(i, j) for j in fixed] for i in fixed]).inv()
    values = sympy.Matrix([h[i] for i in fixed])
    loads = {i: sympy.Matrix([[corr(i, j) for j in fixed]]) for i in others}
    mean = {i: (loads[i] * gram * values)[0] for i in others}
    cov = {(i, j): sympy.factor(corr(i, j) - (loads[i] * gram * loads[j].T)[0]) for i in others for j in others}
    limits = [(h[i] - mean[i]) / sympy.sqrt(cov[i, i]) for i in others]
    correlations = [cov[i, j] / sympy.sqrt(cov[i, i] * cov[j, j]) for i, j in combinations(others, 2)]
    return limits, correlations


class _NormalProbability(sympy.Function):
    """Common part of Phi_1 .. Phi_4; `dimension` is n, the arguments are h_1..h_n and then the n(n-1)/2 correlations."""

    dimension: int

    def split(self) -> tuple[tuple[sympy.Expr, ...], Correlation]:
        """The limits, and the correlations by pair."""
        n = self.dimension
        return self.args[:n], dict(zip(combinations(range(n), 2), self.args[n:], strict=True))

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Plackett's identities."""
        h, r = self.split()
        if argindex <= self.dimension:
            fixed: tuple[int, ...] = (argindex - 1,)
            weight = density(h[argindex - 1])
        else:
            fixed = tuple(r)[argindex - self.dimension - 1]
            rho = r[fixed]  # type: ignore[index]
            a, b = h[fixed[0]], h[fixed[1]]
            weight = density(a) * density((b - rho * a), 1 - rho**2)
        return weight * normal_probability(*_condition(h, r, fixed))

    def _eval_evalf(self, prec: int) -> sympy.Expr | None:
        if not all(argument.is_number for argument in self.args):
            return None
        ctx = mpmath.mp.clone()
        ctx.prec = prec + 20
        values = [ctx.mpf(argument._to_mpmath(prec + 20)) for argument in self.args]
        return sympy.Float(_probability(ctx, values[: self.dimension], values[self.dimension :]), precision=prec)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        n = self.dimension
        limits = ", ".join(printer._print(a) for a in self.args[:n])
        correlations = ", ".join(printer._print(a) for a in self.args[n:])
        subscript = "" if n == 1 else f"_{n}"
        power = "" if exp is None else f"^{{{exp}}}"
        separator = "" if n == 1 else r";\, "
        return rf"\Phi{subscript}{power}\left({limits}{separator}{correlations}\right)"


def _probability(ctx: Any, h: list[Any], r: list[Any]) -> Any:
    """P(z < h) at the precision of ctx: integrate out z_1, the others given it being normal again."""
    n = len(h)
    if n == 0:
        return ctx.one
    if n == 1:
        return ctx.ncdf(h[0])
    pairs = dict(zip(combinations(range(n), 2), r, strict=True))
    slopes = [pairs[0, j] for j in range(1, n)]
    scales = [ctx.sqrt(1 - s**2) for s in slopes]
    if not all(scales):
        raise ValueError(f"evalf of Phi_{n} at correlation +-1 (got {r}): reduce it to Phi_{n - 1} first")
    inner = [
        (pairs[i, j] - slopes[i - 1] * slopes[j - 1]) / (scales[i - 1] * scales[j - 1])
        for i, j in combinations(range(1, n), 2)
    ]

    def integrand(z: Any) -> Any:
        limits = [(h[j] - slopes[j - 1] * z) / scales[j - 1] for j in range(1, n)]
        return ctx.npdf(z) * _probability(ctx, limits, inner)

    # the inner steps sit where h_j = r_j z and are as wide as scales/r: split there
    kinks = [h[j] / s for j, s in enumerate(slopes, start=1) if s and h[j] / s < h[0]]
    reach = ctx.sqrt(2 * ctx.prec * ctx.ln2) + 1
    start = min([-reach, *(k for k in kinks if k > -2 * reach)])
    points = sorted({start, h[0], *(k for k in kinks if k > start), *(p for p in (-ctx.one, ctx.one) if start < p < h[0])})
    return ctx.quad(integrand, points) if h[0] > start else ctx.zero


class Phi(_NormalProbability):
    """Phi(h): the normal distribution function.

    >>> Phi(sympy.Integer(0)), Phi(sympy.Symbol("x")).diff()
    (1/2, sqrt(2)*exp(-x**2/2)/(2*sqrt(pi)))
    """

    dimension = 1
    nargs = 1

    @classmethod
    def eval(cls, h: sympy.Expr) -> sympy.Expr | None:
        """Known values."""
        return {sympy.Integer(0): sympy.Rational(1, 2), sympy.oo: sympy.Integer(1), -sympy.oo: sympy.Integer(0)}.get(h)


class Phi2(_NormalProbability):
    """Phi_2(h, k; r).

    >>> Phi2(0, 0, sympy.Rational(1, 2)).evalf(12)
    0.333333333333
    """

    dimension = 2
    nargs = 3


class Phi3(_NormalProbability):
    """Phi_3(h_1, h_2, h_3; r_12, r_13, r_23).

    >>> Phi3(0, 0, 0, *[sympy.Rational(1, 2)] * 3).evalf(10)
    0.2500000000
    """

    dimension = 3
    nargs = 6


class Phi4(_NormalProbability):
    """Phi_4(h_1 .. h_4; r_12, r_13, r_14, r_23, r_24, r_34)."""

    dimension = 4
    nargs = 10


def normal_probability(limits: list[sympy.Expr], correlations: list[sympy.Expr]) -> sympy.Expr:
    """Phi_n for n = len(limits): 1 for n = 0, then `Phi`, `Phi2`, `Phi3`, `Phi4`."""
    if not limits:
        return sympy.Integer(1)
    return (Phi, Phi2, Phi3, Phi4)[len(limits) - 1](*limits, *correlations)


def _plackett(probability: type[_NormalProbability], symbols: tuple[sympy.Symbol, ...], crossed: list[int]) -> Derived:
    """Phi_n as the integral of Plackett's identity along a path that switches the `crossed` correlations on."""
    n = probability.dimension
    start = probability(*symbols)
    theta = sympy.Symbol("theta", real=True)
    pairs = list(combinations(range(n), 2))
    path = list(symbols)
    rates = []
    for index in crossed:
        path[n + index] = sympy.sin(theta) * symbols[n + index]
    along = probability(*path)
    for index in crossed:
        rate = along.fdiff(n + index + 1) * symbols[n + index] * sympy.cos(theta)
        rates.append(rate)
    block_a = [i for i in range(n) if all(pairs[c] != (0, i) for c in crossed)]
    block_b = [i for i in range(n) if i not in block_a]

    def block(members: list[int]) -> sympy.Expr:
        h = [symbols[i] for i in members]
        r = [symbols[n + pairs.index(pair)] for pair in combinations(members, 2)]
        return normal_probability(h, r)

    value = block(block_a) * block(block_b) + sympy.Integral(sum(rates), (theta, 0, sympy.pi / 2))
    steps = (
        Step("Plackett", sympy.latex(sympy.Eq(sympy.Derivative(start, symbols[n + crossed[0]]),
                                              start.fdiff(n + crossed[0] + 1), evaluate=False))),
        Step("path from the block-diagonal correlation, r -> r sin(theta)", sympy.latex(value)),
    )
    return Derived(value, steps=steps)


def _Phi2(h: Real, k: Real, r: Real) -> Derived:
    """P(z_1 < h, z_2 < k) for unit normals of correlation r, |r| < 1."""
    theta = sympy.Symbol("theta", real=True)
    rate = Phi2(h, k, sympy.sin(theta)).fdiff(3) * sympy.cos(theta)
    rate = sympy.exp(sympy.simplify(-(h**2) / 2 - (k - h * sympy.sin(theta)) ** 2 / (2 * sympy.cos(theta) ** 2)))
    value = Phi(h) * Phi(k) + sympy.Integral(rate / (2 * sympy.pi), (theta, 0, sympy.asin(r)))
    return Derived(value)


FORMULAS: tuple[Any, ...] = ()
