"""The mixtures that have a name: what the command line, files of sweeps, the referee and the documents read.

An entry of `NAMED` is a constructor, a function of sigma and of what else its signature says; the sentence that
describes it is the first of its docstring.  A number that a mixture needs, such as the m of a ring of 2m clusters, is
written after its name and a colon.

>>> named("ring:3", sigma=0.5).clusters, named("parity", sigma=0.5, separation=2.0).means.tolist()[0]
(6, [2.0, 2.0])
>>> NAMED["ring"].parameters
{'m': 0, 'sigma': 0, 'separation': 0, 'scaling': 0}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from quenched.numerics.problem.mixture import Mixture

__all__ = ["NAMED", "NamedMixture", "known", "named"]


@dataclass(frozen=True)
class NamedMixture:
    """A constructor of mixtures; `number`: the parameter that follows the name, if there is one, and its usual value.

    `lists`: the parameters whose values are lists, one number for each direction.  The means scale with `separation`;
    a constructor that has `lengths` instead takes it for each of two directions.  `refereed`: whether the grid of
    `quenched validate` holds it.
    """

    build: Callable[..., Mixture]
    number: tuple[str, int] | None = None
    lists: tuple[str, ...] = ()
    refereed: bool = True

    @property
    def sentence(self) -> str:
        """What it is, in one sentence."""
        return (inspect.getdoc(self.build) or "").splitlines()[0].rstrip(".") + "."

    @property
    def parameters(self) -> dict[str, int]:
        """Its parameters, and how deep an array the value of each is: 0 for a number, 1 for a list of them."""
        return {name: int(name in self.lists) for name in inspect.signature(self.build).parameters}

    def at(self, sigma: float, separation: float = 1.0, number: int | None = None) -> Mixture:
        """The mixture of this noise and size; `number` is refused where there is none to give."""
        arguments: dict[str, object] = {"sigma": sigma}
        if "lengths" in self.parameters:
            arguments["lengths"] = (separation, separation)
        else:
            arguments["separation"] = separation
        if self.number is not None:
            name, usual = self.number
            arguments[name] = usual if number is None else number
        elif number is not None:
            raise ValueError(f"number must be None for this mixture, which has none, got {number!r}")
        return self.build(**arguments)


NAMED: dict[str, NamedMixture] = {
    "xor": NamedMixture(Mixture.xor),
    "ring": NamedMixture(Mixture.ring, number=("m", 3)),
    "three-clusters": NamedMixture(Mixture.three_clusters),
    "three-classes": NamedMixture(Mixture.three_classes, refereed=False),  # has a loss of its own: referee.grid
    "two-clusters": NamedMixture(Mixture.two_clusters),
    "parity": NamedMixture(Mixture.parity, lists=("lengths", "scaling"), refereed=False),  # at equal lengths: xor
}
"""The named mixtures; a new one is one entry."""

_MOST = 1000
"""The largest number after a colon: averages over thousands of clusters would take hours."""


def known() -> str:
    """What may be written for a mixture.

    >>> known()
    'xor, ring:M, three-clusters, three-classes, two-clusters, parity'
    """
    return ", ".join(f"{name}:{entry.number[0].upper()}" if entry.number else name for name, entry in NAMED.items())


def named(text: str, sigma: float, separation: float = 1.0) -> Mixture:
    """The mixture of a name, or of a name, a colon and a number; ValueError if there is none."""
    name, colon, rest = text.partition(":")
    if name not in NAMED:
        raise ValueError(f"mixture must be one of {known()}, got {text!r}")
    if not colon:
        return NAMED[name].at(sigma, separation)
    if NAMED[name].number is None or not (rest.isascii() and rest.isdecimal()):
        wanted = "takes no number" if NAMED[name].number is None else "takes a whole number after the colon"
        raise ValueError(f"mixture {name} {wanted}, got {text!r}")
    if not 1 <= int(rest) <= _MOST:
        raise ValueError(f"mixture {name} takes a number from 1 to {_MOST}, got {text!r}")
    return NAMED[name].at(sigma, separation, int(rest))
