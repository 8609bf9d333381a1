"""The harness of mutants: no two have one name, and what fails by itself has caught nothing."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, "benchmarks")
import mutants

runner = mutants.Runner([], Path("."), Path("none"), 1)
runner.right = {"none": ""}
runner.tree = Path(sys.argv[2])
mutants.install = lambda *_: True


def protocol(item, nextitem):
    failed = item.nodeid == "tests/bad.py::always" or (item.nodeid == "tests/good.py::sees" and wrong)
    runner.pytest_runtest_logreport(SimpleNamespace(failed=failed, nodeid=item.nodeid))


hook = SimpleNamespace(pytest_runtest_protocol=protocol)
names = "tests/good.py::sees", "tests/bad.py::always"
good, bad = (SimpleNamespace(nodeid=name, config=SimpleNamespace(hook=hook)) for name in names)
mutant, wrong = mutants.Mutant("none", "f", 1, 0, "sign", "a", "b"), True
caught = runner.outcome(mutant, "", [good])
assert caught == ("caught", good.nodeid), caught
wrong = False
runner.control("none", [good])
assert runner.outcome(mutant, "", [good]) == ("survived", "")
if sys.argv[1] == "alone":
    runner.control("none", [bad])
else:
    runner.tested = lambda *_: 1 // 0
    print(runner.outcome(mutant, "", [good]))
"""


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants_of_benchmarks", ROOT / "benchmarks" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", ["theory/kernel_ridge.py", "numerics/saddle/proximal.py", "theory/oracle.py"])
def test_no_two_mutants_have_one_key(mutants: ModuleType, file: str) -> None:
    found = [mutant for mutant, _ in mutants.mutants(file, 10**9, 0)]
    assert len({mutant.key for mutant in found}) == len(found) > 70
    assert not [mutant for mutant in found if mutant.before == mutant.after]


def test_changes_are_shown_where_they_are(mutants: ModuleType) -> None:
    before, after = mutants._apart("x + " * 40 + "y" + " + z" * 40, "x + " * 40 + "w" + " + z" * 40)
    assert before == "…" + "x + " * 6 + "y" + " + z" * 6 + "…"
    assert after == before.replace("y", "w")
    assert mutants._apart("aa", "aaa") == ("aa", "aaa")


def test_the_notes_are_of_mutants_of_the_journal(mutants: ModuleType) -> None:
    lines = (ROOT / "benchmarks" / "mutants.jsonl").read_text(encoding="utf-8").splitlines()
    keys = {mutants._key(json.loads(line)) for line in lines}
    assert set(json.loads((ROOT / "benchmarks" / "mutants_notes.json").read_text(encoding="utf-8"))) <= keys


def test_every_file_of_solvers_has_its_tests(mutants: ModuleType) -> None:
    """The files of TESTS are there, and a name that no test has is an error, not a survivor."""
    for file in mutants.chosen_files([]):
        assert all((ROOT / test.partition("::")[0]).is_file() for test in mutants.tests_of(file)), file
    with pytest.raises(ValueError, match="TESTS must name tests that are collected, got 'tests/sim/test_bank"):
        mutants._wanted("theory/erm.py", [])


def test_the_extra_that_is_not_there_is_named(
    mutants: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is copied; the table needs none."""
    monkeypatch.setattr(mutants.importlib.util, "find_spec", lambda name: None if name == "pytest" else "there")
    monkeypatch.setattr(mutants, "scratch_copy", lambda _: pytest.fail("copied"))
    monkeypatch.setattr(sys, "argv", ["mutants.py", "theory/erm.py"])
    with pytest.raises(SystemExit):
        mutants.main()
    assert "error: mutants need the extra quenched[test], of which pytest cannot be found" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("case", "says"),
    [("alone", "must pass without a mutant, got 'caught': tests/bad.py::always"), ("broken", "ZeroDivisionError")],
)
def test_what_fails_without_a_mutant_or_breaks_has_caught_nothing(case: str, says: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, case, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert says in ran.stderr
    assert "RuntimeError" in ran.stderr.splitlines()[-1]
    assert ran.stdout == ""
