"""Online SGD, many seeds at once: the experiment that the order-parameter equations describe.

The learning rule is that of `OnlineSGD`, one fresh sample per step.  The engine "overlaps" is the Markov chain of the
order parameters (`quenched.sim.chain`).  The engine "vectors", below, trains real D-vectors, in blocks of B steps that
do not change the rule.  Inside a block the weights are W_b = rho^b W + sum_{j<b} rho^{b-1-j} c_j x_j^T, with
rho = 1 - eta kappa/D and the coefficients c_j (K,) of the gradient steps, so the field of a later sample needs only its
inner products with the earlier ones:

    lambda_b = rho^b W x_b/sqrt(D) + sum_{j<b} rho^{b-1-j} c_j (x_j·x_b)/sqrt(D)

Two matrix products per block (X W^T and X X^T) give all that is needed; the B steps then run on arrays of B K numbers
per seed, and one more product (C^T X) brings the weights up to date.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages import activation_functions
from quenched.numerics.checks import increasing_times, integer
from quenched.numerics.flow import random_state
from quenched.numerics.provenance import provenance
from quenched.numerics.records import Mixture, OnlineSGD, OrderParameters, TwoLayer
from quenched.sim.backend import Backend, Normals, generators, get_backend

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["DivergenceError", "simulate"]

Array = npt.NDArray[np.float64]

# The uses that the random stream of a seed is put to.
FRAME, DATA, CLUSTER, NOISE, TEST, CHAIN = range(6)
_BLOCK = 32  # the Gram matrix of a longer block costs more than the calls it saves


class DivergenceError(RuntimeError):
    """The weights of some seeds have overflowed; `seeds` lists them and `t` is the last good time."""

    def __init__(self, seeds: list[int], t: float, lr: float) -> None:
        super().__init__(
            f"the weights of seeds {seeds} overflowed after t = {t:.6g}; the dynamics is unstable there: "
            f"lower lr (now {lr:g}), add weight_decay, or end before this time"
        )
        self.seeds = seeds
        self.t = t


def simulate(
    mixture: Mixture,
    network: TwoLayer,
    sgd: OnlineSGD,
    D: int,
    t: npt.ArrayLike,
    seeds: Sequence[int],
    engine: str = "vectors",
    backend: str | Backend = "auto",
    *,
    state: OrderParameters | Sequence[OrderParameters] | None = None,
    test: str = "fields",
    test_samples: int = 10_000,
    dtype: str = "float64",
    memory: int = 2**28,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Order parameters and errors of online SGD in dimension D, recorded after n = round(t D) steps, for each seed.

    The means lie along the first p coordinate axes: isotropic noise knows no other directions.  Each seed starts from
    weights with exactly the overlaps of `state` (one record, or one per seed; None: those of Gaussian random weights,
    `random_state(mixture, network, D, seed)`) in a random orientation, and has its own samples and label noise.

    Errors are averages over `test_samples` fresh samples per record, as many from each cluster, weighted by P_a.  With
    test = "fields" (the default) their local fields are drawn, which given the weights are exactly N(M_a, sigma_a^2 Q);
    test = "vectors" draws D-vectors instead.  classification_error counts an output of exactly 0, whose frequency is
    tie_probability, as half an error.

    `engine`: "vectors", real D-vectors, or "overlaps", the exact chain of their order parameters: the same law at a
    cost that does not depend on D, compiled, a seed per core (`NUMBA_NUM_THREADS` of them).  The chain has backend
    "numpy", dtype "float64" and test "fields" only, and what a seed gives depends on nothing else.  `backend`: "numpy",
    "cupy", or "auto" (CuPy where a GPU answers).  With NumPy vectors the result of a seed depends on the other seeds by
    rounding at most.  `dtype`: "float64" or "float32".  `memory`: bytes for samples and weights; more than that runs in
    batches of seeds, down to one seed and one sample at a time.  `progress` is called with the fraction done.

    Returns a dataset with dimensions seed, time, cluster, neuron, neuron_: M, Q, v, pmse, classification_error,
    tie_probability; the coordinate `time` is n/D and `step` is n.  Its attributes hold all inputs as JSON.

    ValueError: bad input, by name and value.  DivergenceError: weights overflow.
    """
    import xarray as xr

    D = integer("D", D, at_least=mixture.dimensions + network.K)
    steps = _steps(t, D)
    names = [integer("seeds", seed) for seed in seeds]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"seeds must be one or more different integers, got {names}")
    if engine not in ("vectors", "overlaps"):
        raise ValueError(f"engine must be 'vectors' or 'overlaps', got {engine!r}")
    if test not in ("fields", "vectors"):
        raise ValueError(f"test must be 'fields' or 'vectors', got {test!r}")
    if engine == "overlaps":
        backend = "numpy" if backend == "auto" else backend
        needed = {"backend": (backend, "numpy"), "test": (test, "fields"), "dtype": (dtype, "float64")}
        for name, (given, only) in needed.items():
            if given != only:
                raise ValueError(f"{name} must be {only!r} with engine='overlaps', got {given!r}")
    per_cluster = -(-integer("test_samples", test_samples, at_least=1) // mixture.clusters)
    states = _initial_states(mixture, network, D, names, state)
    problem = Problem(mixture, network, sgd, D, get_backend(backend), dtype)

    kind = _engine(engine)
    numbers = integer("memory", memory, at_least=1) // problem.itemsize
    batch, block = kind.plan(problem, len(names), numbers, per_cluster)
    parts = []
    for first in range(0, len(names), batch):
        chosen = names[first : first + batch]

        def report(step: int, first: int = first, count: int = len(chosen)) -> None:
            if progress is not None:
                progress((first + count * step / max(steps[-1], 1)) / len(names))

        run = kind(problem, chosen, states[first : first + batch])
        draws = problem.backend.normals(chosen, TEST, dtype)
        records, now = [], 0
        for stop in steps:
            while now < stop:
                advanced = min(block, stop - now)
                with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
                    finite = run.advance(advanced)
                if not finite.all():
                    raise DivergenceError([chosen[i] for i in np.flatnonzero(~finite)], now / D, sgd.lr)
                now += advanced
                report(now)
            M, Q, v = run.overlaps()
            if test == "vectors":
                assert isinstance(run, _Vectors)
                fields = run.fields(draws, per_cluster, block)
            else:
                fields = _fields(problem, M, Q, draws, per_cluster)
            records.append({"M": M, "Q": Q, "v": v} | _errors(problem, fields, v))
        parts.append({name: np.stack([record[name] for record in records], axis=1) for name in records[0]})

    dims = {"M": ("cluster", "neuron"), "Q": ("neuron", "neuron_"), "v": ("neuron",)}
    return xr.Dataset(
        {
            name: (("seed", "time", *dims.get(name, ())), np.concatenate([part[name] for part in parts]))
            for name in parts[0]
        },
        coords={"seed": names, "time": np.array(steps) / D, "step": ("time", steps)},
        attrs=provenance(
            mixture=mixture,
            network=network,
            sgd=sgd,
            initial_state=state,
            simulation={
                "D": D,
                "engine": engine,
                "backend": problem.backend.name,
                "dtype": dtype,
                "test": test,
                "test_samples": per_cluster * mixture.clusters,
            },
            seeds=names,
        ),
    )


@dataclass(frozen=True)
class Problem:
    """What a run is about and where its arrays live."""

    mixture: Mixture
    network: TwoLayer
    sgd: OnlineSGD
    D: int
    backend: Backend
    dtype: str

    def __post_init__(self) -> None:
        if not self.sgd.diffusion:
            raise ValueError(
                f"sgd must be a rule with steps of finite size, got {self.sgd}: the limit eta -> 0 has no samples to "
                "draw; simulate OnlineSGD with a small lr and compare at equal lr t, or integrate the equations"
            )
        if self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    def array(self, values: npt.ArrayLike) -> Any:
        """`values` as an array of the backend."""
        return self.backend.xp.asarray(np.asarray(values, dtype=self.dtype))

    def activation(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """The activation and its derivative, for arrays of the backend."""
        g, dg = activation_functions(self.network.activation)
        return self.backend.elementwise(g), self.backend.elementwise(dg)


class Engine(Protocol):
    """A way to run the learning rule for all seeds of a batch."""

    def __init__(self, problem: Problem, seeds: Sequence[int], states: Sequence[OrderParameters]) -> None: ...

    @staticmethod
    def plan(problem: Problem, seeds: int, numbers: int, per_cluster: int) -> tuple[int, int]:
        """Seeds per batch and steps per call of `advance` that fit into `numbers` numbers."""

    def advance(self, steps: int) -> npt.NDArray[np.bool_]:
        """Do `steps` steps; which seeds are still finite, (S,)."""

    def overlaps(self) -> tuple[Array, Array, Array]:
        """M (S, C, K), Q (S, K, K) and v (S, K) on the host."""


class _Vectors:
    """Weights W (S, K, D) and readouts v (S, K) of S seeds, trained on samples X (S, B, D), B at a time."""

    def __init__(self, problem: Problem, seeds: Sequence[int], states: Sequence[OrderParameters]) -> None:
        self.problem = problem
        self.means = problem.mixture.at(problem.D)
        weights = [_weights(problem, self.means, s, state) for s, state in zip(seeds, states, strict=True)]
        self.W = problem.array(np.stack(weights))
        self.v = problem.array([state.v for state in states])
        self.g, self.dg = problem.activation()
        self.normals = problem.backend.normals(seeds, DATA, problem.dtype)
        self.choices = generators(seeds, CLUSTER)
        self.noises = generators(seeds, NOISE)
        self.thresholds = np.cumsum(problem.mixture.weights)[:-1]

    @staticmethod
    def plan(problem: Problem, seeds: int, numbers: int, per_cluster: int) -> tuple[int, int]:
        K, D = problem.network.K, problem.D
        block = max(1, min(_BLOCK, (numbers // D - 2 * K) // 2))
        per_seed = 2 * (block + K) * D + 4 * per_cluster * problem.mixture.clusters * K
        return max(1, min(seeds, numbers // per_seed)), block

    def samples(self, normals: Normals, cluster: npt.NDArray[np.int64]) -> Any:
        """Inputs x of the given clusters (S, n): the rows of an array (S, n, D)."""
        mixture, array = self.problem.mixture, self.problem.array
        X = normals((cluster.shape[1], self.problem.D))
        X *= array(mixture.sigmas[cluster])[:, :, None]
        X[:, :, : mixture.dimensions] += array(self.means[cluster])
        return X

    def advance(self, steps: int) -> npt.NDArray[np.bool_]:
        xp, array, sgd, D = self.problem.backend.xp, self.problem.array, self.problem.sgd, self.problem.D
        scale, root = self.problem.network.output_scale, math.sqrt(D)
        cluster = np.stack([np.searchsorted(self.thresholds, u.random(steps), side="right") for u in self.choices])
        target = self.problem.mixture.labels[cluster]
        if sgd.label_noise:
            target = target + sgd.label_noise * np.stack([noise.standard_normal(steps) for noise in self.noises])
        X, y = self.samples(self.normals, cluster), array(target)

        gram = xp.matmul(X, X.mT) / root
        fields = xp.matmul(X, self.W.mT) / root  # of the samples to come, with the present weights
        rho, rho_v = 1 - sgd.eta * sgd.kappa / D, 1 - sgd.eta_v * sgd.kappa_v / D
        increments = xp.empty_like(fields)  # sum_b increments_bk x_b is what the block adds to w_k
        v = self.v
        for b in range(steps):
            field = fields[:, b, :]
            g = self.g(field)
            delta = (scale * xp.sum(v * g, axis=1) - y[:, b])[:, None]
            c = (-sgd.eta * scale / root) * v * delta * self.dg(field)
            v = rho_v * v - (sgd.eta_v * scale / D) * delta * g
            fields[:, b + 1 :, :] = rho * fields[:, b + 1 :, :] + gram[:, b + 1 :, b, None] * c[:, None, :]
            increments[:, b, :] = rho ** (steps - 1 - b) * c
        self.W = rho**steps * self.W + xp.matmul(increments.mT, X)
        self.v = v
        return self.problem.backend.to_host(xp.all(xp.isfinite(v + xp.sum(increments, axis=1)), axis=1))

    def overlaps(self) -> tuple[Array, Array, Array]:
        xp, p, D = self.problem.backend.xp, self.problem.mixture.dimensions, self.problem.D
        host = self.problem.backend.to_host
        A = host(self.W[:, :, :p]).astype(np.float64) / math.sqrt(D)  # w_k·e_b/sqrt(D), (S, K, p)
        Q = host(xp.matmul(self.W, self.W.mT)).astype(np.float64) / D
        return self.means @ A.swapaxes(1, 2), (Q + Q.swapaxes(1, 2)) / 2, host(self.v).astype(np.float64)

    def fields(self, normals: Normals, per_cluster: int, block: int) -> Any:
        """Local fields (S, C, per_cluster, K) of fresh inputs, `block` of them at a time."""
        xp = self.problem.backend.xp
        parts = []
        for a in range(self.problem.mixture.clusters):
            for start in range(0, per_cluster, block):
                n = min(block, per_cluster - start)
                X = self.samples(normals, np.full((self.W.shape[0], n), a))
                parts.append(xp.matmul(X, self.W.mT) / math.sqrt(self.problem.D))
        return xp.reshape(xp.concat(parts, axis=1), (self.W.shape[0], -1, per_cluster, self.W.shape[1]))


def _engine(name: str) -> type[Engine]:
    """The engine of this name; the chain waits for numba, so it is loaded on first use."""
    if name == "vectors":
        return _Vectors
    from quenched.sim.chain import Overlaps

    return Overlaps


def _weights(problem: Problem, means: Array, seed: int, state: OrderParameters) -> Array:
    """Weights (K, D) with exactly the overlaps of `state`, in a random orientation: W/sqrt(D) = [A^T, R^{1/2} F].

    R = Q - A^T A, and the K rows of F (K, D - p) are orthonormal.
    """
    A = state.projections(problem.mixture, problem.D)
    frame = generators([seed], FRAME)[0].standard_normal((problem.D - len(A), state.K))
    residual = root(state.Q - A.T @ A) @ np.linalg.qr(frame)[0].T
    return math.sqrt(problem.D) * np.concatenate([A.T, residual], axis=1)


def root(Q: Array) -> Array:
    """The symmetric square root of positive semi-definite matrices (..., K, K); eigenvalues below 0 are rounding."""
    values, vectors = np.linalg.eigh(Q)
    return (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ vectors.swapaxes(-1, -2)


def _fields(problem: Problem, M: Array, Q: Array, normals: Normals, per_cluster: int) -> Any:
    """Local fields M_a + sigma_a Q^{1/2} z of `per_cluster` fresh inputs of each cluster, (S, C, per_cluster, K)."""
    S, C, K = M.shape
    z = problem.backend.xp.reshape(normals((C * per_cluster, K)), (S, C, per_cluster, K))
    spread = problem.mixture.sigmas[:, None, None] * root(Q)[:, None, :, :]
    return problem.array(M)[:, :, None, :] + problem.backend.xp.matmul(z, problem.array(spread))


def _errors(problem: Problem, fields: Any, v: Array) -> dict[str, Array]:
    """Averages over test samples with local fields `fields` (S, C, n, K); each an array (S,)."""
    xp, weights = problem.backend.xp, problem.mixture.weights
    y = problem.array(problem.mixture.labels)[None, :, None]
    outputs = xp.matmul(problem.activation()[0](fields), problem.array(v)[:, None, :, None])[..., 0]
    outputs = problem.network.output_scale * outputs

    def average(values: Any) -> Array:
        per_cluster = xp.mean(xp.astype(values, fields.dtype), axis=2)
        # a sum, not a matrix product: its rounding does not depend on the seeds beside a seed
        return (problem.backend.to_host(per_cluster).astype(np.float64) * weights).sum(axis=1)

    tie = average(outputs == 0)
    return {
        "pmse": average((outputs - y) ** 2) / 2,
        "classification_error": average(y * outputs < 0) + tie / 2,
        "tie_probability": tie,
    }


def _steps(t: npt.ArrayLike, D: int) -> list[int]:
    """Step counts n = round(t D), increasing."""
    times = increasing_times("t", t)
    steps = [int(n) for n in np.rint(times * D)]
    for i in range(1, len(steps)):
        if steps[i] == steps[i - 1]:
            raise ValueError(f"t must increase by a step 1/D = {1 / D:g} or more, got {times[i]} after {times[i - 1]}")
    return steps


def _initial_states(
    mixture: Mixture,
    network: TwoLayer,
    D: int,
    seeds: Sequence[int],
    state: OrderParameters | Sequence[OrderParameters] | None,
) -> Sequence[OrderParameters]:
    """One initial state per seed."""
    if state is None:
        return [random_state(mixture, network, D, seed) for seed in seeds]
    states = [state] * len(seeds) if isinstance(state, OrderParameters) else list(state)
    if len(states) != len(seeds):
        raise ValueError(f"state must be one record or one per seed ({len(seeds)}), got {len(states)}")
    for each in states:
        if each.K != network.K:
            raise ValueError(f"state must have K = {network.K} neurons like the network, got {each.K}")
        each.check(mixture, D)
    return states
