"""The problems that the referee judges: a grid of the plain rule, and cases of other losses, batches and biases."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import NAMED, named
from quenched.numerics.problem.network import TwoLayer
from quenched.numerics.problem.rules import OnlineSGD
from quenched.symbolic.language.grammar import CLASS_LOSSES

__all__ = ["SIGMA", "Case", "Grid", "Variant"]

SIGMA = 0.4  # noise per component of every mixture


def _refereed() -> tuple[str, ...]:
    return tuple(name for name, entry in NAMED.items() if entry.refereed)


@dataclass(frozen=True)
class Variant:
    """A network whose rule has another loss, a batch, or biases that learn at the rate `bias_lr`.

    `control`: equations that are wrong have to be denied.
    """

    activation: str
    K: int
    loss: str = "square"
    batch: int = 1
    control: bool = True
    bias_lr: float = 0.0

    def __post_init__(self) -> None:
        self.rule(0.0)  # refuses what is no loss and no batch

    def rule(self, lr: float) -> OnlineSGD:
        """The rule at a rate."""
        return OnlineSGD(lr, loss=self.loss, batch=self.batch, bias_lr=self.bias_lr, intercept_lr=self.bias_lr)


_CLASSES = "three-classes"  # the mixture of losses with several outputs
_VARIANTS = (
    Variant("erf", 1, loss="logistic"),
    Variant("erf", 2, loss="logistic"),
    Variant("erf", 1, loss="sqrt(1 + (phi - y)**2)"),
    Variant("relu", 2, batch=4),
    Variant("erf", 2, loss="cross-entropy"),
    Variant("relu", 2, bias_lr=0.5),
)


@dataclass(frozen=True)
class Case:
    """A problem of the grid: the name of its mixture, the network, the rule, and whether it has a control."""

    mixture: str
    network: TwoLayer
    rule: OnlineSGD
    control: bool

    @property
    def data(self) -> Mixture:
        """The mixture."""
        return named(self.mixture, SIGMA)


@dataclass(frozen=True)
class Grid:
    """All of mixtures x activations x K x rates, each at every D, with `seeds` runs recorded at `times`.

    `variants`: networks with other losses, batches or biases, at the last of the rates, on each of the mixtures
    `varied`, or where the loss has several outputs on the mixture three-classes.
    `bias_D`: where the bias is measured, with `bias_runs` runs times D at each, and 20 runs at least.
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

    @classmethod
    def full(cls) -> Grid:
        """240 cells, and 42 of other losses, of batches and of biases."""
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
        return replace(self, activations=(), variants=variants, varied=self.mixtures)

    def cases(self) -> list[Case]:
        """Every problem; those of the first K and rate have a control, and so have the variants.

        ValueError: a mixture that is not known.
        """
        plain = [
            Case(mixture, TwoLayer(K, activation), OnlineSGD(lr), (K, lr) == (self.K[0], self.rates[0]))
            for mixture, activation, K, lr in product(self.mixtures, self.activations, self.K, self.rates)
        ]
        others = [
            Case(name, TwoLayer(one.K, one.activation), one.rule(self.rates[-1]), one.control)
            for one in self.variants
            for name in ((_CLASSES,) if one.loss in CLASS_LOSSES else self.varied)
        ]
        return [*plain, *others]
