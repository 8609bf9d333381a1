"""Every formula of the oracle against mpmath quadrature of the defining Bayes error, integral of min(S+, S-)."""

from collections.abc import Callable
from itertools import pairwise, product
from random import Random

import mpmath
import pytest
import sympy

from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import oracle
from quenched.symbolic.mixtures import Cluster

DIGITS = 30
ctx = mpmath.mp.clone()
ctx.dps = DIGITS + 5

Site = tuple[tuple, object, int]  # mean, weight, label


def evaluate(specification: Callable, **arguments: object) -> list[mpmath.mpf]:
    symbols = {s: sympy.Float(arguments[s.name], DIGITS + 10) for s in specification_symbols(specification)}
    values = derived(specification).explicit()
    return [ctx.mpf(v.subs(symbols).evalf(DIGITS + 5)) for v in values]


def two_clusters(separation, sigma, weight_plus, weight_minus) -> list[Site]:
    return [((separation,), weight_plus, 1), ((-separation,), weight_minus, -1)]


def three_clusters(separation, sigma, weight_centre, weight_outer) -> list[Site]:
    outer = [((s * separation,), weight_outer / 2, -1) for s in (1, -1)]
    return [((ctx.zero,), weight_centre, 1), *outer]


def xor(separation, sigma) -> list[Site]:
    e = separation, ctx.zero
    quarter = ctx.mpf(1) / 4
    return [((s * e[i], s * e[1 - i]), quarter, 2 * i - 1) for s in (1, -1) for i in (0, 1)]


def parity(first_length, second_length, sigma) -> list[Site]:
    signs = product((1, -1), repeat=2)
    return [((s * first_length, t * second_length), ctx.mpf(1) / 4, s * t) for s, t in signs]


MIXTURES = {f.__name__: f for f in (two_clusters, three_clusters, xor, parity)}


def smaller(sites: list[tuple[object, object, int]], sigma: mpmath.mpf, reach: mpmath.mpf, cells: int) -> mpmath.mpf:
    """Integral over the line of min(S+, S-), S± the density of each label; sites are (mean, weight, label).

    Split where S+ = S-; `cells` only have to separate those points.  Pieces of a normal density are what `ncdf` means.
    The integral is stationary at those points: 1e-20 in them is 1e-40 in it.
    """

    def log_ratio(x: mpmath.mpf) -> mpmath.mpf:
        S = [ctx.fsum(w * ctx.npdf(x, m, sigma) for m, w, y in sites if y == label) for label in (1, -1)]
        return ctx.log(S[0] / S[1])

    def mass(label: int, a: mpmath.mpf, b: mpmath.mpf) -> mpmath.mpf:
        """Both limits on the side where ncdf is small: no digits are lost."""
        pieces = ((w, (a - m) / sigma, (b - m) / sigma) for m, w, y in sites if y == label)
        return ctx.fsum(w * (ctx.ncdf(min(q, -p)) - ctx.ncdf(min(p, -q))) for w, p, q in pieces)

    grid = [-reach + 2 * reach * i / cells for i in range(cells + 1)]
    points = grid + [
        ctx.findroot(log_ratio, (a, b), solver="anderson", tol=1e-20, verify=False)
        for a, b in pairwise(grid)
        if log_ratio(a) * log_ratio(b) < 0
    ]
    return ctx.fsum(min(mass(1, a, b), mass(-1, a, b)) for a, b in pairwise(sorted(points)))


def line_error(sites: list[Site], sigma: mpmath.mpf) -> mpmath.mpf:
    """The defining integral for means on a line."""
    reach = max(abs(m[0]) for m, _, _ in sites) + 40 * sigma  # P(z > 40) = 4e-350
    return smaller([(m[0], w, y) for m, w, y in sites], sigma, reach, 64)


def plane_error(sites: list[Site], sigma: mpmath.mpf, cells: int = 8) -> mpmath.mpf:
    """The defining integral for means in the plane: 48-point Gauss-Legendre in the outer coordinate.

    The pieces break at 0, where the mixtures tested here have the only crossing of their boundaries; on pieces of
    4 sigma the rule leaves an error below 1e-30 for what is analytic there.
    """
    rule = ctx._gauss_legendre.calc_nodes(5, ctx.prec)
    reach = max(abs(c) for m, _, _ in sites for c in m) + 12 * sigma  # P(z > 12) = 2e-33
    total = ctx.zero
    for a, b in pairwise([-reach + 2 * reach * i / cells for i in range(cells + 1)]):
        for node, weight in rule:
            y = (a + b + (b - a) * node) / 2
            slice_ = [(m[0], w * ctx.npdf(y, m[1], sigma), label) for m, w, label in sites]
            total += weight * (b - a) / 2 * smaller(slice_, sigma, reach, 4)
    return total


def sample(name: str, case: int) -> dict[str, mpmath.mpf]:
    """Arguments of order one, seeded by the formula's name; unequal weights that do not sum to one."""
    random = Random(f"{name} {case}")
    symbols = specification_symbols(getattr(oracle, name))
    return {s.name: ctx.mpf(round(random.uniform(0.4, 1.6), 6)) for s in symbols}


def error(name: str, arguments: dict[str, mpmath.mpf]) -> tuple[mpmath.mpf, mpmath.mpf]:
    """The formula's value and the defining integral."""
    sites = MIXTURES[name](**arguments)
    integral = (line_error if len(sites[0][0]) == 1 else plane_error)(sites, arguments["sigma"])
    return evaluate(getattr(oracle, name), **arguments)[0], integral


@pytest.mark.parametrize(
    ("name", "case"), [*((name, 0) for name in MIXTURES), ("two_clusters", 1), ("three_clusters", 1)]
)
def test_closed_form_is_the_integral_of_the_smaller_posterior(name: str, case: int) -> None:
    value, integral = error(name, sample(name, case))
    assert abs(value / integral - 1) < ctx.mpf(10) ** -27


@pytest.mark.parametrize("name", ["two_clusters", "three_clusters"])
def test_small_noise_keeps_its_relative_accuracy(name: str) -> None:
    value, integral = error(name, sample(name, 0) | {"sigma": ctx.mpf("0.05")})
    assert value < 1e-15
    assert abs(value / integral - 1) < ctx.mpf(10) ** -24


def test_three_clusters_without_threshold_err_on_the_centre() -> None:
    # R = P_0/P_1 exp(r^2/(2 sigma^2)) = exp(1/8)/4 < 1
    arguments = {"separation": 1, "sigma": 2, "weight_centre": ctx.mpf(1) / 5, "weight_outer": ctx.mpf(4) / 5}
    value, integral = error("three_clusters", {k: ctx.mpf(v) for k, v in arguments.items()})
    assert abs(value - ctx.mpf(1) / 5) < ctx.mpf(10) ** -30
    assert abs(integral - ctx.mpf(1) / 5) < ctx.mpf(10) ** -30


def test_three_clusters_at_the_edge_of_the_threshold() -> None:
    # log R = 1e-12: an error of the threshold enters squared, here it is of order sqrt(2e-12) itself
    weight_centre = ctx.exp(ctx.mpf("1e-12") - ctx.mpf(1) / 2)
    arguments = {"separation": 1, "sigma": 1, "weight_centre": weight_centre, "weight_outer": 1}
    value, integral = error("three_clusters", {k: ctx.mpf(v) for k, v in arguments.items()})
    assert abs(value - integral) < ctx.mpf(10) ** -27


def test_known_values() -> None:
    r, sigma = ctx.mpf("0.8"), ctx.mpf("0.6")
    half = {"weight_plus": ctx.mpf(1) / 2, "weight_minus": ctx.mpf(1) / 2}
    assert ctx.almosteq(evaluate(oracle.two_clusters, separation=r, sigma=sigma, **half)[0], ctx.ncdf(-r / sigma))
    p = ctx.ncdf(-r / (ctx.sqrt(2) * sigma))
    assert ctx.almosteq(evaluate(oracle.xor, separation=r, sigma=sigma)[0], 2 * p * (1 - p))
    lengths = {"first_length": r / ctx.sqrt(2), "second_length": r / ctx.sqrt(2)}
    assert ctx.almosteq(evaluate(oracle.parity, sigma=sigma, **lengths)[0], 2 * p * (1 - p))


def test_discriminant_is_the_log_density_ratio() -> None:
    a, b = (sample("discriminant", case) for case in range(2))
    b |= {"outer": a["outer"], "sigma": a["sigma"]}
    x = ctx.mpf("0.37")

    def joint(c: dict[str, mpmath.mpf]) -> mpmath.mpf:
        return (
            c["weight"] * ctx.npdf(x, c["inner_mean"], c["sigma"]) * ctx.npdf(c["outer"], c["outer_mean"], c["sigma"])
        )

    (rate_a, constant_a), (rate_b, constant_b) = (evaluate(oracle.discriminant, **c) for c in (a, b))
    assert ctx.almosteq((rate_a - rate_b) * x + constant_a - constant_b, ctx.log(joint(a) / joint(b)))


def test_radial_discriminant_is_the_log_density_ratio() -> None:
    """In D = 5: densities of x with |x_par - mean|^2 and |x_perp|^2 given, as products over the coordinates."""
    D, u = 5, ctx.mpf("1.9")

    def density(c: dict[str, mpmath.mpf]) -> mpmath.mpf:
        lengths = [ctx.sqrt(c["distance_squared"]), ctx.sqrt(u), 0, 0, 0]
        return c["weight"] * ctx.fprod(ctx.npdf(x, 0, c["sigma"]) for x in lengths)

    a, b = (sample("radial_discriminant", case) | {"dimension": ctx.mpf(D)} for case in range(2))
    (rate_a, constant_a), (rate_b, constant_b) = (evaluate(oracle.radial_discriminant, **c) for c in (a, b))
    assert ctx.almosteq((rate_a - rate_b) * u + constant_a - constant_b, ctx.log(density(a) / density(b)))


def test_slice_mass_is_the_integral_along_the_line() -> None:
    c = sample("slice_mass", 0) | {"lower": ctx.mpf("-0.3"), "upper": ctx.mpf("0.9")}
    across = ctx.npdf(c["outer"], c["outer_mean"], c["sigma"])
    along = ctx.quad(lambda x: ctx.npdf(x, c["inner_mean"], c["sigma"]), [c["lower"], 0, c["upper"]])
    assert ctx.almosteq(evaluate(oracle.slice_mass, **c)[0], c["weight"] * across * along)


def test_a_discriminant_that_does_not_factorise_is_refused() -> None:
    sigma = sympy.Symbol("sigma", positive=True)
    x = sympy.symbols("x_1:3", real=True)
    one = sympy.Integer(1)
    triangle = [
        Cluster(mean, one, label) for mean, label in (((one, 0 * one), 1), ((0 * one, one), -1), ((-one, -one), 1))
    ]
    with pytest.raises(ValueError, match="no single factor per coordinate"):
        oracle.factorised_error(triangle, sigma, x)


@pytest.mark.parametrize("specification", oracle.FORMULAS, ids=lambda f: f.__name__)
def test_every_derivation_tells_its_rules(specification: Callable) -> None:
    outcome = derived(specification)
    assert outcome.steps
    assert all(step.rule and step.latex for step in outcome.steps)
    given = set(specification_symbols(specification))
    assert set().union(*(value.free_symbols for value in outcome.explicit())) <= given
