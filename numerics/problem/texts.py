"""Parts of a problem from short texts: the spectrum of a law, "mp:0.5", and a teacher, "erf:2".

The command line and files of problems read them.  A text is a name, a colon and numbers; it is looked up and parsed,
never evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.network import Teacher
from quenched.numerics.problem.spectrum import Spectrum

__all__ = ["SPECTRA", "number_list", "spectrum", "taught", "with_spectrum"]

_NEURONS = 1000  # of a teacher: its averages would take hours

SPECTRA: dict[str, tuple[int, Callable[..., Spectrum]]] = {
    "mp": (1, Spectrum.marchenko_pastur),
    "two-level": (3, Spectrum.two_level),
    "uniform": (2, Spectrum.uniform),
    "power": (3, Spectrum.power_law),
}
"""Spectra by name: how many numbers each takes, and what it builds."""


def spectrum(text: str, directions: int | None = None) -> Spectrum:
    """A spectrum from "mp:RATIO", "two-level:LOW,HIGH,FRACTION", "uniform:LOW,HIGH" or "power:EXPONENT,LOW,HIGH".

    With `directions`, a law is given by as many quantiles, for simulations in that dimension; else by Gauss nodes.

    >>> spectrum("two-level:0.5,2,0.25").eigenvalues.tolist()
    [0.5, 2.0]
    """
    name, _, rest = text.partition(":") if isinstance(text, str) else ("", "", "")
    if name not in SPECTRA:
        raise ValueError(f"spectrum must be one of {', '.join(SPECTRA)} with its numbers, as in mp:0.5, got {text!r}")
    count, build = SPECTRA[name]
    values = number_list(f"spectrum {name}", rest, count)
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

    "ACTIVATION:M:sign" takes the sign of what it says.

    >>> taught(Mixture.two_clusters(1.0), "erf:2").references.shape
    (4, 3)
    >>> taught(Mixture.two_clusters(1.0), "erf:2:sign").teacher.sign
    True
    """
    rest, _, last = text.rpartition(":")
    sign = last == "sign"
    activation, _, number = (rest if sign else text).rpartition(":")
    if not activation or not (number.isascii() and number.isdecimal()) or int(number) < 1:
        raise ValueError(f"teacher must be ACTIVATION:NEURONS, as in erf:2, got {text!r}")
    if int(number) > _NEURONS:
        raise ValueError(f"teacher must have at most {_NEURONS} neurons, got {text!r}")
    C, p, m = inputs.clusters, inputs.dimensions, int(number)
    weights = np.concatenate([np.zeros((m, p)), np.eye(m)], axis=1)
    means = np.concatenate([inputs.means, np.zeros((C, m))], axis=1)
    scaling = inputs.scaling if np.ndim(inputs.scaling) == 0 else np.concatenate([inputs.exponents, np.zeros(m)])
    if inputs.law.alignment is not None:
        raise ValueError("teacher needs inputs whose means point anywhere: leave the data's covariance out")
    return Mixture(
        means,
        weights=inputs.weights,
        sigma=inputs.sigma,
        scaling=scaling,
        spectrum=inputs.spectrum,
        teacher=Teacher(weights, np.ones(m), activation, sign=sign),
    )


def number_list(name: str, text: str, count: int) -> list[float]:
    """As many numbers as are due, with commas between them; ValueError with the name of what they are for."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count:
        wanted = "a number" if count == 1 else f"{count} numbers with commas between them"
        raise ValueError(f"{name} takes {wanted}, got {text!r}")
    return values
