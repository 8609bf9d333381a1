"""What a user may write for an activation, a loss, an integrand: a name, or an expression of functions listed here.

The only reader of such text.  It knows the names and nothing else, so that it runs without sympy: the records call it
when they are made (`quenched.numerics.problem.checks`), the derivation calls it again before it gives an expression a
meaning (`quenched.symbolic.language.parse`).  numerics may import this one module of symbolic/, and it imports the
standard library and the table of `functions` alone.  The table could not stand in theory/, which holds what was
derived, nor in numerics, which symbolic/ does not know.

What comes out is printed from the syntax tree that was read.  Nothing else that a user wrote goes further: a comment, a
quote, a backslash, a new line, a letter beyond ASCII is refused before there is a tree.  The limits keep what is read
small: numbers that a float holds, exponents that are numbers, polynomials of moderate degree.
"""

from __future__ import annotations

import ast
import difflib
import re
import threading
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple, overload

from quenched.symbolic.language import functions

__all__ = [
    "ACTIVATION",
    "BUILTIN",
    "CLASS_LOSSES",
    "DERIVED",
    "FUNCTIONS",
    "INTEGRAND",
    "LOSS",
    "LOSSES",
    "NAMED",
    "RULE_LOSS",
    "SCHEDULE",
    "Grammar",
    "canonical",
    "expression",
    "syntax_tree",
]

# CPython 3.11 keeps the depth of the tree that it builds in a variable of the interpreter: of two threads that parse at
# the same time, one ends in "SystemError: AST constructor recursion depth mismatch".
_PARSING = threading.Lock()


@overload
def syntax_tree(text: str, mode: Literal["exec"] = "exec") -> ast.Module: ...


@overload
def syntax_tree(text: str, mode: Literal["eval"]) -> ast.Expression: ...


def syntax_tree(text: str, mode: Literal["exec", "eval"] = "exec") -> ast.Module | ast.Expression:
    """`ast.parse`, a thread at a time: all of the package parses here.

    >>> ast.unparse(syntax_tree("x*(y)", "eval"))
    'x * y'
    """
    with _PARSING:
        return ast.parse(text) if mode == "exec" else ast.parse(text, mode="eval")


BUILTIN: dict[str, str] = {
    "abs": "Abs(x)",
    "erf": "erf(x/sqrt(2))",
    "he2": "x**2 - 1",
    "he3": "x**3 - 3*x",
    "he4": "x**4 - 6*x**2 + 3",
    "leaky_relu": "Max(x, 0) - Max(-x, 0)/100",
    "linear": "x",
    "quadratic": "x**2",
    "relu": "Max(x, 0)",
    "sin": "sin(x)",
}
"""The activations whose averages, in closed form, are checked in under `theory/`."""

NAMED: dict[str, str] = {
    "gelu": "x*(1 + erf(x/sqrt(2)))/2",
    "sigmoid": "sigmoid(x)",
    "softplus": "softplus(x)",
    "swish": "x*sigmoid(x)",
    "tanh": "tanh(x)",
}
"""Further names, of which `theory/` has g and its derivatives, and what averages there are."""

DERIVED = ("gelu",)
"""Those whose averages close, in thousands of lines: they are derived on first use, like those of any expression."""

LOSSES: dict[str, str] = {
    "square": "(phi - y)**2/2",
    "logistic": "log(1 + exp(-y*phi))",
    "hinge": "Max(0, 1 - y*phi)",
    "exponential": "exp(-y*phi)",
    "huber": "(phi - y)**2/2 - Max(0, phi - y - 1)**2/2 - Max(0, y - phi - 1)**2/2",
    "correlation": "-y*phi",
    "perceptron": "Max(0, -y*phi)",
    "adatron": "Max(0, -y*phi)**2/2",
}
"""The losses that have a name."""

CLASS_LOSSES: dict[str, str] = {"cross-entropy": "log(sum_c exp(phi_c)) - sum_c y_c phi_c"}
"""Losses of several outputs phi_c at a one-hot label y_c, by name only: `quenched.symbolic.classes`."""

FUNCTIONS: dict[str, str] = functions.written()
"""Functions of an expression: their name in sympy, or their definition in x."""

CONSTANTS = ("E", "pi")


@dataclass(frozen=True, eq=False)
class Grammar:
    """A kind of function that users write: its variables, and the names that stand for an expression in them."""

    kind: str
    variables: tuple[str, ...]
    names: Mapping[str, str]

    @property
    def wanted(self) -> str:
        """What a text may be, for messages."""
        return f"{'a name or ' * bool(self.names)}an expression in {' and '.join(self.variables)}"


ACTIVATION = Grammar("activation", ("x",), ChainMap(BUILTIN, NAMED))
LOSS = Grammar("loss", ("phi", "y"), LOSSES)
RULE_LOSS = Grammar("loss", ("phi", "y"), ChainMap(LOSSES, CLASS_LOSSES))
"""What a learning rule takes: an expression in phi and y, or a name, one of several outputs included."""
INTEGRAND = Grammar("integrand", ("x", "y", "z", "w", "x0", "x1", "x2", "x3"), {})
"""What is averaged over Gaussian fields: x, y, z, w, which are x0 .. x3 by other names."""
SCHEDULE = Grammar("schedule", ("t",), {})
"""A rate that changes in time."""

_MANY = functions.many()  # take any number of arguments
_STEEP = functions.steep()

MAX_LENGTH = 500  # characters; keeps a pasted file from being read
MAX_DEPTH = 100  # levels of the tree; a sum of n terms has n
MAX_POWER = 12  # a power of a power is expanded term by term
MAX_DEGREE = 40  # of polynomials in the variables: their averages grow with it
MAX_STEEP = 2  # exponentials inside exponentials; three leave every number format
MAX_SIZE = 300  # decimal exponent of a number

_TOKEN = re.compile(
    r" *(?:(?P<number>(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>\*\*|[-+*/(),])) *",
    re.ASCII,
)
_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)


class _Part(NamedTuple):
    """A subtree to print; its value if it is a rational number; its degree in x; exponentials inside one another."""

    node: ast.expr
    value: Fraction | None
    degree: int
    steep: int


@lru_cache(maxsize=1024)
def canonical(text: str, grammar: Grammar = ACTIVATION) -> str:
    """The name, or the expression in its one printed form.  ValueError: what cannot be read, and why.

    >>> canonical(" relu "), canonical("Max(x,0)-0.10*max( -x,0 ) ** 2")
    ('relu', 'Max(x, 0) - 0.10*max(-x, 0)**2')
    """
    stripped = text.strip(" ")
    return stripped if stripped in grammar.names else _print(_read(stripped, grammar))


def expression(text: str, grammar: Grammar = ACTIVATION) -> str:
    """The expression that a name stands for, or that was written.

    >>> expression("relu"), expression("x/2"), expression("square", LOSS)
    ('Max(x, 0)', 'x/2', '(phi - y)**2/2')
    """
    stripped = text.strip(" ")
    return _print(_read(grammar.names.get(stripped) or stripped, grammar))


def _print(part: _Part) -> str:
    """Python source, spaces around + and - only."""
    return ast.unparse(part.node).replace(" ** ", "**").replace(" * ", "*").replace(" / ", "/")


def _read(text: str, grammar: Grammar) -> _Part:
    """The checked tree of an expression."""
    kind = grammar.kind
    shown = repr(text if len(text) <= MAX_LENGTH else text[:60] + "...")
    if not text:
        raise ValueError(f"{kind} must be {grammar.wanted}, got ''")
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{kind} {shown}: {len(text)} characters, at most {MAX_LENGTH} are read")
    for name in _names(text, shown, grammar):
        if name not in FUNCTIONS and name not in CONSTANTS and name not in grammar.variables:
            raise ValueError(f"{kind} {shown}: {name!r} is not understood{_hint(name, grammar)}")
    try:
        tree = syntax_tree(text, "eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = _fault(text) or f"cannot be parsed: {getattr(error, 'msg', error)}"
        raise ValueError(f"{kind} {shown}: {reason}") from None
    level: list[ast.AST] = [tree]
    depth = -1  # the names of functions and the kinds of operators are leaves of the tree, too
    while level:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    if depth > MAX_DEPTH:
        raise ValueError(f"{kind} {shown}: {depth} levels of operations, at most {MAX_DEPTH} are read")
    found = _Reader(text, shown, grammar).part(tree)
    if found.degree > MAX_DEGREE:
        raise ValueError(f"{kind} {shown}: of degree {found.degree}, at most {MAX_DEGREE} is read")
    return found


def _names(text: str, shown: str, grammar: Grammar) -> Iterator[str]:
    """The names in a text that consists of numbers, names and operators; ValueError at the first other character."""
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            found = "".join(re.findall(r"^ *(\d[\w.]*|[^ ])", text[position:]))
            power = " (a power is written x**2)" if found == "^" else ""
            power = " (a product is written 2*x)" if re.fullmatch(r"\d+[A-Za-z]\w*", found) else power
            raise ValueError(
                f"{grammar.kind} {shown}: {found!r} at character {position + 1} is not "
                f"understood{power}{_hint('', grammar)}"
            )
        if token["name"]:
            yield token["name"]
        position = token.end()


def _fault(text: str) -> str:
    """Where a text of understood tokens is no expression, in words; "" where that is not its fault.

    >>> _fault("x +")
    "after '+' at character 3 a number, a name or '(' is missing"
    >>> _fault("x*(1 + x"), _fault("2 x")
    ("'(' at character 3 is not closed", "before 'x' at character 3 an operator is missing")
    """
    opened: list[str] = []
    position, due, place, before = 0, True, "", ""  # due: a number, a name or a bracket, and no operator
    while position < len(text) and (token := _TOKEN.match(text, position)):
        sign, word = token["sign"], token[0].strip(" ")
        place = f"{word!r} at character {position + token[0].index(word) + 1}"
        if sign == ")" and (not due or before in ("(", ",")):
            if not opened:
                return f"{place} closes nothing"
            opened.pop()
        elif sign == "(":
            opened.append(place)
        elif due and sign not in (None, "+", "-"):
            return f"before {place} a number, a name or '(' is missing"
        elif not due and sign is None:
            return f"before {place} an operator is missing"
        due, before, position = sign not in (None, ")"), word, token.end()
    if due:
        return f"after {place} a number, a name or '(' is missing"
    return f"{opened[-1]} is not closed" if opened else ""


def _hint(name: str, grammar: Grammar) -> str:
    near = difflib.get_close_matches(name, [*FUNCTIONS, *CONSTANTS, *grammar.names], 1)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    known = ", ".join(sorted({*FUNCTIONS, *CONSTANTS, *grammar.variables}))
    names = f", and the names {', '.join(sorted(grammar.names))}" if grammar.names else ""
    return f"{meant}; numbers, + - * / ** and {known} are{names}"


class _Reader:
    """Checks a tree from its leaves on."""

    def __init__(self, text: str, shown: str, grammar: Grammar) -> None:
        self.text, self.shown, self.grammar = text, shown, grammar

    def part(self, node: ast.expr) -> _Part:
        """What stands at `node`; anything but numbers, names, operators and calls is refused."""
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return self._number(node)
        if isinstance(node, ast.Name) and (node.id in self.grammar.variables or node.id in CONSTANTS):
            return _Part(node, None, int(node.id in self.grammar.variables), 0)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            operand = self.part(node.operand)
            sign = -1 if isinstance(node.op, ast.USub) else 1
            value = None if operand.value is None else sign * operand.value
            return operand._replace(node=ast.UnaryOp(node.op, operand.node), value=value)
        if isinstance(node, ast.BinOp) and isinstance(node.op, _OPERATORS):
            return self._operation(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            return self._call(node, node.func)
        raise self._error(f"{self._source(node)!r} is not understood{_hint('', self.grammar)}")

    def _source(self, node: ast.expr) -> str:
        return ast.get_source_segment(self.text, node) or type(node).__name__

    def _error(self, reason: str) -> ValueError:
        return ValueError(f"{self.grammar.kind} {self.shown}: {reason}")

    def _number(self, node: ast.Constant) -> _Part:
        """Printed as it was written, digit by digit: a float would round it."""
        source = self._source(node).replace("_", "")
        digits, _, exponent = source.lower().partition("e")
        if abs(int(exponent or 0)) > MAX_SIZE:
            raise self._error(f"the number {source} is not of size 1e-{MAX_SIZE} to 1e{MAX_SIZE}")
        value = self._sized(Fraction(digits) * Fraction(10) ** int(exponent or 0))
        return _Part(ast.Name(source, ast.Load()), value, 0, 0)

    def _sized(self, value: Fraction) -> Fraction:
        if value and not Fraction(1, 10**MAX_SIZE) <= abs(value) <= 10**MAX_SIZE:
            raise self._error(f"a number in it is not of size 1e-{MAX_SIZE} to 1e{MAX_SIZE}")
        return value

    def _operation(self, node: ast.BinOp) -> _Part:
        left, right = self.part(node.left), self.part(node.right)
        one, two = left.value, right.value
        degree, value = max(left.degree, right.degree), None
        if isinstance(node.op, ast.Pow):
            return self._power(node, left, right)
        if isinstance(node.op, ast.Div) and two == 0:
            raise self._error("division by zero")
        if isinstance(node.op, (ast.Mult, ast.Div)):
            degree = left.degree + right.degree
        if one is not None and two is not None:
            if isinstance(node.op, ast.Add):
                value = one + two
            elif isinstance(node.op, ast.Sub):
                value = one - two
            else:
                value = one * two if isinstance(node.op, ast.Mult) else one / two
            value = self._sized(value)
        return _Part(ast.BinOp(left.node, node.op, right.node), value, degree, max(left.steep, right.steep))

    def _power(self, node: ast.BinOp, left: _Part, right: _Part) -> _Part:
        exponent = right.value
        if exponent is None or abs(exponent) > MAX_POWER:
            found = self._source(node.right)
            raise self._error(f"the exponent {found} is not a number of size <= {MAX_POWER}")
        if left.value == 0 and exponent < 0:
            raise self._error("division by zero")
        value = None
        if left.value is not None and exponent.denominator == 1:  # at most 12 times 600 digits
            value = self._sized(left.value**exponent.numerator)
        degree = left.degree * -int(-abs(exponent) // 1)
        return _Part(ast.BinOp(left.node, node.op, right.node), value, degree, left.steep)

    def _call(self, node: ast.Call, function: ast.Name) -> _Part:
        if node.keywords:
            raise self._error(f"{self._source(node)!r} is not understood{_hint('', self.grammar)}")
        parts = [self.part(argument) for argument in node.args]
        if len(parts) != 1 and (not parts or FUNCTIONS[function.id] not in _MANY):
            raise self._error(f"{function.id} with {len(parts)} arguments")
        steep = max(part.steep for part in parts) + (function.id in _STEEP)
        if steep > MAX_STEEP:
            raise self._error(f"{self._source(node)} has more than {MAX_STEEP} exponentials inside one another")
        call = ast.Call(function, [part.node for part in parts], [])
        return _Part(call, None, max(part.degree for part in parts), steep)
