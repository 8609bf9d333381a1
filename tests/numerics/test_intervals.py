"""Enclosures hold: values and difference quotients of an activation lie in its jets, on any interval."""

import numpy as np
import pytest

from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.compiled.intervals import NoEnclosure, enclosure_text
from quenched.numerics.signs.smooth_signs import compiled_enclosure

pytestmark = pytest.mark.usefixtures("derived_here")

ACTIVATIONS = ["erf", "sin", "relu", "leaky_relu", "abs", "he2", "he3", "he4", "quadratic", "linear", "tanh(x)", "gelu"]
ACTIVATIONS += ["swish", "softplus", "sigmoid", "x*exp(-x**2/2)", "cos(2*x)", "atan(x)", "sinh(x)/cosh(x)"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_enclosures(activation):
    g, _ = activation_functions(activation)
    enclosure = compiled_enclosure(activation)[2]
    rng = np.random.default_rng(0)
    for _ in range(300):
        centre, half = rng.normal() * 10 ** rng.uniform(-3, 1.3), 10 ** rng.uniform(-8, 1)
        x = np.sort(np.append(rng.uniform(centre - half, centre + half, 20), [centre - half, centre + half]))
        low, high, slope_low, slope_high = enclosure.__wrapped__(x[0], x[-1])
        values = g(x)
        rounding = 1e-14 * (1 + np.abs(values).max())  # of g itself, which is not rounded outwards
        assert low - rounding <= values.min()
        assert values.max() <= high + rounding
        steps = np.diff(x)
        assert (np.diff(values) >= slope_low * steps - 2 * rounding).all()
        assert (np.diff(values) <= slope_high * steps + 2 * rounding).all()


def test_narrow_intervals_give_narrow_enclosures():
    for activation in ACTIVATIONS:
        low, high, *_ = compiled_enclosure(activation)[2].__wrapped__(0.7, 0.7 + 1e-9)
        assert high - low < 1e-7


def test_functions_without_enclosure_are_named():
    def g(x):
        return gamma(x)  # noqa: F821

    with pytest.raises(NoEnclosure, match=r"no enclosure of gamma\(x\)"):
        enclosure_text(g, "jet")
