"""The reference bank: its structure, a quick subset verified, its page, and that a wrong number is seen."""

import json
from dataclasses import fields, replace
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quenched.sim.bank import by_lazy, records
from quenched.sim.bank.problems import COMPUTED
from quenched.sim.bank.records import ROUTES, Entry, bank, find, matching, verify
from quenched.sim.bank.report import page
from quenched.sim.cli.main import app
from quenched.symbolic.manuscript.literature import LITERATURE

ROOT = Path(__file__).resolve().parents[2]
QUICK = [
    "average/relu",
    "average/softplus",
    "oracle/xor",
    "oracle/parity",
    "error/relu-classification",
    "error/plateau-3",
    "fixed-point/least-mean-squares",
    "fixed-point/xor-relu",
    "rate/committee-1",
    "features/low",
    "features/crossover-three",
    "features/gates",
    "kernel/low",
    "kernel/crossover-ntk",
    "kernel/quadratic",
    "erm/kernel-square",
    "bayes/two-clusters",
    "bayes/xor",
    "bayes/xor-threshold",
    "power-law/inputs",
    "power-law/features",
    "power-law/floor",
    "power-law/exponent",
]
"""Those that take half a second at most; `quenched verify --all` takes minutes."""


def test_every_record_is_whole() -> None:
    text = files("quenched.sim.bank").joinpath("bank.json").read_text(encoding="utf-8")
    table = json.loads(text)
    assert table["format"] == 1
    names = {each.name for each in fields(Entry)} - {"slow"}
    for each in table["results"]:
        assert set(each) - {"slow"} == names, each["id"]
        assert each["check"]["route"] in ROUTES, each["id"]
        assert len(each["check"]["says"]) > 10, each["id"]
        for name in names - {"parameters", "check"}:
            assert each[name], (each["id"], name)
        assert each["source"] in {work.key for work in LITERATURE}, each["id"]
        assert (ROOT / each["derivation"]).is_file(), each["derivation"]
    assert len({each["id"] for each in table["results"]}) == len(table["results"])


def test_every_subject_and_every_route_is_there() -> None:
    subjects = {entry.subject for entry in bank()}
    assert subjects >= {
        "average",
        "oracle",
        "drift",
        "error",
        "fixed-point",
        "features",
        "kernel",
        "erm",
        "bayes",
        "rate",
        "power-law",
    }
    assert {entry.check["route"] for entry in bank()} == set(ROUTES)
    fields_of_averages = {len(entry.parameters["mean"]) for entry in bank() if entry.subject == "average"}
    assert fields_of_averages == {1, 2, 3, 4}


def test_digits_are_as_stated() -> None:
    """The last digit written is not below the error, up to a factor 10; averages have thirty digits."""
    for entry in bank():
        value = Decimal(entry.value)
        assert Decimal(entry.error) >= abs(Decimal(1).scaleb(value.as_tuple().exponent)) / 10, entry.id
        if entry.subject == "average":
            assert len(value.as_tuple().digits) == 30, entry.id
            assert entry.error == "1e-30"


@pytest.mark.parametrize("identity", QUICK)
def test_a_quick_subset_is_verified(identity: str) -> None:
    found = verify(find(identity))
    assert found.agrees, found
    # the error of the bank is one that a route has; measured ones change a little from machine to machine
    assert float(found.entry.error) > 0.5 * min(float(found.computed_error), float(found.checked_error))


@pytest.mark.parametrize("identity", [entry.id for entry in bank() if entry.subject != "average" and not entry.slow])
def test_the_package_finds_the_values_of_the_bank(identity: str) -> None:
    """Without the independent route, and within the sum of the errors; averages have certificates of their own."""
    entry = find(identity)
    value, error = COMPUTED[entry.function](entry.parameters)
    assert abs(Decimal(str(value)) - Decimal(entry.value)) <= Decimal(entry.error) + Decimal(str(float(error)))


def test_stated_errors_of_checks_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The density and the orders of a feature once more, at 50 digits by finer rules."""
    parameters = find("features/crossover-xor").parameters
    value, error = by_lazy.crossover_features(parameters)
    monkeypatch.setattr(by_lazy, "_DIGITS", 50)
    monkeypatch.setattr(by_lazy, "_RULES", tuple(by_lazy._Rule(order, 15, 750) for order in (52, 56)))
    exact, rest = by_lazy.crossover_features(parameters)
    assert rest < 1e-40
    assert abs(exact - value) < error < 1e-28


@pytest.mark.parametrize("identity", ["oracle/xor", "erm/kernel-square", "bayes/two-clusters"])
def test_a_wrong_value_is_seen(identity: str) -> None:
    """A change of the value by ten times all errors together."""
    entry = find(identity)
    right = verify(entry)
    off = 10 * (float(entry.error) + float(right.computed_error) + float(right.checked_error))
    wrong = replace(entry, value=str(Decimal(entry.value) + Decimal(off)))
    assert not replace(right, entry=wrong).agrees
    assert not replace(right, checked=float("nan")).agrees


def test_names_are_ids_or_subjects() -> None:
    chosen = [entry.id for entry in matching(["amp", "oracle/xor", "oracle/xor"])]
    assert chosen == ["oracle/xor", "amp/xor"]
    with pytest.raises(ValueError, match="ID must be one of those that `quenched verify` lists, got 'xor'"):
        matching(["xor"])


def test_verify_exits_with_1_where_they_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke(app, ["verify", "oracle/parity"])
    assert run.exit_code == 0
    assert "0.297643452630122125" in run.stdout
    assert "agree" in run.stdout
    wrong = replace(find("oracle/parity"), value="0.297643452630122225")
    monkeypatch.setattr(records, "bank", lambda: (wrong,))
    run = CliRunner().invoke(app, ["verify", "oracle/parity"])
    assert run.exit_code == 1
    assert "DISAGREE: oracle/parity" in run.stdout


def test_verify_without_an_id_lists_the_bank() -> None:
    lines = CliRunner().invoke(app, ["verify"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [entry.id for entry in bank()]
    path = CliRunner().invoke(app, ["verify", "--file"]).stdout.strip()
    assert Path(path).name == "bank.json"


def test_cite_gives_the_package_and_what_a_result_rests_on() -> None:
    text = CliRunner().invoke(app, ["cite"]).stdout
    assert text.startswith("@software{quenched,")
    assert text.count("\n@") == 1
    assert "@inproceedings{refinetti2021," in text
    text = CliRunner().invoke(app, ["cite", "bayes/xor-threshold"]).stdout
    assert "@inproceedings{lesieur2016," in text
    assert CliRunner().invoke(app, ["cite", "--all"]).stdout.count("\n@") == len(LITERATURE)


def test_the_page_of_the_bank_is_the_bank(root: Path, update: bool) -> None:
    path = root / "docs" / "reference_bank.md"
    if update:
        path.write_text(page(), encoding="utf-8")
    assert path.read_text(encoding="utf-8") == page(), "pytest --update tests/sim/test_bank.py rewrites it"
