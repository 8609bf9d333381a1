"""One step of a learning rule, multiplied out in the order parameters: what is left of it as D grows.

A step averages over a batch of B samples x.  It moves w_k along the samples, along itself, and where there is a bath of
temperature T along a normal vector xi_k of its own:

    w_k <- w_k - eta_k/sqrt(D) <push_k x> - (eta_k kappa/D) w_k + sqrt(2 eta_k T/D) xi_k,      push_k = dl/dlambda_k

The increments of R_ubk = w_k.Pi_u r_b/D and Q_ukl = w_k.Pi_u w_l/D follow from a table of inner products, in which only
|x|^2 and |xi|^2 are of order D.  They are of order 1/D, and so is their fluctuation; D steps are one unit of time.

Weights `on_sphere` are scaled back to their length after each step.  The length changes by a fraction of order 1/D, so
that of (|w_k|^2/|w_k + dw_k|^2)^(1/2) the term of first order is all that counts; it holds |dw_k|^2, of second order in
eta_k, which is of the same order in 1/D as the rest.
"""

from __future__ import annotations

from functools import cache

import sympy
from sympy import Function, Idx, IndexedBase, Symbol

__all__ = ["growth", "in_limit", "increments", "inner_product", "multiplied_out", "on_sphere"]

# cluster a, reference vector b, node of the spectrum u, neurons k and l
a, b, u, k, l = (Idx(name) for name in "abukl")
D, B, kappa, T = sympy.symbols("D B kappa T", positive=True)
eta, R, Q, I = (IndexedBase(name) for name in ("eta", "R", "Q", "I"))
S, C, U = (IndexedBase(name) for name in "SCU")  # of velocities p_k: p_k.r_b/D, w_k.p_l/D, p_k.p_l/D
rho, share = IndexedBase("rho"), IndexedBase("share")
nu, lam, pi, push = (Function(name) for name in ("nu", "lambda", "pi", "push"))
chi = Symbol("chi", real=True)
"""Of order 1 and mean 0: the inner product of two independent vectors, over sqrt(D)."""
zeta = Symbol("zeta", real=True)
"""The same of a vector xi of the bath."""

Vector = dict[
    str, sympy.Expr
]  # coefficients of x, of w_k, w_l, p_k, p_l, of xi_k, xi_l and of the reference vector r_b

_INDEX = {"k": k, "l": l, "b": b}
_FIELDS = {"r": nu, "w": lam, "p": pi}
# of two kinds of vectors: their overlaps, and whether the indices stand the other way round
_OVERLAPS = {"rw": (R, False), "pr": (S, True), "ww": (Q, False), "pw": (C, True), "pp": (U, False)}


def inner_product(one: Vector, two: Vector) -> sympy.Expr:
    """Inner product of the parts of two vectors in node u, by the table of D-dimensional inner products.

    x stands for an average over the batch: of the products of two samples a fraction 1/B is |x|^2 = D share_u rho_au to
    leading order, and the rest, of independent ones, is of order sqrt(D).
    """
    total = sympy.Integer(0)
    for left, c in one.items():
        for right, d in two.items():
            pair = tuple(sorted((left, right)))
            if left == right and left.startswith("xi"):
                total += c * d * D * share[u]
            elif pair == ("xi_k", "xi_l"):  # those of two neurons are independent
                total += (c * d).subs(l, k) * D * share[u] * I[k, l]
            elif pair[1].startswith("xi") or pair[0].startswith("xi"):
                total += c * d * sympy.sqrt(D) * zeta
            elif pair == ("x", "x"):
                total += c * d * (D * share[u] * rho[a, u] / B + (1 - 1 / B) * sympy.sqrt(D) * chi)
            elif pair[1] == "x":
                total += c * d * sympy.sqrt(D) * _FIELDS[pair[0][0]](_INDEX[pair[0][-1]])
            else:
                overlap, turned = _OVERLAPS[pair[0][0] + pair[1][0]]
                first, second = (_INDEX[name[-1]] for name in (reversed(pair) if turned else pair))
                total += c * d * D * overlap[u, first, second]
    return total


def in_limit(expression: sympy.Expr) -> sympy.Expr:
    """The limit D -> infinity of an expression that is a polynomial in D^(-1/2)."""
    root = Symbol("epsilon", positive=True)
    return sympy.expand(sympy.expand(expression).subs(D, 1 / root**2)).subs(root, 0)


@cache
def multiplied_out() -> tuple[sympy.Expr, sympy.Expr]:
    """D times the increments of R_ubk = w_k.Pi_u r_b/D and Q_ukl = w_k.Pi_u w_l/D by one step."""

    def move(index: Idx) -> Vector:
        rate = eta[index]
        kick = sympy.sqrt(2 * T / D) * sympy.sqrt(rate)
        return {
            "x": -rate / sympy.sqrt(D) * push(index),
            f"w_{index}": -rate * kappa / D,
            f"xi_{index}": kick,
        }

    dw_k, dw_l = move(k), move(l)
    one = sympy.Integer(1)
    moved = inner_product({"w_k": one}, dw_l) + inner_product(dw_k, {"w_l": one}) + inner_product(dw_k, dw_l)
    return sympy.expand(inner_product(dw_k, {"r_b": one})), sympy.expand(moved)


def increments() -> tuple[sympy.Expr, sympy.Expr]:
    """The same to leading order, D -> infinity."""
    dR, dQ = multiplied_out()
    return in_limit(dR), in_limit(dQ)


def growth() -> tuple[sympy.Expr, sympy.Expr]:
    """|w_k|^2/D, summed over the nodes, and D times the fraction by which it grows in a step, for D -> infinity.

    The step moves Q_ukk by dQ_ukk/D; the former is `squared` in the latter.

    >>> growth()
    (Q[u, k, k], dQ[u, k, k]/squared[k])
    """
    small, squared, dQ = Symbol("epsilon", positive=True), IndexedBase("squared"), IndexedBase("dQ")  # small: 1/D
    after = squared[k] + small * dQ[u, k, k]
    return Q[u, k, k], sympy.diff(after / squared[k], small).subs(small, 0)


def on_sphere() -> tuple[sympy.Expr, sympy.Expr]:
    """D times the increments of R_ubk and Q_ukl where each weight is scaled back to its length, for D -> infinity.

    dR and dQ are D times those of the step before it is scaled back, growth_k is the `growth` of |w_k|^2 in it.

    >>> on_sphere()[0]
    -R[u, b, k]*growth[k]/2 + dR[u, b, k]
    """
    small = Symbol("epsilon", positive=True)  # 1/D
    dR, dQ, grown = (IndexedBase(name) for name in ("dR", "dQ", "growth"))

    def back(index: Idx) -> sympy.Expr:
        return (1 + small * grown[index]) ** sympy.Rational(-1, 2)

    one = (R[u, b, k] + small * dR[u, b, k]) * back(k)
    two = (Q[u, k, l] + small * dQ[u, k, l]) * back(k) * back(l)
    found = [sympy.expand(sympy.diff(part, small).subs(small, 0)) for part in (one, two)]
    return found[0], found[1]
