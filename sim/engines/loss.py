"""The slope F(phi, y) = dl/dphi of the loss, as the engines take it: for arrays, and for compiled loops."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from quenched.numerics.calculus.compile import callback

__all__ = ["compiled_slope", "slope"]


def slope(loss: str) -> Callable[[Any, Any], Any]:
    """F for arrays of any namespace."""
    return _square


@cache
def compiled_slope(loss: str) -> Any:
    """F of two numbers as a numba `cfunc`."""
    return callback("float64(float64, float64)")(_square)


def _square(phi: Any, y: Any) -> Any:
    return phi - y
