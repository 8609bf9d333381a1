"""Errors of a network: exact cases, symmetries, the oracle as a bound, and brute Monte Carlo."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.special import erf, ndtr

from quenched.numerics.averages.activations import activation_functions, piecewise_linear
from quenched.numerics.compiled.intervals import NoEnclosure
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.signs import output_signs
from quenched.numerics.two_layer.errors import errors, errors_many
from quenched.numerics.two_layer.flow import integrate, random_state

pytestmark = pytest.mark.usefixtures("derived_here")

MIXTURE = Mixture([[1.0, 0.0], [-0.3, 0.7], [0.2, -1.1]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.8, 0.5, 1.1])


def random_problem(K, rank, seed, mixture=MIXTURE):
    """A state whose Q has the given rank >= 2: weights with `rank` components, the first two along the means."""
    rng = np.random.default_rng([K, rank, seed])
    components = rng.normal(size=(rank, K))
    return OrderParameters(mixture.means @ components[:2], components.T @ components / 2, rng.normal(size=K))


def monte_carlo(mixture, network, state, samples, seed=0):
    """Classification error and its standard error, tie probability, pmse and its standard error, by sampling."""
    rng = np.random.default_rng(seed)
    values, vectors = np.linalg.eigh(state.Q)
    root = vectors * np.sqrt(np.maximum(values, 0))
    g = activation_functions(network.activation)[0]
    parts = []
    for mean, sigma, y in zip(state.M, mixture.sigmas, mixture.labels, strict=True):
        totals = np.zeros(5)
        for _ in range(samples // 10**5):
            phi = network.output_scale * g(mean + sigma * rng.normal(size=(10**5, network.K)) @ root.T) @ state.v
            wrong, square = (y * phi < 0) + 0.5 * (phi == 0), (phi - y) ** 2 / 2
            totals += [np.mean(x) for x in (wrong, wrong**2, phi == 0, square, square**2)]
        parts.append(totals / (samples // 10**5))
    wrong, wrong2, tie, square, square2 = np.array(parts).T
    P = mixture.weights

    def spread(mean, second):
        return math.sqrt(P**2 @ (second - mean**2) / samples)

    return P @ wrong, spread(wrong, wrong2), P @ tie, P @ square, spread(square, square2)


# --------------------------------------------------------------------------------------------------- exact cases


@pytest.mark.parametrize("v", [0.7, -0.7])
def test_one_neuron(v):
    M, q = np.array([[0.4], [-0.9], [0.1]]), 1.3
    state = OrderParameters(M, [[q]], [v])
    below = ndtr(-M[:, 0] / (MIXTURE.sigmas * math.sqrt(q)))  # P(lambda < 0 | a)
    y = MIXTURE.labels
    # relu: off with probability `below`, a tie; else of the sign of v
    found = errors(MIXTURE, TwoLayer(1, "relu"), state)
    assert found.tie_probability == pytest.approx(MIXTURE.weights @ below, abs=1e-14)
    expected = MIXTURE.weights @ (below / 2 + (1 - below) * (y * v < 0))
    assert found.classification_error == pytest.approx(expected, abs=1e-14)
    # odd and increasing: wrong where y v lambda < 0
    expected = MIXTURE.weights @ np.where(y * v > 0, below, 1 - below)
    for activation in ("erf", "linear", "leaky_relu"):
        found = errors(MIXTURE, TwoLayer(1, activation), state)
        assert found.classification_error == pytest.approx(expected, abs=1e-11)
        assert found.tie_probability == 0
        assert found.method == "exact"


@pytest.mark.parametrize("K", [2, 5])
def test_linear_network_is_one_field(K):
    state = random_problem(K, K, 0)
    distance = (state.M @ state.v) * MIXTURE.labels / (MIXTURE.sigmas * math.sqrt(state.v @ state.Q @ state.v))
    found = errors(MIXTURE, TwoLayer(K, "linear"), state)
    assert found.classification_error == pytest.approx(MIXTURE.weights @ ndtr(-distance), abs=1e-13)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 2.0])
def test_networks_that_are_the_bayes_rule_of_xor(sigma):
    # |x2| - |x1| has the sign of the Bayes rule: error 2p(1-p), p = Phi(-1/(sqrt2 sigma)); as |.| and as four relu.
    mixture = Mixture.xor(sigma)
    p = ndtr(-1 / (math.sqrt(2) * sigma))
    directions = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]).T
    for activation, K in (("abs", 2), ("relu", 4), ("quadratic", 2)):
        A = directions[:, :K]
        state = OrderParameters(mixture.means @ A, A.T @ A, np.array([-1.0, 1.0, -1.0, 1.0])[:K])
        found = errors(mixture, TwoLayer(K, activation), state)
        assert found.classification_error == pytest.approx(2 * p * (1 - p), abs=2e-9)
        assert abs(found.classification_error - 2 * p * (1 - p)) <= max(found.classification_error_error, 1e-12)


@pytest.mark.parametrize("K", [3, 4, 5, 8])
def test_tie_probability_of_equally_correlated_relu(K):
    # P(K fields of zero mean and correlation 1/2 < 0) = 1/(K + 1)
    mixture = Mixture.two_clusters(0.7)
    state = OrderParameters(np.zeros((2, K)), np.full((K, K), 0.5) + 0.5 * np.eye(K), np.linspace(-1, 2.1, K))
    found = errors(mixture, TwoLayer(K, "relu"), state)
    assert found.tie_probability == pytest.approx(1 / (K + 1), abs=5 * found.tie_probability_error)
    assert found.tie_probability_error < 1e-4
    assert found.classification_error == pytest.approx(0.5, abs=1e-12)  # the clusters cannot be told apart


def test_no_output_is_a_tie():
    mixture = Mixture.xor(0.5)
    silent = OrderParameters(np.zeros((4, 2)), np.eye(2), np.zeros(2))
    # two equal neurons of opposite readout
    cancelled = OrderParameters(np.full((4, 2), 0.1), np.full((2, 2), 1 / 3), [0.3, -0.3])
    for state in (silent, cancelled):
        for activation in ("relu", "erf"):
            found = errors(mixture, TwoLayer(2, activation), state)
            assert (found.classification_error, found.tie_probability) == (0.5, 1.0)


def test_no_weights_is_deterministic():
    # lambda = 0: he2(0) = -1, so that v = -1 says +1
    state = OrderParameters(np.zeros((3, 1)), [[0.0]], [-1.0])
    found = errors(MIXTURE, TwoLayer(1, "he2"), state)
    assert found.classification_error == pytest.approx(MIXTURE.weights[MIXTURE.labels < 0].sum(), abs=1e-14)


def test_fields_that_rounding_makes_differ():
    # The rank of Q is taken up to rounding: 1e-14 of noise changes neither method nor, beyond 1e-9, the values.
    state = random_problem(4, 2, 1)
    noise = np.random.default_rng(0).normal(size=(4, 4)) * 1e-14
    noisy = OrderParameters(state.M, state.Q + noise @ noise.T + (noise + noise.T) / 2, state.v)
    first, second = (errors(MIXTURE, TwoLayer(4, "relu"), s) for s in (state, noisy))
    assert first.method == second.method == "adaptive quadrature"
    assert first.classification_error == pytest.approx(second.classification_error, abs=1e-9)
    assert first.tie_probability == pytest.approx(second.tie_probability, abs=1e-9)


# ----------------------------------------------------------------------------------------------------- all networks


@pytest.mark.parametrize(("K", "rank"), [(3, 2), (5, 4)])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "abs", "erf", "sin", "quadratic", "he3", "tanh(x)"])
def test_against_monte_carlo(activation, K, rank):
    state, network = random_problem(K, rank, 2), TwoLayer(K, activation, output_scale=1.5)
    found = errors(MIXTURE, network, state)
    wrong, wrong_error, tie, square, square_error = monte_carlo(MIXTURE, network, state, 4 * 10**5)
    # two tests in each of 16 cases: 4.5 standard errors fail once in 4000 runs of a correct program
    assert abs(found.classification_error - wrong) < 4.5 * math.hypot(wrong_error, found.classification_error_error)
    assert abs(found.pmse - square) < 4.5 * math.hypot(square_error, found.pmse_error)
    assert found.tie_probability == pytest.approx(tie, abs=4.5 * math.sqrt(max(tie, 1e-12) / 4e5))


def test_four_relu_against_ten_million_samples():
    state, network = random_problem(4, 4, 3), TwoLayer(4, "relu")
    found = errors(MIXTURE, network, state)
    wrong, wrong_error, tie, *_ = monte_carlo(MIXTURE, network, state, 10**7)
    assert abs(found.classification_error - wrong) < 4.5 * wrong_error
    assert abs(found.tie_probability - tie) < 4.5 * math.sqrt(tie / 1e7)


@pytest.mark.parametrize("activation", ["relu", "erf"])
@pytest.mark.parametrize(("K", "rank"), [(1, 2), (4, 2), (4, 4), (6, 6)])
def test_symmetries(activation, K, rank):
    state, network = random_problem(K, rank, 4), TwoLayer(K, activation)
    found = errors(MIXTURE, network, state)
    # other labels: right and wrong change places
    other = Mixture(MIXTURE.means, -MIXTURE.labels, MIXTURE.weights, MIXTURE.sigma)
    flipped = errors(other, network, state)
    assert flipped.classification_error == pytest.approx(1 - found.classification_error, abs=1e-11)
    assert flipped.tie_probability == found.tie_probability
    # other order of the neurons, other points of the quadrature
    order = np.random.default_rng(0).permutation(K)
    permuted = OrderParameters(state.M[:, order], state.Q[np.ix_(order, order)], state.v[order])
    again = errors(MIXTURE, network, permuted, seed=1)
    error = 5 * math.hypot(found.classification_error_error, again.classification_error_error) + 1e-12
    assert again.classification_error == pytest.approx(found.classification_error, abs=error)
    assert again.pmse == pytest.approx(found.pmse, rel=1e-9)


@pytest.mark.parametrize("K", [5, 8])
def test_error_estimate_of_quasi_monte_carlo(K):
    state, network = random_problem(K, K, 5), TwoLayer(K, "relu")
    best = errors(MIXTURE, network, state, points=2**17, seed=9, tolerance=1e-12)
    assert best.classification_error_error < 5e-5
    quick = [errors(MIXTURE, network, state, points=2**10, seed=seed) for seed in range(20)]
    z = [
        (q.classification_error - best.classification_error)
        / math.hypot(q.classification_error_error, best.classification_error_error)
        for q in quick
    ]
    # Student's t with 7 degrees of freedom has variance 7/5: its square averages 1.4, over 20 seeds +- 0.9
    assert 0.3 < np.mean(np.square(z)) < 4
    loose = errors(MIXTURE, network, state, tolerance=1e-2)
    assert loose.classification_error_error <= 1e-2
    assert errors(MIXTURE, network, state, tolerance=1e-2) == loose


def test_not_better_than_the_oracle():
    mixture = Mixture.xor(0.6)
    p = ndtr(-1 / (math.sqrt(2) * 0.6))
    for seed in range(20):
        state = random_problem(4, 2, seed, mixture)
        assert errors(mixture, TwoLayer(4, "relu"), state).classification_error > 2 * p * (1 - p) - 1e-9


# ------------------------------------------------------------------------------------------------------ along a line

HARD_TANH = (np.array([-1.0, 1.0]), np.array([0.0, 1.0, 0.0]), np.array([-1.0, 0.0, 1.0]))


@pytest.mark.parametrize("pieces", [piecewise_linear("relu"), piecewise_linear("abs"), HARD_TANH])
def test_piecewise_linear_lines(pieces):
    kinks, slopes, intercepts = pieces

    def g(x):
        return slopes[np.searchsorted(kinks, x)] * x + intercepts[np.searchsorted(kinks, x)]

    check_lines(output_signs._piecewise_linear_lines(*pieces), g)


@pytest.mark.parametrize("activation", ["erf", "sin", "Max(x, 0)**2", "erf(40*x) - 1/4"])
def test_smooth_lines(activation):
    check_lines(output_signs._smooth_lines(activation), activation_functions(activation)[0])


def check_lines(lines, g):
    rng = np.random.default_rng(0)
    u = np.linspace(-8, 8, 200_001)
    mass = np.diff(ndtr((u[1:] + u[:-1]) / 2), prepend=0, append=1)
    alpha, beta, v = rng.normal(size=(20, 4)), rng.normal(size=4), rng.normal(size=4)
    beta[3] = 0
    (found,) = lines.evaluate(alpha[None], beta[None], v[None], 38.5, 1e-15, True)
    assert found[:, 2].max() < 1e-9
    for row, (negative, zero, _, _) in zip(alpha, found, strict=True):
        output = g(row + u[:, None] * beta) @ v
        # every sign change is misplaced by half a step at most: 4e-5 of probability density 0.4, at most 10 of them
        assert negative == pytest.approx(mass[output < 0].sum(), abs=2e-4)
        assert zero == pytest.approx(mass[output == 0].sum(), abs=2e-4)


# -------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": TwoLayer(3, "relu")}, r"state must have M of shape \(clusters, K\) = \(3, 3\), got \(3, 4\)"),
        ({"mixture": Mixture.xor(1.0)}, r"state must have M of shape \(clusters, K\) = \(4, 4\), got \(3, 4\)"),
        ({"tolerance": 0}, "tolerance must be finite and > 0, got 0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"points": 0}, "points must be an integer >= 1, got 0"),
    ],
)
def test_bad_input(arguments, message):
    problem = {"mixture": MIXTURE, "network": TwoLayer(4, "relu"), "state": random_problem(4, 4, 0)} | arguments
    with pytest.raises(ValueError, match=message):
        errors(**problem)


@pytest.mark.parametrize(
    ("K", "activation"), [(1, "relu"), (1, "leaky_relu"), (1, "abs"), (3, "linear"), (2, "erf"), (3, "relu")]
)
def test_digits(K, activation):
    """At 25 digits everything agrees with float64 to its stated errors, and with itself at 30."""
    rng = np.random.default_rng(K)
    mixture, network = Mixture.xor(0.7), TwoLayer(K, activation, output_scale=0.8)
    A, B = rng.standard_normal((2, K)), rng.standard_normal((K, K + 1))
    state = OrderParameters(mixture.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K))
    plain, precise, more = (
        errors(mixture, network, state),
        *(errors(mixture, network, state, digits=d) for d in (25, 30)),
    )
    for name, error in (
        ("pmse", "pmse_error"),
        ("classification_error", "classification_error_error"),
        ("tie_probability", "tie_probability_error"),
    ):
        assert abs(getattr(plain, name) - getattr(precise, name)) <= getattr(plain, error) + 1e-15
        assert abs(getattr(precise, name) - getattr(more, name)) <= max(1e-24, getattr(precise, error))
    assert abs(precise.pmse - more.pmse) < 1e-24
    if K == 1 or activation == "linear":
        assert precise.classification_error_error == 1e-25


# ------------------------------------------------------------------------------------------------- multiple zeros

ONE = Mixture([[10.0]], [1], sigma=1.0)


@pytest.mark.parametrize(
    ("activation", "mean", "right"),
    [
        ("x**3", 0.05, ndtr(-0.05)),
        ("x**3", 30.0, ndtr(-30.0)),
        ("x**2-1/1048576", 0.0, math.erf(2.0**-10 / math.sqrt(2))),
        ("x**2-1/16777216", 0.0, math.erf(2.0**-12 / math.sqrt(2))),
        ("x**2", 0.0, 0.0),
    ],
)
def test_multiple_and_close_zeros(activation, mean, right):
    found = errors(ONE, TwoLayer(1, activation), OrderParameters([[mean]], [[1.0]], [1.0]))
    # 1e-16: what `right` is rounded to; in a far tail both are relative, z^2 eps = 2e-13
    assert abs(found.classification_error - right) <= found.classification_error_error + min(1e-16, 1e-12 * right)
    assert found.classification_error_error < 1e-14
    assert found.method == "exact"


@pytest.mark.parametrize("q", [1e4, 1e6])
@pytest.mark.parametrize("rank", [2, 4])
def test_steep_outputs_take_bounded_time(q, rank):
    """erf at fields of 100 and 1000 is nearly its sign: the network of sign neurons, sampled; and a bounded effort."""
    rng = np.random.default_rng(3)
    A, B = rng.normal(size=(2, 4)), rng.normal(size=(4, 4)) * (rank > 2)
    mixture = Mixture([[1.0, 0.0], [0.0, 1.0]], [1, -1], sigma=0.7)
    v = rng.normal(size=4)
    state = OrderParameters(math.sqrt(q) * mixture.means @ A, q * (A.T @ A + B @ B.T), v)
    found = errors(mixture, TwoLayer(4, "erf"), state)
    wrong, spread, *_ = monte_carlo(mixture, TwoLayer(4, "erf"), state, 4 * 10**5)
    assert abs(found.classification_error - wrong) < 4.5 * math.hypot(spread, found.classification_error_error)
    assert found.classification_error_error < 1e-3


def test_a_trajectory_leaves_out_what_is_not_asked_for():
    """The order parameters and the pmse keep their bits; the classification error is not computed."""
    mixture, network, rule = Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(0.5)
    state = random_state(mixture, network, 500, 0)
    whole, pmse = (
        integrate(mixture, network, rule, state, [0.5, 1.0], **asked) for asked in ({}, {"quantities": ("pmse",)})
    )
    assert sorted(set(whole) - set(pmse)) == ["classification_error", "classification_error_error", "tie_probability"]
    xr.testing.assert_identical(whole[list(pmse)], pmse)
    with pytest.raises(ValueError, match=r"quantities must be some of pmse, classification_error, got \['risk'\]"):
        integrate(mixture, network, rule, state, [1.0], quantities=("risk",))


def test_what_is_asked_for():
    state, network = random_problem(4, 4, 0), TwoLayer(4, "relu")
    whole, pmse = errors(MIXTURE, network, state), errors(MIXTURE, network, state, quantities=("pmse",))
    assert pmse.pmse == whole.pmse
    assert math.isnan(pmse.classification_error)
    other = errors(MIXTURE, network, state, quantities=("classification_error",))
    assert other.classification_error == whole.classification_error
    assert math.isnan(other.pmse)
    assert errors_many(MIXTURE, network, [state, state]) == [whole, whole]
    with pytest.raises(ValueError, match=r"quantities must be some of pmse, classification_error, got \['risk'\]"):
        errors(MIXTURE, network, state, quantities=("risk",))


def test_an_activation_without_an_enclosure_is_sampled(monkeypatch):
    state, network = random_problem(3, 2, 1), TwoLayer(3, "sin")
    found = errors(MIXTURE, network, state)

    def refuse(*_):
        raise NoEnclosure("no enclosure")

    monkeypatch.setattr(output_signs, "_smooth_lines", refuse)
    sampled = errors(MIXTURE, network, state)
    assert sampled.method == "randomised quasi-Monte Carlo"
    gap = abs(found.classification_error - sampled.classification_error)
    assert 0 < gap < 7 * sampled.classification_error_error


def test_mean_loss() -> None:
    """The pmse where the loss is half the square; twice it and more in closed form; one field by quadrature."""
    network, state = TwoLayer(1, "linear"), OrderParameters([[0.5], [-0.5]], [[1.0]], [1.0])
    mixture = Mixture.two_clusters(0.8)
    found = errors(mixture, network, state, loss="square")
    assert found.loss == found.pmse
    assert errors(mixture, network, state, loss="3*(phi - y)**2 + phi").loss == pytest.approx(6 * found.pmse, abs=1e-13)
    assert errors(mixture, network, state).loss is None
    # y phi ~ N(1/2, 0.8^2) in both clusters
    x, w = np.polynomial.hermite_e.hermegauss(80)
    expected = w @ np.log1p(np.exp(-0.5 - 0.8 * x)) / w.sum()
    logistic = errors(mixture, network, state, loss="logistic", quantities=("pmse",))
    assert logistic.loss == pytest.approx(expected, abs=1e-12)
    assert logistic.loss_error < 1e-9
    # two equal halves of the same field
    twice = OrderParameters([[0.5, 0.5], [-0.5, -0.5]], np.ones((2, 2)), [0.5, 0.5])
    assert errors(mixture, TwoLayer(2, "linear"), twice, loss="logistic").loss == pytest.approx(expected, abs=1e-12)


def test_mean_loss_against_a_teacher() -> None:
    """A network that is its teacher: l(y, y) = 0 of a loss of phi - y, and log(1 + exp(-y^2)) of the logistic one."""
    teacher = Teacher(weights=[[1.0]], v=[2.0], activation="erf")
    mixture = Mixture([[0.0]], sigma=0.7, teacher=teacher)
    state = OrderParameters([[0.0], [1.0]], [[1.0]], [2.0])
    assert errors(mixture, TwoLayer(1, "erf"), state, loss="abs(phi - y)").loss == pytest.approx(0, abs=1e-7)
    x, w = np.polynomial.hermite_e.hermegauss(80)
    y = 2 * erf(0.7 * x / np.sqrt(2))
    found = errors(mixture, TwoLayer(1, "erf"), state, loss="logistic")
    assert found.loss == pytest.approx(w @ np.log1p(np.exp(-y * y)) / w.sum(), abs=1e-8)


def test_digits_are_of_what_was_asked_for() -> None:
    """pmse alone leaves the classification error out, a named loss is there; the error of digits is relative."""
    state, mixture = OrderParameters([[0.8], [-0.8]], [[0.9]], [1.5]), Mixture.two_clusters(0.6)
    found = errors(mixture, TwoLayer(1, "erf"), state, digits=20, loss="logistic", quantities=("pmse",))
    assert np.isnan(found.classification_error)
    assert found.loss == errors(mixture, TwoLayer(1, "erf"), state, loss="logistic").loss
    large = errors(mixture, TwoLayer(1, "linear"), replace(state, v=[1e3]), digits=20)
    assert large.pmse_error == pytest.approx(1e-20 * float(large.pmse))


@pytest.mark.parametrize("K", [2, 3])
def test_smooth_outputs_that_vanish_on_a_region_are_ties(K: int) -> None:
    """A squared relu is off where a relu is: P(phi = 0) is the same, whatever encloses or samples the lines.

    With three neurons lines are sampled, and errors are standard errors: four of them; with two they are bounds.
    """
    mixture = Mixture.xor(0.4)
    state = random_state(mixture, TwoLayer(K, "relu"), 500, seed=1)
    known, found = (errors(mixture, TwoLayer(K, g), state) for g in ("relu", "Max(x,0)**2"))
    room = (1 if K == 2 else 4) * found.tie_probability_error + known.tie_probability_error
    assert abs(found.tie_probability - known.tie_probability) <= room
    rng, count = np.random.default_rng(5), 200_000
    x = state.M[:, None] + rng.standard_normal((4, count, K)) @ np.linalg.cholesky(0.16 * state.Q).T
    phi = np.maximum(x, 0) ** 2 @ state.v
    wrong = np.mean((mixture.labels[:, None] * phi < 0) + (phi == 0) / 2)
    assert abs(wrong - found.classification_error) <= 4 * (0.5 / np.sqrt(4 * count) + found.classification_error_error)
