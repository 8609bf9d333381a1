"""From expressions to Python text: f-strings and one printer.

Generated functions are plain expressions in NumPy and SciPy ufuncs, so they take floats and arrays (CuPy ones too), and
`quenched.numerics.compiled.precision.bind` runs the same text compiled or in mpmath by giving its names other meanings.
For that no constant is rounded: a rational that a binary float cannot hold divides a variable, or is a `ratio` of
integers, which compiled code reads as the float next to it and mpmath at full precision.
"""

from __future__ import annotations

import inspect
import math
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

import sympy
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.str import StrPrinter

from quenched.symbolic.language import functions
from quenched.symbolic.language.notation import Derived, Formula

__all__ = ["WIDTH", "assignments", "code", "function", "header", "package", "wrap"]

_PROBABILITIES = ("Phi", "Phi2", "Phi3", "Phi4")
_NAMES = (
    functions.printed()
    | {name: name for name in _PROBABILITIES}
    | {
        "Remainder": "remainder",
        "Residual": "residual",
    }
)
_FUNCTIONS = functions.imported()
_IMPORTS: tuple[dict[str, list[str]], ...] = (  # standard library, others, our own
    {
        "collections.abc": ["Callable", "Iterator", "Mapping"],
        "importlib": ["import_module"],
        "typing": ["Any", "NamedTuple"],
    },
    {
        "numpy": [*_FUNCTIONS["numpy"], "einsum", "eye", "float64", "pi"],
        "numpy.polynomial.legendre": ["leggauss"],
        "numpy.typing": ["NDArray"],
        "scipy.special": _FUNCTIONS["scipy.special"],
    },
    {
        "quenched.theory.activations": ["Averages"],
        "quenched.theory.gradients": ["Gradient"],
        "quenched.theory.normal": ["Phi", "Phi2", "Phi3", "Phi4", "ratio", "remainder", "residual"],
    },
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
    ('exp(-x**2/2)/3', 'x + ratio(1, 3)', 'x**(ratio(1, 3))')
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


def _rows(values: Sequence[sympy.Expr], width: int, labels: Sequence[str]) -> list[str]:
    """The elements of a tuple, `width` of them to a row, a row's label beside it or, where that is too long, above."""
    indent, lines = " " * 8, []
    for row, label in enumerate(labels or [""] * (len(values) // width)):
        packed = [""]
        for value in values[row * width : (row + 1) * width]:
            element = f"{code(value)},"
            if packed[-1] and len(packed[-1]) + 1 + len(element) <= WIDTH - len(indent):
                packed[-1] += f" {element}"
            else:
                packed.append(element)
        whole = [
            textwrap.wrap(text, WIDTH - len(indent), break_long_words=False, break_on_hyphens=False) for text in packed
        ]
        texts = [indent + text for part in whole for text in part]
        beside = f"{texts[0]}  # {label}"
        fits = len(texts) == 1 and len(beside) <= WIDTH
        lines += [beside] if label and fits else [*([f"{indent}# {label}"] if label else []), *texts]
    return lines


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


def _signature(formula: Formula, result: str) -> list[str]:
    """On one line, or one parameter a line where one has a meaning or the line is too long."""
    outcome = formula.outcome
    expressions = (*outcome.values, *(value for _, value in outcome.definitions))
    used = {symbol.name for expression in expressions for symbol in expression.free_symbols}
    parameters, unpacked, left = [], [], list(map(str, formula.arguments))
    for name, members in (formula.records or dict.fromkeys(left, 0)).items():
        taken, left = left[: max(members, 1)], left[max(members, 1) :]
        if members:
            unpacked.append(f"    {', '.join(member if member in used else '_' for member in taken)} = {name}")
        meaning = formula.meanings.get(name, ", ".join(taken) if members else "")
        parameters.append((f"{name}: {'tuple[float, ...]' if members else 'float'}", meaning))
    line = f"def {formula.name}({', '.join(parameter for parameter, _ in parameters)}) -> {result}:"
    if len(line) > WIDTH or any(meaning for _, meaning in parameters):
        lines = [f"    {parameter},{f'  # {meaning}' if meaning else ''}" for parameter, meaning in parameters]
        line = "\n".join([f"def {formula.name}(", *lines, f") -> {result}:"])
    return [line, _docstring(formula.docstring), *unpacked]


def _folded(outcome: Derived) -> list[tuple[sympy.Symbol, sympy.Expr]]:
    """The definitions, with the limits and correlations that one probability alone has written inside its Phi_n.

    As long as the line holds them: what two probabilities share keeps its name.
    """
    known = dict(outcome.definitions)
    expressions = (*known.values(), *outcome.values)
    uses = Counter(node for each in expressions for node in sympy.preorder_traversal(each) if node in known)
    gone = set()
    for symbol, value in known.items():
        if type(value).__name__ not in _PROBABILITIES:
            continue
        for argument in value.args:
            if uses[argument] == 1:
                folded = value.xreplace({argument: known[argument]})
                if len(f"    {symbol} = {code(folded)}") <= WIDTH:
                    value = folded
                    gone.add(argument)
        known[symbol] = value
    return [(symbol, value) for symbol, value in known.items() if symbol not in gone]


def function(formula: Formula) -> str:
    """Source of the function that evaluates a formula."""
    outcome = formula.outcome
    many = isinstance(outcome.value, tuple)
    lines = [part for line in formula.above for part in comment(line)]
    lines += _signature(formula, "tuple[float, ...]" if many else "float")
    lines += assignments(_folded(outcome))
    if many:
        lines += ["    return (", *_rows(outcome.values, formula.row, formula.labels), "    )"]
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


def comment(line: str) -> list[str]:
    """A line over a function, as one comment or as several lines of it."""
    return textwrap.wrap(line, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_on_hyphens=False)


def entry(name: str, kind: str, members: Sequence[object], more: str = "") -> str:
    """An entry of a table of records: its members packed into lines, `more` after them."""
    told = textwrap.wrap(", ".join(map(str, members)) + ",", WIDTH - 8, break_long_words=False, break_on_hyphens=False)
    return "\n".join(
        [f'    "{name}": {kind}(', *(f"        {line}" for line in told), *([more] if more else []), "    ),"]
    )


def package(docstring: str) -> str:
    """The __init__ of a folder of generated modules, of which nothing is exported."""
    return f'"""{docstring}\n\nGenerated by `quenched derive`; do not edit.\n"""\n\n__all__: list[str] = []\n'


def header(source: str, docstring: str, body: str, legend: str = "") -> str:
    """A whole generated module: what it is, its source, a legend, the imports that its body needs, the body."""
    prose_free = re.sub(r'r?""".*?"""|"[^"\n]*"', "", body, flags=re.S)
    used = set(re.findall(r"(?<![\w.])[A-Za-z_]\w*", prose_free))
    called = set(re.findall(r"(?<![\w.])(\w+)\(", prose_free))
    defined = set(re.findall(r"^(?:def|class) (\w+)|^([A-Z]\w*)\b", body, flags=re.M))
    found = {first or second for first, second in defined}
    # constants, classes, functions, as the linter orders them
    public = sorted(
        (n for n in found if n[0] != "_"), key=lambda n: (0 if n.isupper() else 2 if n[0].islower() else 1, n)
    )
    blocks = []
    for group in _IMPORTS:
        lines = []
        for module, names in group.items():
            # an argument may be called ratio or gamma, too
            known = called if module in ("quenched.theory.normal", "scipy.special") else used
            wanted = sorted(n for n in names if n.split(" as ")[-1] in known and n.split(" as ")[-1] not in public)
            plain = [n for n in wanted if " as " not in n]
            lines += [f"from {module} import {', '.join(plain)}"] if plain else []
            lines += [f"from {module} import {n}" for n in wanted if " as " in n]
        blocks.append("\n".join(lines))
    listing = ", ".join(f'"{n}"' for n in public)
    exported = f"__all__ = [{listing}]"
    if len(exported) > WIDTH:
        inside = textwrap.fill(listing, WIDTH - 4, initial_indent="    ", subsequent_indent="    ")
        exported = f"__all__ = [\n{inside},\n]"
    parts = [
        '"""'
        + "\n\n".join(
            [docstring, f"Generated by `quenched derive` from {source}; do not edit.", *([legend] * bool(legend))]
        )
        + '\n"""',
        "from __future__ import annotations",
        *blocks,
        exported,
    ]
    return "\n\n".join(part for part in parts if part) + f"\n\n\n{body.rstrip()}\n"
