"""Thresholds and an intercept: lambda_k = w_k.x/sqrt(D) + b_k and phi = s sum_i v_i g(lambda_i) + c.

Their gradients are those that weights and readouts have already, and each may have a rate of its own:

    b_k <- b_k - eta_b/D <dl/db_k> - (eta_b kappa_b/D) b_k,       dl/db_k = dl/dlambda_k
    c <- c - eta_c/D <dl/dc> - (eta_c kappa_c/D) c,               dl/dc = dl/dphi

One unit of time is D steps, as for the readouts: the increments add up to rates, their fluctuations to D^(-1/2).  So
db_k/dt asks for the force of `quenched.symbolic.learners.two_layer`, and dc/dt for the average slope of the loss.  In
the averages b_k shifts the mean of lambda_k, and c shifts phi: a polynomial in phi at phi + c is another polynomial in
phi.  No average is new.
"""

from __future__ import annotations

import sympy
from sympy import Function, IndexedBase, Symbol

from quenched.symbolic.language.arrays import array_function, tangent
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.learners import two_layer
from quenched.symbolic.learners.two_layer import P, a, dg, force, g, in_cluster, k, phi, s, v

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "derivations", "generated", "moves", "rates", "shifted", "slope"]

TITLE = "Thresholds and intercept"
PART, ORDER = "learning", 4
STATUS = "Exact as D grows at fixed t, like the equations that they belong to."

b, mean_slope = IndexedBase("b"), IndexedBase("slope")
c = Symbol("c", real=True)
eta_b, kappa_b, eta_c, kappa_c = sympy.symbols("eta_b kappa_b eta_c kappa_c", positive=True)
F0, F1 = IndexedBase("F0"), IndexedBase("F1")


def moves() -> dict[str, sympy.Expr]:
    """dphi by lambda_k, v_k, b_k and c, of the terms of phi that neuron k and the intercept make.

    >>> found = moves()
    >>> found["b"] == found["lambda"], found["c"]
    (True, 1)
    """
    field, threshold, readout = sympy.symbols("h_k b_k v_k", real=True)  # h_k = w_k.x/sqrt(D)
    value = Function("g")(field + threshold)
    output = s * readout * value + c
    found = {}
    for name, x in (("lambda", field), ("v", readout), ("b", threshold), ("c", c)):
        moved = output.diff(x).doit()
        moved = moved.replace(lambda part: isinstance(part, (sympy.Derivative, sympy.Subs)), lambda _: dg(k))
        found[name] = moved.subs({value: g(k), readout: v[k]})
    return found


def slope() -> sympy.Expr:
    """E_a[dl/dc] of a loss with dl/dphi = F0_a + F1_a phi."""
    return in_cluster((F0[a] + F1[a] * phi) * moves()["c"])


def rates() -> tuple[sympy.Expr, sympy.Expr]:
    """db_k/dt and dc/dt, by the averages of a step.  The push of a threshold is that of its neuron's field."""
    if sympy.expand(moves()["b"] - moves()["lambda"]) != 0:
        raise ArithmeticError("the gradient by a threshold is not that by its field: its average is not the force")
    return (
        -eta_b * P[a] * force[a, k] - eta_b * kappa_b * b[k],
        -eta_c * P[a] * mean_slope[a] - eta_c * kappa_c * c,
    )


def shifted() -> dict[str, sympy.Expr]:
    """The slope F0 + F1 phi of a loss and its square S0 + S1 phi + S2 phi^2, both at phi + c: their coefficients.

    >>> shifted()["F0"]
    c*F1[a] + F0[a]
    """
    found = {}
    for letter, degree in (("F", 1), ("S", 2)):
        value = sum(IndexedBase(f"{letter}{n}")[a] * (phi + c) ** n for n in range(degree + 1))
        for n in range(degree + 1):
            found[f"{letter}{n}"] = sympy.expand(value).coeff(phi, n)
    return {name: value for name, value in found.items() if value.has(c)}  # F1 and S2 stay as they are


_MEANINGS = {
    "P": "(C,) weights of the clusters",
    "force": "(C, K) E_a[dl/dlambda_k]",
    "slope": "(C,) E_a[dl/dphi]",
    "b": "(K,) thresholds",
    "c": "intercept",
    "c_z": "(Z,)",
    "v": "(K,) readout",
    "F0": "(C,) of dl/dphi = F0 + F1 phi",
    "F1": "(C,)",
    "S0": "(C,) of (dl/dphi)^2 = S0 + S1 phi + S2 phi^2",
    "S1": "(C,)",
    "S2": "(C,)",
    "averages": """averages["g"][a, i] = E_a[g(lambda_i)]""",
    "averages_z": "its tangents",
    "s": "output scale",
    "eta_b": "learning rate of the thresholds",
    "kappa_b": "and their decay",
    "eta_c": "learning rate of the intercept",
    "kappa_c": "and its decay",
}


def generated() -> str:
    """The functions of theory/biases.py."""
    db, dc = rates()
    moved, average = shifted(), slope()
    parts = (
        (
            "mean_slope",
            "F0 F1 v averages ; s",
            {"slope": (average, "a")},
            "E_a[dl/dphi] where dl/dphi = F0_a + F1_a phi.",
        ),
        (
            "mean_slope_tangent",
            "F1 v v_z averages averages_z ; s",
            {"slope_z": (tangent(average, frozenset({"F0", "F1"})), "az")},
            "Tangent of `mean_slope` along directions z, the last index of all that ends in _z.",
        ),
        (
            "bias_rates",
            "P force slope b ; c eta_b kappa_b eta_c kappa_c",
            {"db": (db, "k"), "dc": (dc, "")},
            "Time derivatives of thresholds and intercept.",
        ),
        (
            "bias_rates_tangent",
            "P force_z slope_z b_z c_z ; eta_b kappa_b eta_c kappa_c",
            {"db_z": (tangent(db, frozenset({"P"})), "kz"), "dc_z": (tangent(dc, frozenset({"P"}), (c,)), "z")},
            "Tangent of `bias_rates` along directions z, the last index of all that ends in _z.",
        ),
        (
            "shifted",
            "F0 F1 S0 S1 S2 ; c",
            {f"{name}_c": (value, "a") for name, value in moved.items()},
            "F0, S0 and S1 of a loss at the output phi + c, a polynomial in phi like that at phi; F1 and S2 stay.",
        ),
        (
            "shifted_slope",
            "F1 S1 S2 ; c",
            {f"{name}_c": (value.diff(c), "a") for name, value in moved.items()},
            "How the outcomes of `shifted` change with c.",
        ),
    )
    texts = [array_function(*part, patterns=two_layer.AVERAGES, meanings=_MEANINGS) for part in parts]
    return "\n\n\n".join(texts)


def derivations() -> list[Formula]:
    """The gradients, the rates and the shift of the loss, as a section of the document."""
    names = {"lambda": r"\lambda_k", "v": "v_k", "b": "b_k", "c": "c"}
    gradients = [
        Step("Gradient", rf"\frac{{\partial\phi}}{{\partial {names[name]}}} = {latex(value)}")
        for name, value in moves().items()
    ]
    db, dc = rates()
    lines = [("db_k/dt", db), ("dc/dt", dc), (r"\mathrm{slope}_a", slope())]
    averaged = [Step("Average over the sample", f"{left} = {latex(value)}") for left, value in lines]
    letters = shifted().items()
    written = [Step("At the output phi + c", rf"{name[0]}_{name[1]} \to {latex(value)}") for name, value in letters]
    told = (
        ("moves", "What the output changes by: a threshold acts as its field does.", gradients),
        ("bias_rates", "The rates, by the force of a step and the average slope of the loss.", averaged),
        ("shifted", "An intercept changes the coefficients in phi of the slope of a loss and of its square.", written),
    )
    return [Formula(name, text, (), Derived(sympy.Integer(0), steps=tuple(steps))) for name, text, steps in told]
