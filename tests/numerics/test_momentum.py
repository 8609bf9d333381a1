"""Momentum with 1 - beta = friction/D: one step by its definition, exact limits, and what does not go with it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.polynomial.hermite_e import hermegauss
from scipy.linalg import expm
from scipy.special import erf

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    drift,
    equations,
    fixed_point,
    fluctuations,
    integrate,
    problem_of,
    random_state,
    records_of,
    state_at,
)
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.state import Velocity, with_velocity

PAIR, ERF = Mixture.two_clusters(0.8, separation=1.3), TwoLayer(2, "erf", output_scale=1.2)
R, SIGMA, U = 1.5, 0.8, 1.2  # of a linear neuron: length of the means, noise, readout
LINE, LINEAR = Mixture.two_clusters(SIGMA, separation=R), TwoLayer(1, "linear")
ONE = OrderParameters([[-0.2 * R], [0.2 * R]], [[0.7]], [U])


def moving_state() -> OrderParameters:
    """Two weights, their velocities, and a readout with velocities, none of them special."""
    random = np.random.default_rng(5)
    A, L = 0.5 * random.standard_normal((1, 4)), 0.6 * random.standard_normal((4, 4))
    return OrderParameters.of_vectors(PAIR.references @ A, A.T @ A + L @ L.T, random.standard_normal((2, 2)), 2)


# --- one step


def mean_step(rule: OnlineSGD, state: OrderParameters, D: float) -> dict[str, np.ndarray]:
    """D times the mean change of all inner products in a step of one sample, from the update rule as it stands.

    A step makes of the vectors w_1, w_2, p_1, p_2, x, a bath vector for each weight and the mean e new ones, linear
    combinations of the old.  So it does of their Gram matrix, whose entries with x are the five fields of x, Gaussian
    given the cluster.  Coefficients depend on the two of the weights alone, in which there is a grid of Gauss and
    Hermite; in the others all is linear, and they are at their mean given these two.
    """
    eta, zeta, kappa, T = (
        float(rule.eta),
        float(rule.friction or 0.0),
        float(rule.kappa),
        float(rule.rates(0).temperature),
    )
    _, Q, v = state.vectors
    A = state.both.projections(PAIR)
    G = np.zeros((8, 8))  # over D: w, p, xi, e, x
    G[:4, :4], G[4:6, 4:6], G[:4, 6], G[6, :4], G[6, 6] = Q, np.eye(2), A[0], A[0], 1.0
    z, weight = hermegauss(50)
    grid, weights = np.stack(np.meshgrid(z, z)).reshape(2, -1), np.outer(weight, weight).ravel() / weight.sum() ** 2
    known = [0, 1, 2, 3, 6]
    L = G[known, :2] @ np.linalg.inv(Q[:2, :2]) @ np.linalg.cholesky(Q[:2, :2])
    s, total, moved = ERF.output_scale, np.zeros((8, 8)), np.zeros((2, 2))
    for mean, y in ((1.3, 1.0), (-1.3, -1.0)):
        field = 0.8 * (L @ grid) + mean * G[known, 6][:, None]
        g, dg = erf(field[:2] / np.sqrt(2)), np.sqrt(2 / np.pi) * np.exp(-(field[:2] ** 2) / 2)
        F = s * v[0] @ g - y
        push, readout = s * F * v[0][:, None] * dg, s * F * g
        B = np.zeros((grid.shape[1], 8, 8)) + np.eye(8)
        for k in range(2):
            B[:, 2 + k, 2 + k] -= zeta / D
            B[:, 2 + k, k] -= eta * kappa / D
            B[:, 2 + k, 4 + k] += np.sqrt(2 * zeta * eta * T / D)
            B[:, 2 + k, 7] -= eta * push[k] / np.sqrt(D)
            B[:, k] += B[:, 2 + k] / D  # along the new velocity
        whole = np.zeros((grid.shape[1], 8, 8)) + G
        whole[:, known, 7] = whole[:, 7, known] = field.T / np.sqrt(D)
        whole[:, 7, 7] = 0.8**2  # |x|^2/D but for terms of order 1/D
        total += 0.5 * D * np.einsum("n,nij->ij", weights, B @ whole @ B.swapaxes(1, 2) - whole)
        p = (1 - zeta / D) * v[1][:, None] - float(rule.eta_v) / D * (readout + float(rule.kappa_v) * v[0][:, None])
        moved += 0.5 * D * np.stack([p / D, p - v[1][:, None]]) @ weights
    parts = {"M": PAIR.means @ total[6:7, :2], "Q": total[:2, :2], "v": moved[0]}
    return parts | {"S": PAIR.means @ total[6:7, 2:4], "C": total[:2, 2:4], "U": total[2:4, 2:4], "p": moved[1]}


RULE = OnlineSGD(0.7, weight_decay=0.2, second_lr=0.4, second_weight_decay=0.3, friction=1.5, temperature=0.3)


def test_one_step_by_its_definition() -> None:
    """At D = 10^7 what is left of order 1/D, and rounding times D, are below 10^-5."""
    state = moving_state()
    expected, found = mean_step(RULE, state, 1e7), drift(PAIR, ERF, RULE, state).arrays()
    assert set(expected) == set(found)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5, err_msg=name)


def test_the_noise_of_samples_is_of_order_one_in_the_velocities_alone() -> None:
    """Of the change of U by a step it is eta^2 E[push push] sigma^2 at any D, of that of C 1/D of this, of Q 1/D^2.

    The rest of D times the change is that at a larger D, but for terms of order 1/D: from two rates of learning, at
    D = 10 and 1000, the part of second order in the rate.
    """
    state, second = moving_state(), {}
    for D in (10.0, 1000.0):
        steps = [mean_step(OnlineSGD(eta, friction=1.5, second_lr=0.0), state, D) for eta in (0.0, 1.0, 2.0)]
        second[D] = {name: (steps[2][name] - 2 * steps[1][name] + steps[0][name]) / 2 for name in "QCU"}
    flow = drift(PAIR, ERF, GradientFlow(1.0, friction=1.5, second_lr=0.0), state).velocity
    sgd = drift(PAIR, ERF, OnlineSGD(1.0, friction=1.5, second_lr=0.0), state).velocity
    assert flow is not None
    assert sgd is not None
    for D, found in second.items():
        np.testing.assert_allclose(found["U"], sgd.U - flow.U, rtol=0, atol=1e-6)
        np.testing.assert_allclose(found["C"], found["U"] / D, rtol=0, atol=1e-7)
        np.testing.assert_allclose(found["Q"], found["U"] / D**2, rtol=0, atol=1e-7)


# --- exact limits


def oscillation(start: float, stiffness: float, friction: float, t: np.ndarray, drive: float = 0.0) -> np.ndarray:
    """Position and velocity of x'' + friction x' = drive - stiffness x from rest, by the matrix exponential."""
    matrix, rest = np.array([[0.0, 1.0], [-stiffness, -friction]]), drive / stiffness
    return np.array([expm(matrix * time) @ [start - rest, 0.0] + [rest, 0.0] for time in t]).T


@pytest.mark.parametrize("friction", [0.0, 0.7, 5.0])
def test_a_linear_neuron_is_a_damped_oscillator(friction: float) -> None:
    """Along the mean and beside it, with stiffness eta u^2 (r^2 + sigma^2) and eta u^2 sigma^2: 1e-8 a step."""
    eta, t = 0.9, np.array([0.0, 0.5, 1.0, 2.0, 5.0])
    run = integrate(LINE, LINEAR, GradientFlow(eta, second_lr=0.0, friction=friction), ONE, t)
    x, dx = oscillation(-0.2, eta * U**2 * (R**2 + SIGMA**2), friction, t, eta * U * R)
    z, dz = oscillation(1.0, eta * U**2 * SIGMA**2, friction, t)
    beside = 0.7 - 0.2**2
    exact = {"M": R * x, "M_dot": R * dx, "Q": x**2 + beside * z**2, "C": x * dx + beside * z * dz}
    for name, values in (exact | {"U": dx**2 + beside * dz**2}).items():
        np.testing.assert_allclose(run[name][:, 0, 0], values, rtol=0, atol=1e-7, err_msg=name)
    assert friction > 1 or np.diff(np.sign(dx[1:])).any()  # the weak ones turn round


@pytest.mark.parametrize("friction", [0.0, 0.8])
def test_friction_is_all_that_takes_energy(friction: float) -> None:
    """d/dt (sum_k (U_kk + p_k^2)/2 + eta E[l]) = -friction sum_k (U_kk + p_k^2), of both layers at one rate."""
    eta, t = 1.5, np.linspace(0.0, 4.0, 401)
    start = random_state(PAIR, ERF, 100, 1)
    run = integrate(PAIR, ERF, GradientFlow(eta, friction=friction), start, t, quantities=("pmse",))
    kinetic = np.einsum("tkk->t", run.U.values) + (run.v_dot.values**2).sum(axis=1)
    energy = kinetic / 2 + eta * run.pmse.values
    lost = friction * np.concatenate([[0.0], np.cumsum((kinetic[1:] + kinetic[:-1]) / 2 * 0.01)])
    np.testing.assert_allclose(energy + lost, energy[0], rtol=0, atol=1e-4 * friction + 1e-7)  # trapezes of 0.01
    assert kinetic.max() > 0.05


def test_a_large_friction_is_plain_sgd_at_the_rate_over_it() -> None:
    """The difference is a/friction + b/friction^2 + .. with a, b < 1; two frictions are combined to be rid of a.

    The noise, of second order in the rate, is part of the limit: the flow is 100 times further off in Q.
    """
    start, h, names = random_state(PAIR, ERF, 500, 1), 0.5, ("M", "Q", "v")

    def end(rule: OnlineSGD | GradientFlow) -> list[np.ndarray]:
        run = integrate(PAIR, ERF, rule, start, [1.0], quantities=("pmse",))
        return [run[name].values for name in names]

    plain, flow = end(OnlineSGD(h)), end(GradientFlow(h))
    one, two = (end(OnlineSGD(h * friction, friction=friction)) for friction in (100.0, 200.0))
    for name, *values in zip(names, plain, flow, one, two, strict=True):
        exact, calm, near, nearer = values
        off, rest = np.abs(nearer - exact).max(), np.abs(2 * nearer - near - exact).max()
        assert off < 1 / 200, name
        assert rest < 1 / (100 * 200), name
        assert name != "Q" or np.abs(calm - exact).max() > 100 * rest


@pytest.mark.parametrize("friction", [1.0, 4.0])
def test_a_bath_leads_to_the_same_law_at_any_friction(friction: float) -> None:
    """exp(-H/T): beside the mean variance T over the stiffness of H; velocities N(0, eta T), independent."""
    T, kappa, eta = 0.3, 0.2, 1.7
    rule = GradientFlow(eta, weight_decay=kappa, second_lr=0.0, temperature=T, friction=friction)
    end = integrate(LINE, LINEAR, rule, ONE, [60.0]).isel(time=0)
    assert end.Q.item() - (end.M[0, 0].item() / R) ** 2 == pytest.approx(T / (U**2 * SIGMA**2 + kappa), abs=1e-6)
    assert end.U.item() == pytest.approx(eta * T, abs=1e-6)
    assert end.C.item() == pytest.approx(0.0, abs=1e-6)


def test_nodes_of_a_spectrum_that_are_alike_are_one() -> None:
    """Two nodes of the same variance, and no spectrum: the same sums; velocities of both go on from a dataset."""
    state = with_velocity(random_state(PAIR, ERF, 100, 2), True)
    law = Spectrum.two_level(1.0, 1.0, fraction=0.25)
    split = Mixture(PAIR.means, PAIR.labels, sigma=0.8, spectrum=law)
    rule = OnlineSGD(1.0, friction=1.0, weight_decay=0.1)
    one, two = (integrate(mixture, ERF, rule, state, [1.0, 2.0]) for mixture in (PAIR, split))
    for name in ("M", "Q", "v", "M_dot", "C", "U", "v_dot"):
        np.testing.assert_allclose(one[name], two[name], rtol=0, atol=1e-7, err_msg=name)
    for mixture, run in ((PAIR, one), (split, two)):
        rest = integrate(mixture, ERF, rule, state_at(run, 1.0), [1.0])
        np.testing.assert_allclose(rest.U[0], run.U[1], rtol=0, atol=1e-7)
        assert records_of(run)["sgd"] == rule


def test_a_student_like_its_teacher_stays() -> None:
    """Weights and readout of the teacher, at rest: no force, and no noise."""
    taught = Mixture([[0.7]], teacher=Teacher([[1.2]], [0.9], "erf"))
    state = OrderParameters([[0.84], [1.44]], [[1.44]], [0.9])
    run = integrate(taught, TwoLayer(1, "erf"), OnlineSGD(1.0, friction=0.5), state, [3.0])
    assert abs(run.U.item()) < 1e-9
    assert run.R.item() == pytest.approx(1.44, abs=1e-8)


def test_what_is_frozen_or_has_no_friction_has_no_velocity() -> None:
    """Pieces: velocities are kept as long as rules have friction and do not freeze what they are of."""
    start = random_state(PAIR, ERF, 100, 1)
    first, plain, last = OnlineSGD(1.0, friction=1.0), OnlineSGD(0.5), OnlineSGD(1.0, friction=1.0, frozen=("w1", "v"))
    t = [0.9, 1.0, 1.5, 2.0]
    run = integrate(PAIR, ERF, [(first, 1.0), (plain, 2.0), (last, None)], start, t)
    assert run.U[0, 0, 0] > 1e-4
    assert not run.U[2].values.any()
    whole = integrate(PAIR, ERF, plain, state_at(run, 1.0), [0.5, 1.0])  # of velocities it takes no notice
    np.testing.assert_allclose(whole.Q, run.Q[2:], rtol=0, atol=1e-7)
    later = integrate(PAIR, ERF, last, state_at(run, 0.9), [1.0]).isel(time=0)
    assert not later.U[1].values.any()
    assert not later.v_dot.values.any()
    np.testing.assert_array_equal(later.v, run.v[0])


# --- the record, and what does not go together


def test_velocities_are_part_of_a_specification_and_of_records() -> None:
    state, rule = moving_state(), OnlineSGD(0.5, friction="3/(1 + t)")
    given = Specification(PAIR, ERF, rule, t=np.array([0.0, 1.0]), state=state)
    assert OrderParameters.from_dict(json.loads(json.dumps(state.to_dict()))) == state
    assert OnlineSGD.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    run = integrate(PAIR, ERF, rule, state, given.t)
    assert problem_of(run) == given
    again = state_at(run, 0.0)
    for one, two in zip(again.vectors, state.vectors, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-14, atol=1e-15)
    assert "velocity" not in random_state(PAIR, ERF, 100, 1).to_dict()


def test_equations_show_velocities() -> None:
    lines = equations(PAIR, ERF, OnlineSGD(0.5, friction=2.0)).lines
    assert r"\frac{dQ_{kl}}{dt} = C_{kl} + C_{lk}" in lines
    heat = next(line for line in lines if line.startswith(r"\frac{dU_{kl}}{dt}"))
    assert r"-2 \zeta U_{kl}" in heat
    assert r"{\eta}^{2} \sum_{a} P_{a}\, N_{akl}" in heat
    assert "N_{akl}" not in "".join(equations(PAIR, ERF, GradientFlow(0.5, friction=2.0)).lines)
    assert all("p_k" not in line for line in equations(PAIR, ERF, OnlineSGD(0.5)).lines)
    assert r"\zeta" not in OnlineSGD(0.5)._repr_latex_()
    assert r"(1 - \frac{2}{D})\, p" in OnlineSGD(0.5, friction=2.0)._repr_latex_()


START = random_state(PAIR, ERF, 100, 1)
REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: OnlineSGD(0.1, friction=-1), "friction must be finite and >= 0, got -1"),
    (lambda: OnlineSGD(0.1, friction=2.0, sphere=True), "friction must be None where sphere=True .* got 2"),
    (lambda: fixed_point(PAIR, ERF, GradientFlow(friction=2.0), START), "for fixed points, got friction=2"),
    (lambda: fluctuations(PAIR, ERF, OnlineSGD(0.1, friction=2.0), START, [1.0]), "fluctuations, got friction=2"),
    (lambda: Velocity([[1.0]], [[np.nan]], [[1.0]], [1.0]), "C must be finite"),
    (
        lambda: OrderParameters([[1.0]], [[1.0]], [1.0], velocity=Velocity([[1.0]], [[1.0]], [[1.0]], [0.0, 0.0])),
        r"velocity must have v of shape \(1,\), got \(2,\)",
    ),
    (
        lambda: OrderParameters([[1.0]], [[1.0]], [1.0], velocity=Velocity([[1.0]], [[2.0]], [[1.0]], [0.0])),
        "velocity must go with the weights, .* positive semi-definite, got the eigenvalue -1",
    ),
    (
        lambda: integrate(PAIR, ERF, OnlineSGD(0.1, friction="1 - t"), START, [2.0]),
        "friction must be finite and >= 0, got -0.* of '1 - t'",
    ),
]


@pytest.mark.parametrize(("call", "message"), REFUSED, ids=[message[:30] for _, message in REFUSED])
def test_what_does_not_go_together_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
