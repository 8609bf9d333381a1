"""Online SGD in any dimension at a cost that does not depend on it: the exact Markov chain of the order parameters.

With isotropic noise an input matters only through its components along the weights, the means and a teacher's weights,
and its length.  Let e_1..e_p be a basis of the means and the teacher, f_1..f_K an orthonormal basis beside it built
from the weights one after the other, and f_{K+1} the direction of what is left of the input of cluster a:

    w_k/sqrt(D) = sum_b A_bk e_b + sum_{j<=k} L_kj f_j
    x = mean_a + sigma_a (sum_b z_b e_b + sum_{j<=K} z_j f_j + chi f_{K+1})

z are p + K standard normals, and chi^2 is a chi-square number of D - p - K degrees of freedom: NumPy's gamma generator,
from two degrees on the rejection method of Marsaglia and Tsang (2000), which is exact and as fast for any number of
them.  A step adds c_k x to rho w_k/sqrt(D), rho = 1 - eta kappa/D, so that

    A_bk <- rho A_bk + c_k x_b     and     L_k <- the row rho L_k + c_k u of K + 1 numbers,  u = x on f_1..f_{K+1}.

Rotations of the basis bring L back to lower-triangular form, a row at a time.  With u_> = (u_{j+1}, .., u_{K+1}), row j
is a f_j + c_j u_>, a = rho L_jj + c_j u_j; the rotation in the plane of f_j and u_> that leaves it on the first has

    l = ±sqrt(a^2 + c_j^2 |u_>|^2),   cos = a/l >= 0,   sin/|u_>| = c_j/l = s

and makes of the rows k > j, with q = rho L_kj + c_k u_j and h = sum_{i>j} L_ki u_i,

    L_kj <- cos q + s (c_k |u_>|^2 + rho h),   c_k <- cos c_k - s q - rho h s^2/(1 + cos).

What is left of them, rho L_ki (i > j) and c_k u_>, has the old form in the rotated basis.  O(K (K + p)) for one step.

A step of B samples adds sum_b c_bk x_b, the coefficients all from the weights before it.  What the samples have beyond
the weights is a Gaussian matrix in its QR form: sample b has normals on f_{K+1}..f_{K+b-1} and on f_{K+b} the root of a
chi-square number of D - p - K - b + 1 degrees (Bartlett).  The samples are taken in one after the other; those still to
come are rows in the same basis, that the rotations carry along as they do the rows of L, with c = 0 and rho = 1.

The chain has the law of SGD on D-vectors exactly, up to rounding.  Its increments are O(1/D) and rounded to nearest:
of their 16 digits log10(D) are lost, without bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numba
import numpy as np
import numpy.typing as npt

from quenched.numerics.calculus.averages import activation_value, compiled_activation
from quenched.numerics.calculus.compile import callbacks
from quenched.numerics.calculus.losses import compiled_loss
from quenched.numerics.calculus.machine_code import njit
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.state import OrderParameters
from quenched.sim.backend import generator_words, generators, restore_generators
from quenched.sim.engines.base import CHAIN, Batch, Engine, Law, Memory, Overlaps, Plan, Problem, State
from quenched.sim.engines.geometry import root

__all__ = ["Chain"]

Array = npt.NDArray[np.float64]

_CALL = 2**20  # steps of all replicas together between two looks at them: about 0.2 s
_SHORT = 2**19  # steps: about 0.1 s


class Chain(Engine):
    """The states W (S, p + K, K), the columns of A over those of L^T, and v (S, K), each with its own generator.

    Replicas run in parallel on NUMBA_NUM_THREADS threads (all cores by default); the numbers that one gets depend on
    nothing but its problem, state and seed.
    """

    accepts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "backend": ("numpy",),
        "test": ("fields",),
        "dtype": ("float64",),
    }

    def __init__(self, batch: Batch) -> None:
        super().__init__(batch)
        problem, D = batch.problem, batch.problem.D
        self.p = problem.mixture.dimensions
        self.random = generators(batch.seeds, CHAIN)
        starts: dict[tuple[int, int], Array] = {}  # replicas may share states
        mixtures, which = batch.mixtures
        keys = [(id(state), i) for state, i in zip(batch.states, which.tolist(), strict=True)]
        for state, key in zip(batch.states, keys, strict=True):
            if key not in starts:
                starts[key] = _start(state, mixtures[key[1]], D)
        self.W = np.array([starts[key] for key in keys], order="C")
        self.v = np.array([state.v for state in batch.states])
        self.freedom = float(D - self.p - problem.network.K)
        self.parameters = [self._parameters(each) for each in batch.problems]
        teacher = problem.mixture.teacher
        g, dg = compiled_activation(problem.network.activation)
        known = g if teacher is None else callbacks("teacher", (activation_value(teacher.activation),))[0]
        self.functions = g, dg, compiled_loss(problem.rule.loss), known

    @staticmethod
    def _parameters(problem: Problem) -> tuple[tuple[Array, ...], tuple[float, ...]]:
        """The numbers of a problem as a step takes them: arrays of the data, and those of the rule."""
        mixture, rule, D = problem.mixture, problem.rule, problem.D
        references = np.ascontiguousarray(mixture.references_at(D))
        thresholds = np.cumsum(mixture.weights)[:-1]
        data = references, mixture.sigmas.copy(), mixture.labels.copy(), thresholds, problem.readout.copy()
        scale = problem.network.output_scale / (D * problem.rule.batch)
        decays = 1 - rule.eta * rule.kappa / D, 1 - rule.eta_v * rule.kappa_v / D
        rates = rule.eta * scale, rule.eta_v * scale
        return data, (problem.network.output_scale, rule.label_noise, *decays, *rates)

    @classmethod
    def refuses(cls, problem: Problem) -> str | None:
        """A spectrum: there are then as many order parameters as directions."""
        return "engine must be 'vectors' where inputs have a spectrum" if problem.mixture.spectrum is not None else None

    @classmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """Memory goes to the test samples."""
        memory.check(problem, memory.tests)
        replicas = min(replicas, memory.numbers // memory.tests)
        return Plan(replicas, max(1, _CALL // (replicas * problem.rule.batch)))

    @classmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """A tenth of a second of steps, beside which what it takes to begin and to record is small."""
        return max(1, _SHORT // max(1, steps * problem.rule.batch))

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Order parameters and generators."""
        return super().state() | {"W": self.W.copy(), "v": self.v.copy(), "random": generator_words(self.random)}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from there."""
        super().restore(arrays)
        self.W, self.v = np.array(arrays["W"], order="C"), np.array(arrays["v"], order="C")
        restore_generators(self.random, arrays["random"])

    def advance(self, steps: int) -> None:
        """Do `steps` steps with each replica that is still finite."""
        living = np.flatnonzero(self.good == self.steps)
        threads = max(1, min(numba.config.NUMBA_NUM_THREADS, len(living)))  # type: ignore[attr-defined]
        B, which = self.batch.problem.rule.batch, self.batch.which

        def run(first: int) -> None:
            for i in living[first::threads]:
                data, rule = self.parameters[which[i]]
                state, numbers = (self.random[i], self.W[i], self.v[i]), (data, (self.freedom, *rule))
                self.good[i] += _advance(steps, state, numbers, B, *self.functions)

        if threads == 1:
            run(0)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(run, range(threads)))
        self.steps += steps

    def overlaps(self) -> Overlaps:
        """M from the columns of A, Q from all of W."""
        references = np.stack([data[0] for data, _ in self.parameters])[self.batch.which]
        Q = self.W.swapaxes(1, 2) @ self.W
        return Overlaps(references @ self.W[:, : self.p], (Q + Q.swapaxes(1, 2)) / 2, self.v.copy())

    def law(self) -> Law:
        """The covariance is sigma_a^2 times the overlaps of the weights and the teacher's."""
        M, Q, _ = self.overlaps()
        C = self.batch.problem.mixture.clusters
        references = np.stack([data[0] for data, _ in self.parameters])[self.batch.which]
        sigmas = self.batch.numbers(lambda problem: problem.mixture.sigmas)
        gram = np.concatenate(
            [
                np.concatenate([Q, M[:, C:].swapaxes(1, 2)], axis=2),
                np.concatenate([M[:, C:], references[:, C:] @ references[:, C:].swapaxes(1, 2)], axis=2),
            ],
            axis=1,
        )
        known = references[:, :C] @ references[:, C:].swapaxes(1, 2)
        return Law(np.concatenate([M[:, :C], known], axis=2), sigmas[:, :, None, None] ** 2 * gram[:, None])


def _start(state: State, mixture: Mixture, D: int) -> Array:
    """A (p, K) over L^T (K, K), with L lower triangular and L L^T = Q - A^T A, which may be singular."""
    if not isinstance(state, OrderParameters):
        raise ValueError(f"state must be OrderParameters, got {type(state).__name__}")
    A, Q = state.projections(mixture, D), state.Q
    return np.concatenate([A, np.linalg.qr(root(Q - A.T @ A), mode="r")])


_State = tuple[np.random.Generator, Array, Array]
_Numbers = tuple[tuple[Array, Array, Array, Array, Array], tuple[float, float, float, float, float, float, float]]


@njit(nogil=True, error_model="numpy")
def _advance(steps: int, state: _State, numbers: _Numbers, B: int, g: Any, dg: Any, slope: Any, teacher: Any) -> int:
    """`steps` steps of the chain, in place; how many of them were done before the weights ceased to be finite."""
    taught = len(numbers[0][4])
    if B == 1 and taught == 0:  # compiled for itself: loops over samples and teachers go, with a third of the time
        return _steps(steps, state, numbers, 1, 0, g, dg, slope, teacher)
    return _steps(steps, state, numbers, B, taught, g, dg, slope, teacher)


@njit(nogil=True, error_model="numpy", forceinline=True)
def _steps(
    steps: int, state: _State, numbers: _Numbers, B: int, taught: int, g: Any, dg: Any, slope: Any, teacher: Any
) -> int:
    """The same, in the notation of the module."""
    random, W, v = state
    data, (freedom, scale, label_noise, rho, rho_v, rate, rate_v) = numbers
    K = len(v)
    p = len(W) - K
    x = np.zeros((B, p + K + B))
    rest, y = np.empty(B), np.empty(B)  # the squares of the last components, and the labels
    field, value, c, push = np.empty(K), np.empty(K), np.empty((B, K)), np.empty(K)
    work = np.empty((K, K)), np.empty((K, B)), np.empty(K), np.empty(K), np.empty(B)
    for step in range(steps):
        push[:] = 0.0
        for b in range(B):
            y[b], rest[b] = _sample(random, x, b, B, K, data, (freedom, label_noise), taught, teacher)
            _fields(W, x, b, field, work[0])
            output, size = 0.0, 0.0
            for k in range(K):
                value[k] = g(field[k])
                output += scale * v[k] * value[k]
                size += abs(field[k])
            F = slope(output, y[b])
            if not math.isfinite(size + F):
                return step - 1
            for k in range(K):
                c[b, k] = -rate * F * v[k] * dg(field[k])
                push[k] += F * value[k]
        for k in range(K):
            v[k] = rho_v * v[k] - rate_v * push[k]
        for b in range(B):
            _absorb(W, x, c, b, B, rest[b], rho if b == 0 else 1.0, work)
    return steps


@njit(nogil=True, error_model="numpy", forceinline=True)
def _sample(
    random: np.random.Generator,
    x: Array,
    b: int,
    B: int,
    K: int,
    data: tuple[Array, Array, Array, Array, Array],
    rest: tuple[float, float],
    taught: int,
    teacher: Any,
) -> tuple[float, float]:
    """Draw sample number b of a step into x[b]: p components, K, and b + 1 beyond.

    Returns its label, and the square of the last component.
    """
    references, sigmas, labels, thresholds, readout = data
    freedom, label_noise = rest
    chosen, a = random.random(), 0
    while a < len(thresholds) and chosen >= thresholds[a]:
        a += 1
    y = labels[a] + label_noise * random.standard_normal() if label_noise else labels[a]
    p, sigma = references.shape[1], sigmas[a]
    for i in range(p + K):
        x[b, i] = sigma * random.standard_normal()
    for i in range(p):
        x[b, i] += references[a, i]
    left = max(freedom - b, 0.0)
    square = sigma**2 * random.chisquare(left) if left > 0 else 0.0
    if B > 1:
        for i in range(b):
            x[b, p + K + i] = sigma * random.standard_normal() if freedom > i else 0.0
        x[b, p + K + b] = math.sqrt(square)
    for m in range(taught):
        seen = 0.0
        for i in range(p):
            seen += references[len(sigmas) + m, i] * x[b, i]
        y += readout[m] * teacher(seen)
    return y, square


@njit(nogil=True, error_model="numpy", forceinline=True)
def _fields(W: Array, x: Array, b: int, field: Array, h: Array) -> None:
    """The local fields of sample b, and on the way h[j, k], which counts where a step has one sample."""
    K = len(field)
    p = len(W) - K
    field[:] = 0.0
    for j in range(K - 1, -1, -1):
        for k in range(j, K):
            h[j, k] = field[k]
            field[k] += W[p + j, k] * x[b, p + j]
    for i in range(p):
        for k in range(K):
            field[k] += W[i, k] * x[b, i]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _inner_products(W: Array, x: Array, b: int, B: int, work: tuple[Array, Array, Array, Array, Array]) -> None:
    """Fill h[j, k] of sample b, and that of the samples after it, in the basis as it is now."""
    h, h_later, _, inner, _ = work
    K = len(inner)
    p = len(W) - K
    for later in range(b + 1, B):
        h_later[K - 1, later] = 0.0
        for i in range(p + K, p + K + b + 1):
            h_later[K - 1, later] += x[later, i] * x[b, i]
    inner[:] = 0.0
    for j in range(K - 1, -1, -1):
        for k in range(j, K):
            h[j, k] = inner[k]
            inner[k] += W[p + j, k] * x[b, p + j]
        for later in range(b + 1, B) if j else range(0):
            h_later[j - 1, later] = h_later[j, later] + x[later, p + j] * x[b, p + j]


@njit(nogil=True, error_model="numpy", forceinline=True)
def _absorb(
    W: Array,
    x: Array,
    c: Array,
    b: int,
    B: int,
    last: float,
    rho: float,
    work: tuple[Array, Array, Array, Array, Array],
) -> None:
    """W <- rho W + c_b x_b, and the basis rotated so that L is lower triangular again, with it the samples to come.

    `last`: the square of the last component of x_b.
    """
    h, h_later, beyond, inner, turned = work  # beyond[j] is |u_>|^2 after f_j
    K = len(inner)
    p = len(W) - K
    if B > 1:
        turned[:] = 0.0
        _inner_products(W, x, b, B, work)
    for i in range(p + K, p + K + b):
        last += x[b, i] ** 2
    for j in range(K - 1, -1, -1):
        beyond[j] = last
        last += x[b, p + j] ** 2
    for i in range(p):
        for k in range(K):
            W[i, k] = rho * W[i, k] + c[b, k] * x[b, i]
    for j in range(K):
        u, rest = x[b, p + j], beyond[j]
        first = rho * W[p + j, j] + c[b, j] * u
        length = math.copysign(math.sqrt(first**2 + c[b, j] ** 2 * rest), first)
        cos, s = (first / length, c[b, j] / length) if length else (1.0, 0.0)
        turn = s**2 / (1 + cos)
        W[p + j, j] = length
        for k in range(j + 1, K):
            q, outside = rho * W[p + j, k] + c[b, k] * u, rho * h[j, k]
            W[p + j, k] = cos * q + s * (c[b, k] * rest + outside)
            c[b, k] = cos * c[b, k] - s * q - turn * outside
        for later in range(b + 1, B):
            q, outside = x[later, p + j] + turned[later] * u, h_later[j, later]
            x[later, p + j] = cos * q + s * (turned[later] * rest + outside)
            turned[later] = cos * turned[later] - s * q - turn * outside
    for later in range(b + 1, B):
        for i in range(p + K, p + K + b + 1):
            x[later, i] += turned[later] * x[b, i]
