"""Fluctuations of a two-layer network about its learning curve: the covariance of what one step does, to order 1/D.

A step moves X = (R_bk, Q_kl, v_k) by xi(x)/D, with xi of order 1 and mean dX/dt: D steps are one unit of time, and the
1/D of their independent increments adds up to Cov(X) = Sigma/D with

    dSigma/dt = J Sigma + Sigma J^T + diffusion,      J = d(dX/dt)/dX,
    diffusion_XY = D Cov(xi_X, xi_Y)/D = (1/B) (sum_a P_a E_a[xi_X xi_Y] - xibar_X xibar_Y).

xi is the increment of `quenched.symbolic.calculus.increments`, of which the sample enters through push_k, dl/dv_k, the
preactivations lambda_k and the fields nu_b of the reference vectors; decay is the same for every sample and drops out,
and |x|^2/D fluctuates by D^(-1/2), which is of the next order.  Of a batch of B samples the increments average, but for
the term of second order in eta, of which a fraction 1/B comes from single samples.

Given the preactivations nu_b is Gaussian: its regression on them, which stands for it in `sample_increments`, and a
rest of covariance spread_abc, in which xi is linear: `unresolved` is what that adds.
"""

from __future__ import annotations

import sympy
from sympy import Idx, IndexedBase

from quenched.symbolic.calculus import increments as step
from quenched.symbolic.language.arrays import array_function
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.learners.two_layer import P, a, b, eta_v, k, l, noise, u

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "derivations", "generated", "increments"]

TITLE = "Fluctuations of a two-layer network"
PART, ORDER = "learning", 3
STATUS = "Exact to leading order in 1/sqrt(D)."

sample, other = Idx("x"), Idx("c")  # a sample, and a second reference vector
push, readout, nu, lam, rho, spread = (IndexedBase(n) for n in ("push", "readout", "nu", "lam", "rho", "spread"))


def increments() -> tuple[sympy.Expr, sympy.Expr, sympy.Expr]:
    """D times what one sample adds to R_bk, Q_kl and v_k where inputs have one variance: its random part.

    >>> increments()[0]
    -eta[k]*nu[x, b]*push[x, k]
    """
    fields = {step.push: push, step.nu: nu, step.lam: lam}

    def of_sample(increment: sympy.Expr) -> sympy.Expr:
        random = [term for term in sympy.Add.make_args(sympy.expand(increment)) if term.has(step.push)]
        total = sympy.Add(*random).subs({step.share[u]: 1, step.rho[a, u]: rho[sample]})
        for function, array in fields.items():
            total = total.replace(function, lambda index, array=array: array[sample, index])
        return total

    dR, dQ = (of_sample(increment) for increment in step.increments())
    return dR, dQ, -eta_v[k] * readout[sample, k]


def _unresolved() -> sympy.Expr:
    """sum_a P_a E_a of the product of two increments of R, of the part of nu that preactivations leave open."""
    slope = increments()[0].diff(nu[sample, b]) / push[sample, k]
    return slope * slope.subs(k, l) * P[a] * noise[a, k, l] * spread[a, b, other]


_MEANINGS = {
    "push": "(X, K) dl/dlambda_k of each sample x",
    "readout": "(X, K) dl/dv_k",
    "nu": "(X, b) fields of the reference vectors, their regression on the preactivations",
    "lam": "(X, K) preactivations",
    "rho": "(X,) variance of the inputs",
    "P": "(C,) weights of the clusters",
    "noise": "(C, K, K) E_a[dl/dlambda_k dl/dlambda_l]",
    "spread": "(C, b, b) covariance of the fields of the reference vectors given the preactivations",
    "eta": "(K,) learning rates of the first layer",
    "eta_v": "(K,) and of the second",
    "B": "samples in a step",
}


def generated() -> str:
    """The functions of theory/fluctuations.py."""
    dR, dQ, dv = increments()
    one = array_function(
        "sample_increments",
        "push readout nu lam rho eta eta_v ; B",
        {"dR": (dR, "xbk"), "dQ": (dQ, "xkl"), "dv": (dv, "xk")},
        "D times what each sample adds to R_bk = w_k.r_b/D, Q_kl = w_k.w_l/D and v_k in one step, without decay.",
        meanings=_MEANINGS,
    )
    two = array_function(
        "unresolved",
        "P noise spread eta",
        {"covariance": (_unresolved(), "bkcl")},
        "Covariance of the increments of R_bk and R_cl that the samples' preactivations do not tell.",
        meanings=_MEANINGS,
    )
    return f"{one}\n\n\n{two}"


def derivations() -> list[Formula]:
    """The increments of a sample, and what is left open, as a section of the document."""
    names = (r"D\,\delta R_{xbk}", r"D\,\delta Q_{xkl}", r"D\,\delta v_{xk}")
    steps = [
        Step("Increment by one sample, its random part", f"{name} = {latex(value)}")
        for name, value in zip(names, increments(), strict=True)
    ]
    steps.append(
        Step("Rest of the fields of reference vectors", rf"\mathrm{{unresolved}}_{{bkcl}} = {latex(_unresolved())}")
    )
    return [Formula("unresolved", "", (), Derived((_unresolved(),), steps=tuple(steps)))]
