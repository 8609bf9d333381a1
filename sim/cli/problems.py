"""Problems from text, as the command line gives them: mixtures by name or from data, spectra by law, teachers.

A specification is a name, a colon and numbers; it is looked up and parsed, never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace

import numpy as np

from quenched.numerics.problem.learner import option
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.named_mixtures import known, named
from quenched.numerics.problem.network import Teacher
from quenched.numerics.problem.rules import GradientFlow, LearningRule
from quenched.numerics.problem.spectrum import Spectrum
from quenched.sim.cli.options import refuse

__all__ = [
    "NOISE",
    "SPECTRA",
    "Inputs",
    "Named",
    "NoisyInputs",
    "gradient_flow",
    "has_oracle",
    "levels",
    "mixture",
    "spectrum",
    "taught",
    "with_spectrum",
]

NOISE = tuple(each.name for each in fields(GradientFlow) if not each.init)
"""Options of a rule without effect at first order in its rates, which the gradient flow does not have."""

_LEVELS = 10**5  # of a parameter
_NEURONS = 1000  # of a teacher: its averages would take hours

SPECTRA: dict[str, tuple[int, Callable[..., Spectrum]]] = {
    "mp": (1, Spectrum.marchenko_pastur),
    "two-level": (3, Spectrum.two_level),
    "uniform": (2, Spectrum.uniform),
    "power": (3, Spectrum.power_law),
}
"""Spectra by name: how many numbers each takes, and what it builds."""


@dataclass(frozen=True)
class Named:
    """A mixture by name."""

    mixture: str = option("xor", f"{known()}.")
    separation: float = option(1.0, "Length of the mean vectors.")


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
        """The mixture without its spectrum."""
        return mixture(
            self.mixture,
            sigma,
            self.separation,
            self.data,
            covariance=self.covariance,
            shrinkage=self.shrinkage,
            project=self.project,
        )


@dataclass(frozen=True)
class NoisyInputs(Inputs):
    """Inputs at one noise level, and perhaps a teacher."""

    sigma: float | None = option(None, "Noise per component (default: 0.4, or as estimated from --data).")
    teacher: str | None = option(None, "Labels by a teacher ACTIVATION:NEURONS, as erf:2.")


def has_oracle(inputs: Mixture) -> bool:
    """Whether `oracle_error` knows it: means on a line or a plane, one covariance, labels of clusters."""
    shared = inputs.law.eigenvalues.ndim == 1
    return inputs.dimensions <= 2 and shared and not inputs.taught.neurons and inputs.classes is None


def mixture(
    name: str = "xor",
    sigma: float | None = None,
    separation: float = 1.0,
    data: str | None = None,
    *,
    covariance: str = "isotropic",
    shrinkage: str | None = None,
    project: bool = False,
) -> Mixture:
    """The mixture of this name ("xor", .., "ring:3"), or that of `data` ("digits", .npz, MNIST's folder).

    `sigma` is 0.4 by default, or as estimated; `covariance`, `shrinkage` ("ledoit-wolf" or a number) and `project` are
    those of `Mixture.from_data`.  ValueError: an unknown name.

    >>> mixture("ring:3", sigma=0.5).clusters
    6
    """
    if data is not None:
        from quenched.sim.samples import labelled

        weight = (
            shrinkage if shrinkage is None or shrinkage == "ledoit-wolf" else _numbers("shrinkage", shrinkage, 1)[0]
        )
        found = Mixture.from_data(*labelled(data), covariance=covariance, shrinkage=weight, project=project)
        return found if sigma is None else replace(found, sigma=sigma)
    if covariance != "isotropic" or shrinkage is not None or project:
        raise ValueError(f"covariance={covariance!r} is estimated from data: name them, or pass a spectrum")
    return named(name, 0.4 if sigma is None else sigma, separation)


def spectrum(text: str, directions: int | None = None) -> Spectrum:
    """A spectrum from "mp:RATIO", "two-level:LOW,HIGH,FRACTION", "uniform:LOW,HIGH" or "power:EXPONENT,LOW,HIGH".

    With `directions`, a law is given by as many quantiles, for simulations in that dimension; else by Gauss nodes.

    >>> spectrum("two-level:0.5,2,0.25").eigenvalues.tolist()
    [0.5, 2.0]
    """
    name, _, rest = text.partition(":")
    if name not in SPECTRA:
        raise ValueError(f"spectrum must be one of {', '.join(SPECTRA)} with its numbers, as in mp:0.5, got {text!r}")
    count, build = SPECTRA[name]
    values = _numbers(f"spectrum {name}", rest, count)
    try:
        if name == "two-level" or directions is None:
            return build(*values)
        return build(*values, directions, quantiles=True)
    except ValueError as error:
        raise ValueError(f"spectrum {text!r}: {error}") from error


def with_spectrum(inputs: Mixture, text: str, directions: int | None = None) -> Mixture:
    """The same mixture with the spectrum of this text; ValueError if it has one already.

    >>> with_spectrum(Mixture.xor(1.0), "uniform:0.5,1.5").spectrum.nodes
    32
    """
    if inputs.spectrum is not None:
        raise ValueError(f"spectrum={text!r} and the covariance of the data are two answers to one question")
    return replace(inputs, spectrum=spectrum(text, directions))


def taught(inputs: Mixture, text: str) -> Mixture:
    """The same inputs with labels by a teacher "ACTIVATION:M": M neurons, weights orthonormal and beside the means.

    >>> taught(Mixture.two_clusters(1.0), "erf:2").references.shape
    (4, 3)
    """
    activation, _, number = text.rpartition(":")
    if not activation or not (number.isascii() and number.isdecimal()) or int(number) < 1:
        raise ValueError(f"teacher must be ACTIVATION:NEURONS, as in erf:2, got {text!r}")
    if int(number) > _NEURONS:
        raise ValueError(f"teacher must have at most {_NEURONS} neurons, got {text!r}")
    C, p, m = inputs.clusters, inputs.dimensions, int(number)
    weights = np.concatenate([np.zeros((m, p)), np.eye(m)], axis=1)
    means = np.concatenate([inputs.means, np.zeros((C, m))], axis=1)
    if inputs.law.alignment is not None:
        raise ValueError("teacher needs inputs whose means point anywhere: leave the data's covariance out")
    return Mixture(
        means,
        weights=inputs.weights,
        sigma=inputs.sigma,
        spectrum=inputs.spectrum,
        teacher=Teacher(weights, np.ones(m), activation),
    )


def gradient_flow(rule: LearningRule) -> GradientFlow:
    """The same rates, decays and loss, in the limit of small rates.

    >>> from quenched.numerics import OnlineSGD
    >>> gradient_flow(OnlineSGD(0.5, loss="logistic")).loss
    'logistic'
    """
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


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        wanted = "a number" if count == 1 else f"{count} numbers with commas between them"
        raise ValueError(f"{name} takes {wanted}, got {text!r}")
    return values
