"""What a module of symbolic/ declares is found, generated and told; and generated code is for readers."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import quenched.symbolic.learners
from quenched.numerics.compiled.precision import context, mp_namespace
from quenched.symbolic import averages, document, generate
from quenched.theory.functions import FUNCTIONS

ROOT = Path(__file__).parents[2]
THEORY = ROOT / "theory"
READING = "closed form, for reading and for tests"
TOY = '''"""A toy learner: the mean label.

It answers every input with the mean label y of the clusters.
"""

from typing import Annotated

import sympy

from quenched.symbolic.language.latex import in_letters
from quenched.symbolic.language.notation import Derived, Formula, Positive, Real, Step

__all__ = ["FORMULAS", "NOTATION", "TITLE", "risk"]

TITLE = "Mean label"
NOTATION = {"mean_label": r"\\bar y"}
latex = in_letters(NOTATION)


def risk(mean_label: Annotated[Real, "(C,): the mean"], spread: Positive) -> Derived:
    """Half the mean squared error of the constant answer."""
    value = (1 - mean_label**2) / 2 + spread
    return Derived(value, steps=(Step("Variance", latex(value)),))


def generated() -> str:
    return "CLASSES = 2"


def derivations() -> list[Formula]:
    return [Formula("aside", "An aside.", (), Derived(sympy.Integer(1)))]


FORMULAS = (risk,)
'''


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> generate.Subject:
    """One file in a folder of learners, and no edit anywhere."""
    (tmp_path / "mean_label.py").write_text(TOY)
    package = quenched.symbolic.learners
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    (found,) = (subject for subject in generate.subjects() if subject.name == "mean_label")
    return found


def test_a_learner_is_one_file(toy: generate.Subject, tmp_path: Path) -> None:
    ((path, text),) = toy.texts().items()
    assert path == "mean_label.py"
    module = tmp_path / "generated.py"
    module.write_text(text)
    generated = loaded(module)
    np.testing.assert_allclose(generated.risk(np.array([0.0, 0.5]), 0.25), [0.75, 0.625], rtol=1e-15)
    assert generated.risk.__doc__ == "Half the mean squared error of the constant answer."
    assert generated.CLASSES == 2
    assert "mean_label: float,  # (C,): the mean" in text
    assert "# Derived by: Variance" in text


def test_a_learner_is_a_chapter_of_the_document(toy: generate.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "subjects", lambda: [toy])
    text = document.latex()
    assert r"\part{Further learners}" in text
    assert r"\section{Mean label}" in text
    assert "It answers every input" in text
    assert r"$\bar y$ is \texttt{mean\_label}" in text
    assert "the mean label $y$ of the clusters" in text
    assert text.index("An aside.") < text.index("Half the mean squared error")


def test_two_modules_for_one_file_are_refused(toy: generate.Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "subjects", lambda: [toy, toy])
    with pytest.raises(ValueError, match=r"theory/mean_label.py comes from .*mean_label.py and from another"):
        generate.modules()


def test_every_learner_takes_part() -> None:
    names = {subject.name for subject in generate.subjects()}
    learners = {path.stem for path in (ROOT / "symbolic" / "learners").glob("[a-z]*.py")}
    silent = {"teachers", "feature_orders", "kernel_taylor"}  # derived when a problem asks; parts of two learners
    assert learners - names <= silent


# --- generated code is for readers


def functions() -> list[tuple[Path, ast.FunctionDef]]:
    return [
        (path, node)
        for path in sorted(THEORY.rglob("*.py"))
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]


def test_theory_is_small() -> None:
    """Learning, features, kernels take 9,250 lines; replica theory and named activations 650, biases and rules 160.

    Several outputs take 20, power laws 150, momentum 80, labels by teachers in replica theory 50.
    """
    assert sum(len(path.read_text().splitlines()) for path in THEORY.rglob("*.py")) < 10_450


def test_what_no_solver_calls_says_so() -> None:
    solvers = "\n".join(path.read_text() for layer in ("numerics", "sim") for path in (ROOT / layer).rglob("*.py"))
    for path, node in functions():
        if path.parent != THEORY or path.name == "normal.py":
            continue  # the tables of the activations are called whole; normal probabilities by them
        imported = rf"from quenched\.theory\.{path.stem} import (\([^)]*|[^\n]*)\b{node.name}\b"
        called = re.search(rf"\b(theory|{path.stem})\.{node.name}\b|{imported}", solvers)
        code = re.sub("#.*", "", path.read_text())
        alone = len(re.findall(rf"\b{node.name}\b", code)) <= 2  # its definition and __all__
        if not called and alone:
            said = (ast.get_docstring(node) or "").lower()
            assert READING in said, f"{path.name}: {node.name} is called by no solver"


def test_legends_explain_every_variable() -> None:
    for path in sorted([*(THEORY / "averages").glob("[a-z]*.py"), *(THEORY / "gradients").glob("[a-z]*.py")]):
        text = path.read_text()
        legend = ast.get_docstring(ast.parse(text)) or ""
        for name in set(re.findall(r"^    (\w+) = ", text, flags=re.M)):
            lines = [examples for pattern, examples, _ in averages.LEGEND if re.fullmatch(pattern, name)]
            assert lines, f"{path.name}: nothing explains {name}"
            assert all(f"    {examples}" in legend for examples in lines), f"{path.name}: {name}"


def test_no_identity_is_contracted() -> None:
    for path in THEORY.rglob("*.py"):
        assert not re.search(r'einsum\("(\w+)->\1"', path.read_text()), path.name
        assert not re.search(r"^ *\w+\[\d+\] = 0$", path.read_text(), flags=re.M), path.name


def test_gradients_are_checked_in_for_three_activations() -> None:
    assert {path.stem for path in (THEORY / "gradients").glob("[a-z]*.py")} == {"erf", "linear", "relu"}


# --- an elementary function is one entry

SINH = """
import sys, types
from quenched.symbolic.language import functions
functions.ELEMENTARY += (functions.Elementary("arcsinh", "asinh", ("asinh",), "ctx.asinh"),)

from quenched.symbolic import generate
from quenched.symbolic.user import user_activation
print(user_activation("asinh(2*x)"))
(subject,) = (s for s in generate.subjects() if s.name == "functions")
table = types.ModuleType("quenched.theory.functions")
exec(subject.texts()["functions.py"], table.__dict__)
sys.modules["quenched.theory.functions"] = table

from quenched.numerics.compiled.precision import context, mp_namespace
ctx = context(30)
assert mp_namespace(ctx)["arcsinh"](ctx.mpf(1)) == ctx.asinh(1)
assert table.FUNCTIONS["arcsinh"].compiled == "from numpy import arcsinh\\n"
"""


def test_an_elementary_function_is_one_entry(tmp_path: Path) -> None:
    """With one more entry it is read, printed, imported, evaluated in mpmath and known to compiled code."""
    run = subprocess.run([sys.executable, "-c", SINH], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    module = tmp_path / "asinh.py"
    module.write_text(run.stdout)
    generated = loaded(module)
    x = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(generated.custom_g(x), np.arcsinh(2 * x), rtol=1e-15)
    np.testing.assert_allclose(generated.custom_dg(x), 2 / np.sqrt(1 + 4 * x**2), rtol=1e-14)


def test_every_elementary_function_is_known_everywhere() -> None:
    """In mpmath and in NumPy alike, and as a definition that compiles."""
    ctx = context(20)
    names = mp_namespace(ctx)
    point = {"arccosh": 1.25}
    for name, function in FUNCTIONS.items():
        if function.arguments == 1:
            x = point.get(name, 0.5)
            value = float(names[name](ctx.mpf(x)))
            module = importlib.import_module(function.module)
            assert value == pytest.approx(float(getattr(module, name)(x)), rel=1e-15), name
        ast.parse(function.compiled)
