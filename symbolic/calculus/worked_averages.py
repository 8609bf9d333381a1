"""Two averages in full, by the steps that the algebra itself takes: one of an activation with a kink, one of a smooth
one.

Each line names the rule that it applies.  The last line of each is a check: for centred fields the averages are
elementary, the second one by the arcsine law, as Saad and Solla 1995 have it.
"""

from __future__ import annotations

import sympy

from quenched.symbolic.activations import BUILTIN, Activation, group_symbols
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi2
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "centred", "derivations", "in_full"]

TITLE = "Two averages in full"
PART, ORDER = "calculus", 4
STATUS = "Exact."

_MEANING = {"dg,g": r"\langle g'_{0}\,g_{1}\rangle", "g,g": r"\langle g_{0}\,g_{1}\rangle"}


def centred(value: sympy.Expr) -> sympy.Expr:
    """The average of two fields at zero means, with Phi_2(0, 0; r) = 1/4 + (the integral of Plackett's derivative).

    >>> r = sympy.Symbol("r", real=True)
    >>> centred(Phi2(0, 0, r))
    (2*asin(r) + pi)/(4*pi)
    """
    means, _ = group_symbols(2)
    s = sympy.Symbol("s", real=True)

    def probability(h: sympy.Expr, k: sympy.Expr, r: sympy.Expr) -> sympy.Expr:
        if (h, k) != (0, 0):
            return Phi2(h, k, r)
        slope = Phi2(h, k, s).diff(s).doit()
        return sympy.Rational(1, 4) + sympy.integrate(slope, s).subs(s, r)

    found = value.subs(dict.fromkeys(means, 0)).replace(Phi2, probability)
    return sympy.simplify(found.doit())


def in_full(name: str, layout: str) -> Derived:
    """One average over two fields: the integrand, each step, the result, and the same for centred fields."""
    activation = Activation(name, BUILTIN[name])
    means, covariance = group_symbols(2)
    algebra = GaussianAlgebra(fields(2), means, covariance)
    integrand = activation.integrand(layout)
    value = algebra.reduce(integrand)
    explicit = Derived(value, tuple(algebra.definitions)).explicit()[0]
    steps = (
        Step("Average", rf"{_MEANING[layout]} = E\left[{latex(integrand)}\right]"),
        *algebra.steps,
        Step("Sum of the terms", f"{_MEANING[layout]} = {latex(value)}"),
        Step("Centred fields", rf"m_0 = m_1 = 0:\quad {_MEANING[layout]} = {latex(centred(explicit))}"),
    )
    return Derived(value, tuple(algebra.definitions), steps)


def derivations() -> list[Formula]:
    """relu: E[g'(x_0) g(x_1)]; erf: E[g(x_0) g(x_1)]."""
    told = {
        ("relu", "dg,g"): "The average of g'(x_0) g(x_1), which drives a weight: g' is a step, g a step times a field.",
        ("erf", "g,g"): "The average of g(x_0) g(x_1), which drives a readout: each g is a smooth step, 2 Phi - 1.",
    }
    return [Formula(f"{name}_in_full", text, (), in_full(name, layout)) for (name, layout), text in told.items()]
