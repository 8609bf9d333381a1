"""Quadrature: values that are known, honest error estimates, refusal to converge on what does not."""

import math
from itertools import pairwise

import numpy as np
import pytest

from quenched.numerics.precision import context
from quenched.numerics.quadrature import adaptive, tanh_sinh

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


def test_adaptive_is_spectral_on_smooth_integrands() -> None:
    result = adaptive(lambda x: np.exp(-x * x / 2), list(pairwise(range(-10, 11, 2))), 1e-12)
    assert result.evaluations == 10 * 48
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
