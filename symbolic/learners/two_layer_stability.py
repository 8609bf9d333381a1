"""Fixed points of the learning equations, and the Jacobian that decides on their stability.

A fixed point is a state X = (R, Q, v) at which all rates vanish, F(X) = 0.  It is found by Newton's method and judged
by the eigenvalues of J = dF/dX: it attracts if all of them have negative real parts.  What is derived is the product of
J with a direction, the tangent of the rates (`two_layer.py`), from which solvers build J column by column.  Weights of
clusters, variances, means and labels do not move.  A delta before an array is its change along the direction.  For an
average of fields of means m and covariances c in cluster a it is, by Price's theorem (`gradients.py`),

    delta <F>_a = sum_i (d<F>_a/dm_i) delta m_i + sum_(i <= j) (d<F>_a/dc_ij) delta c_ij

and everything else follows by the product rule.
"""

from __future__ import annotations

import sympy

from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.learners import two_layer

__all__ = ["ORDER", "PART", "STATUS", "TITLE", "derivations"]

TITLE = "Fixed points and their stability"
PART, ORDER = "stability", 1
STATUS = "Exact derivatives, of the equations at large D."

_TOLD = {
    "rates_tangent": "The tangent of the rates.",
    "pull_tangent": "The tangent of the pull of w_k along w_i.",
    "step_averages_tangent": "The tangent of the averages of a step, where dl/dphi = F0 + F1 phi.",
    "step_noise_tangent": "The tangent of E_a[push_k push_l], where (dl/dphi)^2 = S0 + S1 phi + S2 phi^2.",
}


def _left(name: str, indices: str) -> str:
    """An array of the equations that moves: the rates dR/dt have their tangent as a time derivative."""
    if name in ("dR", "dQ", "dv"):
        return rf"d\,\delta {name[1]}_{{{indices}}}/dt"
    return rf"\delta \operatorname{{{name}}}_{{{indices}}}"


def derivations() -> list[Formula]:
    """The tangents: first that of the rates, then those that it asks for."""
    found, formulas = two_layer.tangents(), []
    for name, told in _TOLD.items():
        lines = found[name.removesuffix("_tangent")].items()
        steps = tuple(Step("Product rule", f"{_left(key, at)} = {latex(value)}") for key, (value, at) in lines)
        formulas.append(Formula(name, told, (), Derived(sympy.Integer(0), steps=steps)))
    return formulas
