"""What errors and oracle state about their own accuracy, over random problems, singular and extreme ones included.

A bound must hold in every case.  A standard error comes from eight scramblings: the deviation in its units is Student's
t with 7 degrees of freedom, beyond 7 once in 5000 cases, of mean square 1.4.  Each test prints claims and violations.
"""

from __future__ import annotations

import sys
from itertools import pairwise

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr

from quenched.numerics import GradientFlow, Mixture, OrderParameters, Spectrum, TwoLayer, drift, errors, oracle_error
from quenched.numerics.averages.activations import activation_value
from quenched.numerics.compiled.precision import context
from quenched.numerics.oracle_sampling import Gaussians, sampled_error
from quenched.numerics.probability.quadrature import legendre
from quenched.numerics.signs import output_signs

pytestmark = pytest.mark.usefixtures("derived_here")

ctx = context(60)
ONE = Mixture([[1.0]], [1], sigma=1.0)
POWERS = {"quadratic": [0, 0, 1], "he2": [-1, 0, 1], "he3": [0, -3, 0, 1], "he4": [3, 0, -6, 0, 1]}


def report(what: str, ratios: list[float]) -> None:
    broken = sum(ratio > 1 for ratio in ratios)
    sys.stdout.write(f"{what}: {len(ratios)} claims, {broken} violations, largest {max(ratios):.2g} of the claim\n")
    assert not broken


def along_polynomial(name: str, alpha: np.ndarray, beta: np.ndarray, v: np.ndarray) -> mpmath.mpf:
    """P(sum_k v_k g(alpha_k + beta_k u) < 0) at 60 digits: the roots of a polynomial in u."""
    total = [ctx.zero] * len(POWERS[name])
    for a, b, readout in zip(alpha, beta, v, strict=True):
        for n, c in enumerate(POWERS[name]):
            for i in range(n + 1):
                total[i] += ctx.mpf(readout) * c * ctx.binomial(n, i) * ctx.mpf(a) ** (n - i) * ctx.mpf(b) ** i
    while total and total[-1] == 0:
        total.pop()
    roots = ctx.polyroots(total[::-1], maxsteps=2000, extraprec=2000, cleanup=False) if len(total) > 1 else []
    real = sorted(ctx.re(r) for r in roots if abs(ctx.im(r)) < ctx.mpf(10) ** -25 * (1 + abs(r)))
    cuts = [-ctx.mpf(45), *(r for r in real if abs(r) < 45), ctx.mpf(45)]
    found = ctx.zero
    for low, high in pairwise(cuts):
        if ctx.polyval(total[::-1], (low + high) / 2) < 0:
            found += ctx.ncdf(high) - ctx.ncdf(low) if low < 0 else ctx.ncdf(-low) - ctx.ncdf(-high)
    return found


@pytest.mark.parametrize("name", POWERS)
def test_certified_lines(name: str) -> None:
    """Bounds of the probability along a line: random, close and multiple zeros, far tails, large and small fields."""
    rng = np.random.default_rng(len(name))
    lines, ratios = output_signs._smooth_lines(name), []
    for case in range(60):
        K = int(rng.integers(1, 4))
        alpha, beta, v = rng.normal(size=K), rng.normal(size=K), rng.normal(size=K)
        if case % 4 == 1:  # large and small fields, far zeros
            alpha, beta = alpha * 10 ** rng.uniform(0, 1.5), beta * 10 ** rng.uniform(-2, 4)
        if case % 4 == 2:  # opposite neurons that nearly agree
            K = 2
            alpha, beta, v = np.repeat(alpha[:1], 2), np.repeat(beta[:1], 2), np.array([1.0, -1.0])
            alpha[1] += 10.0 ** -rng.integers(1, 9)
            beta[1] *= 1 + 10.0 ** -rng.integers(1, 9)
        if case % 4 == 3:  # an output that hardly leaves one sign
            alpha, beta, v = np.array([0.0]), np.array([1.0]), np.array([1.0])
            alpha[0] = rng.choice([0.0, 10.0 ** -rng.integers(1, 9), 3 * rng.normal()])
        found = lines.evaluate(alpha[None, None], beta[None], v[None], 38.5, 1e-17, True)[0, 0]
        exact = along_polynomial(name, alpha, beta, v)
        # 1e-15: rounding of the probabilities that are added, as `_on_one_line` states it
        ratios.append(float(abs(exact - found[0])) / (found[2] + 1e-15))
    report(f"lines of {name}", ratios)


def test_relative_accuracy_of_far_tails() -> None:
    ratios = []
    for mean in (2.0, 9.5, 20.0, 35.0):
        for activation in ("erf", "leaky_relu", "linear", "he3"):
            found = errors(ONE, TwoLayer(1, activation), OrderParameters([[mean]], [[1.0]], [1.0]))
            root = ctx.sqrt(3) if activation == "he3" else 0  # he3 = x (x^2 - 3)
            exact = ctx.ncdf(-root - mean) + (ctx.ncdf(root - mean) - ctx.ncdf(-mean) if root else 0)
            assert found.classification_error == pytest.approx(float(exact), rel=1e-9)
            ratios.append(float(abs(exact - found.classification_error)) / found.classification_error_error)
    report("far tails", ratios)


def two_forms(M: np.ndarray, Q: np.ndarray, v: np.ndarray) -> float:
    """P(v_0 l_0^2 + v_1 l_1^2 < 0), v_0 > 0 > v_1: two linear forms have opposite signs, by Phi2."""
    c = context(30)
    b = c.sqrt(-c.mpf(v[1]) / c.mpf(v[0]))
    q00, q01, q11 = c.mpf(Q[0, 0]), c.mpf(Q[0, 1]), c.mpf(Q[1, 1])
    less, more = q00 - 2 * b * q01 + b * b * q11, q00 + 2 * b * q01 + b * b * q11
    rho = float((q00 - b * b * q11) / c.sqrt(less * more))
    first, second = float((M[0] - b * M[1]) / c.sqrt(less)), float((M[0] + b * M[1]) / c.sqrt(more))
    from quenched.numerics.probability.normal import normal_probability

    return float(sum(normal_probability([-h, k], [-rho]) for h, k in ((first, second), (-first, -second))))


def test_planes() -> None:
    """Two quadratic neurons of opposite readout, correlations up to 1 - 1e-9, readouts that nearly cancel."""
    rng = np.random.default_rng(0)
    ratios, sampled = [], []
    for case in range(60):
        gap = 10.0 ** -rng.uniform(0, 9)
        q = 10.0 ** rng.uniform(-2, 4)
        r = (1 - gap) * rng.choice([-1, 1])
        Q = q * np.array([[1.0, r], [r, 1.0]])
        M = rng.choice([0.0, 1.0, 10.0]) * rng.normal(size=2)
        if case % 3 == 0:
            M[1] = M[0]
        v = np.array([1.0, -1.0 + rng.choice([0.0, gap, 0.3, np.sqrt(gap)])])
        found = errors(ONE, TwoLayer(2, "quadratic"), OrderParameters(M[None], Q, v))
        ratio = abs(two_forms(M, Q, v) - found.classification_error) / (found.classification_error_error + 1e-15)
        (sampled if "Monte Carlo" in found.method else ratios).append(ratio)
    report("planes of quadratic neurons", ratios)
    if sampled:
        report("the same, sampled, in 7 standard errors", [ratio / 7 for ratio in sampled])


@pytest.mark.parametrize(
    ("M", "q", "r", "v"),
    [
        ((10.96640438, 10.22552321), 256.19452624, 0.99979883, -0.98581648),
        ((-0.02316461, 0.08388455), 0.11506183, -0.99793905, -0.95460114),
    ],
)
def test_planes_with_a_narrow_unsettled_peak(M: tuple[float, float], q: float, r: float, v: float) -> None:
    """Lines near a crossing of two zeros need more cells; what stays unsettled is counted at the same nodes."""
    Q, readout = q * np.array([[1.0, r], [r, 1.0]]), np.array([1.0, v])
    found = errors(ONE, TwoLayer(2, "quadratic"), OrderParameters([M], Q, readout))
    exact = two_forms(np.array(M), Q, readout)
    assert abs(found.classification_error - exact) <= found.classification_error_error < 1e-8


def test_sampled_lines_against_cones(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = Mixture([[1.0, 0.2], [-0.5, 0.8]], [1, -1], [0.6, 0.4], sigma=[0.5, 0.8])
    z = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        K = 3 + seed % 2
        A, B = rng.standard_normal((2, K)), rng.standard_normal((K, K)) * 10 ** rng.uniform(-1, 1)
        state, network = (
            OrderParameters(mixture.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K)),
            TwoLayer(K, "relu"),
        )
        exact = errors(mixture, network, state)
        with monkeypatch.context() as patch:
            patch.setattr(output_signs, "cone_signs", lambda *_: None)
            found = errors(mixture, network, state, points=2**12)
        assert exact.method == "exact" != found.method
        z.append(abs(exact.classification_error - found.classification_error) / found.classification_error_error)
    report("sampled lines, in 7 standard errors", [x / 7 for x in z])
    # the mean of 12 squares of Student's t is 1.4 +- 0.9; the larger of two estimates makes it smaller
    assert np.mean(np.square(z)) < 5


@pytest.mark.parametrize("activation", ["erf", "relu", "leaky_relu", "sin", "he3", "abs"])
def test_pmse(activation: str) -> None:
    """Against 25 digits: regular and singular states, equal and opposite neurons, weights of any length."""
    rng = np.random.default_rng(7)
    mixture, ratios = Mixture.xor(0.7), []
    for case in range(6):
        K = 2
        A = rng.standard_normal((2, K)) * 10 ** rng.uniform(-2, 1)
        B = rng.standard_normal((K, K)) * 10 ** rng.uniform(-4, 1)
        if case % 3 == 1:
            A[:, 1], B = A[:, 0] * rng.choice([-1, 1]), 0 * B
        if case % 3 == 2:
            B = B[:, :1] @ np.ones((1, K)) / 2
        state = OrderParameters(mixture.means @ A, A.T @ A + B @ B.T, rng.standard_normal(K))
        found, precise = (
            errors(mixture, TwoLayer(K, activation), state, digits=d, **k)
            for d, k in ((None, {"quantities": ("pmse",)}), (20, {}))
        )
        assert np.isnan(found.classification_error)
        ratios.append(float(abs(found.pmse - precise.pmse)) / found.pmse_error)
    report(f"pmse of {activation}", ratios)


def test_oracle() -> None:
    rng = np.random.default_rng(1)
    ratios = []
    for case in range(12):  # on a line, against 25 digits
        n = int(rng.integers(2, 7))
        labels = np.where(np.arange(n) % 2, 1, -1)
        means = rng.normal(size=(n, 1)) * (1 + 9 * (case % 2))
        mixture = Mixture(means, labels, rng.dirichlet(np.ones(n)), sigma=10 ** rng.uniform(-1, 1))
        found = oracle_error(mixture)
        ratios.append(float(abs(oracle_error(mixture, digits=20).value - found.value)) / found.error)
    report("oracle on a line", ratios)
    z = []
    for _ in range(10):  # sampled, against the quadrature over the plane
        n = int(rng.integers(3, 6))
        means, labels, weights = rng.normal(size=(n, 2)), np.where(np.arange(n) % 2, 1, -1), rng.dirichlet(np.ones(n))
        roots = np.broadcast_to(0.5 * np.eye(2), (n, 2, 2))
        value, error = sampled_error(Gaussians(means, roots, labels, weights), 1e-4)
        plane = oracle_error(Mixture(means, labels, weights, sigma=0.5))
        z.append(abs(value - plane.value) / (error + plane.error))
    report("oracle sampled, in 7 standard errors", [x / 7 for x in z])


def test_oracle_of_nearly_singular_covariances() -> None:
    """Two clusters with noise rho along their difference: what rounding may have made of rho is in the bound."""
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(30):
        rho = 10.0 ** -rng.uniform(0, 12.5)
        alignment = np.stack([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
        half = np.sqrt(rho) * rng.uniform(0.5, 3)
        rounded = rho + rng.uniform(-8, 8) * 2.0**-52  # as it comes out of a covariance with the eigenvalue 1
        mixture = Mixture([[half, 0.0], [-half, 0.0]], [1, -1], spectrum=Spectrum([rounded, 1.0], alignment=alignment))
        found = oracle_error(mixture)
        ratios.append(abs(ndtr(-half / np.sqrt(rho)) - found.value) / found.error)
    report("oracle of nearly singular covariances", ratios)


def test_drift_of_a_loss_with_a_step() -> None:
    """Hinge loss of one linear neuron: dv/dt = E[lambda 1(v lambda < 1)], the mean of a normal cut off at 1/v."""
    rng, ratios = np.random.default_rng(5), []
    for _ in range(200):
        m, v = rng.normal(), 2 * rng.normal()
        q = m * m + 10.0 ** rng.uniform(-1, 1)
        found = drift(ONE, TwoLayer(1, "linear"), GradientFlow(loss="hinge"), OrderParameters([[m]], [[q]], [v]))
        cut = (1 / v - m) / np.sqrt(q)
        density = np.sqrt(q / (2 * np.pi)) * np.exp(-cut * cut / 2)
        exact = m * ndtr(cut) - density if v > 0 else m * ndtr(-cut) + density
        ratios.append(abs(found.v[0] - exact) / (found.error + 1e-15))
    report("drift of a loss with a step", ratios)


def normal_rule(cuts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """N(0, 1) by 12 Gauss-Legendre nodes on each panel between `cuts` within 9 standard deviations."""
    x, w = legendre(np.unique(np.clip(cuts, -9, 9)), 12)
    return x, w * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("activation", ["tanh", "softplus", "Abs(x)**1.2", "Max(x, 0)**1.5"])
def test_pmse_without_closed_forms(activation: str) -> None:
    """Against 60 panels of Gauss-Legendre an axis; of powers one field, with panels that shrink to the kink."""
    rng, ratios = np.random.default_rng(3), []
    g = activation_value(activation)
    even, near = np.linspace(-9, 9, 61), np.geomspace(1e-15, 1, 60)
    for r in (0.3, -0.9, 1.0, -1.0, 0.0, 1 - 1e-6):
        K, q, m, v = 2 if activation in ("tanh", "softplus") else 1, 10.0 ** rng.uniform(-2, 2), rng.normal(), 1.3
        state = OrderParameters([[m] * K], q * np.array([[1, r], [r, 1]])[:K, :K], [v, -0.7][:K])
        found = errors(ONE, TwoLayer(K, activation), state, quantities=("pmse",))
        root = np.sqrt(q)
        x, w = normal_rule(np.concatenate([even, -m / root + near, -m / root - near, [-m / root]]))
        first = g(m + root * x)
        if K == 1:
            exact = w @ (v * first - 1) ** 2 / 2
        else:
            y, u = normal_rule(even)
            second = g(m + root * (r * x[:, None] + np.sqrt(1 - r * r) * y))
            exact = w @ ((v * first[:, None] - 0.7 * second - 1) ** 2 @ u) / 2
        ratios.append(abs(found.pmse - exact) / (found.pmse_error + 1e-13 * (1 + exact)))
        assert found.pmse_error < 1e-7 * (1 + exact)
    report(f"pmse of {activation}", ratios)
