"""Error against noise: closed forms of the oracle, the best initial state, processes that change nothing."""

import json
import math

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, kernel_error, random_features_error, random_state
from quenched.sim.error_curve import error_curve, in_processes

SIGMAS = [0.5, 0.3, 1.0]  # any order


def test_the_oracle_on_xor_is_its_closed_form() -> None:
    p = ndtr(-1 / (np.sqrt(2) * np.array(SIGMAS)))
    found = error_curve(Mixture.xor(1.0), SIGMAS, ["oracle"])
    # a handful of floating-point operations on numbers below 1
    np.testing.assert_allclose(found.classification_error.sel(learner="oracle"), 2 * p * (1 - p), rtol=0, atol=1e-15)
    assert "final_error" not in found


def test_the_network_counts_with_its_best_initial_state() -> None:
    mixture, network, sgd = Mixture.two_clusters(1.0), TwoLayer(1, "linear"), OnlineSGD(0.2)
    found = error_curve(mixture, SIGMAS, network=network, sgd=sgd, t=3.0, D=100, initial=[4, 7])
    for i, sigma in enumerate(SIGMAS):
        for j, seed in enumerate([4, 7]):
            problem = Mixture.two_clusters(sigma)
            end = integrate(problem, network, sgd, random_state(problem, network, 100, seed), [3.0])
            assert found.final_error[i, j] == end.classification_error[0]
            assert found.final_pmse[i, j] == end.pmse[0]
    best = found.classification_error.sel(learner="two-layer")
    np.testing.assert_array_equal(best, found.final_error.min("initial"))
    assert (best >= found.classification_error.sel(learner="oracle")).all()


def test_processes_change_no_bit_and_report_progress() -> None:
    options = {"network": TwoLayer(2, "erf"), "sgd": OnlineSGD(0.5), "t": 1.0, "initial": [0, 1]}
    done: list[float] = []
    one = error_curve(Mixture.xor(1.0), SIGMAS, **options)
    two = error_curve(Mixture.xor(1.0), SIGMAS, **options, processes=2, progress=done.append)
    assert one.equals(two)
    assert done == [(i + 1) / 6 for i in range(6)]


def test_random_features_are_a_learner() -> None:
    """Two clusters: the limit at each sigma; at D = 10^10 it is the same up to 1/D, the error of two clusters."""
    options = {"activation": "erf", "gamma": 0.5, "ridge": 0.1}
    found = error_curve(Mixture.two_clusters(1.0), SIGMAS, ["oracle", "random-features"], **options)
    line = found.classification_error.sel(learner="random-features")
    for sigma, error in zip(SIGMAS, line.values, strict=True):
        exact = random_features_error(Mixture.two_clusters(sigma), "erf", 0.5, 0.1)
        assert error == exact.classification_error
    assert (line > found.classification_error.sel(learner="oracle")).all()
    finite = error_curve(Mixture.two_clusters(1.0), SIGMAS, ["random-features"], features_at=1e10, **options)
    np.testing.assert_allclose(finite.classification_error[0], line, rtol=0, atol=1e-8)
    assert json.loads(finite.attrs["features"]) == options | {"D": 1e10}


def test_kernels_are_learners() -> None:
    """XOR at lengths D^(1/4): the limit at each sigma, and at D = 10^10 the same up to 10 D^-1/2."""
    xor = Mixture.xor(1.0, 1.5, 0.25)
    options = {"kernel": "rbf", "activation": "erf", "alpha": 1.5, "ridge": 0.1}
    found = error_curve(xor, SIGMAS, ["kernel", "ntk"], **options)
    limits = [kernel_error(Mixture.xor(s, 1.5, 0.25), "rbf", 1.5, 0.1).classification_error for s in SIGMAS]
    np.testing.assert_array_equal(found.classification_error.sel(learner="kernel"), limits)
    np.testing.assert_array_equal(found.classification_error.sel(learner="ntk"), 0.5)  # an odd kernel
    finite = error_curve(xor, SIGMAS, ["kernel"], features_at=1e10, **options)
    np.testing.assert_allclose(finite.classification_error[0], limits, rtol=0, atol=1e-4)
    assert json.loads(finite.attrs["kernel"]) == options | {"D": 1e10}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failing_job_fails_the_whole(processes: int) -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        in_processes(math.sqrt, [(1.0,), (-1.0,)], processes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigmas": []}, "sigmas"),
        ({"sigmas": [0.3, -1.0]}, "sigma must be finite and > 0, got -1.0"),
        ({"learners": ["oracle", "perceptron"]}, "learners must be among oracle, two-layer, .*, got .*perceptron"),
        ({"learners": []}, "learners"),
        ({"network": None}, "network must be given"),
        ({"sgd": None}, "sgd must be given"),
        ({"initial": []}, "initial must be given"),
        ({"initial": [-1]}, "initial must be an integer >= 0, got -1"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], message: str) -> None:
    good = {"sigmas": SIGMAS, "network": TwoLayer(1, "linear"), "sgd": OnlineSGD(0.1), "t": 0.1}
    with pytest.raises(ValueError, match=message):
        error_curve(Mixture.xor(1.0), **(good | arguments))


def test_digits_of_the_oracle():
    """XOR at sigma = 1: 2 p (1 - p), p = Phi(-1/sqrt 2)."""
    with mpmath.workdps(40):
        p = mpmath.ncdf(-1 / mpmath.sqrt(2))
        expected = 2 * p * (1 - p)
        result = error_curve(Mixture.xor(1.0), [1.0], ["oracle"], digits=30)
        assert abs(mpmath.mpf(result.digits.item()) - expected) < 1e-29
    with pytest.raises(ValueError, match="digits=30"):
        error_curve(Mixture.xor(1.0), [1.0], digits=30)
