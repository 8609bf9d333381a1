"""The Taylor orders of a kernel around the means of a mixture: spikes of finite rank, and channels of many directions.

With a sample of cluster a written as x = sqrt(D) A_a + sigma g, a kernel F(N, N', u) is a polynomial in small
quantities: components g_j along the means, the fluctuation xi of |g|^2, and z.z' of the rest.  `taylor` gives its
coefficients between the features 1, g_j, xi of two clusters; `channels` its powers of z.z'; `low` and `crossover` what
stays of the former as D grows; `harmonics` the orders on a sphere.
"""

from __future__ import annotations

from typing import NamedTuple

import sympy
from sympy import Rational, Symbol, sqrt

from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Positive, Real, Step

__all__ = [
    "NOTATION",
    "Jet",
    "OtherPlace",
    "Place",
    "channels",
    "coefficients",
    "crossover",
    "harmonics",
    "leading",
    "low",
    "norm_spike",
    "taylor",
]

NOTATION = {
    "diagonal": "F_{0}",
    "Fu": "F_{u}",
    "Fuu": "F_{uu}",
    "F1": "F_{N}",
    "F2": "F_{N'}",
    "Fu1": "F_{uN}",
    "Fu2": "F_{uN'}",
    "F12": "F_{NN'}",
    "own": "A_{j}",
    "other": "A'_{j}",
    "own_prime": "A'_{l}",
    "other_prime": "A_{l}",
    "same": r"\delta_{jl}",
    "other_sigma": r"\sigma'",
    "overlap": r"V\cdot V'",
    "other_length": r"\mu'",
    "spike": r"F_{\delta}",
    "length": r"\mu",
}
latex = in_letters(NOTATION)

HALF = Rational(1, 2)


class Jet(NamedTuple):
    """A kernel and its derivatives at two clusters: (N, N', u) = (|A|^2 + sigma^2, |A'|^2 + sigma'^2, A.A')."""

    F: Real
    Fu: Real
    Fuu: Real
    F1: Real
    F2: Real
    Fu1: Real
    Fu2: Real
    F12: Real


class Place(NamedTuple):
    """The coordinate j: own = A_j of the first cluster, other = A'_j of the second; and the noise of the first."""

    own: Real
    other: Real
    sigma: Positive


class OtherPlace(NamedTuple):
    """The coordinate l: own_prime = A'_l of the second cluster, other_prime = A_l; and the noise of the second."""

    own_prime: Real
    other_prime: Real
    other_sigma: Positive


def coefficients(
    at: Jet, first: Place, second: OtherPlace, same: sympy.Expr, D: sympy.Expr
) -> tuple[sympy.Expr, sympy.Expr, tuple[sympy.Expr, ...]]:
    """The increments of N and u, and the entries of S: coefficients of the second-order Taylor polynomial of F."""
    F, Fu, Fuu, F1, F2, Fu1, Fu2, F12 = at
    (own, other, sigma), (own_prime, other_prime, other_sigma) = first, second
    e, e_, xi, xi_, omega = sympy.symbols("g g' xi xi' omega", real=True)
    step, step_ = sigma / sqrt(D), other_sigma / sqrt(D)
    dN = 2 * step * own * e + step**2 * e**2 + sigma**2 * sqrt(2 / D) * xi
    dN_ = 2 * step_ * own_prime * e_ + step_**2 * e_**2 + other_sigma**2 * sqrt(2 / D) * xi_
    du = step * other * e + step_ * other_prime * e_ + step * step_ * (same * e * e_ + sqrt(D) * omega)
    series = F + F1 * dN + F2 * dN_ + Fu * du + Fuu * du**2 / 2 + F12 * dN * dN_ + Fu1 * dN * du + Fu2 * dN_ * du
    polynomial = sympy.Poly(sympy.expand(series), e, e_, xi, xi_, omega)

    def entry(*powers: int) -> sympy.Expr:
        return sympy.factor(polynomial.coeff_monomial((*powers, 0)), deep=False)

    # z.z'/sqrt D is a unit normal omega: its square is 1 on average
    constant = entry(0, 0, 0, 0) + polynomial.coeff_monomial((0, 0, 0, 0, 2))
    values = (constant, entry(0, 1, 0, 0), sympy.expand(entry(1, 1, 0, 0)), entry(0, 0, 0, 1), entry(1, 0, 0, 1),
              entry(0, 0, 1, 1))  # fmt: skip
    return dN, du, values


def taylor(at: Jet, first: Place, second: OtherPlace, same: Real, D: Positive) -> Derived:
    """S_(1 1), S_(1 g'), S_(g g'), S_(1 xi'), S_(g xi'), S_(xi xi'): the kernel between features of two clusters.

    The features of a cluster are 1, g_j and xi, and omega = z.z'/sqrt(D) is what the bulk adds to u.

    The kernel and its derivatives are those at (N, N', u) = (|A|^2 + sigma^2, |A'|^2 + sigma'^2, A.A').  The coordinate
    j has own = A_j and other = A'_j and the noise sigma of the first cluster; the coordinate l has own_prime = A'_l and
    other_prime = A_l and the noise of the second; same = 1 if j = l, else 0.
    """
    dN, du, values = coefficients(at, first, second, same, D)
    names = ("S_{1 1}", "S_{1 g'}", "S_{g g'}", r"S_{1 \xi'}", r"S_{g \xi'}", r"S_{\xi \xi'}")
    steps = [
        Step("Increments", rf"\delta N = {latex(dN)},\quad \delta u = {latex(du)}"),
        Step("Average over the bulk", r"E\,\omega^2 = 1,\quad \omega = z\cdot z'/\sqrt{D}"),
        *(Step("Coefficient", f"{n} = {latex(v)}") for n, v in zip(names, values, strict=True)),
        *_power_counting(dict(zip(names, values, strict=True))),
    ]
    return Derived(values, steps=tuple(steps))


def _power_counting(entries: dict[str, sympy.Expr]) -> list[Step]:
    """Powers of D of the orders of the kernel and of n S, between means of length D^a."""
    D, a = sympy.symbols("D a", positive=True)
    mean = D ** (a - HALF)
    names = ("own", "other", "own_prime", "other_prime")
    sizes = {f"u^{j}": mean ** (2 * j) for j in range(4)}
    for name, entry in entries.items():
        if name != "S_{1 1}":
            small = {symbol: mean for symbol in entry.free_symbols if symbol.name in names}
            sizes[name] = entry.subs(small | {symbol: D for symbol in entry.free_symbols if symbol.name == "D"})
    steps = []
    for n, power in ((r"n \sim D", 1), (r"n \sim D^2", 2)):
        for length in (sympy.Integer(0), Rational(1, 4), HALF):
            parts = []
            for name, size in sizes.items():
                terms = sympy.Add.make_args(sympy.expand(sympy.powsimp(sympy.expand(D**power * size.subs(a, length)))))
                exponent = max(sympy.powsimp(term, force=True).as_coeff_exponent(D)[1] for term in terms)
                parts.append(rf"n {name} \sim D^{{{latex(exponent)}}}")
            heading = rf"{n},\ \text{{means}} \sim D^{{{latex(length)}}}: "
            steps.append(Step("Power counting", heading + r",\ ".join(parts)))
    return steps


def leading(S: sympy.Expr, D: sympy.Symbol) -> sympy.Expr:
    """The limit of an expansion in powers of D^(1/4) without its divergent terms."""
    root = Symbol("root", positive=True)
    return sympy.expand(sympy.expand(S).subs(D, root**4)).coeff(root, 0)


def norm_spike(F: Real, F1: Real, F2: Real, F12: Real) -> Derived:
    """The coefficient of delta N delta N' that is left when the constant feature, whose n F diverges, is eliminated.

    Zero for kernels that depend on the norms by factors f(N) f(N'), such as arc-cosine and Gaussian ones.
    """
    S = sympy.Matrix([[F, F2], [F1, F12]])
    left = sympy.factor(S[1, 1] - S[1, 0] * S[0, 1] / S[0, 0])
    step = Step("Schur complement of the constant in the features 1 and delta N", f"{latex(S)} \\to {latex(left)}")
    return Derived(left, steps=(step,))


def low(Fu: Real, overlap: Real, other_prime: Real, same: Real, sigma: Positive) -> Derived:
    """S_(1 1), S_(1 g') and S_(g g') times D at means of order 1, without what diverges as D grows.

    overlap: inner product of the means; other_prime: the coordinate l of the first; same = 1 if j = l, else 0.
    """
    D = Symbol("D", positive=True)
    zero = sympy.Integer(0)
    own, other, own_prime = (x / sqrt(D) for x in sympy.symbols("own other own_prime", real=True))
    at = Jet(Fu * overlap / D, Fu, *[zero] * 6)
    second = OtherPlace(own_prime, other_prime / sqrt(D), sigma)
    _, _, entries = coefficients(at, Place(own, other, sigma), second, same, D)
    values = tuple(leading(D * entry, D) for entry in entries[:3])
    return Derived(values, steps=(Step("Leading order of D S", ",\\ ".join(map(latex, values))),))


def crossover(Fuu: Real, spike: Real, overlap: Real, length: Real, other_length: Real, sigma: Positive) -> Derived:
    """S_(1 1), S_(1 xi') and S_(xi xi') times D at means of order D^(1/4), without what diverges as D grows.

    overlap = V.V', length = |V|^2 and other_length = |V'|^2 of the means V D^(1/4); spike is `norm_spike`.
    """
    D = Symbol("D", positive=True)
    xi, xi_ = sympy.symbols("xi xi'", real=True)
    u, dN, dN_ = (
        overlap / sqrt(D),
        *((m + sqrt(2) * sigma**2 * x) / sqrt(D) for m, x in ((length, xi), (other_length, xi_))),
    )
    polynomial = sympy.Poly(sympy.expand(Fuu * u**2 / 2 + spike * dN * dN_), xi, xi_)
    values = tuple(leading(D * polynomial.coeff_monomial(m), D) for m in (1, xi_, xi * xi_))
    return Derived(values, steps=(Step("Leading order of D S", ",\\ ".join(map(latex, values))),))


def channels(
    F: Real, Fu: Real, Fuu: Real, diagonal: Real, sigma: Positive, other_sigma: Positive, ridge: Positive
) -> Derived:
    """(w1, w2, zeta): weights of the linear and of the quadratic channel, and the ridge made by all higher orders.

    F, F_u, F_uu: the kernel at (N, N', u) of two clusters; diagonal = F(N, N, N), of which zeta (for a cluster with
    itself) keeps what the orders 0, 1, 2 do not explain.  The linear channel has D directions, the quadratic D^2/2.
    """
    D = Symbol("D", positive=True)
    z, z_ = sympy.symbols("z_1:3", real=True), sympy.symbols("z'_1:3", real=True)
    u = sigma * other_sigma * sum(p * q for p, q in zip(z, z_, strict=True)) / D
    linear = sympy.Poly(sympy.expand(Fu * u), *z, *z_).coeff_monomial(z[0] * z_[0])
    quadratic = sympy.Poly(sympy.expand(Fuu * u**2 / 2), *z, *z_).coeff_monomial(z[0] * z[1] * z_[0] * z_[1])
    w1, w2 = linear * D, quadratic * D**2 / 2
    zeta = ridge + diagonal - F - w1 - w2
    steps = (
        Step("Kernel of one direction z_1", latex(linear)),
        Step("Kernel of one direction z_1 z_2", latex(quadratic)),
        Step("Times their number D and D^2/2", rf"w_1 = {latex(w1)},\quad w_2 = {latex(w2)}"),
        Step("Diagonal: orders beyond the second", rf"\zeta = {latex(zeta)}"),
    )
    return Derived((w1, w2, zeta), steps=steps)


def harmonics(t: Real, D: Positive) -> Derived:
    """(P_1, P_2, P_3, d_1, d_2, d_3): the orders of a kernel F(t) of inputs on a sphere in R^D, and their directions.

    F(t) = sum_l d_l E[F P_l] P_l(t), t = cos of the angle; P_l(1) = 1, so that d_l E[F P_l] is the share of order l in
    F(1).  Gram and Schmidt on the powers of t, which has the moments E t^2 = 1/D, E t^4 = 3/(D (D + 2)), ...
    """
    x = Symbol("x", real=True)

    def average(expression: sympy.Expr) -> sympy.Expr:
        """E t^2k = (2k - 1)!!/(D (D + 2) .. (D + 2k - 2))."""
        total = sympy.Integer(0)
        for (power,), c in sympy.Poly(sympy.expand(expression), x).terms():
            if power % 2 == 0:
                k = power // 2
                total += c * sympy.factorial2(2 * k - 1) / sympy.prod([D + 2 * i for i in range(k)])
        return sympy.factor(total)

    orders = [sympy.Integer(1)]
    for power in (1, 2, 3):
        rest = x**power - sum(average(x**power * P) / average(P * P) * P for P in orders)
        orders.append(sympy.expand(sympy.simplify(rest / rest.subs(x, 1))))
    directions = [sympy.factor(1 / average(P * P)) for P in orders[1:]]
    polynomials = [sympy.factor(P).subs(x, t) for P in orders[1:]]
    steps = (
        *(Step("Gram-Schmidt", rf"P_{l} = {latex(P)}") for l, P in enumerate(polynomials, 1)),
        *(Step("Directions", rf"d_{l} = 1/E P_{l}^2 = {latex(d)}") for l, d in enumerate(directions, 1)),
    )
    return Derived((*polynomials, *directions), steps=steps)
