"""The worked examples of docs/ print what stands there."""

import doctest
import re
import shlex
import sys
from pathlib import Path

import pytest

from quenched.sim.cli.main import main

pytestmark = pytest.mark.usefixtures("derived_here")

DOCS = Path(__file__).resolve().parents[1] / "docs"
TEXT = (DOCS / "averages.md").read_text(encoding="utf-8")
PREFACE = TEXT.partition("\n## ")[0]
EXAMPLES = re.findall(r"^## (\d+)\. (.*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"^(value|error) +(\S+)$", flags=re.MULTILINE)


def numbers(text: str) -> dict[str, float]:
    """Value and error of an answer of `quenched average`."""
    return {name: float(number) for name, number in NUMBER.findall(text)}


def test_there_are_twenty_three_with_a_formula_and_a_result_each() -> None:
    assert [int(number) for number, _, _ in EXAMPLES] == list(range(1, 24))
    for number, title, body in EXAMPLES:
        assert "$$" in body, f"{number}. {title}: no formula"
        assert "```console" in body or "```python" in body, f"{number}. {title}: no command and no call"


@pytest.mark.parametrize(("number", "title", "body"), EXAMPLES, ids=[title for _, title, _ in EXAMPLES])
def test_an_example_prints_what_stands_there(
    number: str, title: str, body: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """To the letter; the value of a quadrature to its error, and the error, made of rounding, to a factor 10."""
    for block in re.findall(r"```console\n(.*?)```", body, flags=re.DOTALL):
        for command, expected in re.findall(r"^\$ quenched (.*)\n((?:(?!\$ ).*\n)*)", block, flags=re.MULTILINE):
            monkeypatch.setattr(sys, "argv", ["quenched", *shlex.split(command)])
            with pytest.raises(SystemExit) as end:
                main()
            printed = capfd.readouterr()
            found = printed.out or printed.err
            assert bool(end.value.code) == expected.startswith("quenched: ")
            if "quadrature" in expected or "Monte Carlo" in expected:
                new, old = numbers(found), numbers(expected)
                assert abs(new["value"] - old["value"]) <= old["error"] + 1e-11 * abs(old["value"])  # 12 are printed
                assert old["error"] / 10 <= new["error"] <= 10 * old["error"]
                found, expected = (NUMBER.sub(r"\1", text) for text in (found, expected))
            assert found.split() == expected.split()
    run_calls(title, body)


def test_the_calls_of_the_preface_return_what_stands_there() -> None:
    assert run_calls("preface", PREFACE) == 1


def test_learning_rules_do_what_is_told_of_them() -> None:
    """Each block goes on from those before it."""
    assert run_calls("rules", (DOCS / "rules.md").read_text(encoding="utf-8"), {}) == 5


def run_calls(title: str, text: str, names: dict[str, object] | None = None) -> int:
    """Run the blocks of Python as doctests, all with the same `names` if they are given; their number."""
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names or {}, title, "docs", None)
        if names is not None:
            test.globs = names
        assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, clear_globs=False).failed == 0
    return len(blocks)
