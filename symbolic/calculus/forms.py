"""Integrands as sums of products of elementary factors of affine forms in the fields: what the Gaussian rules take.

`expand` reads an expression into `Term`s.  Kinks and steps of one field go piece by piece (`steps`), so that a product
keeps at most one step of each form: H(l - a) H(l - b) = H(l - max(a, b)).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import sympy

from quenched.symbolic.calculus.normal import Phi
from quenched.symbolic.calculus.steps import KINKS, NoClosedForm, in_steps, number_key

__all__ = ["HALF", "ONE", "ZERO", "Form", "Term", "add", "expand", "fields"]

ZERO, ONE, HALF = sympy.Integer(0), sympy.Integer(1), sympy.Rational(1, 2)


def fields(n: int) -> tuple[sympy.Symbol, ...]:
    """The local fields x0 .. x(n-1)."""
    return tuple(sympy.Symbol(f"x{i}", real=True) for i in range(n))


@dataclass(frozen=True)
class Form:
    """An affine form sum_i coefficient_i x_i + constant of the fields."""

    linear: tuple[tuple[sympy.Symbol, sympy.Expr], ...]
    constant: sympy.Expr = ZERO

    @property
    def key(self) -> tuple[Any, ...]:
        """Canonical order of forms, the same in every process."""
        return tuple((x.name, c.sort_key()) for x, c in self.linear), self.constant.sort_key()

    @property
    def name(self) -> str:
        """A short name for generated variables: the indices of the fields it contains."""
        return "".join(x.name.removeprefix("x") for x, _ in self.linear)

    def scaled(self, factor: sympy.Expr) -> Form:
        """factor times the form."""
        return Form(tuple((x, c * factor) for x, c in self.linear), self.constant * factor)

    def expression(self) -> sympy.Expr:
        """As a sympy expression."""
        return sympy.Add(*(c * x for x, c in self.linear), self.constant)

    def is_field(self) -> bool:
        """Whether it is one of the fields itself."""
        return len(self.linear) == 1 and self.linear[0][1] == 1 and self.constant == 0


def form(expression: sympy.Expr, variables: Sequence[sympy.Symbol], where: str) -> Form:
    """Read an affine form; anything else is refused, naming the function `where` it stands."""
    expression = sympy.expand(expression)
    linear = tuple((x, expression.coeff(x, 1)) for x in variables if expression.has(x))
    constant = expression.subs(dict.fromkeys(variables, 0))
    if (
        any(c.has(*variables) for _, c in linear)
        or sympy.expand(expression - constant - sympy.Add(*(c * x for x, c in linear))) != 0
    ):
        raise NoClosedForm(f"{where}({expression}): the argument is not linear in the fields")
    return Form(tuple((x, c) for x, c in linear if c != 0), constant)


@dataclass(frozen=True)
class Term:
    """coefficient * prod x^powers * prod Heaviside(steps) * prod Phi(softs) * prod delta(deltas)
    * prod delta^(n)(slopes) * prod exp(-tilt^2/2) * exp(shift) * wave, where wave is cos or sin of a form.
    """

    coefficient: sympy.Expr = ONE
    powers: tuple[tuple[sympy.Symbol, int], ...] = ()
    steps: tuple[Form, ...] = ()
    softs: tuple[Form, ...] = ()
    deltas: tuple[Form, ...] = ()
    tilts: tuple[Form, ...] = ()
    shift: Form | None = None
    wave: tuple[str, Form] | None = None
    slopes: tuple[tuple[Form, int], ...] = ()


def _sorted(forms: Iterable[Form]) -> tuple[Form, ...]:
    return tuple(sorted(forms, key=lambda f: f.key))


def _distinct_steps(steps: set[Form]) -> tuple[Form, ...]:
    """Of the steps H(l + c) of the same l, that of the smallest c: it implies the others."""
    kept: dict[Any, Form] = {}
    for step in _sorted(steps):
        key: Any = step.linear if step.constant.is_number else step
        if key not in kept or number_key(step.constant) < number_key(kept[key].constant):
            kept[key] = step
    return _sorted(kept.values())


def _multiply(left: Term, right: Term) -> list[Term]:
    """Product of two terms."""
    powers: dict[sympy.Symbol, int] = dict(left.powers)
    for x, n in right.powers:
        powers[x] = powers.get(x, 0) + n
    steps = _distinct_steps({*left.steps, *right.steps})
    deltas = _sorted(left.deltas + right.deltas)
    if len(set(deltas)) < len(deltas):
        raise NoClosedForm(
            f"delta({deltas[0].expression()})^2: the derivative of a discontinuity is not square-integrable"
        )
    shift = left.shift or right.shift
    if left.shift and right.shift:
        shift = add(left.shift, right.shift)
    product = Term(
        left.coefficient * right.coefficient,
        tuple(sorted(powers.items(), key=lambda item: item[0].name)),
        steps,
        _sorted(left.softs + right.softs),
        deltas,
        _sorted(left.tilts + right.tilts),
        shift,
        slopes=tuple(sorted(left.slopes + right.slopes, key=lambda item: item[0].key)),
    )
    if not (left.wave and right.wave):
        return [replace(product, wave=left.wave or right.wave)]
    (a, f), (b, g) = left.wave, right.wave  # product to sum
    plus, minus = add(f, g), add(f, g.scaled(-ONE))
    if a == b:
        sign = ONE if a == "cos" else -ONE
        waves = [("cos", minus, HALF), ("cos", plus, sign * HALF)]
    else:
        waves = [("sin", plus, HALF), ("sin", minus, HALF if a == "sin" else -HALF)]
    return [
        replace(product, coefficient=product.coefficient * weight, wave=(kind, argument))
        for kind, argument, weight in waves
    ]


def add(f: Form, g: Form) -> Form:
    """Their sum."""
    coefficients = dict(f.linear)
    for x, c in g.linear:
        coefficients[x] = coefficients.get(x, ZERO) + c
    linear = tuple((x, c) for x, c in sorted(coefficients.items(), key=lambda item: item[0].name) if c != 0)
    return Form(linear, f.constant + g.constant)


def _products(left: list[Term], right: list[Term]) -> list[Term]:
    return _collect(product for a in left for b in right for product in _multiply(a, b))


def _collect(terms: Iterable[Term]) -> list[Term]:
    """Add up the coefficients of equal products."""
    total: dict[Term, sympy.Expr] = {}
    for term in terms:
        bare = replace(term, coefficient=ONE)
        total[bare] = total.get(bare, ZERO) + term.coefficient
    return [replace(bare, coefficient=sympy.expand(c)) for bare, c in total.items() if sympy.expand(c) != 0]


def _scaled(terms: list[Term], factor: sympy.Expr) -> list[Term]:
    return [replace(term, coefficient=term.coefficient * factor) for term in terms]


def _step(argument: Form) -> list[Term]:
    """Heaviside of a form, scaled to a leading coefficient of 1 by H(-l) = 1 - H(l); of a constant, with H(0) = 1/2."""
    if not argument.linear:
        return [Term(sympy.Heaviside(argument.constant, HALF))] if argument.constant >= 0 else []
    slope = argument.linear[0][1]
    step = Term(steps=(argument.scaled(1 / slope),))
    return [step] if slope > 0 else [Term(), replace(step, coefficient=-ONE)]


def _gaussian_factor(exponent: sympy.Expr, variables: Sequence[sympy.Symbol]) -> list[Term]:
    """exp of a polynomial of degree <= 2 whose quadratic part is negative: complete the square, one field at a time."""
    exponent = sympy.expand(exponent)
    tilts: list[Form] = []
    for x in variables:
        curvature = exponent.coeff(x, 2)
        if curvature == 0:
            continue
        if not curvature.is_number or curvature > 0:
            raise NoClosedForm(f"exp({exponent}): not square-integrable under a Gaussian of large variance")
        slope = exponent.coeff(x, 1)
        square = sympy.sqrt(-2 * curvature) * (x + slope / (2 * curvature))
        tilts.append(form(square, variables, "exp"))
        exponent = sympy.expand(exponent + square**2 / 2)
    rest = form(exponent, variables, "exp")
    weight = sympy.exp(rest.constant)
    shift = Form(rest.linear) if rest.linear else None
    return [Term(weight, tilts=_sorted(tilts), shift=shift)]


def expand(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> list[Term]:
    """Write the integrand as a sum of `Term`s; a factor that no rule covers raises `NoClosedForm`."""
    if not expression.has(*variables):
        return [Term(expression)] if expression != 0 else []
    if expression in variables:
        return [Term(powers=((expression, 1),))]
    if isinstance(expression, sympy.Add):
        return _collect(term for part in expression.args for term in expand(part, variables))
    if isinstance(expression, sympy.Mul):
        return reduce(_products, (expand(part, variables) for part in expression.args))
    if isinstance(expression, sympy.Pow) and expression.exp.is_Integer and expression.exp > 0:
        return _power(expand(expression.base, variables), int(expression.exp))
    if expression.has(*KINKS):
        return _kinked(expression, variables)
    if not isinstance(expression, sympy.Function):
        raise NoClosedForm(f"{expression}: no rule averages it")
    return _factor(expression, variables)


def _power(base: list[Term], exponent: int) -> list[Term]:
    """By repeated multiplication, which keeps equal products together."""
    result = base
    for _ in range(exponent - 1):
        result = _products(result, base)
    return result


def _kinked(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> list[Term]:
    """A function with a kink: piece by piece if it is one of a single field, else by steps of forms."""
    present = [x for x in variables if expression.has(x)]
    if isinstance(expression, sympy.Heaviside) and _is_affine(expression.args[0], variables):
        return _step(form(expression.args[0], variables, "Heaviside"))
    if len(present) == 1:
        return expand(in_steps(expression, present[0]), variables)
    argument = expression.args[0]
    if isinstance(expression, (sympy.Max, sympy.Min)):
        return expand(_by_steps(expression), variables)
    if isinstance(expression, sympy.Abs):
        return expand(2 * argument * sympy.Heaviside(argument) - argument, variables)
    if isinstance(expression, sympy.sign):
        return expand(2 * sympy.Heaviside(argument) - 1, variables)
    if isinstance(expression, sympy.Heaviside):
        return _step(form(argument, variables, "Heaviside"))
    raise NoClosedForm(f"{expression}: a kink of several fields inside another function")


def _is_affine(argument: sympy.Expr, variables: Sequence[sympy.Symbol]) -> bool:
    return bool(argument.is_polynomial(*variables) and sympy.Poly(argument, *variables).total_degree() <= 1)


def _factor(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> list[Term]:
    """One elementary function."""
    argument = expression.args[0]
    name = type(expression).__name__
    if isinstance(expression, sympy.exp):
        return _gaussian_factor(argument, variables)
    if isinstance(expression, Phi):
        return [Term(softs=(form(argument, variables, name),))]
    if isinstance(expression, (sympy.erf, sympy.erfc)):
        soft = Term(2 * ONE, softs=(form(sympy.sqrt(2) * argument, variables, name),))
        one = Term(-ONE)
        return [soft, one] if isinstance(expression, sympy.erf) else _scaled([soft, Term(-2 * ONE)], -ONE)
    if isinstance(expression, (sympy.cos, sympy.sin)):
        return [Term(wave=(name, form(argument, variables, name)))]
    if isinstance(expression, sympy.DiracDelta):
        delta = form(argument, variables, name)
        scale = delta.linear[0][1]
        if len(expression.args) > 1:
            order = int(expression.args[1])
            if len(delta.linear) > 1:
                raise NoClosedForm(f"{expression}: the derivative of a delta of several fields")
            unit = delta.scaled(1 / scale)
            return [Term(1 / (sympy.Abs(scale) * scale**order), slopes=((unit, order),))]
        return [Term(1 / sympy.Abs(scale), deltas=(delta.scaled(1 / scale),))]
    raise NoClosedForm(f"{name}({argument}): no rule averages it")


def _by_steps(extremum: sympy.Expr) -> sympy.Expr:
    """The largest (or smallest) of several: each argument where it exceeds all others.

    >>> _by_steps(sympy.Max(0, sympy.Symbol("x", real=True)))
    x*Heaviside(x)
    """
    sign = ONE if isinstance(extremum, sympy.Max) else -ONE
    arguments = extremum.args
    if len(arguments) == 2:
        first, second = arguments
        return (
            second + (first - second) * sympy.Heaviside(sign * (first - second))
            if first.free_symbols
            else (first + (second - first) * sympy.Heaviside(sign * (second - first)))
        )
    return sympy.Add(
        *(p * sympy.Mul(*(sympy.Heaviside(sign * (p - q)) for q in arguments if q != p)) for p in arguments)
    )
