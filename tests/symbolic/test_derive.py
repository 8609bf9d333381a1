"""theory/ is what the derivation gives, in every process, and `check` sees any difference."""

import shutil
from pathlib import Path

import pytest
import sympy

from quenched.symbolic import generate
from quenched.symbolic.language.emit import code

THEORY = Path(__file__).parents[2] / "theory"


@pytest.fixture(scope="module")
def derived() -> dict[str, str]:
    """All modules, derived once in this process.

    Its hash seed is a random one, and so was that of the process that wrote theory/: text that depends on it differs.
    """
    return generate.modules()


@pytest.fixture(autouse=True)
def derived_once(derived: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "modules", lambda: derived)


def test_theory_is_up_to_date(request):
    if request.config.getoption("--update"):
        generate.write(THEORY)
    messages = generate.check(THEORY)
    assert not messages, "regenerate with `quenched derive`\n" + "\n".join(messages)


def test_check_names_stale_missing_and_extra_files(tmp_path):
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
