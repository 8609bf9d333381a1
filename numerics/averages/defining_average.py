"""Averages of an activation by quadrature of their definition: what the generated formulas are certified against.

The quadrature is independent of the algebra: it evaluates g, g', g'' and the jumps of g' at points, and sums.

* One and two fields, at high precision: Gauss-Legendre on panels that end where g bends, Gauss-Hermite where it does
  not.  Two fields are nested, the inner one drawn given the outer one, with panels where its bend crosses the bulk.
* Three and four fields, 13 digits: a tensor grid in the fields themselves, whose density is a product over pairs, so
  that a sum over N^4 points is N matrix products; for fields of rank two and one polar coordinates, with the angle
  split where a field vanishes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import mul
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.compiled.precision import bind, context, mp_array, mp_namespace
from quenched.numerics.probability.quadrature import Quadrature, converged, hermite, legendre
from quenched.theory import activations as theory

__all__ = ["DIGITS", "Point", "points", "reference", "sum_over_pairs"]

Array = NDArray[Any]

DIGITS = (27, 27, 13, 13)
"""Digits of the quadrature over one to four fields."""

_ANGLE = 1e-4  # between two fields: 1 - correlation = 5e-9


@dataclass(frozen=True, eq=False)
class Point:
    """Fields x = loadings (z + centre) + shift, z ~ N(0, 1): loadings (n, r), centre (r,), shift (n,)."""

    label: str
    loadings: Array
    centre: Array
    shift: Array

    @property
    def singular(self) -> bool:
        """Whether the covariance of the fields that vary is singular, or within 1e-8 of it."""
        scale = np.linalg.norm(self.loadings, axis=1)
        unit = self.loadings[scale > 0] / scale[scale > 0, None]
        return bool(np.linalg.eigvalsh(unit @ unit.T).min(initial=1.0) < 1e-7)

    @property
    def planar(self) -> bool:
        """Whether all fields are forms in two normals."""
        return self.loadings.shape[1] <= 2

    def law(self, ctx: Any = None) -> tuple[Array, Array]:
        """Means and covariance, exact in the numbers of `ctx`, or float64."""
        W, centre, shift = (a if ctx is None else mp_array(ctx, a) for a in (self.loadings, self.centre, self.shift))
        return W @ centre + shift, W @ W.T


def points(name: str, n: int, oscillates: bool = False) -> Iterator[Point]:
    """Where the averages of an activation over n fields are compared, the regular ones first.

    The widest field has a variance of 1e12, or of 25 if g oscillates: quadrature has to follow each oscillation.
    """
    rng = np.random.default_rng(list(f"{name}_{n}".encode()))

    def point(label: str, loadings: Any, centre: Any, shift: Any = 0.0) -> Point:
        loadings = np.array(loadings, dtype=np.float64)
        return Point(label, loadings, np.broadcast_to(centre, loadings.shape[1:]), np.broadcast_to(shift, n))

    def well_conditioned() -> Array:
        """Loadings of unit order; correlations below 0.8 in size."""
        unit = np.eye(n) + 0.4 * rng.uniform(-1, 1, (n, n))
        return unit * rng.uniform(0.6, 1.4, (n, 1))

    for i in range(2):
        yield point(f"random {i + 1}", well_conditioned(), rng.uniform(-0.8, 0.8, n))
    yield point("8 sigma out", (A := well_conditioned()), 0, 8 * np.linalg.norm(A, axis=1) * np.resize([1, -1, 0], n))
    widest = 5.0 if oscillates else 1e6
    scales = np.resize([widest, 1e-6, 1, 1], n)[:, None] * well_conditioned()
    label = f"variance {widest**2:g}" + (", 1e-12" if n > 1 else "")
    yield point(label, scales, rng.uniform(-0.8, 0.8, n))
    if n == 1:
        yield point("variance 1e-12", [[1e-6]], 0.3)
        yield point("zero variance", [[0.0]], 0, 0.7)
        return
    yield point("zero variance", well_conditioned() * np.resize([0, 1], n)[:, None], 0.3, np.resize([0.7, 0], n))
    a, b = rng.uniform(0.5, 1.5, 2), rng.uniform(0.5, 1.5, 2) * [1, -1]
    turn = np.array([[np.cos(_ANGLE), -np.sin(_ANGLE)], [np.sin(_ANGLE), np.cos(_ANGLE)]])
    centre = rng.uniform(-0.8, 0.8, 2)
    if n == 2:
        yield point("correlation 1", [[0.7], [1.3]], 0.4, [0.3, -0.2])
        yield point("correlation -1", [[0.7], [-1.3]], 0.4, [0.3, -0.2])
        yield point("correlation 1 - 5e-9", [a, 1.3 * turn @ a], centre)
        yield point("correlation 5e-9 - 1", [a, -1.3 * turn @ a], centre)
    else:
        yield point("rank 2", rng.normal(size=(n, 2)), centre)
        yield point("rank 1", rng.uniform(0.5, 1.5, (n, 1)) * np.resize([[1], [-1], [1]], (n, 1)), 0.4)
        yield point("correlations 1 - 5e-9", [a, turn @ a, b, -turn @ b][:n], centre)
    yield point("repeated", [a, a, b, b][:n], centre)
    yield point("opposite", [a, -a, b, -b][:n], centre)


# --- what is averaged -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Shape:
    """An activation in float64 or in other numbers: g, g', g'' away from kinks, and where g' jumps and by how much."""

    functions: dict[str, Callable[..., Any]]
    jumps: tuple[tuple[Any, Any], ...]
    _sizes: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, activation: theory.Averages, ctx: Any = None) -> _Shape:
        """In the numbers of an mpmath context, or in float64."""
        number = (lambda text: float(Fraction(text))) if ctx is None else ctx.mpf
        namespace = {} if ctx is None else mp_namespace(ctx)
        functions = {"g": activation.g, "dg": activation.dg, "ddg": activation.ddg}
        return cls(
            {factor: bind(function, namespace) for factor, function in functions.items()},
            tuple((number(k), number(jump)) for k, jump in activation.jumps),
        )

    def products(self, parts: Sequence[str], x: Array) -> list[Array]:
        """The products that parts such as "dg*g" stand for, at points away from kinks."""
        values = {f: self.functions[f](x) for f in sorted({f for part in parts for f in part.split("*")})}
        return [reduce(mul, (values[f] for f in part.split("*"))) for part in parts]

    def size(self, part: str, mean: Any, deviation: Any) -> Any:
        """Product of the largest values of the factors within |mean| + 2 deviations of the origin, on all scales.

        A jump counts in full in g', and as jump/deviation in g''.
        """
        return reduce(mul, (self._size(factor, mean, deviation) for factor in part.split("*")))

    def _size(self, factor: str, mean: Any, deviation: Any) -> Any:
        key = factor, mean, deviation
        if key not in self._sizes:
            reach = abs(mean) + 2 * deviation
            x = np.array([mean, 0 * mean, *(side * reach / 2**j for j in range(23) for side in (-1, 1))])
            largest, jumps = max(abs(self.functions[factor](x))), sum(abs(jump) for _, jump in self.jumps)
            if factor == "dg":
                largest = max(largest, jumps)
            elif factor == "ddg" and deviation:
                largest = largest + jumps / deviation
            self._sizes[key] = largest
        return self._sizes[key]


def _reach(shape: _Shape, parts: Sequence[str], mean: Any, deviation: Any, digits: int) -> Any:
    """How many deviations out the parts times the normal density are below 10^-digits of their size."""
    sizes = [shape.size(part, mean, deviation) for part in parts]
    reach = float(np.sqrt(2 * np.log(10) * (digits + 1)))
    while any(
        abs(value) * np.exp(-reach * reach / 2) > size * 10.0 ** -(digits + 1)
        for side in (-1, 1)
        for (value,), size in zip(
            shape.products(parts, np.array([mean + side * reach * deviation])), sizes, strict=True
        )
    ):
        reach += 0.25
    return reach


def _landmarks(shape: _Shape, reach: float) -> list[Any]:
    """Where panels end: kinks, and for fields that extend beyond 64 points that separate the scales of g and field."""
    marks = [k for k, _ in shape.jumps]
    if reach > 64:
        scales = [16.0 * 1000.0**j for j in range(int(np.log(reach / 16) / np.log(1000)) + 1)]
        marks += [m for m in [0.0, *scales, *(-s for s in scales)] if m not in marks]
    return marks


# --- one and two fields, at high precision ----------------------------------------------------------------------------


class _Nested:
    """E[f0(x0) f1(x1)] as the average over x0 of that over x1 given x0, with panels of Gauss-Legendre."""

    def __init__(self, activation: theory.Averages, digits: int) -> None:
        self.ctx = context(digits + 13)
        self.shape = _Shape.of(activation, self.ctx)
        self.digits = digits
        self.reach = self.ctx.zero
        self._exp = mp_namespace(self.ctx)["exp"]
        self._polynomial: dict[Any, bool] = {}
        self._standard: dict[int, tuple[Array, Array]] = {}

    def _law(self, mean: Any, variance: Any, cuts: Iterable[Any], order: int) -> tuple[Array, Array]:
        """Abscissae and weights of N(mean, variance).

        With `cuts` in its bulk, panels that end there; else Gauss-Hermite, if functions are polynomials to it.
        """
        ctx, reach = self.ctx, self.reach
        if variance == 0:
            return np.array([mean]), np.array([ctx.one])
        deviation = ctx.sqrt(variance)
        inside = sorted({z for c in cuts if abs(z := (c - mean) / deviation) < reach})
        polynomial = self._polynomial.get(variance, False)
        if polynomial and not inside:
            z, weights = hermite(order, ctx)
        elif not inside and order in self._standard:
            z, weights = self._standard[order]
        else:
            panels = {-reach, *inside, reach} if any(abs(z) < 2 for z in inside) else {-reach, ctx.zero, *inside, reach}
            z, weights = legendre(sorted(panels if polynomial else panels | {-4, 4}), order, ctx)
            weights = weights * self._exp(-z * z / 2) / ctx.sqrt(2 * ctx.pi)
            if not inside:
                self._standard[order] = z, weights
        return mean + deviation * z, weights

    def _choose(self, parts: Sequence[str], mean: Any, variance: Any, marks: Sequence[Any]) -> None:
        """Find out whether Gauss-Hermite suffices between the marks: whether 36 and 54 points agree to 13 digits."""
        if variance == 0:
            return
        width = self.reach * self.ctx.sqrt(variance)
        inside = [m for m in marks if abs(m - mean) < width]
        centre = max(inside) + width * 1.01 if inside else mean
        self._polynomial[variance] = True
        coarse, fine = (self._one(parts, centre, variance, marks, order) for order in (36, 54))
        gaps = [abs(a - b) <= abs(b) * self.ctx.mpf(10) ** -13 for a, b in zip(coarse, fine, strict=True)]
        self._polynomial[variance] = all(gaps)

    def _one(self, parts: Sequence[str], mean: Any, variance: Any, marks: Sequence[Any], order: int) -> list[Any]:
        """E[part(x)] without deltas."""
        x, weights = self._law(mean, variance, marks, order)
        return [self.ctx.fdot(weights, values) for values in self.shape.products(parts, x)]

    def _deltas(self, part: str, mean: Any, variance: Any) -> Iterator[tuple[Any, Any]]:
        """Where `part` has a delta, and its weight under N(mean, variance): jump, density and other factors there."""
        if "ddg" in part.split("*") and variance != 0:
            others = [f for f in part.split("*") if f != "ddg"]
            for k, jump in self.shape.jumps:
                rest = self.shape.products(["*".join(others)], np.array([k]))[0][0] if others else self.ctx.one
                yield k, jump * rest * self.ctx.npdf(k, mean, self.ctx.sqrt(variance))

    def one(self, layouts: Sequence[str], mean: Any, variance: Any) -> Callable[[int], Array]:
        """All averages over one field, as a function of the order of the panels."""
        self.reach = _reach(self.shape, layouts, mean, self.ctx.sqrt(variance), self.digits)
        marks = _landmarks(self.shape, float(abs(mean) + self.reach * self.ctx.sqrt(variance)))
        self._choose(layouts, mean, variance, marks)
        deltas = [sum(w for _, w in self._deltas(part, mean, variance)) for part in layouts]
        return lambda order: np.array(self._one(layouts, mean, variance, marks, order)) + np.array(deltas)

    def two(self, layouts: Sequence[str], mean: Array, covariance: Array) -> Callable[[int], Array]:
        """All averages over two fields, as a function of the order of the panels."""
        ctx = self.ctx
        pairs = [layout.split(",") for layout in layouts]
        first, second = sorted({p for p, _ in pairs}), sorted({q for _, q in pairs})
        spread = [ctx.sqrt(covariance[i, i]) for i in range(2)]
        # where the fields are one, their factors multiply
        together = [f"{p}*{q}" for p, q in pairs]
        reaches = [_reach(self.shape, together, m, d, self.digits) for m, d in zip(mean, spread, strict=True)]
        reach = self.reach = max(reaches)
        marks = [_landmarks(self.shape, float(abs(mean[i]) + reach * spread[i])) for i in range(2)]

        def given(i: int, value: Any) -> tuple[Any, Any]:
            """Mean and variance of the other field, given that field i has this value."""
            if covariance[i, i] == 0:
                return mean[1 - i], covariance[1 - i, 1 - i]
            slope = covariance[0, 1] / covariance[i, i]
            variance = covariance[1 - i, 1 - i] - slope * covariance[0, 1]
            negligible = covariance[1 - i, 1 - i] * ctx.eps * 2**10
            return mean[1 - i] + slope * (value - mean[i]), variance if variance > negligible else ctx.zero

        cuts = list(marks[0])
        if covariance[0, 1] != 0:
            slope, width = covariance[0, 1] / covariance[0, 0], reach * ctx.sqrt(given(0, mean[0])[1])
            if width < abs(slope) * reach * spread[0] / 2:  # the inner field's marks pass quickly through its bulk
                sides = (-1, 0, 1) if width else (0,)
                cuts += [mean[0] + (c - mean[1] + side * width) / slope for c in marks[1] for side in sides]
        deltas = [self._two_deltas(p, q, mean, covariance, given, marks) for p, q in pairs]
        self._choose(first, mean[0], covariance[0, 0], cuts)
        if self._polynomial.get(covariance[0, 0]):  # then the average over x1 must be one too
            self._choose(second, mean[1], covariance[1, 1], marks[1])
            self._polynomial[covariance[0, 0]] = self._polynomial.get(covariance[1, 1], True)
        self._choose(second, *given(0, mean[0]), marks[1])

        def rule(order: int) -> Array:
            x, weights = self._law(mean[0], covariance[0, 0], cuts, order)
            outer = dict(zip(first, self.shape.products(first, x), strict=True))
            rows = [self._one(second, *given(0, value), marks[1], order) for value in x]
            inner = dict(zip(second, np.array(rows).T, strict=True))
            smooth = [ctx.fdot(weights * outer[p], inner[q]) for p, q in pairs]
            return np.array([s + delta(order) for s, delta in zip(smooth, deltas, strict=True)])

        return rule

    def _two_deltas(
        self, p: str, q: str, mean: Array, covariance: Array, given: Callable[..., Any], marks: Sequence[Any]
    ) -> Callable[[int], Any]:
        """What the deltas of one of the factors contribute: the other averaged given that this one is at its kink."""
        terms = [
            (weight, other, *given(i, k), marks[1 - i])
            for i, (part, other) in enumerate(((p, q), (q, p)))
            for k, weight in self._deltas(part, mean[i], covariance[i, i])
        ]
        return lambda order: sum(w * self._one([other], m, v, cuts, order)[0] for w, other, m, v, cuts in terms)


# --- three and four fields, in float64 --------------------------------------------------------------------------------


def _axis(
    shape: _Shape, parts: Sequence[str], mean: float, deviation: float, scale: float, order: int
) -> tuple[Array, Array]:
    """Abscissae and weights dx of one field, panels no longer than nine of the `scale`s.

    Panels end at kinks, and are bisected until sixteen points resolve g, g', g'' on them.
    """
    reach = _reach(shape, parts, mean, deviation, DIGITS[-1]) * deviation
    marks = _landmarks(shape, abs(mean) + reach)
    edges = [mean - reach, *sorted(m for m in marks if abs(m - mean) < reach), mean + reach]
    pieces = [np.linspace(a, b, int(np.ceil((b - a) / (9 * scale))) + 1) for a, b in pairwise(edges)]
    pending = [panel for piece in pieces for panel in pairwise(piece)][::-1]
    cuts = [edges[0]]

    def integrals(left: float, right: float) -> Array:
        x, w = legendre([left, right], 16)
        return np.array([w @ values for values in shape.products(["g", "dg", "dg*g"], x)])

    while pending:
        left, right = pending.pop()
        middle = (left + right) / 2
        whole, halves = integrals(left, right), [integrals(left, middle), integrals(middle, right)]
        enough = 1e-11 * sum(abs(h) for h in halves) + 1e-14 * (right - left)
        if np.all(abs(whole - sum(halves)) <= enough):
            cuts.append(right)
        else:
            pending += [(middle, right), (left, middle)]
    return legendre(cuts, order)


def sum_over_pairs(columns: Sequence[Array], pairs: Callable[[int, int], Array]) -> Array:
    """sum_ijkl a_i b_j c_k d_l E01_ij E02_ik E03_il E12_jk E13_jl E23_kl, by one matrix product over l for all i, j, k.

    `columns`: (N, p), (N, q), ..: several choices of each of the four factors a, b, c, d; the result is (p, q, r, s).
    """
    E = {(i, j): pairs(i, j) for i in range(4) for j in range(i + 1, 4)}
    a, b, c, d = columns
    total = []
    for last in d.T:
        rows = ((E[0, 3] * last)[:, None] * E[1, 3]).reshape(-1, len(d))  # (ij, l)
        core = (rows @ E[2, 3].T).reshape(len(a), len(b), len(c)) * E[1, 2]
        given = core @ (E[0, 2][:, :, None] * c)  # (i, j, r)
        total.append(np.einsum("ip,ij,jq,ijr->pqr", a, E[0, 1], b, given, optimize=True))
    return np.stack(total, axis=-1)


def _tensor(shape: _Shape, parts: Sequence[Sequence[str]], mean: Array, covariance: Array, order: int) -> Array:
    """E[prod part_i(x_i)] on a tensor grid of the fields, (len(parts[0]), ..): all choices, always four indices."""
    n, spread = len(mean), np.sqrt(np.diag(covariance))
    free = np.flatnonzero(spread)
    correlation = covariance[np.ix_(free, free)] / np.outer(spread[free], spread[free])
    P = np.zeros((4, 4))
    P[np.ix_(free, free)] = np.linalg.inv(correlation)
    norm = np.sqrt(np.linalg.det(2 * np.pi * correlation))
    units, columns = [], []
    for i in range(4):
        if i in free:
            x, w = _axis(shape, parts[i], mean[i], spread[i], spread[i] / np.sqrt(P[i, i]), order)
            y = (x - mean[i]) / spread[i]
            w = w / spread[i] * np.exp(-P[i, i] * y * y / 2)
        else:  # a field without variance, or no field
            x, y, w = (mean[i : i + 1] if i < n else np.zeros(1)), np.zeros(1), np.ones(1)
        values = shape.products(parts[i], x) if i < n else [np.ones(1)]
        units.append(y)
        columns.append(w[:, None] * np.array(values).T)
    return sum_over_pairs(columns, lambda i, j: np.exp(-P[i, j] * np.outer(units[i], units[j]))) / norm


def _polar(shape: _Shape, loadings: Array, centre: Array, layouts: Sequence[str], order: int) -> Array:
    """Averages over fields x_i = loadings_i.u, u ~ N(centre, 1) in the plane: polar coordinates of u around 0.

    All kinks must be at 0: they lie on rays, where angular panels end.
    """
    rays = (np.arctan2(loadings[:, 0], -loadings[:, 1])[:, None] + [0, np.pi]).ravel() % (2 * np.pi)
    theta, angular = legendre(np.unique([*rays, *np.linspace(0, 2 * np.pi, 13)]), order)
    longest, distance = np.linalg.norm(loadings, axis=1).max(), np.linalg.norm(centre)
    end = distance + _reach(shape, [x.replace(",", "*") for x in layouts], longest * distance, longest, DIGITS[-1])
    rho, radial = legendre(np.linspace(0, end, int(np.ceil(end / 2)) + 1), order)
    e = np.stack([np.cos(theta), np.sin(theta)])
    u = rho[:, None] * e[:, None]
    density = np.exp(-((u - centre[:, None, None]) ** 2).sum(axis=0) / 2) / (2 * np.pi)
    weights = density * (rho * radial)[:, None] * angular
    needed = sorted({part for layout in layouts for part in layout.split(",")})
    fields = [dict(zip(needed, shape.products(needed, rho[:, None] * (w @ e)), strict=True)) for w in loadings]
    return np.array(
        [
            np.sum(reduce(mul, (f[part] for f, part in zip(fields, layout.split(","), strict=True)), weights))
            for layout in layouts
        ]
    )


def reference(activation: theory.Averages, n: int, point: Point) -> tuple[dict[str, Any], dict[str, Any], float]:
    """Every average over n fields at a point by quadrature, their sizes, and the error in units of those.

    RuntimeError if the quadrature does not converge; ValueError for kinks away from 0 where the point is planar.
    """
    layouts = list(activation.places[n - 1])
    if n <= 2:
        nested = _Nested(activation, DIGITS[0])
        mean, covariance = point.law(nested.ctx)
        shape, root = nested.shape, nested.ctx.sqrt
    else:
        mean, covariance = point.law()
        shape, root = _Shape.of(activation), np.sqrt
    sizes = [
        reduce(mul, (shape.size(p, mean[i], root(covariance[i, i])) for i, p in enumerate(layout.split(","))))
        for layout in layouts
    ]
    if n == 1:
        result = converged(nested.one(layouts, mean[0], covariance[0, 0]), sizes, DIGITS[0])
    elif n == 2:
        result = converged(nested.two(layouts, mean, covariance), sizes, DIGITS[0])
    elif point.planar:
        if any(k for k, _ in shape.jumps):
            raise ValueError(f"activation {activation.text!r}: kinks elsewhere than at 0 need a grid of their own")
        plane = np.zeros((n, 2)), np.zeros(2)
        for padded, given in zip(plane, (point.loadings, point.centre), strict=True):
            padded[..., : given.shape[-1]] = given
        result = converged(lambda order: _polar(shape, *plane, layouts, order), sizes, DIGITS[-1], start=14)
    else:
        result = _on_grid(shape, layouts, mean, covariance, sizes)
    return dict(zip(layouts, result.value, strict=True)), dict(zip(layouts, sizes, strict=True)), float(result.error)


def _on_grid(shape: _Shape, layouts: Sequence[str], mean: Array, covariance: Array, sizes: Sequence[Any]) -> Quadrature:
    split = [layout.split(",") for layout in layouts]
    parts = [sorted(set(column)) for column in zip(*split, strict=True)]
    where = tuple(np.array([names.index(s[i]) for s in split]) for i, names in enumerate(parts))
    last = (np.zeros(len(layouts), dtype=int),) * (4 - len(parts))
    return converged(
        lambda order: _tensor(shape, parts, mean, covariance, order)[where + last], sizes, DIGITS[-1], start=14
    )
