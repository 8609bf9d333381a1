"""Fixed points: against closed forms, against learning for a long time, up to symmetries, and refusals that speak."""

import numpy as np
import pytest

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    TwoLayer,
    fixed_point,
    fixed_points,
    integrate,
    oracle_error,
    random_state,
)
from quenched.numerics.two_layer.stationary import FixedPointError, StationaryEquations
from quenched.numerics.two_layer.symmetry import equivalent, orbits, stabiliser, symmetries

XOR = Mixture.xor(0.4)
RELU = TwoLayer(4, "relu")
SGD = OnlineSGD(lr=0.2, weight_decay=0.01)


@pytest.fixture(scope="module")
def good():
    """K = 4 on XOR from a state that succeeds."""
    return fixed_point(XOR, RELU, SGD, seed=1)


@pytest.mark.parametrize("lr", [0.1, 1.0])
def test_one_linear_neuron(lr):
    """v = 1, s = sigma^2: dA/dt = eta (1 - A (1 + s)), dQ/dt = -2 eta E[Delta lambda] + eta^2 s E[Delta^2]

    with E[Delta lambda] = s Q + A^2 - A and E[Delta^2] = s Q + (A - 1)^2; both linear in Q.
    """
    s = 0.49
    mixture = Mixture.two_clusters(0.7)
    guess = OrderParameters([[0.5], [-0.5]], [[1.0]], [1.0])
    found = fixed_point(mixture, TwoLayer(1, "linear"), OnlineSGD(lr=lr, second_lr=0.0), guess)
    A = 1 / (1 + s)
    Q = (2 * (A - A**2) + lr * s * (1 - A) ** 2) / (2 * s - lr * s**2)
    assert found.state.M[0, 0] == pytest.approx(A, abs=1e-9)
    assert found.state.Q[0, 0] == pytest.approx(Q, abs=1e-9)
    assert found.pmse == pytest.approx((s * Q + (A - 1) ** 2) / 2, abs=1e-9)
    expected = sorted([-lr * (1 + s), -2 * lr * s + lr**2 * s**2], reverse=True)
    np.testing.assert_allclose(found.eigenvalues, expected, atol=1e-9)


def test_learning_ends_there(good):
    """The equations integrated to t = 3000: what is left decays as exp(leading t) = 2e-6, the pmse as its square."""
    start = random_state(XOR, RELU, D=1000, seed=1)
    end = integrate(XOR, RELU, SGD, start, [3000.0]).isel(time=-1)
    left = np.exp(good.leading * 3000.0)
    assert good.residual < 1e-10
    assert good.stable
    assert good.zero_modes == 0
    assert float(end.pmse) == pytest.approx(good.pmse, abs=left + good.pmse_error + 1e-8)
    assert float(end.classification_error) == pytest.approx(good.classification_error, abs=left + 1e-7)
    assert equivalent(XOR, RELU, good.state, OrderParameters(end.M, end.Q, end.v))


def test_from_a_guess(good):
    again = fixed_point(XOR, RELU, SGD, good.state)
    np.testing.assert_allclose(again.state.Q, good.state.Q, atol=good.state_error + 1e-9)
    off = OrderParameters(good.state.M, good.state.Q * (1 + 1e-3), good.state.v)
    np.testing.assert_allclose(fixed_point(XOR, RELU, SGD, off).state.Q, good.state.Q, atol=1e-8)


def test_leading_eigenvalue_is_the_rate_of_decay(good):
    """A small perturbation decays as exp(leading t) once the faster modes are gone."""
    moved = OrderParameters(good.state.M * 1.001, good.state.Q * 1.001**2, good.state.v)
    run = integrate(XOR, RELU, SGD, moved, [600.0, 800.0], rtol=1e-10, atol=1e-13)
    gap = np.abs(run.v.values - good.state.v).max(axis=1)
    assert np.log(gap[1] / gap[0]) / 200 == pytest.approx(good.leading, rel=0.05)


def test_four_relu_come_close_to_the_oracle_and_three_do_not():
    oracle = float(oracle_error(XOR))
    rule = GradientFlow(weight_decay=1e-3)
    four = fixed_points(XOR, RELU, rule, range(1, 4))
    assert four.kind[0] == "good"
    assert oracle < four.classification_error[0] < oracle + 2e-4
    three = fixed_points(XOR, TwoLayer(3, "relu"), rule, range(4))
    assert (three.kind == "partial").all()
    assert (three.classification_error > oracle + 0.1).all()
    for found in (four, three):
        assert float(found.basin.sum() + found.unfinished) == pytest.approx(1)
        assert (found.residual < 1e-10).all()
        p, n = found.basin.values, found.sizes["initial"]
        np.testing.assert_allclose(found.basin_error, np.sqrt((n * p + 1) * (n * (1 - p) + 1) / (n + 2) ** 2 / (n + 3)))
        assert all((found.reached == j).mean() == p[j] for j in range(len(p)))


def test_families_without_decay():
    """GradientFlow, relu: w_k -> c w_k, v_k -> v_k/c leaves the function alone, a zero mode for each neuron.

    Four weights in a plane: their covariance is singular, which averages over pairs do not feel, nor stated errors.
    """
    found = fixed_point(XOR, RELU, GradientFlow(), seed=1)
    assert found.zero_modes == 4
    assert found.stable
    c = np.array([2.0, 0.5, 3.0, 1.0])
    scaled = OrderParameters(found.state.M * c, found.state.Q * np.outer(c, c), found.state.v / c)
    other = fixed_point(XOR, RELU, GradientFlow(), scaled)
    for name in ("pmse", "classification_error"):
        stated = [getattr(point, f"{name}_error") for point in (found, other)]
        assert abs(getattr(found, name) - getattr(other, name)) < sum(stated)
        assert max(stated) < 1e-7
    assert equivalent(XOR, RELU, found.state, scaled)


@pytest.mark.parametrize(("activation", "K", "mixture"), [("erf", 2, Mixture.two_clusters(0.7)), ("relu", 4, XOR)])
def test_richardson_extrapolation_agrees_with_the_gradient_flow(activation, K, mixture):
    """Errors of SGD are a series in eta; halved four times, the terms up to eta^3 go.

    relu adds half-integer powers, from the angle sqrt(eta) between opposite neurons, of order eta^(7/2) at the earliest
    seen here: 1e-6.
    """
    network = TwoLayer(K, activation)
    limit = fixed_point(mixture, network, GradientFlow(weight_decay=0.02), seed=1)
    row = []
    for lr in (0.2, 0.1, 0.05, 0.025):
        found = fixed_point(mixture, network, OnlineSGD(lr=lr, weight_decay=0.02), seed=1)
        row.append([found.pmse, found.classification_error])
    table = np.array(row)
    first = np.abs(table[-1] - [limit.pmse, limit.classification_error]).max()
    for order in (1, 2, 3):
        table = (2**order * table[1:] - table[:-1]) / (2**order - 1)
    gap = np.abs(table[-1] - [limit.pmse, limit.classification_error]).max()
    assert gap < 1e-6
    assert gap < 1e-2 * first


def test_only_the_second_layer_learns():
    """Linear in v: v = (E[g g] + kappa)^(-1) E[y g], by samples; no iteration is needed, and J = -(E[g g] + kappa)."""
    rng = np.random.default_rng(0)
    state = random_state(XOR, RELU, D=100, seed=0)
    found = fixed_point(XOR, RELU, OnlineSGD(lr=0.0, second_lr=0.5, second_weight_decay=0.1), state)
    np.testing.assert_array_equal(found.state.Q, state.Q)
    n = 200_000
    root = np.linalg.cholesky(state.Q)
    g = [np.maximum(M + 0.4 * rng.standard_normal((n, 4)) @ root.T, 0) for M in state.M]
    gram = sum(x.T @ x / n for x in g) / 4 + 0.1 * np.eye(4)
    drive = sum(y * x.mean(axis=0) for x, y in zip(g, XOR.labels, strict=True)) / 4
    # averages of n samples of order 1/2 in C = 4 clusters: errors of 1e-3 each, through the inverse of gram
    assert np.abs(found.state.v - np.linalg.solve(gram, drive)).max() < 5e-3 / np.linalg.eigvalsh(gram)[0]
    assert len(found.eigenvalues) == 4


def test_symmetries_of_a_solution(good):
    group = list(symmetries(XOR))
    assert len(group) == 8
    order = [2, 0, 3, 1]
    for symmetry in group:
        A = symmetry.rotation @ good.state.projections(XOR)
        copy = OrderParameters(
            XOR.means @ A[:, order], good.state.Q[np.ix_(order, order)], symmetry.sign * good.state.v[order]
        )
        assert equivalent(XOR, RELU, good.state, copy)
    other = OrderParameters(good.state.M, good.state.Q, good.state.v * 1.01)
    assert not equivalent(XOR, RELU, good.state, other)
    assert len(stabiliser(XOR, RELU, good.state, tolerance=1e-6)) == 2
    assert sorted(map(len, orbits(XOR, RELU, good.state))) == [2, 2]


def test_weights_outside_of_the_span_of_the_means():
    """With five neurons the gradient flow may keep one partly outside: rates vanish, and Q - A^T A has rank one."""
    found = fixed_point(XOR, TwoLayer(5, "relu"), GradientFlow(weight_decay=1e-3), seed=0)
    A = found.state.projections(XOR)
    values = np.linalg.eigvalsh(found.state.Q - A.T @ A)
    assert values[-1] > 0.01
    assert abs(values[-2]) < 1e-9
    assert found.residual < 1e-10
    assert found.stable


def flow(**changes):
    arguments = {"mixture": XOR, "network": RELU, "rule": SGD} | changes
    return lambda: fixed_point(**arguments)


BAD = [
    (flow(rule=OnlineSGD(lr=0.2)), "no fixed point exists for 'relu'.*weight_decay > 0, or second_lr=0"),
    (flow(rule=OnlineSGD(lr=0.0)), r"rule must have a rate other than 0, got lr=0.0"),
    (flow(network=TwoLayer(13, "relu")), "K <= 12 .*, got K = 13"),
    (flow(mixture=Mixture.xor(0.4, scaling=0.25)), "scaling"),
    (
        flow(mixture=Mixture.from_data(np.eye(9)[:, :4], [0, 1] * 4 + [0], [1, -1] * 4 + [1], covariance="shared")),
        "spectrum",
    ),
    (
        flow(guess=OrderParameters(np.zeros((4, 3)), np.eye(3), np.ones(3))),
        r"guess must have M .* \(4, 4\), got \(4, 3\)",
    ),
    (flow(points=0), "points must be an integer >= 1, got 0"),
    (flow(t=0.0), "t must be"),
    (lambda: fixed_points(XOR, RELU, SGD, []), "seeds must be one or more integers"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_fixed_point_near_a_guess():
    """Above eta = 2/sigma^2 the noise of SGD has no stationary state: Q would be negative."""
    guess = OrderParameters([[0.5], [-0.5]], [[1.0]], [1.0])
    problem = Mixture.two_clusters(2.0), TwoLayer(1, "linear"), OnlineSGD(lr=1.0, second_lr=0.0)
    with pytest.raises(FixedPointError, match=r"no fixed point was found: .* left rates up to") as caught:
        fixed_point(*problem, guess)
    assert caught.value.residual > 1e-10
    assert caught.value.state.K == 1
    with pytest.raises(FixedPointError, match="does not come to rest"):
        fixed_point(*problem[:2], OnlineSGD(lr=100.0, second_lr=0.0))  # the random v is below 1


@pytest.mark.parametrize(("sigma", "lr", "decay"), [(0.5, 0.5, 0.01), (1.0, 0.1, 0.01), (0.8, 0.3, 0.03)])
def test_guesses_from_which_newton_leads_nowhere(sigma, lr, decay):
    """A neuron near each mean, the labels as readout: steps in a trust region creep along the edge of possible Q."""
    mixture = Mixture.xor(sigma)
    A = 0.9 * mixture.means.T
    guess = OrderParameters(mixture.means @ A, A.T @ A + 0.01 * np.eye(4), mixture.labels)
    found = fixed_point(mixture, RELU, OnlineSGD(lr, decay), guess)
    assert found.residual < 1e-10
    assert float(oracle_error(mixture)) < found.classification_error < 0.45
    found.state.check(mixture)


def test_pseudo_transient_steps_end_where_the_flow_does(good):
    """From the state at t = 50, within 0.3 of the end in every coordinate."""
    start = integrate(XOR, RELU, SGD, random_state(XOR, RELU, D=1000, seed=1), [50.0]).isel(time=-1)
    system = StationaryEquations(XOR, RELU, SGD)
    system.start(OrderParameters(start.M, start.Q, start.v))
    x = system.relax(system.x0)
    assert x is not None
    assert equivalent(XOR, RELU, system.state(x), good.state)


DECAY = [
    (Mixture.xor(0.4), "erf", GradientFlow(weight_decay=0.01)),  # too little signal for erf at this decay: XOR is even
    (Mixture.two_clusters(0.7), "erf", OnlineSGD(0.5, 5.0)),
    (Mixture.two_clusters(0.7), "relu", GradientFlow(weight_decay=5.0)),
    (Mixture.two_clusters(0.7), "relu", OnlineSGD(0.5, 5.0)),
    (Mixture.two_clusters(0.7), "linear", OnlineSGD(0.5, 5.0)),
]


@pytest.mark.parametrize(("mixture", "activation", "rule"), DECAY)
def test_a_network_that_decays_is_zero_and_ties(mixture, activation, rule):
    """phi = 0: pmse = E[y^2]/2, every input a tie, which counts half; rounding has no sign."""
    found = fixed_points(mixture, TwoLayer(3, activation), rule, 2)
    assert found.sizes["solution"] == 1
    assert float(found.unfinished) == 0
    assert not found.Q.values.any()
    assert not found.v.values.any()
    assert found.pmse.values == pytest.approx(0.5, abs=1e-12)
    assert found.classification_error.values == pytest.approx(0.5, abs=1e-12)
    assert found.dead.values == 3


def test_partly_decayed_weights_keep_their_overlaps_possible():
    """The flow knows Q to 1e-8: below that, Q - A^T A came out negative, and the state was refused."""
    found = fixed_points(Mixture.two_clusters(0.7), TwoLayer(2, "relu"), GradientFlow(weight_decay=0.05), range(6))
    assert float(found.unfinished) == 0
    assert (found.residual < 1e-10).all()
