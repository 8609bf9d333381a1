"""Momentum with 1 - beta = friction/D: vectors with velocities against theory, and where they are refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quenched.numerics import (
    GradientFlow,
    Mixture,
    OnlineSGD,
    Teacher,
    TwoLayer,
    integrate,
    random_state,
    state_at,
)
from quenched.numerics.problem.state import with_velocity
from quenched.sim import compare, simulate
from quenched.sim.backend import get_backend
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.vectors import Vectors
from quenched.sim.referee.grid import Grid, Variant
from quenched.sim.referee.judge import judge
from quenched.sim.specifications import read_problem
from quenched.sim.sweeps import Sweep

PAIR, ERF = Mixture.two_clusters(0.6), TwoLayer(2, "erf")
TAUGHT = Mixture([[0.7]], teacher=Teacher([[1.2], [-0.6]], [1.0, 0.5], "erf"))
RULE = OnlineSGD(1.5, weight_decay=0.1, friction=2.0)


def test_theory_agrees_and_without_the_noise_does_not() -> None:
    """30 runs at D = 300; the control leaves out what samples add to U, a tenth of it, and no other term."""
    state, t = random_state(PAIR, ERF, 500, 1), [1.0, 3.0]
    runs = simulate(PAIR, ERF, RULE, 300, t, 30, "vectors", "numpy", state=state, test_samples=2000)
    theory = integrate(PAIR, ERF, RULE, state, t)
    found = compare(theory, runs)
    assert found.agrees
    assert {"M_dot", "C", "U", "v_dot"} <= set(found.table.observable.values)
    calm = integrate(PAIR, ERF, GradientFlow(1.5, weight_decay=0.1, friction=2.0), state, t)
    denied = compare(calm.assign_attrs(theory.attrs), runs)
    assert not denied.agrees
    assert denied.worst().z.values[list(denied.worst().observable).index("U")] > 8


CASES: dict[str, tuple[Any, TwoLayer, Any]] = {
    "biases, a batch and a bath": (
        PAIR,
        TwoLayer(2, "relu"),
        OnlineSGD(1.0, friction=1.5, bias_lr=0.7, bias_decay=0.2, intercept_lr=0.6, batch=2, temperature=0.3),
    ),
    "pieces, schedules and frozen parts": (
        [(PAIR, 1.5), (Mixture.two_clusters(0.6, separation=2.0), None)],
        ERF,
        [
            (OnlineSGD("1/(1 + t)", friction="3/(1 + t)"), 1.0),
            (OnlineSGD(0.5), 1.5),
            (OnlineSGD(1.0, friction=0.5, frozen=("w0", "v1")), None),
        ],
    ),
    "a teacher": (TAUGHT, ERF, OnlineSGD(1.0, friction=1.0)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_what_it_goes_together_with(case: tuple[Any, TwoLayer, Any]) -> None:
    mixture, network, rule = case
    state, t = random_state(mixture, network, 400, 3), [1.0, 1.25, 2.5]
    theory = integrate(mixture, network, rule, state, t)
    runs = simulate(mixture, network, rule, 200, t, 20, "vectors", "numpy", state=state, test_samples=1000)
    assert set(theory) - {name for name in theory if str(name).endswith("_error")} <= set(runs)
    assert compare(theory, runs).agrees


def test_a_step_is_the_heavy_ball() -> None:
    """u <- beta u + step, w <- w + u with u = p/D and the rates lr/D: three steps of the same samples, by hand."""
    D, lr, friction = 40, 0.8, 1.5
    beta = 1 - friction / D
    state = random_state(PAIR, ERF, D, 2)
    problem = Problem(PAIR, ERF, OnlineSGD(lr, friction=friction, weight_decay=0.3), D)
    batch = Batch((problem,), np.zeros(1, np.int64), [7], [with_velocity(state, True)], get_backend("numpy"), "float64")
    engine, twin = Vectors(batch), Vectors(batch)
    W, v = engine.W[0].copy(), engine.v[0].copy()
    cluster = np.searchsorted(twin.thresholds[0], twin.choices[0].random(3), side="right")
    X = np.asarray(twin.inputs(cluster[None], twin.normals))[0]
    engine.advance(3)
    g, dg = batch.activation()
    u, u_v = np.zeros_like(W), np.zeros_like(v)
    for x, y in zip(X, PAIR.labels[cluster], strict=True):
        field = W @ x / np.sqrt(D)
        F = v @ g(field) - y
        u = beta * u - lr / D * ((F * v * dg(field))[:, None] * x / np.sqrt(D) + 0.3 / D * W)
        u_v = beta * u_v - lr / D * (F * g(field) + 0.3 * v) / D
        W, v = W + u, v + u_v
    np.testing.assert_allclose(engine.W[0], W, rtol=0, atol=1e-13)
    np.testing.assert_allclose(engine.v[0], v, rtol=0, atol=1e-13)
    np.testing.assert_allclose(engine.P[0] / D, u, rtol=0, atol=1e-14)
    np.testing.assert_allclose(engine.p[0] / D, u_v, rtol=0, atol=1e-14)
    twin.restore(engine.state())  # what a checkpoint holds
    engine.advance(2)
    twin.advance(2)
    for name, values in engine.state().items():
        np.testing.assert_array_equal(values, twin.state()[name], err_msg=name)


def test_runs_go_on_from_a_state_with_velocities() -> None:
    state = random_state(PAIR, ERF, 100, 1)
    given: dict[str, Any] = {"engine": "vectors", "backend": "numpy", "test_samples": 10}
    first = simulate(PAIR, ERF, RULE, 100, [0.0, 0.5], 1, state=state, **given)
    moving = state_at(first.isel(seed=0), 0.5)
    again = simulate(PAIR, ERF, RULE, 100, [0.0], 1, state=moving, **given)
    for name in ("M", "Q", "v", "M_dot", "C", "U", "v_dot"):
        np.testing.assert_allclose(again[name][0, 0], first[name][0, 1], rtol=0, atol=1e-12, err_msg=name)


def test_the_referee_has_a_cell_of_it() -> None:
    """Vectors at D <= 1000, whatever the grid asks of the chain; its control, 1.25 times the rates, is denied."""
    (own,) = [one for one in Grid().variants if dict(one.options).get("friction")]
    small = Variant("erf", 2, options=own.options)
    grid = Grid(
        mixtures=(),
        variants=(small,),
        D=(100_000,),
        seeds=8,
        times=(0.5, 1.0),
        bias_D=(100, 200),
        bias_runs=2e4,
        power_law=False,
    )
    (case,) = grid.cases()
    assert case.dimension(100_000) == 1000
    assert case.dimension(200) == 200
    found = judge(Grid(**(vars(grid) | {"D": (200,)})), processes=1)
    assert not found.denied
    assert not found.missed
    assert found.cells[0].D == 200
    assert "ζ = 1.5" in found.cells[0].options


def test_a_specification_has_a_friction(tmp_path: Path) -> None:
    file = tmp_path / "problem.toml"
    file.write_text(
        """[mixture]
kind = "two-clusters"
sigma = 0.6
[network]
K = 2
activation = "erf"
[rule]
lr = 1.5
friction = "3/(1 + t)"
"""
    )
    found = read_problem(file)
    assert found.rule == OnlineSGD(1.5, friction="3/(1 + t)")
    run = integrate(found.mixture, ERF, RULE, found.start(), [0.5])
    moved = found.__class__(found.mixture, ERF, RULE, state=state_at(run, 0.5))
    file.write_text(moved.toml())
    assert read_problem(file) == moved


def test_where_it_is_refused() -> None:
    with pytest.raises(ValueError, match="engine must be 'vectors' where the rule has a friction, got OnlineSGD"):
        simulate(PAIR, ERF, RULE, 50, [1.0], 2, "overlaps")
    with pytest.raises(ValueError, match=r"engine must be 'vectors' where the rule has a friction, .* mixture '0'"):
        Sweep([PAIR], [ERF], [RULE], D=50, seeds=2, t=[1.0])
    Sweep([PAIR], [ERF], [RULE], D=50, seeds=2, t=[1.0], engine="vectors")
