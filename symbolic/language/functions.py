"""The elementary functions that formulas are made of: one entry each, which all who read or write formulas follow.

An entry says how a user may write the function, which function of sympy it is, what generated code calls it and where
that comes from, and what it is at any precision.  `grammar` and `emit` read the entries here; `quenched.numerics` reads
those of `theory/functions.py`, for compiled code and for mpmath.  Names stand for the functions, so that the grammar
runs without sympy.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "COMPOSED",
    "ELEMENTARY",
    "ORDER",
    "PART",
    "TITLE",
    "Elementary",
    "generated",
    "imported",
    "many",
    "printed",
    "steep",
    "written",
]

TITLE = "Elementary functions"
PART, ORDER = "tables", 2


@dataclass(frozen=True)
class Elementary:
    """A function called `name` in generated code, a ufunc of `module`, and `symbol` in sympy.

    `written`: what a user may write for it.  `multiprecision` is its Python expression for single numbers of an mpmath
    context `ctx`; `single`, where compiled code does not import it from `compiled`, its expression for single floats in
    the parameters of `arguments`.  `many`: a user may give it any number of arguments; `steep`: it grows exponentially.
    """

    name: str
    symbol: str
    written: tuple[str, ...] = ()
    multiprecision: str = ""
    module: str = "numpy"
    compiled: str = "numpy"
    arguments: str = "x"
    single: str = ""
    many: bool = False
    steep: bool = False

    def definition(self) -> str:
        """What makes it known to a compiled module: an import, or its definition."""
        if self.single:
            return f"@njit\ndef {self.name}({self.arguments}): return {self.single}\n"
        return f"from {self.compiled} import {self.name}\n"


ELEMENTARY: tuple[Elementary, ...] = (
    Elementary("absolute", "Abs", ("Abs", "abs"), "abs"),
    Elementary("arccosh", "acosh", (), "ctx.acosh"),
    Elementary("arcsin", "asin", (), "ctx.asin"),
    Elementary("arctan", "atan", ("atan",), "ctx.atan"),
    Elementary("cos", "cos", ("cos",)),
    Elementary("cosh", "cosh", ("cosh",), steep=True),
    Elementary("erf", "erf", ("erf",), module="scipy.special", compiled="math"),
    Elementary("erfc", "erfc", ("erfc",), module="scipy.special", compiled="math"),
    Elementary("exp", "exp", ("exp",), steep=True),
    Elementary("gamma", "gamma", module="scipy.special", compiled="math"),
    Elementary(
        "heaviside",
        "Heaviside",
        ("Heaviside",),
        "lambda x, half: ctx.mpf(half if x == 0 else x > 0)",
        arguments="x, half",
        single="half if x == 0 else 1.0 if x > 0 else 0.0",
    ),
    Elementary("log", "log", ("log",)),
    Elementary("log1p", "log1p"),
    Elementary("maximum", "Max", ("Max", "max"), "max", arguments="x, y", many=True),
    Elementary("minimum", "Min", ("Min", "min"), "min", arguments="x, y", many=True),
    Elementary("sign", "sign", ("sign",)),
    Elementary("sin", "sin", ("sin",)),
    Elementary("sinh", "sinh", ("sinh",), steep=True),
    Elementary("sqrt", "sqrt", ("sqrt",)),
    Elementary("tanh", "tanh", ("tanh",)),
    Elementary(
        "where",
        "Piecewise",
        multiprecision="lambda condition, x, y: x if condition else y",
        arguments="condition, x, y",
        single="x if condition else y",
    ),
)
"""The functions, by their names in generated code."""

COMPOSED: dict[str, str] = {
    "sigmoid": "1/(1 + exp(-x))",
    "softplus": "log(1 + exp(x))",
}
"""Further names that a user may write, for expressions in the functions above."""

_TABLE = '''class Function(NamedTuple):
    """An elementary function of generated code, called by its name in `module`.

    arguments: how many; compiled: the statement that defines it for single numbers in a module compiled by numba (the
    name njit is defined there); multiprecision: from an mpmath context to the function of single numbers; written: what
    a user may write for it.
    """

    module: str
    arguments: int
    compiled: str
    multiprecision: Callable[[Any], Callable[..., Any]]
    written: tuple[str, ...]'''


def written() -> dict[str, str]:
    """What a user may write -> its name in sympy, or its definition in x."""
    return {name: entry.symbol for entry in ELEMENTARY for name in entry.written} | COMPOSED


def many() -> frozenset[str]:
    """The names in sympy of the functions that take any number of arguments."""
    return frozenset(entry.symbol for entry in ELEMENTARY if entry.many)


def steep() -> frozenset[str]:
    """What a user may write for something that grows exponentially."""
    names = {name for entry in ELEMENTARY if entry.steep for name in entry.written}
    return frozenset(names | {name for name, text in COMPOSED.items() if any(f"{n}(" in text for n in names)})


def printed() -> dict[str, str]:
    """Name in sympy -> name in generated code."""
    return {entry.symbol: entry.name for entry in ELEMENTARY}


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
        names = "".join(f'"{name}", ' for name in entry.written)
        written = f"({names.strip() if len(entry.written) == 1 else names.rstrip(', ')})"
        members = (f'"{entry.module}"', str(count), f'"{definition}"', f"lambda ctx: {meaning}", written)
        text = f'    "{entry.name}": Function({", ".join(members)}),'
        if len(text) > 120:
            text = f'    "{entry.name}": Function(\n' + "".join(f"        {m},\n" for m in members) + "    ),"
        entries.append(text)
    return f"{_TABLE}\n\n\nFUNCTIONS: dict[str, Function] = {{\n" + "\n".join(entries) + "\n}"
