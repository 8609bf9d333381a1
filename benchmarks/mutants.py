"""Mutants: one formula or solver made wrong at a time, and the quick test that sees it.

    python benchmarks/mutants.py                                a sample of all functions (hours)
    python benchmarks/mutants.py theory/erm.py --number 3       three mutants of each function of one file
    python benchmarks/mutants.py --table docs/mutants.md        the table of what the journal holds, without running

The text check (is theory/ what symbolic/ derives?) would see every mutant of theory/, and is left out: the tests of
values have to.  A mutant changes one place of one function: a sign, an index (a letter of `einsum`, an axis, an
argument of the same kind) or a constant.  The repository is copied into a scratch folder, where pytest collects all
tests once and forks for each mutant: the fork writes the wrong text into the file, from which compiled code is made,
gives the function the wrong code, and runs the tests that are to see it, to the first failure.  That test has to pass
in a fork without any mutant, or the run ends: a test that fails by itself sees nothing.  Functions whose code cannot be
exchanged (closures of closures, wrappers without a trace) are left out.  Results are appended to a journal; mutants
that are in it are not run again.
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import importlib.util
import inspect
import json
import linecache
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NUMERICS, SYMBOLIC, SIM = "tests/numerics/test_", "tests/symbolic/test_", "tests/sim/test_"
BANK = f"{SIM}bank.py"
DERIVATIVES = f"{NUMERICS}averages.py::test_derivatives_of_an_activation_are_its_differences[{{stem}}]"


def _bank(*subjects: str) -> tuple[str, ...]:
    """The values of the reference bank that belong to these subjects."""
    records = json.loads((ROOT / "sim" / "bank" / "bank.json").read_text(encoding="utf-8"))["results"]
    names = [r["id"] for r in records if r["id"].partition("/")[0] in subjects and not r.get("slow")]
    return tuple(f"{BANK}::test_the_package_finds_the_values_of_the_bank[{name}]" for name in names)


TESTS: dict[str, tuple[str, ...]] = {
    "theory/averages/gelu.py": (DERIVATIVES, f"{NUMERICS}averages.py", f"{NUMERICS}losses.py"),
    "theory/averages/s[io][gf]*.py": (DERIVATIVES, f"{NUMERICS}averages.py"),
    "theory/averages/swish.py": (DERIVATIVES, f"{NUMERICS}averages.py"),
    "theory/averages/tanh.py": (DERIVATIVES, f"{NUMERICS}averages.py"),
    "theory/averages/*.py": (DERIVATIVES, f"{NUMERICS}certificate.py::test_every_average_has_its_digits[{{stem}}]"),
    "theory/gradients/*.py": (f"{SYMBOLIC}gradients.py", f"{NUMERICS}tangents.py"),
    "theory/normal.py": (
        f"{NUMERICS}certificate.py::test_the_other_formulas_have_their_digits", f"{NUMERICS}normal.py",
        f"{SYMBOLIC}written_activations.py", f"{NUMERICS}averages.py",
    ),
    "theory/two_layer.py": (
        *_bank("drift", "error", "fixed-point"),
        f"{NUMERICS}certificate.py::test_the_other_formulas_have_their_digits", f"{NUMERICS}spectral.py",
        f"{NUMERICS}tangents.py", f"{NUMERICS}stationary.py", f"{NUMERICS}losses.py",
    ),
    "theory/oracle.py": (*_bank("oracle"), f"{NUMERICS}oracle.py", f"{SYMBOLIC}oracle.py"),
    "theory/random_features.py": (*_bank("features"), f"{NUMERICS}features.py", f"{SYMBOLIC}random_features.py"),
    "theory/kernel_ridge.py": (*_bank("kernel"), f"{NUMERICS}kernel_ridge.py", f"{SYMBOLIC}kernel_ridge.py"),
    "theory/kernels.py": (f"{NUMERICS}kernel_ridge.py", f"{SYMBOLIC}kernel_ridge.py"),
    "theory/random_features_erm.py": (*_bank("erm"), f"{NUMERICS}random_features_erm.py"),
    "theory/erm_teachers.py": (*_bank("erm"), f"{NUMERICS}taught_erm.py", f"{SYMBOLIC}erm_teachers.py"),
    "theory/biases.py": (
        f"{NUMERICS}biases.py::test_tangents_are_differences_of_the_rates", f"{NUMERICS}biases.py",
        f"{SYMBOLIC}biases.py",
    ),
    "theory/momentum.py": (f"{NUMERICS}momentum.py", f"{SYMBOLIC}momentum.py"),
    "theory/erm.py": (*_bank("erm"), f"{NUMERICS}erm.py", f"{SYMBOLIC}erm.py"),
    "theory/bayes.py": (*_bank("bayes", "amp"), f"{NUMERICS}bayes.py", f"{SYMBOLIC}bayes.py"),
    "theory/amp.py": (f"{SYMBOLIC}amp.py", f"{SIM}amp.py"),
    "theory/fluctuations.py": (*_bank("dynamics"), f"{NUMERICS}fluctuations.py", f"{SIM}fluctuations.py"),
    "theory/losses.py": (
        f"{NUMERICS}losses.py::test_slope_and_curvature_are_the_derivatives",
        f"{NUMERICS}losses.py::test_coefficients_spell_the_loss_and_its_slope", f"{NUMERICS}classes.py",
        f"{NUMERICS}losses.py", f"{NUMERICS}erm.py",
    ),
    "theory/scaling/*.py": (f"{SYMBOLIC}power_laws.py", f"{NUMERICS}scaling.py"),
    "numerics/scaling/*.py": (f"{NUMERICS}scaling.py",),
    "numerics/course/linear.py": (f"{NUMERICS}scaling.py",),
    "numerics/oracle*.py": (*_bank("oracle"), f"{NUMERICS}oracle.py"),
    "numerics/erm.py": (*_bank("erm"), f"{NUMERICS}erm.py"),
    "numerics/bayes*.py": (*_bank("bayes", "amp"), f"{NUMERICS}bayes.py"),
    "numerics/amp.py": (*_bank("amp"), f"{SIM}amp.py"),
    "numerics/random_features.py": (*_bank("features"), f"{NUMERICS}features.py"),
    "numerics/kernel_ridge.py": (*_bank("kernel"), f"{NUMERICS}kernel_ridge.py"),
    "numerics/random_features_erm.py": (*_bank("erm"), f"{NUMERICS}random_features_erm.py"),
    "numerics/lazy/*.py": (*_bank("features", "kernel"), f"{NUMERICS}features.py", f"{NUMERICS}kernel_ridge.py"),
    "numerics/saddle/*.py": (
        *_bank("erm", "bayes"), f"{NUMERICS}saddle.py", f"{NUMERICS}erm.py", f"{NUMERICS}random_features_erm.py",
    ),
    "numerics/two_layer/fluctuations.py": (*_bank("dynamics"), f"{NUMERICS}fluctuations.py"),
    "numerics/two_layer/*.py": (
        *_bank("drift", "error", "fixed-point", "dynamics", "rate"), f"{NUMERICS}spectral.py", f"{NUMERICS}flow.py",
        f"{NUMERICS}stationary.py", f"{NUMERICS}errors.py", f"{NUMERICS}losses.py", f"{NUMERICS}continuation.py",
    ),
    "numerics/step/*.py": (f"{NUMERICS}step_quadrature.py", f"{NUMERICS}losses.py", f"{NUMERICS}dynamics.py"),
    "numerics/signs/*.py": (*_bank("error"), f"{NUMERICS}errors.py", f"{NUMERICS}cones.py", f"{NUMERICS}intervals.py"),
    "numerics/probability/*.py": (f"{NUMERICS}normal.py", f"{NUMERICS}quadrature.py", f"{NUMERICS}oracle.py"),
    "numerics/averages/losses.py": (f"{NUMERICS}losses.py", f"{NUMERICS}erm.py"),
    "numerics/averages/te*.py": (f"{NUMERICS}teachers.py", f"{NUMERICS}taught_erm.py"),
    "numerics/averages/[ag]*[ew].py": (f"{NUMERICS}gaussian_average.py", f"{NUMERICS}quadrature.py"),
    "numerics/averages/*.py": (
        f"{NUMERICS}averages.py", f"{NUMERICS}coincident_fields.py", f"{NUMERICS}precise.py", f"{NUMERICS}tangents.py",
        f"{NUMERICS}certificate.py",
    ),
    "numerics/compiled/*.py": (
        f"{NUMERICS}straight.py", f"{NUMERICS}intervals.py", f"{NUMERICS}precision.py", f"{NUMERICS}spectral.py",
    ),
    "numerics/course/*.py": (f"{NUMERICS}rules.py", f"{NUMERICS}momentum.py", f"{NUMERICS}flow.py"),
    "numerics/problem/[fsw]*.py": (
        f"{NUMERICS}spectrum.py", f"{NUMERICS}rules.py", f"{NUMERICS}records.py", f"{NUMERICS}oracle.py",
    ),
    "numerics/problem/[mnr]*.py": (f"{NUMERICS}records.py", f"{NUMERICS}named_mixtures.py", f"{NUMERICS}flow.py"),
}  # fmt: skip
"""File, or pattern -> the tests that have to see its mutants, in the order of trying; the first pattern that fits."""

Result = dict[str, Any]
"""A line of the journal: a mutant, its outcome, the test that saw it, seconds."""
SKIPPED = (
    "numerics/step/quadrature_text.py", "numerics/step/cells_text.py", "numerics/two_layer/learner.py",
    "numerics/compiled/cache.py", "numerics/compiled/machine_code.py", "numerics/problem/specification.py",
    "numerics/averages/certificate.py",
)  # fmt: skip
"""Text of generated code, tables, files, records and checks: their mutants are those of what they write, name or hold.
"""
_EXTRA = ("pytest", "hypothesis", "sympy")  # what the tests import, of the extra
_SECONDS = 40  # of processor time for the tests of a mutant
_BROKEN, _COMPILED = 70, 71  # exit status of a fork that broke, and of one whose function is compiled


@dataclass(frozen=True)
class Mutant:
    """One change: where, its kind (sign, index, constant), what stood there and what stands there now.

    `line` counts from that of the function's `def`, so that an edit elsewhere leaves it; `column` is of the file.
    """

    file: str
    function: str
    line: int
    column: int
    kind: str
    before: str
    after: str

    @property
    def key(self) -> str:
        """What tells it from all others."""
        return f"{self.file}:{self.function}:{self.line}:{self.column}:{self.before}->{self.after}"


# --- making them


def _variants(node: ast.AST, names: Sequence[str]) -> Iterator[tuple[str, ast.AST]]:
    """The kinds and the changed copies of one node of an expression."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub) and not _is_zero(node.right):
        yield "sign", ast.BinOp(node.left, ast.Sub() if isinstance(node.op, ast.Add) else ast.Add(), node.right)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        yield "constant", ast.Constant(node.value + 1 if node.value in (0, 1, -1) else node.value * 1.5)
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("einsum", "np.einsum"):
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            left, arrow, right = first.value.partition("->")
            terms = left.split(",")
            for i, term in enumerate(terms):
                if len(term) > 1 and term[0] != term[1]:
                    terms[i] = term[1] + term[0] + term[2:]
                    text = ast.Constant(",".join(terms) + arrow + right)
                    yield "index", ast.Call(node.func, [text, *node.args[1:]], node.keywords)
                    break
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in names:
        stem = node.id.rstrip("0123456789")
        alike = [other for other in names if other != node.id and stem and other.rstrip("0123456789") == stem]
        if alike:
            yield "index", ast.Name(alike[0], ast.Load())
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        place = node.slice
        if isinstance(place, ast.Constant) and place.value in (0, 1, -1):
            other = {0: 1, 1: 0, -1: 0}[place.value]
            yield "index", ast.Subscript(node.value, ast.Constant(other), ast.Load())
        pair = [ast.unparse(each) for each in place.elts] if isinstance(place, ast.Tuple) else []
        if isinstance(place, ast.Tuple) and len(pair) == 2 and pair[0] != pair[1]:
            yield "index", ast.Subscript(node.value, ast.Tuple(place.elts[::-1], ast.Load()), ast.Load())


def _is_zero(node: ast.expr) -> bool:
    """`0*x`, by which a constant takes the shape of x: its sign is none."""
    return isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant) and node.left.value == 0


_SILENT = (ast.Raise, ast.Assert, ast.JoinedStr, ast.Compare, ast.keyword, ast.arguments, ast.AnnAssign, ast.Slice)
"""Where a change is of a message, a default, a bound or a tolerance, not of a formula."""


def _places(function: ast.FunctionDef) -> Iterator[tuple[ast.AST, str, object]]:
    """(parent, field, index) of every expression that is a formula."""
    stack: list[ast.AST] = list(function.body)
    while stack:
        parent = stack.pop()
        if isinstance(parent, (*_SILENT, ast.FunctionDef)) or (
            isinstance(parent, ast.Expr) and isinstance(parent.value, ast.Constant)
        ):
            continue
        for name, value in ast.iter_fields(parent):
            children = value if isinstance(value, list) else [value]
            for i, child in enumerate(children):
                if not isinstance(child, ast.AST) or (isinstance(parent, ast.Subscript) and name == "slice"):
                    continue
                called = ast.unparse(parent.func) if isinstance(parent, ast.Call) and name == "args" else ""
                if called.startswith(("range", "np.zeros")):
                    continue
                if isinstance(child, ast.expr) and not isinstance(child, _SILENT):
                    yield parent, name, i if isinstance(value, list) else None
                stack.append(child)


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """All functions and methods, by their dotted names."""

    def below(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef):
                yield prefix + child.name, child
                yield from below(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")

    yield from below(tree, "")


def mutants(file: str, number: int, seed: int) -> Iterator[tuple[Mutant, str]]:
    """`number` mutants of each function of a file, of as many kinds as there are, and the mutated text."""
    text = (ROOT / file).read_text(encoding="utf-8")
    tree = ast.parse(text)
    for name, function in _functions(tree):
        names = [argument.arg for argument in function.args.args]
        found: dict[str, list[tuple[Mutant, str]]] = {}
        for parent, field, i in _places(function):
            value = getattr(parent, field)
            node = value if i is None else value[i]
            for kind, changed in _variants(node, names):
                ast.copy_location(changed, node)
                if i is None:
                    setattr(parent, field, changed)
                else:
                    value[i] = changed
                place = node.lineno - function.lineno, node.col_offset
                mutant = Mutant(file, name, *place, kind, ast.unparse(node), ast.unparse(changed))
                found.setdefault(kind, []).append((mutant, _spliced(text, node, changed)))
                if i is None:
                    setattr(parent, field, node)
                else:
                    value[i] = node
        rng = random.Random(f"{seed} {file} {name}")
        for kind in found.values():
            rng.shuffle(kind)
        order = rng.sample(sorted(found), len(found))
        chosen: list[tuple[Mutant, str]] = []
        while order and len(chosen) < number:
            for kind in list(order):
                if not found[kind]:
                    order.remove(kind)
                elif len(chosen) < number:
                    chosen.append(found[kind].pop())
        yield from chosen


def _spliced(text: str, node: ast.AST, changed: ast.AST) -> str:
    """The text with one node replaced; all else stays, on its line."""
    lines = text.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset  # type: ignore[attr-defined]
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset  # type: ignore[attr-defined]
    raw = text.encode()
    lines_lost = "\n" * raw[start:end].count(b"\n")
    return (raw[:start] + f"({ast.unparse(copy.deepcopy(changed))}{lines_lost})".encode() + raw[end:]).decode()


# --- running them


def scratch_copy(folder: Path) -> Path:
    """The working tree without its history and environment, byte-compiled by content."""
    target = folder / "quenched"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis", "results"
    )
    shutil.copytree(ROOT, target, ignore=ignored, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", str(target)], check=True
    )
    return target


def tests_of(file: str) -> list[str]:
    """The tests of the first pattern that fits."""
    for pattern, tests in TESTS.items():
        if Path(file).match(pattern):
            return [test.format(stem=Path(file).stem) for test in tests]
    raise ValueError(f"file must fit a pattern of TESTS, got {file!r}")


def install(mutant: Mutant, text: str, tree: Path) -> bool:
    """Give the function of this process its wrong code; False where that cannot be exchanged."""
    module = importlib.import_module("quenched." + mutant.file.removesuffix(".py").replace("/", "."))
    parts = mutant.function.split(".")
    code, owner, found = compile(text, str(tree / mutant.file), "exec"), module, None
    for part in parts:
        inner = [c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == part]
        if not inner or not hasattr(owner, "__dict__") or part not in vars(owner):
            return False
        code, found = inner[0], vars(owner)[part]
        if not isinstance(found, type):
            break
        owner = found
    found = getattr(found, "fget", None) or getattr(found, "func", None) or found  # of a property
    found = inspect.unwrap(getattr(found, "__func__", found))
    if not isinstance(found, FunctionType) or found.__code__.co_freevars != code.co_freevars:
        return False
    (tree / mutant.file).write_text(text, encoding="utf-8")
    linecache.checkcache(str(tree / mutant.file))
    found.__code__ = code
    return True


class Runner:
    """The plugin of pytest that runs mutants in place of tests, once all tests are collected."""

    def __init__(self, work: Sequence[tuple[Mutant, str]], tree: Path, journal: Path, minutes: float) -> None:
        self.work, self.tree, self.journal, self.minutes = work, tree, journal, minutes
        self.right = {file: (tree / file).read_text(encoding="utf-8") for file in {m.file for m, _ in work}}
        self.channel = -1
        self.passed: set[tuple[str, ...]] = set()

    def pytest_runtestloop(self, session: Any) -> bool:
        """One fork for each mutant."""
        begun = time.monotonic()
        for mutant, text in self.work:
            if time.monotonic() - begun > 60 * self.minutes:
                break
            wanted = _wanted(mutant.file, session.items)
            start = time.monotonic()
            outcome, test = self.outcome(mutant, text, wanted)
            if outcome == "caught":
                self.control(mutant.file, [item for item in wanted if item.nodeid == test] or wanted)
            (self.tree / mutant.file).write_text(self.right[mutant.file], encoding="utf-8")
            record = asdict(mutant) | {"outcome": outcome, "test": test, "seconds": round(time.monotonic() - start, 1)}
            with self.journal.open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(record) + "\n")
            sys.__stdout__.write(f"{outcome:12} {record['seconds']:6.1f} s  {mutant.key}  {test}\n")
            sys.__stdout__.flush()
        return True

    def control(self, file: str, wanted: Sequence[Any]) -> None:
        """RuntimeError where one of these tests fails although no code is wrong: it caught nothing."""
        names = tuple(item.nodeid for item in wanted)
        if names in self.passed:
            return
        (self.tree / file).write_text(self.right[file], encoding="utf-8")
        outcome, test = self.outcome(None, "", wanted)
        if outcome != "survived":
            raise RuntimeError(f"tests of {file} must pass without a mutant, got {outcome!r}: {test or names}")
        self.passed.add(names)

    def outcome(self, mutant: Mutant | None, text: str, wanted: Sequence[Any]) -> tuple[str, str]:
        """("caught", test), ("survived", ""), ("not finished", "") or ("compiled", ""); None: no code is wrong.

        RuntimeError: the fork broke, outside of the tests; it has written why.
        """
        reader, self.channel = os.pipe()
        child = os.fork()
        if child == 0:
            code = _BROKEN
            try:
                code = self.tested(mutant, text, wanted)
            finally:
                if code == _BROKEN:
                    traceback.print_exc(file=sys.__stderr__)
                os._exit(code)
        os.close(self.channel)
        with os.fdopen(reader) as channel:
            test = channel.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == _BROKEN:
            raise RuntimeError(f"the fork of {mutant.key if mutant else 'the control'} broke; its traceback is above")
        if code in (0, 1, _COMPILED):
            return ("survived", "caught", "compiled")[(0, 1, _COMPILED).index(code)], test
        return ("not finished", "") if code in (-signal.SIGXCPU, -signal.SIGKILL) else ("caught", f"exit status {code}")

    def tested(self, mutant: Mutant | None, text: str, wanted: Sequence[Any]) -> int:
        """The tests in this process, to the first that fails."""
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS + 5))
        if mutant is not None and not install(mutant, text, self.tree):
            return _COMPILED
        for item in wanted:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        """End the fork at the first failure, with its name in the channel."""
        if report.failed:
            os.write(self.channel, report.nodeid.encode())
            os._exit(1)


def _wanted(file: str, items: Sequence[Any]) -> list[Any]:
    """The items of the file's tests, in their order.  ValueError: a name of TESTS has none."""
    found = []
    for test in tests_of(file):
        those = [item for item in items if _is_of(item.nodeid, test)]
        if not those:
            raise ValueError(f"TESTS must name tests that are collected, got {test!r} for {file}")
        found += [item for item in those if item not in found]
    return found


def _is_of(identity: str, test: str) -> bool:
    return identity == test or identity.startswith((test + "::", test + "["))


def chosen_files(given: Sequence[str]) -> list[str]:
    """The files given, or all of theory/ and of the solvers that have tests of their own."""
    if given:
        return list(given)
    found = []
    for path in sorted(ROOT.glob("theory/**/*.py")) + sorted(ROOT.glob("numerics/**/*.py")):
        file = path.relative_to(ROOT).as_posix()
        if file not in SKIPPED and path.name != "__init__.py" and any(path.relative_to(ROOT).match(p) for p in TESTS):
            found.append(file)
    return found


def main() -> int:
    """Run mutants, or write the table; the exit code of pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="files of theory/ or numerics/; none: all")
    parser.add_argument("--number", type=int, default=1, help="mutants of each function")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9, help="start none after so many")
    parser.add_argument("--journal", type=Path, default=ROOT / "benchmarks" / "mutants.jsonl")
    parser.add_argument("--again", action="store_true", help="run survivors of the journal again")
    parser.add_argument("--table", type=Path, help="write the table of the journal, run nothing")
    asked = parser.parse_args()
    if missing := [file for file in asked.files if not (ROOT / file).is_file()]:
        parser.error(f"no file of this repository: {', '.join(missing)}")
    known = [json.loads(line) for line in asked.journal.read_text().splitlines()] if asked.journal.exists() else []
    if asked.table:
        asked.table.write_text(table(known), encoding="utf-8")
        return 0
    if lacking := [name for name in _EXTRA if importlib.util.find_spec(name) is None]:
        parser.error(f"mutants need the extra quenched[test], of which {', '.join(lacking)} cannot be found here")
    latest = {_key(each): each for each in known}
    done = {key for key, each in latest.items() if not (asked.again and each["outcome"] != "caught")}
    work = [pair for file in chosen_files(asked.files) for pair in mutants(file, asked.number, asked.seed)]
    random.Random(asked.seed).shuffle(work)
    work = [(mutant, text) for mutant, text in work if mutant.key not in done]
    files = sorted({test.partition("::")[0] for mutant, _ in work for test in tests_of(mutant.file)})
    with tempfile.TemporaryDirectory() as folder:
        tree = scratch_copy(Path(folder))
        os.chdir(tree)
        sys.path.insert(0, str(tree.parent))
        os.environ["PYTHONPATH"] = str(tree.parent)
        import pytest

        runner = Runner(work, tree, asked.journal.resolve(), asked.minutes)
        return pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=line", "-s", *files], plugins=[runner])


_PAGE = """# Mutants

One place of one function made wrong at a time (`python benchmarks/mutants.py`), and the first quick test that saw it.
The text check of theory/ is left out: it would see all of them. The table has what was drawn so far: a
sample, of {drawn} of the {functions} functions of theory/ and of the solvers that have a place to change. It says
nothing of the others. What survived at first, and has its test by now, was of three kinds: a power of a parameter that
was 1 in every test (a sigma, a length), a value of which only the text was tested, and a part that no solver reads.

{total} mutants ({kinds}): {caught} caught, {survived} survived, {unfinished} not finished in {seconds} s of
processor time.
"""


def _row(values: Sequence[str]) -> str:
    return "| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in values) + " |"


def _key(record: Result) -> str:
    return Mutant(**{name: record[name] for name in Mutant.__dataclass_fields__}).key


_CONTEXT = 24  # characters of what is the same, before and after a change that is shown


def _apart(before: str, after: str) -> tuple[str, str]:
    """Both, short: what they have in common at the beginning and at the end is cut but for a few characters."""
    shortest = min(len(before), len(after))
    start = next((i for i in range(shortest) if before[i] != after[i]), shortest)
    end = next((i for i in range(shortest - start) if before[-1 - i] != after[-1 - i]), shortest - start)
    first, last = max(start - _CONTEXT, 0), max(end - _CONTEXT, 0)

    def cut(text: str) -> str:
        return "\u2026" * (first > 0) + text[first : len(text) - last] + "\u2026" * (last > 0)

    return cut(before), cut(after)


def _cells(r: Result) -> list[str]:
    return [r["file"], f"`{r['function']}`", r["kind"], *(f"`{text}`" for text in _apart(r["before"], r["after"]))]


def table(known: Sequence[Result]) -> str:
    """The journal as a page, the latest run of each mutant; why a survivor is none is said in mutants_notes.json."""
    latest = {key: r for key, r in {_key(r): r for r in known}.items() if r["outcome"] != "compiled"}
    rows = sorted(latest.values(), key=lambda r: (r["file"], r["function"], r["line"], r["column"], r["kind"]))
    count = {name: sum(r["outcome"] == name for r in rows) for name in ("caught", "survived", "not finished")}
    kinds = ", ".join(f"{sum(r['kind'] == kind for r in rows)} {kind}" for kind in ("sign", "index", "constant"))
    notes = ROOT / "benchmarks" / "mutants_notes.json"
    told = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    head = _PAGE.format(
        functions=len({(m.file, m.function) for file in chosen_files([]) for m, _ in mutants(file, 1, 0)}),
        drawn=len({(r["file"], r["function"]) for r in rows}), total=len(rows), kinds=kinds, caught=count["caught"],
        survived=count["survived"], unfinished=count["not finished"], seconds=_SECONDS,
    )  # fmt: skip
    columns = ["file", "function", "kind", "before", "after"]
    lines = [head, "## Not seen", "", _row([*columns, "why"]), "|---" * 6 + "|"]
    lines += [_row([*_cells(r), told.get(_key(r), r["outcome"])]) for r in rows if r["outcome"] != "caught"]
    lines += ["", "## Caught", "", _row([*columns, "first seen by"]), "|---" * 6 + "|"]
    lines += [_row([*_cells(r), f"`{r['test'].removeprefix('tests/')}`"]) for r in rows if r["outcome"] == "caught"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
