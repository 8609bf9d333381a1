"""Bayes-optimal learning: closed cases, the transition of XOR, alpha -> infinity, the free energy, a hard phase."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.special import logsumexp, ndtr

from quenched.numerics import Mixture, bayes_error, oracle_error
from quenched.numerics.bayes import bayes_curve, critical_alpha, evolution_of, first_order_transition
from quenched.numerics.bayes_averages import Label
from quenched.theory import bayes

SPARSE = Mixture([[1.0], [-1.0], [0.0], [0.0]], [-1, -1, -1, 1], [0.005, 0.005, 0.49, 0.5], 0.2)
TRIANGLES = Mixture.ring(3, 0.5)


@pytest.mark.parametrize("alpha", [0.01, 2.0, 300.0])
@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.8]])
def test_two_clusters_are_closed(alpha: float, weights: list[float]) -> None:
    """q = alpha/(alpha + sigma^2): each label has one cluster.  The error is the oracle's at length sqrt(q)."""
    found = bayes_error(Mixture([[1.0], [-1.0]], [1, -1], weights, 0.7), alpha)
    q = bayes.two_clusters(alpha, 0.7)
    assert found.overlaps[0, 0] == pytest.approx(q, rel=1e-14)
    exact = oracle_error(Mixture([[np.sqrt(q)], [-np.sqrt(q)]], [1, -1], weights, 0.7)).value
    assert found.classification_error == pytest.approx(exact, rel=1e-13)


def scalar_overlap(alpha: float, sigma: float, share: float) -> float:
    """The root of q = Lam/(1 + Lam), Lam = (alpha share/sigma^2) E tanh(l + sqrt(l) z), by adaptive quadrature."""

    def excess(q: float) -> float:
        l = q / sigma**2
        average = quad(lambda z: np.tanh(l + np.sqrt(l) * z) * np.exp(-z * z / 2), -12, 12, epsabs=1e-13, epsrel=1e-13)[
            0
        ]
        lam = alpha * share / sigma**2 * average / np.sqrt(2 * np.pi)
        return lam / (1 + lam) - q

    return float(brentq(excess, 1e-3, 1.0, xtol=1e-14, rtol=1e-14))


@pytest.mark.parametrize(("sigma", "alpha"), [(1.0, 2.5), (1.0, 20.0), (0.3, 0.1)])
def test_xor_is_two_scalar_problems(sigma: float, alpha: float) -> None:
    q = scalar_overlap(alpha, sigma, 0.5)
    found = bayes_error(Mixture.xor(sigma), alpha)
    np.testing.assert_allclose(
        found.overlaps, q * np.eye(2), atol=1e-11
    )  # quadrature 1e-13 over the slope 1 - F' > 0.1
    p = ndtr(-np.sqrt(q) / (np.sqrt(2) * sigma))
    assert found.classification_error == pytest.approx(2 * p * (1 - p), abs=1e-11)
    rotated = Mixture.parity(sigma, (np.sqrt(0.5), np.sqrt(0.5)))  # the same Gram matrix in another basis
    assert bayes_error(rotated, alpha).classification_error == pytest.approx(found.classification_error, abs=1e-10)


def iterated(mixture: Mixture, alpha: float, q: float) -> float:
    """One iteration of state evolution at Q = q·1, of a mixture whose labels have means along one axis each.

    The first axis: h_a = A_a q A_a0/sigma^2 - A_a q A_a/(2 sigma^2) + A_a sqrt(q) z/sigma, z by 16 Gauss-Legendre nodes
    on each of 60 panels: exact to rounding, beyond z = 12 lies 1e-32.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    z = (np.linspace(-11.8, 11.8, 60)[:, None] + 0.2 * nodes).ravel()
    w = np.tile(0.2 * weights, 60) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    sigma, lam = mixture.isotropic_sigma, 0.0
    for y in np.unique(mixture.labels):
        A, P = (values[mixture.labels == y] for values in (mixture.means[:, 0], mixture.weights))
        for a0, share in zip(A, P, strict=True):
            field = q * a0 / sigma**2 + np.sqrt(q) * z / sigma
            terms = P * np.exp(np.outer(field, A) - A * A * q / (2 * sigma**2))
            lam += alpha / sigma**2 * share * (w @ (terms @ A / terms.sum(axis=1)) ** 2)
    return lam / (1 + lam)


@pytest.mark.parametrize(
    ("mixture", "alpha"),
    [
        (Mixture.xor(1.0), 2.2),  # poles of the posterior mean beside the strip of the lattice
        (Mixture.xor(1.0), 2.02),
        (Mixture.xor(1.0), 2.0002),  # errors of an iteration are 10^4 times larger in Q
        (SPARSE, 4.2212),  # close to the spinodal of the high branch
        (SPARSE, 5.0),
    ],
)
def test_overlaps_are_within_their_error(mixture: Mixture, alpha: float) -> None:
    """Near a transition they are known to a thousandth of themselves before, and to rounding by a bracketing solver."""
    evolution = evolution_of(mixture, alpha)
    for branch in (evolution.from_noise(), evolution.from_knowledge()):
        found = float(branch.overlaps[0, 0])
        if found == 0:
            continue
        q = brentq(lambda q: iterated(mixture, alpha, q) / q - 1, found * 0.999, found * 1.001, xtol=1e-18, rtol=1e-15)
        # 1e-15: rounding of the sums of `iterated`, as much amplified
        assert abs(found - q) <= branch.overlaps_error + 1e-15 * branch.amplification * q < 1e-10
        assert branch.overlaps_error > 1e-15 * branch.amplification * q
    if mixture is not SPARSE:
        solved = bayes_error(mixture, alpha)
        p = ndtr(-np.sqrt(q) / (np.sqrt(2) * mixture.isotropic_sigma))
        assert abs(solved.classification_error - 2 * p * (1 - p)) <= solved.classification_error_error < 1e-10


def test_three_clusters_are_the_scalar_problem_of_their_outer_label() -> None:
    assert bayes_error(Mixture.three_clusters(0.7), 3.0).overlaps[0, 0] == pytest.approx(
        scalar_overlap(3.0, 0.7, 0.5), abs=1e-11
    )


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_xor_has_a_continuous_transition(sigma: float) -> None:
    """alpha_c = 2 sigma^4; q = sigma^2/(1 + sigma^2) (alpha/alpha_c - 1) + O((alpha/alpha_c - 1)^2) above."""
    critical = 2 * sigma**4
    assert critical_alpha(Mixture.xor(sigma)) == pytest.approx(critical, rel=1e-14)
    below = bayes_error(Mixture.xor(sigma), critical * 0.99)
    assert below.classification_error == 0.5
    assert not below.overlaps.any()
    for excess in (1e-3, 1e-4):
        above = bayes_error(Mixture.xor(sigma), critical * (1 + excess))
        assert above.overlaps[0, 0] == pytest.approx(sigma**2 / (1 + sigma**2) * excess, rel=10 * excess)
        assert above.classification_error < 0.5
        assert above.free_energy < 0


@pytest.mark.parametrize(
    "mixture", [Mixture.xor(0.6), Mixture.three_clusters(0.6), TRIANGLES, Mixture.two_clusters(1.0)]
)
def test_many_samples_give_the_oracle(mixture: Mixture) -> None:
    """1 - Q = O(sigma^2/alpha) in each direction, and so the error's excess."""
    best = oracle_error(mixture).value
    few, many = (bayes_error(mixture, alpha).classification_error - best for alpha in (1e4, 1e5))
    assert 0 < many < few < 1e-3
    assert few / many == pytest.approx(10, rel=0.01)


def test_errors_fall_with_alpha() -> None:
    for mixture in (Mixture.xor(0.7), TRIANGLES):
        curve = bayes_curve(mixture, [0.3, 0.5, 1.0, 3.0])
        assert (np.diff([each.classification_error for each in curve]) <= 0).all()
        assert all(each.residual <= 1e-10 for each in curve)
        assert all(each.classification_error_error < 1e-9 for each in curve)


@pytest.mark.parametrize(
    "mixture", [Mixture.xor(0.7), Mixture.three_clusters(0.7), TRIANGLES, Mixture.two_clusters(0.7)]
)
def test_the_free_energy_falls_by_what_a_sample_tells(mixture: Mixture) -> None:
    """d(free energy)/dalpha = -sum_y P_y Psi_y: Q is stationary.  Two clusters: -q/(2 sigma^2).

    A central difference at h = 1e-3 alpha has the relative error 1e-6, and rounding 1e-16/1e-3.
    """
    alpha, h = 2.0, 2e-3
    low, at, high = (bayes_error(mixture, a) for a in (alpha - h, alpha, alpha + h))
    slope = (high.free_energy - low.free_energy) / (2 * h)
    # free energy = -(prior and pair) - alpha Psi, the former from the eigenvalues of Q = Lam/(1 + Lam)
    q = np.linalg.eigvalsh(at.overlaps)
    lam = q / (1 - q)
    first = np.sum([bayes.prior(each) + bayes.pair(each, o) for each, o in zip(lam, q, strict=True)])
    assert slope == pytest.approx((at.free_energy + first) / alpha, rel=1e-5)
    if mixture.clusters == 2:
        assert slope == pytest.approx(-q[0] / (2 * 0.49), rel=1e-5)


def test_a_sparse_label_has_a_hard_phase() -> None:
    """One label of many samples at 0 and few at ±1: between equilibrium and the upper spinodal learning is hard."""
    critical = critical_alpha(SPARSE)
    found = first_order_transition(SPARSE, 0.1 * critical, 1.5 * critical, points=20)
    assert found is not None
    assert critical * (1 - 1e-4) <= found.uninformed < 1.05 * critical  # a small Q > 0 may exist before the jump
    assert found.informed < found.equilibrium < found.uninformed
    middle = bayes_error(SPARSE, np.sqrt(found.equilibrium * found.uninformed))
    assert [branch.start for branch in middle.branches] == ["full knowledge", "pure noise"]
    assert middle.branches[0].free_energy < middle.branches[1].free_energy
    assert middle.classification_error < middle.reached_classification_error
    before = bayes_error(SPARSE, np.sqrt(found.informed * found.equilibrium))
    assert before.branches[0].start == "pure noise"
    assert before.classification_error == before.reached_classification_error


def test_a_continuous_transition_is_not_first_order() -> None:
    assert first_order_transition(Mixture.xor(1.0), 1.5, 3.0, points=5) is None


SOLID = Mixture(np.vstack([np.eye(3), -np.eye(3)]), [1, 1, 1, -1, -1, -1])


@pytest.mark.parametrize(
    ("mixture", "alpha", "message"),
    [
        (Mixture.xor(1.0), 0.0, "alpha must be .* got 0"),
        (Mixture.xor(1.0), float("nan"), "alpha must be .* got nan"),
        (Mixture.xor(1.0, scaling=0.25), 1.0, "mixture must have means of order 1"),
        (Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 2.0]), 1.0, "sigma must be the same for all clusters"),
        (Mixture(np.eye(4), [1, 1, 1, 1]), 1.0, "mixture must have means that differ in two directions at most"),
        (Mixture.ring(3, 1e-3), 1.0, "mixture is too large for quadrature"),
    ],
)
def test_bad_input(mixture: Mixture, alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bayes_error(mixture, alpha)


def test_two_directions_within_each_label_are_enough() -> None:
    """Six clusters in space, three a label: quadrature over two fields each; they learn less than the oracle knows."""
    found = bayes_error(SOLID, 2.0)
    assert oracle_error(SOLID).value < found.classification_error < 0.5


def test_averages_over_a_label_against_gauss_hermite() -> None:
    """Two fields, three clusters; and one field whose exponents span more than their exponentials can be multiplied."""
    z, w = np.polynomial.hermite_e.hermegauss(150)
    w = w / w.sum()
    for means, shares, sigma, root in (
        (TRIANGLES.means[TRIANGLES.labels > 0], np.array([0.2, 0.3, 0.5]), 0.8, np.diag([0.7, 0.5])),
        (np.array([[1.0, 0.0], [-0.2, 0.0]]), np.array([0.3, 0.7]), 0.05, np.eye(2)),
    ):
        fields = means @ root / sigma
        k = fields @ fields.T
        x = np.stack(np.meshgrid(z, z, indexing="ij"), axis=-1).reshape(-1, 2) @ fields.T
        weights = np.outer(w, w).ravel()
        second, psi = np.zeros((2, 2)), 0.0
        for a0, share in enumerate(shares):
            h = k[:, a0] - k.diagonal() / 2 + x
            logs = logsumexp(h, axis=1, b=shares)
            average = (shares * np.exp(h - logs[:, None])) @ means
            second += share * average.T @ (weights[:, None] * average)
            psi += share * weights @ logs
        found = Label(0.5, shares, means).averages(root, sigma)
        # lattice 1e-13; Gauss-Hermite of 150 nodes: poles at |Im z| > 1.2, exp(-1.2 sqrt(300)) = 1e-9 of residues
        np.testing.assert_allclose(found[0], second, atol=1e-10)
        assert found[1] == pytest.approx(psi, rel=1e-10)


def test_curves_are_their_points() -> None:
    """Branches followed from both ends are those of each point, in a hard phase as well, whatever the order."""
    middle = 0.9 * critical_alpha(SPARSE)
    for mixture, alphas in ((TRIANGLES, [3.0, 0.05, 0.6]), (SPARSE, [1.2 * middle, 0.5 * middle, middle])):
        for alpha, found in zip(alphas, bayes_curve(mixture, alphas), strict=True):
            alone = bayes_error(mixture, alpha)
            assert [b.start for b in found.branches] == [b.start for b in alone.branches]
            assert found.classification_error == pytest.approx(alone.classification_error, abs=1e-10)
