"""One specification: a TOML file, a record, the attributes of a dataset, and what every verb makes of it."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    OrderParameters,
    Specification,
    Spectrum,
    Teacher,
    TwoLayer,
    curve,
    fixed_points,
    fluctuations,
    integrate,
    problem_of,
    random_state,
)
from quenched.numerics.learners import learners
from quenched.numerics.problem.state import Densities
from quenched.numerics.two_layer.learner import TwoLayerOptions
from quenched.sim import Sweep, read_problem, read_spec, simulate, simulate_amp, sweep
from quenched.sim.error_curve import error_curve
from quenched.sim.referee import judge as judging
from quenched.sim.referee.grid import Grid

XOR, ERF, RULE, FLOW = Mixture.xor(0.4), TwoLayer(2, "erf"), OnlineSGD(0.5), GradientFlow(weight_decay=0.1)
FILE = """
D = 100
t = { first = 0, last = 1, number = 3 }
seeds = { first = 5, number = 2 }
initial = 8
mixture = { kind = "xor", sigma = 0.4 }
network = { K = 2, activation = "erf" }
rule = { lr = 0.5 }
"""
ODD = 0.1 + 0.2  # a number that only its shortest text gives back


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.toml"
    path.write_text(FILE)
    return path


# --- files


def test_a_file_gives_the_records_that_it_names(file: Path) -> None:
    found = read_problem(file)
    assert (found.mixture, found.network, found.rule) == (XOR, ERF, RULE)
    assert (found.D, found.initial, found.seeds, found.t.tolist()) == (100, 8, (5, 6), [0, 0.5, 1])
    assert found.start() == random_state(XOR, ERF, 100, 8)
    assert found.given == ("mixture", "network", "rule", "D", "t", "initial", "seeds")


def test_the_same_file_is_a_sweep_of_one_cell(file: Path, tmp_path: Path) -> None:
    """And the one cell of its results is the problem again, with the seeds as they were."""
    results = sweep(read_spec(file), tmp_path / "s.zarr", processes=1)
    cell = results.isel(mixture=0, network=0, rule=0, D=0)
    found, given = problem_of(cell), read_problem(file)
    assert found == replace(given, engine="overlaps", test_samples=10_000, readout_scale=1.0)
    with pytest.raises(ValueError, match=r"one problem, got 2 along D: choose one of them first, dataset.isel\(D=0\)"):
        problem_of(xr.concat([results, results.assign_coords(D=[200])], "D"))


PROBLEMS = {
    "plain": Specification(Mixture.ring(3, ODD), TwoLayer(3, "x**2 - 2", 0.5), RULE, 10, [ODD], 3, 2.0),
    "flow": Specification(XOR, ERF, replace(FLOW, second_lr=0.0, loss="sqrt(1 + (phi - y)**2)")),
    "rule": Specification(XOR, ERF, OnlineSGD(1e-5, ODD, 0.3, 0.0, label_noise=0.1, loss="logistic", batch=4)),
    "many sigma": Specification(Mixture([[1.0, 0], [0, 1]], [1, -1], [0.25, 0.75], [0.5, ODD], [0.5, 0.0])),
    "spectrum": Specification(
        Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.marchenko_pastur(0.5)), seeds=[4, 2], engine="vectors"
    ),
    "aligned": Specification(
        Mixture([[1.0], [-1.0]], [1, -1], spectrum=Spectrum.uniform(0.5, 2.0, 6, quantiles=True).oriented(1, 0))
    ),
    "teacher": Specification(
        Mixture(np.zeros((1, 2)), teacher=Teacher([[1, ODD], [0, 1]], [1, 2], "relu")),
        TwoLayer(1, "relu"),
        state=OrderParameters([[0], [0.2], [0.1]], [[1]], [ODD]),
    ),
    "nodes": Specification(XOR, state=Densities(np.zeros((2, 2, 1)), np.full((2, 1, 1), ODD), [1.0])),
    "learners": Specification(
        XOR,
        sigma=[0.5, ODD],
        learner={name: each.options for name, each in learners().items()}
        | {"two-layer": TwoLayerOptions(TwoLayer(3, "relu"), GradientFlow(second_lr=ODD), t=5.0, starts=2)},
    ),
    "learners of the problem": Specification(
        XOR, ERF, RULE, 100, [1.0], 8, learner={"two-layer": TwoLayerOptions(ERF, RULE, t=ODD, D=100, initial=0)}
    ),
    "usual learners": Specification(XOR, ERF, RULE, t=[1.0], initial=8, learner={"two-layer": TwoLayerOptions()}),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_written_specification_is_read_back_equal(name: str, tmp_path: Path) -> None:
    given, path = PROBLEMS[name], tmp_path / "problem.toml"
    path.write_text(given.toml())
    found = read_problem(path)
    assert found == given
    assert hash(found) == hash(given)
    assert all(type(getattr(found, part)) is type(getattr(given, part)) for part in given.given)


def test_texts_of_laws_teachers_and_data(tmp_path: Path) -> None:
    """The words of the command line are those of the file."""
    cases: dict[str, Mixture] = {
        '{ kind = "two-clusters", sigma = 1.0, spectrum = "mp:0.5" }': Mixture(
            [[1.0], [-1.0]], [1, -1], spectrum=Spectrum.marchenko_pastur(0.5)
        ),
        '{ kind = "two-clusters", sigma = 1.0, spectrum = { law = "mp:0.5", directions = 40 } }': Mixture(
            [[1.0], [-1.0]], [1, -1], spectrum=Spectrum.marchenko_pastur(0.5, 40, quantiles=True)
        ),
        '{ kind = "two-clusters", sigma = 1.0, spectrum = { eigenvalues = [0.5, 1.5] } }': Mixture(
            [[1.0], [-1.0]], [1, -1], spectrum=Spectrum([0.5, 1.5])
        ),
        '{ kind = "means", means = [[0.0]], teacher = "erf:1" }': Mixture(
            [[0.0, 0.0]], teacher=Teacher([[0.0, 1.0]], [1.0], "erf")
        ),
        '{ kind = "xor", sigma = 1.0, teacher = { weights = [[1, 0]], v = [2], activation = "erf" } }': Mixture(
            Mixture.xor(1.0).means, teacher=Teacher([[1.0, 0.0]], [2.0], "erf")
        ),
    }
    for text, expected in cases.items():
        (tmp_path / "a.toml").write_text(f"mixture = {text}")
        assert read_problem(tmp_path / "a.toml").mixture == expected, text
    (tmp_path / "a.toml").write_text('mixture = { kind = "data", data = "digits", covariance = "shared", sigma = 0.5 }')
    assert read_problem(tmp_path / "a.toml").mixture.shares.size == 64


BAD = [
    ("D == 3", "spec must be a TOML file"),
    ("D = 3", "spec must have mixture, got only D"),
    (FILE + "rates = 1", "spec has the unknown 'rates'; it may have mixture, network"),
    (FILE + "batch = 2", "spec has the unknown 'batch'"),
    (
        FILE.replace("sigma = 0.4", "sigma = [0.3, 0.4]"),
        "mixture must have one value .* got xor sigma=0.3; xor sigma=0.4",
    ),
    (FILE.replace("K = 2", "K = [2, 4]"), "network must have one value .*: a grid is for `quenched sweep`"),
    (FILE.replace("D = 100", "D = [100, 200]"), r"D must have one value .*, got \(100, 200\)"),
    (FILE.replace("D = 100", "D = 0.5"), "D must be one or more integers >= 0, got 0.5"),
    (FILE.replace("seeds = { first = 5, number = 2 }", "seeds = 0"), "seeds must be an integer >= 1, got 0"),
    (FILE.replace("last = 1", "last = -1"), "t.last must be finite and >= 0, got -1"),
    (FILE.replace("number = 3", "steps = 3"), "t has the unknown 'steps'"),
    (FILE.replace('"xor"', '"moons"'), "mixture.kind must be one of xor, .* means, data, got 'moons'"),
    (FILE.replace("sigma = 0.4", 'sigma = 0.4, spectrum = "wigner:1"'), "spectrum must be one of mp"),
    (FILE.replace("lr = 0.5", 'kind = "adam"'), "rule.kind must be sgd or gradient-flow, got 'adam'"),
    (FILE.replace("lr = 0.5", 'kind = "gradient-flow", batch = 2'), "rule has the unknown 'batch'"),
    (FILE.replace("lr = 0.5", "lr = -1"), "lr must be finite and >= 0, got -1"),
    (FILE + "[state]\nM = [[0]]\nQ = [[1]]\nv = [1]", "state must have K = 2 neurons like the network, got 1"),
    (FILE + "state = 3", "state: OrderParameters must be made of the fields M, Q, v.*, got 3"),
    (FILE + '[[learner]]\nkind = "guess"', "learner.kind must be one of oracle, .* got 'guess'"),
    (FILE + '[[learner]]\nkind = "oracle"\nheads = 1', "learner oracle has the unknown 'heads'"),
    (FILE + "learner = 3", "learner must be a table or tables"),
    (FILE.replace("sigma = 0.4", "sigma = 0.4, teacher = 3"), "teacher must be a text such as 'erf:2' or a table .* 3"),
    (
        FILE.replace('"xor"', '"means", means = [[0], [1]], labels = [1, -1], teacher = "erf:1"'),
        r"labels must be left out where a teacher makes them, got \[1, -1\]",
    ),
    (
        FILE.replace("sigma = 0.4", "sigma = 0.4, spectrum = { law = 3 }"),
        "spectrum must be one of .* as in mp:0.5, got 3",
    ),
    (FILE.replace('"xor"', '"data", data = 3'), "data must be 'digits', an .npz file or a folder, got 3"),
]


@pytest.mark.parametrize(("text", "message"), BAD, ids=[message[:50] for _, message in BAD])
def test_bad_input_is_refused_by_name_and_value(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_problem(path)


def test_files_that_are_none(tmp_path: Path) -> None:
    for name in ("nowhere.toml", "nowhere.nc"):
        with pytest.raises(ValueError, match=f"spec must be a .*{name}"):
            read_problem(tmp_path / name)
    xr.Dataset({"x": 1.0}, attrs={"seeds": "[1]"}).to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(ValueError, match="dataset must have the attribute mixture, got only seeds"):
        read_problem(tmp_path / "other.nc")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": "xor"}, "mixture must be a Mixture or a list of pairs .*, got 'xor'"),
        ({"network": 3}, "network must be a TwoLayer, got 3"),
        ({"rule": 0.5}, "rule must be a LearningRule or a list of pairs .*, got 0.5"),
        ({"t": [1.0, 0.5]}, "t must increase"),
        ({"seeds": [1, -1]}, "seeds must be an integer >= 0, got -1"),
        ({"sigma": [0.5, -1.0]}, "sigma must be > 0, got -1"),
        ({"sigma": "a"}, "sigma must be an array of real numbers, got 'a'"),
        ({"learner": ["oracle"]}, "learner must be a mapping of names of learners to their options"),
        ({"learner": {"erm": TwoLayerOptions()}}, r"learner\['erm'\] must be an? ErmOptions"),
        (
            {"state": random_state(XOR, ERF, 50, 0), "initial": 3},
            "initial must be left out where a state is given, got 3",
        ),
    ],
)
def test_parts_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Specification(**{"mixture": XOR} | changes)
    with pytest.raises(ValueError, match="network must be part of the specification, which has only mixture"):
        Specification(XOR).start()


# --- datasets

START = random_state(XOR, ERF, 50, 1)
RESULTS: dict[str, tuple[Callable[[], Any], Specification]] = {
    "integrate": (
        lambda: integrate(XOR, ERF, FLOW, START, [0.0, ODD]),
        Specification(XOR, ERF, FLOW, t=[0.0, ODD], state=START),
    ),
    "simulate": (
        lambda: simulate(XOR, ERF, RULE, 50, [0.0, 0.5], [3, 1], "overlaps", state=START, test_samples=8),
        Specification(XOR, ERF, RULE, 50, [0.0, 0.5], state=START, seeds=(3, 1), engine="overlaps", test_samples=8),
    ),
    "fluctuations": (
        lambda: fluctuations(XOR, TwoLayer(1, "erf"), RULE, random_state(XOR, TwoLayer(1, "erf"), 50, 1), [0.0, 0.5]),
        Specification(XOR, TwoLayer(1, "erf"), RULE, t=[0.0, 0.5], state=random_state(XOR, TwoLayer(1, "erf"), 50, 1)),
    ),
    "fixed_points": (
        lambda: fixed_points(XOR, TwoLayer(1, "erf"), FLOW, [4, 2]),
        Specification(XOR, TwoLayer(1, "erf"), FLOW, seeds=(4, 2)),
    ),
    "curve": (
        lambda: curve(
            XOR, TwoLayer(1, "erf"), FLOW, "sigma", [0.4, 0.42], OrderParameters(np.zeros((4, 1)), [[0]], [0])
        ),
        Specification(XOR, TwoLayer(1, "erf"), FLOW),
    ),
    "error_curve": (
        lambda: error_curve(
            XOR, [0.5, ODD], {"oracle": None, "two-layer": TwoLayerOptions(ERF, GradientFlow(), t=0.5, starts=1)}
        ),
        Specification(
            XOR,
            sigma=[0.5, ODD],
            learner={
                "oracle": learners()["oracle"].options,
                "two-layer": TwoLayerOptions(ERF, GradientFlow(), t=0.5, starts=1),
            },
        ),
    ),
    "simulate_amp": (
        lambda: simulate_amp(XOR, 4.0, 50, 2, iterations=1),
        Specification(XOR, D=50, seeds=(0, 1), test_samples=10_000),
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_every_dataset_gives_its_problem_back_through_a_file(name: str, tmp_path: Path) -> None:
    compute, given = RESULTS[name]
    compute().to_netcdf(tmp_path / "result.nc", engine="h5netcdf")
    found = read_problem(tmp_path / "result.nc")
    known = {part: getattr(found, part) for part in given.given}
    assert Specification(**known) == given
    assert type(found.rule) is type(given.rule)
    (tmp_path / "again.toml").write_text(found.toml())
    assert read_problem(tmp_path / "again.toml") == found


# --- verbs


def test_dynamics_of_a_file_and_of_its_result(file: Path, run: Callable[..., int], tmp_path: Path) -> None:
    """The same numbers as from Python; a result is a specification of itself; flags override."""
    assert run("dynamics", file, "--simulate", "-o", tmp_path / "run.nc") == 0
    found, runs = xr.load_dataset(tmp_path / "run.nc"), xr.load_dataset(tmp_path / "run_simulation.nc")
    given = read_problem(file)
    expected = integrate(XOR, ERF, RULE, given.start(), given.t)
    np.testing.assert_array_equal(found.Q, expected.Q)
    assert runs.seed.values.tolist() == [5, 6]
    assert runs.time.values.tolist() == [0, 0.5, 1]
    assert problem_of(found) == Specification(XOR, ERF, RULE, t=given.t, state=given.start())
    assert run("dynamics", tmp_path / "run.nc", "-o", tmp_path / "again.nc") == 0
    np.testing.assert_array_equal(xr.load_dataset(tmp_path / "again.nc").Q, found.Q)
    flags = ["--K", 3, "--lr", 0.25, "--sigma", 0.5, "-t", 2, "--initial", 1, "--D", 60]
    assert run("dynamics", file, *flags, "-o", tmp_path / "other.nc") == 0
    other = problem_of(xr.load_dataset(tmp_path / "other.nc"))
    assert (other.mixture, other.network, other.rule) == (Mixture.xor(0.5), TwoLayer(3, "erf"), OnlineSGD(0.25))
    assert (other.t[-1], len(other.t)) == (2, 101)
    assert other.state == random_state(other.mixture, TwoLayer(3, "erf"), 60, 1)


def test_an_engine_of_the_file_simulates(file: Path, run: Callable[..., int], tmp_path: Path) -> None:
    file.write_text('engine = "overlaps"\ntest_samples = 8\n' + FILE)
    assert run("dynamics", file, "--simulate", "--seeds", 1, "-o", tmp_path / "run.nc") == 0
    found = problem_of(xr.load_dataset(tmp_path / "run_simulation.nc"))
    assert (found.engine, found.test_samples, found.seeds) == ("overlaps", 8, (0,))


def test_curve_of_a_file(file: Path, run: Callable[..., int], tmp_path: Path) -> None:
    """Its learners and noise levels; without learners the network, rule, time and start of the file."""
    assert run("curve", file, "--sigma", "0.5", "--starts", 1, "-o", tmp_path / "a.nc") == 0
    found = problem_of(xr.load_dataset(tmp_path / "a.nc"))
    assert found.learner is not None
    assert found.learner["two-layer"] == TwoLayerOptions(ERF, RULE, t=1.0, D=100, initial=8, starts=1)
    (table := tmp_path / "table.toml").write_text(FILE + '[[learner]]\nkind = "two-layer"\nt = 2.0\nstarts = 1\n')
    assert read_problem(table).learner == {"two-layer": replace(found.learner["two-layer"], t=2.0)}
    text = 'sigma = [0.5, 0.6]\n[mixture]\nkind = "xor"\nsigma = 1.0\n[[learner]]\nkind = "oracle"\n'
    file.write_text(text)
    assert run("curve", file, "-o", tmp_path / "b.nc") == 0
    other = xr.load_dataset(tmp_path / "b.nc")
    assert (other.learner.values.tolist(), other.sigma.values.tolist()) == (["oracle"], [0.5, 0.6])
    assert problem_of(other) == read_problem(file)
    assert run("curve", file, "--learner", "bayes", "--sigma", "0.5", "-o", tmp_path / "c.nc") == 0
    assert xr.load_dataset(tmp_path / "c.nc").learner.values.tolist() == ["bayes"]


def test_fixed_points_of_a_file(file: Path, run: Callable[..., int], tmp_path: Path) -> None:
    file.write_text(FILE.replace("lr = 0.5", 'kind = "gradient-flow", weight_decay = 0.1').replace("K = 2", "K = 1"))
    assert run("fixed-points", file, "--sigma", 0.5, "-o", tmp_path / "a.nc") == 0
    found = problem_of(xr.load_dataset(tmp_path / "a.nc"))
    assert (found.mixture, found.rule, found.seeds) == (Mixture.xor(0.5), GradientFlow(weight_decay=0.1), (5, 6))


def test_validate_judges_the_problem_of_a_file(
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Forty runs at D = 500 tell a rate of 0.5 from one of 0.625; the bias, not of the problem, is cut short."""
    monkeypatch.setattr("quenched.sim.referee.grid.Grid", partial(Grid, bias_D=(20, 40, 80), bias_runs=4e3))
    text = FILE.replace("D = 100", "D = 500").replace("number = 2", "number = 40").replace("initial = 8", "initial = 2")
    file.write_text(text.replace("last = 1", "last = 2").replace('"xor", sigma = 0.4', '"two-clusters", sigma = 0.5'))
    code = run("validate", file, "--report", tmp_path / "report", "--processes", 1)
    printed = capfd.readouterr().out
    assert "0 of 1 cells denied" in printed
    assert "1 of 1 controls denied" in printed
    assert code == 0
    assert "- Specification: Mixture(" in (tmp_path / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("rule", "more", "verb", "message"),
    [
        (
            "lr = 0.5, batch = 2",
            "",
            ["dynamics", "--gradient-flow"],
            "batch must be left out .* gradient flow, .* got 2",
        ),
        (
            'lr = 0.5, label_noise = 0.1, loss = "logistic"',
            "",
            ["fixed-points", "--lr", "0"],
            "label_noise must be left out of the rule for the gradient flow, which does not know it, got 0.1",
        ),
        ("lr = 0.5", 'engine = "foo"', ["dynamics", "--simulate"], "engine must be .* got 'foo'"),
        ('kind = "gradient-flow"', "", ["dynamics", "--simulate"], "rule must have steps of finite size"),
        ("lr = 0.5", "t = [0, 1e-4]", ["dynamics", "--simulate"], "t must increase by a step 1/D"),
        ("lr = 0.0", "", ["validate"], "rule must have a rate > 0: nothing is learned"),
    ],
)
def test_what_the_file_says_is_refused_before_anything_is_computed(
    rule: str,
    more: str,
    verb: list[str],
    message: str,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    lines = FILE.replace("lr = 0.5", rule)
    file.write_text(more + "\n" + (re.sub("t = {.*", "", lines, count=1) if more.startswith("t =") else lines))
    monkeypatch.setattr("quenched.sim.cli.dynamics._integrated", pytest.fail)
    assert run(*verb[:1], file, *verb[1:]) != 0
    assert re.search(message, " ".join(capfd.readouterr().err.split()))


def test_validate_takes_engine_and_test_samples_of_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[..., int]
) -> None:
    """--backend alone does not change the engine; the control has every rate that learns a quarter too large."""
    given: list[Any] = []

    def recorded(grid: Grid, **options: Any) -> None:
        given.append((grid, options))
        raise ValueError("grid: enough is known")

    monkeypatch.setattr(judging, "judge", recorded)
    rule = "lr = 0, bias_lr = 0.2, second_lr = 0.4, intercept_lr = 0.8, batch = 2"
    file.write_text('engine = "overlaps"\ntest_samples = 8\n' + FILE.replace("lr = 0.5", rule))
    run("validate", file, "--backend", "numpy", "--report", file.parent / "report")
    ((grid, options),) = given
    assert (options["engine"], options["backend"]) == ("overlaps", "numpy")
    (case,) = grid.cases()
    assert judging._wrong(case) == OnlineSGD(0.0, bias_lr=0.25, second_lr=0.5, intercept_lr=1.0, batch=2)
    runs = judging._runs(replace(grid, seeds=2, times=(0.1,)), case, 0, 100, 0, "overlaps", "numpy")
    assert problem_of(runs).test_samples == 8


def test_show_prints_equations_defaults_and_units(
    file: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("show", file) == 0
    printed = capfd.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line}
    assert re.search(r"rule.lr +0\.5 +1 +learning rate", rows["rule.lr"])
    assert re.search(r"rule.loss +square +default +loss l\(phi, y\)", rows["rule.loss"])
    assert re.search(r"^t +\[0.0, 0.5, 1.0\] +D steps +recorded times", rows["t"])
    assert r"\frac{dv_{k}}{dt} = -\eta_{v} \sum_{a} P_{a}\, r_{ak}" in printed
    assert run("show", file, "--toml") == 0
    file.write_text(capfd.readouterr().out)
    assert read_problem(file).mixture == XOR


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("dynamics", ["--mixture", "xor"], "--mixture does not go together with a specification, which has a mixture"),
        ("dynamics", ["--data", "digits"], "--data does not go together with a specification"),
        ("curve", ["--separation", "2"], "--separation does not go together with a specification"),
        ("fixed-points", ["--separation", "2"], "--separation does not go together with a specification"),
        ("validate", ["--loss", "logistic"], "--loss does not go together with a specification, which is the grid"),
        ("validate", ["--full"], "--full does not go together with a specification"),
        ("dynamics", ["--batch", "2", "--simulate", "--D", "3"], "D must be an integer >= 4, got 3"),
    ],
)
def test_flags_that_a_specification_does_not_leave_open(
    verb: str,
    flags: list[str],
    message: str,
    file: Path,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert run(verb, file, *flags) == 2
    assert message in capfd.readouterr().err


def test_flags_that_a_gradient_flow_does_not_have(
    file: Path, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    file.write_text(FILE.replace("lr = 0.5", 'kind = "gradient-flow"'))
    assert run("dynamics", file, "--batch", 2) == 2
    assert "--batch does not go together with the GradientFlow of the specification" in capfd.readouterr().err
    assert run("validate", file) == 2
    assert "rule must be an OnlineSGD, which can be simulated" in capfd.readouterr().err


def test_a_sweep_takes_one_table_as_a_list_of_one(file: Path) -> None:
    spec = read_spec(file)
    assert isinstance(spec, Sweep)
    assert spec.axes() == ([XOR], [ERF], [RULE], [100], [5, 6])
