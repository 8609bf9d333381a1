"""The algebra of Gaussian averages against quadrature of the average itself."""

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from quenched.numerics.probability import normal
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.normal import Phi, Phi2, Phi3, Phi4
from quenched.symbolic.calculus.steps import NoClosedForm, derivative

X0, X1 = fields(2)
H = sympy.Heaviside

ONE_FIELD = [
    sympy.S(1) * X0**5 - X0,
    X0**2 * H(X0),
    sympy.Abs(X0) ** 3,
    sympy.sign(X0 - sympy.Rational(1, 3)) * X0,
    sympy.Max(X0, sympy.Rational(1, 2), -X0),
    sympy.Min(X0, 1),
    sympy.erf(X0) ** 2 * X0,
    sympy.erfc(2 * X0 - 1),
    sympy.exp(-(X0**2) / 3) * sympy.erf(X0),
    sympy.exp(2 * X0) * H(X0),
    sympy.exp(-(X0**2) + X0) * X0,
    sympy.sin(X0) ** 2 * X0,
    sympy.cos(3 * X0) * sympy.exp(-(X0**2)),
    Phi(X0) * H(X0 + 1),
]
TWO_FIELDS = [
    X0**3 * X1**2,
    H(X0) * H(X1),
    sympy.Max(X0, 0) * sympy.Max(X1, 0),
    sympy.Max(X0, X1),
    sympy.Abs(X0) * sympy.sign(X1),
    sympy.erf(X0) * sympy.erf(X1) * X0,
    sympy.exp(-(X0**2) / 2) * sympy.Max(X1, 0) ** 2,
    sympy.exp(-(X0**2) / 2 + X0 * X1 / 3 - X1**2 / 2) * X1,
    sympy.sin(X0) * sympy.cos(X1) * X0,
    sympy.exp(X0 - X1) * H(X1),
]


def expected(integrand, means, covariance):
    """Gauss-Legendre in independent normals, nested, on panels between the places where a step or a kink may sit.

    Knows no rule.  32 nodes on panels of at most 1.2 standard deviations: exact to rounding, 1e-13.
    """
    n = len(means)
    f = sympy.lambdify(
        fields(n), integrand, modules=[{"Heaviside": lambda x, *_: np.heaviside(x, 0.5), "Phi": ndtr}, "scipy"]
    )
    nodes, weights = np.polynomial.legendre.leggauss(32)

    def rule(kinks):
        edges = np.unique(np.concatenate([np.linspace(-12, 12, 21), [k for k in kinks if -12 < k < 12]]))
        half = np.diff(edges)[:, None] / 2
        z = (edges[:-1, None] + half * (1 + nodes)).ravel()
        return z, (half * weights).ravel() * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

    L = np.linalg.cholesky(np.array(covariance, dtype=float))
    z0, w0 = rule([(k - means[0]) / L[0, 0] for k in (-1, -1 / 2, 0, 1 / 3, 1 / 2, 1)])
    x0 = means[0] + L[0, 0] * z0
    if n == 1:
        return w0 @ (f(x0) + 0 * x0)
    total = 0.0
    for weight, x, z in zip(w0, x0, z0, strict=True):
        base = means[1] + L[1, 0] * z
        z1, w1 = rule([(k - base) / L[1, 1] for k in (0, x)])
        total += weight * (w1 @ f(np.full_like(z1, x), base + L[1, 1] * z1))
    return total


@pytest.mark.parametrize("integrand", ONE_FIELD, ids=str)
def test_one_field(integrand):
    mean, variance = sympy.Rational(2, 5), sympy.Rational(13, 10)
    value = float(GaussianAlgebra((X0,), (mean,), ((variance,),)).average(integrand).doit().evalf(20))
    assert abs(value - expected(integrand, [0.4], [[1.3]])) < 1e-12 * (1 + abs(value))


@pytest.mark.parametrize("integrand", TWO_FIELDS, ids=str)
def test_two_fields(integrand):
    rational = sympy.Rational
    covariance = ((rational(6, 5), rational(-1, 2)), (rational(-1, 2), rational(7, 10)))
    algebra = GaussianAlgebra((X0, X1), (rational(2, 5), rational(-1, 5)), covariance)
    value = float(algebra.average(integrand).doit().evalf(18))
    assert abs(value - expected(integrand, [0.4, -0.2], [[1.2, -0.5], [-0.5, 0.7]])) < 1e-12 * (1 + abs(value))


def test_singular_covariance_needs_no_inverse():
    """x1 = 2 x0 of unit variance: E[max(x0, 0) max(x1, 0)] = 2 E[x0^2 H] = 1, from the formula at any covariance."""
    c01, c11 = sympy.symbols("c01 c11", positive=True)
    algebra = GaussianAlgebra((X0, X1), (0, 0), ((1, c01), (c01, c11)))
    value = algebra.average(X0 * X1 * H(X0))
    assert sympy.simplify(value.doit().subs({c01: 2, c11: 4})) == 1


def test_delta_conditions():
    algebra = GaussianAlgebra((X0, X1), (0, 0), ((1, sympy.Rational(1, 2)), (sympy.Rational(1, 2), 1)))
    value = algebra.average(sympy.DiracDelta(2 * X0 - 1) * X1)
    density = sympy.exp(-sympy.Rational(1, 8)) / sympy.sqrt(2 * sympy.pi)
    assert sympy.simplify(value.doit() - density / 2 * sympy.Rational(1, 4)) == 0


@pytest.mark.parametrize(
    ("integrand", "message"),
    [
        (sympy.tanh(X0), "tanh"),
        (sympy.sin(X0) * H(X0), "times a step"),
        (sympy.exp(X0**2), "not square-integrable"),
        (sympy.DiracDelta(X0) ** 2, "square-integrable"),
        (H(X0 * X1), "not linear"),
        (1 / X0, "no rule"),
    ],
)
def test_what_does_not_close_says_so(integrand, message):
    algebra = GaussianAlgebra((X0, X1), (0, 0), ((1, 0), (0, 1)))
    with pytest.raises(NoClosedForm, match=message):
        algebra.average(integrand)


@given(powers=st.tuples(st.integers(0, 4), st.integers(0, 4)), shift=st.integers(-2, 2))
@settings(max_examples=25, deadline=None)
def test_shifting_the_mean_shifts_the_field(powers, shift):
    """E[F(x + s)] is the average of F at means shifted by s: for polynomials times a step."""
    m0, m1 = sympy.symbols("m0 m1", real=True)
    covariance = ((2, 1), (1, 3))
    integrand = X0 ** powers[0] * X1 ** powers[1] * H(X1)
    moved = integrand.subs({X0: X0 + shift, X1: X1 + shift}, simultaneous=True)
    left = GaussianAlgebra((X0, X1), (m0, m1), covariance).average(sympy.expand(moved))
    right = GaussianAlgebra((X0, X1), (m0 + shift, m1 + shift), covariance).average(integrand)
    point = {m0: sympy.Rational(3, 10), m1: sympy.Rational(-7, 10)}
    difference = (left - right).doit().subs(point).evalf(20)
    assert abs(difference) < 1e-15 * (1 + abs(right.doit().subs(point).evalf(20)))


@pytest.mark.parametrize("probability", [Phi, Phi2, Phi3, Phi4])
def test_derivatives_are_plackett_s(probability):
    """fdiff against central differences of the float64 kernels: step h errs by h^2/6 |third derivative| < 1e-6."""
    n, name = probability.dimension, probability.__name__
    arguments = np.array([0.3, -0.2, 0.5, 0.1][:n] + [0.3, -0.2, 0.1, 0.4, 0.2, -0.1][: n * (n - 1) // 2])
    symbols = sympy.symbols(f"a0:{len(arguments)}", real=True)
    kernels = {f"Phi{m}": lambda *x, m=m: normal.normal_probability(x[:m], x[m:]) for m in (2, 3, 4)}
    kernels["Phi"] = normal.Phi
    h = 1e-3
    for index, step in enumerate(h * np.eye(len(arguments))):
        slope = sympy.lambdify(symbols, probability(*symbols).fdiff(index + 1), modules=[kernels, "scipy"])
        difference = (kernels[name](*(arguments + step)) - kernels[name](*(arguments - step))) / (2 * h)
        assert abs(difference - slope(*arguments)) < 1e-6


def test_evalf():
    """Orthants of known size, at correlations of 1/2 (the largest of n + 1 is any of them) and of ±1."""
    half = sympy.Rational(1, 2)
    assert abs(Phi2(0, 0, half).evalf(20) - sympy.Rational(1, 3)) < 1e-19
    assert abs(Phi3(0, 0, 0, half, half, half).evalf(5) - sympy.Rational(1, 4)) < 1e-4
    assert abs(Phi3(0, 0, 0, 1, half, half).evalf(15) - sympy.Rational(1, 3)) < 1e-14
    assert Phi2(half, -half, -1).evalf() == 0
    assert abs(Phi2(1, 1, -1).evalf(15) - (2 * Phi(1) - 1).evalf(15)) < 1e-14


@pytest.mark.parametrize(
    ("g", "dg"),
    [
        ("max(x, 0)", "Heaviside(x)"),
        ("abs(x)", "2*Heaviside(x) - 1"),
        ("x*max(x, 0)", "2*x*Heaviside(x)"),
        ("max(2*x - 1, 0)", "2*Heaviside(2*x - 1)"),
    ],
)
def test_derivative_with_kinks(g, dg):
    from quenched.symbolic.language.parse import VARIABLE, parse

    found = derivative(parse(g), VARIABLE)
    assert all(found.subs(VARIABLE, v) == parse(dg).subs(VARIABLE, v) for v in (-2, sympy.Rational(1, 3), 1, 5))
