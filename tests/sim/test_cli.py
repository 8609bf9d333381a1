"""The command line: each verb does its work, files are what their suffix says, mistakes cost one line and exit 2."""

import csv
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtr
from typer.testing import CliRunner

from quenched.sim.cli.main import main

VERBS = ["derive", "dynamics", "curve", "validate", "sweep", "reproduce", "cache"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `quenched ARGUMENTS`, run in this process."""
    monkeypatch.setattr(sys, "argv", ["quenched", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example(verb: str) -> None:
    help_text = CliRunner().invoke(main.app, [verb, "--help"], terminal_width=120).output
    assert f"Example:  quenched {verb}" in help_text


def test_derive_check_prints_what_is_stale_and_exits_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quenched.symbolic.generate.check", lambda folder: ["stale: theory/normal.py\n-old\n+new\n"])
    assert run(monkeypatch, "derive", "--check") == 1
    assert "stale: theory/normal.py\n-old\n+new\n" in capfd.readouterr().out
    monkeypatch.setattr("quenched.symbolic.generate.check", lambda folder: [])
    assert run(monkeypatch, "derive", "--check") == 0
    assert capfd.readouterr().out == ""


def test_derive_prints_one_activation(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "derive", "--activation", "x**2-1") == 0
    assert capfd.readouterr().out.startswith('"""The averages of the activation x**2 - 1.')


def test_derive_certifies_an_activation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run(monkeypatch, "derive", "--activation", "x", "--certify", tmp_path / "table.md") == 0
    table = (tmp_path / "table.md").read_text()
    assert re.search(r"^\| `x_2` \| Stein \| \d+ \| 30\.0 ", table, re.MULTILINE)
    assert " 0 below the digits required" in table


def test_dynamics_writes_what_it_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data, picture = tmp_path / "run.nc", tmp_path / "run.png"
    small = ["--K", 2, "--activation", "erf", "--D", 50, "-t", 1, "--simulate", "--seeds", 2]
    assert run(monkeypatch, "dynamics", *small, "-o", data, "--plot", picture) == 0
    theory, runs = xr.load_dataset(data), xr.load_dataset(tmp_path / "run_simulation.nc")
    assert theory.M.dims == ("time", "cluster", "neuron")
    assert theory.attrs["initial_state"] == runs.attrs["initial_state"]
    assert float(theory.time[-1]) == float(runs.time[-1]) == 1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_curve_writes_csv_netcdf_and_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"curve.{suffix}" for suffix in ("csv", "nc", "png")]
    options = [part for file in files for part in ("-o", file)]
    assert run(monkeypatch, "curve", "--learner", "oracle", "--sigma", "0.5:1:2", *options) == 0
    (header, *rows) = csv.reader(files[0].read_text().splitlines())
    assert header == ["sigma", "oracle"]
    p = ndtr(-1 / (np.sqrt(2) * np.array([0.5, 1.0])))
    np.testing.assert_allclose([float(row[1]) for row in rows], 2 * p * (1 - p), rtol=1e-11)  # 12 digits are printed
    assert list(xr.load_dataset(files[1]).learner.values) == ["oracle"]
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert capfd.readouterr().err == ""  # quiet in a pipe


def test_spectra_teachers_and_the_gradient_flow(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    small = ["--K", 2, "--activation", "erf", "-t", 1]
    taught = ["--mixture", "two-clusters", "--spectrum", "mp:0.5", "--teacher", "erf:1", "--simulate", "--D", 60]
    assert run(monkeypatch, "dynamics", *taught, "--seeds", 2, "--label-noise", 0.1, *small) == 0
    assert "1 simulated" in capfd.readouterr().out
    options = ["--gradient-flow", "--output-scale", 2, "--second-weight-decay", 0.1]
    assert run(monkeypatch, "dynamics", *options, *small) == 0
    assert "oracle" in capfd.readouterr().out
    shared = ["--data", "digits", "--covariance", "shared", "--sigma", "0.5", "--initial", 1]
    assert run(monkeypatch, "curve", *shared, *small) == 0
    assert "two-layer" in capfd.readouterr().out


def test_data_stand_in_for_a_mixture(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--K", 1, "--activation", "linear", "--D", 64, "-t", 0.5]
    assert run(monkeypatch, "dynamics", "--data", "digits", *small) == 0
    assert run(monkeypatch, "curve", "--data", "digits", "--sigma", "0.5,0.6", "--initial", 1, *small) == 0
    assert "two-layer" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dynamics", "--mixture", "moons"], "mixture must be one of xor, .* got 'moons'"),
        (["dynamics", "--sigma", "-1"], "sigma must be finite and > 0, got -1"),
        (["dynamics", "--K", "0"], "K must be an integer >= 1, got 0"),
        (["dynamics", "--data", "nowhere"], "data must be 'digits' or an .npz"),
        (["curve", "--sigma", "1:2"], "sigma must be FIRST:LAST:NUMBER"),
        (["curve", "-o", "curve.xls"], "output must end in .csv, .* got 'curve.xls'"),
        (["curve", "--learner", "svm"], "learners must be among oracle, two-layer"),
        (["reproduce", "nothing"], "figure must be one of dynamics, .* got 'nothing'"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.search(message, line)


def test_an_unstable_run_says_what_to_change(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "dynamics", "--activation", "linear", "--K", 1, "--lr", 1000, "--second-lr", 0) == 1
    (line,) = capfd.readouterr().err.splitlines()
    assert "lower lr" in line
