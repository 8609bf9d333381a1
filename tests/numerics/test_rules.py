"""Learning rules: schedules, frozen parts, weights on a sphere, a bath, and problems that change in time."""

import json
from typing import Any

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    drift,
    fixed_point,
    fluctuations,
    integrate,
    random_state,
    records_of,
    state_at,
)
from quenched.numerics.course.pieces import course
from quenched.numerics.problem.schedules import rate, rate_at
from quenched.numerics.two_layer.flow import IntegrationError

XOR, ERF = Mixture.xor(0.5), TwoLayer(2, "erf")
PAIR, LINEAR = Mixture.two_clusters(0.8, separation=1.5), TwoLayer(1, "linear")
START = random_state(XOR, ERF, D=100, seed=1)
R, SIGMA, U = 1.5, 0.8, 1.2
ONE = OrderParameters([[-0.2 * R], [0.2 * R]], [[0.7]], [U])


def close(one: Any, other: Any, atol: float) -> None:
    for name in ("M", "Q", "v"):
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=atol, err_msg=name)


# --- schedules


def test_a_schedule_has_one_form() -> None:
    table = ((0.0, 0.5), (10.0, 0.5), (10.0, 0.05))
    assert OnlineSGD("0.5") == OnlineSGD(0.5) == OnlineSGD("1/2")
    assert OnlineSGD("1/(1+t)") == OnlineSGD(" 1 / (1 + t)")
    for given in (table, [list(pair) for pair in table], np.array(table), "0:0.5, 10:0.5, 10:0.05"):
        assert OnlineSGD(given).lr == table
    rule = OnlineSGD("0.5*exp(-t)", table, frozen=[1, "v"], temperature="t", sphere=True)
    assert OnlineSGD.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    assert "exp" in repr(rule)
    assert rule.second_lr is None
    now = rule.rates([0.0, 9.0, 10.0, 99.0])
    np.testing.assert_allclose(now.eta, 0.5 * np.exp([0, -9, -10, -99]))
    np.testing.assert_array_equal(now.kappa, [0.5, 0.5, 0.05, 0.05])
    np.testing.assert_array_equal(now.eta_v, now.eta)
    assert rule.breaks == (0.0, 10.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Max(0.1, 1 - t, 0.2)", 0.2),
        ("(1 + t)**-2 + sqrt(t)/E", 1 / 16 + np.sqrt(3) / np.e),
        ("Heaviside(t - 3)", 0.5),
        ("sigmoid(t) + abs(t) - t", 1 / (1 + np.exp(-3))),
        ("pi*erf(t) + atan(t)", np.pi * 0.9999779095030014 + np.arctan(3)),
    ],
)
def test_expressions_in_t(text: str, value: float) -> None:
    assert float(rate_at("lr", rate("lr", text), 3.0)) == pytest.approx(value, rel=1e-14)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"lr": "t - 1"}, "lr must be finite and >= 0, got -1 of 't - 1' at t = 0"),
    ({"lr": "-1"}, "lr must be finite and >= 0, got -1.0"),
    ({"lr": "log(t)"}, "lr must be finite and >= 0, got -inf of 'log.t.' at t = 0"),
    ({"lr": [(0, 1), (2, -0.5)]}, "lr must be finite and >= 0, got -0.5 at t = 2"),
    ({"lr": [(1, 1), (0, 1)]}, "lr must be a table of times that do not fall"),
    ({"lr": [(-1, 1), (0, 1)]}, "lr must be a table of times >= 0, got -1"),
    ({"lr": "1:2:3"}, "lr must be a table t:value"),
    ({"lr": "x"}, "lr must be a number, an expression in t, or a table .*'x' is not understood"),
    ({"lr": "__import__('os')"}, "lr must be a number, an expression in t"),
    ({"lr": [0.1, 0.2]}, r"lr must have shape \(any, 2\)"),
    ({"lr": 0.1, "weight_decay": "t:1"}, "weight_decay must be a table"),
    ({"lr": 0.1, "temperature": -1}, "temperature must be finite and >= 0, got -1"),
    ({"lr": 0.1, "frozen": ["x1"]}, "frozen must be names such as 'w', .* got 'x1'"),
    ({"lr": 0.1, "frozen": 1.5}, "frozen must be names such as"),
    ({"lr": 0.1, "sphere": 1}, "sphere must be True or False, got 1"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[str(fields) for fields, _ in BAD])
def test_bad_rules(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OnlineSGD(**fields)


def test_what_goes_negative_is_refused_with_the_time_and_the_value() -> None:
    with pytest.raises(ValueError, match=r"lr must be finite and >= 0, got -0.00\d+ of '1 - t/10' at t = 10.00\d+"):
        integrate(XOR, ERF, OnlineSGD("1 - t/10"), START, [20.0])
    integrate(XOR, ERF, OnlineSGD("1 - t/10"), START, [1.0])  # not before that time
    for text in ("-t", "-t**2", "exp(-t) - 1"):  # 0 at the start, and negative ever after
        with pytest.raises(ValueError, match=r"lr must be finite and >= 0, got -.* at t = 1e-06"):
            OnlineSGD(text)
    with pytest.raises(ValueError, match=r"frozen must name neurons below K = 2, got 'w2'"):
        integrate(XOR, ERF, OnlineSGD(0.1, frozen="w2"), START, [1.0])


def test_a_schedule_of_gradient_flow_is_another_clock() -> None:
    """dX/dt = eta(t) f(X): X at t is that of eta = 1 at the integral of eta, log(1 + t)."""
    t = np.array([0.5, 2.0, 9.0])
    scheduled = integrate(XOR, ERF, GradientFlow("1/(1 + t)", weight_decay=0.1), START, t)
    close(scheduled, integrate(XOR, ERF, GradientFlow(weight_decay=0.1), START, np.log1p(t)), 1e-7)


def test_a_linear_neuron_with_schedules_and_a_bath() -> None:
    """The equations of one linear neuron close on (A, Q): by another solver, from formulas that are written here.

        dA/dt = -eta u (u (r^2 + sigma^2) A - r) - eta kappa A,   S = r^2 A^2 + sigma^2 Q
        dQ/dt = -2 eta u (u S - r A) + eta^2 u^2 sigma^2 (u^2 S - 2 u r A + 1) - 2 eta kappa Q + 2 eta T

    Both solvers keep 1e-8 a step: a factor 100 for all steps.
    """
    rule = OnlineSGD("0.5/(1 + t/3)", ((0, 0.3), (2, 0.1), (2, 0.6)), second_lr=0.0, temperature="0.4 + 0.3*sin(t)")

    def slope(t: float, y: np.ndarray) -> list[float]:
        A, Q = y
        eta, T = 0.5 / (1 + t / 3), 0.4 + 0.3 * np.sin(t)
        kappa = 0.3 - 0.1 * t if t < 2 else 0.6
        S = R**2 * A**2 + SIGMA**2 * Q
        heat = eta**2 * U**2 * SIGMA**2 * (U**2 * S - 2 * U * R * A + 1) + 2 * eta * T
        dA = -eta * U * (U * (R**2 + SIGMA**2) * A - R) - eta * kappa * A
        return [dA, -2 * eta * U * (U * S - R * A) + heat - 2 * eta * kappa * Q]

    tight: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-12, "method": "DOP853"}
    first = solve_ivp(slope, (0, np.nextafter(2, 0)), [-0.2, 0.7], **tight)
    second = solve_ivp(slope, (2, 5), first.y[:, -1], **tight)
    found = integrate(PAIR, LINEAR, rule, ONE, [2.0, 5.0])
    np.testing.assert_allclose(found.Q[:, 0, 0], [first.y[1, -1], second.y[1, -1]], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.M[:, 0, 0], R * np.array([first.y[0, -1], second.y[0, -1]]), rtol=0, atol=1e-6)


def test_a_jump_is_the_end_of_a_piece() -> None:
    """A table with a jump, and two rules one after the other: the same numbers, and the first is not smeared out."""
    t = [1.0, 2.0, 3.0, 6.0]
    table = integrate(XOR, ERF, OnlineSGD(((0, 0.8), (2, 0.8), (2, 0.1))), START, t)
    pieces = integrate(XOR, ERF, [(OnlineSGD(0.8), 2.0), (OnlineSGD(0.1), None)], START, t)
    close(table, pieces, 0.0)
    halves = integrate(XOR, ERF, OnlineSGD(0.8), START, [1.0, 2.0])
    close(table.isel(time=slice(2)), halves, 1e-8)
    after = integrate(XOR, ERF, OnlineSGD(0.1), state_at(halves, 2.0), [4.0])
    close(table.isel(time=3), after.isel(time=0), 1e-7)
    assert records_of(pieces)["sgd"] == [[OnlineSGD(0.8), 2.0], [OnlineSGD(0.1), None]]
    assert records_of(table)["sgd"] == OnlineSGD("0:0.8, 2:0.8, 2:0.1")
    # a jump at the very end is not met either: 84 evaluations, where steps across it would take hundreds
    last = integrate(XOR, ERF, OnlineSGD("0:0.5, 1:0.5, 1:50"), START, [1.0], quantities=("pmse",))
    assert json.loads(last.attrs["solver"])["evaluations"] < 100
    close(last, integrate(XOR, ERF, OnlineSGD(0.5), START, [1.0], quantities=("pmse",)), 1e-12)
    with pytest.raises(ValueError, match=r"until must reach the last time, 6, got 5"):
        integrate(XOR, ERF, [(OnlineSGD(0.8), 5.0)], START, t)


# --- frozen parts


def test_frozen_parts_stay_and_the_rest_learns_as_before() -> None:
    t = [0.0, 1.0, 4.0]
    layers = {"w": OnlineSGD(0.0, 0.2, second_lr=0.5), "v": OnlineSGD(0.5, 0.2, second_lr=0.0)}
    for name, rule in layers.items():  # a frozen layer is one with rate 0
        close(integrate(XOR, ERF, OnlineSGD(0.5, 0.2, frozen=name), START, t), integrate(XOR, ERF, rule, START, t), 0.0)
    found = integrate(XOR, ERF, OnlineSGD(0.5, 0.2, frozen=("w1", "v0")), START, t)
    for index in ((slice(None), slice(None), 1), (slice(None), slice(None), 0)):
        moved = np.ptp(found.M.values[index], axis=0).max()
        assert moved == 0 if index[2] == 1 else moved > 0.01
    assert np.ptp(found.Q.values[:, 1, 1]) < 1e-14
    assert np.ptp(found.Q.values[:, 0, 1]) > 0.01
    assert np.ptp(found.v.values[:, 0]) == 0
    assert np.ptp(found.v.values[:, 1]) > 0.01
    still = integrate(XOR, ERF, OnlineSGD(0.5, 0.2, frozen=(0, 1)), START, t)
    assert np.ptp(still.Q.values, axis=0).max() < 1e-14


def test_a_frozen_neuron_keeps_its_threshold_and_frozen_weights_do_not() -> None:
    """The others have the rates that they have beside a neuron that learns; sphere and bath are none of thresholds'."""
    biased: dict[str, Any] = {"bias_lr": 0.7, "bias_decay": 0.2, "intercept_lr": 0.4}
    state = OrderParameters(START.M, START.Q, START.v, [0.3, -0.2], 0.1)

    def moved(**options: Any) -> Any:
        return drift(XOR, ERF, OnlineSGD(0.5, **biased, **options), state)

    free = moved()
    for parts, kept in (("1", [1, 0]), (("w1", "v1"), [1, 1]), ("w", [1, 1])):
        found = moved(frozen=parts)
        np.testing.assert_array_equal(found.b, free.b * np.array(kept))
        assert found.c == free.c
    for options in ({"sphere": True}, {"temperature": 0.3}):
        np.testing.assert_array_equal(moved(**options).b, free.b)


# --- weights on a sphere


def test_hebbian_learning_on_a_sphere_has_an_exact_solution() -> None:
    """A linear neuron with the correlation loss, |w|^2 = D: A = w.e/sqrt(D) solves the Riccati equation

        dA/dt = eta u r (1 - A^2) - eta^2 u^2 sigma^2 A/2 = eta u r (a - A)(A - b)

    whose second term is that of second order in the step; a > 0 > b are the roots of 1 - c A - A^2.
    """
    eta = 0.7
    c = eta * U * SIGMA**2 / (2 * R)
    a, b = (-c + np.array([1, -1]) * np.sqrt(c**2 + 4)) / 2
    t = np.array([0.0, 0.3, 1.0, 20.0])
    start = OrderParameters([[-0.1 * R], [0.1 * R]], [[1.0]], [U])
    rule = OnlineSGD(eta, second_lr=0.0, loss="correlation", sphere=True)
    found = integrate(PAIR, LINEAR, rule, start, t)
    ratio = (-0.1 - b) / (a + 0.1) * np.exp(eta * U * R * (a - b) * t)  # (A - b)/(a - A)
    np.testing.assert_allclose(found.M[:, 0, 0], R * (a * ratio + b) / (1 + ratio), rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.Q[:, 0, 0], 1, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(found.v, U)


def test_lengths_are_kept_whatever_else_the_rule_does() -> None:
    rule = OnlineSGD("0.5/(1 + t)", 0.3, temperature=0.2, sphere=True, batch=2, label_noise=0.3)
    law = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, 0.25))
    for mixture in (XOR, law):
        state = random_state(mixture, ERF, 100, 2)
        found = integrate(mixture, ERF, rule, state, [0.0, 1.0, 10.0])
        lengths = np.einsum("tkk->tk", found.Q)
        np.testing.assert_allclose(lengths[1:], lengths[[0, 0]], rtol=1e-7)
        assert np.ptp(found.Q.values[:, 0, 1]) > 0.01
    # growth_k has |w_k|^2 = 1 below it: errors of dQ_kk come in with factors of order 1
    held, free = (drift(XOR, ERF, OnlineSGD(0.5, sphere=sphere), START) for sphere in (True, False))
    assert free.error <= held.error < 4 * free.error


def test_a_weight_of_length_0_cannot_be_scaled_back() -> None:
    """A rule with a sphere refuses it where it is given; rates that are no numbers are met at once, not looked for."""
    flat = OrderParameters(XOR.means @ [[0.3, 0.0], [0.0, 0.0]], np.diag([1.0, 0.0]), [1.0, 1.0])
    rule, message = OnlineSGD(0.3, sphere=True), r"state must have weights of length > 0 where sphere=True .* \[1. 0.\]"
    with pytest.raises(ValueError, match=message):
        drift(XOR, ERF, rule, flat)
    with pytest.raises(ValueError, match=message):
        integrate(XOR, ERF, rule, flat, [2.0])
    grown = integrate(XOR, ERF, [(OnlineSGD(0.3), 1.0), (rule, 2.0)], flat, [1.0, 2.0], quantities=("pmse",))
    np.testing.assert_allclose(np.diagonal(grown.Q[1]), np.diagonal(grown.Q[0]), rtol=1e-8)  # it grows before
    huge = OrderParameters([[0.0], [0.0]], [[1.0]], [1e90])  # the noise is of order v^4
    with pytest.raises(IntegrationError, match="stopped at t = 0 of 1: the rates are not finite there"):
        integrate(PAIR, LINEAR, OnlineSGD(0.3), huge, [1.0])


# --- a bath


def test_a_bath_leads_to_equipartition() -> None:
    """Langevin dynamics of a linear neuron at fixed readout is Gaussian: exp(-H/T), H = D E[l] + kappa |w|^2/2.

    H is quadratic with stiffness u^2 sigma^2 + kappa in the D - 1 directions beside the means: Q - A^2 goes to T over
    it, and A to the minimum of H.  Times of ten relaxation times leave e^-20.
    """
    T, kappa = 0.3, 0.2
    found = integrate(PAIR, LINEAR, GradientFlow(weight_decay=kappa, second_lr=0.0, temperature=T), ONE, [0.0, 30.0])
    A = found.M.values[-1, 0, 0] / R
    assert pytest.approx(U * R / (U**2 * (R**2 + SIGMA**2) + kappa), abs=1e-6) == A
    assert found.Q.values[-1, 0, 0] - A**2 == pytest.approx(T / (U**2 * SIGMA**2 + kappa), abs=1e-6)


# --- problems that change in time


def test_the_neurons_of_several_teachers_say_whose_they_are() -> None:
    teachers = [
        Teacher(weights, np.ones(len(weights)), "linear") for weights in ([[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5]])
    ]
    tasks = [Mixture([[0.0, 0.0]], teacher=teacher) for teacher in teachers]
    state = OrderParameters(np.zeros((5, 1)), [[0.5]], [U])
    found = integrate([(tasks[0], 0.1), (tasks[1], None)], LINEAR, GradientFlow(second_lr=0.0), state, [0.1, 0.2])
    assert found.task_of_teacher.dims == found.R.dims[1:2]
    assert found.task_of_teacher.values.tolist() == [0, 0, 1]


def test_what_is_forgotten_while_another_task_is_learned() -> None:
    """Gradient flow of a linear neuron at fixed readout, two tasks with orthogonal means: A_b relaxes exponentially,

        dA_b/dt = -u (u (sigma^2 + r^2) A_b - r) while b is learned, -u^2 sigma^2 A_b while it is not,

    and the error of a task is that of a linear rule, Phi(-r A_b/(sigma |w|)), all along.
    """
    from scipy.special import ndtr

    tasks = [Mixture([[R * a, R * b], [-R * a, -R * b]], [1, -1], sigma=SIGMA) for a, b in ((1, 0), (0, 1))]
    state = OrderParameters(np.array([[1, 0], [-1, 0], [0, 1], [0, -1]]) @ [[0.1 * R], [0.2 * R]], [[0.5]], [U])
    t = np.array([0.0, 0.4, 1.0, 1.7])
    found = integrate([(tasks[0], 1.0), (tasks[1], None)], LINEAR, GradientFlow(second_lr=0.0), state, t)
    fast, slow, goal = U**2 * (SIGMA**2 + R**2), U**2 * SIGMA**2, U * R / (U**2 * (SIGMA**2 + R**2))
    early, late = np.minimum(t, 1), np.maximum(t - 1, 0)
    one = (goal + (0.1 - goal) * np.exp(-fast * early)) * np.exp(-slow * late)
    two = goal + (0.2 * np.exp(-slow * early) - goal) * np.exp(-fast * late)
    np.testing.assert_allclose(found.M[:, [0, 2], 0], R * np.stack([one, two], axis=1), rtol=0, atol=1e-6)
    free = (0.5 - 0.05) * np.exp(-2 * slow * t)
    length = np.sqrt(free + one**2 + two**2)
    error = ndtr(-R * np.stack([one, two], axis=1) / (SIGMA * length[:, None]))
    np.testing.assert_allclose(found.classification_error, error, rtol=0, atol=1e-6)
    assert found.task_of.values.tolist() == [0, 0, 1, 1]
    assert "task_of_teacher" not in found
    assert found.learned.values.tolist() == [0, 0, 1, 1]
    assert records_of(found)["mixture"] == [[tasks[0], 1.0], [tasks[1], None]]


def test_pieces_of_one_problem_are_that_problem() -> None:
    t = [0.5, 1.0, 3.0]
    whole = integrate(XOR, ERF, OnlineSGD(0.5), START, t)
    found = integrate([(XOR, 1.0), (XOR, None)], ERF, OnlineSGD(0.5), START, t)
    close(whole, found, 1e-7)
    assert "task" not in found.dims
    assert random_state([(XOR, 1.0), (XOR, None)], ERF, 100, 1) == START


def test_teachers_and_fewer_coordinates() -> None:
    """A task with a teacher after one with labels: what the state has of the teacher is there from the start."""
    taught = Mixture([[0.0, 0.0, 0.0]], teacher=Teacher([[0.0, 0.0, 1.0]], [1.0], "erf"))
    pieces = [(XOR, 1.0), (taught, 2.0), (XOR, None)]
    plan = course(pieces, OnlineSGD(0.5))
    assert [piece.task for piece in plan.pieces] == [0, 1, 0]
    assert plan.joint.references.shape == (6, 3)
    assert plan.rows(0).tolist() == [0, 1, 2, 3]
    assert plan.rows(1).tolist() == [4, 5]
    state = random_state(pieces, ERF, 100, 3)
    found = integrate(pieces, ERF, OnlineSGD(0.5), state, [0.0, 1.0, 2.0, 3.0])
    assert found.sizes == {"time": 4, "cluster": 5, "neuron": 2, "neuron_": 2, "teacher": 1, "task": 2}
    np.testing.assert_allclose(found.R[0], state.M[5:], atol=1e-14)
    alone = integrate(XOR, ERF, OnlineSGD(0.5), OrderParameters(state.M[:4], state.Q, state.v), [1.0])
    np.testing.assert_allclose(found.Q[1], alone.Q[0], rtol=0, atol=1e-7)
    then = OrderParameters(np.concatenate([found.M[1, 4:], found.R[1]]), found.Q[1], found.v[1])
    rest = integrate(taught, ERF, OnlineSGD(0.5), then, [1.0])
    np.testing.assert_allclose(found.Q[2], rest.Q[0], rtol=0, atol=1e-7)


OTHER = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.two_level(0.5, 2.0, 0.25))


@pytest.mark.parametrize(
    ("mixture", "rule", "message"),
    [
        ([], OnlineSGD(0.1), r"mixture must be a Mixture or a list of pairs \(Mixture, until\), got \[\]"),
        ([XOR], OnlineSGD(0.1), r"mixture must be a Mixture or a list of pairs"),
        (XOR, [(0.1, 2.0)], r"rule must be a LearningRule or a list of pairs"),
        ([(XOR, 2.0), (PAIR, 1.0)], OnlineSGD(0.1), r"mixture: until must increase, got 1 after 2"),
        ([(XOR, None), (PAIR, 1.0)], OnlineSGD(0.1), r"mixture must have a time until which it holds"),
        ([(XOR, -1.0), (PAIR, 1.0)], OnlineSGD(0.1), r"mixture: until must be finite and > 0, got -1.0"),
        ([(PAIR, 1.0), (OTHER, None)], OnlineSGD(0.1), r"mixture must have the same nodes throughout"),
    ],
)
def test_bad_pieces(mixture: Any, rule: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        integrate(mixture, ERF, rule, START, [2.0])


@pytest.mark.parametrize("option", [{"lr": "1/(1 + t)"}, {"frozen": "w0"}, {"sphere": True}, {"temperature": 0.1}])
def test_who_does_not_know_an_option_says_so(option: dict[str, Any]) -> None:
    rule = OnlineSGD(**{"lr": 0.1, "weight_decay": 0.1} | option)
    with pytest.raises(ValueError, match="rule must have constant rates and free weights for fixed points, got"):
        fixed_point(XOR, ERF, rule)
    with pytest.raises(ValueError, match="rule must have constant rates and free weights for fluctuations, got"):
        fluctuations(XOR, ERF, rule, START, [1.0])
