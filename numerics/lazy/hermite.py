"""Hermite coefficients of an activation in a noisy field: what every learner with frozen features is made of.

    psi(rho + sigma g) = sum_j c_j He_j(g)/sqrt(j!),   c_j = sigma^j E[psi^(j)(rho + sigma g)]/sqrt(j!),   g ~ N(0, 1)

In closed form up to order 2 where the averages of the activation have one; else by quadrature on panels that end at
the kinks of psi.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_value, value_averages
from quenched.numerics.problem.checks import number
from quenched.theory import random_features

__all__ = ["HermiteOrders", "hermite_orders"]

Array = npt.NDArray[np.float64]

theory: Any = random_features  # ufunc expressions: they take arrays where their signature says float

_ROUNDING = 1e-13  # relative: a difference of two numbers below this fraction of them is rounding error and counts as 0
_REACH = 12.0  # standard deviations that the quadrature covers: He_12 times the density is below 1e-20 beyond
_AT_ONCE = 4096  # fields whose Hermite coefficients are integrated together


class HermiteOrders(NamedTuple):
    """The Hermite orders of a feature psi(rho + sigma g) of unit normal noise g, for each rho.

    `coefficients` (orders + 1, ...): c_j = sigma^j psi_j(rho)/sqrt(j!), psi_j = E psi^(j)(rho + sigma g), so that the
    feature is sum_j c_j He_j(g)/sqrt(j!); `higher` (...): variance of all orders beyond; `square` (...): E psi^2;
    `error`: of a coefficient, absolute, at the largest rho.
    """

    coefficients: Array
    higher: Array
    square: Array
    error: float


def hermite_orders(activation: str, rho: npt.ArrayLike, sigma: float, orders: int = 2) -> HermiteOrders:
    """Hermite coefficients of psi(rho + sigma g) up to `orders`, for an array of rho.

    In closed form up to order 2 where the averages of the activation have one, else by Gauss-Legendre panels that end
    at the kinks of psi; the error is then the difference between 12 and 16 points a panel.

    >>> c, higher, square, _ = hermite_orders("relu", 0.0, 1.0)
    >>> bool(abs(c[0] - 1 / np.sqrt(2 * np.pi)) < 1e-15), float(c[1]), bool(abs(square - 0.5) < 1e-15)
    (True, 0.5, True)
    """
    points, sigma = np.asarray(rho, dtype=np.float64), number("sigma", sigma, positive=True)
    distinct, place = np.unique(points, return_inverse=True)
    found = value_averages(activation)
    if found.groups and orders <= 2 and "dg" in found.places[0]:
        one_field: Any = found.groups[0]
        values, places = one_field(distinct, sigma**2), found.places[0]
        psi = [np.broadcast_to(values[places[name]], distinct.shape) for name in ("g", "dg", "ddg", "g*g")]
        linear, quadratic, _ = theory.hermite_orders(*psi, sigma)
        coefficients, square = np.stack([psi[0], linear, quadratic][: orders + 1]), psi[3]
        error = 8 * math.ulp(1.0) * math.sqrt(square.max())
    else:
        coefficients, square, error = _by_quadrature(activation, distinct, sigma, orders)
    higher = np.maximum(square - (coefficients**2).sum(axis=0), 0)  # below 0 by rounding
    if (higher <= 1e-6 * (square - coefficients[0] ** 2)).all():  # nearly a polynomial: the difference is rounding
        beyond = _by_quadrature(activation, distinct, sigma, orders + 10)[0][orders + 1 :]
        higher = (beyond**2).sum(axis=0)
        higher[higher < _ROUNDING**2 * square.max()] = 0  # a polynomial
    return HermiteOrders(
        coefficients[:, place].reshape(orders + 1, *points.shape),
        higher[place].reshape(points.shape),
        square[place].reshape(points.shape),
        error,
    )


def _by_quadrature(activation: str, rho: Array, sigma: float, orders: int) -> tuple[Array, Array, float]:
    """c_j (orders + 1, n), E psi^2 (n,) and the error of either, on panels of twice the smaller of 1 and sigma."""
    if len(rho) > _AT_ONCE:
        parts = [
            _by_quadrature(activation, part, sigma, orders) for part in np.array_split(rho, len(rho) // _AT_ONCE + 1)
        ]
        c, square, errors = zip(*parts, strict=True)
        return np.concatenate(c, axis=1), np.concatenate(square), max(errors)
    psi = activation_value(activation)
    kinks = sorted(_fraction(position) for position, _ in value_averages(activation).jumps)
    inner = (np.clip((kink - rho) / sigma, -_REACH, _REACH) for kink in kinks)
    edges = np.stack([np.full_like(rho, -_REACH), *inner, np.full_like(rho, _REACH)], axis=1)
    panels = math.ceil(_REACH * max(1.0, sigma))
    share = np.linspace(0, 1, panels + 1)
    cuts = edges[:, :-1, None] + np.diff(edges, axis=1)[:, :, None] * share
    middle, half = (cuts[..., 1:] + cuts[..., :-1]) / 2, (cuts[..., 1:] - cuts[..., :-1]) / 2
    results = []
    for points in (12, 16):
        nodes, weights = np.polynomial.legendre.leggauss(points)
        g = (middle[..., None] + half[..., None] * nodes).reshape(len(rho), -1)
        mass = (half[..., None] * weights).reshape(len(rho), -1) * np.exp(-g * g / 2) / math.sqrt(2 * math.pi)
        value = psi(rho[:, None] + sigma * g)
        weighted, before, hermite = mass * value, np.zeros_like(g), np.ones_like(g)
        result = [(weighted * value).sum(axis=1)]
        for j in range(orders + 1):
            result.append((weighted * hermite).sum(axis=1))
            before, hermite = hermite, (g * hermite - math.sqrt(j) * before) / math.sqrt(j + 1)
        results.append(np.stack(result))
    error = float(np.abs(results[1] - results[0]).max())
    return results[1][1:], results[1][0], error


def _fraction(text: str) -> float:
    """A number given as a decimal or a fraction."""
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)
