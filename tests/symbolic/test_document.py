"""What `quenched derive` writes: theory/ is what the derivation gives, in every process; `check` sees any difference.

The document: in the order of the argument, without trivial lines or ASCII, all references resolved, on the page.  Both
are tested in one file, that is, in one process: a formula is derived once.
"""

import re
import shutil
import subprocess
from pathlib import Path

import mpmath
import pytest
import sympy

from quenched.symbolic import document, generate
from quenched.symbolic.calculus import worked_averages
from quenched.symbolic.language.emit import code
from quenched.symbolic.language.notation import Derived, Formula, Step
from quenched.symbolic.language.prose import GREEK
from quenched.symbolic.learners import two_layer
from quenched.symbolic.manuscript.front import PARTS, SYMBOLS, front
from quenched.symbolic.manuscript.literature import unknown
from quenched.symbolic.manuscript.typeset import Book, Chapter

THEORY = Path(__file__).parents[2] / "theory"
DIGITS = {"rates": "12.3 digits in float64", "relu_1": "27.0 digits at high precision"}


# --- theory/


@pytest.fixture(scope="module")
def derived() -> dict[str, str]:
    """All modules, derived once in this process.

    Its hash seed is a random one, and so was that of the process that wrote theory/: text that depends on it differs.
    """
    return generate.modules()


@pytest.fixture
def derived_once(derived: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "modules", lambda: derived)


@pytest.mark.usefixtures("derived_once")
def test_theory_is_up_to_date(update: bool) -> None:
    if update:
        generate.write(THEORY)
    messages = generate.check(THEORY)
    assert not messages, "regenerate with `quenched derive`\n" + "\n".join(messages)


@pytest.mark.usefixtures("derived_once")
def test_check_names_stale_missing_and_extra_files(tmp_path: Path) -> None:
    folder = tmp_path / "theory"
    shutil.copytree(THEORY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    stale = folder / "averages" / "linear.py"
    stale.write_text(stale.read_text().replace("m0", "M0", 1))
    (folder / "two_layer.py").unlink()
    (folder / "extra.py").write_text("x = 1\n")
    messages = generate.check(folder)
    assert [m.splitlines()[0] for m in messages] == [
        "stale: theory/averages/linear.py",
        "extra: theory/extra.py",
        "missing: theory/two_layer.py",
    ]
    assert "M0" in messages[0]
    assert sorted(generate.write(folder)) == ["averages/linear.py", "extra.py", "two_layer.py"]
    assert generate.check(folder) == []


def test_numbers_that_no_float_holds_are_ratios_and_turn_no_exponential_over() -> None:
    x = sympy.Symbol("x", real=True)
    third = sympy.Rational(1, 3)
    assert code(sympy.exp(-(x**2)) + third) == "ratio(1, 3) + exp(-x**2)"
    assert code(x / (x + third)) == "x/(x + ratio(1, 3))"
    assert code(2 * (x - third) ** 2) == "2*(x - ratio(1, 3))**2"
    assert code(x / 3 + sympy.Rational(3, 4)) == "x/3 + 3/4"
    assert code(x * 10**20) == "ratio(100000000000000000000, 1)*x"
    assert code(sympy.E * x ** sympy.Rational(-2, 3)) == "exp(1)/x**(ratio(2, 3))"


def test_long_sums_are_nested() -> None:
    """A reader of Python text descends once for each term of a sum: 1000 are too many."""
    terms = sympy.symbols("a0:1500")
    text = code(sympy.Add(*terms))
    assert eval(text, {str(term): 1 for term in terms}) == 1500


# --- the document


def compiled(text: str, folder: Path, runs: int = 1) -> str:
    """The log of pdflatex."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed")
    (folder / "derivation.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "derivation.tex"]
    for _ in range(runs):
        result = subprocess.run(command, cwd=folder, capture_output=True, encoding="latin-1", check=False)
        assert result.returncode == 0, result.stdout[-2000:]
    return (folder / "derivation.log").read_text("latin-1")


def assert_on_the_page(log: str) -> None:
    overfull = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(overfull, default=0) < 5  # of a margin of 71
    assert "Missing character" not in log
    assert "LaTeX Warning: Reference" not in log
    assert "LaTeX Warning: Citation" not in log
    assert "multiply defined" not in log


def assert_well_set(text: str) -> None:
    """Nothing that TeX refuses, or that no author would write; without a LaTeX engine."""
    faults = {
        "double subscript": r"_\{[^{}]*\}_|_\{[^{}]*\{[^{}]*\}[^{}]*\}_",
        "minus within a fraction": r"\\frac\{-",
        "lost star": r"\w\\,\$|\w\\,\^",
        "empty index": r"_\{\}",
        "index outside its braces": r"_\{[a-z]\},[a-z]\b(?!\()",
        "a function in italics": r"\\operatorname\{(?:sqrt|asin)\}",
        "exponent outside its braces": r"\^\{-\d\}[a-z]",
    }
    body = text[text.index(r"\begin{document}") :]
    for name, fault in faults.items():
        assert re.findall(f".{{0,40}}(?:{fault}).{{0,20}}", body) == [], name
    formulas = re.findall(r"\$([^$]*)\$", body)
    assert [f for f in formulas if re.search(r"(?:^|, | = )([^=,]*[^=,\s]) = \1(?= = |,|$)", f)] == []


def words(text: str) -> str:
    """What stands in words: mathematics, code, labels and references left out."""
    text = text[text.index(r"\begin{document}") : text.index(r"\begin{thebibliography}")]
    text = re.sub(r"\\texttt\{[^}]*\}|\\(?:label|eqref|ref|cite|numbered)\{[^}]*\}|\\hyperref\[[^\]]*\]", "", text)
    text = re.sub(r"\\texorpdfstring\{([^}]*)\}\{[^}]*\}", r"\1", text)
    return re.sub(r"\$[^$]*\$", "", text)


@pytest.fixture(scope="module")
def book() -> Book:
    return document.book(DIGITS)


@pytest.fixture(scope="module")
def text(book: Book) -> str:
    return book.document(front(book), PARTS)


def test_the_derivation_compiles_and_stays_on_the_page(text: str, tmp_path: Path) -> None:
    assert_on_the_page(compiled(text, tmp_path, runs=2))


def test_formulas_are_well_set(text: str) -> None:
    assert_well_set(text)


_NAMES = sorted(GREEK | {"varepsilon", "ell", "varrho"}, key=len, reverse=True)


def symbols(latex: str) -> set[str]:
    """Letters of a formula, indices and words aside."""
    latex = re.sub(r"\\(?:text|mbox|texttt|label|numbered|named|operatorname|mathrm)\{[^{}]*\}", "", latex)
    greek = re.findall(rf"\\({'|'.join(_NAMES)})(?![A-Za-z])", latex)
    bare = re.sub(r"[_^]\{[^{}]*\}|[_^]\w", "", re.sub(r"\\[A-Za-z]+", "", latex))
    return {*greek, *re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", bare)}


def said(prose: str) -> set[str]:
    return symbols(" ".join(re.findall(r"\$([^$]*)\$", prose)))


def test_every_symbol_is_defined_before_it_is_used(book: Book) -> None:
    """By the table of symbols, the head of the chapter, the text of the section, or a line before."""
    table = said(" ".join(book.prose(text) for row in SYMBOLS for text in row)) | {"pi", "d", "e", "n"}
    assert {"lambda", "R", "chi"} <= table
    missing = []
    for chapter in book.chapters:
        if chapter.part == "tables":
            continue
        head = table | said(book.prose(chapter.docstring, chapter)) | symbols(" ".join(chapter.letters.values()))
        for formula in chapter.formulas:
            known = head | said(book.prose(formula.docstring, chapter)) | {a.name for a in formula.arguments}
            for step in book.told(formula, chapter):
                lefts = re.findall(r"(?:^|,|;|\\quad|\\ )\s*([^=,;]{1,40}?)=", step.latex)
                bound = re.findall(r"(?<![A-Za-z\\])d(\\[a-z]+|[a-z])", step.latex)  # of an integral
                known |= symbols(" ".join([*lefts, *bound]))
                missing += [(formula.name, symbol, step.latex) for symbol in sorted(symbols(step.latex) - known)]
    assert missing == []


def test_chapters_stand_in_the_order_of_the_argument(book: Book) -> None:
    places = [list(PARTS).index(chapter.part) for chapter in book.chapters]
    assert places == sorted(places)
    assert all(subject.PART in set(PARTS) - {"further"} for subject in generate.subjects())
    stands = [(subject.PART, subject.ORDER) for subject in generate.subjects()]
    assert len(set(stands)) == len(stands), "two chapters in one place"


def test_references_and_citations_resolve(text: str) -> None:
    labels = re.findall(r"\\(?:label|numbered)\{([^}]*)\}", text)
    assert len(set(labels)) == len(labels)
    wanted = re.findall(r"\\(?:eq)?ref\{([^}]*)\}", text) + re.findall(r"\\hyperref\[([^\]]*)\]", text)
    assert set(wanted) <= set(labels)
    assert len(set(wanted)) > 80
    cites = {key for group in re.findall(r"\\cite\{([^}]*)\}", text) for key in group.split(",")}
    assert cites == set(re.findall(r"\\bibitem\{([^}]*)\}", text))
    assert unknown(words(text)) == []


def test_words_hold_no_ascii_mathematics(text: str) -> None:
    greek = "|".join(sorted(GREEK | {"sqrt", "Lam", "Vh", "qh", "mh", "vhat", "uhat"}))
    ascii = rf"\\_|\\textasciicircum|\\textless\{{\}}|\\textgreater|\b(?:{greek})\b|\*\*|\w\*\w|\w/sqrt"
    assert re.findall(rf"[^\n]*(?:{ascii})[^\n]*", words(text)) == []


def test_no_line_is_trivial(text: str) -> None:
    lines = re.findall(r"\\displaystyle (.*?)\$\\numbered", text)
    assert len(lines) > 1000
    assert not [line for line in lines if re.search(r"\\rangle = -?\d+$|E\\left\[\s*[01]\s*\\right\]", line)]


def test_results_name_their_functions_and_certificates(text: str) -> None:
    for name in ("two_layer.rates", "oracle.xor", "bayes.conjugate", "normal.Phi4", "averages.relu.relu_1"):
        escaped = name.replace("_", r"\_")
        assert rf"Function: \texttt{{theory.{escaped}}}." in text
    assert r"Function: \texttt{theory.two\_layer.rates}. Certificate: 12.3 digits in float64." in text
    assert "27.0 digits at high precision" in text


def test_the_learning_equations_come_step_by_step() -> None:
    names = [formula.name for formula in two_layer.derivations()]
    assert names == ["update", "inner_products", "increments", "rates", "on_sphere", "step_averages"]
    before, after = (step.latex for step in two_layer.derivations()[2].outcome.steps[1::2])
    assert r"\frac{\kappa^{2} Q_{ukl} \eta_{k} \eta_{l}}{D}" in before  # what the limit drops
    assert r"\kappa^{2}" not in after


def test_worked_averages_end_on_known_values() -> None:
    """Centred, c = [[1, r], [r, 4]]: (2 + r)/sqrt(8 pi) for relu, by hand, and 2 asin(r/sqrt 10)/pi for erf."""
    relu, erf = (formula.outcome for formula in worked_averages.derivations())
    at = {"m0": 0, "m1": 0, "c00": 1, "c01": sympy.Rational(1, 3), "c11": 4}
    r = mpmath.mpf(1) / 3
    for outcome, expected in (
        (relu, (2 + r) / mpmath.sqrt(8 * mpmath.pi)),
        (erf, 2 * mpmath.asin(r / 10**0.5) / mpmath.pi),
    ):
        explicit = outcome.explicit()[0]
        value = explicit.subs({symbol: at[symbol.name] for symbol in explicit.free_symbols})
        assert float(value.doit().evalf(15)) == pytest.approx(float(expected), rel=1e-14)


def test_any_docstring_compiles(tmp_path: Path) -> None:
    x = sympy.Symbol("separation", positive=True)
    docstring = r"""100 % of {this} & #that_there ~ costs $5^2 \ or `code_x`: |x| <= ±1, x² * {y} -> ∞.

        x_1  ->  y^2

    >>> hidden
    """
    step = Step("a_b & c", r"\left\{x \mid x > 0\right\} = \begin{pmatrix}1 & 2\\3 & 4\end{pmatrix}")
    formula = Formula("f_1", docstring, (x,), Derived(x**2, steps=(step,)))
    text = Book([Chapter("more", "Title & more", docstring, [formula], {"separation": "r"}, part="own")]).document(
        "", {"own": ("Part & 1", "")}
    )
    assert "hidden" not in text
    assert r"$r$ is \texttt{separation}" in text
    assert r"\mathrm{f\_1}(r) = r^{2}" in text
    compiled(text, tmp_path)


@pytest.mark.parametrize(("activation", "loss"), [("x**2 - 2", "(phi - y)**2"), ("tanh(x)", "logistic")])
def test_a_document_of_ones_own(activation: str, loss: str, tmp_path: Path) -> None:
    text = document.own(activation, loss, {f"{activation.replace(' ', '')}_1": "25 digits"})
    assert text.index("Inner products") < text.index(r"dQ_{ukl}/dt") < text.index("Step averages")
    assert (r"\langle g'_{k}\,g_{i} \rangle_{a}" in text) == (loss != "logistic")
    assert ("no closed form" in text) == (activation == "tanh(x)")
    assert_well_set(text)
    log = compiled(text, tmp_path, runs=2)
    assert_on_the_page(log)
    assert int(re.findall(r"\((\d+) pages", log)[0]) <= 3


def test_a_document_of_ones_own_wants_equations() -> None:
    with pytest.raises(ValueError, match=r"activation 'sign\(x\)' jumps"):
        document.own("sign(x)", "square")
    with pytest.raises(ValueError, match="does not depend on the label y"):
        document.own("relu", "phi**2")
