"""Losses as data: slope and curvature of each entry, expressions equal to the named ones, label noise averaged."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import lambertw, ndtr

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Teacher,
    TwoLayer,
    drift,
    erm_error,
    errors,
    integrate,
    random_state,
)
from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.averages.losses import coefficients, compiled_loss, kinks, loss, loss_functions, noisy_slope
from quenched.numerics.saddle import proximal
from quenched.numerics.saddle.proximal import proximal_averages
from quenched.theory.losses import LOSSES

pytestmark = pytest.mark.usefixtures("derived_here")

PHI, Y = (x.ravel() for x in np.meshgrid(np.linspace(-3, 3, 13) + 0.01, [-1.0, 1.0, 0.4]))


@pytest.mark.parametrize("name", [*LOSSES, "max(0, 1 - y*phi)", "(1 - y*phi)**4/4"])
def test_slope_and_curvature_are_the_derivatives(name: str) -> None:
    """Central differences: h^2/6 times a third derivative, at most 200 here, and rounding/h of values below 100."""
    value, slope, curvature = loss_functions(name)
    h = 1e-5
    tolerance = 200 * h**2 + 4e-16 * 100 / h
    assert np.abs((value(PHI + h, Y) - value(PHI - h, Y)) / (2 * h) - slope(PHI, Y)).max() < tolerance
    assert np.abs((slope(PHI + h, Y) - slope(PHI - h, Y)) / (2 * h) - curvature(PHI, Y)).max() < tolerance


@pytest.mark.parametrize(("name", "text"), [("square", "phi**2/2 - y*phi + y**2/2"), ("logistic", "softplus(-phi*y)")])
def test_an_expression_is_the_loss_that_it_spells(name: str, text: str) -> None:
    for one, other in zip(loss_functions(name), loss_functions(text), strict=True):
        assert np.abs(one(PHI, Y) - other(PHI, Y)).max() < 1e-14
    assert loss(name).invariant == loss(text).invariant


def test_the_logistic_loss_holds_at_any_margin() -> None:
    with np.errstate(all="raise", under="ignore"):
        value, slope, _ = loss_functions("logistic")
        assert value(-1e4, 1.0) == 1e4
        assert slope(np.array([-1e4, 1e4]), 1.0).tolist() == [-1.0, 0.0]


def test_label_noise_is_averaged_alike_by_moments_and_by_quadrature() -> None:
    """Gauss-Hermite of 40 nodes is exact for polynomials: rounding alone separates the two."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    slopes = LOSSES["square"].slope(PHI, Y + 0.7 * nodes[:, None])
    first, second = noisy_slope("square", 0.7)(PHI, Y)
    weights = weights[:, None] / weights.sum()
    assert np.abs((weights * slopes).sum(axis=0) - first).max() < 1e-13
    assert np.abs((weights * slopes**2).sum(axis=0) - second).max() < 1e-12


def test_coefficients_spell_the_loss_and_its_slope() -> None:
    for name, Delta in (("square", 0.3), ("correlation", 0.3), ("(1 - y*phi)**2/2", 0.0)):
        found = loss(name)
        l0, l1, l2, F0, F1, S0, S1, S2 = found.coefficients(Y, Delta)
        force, square = found.moments(PHI, Y, Delta)
        assert np.abs(l0 + PHI * (l1 + PHI * l2) - found.value(PHI, Y)).max() < 1e-13
        assert np.abs(F0 + PHI * F1 - force).max() < 1e-14
        assert np.abs(S0 + PHI * (S1 + PHI * S2) - square).max() < 1e-13


def test_compiled_slopes_are_the_generated_ones() -> None:
    for name in LOSSES:
        compiled = np.array([compiled_loss(name).ctypes(phi, y) for phi, y in zip(PHI, Y, strict=True)])
        assert np.abs(compiled - LOSSES[name].slope(PHI, Y)).max() < 1e-15


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("phi*z", "loss 'phi\\*z': 'z' is not understood"),
        ("y", "does not depend on the output"),
        ("phi", "does not depend on the label"),
        ("log(phi) + y", "l = log.phi. - 1 is not finite and real at phi = "),
        ("(phi - y)/(phi - 1/3)", "has a pole"),
        ("", "loss must be"),
        ("sign(phi*y)", "l = -sign.phi. jumps"),
        ("Heaviside(-phi*y)", "jumps"),
        ("Max(1 - phi*y, 0) + Heaviside(phi - 1)", "jumps"),
        ("-(phi*y)**2", "falls ever faster"),
        ("phi**3*y + y", "falls ever faster"),
        ("-exp(phi*y)", "falls ever faster"),
    ],
)
def test_what_is_no_loss_is_refused(loss: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_functions(OnlineSGD(0.1, loss=loss).loss)


@pytest.mark.parametrize(
    "loss", ["-2*phi*y", "(phi*y)**2*Heaviside(-phi*y)", "Abs(phi - y)**3", "log(1 + (phi - y)**2)"]
)
def test_what_is_a_loss_passes(loss: str) -> None:
    """A line may fall without end, as the correlation loss does; a step may meet a zero."""
    loss_functions(OnlineSGD(0.1, loss=loss).loss)


def test_rules_know_their_loss_and_batch() -> None:
    rule = OnlineSGD(0.1, loss="logistic", batch=3)
    assert OnlineSGD(**rule.to_dict()) == rule
    assert GradientFlow(loss="logistic").batch == 1
    with pytest.raises(ValueError, match="batch must be an integer >= 1, got 0"):
        OnlineSGD(0.1, batch=0)


def test_a_loss_without_closed_averages_says_so() -> None:
    with pytest.raises(ValueError, match="loss 'logistic' is not a polynomial of degree 2"):
        coefficients("logistic", Y)


MIXTURE = Mixture([[1.0, 0.2], [-0.5, 0.8]], [1, -1], [0.4, 0.6], sigma=[0.6, 0.9])


@pytest.mark.parametrize(("name", "text"), [("square", "phi**2/2 - y*phi + y**2/2"), ("logistic", "softplus(-phi*y)")])
def test_drifts_by_an_expression_are_those_by_the_name(name: str, text: str) -> None:
    network, state = TwoLayer(2, "relu"), random_state(MIXTURE, TwoLayer(2, "relu"), 30, seed=2)
    one, other = (drift(MIXTURE, network, OnlineSGD(0.4, label_noise=0.3, loss=loss), state) for loss in (name, text))
    for part in ("M", "Q", "v"):
        assert np.abs(getattr(one, part) - getattr(other, part)).max() < 1e-13


@pytest.mark.parametrize(("loss", "K"), [("square", 3), ("logistic", 1), ("logistic", 3)])
def test_a_batch_divides_what_is_of_second_order(loss: str, K: int) -> None:
    """Everything but the noise is that of gradient flow, and the noise falls as 1/B: exactly, on the same points."""
    network, state = TwoLayer(K, "erf"), random_state(MIXTURE, TwoLayer(K, "erf"), 30, seed=2)
    flow = drift(MIXTURE, network, GradientFlow(0.4, 0.1, loss=loss), state, tolerance=1.0)
    rules = [OnlineSGD(0.4, 0.1, loss=loss, batch=batch) for batch in (1, 7)]
    one, seven = (drift(MIXTURE, network, rule, state, tolerance=1.0) for rule in rules)
    for part in ("M", "v"):
        assert np.abs(getattr(one, part) - getattr(flow, part)).max() < 1e-12
    assert np.abs(one.Q - flow.Q).max() > 1e-5
    assert np.abs((one.Q - flow.Q) - 7 * (seven.Q - flow.Q)).max() < 1e-12


@pytest.mark.parametrize(("loss", "second_lr"), [("logistic", 0.0), ("logistic", 0.3), ("exponential", 0.0)])
def test_gradient_flow_ends_at_the_posterior(loss: str, second_lr: float) -> None:
    """A linear neuron on two clusters ±r: the log-odds of the label, 2 r x/sigma^2, have the least logistic risk.

    The exponential one is so at half of that.  With a readout that learns the product v w is what ends there.  At
    r = 1.2, sigma = 1 the curvature E[x^2 s (1 - s)] of the risk is 0.0287: exp(-17) after a time of 600; that of the
    exponential is larger.
    """
    mixture, network = Mixture.two_clusters(1.0, separation=1.2), TwoLayer(1, "linear")
    start = OrderParameters([[0.12], [-0.12]], [[0.3]], [1.0])
    end = integrate(mixture, network, GradientFlow(loss=loss, second_lr=second_lr), start, [600.0]).isel(time=0)
    w, v = (2 if loss == "logistic" else 1) * 1.2, end.v.item()
    assert (v == 1) == (second_lr == 0)
    assert v * end.M.values.ravel() == pytest.approx([1.2 * w, -1.2 * w], rel=1e-6)
    assert v**2 * end.Q.item() == pytest.approx(w**2, rel=1e-6)


UNEVEN = Mixture([[1.0, 0.2], [-0.5, 0.8], [0.1, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.5, 0.8, 0.6])


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("exponential", "erf"),
        ("huber", "relu"),
        ("correlation", "erf"),
        ("perceptron", "linear"),
        ("adatron", "relu"),
        ("hinge", "linear"),
    ],
)
def test_a_drift_by_any_loss_is_the_average_increment(name: str, activation: str) -> None:
    """One neuron: the mean increment is one integral over its field, by adaptive quadrature cut at all kinks.

    Given the field lambda, nu_b = mean_a.mean_b + Cov/Var (lambda - m_a) on average.
    """
    rule, v, s = OnlineSGD(0.4, 0.1, 0.7, 0.2, loss=name, batch=2), 0.9, 1.1
    A, Q = np.array([0.4, -0.7]), 1.3
    state = OrderParameters(UNEVEN.means @ A[:, None], [[Q]], [v])
    g, dg = activation_functions(activation)
    slope = loss_functions(name)[1]
    dM, dQ, dv = -rule.eta * rule.kappa * state.M[:, 0], -2 * rule.eta * rule.kappa * Q, -rule.eta_v * rule.kappa_v * v
    for mean, y, P, sigma in zip(UNEVEN.means, UNEVEN.labels, UNEVEN.weights, UNEVEN.sigmas, strict=True):
        m, deviation = mean @ A, sigma * np.sqrt(Q)
        bends = [0.0, *(k / (s * v) for k, _, _ in kinks(name, float(y)))]
        inside = sorted({round(c, 12) for k in bends if abs(c := (k - m) / deviation) < 12})

        def average(f, m=m, deviation=deviation, y=y, inside=inside):
            """E f(lambda, F)."""

            def density(z):
                field = np.asarray(m + deviation * z)
                return f(field, slope(s * v * g(field), y)) * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)

            ends = [-12.0, *inside, 12.0]
            return sum(quad(density, *pair, epsabs=1e-12, epsrel=1e-11, limit=200)[0] for pair in pairwise(ends))

        push = average(lambda x, F: s * v * F * dg(x))
        along = average(lambda x, F, m=m: s * v * F * dg(x) * (x - m))
        dM -= rule.eta * P * (UNEVEN.means @ mean * push + UNEVEN.means @ A / Q * along)
        noise = average(lambda x, F: (s * v * F * dg(x)) ** 2)
        dQ += P * (-2 * rule.eta * (along + m * push) + rule.eta**2 * sigma**2 / rule.batch * noise)
        dv -= rule.eta_v * P * average(lambda x, F: s * F * g(x))
    found = drift(UNEVEN, TwoLayer(1, activation, output_scale=s), rule, state)
    assert found.method == ("closed form" if name in ("square", "correlation") else "quadrature")
    assert found.error < 1e-7
    for one, expected in zip((found.M[:, 0], found.Q.item(), found.v.item()), (dM, dQ, dv), strict=True):
        assert np.abs(one - expected).max() < 1e-9 + found.error


def test_the_perceptron_rule_learns_a_sign_teacher_as_is_known() -> None:
    """At the angle theta to the teacher, for any length J: dR/dt = eta c, dQ/dt = -2 eta J c + eta^2 theta/pi,

    c = (1 - cos theta)/sqrt(2 pi), from E[|nu|; nu lambda < 0] = c.  So theta -> (3 t/2)^(-1/3), an error that falls as
    (2/3)^(1/3)/pi t^(-1/3), with corrections of relative order theta^2 = 0.035 at t = 100.
    """
    mixture = Mixture([[0.0]], sigma=1.0, teacher=Teacher([[1.0]], [1.0], "sign(x)"))
    network, eta = TwoLayer(1, "linear"), 0.8
    for theta, J in ((1.0, 1.3), (0.1, 2.0), (2.5, 0.7)):
        state = OrderParameters([[0.0], [J * np.cos(theta)]], [[J**2]], [1.0])
        found = drift(mixture, network, OnlineSGD(eta, second_lr=0.0, loss="perceptron"), state)
        c = (1 - np.cos(theta)) / np.sqrt(2 * np.pi)
        assert found.M[1, 0] == pytest.approx(eta * c, abs=1e-9 + found.error)
        assert found.Q.item() == pytest.approx(-2 * eta * J * c + eta**2 * theta / np.pi, abs=1e-9 + found.error)
    start = OrderParameters([[0.0], [0.0]], [[1.0]], [1.0])
    rule = OnlineSGD(1.0, second_lr=0.0, loss="perceptron")
    end = integrate(mixture, network, rule, start, [100.0], rtol=1e-4, atol=1e-6, quantities=("pmse",)).isel(time=0)
    angle = np.arccos(end.R.item() / np.sqrt(end.Q.item()))
    assert angle == pytest.approx(150 ** (-1 / 3), rel=0.035)


def test_exponential_averages_beyond_the_reach_are_refused() -> None:
    """y phi ~ N(0.3, Q): E F^2 = exp(-0.6 + 2 Q) is right within the error, or comes from inputs never seen."""
    mixture, network = Mixture.two_clusters(1.0), TwoLayer(1, "linear")
    rule = OnlineSGD(0.8, second_lr=0.0, loss="exponential")
    for Q in (0.5, 1.0, 2.0):
        found = drift(mixture, network, rule, OrderParameters([[0.3], [-0.3]], [[Q]], [1.0]))
        exact = 1.6 * (0.3 - Q) * np.exp(-0.3 + Q / 2) + 0.64 * np.exp(-0.6 + 2 * Q)
        assert abs(found.Q.item() - exact) <= found.error
    assert found.error < 1e-5 * exact
    with pytest.raises(ValueError, match="loss 'exponential' grows too fast for outputs that spread by 4"):
        drift(mixture, network, rule, OrderParameters([[0.3], [-0.3]], [[16.0]], [1.0]))


def test_the_proximal_map_of_the_exponential_loss_is_lamberts() -> None:
    """f = (prox - w)/V = y exp(-y prox) with y prox = y w + W(V exp(-y w)), at a spread that is a point."""
    for V in (0.1, 3.0, 40.0):
        y, w = np.array([1.0, -1.0]), np.array([0.7, 1.2])
        move, squared, *_ = proximal_averages("exponential", y, V, w, 1e-9)
        exact = y * lambertw(V * np.exp(-y * w)).real / V
        np.testing.assert_allclose(move, exact, rtol=1e-7)
        np.testing.assert_allclose(squared, exact**2, rtol=1e-7)


@pytest.mark.parametrize("mean", [0.3, -4.0, -6.0, -8.0])
def test_the_error_of_averages_holds_what_no_panel_settles(mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """f of a loss that is not convex jumps, here from 0 to 1: E f = Phi(mean - 0.1234567).

    Told of the jump or not, and where f is 0 but in the tail, beyond nine standard deviations of which nobody looks.
    """
    exact = ndtr(mean - 0.1234567)
    for find in (proximal.kinks, lambda *_: np.zeros((0, 3))):
        monkeypatch.setattr(proximal, "kinks", find)
        found = proximal_averages("-Max(0, y*phi - 0.1234567)", np.array([1.0]), 20.0, np.array([mean]), 1.0)
        assert abs(found.move[0] / exact - 1) <= found.error
        assert found.error < 1e-10 if mean > -5 else found.error > 1e-10
    both = proximal_averages("-Max(0, y*phi - 0.1234567)", np.ones(2), 20.0, np.array([mean, 1.0]), 1.0)
    assert both.error < 1e-11  # of the larger of both


def test_averages_that_overflow_are_no_numbers() -> None:
    """At once: to halve panels without end would take for ever."""
    with np.errstate(all="ignore"):
        found = proximal_averages("exponential", np.array([1.0]), 1.0, np.array([-1e4]), 1.0)
    assert all(np.isnan(part).all() for part in found[:5])


def test_a_loss_without_a_minimiser_is_refused_and_hebbs_rule_is_not() -> None:
    """The correlation loss and a ridge make w = sum_i y_i x_i/ridge: error Phi(-sqrt(alpha/(alpha + 1))), sigma = 1."""
    two = Mixture.two_clusters(1.0)
    hebb = erm_error(two, "correlation", 2.0, 0.01, intercept=False)
    assert hebb.classification_error == pytest.approx(ndtr(-np.sqrt(2 / 3)), abs=1e-9)
    for name, ridge, intercept, message in (
        ("correlation", 1.0, True, "loss must be bounded below, got 'correlation': nothing bounds the intercept"),
        ("correlation", 0.0, False, "loss must be bounded below, got 'correlation': nothing bounds the weights"),
        ("perceptron", 1.0, True, "loss must charge an output of 0 more than another, got 'perceptron'"),
        ("adatron", 0.0, True, "loss must charge an output of 0 more than another, got 'adatron'"),
    ):
        with pytest.raises(ValueError, match=message):
            erm_error(two, name, 2.0, ridge, intercept=intercept)
    with pytest.raises(ValueError, match="separability threshold"):
        erm_error(two, "exponential", 0.5, 0.0)
    assert erm_error(two, "huber", 4.0, 0.0).residual < 1e-10


@pytest.mark.parametrize("loss", ["logistic", "square"])
def test_a_teacher_makes_the_label_that_any_loss_is_charged_by(loss: str) -> None:
    """One erf neuron of network and teacher each: the mean increment on a grid of the input's two coordinates.

    48 Hermite nodes an axis: the slope's poles and those of erf leave less than 1e-7.
    """
    mixture = Mixture([[0.4, -0.3]], sigma=0.7, teacher=Teacher([[0.6, 0.5]], [0.8], "erf"))
    w = np.array([0.5, -0.7])  # inside the span of the means
    state = OrderParameters(mixture.references @ w[:, None], [[w @ w]], [0.9])
    found = drift(mixture, TwoLayer(1, "erf"), GradientFlow(loss=loss), state)
    assert found.method == ("quadrature" if loss == "logistic" else "closed form")
    z, weight = np.polynomial.hermite_e.hermegauss(48)
    x = np.array([0.4, -0.3]) + 0.7 * np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2)
    measure = np.outer(weight, weight).ravel() / weight.sum() ** 2
    g, dg = activation_functions("erf")
    slope = measure * loss_functions(loss)[1](0.9 * g(x @ w), 0.8 * g(x @ [0.6, 0.5]))
    dw = -(slope * 0.9 * dg(x @ w)) @ x
    assert found.M[:, 0] == pytest.approx(mixture.references @ dw, abs=1e-7)
    assert found.Q.item() == pytest.approx(2 * w @ dw, abs=1e-7)
    assert found.v.item() == pytest.approx(-slope @ g(x @ w), abs=1e-7)


def test_kinks_are_found() -> None:
    """Outputs where slope or curvature jump, and the slopes on either side, to rounding of a bisection."""
    known = {
        ("hinge", 1.0): [[1.0, -1.0, 0.0]],
        ("abs(y - phi)", -1.0): [[-1.0, -1.0, 1.0]],
        ("max(0, 0.3 - y*phi) + 2*max(0, 0.7 - y*phi)", 1.0): [[0.3, -3.0, -2.0], [0.7, -2.0, 0.0]],
        ("max(0, 1 - y*phi)**2/2", 1.0): [[1.0, 0.0, 0.0]],  # a corner of the slope
        ("abs(phi) + (phi - y)**2/2", 1.0): [[0.0, -2.0, 0.0]],
        ("perceptron", -1.0): [[0.0, 0.0, 1.0]],
        ("huber", 1.0): [[0.0, -1.0, -1.0], [2.0, 1.0, 1.0]],
        ("exponential", 1.0): [],  # overflows where floats see no kink
        ("logistic", 1.0): [],
        ("square", -1.0): [],
        ("log(1 + exp(-20*y*phi))", 1.0): [],
    }
    for (name, y), rows in known.items():
        found = kinks(name, y)
        assert len(found) == len(rows), name
        np.testing.assert_allclose(found, np.reshape(rows, (-1, 3)), rtol=0, atol=1e-12)


def test_a_drift_says_that_it_missed_its_tolerance(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quenched.numerics.two_layer import drift as module

    monkeypatch.setattr(module, "_POINTS", 2**11)
    mixture, state = Mixture.two_clusters(1.0), OrderParameters(np.zeros((2, 3)), np.eye(3), np.ones(3))
    rule = GradientFlow(loss="logistic")
    rate = drift(mixture, TwoLayer(3, "linear"), rule, state, tolerance=1e-9)
    (said,) = [record.getMessage() for record in caplog.records if "standard error" in record.getMessage()]
    assert f"{rate.error:.2g} after 2048 points, not the tolerance 1e-09" in said
    caplog.clear()
    assert drift(mixture, TwoLayer(3, "linear"), rule, state, tolerance=1.0).error <= 1.0
    assert not caplog.records


@pytest.mark.parametrize(
    ("loss", "noise", "method"), [("hinge", 0.5, "quasi-Monte Carlo"), ("logistic", 0.3, "quadrature")]
)
def test_label_noise_is_averaged_to_the_stated_error(loss: str, noise: float, method: str) -> None:
    """One erf neuron: dv/dt against the integral over field and noise; five standard errors where it is sampled.

    The reference: 400 Gauss-Legendre nodes over the field, and for each the noise from the loss's own kink on, where
    it is hinge (F = -y where y phi < 1: y is normal, so the average is a normal probability and density).
    """
    from scipy.special import erf, ndtr

    mixture, rule = Mixture.two_clusters(0.6), OnlineSGD(0.5, label_noise=noise, loss=loss)
    state = OrderParameters([[0.8], [-0.8]], [[0.9]], [1.5])
    found = drift(mixture, TwoLayer(1, "erf"), rule, state)
    assert found.method == method
    nodes, weights = np.polynomial.legendre.leggauss(400)
    z, w = 9 * nodes, 9 * weights * np.exp(-((9 * nodes) ** 2) / 2) / np.sqrt(2 * np.pi)
    total = 0.0
    for mean, y in ((0.8, 1.0), (-0.8, -1.0)):
        g = erf((mean + 0.6 * np.sqrt(0.9) * z) / np.sqrt(2))
        phi = 1.5 * g
        if loss == "hinge":  # E[-Y; Y phi < 1], Y ~ N(y, noise^2)
            h = (1 / phi - y) / noise
            density = np.exp(-h * h / 2) / np.sqrt(2 * np.pi)
            below = -(y * ndtr(h) - noise * density)
            above = -(y * ndtr(-h) + noise * density)
            slope = np.where(phi > 0, below, above)
        else:
            x, u = np.polynomial.hermite_e.hermegauss(120)
            Y = y + noise * x[:, None]
            slope = (u / u.sum()) @ (-Y / (1 + np.exp(Y * phi)))
        total -= 0.25 * 0.5 * float((w * slope * g).sum()) * 2
    assert abs(found.v[0] - total) < 5 * found.error + 1e-12


def test_a_mean_loss_with_heavy_tails_states_them() -> None:
    """exp(-y phi) of a linear neuron with outputs of spread s: exp(s^2/2), to the stated error, or refused."""
    state, network = OrderParameters([[0.0], [0.0]], [[1.0]], [1.0]), TwoLayer(1, "linear")
    for s in (2.0, 6.0, 8.0):
        found = errors(Mixture.two_clusters(s), network, state, loss="exp(-y*phi)", quantities=("pmse",))
        assert abs(found.loss - np.exp(s * s / 2)) <= found.loss_error
    with pytest.raises(ValueError, match="grows too fast for these outputs"):
        errors(Mixture.two_clusters(10.0), network, state, loss="exp(-y*phi)", quantities=("pmse",))
