"""Solutions of x = F(x): Newton's method with a safeguard, and the fixed point that plain iteration leads to.

A saddle point of a replica-symmetric potential is a fixed point of a map F of its order parameters: conjugates from
order parameters, order parameters from conjugates.  Its residual is max |F(x) - x| in the coordinates that the caller
chose (logarithms of what is positive), and is computed anew at the point that is returned.

`solve` takes Newton's steps, shortened until the residual falls; where it does not, a step of damped iteration.
`limit` iterates F itself, so that it knows the branch that it is on, and lets Newton finish where they contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["RESIDUAL", "Saddle", "SaddlePointError", "amplification", "jacobian", "limit", "solve"]

Array = npt.NDArray[np.float64]
Map = Callable[[Array], Array]

RESIDUAL = 1e-10
"""The largest residual of a solution that is returned."""

_AIM = 1e-13  # residual at which iteration ends; rounding may stop it before
_STEP = 1e-7  # of forward differences: the square root of the rounding error of F
_LONGEST = 3.0  # length of a Newton step in any coordinate: a factor 20 where that is a logarithm
_DAMPING = 0.5
_FINISH = 30  # Newton steps; towards a nearly double root each only halves the distance


class SaddlePointError(RuntimeError):
    """No saddle point was found: the last residual, and what to try."""


class Saddle(NamedTuple):
    """A fixed point, its residual, by how much an error of F is amplified in it, and evaluations of F.

    `amplification` is the norm of (1 - dF/dx)^-1: the point has the error amplification·(error of F + residual).  Where
    the solution is a limit of iterates, it is that of the direction they came from.
    """

    point: Array
    residual: float
    amplification: float
    evaluations: int


def amplification(slope: Array) -> float:
    """max-norm of (1 - slope)^-1."""
    return float(np.linalg.norm(np.linalg.pinv(np.eye(len(slope)) - slope), np.inf))


def jacobian(F: Map, x: Array, value: Array) -> Array:
    """dF_i/dx_j by forward differences; value = F(x)."""
    columns = []
    for j in range(len(x)):
        moved = x.copy()
        moved[j] += _STEP * max(1.0, abs(x[j]))
        columns.append((F(moved) - value) / (moved[j] - x[j]))
    return np.stack(columns, axis=1)


def _newton(slope: Array, change: Array) -> Array:
    """Newton's step for F(x) - x = change; the shortest where 1 is an eigenvalue of the slope dF/dx."""
    step: Array = np.linalg.lstsq(np.eye(len(change)) - slope, change, rcond=None)[0].astype(np.float64)
    return step


def _size(change: Array) -> float:
    """The largest entry; infinite where F left the numbers."""
    return float(np.abs(change).max()) if np.isfinite(change).all() else np.inf


def solve(F: Map, start: Array, *, steps: int = 60, what: str = "the saddle point", advice: str = "") -> Saddle:
    """A fixed point of F near `start`.

    SaddlePointError: none within `steps`; it tells `what` was sought, the last residual, and the `advice`.
    """
    x = np.array(start, dtype=np.float64)
    change = F(x) - x
    count, stalled = 1, 0
    best = (np.inf, x, np.eye(len(x)))
    for _ in range(steps):
        size = _size(change)
        if not np.isfinite(size):
            break
        slope = jacobian(F, x, x + change)
        count += len(x)
        usable = np.isfinite(slope).all()
        newton = _newton(slope, change) if usable else change
        if size < best[0]:
            best = (size, x, slope)
        else:
            stalled += 1
        if size < _AIM or (size < RESIDUAL and stalled):
            break
        newton = newton * min(1.0, _LONGEST / max(_size(newton), 1e-300))
        for shortening in (1.0, 0.5, 0.25, 0.1, 0.03):
            trial = x + shortening * newton
            found = F(trial) - trial
            count += 1
            if _size(found) < (1 - shortening / 4) * size:
                break
        else:
            trial = x + _DAMPING * change * min(1.0, 1 / size)
            found = F(trial) - trial
            count += 1
        x, change = trial, found
    residual, point, slope = best
    if residual > RESIDUAL:
        raise SaddlePointError(f"{what} was not found: residual {residual:.3g} after {count} evaluations; {advice}")
    return Saddle(point, residual, amplification(slope), count)


def limit(F: Map, start: Array, *, steps: int = 20_000, what: str = "the state evolution", advice: str = "") -> Saddle:
    """The fixed point that x -> F(x) reaches from `start`.

    Near it the changes shrink by a steady ratio r, and what is left is change·r/(1 - r): a Newton solution is taken if
    it lies there, and not where it belongs to another branch.
    """
    x = np.array(start, dtype=np.float64)
    before, wait = np.inf, 4
    for count in range(1, steps + 1):
        new = F(x)
        change = _size(new - x)
        if change <= _AIM:
            return Saddle(new, _size(F(new) - new), 1 / max(1 - change / before, _AIM), count + 1)
        ratio = change / before
        if ratio < 1 and count >= wait and change < 0.1:
            left = change * ratio / (1 - ratio)
            found = _finish(F, new)
            if found is not None and _size(found.point - new) <= 3 * left + RESIDUAL:
                return found._replace(evaluations=found.evaluations + count)
            wait = 2 * count  # too early: the next attempt comes later
        x, before = new, change
    raise SaddlePointError(f"{what} did not end: last change {change:.3g} after {steps} iterations; {advice}")


def _finish(F: Map, x: Array) -> Saddle | None:
    """Newton's solution from x, if the steps shrink and it attracts the iteration; None otherwise."""
    count, last = 0, np.inf
    for _ in range(_FINISH):
        value = F(x)
        slope = jacobian(F, x, value)
        count += 1 + len(x)
        if not np.isfinite(slope).all():
            return None
        step = _newton(slope, value - x)
        x = x + step
        if _size(step) > 0.9 * last:
            return None
        last = _size(step)
        if last < 1e-9:
            value = F(x)
            residual = _size(value - x)
            attracts = np.abs(np.linalg.eigvals(slope)).max() < 1 + 1e-7
            return Saddle(x, residual, amplification(slope), count + 1) if attracts and residual < RESIDUAL else None
    return None
