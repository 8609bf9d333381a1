"""One loop for every engine: replicas in batches that fit into memory, recorded at given steps, saved on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import CLASS_LOSSES, loss_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.sim.backend import Normals
from quenched.sim.engines.base import TEST, Batch, Engine, Memory, Plan
from quenched.sim.engines.checkpoint import Checkpoint, Moment
from quenched.sim.processes import one_blas_thread

__all__ = ["Outcome", "Protocol", "plan", "run"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Protocol:
    """How replicas are run: by which engine, recorded after which `steps`.

    `per_cluster`: test samples of each cluster; `vectors`: whether they are drawn as vectors rather than as local
    fields; `memory`: bytes.
    """

    engine: type[Engine]
    steps: Sequence[int]
    per_cluster: int
    vectors: bool
    memory: int


@dataclass(frozen=True)
class Outcome:
    """`records`, arrays (S, T, ...) by name, and `good` (S,), the steps that replicas did with finite weights.

    A replica with fewer of them than the last of the steps has diverged, and its records from there on are NaN.
    """

    records: dict[str, Array]
    good: npt.NDArray[np.int64]


def plan(replicas: Batch, protocol: Protocol) -> Plan:
    """How they are cut up.  ValueError: one of them needs more than the memory."""
    problem = replicas.problem
    itemsize = np.dtype(replicas.dtype).itemsize
    each = problem.network.K + problem.teachers + problem.mixture.outputs - 1
    tests = 4 * protocol.per_cluster * problem.mixture.clusters * each
    memory = Memory(protocol.memory // itemsize, itemsize, tests)
    return protocol.engine.plan(problem, len(replicas.seeds), memory)


def run(
    replicas: Batch,
    protocol: Protocol,
    *,
    file: Checkpoint | None = None,
    progress: Callable[[float], None] | None = None,
    diverge: bool = False,
) -> Outcome:
    """Run them all; `file` holds where the run is, and it goes on from what is there.

    DivergenceError: the weights of some overflow, unless they may `diverge`.
    """
    whole, cut = _Whole(replicas, protocol, file, diverge), plan(replicas, protocol)
    total, last = len(replicas.seeds), max(protocol.steps[-1], 1)
    saved = file.load() if file is not None else None
    if saved is not None:
        whole.records = {name: np.array(values) for name, values in saved.records.items()}
        whole.good = np.array(saved.good)
    with one_blas_thread():
        for first in range(saved.first if saved else 0, total, cut.replicas):
            chosen = slice(first, min(first + cut.replicas, total))

            def report(steps: int, chosen: slice = chosen) -> None:
                if progress is not None:
                    progress((chosen.start + (chosen.stop - chosen.start) * steps / last) / total)

            whole.batch(chosen, cut.steps, report, saved if saved and saved.first == first else None)
    if file is not None:
        file.save(Moment(total, 0, 0, whole.records, whole.good, {}))
    return Outcome(whole.records, whole.good)


class _Whole:
    """What is known of all replicas, batch by batch."""

    def __init__(self, replicas: Batch, protocol: Protocol, file: Checkpoint | None, diverge: bool) -> None:
        self.replicas, self.protocol, self.file, self.diverge = replicas, protocol, file, diverge
        self.records: dict[str, Array] = {}
        self.good = np.zeros(len(replicas.seeds), dtype=np.int64)

    def batch(self, chosen: slice, block: int, report: Callable[[int], None], saved: Moment | None) -> None:
        """Run the replicas in a slice, `block` steps at a time, from where they were saved."""
        steps, batch = self.protocol.steps, self.replicas.part(chosen)
        engine = self.protocol.engine(batch)
        draws = batch.backend.normals(batch.seeds, TEST, batch.dtype)
        recorded = 0
        if saved is not None:
            recorded = saved.recorded
            engine.restore({name: values for name, values in saved.state.items() if name != "tests"})
            draws.restore(saved.state["tests"])
        elif chosen.start == 0:
            self._save(chosen, 0, engine, draws)  # a place that cannot be written is known at once
        for i, (before, stop) in enumerate(pairwise([0, *steps])):
            if i < recorded:
                continue
            while engine.steps < stop:
                with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
                    engine.advance(min(block, stop - engine.steps))
                self._look(engine)
                report(engine.steps)
                if self.file is not None and self.file.due():
                    self._save(chosen, i, engine, draws)
            values = _record(engine, draws, self.protocol, block, before)
            self._look(engine)
            for name, here in values.items():
                if name not in self.records:
                    self.records[name] = np.full((len(self.good), len(steps), *here.shape[1:]), np.nan)
                self.records[name][chosen, i] = here
        self.good[chosen] = engine.good

    def _look(self, engine: Engine) -> None:
        if not self.diverge:
            engine.require_finite()

    def _save(self, chosen: slice, recorded: int, engine: Engine, draws: Normals) -> None:
        if self.file is not None:
            state = engine.state() | {"tests": draws.state()}
            self.file.save(Moment(chosen.start, recorded, engine.steps, self.records, self.good, state))


def _record(engine: Engine, draws: Normals, protocol: Protocol, block: int, before: int) -> dict[str, Array]:
    """What is recorded at one time, each an array (S, ...); NaN where a replica has diverged since step `before`."""
    batch = engine.batch
    problem, clusters = batch.problem, batch.problem.mixture.clusters
    law, (M, Q, v) = engine.observe(before)
    with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
        errors = engine.errors(protocol.per_cluster)
        if errors is None:
            if protocol.vectors:
                fields = engine.fields(draws, protocol.per_cluster, block)
            else:
                fields = engine.draw(law, draws, protocol.per_cluster)
            errors = (_errors if problem.mixture.classes is None else _class_errors)(batch, fields, v)
    engine.good[~np.isfinite(errors["pmse"]) & (engine.good == engine.steps)] = before
    K = problem.network.K
    biases = {"b": v[:, K:-1], "c": v[:, -1]} if v.ndim == 2 and v.shape[1] > K else {}
    found = (
        {"M": M[:, :clusters], "Q": Q, "v": v[..., :K]}
        | biases
        | ({"R": M[:, clusters:]} if problem.teachers else {})
        | errors
    )
    for values in found.values():
        values[engine.good < engine.steps] = np.nan
    return found


def _numbers(batch: Batch, of: Callable[[Mixture], Any]) -> Array:
    """An array of the mixture of each replica."""
    mixtures, which = batch.mixtures
    return np.stack([of(mixture) for mixture in mixtures])[which]


def _average(batch: Batch, values: Any, dtype: Any) -> Array:
    """The mean of values (S, C, n) over samples and clusters."""
    per_cluster = batch.backend.to_host(batch.backend.xp.mean(batch.backend.xp.astype(values, dtype), axis=2))
    # a sum, not a matrix product: its rounding does not depend on the replicas beside a replica
    return (per_cluster.astype(np.float64) * _numbers(batch, lambda mixture: mixture.weights)).sum(axis=1)


def _class_errors(batch: Batch, fields: Any, v: Array) -> dict[str, Array]:
    """The same where clusters have classes: of the largest of the outputs (S, C, n, c)."""
    xp, y = batch.backend.xp, batch.array(_numbers(batch, lambda mixture: mixture.one_hot))[:, :, None]
    scale = batch.array(batch.numbers(lambda each: each.network.output_scale))[:, None, None, None]
    outputs = scale * xp.matmul(batch.activation()[0](fields), batch.array(v).mT[:, None])
    largest = xp.astype(outputs == xp.max(outputs, axis=3, keepdims=True), fields.dtype)
    number = xp.sum(largest, axis=3)
    found = {
        "pmse": xp.sum((outputs - y) ** 2, axis=3) / 2,
        "classification_error": 1 - xp.sum(largest * y, axis=3) / number,
        "tie_probability": number > 1,
        "loss": CLASS_LOSSES[batch.problem.rule.loss].on(batch.backend.elementwise).values(outputs, y, xp),
    }
    return {name: _average(batch, values, fields.dtype) for name, values in found.items()}


def _errors(batch: Batch, fields: Any, v: Array) -> dict[str, Array]:
    """Averages over test samples with local fields `fields` (S, C, n, N), a teacher's last; each an array (S,)."""
    xp, problem, K = batch.backend.xp, batch.problem, batch.problem.network.K
    teacher = problem.mixture.teacher
    if teacher is None:
        y = batch.array(_numbers(batch, lambda mixture: mixture.labels))[:, :, None]
    else:
        y = batch.label(teacher)(fields[..., K:], batch.array(batch.numbers(lambda each: each.readout))[:, :, None])
    g = batch.activation()[0]
    outputs = xp.matmul(g(fields[..., :K]), batch.array(v[:, :K])[:, None, :, None])[..., 0]
    outputs = batch.array(batch.numbers(lambda each: each.network.output_scale))[:, None, None] * outputs
    if v.shape[1] > K:
        outputs = outputs + batch.array(v[:, -1])[:, None, None]

    def average(values: Any) -> Array:
        return _average(batch, values, fields.dtype)

    ties = outputs == 0
    tie = average(ties if teacher is None else xp.logical_or(ties, y == 0))
    found = {
        "pmse": average((outputs - y) ** 2) / 2,
        "classification_error": average(y * outputs < 0) + tie / 2,
        "tie_probability": tie,
    }
    if problem.rule.loss != "square":
        value = batch.backend.elementwise(loss_functions(problem.rule.loss)[0])
        found["loss"] = average(value(outputs, y))
    return found
