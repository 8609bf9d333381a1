"""Symbolic -> theory -> numerics -> sim, one way, one level of sub-folders by subject."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import cache
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
# What may be cited is said once, for the document and for `quenched cite`.
PLAIN = {GRAMMAR, "quenched.symbolic.manuscript.literature"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every module imported anywhere below `tree`, with the level of a relative import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level


def faults(seen: Callable[[Path], Iterator[str]], paths: Iterable[Path]) -> str:
    """What is seen in each file, a line each: one test reads them all, and lists whatever is wrong."""
    return "\n".join(f"{name(path)}: {fault}" for path in paths for fault in seen(path))


def loaded(module: str) -> set[str]:
    """The modules that `import module` loads in a fresh process."""
    code = f"import sys; import {module}; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def misplaced(path: Path) -> Iterator[str]:
    for module, level in imports(tree(path)):
        if level:
            yield f"relative import of {module!r}"
        top, _, rest = module.partition(".")
        if top in LAYERS:
            yield f"{module} is a folder, the module is quenched.{module}"
        derives = name(path) in DERIVERS or module in PLAIN
        allowed = ALLOWED[path.relative_to(ROOT).parts[0]] | ({"symbolic"} if derives else set())
        if top == "quenched" and rest.partition(".")[0] not in allowed:
            yield f"imports {module}"


def test_a_layer_imports_only_layers_to_its_left() -> None:
    assert not (found := faults(misplaced, MODULES)), found


def parsing(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr == "parse" and ast.unparse(node) == "ast.parse":
            yield f"ast.parse in line {node.lineno}"


def test_python_is_parsed_in_one_place() -> None:
    """A thread at a time: CPython 3.11 fails where two parse at once."""
    assert not (found := faults(parsing, [path for path in MODULES if name(path) != "symbolic/language/grammar.py"])), (
        found
    )


def test_the_grammar_needs_the_standard_library_only() -> None:
    # the grammar, the table of functions that it reads, the literature
    for module in ("language/grammar", "language/functions", "manuscript/literature"):
        others = {found for found, _ in imports(tree(ROOT / "symbolic" / f"{module}.py"))} - {
            "quenched.symbolic.language"
        }
        assert {found.partition(".")[0] for found in others} <= sys.stdlib_module_names, module


@pytest.mark.parametrize("deriver", sorted(DERIVERS))
def test_deriving_is_imported_inside_a_function(deriver: str) -> None:
    top_level = [node for node in tree(ROOT / deriver).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [m for node in top_level for m, _ in imports(node) if m.startswith(("quenched.symbolic", "sympy"))]


def test_theory_imports_only_numpy_scipy_and_math() -> None:
    allowed = {"numpy", "scipy", "math", "quenched", "__future__", "collections", "typing"}  # the last two for types
    allowed |= {"importlib"}  # an activation is loaded when it is asked for
    for path in (path for path in MODULES if path.is_relative_to(ROOT / "theory")):
        assert {module.partition(".")[0] for module, _ in imports(tree(path))} <= allowed, name(path)


def unlisted(path: Path) -> Iterator[str]:
    names = [part for node in tree(path).body for part in ast.walk(node) if isinstance(part, ast.Name)]
    if not any(part.id == "__all__" and isinstance(part.ctx, ast.Store) for part in names):
        yield "no __all__"


def test_public_modules_list_what_they_export() -> None:
    public = [path for path in MODULES if not path.name.startswith("_") or path.parent.parent == ROOT]
    assert not (found := faults(unlisted, public)), found


def test_every_package_folder_is_in_the_wheel() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted({path.parent.relative_to(ROOT) for path in MODULES})
    assert sorted(listed) == sorted(["quenched", *(".".join(("quenched", *folder.parts)) for folder in folders)])
    assert max(len(folder.parts) for folder in folders) <= 2, "one level of sub-folders"


HAND_WRITTEN = [path for path in MODULES if path.relative_to(ROOT).parts[0] != "theory"]
SHORTEST, LONGEST, FILES, FUNCTION, PARAMETERS = 60, 500, 16, 60, 10
# Short files by what they are: whoever adds one says why it stands alone.  A verb of the command line is always a file.
SHORT = {
    "sim/figures/mnist.py": "a figure is a file",
    "numerics/probability/gauss_kronrod.py": "constants that compiled and generated code read",
    "symbolic/learners/teachers.py": "a learner is a file",
    "symbolic/learners/two_layer_stability.py": "a chapter is a file",
}


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, lines without the docstring, and number of parameters of each function of a file, inner ones too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            told = ast.get_docstring(node, clean=False) is not None
            docstring = (first.end_lineno or 0) - first.lineno + 1 if told else 0
            given = node.args
            count = len([*given.posonlyargs, *given.args, *given.kwonlyargs])
            yield node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring, count


def edges() -> dict[str, set[str]]:
    """Module -> the modules of the package that it imports anywhere, inside functions too."""
    parts = {path: ("quenched", *path.relative_to(ROOT).with_suffix("").parts) for path in MODULES}
    names = {".".join(steps).removesuffix(".__init__"): path for path, steps in parts.items()}
    found: dict[str, set[str]] = {}
    for module, path in names.items():
        found[module] = set()
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                found[module] |= {alias.name for alias in node.names if alias.name in names}
            elif isinstance(node, ast.ImportFrom) and node.module in names:
                targets = {f"{node.module}.{alias.name}" for alias in node.names}
                found[module] |= {target if target in names else node.module for target in targets}
    return found


def oversized(path: Path) -> Iterator[str]:
    lines = len(path.read_text().splitlines())
    small = path.name in ("__init__.py", "__main__.py") or path.parent == ROOT / "sim" / "cli" or name(path) in SHORT
    if lines > LONGEST:
        yield f"{lines} lines"
    if lines < SHORTEST and not small:
        yield f"{lines} lines: merge it, or say in SHORT why it stands alone"
    for function, length, count in functions(path):
        if length > FUNCTION:
            yield f"{function} has {length} lines without its docstring"
        if count > PARAMETERS:
            yield f"{function} takes {count} arguments: options are a record"


def test_files_and_functions_are_neither_long_nor_tiny() -> None:
    assert not (found := faults(oversized, HAND_WRITTEN)), found


def test_exceptions_are_needed() -> None:
    for short in SHORT:
        assert len((ROOT / short).read_text().splitlines()) < SHORTEST, short


# What is found by its place is a file each, however many there are: the line by which verbs, figures, chapters and what
# is generated from them are known.
FOUND = {
    "sim/cli": "\nVERB = ",
    "sim/figures": "\ndef sentence(",
    "symbolic/learners": "\nTITLE = ",
    "theory": "quenched derive",
}


def test_a_folder_holds_few_files() -> None:
    for folder in sorted({path.parent for path in MODULES}):
        entry = FOUND.get(name(folder))
        files = [path for path in folder.glob("*.py") if not (entry and entry in path.read_text())]
        assert len(files) <= FILES, f"{name(folder)}: regroup it by subject"


def borrowed(path: Path) -> Iterator[str]:
    """Private names that are imported from another module or reached through one."""
    modules: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("quenched"):
            for alias in node.names:
                if private(alias.name):
                    yield f"borrows {node.module}.{alias.name}"
                place = ROOT.joinpath(*f"{node.module}.{alias.name}".split(".")[1:])
                if place.with_suffix(".py").is_file() or place.is_dir():
                    modules.add(alias.asname or alias.name)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and private(node.attr) and ast.unparse(node.value) in modules:
            yield f"reaches for {node.value.id}.{node.attr}"


def private(word: str) -> bool:
    return word.startswith("_") and not word.startswith("__")


def test_private_names_stay_at_home() -> None:
    assert not (found := faults(borrowed, MODULES)), found


def test_no_two_modules_import_each_other() -> None:
    graph = edges()
    pairs = {(one, two) for one in graph for two in graph[one] if one < two}
    mutual = sorted(pair for pair in pairs if pair[0] in graph.get(pair[1], ()))
    assert not mutual, mutual


def asserted(path: Path) -> Iterator[str]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Assert) and "isinstance(" in ast.unparse(node.test):
            yield f"line {node.lineno}: raise an error that speaks"


def test_types_are_tested_not_asserted() -> None:
    assert not (found := faults(asserted, MODULES)), found


def test_the_rule_that_knows_the_means_is_called_oracle() -> None:
    """`bayes` in a name is left to what is Bayes-optimal given data."""
    for path in (path for path in MODULES if "oracle" in path.stem):
        for node in ast.walk(tree(path)):
            for label in (getattr(node, key, None) for key in ("name", "id", "attr", "arg")):
                assert "bayes" not in str(label).lower(), f"{name(path)}: {label}"


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
