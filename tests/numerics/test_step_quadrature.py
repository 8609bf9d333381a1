"""Averages of one step by integrals over the output, and the trapezoidal rule: against averages that are known.

Laws of two fields that are singular, or nearly, are among them, means on a kink, and readouts that are 0 or opposite.
Errors are bounds: none may be missed.
"""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import expit, ndtr

from quenched.numerics.averages.activations import activation_functions, tables
from quenched.numerics.step.field_quadrature import FieldQuadrature

Array = np.ndarray


def laws(seed: int, count: int) -> Iterator[tuple[Array, Array, Array, float]]:
    """Means (1, 2), covariances (1, 2, 2) and readouts of two fields, and an intercept."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        off = 10.0 ** rng.uniform(-12, -1)
        r = [rng.uniform(-0.9, 0.9), 1.0, -1.0, 1 - off, off - 1, 0.0][i % 6]
        root, kept = np.sqrt(10.0 ** rng.uniform(-1.5, 1, 2)), np.array([i % 11 != 3, i % 13 != 5])
        covariance = np.array([[1, r], [r, 1]]) * np.outer(root * kept, root * kept)
        v = rng.normal(size=2) * 4.0 ** rng.integers(-3, 1)
        v = {1: v * [0, 1], 2: v[0] * np.array([1, -1])}.get(i % 7, v)
        yield (i % 3) * rng.normal(size=(1, 2)), covariance[None], v, 0.3 * (i % 2)


def check(ratios: list[float], least: int) -> None:
    assert len(ratios) >= least
    assert max(ratios) <= 1, f"{sum(np.array(ratios) > 1)} of {len(ratios)} errors missed, by up to {max(ratios):.3g}"


def test_integrals_over_the_output_against_closed_forms() -> None:
    """A square loss on relu.  2e-9: orthant probabilities of singular laws, relative to the size of the averages."""
    quadrature, ratios = FieldQuadrature("square", ["relu"] * 2, 2, np.array([1.0]), 0.0), []
    for mean, covariance, v, c in laws(1, 120):
        found = {name: table[0] for name, table in tables("relu", mean, covariance).items()}
        rest = c - 1
        force = found["dg,g"] @ v + rest * found["dg"]
        readout = found["g,g"] @ v + rest * found["g"]
        square = found["dg,dg,g,g"] @ v @ v + 2 * rest * found["dg,dg,g"] @ v + rest**2 * found["dg,dg"]
        (F, R, _, S, slope), _, error = quadrature(mean, covariance, v, c)
        pairs = (F[0], force), (R[0], readout), (S[0], square), (slope[0], v @ found["g"] + rest)
        gap = max(float(np.abs(one - other).max()) for one, other in pairs)
        ratios.append(gap / (error + 2e-9 * (1 + np.abs(square).max() + np.abs(readout).max())))
    check(ratios, 120)


def test_integrals_over_the_output_of_a_loss_with_a_step() -> None:
    """Hinge on two linear neurons: phi is normal, F = -1 below 1, and E F z the density there along the gradient."""
    quadrature, ratios = FieldQuadrature("hinge", ["linear"] * 2, 2, np.array([1.0]), 0.0), []
    for mean, covariance, v, c in laws(2, 200):
        (F, _, along, S, _), L, error = quadrature(mean, covariance, v, c)
        gradient = L[0].T @ v
        if (spread := np.linalg.norm(gradient)) < 1e-3:  # the step is known to 1e-16 of the output: 1e-13 of h
            continue
        h = (1 - c - mean[0] @ v) / spread
        density = np.exp(-h * h / 2) / np.sqrt(2 * np.pi) * gradient / spread
        gap = max(np.abs(F[0] + ndtr(h)).max(), np.abs(S[0] - ndtr(h)).max(), np.abs(along[0] - density).max())
        ratios.append(gap / (error + 1e-12))
    check(ratios, 150)


def nodes(mean: Array, deviation: float) -> tuple[Array, Array]:
    """80 Gauss-Legendre nodes on either side of 0 of a field N(mean, deviation^2), along the first axis; weights."""
    x, w = np.polynomial.legendre.leggauss(80)
    cut = np.clip(-mean / deviation, -9.0, 9.0)
    z = np.concatenate([cut - (9 + cut) * (1 - x[:, None]) / 2, cut + (9 - cut) * (1 + x[:, None]) / 2])
    u = np.concatenate([(9 + cut) * w[:, None] / 2, (9 - cut) * w[:, None] / 2])
    return mean + deviation * z, u * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_averages_of_the_logistic_loss(activation: str) -> None:
    """On relu by integrals over the output, on erf by the trapezoidal rule; at y = -1, F = 1/(1 + exp(-phi)).

    80 nodes on 9 standard deviations leave less than 1e-12 where the poles at phi = i pi are far, |v| sigma < 3.
    """
    quadrature, ratios = FieldQuadrature("logistic", [activation] * 2, 2, np.array([-1.0]), 0.0), []
    g, dg = activation_functions(activation)
    for mean, covariance, v, c in laws(3, 150):
        (a, b), (_, d) = covariance[0]
        if not 0 < b * b < 0.9 * a * d or np.abs(v).max() * np.sqrt(max(a, d)) > 3:
            continue
        x, weight = nodes(mean[0, :1], np.sqrt(a))
        y, inner = nodes(mean[0, 1] + b / a * (x.ravel() - mean[0, 0]), np.sqrt(d - b * b / a))
        fields = np.stack([np.broadcast_to(x.ravel(), y.shape), y])
        F, weight = expit(np.tensordot(v, g(fields), 1) + c), inner * weight.ravel()
        push, charged = F * dg(fields), F * weight
        exact = (
            (charged * dg(fields)).sum((1, 2)),
            (charged * g(fields)).sum((1, 2)),
            np.tensordot(push * weight, push, ([1, 2], [1, 2])),
            charged.sum(),
        )
        (force, readout, _, square, slope), _, error = quadrature(mean, covariance, v, c)
        found = force[0], readout[0], square[0], slope[0]
        gap = max(float(np.abs(one - other).max()) for one, other in zip(found, exact, strict=True))
        ratios.append(gap / (error + 1e-12 * (1 + a + d)))
        assert error < 1e-8
    check(ratios, 15)
