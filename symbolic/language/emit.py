"""From expressions to Python text: f-strings and one printer.

Generated functions are plain expressions in NumPy and SciPy ufuncs, so they take floats and arrays (CuPy ones too), and
`quenched.numerics.calculus.precision.bind` runs the same text compiled or in mpmath by giving its names other meanings.
For that no constant is rounded: rationals that binary floats cannot hold are only printed as a division of a variable.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from quenched.symbolic.language.notation import Derived, Specification, derived, specification_symbols

__all__ = ["WIDTH", "assignments", "code", "function", "header", "wrap"]

_NAMES = {
    "Abs": "absolute",
    "Max": "maximum",
    "Min": "minimum",
    "Phi": "Phi",
    "Phi2": "Phi2",
    "Phi3": "Phi3",
    "Phi4": "Phi4",
    "Remainder": "remainder",
    "Residual": "residual",
    "acosh": "arccosh",
    "asin": "arcsin",
    "atan": "arctan",
    "cos": "cos",
    "cosh": "cosh",
    "erf": "erf",
    "erfc": "erfc",
    "exp": "exp",
    "log": "log",
    "log1p": "log1p",
    "sign": "sign",
    "sin": "sin",
    "sinh": "sinh",
    "tanh": "tanh",
}
_IMPORTS: tuple[dict[str, list[str]], ...] = (  # standard library, others, our own
    {"collections.abc": ["Callable", "Mapping"], "typing": ["NamedTuple"]},
    {
        "numpy": [
            "absolute",
            "arccosh",
            "arcsin",
            "arctan",
            "cos",
            "cosh",
            "einsum",
            "exp",
            "eye",
            "float64",
            "heaviside",
            "log",
            "log1p",
            "maximum",
            "minimum",
            "pi",
            "sign",
            "sin",
            "sinh",
            "sqrt",
            "tanh",
            "where",
        ],
        "numpy.polynomial.legendre": ["leggauss"],
        "numpy.typing": ["NDArray"],
        "scipy.special": ["erf", "erfc", "ndtr as Phi"],
    },
    {"quenched.theory.normal": ["Phi2", "Phi3", "Phi4", "remainder", "residual"]},
)
WIDTH = 120


class _Printer(StrPrinter):
    """Python source of an expression, exact."""

    def _print_Function(self, expr: sympy.Function) -> str:
        name = type(expr).__name__
        if isinstance(expr, sympy.Heaviside):
            return f"heaviside({self._print(expr.args[0])}, 1/2)"
        if name not in _NAMES:
            raise ValueError(f"{expr}: no generated code for {name}")
        return f"{_NAMES[name]}({', '.join(self._print(argument) for argument in expr.args)})"

    _print_Max = _print_Min = _print_Heaviside = _print_Function

    def _print__Over(self, expr: sympy.Function) -> str:
        return f"({self._print(expr.args[0])})/{expr.args[1]}"

    def _print_ExprCondPair(self, expr: sympy.Basic) -> str:
        raise ValueError(f"{expr}: a condition outside of a Piecewise")

    def _print_Piecewise(self, expr: sympy.Piecewise) -> str:
        *pairs, (last, _) = expr.args
        text = self._print(last)
        for value, condition in reversed(pairs):
            text = f"where({self._print(condition)}, {self._print(value)}, {text})"
        return text

    def _print_Rational(self, expr: sympy.Rational) -> str:
        if expr.q & (expr.q - 1):
            raise ValueError(f"{expr} is not a binary fraction: write it over a common denominator")
        return f"{expr.p}/{expr.q}"


def code(expression: sympy.Expr) -> str:
    """Python source of an expression, in the names of numpy and scipy.special.

    >>> x = sympy.Symbol("x")
    >>> code(sympy.exp(-x**2 / 2) / 3)
    'exp(-x**2/2)/3'
    """
    return str(_Printer().doprint(_common_denominator(expression)))


class _Over(sympy.Function):
    """A sum over an integer, kept as it is: sympy would distribute the one over the other."""

    nargs = 2
    precedence = PRECEDENCE["Add"]


def _common_denominator(expression: sympy.Expr) -> sympy.Expr:
    """a + 1/3 -> (3 a + 1)/3, so that no rounded constant is printed; not `together`, which would turn exp(-x) over."""

    def awkward(e: sympy.Basic) -> bool:
        return isinstance(e, sympy.Add) and any(arg.is_Rational and arg.q & (arg.q - 1) for arg in e.args)

    def over(e: sympy.Add) -> sympy.Expr:
        q = sympy.ilcm(1, *(arg.q for arg in e.args if arg.is_Rational))
        return _Over(sympy.Add(*(q * arg for arg in e.args)), q)

    return expression.replace(awkward, over) if expression.has(sympy.Rational) else expression


def wrap(line: str, indent: str = "    ") -> str:
    """Break a long statement inside parentheses, at spaces."""
    if len(line) <= WIDTH:
        return line
    name, _, value = line.partition(" = ")
    if not value:
        name, _, value = line.partition("return ")
        name = name + "return"
        joint = " "
    else:
        joint = " = "
    inner = textwrap.wrap(value, WIDTH - len(indent) - 4, break_long_words=False, break_on_hyphens=False)
    body = "\n".join(f"{indent}    {part}" for part in inner)
    return f"{name}{joint}(\n{body}\n{indent})"


def _element(value: str) -> str:
    """One line, or several, of a tuple."""
    return textwrap.fill(
        f"{value},",
        WIDTH,
        initial_indent=" " * 8,
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )


def assignments(definitions: Iterable[tuple[sympy.Symbol, sympy.Expr]], indent: str = "    ") -> list[str]:
    """One statement for each definition."""
    return [wrap(f"{indent}{symbol} = {code(expression)}", indent) for symbol, expression in definitions]


def _docstring(text: str, indent: str = "    ") -> str:
    lines = inspect.cleandoc(text).splitlines()
    quote = '"""' if "\\" not in text else 'r"""'
    if len(lines) == 1:
        return f'{indent}{quote}{lines[0]}"""'
    body = [lines[0], *(f"{indent}{line}" if line else "" for line in lines[1:])]
    return "\n".join([indent + quote + body[0], *body[1:], f'{indent}"""'])


def function(
    specification: Specification | None = None,
    *,
    name: str = "",
    arguments: tuple[sympy.Symbol, ...] = (),
    docstring: str = "",
    outcome: Derived | None = None,
) -> str:
    """Source of the function that evaluates a specification (or an outcome that was derived already)."""
    if specification is not None:
        name, arguments = specification.__name__, specification_symbols(specification)
        docstring, outcome = inspect.getdoc(specification) or "", derived(specification)
    assert outcome is not None
    signature = ", ".join(f"{symbol}: float" for symbol in arguments)
    many = isinstance(outcome.value, tuple)
    lines = [f"def {name}({signature}) -> {'tuple[float, ...]' if many else 'float'}:"]
    if len(lines[0]) > WIDTH:
        lines = [
            "\n".join(
                [
                    f"def {name}(",
                    *textwrap.wrap(signature, WIDTH - 4, initial_indent="    ", subsequent_indent="    "),
                    f") -> {'tuple[float, ...]' if many else 'float'}:",
                ]
            )
        ]
    lines.append(_docstring(docstring))
    lines += assignments(outcome.definitions)
    if many:
        lines += ["    return (", *(_element(code(value)) for value in outcome.values), "    )"]
    else:
        integrals = outcome.values[0].atoms(sympy.Integral)
        lines += _quadrature(outcome.values[0]) if integrals else [wrap(f"    return {code(outcome.values[0])}")]
    return "\n".join(lines)


def _quadrature(value: sympy.Expr) -> list[str]:
    """A sum with one integral over theta: Gauss-Legendre nodes, the integrand spelled out by common subexpressions."""
    (integral,) = value.atoms(sympy.Integral)
    theta, lower, upper = integral.limits[0]
    shared, (integrand,) = sympy.cse(integral.function, order="canonical")
    return [
        wrap(f"    total = {code(value.xreplace({integral: sympy.Integer(0)}))}"),
        f"    half = ({code(upper)} - {code(lower)})/2" if lower != 0 else f"    half = {code(upper / 2)}",
        "    for node, weight in GAUSS:",
        f"        {theta} = {code(lower) + ' + ' if lower != 0 else ''}half*(1 + node)",
        *assignments(shared, "        "),
        wrap(f"        total = total + half*weight*({code(integrand)})", "        "),
        "    return total",
    ]


def header(source: str, docstring: str, body: str, extra: str = "") -> str:
    """A whole generated module: what it is, where it comes from, the imports that its body needs, the body."""
    prose_free = re.sub(r'r?""".*?"""|"[^"\n]*"', "", f"{extra}\n{body}", flags=re.S)
    used = set(re.findall(r"\b[A-Za-z_]\w*\b", prose_free))
    defined = set(re.findall(r"^(?:def|class) (\w+)|^([A-Z]\w*)\b", body, flags=re.M))
    public = sorted(first or second for first, second in defined if not (first or second).startswith("_"))
    blocks = []
    for group in _IMPORTS:
        lines = []
        for module, names in group.items():
            wanted = sorted(n for n in names if n.split(" as ")[-1] in used and n.split(" as ")[-1] not in public)
            plain = [n for n in wanted if " as " not in n]
            lines += [f"from {module} import {', '.join(plain)}"] if plain else []
            lines += [f"from {module} import {n}" for n in wanted if " as " in n]
        blocks.append("\n".join(lines))
    exported = textwrap.fill(
        ", ".join(f'"{n}"' for n in public), WIDTH - 4, initial_indent="    ", subsequent_indent="    "
    )
    parts = [
        f'"""{docstring}\n\nGenerated by `quenched derive` from {source}; do not edit.\n"""',
        "from __future__ import annotations",
        *blocks,
        f"__all__ = [\n{exported},\n]",
        extra,
    ]
    return "\n\n".join(part for part in parts if part) + f"\n\n\n{body.rstrip()}\n"
