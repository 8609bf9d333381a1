"""The problems that the referee judges: a grid of the plain rule; other losses, batches, biases and teachers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import numpy as np

from quenched.numerics.course.pieces import Mixtures, Rules, course, joint_mixture, timed
from quenched.numerics.problem.checks import record
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import NAMED, named
from quenched.numerics.problem.network import Teacher, TwoLayer
from quenched.numerics.problem.rules import LearningRule, OnlineSGD
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.state import Densities, OrderParameters
from quenched.numerics.scaling.power_law import PowerLaw
from quenched.numerics.two_layer.flow import random_state
from quenched.sim.backend import get_backend
from quenched.sim.engines import find_engine
from quenched.sim.engines.base import Problem
from quenched.sim.training import problems_of
from quenched.symbolic.language.grammar import CLASS_LOSSES

__all__ = ["POWER_LAW", "SIGMA", "SPECIFIED", "TEACHERS", "VECTORS_D", "Case", "Grid", "Variant"]

SIGMA = 0.4  # noise per component of every mixture
VECTORS_D = 1000  # the dimension of what runs on vectors alone, whose steps cost D
SPECIFIED = "specification"  # what the mixture of a specification is called
POWER_LAW = "power law"  # and that of the power-law problem
_POWERS = Specification(power_law=PowerLaw(0.8, 0.6, 24, 8, rate=0.15, batch=2, label_noise=0.2), draw=1)


def _refereed() -> tuple[str, ...]:
    return tuple(name for name, entry in NAMED.items() if entry.refereed)


@dataclass(frozen=True)
class Variant:
    """A network whose rule has another loss, a batch, or `options`, pairs of further fields of `OnlineSGD` and values;
    or labels by a teacher.

    `teacher`: the name of one of `TEACHERS`.  `control`: equations that are wrong have to be denied.
    """

    activation: str
    K: int
    loss: str = "square"
    batch: int = 1
    control: bool = True
    options: tuple[tuple[str, Any], ...] = ()
    teacher: str = ""

    def __post_init__(self) -> None:
        self.rule(0.0)  # refuses what is no loss and no batch

    def rule(self, lr: float) -> OnlineSGD:
        """The rule at a rate."""
        given: dict[str, Any] = {"lr": lr, "loss": self.loss, "batch": self.batch}
        return OnlineSGD(**given | dict(self.options))


_CLASSES = "three-classes"  # the mixture of losses with several outputs
_VARIANTS = (  # a control has two neurons: a single one hardly moves if it starts with a small readout
    Variant("erf", 1, control=False, loss="logistic"),
    Variant("erf", 2, loss="logistic"),
    Variant("erf", 1, control=False, loss="sqrt(1 + (phi - y)**2)"),
    Variant("relu", 2, batch=4),
    Variant("erf", 2, options=(("lr", "1/(1 + t)"), ("weight_decay", "0:0.2, 2:0.2, 2:0"), ("frozen", ("w0", "v1")))),
    Variant("relu", 2, options=(("sphere", True), ("temperature", 0.1))),
    Variant("erf", 2, loss="cross-entropy"),
    Variant("erf", 2, control=False, teacher="sign"),
    Variant("relu", 2, control=False, teacher="each cluster"),
    Variant("relu", 2, options=(("bias_lr", 0.5), ("intercept_lr", 0.5))),
    Variant("erf", 2, options=(("lr", 1.0), ("friction", 1.5), ("weight_decay", 0.1))),
)


def _sign(mixture: Mixture) -> Teacher:
    """Of one field along the first coordinate, with noise."""
    return Teacher(np.eye(1, mixture.dimensions), np.ones(1), "erf", sign=True, field_noise=0.5)


def _each_cluster(mixture: Mixture) -> Teacher:
    """A neuron for each cluster, of different length, with readouts of both signs."""
    lengths = 1 + np.arange(mixture.clusters) / mixture.clusters
    along = np.eye(1, mixture.dimensions)
    return Teacher.of_clusters(Teacher(c * along, np.full(1, (-1.0) ** a), "relu") for a, c in enumerate(lengths))


TEACHERS: dict[str, Callable[[Mixture], Teacher]] = {"sign": _sign, "each cluster": _each_cluster}
"""Teachers of the variants, made for a mixture."""


@dataclass(frozen=True)
class Case:
    """A problem of the grid: the names of its mixture and teacher, the network, the rule, whether it has a control.

    `problem`: the specification that it is, which has a mixture and an initial state of its own; mixture and rule may
    change in time.
    """

    mixture: str
    network: TwoLayer
    rule: Rules
    control: bool
    teacher: str = ""
    problem: Specification | None = None

    @property
    def chained(self) -> bool:
        """Whether the exact chain runs it, whose steps cost the same in any dimension."""
        return find_engine("overlaps").objection(self.problems(VECTORS_D), get_backend("numpy")) is None

    def dimension(self, D: int) -> int:
        """Where it runs in a cell at D: what is not `chained` no higher than `VECTORS_D`, but for a user's problem.

        With a spectrum, with as many directions for each eigenvalue.
        """
        if self.mixture == SPECIFIED or self.chained:
            return D
        spectrum = joint_mixture(self.data).spectrum
        nodes = 1 if spectrum is None else spectrum.nodes
        return min(D, VECTORS_D) // nodes * nodes

    @property
    def data(self) -> Mixtures:
        """The mixture, with the labels of its teacher."""
        if self.problem is not None:
            return self.problem.mixture
        mixture = named(self.mixture, SIGMA)
        if not self.teacher:
            return mixture
        return replace(mixture, labels=np.zeros(mixture.clusters), teacher=TEACHERS[self.teacher](mixture))

    @property
    def rules(self) -> tuple[LearningRule, ...]:
        """The rule, or all of them in the order of time."""
        return tuple(each for each, _ in timed("rule", self.rule, LearningRule))  # type: ignore[type-abstract]

    def problems(self, D: int) -> tuple[Problem, ...]:
        """What an engine runs in dimension D: one problem, or one for each piece."""
        return problems_of(course(self.data, self.rule), self.network, D)

    def start(self, D: int, seed: int) -> OrderParameters | Densities:
        """The initial state: of random weights in dimension D, or that of the specification."""
        return random_state(self.data, self.network, D, seed) if self.problem is None else self.problem.start()


@dataclass(frozen=True)
class Grid:
    """All of mixtures x activations x K x rates, each at every D, with `seeds` runs recorded at `times`.

    `variants`: networks with other losses, batches, biases or teachers, at the last of the rates, on each of the
    mixtures `varied`, or where the loss has several outputs on the mixture three-classes.  `bias_D`: where the bias is
    measured, with `bias_runs` runs times D at each, and 20 at least.
    `power_law`: whether a linear student of random features is among them, on vectors in a smaller dimension.
    `problem`: a specification that is judged instead of all these.
    """

    mixtures: tuple[str, ...] = field(default_factory=_refereed)
    activations: tuple[str, ...] = ("erf", "relu")
    K: tuple[int, ...] = (2, 4)
    rates: tuple[float, ...] = (0.5,)
    D: tuple[int, ...] = (10_000,)
    seeds: int = 20
    times: tuple[float, ...] = (1.0, 2.0, 5.0)
    variants: tuple[Variant, ...] = _VARIANTS
    varied: tuple[str, ...] = ("two-clusters",)
    bias_D: tuple[int, ...] = (100, 200, 400, 1000, 10_000, 100_000)
    bias_runs: float = 1e6
    power_law: bool = True
    problem: Specification | None = None

    @classmethod
    def full(cls) -> Grid:
        """240 cells, and 84 of other losses, batches, rules, teachers and a power law."""
        return cls(
            activations=("linear", "erf", "sin", "relu", "abs"),
            K=(1, 2, 4),
            rates=(0.2, 0.8),
            D=(10_000, 100_000),
            varied=_refereed(),
            bias_D=(100, 200, 400, 1000, 10_000, 100_000, 1_000_000),
            bias_runs=8e6,
        )

    def of_rule(self, loss: str, batch: int) -> Grid:
        """The same mixtures and activations, every cell with this loss and batch, at one and two neurons.

        There the averages of any loss are had by quadrature; those of wider networks are sampled.  Controls are those
        of two neurons: a single one hardly moves if it starts with a small readout.
        """
        variants = tuple(
            Variant(activation, K, loss, batch, control=K == 2) for activation, K in product(self.activations, (1, 2))
        )
        return replace(self, activations=(), variants=variants, varied=self.mixtures, power_law=False)

    def cases(self) -> list[Case]:
        """Every problem; those of the first K and rate have a control, and so have the variants.

        ValueError: a mixture that is not known.
        """
        if self.problem is not None:
            self.problem.need("network", "rule")
            network, rule = record("network", self.problem.network, TwoLayer), self.problem.rule
            case = Case(SPECIFIED, network, rule or OnlineSGD(0.0), True, problem=self.problem)
            for each in case.rules:
                if not isinstance(each, OnlineSGD):
                    raise ValueError(f"rule must be an OnlineSGD, which can be simulated, got {each!r}")
            if all(each.idle for each in case.rules):
                raise ValueError(f"rule must have a rate > 0: nothing is learned, got {rule!r}")
            return [case]
        plain = [
            Case(mixture, TwoLayer(K, activation), OnlineSGD(lr), (K, lr) == (self.K[0], self.rates[0]))
            for mixture, activation, K, lr in product(self.mixtures, self.activations, self.K, self.rates)
        ]
        others = [
            Case(name, TwoLayer(one.K, one.activation), one.rule(self.rates[-1]), one.control, one.teacher)
            for one in self.variants
            for name in ((_CLASSES,) if one.loss in CLASS_LOSSES else self.varied)
        ]
        network, rule = record("network", _POWERS.network, TwoLayer), record("rule", _POWERS.rule, OnlineSGD)
        law = [Case(POWER_LAW, network, rule, True, problem=_POWERS)] if self.power_law else []
        return [*plain, *others, *law]
