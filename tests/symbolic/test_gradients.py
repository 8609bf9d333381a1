"""Gradients of the averages: every value of every group against differences of what it is the derivative of."""

import numpy as np
import pytest
import sympy

from quenched.numerics.averages.activations import derived_module
from quenched.symbolic.calculus.gaussian import GaussianAlgebra, fields
from quenched.symbolic.calculus.steps import in_steps
from quenched.symbolic.language.arrays import array_function, einsum, tangent
from quenched.theory.activations import ACTIVATIONS
from quenched.theory.gradients import GRADIENTS

pytestmark = pytest.mark.usefixtures("derived_here")


def gradients_of(name):
    """Those that are checked in, or as they are derived on first use."""
    return (
        GRADIENTS[name] if name in GRADIENTS else derived_module("gradients", name, "--gradients").GRADIENTS["custom"]
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_gradients_against_central_differences(name, n):
    """Fields of unit order, correlations up to 0.6.  Steps of 1e-4 leave h^2/6 f''' and rounding/h.

    Third derivatives are at most some hundred times the largest value: 1e-6 of it; rounding is less.
    """
    rng = np.random.default_rng([n, len(name)])
    values, gradient = ACTIVATIONS[name].groups[n - 1], gradients_of(name)[n - 1]
    B = np.eye(n) + 0.3 * rng.uniform(-1, 1, (n, n))
    point = np.concatenate([0.5 * rng.standard_normal(n), (B @ B.T)[np.triu_indices(n)]])
    found = np.array(gradient(*point)).reshape(-1, len(point))
    step = 1e-4
    moved = [(np.array(values(*(point + h))) - values(*(point - h))) / (2 * step) for h in step * np.eye(len(point))]
    expected = np.stack(moved, axis=1)
    scale = np.maximum(np.abs(expected), np.abs(np.array(values(*point)))[:, None]).max(axis=1) + 1
    assert (np.abs(found - expected).max(axis=1) < 3e-6 * scale).all()


@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_of_a_delta(order):
    """E[delta^(n)(x)] = (-1)^n times the n-th derivative of the density at 0; and of x^2 delta'' it is 2 p(0)."""
    m, c = sympy.Symbol("m", real=True), sympy.Symbol("c", positive=True)
    (x,) = fields(1)
    law = GaussianAlgebra((x,), (m,), ((c,),))
    z = sympy.Symbol("z", real=True)
    density = sympy.exp(-((z - m) ** 2) / (2 * c)) / sympy.sqrt(2 * sympy.pi * c)
    found = law.average(sympy.DiracDelta(x, order))
    assert sympy.simplify(found - (-1) ** order * density.diff(z, order).subs(z, 0)) == 0


def test_steps_are_idempotent():
    x = sympy.Symbol("x", real=True)
    leaky = sympy.Max(x, 0) - sympy.Max(-x, 0) / 100
    slope = in_steps(leaky.diff(x), x)
    assert in_steps(slope**3, x) == sympy.expand(
        sympy.Rational(1, 10**6) + sympy.Heaviside(x) * (1 - sympy.Rational(1, 10**6))
    )


def test_tangent_is_linear_in_the_directions():
    i, k = sympy.Idx("i"), sympy.Idx("k")
    Q, v, P = (sympy.IndexedBase(name) for name in ("Q", "v", "P"))
    fixed = frozenset({"P"})
    assert tangent(P[k], fixed) == 0
    assert tangent(3 * P[k] * v[k], fixed) == 3 * P[k] * tangent(v[k])
    assert tangent(Q[k, i] * v[i] + v[k]) == tangent(Q[k, i] * v[i]) + tangent(v[k])
    c = sympy.Symbol("c")
    c_z = sympy.IndexedBase("c_z")[sympy.Idx("z")]
    assert tangent(c**2 * v[k], moving=(c,)) == c**2 * tangent(v[k]) + 2 * c * v[k] * c_z


def test_unity_has_the_size_of_a_parameter_and_no_factor_is_dropped():
    k, l = sympy.Idx("k"), sympy.Idx("l")
    w, u, I = (sympy.IndexedBase(name) for name in ("w", "u", "I"))
    assert "I = eye(len(w))" in array_function("f", "w", {"found": (w[k] * I[k, l], "kl")}, "")
    with pytest.raises(ValueError, match=r"parameters must have a vector with an index of I, .* got u"):
        array_function("f", "u", {"found": (u[k, l] * I[k, l], "kl")}, "")
    assert einsum(3 / w[k], "k", "") == "3*1/w"
    for factor in (1 / w[l], w[k] ** -2, sympy.sqrt(w[k])):
        with pytest.raises(ValueError, match="expression must be a sum of products of arrays, got the factor"):
            einsum(u[k, l] * factor, "k", "")
