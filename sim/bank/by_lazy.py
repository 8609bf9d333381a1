"""Independent routes to random features and kernels: the Marchenko-Pastur density, limits in D, real matrices.

Where only the linear part of features or of a kernel counts, all that is needed of a random matrix are traces of its
resolvent.  The solvers have them from a quadratic equation; here they are integrals over the density.  Limits D ->
infinity of one formula are held against the equivalent at finite D, another derivation, extrapolated; the equivalent
itself against matrices drawn at random, with a standard error.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from quenched.numerics import kernel_error, random_features_error
from quenched.numerics.compiled.precision import context
from quenched.sim.bank.problems import mixture
from quenched.sim.bank.quadratures import FACTORS, Number, Parameters, normal_mean, twice, worse

__all__ = [
    "crossover_features", "extrapolated", "features_of_density", "given_features", "given_kernels", "kernel_of_density",
    "large_ridge", "projected", "trained_features",
]  # fmt: skip

_DIGITS = 40  # ten more than the bank has at most: sums of some 600 terms, and differences, are right to 30


class _Rule(NamedTuple):
    """Order of Gauss-Legendre on a panel, standard deviations that panels reach, angles of the midpoint rule."""

    order: int
    reach: int
    angles: int


_RULES = _Rule(40, 12, 600), _Rule(48, 14, 700)  # coarse and fine


def _marchenko_pastur(ctx: Any, ratio: Any, f: Callable[[Any], Any], count: int) -> Any:
    """(1/D) tr f(F^T F/D), F of ratio·D rows of unit normals, f(0) = 0: an integral over the Marchenko-Pastur density.

    x = 1 + ratio + 2 sqrt(ratio) cos(theta): the midpoint rule in theta converges geometrically.
    """
    ratio, total = ctx.mpf(ratio), ctx.zero
    for i in range(count):
        theta = ctx.pi * (i + ctx.mpf(1) / 2) / count
        x = 1 + ratio + 2 * ctx.sqrt(ratio) * ctx.cos(theta)
        total += ctx.sin(theta) ** 2 / x * f(x)
    return 2 * ratio * total / count


def _orders(ctx: Any, activation: str, sigma: Any, rule: _Rule) -> tuple[Any, Any, Any]:
    """k_1^2, k_2^2 and the variance of all orders beyond the first, of activation(sigma z), by quadrature."""
    factor = FACTORS[activation]

    def mean(weight: Callable[[Any], Any]) -> Any:
        return normal_mean(ctx, lambda x: weight(x / sigma) * factor(ctx, x), ctx.zero, sigma, *rule[:2])

    zero, one, two = mean(lambda z: 1), mean(lambda z: z), mean(lambda z: (z * z - 1) / ctx.sqrt(2))
    square = normal_mean(ctx, lambda x: factor(ctx, x) ** 2, ctx.zero, sigma, *rule[:2])
    return one**2, two**2, square - zero**2 - one**2


def _resolvent(ctx: Any, ratio: Any, r: Any, count: int) -> tuple[Any, Any]:
    """T and dT/dr: t = T/(1 + T) is the mean of x/(x + r)."""
    t = _marchenko_pastur(ctx, ratio, lambda x: x / (x + r), count)
    slope = -_marchenko_pastur(ctx, ratio, lambda x: x / (x + r) ** 2, count)
    return t / (1 - t), slope / (1 - t) ** 2


def features_of_density(parameters: Parameters) -> tuple[Number, Number]:
    """Error on two clusters at +-1: regression with noise sigma^2/t, Phi(-t/(sigma sqrt(t + lambda dt/dlambda)))."""
    ctx = context(_DIGITS)
    sigma, ridge, gamma = (
        ctx.mpf(x) for x in (parameters["mixture"]["sigma"], parameters["ridge"], parameters["gamma"])
    )

    def value(rule: _Rule) -> Any:
        linear, _, rest = _orders(ctx, parameters["activation"], sigma, rule)
        r = (ridge + rest) / linear
        t = _marchenko_pastur(ctx, gamma, lambda x: x / (x + r), rule.angles)
        slope = -_marchenko_pastur(ctx, gamma, lambda x: x / (x + r) ** 2, rule.angles) * ridge / linear
        return ctx.ncdf(-t / (sigma * ctx.sqrt(t + slope)))

    return twice(value, *_RULES)


def crossover_features(parameters: Parameters) -> tuple[Number, Number]:
    """Error at means m D^(1/4), ridge 0: Phi(-S), S^2 = (m/sigma)^4 tau/2 on XOR, tau = (k_2^2/k_1^2) T.

    On three clusters S^2 = (m/sigma)^4 (tau + tau/(2 (1 + tau)))/4.
    """
    ctx, spec = context(_DIGITS), parameters["mixture"]
    sigma, m = ctx.mpf(spec["sigma"]), ctx.mpf(spec["separation"])

    def value(rule: _Rule) -> Any:
        linear, quadratic, rest = _orders(ctx, parameters["activation"], sigma, rule)
        T, _ = _resolvent(ctx, parameters["gamma"], rest / linear, rule.angles)
        tau = quadratic / linear * T
        size = tau / 2 if spec["kind"] == "xor" else (tau + tau / (2 * (1 + tau))) / 4
        return ctx.ncdf(-ctx.sqrt((m / sigma) ** 4 * size))

    return twice(value, *_RULES)


def kernel_of_density(parameters: Parameters) -> tuple[Number, Number]:
    """Error on two clusters at +-1 of k(x, x') = exp(x.x'/D), from its Taylor orders and the density (El Karoui 2010).

    Linear ridge regression at lambda_e = lambda + k(s) - k(0) - s k'(0) with k'(0) = 1, s = sigma^2; n = alpha D.
    """
    ctx = context(_DIGITS)
    s = ctx.mpf(parameters["mixture"]["sigma"]) ** 2
    level = (ctx.mpf(parameters["ridge"]) + ctx.exp(s) - 1 - s) / s

    def value(rule: _Rule) -> Any:
        T, slope = _resolvent(ctx, parameters["alpha"], level, rule.angles)
        r = T / s  # alpha r of the appendix: T = alpha sigma^2 r
        q = r / (1 + r * (1 + s))
        variance = (T + level * slope) * (1 - 2 * q + q * q * (1 + s)) + q * q * s
        return ctx.ncdf(-q / ctx.sqrt(variance))

    return twice(value, *_RULES)


def large_ridge(parameters: Parameters) -> tuple[Number, Number]:
    """Two clusters, any kernel, ridge -> infinity (Liao and Couillet 2019): Phi(-(1/sigma)/sqrt(1 + sigma^2/alpha))."""
    ctx = context(_DIGITS)
    sigma, alpha = ctx.mpf(parameters["mixture"]["sigma"]), ctx.mpf(parameters["alpha"])
    # the ridge of the record is 10^6, and corrections are of order alpha k(s)/ridge squared
    return ctx.ncdf(-1 / sigma / ctx.sqrt(1 + sigma**2 / alpha)), 1e-9


def projected(parameters: Parameters) -> tuple[Number, Number]:
    """Linear features, gamma < 1, are a random subspace: Fisher's rule in it, Phi(-sqrt(gamma)/sigma)."""
    ctx = context(_DIGITS)
    value = ctx.ncdf(-ctx.sqrt(ctx.mpf(parameters["gamma"])) / ctx.mpf(parameters["mixture"]["sigma"]))
    return value, worse(value, value)


_EQUIVALENTS: dict[str, Callable[[Parameters, float], float]] = {
    "features": lambda p, D: float(
        random_features_error(mixture(p["mixture"]), p["activation"], p["gamma"], p["ridge"], D=D).classification_error
    ),
    "features rate": lambda p, D: (
        (1 / (2 * random_features_error(mixture(p["mixture"]), p["activation"], p["gamma"], p["ridge"], D=D).pmse) - 1)
        / D
    ),
    "kernel": lambda p, D: float(
        kernel_error(mixture(p["mixture"]), p["kernel"], p["alpha"], p["ridge"], D=D).classification_error
    ),
    "kernel quadratic": lambda p, D: float(
        kernel_error(
            mixture(p["mixture"]), p["kernel"], p["alpha"], p["ridge"], samples="quadratic", D=D
        ).classification_error
    ),
}


def extrapolated(parameters: Parameters) -> tuple[Number, Number]:
    """D -> infinity of the equivalent at finite D, a derivation of its own, by Richardson in D^-power.

    `equivalent`: what is followed; `dimensions`: a geometric row of D; `power`: the leading correction; each column
    takes out the next multiple of it.  The error is ten times the last correction, and 1e-10 for the rounding of
    quantities of order D, or `rounding` where more is lost.
    """
    check = parameters["check"]
    D, f = [float(d) for d in check["dimensions"]], _EQUIVALENTS[check["equivalent"]]
    row = [f(parameters, d) for d in D]
    last = row[-1]
    for order in range(1, len(row)):
        factor = (D[1] / D[0]) ** (check["power"] * order)
        row = [(factor * b - a) / (factor - 1) for a, b in itertools.pairwise(row)]
        last, before = row[-1], last
    return last, max(10 * abs(last - before), check.get("rounding", 1e-10))


def _mean(values: Any) -> tuple[float, float]:
    """Mean and four standard errors."""
    values = np.asarray(values, float)
    return float(values.mean()), 4 * float(values.std(ddof=1)) / math.sqrt(len(values))


def given_features(parameters: Parameters) -> tuple[Number, Number]:
    """Mean error of features drawn at random, exact given them; what is left of 1/D is within `bias`."""
    from quenched.sim.random_features import simulate_features

    check, D = parameters["check"], int(parameters["D"])
    P = round(parameters["gamma"] * D)
    runs = simulate_features(
        mixture(parameters["mixture"]), parameters["activation"], D, P, check["seeds"], parameters["ridge"],
        backend="numpy",
    )  # fmt: skip
    value, error = _mean(runs.classification_error)
    return value, error + check["bias"]


def given_kernels(parameters: Parameters) -> tuple[Number, Number]:
    """Mean error of kernel matrices of samples drawn at random; what is left of 1/D is within `bias`."""
    from quenched.sim.kernel_ridge import simulate_kernel

    check, D = parameters["check"], int(parameters["D"])
    n = round(parameters["alpha"] * D)
    options = {name: parameters[name] for name in ("intercept", "stratified") if name in parameters}
    runs = simulate_kernel(
        mixture(parameters["mixture"]), parameters["kernel"], D, n, check["seeds"], parameters["ridge"],
        backend="numpy", **options,
    )  # fmt: skip
    value, error = _mean(runs.classification_error)
    return value, error + check["bias"]


def trained_features(parameters: Parameters) -> tuple[Number, Number]:
    """Logistic regression on relu features of real samples, in D dimensions: mean test error over `seeds`.

    min sum_i log(1 + exp(-y_i (w.(z_i - E z)/sqrt(P) + b))) + (ridge/2)|w|^2, by L-BFGS; two clusters at +-1.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    check, sigma, ridge = parameters["check"], parameters["mixture"]["sigma"], parameters["ridge"]
    D = check["D"]
    n, P = round(parameters["alpha"] * D), round(parameters["gamma"] * D)
    found = []
    for seed in range(check["seeds"]):
        rng = np.random.default_rng([seed, D])
        F = rng.standard_normal((P, D))
        F *= math.sqrt(D) / np.linalg.norm(F, axis=1)[:, None]

        def sample(count: int, rng: Any = rng, F: Any = F) -> tuple[Any, Any]:
            y = rng.choice([-1.0, 1.0], count)
            x = sigma * rng.standard_normal((count, D))
            x[:, 0] += y
            return np.maximum(x @ F.T / math.sqrt(D), 0.0), y

        (z, y), (far, labels) = sample(n), sample(10_000)
        centre = far.mean(axis=0)
        z = (z - centre) / math.sqrt(P)

        def objective(w: Any, z: Any = z, y: Any = y) -> tuple[float, Any]:
            margin = y * (z @ w[:-1] + w[-1])
            pull = -y * expit(-margin)
            slope = np.append(z.T @ pull + ridge * w[:-1], pull.sum())
            return float(np.logaddexp(0, -margin).sum() + ridge / 2 * w[:-1] @ w[:-1]), slope

        w = minimize(objective, np.zeros(P + 1), jac=True, method="L-BFGS-B", options={"gtol": 1e-6, "maxiter": 1000}).x
        found.append(np.mean(labels * ((far - centre) @ w[:-1] / math.sqrt(P) + w[-1]) < 0))
    value, error = _mean(found)
    return value, error + check["bias"]
