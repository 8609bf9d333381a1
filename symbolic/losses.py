"""The losses: what a learner is charged for the output phi where the label is y.

A loss is one entry of `BUILTIN`: a name and an expression in phi and y, of which the derivatives by phi are taken here.
What overflows is rewritten first, by two identities,

    log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|)),   exp(z)/(1 + exp(z)) = (1 + tanh(z/2))/2,

so that a logistic loss and its slope are right to rounding at any margin.

A loss of degree 2 in phi has the slope F = dl/dphi = F_0 + F_1 phi; its averages over the sample open into averages of
products of the activation.  The label noise zeta ~ N(0, Delta^2) on y is averaged here, where the loss is a polynomial,
by the moments E zeta^2n = (2n - 1)!! Delta^2n.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy
from sympy.codegen.cfunctions import log1p

from quenched.symbolic.language.parse import parse

__all__ = ["BUILTIN", "LABEL", "NOISE", "OUTPUT", "Loss", "label_noise_average"]

OUTPUT, LABEL, _SHIFT = sympy.symbols("phi y zeta", real=True)
NOISE = sympy.Symbol("Delta", positive=True)

BUILTIN: dict[str, str] = {
    "square": "(phi - y)**2/2",
    "logistic": "log(1 + exp(-y*phi))",
}
"""The losses that have a name; a rule may also be given an expression in phi and y."""


class _Softplus(sympy.Function):
    """log(1 + exp(z))."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        return _Sigmoid(self.args[0])


class _Sigmoid(sympy.Function):
    """exp(z)/(1 + exp(z))."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> sympy.Expr:
        z = self.args[0]
        return _Sigmoid(z) * (1 - _Sigmoid(z))


def _recognise(expression: sympy.Expr) -> sympy.Expr:
    """log(1 + exp(z)) and 1/(1 + exp(z)) as functions of z."""

    def exponent(e: sympy.Basic) -> sympy.Expr | None:
        if isinstance(e, sympy.Add) and len(e.args) == 2 and e.args[0] == 1 and isinstance(e.args[1], sympy.exp):
            return e.args[1].args[0]
        return None

    found = expression.replace(
        lambda e: isinstance(e, sympy.log) and exponent(e.args[0]) is not None,
        lambda e: _Softplus(exponent(e.args[0])),
    )
    return found.replace(
        lambda e: isinstance(e, sympy.Pow) and e.exp.is_Integer and e.exp < 0 and exponent(e.base) is not None,
        lambda e: (1 - _Sigmoid(exponent(e.base))) ** (-e.exp),
    )


def _stable(expression: sympy.Expr) -> sympy.Expr:
    """The same in functions that do not overflow."""
    return expression.replace(_Softplus, lambda z: sympy.Max(z, 0) + log1p(sympy.exp(-sympy.Abs(z)))).replace(
        _Sigmoid, lambda z: (1 + sympy.tanh(z / 2)) / 2
    )


def label_noise_average(polynomial: sympy.Expr) -> sympy.Expr:
    """E over zeta ~ N(0, Delta^2) of a polynomial in phi and y + zeta.

    >>> label_noise_average((OUTPUT - LABEL) ** 2)
    Delta**2 + phi**2 - 2*phi*y + y**2
    """
    total = sympy.Integer(0)
    for (power,), coefficient in sympy.Poly(polynomial.subs(LABEL, LABEL + _SHIFT), _SHIFT).terms():
        if power % 2 == 0:
            total += coefficient * NOISE**power * (sympy.factorial2(power - 1) if power else 1)
    return sympy.expand(total)


@dataclass(frozen=True)
class Loss:
    """A loss l(phi, y), its slope dl/dphi and its curvature d^2l/dphi^2 away from kinks.

    >>> Loss("square", "(phi - y)**2/2").slope
    phi - y
    >>> Loss("logistic", BUILTIN["logistic"]).slope
    -y*(1/2 - tanh(phi*y/2)/2)
    """

    name: str
    text: str

    @cached_property
    def expression(self) -> sympy.Expr:
        """l(phi, y) as it is written."""
        expression = parse(self.text, {"phi": OUTPUT, "y": LABEL}, "loss")
        if not expression.has(OUTPUT):
            raise ValueError(f"loss {self.text!r} does not depend on the output phi: nothing would be learned")
        return expression

    @cached_property
    def polynomial(self) -> bool:
        """Whether averages of it open into averages of products of the activation."""
        return bool(self.expression.is_polynomial(OUTPUT, LABEL))

    @cached_property
    def value(self) -> sympy.Expr:
        """l(phi, y), stable."""
        return _stable(_recognise(self.expression))

    def _derivative(self, order: int) -> sympy.Expr:
        found = _recognise(self.expression).diff(OUTPUT, order).replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
        return _stable(sympy.factor(found))

    @cached_property
    def slope(self) -> sympy.Expr:
        """dl/dphi."""
        return self._derivative(1)

    @cached_property
    def curvature(self) -> sympy.Expr:
        """d^2l/dphi^2 away from the kinks of l."""
        return self._derivative(2)

    @cached_property
    def moments(self) -> tuple[sympy.Expr, sympy.Expr] | None:
        """dl/dphi and its square, averaged over the label noise; None where the loss is not a polynomial."""
        if not self.polynomial:
            return None
        slope = self.expression.diff(OUTPUT)
        first, second = label_noise_average(slope), label_noise_average(slope**2)
        # F^2 and the variance, not the expanded square, which may round below 0
        return sympy.factor(first), sympy.factor(first) ** 2 + sympy.factor(sympy.expand(second - first**2))

    @cached_property
    def coefficients(self) -> tuple[sympy.Expr, ...] | None:
        """Coefficients of phi^n in l (n = 0, 1, 2), and in F (0, 1) and F^2 (0, 1, 2) averaged over the label noise.

        None where l is not a polynomial, or of a degree above 2 in phi.
        """
        if not self.polynomial or sympy.degree(self.expression, OUTPUT) > 2:
            return None
        slope = self.expression.diff(OUTPUT)
        parts = ((self.expression, 3), (label_noise_average(slope), 2), (label_noise_average(slope**2), 3))
        return tuple(sympy.expand(part).coeff(OUTPUT, n) for part, count in parts for n in range(count))

    @cached_property
    def invariant(self) -> bool:
        """Whether the loss is a function of phi - y alone."""
        return bool(sympy.simplify(self.expression.diff(OUTPUT) + self.expression.diff(LABEL)) == 0)
