"""Online SGD, many seeds at once: the experiment that the order-parameter equations describe.

The learning rule is that of `OnlineSGD`, one fresh sample per step.  The engine "overlaps" is the Markov chain of the
order parameters (`quenched.sim.engines.overlaps`).  The engine "vectors", below, trains real D-vectors, in blocks of B
steps that do not change the rule.  Inside a block the weights are W_b = rho^b W + sum_{j<b} rho^{b-1-j} c_j x_j^T, with
rho = 1 - eta kappa/D and the coefficients c_j (K,) of the gradient steps, so the field of a later sample needs only its
inner products with the earlier ones:

    lambda_b = rho^b W x_b/sqrt(D) + sum_{j<b} rho^{b-1-j} c_j (x_j·x_b)/sqrt(D)

Two matrix products per block (X W^T and X X^T) give all that is needed; the B steps then run on arrays of B K numbers
per seed, and one more product (C^T X) brings the weights up to date.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from quenched.numerics.calculus.averages import activation_functions
from quenched.numerics.problem.checks import increasing_times, integer, number
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import OnlineSGD
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import Backend, HostNormals, Normals, generators, get_backend
from quenched.sim.engines.geometry import Geometry, root

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["BLOCK", "DivergenceError", "Problem", "Vectors", "simulate", "step_counts"]

Array = npt.NDArray[np.float64]
State = OrderParameters | Densities

# The uses that the random stream of a seed is put to.
FRAME, DATA, CLUSTER, NOISE, TEST, CHAIN = range(6)
BLOCK = 32  # the Gram matrix of a longer block costs more than the calls it saves


class DivergenceError(RuntimeError):
    """The weights of some seeds have overflowed; `seeds` lists them and `t` is the last good time."""

    def __init__(self, seeds: list[int], t: float, lr: float) -> None:
        super().__init__(
            f"the weights of seeds {seeds} overflowed after t = {t:.6g}; the dynamics is unstable there: "
            f"lower lr (now {lr:g}), add weight_decay, or end before this time"
        )
        self.seeds = seeds
        self.t = t
        self.lr = lr

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[list[int], float, float]]:
        """Processes hand errors on by their arguments."""
        return type(self), (self.seeds, self.t, self.lr)


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
    state: State | Sequence[State] | None = None,
    test: str = "fields",
    test_samples: int = 10_000,
    dtype: str = "float64",
    memory: int = 2**28,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    progress: Callable[[float], None] | None = None,
) -> xr.Dataset:
    """Order parameters and errors of online SGD in dimension D, recorded after n = round(t D) steps, for each seed.

    Coordinates are those of `quenched.sim.engines.geometry`: the means lie along the first p axes, or where the inputs
    have a spectrum, the axes are its eigenvectors.  Each seed starts from weights with exactly the overlaps of `state`
    (one record, or one per seed; None: those of Gaussian random weights, `random_state(mixture, network, D, seed)`) in
    a random orientation, and has its own samples and label noise.

    Errors are averages over `test_samples` fresh samples per record, as many from each cluster, weighted by P_a.  With
    test = "fields" (the default) their local fields are drawn, which given the weights are exactly normal; test =
    "vectors" draws D-vectors instead.  classification_error counts an output of exactly 0, whose frequency is
    tie_probability, as half an error; where a teacher makes the labels, it is the error of the sign, and y = 0 is a
    tie too.

    `engine`: "vectors", real D-vectors, or "overlaps", the exact chain of their order parameters: the same law at a
    cost that does not depend on D, compiled, a seed per core (`NUMBA_NUM_THREADS` of them).  The chain has backend
    "numpy", dtype "float64" and test "fields" only, and what a seed gives depends on nothing else.  `backend`: "numpy",
    "cupy", or "auto" (CuPy where a GPU answers).  With NumPy vectors the result of a seed depends on the other seeds by
    rounding at most.  `dtype`: "float64" or "float32".  `memory`: bytes for samples and weights; what needs more runs
    in batches of seeds, down to one seed and one sample at a time.  `progress` is called with the fraction done.

    `checkpoint`: a file (NetCDF) that all which the run depends on is written to every `checkpoint_every` seconds.  If
    it exists, the run goes on from there, to the same bits; it is kept at the end.

    Returns a dataset with dimensions seed, time, cluster, neuron, neuron_: M, Q, v, pmse, classification_error,
    tie_probability, and R (.., teacher, neuron), the overlaps with the weights of a teacher; the coordinate `time` is
    n/D and `step` is n.  Its attributes hold all inputs as JSON.

    ValueError: bad input, by name and value.  DivergenceError: weights overflow.  CheckpointError: a checkpoint that
    cannot be written or read, or is of another run.
    """
    import xarray as xr

    from quenched.sim.engines.checkpoint import Checkpoint, Moment

    D = integer("D", D, at_least=mixture.dimensions + network.K)
    steps = step_counts(t, D)
    names = [integer("seeds", seed) for seed in seeds]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"seeds must be one or more different integers, got {names}")
    if engine not in ("vectors", "overlaps"):
        raise ValueError(f"engine must be 'vectors' or 'overlaps', got {engine!r}")
    if test not in ("fields", "vectors"):
        raise ValueError(f"test must be 'fields' or 'vectors', got {test!r}")
    if engine == "overlaps":
        if mixture.spectrum is not None or mixture.teacher is not None:
            raise ValueError("engine must be 'vectors' where inputs have a spectrum or a teacher makes the labels")
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
    attributes = provenance(
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
    )
    records: dict[str, Array] = {}
    saved, file = None, None
    if checkpoint is not None:
        if problem.backend.name != "numpy":
            raise ValueError(f"checkpoint must be None with backend {problem.backend.name!r}, got {checkpoint!r}")
        identity = attributes | {"steps": json.dumps(steps), "batch": json.dumps([batch, block])}
        file = Checkpoint(Path(checkpoint), identity, number("checkpoint_every", checkpoint_every))
        saved = file.load()
        if saved is not None:
            records = {name: np.array(values) for name, values in saved.records.items()}
    for first in range(saved.first if saved else 0, len(names), batch):
        chosen = names[first : first + batch]

        def report(step: int, first: int = first, count: int = len(chosen)) -> None:
            if progress is not None:
                progress((first + count * step / max(steps[-1], 1)) / len(names))

        run = kind(problem, chosen, states[first : first + batch])
        draws = problem.backend.normals(chosen, TEST, dtype)
        recorded, now = 0, 0
        if saved is not None and saved.first == first:
            recorded, now = saved.recorded, saved.steps
            run.W, run.v = np.array(saved.weights["W"]), np.array(saved.weights["v"])
            for random, before in zip(_sources(run, draws), saved.generators, strict=True):
                random.bit_generator.state = before

        def save(recorded: int, now: int, first: int = first, run: Engine = run, draws: Normals = draws) -> None:
            if file is not None:
                states = [random.bit_generator.state for random in _sources(run, draws)]
                file.save(Moment(first, recorded, now, records, {"W": run.W, "v": run.v}, states))

        if saved is None and first == 0:
            save(0, 0)  # a place that cannot be written is known at once
        for i in range(recorded, len(steps)):
            while now < steps[i]:
                advanced = min(block, steps[i] - now)
                with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
                    finite = run.advance(advanced)
                if not finite.all():
                    raise DivergenceError([chosen[s] for s in np.flatnonzero(~finite)], now / D, sgd.lr)
                now += advanced
                report(now)
                if file is not None and file.due():
                    save(i, now)
            for name, values in _record(run, draws, test, per_cluster, block).items():
                whole = records.setdefault(name, np.full((len(names), len(steps), *values.shape[1:]), np.nan))
                whole[first : first + batch, i] = values
    if file is not None:
        file.save(Moment(len(names), 0, 0, records, {}, []))

    dims = {"M": ("cluster", "neuron"), "R": ("teacher", "neuron"), "Q": ("neuron", "neuron_"), "v": ("neuron",)}
    return xr.Dataset(
        {name: (("seed", "time", *dims.get(name, ())), values) for name, values in records.items()},
        coords={"seed": names, "time": np.array(steps) / D, "step": ("time", steps)},
        attrs=attributes,
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
        """Bytes of a number."""
        return np.dtype(self.dtype).itemsize

    def fits(self, least: int, numbers: int) -> None:
        """ValueError where `least` numbers, those of one seed, are more than `numbers`."""
        if least > numbers:
            raise ValueError(
                f"memory must be at least {least * self.itemsize} bytes for one seed at D = {self.D}, "
                f"K = {self.network.K} and this many test_samples, got room for {numbers * self.itemsize}"
            )

    def array(self, values: npt.ArrayLike) -> Any:
        """`values` as an array of the backend."""
        return self.backend.xp.asarray(np.asarray(values, dtype=self.dtype))

    def activation(self, name: str | None = None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """An activation, by default the network's, and its derivative, for arrays of the backend."""
        g, dg = activation_functions(name or self.network.activation)
        return self.backend.elementwise(g), self.backend.elementwise(dg)


class Engine(Protocol):
    """A way to run the learning rule for all seeds of a batch.

    `W` and `v` are all of its state but that of its NumPy generators, `random`.
    """

    problem: Problem
    W: Any
    v: Any

    @property
    def random(self) -> list[np.random.Generator]: ...

    def __init__(self, problem: Problem, seeds: Sequence[int], states: Sequence[Any]) -> None: ...

    @staticmethod
    def plan(problem: Problem, seeds: int, numbers: int, per_cluster: int) -> tuple[int, int]:
        """Seeds per batch and steps per call of `advance` that fit into `numbers` numbers.

        ValueError: one seed and one sample do not.
        """

    def advance(self, steps: int) -> npt.NDArray[np.bool_]:
        """Do `steps` steps; which seeds are still finite, (S,)."""

    def overlaps(self) -> tuple[Array, Array, Array]:
        """M (S, R, K) with all references, the means first, Q (S, K, K) and v (S, K) on the host."""


class Vectors:
    """Weights W (S, K, D) and readouts v (S, K) of S seeds, trained on samples X (S, B, D), B at a time."""

    def __init__(self, problem: Problem, seeds: Sequence[int], states: Sequence[State]) -> None:
        self.problem = problem
        self.geometry = Geometry.of(problem.mixture, problem.D)
        frames = generators(seeds, FRAME)
        weights = [self.geometry.weights(state, frame) for state, frame in zip(states, frames, strict=True)]
        self.W = problem.array(np.stack(weights))
        self.v = problem.array([state.v for state in states])
        self.g, self.dg = problem.activation()
        fuse = problem.backend.fuse
        self.change, self.carry = fuse(_change), fuse(_carry)
        self.normals = problem.backend.normals(seeds, DATA, problem.dtype)
        self.choices = generators(seeds, CLUSTER)
        self.noises = generators(seeds, NOISE)
        self.thresholds = np.cumsum(problem.mixture.weights)[:-1]
        teacher = problem.mixture.teacher
        if teacher is not None:
            self.directions, self.readout = problem.array(self.geometry.teacher), problem.array(teacher.v)
            self.teacher = problem.activation(teacher.activation)[0]

    @staticmethod
    def plan(problem: Problem, seeds: int, numbers: int, per_cluster: int) -> tuple[int, int]:
        """Seeds per batch and steps per block; see `Engine`."""
        K, D = problem.network.K, problem.D
        tests = (
            4
            * per_cluster
            * problem.mixture.clusters
            * (K + len(problem.mixture.references) - problem.mixture.clusters)
        )
        block = max(1, min(BLOCK, (numbers // D - 2 * K) // 2))
        problem.fits(2 * (1 + K) * D + tests, numbers)
        per_seed = 2 * (block + K) * D + tests
        return max(1, min(seeds, numbers // per_seed)), block

    @property
    def random(self) -> list[np.random.Generator]:
        """The generators of inputs, clusters and label noise, where NumPy draws them."""
        assert isinstance(self.normals, HostNormals)
        return [*self.normals.sources, *self.choices, *self.noises]

    def samples(self, normals: Normals, cluster: npt.NDArray[np.int64]) -> Any:
        """Inputs x of the given clusters (S, n): the rows of an array (S, n, D)."""
        array, means = self.problem.array, self.geometry.means
        X = normals((cluster.shape[1], self.problem.D))
        X *= array(self.geometry.scales[cluster])
        X[:, :, : means.shape[1]] += array(means[cluster])
        return X

    def labels(self, X: Any, cluster: npt.NDArray[np.int64]) -> Any:
        """Labels (S, n) of inputs X (S, n, D), without label noise."""
        if self.problem.mixture.teacher is None:
            return self.problem.array(self.problem.mixture.labels[cluster])
        xp, d = self.problem.backend.xp, self.directions.shape[1]
        return xp.matmul(self.teacher(xp.matmul(X[:, :, :d], self.directions.T)), self.readout[:, None])[:, :, 0]

    def advance(self, steps: int) -> npt.NDArray[np.bool_]:
        """A block of `steps` steps; which seeds are still finite, (S,)."""
        xp, array, sgd, D = self.problem.backend.xp, self.problem.array, self.problem.sgd, self.problem.D
        scale, root = self.problem.network.output_scale, math.sqrt(D)
        cluster = np.stack([np.searchsorted(self.thresholds, u.random(steps), side="right") for u in self.choices])
        X = self.samples(self.normals, cluster)
        y = self.labels(X, cluster)
        if sgd.label_noise:
            y = y + array(sgd.label_noise * np.stack([noise.standard_normal(steps) for noise in self.noises]))

        gram = xp.matmul(X, X.mT) / root
        fields = xp.matmul(X, self.W.mT) / root  # of the samples to come, with the present weights
        rho, rho_v = 1 - sgd.eta * sgd.kappa / D, 1 - sgd.eta_v * sgd.kappa_v / D
        increments = xp.empty_like(fields)  # sum_b increments_bk x_b is what the block adds to w_k
        v = self.v
        for b in range(steps):
            field = fields[:, b, :]
            g = self.g(field)
            delta = (scale * xp.sum(v * g, axis=1) - y[:, b])[:, None]
            c, v = self.change(v, delta, g, self.dg(field), -sgd.eta * scale / root, rho_v, sgd.eta_v * scale / D)
            fields[:, b + 1 :, :] = self.carry(fields[:, b + 1 :, :], gram[:, b + 1 :, b, None], c[:, None, :], rho)
            increments[:, b, :] = rho ** (steps - 1 - b) * c
        self.W = rho**steps * self.W + xp.matmul(increments.mT, X)
        self.v = v
        return self.problem.backend.to_host(xp.all(xp.isfinite(v + xp.sum(increments, axis=1)), axis=1))

    def overlaps(self) -> tuple[Array, Array, Array]:
        """M (S, R, K), Q (S, K, K) and v (S, K) on the host."""
        xp, D, references = self.problem.backend.xp, self.problem.D, self.geometry.references
        host = self.problem.backend.to_host
        A = host(self.W[:, :, : references.shape[1]]).astype(np.float64) / math.sqrt(D)
        Q = host(xp.matmul(self.W, self.W.mT)).astype(np.float64) / D
        return references @ A.swapaxes(1, 2), (Q + Q.swapaxes(1, 2)) / 2, host(self.v).astype(np.float64)

    def fields(self, normals: Normals, per_cluster: int, block: int) -> Any:
        """Local fields (S, C, per_cluster, K) of fresh inputs, `block` of them at a time."""
        xp = self.problem.backend.xp
        parts = []
        for a in range(self.problem.mixture.clusters):
            for start in range(0, per_cluster, block):
                n = min(block, per_cluster - start)
                X = self.samples(normals, np.full((self.W.shape[0], n), a))
                field = xp.matmul(X, self.W.mT) / math.sqrt(self.problem.D)
                if self.problem.mixture.teacher is not None:
                    seen = xp.matmul(X[:, :, : self.directions.shape[1]], self.directions.T)
                    field = xp.concat([field, seen], axis=2)
                parts.append(field)
        return xp.reshape(xp.concat(parts, axis=1), (self.W.shape[0], -1, per_cluster, parts[0].shape[2]))

    def law(self) -> tuple[Array, Array]:
        """Means (S, C, N) and covariances (S, C, N, N) of the local fields, the teacher's last, given the weights."""
        xp, D, host = self.problem.backend.xp, self.problem.D, self.problem.backend.to_host
        geometry = self.geometry
        teacher = np.zeros((len(geometry.teacher), D))
        teacher[:, : geometry.references.shape[1]] = math.sqrt(D) * geometry.teacher
        known = xp.broadcast_to(self.problem.array(teacher)[None], (self.W.shape[0], *teacher.shape))
        W = xp.concat([self.W, known], axis=1) / math.sqrt(D)
        scaled = [W * self.problem.array(scale) for scale in geometry.scales]
        covariance = np.stack([host(xp.matmul(part, part.mT)).astype(np.float64) for part in scaled], axis=1)
        means = host(W[:, :, : geometry.means.shape[1]]).astype(np.float64) @ geometry.means.T
        return means.swapaxes(1, 2), covariance


def _change(v: Any, delta: Any, g: Any, dg: Any, rate: float, rho_v: float, rate_v: float) -> tuple[Any, Any]:
    """The coefficients c_k of the step of the weights, and v after it."""
    return rate * v * delta * dg, rho_v * v - rate_v * delta * g


def _carry(fields: Any, gram: Any, c: Any, rho: float) -> Any:
    """The fields of the samples to come, after a step."""
    return rho * fields + gram * c


def _record(run: Engine, draws: Normals, test: str, per_cluster: int, block: int) -> dict[str, Array]:
    """What is recorded at one time, each an array (S, ...)."""
    problem = run.problem
    M, Q, v = run.overlaps()
    if test == "vectors":
        assert isinstance(run, Vectors)
        fields = run.fields(draws, per_cluster, block)
    else:
        fields = _fields(problem, *_law(problem, run, M, Q), draws, per_cluster)
    clusters = problem.mixture.clusters
    teacher = {} if problem.mixture.teacher is None else {"R": M[:, clusters:]}
    return {"M": M[:, :clusters], "Q": Q, "v": v} | teacher | _errors(problem, fields, v)


def _sources(run: Engine, draws: Normals) -> list[np.random.Generator]:
    """Every generator that the rest of a run draws from."""
    assert isinstance(draws, HostNormals)
    return [*run.random, *draws.sources]


def _engine(name: str) -> type[Engine]:
    """The engine of this name; the chain waits for numba, so it is loaded on first use."""
    if name == "vectors":
        return Vectors
    from quenched.sim.engines.overlaps import Overlaps

    return Overlaps


def _law(problem: Problem, run: Engine, M: Array, Q: Array) -> tuple[Array, Array]:
    """Means (S, C, N) and roots (S, C, N, N) of the covariances of the local fields."""
    if problem.mixture.spectrum is not None or problem.mixture.teacher is not None:
        assert isinstance(run, Vectors)
        means, covariance = run.law()
        return means, root(covariance)
    return M, problem.mixture.sigmas[:, None, None] * root(Q)[:, None, :, :]


def _fields(problem: Problem, M: Array, spread: Array, normals: Normals, per_cluster: int) -> Any:
    """Local fields M_a + C_a^{1/2} z of `per_cluster` fresh inputs of each cluster, (S, C, per_cluster, N)."""
    S, C, N = M.shape
    z = problem.backend.xp.reshape(normals((C * per_cluster, N)), (S, C, per_cluster, N))
    return problem.array(M)[:, :, None, :] + problem.backend.xp.matmul(z, problem.array(spread))


def _errors(problem: Problem, fields: Any, v: Array) -> dict[str, Array]:
    """Averages over test samples with local fields `fields` (S, C, n, N), a teacher's last; each an array (S,)."""
    xp, weights, teacher, K = problem.backend.xp, problem.mixture.weights, problem.mixture.teacher, v.shape[1]
    if teacher is None:
        y = problem.array(problem.mixture.labels)[None, :, None]
    else:
        y = xp.matmul(problem.activation(teacher.activation)[0](fields[..., K:]), problem.array(teacher.v)[:, None])
        y = y[..., 0]
    outputs = xp.matmul(problem.activation()[0](fields[..., :K]), problem.array(v)[:, None, :, None])[..., 0]
    outputs = problem.network.output_scale * outputs

    def average(values: Any) -> Array:
        per_cluster = xp.mean(xp.astype(values, fields.dtype), axis=2)
        # a sum, not a matrix product: its rounding does not depend on the seeds beside a seed
        return (problem.backend.to_host(per_cluster).astype(np.float64) * weights).sum(axis=1)

    ties = outputs == 0
    tie = average(ties if teacher is None else xp.logical_or(ties, y == 0))
    return {
        "pmse": average((outputs - y) ** 2) / 2,
        "classification_error": average(y * outputs < 0) + tie / 2,
        "tie_probability": tie,
    }


def step_counts(t: npt.ArrayLike, D: int) -> list[int]:
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
    state: State | Sequence[State] | None,
) -> Sequence[State]:
    """One initial state per seed."""
    if state is None:
        return [random_state(mixture, network, D, seed) for seed in seeds]
    states = [state] * len(seeds) if isinstance(state, (OrderParameters, Densities)) else list(state)
    if len(states) != len(seeds):
        raise ValueError(f"state must be one record or one per seed ({len(seeds)}), got {len(states)}")
    for each in states:
        if each.K != network.K:
            raise ValueError(f"state must have K = {network.K} neurons like the network, got {each.K}")
        if isinstance(each, OrderParameters):
            each.check(mixture, D)
        elif mixture.spectrum is None:
            raise ValueError("state must be OrderParameters where inputs have no spectrum, got Densities")
        else:
            each.check(mixture)
    return states
