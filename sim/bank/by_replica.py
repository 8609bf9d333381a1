"""Independent routes to what n = alpha D samples can teach: potentials by numerical differentiation, scalar recursions.

`convex_potential` is the stationary point of

    phi(m, b, q, V) = alpha sum_a P_a E[M_a(V, y_a m + b + sqrt(q) xi)] + (sigma^2 m^2 - q)/(2 V) + ridge q/(2 sigma^2)

for two clusters at +-1 (m = w.mean, q = sigma^2 |w|^2), M_a(V, w) = min_h (h - w)^2/(2 V) + l(y_a h) the Moreau
envelope: the conjugate variables of the replica potential are eliminated, derivatives are numerical, the minimum over h
is found at each node.  No envelope identity, no equation of the solver.  `taught_potential` is the same for labels by a
teacher, `taught_features` the closed form of Mei and Montanari (2022) for the square loss on random features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

from quenched.numerics.compiled.precision import context
from quenched.numerics.probability.quadrature import legendre
from quenched.sim.bank.quadratures import FACTORS, Number, Parameters, normal_mean, worse

__all__ = [
    "bayes_overlap", "convex_potential", "critical_ratio", "evolved", "known_means", "separable", "spinodal",
    "taught_features", "taught_potential",
]  # fmt: skip

_DIGITS = 30
_REACH = 11


def _prox_logistic(ctx: Any, V: Any, w: Any) -> Any:
    """min over h of (h - w)^2/(2 V) + log(1 + exp(-h)): Newton in a bracket."""
    low, high = w, w + V
    h = w + V / (1 + ctx.exp(w))
    for _ in range(200):
        s = 1 / (1 + ctx.exp(h))
        slope = (h - w) / V - s
        low, high = (h, high) if slope < 0 else (low, h)
        new = h - slope / (1 / V + s * (1 - s))
        new = new if low <= new <= high else (low + high) / 2
        if abs(new - h) <= ctx.eps * 100 * (1 + abs(h)):
            h = new
            break
        h = new
    return (h - w) ** 2 / (2 * V) + ctx.log1p(ctx.exp(-h))


def _prox_square(ctx: Any, V: Any, w: Any) -> Any:
    return (1 - w) ** 2 / (2 * (1 + V))


def _prox_hinge(ctx: Any, V: Any, w: Any) -> Any:
    if w >= 1:
        return ctx.zero
    return 1 - w - V / 2 if w <= 1 - V else (1 - w) ** 2 / (2 * V)


_ENVELOPES: dict[str, tuple[Callable[[Any, Any, Any], Any], Callable[[Any], list[Any]]]] = {
    "logistic": (_prox_logistic, lambda V: []),
    "square": (_prox_square, lambda V: []),
    "hinge": (_prox_hinge, lambda V: [1 - V, 1]),
}
"""Moreau envelopes at the label +1, and the w at which they have a kink of some order."""


def _average(ctx: Any, f: Callable[[Any], Any], mean: Any, scale: Any, kinks: list[Any]) -> Any:
    """E f(mean + scale xi): trapezoidal where f is analytic, else panels of Gauss-Legendre between kinks."""
    if not kinks:
        step = ctx.mpf(1) / 5
        count = int(_REACH / step)
        total = sum(ctx.exp(-((i * step) ** 2) / 2) * f(mean + scale * i * step) for i in range(-count, count + 1))
        return total * step / ctx.sqrt(2 * ctx.pi)
    inner = [(k - mean) / scale for k in kinks]
    cuts = sorted([ctx.mpf(i) for i in range(-_REACH, _REACH + 1, 2)] + [c for c in inner if abs(c) < _REACH])
    nodes, weights = legendre([-1, 1], 16, ctx)
    total = ctx.zero
    for left, right in itertools.pairwise(cuts):
        half, middle = (right - left) / 2, (left + right) / 2
        points = [middle + half * node for node in nodes]
        total += half * sum(w * ctx.npdf(z) * f(mean + scale * z) for z, w in zip(points, weights, strict=True))
    return total


def _stationary(ctx: Any, phi: Callable[..., Any], start: list[float]) -> list[Any]:
    """Where the derivatives of phi, differences of order four, vanish: Newton's method, the curvature of the start."""
    small = ctx.mpf(10) ** -5

    def shifted(x: list[Any], i: int, k: int) -> list[Any]:
        return [v + (k * small if i == j else 0) for j, v in enumerate(x)]

    def gradient(x: list[Any]) -> Any:
        found = []
        for i in range(len(start)):
            steps = [phi(*shifted(x, i, k)) for k in (-2, -1, 1, 2)]
            found.append((steps[0] - 8 * steps[1] + 8 * steps[2] - steps[3]) / (12 * small))
        return ctx.matrix(found)

    x = [ctx.mpf(value) for value in start]
    here = gradient(x)
    curvature = ctx.matrix(len(start), len(start))  # at the start: a few digits are enough for steps that shrink
    for j in range(len(start)):
        for i, value in enumerate((gradient(shifted(x, j, 1)) - here) / small):
            curvature[i, j] = value
    for _ in range(12):
        move = ctx.lu_solve(curvature, here)
        x = [v - d for v, d in zip(x, move, strict=True)]
        if ctx.norm(move) < ctx.mpf(10) ** -17:
            break
        here = gradient(x)
    else:
        raise RuntimeError("no stationary point near the start of the record")
    return x


def convex_potential(parameters: Parameters) -> tuple[Number, Number]:
    """Classification error of a convex loss with ridge and intercept on two clusters at +-1 of given `weights`."""
    ctx, spec = context(24), parameters["mixture"]
    sigma, alpha, ridge = ctx.mpf(spec["sigma"]), ctx.mpf(parameters["alpha"]), ctx.mpf(parameters["ridge"])
    P = [ctx.mpf(w) for w in spec.get("weights", [0.5, 0.5])]
    envelope, kinks = _ENVELOPES[parameters["loss"]]

    def phi(m: Any, b: Any, q: Any, V: Any) -> Any:
        total = (sigma**2 * m * m - q) / (2 * V) + ridge * q / (2 * sigma**2)
        for weight, y in zip(P, (1, -1), strict=True):
            total += alpha * weight * _average(
                ctx, lambda w: envelope(ctx, V, w), m + y * b, ctx.sqrt(q), kinks(V)
            )  # fmt: skip
        return total

    m, b, q, _ = _stationary(ctx, phi, parameters["check"]["start"])
    error = sum(w * ctx.ncdf(-(m + y * b) / ctx.sqrt(q)) for w, y in zip(P, (1, -1), strict=True))
    return error, 1e-15  # of the differences: steps of 1e-5, order 4, 1e-20/12 times a fifth derivative


def separable(parameters: Parameters) -> tuple[Number, Number]:
    """alpha*: 1/alpha* = min over (t, b) of sum_a P_a E[max(0, sqrt(1 + t^2) xi - t/sigma - y_a b)^2] (Gordon)."""
    ctx, spec = context(_DIGITS), parameters["mixture"]
    sigma = ctx.mpf(spec["sigma"])
    P = [ctx.mpf(w) for w in spec.get("weights", [0.5, 0.5])]

    def shortfall(t: Any, b: Any) -> Any:
        total, width = ctx.zero, ctx.sqrt(1 + t * t)
        for weight, y in zip(P, (1, -1), strict=True):
            margin = t / sigma + y * b
            total += weight * normal_mean(ctx, lambda x: x * x if x > 0 else ctx.zero, -margin, width, 40)
        return total

    small = ctx.mpf(10) ** -7

    def slopes(t: Any, b: Any) -> list[Any]:
        first = (shortfall(t + small, b) - shortfall(t - small, b)) / (2 * small)
        return [first, (shortfall(t, b + small) - shortfall(t, b - small)) / (2 * small)]

    start = [ctx.mpf(value) for value in parameters["check"]["start"]]
    t, b = ctx.findroot(slopes, start, tol=1e-22, h=ctx.mpf(10) ** -6)
    value = 1 / shortfall(t, b)
    return value, value * 1e-13  # of the differences, 1e-14, in t and b; at a minimum it enters squared


# --- Bayes-optimal


def _tanh_mean(ctx: Any, field: Any) -> Any:
    """E tanh(l + sqrt(l) z): the overlap of a sign seen in a field of strength l."""
    step, root = ctx.mpf(1) / 10, ctx.sqrt(field)
    count = int(_REACH / step)
    total = sum(ctx.exp(-((i * step) ** 2) / 2) * ctx.tanh(field + root * i * step) for i in range(-count, count + 1))
    return total * step / ctx.sqrt(2 * ctx.pi)


def _next(ctx: Any, q: Any, alpha: Any, sigma: Any) -> Any:
    """One iteration on XOR: two unsupervised problems of alpha/2 samples each, q = Lam/(1 + Lam)."""
    strength = alpha / (2 * sigma**2) * _tanh_mean(ctx, q / sigma**2)
    return strength / (1 + strength)


def bayes_overlap(parameters: Parameters) -> tuple[Number, Number]:
    """Bayes-optimal error on XOR: 2 p (1 - p), p = Phi(-sqrt(q)/(sqrt 2 sigma)), q > 0 the root of the recursion."""
    ctx = context(_DIGITS)
    alpha, sigma = ctx.mpf(parameters["alpha"]), ctx.mpf(parameters["mixture"]["sigma"])
    q = ctx.findroot(lambda x: _next(ctx, x, alpha, sigma) - x, (ctx.mpf("0.3"), ctx.mpf("0.9")), solver="anderson")
    if q < 1e-3:
        raise RuntimeError(f"the recursion must have a positive root, got {q}")
    p = ctx.ncdf(-ctx.sqrt(q / 2) / sigma)
    value = 2 * p * (1 - p)
    return value, 1e-15


def evolved(parameters: Parameters) -> tuple[Number, Number]:
    """The overlap of message passing on XOR after `iterations`, from `overlap`."""
    ctx = context(_DIGITS)
    q = ctx.mpf(parameters["overlap"])
    for _ in range(parameters["iterations"]):
        q = _next(ctx, q, ctx.mpf(parameters["alpha"]), ctx.mpf(parameters["mixture"]["sigma"]))
    return q, 1e-15


def critical_ratio(parameters: Parameters) -> tuple[Number, Number]:
    """The alpha at which the recursion on XOR has the slope 1 at q = 0, its slope taken from small q by Richardson."""
    ctx = context(40)
    sigma = ctx.mpf(parameters["mixture"]["sigma"])

    def slope(alpha: Any) -> Any:
        row = [_next(ctx, q, alpha, sigma) / q for q in (ctx.mpf(10) ** -8 / 2**i for i in range(4))]
        for order in range(1, 4):
            row = [(2**order * b - a) / (2**order - 1) for a, b in itertools.pairwise(row)]
        return row[0]

    value = ctx.findroot(lambda alpha: slope(alpha) - 1, (ctx.mpf("0.1"), ctx.mpf(4)), solver="anderson", tol=1e-25)
    return value, 1e-15


def known_means(parameters: Parameters) -> tuple[Number, Number]:
    """Bayes-optimal error on two equal clusters: q = alpha/(alpha + sigma^2), Phi(-sqrt(q)/sigma)."""
    ctx = context(_DIGITS)
    alpha, sigma = ctx.mpf(parameters["alpha"]), ctx.mpf(parameters["mixture"]["sigma"])
    value = ctx.ncdf(-ctx.sqrt(alpha / (alpha + sigma**2)) / sigma)
    return value, worse(value, value)


def spinodal(parameters: Parameters) -> tuple[Number, Number]:
    """The alpha beyond which a second solution exists, one label of clusters A = 0 (many) and A = +-1 (few).

    Given the label a sample has A = 0 with probability 1 - r, +-1 with r/2 each; its posterior mean in a field of
    strength l = q/sigma^2 and the recursion q = Lam/(1 + Lam), Lam = (alpha P/sigma^2) E[<A>^2], are scalar; alpha(q)
    is explicit, and its minimum is the spinodal: the best of a row of q, and a golden-section search about it.
    """
    sigma, rare, share = parameters["mixture"]["sigma"], parameters["check"]["rare"], parameters["check"]["share"]
    ctx = context(20)

    def alpha(q: float) -> float:
        field, root = q / sigma**2, math.sqrt(q) / sigma

        def mean(u: float) -> float:
            up, down = (rare / 2 * math.exp(min(s * u - field / 2, 700.0)) for s in (1, -1))
            return (up - down) / (1 - rare + up + down)

        total, step = 0.0, 1 / 64
        for i in range(-11 * 64, 11 * 64 + 1):
            z = i * step
            weight = math.exp(-z * z / 2) * step / math.sqrt(2 * math.pi)
            total += weight * (rare * mean(field + root * z) ** 2 + (1 - rare) * mean(root * z) ** 2)
        return q / (1 - q) * sigma**2 / (share * total)

    row = [i / 50 for i in range(1, 50)]
    best = min(row, key=alpha)
    low, high = best - 1 / 50, best + 1 / 50
    ratio = float((ctx.sqrt(5) - 1) / 2)
    while high - low > 1e-9:
        one, other = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, other) if alpha(one) < alpha(other) else (one, high)
    return alpha((low + high) / 2), 1e-10


def taught_potential(parameters: Parameters) -> tuple[Number, Number]:
    """Classification error of a linear learner, y = sign(nu), nu = x_1 + noise, sigma = 1, no intercept.

        phi(m, q, V) = alpha sum_y E[Phi(y E[nu | w]/spread) M(V, y, w)] + (m^2 - q)/(2 V) + ridge q/2

    w ~ N(0, q) with Cov(w, nu) = m; the error is that of two normal variables, arccos(m/sqrt(q Var nu))/pi.
    """
    ctx, teacher = context(24), parameters["mixture"]["teacher"]
    alpha, ridge = ctx.mpf(parameters["alpha"]), ctx.mpf(parameters["ridge"])
    power = 1 + ctx.mpf(teacher["field_noise"]) ** 2
    envelope, _ = _ENVELOPES[parameters["loss"]]

    def phi(m: Any, q: Any, V: Any) -> Any:
        slope = m / q / ctx.sqrt(power - m * m / q)
        average = _average(
            ctx, lambda w: 2 * ctx.ncdf(slope * w) * envelope(ctx, V, w), ctx.zero, ctx.sqrt(q), []
        )  # labels of both signs are alike
        return alpha * average + (m * m - q) / (2 * V) + ridge * q / 2

    m, q, _ = _stationary(ctx, phi, parameters["check"]["start"])
    return ctx.acos(m / ctx.sqrt(q * power)) / ctx.pi, 1e-15  # of the differences, as in `convex_potential`


def taught_features(parameters: Parameters) -> tuple[Number, Number]:
    """pmse of ridge regression on random features, y = erf(nu/sqrt 2) of one neuron, with noise s in training.

    F_1^2 B + (F_*^2 + s^2) V + F_*^2 with B and V of Mei and Montanari (2022, Definition 1, Theorem 2): zeta = k_1/k_*,
    psi_1 = P/D, psi_2 = n/D, their ridge, in units of k_*^2, is that of the record over alpha.
    """
    ctx, teacher = context(_DIGITS), parameters["mixture"]["teacher"]
    sizes = (parameters[name] for name in ("gamma", "alpha", "ridge", "label_noise"))
    p1, p2, ridge, noise = (ctx.mpf(size) for size in sizes)
    factor = FACTORS[parameters["activation"]]
    zero, one, square = (
        normal_mean(ctx, weighted, ctx.zero, ctx.one, 40)
        for weighted in (lambda x: factor(ctx, x), lambda x: x * factor(ctx, x), lambda x: factor(ctx, x) ** 2)
    )
    rest = square - zero**2 - one**2
    z, level = one**2 / rest, ridge / p2 / rest
    a = b = ctx.mpc(0, 1)
    end = ctx.mpc(0, ctx.sqrt(p1 * p2 * level))
    for step in (1000, 300, 100, 30, 10, 5, 3, 2, 1.5, 1):  # down the imaginary axis
        for _ in range(20_000):
            before = a
            a = p1 / (-step * end - b - z * b / (1 - z * a * b))
            b = p2 / (-step * end - a - z * a / (1 - z * a * b))
            if abs(a - before) < ctx.eps * 10 * abs(a):
                break
    c = (a * b).real
    E0 = -(c**5) * z**3 + 3 * c**4 * z**2 + (p1 * p2 - p2 - p1 + 1) * c**3 * z**3 - 2 * c**3 * z**2 - 3 * c**3 * z
    E0 += (p1 + p2 - 3 * p1 * p2 + 1) * c**2 * z**2 + 2 * c**2 * z + c**2 + 3 * p1 * p2 * c * z - p1 * p2
    E1 = p2 * c**3 * z**2 - p2 * c**2 * z + p1 * p2 * c * z - p1 * p2
    E2 = c**5 * z**3 - 3 * c**4 * z**2 + (p1 - 1) * c**3 * z**3 + 2 * c**3 * z**2 + 3 * c**3 * z
    E2 += (-p1 - 1) * c**2 * z**2 - 2 * c**2 * z - c**2
    w2 = ctx.mpf(teacher["weights"][0][0]) ** 2
    linear = 2 / ctx.pi * w2 / (1 + w2)
    higher = 2 / ctx.pi * ctx.asin(w2 / (1 + w2)) - linear
    value = (linear * E1 / E0 + (higher + noise**2) * E2 / E0 + higher) / 2
    return value, value * 1e-25
