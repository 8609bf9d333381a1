"""Kernels of inputs in high dimension, functions of the norms and the inner product of two inputs.

A kernel is F(N, N', u) of N = |x|^2/D, N' = |x'|^2/D and u = x.x'/D.  It is given as an expression, or is an average
over the weights of a wide network, which the Gaussian algebra takes: arc-cosine kernels, and the neural tangent kernel
of each activation that is built in.  The derivatives (`jet`) are what a Taylor expansion to second order needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import sympy
from sympy import Rational, Symbol, sqrt

from quenched.symbolic.activations import BUILTIN, Activation
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi2
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language import emit
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Step

__all__ = [
    "ARGUMENTS",
    "KERNELS",
    "NOTATION",
    "ORDER",
    "PART",
    "STATUS",
    "TITLE",
    "Kernel",
    "derivations",
    "generated",
    "jet",
    "tangent",
    "value",
]

TITLE = "Kernels"
PART, ORDER = "features", 2
STATUS = "Exact averages."
NOTATION = {
    "norm": "N",
    "other_norm": "N'",
    "inner": "u",
    "parameter": "s",
}
latex = in_letters(NOTATION)

norm, other_norm, inner = sympy.symbols("norm other_norm inner", real=True)  # N, N', u
parameter = Symbol("parameter", positive=True)
ARGUMENTS = (norm, other_norm, inner, parameter)


@dataclass(frozen=True)
class Kernel:
    """A kernel F(N, N', u) and what its parameter means (with the default), if it has one."""

    name: str
    text: str
    expression: Callable[[], tuple[sympy.Expr, tuple[Step, ...]]]
    meaning: str | None = None
    default: float | None = None


def _given(expression: sympy.Expr) -> Callable[[], tuple[sympy.Expr, tuple[Step, ...]]]:
    return lambda: (expression, ())


def _two_fields(integrand: sympy.Expr) -> tuple[sympy.Expr, tuple[Step, ...]]:
    """E[integrand(x0, x1)] over fields of zero means, variances N and N' and covariance u."""
    N, N_ = sympy.symbols("N N'", positive=True)
    algebra = GaussianAlgebra(fields(2), (0, 0), ((N, inner), (inner, N_)), printed=latex)
    average = algebra.average(integrand).doit()
    # Plackett: dPhi_2(0, 0; r)/dr = 1/(2 pi sqrt(1 - r^2)), and Phi_2(0, 0; 0) = 1/4
    r = Symbol("r", real=True)
    orthant = Rational(1, 4) + sympy.asin(r) / (2 * sympy.pi)
    if sympy.simplify(Phi2(0, 0, r).fdiff(3) - orthant.diff(r)) != 0:
        raise AssertionError("Phi_2 at the origin is not an arcsine")
    average = average.replace(Phi2, lambda h, k, c: orthant.subs(r, c))
    average = average.xreplace({N: norm, N_: other_norm})
    average = average.replace(sympy.asin, lambda a: sympy.asin(_one_root(a)))
    average = sympy.Add(*(_one_root(term) for term in sympy.Add.make_args(sympy.expand(average))))
    step = Step("Average over two fields", rf"E\left[{latex(integrand)}\right] = {latex(average)}")
    return average, (*algebra.steps, *([] if average.is_number else [step]))


def _one_root(term: sympy.Expr) -> sympy.Expr:
    """sqrt(a) sqrt(b) -> sqrt(a b), multiplied out: exact in floating point where u = N = N'."""
    merged = sympy.powsimp(term, combine="base", force=True)
    return merged.replace(
        lambda e: isinstance(e, sympy.Pow) and abs(e.exp) == Rational(1, 2),
        lambda e: sympy.expand(sympy.cancel(e.base)) ** e.exp,
    )


def _arc_cosine(order: int) -> tuple[sympy.Expr, tuple[Step, ...]]:
    """2 E[x0^p x1^p theta(x0) theta(x1)]."""
    step = [x**order * sympy.Heaviside(x) for x in fields(2)]
    average, steps = _two_fields(2 * step[0] * step[1])
    return average, steps


@cache
def tangent(name: str) -> tuple[sympy.Expr, tuple[Step, ...]]:
    """Neural tangent kernel of a wide two-layer network, sum_k v_k g(w_k.x/sqrt D)/sqrt K, both layers learning.

    The gradients with respect to v_k and w_k, averaged over normal weights: E[g g'] and u E[g'(.) g'(.)].
    """
    activation = Activation(name, BUILTIN[name])
    values, slopes = (_two_fields(activation.integrand(layout)) for layout in ("g,g", "dg,dg"))
    return sympy.expand(values[0] + inner * slopes[0]), (*values[1], *slopes[1])


_distance = norm + other_norm - 2 * inner  # |x - x'|^2/D


def _tangents() -> list[Kernel]:
    found = []
    for name, text in BUILTIN.items():
        try:
            tangent(name)
        except NoClosedForm:
            continue
        found.append(Kernel(f"ntk:{name}", f"neural tangent kernel of g = {text}", partial(tangent, name)))
    return found


KERNELS: dict[str, Kernel] = {
    kernel.name: kernel
    for kernel in (
        Kernel("arccos0", "1 - theta/pi, theta the angle of x and x'", lambda: _arc_cosine(0)),
        Kernel("arccos1", "sqrt(N N') [sin(theta) + (pi - theta) cos(theta)]/pi", lambda: _arc_cosine(1)),
        Kernel("exponential", "exp(s x.x'/D)", _given(sympy.exp(parameter * inner)), "rate s", 1.0),
        Kernel(
            "laplace", "exp(-|x - x'|/(w sqrt(D)))", _given(sympy.exp(-sqrt(_distance) / parameter)), "width w", 1.0
        ),
        Kernel("polynomial", "(1 + x.x'/D)^d", _given((1 + inner) ** parameter), "degree d"),
        Kernel("rbf", "exp(-|x - x'|^2/(2 w^2 D))", _given(sympy.exp(-_distance / (2 * parameter**2))), "width w", 1.0),
        *_tangents(),
    )
}
"""The kernels, by name."""


def value(kernel: Kernel) -> Derived:
    """F(N, N', u)."""
    expression, steps = kernel.expression()
    return Derived(expression, steps=steps)


def jet(kernel: Kernel) -> Derived:
    """F and the derivatives that the Taylor expansion needs: F, F_u, F_uu, F_N', F_uN', F_NN'."""
    F, _ = kernel.expression()
    orders = ((inner,), (inner, inner), (other_norm,), (inner, other_norm), (norm, other_norm))
    shared, values = sympy.cse(
        [F, *(_tidy(F.diff(*order)) for order in orders)], sympy.numbered_symbols("x"), order="canonical"
    )
    return Derived(tuple(values), tuple(shared))


def _tidy(expression: sympy.Expr) -> sympy.Expr:
    """Simplified for N, N' > 0."""
    positive = {norm: Symbol("N", positive=True), other_norm: Symbol("N'", positive=True)}
    simple = sympy.simplify(expression.xreplace(positive)).xreplace({v: k for k, v in positive.items()})
    return simple.replace(sympy.asin, lambda a: sympy.asin(_one_root(a)))


_KERNEL = '''class Kernel(NamedTuple):
    """A kernel F(N, N', u) of N = |x|^2/D, N' = |x'|^2/D, u = x.x'/D; its functions take these and its parameter.

    value is F; jet returns (F, F_u, F_uu, F_N', F_uN', F_NN').  meaning of the parameter, and its default: None where
    there is no parameter, or no default.
    """

    text: str
    value: Callable[..., float]
    jet: Callable[..., tuple[float, ...]]
    meaning: str | None
    default: float | None'''


def generated() -> str:
    """The kernels, each as two functions and an entry of the table `KERNELS`."""
    parts, entries = [_KERNEL], []
    for kernel in KERNELS.values():
        name = kernel.name.replace(":", "_")
        parts += [
            emit.function(Formula(name, f"F = {kernel.text}.", ARGUMENTS, value(kernel))),
            emit.function(
                Formula(
                    f"{name}_jet", f"F, F_u, F_uu, F_N', F_uN', F_NN' for F = {kernel.text}.", ARGUMENTS, jet(kernel)
                )
            ),
        ]
        meaning = f'"{kernel.meaning}"' if kernel.meaning else None
        members = (f'"{kernel.text}"', name, f"{name}_jet", meaning, kernel.default)
        entries.append(emit.entry(kernel.name, "Kernel", members))
    parts.append("KERNELS: dict[str, Kernel] = {\n" + "\n".join(entries) + "\n}")
    return "\n\n\n".join(parts)


def derivations() -> list[Formula]:
    """The kernels, for the document."""
    found = []
    for kernel in KERNELS.values():
        text = kernel.text.replace("neural", "Neural") + "."
        named = f"  The parameter s is the {kernel.meaning}." if kernel.meaning else "  There is no parameter s."
        found.append(Formula(kernel.name, text + named, ARGUMENTS, value(kernel)))
    return found
