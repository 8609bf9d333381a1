"""Empirical risk minimisation: the equations of the theory brief from one potential; averages against mpmath."""

from collections.abc import Callable

import mpmath
import pytest
import sympy

from quenched.symbolic.calculus.replica import Envelope, Move, MoveSlope, SquaredMove, envelope_theorem, heat, saddle
from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import erm

DIGITS = 25
ctx = mpmath.mp.clone()
ctx.dps = DIGITS


def evaluate(specification: Callable, **arguments: float) -> list[mpmath.mpf]:
    symbols = {s: sympy.Float(arguments[s.name], DIGITS + 10) for s in specification_symbols(specification)}
    return [ctx.mpf(v.subs(symbols).evalf(DIGITS)) for v in derived(specification).explicit()]


def test_the_saddle_point_is_that_of_the_brief() -> None:
    """Section 4.2, two clusters and one node of share s and eigenvalue rho: each equation, symbol by symbol."""
    phi = erm.potential()
    alpha, V, q, Vh, qh, ridge, rho, s = sympy.symbols("alpha V q Vh qh ridge rho share", positive=True)
    P, b = sympy.symbols("P_1:3", positive=True), sympy.Symbol("b", real=True)
    m, mh = sympy.symbols("m_1:3", real=True), sympy.Matrix(sympy.symbols("mh_1:3", real=True))
    G = sympy.Matrix([[sympy.Symbol("G_11", real=True), sympy.Symbol("G_12", real=True)]] * 2)
    G[1, 0], G[1, 1] = G[0, 1], sympy.Symbol("G_22", real=True)
    fields = [(V, each + b, q) for each in m]
    below = ridge + rho * Vh
    brief = {
        (q, Vh): -alpha * sum(p * MoveSlope(*at) for p, at in zip(P, fields, strict=True)),
        (V, qh): alpha * sum(p * SquaredMove(*at) for p, at in zip(P, fields, strict=True)),
        (m[0], mh[0]): alpha * P[0] * Move(*fields[0]),
        (m[1], mh[1]): alpha * P[1] * Move(*fields[1]),
        (qh, V): s * rho / below,
        (Vh, q): rho * (s * rho * qh + (mh.T * G * mh)[0]) / below**2,
        (mh[0], m[0]): (G * mh)[0] / below,
        (mh[1], m[1]): (G * mh)[1] / below,
    }
    for (by, unknown), wanted in brief.items():
        assert sympy.simplify(saddle(phi, by, unknown)[0] - wanted) == 0, unknown
    assert (
        sympy.simplify(phi.diff(b) + sum(mh.subs({hat: brief[each, hat] for each, hat in zip(m, mh, strict=True)})))
        == 0
    )


def test_the_generated_terms_are_the_potential() -> None:
    """node_energy, cluster_energy and pair_energy add up to it."""
    phi = erm.potential()
    names = {symbol.name: symbol for symbol in phi.free_symbols}
    V, q, Vh, qh, alpha = (names[name] for name in ("V", "q", "Vh", "qh", "alpha"))
    mh = sympy.Matrix([names["mh_1"], names["mh_2"]])
    G = sympy.Matrix([[names["G_11"], names["G_12"]], [names["G_12"], names["G_22"]]])
    total = erm.pair_energy(V, q, Vh, qh)
    total += erm.node_energy(names["ridge"], names["rho"], names["share"], Vh, qh, (mh.T * G * mh)[0])
    for i in (1, 2):
        envelope = Envelope(V, names[f"m_{i}"] + names["b"], q)
        total += erm.cluster_energy(alpha, names[f"P_{i}"], mh[i - 1] * names[f"m_{i}"], envelope)
    assert sympy.simplify(total - phi) == 0


def test_the_envelope_rules_hold_for_an_explicit_loss() -> None:
    """The square loss, whose averages are polynomials: derivatives of E[M] against those that `Envelope` states."""
    V, _, mean, variance = specification_symbols(erm.square)
    move, squared, slope, envelope = derived(erm.square).values
    stated = Envelope(V, mean, variance)
    for by in (V, mean, variance):
        known = stated.diff(by).replace(Move, lambda *_: move).replace(SquaredMove, lambda *_: squared)
        assert sympy.simplify(envelope.diff(by) - known.replace(MoveSlope, lambda *_: slope)) == 0
    assert len(envelope_theorem()) == 3


def test_the_heat_equation_on_a_polynomial() -> None:
    """E[x^2 y] of fields of means (t, 1) and covariance ((t, t^2), (t^2, 1)): (t + t^2) + 2 t^3, differentiated."""
    x, y, t = sympy.symbols("x y t")
    covariance = sympy.Matrix([[t, t**2], [t**2, 1]])
    integrand = heat(x**2 * y, [x, y], [t, sympy.Integer(1)], covariance, t)
    moments = {x * y: t + t**2, x: t, y: 1}
    average = sum(c * moments.get(x**i * y**j, 1) for (i, j), c in sympy.Poly(integrand, x, y).terms())
    assert sympy.expand(average - sympy.diff(t + t**2 + 2 * t**3, t)) == 0


@pytest.mark.parametrize(("V", "margin", "spread"), [(0.5, 0.75, 1.25), (8.0, -2.0, 0.5), (0.125, 3.0, 1.0)])
def test_hinge_averages(V: float, margin: float, spread: float) -> None:
    """Against quadrature of the proximal operator, found by comparing the three candidates."""
    kinks = sorted({ctx.mpf(margin - 16 * spread), ctx.mpf(1 - V), ctx.mpf(1), ctx.mpf(margin + 16 * spread)})

    def prox(u: mpmath.mpf) -> mpmath.mpf:
        return min((u, u + V, ctx.one), key=lambda h: (h - u) ** 2 / (2 * ctx.mpf(V)) + max(0, 1 - h))

    def average(g: Callable) -> mpmath.mpf:
        return ctx.quad(lambda u: g(u, prox(u)) * ctx.npdf(u, margin, spread), kinks)

    wanted = [
        average(lambda u, h: (h - u) / V),
        average(lambda u, h: ((h - u) / V) ** 2),
        average(lambda u, h: -ctx.one / V if 1 - V < u < 1 else ctx.zero),
        average(lambda u, h: (h - u) ** 2 / (2 * ctx.mpf(V)) + max(0, 1 - h)),
    ]
    for here, there in zip(evaluate(erm.hinge, V=V, margin=margin, spread=spread), wanted, strict=True):
        assert abs(here - there) <= 1e-18 * (1 + abs(there))  # tanh-sinh to its working precision, on smooth pieces


@pytest.mark.parametrize(("scale", "margin"), [(1.0, 0.5), (1.5, -1.0), (2.0, 4.0)])
def test_shortfall(scale: float, margin: float) -> None:
    cut = ctx.mpf(margin) / scale
    wanted = ctx.quad(lambda x: (scale * x - margin) ** 2 * ctx.npdf(x), [cut, cut + 8, cut + 30])
    assert abs(evaluate(erm.shortfall, scale=scale, margin=margin)[0] - wanted) < 1e-18


@pytest.mark.parametrize(("alpha", "ridge", "sigma"), [(0.5, 0.25, 1.0), (2.0, 0.125, 0.5), (1.0, 1e-6, 2.0)])
def test_square_susceptibility(alpha: float, ridge: float, sigma: float) -> None:
    """V (ridge + sigma^2 alpha/(1 + V)) = sigma^2, V > 0."""
    (V,) = evaluate(erm.square_susceptibility, alpha=alpha, ridge=ridge, sigma=sigma)
    assert V > 0
    assert abs(V * (ridge + ctx.mpf(sigma) ** 2 * alpha / (1 + V)) / ctx.mpf(sigma) ** 2 - 1) < 1e-18


def test_the_replica_computation_is_told() -> None:
    (formula,) = erm.derivations()
    rules = formula.outcome.rules
    for step in (
        "Replicated partition function",
        "Disorder average",
        "Order parameters",
        "Replica symmetry",
        "Limit n to 0",
        "Conjugate pairs",
        "One shared field",
        "A replica's own field",
        "Replica trick",
        "Channel",
        "Potential",
        "State evolution",
    ):
        assert step in rules
