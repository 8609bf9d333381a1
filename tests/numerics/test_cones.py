"""The sign of three and four piecewise linear neurons: exact cones against sampled lines, and cases known otherwise."""

import sys

import numpy as np
import pytest
from scipy.special import ndtr

from quenched.numerics import Mixture, OrderParameters, TwoLayer, errors
from quenched.numerics.signs.homogeneous_signs import cone_signs

MIXTURE = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], [0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])
RELU = np.array([0.0, 1.0])


def problem(K, rank, seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((2, K))
    B = 0.5 * rng.standard_normal((K, rank))
    return OrderParameters(MIXTURE.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs"])
@pytest.mark.parametrize("K", [3, 4])
def test_cones_against_sampled_lines(activation, K, monkeypatch):
    """The sampled error is Student's t in units of its estimate, 7 degrees of freedom: beyond 7 once in 10^4."""
    for seed, rank in enumerate([K, K, K - 2]):
        state, network = problem(K, rank, seed), TwoLayer(K, activation)
        exact = errors(MIXTURE, network, state)
        assert exact.method == "exact"
        assert exact.classification_error_error < 1e-7
        with monkeypatch.context() as patch:
            patch.setattr(sys.modules["quenched.numerics.signs.output_signs"], "cone_signs", lambda *_: None)
            sampled = errors(MIXTURE, network, state, points=2**13)
        assert sampled.method != "exact"
        gap = abs(exact.classification_error - sampled.classification_error)
        assert gap < 7 * sampled.classification_error_error + exact.classification_error_error
        assert exact.tie_probability == pytest.approx(sampled.tie_probability, abs=2e-8)


def test_probabilities_of_all_signs_add_up():
    """P(phi < 0) + P(phi > 0) + P(phi = 0) = 1: the cones of both signs cover all inputs but the ties, once."""
    rng = np.random.default_rng(3)
    one = np.ones(1)
    for n in (3, 4):
        for _ in range(10):
            B = rng.standard_normal((n, n))
            law = rng.standard_normal((1, n)), (B @ B.T)[None]
            v = rng.standard_normal(n)
            (wrong, tie), _ = cone_signs(one, one, *law, v, RELU)
            (right, _), error = cone_signs(one, one, *law, -v, RELU)
            # the error once of the ties, half in each, and bounded by the sum of both
            assert wrong + right == pytest.approx(1.0, abs=4 * max(error) + 1e-10)
            assert 0 <= tie < 1


def test_a_difference_of_two_sums_of_independent_relu():
    """phi = r1 + r2 - r3 - r4 of zero-mean fields is odd under exchange of the pairs: P(phi < 0) = (1 - 1/16)/2."""
    (wrong, tie), (error, _) = cone_signs(
        np.ones(1), np.ones(1), np.zeros((1, 4)), np.eye(4)[None], np.array([1.0, 1.0, -1.0, -1.0]), RELU
    )
    assert tie == pytest.approx(1 / 16, abs=error)
    assert wrong - tie / 2 == pytest.approx(15 / 32, abs=error)


def test_a_linear_activation_in_three_pieces_of_one_slope():
    """Equal slopes on both sides: phi is a normal field, P(phi < 0) = Phi(-mean/deviation)."""
    rng = np.random.default_rng(4)
    B = rng.standard_normal((4, 4))
    mean, covariance, v = rng.standard_normal((1, 4)), (B @ B.T)[None], rng.standard_normal(4)
    (wrong, tie), (error, _) = cone_signs(np.ones(1), np.ones(1), mean, covariance, v, np.ones(2))
    expected = ndtr(-(mean[0] @ v) / np.sqrt(v @ covariance[0] @ v))
    assert wrong == pytest.approx(expected, abs=error)
    assert tie == 0


def test_a_form_that_does_not_vary_is_left_to_others():
    covariance = np.ones((1, 3, 3))  # three equal fields: their differences vanish
    assert cone_signs(np.ones(1), np.ones(1), np.zeros((1, 3)), covariance, np.array([1.0, -1.0, 1.0]), RELU) is None
