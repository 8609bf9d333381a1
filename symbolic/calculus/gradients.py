"""The averages of the activations, differentiated: what the exact Jacobian of the learning equations is made of.

By Price's theorem, for a product F = prod_i F_i(x_i) over distinct fields,

    d E[F]/dm_i = E[F with F_i'],   d E[F]/dc_ij = E[F with F_i' and F_j'],   d E[F]/dc_ii = E[F with F_i'']/2,

averages of the same kind, which the rules of `quenched.symbolic.calculus.gaussian` reduce.  Derivatives are those of
distributions: a kink of g brings a delta, and g'' of it a derivative of a delta.

The tangent of the equations themselves, polynomials in arrays, is that of `quenched.symbolic.language.arrays`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import sympy

from quenched.symbolic.activations import BUILTIN, Activation, Group, group_symbols
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.steps import derivative, in_steps
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.language.parse import VARIABLE

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "derivations", "gradient"]

TITLE = "Derivatives of averages"
PART, ORDER = "calculus", 3
STATUS = "Exact."


@cache
def _factor(activation: Activation, factors: str) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """F, F' and F'' of the product of factors on one field."""
    value = in_steps(activation.integrand(factors).subs(fields(1)[0], VARIABLE), VARIABLE)
    first = derivative(value, VARIABLE)
    return value, first, derivative(first, VARIABLE)


def gradient(kinds: Sequence[Activation], group: Group, fixed: int = 0) -> Derived:
    """Derivatives of the values of a group of averages over fields of these `kinds`, each to its arguments in order.

    Arguments of the last `fixed` fields alone, such as a teacher's, have none.

    >>> relu = Activation("relu", "Max(x, 0)")
    >>> of_the_mean = gradient([relu], relu.group(1)).explicit()[4:6]  # of E[x H(x)]: E[H] and E[delta]/2
    >>> of_the_mean[0]
    Phi(m0/sqrt(c00))
    """
    n, moving = group.n, group.n - fixed
    variables = fields(n)
    means, covariance = group_symbols(n)
    algebra = GaussianAlgebra(variables, means, covariance)
    parts: dict[int, list[tuple[sympy.Expr, sympy.Expr, sympy.Expr]]] = {}
    for layout, place in group.index.items():
        if place not in parts:
            parts[place] = [_factor(kind, factors) for kind, factors in zip(kinds, layout.split(","), strict=True)]

    def average(place: int, orders: list[int]) -> sympy.Expr:
        chosen = zip(variables, parts[place], orders, strict=True)
        return algebra.reduce(sympy.Mul(*(factor[order].subs(VARIABLE, x) for x, factor, order in chosen)))

    values = []
    for place in range(len(group.derived.values)):
        values += [average(place, [int(i == j) for j in range(n)]) for i in range(moving)]
        for i in range(moving):
            values.append(average(place, [2 * int(i == j) for j in range(n)]) / 2)
            values += [average(place, [int(k in (i, j)) for k in range(n)]) for j in range(i + 1, n)]
    return Derived(tuple(values), tuple(algebra.definitions), tuple(algebra.steps))


def derivations() -> list[Formula]:
    """The gradient of one average, for the document; those of all others are generated alike."""
    relu = Activation("relu", BUILTIN["relu"])
    group = relu.group(1, ["g"])
    found = gradient([relu], group)
    lines = [
        Step("Price", rf"\frac{{\partial}}{{\partial {latex(argument)}}} \langle g_{{0}}\rangle = {latex(value)}")
        for argument, value in zip(group.arguments, found.values, strict=True)
    ]
    told = "The average of relu, differentiated by the mean and by the variance of its field."
    return [Formula("gradient_of_relu", told, (), Derived(found.values, found.definitions, (*found.steps, *lines)))]
