"""Bayes-optimal learning: the equations of the theory brief from one potential; channel averages against mpmath."""

import mpmath
import pytest
import sympy

from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import bayes
from quenched.theory import bayes as theory

ctx = mpmath.mp.clone()
ctx.dps = 25


def test_the_saddle_point_is_that_of_the_brief() -> None:
    """Section 4.1: Q = Lam/(1 + Lam), Lam = (alpha/sigma^2) P_y E[<A><A>]."""
    (lam,) = specification_symbols(bayes.overlap)
    assert sympy.simplify(derived(bayes.overlap).values[0] - lam / (1 + lam)) == 0
    alpha, sigma, weight, second = specification_symbols(bayes.conjugate)
    assert sympy.simplify(derived(bayes.conjugate).values[0] - alpha * weight * second / sigma**2) == 0
    assert sympy.simplify(derived(bayes.prior).values[0] - (lam - sympy.log(1 + lam)) / 2) == 0


def test_two_clusters_and_the_transition_of_xor() -> None:
    alpha, sigma = specification_symbols(bayes.two_clusters)
    assert sympy.simplify(derived(bayes.two_clusters).values[0] - alpha / (alpha + sigma**2)) == 0
    sigma, growth = specification_symbols(bayes.critical_alpha)
    # XOR: P_y = 1/2, C_y projects on one direction, so that the largest eigenvalue is 1/2
    assert derived(bayes.critical_alpha).values[0].subs(growth, sympy.Rational(1, 2)) == 2 * sigma**4


@pytest.mark.parametrize("power", [0.25, 1.0, 4.0])
def test_the_slope_of_opposite_means(power: float) -> None:
    """d/dl of E log cosh(l + sqrt(l) z) - l/2 by mpmath's differences, against E tanh/2 and E tanh^2/2."""

    def average(g: object, l: mpmath.mpf) -> mpmath.mpf:
        return ctx.quad(lambda z: g(l + ctx.sqrt(l) * z) * ctx.npdf(z), [-20, -5, 0, 5, 20])

    def potential(l: mpmath.mpf) -> mpmath.mpf:
        return average(lambda x: abs(x) + ctx.log1p(ctx.exp(-2 * abs(x))) - ctx.log(2), l) - l / 2

    slope = ctx.diff(potential, ctx.mpf(power))
    _, field = specification_symbols(bayes.opposite_means)
    integrand = sympy.lambdify(field, derived(bayes.opposite_means).values[0], modules=ctx)
    at = ctx.mpf(power)
    # the kink of |x| at 0 in the quadrature leaves 1e-12 of the potential, and differences half of the digits
    assert abs(average(integrand, at) - slope) < 1e-8
    assert abs(average(lambda x: theory.opposite_means(power, float(x)), at) - slope) < 1e-8
    assert abs(average(lambda x: ctx.tanh(x) ** 2 / 2, at) - average(integrand, at)) < 1e-18


def test_the_channel_average_of_three_clusters_has_the_slope_of_the_posterior() -> None:
    """One field, A = 1, -1/2, 2 at weights 1/2, 1/3, 1/6: dPsi/dQ = E<A>^2/(2 sigma^2), by differences."""
    A, p, sigma = (
        (ctx.mpf(1), ctx.mpf(-0.5), ctx.mpf(2)),
        (ctx.mpf(1) / 2, ctx.mpf(1) / 3, ctx.mpf(1) / 6),
        ctx.mpf(0.75),
    )
    h = sympy.lambdify(specification_symbols(bayes.exponent), derived(bayes.exponent).values[0], modules=ctx)

    def average(Q: mpmath.mpf, square: bool) -> mpmath.mpf:
        total = ctx.zero
        for a0, share in zip(A, p, strict=True):

            def integrand(z: mpmath.mpf, a0: mpmath.mpf = a0) -> mpmath.mpf:
                logs = [h(a * Q * a0 / sigma**2, a * Q * a / sigma**2, a * ctx.sqrt(Q) * z / sigma) for a in A]
                terms = [w * ctx.exp(log) for w, log in zip(p, logs, strict=True)]
                mean = sum(t * a for t, a in zip(terms, A, strict=True)) / sum(terms)
                return (mean**2 if square else ctx.log(sum(terms))) * ctx.npdf(z)

            total += share * ctx.quad(integrand, [-15, -5, 0, 5, 15])
        return total

    Q, step = ctx.mpf(0.6), ctx.mpf(10) ** -6
    slope = (average(Q + step, False) - average(Q - step, False)) / (2 * step)
    # central difference: step^2 times a third derivative below 10
    assert abs(slope - average(Q, True) / (2 * sigma**2)) < 1e-11


def test_the_replica_computation_is_told() -> None:
    (formula,) = bayes.derivations()
    for step in (
        "Replicated partition function",
        "Disorder average",
        "Replica symmetry",
        "Planted field",
        "Limit n to 0",
        "Order parameters",
        "Conjugate pairs",
        "Entropy of the overlaps",
        "One shared field",
        "Replica trick",
        "Channel",
        "Potential",
        "State evolution",
    ):
        assert step in formula.outcome.rules
    assert "Nishimori identity" in derived(bayes.conjugate).rules
