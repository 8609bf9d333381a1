"""From the text of generated functions to machine code, once, for averages, gradients, losses and equations alike.

A generated function is plain arithmetic on names.  For a computer's numbers its text is taken over with the names
bound to compiled functions (Phi_n of `quenched.numerics.probability.orthant`), regressions carried in doubled
precision, and sums over indices (`einsum`) written out as loops (`quenched.numerics.compiled.contractions`).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from quenched.numerics.compiled.cache import module
from quenched.numerics.compiled.contractions import Contraction
from quenched.numerics.compiled.precision import float_tree
from quenched.theory.functions import FUNCTIONS

__all__ = ["callbacks", "contraction", "definition", "load_compiled", "scalar_function"]

_PRELUDE = (
    '''"""Compiled form of {kind}, written by quenched.numerics.compiled.compile."""

from functools import partial

import numba
from numpy import arange, array, empty, pi, zeros
from quenched.numerics.averages.coincident_fields import consistent, raised
from quenched.numerics.compiled.double_double import minus, over, plus, remainder, residual, times
from quenched.numerics.compiled.machine_code import call, callback, njit as kept
from quenched.numerics.compiled.straight import straight
from quenched.numerics.probability.orthant import Phi, Phi2, Phi2_of_pair, Phi3, Phi4

njit = partial(numba.njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)  # of what `kept` functions call

'''
    + "".join(function.compiled for function in FUNCTIONS.values())
    + "\n\n"
)


def load_compiled(kind: str, parts: Sequence[str]) -> ModuleType:
    """Import the text of compiled functions, from the cache where it is known."""
    return module(_PRELUDE.replace("{kind}", kind) + "\n\n".join(parts), kind)


def definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """The definition of a generated function without its annotations and docstring."""
    (found,) = float_tree(function).body
    if not isinstance(found, ast.FunctionDef):
        raise TypeError(f"{function!r} is not defined by a def statement")
    found.returns = None
    for argument in found.args.args:
        argument.annotation = None
    if ast.get_docstring(found) is not None:
        found.body = found.body[1:]
    return found


_PAIRWISE: dict[type[ast.operator], str] = {ast.Add: "plus", ast.Sub: "minus", ast.Mult: "times", ast.Div: "over"}


class _DoubledRegression(ast.NodeTransformer):
    """Carry regressions (`residual`, `remainder`) as pairs (value, rounding error), named `..._`; all else uses the
    value.

    A field that nearly lies in the span of others leaves a residual as small as the rounding errors of its covariance:
    what the next regression divides by must still be right to several digits.  So must c - c^2/(c + 1) of a wide field,
    and the distance of a mean from a kink, which standardised limits h = (mean - kink)/sqrt(variance) divide by it.
    """

    def __init__(self) -> None:
        self.pairs: set[str] = set()

    def _pair(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name) and node.id in self.pairs:
            return ast.Name(node.id + "_", ast.Load())
        if isinstance(node, ast.BinOp) and type(node.op) in _PAIRWISE:
            name = _PAIRWISE[type(node.op)]
            return ast.Call(ast.Name(name, ast.Load()), [self._pair(node.left), self._pair(node.right)], [])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            zero: ast.expr = ast.Tuple([ast.Constant(0.0), ast.Constant(0.0)], ast.Load())
            return ast.Call(ast.Name("minus", ast.Load()), [zero, self._pair(node.operand)], [])
        return ast.Tuple([node, ast.Constant(0.0)], ast.Load())

    @staticmethod
    def _value(pair: ast.expr) -> ast.expr:
        return ast.Subscript(pair, ast.Constant(0), ast.Load())

    def _doubled(self, node: ast.expr) -> ast.expr:
        """The value of an expression worked out in pairs, if it has any."""
        known = any(isinstance(name, ast.Name) and name.id in self.pairs for name in ast.walk(node))
        return self._value(self._pair(node)) if known else node

    def visit_Assign(self, node: ast.Assign) -> Any:
        call = node.value
        inside = call.args if isinstance(call, ast.Call) and _name(call).startswith("Phi") else [call]
        for limit in inside:
            if isinstance(limit, ast.BinOp) and isinstance(limit.op, ast.Div) and _name(limit.right) == "sqrt":
                limit.left = self._doubled(limit.left)
        if not isinstance(call, ast.Call) or _name(call) not in ("residual", "remainder"):
            return node
        (target,) = node.targets
        name = ast.unparse(target)
        call.args = [self._pair(argument) for argument in call.args]
        self.pairs.add(name)
        pair = ast.Assign([ast.Name(name + "_", ast.Store())], call)
        value = ast.Assign([target], self._value(ast.Name(name + "_", ast.Load())))
        return [pair, value]


def _name(node: ast.expr) -> str:
    """The name of the function that an expression calls, "" if it calls none."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def scalar_function(function: Callable[..., Any]) -> tuple[str, int]:
    """The text of a generated function of the moments of fields (`straight`), and how many numbers it returns."""
    found = definition(function)
    found.decorator_list = [ast.Name("straight", ast.Load())]
    result = found.body[-1]
    size = len(result.value.elts) if isinstance(result, ast.Return) and isinstance(result.value, ast.Tuple) else 1
    _DoubledRegression().visit(found)
    for node in ast.walk(found):
        if isinstance(node, ast.Name) and node.id == "Phi2":
            node.id = "Phi2_of_pair"
    return ast.unparse(ast.fix_missing_locations(found)) + "\n\n", size


def contraction(function: Callable[..., Any]) -> Contraction:
    """A generated function of arrays as loops; `Contraction.tables` are the entries of its tables, as arguments."""
    return Contraction(definition(function), inspect.get_annotations(function))


def callbacks(kind: str, functions: Sequence[Callable[..., Any]]) -> list[Any]:
    """Generated functions of numbers as numba's C callbacks: arguments of compiled loops."""
    sources = []
    for function in functions:
        arguments = ", ".join(["float64"] * function.__code__.co_argcount)
        decorator = f'@callback("float64({arguments})", error_model="numpy")'
        sources.append(f"{decorator}\n{ast.unparse(definition(function))}\n")
    made = load_compiled(kind, sources)
    return [getattr(made, function.__name__) for function in functions]
