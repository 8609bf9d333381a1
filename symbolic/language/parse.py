"""Activations as sympy expressions: the tree that `symbolic.grammar` has read, given its meaning.

No `eval`, and no `sympify`, which is one.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from fractions import Fraction

import sympy

from quenched.symbolic.language.grammar import FUNCTIONS, expression

__all__ = ["VARIABLE", "parse"]

VARIABLE = sympy.Symbol("x", real=True)

_BINARY: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def parse(text: str) -> sympy.Expr:
    """Read an activation, by name or as an expression in the variable x; decimals are taken as exact.

    Raises ValueError, naming the part that is not understood.

    >>> parse("Max(x,0) - 0.1*Max(-x,0)")
    -Max(0, -x)/10 + Max(0, x)
    """
    written = expression(text)
    found = _convert(written, VARIABLE)
    if found.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
        raise ValueError(f"activation {written!r} is not a finite real function (it contains {found})")
    return found


def _convert(text: str, x: sympy.Expr) -> sympy.Expr:
    """A text that the grammar has accepted, with its variable replaced."""

    def value(node: ast.expr) -> sympy.Expr:
        if isinstance(node, ast.Constant):
            exact = Fraction(ast.get_source_segment(text, node) or "")
            return sympy.Rational(exact.numerator, exact.denominator)
        if isinstance(node, ast.Name):
            return x if node.id == "x" else getattr(sympy, node.id)
        if isinstance(node, ast.UnaryOp):
            operand = value(node.operand)
            return -operand if isinstance(node.op, ast.USub) else operand
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Div) and right == 0:
                raise ValueError(f"activation {text!r}: division by zero")
            return _BINARY[type(node.op)](left, right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            meaning, arguments = FUNCTIONS[node.func.id], [value(argument) for argument in node.args]
            if meaning.isidentifier():
                return getattr(sympy, meaning)(*arguments)
            return _convert(meaning, arguments[0])
        raise TypeError(f"{ast.dump(node)} is no part of an activation")

    return value(ast.parse(text, mode="eval").body)
