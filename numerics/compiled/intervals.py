"""Interval arithmetic with slopes, compiled: enclosures of an activation and of its derivative over an interval.

A jet (low, high, slope_low, slope_high) says that a function of x takes values in [low, high] and has difference
quotients in [slope_low, slope_high] on an interval of x.  Each operation rounds outwards: what an enclosure excludes is
excluded for certain.  Exact zeros stay exact, so that a function that vanishes on an interval is seen to do so.

`enclosure_text` writes a generated function, arithmetic on the names of numpy and scipy.special, in these operations.

R. E. Moore, Interval Analysis (1966).
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from quenched.numerics.compiled.machine_code import njit
from quenched.symbolic.language.grammar import syntax_tree

__all__ = ["OPERATIONS", "NoEnclosure", "enclosure_text"]

_EPS = 2.0**-52  # twice the relative rounding error of an arithmetic operation
_LIBM = 2.0**-50  # relative, eight times the rounding error: what elementary functions of libm stay below


class NoEnclosure(ValueError):
    """An expression with a function that has no enclosure here."""


@njit(error_model="numpy", inline="always")
def _jet(low, high, slope_low, slope_high, eps):  # type: ignore[no-untyped-def]
    """Rounded outwards by a relative eps; what is not a number encloses everything."""
    if math.isnan(low) or math.isnan(high):
        low, high = -math.inf, math.inf
    if math.isnan(slope_low) or math.isnan(slope_high):
        slope_low, slope_high = -math.inf, math.inf
    return (
        low - eps * abs(low) if low != -math.inf else low,
        high + eps * abs(high) if high != math.inf else high,
        slope_low - eps * abs(slope_low) if slope_low != -math.inf else slope_low,
        slope_high + eps * abs(slope_high) if slope_high != math.inf else slope_high,
    )


@njit(error_model="numpy", inline="always")
def _times(x, y):  # type: ignore[no-untyped-def]
    """x y, where 0 times infinity is 0: infinite bounds stand for finite numbers of unknown size."""
    return 0.0 if x == 0.0 or y == 0.0 else x * y


@njit(error_model="numpy")
def _product(a, b, c, d):  # type: ignore[no-untyped-def]
    """[a, b] times [c, d]."""
    w, x, y, z = _times(a, c), _times(a, d), _times(b, c), _times(b, d)
    return min(min(w, x), min(y, z)), max(max(w, x), max(y, z))


@njit(error_model="numpy")
def _chain(f, low, high, rate_low, rate_high):  # type: ignore[no-untyped-def]
    """The jet of h(f) from the ranges of h and of h' over the values of f."""
    slope_low, slope_high = _product(rate_low, rate_high, f[2], f[3])
    return _jet(low, high, slope_low, slope_high, _LIBM)


@njit(error_model="numpy")
def constant(c):  # type: ignore[no-untyped-def]
    """A number."""
    return (c, c, 0.0, 0.0)


@njit(error_model="numpy")
def add(f, g):  # type: ignore[no-untyped-def]
    """f + g."""
    return _jet(f[0] + g[0], f[1] + g[1], f[2] + g[2], f[3] + g[3], _EPS)


@njit(error_model="numpy")
def negative(f):  # type: ignore[no-untyped-def]
    """-f."""
    return (-f[1], -f[0], -f[3], -f[2])


@njit(error_model="numpy")
def subtract(f, g):  # type: ignore[no-untyped-def]
    """f - g."""
    return _jet(f[0] - g[1], f[1] - g[0], f[2] - g[3], f[3] - g[2], _EPS)


@njit(error_model="numpy")
def scale(c, f):  # type: ignore[no-untyped-def]
    """c f of a number c."""
    if c < 0.0:
        return _jet(_times(c, f[1]), _times(c, f[0]), _times(c, f[3]), _times(c, f[2]), _EPS)
    return _jet(_times(c, f[0]), _times(c, f[1]), _times(c, f[2]), _times(c, f[3]), _EPS)


@njit(error_model="numpy")
def multiply(f, g):  # type: ignore[no-untyped-def]
    """f g."""
    low, high = _product(f[0], f[1], g[0], g[1])
    first_low, first_high = _product(f[2], f[3], g[0], g[1])
    second_low, second_high = _product(f[0], f[1], g[2], g[3])
    return _jet(low, high, first_low + second_low, first_high + second_high, 2 * _EPS)


@njit(error_model="numpy")
def divide(f, g):  # type: ignore[no-untyped-def]
    """f/g; everything where g may vanish."""
    if g[0] <= 0.0 <= g[1]:
        return (-math.inf, math.inf, -math.inf, math.inf)
    low, high = 1.0 / g[1], 1.0 / g[0]
    rate_low, rate_high = -max(low * low, high * high), -min(low * low, high * high)
    return multiply(f, _chain(g, low, high, rate_low, rate_high))


@njit(error_model="numpy")
def power(f, n):  # type: ignore[no-untyped-def]
    """f**n of a number n; f > 0 unless n is an integer >= 0."""
    if n != math.floor(n) or n < 0.0:
        if f[0] < 0.0 or (f[0] == 0.0 and n < 0.0):
            return (-math.inf, math.inf, -math.inf, math.inf)
        low, high = f[0] ** n, f[1] ** n
        first = n * f[0] ** (n - 1.0) if f[0] > 0.0 or n > 1.0 else math.inf
        last = n * f[1] ** (n - 1.0)
        return _chain(f, min(low, high), max(low, high), min(first, last), max(first, last))
    if n == 0.0:
        return (1.0, 1.0, 0.0, 0.0)
    low, high = f[0] ** n, f[1] ** n
    first, last = n * f[0] ** (n - 1.0), n * f[1] ** (n - 1.0)
    straddles = f[0] < 0.0 < f[1]
    if n % 2.0 == 0.0:  # the power is even, its derivative increases
        return _chain(f, 0.0 if straddles else min(low, high), max(low, high), first, last)
    return _chain(f, low, high, 0.0 if straddles and n > 1.0 else min(first, last), max(first, last))


@njit(error_model="numpy")
def _peaked(f, low, high, first, last, peak):  # type: ignore[no-untyped-def]
    """The jet of an increasing h whose derivative falls off on both sides of 0, from their values at the ends of f."""
    top = peak if f[0] <= 0.0 <= f[1] else max(first, last)
    return _chain(f, low, high, min(first, last), top)


@njit(error_model="numpy")
def exp(f):  # type: ignore[no-untyped-def]
    """The exponential of f."""
    low, high = math.exp(min(f[0], 709.0)), math.exp(f[1]) if f[1] < 709.0 else math.inf
    return _chain(f, low, high, low, high)


@njit(error_model="numpy")
def log(f):  # type: ignore[no-untyped-def]
    """The logarithm of f."""
    if f[0] <= 0.0:
        return (-math.inf, math.inf, -math.inf, math.inf)
    return _chain(f, math.log(f[0]), math.log(f[1]), 1.0 / f[1], 1.0 / f[0])


@njit(error_model="numpy")
def sqrt(f):  # type: ignore[no-untyped-def]
    """The square root of f."""
    return power(f, 0.5)


@njit(error_model="numpy")
def erf(f):  # type: ignore[no-untyped-def]
    """The error function of f."""
    peak = 2.0 / math.sqrt(math.pi)
    first, last = peak * math.exp(-min(f[0] * f[0], 800.0)), peak * math.exp(-min(f[1] * f[1], 800.0))
    # bounds beyond the rounding of 1 are not known: -1 <= erf <= 1
    low, high, slope_low, slope_high = _peaked(f, math.erf(f[0]), math.erf(f[1]), first, last, peak)
    return max(low, -1.0), min(high, 1.0), slope_low, slope_high


@njit(error_model="numpy")
def erfc(f):  # type: ignore[no-untyped-def]
    """The complementary error function of f."""
    found = erf(f)
    return _jet(math.erfc(f[1]), math.erfc(f[0]), -found[3], -found[2], _LIBM)


@njit(error_model="numpy")
def tanh(f):  # type: ignore[no-untyped-def]
    """The hyperbolic tangent of f."""
    first, last = 1.0 / math.cosh(min(abs(f[0]), 350.0)) ** 2, 1.0 / math.cosh(min(abs(f[1]), 350.0)) ** 2
    low, high, slope_low, slope_high = _peaked(f, math.tanh(f[0]), math.tanh(f[1]), first, last, 1.0)
    return max(low, -1.0), min(high, 1.0), slope_low, slope_high


@njit(error_model="numpy")
def arctan(f):  # type: ignore[no-untyped-def]
    """The arc tangent of f."""
    first, last = 1.0 / (1.0 + f[0] * f[0]), 1.0 / (1.0 + f[1] * f[1])
    return _peaked(f, math.atan(f[0]), math.atan(f[1]), first, last, 1.0)


@njit(error_model="numpy")
def sinh(f):  # type: ignore[no-untyped-def]
    """The hyperbolic sine of f."""
    rate = cosh((f[0], f[1], 0.0, 0.0))
    return _chain(f, np.sinh(f[0]), np.sinh(f[1]), rate[0], rate[1])


@njit(error_model="numpy")
def cosh(f):  # type: ignore[no-untyped-def]
    """The hyperbolic cosine of f."""
    low, high = np.cosh(f[0]), np.cosh(f[1])
    bottom = 1.0 if f[0] <= 0.0 <= f[1] else min(low, high)
    return _chain(f, bottom, max(low, high), np.sinh(f[0]), np.sinh(f[1]))


@njit(error_model="numpy")
def _wave(low, high):  # type: ignore[no-untyped-def]
    """The range of cos on [low, high]: -1 and 1 where it holds an odd or an even multiple of pi, give or take 1e-9."""
    if not high - low < 6.3 or max(abs(low), abs(high)) > 1e9:  # beyond, multiples of pi are not known to 1e-6
        return -1.0, 1.0
    slack = 1e-15 * (1.0 + max(abs(low), abs(high)))
    first, last = math.cos(low), math.cos(high)
    bottom, top = min(first, last) - slack, max(first, last) + slack
    start, end = (low - slack) / (2.0 * math.pi), (high + slack) / (2.0 * math.pi)
    if math.floor(end) >= start:
        top = 1.0
    if math.floor(end - 0.5) >= start - 0.5:
        bottom = -1.0
    return max(bottom, -1.0), min(top, 1.0)


@njit(error_model="numpy")
def cos(f):  # type: ignore[no-untyped-def]
    """The cosine of f."""
    low, high = _wave(f[0], f[1])
    rate_low, rate_high = _wave(f[0] + 0.5 * math.pi, f[1] + 0.5 * math.pi)  # cos' = -sin
    return _chain(f, low, high, rate_low, rate_high)


@njit(error_model="numpy")
def sin(f):  # type: ignore[no-untyped-def]
    """The sine of f."""
    rate_low, rate_high = _wave(f[0], f[1])
    if f[0] >= -1.5 and f[1] <= 1.5:  # increasing
        return _chain(f, math.sin(f[0]), math.sin(f[1]), rate_low, rate_high)
    low, high = _wave(f[0] - 0.5 * math.pi, f[1] - 0.5 * math.pi)
    return _chain(f, low, high, rate_low, rate_high)


@njit(error_model="numpy")
def maximum(f, g):  # type: ignore[no-untyped-def]
    """max(f, g)."""
    if f[0] >= g[1]:
        return f
    if g[0] >= f[1]:
        return g
    return (max(f[0], g[0]), max(f[1], g[1]), min(f[2], g[2]), max(f[3], g[3]))


@njit(error_model="numpy")
def minimum(f, g):  # type: ignore[no-untyped-def]
    """min(f, g)."""
    return negative(maximum(negative(f), negative(g)))


@njit(error_model="numpy")
def absolute(f):  # type: ignore[no-untyped-def]
    """|f|."""
    return maximum(f, negative(f))


@njit(error_model="numpy")
def heaviside(f, half):  # type: ignore[no-untyped-def]
    """The step 0, half, 1 at f < 0, f = 0, f > 0."""
    if f[0] > 0.0:
        return (1.0, 1.0, 0.0, 0.0)
    if f[1] < 0.0:
        return (0.0, 0.0, 0.0, 0.0)
    if f[0] == 0.0 == f[1] and f[2] == 0.0 == f[3]:
        return (half[0], half[0], 0.0, 0.0)
    return (0.0, 1.0, -math.inf, math.inf)


@njit(error_model="numpy")
def sign(f):  # type: ignore[no-untyped-def]
    """The sign of f."""
    step = heaviside(f, (0.5, 0.5, 0.0, 0.0))
    return (2.0 * step[0] - 1.0, 2.0 * step[1] - 1.0, step[2], step[3])


OPERATIONS = (
    *("absolute", "add", "arctan", "constant", "cos", "cosh", "divide", "erf", "erfc", "exp", "heaviside", "log"),
    *(
        "maximum",
        "minimum",
        "multiply",
        "negative",
        "power",
        "scale",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "subtract",
        "tanh",
    ),
)
"""The names that `enclosure_text` writes: functions of this module."""

_BINARY: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
_CONSTANTS = {"pi": math.pi}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "erf": math.erf,
    "erfc": math.erfc,
}
_FUNCTIONS |= {name: getattr(math, name) for name in ("cos", "cosh", "sin", "sinh", "tanh")}
_FUNCTIONS |= {"arctan": math.atan, "ratio": operator.truediv}


class _Writer(ast.NodeVisitor):
    """Expressions as text of jets, or as numbers where they have no variable in them."""

    def __init__(self, variables: set[str]) -> None:
        self.variables = variables

    def generic_visit(self, node: ast.AST) -> str | float:
        raise NoEnclosure(f"no enclosure of {ast.unparse(node)}")

    def visit_Constant(self, node: ast.Constant) -> str | float:
        return float(node.value)  # type: ignore[arg-type]

    def visit_Name(self, node: ast.Name) -> str | float:
        if node.id in self.variables:
            return node.id
        if node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> str | float:
        inner = self.visit(node.operand)
        if not isinstance(node.op, ast.USub):
            return self.generic_visit(node)
        return f"negative({inner})" if isinstance(inner, str) else -inner

    def visit_BinOp(self, node: ast.BinOp) -> str | float:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Pow):
            if isinstance(right, str):
                return self.generic_visit(node)
            return left**right if isinstance(left, float) else f"power({left}, {right!r})"
        if type(node.op) not in _BINARY:
            return self.generic_visit(node)
        if isinstance(left, float) and isinstance(right, float):
            return float(_ARITHMETIC[type(node.op)](left, right))
        if isinstance(node.op, ast.Mult) and isinstance(left, float):
            return f"scale({left!r}, {right})"
        if isinstance(node.op, ast.Mult) and isinstance(right, float):
            return f"scale({right!r}, {left})"
        if isinstance(node.op, ast.Div) and isinstance(right, float):
            return f"scale({1 / right!r}, {left})"
        return f"{_BINARY[type(node.op)]}({_jet_text(left)}, {_jet_text(right)})"

    def visit_Call(self, node: ast.Call) -> str | float:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        parts = [self.visit(argument) for argument in node.args]
        if name in _FUNCTIONS and all(isinstance(part, float) for part in parts):
            return float(_FUNCTIONS[name](*parts))
        if name not in OPERATIONS or node.keywords:
            return self.generic_visit(node)
        return f"{name}({', '.join(_jet_text(part) for part in parts)})"


def _jet_text(part: str | float) -> str:
    return part if isinstance(part, str) else f"constant({part!r})"


def enclosure_text(function: Callable[..., Any], name: str) -> str:
    """The text of name(low, high): the jet of a generated function of one variable over [low, high].

    NoEnclosure if it uses a function that has none.

    >>> def g(x):
    ...     return x**2 - 1
    >>> print(enclosure_text(g, "jet"))
    def jet(low, high):
        x = (low, high, 1.0, 1.0)
        return subtract(power(x, 2.0), constant(1.0))
    """
    (definition,) = syntax_tree(textwrap.dedent(inspect.getsource(function))).body
    if not isinstance(definition, ast.FunctionDef):
        raise NoEnclosure(f"{function.__name__} is not a function")
    (argument,) = definition.args.args
    variables = {argument.arg}
    lines = [f"def {name}(low, high):", f"    {argument.arg} = (low, high, 1.0, 1.0)"]
    for statement in definition.body:
        if isinstance(statement, ast.Expr):  # the docstring
            continue
        if isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name):
            lines.append(f"    {target.id} = {_jet_text(_Writer(variables).visit(statement.value))}")
            variables.add(target.id)
        elif isinstance(statement, ast.Return) and statement.value is not None:
            lines.append(f"    return {_jet_text(_Writer(variables).visit(statement.value))}")
        else:
            raise NoEnclosure(f"no enclosure of {ast.unparse(statement)}")
    return "\n".join(lines)
