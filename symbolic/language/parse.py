"""Activations as text, read against a whitelist: `ast` to sympy, never `eval` (and `sympify` is an `eval`)."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

import sympy

from quenched.symbolic.language import functions

__all__ = ["FUNCTIONS", "VARIABLE", "parse"]

VARIABLE = sympy.Symbol("x", real=True)

_MAX_LENGTH = 500  # characters; keeps a pasted file from being parsed
_MAX_POWER = 12  # a power of a power is expanded term by term


FUNCTIONS = functions.written()
_NAMES: dict[str, sympy.Expr] = {"x": VARIABLE, "pi": sympy.pi}
_BINARY: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def parse(text: str) -> sympy.Expr:
    """Read an expression in the variable x; decimals are taken as exact.

    Raises ValueError, naming the part that is not understood.

    >>> parse("Max(x,0) - 0.1*Max(-x,0)")
    -Max(0, -x)/10 + Max(0, x)
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"activation: {len(text)} characters, at most {_MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"activation {text!r} cannot be parsed: {error}") from None
    expression = _convert(tree, text)
    if expression.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
        raise ValueError(f"activation {text!r} is not a finite real function (it contains {expression})")
    return expression


def _convert(node: ast.expr, text: str) -> sympy.Expr:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        source = ast.get_source_segment(text.strip(), node) or repr(node.value)
        value = Fraction(source.replace("_", ""))
        return sympy.Rational(value.numerator, value.denominator)
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        operand = _convert(node.operand, text)
        return -operand if isinstance(node.op, ast.USub) else operand
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _convert(node.left, text), _convert(node.right, text)
        if isinstance(node.op, ast.Div) and right == 0:
            raise ValueError(f"activation {text!r}: division by zero")
        return _BINARY[type(node.op)](left, right)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        base, exponent = _convert(node.left, text), _convert(node.right, text)
        if not exponent.is_Rational or abs(exponent) > _MAX_POWER:
            raise ValueError(f"activation {text!r}: the exponent {exponent} is not a number of size <= {_MAX_POWER}")
        return base**exponent
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in FUNCTIONS
        and not node.keywords
    ):
        arguments = [_convert(argument, text) for argument in node.args]
        count = len(arguments)
        if count != 1 and (node.func.id.lower() not in ("max", "min") or count == 0):
            raise ValueError(f"activation {text!r}: {node.func.id} with {count} arguments")
        return FUNCTIONS[node.func.id](*arguments)
    part = ast.get_source_segment(text.strip(), node) or type(node).__name__
    known = ", ".join(sorted({*FUNCTIONS, *_NAMES}))
    raise ValueError(f"activation {text!r}: {part!r} is not understood; numbers, + - * / ** and {known} are")
