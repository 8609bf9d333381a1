r"""Labels by a teacher in the potential of erm.py: what learners on n = alpha D samples see of them.

    y = F(nu_1 .. nu_m),     nu_m = w*_m.x/sqrt(D) + noise,     x | a ~ N(mean_a, sigma^2)

Given the cluster the learner's field w ~ N(m_a + b, q) and the teacher's are jointly normal, with

    E[nu_m] = level_am,     Cov(w, nu_m) = sigma^2 v.w*_m,     m_a = mean_a.v

so that the learner's weights v along means and teacher enter by the mean of w and by these covariances.  The conjugate
of v is h; without a teacher it is sum_a mh_a mean_a.  The channel E[M] is that of erm.py, averaged over the labels too:
its derivative by v at fixed q is given by the heat equation, and holds for any loss and teacher:

    h = alpha sum_a P_a (mean_a E[f] + sigma^2 sum_m w*_m E[df/dnu_m])

For the square loss f is linear in y and sum_m w*_m E[df/dnu_m] = sum_m w*_m E[dy/dnu_m]/(1 + V): of all neurons one
vector counts, sum_m v_m c_1m w*_m where y = sum_m v_m g(nu_m), c_1m = E[g'(nu_m)], and what is not linear in x enters
by its variance alone, as label noise does.  For another loss and y = sign(nu) a sample weighs the probability of its
label given w, and df/dnu is the jump of f at the border nu = 0, conditioned on it.
"""

from __future__ import annotations

import sympy
from sympy import Rational, Symbol, sqrt

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi, Remainder, density
from quenched.symbolic.calculus.replica import heat
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step, derived, specification_symbols
from quenched.symbolic.learners import erm

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE"]

TITLE = "Labels by a teacher, n = alpha D"
PART, ORDER = "replica", 5
STATUS = "Replica symmetric; the square loss with a linear teacher and noise is Hastie and others 2022."
NOTATION = erm.NOTATION | {
    "response": r"f_{\nu}",
    "along": r"\sigma^2 w^*",
    "label": r"\bar y",
    "second": r"\overline{y^2}",
    "overlap": "o",
    "level": r"\bar\nu",
    "power": "s_{\\nu}",
    "covariance": "c",
    "regressed": r"f_{\xi}",
    "left": "l",
}
latex = in_letters(NOTATION)

HALF = Rational(1, 2)


def drive(alpha: Positive, weight: Positive, move: Real, mean: Real, response: Real, along: Real) -> Derived:
    """A cluster's term of h along one direction: means of E[f] and, for a field nu, of response = E[df/dnu].

    `mean` is the cluster's, `along` the derivative of Cov(w, nu) by v; of several fields each adds such a term.
    """
    t, q, s, b, level = sympy.symbols("t q s b level", real=True)
    w, nu = fields(2)
    envelope = sympy.Function("M")(w, nu)
    m, c = (sympy.Function(name)(t) for name in ("m", "c"))
    slope = heat(envelope, (w, nu), (m + b, level), sympy.Matrix([[q, c], [c, s]]), t)
    wanted = envelope.diff(w) * m.diff(t) + envelope.diff(w, nu) * c.diff(t)
    by_q = heat(envelope, (w, nu), (b, level), sympy.Matrix([[t, s], [s, s]]), t)
    if sympy.expand(slope - wanted) != 0 or sympy.expand(by_q - envelope.diff(w, 2) / 2) != 0:
        raise AssertionError("the heat equation has other terms than those of the mean and the covariance")
    # dM/dw = -f: E[M] falls by E[f] dm + E[df/dnu] dc, and the potential h v + alpha P E[M] is stationary
    value = alpha * weight * (mean * move + along * response)
    steps = (
        Step("Heat equation", r"dE[\mathcal M] = E[\mathcal M_w]\,dm + E[\mathcal M_{w\nu}]\,dc + \tfrac12 E[f']\,dq"),
        Step("Envelope theorem", r"\mathcal M_w = -f,\quad \mathcal M_{w\nu} = -\partial f/\partial\nu"),
        Step("Derivative by v", f"h = {latex(value)}"),
    )
    return Derived(value, steps=steps)


def square(V: Positive, label: Real, second: Positive, overlap: Real, mean: Real, variance: Positive) -> Derived:
    """(E[f], E[f^2], E[f'], E[M]) of the square loss: label = E[y], second = E[y^2], overlap = Cov(y, w).

    df/dy = -f', so that E[df/dnu] = -E[f'] E[dy/dnu].  Only moments of order two enter: the law of y does not matter.
    """
    w, y = fields(2)
    plain, (_, y_plain, *_) = derived(erm.square).values, specification_symbols(erm.square)
    f = (y - w) / (1 + V)
    law = GaussianAlgebra((w, y), (mean, label), ((variance, overlap), (overlap, second - label**2)), printed=latex)
    cost = V * f**2 / 2 + (w + V * f - y) ** 2 / 2
    found = [sympy.factor(law.average(sympy.expand(part))) for part in (f, f**2, f.diff(w), cost)]
    if f.diff(y) != -f.diff(w):
        raise AssertionError("the move of the square loss depends on more than y - w")
    for here, there in zip(found, plain, strict=True):  # a label of the cluster
        if sympy.simplify(here.subs({second: label**2, overlap: 0}) - there.subs(y_plain, label)) != 0:
            raise AssertionError("without a teacher the averages are not those of the square loss")
    return Derived(
        tuple(found), steps=(Step("Stationarity", f"f = {latex(f)}"), *_label_noise(found[1], V), *_vector())
    )


def _label_noise(squared: sympy.Expr, V: sympy.Symbol) -> tuple[Step, ...]:
    """With y = c + B.g + r, r of variance s and uncorrelated with x: the variance of r enters as label noise does."""
    c, B, u, left, s, mean = sympy.symbols("c B u l s mu", real=True)  # w = mu + u.g + noise of variance l
    moments = {"label": c, "second": c**2 + B**2 + s, "overlap": B * u, "mean": mean, "variance": u**2 + left}
    known = {symbol: moments[symbol.name] for symbol in squared.free_symbols if symbol.name in moments}
    wanted = ((c - mean) ** 2 + (B - u) ** 2 + left + s) / (1 + V) ** 2
    if sympy.simplify(squared.subs(known) - wanted) != 0:
        raise AssertionError("what is not linear in x is not label noise")
    return (
        Step("Orders of the label", r"y = \bar y + B\cdot g + r,\quad E[r] = E[r g] = 0,\quad E[r^2] = s"),
        Step("Label noise", rf"E[f^2] = {latex(wanted)}"),
    )


def _vector() -> tuple[Step, ...]:
    """B = E[y g] = sum_m v_m E[g'(nu_m)] dnu_m/dg by Stein's rule: checked for two cubic neurons."""
    x, z = fields(2)
    a, c, one, other = sympy.symbols("a c v_1 v_2", real=True)
    law = GaussianAlgebra((x, z), (0, 0), ((1, 0), (0, 1)))
    first, second = a * x + c * z, c * x - a * z
    y = one * first**3 + other * second**3
    direct = law.average(sympy.expand(x * y))
    stein = sum(v * law.average(sympy.expand(3 * nu**2)) * nu.diff(x) for v, nu in ((one, first), (other, second)))
    if sympy.expand(direct - stein) != 0:
        raise AssertionError("the linear part of the labels is not what Stein's rule says")
    return (Step("Stein", r"B = E[y g] = \sigma \sum_m v_m E[g'(\nu_m)]\, w^*_m"),)


def _split(mean: sympy.Expr, variance: sympy.Expr, covariance: sympy.Expr, power: sympy.Expr) -> None:
    """AssertionError unless N(x, z) = N(x; 0, power) N(z; mean, variance) for power = Var x, covariance = Cov(x, z)."""
    x, z = fields(2)
    S = sympy.Matrix([[power, covariance], [covariance, variance + covariance**2 / power]])
    vector = sympy.Matrix([x, z])
    joint = -(vector.T * S.inv() * vector)[0] / 2 - sympy.log(4 * sympy.pi**2 * S.det()) / 2
    parts = [sympy.expand_log(sympy.log(density(*each)), force=True) for each in ((x, power), (z - mean, variance))]
    if sympy.simplify(sympy.expand_log(joint, force=True) - sum(parts)) != 0:
        raise AssertionError("the joint density does not split")


def border(mean: Real, variance: Positive, level: Real, power: Positive, covariance: Real) -> Derived:
    """Density of nu ~ N(level, power) at 0, and mean and variance of w given nu = 0.

    For y = sign(nu), E[df/dnu] is that density times E[f(w, 1) - f(w, -1) | nu = 0].
    """
    x, left = fields(1)[0], Symbol("left", positive=True)
    _split(covariance * x / power, left, covariance, power)
    value = (density(level, power), mean - covariance * level / power, Remainder(variance, covariance, power))
    steps = (
        Step("Border", r"y = \operatorname{sign}\nu:\quad \partial f/\partial\nu = (f_+ - f_-)\,\delta(\nu)"),
        Step("Conditioning", rf"w \mid \nu = 0 \sim N\bigl({latex(value[1])}, {latex(value[2].doit())}\bigr)"),
    )
    return Derived(value, steps=steps)


def label_law(variance: Positive, level: Real, power: Positive, covariance: Real) -> Derived:
    """(base, slope): P(nu > 0 | w) = Phi(base + slope xi) at w = E[w] + sqrt(variance) xi, nu ~ N(level, power)."""
    x, rest, left = fields(1)[0], Symbol("rest", positive=True), Symbol("left", positive=True)
    _split(covariance * x / variance, rest, covariance, variance)
    (u,) = fields(1)
    law = GaussianAlgebra((u,), (level,), ((left,),), printed=latex)
    if sympy.simplify(law.average(sympy.Heaviside(u, HALF)) - Phi(level / sqrt(left))) != 0:
        raise AssertionError("the probability of a half-space is not an orthant's")
    steps = (
        Step("Conditioning", rf"\nu \mid w \sim N\bigl({latex(level)} + c\,\xi/\sqrt q, {latex(left)}\bigr)"),
        Step("Orthant", r"P(y = 1 \mid w) = \Phi\bigl(E[\nu \mid w]/\sqrt{l}\bigr)"),
    )
    value = (level / sqrt(left), covariance / sqrt(variance * left))
    return Derived(value, ((left, Remainder(power, covariance, variance)),), steps)


def move_slope(variance: Positive, regressed: Real, covariance: Real, response: Real) -> Derived:
    """E[f'], f' = df/dw, from regressed = E[xi f], xi = (w - E[w])/sqrt(variance), and response = E[df/dnu]."""
    w, nu = fields(2)
    a, c = sympy.symbols("a c", real=True)
    law = GaussianAlgebra((w, nu), (0, 0), ((variance, covariance), (covariance, 1)))
    f = a * w**3 + c * w**2 * nu  # of degree 3 in both
    slope, other = (law.average(sympy.expand(f.diff(each))) for each in (w, nu))
    if sympy.expand(law.average(sympy.expand(w * f)) - variance * slope - covariance * other) != 0:
        raise AssertionError("Stein's rule over two fields is wrong")
    value = (sqrt(variance) * regressed - covariance * response) / variance
    return Derived(value, steps=(Step("Stein", r"\sqrt q\, E[\xi f] = q\, E[f'] + c\, E[\partial f/\partial\nu]"),))


FORMULAS = (drive, square, border, label_law, move_slope)
