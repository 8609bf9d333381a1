"""The figure `ensembles`, at a size that a test can afford, and its many states."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quenched.numerics.oracle import oracle_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.overlaps import Chain
from quenched.sim.engines.states import States
from quenched.sim.figures import ensembles
from quenched.sim.processes import Work
from quenched.sim.sweeps import Sweep, sweep
from quenched.sim.training import simulate

XOR, NETWORK = Mixture.xor(0.5), TwoLayer(3, "relu")


def test_states_have_the_law_of_random_states() -> None:
    """Means and variances of M, Q and v over 4000 and 500 states agree to 5 standard errors and a factor 1.4."""
    many = States.random(XOR, NETWORK, 20, 4000, seed=1)
    others = [random_state(XOR, NETWORK, 20, seed) for seed in range(500)]
    for name in ("M", "Q", "v"):
        one = np.array([getattr(state, name) for state in many])
        other = np.array([getattr(state, name) for state in others])
        error = np.sqrt(one.var(axis=0) / 4000 + other.var(axis=0) / 500)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()
        ratio = one.var(axis=0) / other.var(axis=0)
        assert ((ratio > 1 / 1.4) & (ratio < 1.4)).all()


def test_a_chain_starts_from_states() -> None:
    """As from the records one by one: both have the overlaps, to rounding."""
    states = States.random(XOR, NETWORK, 50, 5, seed=2)
    which, backend = np.zeros(5, np.int64), get_backend("numpy")
    problem = Problem(XOR, NETWORK, OnlineSGD(0.5), 50)
    engines = [Chain(Batch((problem,), which, range(5), given, backend, "float64")) for given in (states, list(states))]
    for one, other in zip(*(engine.overlaps() for engine in engines), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-14)


def test_states_of_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"W and v must have shapes \(S, p \+ K, K\) and \(S, K\)"):
        States(np.zeros((2, 3, 1)), np.zeros((2, 2)), np.zeros((1, 2)))
    with pytest.raises(ValueError, match="D must be at least p \\+ K = 5, got 4"):
        States.random(XOR, NETWORK, 4, 1, seed=0)


def test_times_of_learning() -> None:
    """One that learns late, one that never does, one that diverges."""
    low = float(oracle_error(ensembles.MIXTURE))
    error = np.array([[0.5, 0.4, 0.2, low, low, low], [0.5] * 6, [0.5, *[np.nan] * 5]])
    found = ensembles._times(error, np.arange(6.0))
    np.testing.assert_array_equal(found["learning_time"], [3, np.nan, np.nan])
    np.testing.assert_array_equal(found["exit_time"], [2, np.nan, np.nan])


def test_the_figure_at_a_small_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(ensembles, "TIMES", np.array([0.0, 1.0, 2.0, 4.0]))
    grid = replace(ensembles.SMALL, K=(2, 4), D=(20, 40), number=8, followed=1, bias_D=(50, 80), bias_runs=(20, 20))
    data = ensembles.study(grid, "numpy", Work())
    assert data[""].sizes["K"] == 2
    assert (data[""].networks == 8).all()
    total = data[""].exit_probability.sum("time")
    assert ((total >= 0) & (total <= 1)).all()
    ensembles.draw(data).savefig(tmp_path / "figure.png")
    assert "probability of success" in ensembles.sentence(data)


@pytest.mark.gpu
def test_a_sweep_on_a_card_is_its_simulations(real_card: Backend, tmp_path: Path) -> None:
    spec = Sweep([XOR], [NETWORK], [OnlineSGD(0.5), OnlineSGD(1.0)], D=[30, 50], seeds=3, t=[1.0], test_samples=100)
    found = sweep(spec, tmp_path / "sweep.zarr", backend="cupy")
    for i, rule in enumerate((OnlineSGD(0.5), OnlineSGD(1.0))):
        for j, D in enumerate((30, 50)):
            alone: Any = simulate(XOR, NETWORK, rule, D, [1.0], 3, "overlaps", real_card, test_samples=100)
            for name in ("M", "Q", "v", "pmse"):
                cell = found[name].isel(mixture=0, network=0, rule=i, D=j)
                np.testing.assert_array_equal(cell.values, alone[name].values)
