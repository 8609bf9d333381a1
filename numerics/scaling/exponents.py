"""Exponents of scaling laws: fitted with error bars, and those of the phases of the power-law problem.

A fit is a weighted straight line in logarithms over a window.  A phase is which two terms of the risk meet at the
compute-optimal size: terms and their powers are derived in symbolic/power_laws.py, of `x` = 2 lr steps, lr and P,

    target x^.., noise lr x^.. (b > 1/2, a > 1/4), embedding x^../P (b > 1/2, a > 1/2), floor P^..

At a compute f = batch P steps and a rate fixed against the largest stable one, lr ~ P^min(0, 2a - 1), the largest of
these powers of f is convex and piecewise linear in log P/log f: its least value lies where two of them cross.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from quenched.numerics.problem.checks import Result, finite_array, integers, number, record, shown
from quenched.numerics.problem.provenance import provenance
from quenched.numerics.problem.variables import describing
from quenched.numerics.scaling.equivalent import CONTOURS, risk_at
from quenched.numerics.scaling.power_law import MOST_FEATURES, PowerLaw
from quenched.theory.scaling.power_laws import term_exponents

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Exponent", "ScalingExponents", "compute_frontier", "fit_exponent", "scaling_exponents"]

Array = npt.NDArray[np.float64]

_PARTS = 3  # of a window, of which slopes are compared
_SLOWEST = 0.9  # of differences of slopes that still fall: a window where they do not is not extrapolated further
_FINE = 401  # sizes between three neighbours at which the least risk is looked for
_INTERIOR = 2  # sizes at either end of a frontier whose optimum may lie outside


# --- fits


@dataclass(frozen=True, repr=False)
class Exponent(Result):
    """A fitted exponent: `value`, its `error`, of which `statistical` is from the errors of the points, the `prefactor`
    of the line, and the `window` that it was fitted in, with the number of `points`.
    """

    value: float
    error: float
    statistical: float
    prefactor: float
    window: tuple[float, float]
    points: int


def fit_exponent(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    error: npt.ArrayLike | None = None,
    window: npt.ArrayLike | None = None,
) -> Exponent:
    """The exponent q of y ~ x^q: the slope of log y against log x by least squares, with an error bar.

    `x` increasing, `y`, and the standard error of y if there is one: positive numbers (n,), in `window` 6 or more.
    Without `error` all logarithms have one weight.

    The error is the sum of two numbers, in quadrature with the statistical error from `error`, or else from the scatter
    about the line: the spread (largest minus smallest) of the slopes in the three thirds of the window, and the
    distance of the fit from where these slopes go as a geometric sequence.  Such a sequence they are for y = C x^q (1 +
    c x^-w) of small c x^-w at any w: for one such correction the error is a bound on the distance from q.  Where y
    crosses over from one power to another beyond the window, no rule can know: fit in another window, too.

    ValueError: fewer than 6 points, x that do not increase, numbers that are not positive.

    >>> x = np.geomspace(1e2, 1e6, 30)
    >>> fit = fit_exponent(x, 3 * x**-0.5 * (1 + 1 / x**0.5))
    >>> round(fit.value, 3), round(fit.error, 3)
    (-0.508, 0.032)
    """
    xs, ys = finite_array("x", x, (None,)), finite_array("y", y, (None,))
    if len(xs) != len(ys):
        raise ValueError(f"y must have the length of x, {len(xs)}, got {len(ys)}")
    known = None if error is None else finite_array("error", error, (len(xs),))
    for name, values in (("x", xs), ("y", ys), ("error", xs if known is None else known)):
        if values.min() <= 0:
            raise ValueError(f"{name} must be positive, got {values.min()!s}")
    if (np.diff(xs) <= 0).any():
        raise ValueError(f"x must increase, got {shown(x)}")
    low, high = (xs[0], xs[-1]) if window is None else finite_array("window", window, (2,))
    inside = (xs >= low) & (xs <= high)
    if (count := int(inside.sum())) < 2 * _PARTS:
        raise ValueError(f"window must hold {2 * _PARTS} points or more, got {count} between {low:g} and {high:g}")
    u, v = np.log(xs[inside]), np.log(ys[inside])
    weights = np.ones(count) if known is None else (ys[inside] / known[inside]) ** 2
    slope, intercept, statistical = _line(u, v, weights, known is not None)
    edges = np.linspace(u[0], u[-1], _PARTS + 1)
    slopes = []
    for part in range(_PARTS):
        of = (u >= edges[part]) & (u <= edges[part + 1])
        if of.sum() < 2:
            raise ValueError(f"window must hold 2 points or more in each third of its logarithms, got {int(of.sum())}")
        slopes.append(_line(u[of], v[of], weights[of], True)[0])
    total = math.hypot(float(np.ptp(slopes)) + abs(_limit(slopes) - slope), statistical)
    return Exponent(slope, total, statistical, math.exp(intercept), (math.exp(u[0]), math.exp(u[-1])), count)


def _limit(slopes: Sequence[float]) -> float:
    """Where three slopes go, as a geometric sequence."""
    first, second, third = slopes
    if second == first or third == second:
        return third
    ratio = min((third - second) / (second - first), _SLOWEST)
    return third + (third - second) * ratio / (1 - ratio)


def _line(u: Array, v: Array, weights: Array, known: bool) -> tuple[float, float, float]:
    """Slope, intercept and the slope's standard error, from the weights if they are `known`, else from the scatter."""
    share = weights / weights.sum()
    centre = float(share @ u)
    spread = float(weights @ (u - centre) ** 2)
    slope = float(weights @ ((u - centre) * v)) / spread
    intercept = float(share @ v) - slope * centre
    if known:
        return slope, intercept, spread**-0.5
    rest = v - intercept - slope * u
    return slope, intercept, math.sqrt(float(weights @ rest**2) / (len(u) - 2) / spread)


# --- phases


@dataclass(frozen=True, repr=False)
class ScalingExponents(Result):
    """Exponents of a phase: of the risk in steps where P is not felt (`time`), in P after many steps (`size`), in the
    compute at its best (`compute`), and of the best size (`optimal_size`), P ~ f^optimal_size; `terms`: which of the
    risk are equal there.  `crossover`: the largest of the other terms falls against them as f^crossover; None: there is
    no other.  Below f = 10^(1/|crossover|) fits find neither this phase nor another.
    """

    phase: str
    time: float
    size: float
    compute: float
    optimal_size: float
    terms: tuple[str, str]
    crossover: float | None = None


_PHASES = {
    # terms that meet, a > 1/2, b > 1/2
    ("target", "floor", True, False): "Ia",
    ("target", "floor", False, False): "Ib",
    ("target", "floor", False, True): "Ic",
    ("target", "embedding", True, True): "II",
    ("noise", "embedding", True, True): "III",
    ("noise", "floor", False, True): "IVa",
    ("target", "noise", False, True): "IVb",
}
"""Names of Paquette, Paquette, Xiao and Pennington (2024)."""


def scaling_exponents(a: float, b: float) -> ScalingExponents:
    """The phase of the power-law problem with eigenvalues j^(-2a) and target j^(-b), and its exponents.

    D/P is fixed, and above 1, and the learning rate a fixed fraction of the largest stable one: lr ~ P^(2a - 1) for
    a < 1/2, where sum_j lambda_j grows, else constant.  `time` is of steps at fixed lr: of the slowest of the terms
    that do not depend on P, which for a < 1/2 is the target, as noise goes with lr.

    ValueError: 2a + 2b <= 1, where y has no finite variance; a or b on the boundary of a phase, where exponents have
    logarithms beside them.

    In IVb compute is far too small everywhere: what is of the order of the floor falls against target and noise by the
    power (4a - 1)(b - 1/2)/(2b - a - 2ab) of f, for a = 0.27, b = 0.7 one decade in 47.

    >>> scaling_exponents(1.0, 0.25)
    ScalingExponents(phase='Ia', time=-0.75, size=-1.5, compute=-0.5, optimal_size=0.333333, terms=('target', 'floor'))
    >>> scaling_exponents(0.75, 1.5).phase, scaling_exponents(0.4, 0.8).phase
    ('III', 'IVa')
    """
    a, b = number("a", a, positive=True), number("b", b)
    if a + b <= 0.5:
        raise ValueError(f"b must be > 1/2 - a = {0.5 - a:g}, where the labels have a variance, got {b!r}")
    terms, lr = _terms(a, b)
    best = None
    for one, two in combinations(terms, 2):
        (x1, P1), (x2, P2) = terms[one], terms[two]
        # f = P steps = P^(1 - lr) x is f^1: x = f^(1 - (1 - lr) p) at P = f^p
        slopes = P1 - (1 - lr) * x1, P2 - (1 - lr) * x2
        if slopes[0] == slopes[1]:
            continue
        p = (x2 - x1) / (slopes[0] - slopes[1])
        value = max(x + (P - (1 - lr) * x) * p for x, P in terms.values())
        if p > 0 and (best is None or value < best[0] - 1e-12):
            best = value, p, (one, two)
    name = None if best is None else _PHASES.get((*best[2], a > 0.5, b > 0.5))
    if best is None or name is None or a in (0.25, 0.5) or b == 0.5 or (a > 0.5 and a == b):
        raise ValueError(f"a and b must lie inside of a phase, not on its boundary, got a = {a:g}, b = {b:g}")
    unaware = [x for x, P in terms.values() if P == 0 and x]
    value, p, pair = best
    others = [x + (P - (1 - lr) * x) * p - value for term, (x, P) in terms.items() if term not in pair]
    return ScalingExponents(name, max(unaware), terms["floor"][1], value, p, pair, max(others, default=None))


def _terms(a: float, b: float) -> tuple[dict[str, tuple[float, float]], float]:
    """Powers of x and of P of each term that there is, in the order of names in `_PHASES`, and that of P in lr."""
    target, noise, embedding, of_lr, of_P, rough, smooth = term_exponents(a, b)
    lr = min(0.0, 2 * a - 1)
    terms = {"target": (target, 0.0)}
    if b > 0.5 and a > 0.25:
        terms["noise"] = noise, of_lr * lr
    if b > 0.5 and a > 0.5:
        terms["embedding"] = embedding, of_P
    terms["floor"] = 0.0, smooth if b > 0.5 else rough
    return terms, lr


# --- the frontier


@describing
def compute_frontier(law: PowerLaw, features: Sequence[int], compute: npt.ArrayLike) -> xr.Dataset:
    """The least risk at each compute f = batch P steps over the number of features P, and where it is reached.

    `features`: increasing sizes P, six or more; the law is scaled to each, D/P and `rate` fixed.  `compute`: increasing
    numbers > 0.  Between sizes log risk is a cubic spline in log P.

    Returns a dataset: risk_at (features, budget), by `power_law_risk`; along budget (f) the least risk,
    optimal_features, and `interior`, whether the optimum lies well inside of the sizes given, as it must for a fit.

    ValueError: fewer than six sizes, a law without features.

    >>> sizes, law = np.geomspace(10, 1e5, 16).astype(int), PowerLaw(1.0, 0.25, inputs=400, features=100)
    >>> found = compute_frontier(law, sizes, np.geomspace(1e6, 1e11, 11))
    >>> fit = fit_exponent(found.budget, found.risk)
    >>> abs(fit.value - scaling_exponents(1.0, 0.25).compute) < fit.error < 0.02
    True
    """
    import xarray as xr
    from scipy.interpolate import CubicSpline

    record("law", law, PowerLaw)
    sizes = sorted(set(integers("features", features, at_least=1, at_most=MOST_FEATURES)))
    if len(sizes) < 6:
        raise ValueError(f"features must be six or more different sizes, got {shown(features)}")
    if law.features is None:
        raise ValueError(f"law must have features, got {law!r}")
    f = finite_array("compute", compute, (None,))
    if f[0] <= 0 or (np.diff(f) <= 0).any():
        raise ValueError(f"compute must be increasing numbers > 0, got {shown(compute)}")
    ratio = law.inputs / law.features
    rows = []
    for P in sizes:
        scaled = replace(law, features=P, inputs=round(ratio * P))
        rows.append(risk_at(scaled, f / (law.batch * P), CONTOURS[1:])[0])
    risks = np.array(rows)
    logs = np.log(risks)
    best = np.argmin(logs, axis=0)
    u = np.log(np.array(sizes, dtype=np.float64))
    smooth = CubicSpline(u, logs)
    least, where = np.empty(len(f)), np.empty(len(f))
    for i, m in enumerate(np.clip(best, 1, len(sizes) - 2)):
        fine = np.linspace(u[m - 1], u[m + 1], _FINE)
        values = smooth(fine)[:, i]
        where[i], least[i] = np.exp(fine[values.argmin()]), np.exp(values.min())
    return xr.Dataset(
        {
            "risk_at": (("features", "budget"), risks),
            "risk": ("budget", least),
            "optimal_features": ("budget", where),
            "interior": ("budget", (best >= _INTERIOR) & (best < len(sizes) - _INTERIOR)),
        },
        {"features": np.array(sizes, dtype=np.int64 if sizes[-1] < 2**63 else np.float64), "budget": f},
        provenance(law=law),
    )
