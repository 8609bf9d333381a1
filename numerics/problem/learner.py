"""What a learner is to those who ask for its error: a name, a function of a mixture and options, the record of options.

A module of `quenched.numerics` offers a learner by a constant at its end,

    LEARNERS = (Learner("two-layer", two_layer_error, TwoLayerOptions(), "A two-layer network ..."),)

and `quenched.numerics.learners` finds it.  Error curves, their figure, the options of `quenched curve` and its help
come from there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quenched.numerics.problem.checks import Record, Result
from quenched.numerics.problem.mixture import Mixture
from quenched.numerics.problem.provenance import provenance

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Learner", "LearnerError", "Options", "Solution", "option"]


@dataclass(frozen=True)
class Options(Record):
    """The base of the options of a learner: a frozen record whose fields all have defaults.

    A field that is itself a record, such as a network, stands for the fields of that one.
    """

    @property
    def caption(self) -> str:
        """What a legend adds to the name of the learner."""
        return ""


def option(default: Any, text: str) -> Any:
    """A field of `Options` with its default and the text that `--help` shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, eq=False)
class Solution:
    """The classification error that a learner has: `value`, its numerical error, the method, where it came from.

    `parts`: what else was found on the way, by name, such as the error from each initial state.
    """

    value: float
    error: float
    method: str
    provenance: Mapping[str, str]
    parts: Mapping[str, xr.DataArray] = field(default_factory=dict)


class LearnerError(Result):
    """What the solved errors of a learner share; a dataclass that is a child of it has these fields, and more."""

    classification_error: float
    classification_error_error: float
    method: str
    problem: dict[str, Any]

    @property
    def provenance(self) -> dict[str, str]:
        """The problem and the versions of the packages, as attributes that a netCDF file can hold."""
        return provenance(**self.problem)

    def solution(self) -> Solution:
        """The classification error, for those who ask any learner."""
        return Solution(self.classification_error, self.classification_error_error, self.method, self.provenance)


@dataclass(frozen=True)
class Learner:
    """A learner by name: `solve(mixture, options)`, its options with their defaults, and a sentence on what it is."""

    name: str
    solve: Callable[[Mixture, Any], Solution]
    options: Options
    sentence: str
