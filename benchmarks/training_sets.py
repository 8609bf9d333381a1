"""Saddle points against training sets: z-scores over mixtures, losses, alpha, and over features, kernels and losses.

    python benchmarks/training_sets.py [SEEDS]

In each cell the minimiser itself is found on SEEDS training sets (default 10) of D = 500 and compared with the saddle
point in the classification error, the mean output, the training loss and the variance q of the output in a cluster,
z = (average - theory)/(standard error).  Solvers: scikit-learn's SVC at C = 1/ridge for the hinge loss, Newton's method
for the others, of which the hinge loss squared is a written expression.  The last line says how the z-scores are
distributed; corrections to theory are of order 1/D.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import ndtr

from quenched.numerics.averages.losses import loss_functions
from quenched.numerics.erm import erm_error
from quenched.numerics.kernel_ridge import kernel_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.random_features_erm import kernel_erm_error, random_features_erm_error
from quenched.numerics.saddle.empirical_risk import ErmError

D = 500
FRESH = 4000
EXPRESSION = "max(0, 1 - y*phi)**2"
MIXTURES = {
    "two": Mixture.two_clusters(1.0),
    "two 0.2/0.8": Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8]),
    "three": Mixture.three_clusters(0.7),
}
LOSSES = ("square", "logistic", "hinge", EXPRESSION)
Array = Any


def inputs(mixture: Mixture, random: np.random.Generator, n: int, cluster: int | None = None) -> tuple[Array, Array]:
    """n inputs (n, D) and their labels."""
    of = random.choice(mixture.clusters, n, p=mixture.weights) if cluster is None else np.full(n, cluster)
    X = mixture.isotropic_sigma * random.standard_normal((n, D))
    X[:, : mixture.dimensions] += mixture.means[of]
    return X, mixture.labels[of]


def minimised(loss: str, Z: Array, y: Array, ridge: float) -> tuple[Array, float]:
    """argmin_(w, b) sum l(Z w + b, y) + (ridge/2)|w|^2."""
    if loss == "hinge":
        from sklearn.svm import SVC

        machine = SVC(C=1 / ridge, kernel="precomputed", tol=1e-6, cache_size=500).fit(Z @ Z.T, y)
        w = Z[machine.support_].T @ machine.dual_coef_[0]
        return w * machine.classes_[1], float(machine.intercept_[0])
    _, slope, curvature = loss_functions(loss)
    wide = np.hstack([Z, np.ones((len(Z), 1))])
    held = np.append(np.full(Z.shape[1], ridge), 1e-10)
    x = np.zeros(wide.shape[1])

    def gradient(x: Array) -> Array:
        return wide.T @ np.broadcast_to(slope(wide @ x, y), y.shape) + held * x

    for _ in range(100):
        g = gradient(x)
        c = np.broadcast_to(curvature(wide @ x, y), y.shape)
        step = np.linalg.solve((wide.T * c) @ wide + np.diag(held), g)
        factor = 1.0
        while np.linalg.norm(gradient(x - factor * step)) > np.linalg.norm(g) and factor > 1e-4:
            factor /= 2
        x = x - factor * step
        if np.linalg.norm(factor * step) <= 1e-11 * np.linalg.norm(x):
            break
    return x[:-1], float(x[-1])


def compared(
    mixture: Mixture,
    loss: str,
    theory: ErmError,
    seeds: int,
    representation: Callable[[np.random.Generator, Array], Callable[[Array], Array]],
) -> Array:
    """z-scores of error, intercept, training loss, and variance in the clusters on average."""
    alpha, ridge = float(theory.problem["alpha"]), float(theory.problem["ridge"])
    value, _, _ = loss_functions(loss)
    found = []
    for seed in range(seeds):
        random = np.random.default_rng(seed)
        X, y = inputs(mixture, random, round(alpha * D))
        seen = representation(random, X)
        Z = seen(X)
        w, b = minimised(loss, Z, y, ridge)
        trained = Z @ w + b
        outputs = [seen(inputs(mixture, random, FRESH, a)[0]) @ w + b for a in range(mixture.clusters)]
        margins = np.array([mixture.labels[a] * h.mean() / h.std() for a, h in enumerate(outputs)])
        variance = float(mixture.weights @ [h.var() for h in outputs])
        mean = float(mixture.weights @ [h.mean() for h in outputs])
        found.append([mixture.weights @ ndtr(-margins), mean, value(trained, y).mean(), variance])
    average, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(seeds)
    mean = float(mixture.weights @ theory.means + theory.intercept)
    return (average - [theory.classification_error, mean, theory.training_loss, theory.variance]) / error


def plain(random: np.random.Generator, X: Array) -> Callable[[Array], Array]:
    """Inputs in the units of the theory."""
    return lambda X: X / np.sqrt(D)


def features(activation: str, gamma: float) -> Callable[[np.random.Generator, Array], Callable[[Array], Array]]:
    """psi(F x/sqrt(D))/sqrt(P), P = gamma D."""
    psi = {"relu": lambda u: np.maximum(u, 0), "erf": lambda u: 2 * ndtr(u) - 1}[activation]

    def drawn(random: np.random.Generator, X: Array) -> Callable[[Array], Array]:
        F = random.standard_normal((round(gamma * D), D))
        F /= np.linalg.norm(F, axis=1)[:, None]
        return lambda X: psi(X @ F.T) / np.sqrt(len(F))

    return drawn


def kernel(name: str) -> Callable[[np.random.Generator, Array], Callable[[Array], Array]]:
    """Coordinates of the space of functions on the samples: F(x, x_i) L^-T, K = L L^T."""
    F = kernel_functions(name).value

    def drawn(random: np.random.Generator, X: Array) -> Callable[[Array], Array]:
        def matrix(A: Array) -> Array:
            return F((A**2).sum(1)[:, None] / D, (X**2).sum(1)[None, :] / D, A @ X.T / D)

        L = np.linalg.cholesky(matrix(X) + 1e-10 * np.eye(len(X)))
        return lambda A: np.linalg.solve(L, matrix(A).T).T

    return drawn


def main() -> None:
    """Print the table."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    scores = []

    def row(name: str, mixture: Mixture, loss: str, theory: ErmError, drawn: Any) -> None:
        start = time.process_time()
        z = compared(mixture, loss, theory, seeds, drawn)
        scores.append(z)
        took = time.process_time() - start
        print(f"{name:60} {' '.join(f'{each:6.2f}' for each in z)}   {took:6.1f} s", flush=True)

    print(f"{'D = ' + str(D) + ', z-scores of':60} error   mean   loss      q")
    for name, mixture in MIXTURES.items():
        for loss in LOSSES:
            for alpha, ridge in ((1.0, 0.5), (3.0, 0.1)):
                theory = erm_error(mixture, loss, alpha, ridge)
                row(f"{name}, {loss}, alpha {alpha}, ridge {ridge}", mixture, loss, theory, plain)
    mixture = MIXTURES["two 0.2/0.8"]
    for activation, gamma in (("relu", 0.5), ("relu", 2.0), ("erf", 2.0)):
        for loss in LOSSES:
            theory = random_features_erm_error(mixture, activation, loss, 2.0, gamma, 0.1)
            row(f"{gamma} D {activation} features, {loss}", mixture, loss, theory, features(activation, gamma))
    for loss in LOSSES:
        theory = kernel_erm_error(mixture, "rbf", loss, 1.0, 1.0)
        row(f"kernel rbf, {loss}, alpha 1", mixture, loss, theory, kernel("rbf"))
    z = np.concatenate(scores)
    print(f"{len(scores)} cells, {len(z)} z-scores: rms {np.sqrt((z**2).mean()):.2f}, beyond 3: {(abs(z) > 3).sum()}")


if __name__ == "__main__":
    main()
