"""The command line: each verb does its work, files are what their suffix says, mistakes cost one line and exit 2."""

import ast
import csv
import json
import re
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr
from typer.testing import CliRunner

from quenched.sim.bank import records
from quenched.sim.cli import main, options, terminal
from quenched.sim.figures import dynamics as dynamics_figure
from quenched.sim.figures import headline
from quenched.sim.referee import judge
from quenched.sim.referee.grid import Grid

EXAMPLES = [
    (verb, line)
    for verb in main.verbs()
    for line in re.findall(
        r"Example:  quenched (.*)", import_module(f"quenched.sim.cli.{verb.replace('-', '_')}").VERB.__doc__
    )
]
PROBLEM = """
D = 100
t = 0.5
seeds = 2
mixture = { kind = "two-clusters", sigma = 0.5 }
network = { K = 1, activation = "erf" }
rule = { lr = 0.5, weight_decay = 0.1 }
"""
# What makes an example short: a shorter time, fewer seeds.  Later options count.
SHORT = {
    "dynamics": ["-t", "0.5"],
    "fixed-points": ["--seeds", "1"],
    "validate": ["--processes", "1"],
    "reproduce": ["--processes", "1"],
}


def test_every_verb_is_a_file_and_has_an_example() -> None:
    assert {"derive", "dynamics", "curve", "validate", "sweep", "reproduce", "fixed-points", "plot", "show"} <= set(
        main.verbs()
    )
    assert {name for name, _ in EXAMPLES} == set(main.verbs())
    listed = CliRunner().invoke(main.app, ["--help"], terminal_width=200).output
    assert all(name in listed for name in main.verbs())


def test_derive_check_prints_what_is_stale_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quenched.symbolic.generate.check", lambda folder: ["stale: theory/normal.py\n-old\n+new\n"])
    assert run("derive", "--check") == 1
    assert "stale: theory/normal.py\n-old\n+new\n" in capfd.readouterr().out
    monkeypatch.setattr("quenched.symbolic.generate.check", lambda folder: [])
    assert run("derive", "--check") == 0
    assert capfd.readouterr().out == ""


def test_derive_prints_one_activation(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("derive", "--activation", "x**2-2") == 0
    assert capfd.readouterr().out.startswith('"""The averages of the activation x**2 - 2.')


def test_derive_certifies_an_activation(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("derive", "--activation", "x", "--certify", tmp_path / "table.md") == 0
    table = (tmp_path / "table.md").read_text()
    assert re.search(r"^\| `x_2` \| Stein \| \d+ \| 30\.0 ", table, re.MULTILINE)
    assert " 0 below the digits required" in table


def test_dynamics_writes_what_it_computes(run: Callable[..., int], tmp_path: Path) -> None:
    data, picture = tmp_path / "run.nc", tmp_path / "run.png"
    small = ["--K", 2, "--activation", "erf", "--D", 50, "-t", 1, "--simulate", "--seeds", 2]
    assert run("dynamics", *small, "-o", data, "--plot", picture) == 0
    theory, runs = xr.load_dataset(data), xr.load_dataset(tmp_path / "run_simulation.nc")
    assert theory.M.dims == ("time", "cluster", "neuron")
    assert theory.attrs["initial_state"] == runs.attrs["initial_state"]
    assert float(theory.time[-1]) == float(runs.time[-1]) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_dynamics_goes_on_from_a_file(run: Callable[..., int], tmp_path: Path) -> None:
    """Twice the time is once and once again, to the error of the integrator, rtol = 1e-8 a step."""
    small = ["dynamics", "--K", 2, "--activation", "erf"]
    assert run(*small, "-t", 2, "-o", tmp_path / "whole.nc") == 0
    assert run(*small, "-t", 1, "-o", tmp_path / "first.nc") == 0
    assert run(*small, "-t", 1, "--state", tmp_path / "first.nc", "-o", tmp_path / "second.nc") == 0
    whole, second = (xr.load_dataset(tmp_path / f"{name}.nc").isel(time=-1) for name in ("whole", "second"))
    for name in ("M", "Q", "v"):
        np.testing.assert_allclose(second[name], whole[name], atol=1e-6)


def test_curve_writes_csv_netcdf_and_picture(
    run: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"curve.{suffix}" for suffix in ("csv", "nc", "png")]
    options = [part for file in files for part in ("-o", file)]
    assert run("curve", "--learner", "oracle", "--sigma", "0.5:1:2", *options) == 0
    lines = files[0].read_text().splitlines()
    assert lines[0].startswith('# mixture: {"means"')
    (header, *rows) = csv.reader(line for line in lines if not line.startswith("# "))
    assert header == ["sigma", "oracle", "oracle_error"]
    p = ndtr(-1 / (np.sqrt(2) * np.array([0.5, 1.0])))
    np.testing.assert_allclose([float(row[1]) for row in rows], 2 * p * (1 - p), rtol=1e-14)  # a few rounding errors
    assert list(xr.load_dataset(files[1]).learner.values) == ["oracle"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert capfd.readouterr().err == ""  # quiet in a pipe


def test_a_curve_says_what_it_took_for_its_learners(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    """Defaults too, as flags, beside the table and not in it."""
    shared = ["curve", "--mixture", "two-clusters", "--sigma", "0.5", "--learner", "bayes", "--learner", "erm"]
    assert run(*shared, "--without-intercept") == 0
    printed = capfd.readouterr()
    assert len(printed.out.splitlines()) == 2
    assert printed.err.splitlines() == [
        "bayes: --alpha 2.0",
        "erm: --loss logistic --alpha 2.0 --ridge 1.0 --without-intercept",
    ]


def test_fixed_points_say_of_which_network_and_rule(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    """Their decay is no 0 by default; a pmse of -1e-16 is 0."""
    few = ["fixed-points", "--mixture", "two-clusters", "--activation", "erf", "--K", 1, "--seeds", 1]
    assert run(*few) == 0
    assert "TwoLayer(K=1, activation='erf'), GradientFlow(weight_decay=0.01)" in capfd.readouterr().err
    assert run(*few, "--teacher", "erf:1", "--weight-decay", 0) == 0
    printed = capfd.readouterr()
    assert "GradientFlow()" in printed.err
    assert "-0.00000000" not in printed.out


def test_spectra_teachers_and_the_gradient_flow(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--K", 2, "--activation", "erf", "-t", 1]
    taught = ["--mixture", "two-clusters", "--spectrum", "mp:0.5", "--teacher", "erf:1", "--simulate", "--D", 60]
    assert run("dynamics", *taught, "--seeds", 2, "--label-noise", 0.1, *small) == 0
    assert "1 simulated" in capfd.readouterr().out
    options = ["--gradient-flow", "--output-scale", 2, "--second-weight-decay", 0.1]
    assert run("dynamics", *options, *small) == 0
    assert "oracle" in capfd.readouterr().out
    shared = ["--data", "digits", "--covariance", "shared", "--sigma", "0.5", "--starts", 1]
    assert run("curve", *shared, *small) == 0
    assert "two-layer" in capfd.readouterr().out


def test_the_loss_and_the_batch_reach_the_rule(
    run: Callable[..., int], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is written says which rule was integrated and simulated, and where learning ends.

    Two clusters, one erf neuron with v = 1, logistic loss: a neuron along the mean is the oracle, Phi(-1/sigma).
    """
    small = ["--mixture", "two-clusters", "--sigma", 0.4, "--K", 1, "--activation", "erf", "--loss", "logistic"]
    run_file, end = tmp_path / "run.nc", tmp_path / "end.nc"
    short = ["-t", 1, "--D", 60, "--simulate", "--seeds", 2, "-o", run_file]
    assert run("dynamics", *small, *short, "--batch", 4) == 0
    for path in (run_file, tmp_path / "run_simulation.nc"):
        rule = json.loads(xr.load_dataset(path).attrs["sgd"])
        assert (rule["loss"], rule["batch"]) == ("logistic", 4)
    assert run("fixed-points", *small, "--seeds", 1, "-o", end) == 0
    found = xr.load_dataset(end).isel(solution=0)
    assert json.loads(found.attrs["sgd"])["loss"] == "logistic"
    assert abs(float(found.classification_error) - ndtr(-1 / 0.4)) < 1e-6


def test_data_stand_in_for_a_mixture(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--K", 1, "--activation", "linear", "--D", 64, "-t", 0.5]
    assert run("dynamics", "--data", "digits", *small) == 0
    assert run("curve", "--data", "digits", "--sigma", "0.5,0.6", "--initial", 1, *small) == 0
    assert "two-layer" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynamics", "--mixture", "moons"], "mixture must be one of xor, .* got 'moons'"),
        (["dynamics", "--sigma", "-1"], "sigma must be finite and > 0, got -1"),
        (["dynamics", "--K", "0"], "K must be an integer >= 1, got 0"),
        (["dynamics", "--data", "nowhere"], "data must be 'digits' or an .npz"),
        (["dynamics", "--sigma", "abc"], "'--sigma': .* valid number, .* got 'abc' .see quenched dynamics --help"),
        (["dynamics", "--epochs", "3"], "No such option: --epochs"),
        (["dynamics", "--initial", "-1"], "initial must be an integer >= 0, got -1"),
        (["dynamics", "--mixture", "ring:0"], "mixture ring takes a number from 1 to 1000, got 'ring:0'"),
        (["dynamics", "--mixture", "ring:1000000000000"], "mixture ring takes a number from 1 to 1000"),
        (["dynamics", "--teacher", "erf:100000"], "teacher must have at most 1000 neurons, got 'erf:100000'"),
        (["dynamics", "--spectrum", "mp:"], "spectrum mp takes a number, got ''"),
        (["dynamics", "--spectrum", "mp:0"], "spectrum 'mp:0': ratio must be finite and > 0, got 0"),
        (["dynamics", "--data", "digits", "--covariance", "shared", "--project"], "--project is of --covariance full"),
        (["dynamic", "--K", "4"], "No such command .dynamic., did you mean .dynamics.?"),
        (["dynamics", "--force"], "--force is of files: add --output"),
        (["dynamics", "--lr", "0"], "lr must be > 0 where --second-lr is not given or 0"),
        (["dynamics", "--sigma", "1e200"], r"sigma must be finite and > 0 and <= 1e\+60, got 1e\+200"),
        (["dynamics", "--label-noise", "1e200"], r"label_noise must be finite and >= 0 and <= 1e\+60"),
        (["curve", "--sigma", "1:2:0"], "sigma must be finite, and a NUMBER of them from 1 to 100000, got '1:2:0'"),
        (["curve", "--sigma", "1:2:1000000000000"], "sigma must be finite, and a NUMBER of them from 1 to 100000"),
        (["curve", "--sigma", "1:inf:3"], "sigma must be finite, .* got '1:inf:3'"),
        (["fixed-points", "--follow", "nonsense"], "follow must be one of sigma, .* got 'nonsense'"),
        (["fixed-points", "--follow", "sigma", "--values", "1,3,2"], "values must increase or decrease throughout"),
        (["validate", "--seeds", "1"], "seeds must be an integer >= 2, got 1"),
        (["validate", "--significance", "1"], "significance must lie between 0 and 1, got 1"),
        (["validate", "--backend", ""], "backend must be 'auto', 'numpy' or 'cupy', got ''"),
        (["reproduce", "digits", "--processes", "0"], "processes must be an integer >= 1, got 0"),
        (["derive", "--certify", "b.pdf"], r"certify must end in \.md, got 'b\.pdf'"),
        (["derive", "--latex", "b.pdf"], r"latex must end in \.tex, got 'b\.pdf'"),
        (["dynamics", "--state", "nowhere.nc"], "file must be a NetCDF file, got 'nowhere.nc'"),
        (["dynamics", "--state", "a.nc", "--initial", "3"], "--initial does not go together with --state"),
        (["dynamics", "--D", "0"], "D must be an integer >= 1, got 0"),
        (["dynamics", "--data", "digits", "--mixture", "xor"], "--mixture does not go together with --data"),
        (["dynamics", "--data", "digits", "--separation", "2"], "--separation does not go together with --data"),
        (["dynamics", "--data", "digits", "--spectrum", "mp:1"], "--spectrum does not go together with --data"),
        (["dynamics", "--covariance", "isotropic"], "--covariance is of covariances estimated from data"),
        (["dynamics", "--data", "digits", "--project"], "--project is of --covariance full, got 'isotropic'"),
        (["dynamics", "--gradient-flow", "--label-noise", "0.1"], "--label-noise does not go together"),
        (["dynamics", "--gradient-flow", "--batch", "2"], "--batch does not go together with --gradient-flow"),
        (["fixed-points", "--batch", "2"], "--batch does not go together with --lr: at 0, the default"),
        (["fixed-points", "--label-noise", "0.1"], "--label-noise does not go together with --lr"),
        (["fixed-points", "--loss", "phi*z"], r"loss 'phi\*z': 'z' is not understood"),
        (["dynamics", "--loss", "phi*z"], r"loss 'phi\*z': 'z' is not understood"),
        (["dynamics", "--batch", "0"], "batch must be an integer >= 1, got 0"),
        (["validate", "--loss", "phi*z"], r"loss 'phi\*z': 'z' is not understood"),
        (["validate", "--batch", "0"], "batch must be an integer >= 1, got 0"),
        (["dynamics", "--gradient-flow", "--simulate"], "--simulate does not go together with --gradient-flow"),
        (["dynamics", "--seeds", "3"], "--seeds is the number of simulations: add --simulate"),
        (["dynamics", "--time", "0"], "t must be finite and > 0, got 0"),
        (["dynamics", "-o", "run.txt"], r"output must end in \.nc or \.csv, got 'run.txt'"),
        (["dynamics", "--plot", "run.xyz"], r"plot must end in \.png, .*, got 'run.xyz'"),
        (["derive", "--check", "--latex", "x.tex"], "--check does not go together with --latex"),
        (["derive", "--check", "--activation", "x"], "--check does not go together with --activation"),
        (["derive", "--loss", "square", "--latex", "x.tex"], "--loss is of a document of your own: add --activation"),
        (["derive", "--force"], "--force is of files"),
        (["validate", "--engine", "matrix"], "engine must be 'vectors' or 'overlaps', got 'matrix'"),
        (["validate", "--quick", "--full"], "--quick does not go together with --full"),
        (["fixed-points", "--values", "1,2"], "--values is of a followed solution: add --follow"),
        (["fixed-points", "--plot", "a.png"], "--plot is of a followed solution: add --follow"),
        (["curve", "--learner", "oracle", "--gamma", "2"], "--gamma is an option of the learner random-features"),
        (["curve", "--learner", "kernel", "--lr", "1"], "--lr is an option of the learner two-layer"),
        (["curve", "--digits", "30"], "--digits needs --learner oracle alone"),
        (["reproduce", "--force", "--resume"], "--force does not go together with --resume"),
        (["plot", "nowhere.nc"], "file must be a NetCDF file, got 'nowhere.nc'"),
        (["show", "nowhere.nc"], "file must be a NetCDF file, got 'nowhere.nc'"),
        (["show", "."], r"file must be a NetCDF file, got '\.': a folder"),
        (["plot", "."], r"file must be a NetCDF file, got '\.': a folder"),
        (["fixed-points", "--seeds", "10000000"], "seeds must be an integer <= 1000000"),
        (["sweep", "a.toml", "--scheduler", "tcp://a:1", "--processes", "2"], "--processes does not go together"),
        (["curve", "--sigma", "1:2"], "sigma must be FIRST:LAST:NUMBER"),
        (["curve", "-o", "curve.xls"], "output must end in .nc, .csv, .* got 'curve.xls'"),
        (["curve", "--learner", "svm"], "learners must be among oracle, two-layer"),
        (["reproduce", "nothing"], "figure must be one of dynamics, .* got 'nothing'"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    run: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not any(tmp_path.iterdir())


def test_an_unstable_run_says_what_to_change(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("dynamics", "--activation", "linear", "--K", 1, "--lr", 1000, "--second-lr", 0) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "lower lr" in line


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the examples need to find, and smaller problems where an option cannot ask for them."""
    monkeypatch.chdir(tmp_path)
    whole = judge.judge

    def small(grid: Grid, **arguments: Any) -> judge.Verdict:
        least = {"mixtures": ("xor",), "activations": ("erf",), "K": (2,), "rates": (0.5,), "seeds": 4, "variants": ()}
        return whole(replace(grid, **least, D=(60,), times=(0.5,), bias_D=(20, 40, 80), bias_runs=1e3), **arguments)

    monkeypatch.setattr(judge, "judge", small)
    monkeypatch.setattr(dynamics_figure, "T", 0.5)
    monkeypatch.setattr(dynamics_figure, "D", 60)
    monkeypatch.setattr(headline, "OPTIONS", replace(headline.OPTIONS, t=0.5, starts=1))
    monkeypatch.setattr("quenched.symbolic.generate.check", lambda folder: [])
    spec = re.search(r"span the grid\):\n\n(.*?)\n\n", import_module("quenched.sim.cli.sweep").VERB.__doc__, re.DOTALL)
    assert spec is not None
    Path("grid.toml").write_text(spec[1].replace("10000", "200").replace("number = 8", "number = 1"))


@pytest.mark.usefixtures("shortened")
@pytest.mark.parametrize(("verb", "example"), EXAMPLES)
def test_examples_run(verb: str, example: str, monkeypatch: pytest.MonkeyPatch, run: Callable[..., int]) -> None:
    extra = SHORT.get(verb, [])
    if verb == "curve" and "oracle --digits" not in example and not re.search("random|kernel", example):
        extra = ["-t", "0.5", "--starts", "1"]
    if "--follow" in example:
        extra = [*extra, "--values", "0.4:0.41:2"]
    if "run.nc" in example and "-o run.nc" not in example:
        assert run("dynamics", "-t", 0.5, "--simulate", "--seeds", 2, "--D", 50, "-o", "run.nc") == 0
    if "problem.toml" in example:
        Path("problem.toml").write_text(PROBLEM)
    if verb == "verify":
        few = [entry for entry in records.bank() if entry.id in ("oracle/xor", "average/relu-relu", "erm/square")]
        monkeypatch.setattr(records, "bank", lambda: few)
    if "cupy" in example and find_spec("cupy") is None:
        assert run(*shlex.split(example), *extra) == 1
        return
    # a small grid may be denied, which is exit 1 of validate
    assert run(*shlex.split(example), *extra) in ((0, 1) if verb == "validate" else (0,))


def test_nothing_is_overwritten(run: Callable[..., int], tmp_path: Path) -> None:
    data = tmp_path / "deep" / "curve.csv"
    line = ["curve", "--learner", "oracle", "--sigma", "0.5,1", "-o", data]
    assert run(*line) == 0
    before = data.read_bytes()
    data.write_bytes(b"mine")
    assert run(*line) == 2
    assert data.read_bytes() == b"mine"
    assert run(*line, "--force") == 0
    assert data.read_bytes() == before
    (tmp_path / "run_simulation.nc").touch()
    assert run("dynamics", "--simulate", "-o", tmp_path / "run.nc") == 2
    (tmp_path / "report.md").touch()
    assert run("validate", "--report", tmp_path) == 2
    (tmp_path / "digits.png").touch()
    assert run("reproduce", "digits", "--folder", tmp_path) == 2


def test_a_trajectory_as_csv(run: Callable[..., int], tmp_path: Path) -> None:
    small = ["--K", 2, "--activation", "erf", "--D", 50, "-t", 1, "--simulate", "--seeds", 2]
    assert run("dynamics", *small, "-o", tmp_path / "run.csv", "-o", tmp_path / "run.nc") == 0
    theory = xr.load_dataset(tmp_path / "run.nc")
    rows = list(csv.DictReader(x for x in (tmp_path / "run.csv").read_text().splitlines() if x[0] != "#"))
    assert [float(row["M[1,0]"]) for row in rows] == theory.M[:, 1, 0].values.tolist()
    assert (tmp_path / "run_simulation.csv").read_text().count("\n") > 2 * 21


def test_a_plain_dynamics_shows_learning(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    assert run("dynamics") == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    first, last, best = float(lines[1][2]), float(lines[5][2]), float(lines[6][1])
    assert first > 0.45
    assert best < last < best + 0.03


def test_every_variable_of_every_file_is_explained(run: Callable[..., int], tmp_path: Path) -> None:
    """Long name and units, of what the verbs write; names of things have no unit."""
    small = ["--K", 2, "--activation", "erf", "-t", 1]
    run("dynamics", *small, "--simulate", "--seeds", 2, "--D", 50, "-o", tmp_path / "a.nc")
    taught = ["--mixture", "two-clusters", "--spectrum", "mp:0.5", "--teacher", "erf:1"]
    run("dynamics", *small, *taught, "-o", tmp_path / "b.nc")
    run("curve", *small, "--starts", 1, "--sigma", "0.5", "-o", tmp_path / "c.nc")
    run("fixed-points", "--seeds", 1, "-o", tmp_path / "d.nc")
    files = sorted(tmp_path.glob("*.nc"))
    assert [path.stem for path in files] == ["a", "a_simulation", "b", "c", "d"]
    for path in files:
        dataset = xr.load_dataset(path)
        for name, variable in dataset.variables.items():
            if name not in dataset.dims or name in dataset.coords:
                assert variable.attrs.get("long_name"), f"{name} of {path.name}"
                assert variable.attrs.get("units") or variable.dtype.kind in "OUT", f"{name} of {path.name}"


def test_show_says_what_is_in_a_file(
    run: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("dynamics", "--K", 2, "--activation", "erf", "-t", 1, "-o", tmp_path / "a.nc") == 0
    capfd.readouterr()
    assert run("show", tmp_path / "a.nc") == 0
    text = capfd.readouterr().out
    assert "time 101, cluster 4, neuron 2" in text
    assert '  network.activation = "erf"\n' in text
    assert re.search(r"^Q  +time, neuron, neuron_  .*  1  +overlap of weights, w_k.w_l/D$", text, re.MULTILINE)


def test_the_version(run: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> None:
    import quenched

    assert run("--version") == 0
    assert capfd.readouterr().out == f"quenched {metadata.version('quenched')}\n"
    assert quenched.__version__ == metadata.version("quenched")
    with pytest.raises(AttributeError, match="module 'quenched' has no attribute 'nothing'"):
        _ = quenched.nothing


def test_tables_are_never_cut(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    long = "[bold]" + "x" * 300
    terminal.print_table(["a", "b"], [["1", long], ["22", "y"]])
    assert capfd.readouterr().out == f"a   b\n1   {long}\n22  y\n"


def test_a_file_gets_a_line_a_minute(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_MINUTE", 0.05)
    with terminal.progress("task") as report:
        report(0.25)
        said = ""
        while said.count("\n") < 2:
            time.sleep(0.01)
            said += capfd.readouterr().err
    assert all(re.fullmatch(r"quenched: task 25% after \d+ min", line) for line in said.splitlines()[1:])


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    name: str = "a"


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    many: tuple[int, ...] = ()
    on: bool = False
    other: object = None


def test_flags_are_the_fields_of_records() -> None:
    """Nested records, tuples, switches; shared flags reach all owners; what has no plain type is no flag."""
    seen: dict[str, Any] = {}

    def verb(one: Outer, both: dict[str, Any], given: set[str]) -> None:
        """A verb."""
        seen.update(one=one, both=both, given=given)

    @dataclass(frozen=True)
    class Left:
        gain: float = 1.0

    @dataclass(frozen=True)
    class Right:
        gain: float = 2.0

    made = options.command(verb, one=Outer(), both={"left": Left(), "right": Right()})
    app = main.typer.Typer()
    app.command()(made)
    text = CliRunner().invoke(app, ["--help"], terminal_width=200).output
    assert "--rate" in text
    assert "--other" not in text
    assert "--no-on" not in text
    assert CliRunner().invoke(app, ["--rate", "2", "--many", "1", "--many", "3", "--on"]).exit_code == 0
    assert seen["one"] == Outer(Inner(2.0), (1, 3), True)
    assert seen["both"] == {"left": Left(), "right": Right()}
    assert seen["given"] == {"rate", "many", "on"}
    assert CliRunner().invoke(app, ["--gain", "7"]).exit_code == 0
    assert seen["both"] == {"left": Left(7.0), "right": Right(7.0)}
    assert seen["one"] == Outer()


def test_no_function_of_the_command_line_has_many_parameters() -> None:
    for path in sorted(Path(main.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                count = len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs)
                assert count <= 10, f"{path.name}: {node.name} has {count} parameters"
