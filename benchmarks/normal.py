"""Time per call of the normal probabilities, on one core, against the number of Phi2 that a Phi4 needs.

python benchmarks/normal.py
"""

import time

import numpy as np
from numba import njit

from quenched.numerics.probability.orthant import Phi2, Phi3, Phi4

CALLS = 5000


@njit
def run2(h, R):
    """Sum of Phi2 over the problems."""
    total = 0.0
    for i in range(len(h)):
        total += Phi2(h[i, 0], h[i, 1], R[i, 0, 1])
    return total


@njit
def run3(h, R):
    """Sum of Phi3 over the problems."""
    total = 0.0
    for i in range(len(h)):
        total += Phi3(h[i, 0], h[i, 1], h[i, 2], R[i, 0, 1], R[i, 0, 2], R[i, 1, 2])
    return total


@njit
def run4(h, R):
    """Sum of Phi4 over the problems."""
    total = 0.0
    for i in range(len(h)):
        a, r = h[i], R[i]
        total += Phi4(a[0], a[1], a[2], a[3], r[0, 1], r[0, 2], r[0, 3], r[1, 2], r[1, 3], r[2, 3])
    return total


def correlations(rng, rank, ridge):
    """Random correlation matrices (CALLS, 4, 4): Gram matrices of given rank, plus ridge times the identity."""
    vectors = rng.normal(size=(CALLS, 4, rank))
    gram = vectors @ vectors.transpose(0, 2, 1) + ridge * np.eye(4)
    scale = np.sqrt(np.einsum("nii->ni", gram))
    return gram / scale[:, :, None] / scale[:, None, :]


def best(function, *arguments, repeats=5):
    """Shortest time per call in microseconds."""
    function(*arguments)  # compiles
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return 1e6 * min(times) / CALLS


def main():
    """Print the table."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=(CALLS, 4))
    print(f"{'correlation matrices':24s}{'Phi2':>10s}{'Phi3':>10s}{'Phi4':>10s}   us per call, Phi4 in units of Phi2")
    for name, rank, ridge in [
        ("weak (rank 50)", 50, 0.0),
        ("moderate (rank 8)", 8, 0.0),
        ("strong (rank 4)", 4, 0.0),
        ("rank 3", 3, 0.0),
        ("rank 2", 2, 0.0),
        ("rank 2 within 1e-8", 2, 1e-8),
    ]:
        R = correlations(rng, rank, ridge)
        two, three, four = best(run2, h, R), best(run3, h, R), best(run4, h, R)
        print(f"{name:24s}{two:10.3f}{three:10.2f}{four:10.2f}   {four / two:6.0f}")


if __name__ == "__main__":
    main()
