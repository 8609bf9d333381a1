"""The vocabulary of a derivation: symbols, the record it returns, the rules it may cite.

A specification is a plain function on symbols.  Its parameter names and annotations say which symbols it
receives, its docstring becomes that of the generated function:

>>> def area(width: Positive, height: Positive) -> sympy.Expr:
...     "Area of a rectangle."
...     return width * height
>>> specification_symbols(area)
(width, height)
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated

import sympy

__all__ = [
    "Derived",
    "Formula",
    "Positive",
    "Real",
    "Specification",
    "Step",
    "derived",
    "specification_arguments",
    "specification_symbols",
]

Real = Annotated[sympy.Symbol, "real"]
Positive = Annotated[sympy.Symbol, "positive"]


@dataclass(frozen=True)
class Step:
    """One line of a derivation: the named rule that was applied and what it gave, as LaTeX (math mode)."""

    rule: str
    latex: str


@dataclass(frozen=True)
class Derived:
    """The outcome of a derivation.

    `value` is one expression or a tuple of them, written in the specification's symbols and in the symbols that
    `definitions` introduces, in order, each in terms of those before it.  `steps` tells how it came about.
    """

    value: sympy.Expr | tuple[sympy.Expr, ...]
    definitions: tuple[tuple[sympy.Symbol, sympy.Expr], ...] = ()
    steps: tuple[Step, ...] = ()

    @property
    def values(self) -> tuple[sympy.Expr, ...]:
        """The value as a tuple, whatever its arity."""
        return self.value if isinstance(self.value, tuple) else (self.value,)

    @property
    def rules(self) -> tuple[str, ...]:
        """The names of the rules that were applied, in the order of their first use."""
        return tuple(dict.fromkeys(step.rule for step in self.steps if step.rule != "Result"))

    def explicit(self) -> tuple[sympy.Expr, ...]:
        """The values with every definition substituted back, in the specification's symbols alone."""
        known: dict[sympy.Symbol, sympy.Expr] = {}
        for symbol, expression in self.definitions:
            known[symbol] = expression.xreplace(known)
        return tuple(value.xreplace(known) for value in self.values)


Specification = Callable[..., "sympy.Expr | Derived"]


def specification_arguments(specification: Specification) -> dict[str, sympy.Symbol | tuple[sympy.Symbol, ...]]:
    """What a specification is called with: a symbol for each `Real` or `Positive`, and for each record of them
    (a NamedTuple, where a formula would have too many parameters) the record of its symbols.
    """
    hints = typing.get_type_hints(specification, include_extras=True)
    found: dict[str, sympy.Symbol | tuple[sympy.Symbol, ...]] = {}
    for name in inspect.signature(specification).parameters:
        kind = hints[name]
        if isinstance(kind, type) and issubclass(kind, tuple):
            members = typing.get_type_hints(kind, include_extras=True)
            found[name] = kind(*(_symbol(member, hint) for member, hint in members.items()))
        else:
            found[name] = _symbol(name, kind)
    return found


def _symbol(name: str, hint: typing.Any) -> sympy.Symbol:
    return sympy.Symbol(name, **{"real": True, hint.__metadata__[0]: True})


def specification_symbols(specification: Specification) -> tuple[sympy.Symbol, ...]:
    """The symbols of a specification, those of records one by one, in order."""
    symbols: list[sympy.Symbol] = []
    for argument in specification_arguments(specification).values():
        symbols += argument if isinstance(argument, tuple) else [argument]
    return tuple(symbols)


@cache
def derived(specification: Specification) -> Derived:
    """Call a specification on its symbols, once; a bare expression is wrapped in a `Derived`."""
    outcome = specification(*specification_arguments(specification).values())
    return outcome if isinstance(outcome, Derived) else Derived(outcome)


@dataclass(frozen=True)
class Formula:
    """A derived function: what the emitter writes and the document tells.

    `meanings` says what an argument is (its shape first, where it has one), `above` what stands over the function: the
    formula in one line, the rules that led to it.  Values stand `row` to a row, and `labels` say what each row is.
    `records`, where a parameter is a tuple of arguments: all parameters, name -> how many, 0 for one by itself.
    """

    name: str
    docstring: str
    arguments: tuple[sympy.Symbol, ...]
    outcome: Derived
    meanings: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    row: int = 1
    records: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, specification: Specification) -> Formula:
        """That of a specification; an annotation `Annotated[Real, "(C,): weights"]` gives the meaning."""
        hints = typing.get_type_hints(specification, include_extras=True)
        arguments = specification_arguments(specification)
        records = {name: len(symbols) for name, symbols in arguments.items() if isinstance(symbols, tuple)}
        notes = {name: hints[name].__metadata__[1:] for name in arguments if name not in records}
        return cls(
            specification.__name__,
            inspect.getdoc(specification) or "",
            specification_symbols(specification),
            derived(specification),
            {name: note[0] for name, note in notes.items() if note},
            records=dict.fromkeys(arguments, 0) | records if records else {},
        )
