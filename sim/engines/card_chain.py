"""The exact chain on a card: a thread a replica, thousands of steps in a launch, test samples without leaving it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.sim.backend import Backend
from quenched.sim.engines.base import CHAIN, TEST, Engine, Law, Memory, Overlaps, Plan, Problem
from quenched.sim.engines.chain_kernels import LANES, Sizes, chain_source, pack
from quenched.sim.engines.overlaps import SCHEDULED, Chain

__all__ = ["CardChain"]

Array = npt.NDArray[np.float64]

_CALL = 2**31  # steps of all replicas together in a launch, of K = 4: about 0.2 s of an H100
_LONGEST = 2**17  # steps of each: about 0.5 s where there are few
_ROWS = 2**22  # of the tables of rates of all problems together, 40 bytes each
_PART = 2**16  # replicas whose test samples are summed in one launch


class CardChain(Chain):
    """The states W, v and good as arrays of the card.

    The random numbers of a replica are those of a counter whose key is its seed (`chain_step`): they depend on nothing
    else, and a run on the host that goes on from a state of this engine has the same.
    """

    several_outputs = False

    def _prepare(self) -> None:
        """Everything on the card, and kernels for these sizes and functions."""
        batch, problem, xp = self.batch, self.batch.problem, self.batch.backend.xp
        self.W, self.v = batch.array(self.W), batch.array(self.v)
        self.keys = xp.asarray(np.array(batch.seeds, dtype=np.uint64))
        self.which = xp.asarray(batch.which)
        self.problems = xp.asarray(np.stack([pack(parameters) for parameters in self.parameters]))
        self.finite = xp.asarray(self.good)
        self.records = 0
        mixture, B, bath = problem.mixture, problem.rule.batch, problem.bath
        self.tables: Any = None
        names = problem.network.activation, problem.rule.loss, mixture.taught.activation
        size = problem.network.K, mixture.dimensions, mixture.clusters, problem.teachers
        biased = int(self.v.shape[1] > problem.network.K)
        self.step = batch.backend.kernels(chain_source(Sizes(*size, B, bath, *names, biased)))
        alone = B + bath == 1
        self.test = self.step if alone else batch.backend.kernels(chain_source(Sizes(*size, 1, 0, *names, biased)))

    @classmethod
    def on(cls, backend: Backend) -> type[Engine]:
        """Here."""
        return cls

    @classmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """A replica is its state, the sums over its test samples, and its order parameters twice."""
        K, p, C = problem.network.K, problem.mixture.dimensions, problem.mixture.clusters
        each = 3 * ((p + K) * K + K * (C + problem.teachers) + K) + 8
        least = each + 4 * C * LANES
        if memory.numbers < least:
            raise ValueError(
                f"memory must be at least {least * memory.itemsize} bytes for one seed at K = {K} and p = {p}, got "
                f"room for {memory.numbers * memory.itemsize}"
            )
        replicas = min(replicas, max(1, (memory.numbers - 4 * C * LANES * min(replicas, _PART)) // each))
        cost = max(1.0, K * (K + p) / 20) * (problem.rule.batch + problem.bath)
        longest = _LONGEST if problem.rule.steady else max(1, min(SCHEDULED, _ROWS // replicas))
        return Plan(replicas, max(1, min(longest, int(_CALL / cost) // replicas)))

    @classmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """As many as hide each other's latency several times over."""
        return 2**17

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Order parameters on the host; the counters are the numbers of steps and of records."""
        host = self.batch.backend.to_host
        keys = np.array(self.batch.seeds, dtype=np.uint64)
        return {
            "steps": np.array(self.steps),
            "good": self.good.copy(),
            "W": np.array(host(self.W)),
            "v": np.array(host(self.v)),
            "random": np.stack([keys, np.full_like(keys, self.stream(CHAIN))], axis=1),
            "records": np.array(self.records),
        }

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from there, wherever it was."""
        Engine.restore(self, arrays)
        self.W, self.v = self.batch.array(arrays["W"]), self.batch.array(arrays["v"])
        self.finite = self.batch.backend.xp.asarray(self.good.copy())
        self.records = int(arrays.get("records", np.array(0)))

    def lose(self, lost: npt.NDArray[np.bool_], since: int) -> None:
        """The card is told, too."""
        super().lose(lost, since)
        self.finite = self.batch.backend.xp.asarray(self.good.copy())

    def advance(self, steps: int) -> None:
        """Do `steps` steps with each replica that is still finite."""
        if self.tables is None or not self.batch.problem.rule.steady:
            each = self.rates(steps)
            self.tables = self.batch.backend.xp.asarray(np.stack(each)), np.int64(len(each[0]))
        arrays = self.keys, self.which, self.problems, *self.tables, self.W, self.v, self.finite
        self.step("advance", len(self.good), np.int64(self.steps), np.int64(steps), *arrays, self.stream(CHAIN))
        self.steps += steps
        self.good = np.array(self.batch.backend.to_host(self.finite))

    def observe(self, since: int) -> tuple[Law, Overlaps]:
        """The overlaps; the law stays where it is needed."""
        overlaps = self.overlaps()
        finite = np.logical_and.reduce([np.isfinite(each).all(axis=tuple(range(1, each.ndim))) for each in overlaps])
        self.lose(~finite, since)
        for each in overlaps:
            each[self.good < self.steps] = 0
        return Law(np.zeros((0, 0, 0)), np.zeros((0, 0, 0, 0))), overlaps

    def errors(self, per_cluster: int) -> dict[str, Array]:
        """From samples in registers; a replica has its own, whatever runs beside it."""
        xp, host, S, C = self.batch.backend.xp, self.batch.backend.to_host, len(self.good), len(self._weights()[0])
        found = np.empty((S, C, 4))
        for first in range(0, S, _PART):
            part = slice(first, min(first + _PART, S))
            sums = xp.empty((part.stop - first, C, 4, LANES), dtype=xp.float64)
            arrays = self.keys[part], self.which[part], self.problems, self.W[part], self.v[part], sums
            counts = np.int64(self.records), np.int64(per_cluster)
            self.test("test", part.stop - first, *counts, *arrays, np.uint64(TEST), lanes=LANES)
            found[part] = host(xp.sum(sums, axis=3)) / per_cluster
        self.records += 1
        square, wrong, tie, loss = np.moveaxis((found * self._weights()[:, :, None]).sum(axis=1), 1, 0)
        errors = {"pmse": square / 2, "classification_error": wrong + tie / 2, "tie_probability": tie}
        return errors if self.batch.problem.rule.loss == "square" else errors | {"loss": loss}

    def _weights(self) -> Array:
        return self.batch.numbers(lambda problem: problem.mixture.weights)
