"""Power laws in the one specification, in the referee, and in files of results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import (
    Mixture,
    OnlineSGD,
    PowerLaw,
    Specification,
    TwoLayer,
    compute_frontier,
    integrate,
    power_law_problem,
    power_law_risk,
    problem_of,
)
from quenched.sim import read_problem
from quenched.sim.referee import judge as judging
from quenched.sim.referee.grid import POWER_LAW, Grid

LAW = PowerLaw(0.8, 0.6, inputs=24, features=8, rate=0.15, batch=2)
FILE = """
power_law = { a = 0.8, b = 0.6, inputs = 24, features = 8, rate = 0.15, batch = 2 }
draw = 1
t = [0.0, 0.5]
D = 16
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "law.toml"
    path.write_text(FILE)
    return path


def test_a_law_and_a_draw_are_the_records_of_the_problem(file: Path, tmp_path: Path) -> None:
    found, made = read_problem(file), power_law_problem(LAW, 1)
    assert (found.mixture, found.network, found.rule, found.start()) == tuple(made)
    assert found == Specification(power_law=LAW, draw=1, t=[0.0, 0.5], D=16)
    assert found != Specification(power_law=LAW, draw=2, t=[0.0, 0.5], D=16)
    (tmp_path / "again.toml").write_text(found.toml())
    assert read_problem(tmp_path / "again.toml") == found
    assert "mixture" not in found.toml()


def test_results_say_their_law_or_their_records(tmp_path: Path) -> None:
    """A risk of the equivalent has the law, of any size; a run the records that were drawn; through a file."""
    large = PowerLaw(1.0, 0.25, inputs=10**40, features=10**30)
    power_law_risk(large, [10.0]).to_netcdf(tmp_path / "risk.nc", engine="h5netcdf")
    found = read_problem(tmp_path / "risk.nc")
    assert found == Specification(power_law=large)
    (tmp_path / "risk.toml").write_text(found.toml())
    assert read_problem(tmp_path / "risk.toml") == found
    front = compute_frontier(PowerLaw(1.0, 0.25, 40, 10), range(5, 12), [1e3])
    assert problem_of(front) == Specification(power_law=PowerLaw(1.0, 0.25, 40, 10))
    problem = power_law_problem(LAW, 1)
    integrate(*problem, [0.0, 0.5], method="linear").to_netcdf(tmp_path / "run.nc", engine="h5netcdf")
    expected = Specification(problem.mixture, problem.network, problem.rule, t=[0.0, 0.5], state=problem.state)
    assert read_problem(tmp_path / "run.nc") == expected


def test_verbs_of_a_law(file: Path, run: Callable[..., int], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`dynamics` by one eigendecomposition, `show` with the phase, and without a draw a sentence that asks for it."""
    assert run("dynamics", file, "--simulate", "--seeds", 2, "-o", tmp_path / "run.nc") == 0
    found = xr.load_dataset(tmp_path / "run.nc")
    expected = integrate(*power_law_problem(LAW, 1), [0.0, 0.5], method="linear")
    np.testing.assert_array_equal(found.pmse, expected.pmse)
    assert xr.load_dataset(tmp_path / "run_simulation.nc").sizes["seed"] == 2
    assert run("show", file) == 0
    printed = capfd.readouterr().out
    assert "phase II: the least risk falls with the compute f as f^-0.642857, at the best size f^0.428571" in printed
    assert "source exponent, target j^(-b)" in printed
    file.write_text(FILE.replace("draw = 1", "").replace("b = 0.6", "b = 0.8"))
    assert run("show", file) == 0
    assert "no phase: a and b must lie inside of a phase, not on its boundary" in capfd.readouterr().out
    for verb in ("dynamics", "validate", "curve"):
        assert run(verb, file) == 2
        assert "draw, the seed of the features, must be beside power_law" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixture": Mixture.xor(0.5)}, "mixture must be left out where a power law with a draw makes it"),
        ({"rule": OnlineSGD(0.5)}, "rule must be left out where a power law with a draw makes it"),
        ({"network": TwoLayer(1, "erf")}, "network must be left out where a power law with a draw makes it"),
        ({"initial": 3}, "initial must be left out where a state is given"),
        ({"draw": -1}, "draw must be an integer >= 0, got -1"),
        ({"power_law": None}, "power_law must be a PowerLaw, got None"),
    ],
)
def test_parts_that_do_not_go_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Specification(**{"power_law": LAW, "draw": 1} | changes)


def test_a_cell_of_the_referee() -> None:
    """On vectors, which take a spectrum; it agrees, and rates a quarter too large do not."""
    grid = Grid()
    case = grid.cases()[-1]
    assert (case.mixture, case.dimension(10_000), case.dimension(90)) == (POWER_LAW, 1000, 88)
    assert judging._engine(case, "overlaps", "numpy") == ("vectors", "numpy")
    done = {("theory", 0): (judging._theory(grid, case, 0), 0.0)}
    done["runs", 0] = judging._runs(grid, case, 0, case.dimension(10_000), 0, "overlaps", "numpy"), 0.0
    (cell,), (control,), _ = judging._judged(grid, case, done, 0, 0.01)
    assert (cell.D, cell.engine) == (1000, "vectors, numpy")
    assert cell.p > 0.01
    assert control.p < 1e-5
