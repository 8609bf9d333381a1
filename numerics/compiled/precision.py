"""One text, any precision: run a function with its elementary functions replaced.

A generated function is plain arithmetic on names such as `exp` and `Phi`.  `bind` gives those names other meanings;
with `mp_namespace(ctx)` they are mpmath's, applied element by element to object arrays, so that array code runs at any
precision too.  Precision lives in a context object of its own, never in global state:

>>> from quenched.theory.oracle import xor
>>> print(xor(1.0, 0.5))
0.1449276867809608
>>> ctx = context(30)
>>> print(bind(xor, mp_namespace(ctx))(ctx.mpf(1), ctx.mpf(0.5)))
0.144927686780960894980997686045
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from quenched.symbolic.language.grammar import syntax_tree
from quenched.theory.functions import FUNCTIONS

__all__ = ["bind", "context", "float_source", "float_tree", "mp_array", "mp_namespace"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def bind(function: _Function, namespace: Mapping[str, Any]) -> _Function:
    """The same code with other globals: names in `namespace` replace those of the function's module."""
    bound = types.FunctionType(
        function.__code__,
        {**function.__globals__, **namespace},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    bound.__kwdefaults__ = function.__kwdefaults__
    return bound  # type: ignore[return-value]


def context(digits: int) -> Any:
    """A new mpmath context of `digits` decimal digits, independent of `mpmath.mp` and of every other one."""
    import mpmath

    ctx = mpmath.mp.clone()
    ctx.dps = digits
    return ctx


def mp_array(ctx: Any, values: Any) -> Any:
    """Object array of the context's numbers: floats at their exact binary value, fractions rounded once."""
    return np.frompyfunc(lambda x: ctx.mpf(ctx.convert(x)), 1, 1)(np.asarray(values))


def mp_namespace(ctx: Any) -> dict[str, Any]:
    """The functions of an mpmath context under their names in numpy and scipy.special, on scalars and object arrays."""
    meanings = {name: entry.multiprecision(ctx) for name, entry in FUNCTIONS.items()} | {"Phi": ctx.ncdf}
    arguments = {name: entry.arguments for name, entry in FUNCTIONS.items()} | {"Phi": 1}
    functions = {name: np.frompyfunc(meaning, arguments[name], 1) for name, meaning in meanings.items()}
    return {**functions, "pi": +ctx.pi, "ratio": lambda p, q: ctx.mpf(p) / q}


class _Ratios(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Name) and node.func.id == "ratio"):
            return node
        p, q = (ast.literal_eval(argument) for argument in node.args)
        return ast.Constant(p / q)


def float_tree(function: Callable[..., Any]) -> ast.Module:
    """The syntax tree of `float_source`."""
    tree = syntax_tree(inspect.getsource(function))
    _Ratios().visit(tree)
    return tree


def float_source(function: Callable[..., Any]) -> str:
    """The source of a generated function with each `ratio` of integers as a float: for a compiler of 64-bit integers.

    >>> from quenched.theory.averages.leaky_relu import leaky_relu_g
    >>> print(float_source(leaky_relu_g).splitlines()[-1].strip())
    return -maximum(0, -x) / 100 + maximum(0, x)
    """
    return ast.unparse(ast.fix_missing_locations(float_tree(function)))
