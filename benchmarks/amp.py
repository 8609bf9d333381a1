"""Message passing against state evolution at length: z-scores of a grid, the spectral threshold, a hard phase.

Below the threshold of XOR what AMP has at finite D is all deviation from the theory, and D times it is told: overlaps
of order D^(-1/2) help whatever their sign, so that the error is 1/2 - O(1/D).

    python benchmarks/amp.py [--backend numpy] [--D 2000] [--seeds 32] [--large 10000]

z-scores are (mean - theory)/(standard error) over the seeds, of the overlaps, norms and errors of all iterations
together; `threshold` is what the largest of them exceeds by chance once in a hundred times (`quenched.sim.compare`).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from quenched.numerics.amp import spectral_overlaps, state_evolution
from quenched.numerics.bayes import bayes_error, critical_alpha, first_order_transition
from quenched.numerics.problem.mixture import Mixture
from quenched.sim.amp import simulate_amp
from quenched.sim.referee.compare import compare

GRID = {
    "two clusters, sigma 1": (Mixture.two_clusters(1.0), (0.5, 2.0, 4.0)),
    "weights 0.2/0.8, sigma 0.7": (Mixture([[1.0], [-1.0]], [1, -1], [0.2, 0.8], 0.7), (0.5, 2.0, 4.0)),
    "XOR, sigma 0.7": (Mixture.xor(0.7), (1.0, 1.5, 3.0)),
    "three clusters, sigma 0.7": (Mixture.three_clusters(0.7), (1.0, 2.0, 4.0)),
    "ring of six, sigma 0.5": (Mixture.ring(3, 0.5), (1.0, 3.0)),
}
SPARSE = Mixture([[1.0], [-1.0], [0.0], [0.0]], [-1, -1, -1, 1], [0.005, 0.005, 0.49, 0.5], 0.2)
ITERATIONS = 10


def grid(D: int, seeds: int, backend: str) -> None:
    """z-scores of the grid."""
    print(f"state evolution, informed start, D = {D}, {seeds} seeds, {ITERATIONS} iterations")
    ends = "Q at the end: theory, AMP, z  error: theory, AMP, z   seconds"
    print(f"{'mixture':28s} alpha  rms z  max|z|  threshold  agrees  {ends}")
    for name, (mixture, alphas) in GRID.items():
        for alpha in alphas:
            start = time.perf_counter()
            runs = simulate_amp(mixture, alpha, D, seeds, ITERATIONS, "informed", 0.1, backend, 100_000)
            theory = state_evolution(mixture, alpha, ITERATIONS)
            found = compare(theory, runs)
            z = found.table.z.values
            row = (
                f"{name:28s} {alpha:5.2f} {np.sqrt((z**2).mean()):6.2f} {np.abs(z).max():7.2f} {found.threshold:10.2f}"
            )
            row += f"  {found.agrees!s:6s}"
            for values, exact in (
                (runs.overlaps[:, -1, 0, 0], float(theory.overlaps[-1, 0, 0])),
                (runs.classification_error[:, -1], float(theory.classification_error[-1])),
            ):
                mean, error = float(values.mean()), float(values.std(ddof=1)) / np.sqrt(seeds)
                row += f"  {exact:.4f} {mean:.4f} {(mean - exact) / error:+5.2f}  "
            print(f"{row} {time.perf_counter() - start:6.1f}", flush=True)


def below(seeds: int, backend: str) -> None:
    """D times the deviation from state evolution, below the threshold of XOR."""
    mixture, alpha = Mixture.xor(0.7), 0.3
    theory = state_evolution(mixture, alpha, ITERATIONS)
    print(f"\nXOR, sigma 0.7, alpha = {alpha:g} < alpha_c = {critical_alpha(mixture):g}: D (AMP - theory) at the end")
    for D in (1000, 2000, 4000):
        runs = simulate_amp(mixture, alpha, D, 2 * seeds, ITERATIONS, "informed", 0.1, backend, 100_000)
        row = f"{D:6d}"
        for name in ("classification_error", "norms"):
            off = D * (runs[name][:, -1] - theory[name][-1]).values.reshape(2 * seeds, -1)[:, 0]
            row += f"  {name} {off.mean():+6.2f} ± {off.std(ddof=1) / np.sqrt(2 * seeds):.2f}"
        print(row, flush=True)


def spectral(seeds: int, backend: str) -> None:
    """Squared overlaps of the spectral estimate of XOR at two sizes, and of AMP started from it."""
    mixture = Mixture.xor(0.6)
    critical = critical_alpha(mixture)
    print(f"\nXOR, sigma 0.6: spectral start, alpha_c = {critical:.4f}; squared overlap, and the norm where AMP ends")
    print("alpha/alpha_c      D  spectral        theory   AMP after 40    Bayes")
    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0):
        alpha = ratio * critical
        exact = bayes_error(mixture, alpha).overlaps[0, 0]
        for D in (1000, 4000):
            runs = simulate_amp(mixture, alpha, D, seeds, 40, "spectral", 0.1, backend, 4)
            square = np.diagonal(runs.overlaps[:, 0].values, axis1=1, axis2=2) ** 2 / 0.1
            norm = np.diagonal(runs.norms[:, -1].values, axis1=1, axis2=2)
            (s, ds), (q, dq) = (
                (each.mean(), each.mean(axis=1).std(ddof=1) / np.sqrt(seeds)) for each in (square, norm)
            )
            wanted = spectral_overlaps(mixture, alpha)[0]
            print(f"{ratio:13.2f} {D:6d}  {s:.4f} ± {ds:.4f} {wanted:.4f}   {q:.4f} ± {dq:.4f} {exact:.4f}", flush=True)


def hard(seeds: int, backend: str) -> None:
    """Where AMP ends in a hard phase, by start.

    Above it (alpha = 10) a random start waits where vhat is long and its overlap small before it goes to the high
    branch: for some hundred iterations, the longer the larger D.
    """
    print(f"\nhard phase of rare clusters: {first_order_transition(SPARSE, 0.8, 12.0, points=20)}")
    print("alpha      D  high branch  informed: mean norm, share above half   random: mean norm, share above half")
    for alpha, iterations in ((5.0, 40), (6.0, 40), (10.0, 160)):
        high = max(float(branch.overlaps[0, 0]) for branch in bayes_error(SPARSE, alpha).branches)
        for D in (500, 1000, 2000, 4000):
            row = f"{alpha:5.1f} {D:6d}  {high:.4f}     "
            for start, overlap in (("informed", 0.9), ("random", 0.05)):
                runs = simulate_amp(SPARSE, alpha, D, seeds, iterations, start, overlap, backend, 4)
                norms = runs.norms[:, -1, 0, 0].values
                error = norms.std(ddof=1) / np.sqrt(seeds)
                row += f"  {norms.mean():.4f} ± {error:.4f}, {(norms > high / 2).mean():.2f}      "
            print(row, flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--D", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--large", type=int, default=0, help="one run at this D beside the grid")
    chosen = parser.parse_args()
    grid(chosen.D, chosen.seeds, chosen.backend)
    if chosen.large:
        grid(chosen.large, 4, chosen.backend)
    below(chosen.seeds, chosen.backend)
    spectral(max(4, chosen.seeds // 4), chosen.backend)
    hard(max(4, chosen.seeds // 4), chosen.backend)


if __name__ == "__main__":
    main()
