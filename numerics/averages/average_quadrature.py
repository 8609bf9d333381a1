"""E[f] over Gaussian fields by quadrature, for integrands without a closed form: value, error and method.

The fields are x = m + L z in unit normals z, as many as the law has dimensions.

* One or two normals: adaptive panels, nested, that end where a field vanishes; beyond 15 digits tanh-sinh, or for two
  the trapezoidal rule, which converges geometrically where f is analytic.
* Three or four: the trapezoidal rule where three steps agree, else randomised quasi-Monte Carlo.

f times the density must have decayed within `_FAR` standard deviations in every direction that is tried: what grows as
fast as the Gaussian decays has no average.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quenched.numerics.averages.gaussian_law import GaussianLaw
from quenched.numerics.compiled.precision import bind, context, mp_namespace
from quenched.numerics.probability.quadrature import Quadrature, adaptive_rows, randomised, tanh_sinh

__all__ = ["integrated"]

Array = NDArray[Any]

_DIGITS = 15  # of float64
_RADII = (*range(1, 13), 14, 16, 20, 24, 32, 48, 64, 128, 256, 1000, 4000)
_FAR = _RADII[-1]
_STEEP = 1e5  # of the logarithm of |f| times the density, where it is infinite for every purpose
_STEPS = {3: (0.5, 0.35, 0.25), 4: (0.9, 0.7, 0.5)}  # of the trapezoidal rule
_AGREED = 1e-9  # relative; where the grids differ by less, nothing is sampled
_COARSE = 10  # digits that a grid over three or four normals reaches out for
_GRID, _POINTS = 2**22, 2**20  # of a grid, and of quasi-Monte Carlo
_COVER = 300  # nodes an axis for the size of an average over one or two normals
_OPEN, _BLOCK = 100_000, 512  # panels at once; outer points whose inner integrals are taken together
_MOST = 2_000_000  # evaluations at many digits
_OFF = 1.0371  # panels end where no pole of a written integrand lies, so that no two halves of one cancel


@dataclass(frozen=True)
class _Integrand:
    """f of the normals z (r, ..), in float64 or in an mpmath context; `name` for messages."""

    function: Callable[..., Any]
    law: GaussianLaw
    name: str
    ctx: Any

    @property
    def dimension(self) -> int:
        return len(self.law.loadings(self.ctx)[0])

    def precise(self, ctx: Any) -> Callable[[Sequence[Any]], Any]:
        """f(z) of arrays of the context's numbers; ValueError where it is not real or not finite."""
        found, means, loadings = bind(self.function, mp_namespace(ctx)), self._means(ctx), self.law.loadings(ctx)

        def value(z: Sequence[Any]) -> Any:
            x = [_dot(row, z) + m for m, row in zip(means, loadings, strict=True)]
            try:
                result = found(*x)
            except ZeroDivisionError:
                raise ValueError(f"integrand {self.name!r} is infinite at {_point(x)}") from None
            for each in np.atleast_1d(np.asarray(result, dtype=object)):
                if isinstance(each, ctx.mpc) or ctx.isnan(each):
                    raise ValueError(f"integrand {self.name!r} is not real where the fields fall, around {_point(x)}")
            return result

        return value

    def _means(self, ctx: Any) -> list[Any]:
        return [ctx.convert(m) for m in self.law.means]

    def fast(self) -> Callable[[Array], Array]:
        """f(z), z (r, points), in float64; OverflowError where float64 does not hold it."""
        means = np.array([float(m) for m in self.law.means])[:, None]
        loadings = np.array([[float(a) for a in row] for row in self.law.loadings(self.ctx)])

        def value(z: Array) -> Array:
            with np.errstate(all="ignore"):
                result = np.broadcast_to(
                    np.asarray(self.function(*(means + loadings @ z)), dtype=np.float64), z.shape[1:]
                )
            if not np.isfinite(result).all():
                worst = z[:, np.argmin(np.isfinite(result))]
                self.precise(self.ctx)([self.ctx.mpf(float(each)) for each in worst])
                raise OverflowError(f"integrand {self.name!r} exceeds float64 where it still counts")
            return result

        return value


def _dot(row: Sequence[Any], z: Sequence[Any]) -> Any:
    """row . z, as far as z goes.

    The one array, last in z, stands left of each operator: mpmath's numbers write an array out before they refuse it.
    """
    return sum(reversed([b * a for a, b in zip(row, z, strict=False)]), 0)


def _point(x: Sequence[Any]) -> str:
    return ", ".join(f"{float(np.ravel(np.asarray(each, dtype=object))[0]):.4g}" for each in x)


def integrated(
    function: Callable[..., Any], law: GaussianLaw, name: str, digits: int, seed: int
) -> tuple[Any, Any, str]:
    """E[function] with its error and the method, in floats, or in mpmath's numbers beyond 15 digits.

    ValueError: not real, infinite, or not decaying; RuntimeError: the quadrature does not converge.
    """
    f = _Integrand(function, law, name, context(max(digits, _DIGITS) + 15))
    r = f.dimension
    reach = _reach(f, 1, digits if r < 3 else min(digits, _COARSE))
    if r > 2:
        _reach(f, 2, digits)  # of what is sampled the square must have an average, too
    try:
        if r > 2:
            if digits > _DIGITS:
                raise ValueError(
                    f"digits must be <= {_DIGITS}, got {digits}: integrand {name!r} has no closed form, and over {r} "
                    "normals quadrature does not reach more"
                )
            return _many(f, r, reach, seed)
        if digits <= _DIGITS:
            try:
                found = _panels(f, r, reach)
                return float(found.value), float(found.error), f"adaptive quadrature over {r} normal{'s' * (r > 1)}"
            except OverflowError:
                pass  # the numbers of mpmath hold it
        return _precise(f, r, reach, digits)
    except (RuntimeError, OverflowError) as error:
        said = str(error).partition(";")[0]
        raise RuntimeError(
            f"the average of {name!r} has no closed form, and {said}; it may be infinite, or the integrand too rough"
        ) from error


# --- how far


def _directions(r: int) -> Iterator[list[float]]:
    """Unit vectors: along the axes and between them, and as many more at random."""
    rng = np.random.default_rng(r)
    lattice = [v for v in product((-1.0, 0.0, 1.0), repeat=r) if any(v)]
    for v in [*lattice, *rng.normal(size=(len(lattice) if r > 1 else 0, r))]:
        yield [float(a) for a in np.array(v) / np.linalg.norm(v)]


def _reach(f: _Integrand, power: int, digits: int) -> float:
    """The radius beyond which |f|^power times the density is below 10^-(digits + 3) of its largest value.

    ValueError: there is none.
    """
    ctx = context(30)
    value = f.precise(ctx)
    rays = []
    for u in _directions(f.dimension):
        ray = []
        for radius in _RADII:
            size = abs(value([ctx.mpf(a) * radius * _OFF for a in u]))
            log = float(power * ctx.log(size) - (ctx.mpf(radius) * _OFF) ** 2 / 2) if size else -math.inf
            if log > _STEEP:
                raise ValueError(_endless(f, u, power))
            ray.append(log)
        rays.append((u, ray))
    level, reach = max([max(ray) for _, ray in rays], default=0.0) - (digits + 3) * math.log(10), 1.0
    for u, ray in rays:
        above = [radius for radius, log in zip(_RADII, ray, strict=True) if log > level]
        if above and above[-1] == _FAR:
            raise ValueError(_endless(f, u, power))
        reach = max(reach, _RADII[_RADII.index(above[-1]) + 1] if above else 1)
    return reach * _OFF


def _endless(f: _Integrand, direction: Sequence[float], power: int) -> str:
    where = ", ".join(f"{a:.3g}" for a in direction)
    what = "its average is infinite" if power == 1 else "it is not square-integrable, so that no sample of it converges"
    return (
        f"integrand {f.name!r} does not decay with the Gaussian of this covariance, or too slowly, in the direction "
        f"({where}) of unit normals: {what}; take a smaller covariance"
    )


# --- one and two normals in float64


def _density(z: Array) -> Array:
    return np.asarray(np.exp(-z * z / 2) / math.sqrt(2 * math.pi))


def _size(f: _Integrand, r: int, reach: float) -> float:
    """About E|f|, what tolerances are relative to: midpoints of a grid that covers the integral; never 0."""
    nodes = (np.arange(_COVER) + _OFF / 2) * (2 * reach / _COVER) - reach
    z = np.stack([axis.ravel() for axis in np.meshgrid(*[nodes] * r, indexing="ij")])
    found = np.abs(f.fast()(z)) @ np.prod(_density(z), axis=0) * (2 * reach / _COVER) ** r
    return max(float(found), float(np.finfo(np.float64).tiny))


def _cuts(f: _Integrand, reach: float, ctx: Any, before: Sequence[Any] = ()) -> list[Any]:
    """Where fields vanish along the next normal, given those `before`, between the ends of the integral."""
    k, found = len(before), [-ctx.mpf(reach), ctx.mpf(reach)]
    for m, row in zip(f.law.means, f.law.loadings(ctx), strict=True):
        if row[k] and not any(row[k + 1 :]):
            found.append(-(ctx.convert(m) + _dot(row, before)) / row[k])
    return sorted({max(min(c, ctx.mpf(reach)), -ctx.mpf(reach)) for c in found})


def _panels(f: _Integrand, r: int, reach: float) -> Quadrature:
    """To 13 digits of E|f|, absolute."""
    value = f.fast()
    size = _size(f, r, reach)
    tolerance = 1e-13 * size
    outer = np.array(list(pairwise(map(float, _cuts(f, reach, f.ctx)))))
    rows = np.zeros(len(outer), dtype=np.int64)
    if r == 1:
        found = adaptive_rows(
            lambda z, _: value(z[None]) * _density(z), outer, rows, 1, tolerance, most=_OPEN, wary=True
        )
        return Quadrature(found.value[0], found.error[0] + 1e-15 * size, found.evaluations)
    means = np.array([float(m) for m in f.law.means])
    loadings = np.array([[float(a) for a in row] for row in f.law.loadings(f.ctx)])
    varying = loadings[:, 1] != 0

    share = tolerance / (20 * reach)  # of the inner integrals, at each of the outer points

    def inner(first: Array) -> Array:
        zeros = -(means[varying] + first[:, None] * loadings[varying, 0]) / loadings[varying, 1]
        cuts = np.sort(np.hstack([np.tile([-reach, reach], (len(first), 1)), np.clip(zeros, -reach, reach)]), axis=1)
        panels = np.stack([cuts[:, :-1], cuts[:, 1:]], axis=-1).reshape(-1, 2)
        owner = np.repeat(np.arange(len(first)), cuts.shape[1] - 1)
        wide = panels[:, 1] > panels[:, 0]

        def integrand(second: Array, row: Array) -> Array:
            return value(np.stack([first[row], second])) * _density(second) * _density(first[row])

        sums = adaptive_rows(integrand, panels[wide], owner[wide], len(first), share, most=_OPEN, wary=True)
        return np.asarray(sums.value)

    def blocks(first: Array, _: Array) -> Array:
        return np.concatenate([inner(part) for part in np.array_split(first, math.ceil(len(first) / _BLOCK))])

    found = adaptive_rows(blocks, outer, rows, 1, tolerance, most=_BLOCK, wary=True)
    return Quadrature(found.value[0], found.error[0] + tolerance / 10 + 1e-15 * size, found.evaluations)


# --- three and four


def _many(f: _Integrand, r: int, reach: float, seed: int) -> tuple[float, float, str]:
    """By the trapezoidal rule with three steps where f is analytic, and they agree; else by sampling.

    The difference of the last two, which is the error of the step before, stands for that of the last.
    """
    value = f.fast()
    size, sums = 1.0, []
    for step in _STEPS[r] if (2 * reach / _STEPS[r][-1]) ** r <= _GRID else ():
        nodes = (np.arange(-math.ceil(reach / step), math.ceil(reach / step)) + _OFF / 3) * step
        plane = np.stack([axis.ravel() for axis in np.meshgrid(*[nodes] * (r - 1), indexing="ij")])
        total = size = 0.0
        for first in nodes:
            z = np.vstack([np.full(plane.shape[1], first), plane])
            z = z[:, (z * z).sum(axis=0) < reach**2]
            at = value(z) * np.prod(_density(z), axis=0) * step**r
            total, size = total + float(at.sum()), size + float(np.abs(at).sum())
        sums.append(total)
    gaps = [abs(after - before) for before, after in pairwise(sums)] or [math.inf, math.inf]
    error = gaps[1] + 1e-14 * size
    method = f"trapezoidal rule over {r} normals"
    if error <= _AGREED * size:
        return sums[2], error, method
    sampled = randomised(lambda z: value(z.T), r, tolerance=1e-15 * size, seed=seed, points=_POINTS)
    if error < sampled.error and gaps[1] < gaps[0] / 4 and abs(sampled.value - sums[2]) < 4 * sampled.error:
        return sums[2], error, method  # it converges, and to the same
    return float(sampled.value), float(sampled.error), f"quasi-Monte Carlo over {r} normals"


# --- any precision


def _precise(f: _Integrand, r: int, reach: float, digits: int) -> tuple[Any, Any, str]:
    """Over one or two normals, in the numbers of an mpmath context."""
    ctx = f.ctx
    value = f.precise(ctx)
    norm = 1 / ctx.sqrt(2 * ctx.pi)
    density = np.frompyfunc(lambda z: norm * ctx.exp(-z * z / 2), 1, 1)
    spent = 0

    def over(before: Sequence[Any], cuts: Sequence[Any], tolerance: Any) -> Quadrature:
        """The integral over the last normal, given the others."""

        def integrand(z: Array) -> Array:
            nonlocal spent
            spent += len(z)
            if spent > _MOST:
                raise RuntimeError(f"{digits} digits take more than {_MOST} evaluations: ask for {_DIGITS}")
            return np.asarray(value([*before, z]) * density(z))

        return tanh_sinh(integrand, pairwise(cuts), tolerance, ctx)

    size = _rough(value, density, r, reach, ctx)
    tolerance = size * ctx.mpf(10) ** -digits
    if r == 1:
        found = over((), _cuts(f, reach, ctx), tolerance)
        return found.value, found.error, f"tanh-sinh quadrature at {digits} digits"
    smooth = _trapezoidal(value, density, reach, size, digits, ctx)
    if smooth is not None:
        return smooth.value, smooth.error, f"trapezoidal rule at {digits} digits"

    def outer(first: Array) -> Array:
        inner = [over((z,), _cuts(f, reach, ctx, (z,)), tolerance / 10).value for z in first]
        return np.asarray(np.array(inner, dtype=object) * density(first))

    found = tanh_sinh(outer, pairwise(_cuts(f, reach, ctx)), tolerance, ctx)
    return found.value, found.error + tolerance / 10, f"nested tanh-sinh quadrature at {digits} digits"


def _nodes(reach: float, step: Any, ctx: Any) -> Array:
    """Of the trapezoidal rule, off the points where fields of zero mean vanish."""
    count = math.ceil(reach / float(step))
    return np.array([(k + ctx.mpf(_OFF) / 3) * step for k in range(-count, count)], dtype=object)


def _on_grid(value: Any, density: Any, reach: float, step: Any, ctx: Any) -> Array:
    """f times the density at each point of the grid over two normals, as one array."""
    z = _nodes(reach, step, ctx)
    size, weight = z.astype(np.float64) ** 2, density(z) * step
    first, second = np.nonzero(size[:, None] + size < reach**2)
    return np.asarray(value([z[first], z[second]]) * weight[first] * weight[second])


def _rough(value: Any, density: Any, r: int, reach: float, ctx: Any) -> Any:
    """About E|f|: what tolerances are relative to."""
    step = ctx.mpf(1) / 2
    if r == 1:
        z = _nodes(reach, step, ctx)
        terms = value([z]) * density(z) * step
    else:
        terms = _on_grid(value, density, reach, step, ctx)
    return ctx.fsum(abs(term) for term in np.atleast_1d(terms))


def _trapezoidal(value: Any, density: Any, reach: float, size: Any, digits: int, ctx: Any) -> Quadrature | None:
    """Over two normals; the step is halved to 1/16; None where f is not analytic near the axes.

    The error of a step is the square of that of the double step, if f is analytic in a strip: where successive
    differences fall that fast, that of the last is d^(3/2) at most.
    """
    before, gaps = None, [ctx.one]
    for level in range(1, 5):
        found = ctx.fsum(_on_grid(value, density, reach, ctx.ldexp(1, -level), ctx))
        if before is not None and size:
            gaps.append(abs(found - before) / size)
            fast = gaps[-1] <= gaps[-2] ** ctx.mpf("1.5")
            error = gaps[-1] ** ctx.mpf("1.5") if fast else gaps[-1]
            if error <= ctx.mpf(10) ** -digits:
                return Quadrature(found, max(error, ctx.mpf(10) ** (-digits - 10)) * size, 0)
            if level > 2 and not fast:
                return None
        before = found
    return None
