"""Several outputs: the step of the cross-entropy on a grid, two outputs as the logistic loss, the posterior as its end,
errors of the largest output, and what has one output alone."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp, ndtr

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    bayes_error,
    drift,
    equations,
    erm_error,
    errors,
    fixed_point,
    fluctuations,
    integrate,
    kernel_error,
    oracle_error,
    random_features_error,
    random_state,
    state_at,
)
from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import CLASS_LOSSES
from quenched.numerics.problem.provenance import provenance, records_of
from quenched.sim import simulate
from quenched.symbolic.language.grammar import CLASS_LOSSES as NAMES

MIXTURE = Mixture(
    [[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0], [0.6, 0.6]],
    weights=[0.4, 0.3, 0.1, 0.2],
    sigma=[0.5, 0.8, 0.6, 0.4],
    classes=[0, 2, 1, 2],
)
RULE = OnlineSGD(0.4, 0.1, second_lr=0.7, second_weight_decay=0.2, loss="cross-entropy", batch=2)


NODES = 110
"""Hermite nodes an axis.  80 of them change what is taken here by less than 1e-7 for two neurons, 7e-7 for three, and
60 by ten times as much: these leave 2e-8 and 1e-7."""


def charge(phi: np.ndarray, c: int) -> np.ndarray:
    """The loss, as it is defined."""
    return np.asarray(logsumexp(phi, axis=-1) - phi[..., c])


def test_every_class_loss_has_its_functions() -> None:
    """Value and slope by the definition and its central differences: h^2 = 1e-12, rounding 1e-15/h = 1e-9."""
    assert set(CLASS_LOSSES) == set(NAMES)
    phi, h = np.random.default_rng(0).normal(size=(50, 4)) * 3, 1e-6
    for c in range(4):
        y = np.eye(4)[c]
        loss = CLASS_LOSSES["cross-entropy"]
        np.testing.assert_allclose(loss.values(phi, y), charge(phi, c), rtol=0, atol=1e-14 * 20)
        moved = [(charge(phi + h * e, c) - charge(phi - h * e, c)) / (2 * h) for e in np.eye(4)]
        np.testing.assert_allclose(loss.slopes(phi, y), np.stack(moved, axis=1), rtol=0, atol=1e-8)
    far = np.array([800.0, -800.0, 0.0])
    assert loss.values(far, np.eye(3)[1]) == 1600.0
    assert loss.slopes(far, np.eye(3)[1]).tolist() == [1.0, -1.0, 0.0]


def on_a_grid(mixture: Mixture, network: TwoLayer, A: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """E[push_k x], E[push_k push_l] sigma_a^2 and E[dl/dv_ck], from differences of the loss on a Hermite grid.

    The weights are in the span of the means, so that an input is two numbers.  Of push_k and dl/dv_ck nothing is known
    but the loss: central differences in lambda_k and v_ck, h = 1e-5, to 1e-10.
    """
    z, weight = np.polynomial.hermite_e.hermegauss(NODES)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    measure = np.outer(weight, weight).ravel() / weight.sum() ** 2
    g, h, s = activation_functions(network.activation)[0], 1e-5, network.output_scale
    moved, noise, readout = np.zeros(A.shape), np.zeros((network.K, network.K)), np.zeros(v.shape)
    for P, mean, sigma, c in zip(mixture.weights, mixture.means, mixture.sigmas, mixture.classes, strict=True):
        x = mean + sigma * grid
        field = x @ A
        push = np.stack(
            [
                (charge(s * g(field + h * e) @ v.T, c) - charge(s * g(field - h * e) @ v.T, c)) / (2 * h)
                for e in np.eye(network.K)
            ],
            axis=1,
        )
        moved += P * x.T @ (measure[:, None] * push)
        noise += P * sigma**2 * push.T @ (measure[:, None] * push)
        for place in np.ndindex(v.shape):
            e = np.zeros(v.shape)
            e[place] = h
            readout[place] += P * measure @ (charge(s * g(field) @ (v + e).T, c) - charge(s * g(field) @ (v - e).T, c))
    return moved, noise, readout / (2 * h)


@pytest.mark.parametrize(
    ("K", "activation", "method"),
    [(1, "linear", "quadrature"), (2, "erf", "quadrature"), (3, "erf", "quasi-Monte Carlo")],
)
def test_a_drift_is_the_average_increment(K: int, activation: str, method: str) -> None:
    """By the rule: dA = -eta (E[push x] + kappa A), dQ from it and the noise, dv = -eta_v (E[dl/dv] + kappa_v v).

    Five standard errors where it is sampled.
    """
    network, rng = TwoLayer(K, activation, output_scale=1.1), np.random.default_rng(K)
    A, v = rng.normal(size=(2, K)), rng.normal(size=(3, K))
    found = drift(MIXTURE, network, RULE, OrderParameters(MIXTURE.means @ A, A.T @ A, v), tolerance=1e-4)
    moved, noise, readout = on_a_grid(MIXTURE, network, A, v)
    dA = -RULE.eta * (moved + RULE.kappa * A)
    dQ = dA.T @ A + A.T @ dA + RULE.eta**2 / RULE.batch * noise
    assert found.method == method
    assert found.error < (1e-7 if method == "quadrature" else 2e-4)
    atol = 1e-7 + 5 * found.error
    np.testing.assert_allclose(found.M, MIXTURE.means @ dA, rtol=0, atol=atol)
    np.testing.assert_allclose(found.Q, dQ, rtol=0, atol=atol)
    np.testing.assert_allclose(found.v, -RULE.eta_v * (readout + RULE.kappa_v * v), rtol=0, atol=atol)


SIGNS = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])
TWO = Mixture(SIGNS.means, weights=SIGNS.weights, sigma=SIGNS.sigma, classes=[1, 0, 1])


def test_two_outputs_are_the_logistic_loss() -> None:
    """phi = phi_1 - phi_0: the same push, and u = v_1 - v_0 moves by 2 dl/dphi g, as at twice the rate of v.

    On the same points of quasi-Monte Carlo: they differ by rounding.
    """
    network = TwoLayer(3, "erf")
    state = random_state(SIGNS, network, 30, seed=2)
    apart = np.stack([-0.3 * state.v, 0.7 * state.v]) + np.linspace(-1, 1, 3)
    logistic = OnlineSGD(0.4, 0.1, second_lr=0.6, second_weight_decay=0.2, loss="logistic")
    cross = OnlineSGD(0.4, 0.1, second_lr=0.3, second_weight_decay=0.4, loss="cross-entropy")
    one = drift(SIGNS, network, logistic, state, tolerance=1.0)
    two = drift(TWO, network, cross, OrderParameters(state.M, state.Q, apart), tolerance=1.0)
    for a, b in ((one.M, two.M), (one.Q, two.Q), (one.v, two.v[1] - two.v[0])):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12)


def test_errors_of_two_outputs_are_those_of_their_difference() -> None:
    network, state = TwoLayer(2, "relu"), random_state(SIGNS, TwoLayer(2, "relu"), 30, seed=2)
    one = errors(SIGNS, network, state, loss="logistic")
    pair = OrderParameters(state.M, state.Q, np.stack([0 * state.v, state.v]))
    two = errors(TWO, network, pair, loss="cross-entropy")
    assert (two.classification_error, two.tie_probability) == (one.classification_error, one.tie_probability)
    assert two.loss == pytest.approx(one.loss, abs=1e-12)
    assert two.method == one.method


@pytest.mark.parametrize("second_lr", [0.0, 0.3])
def test_gradient_flow_ends_at_the_posterior(second_lr: float) -> None:
    """Three classes on a line: log P_c - (x - mean_c)^2/(2 sigma^2) is mean_c x/sigma^2, but for what all share,
    where P_c goes as exp(mean_c^2/(2 sigma^2)).  A linear neuron has such outputs, in which the risk is convex:
    (v_c - v_d) w = (mean_c - mean_d)/sigma^2 at the end."""
    means, sigma = np.array([[-1.1], [0.2], [0.8]]), 0.9
    P = np.exp(means[:, 0] ** 2 / (2 * sigma**2))
    mixture = Mixture(means, weights=P / P.sum(), sigma=sigma, classes=[0, 1, 2])
    A = np.array([[0.3]])
    start = OrderParameters(means @ A, A.T @ A, means if second_lr == 0 else [[-0.5], [0.4], [0.1]])
    flow = GradientFlow(loss="cross-entropy", second_lr=second_lr)
    end = integrate(mixture, TwoLayer(1, "linear"), flow, start, [300.0], rtol=1e-8, quantities=("pmse",)).isel(time=0)
    assert (end.v.values == means).all() == (second_lr == 0)
    w = end.M.values[0, 0] / means[0, 0]
    assert np.diff(end.v.values[:, 0]) * w == pytest.approx(np.diff(means[:, 0]) / sigma**2, rel=1e-6)


def test_outputs_are_compared_not_measured() -> None:
    """The same added to all readouts of a neuron changes nothing, and without decay their sum over outputs stays."""
    network, state = TwoLayer(2, "erf"), random_state(MIXTURE, TwoLayer(2, "erf"), 50, seed=3)
    rule = OnlineSGD(0.4, loss="cross-entropy")
    one = drift(MIXTURE, network, rule, state)
    other = drift(MIXTURE, network, rule, OrderParameters(state.M, state.Q, state.v + np.array([3.0, -2.0])))
    for part in ("M", "Q", "v"):
        np.testing.assert_allclose(getattr(other, part), getattr(one, part), rtol=0, atol=1e-8)
    assert np.abs(one.v.sum(axis=0)).max() < 1e-10


# --- schedules, frozen parts, a sphere, a bath, and problems that change


def test_rates_of_main_hold_for_several_outputs() -> None:
    """At a time, by the drift with the rates of that time: a frozen v1 is column 1 of the readouts, w_0 that of A; a
    bath adds 2 eta T to dQ_kk; on a sphere dQ_kk = 0."""
    network, state = TwoLayer(2, "erf"), random_state(MIXTURE, TwoLayer(2, "erf"), 50, seed=3)
    free = drift(MIXTURE, network, OnlineSGD(0.25, loss="cross-entropy"), state)
    later = drift(MIXTURE, network, OnlineSGD("1/(1 + t)", loss="cross-entropy", frozen=("v1", "w0")), state, t=3.0)
    for found, full in ((later.v, free.v), (later.M[:, ::-1], free.M[:, ::-1])):
        np.testing.assert_allclose(found[:, 0], full[:, 0], rtol=0, atol=1e-12)
        assert np.abs(full[:, 1]).min() > 1e-3
        assert not found[:, 1].any()
    warm = drift(MIXTURE, network, OnlineSGD(0.25, loss="cross-entropy", temperature=0.3), state)
    np.testing.assert_allclose(warm.Q - free.Q, 2 * 0.25 * 0.3 * np.eye(2), rtol=0, atol=1e-12)
    kept = drift(MIXTURE, network, OnlineSGD(0.25, loss="cross-entropy", sphere=True), state)
    assert np.abs(np.diag(kept.Q)).max() < 1e-12
    assert np.abs(np.diag(free.Q)).min() > 1e-3
    np.testing.assert_allclose(kept.v, free.v, rtol=0, atol=1e-12)


def test_classes_that_change_in_time() -> None:
    """The second task has its classes named otherwise: two pieces are two integrations, one after the other, and the
    error on each task is that of its own."""
    network, rule = TwoLayer(1, "linear"), OnlineSGD(0.4, loss="cross-entropy")
    turned = Mixture(-MIXTURE.means, weights=MIXTURE.weights, sigma=MIXTURE.sigma, classes=[0, 2, 1, 2])
    tasks = [(MIXTURE, 1.0), (turned, None)]
    both = integrate(tasks, network, rule, random_state(tasks, network, 50, 1), [0.0, 1.0, 2.0])
    assert both.v.dims == ("time", "output", "neuron")
    before = integrate(MIXTURE, network, rule, state_at(both.isel(cluster=slice(4)), 0.0), [1.0])
    np.testing.assert_allclose(both.v[1], before.v[0], rtol=0, atol=1e-7)
    then = OrderParameters(both.M.values[1, 4:], both.Q.values[1], both.v.values[1])
    after = integrate(turned, network, rule, then, [1.0])
    np.testing.assert_allclose(both.v[2], after.v[0], rtol=0, atol=1e-7)
    assert float(both.classification_error[2, 1]) == pytest.approx(float(after.classification_error[0]), abs=1e-5)
    runs = simulate(tasks, network, rule, 50, [1.5], 2, "overlaps", test_samples=8)
    assert (runs.v.dims, runs.v.shape) == (("seed", "time", "output", "neuron"), (2, 1, 3, 1))
    with pytest.raises(ValueError, match=r"same number of classes throughout, or labels, got \[2, 3\] outputs"):
        integrate([(TWO, 1.0), (MIXTURE, None)], network, rule, then, [2.0])


# --- errors


def test_the_error_of_the_posterior_of_three_classes() -> None:
    """A point of the plane is nearest to the corner in whose sector of 120 degrees it lies: with r = 1/sigma,

    P(right) = int_0^inf dx phi(x - r) (2 Phi(sqrt(3) x) - 1).
    """
    mixture = Mixture.three_classes(0.8)
    state = OrderParameters(mixture.means, np.eye(2), mixture.means)
    found = errors(mixture, TwoLayer(2, "linear"), state)
    right, _ = quad(
        lambda x: np.exp(-((x - 1.25) ** 2) / 2) / np.sqrt(2 * np.pi) * (2 * ndtr(np.sqrt(3) * x) - 1),
        0,
        12,
        epsabs=1e-13,
    )
    assert found.method == "exact"
    assert found.classification_error == pytest.approx(1 - right, abs=1e-10)
    compared = errors(mixture, TwoLayer(2, "x/100 + 0.99*x"), state)
    assert compared.classification_error == pytest.approx(found.classification_error, abs=1e-12)


def test_errors_on_a_grid() -> None:
    """pmse and mean loss on the Hermite grid of the two coordinates; errors by counting 10^6 inputs."""
    network, rng = TwoLayer(3, "erf", output_scale=0.8), np.random.default_rng(5)
    A, v = rng.normal(size=(2, 3)), 2 * rng.normal(size=(3, 3))
    found = errors(MIXTURE, network, OrderParameters(MIXTURE.means @ A, A.T @ A, v), loss="cross-entropy")
    g = activation_functions("erf")[0]
    z, weight = np.polynomial.hermite_e.hermegauss(NODES)
    grid = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    measure = np.outer(weight, weight).ravel() / weight.sum() ** 2
    pmse = loss = wrong = variance = 0.0
    for P, mean, sigma, c in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.sigmas, MIXTURE.classes, strict=True):
        phi = 0.8 * g((mean + sigma * grid) @ A) @ v.T
        pmse += P * measure @ ((phi - np.eye(3)[c]) ** 2).sum(axis=1) / 2
        loss += P * measure @ charge(phi, c)
        drawn = 0.8 * g((mean + sigma * rng.normal(size=(250_000, 2))) @ A) @ v.T
        share = (drawn.argmax(axis=1) != c).mean()
        wrong, variance = wrong + P * share, variance + P**2 * share * (1 - share) / 250_000
    assert found.pmse == pytest.approx(pmse, abs=1e-7)
    assert found.loss == pytest.approx(loss, abs=1e-7 + 5 * found.loss_error)
    assert abs(found.classification_error - wrong) < 4 * np.hypot(np.sqrt(variance), found.classification_error_error)


def test_ties_share_the_guess() -> None:
    """m outputs that are the largest name a class by chance: no readout, 2/3; relu all off, (m - 1)/m of the ties."""
    mixture = Mixture.three_classes(0.5)
    none = OrderParameters(np.zeros((3, 1)), [[1.0]], np.zeros((3, 1)))
    found = errors(mixture, TwoLayer(1, "relu"), none, loss="cross-entropy")
    assert (found.classification_error, found.tie_probability) == (pytest.approx(2 / 3, abs=1e-4), 1.0)
    assert found.loss == pytest.approx(np.log(3), abs=1e-12)
    first = errors(mixture, TwoLayer(1, "relu"), OrderParameters(np.zeros((3, 1)), [[1.0]], [[1.0], [0.0], [0.0]]))
    assert first.tie_probability == pytest.approx(1 / 2, abs=1e-3)
    # half of the time class 0 is named, otherwise one of three: 1 - (1/2)(1/3) - (1/2)(1/3)
    assert first.classification_error == pytest.approx(2 / 3, abs=1e-3)


# --- records


def test_records_come_back() -> None:
    state = random_state(MIXTURE, TwoLayer(2, "erf"), 50, seed=1)
    assert state.v.shape == (3, 2)
    found = records_of(provenance(mixture=MIXTURE, rule=RULE, initial_state=state))
    assert (found["mixture"], found["rule"], found["initial_state"]) == (MIXTURE, RULE, state)
    assert Mixture(MIXTURE.means, weights=MIXTURE.weights, sigma=MIXTURE.sigma, classes=[0, 1, 2, 2]) != MIXTURE


def test_a_curve_holds_its_states() -> None:
    network, state = TwoLayer(1, "linear"), random_state(MIXTURE, TwoLayer(1, "linear"), 50, seed=1)
    run = integrate(MIXTURE, network, RULE, state, [0.0, 1.0], rtol=1e-6)
    assert run.v.dims == ("time", "output", "neuron")
    for part in ("M", "Q", "v"):  # from the coordinates of the integration: rounding
        np.testing.assert_allclose(getattr(state_at(run, 0.0), part), getattr(state, part), rtol=0, atol=1e-15)
    assert records_of(run)["mixture"] == MIXTURE
    assert run.loss.values[1] < run.loss.values[0]


def test_a_spectrum_of_one_level_is_none() -> None:
    """Densities: the same equations node by node."""
    flat = Mixture(
        MIXTURE.means,
        weights=MIXTURE.weights,
        sigma=MIXTURE.sigma,
        classes=MIXTURE.classes,
        spectrum=Spectrum([1.0, 1.0]),
    )
    network, state = TwoLayer(2, "erf"), random_state(MIXTURE, TwoLayer(2, "erf"), 50, seed=3)
    one, other = drift(MIXTURE, network, RULE, state), drift(flat, network, RULE, state)
    np.testing.assert_allclose(other.Q.sum(axis=0), one.Q, rtol=0, atol=1e-8)
    np.testing.assert_allclose(other.v, one.v, rtol=0, atol=1e-8)


def test_equations_say_what_is_read_out() -> None:
    lines = equations(MIXTURE, TwoLayer(2, "erf"), RULE).lines
    assert lines[0].startswith(r"l = \log \sum_{c} e^{\phi_{c}}")
    assert lines[-1] == r"\frac{dv_{ck}}{dt} = -\kappa_v \eta_{v} v_{ck} - \eta_{v} \sum_{a} P_{a}\, r_{ack}"


# --- bad input


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"classes": [0, 1, 3]}, r"classes must be two or more, 0, 1, .., each of a cluster, got \[0, 1, 3\]"),
        ({"classes": [0, 0, 0]}, "classes must be two or more"),
        ({"classes": [0, 1]}, r"classes must have shape \(3,\), got \(2,\)"),
        ({"classes": [0, 1, 0.5]}, "classes must be integers >= 0, got 0.5"),
        ({"classes": [0, 1, -1]}, "classes must be integers >= 0, got -1"),
        ({"classes": [0, 1, 2], "labels": [1, 1, -1]}, r"labels must be left out where clusters have classes, got \[1"),
        ({"classes": [0, 1, 1], "teacher": Teacher([[1.0]], [1.0], "erf")}, "classes must be left out where a teacher"),
    ],
)
def test_classes_that_are_none(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mixture([[0.0], [1.0], [2.0]], **given)


THREE, ERF = Mixture.three_classes(0.5), TwoLayer(2, "erf")
CROSS = OnlineSGD(0.1, loss="cross-entropy")


@pytest.mark.parametrize(
    "learner",
    [
        lambda: oracle_error(THREE),
        lambda: bayes_error(THREE, 1.0),
        lambda: erm_error(THREE, "logistic", 1.0),
        lambda: kernel_error(THREE, "rbf", 1.0, 0.1),
        lambda: random_features_error(THREE, "relu", gamma=2.0),
        lambda: fixed_point(THREE, ERF, CROSS),
        lambda: fluctuations(THREE, ERF, CROSS, random_state(THREE, ERF, 50, 0), [1.0]),
    ],
)
def test_class_labels_with_a_sign_label_learner(learner) -> None:
    with pytest.raises(ValueError, match=r"mixture must have labels \+1 or -1 here, got classes=\[0, 1, 2\]"):
        learner()


def test_outputs_that_do_not_fit() -> None:
    state, signed = random_state(THREE, ERF, 50, 0), random_state(Mixture.xor(0.5), ERF, 50, 0)
    for problem in ((THREE, ERF, OnlineSGD(0.1), state), (THREE, ERF, GradientFlow(loss="logistic"), state)):
        with pytest.raises(ValueError, match="loss must be 'cross-entropy' where clusters have classes, got"):
            drift(*problem)
    with pytest.raises(ValueError, match="mixture must have classes for loss='cross-entropy'"):
        integrate(Mixture.xor(0.5), ERF, CROSS, signed, [1.0])
    for call in (lambda s: drift(THREE, ERF, CROSS, s), lambda s: errors(THREE, ERF, s)):
        with pytest.raises(ValueError, match=r"state must have v of shape \(3, 2\), an output for each of 3 classes"):
            call(OrderParameters(state.M, state.Q, state.v[0]))
    with pytest.raises(ValueError, match=r"state must have v of shape \(2,\), one output, got \(3, 2\)"):
        errors(Mixture.xor(0.5), ERF, OrderParameters(signed.M, signed.Q, state.v))
    with pytest.raises(ValueError, match="mixture must have classes for loss='cross-entropy'"):
        errors(Mixture.xor(0.5), ERF, signed, loss="cross-entropy")
    with pytest.raises(ValueError, match=r"label_noise must be 0 for loss='cross-entropy', got 0\.1"):
        OnlineSGD(0.1, label_noise=0.1, loss="cross-entropy")
    with pytest.raises(ValueError, match="loss 'cross-entropy': 'cross' is not understood"):
        erm_error(Mixture.xor(0.5), "cross-entropy", 1.0)
    with pytest.raises(ValueError, match="digits=20 needs isotropic clusters with a label each"):
        errors(THREE, ERF, state, digits=20)
