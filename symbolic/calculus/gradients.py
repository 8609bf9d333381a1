"""The averages of the activations, differentiated: what the exact Jacobian of the learning equations is made of.

By Price's theorem, for a product F = prod_i F_i(x_i) over distinct fields,

    d E[F]/dm_i = E[F with F_i'],   d E[F]/dc_ij = E[F with F_i' and F_j'],   d E[F]/dc_ii = E[F with F_i'']/2,

averages of the same kind, which the rules of `quenched.symbolic.calculus.gaussian` reduce.  Derivatives are those of
distributions: a kink of g brings a delta, and g'' of it a derivative of a delta.

The equations themselves are polynomials in arrays (`quenched.symbolic.learners.two_layer`); along directions z of the
state, each array X that depends on it has a tangent X_z with one more index, and the product rule gives the tangent of
the equations.
"""

from __future__ import annotations

from functools import cache

import sympy
from sympy import Idx, IndexedBase

from quenched.symbolic.activations import Activation, Group, group_symbols, layouts
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, derivative, fields, in_steps
from quenched.symbolic.language.emit_arrays import array_function
from quenched.symbolic.language.notation import Derived
from quenched.symbolic.language.parse import VARIABLE
from quenched.symbolic.learners import two_layer

__all__ = ["gradient", "tangent", "tangent_functions"]

_DIRECTION = Idx("z")


@cache
def _factor(activation: Activation, factors: str) -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """F, F' and F'' of the product of factors on one field."""
    value = in_steps(activation.integrand(factors).subs(fields(1)[0], VARIABLE), VARIABLE)
    first = derivative(value, VARIABLE)
    return value, first, derivative(first, VARIABLE)


def gradient(activation: Activation, group: Group) -> Derived:
    """Derivatives of the values of a group of averages, each with respect to all its arguments, in their order.

    >>> relu = Activation("relu", "Max(x, 0)")
    >>> of_the_mean = gradient(relu, relu.group(1)).explicit()[4:6]  # of E[x H(x)]: E[H] and E[delta]/2
    >>> of_the_mean[0]
    Phi(m0/sqrt(c00))
    """
    n = group.n
    variables = fields(n)
    means, covariance = group_symbols(n)
    algebra = GaussianAlgebra(variables, means, covariance)
    parts: dict[int, list[tuple[sympy.Expr, sympy.Expr, sympy.Expr]]] = {}
    for layout in layouts(n):
        if (place := group.index[layout]) not in parts:
            parts[place] = [_factor(activation, factors) for factors in layout.split(",")]

    def average(place: int, orders: list[int]) -> sympy.Expr:
        chosen = zip(variables, parts[place], orders, strict=True)
        return algebra.reduce(sympy.Mul(*(factor[order].subs(VARIABLE, x) for x, factor, order in chosen)))

    values = []
    for place in range(len(group.derived.values)):
        values += [average(place, [int(i == j) for j in range(n)]) for i in range(n)]
        for i in range(n):
            values.append(average(place, [2 * int(i == j) for j in range(n)]) / 2)
            values += [average(place, [int(k in (i, j)) for k in range(n)]) for j in range(i + 1, n)]
    return Derived(tuple(values), tuple(algebra.definitions), tuple(algebra.steps))


_FIXED = frozenset({"P", "rho", "share", "mean", "I", "F0", "F1", "S0", "S1", "S2"})


def tangent(expression: sympy.Expr, fixed: frozenset[str] = _FIXED) -> sympy.Expr:
    """The product rule on a polynomial in indexed arrays: X_z[.., z] for each array but the `fixed` ones.

    >>> i, k = Idx("i"), Idx("k")
    >>> tangent(IndexedBase("Q")[k, i] * IndexedBase("v")[i] ** 2)
    2*Q[k, i]*v[i]*v_z[i, z] + Q_z[k, i, z]*v[i]**2
    """
    total = sympy.Integer(0)
    for term in sympy.Add.make_args(sympy.expand(expression)):
        for factor in sympy.Mul.make_args(term):
            base, exponent = factor.as_base_exp()
            if isinstance(base, sympy.Indexed) and str(base.base) not in fixed:
                moved = IndexedBase(f"{base.base}_z")[(*base.indices, _DIRECTION)]
                total += term / base * exponent * moved
    return total


def tangent_functions() -> tuple[str, ...]:
    """The text of the tangents of the functions of `two_layer.functions` along directions z, the last index of X_z."""
    found = two_layer.quadratic()
    step = found.step
    table = {
        "step_averages": (
            "F0 F1 v v_z averages averages_z ; s",
            {"force": (step.force, "ak"), "response": (step.response, "akl"), "readout": (step.readout, "ak")},
        ),
        "step_noise": ("S0 S1 S2 v v_z averages averages_z ; s", {"noise": (step.noise, "akl")}),
        "pull": ("P rho response_z", {"pull": (found.pull, "uki")}),
        "rates": (
            "P rho share mean M M_z R R_z Q Q_z v_z force force_z pull pull_z noise_z readout_z ; "
            "eta kappa eta_v kappa_v B",
            {"dR": (found.dR, "ubk"), "dQ": (found.dQ, "ukl"), "dv": (found.dv, "k")},
        ),
    }
    texts = []
    for name, (parameters, outputs) in table.items():
        moved = {f"{key}_z": (tangent(value), f"{indices}z") for key, (value, indices) in outputs.items()}
        docstring = f"Tangent of `two_layer.{name}` along directions z, the last index of all that ends in _z."
        texts.append(array_function(f"{name}_tangent", parameters, moved, docstring, found.patterns))
    return tuple(texts)
