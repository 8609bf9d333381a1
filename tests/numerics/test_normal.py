"""Phi_1 .. Phi_4 against the definition, against laws known otherwise, and at singular correlation matrices."""

from __future__ import annotations

import itertools
import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quenched.numerics.probability import normal
from quenched.numerics.probability.normal import Phi, normal_probability
from quenched.theory import normal as theory


def as_formulas_call_it(n):
    """Phi_n(h_1 .. h_n, r_12, r_13, ..)."""
    return lambda *given, ctx=None: normal_probability(given[:n], given[n:], ctx=ctx)


Phi2, Phi3, Phi4 = (as_formulas_call_it(n) for n in (2, 3, 4))
PHI = (None, Phi, Phi2, Phi3, Phi4)


@pytest.fixture(scope="module")
def ctx():
    context = mpmath.mp.clone()
    context.dps = 20
    return context


def arguments(h, R):
    """h_1..h_n, r_12, r_13, .., as the functions take them."""
    return (*h, *(R[i][j] for i, j in itertools.combinations(range(len(h)), 2)))


def random_correlation(rng, n, rank, ridge=0.0):
    vectors = rng.normal(size=(n, rank))
    Q = vectors @ vectors.T + ridge * np.eye(n)
    scale = np.sqrt(np.diag(Q))
    return Q / np.outer(scale, scale)


# ------------------------------------------------------------------------------------------------- the definition


def by_definition(ctx, h, k, r):
    """P(z1 < h, z2 < k) = int_{-inf}^h phi(z) Phi((k - r z)/sqrt(1 - r^2)) dz, split around the step at z = k/r."""
    r = ctx.mpf(r)
    width = ctx.sqrt((1 - r) * (1 + r))
    points = {ctx.mpf(-12), ctx.mpf(h), *(ctx.mpf(x) for x in (-4, 0, 4) if x < h)}
    if r:
        points |= {p for p in (k / r + width / abs(r) * a for a in (-12, -2, 0, 2, 12)) if -12 < p < h}
    return ctx.quad(lambda z: ctx.npdf(z) * ctx.ncdf((k - r * z) / width), sorted(points))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("r", [0.0, 0.3, 0.5, 0.7, 0.9, 0.9599, 0.97, 0.9999, 1 - 1e-8, 1 - 1e-12, 1 - 1e-15])
def test_phi2_is_its_definition(ctx, r, sign):
    # k - r h of the order of sqrt(1 - r^2) is where the function bends when |r| is near 1.
    r *= sign
    bend = math.sqrt((1 - r) * (1 + r))
    for h, k in [(0.4, -1.1), (0.4, sign * (0.4 + bend)), (-2.0, -2.0 * sign), (0.0, 0.5 * bend), (1e-9, 0.0)]:
        exact = by_definition(ctx, h, k, r)
        assert abs(Phi2(h, k, r) - exact) < 1e-15
        assert abs(Phi2(h, k, r, ctx=ctx) - exact) < 1e-18


def one_factor(ctx, h, loadings):
    """z_i = l_i z + sqrt(1 - l_i^2) xi_i: P = int phi(z) prod_i Phi((h_i - l_i z)/sqrt(1 - l_i^2)) dz."""
    widths = [ctx.sqrt((1 - ctx.mpf(l)) * (1 + ctx.mpf(l))) for l in loadings]

    def integrand(z):
        return ctx.npdf(z) * ctx.fprod(ctx.ncdf((x - l * z) / w) for x, l, w in zip(h, loadings, widths, strict=True))

    steps = {x / l + a * w / l for x, l, w in zip(h, loadings, widths, strict=True) for a in (-9, -3, 0, 3, 9)}
    return ctx.quad(integrand, sorted({-12, 12, -4, 0, 4} | {p for p in steps if -12 < p < 12}))


@pytest.mark.parametrize(
    "loadings",
    [
        (0.7, -0.5, 0.8, 0.3),
        (0.95, 0.9, -0.9, 0.9),
        (0.999999, 0.999999, 0.99999, 0.2),
        (1 - 1e-10, -1 + 1e-10, 1 - 1e-10, 0.4),
        (1 - 1e-9, 1 - 1e-8, -1 + 1e-9, -1 + 1e-9),
    ],
)
def test_one_factor_models(ctx, loadings):
    rng = np.random.default_rng(0)
    R = np.outer(loadings, loadings)
    regular = max(map(abs, loadings)) < 0.99
    for n, accuracy in ((3, 1e-12 if regular else 1e-9), (4, 1e-11 if regular else 1e-8)):  # as stated
        # Correlations rounded to float64 move the value: d Phi/d r < 1/(2 pi sqrt(1 - r^2)) each.
        rounding = sum(1e-16 / math.sqrt(1 - r * r) for r in R[:n, :n][np.triu_indices(n, 1)])
        for h in (rng.normal(size=n), np.sign(loadings[:n]) * rng.normal()):
            assert abs(PHI[n](*arguments(h, R)) - one_factor(ctx, h, loadings[:n])) < accuracy + rounding


@pytest.mark.parametrize("loadings", [(0.7, -0.5, 0.8, 0.3), (1 - 1e-10, -1 + 1e-10, 1 - 1e-10, 0.4)])
def test_one_factor_models_in_mpmath(ctx, loadings):
    h = (0.3, -0.3, 0.3, 0.5)
    R = [[ctx.mpf(a) * ctx.mpf(b) for a in loadings] for b in loadings]
    for n in (3, 4):
        error = PHI[n](*arguments(h[:n], R), ctx=ctx) - one_factor(ctx, h[:n], loadings[:n])
        assert abs(error) < 1e-18


def polygon(ctx, h, angles):
    """z_i = x cos a_i + y sin a_i (rank 2): for each x, y lies between two bounds; exact but for one integral."""
    sines, cosines = [ctx.sin(a) for a in angles], [ctx.cos(a) for a in angles]

    def inside(x):
        bounds = [(t - c * x) / s for t, c, s in zip(h, cosines, sines, strict=True)]
        upper = min([b for b, s in zip(bounds, sines, strict=True) if s > 0], default=ctx.inf)
        lower = max([b for b, s in zip(bounds, sines, strict=True) if s < 0], default=-ctx.inf)
        return ctx.npdf(x) * (ctx.ncdf(upper) - ctx.ncdf(lower)) if upper > lower else ctx.zero

    corners = {
        (h[i] * sines[j] - h[j] * sines[i]) / (cosines[i] * sines[j] - cosines[j] * sines[i])
        for i, j in itertools.combinations(range(len(h)), 2)
    }
    return ctx.quad(inside, sorted({-12, 12, -4, 0, 4} | {c for c in corners if abs(c) < 12}))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [3, 4])
def test_rank_two(ctx, n, seed):
    rng = np.random.default_rng([n, seed])
    angles = rng.uniform(0, 2 * np.pi, n)
    h = rng.normal(size=n) if seed % 2 else rng.normal(scale=0.1, size=n)
    R = np.cos(np.subtract.outer(angles, angles))
    # 1e-10 is what Phi4 aims at for singular matrices (1e-8 is what it states): these are the rule in the theory.
    exact = polygon(ctx, h, angles)
    assert PHI[n](*arguments(h, R)) == pytest.approx(float(exact), abs=1e-10)


@pytest.mark.parametrize("ridge", [1.0, 1e-5, 1e-9])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_nearly_singular_against_mpmath(rank, ridge):
    ctx = mpmath.mp.clone()
    ctx.dps = 12  # the mpmath version is itself held to other formulas, above
    rng = np.random.default_rng([rank, round(-math.log10(ridge))])
    R = random_correlation(rng, 4, rank, ridge)
    h = rng.normal(size=4)
    tolerance = 1e-11 if ridge == 1 else 1e-8
    assert Phi4(*arguments(h, R)) == pytest.approx(float(Phi4(*arguments(h, R), ctx=ctx)), abs=tolerance)


# --------------------------------------------------------------------------------------------- laws known otherwise


def test_orthants():
    # P(all z < 0): Sheppard's and David's arcsine laws; 1/(n + 1) at r = 1/2; products when independent.
    r12, r13, r23 = 0.3, -0.6, 0.4
    assert Phi2(0, 0, r12) == pytest.approx(0.25 + math.asin(r12) / (2 * math.pi), abs=1e-15)
    david = 0.125 + (math.asin(r12) + math.asin(r13) + math.asin(r23)) / (4 * math.pi)
    assert Phi3(0, 0, 0, r12, r13, r23) == pytest.approx(david, abs=1e-13)
    assert Phi3(*[0] * 3, *[0.5] * 3) == pytest.approx(1 / 4, abs=1e-13)
    assert Phi4(*[0] * 4, *[0.5] * 6) == pytest.approx(1 / 5, abs=1e-13)
    h = np.array([0.3, -0.2, 1.1, 0.7])
    assert Phi4(*h, *[0] * 6) == pytest.approx(np.prod(Phi(h)), abs=1e-15)


def test_equal_fields():
    for h, k in [(0.3, 0.7), (0.7, 0.3), (0.2, 0.2)]:
        low = min(h, k)
        assert Phi2(h, k, 1) == pytest.approx(Phi(low), abs=1e-15)
        assert Phi3(h, k, 0.4, 1, 0.6, 0.6) == pytest.approx(Phi2(low, 0.4, 0.6), abs=1e-15)
        assert Phi3(h, k, 0.4, 1, 1, 1) == pytest.approx(Phi(min(low, 0.4)), abs=1e-15)
        assert Phi4(h, 0.4, k, -0.1, 0.6, 1, 0.2, 0.6, -0.3, 0.2) == pytest.approx(
            Phi3(low, 0.4, -0.1, 0.6, 0.2, -0.3), abs=1e-13
        )
        assert Phi4(h, k, 0.4, 0.1, *[1] * 6) == pytest.approx(Phi(min(low, 0.1)), abs=1e-15)


def test_opposite_fields():
    for h, k in [(0.3, 0.7), (0.3, -0.1), (-0.4, 0.3)]:
        assert Phi2(h, k, -1) == pytest.approx(max(0, Phi(h) - Phi(-k)), abs=1e-15)
        slab = max(0, Phi2(h, 0.4, 0.6) - Phi2(-k, 0.4, 0.6))
        assert Phi3(h, k, 0.4, -1, 0.6, -0.6) == pytest.approx(slab, abs=1e-15)
        slab = max(0, Phi3(h, 0.4, -0.1, 0.6, 0.2, -0.3) - Phi3(-k, 0.4, -0.1, 0.6, 0.2, -0.3))
        assert Phi4(h, 0.4, k, -0.1, 0.6, -1, 0.2, -0.6, -0.3, -0.2) == pytest.approx(slab, abs=1e-13)
        # two opposite pairs: a rectangle
        rectangle = Phi2(h, 0.4, 0.5) - Phi2(-k, 0.4, 0.5) - Phi2(h, -0.2, 0.5) + Phi2(-k, -0.2, 0.5)
        value = Phi4(h, 0.4, k, 0.2, 0.5, -1, -0.5, -0.5, -1, 0.5)
        assert value == pytest.approx(rectangle if h > -k else 0, abs=1e-13)


@pytest.mark.parametrize("excess", [1e-13, 1e-15, -1e-15, -1e-13])
def test_rounding_noise_in_a_correlation_of_one(excess):
    # Phi moves by at most sqrt(2 |excess|)/(2 pi) per correlation, arcsine law; there are up to four of them here.
    bound = 4 * math.sqrt(2e-13) / (2 * math.pi)
    r = 1 + excess
    assert Phi2(0.3, 0.3, r) == pytest.approx(Phi(0.3), abs=bound)
    assert Phi2(0.3, -0.3, -r) == pytest.approx(0, abs=bound)
    assert Phi3(0.3, 0.3, 0.4, r, 0.6, 0.6 + 1e-13) == pytest.approx(Phi2(0.3, 0.4, 0.6), abs=bound)
    assert Phi3(0.3, 0.3, 0.3, r, r, 1) == pytest.approx(Phi(0.3), abs=bound)
    assert Phi4(0.3, 0.3, 0.4, 0.4, r, 0.6, 0.6, 0.6, 0.6, r) == pytest.approx(Phi2(0.3, 0.4, 0.6), abs=bound)
    assert Phi4(0.3, 0.3, 0.3, -0.3, r, r, -r, 1, -1, -1) == pytest.approx(0, abs=bound)


@pytest.mark.parametrize("h", [-math.inf, math.inf, -50.0, 50.0, -1e300, 1e300])
def test_infinite_and_far_limits(h):
    gone = h < 0
    assert Phi2(h, 0.3, 0.99) == pytest.approx(0 if gone else Phi(0.3), abs=1e-15)
    assert Phi3(0.1, h, 0.3, 0.5, 0.6, 0.2) == (0 if gone else Phi2(0.1, 0.3, 0.6))
    for place in range(4):
        limits = [0.1, 0.2, 0.3, 0.4]
        limits[place] = h
        rest = [x for n, x in enumerate(limits) if n != place]
        expected = 0 if gone else pytest.approx(Phi3(*rest, 0.5, 0.5, 0.5), abs=1e-14)
        assert Phi4(*limits, *[0.5] * 6) == expected
    assert Phi4(h, h, h, h, *[0.5] * 6) == (0 if gone else 1)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_nan_in_nan_out(n, ctx):
    size = n + n * (n - 1) // 2
    for place in range(size):
        values = np.full(size, 0.2)
        values[place] = np.nan
        assert np.isnan(PHI[n](*values))
    assert ctx.isnan(PHI[n](*values, ctx=ctx))


def test_arrays_broadcast():
    h = np.linspace(-2, 2, 5)
    assert Phi2(h[:, None], h, 0.3).shape == (5, 5)
    assert Phi3(h, 0.1, 0.2, 0.3, 0.4, 0.5)[2] == Phi3(0.0, 0.1, 0.2, 0.3, 0.4, 0.5)


def test_impossible_correlation_is_refused_in_mpmath(ctx):
    with pytest.raises(ValueError, match=r"correlation must lie in \[-1, 1\], got 1.5"):
        Phi2(0, 0, 1.5, ctx=ctx)


# ------------------------------------------------------------------------------------------------------ symmetries

limits = st.floats(-4, 4)
directions = st.lists(st.floats(-1, 1), min_size=12, max_size=12)


@st.composite
def problems(draw):
    """Limits and a correlation matrix of rank 1, 2, 3 or (nearly) full."""
    vectors = np.array(draw(directions)).reshape(4, 3)
    vectors[:, draw(st.sampled_from([1, 2, 3])) :] = 0
    vectors = np.hstack([vectors, draw(st.sampled_from([0.0, 1e-9, 1e-4, 0.5])) * np.eye(4)])
    norms = np.linalg.norm(vectors, axis=1)
    vectors[norms < 1e-6] = np.eye(7)[0]
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return np.array(draw(st.lists(limits, min_size=4, max_size=4))), vectors @ vectors.T


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(), st.permutations(range(4)), st.integers(0, 3))
def test_symmetries(problem, order, flipped):
    # Each tolerance is twice the stated accuracy, for the difference of two values, or three times for the sum.
    h, R = problem
    order = list(order)
    value = float(Phi4(*arguments(h, R)))
    assert 0 <= value <= min(Phi(h)) + 1e-8
    assert Phi4(*arguments(h[order], R[np.ix_(order, order)])) == pytest.approx(value, abs=2e-8)
    # P(z_i < h_i, others) + P(-z_i < -h_i, others) = P(others)
    others = [i for i in range(4) if i != flipped]
    sign = np.ones(4)
    sign[flipped] = -1
    complement = Phi4(*arguments(h * sign, R * np.outer(sign, sign)))
    marginal = Phi3(*arguments(h[others], R[np.ix_(others, others)]))
    assert value + complement == pytest.approx(marginal, abs=3e-8)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(limits, limits, st.floats(-1, 1))
def test_phi2_symmetries(h, k, r):
    assert Phi2(h, k, r) == pytest.approx(Phi2(k, h, r), abs=1e-15)
    assert Phi2(h, k, r) + Phi2(h, -k, -r) == pytest.approx(Phi(h), abs=2e-15)
    assert Phi2(-h, -k, r) == pytest.approx(1 - Phi(h) - Phi(k) + Phi2(h, k, r), abs=3e-15)


def test_context_is_local():
    before = mpmath.mp.prec
    ctx = mpmath.mp.clone()
    ctx.dps = 30
    precision = ctx.prec
    assert abs(Phi3(0, 0, 0, *[ctx.mpf(1) / 2] * 3, ctx=ctx) - ctx.mpf(1) / 4) < ctx.mpf(10) ** -29
    assert (mpmath.mp.prec, ctx.prec) == (before, precision)
    assert normal.Phi(0, ctx=ctx) == 0.5


@pytest.mark.parametrize("d", [0.3, 1.0, 70.0])
def test_proportional_fields_leave_four_rounding_units(d):
    """x and 3 x: a - b^2/d of a = 9 d, b = 3 d is 0 but for rounding; of other fields it is Var[x + y | x] = Var[y]."""
    floor = 4 * np.finfo(float).eps * 9 * d
    assert theory.remainder(9 * d, 3 * d, d) == pytest.approx(floor, rel=1e-15)
    assert theory.remainder(d + 2.0, d, d) == pytest.approx(2.0, abs=4 * floor)
