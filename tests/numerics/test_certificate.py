"""Certificates: the quick ones of every activation; the quadrature they rest on; the document."""

import math

import numpy as np
import pytest

from quenched.numerics.averages.activations import averages
from quenched.numerics.averages.certificate import certify, certify_equations, document
from quenched.numerics.averages.defining_average import Point, points, reference
from quenched.numerics.averages.multiprecision import precise_averages
from quenched.numerics.compiled.precision import context
from quenched.theory.activations import ACTIVATIONS


@pytest.fixture
def ctx():
    return context(40)


def _law(loadings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    loadings = np.array(loadings)
    return loadings, np.zeros(loadings.shape[1]), np.zeros(len(loadings))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_average_has_its_digits(name: str) -> None:
    records = certify([name], quick=True)
    assert {r.formula for r in records} == {f"{name}_{n}" for n in (1, 2, 3, 4)}
    assert [r for r in records if r.digits < r.required] == []
    assert {r.layout for r in records} == {layout for index in ACTIVATIONS[name].places for layout in index}


def test_the_other_formulas_have_their_digits() -> None:
    records = certify_equations()
    learning = {"rates", "risk", "bias_rates", "on_sphere", "momentum_rates"}
    assert {r.formula for r in records} == {"Phi2", "Phi3", "Phi4", *learning}
    parts = {"", "dR", "dQ", "dv", "db", "dc", "dR_held", "dQ_held", "dS", "dC", "dU"}
    assert {r.layout for r in records} == parts
    assert [r for r in records if r.digits < r.required] == []


def test_quadrature_knows_the_arcsine_laws(ctx) -> None:
    # E H(x) H(y) = 1/4 + arcsin(r)/(2 pi); E relu = 1/sqrt(2 pi); E delta(x) relu(y) = sqrt(1 - r^2)/(2 pi)
    point = Point("", *_law([[1.0, 0.0], [0.6, 0.8]]))
    values, _, error = reference(ACTIVATIONS["relu"], 2, point)
    r = ctx.mpf(0.6)
    law = r / ctx.sqrt(r * r + ctx.mpf(0.8) ** 2)  # 0.6 and 0.8 are not exact
    assert error < 1e-26
    assert abs(values["dg,dg"] - (ctx.mpf(1) / 4 + ctx.asin(law) / (2 * ctx.pi))) < 1e-26
    assert abs(values["ddg,g"] - ctx.mpf(0.8) / (2 * ctx.pi)) < 1e-26
    one, _, _ = reference(ACTIVATIONS["relu"], 1, Point("", *_law([[1.0]])))
    assert abs(one["g"] - 1 / ctx.sqrt(2 * ctx.pi)) < 1e-26
    # E sign(x)^2 |y|
    three, _, _ = reference(ACTIVATIONS["abs"], 3, Point("", *_law([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])))
    assert three["dg,g,dg"] == pytest.approx(math.sqrt(2 / math.pi), abs=1e-13)
    # r = 1/2: E H(x) H(y) relu(z) = (1/2 + 1/2 + 1) phi(0) P(two > 0 | the third = 0), whose correlation is 1/3
    root = np.linalg.cholesky(np.full((3, 3), 0.5) + 0.5 * np.eye(3))
    three, _, _ = reference(ACTIVATIONS["relu"], 3, Point("", *_law(root)))
    expected = 2 / math.sqrt(2 * math.pi) * (1 / 4 + math.asin(1 / 3) / (2 * math.pi))
    assert three["dg,dg,g"] == pytest.approx(expected, abs=1e-13)


def test_a_formula_of_another_activation_does_not_pass() -> None:
    relu = ACTIVATIONS["relu"]
    other = relu._replace(g=lambda x: relu.g(x) + 1e-20 * x)
    point = next(points("relu", 1))
    expected, sizes, _ = reference(other, 1, point)
    values = precise_averages(relu, 1, *point.law(context(60)), 30)
    gaps = {layout: abs(values[layout] - expected[layout]) / sizes[layout] for layout in values}
    assert min(gaps["g"], gaps["g*g"], gaps["dg*g"]) > 1e-22
    assert gaps["dg"] < 1e-27


def test_kinks_away_from_the_origin() -> None:
    activation = averages("Max(x-1,0)")
    assert activation.jumps == (("1", "1"),)
    for n in (1, 2):
        point = next(points("Max(x-1,0)", n))
        expected, sizes, _ = reference(activation, n, point)
        values = precise_averages(activation, n, *point.law(context(60)), 30)
        assert max(abs(values[layout] - expected[layout]) / sizes[layout] for layout in values) < 1e-26
    planar = next(point for point in points("Max(x-1,0)", 3) if point.planar)
    with pytest.raises(ValueError, match="kinks elsewhere than at 0"):
        reference(activation, 3, planar)


def test_points_are_the_same_every_time_and_cover_the_hard_ones() -> None:
    first, again = ([p.law()[1].tolist() for p in points("relu", 4)] for _ in range(2))
    assert first == again
    labels = [p.label for p in points("relu", 2)]
    assert {"8 sigma out", "zero variance", "repeated", "opposite", "correlation 1 - 5e-9"} <= set(labels)
    assert [p.label for p in points("relu", 2) if p.singular] == labels[labels.index("correlation 1") :]


def test_document() -> None:
    records = certify(["linear"], quick=True)
    text = document(records, {"linear_2": ("Stein", "Orthant")})
    assert "| `linear_2` | Stein, Orthant | " in text
    assert f"{len(records)} comparisons; 0 below the digits required." in text


def test_an_activation_without_closed_form_is_refused() -> None:
    with pytest.raises(ValueError, match="activation 'tanh': its averages have no closed form"):
        certify(["tanh"])
