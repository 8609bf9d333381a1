"""Records of the reference bank, read from `bank.json`, and their verification.

A record holds one number: what it is (`quantity`, `equation`, `conventions`), for which problem (`parameters`), its
`value` as decimal text with a bound `error` by the better of both routes, how the package finds it (`function`,
`method`), what it rests on (`source`, a key of the literature; `derivation`, a module), and an independent `check`: the
name of a route (`ROUTES`), what that does, and numbers of its own.  `slow`: quick tests leave it out.

>>> entry = find("oracle/xor")
>>> entry.value, entry.check["route"]
('0.144927686780960895', 'sectors')
>>> verify(entry).agrees
True
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import Any

from quenched.numerics.compiled.precision import context
from quenched.sim.bank import by_averages, by_lazy, by_mixtures, by_networks, by_power_laws, by_replica
from quenched.sim.bank.problems import COMPUTED
from quenched.sim.bank.quadratures import Number, Parameters, Route

__all__ = ["ROUTES", "Entry", "Verification", "bank", "find", "matching", "verify"]


def _another(parameters: Parameters) -> tuple[Number, Number]:
    """The same number from another derivation of the package: `function` and what else it is told."""
    check = parameters["check"]
    return COMPUTED[check["function"]](parameters | check.get("parameters", {}))


ROUTES: dict[str, Route] = {"another derivation": _another} | {
    name.replace("_", " "): getattr(module, name)
    for module in (by_averages, by_lazy, by_mixtures, by_networks, by_power_laws, by_replica)
    for name in module.__all__
}
"""The independent routes, by the names that records use."""


@dataclass(frozen=True)
class Entry:
    """One result; see the head of the module."""

    id: str
    quantity: str
    equation: str
    conventions: str
    source: str
    derivation: str
    function: str
    parameters: Parameters
    value: str
    error: str
    method: str
    check: Parameters = field(default_factory=dict)
    slow: bool = False

    @property
    def subject(self) -> str:
        """The part of the ID before the slash."""
        return self.id.partition("/")[0]


@dataclass(frozen=True)
class Verification:
    """A record beside the package's value today and that of the independent route, each with its error.

    `agrees`: both lie within the sum of the errors of the record's value.
    """

    entry: Entry
    computed: Number
    computed_error: Number
    checked: Number
    checked_error: Number

    @property
    def gaps(self) -> tuple[Any, Any]:
        """The distances of the two from the record's value."""
        ctx = context(50)
        return tuple(abs(ctx.mpf(x) - ctx.mpf(self.entry.value)) for x in (self.computed, self.checked))

    @property
    def agrees(self) -> bool:
        """Whether both are within their errors; NaN is not."""
        stated = float(self.entry.error)
        errors = (self.computed_error, self.checked_error)
        return all(bool(gap <= stated + float(error)) for gap, error in zip(self.gaps, errors, strict=True))


@lru_cache(maxsize=1)
def bank() -> tuple[Entry, ...]:
    """All records, in the order of the file."""
    text = resources.files("quenched.sim.bank").joinpath("bank.json").read_text(encoding="utf-8")
    return tuple(Entry(**each) for each in json.loads(text)["results"])


def find(identity: str) -> Entry:
    """The record of this ID.  ValueError: there is none."""
    for entry in bank():
        if entry.id == identity:
            return entry
    raise ValueError(f"ID must be one of those that `quenched verify` lists, got {identity!r}")


def matching(wanted: Sequence[str]) -> Iterator[Entry]:
    """The records of these IDs or subjects, each once, in the order of the bank.  ValueError: an unknown one."""
    for name in wanted:
        if not any(name in (entry.id, entry.subject) for entry in bank()):
            find(name)
    return (entry for entry in bank() if {entry.id, entry.subject} & set(wanted))


def verify(entry: Entry) -> Verification:
    """The record's number by the package, and by its independent route."""
    computed = COMPUTED[entry.function](entry.parameters)
    checked = ROUTES[entry.check["route"]](entry.parameters | {"check": entry.check})
    return Verification(entry, *computed, *checked)
