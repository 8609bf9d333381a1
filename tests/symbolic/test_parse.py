"""Activations as text: what is read, and what is refused with the reason."""

import pytest
import sympy

from quenched.symbolic.activations import BUILTIN, NAMED, Activation, screen
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
        ("sign(x)", "jumps"),
        ("Heaviside(x)", "jumps"),
        ("exp(x**2)", "square-integrable"),
        ("1/x", "not finite"),
        ("1/(3*x - 1)", "pole"),
        ("log(x)", "not finite and real"),
        ("sqrt(x)", "not finite and real"),
        ("2", "constant"),
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
    module = user_activation('x**2 #""" + print("owned") + """')
    assert "owned" not in module
