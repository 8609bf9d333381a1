"""Thresholds and intercept: rates from the update rule alone, exact ends of learning, and what refuses them."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import ndtr

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    curve,
    drift,
    equations,
    errors,
    fixed_point,
    fixed_points,
    fluctuations,
    integrate,
    oracle_error,
    random_state,
    records_of,
    state_at,
)
from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities
from quenched.numerics.two_layer import local_fields
from quenched.numerics.two_layer.attractor import attractor, path
from quenched.numerics.two_layer.drift import Equations, drift_arrays
from quenched.numerics.two_layer.jacobian import drift_tangents
from quenched.numerics.two_layer.stationary import StationaryEquations
from quenched.numerics.two_layer.step_averages import Sampling
from quenched.numerics.two_layer.symmetry import equivalent

Array = npt.NDArray[np.float64]

MIXTURE = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])
TWO = Mixture.two_clusters(0.8)
RATES: dict[str, float] = {"bias_lr": 0.7, "bias_decay": 0.2, "intercept_lr": 0.9, "intercept_decay": 0.1}


def some_state(mixture: Mixture, K: int, seed: int = 0) -> OrderParameters:
    rng = np.random.default_rng(seed)
    A, B = 0.5 * rng.standard_normal((mixture.dimensions, K)), rng.standard_normal((K, K + 1)) / np.sqrt(K + 1)
    v, b = rng.standard_normal(K), 0.5 * rng.standard_normal(K)
    return OrderParameters(mixture.references @ A, A.T @ A + B @ B.T, v, b, 0.3)


def increments(
    mixture: Mixture, network: TwoLayer, rule: LearningRule, state: OrderParameters, nodes: int
) -> dict[str, Array]:
    """D times the average increment of M, Q, v, b and c by one step, on a tensor grid of Gauss-Hermite nodes.

    The rule as it is written, for a weight of p + K coordinates (the means' and those of the weights beside them).
    """
    g, dg = activation_functions(network.activation)
    slope, s = loss_functions(rule.loss)[1], network.output_scale
    A = state.projections(mixture)
    p, K = A.shape
    W = np.concatenate([A, np.linalg.cholesky(state.Q - A.T @ A).T])
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    weight = weight / np.sqrt(2 * np.pi)
    grid = np.stack(np.meshgrid(*[z] * (p + K), indexing="ij"), axis=-1).reshape(-1, p + K)
    density = np.prod(np.stack(np.meshgrid(*[weight] * (p + K), indexing="ij"), axis=-1).reshape(-1, p + K), axis=1)
    assert state.b is not None
    assert state.c is not None
    found = {
        "M": -rule.eta * rule.kappa * state.M,
        "Q": -2 * rule.eta * rule.kappa * state.Q,
        "v": -rule.eta_v * rule.kappa_v * state.v,
        "b": -rule.bias_lr * rule.bias_decay * state.b,
        "c": np.array(-rule.intercept_lr * rule.intercept_decay * state.c),
    }
    for mean, y, P, sigma in zip(mixture.means, mixture.labels, mixture.weights, mixture.sigmas, strict=True):
        x = sigma * grid
        x[:, :p] += mean
        bare = x @ W
        preactivation = bare + state.b
        output = s * g(preactivation) @ state.v + state.c
        slopes = slope(output, y + rule.label_noise * z[:, None])
        F, square = P * density * (weight @ slopes), P * density * (weight @ slopes**2)
        push = s * state.v * dg(preactivation)  # over F
        found["M"] = found["M"] - rule.eta * np.einsum("x,xb,xk->bk", F, x[:, :p] @ mixture.means.T, push)
        cross = np.einsum("x,xk,xl->kl", F, push, bare)
        heat = rule.eta**2 * sigma**2 / rule.batch * np.einsum("x,xk,xl->kl", square, push, push)
        found["Q"] = found["Q"] - rule.eta * (cross + cross.T) + heat
        found["v"] = found["v"] - rule.eta_v * s * F @ g(preactivation)
        found["b"] = found["b"] - rule.bias_lr * F @ push
        found["c"] = found["c"] - rule.intercept_lr * F.sum()
    return found


def gap(rate: Any, expected: dict[str, Array]) -> float:
    """The largest difference, relative to the largest entry of each."""
    return max(
        float(np.abs(getattr(rate, name) - value).max() / max(1.0, np.abs(value).max()))
        for name, value in expected.items()
    )


@pytest.mark.parametrize("rule", [OnlineSGD(0.3, 0.1, label_noise=0.5, batch=2, **RATES), OnlineSGD(0.3, bias_lr=0.4)])
@pytest.mark.parametrize("activation", ["erf", "he2", "sin"])
def test_rates_are_the_average_increment(rule: OnlineSGD, activation: str) -> None:
    """Gauss-Hermite converges geometrically for entire integrands: 24 nodes a dimension leave less than 1e-9 here."""
    network, state = TwoLayer(2, activation, output_scale=1.3), some_state(MIXTURE, 2)
    rate = drift(MIXTURE, network, rule, state)
    assert rate.method == "closed form"
    assert gap(rate, increments(MIXTURE, network, rule, state, 24)) < 1e-9


@pytest.mark.parametrize(("activation", "K"), [("erf", 1), ("sin", 2)])
def test_logistic_rates_are_the_average_increment(activation: str, K: int) -> None:
    """By quadrature.  Poles of the slope at phi = i pi leave the Hermite grid an error of 1e-6 with 30 nodes."""
    rule = OnlineSGD(0.3, loss="logistic", **RATES)
    network, state = TwoLayer(K, activation), some_state(MIXTURE, K)
    rate = drift(MIXTURE, network, rule, state)
    assert rate.method == "quadrature"
    assert gap(rate, increments(MIXTURE, network, rule, state, 40 if K == 1 else 30)) < 3e-6


@pytest.mark.parametrize(("loss", "taught"), [("square", False), ("square", True), ("hinge", False)])
def test_closed_forms_and_quadrature_agree_with_sampling(loss: str, taught: bool) -> None:
    """relu, and a teacher, on inputs with a spectrum: averages that share nothing, within 5 standard errors."""
    labels: dict[str, Any] = {"teacher": Teacher([[0.3, 1.0]], [0.8], "relu")} if taught else {"labels": [1, -1, 1]}
    spectrum = Spectrum.two_level(0.5, 2.0, fraction=0.25)
    mixture = Mixture(MIXTURE.means, weights=MIXTURE.weights, sigma=MIXTURE.sigmas, spectrum=spectrum, **labels)
    K = 3 if loss == "square" else 1
    network, rule = TwoLayer(K, "relu"), OnlineSGD(0.3, loss=loss, **RATES)
    state = Densities.spread(mixture, some_state(mixture, K))
    rate = drift(mixture, network, rule, state)
    assert rate.method == ("closed form" if loss == "square" else "quadrature")
    sampled = Equations(mixture, network, rule, Sampling(1e-5, 3, 2**17))
    sampled.step.closed, sampled.step.quadrature = False, None
    (dA, dQ, moved), error, method = sampled(state.A, state.Q, state.parameters)
    assert "Monte Carlo" in method
    assert rate.b is not None
    assert rate.c is not None
    exact = np.concatenate([rate.v, rate.b, [rate.c]])
    for found, expected in ((dA, rate.A), (dQ, rate.Q), (moved, exact)):  # type: ignore[union-attr]
        assert np.abs(found - expected).max() < 5 * error + 1e-9


@pytest.mark.parametrize("rule", [OnlineSGD(0.3, 0.1, label_noise=0.2, **RATES), GradientFlow(**RATES)])
@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_tangents_are_differences_of_the_rates(rule: LearningRule, activation: str) -> None:
    """Central differences of step h = 1e-5 err by h^2 and by the rounding of the rates, 1e-14/h: 1e-8 bounds both."""
    network, state = TwoLayer(2, activation, output_scale=1.3), some_state(MIXTURE, 2)
    rates, tangents = drift_arrays(MIXTURE, network, rule), drift_tangents(MIXTURE, network, rule)
    assert tangents is not None
    here = state.projections(MIXTURE), state.Q, state.parameters
    rng, h = np.random.default_rng(1), 1e-5
    along = [rng.standard_normal((*x.shape, 3)) for x in here]
    along[1] = along[1] + along[1].swapaxes(0, 1)
    found = tangents(*here, *along)
    for z in range(3):
        ahead, behind = (rates(*(x + s * d[..., z] for x, d in zip(here, along, strict=True))) for s in (h, -h))
        for one, other, exact in zip(ahead, behind, found, strict=True):
            assert np.abs((one - other) / (2 * h) - exact[..., z]).max() < 1e-8 * max(1.0, np.abs(exact).max())


# --- exact ends


def test_a_linear_neuron_ends_at_least_squares_with_an_intercept() -> None:
    """v = 1 frozen: gradient flow minimises E[(w.x + c - y)^2]/2, whose normal equations are linear.

    The residual weights decay; threshold and intercept are one parameter here, so that b stays where it is.  Rates
    towards the end are the eigenvalues of the matrix of the normal equations.
    """
    rule = GradientFlow(second_lr=0.0, intercept_lr=1.0)
    P, means, y = MIXTURE.weights, MIXTURE.means, MIXTURE.labels
    second = np.einsum("a,ai,aj->ij", P, means, means) + P @ MIXTURE.sigmas**2 * np.eye(2)
    normal = np.block([[second, (P @ means)[:, None]], [(P @ means)[None], np.ones((1, 1))]])
    best = np.linalg.solve(normal, np.append((P * y) @ means, P @ y))
    start = OrderParameters([[0.0]] * 3, [[0.4]], [1.0])
    data = integrate(MIXTURE, TwoLayer(1, "linear"), rule, start, [0.0, 200.0])
    np.testing.assert_allclose(data.M[-1, :, 0], means @ best[:2], rtol=0, atol=1e-7)
    np.testing.assert_allclose(data.c[-1], best[2], rtol=0, atol=1e-7)
    np.testing.assert_allclose(data.pmse[-1], 0.5 * (1 - best @ np.append((P * y) @ means, P @ y)), atol=1e-7)
    np.testing.assert_array_equal(data.b, 0)
    found = fixed_point(MIXTURE, TwoLayer(1, "linear"), rule, OrderParameters(means @ [[0.1], [0.1]], [[0.02]], [1.0]))
    assert found.state.c == pytest.approx(best[2], abs=1e-9)
    expected = -np.linalg.eigvalsh(normal)
    assert np.abs(found.eigenvalues.real[:, None] - expected).min(axis=0).max() < 1e-8
    assert found.stable


def test_logistic_regression_with_an_intercept_is_the_oracle_of_unequal_clusters() -> None:
    """The log-odds of two clusters are 2 mean.x/sigma^2 + log(P_1/P_2): the flow on the logistic loss ends there.

    Without an intercept it cannot: the error is then that of another threshold.
    """
    sigma, P = 0.9, np.array([0.85, 0.15])
    mixture = Mixture([[1.0], [-1.0]], [1, -1], weights=P, sigma=sigma)
    network, start = TwoLayer(1, "linear"), OrderParameters([[0.5], [-0.5]], [[0.25]], [1.0])
    rule = GradientFlow(loss="logistic", second_lr=0.0, intercept_lr=1.0)
    found = fixed_point(mixture, network, rule, start)
    assert found.state.M[0, 0] == pytest.approx(2 / sigma**2, abs=1e-8)
    assert found.state.c == pytest.approx(np.log(P[0] / P[1]), abs=1e-8)
    oracle = float(oracle_error(mixture).value)
    assert found.classification_error == pytest.approx(oracle, abs=1e-10)
    alone = fixed_point(mixture, network, dataclasses.replace(rule, intercept_lr=0.0), start)
    assert alone.classification_error > oracle + 0.005


def test_a_threshold_and_an_intercept_of_a_linear_neuron_are_one_parameter() -> None:
    """lambda = w.x + b, phi = v lambda + c: the same output for b and for c = v b, and rates in the same proportion."""
    network, v, b = TwoLayer(1, "linear"), 0.7, 0.4
    weights = OrderParameters([[0.3], [-0.3]], [[0.5]], [v])
    one, other = (dataclasses.replace(weights, **where) for where in ({"b": [b]}, {"c": v * b}))
    first, second = errors(TWO, network, one), errors(TWO, network, other)
    assert first.pmse == pytest.approx(second.pmse, abs=1e-13)
    assert first.classification_error == pytest.approx(second.classification_error, abs=1e-13)
    rule = GradientFlow(bias_lr=1.0, intercept_lr=1.0)
    rates = [drift(TWO, network, rule, state) for state in (one, other)]
    for rate in rates:
        assert rate.b is not None
        np.testing.assert_allclose(rate.b, v * np.array([rate.c]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(rates[0].c, rates[1].c, rtol=0, atol=1e-13)


def test_the_errors_of_a_fixed_point_know_its_intercept() -> None:
    """Weights of 0 are kept by decay: phi = c, which ends at the mean label, 0.2.

    Two clusters mirror each other at c = 0 too, where phi = 0 is a tie: not what stands for them here.
    """
    mixture = Mixture([[1.0], [-1.0], [0.0]], [-1, -1, 1], weights=[0.2, 0.2, 0.6], sigma=0.5)
    network = TwoLayer(1, "erf")
    rule = GradientFlow(second_lr=0.0, intercept_lr=1.0, weight_decay=0.5)
    found = fixed_point(mixture, network, rule, OrderParameters([[0.0]] * 3, [[0.0]], [1.0], c=0.1))
    assert found.state.c == pytest.approx(0.2, abs=1e-9)
    assert found.pmse == pytest.approx((1 - 0.2**2) / 2, abs=1e-9)
    assert found.classification_error == pytest.approx(0.4, abs=1e-9)


# --- errors


@pytest.mark.parametrize(("activation", "K"), [("linear", 2), ("relu", 1), ("relu", 3), ("erf", 2), ("erf", 4)])
def test_errors_with_biases_against_samples(activation: str, K: int) -> None:
    """10^6 samples of the fields of each cluster: five standard errors, and the numerical error stated."""
    network, state, n = TwoLayer(K, activation, output_scale=0.8), some_state(MIXTURE, K, 3), 10**6
    found = errors(MIXTURE, network, state, loss="logistic")
    g = activation_functions(activation)[0]
    rng = np.random.default_rng(0)
    totals, spreads = np.zeros(3), np.zeros(3)
    assert state.b is not None
    assert state.c is not None
    for M, y, P, sigma in zip(state.M, MIXTURE.labels, MIXTURE.weights, MIXTURE.sigmas, strict=True):
        field = M + state.b + sigma * rng.standard_normal((n, K)) @ np.linalg.cholesky(state.Q).T
        phi = 0.8 * g(field) @ state.v + state.c
        parts = np.stack([(phi - y) ** 2 / 2, y * phi < 0, np.logaddexp(0, -y * phi)])
        totals += P * parts.mean(axis=1)
        spreads += P**2 * parts.var(axis=1) / n
    assert found.loss is not None
    assert found.loss_error is not None
    stated = np.array([found.pmse_error, found.classification_error_error, found.loss_error])
    measured = np.array([found.pmse, found.classification_error, found.loss])
    assert (np.abs(measured - totals) < 5 * np.sqrt(spreads) + 5 * stated).all()


def test_the_error_of_a_linear_neuron_is_that_of_its_threshold() -> None:
    state = OrderParameters([[1.0], [-1.0]], [[1.0]], [1.0], c=0.3)
    mixture = Mixture([[1.0], [-1.0]], [1, -1], weights=[0.7, 0.3], sigma=0.5)
    expected = 0.7 * ndtr(-1.3 / 0.5) + 0.3 * ndtr(-0.7 / 0.5)
    assert errors(mixture, TwoLayer(1, "linear"), state).classification_error == pytest.approx(expected, abs=1e-14)


def test_a_teacher_and_an_intercept() -> None:
    """y = nu, phi = lambda + c of the same weights: phi - y = c, and the sign is wrong where |nu| < |c| on one side."""
    mixture = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "linear"))
    state = OrderParameters([[0.0], [1.0]], [[1.0]], [1.0], c=0.2)
    found = errors(mixture, TwoLayer(1, "linear"), state)
    assert found.pmse == pytest.approx(0.02, abs=1e-12)
    wrong = ndtr(0.2) - 0.5
    assert abs(found.classification_error - wrong) < 5 * found.classification_error_error


@pytest.mark.parametrize("g", [lambda x: np.sin(2 * np.pi * x), lambda x: max(x - 5, 0), lambda x: 1 / (1 - x)])
def test_an_intercept_needs_a_field_at_which_the_activation_speaks(g: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An intercept c is one more neuron, c/g(x) g(x): not at an x where g is 0 up to rounding, or infinite."""
    constant = local_fields._constant.__wrapped__
    monkeypatch.setattr(local_fields, "activation_functions", lambda _: (lambda x: np.float64(g(x)), None))
    field, value = constant("as patched")
    assert abs(value) >= 0.5
    assert value == g(field)
    monkeypatch.setattr(local_fields, "activation_functions", lambda _: (lambda x: 1e-4 * g(x) / (1 + g(x) ** 2), None))
    with pytest.raises(ValueError, match=r"'faint' is below 0\.001 at all 519 fields tried, from -40 to 40"):
        constant("faint")


def test_the_error_of_a_drift_grows_with_the_intercept_and_the_label_noise() -> None:
    """Averages over four fields are known to 1e-10 of what is averaged: dQ_kk/dt, of order c^2 or noise^2, to no less.

    Only the intercept moves in the second: dc/dt = -eta_c (c - ..), of a relative error above 1e-13.
    """
    network, start = TwoLayer(1, "erf"), OrderParameters([[0.4], [-0.4]], [[0.8]], [0.9], c=0.1)
    for state, rule in (
        (dataclasses.replace(start, c=1e6), OnlineSGD(1.0, bias_lr=1.0, intercept_lr=1.0)),
        (start, OnlineSGD(1.0, label_noise=1e6)),
    ):
        found = drift(TWO, network, rule, state)
        assert found.Q[0, 0] > 1e10
        assert 1e-11 * found.Q[0, 0] < found.error < 1e-7 * found.Q[0, 0]
    alone = drift(
        TWO, network, GradientFlow(0.0, second_lr=0.0, intercept_lr=1.0), dataclasses.replace(start, v=[0.0], c=1e6)
    )
    assert 1e-14 * 1e6 < alone.error < 1e-9 * 1e6


# --- records and refusals


def test_states_and_curves_keep_their_biases() -> None:
    network, rule = TwoLayer(2, "erf"), OnlineSGD(0.3, bias_lr=0.4, intercept_lr=0.2)
    start = random_state(TWO, network, 100, seed=1)
    assert start.b is None
    data = integrate(TWO, network, rule, start, [0.0, 1.0])
    assert data.b.dims == ("time", "neuron")
    np.testing.assert_array_equal([*data.b[0], data.c[0]], 0)
    assert "b" not in json.loads(data.attrs["initial_state"])
    assert records_of(data)["sgd"] == rule
    end = state_at(data, 1.0)
    again = integrate(TWO, network, rule, end, [0.0])
    assert records_of(again)["initial_state"] == end
    np.testing.assert_array_equal(again.b[0], data.b[1])
    # biases that do not learn stay
    frozen = integrate(TWO, network, OnlineSGD(0.3), end, [0.0, 1.0])
    np.testing.assert_array_equal(frozen.b[1], data.b[1])
    assert r"\frac{dc}{dt}" in str(equations(TWO, network, rule))


STATE = OrderParameters([[0.1], [-0.1]], [[1.0]], [1.0], c=0.1)
ONE, BIASED = TwoLayer(1, "linear"), GradientFlow(intercept_lr=1.0, second_lr=0.0)
PLAIN = GradientFlow(second_lr=0.0)
BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: OnlineSGD(0.1, bias_lr=-1.0), "bias_lr must be finite and >= 0, got -1"),
    (lambda: OrderParameters([[0.0]], [[1.0]], [1.0], b=[0.0, 1.0]), r"b must have shape \(1,\), got \(2,\)"),
    (lambda: OrderParameters([[0.0]], [[1.0]], [1.0], c=np.nan), "c must be finite, got nan"),
    (lambda: errors(TWO, ONE, STATE, digits=20), "digits=20 needs a state without b and c"),
    (lambda: fixed_points(TWO, ONE, BIASED, seeds=[0]), "rule must have bias_lr = 0 and intercept_lr = 0, got 0 and 1"),
    (lambda: curve(TWO, ONE, BIASED, "sigma", [0.5, 1.0], STATE), "rule must have bias_lr = 0 and intercept_lr = 0"),
    (lambda: fixed_point(TWO, ONE, GradientFlow(), STATE), "guess has b and c, which this rule leaves as they are"),
    (lambda: curve(TWO, ONE, PLAIN, "sigma", [0.5, 1.0], STATE), "guess has b and c, which this rule leaves"),
    (lambda: fixed_points(TWO, ONE, PLAIN, [3], start=lambda _: STATE), r"start\(3\) has b and c, which this rule"),
    (lambda: attractor(StationaryEquations(TWO, ONE, PLAIN), STATE, 1.0), "state has b and c, which this rule leaves"),
    (lambda: path(TWO, ONE, PLAIN, STATE, [1.0]), "state has b and c, which this rule leaves"),
    (lambda: equivalent(TWO, ONE, STATE, STATE), r"state must be without b and c, got b=\[0.0\], c=0.1"),
    (lambda: fluctuations(TWO, ONE, OnlineSGD(0.1), STATE, [1.0]), "rule and state must have no biases"),
    (
        lambda: drift_arrays(TWO, ONE, BIASED)(np.zeros((1, 1)), np.eye(1), np.ones(1)),
        "v must hold v, b and c, 3 numbers, where biases learn",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
