"""The exact Jacobian against central differences of the drift, and at states where it has kinks."""

from dataclasses import replace

import numpy as np
import pytest

from quenched.numerics import GradientFlow, Mixture, OnlineSGD, OrderParameters, Spectrum, Teacher, TwoLayer
from quenched.numerics.two_layer.drift import drift_arrays
from quenched.numerics.two_layer.jacobian import drift_tangents
from quenched.numerics.two_layer.stationary import StationaryEquations

pytestmark = pytest.mark.usefixtures("derived_here")

UNEVEN = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])
SGD = OnlineSGD(lr=0.3, weight_decay=0.1, second_lr=0.4, second_weight_decay=0.2, label_noise=0.3)
FLOW = GradientFlow(weight_decay=0.1, second_lr=0.5)


def some_system(activation, K, rule, mixture=UNEVEN, seed=0):
    rng = np.random.default_rng(seed)
    A = 0.5 * rng.standard_normal((mixture.dimensions, K))
    B = rng.standard_normal((K, K + 1)) / np.sqrt(K + 1)
    system = StationaryEquations(mixture, TwoLayer(K, activation, output_scale=0.7), rule)
    system.start(OrderParameters(mixture.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K)))
    return system


@pytest.mark.parametrize(
    ("activation", "K", "rule"),
    [
        ("relu", 1, SGD),
        ("relu", 4, SGD),
        ("relu", 5, SGD),
        ("relu", 6, FLOW),
        ("erf", 2, SGD),
        ("erf", 3, FLOW),
        ("leaky_relu", 2, SGD),
        ("sin", 2, FLOW),
        ("quadratic", 3, SGD),
        ("Max(x, 0) + x**2/5", 2, FLOW),
    ],
)
def test_jacobian_against_differences(activation, K, rule):
    """Steps h = 6e-6: h^2/6 times third derivatives of some hundred is 1e-9, rounding 7e-12 of Phi_4 over h 1e-6."""
    system = some_system(activation, K, rule)
    exact, differences = system.jacobian(system.x0), system.differences(system.x0)
    assert np.abs(exact - differences).max() < 2e-6 * (1 + np.abs(exact).max())


def test_only_what_learns_is_unknown():
    assert len(some_system("relu", 3, OnlineSGD(lr=0.3, second_lr=0.0)).x0) == 6 + 6
    assert len(some_system("relu", 3, OnlineSGD(lr=0.0, second_lr=0.3)).x0) == 3
    assert len(some_system("relu", 3, GradientFlow(lr=0.0, second_lr=0.3)).x0) == 3


def test_parallel_neurons():
    """Along w, averages over two parallel relu have kinks; the gradient of the risk has none, and J is its Hessian.

    Parallel up to rounding: the tangent is that of fields at an angle of 2e-8, at which neglected terms are as large.
    Differences with h = 6e-6 leave h/2 times the jump of third derivatives of the risk, of order 1.
    """
    mixture = Mixture.xor(0.6)
    A = np.array([[1.0, -0.4, 0.3], [0.5, -0.2, -0.9]])  # the second is -0.4 times the first
    system = StationaryEquations(mixture, TwoLayer(3, "relu"), FLOW)
    system.start(OrderParameters(mixture.means @ A, A.T @ A, [0.5, -0.7, 0.4]))
    assert np.abs(system.jacobian(system.x0) - system.differences(system.x0)).max() < 2e-5


def test_an_activation_without_closed_forms_has_differences():
    system = some_system("tanh", 2, FLOW)
    assert system.inner.tangents is None
    np.testing.assert_array_equal(system.jacobian(system.x0), system.differences(system.x0))


TEACHER = Teacher(weights=[[1.0, 0.3], [-0.4, 0.8]], v=[0.8, -0.5], activation="erf")
TAUGHT = Mixture([[1.0, 0.2], [-0.5, 0.8]], sigma=[0.5, 0.8], weights=[0.6, 0.4], teacher=TEACHER)
SPECTRAL = Mixture([[0.5, 0.0]], sigma=0.7, spectrum=Spectrum([0.5, 1.5]), teacher=TEACHER)


@pytest.mark.parametrize(
    ("activation", "mixture", "rule"),
    [
        ("erf", TAUGHT, SGD),
        ("erf", SPECTRAL, FLOW),
        ("relu", replace(TAUGHT, teacher=replace(TEACHER, activation="leaky_relu")), SGD),  # made of relu neurons
        ("relu", TAUGHT, SGD),  # across two activations
        ("erf", replace(SPECTRAL, teacher=replace(TEACHER, activation="relu")), FLOW),
    ],
)
def test_tangents_with_a_teacher(activation, mixture, rule):
    """Along three random directions, against central differences of the drift; steps as above."""
    rng, K, U, p = np.random.default_rng(1), 2, len(mixture.shares), mixture.dimensions
    network = TwoLayer(K, activation, output_scale=0.7)

    def pair():
        root, A = rng.standard_normal((U, K, K)), 0.5 * rng.standard_normal((U, p, K))
        inside = A.swapaxes(1, 2) @ np.linalg.inv(mixture.alignment) @ A  # what weights with these A have at least
        return A, inside + root @ root.swapaxes(1, 2), rng.standard_normal(K)

    point, ways = pair(), [pair() for _ in range(3)]
    drift, tangents = drift_arrays(mixture, network, rule), drift_tangents(mixture, network, rule)
    found = tangents(*point, *(np.stack(parts, axis=-1) for parts in zip(*ways, strict=True)))
    h = 6e-6
    for z, way in enumerate(ways):
        above, below = (drift(*(x + side * h * d for x, d in zip(point, way, strict=True))) for side in (1, -1))
        for exact, one, other in zip(found, above, below, strict=True):
            assert np.abs(exact[..., z] - (one - other) / (2 * h)).max() < 2e-6 * (1 + np.abs(exact).max())
