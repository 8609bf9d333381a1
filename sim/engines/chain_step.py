"""One step of the exact chain, written once: numba compiles it for the host, `quenched.sim.translate` for a card.

The mathematics is in `quenched.sim.engines.overlaps`.  The functions below keep to what the translation knows: numbers,
arrays whose sizes are known when a kernel is built, loops over ranges, and the functions of `math`.
Random numbers are those of `quenched.sim.engines.chain_draws`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.machine_code import njit
from quenched.sim.engines.chain_draws import Random, draw

__all__ = ["Data", "Numbers", "Replica", "Rule", "Work", "advance", "test_sample"]

Array = npt.NDArray[np.float64]
Function = Callable[..., float]
Size = int
Sizes = tuple[int, int, int]


class Data(NamedTuple):
    """The data law: `references` (C + m, p), `sigmas`, `labels`, `thresholds` (C,) and the teacher's `readout` (m,).

    `thresholds` are the cumulative weights of the clusters, the last replaced by infinity.
    """

    references: Array
    sigmas: Array
    labels: Array
    thresholds: Array
    readout: Array


class Rule(NamedTuple):
    """The numbers of the rule that stay: `freedom` = D - p - K; `first` and `second` (K,): 0 for what is frozen.

    `sphere` and `scheduled` are 1 where weights keep their length and where rates differ from step to step.  Thresholds
    and intercept have the decays `rho_b` (K,) and `rho_c` of a step and the rates `rate_b` (K,) and `rate_c`.
    """

    freedom: float
    scale: float
    label_noise: float
    sphere: float
    scheduled: float
    rho_c: float
    rate_c: float
    first: Array
    second: Array
    rho_b: Array
    rate_b: Array


class Numbers(NamedTuple):
    """All of a problem."""

    data: Data
    rule: Rule


class Replica(NamedTuple):
    """Of a replica: its random numbers, W (p + K, K) and v (K,), and the rates of its steps.

    v may hold v, b and c one after the other, (2K + 1,).  `rates` (steps, 5), or (1, 5) if they are constant: 1 - eta
    kappa/D, 1 - eta_v kappa_v/D, eta and eta_v times s/(B D), and what a vector of the bath is multiplied by, sqrt(2
    eta T)/D.
    """

    random: Random
    W: Array
    v: Array
    rates: Array


class Work(NamedTuple):
    """Room for a step of B vectors, samples and those of a bath: `x` (B, p + K + B), `c` (B, K) their coefficients,
    inner products, and what the weights are multiplied by.
    """

    x: Array
    c: Array
    y: Array
    rest: Array  # squares of the last components
    field: Array
    value: Array
    push: Array
    h: Array  # (K, K): the parts of the fields beyond direction j
    h_later: Array  # (K, B): the same of samples to come
    beyond: Array  # |u_>|^2 after f_j
    inner: Array
    turned: Array
    rho: Array
    length: Array
    bias: Array  # (K,): the pushes of a step, where there are thresholds


@njit(nogil=True, error_model="numpy")
def advance(
    start: int,
    steps: int,
    state: Replica,
    problem: Numbers,
    B: Size,
    bath: Size,
    g: Any,
    dg: Any,
    slope: Any,
    teacher: Any,
) -> int:
    """`steps` steps after the first `start`, in place; how many were done before the weights ceased to be finite."""
    taught = len(problem.data.readout)
    if B == 1 and bath == 0 and taught == 0:  # compiled for itself: loops over samples and teachers go, with a third
        return do_steps(start, steps, state, problem, (1, 1, 0), g, dg, slope, teacher)  # of the time
    return do_steps(start, steps, state, problem, (B + bath, B, taught), g, dg, slope, teacher)


@njit(nogil=True, error_model="numpy", forceinline=True)
def do_steps(
    start: int, steps: int, state: Replica, problem: Numbers, sizes: Sizes, g: Any, dg: Any, slope: Any, teacher: Any
) -> int:
    """The same, in the notation of the module `overlaps`; of the B vectors of a step, `samples` are inputs."""
    B, samples, taught = sizes
    W, v, data, rule = state.W, state.v, problem.data, problem.rule
    K = len(W[0])
    biased = len(v) > K
    work = Work(
        np.zeros((B, len(W) + B)),
        np.empty((B, K)),
        np.empty(B),
        np.empty(B),
        np.empty(K),
        np.empty(K),
        np.empty(K),
        np.empty((K, K)),
        np.empty((K, B)),
        np.empty(K),
        np.empty(K),
        np.empty(B),
        np.empty(K),
        np.empty(K),
        np.zeros(K),
    )
    for step in range(steps):
        at = step if rule.scheduled != 0.0 else 0
        total = 0.0
        clear(work)
        for b in range(samples):
            chosen, noise, square = draw(
                state.random, (start + step) * B + b, work.x, b, rule.freedom, rule.label_noise
            )
            a = cluster(chosen, data)
            work.rest[b] = data.sigmas[a] ** 2 * square
            work.y[b] = label(work.x, b, a, noise, work.rest[b], data, rule, B, taught, teacher)
            local_fields(W, work.x, b, work.field, work.h)
            output = shifted(v, work.field) if biased else 0.0
            size = 0.0
            for k in range(K):
                work.value[k] = g(work.field[k])
                output += rule.scale * v[k] * work.value[k]
                size += abs(work.field[k])
            F = slope(output, work.y[b])
            if not math.isfinite(size + F):
                return step - 1 if start + step > 0 else 0
            total += F
            for k in range(K):
                along = F * v[k] * dg(work.field[k])
                work.c[b, k] = -state.rates[at, 2] * rule.first[k] * along
                work.push[k] += F * work.value[k]
                work.bias[k] += along
        for b in range(samples, B):
            warm(b, b - samples, (start + step) * B + b, state.rates[at, 4], state, rule, work)
        learn(at, total, state, rule, work)
        lengths(W, rule.sphere, work)
        for b in range(B):
            absorb(W, b, B, work)
            for k in range(K):
                work.rho[k] = 1.0
        scale_back(W, rule.sphere, work)
    return steps


@njit(nogil=True, error_model="numpy", forceinline=True)
def cluster(chosen: float, data: Data) -> int:
    """The cluster that a uniform number chooses."""
    a = 0
    while chosen >= data.thresholds[a]:
        a += 1
    return a


@njit(nogil=True, error_model="numpy", forceinline=True)
def clear(work: Work) -> None:
    """Forget the pushes of the last step."""
    for k in range(len(work.push)):
        work.push[k] = 0.0
        work.bias[k] = 0.0


@njit(nogil=True, error_model="numpy", forceinline=True)
def shifted(v: Array, field: Array) -> float:
    """Add the thresholds to the local fields; returns the intercept."""
    K = len(field)
    for k in range(K):
        field[k] += v[K + k]
    return v[2 * K]


@njit(nogil=True, error_model="numpy", forceinline=True)
def learn(at: int, total: float, state: Replica, rule: Rule, work: Work) -> None:
    """The step of readouts, thresholds and intercept, and the factors rho of the weights in it; frozen ones stay.

    `total`: the slopes of the loss of the samples, added up.
    """
    v = state.v
    K = len(work.push)
    for k in range(K):
        v[k] = v[k] + rule.second[k] * ((state.rates[at, 1] - 1.0) * v[k] - state.rates[at, 3] * work.push[k])
        work.rho[k] = 1.0 + rule.first[k] * (state.rates[at, 0] - 1.0)
    if len(v) > K:
        for k in range(K):
            v[K + k] = rule.rho_b[k] * v[K + k] - rule.rate_b[k] * work.bias[k]
        v[2 * K] = rule.rho_c * v[2 * K] - rule.rate_c * total


@njit(nogil=True, error_model="numpy", forceinline=True)
def warm(b: int, neuron: int, number: int, kick: float, state: Replica, rule: Rule, work: Work) -> None:
    """Vector b of a step is one of the bath, for one neuron: standard normals, in the basis that the samples use."""
    _, _, square = draw(state.random, number, work.x, b, rule.freedom, 0.0)
    K = len(work.inner)
    n = len(state.W)
    work.x[b, n + b] = math.sqrt(square)
    work.rest[b] = square
    for k in range(K):
        work.c[b, k] = kick * math.sqrt(rule.first[k]) if k == neuron else 0.0


@njit(nogil=True, error_model="numpy", forceinline=True)
def lengths(W: Array, sphere: float, work: Work) -> None:
    """|w_k|^2/D of each neuron, where these are kept."""
    if sphere == 0.0:
        return
    K = len(work.inner)
    for k in range(K):
        total = 0.0
        for i in range(len(W)):
            total += W[i, k] ** 2
        work.length[k] = total


@njit(nogil=True, error_model="numpy", forceinline=True)
def scale_back(W: Array, sphere: float, work: Work) -> None:
    """The weights at the lengths that they had, where these are kept."""
    if sphere == 0.0:
        return
    K = len(work.inner)
    for k in range(K):
        total = 0.0
        for i in range(len(W)):
            total += W[i, k] ** 2
        factor = math.sqrt(work.length[k] / total) if total > 0.0 else 1.0
        for i in range(len(W)):
            W[i, k] *= factor


@njit(nogil=True, error_model="numpy", forceinline=True)
def test_sample(
    number: int, a: int, state: Replica, problem: Numbers, work: Work, taught: Size, g: Any, teacher: Any
) -> tuple[float, float]:
    """Output and label, without noise, of a fresh input of cluster a; B = 1."""
    v, data, rule = state.v, problem.data, problem.rule
    _, noise, square = draw(state.random, number, work.x, 0, rule.freedom, 0.0)
    y = label(work.x, 0, a, noise, data.sigmas[a] ** 2 * square, data, rule, 1, taught, teacher)
    local_fields(state.W, work.x, 0, work.field, work.h)
    K = len(work.field)
    output = shifted(v, work.field) if len(v) > K else 0.0
    for k in range(K):
        output += rule.scale * v[k] * g(work.field[k])
    return output, y


@njit(nogil=True, error_model="numpy", forceinline=True)
def label(
    x: Array, b: int, a: int, noise: float, square: float, data: Data, rule: Rule, B: Size, taught: Size, teacher: Any
) -> float:
    """Make an input of cluster a of the normals in x[b]: p components, K, and b + 1 beyond.  Returns its label."""
    p = len(data.references[0])
    n = len(x[0]) - B
    sigma = data.sigmas[a]
    for i in range(n):
        x[b, i] *= sigma
    for i in range(p):
        x[b, i] += data.references[a, i]
    if B > 1:
        for i in range(n, n + b):
            x[b, i] *= sigma
        x[b, n + b] = math.sqrt(square)
    y = data.labels[a] + rule.label_noise * noise
    for m in range(taught):
        seen = 0.0
        for i in range(p):
            seen += data.references[len(data.sigmas) + m, i] * x[b, i]
        y += data.readout[m] * teacher(seen)
    return y


@njit(nogil=True, error_model="numpy", forceinline=True)
def local_fields(W: Array, x: Array, b: int, field: Array, h: Array) -> None:
    """The local fields of sample b, and on the way h[j, k], which counts where a step has one sample."""
    K = len(field)
    p = len(W) - K
    for k in range(K):
        field[k] = 0.0
    for j in range(K - 1, -1, -1):
        for k in range(j, K):
            h[j, k] = field[k]
            field[k] += W[p + j, k] * x[b, p + j]
    for i in range(p):
        for k in range(K):
            field[k] += W[i, k] * x[b, i]


@njit(nogil=True, error_model="numpy", forceinline=True)
def inner_products(W: Array, b: int, B: Size, work: Work) -> None:
    """Fill h[j, k] of sample b, and that of the samples after it, in the basis as it is now."""
    K = len(work.inner)
    p = len(W) - K
    for later in range(b + 1, B):
        work.h_later[K - 1, later] = 0.0
        for i in range(p + K, p + K + b + 1):
            work.h_later[K - 1, later] += work.x[later, i] * work.x[b, i]
    for k in range(K):
        work.inner[k] = 0.0
    for j in range(K - 1, -1, -1):
        for k in range(j, K):
            work.h[j, k] = work.inner[k]
            work.inner[k] += W[p + j, k] * work.x[b, p + j]
        if j > 0:
            for later in range(b + 1, B):
                work.h_later[j - 1, later] = work.h_later[j, later] + work.x[later, p + j] * work.x[b, p + j]


@njit(nogil=True, error_model="numpy", forceinline=True)
def absorb(W: Array, b: int, B: Size, work: Work) -> None:
    """w_k <- rho_k w_k + c_bk x_b, the basis rotated so that L is lower triangular again, and the samples to come."""
    x, c = work.x, work.c
    K = len(work.inner)
    p = len(W) - K
    if B > 1:
        for later in range(B):
            work.turned[later] = 0.0
        inner_products(W, b, B, work)
    last = work.rest[b]
    for i in range(p + K, p + K + b):
        last += x[b, i] ** 2
    for j in range(K - 1, -1, -1):
        work.beyond[j] = last
        last += x[b, p + j] ** 2
    for i in range(p):
        for k in range(K):
            W[i, k] = work.rho[k] * W[i, k] + c[b, k] * x[b, i]
    for j in range(K):
        u = x[b, p + j]
        rest = work.beyond[j]
        first = work.rho[j] * W[p + j, j] + c[b, j] * u
        length = math.copysign(math.sqrt(first**2 + c[b, j] ** 2 * rest), first)
        cos = first / length if length != 0.0 else 1.0
        s = c[b, j] / length if length != 0.0 else 0.0
        turn = s**2 / (1.0 + cos)
        W[p + j, j] = length
        for k in range(j + 1, K):
            q = work.rho[k] * W[p + j, k] + c[b, k] * u
            outside = work.rho[k] * work.h[j, k]
            W[p + j, k] = cos * q + s * (c[b, k] * rest + outside)
            c[b, k] = cos * c[b, k] - s * q - turn * outside
        for later in range(b + 1, B):
            q = x[later, p + j] + work.turned[later] * u
            outside = work.h_later[j, later]
            x[later, p + j] = cos * q + s * (work.turned[later] * rest + outside)
            work.turned[later] = cos * work.turned[later] - s * q - turn * outside
    for later in range(b + 1, B):
        for i in range(p + K, p + K + b + 1):
            x[later, i] += work.turned[later] * x[b, i]
