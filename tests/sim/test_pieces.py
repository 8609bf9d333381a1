"""Schedules, frozen parts, spheres and baths, and problems that change in time: theory against simulation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, random_state, records_of
from quenched.numerics.averages.activations import activation_functions
from quenched.sim import compare, simulate
from quenched.sim.engines.checkpoint import CheckpointError

FIRST = Mixture([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], [1, -1], sigma=0.5)
SECOND = Mixture([[0.0, 1.0, 0.0], [0.0, 0.5, 1.0], [0.0, -1.0, 0.2]], [1, -1, -1], sigma=0.4)
NETWORK = TwoLayer(2, "erf")
TASKS = [(FIRST, 0.5), (SECOND, 1.2), (FIRST, None)]
RULES = [
    (OnlineSGD("2/(1 + t)", [(0, 0.3), (0.3, 0.3), (0.3, 0.0)], label_noise=0.2, batch=2), 0.8),
    (OnlineSGD(1.0, sphere=True, temperature=0.3, frozen=("v0", "1"), bias_lr=0.8, intercept_lr=0.5), None),
]
STATE = random_state(TASKS, NETWORK, 500, seed=3)
T = [0.2, 0.5, 1.0, 2.0]
THEORY = integrate(TASKS, NETWORK, RULES, STATE, T)


@pytest.mark.parametrize(("engine", "D", "seeds"), [("vectors", 200, 24), ("overlaps", 20_000, 12)])
def test_engines_follow_a_problem_that_changes(engine: str, D: int, seeds: int) -> None:
    """Four pieces, two tasks, all options of a rule; `compare` allows for O(1/D) and denies one run in a hundred.

    The equations of a rate that is a quarter too large are denied, at the larger D: the comparison can fail.
    """
    options: dict[str, Any] = {"state": STATE, "test_samples": 600, "backend": "numpy"}
    runs = simulate(TASKS, NETWORK, RULES, D, T, seeds, engine, **options)
    assert runs.sizes["task"] == 2
    assert runs.learned.values.tolist() == [0, 1, 1, 0]
    assert records_of(runs)["sgd"] == [list(pair) for pair in RULES]
    found = compare(THEORY, runs)
    assert found.agrees, found.worst().to_dataframe()
    if engine == "overlaps":
        wrong = [(OnlineSGD("2.5/(1 + t)", *_rest(RULES[0][0]), label_noise=0.2, batch=2), 0.8), RULES[1]]
        other = integrate(TASKS, NETWORK, wrong, STATE, T, quantities=("pmse",)).assign_attrs(THEORY.attrs)
        assert not compare(other, runs).agrees


def _rest(rule: OnlineSGD) -> tuple[Any]:
    return (rule.weight_decay,)


@pytest.mark.parametrize("engine", ["vectors", "overlaps"])
def test_a_run_that_was_ended_between_pieces_goes_on_to_the_same_bits(engine: str, tmp_path: Path) -> None:
    arguments: tuple[Any, ...] = (TASKS, NETWORK, RULES, 40, T, 2, engine, "numpy")
    options: dict[str, Any] = {"state": STATE, "test_samples": 12}
    whole = simulate(*arguments, **options)

    def stop(fraction: float) -> None:
        if fraction > 0.5:  # in the third piece; the last save is older
            raise KeyboardInterrupt

    file = tmp_path / "run.nc"
    with pytest.raises(KeyboardInterrupt):
        simulate(*arguments, **options, checkpoint=file, checkpoint_every=0.0, progress=stop)
    xr.testing.assert_identical(simulate(*arguments, **options, checkpoint=file), whole)
    with pytest.raises(CheckpointError, match="is of another run"):
        simulate([*TASKS[:2], (SECOND, None)], *arguments[1:], **options, checkpoint=file)


def test_an_engine_that_cannot_run_a_piece_says_so() -> None:
    with pytest.raises(ValueError, match="frozen must name neurons below K = 2, got 'w7'"):
        simulate(FIRST, NETWORK, [(OnlineSGD(0.1), 1.0), (OnlineSGD(0.1, frozen="w7"), None)], 20, 2.0, 1)
    with pytest.raises(ValueError, match=r"lr must be finite and >= 0, got -0\.\d+ of '1 - t' at t = 1"):
        simulate(FIRST, NETWORK, OnlineSGD("1 - t"), 20, 2.0, 1)
    with pytest.raises(ValueError, match="until must reach the last time, 2, got 1"):
        simulate([(FIRST, 1.0)], NETWORK, OnlineSGD(0.1), 20, 2.0, 1)


def test_momentum_is_a_rescaled_rate() -> None:
    """Heavy ball, u <- beta u + gradient, w <- w - eta u, remembers 1/(1 - beta) steps, as D grows no time at all.

    The moves that a sample makes add up to eta/(1 - beta) times its gradient before the fields have changed, in both
    layers, and so does the noise: the equations are those of SGD at the rates eta/(1 - beta).  Five standard errors of
    20 runs and 5/D of the values for the terms of order 1/D; the rate itself is off by far more.
    """
    D, S, eta, beta, end = 400, 20, 0.3, 0.6, 1.5
    mixture, network = Mixture.two_clusters(0.6), TwoLayer(2, "erf")
    state = random_state(mixture, network, D, 1)
    random, (g, dg) = np.random.default_rng(0), activation_functions("erf")
    A = state.projections(mixture)
    root = np.linalg.cholesky(state.Q - A.T @ A)
    frame = np.linalg.qr(random.standard_normal((S, D - 1, 2)))[0].swapaxes(1, 2)
    w = np.sqrt(D) * np.concatenate([np.broadcast_to(A.T, (S, 2, 1)), root @ frame], axis=2)
    v = np.tile(state.v, (S, 1))
    u, u_v = np.zeros_like(w), np.zeros_like(v)
    for _ in range(round(end * D)):
        y = random.choice([1.0, -1.0], S)
        x = 0.6 * random.standard_normal((S, D))
        x[:, 0] += y
        field = np.einsum("skd,sd->sk", w, x) / np.sqrt(D)
        F = (v * g(field)).sum(axis=1) - y
        u = beta * u + (F[:, None] * v * dg(field))[:, :, None] * x[:, None, :] / np.sqrt(D)
        u_v = beta * u_v + F[:, None] * g(field) / D
        w, v = w - eta * u, v - eta * u_v
    Q = np.einsum("skd,sld->skl", w, w) / D
    for rate, agrees in ((eta / (1 - beta), True), (eta, False)):
        theory = integrate(mixture, network, OnlineSGD(rate), state, [end])
        found = []
        for values, exact in ((Q, theory.Q.values[0]), (v, theory.v.values[0])):
            error = values.std(axis=0, ddof=1) / np.sqrt(S)
            found.append(np.abs(values.mean(axis=0) - exact) < 5 * error + 5 / D * np.abs(exact).max())
        assert all(each.all() for each in found) == agrees
