"""Activations as text: what is read, and what is refused with the reason."""

import pytest
import sympy

from quenched.numerics.averages.activations import averages, value_averages
from quenched.symbolic.activations import Activation, screen
from quenched.symbolic.language.grammar import BUILTIN, FUNCTIONS, NAMED, canonical, expression
from quenched.symbolic.language.parse import VARIABLE, parse
from quenched.symbolic.user import user_activation


@pytest.mark.parametrize(
    "text", ["x**3-3*x", "sin(x)", "Max(x,0)-0.1*Max(-x,0)", "exp(-x**2)", "Abs(x)", "erf(x)+0.1*x"]
)
def test_reads_what_the_issue_lists(text):
    assert parse(text).free_symbols == {VARIABLE}


def test_decimals_are_exact():
    assert parse("0.1*x") == VARIABLE / 10
    assert parse("1e-3 + x") == VARIABLE + sympy.Rational(1, 1000)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "x.__class__",
        "lambda: x",
        "(x for x in x)",
        "x if x else 1",
        "f(x)",
        "sin(x, 2)",
        "sin(x=1)",
        "x**x",
        "x**1000",
        "y",
        "'x'",
        "x\nimport os",
        "",
        "1/0",
        "True",
        "1j*x",
        "x" * 600,
    ],
)
def test_refuses_what_is_not_an_expression_in_x(text):
    with pytest.raises(ValueError, match="activation"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("exp(x**2)", "square-integrable"),
        ("1/x", "not finite"),
        ("1/(3*x - 1)", "pole"),
        ("log(x)", "not finite and real"),
        ("sqrt(x)", "not finite and real"),
        ("2", "constant"),
        ("x^2", r"'\^' at character 2 is not understood \(a power is written x\*\*2\)"),
    ],
)
def test_refuses_what_has_no_equations(text, reason):
    with pytest.raises(ValueError, match=reason):
        screen(Activation("custom", text))


def test_every_name_has_equations():
    for name, text in {**BUILTIN, **NAMED}.items():
        screen(Activation(name, text))


def test_what_a_user_types_never_reaches_generated_code():
    """A comment is legal Python; copied into a docstring it could end it."""
    with pytest.raises(ValueError, match="'#' at character 6 is not understood"):
        user_activation('x**2 #""" + print("owned") + """')


@pytest.mark.parametrize(
    "text", [*BUILTIN.values(), *NAMED.values(), "(x+1)*2/-x**-2", "0.1*x - .5 + 1_000.*x", "2e-3*x"]
)
def test_a_canonical_print_means_the_same_and_is_its_own(text):
    assert parse(canonical(text)) == parse(text)
    assert canonical(canonical(text)) == canonical(text)


def test_names_stand_for_their_expressions():
    assert {canonical(name) for name in [*BUILTIN, *NAMED]} == {*BUILTIN, *NAMED}
    assert expression("relu") == "Max(x, 0)"
    assert parse("swish") == VARIABLE / (1 + sympy.exp(-VARIABLE))
    for name in FUNCTIONS:
        assert parse(f"{name}(x)").has(VARIABLE)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rleu", "did you mean 'relu'"),
        ("((x**12)**12)**12", "of degree 1728"),
        ("((9**12)**12)**12", "not of size"),
        ("(9**12)**12*x", None),
        ("9**9**9*x", "exponent"),
        ("1e999999999*x", "not of size"),
        ("1e-999999999*x", "not of size"),
        ("x/(2 - 2)", "division by zero"),
        ("x*0**-1", "division by zero"),
        ("exp(exp(exp(x)))", "exponentials"),
        ("-" * 400 + "x", "levels"),
        ("(" * 240 + "x" + ")" * 240, "cannot be parsed"),
        ("+".join("x" * 150), "levels"),
        ("x" + " " * 600, None),
        ("x +", r"activation 'x \+': after '\+' at character 3 a number"),
        ("x - ( ", r"after '\(' at character 5"),
        ("*x", r"before '\*' at character 1 a number"),
        ("Max(x, ,1)", r"before ',' at character 8"),
        ("2 x", "before 'x' at character 3 an operator"),
        ("2x", r"'2x' at character 1 is not understood \(a product is written 2\*x\)"),
        ("x)", r"'\)' at character 2 closes nothing"),
        ("x*(1 + x", r"'\(' at character 3 is not closed"),
        ("Max(x,)", None),
    ],
)
def test_limits(text, reason):
    if reason is None:
        assert canonical(text)
    else:
        with pytest.raises(ValueError, match=reason):
            canonical(text)


@pytest.mark.parametrize("text", ["sign(x)", "Heaviside(x)"])
def test_a_jump_has_averages_of_g_alone(text):
    """g' is a delta: there are no learning equations, and there are averages of g for teachers and random features."""
    assert set(value_averages(text).places[0]) == {"g", "g*g"}
    with pytest.raises(ValueError, match="jumps"):
        averages(text)
