"""One protocol for all engines: batches over parameter values, state, refusals, and an engine added from outside."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from quenched.numerics import Mixture, OnlineSGD, OrderParameters, Spectrum, TwoLayer, random_state
from quenched.numerics.problem.network import Teacher
from quenched.sim import engines, simulate, sweep, sweeps
from quenched.sim.backend import Backend, generator_words, generators, get_backend, restore_generators
from quenched.sim.engines import ENGINES, base, find_engine
from quenched.sim.engines.base import Batch, Engine, Problem
from quenched.sim.engines.overlaps import Chain
from quenched.sim.engines.run import Outcome, Protocol, run
from quenched.sim.processes import local_processes, one_blas_thread
from quenched.sim.referee import judge
from quenched.sim.referee.grid import Case
from quenched.sim.sweeps import Sweep

NUMPY = get_backend("numpy")
D = 24
TAUGHT = Teacher([[1.0, 0.5]], [1.0], "relu")
# Problems of one structure that differ in every number, for each kind of data.
FAMILIES: dict[str, list[Problem]] = {
    "labels": [
        Problem(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5), D),
        Problem(Mixture.xor(0.9, 1.5, 0.25), TwoLayer(3, "relu", 0.5), OnlineSGD(0.2, 0.1, label_noise=0.3), D),
        Problem(
            Mixture([[1, 0], [0, 1], [0, 0], [1, 1]], [1, -1, -1, 1], [0.1, 0.2, 0.3, 0.4], sigma=[0.3, 0.4, 0.5, 0.6]),
            TwoLayer(3, "relu"),
            OnlineSGD(0.7, second_lr=0.0, second_weight_decay=0.2),
            D,
        ),
    ],
    "batches": [
        Problem(Mixture.xor(sigma), TwoLayer(2, "erf"), OnlineSGD(lr, loss="logistic", batch=3), D)
        for sigma, lr in ((0.4, 0.5), (0.6, 1.0))
    ],
    "teachers": [
        Problem(Mixture(np.zeros((1, 2)), sigma=sigma, teacher=teacher), TwoLayer(2, "erf"), OnlineSGD(0.4), D)
        for sigma, teacher in ((1.0, TAUGHT), (0.7, Teacher([[0.0, 2.0]], [-0.5], "relu")))
    ],
    "spectra": [
        Problem(
            Mixture(Mixture.xor(1.0).means, [-1, -1, 1, 1], spectrum=spectrum), TwoLayer(2, "relu"), OnlineSGD(0.4), D
        )
        for spectrum in (Spectrum([0.5, 1.5]), Spectrum([0.2, 1.0, 1.8]))
    ],
}


def together(family: list[Problem]) -> Batch:
    """Two seeds of each problem, in an order that mixes them."""
    which = np.array([*range(len(family)), *reversed(range(len(family)))])
    seeds = list(range(5, 5 + len(which)))
    states = [random_state(family[i].mixture, family[i].network, D, seed) for i, seed in zip(which, seeds, strict=True)]
    return Batch(tuple(family), which, seeds, states, NUMPY, "float64")


def protocol(kind: type[Engine], vectors: bool = False) -> Protocol:
    return Protocol(kind, [0, 20, 70], 5, vectors, 2**28)


def one(batch: Batch, s: int) -> Batch:
    """A replica alone."""
    return Batch((batch.problems[batch.which[s]],), np.zeros(1, np.int64), [batch.seeds[s]], [batch.states[s]],
                 NUMPY, "float64")  # fmt: skip


def compared(batch: Batch, found: Outcome, kind: type[Engine], tolerance: float, vectors: bool) -> None:
    for s in range(len(batch.seeds)):
        alone = run(one(batch, s), protocol(kind, vectors))
        assert alone.records.keys() == found.records.keys()
        for name, values in alone.records.items():
            np.testing.assert_allclose(found.records[name][s], values[0], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "spectra"])
def test_the_chain_gives_the_same_bits_for_many_parameter_values_at_once(family: str) -> None:
    batch = together(FAMILIES[family])
    compared(batch, run(batch, protocol(Chain)), Chain, 0.0, False)


@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_give_the_same_to_rounding_for_many_parameter_values_at_once(family: str, vectors: bool) -> None:
    """Rounding: sqrt(D) eps = 1e-15 per step relative to fields of order 1, 70 steps, and a factor 10 to amplify it."""
    kind = find_engine("vectors")
    batch = together(FAMILIES[family])
    compared(batch, run(batch, protocol(kind, vectors)), kind, 1e-12, vectors)


def test_replicas_of_different_structure_are_no_batch() -> None:
    family = FAMILIES["labels"]
    other = [
        Problem(Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(0.5), D),
        Problem(Mixture.xor(0.4), TwoLayer(3, "erf"), OnlineSGD(0.5), D),
        Problem(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5, loss="logistic"), D),
        Problem(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5, batch=2), D),
        Problem(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD("0.5/(1 + t)"), D),
        Problem(Mixture.xor(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5), D + 1),
        Problem(Mixture.two_clusters(0.4), TwoLayer(3, "relu"), OnlineSGD(0.5), D),
    ]
    for each in other:
        with pytest.raises(ValueError, match="problems must differ in numbers only"):
            Batch((family[0], each), np.arange(2), [0, 1], [], NUMPY, "float64")


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("rate", [1e5, 3.0])
def test_a_replica_that_diverges_does_so_alone(name: str, rate: float) -> None:
    """Beside others and alone: the same last good step, and NaN from there on; the others are as without it."""
    family = [Problem(Mixture.xor(0.5), TwoLayer(2, "relu"), OnlineSGD(lr), 10) for lr in (0.5, rate, 8.0)]
    state = random_state(Mixture.xor(0.5), TwoLayer(2, "relu"), 10, 1)
    which = np.array([0, 1, 2, 1, 0, 2])
    batch = Batch(tuple(family), which, list(range(6)), [state] * 6, NUMPY, "float64")
    found = run(batch, protocol(find_engine(name)), diverge=True)
    assert (found.good[which == 0] == 70).all()
    if rate > 1000:
        assert (found.good[which == 1] < 70).all()
    for s in range(6):
        alone = run(one(batch, s), protocol(find_engine(name)), diverge=True)
        assert alone.good[0] == found.good[s]
        for key, values in alone.records.items():
            np.testing.assert_allclose(found.records[key][s], values[0], rtol=1e-9)
            assert np.isnan(found.records[key][s][np.array([0, 20, 70]) > found.good[s]]).all()


@pytest.mark.parametrize("name", ENGINES)
def test_a_state_is_all_that_the_rest_depends_on(name: str) -> None:
    """Named arrays on the host; another engine with other seeds goes on from them to the same bits."""
    batch = together(FAMILIES["labels"])
    first = find_engine(name)(batch)
    first.advance(30)
    saved = first.state()
    assert all(isinstance(values, np.ndarray) for values in saved.values())
    elsewhere = Batch(batch.problems, batch.which, [seed + 100 for seed in batch.seeds], batch.states, NUMPY, "float64")
    second = find_engine(name)(elsewhere)
    second.restore(saved)
    kept = {key: values.copy() for key, values in saved.items()}
    for engine in (first, second):
        engine.advance(20)
        assert engine.steps == 50
    for key, values in first.state().items():
        np.testing.assert_array_equal(second.state()[key], values, err_msg=key)
        np.testing.assert_array_equal(saved[key], kept[key], err_msg=key)  # not a view of what moves


def test_states_of_generators_come_back() -> None:
    one, other = generators([1, 2], 0), generators([7, 8], 3)
    [source.standard_normal(5, dtype=np.float32) for source in one]  # leaves half a word behind
    restore_generators(other, generator_words(one))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.standard_normal(3, dtype=np.float32), b.standard_normal(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"words must be those of 2 generators of NumPy, got shape \(1,\)"):
        restore_generators(one, np.zeros(1, np.uint64))


class Toy(Chain):
    """An engine of another name, registered below by one line of a table."""

    @classmethod
    def refuses(cls, problem: Problem) -> str | None:
        return "engine must be another for more than one neuron" if problem.network.K > 1 else super().refuses(problem)


def test_an_engine_is_a_file_and_a_line_of_a_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`simulate` and `sweep` know of it then, and ask it what it can do."""
    monkeypatch.setitem(sys.modules, "toy_engine", sys.modules[__name__])
    monkeypatch.setitem(engines.ENGINES, "toy", "toy_engine:Toy")
    mixture, network, rule = Mixture.xor(0.4), TwoLayer(1, "relu"), OnlineSGD(0.5)
    found = simulate(mixture, network, rule, 10, [1.0], 2, "toy", test_samples=4)
    same = simulate(mixture, network, rule, 10, [1.0], 2, "overlaps", test_samples=4)
    np.testing.assert_array_equal(found.Q, same.Q)
    with pytest.raises(ValueError, match="engine must be another for more than one neuron"):
        simulate(mixture, TwoLayer(2, "relu"), rule, 10, [1.0], 2, "toy")
    spec = Sweep([mixture], [network], [rule], 10, 2, [1.0], engine="toy", test_samples=4)
    with ThreadPoolExecutor(2) as pool:
        np.testing.assert_array_equal(sweep(spec, tmp_path / "s.zarr", executor=pool).Q.squeeze(), same.Q.squeeze())
    with pytest.raises(ValueError, match="engine must be 'vectors' or 'overlaps' or 'toy', got 'matrix'"):
        find_engine("matrix")


def test_the_law_is_that_of_the_fields() -> None:
    """Of vectors and of the chain at the same weights, to rounding: eps times sums of D products of order 1."""
    for family in ("labels", "teachers"):
        batch = together(FAMILIES[family])
        laws = [find_engine(name)(batch).law() for name in ("vectors", "overlaps")]
        for one, other in zip(*laws, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


def blas_threads(_: int = 0) -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_workers_and_runs_use_one_thread_of_blas() -> None:
    """Also where two threads are inside at the same time and leave in any order; afterwards all is as before."""
    before = blas_threads()
    entered: Callable[[], Any] = one_blas_thread
    first, second = entered(), entered()
    first.__enter__()
    second.__enter__()
    assert set(blas_threads()) == {1}
    first.__exit__(None, None, None)
    assert set(blas_threads()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before
    with local_processes(1) as pool:
        assert set(pool.submit(blas_threads, 0).result()) == {1}


def test_states_without_a_spectrum_are_order_parameters() -> None:
    mixture = FAMILIES["spectra"][0].mixture
    densities = random_state(mixture, TwoLayer(2, "relu"), D, 0)
    assert not isinstance(densities, OrderParameters)
    for name in ENGINES:
        problem = Problem(Mixture.xor(0.4), TwoLayer(2, "relu"), OnlineSGD(0.5), D)
        with pytest.raises(ValueError, match="state must be OrderParameters"):
            find_engine(name)(Batch((problem,), np.zeros(1, np.int64), [0], [densities], NUMPY, "float64"))


# --- where engines run

CLASSES = Problem(Mixture.three_classes(0.5), TwoLayer(1, "erf"), OnlineSGD(0.5, loss="cross-entropy"), 20)


@pytest.mark.parametrize("name", ["vectors", "overlaps"])
def test_what_a_card_refuses_is_asked_of_the_engine(
    name: str, host_card: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By `simulate`, a sweep and the referee: "auto" goes to the host, "cupy" is refused, a cell goes elsewhere."""
    kind, host = find_engine(name), get_backend("numpy")
    assert kind.objection([CLASSES], host) is None
    assert kind.objection([CLASSES], host_card) == "backend must be 'numpy' where clusters have classes"
    for module in (base, sweeps):
        monkeypatch.setattr(module, "get_backend", lambda asked: host if asked == "numpy" else host_card)
    assert kind.place("auto", [CLASSES], 10**6).name == "numpy"
    plain = replace(CLASSES, mixture=Mixture.xor(0.5), rule=OnlineSGD(0.5))
    assert kind.place("auto", [plain], 10**6).name == "cupy"
    assert kind.place("auto", [plain, CLASSES], 10**6).name == "numpy"
    spec = Sweep([CLASSES.mixture], [CLASSES.network], [CLASSES.rule], 20, 2, [0.5], engine=name)
    assert spec.place(kind, "auto").name == "numpy"
    with pytest.raises(ValueError, match="backend must be 'numpy' where clusters have classes, as in mixture '0'"):
        sweep(spec, tmp_path / "s.zarr", backend="cupy")
    monkeypatch.setattr(judge, "get_backend", lambda asked: host if asked == "numpy" else host_card)
    case = Case("three-classes", CLASSES.network, CLASSES.rule, False)
    assert judge._engine(case, name, "cupy") == (name, "numpy")
    assert judge._engine(replace(case, mixture="xor", rule=OnlineSGD(0.5)), name, "cupy") == (name, "cupy")


def test_what_a_card_refuses_is_said_once(root: Path) -> None:
    """No caller asks for classes to choose where an engine runs."""
    sentence = "backend must be 'numpy' where clusters have classes"
    said = [path for path in (root / "sim").rglob("*.py") if sentence in path.read_text()]
    assert [path.name for path in said] == ["base.py"]
    for name in ("training", "referee/judge"):
        assert ".classes" not in (root / "sim" / f"{name}.py").read_text(), name
