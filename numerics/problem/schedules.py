"""Rates that change in time: a number, an expression in t, or a table of (t, value).

    0.5        "0.5/(1 + t/10)"        ((0, 0.5), (100, 0.5), (100, 0.05))

t is the time of the learning equations, D steps a unit.  Between the times of a table values are interpolated linearly,
before the first and after the last they stay; a time that stands twice is a jump, to the second value.  A text is read
against the whitelist of `quenched.symbolic.language.grammar`; "0:0.5, 100:0.5, 100:0.05" is the table above.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from functools import lru_cache, reduce
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import expression_text, finite_array, number, shown
from quenched.symbolic.language.grammar import FUNCTIONS, SCHEDULE, expression, syntax_tree
from quenched.theory.functions import FUNCTIONS as ELEMENTARY

__all__ = ["Rate", "break_times", "check_until", "is_constant", "rate", "rate_at", "rate_text", "scaled"]

Array = npt.NDArray[np.float64]
Rate = float | str | tuple[tuple[float, float], ...]
"""A rate >= 0: a number, an expression in t, or a table of pairs (t, value)."""

_GRID = 4096  # intervals of a run in which a schedule is looked at beforehand
_SOON = 1e-6  # just after the start, where what starts from 0 has a sign
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def rate(name: str, value: Any) -> Rate:
    """`value` in its one form: what does not depend on t is a number, a text is printed canonically.

    ValueError: neither number, expression nor table, or negative at t = 0, just after it, or in the table.

    >>> rate("lr", "1/4"), rate("lr", "1/(1+t)"), rate("lr", "0:1, 5:0.5")
    (0.25, '1/(1 + t)', ((0.0, 1.0), (5.0, 0.5)))
    >>> rate("lr", [(0, 1), (2, -1)])
    Traceback (most recent call last):
    ...
    ValueError: lr must be finite and >= 0, got -1 at t = 2
    """
    if isinstance(value, str):
        if ":" in value:
            return rate(name, _pairs(name, value))
        try:
            text = expression_text(value, SCHEDULE)
        except ValueError as error:
            raise ValueError(f"{name} must be a number, an expression in t, or a table t:value, ..: {error}") from error
        if not _mentions_time(text):
            return number(name, float(_evaluate(text, np.zeros(()))))
        rate_at(name, text, [0.0, _SOON])
        return text
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.ndim > 0):
        table = finite_array(name, value, (None, 2))
        if (back := np.flatnonzero(np.diff(table[:, 0]) < 0)).size:
            raise ValueError(f"{name} must be a table of times that do not fall, got {shown(table[back[0] :, 0])}")
        if table[0, 0] < 0:
            raise ValueError(f"{name} must be a table of times >= 0, got {table[0, 0]:g}")
        _require(name, table[:, 1], table[:, 0], "")
        return tuple((float(t), float(x)) for t, x in table)
    return number(name, value)


def is_constant(value: Rate) -> bool:
    """Whether it is a number."""
    return isinstance(value, float)


def rate_at(name: str, value: Rate, t: npt.ArrayLike) -> Array:
    """The rate at times t, of their shape.  ValueError: it is negative or not finite at one of them."""
    times = np.asarray(t, dtype=np.float64)
    if isinstance(value, float):
        return np.full(times.shape, value)
    if isinstance(value, str):
        with np.errstate(all="ignore"):  # looked at just below
            found = np.broadcast_to(np.asarray(_evaluate(value, times), dtype=np.float64), times.shape)
        _require(name, found, times, f" of {value!r}")
        return found
    table = np.array(value)
    return np.asarray(np.interp(times, table[:, 0], table[:, 1]))


def check_until(name: str, value: Rate, end: float) -> None:
    """ValueError, with the time and the value, where the rate is negative before `end`: looked at in 4096 places."""
    rate_at(name, value, np.linspace(0.0, end, _GRID + 1) if isinstance(value, str) else 0.0)


def break_times(value: Rate) -> tuple[float, ...]:
    """The times of a table, at which a rate bends or jumps; those of an expression are not known."""
    return tuple(sorted({t for t, _ in value})) if isinstance(value, tuple) else ()


def rate_text(value: Rate) -> str:
    """The rate in a few words, for messages and labels.

    >>> rate_text(0.25), rate_text("1/(1 + t)"), rate_text(((0.0, 1.0), (5.0, 0.5)))
    ('0.25', '1/(1 + t)', '0:1, 5:0.5')
    """
    if isinstance(value, str):
        return value
    return f"{value:g}" if isinstance(value, float) else ", ".join(f"{t:g}:{x:g}" for t, x in value)


def scaled(value: Rate, factor: float) -> Rate:
    """The rate times a factor.

    >>> scaled("1/(1 + t)", 2.0), scaled(((0.0, 1.0), (5.0, 0.5)), 2.0)
    ('2.0*(1/(1 + t))', ((0.0, 2.0), (5.0, 1.0)))
    """
    if isinstance(value, str):
        return expression_text(f"{factor}*({value})", SCHEDULE)
    return factor * value if isinstance(value, float) else tuple((t, factor * x) for t, x in value)


def _pairs(name: str, text: str) -> list[tuple[float, float]]:
    try:
        return [(float(t), float(x)) for t, x in (pair.split(":") for pair in text.split(","))]
    except ValueError as error:
        raise ValueError(f"{name} must be a table t:value, t:value, .. of numbers, got {text!r}") from error


def _require(name: str, values: Array, times: Array, where: str) -> None:
    if not (wrong := np.isfinite(values) & (values >= 0)).all():
        at = np.flatnonzero(~wrong.ravel())[0]
        value, t = values.ravel()[at], times.ravel()[at]
        raise ValueError(f"{name} must be finite and >= 0, got {value:g}{where} at t = {t:g}")


# --- expressions, without sympy


def _mentions_time(text: str) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "t" for node in ast.walk(_tree(text)))


@lru_cache(maxsize=64)
def _tree(text: str) -> ast.expr:
    return syntax_tree(expression(text, SCHEDULE), "eval").body


def _evaluate(text: str, t: Array) -> Any:
    return _value(_tree(text), {"t": t, "pi": math.pi, "E": math.e})


def _value(node: ast.expr, names: dict[str, Any]) -> Any:
    """What an expression of the grammar is, by NumPy."""
    match node:
        case ast.Constant(value):
            return np.float64(value)  # type: ignore[arg-type]
        case ast.Name(name):
            return names[name]
        case ast.UnaryOp(sign, operand):
            return -_value(operand, names) if isinstance(sign, ast.USub) else _value(operand, names)
        case ast.BinOp(left, sign, right):
            return _OPERATORS[type(sign)](_value(left, names), _value(right, names))
        case ast.Call(ast.Name(name), arguments):
            return _call(name, [_value(argument, names) for argument in arguments])
    raise ValueError(f"schedule {ast.unparse(node)!r} is not understood")  # the grammar lets nothing else through


def _call(name: str, given: list[Any]) -> Any:
    """A function that a user may write: elementary, or composed of these."""
    for entry, each in ELEMENTARY.items():
        if name in each.written:
            function = getattr(import_module(each.module), entry)
            if entry == "heaviside":
                return function(given[0], 0.5)
            return function(*given) if each.arguments == 1 else reduce(function, given)
    return _value(syntax_tree(FUNCTIONS[name], "eval").body, {"x": given[0]})
