"""Learning curves against exact solutions, and random states against their moments."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.linalg import expm

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import GradientFlow, OnlineSGD
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.flow import IntegrationError, integrate, random_state
from quenched.numerics.two_layer.stationary import FixedPointError

XOR = Mixture.xor(0.5)
RELU = TwoLayer(3, "relu")
SGD = OnlineSGD(0.2)
START = random_state(XOR, RELU, D=100, seed=1)


def test_one_linear_neuron_has_an_exact_solution() -> None:
    """Two clusters at ±r, frozen readout v, s the output scale, u = s v: with S = E[lambda^2] = r^2 A^2 + sigma^2 Q,

        dA/dt = -eta u (u (r^2 + sigma^2) A - r) - eta kappa A
        dQ/dt = -2 eta u (u S - r A) + eta^2 u^2 sigma^2 (u^2 S - 2 u r A + 1 + noise^2) - 2 eta kappa Q

    close linearly on (1, A, A^2, Q), so the matrix exponential solves them.  rtol is per step: a factor 100 for all.
    """
    r, sigma, eta, kappa, scale, v, noise = 1.5, 0.8, 0.4, 0.3, 0.5, 1.2, 0.3
    u = scale * v
    decay, drive = eta * u**2 * (r**2 + sigma**2) + eta * kappa, eta * u * r
    heat = eta**2 * u**2 * sigma**2
    generator = np.array(
        [
            [0, 0, 0, 0],
            [drive, -decay, 0, 0],
            [0, 2 * drive, -2 * decay, 0],
            [
                heat * (1 + noise**2),
                2 * eta * u * r - 2 * heat * u * r,
                (-2 * eta * u**2 + heat * u**2) * r**2,
                (-2 * eta * u**2 + heat * u**2) * sigma**2 - 2 * eta * kappa,
            ],
        ]
    )
    times = np.array([0.5, 2.0, 7.0])
    data = integrate(
        Mixture.two_clusters(sigma, separation=r),
        TwoLayer(1, "linear", output_scale=scale),
        OnlineSGD(eta, kappa, second_lr=0.0, label_noise=noise),
        OrderParameters([[-0.2 * r], [0.2 * r]], [[0.7]], [v]),
        times,
    )
    exact = np.array([expm(generator * t) @ [1, -0.2, 0.04, 0.7] for t in times])
    np.testing.assert_allclose(data.M[:, 0, 0], r * exact[:, 1], rtol=0, atol=1e-6)
    np.testing.assert_allclose(data.Q[:, 0, 0], exact[:, 3], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(data.v, np.full((3, 1), v))
    second = r**2 * exact[:, 2] + sigma**2 * exact[:, 3]
    np.testing.assert_allclose(data.pmse, (u**2 * second - 2 * u * r * exact[:, 1] + 1) / 2, rtol=0, atol=1e-6)


def test_what_decays_outside_the_span_of_a_teacher_does_not_stop_the_flow() -> None:
    """Gradient flow towards a teacher: Q - A^T A falls by many orders, while both are known to 1e-8 of their size.

    Near it, with A = 1 + x, v = 1 + y, s = Q - A^2 and phi - y = x nu g' + y g + sqrt(s) z g', nu and z unit normals,

        pmse = (x^2 E[nu^2 g'^2] + 2 x y E[nu g' g] + y^2 E[g^2] + s E[g'^2])/2,      g = erf(nu/sqrt(2)),
        E[nu^2 g'^2] = 2/(pi 3^(3/2)),  E[nu g' g] = E[g'^2]/2 = 1/(pi sqrt(3)),  E[g^2] = 2 arcsin(1/2)/pi = 1/3

    by g'^2 = 2 exp(-nu^2)/pi, and by Stein with g'' = -nu g'.  (x, y) flow down this form and end along its eigenvector
    (a, b) of the smaller eigenvalue c: pmse = c (1 + b^2/a^2) x^2/2 + s/(pi sqrt(3)), the first 0.010728 x^2.
    """
    mixture = Mixture([[0.0]], teacher=Teacher([[1.0]], [1.0], "erf"))
    network = TwoLayer(1, "erf")
    data = integrate(mixture, network, GradientFlow(), random_state(mixture, network, 100, 0), [0.0, 100.0, 600.0])
    outside = data.Q - np.einsum("tmk,tml->tkl", data.R, data.R)
    assert np.abs(outside[-1]).max() < 1e-10
    values, vectors = np.linalg.eigh(np.array([[2 / 3**1.5, 3**-0.5], [3**-0.5, np.pi / 3]]) / np.pi)
    a, b = vectors[:, 0]
    x, s = abs(data.R[-1, 0, 0]) - 1, outside[-1, 0, 0]
    assert 1e-6 < x < 1e-4  # |R| and v still creep along the flat direction
    # third orders are a share x, rounding of order 1e-16 a share 1e-4
    want = values[0] * (1 + (b / a) ** 2) * x**2 / 2 + s / (np.pi * 3**0.5)
    np.testing.assert_allclose(data.pmse[-1], want, rtol=1e-3)


@pytest.mark.parametrize(("K", "M", "seed"), [(1, 1, 4), (3, 2, 1)])
def test_relu_students_of_relu_teachers_reach_the_end(K: int, M: int, seed: int) -> None:
    """A neuron of wrong sign decays to 1e-17 of its length; interpolated, Q - A^T A is off by what is known of Q."""
    mixture = Mixture(np.zeros((1, M)), teacher=Teacher(np.eye(M), np.ones(M), "relu"))
    network = TwoLayer(K, "relu")
    start = random_state(mixture, network, 500, seed)
    data = integrate(mixture, network, GradientFlow(), start, np.linspace(0, 100, 21), quantities=["pmse"])
    assert (np.diff(data.pmse) < 1e-8).all()  # gradient flow, to the tolerance
    outside = data.Q - np.einsum("tmk,tml->tkl", data.R, data.R)
    assert np.linalg.eigvalsh(outside).min() > -1e-12


def test_a_relu_neuron_of_frozen_wrong_sign_vanishes_at_the_exact_time() -> None:
    """One cluster at 0 with label 1, v = -1 frozen: q = |w|/sqrt(D) has dq/dt = -E[(relu(q z) + 1) z Theta(z)],

        dq/dt = -(q/2 + 1/sqrt(2 pi)),      q(0) = 1:   q = 0 at t = 2 log(1 + sqrt(pi/2))

    and is 0 from then on.  It is held there once Q = q^2 < atol = 1e-10: 1e-5 sqrt(2 pi) too early at most.
    """
    mixture, start = Mixture([[0.0]], [1], [1.0], 1.0), OrderParameters([[0.0]], [[1.0]], [-1.0])
    data = integrate(mixture, TwoLayer(1, "relu"), GradientFlow(second_lr=0.0), start, [0.0, 1.0, 5.0])
    ((neuron, time),) = json.loads(data.attrs["solver"])["vanished"]
    assert neuron == 0
    assert time == pytest.approx(2 * np.log1p(np.sqrt(np.pi / 2)), abs=3e-5)
    half = (1 + np.sqrt(2 / np.pi)) * np.exp(-0.5) - np.sqrt(2 / np.pi)
    np.testing.assert_allclose(data.Q[:, 0, 0], [1, half**2, 0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(data.pmse[-1], 0.5)


def test_an_odd_network_cannot_learn_xor() -> None:
    network = TwoLayer(2, "erf")
    data = integrate(XOR, network, OnlineSGD(0.5), random_state(XOR, network, 50, 0), [0.0, 3.0, 10.0])
    np.testing.assert_allclose(data.classification_error, 0.5, atol=1e-6)
    # M_a is odd in the mean: exactly, as M = means A
    np.testing.assert_array_equal(data.M.values[:, ::2], -data.M.values[:, 1::2])


def test_requested_times_and_tolerances_do_not_matter() -> None:
    """Dense output and final steps agree, and a tighter tolerance changes no more than the looser one promises."""
    fine = integrate(XOR, RELU, SGD, START, [0.0, 1.0, 2.0, 2.5, 6.0], rtol=1e-11, atol=1e-13)
    assert fine.time.values.tolist() == [0.0, 1.0, 2.0, 2.5, 6.0]
    for method in ("DOP853", "Radau"):
        last = integrate(XOR, RELU, SGD, START, [6.0], method=method)
        for name in ("M", "Q", "v", "pmse"):
            np.testing.assert_allclose(last[name][-1], fine[name][-1], rtol=0, atol=1e-6)
    start = integrate(XOR, RELU, SGD, START, [0.0])
    np.testing.assert_allclose(start.M[0], START.M, atol=1e-15)
    np.testing.assert_array_equal(start.Q[0], START.Q)
    np.testing.assert_array_equal(start.Q[0], fine.Q[0])


def test_a_curve_knows_where_it_came_from_and_is_saved(tmp_path: Path) -> None:
    reached: list[float] = []
    data = integrate(XOR, RELU, SGD, START, [0.0, 1.0], progress=reached.append)
    assert reached == sorted(reached)
    assert reached[-1] == 1.0
    assert data.sizes == {"time": 2, "cluster": 4, "neuron": 3, "neuron_": 3}
    again = integrate(
        Mixture(**json.loads(data.attrs["mixture"])),
        TwoLayer(**json.loads(data.attrs["network"])),
        OnlineSGD(**json.loads(data.attrs["sgd"])),
        OrderParameters(**json.loads(data.attrs["initial_state"])),
        data.time.values,
    )
    xr.testing.assert_identical(again, data)
    data.to_netcdf(tmp_path / "curve.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "curve.nc", engine="h5netcdf") as loaded:
        xr.testing.assert_identical(loaded.load(), data)


def test_a_blow_up_raises_with_the_last_good_time_and_state() -> None:
    network = TwoLayer(1, "linear")
    state = OrderParameters(np.zeros((4, 1)), [[1.0]], [1.0])
    message = r"stopped at t = .* of 50: .*full state in \.state\); lower lr \(now 100\)"
    with pytest.raises(IntegrationError, match=message) as caught:
        integrate(XOR, network, OnlineSGD(100.0, second_lr=0.0), state, [50.0])
    assert 0 < caught.value.t < 50
    assert np.isfinite(caught.value.state.Q).all()
    assert caught.value.state.Q[0, 0] > 1e3


def bad(**changes: Any) -> Callable[[], object]:
    settings = {"mixture": XOR, "network": RELU, "rule": SGD, "state": START, "t": [1.0]} | changes
    return lambda: integrate(**settings)


BAD: list[tuple[Callable[[], object], str]] = [
    (bad(mixture=Mixture.xor(0.5, scaling=0.25)), r"scaling must be 0: .* got scaling=0\.25"),
    (bad(network=TwoLayer(2, "relu")), "state must have K = 2 neurons like the network, got 3"),
    (bad(mixture=Mixture.two_clusters(0.5)), r"M must have one row per cluster, 2, got shape \(4, 3\)"),
    (bad(state=OrderParameters([[1.0] * 3, [-1.0] * 3] * 2, np.eye(3), [1.0] * 3)), "Q is too small for M"),
    (bad(method="Euler"), "method must be one of DOP853, .* got 'Euler'"),
    (bad(t=[]), r"t must have shape \(any,\), got \(0,\)"),
    (bad(t=[0.0, 2.0, 1.0]), r"t must increase, got 1\.0 after 2\.0"),
    (bad(t=[-1.0, 1.0]), r"t must be >= 0, got -1\.0"),
    (bad(t=[0.0, np.inf]), r"t must be finite, got inf at index \(1,\)"),
    (lambda: random_state(XOR, RELU, D=4, seed=0), "D must be an integer >= 5, got 4"),
    (lambda: random_state(XOR, RELU, D=10, seed=-1), "seed must be an integer >= 0, got -1"),
    (lambda: random_state(XOR, RELU, D=10, seed=0, weight_scale=-1.0), r"weight_scale must be .* >= 0, got -1\.0"),
    (lambda: random_state(XOR, RELU, D=10, seed=0, readout_scale=np.nan), "readout_scale must be .* got nan"),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_random_states_have_the_moments_of_gaussian_weights() -> None:
    """w_k ~ N(0, s^2 I_D): E Q = s^2 1, Var Q_kk = 2 s^4/D, Var Q_kl = s^4/D, Var A = s^2/D, and for the residual Gram
    R = Q - A^T A of K = 2 weights in n = D - p dimensions, E det(D R/s^2) = n (n - 1) (any K: a product of chi^2).

    N draws: five standard errors; the relative variance of a variance is about 2/N, that of the determinant
    ((n + 2)(n + 1)/(n (n - 1)) - 1)/N.
    """
    N, D, scale = 4000, 7, 1.5
    mixture, network = Mixture.xor(1.0, separation=2.0), TwoLayer(2, "relu")
    states = [random_state(mixture, network, D, seed, weight_scale=scale, readout_scale=3.0) for seed in range(N)]
    Q, M, v = (np.array([getattr(state, name) for state in states]) for name in ("Q", "M", "v"))
    five = 5 / np.sqrt(N)
    np.testing.assert_allclose(Q.mean(axis=0), scale**2 * np.eye(2), atol=five * scale**2 * np.sqrt(2 / D))
    # Q_kk is chi^2 with D degrees of freedom, of kurtosis 3 + 12/D: the variance of its variance is (2 + 12/D)/N
    excess = np.sqrt(2 + 12 / D)
    assert Q[:, 0, 0].var() == pytest.approx(2 * scale**4 / D, rel=five * excess)
    assert Q[:, 0, 1].var() == pytest.approx(scale**4 / D, rel=five * excess)
    assert M.var() == pytest.approx((2 * scale) ** 2 / D, rel=five * np.sqrt(2))
    assert v.var() == pytest.approx(3.0**2 / 2, rel=five)
    A = np.array([state.projections(mixture) for state in states])
    det, n = np.linalg.det((Q - A.swapaxes(1, 2) @ A) * D / scale**2), D - 2
    assert det.mean() == pytest.approx(n * (n - 1), rel=five * np.sqrt((n + 2) * (n + 1) / (n * (n - 1)) - 1))


def test_failures_survive_the_way_between_processes() -> None:
    state = OrderParameters([[0.5], [-0.5]], [[1.0]], [2.0])
    for failure in (IntegrationError("stopped", 1.5, state), FixedPointError("none", state, 0.1)):
        arrived = pickle.loads(pickle.dumps(failure))
        assert str(arrived) == str(failure)
        assert (arrived.state.Q == state.Q).all()


@pytest.mark.parametrize(("lr", "end"), [(1e6, 100.0), (0.2, 1e300)])
def test_a_run_that_would_never_end_is_given_up(lr: float, end: float) -> None:
    """1000 steps of these reach t = 0.006 and 2e5: their ends would need 2e7 and 1e297 steps."""
    mixture, network = Mixture.xor(0.5), TwoLayer(1, "erf")
    state = random_state(mixture, network, 100, seed=1)
    with pytest.raises(IntegrationError, match=r"the last 1000 steps went from t = 0 to"):
        integrate(mixture, network, OnlineSGD(lr), state, [0.0, end])
