"""Teachers whose labels are signs, whose fields are noisy, which differ by cluster: increments, limits, refusals."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Teacher,
    TwoLayer,
    curve,
    drift,
    errors,
    fixed_point,
    fixed_points,
    integrate,
    random_state,
)
from quenched.numerics.averages import activations, teacher_labels
from quenched.numerics.problem.state import Densities
from quenched.numerics.two_layer.local_fields import Fields
from quenched.numerics.two_layer.stationary import StationaryEquations
from quenched.numerics.two_layer.step_averages import ClusterTeachers, Sampling
from quenched.numerics.two_layer.symmetry import homogeneity, parity, symmetries

pytestmark = pytest.mark.usefixtures("derived_here")

MEANS = np.array([[0.5, -0.2], [-0.3, 0.4]])
WEIGHTS = np.array([[0.6, 0.3], [-0.4, 0.7]])
EACH = [[0.8, -0.4], [0.0, 0.9]]  # readouts by cluster
RULE = OnlineSGD(0.5, 0.1, 0.4, label_noise=0.3)
BIASED = replace(RULE, bias_lr=0.7, bias_decay=0.2, intercept_lr=0.9, intercept_decay=0.3)


def taught(**options):
    options = {"v": [0.8, -0.4], "activation": "erf"} | options
    return Mixture(MEANS, weights=[0.4, 0.6], sigma=[0.7, 0.9], teacher=Teacher(WEIGHTS, **options))


def weights(K, seed=0):
    """Weights on the two coordinates and one beside them (3, K), and the state that they are."""
    w = 0.6 * np.random.default_rng(seed).standard_normal((3, K))
    return w, lambda mixture: OrderParameters(mixture.references @ w[:2], w.T @ w, np.linspace(0.9, -0.6, K))


@pytest.mark.parametrize("options", [{"field_noise": 0.5}, {"v": EACH}, {"v": EACH, "field_noise": 0.5}])
def test_the_drift_is_the_mean_increment_of_a_step_on_a_grid(options):
    """Gauss-Hermite over three coordinates of x (24 nodes each) and the noise of both fields (12 each).

    The steps are written down without an average: dw = -eta v g' Delta x, with the label noise by its variance and
    |x|^2/D at sigma^2.  erf of fields of spread below 1: fewer nodes (20, 10) change nothing beyond 1e-7.
    """
    mixture, network = taught(**options), TwoLayer(2, "erf", output_scale=0.9)
    w, state = weights(2)
    teacher, at = mixture.teacher, state(mixture)
    nodes, mass = np.polynomial.hermite_e.hermegauss(24)
    x = np.stack(np.meshgrid(*[nodes] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    p = np.einsum("i,j,k->ijk", mass, mass, mass).ravel() / (2 * np.pi) ** 1.5
    z, q = np.polynomial.hermite_e.hermegauss(12)
    q = q / q.sum()
    dA, dQ, dv, s = np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2), network.output_scale
    for a, (P, sigma) in enumerate(zip(mixture.weights, mixture.sigmas, strict=True)):
        X = sigma * x + np.append(mixture.means[a], 0.0)
        lam, nu, readout = X @ w, X[:, :2] @ teacher.weights.T, teacher.readouts(2)[a]
        heard = [
            v * erf((field[:, None] + teacher.field_noise * z) / np.sqrt(2))
            for v, field in zip(readout, nu.T, strict=True)
        ]
        mean = sum(part @ q for part in heard)
        square = sum(part**2 @ q for part in heard) + 2 * np.prod([part @ q for part in heard], axis=0)
        phi = s * erf(lam / np.sqrt(2)) @ at.v
        slope = s * at.v * np.sqrt(2 / np.pi) * np.exp(-(lam**2) / 2)
        push = (phi - mean)[:, None] * slope
        pushes = ((phi**2 - 2 * phi * mean + square + RULE.label_noise**2) * p)[:, None, None]
        dA -= RULE.eta * P * np.einsum("n,nb,nk->bk", p, X[:, :2], push)
        pull = RULE.eta * P * np.einsum("n,nk,nl->kl", p, lam, push)
        dQ += RULE.eta**2 * P * sigma**2 * (pushes * slope[:, :, None] * slope[:, None]).sum(axis=0) - pull - pull.T
        dv -= RULE.eta_v * P * s * (p * (phi - mean)) @ erf(lam / np.sqrt(2))
    dA, dQ, dv = (
        dA - RULE.eta * RULE.kappa * w[:2],
        dQ - 2 * RULE.eta * RULE.kappa * at.Q,
        dv - RULE.eta_v * RULE.kappa_v * at.v,
    )
    found = drift(mixture, network, RULE, at)
    assert found.method == "closed form"
    assert np.abs(found.M - mixture.references @ dA).max() < 1e-7
    assert np.abs(found.Q - dQ).max() < 1e-7
    assert np.abs(found.v - dv).max() < 1e-7


@pytest.mark.parametrize(
    ("activation", "options"),
    [
        ("relu", {"sign": True, "field_noise": 0.3}),
        ("erf", {"sign": True, "v": EACH}),
        ("erf", {"sign": True, "activation": "linear", "field_noise": 0.3, "v": EACH}),
        ("relu", {"activation": "leaky_relu", "field_noise": 0.5}),
    ],
    ids=["sign", "signs by cluster", "signs of linear fields", "a bent line in relu neurons"],
)
def test_the_drift_is_the_mean_increment_of_a_step_over_samples(activation, options):
    """400,000 samples in 20 parts, with thresholds and an intercept: every entry within 4.8 standard errors, which one
    of 17 numbers exceeds once in 500 times at 19 degrees of freedom; the errors of the drift itself are smaller by an
    order of magnitude.
    """
    mixture, network = taught(**options), TwoLayer(2, activation)
    w, state = weights(2)
    teacher, at = mixture.teacher, replace(state(mixture), b=[0.2, -0.3], c=0.15)
    found = drift(mixture, network, BIASED, at)
    g = {"erf": lambda x: erf(x / np.sqrt(2)), "relu": lambda x: np.maximum(x, 0)}
    g |= {"linear": lambda x: x, "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x)}
    dg = {"erf": lambda x: np.sqrt(2 / np.pi) * np.exp(-(x**2) / 2), "relu": lambda x: (x > 0).astype(float)}
    parts = []
    for seed in range(20):
        rng, n = np.random.default_rng(seed), 20_000
        a = rng.choice(2, n, p=mixture.weights)
        X = mixture.sigmas[a][:, None] * rng.standard_normal((n, 3))
        X[:, :2] += mixture.means[a]
        nu = X[:, :2] @ teacher.weights.T + teacher.field_noise * rng.standard_normal((n, 2))
        y = (g[teacher.activation](nu) * teacher.readouts(2)[a]).sum(axis=1)
        y = (np.sign(y) if teacher.sign else y) + RULE.label_noise * rng.standard_normal(n)
        lam = X @ w
        delta = g[activation](lam + at.b) @ at.v + at.c - y
        push = at.v * dg[activation](lam + at.b) * delta[:, None]
        pull = lam.T @ push / n
        dQ = RULE.eta**2 * (push * mixture.sigmas[a][:, None] ** 2).T @ push / n - RULE.eta * (pull + pull.T)
        dA = -RULE.eta * X[:, :2].T @ push / n
        dv = -RULE.eta_v * delta @ g[activation](lam + at.b) / n
        db, dc = -BIASED.bias_lr * push.mean(axis=0), [-BIASED.intercept_lr * delta.mean()]
        parts.append(np.concatenate([(mixture.references @ dA).ravel(), dQ.ravel(), dv, db, dc]))
    decay = [RULE.eta * RULE.kappa * at.M.ravel(), 2 * RULE.eta * RULE.kappa * at.Q.ravel()]
    decay += [RULE.eta_v * RULE.kappa_v * at.v, BIASED.bias_lr * BIASED.bias_decay * at.b]
    decay += [[BIASED.intercept_lr * BIASED.intercept_decay * at.c]]
    mine = np.concatenate([found.M.ravel(), found.Q.ravel(), found.v, found.b, [found.c]]) + np.concatenate(decay)
    z = (mine - np.mean(parts, axis=0)) / (np.std(parts, axis=0, ddof=1) / np.sqrt(20))
    assert np.abs(z).max() < 4.8
    assert found.error < 3e-4


@pytest.mark.parametrize("activation", ["erf", "tanh"])
def test_clusters_with_teachers_of_their_own_add_up(activation):
    """The drift is linear in the law of the cluster: that of the mixture is the average over its clusters alone."""
    teachers = [Teacher(WEIGHTS, readout, activation, field_noise=0.4) for readout in ([0.8, -0.4], [0.3, 0.9])]
    whole = replace(taught(), teacher=Teacher.of_clusters(teachers))
    network, (w, _) = TwoLayer(2, activation), weights(2)
    biases = [0.2, -0.3], 0.15
    state = lambda mixture: OrderParameters(mixture.references @ w[:2], w.T @ w, [0.9, -0.6], *biases)  # noqa: E731
    alone = [Mixture(MEANS[[a]], sigma=whole.sigmas[a], teacher=teacher) for a, teacher in enumerate(teachers)]
    found = drift(whole, network, BIASED, state(whole))
    parts = [drift(mixture, network, BIASED, state(mixture)) for mixture in alone]
    bound = 1e-13 if activation == "erf" else 5 * (found.error + max(part.error for part in parts))
    assert np.abs(found.Q - np.tensordot(whole.weights, [part.Q for part in parts], 1)).max() < bound
    assert np.abs(found.v - np.tensordot(whole.weights, [part.v for part in parts], 1)).max() < bound
    assert np.abs(found.b - np.tensordot(whole.weights, [part.b for part in parts], 1)).max() < bound
    assert abs(found.c - whole.weights @ [part.c for part in parts]) < bound
    one, other = errors(whole, network, state(whole)), [errors(m, network, state(m)) for m in alone]
    assert one.pmse == pytest.approx(float(whole.weights @ [e.pmse for e in other]), abs=1e-9)
    assert one.classification_error == pytest.approx(
        float(whole.weights @ [e.classification_error for e in other]), abs=5 * one.classification_error_error
    )


def test_the_error_of_clusters_in_closed_form_grows_with_the_rates_like_that_of_all(monkeypatch):
    """Of two clusters in closed form the second is sampled: standard errors, and those of both closed forms."""
    mixture = taught(v=EACH)
    fields = Fields(mixture, TwoLayer(1, "erf"))
    state = Densities.spread(mixture, OrderParameters(mixture.references @ [[0.5], [0.2]], [[0.6]], [0.7]))
    A, Q, v = fields.joined(state.A, state.Q, state.v)
    stated, plain = (ClusterTeachers(fields, RULE, Sampling(1.0, 0, 2**10), stated) for stated in (True, False))
    whole = stated.exact(*fields.law(A, Q), v)[1]
    assert math.isnan(plain.exact(*fields.law(A, Q), v)[1])  # not stated, not 0
    for steps in (stated, plain):
        monkeypatch.setattr(steps.parts[1][2], "exact", lambda *_: None)

    def error(steps, largest):
        return steps.sampled(*fields.law(A, Q), v, lambda averages: averages.slope, 0.0, largest)[1]

    once, often = error(stated, 1.0), error(stated, 1e9)
    assert ((often - once) / 1e9 > 0.99 * whole).all()
    assert ((often - once) / 1e9 < 2 * whole).all()
    assert np.isfinite(error(plain, 1.0)).all()


def test_one_readout_for_all_clusters_may_be_written_for_each():
    network, (_, state) = TwoLayer(2, "relu"), weights(2)
    for options in ({"activation": "relu"}, {"activation": "linear", "sign": True}):
        one, other = taught(**options), taught(v=[[0.8, -0.4]] * 2, **options)
        rates = [drift(mixture, network, RULE, state(mixture)) for mixture in (one, other)]
        assert np.abs(rates[0].M - rates[1].M).max() < 1e-13
        assert np.abs(rates[0].Q - rates[1].Q).max() < 1e-13
        assert errors(one, network, state(one)).pmse == pytest.approx(
            errors(other, network, state(other)).pmse, abs=1e-13
        )


def test_the_sign_of_equal_neurons_is_that_of_one():
    """Two equal erf neurons, whose sign is sampled, against sign(x) in closed form; and without field noise."""
    network, (_, state) = TwoLayer(2, "erf"), weights(2)
    one = replace(taught(), teacher=Teacher(WEIGHTS[:1], [0.7], "erf", sign=True))
    two = replace(taught(), teacher=Teacher(WEIGHTS[[0, 0]], [0.3, 0.2], "erf", sign=True))
    first, second = (drift(mixture, network, RULE, state(mixture)) for mixture in (one, two))
    assert first.method == "closed form"
    assert "Monte Carlo" in second.method
    assert np.abs(first.Q - second.Q).max() < 5 * second.error
    assert np.abs(first.M - second.M[:3]).max() < 5 * second.error
    a, b = (errors(mixture, network, state(mixture)) for mixture in (one, two))
    assert abs(a.pmse - b.pmse) < 5 * b.pmse_error
    assert abs(a.classification_error - b.classification_error) < 5 * b.classification_error_error


def test_the_sign_of_x_is_proved_not_seen_at_some_places(monkeypatch):
    """g = x, bent down at 20, is negative beyond 30: its sign is that of a field of spread 30 only up to one spread.

    A line like it is not homogeneous either.
    """
    bent, usual = "x - 3*Max(x - 20, 0) + 3*Max(-x - 20, 0)", activations._found
    made = usual("linear")._replace(  # as `_found` derives it, in seconds, but without averages in closed form
        text=bent, g=lambda x: x - 3 * np.maximum(x - 20, 0) + 3 * np.maximum(-x - 20, 0), groups=()
    )
    made = made._replace(pieces=((-20.0, 20.0), ((-2.0, -60.0), (1.0, 0.0), (-2.0, 60.0))))
    monkeypatch.setattr(activations, "_found", lambda text: made if text == bent else usual(text))
    mixture = Mixture([[0.0]], teacher=Teacher([[30.0]], [1.0], bent, sign=True))
    found = errors(mixture, TwoLayer(1, "linear"), OrderParameters([[0.0], [30.0]], [[1.0]], [1.0]), tolerance=1e-4)
    right = math.erfc(math.sqrt(0.5))
    assert abs(found.classification_error - right) < 5 * found.classification_error_error < 1e-3
    assert homogeneity(bent) is None
    assert parity(bent) == -1


@pytest.mark.parametrize(
    ("text", "proved"),
    [
        ("erf(x/sqrt(2))", True),
        ("3*tanh(0.5*x)", True),
        ("x**3", True),
        ("-erf(x)", False),
        ("x**3 - 3*x", False),
        ("x*(x**2 - 0.81)*(x**2 - 1.21)", False),  # positive at 0.13, 0.41, 0.77, 1.19, 1.83, 2.71, 4.3
    ],
)
def test_which_functions_are_known_to_have_the_sign_of_x(text, proved):
    assert (teacher_labels._RISING.fullmatch(text) is not None) == proved


def test_noise_of_the_fields_fixes_the_scale_of_a_homogeneous_teacher():
    """relu neurons 2 relu(x_1 + noise) and relu(2 x_2 + noise): one function of x without noise, two with it."""
    teacher = Teacher([[1.0, 0.0], [0.0, 2.0]], [2.0, 1.0], "relu")
    plain = Mixture(np.zeros((1, 2)), teacher=teacher)
    noisy = replace(plain, teacher=replace(teacher, field_noise=1.0))
    assert [sum(1 for _ in symmetries(mixture)) for mixture in (plain, noisy)] == [2, 1]


@pytest.mark.parametrize("noise", [0.0, 0.8])
def test_a_linear_network_learns_a_perceptron(noise):
    """y = sign(w*.x + noise): E[y x] = sqrt(2/pi) w*/sqrt(|w*|^2 + noise^2), where gradient flow ends.

    There E y^2 = 1 and E y phi = E phi^2 = (2/pi) |w*|^2/(|w*|^2 + noise^2), and the sign differs from the label with
    the probability arccos(correlation)/pi.
    """
    teacher = Teacher([[0.8, 0.6]], [1.0], "linear", sign=True, field_noise=noise)
    mixture, network = Mixture(np.zeros((1, 2)), teacher=teacher), TwoLayer(1, "linear")
    guess = OrderParameters([[0.0], [0.5]], [[0.4]], [1.0])
    found = fixed_point(mixture, network, GradientFlow(second_lr=0.0), guess)
    share = 1 / (1 + noise**2)
    assert found.stable
    assert found.state.M[1, 0] == pytest.approx(np.sqrt(2 / np.pi * share), abs=1e-10)
    assert found.pmse == pytest.approx((1 - 2 / np.pi * share) / 2, abs=1e-10)
    assert found.classification_error == pytest.approx(
        np.arccos(np.sqrt(share)) / np.pi, abs=5 * found.classification_error_error + 1e-4
    )


@pytest.mark.parametrize(
    "options",
    [
        {"field_noise": 0.5},
        {"v": EACH, "activation": "leaky_relu", "field_noise": 0.5},
        {"v": EACH, "activation": "linear", "sign": True},
    ],
)
@pytest.mark.parametrize("rule", [RULE, BIASED, GradientFlow(1.0, 0.1)], ids=["sgd", "sgd with biases", "flow"])
def test_the_jacobian(options, rule):
    """Against central differences, whose error is 1e-10 of the scale."""
    activation = "relu" if options.get("activation") == "leaky_relu" else "erf"
    mixture, network = taught(**options), TwoLayer(2, activation)
    system = StationaryEquations(mixture, network, rule)
    biases = {"b": [0.2, -0.3], "c": 0.15} if rule.biased else {}
    system.start(replace(random_state(mixture, network, 50, 1), **biases))
    assert np.abs(system.jacobian(system.x0) - system.differences(system.x0)).max() < 1e-9


def test_trajectories_with_signs_that_are_sampled_are_smooth():
    """A teacher's own coordinates stay where they are: steps of DOP853 at 1e-8, some dozens, not thousands."""
    mixture, network = taught(sign=True), TwoLayer(2, "erf")
    start = random_state(mixture, network, 500, 1)
    found = integrate(mixture, network, OnlineSGD(0.3), start, [0.0, 1.5], quantities=("pmse",))
    assert json.loads(found.attrs["solver"])["evaluations"] < 120
    assert float(found.pmse[1]) < float(found.pmse[0])


def test_solutions_are_counted_up_to_the_teachers_symmetries():
    """An erf network of two that learns two orthonormal neurons: from every start the same solution, in two orders.

    It is followed in the rate up to where it is close to losing its stability (2.307 without noise).
    """
    mixture = Mixture(np.zeros((1, 2)), teacher=Teacher(np.eye(2), [1.0, 1.0], "erf"))
    network, rule = TwoLayer(2, "erf"), OnlineSGD(0.5, second_lr=0.0, label_noise=0.1)
    start = lambda seed: OrderParameters(  # noqa: E731
        *(getattr(random_state(mixture, network, 1000, seed), name) for name in "MQ"), [1.0, 1.0]
    )
    found = fixed_points(mixture, network, rule, range(3), start=start, points=2**8)
    assert found.sizes["solution"] == 1
    assert found.basin[0] == 1
    assert found.kind[0] == "good"
    assert found.R.shape == (1, 2, 2)
    state = OrderParameters(np.concatenate([found.M[0], found.R[0]]), found.Q[0], found.v[0])
    branch = curve(mixture, network, rule, "lr", [0.5, 1.5, 2.2], state, points=2**8)
    assert branch.stable.all()
    assert (np.diff(branch.pmse) > 0).all()
    again = fixed_point(mixture, network, replace(rule, lr=2.2), state, points=2**8)
    assert float(branch.pmse[-1]) == pytest.approx(again.pmse, abs=1e-9)


def test_symmetries_of_teachers():
    """Orthonormal erf neurons: any order, and x -> -x; of relu: any order, also where length and readout trade off."""

    def order(weights, v, activation):
        return sum(1 for _ in symmetries(Mixture(np.zeros((1, 3)), teacher=Teacher(weights, v, activation))))

    assert order(np.eye(3), [1.0, 1.0, 1.0], "erf") == 12
    assert order(np.eye(3), [1.0, 1.0, 2.0], "erf") == 4
    assert order(np.eye(3), [1.0, 1.0, 1.0], "relu") == 6
    assert order(np.diag([1.0, 2.0, 4.0]), [1.0, 0.5, 0.25], "relu") == 6
    assert order(np.eye(3), [1.0, 1.0, 1.0], "quadratic") == 48  # any order and signs; E y has no mirror image


@pytest.mark.parametrize(
    "teacher",
    [
        Teacher([[1.0]], [0.0], "erf"),
        Teacher([[0.0]], [1.0], "relu"),
        Teacher([[1.0], [1.0]], [0.5, -0.5], "relu"),
        Teacher([[1.0]], [2.0], "quadratic", sign=True),
        Teacher([[0.0]], [1.0], "erf", sign=True),
    ],
    ids=["no readout", "no weight", "neurons that cancel", "a sign that never changes", "the sign of 0"],
)
def test_constant_labels_are_refused(teacher):
    mixture = Mixture([[0.0]], teacher=teacher)
    state = OrderParameters(np.zeros((1 + teacher.neurons, 1)), [[1.0]], [1.0])
    with pytest.raises(ValueError, match=r"teacher must make labels that differ, got Teacher.* whose label is"):
        drift(mixture, TwoLayer(1, "erf"), OnlineSGD(0.1), state)


def test_wrong_teachers_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"v must have 2 readouts like the weights, got shape \(2, 3\)"):
        Teacher(WEIGHTS, np.ones((2, 3)), "erf")
    with pytest.raises(ValueError, match="teacher must have a readout for each of 1 clusters, got 2"):
        Mixture([[0.0, 0.0]], teacher=Teacher(WEIGHTS, EACH, "erf"))
    with pytest.raises(ValueError, match="sign must be True or False, got 1"):
        Teacher(WEIGHTS, [1.0, 1.0], "erf", sign=1)
    with pytest.raises(ValueError, match="field_noise must be finite and >= 0, got -1"):
        Teacher(WEIGHTS, [1.0, 1.0], "erf", field_noise=-1)
    with pytest.raises(ValueError, match="teachers must be one or more of the same activation, sign and field_noise"):
        Teacher.of_clusters([Teacher(WEIGHTS, [1.0, 1.0], "erf"), Teacher(WEIGHTS, [1.0, 1.0], "relu")])
    with pytest.raises(ValueError, match=r"teachers must have weights in the same p coordinates, got p = \[1, 2\]"):
        Teacher.of_clusters([Teacher(WEIGHTS, [1.0, 1.0], "erf"), Teacher([[1.0]], [1.0], "erf")])
    many = Mixture([[0.0]], teacher=Teacher(np.linspace(0.5, 1, 8)[:, None], np.ones(8), "erf"))
    with pytest.raises(ValueError, match="network must have K <= 4 for a fixed point of SGD, got K = 8 and 8 neurons"):
        StationaryEquations(many, TwoLayer(8, "erf"), OnlineSGD(0.1, 0.1))
    StationaryEquations(many, TwoLayer(4, "erf"), OnlineSGD(0.1, 0.1))
