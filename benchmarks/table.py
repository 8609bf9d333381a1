"""The table of ratios: quenched against the published ways, and against what the machine allows, in one run.

    python benchmarks/table.py                       the table, in minutes
    python benchmarks/table.py --scaling out.png     and how times grow with K, D, clusters and nodes, as a figure

CPU time of one core; ratios hold on a busy machine, times do not.  Each row says what the other way's error is: most of
the published ways are samples.  The other ways are written out in the benchmark of their subject, from where they are
imported; `neural-tangents` is compared where it is installed.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one core for everyone

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from chain import BLOCK, nanoseconds, numpy_loop, run
from drift import STEP, T_END, by_loops, gap
from features import by_matrices
from saddle import SAMPLES, monte_carlo
from timing import machine, seconds, versions

from quenched.numerics import (
    Mixture,
    OnlineSGD,
    Spectrum,
    TwoLayer,
    average,
    drift,
    erm_error,
    integrate,
    kernel_error,
    random_features_error,
    random_state,
)
from quenched.numerics.problem.state import Densities
from quenched.sim.engines.overlaps import Chain
from quenched.sim.engines.vectors import Vectors
from quenched.sim.referee.throughput import measure


@dataclass(frozen=True)
class Row:
    """A task, the other way, seconds of both, and what is to be known of their errors."""

    task: str
    other: str
    ours: float
    theirs: float
    errors: str

    @property
    def text(self) -> str:
        """The row, in Markdown."""
        ratio = self.theirs / self.ours
        return (
            f"| {self.task} | {self.other} | {_time(self.ours)} | {_time(self.theirs)} | {ratio:.3g} | {self.errors} |"
        )


def _time(value: float) -> str:
    unit, name = next(((u, n) for u, n in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= u), (1e-9, "ns"))
    return f"{value / unit:.3g} {name}"


_T = TypeVar("_T")


def once(function: Callable[[], _T]) -> tuple[float, _T]:
    """CPU seconds of one call, and what it gives."""
    start = time.process_time()
    found = function()
    return time.process_time() - start, found


def learning_equations() -> Iterator[Row]:
    """Drift and trajectory against loops over 10^4 samples and explicit Euler."""
    mixture, network, sgd, rng = Mixture.xor(0.4), TwoLayer(4, "relu"), OnlineSGD(0.5), np.random.default_rng(0)
    state = random_state(mixture, network, 1000, 8)
    exact, estimate = drift(mixture, network, sgd, state), by_loops(mixture, network, sgd, state, rng)
    ours = seconds(lambda: drift(mixture, network, sgd, state))
    theirs = seconds(lambda: by_loops(mixture, network, sgd, state, rng))
    yield Row("drift, relu, K = 4, XOR", "means over 10^4 samples", ours, theirs, f"theirs {gap(estimate, exact):.1%}")
    ours = seconds(lambda: integrate(mixture, network, sgd, state, [T_END]))
    steps = T_END / STEP
    found, finer = (
        float(integrate(mixture, network, sgd, state, [T_END], rtol=rtol).pmse[-1]) for rtol in (1e-8, 1e-11)
    )
    yield Row(f"to t = {T_END:g}", f"{steps:.0f} such Euler steps (one timed)", ours, theirs * steps,
              f"ours {abs(found - finer):.0e} of the pmse at the end")  # fmt: skip


def simulation() -> Iterator[Row]:
    """A step of SGD: the chain and the vectors against a NumPy loop, and against memory."""
    for D in (10**3, 10**4):
        loop = 1e-9 * nanoseconds(numpy_loop(4, D), 500)
        chain = 1e-9 * nanoseconds(run(Chain, 4, D).advance, 50_000)
        yield Row(f"a step of SGD, K = 4, D = {D}: chain", "single-sample NumPy loop", chain, loop, "same law")
        engine = run(Vectors, 4, D, 8)
        block = 1e-9 * nanoseconds(lambda n, e=engine: [e.advance(BLOCK) for _ in range(n)], 8) / (BLOCK * 8)
        yield Row("the same: vectors, 8 networks at once", "single-sample NumPy loop", block, loop, "same law")
    speed = measure("numpy", D=10**4, K=4)
    yield Row("vectors, K = 4, D = 10^4, share of memory bandwidth", "the traffic at the measured bandwidth",
              1 / speed.rate, 1 / speed.limit, f"{speed.fraction:.0%} of the limit")  # fmt: skip


def lazy_methods() -> Iterator[Row]:
    """Random features and kernels against moments and matrices at finite D."""
    mixture, D = Mixture.xor(1.0, 1.4, 0.25), 400
    ours = seconds(lambda: random_features_error(mixture, "relu", 2.0, D=D))
    exact = random_features_error(mixture, "relu", 2.0, D=D).pmse
    theirs, drawn = once(lambda: by_matrices(mixture, 2.0, D, seed=0))
    yield Row(f"features, relu, D = {D}, P = {2 * D}", "moments of drawn features, one draw", ours, theirs,
              f"one draw {abs(drawn - exact):.1e} off")  # fmt: skip
    from sklearn.kernel_ridge import KernelRidge

    two, n = Mixture.two_clusters(0.75), 800
    x, y = sample(n, D, 0.75, 0)
    far, labels = sample(20_000, D, 0.75, 1)
    ours = seconds(lambda: kernel_error(two, "rbf", n / D, 0.125, D=D))
    theirs, fitted = once(lambda: KernelRidge(alpha=0.125, kernel="rbf", gamma=1 / (2 * D)).fit(x, y))
    off = (
        np.mean(np.sign(fitted.predict(far)) != labels)
        - kernel_error(two, "rbf", n / D, 0.125, D=D).classification_error
    )
    yield Row(
        f"kernel ridge, rbf, D = {D}, n = {n}", "scikit-learn, one training set", ours, theirs, f"one set {off:+.3f}"
    )


def sample(n: int, D: int, sigma: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two clusters at +-1 along the first axis."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], n)
    x = sigma * rng.standard_normal((n, D))
    x[:, 0] += y
    return x, y


def convex_learners() -> Iterator[Row]:
    """Saddle points against 50,000 samples in each iteration, and against fits."""
    two = Mixture.two_clusters(1.0)
    ours = seconds(lambda: erm_error(two, "logistic", 2.0, 0.1))
    exact = erm_error(two, "logistic", 2.0, 0.1).classification_error
    theirs, found = once(lambda: monte_carlo(2.0, 0.1, 0))
    yield Row(
        "logistic loss, alpha = 2",
        f"saddle point on {SAMPLES} samples",
        ours,
        theirs,
        f"theirs {abs(found - exact):.1e}",
    )
    from sklearn.linear_model import LogisticRegression, RidgeClassifier

    D, n = 500, 1000
    x, y = sample(n, D, 1.0, 2)
    far, labels = sample(20_000, D, 1.0, 3)
    ridge = 0.1  # (ridge/2)|w|^2 of w.x/sqrt(D) is (ridge D/2)|u|^2 of u.x
    fits = {
        "logistic": LogisticRegression(C=1 / (ridge * D), tol=1e-8, max_iter=1000),
        "square": RidgeClassifier(alpha=ridge * D),
    }
    for loss, learner in fits.items():
        ours = seconds(lambda loss=loss: erm_error(two, loss, n / D, ridge))
        theirs, fitted = once(lambda learner=learner: learner.fit(x, y))
        off = np.mean(fitted.predict(far) != labels) - erm_error(two, loss, n / D, ridge).classification_error
        yield Row(
            f"{loss} loss, D = {D}, n = {n}, ridge {ridge:g}",
            "scikit-learn, one training set",
            ours,
            theirs,
            f"one set {off:+.3f}",
        )


def analytic_kernels() -> Iterator[Row | str]:
    """E[relu relu], the kernel of a wide layer, against neural-tangents."""
    try:
        from neural_tangents import stax
    except ImportError:
        yield "neural-tangents is not installed: its analytic kernels are skipped"
        return
    _, _, kernel = stax.serial(stax.Dense(1), stax.Relu(), stax.Dense(1))
    x, z = np.array([[1.0, 0.0]]), np.array([[0.6, 0.8]])
    theirs = float(kernel(x, z, "nngp")[0, 0])
    given = [0, 0], [0.5, 0.3, 0.5]  # x.z/2
    exact = float(average("Max(x, 0)*Max(y, 0)", *given).value)
    ours = seconds(lambda: average("Max(x, 0)*Max(y, 0)", *given))
    took = seconds(lambda: kernel(x, z, "nngp").block_until_ready())
    yield Row("one entry of the relu kernel", "neural-tangents, nngp", ours, took, f"apart {abs(theirs - exact):.1e}")


def scaling(path: Path) -> None:
    """Times of a drift and of a step against K, clusters, nodes and D: a figure, and its numbers printed."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    sgd = OnlineSGD(0.5)

    def one(mixture: Mixture, K: int, activation: str = "relu") -> float:
        network = TwoLayer(K, activation)
        state = random_state(mixture, network, 1000, 0)
        if mixture.spectrum is not None:
            plain = Mixture(mixture.means, mixture.labels, sigma=mixture.sigma)
            state = Densities.spread(mixture, random_state(plain, network, 1000, 0))  # type: ignore[assignment]
        return seconds(lambda: drift(mixture, network, sgd, state), 0.2)

    def spread(nodes: int) -> Mixture:
        law = Spectrum.marchenko_pastur(0.5, nodes)
        return Mixture(np.eye(2), [1, -1], sigma=0.5, spectrum=law)

    panels = {
        "neurons K (drift)": ([1, 2, 4, 8, 16], lambda K: one(Mixture.xor(0.4), K)),
        "clusters (drift, K = 4)": ([4, 8, 16, 32], lambda C: one(Mixture.ring(C // 2, 0.4), 4)),
        "nodes of a spectrum (drift, K = 2, erf)": ([1, 4, 16, 64], lambda n: one(spread(n), 2, "erf")),
        "dimension D (step of the chain, K = 4)": (
            [10**2, 10**4, 10**6, 10**9], lambda D: 1e-9 * nanoseconds(run(Chain, 4, D).advance, 20_000),
        ),
    }  # fmt: skip
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.2), constrained_layout=True)
    for axis, (name, (sizes, cost)) in zip(axes, panels.items(), strict=True):
        times = [cost(size) for size in sizes]
        print(f"{name}: " + ", ".join(f"{size}: {_time(spent)}" for size, spent in zip(sizes, times, strict=True)))
        axis.loglog(sizes, times, "o-", color="0.2")
        axis.set(xlabel=name, ylabel="seconds of CPU")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scaling", type=Path, help="write the scaling figure there")
    asked = parser.parse_args()
    print(f"{machine()}\n{versions()}\n")
    print("| task | the other way | quenched | other | ratio | errors |\n|---|---|---|---|---|---|")
    for part in (learning_equations, simulation, lazy_methods, convex_learners, analytic_kernels):
        for row in part():
            print(row.text if isinstance(row, Row) else f"\n{row}", flush=True)
    if asked.scaling:
        scaling(asked.scaling)


if __name__ == "__main__":
    main()
