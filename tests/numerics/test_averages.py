"""Tables of averages at the covariances that training produces: singular, repeated, opposite and nearly so."""

from itertools import pairwise

import numpy as np
import pytest

from quenched.numerics.averages.activations import activation_functions, averages, piecewise_linear, tables
from quenched.theory.activations import ACTIVATIONS, NAMED

FOUR = ("dg", "dg", "g", "g")
PATTERNS = [
    (FOUR, (0, 1, 2, 3)),
    (FOUR, (0, 2, 1, 3)),
    (FOUR, (2, 3, 0, 1)),
    (FOUR, (0, 0, 1, 2)),
    (FOUR, (3, 1, 1, 3)),
    (("dg", "dg", "g"), (0, 1, 2)),
    (("dg", "dg", "g"), (1, 2, 3)),
    (("dg", "g"), (0, 3)),
    (("g", "g"), (1, 2)),
    (("g",), (1,)),
]


def plane_averages(activation, W, centre):
    """Averages over fields W x, x ~ N(centre, 1_2): polar coordinates about x = 0, where all kinks at 0 meet.

    Between neighbouring kinks the integrand is analytic: 60 Gauss nodes in angle and 200 in radius are exact to 1e-13.
    """
    g, dg = activation_functions(activation)
    angles = [np.arctan2(w[1], w[0]) + turn for w in W if np.any(w) for turn in (np.pi / 2, -np.pi / 2)]
    edges = np.unique(np.concatenate([[0, 2 * np.pi], np.mod(angles, 2 * np.pi)]))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    radii, radial = np.polynomial.legendre.leggauss(200)
    reach = 9 + np.linalg.norm(centre)
    r, radial = (radii + 1) / 2 * reach, radial * reach / 2
    total = np.zeros(len(PATTERNS))
    for low, high in pairwise(edges):
        theta = (low + high) / 2 + (high - low) / 2 * nodes
        x = np.stack([np.cos(theta)[:, None] * r, np.sin(theta)[:, None] * r], axis=-1)
        density = np.exp(-((x - centre) ** 2).sum(axis=-1) / 2) / (2 * np.pi) * r
        measure = density * (weights * (high - low) / 2)[:, None] * radial
        fields = x @ W.T
        values = {"g": g(fields), "dg": dg(fields)}
        for index, (factors, neurons) in enumerate(PATTERNS):
            product = np.prod([values[f][..., k] for f, k in zip(factors, neurons, strict=True)], axis=0)
            total[index] += (measure * product).sum()
    return total


def entries(activation, W, centre, perpendicular=0.0):
    Q = W @ W.T + perpendicular * np.eye(4)
    found = tables(activation, (W @ centre)[None], Q[None])
    return np.array([found[",".join(factors)][(0, *neurons)] for factors, neurons in PATTERNS])


GENERIC = np.array([[0.9, -0.4], [-0.7, 0.6], [0.3, 1.1], [-0.5, -0.8]])
SINGULAR = {
    "rank two": GENERIC,
    "equal": np.array([[1, 0.2], [1, 0.2], [0.5, 1], [0.3, -0.4]]),
    "proportional": np.array([[1, 0.2], [2.5, 0.5], [0.5, 1], [0.3, -0.4]]),
    "opposite": np.array([[1, 0.2], [-1, -0.2], [0.5, 1], [0.3, -0.4]]),
    "three equal": np.array([[1, 0.2], [1, 0.2], [1, 0.2], [0.3, 0.4]]),
    "equal and opposite": np.array([[1, 0.2], [2, 0.4], [-1, -0.2], [0.3, -0.4]]),
    "within 1e-8 of equal": np.array([[1, 0.2], [1, 0.2 + 1e-8], [0.5, 1], [0.3, -0.4]]),
    "three within 1e-6": np.array([[1, 0.2], [1, 0.2 + 1e-6], [1, 0.2 - 2e-6], [0.3, 0.4]]),
    "three within 1e-4": np.array([[1, 0.2], [1, 0.2 + 1e-4], [1, 0.2 - 2e-4], [0.3, 0.4]]),
    "one per XOR mean": np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]),
    # a weight of zero: its field sits on the kink, g' = 1/2 there; (no pattern squares g' of it, where H^2 = H is used)
    "dead": np.array([[1, 0.5], [0.5, 1], [0.3, -0.4], [0.0, 0]]),
}


@pytest.mark.parametrize("centre", [(0.0, 0.0), (0.7, -0.3)], ids=["centred", "shifted"])
@pytest.mark.parametrize("name", SINGULAR)
def test_relu_at_singular_covariances(name, centre):
    """1e-8: a relative jitter of 2^-51 moves P(x_0 > 0, x_1 < 0) of equal fields by sqrt(2 2^-51)/(2 pi) = 5e-9."""
    W, centre = SINGULAR[name], np.array(centre)
    assert np.abs(entries("relu", W, centre) - plane_averages("relu", W, centre)).max() < 1e-8


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS) - {"relu"}))
def test_every_activation_at_rank_two(activation):
    """Same bound, relative to the largest average (he4: of degree 14 in the fields)."""
    reference = plane_averages(activation, GENERIC, np.array([0.4, -0.2]))
    difference = entries(activation, GENERIC, np.array([0.4, -0.2])) - reference
    assert np.abs(difference).max() < 1e-8 * max(1, np.abs(reference).max())


@pytest.mark.parametrize("perpendicular", [1e-2, 1e-4, 1e-6, 1e-8, 1e-10, 1e-12])
def test_relu_is_continuous_towards_rank_two(perpendicular):
    """Off the plane by noise of variance eps: the averages move linearly in eps, at a slope of order 10, to 1e-8."""
    centre = np.array([0.7, -0.3])
    moved = entries("relu", GENERIC, centre, perpendicular)
    assert np.abs(moved - entries("relu", GENERIC, centre)).max() < 10 * perpendicular + 1e-8


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e4])
def test_relu_is_homogeneous(scale):
    """g(c x) = c g(x): an average with n factors g scales as c^n."""
    centre = np.array([0.7, -0.3])
    powers = np.array([factors.count("g") for factors, _ in PATTERNS])
    one, scaled = entries("relu", GENERIC, centre, 0.3), entries("relu", GENERIC * scale, centre, 0.3 * scale**2)
    assert np.abs(scaled / scale**powers - one).max() < 1e-10


def test_eight_sigma_out_relu_is_linear_or_off():
    """At means ±8 sigma relu is x or 0 up to Phi(-8) = 6e-16."""
    mean, Q = np.array([[8.0, -8.0]]), np.array([[[1.0, 0.3], [0.3, 1.0]]])
    found = tables("relu", mean, Q)
    assert abs(found["g,g"][0, 0, 0] - 65) < 1e-13 * 65
    assert np.abs(found["g"][0] - [8, 0]).max() < 1e-14
    assert np.abs(found["dg,dg"][0] - [[1, 0], [0, 0]]).max() < 1e-15


def test_tables_are_symmetric_under_permutations():
    rng = np.random.default_rng(3)
    B = rng.standard_normal((5, 6))
    mean, Q = rng.standard_normal((2, 5)), np.stack([B @ B.T / 6] * 2)
    order = rng.permutation(5)
    found, permuted = tables("relu", mean, Q), tables("relu", mean[:, order], Q[:, order][:, :, order])
    for pattern, table in found.items():
        for axis in range(1, table.ndim):
            table = table.take(order, axis=axis)
        # another order of the fields, another rounding of their orthant probabilities
        assert np.abs(table - permuted[pattern]).max() < 1e-10


@pytest.mark.parametrize("name", [*ACTIVATIONS, *NAMED])
def test_derivatives_of_an_activation_are_its_differences(name):
    """Central: h^2/6 times a third derivative, at most 200 here, and rounding/h of values below 1000; off the kinks."""
    made, x, h = {**ACTIVATIONS, **NAMED}[name], np.linspace(-3, 3, 14), 1e-5
    tolerance = 200 * h**2 + 4e-16 * 1000 / h
    for f, slope in ((made.g, made.dg), (made.dg, made.ddg)):
        assert np.abs((f(x + h) - f(x - h)) / (2 * h) - slope(x)).max() < tolerance


def test_activations_are_ufuncs():
    x = np.linspace(-2, 2, 9)
    for name in ACTIVATIONS:
        g, dg = activation_functions(name)
        assert g(x).shape == dg(x).shape == x.shape


def test_piecewise_linear():
    kinks, slopes, intercepts = piecewise_linear("leaky_relu")
    assert (kinks.tolist(), slopes.tolist(), intercepts.tolist()) == ([0.0], [0.01, 1.0], [0.0, 0.0])
    assert piecewise_linear("erf") is None


def test_unknown_activation_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="'softmax' is not understood"):
        averages("softmax")


def test_an_activation_is_derived_once(tmp_path, monkeypatch):
    """First use derives in another process and writes the cache; the second reads it; both give the same averages."""
    import quenched.numerics.averages.activations as module

    monkeypatch.setenv("QUENCHED_CACHE", str(tmp_path))
    module._found.cache_clear()
    first = averages("x**2 + 0.5*x")
    files = list(tmp_path.glob("derived/*.py"))
    assert len(files) == 1
    stamp = files[0].stat().st_mtime_ns
    module._found.cache_clear()
    assert averages("x**2 + 0.5*x").text == first.text
    assert files[0].stat().st_mtime_ns == stamp
    # E g = c + m^2 + m/2
    assert first.groups[0](0.3, 1.2)[first.places[0]["g"]] == pytest.approx(1.2 + 0.09 + 0.15, abs=1e-15)
    module._found.cache_clear()


@pytest.mark.parametrize("activation", ["relu", "erf", "abs"])
@pytest.mark.parametrize("factor", [1.0, -1.0, 2.3, -0.4])
def test_parallel_fields_whose_covariance_is_off_by_a_rounding(activation, factor):
    """lambda_2 = factor lambda_1, with means and covariances rounded each in its own way, as matrix products do.

    The average is that of one field, by Gauss-Legendre panels up to the kink.  Two roundings in each number make the
    correlation 1 - 4 eps at least, and 2^-50 that the code adds to make the pair a law another 2^-50 less: 1 - 1.8e-15.
    E[g' g'] = (2/pi) arcsin of it for abs at mean 0, the worst case, is then off by 3.8e-8; times 2.3 elsewhere.
    """
    g, dg = activation_functions(activation)
    rng = np.random.default_rng(5)
    for _ in range(20):
        m, c = rng.standard_normal(), 0.1 + rng.random()
        wobble = 1 + np.finfo(float).eps * rng.integers(-2, 3, size=4)
        mean = np.array([[m, factor * m * wobble[0]]])
        cross = factor * c * wobble[1]
        covariance = np.array([[[c * wobble[2], cross], [cross, factor**2 * c * wobble[3]]]])
        found = tables(activation, mean, covariance, limit=2)
        x, w = np.polynomial.legendre.leggauss(120)
        total = {"g,g": 0.0, "dg,g": 0.0, "dg,dg": 0.0}
        ends = np.array([m - 9 * np.sqrt(c), np.clip(0, m - 9 * np.sqrt(c), m + 9 * np.sqrt(c)), m + 9 * np.sqrt(c)])
        for low, high in pairwise(ends):
            point = low + (high - low) * (1 + x) / 2
            weight = w * (high - low) / 2 * np.exp(-((point - m) ** 2) / (2 * c)) / np.sqrt(2 * np.pi * c)
            total["g,g"] += weight @ (g(point) * g(factor * point))
            total["dg,g"] += weight @ (dg(point) * g(factor * point))
            total["dg,dg"] += weight @ (dg(point) * dg(factor * point))
        for pattern, value in total.items():
            assert abs(found[pattern][0, 0, 1] - value) < 9e-8
