"""Averages of the proximal operator of any convex loss over a normal field, compiled.

    f(w) = (prox(w) - w)/V,   prox(w) = argmin_h (h - w)^2/(2V) + l(h, y),   w ~ N(mean, spread^2)

f is the root of f + dl/dphi(w + V f, y), which rises with f.  It lies between 0 and -dl/dphi(w, y), and is found there
by bisection and inverse quadratic interpolation in turn (Chandrupatla 1997): Newton's method alone cycles for a
logistic loss at large V, and has no slope at the kink of a hinge.  A kink at h, where the slope goes from l- to l+,
holds the prox of all w from h + V l- to h + V l+.  E[f'] = E[(w - mean) f]/spread^2 by Stein's rule, so that no second
derivative is needed.  Where labels are random given w, each is weighted with its probability Phi(base + slope xi).

The integral is adaptive: panels end at those w, and a panel is halved until its halves agree with it, and f at
their ends with the polynomial through its nodes.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.averages.losses import compiled_loss, compiled_value, kinks
from quenched.numerics.compiled.machine_code import inner, njit

__all__ = ["Channel", "Moves", "proximal_averages", "proximal_move", "proximal_moves", "proximal_points"]

Array = npt.NDArray[np.float64]
Law = tuple[float, float, float, float, float, float]  # y, V, mean and spread of the field, base and slope

_REACH = 9.0  # standard deviations
_BEYOND = 4e-18  # of the size of what is averaged at that distance: twice phi(9), for 1, xi, and growth beyond
_ACCURACY = 1e-13  # of a panel, relative to the integral of the absolute value
_ERROR = 20 * _ACCURACY  # of the averages, relative, where every panel has its accuracy
_PANELS = 12
_DEPTH = 38  # halvings of a panel: what is left of it is 5e-12 wide, and what its halves differ by counts as error
_ORDER = 10
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(_ORDER)
_ENDS = np.linalg.solve(np.polynomial.legendre.legvander(_NODES, _ORDER - 1).T, np.ones(_ORDER))
_RULE = np.stack([_NODES, _WEIGHTS, _ENDS])
"""Gauss-Legendre nodes and weights; the polynomial through values at the nodes is _ENDS @ values at the upper end."""
_SEEN = 1e-11  # of f at the ends of a panel, times its width/100: a kink nearer to an end than all nodes shows there


class Channel(NamedTuple):
    """E[f], E[f^2], E[f'] and E[M] in each cluster (C,); their error, relative to the largest among the clusters.

    `response` (C,), `along` (C, p): where a teacher makes the labels, E[df/dnu] and d Cov(w, nu)/dv.
    """

    move: Array
    squared: Array
    slope: Array
    envelope: Array
    error: float
    response: Array | float = 0.0
    along: Array | float = 0.0


class Moves(NamedTuple):
    """E[f], E[f^2], E[xi f] and E[M] of each label and field (n,); their error, relative to the largest of them."""

    move: Array
    squared: Array
    regressed: Array
    envelope: Array
    error: float


@njit(error_model="numpy")
def _move(slope: Any, kinks: Array, y: float, V: float, w: float) -> float:
    """The root f of f + slope(w + V f, y)."""
    for k in range(len(kinks)):
        if kinks[k, 0] + V * kinks[k, 1] < w < kinks[k, 0] + V * kinks[k, 2]:
            return float((kinks[k, 0] - w) / V)
    a, at_a = 0.0, slope(w, y)
    if at_a == 0.0:
        return 0.0
    b = -at_a
    at_b = b + slope(w + V * b, y)
    if at_b == 0.0:
        return b
    c, at_c, fraction = a, at_a, 0.5
    for _ in range(200):
        x = a + fraction * (b - a)
        value = x + slope(w + V * x, y)
        if (value > 0) == (at_a > 0):
            c, at_c = a, at_a
        else:
            c, b, at_c, at_b = b, a, at_b, at_a
        a, at_a = x, value
        best = a if abs(at_a) < abs(at_b) else b
        narrow = 2.3e-16 * (abs(best) + 1e-30) / max(abs(b - a), 1e-300)
        if narrow > 0.5 or value == 0.0:
            return best
        xi, phi = (a - b) / (c - b), (at_a - at_b) / (at_c - at_b)
        if 1 - np.sqrt(1 - xi) < phi < np.sqrt(xi):
            fraction = at_a / (at_b - at_a) * at_c / (at_b - at_c) + (c - a) / (b - a) * at_a / (at_c - at_a) * at_b / (
                at_c - at_b
            )
        else:
            fraction = 0.5
        fraction = min(1 - narrow, max(narrow, fraction))
    return best


@njit(error_model="numpy")
def _probability(law: Law, xi: float) -> float:
    """Of the label at xi: Phi(base + slope xi), 1 at base = infinity."""
    return 1.0 if law[4] == np.inf else 0.5 * math.erfc(-(law[4] + law[5] * xi) / np.sqrt(2.0))


@njit(error_model="numpy")
def _panel(slope: Any, value: Any, kinks: Array, law: Law, low: float, high: float, rule: Array, out: Array) -> None:
    """Integrals of f, f^2, xi f and the envelope over a piece of xi ~ N(0, 1), and of their absolute values."""
    y, V, mean, spread = law[:4]
    nodes, weights, ends = rule[0], rule[1], rule[2]
    out[:] = 0.0
    upper = lower = 0.0
    half, centre = (high - low) / 2, (high + low) / 2
    for i in range(len(nodes)):
        xi = centre + half * nodes[i]
        share = half * weights[i] * np.exp(-xi * xi / 2) / np.sqrt(2 * np.pi) * _probability(law, xi)
        w = mean + spread * xi
        f = _move(slope, kinks, y, V, w)
        envelope = V * f * f / 2 + value(w + V * f, y)
        out[0] += share * f
        out[1] += share * f * f
        out[2] += share * xi * f
        out[3] += share * envelope
        out[4] += share * abs(f)
        out[5] += share * abs(envelope)
        upper += ends[i] * f
        lower += ends[len(nodes) - 1 - i] * f
    off_high = abs(upper - _move(slope, kinks, y, V, mean + spread * high)) * np.exp(-high * high / 2)
    off_low = abs(lower - _move(slope, kinks, y, V, mean + spread * low)) * np.exp(-low * low / 2)
    out[6] = 0.01 * half * max(off_high, off_low) * max(_probability(law, low), _probability(law, high))


@inner(error_model="numpy")
def _edges(kinks: Array, law: Law) -> Array:
    """The ends of panels: equal ones, the ends of what kinks hold, and where both labels have the same probability."""
    _, V, mean, spread, base, slope = law
    found = np.empty(_PANELS + 2 + 2 * len(kinks))
    for i in range(_PANELS + 1):
        found[i] = -_REACH + 2 * _REACH * i / _PANELS
    count = _PANELS + 1
    for k in range(len(kinks)):
        for j in range(1, 3):
            edge = (kinks[k, 0] + V * kinks[k, j] - mean) / spread
            if -_REACH < edge < _REACH:
                found[count] = edge
                count += 1
    if abs(base) < _REACH * abs(slope):
        found[count] = -base / slope
        count += 1
    found[:count].sort()
    return found[:count]


@njit(error_model="numpy")
def _averages(
    slope: Any, value: Any, kinks: Array, law: Law, rule: Array, accuracy: float
) -> tuple[float, float, float, float, float]:
    """E[f], E[f^2], E[xi f], E[M], and what their relative error has beside that of settled panels.

    That is what lies beyond the reach, and by how much panels that are not halved any more differ from their halves.
    NaN throughout where the loss overflows.
    """
    if law[4] == -np.inf:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    edges = _edges(kinks, law)
    y, V, mean, spread = law[:4]
    panels = len(edges) - 1
    lows, highs = np.empty(panels + _DEPTH + 2), np.empty(panels + _DEPTH + 2)
    wholes, depths = np.empty((panels + _DEPTH + 2, 7)), np.zeros(panels + _DEPTH + 2)
    scale, total, unsettled = np.zeros(7), np.zeros(7), 0.0
    for i in range(panels):
        lows[i], highs[i] = edges[i], edges[i + 1]
        _panel(slope, value, kinks, law, lows[i], highs[i], rule, wholes[i])
        scale += wholes[i]
    for w in (mean - _REACH * spread, mean + _REACH * spread):
        f = _move(slope, kinks, y, V, w)
        envelope = V * f * f / 2 + value(w + V * f, y)
        for there, size in ((abs(f), scale[4]), (f * f, scale[1]), (abs(envelope), scale[5])):
            unsettled += _BEYOND * there / size if there > 0 else 0.0
    waiting = panels
    left, right = np.empty(7), np.empty(7)
    while waiting:
        waiting -= 1
        low, high, depth = lows[waiting], highs[waiting], depths[waiting]
        middle = (low + high) / 2
        _panel(slope, value, kinks, law, low, middle, rule, left)
        _panel(slope, value, kinks, law, middle, high, rule, right)
        differs = 0.0
        for j, size in enumerate((scale[4], scale[1], scale[4], scale[5])):
            gap = abs(left[j] + right[j] - wholes[waiting, j])
            if not np.isfinite(gap):
                return np.nan, np.nan, np.nan, np.nan, np.nan
            differs = max(differs, gap / size if gap > 0 else 0.0)
        settled = differs <= accuracy and max(left[6], right[6]) <= _SEEN * scale[4]
        if settled or depth >= _DEPTH:
            total += left + right
            unsettled += 0.0 if settled else differs
            continue
        wholes[waiting] = left
        wholes[waiting + 1] = right
        lows[waiting], highs[waiting], depths[waiting] = low, middle, depth + 1
        lows[waiting + 1], highs[waiting + 1], depths[waiting + 1] = middle, high, depth + 1
        waiting += 2
    return total[0], total[1], total[2], total[3], unsettled


def proximal_move(name: str, y: float, V: float, w: float) -> float:
    """f(w) = (prox(w) - w)/V of a loss, by name or expression, at the label y.

    >>> proximal_move("square", 1.0, 3.0, 0.0)
    0.25
    """
    return float(_move(compiled_loss(name), kinks(name, y), y, V, w))


@njit(error_model="numpy")
def _points(slope: Any, kinks: Array, y: float, V: float, w: Array) -> Array:
    """prox(w) of each w (n,)."""
    found = np.empty_like(w)
    for i in range(len(w)):
        found[i] = w[i] + V * _move(slope, kinks, y, V, w[i])
    return found


def proximal_points(name: str, labels: Array, V: float, w: Array) -> Array:
    """prox(w) of a loss at labels ±1 and fields w, both (n,).

    >>> proximal_points("hinge", np.array([1.0, -1.0]), 0.5, np.array([0.0, -3.0])).tolist()
    [0.5, -3.0]
    """
    found = np.empty_like(w)
    for y in (1.0, -1.0):
        here = labels == y
        found[here] = _points(compiled_loss(name), kinks(name, y), y, V, w[here])
    return found


def proximal_moves(
    name: str, labels: Array, V: float, means: Array, spreads: Array, laws: Array | None = None
) -> Moves:
    """The averages for labels y (n,) and fields N(means, spreads^2) (n,), without E[f'].

    `laws` (n, 2): base and slope, which weight what is averaged with Phi(base + slope xi), the label's probability.
    """
    functions = compiled_loss(name), compiled_value(name)
    laws = np.tile([np.inf, 0.0], (len(labels), 1)) if laws is None else laws
    rows = [
        _averages(*functions, kinks(name, y), (y, V, mean, spread, base, slope), _RULE, _ACCURACY)
        for y, mean, spread, (base, slope) in zip(
            labels.tolist(), means.tolist(), spreads.tolist(), laws.tolist(), strict=True
        )
    ]
    first, second, regressed, envelope, unsettled = np.array(rows).T
    # a label whose f is next to nothing has a large relative error, which does not matter beside the others
    shares = [size / max(float(size.max()), 1e-300) for size in (np.abs(first), second)]
    return Moves(first, second, regressed, envelope, _ERROR + float((unsettled * np.max(shares, axis=0)).max()))


def proximal_averages(name: str, labels: Array, V: float, means: Array, spread: float) -> Channel:
    """The averages of a loss in each cluster, for labels (C,) and fields N(means (C,), spread^2)."""
    found = proximal_moves(name, labels, V, means, np.full(len(labels), spread))
    return Channel(found.move, found.squared, found.regressed / spread, found.envelope, found.error)
