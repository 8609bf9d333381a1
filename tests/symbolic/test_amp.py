"""Message passing: the memory of a field by a small system; spectral weights and overlaps against what they are of."""

import numpy as np
import pytest
import sympy
from scipy.optimize import brentq

from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import amp, bayes
from quenched.theory import amp as theory


def test_the_memory_is_what_a_sample_told_the_components() -> None:
    """B_i of the messages v_j - x_ij û_i/(sigma^2 D (1 + lam)) is `field` at memory û_i/(1 + lam), up to O(1/sqrt(D)).

    sum_j x_ij^2 = sigma^2 D (1 ± 5 sqrt(2/D)), where x is noise.
    """
    rng = np.random.default_rng(0)
    D, sigma, lam, uhat = 40_000, 0.7, 0.8, 0.6
    x, v = sigma * rng.standard_normal(D), rng.standard_normal(D) / np.sqrt(D)
    b = v * D * (1 + lam)  # the fields whose estimates are v
    told = x * uhat / sigma**2
    exact = float(x @ ((b - told) / (D * (1 + lam)))) / sigma**2
    found = theory.field(float(x @ v), uhat / (1 + lam), sigma)
    size = uhat / (1 + lam) / sigma**2  # of the memory's term
    assert abs(exact - found) < 5 * np.sqrt(2 / D) * size < 0.05 * abs(found - float(x @ v) / sigma**2)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
def test_the_spectral_weight_is_that_of_weak_fields(sigma: float) -> None:
    """û = <A> at B = (r - û)/sigma^2, for three clusters of mean 0, solved at r = 1e-6: û/r up to that."""
    A, p, r = np.array([1.0, -0.5, -1.5]), np.array([0.6, 0.3, 0.3]) / 1.2, 1e-6

    def average(B: float) -> float:
        terms = p * np.exp(A * B)
        return float(terms @ A / terms.sum())

    assert average(0.0) == pytest.approx(0, abs=1e-16)
    uhat = brentq(lambda u: average((r - u) / sigma**2) - u, -r, 2 * r, xtol=1e-20)
    assert uhat / r == pytest.approx(theory.spectral_weight(float(p @ A**2), sigma), rel=1e-5)


@pytest.mark.parametrize("weight", [sympy.Rational(1, 2), sympy.Integer(1)])
def test_the_spectral_threshold_is_that_of_the_trivial_point(weight: sympy.Expr) -> None:
    """One label of share P_y: alpha_c = sigma^4/(P_y A^4); the overlap goes to 1 as alpha -> infinity."""
    alpha, sigma, power = specification_symbols(amp.spectral_overlap)
    value = derived(amp.spectral_overlap).values[0].subs(alpha, weight * alpha)
    (threshold,) = sympy.solve(value, alpha)
    noise, growth = specification_symbols(bayes.critical_alpha)
    critical = derived(bayes.critical_alpha).values[0].subs({growth: weight * power**2, noise: sigma})
    assert sympy.simplify(threshold - critical) == 0
    assert sympy.limit(value, alpha, sympy.oo) == 1


def test_the_spectral_overlap_of_many_samples_is_that_of_perturbation_theory() -> None:
    """1 - (e.v)^2 = D Var/power^2: entries (v, j) of X^T X/n are noise of variance sigma^2 (sigma^2 + power)/(alpha D).

    To first order in 1/alpha; the next one is smaller by sigma^2/(alpha power).
    """
    alpha, sigma, power = 1e6, 0.7, 1.3
    leak = alpha * (1 - theory.spectral_overlap(alpha, sigma, power))
    assert leak == pytest.approx(sigma**2 * (sigma**2 + power) / power**2, rel=2 * sigma**2 / (alpha * power))


@pytest.mark.parametrize(("alpha", "power"), [(1.5, 1.0), (0.5, 2.0)])
def test_the_spectral_overlap_is_that_of_eigenvectors(alpha: float, power: float) -> None:
    """Twelve covariances of D = 500: within four standard errors, and O(1/D) at a slope of 10."""
    D, sigma, seen = 500, 0.7, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        v = rng.standard_normal(D) / np.sqrt(D)
        signs = np.sqrt(power) * rng.choice([-1.0, 1.0], round(alpha * D))
        X = signs[:, None] * v + sigma * rng.standard_normal((len(signs), D))
        _, vectors = np.linalg.eigh(X.T @ X)
        seen.append((vectors[:, -1] @ v) ** 2)
    exact = theory.spectral_overlap(alpha, sigma, power)
    assert abs(np.mean(seen) - exact) < 4 * np.std(seen, ddof=1) / np.sqrt(12) + 10 / D
