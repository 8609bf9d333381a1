"""Kernel ridge regression: general solvers against closed forms, limits against finite D, known values, refusals."""

import numpy as np
import pytest
from scipy.special import ndtr, roots_gegenbauer

from quenched.numerics import Mixture, kernel_error, oracle_error
from quenched.numerics.lazy.kernels import kernel_functions
from quenched.numerics.probability.quadratic_forms import probability_below_zero
from quenched.numerics.problem.spectrum import Spectrum
from quenched.symbolic.language.grammar import BUILTIN
from quenched.theory import kernel_ridge as theory
from quenched.theory import random_features

SMOOTH = ["arccos0", "arccos1", "exponential:0.5", "polynomial:3", "rbf:1.5", "ntk:relu", "ntk:leaky_relu"]
XOR = Mixture.xor(0.8, 1.2, 0.25)
THREE = Mixture.three_clusters(0.8, 1.2, 0.25)
MIXED = Mixture.parity(0.8, (0.9, 1.3), (0.5, 0.0))
UNEQUAL = Mixture([[1.0, 0.2], [-0.7, 0.4], [0.1, -0.9]], [1, -1, 1], [0.5, 0.3, 0.2], 0.7)
# a rounding of 1 per operation in some hundred, on numbers of order 1
ROUNDING = 1e-12


def single(kernel: str, sigma: float, alpha: float, ridge: float, order: int = 1) -> tuple[float, float, float]:
    """T, V and F_uu/F_u of the channel of this order, by the generated formulas alone."""
    N = sigma**2
    F, Fu, Fuu, *_ = kernel_functions(kernel).jet(N, N, 0.0)
    w1, w2, zeta = theory.channels(F, Fu, Fuu, kernel_functions(kernel).value(N, N, N), sigma, sigma, ridge)
    weight, rest = (w1, zeta + w2) if order == 1 else (w2, zeta)
    T = float(random_features.marchenko_pastur(alpha, rest / weight))
    return T, theory.response(T, rest / weight), Fuu / Fu


def test_products_of_four_fields_by_quadrature() -> None:
    """Three Gauss-Hermite nodes a unit normal are exact to its fifth power, and none comes at more than its fourth."""
    rng = np.random.default_rng(1)
    m, L = rng.standard_normal(4), rng.standard_normal((4, 4))
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    grid, weight = (np.stack(np.meshgrid(*[of] * 4), -1).reshape(-1, 4) for of in (nodes, weights))
    x, weight = m + grid @ L.T, weight.prod(axis=1) / weights.sum() ** 4
    expected = [weight @ x[:, :n].prod(axis=1) for n in (2, 3, 4)]
    found = theory.products(*m, *(L @ L.T)[np.triu_indices(4, 1)])
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.parametrize("D", [3, 8])
def test_orders_on_a_sphere_are_orthogonal(D: int) -> None:
    """P_l(1) = 1 and E[P_l P_m] = delta_lm/d_l over the angle of two inputs, by Gauss-Gegenbauer: exact."""
    t, mass = roots_gegenbauer(8, (D - 2) / 2)
    *orders, d1, d2, d3 = theory.harmonics(t, D)
    P = np.stack(orders)
    np.testing.assert_allclose(P * (mass / mass.sum()) @ P.T, np.diag([1 / d1, 1 / d2, 1 / d3]), atol=ROUNDING)
    np.testing.assert_allclose(theory.harmonics(1.0, D)[:3], 1.0, rtol=ROUNDING)


# --- kernels


@pytest.mark.parametrize(
    "kernel", sorted({*SMOOTH, "laplace", "laplace:2", *(f"ntk:{activation}" for activation in BUILTIN)})
)
def test_derivatives_are_differences(kernel: str) -> None:
    """Central differences of F: off by h^2/6 of a third derivative, and by the rounding eps F/h^2 of the second.

    With h = 1e-4 and derivatives below 1e3 that is 2e-6 and 1e-7.
    """
    functions, h = kernel_functions(kernel), 1e-4
    at = np.array([1.1, 0.9, 0.3])
    N, M, u = np.eye(3) * h

    def F(x: np.ndarray) -> float:
        return float(functions.value(*x))

    def second(a: np.ndarray, b: np.ndarray) -> float:
        return (F(at + a + b) - F(at + a - b) - F(at - a + b) + F(at - a - b)) / (4 * h**2)

    first = [(F(at + step) - F(at - step)) / (2 * h) for step in (u, M)]
    expected = [F(at), first[0], second(u, u), first[1], second(u, M), second(N, M)]
    np.testing.assert_allclose([float(d) for d in functions.jet(*at)], expected, rtol=1e-5, atol=1e-5)


def test_known_kernels() -> None:
    """cos(theta) = 1/2: theta = pi/3.  At theta = 0 the arc-cosine kernels are 1 and N, that of a relu NTK is N."""
    norm, inner = 2.0, 1.0
    sine = np.sqrt(3) / 2
    expected = {
        "arccos0": 2 / 3,
        "arccos1": norm * (sine + np.pi / 3) / np.pi,
        "ntk:relu": norm * (sine + np.pi / 3) / (2 * np.pi) + inner / 3,
        "exponential:2": np.e**2,
        "rbf:2": np.exp(-1 / 4),
        "laplace": np.exp(-np.sqrt(2)),
        "polynomial:3": 8.0,
    }
    for kernel, value in expected.items():
        assert float(kernel_functions(kernel).value(norm, norm, inner)) == pytest.approx(value, rel=1e-14)
    for kernel, value in {"arccos0": 1.0, "arccos1": norm, "ntk:relu": norm, "rbf": 1.0, "laplace": 1.0}.items():
        assert float(kernel_functions(kernel).value(norm, norm, norm)) == pytest.approx(value, rel=1e-15)


# --- limits against closed forms


@pytest.mark.parametrize("kernel", SMOOTH)
@pytest.mark.parametrize(("alpha", "ridge"), [(0.3, 0.2), (2.0, 0.05)])
def test_general_solvers_give_the_closed_forms(kernel: str, alpha: float, ridge: float) -> None:
    T, V, curvature = single(kernel, 0.8, alpha, ridge)
    found = kernel_error(Mixture.two_clusters(0.8, 1.2), kernel, alpha, ridge)
    m, q = theory.two_clusters(1.2, 0.8, T, V)
    np.testing.assert_allclose(found.mean, [m, -m], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.variance, q, rtol=0, atol=ROUNDING)
    assert found.classification_error == pytest.approx(ndtr(-m / np.sqrt(q)), abs=ROUNDING)
    assert found.pmse == pytest.approx(((1 - m) ** 2 + q) / 2, abs=ROUNDING)

    found = kernel_error(XOR, kernel, alpha, ridge)
    m, q = theory.xor(1.2, 0.8, curvature, T, V)
    np.testing.assert_allclose(found.mean, m * XOR.labels, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.variance, q, rtol=0, atol=ROUNDING)

    found = kernel_error(THREE, kernel, alpha, ridge)
    outer, centre, q = theory.three_clusters(1.2, 0.8, curvature, T, V)
    np.testing.assert_allclose(found.mean, [outer, outer, centre], rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.variance, q, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("kernel", [*SMOOTH, "laplace"])
def test_gates_of_the_mixed_regime(kernel: str) -> None:
    """The two-channel equation solved by bisection on r < 1/zeta, where its left-hand side grows."""
    sigma, m1, m2, alpha, ridge = 0.8, 0.9, 1.3, 1.5, 0.1
    N = m1**2 + sigma**2
    functions = kernel_functions(kernel)
    k = [functions.jet(N, N, u)[1] for u in (m1**2, -(m1**2))]
    even, odd = (k[0] + k[1]) / 2, (k[0] - k[1]) / 2
    F, Fu, *_ = functions.jet(N, N, m1**2)
    zeta = ridge + functions.value(N, N, N) - F - sigma**2 * Fu
    low, high = 0.0, 1 / zeta
    for _ in range(60):
        r = (low + high) / 2
        residual, _, V = theory.two_channels(sigma**2 * even, sigma**2 * odd, alpha, zeta, r)
        low, high = (low, r) if residual > 0 else (r, high)
    m, q = theory.parity(m2, sigma, even, odd, alpha, r, V)
    found = kernel_error(MIXED, kernel, alpha, ridge)
    np.testing.assert_allclose(found.mean, m * MIXED.labels, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.variance, q, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("kernel", SMOOTH[1:])
def test_quadratic_sampling_of_xor(kernel: str) -> None:
    """The general regression on products gives theta and q; the error against a sum over the product of coordinates.

    In coordinates turned by 45 degrees the output is theta u v + sqrt(q) h, u and v of mean m/sqrt 2: given u it is
    normal.  A trapezoidal sum over u of step sigma/400 is exact to exp(-2 pi^2 400^2 q/..), but where q is small; here
    q > 1e-3 and 1e-9 is allowed.
    """
    sigma, m = 0.8, 1.1
    T, V, _ = single(kernel, sigma, 2.0, 0.1, order=2)
    theta, q = theory.quadratic_xor(m, sigma, T, V)
    assert q > 1e-3
    mixture = Mixture.xor(sigma, m)
    found = kernel_error(mixture, kernel, 2.0, 0.1, samples="quadratic")
    np.testing.assert_allclose(found.mean, theta * m**2 / 2 * mixture.labels, rtol=0, atol=ROUNDING)
    np.testing.assert_allclose(found.variance, q + theta**2 * (sigma**4 + sigma**2 * m**2), rtol=0, atol=ROUNDING)
    g = np.arange(-4000, 4001) / 400
    u = m / np.sqrt(2) + sigma * g
    wrong = ndtr(-theta * u * m / np.sqrt(2) / np.sqrt(theta**2 * u**2 * sigma**2 + q))
    integral = (wrong * np.exp(-(g**2) / 2)).sum() / 400 / np.sqrt(2 * np.pi)
    assert found.classification_error == pytest.approx(integral, abs=1e-9)
    assert found.classification_error_error < 1e-9


def test_a_kernel_without_curvature_does_not_see_xor() -> None:
    """arccos0 is 1/2 plus an odd function of u."""
    for mixture, samples in ((XOR, "linear"), (Mixture.xor(0.8), "quadratic")):
        found = kernel_error(mixture, "arccos0", 2.0, 0.1, samples=samples)
        assert found.classification_error == pytest.approx(0.5, abs=1e-12)


def test_many_quadratic_samples_come_to_the_oracle() -> None:
    """alpha -> infinity leaves only s(x) = (x2^2 - x1^2)/2, whose sign is the Bayes rule; corrections O(1/alpha)."""
    mixture = Mixture.xor(0.6)
    found = kernel_error(mixture, "rbf", 1e9, 0.1, samples="quadratic")
    assert found.classification_error == pytest.approx(oracle_error(mixture).value, abs=1e-6)


def test_quadratic_sampling_regresses_freely_on_the_inputs() -> None:
    """Two clusters: the population regression w = 1/(1 + sigma^2); what it leaves is noise to the quadratic channel."""
    sigma = 0.7
    found = kernel_error(Mixture.two_clusters(sigma), "exponential", 0.5, 0.2, samples="quadratic")
    w = 1 / (1 + sigma**2)
    _, V, _ = single("exponential", sigma, 0.5, 0.2, order=2)
    q = V * ((1 - w) ** 2 + w**2 * sigma**2)
    assert found.mean[0] == pytest.approx(w, abs=ROUNDING)
    np.testing.assert_allclose(found.variance, q + w**2 * sigma**2, rtol=0, atol=ROUNDING)
    assert found.classification_error == pytest.approx(ndtr(-w / np.sqrt(q + w**2 * sigma**2)), abs=ROUNDING)


@pytest.mark.parametrize(
    ("mixture", "power"), [(Mixture.two_clusters(0.8), 1.0), (XOR, 0.5), (THREE, 0.5), (MIXED, 1.0)]
)
@pytest.mark.parametrize("kernel", ["exponential", "laplace", "ntk:relu"])
def test_the_equivalent_at_finite_D_tends_to_the_limit(mixture: Mixture, power: float, kernel: str) -> None:
    """O(1/D), at the crossover O(D^-1/2): between D = 10^4 and 10^6 the difference shrinks by 100^power.

    The next order is D^-1/2 of the first (1/D where that is 1/D): a factor 1.02 at D = 10^4 for a coefficient of 2;
    allowed are 30 %.
    """
    limit = kernel_error(mixture, kernel, 1.5, 0.05).pmse
    gaps = [abs(kernel_error(mixture, kernel, 1.5, 0.05, D=D).pmse - limit) for D in (1e4, 1e6)]
    assert gaps[0] < 30 * 1e4**-power
    assert gaps[0] / gaps[1] == pytest.approx(100**power, rel=0.3)


@pytest.mark.parametrize("kernel", ["exponential", "rbf", "ntk:relu"])
def test_quadratic_sampling_at_finite_D_tends_to_the_limit(kernel: str) -> None:
    """O(1/D): between D = 10^3 and 10^5 the difference shrinks by 100, up to the next order, 1/D of it times 300."""
    for mixture in (Mixture.xor(0.6), Mixture.three_clusters(0.5), UNEQUAL):
        limit = kernel_error(mixture, kernel, 1.5, 0.1, samples="quadratic").pmse
        gaps = [kernel_error(mixture, kernel, 1.5, 0.1, samples="quadratic", D=D).pmse - limit for D in (1e3, 1e5)]
        assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.3)
        assert abs(gaps[0]) < 0.1


def test_few_samples_have_two_equivalents() -> None:
    """n = alpha D is n = (2 alpha/D) D^2/2: expansions around clusters and around the origin differ at O(1/D)."""
    for D in (200.0, 2000.0):
        one = kernel_error(UNEQUAL, "exponential", 1.5, 0.1, D=D)
        two = kernel_error(UNEQUAL, "exponential", 3.0 / D, 0.1, samples="quadratic", D=D)
        assert one.pmse == pytest.approx(two.pmse, rel=2 / D)
        np.testing.assert_allclose(one.mean, two.mean, rtol=0, atol=2 / D)


def test_equal_noise_and_clusters_split_in_two_change_nothing() -> None:
    """A cluster of weight P is two of weight P/2 at the same place; sigma as a number or for each cluster."""
    whole = Mixture([[1.0, 0.2], [-0.7, 0.0]], [1, -1], [0.6, 0.4], 0.7)
    split = Mixture([[1.0, 0.2], [1.0, 0.2], [-0.7, 0.0]], [1, 1, -1], [0.25, 0.35, 0.4], [0.7] * 3)
    for options in ({}, {"samples": "quadratic"}):
        one, two = (kernel_error(m, "exponential", 1.2, 0.1, **options) for m in (whole, split))
        np.testing.assert_allclose(two.mean[[0, 1, 2]], one.mean[[0, 0, 1]], rtol=0, atol=1e-11)
        assert two.classification_error == pytest.approx(one.classification_error, abs=1e-11)
    # at finite D the two halves are fitted as two features: O(1/n)
    one, two = (kernel_error(m, "exponential", 1.2, 0.1, D=1e6).pmse for m in (whole, split))
    assert two == pytest.approx(one, abs=1e-4)


# --- known values


@pytest.mark.parametrize("kernel", SMOOTH)
def test_with_few_samples_nobody_beats_chance_on_xor(kernel: str) -> None:
    """Means of order 1: the output is noise of variance V, and the pmse (1 + V)/2."""
    _, V, _ = single(kernel, 0.8, 1.5, 0.1)
    found = kernel_error(Mixture.xor(0.8), kernel, 1.5, 0.1)
    assert found.classification_error == pytest.approx(0.5, abs=1e-15)
    assert found.pmse == pytest.approx((1 + V) / 2, abs=ROUNDING)


@pytest.mark.parametrize("scaling", [0.25, (0.5, 0.0)])
@pytest.mark.parametrize("kernel", ["ntk:erf", "ntk:sin", "ntk:linear", "ntk:he3"])
def test_odd_kernels_stay_at_chance(kernel: str, scaling: float | tuple[float, float]) -> None:
    mixture = Mixture.parity(0.8, (1.0, 1.0), scaling)
    for D in (None, 1000.0):
        assert kernel_error(mixture, kernel, 1.5, 0.1, D=D).classification_error == pytest.approx(0.5, abs=1e-12)


def test_infinitely_many_samples_reach_the_oracle() -> None:
    """Two clusters, and the gates of the mixed regime: corrections c/alpha, with c below 1000."""
    assert kernel_error(Mixture.two_clusters(0.8), "rbf", 1e9).classification_error == pytest.approx(
        ndtr(-1 / 0.8), abs=1e-6
    )
    assert kernel_error(MIXED, "rbf", 1e9).classification_error == pytest.approx(ndtr(-1.3 / 0.8), abs=1e-6)


def test_long_means_are_learned_perfectly() -> None:
    found = kernel_error(Mixture.ring(3, 0.8, scaling=0.5), "exponential", 1.0, 0.1)
    np.testing.assert_allclose(found.mean, [-1, 1, -1, 1, -1, 1], rtol=0, atol=1e-9)
    assert found.classification_error == 0
    # a linear correlation is enough at D^(1/4)
    assert kernel_error(Mixture.two_clusters(0.8, scaling=0.25), "rbf", 1.0).classification_error == 0


@pytest.mark.parametrize("kernel", ["rbf", "laplace", "exponential:0.5"])
def test_the_rate_at_long_means_is_that_of_finite_D(kernel: str) -> None:
    """pmse -> 1/(2 (1 + D rate)), corrections O(1/D) with a coefficient below 10^4."""
    for mixture in (
        Mixture.xor(1.0, 0.5, 0.5),
        Mixture.ring(3, 0.8, 0.7, 0.5),
        Mixture.three_clusters(0.7, scaling=0.5),
    ):
        limit = kernel_error(mixture, kernel, 1.5, 0.1)
        assert limit.pmse < 1e-15
        finite = kernel_error(mixture, kernel, 1.5, 0.1, D=1e7)
        assert 1 / (1 + 1e7 * limit.rate) == pytest.approx(2 * finite.pmse, rel=1e-2)
    # relu has no odd orders beyond the first: its kernels are blind to the order 3 of a ring of 6
    assert kernel_error(Mixture.ring(3, 0.8, 0.7, 0.5), "arccos1", 1.5, 0.1).rate == 0
    assert kernel_error(Mixture.xor(0.8), "rbf", 1.5, 0.1).rate is None


def test_the_norm_counts_only_for_kernels_that_do_not_factor() -> None:
    """Three clusters differ in |x|^2: F_NN' - F_N F_N'/F is 0 for exp(-|x - x'|^2/2), not for exp(-|x - x'|)."""
    for kernel, matters in (("rbf", False), ("arccos1", False), ("ntk:relu", False), ("laplace", True)):
        T, V, curvature = single(kernel, 0.8, 1.5, 0.1)
        without = theory.three_clusters(1.2, 0.8, curvature, T, V)[0]
        assert bool(abs(kernel_error(THREE, kernel, 1.5, 0.1).mean[0] - without) > 0.01) is matters


def test_the_probability_of_a_negative_quadratic_form() -> None:
    """c g^2 + m < 0 for c = -1 < 0 < m = 4: |g| > 2; a difference of two squares is even; a normal variable."""
    zero = np.zeros(1)
    assert probability_below_zero(np.array([-1.0]), zero, 4.0, 0.0)[0] == pytest.approx(2 * ndtr(-2), abs=1e-9)
    assert probability_below_zero(np.array([-1.0, 1.0]), np.zeros(2), 0.0, 0.1)[0] == pytest.approx(0.5, abs=1e-12)
    assert probability_below_zero(np.zeros(2), np.array([0.6, 0.0]), 1.0, 0.64)[0] == pytest.approx(ndtr(-1), abs=1e-11)
    assert probability_below_zero(zero, zero, 1.0, 0.0) == (0.0, 0.0)


# --- records and refusals


def test_the_record_says_what_was_asked() -> None:
    found = kernel_error(XOR, " rbf:2 ", 1.5, 0.1, D=500)
    assert found.method == "equivalent at D = 500, n = 750"
    asked = {"kernel": "rbf:2", "alpha": 1.5, "ridge": 0.1, "samples": "linear", "D": 500}
    assert {name: found.problem[name] for name in asked} == asked
    assert '"scaling": 0.25' in found.provenance["mixture"]
    assert 0 < found.classification_error_error < 1e-9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, "alpha must be finite and > 0, got 0.0"),
        ({"alpha": float("nan")}, "alpha"),
        ({"ridge": -0.1}, "ridge must be finite and >= 0, got -0.1"),
        ({"kernel": "gauss"}, "kernel must be one of arccos0, .*, got 'gauss'"),
        ({"kernel": "ntk:tanh"}, "of other activations no NTK is generated"),
        ({"kernel": "polynomial"}, "'polynomial' needs its degree"),
        ({"kernel": "polynomial:2.5"}, "degree must be an integer, got 2.5"),
        ({"kernel": "rbf:-1"}, "width w must be finite and > 0, got -1.0"),
        ({"kernel": "rbf:__import__('os')"}, "width w must be a real number"),
        ({"kernel": "arccos1:2"}, "kernel must be one of"),
        ({"kernel": 3}, "kernel must be a name, got 3"),
        ({"kernel": "polynomial:1", "ridge": 0.0}, "ridge must be > 0, got 0.0: kernel 'polynomial:1'"),
        ({"kernel": "polynomial:1", "ridge": 0.0, "D": 100}, "ridge must be > 0, got 0.0: kernel 'polynomial:1'"),
        ({"kernel": "polynomial:2", "ridge": 0.0, "samples": "quadratic"}, "kernel 'polynomial:2'"),
        ({"mixture": Mixture.two_clusters(1e-200), "kernel": "arccos1", "D": 100.0}, "no finite derivatives"),
        ({"samples": "cubic"}, "samples must be 'linear' .*, got 'cubic'"),
        ({"samples": "quadratic", "D": 3}, "D must be >= 4 for means in 2 dimensions, got 3"),
        ({"samples": "quadratic", "D": 100, "mixture": XOR}, "means of order 1"),
        ({"samples": "quadratic", "mixture": XOR}, "means of order 1"),
        ({"D": -1}, "D must be finite and > 0, got -1"),
        ({"D": 2}, "D must be >= 4 for means in 2 dimensions, got 2"),
        ({"mixture": Mixture.xor(1.0, scaling=0.3)}, "scaling=0.3: no formula for the limit; with D=..."),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 0.5])}, "one sigma in this case.*with D=..."),
        ({"mixture": Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([1.0, 2.0], [0.5, 0.5]))}, "isotropic"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, object], message: str) -> None:
    good = {"mixture": Mixture.xor(1.0), "kernel": "rbf", "alpha": 2.0, "ridge": 0.1}
    with pytest.raises(ValueError, match=message):
        kernel_error(**(good | arguments))  # type: ignore[arg-type]


# --- intercepts


@pytest.mark.parametrize("kernel", ["rbf", "arccos1", "ntk:erf"])
def test_an_intercept_is_a_constant_of_infinite_size(kernel: str) -> None:
    """At finite D the kernel F + t for t = 1e3 and 1e5: the difference to the intercept falls as 1/t.

    The constant of the kernel enters the local data alone, so that it is added there.
    """
    from unittest.mock import patch

    from quenched.numerics import kernel_ridge

    exact = kernel_error(UNEQUAL, kernel, 2.0, 3.0, D=60, intercept=True)
    plain, gaps = kernel_ridge.local_kernel, []
    for t in (1e3, 1e5):

        def shifted(*arguments: object, t: float = t) -> object:
            at = plain(*arguments)
            return at._replace(F=at.F + t, diagonal=at.diagonal + t)

        with patch.object(kernel_ridge, "local_kernel", shifted):
            found = kernel_error(UNEQUAL, kernel, 2.0, 3.0, D=60)
        gaps.append(np.abs([*(found.mean - exact.mean), *(found.variance - exact.variance)]).max())
    assert gaps[1] < 1e-5
    assert gaps[1] == pytest.approx(gaps[0] / 100, rel=0.05)


def test_an_intercept_in_the_limits() -> None:
    """A kernel with a constant has one already, an odd one has not; the equivalent comes to both as 1/D."""
    labels = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8])
    for kernel, free in (("rbf", True), ("ntk:erf", False)):
        without, with_one = (
            kernel_error(labels, kernel, 2.0, 0.5, intercept=each).classification_error for each in (False, True)
        )
        assert (abs(without - with_one) < 1e-12) is free
        gaps = [
            kernel_error(labels, kernel, 2.0, 0.5, D=D, intercept=True).classification_error - with_one
            for D in (1e4, 1e5)
        ]
        assert abs(gaps[1]) < 1e-4
        assert gaps[1] == pytest.approx(gaps[0] / 10, rel=0.02)
    quadratic = [
        kernel_error(Mixture.three_clusters(0.7), "ntk:erf", 1.0, 0.1, samples="quadratic", D=D, intercept=True).pmse
        for D in (2e3, 4e3, None)
    ]
    assert abs(quadratic[1] - quadratic[2]) < abs(quadratic[0] - quadratic[2]) < 0.01


def test_a_ridge_of_order_n_and_the_mean_label() -> None:
    """Two clusters, sigma 1, rbf, alpha 4, D = 512, ridge = n: the mean label outweighs what else the samples say.

    It is of order n^-1/2, the rest of order 1/n, the more so with an intercept; it is 0 in samples of equal classes.
    There the error is that of the limit, D -> infinity before the ridge: Phi(-1/sqrt(1 + 1/alpha)), to O(1/D).
    """
    two, D = Mixture.two_clusters(1.0), 512
    found = {
        (intercept, stratified): kernel_error(
            two, "rbf", 4.0, 4.0 * D, D=D, intercept=intercept, stratified=stratified
        ).classification_error
        for intercept in (False, True)
        for stratified in (False, True)
    }
    assert found[False, False] == pytest.approx(0.452, abs=5e-4)
    assert found[True, False] > found[False, False]
    assert found[True, True] == pytest.approx(ndtr(-1 / np.sqrt(1.25)), abs=1 / D)
    assert found[False, True] == pytest.approx(ndtr(-1 / np.sqrt(1.25)), abs=4 / D)


def test_an_intercept_needs_samples() -> None:
    with pytest.raises(RuntimeError, match="intercept needs more than one sample"):
        kernel_error(Mixture.two_clusters(1.0), "rbf", 0.05, 1.0, D=20, intercept=True)
