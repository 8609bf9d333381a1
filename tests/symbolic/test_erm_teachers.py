"""Labels by a teacher: the generated averages against quadrature over the field of the learner and of the teacher."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import sympy
from scipy.special import ndtr

from quenched.symbolic.language.notation import derived, specification_symbols
from quenched.symbolic.learners import erm, erm_teachers

LAWS = [  # means, variances and covariance of (w, nu)
    {"mean": 0.3, "variance": 1.4, "level": -0.2, "power": 0.9, "covariance": 0.5},
    {"mean": -0.6, "variance": 0.5, "level": 0.4, "power": 2.0, "covariance": -0.8},
]
V = 0.7
NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)


@cache
def compiled(specification: Callable) -> Callable:
    symbols = specification_symbols(specification)
    return sympy.lambdify(symbols, [value.doit() for value in derived(specification).explicit()])


def evaluate(specification: Callable, **arguments: float) -> list[float]:
    return compiled(specification)(*(arguments[s.name] for s in specification_symbols(specification)))


def normal(mean: np.ndarray | float, spread: float, cut: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of an average over N(mean, spread^2), on both sides of `cut`: to 1e-15 where it is smooth.

    80 Gauss-Legendre nodes on each of two panels that end 8.5 standard deviations away, beyond which are 2e-17.
    """
    mean = np.asarray(mean, dtype=float)[..., None]
    middle = mean if cut is None else np.full_like(mean, cut)
    ends = np.concatenate([mean - 8.5 * spread, middle, mean + 8.5 * spread], axis=-1)
    half, centre = np.diff(ends, axis=-1) / 2, (ends[..., 1:] + ends[..., :-1]) / 2
    x = (centre[..., None] + half[..., None] * NODES).reshape(*mean.shape[:-1], -1)
    weights = (half[..., None] * WEIGHTS).reshape(x.shape)
    return x, weights * np.exp(-(((x - mean) / spread) ** 2) / 2) / (np.sqrt(2 * np.pi) * spread)


def over_both(function: Callable, law: dict[str, float], sharp: bool = False) -> float:
    """E[function(w, nu)]: nu outside, cut at 0 where labels jump, w given nu inside."""
    mean, variance, level, power, covariance = law.values()
    nu, outer = normal(level, np.sqrt(power), 0.0 if sharp else None)
    w, inner = normal(mean + covariance * (nu - level) / power, np.sqrt(variance - covariance**2 / power))
    return float(outer @ (inner * function(w, nu[:, None])).sum(axis=1))


def soft(w: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    """A function of field and label for which no formula knows anything."""
    return np.sin(w) * (1 + y) + np.exp(-(w**2)) * y


def soft_slope(w: np.ndarray, y: np.ndarray | float) -> np.ndarray:
    """Its derivative by w."""
    return np.cos(w) * (1 + y) - 2 * w * np.exp(-(w**2)) * y


@pytest.mark.parametrize("law", LAWS)
def test_the_square_loss_asks_for_moments_alone(law: dict[str, float]) -> None:
    """y = nu^2 - nu, far from normal: E[f], E[f^2], E[f'], E[M] at w by quadrature, and by its three moments."""
    mean, variance, level, power, _ = law.values()
    y = lambda nu: nu**2 - nu  # noqa: E731
    second = over_both(lambda w, nu: y(nu) ** 2, law)
    overlap = over_both(lambda w, nu: (w - mean) * y(nu), law)
    numbers = {"V": V, "label": level**2 + power - level, "second": second, "overlap": overlap}
    found = evaluate(erm_teachers.square, mean=mean, variance=variance, **numbers)
    f = lambda w, nu: (y(nu) - w) / (1 + V)  # noqa: E731
    cost = lambda w, nu: V * f(w, nu) ** 2 / 2 + (w + V * f(w, nu) - y(nu)) ** 2 / 2  # noqa: E731
    wanted = [over_both(part, law) for part in (f, lambda w, nu: f(w, nu) ** 2, lambda w, nu: -1 / (1 + V), cost)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)  # rounding of sums of 25,600 terms


@pytest.mark.parametrize("law", LAWS)
def test_the_border_is_the_derivative_by_a_label_that_jumps(law: dict[str, float]) -> None:
    """density E[f(w, 1) - f(w, -1) | nu = 0] = d/dlevel E[f(w, sign nu)], by central differences at 1e-4: 1e-8."""
    density, mean, variance = evaluate(erm_teachers.border, **law)
    w, weights = normal(mean, np.sqrt(variance))
    h, level = 1e-4, law["level"]
    above, below = (
        over_both(lambda w, nu: soft(w, np.sign(nu)), law | {"level": moved}, sharp=True)
        for moved in (level + h, level - h)
    )
    assert abs(density * (weights @ (soft(w, 1) - soft(w, -1))) - (above - below) / (2 * h)) < 1e-8


@pytest.mark.parametrize("law", LAWS)
def test_a_label_has_its_probability_given_the_field(law: dict[str, float]) -> None:
    """E[f(w, sign nu)] = sum over labels of E[f(w, y) Phi(y (base + slope xi))]; and E[f'] by Stein's rule."""
    mean, variance, level, power, covariance = law.values()
    base, slope = evaluate(erm_teachers.label_law, variance=variance, level=level, power=power, covariance=covariance)
    xi, weights = normal(0.0, 1.0)
    w = mean + np.sqrt(variance) * xi

    def weighted(function: Callable) -> float:
        return float(weights @ sum(function(w, y) * ndtr(y * (base + slope * xi)) for y in (1, -1)))

    wanted = over_both(lambda w, nu: soft(w, np.sign(nu)), law, sharp=True)
    assert abs(weighted(soft) - wanted) < 1e-13
    density, at, left = evaluate(erm_teachers.border, **law)
    there, shares = normal(at, np.sqrt(left))
    response = density * (shares @ (soft(there, 1) - soft(there, -1)))
    numbers = {"variance": variance, "covariance": covariance, "response": response}
    (found,) = evaluate(erm_teachers.move_slope, regressed=weighted(lambda w, y: xi * soft(w, y)), **numbers)
    assert abs(found - weighted(soft_slope)) < 1e-12


@pytest.mark.parametrize("law", LAWS)
def test_the_drive_is_the_derivative_of_the_channel(law: dict[str, float]) -> None:
    """-d/dv E[M] at fixed q, for M = exp(-(w - nu^2)^2/4) where v moves the mean by 0.7 and the covariance by 0.4."""
    envelope = lambda w, nu: np.exp(-((w - nu**2) ** 2) / 4)  # noqa: E731
    f = lambda w, nu: (w - nu**2) / 2 * envelope(w, nu)  # noqa: E731
    by_nu = lambda w, nu: -nu * envelope(w, nu) * (1 - (w - nu**2) ** 2 / 2)  # noqa: E731
    numbers = {"alpha": 2.0, "weight": 0.25, "mean": 0.7, "along": 0.4}
    (found,) = evaluate(erm_teachers.drive, move=over_both(f, law), response=over_both(by_nu, law), **numbers)
    h = 1e-4  # central differences: errors of 1e-8

    def at(t: float) -> float:
        return over_both(envelope, law | {"mean": law["mean"] + 0.7 * t, "covariance": law["covariance"] + 0.4 * t})

    assert abs(found + 0.5 * (at(h) - at(-h)) / (2 * h)) < 1e-8


def test_without_a_teacher_the_square_loss_is_that_of_clusters() -> None:
    here = evaluate(erm_teachers.square, V=V, label=-1.0, second=1.0, overlap=0.0, mean=0.3, variance=1.2)
    np.testing.assert_allclose(here, evaluate(erm.square, V=V, y=-1.0, mean=0.3, variance=1.2), rtol=1e-14)


def test_the_derivation_is_told() -> None:
    rules = {rule for formula in erm_teachers.FORMULAS for rule in derived(formula).rules}
    assert {"Heat equation", "Envelope theorem", "Label noise", "Stein", "Border", "Conditioning", "Orthant"} <= rules
