"""The equations of densities: their limits, an oracle that uses no algebra, published numbers, convergence."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from quenched.numerics import (
    Densities,
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Spectrum,
    Teacher,
    TwoLayer,
    drift,
    errors,
    integrate,
    random_state,
)
from quenched.numerics.averages.activations import activation_functions, tables
from quenched.numerics.averages.losses import coefficients
from quenched.numerics.two_layer.drift import drift_arrays
from quenched.numerics.two_layer.local_fields import Fields
from quenched.numerics.two_layer.step_averages import Sampling, StepAverages
from quenched.theory import two_layer

pytestmark = pytest.mark.usefixtures("derived_here")

REFERENCE = Path(os.environ["QUENCHED_REFDATA"])
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the published data of QUENCHED_REFDATA are absent")
RULE = OnlineSGD(0.4, 0.1, 0.3, 0.05, label_noise=0.2)


@pytest.mark.parametrize("activation", ["relu", "erf", "he3"])
@pytest.mark.parametrize("rule", [RULE, GradientFlow(0.4, 0.1, 0.3, 0.05)], ids=["sgd", "flow"])
def test_equal_eigenvalues_reduce_to_the_isotropic_equations(activation, rule):
    """Two generated codes, one derivation: entries of order one agree up to some hundred roundings, 1e-13."""
    isotropic, network = Mixture.ring(3, 0.7), TwoLayer(3, activation, output_scale=0.8)
    state = random_state(isotropic, network, 50, seed=3)
    same = Spectrum(np.ones((6, 3)), [0.2, 0.3, 0.5])
    mixture = Mixture(isotropic.means, isotropic.labels, sigma=0.7, spectrum=same)
    expected, found = drift(isotropic, network, rule, state), drift(mixture, network, rule, state)
    assert np.abs(mixture.means @ found.A.sum(axis=0) - expected.M).max() < 1e-13
    assert np.abs(found.Q.sum(axis=0) - expected.Q).max() < 1e-13
    assert np.abs(found.v - expected.v).max() < 1e-13
    one, other = errors(isotropic, network, state), errors(mixture, network, Densities.spread(mixture, state))
    assert other.pmse == pytest.approx(one.pmse, rel=1e-13)
    assert other.classification_error == pytest.approx(
        one.classification_error, abs=3 * one.classification_error_error + 1e-12
    )


def explicit(seed, activation, teacher=None):
    """A problem in D = 4 dimensions, two nodes of two directions, with its weights, and a grid over the inputs."""
    rng = np.random.default_rng(seed)
    D, K, p = 4, 2, 2
    basis = np.linalg.qr(rng.standard_normal((D, p)))[0].T  # e_b on the eigenvectors
    parts = basis.reshape(p, 2, 2).transpose(1, 0, 2)  # (node, p, direction)
    spectrum = Spectrum([[0.5, 1.5], [2.0, 0.3]], alignment=parts @ parts.swapaxes(1, 2))
    star = None if teacher is None else Teacher(rng.standard_normal((1, p)), [0.7], teacher)
    labels = [1, -1] if star is None else None
    mixture = Mixture(
        rng.standard_normal((2, p)), labels, [0.3, 0.7], sigma=[0.8, 1.1], spectrum=spectrum, teacher=star
    )
    w = rng.standard_normal((K, D))  # w_k/sqrt(D)
    nodes = w.reshape(K, 2, 2).transpose(1, 0, 2)
    state = Densities(parts @ nodes.swapaxes(1, 2), nodes @ nodes.swapaxes(1, 2), rng.standard_normal(K))
    scales = np.sqrt(np.repeat(mixture.eigenvalues, 2, axis=1))
    return mixture, TwoLayer(K, activation), state, w, basis, scales


@pytest.mark.parametrize(("activation", "teacher"), [("erf", None), ("sin", None), ("he2", None), ("erf", "erf")])
def test_the_flow_is_the_mean_increment_of_a_step_on_a_grid_of_inputs(activation, teacher):
    """No Stein, no algebra: E[push_k x] over x in R^4 by a Gauss-Hermite grid, in each node; exact in any dimension.

    24 points an axis: fields have variances up to 10, where erf and sin leave errors of 1e-7 of E[..] of order one
    (28 and 32 points change the grid value by less than that); He_2 is exact.
    """
    mixture, network, state, w, basis, scales = explicit(1, activation, teacher)
    rule = GradientFlow(0.5, 0.2, 0.25, 0.1)
    found = drift(mixture, network, rule, state)
    x, weight = np.polynomial.hermite_e.hermegauss(24)
    grid = np.stack(np.meshgrid(*[x] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    measure = np.prod(
        np.stack(np.meshgrid(*[weight / weight.sum()] * 4, indexing="ij"), axis=-1).reshape(-1, 4), axis=1
    )
    g, dg = activation_functions(activation)
    dw, dv = np.zeros_like(w), np.zeros_like(state.v)
    for a in range(2):
        X = mixture.means[a] @ basis + scales[a] * grid
        field = X @ w.T
        if mixture.teacher is None:
            y = mixture.labels[a]
        else:
            y = activation_functions(teacher)[0](X @ basis.T @ mixture.teacher.weights.T) @ mixture.teacher.v
        force = mixture.weights[a] * measure * (g(field) @ state.v - y)
        dw -= 0.5 * (force[:, None] * state.v * dg(field)).T @ X
        dv -= 0.25 * force @ g(field)
    dw -= 0.5 * 0.2 * w
    dv -= 0.25 * 0.1 * state.v
    bound = 1e-9 if activation == "he2" else 1e-6
    for u in range(2):
        here = slice(2 * u, 2 * u + 2)
        dQ = dw[:, here] @ w[:, here].T
        assert np.abs(found.A[u] - basis[:, here] @ dw[:, here].T).max() < bound
        assert np.abs(found.Q[u] - dQ - dQ.T).max() < bound
    assert np.abs(found.v - dv).max() < bound


def test_the_noise_of_a_step_spreads_over_the_nodes_by_their_variance():
    """What single samples add to Q_u is share_u sum_a P_a rho_au noise_a: from two nodes, the part of each cluster."""
    mixture, network, state, *_ = explicit(2, "relu")
    noisy, plain = (drift(mixture, network, rule, state).Q for rule in (OnlineSGD(0.5), GradientFlow(0.5)))
    added = noisy - plain
    variances = mixture.shares * mixture.eigenvalues * mixture.weights[:, None]  # (cluster, node)
    noise = np.linalg.solve(variances.T, added.reshape(2, -1)).reshape(added.shape)
    # the same number from samples of the local fields; 4 standard errors
    rng, g = np.random.default_rng(0), activation_functions("relu")
    covariances = np.tensordot(mixture.eigenvalues, state.Q, axes=1)
    for a in range(2):
        lam = rng.multivariate_normal(mixture.means[a] @ state.A.sum(axis=0), covariances[a], size=400_000)
        push = 0.5 * state.v * (g[0](lam) @ state.v - mixture.labels[a])[:, None] * g[1](lam)
        products = push[:, :, None] * push[:, None, :]
        error = products.std(axis=0) / np.sqrt(len(lam))
        assert (np.abs(noise[a] - products.mean(axis=0)) < 4 * error).all()


def test_a_linear_network_sees_the_linear_part_of_its_teacher():
    """phi = u.x is linear, so that the flow needs E[y x] only: Stein, E[y x] = E[y] mean + sigma^2 E[g'] w*."""
    weights, means = np.array([[0.6, -0.8]]), np.array([[0.3, 0.1]])
    mixture = Mixture(means, teacher=Teacher(weights, [0.9], "relu"))
    A, v = np.array([[0.5], [0.1]]), np.array([0.8])
    state = OrderParameters(mixture.references @ A, A.T @ A + 0.3, v)
    found = drift(mixture, TwoLayer(1, "linear"), GradientFlow(), state)
    field = (means @ weights.T).item()
    y, slope = (0.9 * tables("relu", np.array([[field]]), np.ones((1, 1, 1)), 1)[name].item() for name in ("g", "dg"))
    teacher = y * means[0] + slope * weights[0]  # E[y x]
    student = v[0] * ((means[0] @ A[:, 0]) * means[0] + A[:, 0])  # E[phi x] on the coordinates
    dA = -v[0] * (student - teacher)
    assert found.method == "closed form"
    assert found.M[:, 0] == pytest.approx(mixture.references @ dA, abs=1e-13)
    dv = -(v[0] * ((means[0] @ A[:, 0]) ** 2 + state.Q[0, 0]) - A[:, 0] @ teacher)
    assert found.v[0] == pytest.approx(dv, abs=1e-13)


@pytest.mark.parametrize(
    ("student", "teacher"), [("erf", "relu"), ("relu", "erf"), ("linear", "he2"), ("erf", "linear")]
)
def test_averages_across_two_activations_agree_with_samples(student, teacher):
    """Closed forms against the same averages sampled, where fields are drawn and nothing else is shared.

    Five standard errors, which are spreads of eight: a false alarm of Student's t with seven degrees in 1000 entries is
    likely at 5, so that the largest of an array's entries is bounded by five times the largest error of its kind.
    """
    rng = np.random.default_rng(6)
    mixture = Mixture(
        0.5 * rng.standard_normal((2, 2)), sigma=0.6, teacher=Teacher(0.7 * np.eye(2), [0.9, -0.4], teacher)
    )
    A = 0.5 * rng.standard_normal((2, 3))
    state = Densities(A[None], (A.T @ A + 0.3 * np.eye(3))[None], rng.standard_normal(3))
    fields = Fields(mixture, TwoLayer(3, student))
    step = StepAverages(fields, RULE, Sampling(0.0, 0, 2**16), stated=True)
    A, Q, v = fields.joined(state.A, state.Q, state.v)
    exact, _, method = step.exact(*fields.law(A, Q), v)
    step.closed = False
    values, spread, _ = step.sampled(
        *fields.law(A, Q), v, lambda averages: np.concatenate([part.ravel() for part in averages])
    )
    sampled = [
        part.reshape(one.shape)
        for part, one in zip(np.split(values, np.cumsum([part.size for part in exact])[:-1]), exact, strict=True)
    ]
    error = spread.max()
    assert method == "closed form"
    assert error < 0.02
    for name, one, other in zip(("force", "response", "noise", "readout", "slope"), exact, sampled, strict=True):
        gap = np.abs(one - other)
        gap = gap if name == "slope" else gap[:, :3]  # what moves the network; its teacher's own rows are not needed
        gap = gap[:, :, :3] if name == "noise" else gap
        assert gap.max() < 5 * error, name


def test_a_teacher_without_closed_forms_is_sampled():
    """tanh learns from tanh: at the teacher's weights nothing moves.

    Samples come by the root of a singular covariance, where fields that are equal differ by sqrt(eps), some 1e-8.
    """
    weights, v = np.array([[0.8, 0.0], [0.3, 0.6]]), np.array([0.7, -0.4])
    mixture = Mixture(np.zeros((1, 2)), teacher=Teacher(weights, v, "tanh"))
    state = OrderParameters(mixture.references @ weights.T, weights @ weights.T, v)
    rate = drift(mixture, TwoLayer(2, "tanh"), OnlineSGD(0.5), state)
    assert rate.method == "quasi-Monte Carlo"
    assert max(np.abs(rate.M).max(), np.abs(rate.Q).max(), np.abs(rate.v).max()) < 1e-8


@pytest.mark.parametrize(("activation", "left"), [("linear", 1.0), ("abs", -1.0), ("leaky_relu", 0.01)])
def test_a_bent_line_is_two_relu_neurons(activation, left):
    """Teachers of relu networks: closed, and the same as with relu(x) and -left relu(-x) written out.

    The opposite neurons make the covariance singular, where averages over four fields are right to 1e-8.
    """
    weights, means = np.array([[0.6, -0.8]]), [[0.3, 0.1]]
    one = Mixture(means, teacher=Teacher(weights, [0.9], activation))
    two = Mixture(means, teacher=Teacher(np.concatenate([weights, -weights]), [0.9, -0.9 * left], "relu"))
    network, A = TwoLayer(2, "relu"), np.array([[0.5, -0.2], [0.1, 0.7]])
    states = [OrderParameters(m.references @ A, A.T @ A + 0.3 * np.eye(2), [0.8, -0.5]) for m in (one, two)]
    a, b = (drift(m, network, RULE, s) for m, s in zip((one, two), states, strict=True))
    assert a.method == "closed form"
    assert np.abs(a.Q - b.Q).max() < 1e-8
    assert np.abs(a.M[:2] - b.M[:2]).max() < 1e-13
    # pmse of labels alone, by sampling what the teacher says
    rng = np.random.default_rng(0)
    nu = rng.standard_normal((400_000, 2)) @ weights[0] + 0.1
    silent = OrderParameters(states[0].M, states[0].Q, [0.0, 0.0])
    labels = (0.9 * activation_functions(activation)[0](nu)) ** 2 / 2
    assert errors(one, network, silent).pmse == pytest.approx(labels.mean(), abs=4 * labels.std() / np.sqrt(len(nu)))


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_a_network_that_is_its_teacher_stays_there(activation):
    """phi = y on every input: no force, no noise; what is left is rounding, and 1e-8 of the singular averages."""
    rng = np.random.default_rng(4)
    weights, v = rng.standard_normal((2, 3)) / np.sqrt(3), np.array([1.0, -0.5])
    mixture = Mixture(rng.standard_normal((2, 3)), sigma=0.7, teacher=Teacher(weights, v, activation))
    state = OrderParameters(mixture.references @ weights.T, weights @ weights.T, v)
    rate = drift(mixture, TwoLayer(2, activation), OnlineSGD(0.5), state)
    assert max(np.abs(rate.M).max(), np.abs(rate.Q).max(), np.abs(rate.v).max()) < 2e-7
    found = errors(mixture, TwoLayer(2, activation), state)
    assert found.pmse < 1e-13
    assert found.classification_error == found.tie_probability / 2


@needs_reference
@pytest.mark.parametrize("case", [0, 1, 2])
def test_generalisation_errors_of_nn2pp(case):
    """Published generalisation errors of explicit teachers and students, recomputed; to twelve digits."""
    test = json.loads((REFERENCE / "nn2pp" / "eg_tests.json").read_text())["tests"][case]
    w, B = np.array(test["w"]), np.array(test["B"])
    N, activation = w.shape[1], {"erf": "erf", "lin": "linear"}[test["act"]]
    mixture = Mixture(np.zeros((1, N)), teacher=Teacher(B / np.sqrt(N), np.array(test["A"], dtype=float), activation))
    state = OrderParameters(mixture.references @ w.T / np.sqrt(N), w @ w.T / N, np.array(test["v"], dtype=float))
    found = errors(mixture, TwoLayer(len(w), activation), state)
    assert found.pmse == pytest.approx(test["recomputed"], rel=1e-12)


def committee():
    """The published run of an erf committee of 10 with a teacher of 2: times, risks, states (Q, R) and their rate.

    A unit of its time moves the order parameters by p = 10 units of the gradient flow at fixed readouts 1/p.  Of what
    is of second order in the rate gamma it keeps the label noise: (gamma/p) 0.001 E[g'_k g'_l] is added to dQ_kl/dt.
    """
    folder = REFERENCE / "sgd_erf_teacher_student"
    table = np.genfromtxt(folder / "ode.csv", delimiter=",", names=True)
    parameters = json.loads((folder / "ode_params.json").read_text())
    Q, R = np.empty((len(table), 10, 10)), np.empty((len(table), 2, 10))
    for i in range(10):
        for j in range(i + 1):
            Q[:, i, j] = Q[:, j, i] = table[f"Q_{i}_{j}"]
        for m in range(2):
            R[:, m, i] = table[f"M_{i}_{m}"]
    mixture = Mixture(np.zeros((1, 2)), teacher=Teacher(np.eye(2), [0.5, 0.5], "erf"))
    flow = drift_arrays(mixture, TwoLayer(10, "erf"), GradientFlow(10.0, second_lr=0.0))
    noise, v = parameters["gamma_over_p"] * parameters["noise"], np.full(10, 0.1)

    def rate(A, q):
        dA, dq, _ = flow(A[None], q[None], v)
        return dA[0], dq[0] + noise * tables("erf", np.zeros((1, 10)), q[None], 2)["dg,dg"][0]

    fields = Fields(mixture, TwoLayer(10, "erf"))

    def risk(A, q):  # not by `errors`: some of the published Q have eigenvalues of -6e-7
        joined = fields.joined(A[None], q[None], v)
        averages = tables("erf", *fields.law(*joined[:2]), 2)
        return two_layer.risk(mixture.weights, *coefficients("square", mixture.labels)[:3], joined[2], averages, 1.0)

    return table["times"], table["risk"], Q, R, rate, risk


@needs_reference
def test_the_published_teacher_student_run_by_its_own_euler_steps():
    """Rows hold the state one step of 1e-3 before their time; 200 steps of ours, rounding errors of some 1e-16 each."""
    times, risks, Q, R, rate, risk = committee()
    A, q = R[0], Q[0]
    rows = {round(t / 1e-3) - 1: i for i, t in enumerate(times)}
    compared = 0
    for step in range(201):
        if step in rows:
            i = rows[step]
            assert np.abs(q - Q[i]).max() < 2e-13
            assert np.abs(A - R[i]).max() < 2e-13
            assert risk(A, q) == pytest.approx(risks[i], rel=1e-12)
            compared += 1
        dA, dq = rate(A, q)
        A, q = A + 1e-3 * dA, q + 1e-3 * dq
    assert compared >= 8


@needs_reference
def test_the_exact_ode_differs_from_the_published_euler_run_by_its_step_error():
    """Euler's error is of first order in its step of 1e-3: up to 4e-4, as large as the state moves in half a step."""
    times, _, Q, R, rate, _ = committee()
    upper = np.triu_indices(10)

    def derivative(_, y):
        q = np.empty((10, 10))
        q[upper] = q.T[upper] = y[20:]
        dA, dq = rate(y[:20].reshape(2, 10), q)
        return np.concatenate([dA.ravel(), dq[upper]])

    chosen = np.flatnonzero(times < 300)
    start = np.concatenate([R[0].ravel(), Q[0][upper]])
    path = solve_ivp(
        derivative, (0, times[chosen[-1]]), start, "DOP853", times[chosen] - 1e-3, rtol=1e-9, atol=1e-11
    ).y.T
    expected = np.array([np.concatenate([R[i].ravel(), Q[i][upper]]) for i in chosen])
    assert 5e-5 < np.abs(path - expected).max() < 4e-4


def test_a_spectrum_by_more_nodes_converges():
    """Gauss nodes of the Marchenko-Pastur law: the learning curve converges exponentially in their number."""
    base = Mixture.xor(0.6)
    network, rule = TwoLayer(3, "erf"), OnlineSGD(0.5)
    state = random_state(base, network, 1000, seed=2)
    ends = []
    for nodes in (2, 4, 8, 16):
        mixture = Mixture(base.means, base.labels, sigma=0.6, spectrum=Spectrum.marchenko_pastur(0.5, nodes))
        ends.append(float(integrate(mixture, network, rule, state, [3.0]).pmse[-1]))
    gaps = np.abs(np.diff(ends))
    assert gaps[1] < gaps[0] / 5
    assert gaps[2] < 1e-7  # the solver's tolerance of 1e-8 a step, over some ten steps


def test_a_learning_curve_with_a_spectrum_is_recorded_in_full():
    base = Mixture.two_clusters(0.6)
    mixture = Mixture(base.means, base.labels, sigma=0.6, spectrum=Spectrum.two_level(0.5, 3.0, 0.2))
    state = random_state(mixture, TwoLayer(2, "relu"), 100, seed=0)
    run = integrate(mixture, TwoLayer(2, "relu"), OnlineSGD(0.5), state, [0.0, 1.0])
    assert run.A_u.dims == ("time", "node", "coordinate", "neuron")
    assert np.abs(run.Q_u.sum("node") - run.Q).max() < 1e-14
    assert np.abs(run.M[0] - state.overlaps(mixture).M).max() < 1e-14
    assert json.loads(run.attrs["mixture"])["spectrum"]["eigenvalues"] == [0.5, 3.0]
    again = Mixture(**json.loads(run.attrs["mixture"]))
    assert again.spectrum.nodes == 2


SPECTRAL = Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.5, 1.5]))


def density(A=None, Q=None):
    return Densities(np.zeros((2, 1, 1)) if A is None else A, np.ones((2, 1, 1)) if Q is None else Q, [1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: density(Q=[[[1.0]], [[-1.0]]]),
            r"Q must be positive semi-definite in each node, got the eigenvalue -1",
        ),
        (lambda: density(A=np.zeros((3, 1, 1))), r"Q must have shape \(3, 1, 1\), got \(2, 1, 1\)"),
        (lambda: density(A=np.full((2, 1, 1), 5.0)).check(SPECTRAL), r"Q is too small for A: .* eigenvalue -49"),
        (
            lambda: density().check(Mixture.xor(1.0)),
            r"A must have shape \(nodes, p, K\) = \(1, 2, 1\), got \(2, 1, 1\)",
        ),
        (
            lambda: drift(SPECTRAL, TwoLayer(2, "relu"), RULE, density()),
            "state must have K = 2 neurons like the network, got 1",
        ),
        (
            lambda: errors(SPECTRAL, TwoLayer(1, "relu"), density(), digits=20),
            "digits=20 needs isotropic clusters with a label each",
        ),
        (
            lambda: Mixture([[1.0]], [1], teacher=Teacher([[1.0]], [1.0], "erf")),
            r"labels must be left out where a teacher makes them, got \[1\]",
        ),
        (
            lambda: Mixture([[1.0]], teacher=Teacher([[1.0, 0.0]], [1.0], "erf")),
            "teacher must have weights of 1 coordinates like the means, got 2",
        ),
        (
            lambda: Mixture([[1.0], [2.0]], [1, 1], spectrum=Spectrum(np.ones((3, 2)))),
            "spectrum must have eigenvalues of 2 clusters, got 3",
        ),
    ],
)
def test_bad_input_is_refused_by_name_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
