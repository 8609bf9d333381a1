"""The basis of the exact chain during a step: local fields, inner products, and the rotation that absorbs a sample.

The mathematics and the notation are in `quenched.sim.engines.overlaps`.  Like `chain_step`, which calls them, these
functions are compiled for the host and translated for a card.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.machine_code import inner

__all__ = ["Work", "absorb", "inner_products", "lengths", "local_fields", "scale_back", "squared_length"]

Array = npt.NDArray[np.float64]
Size = int


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


@inner(nogil=True, error_model="numpy", forceinline=True)
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


@inner(nogil=True, error_model="numpy", forceinline=True)
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


@inner(nogil=True, error_model="numpy", forceinline=True)
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
    for k in range(K):
        work.rho[k] = 1.0  # the next vectors of the step are added to what is there


@inner(nogil=True, error_model="numpy", forceinline=True)
def squared_length(W: Array, k: int) -> float:
    """|w_k|^2/D."""
    total = 0.0
    for i in range(len(W)):
        total += W[i, k] ** 2
    return total


@inner(nogil=True, error_model="numpy", forceinline=True)
def lengths(W: Array, sphere: float, work: Work) -> None:
    """|w_k|^2/D of each neuron, where these are kept."""
    if sphere == 0.0:
        return
    K = len(work.inner)
    for k in range(K):
        work.length[k] = squared_length(W, k)


@inner(nogil=True, error_model="numpy", forceinline=True)
def scale_back(W: Array, sphere: float, work: Work) -> None:
    """The weights at the lengths that they had, where these are kept."""
    if sphere == 0.0:
        return
    K = len(work.inner)
    for k in range(K):
        total = squared_length(W, k)
        factor = math.sqrt(work.length[k] / total) if total > 0.0 else 1.0
        for i in range(len(W)):
            W[i, k] *= factor
