r"""Momentum with 1 - beta = zeta/D, zeta the friction: weights have velocities, whose overlaps are order parameters.

A step moves the velocities as that of the plain rule moves what they are velocities of, and weights and readouts along
their velocities, a step being a time of 1/D:

    p_k <- (1 - zeta/D) p_k - eta_k/sqrt(D) <push_k x> - (eta_k kappa/D) w_k + sqrt(2 zeta eta_k T/D) xi_k
    w_k <- w_k + p_k/D

and the same of v_o (and of thresholds and intercept), whose velocity is p_o.  This is the heavy ball u <- beta u +
step, w <- w + u with u = p/D and beta = 1 - zeta/D, at the learning rate eta/D: its memory of D/zeta steps is as long
as the time in which the network learns, so that a sample moves w_k at once by 1/D of what it does without momentum.

|p_k|^2 is of order D as |w_k|^2 is, and with S_ubk = p_k.Pi_u r_b/D, C_ukl = w_k.Pi_u p_l/D, U_ukl = p_k.Pi_u p_l/D the
increments close (`quenched.symbolic.calculus.increments`).  |x|^2 = D rho enters where two moves along x meet:

    U: |dp|^2 is eta^2 push^2 |x|^2/D, of order 1, as |dw|^2 is without momentum: the noise of samples heats velocities
    C: dw.dp is of order 1/D, Q: |dw|^2 of order 1/D^2: their noise vanishes as D grows

Of a sample's field pi_k = p_k.x/sqrt(D) Stein's lemma leaves E_a[pi_k] force + sum_n Cov_a(pi_k, lambda_n) response,
the covariance being rho C: no average of a step is new.  To leading order w'' + zeta w' = -eta grad E[l]; `overdamped`
shows that zeta -> infinity is SGD without momentum at the rate eta/zeta, its noise of second order in it included.
The bath is that of a friction zeta: exp(-H/T) is the law of weights that it leads to as eta -> 0, and the velocities
are independent of them, N(0, eta_k T) in each direction.
"""

from __future__ import annotations

from functools import cache

import sympy
from sympy import Idx, IndexedBase, Symbol

from quenched.symbolic.calculus.increments import (
    C,
    D,
    I,
    Q,
    S,
    T,
    U,
    Vector,
    a,
    b,
    eta,
    in_limit,
    inner_product,
    k,
    kappa,
    l,
    push,
    rho,
    u,
)
from quenched.symbolic.language.arrays import array_function
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.learners import two_layer

__all__ = [
    "NOTATION",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "derivations",
    "generated",
    "increments",
    "overdamped",
    "rates",
]

TITLE = "Momentum"
PART, ORDER = "learning", 7
STATUS = "Exact as D grows at fixed t, like the equations that it changes."
NOTATION = {"friction": r"\zeta"}

latex = in_letters(NOTATION)

zeta = Symbol("friction", positive=True)
o = Idx("o")
v, p, drive = (IndexedBase(name) for name in ("v", "p", "drive"))
one = sympy.Integer(1)


def _moved(index: Idx) -> tuple[Vector, Vector]:
    """dw_k and dp_k of a step: the velocity first, and the weight along the new one."""
    rate = eta[index]
    force: Vector = {
        f"p_{index}": -zeta / D,
        "x": -rate / sympy.sqrt(D) * push(index),
        f"w_{index}": -rate * kappa / D,
        f"xi_{index}": sympy.sqrt(2 * zeta * T / D) * sympy.sqrt(rate),
    }
    step = {name: value / D for name, value in force.items()}
    return step | {f"p_{index}": (1 - zeta / D) / D}, force


@cache
def increments() -> dict[str, sympy.Expr]:
    """D times the increments of R_ubk, S_ubk, Q_ukl, C_ukl, U_ukl, v_o and p_o by one step, multiplied out.

    drive_o is D times the increment of v_o by a step without momentum.
    """
    (dw_k, dp_k), (dw_l, dp_l) = _moved(k), _moved(l)
    pairs = {"Q": ("w", "w", dw_k, dw_l), "C": ("w", "p", dw_k, dp_l), "U": ("p", "p", dp_k, dp_l)}
    found = {"R": inner_product(dw_k, {"r_b": one}), "S": inner_product(dp_k, {"r_b": one})}
    for name, (first, second, moved_k, moved_l) in pairs.items():
        found[name] = (
            inner_product({f"{first}_k": one}, moved_l)
            + inner_product(moved_k, {f"{second}_l": one})
            + inner_product(moved_k, moved_l)
        )
    pulled = drive[o] - zeta * p[o]
    return {name: sympy.expand(value) for name, value in found.items()} | {"v": p[o] + pulled / D, "p": pulled}


@cache
def rates() -> dict[str, sympy.Expr]:
    """Their time derivatives: the limit D -> infinity, averaged over the sample.

    >>> rates()["R"], rates()["Q"], rates()["v"]
    (S[u, b, k], C[u, k, l] + C[u, l, k], p[o])
    """
    return {
        name: in_limit(value) if name in "vp" else two_layer.in_node(in_limit(value))
        for name, value in increments().items()
    }


@cache
def overdamped() -> dict[str, sympy.Expr]:
    """dR/dt, dQ/dt and dv/dt to leading order as zeta grows at fixed eta/zeta, which is written eta.

    S, C and p are then of order 1, U of order zeta; they relax at rates of order zeta, in no time, to where the
    leading terms of their own rates are in balance.

    >>> overdamped()["R"] - two_layer.equations().dR, overdamped()["Q"] - two_layer.equations().dQ
    (0, 0)
    """
    small = Symbol("epsilon", positive=True)  # 1/zeta
    heat, found = U[u, k, l], rates()
    scaled = {x: x / small for x in (eta[k], eta[l], drive[o], heat)} | {zeta: 1 / small}
    settled: dict[sympy.Expr, sympy.Expr] = {}
    for name, x, order in (("U", heat, 2), ("C", C[u, k, l], 1), ("S", S[u, b, k], 1), ("p", p[o], 1)):
        leading = sympy.expand(small**order * found[name].subs(scaled, simultaneous=True)).subs(small, 0)
        settled[x] = sympy.expand(sympy.solve(leading.subs(settled), x)[0])
    settled[C[u, l, k]] = settled[C[u, k, l]].subs({k: l, l: k}, simultaneous=True)
    same = {Q[u, l, k]: Q[u, k, l], two_layer.noise[a, l, k]: two_layer.noise[a, k, l]}
    same |= {I[l, k]: I[k, l] * eta[k] / eta[l]}
    return {name: sympy.expand(sympy.expand(found[name].xreplace(settled)).xreplace(same)) for name in "RQv"}


_MEANINGS = {
    name: two_layer.MEANINGS[name]
    for name in ("P", "rho", "share", "mean", "M", "R", "Q", "force", "pull", "noise", "eta", "kappa", "B", "T")
} | {
    "V": "(U, C, K) overlaps of the means with the velocities",
    "S": "(U, b, K) overlaps p_k.r_b/D of velocities, parts in node u",
    "C": "(U, K, K) overlaps w_k.p_l/D",
    "U": "(U, K, K) overlaps p_k.p_l/D",
    "p": "(K,) velocities of the readout v",
    "drive": "(K,) rates of v without momentum",
    "friction": "zeta, D times 1 - beta",
}


def generated() -> str:
    """The functions of theory/momentum.py."""
    found, indices = rates(), {"S": "ubk", "Q": "ukl", "C": "ukl", "U": "ukl"}
    overlaps = array_function(
        "momentum_rates",
        "P rho share mean M V R S Q C U force pull noise eta ; kappa friction B T",
        {f"d{name}": (found[name], free) for name, free in indices.items()},
        "Time derivatives of the overlaps of weights with velocities p_k, and of these; dR/dt = S.",
        meanings=_MEANINGS,
    )
    others = array_function(
        "velocity_rates",
        "p drive ; friction",
        {"dp": (found["p"], "o")},
        "Time derivatives of the velocities of the readout; dv/dt = p.",
        meanings=_MEANINGS,
    )
    return f"{overlaps}\n\n\n{others}"


_TOLD = {
    "increments": """D times the increments by one step, multiplied out by the inner products of the chapter before;
pi_k is p_k.x/sqrt(D), drive_o is D times the increment of v_o by a step without momentum.  Terms beyond 1/D are left
out here, but for those of |x|^2, which have rho.
""",
    "momentum_rates": """The limit of large D, averaged over the sample.

Where two moves along x meet, |x|^2 of order D makes up for a power of 1/D in dU alone: samples heat the velocities; in
dC and dQ their noise is of order 1/D and 1/D^2.  V_uak is the part of E_a[pi_k] from node u.
""",
    "overdamped": """As zeta grows at fixed eta/zeta, written eta: S, C, U and p are where their rates vanish to
leading order, and R, Q and v have the equations without momentum, the term of second order in eta among them.
""",
}


def _named(name: str) -> str:
    return name + {"v": "_o", "p": "_o", "R": "_{ubk}", "S": "_{ubk}"}.get(name, "_{ukl}")


def derivations() -> list[Formula]:
    """Increments, their limit, and that of a large friction, as a section of the document."""
    found = {"increments": [], "momentum_rates": [], "overdamped": []}  # type: dict[str, list[Step]]
    for name, value in increments().items():
        terms = sympy.Add.make_args(value)
        kept = [term for term in terms if term.has(rho) or term.as_coeff_exponent(D)[1] >= -1]
        more = r" + \cdots" if len(kept) < len(terms) else ""
        found["increments"].append(Step("Multiply out", rf"D\,\delta {_named(name)} = {latex(sympy.Add(*kept))}{more}"))
    for name, value in rates().items():
        found["momentum_rates"].append(Step("Power counting, average", rf"d{_named(name)}/dt = {latex(value)}"))
    for name, value in overdamped().items():
        found["overdamped"].append(Step("Large friction", rf"d{_named(name)}/dt = {latex(value)}"))
    return [Formula(name, _TOLD[name], (), Derived(one, steps=tuple(steps))) for name, steps in found.items()]
