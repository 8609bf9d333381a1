"""The document of the derivation: broken formulas keep their meaning, text is escaped, pdflatex accepts the whole."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import sympy

from quenched.symbolic.document import latex as whole_document
from quenched.symbolic.language.latex import breakable, document, latex
from quenched.symbolic.language.notation import Derived, Formula, Step, derived
from quenched.symbolic.learners import oracle


def compiled(text: str, folder: Path) -> str:
    """The log of pdflatex."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    (folder / "derivation.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "derivation.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="latin-1", check=False)
    assert result.returncode == 0, result.stdout[-2000:]
    return (folder / "derivation.log").read_text("latin-1")


def tokens(line: str) -> list[str]:
    """What is printed, spaces and grouping aside."""
    bare = re.sub(r"\\(left|right|bigl|bigr|allowbreak)(?![a-z])", "", line)
    return re.findall(r"\\[A-Za-z]+|[^\s{}]", bare)


LINES = [step.latex for f in oracle.FORMULAS for step in derived(f).steps]


@pytest.mark.parametrize("line", LINES)
def test_wide_limits_change_nothing(line: str) -> None:
    assert tokens(breakable(line, limit=1e6)) == tokens(line)


@pytest.mark.parametrize("line", [line for line in LINES if r"\frac" not in line])
def test_opened_delimiters_keep_their_content(line: str) -> None:
    assert tokens(breakable(line, limit=3)) == tokens(line)


def test_wide_fractions_become_quotients() -> None:
    assert breakable(r"\frac{a + b}{c}^{2}", limit=1) == r"\bigl(a + b\bigr)\mathbin{\big/}\bigl(c\bigr)^{2}"
    assert r"\left" not in breakable(r"\Phi\left(\frac{a + b + c + d}{2}\right)", limit=3)


def test_letters_of_the_paper() -> None:
    a, k, i = (sympy.Idx(name) for name in "aki")
    assert latex(sympy.IndexedBase("dg_g")[a, k, i]) == r"\langle g'_{k}\,g_{i} \rangle_{a}"
    assert latex(sympy.IndexedBase("sigma2")[a]) == r"\sigma_{a}^{2}"
    assert latex(sympy.Symbol("m1_0")) == "m_{1|0}"
    assert latex(sympy.Symbol("sigma")) == r"\sigma"
    assert latex(sympy.Integer(2) ** 50) == "2^{50}"


def test_any_docstring_compiles(tmp_path: Path) -> None:
    x = sympy.Symbol("separation", positive=True)
    docstring = r"""100 % of {this} & #that_there ~ costs $5^2 \ or `code_x`: |x| <= ±1.

        x_1  ->  y^2

    >>> hidden
    """
    outcome = Derived(
        x**2, steps=(Step("a_b & c", r"\left\{x \mid x > 0\right\} = \begin{pmatrix}1 & 2\\3 & 4\end{pmatrix}"),)
    )
    text = document([("Title & more", docstring, [Formula("f_1", docstring, (x,), outcome)], {"separation": "r"})])
    assert "hidden" not in text
    assert r"\texttt{separation}~$= r$" in text
    assert r"\mathrm{f\_1}(r) = r^{2}" in text
    compiled(text, tmp_path)


def test_the_derivation_compiles_and_stays_on_the_page(tmp_path: Path) -> None:
    log = compiled(whole_document(), tmp_path)
    overfull = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(overfull, default=0) < 5  # of a margin of 71
    assert "Missing character" not in log
    assert "LaTeX Warning: Reference" not in log
