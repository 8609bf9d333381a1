"""Problems from text, as the command line gives them: mixtures by name or from data, spectra by law, teachers.

A specification is a name, a colon and numbers; it is looked up and parsed, never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher
from quenched.numerics.problem.spectrum import Spectrum

__all__ = ["MIXTURES", "SPECTRA", "levels", "mixture", "spectrum", "taught", "with_spectrum"]

MIXTURES: dict[str, Callable[[float, float], Mixture]] = {
    "xor": Mixture.xor,
    "two-clusters": Mixture.two_clusters,
    "three-clusters": Mixture.three_clusters,
    "parity": lambda sigma, separation: Mixture.parity(sigma, (separation, separation)),
}
"""Mixtures that `mixture` knows by name, beside ring:M."""

SPECTRA: dict[str, tuple[int, Callable[..., Spectrum]]] = {
    "mp": (1, Spectrum.marchenko_pastur),
    "two-level": (3, Spectrum.two_level),
    "uniform": (2, Spectrum.uniform),
    "power": (3, Spectrum.power_law),
}
"""Spectra by name: how many numbers each takes, and what it builds."""


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
    """The mixture of this name ("xor", .., "ring:3"), or that of `data` ("digits" or an .npz file).

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
    noise = 0.4 if sigma is None else sigma
    ring, _, m = name.partition(":")
    if ring == "ring" and m.isdecimal():
        return Mixture.ring(int(m), noise, separation)
    if name not in MIXTURES:
        raise ValueError(f"mixture must be one of {', '.join(MIXTURES)}, or ring:M, got {name!r}")
    return MIXTURES[name](noise, separation)


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
    values = _numbers("spectrum", rest, count)
    if name == "two-level" or directions is None:
        return build(*values)
    return build(*values, directions, quantiles=True)


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
    if not activation or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"teacher must be ACTIVATION:NEURONS, as in erf:2, got {text!r}")
    C, p, m = inputs.clusters, inputs.dimensions, int(number)
    weights = np.concatenate([np.zeros((m, p)), np.eye(m)], axis=1)
    means = np.concatenate([inputs.means, np.zeros((C, m))], axis=1)
    if inputs.spectrum is not None and inputs.spectrum.alignment is not None:
        raise ValueError("teacher needs inputs whose means point anywhere: leave the data's covariance out")
    return Mixture(
        means,
        weights=inputs.weights,
        sigma=inputs.sigma,
        spectrum=inputs.spectrum,
        teacher=Teacher(weights, np.ones(m), activation),
    )


def levels(name: str, text: str) -> list[float]:
    """Numbers from FIRST:LAST:NUMBER or a comma-separated list.

    >>> levels("sigma", "0.5:1:3"), levels("sigma", "2,4")
    ([0.5, 0.75, 1.0], [2.0, 4.0])
    """
    try:
        if ":" in text:
            first, last, number = text.split(":")
            return np.linspace(float(first), float(last), int(number)).tolist()
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name} must be FIRST:LAST:NUMBER or a comma-separated list, got {text!r}") from error


def _numbers(name: str, text: str, count: int) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ValueError(f"{name} must hold {count} numbers, got {text!r}") from error
    if len(values) != count:
        raise ValueError(f"{name} must hold {count} numbers, got {text!r}")
    return values
