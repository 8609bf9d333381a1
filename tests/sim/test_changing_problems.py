"""Problems that change in time, in the one specification: as TOML, as attributes of datasets, on the command line."""

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    Specification,
    Spectrum,
    Teacher,
    TwoLayer,
    integrate,
    problem_of,
    random_state,
)
from quenched.sim import compare, read_problem, read_spec, simulate
from quenched.sim.drawing.plot import plot

SMALL = st.floats(-3, 3)
NOISE = st.floats(0.1, 2.0)
SPECTRUM = Spectrum.uniform(0.5, 2.0, 3, quantiles=True)


@st.composite
def mixtures(draw: st.DrawFn, kind: str, spectrum: bool) -> Mixture:
    """With labels, a teacher or classes; nodes and numbers of classes are the same in all of a problem."""
    C, p = draw(st.integers(2, 3)), draw(st.integers(1, 2))
    means = draw(st.lists(st.lists(SMALL, min_size=p, max_size=p), min_size=C, max_size=C))
    values: dict[str, Any] = {"means": means, "sigma": draw(NOISE | st.lists(NOISE, min_size=C, max_size=C))}
    if kind == "labels":
        values["labels"] = draw(st.lists(st.sampled_from([-1, 1]), min_size=C, max_size=C))
    elif kind == "classes":
        values["classes"] = [0, *draw(st.permutations([1, *[0] * (C - 2)]))]
    else:
        weights = draw(st.lists(NOISE, min_size=p, max_size=p))
        values["teacher"] = Teacher([weights], [draw(NOISE)], "linear")
    if draw(st.booleans()):
        weights = np.array(draw(st.lists(NOISE, min_size=C, max_size=C)))
        values["weights"] = weights / weights.sum()
    return Mixture(**values, spectrum=SPECTRUM if spectrum else None)


RATES = NOISE | st.just("0.5/(1 + t)") | st.tuples(NOISE, NOISE).map(lambda ends: [(0, ends[0]), (5, ends[1])])


@st.composite
def rules(draw: st.DrawFn, kind: str, losses: tuple[str, ...]) -> OnlineSGD | GradientFlow:
    loss = "cross-entropy" if kind == "classes" else draw(st.sampled_from(losses))
    values: dict[str, Any] = {"lr": draw(RATES), "loss": loss}
    if draw(st.booleans()):
        values |= {"weight_decay": draw(RATES), "second_lr": draw(NOISE), "frozen": draw(st.sampled_from(["w0", "v"]))}
    if draw(st.booleans()):
        return GradientFlow(**values)
    return OnlineSGD(**values, batch=draw(st.integers(1, 3)), temperature=draw(NOISE))


@st.composite
def in_time(draw: st.DrawFn, records: st.SearchStrategy[Any]) -> Any:
    """A record, or up to three with ends; one may stand for the others, as a task that comes again does."""
    found = draw(st.lists(records, min_size=1, max_size=3))
    if len(found) == 3 and draw(st.booleans()):
        found[2] = found[0]
    if len(found) == 1 and draw(st.booleans()):
        return found[0]
    ends = np.cumsum(draw(st.lists(NOISE, min_size=len(found), max_size=len(found)))).tolist()
    if draw(st.booleans()):
        ends[-1] = None
    return list(zip(found, ends, strict=True))


KINDS, LOSSES = ("labels", "teacher", "classes"), ("square", "logistic", "(phi - y)**2")


@st.composite
def problems(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, losses: tuple[str, ...] = LOSSES) -> tuple[Any, Any]:
    """Mixtures and rules; either may change in time, at times of its own."""
    kind, spectrum = draw(st.sampled_from(kinds)), draw(st.booleans())
    mixture = draw(in_time(mixtures(kind, spectrum)))
    return mixture, draw(in_time(rules(kind, losses)))


def fixed(value: Any) -> Any:
    """As a specification holds it."""
    return tuple(map(tuple, value)) if isinstance(value, list) else value


def kinds(value: Any) -> list[type]:
    return [type(each) for each, _ in value] if isinstance(value, tuple) else [type(value)]


@given(problems())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_records_are_read_back_from_toml(tmp_path_factory: pytest.TempPathFactory, problem: tuple[Any, Any]) -> None:
    spec = Specification(problem[0], TwoLayer(2, "erf"), problem[1])
    path = tmp_path_factory.mktemp("toml") / "problem.toml"
    path.write_text(spec.toml())
    found = read_problem(path)
    assert found == spec
    assert hash(found) == hash(spec)
    assert (found.mixture, found.rule) == tuple(map(fixed, problem))
    assert kinds(found.rule) == kinds(spec.rule)


@given(problems(KINDS[:2], LOSSES[:1]))
@settings(max_examples=20, deadline=None)
def test_records_are_read_back_from_a_file_of_a_result(problem: tuple[Any, Any]) -> None:
    """Of `integrate`, at t = 0, where nothing is computed but what is recorded of the state."""
    mixture, rule = problem
    network = TwoLayer(1, "linear")
    state = random_state(mixture, network, 50, 0)
    run = integrate(mixture, network, rule, state, [0.0], quantities="pmse")
    found = problem_of(xr.load_dataset(io.BytesIO(run[["pmse"]].to_netcdf(engine="h5netcdf")), engine="h5netcdf"))
    assert found == Specification(fixed(mixture), network, fixed(rule), t=[0.0], state=state)
    assert kinds(found.rule) == kinds(fixed(rule))


def test_large_arrays_of_pieces_are_kept() -> None:
    """More than a thousand numbers are packed, in a list of pairs too."""
    means = np.random.default_rng(0).standard_normal((40, 30)).round(3)
    tasks = [(Mixture(means, np.ones(40)), 1.0), (Mixture(-means, np.ones(40)), None)]
    network, state = TwoLayer(1, "linear"), random_state(tasks, TwoLayer(1, "linear"), 50, 0)
    run = integrate(tasks, network, OnlineSGD(0.1), state, [0.0], quantities="pmse")
    assert "zlib" in run.attrs["mixture"]
    found = problem_of(xr.load_dataset(io.BytesIO(run[["pmse"]].to_netcdf(engine="h5netcdf")), engine="h5netcdf"))
    assert (found.mixture, found.state) == (fixed(tasks), state)


# --- verbs

TWO, XOR = Mixture.two_clusters(0.5), Mixture.xor(0.4)
TASKS = ((TWO, 0.5), (XOR, 1.0), (TWO, None))
RULES = ((OnlineSGD(0.5), 0.75), (OnlineSGD(0.1, frozen="v"), None))
FILE = """
D = 30
t = [0.0, 0.5, 1.0, 1.5]
seeds = 2
initial = 3
network = { K = 1, activation = "erf" }
rule = [{ lr = 0.5, until = 0.75 }, { lr = 0.1, frozen = ["v"] }]

[[mixture]]
kind = "two-clusters"
sigma = 0.5
until = 0.5

[[mixture]]
kind = "xor"
sigma = 0.4
until = 1.0

[[mixture]]
kind = "two-clusters"
sigma = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.toml"
    path.write_text(FILE)
    return path


def test_dynamics_and_its_results(
    file: Path, run: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The numbers of `integrate`; theory, runs, their comparison and the file say the same problem."""
    spec = read_problem(file)
    assert (spec.mixture, spec.rule) == (TASKS, RULES)
    outputs = ["-o", tmp_path / "run.nc", "-o", tmp_path / "run.csv", "--plot", tmp_path / "run.png"]
    assert run("dynamics", file, "--simulate", *outputs) == 0
    printed = capfd.readouterr().out
    assert re.search(r"t +learned +pmse 0 +error 0 +pmse 1 +error 1", printed)
    theory, runs = xr.load_dataset(tmp_path / "run.nc"), xr.load_dataset(tmp_path / "run_simulation.nc")
    expected = integrate(TASKS, spec.network, RULES, spec.start(), spec.t)
    np.testing.assert_array_equal(theory.pmse, expected.pmse)
    last = next(line.split() for line in printed.splitlines() if line.startswith("1.5 "))
    assert last[1:] == ["0", *(f"{float(expected[n][-1, i]):.6f}" for i in (0, 1) for n in NAMES)]
    known = Specification(TASKS, spec.network, RULES, t=spec.t, state=spec.start())
    assert problem_of(theory) == known
    both = replace(known, D=30, seeds=(0, 1), engine="vectors", test_samples=problem_of(runs).test_samples)
    assert problem_of(runs) == both
    assert problem_of(compare(expected, runs).table) == both
    header = (tmp_path / "run.csv").read_text().splitlines()
    assert any(line.startswith("time,") and "pmse[0],pmse[1]" in line for line in header)


NAMES = ("pmse", "classification_error")


def test_runs_of_several_tasks_are_drawn() -> None:
    """A line and points for each task."""
    network = TwoLayer(1, "erf")
    state = random_state(TASKS, network, 30, 0)
    theory = integrate(TASKS, network, RULES, state, [0.0, 0.5, 1.5])
    runs = simulate(TASKS, network, RULES, 30, [0.5, 1.5], 2, state=state, test_samples=6)
    figure = plot(theory, runs)
    assert [len(axes.lines) > 2 for axes in figure.axes[:2]] == [True, True]
    assert "η = 0.5, then 0.1" in figure.axes[0].get_title()
    assert len(plot(runs).axes[0].containers) == 2


def test_show_tells_each_piece(file: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("show", file) == 0
    printed = capfd.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line}
    assert re.search(r"mixture\[1\].sigma +0\.4 +1 +noise", rows["mixture[1].sigma"])
    assert re.search(r"mixture\[1\].until +1\.0 +D steps", rows["mixture[1].until"])
    assert re.search(r"rule\[1\].lr +0\.1 +1 +learning rate", rows["rule[1].lr"])
    pieces = re.findall(r"from t = (\S+)(?: to (\S+))?: task (\d), (.*)", printed)
    rules = [f"{RULES[0][0]!r}", f"{RULES[0][0]!r}, the same equations", f"{RULES[1][0]!r}"]
    rules.append(f"{rules[2]}, the same equations")
    assert pieces == [
        ("0", "0.5", "0", rules[0]),
        ("0.5", "0.75", "1", rules[1]),
        ("0.75", "1", "1", rules[2]),
        ("1", "", "0", rules[3]),
    ]
    assert printed.count(r"\frac{dv_{k}}{dt}") == 2  # frozen in the second
    assert run("show", file, "--toml") == 0
    file.write_text(capfd.readouterr().out)
    assert (read_problem(file).mixture, read_problem(file).rule) == (TASKS, RULES)


@pytest.mark.parametrize("verb", ["curve", "fixed-points"])
def test_verbs_of_one_problem_refuse_several(
    verb: str, file: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, file) == 2
    assert f"mixture must not change in time for quenched {verb}, got 3 pieces" in capfd.readouterr().err
    file.write_text(FILE[: FILE.index("[[")] + '[mixture]\nkind = "xor"\nsigma = 0.4\n')
    assert run(verb, file) == 2
    assert f"rule must not change in time for quenched {verb}, got 2 pieces" in capfd.readouterr().err
    with pytest.raises(ValueError, match=r"rule must not change in time here, got a table with until = 0\.75"):
        read_spec(file)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--sigma", 0.5], "--sigma does not go together with the 3 mixtures of the specification"),
        (["--teacher", "erf:1"], "--teacher does not go together with the 3 mixtures"),
        (["--lr", 0.5], "--lr does not go together with the 2 rules of the specification"),
        (["--gradient-flow", "--simulate"], "--simulate does not go together with --gradient-flow"),
        (["--time", 2.0, "--D", 2, "--simulate"], "D must be an integer >= 3, got 2"),
    ],
)
def test_flags_that_pieces_do_not_leave_open(
    flags: list[Any], message: str, file: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("dynamics", file, *flags) == 2
    assert message in " ".join(capfd.readouterr().err.split())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": [(TWO, 1.0), (TWO, 0.5)]}, "mixture: until must increase, got 0.5 after 1"),
        ({"mixture": [(TWO, None), (TWO, 0.5)]}, "mixture must have a time until which it holds, but for the last"),
        ({"mixture": []}, r"mixture must be a Mixture or a list of pairs \(Mixture, until\), got \[\]"),
        ({"rule": [OnlineSGD(0.1)]}, r"rule must be a LearningRule or a list of pairs \(LearningRule, until\)"),
        ({"mixture": [(TWO, 1.0), (Mixture.three_classes(0.5), None)]}, "same number of classes throughout"),
        ({"mixture": TASKS, "sigma": [0.5]}, "sigma must be left out where a problem changes in time"),
    ],
)
def test_pieces_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Specification(**{"mixture": TWO} | changes)


def test_validate_judges_pieces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Theory agrees with the runs, and that of rates a quarter too large in each piece does not."""
    from quenched.sim.referee import judge as judging
    from quenched.sim.referee.grid import Grid

    spec = Specification(TASKS, TwoLayer(2, "erf"), ((OnlineSGD(1.0), 0.75), (OnlineSGD(0.5), None)), initial=3)
    grid = Grid(problem=spec, times=(0.5, 1.5), D=(5000,), seeds=12)
    (case,) = grid.cases()
    assert judging._wrong(case) == ((OnlineSGD(1.25), 0.75), (OnlineSGD(0.625), None))
    done = {("theory", 0): (judging._theory(grid, case, 0), 0.0)}
    done["runs", 0] = judging._runs(grid, case, 0, 5000, 0, "overlaps", "numpy"), 0.0
    (cell,), (control,), _ = judging._judged(grid, case, done, 0, 0.01)
    assert cell.p > 0.01 > control.p
    assert cell.options == "the first of 4 pieces"
