"""The elementary functions that formulas are made of: one entry each, which all who read or write formulas follow.

An entry says how a user may write the function, which function of sympy it is, what generated code calls it and where
that comes from, and what it is at any precision.  `parse` and `emit` read the entries here; `quenched.numerics` reads
those of `theory/functions.py`, for compiled code and for mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy
from sympy.codegen.cfunctions import log1p

__all__ = ["ELEMENTARY", "TITLE", "Elementary", "generated", "imported", "printed", "written"]

TITLE = "Elementary functions"


@dataclass(frozen=True)
class Elementary:
    """A function called `name` in generated code, a ufunc of `module`, and `symbol` in sympy.

    A user writes one of the names `written`, which is read as `read` (the symbol itself, unless told otherwise).
    `multiprecision` is its Python expression for single numbers of an mpmath context `ctx`; `single`, if it is not that
    of `compiled`, its expression for single floats in the parameters of `arguments`.
    """

    name: str
    symbol: Callable[..., sympy.Expr] | None
    written: tuple[str, ...] = ()
    multiprecision: str = ""
    module: str = "numpy"
    compiled: str = "numpy"
    arguments: str = "x"
    single: str = ""
    read: Callable[..., sympy.Expr] | None = None

    def definition(self) -> str:
        """What makes it known to a compiled module: an import, or its definition."""
        if self.single:
            return f"@njit\ndef {self.name}({self.arguments}): return {self.single}\n"
        return f"from {self.compiled} import {self.name}\n"


ELEMENTARY: tuple[Elementary, ...] = (
    Elementary("absolute", sympy.Abs, ("Abs", "abs"), "abs"),
    Elementary("arccosh", sympy.acosh, (), "ctx.acosh"),
    Elementary("arcsin", sympy.asin, (), "ctx.asin"),
    Elementary("arctan", sympy.atan, ("atan",), "ctx.atan"),
    Elementary("cos", sympy.cos, ("cos",)),
    Elementary("cosh", sympy.cosh, ("cosh",)),
    Elementary("erf", sympy.erf, ("erf",), module="scipy.special", compiled="math"),
    Elementary("erfc", sympy.erfc, ("erfc",), module="scipy.special", compiled="math"),
    Elementary("exp", sympy.exp, ("exp",)),
    Elementary(
        "heaviside",
        sympy.Heaviside,
        ("Heaviside",),
        "lambda x, half: ctx.mpf(half if x == 0 else x > 0)",
        arguments="x, half",
        single="half if x == 0 else 1.0 if x > 0 else 0.0",
        read=lambda x: sympy.Heaviside(x),  # of one argument: the value at 0 is not for the user to choose
    ),
    Elementary("log", sympy.log, ("log",)),
    Elementary("log1p", log1p),
    Elementary("maximum", sympy.Max, ("Max", "max"), "max", arguments="x, y"),
    Elementary("minimum", sympy.Min, ("Min", "min"), "min", arguments="x, y"),
    Elementary("sign", sympy.sign, ("sign",)),
    Elementary("sin", sympy.sin, ("sin",)),
    Elementary("sinh", sympy.sinh, ("sinh",)),
    Elementary("sqrt", None, ("sqrt",), read=sympy.sqrt),
    Elementary("tanh", sympy.tanh, ("tanh",)),
    Elementary(
        "where",
        None,
        multiprecision="lambda condition, x, y: x if condition else y",
        arguments="condition, x, y",
        single="x if condition else y",
    ),
)
"""The functions, by their names in generated code."""

COMPOSED: dict[str, Callable[[sympy.Expr], sympy.Expr]] = {
    "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
    "softplus": lambda x: sympy.log(1 + sympy.exp(x)),
}
"""Further names that a user may write, for expressions in the functions above."""

_TABLE = '''class Function(NamedTuple):
    """An elementary function of generated code, called by its name in `module`.

    arguments: how many; compiled: the statement that defines it for single numbers in a module compiled by numba (the
    name njit is defined there); multiprecision: from an mpmath context to the function of single numbers.
    """

    module: str
    arguments: int
    compiled: str
    multiprecision: Callable[[Any], Callable[..., Any]]'''


def written() -> dict[str, Callable[..., sympy.Expr]]:
    """What a user may write, and how it is read."""
    found = {name: entry.read or entry.symbol for entry in ELEMENTARY for name in entry.written}
    return {name: read for name, read in {**found, **COMPOSED}.items() if read is not None}


def printed() -> dict[str, str]:
    """Name of the class in sympy -> name in generated code."""
    return {getattr(entry.symbol, "__name__", ""): entry.name for entry in ELEMENTARY if entry.symbol is not None}


def imported() -> dict[str, list[str]]:
    """Module -> the functions that generated code may import from it."""
    found: dict[str, list[str]] = {}
    for entry in ELEMENTARY:
        found.setdefault(entry.module, []).append(entry.name)
    return found


def generated() -> str:
    """The table for `quenched.numerics`."""
    entries = []
    for entry in ELEMENTARY:
        count, meaning = len(entry.arguments.split(",")), entry.multiprecision or f"ctx.{entry.name}"
        definition = entry.definition().replace("\n", "\\n")
        members = (f'"{entry.module}"', str(count), f'"{definition}"', f"lambda ctx: {meaning}")
        text = f'    "{entry.name}": Function({", ".join(members)}),'
        if len(text) > 120:
            text = f'    "{entry.name}": Function(\n' + "".join(f"        {m},\n" for m in members) + "    ),"
        entries.append(text)
    return f"{_TABLE}\n\n\nFUNCTIONS: dict[str, Function] = {{\n" + "\n".join(entries) + "\n}"
