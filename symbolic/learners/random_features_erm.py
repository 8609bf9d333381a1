r"""Convex learners on random features, and on kernels, at n = alpha D samples: any loss, a ridge, an intercept.

    min_(w, b)  sum_i l(w.(z_i - E z)/sqrt(P) + b, y_i) + (ridge/2)|w|^2,     z_k = psi(f_k.x/sqrt(D)),  P = D/ratio

With means of order 1 the features act as Gaussian ones of the same mean and covariance (Gaussian equivalence: Goldt and
others 2020, Gerace and others 2020, Hu and Lu 2020):

    z - E z = (k_1/sigma) F (x - E x)/sqrt(D) + k_* noise

so that, given F, this is the problem of symbolic/learners/erm.py in P dimensions, with the spectrum of
k_1^2 F F^T/D + k_*^2 and means (k_1/sigma) F mean_a/sqrt(D).  The sums over that spectrum are resolvents of F F^T/D,
all of one function Y of the conjugate Vh: linear·Vh·Y is the T of the population minimum (random_features.py) at the
ridge that the curvature Vh of the loss leaves, ridge/(ratio·Vh).  The weights contribute

    - [qh A + mh.G mh B]/2,     A = linear Y/(1 + linear Vh Y) + higher Y,     B = linear Y/(sigma^2 (1 + linear Vh Y))

to the potential; the rest of it is that of erm.py, the loss included.  ratio -> 0 is a kernel, Y = 1/ridge: the linear
learner with V larger by higher/ridge.  Many samples, alpha -> infinity at ridge = alpha·ratio·lambda_0, lead to the
population minimum at the ridge lambda_0.

A teacher's fields nu_m = w*_m.x/sqrt(D) are among what a linear learner sees, and no more than that: a feature and a
label depend on each other by Cov(u_k, nu_m) = O(D^-1/2), in first order by k_1 and E[dy/dnu_m].  So the learner's field
and the nu_m are jointly normal, Cov(w, nu_m) = sigma^2 v.w*_m, and erm_teachers.py says what the labels do, with the h
that it gives in place of sum_a mh_a mean_a.  Orders of the teacher beyond the first are learned from n ~ D^2 on: they
are noise here.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy
from sympy import Rational, Symbol

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.replica import heat, saddle
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step, derived, specification_symbols
from quenched.symbolic.learners import erm
from quenched.symbolic.learners.random_features import marchenko_pastur

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE"]

TITLE = "Random features and kernels, n = alpha D"
PART, ORDER = "replica", 3
STATUS = "Replica symmetric, on Gaussian equivalence, which Hu and Lu 2020 prove for odd activations."
NOTATION = erm.NOTATION | {"ratio": r"\varrho", "linear": "k_{1}^{2}", "higher": "k_{*}^{2}"}
latex = in_letters(NOTATION)

HALF = Rational(1, 2)


class Weights(NamedTuple):
    """What the weights are up against: the ridge, k_1^2, k_*^2, and D/P."""

    ridge: Positive
    linear: Positive
    higher: Positive
    ratio: Positive


def _equation(Y: sympy.Symbol, Vh: sympy.Symbol, weights: Weights) -> tuple[sympy.Expr, Step]:
    """-1 + .. + .. Y^2, which vanishes at Y, from the resolvent of features at the ridge ridge/(ratio Vh)."""
    ridge, linear, higher, ratio = weights
    gamma, r = specification_symbols(marchenko_pastur)
    T = Symbol("T", positive=True)
    known = gamma / T - r - 1 / (1 + T)
    for root, _ in derived(marchenko_pastur).explicit()[0].args:
        if sympy.simplify(known.subs(T, root)) != 0:
            raise AssertionError("T is not the root of its equation")
    at = {gamma: 1 / ratio, r: (ridge / (ratio * Vh) + higher) / linear, T: linear * Vh * Y}
    polynomial = sympy.Poly(sympy.numer(sympy.together(known.subs(at))), Y)
    scaled = sympy.expand(sympy.cancel(polynomial.as_expr() / -polynomial.coeff_monomial(1)))
    return sympy.collect(scaled, Y), Step("Resolvent of the features", rf"{latex(known.subs(at))} = 0")


def resolvent(Vh: Positive, weights: Weights) -> Derived:
    """Y, without cancellation: linear·Vh·Y = T, the resolvent of P = D/ratio features at the ridge ridge/(ratio·Vh).

    It is finite at Vh = 0, where no sample holds the weights, and at ratio = 0, a kernel, where Y = 1/ridge.
    """
    ridge, linear, _, ratio = weights
    Y = Symbol("Y", positive=True)
    equation, step = _equation(Y, Vh, weights)
    square, middle, constant = (sympy.factor(part) for part in sympy.Poly(equation, Y).all_coeffs())
    b, root = Symbol("middle", real=True), Symbol("root", positive=True)
    known = {b: middle, root: sympy.sqrt(middle**2 + 4 * square)}
    forms = (2 / (root + b), (root - b) / (2 * square))  # one of them loses no digits: the first where b > 0
    for form in forms:
        if constant != -1 or sympy.simplify(equation.subs(Y, form.subs(known))) != 0:
            raise AssertionError("the root does not solve the equation for Y")
    if sympy.simplify(equation.subs(ratio, 0) - (ridge * Y - 1) * (1 + linear * Vh * Y)) != 0:
        raise AssertionError("Y is not 1/ridge for a kernel")
    steps = (
        step,
        Step("Equation for Y", f"{latex(equation)} = 0"),
        Step("Positive root", rf"Y = {latex(forms[0].subs(known))}"),
        Step(
            "Kernel", rf"\varrho \to 0:\quad {latex((ridge * Y - 1) * (1 + linear * Vh * Y))} = 0,\quad Y = 1/\lambda"
        ),
    )
    definitions = ((b, middle), (root, sympy.sqrt(b**2 + 4 * square)))
    return Derived(sympy.Piecewise((forms[0], b > 0), (forms[1], True)), definitions, steps)


def _spectral() -> tuple[Step, ...]:
    """The sums of erm.py over the spectrum of the features, in Y: A and B of the module's docstring, at P dimensions.

    In P dimensions n = alpha ratio P, and E/P = ratio E/D; with the conjugates per D its term of the weights is
    -1/2 mean_rho [(rho qh + mh.G_rho mh)/(ratio ridge' + ..)], ridge' = ridge, where G_rho = x linear G/sigma^2.
    """
    x, sigma, Y, Vh, T, r = sympy.symbols("x sigma Y Vh T r", positive=True)
    ridge, linear, higher, ratio = weights = Weights(*sympy.symbols("ridge linear higher ratio", positive=True))
    rho = linear * x + higher
    # per feature: erm.node_energy at qh, mh, Vh times ratio, of an eigenvalue x of F F^T/D; P/D = 1/ratio of them
    G = Symbol("G", positive=True)  # mh.G mh
    qh = Symbol("qh", positive=True)
    node = erm.node_energy(
        ridge, rho, sympy.Integer(1), ratio * Vh, ratio * qh, ratio**2 * linear * x / ratio * G / sigma**2
    )
    node = sympy.together(node / ratio)
    # mean of 1/(x + r) over the P eigenvalues is ratio T, that of x/(x + r) is 1 - r ratio T = ratio T/(1 + T)
    shift = (ridge / (ratio * Vh) + higher) / linear
    decomposed = sympy.apart(node, x)
    constant = sympy.limit(node, x, sympy.oo)
    pole = sympy.simplify((node - constant) * (x + shift))
    if pole.has(x) or sympy.simplify(decomposed - constant - pole / (x + shift)) != 0:
        raise AssertionError("the term of the weights is not a resolvent")
    averaged = constant + pole * ratio * T
    A, B = _terms(Y, Vh, sigma, weights)
    wanted = -(qh * A + G * B) / 2
    equation = 1 / (ratio * T) - r - 1 / (1 + T)
    (ratio_of,) = sympy.solve(equation.subs(r, shift), ratio)
    gap = (averaged - wanted).subs(Y, T / (linear * Vh)).subs(ratio, ratio_of)
    if sympy.simplify(gap) != 0:
        raise AssertionError("A and B are not the averages over the spectrum")
    return (
        Step("Weights, an eigenvalue x of F F^T/D", latex(node)),
        Step("Spectrum", rf"\overline{{1/(x + r)}} = \varrho T,\quad r = {latex(shift)}"),
        Step("Term of the weights", latex(wanted)),
    )


def _terms(Y: sympy.Expr, Vh: sympy.Expr, sigma: sympy.Expr, weights: Weights) -> tuple[sympy.Expr, sympy.Expr]:
    """A and B of the module's docstring."""
    seen = weights.linear * Y / (1 + weights.linear * Vh * Y)
    return seen + weights.higher * Y, seen / sigma**2


def _taught() -> tuple[Step, ...]:
    """What features see of a teacher: the first order in the covariance of a feature's field and the teacher's."""
    u, nu, e, q, s, sigma = sympy.symbols("u nu epsilon q s sigma", positive=True)
    psi, y = sympy.Function("psi")(u), sympy.Function("y")(nu)
    zero = sympy.Integer(0)
    slope = heat(psi * y, (u, nu), (zero, zero), sympy.Matrix([[q, e], [e, s]]), e)
    if sympy.expand(slope - psi.diff(u) * y.diff(nu)) != 0:
        raise AssertionError("the first order is not the product of slopes")
    # E[psi'] = k_1/sigma by Stein's rule, checked for a cubic psi; and Cov(u_k, nu) = sigma^2 f_k.w*/D
    (x,), a = fields(1), Symbol("a", real=True)
    law, cubic = GaussianAlgebra((x,), (0,), ((sigma**2,),)), x**3 + a * x
    k1 = law.average(sympy.expand(x * cubic)) / sigma
    if sympy.expand(law.average(sympy.expand(cubic.diff(x))) - k1 / sigma) != 0:
        raise AssertionError("the average slope of a feature is not k_1/sigma")
    return (
        Step("Heat equation", r"E[\psi(u_k) y] = E\psi\,E y + E[\psi'] E[y']\,\mathrm{Cov}(u_k, \nu) + O(D^{-1})"),
        Step(
            "Teacher's fields",
            r"\mathrm{Cov}(w, \nu_m) = \sum_k \tfrac{w_k}{\sqrt P}\,\tfrac{k_1}{\sigma}\,"
            r"\sigma^2\,\tfrac{f_k\cdot w^*_m}{D} = \sigma^2\,v\cdot w^*_m,\quad "
            r"v = \tfrac{k_1}{\sigma} F^T w/\sqrt P",
        ),
    )


def potential() -> sympy.Expr:
    """E/D for two clusters: that of erm.py, with the term of the weights in Y(Vh)."""
    weights = Weights(erm.ridge, *sympy.symbols("linear higher ratio", positive=True))
    A, B = _terms(sympy.Function("Y")(erm.Vh), erm.Vh, Symbol("sigma", positive=True), weights)
    hats = sympy.Matrix(erm.mh)
    bare = erm.potential().subs(dict.fromkeys((erm.share, *erm.G), 0))
    return bare - (erm.qh * A + (hats.T * erm.G * hats)[0] * B) / 2


def overlaps(
    Vh: Positive, qh: Positive, sigma: Positive, Y: Positive, weights: Weights, drive: Real, length: Real
) -> Derived:
    """(V, q, m_a): drive = (G mh)_a, length = mh.G mh."""
    phi = potential()
    pairs = ((erm.qh, erm.V), (erm.Vh, erm.q), (erm.mh[0], erm.m[0]))
    found = [saddle(phi, by, unknown, latex) for by, unknown in pairs]
    equation, _ = _equation(Y, Vh, weights)
    implicit = -equation.diff(Vh) / equation.diff(Y)
    # -dY/dVh and q as sums of terms of one sign
    seen, fall = sympy.symbols("seen fall", positive=True)
    X = weights.linear * Vh * Y
    falls = weights.ratio * Y**2 * (weights.higher * seen + weights.linear / seen)
    falls /= 1 + (weights.ridge + weights.ratio * weights.higher * Vh) * X * Y
    lost = weights.linear * (fall + weights.linear * Y**2) / seen**2
    values = (
        weights.linear * Y / seen + weights.higher * Y,
        qh * (lost + weights.higher * fall) + length * lost / sigma**2,
        drive * weights.linear * Y / (sigma**2 * seen),
    )
    (ridge,) = sympy.solve(equation, weights.ridge)
    if sympy.simplify((falls.subs(seen, 1 + X) + implicit).subs(weights.ridge, ridge)) != 0:
        raise AssertionError("dY/dVh is not what the equation for Y says")
    hats = sympy.Matrix(erm.mh)
    field, quadratic = (erm.G * hats)[0], sympy.expand((hats.T * erm.G * hats)[0])
    for (value, _), wanted in zip(found, values, strict=True):
        plain = value.subs(sympy.Function("Y")(erm.Vh).diff(erm.Vh), -fall).subs(sympy.Function("Y")(erm.Vh), Y)
        gap = plain - wanted.subs({drive: field, length: quadratic, seen: 1 + X})
        if sympy.simplify(gap) != 0:
            raise AssertionError(f"{wanted} is not {plain}")
    steps = (*_spectral(), *_taught(), Step("Potential", latex(phi)), *(step for _, step in found))
    return Derived(values, ((seen, 1 + X), (fall, falls)), steps)


def weight_energy(
    Vh: Positive, qh: Positive, sigma: Positive, Y: Positive, weights: Weights, length: Real
) -> sympy.Expr:
    """The term of the weights in E/D."""
    A, B = _terms(Y, Vh, sigma, weights)
    return -(qh * A + length * B) / 2


def separable_share(linear: Positive, higher: Positive, ratio: Positive) -> Derived:
    """t: features separate the data where P = D/ratio dimensions of noise 1 do, with the Gram matrix t G/sigma^2.

    Without a ridge the potential is that of P such dimensions, n = alpha·ratio·P, in the units of the weights.
    """
    Y, Vh, qh, sigma, G = sympy.symbols("Y Vh qh sigma G", positive=True)
    weights = Weights(sympy.Integer(0), linear, higher, ratio)
    equation, _ = _equation(Y, Vh, Weights(Symbol("ridge"), linear, higher, ratio))
    T = Symbol("T", positive=True)
    bare = sympy.factor(equation.subs(Symbol("ridge"), 0).subs(Y, T / (linear * Vh)))
    if bare.has(Vh):
        raise AssertionError("T depends on Vh at ridge 0")
    (higher_of,) = sympy.solve(bare, higher)
    A, B = (term.subs(Y, T / (linear * Vh)) for term in _terms(Y, Vh, sigma, weights))
    t = T / (1 + T)
    plain = erm.node_energy(sympy.Integer(0), sympy.Integer(1), sympy.Integer(1), ratio * Vh, ratio * qh,
                            ratio**2 * t * G / sigma**2) / ratio  # fmt: skip
    if sympy.simplify((-(qh * A + G * B) / 2 - plain).subs(higher, higher_of)) != 0:
        raise AssertionError("without a ridge the features are not a linear problem")
    outcome = derived(resolvent)
    at = {Symbol("ridge", positive=True): 0, Symbol("Vh", positive=True): 1}
    definitions = tuple((symbol, sympy.simplify(value.subs(at))) for symbol, value in outcome.definitions)
    grown, product = Symbol("grown", positive=True), linear * outcome.values[0].subs(at)
    steps = (Step("Without a ridge", rf"{latex(bare)} = 0,\quad T = k_1^2 \hat V Y"), Step("Share", f"t = {latex(t)}"))
    return Derived(grown / (1 + grown), (*definitions, (grown, product)), steps)


FORMULAS = (resolvent, overlaps, weight_energy, separable_share)
