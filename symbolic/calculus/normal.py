"""Normal probabilities as sympy functions: Phi_1 .. Phi_4, with the derivatives that Plackett's identity gives.

Phi_n(h_1..h_n; r_12, r_13, ..) = P(z_1 < h_1, .., z_n < h_n) for jointly normal z of zero mean, unit variance and
correlations r_ij (pairs in lexicographic order).  Every average of the package ends on these and on elementary
functions.  Their derivatives are

    d Phi_n / d h_i  = varphi(h_i) Phi_{n-1}(the others, given z_i = h_i)
    d Phi_n / d r_ij = varphi_2(h_i, h_j; r_ij) Phi_{n-2}(the others, given z_i = h_i and z_j = h_j)   (Plackett 1954)

with the normal densities varphi and varphi_2 of one and two variables; `evalf` integrates the first of them at any
precision.  Of what is given z_i = h_i and z_j = h_j the formulas write h_(k|i j) and r_(k l|i j): standardised limits
and correlations.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import mpmath
import sympy

from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Real, Step

__all__ = [
    "FORMULAS",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "Phi",
    "Phi2",
    "Phi3",
    "Phi4",
    "Remainder",
    "Residual",
    "density",
    "normal_probability",
]

TITLE = "Normal probabilities"
PART, ORDER = "calculus", 2
STATUS = "Exact."


def density(x: sympy.Expr, variance: sympy.Expr = sympy.Integer(1)) -> sympy.Expr:
    """Normal density of the given variance at distance x from the mean.

    >>> density(sympy.Integer(0), 1 / (2 * sympy.pi))
    1
    """
    return sympy.exp(-(x**2) / (2 * variance)) / sympy.sqrt(2 * sympy.pi * variance)


class Residual(sympy.Function):
    """a - b c / d: the mean or covariance that remains after regression on an observed field.

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


class Remainder(sympy.Function):
    """a - b^2/d: the variance that is left after regression; never negative, which generated code guards against
    rounding.
    """

    nargs = 3

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        """Derivative with respect to one argument."""
        _, b, d = self.args
        return (sympy.Integer(1), -2 * b / d, b**2 / d**2)[argindex - 1]

    def doit(self, **hints: Any) -> sympy.Expr:
        """The explicit quotient."""
        a, b, d = (argument.doit(**hints) for argument in self.args)
        return a - b**2 / d

    def _eval_evalf(self, prec: int) -> sympy.Expr:
        return self.doit()._eval_evalf(prec)

    def _latex(self, printer: Any, exp: Any = None) -> str:
        a, b, d = (printer._print(argument) for argument in self.args)
        body = rf"{a} - \frac{{{b}^2}}{{{d}}}"
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
    """Common part of Phi_1 .. Phi_4; `dimension` is n, the arguments are h_1..h_n and then the n(n-1)/2
    correlations.
    """

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
            rho = r[fixed]
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
    for j, slope in enumerate(slopes, start=1):
        if abs(slope) == 1:  # z_j is z_1 or -z_1: it only moves the limit of z_1, from above or from below
            others = [i for i in range(n) if i != j]
            rest = [pairs[i, k] for i, k in combinations(others, 2)]
            upper = [h[i] for i in others]
            if slope > 0:
                return _probability(ctx, [min(h[0], h[j]), *upper[1:]], rest)
            if h[0] <= -h[j]:
                return ctx.zero
            return _probability(ctx, upper, rest) - _probability(ctx, [-h[j], *upper[1:]], rest)
    scales = [ctx.sqrt(1 - s**2) for s in slopes]
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
    points = sorted(
        {start, h[0], *(k for k in kinks if k > start), *(p for p in (-ctx.one, ctx.one) if start < p < h[0])}
    )
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


def ratio(p: Real, q: Real) -> Derived:
    """p/q, integers: a constant that no float holds, for code that is also evaluated at higher precision."""
    return Derived(p / q)


def residual(a: Real, b: Real, c: Real, d: Real) -> Derived:
    """a - b c/d: a mean or covariance after regression on a field of variance d."""
    return Derived(Residual(a, b, c, d).doit())


def remainder(a: Real, b: Real, d: Real) -> Derived:
    """a - b^2/d: a variance after regression on a field of variance d, floored at four rounding units of a.

    Where the two fields are proportional, cancellation would leave noise of either sign.
    """
    return Derived(sympy.Max(Remainder(a, b, d).doit(), a * sympy.Integer(2) ** -50))


def _switched_on(
    probability: type[_NormalProbability], symbols: tuple[sympy.Symbol, ...], blocks: list[list[int]]
) -> Derived:
    """Phi_n by Plackett's identity: independent blocks, the correlations between them switched on as r sin(theta)."""
    n = probability.dimension
    theta = sympy.Symbol("theta", real=True)
    pairs = list(combinations(range(n), 2))
    crossing = [n + index for index, (i, j) in enumerate(pairs) if not any({i, j} <= set(b) for b in blocks)]
    path = [sympy.sin(theta) * argument if index in crossing else argument for index, argument in enumerate(symbols)]
    along = probability(*path)
    rates = [along.fdiff(index + 1) * symbols[index] * sympy.cos(theta) for index in crossing]
    start = sympy.Mul(
        *(
            normal_probability([symbols[i] for i in b], [symbols[n + pairs.index(p)] for p in combinations(b, 2)])
            for b in blocks
        )
    )
    value = start + sympy.Integral(sympy.Add(*rates), (theta, 0, sympy.pi / 2))
    return Derived(value, steps=_told(probability, symbols, [pairs[index - n] for index in crossing], start))


def _over_root(value: sympy.Expr, square: sympy.Expr) -> sympy.Expr:
    """numerator/sqrt(radicand), both multiplied by `square` > 0 (and its square), so that they are polynomials."""
    factors = sympy.Mul.make_args(sympy.together(value))
    (root,) = [f for f in factors if isinstance(f, sympy.Pow) and f.exp == -sympy.Rational(1, 2)] or [None]
    if root is None:
        raise ArithmeticError(f"{value} is not a quotient by a root")
    numerator = sympy.cancel(value / root * square)
    radicand = sympy.factor(sympy.cancel(root.base * square**2))
    return sympy.Mul(numerator, sympy.Pow(radicand, -sympy.Rational(1, 2), evaluate=False), evaluate=False)


def _told(
    probability: type[_NormalProbability],
    symbols: tuple[sympy.Symbol, ...],
    crossing: list[tuple[int, int]],
    start: sympy.Expr,
) -> tuple[Step, ...]:
    """The steps of `_switched_on`; limits and correlations of what is left, given two fields, have names."""
    n = probability.dimension
    r = dict(zip(combinations(range(n), 2), symbols[n:], strict=True))
    terms: list[tuple[str, str, str]] = []
    named: list[tuple[str, sympy.Expr]] = []
    for i, j in crossing:
        others = [k for k in range(n) if k not in (i, j)]
        given = f"|{i + 1}{j + 1}"
        limits = [f"h_{{{k + 1}{given}}}" for k in others]
        correlations = [f"r_{{{k + 1}{m + 1}{given}}}" for k, m in combinations(others, 2)]
        rest = "" if n == 3 else f"_{{{n - 2}}}"
        arguments = ", ".join(limits) + (r";\, " + ", ".join(correlations) if correlations else "")
        terms.append((rf"r_{{{i + 1}{j + 1}}}", rf"\varphi_2(h_{i + 1}, h_{j + 1};\, r_{{{i + 1}{j + 1}}})",
                      rf"\Phi{rest}({arguments})"))  # fmt: skip
        if not named:
            left_limits, left_correlations = _condition(symbols[:n], r, (i, j))
            left_over = [_over_root(value, 1 - r[i, j] ** 2) for value in (*left_limits, *left_correlations)]
            named += zip([*limits, *correlations], left_over, strict=True)
    first, density_, left = terms[0]
    whole = latex(probability(*symbols))
    path = r",\ ".join(rf"{name} \to {name} \sin\theta" for name, _, _ in terms)
    moved = [(name, weight.replace("r_", r"\sin\theta\, r_"), re.sub(r"([hr])_", r"\1^\\theta_", rest))
             for name, weight, rest in terms]  # fmt: skip
    rates = " + ".join(rf"{name}\, {weight}\, {rest}" for name, weight, rest in moved)
    along = r"\text{ in } h^\theta, r^\theta,\quad \theta = 0 \ldots \pi/2"
    return (
        Step("Plackett", rf"\partial \Phi_{n}/\partial {first} = {density_}\, {left}"),
        *(Step("Plackett", f"{name} = {latex(value)}") for name, value in named),
        Step("Integrate from independent blocks", rf"{path}{along}"),
        Step("Result", rf"{whole} = {latex(start)} + \int_0^{{\pi/2}} \bigl[{rates}\bigr] \cos\theta \, d\theta"),
    )


def phi_2(h: Real, k: Real, r: Real) -> Derived:
    """P(z_1 < h, z_2 < k) for unit normals of correlation r.

    Plackett's identity integrated by 64 Gauss-Legendre nodes in arcsin(r): meant for |r| <= 0.95, where it is exact to
    rounding; `quenched.numerics.probability.normal` covers all r.
    """
    theta = sympy.Symbol("theta", real=True)
    slope = Phi2(h, k, sympy.sin(theta)).fdiff(3) * sympy.cos(theta)
    cosine = sympy.cos(theta)
    exponent = -(h**2 + k**2 - 2 * h * k * sympy.sin(theta)) / (2 * cosine**2)
    rate = sympy.exp(exponent) / (2 * sympy.pi)
    if sympy.simplify(sympy.powsimp(slope.subs(theta, sympy.asin(r)) / rate.subs(theta, sympy.asin(r)))) != 1:
        raise AssertionError("the derivative of Phi_2 is not Plackett's in terms of the angle")
    value = Phi(h) * Phi(k) + sympy.Integral(rate, (theta, 0, sympy.asin(r)))
    step = Step("Plackett", latex(sympy.Eq(sympy.Derivative(Phi2(h, k, r), r), Phi2(h, k, r).fdiff(3))))
    return Derived(value, steps=(step,))


def phi_3(h1: Real, h2: Real, h3: Real, r12: Real, r13: Real, r23: Real) -> Derived:
    """P(z_i < h_i) for three unit normals of correlations r_ij.

    From z_1 independent of (z_2, z_3), by 64 Gauss-Legendre nodes: meant for well-conditioned correlations;
    `quenched.numerics.probability.normal` covers all.
    """
    return _switched_on(Phi3, (h1, h2, h3, r12, r13, r23), [[0], [1, 2]])


def phi_4(
    h1: Real, h2: Real, h3: Real, h4: Real, r12: Real, r13: Real, r14: Real, r23: Real, r24: Real, r34: Real
) -> Derived:
    """P(z_i < h_i) for four unit normals of correlations r_ij.

    From (z_1, z_2) independent of (z_3, z_4), by 64 Gauss-Legendre nodes: meant for well-conditioned correlations;
    `quenched.numerics.probability.normal` covers all.
    """
    return _switched_on(Phi4, (h1, h2, h3, h4, r12, r13, r14, r23, r24, r34), [[0, 1], [2, 3]])


# the generated functions bear the names of the sympy functions that they evaluate
for _specification, _name in ((phi_2, "Phi2"), (phi_3, "Phi3"), (phi_4, "Phi4")):
    _specification.__name__ = _name

_PHI = '''GAUSS = tuple(zip(*leggauss(64), strict=True))


def Phi(h: float) -> float:
    """P(z < h) for a unit normal."""
    from scipy.special import ndtr  # takes longer to load than all else here; compiled code has its own

    probability: float = ndtr(h)
    return probability'''

FORMULAS = (ratio, residual, remainder, phi_2, phi_3, phi_4)
UNTOLD = ("ratio", "residual", "remainder")  # arithmetic of generated code


def generated() -> str:
    """Phi, and the Gauss-Legendre nodes and weights of the integrals below, as pairs."""
    return _PHI
