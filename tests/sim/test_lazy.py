"""The figures of the lazy learners, at a size that takes seconds: what is computed, what is written, what is said."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, oracle_error, random_features_error
from quenched.sim import figures
from quenched.sim.figures import comparison, phase


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
    # D = 30 and 40: fluctuations of 1/sqrt(D), four seeds
    at = theory.sel(learner=runs.learner, D=runs.D).sel(exponent=runs.exponent, method="nearest", tolerance=1e-9)
    assert abs(runs - at.assign_coords(exponent=runs.exponent)).mean() < 1 / np.sqrt(30)
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
        "LINES": np.array([0.5, 1.0, 2.0]),
        "POINTS": np.array([1.0]),
        "EQUATIONS": np.array([1.0]),
        "SEEDS": range(3),
        "TIME": 2.0,
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
    network = {name: data[name].sel(learner=comparison.NAME) for name in ("theory", "simulation")}
    shown = {
        key: bool(network["theory"].sel(task=key[0], length=key[1], sigma=1.0).notnull()) for key in comparison.PANELS
    }
    assert shown == {key: key[1] in comparison.FOLLOWED for key in comparison.PANELS}
    # equations and chain start from one state: after two units of time they are within fluctuations of 1/sqrt(40)
    off = network["theory"].sel(sigma=1.0) - network["simulation"].sel(sigma=1.0)
    assert float(abs(off).max()) < 0.5 / np.sqrt(40)
    for (task, length), mixture in comparison.PANELS.items():
        best = f"oracle {oracle_error(mixture.finite(40)).value:.3f}"
        plain = {"D^{1/4}": "D^(1/4)", "D^{1/2}": "D^(1/2)"}.get(length, length)
        assert f"{task}, length {plain}: {best}, network" in sentence or "and" in length
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")
