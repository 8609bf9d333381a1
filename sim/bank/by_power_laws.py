"""Independent routes to power laws: exponentials of matrices, transforms inverted on the real axis, drawn features.

The solvers follow kappa through the complex plane and sum over a contour.  Here the risk of few inputs is the
exponential of a matrix; that of the equivalent of few features is inverted from real s (Stehfest 1970), where kappa is
real and found by bisection; and features are drawn, of which the equivalent is the mean up to 1/P.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from quenched.numerics.compiled.precision import context
from quenched.sim.bank.quadratures import Number, Parameters, worse

__all__ = ["drawn_features", "far_frontier", "few_inputs", "real_kappa", "real_transform"]

_DIGITS = 40  # sums of Stehfest's alternating weights lose half of them
_ORDERS = 28, 34  # terms of these sums, of a coarse and a finer one
_HALVINGS = 150  # 45 digits
_DEVIATIONS = 4  # of the mean over draws


def _law(ctx: Any, parameters: Parameters) -> tuple[list[Any], list[Any], Any]:
    """lambda_j, lambda_j beta_j^2 and the learning rate."""
    a, b, rate = (ctx.mpf(parameters[name]) for name in ("a", "b", "rate"))
    j = [ctx.mpf(i) for i in range(1, parameters["inputs"] + 1)]
    lam = [x ** (-2 * a) for x in j]
    return lam, [x ** (-2 * a - 2 * b) for x in j], 2 * parameters["batch"] * rate / sum(lam)


def few_inputs(parameters: Parameters) -> tuple[Number, Number]:
    """The risk after `steps` of a student of the inputs: dS/dn = -2 lr lambda S + (lr^2/B) lambda (lambda.S)."""
    ctx = context(_DIGITS)
    lam, power, lr = _law(ctx, parameters)
    D, batch = len(lam), parameters["batch"]
    A = ctx.matrix(D, D)
    for i in range(D):
        for j in range(D):
            A[i, j] = lr**2 / batch * lam[i] * lam[j] - (2 * lr * lam[i] if i == j else 0)
    S = ctx.expm(A * parameters["steps"]) * ctx.matrix([y / x for x, y in zip(lam, power, strict=True)])
    value = sum(x * s for x, s in zip(lam, S, strict=True))
    return value, worse(value, value)


def _kappa(ctx: Any, lam: list[Any], features: int, zeta: Any) -> Any:
    """kappa - (kappa/P) sum_j lambda_j/(lambda_j + kappa) = zeta >= 0, which rises with kappa where it is positive."""

    def excess(kappa: Any) -> Any:
        return kappa * (1 - sum(x / (x + kappa) for x in lam) / features) - zeta

    return _root(excess, ctx.zero, zeta + sum(lam) / features)  # degrees < trace/kappa


def _root(function: Callable[[Any], Any], low: Any, high: Any) -> Any:
    """Where a function that is negative at `low` and positive at `high` is 0, by bisection to all digits."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2


def real_kappa(parameters: Parameters) -> tuple[Number, Number]:
    """What features cannot represent: sum_j lambda_j beta_j^2 kappa/(lambda_j + kappa) at zeta = 0."""
    ctx = context(_DIGITS)
    lam, power, _ = _law(ctx, parameters)
    kappa = _kappa(ctx, lam, parameters["features"], ctx.zero)
    value = sum(y * kappa / (x + kappa) for x, y in zip(lam, power, strict=True))
    return value, ctx.mpf(10) ** -25


def _stehfest(ctx: Any, transform: Callable[[Any], Any], t: Any, order: int) -> Any:
    """The original at t of a Laplace transform, from real s = k log(2)/t."""
    half, total = order // 2, ctx.zero
    for k in range(1, order + 1):
        weight = sum(
            ctx.mpf(j) ** half * ctx.factorial(2 * j)
            / (ctx.factorial(half - j) * ctx.factorial(j) * ctx.factorial(j - 1))
            / (ctx.factorial(k - j) * ctx.factorial(2 * j - k))
            for j in range((k + 1) // 2, min(k, half) + 1)
        )  # fmt: skip
        total += (-1) ** (k + half) * weight * transform(k * ctx.ln2 / t)
    return total * ctx.ln2 / t


def real_transform(parameters: Parameters) -> tuple[Number, Number]:
    """The risk after `steps` of the equivalent of few features: F/(1 - K) of real s by the sums of two orders."""
    ctx = context(_DIGITS)
    lam, power, lr = _law(ctx, parameters)
    memory = lr / (2 * parameters["batch"])

    def transform(s: Any) -> Any:
        zeta = s / (2 * lr)
        kappa = _kappa(ctx, lam, parameters["features"], zeta)
        begun = sum(y * kappa / (x + kappa) for x, y in zip(lam, power, strict=True)) / s
        return begun / (1 - memory * sum(x - zeta * x / (x + kappa) for x in lam))

    coarse, fine = (_stehfest(ctx, transform, ctx.mpf(parameters["steps"]), order) for order in _ORDERS)
    return fine, abs(fine - coarse)


def drawn_features(parameters: Parameters) -> tuple[Number, Number]:
    """The mean risk after `steps` over features that are drawn, each by an eigendecomposition; `bias`: of order 1/P."""
    check, P, D = parameters["check"], parameters["features"], parameters["inputs"]
    j, batch, n = np.arange(1, D + 1.0), parameters["batch"], parameters["steps"]
    lam, y = j ** (-2 * parameters["a"]), j ** (-parameters["a"] - parameters["b"])
    lr = 2 * batch * parameters["rate"] / lam.sum()
    found = []
    for seed in range(check["draws"]):
        F = np.random.default_rng([seed, P]).standard_normal((P, D)) / math.sqrt(P)
        _, scales, directions = np.linalg.svd(F * np.sqrt(lam), full_matrices=False)
        k, along = scales**2, directions @ y
        rest = y @ y - along @ along
        # k S = r moves by -2 lr k r + (lr^2/B) k^2 (sum r + rest): symmetric in r/k
        A = np.diag(-2 * lr * k) + lr**2 / batch * np.outer(k, k)
        source = lr**2 / batch * k * rest
        rates, modes = np.linalg.eigh(A)
        start, driven = modes.T @ (along**2 / k), modes.T @ source
        at = start * np.exp(rates * n) + driven * np.expm1(rates * n) / rates
        found.append(float(k @ (modes @ at) + rest))
    error = np.std(found, ddof=1) / math.sqrt(len(found))
    return float(np.mean(found)), _DEVIATIONS * error + check["bias"]


def far_frontier(parameters: Parameters) -> tuple[Number, Number]:
    """The exponent of the least risk in compute, 1/4 < a < 0.293 and b > 1/2, D/P = 4, rate 1/4: from three budgets.

    At f = 10^(n/omega), n = 6, 7, 8, the local exponent along the best P of three terms, in logarithms: of the target,
    of the noise of SGD, and what random features and the end of the sum over j add; the limit is Aitken's, and its
    error the difference from that of n = 5, 6, 7.
    """
    ctx = context(_DIGITS)
    a, b = ctx.mpf(parameters["a"]), ctx.mpf(parameters["b"])
    omega = (4 * a - 1) * (b - ctx.mpf(1) / 2) / (2 * b - a - 2 * a * b)
    target, noise, source = (2 * a + 2 * b - 1) / (2 * a), (4 * a - 1) / (2 * a), ctx.zeta(2 * b)
    trace = ctx.mpf(4) ** (1 - 2 * a) / (1 - 2 * a)  # times P^(1 - 2a)
    lr = 1 / (2 * trace)
    early = source * (trace + lr / 2 * (trace**2 - ctx.mpf(4) ** (1 - 4 * a) / (4 * a - 1)))
    sizes = [ctx.gamma(target) / (2 * a), source * lr / 2 * ctx.gamma(noise) / (2 * a), early]
    of_x, of_P = [-target, -noise, ctx.zero], [ctx.zero, 2 * a - 1, -2 * a]

    def local(decades: Any) -> Any:
        log_f = decades * ctx.ln10

        def terms(log_P: Any) -> list[Any]:
            log_x = ctx.log(2 * lr) + log_f - (2 - 2 * a) * log_P
            return [size * ctx.exp(x * log_x + p * log_P) for size, x, p in zip(sizes, of_x, of_P, strict=True)]

        def slope(log_P: Any) -> Any:
            found = terms(log_P)
            powers = [p - (2 - 2 * a) * x for x, p in zip(of_x, of_P, strict=True)]
            return sum(p * term for p, term in zip(powers, found, strict=True)) / sum(found)

        found = terms(_root(slope, log_f / 2, log_f * 7 / 10))  # at larger P the target has most
        return sum(x * term for x, term in zip(of_x, found, strict=True)) / sum(found)

    values = [local(n / omega) for n in range(5, 9)]
    limits = [r - (r - q) ** 2 / (r - 2 * q + p) for p, q, r in zip(values, values[1:], values[2:], strict=False)]
    return limits[1], abs(limits[1] - limits[0])
