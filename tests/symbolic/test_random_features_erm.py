"""Features and kernels at n = alpha D: resolvents against the spectrum of features, overlaps against the potential."""

from collections.abc import Callable
from functools import cache

import mpmath
import pytest
import sympy

from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import random_features_erm

DIGITS = 25
ctx = mpmath.mp.clone()
ctx.dps = DIGITS
POINTS = [
    {"ridge": 0.3, "linear": 0.25, "higher": 0.09, "ratio": 0.4, "Vh": 1.7},  # P > D
    {"ridge": 0.02, "linear": 0.7, "higher": 0.2, "ratio": 2.5, "Vh": 0.6},  # P < D
    {"ridge": 1.1, "linear": 0.5, "higher": 0.0, "ratio": 0.8, "Vh": 3.0},  # linear features
]


@cache
def values(specification: Callable) -> tuple[sympy.Expr, ...]:
    return derived(specification).explicit()


def evaluate(specification: Callable, **arguments: float) -> list[mpmath.mpf]:
    symbols = {s: sympy.Float(str(arguments[s.name]), DIGITS + 10) for s in specification_symbols(specification)}
    return [ctx.mpf(v.subs(symbols).evalf(DIGITS)) for v in values(specification)]


def over_features(function: Callable[[mpmath.mpf], mpmath.mpf], ratio: float) -> mpmath.mpf:
    """The average over the P eigenvalues x of F F^T/D, D/P = ratio: Marchenko and Pastur's law, by quadrature.

    Its density on [a, b], (1 -+ sqrt(1/ratio))^2, is sqrt((b - x)(x - a)) ratio/(2 pi x), and 1 - ratio of them are 0
    where P > D.  With x = (a + b)/2 + (b - a)/2 cos(angle) the integrand is smooth.
    """
    root = ctx.sqrt(1 / ctx.mpf(str(ratio)))
    a, b = (1 - root) ** 2, (1 + root) ** 2
    half = (b - a) / 2

    def integrand(angle: mpmath.mpf) -> mpmath.mpf:
        x = (a + b) / 2 + half * ctx.cos(angle)
        return function(x) * (half * ctx.sin(angle)) ** 2 * ctx.mpf(str(ratio)) / (2 * ctx.pi * x)

    with mpmath.workdps(DIGITS):
        bulk = ctx.quad(integrand, [0, ctx.pi / 2, ctx.pi])
    return bulk + max(0, 1 - ctx.mpf(str(ratio))) * function(ctx.mpf(0))


@pytest.mark.parametrize("point", POINTS)
def test_the_term_of_the_weights_is_the_average_over_the_spectrum(point: dict[str, float]) -> None:
    """-[qh rho + mh.G mh x linear/sigma^2]/(ridge + ratio Vh rho)/2, rho = linear x + higher: erm.py, P dimensions."""
    qh, length, sigma = 0.9, 0.35, 0.8
    ridge, linear, higher, ratio, Vh = (ctx.mpf(str(point[n])) for n in ("ridge", "linear", "higher", "ratio", "Vh"))
    (Y,) = evaluate(random_features_erm.resolvent, **point)
    (found,) = evaluate(
        random_features_erm.weight_energy, **point, qh=qh, sigma=sigma, length=length, Y=ctx.nstr(Y, 30)
    )

    def term(x: mpmath.mpf) -> mpmath.mpf:
        rho = linear * x + higher
        drive = ctx.mpf(str(qh)) * rho + ctx.mpf(str(length)) * linear * x / ctx.mpf(str(sigma)) ** 2
        return -drive / (2 * (ridge + ratio * Vh * rho))

    assert abs(over_features(term, point["ratio"]) - found) < ctx.mpf(10) ** -20


@pytest.mark.parametrize("point", POINTS)
def test_overlaps_are_derivatives_of_the_term_of_the_weights(point: dict[str, float]) -> None:
    """V = -2 d/dqh, q = 2 d/dVh, m = -d/dmh, by central differences at 1e-8: errors of 1e-16 third derivatives."""
    given = {"qh": 0.9, "sigma": 0.8, "length": 0.35}
    h = ctx.mpf(10) ** -8

    def energy(**moved: mpmath.mpf) -> mpmath.mpf:
        at = {name: ctx.nstr(ctx.mpf(str(v)) + moved.get(name, 0), 30) for name, v in (point | given).items()}
        (Y,) = evaluate(random_features_erm.resolvent, **{name: at[name] for name in point})
        (found,) = evaluate(random_features_erm.weight_energy, **at, Y=ctx.nstr(Y, 30))
        return found

    (Y,) = evaluate(random_features_erm.resolvent, **point)
    V, q, m = evaluate(random_features_erm.overlaps, **point, **given, drive=0.5, Y=ctx.nstr(Y, 30))
    slopes = {name: (energy(**{name: h}) - energy(**{name: -h})) / (2 * h) for name in ("qh", "Vh", "length")}
    for found, wanted in ((V, -2 * slopes["qh"]), (q, 2 * slopes["Vh"]), (m, -2 * slopes["length"] * ctx.mpf("0.5"))):
        assert abs(found - wanted) < ctx.mpf(10) ** -12  # of nstr: 30 digits of 1e-8


def test_a_kernel_is_the_limit_of_many_features() -> None:
    """ratio = 0: Y = 1/ridge, so that V = linear/(ridge + linear Vh) + higher/ridge."""
    point = POINTS[0] | {"ratio": 0.0}
    (Y,) = evaluate(random_features_erm.resolvent, **point)
    assert abs(Y - 1 / ctx.mpf("0.3")) < ctx.mpf(10) ** -20
    V, *_ = evaluate(random_features_erm.overlaps, **point, qh=1.0, sigma=1.0, drive=0.0, length=0.0, Y=ctx.nstr(Y, 30))
    wanted = ctx.mpf("0.25") / (ctx.mpf("0.3") + ctx.mpf("0.25") * ctx.mpf("1.7")) + ctx.mpf("0.09") / ctx.mpf("0.3")
    assert abs(V - wanted) < ctx.mpf(10) ** -20
