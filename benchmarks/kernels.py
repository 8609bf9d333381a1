"""Kernel ridge regression: speed of the theory against real kernel matrices, and its agreement with them, in one run.

    python benchmarks/kernels.py [--cells] [--lazy] [--quadratic]

The peer is what one does without the theory: draw n samples, form the n x n matrix, solve, test on fresh inputs.  With
--cells the equivalent at finite n and D is held against that at the same n and D, over mixtures, kernels, alpha, sigma
and ridge: z-scores over training sets.  With --lazy, wide two-layer networks of large output scale against the theory
of their tangent kernel.  With --quadratic, the same at n = alpha D^2/2.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import xarray as xr
from timing import seconds

from quenched.numerics.kernel_ridge import kernel_error
from quenched.numerics.lazy.readout import ReadoutErrors
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.sim.kernel_ridge import simulate_kernel, simulate_lazy

TILTED = Mixture([[1.2, 0.0, 0.3], [-0.4, 1.0, 0.0], [0.0, -1.1, 0.8]], [1, -1, 1], [0.5, 0.3, 0.2], 0.9, 0.25)
UNEQUAL = Mixture([[1.0, 0.0], [-1.0, 0.4], [0.2, 1.0]], [1, -1, 1], [0.3, 0.5, 0.2], sigma=0.8)
# mixture, kernel, alpha, ridge, D, seeds
CELLS: list[tuple[str, Mixture, str, float, float, int, int]] = [
    ("two clusters", Mixture.two_clusters(1.0), "arccos1", 1.0, 0.1, 1000, 16),
    ("two clusters", Mixture.two_clusters(0.5, 0.7), "rbf", 0.5, 0.0, 1000, 16),
    ("two clusters", Mixture.two_clusters(2.0, 1.5), "exponential:0.2", 2.0, 0.0, 1000, 12),
    ("three labelled clusters", UNEQUAL, "polynomial:3", 1.0, 0.0, 1000, 16),
    ("XOR", Mixture.xor(0.7), "ntk:relu", 1.0, 0.05, 1000, 12),
    ("XOR, 1/4", Mixture.xor(1.0, 1.5, 0.25), "arccos1", 2.0, 0.1, 500, 24),
    ("XOR, 1/4", Mixture.xor(1.0, 1.5, 0.25), "exponential", 1.0, 0.0, 1000, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.5, 0.25), "rbf", 1.0, 0.1, 2000, 8),
    ("XOR, 1/4", Mixture.xor(0.6, 0.8, 0.25), "ntk:relu", 1.0, 0.0, 1000, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.2, 0.25), "polynomial:2", 1.5, 0.0, 1000, 12),
    ("XOR, 1/4", Mixture.xor(1.0, 1.2, 0.25), "ntk:abs", 0.5, 0.1, 1000, 16),
    ("three clusters, 1/4", Mixture.three_clusters(1.0, 1.4, 0.25), "arccos0", 2.0, 0.1, 1000, 12),
    ("three clusters, 1/4", Mixture.three_clusters(1.0, 1.4, 0.25), "laplace", 1.0, 0.01, 1000, 16),
    ("three clusters, 1/4", Mixture.three_clusters(0.5, 1.0, 0.25), "ntk:leaky_relu", 0.5, 0.0, 2000, 10),
    ("ring of 6, 1/4", Mixture.ring(3, 0.8, 1.5, 0.25), "exponential", 1.0, 0.05, 1000, 16),
    ("XOR, 1/2", Mixture.xor(1.0, 0.3, 0.5), "rbf", 0.5, 0.1, 1000, 16),
    ("parity, (1/2, 0)", Mixture.parity(0.7, (1.0, 1.5), (0.5, 0.0)), "ntk:relu", 2.0, 0.1, 1000, 10),
    ("parity, (1/2, 0)", Mixture.parity(1.0, (0.8, 1.0), (0.5, 0.0)), "arccos1", 1.0, 0.0, 1000, 16),
    ("parity, (1/2, 0)", Mixture.parity(0.5, (0.7, 1.0), (0.5, 0.0)), "exponential", 0.5, 0.01, 2000, 10),
    ("parity, (1/2, 0)", Mixture.parity(0.7, (1.0, 1.0), (0.5, 0.0)), "laplace", 1.0, 0.0, 1000, 16),
    ("three labels in space, 1/4", TILTED, "ntk:relu", 1.0, 0.1, 1000, 16),
    ("two clusters, two sigmas", Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 0.8]), "arccos1", 1.0, 0.1, 1000, 16),
]


def speed() -> None:
    """Time of each formula, and of the matrices."""
    print("CPU time of a point                                  pmse      error")
    xor, parity = Mixture.xor(1.0, 1.5, 0.25), Mixture.parity(0.7, (1.0, 1.5), (0.5, 0.0))
    tasks = {
        "limit, D^0": (Mixture.two_clusters(1.0), {}),
        "limit, D^1/4": (xor, {}),
        "limit, (1/2, 0)": (parity, {}),
        "limit, n = D^2": (Mixture.xor(1.0), {"samples": "quadratic"}),
        "equivalent, D = 1000": (xor, {"D": 1000}),
        "equivalent, D = 1000, three dimensions": (TILTED, {"D": 1000}),
        "equivalent, D = 1000, ring of 8": (Mixture.ring(4, 1.0, 1.4, 0.25), {"D": 1000}),
    }
    for name, (mixture, options) in tasks.items():
        found = kernel_error(mixture, "ntk:relu", 2.0, 0.1, **options)
        took = seconds(lambda m=mixture, o=options: kernel_error(m, "ntk:relu", 2.0, 0.1, **o))
        print(f"{name:40} {took * 1e3:8.2f} ms {found.pmse:9.6f} {found.classification_error:9.6f}")
    curve = np.linspace(0.05, 5, 100)
    took = seconds(lambda: [kernel_error(xor, "ntk:relu", alpha, 0.1) for alpha in curve])
    print(f"a curve of 100 points at D^1/4: {took * 1e3:.0f} ms")
    t_limit, t_finite = (seconds(lambda o=o: kernel_error(xor, "ntk:relu", 2.0, 0.1, **o)) for o in ({}, {"D": 1000}))
    theory = kernel_error(xor, "ntk:relu", 2.0, 0.1, D=1000)
    start = time.process_time()
    run = simulate_kernel(xor, "ntk:relu", 1000, 2000, [0], 0.1, backend="numpy")
    took = time.process_time() - start
    print(
        f"matrices, D = 1000, n = 2000, one training set: {took:.1f} s, pmse {run.pmse.item():.4f}; equivalent "
        f"{theory.pmse:.4f} (ratio {took / t_finite:.0f}), limit (ratio {took / t_limit:.0f})"
    )


Score = tuple[float, float, float]


def scores(theory: ReadoutErrors, runs: xr.Dataset) -> tuple[Score, Score]:
    """(theory, mean over seeds, z) of the pmse and of the classification error."""
    found = []
    for observable in ("pmse", "classification_error"):
        values, exact = runs[observable].values, float(getattr(theory, observable))
        error = values.std(ddof=1) / np.sqrt(len(values))
        found.append((exact, float(values.mean()), float((values.mean() - exact) / error) if error else 0.0))
    return found[0], found[1]


def row(name: str, numbers: str, found: tuple[Score, Score]) -> None:
    """One line of a table."""
    (p, q, z), (e, f, w) = found
    print(f"{name:27} {numbers} {p:9.5f} {q:8.5f} {z:+5.2f}  | {e:8.5f} {f:8.5f} {w:+5.2f}", flush=True)


def summary(found: list[tuple[Score, Score]]) -> None:
    """Mean, spread and largest z."""
    z = np.array([[one[2] for one in both] for both in found])
    print(
        f"{len(z)} cells: z of the pmse mean {z[:, 0].mean():+.2f}, spread {z[:, 0].std(ddof=1):.2f}, largest "
        f"{np.abs(z[:, 0]).max():.2f}; of the error mean {z[:, 1].mean():+.2f}, spread {z[:, 1].std(ddof=1):.2f}, "
        f"largest {np.abs(z[:, 1]).max():.2f}"
    )


def cells() -> None:
    """z-scores of real kernel matrices against the equivalent at the same n and D."""
    print(
        f"{'task':27} {'kernel':15} {'alpha':>5} {'ridge':>5} {'D':>5} {'seeds':>5} "
        f"{'pmse':>9} {'matrix':>8} {'z':>5}  | {'error':>8} {'matrix':>8} {'z':>5}"
    )
    found = []
    for cell, (name, mixture, kernel, alpha, ridge, D, seeds) in enumerate(CELLS):
        n = round(alpha * D)
        runs = simulate_kernel(mixture, kernel, D, n, range(100 * cell, 100 * cell + seeds), ridge, backend="numpy")
        found.append(scores(kernel_error(mixture, kernel, n / D, ridge, D=D), runs))
        row(name, f"{kernel:15} {alpha:5g} {ridge:5g} {D:5d} {seeds:5d}", found[-1])
    summary(found)


def lazy() -> None:
    """Lazy networks of growing width, all other things equal, and their limit: the corrections are O(1/K)."""
    D, n, ridge, seeds = 200, 300, 0.05, range(8)
    for name, mixture in (
        ("XOR, 1/4", Mixture.xor(1.0, 1.5, 0.25)),
        ("parity, (1/2, 0)", Mixture.parity(0.7, (1.0, 1.5), (0.5, 0.0))),
    ):
        theory = kernel_error(mixture, "ntk:relu", n / D, ridge, D=D)
        exact = simulate_kernel(mixture, "ntk:relu", D, n, seeds, ridge, backend="numpy")
        row(name, f"{'kernel':>15}", scores(theory, exact))
        runs = {}
        for K in (1000, 2000, 4000):
            runs[K] = simulate_lazy(mixture, TwoLayer(K, "relu", 100.0), D, n, seeds, ridge, backend="numpy")
            row(name, f"{f'K = {K}':>15}", scores(theory, runs[K]))
        row(name, f"{'K -> infinity':>15}", scores(theory, 2 * runs[4000] - runs[2000]))


def quadratic() -> None:
    """n = alpha D^2/2: matrices at growing D against the equivalent at the same D; the limit has D = infinity."""
    found = []
    for name, mixture, kernel, alpha, ridge in (
        ("XOR", Mixture.xor(0.5), "exponential", 1.0, 0.5),
        ("XOR", Mixture.xor(0.5), "exponential", 1.0, 0.02),
        ("XOR", Mixture.xor(0.5), "exponential", 2.0, 0.0),
        ("XOR", Mixture.xor(0.5), "rbf", 2.0, 0.1),
        ("XOR", Mixture.xor(0.5), "ntk:relu", 0.5, 0.01),
        ("three clusters", Mixture.three_clusters(0.5), "arccos1", 1.0, 0.1),
    ):
        for D, seeds in ((20, 24), (40, 12), (60, 8)):
            n = round(alpha * D**2 / 2)
            numbers = f"{kernel:15} {alpha:5g} {ridge:5g} {D:5d} {seeds:5d}"
            theory = kernel_error(mixture, kernel, 2 * n / D**2, ridge, samples="quadratic", D=D)
            first = 100 * len(found)  # own training sets for each cell
            runs = simulate_kernel(mixture, kernel, D, n, range(first, first + seeds), ridge, backend="numpy")
            found.append(scores(theory, runs))
            row(f"{name}, n = alpha D^2/2", numbers, found[-1])
        limit = kernel_error(mixture, kernel, alpha, ridge, samples="quadratic")
        print(f"{'':62}{limit.pmse:9.5f} {'limit':>14}  | {limit.classification_error:8.5f}")
    summary(found)


def main() -> None:
    """The timings, or what is asked for."""
    parts = {"--cells": cells, "--lazy": lazy, "--quadratic": quadratic}
    for part in [parts[option] for option in sys.argv[1:]] or [speed]:
        part()


if __name__ == "__main__":
    main()
