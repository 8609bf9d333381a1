"""Error against noise: closed forms of the oracle, the best initial state, processes that change nothing."""

import json
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, kernel_error, random_features_error, random_state
from quenched.numerics.kernel_ridge import KernelOptions, TangentOptions
from quenched.numerics.learners import error_of, learners, register
from quenched.numerics.oracle import OracleOptions
from quenched.numerics.problem.learner import Learner, Options, Solution, option
from quenched.numerics.random_features import RandomFeaturesOptions
from quenched.numerics.two_layer.learner import TwoLayerOptions
from quenched.sim.cli import main
from quenched.sim.error_curve import error_curve
from quenched.sim.processes import Work

SIGMAS = [0.5, 0.3, 1.0]  # any order


def test_the_oracle_on_xor_is_its_closed_form() -> None:
    p = ndtr(-1 / (np.sqrt(2) * np.array(SIGMAS)))
    found = error_curve(Mixture.xor(1.0), SIGMAS, ["oracle"])
    # a handful of floating-point operations on numbers below 1
    np.testing.assert_allclose(found.classification_error.sel(learner="oracle"), 2 * p * (1 - p), rtol=0, atol=1e-15)
    assert found.identical(error_curve(Mixture.xor(1.0), SIGMAS, "oracle"))
    assert "final_error" not in found


def test_the_network_counts_with_its_best_initial_state() -> None:
    mixture, network, sgd = Mixture.two_clusters(1.0), TwoLayer(1, "linear"), OnlineSGD(0.2)
    options = TwoLayerOptions(network, sgd, t=3.0, D=100, initial=4, starts=2, readout_scale=1.0)
    found = error_curve(mixture, SIGMAS, {"oracle": OracleOptions(), "two-layer": options})
    assert found.initial.values.tolist() == [4, 5]
    for i, sigma in enumerate(SIGMAS):
        for j, seed in enumerate([4, 5]):
            problem = Mixture.two_clusters(sigma)
            end = integrate(problem, network, sgd, random_state(problem, network, 100, seed), [3.0])
            assert found.final_error[i, j] == end.classification_error[0]
            assert found.final_pmse[i, j] == end.pmse[0]
    best = found.classification_error.sel(learner="two-layer")
    np.testing.assert_array_equal(best, found.final_error.min("initial"))
    assert (best >= found.classification_error.sel(learner="oracle")).all()


def test_processes_change_no_bit_and_report_progress() -> None:
    options = {"two-layer": TwoLayerOptions(TwoLayer(2, "erf"), OnlineSGD(0.5), t=1.0, starts=2)}
    done: list[float] = []
    one = error_curve(Mixture.xor(1.0), SIGMAS, options)
    two = error_curve(Mixture.xor(1.0), SIGMAS, options, Work(2, done.append))
    assert one.identical(two)
    assert done == [(i + 1) / 3 for i in range(3)]


def test_random_features_are_a_learner() -> None:
    """Two clusters: the limit at each sigma; at D = 10^10 it is the same up to 1/D, the error of two clusters."""
    options = RandomFeaturesOptions(activation="erf", gamma=0.5, ridge=0.1)
    found = error_curve(Mixture.two_clusters(1.0), SIGMAS, {"oracle": OracleOptions(), "random-features": options})
    line = found.classification_error.sel(learner="random-features")
    for sigma, error in zip(SIGMAS, line.values, strict=True):
        exact = random_features_error(Mixture.two_clusters(sigma), "erf", 0.5, 0.1)
        assert error == exact.classification_error
    assert (line > found.classification_error.sel(learner="oracle")).all()
    far = replace(options, features_at=1e10)
    finite = error_curve(Mixture.two_clusters(1.0), SIGMAS, {"random-features": far})
    np.testing.assert_allclose(finite.classification_error[0], line, rtol=0, atol=1e-8)
    assert json.loads(finite.attrs["learners"]) == {"random-features": far.to_dict()}


def test_kernels_are_learners() -> None:
    """XOR at lengths D^(1/4): the limit at each sigma, and at D = 10^10 the same up to 10 D^-1/2."""
    xor = Mixture.xor(1.0, 1.5, 0.25)
    kernel = KernelOptions(kernel="rbf", alpha=1.5, ridge=0.1)
    tangent = TangentOptions(activation="erf", alpha=1.5, ridge=0.1)
    found = error_curve(xor, SIGMAS, {"kernel": kernel, "ntk": tangent})
    limits = [kernel_error(Mixture.xor(s, 1.5, 0.25), "rbf", 1.5, 0.1).classification_error for s in SIGMAS]
    np.testing.assert_array_equal(found.classification_error.sel(learner="kernel"), limits)
    np.testing.assert_array_equal(found.classification_error.sel(learner="ntk"), 0.5)  # an odd kernel
    finite = error_curve(xor, SIGMAS, {"kernel": replace(kernel, features_at=1e10)})
    np.testing.assert_allclose(finite.classification_error[0], limits, rtol=0, atol=1e-4)


@dataclass(frozen=True)
class GuessOptions(Options):
    """How often the guess is "positive"."""

    share: float = option(0.5, "Share of positive guesses.")


def guess(mixture: Mixture, options: GuessOptions) -> Solution:
    """Labels are guessed: the error is that of independent signs."""
    positive = float(mixture.weights[mixture.labels > 0].sum())
    return Solution(positive * (1 - options.share) + (1 - positive) * options.share, 0.0, "arithmetic", {})


def test_a_learner_is_one_entry(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """One registered from here is in the table, in error curves, and among the options of the verb."""
    monkeypatch.setattr("quenched.numerics.learners._EXTRA", {})
    register(Learner("guess", guess, GuessOptions(), "No learning at all."))
    assert "guess" in learners()
    assert error_of("guess", Mixture.three_clusters(1.0), GuessOptions(share=0.0)).value == pytest.approx(
        float(Mixture.three_clusters(1.0).weights[Mixture.three_clusters(1.0).labels > 0].sum())
    )
    found = error_curve(Mixture.xor(1.0), SIGMAS, ["oracle", "guess"])
    np.testing.assert_allclose(found.classification_error.sel(learner="guess"), 0.5)
    monkeypatch.delitem(sys.modules, "quenched.sim.cli.curve", raising=False)
    monkeypatch.setattr(sys, "argv", ["quenched", "curve", "--learner", "guess", "--share", "0.25", "--sigma", "0.5"])
    with pytest.raises(SystemExit) as end:
        main.main()
    monkeypatch.delitem(sys.modules, "quenched.sim.cli.curve")
    assert not end.value.code
    assert capfd.readouterr().out.split() == ["sigma", "guess", "0.5", "0.5"]


def test_every_learner_has_an_error_on_a_simple_mixture() -> None:
    """The table as a harness: a value between the oracle's and 1/2, with a numerical error, from default options."""
    assert list(learners())[:2] == ["oracle", "two-layer"]
    for name, learner in learners().items():
        options = replace(learner.options, t=1.0, starts=1) if name == "two-layer" else learner.options
        found = error_of(name, Mixture.two_clusters(1.0), options)
        assert ndtr(-1) - 1e-12 <= found.value <= 0.5 + 1e-6
        assert 0 <= found.error < 1e-6
        assert found.method
        assert json.loads(found.provenance["versions"])["quenched"]
        assert learner.sentence.endswith(".")
    with pytest.raises(ValueError, match=r"learner must be one of oracle, .*, got 'svm'"):
        error_of("svm", Mixture.xor(1.0))
    with pytest.raises(ValueError, match="options must be OracleOptions for 'oracle', got KernelOptions"):
        error_of("oracle", Mixture.xor(1.0), KernelOptions())


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failing_job_fails_the_whole(processes: int) -> None:
    with pytest.raises(ValueError, match=r"math domain error|nonnegative"):
        Work(processes).map(math.sqrt, [(1.0,), (-1.0,)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigmas": []}, "sigmas"),
        ({"sigmas": [0.3, -1.0]}, "sigmas must be > 0, got -1"),
        ({"chosen": ["oracle", "perceptron"]}, "learners must be among oracle, two-layer, .*, got .*perceptron"),
        ({"chosen": []}, "learners"),
        ({"chosen": 3}, "learners must be names, or a mapping from names to options, got 3"),
        ({"mixture": "xor"}, "mixture must be a Mixture, got 'xor'"),
        ({"chosen": {"oracle": KernelOptions()}}, "options must be OracleOptions for 'oracle'"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        error_curve(**({"mixture": Mixture.xor(1.0), "sigmas": SIGMAS} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"starts": 0}, "starts must be an integer >= 1, got 0"),
        ({"initial": -1}, "initial must be an integer >= 0, got -1"),
        ({"D": 0}, "D must be an integer >= 1, got 0"),
        ({"rtol": 0}, "rtol must be finite and > 0, got 0"),
    ],
)
def test_bad_options_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TwoLayerOptions(**arguments)


def test_digits_of_the_oracle():
    """XOR at sigma = 1: 2 p (1 - p), p = Phi(-1/sqrt 2)."""
    with mpmath.workdps(40):
        p = mpmath.ncdf(-1 / mpmath.sqrt(2))
        expected = 2 * p * (1 - p)
        result = error_curve(Mixture.xor(1.0), [1.0], {"oracle": OracleOptions(digits=30)})
        assert abs(mpmath.mpf(result.digits.item()) - expected) < 1e-29
