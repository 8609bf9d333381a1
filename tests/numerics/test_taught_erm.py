"""Convex learners that learn from a teacher at n = alpha D: published formulas and numbers, limits, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from quenched.numerics import (
    Mixture,
    Spectrum,
    Teacher,
    erm_error,
    kernel_erm_error,
    kernel_error,
    random_features_erm_error,
    random_features_error,
)
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.lazy.taught import label_moments
from quenched.numerics.learners import error_of
from quenched.numerics.random_features_erm import FeatureWeights, RandomFeaturesErmOptions
from quenched.numerics.saddle.empirical_risk import Equations, minimiser
from quenched.numerics.saddle.labels import labels_of
from quenched.numerics.saddle.solve import RESIDUAL

pytestmark = pytest.mark.usefixtures("derived_here")

WEIGHTS = np.array([[1.0, 0.5, 0.0], [-0.3, 0.8, 0.6]])
MEANS = np.array([[0.6, 0.0, 0.2], [-0.5, 0.4, 0.0]])
UNEQUAL = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8])


def taught(activation: str, **options: object) -> Mixture:
    options = {"v": [1.0, -0.6]} | options
    return Mixture(MEANS, weights=[0.4, 0.6], sigma=0.8, teacher=Teacher(WEIGHTS, activation=activation, **options))


SIGN = taught("linear", sign=True, field_noise=0.3)
ONE = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "linear", sign=True))
KINDS = {
    "relu": taught("relu", field_noise=0.4),
    "erf": taught("erf"),
    "signs": taught("linear", v=[[1.0, -0.6], [0.0, 1.0]], sign=True, field_noise=0.3),
}


# --- known formulas


def mei_montanari(zeta: float, psi: tuple[float, float], ridge: float) -> tuple[float, float]:
    """B and V of Mei and Montanari (2022, Definition 1): zeta = k_1/k_*, psi = (P/D, n/D), ridge over k_*^2.

    nu_1, nu_2 at i sqrt(psi_1 psi_2 ridge) by iteration from far up the imaginary axis, where they are small.
    """
    p1, p2 = psi
    end, z = 1j * np.sqrt(p1 * p2 * ridge), zeta**2
    a = b = 1j
    for xi in np.geomspace(1e3, 1, 60) * end:
        for _ in range(2000):
            before = a, b
            a = p1 / (-xi - b - z * b / (1 - z * a * b))
            b = p2 / (-xi - a - z * a / (1 - z * a * b))
            if abs(a - before[0]) + abs(b - before[1]) < 1e-15 * abs(a):
                break
    c = (a * b).real
    E0 = -(c**5) * z**3 + 3 * c**4 * z**2 + (p1 * p2 - p2 - p1 + 1) * c**3 * z**3 - 2 * c**3 * z**2 - 3 * c**3 * z
    E0 += (p1 + p2 - 3 * p1 * p2 + 1) * c**2 * z**2 + 2 * c**2 * z + c**2 + 3 * p1 * p2 * c * z - p1 * p2
    E1 = p2 * c**3 * z**2 - p2 * c**2 * z + p1 * p2 * c * z - p1 * p2
    E2 = c**5 * z**3 - 3 * c**4 * z**2 + (p1 - 1) * c**3 * z**3 + 2 * c**3 * z**2 + 3 * c**3 * z
    E2 += (-p1 - 1) * c**2 * z**2 - 2 * c**2 * z - c**2
    return E1 / E0, E2 / E0


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize(("alpha", "gamma", "ridge", "noise"), [(2.0, 1.5, 0.3, 0.0), (0.7, 3.0, 0.05, 0.5)])
def test_the_square_loss_is_the_formula_of_mei_and_montanari(
    activation: str, alpha: float, gamma: float, ridge: float, noise: float
) -> None:
    """E[(y - w)^2] = F_1^2 B + (F_*^2 + noise^2) V + F_*^2: F_1 of the linear part, F_*^2 of the rest of the label.

    Their ridge is ours over alpha.  Two neurons: F_1^2 = |v_1 c_1 w*_1 + v_2 c_2 w*_2|^2.
    """
    mixture = Mixture([[0.0, 0.0]], teacher=Teacher([[1.0, 0.0], [0.3, 0.4]], [1.0, -0.6], "erf"))
    moments, (c, higher, *_) = label_moments(mixture), hermite_orders(activation, 0.0, 1.0, orders=1)
    # erf: c_1 = E[g'(nu)] = sqrt(2/(pi (1 + |w*|^2)))
    vector = np.sqrt(2 / np.pi) * (np.array([1.0, 0.0]) / np.sqrt(2) - 0.6 * np.array([0.3, 0.4]) / np.sqrt(1.25))
    np.testing.assert_allclose(moments.slope[0], vector, rtol=1e-13)
    B, V = mei_montanari(c[1] / np.sqrt(higher), (gamma, alpha), ridge / alpha / higher)
    rest = float(moments.rest[0])
    want = vector @ vector * B + (noise**2 + rest) * V + rest
    found = random_features_erm_error(mixture, activation, "square", alpha, gamma, ridge, label_noise=noise)
    assert 2 * found.pmse == pytest.approx(want, rel=1e-11)
    assert found.pmse_error < 1e-8


@pytest.mark.parametrize("alpha", [1.5, 4.0])
def test_many_linear_features_are_linear_ridge_regression(alpha: float) -> None:
    """Least squares with the noise s^2 of what is not linear: E[(y - w)^2] = s^2 alpha/(alpha - 1) (Hastie and others).

    With P = 10^9 D linear features, to order 1/gamma, at a ridge in place of 0.
    """
    mixture = Mixture(np.zeros((1, 3)), sigma=1.2, teacher=Teacher(WEIGHTS, [1.0, -0.6], "erf"))
    noise = float(label_moments(mixture).rest[0])
    plain = erm_error(mixture, "square", alpha, 0.0, intercept=False)
    assert 2 * plain.pmse == pytest.approx(noise * alpha / (alpha - 1), rel=1e-10)
    exact = erm_error(mixture, "square", alpha, 0.3)
    features = random_features_erm_error(mixture, "linear", "square", alpha, 1e9, 0.3)
    assert features.pmse == pytest.approx(exact.pmse, rel=1e-8)


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_a_large_ridge_is_the_hebb_rule(loss: str, alpha: float) -> None:
    """w ~ sum_i y_i x_i: the overlap with a sign teacher is R = 1/sqrt(1 + pi/(2 alpha)), the error arccos(R)/pi."""
    found = erm_error(ONE, loss, alpha, 1e8, intercept=False)
    assert found.classification_error == pytest.approx(
        np.arccos(1 / np.sqrt(1 + np.pi / (2 * alpha))) / np.pi, abs=1e-7
    )


# --- published numbers


@pytest.mark.parametrize(
    ("ratio", "numbers"),
    [
        (0.5, (19.707514188806073, 7.065105654773178, 0.37674374931623256, 0.1034648055649939)),
        (1.5, (6.542729805874579, 9.376276166367026, 0.31170263033919937, 0.1992515839721496)),
    ],
)
def test_published_saddle_points_of_the_logistic_loss(ratio: float, numbers: tuple[float, ...]) -> None:
    """V, q, test error, training loss: IdePHICS/GCMProject (Loureiro and others 2021), code/testing.csv at 2ad0a79.

    erf(x) features, D = 1000, P = 2000, ridge 0.01; the teacher is the sign of a readout of 1000 sign features, so of
    a field of variance 2/pi and noise of variance 1 - 2/pi.  Their saddle point is that of one drawn pair of feature
    matrices, whose traces are off by 1/D: 2e-3.
    """
    field = Teacher([[np.sqrt(2 / np.pi)]], [1.0], "linear", sign=True, field_noise=np.sqrt(1 - 2 / np.pi))
    mixture = Mixture([[0.0]], teacher=field)
    found = random_features_erm_error(mixture, "erf(x)", "logistic", 2 * ratio, 2.0, 0.01, intercept=False)
    here = [found.susceptibility, found.variance, found.classification_error, found.training_loss]
    np.testing.assert_allclose(here, numbers, rtol=2e-3)


def test_published_errors_of_random_features() -> None:
    """Test errors of elu features on a sign teacher, D = 30, n = 400, P = 10 to 251: MauroPastore/RandomFeatures,
    data/linearTeacherP400.csv at a115af1 (Aguirre-Lopez, Franz, Pastore 2024), 300 runs each, ridge 1e-4.

    Standard errors are below 0.003 = 0.09/D.  Features there have free lengths |f|^2 = D (1 ± sqrt(2/D)), and n is
    close to D^2/2, where order two is learned: 0.35/D.  The descent, its minimum at P = 63 and the rise towards P = n
    are as published.  Their averages by quadrature: to derive those of elu takes minutes.
    """
    x, weights = np.polynomial.hermite_e.hermegauss(200)
    elu, weights = np.where(x > 0, x, np.expm1(np.minimum(x, 0))), weights / weights.sum()
    linear = (weights @ (x * elu)) ** 2
    higher = weights @ elu**2 - (weights @ elu) ** 2 - linear
    published = {10: 0.32960832, 19: 0.2481, 31: 0.17154168, 63: 0.12305, 125: 0.1542, 251: 0.24514166}
    for P, error in published.items():
        features = FeatureWeights(1e-4, float(linear), float(higher), 30 / P, 1.0)
        equations = Equations(ONE, labels_of(ONE, "square"), "square", 400 / 30, features, True)
        found, _ = minimiser(equations, None, {})
        assert found.classification_error == pytest.approx(error, abs=0.35 / 30), P


# --- limits that the package has


@pytest.mark.parametrize("kind", KINDS)
def test_the_square_loss_on_a_kernel_is_kernel_ridge_regression(kind: str) -> None:
    """Replicas and resolvents, to rounding.  Classification errors: to what is sampled there."""
    found = kernel_erm_error(KINDS[kind], "rbf", "square", 2.0, 0.3)
    exact = kernel_error(KINDS[kind], "rbf", 2.0, 0.3, intercept=True)
    assert found.pmse == pytest.approx(exact.pmse, abs=1e-12)
    np.testing.assert_allclose(found.means + found.intercept, exact.mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.variance, exact.variance, rtol=1e-11)
    gap = abs(found.classification_error - exact.classification_error)
    assert gap < 5 * (exact.classification_error_error + found.classification_error_error)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["relu", "signs"])
def test_many_samples_are_the_population_minimum(kind: str, intercept: bool) -> None:
    """At ridge = alpha lambda/gamma, with corrections of order 1/alpha."""
    exact = random_features_error(KINDS[kind], "relu", 2.0, 0.1, intercept=intercept)
    gaps = []
    for alpha in (1e4, 1e5):
        found = random_features_erm_error(
            KINDS[kind], "relu", "square", alpha, 2.0, alpha / 2 * 0.1, intercept=intercept
        )
        gaps.append([found.pmse - exact.pmse, *(found.means + found.intercept - exact.mean)])
    assert np.abs(gaps[1]).max() < 1e-4
    assert gaps[1][0] == pytest.approx(gaps[0][0] / 10, rel=0.01)


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge", "max(0, 1 - y*phi)**2"])
def test_a_teacher_that_agrees_with_the_clusters_is_their_labels(loss: str) -> None:
    """sign(x_1) at means ±1 and sigma 0.1: the label is that of the cluster but for 8e-24 of the samples."""
    plain = replace(UNEQUAL, sigma=0.1)
    teacher = Teacher([[1.0]], [1.0], "linear", sign=True)
    other = Mixture(plain.means, weights=plain.weights, sigma=0.1, teacher=teacher)
    exact, found = (random_features_erm_error(mixture, "relu", loss, 2.0, 1.5, 0.05) for mixture in (plain, other))
    for name in ("pmse", "training_loss", "energy", "variance", "susceptibility", "intercept"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), rel=1e-9), name
    for name in ("classification_error", "training_error"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), abs=1e-12), name


@pytest.mark.parametrize("activation", ["he2", "abs"])
def test_features_without_a_linear_part_learn_nothing(activation: str) -> None:
    """k_1 = 0: the output is noise, the sign a coin's, and pmse = (E[y^2] + q)/2."""
    for loss in ("square", "logistic"):
        found = random_features_erm_error(ONE, activation, loss, 2.0, 1.5, 0.2, intercept=False)
        assert np.abs(found.direction).max() < 1e-12
        assert found.classification_error == pytest.approx(0.5, abs=1e-12)
        assert found.pmse == pytest.approx((1 + found.variance) / 2, rel=1e-12)


def test_a_teacher_without_a_linear_part_is_noise() -> None:
    """An even teacher on centred inputs is label noise of its variance: as a constant label with that noise."""
    mixture = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "he2"))
    found = random_features_erm_error(mixture, "relu", "square", 2.0, 1.5, 0.2)
    assert abs(found.direction[0]) < 1e-13
    spread = float(np.sqrt(label_moments(mixture).square[0]))
    noisy = Mixture([[0.0]], teacher=Teacher([[1e-9]], [1.0], "linear", field_noise=spread))
    other = random_features_erm_error(noisy, "relu", "square", 2.0, 1.5, 0.2)
    assert found.pmse == pytest.approx(other.pmse, rel=1e-12)


def test_label_noise_is_noise_of_a_linear_field() -> None:
    """y = nu + 0.5 N(0, 1) twice, once in training alone: the pmse of the other has 0.5^2/2 more."""
    noisy, plain = (Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "linear", field_noise=s)) for s in (0.5, 0.0))
    found = random_features_erm_error(plain, "relu", "square", 2.0, 1.5, 0.2, label_noise=0.5)
    other = random_features_erm_error(noisy, "relu", "square", 2.0, 1.5, 0.2)
    assert found.variance == pytest.approx(other.variance, rel=1e-13)
    assert found.training_loss == pytest.approx(other.training_loss, rel=1e-13)
    assert other.pmse - found.pmse == pytest.approx(0.125, rel=1e-12)


def test_several_means_with_the_square_loss() -> None:
    """Three means in the plane, labels by cluster: weights along both coordinates as in kernel regression."""
    mixture = Mixture([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], [1, -1, -1], sigma=0.8)
    found, exact = (
        kernel_erm_error(mixture, "rbf", "square", 2.0, 0.2),
        kernel_error(mixture, "rbf", 2.0, 0.2, intercept=True),
    )
    np.testing.assert_allclose(found.means + found.intercept, exact.mean, rtol=0, atol=1e-12)
    assert found.residual <= RESIDUAL
    assert random_features_erm_error(mixture, "relu", "square", 2.0, 1.5, 0.2).residual <= RESIDUAL


# --- the potential


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
def test_energy_residual_and_gradient(loss: str) -> None:
    """E = alpha (training loss) + ridge dE/dridge and dE/dalpha = E[M], by central differences at 1e-4 (1e-8)."""
    alpha, ridge, h = 2.0, 0.3, 1e-4
    at = random_features_erm_error(SIGN, "relu", loss, alpha, 1.5, ridge)
    assert at.residual <= RESIDUAL
    assert at.gradient <= 10 * RESIDUAL * (1 + at.variance)

    def energy(alpha: float, ridge: float) -> float:
        return random_features_erm_error(SIGN, "relu", loss, alpha, 1.5, ridge).energy

    slope = (energy(alpha, ridge + h) - energy(alpha, ridge - h)) / (2 * h)
    assert at.energy == pytest.approx(alpha * at.training_loss + ridge * slope, rel=1e-7)
    output = type("Output", (), {"means": at.means + at.intercept, "spread": np.sqrt(at.variance), "v": at.direction})
    envelope = SIGN.weights @ labels_of(SIGN, loss).channel(loss, at.susceptibility, output).envelope
    assert (energy(alpha + h, ridge) - energy(alpha - h, ridge)) / (2 * h) == pytest.approx(envelope, rel=1e-7)


def test_double_descent_with_a_teacher() -> None:
    """The pmse peaks at P = n as ridge -> 0, where q ~ ridge^-1/2 (tenfold from ridge to ridge/100)."""
    gammas = [0.5, 1.0, 2.0, 4.0, 8.0]
    errors = [random_features_erm_error(KINDS["erf"], "relu", "square", 2.0, g, 1e-6).pmse for g in gammas]
    assert int(np.argmax(errors)) == 2
    heights = [random_features_erm_error(KINDS["erf"], "relu", "square", 2.0, 2.0, r).variance for r in (1e-6, 1e-8)]
    assert heights[1] / heights[0] == pytest.approx(10, rel=0.02)


# --- what is taken and what is refused


def test_it_is_a_learner() -> None:
    options = RandomFeaturesErmOptions("hinge", 3.0, 0.2, True, "erf", 1.5)
    found = error_of("random-features-erm", SIGN, options)
    assert (
        found.value
        == random_features_erm_error(SIGN, "erf", "hinge", 3.0, 1.5, 0.2, intercept=False).classification_error
    )
    noisy = error_of("random-features-erm", SIGN, RandomFeaturesErmOptions("square", label_noise=0.4))
    assert noisy.value == random_features_erm_error(SIGN, "relu", "square", label_noise=0.4).classification_error
    assert float(noisy.provenance["label_noise"]) == 0.4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixture": KINDS["erf"]}, "loss must be 'square' for labels of this teacher, got 'logistic'"),
        ({"mixture": taught("erf", sign=True), "loss": "hinge"}, "loss must be 'square' for labels of this teacher"),
        ({"mixture": replace(SIGN, spectrum=Spectrum([1.0]))}, "mixture must have isotropic inputs and means of"),
        ({"mixture": replace(SIGN, scaling=0.5)}, "mixture must have isotropic inputs and means of"),
        ({"mixture": replace(SIGN, sigma=[1.0, 2.0])}, "mixture must have one covariance"),
        ({"ridge": 0.0}, "ridge must be > 0 for loss='logistic' where a teacher makes the labels, got 0"),
        ({"loss": "square", "ridge": 0.0, "alpha": 1.0}, "ridge must be > 0 for 2 D features where n <= P"),
        ({"label_noise": 0.1}, "label_noise must be 0 for loss='logistic'"),
        ({"label_noise": -0.1, "loss": "square"}, "label_noise must be .* got -0.1"),
        ({"alpha": 0.0}, "alpha must be .* got 0"),
        ({"mixture": replace(ONE, teacher=Teacher([[0.0]], [1.0], "erf")), "loss": "square"}, "teacher must make"),
    ],
)  # fmt: skip
def test_bad_input(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        random_features_erm_error(**({"mixture": SIGN, "activation": "relu", "gamma": 2.0} | arguments))
