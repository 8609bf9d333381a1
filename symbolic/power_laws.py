r"""Power laws of linear students: the risk of one-pass SGD on P random features of D inputs, and the laws it follows.

    y = sum_j beta_j x_j + noise,  x_j of variance lambda_j = j^(-2a),  beta_j = j^(-b),  phi = theta·F x,  F (P, D)
    theta <- theta - (gamma/B) sum_samples (phi - y) F x,       F_pj normal of variance 1/P, drawn once

Given F the student sees inputs of the covariance F Lambda F^T, of eigenvalues k_u, and what no theta can represent is
noise of its labels.  These are the learning equations in the nodes of a spectrum.  For a linear student they close in
S_u, the square of the error theta - theta* along node u: with the risk L = E[(phi - y)^2] = sum_u k_u S_u + rest,

    dS_u/dn = -2 gamma k_u S_u + (gamma^2/B) k_u L,

a Volterra equation, solved by Laplace's transform in n.  The features enter it by two traces of the resolvent of
A = Lambda^(1/2) F^T F Lambda^(1/2), whose deterministic equivalent is zeta (A + zeta)^-1 -> kappa (Lambda + kappa)^-1,

    kappa = zeta + kappa·degrees/P,   degrees = sum_j lambda_j/(lambda_j + kappa)       (Silverstein 1995).

The laws are those of sums over j, which are integrals for many j: Mellin transforms of exp(-u) and u/(1 + u).  The
phases where one or another of them is largest are those of Paquette, Paquette, Xiao and Pennington (2024).
"""

from __future__ import annotations

from functools import cache

import sympy
from sympy import Symbol, exp, gamma, pi, sin

from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step

__all__ = ["FOLDER", "FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE"]

TITLE = "Power laws of linear students"
PART, ORDER = "learning", 6
STATUS = "Given the features exact as steps are small; traces over them by a deterministic equivalent."
FOLDER = "scaling"
NOTATION = {
    "lr": r"\gamma",
    "batch": "B",
    "target": "Y",
    "degrees": "d",
    "trace": "T",
    "edge": r"\kappa_0",
    "source": "S",
    "gain": "g",
    "features": "P",
    "inputs": "D",
}
latex = in_letters(NOTATION)
u, c, j, s = (Symbol(name, positive=True) for name in ("u", "c", "j", "s"))


def _node(lr: sympy.Expr, batch: sympy.Expr, s: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
    """k S(s) of a node, as what its S(0) and what L(s) contribute: the transform of its equation, solved."""
    k, start, S, L = sympy.symbols("k S_0 S L", positive=True)
    equation = s * S - start - (-2 * lr * k * S + lr**2 / batch * k * L)
    (solved,) = sympy.solve(equation, S)
    total = sympy.expand(k * solved)
    return total.coeff(start) * start, total.coeff(L)


def risk_transform(target: Real, degrees: Real, trace: Positive, zeta: Real, lr: Positive, batch: Positive) -> Derived:
    """L(s), the Laplace transform of the risk of theta = 0 at the start over the steps, at s = 2 lr zeta.

    target = sum_j lambda_j beta_j^2 kappa/(lambda_j + kappa) + label noise^2, degrees = sum_j lambda_j/(lambda_j +
    kappa) = P (1 - zeta/kappa), trace = sum_j lambda_j.  Numbers may be complex.
    """
    k = Symbol("k", positive=True)
    begun, fed = _node(lr, batch, 2 * lr * zeta)
    # sum_u k S_0/(s + 2 lr k) and what is never learned, k = 0, is y·zeta (A + zeta)^-1 y/s: S_0 k = (y_u)^2
    y = Symbol("y", positive=True)
    S_0 = Symbol("S_0", positive=True)
    per_node = sympy.simplify(begun.subs(S_0, y**2 / k) * 2 * lr * (k + zeta))
    if per_node != y**2:
        raise AssertionError(f"a node of the target contributes {per_node}/(2 lr (k + zeta))")
    # sum_u of the memory kernel, by partial fractions: k^2/(k + zeta) = k - zeta k/(k + zeta)
    rest = sympy.apart(sympy.together(fed * 2 * batch / lr), k) - (k - zeta)
    if sympy.simplify(rest - zeta**2 / (k + zeta)) != 0:
        raise AssertionError(f"the memory of a node has the rest {rest}")
    kernel = lr / (2 * batch) * (trace - zeta * degrees)
    value = target / (2 * lr * zeta) / (1 - kernel)
    memory = r"\tfrac{\gamma^2}{B} \sum_u \frac{k_u^2}{s + 2\gamma k_u}"
    steps = (
        Step("Laplace's transform", r"S_u(s) = \frac{S_u(0) + (\gamma^2/B)\, k_u L(s)}{s + 2 \gamma k_u}"),
        Step("Forcing", r"f(s) = \frac{Y}{s},\quad Y = y\cdot \zeta (A + \zeta)^{-1} y + \text{label noise}^2,\quad "
             r"y_j = \sqrt{\lambda_j} \beta_j,\quad s = 2 \gamma \zeta"),
        Step("Partial fractions", rf"K(s) = {memory} = {latex(kernel)}"),
        Step("Deterministic equivalent", r"\zeta (A + \zeta)^{-1} \to \kappa (\Lambda + \kappa)^{-1}"),
        Step("Volterra equation", rf"L = \frac{{f}}{{1 - K}} = {latex(value)}"),
    )  # fmt: skip
    return Derived(value, steps=steps)


# --- sums over j as integrals


@cache
def _mellin(function: sympy.Expr, at: sympy.Expr) -> sympy.Expr:
    """The integral of u^(at - 1) `function`(u) over u > 0, known for two functions by a proof each."""
    if function == exp(-u):
        euler = sympy.integrate(u ** (c - 1) * exp(-u), (u, 0, sympy.oo), conds="none")
        return euler.subs(c, at)
    if function == u / (1 + u):
        # u^c/(1 + u), -1 < c < 0: Euler's reflection of the Beta integral
        beta = gamma(c + 1) * gamma(-c)
        reflected = sympy.gammasimp(beta)
        return -pi / sin(pi * at) if sympy.simplify(reflected + pi / sin(pi * c)) == 0 else beta.subs(c, at)
    raise ValueError(f"no Mellin transform of {function} is known here")


@cache
def _measure() -> None:
    """Proof that j^-power dj is x^-e u^(e - 1) du/(2a) at u = x j^-2a, e = (power - 1)/(2a)."""
    a, x, power = (Symbol(name, positive=True) for name in ("a", "x", "power"))
    index = (x / u) ** (1 / (2 * a))
    exponent = (power - 1) / (2 * a)
    ratio = -index.diff(u) * index**-power / (x**-exponent * u ** (exponent - 1) / (2 * a))
    if sympy.simplify(sympy.expand_log(sympy.log(ratio), force=True)) != 0:
        raise AssertionError(f"the measure of u is off by {ratio}")


def _many(power: sympy.Expr, a: sympy.Symbol, x: sympy.Expr, function: sympy.Expr) -> sympy.Expr:
    """sum_j j^-power f(x j^-2a) for large x: the integral over j, u = x j^-2a."""
    _measure()
    exponent = (power - 1) / (2 * a)
    return x**-exponent * _mellin(function, exponent) / (2 * a)


def target_term(a: Positive, b: Positive, x: Positive, gain: Positive) -> Derived:
    """The target not yet learned, for many features, x = 2 lr steps: gain·sum_j j^(-2a-2b) exp(-x j^(-2a)).

    gain = 1/(1 - K(0)), K(0) = lr·trace/(2 batch), is the factor by which SGD's own noise raises it.

    A closed form, for reading and for tests.
    """
    value = gain * _many(2 * a + 2 * b, a, x, exp(-u))
    step = rf"g \sum_j j^{{-2a-2b}} e^{{-x j^{{-2a}}}} \to {latex(value)}"
    return Derived(value, steps=(Step("Mellin transform of an exponential", step),))


def noise_term(a: Positive, x: Positive, lr: Positive, batch: Positive, source: Positive, gain: Positive) -> Derived:
    """The noise of SGD, x = 2 lr steps, source = sum_j beta_j^2 finite: gain^2·K(n)·source/(2 lr).

    A closed form, for reading and for tests.
    """
    F_0, dF, K_0, dK, e = sympy.symbols("F_0 dF K_0 dK epsilon", positive=True)
    total = (F_0 + e * dF) / (1 - (K_0 - e * dK))
    first = sympy.simplify(total.diff(e).subs(e, 0))
    if sympy.simplify(first - (dF / (1 - K_0) - F_0 * dK / (1 - K_0) ** 2)) != 0:
        raise AssertionError(f"the risk to first order is {first}")
    kernel = lr**2 / batch * _many(4 * a, a, x, exp(-u))
    area = source / (2 * lr)  # sum_j lambda_j beta_j^2/(2 lr lambda_j)
    value = gain**2 * area * kernel
    steps = (
        Step("First order at small s", r"\delta L = g\, \delta f + g^2 f(0)\, \delta K,\quad f(0) = \int f\,dn"),
        Step("Mellin transform of an exponential",
             rf"K = \tfrac{{\gamma^2}}{{B}} \sum_j j^{{-4a}} e^{{-x j^{{-2a}}}} \to {latex(kernel)}"),
    )  # fmt: skip
    return Derived(value, steps=steps)


def edge_equation(a: Positive, edge: Positive) -> Derived:
    """P = sum_j lambda_j/(lambda_j + kappa), of kappa = `edge` at zeta = 0, for many inputs and 2a > 1.

    A closed form, for reading and for tests.
    """
    value = sympy.simplify(_many(sympy.Integer(0), a, 1 / edge, u / (1 + u)))
    return Derived(value, steps=(Step("Mellin transform of a fraction", rf"P = {latex(value)}"),))


def floor_term(a: Positive, b: Positive, edge: Positive, gain: Positive) -> Derived:
    """The target that features cannot represent, kappa = edge, many inputs, b < 1/2; for b > 1/2: gain·source·edge.

    A closed form, for reading and for tests.
    """
    value = gain * edge * _many(2 * b, a, 1 / edge, u / (1 + u))
    told = rf"g \sum_j \frac{{j^{{-2a-2b}} \kappa_0}}{{j^{{-2a}} + \kappa_0}} \to {latex(value)}"
    return Derived(value, steps=(Step("Mellin transform of a fraction", told),))


def embedding_term(a: Positive, x: Positive, features: Positive, source: Positive, gain: Positive) -> Derived:
    """The distortion of the first directions by features, x = 2 lr steps, 2a > 1, source = sum_j beta_j^2 finite.

    kappa - zeta = zeta·degrees/P to first order in 1/P adds source·(kappa - zeta)/s to the forcing.

    A closed form, for reading and for tests.
    """
    zeta = Symbol("zeta", positive=True)
    shift = zeta / features * _many(sympy.Integer(0), a, 1 / zeta, u / (1 + u))
    power = sympy.simplify(zeta * shift.diff(zeta) / shift)
    # s^-1 zeta^power at s = 2 lr zeta is the transform of x^-power/Gamma(1 - power): Euler's integral in x
    value = sympy.simplify(gain * source * shift / zeta**power) * x**-power / gamma(1 - power)
    steps = (
        Step("First order in 1/P", rf"\kappa - \zeta = {latex(sympy.simplify(shift))}"),
        Step("Euler's integral", r"\int_0^\infty x^{-q} e^{-\zeta x}\, dx = \Gamma(1 - q)\, \zeta^{q - 1}"),
    )
    return Derived(value, steps=steps)


def early_term(
    a: Positive, features: Positive, inputs: Positive, lr: Positive, batch: Positive, source: Positive
) -> Derived:
    """What random features, and the end of the sum over inputs, add to the risk while x = 2 lr steps is small against
    P^2a, for a between 1/4 and 1/2 and source = sum_j beta_j^2 finite: a constant, of the order of the floor at fixed
    D/P.

    There is no gain: K, of which the last directions have most, has hardly begun.  For a below 1/3 this is the largest
    correction to target and noise, above 1/3 what of K there is.

    A closed form, for reading and for tests.
    """
    D, per_zeta = inputs, Symbol("w", positive=True)
    up_to = D ** (1 - 2 * a) / (1 - 2 * a)  # from 0 to D, 2a < 1
    beyond = D ** (1 - 4 * a) / (4 * a - 1)  # from D on, 4a > 1
    for value, power in ((up_to, 2 * a), (-beyond, 4 * a)):
        if sympy.simplify(value.diff(D) - D**-power) != 0:
            raise AssertionError(f"{value} is no integral of j^-({power})")
    # kappa - zeta = (kappa/P) sum_j lambda_j/(lambda_j + kappa), most of it of lambda_j below kappa
    shift = up_to / features
    # trace - zeta degrees = sum_j lambda_j (lambda_j + kappa - zeta)/(lambda_j + kappa): the sum without end, of which
    # the noise is made, and this over zeta
    kernel = lr / (2 * batch) * (up_to * shift - beyond) * per_zeta
    forcing = source / (2 * lr) * (1 + shift * per_zeta)
    # 1/s at s = 2 lr zeta is the transform of 1
    first = (forcing * (1 + kernel)).diff(per_zeta).subs(per_zeta, 0)
    value = sympy.Add(*(2 * lr * term for term in sympy.Add.make_args(first)))
    steps = (
        Step("Random features", rf"\kappa - \zeta \to {latex(shift)}"),
        Step("End of the sum", rf"\int_D^\infty j^{{-4a}} dj = {latex(beyond)}"),
        Step("First order at large s", rf"F (1 + K) \ni \frac1s \left[{latex(value)}\right]"),
    )
    return Derived(value, steps=steps)


def term_exponents(a: Positive, b: Positive) -> Derived:
    """Powers of x in target, noise, embedding; of the rate in noise; of P in embedding, floor at b < 1/2, at b > 1/2.

    Logarithmic derivatives of the terms at fixed gain; the floor with kappa = P^(-2a), which holds for 2a > 1 and, at
    D/P fixed, where j/P and kappa P^(2a) have a limit in sum_j lambda_j/(lambda_j + kappa) = P, for 2a < 1 too.
    """
    x, lr, batch, source, gain, P = (Symbol(n, positive=True) for n in ("x", "lr", "batch", "source", "gain", "P"))
    edge = Symbol("edge", positive=True)
    target, noise = target_term(a, b, x, gain).values[0], noise_term(a, x, lr, batch, source, gain).values[0]
    embedding, floor = embedding_term(a, x, P, source, gain).values[0], floor_term(a, b, edge, gain).values[0]
    number = edge_equation(a, edge).values[0]

    def power(term: sympy.Expr, of: sympy.Symbol) -> sympy.Expr:
        return sympy.factor(sympy.powsimp(of * term.diff(of) / term))

    per_edge = sympy.simplify(1 / power(number, edge))
    if per_edge != -2 * a:
        raise AssertionError(f"kappa at zeta = 0 is P^({per_edge})")
    values = (
        power(target, x),
        power(noise, x),
        power(embedding, x),
        power(noise, lr),
        power(embedding, P),
        sympy.expand(per_edge * power(floor, edge)),
        per_edge,
    )
    names = ("x", "x", "x", r"\gamma", "P", "P", "P")
    told = r",\ ".join(f"{name}^{{{latex(value)}}}" for name, value in zip(names, values, strict=True))
    return Derived(values, steps=(Step("Logarithmic derivatives", told),))


FORMULAS = (
    risk_transform,
    target_term,
    noise_term,
    edge_equation,
    floor_term,
    embedding_term,
    early_term,
    term_exponents,
)
