"""Linear classifiers at n = alpha D samples: published numbers, closed cases, the energy, separability, real data."""

import csv
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import ndtr

from quenched.numerics import Mixture, Spectrum, bayes_error, erm_error
from quenched.numerics.averages.losses import compiled_loss, compiled_value, kinks, loss_functions
from quenched.numerics.erm import ErmOptions, erm_curve, optimal_ridge, separability_threshold
from quenched.numerics.learners import error_of
from quenched.numerics.saddle import proximal
from quenched.numerics.saddle.proximal import proximal_averages, proximal_move
from quenched.numerics.saddle.solve import RESIDUAL

pytestmark = pytest.mark.usefixtures("derived_here")

REFERENCE = Path(os.environ["QUENCHED_REFDATA"], "gaussmix_k2")
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published data of QUENCHED_REFDATA are absent")
UNEQUAL = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8])
HINGE = "max(0, 1 - y*phi)"
FILES = {
    "logistic": ("logistic_l2_rho=1_delta1=0.5_delta2=0.1_lamb=0.01_prob=0.5.csv", None),
    "square": ("ridge_rho=0.5_delta1=0.1_delta2=0.5_lamb=0.01_prob=0.5.csv", Spectrum([0.1, 0.5])),
}


@needs_reference
@pytest.mark.parametrize("loss", FILES)
def test_published_saddle_points(loss: str) -> None:
    """All rows; the files are iterated to about 1e-9, so that 1e-8 relative is theirs."""
    name, spectrum = FILES[loss]
    with (REFERENCE / name).open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sigma = np.sqrt(0.5) if spectrum is None else 1.0
    mixture = Mixture([[1.0], [-1.0]], [1, -1], sigma=sigma, spectrum=spectrum)
    alphas = [float(row["sample_complexity"]) for row in rows]
    for row, found in zip(rows, erm_curve(mixture, loss, alphas, 0.01), strict=True):
        here = [found.susceptibility, found.variance, found.means[0], found.classification_error, found.training_loss]
        there = [float(row[key]) for key in ("V", "q", "m", "test_error", "train_loss")]
        np.testing.assert_allclose(here, there, rtol=1e-8)
        assert abs(found.intercept) < 1e-12  # equal weights
        assert found.residual <= RESIDUAL


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_a_large_ridge_is_bayes_optimal_on_two_equal_clusters(loss: str, alpha: float) -> None:
    """Weights along the average of y x: q_Bayes = alpha/(alpha + sigma^2).  Corrections are of order alpha/ridge."""
    found = erm_error(Mixture.two_clusters(0.8), loss, alpha, 1e9)
    assert found.classification_error == pytest.approx(ndtr(-np.sqrt(alpha / (alpha + 0.64)) / 0.8), abs=1e-8)


def test_no_learner_beats_the_bayes_optimal_one() -> None:
    for mixture in (Mixture.two_clusters(0.8), UNEQUAL, Mixture.three_clusters(0.8)):
        least = bayes_error(mixture, 3.0).classification_error
        for loss in ("square", "logistic", "hinge"):
            assert all(
                erm_error(mixture, loss, 3.0, ridge).classification_error >= least for ridge in (0.01, 1.0, 30.0)
            )


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge", "(phi - y)**2/2 + log(1 + exp(-y*phi))"])
@pytest.mark.parametrize("mixture", [UNEQUAL, Mixture.three_clusters(0.7)], ids=["two", "three"])
def test_the_energy_is_stationary_and_its_slopes_are_what_they_are_called(loss: str, mixture: Mixture) -> None:
    """dE/dalpha at fixed n = E[M] and dE/dridge = |w|^2/2: the minimum of the objective, by its envelope theorem.

    E(alpha) grows by the leave-one-out cost of a sample, E[M].  Central differences at step h have an error of
    order h^2, and rounding 1e-12/h: 1e-8 of both at h = 1e-4.
    """
    alpha, ridge, h = 2.0, 0.5, 1e-4
    at = erm_error(mixture, loss, alpha, ridge)
    y, P, s = mixture.labels, mixture.weights, np.sqrt(at.variance)
    envelope = P @ proximal_averages(loss, y, at.susceptibility, at.means + at.intercept, s).envelope
    slope = (erm_error(mixture, loss, alpha + h, ridge).energy - erm_error(mixture, loss, alpha - h, ridge).energy) / (
        2 * h
    )
    assert slope == pytest.approx(envelope, rel=1e-7)
    energies = [erm_error(mixture, loss, alpha, ridge + step).energy for step in (h, -h)]
    norm = at.variance / mixture.isotropic_sigma**2
    assert (energies[0] - energies[1]) / (2 * h) == pytest.approx(norm / 2, rel=1e-6)
    assert at.energy == pytest.approx(alpha * at.training_loss + ridge * norm / 2, rel=1e-10)


def test_closed_and_integrated_averages_agree() -> None:
    """The hinge loss written as an expression goes through the adaptive integral, to 2e-12 in each average."""
    for alpha, ridge in ((2.0, 1.0), (5.0, 0.0), (0.3, 0.01)):
        closed, integrated = (erm_error(UNEQUAL, loss, alpha, ridge) for loss in ("hinge", HINGE))
        both = closed.classification_error_error + integrated.classification_error_error
        assert abs(closed.classification_error - integrated.classification_error) <= both < 1e-8
        assert closed.training_error == pytest.approx(integrated.training_error, abs=1e-9)


def test_a_panel_that_does_not_settle_counts_as_error() -> None:
    """At V = 1e-12 the hinge's f falls from 1 to 0 within a width that 38 halvings do not reach, its place withheld.

    What the halves of that last panel differ by bounds how far the average is from the one that knows the place:
    4.3e-15, beside 5.6e-17 beyond the reach of the panels.
    """
    averages = partial(proximal._averages, compiled_loss("hinge"), compiled_value("hinge"))
    told, withheld = (
        averages(places, (1.0, 1e-12, 0.3, 1.0, np.inf, 0.0), proximal._RULE, 1e-15)
        for places in (kinks("hinge", 1.0), np.empty((0, 3)))
    )
    assert told[4] < 1e-16
    assert 1e-15 < withheld[4] < 1e-14
    assert abs(withheld[0] - told[0]) <= withheld[4] * told[0]


@pytest.mark.parametrize("loss", ["logistic", HINGE, "(1 - y*phi)**4/4"])
@pytest.mark.parametrize("V", [1e-3, 1.0, 50.0, 1e4])
def test_the_proximal_operator_minimises(loss: str, V: float) -> None:
    """Newton's method alone cycles for the logistic loss at V > 10."""
    value, _, _ = loss_functions(loss)
    for w in (-30.0, -1.0, 0.3, 20.0):
        f = proximal_move(loss, 1.0, V, w)

        def cost(h: float, w: float = w) -> float:
            return float((h - w) ** 2 / (2 * V) + value(h, 1.0))

        h = w + V * f
        least = cost(h)
        for step in (1e-3, 1e-5):  # strongly convex: cost(h ± d) - cost(h) >= d^2/(2V), but for rounding
            assert (
                min(cost(h + step), cost(h - step)) >= least + step**2 / (2 * V) - 4e-16 * (abs(least) + w * w / V) * 4
            )


def test_separability_thresholds() -> None:
    """Two clusters, numbers of the theory brief to their digits; XOR and labels without a mean: 2, as Cover found."""
    assert separability_threshold(Mixture.two_clusters(1.0)) == pytest.approx(3.70003, abs=6e-6)
    assert separability_threshold(Mixture.two_clusters(0.7)) == pytest.approx(6.82213, abs=6e-6)
    assert separability_threshold(UNEQUAL) == pytest.approx(4.84904, abs=6e-6)
    assert separability_threshold(Mixture.xor(0.5)) == pytest.approx(2, abs=1e-9)
    # Mahalanobis distance: eigenvalue 1/4 in half of the directions, 1 in the others: 1/rho is 2.5 on average
    spread = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.25, 1.0]))
    assert separability_threshold(spread) == pytest.approx(
        separability_threshold(Mixture.two_clusters(1 / np.sqrt(2.5))), rel=1e-9
    )


@pytest.mark.parametrize("loss", ["logistic", "hinge"])
def test_the_norm_diverges_below_the_threshold_alone(loss: str) -> None:
    """At ridge -> 0 the training error is 0 below alpha*, and q is finite above."""
    below, above = (erm_error(Mixture.two_clusters(1.0), loss, alpha, 1e-6) for alpha in (3.4, 4.0))
    assert below.training_error < 1e-3 < above.training_error
    exact = erm_error(Mixture.two_clusters(1.0), loss, 4.0, 0.0)
    assert above.variance == pytest.approx(exact.variance, rel=1e-2)


def test_xor_is_not_linear() -> None:
    for loss in ("square", "logistic", "hinge"):
        found = erm_error(Mixture.xor(0.5), loss, 3.0, 0.1)
        assert abs(found.classification_error - 0.5) < 1e-12
        assert np.abs(found.means).max() < 1e-12


def test_without_an_intercept_equal_weights_lose_nothing() -> None:
    equal = [erm_error(Mixture.two_clusters(1.0), "logistic", 2.0, 0.3, intercept=each) for each in (True, False)]
    assert equal[0].classification_error == pytest.approx(equal[1].classification_error, abs=1e-12)
    without = erm_error(UNEQUAL, "logistic", 2.0, 0.3, intercept=False)
    assert abs(without.intercept) < 1e-15  # a step of Newton's method from b to b - b
    assert without.classification_error > erm_error(UNEQUAL, "logistic", 2.0, 0.3).classification_error


def test_the_best_ridge_is_a_minimum() -> None:
    mixture = replace(UNEQUAL, sigma=0.5)  # a ridge of 0.26: near 1 its powers are alike
    found = optimal_ridge(mixture, "square", 2.0)
    ridge = found.problem["ridge"]
    for factor in (0.9, 1.1):
        assert erm_error(mixture, "square", 2.0, ridge * factor).classification_error > found.classification_error


@pytest.mark.parametrize("loss", ["square", "logistic"])
def test_trained_classifiers(loss: str) -> None:
    """The minimiser itself on 12 training sets of D = 200, weights 0.2/0.8: means within 4 standard errors + 3/D."""
    D, alpha, ridge, seeds = 200, 2.0, 0.5, 12
    value, slope, _ = loss_functions(loss)
    theory = erm_error(UNEQUAL, loss, alpha, ridge)
    n = int(alpha * D)
    found = []
    for seed in range(seeds):
        generator = np.random.default_rng(seed)
        y = np.where(generator.random(n) < 0.2, 1.0, -1.0)
        X = generator.standard_normal((n, D))
        X[:, 0] += y  # the mean, of length 1
        X /= np.sqrt(D)

        def objective(x: np.ndarray, X: np.ndarray = X, y: np.ndarray = y) -> tuple[float, np.ndarray]:
            h = X @ x[:-1] + x[-1]
            push = slope(h, y)
            gradient = np.append(X.T @ push + ridge * x[:-1], push.sum())
            return float(value(h, y).sum() + ridge * x[:-1] @ x[:-1] / 2), gradient

        best = minimize(
            objective, np.zeros(D + 1), jac=True, method="L-BFGS-B", options={"ftol": 1e-14, "maxiter": 500}
        )
        w, b = best.x[:-1] / np.sqrt(D), best.x[-1]
        length = np.linalg.norm(w)
        error = 0.2 * ndtr(-(w[0] + b) / length) + 0.8 * ndtr(-(w[0] - b) / length)
        found.append([w[0], length**2, b, error, value(X @ best.x[:-1] + b, y).mean()])
    mean, spread = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(seeds)
    predicted = [theory.means[0], theory.variance, theory.intercept, theory.classification_error, theory.training_loss]
    assert (np.abs(mean - predicted) <= 4 * spread + 3 / D * np.abs(predicted)).all(), (mean, predicted, spread)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must be .* got 0"),
        ({"alpha": 2.0, "ridge": -1.0}, "ridge must be .* got -1"),
        ({"alpha": 3.0, "ridge": 0.0}, "ridge must be > 0 below the separability threshold alpha. = 3.70003"),
        ({"alpha": 0.7, "ridge": 0.0, "loss": "square"}, "ridge must be > 0 at alpha <= 1.* got 0 at 0.7"),
        ({"loss": "tanh(-y*phi)"}, "loss must be convex in phi, got .* whose slope falls at phi"),
        ({"loss": "nonsense"}, "loss"),
        ({"mixture": Mixture.two_clusters(1.0, scaling=0.5)}, "mixture must have means of order 1"),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0])}, "mixture must have one covariance"),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, 1])}, "mixture must have both labels, got only 1"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        erm_error(**({"mixture": Mixture.two_clusters(1.0)} | arguments))


def test_the_refusal_tells_the_threshold_of_the_mixture() -> None:
    with pytest.raises(ValueError, match=re.escape("alpha* = 4.84904")):
        erm_error(UNEQUAL, "hinge", 4.0, 0.0)


def test_both_are_learners() -> None:
    """By name and with options, as `quenched curve` asks for them."""
    options = ErmOptions(loss="hinge", alpha=3.0, ridge=0.2, without_intercept=True)
    found = error_of("erm", UNEQUAL, options)
    assert found.value == erm_error(UNEQUAL, "hinge", 3.0, 0.2, intercept=False).classification_error
    assert error_of("bayes", UNEQUAL).value == bayes_error(UNEQUAL, 2.0).classification_error


@needs_reference
@pytest.mark.parametrize("loss", FILES)
def test_published_simulations(loss: str) -> None:
    """Mean and spread of 10 seeds at D = 500: z-scores of error, q, m, b, and of the loss for the square loss.

    INDEX says that the training loss of the logistic runs is not usable.  50 or 40 z-scores of Student's t of 9 degrees
    of freedom have an rms of 1.13; 1.5 is exceeded with a probability below 1e-3.
    """
    name, spectrum = FILES[loss]
    with (REFERENCE / f"sim_{name}").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    mixture = Mixture([[1.0], [-1.0]], [1, -1], sigma=np.sqrt(0.5) if spectrum is None else 1.0, spectrum=spectrum)
    alphas = [float(row["samples"]) / 500 for row in rows]
    scores = []
    for row, found in zip(rows, erm_curve(mixture, loss, alphas, 0.01), strict=True):
        here = {"test_error": found.classification_error, "q": found.variance, "m": found.means[0], "b": 0.0}
        if loss == "square":
            here["train_loss"] = found.training_loss
        scores += [(float(row[key]) - value) / (float(row[f"{key}_std"]) / np.sqrt(10)) for key, value in here.items()]
    assert np.sqrt(np.mean(np.square(scores))) < 1.5
    assert np.abs(scores).max() < 4.3


def test_an_intercept_at_rest_on_a_kink() -> None:
    """Hinge loss, unequal weights, a large ridge: b is at a kink of the loss, and the saddle point is found there too.

    As ridge -> infinity w -> 0 and the intercept is the median label: b -> -1 with the majority of 0.8, error 0.2.
    """
    found = [erm_error(UNEQUAL, loss, 2.0, ridge) for loss in ("hinge", HINGE) for ridge in (1e2, 1e4)]
    for each in found:
        assert each.residual <= RESIDUAL
        assert each.gradient <= RESIDUAL
        assert each.classification_error == pytest.approx(0.2, abs=1e-6)
    assert found[0].intercept == pytest.approx(found[2].intercept, abs=1e-9)
    assert abs(found[1].intercept + 1) < 0.1 * abs(found[0].intercept + 1)


@pytest.mark.parametrize("sigma", [0.2, 0.15])
def test_the_threshold_of_well_separated_clusters(sigma: float) -> None:
    """1/alpha* = min over t of E[max(0, sqrt(1 + t^2) xi - t/sigma)^2], by mpmath along the mean: 1e-6, of a minimum.

    The slope of the logarithm that is left, 1e-6, moves the value by its square; the curvature is of order 1.
    """
    import mpmath

    def shortfall(t: mpmath.mpf) -> mpmath.mpf:
        h = t / mpmath.mpf(sigma) / mpmath.sqrt(1 + t * t)
        density = mpmath.exp(-h * h / 2) / mpmath.sqrt(2 * mpmath.pi)
        return (1 + t * t) * ((1 + h * h) * mpmath.erfc(h / mpmath.sqrt(2)) / 2 - h * density)

    with mpmath.workdps(40):
        t = mpmath.findroot(lambda x: mpmath.diff(lambda u: mpmath.log(shortfall(u)), x), mpmath.mpf(1) / sigma)
        exact = float(1 / shortfall(t))
    assert separability_threshold(Mixture.two_clusters(sigma)) == pytest.approx(exact, rel=1e-6)
