"""Schedules, frozen parts, spheres and baths, and problems that change in time: theory against simulation."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, integrate, random_state, records_of
from quenched.numerics.averages.activations import activation_functions
from quenched.numerics.course.pieces import course
from quenched.sim import compare, simulate
from quenched.sim.backend import Backend, Launch, get_backend
from quenched.sim.engines.base import DATA, Batch, Problem
from quenched.sim.engines.checkpoint import CheckpointError
from quenched.sim.engines.run import Protocol, Stage, _Relay
from quenched.sim.engines.vectors import Vectors
from quenched.sim.training import SimulationOptions, choose_engine

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
    theory = integrate(TASKS, NETWORK, RULES, STATE, T)
    found = compare(theory, runs)
    assert found.agrees, found.worst().to_dataframe()
    if engine == "overlaps":
        wrong = [(OnlineSGD("2.5/(1 + t)", *_rest(RULES[0][0]), label_noise=0.2, batch=2), 0.8), RULES[1]]
        other = integrate(TASKS, NETWORK, wrong, STATE, T, quantities=("pmse",)).assign_attrs(theory.attrs)
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


# --- what is drawn

SHRINKING = [(OnlineSGD(0.5, batch=4), 1.0), (OnlineSGD(0.5), None)]


def relay(rules: Any, D: int, engine: str, backend: Backend) -> _Relay:
    """The engines of the pieces of a problem, for two seeds."""
    pieces = course(TASKS, rules)
    problems = [Problem(pieces.tasks[each.task], NETWORK, each.rule, D, pieces.joint) for each in pieces.pieces]
    kind, where = choose_engine(engine, backend, problems, SimulationOptions(), 2)
    batch = Batch((problems[0],), np.zeros(2, np.int64), [3, 4], [STATE, STATE], where, "float64")
    stages = [Stage(each.task, each.rule, np.rint(each.until * D)) for each in pieces.pieces]
    return _Relay(batch, Protocol(kind, [], 1, False, 2**28, stages, pieces.tasks))


def test_vectors_on_a_card_follow_a_problem_that_changes(host_card: Backend) -> None:
    """Two tasks and a batch that shrinks, in the kernels that the host runs: `compare` as above."""
    runs = simulate(TASKS, NETWORK, SHRINKING, 200, T, 24, "vectors", host_card, state=STATE, test_samples=600)
    found = compare(integrate(TASKS, NETWORK, SHRINKING, STATE, T), runs)
    assert found.agrees, found.worst().to_dataframe()


@pytest.mark.parametrize("engine", ["vectors", "overlaps"])
def test_a_card_draws_no_sample_twice(engine: str, host_card: Backend) -> None:
    """Where a batch shrinks the counters of the next piece begin below those of the last: it has another stream."""
    drawn: list[Any] = []

    def spied(source: str) -> Launch:
        launch = host_card.kernels(source)
        rows: list[Any] = []

        def spy(name: str, count: int, *arguments: Any, lanes: int = 1) -> None:
            launch(name, count, *arguments, lanes=lanes)
            if name == "inputs" and int(arguments[-1]) & 255 == DATA:
                rows[:] = [arguments[-2]]
            elif name in ("steps_of_block", "advance"):
                start, steps = map(int, arguments[:2])
                B = 4 if start < 40 else 1
                if name == "advance":
                    drawn.extend((int(arguments[-1]), n) for n in range(start * B, (start + steps) * B))
                else:
                    drawn.extend(row.tobytes() for row in rows[0][0, 0, : steps * B])

        return spy

    problem = TASKS, NETWORK, SHRINKING, 40, 3.0, 1, engine, replace(host_card, kernels=spied)
    simulate(*problem, state=STATE, test_samples=6)
    assert len(drawn) == 4 * 40 + 80
    assert len(set(drawn)) == len(drawn)


def test_the_host_goes_on_with_the_counters_of_a_card_in_each_piece(host_card: Backend) -> None:
    """From a state of a card, over the end of a piece: `test_card` shows that these words give the same numbers."""
    card, host = (relay(SHRINKING, 40, "overlaps", where) for where in (host_card, get_backend("numpy")))
    card.advance(10)
    host.restore(card.engine.state())
    found = []
    for stage in (0, 1):
        card._hand_over(stage, card.engine.state()), host._hand_over(stage, host.engine.state())
        found.append(host.engine.state()["random"].tolist())
        assert found[-1] == card.engine.state()["random"].tolist()
    assert found[0] != found[1]


def test_a_bath_that_pauses_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its vectors are not those of its first piece once more."""
    warm = OnlineSGD(0.5, temperature=0.2)
    found, with_bath = [], Vectors._with_bath

    def spy(engine: Vectors, X: Any, heat: Any, steps: int) -> Any:
        found.append(heat.state().tobytes())
        return with_bath(engine, X, heat, steps)

    monkeypatch.setattr(Vectors, "_with_bath", spy)
    run = relay([(warm, 0.5), (OnlineSGD(0.5), 1.0), (warm, None)], 20, "vectors", get_backend("numpy"))
    for _ in range(6):
        run.advance(5)
    assert len(set(found)) == len(found) == 5  # blocks; the end of a task cuts one of them


@pytest.mark.parametrize("engine", ["vectors", "overlaps"])
def test_a_piece_shorter_than_a_step(engine: str) -> None:
    """Ends that round to the same step: the piece between them has no step, and the run is that without it."""
    options: dict[str, Any] = {"state": STATE, "test_samples": 12}
    with_it, without = (
        simulate(tasks, NETWORK, OnlineSGD(0.5), 20, [0.5, 1.0], 2, engine, "numpy", **options)
        for tasks in ([(FIRST, 0.5), (SECOND, 0.51), (FIRST, None)], [(FIRST, 0.5), (SECOND, 0.5001), (FIRST, None)])
    )
    xr.testing.assert_equal(with_it, without)


def test_times_are_compared_with_the_ends_as_they_are_given() -> None:
    """t = until = 0.98 is step 10 at D = 10, the time 1: no later than what was asked."""
    runs = simulate([(FIRST, 0.98)], NETWORK, OnlineSGD(0.1), 10, 0.98, 1)
    assert runs.step.values.tolist() == [10]


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
