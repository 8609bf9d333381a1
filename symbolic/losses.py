"""The losses: what a learner is charged for the output phi where the label is y.

A loss is one entry of `quenched.symbolic.language.grammar.LOSSES`: a name and an expression in phi and y, of which the
derivatives by phi are taken here.  What overflows is rewritten first, by two identities,

    log(1 + exp(z)) = max(z, 0) + log1p(exp(-|z|)),   exp(z)/(1 + exp(z)) = (1 + tanh(z/2))/2,

so that a logistic loss and its slope are right to rounding at any margin.

A loss of degree 2 in phi has the slope F = dl/dphi = F_0 + F_1 phi; its averages over the sample open into averages of
products of the activation.  The label noise epsilon ~ N(0, Delta^2) on y is averaged here, where the loss is a
polynomial, by the moments E epsilon^2n = (2n - 1)!! Delta^2n.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import sympy
from sympy.codegen.cfunctions import log1p

from quenched.symbolic.classes import CLASS_FORMULAS
from quenched.symbolic.language import emit
from quenched.symbolic.language.grammar import LOSS, LOSSES
from quenched.symbolic.language.notation import Derived, Formula
from quenched.symbolic.language.parse import parse

__all__ = [
    "FORMULAS",
    "LABEL",
    "NOISE",
    "ORDER",
    "OUTPUT",
    "PART",
    "STATUS",
    "TITLE",
    "Loss",
    "derivations",
    "generated",
    "label_noise_average",
    "loss_module",
]

TITLE = "Losses"
PART, ORDER = "learning", 1
STATUS = "Exact."
FORMULAS = CLASS_FORMULAS  # of several outputs: `quenched.symbolic.classes`

OUTPUT, LABEL, _SHIFT = sympy.symbols("phi y zeta", real=True)
NOISE = sympy.Symbol("Delta", positive=True)


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
    >>> Loss("logistic", LOSSES["logistic"]).slope
    -y*(1/2 - tanh(phi*y/2)/2)
    """

    name: str
    text: str

    @cached_property
    def expression(self) -> sympy.Expr:
        """l(phi, y) as it is written."""
        expression = parse(self.text, LOSS)
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


_LOSS = '''class Loss(NamedTuple):
    """A loss l: value, slope F = dl/dphi and curvature d^2l/dphi^2 (away from kinks), as functions of phi and y.

    moments: (phi, y, Delta) -> F and F^2 averaged over the label noise Delta N(0, 1) on y, for a polynomial.
    coefficients: (y, Delta) -> the coefficients of phi^n in l (n = 0, 1, 2), in F (0, 1) and in F^2 (0, 1, 2), the
    latter two averaged over the label noise, for a polynomial of degree 2 in phi.
    invariant: whether l depends on phi - y alone.
    """

    text: str
    value: Callable[..., float]
    slope: Callable[..., float]
    curvature: Callable[..., float]
    moments: Callable[..., tuple[float, ...]] | None
    coefficients: Callable[..., tuple[float, ...]] | None
    invariant: bool'''


def loss_module(table: Mapping[str, str], docstring: str, source: str) -> str:
    """A module with the given losses (name -> text) and the table `LOSSES` of them."""
    return emit.header(source, docstring, _losses(table))


def generated() -> str:
    """The losses that have a name."""
    return _losses(LOSSES)


def derivations() -> list[Formula]:
    """Value, slope and curvature of each, for the document."""
    return [
        Formula(
            name,
            f"l, dl/dphi and d^2l/dphi^2 of l = {text}.",
            (OUTPUT, LABEL),
            Derived((l.value, l.slope, l.curvature)),
        )
        for name, text in LOSSES.items()
        for l in [Loss(name, text)]
    ]


def _losses(table: Mapping[str, str]) -> str:
    phi, y, Delta = OUTPUT, LABEL, NOISE
    parts, entries = [_LOSS], []
    for name, text in table.items():
        loss = Loss(name, text)
        members = [f'"{text}"']
        titles = {"value": "l(phi, y)", "slope": "dl/dphi", "curvature": "d^2l/dphi^2 away from kinks"}
        for label, title in titles.items():
            found = getattr(loss, label)
            shape = "" if found.has(phi) else " + 0*phi"
            signature = f"def {name}_{label}(phi: float, y: float) -> float:"
            value = emit.wrap(f"    return {emit.code(found)}{shape}")
            parts.append(f'{signature}\n    """{title} for l = {text}."""\n{value}')
            members.append(f"{name}_{label}")
        for label, title, arguments in (
            ("moments", "F and F^2 averaged over the label noise", (phi, y, Delta)),
            ("coefficients", "Of phi^n in l, and in F and F^2 averaged over the label noise,", (y, Delta)),
        ):
            found = getattr(loss, label)
            members.append(f"{name}_{label}" if found else "None")
            if found:
                formula = Formula(f"{name}_{label}", f"{title} for l = {text}.", arguments, Derived(found))
                parts.append(emit.function(formula))
        members.append(str(loss.invariant))
        entries.append(emit.entry(name, "Loss", members))
    parts.append("LOSSES: dict[str, Loss] = {\n" + "\n".join(entries) + "\n}")
    return "\n\n\n".join(parts)
