"""Any activation that a person writes: the generated averages against quadrature of what they are averages of.

One field by Gauss-Legendre on panels that end at the kinks, two by a tensor of it where the field given the other has
panels of its own: exact to rounding, 1e-13 of the size of the integrand.
"""

import math

import numpy as np
import pytest
import sympy
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy.special import erf, erfc

from quenched.numerics.probability import normal as probabilities
from quenched.symbolic.activations import Activation, screen
from quenched.symbolic.calculus.steps import NoClosedForm
from quenched.symbolic.language import emit
from quenched.symbolic.language.notation import Derived, Formula
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.user import user_activation
from quenched.theory import normal

ONE, TWO = ["g", "g*g", "dg*g", "dg*dg"], ["g,g", "dg,g", "dg,dg"]
NUMPY = "absolute arccosh arcsin arctan cos cosh exp heaviside log maximum minimum pi sign sin sinh sqrt tanh where"
NAMESPACE = {name: getattr(np, name) for name in NUMPY.split()} | {"erf": erf, "erfc": erfc}
NAMESPACE |= {name: getattr(normal, name) for name in ("ratio", "residual", "remainder")}
NAMESPACE["Phi"] = probabilities.Phi
NAMESPACE |= {f"Phi{n}": lambda *x, n=n: probabilities.normal_probability(x[:n], x[n:]) for n in (2, 3, 4)}

CASES = """0.1*x; x/3; x/sqrt(3); Max(x,0.1); erf(x+0.7); exp(0.1)*x; tanh(0.1)*x; exp(-(x-0.3)**2); 0.5*x+Max(x,0.25)/7
erf(0.7071067811865476*x); 1.0507009873554805*Max(x,0); 100000*Max(x,0); 1.67326*Max(x,0)
x*exp(1-x); exp(1)*x+x**2; E*x; sin(x)+sin(2*x); exp(x)+exp(-x); cos(x)**3; erf(x)+erf(2*x)+erf(3*x)
Max(x,0)+Max(x-0.5,0)+Max(x+0.5,0); Max(Min(x,1),-1); Min(Max(x,0),6); Min(Max(x/6+0.5,0),1); x*Min(Max(x+3,0),6)/6
Abs(Abs(x)-1); Max(x,0)+Min(0,exp(Min(x,0))-1); Max(x**2-1,0); Max(x,0)*exp(-0.45*x**2)+0.15*x; x**8-x/3"""
CASES = [text.strip() for line in CASES.splitlines() for text in line.split(";")]


def evaluated(activation, n, layouts, arguments):
    """The generated function of some averages over n fields, run."""
    group = activation.group(n, layouts)
    outcome = Derived(group.derived.values, group.derived.definitions)
    text = emit.function(Formula("f", "Averages.", group.arguments, outcome))
    scope = dict(NAMESPACE)
    exec(text.replace("from __future__", ""), scope)
    values = scope["f"](*arguments)
    return {layout: float(values[group.index[layout]]) for layout in layouts}


def shape(activation):
    """g and g' as code evaluates them."""
    return [eval(f"lambda x: {emit.code(activation.evaluated(order))} + 0*x", dict(NAMESPACE)) for order in (0, 1)]


def largest(activation):
    """The largest of the formulas of g, and of g'."""
    result = {}
    for order, factor in enumerate(("g", "dg")):
        formulas = [emit.code(value.diff(VARIABLE, order)) for value in activation.pieces.values]
        both = [eval(f"lambda x: absolute({formula}) + 0*x", dict(NAMESPACE)) for formula in formulas]
        result[factor] = lambda x, both=both: np.max([one(x) for one in both], axis=0)
    return result


def rule(mean, deviation, kinks, order=24):
    """Nodes and weights of N(mean, deviation^2): panels of half a deviation to 14 of them, that end at kinks."""
    edges = mean + deviation * np.linspace(-14, 14, 57)
    edges = np.unique([*edges, *(k for k in kinks if edges[0] < k < edges[-1])])
    nodes, weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(edges)[:, None] / 2
    x = (edges[:-1, None] + half * (1 + nodes)).ravel()
    density = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    return x, (half * weights).ravel() * density


def check(activation, mean, covariance, digits=1e-12):
    """All of ONE and TWO against quadrature, relative to the root mean squares of the factors.

    A factor counts as the largest of the smooth formulas between which its kinks choose: those cancel far out.
    """
    (g, dg), kinks = shape(activation), [float(eval(k)) for k, _ in activation.kinks()]
    functions = {"g": g, "dg": dg}
    x, w = rule(mean[0], math.sqrt(covariance[0][0]), kinks)
    sizes = largest(activation)
    norm = {f: math.sqrt(w @ sizes[f](x) ** 2) for f in functions}
    found = evaluated(activation, 1, ONE, (mean[0], covariance[0][0]))
    for layout in ONE:
        parts = layout.split("*")
        expected = w @ math.prod(functions[f](x) for f in parts)
        assert abs(found[layout] - expected) <= digits * max(1e-300, math.prod(norm[f] for f in parts)), layout
    c00, c01, c11 = covariance[0][0], covariance[0][1], covariance[1][1]
    found = evaluated(activation, 2, TWO, (*mean, c00, c01, c11))
    y, u = rule(mean[1], math.sqrt(c11), kinks)
    size = {f: norm[f] * math.sqrt(u @ sizes[f](y) ** 2) for f in functions}
    x, w = rule(mean[0], math.sqrt(c00), kinks, order=16)
    inner = {"g": np.empty_like(x), "dg": np.empty_like(x)}
    for i, point in enumerate(x):
        y, u = rule(mean[1] + c01 / c00 * (point - mean[0]), math.sqrt(c11 - c01**2 / c00), kinks, order=12)
        for f, values in inner.items():
            values[i] = u @ functions[f](y)
    for layout in TWO:
        one, other = layout.split(",")
        expected = w @ (functions[one](x) * inner[other])
        scale = math.sqrt(size[one] * size[other]) if one == other else max(size.values())
        assert abs(found[layout] - expected) <= digits * scale, layout


@pytest.mark.parametrize("text", CASES)
def test_written(text):
    activation = Activation("custom", str(parse(text)))
    screen(activation)
    check(activation, (0.4, -0.2), ((1.3, -0.5), (-0.5, 0.7)))


DRAW = (Phase.explicit, Phase.reuse, Phase.generate)  # an example that fails is shown as it is: each takes seconds
number = st.sampled_from(["0.1", "0.3", "1/3", "0.7", "1.67326", "2", "0.5773502691896258", "-0.4", "-1.1"])
linear = st.builds("({}*x+{})".format, number, number)
smooth = st.one_of(
    st.builds("erf({})".format, linear),
    st.builds("exp(-{}**2)".format, linear),
    st.builds("exp({})".format, linear),
    st.builds("sin({})".format, linear),
    st.builds("{}**2".format, linear),
    linear,
)
kinked = st.one_of(
    st.builds("Max({},{})".format, linear, linear),
    st.builds("Min(Max({},-1),0.5)".format, linear),
    st.builds("Abs(Abs({})-{})".format, linear, number),
    st.builds("Max({}**2-0.7,0)".format, linear),
)
written = st.one_of(
    smooth,
    kinked,
    st.builds("{}+{}".format, smooth, smooth),
    st.builds("{}*{}+{}".format, number, kinked, linear),
    st.builds("{}*{}".format, linear, kinked),
)


@given(
    text=written,
    mean=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    deviation=st.tuples(st.floats(0.3, 1.5), st.floats(0.3, 1.5)),
    correlation=st.floats(-0.9, 0.9),
)
@settings(max_examples=20, deadline=None, phases=DRAW, suppress_health_check=list(HealthCheck))
def test_any_expression_of_the_grammar(text, mean, deviation, correlation):
    """Products of a wave and a step, or an erf, have no closed form; all else that is drawn has."""
    activation = Activation("custom", str(parse(text)))
    if not activation.expression.free_symbols or activation.jumps:
        return
    a, b = deviation
    covariance = ((a * a, correlation * a * b), (correlation * a * b, b * b))
    if activation.expression.has(sympy.sin) and (activation.pieces.points or activation.expression.has(sympy.erf)):
        with pytest.raises(NoClosedForm, match="times a step"):
            activation.group(1)
        return
    check(activation, mean, covariance, 1e-11)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exp(exp(exp(exp(x))))", "exponentials"),
        ("exp(exp(x))", "grows like"),
        ("x**(1/3)", "not finite and real"),
        ("Abs(x)**(1/3)", "not finite and real"),
        ("x**40", "40"),
    ],
)
def test_refused_with_a_reason(text, reason):
    with pytest.raises(ValueError, match=reason):
        screen(Activation("custom", str(parse(text))))


def test_what_takes_long_is_told_before_and_what_takes_too_long_is_sampled(caplog):
    with caplog.at_level("INFO", logger="quenched.symbolic"):
        module = user_activation("x**12+Max(x**2-1,0)")
    assert "custom_g" in module
    assert "custom_4" not in module
    (said,) = [record.message for record in caplog.records]
    assert "in closed form would take about" in said
    assert "minutes: they are sampled" in said


def test_more_than_twenty_six_names():
    outcome = Activation("custom", "cos(x)**3+sin(x)").group(2).derived
    names = [str(symbol) for symbol, _ in outcome.definitions]
    assert len(set(names)) == len(names)
    assert any(name.endswith("aa") for name in names)


def test_a_reader_gets_the_averages_of_a_built_in_too():
    assert "def custom_4(" not in user_activation("Max(0, x)")
    assert "def custom_4(" in user_activation("Max(0, x)", whole=True)
