"""How fast the engines run on a card, and the parts of a block of vectors.

    python benchmarks/card.py

Prints the card, its driver and CuPy; steps of the chain per second by K and the number of replicas; test samples per
second; steps x replicas x D per second of vectors, by the engine alone and inside `simulate`; the times of the kernels.
A minute on an H100.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, random_state
from quenched.sim.backend import Backend, get_backend
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.card_chain import CardChain
from quenched.sim.engines.card_vectors import CardVectors
from quenched.sim.training import simulate

MIXTURE, SGD = Mixture.two_clusters(0.8), OnlineSGD(lr=0.3, weight_decay=0.01)


def seconds(function: Callable[[], object], card: Backend, least: float = 0.4) -> float:
    """Time of a call, the median of calls that last `least` together, after one that compiles."""
    function()
    card.synchronize()
    times: list[float] = []
    while sum(times) < least or len(times) < 3:
        start = time.perf_counter()
        function()
        card.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def batch(K: int, D: int, replicas: int, card: Backend, dtype: str = "float64") -> Batch:
    """So many replicas from one random state."""
    problem = Problem(MIXTURE, TwoLayer(K, "relu"), SGD, D)
    states = [random_state(MIXTURE, problem.network, D, 0)] * replicas
    return Batch((problem,), np.zeros(replicas, np.int64), range(replicas), states, card, dtype)


def chains(card: Backend) -> None:
    """Steps per second of all replicas together."""
    print(f"\nchain, relu, p = {MIXTURE.dimensions}, D = 10^6: steps/s (ns a step and thread); test samples/s")
    for K, sizes in ((2, (2**19,)), (4, (2**14, 2**17, 2**19)), (8, (2**17,)), (16, (2**16,))):
        for S in sizes:
            engine = CardChain(batch(K, 10**6, S, card))
            steps = max(16, 2**29 // (S * max(1, K * K // 16)))
            spent = seconds(lambda engine=engine, steps=steps: engine.advance(steps), card)
            tested = seconds(lambda engine=engine: engine.errors(200), card)
            rate, samples = S * steps / spent, S * 200 * MIXTURE.clusters / tested
            print(f"  K = {K:2d}, {S:7d} replicas: {rate:.3g}  ({1e9 * spent / steps:.0f});  {samples:.3g}")


def vectors(card: Backend) -> None:
    """Steps x replicas x D per second."""
    print("\nvectors, relu, K = 4: steps x replicas x D per second, engine and inside simulate; kernels of a block, ms")
    for dtype in ("float32", "float64"):
        for D, S, t in ((1000, 1024, 60.0), (1000, 8192, 10.0), (10_000, 512, 2.0), (100_000, 64, 0.2)):
            engine = CardVectors(batch(4, D, S, card, dtype))
            steps = 16 * engine.n
            rate = steps * S * D / seconds(lambda engine=engine, steps=steps: engine.advance(steps), card)
            parts = block_parts(engine, card)
            del engine
            options: dict[str, Any] = {
                "backend": card,
                "dtype": dtype,
                "state": random_state(MIXTURE, TwoLayer(4, "relu"), D, 0),
            }
            network = TwoLayer(4, "relu")
            simulate(MIXTURE, network, SGD, D, 64 / D, S, "vectors", test_samples=1000, **options)  # compiles
            start = time.perf_counter()
            simulate(MIXTURE, network, SGD, D, t, S, "vectors", test_samples=1000, **options)
            whole = round(t * D) * S * D / (time.perf_counter() - start)
            print(f"  {dtype}, D = {D:6d}, {S:4d} replicas: {rate:.3g}, {whole:.3g};  {parts}", flush=True)


def block_parts(engine: CardVectors, card: Backend) -> str:
    """Milliseconds of each kernel and of the product."""
    launch, calls = engine.kernel, {}

    def kept(name: str, *arguments: Any, **options: Any) -> None:
        calls[name] = arguments, options
        launch(name, *arguments, **options)

    engine.kernel = kept
    engine.advance(engine.n)
    times = {
        name: seconds(lambda name=name: launch(name, *calls[name][0], **calls[name][1]), card, 0.05) for name in calls
    }
    times["product"] = seconds(lambda: card.xp.matmul(engine.rows, engine.rows.mT), card, 0.05)
    engine.kernel = launch
    return ", ".join(f"{name} {1e3 * spent:.3f}" for name, spent in times.items())


def a_million(card: Backend) -> None:
    """10^6 replicas of K = 4 in one call, recorded at ten times with 200 test samples each."""
    network = TwoLayer(4, "relu")
    state, times = random_state(MIXTURE, network, 10**4, 0), np.linspace(0.1, 1.0, 10)
    start = time.perf_counter()
    simulate(MIXTURE, network, SGD, 10**4, times, 10**6, "overlaps", card, state=state, test_samples=200)
    spent = time.perf_counter() - start
    print(f"\n10^6 replicas, K = 4, 10^4 steps, ten records, in one call: {spent:.1f} s, {1e10 / spent:.3g} steps/s")


def main() -> None:
    """All of it."""
    import cupy

    card = get_backend("cupy")
    driver, runtime = cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.runtimeGetVersion()
    versions = f"CUDA driver {driver}, runtime {runtime}; CuPy {cupy.__version__}"
    print(f"{card.device}; {versions}; {card.memory():.3g} bytes for a run")
    chains(card)
    vectors(card)
    a_million(card)


if __name__ == "__main__":
    main()
