"""The notation of docstrings as mathematics: what is set, what stays text."""

import ast
import re
from pathlib import Path

import pytest

from quenched.symbolic.language.prose import mathematics, prose
from quenched.symbolic.manuscript.literature import LITERATURE, bibliography, bibtex, cited, unknown

LETTERS = {"ridge": r"\lambda", "weight_plus": "P_{+}"}


@pytest.mark.parametrize(
    ("ascii", "latex"),
    [
        ("n = alpha D samples of a mixture", r"$n = \alpha D$ samples of a mixture"),
        ("a network of K neurons, each with a weight w_k", r"a network of $K$ neurons, each with a weight $w_{k}$"),
        ("given the cluster a, x is normal", "given the cluster $a$, $x$ is normal"),
        ("in cluster a along", "in cluster $a$ along"),
        ("A, the weights", "$A$, the weights"),
        ("A sample is drawn", "A sample is drawn"),
        ("of order D^-1/2, or 1/sqrt(D)", r"of order $D^{-1/2}$, or $1/\sqrt{D}$"),
        ("|x|^2/2 and x.x'/D", r"$|x|^{2}/2$ and $x\cdot x'/D$"),
        ("the moments E zeta^2n", r"the moments $E \zeta^{2n}$"),
        ("as D -> infinity, (closed form)", r"as $D \to  \infty$, (closed form)"),
        ("where R <= 1 it holds (in two ways)", r"where $R \le  1$ it holds (in two ways)"),
        ("psi^(j)(rho) of g', g'' and He_j", r"$\psi^{(j)}(\rho)$ of $g'$, $g''$ and $\operatorname{He}_{j}$"),
        ("sum_(a in y) p(a|y) over all", r"$\sum_{a \in  y} p(a|y)$ over all"),
        ("with dl/dphi = F0 + F1 phi", r"with $dl/d\phi = F_{0} + F_{1} \phi$"),
        ("a D-dimensional input", "a $D$-dimensional input"),
        ("erf(x/sqrt 2), not erf(x)", r"$\operatorname{erf}(x/\sqrt{2})$, not $\operatorname{erf}(x)$"),
        ("g = x**2 - 1", "$g = x^{2} - 1$"),
        ("at ridge lambda' and weight_plus", r"at ridge $\lambda'$ and $P_{+}$"),
        ("<g'_k g_i>_a is an average", r"$\langle g'_{k} g_{i}\rangle _{a}$ is an average"),
        ("Stein's lemma, a field's mean; 3 fields, 100 % of", r"Stein's lemma, a field's mean; 3 fields, 100 \% of"),
        ("`some_name`, see `x`", r"\texttt{some\_name}, see \texttt{x}"),
        ("the error theta - theta* below alpha*.", r"the error $\theta - \theta^{*}$ below $\alpha^{*}$."),
        ("ridge = lambda = x_1, ridge_a", r"$\lambda = x_{1}$, $\operatorname{ridge}_{a}$"),
        ("the vector x_ridge", r"the vector $x_{\mathrm{ridge}}$"),
        ("a classification_error along neuron_ of x_ridge", r"a \texttt{classification\_error} along \texttt{neuron\_} "
         r"of $x_{\mathrm{ridge}}$"),
        ("a fraction 1e-4 of 2.5e-12", r"a fraction $10^{-4}$ of $2.5\cdot 10^{-12}$"),
        ("x = 2 ridge steps of `a --flag`", r"$x = 2 \lambda$ steps of \texttt{a -{}-flag}"),
    ],
)  # fmt: skip
def test_inline(ascii: str, latex: str) -> None:
    assert prose(ascii, LETTERS) == latex


def test_paragraphs_lists_displays_and_examples() -> None:
    docstring = """Words of w_k.

    * *Stein*: E[x F] = E[dF]
    * two

        y <- A x,  all of it
        r = (K + ridge)^-1

    >>> hidden
    """
    text = prose(docstring, LETTERS)
    assert text.split("\n\n") == [
        "Words of $w_{k}$.",
        "\\begin{itemize}\n\\item \\emph{Stein}: $E[x F] = E[dF]$\n\\item two\n\\end{itemize}",
        "\\begin{display}\n$\\displaystyle y \\leftarrow  A x$,\\qquad all of it\\\\\n"
        "$\\displaystyle r = (K + \\lambda)^{-1}$\n\\end{display}",
    ]


def test_references_are_asked_for() -> None:
    assert prose("see `gradients.py` and two_layer.py", reference=lambda name: f"[{name}]") == (
        "see [gradients.py] and [two_layer.py]"
    )


def test_mathematics_of_words() -> None:
    assert mathematics("Phi_n(the others, given z_i = h_i)") == (
        r"\Phi_{n}(\text{the others, given }z_{i} = h_{i})"
    )  # fmt: skip


def test_authors_and_years_are_citations() -> None:
    assert cited("(El Karoui 2010 for one)") == r"(El Karoui \cite{elkaroui2010} for one)"
    assert cited("Goldt, Advani and others 2019 and Goldt and\nothers 2020") == (
        r"Goldt et al. \cite{goldt2019} and Goldt et al. \cite{goldt2020}"
    )
    for year in (2020, 2023):  # the preprint, and the publication
        assert prose(cited(f"by Hu and Lu ({year}).")) == r"by Hu and Lu~\cite{hu2020}."
    assert unknown(cited("Saad and Solla 1995, Nobody 1901")) == ["Nobody 1901"]


def test_every_work_that_docstrings_and_pages_name_is_a_record() -> None:
    """Those of symbolic/ are cited in the document, where `test_document.py` looks for them."""
    root = Path(__file__).resolve().parents[2]
    texts = {path: path.read_text() for path in (root / "docs").glob("**/*.md") if "_build" not in path.parts}
    for path in (*(root / "numerics").rglob("*.py"), *(root / "sim").rglob("*.py")):
        found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, (ast.Module, ast.FunctionDef))]
        texts[path] = "\n\n".join(ast.get_docstring(node) or "" for node in found)
    known = {path: re.sub(r"\((\d{4}), ", r"(\1) (", re.sub(r"\s+", " ", text)) for path, text in texts.items()}
    assert len(known) > 100
    assert {str(path): names for path, text in known.items() if (names := unknown(cited(text)))} == {}


def test_every_work_is_a_record_of_bibtex() -> None:
    keys = [work.key for work in LITERATURE]
    assert len(set(keys)) == len(keys)
    assert bibtex().count("@") == len(keys)
    assert bibliography("", keys).count(r"\bibitem") == len(keys)
    assert bibliography(r"\cite{price1958}").count(r"\bibitem") == 1
    assert "  journal = {Physical Review E},\n  volume = {52},\n  pages = {4225},\n  year = {1995}" in bibtex(
        ["saad1995"]
    )
    assert "Physical Review E 52, 4225 (1995)." in bibliography(r"\cite{saad1995}")
    for work in LITERATURE:  # neither volumes nor pages nor years in a name
        assert not any(letter.isdigit() for letter in work.place), work.key
