"""Speed of the exact drift against a Monte Carlo right-hand side, as ratios in one run.

    python benchmarks/drift.py

The peer is what the field's code does ([R21]): at each step and for each cluster, 10^4 samples of the local
fields; every average is the mean of a product over them, one loop per index; explicit Euler steps of 0.1.  A second
version does the same sums as one tensor contraction, to show what of the ratio is due to the loops.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import product
from math import comb

import numpy as np
from timing import seconds

from quenched.numerics import Mixture, OnlineSGD, OrderParameters, TwoLayer, drift, integrate, random_state
from quenched.numerics.averages.activations import activation_functions

SAMPLES, STEP, T_END = 10_000, 0.1, 100.0


def samples(mixture: Mixture, network: TwoLayer, state: OrderParameters, a: int, rng: np.random.Generator):
    """g, g' and the local fields lambda (n, K), nu (n, C) of `SAMPLES` inputs of cluster a."""
    M, Q, T = state.M, state.Q, mixture.T
    covariance = mixture.sigmas[a] ** 2 * np.block([[Q, M.T], [M, T]])
    mean = np.concatenate([M[a], T[a]])
    values, vectors = np.linalg.eigh(covariance)
    fields = mean + rng.standard_normal((SAMPLES, len(mean))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    g, dg = activation_functions(network.activation)
    lam, nu = fields[:, : network.K], fields[:, network.K :]
    return g(lam), dg(lam), lam, nu


def by_loops(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, state: OrderParameters, rng: np.random.Generator
) -> OrderParameters:
    """The learning equations, every average a mean over samples, one index tuple at a time."""
    M, Q, v, eta = state.M, state.Q, state.v, sgd.lr
    K, C = network.K, mixture.clusters
    dM, dQ, dv = np.zeros_like(M), np.zeros_like(Q), np.zeros_like(v)
    for a in range(C):
        P, y, s2 = mixture.weights[a], mixture.labels[a], mixture.sigmas[a] ** 2
        g, dg, lam, nu = samples(mixture, network, state, a, rng)
        for k in range(K):
            dv[k] += eta * P * y * np.mean(g[:, k])
            for i in range(K):
                dv[k] -= eta * P * v[i] * np.mean(g[:, k] * g[:, i])
            for b in range(C):
                dM[b, k] += eta * P * y * v[k] * np.mean(dg[:, k] * nu[:, b])
                for i in range(K):
                    dM[b, k] -= eta * P * v[k] * v[i] * np.mean(dg[:, k] * nu[:, b] * g[:, i])
        for k, l in product(range(K), repeat=2):
            for one, two in ((k, l), (l, k)):
                dQ[k, l] += eta * P * y * v[one] * np.mean(dg[:, one] * lam[:, two])
                for i in range(K):
                    dQ[k, l] -= eta * P * v[one] * v[i] * np.mean(dg[:, one] * lam[:, two] * g[:, i])
            noise = np.mean(dg[:, k] * dg[:, l])
            for i in range(K):
                noise -= 2 * y * v[i] * np.mean(dg[:, k] * dg[:, l] * g[:, i])
            for i, j in product(range(K), repeat=2):
                noise += v[i] * v[j] * np.mean(dg[:, k] * dg[:, l] * g[:, i] * g[:, j])
            dQ[k, l] += eta**2 * P * s2 * v[k] * v[l] * noise
    return OrderParameters.derivative(dM, dQ, dv)


def by_contraction(
    mixture: Mixture, network: TwoLayer, sgd: OnlineSGD, state: OrderParameters, rng: np.random.Generator
) -> OrderParameters:
    """The same estimate, averaged over the error Delta of each sample: no index beyond two is left."""
    v, eta = state.v, sgd.lr
    dM, dQ, dv = np.zeros_like(state.M), np.zeros_like(state.Q), np.zeros_like(v)
    for a in range(mixture.clusters):
        g, dg, lam, nu = samples(mixture, network, state, a, rng)
        delta = g @ v - mixture.labels[a]
        push = delta[:, None] * dg * v
        P, s2 = mixture.weights[a] / SAMPLES, mixture.sigmas[a] ** 2
        dM -= eta * P * nu.T @ push
        dQ -= eta * P * (push.T @ lam + lam.T @ push) - eta**2 * P * s2 * push.T @ push
        dv -= eta * P * delta @ g
    return OrderParameters.derivative(dM, dQ, dv)


def gap(estimate: OrderParameters, exact: OrderParameters) -> float:
    """Root mean square error of an estimated drift, relative to the drift."""
    pairs = [(getattr(estimate, name), getattr(exact, name)) for name in ("M", "Q", "v")]
    return float(np.sqrt(sum(((e - x) ** 2).sum() for e, x in pairs) / sum((x**2).sum() for _, x in pairs)))


def fresh(code: str, **environment: str) -> tuple[float, float]:
    """Wall time in seconds and peak memory in MB of a new process that runs `code`."""
    report = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    start = time.perf_counter()
    out = subprocess.run([sys.executable, "-c", code + report], env=os.environ | environment, check=True,
                         capture_output=True, text=True)  # fmt: skip
    return time.perf_counter() - start, float(out.stdout.split()[-1])


FIRST_CALL = """
from quenched.numerics import *
m, n = Mixture.xor(0.4), TwoLayer(4, "relu")
drift(m, n, OnlineSGD(0.5), random_state(m, n, 1000, 0))
"""


def without_closed_forms() -> None:
    """Print the time of a drift whose averages are quadratures or sampled, beside that of the closed one."""
    mixture = Mixture.xor(0.4)
    print("\none drift on XOR by its loss, CPU time: of the square loss, of another, ratio, stated error of the other")
    for loss, activation, K, tolerance in (
        ("logistic", "relu", 1, 1e-8), ("logistic", "erf", 1, 1e-8), ("logistic", "relu", 2, 1e-8),
        ("logistic", "erf", 2, 1e-8), ("hinge", "relu", 2, 1e-8), ("hinge", "erf", 2, 1e-6),
        ("logistic", "relu", 4, 1e-4), ("logistic", "erf", 4, 1e-4),
    ):  # fmt: skip
        network = TwoLayer(K, activation)
        state = random_state(mixture, network, D=1000, seed=0)
        plain, charged = OnlineSGD(lr=0.5), OnlineSGD(lr=0.5, loss=loss)
        closed = seconds(lambda n=network, s=state, r=plain: drift(mixture, n, r, s))
        took = seconds(lambda n=network, s=state, r=charged, t=tolerance: drift(mixture, n, r, s, tolerance=t))
        found = drift(mixture, network, charged, state, tolerance=tolerance)
        print(
            f"{loss:8} {activation:4} K={K} {closed * 1e3:9.2f} ms {took * 1e3:8.2f} ms {took / closed:8.1f}"
            f"   {found.error:.1e} ({found.method})"
        )
    three, network = Mixture(2 * np.eye(3), classes=[0, 1, 2], sigma=0.7), TwoLayer(3, "relu")
    state, rule = random_state(three, network, D=1000, seed=0), OnlineSGD(lr=0.5, loss="cross-entropy")
    took = seconds(lambda: drift(three, network, rule, state, tolerance=1e-4))
    found = drift(three, network, rule, state, tolerance=1e-4)
    print(f"cross-entropy, three classes, relu K=3: {took * 1e3:.1f} ms, {found.error:.1e} ({found.method})")


def main() -> None:
    """Print the table."""
    # first of all: a child of a large process starts with that one's peak memory
    fresh(FIRST_CALL)
    warm, memory = fresh(FIRST_CALL)
    with tempfile.TemporaryDirectory() as empty:
        cold, _ = fresh(FIRST_CALL, QUENCHED_CACHE=empty)
    mixture, sgd, rng = Mixture.xor(0.4), OnlineSGD(lr=0.5), np.random.default_rng(0)
    print("one drift on XOR, CPU time           exact    loops over    contraction   ratio    ratio    error of")
    print("                                             10^4 samples  of 10^4       to loops to contr. 10^4 samples")
    loops_at_4 = np.nan
    for activation, K in (("relu", 2), ("relu", 4), ("relu", 8), ("erf", 4), ("erf", 8)):
        network = TwoLayer(K, activation)
        state = random_state(mixture, network, D=1000, seed=0)
        exact = drift(mixture, network, sgd, state)
        estimate = by_loops(mixture, network, sgd, state, rng)
        t_exact = seconds(lambda n=network, s=state: drift(mixture, n, sgd, s))
        t_loops = seconds(lambda n=network, s=state: by_loops(mixture, n, sgd, s, rng))
        t_contraction = seconds(lambda n=network, s=state: by_contraction(mixture, n, sgd, s, rng))
        if (activation, K) == ("relu", 4):
            loops_at_4 = t_loops
        print(
            f"{activation:5} K={K:<3} {t_exact * 1e3:30.3f} ms {t_loops * 1e3:9.1f} ms {t_contraction * 1e3:9.2f} ms "
            f"{t_loops / t_exact:10.0f} {t_contraction / t_exact:8.1f} {gap(estimate, exact):11.2%}"
        )

    network = TwoLayer(4, "relu")
    state = random_state(mixture, network, D=1000, seed=8)
    t_integrate = seconds(lambda: integrate(mixture, network, sgd, state, [T_END]))
    print(
        f"\nrelu K=4 on XOR from t = 0 to {T_END:g}, rtol = 1e-8: {t_integrate:.3f} s; {T_END / STEP:.0f} Euler steps "
        f"by loops (timed: one) {T_END / STEP * loops_at_4:.0f} s; ratio {T_END / STEP * loops_at_4 / t_integrate:.0f}"
    )
    wide = TwoLayer(100, "relu")
    state = random_state(mixture, wide, D=1000, seed=0)
    reference = drift(mixture, wide, sgd, state, seed=1)
    for tolerance in (1e-4, 1e-5, 1e-6):
        estimate = drift(mixture, wide, sgd, state, tolerance=tolerance)
        took = seconds(lambda t=tolerance: drift(mixture, wide, sgd, state, tolerance=t))
        print(
            f"relu K=100 on XOR, tolerance {tolerance:g}: {took:.2f} s a drift, largest standard error of an entry "
            f"{estimate.error:.1e}, difference to another seed {gap(estimate, reference):.1e} of the drift"
        )
    closed = drift(mixture, TwoLayer(8, "relu"), sgd, random_state(mixture, TwoLayer(8, "relu"), D=1000, seed=0))
    print(f"limit at K=8: {comb(8, 4) * 4} Phi_4, {comb(8, 4) * 16 + comb(8, 3) * 4} Phi_3 a drift ({closed.method})")
    without_closed_forms()
    print(f"first drift in a fresh process, wall time: {warm:.2f} s with compiled code cached, {cold:.1f} s without")
    print(f"peak memory of that process {memory:.0f} MB, of this one "
          f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
