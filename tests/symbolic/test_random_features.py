"""Hermite orders against their definition, powers of D, and closed forms against each other."""

from itertools import combinations, product
from random import Random

import mpmath
import pytest
import sympy

from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.learners import feature_orders, random_features
from quenched.symbolic.learners.feature_orders import (
    coefficients,
    limit,
    mehler,
    outputs,
)
from quenched.symbolic.mixtures import three_clusters, two_clusters, xor

DIGITS = 30
ctx = mpmath.mp.clone()
ctx.dps = DIGITS
RHO, SIGMA = sympy.Symbol("rho", real=True), sympy.Symbol("sigma", positive=True)
TEXTS = ["Max(x, 0)", "erf((x + 1)/sqrt(2))", "sin(x)", "x**3 - x**2", "Abs(x - 1)"]


def evaluate(specification, **arguments):
    symbols = {s: sympy.Rational(str(arguments[s.name])) for s in specification_symbols(specification)}
    return [ctx.mpf(sympy.N(v.subs(symbols).doit(), DIGITS + 5)) for v in derived(specification).explicit()]


@pytest.mark.parametrize("text", TEXTS)
def test_hermite_orders_are_averages_with_hermite_polynomials(text: str) -> None:
    """psi_j = sigma^-j E[psi(rho + sigma g) He_j(g)], and E psi^2: quadrature in pieces that end at the kinks."""
    rng = Random(text)
    rho, sigma = (sympy.Rational(rng.randint(5, 20), 10) for _ in range(2))
    rho = -rho if rng.random() < 0.5 else rho
    found = coefficients(parse(text), RHO, SIGMA).values
    compiled = sympy.lambdify(VARIABLE, parse(text), modules="mpmath")

    def psi(x: mpmath.mpf) -> mpmath.mpf:
        with mpmath.workdps(DIGITS):
            return ctx.mpf(compiled(mpmath.mpf(x)))

    r, s = ctx.mpf(sympy.N(rho, 45)), ctx.mpf(sympy.N(sigma, 45))
    cuts = sorted({*(ctx.mpf(k) for k in range(-12, 13, 2)), (0 - r) / s, (1 - r) / s})
    hermite = [lambda g: 1, lambda g: g, lambda g: g * g - 1]
    for j, (value, he) in enumerate(zip(found[:3], hermite, strict=True)):
        exact = ctx.quad(lambda g, he=he: psi(r + s * g) * he(g) * ctx.npdf(g), cuts) / s**j
        # beyond 12 standard deviations lie 1e-32 times polynomials of degree 8 at most
        assert abs(ctx.mpf(sympy.N(value.subs({RHO: rho, SIGMA: sigma}).doit(), 40)) - exact) < 1e-20
    exact = ctx.quad(lambda g: psi(r + s * g) ** 2 * ctx.npdf(g), cuts)
    assert abs(ctx.mpf(sympy.N(found[3].subs({RHO: rho, SIGMA: sigma}).doit(), 40)) - exact) < 1e-20


def test_the_mehler_sum_of_a_polynomial_is_its_covariance() -> None:
    """x^3 - x^2 has orders up to three: the sum ends there, and is the average of the product over two fields."""
    r, psi = sympy.Symbol("r", real=True), VARIABLE**3 - VARIABLE**2
    a, b = sympy.Rational(1, 3), sympy.Rational(-2, 5)
    x, y = fields(2)
    law = GaussianAlgebra((x, y), (a, b), ((SIGMA**2, r * SIGMA**2), (r * SIGMA**2, SIGMA**2)))
    product_, first, second = (law.average(e) for e in (psi.subs(VARIABLE, x) * psi.subs(VARIABLE, y),
                                                        psi.subs(VARIABLE, x), psi.subs(VARIABLE, y)))  # fmt: skip
    assert sympy.expand(product_ - first * second - mehler(psi, (a, b), SIGMA, 3)) == 0


def test_the_mehler_sum_of_relu_is_the_arc_cosine_kernel() -> None:
    """E[relu relu] - 1/(2 pi) = (sqrt(1 - r^2) + r (pi - arccos r))/(2 pi) - 1/(2 pi), to order r^6."""
    r = sympy.Symbol("r", real=True)
    kernel = (sympy.sqrt(1 - r**2) + r * (sympy.pi - sympy.acos(r)) - 1) / (2 * sympy.pi)
    series = sympy.series(kernel, r, 0, 7).removeO()
    assert sympy.simplify(mehler(sympy.Max(VARIABLE, 0), (0, 0), sympy.Integer(1), 6) - series) == 0


def test_which_spikes_survive_in_each_scaling() -> None:
    def surviving(exponent: sympy.Expr, kind: int = 1) -> tuple[set[str], set[str]]:
        found = feature_orders.power_counting(exponent, kind)
        return {n for n, e in found.items() if e == 0}, {n for n, e in found.items() if e > 0}

    always = {"noise along the means", "norm", "linear channels"}
    assert surviving(sympy.Integer(0)) == (always | {"class mean, order 1"}, set())
    assert surviving(feature_orders.quarter) == (always | {"class mean, order 2"}, {"class mean, order 1"})
    means = {f"class mean, order {j}" for j in range(1, 5)}
    assert surviving(random_features.half) == (always | {"noise along the means, gate"}, means)
    second = {"class mean, order 2", "noise along the means, gate", "order 2 along the means", "quadratic channels"}
    assert surviving(sympy.Integer(0), 2) == (second, always | {"class mean, order 1"})


def test_amplitudes_of_order_two_add_up_to_its_variance() -> None:
    """In D = 3 with all directions called means: norm^2 + same^2 + mixed^2 over all pairs is k_2^2, for |f|^2 = 3."""
    f = sympy.Matrix([1, sympy.Rational(1, 2), sympy.sqrt(sympy.Rational(7, 4))])
    total = 0
    for i, j in product(range(3), repeat=2):
        given = {"centred": 0, "linear": 1, "quadratic": 2, "first": f[i], "second": f[j], "weight": 1, "D": 3}
        values = derived(feature_orders.spikes).explicit()
        symbols = {s: given[s.name] for s in specification_symbols(feature_orders.spikes)}
        _, along, norm, same, mixed = (value.subs(symbols) for value in values)
        total += (norm**2 if i == j == 0 else 0) + (same**2 if i == j else 0) + (mixed**2 if i < j else 0)
        assert sympy.simplify(along - f[i] / sympy.sqrt(3)) == 0
    assert sympy.simplify(total - 4) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_resolvent_solves_its_equation(seed: int) -> None:
    rng = Random(seed)
    gamma, r = (round(rng.uniform(0.1, 3), 3) for _ in range(2))
    (T,) = evaluate(random_features.marchenko_pastur, gamma=gamma, r=r)
    g, s = ctx.mpf(str(gamma)), ctx.mpf(str(r))
    assert T > 0
    assert abs(g / T - s - 1 / (1 + T)) < 1e-25
    (slope,) = evaluate(random_features.marchenko_pastur_slope, T=T, gamma=gamma, r=r)
    h = ctx.mpf("1e-12")
    shifted = [evaluate(random_features.marchenko_pastur, gamma=gamma, r=s + d)[0] for d in (h, -h)]
    assert abs((shifted[0] - shifted[1]) / (2 * h) - slope) < 1e-18 * abs(slope) + 1e-20  # h^2 T''', and 1e-30/h


def test_low_and_crossover_from_one_finite_D_solution() -> None:
    """Outputs at finite D, exact in D, tend to those of the closed forms; a linear mixture saturates above D^0."""
    m, sigma, chi = sympy.symbols("m sigma chi", positive=True)
    k1 = sigma * feature_orders.psi[1]
    two = limit(outputs(two_clusters(m), sigma, sympy.Integer(0), chi)[0])
    T = chi * k1**2
    assert sympy.simplify(two / (1 - two) - T / (1 + T) * m**2 / sigma**2) == 0
    assert limit(outputs(two_clusters(m), sigma, feature_orders.quarter, chi)[0]) == 1
    assert {limit(v) for v in outputs(xor(m), sigma, sympy.Integer(0), chi)} == {0}
    assert {limit(v) for v in outputs(three_clusters(m), sigma, sympy.Integer(0), chi)} == {0}


@pytest.mark.parametrize(
    ("clusters", "closed"),
    [(xor, random_features.crossover_xor), (three_clusters, random_features.crossover_three_clusters)],
    ids=["XOR", "three clusters"],
)
def test_the_gram_matrix_of_class_means_gives_the_crossover_signal(clusters, closed) -> None:
    """beta = N [N^T (1/P + G) N]^-1 N^T y by sympy, against Woodbury at finite D and the limit."""
    m, chi, k2, sigma = sympy.symbols("m chi k_2 sigma", positive=True)
    sites = clusters(m)
    tensor, norm, *_ = (
        v.subs(dict(zip(specification_symbols(random_features.crossover), (chi, 0, k2, sigma), strict=True)))
        for v in derived(random_features.crossover).explicit()
    )
    n, P = len(sites), sympy.Matrix([c.weight for c in sites])
    y, V = sympy.Matrix([c.label for c in sites]), sympy.Matrix([list(c.mean) for c in sites])
    inner = V * V.T
    G = sympy.Matrix(n, n, lambda a, b: tensor * inner[a, b] ** 2 + norm * inner[a, a] * inner[b, b])
    centre = sympy.eye(n) - sympy.ones(n, 1) * P.T
    N = sympy.Matrix.hstack(*(centre * V).T.nullspace())
    inverse = (N.T * (sympy.diag(*(1 / p for p in P)) + centre * G * centre.T) * N).inv()
    mean = y - sympy.diag(*(1 / p for p in P)) * (N * inverse * N.T * y)
    S2 = {sympy.factor(sympy.simplify(v * s / (1 - v * s))) for v, s in zip(mean, y, strict=True)}
    symbols = dict(zip(specification_symbols(closed), (chi, k2, m, sigma), strict=True))
    (expected,) = derived(closed).explicit()
    (found,) = S2
    assert sympy.simplify(found - expected.subs(symbols)) == 0
    tau = k2**2 * chi
    target = {xor: tau / 2, three_clusters: (tau + tau / (2 * (1 + tau))) / 4}[clusters] * (m / sigma) ** 4
    assert sympy.simplify(found - target) == 0


def test_quadratic_features_approach_the_oracle() -> None:
    """T -> infinity: no bulk, output theta s(x), whose sign is the sign of the product of two independent normals."""
    theta, bulk = derived(random_features.quadratic_features).explicit()
    T, slope, m, sigma = specification_symbols(random_features.quadratic_features)
    bulk = bulk.subs(slope, 0)
    assert sympy.limit(bulk, T, sympy.oo) == 0
    d, variance = m**2 / 2, sigma**4 + sigma**2 * m**2
    assert sympy.simplify(theta - d / (d**2 + variance + sigma**4 / T)) == 0
    assert sympy.simplify(bulk - theta**2 * sigma**4 / T) == 0


def test_every_formula_shows_how_it_came_about() -> None:
    for formula in random_features.FORMULAS:
        assert derived(formula).steps or formula is random_features.quadratic_moments
    names = [f.__name__ for f in random_features.FORMULAS]
    assert all(one != other for one, other in combinations(names, 2))
