"""Kinks and jumps of one variable, piece by piece."""

import pytest
import sympy

from quenched.symbolic.activations import Activation, screen
from quenched.symbolic.calculus.steps import NoClosedForm, derivative, in_steps, pieces
from quenched.symbolic.language.parse import VARIABLE, parse

x = VARIABLE
NESTED = {
    "Max(Min(x,1),-1)": ([-1, 1], "(Abs(x+1)-Abs(x-1))/2"),
    "Min(Max(x,0),6)": ([0, 6], "Max(x,0)-Max(x-6,0)"),
    "Abs(Abs(x)-1)": ([-1, 0, 1], "Abs(x+1)+Abs(x-1)-Abs(x)-1+Max(0,2-2*Abs(x))-Max(0,1-Abs(x))-Max(0,1-Abs(x))"),
    "Max(x**2-1,0)": ([-1, 1], "Heaviside(Abs(x)-1)*(x**2-1)"),
    "Max(x,0)+Min(0,exp(Min(x,0))-1)": ([0], "x*Heaviside(x)+(exp(x)-1)*Heaviside(-x)"),
    "Max(exp(2*x)-3*exp(x)+2,0)": ([0, sympy.log(2)], None),
    "Max(erf(x-0.5),0)": ([sympy.Rational(1, 2)], None),
    "Max(x**2-2,x)": ([-1, 2], None),
    "sign(x)*Min(Abs(x),1)": ([-1, 1], "Max(Min(x,1),-1)"),
    "Max(x,-x,1/2)": ([-sympy.Rational(1, 2), sympy.Rational(1, 2)], None),
}
POINTS = [sympy.Rational(p, 7) for p in (-30, -12, -5, -2, 1, 3, 6, 9, 20, 45)]


@pytest.mark.parametrize("text", NESTED)
def test_pieces_are_the_function(text):
    points, other = NESTED[text]
    expression = parse(text)
    assert list(pieces(expression, x).points) == points
    steps = in_steps(expression, x)
    for point in POINTS:
        value = expression.subs(x, point)
        assert abs(sympy.N(steps.subs(x, point) - value, 30)) < 1e-25
        if other is not None:
            assert abs(sympy.N(parse(other).subs(x, point) - value, 30)) < 1e-25


@pytest.mark.parametrize("text", NESTED)
def test_derivative_is_the_slope(text):
    """Central differences at h = 1e-6 err by h^2/6 |g'''| < 1e-10 on this range; no point is a kink."""
    expression = parse(text)
    slope, h = derivative(expression, x), sympy.Rational(1, 10**6)
    evaluated = Activation("custom", text).evaluated(1)
    for point in POINTS[1:-1]:
        difference = (expression.subs(x, point + h) - expression.subs(x, point - h)) / (2 * h)
        assert abs(sympy.N(slope.subs(x, point) - difference, 30)) < 1e-10 * (1 + abs(sympy.N(difference)))
        assert abs(sympy.N((slope - evaluated).subs(x, point), 30)) < 1e-25


def test_slopes_are_finite_far_out():
    """exp(Min(x, 0)) has a slope at x = 800 that no formula with exp(800) gives."""
    slope = Activation("custom", "Max(x,0)+Min(0,exp(Min(x,0))-1)").evaluated(1)
    assert (slope.subs(x, 800), slope.subs(x, 0)) == (1, 1)
    assert abs(sympy.N(slope.subs(x, -2)) - sympy.exp(-2)) < 1e-15


@pytest.mark.parametrize("text", ["Max(cos(x)-x,0)", "Abs(sin(x))", "Max(x**5-x-1,0)", "Max(erf(x)-x/2,0)"])
def test_zeros_without_exact_form_are_no_closed_form_but_located(text):
    """The derivative is still a function, and where it jumps is known to 50 digits."""
    with pytest.raises(NoClosedForm, match="closed form"):
        pieces(parse(text), x)
    activation = Activation("custom", text)
    screen(activation)
    found = activation.kinks()
    assert found
    for position, jump in found:
        arguments = [k.args for k in activation.expression.atoms(sympy.Max, sympy.Abs)]
        argument = next(sympy.Add(*a) for a in arguments)
        assert abs(argument.subs(x, sympy.Float(position, 50))) < 1e-40
        assert abs(float(jump)) > 1e-3


def test_jumps_are_deltas():
    assert derivative(parse("sign(x-1)*x"), x) == 2 * sympy.Heaviside(x - 1) - 1 + 2 * sympy.DiracDelta(x - 1)
    assert Activation("custom", "Heaviside(x-0.5)").jumps
    assert not Activation("custom", "x*Heaviside(x)").jumps


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Max(0,x)", "relu"),
        ("(x+Abs(x))/2", "relu"),
        ("x*Heaviside(x)", "relu"),
        ("Max(x,0.01*x)", "leaky_relu"),
        ("Max(x,-x)", "abs"),
        ("(x-1)*(x+1)", "he2"),
        ("x*x", "quadratic"),
        ("1.0*x", "linear"),
        ("Max(x,0.02*x)", ""),
        ("2*x", ""),
        ("tanh(x)", "tanh"),
    ],
)
def test_built_ins_are_recognised_by_what_they_are(text, name):
    expanded = str(sympy.expand(parse(text)))
    assert Activation("custom", expanded).builtin() == name
