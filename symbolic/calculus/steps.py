"""Functions with kinks and jumps in one variable: Max, Min, |.|, sign and Heaviside, nested in any way, piece by piece.

Such a function follows one smooth formula between neighbouring points, those where the argument of a kink (or the
difference of two arguments) vanishes.  With the points a_1 < .. < a_n and the formulas p_0 .. p_n,

    f(x) = p_0(x) + sum_i (p_i(x) - p_(i-1)(x)) Heaviside(x - a_i),     H(0) = 1/2,

and f' follows by the product rule, with (p_i - p_(i-1))(a_i) DiracDelta(x - a_i) where f jumps.  The points are exact
numbers; where a zero has none (Max(cos(x) - x, 0)), or there are infinitely many (|sin x|), `NoClosedForm` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import sympy

__all__ = ["KINKS", "NoClosedForm", "Pieces", "derivative", "in_steps", "is_zero", "number_key", "pieces", "support"]

ZERO, ONE = sympy.Integer(0), sympy.Integer(1)
_DIGITS = 60  # exact numbers are ordered by this many digits, and equal if they agree to two thirds of them

KINKS = (sympy.Max, sympy.Min, sympy.Abs, sympy.Heaviside, sympy.sign)
_ODD = (sympy.erf, sympy.tanh, sympy.sinh, sympy.atan)  # strictly increasing and odd: zero where their argument is
_POSITIVE = (sympy.exp, sympy.cosh)


class NoClosedForm(ValueError):
    """The average does not reduce to normal probabilities of up to four fields; the message names the factor."""


class Pieces(NamedTuple):
    """values[i] between points[i - 1] and points[i]; one value more than points."""

    points: tuple[sympy.Expr, ...]
    values: tuple[sympy.Expr, ...]

    def inside(self) -> list[sympy.Expr]:
        """A rational number within each piece."""
        return _between(self.points)


def number_key(value: sympy.Expr) -> sympy.Expr:
    """Numbers in order of their size."""
    return sympy.N(value, _DIGITS)


def is_zero(value: sympy.Expr) -> bool:
    """Whether an exact number is 0: by its digits, which sympy's own forms of it need not show."""
    return bool(value == 0 or (value.is_number and abs(number_key(value)) < sympy.Float(10) ** (-2 * _DIGITS // 3)))


def _between(points: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    if not points:
        return [ZERO]
    ends = [sympy.Rational(str(sympy.N(p, 30))) for p in points]
    return [ends[0] - 1, *((low + high) / 2 for low, high in pairwise(ends)), ends[-1] + 1]


def _merged(points: Sequence[sympy.Expr]) -> tuple[sympy.Expr, ...]:
    """In increasing order, each once."""
    result: list[sympy.Expr] = []
    for point in sorted(points, key=number_key):
        if not result or not is_zero(point - result[-1]):
            result.append(point)
    return tuple(result)


@lru_cache(maxsize=4096)
def pieces(expression: sympy.Expr, x: sympy.Symbol) -> Pieces:
    """The smooth formulas of which a function of x consists.

    >>> x = sympy.Symbol("x", real=True)
    >>> found = pieces(sympy.Max(sympy.Min(x, 1), -1), x)
    >>> found.points, found.values
    ((-1, 1), (-1, x, 1))
    """
    if not expression.has(*KINKS):
        return Pieces((), (expression,))
    parts = [pieces(argument, x) for argument in expression.args]
    points = _merged([point for part in parts for point in part.points])
    found: list[tuple[sympy.Expr, ...]] = []
    local = [
        [part.values[sum(1 for p in part.points if number_key(p) < inside)] for part in parts]
        for inside in _between(points)
    ]
    if isinstance(expression, KINKS):
        edges = [-sympy.oo, *points, sympy.oo]
        extra: list[sympy.Expr] = []
        for arguments, (low, high) in zip(local, pairwise(edges), strict=True):
            extra += _changes(type(expression), arguments, x, low, high)
        finer = _merged([*points, *extra])
        for inside in _between(finer):
            place = sum(1 for p in points if number_key(p) < inside)
            found.append((_smooth(type(expression), local[place], x, inside),))
        points = finer
    else:
        found = [(expression.func(*arguments),) for arguments in local]
    return _joined(points, [value for (value,) in found])


def _joined(points: Sequence[sympy.Expr], values: Sequence[sympy.Expr]) -> Pieces:
    """Without the points where nothing changes."""
    kept_points: list[sympy.Expr] = []
    kept_values = [values[0]]
    for point, value in zip(points, values[1:], strict=True):
        if sympy.expand(value - kept_values[-1]) != 0:
            kept_points.append(point)
            kept_values.append(value)
    return Pieces(tuple(kept_points), tuple(kept_values))


def _changes(
    kind: type, arguments: list[sympy.Expr], x: sympy.Symbol, low: sympy.Expr, high: sympy.Expr
) -> list[sympy.Expr]:
    """Where, between low and high, a kink of smooth arguments changes its formula."""
    several = issubclass(kind, (sympy.Max, sympy.Min))
    differences = [p - q for p, q in combinations(arguments, 2)] if several else [arguments[0]]
    bounds = [number_key(low), number_key(high)]
    return [
        root
        for difference in differences
        if difference.has(x)
        for root in _zeros(difference, x)
        if bounds[0] < number_key(root) < bounds[1]
    ]


def _smooth(kind: type, arguments: list[sympy.Expr], x: sympy.Symbol, inside: sympy.Expr) -> sympy.Expr:
    """The formula of a kink around a point at which none of its arguments changes sign."""
    sizes = [sympy.N(argument.subs(x, inside), _DIGITS) for argument in arguments]
    if issubclass(kind, (sympy.Max, sympy.Min)):
        chosen = (max if issubclass(kind, sympy.Max) else min)(range(len(sizes)), key=lambda i: sizes[i])
        return arguments[chosen]
    side = ZERO if is_zero(arguments[0]) else sympy.sign(sizes[0])
    if issubclass(kind, sympy.Abs):
        return side * arguments[0]
    return side if issubclass(kind, sympy.sign) else (side + 1) / 2


# --- zeros that are exact numbers
# ---------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _zeros(function: sympy.Expr, x: sympy.Symbol) -> tuple[sympy.Expr, ...]:
    """All real zeros of a smooth function, which may be more than its sign changes."""
    numerator = sympy.fraction(sympy.together(function))[0]
    roots: list[sympy.Expr] = []
    for factor in sympy.Mul.make_args(sympy.factor(numerator)):
        base = factor.base if factor.is_Pow and factor.exp.is_positive and not factor.base.is_number else factor
        if not base.has(x) or isinstance(base, _POSITIVE):
            continue
        if base.is_polynomial(x):
            roots += _polynomial_zeros(sympy.Poly(base, x))
        elif isinstance(base, _ODD):
            roots += _zeros(base.args[0], x)
        elif isinstance(base, sympy.log):
            roots += _zeros(base.args[0] - 1, x)
        else:
            roots += _exponential_zeros(base, x)
    return _merged(roots)


def _polynomial_zeros(polynomial: sympy.Poly) -> list[sympy.Expr]:
    if polynomial.degree() == 1:
        a, b = polynomial.all_coeffs()
        return [-b / a]
    if polynomial.degree() == 2:
        a, b, c = polynomial.all_coeffs()
        discriminant = b * b - 4 * a * c
        if is_zero(discriminant):
            return [-b / (2 * a)]
        root = sympy.sqrt(discriminant)
        return [(-b - root) / (2 * a), (-b + root) / (2 * a)] if number_key(discriminant) > 0 else []
    if all(c.is_Rational for c in polynomial.all_coeffs()):
        found: list[sympy.Expr] = list(sympy.real_roots(polynomial))
        if not any(root.has(sympy.CRootOf) for root in found):
            return found
    raise NoClosedForm(f"the zeros of {polynomial.as_expr()}, where a kink changes sides, are not known in closed form")


def _exponential_zeros(function: sympy.Expr, x: sympy.Symbol) -> list[sympy.Expr]:
    """Of a polynomial in exp(c x)."""
    u = sympy.Dummy("u", positive=True)
    rates = [e.args[0].coeff(x, 1) for e in function.atoms(sympy.exp) if e.has(x)]
    smallest = min((abs(rate) for rate in rates if rate.is_Rational and rate != 0), default=ZERO)
    if smallest != 0:
        written = sympy.expand(
            sympy.expand(function).replace(
                lambda e: isinstance(e, sympy.exp) and e.has(x),
                lambda e: sympy.exp(e.args[0] - e.args[0].coeff(x, 1) * x) * u ** (e.args[0].coeff(x, 1) / smallest),
            )
        )
        written = sympy.fraction(sympy.together(written))[0]
        if not written.has(x) and written.is_polynomial(u):
            roots = _polynomial_zeros(sympy.Poly(written, u))
            return [sympy.log(root) / smallest for root in roots if number_key(root) > 0]
    raise NoClosedForm(f"the zeros of {function}, where a kink changes sides, are not known in closed form")


# --- as a sum over steps, and differentiated
# ----------------------------------------------------------------------------


def _is_delta(factor: sympy.Basic) -> bool:
    return isinstance(factor, sympy.DiracDelta)


def support(part: sympy.Expr, x: sympy.Symbol) -> tuple[sympy.Expr, sympy.Expr] | None:
    """(a, f(a)) of one term f(x) delta(x - a), with H(0) = 1/2 in f; None if there is no delta in it."""
    deltas = [factor for factor in sympy.Mul.make_args(part) if _is_delta(factor)]
    if not deltas:
        return None
    if len(deltas) > 1 or sum(1 for factor in sympy.preorder_traversal(part) if _is_delta(factor)) > 1:
        raise NoClosedForm(f"{part}: the product of two deltas")
    (delta,) = deltas
    argument = delta.args[0]
    slope = argument.diff(x)
    if slope.has(x) or slope == 0:
        raise NoClosedForm(f"{delta}: a delta of an argument that is not linear")
    point = sympy.solve(argument, x)[0]
    return point, (part / delta / sympy.Abs(slope)).subs(x, point)


def in_steps(expression: sympy.Expr, x: sympy.Symbol) -> sympy.Expr:
    """As a sum over steps Heaviside(x - a), with what multiplies a delta evaluated at its support.

    >>> x = sympy.Symbol("x", real=True)
    >>> in_steps((sympy.Heaviside(x) + 2 * sympy.Heaviside(-x)) ** 3, x)
    8 - 7*Heaviside(x)
    """
    if not expression.has(sympy.DiracDelta):
        return _sum_of_steps(expression, x)
    smooth, sharp = [], []
    for part in sympy.Add.make_args(sympy.expand(expression)):
        if any(_is_delta(f) and len(f.args) > 1 for f in sympy.Mul.make_args(part)):
            sharp.append(part)  # the derivative of a delta, times a number
        elif (at := support(part, x)) is not None:
            sharp.append(at[1] * sympy.DiracDelta(x - at[0]))
        else:
            smooth.append(part)
    return sympy.Add(_sum_of_steps(sympy.Add(*smooth), x), *sharp)


@lru_cache(maxsize=4096)
def _sum_of_steps(expression: sympy.Expr, x: sympy.Symbol) -> sympy.Expr:
    found = pieces(expression, x)
    changes = [after - before for before, after in pairwise(found.values)]
    steps = [change * sympy.Heaviside(x - point) for change, point in zip(changes, found.points, strict=True)]
    return sympy.expand(sympy.Add(found.values[0], *steps)) if steps else expression


def derivative(expression: sympy.Expr, x: sympy.Symbol) -> sympy.Expr:
    """d/dx of a function that may have kinks and jumps, and of a sum of deltas times numbers.

    >>> x = sympy.Symbol("x", real=True)
    >>> derivative(x * sympy.Heaviside(x), x), derivative(sympy.Abs(x), x), derivative(sympy.sign(x), x)
    (Heaviside(x), 2*Heaviside(x) - 1, 2*DiracDelta(x))
    """
    parts = sympy.Add.make_args(expression)
    sharp = sympy.Add(*(part for part in parts if part.has(sympy.DiracDelta)))
    smooth = sympy.Add(*(part for part in parts if not part.has(sympy.DiracDelta)))
    found = pieces(smooth, x)
    result = found.values[0].diff(x) + sharp.diff(x)
    for point, (before, after) in zip(found.points, pairwise(found.values), strict=True):
        jump = (after - before).subs(x, point)
        if not jump.is_finite:
            raise NoClosedForm(f"{smooth} is infinite at {point}")
        result += (after - before).diff(x) * sympy.Heaviside(x - point)
        result += 0 if is_zero(jump) else jump * sympy.DiracDelta(x - point)
    return sympy.expand(result)
