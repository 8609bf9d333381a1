"""Problems from text, as the command line gives them: mixtures by name or from data, spectra by law, teachers.

A specification is a name, a colon and numbers; it is looked up and parsed, never evaluated.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np

from quenched.numerics.course.pieces import Mixtures
from quenched.numerics.problem.checks import record
from quenched.numerics.problem.learner import option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import known, named
from quenched.numerics.problem.rules import GradientFlow, LearningRule
from quenched.numerics.problem.specification import Specification
from quenched.numerics.problem.texts import taught, with_spectrum
from quenched.sim.cli.options import flag, part, refuse

__all__ = [
    "NOISE",
    "Inputs",
    "Named",
    "NoisyInputs",
    "gradient_flow",
    "has_oracle",
    "levels",
    "mixture",
    "taught",
    "with_spectrum",
]

NOISE = tuple(each.name for each in fields(GradientFlow) if not each.init)
"""Options of a rule without effect at first order in its rates, which the gradient flow does not have."""

_LEVELS = 10**5  # of a parameter


@dataclass(frozen=True)
class Named:
    """A mixture by name."""

    mixture: str = option("xor", f"{known()}.")
    separation: float = option(1.0, "Length of the mean vectors.")
    given: Mixtures | None = part()

    def of(self, problem: Specification) -> Self:
        """The inputs of a specification."""
        return replace(self, given=problem.mixture)

    def check(self, given: Collection[str]) -> None:
        """ValueError where options of `given` do not go together."""
        if self.given is not None:
            for name in ("mixture", "separation", "data", "covariance", "shrinkage", "project"):
                if name in given:
                    raise ValueError(f"{flag(name)} does not go together with a specification, which has a mixture")
        if isinstance(self.given, tuple):
            for name in ("sigma", "spectrum", "teacher"):
                if name in given:
                    several = f"the {len(self.given)} mixtures of the specification"
                    raise ValueError(f"{flag(name)} does not go together with {several}")

    def build(self, sigma: float | None = None) -> Mixture:
        """The mixture, at this noise."""
        if self.given is not None:
            found = record("mixture", self.given, Mixture)
            return found if sigma is None else replace(found, sigma=sigma)
        return mixture(self.mixture, sigma, self.separation)


@dataclass(frozen=True)
class Inputs(Named):
    """A mixture by name or from data, whose inputs may have a spectrum."""

    data: str | None = option(
        None, "Estimate the mixture from 'digits', an .npz of X, cluster, label, or MNIST's folder."
    )
    covariance: str = option("isotropic", "Of --data: isotropic, shared, or full (one for each cluster).")
    shrinkage: str | None = option(None, "Of covariances: ledoit-wolf, or the weight of the identity.")
    project: bool = option(False, "Leave out what keeps covariances from commuting.")
    spectrum: str | None = option(
        None, "Spectrum of the inputs: mp:RATIO, two-level:LOW,HIGH,SHARE, uniform:LOW,HIGH, power:A,LOW,HIGH."
    )

    def check(self, given: Collection[str]) -> None:
        """ValueError where options of `given` do not go together."""
        super().check(given)
        refuse(given, "data", ("mixture", "separation"), "the data have means of their own")
        refuse(given, "data", ("spectrum",), "the covariance is that of the data")
        if self.data is None:
            for name in ("covariance", "shrinkage", "project"):
                if name in given:
                    raise ValueError(f"--{name} is of covariances estimated from data: add --data, or give --spectrum")
        elif self.covariance == "isotropic":
            refuse(given, "shrinkage", ("data",), "it is of --covariance shared or full")
        if self.covariance != "full" and "project" in given:
            raise ValueError(f"--project is of --covariance full, got {self.covariance!r}, which commutes with itself")

    def build(self, sigma: float | None = None) -> Mixture:
        """The mixture without the spectrum of --spectrum."""
        if self.data is None or self.given is not None:
            return super().build(sigma)
        from quenched.sim.samples import from_data

        return from_data(self.data, sigma, self.covariance, self.shrinkage, self.project)


@dataclass(frozen=True)
class NoisyInputs(Inputs):
    """Inputs at one noise level, and perhaps a teacher."""

    sigma: float | None = option(None, "Noise per component (default: 0.4, or as estimated from --data).")
    teacher: str | None = option(None, "Labels by a teacher ACTIVATION:NEURONS, as erf:2, or erf:2:sign.")


def has_oracle(inputs: Mixture) -> bool:
    """Whether `oracle_error` knows it: means on a line or a plane, one covariance, labels of clusters."""
    shared = inputs.law.eigenvalues.ndim == 1
    return inputs.dimensions <= 2 and shared and not inputs.taught.neurons and inputs.classes is None


def mixture(name: str = "xor", sigma: float | None = None, separation: float = 1.0) -> Mixture:
    """The mixture of this name ("xor", .., "ring:3"); `sigma` is 0.4 by default.  ValueError: an unknown name.

    >>> mixture("ring:3", sigma=0.5).clusters
    6
    """
    return named(name, 0.4 if sigma is None else sigma, separation)


def gradient_flow(rule: LearningRule) -> GradientFlow:
    """The same rates, decays and loss, in the limit of small rates.

    ValueError: the rule has what the limit does not know, a batch or label noise.

    >>> from quenched.numerics import OnlineSGD
    >>> gradient_flow(OnlineSGD(0.5, loss="logistic")).loss
    'logistic'
    """
    for each in fields(GradientFlow):
        if not each.init and getattr(rule, each.name) != each.default:
            raise ValueError(
                f"{each.name} must be left out of the rule for the gradient flow, which does not know it, got "
                f"{getattr(rule, each.name)}"
            )
    return GradientFlow(**{each.name: getattr(rule, each.name) for each in fields(GradientFlow) if each.init})


def levels(name: str, text: str) -> list[float]:
    """Numbers from FIRST:LAST:NUMBER or a comma-separated list.

    >>> levels("sigma", "0.5:1:3"), levels("sigma", "2,4")
    ([0.5, 0.75, 1.0], [2.0, 4.0])
    """
    try:
        if ":" in text:
            first, last, count = text.split(":")
            ends, n = [float(first), float(last)], int(count)
        else:
            ends, n = [float(part) for part in text.split(",")], 1
    except ValueError as error:
        raise ValueError(f"{name} must be FIRST:LAST:NUMBER or a comma-separated list, got {text!r}") from error
    if not 1 <= n <= _LEVELS or not np.isfinite(ends).all():
        raise ValueError(f"{name} must be finite, and a NUMBER of them from 1 to {_LEVELS}, got {text!r}")
    return np.linspace(ends[0], ends[1], n).tolist() if ":" in text else ends
