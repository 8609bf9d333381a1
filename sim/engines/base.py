"""What every engine is given and what it has to give: `Problem`, `Batch` and the base class `Engine`.

An engine runs the learning rule on many replicas in one array program.  The replicas of a `Batch` have problems of one
structure (network, dimension, number of clusters, kind of labels, loss) and may differ in every number: means, noise
levels, cluster weights, learning rates, decays, label noise, output scale, initial state and seed.  To add an engine,
derive a class from `Engine` in a file of its own and name it in `quenched.sim.engines.ENGINES`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.activations import activation_functions, activation_value
from quenched.numerics.averages.teacher_labels import check_labels
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import LearningRule, Rates
from quenched.numerics.problem.schedules import Rate, rate_text
from quenched.numerics.problem.state import Densities, OrderParameters, with_biases
from quenched.sim.backend import Backend, Normals, get_backend
from quenched.sim.engines.geometry import root
from quenched.sim.engines.states import States

__all__ = [
    "BATH",
    "CHAIN",
    "CLUSTER",
    "DATA",
    "FRAME",
    "HIDDEN",
    "NOISE",
    "TEST",
    "Batch",
    "DivergenceError",
    "Engine",
    "Law",
    "Memory",
    "Overlaps",
    "Plan",
    "Problem",
    "State",
]

Array = npt.NDArray[np.float64]
State = OrderParameters | Densities

# The uses that the random stream of a seed is put to: the orientation of the initial weights, inputs, their clusters,
# label noise, test samples, all that the chain draws, the noise of a teacher's fields, and the vectors of a bath.
FRAME, DATA, CLUSTER, NOISE, TEST, CHAIN, HIDDEN, BATH = range(8)


class DivergenceError(RuntimeError):
    """The weights of some seeds have overflowed; `seeds` lists them and `t` is the last good time."""

    def __init__(self, seeds: list[int], t: float, lr: Rate) -> None:
        super().__init__(
            f"the weights of seeds {seeds} overflowed after t = {t:.6g}; the dynamics is unstable there: "
            f"lower lr (now {rate_text(lr)}), add weight_decay, or end before this time"
        )
        self.seeds = seeds
        self.t = t
        self.lr = lr

    def __reduce__(self) -> tuple[type[DivergenceError], tuple[list[int], float, Rate]]:
        """Processes hand errors on by their arguments."""
        return type(self), (self.seeds, self.t, self.lr)


@dataclass(frozen=True, eq=False)
class Problem:
    """Data law, learner and dimension of a replica.

    `placed` is the mixture whose reference vectors states have overlaps with, where it is not the one that is learned:
    it has those of other tasks, too.  ValueError: the rule is a limit that draws no samples, or its loss does not have
    the outputs of the mixture.
    """

    mixture: Mixture
    network: TwoLayer
    rule: LearningRule
    D: int
    placed: Mixture | None = None

    def __post_init__(self) -> None:
        check_labels(self.mixture)
        self.rule.learning(self.network.K)  # refuses the name of a neuron that is not there
        if not self.rule.diffusion:
            raise ValueError(
                f"rule must have steps of finite size, got {self.rule}: the limit eta -> 0 has no samples to draw; "
                "simulate OnlineSGD with a small lr and compare at equal lr t, or integrate the equations"
            )
        self.mixture.check_charged(self.rule.loss)

    @property
    def frame(self) -> Mixture:
        """The mixture of the reference vectors."""
        return self.mixture if self.placed is None else self.placed

    @property
    def bath(self) -> int:
        """The vectors of a bath in each step: one a neuron, or none."""
        return self.network.K if self.rule.temperature != 0 else 0

    def rates(self, first: int, steps: int) -> Rates:
        """The rates of `steps` steps after the first `first`; a single number each where they are constant."""
        return self.rule.rates((first + np.arange(1 if self.rule.steady else steps)) / self.D)

    @property
    def readout(self) -> Array:
        """The readout of the teacher in each cluster, (C, m); m = 0 where labels come with the clusters."""
        return self.mixture.taught.readouts(self.mixture.clusters)

    @property
    def teachers(self) -> int:
        """m, the number of the teacher's neurons."""
        return self.mixture.taught.neurons

    @property
    def structure(self) -> Hashable:
        """What replicas must have in common to run in one batch; all else are numbers."""
        mixture, network, taught = self.mixture, self.network, self.mixture.taught
        data = (
            mixture.clusters,
            mixture.dimensions,
            mixture.spectrum is None,
            mixture.classes is None,
            mixture.outputs,
            len(self.frame.references),
        )
        labels = (taught.neurons, taught.activation, taught.sign, taught.field_noise > 0)
        rule = self.rule.loss, self.rule.batch, self.rule.biased, self.rule.sphere, self.rule.steady, self.bath
        return data, labels, (network.K, network.activation), (*rule, self.rule.momentum), self.D


class Memory(NamedTuple):
    """What an engine may use: `numbers` of `itemsize` bytes; test samples take `tests` of them for each replica."""

    numbers: int
    itemsize: int
    tests: int

    def check(self, problem: Problem, least: int) -> None:
        """ValueError where `least` numbers, those of one replica, are more than there are."""
        if least > self.numbers:
            raise ValueError(
                f"memory must be at least {least * self.itemsize} bytes for one seed at D = {problem.D}, "
                f"K = {problem.network.K} and this many test_samples, got room for {self.numbers * self.itemsize}"
            )


class Plan(NamedTuple):
    """How many `replicas` run at once, and how many `steps` a call of `advance` may do at most."""

    replicas: int
    steps: int


class Law(NamedTuple):
    """The normal law of the local fields given the weights: `means` (S, C, N), `covariances` (S, C, N, N).

    N = K + m: the fields of the network, then those of a teacher.
    """

    means: Array
    covariances: Array


class Overlaps(NamedTuple):
    """M (S, R, K) with all references, the means first; Q (S, K, K); v (S, K), or all parameters (S, 2K + 1).

    v is (S, c, K) where there are c outputs.  Where there are velocities, of weights and velocities together, as the
    `vectors` of a state: M (S, R, 2K), Q (S, 2K, 2K), and v with one more dimension, of two, after the first.
    """

    M: Array
    Q: Array
    v: Array


@dataclass(frozen=True, eq=False)
class Batch:
    """Replicas that run as one: replica s has the problem number `which[s]`, its seed and its initial state.

    `backend` and `dtype` say where its arrays live, and in which precision.  ValueError: no common structure.
    """

    problems: tuple[Problem, ...]
    which: npt.NDArray[np.int64]
    seeds: Sequence[int]
    states: Sequence[State]
    backend: Backend
    dtype: str

    def __post_init__(self) -> None:
        if len({problem.structure for problem in self.problems}) > 1:
            raise ValueError("problems must differ in numbers only to run as one batch")

    @property
    def problem(self) -> Problem:
        """One of the problems, for what they have in common."""
        return self.problems[0]

    def part(self, chosen: slice) -> Batch:
        """The replicas in a slice."""
        return Batch(
            self.problems, self.which[chosen], self.seeds[chosen], self.states[chosen], self.backend, self.dtype
        )

    def numbers(self, of: Callable[[Problem], Any]) -> Array:
        """A number or an array of the problem of each replica, (S, ...)."""
        return np.array([of(problem) for problem in self.problems], dtype=np.float64)[self.which]

    @cached_property
    def mixtures(self) -> tuple[tuple[Mixture, ...], npt.NDArray[np.int64]]:
        """The different mixtures, and the number of that of each replica, (S,): tables over them stay small."""
        return _different([problem.mixture for problem in self.problems], self.which)

    @cached_property
    def frames(self) -> tuple[tuple[Mixture, ...], npt.NDArray[np.int64]]:
        """The same of the mixtures with the reference vectors."""
        return _different([problem.frame for problem in self.problems], self.which)

    def parameters(self) -> Array:
        """The readouts v (S, K); where there are biases, v, b and c one after the other, (S, 2K + 1).

        Of several outputs (S, c, K).
        """
        biased = self.problem.rule.biased
        if isinstance(self.states, States):
            more = (self.problem.network.K + 1) * biased
            return np.pad(self.states.v, ((0, 0), (0, more)))
        return np.stack([with_biases(state, biased).parameters for state in self.states])

    @property
    def moving(self) -> bool:
        """Whether there are velocities: the rule has momentum, or that of another stage has and states say so."""
        if isinstance(self.states, States):
            return self.problem.rule.momentum
        return self.problem.rule.momentum or any(state.velocity is not None for state in self.states)

    def velocities(self) -> Array:
        """The velocities of `parameters` at the start: those of the states, or 0."""
        zero = np.zeros_like(self.parameters())
        if isinstance(self.states, States):
            return zero
        states = [with_biases(state, self.problem.rule.biased) for state in self.states]
        return np.stack([v if each.velocity is None else each.velocity.v for each, v in zip(states, zero, strict=True)])

    def shifted(self, means: Array, v: Array) -> Array:
        """Means (S, C, K) of the network's fields with their thresholds, of the parameters v."""
        K = self.problem.network.K
        return means + v[:, None, K:-1] if v.ndim == 2 and v.shape[1] > K else means

    def array(self, values: npt.ArrayLike) -> Any:
        """`values` as an array of the backend."""
        return self.backend.xp.asarray(np.asarray(values, dtype=self.dtype))

    def activation(self) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """The network's activation and its derivative, for arrays of the backend."""
        g, dg = activation_functions(self.problem.network.activation)
        return self.backend.elementwise(g), self.backend.elementwise(dg)

    def label(self, teacher: Teacher) -> Callable[[Any, Any], Any]:
        """(fields (..., m), readouts (..., m)) -> labels (...), by an activation that may jump."""
        g, xp = self.backend.elementwise(activation_value(teacher.activation)), self.backend.xp

        def label(fields: Any, readouts: Any) -> Any:
            y = xp.sum(g(fields) * readouts, axis=-1)
            return xp.sign(y) if teacher.sign else y

        return label


def _different(
    mixtures: Sequence[Mixture], which: npt.NDArray[np.int64]
) -> tuple[tuple[Mixture, ...], npt.NDArray[np.int64]]:
    different = list({id(mixture): mixture for mixture in mixtures}.values())
    place = {id(mixture): i for i, mixture in enumerate(different)}
    return tuple(different), np.array([place[id(mixture)] for mixture in mixtures])[which]


class Engine(ABC):
    """A way to run the learning rule for all replicas of a batch.

    `steps` is the number of steps done.  `good` (S,) are the numbers of steps that each replica is known to have done
    with finite weights: below `steps` where it has diverged, which it does whatever runs beside it.  `stage` numbers
    the problems of a run that changes in time.
    """

    accepts: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The values that it knows of `backend`, `dtype` and `test`, where these are not all."""
    card: ClassVar[str] = ""
    """Module and class of its form for a card, a child of this class, where it has one; loaded where it runs."""
    any_dimension: ClassVar[bool] = False
    """Whether the cost of a step does not depend on D."""
    several_outputs: ClassVar[bool] = True
    """Whether it has an output for each class; the kernels of a card have one."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.steps, self.stage = 0, 0
        self.good = np.zeros(len(batch.seeds), dtype=np.int64)

    @classmethod
    def refuses(cls, problem: Problem) -> str | None:
        """Why it cannot run this problem, as the end of a sentence; None where it can."""
        classes = problem.mixture.classes is not None
        return "backend must be 'numpy' where clusters have classes" if classes and not cls.several_outputs else None

    @classmethod
    def objection(cls, problems: Iterable[Problem], backend: Backend) -> str | None:
        """Why it, or its form for this backend, cannot run one of the problems; None where it runs them all."""
        kinds = cls, cls.on(backend)
        reasons = (kind.refuses(problem) for problem in problems for kind in kinds)
        return next(filter(None, reasons), None)

    @classmethod
    def place(cls, backend: str | Backend, problems: Sequence[Problem], replicas: int) -> Backend:
        """Where it runs: as asked; of "auto" on a card only where one answers that refuses none of the problems."""
        if backend != "auto":
            return get_backend(backend)
        where = get_backend(cls.auto(replicas))
        return get_backend("numpy") if cls.objection(problems, where) else where

    @classmethod
    def on(cls, backend: Backend) -> type[Engine]:
        """The class that runs it there."""
        if not (backend.compiles and cls.card):
            return cls
        module, name = cls.card.split(":")
        found: type[Engine] = getattr(import_module(module), name)
        return found

    @classmethod
    def auto(cls, replicas: int) -> str:
        """Where so many replicas run if it is not said: "auto" wants a card where one answers."""
        return "auto"

    @classmethod
    @abstractmethod
    def plan(cls, problem: Problem, replicas: int, memory: Memory) -> Plan:
        """How to run so many replicas of this structure.  ValueError: the memory does not do for one."""

    @classmethod
    @abstractmethod
    def together(cls, problem: Problem, steps: int) -> int:
        """How many replicas that are to do so many steps are worth running at once: more are no faster each."""

    @abstractmethod
    def advance(self, steps: int) -> None:
        """Do `steps` steps, no more than planned, and bring `steps` and `good` up to date."""

    def lose(self, lost: npt.NDArray[np.bool_], since: int) -> None:
        """Replicas (S,) have diverged after step `since`; of those that had before, nothing changes."""
        self.good[lost & (self.good == self.steps)] = since

    def stream(self, use: int) -> np.uint64:
        """The random stream of a counter for this use and stage.

        A counter runs over the samples, and where a batch shrinks from one stage to the next they are numbered anew
        from below: a stage draws none that one before it has drawn, because its stream is another.
        """
        return np.uint64(use | self.stage << 8)

    def require_finite(self) -> None:
        """DivergenceError: some replicas have diverged."""
        if lost := np.flatnonzero(self.good < self.steps).tolist():
            problem = self.batch.problems[self.batch.which[lost[0]]]
            t = int(self.good[lost].min()) / problem.D
            raise DivergenceError([self.batch.seeds[s] for s in lost], t, problem.rule.lr)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that the rest of the run depends on, generators included, as named arrays on the host.

        Checkpoints and moves between devices use nothing else.
        """
        return {"steps": np.array(self.steps), "good": self.good.copy()}

    def restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave; the batch is the same."""
        self.steps = int(arrays["steps"])
        self.good = np.array(arrays["good"])

    @abstractmethod
    def overlaps(self) -> Overlaps:
        """The order parameters, on the host."""

    @abstractmethod
    def law(self) -> Law:
        """Means and covariances of the local fields in each cluster, on the host."""

    def observe(self, since: int) -> tuple[Law, Overlaps]:
        """Law and overlaps, 0 where a replica has diverged.

        It has also if these overflow while its weights do not: since step `since`, when it was last observed.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # looked at just below
            law, overlaps = self.law(), self.overlaps()
        seen = (*law, *overlaps)
        finite = np.logical_and.reduce([np.isfinite(each).all(axis=tuple(range(1, each.ndim))) for each in seen])
        self.lose(~finite, since)
        for each in seen:
            each[self.good < self.steps] = 0
        return law, overlaps

    def errors(self, per_cluster: int) -> dict[str, Array] | None:
        """Errors on `per_cluster` test samples of each cluster, where it has a way of its own to take them."""
        return None

    def draw(self, law: Law, normals: Normals, per_cluster: int) -> Any:
        """Local fields (S, C, n, N) of n = `per_cluster` fresh inputs of each cluster: M_a + C_a^{1/2} z, exactly."""
        S, C, N = law.means.shape
        xp, array = self.batch.backend.xp, self.batch.array
        z = xp.reshape(normals((C * per_cluster, N)), (S, C, per_cluster, N))
        return array(law.means)[:, :, None, :] + xp.matmul(z, array(root(law.covariances)))

    def fields(self, normals: Normals, per_cluster: int, steps: int) -> Any:
        """The same from inputs that are drawn as vectors, where there are such; room for those of `steps` steps."""
        raise NotImplementedError(f"{type(self).__name__} has no vectors")
