"""Losses as data: slope and curvature of each entry, expressions equal to the named ones, label noise averaged."""

import numpy as np
import pytest

from quenched.numerics import GradientFlow, OnlineSGD
from quenched.numerics.calculus.losses import compiled_loss, loss, loss_functions, noisy_slope
from quenched.theory.losses import LOSSES

PHI, Y = (x.ravel() for x in np.meshgrid(np.linspace(-3, 3, 13) + 0.01, [-1.0, 1.0, 0.4]))


@pytest.mark.parametrize("name", [*LOSSES, "max(0, 1 - y*phi)", "(1 - y*phi)**4/4"])
def test_slope_and_curvature_are_the_derivatives(name: str) -> None:
    """Central differences: h^2/6 times a third derivative, at most 200 here, and rounding/h of values below 100."""
    value, slope, curvature = loss_functions(name)
    h = 1e-5
    tolerance = 200 * h**2 + 4e-16 * 100 / h
    assert np.abs((value(PHI + h, Y) - value(PHI - h, Y)) / (2 * h) - slope(PHI, Y)).max() < tolerance
    assert np.abs((slope(PHI + h, Y) - slope(PHI - h, Y)) / (2 * h) - curvature(PHI, Y)).max() < tolerance


@pytest.mark.parametrize(("name", "text"), [("square", "phi**2/2 - y*phi + y**2/2"), ("logistic", "softplus(-phi*y)")])
def test_an_expression_is_the_loss_that_it_spells(name: str, text: str) -> None:
    for one, other in zip(loss_functions(name), loss_functions(text), strict=True):
        assert np.abs(one(PHI, Y) - other(PHI, Y)).max() < 1e-14
    assert loss(name).invariant == loss(text).invariant


def test_the_logistic_loss_holds_at_any_margin() -> None:
    with np.errstate(all="raise", under="ignore"):
        value, slope, _ = loss_functions("logistic")
        assert value(-1e4, 1.0) == 1e4
        assert slope(np.array([-1e4, 1e4]), 1.0).tolist() == [-1.0, 0.0]


def test_label_noise_is_averaged_alike_by_moments_and_by_quadrature() -> None:
    """Gauss-Hermite of 40 nodes is exact for polynomials: rounding alone separates the two."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    slopes = LOSSES["square"].slope(PHI, Y + 0.7 * nodes[:, None])
    first, second = noisy_slope("square", 0.7)(PHI, Y)
    weights = weights[:, None] / weights.sum()
    assert np.abs((weights * slopes).sum(axis=0) - first).max() < 1e-13
    assert np.abs((weights * slopes**2).sum(axis=0) - second).max() < 1e-12


def test_coefficients_spell_the_loss_and_its_slope() -> None:
    for name, Delta in (("square", 0.3), ("(1 - y*phi)**2/2", 0.0)):
        found = loss(name)
        l0, l1, l2, F0, F1, S0, S1, S2 = found.coefficients(Y, Delta)
        force, square = found.moments(PHI, Y, Delta)
        assert np.abs(l0 + PHI * (l1 + PHI * l2) - found.value(PHI, Y)).max() < 1e-13
        assert np.abs(F0 + PHI * F1 - force).max() < 1e-14
        assert np.abs(S0 + PHI * (S1 + PHI * S2) - square).max() < 1e-13


def test_compiled_slopes_are_the_generated_ones() -> None:
    for name in LOSSES:
        compiled = np.array([compiled_loss(name).ctypes(phi, y) for phi, y in zip(PHI, Y, strict=True)])
        assert np.abs(compiled - LOSSES[name].slope(PHI, Y)).max() < 1e-15


@pytest.mark.parametrize(
    ("loss", "message"),
    [("phi*z", "loss 'phi\\*z': 'z' is not understood"), ("y", "does not depend on the output"), ("", "loss must be")],
)
def test_what_is_no_loss_is_refused(loss: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss_functions(OnlineSGD(0.1, loss=loss).loss)


def test_rules_know_their_loss_and_batch() -> None:
    rule = OnlineSGD(0.1, loss="logistic", batch=3)
    assert OnlineSGD(**rule.to_dict()) == rule
    assert GradientFlow(loss="logistic").batch == 1
    with pytest.raises(ValueError, match="batch must be an integer >= 1, got 0"):
        OnlineSGD(0.1, batch=0)
