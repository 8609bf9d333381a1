"""Quadrature: values that are known, honest error estimates, refusal to converge on what does not."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq

from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import adaptive, randomised, tanh_sinh

KINKS = {  # integrand with an interior singularity, and its integral over (0, 1)
    "corner": (lambda x: np.abs(x - 0.3), (0.09 + 0.49) / 2),
    "3/2": (lambda x: np.abs(x - 0.3) ** 1.5, (0.3**2.5 + 0.7**2.5) / 2.5),
    "step": (lambda x: (x > 0.3) * 1.0, 0.7),
    "square root": (lambda x: np.sqrt(np.abs(x - 0.3)), (0.3**1.5 + 0.7**1.5) / 1.5),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-11])
def test_adaptive_finds_kinks_and_knows_its_error(name: str, tolerance: float) -> None:
    f, exact = KINKS[name]
    result = adaptive(f, [(0.0, 0.5), (0.5, 1.0)], tolerance)
    assert abs(result.value - exact) <= result.error + 1e-15
    assert result.error <= 1.5 * tolerance * exact  # a few shares of the tolerance are kept for later levels


SINGULAR = {  # integrand on (0, 1) with a singularity at p, its integral
    "kink": (lambda x, p: np.abs(x - p), lambda p: (p**2 + (1 - p) ** 2) / 2),
    "slight kink": (lambda x, p: np.exp(x) + np.maximum(x - p, 0) / 10, lambda p: np.e - 1 + (1 - p) ** 2 / 20),
    "step": (lambda x, p: (x > p) + 0.2, lambda p: 1.2 - p),
    "3/2": (lambda x, p: np.abs(x - p) ** 1.5, lambda p: (p**2.5 + (1 - p) ** 2.5) / 2.5),
}


def accidents() -> list[float]:
    """Places of a kink at which Gauss-Legendre of a panel and of its halves agree."""
    nodes, weights = np.polynomial.legendre.leggauss(16)

    def gap(p: float) -> float:
        whole, left, right = (np.abs((1 + nodes) * w / 2 + a - p) @ weights * w / 2 for a, w in
                              ((0, 1), (0, 0.5), (0.5, 0.5)))  # fmt: skip
        return float(whole - left - right)

    grid = np.linspace(1e-4, 1 - 1e-4, 2001)
    return [brentq(gap, a, b, xtol=1e-15) for a, b in pairwise(grid) if gap(a) * gap(b) < 0]


@pytest.mark.parametrize("name", SINGULAR)
def test_adaptive_sees_a_singularity_wherever_it_is(name: str) -> None:
    """Where two rules agree by accident, anywhere, and so near the end of a panel that no node lies beyond.

    5e-15: rounding.  Steps nearer than 1e-12 to the end of a panel are out of sight, and as small as that.
    """
    f, exact = SINGULAR[name]
    rng = np.random.default_rng(3)
    found, near = accidents(), 10.0 ** -rng.uniform(1, 12, 60)
    assert len(found) > 20
    for p in [*found, *rng.uniform(size=60), *near, *(1 - near), *(0.5 + near / 2)]:
        for tolerance in (1e-3, 1e-7, 1e-10):
            result = adaptive(lambda x, p=p: f(x, p), [(0.0, 1.0)], tolerance)
            assert abs(result.value - exact(p)) <= result.error + 5e-15 + (1e-12 if name == "step" else 0)


def test_adaptive_is_spectral_on_smooth_integrands() -> None:
    result = adaptive(lambda x: np.exp(-x * x / 2), list(pairwise(range(-10, 11, 2))), 1e-12)
    assert result.evaluations == 10 * 54  # 16 nodes and both ends, of a panel and of its halves: no bisection
    assert math.isclose(result.value, math.sqrt(2 * math.pi), rel_tol=4e-15)


def test_adaptive_refuses_what_does_not_converge() -> None:
    with pytest.raises(RuntimeError, match=r"not the relative tolerance 1e-10: no convergence around"):
        adaptive(lambda x: 1 / x, [(0.0, 1.0)], 1e-10)


def test_tanh_sinh_has_the_digits_it_is_asked_for() -> None:
    ctx = context(50)
    tolerance = ctx.mpf(10) ** -40
    gauss = tanh_sinh(
        lambda x: np.frompyfunc(lambda t: ctx.exp(-t * t / 2), 1, 1)(x), [(-15, ctx.zero), (0, 15)], tolerance, ctx
    )
    assert abs(gauss.value - ctx.sqrt(2 * ctx.pi)) < tolerance
    ends = tanh_sinh(lambda x: np.frompyfunc(ctx.sqrt, 1, 1)(x * (1 - x)), [(ctx.zero, ctx.one)], tolerance, ctx)
    assert abs(ends.value - ctx.pi / 8) < tolerance
    assert ends.error < tolerance


def test_tanh_sinh_bisects_towards_an_interior_singularity() -> None:
    ctx = context(30)
    third = ctx.one / 3
    result = tanh_sinh(lambda x: abs(x - third) ** ctx.mpf("1.5"), [(ctx.zero, ctx.one)], ctx.mpf("1e-18"), ctx)
    exact = (third ** ctx.mpf("2.5") + (1 - third) ** ctx.mpf("2.5")) / ctx.mpf("2.5")
    assert abs(result.value - exact) < 1e-18


def test_tanh_sinh_refuses_what_does_not_converge() -> None:
    ctx = context(20)
    with pytest.raises(RuntimeError, match="does not reach the tolerance"):
        tanh_sinh(
            lambda x: np.frompyfunc(lambda t: ctx.sin(1 / t), 1, 1)(x), [(ctx.zero, ctx.one)], ctx.mpf("1e-15"), ctx
        )


def test_randomised_is_reproducible_and_stops_at_the_tolerance() -> None:
    def f(z: np.ndarray) -> np.ndarray:
        return np.exp(z.sum(axis=1) / 3)

    exact = math.exp(3 / 18)  # E exp(s.z) = exp(|s|^2/2)
    rough, fine = (randomised(f, 3, tolerance=tolerance, seed=1) for tolerance in (1e-2, 1e-4))
    assert rough.evaluations < fine.evaluations
    for result, tolerance in ((rough, 1e-2), (fine, 1e-4)):
        assert result.error <= tolerance
        assert abs(result.value - exact) < 6 * result.error  # Student, 7 degrees of freedom: once in 2000
    assert randomised(f, 3, tolerance=1e-4, seed=1) == fine
    assert randomised(f, 3, tolerance=1e-4, seed=2) != fine


def test_randomised_has_honest_errors_for_every_component() -> None:
    def f(z: np.ndarray) -> np.ndarray:  # a kink and a step across the axes, a smooth function
        return np.stack([np.abs(z @ [1.0, 2.0]), z @ [1.0, 2.0] > 1, z[:, 0] ** 2 * z[:, 1] ** 2], axis=1)

    exact = [math.sqrt(10 / math.pi), math.erfc(1 / math.sqrt(10)) / 2, 1.0]
    runs = [randomised(f, 2, tolerance=0, seed=seed, points=2**12) for seed in range(40)]
    assert {run.evaluations for run in runs} == {2**12}
    z = np.array([(run.value - exact) / run.error for run in runs])
    # squares of Student's t with 7 degrees of freedom: mean 1.4, standard deviation 3.4 over sqrt(40)
    assert ((z**2).mean(axis=0) > 0.2).all()
    assert ((z**2).mean(axis=0) < 3.5).all()


def test_randomised_tolerance_by_component() -> None:
    def f(z: np.ndarray) -> np.ndarray:
        return np.stack([z[:, 0] ** 2, z.sum(axis=1) > 0.3], axis=1)

    loose = randomised(f, 2, tolerance=np.array([1e-2, np.inf]), seed=0)
    tight = randomised(f, 2, tolerance=np.array([1e-2, 1e-4]), seed=0)
    assert loose.evaluations < tight.evaluations
    assert tight.error[1] <= 1e-4


def test_randomised_does_not_take_equal_counts_for_certainty() -> None:
    # 128 stratified points on one axis count a step alike in nearly all scramblings
    result = randomised(lambda z: (z[:, 0] > 0.3) * 1.0, 1, tolerance=1e-9, seed=0, points=2**15)
    assert 0 < abs(result.value - math.erfc(0.3 / math.sqrt(2)) / 2) < 6 * result.error
