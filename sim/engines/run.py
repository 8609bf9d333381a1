"""One loop for every engine: replicas in batches that fit into memory, recorded at given steps, saved on the way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import CLASS_LOSSES, loss_functions
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.rules import LearningRule
from quenched.sim.backend import Normals
from quenched.sim.engines.base import TEST, Batch, Engine, Memory, Overlaps, Plan, Problem
from quenched.sim.engines.checkpoint import Checkpoint, Moment
from quenched.sim.processes import one_blas_thread

__all__ = ["Outcome", "Protocol", "Stage", "plan", "run"]

Array = npt.NDArray[np.float64]

STATE = ("M", "R", "Q", "v", "b", "c", "M_dot", "R_dot", "C", "U", "v_dot", "b_dot", "c_dot")
"""What is recorded of the state; the rest are errors, one for each task."""


class Stage(NamedTuple):
    """The number of the task that is learned, by all replicas, until so many steps are done, and the rule."""

    task: int
    rule: LearningRule
    until: float


@dataclass(frozen=True)
class Protocol:
    """How replicas are run: by which engine, recorded after which `steps`.

    `per_cluster`: test samples of each cluster; `vectors`: whether they are drawn as vectors rather than as local
    fields; `memory`: bytes.  `stages`, where the problem changes on the way, are of the mixtures `tasks`.
    """

    engine: type[Engine]
    steps: Sequence[int]
    per_cluster: int
    vectors: bool
    memory: int
    stages: Sequence[Stage] = ()
    tasks: Sequence[Mixture] = ()


@dataclass(frozen=True)
class Outcome:
    """`records`, arrays (S, T, ...) by name, and `good` (S,), the steps that replicas did with finite weights.

    A replica with fewer of them than the last of the steps has diverged, and its records from there on are NaN.
    """

    records: dict[str, Array]
    good: npt.NDArray[np.int64]


def plan(replicas: Batch, protocol: Protocol) -> Plan:
    """How they are cut up.  ValueError: one of them needs more than the memory."""
    itemsize = np.dtype(replicas.dtype).itemsize
    copies = 1 + len(protocol.tasks) if len(protocol.tasks) > 1 else 1  # one for each task to be tested
    plans = []
    for problem in _problems(replicas.problem, protocol):
        each = problem.network.K + problem.teachers + problem.mixture.outputs - 1
        tests = 4 * protocol.per_cluster * problem.mixture.clusters * each
        memory = Memory(protocol.memory // itemsize // copies, itemsize, tests)
        plans.append(protocol.engine.plan(problem, len(replicas.seeds), memory))
    return Plan(min(each.replicas for each in plans), min(each.steps for each in plans))


def _problems(first: Problem, protocol: Protocol) -> list[Problem]:
    """The problem of each stage."""
    if not protocol.stages:
        return [first]
    return [replace(first, mixture=protocol.tasks[task], rule=rule) for task, rule, _ in protocol.stages]


class _Relay:
    """The engines of the stages of a run, one after the other: each goes on from the state of the one before."""

    def __init__(self, batch: Batch, protocol: Protocol) -> None:
        self.batch, self.protocol, self.stage = batch, protocol, 0
        self.problems = _problems(batch.problem, protocol)
        self.engine = protocol.engine(batch)
        self.beside: dict[int, Engine] = {}

    @property
    def until(self) -> float:
        """The steps after which the stage ends."""
        return self.protocol.stages[self.stage].until if self.protocol.stages else np.inf

    def advance(self, steps: int) -> None:
        """Do `steps` steps, by as many engines as it takes."""
        end = self.engine.steps + steps
        while self.engine.steps < end:
            while self.engine.steps >= self.until:  # a piece may be shorter than a step
                self._hand_over(self.stage + 1, self.engine.state())
            self.engine.advance(int(min(end, self.until)) - self.engine.steps)

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from the state of an engine, at its stage."""
        stage = next((i for i, each in enumerate(self.protocol.stages) if state["steps"] <= each.until), 0)
        self._hand_over(stage, state)

    def _hand_over(self, stage: int, state: Mapping[str, npt.NDArray[Any]]) -> None:
        if stage != self.stage:
            self.engine = self.protocol.engine(replace(self.batch, problems=(self.problems[stage],)))
            self.beside, self.stage, self.engine.stage = {}, stage, stage
        self.engine.restore(state)

    def tested(self) -> list[Engine]:
        """Engines at the present state, one for each task; the one that runs is that of its own."""
        tasks, found = self.protocol.tasks, []
        if len(tasks) < 2:
            return [self.engine]
        state = self.engine.state()
        for i, task in enumerate(tasks):
            if i == self.protocol.stages[self.stage].task:
                found.append(self.engine)
                continue
            if i not in self.beside:
                problem = replace(self.problems[self.stage], mixture=task)
                self.beside[i] = self.protocol.engine(replace(self.batch, problems=(problem,)))
            self.beside[i].restore(state)
            found.append(self.beside[i])
        return found


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
        relay = _Relay(batch, self.protocol)
        draws = batch.backend.normals(batch.seeds, TEST, batch.dtype)
        recorded = 0
        if saved is not None:
            recorded = saved.recorded
            relay.restore({name: values for name, values in saved.state.items() if name != "tests"})
            draws.restore(saved.state["tests"])
        elif chosen.start == 0:
            self._save(chosen, 0, relay.engine, draws)  # a place that cannot be written is known at once
        for i, (before, stop) in enumerate(pairwise([0, *steps])):
            if i < recorded:
                continue
            while relay.engine.steps < stop:
                with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
                    relay.advance(min(block, stop - relay.engine.steps))
                self._look(relay.engine)
                report(relay.engine.steps)
                if self.file is not None and self.file.due():
                    self._save(chosen, i, relay.engine, draws)
            values = _together(relay, draws, self.protocol, block, before)
            self._look(relay.engine)
            for name, here in values.items():
                if name not in self.records:
                    self.records[name] = np.full((len(self.good), len(steps), *here.shape[1:]), np.nan)
                self.records[name][chosen, i] = here
        self.good[chosen] = relay.engine.good

    def _look(self, engine: Engine) -> None:
        if not self.diverge:
            engine.require_finite()

    def _save(self, chosen: slice, recorded: int, engine: Engine, draws: Normals) -> None:
        if self.file is not None:
            state = engine.state() | {"tests": draws.state()}
            self.file.save(Moment(chosen.start, recorded, engine.steps, self.records, self.good, state))


def _together(relay: _Relay, draws: Normals, protocol: Protocol, block: int, before: int) -> dict[str, Array]:
    """What is recorded at one time; errors (S, tasks) where there are several tasks."""
    engines = relay.tested()
    parts = [_record(engine, draws, protocol, block, before) for engine in engines]
    if len(parts) == 1:
        return parts[0]
    good = np.min([engine.good for engine in engines], axis=0)
    relay.engine.lose(good < relay.engine.steps, before)
    found = {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0] if name not in STATE}
    found = {name: parts[0][name] for name in parts[0] if name in STATE} | found
    for values in found.values():
        values[good < relay.engine.steps] = np.nan
    return found


def _record(engine: Engine, draws: Normals, protocol: Protocol, block: int, before: int) -> dict[str, Array]:
    """What is recorded at one time, each an array (S, ...); NaN where a replica has diverged since step `before`."""
    batch = engine.batch
    law, overlaps = engine.observe(before)
    v = overlaps.v[:, 0] if batch.moving else overlaps.v
    with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
        errors = engine.errors(protocol.per_cluster)
        if errors is None:
            if protocol.vectors:
                fields = engine.fields(draws, protocol.per_cluster, block)
            else:
                fields = engine.draw(law, draws, protocol.per_cluster)
            errors = (_errors if batch.problem.mixture.classes is None else _class_errors)(batch, fields, v)
    engine.lose(~np.isfinite(errors["pmse"]), before)
    found = _state(batch, overlaps) | errors
    for values in found.values():
        values[engine.good < engine.steps] = np.nan
    return found


def _state(batch: Batch, overlaps: Overlaps) -> dict[str, Array]:
    """The order parameters by their names, each an array (S, ...)."""
    (M, Q, v), K, frame = overlaps, batch.problem.network.K, batch.problem.frame

    def named(M: Array, v: Array, end: str) -> dict[str, Array]:
        biases = {"b": v[:, K:-1], "c": v[:, -1]} if v.ndim == 2 and v.shape[1] > K else {}
        taught = {"R": M[:, frame.clusters :]} if frame.taught.neurons else {}
        first = {"M": M[:, : frame.clusters], "v": v[..., :K]}
        return {name + end: values for name, values in (first | biases | taught).items()}

    if not batch.moving:
        return named(M, v, "") | {"Q": Q}
    found = named(M[..., :K], v[:, 0], "") | named(M[..., K:], v[:, 1], "_dot")
    return found | {"Q": Q[:, :K, :K], "C": Q[:, :K, K:], "U": Q[:, K:, K:]}


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
