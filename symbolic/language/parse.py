"""What users write as sympy expressions: the tree that `symbolic.language.grammar` has read, given its meaning.

No `eval`, and no `sympify`, which is one.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from fractions import Fraction

import sympy

from quenched.symbolic.language.grammar import ACTIVATION, FUNCTIONS, Grammar, expression, syntax_tree

__all__ = ["VARIABLE", "parse"]

VARIABLE = sympy.Symbol("x", real=True)

_BINARY: dict[type[ast.operator], Callable[[sympy.Expr, sympy.Expr], sympy.Expr]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def parse(text: str, grammar: Grammar = ACTIVATION) -> sympy.Expr:
    """Read a name or an expression; its variables are real symbols of their names, decimals are taken as exact.

    Raises ValueError, naming the kind of function that it should be and the part that is not understood.

    >>> parse("Max(x,0) - 0.1*Max(-x,0)")
    -Max(0, -x)/10 + Max(0, x)
    """
    written = expression(text, grammar)
    found = _convert(written, {name: sympy.Symbol(name, real=True) for name in grammar.variables}, grammar.kind)
    if found.has(sympy.zoo, sympy.nan, sympy.oo, sympy.I):
        raise ValueError(f"{grammar.kind} {written!r} is not a finite real function (it contains {found})")
    return found


def _convert(text: str, variables: Mapping[str, sympy.Expr], kind: str) -> sympy.Expr:
    """A text that the grammar has accepted, with its variables replaced."""

    def value(node: ast.expr) -> sympy.Expr:
        if isinstance(node, ast.Constant):
            exact = Fraction(ast.get_source_segment(text, node) or "")
            return sympy.Rational(exact.numerator, exact.denominator)
        if isinstance(node, ast.Name):
            return variables[node.id] if node.id in variables else getattr(sympy, node.id)
        if isinstance(node, ast.UnaryOp):
            operand = value(node.operand)
            return -operand if isinstance(node.op, ast.USub) else operand
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            if isinstance(node.op, ast.Div) and right == 0:
                raise ValueError(f"{kind} {text!r}: division by zero")
            return _BINARY[type(node.op)](left, right)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            meaning, arguments = FUNCTIONS[node.func.id], [value(argument) for argument in node.args]
            if meaning.isidentifier():
                return getattr(sympy, meaning)(*arguments)
            return _convert(meaning, {"x": arguments[0]}, kind)
        raise TypeError(f"{ast.dump(node)} is no part of the grammar")

    return value(syntax_tree(text, "eval").body)
