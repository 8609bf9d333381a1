r"""Kernel ridge regression on a Gaussian mixture in high dimension: its output on each cluster, and the variance.

A kernel here is a function F(N, N', u) of N = |x|^2/D, N' = |x'|^2/D and u = x.x'/D.  From n samples with labels y_i it
learns f(x) = sum_i c_i F(x, x_i), c = (K + ridge)^-1 y.  Write a sample of cluster a as x = sqrt(D) A_a + sigma g, with
g normal, and split g into its components g_j along the means, a fluctuation xi of |g|^2, and the rest z:

    |x|^2/D = |A_a + sigma g/sqrt(D)|^2 + sigma^2 (1 + sqrt(2/D) xi),   x.x'/D = (along the means) + sigma^2 z.z'/D

*Taylor.*  Around the means F is a polynomial in these small quantities.  Its coefficients are a matrix S between the
features 1, g_j, xi of one cluster and those of another (`taylor`), and its powers of z.z' are channels of many
directions each: kernels (w_j/d_j) sum_tau z_tau z_tau' (`channels`).  What is of higher order acts like a ridge zeta.

*Resolvent.*  For the channels alone, R = (K + zeta)^-1 has z_tau.R z_tau = t/(1 + w t) by Sherman and Morrison, with
t = n r/d, r = Tr R/n the same without the direction tau; Tr R (K + zeta) = n then says what r is:

    r (zeta + sum_j w_j/(1 + nu_j w_j r)) = 1,   nu_j = n/d_j                           (`response`, `two_channels`)

*Spikes.*  The features of finite number add Z S Z^T with Z^T R Z = diag(n P_a r) on them (independent of the channels),
and so, by Woodbury, f has the coefficients o on the features, Y the labels on the features 1 and 0 elsewhere:

    Z^T c = beta = (diag(n P_a r)^-1 + S)^-1 Y,   o = S beta = Y - diag(n P_a r)^-1 beta           (`spiked`)

Directions in which n S diverges as D grows only restrict beta to their complement; so does an intercept, which is a
constant of infinite size (`intercept`).  What the features leave, E2 = E[(y - o.features)^2], is noise to the channels;
the channel j responds with an output of variance

    -E2 nu_j w_j^2 dr/dw_j,      since  |w_j/d_j sum_i c_i z_i|^2 = -(w_j^2/d_j) d(e.R e)/dw_j

with the residuals e_i = y_i - o.features (El Karoui 2010 for the linear channel).  All of this is a deterministic
equivalent: exact as D grows, not rigorous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sympy
from sympy import Rational, Symbol
from sympy.polys.matrices import DomainMatrix

from quenched.symbolic import mixtures
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step, derived, specification_symbols
from quenched.symbolic.learners import kernel_taylor
from quenched.symbolic.learners.kernel_taylor import Jet, OtherPlace, Place, coefficients, leading
from quenched.symbolic.learners.random_features import marchenko_pastur
from quenched.symbolic.mixtures import Cluster, axes

__all__ = ["FORMULAS", "NOTATION", "ORDER", "PART", "STATUS", "TITLE", "derivations", "spiked"]

TITLE = "Kernel ridge regression"
PART, ORDER = "features", 3
STATUS = "Deterministic equivalent: not rigorous but for the linear channel, checked at finite D."
NOTATION = kernel_taylor.NOTATION | {
    "even_slope": "k_{e}",
    "odd_slope": "k_{o}",
    "curvature": r"\kappa",
    "ratio": r"\ell",
}
latex = in_letters(NOTATION)

ONE, HALF = sympy.Integer(1), Rational(1, 2)


# --- resolvent


@dataclass(frozen=True)
class _Resolvent:
    """r(zeta, w) of channels of weights w_j and n/d_j = nu_j, through an equation; derivatives by implicit ones."""

    equation: sympy.Expr
    r: sympy.Symbol
    steps: tuple[Step, ...]

    def variance(self, weight: sympy.Symbol, nu: sympy.Expr) -> sympy.Expr:
        """-nu w^2 dr/dw: output variance of a channel for unit residual."""
        return nu * weight**2 * self.derivative(weight) / self.derivative(self.r)

    def derivative(self, symbol: sympy.Symbol) -> sympy.Expr:
        """Of the equation, term by term: c/(1 + nu c r)^2 from each channel."""
        return sympy.Add(*(sympy.factor(term.diff(symbol)) for term in sympy.Add.make_args(self.equation)))


def _resolvent(weights: Sequence[sympy.Symbol], nus: Sequence[sympy.Expr], zeta: sympy.Expr) -> _Resolvent:
    """Sherman-Morrison for one direction, and the trace identity."""
    t, w, r, n = sympy.symbols("t w r n", positive=True)
    without = sympy.factor(t - w * t**2 / (1 + w * t))  # z.R z from z.R_- z = t
    trace = zeta * n * r
    for weight, nu in zip(weights, nus, strict=True):  # n/nu directions of weight w nu/n, each with t = n r
        trace += (n / nu) * (weight * nu / n) * without.subs({w: weight * nu / n}).subs(t, n * r)
    equation = zeta * r - 1 + sympy.Add(*(r * c / (1 + nu * c * r) for c, nu in zip(weights, nus, strict=True)))
    if sympy.simplify(trace / n - 1 - equation) != 0:
        raise AssertionError("the equation for r is not the trace of R (K + zeta)")
    steps = (
        Step("Sherman-Morrison", rf"z^T R z = {latex(t - w * t**2 / (1 + w * t))} = {latex(without)}"),
        Step("Trace of R (K + zeta)", rf"{latex(equation)} = 0"),
    )
    return _Resolvent(equation, r, steps)


def response(T: Positive, ratio: Positive) -> Derived:
    """V = d(ratio·T)/d(ratio): variance of the output of a single channel for residuals of unit variance.

    T = nu w r is `marchenko_pastur` of `quenched.theory.random_features` at nu and ratio = zeta/w.
    """
    nu, w, zeta = sympy.symbols("nu w zeta", positive=True)
    resolvent = _resolvent([w], [nu], zeta)
    at_root = {zeta: ratio * w, resolvent.r: T / (nu * w)}
    equation = sympy.expand(sympy.numer(sympy.together(resolvent.equation.subs(at_root))))
    known = derived(marchenko_pastur)
    gamma, r = specification_symbols(marchenko_pastur)
    for root, _ in known.explicit()[0].args:  # both forms of the root of the other module
        if sympy.simplify(equation.subs({T: root, nu: gamma, ratio: r})) != 0:
            raise AssertionError("T is not the root of the resolvent equation")
    (solved,) = sympy.solve(equation, nu)
    variance = sympy.simplify(resolvent.variance(w, nu).subs(at_root).subs(nu, solved))
    slope = -equation.diff(ratio) / equation.diff(T)
    if sympy.simplify((T + ratio * slope).subs(nu, solved) - variance) != 0:
        raise AssertionError("V is not d(ratio T)/dratio")
    steps = (
        *resolvent.steps,
        Step("With T = nu w r", rf"{latex(sympy.collect(equation, T))} = 0"),
        Step("Response", rf"V = -\nu w^2\,\partial r/\partial w = {latex(variance)}"),
    )
    return Derived(variance, steps=steps)


def two_channels(even_slope: Real, odd_slope: Real, alpha: Positive, zeta: Positive, r: Positive) -> Derived:
    """(residual, slope, V) of two linear channels of weights even_slope and odd_slope.

    residual(r) = 0 determines r, slope = d residual/dr; V is the variance of the sum of their outputs for residuals of
    unit variance.
    """
    first_channel, second_channel = sympy.symbols("w_e w_o", real=True)
    resolvent = _resolvent([first_channel, second_channel], [alpha, alpha], zeta)
    given = {first_channel: even_slope, second_channel: odd_slope, resolvent.r: r}
    response = sum(resolvent.variance(w, alpha) for w in (first_channel, second_channel))
    values = (resolvent.equation, resolvent.derivative(resolvent.r), response)
    return Derived(tuple(value.subs(given) for value in values), steps=resolvent.steps)


# --- spikes: the closed forms


def spiked(
    S: sympy.Matrix, weights: Sequence[sympy.Expr], Y: sympy.Matrix, divergent: Sequence[sympy.Matrix] = ()
) -> sympy.Matrix:
    """The coefficients o of the output on the features: (diag(weights)^-1 + S) beta = Y, o = Y - diag(weights)^-1 beta.

    Along the vectors `divergent` S is infinite: beta is orthogonal to them.

    >>> s, t = sympy.symbols("s t", positive=True)
    >>> spiked(sympy.Matrix([[s]]), [t], sympy.Matrix([1]))
    Matrix([[s*t/(s*t + 1)]])
    """
    inverse = sympy.diag(*(1 / w for w in weights))
    basis = sympy.eye(len(weights))
    if divergent:
        columns = sympy.Matrix.hstack(*divergent).T.nullspace()
        basis = sympy.Matrix.hstack(*columns) if columns else sympy.zeros(len(weights), 0)
    if basis.cols == 0:
        return Y
    # over the field of rational functions: elimination without growing expressions
    reduced, right = (DomainMatrix.from_Matrix(m) for m in (basis.T * (inverse + S) * basis, basis.T * Y))
    reduced, right = reduced.to_field().unify(right.to_field())
    beta = basis * reduced.lu_solve(right).to_Matrix()
    return (Y - inverse * beta).applyfunc(sympy.factor)


def _symbols(record: type[tuple[sympy.Expr, ...]]) -> tuple[sympy.Symbol, ...]:
    return sympy.symbols(list(record.__annotations__), real=True)


def _finite(
    sites: Sequence[Cluster],
    scaling: sympy.Rational,
    sigma: sympy.Symbol,
    slope: Callable[[int, int], sympy.Expr],
    curvature: sympy.Expr,
) -> sympy.Matrix:
    """The finite part of D S on (1 of each cluster, g_j of each cluster), the kernel expanded around its values for
    means of order sqrt(D), where there are such: slope(i, k) is its derivative by u there, for clusters i and k.

    Inner-product kernels: no derivative with respect to the norms.
    """
    D = Symbol("D", positive=True)
    at, first, second = Jet(*_symbols(Jet)), Place(*_symbols(Place)), OtherPlace(*_symbols(OtherPlace))
    same = Symbol("same", real=True)
    _, _, entries = coefficients(at, first, second, same, D)
    C, p = len(sites), axes(sites)
    S = sympy.zeros(C * (1 + p), C * (1 + p))
    unit = D ** (scaling - HALF)
    for i, s in enumerate(sites):
        for k, s_ in enumerate(sites):
            u = sum(x * y for x, y in zip(s.mean, s_.mean, strict=True)) * unit**2
            F = slope(i, k) * u + curvature * u**2 / 2
            local = zip(at, (F, slope(i, k), curvature, *[sympy.Integer(0)] * 5), strict=True)
            given = dict(local) | {first.sigma: sigma, second.other_sigma: sigma}
            for j in range(p):
                for l in range(p):
                    place = {first.own: s.mean[j] * unit, first.other: s_.mean[j] * unit}
                    place |= {second.own_prime: s_.mean[l] * unit, second.other_prime: s.mean[l] * unit}
                    place |= {same: sympy.Integer(int(j == l))}
                    entry = [sympy.expand(D * e.subs(given | place)) for e in entries[:3]]
                    a, b = i * (1 + p), k * (1 + p)
                    # a constant in all entries 1 1' (the average over the bulk) is part of what diverges anyway
                    S[a, b] = leading(D * F, D)
                    S[a, b + 1 + l] = S[b + 1 + l, a] = leading(entry[1], D)
                    S[a + 1 + j, b + 1 + l] = leading(entry[2], D)
    return S


def _outputs(
    sites: Sequence[Cluster], S: sympy.Matrix, x: sympy.Expr, divergent: Sequence[sympy.Matrix]
) -> tuple[list[sympy.Expr], list[sympy.Expr], list[sympy.Expr]]:
    """Mean, variance along the features and E2 of each cluster; x = alpha r, so that P_a x is n P_a r over D."""
    p = axes(sites)
    Y = sympy.Matrix([s.label if j == 0 else 0 for s in sites for j in range(1 + p)])
    o = spiked(S, [s.weight * x for s in sites for _ in range(1 + p)], Y, divergent)
    means = [o[a * (1 + p)] for a in range(len(sites))]
    along = [sympy.factor(sum(o[a * (1 + p) + 1 + j] ** 2 for j in range(p))) for a in range(len(sites))]
    left = [sympy.factor((s.label - m) ** 2 + v) for s, m, v in zip(sites, means, along, strict=True)]
    return means, along, left


def _features(sites: Sequence[Cluster], values: Sequence[sympy.Expr]) -> sympy.Matrix:
    """A vector on the features: a value on the constant of each cluster, 0 on the g_j."""
    p = axes(sites)
    return sympy.Matrix([value if j == 0 else 0 for value in values for j in range(1 + p)])


def _told(
    sites: Sequence[Cluster], S: sympy.Matrix, divergent: str, results: dict[str, sympy.Expr]
) -> tuple[Step, ...]:
    p = axes(sites)
    means = S.extract(range(0, S.rows, 1 + p), range(0, S.rows, 1 + p))
    return (
        Step("Finite part of D S on the constants of the clusters", latex(means)),
        Step("Divergent", rf"\text{{{divergent}}}"),
        Step("Woodbury", r"\beta = (\Lambda^{-1} + S)^{-1} Y,\quad o = Y - \Lambda^{-1}\beta,\quad \Lambda = n P_a r"),
        *(Step("Output", f"{name} = {latex(value)}") for name, value in results.items()),
    )


def two_clusters(length: Positive, sigma: Positive, T: Positive, V: Positive) -> Derived:
    """(m, q): output m y and its variance for means ±length·e_1, labels ±1, at n = alpha D and fixed length.

    T is the T of `response` at nu = alpha and w = w_1, V the variance that it gives.

    Closed form, for reading and for tests.
    """
    k, x = sympy.symbols("k x", positive=True)  # F_u and alpha r
    sites = mixtures.two_clusters(length)
    S = _finite(sites, sympy.Integer(0), sigma, lambda *_: k, sympy.Integer(0))
    means, along, left = _outputs(sites, S, x, [_features(sites, [ONE] * len(sites))])
    m = sympy.factor(means[0].subs(x, T / (k * sigma**2)))
    residual = sympy.factor(sum(s.weight * e for s, e in zip(sites, left, strict=True)).subs(x, T / (k * sigma**2)))
    q = V * residual + sympy.factor(along[0].subs(x, T / (k * sigma**2)))
    _check_labels(sites, means, means[0])
    return Derived((m, q), steps=_told(sites, S, "the constant", {"m": m, "q": q}))


def _check_labels(sites: Sequence[Cluster], means: Sequence[sympy.Expr], m: sympy.Expr) -> None:
    """AssertionError: the mean output is not y m in each cluster."""
    if any(sympy.simplify(mean - site.label * m) != 0 for mean, site in zip(means, sites, strict=True)):
        raise AssertionError(f"the outputs {means} are not {m} times the labels")


def _crossover(
    sites: Sequence[Cluster], sigma: sympy.Symbol, curvature: sympy.Expr, T: sympy.Symbol
) -> tuple[list[sympy.Expr], sympy.Expr, sympy.Matrix]:
    k, x = sympy.symbols("k x", positive=True)
    S = _finite(sites, Rational(1, 4), sigma, lambda *_: k, k * curvature)
    constants = [_features(sites, [ONE] * len(sites))]
    constants += [_features(sites, [s.mean[j] for s in sites]) for j in range(axes(sites))]
    # the g_j carry no finite part beyond k sigma^2, which no label drives
    means, along, left = _outputs(sites, S, x, constants)
    if any(v != 0 for v in along):
        raise AssertionError(f"the output varies along the means: {along}")
    given = {x: T / (k * sigma**2)}
    residual = sympy.factor(sum(s.weight * e for s, e in zip(sites, left, strict=True)).subs(given))
    return [sympy.factor(m.subs(given)) for m in means], residual, S


def xor(length: Positive, sigma: Positive, curvature: Real, T: Positive, V: Positive) -> Derived:
    """(m, q): output m y and its variance on XOR with means of norm length·D^(1/4), at n = alpha D.

    curvature = F_uu/F_u at 0; T is the T of `response` at nu = alpha and w = w_1, V the variance that it gives.

    Closed form, for reading and for tests.
    """
    sites = mixtures.xor(length)
    means, residual, S = _crossover(sites, sigma, curvature, T)
    _check_labels(sites, means, means[-1])
    q = V * residual
    return Derived((means[-1], q), steps=_told(sites, S, "the constant, the means", {"m": means[-1], "q": q}))


def three_clusters(length: Positive, sigma: Positive, curvature: Real, T: Positive, V: Positive) -> Derived:
    """(m_outer, m_centre, q): outputs on three clusters, outer means of norm length·D^(1/4), and their variance.

    Inner-product kernel at n = alpha D; curvature = F_uu/F_u at 0; T is the T of `response` at nu = alpha and w = w_1,
    V the variance that it gives.

    Closed form, for reading and for tests.
    """
    sites = mixtures.three_clusters(length)
    means, residual, S = _crossover(sites, sigma, curvature, T)
    values = (means[0], means[2], V * residual)
    names = ("m_1", "m_0", "q")
    return Derived(values, steps=_told(sites, S, "the constant, the means", dict(zip(names, values, strict=True))))


def parity(
    length: Positive, sigma: Positive, even_slope: Real, odd_slope: Real, alpha: Positive, r: Positive, V: Positive
) -> Derived:
    """(m, q): output m y and its variance on the parity mixture with means ±sqrt(D) m1 e1 ± length·e2, at n = alpha D.

    even_slope, odd_slope = [F_u(m1^2) ± F_u(-m1^2)]/2, the kernel being expanded between samples on the same and on
    opposite sides of the first axis; r and V: `two_channels` at sigma^2·even_slope and sigma^2·odd_slope.
    """
    x = alpha * r
    sign = Symbol("s", positive=True)  # the first coordinate, of length sqrt D, is where the kernel is expanded
    whole = mixtures.parity(sign, length)
    sides = [1 if c.mean[0] == sign else -1 for c in whole]
    sites = [replace(c, mean=c.mean[1:]) for c in whole]
    S = _finite(
        sites, sympy.Integer(0), sigma, lambda i, k: even_slope + sides[i] * sides[k] * odd_slope, sympy.Integer(0)
    )
    constants = [_features(sites, [sympy.Integer(int(each == side)) for each in sides]) for side in (1, -1)]
    means, along, left = _outputs(sites, S, x, constants)
    _check_labels(sites, means, means[0])
    q = V * left[0] + along[0]
    return Derived((means[0], q), steps=_told(sites, S, "the constant on either side", {"m": means[0], "q": q}))


# --- n of order D^2: ridge regression on the products of coordinates


def products(
    m0: Real, m1: Real, m2: Real, m3: Real, c01: Real, c02: Real, c03: Real, c12: Real, c13: Real, c23: Real
) -> Derived:
    """(E[x0 x1], E[x0 x1 x2], E[x0 x1 x2 x3]) of normal fields with means m_i and covariances c_ij."""
    zero = sympy.Integer(0)  # the variances do not appear
    covariance = ((zero, c01, c02, c03), (c01, zero, c12, c13), (c02, c12, zero, c23), (c03, c13, c23, zero))
    x = fields(4)
    algebra = GaussianAlgebra(x, (m0, m1, m2, m3), covariance)
    values = [sympy.expand(algebra.average(sympy.Mul(*x[:k])).doit()) for k in (2, 3, 4)]
    return Derived(tuple(values), steps=tuple(algebra.steps))


def quadratic_xor(length: Positive, sigma: Positive, T: Positive, V: Positive) -> Derived:
    """(theta, q): on XOR with means of fixed length the output is theta (x_2^2 - x_1^2)/2 + sqrt(q) normal noise.

    Inner-product kernel at n = alpha D^2/2 samples; T is the T of `response` at nu = alpha and w = w_2, V the variance
    that it gives.

    Closed form, for reading and for tests.
    """
    Fuu, D, r, alpha = sympy.symbols("F_uu D r alpha", positive=True)
    x, x_ = sympy.symbols("x_1:3", real=True), sympy.symbols("v_1:3", real=True)
    kernel = sympy.expand(Fuu / 2 * (sum(p * q for p, q in zip(x, x_, strict=True)) / D) ** 2)
    s, s_ = ((b**2 - a**2) / 2 for a, b in (x, x_))
    symmetric = sympy.expand(kernel - 2 * Fuu / (2 * D**2) * s * s_)
    # the rest depends on x_1^2 + x_2^2 and x_1 x_2 only, which no label drives
    total, product = sympy.symbols("total product", real=True)
    rest = symmetric.subs(x[1] ** 2, total - x[0] ** 2).expand()
    if rest.subs(x[0] * x[1], product).has(x[0]):
        raise AssertionError(f"the kernel has another feature that labels drive: {rest}")
    weight = (Fuu / D**2) * (alpha * D**2 / 2) * r
    algebra = GaussianAlgebra(fields(2), (sympy.Integer(0), length), ((sigma**2, 0), (0, sigma**2)))
    x0, x1 = fields(2)
    powers = (sympy.expand(((x1**2 - x0**2) / 2) ** power) for power in (1, 2))
    drive, square = (sympy.factor(sympy.expand(algebra.average(power).doit())) for power in powers)
    # E[y s] and E[s^2], the same in all clusters
    theta = spiked(sympy.Matrix([[square]]), [weight], sympy.Matrix([drive]))[0] / square
    w2 = Fuu * sigma**4 / 2
    found, theta = sympy.factor(theta.subs(r, T / (alpha * w2))), Symbol("theta", positive=True)
    q = V * (1 - 2 * theta * drive + theta**2 * square)
    steps = (
        Step("Kernel of x and v along the means", latex(kernel)),
        Step("Feature that the labels drive", rf"s = {latex(s)}"),
        Step("Its averages", rf"E[y s] = {latex(drive)},\quad E[s^2] = {latex(square)}"),
        Step("Woodbury", rf"\theta = {latex(found)}"),
    )
    return Derived((theta, q), ((theta, found),), steps)


FORMULAS = (
    kernel_taylor.taylor,
    kernel_taylor.norm_spike,
    kernel_taylor.low,
    kernel_taylor.crossover,
    kernel_taylor.channels,
    response,
    two_channels,
    two_clusters,
    xor,
    three_clusters,
    parity,
    products,
    quadratic_xor,
    kernel_taylor.harmonics,
)


def derivations() -> list[Formula]:
    """How an intercept enters: as a constant of infinite size in the kernel, along which S diverges."""
    t, x1, x2 = sympy.symbols("t Lambda_1 Lambda_2", positive=True)
    F11, F12, F22, y1, y2 = sympy.symbols("F_11 F_12 F_22 y_1 y_2", real=True)
    S, Y, u = sympy.Matrix([[F11, F12], [F12, F22]]), sympy.Matrix([y1, y2]), sympy.Matrix([1, 1])
    large = spiked(S + t * u * u.T, [x1, x2], Y)
    limit = spiked(S, [x1, x2], Y, [u])
    if any(sympy.simplify(sympy.limit(a, t, sympy.oo) - b) != 0 for a, b in zip(large, limit, strict=True)):
        raise AssertionError("an intercept is not a constant of infinite size")
    beta = [weight * (y - o) for weight, y, o in zip((x1, x2), Y, limit, strict=True)]
    if sympy.simplify(sum(beta)) != 0:
        raise AssertionError("the coefficients do not add up to 0")
    steps = (
        Step(
            "Stationarity",
            r"\min_{c, b}\ \tfrac12|Kc + b\,\mathbf 1 - y|^2 + \tfrac\lambda2 c^T K c:\quad "
            r"(K + \lambda)\,c + b\,\mathbf 1 = y,\quad \mathbf 1^T c = 0",
        ),
        Step(
            "Constant of infinite size",
            r"(K + t\,\mathbf 1\mathbf 1^T + \lambda)\,c = y,\quad b = t\,\mathbf 1^T c \text{ finite as } t\to\infty",
        ),
        Step("Woodbury", rf"S \to S + t\,u u^T,\ u_a = 1:\quad o \to {latex(limit)}"),
        Step("Coefficients", r"\textstyle\sum_a \beta_a = 0"),
    )
    docstring = "Outputs on two clusters of constants F_ab with an intercept b: S diverges along u = (1, 1)."
    return [Formula("intercept", docstring, (F11, F12, F22, x1, x2, y1, y2), Derived(tuple(limit), steps=steps))]
