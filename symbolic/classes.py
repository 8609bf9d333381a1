r"""Several outputs: a two-layer network that names one of C classes, charged by the cross-entropy.

    phi_c = s sum_k v_ck g(lambda_k),     l = log(sum_d exp(phi_d)) - sum_d y_d phi_d,     y_d = 1 for the class, else 0

The update rule is that of `two_layer.py`: w_k moves along the samples by push_k = dl/dlambda_k, v_ck by dl/dv_ck.  The
rates are those of that chapter, too, with the averages

    force_ak = E_a[push_k],  response_akn = E_a[d push_k/dlambda_n],  noise_akl = E_a[push_k push_l],
    readout_ack = E_a[dl/dv_ck],      push_k = s g'(lambda_k) sum_c F_c v_ck,      dl/dv_ck = s F_c g(lambda_k)

with the slopes F_c = dl/dphi_c, which depend on all outputs: on phi_c, and on one sum over the classes, `total`.  That
sum is taken relative to the largest output, `top`, so that no exponential overflows.  Two outputs are the logistic loss
of their difference: F_1 = -F_0 = dl/dphi at phi = phi_1 - phi_0, y = ±1.
"""

from __future__ import annotations

import sympy
from sympy import Function, Idx, IndexedBase, KroneckerDelta, Sum, Symbol
from sympy.concrete.delta import deltasummation

from quenched.symbolic.language.grammar import CLASS_LOSSES, LOSS, LOSSES
from quenched.symbolic.language.latex import latex
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step
from quenched.symbolic.language.parse import parse

__all__ = [
    "CLASS_FORMULAS",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "cross_entropy",
    "cross_entropy_slope",
    "cross_entropy_term",
    "cross_entropy_value",
    "derivations",
    "slopes",
    "step",
    "two_outputs",
]

TITLE = "Several outputs"
PART, ORDER = "learning", 5
STATUS = "Exact as D grows at fixed t, as for one output."

C = Symbol("C", integer=True, positive=True)
c, d, k = (Idx(name) for name in ("c", "d", "k"))
phi, y, v = (IndexedBase(name) for name in ("phi", "y", "v"))
s = Symbol("s", positive=True)
g = Function("g")
_DEFINITION, _SLOPE, _SHIFT = "Cross-entropy", "Derivative of a sum over classes", "Relative to the largest output"


def _over_classes(term: sympy.Expr) -> Sum:
    return Sum(term, (d, 1, C))


def cross_entropy() -> sympy.Expr:
    """The loss of one sample as a function of its outputs phi_d and its one-hot label y_d."""
    return sympy.log(_over_classes(sympy.exp(phi[d]))) - _over_classes(y[d] * phi[d])


def _chosen(expression: sympy.Expr) -> sympy.Expr:
    """Sums of which a Kronecker delta leaves one term."""
    return expression.replace(
        lambda e: isinstance(e, Sum) and e.has(KroneckerDelta),
        lambda e: deltasummation(e.function, e.limits[0], no_piecewise=True),
    )


def slopes() -> sympy.Expr:
    """F_c = dl/dphi_c.

    >>> slopes()
    exp(phi[c])/Sum(exp(phi[d]), (d, 1, C)) - y[c]
    """
    return _chosen(cross_entropy().diff(phi[c]))


def step() -> tuple[sympy.Expr, sympy.Expr]:
    """push_k = sum_c F_c dphi_c/dlambda_k and dl/dv_ck = F_c dphi_c/dv_ck, by the chain rule, with F_c as an array.

    >>> step()
    (Sum(s*dg(lambda_k)*F[c]*v[c, k], (c, 1, C)), s*g(lambda_k)*F[c])
    """
    F, neuron = IndexedBase("F"), Symbol("lambda_k", real=True)
    unit = s * v[c, k] * g(neuron)  # the only term of phi_c that depends on lambda_k and v_ck
    by_field = unit.diff(neuron).subs(sympy.Derivative(g(neuron), neuron), Function("dg")(neuron))
    return Sum(F[c] * by_field, (c, 1, C)), F[c] * unit.diff(v[c, k])


def two_outputs() -> sympy.Expr:
    """What the cross-entropy of two outputs, at the label y = ±1 of the second, has beside the logistic loss: 0.

    >>> two_outputs()
    0
    """
    first, second = sympy.symbols("phi_0 phi_1", real=True)
    logistic = parse(LOSSES["logistic"], LOSS)
    output, sign = sympy.symbols("phi y", real=True)
    gaps = []
    for label in (1, -1):
        right = second if label == 1 else first
        own = sympy.log(sympy.exp(first) + sympy.exp(second)) - right
        gap = sympy.exp(own) - sympy.exp(logistic.subs({output: second - first, sign: label}))
        gaps.append(sympy.simplify(sympy.expand(gap)))
    return sympy.Add(*map(sympy.Abs, gaps))


# --- what theory/ takes: functions of one output, its label, the largest output and the sum over classes


def _shifted(expression: sympy.Expr, top: sympy.Symbol, total: sympy.Symbol) -> sympy.Expr:
    """The expression with sum_d exp(phi_d) = exp(top) total put in."""
    whole = {_over_classes(sympy.exp(phi[d])): sympy.exp(top) * total}
    return sympy.powsimp(sympy.expand_log(expression.subs(whole)))


def cross_entropy_term(phi: Real, top: Real) -> Derived:
    """What each output adds to the sum over classes, `total`; top: the largest output."""
    return Derived(sympy.exp(phi - top), steps=(Step(_SHIFT, r"\mathrm{total} = \sum_d e^{\phi_d - \mathrm{top}}"),))


def cross_entropy_value(right: Real, top: Real, total: Positive) -> Derived:
    """l where the output of the right class is `right`."""
    label = {_over_classes(y[d] * phi[d]): right}
    value = _shifted(cross_entropy().subs(label), top, total)
    return Derived(value, steps=(Step(_DEFINITION, latex(cross_entropy())), Step(_SHIFT, latex(value))))


def cross_entropy_slope(output: Real, label: Real, top: Real, total: Positive) -> Derived:
    """dl/dphi_c at an output phi_c and its label y_c, 0 or 1."""
    value = _shifted(slopes(), top, total).subs({phi[c]: output, y[c]: label})
    return Derived(value, steps=(Step(_SLOPE, latex(slopes())), Step(_SHIFT, latex(value))))


def derivations() -> list[Formula]:
    """The step of a network with several outputs, for the document."""
    push, readout = (latex(part).replace(r"_{\lambda_{k}}", "_{k}") for part in step())
    lines = (
        Step(_DEFINITION, rf"l = {latex(cross_entropy())}"),
        Step(_SLOPE, rf"F_c = {latex(slopes())}"),
        Step("Chain rule", rf"\operatorname{{push}}_k = {push}"),
        Step("Chain rule", rf"\partial l/\partial v_{{ck}} = {readout}"),
        Step("Two outputs", r"l(\phi_0, \phi_1) = \log(1 + e^{-y\phi}),\quad \phi = \phi_1 - \phi_0,\ y = \pm 1"),
    )
    if two_outputs() != 0:
        raise AssertionError("the cross-entropy of two outputs is not the logistic loss")
    told = f"The loss {CLASS_LOSSES['cross-entropy']}, its slopes, and the gradient of one sample."
    return [Formula("class_step", told, (), Derived(sympy.Integer(0), steps=lines))]


CLASS_FORMULAS = (cross_entropy_term, cross_entropy_value, cross_entropy_slope)
