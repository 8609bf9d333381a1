"""Convex learners on features and kernels at n = alpha D: limits, double descent, XOR, thresholds, training sets."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import ndtr

from quenched.numerics import (
    Mixture,
    erm_error,
    kernel_erm_error,
    kernel_error,
    oracle_error,
    random_features_erm_error,
    random_features_error,
)
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.erm import separability_threshold
from quenched.numerics.learners import error_of
from quenched.numerics.random_features_erm import (
    KernelErmOptions,
    RandomFeaturesErmOptions,
    random_features_erm_curve,
)
from quenched.numerics.saddle.proximal import proximal_averages
from quenched.numerics.saddle.solve import RESIDUAL
from quenched.theory import random_features_erm as formulas

TWO = Mixture.two_clusters(1.0)
UNEQUAL = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8])
LOSSES = ["square", "logistic", "hinge", "max(0, 1 - y*phi)**2"]


@pytest.mark.parametrize("mixture", [TWO, UNEQUAL, Mixture.three_clusters(0.7)], ids=["two", "unequal", "three"])
@pytest.mark.parametrize("kernel", ["rbf", "arccos1", "ntk:erf"])
def test_the_square_loss_on_a_kernel_is_kernel_ridge_regression(mixture: Mixture, kernel: str) -> None:
    """Two derivations, by replicas and by resolvents, to rounding; the odd kernel needs the intercept."""
    for ridge in (0.01, 1.0):
        found = kernel_erm_error(mixture, kernel, "square", 2.0, ridge)
        exact = kernel_error(mixture, kernel, 2.0, ridge, intercept=True)
        np.testing.assert_allclose(found.means + found.intercept, exact.mean, rtol=0, atol=1e-12)
        np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-11, atol=0)
        assert found.classification_error == pytest.approx(exact.classification_error, abs=1e-12)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_many_samples_are_the_population_minimum(gamma: float, intercept: bool) -> None:
    """At ridge = alpha lambda/gamma the square loss comes to it with corrections of order 1/alpha."""
    for mixture, activation in ((UNEQUAL, "relu"), (Mixture.three_clusters(0.7), "erf")):
        exact = random_features_error(mixture, activation, gamma, 0.1, intercept=intercept)
        gaps = []
        for alpha in (1e4, 1e5):
            ridge = alpha / gamma * 0.1
            found = random_features_erm_error(mixture, activation, "square", alpha, gamma, ridge, intercept=intercept)
            gaps.append(np.append(found.means + found.intercept - exact.mean, found.variance - exact.variance[0]))
        assert np.abs(gaps[1]).max() < 1e-4
        assert np.abs(gaps[1]).max() == pytest.approx(np.abs(gaps[0]).max() / 10, rel=0.01)


@pytest.mark.parametrize("loss", LOSSES)
def test_many_features_are_a_kernel(loss: str) -> None:
    """relu features have half the arc-cosine kernel of order 1: the same at half its ridge, to order 1/gamma."""
    exact = kernel_erm_error(UNEQUAL, "arccos1", loss, 2.0, 1.0)
    gaps = [
        random_features_erm_error(UNEQUAL, "relu", loss, 2.0, gamma, 0.5).variance - exact.variance
        for gamma in (1e4, 1e5)
    ]
    assert abs(gaps[1]) < 1e-4
    assert gaps[1] == pytest.approx(gaps[0] / 10, rel=0.01)


@pytest.mark.parametrize("loss", LOSSES)
def test_linear_features_of_a_large_number_are_inputs(loss: str) -> None:
    """psi(x) = x with P >> D features: F^T w/sqrt(P) has the norm of w, the linear classifier, to order 1/gamma."""
    exact = erm_error(UNEQUAL, loss, 2.0, 0.5)
    found = random_features_erm_error(UNEQUAL, "linear", loss, 2.0, 1e9, 0.5)
    assert found.variance == pytest.approx(exact.variance, rel=1e-7)
    assert found.classification_error == pytest.approx(exact.classification_error, abs=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_energy_residual_and_gradient(loss: str) -> None:
    """dE/dalpha = E[M], E = alpha (training loss) + ridge gamma |w|^2/(2 P), |w|^2/P = (2/gamma) dE/dridge.

    Central differences at 1e-4 err by 1e-8 of the third derivative, and by rounding, 1e-12/1e-4.  At sigma other than
    1, where no power of it is like another.
    """
    alpha, gamma, ridge, h = 2.0, 1.5, 0.3, 1e-4
    mixture = replace(UNEQUAL, sigma=1.3)
    at = random_features_erm_error(mixture, "relu", loss, alpha, gamma, ridge)
    assert at.residual <= RESIDUAL
    assert at.gradient <= 10 * RESIDUAL * (1 + at.variance)

    def energy(alpha: float, ridge: float) -> float:
        return random_features_erm_error(mixture, "relu", loss, alpha, gamma, ridge).energy

    y, P, s = mixture.labels, mixture.weights, np.sqrt(at.variance)
    envelope = P @ proximal_averages(loss, y, at.susceptibility, at.means + at.intercept, s).envelope
    assert (energy(alpha + h, ridge) - energy(alpha - h, ridge)) / (2 * h) == pytest.approx(envelope, rel=1e-6)
    slope = (energy(alpha, ridge + h) - energy(alpha, ridge - h)) / (2 * h)
    assert at.energy == pytest.approx(alpha * at.training_loss + ridge * slope, rel=1e-6)


def test_double_descent() -> None:
    """The error of the square loss peaks at P = n; as ridge -> 0 the peak is a coin's error, q ~ ridge^-1/2.

    At n = P the conjugate pair solves V^2 ~ 1/ridge: the variance of the output is of that order, so that from ridge to
    ridge/100 it grows tenfold, up to corrections of order ridge^1/2.
    """
    gammas = [0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0, 12.0]
    errors = [random_features_erm_error(TWO, "relu", "square", 2.0, g, 1e-6).classification_error for g in gammas]
    peak = int(np.argmax(errors))
    assert gammas[peak] == 2.0
    assert all(a < b for a, b in pairwise(errors[2 : peak + 1]))
    assert all(a > b for a, b in pairwise(errors[peak:]))
    assert errors[0] > errors[-1]  # the second descent is the deeper one
    heights = [random_features_erm_error(TWO, "relu", "square", 2.0, 2.0, ridge).variance for ridge in (1e-6, 1e-8)]
    assert heights[1] / heights[0] == pytest.approx(10, rel=0.02)
    ridges = [1e-6, 1e-4, 1e-2, 1.0]
    falling = [random_features_erm_error(TWO, "relu", "square", 2.0, 2.0, r).classification_error for r in ridges]
    assert all(a > b for a, b in pairwise(falling))


def test_xor_is_not_learned_with_samples_of_order_D() -> None:
    """1/2 in the limit; at finite D the kernel's error is 1/2 - c/D + O(1/D^2): c from D = 2000 and 4000 to 2 %."""
    xor = Mixture.xor(0.7)
    for loss in ("square", "logistic", "hinge"):
        assert abs(random_features_erm_error(xor, "relu", loss, 3.0, 2.0, 0.1).classification_error - 0.5) < 1e-12
        assert abs(kernel_erm_error(xor, "rbf", loss, 3.0, 0.1).classification_error - 0.5) < 1e-12
    below = [D * (0.5 - kernel_error(xor, "arccos1", 3.0, 0.1, D=D).classification_error) for D in (2000, 4000)]
    assert below[0] == pytest.approx(below[1], rel=0.02)
    assert below[1] > 0.5


def test_the_threshold_of_features() -> None:
    """Separable below alpha*: between that of the inputs, where there are few features, and n = 2 P at least."""
    few = pytest.raises(ValueError, match="below the separability threshold of 3 D features, alpha")
    with few as refused:
        random_features_erm_error(TWO, "relu", "logistic", 4.0, 3.0, 0.0)
    threshold = float(re.search(r"alpha\* = ([\d.]+)", str(refused.value))[1])
    assert separability_threshold(TWO) < threshold
    assert threshold > 2 * 3.0  # labels without a mean: Cover's 2 P
    below, above = (
        random_features_erm_error(TWO, "relu", "logistic", threshold * f, 3.0, 1e-7).training_error
        for f in (0.93, 1.07)
    )
    assert below < 1e-3 < above
    exact = random_features_erm_error(TWO, "relu", "logistic", threshold * 1.1, 3.0, 0.0)
    nearly = random_features_erm_error(TWO, "relu", "logistic", threshold * 1.1, 3.0, 1e-7)
    assert exact.classification_error == pytest.approx(nearly.classification_error, abs=1e-5)


@pytest.mark.parametrize("ratio", [0.3, 3.0])
def test_features_separate_by_their_resolvent_without_a_ridge(ratio: float) -> None:
    """t = T/(1 + T) with T = linear Vh Y, which no Vh changes at ridge 0; on both sides of the form's two branches."""
    linear, higher = 0.6, 0.1
    for Vh in (0.5, 2.0):
        T = linear * Vh * formulas.resolvent(Vh, (0.0, linear, higher, ratio))
        assert formulas.separable_share(linear, higher, ratio) == pytest.approx(T / (1 + T), rel=1e-13)


def test_nothing_beats_the_oracle_and_curves_are_points() -> None:
    for mixture in (UNEQUAL, Mixture.three_clusters(0.7)):
        least = oracle_error(mixture).value
        alphas = [0.5, 2.0, 8.0]
        for loss in ("square", "hinge"):
            curve = random_features_erm_curve(mixture, "relu", loss, alphas, 2.0, 0.1)
            for alpha, found in zip(alphas, curve, strict=True):
                alone = random_features_erm_error(mixture, "relu", loss, alpha, 2.0, 0.1)
                assert found.classification_error == pytest.approx(alone.classification_error, abs=1e-9)
                assert found.classification_error > least


@pytest.mark.parametrize(
    ("loss", "activation"), [("square", "relu"), ("logistic", "relu"), ("(1 - y*phi)**4/4", "erf")]
)
def test_trained_features(loss: str, activation: str) -> None:
    """The minimiser itself on 8 sets of features and samples at D = 160: means within 4 standard errors + 4/D.

    Output means and variances of a cluster come from 4000 fresh inputs, in each set with an error of 1/sqrt(4000) of
    the standard deviation.
    """
    D, alpha, gamma, ridge, seeds, fresh = 160, 2.0, 1.5, 0.2, 8, 4000
    value, slope, _ = loss_functions(loss)
    theory = random_features_erm_error(UNEQUAL, activation, loss, alpha, gamma, ridge)
    n, P = int(alpha * D), int(gamma * D)
    psi = {"relu": lambda x: np.maximum(x, 0), "erf": lambda x: 2 * ndtr(x) - 1}[activation]
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        F = generator.standard_normal((P, D))
        F /= np.linalg.norm(F, axis=1)[:, None]

        def inputs(y: np.ndarray, generator: np.random.Generator = generator, F: np.ndarray = F) -> np.ndarray:
            X = generator.standard_normal((len(y), D))
            X[:, 0] += y
            return psi(X @ F.T) / np.sqrt(P)

        y = np.where(generator.random(n) < 0.2, 1.0, -1.0)
        Z = inputs(y)

        def objective(x: np.ndarray, Z: np.ndarray = Z, y: np.ndarray = y) -> tuple[float, np.ndarray]:
            h = Z @ x[:-1] + x[-1]
            push = slope(h, y)
            gradient = np.append(Z.T @ push + ridge * x[:-1], push.sum())
            return float(value(h, y).sum() + ridge * x[:-1] @ x[:-1] / 2), gradient

        best = minimize(
            objective, np.zeros(P + 1), jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "maxiter": 2000}
        )
        outputs = [inputs(np.full(fresh, label)) @ best.x[:-1] + best.x[-1] for label in (1.0, -1.0)]
        moments = [*(h.mean() for h in outputs), np.mean([h.var() for h in outputs])]
        trained = Z @ best.x[:-1] + best.x[-1]
        wrong = 0.2 * (outputs[0] < 0).mean() + 0.8 * (outputs[1] > 0).mean()
        found.append([*moments, wrong, value(trained, y).mean(), (y * trained < 0).mean()])
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(seeds)
    predicted = [*(theory.means + theory.intercept), theory.variance, theory.classification_error]
    predicted += [theory.training_loss, theory.training_error]
    assert (np.abs(mean - predicted) <= 4 * spread + 4 / D * np.abs(predicted)).all(), (mean, predicted, spread)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.0}, "gamma must be .* got 0"),
        ({"alpha": -1.0}, "alpha must be .* got -1"),
        ({"ridge": -1.0}, "ridge must be .* got -1"),
        ({"loss": "tanh(-y*phi)"}, "loss must be convex"),
        ({"activation": "2"}, "activation"),
        ({"loss": "square", "ridge": 0.0, "alpha": 1.0}, "ridge must be > 0 for 2 D features where n <= P"),
        ({"activation": "linear", "ridge": 0.0}, "ridge must be > 0 for 2 D features without orders beyond the first"),
        ({"mixture": Mixture.two_clusters(1.0, scaling=0.25)}, "mixture must have means of order 1"),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0])}, "mixture must have one covariance"),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, 1])}, "mixture must have both labels"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_features_erm_error(**({"mixture": TWO, "activation": "relu", "gamma": 2.0} | arguments))


def test_a_kernel_without_a_ridge_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ridge must be > 0 .*kernel 'rbf'"):
        kernel_erm_error(TWO, "rbf", "hinge", 2.0, 0.0)


def test_both_are_learners() -> None:
    options = RandomFeaturesErmOptions("hinge", 3.0, 0.2, True, "erf", 1.5)
    found = error_of("random-features-erm", UNEQUAL, options)
    exact = random_features_erm_error(UNEQUAL, "erf", "hinge", 3.0, 1.5, 0.2, intercept=False)
    assert found.value == exact.classification_error
    machine = error_of("kernel-erm", UNEQUAL, KernelErmOptions(loss="hinge", kernel="rbf"))
    assert machine.value == kernel_erm_error(UNEQUAL, "rbf", "hinge").classification_error
