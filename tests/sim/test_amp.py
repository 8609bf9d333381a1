"""Message passing: its parts against their definitions, state evolution, the spectral threshold, a hard phase."""

import json
from typing import Any

import array_api_strict
import numpy as np
import pytest

from quenched.numerics import Mixture, bayes_error, state_evolution
from quenched.numerics.amp import spectral_overlaps, spectral_weights
from quenched.numerics.bayes import critical_alpha, evolution_of
from quenched.sim import amp as module
from quenched.sim import compare, simulate_amp
from quenched.sim.amp import Samples
from quenched.sim.backend import Backend, Normals, get_backend, host_normals

XOR, PAIR, RING = Mixture.xor(0.7), Mixture.two_clusters(1.0), Mixture.ring(3, 0.5)
UNEVEN = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8], 0.7)
SPARSE = Mixture([[1.0], [-1.0], [0.0], [0.0]], [-1, -1, -1, 1], [0.005, 0.005, 0.49, 0.5], 0.2)


def on_strict(source: Normals) -> Normals:
    return lambda shape: array_api_strict.asarray(source(shape))


STRICT = Backend("strict", array_api_strict, lambda *args: on_strict(host_normals(*args)), np.asarray)


def samples(mixture: Mixture, alpha: float, D: int, seed: int = 0) -> Samples:
    return Samples.draw(mixture, evolution_of(mixture, alpha), D, seed, get_backend("numpy"))


def test_samples_are_those_of_the_mixture() -> None:
    """Residuals x - A v have the mean 0 and the variance sigma^2: n D numbers, mean within 5/sqrt(nD), variance within
    5 sqrt(2/nD), relative; labels in the shares of the mixture within 5/(2 sqrt(n)).  |v|^2 = 1 within 5 sqrt(2/D)."""
    drawn = samples(UNEVEN, 2.0, 300)
    rest = (drawn.X - UNEVEN.means[drawn.cluster] @ drawn.v.T) / 0.7
    assert drawn.X.shape == (600, 300)
    assert abs(rest.mean()) < 5 / np.sqrt(rest.size)
    assert abs(rest.var() - 1) < 5 * np.sqrt(2 / rest.size)
    assert abs(np.mean(drawn.cluster == 0) - 0.2) < 5 / (2 * np.sqrt(600))
    assert abs((drawn.v**2).sum() - 1) < 5 * np.sqrt(2 / 300)


def test_covariances_are_the_slopes_of_the_estimates() -> None:
    """d<A>/dB = Cov[A], what the memory is made of; a central difference at h = 1e-5 errs by h^2."""
    drawn, h = samples(RING, 1.0, 40), 1e-5
    B = np.random.default_rng(0).standard_normal((40, 2))
    K = np.array([[0.6, 0.1], [0.1, 0.4]])
    average, covariance = drawn.posterior(B, K)
    for l, step in enumerate(h * np.eye(2)):
        slope = (drawn.posterior(B + step, K)[0] - drawn.posterior(B - step, K)[0]).sum(axis=0) / (2 * h)
        np.testing.assert_allclose(slope, covariance[:, l], rtol=1e-6, atol=1e-7)
    # by hand, for one sample: the weights of its label's clusters alone
    own = RING.labels == RING.labels[drawn.cluster[0]]
    A = RING.means[own]
    terms = np.exp((A @ B[0]) - np.einsum("ak,kl,al->a", A, K, A) / (2 * 0.25))
    np.testing.assert_allclose(average[0], terms @ A / terms.sum(), rtol=1e-12)


@pytest.mark.parametrize("start", module.STARTS)
def test_any_array_namespace_gives_the_same(start: str) -> None:
    """Sums in another order: 1e-15 an operation, amplified by five iterations of slopes of order 1."""
    given: dict[str, Any] = {"alpha": 1.5, "D": 60, "seeds": [3], "iterations": 5, "start": start}
    one, other = (simulate_amp(XOR, **given, backend=where) for where in ("numpy", STRICT))
    for name in ("overlaps", "norms"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-9, atol=1e-12)
    assert json.loads(one.attrs["amp"]) == {"alpha": 1.5, "start": start, "overlap": 0.1}
    assert json.loads(one.attrs["simulation"])["D"] == 60


def test_a_seed_does_not_depend_on_the_others() -> None:
    several, alone = (simulate_amp(PAIR, 1.0, 50, seeds, 3, backend="numpy") for seeds in ([4, 7], [7]))
    np.testing.assert_array_equal(several.overlaps[1], alone.overlaps[0])


@pytest.mark.gpu
def test_a_card_follows_state_evolution(real_card: Backend) -> None:
    runs = simulate_amp(XOR, 1.5, 2000, 16, 10, "informed", backend=real_card)
    assert compare(state_evolution(XOR, 1.5, 10), runs).agrees


@pytest.mark.parametrize(
    ("mixture", "alpha"), [(PAIR, 1.0), (UNEVEN, 1.0), (XOR, 1.5), (Mixture.three_clusters(0.7), 2.0), (RING, 3.0)]
)
def test_overlaps_follow_state_evolution(mixture: Mixture, alpha: float) -> None:
    """Every overlap, norm and error of eight iterations, at one per cent for all of them together, from the start."""
    theory = state_evolution(mixture, alpha, 8)
    found = compare(theory, simulate_amp(mixture, alpha, 600, 16, 8, "informed", backend="numpy"))
    assert found.agrees, found.worst().to_dataframe().to_string()
    assert len(found.table.z) >= 9 * 3


@pytest.mark.parametrize(("part", "factor"), [("memory", 0.0), ("product", 1.1)])
def test_without_memory_they_do_not(part: str, factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control: the same comparison refuses fields without Onsager terms, and fields that are 10 % too large."""
    field = module.passing.field

    def wrong(product: Any, memory: Any, sigma: float) -> Any:
        return field(
            product * (factor if part == "product" else 1), memory * (factor if part == "memory" else 1), sigma
        )

    monkeypatch.setattr(module, "passing", type("wrong", (), {"field": staticmethod(wrong)}))
    runs = simulate_amp(XOR, 1.5, 600, 16, 8, "informed", backend="numpy")
    assert not compare(state_evolution(XOR, 1.5, 8), runs).agrees


@pytest.mark.parametrize("start", ["random", "spectral"])
def test_what_knows_nothing_at_first_ends_at_the_bayes_error(start: str) -> None:
    """Above 3 alpha_c, up to signs: sixteen seeds, |mean - theory| <= 4.1 standard errors (t of 15, 1e-3 two-sided)."""
    alpha = 3 * critical_alpha(XOR)
    exact = bayes_error(XOR, alpha)
    runs = simulate_amp(XOR, alpha, 800, 16, 40, start, 0.02, backend="numpy")
    for values, theory in (
        (runs.classification_error[:, -1], exact.classification_error),
        (runs.norms[:, -1, 0, 0], exact.overlaps[0, 0]),
        (abs(runs.overlaps[:, -1, 1, 1]), exact.overlaps[1, 1]),
    ):
        error = float(values.std(ddof=1)) / np.sqrt(16)
        assert (
            abs(float(values.mean()) - theory) < 4.1 * error + 10 / 800
        )  # O(1/D): at 2 alpha_c 64 seeds saw -20/D, and less here
    assert float(abs(runs.overlaps[:, -1, 0, 1]).mean()) < 4 / np.sqrt(800)


def test_the_spectral_threshold_of_xor_at_two_sizes() -> None:
    """alpha_c = 2 sigma^4.  Below, the squared overlap falls with D, as D^(-2/3) at the threshold and faster before it;
    above, it approaches the derived one, within four standard errors and a bias that falls as 1/D.
    """
    mixture = Mixture.xor(0.6)
    critical = critical_alpha(mixture)
    assert critical == pytest.approx(2 * 0.6**4)
    seen: dict[tuple[float, int], tuple[float, float]] = {}
    for ratio in (0.5, 3.0):
        for D in (400, 1600):
            runs = simulate_amp(mixture, ratio * critical, D, 10, 1, "spectral", backend="numpy", test_samples=4)
            squares = np.diagonal(runs.overlaps[:, 0].values, axis1=1, axis2=2) ** 2 / 0.1
            seen[ratio, D] = float(squares.mean()), float(squares.mean(axis=1).std(ddof=1) / np.sqrt(10))
        wanted = spectral_overlaps(mixture, ratio * critical)[0]
        assert (wanted == 0) == (ratio < 1)
        if ratio > 1:
            for D in (400, 1600):
                mean, error = seen[ratio, D]
                assert abs(mean - wanted) < 4 * error + 10 / D
    assert seen[0.5, 1600][0] < seen[0.5, 400][0] < 0.1
    assert seen[3.0, 400][1] > seen[3.0, 1600][1]


def test_eigenvectors_of_labels_that_share_axes() -> None:
    """Both labels of a ring of six tell both axes alike: one eigenspace of two vectors, orthonormal, near the means."""
    weights = spectral_weights(RING)
    assert weights.groups == ((0, 1),)
    drawn = samples(RING, 4.0, 100)
    vhat, _ = drawn.spectral(0, 0.3)
    np.testing.assert_allclose(vhat.T @ vhat, 0.3 * np.eye(2), atol=1e-10)
    matrix = (drawn.X.T * weights.weights[0, 0]) @ drawn.X
    _, vectors = np.linalg.eigh(matrix)
    inside = vectors[:, -2:].T @ vhat / np.sqrt(0.3)
    np.testing.assert_allclose(inside @ inside.T, np.eye(2), atol=1e-5)  # angles within 1e-6 over the relative gap


def test_a_hard_phase_stops_what_knows_nothing() -> None:
    """alpha = 5, between equilibrium and spinodal: what starts at the high branch stays, what starts at random does not
    get there.  At D = 1000 a rare cluster has 25 samples, give or take 5: a fifth of what they tell, hence medians.
    """
    alpha, exact = 5.0, bayes_error(SPARSE, 5.0)
    assert [branch.start for branch in exact.branches] == ["full knowledge", "pure noise"]
    high = float(exact.overlaps[0, 0])
    informed = simulate_amp(SPARSE, alpha, 1000, 6, 25, "informed", 0.9, backend="numpy")
    blind = simulate_amp(SPARSE, alpha, 1000, 6, 25, "random", 0.05, backend="numpy")
    ends = {name: np.median(runs.norms[:, -1, 0, 0]) for name, runs in (("informed", informed), ("blind", blind))}
    assert abs(ends["informed"] - high) < 0.1
    assert ends["blind"] < 0.05
    errors = [float(runs.classification_error[:, -1].median()) for runs in (informed, blind)]
    assert errors[0] < (exact.classification_error + exact.reached_classification_error) / 2 < errors[1]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"alpha": 0.0}, "alpha must be finite and > 0, got 0"),
        ({"alpha": float("nan")}, "alpha must be .* got nan"),
        ({"alpha": 1e-3}, "alpha must give from 1 to .* samples n = alpha D, got alpha = 0.001 at D = 50"),
        ({"alpha": 1e9}, "alpha must give from 1 to .* got alpha = 1e.09"),
        ({"D": 1}, "D must be an integer >= 2, got 1"),
        ({"D": 10**6}, "alpha must give from 1 to .* at D = 1000000"),
        ({"start": "warm"}, "start must be one of informed, random, spectral, got 'warm'"),
        ({"overlap": 0.0}, "overlap must be finite and > 0"),
        ({"overlap": 1.5}, "overlap must be .* got 1.5"),
        ({"backend": "fortran"}, "backend must be .* got 'fortran'"),
        ({"mixture": PAIR, "start": "spectral"}, "mixture must have means that average to 0 within each label"),
        (
            {"mixture": Mixture(np.eye(4), [1, 1, 1, 1])},
            "mixture must have means that differ in two directions at most",
        ),
        ({"mixture": Mixture.xor(1.0, scaling=0.25)}, "mixture must have means of order 1"),
    ],
)
def test_bad_input(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate_amp(**{"mixture": XOR, "alpha": 1.0, "D": 50, "seeds": 1, "backend": "numpy"} | changed)


SKEW = Mixture([[1, 0], [-1, 0], [0.6, 0.8], [-0.6, -0.8]], [1, 1, -1, -1], sigma=0.5)


def test_covariances_that_do_not_commute_have_no_common_axes() -> None:
    with pytest.raises(ValueError, match="mixture must have covariances of its labels' means that commute"):
        spectral_weights(SKEW)
    with pytest.raises(ValueError, match="mixture must have axes that one label each varies along"):
        spectral_overlaps(RING, 2.0)
    with pytest.raises(ValueError, match="mixture is too large for quadrature"):
        state_evolution(Mixture.ring(3, 1e-3), 1.0, 3)
