"""The pages of docs/: examples print what stands there, commands and names exist, the site is built strictly."""

import doctest
import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from quenched.sim.cli.main import main, verbs
from quenched.sim.figures import figures
from quenched.sim.specifications import read_problem, read_spec

derived_here = pytest.mark.usefixtures("derived_here")

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("*/*.md")]) if "_build" not in path.parts]
TEXT = (DOCS / "averages.md").read_text(encoding="utf-8")
PUBLIC = [(package, name) for package in ("numerics", "sim") for name in import_module(f"quenched.{package}").__all__]
PREFACE = TEXT.partition("\n## ")[0]
EXAMPLES = re.findall(r"^## (\d+)\. (.*?)\n(.*?)(?=^## |\Z)", TEXT, flags=re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"^(value|error) +(\S+)$", flags=re.MULTILINE)


def numbers(text: str) -> dict[str, float]:
    """Value and error of an answer of `quenched average`."""
    return {name: float(number) for name, number in NUMBER.findall(text)}


def test_there_are_twenty_with_a_formula_and_a_result_each() -> None:
    assert [int(number) for number, _, _ in EXAMPLES] == list(range(1, len(EXAMPLES) + 1))
    assert len(EXAMPLES) >= 20
    for number, title, body in EXAMPLES:
        assert "$$" in body, f"{number}. {title}: no formula"
        assert "```console" in body or "```python" in body, f"{number}. {title}: no command and no call"


@derived_here
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


@derived_here
def test_the_calls_of_the_preface_return_what_stands_there() -> None:
    assert run_calls("preface", PREFACE) == 1


def run_calls(title: str, text: str) -> int:
    """Run the blocks of Python as doctests, each after those before it; their number."""
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, object] = {"__name__": title}
    for block in blocks:
        test = doctest.DocTestParser().get_doctest(block, names, title, title, None)
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
        assert runner.run(test, clear_globs=False).failed == 0
        names = test.globs
    return len(blocks)


# --- the other pages


@pytest.mark.parametrize("path", sorted((DOCS / "how_to").glob("*.md")), ids=lambda path: path.stem)
def test_the_examples_of_a_page_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quenched.numerics.learners._EXTRA", {})
    monkeypatch.setitem(sys.modules, path.stem, sys.modules[__name__])  # the module of classes that a page defines
    text = path.read_text(encoding="utf-8")
    assert run_calls(path.stem, text) == text.count("```python\n")


def test_the_specifications_of_the_pages_are_read(tmp_path: Path) -> None:
    (problem,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how_to" / "problem.md").read_text(), flags=re.DOTALL)
    (grid,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how_to" / "cluster.md").read_text(), flags=re.DOTALL)
    for name, text in (("problem", problem), ("grid", grid)):
        (tmp_path / f"{name}.toml").write_text(text)
    found = read_problem(tmp_path / "problem.toml")
    assert (found.D, found.seeds, len(found.t)) == (500, (0, 1, 2, 3, 4), 61)
    assert len(read_spec(tmp_path / "problem.toml").cells()) == 5
    assert len(read_spec(tmp_path / "grid.toml").cells()) == 2 * 2 * 2 * 2 * 8


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES], ids=lambda path: path.stem)
def test_commands_have_verbs_and_flags_that_exist(path: Path) -> None:
    """`quenched VERB --flag`, in blocks of commands."""
    for line in re.findall(r"^    (?:\S*/)?quenched (.*?)(?: {2,}#.*)?$", path.read_text(), flags=re.MULTILINE):
        verb, *rest = shlex.split(line)
        assert verb in verbs() or verb == "--version", line
        known = inspect.signature(import_module(f"quenched.sim.cli.{verb.replace('-', '_')}").VERB).parameters
        written = {flag.removeprefix("--").replace("-", "_") for flag in rest if flag.startswith("--")}
        assert written <= {*known, "time", "output"}, line


def test_the_gallery_lists_every_figure() -> None:
    text = (DOCS / "gallery.md").read_text()
    assert [name for name in figures() if f"| `{name}` |" not in text] == []


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_a_public_name_is_in_the_reference_with_an_example(package: str, name: str) -> None:
    directive = re.compile(rf"^\.\. auto(class|function):: quenched\.{package}\.{name}$", flags=re.MULTILINE)
    assert sum(len(directive.findall(path.read_text())) for path in (DOCS / "api").glob("*.md")) == 1
    assert ">>>" in (inspect.getdoc(getattr(import_module(f"quenched.{package}"), name)) or "")


def test_the_site_is_built_strictly(tmp_path: Path) -> None:
    """Once, offline, without running a notebook: no warning, every page, formulas as MathML."""
    if find_spec("sphinx") is None and not os.environ.get("CI"):
        pytest.skip("the site needs the extra docs, which is not installed here")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "--keep-going",
        "-d",
        str(tmp_path / "trees"),
    ]
    done = subprocess.run([*command, str(DOCS), str(tmp_path / "site")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.relative_to(DOCS).with_suffix(".html")).is_file(), page
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        assert (tmp_path / "site" / "tutorials" / f"{notebook.stem}.html").is_file(), notebook
    problem = (tmp_path / "site" / "api" / "problem.html").read_text(encoding="utf-8")
    assert problem.count("<math") > 100
    assert "cdn" not in problem
