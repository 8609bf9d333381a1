"""Random features: limits against the equivalent at finite D, known values, symmetries, refusals."""

import itertools

import numpy as np
import pytest
from scipy.special import ndtr, roots_hermitenorm

from quenched.numerics import Mixture, oracle_error, random_features_error
from quenched.numerics.lazy.hermite import hermite_orders
from quenched.numerics.problem.spectrum import Spectrum
from quenched.theory import random_features as theory

pytestmark = pytest.mark.usefixtures("derived_here")

XOR = Mixture.xor(1.0, 1.4, 0.25)
THREE = Mixture.three_clusters(1.0, 1.4, 0.25)
HIGH = Mixture.xor(1.0, scaling=0.5)
MIXED = Mixture.parity(1.0, (1.0, 0.8), (0.5, 0.0))
LIMITS = {"low": Mixture.two_clusters(1.0), "XOR": XOR, "three": THREE, "mixed": MIXED}


def tau(found) -> float:
    """The signal from the mean output, m = tau/(1 + tau)."""
    m = abs(found.mean[0])
    return m / (1 - m)


# --- Hermite orders


@pytest.mark.parametrize("D", [1, 2, 7])
def test_directions_of_order_two_are_the_pairs_of_coordinates_but_one(D: int) -> None:
    """Products x_i x_j, i <= j, without |x|^2."""
    assert theory.quadratic_directions(D) == len(list(itertools.combinations_with_replacement(range(D), 2))) - 1


def test_orders_of_relu_are_known() -> None:
    """relu(sigma g): c_j = sigma He_(j-2)(0) phi(0)/sqrt(j!) for j >= 2."""
    c, higher, square, error = hermite_orders("relu", 0.0, 2.0, orders=8)
    he = [1, 0, -1, 0, 3, 0, -15]
    factorial = np.cumprod([1.0, *range(1, 9)])
    expected = 2.0 * np.array([1, np.sqrt(np.pi / 2), *he]) / np.sqrt(2 * np.pi * factorial)
    np.testing.assert_allclose(c, expected, rtol=0, atol=error + 1e-15)
    assert error < 1e-13
    assert float(square) == pytest.approx(2.0, abs=1e-14)
    assert float(higher) == pytest.approx(2.0 - (expected**2).sum(), abs=1e-14)


def test_orders_of_a_cubic_are_known() -> None:
    """x^2 + x^3 at x = s g: s^2 (He_2 + 1) + s^3 (He_3 + 3 He_1), so that s^6 E He_3^2 = 6 s^6 is beyond order 2."""
    s = 0.7
    found = theory.hermite_orders(s**2, 3 * s**2, 2.0, 3 * s**4 + 15 * s**6, s)
    np.testing.assert_allclose(found, (3 * s**3, np.sqrt(2) * s**2, 6 * s**6), rtol=1e-14)


@pytest.mark.parametrize("activation", ["relu", "abs", "erf", "sin", "leaky_relu", "he3", "erf((x + 1)/sqrt(2))"])
def test_quadrature_agrees_with_closed_forms(activation: str) -> None:
    rho = np.array([[-3.0, 0.2], [0.0, 1.7]])
    closed, quadrature = hermite_orders(activation, rho, 0.7), hermite_orders(activation, rho, 0.7, orders=3)
    # rounding of a sum of 400 terms of the size of the activation, at most 30 here
    np.testing.assert_allclose(quadrature.coefficients[:3], closed.coefficients, rtol=0, atol=1e-13)
    np.testing.assert_allclose(quadrature.square, closed.square, rtol=1e-13, atol=1e-13)


def test_a_shifted_erf_is_the_formula_with_its_shift() -> None:
    rho = np.linspace(-2, 2, 5)
    psi_0, psi_1, psi_2, square = theory.shifted_erf(rho, 1.3, 1.0)  # type: ignore[arg-type]
    c, _, second, _ = hermite_orders("erf((x + 1)/sqrt(2))", rho, 1.3)
    linear, quadratic, _ = theory.hermite_orders(psi_0, psi_1, psi_2, square, 1.3)
    np.testing.assert_allclose(c, [psi_0, linear, quadratic], rtol=0, atol=1e-14)
    np.testing.assert_allclose(second, square, rtol=0, atol=1e-14)


def test_what_is_beyond_order_two_is_not_lost_in_rounding() -> None:
    """sin(sigma g) at sigma = 1e-3: c_3^2 = sigma^6 e^(-sigma^2)/6, ten orders below what a difference would give."""
    sigma = 1e-3
    _, higher, _, _ = hermite_orders("sin", 0.0, sigma)
    # the next is c_5^2 = sigma^10/120; rounding of c_3 = 4e-10 is 1e-16
    assert float(higher) == pytest.approx(sigma**6 * np.exp(-(sigma**2)) / 6, rel=1e-6)
    assert float(hermite_orders("he2", 0.3, 2.0).higher) == 0.0


# --- limits


@pytest.mark.parametrize(("name", "power"), [("low", 1.0), ("XOR", 0.5), ("three", 0.5), ("mixed", 1.0)])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_equivalent_at_finite_D_tends_to_the_limit(name: str, power: float, ridge: float) -> None:
    """O(1/D), at the crossover O(D^-1/2): a fit to D = 10^5 .. 10^7 is off by the next order, D^-1/2 relative at most.

    That is 0.3 % at 10^5, a slope off by less than log10(1.003)/2 = 0.001 for a next coefficient of 1; allowed are 20.
    At D = 10^10 the difference is below 10 D^-power.
    """
    mixture = LIMITS[name]
    limit = random_features_error(mixture, "relu", 2.0, ridge)
    for observable in ("pmse", "classification_error"):
        gaps = [
            abs(getattr(random_features_error(mixture, "relu", 2.0, ridge, D=D, tolerance=1e-9), observable)
                - getattr(limit, observable))
            for D in (1e5, 1e7, 1e10)
        ]  # fmt: skip
        if gaps[1] > 1e-9:
            assert np.log10(gaps[0] / gaps[1]) / 2 == pytest.approx(power, abs=0.02)
        assert gaps[2] < 10 * 1e10**-power + 2 * limit.classification_error_error + 1e-8


@pytest.mark.parametrize("mixture", [HIGH, Mixture.three_clusters(1.0, scaling=0.5)], ids=["XOR", "three"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_rate_at_high_signal_to_noise(mixture: Mixture, ridge: float) -> None:
    """1/(2 D pmse) - 1/D tends to the rate like 1/D: 1e-6 at D = 10^7, times coefficients of a few."""
    limit = random_features_error(mixture, "relu", 2.0, ridge)
    assert (limit.classification_error, limit.pmse) == (0.0, 0.0)
    assert limit.rate is not None
    finite = random_features_error(mixture, "relu", 2.0, ridge, D=1e7)
    assert (1 / (2 * finite.pmse) - 1) / 1e7 == pytest.approx(limit.rate, rel=1e-5)


def test_the_rate_of_xor_by_its_own_channels() -> None:
    """The four channels and two spikes of XOR, iterated on a Gauss-Hermite grid: 0.13668, 0.2065 without spikes."""
    z, w = roots_hermitenorm(60)
    f = np.array(list(itertools.product(z, z)))
    weights = np.outer(w, w).ravel() / (2 * np.pi)

    def parts(values):
        return (values + values[::-1]) / 2, (values - values[::-1]) / 2

    c, higher, _, _ = hermite_orders("relu", z, 1.0)
    (mean, _), (even, odd), (quadratic, _) = parts(c[0]), parts(c[1]), parts(c[2])
    noise = parts(higher + c[2] ** 2)[0]
    i, j = (np.searchsorted(z, f[:, k]) for k in (0, 1))
    channels = np.array(theory.xor_channels(even[i], even[j], odd[i], odd[j]))
    d, *spikes = theory.xor_spikes(mean[i], mean[j], quadratic[i], quadratic[j], odd[i], odd[j], f[:, 0], f[:, 1])
    C, s = (noise[i] + noise[j]) / 2, np.zeros(4)
    for _ in range(200):
        A = 1 / (C + (channels**2 / (1 + s[:, None])).sum(axis=0))
        s = 2.0 * (channels**2 @ (weights * A))
    Z = np.array(spikes)
    scaled = 2.0 * weights * A
    without = (d * scaled) @ d
    rate = without - (Z @ (scaled * d)) @ np.linalg.solve(np.eye(2) + (Z * scaled) @ Z.T, Z @ (scaled * d))
    assert without == pytest.approx(0.2065, abs=5e-5)
    assert rate == pytest.approx(0.13668, abs=5e-6)
    # 60 nodes resolve functions analytic in a strip of width 1 to about 1e-8
    assert random_features_error(HIGH, "relu", 2.0).rate == pytest.approx(rate, rel=1e-7)


def test_the_norm_spike_that_a_first_order_covariance_misses() -> None:
    """Three clusters: 0.129, where the norm of x counted as independent noise would give 0.107."""
    found = random_features_error(THREE, "relu", 2.0)
    assert found.classification_error == pytest.approx(0.129, abs=5e-4)
    T = theory.marchenko_pastur(2.0, np.float64(1 - 2 / np.pi))
    chi, k2 = T / 0.25, 0.5 / np.sqrt(np.pi)
    assert found.classification_error == pytest.approx(
        float(ndtr(-np.sqrt(theory.crossover_three_clusters(chi, k2, 1.4, 1.0)))), abs=1e-14
    )
    spike = chi * k2**2
    truncated = np.sqrt(1.4**4 * 1.5 * spike / 4)  # tau/2 in place of tau/(2 (1 + tau))
    assert float(ndtr(-truncated)) == pytest.approx(0.107, abs=5e-4)


@pytest.mark.parametrize("sigma", [1.0, 1.3])
def test_mixtures_at_the_crossover_have_their_closed_forms(sigma: float) -> None:
    """relu is homogeneous: k_1 and k_2 are proportional to sigma, and T is that of sigma = 1."""
    T = theory.marchenko_pastur(2.0, np.float64(1 - 2 / np.pi))
    chi, k2 = T / (0.5 * sigma) ** 2, 0.5 * sigma / np.sqrt(np.pi)
    found = random_features_error(Mixture.xor(sigma, 1.4, 0.25), "relu", 2.0)
    signal = (1.4 / sigma) ** 4 * T / (2 * np.pi)
    assert found.classification_error == pytest.approx(float(ndtr(-np.sqrt(signal))), abs=1e-14)
    assert found.pmse == pytest.approx(1 / (2 * (1 + signal)), abs=1e-14)
    assert theory.crossover_xor(chi, k2, 1.4, sigma) == pytest.approx(signal, rel=1e-14)
    found = random_features_error(Mixture.three_clusters(sigma, 1.4, 0.25), "relu", 2.0)
    signal = theory.crossover_three_clusters(chi, k2, 1.4, sigma)
    assert found.classification_error == pytest.approx(float(ndtr(-np.sqrt(signal))), abs=1e-14)


@pytest.mark.parametrize("scaling", [0.0, 0.25, 0.5, (0.5, 0.0)])
@pytest.mark.parametrize("activation", ["erf", "sin", "linear"])
def test_odd_activations_stay_at_chance(activation: str, scaling) -> None:
    make = Mixture.parity if isinstance(scaling, tuple) else Mixture.xor
    mixture = make(0.5, scaling=scaling)
    for options in ({}, {"D": 1000.0}, {"D": 1e10}):
        found = random_features_error(mixture, activation, 2.0, 0.1, **options)
        assert found.classification_error == 0.5
        assert found.pmse == pytest.approx(0.5, abs=1e-15)
        assert not found.rate


def test_an_even_activation_has_no_linear_spike() -> None:
    """log cosh by quadrature: its linear coefficient is rounding, and must not count as a spike that diverges."""
    line = Mixture([[1.5], [-0.5]], [1, -1], scaling=0.25)
    limit = random_features_error(line, "log(exp(x) + exp(-x))", 2.0)
    finite = random_features_error(line, "log(exp(x) + exp(-x))", 2.0, D=1e10)
    # squares of the means, 9 to 1, carry all: no certainty, as a linear spike would give; O(D^-1/2) from the limit
    assert limit.classification_error > 0.01
    assert finite.classification_error == pytest.approx(limit.classification_error, abs=1e-4)
    assert random_features_error(line, "relu", 2.0).classification_error == 0.0


def test_low_signal_to_noise_is_chance_without_a_linear_signal() -> None:
    for mixture in (Mixture.xor(0.3), Mixture.three_clusters(0.3)):
        found = random_features_error(mixture, "relu", 5.0)
        assert (found.classification_error, found.pmse) == (0.5, 0.5)


def test_lengths_below_and_above_the_crossover() -> None:
    """D^a: the signal grows as D^(4a - 1), so that it is D^(-0.2) at a = 0.2 and D^0.2 at a = 0.3, at large D."""
    signals = {
        a: [tau(random_features_error(Mixture.xor(1.0, 1.4, a), "relu", 2.0, D=D)) for D in (1e12, 1e16)]
        for a in (0.2, 0.3)
    }
    for a, (one, other) in signals.items():
        # corrections are O(rho^2) = D^(2a - 1), 1.6e-5 at a = 0.3 and D = 10^12
        assert np.log10(other / one) / 4 == pytest.approx(4 * a - 1, abs=1e-3)


@pytest.mark.parametrize("name", list(LIMITS))
def test_ridge_derivatives(name: str) -> None:
    """S = tau/sqrt(tau + lambda dtau/dlambda), tau from the mean output, its derivative by differences in log lambda.

    Central differences in steps of h: h^2/6 of the third logarithmic derivative, 1e-6, and 1e-14/h by rounding.
    """
    ridge, h = 0.3, 1e-3
    found = random_features_error(LIMITS[name], "relu", 2.0, ridge, tolerance=1e-11)
    above, below = (
        tau(random_features_error(LIMITS[name], "relu", 2.0, ridge * np.exp(s * h), tolerance=1e-11)) for s in (1, -1)
    )
    slope = (above - below) / (2 * h)
    signal = tau(found) / np.sqrt(tau(found) + slope)
    assert found.classification_error == pytest.approx(float(ndtr(-signal)), abs=1e-6)


def test_infinitely_many_features_reach_the_oracle_where_they_can() -> None:
    """gamma -> infinity: S falls short of the oracle's by O(1/gamma)."""
    two = Mixture.two_clusters(0.7)
    assert random_features_error(two, "relu", 1e8).classification_error == pytest.approx(
        oracle_error(two).value, abs=1e-7
    )
    assert random_features_error(MIXED, "relu", 1e8).classification_error == pytest.approx(float(ndtr(-0.8)), abs=1e-6)
    low = Mixture.xor(0.7)
    many = random_features_error(low, "relu", 1e10, features="quadratic")
    # the bulk rounds off a kink of width sqrt(bulk) ~ gamma^-1/2 at p = 0, an error of its square
    assert many.classification_error == pytest.approx(oracle_error(low).value, abs=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_sharp_gates_without_noise(gamma: float) -> None:
    """relu at (1/2, 0), sigma -> 0: sigma^2 S^2 -> m2^2 min(gamma/2, 1); half of the features are on at either sign.

    Off the limit by O(sigma): 1e-3 times coefficients of a few.  At gamma > 2 more features than directions are on, and
    a ridge of 1e-6 sigma^2 keeps their covariance regular.
    """
    sigma = 1e-3
    ridge = 1e-12 if gamma > 2 else 0.0
    found = random_features_error(Mixture.parity(sigma, (1.0, 0.8), (0.5, 0.0)), "relu", gamma, ridge)
    S2 = found.mean[0] ** 2 / found.variance[0]
    assert sigma**2 * S2 == pytest.approx(0.64 * min(gamma / 2, 1), rel=1e-2)


def test_more_sharp_gates_than_directions() -> None:
    """gamma = 8, sigma = 0.2 at m1 = 1: S reaches 10^9, with a rounding error of as many eps; a tiny ridge tames it."""
    sharp = Mixture.parity(0.2, (1.0, 1.0), (0.5, 0.0))
    hard, easy = (random_features_error(sharp, "relu", 8.0, ridge) for ridge in (0.0, 1e-11))
    # the ridge moves tau by a part of 1e-11/(variance 0.01 of a feature's noise)
    assert hard.pmse == pytest.approx(easy.pmse, rel=1e-5)


def test_quadratic_features_by_sampling_the_output() -> None:
    """theta s(x) + sqrt(bulk) g, a million draws: five standard errors."""
    mixture = Mixture.xor(0.6)
    found = random_features_error(mixture, "relu", 3.0, 0.05, features="quadratic")
    c, higher, _, _ = hermite_orders("relu", 0.0, 0.6)
    r = (0.05 + float(higher)) / c[2] ** 2
    T = theory.marchenko_pastur(3.0, r)
    slope = 0.05 / c[2] ** 2 * theory.marchenko_pastur_slope(T, 3.0, r)
    theta, bulk = theory.quadratic_features(T, slope, 1.0, 0.6)
    rng = np.random.default_rng(0)
    x = 0.6 * rng.standard_normal((10**6, 2)) + [0.0, 1.0]
    output = theta * (x[:, 1] ** 2 - x[:, 0] ** 2) / 2 + np.sqrt(bulk) * rng.standard_normal(10**6)
    wrong = (output < 0).mean()
    assert abs(wrong - found.classification_error) < 5 * np.sqrt(wrong * (1 - wrong) / 10**6)
    loss = (output - 1) ** 2 / 2
    assert abs(loss.mean() - found.pmse) < 5 * loss.std() / 1e3


def test_quadratic_features_are_the_limit_of_the_equivalent() -> None:
    """gamma_2 D^2/2 features at finite D, by the solver of all spikes: the moments of outputs come to it as 1/D."""
    mixture, gaps = Mixture.xor(0.6, 1.3), []
    limit = random_features_error(mixture, "relu", 3.0, 0.05, features="quadratic")
    for D in (4e3, 16e3):
        finite = random_features_error(mixture, "relu", 3.0 * D / 2, 0.05, D=D)
        gaps.append([finite.mean[0] - limit.mean[0], finite.variance[0] - limit.variance[0], finite.pmse - limit.pmse])
    assert np.abs(gaps[1]).max() < 1 / 16e3
    np.testing.assert_allclose(gaps[1], np.divide(gaps[0], 4), rtol=0.02)


# --- the equivalent at finite D


def test_the_equivalent_has_the_symmetries_of_the_problem() -> None:
    base = random_features_error(XOR, "relu", 1.5, 0.1, D=300)
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    means, labels = XOR.means, XOR.labels
    same = {
        "turned": Mixture(means @ turn, labels, None, 1.0, 0.25),
        "in space": Mixture(np.pad(means, ((0, 0), (0, 1))), labels, None, 1.0, 0.25),
        "in six dimensions": Mixture(np.pad(means @ turn, ((0, 0), (1, 3))), labels, None, 1.0, 0.25),
        "other labels": Mixture(means, -labels, None, 1.0, 0.25),
        "reordered": Mixture(means[::-1], labels[::-1], None, 1.0, 0.25),
        "a sigma each": Mixture(means, labels, None, np.ones(4), 0.25),
        "one cluster in two halves": Mixture(
            np.vstack([means, means[:1]]), [*labels, labels[0]], [1 / 8, 1 / 4, 1 / 4, 1 / 4, 1 / 8], 1.0, 0.25
        ),
        "at this D": Mixture(XOR.at(300), labels, None, 1.0),
    }
    for name, mixture in same.items():
        found = random_features_error(mixture, "relu", 1.5, 0.1, D=300)
        # the grids are turned against each other: their error, below 1e-9 here
        assert found.pmse == pytest.approx(base.pmse, abs=1e-9), name
        assert found.classification_error == pytest.approx(base.classification_error, abs=1e-9), name


def test_clusters_with_different_noise_are_told_apart_by_the_norm() -> None:
    """Same mean, sigma^2 = 1 ± D^-1/2 s: relu sees |x|^2.  The class means differ by psi_0' ds = O(D^-1/2)."""
    gaps = []
    for D in (1e4, 1e8):
        sigmas = np.sqrt([1 + 1 / np.sqrt(D), 1 - 1 / np.sqrt(D)])
        found = random_features_error(Mixture([[0.0], [0.0]], [1, -1], sigma=sigmas), "relu", 2.0, D=D)
        # one spike of amplitude k_2 s/sqrt 2 against the norm's k_2: tau = T_2 s^2/2/(1 + T_2), T_2 = chi k_2^2
        chi = theory.marchenko_pastur(2.0, np.float64(1 - 2 / np.pi)) / 0.25
        T2 = chi / (4 * np.pi)
        gaps.append(abs(tau(found) - T2 / (1 + T2) / 2))
    assert gaps[1] < 1e-6  # O(1/D), and O(D^-1/2)^2 from the difference of the two psi_0
    assert gaps[1] < gaps[0] / 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gamma": 0.0}, "gamma must be finite and > 0, got 0.0"),
        ({"gamma": -1.0}, "gamma must be finite and > 0, got -1.0"),
        ({"ridge": -0.1}, "ridge must be finite and >= 0, got -0.1"),
        ({"activation": "3"}, "'3' is a constant"),
        ({"activation": "linear"}, "ridge must be > 0, got 0.0: activation 'linear'"),
        ({"activation": "linear", "D": 100.0}, "ridge must be > 0, got 0.0: 200 features .* in 100 directions"),
        ({"mixture": Mixture.xor(1.0, scaling=0.3)}, "scaling 0, 1/4, 1/2, .* got scaling=0.3.*D=\\.\\.\\."),
        ({"mixture": Mixture.xor(1.0, scaling=(0.5, 0.0))}, "parity at \\(1/2, 0\\).*D=\\.\\.\\."),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0])}, "one sigma in this limit.*D=\\.\\.\\."),
        ({"mixture": Mixture(np.eye(4), [1, -1, 1, -1]), "D": 100.0}, "up to three dimensions, got 4"),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, 0.25))}, "isotropic"),
        ({"features": "cubic"}, "features must be 'linear' .* got 'cubic'"),
        ({"features": "quadratic"}, "XOR with means of order 1"),
        ({"D": 1.0}, "D must be >= 2, got 1.0"),
        ({"tolerance": 0.0}, "tolerance must be finite and > 0"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], message: str) -> None:
    good = {"mixture": Mixture.two_clusters(1.0), "activation": "relu", "gamma": 2.0}
    with pytest.raises(ValueError, match=message):
        random_features_error(**(good | arguments))  # type: ignore[arg-type]


def test_a_grid_that_cannot_resolve_says_so() -> None:
    with pytest.raises(RuntimeError, match="raise sigma"):
        random_features_error(Mixture.xor(1e-4, scaling=0.5), "relu", 2.0)


def test_the_result_knows_its_problem() -> None:
    found = random_features_error(XOR, "relu", 2.0, D=1e3)
    assert found.provenance["gamma"] == "2.0"
    assert "versions" in found.provenance
    assert found.mean.shape == found.variance.shape == (4,)


# Even features of opposite means, and any features of clusters at one place: the law of z is that of both labels.
OPPOSITE = {"balanced": ([[1.0], [-1.0]], [0.5, 0.5]), "uneven": ([[1.0], [-1.0]], [0.3, 0.7])}
ONE_PLACE = {"away": ([[1.0], [1.0]], [0.3, 0.7]), "origin": ([[0.0], [0.0]], [0.4, 0.6])}
BLIND = [
    *((place, activation) for place in OPPOSITE.values() for activation in ("abs", "quadratic", "sin(x)**2")),
    *((place, activation) for place in ONE_PLACE.values() for activation in ("relu", "erf", "abs")),
]


@pytest.mark.parametrize(("scaling", "D"), [(0.0, None), (0.25, None), (0.5, None), (0.0, 200.0), (0.5, 200.0)])
@pytest.mark.parametrize(("place", "activation"), BLIND)
def test_features_that_cannot_tell_the_labels_apart_err_half_of_the_time(place, activation, scaling, D):
    """The output is 0 for every input: a tie, which counts half, and pmse = E[y^2]/2."""
    means, weights = place
    mixture = Mixture(means, [1, -1], weights, scaling=scaling)
    found = random_features_error(mixture, activation, 2.0, 0.1, D=D)
    assert found.classification_error == pytest.approx(0.5, abs=1e-9)
    assert found.pmse == pytest.approx(0.5, abs=1e-9)
    assert not found.rate


def test_the_intercept_is_the_mean_label() -> None:
    """Centred features: b = E y shifts every output; labels of mean 0 have none."""
    mixtures = [
        (Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8]), None, -0.6),
        (Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8], scaling=0.25), None, -0.6),
        (Mixture([[1.0, 0.0], [-1.0, 0.5]], [1, -1], [0.3, 0.7]), 50.0, -0.4),
        (Mixture.xor(0.7), None, 0.0),
    ]
    for mixture, D, b in mixtures:
        without, with_one = (
            random_features_error(mixture, "relu", 2.0, 0.1, D=D, intercept=each) for each in (False, True)
        )
        np.testing.assert_allclose(with_one.mean, without.mean + b, rtol=0, atol=1e-12)
        np.testing.assert_allclose(with_one.variance, without.variance, rtol=1e-12)
        gain = b**2 / 2  # E(y - w.z)^2 falls by b^2
        assert without.pmse - with_one.pmse == pytest.approx(gain, abs=1e-12)


def test_means_of_order_sqrt_D_are_fitted_with_an_intercept_alone() -> None:
    """Labels of mean b != 0: without an intercept the pmse stays at b^2/2, with one it falls as 1/D, at the `rate`."""
    mixture = Mixture([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]], [1, -1, -1], [0.3, 0.3, 0.4], scaling=0.5)
    without, with_one = (random_features_error(mixture, "relu", 2.0, 0.1, intercept=each) for each in (False, True))
    assert without.pmse == pytest.approx(0.4**2 / 2, rel=1e-9)
    assert with_one.pmse < 1e-12
    assert not without.rate
    D = 1e5
    finite = random_features_error(mixture, "relu", 2.0, 0.1, D=D, intercept=True)
    assert finite.pmse == pytest.approx(1 / (2 * (1 + D * with_one.rate)), rel=0.02)
