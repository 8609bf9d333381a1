"""Teacher-student problems against published numbers: minima, trajectories, simulations, plateaus, largest rates.

The largest rates of K = 2..4 neurons are the exception: no publication prints them.  The files are described in
public/INDEX.md of the folder QUENCHED_REFDATA (CONTRIBUTING.md), with their origin; they are not copied into the
package.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Teacher,
    TwoLayer,
    drift,
    errors,
    fixed_point,
    integrate,
)
from quenched.numerics.two_layer.attractor import path
from quenched.numerics.two_layer.drift import drift_arrays
from quenched.numerics.two_layer.stationary import StationaryEquations
from quenched.numerics.two_layer.symmetry import equivalent, stabiliser

FOLDER = Path(os.environ["QUENCHED_REFDATA"], "public")
needs_files = pytest.mark.skipif(not FOLDER.is_dir(), reason="the published data of QUENCHED_REFDATA are absent")
FROZEN = GradientFlow(second_lr=0.0)


def table(name):
    return np.loadtxt(FOLDER / name, delimiter=",", skiprows=1)


def numbers(name):
    return json.loads((FOLDER / name).read_text())


def problem(P, K, activation, v, scale=1.0):
    """Isotropic inputs and a teacher of Gram matrix P (m, m) with readouts v; its weights on the first m axes."""
    root = np.linalg.cholesky(np.atleast_2d(P))
    mixture = Mixture(np.zeros((1, len(root))), teacher=Teacher(root, np.full(len(root), v), activation))
    return mixture, TwoLayer(K, activation, output_scale=scale)


def state(R, Q):
    """Readouts 1 and the overlaps R (K, m) with the teacher."""
    return OrderParameters(np.vstack([np.zeros((1, len(Q))), np.asarray(R).T]), Q, np.ones(len(Q)))


# --- relu minima


def relu_gradient(W, V):
    """dL/dW (n, d) of L = E[(sum_i relu(w_i.x) - sum_j relu(v_j.x))^2]/2, x ~ N(0, 1), by the arc-cosine kernel.

    E[relu(w.x) relu(u.x)] = |w||u| (sin a + (pi - a) cos a)/(2 pi), whose gradient in w is
    (|u| sin a w/|w| + (pi - a) u)/(2 pi).
    """
    total = np.zeros_like(W)
    for others, sign in ((W, 1.0), (V, -1.0)):
        lengths, sizes = np.linalg.norm(W, axis=1), np.linalg.norm(others, axis=1)
        cosine = np.clip(W @ others.T / np.outer(lengths, sizes), -1, 1)
        angle = np.arccos(cosine)
        if others is W:
            np.fill_diagonal(angle, 0.0)
        total += sign * ((np.sin(angle) * sizes).sum(axis=1) / lengths)[:, None] * W / (2 * np.pi)
        total += sign * (np.pi - angle) @ others / (2 * np.pi)
    return total


def hessian(W, V):
    """(n d, n d), central differences of the gradient: an error of 1e-12/(2 h) + h^2 = 1e-8 at h = 1e-4."""
    columns = []
    for i in range(W.size):
        step = np.zeros(W.size)
        step[i] = 1e-4
        above, below = (relu_gradient(W + h.reshape(W.shape), V) for h in (step, -step))
        columns.append((above - below).ravel() / 2e-4)
    return np.stack(columns)


@needs_files
def test_spurious_minima_of_relu_networks_are_stable_fixed_points():
    """Safran and Shamir (2018): weights (n, k) to gradients of 1e-9, found by gradient descent.

    Each is a solution of the stationary equations, within 1e-9 over the smallest eigenvalue of the Hessian, 1e-3, and
    the eigenvalues are those of minus that Hessian, whose gradient is written down above for a space with one dimension
    more: there the weights have no component, and overlaps outside grow at the sums of two eigenvalues.
    """
    found = 0
    for name, minima in numbers("safran_shamir_minima.json").items():
        k, n = map(int, name.split("-"))
        mixture, network = problem(np.eye(k), n, "relu", 1.0)
        for minimum in minima:
            W = np.array(minimum["W"])
            assert np.abs(drift(mixture, network, FROZEN, state(W, W @ W.T)).M).max() < 1e-9
            system = StationaryEquations(mixture, network, FROZEN)
            system.start(state(W, W @ W.T))
            x = system.solve(system.x0)
            A, Q, _ = system.arrays(x)
            assert np.abs(A.T - W).max() < 1e-6
            assert errors(mixture, network, state(A.T, Q), quantities=("pmse",)).pmse == pytest.approx(
                minimum["objective"], abs=1e-12
            )
            values, zeros = system.modes(x, system.jacobian(x))
            assert zeros == 0
            wide = np.hstack([A.T, np.zeros((n, 1))])
            H = hessian(wide, np.eye(k, k + 1)).reshape(n, k + 1, n, k + 1)
            assert np.abs(H[:, :k, :, k]).max() < 1e-8
            along, beside = np.linalg.eigvalsh(H[:, :k, :, :k].reshape(n * k, n * k)), np.linalg.eigvalsh(H[:, k, :, k])
            i, j = np.triu_indices(n)
            expected = -np.sort(np.concatenate([along, beside[i] + beside[j]]))
            assert np.abs(values - expected).max() < 1e-6
            assert expected.max() < 0  # a minimum, and the objective is not 0
            found += 1
    assert found == 9


@needs_files
def test_a_minimum_is_found_again_from_nearby_and_up_to_symmetry():
    """k = n = 6, 3 of 1000 runs end there: from weights 1 % off, permuted, in a space whose axes are permuted."""
    (minimum,) = numbers("safran_shamir_minima.json")["6-6"]
    W, rng = np.array(minimum["W"]), np.random.default_rng(1)
    mixture, network = problem(np.eye(6), 6, "relu", 1.0)
    off = (W + 0.01 * rng.standard_normal(W.shape) / 6)[rng.permutation(6)][:, rng.permutation(6)]
    found = fixed_point(mixture, network, FROZEN, state(off, off @ off.T), points=2**10)
    assert found.pmse == pytest.approx(minimum["objective"], abs=1e-11)
    assert found.stable
    assert equivalent(mixture, network, found.state, state(W, W @ W.T))
    other = W.copy()
    other[0] *= 1.01
    assert not equivalent(mixture, network, found.state, state(other, other @ other.T))
    # five neurons that lean on one another and a sixth: 5! symmetries
    assert len(stabiliser(mixture, network, found.state, tolerance=1e-6)) == 120


# --- trajectories


def committee(which):
    start, printed = numbers("phdiag_initial.json")[which], table(f"phdiag_{which}.csv")
    return *problem(start["P"], 8, "erf", 1 / 4, 1 / 8), state(start["M0"], start["Q0"]), printed


def generalisation(mixture, network, states):
    return np.array([errors(mixture, network, each, quantities=("pmse",)).pmse for each in states])


@needs_files
def test_the_printed_trajectory_of_a_committee_to_t_10000():
    """Veiga et al. (2022), erf, K = 8, m = 4, lr = 8: their Euler steps of 1/2000 are off by 1.9e-4 at t = 5, where the
    error falls fastest; from t = 20 on, `path` with 1e-6 a step is what differs, 3e-5 on the way down from the plateau.
    """
    mixture, network, start, printed = committee("blue")
    rule = OnlineSGD(lr=8.0, second_lr=0.0, label_noise=1e-3**0.5)
    pmse = generalisation(mixture, network, path(mixture, network, rule, start, printed[:, 0]))
    off, late = np.abs(pmse / printed[:, 1] - 1), printed[:, 0] >= 20
    assert off[0] < 1e-9  # printed to 10 digits
    assert off.max() < 2.5e-4
    assert off[late].max() < 6e-5


@needs_files
def test_the_printed_gradient_flow_of_a_committee():
    """The same without the noise of steps, Euler steps of d^-1.5 = 1.1e-5: 5.5e-6 at worst; `path` adds some 1e-5."""
    mixture, network, start, printed = committee("green")
    states = path(mixture, network, GradientFlow(lr=8.0, second_lr=0.0), start, printed[:, 0])
    assert np.abs(generalisation(mixture, network, states) / printed[:, 1] - 1).max() < 6e-5


@needs_files
@pytest.mark.parametrize(("p", "rate", "bound"), [(1, 0.1, 1e-11), (2, 0.05, 1e-13)])
def test_phase_retrieval_on_the_sphere_by_euler_steps(p, rate, bound):
    """Arnaboldi et al. (2023), g = x^2, one teacher neuron, weights kept on the sphere: 9,900 of their Euler steps.

    One step each way: rounding grows with the risk's slope at the escape, for p = 1 to 1e-12.
    """
    start, printed = numbers("escaping_initial.json")[f"p{p}"], table(f"escaping_p{p}_ode.csv")
    P = start.get("P", 1.0)
    mixture, network = problem(P, p, "quadratic", 1.0, 1 / p)
    A, root = np.array(start["M0"], dtype=float).reshape(p, 1).T / np.sqrt(P), np.sqrt(P)
    Q, v, dt = np.array(start["Q0"], dtype=float), np.ones(p), 1e-3
    rates = drift_arrays(mixture, network, OnlineSGD(lr=rate * p, second_lr=0.0, label_noise=1e-4**0.5))
    rows = {int(i): risk for i, risk in zip(np.rint(printed[:, 0] / dt), printed[:, 1], strict=True)}
    worst = 0.0
    for i in range(max(rows) + 1):
        if i in rows:
            risk = (3 * P**2 + (np.trace(Q) ** 2 + 2 * np.trace(Q @ Q)) / p**2) / 2
            worst = max(worst, abs(risk - (np.trace(Q) * P + 2 * (root * A**2 * root).sum()) / p - rows[i]))
        dA, dQ, _ = rates(A, Q, v)
        dA, dQ = dA / rate, dQ / rate
        radial = np.diag(dQ)
        A, Q = A + dt * (dA - A * radial / 2), Q + dt * (dQ - Q * (radial[:, None] + radial) / 2)
    assert worst < bound


@needs_files
@pytest.mark.parametrize(
    ("name", "rate", "diffusion", "bound"),
    [("batch_popflow.csv", 20 * 0.5 / 1e4, 0.0, 5e-4), ("batch_saadsolla.csv", 20 * 0.4 / 1e2, 100.0, 4e-3)],
)
def test_minibatch_simulations(name, rate, diffusion, bound):
    """Arnaboldi et al. (2024): one run each at d = 10^4, batches of n = 100, normalised weights, erf, K = m = 2.

    Their error counts the label noise 0.01 and is E[Delta^2]/4 + 0.01/2; steps of the second order come times d/n.  A
    run scatters by d^-1/2 = 0.01 of the overlaps: 2.5e-4 and 2.8e-3 of the error were seen in all of its 10^4 steps.
    The first 4000 have most of the way down.
    """
    printed, start = table(name), numbers("batch_initial.json")
    mixture, network = problem(np.eye(2), 2, "erf", 1 / 2, 1 / 2)
    flow = drift_arrays(mixture, network, GradientFlow(lr=rate, second_lr=0.0))
    sgd = drift_arrays(mixture, network, OnlineSGD(lr=rate, second_lr=0.0, label_noise=0.1))
    A, Q, v, want, worst = np.array(start["M0"]).T, np.array(start["Q0"]), np.ones(2), dict(printed), 0.0
    for step in range(4001):
        if step in want:
            worst = max(worst, abs(generalisation(mixture, network, [state(A.T, Q)])[0] / 2 + 0.005 - want[step]))
        dA, dQ, _ = flow(A, Q, v)
        if diffusion:
            dQ = dQ + diffusion * (sgd(A, Q, v)[1] - dQ)
        longer = np.sqrt(1 + np.diag(dQ))
        A, Q = (A + dA) / longer, (Q + dQ) / np.outer(longer, longer)
    assert worst < bound


# --- closed forms


@pytest.mark.parametrize("K", [1, 2, 3, 4, 5])
def test_the_symmetric_plateau_is_a_saddle(K):
    """Saad and Solla (1995), erf, K = m: Q_kl = 1/(2K - 1), R^2 = Q/K, eg = (K/pi) (pi/6 - K arcsin(1/2K)).

    All neurons are one there: unstable for K > 1, and for K = 1 the end of learning.
    """
    mixture, network = problem(np.eye(K), K, "erf", 1.0)
    q = 1 / (2 * K - 1)
    at = state(np.full((K, K), np.sqrt(q / K)), np.full((K, K), q))
    found = fixed_point(mixture, network, FROZEN, at, points=2)
    assert found.residual < 1e-14
    assert np.abs(found.state.M - at.M).max() < 1e-10
    assert found.pmse == pytest.approx(K / np.pi * (np.pi / 6 - K * np.arcsin(1 / (2 * K))), abs=1e-13)
    assert found.stable == (K == 1)
    # the teacher's neurons in any order, and x -> -x, which reverses the labels
    assert len(stabiliser(mixture, network, found.state)) == 2 * math.factorial(K)


@pytest.mark.parametrize(
    ("K", "largest"), [(1, np.pi * np.sqrt(5 / 3)), (2, 2.3068277), (3, 1.6206745), (4, 1.2493928)]
)
def test_the_largest_learning_rate(K, largest):
    """Biehl and Schwarze (1995) for K = 1: where the teacher's own weights cease to be stable, erf, K = m.

    Those of K = 2, 3, 4 are printed nowhere: they are our own, from the printed integrals of Saad and Solla (1995)
    linearised at the teacher (the route `largest rate` of the reference bank), with no code of the drift.

    By the Jacobian there, whose leading eigenvalue is 0 at the root.  Averages at equal fields are those of angles of
    1e-8, by which the root is off; the printed numbers have 8 digits.
    """
    mixture, network = problem(np.eye(K), K, "erf", 1.0)
    at = state(np.eye(K), np.eye(K))

    def leading(lr):
        system = StationaryEquations(mixture, network, OnlineSGD(lr, second_lr=0.0))
        system.start(at)
        assert np.abs(system.rates(system.x0)).max() < 1e-14
        return np.linalg.eigvals(system.jacobian(system.x0)).real.max()

    assert brentq(leading, 0.99 * largest, 1.01 * largest, xtol=1e-10) == pytest.approx(largest, rel=5e-8)
    below, above = (
        fixed_point(mixture, network, OnlineSGD(c * largest, second_lr=0.0), at, points=2) for c in (0.999, 1.001)
    )
    assert below.stable
    assert not above.stable
    assert below.pmse < 1e-14


@pytest.mark.parametrize(("K", "m", "eta", "noise"), [(1, 1, 0.5, 0.3), (3, 2, 0.2, 0.5), (4, 2, 0.15, 0.2)])
def test_the_error_of_over_parametrised_linear_networks(K, m, eta, noise):
    """Goldt et al. (2019): eg = eta noise^2 K/(4 - 2 eta K) at the end of learning, v = 1."""
    mixture, network = problem(np.eye(m), K, "linear", 1.0)
    W = np.random.default_rng(0).normal(size=(K, 8)) * 0.3
    rule = OnlineSGD(lr=eta, second_lr=0.0, label_noise=noise)
    ode = integrate(mixture, network, rule, state(W[:, :m], W @ W.T), [200.0], quantities=("pmse",))
    want = eta * noise**2 * K / (4 - 2 * eta * K)
    assert float(ode.pmse[-1]) == pytest.approx(want, abs=1e-7)
