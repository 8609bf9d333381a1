"""SGD on real D-vectors on a card: one matrix product by CuPy, the rest of a block in four kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.state import without_spectrum
from quenched.sim.backend import Backend, Normals
from quenched.sim.engines.base import CLUSTER, DATA, FRAME, HIDDEN, NOISE, Engine, Memory, Plan, Problem
from quenched.sim.engines.geometry import root as square_root
from quenched.sim.engines.vector_kernels import Block, vector_source
from quenched.sim.engines.vectors import BLOCK, Vectors

__all__ = ["CardVectors"]

_CHUNK = 1024  # dimensions of a matrix of the product: enough to be fast, few enough to have many
_BLOCKS = 64  # blocks between two looks at the weights, which wait for the card


class CardVectors(Vectors):
    """Samples and weights in one array (S, J, n + N, d), readouts v (S, K) in double precision.

    All random numbers of a replica are those of a counter whose key is its seed: they depend on nothing else.
    """

    several_outputs = False

    def _prepare(self) -> None:
        """Kernels for these sizes and functions, numbers of the rule and tables on the card, weights made there."""
        batch, problem, xp, numbers = self.batch, self.batch.problem, self.batch.backend.xp, self.batch.numbers
        self.v = xp.asarray(batch.parameters())
        self.keys, self.places = xp.asarray(np.array(batch.seeds, dtype=np.uint64)), xp.asarray(self.mixture)
        D, B = problem.D, problem.rule.batch
        scale = numbers(lambda each: each.network.output_scale)
        eta, eta_v = numbers(lambda each: each.rule.eta), numbers(lambda each: each.rule.eta_v)
        rates = -eta * scale / (B * math.sqrt(D)), eta_v * scale / (B * D)
        decays = (
            1 - eta * numbers(lambda each: each.rule.kappa) / D,
            1 - eta_v * numbers(lambda each: each.rule.kappa_v) / D,
        )
        eta_b, kappa_b, eta_c, kappa_c = numbers(lambda each: each.rule.biases).T
        biases = 1 - eta_b * kappa_b / D, 1 - eta_c * kappa_c / D, eta_b * scale / (B * D), eta_c / (B * D)
        noises = self.label_noise, self.field_noise
        self.rule = xp.asarray(np.stack([scale, *rates, *decays, *noises, *biases], axis=1))
        known = numbers(lambda each: each.readout) if problem.teachers else np.zeros((1, 1, 1))
        self.known = xp.asarray(known)
        labels = self.labels if not problem.teachers else np.zeros_like(self.labels)
        self.tables = [xp.asarray(np.ascontiguousarray(table, dtype=np.float64)) for table in (self.bounds(), labels)]
        self.laws = batch.array(self.scales), batch.array(self.means)
        self.finite = xp.asarray(self.good)
        mixture = problem.mixture
        names = problem.network.activation, problem.rule.loss
        real = {"float64": "double", "float32": "float"}[batch.dtype]
        J, d = _chunks(D)
        sizes = problem.network.K, problem.teachers, mixture.clusters, self.n, B, D, J, d
        widths = self.scales.shape[2], self.means.shape[2]
        kinds = int(mixture.taught.sign), int(self.v.shape[1] > problem.network.K)
        block = Block(*sizes, *widths, real, *names, mixture.taught.activation, *kinds)
        self.kernel = batch.backend.kernels(vector_source(block))
        self.rows = self._empty_rows()
        self.W = self._weights()

    def _empty_rows(self) -> Any:
        """(S, J, n + N, d), 0 but for the teacher's weights."""
        problem, xp, S = self.batch.problem, self.batch.backend.xp, len(self.good)
        (J, d), m = _chunks(problem.D), problem.teachers
        first = self.n + problem.network.K
        rows = xp.zeros((S, J, first + m, d), dtype=getattr(xp, self.batch.dtype))
        if m:
            known = np.zeros((S, m, J * d))
            directions = self.directions
            known[:, :, : directions.shape[2]] = math.sqrt(problem.D) * directions
            rows[:, :, first:] = self._chunked(self.batch.array(known))
        return rows

    def _weights(self) -> Any:
        """Made on the card where the noise is isotropic: there they take longer to draw on the host than to train."""
        if self.batch.problem.mixture.spectrum is not None:
            return super()._weights()
        batch, xp, D = self.batch, self.batch.backend.xp, self.batch.problem.D
        A, root = self._residuals()
        F = self._frames()
        F[:, :, : A.shape[1]] = 0
        for _ in range(2):  # orthonormal by Cholesky's factor; again for what the first time leaves where D is small
            F = xp.matmul(xp.linalg.inv(xp.linalg.cholesky(xp.matmul(F, F.mT))), F)
        W = xp.matmul(xp.asarray(root), F)
        W[:, :, : A.shape[1]] = xp.asarray(A.swapaxes(1, 2))
        return xp.astype(math.sqrt(D) * W, getattr(xp, batch.dtype))

    def _residuals(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """A (S, p, K) and (Q - A^T A)^{1/2} (S, K, K) of the states, which may be the same in many replicas."""
        mixtures, which = self.batch.frames
        found: dict[tuple[int, int], tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = {}
        keys = list(zip(map(id, self.batch.states), which.tolist(), strict=True))
        for key, state in zip(keys, self.batch.states, strict=True):
            if key not in found:
                overlaps = without_spectrum(state)
                A = overlaps.projections(mixtures[key[1]], self.batch.problem.D)
                found[key] = A, square_root(overlaps.Q - A.T @ A)
        return np.stack([found[key][0] for key in keys]), np.stack([found[key][1] for key in keys])

    def _frames(self) -> Any:
        """K rows of D standard normals of each seed, in double precision."""
        xp, (S, J, _, d), n = self.batch.backend.xp, self.rows.shape, self.n
        K, D = self.batch.problem.network.K, self.batch.problem.D
        plain = xp.ones_like(self.laws[0]), xp.zeros_like(self.laws[1])
        cluster, parts = xp.zeros((S, n), dtype=xp.int64), []
        for first in range(0, K, n):
            placed = self.keys, self.places, cluster, *plain, self.rows
            self.kernel("inputs", S, np.int64(first), *placed, np.uint64(FRAME), lanes=J * n * 32)
            drawn = xp.permute_dims(self.rows[:, :, : min(n, K - first)], (0, 2, 1, 3))
            parts.append(xp.astype(xp.reshape(drawn, (S, -1, J * d)), xp.float64)[:, :, :D])
        return xp.concat(parts, axis=1)

    def bounds(self) -> npt.NDArray[np.float64]:
        """Cumulative weights of the clusters, infinity the last."""
        return np.concatenate([self.thresholds, np.full((len(self.thresholds), 1), np.inf)], axis=1)

    @property
    def n(self) -> int:
        """Samples of a block."""
        B = self.batch.problem.rule.batch
        return BLOCK // B * B

    @property
    def W(self) -> Any:
        """The weights (S, K, D)."""
        problem, xp = self.batch.problem, self.batch.backend.xp
        weights = self.rows[:, :, self.n : self.n + problem.network.K]
        S, J, K, d = weights.shape
        return xp.reshape(xp.permute_dims(weights, (0, 2, 1, 3)), (S, K, J * d))[:, :, : problem.D]

    @W.setter
    def W(self, weights: Any) -> None:
        xp, (J, d) = self.batch.backend.xp, _chunks(self.batch.problem.D)
        S, K, D = weights.shape
        padded = xp.concat([weights, xp.zeros((S, K, J * d - D), dtype=weights.dtype)], axis=2)
        self.rows[:, :, self.n : self.n + K] = self._chunked(padded)

    def _chunked(self, rows: Any) -> Any:
        """(S, N, J d) -> (S, J, N, d)."""
        xp = self.batch.backend.xp
        S, N, _ = rows.shape
        J, d = _chunks(self.batch.problem.D)
        return xp.permute_dims(xp.reshape(rows, (S, N, J, d)), (0, 2, 1, 3))

    @classmethod
    def on(cls, backend: Backend) -> type[Engine]:
        """Here."""
        return cls

    @classmethod
    def refuses(cls, problem: Problem) -> str | None:
        """More samples in a step than lanes in a warp; rates that change, and weights that are not free."""
        try:
            problem.rule.require_plain("vectors on a card (backend='numpy' takes any)")
        except ValueError as error:
            return str(error)
        B = problem.rule.batch
        return f"batch must be at most {BLOCK} on a card, got {B}" if B > BLOCK else super().refuses(problem)

    @classmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """Samples and weights, and their products; weights twice more where they are observed."""
        J, d = _chunks(problem.D)
        N, n = problem.network.K + problem.teachers, BLOCK // problem.rule.batch * problem.rule.batch
        each = (n + 3 * N) * J * d + J * (n + N) ** 2 + memory.tests
        if memory.numbers < each:
            raise ValueError(
                f"memory must be at least {each * memory.itemsize} bytes for one seed at D = {problem.D}, "
                f"K = {problem.network.K} and this many test_samples, got room for {memory.numbers * memory.itemsize}; "
                "lower test_samples, or D"
            )
        return Plan(min(replicas, memory.numbers // each), n // problem.rule.batch * _BLOCKS)

    @classmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """As many as fill the card: memory is the limit."""
        return max(1, 2**24 // problem.D)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Weights and readouts; the counters are numbers of steps."""
        host = self.batch.backend.to_host
        return Engine.state(self) | {"W": np.array(host(self.W)), "v": np.array(host(self.v))}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from there."""
        Engine.restore(self, arrays)
        xp = self.batch.backend.xp
        self.W, self.v = self.batch.array(arrays["W"]), xp.asarray(np.array(arrays["v"], dtype=np.float64))
        self.finite = xp.asarray(self.good.copy())

    def lose(self, lost: npt.NDArray[np.bool_], since: int) -> None:
        """The card is told, too."""
        super().lose(lost, since)
        self.finite = self.batch.backend.xp.asarray(self.good.copy())

    def advance(self, steps: int) -> None:
        """Blocks of n/B steps, and one look at the end."""
        while steps > 0:
            now = min(steps, self.n // self.batch.problem.rule.batch)
            self._block(now)
            self.steps += now
            steps -= now
        self.good = np.array(self.batch.backend.to_host(self.finite))

    def _block(self, steps: int) -> None:
        xp, B, S = self.batch.backend.xp, self.batch.problem.rule.batch, len(self.good)
        (J, d), K, n = _chunks(self.batch.problem.D), self.batch.problem.network.K, self.n
        cluster, y = xp.empty((S, n), dtype=xp.int64), xp.empty((S, n), dtype=xp.float64)
        increments, decay = xp.empty((S, n, K), dtype=self.rows.dtype), xp.empty(S, dtype=xp.float64)
        first, streams = np.int64(self.steps * B), (self.stream(CLUSTER), self.stream(NOISE))
        chosen = self.keys, self.places, *self.tables, self.rule, cluster, y
        self.kernel("choose", S, first, *chosen, *streams, lanes=n)
        placed = self.keys, self.places, cluster, *self.laws, self.rows
        self.kernel("inputs", S, first, *placed, self.stream(DATA), lanes=J * n * 32)
        products = xp.matmul(self.rows, self.rows.mT)
        counts, found = (np.int64(self.steps), np.int64(steps)), (self.v, increments, decay, self.finite)
        given = self.keys, self.rule, self.known, cluster, products, y
        self.kernel("steps_of_block", S, *counts, *given, *found, self.stream(HIDDEN), lanes=32)
        self.kernel("update", S, increments, decay, self.rows, lanes=J * d)

    def fields(self, normals: Normals, per_cluster: int, steps: int) -> Any:
        """Local fields of inputs drawn as vectors, a block at a time."""
        return super().fields(normals, per_cluster, self.n // self.batch.problem.rule.batch)


def _chunks(D: int) -> tuple[int, int]:
    """J and d: chunks of equal width, a multiple of 4 where there are several."""
    J = max(1, round(D / _CHUNK))
    return J, (D if J == 1 else -(-D // (4 * J)) * 4)
