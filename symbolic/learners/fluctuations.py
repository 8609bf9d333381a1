"""Fluctuations of a two-layer network about its learning curve: the covariance of what one step does, to order 1/D.

A step moves X = (R_bk, Q_kl, v_k) by delta_X/D, where delta_X is of order 1 and has the mean dX/dt.  One unit of time
is D steps.  Their increments are independent and add up to Cov(X) = Sigma/D with

    dSigma/dt = J Sigma + Sigma J^T + diffusion,      J = d(dX/dt)/dX,
    diffusion_XY = (1/B) (sum_a P_a E_a[delta_X delta_Y] - E[delta_X] E[delta_Y]).

delta_X is the increment of `quenched.symbolic.calculus.increments`.  A sample enters it through push_k, dl/dv_k, the
preactivations lambda_k and the fields nu_b of the reference vectors.  Decay is the same for every sample and drops out,
and |x|^2/D fluctuates by D^(-1/2), which is of the next order.  Increments are averages over the B samples of a batch;
of the term of second order in eta a fraction 1/B comes from single samples.

Given the preactivations, nu_b is normal: its regression on them, which stands for it in `sample_increments`, plus a
rest of covariance spread_abc.  delta_X is linear in that rest, and `unresolved` is what it adds.
"""

from __future__ import annotations

import sympy
from sympy import Idx, IndexedBase

from quenched.symbolic.calculus import increments as step
from quenched.symbolic.language.arrays import array_function
from quenched.symbolic.language.latex import in_letters, latex
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
    printed = in_letters({"lam": r"\lambda"})
    steps = [
        Step("Increment by one sample, its random part", f"{name} = {printed(value)}")
        for name, value in zip(names, increments(), strict=True)
    ]
    steps.append(
        Step("Rest of the fields of reference vectors", rf"\mathrm{{unresolved}}_{{bkcl}} = {latex(_unresolved())}")
    )
    told = """What a sample x adds to the order parameters in one step, and the covariance of the increments of R_bk and
R_cl that its preactivations do not tell."""
    return [Formula("unresolved", told, (), Derived((_unresolved(),), steps=tuple(steps)))]
