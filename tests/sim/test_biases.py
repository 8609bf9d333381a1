"""Thresholds and intercept in both engines, in files, in sweeps and on the command line."""

import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import (
    Mixture,
    OnlineSGD,
    OrderParameters,
    Teacher,
    TwoLayer,
    integrate,
    random_state,
    records_of,
    state_at,
)
from quenched.numerics.averages.activations import activation_functions
from quenched.sim.backend import get_backend
from quenched.sim.cli import main
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.vectors import Vectors
from quenched.sim.referee.compare import compare
from quenched.sim.specifications import read_spec
from quenched.sim.sweeps import sweep
from quenched.sim.training import simulate

MIXTURE = Mixture([[1.0, 0.0], [-0.5, 0.5], [0.0, -1.0]], [1, -1, 1], weights=[0.5, 0.3, 0.2], sigma=[0.6, 0.8, 0.5])
TAUGHT = replace(MIXTURE, labels=None, teacher=Teacher([[0.3, 1.0]], [0.8], "relu"))
NETWORK = TwoLayer(2, "relu", output_scale=1.3)
RULE = OnlineSGD(0.3, 0.1, label_noise=0.2, bias_lr=0.7, bias_decay=0.2, intercept_lr=0.9, intercept_decay=0.1)
A = np.array([[0.3, -0.2], [0.1, 0.5]])
STATE = OrderParameters(MIXTURE.means @ A, [[0.6, 0.1], [0.1, 0.8]], [0.7, -0.4], [0.2, -0.3], 0.15)


@pytest.mark.parametrize("mixture", [MIXTURE, TAUGHT], ids=["labels", "teacher"])
def test_a_block_of_vectors_is_the_rule(mixture: Mixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain SGD, batch by batch, on the inputs and labels that the block has drawn; rounding of 10 stable steps."""
    D, steps, rule = 40, 10, replace(RULE, batch=3)
    state = replace(STATE, M=mixture.references @ A)
    problem = Problem(mixture, NETWORK, rule, D)
    engine = Vectors(Batch((problem,), np.zeros(1, np.int64), [4], [state], get_backend("numpy"), "float64"))
    W, v, b, c = engine.W[0].copy(), *np.split(engine.v[0].copy(), [2, 4])
    np.testing.assert_array_equal(np.concatenate([v, b, c]), state.parameters)
    drawn: list[Any] = []
    inputs, targets = engine.inputs, engine.targets
    monkeypatch.setattr(engine, "inputs", lambda *given: drawn.append(inputs(*given)) or drawn[-1])
    monkeypatch.setattr(engine, "targets", lambda *given: drawn.append(targets(*given)) or drawn[-1])
    engine.advance(steps)
    X, y = drawn[0][0], drawn[1][0]
    g, dg = activation_functions("relu")
    for now in np.arange(3 * steps).reshape(steps, 3):
        field = X[now] @ W.T / np.sqrt(D) + b
        F = (1.3 * g(field) @ v + c - y[now])[:, None] / 3
        push = 1.3 * F * v * dg(field)
        step_v = (1.3 * F * g(field)).sum(axis=0)
        W = (1 - 0.3 * 0.1 / D) * W - 0.3 / np.sqrt(D) * push.T @ X[now]
        v = (1 - 0.3 * 0.1 / D) * v - 0.3 / D * step_v
        b = (1 - 0.7 * 0.2 / D) * b - 0.7 / D * push.sum(axis=0)
        c = (1 - 0.9 * 0.1 / D) * c - 0.9 / D * F.sum()
    np.testing.assert_allclose(engine.W[0], W, rtol=0, atol=1e-12)
    np.testing.assert_allclose(engine.v[0], np.concatenate([v, b, c]), rtol=0, atol=1e-12)


def test_both_engines_have_one_law() -> None:
    """D = 20, where both are far from the theory: means of 300 runs each agree to 5 standard errors."""
    options: Any = {"state": STATE, "test_samples": 300, "backend": "numpy"}
    runs = [simulate(MIXTURE, NETWORK, RULE, 20, 2.0, 300, engine, **options) for engine in ("overlaps", "vectors")]
    for name in ("M", "Q", "v", "b", "c", "pmse", "classification_error"):
        one, other = (each[name].values for each in runs)
        error = np.sqrt((one.var(axis=0) + other.var(axis=0)) / 300)
        assert (np.abs(one.mean(axis=0) - other.mean(axis=0)) < 5 * error).all()


def test_the_chain_agrees_with_the_theory_and_denies_other_rates() -> None:
    """24 runs at D = 20,000, z-scores of all that is recorded, b and c among it; twice the rate of c is denied."""
    times = [1.0, 3.0]
    runs = simulate(MIXTURE, NETWORK, RULE, 20_000, times, 24, "overlaps", state=STATE, test_samples=3000)
    theory = integrate(MIXTURE, NETWORK, RULE, STATE, times)
    found = compare(theory, runs, bias=5)
    assert {"b", "c"} < set(found.table.observable.values)
    assert found.agrees
    wrong = integrate(MIXTURE, NETWORK, replace(RULE, intercept_lr=1.8), STATE, times)
    denied = compare(wrong.assign_attrs(sgd=theory.attrs["sgd"]), runs, bias=5)
    assert not denied.agrees


@pytest.mark.parametrize("engine", ["vectors", "overlaps"])
def test_a_run_goes_on_with_its_biases(engine: str, tmp_path: Path) -> None:
    """From a checkpoint to the same bits; states with and without biases in one run, these from 0."""
    states = [STATE, replace(STATE, b=None, c=None)]
    options: Any = {"state": states, "test_samples": 30, "backend": "numpy"}
    problem = MIXTURE, NETWORK, RULE, 30, [0.0, 1.0, 2.0], 2, engine
    whole = simulate(*problem, **options)
    np.testing.assert_array_equal(whole.b[1, 0], 0)
    np.testing.assert_allclose(whole.b[0, 0], STATE.b, rtol=0, atol=1e-15)

    class Stop(Exception):
        pass

    def stop(done: float) -> None:
        if done > 0.6:
            raise Stop

    file = tmp_path / "run.nc"
    with pytest.raises(Stop):
        simulate(*problem, **options, checkpoint=file, checkpoint_every=0.0, progress=stop)
    xr.testing.assert_identical(simulate(*problem, **options, checkpoint=file), whole)
    end = state_at(whole.isel(seed=0), 2.0)
    assert end.b is not None
    np.testing.assert_array_equal(end.b, whole.b[0, -1])


def test_a_sweep_of_rules_with_and_without(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(
        "D = [30]\nseeds = 2\nt = [0.0, 1.0]\ntest_samples = 30\n"
        'mixture = [{ kind = "xor", sigma = 0.4 }]\nnetwork = [{ K = 2, activation = "relu" }]\n'
        "rule = [{ lr = 0.5, bias_lr = [0.0, 0.4] }]\n"
    )
    with ThreadPoolExecutor(1) as pool:
        found = sweep(read_spec(tmp_path / "spec.toml"), tmp_path / "store.zarr", executor=pool)
    assert found.sizes["rule"] == 2
    plain, biased = (found.isel(rule=i, mixture=0, network=0, D=0) for i in range(2))
    np.testing.assert_array_equal(plain.b, 0)
    mixture, rule = Mixture.xor(0.4), OnlineSGD(0.5, bias_lr=0.4)
    alone = simulate(mixture, TwoLayer(2, "relu"), rule, 30, [0.0, 1.0], 2, "overlaps", test_samples=30)
    np.testing.assert_array_equal(biased.b, alone.b)
    np.testing.assert_array_equal(biased.c, alone.c)


def test_the_command_line_has_their_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.nc"
    line = f"dynamics --mixture two-clusters --K 1 --activation relu -t 1 --bias-lr 0.4 --intercept-lr 0.2 -o {file}"
    monkeypatch.setattr(sys, "argv", ["quenched", *line.split()])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code in (0, None)
    mixture, network = Mixture.two_clusters(0.4), TwoLayer(1, "relu")
    with xr.open_dataset(file) as data:
        rule = records_of(data)["sgd"]
        assert (rule.bias_lr, rule.intercept_lr) == (0.4, 0.2)
        again = integrate(mixture, network, rule, random_state(mixture, network, 1000, 8), data.time.values)
        np.testing.assert_allclose(data.b, again.b, rtol=0, atol=1e-12)
        np.testing.assert_allclose(data.c, again.c, rtol=0, atol=1e-12)
        assert abs(data.b[-1, 0]) > 1e-3
