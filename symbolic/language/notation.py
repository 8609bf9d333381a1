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
from typing import Annotated

import sympy

__all__ = ["Derived", "Formula", "Positive", "Real", "Specification", "Step", "derived", "specification_symbols"]

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


def specification_symbols(specification: Specification) -> tuple[sympy.Symbol, ...]:
    """The symbols a specification is called with, from its parameter names and annotations (`Real`, `Positive`)."""
    hints = typing.get_type_hints(specification, include_extras=True)
    symbols = []
    for name in inspect.signature(specification).parameters:
        assumption = hints[name].__metadata__[0]
        symbols.append(sympy.Symbol(name, **{"real": True, assumption: True}))
    return tuple(symbols)


def derived(specification: Specification) -> Derived:
    """Call a specification on its symbols; a bare expression is wrapped in a `Derived`."""
    outcome = specification(*specification_symbols(specification))
    return outcome if isinstance(outcome, Derived) else Derived(outcome)


@dataclass(frozen=True)
class Formula:
    """A derived function: what the emitter writes and the document tells.

    `meanings` says what an argument is (its shape first, where it has one), `above` what stands over the function: the
    formula in one line, the rules that led to it.  Values stand `row` to a row, and `labels` say what each row is.
    """

    name: str
    docstring: str
    arguments: tuple[sympy.Symbol, ...]
    outcome: Derived
    meanings: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    above: tuple[str, ...] = ()
    row: int = 1

    @classmethod
    def of(cls, specification: Specification) -> Formula:
        """That of a specification; an annotation `Annotated[Real, "(C,): weights"]` gives the meaning."""
        hints = typing.get_type_hints(specification, include_extras=True)
        notes = {name: hints[name].__metadata__[1:] for name in inspect.signature(specification).parameters}
        return cls(
            specification.__name__,
            inspect.getdoc(specification) or "",
            specification_symbols(specification),
            derived(specification),
            {name: note[0] for name, note in notes.items() if note},
        )
