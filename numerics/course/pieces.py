"""Problems that change in time: what is learned, and how, piece by piece, while the network stays.

Where a mixture or a rule is asked for, a list of pairs (mixture, until) or (rule, until) says what holds up to which
time; the last `until` may be None.  All mixtures are in the same coordinates: one with fewer of them has zeros beyond.
The different mixtures are the tasks.  The state of the network holds its overlaps with the reference vectors of all of
them, so that nothing is lost while another task is learned: the rows of M are the means of task 0, of task 1, .., then
the weights of the teachers in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import LEFT_OUT, Record, number, shown
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher
from quenched.numerics.problem.rules import LearningRule
from quenched.numerics.problem.state import Densities, OrderParameters

__all__ = ["Course", "Mixtures", "Piece", "Rules", "course", "joint_mixture", "mapped", "timed"]

Kind = TypeVar("Kind", bound=Record)
Other = TypeVar("Other", bound=Record)

Mixtures = Mixture | Sequence[tuple[Mixture, float | None]]
"""A mixture, or mixtures with the times until which they hold."""
Rules = LearningRule | Sequence[tuple[LearningRule, float | None]]
"""The same of rules."""


class Piece(NamedTuple):
    """What holds from one time to another: the number of the task, and the rule."""

    task: int
    rule: LearningRule
    since: float
    until: float


@dataclass(frozen=True, eq=False)
class Course:
    """Pieces that follow each other from t = 0 on, and the tasks among them, in common coordinates."""

    pieces: tuple[Piece, ...]
    tasks: tuple[Mixture, ...]

    @cached_property
    def joint(self) -> Mixture:
        """A mixture with the reference vectors of all tasks: where the state is; nobody draws from it."""
        return self.tasks[0] if len(self.tasks) == 1 else _joined(self.tasks)

    def rows(self, task: int) -> npt.NDArray[np.int64]:
        """The rows of M that belong to a task."""
        parts = []
        offset = 0
        for count in ([each.clusters for each in self.tasks], [each.taught.neurons for each in self.tasks]):
            first = offset + sum(count[:task])
            parts.append(np.arange(first, first + count[task]))
            offset += sum(count)
        return np.concatenate(parts)

    def seen(self, task: int, state: OrderParameters | Densities) -> OrderParameters | Densities:
        """A state as one of a task alone."""
        if isinstance(state, Densities) or len(self.tasks) == 1:
            return state
        return replace(state, M=state.M[self.rows(task)], velocity=None)

    def at(self, t: float) -> Piece:
        """The piece that holds at a time; of two that meet there, the later."""
        return next((piece for piece in self.pieces if t < piece.until), self.pieces[-1])

    def labels(self, times: npt.ArrayLike) -> dict[str, Any]:
        """The coordinates of a dataset that say which task is learned when, and which task a cluster belongs to.

        Where there are teachers, R has their neurons one after the other: `task_of_teacher` says whose each is.
        """
        tasks = np.arange(len(self.tasks))
        owner = np.repeat(tasks, [task.clusters for task in self.tasks])
        taught = np.repeat(tasks, [task.taught.neurons for task in self.tasks])
        learned = np.array([self.at(t).task for t in np.asarray(times)])
        found = {"task": tasks, "learned": ("time", learned), "task_of": ("cluster", owner)}
        return found | ({"task_of_teacher": ("teacher", taught)} if len(taught) else {})

    def check_charged(self) -> None:
        """ValueError: a rule's loss has not as many outputs as what is learned by it."""
        for piece in self.pieces:
            self.tasks[piece.task].check_charged(piece.rule.loss)

    def check_until(self, end: float) -> None:
        """ValueError: the pieces end before this time, or a rate is negative in them."""
        if end > self.pieces[-1].until:
            raise ValueError(f"until must reach the last time, {end:g}, got {self.pieces[-1].until:g}")
        for piece in self.pieces:
            if piece.since <= end:
                piece.rule.check_until(min(end, piece.until))


def course(mixture: Mixtures, rule: Rules) -> Course:
    """The pieces of a problem.  ValueError: not a record or pairs of one with growing times; other nodes of a spectrum.

    >>> from quenched.numerics import OnlineSGD
    >>> found = course([(Mixture.two_clusters(0.5), 10.0), (Mixture.xor(0.5), None)], OnlineSGD(0.1))
    >>> [(piece.task, piece.since, piece.until) for piece in found.pieces], found.joint.references.shape
    ([(0, 0.0, 10.0), (1, 10.0, inf)], (6, 2))
    """
    mixtures, rules = timed("mixture", mixture, Mixture), timed("rule", rule, LearningRule)  # type: ignore[type-abstract]
    found: list[Mixture] = []
    which = []
    for each, _ in mixtures:
        if each not in found:
            found.append(each)
        which.append(found.index(each))
    last = min(mixtures[-1][1], rules[-1][1])
    ends = sorted({until for _, until in (*mixtures, *rules) if until <= last})
    pieces = []
    since = 0.0
    for until in ends:
        one = next(i for i, (_, end) in enumerate(mixtures) if until <= end)
        other = next(each for each, end in rules if until <= end)
        pieces.append(Piece(which[one], other, since, until))
        since = until
    return Course(tuple(pieces), _common(found))


def joint_mixture(mixture: Mixtures) -> Mixture:
    """The mixture, or that of the reference vectors of all tasks."""
    tasks: list[Mixture] = []
    for each, _ in timed("mixture", mixture, Mixture):
        tasks += [each] if each not in tasks else []
    return Course((), _common(tasks)).joint


def timed(name: str, value: Any, kind: type[Kind]) -> list[tuple[Kind, float]]:
    """Pairs of a record and the time until which it holds, inf where it has no end; one pair of a single record.

    ValueError: neither a record of this kind nor pairs of one and growing times.

    >>> [until for _, until in timed("mixture", [(Mixture.xor(0.5), 2.0), (Mixture.xor(0.4), None)], Mixture)]
    [2.0, inf]
    """
    if isinstance(value, kind):
        return [(value, math.inf)]
    wanted = f"{name} must be a {kind.__name__} or a list of pairs ({kind.__name__}, until)"
    if not isinstance(value, (list, tuple)) or not value:
        raise ValueError(f"{wanted}, got {shown(value)}")
    found: list[tuple[Kind, float]] = []
    for i, pair in enumerate(value):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], kind):
            raise ValueError(f"{wanted}, got {shown(pair)}")
        each, until = pair
        if until is None and i < len(value) - 1:
            raise ValueError(f"{name} must have a time until which it holds, but for the last, got {shown(pair)}")
        end = math.inf if until is None or until == math.inf else number(f"{name}: until", until, positive=True)
        if found and end <= found[-1][1]:
            raise ValueError(f"{name}: until must increase, got {end:g} after {found[-1][1]:g}")
        found.append((each, end))
    return found


def mapped(change: Callable[[Kind], Other], value: Kind | Sequence[tuple[Kind, float | None]]) -> Any:
    """`change` of a record, or of the record of each pair, whose times stay."""
    if isinstance(value, Record):
        return change(value)
    return tuple((change(each), until) for each, until in value)


def _common(tasks: Sequence[Mixture]) -> tuple[Mixture, ...]:
    """The mixtures in as many coordinates as the widest of them has."""
    p = max(mixture.dimensions for mixture in tasks)
    wide = tuple(_widened(mixture, p) for mixture in tasks)
    first = wide[0]
    for mixture in wide[1:]:
        nodes = mixture.shares.shape == first.shares.shape
        if (
            not nodes
            or np.abs(mixture.shares - first.shares).max()
            or np.abs(mixture.alignment - first.alignment).max()
        ):
            raise ValueError(
                "mixture must have the same nodes throughout, shares and alignment of its spectrum; variances may "
                f"change, got {shown(first.spectrum)} and {shown(mixture.spectrum)}"
            )
    return wide


def _widened(mixture: Mixture, p: int) -> Mixture:
    """The same with zeros in further coordinates."""
    if (extra := p - mixture.dimensions) == 0:
        return mixture
    if mixture.spectrum is not None and mixture.spectrum.alignment is not None:
        raise ValueError(
            f"mixture must have {p} coordinates like the others, as its spectrum has an alignment of its own"
        )
    teacher = mixture.teacher
    scaling: Any = mixture.scaling
    return replace(
        mixture,
        means=np.pad(mixture.means, ((0, 0), (0, extra))),
        labels=mixture.labels if teacher is None and mixture.classes is None else LEFT_OUT,
        scaling=np.pad(scaling, (0, extra)) if isinstance(scaling, np.ndarray) else scaling,
        teacher=None if teacher is None else replace(teacher, weights=np.pad(teacher.weights, ((0, 0), (0, extra)))),
    )


def _joined(tasks: Sequence[Mixture]) -> Mixture:
    """All clusters and teachers side by side."""
    first = tasks[0]
    taught = [mixture.taught for mixture in tasks if mixture.taught.neurons]
    teacher = None
    if taught:
        weights = np.concatenate([each.weights for each in taught])
        teacher = Teacher(weights, np.ones(len(weights)), taught[0].activation)  # nobody asks for its labels
    spectrum = first.spectrum
    if spectrum is not None:
        spectrum = replace(spectrum, eigenvalues=np.atleast_2d(spectrum.eigenvalues)[0])
    exponents = [np.broadcast_to(mixture.scaling, (first.dimensions,)) for mixture in tasks]
    if any(np.abs(each - exponents[0]).max() for each in exponents):
        raise ValueError("mixture must have the same scaling throughout")
    if len({mixture.classes is None or mixture.outputs for mixture in tasks}) > 1:
        found = [mixture.outputs for mixture in tasks]
        raise ValueError(f"mixture must have the same number of classes throughout, or labels, got {found} outputs")
    classes = None if first.classes is None else np.concatenate([mixture.classes for mixture in tasks])
    return Mixture(
        np.concatenate([mixture.means for mixture in tasks]),
        np.concatenate([mixture.labels for mixture in tasks]) if not taught and classes is None else LEFT_OUT,
        sigma=np.concatenate([mixture.sigmas for mixture in tasks]),
        scaling=first.scaling,
        spectrum=spectrum,
        teacher=teacher,
        classes=classes,
    )
