"""LaTeX of expressions: letters are those of the paper, and broken formulas keep their meaning."""

import re

import pytest
import sympy

from quenched.symbolic.language.latex import breakable, latex
from quenched.symbolic.language.notation import derived
from quenched.symbolic.learners import oracle


def tokens(line: str) -> list[str]:
    """What is printed, spaces and grouping aside."""
    bare = re.sub(r"\\(left|right|bigl|bigr|allowbreak)(?![a-z])", "", line)
    return re.findall(r"\\[A-Za-z]+|[^\s{}]", bare)


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """Those of a long derivation."""
    return [step.latex for f in oracle.FORMULAS for step in derived(f).steps]


def test_wide_limits_change_nothing(lines: list[str]) -> None:
    assert [breakable(line, limit=1e6) for line in lines if tokens(breakable(line, limit=1e6)) != tokens(line)] == []


def test_opened_delimiters_keep_their_content(lines: list[str]) -> None:
    plain = [line for line in lines if r"\frac" not in line]
    assert [line for line in plain if tokens(breakable(line, limit=3)) != tokens(line)] == []
    assert len(plain) > 10


def test_wide_fractions_become_quotients() -> None:
    assert breakable(r"\frac{a + b}{c}^{2}", limit=1) == r"\bigl(a + b\bigr)\mathbin{\big/}\bigl(c\bigr)^{2}"
    assert r"\left" not in breakable(r"\Phi\left(\frac{a + b + c + d}{2}\right)", limit=3)


def test_letters_of_the_paper() -> None:
    a, k, i = (sympy.Idx(name) for name in "aki")
    assert latex(sympy.IndexedBase("dg_g")[a, k, i]) == r"\langle g'_{k}\,g_{i} \rangle_{a}"
    assert latex(sympy.IndexedBase("sigma2")[a]) == r"\sigma_{a}^{2}"
    assert latex(sympy.Symbol("m1_0")) == "m_{1|0}"
    assert latex(sympy.Symbol("sigma")) == r"\sigma"
    assert latex(sympy.IndexedBase("dg_g_z")[a, k, i, a]) == r"\delta \langle g'_{k}\,g_{i} \rangle_{a}"
    assert latex(sympy.IndexedBase("force")[a, k]) == r"\operatorname{force}_{ak}{}"
    assert latex(sympy.IndexedBase("F1")[a]) == "F_{1,a}"
    assert latex(sympy.Symbol("spread")) == r"\mathrm{spread}"
    assert latex(sympy.Integer(2) ** 50) == "2^{50}"
    assert latex(sympy.IndexedBase("eta_v")[k]) == r"\eta_{v,k}"
    assert latex(sympy.Heaviside(sympy.Symbol("x"))) == r"H\left(x\right)"


def test_formulas_as_one_writes_them() -> None:
    """One root above and one below a fraction, no sum that starts with a minus sign, the same value."""
    a, b, c = sympy.symbols("a b c", positive=True)
    for expression, printed in (
        (sympy.sqrt(2) * c / (2 * sympy.sqrt(sympy.pi) * sympy.sqrt(a)), r"\frac{c}{\sqrt{2 \pi a}}"),
        (c / (sympy.sqrt(a) * sympy.sqrt(b)), r"\frac{c}{\sqrt{a b}}"),
        (99 * sympy.sqrt(2) * b / (200 * sympy.sqrt(sympy.pi)), r"\frac{99 b}{100 \sqrt{2 \pi}}"),
        (sympy.sqrt(2) * a / (sympy.sqrt(sympy.pi) * b), r"\frac{\sqrt{2} a}{\sqrt{\pi} b}"),
        ((a - b) / c, r"\frac{a - b}{c}"),
        ((b - a) / c, r"\frac{b - a}{c}"),
        ((-a - b) / c, r"- \frac{a + b}{c}"),
        (1 + (-a - b) / c, r"1 - \frac{a + b}{c}"),
        (1 - (-a - b) / c, r"1 + \frac{a + b}{c}"),
        (4 * a - 2 * b + 1 - 2 * c, "4 a - 2 b - 2 c + 1"),
        (sympy.asin(a), r"\arcsin{\left(a \right)}"),
    ):
        assert latex(expression) == printed
