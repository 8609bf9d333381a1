"""Sums of exponentials, sum_j ±exp(b_j + a_j x): where they change sign in x, in float64 or any precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from quenched.numerics.compiled.machine_code import inner, njit
from quenched.numerics.compiled.precision import bind, mp_array, mp_namespace

__all__ = ["Numbers", "sign_changes"]

Array = npt.NDArray[Any]

_STEPS = 200  # of Newton's method or halving: 60 halvings leave float64 nothing to halve


class Numbers:
    """What numbers are: float64, or those of an mpmath context in object arrays."""

    def __init__(self, ctx: Any = None) -> None:
        self.ctx = ctx
        functions = {name: getattr(np, name) for name in ("exp", "log", "sqrt")} if ctx is None else mp_namespace(ctx)
        self.exp, self.log, self.sqrt = (functions[name] for name in ("exp", "log", "sqrt"))
        self.pi = math.pi if ctx is None else +ctx.pi
        self._functions = functions

    def array(self, values: Any) -> Array:
        """As an array of these numbers, exactly."""
        return np.asarray(values, dtype=np.float64) if self.ctx is None else mp_array(self.ctx, values)

    def number(self, value: float) -> Any:
        """As one of these numbers, exactly."""
        return np.float64(value) if self.ctx is None else self.ctx.mpf(value)

    def formula(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A generated function on these numbers."""
        return function if self.ctx is None else bind(function, self._functions)


@inner(error_model="numpy")
def _log_ratio(x: float, rates: Array, logs: Array, positive: Array) -> tuple[float, float]:
    """G = log(S+/S-) and dG/dx of one row: well scaled where S is not."""
    top_plus, top_minus = -math.inf, -math.inf
    for j in range(len(rates)):
        exponent = logs[j] + rates[j] * x
        if positive[j]:
            top_plus = max(top_plus, exponent)
        else:
            top_minus = max(top_minus, exponent)
    plus, plus_slope, minus, minus_slope = 0.0, 0.0, 0.0, 0.0
    for j in range(len(rates)):
        exponent = logs[j] + rates[j] * x
        if positive[j]:
            term = math.exp(exponent - top_plus)
            plus += term
            plus_slope += term * rates[j]
        else:
            term = math.exp(exponent - top_minus)
            minus += term
            minus_slope += term * rates[j]
    if plus == 0.0 or minus == 0.0:
        return math.inf if minus == 0.0 else -math.inf, 0.0
    return top_plus + math.log(plus) - top_minus - math.log(minus), plus_slope / plus - minus_slope / minus


@njit(error_model="numpy")
def _compiled(edges: Array, rates: Array, logs: Array, positive: Array, accuracy: float) -> tuple[Array, Array]:
    """`sign_changes` in float64: Newton on G, or bisection where that leaves the bracket or does not halve its step."""
    zeros, values = edges[:, 1:].copy(), np.empty_like(edges)
    for row in range(len(edges)):
        for k in range(edges.shape[1]):
            values[row, k] = _log_ratio(edges[row, k], rates, logs[row], positive)[0]
        for k in range(edges.shape[1] - 1):
            a, b = values[row, k], values[row, k + 1]
            if (a > 0) == (b > 0):
                continue
            low, high = edges[row, k], edges[row, k + 1]
            before, x = high - low, low - a * (high - low) / (b - a)
            if not low < x < high:
                x = 0.5 * (low + high)
            for _ in range(_STEPS):
                value, slope = _log_ratio(x, rates, logs[row], positive)
                if (value > 0) == (b > 0):
                    high = x
                else:
                    low = x
                following = 0.5 * (low + high)
                if slope != 0.0:
                    step = value / slope
                    if low < x - step < high and 2 * abs(step) <= before:
                        following = x - step
                before = abs(following - x)
                x = following
                if not before > accuracy:
                    break
            zeros[row, k] = x
    return zeros, values


def sign_changes(
    edges: Array, rates: Array, logs: Array, positive: Array, guess: Array | None, accuracy: Any, numbers: Numbers
) -> tuple[Array, Array]:
    """Sign changes of S(x) = sum_j ±exp(logs_j + rates_j x) between `edges` (Y, k+1), one row of logs (Y, n) per row.

    `positive` (n,) marks the terms with a plus; S must be monotonic between edges but for a positive factor.  Returns
    the zeros (Y, k), the upper edge where S keeps its sign, and G = log(S+/S-) at the edges (Y, k+1), S+ and S- being
    the sums of positive and negative terms.  Newton's last step is below `accuracy`, the zero far closer.
    """
    if numbers.ctx is None:
        return _compiled(edges, rates, logs, positive, accuracy)
    parts = [(sign, rates[chosen], logs[:, chosen]) for sign, chosen in ((1, positive), (-1, ~positive))]

    def log_ratio(x: Array, rows: Array) -> tuple[Array, Array]:
        """G and dG/dx at x (m,), each in its row of logs: well scaled where S is not."""
        value = slope = np.zeros(len(x), dtype=x.dtype)
        for sign, a, b in parts:
            exponents = b[rows] + a * x[:, None]
            top = exponents.max(axis=1)
            terms = numbers.exp(exponents - top[:, None])
            total = terms.sum(axis=1)
            value = value + sign * (top + numbers.log(total))
            slope = slope + sign * (terms @ a) / total
        return value, slope

    at_edges = log_ratio(edges.ravel(), np.repeat(np.arange(len(edges)), edges.shape[1]))[0].reshape(edges.shape)
    above = at_edges > 0
    zeros = edges[:, 1:].copy()
    rows, columns = np.nonzero(above[:, 1:] != above[:, :-1])
    low, high, rising = edges[rows, columns], edges[rows, columns + 1], above[rows, columns + 1]
    a, b = at_edges[rows, columns], at_edges[rows, columns + 1]
    x = low - a * (high - low) / (b - a)
    if guess is not None:
        given = guess[rows, columns]
        x = np.where((low < given) & (given < high), given, x)
    before = high - low
    for _ in range(
        _STEPS + numbers.ctx.prec
    ):  # Newton on G, or bisection where that leaves the bracket or does not halve its last step
        value, slope = log_ratio(x, rows)
        beyond = (value > 0) == rising
        low, high = np.where(beyond, low, x), np.where(beyond, x, high)
        flat = slope == 0
        step = value / np.where(flat, 1, slope)
        newton = ~flat & (low < x - step) & (x - step < high) & (2 * np.abs(step) <= before)
        following = np.where(newton, x - step, (low + high) / 2)
        before = np.abs(following - x)
        zeros[rows, columns] = x = following
        more = before > accuracy
        if not more.any():
            break
        if not more.all():
            rows, columns, rising, x, before = rows[more], columns[more], rising[more], x[more], before[more]
            low, high = low[more], high[more]
    return zeros, at_edges
