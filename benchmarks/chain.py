"""Time of one SGD step: the chain of the order parameters, real vectors, and a plain NumPy loop, in one run.

    python benchmarks/chain.py

All on XOR with relu, CPU time of one core.  The floor is the time of the random numbers of a step alone: for the chain
a uniform, p + K normals and a chi-square; for vectors D normals.  The other limit of vectors is memory: the traffic
that `quenched.sim.referee.throughput` counts, at the bandwidth that it measures.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one core for everyone

import time
from collections.abc import Callable

import numba
import numpy as np

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, random_state
from quenched.sim.backend import get_backend
from quenched.sim.engines.base import Batch, Engine, Problem
from quenched.sim.engines.overlaps import Chain
from quenched.sim.engines.vectors import BLOCK, Vectors
from quenched.sim.referee.throughput import measure

MIXTURE, SGD = Mixture.xor(0.4), OnlineSGD(lr=0.3, weight_decay=0.01)


def nanoseconds(function: Callable[[int], object], steps: int, repeats: int = 5) -> float:
    """CPU time per step of function(steps): the least of some repeats, after one that compiles."""
    function(1)
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        function(steps)
        best = min(best, time.process_time() - start)
    return 1e9 * best / steps


def run(kind: type[Engine], K: int, D: int, seeds: int = 1) -> Engine:
    """An engine with `seeds` random initial states."""
    network = TwoLayer(K, "relu")
    states = [random_state(MIXTURE, network, D, seed) for seed in range(seeds)]
    problem, which = Problem(MIXTURE, network, SGD, D), np.zeros(seeds, np.int64)
    return kind(Batch((problem,), which, range(seeds), states, get_backend("numpy"), "float64"))


@numba.njit(error_model="numpy")
def chain_numbers(steps: int, random: np.random.Generator, normals: int, freedom: float) -> float:
    """What a step of the chain draws."""
    total = 0.0
    for _ in range(steps):
        total += random.random() + random.chisquare(freedom)
        for _ in range(normals):
            total += random.standard_normal()
    return total


def numpy_loop(K: int, D: int) -> Callable[[int], None]:
    """The rule as one writes it down, a sample at a time."""
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((K, D)), rng.standard_normal(K) / np.sqrt(K)
    means = np.zeros((MIXTURE.clusters, D))
    means[:, : MIXTURE.dimensions] = MIXTURE.means
    eta, kappa, sigma = SGD.eta, SGD.kappa, MIXTURE.isotropic_sigma

    def advance(steps: int) -> None:
        nonlocal w, v
        for _ in range(steps):
            a = rng.integers(len(means))
            x = means[a] + sigma * rng.standard_normal(D)
            field = w @ x / np.sqrt(D)
            g = np.maximum(field, 0)
            delta = v @ g - MIXTURE.labels[a]
            step = eta / np.sqrt(D) * delta * np.outer(v * (field > 0), x)
            v = v - eta / D * delta * g - eta * kappa / D * v
            w = w - step - eta * kappa / D * w

    return advance


def vectors(D: int, seeds: int, K: int = 4) -> float:
    """ns per step of each of `seeds` networks."""
    engine, steps = run(Vectors, K, D, seeds), BLOCK

    def advance(blocks: int) -> None:
        for _ in range(blocks):
            engine.advance(steps)

    return nanoseconds(advance, max(1, 100 // seeds)) / (steps * seeds)


def main() -> None:
    """Print the tables."""
    dimensions = (10**2, 10**4, 10**6, 10**9)
    random = np.random.Generator(np.random.SFC64(0))
    print("chain, ns per step" + "".join(f"{f'D = 10^{round(np.log10(D))}':>12}" for D in dimensions) + "       floor")
    for K in (1, 2, 4, 8, 16, 32):
        steps = 400_000 // K
        times = [nanoseconds(run(Chain, K, D).advance, steps) for D in dimensions]
        normals, freedom = MIXTURE.dimensions + K, 1000.0
        floor = nanoseconds(lambda n, k=normals, f=freedom: chain_numbers(n, random, k, f), steps)
        print(f"  K = {K:<14}" + "".join(f"{t:12.0f}" for t in times) + f"{floor:12.0f}")

    print("\nK = 4, ns per step     D = 10^2    D = 10^3    D = 10^4")
    rows: dict[str, Callable[[int], float]] = {
        "chain": lambda D: nanoseconds(run(Chain, 4, D).advance, 100_000),
        "vectors, 1 seed": lambda D: vectors(D, 1),
        "vectors, 32 seeds": lambda D: vectors(D, 32),
        "NumPy loop": lambda D: nanoseconds(numpy_loop(4, D), 1000),
        "floor of vectors": lambda D: nanoseconds(random.standard_normal, 1000 * D) * D,
    }
    for name, row in rows.items():
        print(f"  {name:18}" + "".join(f"{row(D):12.0f}" for D in (10**2, 10**3, 10**4)))

    print("\nvectors, 16 seeds, ns per step" + "".join(f"{f'D = 10^{d}':>12}" for d in (2, 3, 4)) + "  (memory allows)")
    for K in (1, 4, 16):
        times = [vectors(D, 16, K) for D in (10**2, 10**3, 10**4)]
        limit = 1e9 * 10**4 / measure("numpy", D=10**4, K=K).limit
        print(f"  K = {K:<25}" + "".join(f"{t:12.0f}" for t in times) + f"{limit:17.0f}")


if __name__ == "__main__":
    main()
