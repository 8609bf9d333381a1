"""`average` and `closed_form` against quadrature that knows nothing of the algebra, and against what is known."""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf, ndtr

from quenched.numerics import average, closed_form
from quenched.numerics.averages.gaussian_law import GaussianLaw, exact
from quenched.numerics.probability.normal import normal_probability
from quenched.symbolic import expectation

Array = np.ndarray[Any, np.dtype[np.float64]]

HALF = [1, "1/2", 1]


pytestmark = pytest.mark.usefixtures("derived_here")


# --- exact values
# -------------------------------------------------------------------------------------------------------------------

KNOWN: dict[str, tuple[str, list[Any], list[Any], Callable[[Any], Any]]] = {
    "arc-cosine kernel": ("Max(x,0)*Max(y,0)", [0, 0], HALF, lambda m: m.mpf(1) / 6 + m.sqrt(3) / (4 * m.pi)),
    "arcsine law": ("sign(x)*sign(y)", [0, 0], HALF, lambda m: m.mpf(1) / 3),
    "erf kernel": ("erf(x)*erf(y)", [0, 0], HALF, lambda m: 2 / m.pi * m.asin(m.mpf(1) / 3)),
    "Stein": ("erf(x)*Max(y,0)", [0, 0], HALF, lambda m: m.mpf("0.5") / m.sqrt(3 * m.pi)),
    "probit": ("(1 + erf(x/sqrt(2)))/2", ["0.1"], [3], lambda m: m.ncdf(m.mpf("0.05"))),
    "Wick": ("x**2*y**2", [0, 0], ["2", "0.3", "5"], lambda m: 10 + 2 * m.mpf("0.09")),
    "largest of two": ("Max(x,y)", [0, 0], HALF, lambda m: 1 / m.sqrt(2 * m.pi)),
    "waves": ("cos(x - 2*y)", [0, 0], HALF, lambda m: m.exp(m.mpf("-1.5"))),
    "option": ("Max(exp(x) - 1, 0)", [0], [1], lambda m: m.exp(m.mpf("0.5")) * m.ncdf(1) - m.mpf("0.5")),
    "tilt": ("exp(-x**2/2)*Abs(y)", [0, 0], HALF, lambda m: m.sqrt(2 / m.pi) * m.sqrt(m.mpf(7) / 4) / 2),
    "constant": ("pi/2", [0], [1], lambda m: m.pi / 2),
    "coincident": ("Max(x,0)*Max(y,0)", [0, 0], [1, 1, 1], lambda m: m.mpf("0.5")),
    "opposite": ("Max(x,0)*Max(y,0)", [0, 0], [[1, -1], [-1, 1]], lambda m: m.zero),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_averages_at_thirty_digits(name: str) -> None:
    text, mean, covariance, known = KNOWN[name]
    ctx = mpmath.mp.clone()
    ctx.dps = 40
    found = average(text, mean, covariance, digits=30)
    expected = known(ctx)
    assert found.method == "closed form"
    assert found.rules
    assert abs(ctx.mpf(found.value) - expected) <= max(found.error, ctx.mpf("2e-30") * abs(expected))
    assert found.error <= max(ctx.mpf("1e-29") * abs(expected), ctx.mpf("1e-29"))
    brief = average(text, mean, covariance)
    assert isinstance(brief.value, float)
    assert abs(brief.value - expected) <= brief.error + 4e-16 * abs(expected)  # rounded to a float


def test_four_orthants_of_equal_correlation() -> None:
    """P(x, y, z, w > 0) = 1/5 at correlation 1/2: the chance that the first of five is the smallest."""
    covariance = 0.5 * (np.eye(4) + 1)
    found = average("Heaviside(x)*Heaviside(y)*Heaviside(z)*Heaviside(w)", [0] * 4, covariance)
    assert found.method == "closed form"
    assert abs(found.value - 0.2) < 1e-15


def test_numbers_are_exact() -> None:
    """0.1 as a float is not a tenth; as a text it is."""
    tenth, rounded = average("x**2", [0], ["0.1"], digits=30), average("x**2", [0], [0.1], digits=30)
    assert str(tenth.value) == "0.1"
    assert str(rounded.value) == "0.100000000000000005551115123126"
    assert exact("mean", "1e-3") * 1000 == 1


# --- quadrature that knows nothing of the algebra
# -------------------------------------------------------------------------------------------------------------------

FACTORS: dict[str, Callable[[Array], Array]] = {
    "Max({},0)": lambda x: np.maximum(x, 0),
    "erf({})": lambda x: erf(x),
    "Abs({})": np.abs,
    "sign({})": np.sign,
    "Heaviside({})": lambda x: np.heaviside(x, 0.5),
    "{}**2": np.square,
    "exp(-{}**2/2)": lambda x: np.exp(-x * x / 2),
    "exp({}/2)": lambda x: np.exp(x / 2),
    "(1 + erf({}/sqrt(2)))/2": lambda x: ndtr(x),
    "sin({})": np.sin,
    "tanh({})": np.tanh,
}
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)


def panels(cuts: list[float]) -> tuple[Array, Array]:
    """Gauss-Legendre of 40 points between successive cuts."""
    ends = sorted({*np.clip(cuts, -11, 11), -11.0, -5.0, -2.0, 2.0, 5.0, 11.0})
    parts = [((b - a) / 2 * (1 + _NODES) + a, (b - a) / 2 * _WEIGHTS) for a, b in pairwise(ends)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([w for _, w in parts])


def by_hand(f: Callable[..., Array], mean: list[float], sigma: tuple[float, float], rho: float) -> float:
    """E f(x, y), nested, split where x = 0 and where y = 0 given x: 11 deviations leave out 1e-27."""
    first, w = panels([-mean[0] / sigma[0]])
    total, root = 0.0, np.sqrt(1 - rho**2)
    for z, weight in zip(first, w, strict=True):
        second, v = panels([-(mean[1] / sigma[1] + rho * z) / root])
        x, y = mean[0] + sigma[0] * z, mean[1] + sigma[1] * (rho * z + root * second)
        density = np.exp(-(z * z + second**2) / 2) / (2 * np.pi)
        total += weight * float(np.sum(v * f(np.full_like(y, x), y) * density))
    return total


entries = st.sampled_from([-1.25, -0.5, 0.0, 0.3, 0.9])
widths = st.sampled_from([0.3, 1.0, 1.7])


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(list(FACTORS)), st.sampled_from(list(FACTORS))), min_size=1, max_size=2),
    st.tuples(entries, entries),
    st.tuples(widths, widths),
    st.sampled_from([-0.95, -0.4, 0.0, 0.25, 0.8]),
)
def test_sums_of_products(
    terms: list[tuple[str, str]], mean: tuple[float, float], sigma: tuple[float, float], rho: float
) -> None:
    text = " - 2*".join(f"{a.format('x')}*{b.format('y')}" for a, b in terms)
    scales = [1.0, -2.0]

    def f(x: Array, y: Array) -> Array:
        parts = [s * FACTORS[a](x) * FACTORS[b](y) for s, (a, b) in zip(scales, terms, strict=False)]
        return np.asarray(sum(parts))

    cross = rho * sigma[0] * sigma[1]
    found = average(text, list(mean), [[sigma[0] ** 2, cross], [cross, sigma[1] ** 2]])
    size = by_hand(lambda x, y: np.abs(f(x, y)), list(mean), sigma, rho)
    # the panels: 40 points on features of a width of 0.3 at least; their ends leave out 1e-27 of f, which is below 100
    assert abs(found.value - by_hand(f, list(mean), sigma, rho)) < 1e-11 * size + found.error + 1e-25


def test_a_product_of_two_against_mpmath() -> None:
    ctx = mpmath.mp.clone()
    ctx.dps = 15
    root = ctx.sqrt(3) / 2

    def inner(x: Any) -> Any:
        zero = -(x / 2 + ctx.mpf("0.3")) / root
        return ctx.quad(lambda z: ctx.npdf(z) * (x / 2 + root * z + ctx.mpf("0.3")), [zero, max(zero, 0) + 4, 12])

    expected = ctx.quad(lambda x: ctx.npdf(x) * ctx.erf(x - 1) * inner(x), [-8, 0, 8])
    found = average("erf(x - 1)*Max(y,0)", [0, "0.3"], HALF, digits=20)
    assert abs(found.value - expected) < 1e-13  # beyond 8 deviations: 1e-15


# --- what does not close
# -------------------------------------------------------------------------------------------------------------------

OPEN: dict[str, tuple[str, list[Any], list[Any], float, str]] = {
    "one field": ("exp(x**2/8)", [0], [1], 2 / 3**0.5, "adaptive"),
    "beyond floats": ("exp(x**2)", [0], ["0.499"], 500**0.5, "tanh-sinh"),
    "a singularity": ("log(Abs(x))", [0], [1], -(np.euler_gamma + np.log(2)) / 2, "adaptive"),
    "two fields": ("exp(x*y)", [0, 0], [1, 0, 0.5], 2**0.5, "adaptive"),
    "two as one": ("exp(x*y/4)", [0, 0], [1, 1, 1], 2**0.5, "1 normal"),
    "one of two": ("log(Abs(y))", [0, 0], [1, 0.5, 1], -(np.euler_gamma + np.log(2)) / 2, "1 normal"),
    "three fields": ("exp(x*y/4)*z**2", [0, 0, 0], [1, 0, 0, 1, 0, 1], (16 / 15) ** 0.5, "trapezoidal"),
    "a kink of three": ("exp(x*y/4)*Abs(z)", [0, 0, 0], [1, 0, 0, 1, 0, 1], (32 / 15 / np.pi) ** 0.5, "Monte Carlo"),
    "four fields": (
        "exp(x*y/4)*z*w", [0, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 1, 0.5, 1], 0.5 * (16 / 15) ** 0.5, "trapezoidal",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPEN)
def test_quadrature_is_as_good_as_it_says(name: str) -> None:
    text, mean, covariance, expected, method = OPEN[name]
    found = average(text, mean, covariance)
    assert method in found.method
    assert found.reason
    assert not found.rules
    assert abs(found.value - expected) < 4 * found.error + 1e-15 * abs(expected)  # of samples: four standard errors
    assert found.error < (2e-4 if "Monte Carlo" in method else 1e-8) * abs(expected)


def test_quadrature_at_many_digits() -> None:
    ctx = mpmath.mp.clone()
    ctx.dps = 40
    found = average("log(1 + exp(x))", [0], [1], digits=30)
    expected = ctx.quad(lambda x: ctx.npdf(x) * ctx.log1p(ctx.exp(x)), [-15, -5, 0, 5, 15])
    assert abs(found.value - expected) < 1e-30
    smooth = average("exp(x*y/4)", [0, 0], HALF, digits=20)
    assert abs(smooth.value - 1 / ctx.sqrt((1 - ctx.mpf(1) / 8) ** 2 - ctx.mpf(1) / 16)) < 1e-19


def test_a_field_without_variance_is_its_mean() -> None:
    """Also where the integrand jumps, and where only that gives a closed form."""
    assert average("Heaviside(x)**2", [0], [0]).value == 0.25
    found = average("tanh(x)*Max(y,0)", ["1/3", 0], [0, 0, 1])
    assert found.method == "closed form"
    assert found.value == pytest.approx(np.tanh(1 / 3) / np.sqrt(2 * np.pi), rel=1e-15)
    assert average("x - y", ["-1/2", 2], [0, 0, 0]).value == -2.5


# --- formulas
# -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["Max(x,0)*Max(y,0)", "Max(x, y)", "erf(x)*Abs(y)", "sin(x)*exp(y)", "Max(x,0)*Max(y,0)*sign(z)", "x*y*z*w"]
)
def test_the_formula_has_the_value(text: str) -> None:
    """Read again, line by line, by sympy; normal probabilities in float64."""
    found = closed_form(text)
    n = 1 + max(i for i, name in enumerate("xyzw") if name in text.replace("Max", "").replace("exp", ""))
    rng = np.random.default_rng(n)
    A = rng.integers(-3, 4, (n, n)) + 4 * np.eye(n, dtype=int)
    mean, covariance = rng.integers(-2, 3, n).tolist(), (A @ A.T).tolist()
    known = {f"m{i}": sympy.Integer(mean[i]) for i in range(n)}
    known |= {f"c{i}{j}": sympy.Integer(covariance[i][j]) for i in range(n) for j in range(i, n)}

    def probability(n: int) -> Callable[..., sympy.Float]:
        def evaluate(*arguments: sympy.Expr) -> sympy.Float:
            given = [float(argument) for argument in arguments]
            return sympy.Float(float(ndtr(given[0]) if n == 1 else normal_probability(given[:n], given[n:])), 17)

        return evaluate

    names = {"Phi": probability(1), "Phi2": probability(2), "Phi3": probability(3), "Phi4": probability(4)}
    value = sympy.Integer(0)
    for line in found.text.splitlines():
        left, _, right = line.partition(" = ")
        value = known[left] = sympy.sympify(right, locals={**names, **known})
    expected = average(text, mean, covariance)
    assert float(value.evalf(20)) == pytest.approx(expected.value, rel=1e-11, abs=1e-12)
    assert found.latex.count("\n") == found.text.count("\n")
    assert found.rules == expected.rules


def test_formulas_at_numbers() -> None:
    assert closed_form("Max(x,0)*Max(y,0)", [0, 0], [[1, 0.5], [0.5, 1]]).expression == "sqrt(3)/(4*pi) + 1/6"
    assert closed_form("sign(x)*sign(y)", [0, 0], [1, None, 1]).expression == "2*asin(c01)/pi"
    assert closed_form("x**2", ["m0", 0], ["c00", "c01", 1]).expression == "c00 + m0**2"
    assert closed_form("y", [0, "1/3"]).text == "E[x1] = 1/3"
    with pytest.raises(ValueError, match=r"'tanh\(x0\)' has no closed form: tanh\(x0\): no rule averages it"):
        closed_form("tanh(x)")
    with pytest.raises(ValueError, match="mean must have 2 entries or more, one for each field of 'x\\*y', got"):
        closed_form("x*y", [0])
    with pytest.raises(ValueError, match="covariance must be a list of 3 entries"):
        closed_form("x*y", [0, 0], [1, None])
    with pytest.raises(ValueError, match="covariance must be positive semidefinite"):
        closed_form("x*y", [0, 0], [1, 2, 1])


def test_the_process_takes_rational_numbers_and_symbols_only() -> None:
    for means, covariance in (("__import__('os')", "1"), ("0", "c11"), ("0.5", "1"), ("0,0", "1"), ("", "")):
        with pytest.raises(ValueError, match=r"mean must|covariance must"):
            expectation.user_closed_form("x", means, covariance)


# --- what is refused
# -------------------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Any, Any, str]] = [
    ("x", [0], [-1], r"covariance must have variances >= 0, got -1.0 in \[-1\]"),
    ("x*y", [0, 0], [1, 2, 1], "covariance must be positive semidefinite, got .* eigenvalue -1"),
    ("x*y", [0, 0], [0, 1, 1], "a field of variance 0 has covariance 0 with all others"),
    ("x*y", [0, 0], [[1, 0.5], [0.4, 1]], "covariance must be symmetric"),
    ("x*y", [0, 0], [1, 0.5], r"covariance must have 3 entries \(upper triangle, row by row\) or 2 x 2"),
    ("x*y", [0, 0], [[1, 0.5], [0.5]], "covariance must have 3 entries"),
    ("x*y", [0], [1], "mean must have an entry for each field: integrand .* has field number 2"),
    ("x", [0] * 5, np.eye(5), "mean must have 1 to 4 entries"),
    ("x", ["1/0"], [1], "mean must be made of finite real numbers .* got '1/0'"),
    ("x", [float("nan")], [1], "mean must be made of finite real numbers .* got nan"),
    ("v", [0], [1], "integrand 'v': 'v' is not understood; numbers"),
    ("", [0], [1], "integrand must be an expression in x and y"),
    ("log(x)", [0], [1], r"integrand 'log\(x\)' is not real where the fields fall, around -1"),
    ("exp(x**2/2)", [0], [1], "does not decay with the Gaussian of this covariance"),
    ("exp(x*y)", [0, 0], HALF, "its average is infinite; take a smaller covariance"),
    ("exp(exp(x))", [0], [1], "its average is infinite"),
    (
        "exp(x**2/3)*y*z",
        [0, 0, 0],
        [1, 0, 0, 1, 0, 1],
        "it is not square-integrable, so that no sample of it converges",
    ),
    ("1/x", [0], [0], "division by zero"),
]


@pytest.mark.parametrize(("text", "mean", "covariance", "message"), REFUSED)
def test_what_is_no_average_is_refused(text: str, mean: Any, covariance: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        average(text, mean, covariance)


def test_what_does_not_converge_fails() -> None:
    for text in ("1/x", "1/(x-1)", "sin(1e8*x)*tanh(x)"):
        with pytest.raises(RuntimeError, match=r"has no closed form, and quadrature reached .* may be infinite"):
            average(text, [0], [1])
    with pytest.raises(ValueError, match=r"digits must be <= 15, got 20: integrand .* has no closed form, and over 3"):
        average("tanh(x*y*z)", [0, 0, 0], np.eye(3), digits=20)


def test_rounded_entries_count_as_singular() -> None:
    """float64 entries of fields that coincide: indefinite by rounding."""
    a = np.array([0.7, 1.3, -0.9])
    law = GaussianLaw.read([0, 0, 0], np.outer(a, a))
    loadings = np.array([[float(entry) for entry in row] for row in law.loadings(mpmath.mp)])
    np.testing.assert_allclose(loadings @ loadings.T, np.outer(a, a), atol=1e-14)
    found = average("tanh(x)*tanh(y)*tanh(z)**2", [0, 0, 0], np.outer(a, a))
    z, w = panels([0.0])
    f = np.tanh(a[0] * z) * np.tanh(a[1] * z) * np.tanh(a[2] * z) ** 2
    assert abs(found.value - float(w @ (f * np.exp(-z * z / 2))) / np.sqrt(2 * np.pi)) < 1e-7  # sqrt of rounding


def test_the_record_is_frozen_and_sympy_stays_out() -> None:
    found = average("Max(x,0)", [0], [1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.value = 1  # type: ignore[misc]
    code = (
        "import sys; from quenched.numerics import average, closed_form\n"
        "assert average('Max(x,0)*cos(y)', [0, 0], [1, 0, 1]).value > 0.2\n"
        "assert closed_form('Abs(x)', [0]).expression == 'sqrt(2)*sqrt(c00)/sqrt(pi)'\n"
        "assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


def test_a_rare_event_has_its_own_scale() -> None:
    """x > 0 at 6 deviations: no coarse sample sees it, and the tolerance follows it all the same."""
    found = average("Max(x,0)*tanh(y + 50)", [-6, 0], [1, 0, 1])
    expected = mpmath.npdf(6) - 6 * mpmath.ncdf(-6)
    assert abs(found.value - expected) < max(4 * found.error, 1e-13 * expected)
    assert found.error < 1e-12 * expected


def test_kinks_that_no_formula_tells_are_seen() -> None:
    """Max(tanh(x) - c, 0), one kink anywhere: within the stated error of the integral over the piece that is left.

    The error is an estimate; of 60 places of a kink several lie where two rules agree by accident.
    """
    for c in np.linspace(-0.9, 0.9, 60):
        found = average(f"Max(tanh(x) - ({c:.6f}), 0)", [0], [1])
        level = float(f"{c:.6f}")
        panels = np.arctanh(level) + np.array([0.0, 0.5, 1, 2, 3, 4, 6, 8, 12])
        nodes, weights = np.polynomial.legendre.leggauss(40)
        half = np.diff(panels)[:, None] / 2
        x = panels[:-1, None] + half * (1 + nodes)
        exact = float((weights * half * (np.tanh(x) - level) * np.exp(-x * x / 2)).sum() / np.sqrt(2 * np.pi))
        assert abs(float(found.value) - exact) <= float(found.error) + 1e-14, c
