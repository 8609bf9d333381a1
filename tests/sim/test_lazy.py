"""The figures of the lazy learners, at a size that takes seconds: what is computed, what is written, what is said."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, oracle_error, random_features_error
from quenched.sim import figures
from quenched.sim.figures import comparison, phase


def worst(runs: xr.DataArray, theory: xr.DataArray, sizes: xr.DataArray | int) -> xr.DataArray:
    """|mean over seeds - theory| in units of what is allowed: four standard errors, and 2/D.

    Theory at D is off by O(1/D); the mean of the gaps times D is 0.6 over the cells of `phase` at D = 30 and 40.
    """
    error = runs.std("seed", ddof=1) / np.sqrt(runs.sizes["seed"])
    return abs(runs.mean("seed") - theory) / (4 * error + 2 / sizes)


def test_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phase, "DIMENSIONS", [30, 40, 10**10])
    for name, value in {
        "EXPONENTS": np.linspace(0, 0.5, 11),
        "POINTS": np.array([0.1, 0.3]),
        "SIMULATED": [30, 40],
        "SEEDS": range(4),
        "LENGTHS": np.geomspace(0.5, 2.0, 5),
    }.items():
        monkeypatch.setattr(phase, name, value)
    done: list[float] = []
    sentence = figures.make("phase", tmp_path, progress=done.append)
    theory, runs = (
        xr.load_dataset(tmp_path / f"phase_{name}.nc").classification_error for name in ("theory", "simulation")
    )
    assert not theory.isnull().any()
    assert not runs.isnull().any()
    assert runs.dims == ("task", "learner", "D", "exponent", "seed")
    exact = random_features_error(Mixture.xor(1.0, scaling=0.3), "relu", 2.0, D=40).classification_error
    features = theory.learner.values[0]
    assert theory.sel(task="XOR", learner=features, D=40).interp(exponent=0.3).item() == pytest.approx(exact, abs=1e-12)
    at = theory.sel(learner=runs.learner, D=runs.D).sel(exponent=runs.exponent, method="nearest", tolerance=1e-9)
    at = at.assign_coords(exponent=runs.exponent)
    assert float(worst(runs, at, runs.D).max()) < 1
    # theory of the other exponent is seen, for every task, learner and D
    assert (worst(runs, at.roll(exponent=1), runs.D).max("exponent") > 1).all()
    # the collapse: at D = 10^10 the line is the limit but for corrections of D^(-1/2) = 1e-5, times 1.3 (kernel)
    limits = xr.load_dataset(tmp_path / "phase_limit.nc").classification_error
    for learner in limits.learner.values:
        one = limits.sel(task="XOR", learner=learner)
        alone = theory.sel(task="XOR", learner=learner, D=10**10, exponent=0.25).item()
        assert alone == pytest.approx(one.sel(length=1.0).item(), abs=2e-5)
    # far out in D the exponent alone decides, 1/4 apart
    lazy_ones = theory.sel(D=10**10, task="XOR").isel(learner=slice(2))
    assert (lazy_ones.sel(exponent=slice(0, 0.21)) > 0.45).all()
    assert (lazy_ones.sel(exponent=slice(0.29, 0.5)) < 0.01).all()
    assert "a = 0.2" in sentence
    assert done[-1] == 1
    assert (tmp_path / "phase.png").read_bytes().startswith(b"\x89PNG")


def test_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "D": 40,
        "LINES": np.array([1.0]),
        "POINTS": np.array([1.0]),
        "SEEDS": range(3),
        "TIME": 20.0,
    }.items():
        monkeypatch.setattr(comparison, name, value)
    sentence = figures.make("comparison", tmp_path)
    data = {
        name: xr.load_dataset(tmp_path / f"comparison_{name}.nc").classification_error
        for name in ("theory", "limit", "simulation")
    }
    theory = data["theory"].sel(sigma=1.0)
    for (task, length), mixture in comparison.PANELS.items():
        at = theory.sel(task=task, length=length)
        assert at.sel(learner="oracle").item() == oracle_error(mixture.finite(40)).value
        rest = at.drop_sel(learner=["oracle", comparison.NAME])
        assert (rest >= at.sel(learner="oracle") - 1e-12).all()
    low = data["limit"].sel(task="XOR", length="1").drop_sel(learner=["oracle", comparison.NAME])
    np.testing.assert_allclose(low, 0.5, rtol=0, atol=1e-12)
    runs = data["simulation"].sel(task="XOR", length="D^{1/4}")
    simulated = [comparison.features_name(gamma) for gamma in comparison.GAMMAS] + [
        comparison.kernel_name(name) for name in comparison.KERNELS
    ]
    assert not runs.sel(learner=simulated).isnull().any()
    # D = 40, the network by equations and chain from one state, at a time at which it has learned a part
    found = data["simulation"].sel(sigma=1.0)
    off = worst(found, theory.sel(learner=found.learner), 40)
    assert int(off.notnull().sum()) == 4 * len(comparison.PANELS) + 2 * len(comparison.FOLLOWED)
    assert float(off.max()) < 1
    # theory of the other length is seen, for every task and learner
    two = [found.drop_sel(learner="oracle").sel(length=list(comparison.FOLLOWED)), theory.drop_sel(learner="oracle")]
    swapped = two[1].sel(length=two[0].length).roll(length=1)
    assert (worst(two[0], swapped, 40).max("length") > 1).all()
    network = theory.sel(learner=comparison.NAME)
    shown = {key: bool(network.sel(task=key[0], length=key[1]).notnull()) for key in comparison.PANELS}
    assert shown == {key: key[1] in comparison.FOLLOWED for key in comparison.PANELS}
    for (task, length), mixture in comparison.PANELS.items():
        best = f"oracle {oracle_error(mixture.finite(40)).value:.3f}"
        plain = {"D^{1/4}": "D^(1/4)", "D^{1/2}": "D^(1/2)"}.get(length, length)
        assert f"{task}, length {plain}: {best}, network" in sentence or "and" in length
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
