"""Width: success against simple counts, times against the learning curve, a figure, refusals; the verb fixed-points."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    TwoLayer,
    integrate,
    oracle_error,
    random_state,
)
from quenched.sim.cli.main import app
from quenched.sim.figures.width import figure, widths

XOR = Mixture.xor(0.4)
FLOW = GradientFlow(weight_decay=1e-3)


@pytest.fixture(scope="module")
def study() -> xr.Dataset:
    return widths(XOR, "relu", FLOW, K=(2, 4), seeds=(1, 2, 3), t=150.0, scales=(1.0,))


def test_success_is_a_fraction_of_runs(study: xr.Dataset) -> None:
    oracle = float(oracle_error(XOR))
    assert float(study.oracle) == pytest.approx(oracle, abs=1e-12)
    good = study.final_error <= oracle + 0.02
    np.testing.assert_array_equal(good, np.isfinite(study.time))
    np.testing.assert_allclose(study.success, good.mean("initial"))
    p = study.success.values
    np.testing.assert_allclose(study.success_error, np.sqrt((3 * p + 1) * (3 * (1 - p) + 1) / (3 + 2) ** 2 / (3 + 3)))
    assert float(study.success.sel(K=2).item()) == 0  # two relu cannot represent XOR
    assert float(study.success.sel(K=4).item()) > 0
    assert (study.final_error >= oracle - study.final_error_error).all()


def test_the_time_is_when_the_error_falls_below_the_margin(study: xr.Dataset) -> None:
    """At the reported time the error is within the margin, one recorded time before (1.3 %) it was not."""
    network = TwoLayer(4, "relu")
    cell = study.sel(K=4, scale=1.0)
    seed = int(cell.initial[int(np.isfinite(cell.time).argmax("initial"))])
    t = float(cell.time.sel(initial=seed))
    times = np.expm1(np.linspace(0, np.log1p(150.0), 400))
    start = random_state(XOR, network, D=1000, seed=seed)
    run = integrate(XOR, network, FLOW, start, [times[times < t - 1e-9][-1], t, 150.0])
    before, at, end = run.classification_error.values - float(study.oracle)
    # both paths are accurate to 1e-6 a step, the errors of the states to some 1e-5
    assert before > 0.02 - 1e-4
    assert at < 0.02 + 1e-4
    assert end + float(study.oracle) == pytest.approx(float(cell.final_error.sel(initial=seed)), abs=1e-4)


def test_figure_of_widths(study: xr.Dataset, tmp_path: Path) -> None:
    canvas = figure(study)
    canvas.savefig(tmp_path / "width.png")
    assert canvas.axes[0].get_ylabel() == "probability of success"
    assert len(canvas.axes) == 3


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="K must be <= 12 for SGD, got 13"):
        widths(XOR, "relu", OnlineSGD(0.1), K=(4, 13), seeds=(0,), t=1.0)
    with pytest.raises(ValueError, match=r"seeds and K must be one or more integers, got \[\] and \[4\]"):
        widths(XOR, "relu", FLOW, K=(4,), seeds=(), t=1.0)


def test_fixed_points_from_the_command_line(tmp_path: Path) -> None:
    branch, picture = tmp_path / "branch.csv", tmp_path / "branch.png"
    options = ["--K", "4", "--seeds", "2", "--follow", "sigma", "--values", "0.4:0.44:3"]
    result = CliRunner().invoke(app, ["fixed-points", *options, "-o", str(branch), "--plot", str(picture)])
    assert result.exit_code == 0, result.output
    assert "good" in result.output
    lines = branch.read_text().splitlines()
    assert lines[0].startswith("sigma,")
    np.testing.assert_allclose([float(line.split(",")[0]) for line in lines[1:]], [0.4, 0.42, 0.44])
    assert picture.stat().st_size > 1000
