"""Quadrature with error estimates: float64 panels, any precision by tanh-sinh, and quasi-Monte Carlo for normals.

Integrands take an array of abscissae and return an array of values: a whole generation of panels is one call.  Where an
integrand is smooth but for a few points, let panels end at those; both routines bisect towards what was missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Quadrature",
    "adaptive",
    "adaptive_rows",
    "converged",
    "hermite",
    "legendre",
    "randomised",
    "scrambled_normals",
    "tanh_sinh",
]

Array = npt.NDArray[Any]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_INSIDE = 1 - 1e-12  # of a panel [-1, 1]: integrands may have no value at its ends
_PLACES = np.concatenate([_NODES, [-_INSIDE, _INSIDE]])
_VALUES = np.polynomial.legendre.legvander(_PLACES, 15)  # of the polynomials of degree 0 .. 15
_COEFFICIENTS = (
    _WEIGHTS[:, None] * _VALUES[:16] * (np.arange(16) + 0.5)
)  # of an integrand, from its values at the nodes
_ENDS = _COEFFICIENTS @ _VALUES[16:].T  # the polynomial through those values, at the ends
_UNSEEN = 1 - _NODES[-1]  # of half a panel: from its last node to the end


@dataclass(frozen=True)
class Quadrature:
    """The value of an integral, an estimate of its absolute error, and how many abscissae it took."""

    value: Any
    error: Any
    evaluations: int


@dataclass(frozen=True)
class _Asked:
    """A tolerance, whether it is relative, whether kinks that rules miss alike are looked for, and `most` panels."""

    tolerance: float
    relative: bool
    wary: bool
    most: int | None = None


def adaptive(
    f: Callable[[Array], Array],
    panels: npt.ArrayLike,
    tolerance: float,
    levels: int = 50,
    evaluations: int | None = None,
) -> Quadrature:
    """Sum of the integrals of f over `panels` (n, 2) to a relative `tolerance`: bisected 16-point Gauss-Legendre.

    A panel is done when its two halves agree with the whole, and nothing in them hints at a kink that the nodes miss
    (`_flaws`).  The error estimate is the sum of those differences: it is that of the whole panels, while the value is
    that of the halves.  RuntimeError after `levels` bisections; after `evaluations` abscissae, before that, the
    result is what they gave, with the error that is left.

    Where f gives rows (value, bound), so does the result.  Bisection and error are those of the value, and end where
    they fall below a fifth of the bound.  The bound, on what single values are off by, is summed at the very same
    abscissae, so that it bounds what is wrong with the sum of the values, however narrow its peaks are.

    >>> quadrature = adaptive(np.abs, [(-1.0, 2.0)], 1e-10)          # kink at 0
    >>> abs(quadrature.value - 2.5) < quadrature.error < 2.5e-10
    True
    """
    active: Array = np.asarray(panels, dtype=np.float64)
    rows = np.zeros(len(active), dtype=np.intp)
    found = _bisected(lambda x, _: f(x), active, rows, 1, _Asked(tolerance, True, True), levels, evaluations)
    value = found.value[0]
    return Quadrature(value if len(value) > 1 else float(value[0]), float(found.error[0]), found.evaluations)


def adaptive_rows(
    f: Callable[[Array, Array], Array],
    panels: Array,
    rows: Array,
    count: int,
    tolerance: float,
    levels: int = 50,
    most: int | None = None,
    *,
    wary: bool,
) -> Quadrature:
    """`count` integrals at once, each as by `adaptive`, to the absolute `tolerance`: f maps abscissae and their rows.

    `panels` (n, 2) belong to `rows` (n,).  `wary`: look for kinks that two rules miss alike; where panels end at all
    kinks of f, doing without saves a third of the time.  Value and error are arrays (count,).  RuntimeError after
    `levels` bisections, or where more than `most` panels are open at once.

    >>> panels, rows = np.array([[-1.0, 2.0], [0.0, 1.0]]), np.array([0, 1])
    >>> found = adaptive_rows(lambda x, row: np.abs(x) ** (1 + row), panels, rows, 2, 1e-10, wary=True)
    >>> bool(np.abs(found.value - [2.5, 1 / 3]).max() < 1e-10)
    True
    """
    active: Array = np.asarray(panels, dtype=np.float64)
    found = _bisected(f, active, rows, count, _Asked(tolerance, False, wary, most), levels, None)
    return Quadrature(found.value[:, 0], found.error, found.evaluations)


def _bisected(
    f: Callable[[Array, Array], Array],
    active: Array,
    rows: Array,
    count: int,
    asked: _Asked,
    levels: int,
    evaluations: int | None,
) -> Quadrature:
    """Value, and bound if f has one, (count, 1 or 2), and the error (count,) of the value."""
    places = _PLACES if asked.wary else _NODES
    ended = f"after {levels} bisections"
    spent = 0

    def gauss(panels: Array, rows: Array) -> tuple[Array, Array]:
        nonlocal spent
        half = (panels[:, 1:] - panels[:, :1]) / 2
        points = panels[:, :1] + half * (1 + places)
        spent += points.size
        values = f(points.ravel(), np.repeat(rows, len(places))).reshape(*points.shape, -1)
        flaws = _flaws(values[:, :, 0], half[:, 0]) if asked.wary else np.zeros(len(half))
        return np.asarray(_WEIGHTS @ values[:, :16] * half), flaws

    def summed(parts: Array, rows: Array) -> Array:
        return np.stack([np.bincount(rows, part, minlength=count) for part in parts.T], axis=1)

    whole, _ = gauss(active, rows)
    value, error = np.zeros((count, whole.shape[1])), np.zeros(count)
    for _ in range(levels):
        middle = active.mean(axis=1)
        halves = np.stack([active[:, 0], middle, middle, active[:, 1]], axis=1).reshape(-1, 2)
        parts, flaws = gauss(halves, np.repeat(rows, 2))
        parts = parts.reshape(len(active), 2, -1)
        sums = parts.sum(axis=1)
        gaps = np.maximum(np.abs(whole[:, 0] - sums[:, 0]), flaws.reshape(-1, 2).sum(axis=1))
        total, left = value + summed(sums, rows), error + np.bincount(rows, gaps, minlength=count)
        allowed = asked.tolerance * (np.abs(total[:, 0]) if asked.relative else np.ones(count))
        if total.shape[1] > 1:
            allowed = np.maximum(allowed, 0.2 * total[:, 1])
        # a share of the tolerance for every panel of every level; below it, rounding
        share = 0.05 * allowed / np.maximum(np.bincount(rows, minlength=count), 1)
        open_ = (gaps > np.maximum(share[rows], 1e-15 * np.abs(sums[:, 0]))) & (left > allowed)[rows]
        if evaluations is not None and spent >= evaluations:
            open_[:] = False
        value += summed(sums[~open_], rows[~open_])
        error += np.bincount(rows[~open_], gaps[~open_], minlength=count)
        if not open_.any():
            return Quadrature(value, error, spent)
        active = halves.reshape(-1, 2, 2)[open_].reshape(-1, 2)
        whole, rows = parts[open_].reshape(len(active), -1), np.repeat(rows[open_], 2)
        if asked.most is not None and len(active) > asked.most:
            ended = f"with {len(active)} panels open, more than {asked.most}"
            break
    worst = int((left - allowed).argmax())
    raise RuntimeError(
        f"quadrature reached {total[worst, 0]:.15g} ± {left[worst]:.2g}, not the "
        f"{'relative' if asked.relative else 'absolute'} tolerance {asked.tolerance:g}: no convergence around "
        f"{active.mean():.15g} {ended}; raise the tolerance"
    )


def _flaws(values: Array, half: Array) -> Array:
    """What integrals over panels may be off by for a kink or a step that two rules miss alike.

    values (n, 18): at the nodes and just inside both ends; half (n,): half the widths.

    Two rules agree by accident for some places of a kink.  The last Legendre coefficients see it wherever it is: of a
    kink those of degree k fall like k^-2, and what the rule misses is at most of their size, whereas of a smooth
    integrand they fall so fast, by r from the middle to the last, that r times the last ones is far above its error.
    A kink between the last node and the end shows in the polynomial there; it has no further share of the panel.
    """
    inside = values[:, :-2]
    coefficients = np.abs(inside @ _COEFFICIENTS)
    size = np.abs(inside).max(axis=1)
    last, middle = coefficients[:, -5:].max(axis=1), coefficients[:, 4:8].max(axis=1)
    last[last <= 100 * np.finfo(np.float64).eps * size] = 0.0
    fall = np.minimum(1.0, np.divide(last, middle, out=np.ones_like(last), where=middle > 0))
    off = np.abs(values[:, -2:] - inside @ _ENDS).max(axis=1)
    off[off <= 1000 * np.finfo(np.float64).eps * size] = 0.0
    return np.asarray(half * np.maximum(5 * last * fall, 2 * _UNSEEN * off))


def tanh_sinh(f: Callable[[Array], Array], panels: Iterable[tuple[Any, Any]], tolerance: Any, ctx: Any) -> Quadrature:
    """Sum of the integrals of f over `panels` to the absolute `tolerance`, in the numbers of the mpmath context `ctx`.

    x = tanh(pi/2 sinh t) turns a panel into the line, where the trapezoidal rule converges faster than geometrically
    for integrands analytic inside, whatever they do at the ends.  The step is halved until the differences of
    successive values, summed as a geometric series, fall below a hundredth of the tolerance; where they do not shrink,
    the panel is bisected.  RuntimeError after 200 panels.

    >>> from quenched.numerics.compiled.precision import context
    >>> ctx = context(40)
    >>> quadrature = tanh_sinh(lambda x: x ** ctx.mpf("1.5"), [(ctx.zero, ctx.one)], ctx.mpf("1e-30"), ctx)
    >>> print(ctx.nstr(quadrature.value, 30))
    0.4
    """
    pending = list(panels)
    done: list[Quadrature] = []
    while pending:
        lower, upper = pending.pop()
        if len(done) + len(pending) > 200:
            raise RuntimeError(
                f"quadrature does not reach the tolerance {ctx.nstr(tolerance, 2)} with 200 panels: no convergence "
                f"around {ctx.nstr(lower, 15)}; ask for fewer digits"
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
    """One panel of `tanh_sinh`; None if it should be bisected."""
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


def legendre(cuts: Sequence[Any] | Array, order: int, ctx: Any = None) -> tuple[Array, Array]:
    """Abscissae and weights of Gauss-Legendre of this order on each panel between successive `cuts`, one after another.

    float64, or numbers of the mpmath context `ctx`.

    >>> x, w = legendre([0.0, 1.0, 3.0], 5)
    >>> round(float(w @ x**9), 9)
    5904.9
    """
    if ctx is None:
        nodes, weights = np.polynomial.legendre.leggauss(order)
        edges = np.asarray(cuts, dtype=np.float64)
    else:
        nodes, weights = _precise_gauss("legendre", order, ctx)
        edges = np.array([ctx.mpf(c) for c in cuts], dtype=object)
    halves = (edges[1:] - edges[:-1]) / 2
    return (edges[:-1, None] + halves[:, None] * (1 + nodes)).ravel(), (halves[:, None] * weights).ravel()


def hermite(order: int, ctx: Any) -> tuple[Array, Array]:
    """Abscissae and weights of E[f(z)], z ~ N(0, 1), by Gauss-Hermite in numbers of the mpmath context `ctx`.

    >>> from quenched.numerics.compiled.precision import context
    >>> z, w = hermite(5, context(30))
    >>> print(w @ z**8)
    105.0
    """
    return _precise_gauss("hermite", order, ctx)


def _precise_gauss(kind: str, order: int, ctx: Any) -> tuple[Array, Array]:
    nodes, weights = ([ctx.make_mpf(x) for x in raw] for raw in _raw_gauss(kind, order, ctx.prec))
    return np.array(nodes, dtype=object), np.array(weights, dtype=object)


@lru_cache(maxsize=64)
def _raw_gauss(kind: str, order: int, prec: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Nodes and weights to `prec` bits, as raw numbers that every context can take.

    The orthonormal polynomials obey x p_k = b_k+1 p_k+1 + b_k p_k-1.  Nodes: zeros of p_n, by Newton from float64.
    Weights: 1/sum_k<n p_k^2 (Christoffel).
    """
    from quenched.numerics.compiled.precision import context

    ctx = context(15)
    ctx.prec = prec + 30
    if kind == "legendre":
        start, mass = np.polynomial.legendre.leggauss(order)[0], 2
        b = [ctx.zero, *(k / ctx.sqrt(4 * k * k - 1) for k in range(1, order + 1))]
    else:
        start, mass = np.polynomial.hermite_e.hermegauss(order)[0], 1
        b = [ctx.sqrt(k) for k in range(order + 1)]
    half = (order + 1) // 2  # the others mirror them
    nodes, weights = [], []
    for x in map(ctx.mpf, start[:half].tolist()):
        for _ in range(int(np.ceil(np.log2(ctx.prec / 40))) + 1):  # each step doubles the 40 bits known
            before, p, slope_before, slope, total = ctx.zero, 1 / ctx.sqrt(mass), ctx.zero, ctx.zero, ctx.zero
            for k in range(order):
                total += p * p
                slope_before, slope = slope, (p + x * slope - b[k] * slope_before) / b[k + 1]
                before, p = p, (x * p - b[k] * before) / b[k + 1]
            x -= p / slope
        nodes.append(x)
        weights.append(1 / total)
    nodes += [-x for x in nodes[: order // 2][::-1]]
    weights += weights[: order // 2][::-1]
    return tuple(x._mpf_ for x in nodes), tuple(w._mpf_ for w in weights)


def converged(rule: Callable[[int], Array], scale: Sequence[Any], digits: float, start: int = 24) -> Quadrature:
    """The limit of rule(n), a vector, as the order n of Gauss-Legendre panels grows by halves: n = start, 3/2 start, ..

    For integrands analytic on their panels the error falls like rho^(-2n): if two successive values differ by a
    fraction q, the better one is wrong by q^(3/2).  When that, in units of `scale`, falls below 10^-digits in every
    component, it is returned as `error`, with the last n as `evaluations`; RuntimeError if it has not beyond n = 200.

    >>> def rule(n):
    ...     x, w = legendre([0.0, 8.0], n)
    ...     return np.array([w @ np.exp(-x * x / 2)])
    >>> bool(abs(converged(rule, np.ones(1), 12).value[0] - np.sqrt(np.pi / 2)) < 1e-14)
    True
    """
    before, n = rule(start), start * 3 // 2
    while True:
        value = rule(n)
        gaps = [abs(v - b) for v, b in zip(value, before, strict=True)]
        errors = [min(gap, gap**1.5 / abs(v) ** 0.5) if v else gap for gap, v in zip(gaps, value, strict=True)]
        error = max((e / s for e, s in zip(errors, scale, strict=True) if s), default=0.0)
        if error <= 10**-digits:
            return Quadrature(value, error, n)
        if n > 200:
            raise RuntimeError(
                f"quadrature has a relative error of {float(error):.1e} at order {n}, not {digits} digits: "
                "the integrand varies on a shorter scale than its panels"
            )
        before, n = value, n * 3 // 2


REPLICATES = 8  # independent scramblings; their spread gives the error


def randomised(
    f: Callable[[Array], Array],
    dimension: int,
    *,
    tolerance: float | Array,
    seed: int,
    points: int = 2**17,
    first: int = 128,
    joined: bool = False,
) -> Quadrature:
    """E[f(z)], z ~ N(0, 1_dimension), by randomised quasi-Monte Carlo: f maps (n, dimension) to (n,) or (n, ...).

    If `joined`, f is called once for all scramblings, which saves time where n is small; each point has a row then.

    Eight independently scrambled Sobol sequences (seeded), mapped to normals, are doubled from `first` points each
    until the standard error of their mean is below `tolerance` (one per component, if an array), or another doubling
    would exceed `points` in all.  The error is that standard error, as it came out of eight samples (give or take
    25 %); or a quarter of the last change if that is larger, as when stratified points count a step alike in all eight.

    >>> quadrature = randomised(lambda z: np.maximum(z[:, 0] + z[:, 1], 0), 2, tolerance=1e-4, seed=0)
    >>> bool(abs(quadrature.value - 1 / np.sqrt(np.pi)) < 4 * quadrature.error < 4e-4)
    True
    """
    sums: Any = 0.0
    value: Array | None = None
    done = 0
    while True:
        block = max(done, first)
        blocks = [scrambled_normals(dimension, seed, r, done, block) for r in range(REPLICATES)]
        if joined:
            rows = f(np.concatenate(blocks))
            sums = sums + rows.reshape(REPLICATES, block, *rows.shape[1:]).sum(axis=1)
        else:
            sums = sums + np.stack([f(z).sum(axis=0) for z in blocks])
        done += block
        means: Array = np.asarray(sums / done)
        before, value = value, means.mean(axis=0)
        error = means.std(axis=0, ddof=1) / np.sqrt(REPLICATES)
        if before is not None:
            error = np.maximum(error, np.abs(value - before) / 4)
        if (before is not None and np.all(error <= tolerance)) or 2 * done * REPLICATES > points:
            return Quadrature(value[()], error[()], done * REPLICATES)


@lru_cache(maxsize=128)
def scrambled_normals(dimension: int, seed: int, replicate: int, start: int, count: int) -> Array:
    """Points start .. start + count - 1 of one scrambled Sobol sequence, as normals (count, dimension); read only.

    Remembered, because a learning curve asks for the same ones at each of its times.
    """
    from scipy.special import ndtri
    from scipy.stats import qmc

    rng = np.random.default_rng([seed, replicate, dimension])
    engine = qmc.Sobol(dimension, scramble=True, seed=rng)
    if start:
        engine.fast_forward(start)
    uniform = engine.random(count)
    normals = ndtri(np.clip(uniform, 2.0**-54, 1 - 2.0**-54))  # 30-bit points: only the ends are moved
    normals.flags.writeable = False
    return np.asarray(normals)
