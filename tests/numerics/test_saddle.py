"""The solver of saddle points: it converges, keeps to its branch, or says why not."""

from collections.abc import Callable

import numpy as np
import pytest

from quenched.numerics.saddle.continuation import bisected, followed
from quenched.numerics.saddle.solve import RESIDUAL, SaddlePointError, limit, solve


def test_a_map_whose_iteration_diverges_is_solved() -> None:
    """x -> 3 - 5x has the fixed point 1/2; iterates grow by 5 a step."""
    found = solve(lambda x: 3 - 5 * x, np.array([10.0]))
    assert abs(found.point[0] - 0.5) < 1e-13  # rounding of 3 - 5 x, divided by 6
    assert found.residual <= RESIDUAL
    assert found.amplification == pytest.approx(1 / 6, rel=1e-6)  # slope from differences of step 1e-7


def test_newton_is_safeguarded_where_it_overshoots() -> None:
    """arctan: Newton's method alone diverges from |x| > 1.39."""
    found = solve(lambda x: x - np.arctan(x), np.array([20.0]))
    assert abs(found.point[0]) < 1e-12


def test_what_has_no_fixed_point_is_refused_with_the_residual() -> None:
    with pytest.raises(SaddlePointError, match=r"the test was not found: residual \d.*; move on"):
        solve(lambda x: x + 1 + x**2, np.array([0.3]), what="the test", advice="move on")
    with pytest.raises(SaddlePointError, match=r"the test did not end: last change 0\.1 after 50 iterations"):
        limit(lambda x: x + 0.1, np.zeros(1), steps=50, what="the test")


def test_a_map_that_leaves_the_numbers_is_refused() -> None:
    with pytest.raises(SaddlePointError, match="residual inf"):
        solve(lambda x: x * np.nan, np.ones(2))


@pytest.mark.parametrize(("start", "end"), [(1e-6, 0.0), (0.4, 0.0), (0.6, 1.0), (1.5, 1.0)])
def test_iteration_stays_on_its_branch(start: float, end: float) -> None:
    """F = x + x (x - 1/2) (1 - x)/4: 0 and 1 attract, 1/2 separates them."""
    found = limit(lambda x: x + x * (x - 0.5) * (1 - x) / 4, np.array([start]))
    assert abs(found.point[0] - end) < 1e-11  # residual 1e-13 over 1 - F' = 1/8


def test_iteration_passes_the_ghost_of_a_solution() -> None:
    """F - x = ((x - 1/2)^2 + 1e-4)(2 - x)/5 is small near 1/2 and 0 at 2 only: the iterates slow down and go on."""
    found = limit(lambda x: x + ((x - 0.5) ** 2 + 1e-4) * (2 - x) / 5, np.zeros(1))
    assert abs(found.point[0] - 2) < 1e-11


def test_an_unstable_solution_is_not_taken_for_the_end() -> None:
    """(x, y): x contracts fast to 0, where y grows slowly from 1e-3 to 1: (0, 0) solves the equations, and repels."""

    def F(z: np.ndarray) -> np.ndarray:
        return np.array([0.5 * z[0], z[1] + 0.01 * z[1] * (1 - z[1])])

    found = limit(F, np.array([0.05, 1e-3]))
    np.testing.assert_allclose(found.point, [0, 1], atol=1e-10)  # residual 1e-12 over 1 - F' = 1/100


def test_continuation_halves_the_steps_that_fail() -> None:
    """F knows its fixed point log(a) within a distance of 1 alone: from a = 1 to 1e6 the root is followed in pieces."""
    values = [1.0, 1e3, 1e6]

    def known_nearby(a: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda x: np.where(np.abs(x - np.log(a)) < 1, (x + np.log(a)) / 2, np.nan)

    found = followed(known_nearby, values, np.zeros(1), what="root", advice="")
    np.testing.assert_allclose([s.point[0] for s in found], np.log(values), atol=1e-12)
    with pytest.raises(SaddlePointError, match=r"root at .* was not found"):
        followed(lambda a: lambda x: np.where(a < 2, x / 2, np.nan), [1.0, 1e3], np.zeros(1), what="root", advice="")


def test_bisection_finds_where_a_condition_turns() -> None:
    assert bisected(lambda x: x > 0.3, 0.01, 10.0, rtol=1e-12) == pytest.approx(0.3, rel=1e-12)
