"""The time derivatives against averages of the SGD increments that use no rule of the algebra, and their symmetries."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quenched.numerics import GradientFlow, Mixture, OnlineSGD, OrderParameters, TwoLayer, drift
from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.two_layer.drift import Equations, drift_arrays
from quenched.numerics.two_layer.step_averages import Sampling


def some_state(mixture, K, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    A = scale * rng.standard_normal((mixture.dimensions, K))
    B = rng.standard_normal((K, K + 1)) / np.sqrt(K + 1)
    return OrderParameters(mixture.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K))


def increments(mixture, network, sgd, state, nodes):
    """D times the average increment of (M, Q, v) by one SGD step, on a tensor grid of Gauss-Hermite nodes.

    Written from the update rule alone: w.mu/D, w.w/D and v before and after, |x|^2/D = sigma^2.  Weights on a sphere
    are scaled back at D = 10^7: the terms that are left out as D grows are a fraction of 1/D.
    """
    D, (moves, moves_v, _) = 1e7, sgd.learning(network.K)
    g, dg = activation_functions(network.activation)
    slope = loss_functions(sgd.loss)[1]
    A = state.projections(mixture)
    p, K = A.shape
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / np.sqrt(2 * np.pi)
    grid = np.stack(np.meshgrid(*[z] * (p + K), indexing="ij"), axis=-1).reshape(-1, p + K)
    density = np.prod(np.stack(np.meshgrid(*[weight] * (p + K), indexing="ij"), axis=-1).reshape(-1, p + K), axis=1)
    root = np.linalg.cholesky(state.Q - A.T @ A + 1e-300 * np.eye(K))
    dM, dQ, dv = np.zeros_like(state.M), np.zeros_like(state.Q), np.zeros_like(state.v)
    for mean, label, P, sigma in zip(mixture.means, mixture.labels, mixture.weights, mixture.sigmas, strict=True):
        x = mean + sigma * grid[:, :p]
        fields = x @ A + sigma * grid[:, p:] @ root.T
        output = network.output_scale * g(fields) @ state.v
        # times the slope of the loss: the step along x
        step = sgd.eta * moves * network.output_scale * state.v * dg(fields)
        slopes = slope(output, label + sgd.label_noise * z[:, None])
        force, square = weight @ slopes, weight @ slopes**2
        if sgd.sphere:  # sample by sample
            push = step * force[:, None]
            moved = -push[:, None, :] * (x @ mixture.means.T)[:, :, None] - sgd.eta * sgd.kappa * state.M
            cross = push[:, :, None] * fields[:, None, :]
            grown = push[:, :, None] * push[:, None, :] * (sigma**2 / sgd.batch) - cross - cross.swapaxes(1, 2)
            grown = grown - 2 * sgd.eta * sgd.kappa * state.Q + 2 * sgd.eta * sgd.temperature * np.eye(K)
            back = np.sqrt(np.diag(state.Q) / np.diagonal(state.Q + grown / D, axis1=1, axis2=2))
            dM += P * np.einsum("n,nak->ak", density, D * ((state.M + moved / D) * back[:, None, :] - state.M))
            dQ += P * np.einsum(
                "n,nkl->kl", density, D * ((state.Q + grown / D) * back[:, :, None] * back[:, None, :] - state.Q)
            )
            dv -= P * sgd.eta_v * network.output_scale * (density * force) @ g(fields)
            continue
        dM -= P * np.einsum("n,nk,nb->bk", density * force, step, x @ mixture.means.T)
        first = P * np.einsum("n,nk,nl->kl", density * force, step, fields)
        second = P * sigma**2 / sgd.batch * np.einsum("n,nk,nl->kl", density * square, step, step)
        dQ += second - first - first.T
        dv -= P * sgd.eta_v * network.output_scale * (density * force) @ g(fields)
    if sgd.sphere:
        return dM, dQ, dv - sgd.eta_v * sgd.kappa_v * state.v
    return (
        dM - sgd.eta * sgd.kappa * moves * state.M,
        dQ
        - sgd.eta * sgd.kappa * np.add.outer(moves, moves) * state.Q
        + 2 * sgd.eta * sgd.temperature * np.diag(moves),
        moves_v * (dv - sgd.eta_v * sgd.kappa_v * state.v),
    )


UNEVEN = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])
RULES = {
    "plain": OnlineSGD(lr=0.3),
    "decay": OnlineSGD(lr=0.3, weight_decay=0.1),
    "layer-wise": OnlineSGD(lr=0.3, weight_decay=0.05, second_lr=0.7, second_weight_decay=0.2),
    "label noise": OnlineSGD(lr=0.3, label_noise=0.5),
    "first layer only": OnlineSGD(lr=0.3, second_lr=0.0),
    "batch": OnlineSGD(lr=0.3, weight_decay=0.1, label_noise=0.5, batch=3),
    "frozen parts": OnlineSGD(lr=0.3, weight_decay=0.1, second_weight_decay=0.2, frozen=("w1", "v0")),
    "bath": OnlineSGD(lr=0.3, weight_decay=0.1, temperature=0.7, frozen="w0"),
    "another quadratic loss": OnlineSGD(lr=0.3, label_noise=0.5, loss="(1 - y*phi)**2/2"),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("activation", ["erf", "he2", "sin", "linear"])
def test_drift_is_the_average_increment(rule, activation):
    """Gauss-Hermite converges geometrically for entire integrands: 24 nodes a dimension leave less than 1e-9 here."""
    network = TwoLayer(2, activation, output_scale=1.3)
    state = some_state(UNEVEN, 2)
    rate = drift(UNEVEN, network, RULES[rule], state)
    for found, expected in zip(
        (rate.M, rate.Q, rate.v), increments(UNEVEN, network, RULES[rule], state, 24), strict=True
    ):
        assert np.abs(found - expected).max() < 1e-9 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("activation", ["erf", "linear"])
def test_drift_on_a_sphere_is_the_average_increment(activation):
    """As above, to the 1/D = 1e-7 of the increments times their squares, and 2e-9 of rounding, D eps."""
    network, state = TwoLayer(2, activation), some_state(UNEVEN, 2)
    rule = OnlineSGD(lr=0.3, weight_decay=0.1, temperature=0.2, sphere=True)
    rate = drift(UNEVEN, network, rule, state)
    for found, expected in zip((rate.M, rate.Q, rate.v), increments(UNEVEN, network, rule, state, 20), strict=True):
        assert np.abs(found - expected).max() < 1e-5
    assert np.abs(np.diag(rate.Q)).max() < 1e-14


@pytest.mark.parametrize(
    "rule", [OnlineSGD(0.3, 0.1, 0.7, 0.2), OnlineSGD(0.3, label_noise=0.4, batch=2), GradientFlow()]
)
@pytest.mark.parametrize(("activation", "K"), [("erf", 1), ("linear", 2), ("sin", 2)])
def test_logistic_drift_is_the_average_increment(rule, activation, K):
    """By quadrature.  Poles of the slope at phi = i pi leave the Hermite grid an error of 1e-6 with 40 nodes."""
    rule = dataclasses.replace(rule, loss="logistic")
    network, state = TwoLayer(K, activation), some_state(UNEVEN, K)
    rate = drift(UNEVEN, network, rule, state)
    assert rate.method == "quadrature"
    nodes = 40 if K == 1 else 30
    expected = increments(UNEVEN, network, rule, state, nodes)
    if not rule.diffusion:  # the noise of one sample, less that of two, twice
        one, two = (increments(UNEVEN, network, OnlineSGD(1.0, loss="logistic", batch=B), state, nodes) for B in (1, 2))
        expected = (expected[0], 2 * two[1] - one[1], expected[2])
    for found, wanted in zip((rate.M, rate.Q, rate.v), expected, strict=True):
        assert np.abs(found - wanted).max() < 2e-6


def test_relu_drift_is_the_average_increment():
    """relu at K = 1, p = 1: the kinks are lines through the origin; 400 Hermite nodes leave a 1/nodes^(3/2) error."""
    mixture, network, sgd = Mixture.two_clusters(0.7), TwoLayer(1, "relu"), OnlineSGD(lr=0.4, weight_decay=0.1)
    state = some_state(mixture, 1)
    rate = drift(mixture, network, sgd, state)
    for found, expected in zip((rate.M, rate.Q, rate.v), increments(mixture, network, sgd, state, 200), strict=True):
        assert np.abs(found - expected).max() < 2e-3


@pytest.mark.parametrize("K", [3, 5])
def test_relu_drift_against_sampling(K):
    """Closed forms against the sampled equations, which share no average with them: within 5 standard errors."""
    mixture, network, sgd = Mixture.xor(0.6), TwoLayer(K, "relu"), OnlineSGD(lr=0.3, weight_decay=0.1, label_noise=0.2)
    state = some_state(mixture, K)
    equations = Equations(mixture, network, sgd, Sampling(1e-4, 7, 2**16))
    equations.step.closed = False
    A, Q = state.projections(mixture), state.Q
    (dA, dQ, dv), error, method = equations(A[None], Q[None], state.v)
    rate = drift(mixture, network, sgd, state)
    assert (rate.method, method) == ("closed form", "quasi-Monte Carlo")
    for found, expected in ((mixture.means @ dA[0], rate.M), (dQ[0], rate.Q), (dv, rate.v)):
        assert np.abs(found - expected).max() < 5 * error


def test_wide_networks_sample_only_the_diffusion():
    """K = 13 > 12: against closed forms on the same state, widened by neurons without readout, which change nothing."""
    mixture, sgd = Mixture.xor(0.6), OnlineSGD(lr=0.3)
    small = some_state(mixture, 4)
    wide = OrderParameters(
        np.concatenate([small.M, np.zeros((4, 9))], axis=1),
        np.block([[small.Q, np.zeros((4, 9))], [np.zeros((9, 4)), np.eye(9)]]),
        np.concatenate([small.v, np.zeros(9)]),
    )
    exact = drift(mixture, TwoLayer(4, "relu"), sgd, small)
    rate = drift(mixture, TwoLayer(13, "relu"), sgd, wide, tolerance=1e-4)
    assert rate.method != "closed form"
    assert np.abs(rate.M[:, :4] - exact.M).max() < 1e-10  # the flow is exact
    assert np.abs(rate.Q[:4, :4] - exact.Q).max() < 5 * rate.error
    assert np.abs(rate.Q[4:, 4:]).max() < 1e-12


def test_sampled_activation_reports_its_error():
    mixture, sgd = Mixture.xor(0.6), OnlineSGD(lr=0.3)
    state = some_state(mixture, 3)
    coarse = drift(mixture, TwoLayer(3, "tanh"), sgd, state, tolerance=1e-3)
    fine = drift(mixture, TwoLayer(3, "tanh"), sgd, state, tolerance=1e-5, seed=1)
    assert coarse.method == "quasi-Monte Carlo"
    assert fine.error < coarse.error < 1e-3
    assert np.abs(coarse.Q - fine.Q).max() < 6 * coarse.error


@pytest.mark.parametrize("loss", ["square", "logistic", "max(0, 1 - y*phi)"])
@pytest.mark.parametrize(("activation", "K"), [("tanh", 2), ("relu", 2), ("relu", 1)])
def test_quadrature_agrees_with_sampling(loss, activation, K):
    """Two ways to the same averages, which share no points: within five standard errors.

    A kink of the loss leaves errors of many bisected panels, which add up; 1e-8 is for smooth ones.
    """
    rule = OnlineSGD(0.3, 0.1, label_noise=0.0 if "max" in loss else 0.2, loss=loss)
    network, state = TwoLayer(K, activation), some_state(UNEVEN, K)
    equations = Equations(UNEVEN, network, rule, Sampling(1e-5, 3, 2**17))
    A, Q = state.projections(UNEVEN)[None], state.Q[None]
    exact, error, method = equations(A, Q, state.v)
    assert method == ("closed form" if loss == "square" and activation == "relu" else "quadrature")
    assert error < (1e-7 if "max" in loss else 1e-8)
    equations.step.closed, equations.step.quadrature = False, None
    sampled, error, _ = equations(A, Q, state.v)
    for one, other in zip(exact, sampled, strict=True):
        assert np.abs(one - other).max() < 5 * error


@given(seed=st.integers(0, 10**6), activation=st.sampled_from(["relu", "erf"]))
@settings(max_examples=20, deadline=None)
def test_symmetries(seed, activation):
    """Permuting neurons, rotating the means' basis, flipping all labels with v: the equations follow."""
    rng = np.random.default_rng(seed)
    mixture, network, sgd = Mixture.xor(0.6), TwoLayer(3, activation), OnlineSGD(lr=0.3, weight_decay=0.1)
    state = some_state(mixture, 3, seed)
    rate = drift(mixture, network, sgd, state)
    order = rng.permutation(3)
    permuted = OrderParameters(state.M[:, order], state.Q[order][:, order], state.v[order])
    found = drift(mixture, network, sgd, permuted)
    assert np.abs(found.Q - rate.Q[order][:, order]).max() < 1e-9
    assert np.abs(found.M - rate.M[:, order]).max() < 1e-9
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    rotated = Mixture(mixture.means @ turn, mixture.labels, sigma=0.6)
    assert np.abs(drift(rotated, network, sgd, state).Q - rate.Q).max() < 1e-9
    flipped = Mixture(mixture.means, -mixture.labels, sigma=0.6)
    mirrored = drift(flipped, network, sgd, OrderParameters(state.M, state.Q, -state.v))
    assert np.abs(mirrored.Q - rate.Q).max() < 1e-9
    assert np.abs(mirrored.v + rate.v).max() < 1e-9


@pytest.mark.parametrize(("activation", "K", "bound"), [("relu", 3, 1e-12), ("relu", 13, 1e-12), ("tanh", 2, 1e-12)])
def test_the_gradient_flow_is_the_first_order_in_the_rates(activation, K, bound):
    """The drift is eta F + eta^2 G with G from single samples, so that F = (4 drift(eta/2) - drift(eta))/eta exactly.

    Rates are of order one and eta = 0.3: rounding leaves less than 1e-12.  The diffusion of 13 neurons is sampled, but
    dM/dt and dv/dt are closed and Q has none here; for tanh the same points serve all three.
    """
    network, state = TwoLayer(K, activation), some_state(UNEVEN, K)
    p = {"weight_decay": 0.1, "second_weight_decay": 0.2}
    found = drift(UNEVEN, network, GradientFlow(second_lr=2.0, **p), state, tolerance=1.0)
    half, whole = (
        drift(UNEVEN, network, OnlineSGD(eta, second_lr=2 * eta, **p), state, tolerance=1.0) for eta in (0.15, 0.3)
    )
    for name in ("M", "v") if K > 12 else ("M", "Q", "v"):
        expected = (4 * getattr(half, name) - getattr(whole, name)) / 0.3
        assert np.abs(getattr(found, name) - expected).max() < bound
    assert found.method == ("quadrature" if activation == "tanh" else "closed form")


def test_odd_networks_cannot_leave_xor_s_symmetry():
    """erf, M = 0 on XOR: by x -> -x in every cluster the readout is not driven, and M stays 0."""
    mixture = Mixture.xor(0.6)
    state = OrderParameters(np.zeros((4, 3)), np.eye(3), [0.3, -0.2, 0.5])
    rate = drift(mixture, TwoLayer(3, "erf"), OnlineSGD(lr=0.3), state)
    assert np.abs(rate.M).max() < 1e-15


def test_bad_input_is_named():
    mixture, network, sgd = Mixture.xor(0.6), TwoLayer(3, "relu"), OnlineSGD(lr=0.3)
    with pytest.raises(ValueError, match="K = 3"):
        drift(mixture, network, sgd, some_state(mixture, 2))
    with pytest.raises(ValueError, match="scaling"):
        drift_arrays(Mixture.xor(0.6, scaling=0.25), network, sgd)
    with pytest.raises(ValueError, match="Q is too small"):
        drift(mixture, network, sgd, OrderParameters(mixture.means @ np.ones((2, 3)), 0.5 * np.eye(3), np.ones(3)))
    with pytest.raises(ValueError, match="tolerance"):
        drift(mixture, network, sgd, some_state(mixture, 3), tolerance=-1.0)
