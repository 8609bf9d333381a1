"""The covariance of the order parameters at order 1/D: where it is known exactly, its errors, what is refused."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    TwoLayer,
    fluctuations,
    random_state,
)


def test_a_linear_neuron_has_the_variance_of_its_linear_recursion() -> None:
    """A <- A - (eta/D) u nu with u = lambda - y: the second moment of A closes by Isserlis' theorem on (u, nu).

    With y u ~ N(c A - 1, sigma^2 Q), y nu ~ N(c, sigma^2) of covariance sigma^2 A in both clusters, Var(M) = c^2 Var A.
    Tolerances of 1e-6 a step leave less than 1e-5.
    """
    c, sigma, eta = 1.2, 0.7, 0.4
    mixture, network = Mixture.two_clusters(sigma, separation=c), TwoLayer(1, "linear")
    state = OrderParameters([[-c * 0.3], [c * 0.3]], [[0.8]], [1.0])
    pull = eta * (c**2 + sigma**2)

    def rates(_: float, x: np.ndarray) -> list[float]:
        A, Q, V = x
        u = c * A - 1
        square = (u**2 + sigma**2 * Q) * (c**2 + sigma**2) + 2 * (sigma**2 * A) ** 2 + 4 * u * c * sigma**2 * A
        dQ = -2 * eta * (c**2 * A**2 + sigma**2 * Q - c * A) + eta**2 * sigma**2 * (u**2 + sigma**2 * Q)
        return [-pull * A + eta * c, dQ, -2 * pull * V + eta**2 * (square - (u * c + sigma**2 * A) ** 2)]

    times = [0.0, 0.5, 2.0, 40.0]
    exact = solve_ivp(rates, (0, 40), [-0.3, 0.8, 0.0], "DOP853", times, rtol=1e-11, atol=1e-13).y
    found = fluctuations(mixture, network, OnlineSGD(eta, second_lr=0.0), state, times)
    variance = found.covariance.sel(component="M[1,0]", component_="M[1,0]") / c**2
    across = found.covariance.sel(component="M[1,0]", component_="M[0,0]") / c**2
    np.testing.assert_allclose(-found.theory.sel(component="M[1,0]") / c, exact[0], rtol=1e-5)
    # the averages are exact here: what is stated is the integration's, relative to the largest entry at a time
    stated = found.covariance_error.sel(component="M[1,0]", component_="M[1,0]") / c**2 + 1e-12
    assert (np.abs(variance - exact[2]) <= stated).all()
    assert (np.abs(across + exact[2]) <= stated).all()
    assert (found.covariance.sel(component="v[0]") == 0).all()  # frozen
    largest = np.abs(found.covariance).max(["component", "component_"])
    assert (found.covariance_error <= (1e-6 + 1e-12) * largest).all()


def test_a_batch_and_the_rate_scale_the_covariance() -> None:
    """To first order in eta at fixed eta t the covariance is proportional to eta/B, up to a relative eta."""
    mixture, network = Mixture.two_clusters(0.7), TwoLayer(2, "erf")
    state = random_state(mixture, network, 50, 3)
    one, two, four = (
        fluctuations(mixture, network, OnlineSGD(lr, batch=B), state, [1.0 / lr]).covariance.values[0] / lr * B
        for lr, B in ((1e-3, 1), (2e-3, 1), (1e-3, 4))
    )
    size = np.abs(one).max()
    assert np.abs(two - one).max() < 1e-2 * size
    assert np.abs(four - one).max() < 1e-2 * size
    assert np.linalg.eigvalsh(one).min() > -1e-6 * size


def test_sampled_averages_state_their_error() -> None:
    """Eight seeds of relu: they spread by the standard error that they state.

    Of 91 numbers some five are independent (entries of one average): 7 x 5 degrees of freedom, with which the spread is
    known to 1/sqrt(70) = 12 %; five times that is allowed.
    """
    mixture, network = Mixture.xor(0.5), TwoLayer(2, "relu")
    state = random_state(mixture, network, 50, 3)
    runs = [fluctuations(mixture, network, OnlineSGD(0.4), state, [0.5], rtol=1e-4, seed=s) for s in range(8)]
    found = np.array([run.covariance.values[0] for run in runs])
    stated = np.sqrt(np.mean([run.covariance_error.values[0] ** 2 for run in runs], axis=0))
    ratio = (found.std(axis=0, ddof=1) / stated)[np.triu_indices(len(stated))]
    assert abs(np.sqrt(np.mean(ratio**2)) - 1) < 0.6
    assert 0 < float(stated.max()) < 0.02 * float(found.max())


def test_what_has_no_fluctuations_is_refused() -> None:
    network, two = TwoLayer(1, "linear"), Mixture.two_clusters(0.7)
    state = OrderParameters([[0.0], [0.0]], [[1.0]], [1.0])
    with pytest.raises(ValueError, match="rule must be"):
        fluctuations(two, network, GradientFlow(), state, [1.0])
    spectral = Mixture([[1.0], [-1.0]], [1, -1], sigma=0.5, spectrum=Spectrum([0.5, 1.5], [0.5, 0.5]))
    with pytest.raises(ValueError, match="isotropic"):
        fluctuations(spectral, network, OnlineSGD(0.1), state, [1.0])
    with pytest.raises(ValueError, match="state must have K = 1"):
        fluctuations(two, network, OnlineSGD(0.1), OrderParameters(np.zeros((2, 2)), np.eye(2), [1.0, 1.0]), [1.0])
