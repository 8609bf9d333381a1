"""Random features: speed of the theory against finite matrices, and its agreement with given features, in one run.

    python benchmarks/features.py [--cells]

The peer is what one does without the theory ([R21]'s code does it with the first order of the covariance alone): draw
the features at D = 800, P = 1600, form the moments of the features and the eigenvectors of their covariance.  With
--cells the finite-D equivalent is held against exact errors of given features at the same D and P, over tasks,
activations, gamma, sigma and ridge: z-scores over the seeds of the features.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from timing import seconds

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.random_features import random_features_error
from quenched.sim.backend import get_backend
from quenched.sim.random_features import Features, simulate_features

SHIFTED = "erf((x + 1)/sqrt(2))"
TILTED = Mixture([[1.2, 0.0, 0.3], [-0.4, 1.0, 0.0], [0.0, -1.1, 0.8]], [1, -1, 1], [0.5, 0.3, 0.2], 0.9, 0.25)
# mixture, activation, gamma, ridge, D, seeds
CELLS: list[tuple[str, Mixture, str, float, float, int, int]] = [
    ("two clusters", Mixture.two_clusters(1.0), "relu", 2.0, 0.0, 500, 16),
    ("two clusters", Mixture.two_clusters(0.5), "erf", 0.5, 0.0, 500, 16),
    ("two clusters", Mixture.two_clusters(2.0), "sin", 1.0, 0.1, 500, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.4, 0.25), "relu", 2.0, 0.0, 500, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.4, 0.25), "relu", 2.0, 0.0, 2000, 6),
    ("XOR, 1/4", Mixture.xor(1.0, 1.4, 0.25), "relu", 0.5, 0.05, 1000, 12),
    ("XOR, 1/4", Mixture.xor(0.5, 0.7, 0.25), SHIFTED, 1.0, 0.0, 500, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.4, 0.25), "softplus", 1.0, 0.01, 500, 16),
    ("XOR, 1/4", Mixture.xor(1.0, 1.0, 0.25), "he2", 1.0, 0.3, 500, 16),
    ("three clusters, 1/4", Mixture.three_clusters(1.0, 1.4, 0.25), "relu", 2.0, 0.0, 500, 16),
    ("three clusters, 1/4", Mixture.three_clusters(1.0, 1.4, 0.25), "relu", 2.0, 0.2, 1000, 10),
    ("three clusters, 1/4", Mixture.three_clusters(2.0, 3.0, 0.25), "abs", 1.0, 0.0, 500, 16),
    ("three clusters, 1/4", Mixture.three_clusters(1.0, 1.4, 0.25), "relu", 0.5, 0.0, 2000, 12),
    ("XOR, 1/2", Mixture.xor(1.0, 0.15, 0.5), "relu", 2.0, 0.0, 500, 16),
    ("XOR, 1/2", Mixture.xor(1.0, 0.15, 0.5), "leaky_relu", 1.0, 0.1, 1000, 12),
    ("XOR, 1/2", Mixture.xor(0.5, 0.1, 0.5), SHIFTED, 2.0, 0.0, 500, 16),
    ("three clusters, 1/2", Mixture.three_clusters(1.0, 0.2, 0.5), "relu", 1.0, 0.5, 500, 16),
    ("parity, (1/2, 0)", Mixture.parity(1.0, (1.0, 1.0), (0.5, 0.0)), "relu", 2.0, 0.0, 500, 16),
    ("parity, (1/2, 0)", Mixture.parity(0.5, (1.0, 1.0), (0.5, 0.0)), "relu", 0.5, 0.1, 1000, 12),
    ("parity, (1/2, 0)", Mixture.parity(0.5, (0.7, 1.0), (0.5, 0.0)), SHIFTED, 2.0, 0.0, 500, 16),
    ("parity, (1/2, 0)", Mixture.parity(0.7, (1.0, 1.0), (0.5, 0.0)), "softplus", 1.0, 0.0, 1000, 10),
    ("three labels in space, 1/4", TILTED, "relu", 1.0, 0.1, 500, 16),
    ("three labels in space, 1/4", TILTED, "leaky_relu", 2.0, 0.0, 500, 16),
    ("two clusters, two sigmas", Mixture([[1.0], [-1.0]], [1, -1], sigma=[1.0, 0.8]), "relu", 1.0, 0.1, 500, 16),
]


def by_matrices(mixture: Mixture, gamma: float, D: int, seed: int) -> float:
    """pmse from the moments of given features and the eigenvectors of their covariance."""
    features = Features(mixture, "relu", D, round(gamma * D), seed, get_backend("numpy"), "float64")
    values, vectors = np.linalg.eigh(features.covariance())
    target = features.centred @ (mixture.weights * mixture.labels)
    return float(1 - ((vectors.T @ target) ** 2 / values).sum()) / 2


def speed() -> None:
    """Time of each formula, and of the matrices."""
    print("CPU time of a point                                  pmse      error")
    tasks = {
        "limit, D^0": (Mixture.two_clusters(1.0), {}),
        "limit, D^1/4": (Mixture.xor(1.0, 1.4, 0.25), {}),
        "limit, D^1/2": (Mixture.xor(1.0, 1.0, 0.5), {}),
        "limit, (1/2, 0)": (Mixture.parity(1.0, (1.0, 1.0), (0.5, 0.0)), {}),
        "limit, P = D^2": (Mixture.xor(1.0), {"features": "quadratic"}),
        "equivalent, D = 800, k = 1": (Mixture.three_clusters(1.0, 1.4, 0.25), {"D": 800}),
        "equivalent, D = 800, k = 2": (Mixture.xor(1.0, 1.4, 0.25), {"D": 800}),
        "equivalent, D = 800, ring of 6, k = 2": (Mixture.ring(3, 1.0, 1.4, 0.25), {"D": 800}),
        "equivalent, D = 800, k = 3": (TILTED, {"D": 800}),
    }
    for name, (mixture, options) in tasks.items():
        found = random_features_error(mixture, "relu", 2.0, **options)
        took = seconds(lambda m=mixture, o=options: random_features_error(m, "relu", 2.0, **o))
        print(f"{name:40} {took * 1e3:8.2f} ms {found.pmse:9.6f} {found.classification_error:9.6f}")
    curve = [Mixture.xor(s, 1.4, 0.25) for s in np.linspace(0.3, 2, 100)]
    took = seconds(lambda: [random_features_error(m, "relu", 2.0) for m in curve])
    print(f"a curve of 100 points at D^1/4: {took * 1e3:.0f} ms")
    mixture = Mixture.xor(1.0, 1.4, 0.25)
    one, limit = random_features_error(mixture, "relu", 2.0, D=800), random_features_error(mixture, "relu", 2.0)
    t_equivalent = seconds(lambda: random_features_error(mixture, "relu", 2.0, D=800))
    t_limit = seconds(lambda: random_features_error(mixture, "relu", 2.0))
    start = time.process_time()
    pmse = by_matrices(mixture, 2.0, 800, seed=0)
    took = time.process_time() - start
    print(
        f"matrices, D = 800, P = 1600, one draw: {took:.1f} s, pmse {pmse:.4f}; equivalent {one.pmse:.4f} "
        f"(ratio {took / t_equivalent:.0f}), limit {limit.pmse:.4f} (ratio {took / t_limit:.0f})"
    )


def cells() -> None:
    """z-scores of given features against the finite-D equivalent."""
    columns = (
        "task",
        "activation",
        "gamma",
        "sigma",
        "ridge",
        "D",
        "seeds",
        "pmse",
        "given",
        "z",
        "error",
        "given",
        "z",
    )
    print("{:27} {:21} {:>5} {:>5} {:>5} {:>5} {:>5} {:>9} {:>8} {:>5}  | {:>8} {:>8} {:>5}".format(*columns))
    scores: list[tuple[float, float]] = []
    for cell, (name, mixture, activation, gamma, ridge, D, seeds) in enumerate(CELLS):
        theory = random_features_error(mixture, activation, gamma, ridge, D=D)
        runs = simulate_features(
            mixture, activation, D, round(gamma * D), range(100 * cell, 100 * cell + seeds), ridge, backend="numpy"
        )
        row = []
        for observable in ("pmse", "classification_error"):
            values = runs[observable].values
            error = values.std(ddof=1) / np.sqrt(seeds)
            row += [getattr(theory, observable), values.mean(), (values.mean() - getattr(theory, observable)) / error]
        scores.append((row[2], row[5]))
        print(
            f"{name:27} {activation:21} {gamma:5g} {np.min(mixture.sigma):5g} {ridge:5g} {D:5d} {seeds:5d} "
            f"{row[0]:9.5f} {row[1]:8.5f} {row[2]:+5.2f}  | {row[3]:8.5f} {row[4]:8.5f} {row[5]:+5.2f}",
            flush=True,
        )
    z = np.array(scores)
    print(
        f"{len(z)} cells: z of the pmse mean {z[:, 0].mean():+.2f}, spread {z[:, 0].std(ddof=1):.2f}, largest "
        f"{np.abs(z[:, 0]).max():.2f}; of the error mean {z[:, 1].mean():+.2f}, spread {z[:, 1].std(ddof=1):.2f}, "
        f"largest {np.abs(z[:, 1]).max():.2f}"
    )


if __name__ == "__main__":
    speed()
    if "--cells" in sys.argv:
        cells()
