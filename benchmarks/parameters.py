"""Many parameter values as one batch: the time of a small sweep, cell by cell and all together, in one run.

    python benchmarks/parameters.py

XOR with relu, K = 4: 8 noise levels, 8 learning rates, 4 seeds, 256 cells to t = 5.  CPU time of one core.  Cells give
the same numbers both ways: the chain the same bits, vectors to rounding (tests/sim/test_engines.py).
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy and numba: one core for everyone
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import time
from itertools import product

import numpy as np

from quenched.numerics import Mixture, OnlineSGD, TwoLayer, random_state
from quenched.sim.backend import get_backend
from quenched.sim.engines import ENGINES, find_engine
from quenched.sim.engines.base import Batch, Problem
from quenched.sim.engines.run import Protocol, run

NETWORK, TIME, SEEDS, SAMPLES = TwoLayer(4, "relu"), 5.0, 4, 100
SIGMAS, RATES = np.linspace(0.2, 0.9, 8), np.linspace(0.1, 0.8, 8)


def replicas(D: int) -> Batch:
    """All cells."""
    problems = tuple(Problem(Mixture.xor(sigma), NETWORK, OnlineSGD(rate), D) for sigma, rate in product(SIGMAS, RATES))
    which = np.repeat(np.arange(len(problems)), SEEDS)
    seeds = [seed for _ in problems for seed in range(SEEDS)]
    states = [random_state(problems[0].mixture, NETWORK, D, seed) for seed in seeds]
    return Batch(problems, which, seeds, states, get_backend("numpy"), "float64")


def alone(batch: Batch, s: int) -> Batch:
    """One of the cells."""
    problem = batch.problems[batch.which[s]]
    return Batch((problem,), np.zeros(1, np.int64), [batch.seeds[s]], [batch.states[s]], batch.backend, batch.dtype)


def main() -> None:
    """Print the table."""
    print("256 cells, ms per cell of CPU time        one by one    together    ratio")
    for name, D in ((name, D) for name in ENGINES for D in (20, 100, 1000)):
        batch = replicas(D)
        protocol = Protocol(find_engine(name), [0, round(TIME * D)], SAMPLES // 4, False, 2**28)
        some = range(0, len(batch.seeds), 16)
        run(alone(batch, 0), protocol)  # compiles
        times = []
        for cells in ([alone(batch, s) for s in some], [batch]):
            start = time.process_time()
            for cell in cells:
                run(cell, protocol)
            times.append(1e3 * (time.process_time() - start) / sum(len(cell.seeds) for cell in cells))
        print(f"  {name:12} D = {D:<12}{times[0]:21.2f}{times[1]:12.2f}{times[0] / times[1]:9.1f}")


if __name__ == "__main__":
    main()
