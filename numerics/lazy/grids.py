"""Averages over the components f ~ N(0, 1_k) of random features along the means, as sums over a grid.

For a Gaussian times a function analytic in a strip the trapezoidal rule converges exponentially, so that halving the
step tells the error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from quenched.numerics.lazy.readout import ReadoutErrors

__all__ = ["gaussian_grid", "refined"]

Array = npt.NDArray[np.float64]

_RADIUS = 8.0  # |f| > 8 has probability 1e-14
_STEP = 0.5  # of the first grid; the trapezoidal rule for a polynomial times the Gaussian is then exact to 1e-30
_NODES = 500_000  # of the finest grid, corners of the cube around it included


@lru_cache(maxsize=32)
def gaussian_grid(k: int, level: int) -> tuple[Array, Array]:
    """Nodes (n, k) and weights (n,) of averages over N(0, 1_k): a grid of step _STEP/2^level in a ball."""
    step = _STEP / 2**level
    reach = math.floor(_RADIUS / step)
    axis = step * np.arange(-reach, reach + 1)
    f = np.stack(np.meshgrid(*[axis] * k, indexing="ij"), axis=-1).reshape(-1, k)
    f = f[(f**2).sum(axis=1) <= _RADIUS**2]
    weights = np.exp(-(f**2).sum(axis=1) / 2)
    weights /= weights.sum()
    f.flags.writeable = weights.flags.writeable = False
    return f, weights


def refined(
    means: Array,
    sigmas: Array,
    solve: Callable[[Array, Array], ReadoutErrors],
    tolerance: float,
    size: Callable[[ReadoutErrors], float] = lambda found: found.pmse,
) -> ReadoutErrors:
    """`solve` on finer and finer grids until `size` changes by less than the relative tolerance.

    Averages psi_j(f·mean) vary over lengths sigma/|mean| of f: the first grid has steps no longer than that.  The error
    estimate is the last change: that of the coarser of the two grids.
    """
    k = means.shape[1]
    sharpest = float((np.linalg.norm(means, axis=1) / sigmas).max())
    level = max(0, math.ceil(math.log2(max(_STEP * sharpest, 1.0))))
    before: ReadoutErrors | None = None
    gap = change = np.inf
    while (_RADIUS * 2 ** (level + 1) / _STEP) ** k < _NODES:
        found = solve(*gaussian_grid(k, level))
        if before is not None:
            new, old = size(found), size(before)
            gap = abs(new - old) / max(abs(new), abs(old)) if new != old else 0.0
            change = abs(found.classification_error - before.classification_error)
            if gap <= tolerance and change <= tolerance:
                return _refined_by(found, change, gap)
        before, level = found, level + 1
    if before is not None and max(gap, change) < 1e-3:
        return _refined_by(before, change, gap)
    raise RuntimeError(
        f"a grid of {_NODES} points does not resolve averages over {k} components of the features, with means up to "
        f"{sharpest:.3g} sigma (in units of sqrt(D)): the last change was {max(gap, change):.1e}; raise sigma"
    )


def _refined_by(found: ReadoutErrors, change: float, gap: float) -> ReadoutErrors:
    """With the error of a grid: `change` of the classification error, relative `gap` of the pmse."""
    return replace(
        found,
        classification_error_error=found.classification_error_error + change,
        pmse_error=found.pmse_error + gap * found.pmse,
    )
