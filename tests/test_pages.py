"""The pages of docs/: examples print what stands there, commands and names exist, the site is built strictly."""

import doctest
import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from quenched.sim.cli.main import app, verbs
from quenched.sim.drawing.captions import read
from quenched.sim.drawing.style import LEVEL
from quenched.sim.figures import about, figures
from quenched.sim.specifications import read_problem, read_spec

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("*/*.md")]) if "_build" not in path.parts]
PUBLIC = [(package, name) for package in ("numerics", "sim") for name in import_module(f"quenched.{package}").__all__]


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


@pytest.mark.parametrize("path", sorted((DOCS / "how_to").glob("*.md")), ids=lambda path: path.stem)
def test_the_examples_of_a_page_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quenched.numerics.learners._EXTRA", {})
    monkeypatch.setitem(sys.modules, path.stem, sys.modules[__name__])  # the module of classes that a page defines
    text = path.read_text(encoding="utf-8")
    assert run_calls(path.stem, text) == text.count("```python\n")


def test_the_specifications_of_the_pages_are_read(tmp_path: Path) -> None:
    problem, *others = re.findall(r"```toml\n(.*?)```", (DOCS / "how_to" / "problem.md").read_text(), flags=re.DOTALL)
    (grid,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how_to" / "cluster.md").read_text(), flags=re.DOTALL)
    for name, text in (("problem", problem), ("grid", grid)):
        (tmp_path / f"{name}.toml").write_text(text)
    found = read_problem(tmp_path / "problem.toml")
    assert (found.D, found.seeds, len(found.t)) == (500, (0, 1, 2, 3, 4), 61)
    assert len(read_spec(tmp_path / "problem.toml").cells()) == 5
    for i, text in enumerate(others):
        (tmp_path / f"{i}.toml").write_text(text)
        read_problem(tmp_path / f"{i}.toml")
    assert len(read_spec(tmp_path / "grid.toml").cells()) == 2 * 2 * 2 * 2 * 8


@pytest.mark.parametrize("path", [*ROOT.glob("[A-Z]*.md"), *PAGES], ids=lambda path: path.stem)
def test_commands_are_parsed(path: Path) -> None:
    """`quenched VERB ...` in blocks and in running text, by the parser of the command line; nothing is run.

    In running text a verb alone is its name, and `VERB --flag` is the flag's: it may lack its value.
    """
    text = path.read_text(encoding="utf-8")
    group: Any = typer.main.get_command(app)
    told = [
        line.split() for line in re.findall(r"(?<!`)`([^`]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    ]
    commands = [words[1:] for words in told if words[0] == "quenched" and len(words) > 1]
    for words in [words for words in told if words[0] in verbs() and len(words) > 1]:
        if len(words) == 2 and words[1].startswith("-"):
            assert words[1].partition("=")[0] in flags_of(group.get_command(None, words[0])), words
        else:
            commands.append(words)
    commands = [words for words in commands if len(words) > 1 or words[0] not in verbs()]
    blocks = re.findall(r"^    (?:\S*/)?quenched (.*?)(?: {2,}#.*)?$", text, flags=re.MULTILINE)
    for verb, *rest in [*map(shlex.split, blocks), *(shlex.split(" ".join(words)) for words in commands)]:
        if verb not in ("--version", "--help"):
            assert verb in verbs(), (verb, rest)
            with pytest.raises(typer.Exit) if "--help" in rest else nullcontext():  # which says all and ends
                group.get_command(None, verb).make_context(verb, rest).close()


def flags_of(command: Any) -> set[str]:
    """All spellings of the options of a command."""
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def test_the_gallery_shows_every_figure_with_its_caption(monkeypatch: pytest.MonkeyPatch) -> None:
    """From small copies, no larger than a page can bear.  A figure is one file: one without a copy is listed."""
    monkeypatch.setattr("quenched.sim.figures.figures", lambda: [*figures(), "__init__"])
    source = [(DOCS / "gallery.md").read_text()]
    runpy.run_path(str(DOCS / "conf.py"))["with_figures"](None, "gallery", source)
    assert f"### __init__\n\n{about('__init__')}\n\nThe copies are made by" in source[0]
    copies = {path.stem: path for path in (DOCS / "figures").glob("*.png")}
    assert set(copies) - {"learning_curve"} <= set(figures())
    for name, copy in copies.items():
        assert copy.stat().st_size < 200_000
        shown = f"### {name}\n\n{about(name)}\n\n![{name}](figures/{name}.png)\n\n" if name in figures() else ""
        assert not shown or f"{shown}{read(copy)}\n" in source[0]
        assert (read(copy) is None) == (not shown)


def test_pages_tell_how_the_oracle_is_drawn() -> None:
    """As a full grey line, which the house style says."""
    assert LEVEL["ls"] == "-"
    told = [*PAGES, *(ROOT / "sim" / "drawing").glob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    for path in told:
        assert not re.search(r"oracle[^.]{0,40}dashed|dashed[^.]{0,40}oracle", path.read_text()), path


@pytest.mark.parametrize(("package", "name"), PUBLIC, ids=[name for _, name in PUBLIC])
def test_a_public_name_is_in_the_reference_with_an_example(package: str, name: str) -> None:
    directive = re.compile(rf"^\.\. auto(class|function):: quenched\.{package}\.{name}$", flags=re.MULTILINE)
    assert sum(len(directive.findall(path.read_text())) for path in (DOCS / "api").glob("*.md")) == 1
    assert ">>>" in (inspect.getdoc(getattr(import_module(f"quenched.{package}"), name)) or "")


HELPERS = {"Densities", "LearningRule", "OnlineSGD", "OrderParameters", "PowerLaw", "Specification", "Sweep",
           "Teacher", "Threshold", "TwoLayer", "Velocity", "plot", "power_law_problem", "problem_of",
           "random_state", "read_problem", "read_spec", "records_of", "state_at"}  # fmt: skip
"""Public names that hold, draw or read a problem and compute no result."""


def test_every_public_result_says_what_it_rests_on() -> None:
    told = (DOCS / "exact_or_heuristic.md").read_text(encoding="utf-8")
    assert {name for _, name in PUBLIC} >= HELPERS
    assert [name for _, name in PUBLIC if name not in HELPERS and not re.search(rf"\b{name}\b", told)] == []


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
