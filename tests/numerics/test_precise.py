"""Averages and risk at any precision: laws known otherwise, singular covariances, agreement with float64."""

import numpy as np
import pytest

from quenched.numerics.averages.activations import averages, tables
from quenched.numerics.averages.multiprecision import precise_averages, precise_risk
from quenched.numerics.compiled.precision import context
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.state import OrderParameters
from quenched.numerics.two_layer.errors import errors


@pytest.mark.parametrize("digits", [15, 30, 60])
def test_a_repeated_field_is_one_field(digits: int) -> None:
    relu = averages("relu")
    twice = precise_averages(relu, 2, [0.3, 0.3], [[0.5, 0.5], [0.5, 0.5]], digits)
    once = precise_averages(relu, 1, [0.3], [[0.5]], digits)
    for pair, single in {"dg,dg": "dg*dg", "g,g": "g*g", "dg,g": "dg*g", "ddg,g": "ddg*g"}.items():
        assert abs(twice[pair] - once[single]) < context(digits).mpf(10) ** (1 - digits)


def test_four_fields_of_rank_one() -> None:
    # x, -x, 2 x, x: E[H(x) H(-x) ..] = 0 and E[H(x) H(2x) x 2x] with the fields in another order
    relu, loads = averages("relu"), np.array([1.0, -1.0, 2.0, 1.0])
    values = precise_averages(relu, 4, [0] * 4, np.outer(loads, loads), 12)
    assert max(abs(v) for v in values.values()) < 1e-12
    loads = np.array([1.0, 0.5, 2.0, 1.0])
    values = precise_averages(relu, 4, [0] * 4, np.outer(loads, loads), 12)
    assert abs(values["dg,dg,g,g"] - 1) < 1e-12  # E[2 x^2; x > 0]


def test_a_field_without_variance_is_its_mean() -> None:
    erf, ctx = averages("erf"), context(30)
    values = precise_averages(erf, 2, [0.3, 0.1], [[0, 0], [0, 0.7]], 30)
    other = precise_averages(erf, 1, [0.1], [[0.7]], 30)
    g = ctx.erf(ctx.mpf(0.3) / ctx.sqrt(2))
    assert abs(values["g,g"] - g * other["g"]) < 1e-29


def test_agrees_with_the_tables_where_those_are_exact() -> None:
    rng = np.random.default_rng(0)
    loadings, mean = np.eye(3) + 0.3 * rng.normal(size=(3, 3)), rng.normal(size=3)
    covariance = loadings @ loadings.T
    values = precise_averages(averages("relu"), 3, mean, covariance, 15)
    found = tables("relu", mean[None], covariance[None])["dg,dg,g"][0]
    assert float(values["dg,dg,g"]) == pytest.approx(found[0, 1, 2], abs=1e-12)  # numerics.kernels: Phi3
    assert float(values["g,dg,dg"]) == pytest.approx(found[1, 2, 0], abs=1e-12)


def test_rounding_of_a_singular_covariance_is_forgiven_and_more_is_refused() -> None:
    relu = averages("relu")
    within = precise_averages(relu, 2, [0, 0], [[1, 1 + 1e-15], [1 + 1e-15, 1]], 12)
    assert abs(within["dg,dg"] - 0.5) < 1e-7  # the root of the rounding
    with pytest.raises(ValueError, match=r"covariance must be positive semidefinite, got \[\[1.0, 1.1\]"):
        precise_averages(relu, 2, [0, 0], [[1, 1.1], [1.1, 1]], 12)
    with pytest.raises(ValueError, match=r"covariance must be positive semidefinite"):
        precise_averages(relu, 2, [0, 0], [[0, 0.1], [0.1, 1]], 12)


def test_refuses_what_has_no_closed_form() -> None:
    with pytest.raises(ValueError, match="no closed form to evaluate"):
        precise_averages(averages("relu")._replace(groups=()), 1, [0], [[1]], 20)
    with pytest.raises(ValueError, match="digits must be an integer >= 1, got 0"):
        precise_averages(averages("relu"), 1, [0], [[1]], 0)


def test_risk_of_an_erf_network_is_an_arcsine() -> None:
    # M = 0: E g_k g_l = (2/pi) arcsin(C_kl / sqrt((1 + C_kk)(1 + C_ll))), C = sigma^2 Q
    mixture, network = Mixture.xor(sigma=0.5), TwoLayer(2, "erf", output_scale=0.7)
    Q, v = np.array([[1.5, 0.4], [0.4, 0.9]]), np.array([0.8, -0.3])
    ctx = context(40)
    C = [[ctx.mpf(0.25) * ctx.mpf(q) for q in row] for row in Q]
    square = sum(
        ctx.mpf(v[k]) * ctx.mpf(v[l]) * 2 / ctx.pi * ctx.asin(C[k][l] / ctx.sqrt((1 + C[k][k]) * (1 + C[l][l])))
        for k in range(2)
        for l in range(2)
    )
    value = precise_risk(mixture, network, OrderParameters(np.zeros((4, 2)), Q, v), 30)
    assert abs(value - (1 + ctx.mpf(0.7) ** 2 * square) / 2) < 1e-29


@pytest.mark.parametrize("rank", [1, 2])
def test_risk_agrees_with_float64_at_singular_states(rank: int) -> None:
    mixture, network = Mixture.xor(sigma=0.5), TwoLayer(3, "relu")
    A = np.array([[1.0, -0.5, 0.5], [0.0, 0.4, 0.2]]) * (np.arange(2) < rank)[:, None]
    state = OrderParameters(mixture.means @ A, A.T @ A, np.array([0.5, -0.3, 0.7]))
    assert float(precise_risk(mixture, network, state, 20)) == pytest.approx(
        errors(mixture, network, state).pmse, abs=1e-8
    )  # numerics.averages: singular covariances
