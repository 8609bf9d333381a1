"""Spectra by law and from data: moments, quantiles, what is refused."""

import numpy as np
import pytest

from quenched.numerics import Densities, Mixture, Spectrum, TwoLayer, random_state
from quenched.numerics.problem.from_data import estimate

LAWS = {
    "marchenko-pastur, ratio 1/2": (lambda **k: Spectrum.marchenko_pastur(0.5, **k), (1.0, 1.5)),
    "marchenko-pastur, ratio 1": (lambda **k: Spectrum.marchenko_pastur(1.0, **k), (1.0, 2.0)),
    "marchenko-pastur, ratio 3": (lambda **k: Spectrum.marchenko_pastur(3.0, **k), (1.0, 4.0)),
    "uniform": (lambda **k: Spectrum.uniform(0.5, 2.0, **k), (1.25, 1.75)),
    # density 1/(rho^2 (1/0.1 - 1/10)): E rho = log(100)/9.9, E rho^2 = 9.9/9.9
    "power law": (lambda **k: Spectrum.power_law(2.0, 0.1, 10.0, **k), (np.log(100) / 9.9, 1.0)),
}


@pytest.mark.parametrize("law", LAWS)
def test_gauss_nodes_have_the_moments_of_the_law(law):
    """Exact for polynomials; the power law's nodes are Gauss in log rho, converged at 40 nodes to rounding."""
    build, moments = LAWS[law]
    spectrum = build(nodes=40)
    for power, moment in enumerate(moments, start=1):
        assert spectrum.weights @ spectrum.eigenvalues**power == pytest.approx(moment, rel=1e-12)


@pytest.mark.parametrize("law", LAWS)
def test_quantiles_have_the_moments_up_to_the_width_of_a_cell(law):
    """n cells of probability 1/n: the mean of cell midpoints (in probability) is off by what the outermost cell spans.

    At the worst, the power law's last cell of n = 2000 reaches from 10/(1 + 99/2000) to 10: 0.5/2000 of E rho, 5/2000
    of E rho^2.
    """
    build, moments = LAWS[law]
    spectrum = build(nodes=2000, quantiles=True)
    assert (spectrum.weights == 1 / 2000).all()
    for power, moment in enumerate(moments, start=1):
        assert (spectrum.eigenvalues**power).mean() == pytest.approx(moment, abs=0.5 * 10 ** (power - 1) / 2000)


def test_quantiles_of_the_marchenko_pastur_law_are_the_eigenvalues_of_a_wishart_matrix():
    """Eigenvalues of large Wishart matrices are rigid: they fluctuate by O(1/D), 10/D allowed away from the edges."""
    rng, D = np.random.default_rng(0), 400
    X = rng.standard_normal((2 * D, D))
    seen = np.linalg.eigvalsh(X.T @ X / (2 * D))
    expected = Spectrum.marchenko_pastur(0.5, D, quantiles=True).eigenvalues
    assert np.abs(np.sort(expected) - seen)[10:-10].max() < 10 / D


def labelled(n, D, seed=0, spread=None):
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) % 2
    means = np.stack([np.full(D, 0.5), np.full(D, -0.5)])
    noise = rng.standard_normal((n, D)) * (np.sqrt(np.linspace(0.5, 1.5, D)) if spread is None else spread[cluster])
    return means[cluster] + noise, cluster, np.where(cluster, -1, 1)


def test_the_shared_covariance_of_data():
    """The mixture has the pooled covariance: the same trace, the same quadratic forms of the means."""
    X, cluster, label = labelled(500, 12)
    mixture = Mixture.from_data(X, cluster, label, covariance="shared")
    within = X - np.stack([X[cluster == a].mean(axis=0) for a in (0, 1)])[cluster]
    S = within.T @ within / 498
    mean = X[cluster == 0].mean(axis=0) - X.mean(axis=0)
    rho = mixture.eigenvalues[0]
    assert np.sort(rho) == pytest.approx(np.linalg.eigvalsh(S), rel=1e-12)
    form = mixture.means[0] @ np.tensordot(rho, mixture.alignment, axes=1) @ mixture.means[0]
    assert form == pytest.approx(mean @ S @ mean, rel=1e-12)
    assert mixture.spectrum.discarded == 0
    assert mixture.shares.sum() == pytest.approx(1, abs=1e-12)


def test_covariances_that_commute_are_kept_and_others_refused_or_projected():
    """Diagonal covariances commute; those of samples do so up to fluctuations, which are refused."""
    rng = np.random.default_rng(1)
    D = 4
    # a design whose sample covariances are exactly diagonal: +- each axis
    axes = np.concatenate([np.eye(D), -np.eye(D)] * 2)
    scales = np.array([[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 5.0, 0.5]])
    X = np.concatenate([axes * scale + mean for scale, mean in zip(scales, ([3.0] * D, [-3.0] * D), strict=True)])
    cluster = np.repeat([0, 1], len(axes))
    mixture = Mixture.from_data(X, cluster, 1 - 2 * cluster, covariance="full")
    expected = 4 * scales**2 / 15  # four of 16 samples on each axis, 15 degrees of freedom
    assert np.sort(mixture.eigenvalues, axis=1) == pytest.approx(np.sort(expected, axis=1), rel=1e-12)
    assert mixture.spectrum.discarded < 1e-15

    rough = X + 0.3 * rng.standard_normal(X.shape)
    with pytest.raises(ValueError, match=r"needs covariances that commute, got 0\.0.* pass project=True"):
        Mixture.from_data(rough, cluster, 1 - 2 * cluster, covariance="full")
    projected = Mixture.from_data(rough, cluster, 1 - 2 * cluster, covariance="full", project=True)
    assert 0 < projected.spectrum.discarded < 0.1


def test_shrinkage_of_a_covariance_without_enough_samples():
    X, cluster, label = labelled(20, 30)
    with pytest.raises(
        ValueError, match="X must hold more samples: 18 degrees of freedom cannot give a covariance in D = 30"
    ):
        Mixture.from_data(X, cluster, label, covariance="shared")
    plain = Mixture.from_data(X, cluster, label)
    for shrinkage in (0.25, "ledoit-wolf"):
        mixture = Mixture.from_data(X, cluster, label, covariance="shared", shrinkage=shrinkage)
        r = mixture.spectrum.shrinkage
        assert r == shrinkage or 0 < r < 1
        # at least 30 - 18 directions have nothing but the identity's share, and the trace stays
        assert np.sort(mixture.spectrum.eigenvalues)[:12] == pytest.approx(np.full(12, r), rel=1e-10)
        assert mixture.eigenvalues.mean() == pytest.approx(plain.sigma**2, rel=1e-12)


def test_the_state_of_given_weights_is_measured_in_the_coordinates_of_the_data():
    """Sums over the nodes and forms of the covariance, against the vectors themselves; to rounding."""
    X, cluster, label = labelled(500, 12)
    rng = np.random.default_rng(3)
    W, v = rng.standard_normal((3, 12)), rng.standard_normal(3)
    means = np.stack([X[cluster == a].mean(axis=0) for a in (0, 1)]) - X.mean(axis=0)
    within = X - means[cluster] - X.mean(axis=0)
    S = within.T @ within / 498
    for covariance in ("isotropic", "shared"):
        fit = estimate(X, cluster, label, covariance=covariance)
        mixture, state = Mixture(**fit.arguments), fit.state(W, v)
        overlaps = state.overlaps(mixture) if isinstance(state, Densities) else state
        assert np.abs(overlaps.M - means @ W.T / np.sqrt(12)).max() < 1e-12
        assert np.abs(overlaps.Q - W @ W.T / 12).max() < 1e-12
        if isinstance(state, Densities):
            state.check(mixture)
            fields = np.tensordot(mixture.eigenvalues[0], state.Q, axes=1)
            assert np.abs(fields - W @ S @ W.T / 12).max() < 1e-12


@pytest.mark.parametrize("weights", [[0.25, 0.75], [0.004, 0.996]], ids=["bartlett", "few directions"])
def test_random_states_have_the_densities_of_random_weights(weights):
    """E Q_u = scale^2 s_u 1 and E A_u A_u^T = K scale^2 G_u/D; means of 400 draws, five standard errors.

    Q_u,kk is scale^2/D times a chi-square of D s_u degrees; A_u,bk^2 one of a single degree, K of them.
    """
    D, K, scale, n = 500, 2, 1.5, 400
    base = Mixture.xor(0.5)
    mixture = Mixture(base.means, base.labels, sigma=0.5, spectrum=Spectrum([0.5, 2.0], weights))
    states = [random_state(mixture, TwoLayer(K, "relu"), D, seed, weight_scale=scale) for seed in range(n)]
    for u, share in enumerate(weights):
        Q = np.mean([s.Q[u] for s in states], axis=0)
        error = scale**2 * np.sqrt(2 * share / D / n)
        assert np.abs(Q - scale**2 * share * np.eye(K)).max() < 5 * error
        A2 = np.mean([s.A[u] @ s.A[u].T for s in states], axis=0)
        expected = K * scale**2 / D * mixture.alignment[u]
        assert np.abs(A2 - expected).max() < 5 * scale**2 / D * share * np.sqrt(2 * K / n)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Spectrum([1.0, -1e-3]), "eigenvalues must be >= 0, got -0.001"),
        (lambda: Spectrum([1.0, np.nan]), "eigenvalues must be finite, got nan at index"),
        (lambda: Spectrum([[1.0], [0.0]]), "eigenvalues must not all be 0"),
        (lambda: Spectrum([1.0, 2.0], [0.5, 0.6]), "weights must sum to 1, got a sum of 1.1"),
        (lambda: Spectrum([1.0, 2.0], [1.5, -0.5]), "weights must be > 0, got -0.5"),
        (
            lambda: Spectrum([1.0], alignment=[[[1.0, 0.5], [0.0, 1.0]]]),
            r"alignment must be a symmetric matrix in each node",
        ),
        (
            lambda: Spectrum([1.0], alignment=[[[0.9]]]),
            "alignment must sum to the identity over the nodes, got a sum off by 0.1",
        ),
        (
            lambda: Spectrum([1.0, 2.0], alignment=[[[1.5]], [[-0.5]]]),
            "alignment must be positive semi-definite, got the eigenvalue -0.5",
        ),
        (lambda: Spectrum([1.0, 2.0]).multiplicities(3), "D must give every node of the spectrum a whole number"),
        (lambda: Spectrum([1.0, 2.0]).oriented(3, 0), "p must be at most the number of nodes, 2, which"),
        (lambda: Spectrum.uniform(2.0, 1.0), "high must be larger than low = 2.0, got 1.0"),
        (lambda: Spectrum.two_level(1.0, 2.0, 1.0), "fraction must lie between 0 and 1, got 1.0"),
        (lambda: Spectrum.marchenko_pastur(0.0), "ratio must be finite and > 0, got 0.0"),
        (lambda: Spectrum.power_law(1.0, 0.0, 1.0), "low must be finite and > 0, got 0.0"),
        (
            lambda: Mixture.from_data(*labelled(9, 2), covariance="diagonal"),
            "covariance must be one of isotropic, shared",
        ),
        (
            lambda: Mixture.from_data(*labelled(9, 2), shrinkage=0.5),
            "shrinkage is of no use with covariance='isotropic'",
        ),
        (
            lambda: Mixture.from_data(*labelled(9, 2), covariance="shared", shrinkage=1.5),
            "shrinkage must be 'ledoit-wolf' or a weight between 0 and 1, got 1.5",
        ),
    ],
)
def test_bad_input_is_refused_by_name_and_value(call, message):
    with pytest.raises(ValueError, match=message):
        call()
