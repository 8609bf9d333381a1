"""Quadrature of one-dimensional integrands, with error estimates: float64 panels, and any precision by tanh-sinh.

Integrands take an array of abscissae and return an array of values, so that a whole generation of panels is one call.
Integrands that are smooth but for a few points converge fast if panels end at those points; both routines bisect towards
what was missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Quadrature", "adaptive", "tanh_sinh"]

Array = npt.NDArray[Any]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


@dataclass(frozen=True)
class Quadrature:
    """The value of an integral, an estimate of its absolute error, and how many abscissae it took."""

    value: Any
    error: Any
    evaluations: int


def adaptive(f: Callable[[Array], Array], panels: npt.ArrayLike, tolerance: float, levels: int = 50) -> Quadrature:
    """Sum of the integrals of f over `panels` (n, 2), to a relative `tolerance`: 16-point Gauss-Legendre with bisection.

    A panel is done when its two halves agree with the whole.  The error estimate is the sum of those differences: it is
    that of the whole panels, while the value is that of the halves.  RuntimeError after `levels` bisections.

    >>> quadrature = adaptive(np.abs, [(-1.0, 2.0)], 1e-10)          # kink at 0
    >>> abs(quadrature.value - 2.5) < quadrature.error < 2.5e-10
    True
    """
    panels = np.asarray(panels, dtype=np.float64)
    evaluations = 0

    def gauss(panels: Array) -> Array:
        nonlocal evaluations
        half = (panels[:, 1:] - panels[:, :1]) / 2
        points = panels[:, :1] + half * (1 + _NODES)
        evaluations += points.size
        return np.asarray((f(points.ravel()).reshape(points.shape) * _WEIGHTS).sum(axis=1) * half[:, 0])

    whole = gauss(panels)
    value = error = 0.0
    for _ in range(levels):
        middle = panels.mean(axis=1)
        halves = np.stack([panels[:, 0], middle, middle, panels[:, 1]], axis=1).reshape(-1, 2)
        parts = gauss(halves).reshape(-1, 2)
        sums = parts.sum(axis=1)
        gaps = np.abs(whole - sums)
        total = value + sums.sum()
        # a share of the tolerance for every panel of every level; below it, rounding
        enough = np.maximum(0.05 * tolerance * abs(total) / len(panels), 1e-15 * np.abs(sums))
        open_ = gaps > enough
        if error + gaps.sum() <= tolerance * abs(total):
            open_[:] = False
        value += sums[~open_].sum()
        error += gaps[~open_].sum()
        if not open_.any():
            return Quadrature(float(value), float(error), evaluations)
        panels = halves.reshape(-1, 2, 2)[open_].reshape(-1, 2)
        whole = parts[open_].ravel()
    raise RuntimeError(
        f"quadrature reached {total:.15g} ± {error + gaps.sum():.2g} (relative tolerance {tolerance:g}) and still does not "
        f"converge around {panels.mean():.15g} after {levels} bisections: raise the tolerance"
    )


def tanh_sinh(f: Callable[[Array], Array], points: Sequence[Any], tolerance: Any, ctx: Any) -> Quadrature:
    """Integral of f over the intervals between `points`, to the absolute `tolerance`, in the numbers of `ctx` (mpmath).

    x = tanh(pi/2 sinh t) turns an interval into the line, where the trapezoidal rule converges faster than geometrically
    for integrands analytic inside, whatever they do at the ends.  The step is halved until the differences of successive
    values, summed as a geometric series, fall below a hundredth of the tolerance; where they do not shrink, the interval
    is bisected.  RuntimeError after 200 intervals.

    >>> from quenched.numerics.precision import context
    >>> ctx = context(40)
    >>> quadrature = tanh_sinh(lambda x: x ** ctx.mpf("1.5"), (ctx.zero, ctx.one), ctx.mpf("1e-30"), ctx)
    >>> print(ctx.nstr(quadrature.value, 30))
    0.4
    """
    pending = list(pairwise(points))
    done = []
    while pending:
        lower, upper = pending.pop()
        if len(done) + len(pending) > 200:
            raise RuntimeError(
                f"quadrature does not reach the tolerance {ctx.nstr(tolerance, 2)} with 200 intervals, the last one around "
                f"{ctx.nstr(lower, 15)}: ask for fewer digits"
            )
        result = _trapezoidal(f, lower, upper, tolerance / 100, ctx)
        if result is None:
            middle = (lower + upper) / 2
            pending += [(middle, upper), (lower, middle)]
        else:
            done.append(result)
    return Quadrature(
        ctx.fsum(q.value for q in done), ctx.fsum(q.error for q in done), sum(q.evaluations for q in done)
    )


def _trapezoidal(f: Callable[[Array], Array], lower: Any, upper: Any, tolerance: Any, ctx: Any) -> Quadrature | None:
    """One interval of `tanh_sinh`; None if it should be bisected."""
    length = upper - lower
    reach = ctx.asinh(ctx.log(4 / ctx.eps) / ctx.pi)  # beyond, abscissae agree with the ends to working precision
    total, values, evaluations = ctx.zero, [], 0
    for level in range(8):
        step = ctx.ldexp(1, -level)
        t = [k * step for k in range(1, int(reach / step) + 1, 1 if level == 0 else 2)]  # nodes new at this level
        q = [ctx.exp(-ctx.pi * ctx.sinh(s)) for s in t]
        to_end = [length * p / (1 + p) for p in q]
        weights = [ctx.pi * length * ctx.cosh(s) * p / (1 + p) ** 2 for s, p in zip(t, q, strict=True)] * 2
        nodes = [lower + d for d in to_end] + [upper - d for d in to_end]
        if level == 0:
            nodes.append((lower + upper) / 2)
            weights.append(ctx.pi * length / 4)
        total += ctx.fdot(weights, f(np.array(nodes, dtype=object)))
        evaluations += len(nodes)
        values.append(step * total)
        if level < 3:
            continue
        last, before = abs(values[-1] - values[-2]), abs(values[-2] - values[-3])
        if last < before / 8:
            error = last * last / (before - last)
            if error <= tolerance:
                return Quadrature(values[-1], max(error, abs(values[-1]) * ctx.eps), evaluations)
        elif last <= tolerance:
            return Quadrature(values[-1], max(last, abs(values[-1]) * ctx.eps), evaluations)
        elif level > 3:
            return None
    return None
