"""Online SGD, many seeds at once: the experiment that the order-parameter equations describe.

A problem (mixture, network, rule, dimension D) is given to an engine (`quenched.sim.engines`), which runs the learning
rule for all seeds; order parameters and errors are recorded at the times asked for.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack

import numpy as np
import numpy.typing as npt

from quenched.numerics.course.pieces import Course, Mixtures, Rules, course
from quenched.numerics.problem.checks import (
    function,
    increasing_times,
    integer,
    number,
    path,
    record,
    records,
    seed_numbers,
)
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters, check_fit, with_biases, with_velocity
from quenched.numerics.problem.variables import describing
from quenched.numerics.two_layer.flow import random_state, readout_dims
from quenched.sim.backend import Backend
from quenched.sim.engines import find_engine
from quenched.sim.engines.base import Batch, DivergenceError, Engine, Problem, State
from quenched.sim.engines.checkpoint import Checkpoint
from quenched.sim.engines.run import Protocol, Stage, plan, run

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "DivergenceError", "SimulationOptions", "choose_engine", "options_of", "problems_of", "simulate", "step_counts",
]  # fmt: skip

T = TypeVar("T")

_MOST_STEPS = 10**12  # of one run: weeks of the fastest engine
_AXES: dict[str, tuple[str, ...]] = {
    "M": ("cluster", "neuron"),
    "R": ("teacher", "neuron"),
    "Q": ("neuron", "neuron_"),
    "v": ("neuron",),
    "b": ("neuron",),
    "c": (),
    "C": ("neuron", "neuron_"),
    "U": ("neuron", "neuron_"),
}
_AXES |= {f"{name}_dot": _AXES[name] for name in ("M", "R", "v", "b", "c")}


class Options(TypedDict, total=False):
    """The keywords of `simulate`, as the fields of `SimulationOptions`."""

    state: State | Sequence[State] | None
    test: str
    test_samples: int
    dtype: str
    memory: int | None
    checkpoint: str | os.PathLike[str] | None
    checkpoint_every: float
    progress: Callable[[float], None] | None


@dataclass(frozen=True, eq=False)
class SimulationOptions:
    """The options of a simulation, checked.

    `state`: the initial state, one record or one per seed; None: that of Gaussian random weights,
    `random_state(mixture, network, D, seed)`.  Weights have exactly its overlaps, in a random orientation.

    `test`: "fields" draws the local fields of test samples, which given the weights are exactly normal; "vectors" draws
    D-vectors instead.  `test_samples`: how many there are per record, as many from each cluster.

    `dtype`: "float64" or "float32".  `memory`: bytes for samples and weights (None: 256 MB on the host, half of what is
    free on a card); what needs more runs in batches of seeds, down to one seed and the samples of one step at a time.

    `checkpoint`: a file (NetCDF) that all which the run depends on is written to every `checkpoint_every` seconds.  If
    it exists, the run goes on from there, to the same bits; it is kept at the end.

    `progress` is called with the fraction done.
    """

    state: State | Sequence[State] | None = None
    test: str = "fields"
    test_samples: int = 10_000
    dtype: str = "float64"
    memory: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: float = 60.0
    progress: Callable[[float], None] | None = None

    def __post_init__(self) -> None:
        if self.test not in ("fields", "vectors"):
            raise ValueError(f"test must be 'fields' or 'vectors', got {self.test!r}")
        if self.dtype not in ("float64", "float32"):
            raise ValueError(f"dtype must be 'float64' or 'float32', got {self.dtype!r}")
        integer("test_samples", self.test_samples, at_least=1)
        number("checkpoint_every", self.checkpoint_every)
        if self.memory is not None:
            integer("memory", self.memory, at_least=1)
        if self.checkpoint is not None:
            path("checkpoint", self.checkpoint)
        function("progress", self.progress)


@describing
def simulate(
    mixture: Mixtures,
    network: TwoLayer,
    rule: Rules,
    D: int,
    t: npt.ArrayLike,
    seeds: int | Sequence[int],
    engine: str = "vectors",
    backend: str | Backend = "auto",
    **options: Unpack[Options],
) -> xr.Dataset:
    """Order parameters and errors of online SGD in dimension D, recorded after n = round(t D) steps, for each seed.

    `seeds`: the seeds themselves, or how many of them, 0, 1, .., seeds - 1.  Each starts from weights of its own, and
    has its own samples and label noise.  `t`: a time, or increasing times.

    `engine`: "vectors", real D-vectors, or "overlaps", the exact chain of their order parameters: the same law at a
    cost that does not depend on D, compiled, a seed per core (`NUMBA_NUM_THREADS` of them) or per thread of a card.
    The chain has dtype "float64" and test "fields" only, no spectrum, and what a seed gives depends on nothing else.
    `backend`: "numpy", "cupy", or "auto" (CuPy where a GPU answers, and the chain has 256 seeds or more).  With NumPy
    vectors the result of a seed depends on the other seeds by rounding at most.

    Lists of pairs (mixture, until) and (rule, until) are problems that change in time, as in `integrate`: engines hand
    the weights on at round(until D) steps.

    `options` are the fields of `SimulationOptions`: state, test, test_samples, dtype, memory, checkpoint,
    checkpoint_every, progress.

    Coordinates are those of `quenched.sim.engines.geometry`: the means lie along the first p axes, or where the inputs
    have a spectrum, the axes are its eigenvectors.  Errors are averages over test samples, weighted by P_a.
    classification_error counts an output of exactly 0, whose frequency is tie_probability, as half an error; where a
    teacher makes the labels, it is the error of the sign, and y = 0 is a tie too.  Where the mixture has classes it is
    that of the largest output, v is (.., output, neuron), and pmse that to the one-hot label.

    Returns a dataset with dimensions seed, time, cluster, neuron, neuron_: M, Q, v, biases b and c where there are
    such, of a rule with momentum C, U and the velocities X_dot of X as in `integrate`, pmse, classification_error,
    tie_probability, where the rule has another loss than "square" its mean `loss`, at labels without noise, and
    R (.., teacher, neuron), the overlaps with the weights of a teacher; the coordinate `time` is n/D and `step` is n.
    Its attributes hold all inputs as JSON.

    ValueError: bad input, by name and value.  DivergenceError: weights overflow.  CheckpointError: a checkpoint that
    cannot be written or read, or is of another run.

    At a learning rate of 0 nothing moves:

    >>> from quenched.numerics import OnlineSGD
    >>> runs = simulate(Mixture.two_clusters(1.0), TwoLayer(1, "erf"), OnlineSGD(0.0), 50, [0.0, 1.0], 2, "overlaps")
    >>> runs.Q.diff("time").values.any()
    np.False_
    """
    import xarray as xr

    pieces, network = course(mixture, rule), record("network", network, TwoLayer)
    chosen, joint = options_of("simulate", SimulationOptions, options), pieces.joint
    D = integer("D", D, at_least=joint.dimensions + network.K)
    steps, names = step_counts(t, D), seed_numbers(seeds)
    pieces.check_until(float(increasing_times("t", t)[-1]))
    problems = problems_of(pieces, network, D)
    kind, where = choose_engine(engine, backend, problems, chosen, len(names))
    states = _initial_states(joint, network, [piece.rule for piece in pieces.pieces], D, names, chosen.state)
    replicas = Batch(problems[:1], np.zeros(len(names), np.int64), names, states, where, chosen.dtype)
    per_cluster = -(-chosen.test_samples // max(task.clusters for task in pieces.tasks))
    memory = where.memory() if chosen.memory is None else chosen.memory
    stages = [Stage(piece.task, piece.rule, np.rint(piece.until * D)) for piece in pieces.pieces]
    several = (stages, pieces.tasks) if len(stages) > 1 else ()
    protocol = Protocol(kind, steps, per_cluster, chosen.test == "vectors", memory, *several)
    attributes = provenance(
        mixture=mixture,
        network=network,
        sgd=rule,
        initial_state=chosen.state,
        simulation={
            "D": D,
            "engine": engine,
            "backend": where.name,
            "dtype": chosen.dtype,
            "test": chosen.test,
            "test_samples": per_cluster * max(task.clusters for task in pieces.tasks),
        },
        seeds=names,
    )
    file = None
    if chosen.checkpoint is not None:
        identity = attributes | {"steps": json.dumps(steps), "batch": json.dumps(plan(replicas, protocol))}
        file = Checkpoint(Path(chosen.checkpoint), identity, float(chosen.checkpoint_every))
    found = run(replicas, protocol, file=file, progress=chosen.progress)
    if len({piece.rule.loss for piece in pieces.pieces}) > 1:
        found.records.pop("loss", None)  # of which one?
    each = ("task",) if len(pieces.tasks) > 1 else ()
    times = np.array(steps) / D
    dims = _AXES | dict.fromkeys(("v", "v_dot"), readout_dims(joint)[1:])
    return xr.Dataset(
        {name: (("seed", "time", *dims.get(name, each)), values) for name, values in found.records.items()},
        coords={"seed": names, "time": times, "step": ("time", steps)} | (pieces.labels(times) if each else {}),
        attrs=attributes,
    )


def problems_of(pieces: Course, network: TwoLayer, D: int) -> tuple[Problem, ...]:
    """The problem of each piece; all have the reference vectors of all tasks."""
    placed = pieces.joint if len(pieces.tasks) > 1 else None
    return tuple(Problem(pieces.tasks[piece.task], network, piece.rule, D, placed) for piece in pieces.pieces)


def options_of(name: str, kind: Callable[..., T], given: Mapping[str, Any]) -> T:
    """The record of the options that a function of this name was called with.  TypeError: one does not exist."""
    known = list(inspect.signature(kind).parameters)
    if unknown := [option for option in given if option not in known]:
        raise TypeError(f"{name} has the options {', '.join(known)}, got {', '.join(unknown)}")
    return kind(**given)


def choose_engine(
    name: str, backend: str | Backend, problems: Sequence[Problem], options: SimulationOptions, replicas: int
) -> tuple[type[Engine], Backend]:
    """The engine of all these problems, the pieces of a run, and where it runs.  ValueError: it cannot run one so."""
    kind = find_engine(name)
    if reason := next(filter(None, map(kind.refuses, problems)), None):
        raise ValueError(reason)
    given = {"backend": backend, "test": options.test, "dtype": options.dtype}
    for option, allowed in kind.accepts.items():
        value = given[option]
        if (value.name if isinstance(value, Backend) else value) not in allowed:
            only = " or ".join(map(repr, allowed))
            raise ValueError(f"{option} must be {only} with engine={name!r}, got {value!r}")
    where = kind.place(backend, problems, replicas)
    if reason := kind.objection(problems, where):
        raise ValueError(reason)
    return kind.on(where), where


def step_counts(t: npt.ArrayLike, D: int) -> list[int]:
    """Step counts n = round(t D), increasing, of a time or of increasing times."""
    times = increasing_times("t", t)
    if times[-1] > _MOST_STEPS / D:
        raise ValueError(f"t must be at most {_MOST_STEPS:g}/D = {_MOST_STEPS / D:g}, got {times[-1]}")
    steps = [int(n) for n in np.rint(times * D)]
    for i in range(1, len(steps)):
        if steps[i] == steps[i - 1]:
            raise ValueError(f"t must increase by a step 1/D = {1 / D:g} or more, got {times[i]} after {times[i - 1]}")
    return steps


def _initial_states(
    mixture: Mixture,
    network: TwoLayer,
    rules: Sequence[LearningRule],
    D: int,
    seeds: Sequence[int],
    state: State | Sequence[State] | None,
) -> Sequence[State]:
    """One initial state per seed, with biases where some learn or some have them, with velocities where rules have."""
    biased, moving = any(rule.biased for rule in rules), any(rule.momentum for rule in rules)
    if state is None:
        drawn = [random_state(mixture, network, D, seed) for seed in seeds]
        return [with_velocity(with_biases(each, biased), moving) for each in drawn]
    kinds = (OrderParameters, Densities)
    states = [state] * len(seeds) if isinstance(state, kinds) else records("state", state, kinds)
    learn = biased or any(each.b is not None for each in states)
    states = [with_velocity(with_biases(each, learn), moving) for each in states]
    if len(states) != len(seeds):
        raise ValueError(f"state must be one record or one per seed ({len(seeds)}), got {len(states)}")
    for each in {id(one): one for one in states}.values():
        check_fit(mixture, network, each)
        if isinstance(each, OrderParameters):
            each.check(mixture, D)
        elif mixture.spectrum is None:
            raise ValueError("state must be OrderParameters where inputs have no spectrum, got Densities")
        else:
            each.check(mixture)
    return states
