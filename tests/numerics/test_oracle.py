"""The oracle error: closed forms against the general solver, symmetries, other integrals, Monte Carlo, refusals."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import norm

from quenched.numerics import Mixture, Spectrum, Teacher, oracle_error
from quenched.numerics.compiled.precision import context
from quenched.numerics.oracle_lines import coordinate_lines
from quenched.numerics.oracle_quadrature import integrated
from quenched.numerics.oracle_sites import Sites, reduced, turned
from quenched.numerics.probability.exponential_sums import Numbers
from quenched.theory import oracle as theory

FLOAT = Numbers()


def general(mixture: Mixture) -> tuple[float, float]:
    """Value and error by the general solver, closed forms left aside."""
    sites, contested = reduced(mixture, mixture.isotropic_sigma, FLOAT)
    value, error, _ = integrated(coordinate_lines(turned(sites, FLOAT), FLOAT), 1e-10)
    return float(value + contested), max(float(error), 1e-14)


def irregular(sigma: float = 0.5) -> Mixture:
    """Eight clusters in the plane without any symmetry."""
    rng = np.random.default_rng(8)
    return Mixture(rng.normal(size=(8, 2)), [1, -1, 1, 1, -1, -1, 1, -1], rng.dirichlet(np.full(8, 4.0)), sigma)


def ring_by_angle(m: int, sigma: float) -> mpmath.mpf:
    """Error of the ring by an integral over the angle of x: by symmetry the labels change on the bisecting lines.

    The angle t of x ~ N(e1, sigma^2 I) has, the radius integrated out, the density
    [exp(-1/(2 sigma^2)) + c sqrt(2 pi) Phi(c) exp((c^2 - 1/sigma^2)/2)]/(2 pi) with c = cos(t)/sigma.
    """
    ctx = context(25)
    s = ctx.mpf(sigma)

    def density(t: mpmath.mpf) -> mpmath.mpf:
        c = ctx.cos(t) / s
        tail = c * ctx.sqrt(2 * ctx.pi) * ctx.ncdf(c) * ctx.exp((c * c - 1 / s**2) / 2)
        return (ctx.exp(-1 / (2 * s**2)) + tail) / (2 * ctx.pi)

    half = ctx.pi / (2 * m)
    wrong = ([(2 * k - 1) * half, min((2 * k + 1) * half, ctx.pi)] for k in range(1, m + 1, 2))
    return 2 * ctx.fsum(ctx.quad(density, limits) for limits in wrong)


NAMED = {
    "two clusters": Mixture.two_clusters(0.7),
    "two unequal clusters": Mixture([[1.0], [-0.5]], [1, -1], [0.2, 0.8], 0.7),
    "three clusters": Mixture.three_clusters(0.6),
    "three clusters, no threshold": Mixture([[1.0], [-1.0], [0.0]], [-1, -1, 1], [0.45, 0.45, 0.1], 1.5),
    "XOR": Mixture.xor(0.5),
    "XOR, little noise": Mixture.xor(0.1),
    "parity": Mixture.parity(0.8, (1.0, 1.7)),
}


@pytest.mark.parametrize("name", NAMED)
def test_closed_forms_agree_with_the_general_solver(name: str) -> None:
    closed = oracle_error(NAMED[name])
    assert closed.method.startswith("closed form")
    value, error = general(NAMED[name])
    # the solver's own estimate, and rounding: Phi(-z) feels z^2 eps, z <= 10 here
    assert abs(value - closed.value) <= error + 1e-13 * closed.value


@pytest.mark.parametrize(
    ("name", "lengths", "weights"),
    [
        ("two_clusters", [0.9], (0.2, 0.8)),
        ("three_clusters", [0.9], (0.6, 0.4)),
        ("xor", [0.9], ()),
        ("parity", [0.9, 1.4], ()),
    ],
)
def test_closed_forms_do_not_depend_on_the_unit_of_length(name: str, lengths: list[float], weights: tuple) -> None:
    """Solvers measure in sigma, and ask for sigma = 1 alone; rounding of a few operations."""
    form = getattr(theory, name)
    one, other = (form(*(unit * np.array(lengths)), unit * 0.7, *weights) for unit in (1, 4))
    assert one == pytest.approx(other, rel=1e-14)


def test_the_term_of_a_cluster_with_its_own_sigma_is_its_weighted_density() -> None:
    """c exp(rate u) = weight N(x; mean, sigma^2 1) (2 pi)^(3/2) at |x_par - mean| = 0.5, u = |x_perp|^2 = 0.8 of 3."""
    for weight, sigma in ((0.2, 0.7), (0.8, 1.6)):
        rate, constant = theory.radial_discriminant(weight, 0.5**2, sigma, 3.0)
        density = norm.pdf(0.5, scale=sigma) * norm.pdf(math.sqrt(0.8), scale=sigma) * norm.pdf(0.0, scale=sigma)
        assert rate * 0.8 + constant == pytest.approx(math.log(weight * density * (2 * math.pi) ** 1.5), rel=1e-14)


def test_known_values() -> None:
    assert math.isclose(oracle_error(Mixture.two_clusters(0.4)).value, norm.cdf(-1 / 0.4), rel_tol=1e-14)
    p = norm.cdf(-1 / (math.sqrt(2) * 0.4))
    assert math.isclose(oracle_error(Mixture.xor(0.4)).value, 2 * p * (1 - p), rel_tol=1e-14)
    assert math.isclose(oracle_error(NAMED["three clusters, no threshold"]).value, 0.1, rel_tol=1e-15)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("sigma", [0.15, 0.6, 2.0])
def test_ring_is_the_integral_over_the_angle(m: int, sigma: float) -> None:
    result = oracle_error(Mixture.ring(m, sigma))
    assert abs(result.value - float(ring_by_angle(m, sigma))) <= result.error + 1e-13 * result.value
    assert result.error <= 1.1e-10 * result.value


def test_digits_agree_with_float_and_with_the_closed_forms() -> None:
    ctx = context(40)
    p = ctx.ncdf(-1 / (ctx.sqrt(2) * ctx.mpf(0.3)))
    result = oracle_error(Mixture.xor(0.3), digits=30)
    assert abs(result.value / (2 * p * (1 - p)) - 1) < 1e-30
    assert str(result.value) == ctx.nstr(2 * p * (1 - p), 30)
    line = Mixture([[0.0], [1.0], [2.5], [4.0]], [1, -1, 1, -1], [0.1, 0.2, 0.3, 0.4], 0.6)
    assert abs(oracle_error(line, digits=30).value - oracle_error(line).value) < 1e-15
    assert abs(oracle_error(line, digits=30).value / oracle_error(line, digits=45).value - 1) < 1e-29


def test_digits_in_the_plane() -> None:
    # the ring's cosines are rounded to float64, which its error feels
    result = oracle_error(Mixture.ring(3, 0.8), digits=18)
    assert abs(result.value / ring_by_angle(3, 0.8) - 1) < 1e-15
    mixture = Mixture([[0.0, 0.0], [1.0, 0.3], [-0.4, 1.1], [0.9, -1.2]], [1, -1, 1, -1], [0.3, 0.2, 0.1, 0.4], 0.7)
    result = oracle_error(mixture, digits=18)
    assert abs(result.value - oracle_error(mixture).value) < 1e-14


def test_precision_leaves_no_trace() -> None:
    before = mpmath.mp.dps
    oracle_error(Mixture.xor(0.3), digits=50)
    assert mpmath.mp.dps == before


def test_monte_carlo() -> None:
    mixture = irregular()
    rng = np.random.default_rng(0)
    n = 10**6
    cluster = rng.choice(mixture.clusters, size=n, p=mixture.weights)
    x = mixture.means[cluster] + mixture.isotropic_sigma * rng.normal(size=(n, 2))
    squares = ((x[:, None] - mixture.means) ** 2).sum(axis=2)
    D = np.exp(-squares / (2 * mixture.isotropic_sigma**2)) @ (mixture.weights * mixture.labels)
    wrong = np.mean(np.sign(D) != mixture.labels[cluster])
    value = oracle_error(mixture).value
    assert abs(wrong - value) < 4 * math.sqrt(value * (1 - value) / n)  # P = 6e-5, at a fixed seed


@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(0, 2 * math.pi),
    shift=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    order=st.permutations(range(8)),
    flip=st.sampled_from([1, -1]),
    scale=st.floats(0.1, 10),
)
def test_symmetries(angle: float, shift: tuple[float, float], order: list[int], flip: int, scale: float) -> None:
    mixture = irregular()
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    lift = np.array([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])  # and a third coordinate that is not needed
    means = scale * (mixture.means[order] @ turn + shift) @ lift
    image = Mixture(means, flip * mixture.labels[order], mixture.weights[order], scale * mixture.isotropic_sigma)
    # 1e-10: the solver's tolerance; the images of the means are rounded at 1e-15 of their distance from the origin
    assert math.isclose(oracle_error(image).value, oracle_error(mixture).value, rel_tol=2.1e-10)


def test_what_two_labels_share_is_lost_and_no_more() -> None:
    """Clusters of one law and both labels are guessed; where all others have one label, nothing else is."""
    shared = Mixture([[1.0], [1.0], [-1.0]], [1, -1, 1], sigma=[0.5, 0.5, 1.0])
    found = oracle_error(shared, D=10)
    assert abs(found.value - 1 / 3) < 1e-15
    assert found.error < 1e-14


def test_doubled_and_contested_means() -> None:
    split = Mixture([[1.0], [1.0], [-1.0]], [1, 1, -1], [0.2, 0.3, 0.5], 0.7)
    assert math.isclose(oracle_error(split).value, oracle_error(Mixture.two_clusters(0.7)).value, rel_tol=1e-15)
    # 0.1 of the weight sits under the other label's cluster: always wrong, the rest is a mixture of 0.4 and 0.4
    contested = Mixture([[1.0], [1.0], [-1.0]], [1, -1, -1], [0.5, 0.1, 0.4], 0.7)
    assert math.isclose(oracle_error(contested).value, 0.1 + 0.8 * norm.cdf(-1 / 0.7), rel_tol=1e-14)
    assert oracle_error(Mixture([[0.0], [1.0]], [1, 1])).value == 0
    corners = np.eye(4)  # a tetrahedron needs three dimensions, but one label needs none
    assert oracle_error(Mixture(corners, [1, 1, 1, 1])).value == 0


def test_errors_beyond_float() -> None:
    assert oracle_error(Mixture.xor(0.01)).value == 0
    result = oracle_error(Mixture.ring(3, 0.01))
    assert result.value == 0
    assert 0 < result.error < 1e-280
    exact = oracle_error(Mixture.two_clusters(0.001), digits=20).value
    assert mpmath.nstr(exact, 15) == mpmath.nstr(context(30).ncdf(-1 / context(30).mpf(0.001)), 15)


@pytest.mark.parametrize(
    ("mixture", "options", "message"),
    [
        (Mixture.xor(0.5, scaling=0.25), {}, r"mixture must not depend on D, got scaling=0.25"),
        (Mixture.parity(0.5, scaling=[0.5, 0.0]), {}, r"mixture must not depend on D"),
        (Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0]), {"D": 0}, r"D must be an integer >= 1, got 0"),
        (Mixture(np.eye(2), [1, -1], sigma=[1.0, 2.0]), {"D": 1, "digits": 20}, r"means on a plane, and D above"),
        (Mixture(np.eye(3), [1, -1, 1], sigma=[1.0, 2.0, 1.0]), {"D": 1}, r"D must be at least the 2 dimensions"),
        (Mixture.xor(0.5, scaling=0.25), {"D": 2.5}, r"D must be an integer >= 1, got 2.5"),
        (
            Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([1.0, 2.0])),
            {"D": 8},
            r"D must be left out for a mixture with a spectrum",
        ),
        (Mixture(np.eye(5), [1, -1, 1, -1, 1]), {"digits": 20}, r"in three dimensions, .* got 5 means in 4 dimensions"),
        (Mixture.xor(0.5), {"tolerance": 0}, r"tolerance must be finite and > 0, got 0"),
        (Mixture.xor(0.5), {"tolerance": 1e-15}, r"tolerance must be in \[1e-13, 1\), got 1e-15"),
        (Mixture.xor(0.5), {"digits": 0}, r"digits must be an integer >= 1, got 0"),
        (Mixture.xor(0.5), {"digits": 20.0}, r"digits must be an integer >= 1, got 20.0"),
        (Mixture.xor(1e-120), {}, r"sigma above 1e-100 of the distances"),
    ],
)
def test_refusals(mixture: Mixture, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oracle_error(mixture, **options)


def test_the_record_is_a_number() -> None:
    result = oracle_error(Mixture.xor(0.5))
    assert float(result) == result.value
    assert abs(float(oracle_error(Mixture.xor(0.5), digits=20)) - result.value) <= result.error


def test_a_shared_spectrum_is_whitened() -> None:
    """Two clusters with variances rho_u along their difference: Phi(-half the Mahalanobis distance)."""
    rho, f = np.array([0.5, 2.0, 8.0]), np.array([0.6, 0.0, 0.8])
    spectrum = Spectrum(rho, alignment=f[:, None, None] ** 2)
    mixture = Mixture([[1.0], [-1.0]], [1, -1], sigma=0.7, spectrum=spectrum)
    distance = np.sqrt((f**2 / rho).sum()) / 0.7
    assert float(oracle_error(mixture)) == pytest.approx(ndtr(-distance), rel=1e-14)
    xor = Mixture.xor(0.6)
    spread = Mixture(xor.means, xor.labels, sigma=0.6, spectrum=Spectrum.two_level(0.5, 2.0, 0.25))
    # directions chosen at random see the average of 1/rho, 0.75/0.5 + 0.25/2
    expected = float(oracle_error(Mixture.xor(0.6 / np.sqrt(1.625))))
    assert float(oracle_error(spread)) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        (Mixture([[1.0]], teacher=Teacher([[1.0]], [1.0], "erf")), "a teacher's labels are known from x"),
    ],
)
def test_what_has_no_oracle_error_here_is_refused(mixture: Mixture, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oracle_error(mixture)


# ------------------------------------------------------------------------------------- directions without variance


def test_a_copied_column_does_not_count() -> None:
    """The pooled covariance of a repeated column is singular; the error is that without it, to the solver's 1e-10."""
    from sklearn.datasets import load_digits, load_iris

    X, y = load_iris(return_X_y=True)
    label = np.where(y == 1, -1, 1)
    once = oracle_error(Mixture.from_data(X, y, label, covariance="shared"))
    twice = oracle_error(Mixture.from_data(np.hstack([X, X[:, :1]]), y, label, covariance="shared"))
    assert once.value == pytest.approx(0.012702845923597, rel=1e-12)
    assert abs(twice.value - once.value) <= once.error + twice.error
    # digits: pixels that are always white
    X, y = load_digits(return_X_y=True)
    chosen = (y == 3) | (y == 8)
    label = np.where(y[chosen] == 3, 1, -1)
    for data in (X[chosen], (X[chosen] / 16 - 0.3053) / 0.3768):
        found = oracle_error(Mixture.from_data(data, y[chosen], label, covariance="shared"))
        assert abs(found.value - 0.0012262918000414) <= found.error + 1e-16  # the last digit given


def test_means_that_differ_where_there_is_no_variance_are_told_apart() -> None:
    assert oracle_error(Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.0, 1.0]))).value == 0
    # two pairs told apart by the first coordinate; within each, two clusters at distance 2 along the second
    alignment = np.stack([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
    means, labels = [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], [1, -1, -1, 1]
    xor = Mixture(means, labels, [0.3, 0.2, 0.1, 0.4], spectrum=Spectrum([0.0, 0.25], alignment=alignment))
    parts = [Mixture([[1.0], [-1.0]], [1, -1], w, sigma=0.5) for w in ([0.6, 0.4], [0.2, 0.8])]
    expected = sum(float(oracle_error(part)) / 2 for part in parts)
    assert float(oracle_error(xor)) == pytest.approx(expected, rel=1e-14)
    unclear = Mixture([[1.0], [1.0 + 1e-8]], [1, -1], spectrum=Spectrum([1e-14, 1.0]))
    with pytest.raises(ValueError, match=r"differ by 7\.07e-09 where its spectrum has no variance but for rounding"):
        oracle_error(unclear)


def test_nearly_singular_covariances_state_what_rounding_does() -> None:
    """An eigenvalue of 1e-11 is known to 4e-5 in a computed covariance: the error moves by up to phi(d) d 2e-5."""
    alignment = np.stack([np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
    mixture = Mixture([[1e-6, 0.0], [-1e-6, 0.0]], [1, -1], spectrum=Spectrum([1e-12, 1.0], alignment=alignment))
    found = oracle_error(mixture)
    assert found.value == pytest.approx(ndtr(-1), rel=1e-12)
    assert 1e-5 < found.error < 1e-2


@pytest.mark.parametrize(
    ("spectrum", "inverse"),
    [
        (Spectrum.marchenko_pastur(0.9), 10.0),
        (Spectrum.marchenko_pastur(0.5), 2.0),
        (Spectrum.uniform(0.01, 2.01), math.log(201) / 2),
        (Spectrum.power_law(1.5, 1e-4, 1.0), (1e6 - 1) / 1.5 / ((1e2 - 1) / 0.5)),
        (Spectrum.power_law(1.0, 1e-4, 1.0), (1e4 - 1) / math.log(1e4)),
        (Spectrum.two_level(0.5, 2.0, 0.25), 1.625),
    ],
)
def test_laws_with_mass_near_zero(spectrum: Spectrum, inverse: float) -> None:
    """Means that point anywhere: two clusters at the distance sqrt(E[1/rho]), the exact inverse moment of the law."""
    mixture = Mixture([[1.0], [-1.0]], [1, -1], sigma=3.0, spectrum=spectrum)
    assert float(oracle_error(mixture)) == pytest.approx(ndtr(-math.sqrt(inverse) / 3), rel=1e-12)


@pytest.mark.parametrize(
    "spectrum", [Spectrum.marchenko_pastur(1.0), Spectrum.marchenko_pastur(2.0), Spectrum.uniform(0, 1)]
)
def test_laws_whose_inverse_diverges_have_no_error(spectrum: Spectrum) -> None:
    assert oracle_error(Mixture([[1.0], [-1.0]], [1, -1], spectrum=spectrum)).value == 0


# ------------------------------------------------------------------------------ more dimensions, several covariances


def products_of_signs(n: int, sigma: float) -> tuple[Mixture, float]:
    """The label is a product of n independent signs: P(wrong) = (1 - (1 - 2p)^n)/2, p = Phi(-1/sigma)."""
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * n)).reshape(n, -1).T
    return Mixture(signs, signs.prod(axis=1), sigma=sigma), (1 - (1 - 2 * ndtr(-1 / sigma)) ** n) / 2


def test_means_in_four_dimensions_are_sampled() -> None:
    mixture, expected = products_of_signs(4, 0.8)
    found = oracle_error(mixture)
    assert found.method.startswith("randomised")
    assert abs(found.value - expected) < 5 * found.error < 1e-3  # Student's t, 7 degrees: P = 2e-3, fixed seed


def test_parity_of_three_signs() -> None:
    """Eight clusters, three planes that cross: the stated error bounds what is missed."""
    mixture, expected = products_of_signs(3, 0.8)
    found = oracle_error(mixture)
    assert "planes" in found.method
    assert abs(found.value - expected) <= found.error <= 1.1e-10 * expected


IRREGULAR = (np.random.default_rng(1).normal(size=(6, 3)), [-1, 1] * 3, np.random.default_rng(1).dirichlet([4.0] * 6))


def test_smooth_boundaries_in_space() -> None:
    """Folds of the boundary lie elsewhere when lines and planes cross it another way: each stated error is a bound."""
    rough, fine = (oracle_error(Mixture(*IRREGULAR, 0.7), tolerance=tolerance) for tolerance in (1e-6, 1e-12))
    assert abs(rough.value - fine.value) <= rough.error + fine.error
    sites, _ = reduced(Mixture(*IRREGULAR, 0.7), 0.7, FLOAT)
    assert not _one_label_change(turned(sites, FLOAT))
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    other = integrated(coordinate_lines(Sites(sites.means @ turn, sites.weights), FLOAT), 1e-10)
    assert abs(other.value - fine.value) <= other.error + fine.error
    # 2^16 points in all: the best rule's outcome on samples of the mixture, four standard errors at a fixed seed
    rng, n = np.random.default_rng(0), 400_000
    means, labels, weights = IRREGULAR
    cluster = rng.choice(6, size=n, p=weights)
    x = means[cluster] + 0.7 * rng.normal(size=(n, 3))
    logs = -((x[:, None] - means) ** 2).sum(axis=2) / (2 * 0.49)
    wrong = np.mean(np.sign(np.exp(logs) @ (weights * labels)) != np.array(labels)[cluster])
    assert abs(wrong - fine.value) < 4 * math.sqrt(fine.value * (1 - fine.value) / n)


def _one_label_change(sites: Sites) -> bool:
    labels = sites.labels[np.argsort(sites.means[:, 0])]
    return int((labels[1:] != labels[:-1]).sum()) == 1


def test_a_boundary_that_lines_cross_once() -> None:
    """Two labels of two clusters each in space: a lattice of lines; and mpmath numbers, on lattices too."""
    means = np.array([[1, 0.2, 0], [-0.3, 1, 0.1], [0, -0.5, 1.0], [-0.6, -0.6, -0.4]])
    mixture = Mixture(means, [1, -1, 1, -1], [0.3, 0.2, 0.1, 0.4], 0.7)
    found = oracle_error(mixture)
    assert found.method.startswith("trapezoidal")
    sites, _ = reduced(mixture, 0.7, FLOAT)
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    other = integrated(coordinate_lines(Sites(sites.means @ turn, sites.weights), FLOAT), 1e-11)
    assert "planes" in other.method
    assert abs(other.value - found.value) <= other.error + found.error
    # of `oracle_error(mixture, digits=20)`, a minute or two
    assert abs(found.value - 0.15025813511929080048) <= found.error
    precise = oracle_error(mixture, digits=7)
    assert abs(precise.value / found.value - 1) < 1e-7


def test_many_changes_of_label_take_bounded_time() -> None:
    found = oracle_error(Mixture.ring(40, 0.3))  # the labels cancel: nothing can be told, by 1e-10
    assert found.value == pytest.approx(0.5, abs=1e-9)
    found = oracle_error(Mixture.ring(40, 0.05))
    assert abs(found.value - float(ring_by_angle(40, 0.05))) < 5 * found.error < 1e-3


def test_quadratic_discriminants() -> None:
    """Two clusters of one mean and spreads 1 and s in n directions: the boundary is a sphere, the errors chi^2 laws."""
    from scipy.stats import chi2

    s, n = 2.0, 3
    alignment = np.zeros((n, 1, 1))
    alignment[0] = 1.0
    spectrum = Spectrum(np.array([[1.0] * n, [s * s] * n]), alignment=alignment)
    found = oracle_error(Mixture([[0.0], [0.0]], [1, -1], spectrum=spectrum))
    radius = n * np.log(s * s) / (1 - 1 / (s * s))  # |x|^2 where both densities agree
    expected = (chi2.sf(radius, n) + chi2.cdf(radius / (s * s), n)) / 2
    assert abs(found.value - expected) < 5 * found.error < 1e-3
    with pytest.raises(ValueError, match="some clusters have no variance and others do"):
        oracle_error(
            Mixture([[0.0], [0.0]], [1, -1], spectrum=Spectrum([[0.0, 1.0], [1.0, 1.0]], alignment=[[[1.0]], [[0.0]]]))
        )


# ------------------------------------------------------------------------------------- clusters with their own sigma


def test_own_sigmas_at_one_mean_are_chi_square_laws() -> None:
    """The boundary is a sphere; D = 3 and 40."""
    from scipy.stats import chi2

    for n, s in ((3, 2.0), (40, 1.2)):
        found = oracle_error(Mixture([[0.0], [0.0]], [1, -1], sigma=[1.0, s]), D=n)
        radius = n * np.log(s * s) / (1 - 1 / (s * s))  # |x|^2 where both densities agree
        expected = (chi2.sf(radius, n) + chi2.cdf(radius / (s * s), n)) / 2
        assert found.value == pytest.approx(expected, rel=1e-13)


def radius_by_mpmath(s: float) -> mpmath.mpf:
    """Means ±e1, sigma 1 and s > 1, D = 3: u = x_2^2 + x_3^2 is exponential; label -1 where u > u0(x), a parabola."""
    ctx = context(30)
    s = ctx.mpf(s)

    def excess(x: mpmath.mpf) -> mpmath.mpf:  # u0 before it is cut at 0
        return (3 * ctx.log(s) - (x - 1) ** 2 / 2 + (x + 1) ** 2 / (2 * s**2)) / (1 - 1 / s**2) * 2

    def wrong(x: mpmath.mpf) -> mpmath.mpf:
        u0 = max(excess(x), ctx.zero)
        return (ctx.npdf(x, 1) * ctx.exp(-u0 / 2) + ctx.npdf(x, -1, s) * (1 - ctx.exp(-u0 / (2 * s**2)))) / 2

    a = 1 / (2 * s**2) - ctx.mpf(1) / 2  # excess is proportional to a x^2 + b x + c
    b, c = 1 + 1 / s**2, 3 * ctx.log(s) + a
    roots = sorted((-b + sign * ctx.sqrt(b * b - 4 * a * c)) / (2 * a) for sign in (1, -1))
    return ctx.quad(wrong, [-25, -12, roots[0], 0, roots[1], 12, 25])


def test_own_sigmas_in_three_dimensions_against_mpmath() -> None:
    mixture = Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 1.5])
    expected = radius_by_mpmath(1.5)
    found = oracle_error(mixture, D=3)
    assert abs(found.value - expected) <= found.error + 1e-15
    assert abs(oracle_error(mixture, D=3, digits=18).value / expected - 1) < 1e-18


@pytest.mark.parametrize(
    ("D", "sigmas"), [(3, [0.7, 0.9, 0.7, 0.9]), (10, [0.7, 0.9, 0.8, 0.8]), (12, [0.7, 0.7, 0.7, 0.9])]
)
def test_own_sigmas_against_monte_carlo(D: int, sigmas: list[float]) -> None:
    """XOR with a sigma each: means on a plane, the radius of the other directions, by sampling x itself."""
    xor = Mixture.xor(1.0)
    mixture = Mixture(xor.means, xor.labels, [0.3, 0.2, 0.1, 0.4], sigmas)
    rng, n, s = np.random.default_rng(D), 300_000, np.array(sigmas)
    cluster = rng.choice(4, size=n, p=mixture.weights)
    x = s[cluster][:, None] * rng.standard_normal((n, D))
    x[:, :2] += mixture.means[cluster]
    squares = (x**2).sum(axis=1)[:, None] - 2 * x[:, :2] @ mixture.means.T + (mixture.means**2).sum(axis=1)
    density = np.exp(-squares / (2 * s**2) - D * np.log(s)) * mixture.weights
    wrong = np.mean(np.sign(density @ mixture.labels) != mixture.labels[cluster])
    found = oracle_error(mixture, D=D, tolerance=1e-8)
    assert abs(wrong - found.value) < 4 * math.sqrt(found.value * (1 - found.value) / n)  # P = 6e-5, at a fixed seed
    assert found.error <= 1.1e-8 * found.value


def test_own_sigmas_are_told_apart_as_the_dimension_grows() -> None:
    """|x|^2/D tells sigma 0.7 from 0.9: two pairs of clusters are left, at the distance sqrt(2) each."""
    xor = Mixture.xor(1.0)
    mixture = Mixture(xor.means, xor.labels, sigma=[0.7, 0.9, 0.7, 0.9])
    limit = oracle_error(mixture)
    assert limit.value == pytest.approx((ndtr(-math.sqrt(0.5) / 0.7) + ndtr(-math.sqrt(0.5) / 0.9)) / 2, rel=1e-14)
    near = [oracle_error(mixture, D=D, tolerance=1e-6).value for D in (100, 1000)]
    assert near[0] > near[1] > limit.value
    assert near[1] == pytest.approx(limit.value, abs=1e-5)
    assert oracle_error(Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum([[1.0], [2.0]]))).value == 0
    assert oracle_error(Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0]), D=10**5).value == 0


def test_scaled_means_have_an_error_at_a_dimension() -> None:
    scaled = oracle_error(Mixture.xor(2.0, scaling=0.25), D=16)
    assert scaled.value == oracle_error(Mixture.xor(2.0, separation=2.0)).value
