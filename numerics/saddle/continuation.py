"""Following a saddle point along a parameter, each point starting from the last."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from quenched.numerics.saddle.solve import Map, Saddle, SaddlePointError, solve

__all__ = ["bisected", "followed"]

Array = npt.NDArray[np.float64]
T = TypeVar("T")

_HALVINGS = 12  # of a step of the parameter before continuation gives up


def followed(
    map_at: Callable[[float], Map], values: Sequence[float], start: Array, *, what: str, advice: str
) -> list[Saddle]:
    """The saddle points of F = map_at(value) at each of the positive `values`, in their order.

    A step that fails is halved in the logarithm of the value, down to 1/4096 of it.  SaddlePointError beyond.
    """
    found: list[Saddle] = []
    at, point = values[0], start
    for value in values:
        target, halvings = value, 0
        while True:
            try:
                saddle = solve(map_at(target), point, what=f"{what} at {target:g}", advice=advice)
            except SaddlePointError:
                halvings += 1
                if halvings > _HALVINGS or at == target:
                    raise
                target = math.sqrt(at * target)
                continue
            at, point, halvings = target, saddle.point, 0
            if target == value:
                break
            target = value
        found.append(saddle)
    return found


def bisected(condition: Callable[[float], bool], low: float, high: float, *, rtol: float = 1e-10) -> float:
    """The positive value between `low`, where the condition is false, and `high`, where it is true, at which it turns.

    >>> print(f"{bisected(lambda x: x * x > 2, 1.0, 2.0):.9f}")
    1.414213562
    """
    while high > low * (1 + rtol):
        middle = math.sqrt(low * high)
        if condition(middle):
            high = middle
        else:
            low = middle
    return math.sqrt(low * high)
