"""Saddle points: CPU time of a point and of a curve, residuals, and the published way beside them, in one run.

    python benchmarks/saddle.py

The published way (Mignacco and others 2020, Loureiro and others 2021, as their codes do it) takes the averages of a
saddle point from Monte Carlo samples of the local field and iterates with damping.  It is run here on the logistic loss
with 50,000 samples, its proximal operators solved at once by vectorised bisection; its error is measured against the
saddle point of `erm_error`, whose averages are integrated.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np
from timing import seconds

from quenched.numerics.bayes import bayes_curve, bayes_error
from quenched.numerics.erm import erm_curve, erm_error
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.random_features_erm import random_features_erm_curve, random_features_erm_error

SAMPLES = 50_000
UNEQUAL = Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8])
ALPHAS = np.geomspace(0.1, 20.0, 100).tolist()


def monte_carlo(alpha: float, ridge: float, seed: int, iterations: int = 300) -> float:
    """Classification error of the logistic loss on two equal clusters of sigma 1, the published way."""
    xi = np.random.default_rng(seed).standard_normal(SAMPLES)
    V, q, m = 1.0, 1.0, 0.5
    for _ in range(iterations):
        w = m + np.sqrt(q) * xi
        low, high = np.zeros(SAMPLES), np.ones(SAMPLES)  # of f, by symmetry at the label +1
        for _ in range(45):
            f = (low + high) / 2
            above = f > 1 / (1 + np.exp(w + V * f))
            low, high = np.where(above, low, f), np.where(above, f, high)
        curvature = f * (1 - f)
        Vh, qh, mh = alpha * (curvature / (1 + V * curvature)).mean(), alpha * (f**2).mean(), alpha * f.mean()
        below = ridge + Vh
        new = np.array([1 / below, (qh + mh**2) / below**2, mh / below])
        V, q, m = (0.5 * np.array([V, q, m]) + 0.5 * new).tolist()
    from scipy.special import ndtr

    return float(ndtr(-m / np.sqrt(q)))


def main() -> None:
    """Print the table."""
    two = Mixture.two_clusters(1.0)
    print("a point: CPU ms, residual")
    for name, mixture in (("XOR", Mixture.xor(0.7)), ("three clusters", Mixture.three_clusters(0.7)), ("two", two)):
        for alpha in (0.6, 5.0):
            took, found = seconds(lambda m=mixture, a=alpha: bayes_error(m, a)), bayes_error(mixture, alpha)
            print(f"  bayes {name:15} alpha {alpha:4}: {1e3 * took:8.2f} ms  {found.residual:.1e}")
    for loss in ("square", "logistic", "hinge", "max(0, 1 - y*phi)"):
        for alpha, ridge in ((2.0, 1.0), (2.0, 1e-4), (8.0, 0.0), (2.0, 1e3)):
            took = seconds(lambda l=loss, a=alpha, r=ridge: erm_error(UNEQUAL, l, a, r))
            found = erm_error(UNEQUAL, loss, alpha, ridge)
            print(f"  erm {loss:17} alpha {alpha}, ridge {ridge:6}: {1e3 * took:8.2f} ms  {found.residual:.1e}")
        for ridge in (1.0, 1e-3):
            ask = partial(random_features_erm_error, UNEQUAL, "relu", loss, 2.0, 2.0, ridge)
            print(f"  features {loss:17} ridge {ridge:6}: {1e3 * seconds(ask):8.2f} ms  {ask().residual:.1e}")
    print("a curve of 100 points: CPU s, largest residual")
    for loss in ("square", "logistic", "hinge"):
        took = seconds(lambda l=loss: random_features_erm_curve(UNEQUAL, "relu", l, ALPHAS, 2.0, 0.1), 0.0)
        print(f"  features {loss:10} {took:.2f} s")
        took = seconds(lambda l=loss: erm_curve(UNEQUAL, l, ALPHAS, 0.1), 0.0)
        print(f"  erm {loss:10} {took:.2f} s  {max(e.residual for e in erm_curve(UNEQUAL, loss, ALPHAS, 0.1)):.1e}")
    for name, mixture in (("XOR", Mixture.xor(0.7)), ("two", two)):
        took = seconds(lambda m=mixture: bayes_curve(m, ALPHAS), 0.0)
        print(f"  bayes {name:8} {took:.2f} s  {max(e.residual for e in bayes_curve(mixture, ALPHAS)):.1e}")
    exact = erm_error(two, "logistic", 2.0, 0.1)
    start = time.process_time()
    errors = [monte_carlo(2.0, 0.1, seed) - exact.classification_error for seed in range(3)]
    took = (time.process_time() - start) / 3
    mine = seconds(lambda: erm_error(two, "logistic", 2.0, 0.1))
    print(f"the published way: {took:.1f} s a point, {took / mine:.0f} times ours; error {np.std(errors):.1e}", end="")
    print(f" (rms over seeds), ours {exact.classification_error_error:.1e}")


if __name__ == "__main__":
    main()
