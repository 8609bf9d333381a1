"""The oracle error integrated over lines: those that cross a plane, and those that cross space, plane by plane.

Along a line the error is a closed expression (`oracle_lines`).  Across a plane of lines it is smooth but where zeros of
D appear, cross, or run out of the line; across the planes of a space it is smooth but where the boundary D = 0 touches
a plane.  Newton's method finds these points, panels end there, and a change of variable smooths what is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quenched.numerics.oracle_lines import Lines, cut, expansion, line_error, reach
from quenched.numerics.probability.quadrature import adaptive, adaptive_rows, randomised, tanh_sinh

__all__ = ["Integrated", "integrated", "sampled_lines"]

Array = npt.NDArray[Any]

_SCAN = 8  # lines a sigma on which kinks are looked for in a plane
_PLANES = 4  # planes a sigma on which those of a space are
_HALVINGS = 4  # of the step sigma/2 of a lattice of lines
_CHUNK = 150_000  # lines in one call


class Integrated(NamedTuple):
    """The value of an integral, its absolute error, and how it was found."""

    value: Any
    error: Any
    method: str


# --- where the integrand is not smooth


def _newton(lines: Lines, points: Array, equations: list[int], unknowns: list[int]) -> tuple[Array, Array]:
    """Newton's method from points (m, d) on first derivatives, or G itself (-1), being 0: the points, the last steps.

    `unknowns`: the coordinates that move, as many as `equations`.
    """
    x = points.copy()
    steps = np.full(len(x), np.inf)
    for _ in range(30):
        G, gradient, hessian = expansion(lines, x)
        residual = np.stack([G if e < 0 else gradient[:, e] for e in equations], axis=1)
        jacobian = np.stack([gradient if e < 0 else hessian[:, e] for e in equations], axis=1)[:, :, unknowns]
        regular = np.isfinite(jacobian).all(axis=(1, 2)) & (np.abs(np.linalg.det(jacobian)) > 1e-100)
        jacobian[~regular] = np.eye(len(unknowns))
        step = np.linalg.solve(jacobian, residual[:, :, None])[:, :, 0]
        size = np.abs(step).max(axis=1)
        steps = np.where(regular, size, np.inf)
        step[~regular] = 0
        if lines.freedom is None:
            step *= np.minimum(1, 0.25 / np.maximum(size, 0.25))[:, None]
        x[:, unknowns] -= step
        if not (regular & (size > 1e-13 * (1 + np.abs(x).max(axis=1)))).any():
            break
    return x, steps


def _distinct(values: Array) -> Array:
    values = np.unique(values)
    return np.asarray(values[np.diff(values, prepend=-np.inf) > 1e-9])


def _kinks(lines: Lines, strips: list[tuple[float, float]], fixed: Array, far: float) -> list[Array]:
    """Points (m, 1 + q) of each plane at which the error per line is not analytic, or nearly so.

    There an extremum of D along the line is zero.  The extrema are followed on lines sigma/8 apart; Newton's method in
    the plane then solves G = G_s = 0, or G_y = G_s = 0 where one comes close without a change of sign, G = log(D+/D-).
    A radius ends at 0, and zeros of D run out of it where G = 0 there.  `fixed` (P, q - 1): where the planes are.
    """
    scan = _SCAN if fixed.shape[1] == 0 else 5
    across = np.concatenate([np.linspace(a, b, math.ceil(scan * (b - a)) + 1) for a, b in strips])
    P, Y = len(fixed), len(across)
    outer = np.concatenate([np.tile(across, P)[:, None], np.repeat(fixed, Y, axis=0)], axis=1)
    found = cut(lines, outer, far)
    x, G = (a.reshape(P, Y, -1) for a in (found.extrema, found.values))
    inner = slice(1, -1) if lines.freedom is None else slice(0, None)
    x, G = x[:, :, inner], G[:, :, inner]
    size = np.abs(G)
    p, i, k = np.nonzero(G[:, 1:] * G[:, :-1] < 0)
    share = G[p, i, k] / (G[p, i, k] - G[p, i + 1, k])
    starts = [
        np.concatenate([x[p, i, k], x[p, i + 1, k], x[p, i, k] + share * (x[p, i + 1, k] - x[p, i, k])]),
        np.concatenate([across[i], across[i + 1], across[i] + share * (across[i + 1] - across[i])]),
    ]
    near = (size[:, 1:-1] < size[:, :-2]) & (size[:, 1:-1] <= size[:, 2:]) & (G[:, :-2] * G[:, 2:] > 0)
    n, r, c = np.nonzero(near & (size[:, 1:-1] < 1))
    folds = np.concatenate([starts[0][:, None], starts[1][:, None], fixed[np.tile(p, 3)]], axis=1)
    saddles = np.concatenate([x[n, r + 1, c][:, None], across[r + 1][:, None], fixed[n]], axis=1)
    plane, points = [], []
    for start, at, equations in ((folds, np.tile(p, 3), [-1, 0]), (saddles, n, [1, 0])):
        if len(start):
            end, step = _newton(lines, start, equations, [0, 1])
            kept = (step < 1e-5 * (1 + np.abs(end[:, 0]))) & (np.abs(end[:, 1] - start[:, 1]) < 2 / scan)
            kept &= (end[:, 0] >= 0) | (lines.freedom is None)
            kept &= np.abs(expansion(lines, end)[0]) < 0.05
            plane.append(at[kept])
            points.append(end[kept])
    if lines.freedom is not None:
        ends = (k == 0) | (k == G.shape[2] - 1)  # at the ends of the radius
        start = np.concatenate([folds[2 * len(p) :][ends]])
        if len(start):
            end, step = _newton(lines, start, [-1], [1])
            kept = (step < 1e-5) & (np.abs(end[:, 1] - start[:, 1]) < 2 / scan)
            plane.append(p[ends][kept])
            points.append(end[kept])
    if not points:
        return [np.empty((0, outer.shape[1] + 1))] * P
    at, every = np.concatenate(plane), np.concatenate(points)
    return [every[at == j] for j in range(P)]


def _touched(lines: Lines, kinks: list[Array]) -> Array:
    """The planes which the boundary touches: G = G_s = G_y = 0, or G = G_y = 0 at the end of a radius."""
    every = np.concatenate(kinks)
    found = []
    for equations, unknowns in (([-1, 0, 1], [0, 1, 2]), ([-1, 1], [1, 2])):
        start = every if len(unknowns) == 3 else every[every[:, 0] == 0]
        if len(start):
            end, step = _newton(lines, start, equations, unknowns)
            kept = (step < 1e-5 * (1 + np.abs(end[:, 0]))) & (np.abs(end - start)[:, 2] < 1)
            kept &= np.abs(expansion(lines, end)[1][:, 2]) > 1e-5  # else a line on which parts of the boundary cross
            found.append(end[kept & ((end[:, 0] >= 0) | (lines.freedom is None)), 2])
    return _distinct(np.concatenate(found)) if found else np.empty(0)


def _strips(lines: Lines, axis: int, far: float) -> list[tuple[float, float]]:
    """The intervals of an outer coordinate within `far` sigmas of means of both labels: elsewhere no error is seen."""
    outer, far_each = lines.means[:, axis].astype(float), far * lines.sigmas.astype(float)
    ends = np.unique(np.concatenate([outer - far_each, outer + far_each]))
    near = np.abs((ends[1:, None] + ends[:-1, None]) / 2 - outer) < far_each
    both = (near & (lines.weights > 0)).any(axis=1) & (near & (lines.weights < 0)).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], both, [0]])))
    return list(zip(ends[edges[::2]], ends[edges[1::2]], strict=True))


def _pieces(strips: list[tuple[float, float]], cuts: Array) -> Array:
    """The strips cut at points, (n, 2)."""
    ends = [np.concatenate([[a], cuts[(a + 1e-9 < cuts) & (cuts < b - 1e-9)], [b]]) for a, b in strips]
    return np.concatenate([np.stack([e[:-1], e[1:]], axis=1) for e in ends])


class _Smoothed(NamedTuple):
    """s in (i, i + 1) is piece i of `pieces` (n, 2), entered and left with zero speed: it smooths kinks at its ends."""

    pieces: Array

    def at(self, s: Array) -> tuple[Array, Array]:
        """The point, and dx/ds."""
        i = np.minimum(s.astype(int), len(self.pieces) - 1)
        t, (lower, upper) = s - i, self.pieces[i].T
        return lower + (upper - lower) * t * t * (3 - 2 * t), 6 * (upper - lower) * t * (1 - t)

    def panels(self, width: float) -> Array:
        """Panels of s, (m, 2), none wider than about `width` in x."""
        parts = [
            np.linspace(i, i + 1, math.ceil(w / width) + 1) for i, w in enumerate(self.pieces[:, 1] - self.pieces[:, 0])
        ]
        return np.concatenate([np.stack([p[:-1], p[1:]], axis=1) for p in parts])


# --- integrals


def integrated(lines: Lines, tolerance: Any) -> Integrated:
    """The oracle error of clusters with one or two outer coordinates, to a relative `tolerance`.

    RuntimeError where that is not reached.
    """
    rough = lines.rough()
    far, tails = reach(lines, tolerance)
    if lines.means.shape[1] == 0:
        value = line_error(lines, lines.numbers.array(np.zeros((1, 0))), far)[0]
        return Integrated(value, abs(value) * tolerance, f"exact, {len(lines.weights)} sites on a line")
    if lines.means.shape[1] == 1:
        found = _across_plane(lines, rough, tolerance, far)
    else:
        found = _across_space(lines, rough, tolerance, far)
    return Integrated(found.value, found.error + 2 * lines.means.shape[1] * tails, found.method)


def _across_plane(lines: Lines, rough: Lines, tolerance: Any, far: Any) -> Integrated:
    strips = _strips(rough, 0, float(far))
    kinks = _distinct(_kinks(rough, strips, np.empty((1, 0)), float(far))[0][:, 1])
    pieces = _pieces(strips, kinks)
    if lines.numbers.ctx is not None:
        result = _precise(lines, pieces, tolerance, lambda y: line_error(lines, y[:, None], far))
    else:
        smoothed = _Smoothed(pieces)

        def integrand(s: Array) -> Array:
            y, speed = smoothed.at(s)
            return line_error(lines, y[:, None], far) * speed

        result = adaptive(integrand, smoothed.panels(3.0), tolerance)
    return Integrated(result.value, result.error, f"adaptive over {result.evaluations} lines, {len(kinks)} kinks")


def _precise(lines: Lines, pieces: Array, tolerance: Any, f: Callable[[Array], Array]) -> Any:
    """tanh-sinh quadrature on the pieces in mpmath numbers."""
    ctx = lines.numbers.ctx
    parts = [np.linspace(a, b, math.ceil((b - a) / 6) + 1) for a, b in pieces]
    panels = [(ctx.mpf(a), ctx.mpf(b)) for part in parts for a, b in itertools.pairwise(part)]
    return tanh_sinh(f, panels, lines.least * tolerance, ctx)


def _one_change(lines: Lines) -> bool:
    """Whether D has one zero on every line across space, so that the error per line is analytic."""
    order = np.argsort(lines.rates, kind="stable")
    distinct = len(np.unique(lines.rates)) == len(lines.rates)
    return lines.freedom is None and distinct and int((np.diff(lines.labels[order]) != 0).sum()) == 1


def _trapezoidal(lines: Lines, rough: Lines, tolerance: Any, far: Any) -> Integrated | None:
    """The integral over lines on a lattice, where the error per line is analytic; None if that does not converge.

    Halving the step h squares the error exp(-2 pi a/h), a being the distance to the nearest singularity in the complex
    plane: where two sums differ by d, the better one is taken to have the error d^(3/2) relative to itself.
    """
    numbers, q = lines.numbers, lines.means.shape[1]
    low, high = rough.means.min(axis=0) - float(far), rough.means.max(axis=0) + float(far)
    total, before, count = numbers.number(0.0), None, 0
    for level in range(_HALVINGS + 1):
        step = 0.5 / 2**level
        axes = [np.arange(math.ceil(a / step), math.floor(b / step) + 1) for a, b in zip(low, high, strict=True)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, q)
        points = points if level == 0 else points[(points % 2).any(axis=1)]
        distances = np.linalg.norm(step * points[:, None] - rough.means, axis=2)
        near = [distances[:, rough.labels == label].min(axis=1) < float(far) for label in (1, -1)]
        points = numbers.array(step * points[near[0] & near[1]])
        count += len(points)
        total = total + line_error(lines, points, far).sum()
        value = total * numbers.number(step**q)
        if before is not None:
            error = abs(value - before) * numbers.sqrt(abs(value - before) / value)
            if error <= tolerance * value:
                return Integrated(value, error, f"trapezoidal sum over {count} lines")
        before = value
    return None


def _across_space(lines: Lines, rough: Lines, tolerance: Any, far: Any) -> Integrated:
    if _one_change(rough) and (found := _trapezoidal(lines, rough, tolerance, far)) is not None:
        return found
    strips, planes = _strips(rough, 0, float(far)), _strips(rough, 1, float(far))
    scan = np.concatenate([np.linspace(a, b, math.ceil(_PLANES * (b - a)) + 1) for a, b in planes])
    touched = _touched(rough, _kinks(rough, strips, scan[:, None], float(far)))
    pieces = _pieces(planes, touched)
    breadth = float((pieces[:, 1] - pieces[:, 0]).sum())
    count = 0
    if lines.numbers.ctx is not None:

        def plane(z: Any) -> Any:
            nonlocal count
            cuts = _distinct(_kinks(rough, strips, np.array([[float(z)]]), float(far))[0][:, 1])
            at = _pieces(strips, cuts)

            def line(y: Array) -> Array:
                return line_error(lines, np.stack([y, np.full(len(y), z, dtype=object)], axis=1), far)

            result = _precise(lines, at, tolerance / (4 * breadth), line)
            count += result.evaluations
            return result.value

        outer = _precise(lines, pieces, tolerance, lambda z: np.array([plane(each) for each in z], dtype=object))
        error = outer.error + lines.least * tolerance / 4
        return Integrated(outer.value, error, f"adaptive over {outer.evaluations} planes, {count} lines")
    size, _ = sampled_lines(rough, 0.05)
    share = tolerance * size / (8 * breadth)
    smoothed = _Smoothed(pieces)

    def integrand(s: Array) -> Array:
        nonlocal count
        z, speed = smoothed.at(s)
        values = np.empty(len(z))
        for some in np.array_split(np.arange(len(z)), math.ceil(len(z) * 500 / _CHUNK)):
            values[some], spent = _plane_errors(lines, strips, z[some, None], share, float(far))
            count += spent
        return values * speed

    result = adaptive(integrand, smoothed.panels(4.0), tolerance / 2)
    error = result.error + share * breadth
    return Integrated(result.value, error, f"adaptive over {result.evaluations} planes, {count} lines")


def _plane_errors(
    lines: Lines, strips: list[tuple[float, float]], fixed: Array, tolerance: float, far: float
) -> tuple[Array, int]:
    """The error per unit across planes at `fixed` (P, 1), each to the absolute `tolerance`, and the lines spent."""
    planes = [_Smoothed(_pieces(strips, _distinct(points[:, 1]))) for points in _kinks(lines, strips, fixed, far)]
    panels = [plane.panels(4.0) for plane in planes]
    first = np.cumsum([0, *(len(plane.pieces) for plane in planes)])
    every = _Smoothed(np.concatenate([plane.pieces for plane in planes]))
    rows = np.repeat(np.arange(len(planes)), [len(p) for p in panels])
    shifted = np.concatenate(panels) + first[rows][:, None]

    def integrand(s: Array, row: Array) -> Array:
        y, speed = every.at(s)
        return line_error(lines, np.concatenate([y[:, None], fixed[row]], axis=1), far) * speed

    result = adaptive_rows(integrand, shifted, rows, len(planes), tolerance, wary=False)
    return result.value, result.evaluations


def sampled_lines(lines: Lines, tolerance: float, seed: int = 0) -> tuple[float, float]:
    """The oracle error by sampling the outer coordinates, and its standard error, below the relative `tolerance` if so.

    error = sum_a P_a E[r(o)],   o ~ N(o_a, sigma_a^2),   r = the error on the line at o / its weight
    """
    weights = np.abs(lines.weights)
    q = lines.means.shape[1]
    far, _ = reach(lines, 1e-10)

    def given(z: Array) -> Array:
        total = np.zeros(len(z))
        for weight, mean, sigma in zip(weights, lines.means, lines.sigmas, strict=True):
            outer = mean + sigma * z
            total += weight * line_error(lines, outer, far) / lines.densities(outer).sum(axis=1)
        return total

    scale = float(given(np.random.default_rng(seed).standard_normal((256, q))).mean())
    points = max(2**11, min(2**17, 2 ** int(math.log2(3e5 / len(weights)))))
    result = randomised(given, q, tolerance=tolerance * scale, seed=seed, points=points)
    return float(result.value), float(result.error)
