"""Symbolic -> theory -> numerics -> sim, one way, one level of sub-folders by subject."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["symbolic", "theory", "numerics", "sim"]
MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
# What a layer may import of the package.  Only the command line's `derive` reaches symbolic/, and it does so inside a
# function, so that nothing else waits for sympy (see below).
ALLOWED = {
    "symbolic": {"symbolic"},
    "theory": {"theory"},
    "numerics": {"theory", "numerics"},
    "sim": {"theory", "numerics", "sim"},
}
DERIVERS = {"sim/cli/derive.py"}
# What a user may write for an activation is said once, for the derivation and for the records: without sympy.
GRAMMAR = "quenched.symbolic.language.grammar"


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module imported anywhere below `tree`, with the level of a relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def loaded(module: str) -> set[str]:
    """The modules that `import module` loads in a fresh process."""
    code = f"import sys; import {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_layer_imports_only_layers_to_its_left(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for module, level in imports(tree):
        assert level == 0, f"{name(path)}: relative import of {module!r}"
        top, _, rest = module.partition(".")
        assert top not in LAYERS, f"{name(path)}: {module} is a folder, the module is quenched.{module}"
        if top == "quenched":
            layer = rest.partition(".")[0]
            derives = name(path) in DERIVERS or module == GRAMMAR
            allowed = ALLOWED[path.relative_to(ROOT).parts[0]] | ({"symbolic"} if derives else set())
            assert layer in allowed, f"{name(path)} imports {module}"


def test_the_grammar_needs_the_standard_library_only() -> None:
    for module in ("grammar", "functions"):  # the grammar, and the table of functions that it reads
        tree = ast.parse((ROOT / "symbolic" / "language" / f"{module}.py").read_text())
        others = {found for found, _ in imports(tree)} - {"quenched.symbolic.language"}
        assert {found.partition(".")[0] for found in others} <= sys.stdlib_module_names, module


@pytest.mark.parametrize("deriver", sorted(DERIVERS))
def test_deriving_is_imported_inside_a_function(deriver: str) -> None:
    tree = ast.parse((ROOT / deriver).read_text())
    top_level = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [m for node in top_level for m, _ in imports(node) if m.startswith(("quenched.symbolic", "sympy"))]


@pytest.mark.parametrize("path", sorted((ROOT / "theory").rglob("*.py")), ids=name)
def test_theory_imports_only_numpy_scipy_and_math(path: Path) -> None:
    allowed = {"numpy", "scipy", "math", "quenched", "__future__", "collections", "typing"}  # the last two for types
    allowed |= {"importlib"}  # an activation is loaded when it is asked for
    assert {module.partition(".")[0] for module, _ in imports(ast.parse(path.read_text()))} <= allowed


@pytest.mark.parametrize(
    "path", [p for p in MODULES if not p.name.startswith("_") or p.parent.parent == ROOT], ids=name
)
def test_public_modules_list_what_they_export(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert any(
        isinstance(node, ast.Assign | ast.AnnAssign)
        and any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets)
        for node in tree.body
        for targets in [getattr(node, "targets", None) or [getattr(node, "target", None)]]
    ), f"{name(path)} has no __all__"


def test_every_package_folder_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted({path.parent.relative_to(ROOT) for path in MODULES})
    assert sorted(listed) == sorted(["quenched", *(".".join(("quenched", *folder.parts)) for folder in folders)])
    assert max(len(folder.parts) for folder in folders) <= 2, "one level of sub-folders"


def test_numerics_imports_none_of_the_slow_packages() -> None:
    heavy = {"sympy", "xarray", "numba", "matplotlib", "rich", "mpmath", "sklearn", "pandas"}
    assert loaded("quenched.numerics") & heavy == set()


def test_sim_does_not_import_what_only_a_figure_needs() -> None:
    assert loaded("quenched.sim") & {"sympy", "matplotlib", "sklearn", "cupy"} == set()


def test_no_machine_of_ours_in_the_repository() -> None:
    # Registry hosts and absolute paths of a developer's machine make a clone fail elsewhere.
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    pattern = re.compile(r"(?<![\w.])/(?:work|home|root|Users)/|index-url|extra-index|trusted-host")
    for file in filter(None, tracked.split("\0")):
        path = ROOT / file
        if path == Path(__file__).resolve() or path.suffix in {".png", ".nc", ".npz"} or not path.is_file():
            continue
        assert not pattern.search(path.read_text()), file
