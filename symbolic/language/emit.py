"""From expressions to Python text: f-strings and one printer.

Generated functions are plain expressions in NumPy and SciPy ufuncs, so they take floats and arrays (CuPy ones too), and
`quenched.numerics.calculus.precision.bind` runs the same text compiled or in mpmath by giving its names other meanings.
For that no constant is rounded: a rational that a binary float cannot hold divides a variable, or is a `ratio` of
integers, which compiled code reads as the float next to it and mpmath at full precision.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections.abc import Iterable

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from quenched.symbolic.language.notation import Derived, Specification, derived, specification_symbols

__all__ = ["assignments", "code", "einsum", "function", "header", "wrap"]

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
    {"quenched.theory.normal": ["Phi2", "Phi3", "Phi4", "ratio", "remainder", "residual"]},
)
WIDTH = 120
_LONGEST_SUM = 400  # terms; a longer one goes in parts, for readers of a sum descend into each of its terms
_EXACT = 2**53  # up to here a float holds every integer


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

    def _print_ExprCondPair(self, expr: sympy.Basic) -> str:
        raise ValueError(f"{expr}: a condition outside of a Piecewise")

    def _print_Piecewise(self, expr: sympy.Piecewise) -> str:
        *pairs, (last, _) = expr.args
        text = self._print(last)
        for value, condition in reversed(pairs):
            text = f"where({self._print(condition)}, {self._print(value)}, {text})"
        return text

    def _print_Add(self, expr: sympy.Add, order: str | None = None) -> str:
        terms = self._as_ordered_terms(expr, order=order)
        if len(terms) <= _LONGEST_SUM:
            return str(super()._print_Add(expr, order))
        size = math.isqrt(len(terms))
        parts = [sympy.Add(*terms[i : i + size], evaluate=False) for i in range(0, len(terms), size)]
        return " + ".join(f"({self._print_Add(part, order)})" for part in parts)

    def _print_Exp1(self, expr: sympy.Expr) -> str:
        return "exp(1)"

    def _print_Integer(self, expr: sympy.Integer) -> str:
        return str(expr.p) if abs(expr.p) <= _EXACT else self._ratio(expr)

    def _print_Rational(self, expr: sympy.Rational) -> str:
        return f"{expr.p}/{expr.q}" if _is_float(expr) else self._ratio(expr)

    @staticmethod
    def _ratio(number: sympy.Rational) -> str:
        return f"{'-' if number < 0 else ''}ratio({abs(number.p)}, {number.q})"

    def _print_Mul(self, expr: sympy.Mul) -> str:
        number, rest = expr.as_coeff_Mul()
        if not number.is_Rational or max(abs(number.p), number.q) <= _EXACT:
            return str(super()._print_Mul(expr))
        return f"{self._ratio(number)}*{self.parenthesize(rest, PRECEDENCE['Mul'])}"


def _is_float(number: sympy.Rational) -> bool:
    """Whether p/q, divided in floats, is the number itself."""
    return bool(number.q & (number.q - 1) == 0 and max(abs(number.p), number.q) <= _EXACT)


def code(expression: sympy.Expr) -> str:
    """Python source of an expression, in the names of numpy and scipy.special.

    >>> x = sympy.Symbol("x")
    >>> code(sympy.exp(-x**2 / 2) / 3), code(x + sympy.Rational(1, 3)), code(x**sympy.Rational(1, 3))
    ('exp(-x**2/2)/3', 'x + ratio(1, 3)', 'x**ratio(1, 3)')
    """
    return str(_Printer().doprint(expression))


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


def einsum(expression: sympy.Expr, output: str, indent: str) -> str:
    """A sum of products of indexed arrays; indices outside `output` are summed.

    >>> from sympy import Idx, IndexedBase
    >>> i, k = Idx("i"), Idx("k")
    >>> einsum(-2 * IndexedBase("Q")[k, i] * IndexedBase("v")[i], "k", "")
    '-2*einsum("ki,i->k", Q, v)'
    """
    lines = []
    for term in sorted(sympy.Add.make_args(expression), key=sympy.default_sort_key):
        scalar, operands = sympy.Integer(1), []
        for factor in sympy.Mul.make_args(term):
            base, exponent = factor.as_base_exp()
            if isinstance(base, sympy.Indexed):
                operands += [base] * int(exponent)
            else:
                scalar *= factor
        operands.sort(key=str)
        subscripts = ",".join("".join(str(index) for index in o.indices) for o in operands)
        arrays = ", ".join(str(o.base) for o in operands)
        product = f'einsum("{subscripts}->{output}", {arrays})'
        prefix = code(scalar)
        lines.append(product if prefix == "1" else f"-{product}" if prefix == "-1" else f"{prefix}*{product}")
    text = f"\n{indent}+ ".join(lines)
    return text.replace("+ -", "- ")


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
